"""What the embedded PostHog stores and shows: names, literals, discovery."""

from __future__ import annotations

import json

import pytest

from posthog_driver.local import schema
from posthog_driver.local.hogql import translate
from posthog_driver.local.schema import Catalog, PropertyDefinition

CATALOG = Catalog(group_types=("account", "timestamp", "person", "session", "pdi"))


def test_the_statements_create_only_inside_their_own_database() -> None:
    statements = schema.ddl()
    assert statements[0] == "CREATE DATABASE IF NOT EXISTS posthog"
    assert all(statement.split("IF NOT EXISTS ")[1].startswith("posthog.") for statement in statements[1:])


@pytest.mark.parametrize("table", sorted(schema.TABLES))
def test_every_table_has_a_stored_one_behind_it(table: str) -> None:
    name = schema.TABLES[table].physical
    assert any(f"IF NOT EXISTS posthog.{name} " in statement for statement in schema.ddl())


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
    assert schema.hogql_name(name) == text


def test_a_property_path_has_texts_and_numbers_and_nothing_else() -> None:
    assert "JSONExtractRaw(x, 'a\\'', 2)" in schema.property_sql("x", ("a'", 2))
    with pytest.raises((ValueError, TypeError)):
        schema.property_sql("x", (["a"],))  # type: ignore[arg-type]


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


def test_group_types_are_links_of_events_unless_something_else_has_their_name() -> None:
    events = schema.find_table("events", CATALOG)
    assert events is not None
    assert events.links["account"] is events.links["group_0"]
    assert "timestamp" not in events.links
    plain = schema.TABLES["events"].links
    assert all(events.links[name] is plain[name] for name in ("person", "session", "pdi"))
    assert schema.find_table("events", Catalog()) is schema.TABLES["events"]
    assert schema.find_table("system.information_schema.nothing", CATALOG) is None
    assert schema.find_table("nothing", CATALOG) is None


def test_the_schema_answer_lists_every_table_with_names_that_can_be_pasted() -> None:
    answer = schema.database_schema(CATALOG)
    assert list(answer["tables"]) == list(schema.table_names())
    events = answer["tables"]["events"]
    assert events["type"] == "posthog"
    assert events["fields"]["timestamp"] == {
        "name": "timestamp",
        "hogql_value": "timestamp",
        "type": "datetime",
        "schema_valid": True,
    }
    assert events["fields"]["person"]["type"] == "virtual_table"
    assert events["fields"]["person"]["fields"] == ["id", "created_at", "properties"]
    assert events["fields"]["session"]["table"] == "sessions"
    assert events["fields"]["account"]["type"] == "lazy_table"
    assert answer["tables"]["system.information_schema.tables"]["type"] == "system"
    assert json.loads(json.dumps(answer)) == answer


def test_every_column_the_schema_answer_names_can_be_selected() -> None:
    for name, table in schema.database_schema(CATALOG)["tables"].items():
        columns = [
            f["hogql_value"] for f in table["fields"].values() if f["type"] not in ("virtual_table", "lazy_table")
        ]
        assert translate(f"select {', '.join(columns)} from {name}", CATALOG).sql


def test_the_schema_answer_has_only_the_keys_and_types_that_posthog_documents() -> None:
    kinds = {"integer", "string", "datetime", "boolean", "array", "json", "lazy_table", "virtual_table"}
    for table in schema.database_schema(CATALOG)["tables"].values():
        assert set(table) == {"id", "name", "type", "row_count", "fields"}
        for field in table["fields"].values():
            assert {"name", "hogql_value", "type", "schema_valid"} <= set(field)
            assert set(field) <= {"name", "hogql_value", "type", "schema_valid", "table", "fields"}
            assert field["type"] in kinds


@pytest.mark.parametrize("name", sorted(schema.INFORMATION_SCHEMA))
def test_every_row_of_the_information_schema_has_a_value_for_each_column(name: str) -> None:
    rows = schema.information_schema_rows(name, CATALOG)
    assert rows
    assert {len(row) for row in rows} == {len(schema.INFORMATION_SCHEMA[name].columns)}


def test_the_information_schema_shows_links_and_the_columns_of_a_nested_table() -> None:
    columns = schema.information_schema_rows("columns", CATALOG)
    assert ("public", "events", "person.properties", "JSON") in {(row[0], row[1], row[2], row[4]) for row in columns}
    relationships = schema.information_schema_rows("relationships", CATALOG)
    assert ("events", "account", "groups", "key", "lazy_join") in relationships
