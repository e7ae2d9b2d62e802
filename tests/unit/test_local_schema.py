"""What HogQL can name in the embedded PostHog, and how a client finds it out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from posthog_driver.local import channel_types, database, schema, storage, system_tables
from posthog_driver.local.hogql import translate
from posthog_driver.local.parser import HogQLError
from posthog_driver.local.schema import Catalog, Cohort, PropertyDefinition, Table, hogql_name

FLAG = {"id": 7, "key": "beta", "name": "", "filters": {"groups": []}, "rollout_percentage": None, "deleted": True}
CATALOG = Catalog(
    group_types=("account", "timestamp", "person", "session", "pdi"),
    cohorts=(Cohort(1, "grown up", "properties.age >= 18"), Cohort(2, "picked")),
    team_id=5,
    test_account_filters=({"key": "email", "value": "test"},),
    entities={
        "feature_flags": (FLAG,),
        "experiments": ({"id": 1, "name": "e", "feature_flag_key": "beta", "archived": False},),
        "dashboards": ({"id": 3, "name": "d", "tiles": [{"id": 4, "insight": {"id": 9}, "show_description": True}]},),
        "annotations": ({"id": 2, "content": "it's \\ a note", "created_by": {"id": 1}, "date_marker": "2026-01-02"},),
        "insights": (
            {"id": 9, "short_id": "a", "saved": True, "last_modified_at": "2026-01-02T01:00:00+02:00", "query": None},
        ),
        "notebooks": (
            {"id": "n1", "content": {"content": [{"type": "ph-markdown-notebook", "attrs": {"markdown": "# a"}}]}},
            {"id": "n2", "content": {"content": [{"type": "paragraph"}]}},
            {"id": "n3", "content": None, "created_at": "long ago", "version": "new"},
        ),
        "early_access_feature": ({"id": "f", "name": "f", "feature_flag": {"id": 7}},),
        "session_recordings": (
            {
                "id": "s1",
                "start_url": "https://a.test/",
                "active_seconds": 1.5,
                "click_count": 3,
                "end_time": "2026-01-02T03:04:05Z",
            },
        ),
    },
)
NAMES = sorted(database.TABLES)
PRINTED = [table.name for table in database.TABLES.values() if table.rows is not None]


def _table(name: str, catalog: Catalog = CATALOG) -> Table:
    table = database.find_table(name, catalog)
    assert table is not None
    return table


def _rows(name: str, catalog: Catalog = CATALOG) -> list[dict[str, Any]]:
    """The printed rows of a table, each by the names of its columns."""
    table = _table(name, catalog)
    assert table.rows is not None
    names = [column.name for column in table.columns.values() if not column.expression]
    return [dict(zip(names, row, strict=True)) for row in table.rows(catalog)]


# -------------------------------------------------------------------------------------------------- the vocabulary


@pytest.mark.parametrize(
    ("text", "printed"),
    [("it's", "'it\\'s'"), ("\\", "'\\\\'"), ("a\nb\0", "'a\\nb\\0'"), ("100%", "'100%'"), ("é\u2028", "'é\u2028'")],
)
def test_a_text_is_printed_as_a_literal(text: str, printed: str) -> None:
    assert schema.quote_literal(text) == printed


def test_a_name_is_always_quoted_and_a_percent_sign_is_refused() -> None:
    assert schema.quote_name("a`b\\'") == "`a\\`b\\\\'`"
    with pytest.raises(ValueError, match="not permitted"):
        schema.quote_name("a%b")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("event", "event"),
        ("$browser", "$browser"),
        ("a b", "`a b`"),
        ("a`b'", "`a``b'`"),
        ("1a", "`1a`"),
        ("é", "`é`"),
        ("", "``"),
        ("Except", "`Except`"),
    ],
)
def test_a_name_is_written_plain_in_hogql_where_that_parses(name: str, text: str) -> None:
    assert hogql_name(name) == text


def test_a_catalog_knows_the_types_of_properties_by_owner_and_group() -> None:
    catalog = Catalog(
        (
            PropertyDefinition("size", "event", "Numeric"),
            PropertyDefinition("size", "group", "Boolean", group_type_index=1),
            PropertyDefinition("name", "person", None),
        )
    )
    assert catalog.property_type("event", "size") == "Numeric"
    assert catalog.property_type("group", "size", 1) == "Boolean"
    assert catalog.property_type("group", "size", 0) is None
    assert catalog.property_type("person", "name") is None
    assert catalog == Catalog(catalog.property_definitions)


# ------------------------------------------------------------------------------------------------------ the tables


def test_group_types_are_links_of_events_unless_something_else_has_their_name() -> None:
    events = _table("events")
    assert events.links["account"].chain == ("group_0",)
    assert "timestamp" not in events.links
    plain = database.TABLES["events"].links
    assert all(events.links[name] is plain[name] for name in ("person", "session", "pdi"))
    assert "account" not in _table("events", Catalog()).links
    assert database.find_table("system.information_schema.nothing", CATALOG) is None
    assert database.find_table("nothing", CATALOG) is None


@pytest.mark.parametrize("name", ["persons", "cohort_people", "system.insights", "system.groups", "log_entries"])
def test_a_table_knows_its_project_but_does_not_show_it(name: str) -> None:
    assert "(5)" in translate(f"select team_id from {name}", CATALOG).sql
    assert "team_id" not in translate(f"select * from {name}", CATALOG).sql
    assert "team_id" not in database.database_schema(CATALOG)["tables"].get(name, {"fields": {}})["fields"]


@pytest.mark.parametrize("name", NAMES)
def test_a_table_is_stored_or_printed_or_a_query_and_nothing_of_it_is_missing(name: str) -> None:
    table = database.TABLES[name]
    assert [bool(table.physical), table.rows is not None, table.query is not None].count(True) == 1
    assert not table.missing & {*table.columns, *table.links}
    assert name not in database.MISSING
    assert table.description
    assert table.time_column in {"", *table.columns}
    assert all(column.description for column in table.columns.values() if column.name != "team_id")


@pytest.mark.parametrize("name", [table.name for table in database.TABLES.values() if table.physical])
def test_every_stored_table_has_a_table_or_view_of_the_engine_behind_it(name: str) -> None:
    physical = database.TABLES[name].physical
    assert any(f"posthog.{physical} " in statement.split("(")[0].split(" AS ")[0] + " " for statement in storage.ddl())


@pytest.mark.parametrize("name", NAMES)
def test_every_link_leads_to_a_column_that_is_there(name: str) -> None:
    table = _table(name)
    for link in table.links.values():
        if link.table is not None:
            assert link.source in table.columns
            assert link.target in _table(link.table).columns
        for step in link.chain[:1]:
            assert step in table.links


@pytest.mark.parametrize("name", NAMES)
def test_every_column_can_be_selected(name: str) -> None:
    columns = [hogql_name(column) for column in _table(name).columns]
    assert len(translate(f"select {', '.join(columns)} from {name}", CATALOG).columns) == len(columns)
    assert translate(f"select * from {name}", CATALOG).sql


def _paths(table: Table, depth: int = 2) -> Iterator[str]:
    """A column behind each link of a table, and behind the links of these."""
    for name, link in table.links.items():
        if link.table is not None:
            target = _table(link.table)
            yield f"{name}.{hogql_name(next(iter(target.columns)))}"
            if depth > 1:
                yield from (f"{name}.{path}" for path in _paths(target, depth - 1))
        else:
            yield from (f"{name}.{hogql_name(column.name)}" for column in link.columns)


@pytest.mark.parametrize("name", NAMES)
def test_every_link_can_be_followed_two_steps_far(name: str) -> None:
    for path in _paths(_table(name)):
        assert translate(f"select {path} from {name}", CATALOG).sql


@pytest.mark.parametrize("name", ["heatmaps", "logs", "posthog.ai_events", "system.batch_exports", "query_log"])
def test_a_table_that_only_posthog_has_is_refused_by_name(name: str) -> None:
    with pytest.raises(HogQLError, match=f"does not have the table {name.removeprefix('posthog.')}"):
        translate(f"select 1 from {name}", CATALOG)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("select issue_id from events", "events.issue_id"),
        ("select e.goe_0.properties.x from events e", "events.goe_0"),
        ("select $virt_revenue from persons", "persons.$virt_revenue"),
        ("select pdi.person.revenue_analytics.mrr from events", "persons.revenue_analytics"),
        ("select id from system.groups", "system.groups.id"),
    ],
)
def test_a_field_that_only_posthog_has_is_refused_by_name(query: str, field: str) -> None:
    with pytest.raises(HogQLError, match="does not have the field") as caught:
        translate(query, CATALOG)
    assert field in caught.value.message


def test_cohort_people_are_those_of_the_cohorts_with_filters() -> None:
    sql = translate("select person_id, cohort_id from cohort_people", CATALOG).sql
    assert sql.count("cohort_id") >= 1
    assert "cohort_people_newest" not in sql
    assert "cohort_people_newest" in translate("select person_id from static_cohort_people", CATALOG).sql
    assert translate("select person_id from raw_cohort_people where sign = 1", Catalog()).sql


# ------------------------------------------------------------------------------------------------ the system tables


@pytest.mark.parametrize("name", PRINTED)
def test_every_printed_row_has_a_value_of_the_right_type_for_each_column(name: str) -> None:
    kinds = {
        "string": str,
        "integer": int,
        "float": float,
        "boolean": bool,
        "datetime": str,
        "json": str,
        "array": list,
    }
    columns = _table(name).columns
    for row in _rows(name):
        for column, value in row.items():
            assert value is None or isinstance(value, kinds[columns[column].type]), (column, value)
            assert value is not None or columns[column].nullable, column


def test_a_system_table_prints_the_entities_of_its_kind() -> None:
    assert _rows("system.feature_flags") == [
        {
            "id": 7,
            "key": "beta",
            "name": "",
            "filters": '{"groups":[]}',
            "rollout_percentage": None,
            "created_at": None,
            "deleted": 1,
        }
    ]
    assert _rows("system.surveys") == []


@pytest.mark.parametrize(
    ("table", "column", "values"),
    [
        ("experiments", "feature_flag_id", [7]),
        ("experiments", "archived", [0]),
        ("dashboard_tiles", "dashboard_id", [3]),
        ("dashboard_tiles", "insight_id", [9]),
        ("dashboard_tiles", "show_description", [True]),
        ("annotations", "created_by_id", [1]),
        ("annotations", "date_marker", ["2026-01-02 00:00:00.000000"]),
        ("insights", "updated_at", ["2026-01-01 23:00:00.000000"]),
        ("insights", "saved", [1]),
        ("insights", "query", [None]),
        ("notebooks", "markdown", ["# a", None, None]),
        ("notebooks", "created_at", [None, None, None]),
        ("notebooks", "version", [None, None, None]),
        ("early_access_features", "feature_flag_id", [7]),
        ("group_type_mappings", "group_type", ["account", "timestamp", "person", "session", "pdi"]),
        ("session_recordings", "session_id", ["s1"]),
        ("teams", "id", [5]),
        ("teams", "timezone", ["UTC"]),
        ("teams", "test_account_filters", ['[{"key":"email","value":"test"}]']),
    ],
)
def test_a_system_table_finds_its_values_where_the_entities_keep_them(
    table: str, column: str, values: list[Any]
) -> None:
    assert [row[column] for row in _rows(f"system.{table}")] == values


def test_the_flag_of_an_experiment_may_be_given_as_an_object() -> None:
    experiments = ({"id": 1, "feature_flag": {"id": 8}}, {"id": 2, "feature_flag": None, "feature_flag_key": "gone"})
    catalog = Catalog(entities={"experiments": experiments})
    assert [row["feature_flag_id"] for row in _rows("system.experiments", catalog)] == [8, None]


def test_a_recording_is_a_row_of_both_replay_tables() -> None:
    (recording,) = _rows("session_replay_events")
    assert (recording["session_id"], recording["click_count"], recording["active_milliseconds"]) == ("s1", 3, 1500)
    assert recording["all_urls"] == ["https://a.test/"]
    assert (recording["start_time"], recording["end_time"]) == (None, "2026-01-02 03:04:05.000000")
    (part,) = _rows("raw_session_replay_events")
    assert part["_timestamp"] == part["max_last_timestamp"] == recording["end_time"]
    assert _rows("session_replay_events", Catalog()) == []


def test_what_a_recording_does_not_say_is_none_or_nothing() -> None:
    bare = Catalog(entities={"session_recordings": ({"id": "s2", "distinct_id": None, "active_seconds": None},)})
    (row,) = _rows("session_replay_events", bare)
    assert (row["distinct_id"], row["first_url"], row["all_urls"], row["active_milliseconds"]) == ("", None, [], 0)
    assert (row["click_count"], row["snapshot_source"], row["retention_period_days"]) == (0, "web", None)


def test_only_tables_of_entities_with_a_scope_need_one() -> None:
    scopes = {table.name: table.access_scope for table in system_tables.TABLES.values() if table.access_scope}
    assert scopes["system.insights"] == "insight"
    assert scopes["system.dashboard_tiles"] == "dashboard"
    assert "system.cohorts" not in scopes
    assert not any(table.access_scope for name, table in database.TABLES.items() if name not in scopes)


# ------------------------------------------------------------------------------------------------------- discovery


def test_the_schema_answer_lists_every_table_with_names_that_can_be_pasted() -> None:
    answer = database.database_schema(CATALOG)
    assert list(answer["tables"]) == [name for name, table in database.TABLES.items() if not table.hidden]
    events = answer["tables"]["events"]
    assert events["type"] == "posthog"
    assert events["fields"]["timestamp"] == {
        "name": "timestamp",
        "hogql_value": "timestamp",
        "type": "datetime",
        "schema_valid": True,
    }
    assert events["fields"]["poe"]["fields"][:3] == ["id", "created_at", "properties"]
    assert (events["fields"]["person"]["type"], events["fields"]["person"]["chain"]) == ("field_traverser", ["poe"])
    assert events["fields"]["account"]["chain"] == ["group_0"]
    assert events["fields"]["session"]["table"] == "sessions"
    assert "$channel_type" in events["fields"]["session"]["fields"]
    assert answer["tables"]["system.insights"]["type"] == "system"
    assert json.loads(json.dumps(answer)) == answer


def test_the_schema_answer_has_only_the_keys_and_types_that_posthog_documents() -> None:
    plain = {"integer", "float", "string", "datetime", "boolean", "array", "json"}
    links = {
        "lazy_table": {"table", "fields", "id"},
        "virtual_table": {"table", "fields"},
        "field_traverser": {"chain"},
    }
    for table in database.database_schema(CATALOG)["tables"].values():
        assert set(table) == {"id", "name", "type", "row_count", "fields"}
        for field in table["fields"].values():
            assert field["type"] in plain or field["type"] in links
            more = links.get(field["type"], set())
            assert set(field) == {"name", "hogql_value", "type", "schema_valid"} | more


def test_the_information_schema_and_the_schema_answer_say_the_same() -> None:
    answer = database.database_schema(CATALOG)["tables"]
    listed = _rows("system.information_schema.tables")
    assert [row["table_name"] for row in listed] == list(answer)
    assert {row["table_type"] for row in listed} == {"posthog", "system", "information_schema"}
    columns = _rows("system.information_schema.columns")
    for name, table in answer.items():
        fields = table["fields"].items()
        plain = {field for field, facts in fields if facts["type"] not in ("lazy_table", "field_traverser")}
        assert {row["column_name"].split(".")[0] for row in columns if row["table_name"] == name} == plain
        positions = [row["ordinal_position"] for row in columns if row["table_name"] == name]
        assert positions == list(range(1, len(positions) + 1))
    linked = {
        (row["source_table"], row["relationship_kind"]) for row in _rows("system.information_schema.relationships")
    }
    assert linked == {
        (name, {"lazy_table": "lazy_join"}.get(facts["type"], facts["type"]))
        for name, table in answer.items()
        for facts in table["fields"].values()
        if facts["type"] in ("lazy_table", "field_traverser")
    }


def test_the_information_schema_shows_the_columns_of_a_nested_table_and_what_is_computed() -> None:
    kinds = {
        row["column_name"]: (row["data_type"], row["field_kind"])
        for row in _rows("system.information_schema.columns")
        if row["table_name"] == "events"
    }
    assert kinds["event"] == ("String", "column")
    assert kinds["poe"] == ("VirtualTable", "virtual_table")
    assert kinds["poe.properties"] == ("JSON", "column")
    assert kinds["poe.$virt_initial_channel_type"] == ("String", "expression")
    assert kinds["person_id"] == ("UUID", "expression")


def test_every_data_type_of_a_column_is_explained() -> None:
    explained = {row["type_name"] for row in _rows("system.information_schema.data_types")}
    assert {row["data_type"] for row in _rows("system.information_schema.columns")} <= explained


# --------------------------------------------------------------------------------------------------- channel types


def test_no_name_of_a_source_stands_for_two_kinds() -> None:
    names = [name for listed in channel_types._SOURCES.values() for name in listed.split()]
    assert len(names) == len(set(names))
    assert all(name == name.lower() for name in names)


def test_the_dictionary_of_channels_is_made_in_the_database_it_is_asked_in() -> None:
    assert channel_types.ddl("posthog_2").startswith("CREATE DICTIONARY IF NOT EXISTS posthog_2.channel_definitions")
    assert "'posthog_2.channel_definitions'" in channel_types.lookup("posthog_2", "if_paid", "medium", "x")
