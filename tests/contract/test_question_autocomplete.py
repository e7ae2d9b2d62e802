"""HogQLAutocomplete and HogQLMetadata: what could be written at a place of a text, and what is wrong with one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthog_driver.local import LocalPostHog, functions
from posthog_driver.local.database import TABLES
from posthog_driver.local.questions import check, complete
from posthog_driver.local.questions.autocomplete import MAX_PROPERTIES
from posthog_driver.local.schema import Catalog, PropertyDefinition
from tests.oracle.asking import ask, refusal
from tests.oracle.events import fresh, world

CATALOG = Catalog(
    property_definitions=(
        PropertyDefinition("$browser", "event", "String", "The browser"),
        PropertyDefinition("with space", "event", None),
        PropertyDefinition("plan", "person", "String"),
        PropertyDefinition("size", "group", "Numeric", group_type_index=0),
        PropertyDefinition("crew", "group", "Numeric", group_type_index=1),
    ),
    event_names=("$pageview", "it's done"),
    group_types=("company", "ship"),
    entities={"insight_variables": ({"code_name": "plan", "default_value": None},)},
)
WORDS = ("Function", "Keyword")


def suggestions(text: str, catalog: Catalog = CATALOG, language: str = "hogQL", **more: Any) -> list[dict[str, Any]]:
    """What is suggested where the bar stands."""
    place = text.index("|")
    node = {"kind": "HogQLAutocomplete", "language": language, "query": text.replace("|", "", 1), **more}
    answer = complete({**node, "startPosition": place, "endPosition": place}, catalog)
    found: list[dict[str, Any]] = answer["suggestions"]
    return found


def labels(text: str, **more: Any) -> list[str]:
    """The names that are suggested, without functions and keywords."""
    return [one["label"] for one in suggestions(text, **more) if one["kind"] not in WORDS]


EVENT_COLUMNS = [column.name for column in TABLES["events"].columns.values() if not column.hidden]


@pytest.mark.parametrize(
    "text",
    [
        "SELECT | FROM events",
        "SELECT ev| FROM events",
        "SELECT count(|) FROM events",
        "SELECT event, toDate(| FROM events",
        "SELECT extract(day FROM timestamp), | FROM events",
        "SELECT event FROM events WHERE |",
        "SELECT event FROM events WHERE event = 'a' AND |",
        "SELECT event FROM events GROUP BY |",
        "SELECT 1 UNION ALL SELECT | FROM events",
        "SELECT id FROM persons WHERE id IN (SELECT | FROM events)",
        "/* FROM persons */ SELECT | FROM events -- FROM persons",
    ],
)
def test_columns_of_the_table_are_suggested_wherever_a_value_can_stand(text: str) -> None:
    found = labels(text)

    assert set(EVENT_COLUMNS) | {"person", "session", "company"} <= set(found)
    assert "is_identified" not in found
    assert {one["kind"] for one in suggestions(text)} >= {"Variable", "Function", "Keyword"}


def test_every_function_comes_with_brackets_and_keywords_without() -> None:
    found = {one["label"]: one for one in suggestions("SELECT | FROM events") if one["kind"] in WORDS}

    assert found["countIf"]["insertText"] == "countIf()"
    assert found["GROUP"]["insertText"] == "GROUP"
    assert {name for name in functions.FUNCTIONS if not name.startswith("_")} <= set(found)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SELECT person.| FROM events", ["id", "created_at", "properties"]),
        ("SELECT poe.| FROM events", ["id", "created_at", "properties"]),
        ("SELECT e.person.| FROM events e", ["id", "created_at", "properties"]),
        ("SELECT properties.| FROM events", ["$browser", "with space"]),
        ("SELECT properties.$br| FROM events", ["$browser"]),
        ("SELECT properties.`with| FROM events", ["with space"]),
        ("SELECT e.properties.| FROM events AS e WHERE 1", ["$browser", "with space"]),
        ("SELECT events.properties.| FROM events", ["$browser", "with space"]),
        ("SELECT person.properties.| FROM events", ["plan"]),
        ("SELECT pdi.person.properties.| FROM events", ["plan"]),
        ("SELECT properties.| FROM persons", ["plan"]),
        ("SELECT group_0.properties.| FROM events", ["size"]),
        ("SELECT group_1.properties.| FROM events", ["crew"]),
        ("SELECT timestamp.| FROM events", []),
        ("SELECT nothing.| FROM events", []),
        ("SELECT nothing.at.all.| FROM events", []),
        ("SELECT properties.a.b.| FROM events", []),
        ("SELECT x.| FROM nothing x", []),
    ],
)
def test_what_stands_behind_a_dot_is_suggested(text: str, expected: list[str]) -> None:
    assert labels(text) == expected


def test_a_name_that_needs_quotes_is_inserted_with_them() -> None:
    found = {one["label"]: one for one in suggestions("SELECT properties.| FROM events")}

    assert found["with space"]["insertText"] == "`with space`"
    assert (found["$browser"]["detail"], found["$browser"]["documentation"]) == ("String", "The browser")


@pytest.mark.parametrize(
    "text", ["SELECT 1 FROM |", "SELECT 1 FROM ev|", "SELECT 1 FROM events JOIN |", "SELECT 1 FROM events e, |"]
)
def test_tables_are_suggested_where_one_is_named(text: str) -> None:
    found = suggestions(text)

    assert {one["label"] for one in found} == {name for name, table in TABLES.items() if not table.hidden}
    assert {(one["kind"], one["detail"]) for one in found} == {("Folder", "Table")}


def test_tables_behind_a_prefix_are_suggested_without_it_and_denied_ones_never() -> None:
    found = set(labels("SELECT 1 FROM system.|"))
    denied = set(labels("SELECT 1 FROM system.|", catalog=Catalog(denied=frozenset({"insight"}))))

    assert "insights" in found
    assert found - denied == {"insights"} | {n for n in found if TABLES[f"system.{n}"].access_scope == "insight"}
    assert "events" not in found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("WITH big AS (SELECT event, count() AS n FROM events GROUP BY 1) SELECT | FROM big", ["big", "event", "n"]),
        ("WITH big AS (SELECT event AS e FROM events), x AS (SELECT | FROM big) SELECT 1", ["big", "e"]),
        ("SELECT b.| FROM (SELECT 1 AS one, two.three, f(x) FROM t) AS b", ["one", "three"]),
        ("SELECT b.| FROM (SELECT *, 1 AS one FROM groups) b", ["index", "key", "created_at", "updated_at",
                                                                "properties", "one"]),
        ("SELECT b.| FROM (SELECT DISTINCT key FROM groups UNION ALL SELECT 1 AS x) `b`", ["key"]),
        ("SELECT | FROM (SELECT 1 AS x) a LEFT JOIN (SELECT 2 AS y) b ON a.x = b.y", ["a", "b", "x", "y"]),
        ("SELECT event AS first, | FROM (SELECT event FROM events)", ["first", "event"]),
    ],
)  # fmt: skip
def test_names_of_sub_queries_and_of_the_select_itself_are_suggested(text: str, expected: list[str]) -> None:
    assert labels(text) == expected


def test_columns_of_a_table_with_dots_in_its_name_are_suggested() -> None:
    found = labels("SELECT | FROM system.insights")

    assert set(TABLES["system.insights"].columns) - {"team_id"} <= set(found) | {
        column.name for column in TABLES["system.insights"].columns.values() if column.hidden
    }
    assert "system.insights" in found


def test_a_query_named_before_is_suggested_as_a_table() -> None:
    found = labels("WITH big AS (SELECT 1 AS x) SELECT * FROM |")

    assert found[0] == "big"
    assert "events" in found


@pytest.mark.parametrize(
    "text",
    [
        "SELECT 1 FROM events WHERE event = '|",
        "SELECT 1 FROM events WHERE event = '$page|' AND 1",
        "SELECT 1 FROM events WHERE event != '|'",
        "SELECT 1 FROM events WHERE event IN ('$pageview', '|')",
        "SELECT 1 FROM events WHERE event NOT IN ['|",
        "SELECT 1 FROM events e WHERE e.event LIKE '|",
    ],
)
def test_events_are_suggested_in_a_text_that_is_compared_with_the_event(text: str) -> None:
    found = suggestions(text)

    assert [(one["label"], one["insertText"]) for one in found] == [
        ("$pageview", "$pageview"),
        ("it's done", "it\\'s done"),
    ]


@pytest.mark.parametrize(
    "text", ["SELECT 'a|", "SELECT 1 FROM events WHERE distinct_id = '|'", "SELECT 1 -- |", "SELECT 1 /* | */", "'|'"]
)
def test_nothing_is_suggested_in_other_texts_and_comments(text: str) -> None:
    assert suggestions(text) == []


def test_the_callers_own_values_are_suggested_in_placeholders() -> None:
    values = {"team": {"name": "a name that is longer than that", "on": True}, "list": [1]}

    def found(text: str) -> list[tuple[str, str]]:
        return [(one["label"], one["detail"]) for one in suggestions(text, globals=values) if one["kind"] not in WORDS]

    assert found("SELECT {|} FROM events") == [("team", "Object"), ("list", "Array")]
    assert found("SELECT {team.| FROM events") == [("name", '"a name that is long...'), ("on", "true")]
    assert found("SELECT {team.name.|} FROM events") == []
    assert ("team", "Object") in found("SELECT | FROM events")
    assert [name for name, _ in found("SELECT team.| FROM events")] == ["name", "on"]


def test_an_expression_is_about_events_or_about_the_table_of_its_query() -> None:
    assert "elements_chain" in labels("|", language="hogQLExpr")
    assert "is_identified" in labels("|", language="hogQLExpr", sourceQuery={"kind": "ActorsQuery"})
    assert labels("properties.|", language="hogQLExpr") == ["$browser", "with space"]


def test_without_a_table_there_are_functions_and_keywords_alone() -> None:
    assert labels("|") == labels("SELECT |") == []
    assert suggestions("SELECT |") != []


def test_more_properties_than_fit_make_an_incomplete_list() -> None:
    definitions = tuple(PropertyDefinition(f"p{i}", "event", None) for i in range(MAX_PROPERTIES + 1))
    node = {"language": "hogQL", "query": "SELECT properties. FROM events", "startPosition": 18, "endPosition": 18}

    many = complete(node, Catalog(property_definitions=definitions))
    few = complete(node, Catalog(property_definitions=definitions[1:]))

    assert (len(many["suggestions"]), many["incomplete_list"]) == (MAX_PROPERTIES, True)
    assert (len(few["suggestions"]), few["incomplete_list"]) == (MAX_PROPERTIES, False)


PIECES = (
    "SELECT FROM WHERE events persons e . , ( ) [ ] ' \" ` { } -- /* */ \n AS WITH JOIN event = IN properties é 😀 1 *"
)


@given(st.lists(st.sampled_from([*PIECES.split(), " "]), max_size=30), st.data())
def test_any_text_whole_or_not_is_completed_at_any_place(pieces: list[str], data: st.DataObject) -> None:
    text = " ".join(pieces)
    place = data.draw(st.integers(0, len(text)))

    found = suggestions(text[:place] + "|" + text[place:])

    assert all(set(one) == {"label", "insertText", "kind", "detail", "documentation"} for one in found)
    assert len({(one["label"], one["kind"]) for one in found}) == len(found)


def test_a_deeply_nested_or_endless_text_is_completed_or_refused() -> None:
    deep = "(SELECT * FROM " * 2000
    assert "events" in labels(f"SELECT 1 FROM {deep}|")
    assert labels(f"SELECT | FROM {deep}events") == []


# ----------------------------------------------------------------------------------------------------------- metadata


def checked(text: str, language: str = "hogQL", **more: Any) -> dict[str, Any]:
    return check({"kind": "HogQLMetadata", "language": language, "query": text, **more}, CATALOG)


@pytest.mark.parametrize(
    ("text", "language", "marked"),
    [
        ("SELECT nothing FROM events", "hogQL", "nothing"),
        ("SELECT 1 FROM nowhere", "hogQL", "nowhere"),
        ("nothing", "hogQLExpr", "nothing"),
        ("1 + lower(nothing)", "hogQLExpr", "nothing"),
        ("event FROM events", "hogQLExpr", "FROM"),
    ],
)
def test_an_error_is_found_at_its_place(text: str, language: str, marked: str) -> None:
    found = checked(text, language)

    (error,) = found["errors"]
    assert (found["isValid"], found["query"]) == (False, text)
    assert text[error["start"] : error["start"] + len(marked)] == marked
    assert error["end"] >= error["start"] + len(marked)


def test_a_valid_text_has_no_errors_and_names_its_tables() -> None:
    found = checked("SELECT event FROM events JOIN persons p ON p.id = person_id WHERE timestamp > now()")
    expression = checked("count() + 1", "hogQLExpr")

    assert (found["isValid"], found["errors"], found["notices"]) == (True, [], [])
    assert (found["table_names"], found["ch_table_names"]) == (["events", "persons"], ["events", "persons_newest"])
    assert (expression["isValid"], expression["table_names"]) == (True, ["events"])


@pytest.mark.parametrize(
    ("text", "language", "marked", "fix"),
    [
        ("SELECT 1 FROM events WHERE event = '$pagevew'", "hogQL", "'$pagevew'", "'$pageview'"),
        ("SELECT properties.$browsr FROM events", "hogQL", "properties.$browsr", "properties.$browser"),
        (
            "SELECT e.person.properties.pln FROM events e",
            "hogQL",
            "e.person.properties.pln",
            "e.person.properties.plan",
        ),
        ("SELECT properties.zzzzz FROM events", "hogQL", "properties.zzzzz", None),
        ("event = '$pagevew'", "hogQLExpr", "'$pagevew'", "'$pageview'"),
        ("properties.$browsr", "hogQLExpr", "properties.$browsr", "properties.$browser"),
    ],
)
def test_an_unknown_name_is_a_warning_with_the_nearest_known_one(
    text: str, language: str, marked: str, fix: str | None
) -> None:
    found = checked(text, language)

    (warning,) = found["warnings"]
    assert found["isValid"]
    assert text[warning["start"] : warning["end"]] == marked
    assert warning["fix"] == fix


@pytest.mark.parametrize(
    "text",
    [
        "SELECT properties.$browser, person.properties.plan FROM events WHERE event = '$pageview'",
        "SELECT properties.`$feature/x` FROM events",
        "SELECT properties FROM events",
        "SELECT e.properties.anything FROM events e JOIN persons p ON true",
        "SELECT $session_id FROM events",
    ],
)
def test_known_dynamic_and_doubtful_names_are_no_warnings(text: str) -> None:
    assert checked(text)["warnings"] == []


def test_placeholders_are_filled_from_globals_filters_and_variables() -> None:
    variables = {"1": {"variableId": "1", "code_name": "plan", "value": "free"}}
    more = {"globals": {"x": 1}, "filters": {"dateRange": {"date_from": "-7d"}}, "variables": variables}
    text = "SELECT {x}, {variables.plan} FROM events WHERE {filters}"

    assert checked(text, **more)["isValid"]
    assert "Unresolved placeholder: {x}" in checked(text)["errors"][0]["message"]


@pytest.mark.parametrize(
    ("text", "use"),
    [
        ("SELECT 1 FROM events WHERE timestamp > now() - INTERVAL 1 DAY", "yes"),
        ("SELECT 1 FROM events e WHERE e.timestamp > now()", "yes"),
        ("SELECT 1 FROM events", "no"),
        ("SELECT 1 FROM events WHERE event IN (SELECT event FROM events WHERE timestamp > now())", "yes"),
        ("SELECT 1 FROM events WHERE event = 'a' UNION ALL SELECT 1 FROM events WHERE timestamp > now()", "partial"),
        ("SELECT 1 FROM persons", "undecisive"),
        ("SELECT 1 FROM", "undecisive"),
    ],
)
def test_a_text_that_says_when_uses_the_order_of_the_events(text: str, use: str) -> None:
    assert checked(text)["isUsingIndices"] == use


# ------------------------------------------------------------------------------------------------------- over HTTP


@pytest.fixture(scope="module")
def local() -> Iterator[LocalPostHog]:
    with fresh(world(1, people=3, events=30)) as local:
        yield local


def test_names_that_were_captured_are_suggested_and_known(local: LocalPostHog) -> None:
    text = "SELECT properties. FROM events WHERE event = ''"
    node = {"kind": "HogQLAutocomplete", "language": "hogQL", "query": text}

    properties = ask(local, {**node, "startPosition": 18, "endPosition": 18})["suggestions"]
    events = ask(local, {**node, "startPosition": len(text) - 1, "endPosition": len(text) - 1})["suggestions"]
    found = ask(local, {"kind": "HogQLMetadata", "language": "hogQL", "query": "SELECT 1 FROM events WHERE event='by'"})

    assert {"plan", "price", "gift"} <= {one["label"] for one in properties}
    assert {"buy", "cart", "$pageview"} <= {one["label"] for one in events}
    assert found["warnings"][0]["fix"] == "'buy'"


@pytest.mark.parametrize(
    ("node", "words"),
    [
        ({"query": "SELECT 1", "startPosition": 5, "endPosition": 2}, "must lie in the query, got 5 and 2."),
        ({"query": "SELECT 1", "startPosition": 9, "endPosition": 9}, "must lie in the query"),
        ({"query": "x" * 65_537, "startPosition": 0, "endPosition": 0}, "Query is too long: 65537 characters"),
        ({"query": "x", "startPosition": 0, "endPosition": 0, "language": "hog"}, "for language hog"),
    ],
)
def test_a_place_outside_the_text_and_what_is_no_hogql_are_refused(
    local: LocalPostHog, node: dict[str, Any], words: str
) -> None:
    assert words in refusal(local, {"kind": "HogQLAutocomplete", "language": "hogQL", **node})


def test_an_expression_of_another_query_is_refused_by_its_kind(local: LocalPostHog) -> None:
    source = {"kind": "HogQLQuery", "query": "SELECT 1"}
    node = {"kind": "HogQLMetadata", "language": "hogQLExpr", "query": "1", "sourceQuery": source}

    assert "a sourceQuery of kind HogQLQuery" in refusal(local, node)
