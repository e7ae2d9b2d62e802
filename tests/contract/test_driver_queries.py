"""Driver and embedded PostHog together: queries, their values, and what is said about their answers."""

from __future__ import annotations

import datetime as dt
import decimal
import json
import logging
import math
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from posthog_driver import PostHogClient, QueryBuilder, QueryError, ValidationError
from posthog_driver.local import LocalPostHog

Row = dict[str, Any]
UTC = dt.timezone.utc


@pytest.fixture(scope="module")
def client(local_posthog: LocalPostHog) -> Iterator[PostHogClient]:
    with local_posthog.client() as client:
        yield client


@pytest.fixture(scope="module")
def events(client: PostHogClient) -> list[Row]:
    """All events, with `p` for the properties and `t` for the moment."""
    rows = client.query("SELECT uuid, event, properties, timestamp, distinct_id, person_id FROM events LIMIT 50000")
    for row in rows:
        row["p"] = json.loads(row["properties"])
        row["t"] = moment(row["timestamp"])
    return rows


def moment(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text.replace("Z", "+00:00"))


# Values -------------------------------------------------------------------------------------------------------------

VALUES: list[Any] = [
    None, True, False, 0, -1, 2**53 + 1, 2**63 - 1, -(2**63), 2**64 - 1, 0.1, -1.5, 1e300, 5e-324, 2.0,
    3.871263253914861e16, "", "null", "'", "\\", "\\'", "o'\\ {x} -- %", "\\0 \\n", "a\0b",
    "line\nbreak\ttab\r\b\f\v\a\x7f", '"`"', "日本 🎉 \u202e", [1, 2], ["a", "b'\\"], [], [None, 1], [[1], [2, 3]],
    [0.5, 1.0],
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_value_comes_back_as_it_went(client: PostHogClient, value: Any) -> None:
    (row,) = client.query("SELECT {v} AS v", {"v": value})

    assert row == {"v": value}
    assert type(row["v"]) is type(value)


@settings(max_examples=60, phases=[Phase.generate])
@given(
    text=st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
    number=st.integers(-(2**63), 2**64 - 1),
    real=st.floats(allow_nan=False, allow_infinity=False),
)
def test_no_text_and_no_number_is_changed_or_read_as_sql(
    client: PostHogClient, text: str, number: int, real: float
) -> None:
    (row,) = client.query("SELECT {a} AS a, {b} AS b, {c} AS c, {a} = {d} AS same",
                          {"a": text, "b": number, "c": real, "d": text})  # fmt: skip

    assert row == {"a": text, "b": number, "c": real, "same": 1}


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        ((1, 2), [1, 2]),
        ({3, 1}, [1, 3]),
        (dt.date(2024, 1, 2), "2024-01-02"),
        (dt.datetime(2024, 1, 2, 3, 4, 5, 6, UTC), "2024-01-02T03:04:05.000006+00:00"),
        (uuid.UUID(int=5), "00000000-0000-0000-0000-000000000005"),
        (decimal.Decimal("1.25"), 1.25),
    ],
)
def test_what_json_does_not_know_goes_as_its_nearest_relative(client: PostHogClient, value: Any, sent: Any) -> None:
    assert client.query("SELECT {v} AS v", {"v": value}) == [{"v": sent}]


@pytest.mark.parametrize("value", [math.nan, math.inf, object(), decimal.Decimal("0.1000000000000000000001"), 2**64,
                                   -(2**63) - 1, "\ud800"], ids=repr)  # fmt: skip
def test_a_value_that_would_not_arrive_as_it_is_is_not_sent(client: PostHogClient, value: Any) -> None:
    with pytest.raises(ValidationError):
        client.query("SELECT {v} AS v", {"v": value})


def test_moments_are_compared_as_moments(client: PostHogClient, events: list[Row]) -> None:
    middle = sorted(row["t"] for row in events)[2_500]
    hogql = "SELECT count() AS n FROM events WHERE timestamp >= toDateTime({since})"
    elsewhere = middle.astimezone(dt.timezone(dt.timedelta(hours=-7)))

    expected = [{"n": sum(row["t"] >= middle for row in events)}]
    assert client.query(hogql, {"since": middle}) == expected
    assert client.query(hogql, {"since": elsewhere}) == expected
    day = middle.date()
    assert client.query(hogql, {"since": day}) == [{"n": sum(row["t"].date() >= day for row in events)}]


# Placeholders and filters -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hogql", "values", "row"),
    [
        ("SELECT { a } AS x, {b} AS y", {"a": 1, "b": "{a}"}, {"x": 1, "y": "{a}"}),
        ("SELECT '{no}' AS x, {a} AS y -- {no}\n/* {no} */", {"a": 1}, {"x": "{no}", "y": 1}),
        ("SELECT f'<{{a}}|{1 + 1}>' AS x", {"a": "o'"}, {"x": "<o'|2>"}),
        ("SELECT {a} AS x, {a} AS y", {"a": 1}, {"x": 1, "y": 1}),
        ("SELECT number AS x FROM numbers(9) WHERE number IN {a} LIMIT {n}", {"a": [7, 99], "n": 5}, {"x": 7}),
        ("SELECT count() AS x FROM events WHERE event IN {a}", {"a": []}, {"x": 0}),
    ],
)
def test_placeholders_are_filled_where_they_are_placeholders(
    client: PostHogClient, hogql: str, values: Row, row: Row
) -> None:
    assert client.query(hogql, values) == [row]


@pytest.mark.parametrize(
    ("hogql", "values", "words"),
    [
        ("SELECT {a}, {b}", {"a": 1}, r"no value for \{b\}"),
        ("SELECT 1", {"a": 1}, "no placeholder in the query for the value 'a'"),
        ("SELECT '{a}'", {"a": 1}, "no placeholder"),
        ("SELECT {A}", {"a": 1}, "no value"),
    ],
)
def test_placeholders_and_values_that_do_not_match_are_not_sent(
    client: PostHogClient, hogql: str, values: Row, words: str
) -> None:
    with pytest.raises(ValidationError, match=words):
        client.query(hogql, values)


def test_filters_act_where_the_text_has_them(client: PostHogClient, events: list[Row]) -> None:
    hogql = "SELECT count() AS n FROM events WHERE {filters} AND event = {name}"
    values = {"name": "$pageview"}
    chrome = [{"key": "$browser", "value": ["Chrome"], "operator": "exact", "type": "event"}]
    days = sorted(row["t"].date() for row in events)
    start, end = days[1_000], days[4_000]
    dates = {"date_from": start.isoformat(), "date_to": end.isoformat()}
    views = [row for row in events if row["event"] == "$pageview"]

    assert client.query(hogql, values) == [{"n": len(views)}]
    expected = sum(row["p"].get("$browser") == "Chrome" and start <= row["t"].date() <= end for row in views)
    found = client.query(hogql, values, filters={"properties": chrome, "dateRange": dates})
    assert found == [{"n": expected}]
    since = "SELECT count() AS n FROM events WHERE timestamp >= {filters.dateRange.from}"
    assert client.query(since, filters={"dateRange": dates}) == [{"n": sum(row["t"].date() >= start for row in events)}]


def test_variables_are_filled_by_their_code_name(client: PostHogClient) -> None:
    path = f"/api/projects/{client.project_id}/insight_variables/"
    made = client.request(path, method="POST", json={"name": "Limit", "type": "String", "default_value": "few"})
    asked = {"variableId": made["id"], "code_name": made["code_name"]}

    def answer(**more: Any) -> Any:
        return client.query("SELECT {variables.limit} AS x", variables={made["id"]: {**asked, **more}})[0]["x"]

    assert answer(value="it's") == "it's"
    assert answer() == "few"
    assert answer(value="it's", isNull=True) is None
    with pytest.raises(QueryError, match="Variable limit is missing from query"):
        client.query("SELECT {variables.limit} AS x")
    unknown = {"one": {"variableId": "one", "code_name": "unknown", "value": 1}}
    with pytest.raises(QueryError, match="Variable unknown does not exist"):
        client.query("SELECT {variables.unknown} AS x", variables=unknown)


# The builder, against Python ----------------------------------------------------------------------------------------

Test = Callable[[Any], bool]
SOME_TEXT = ["newsletter", "spring-launch"]


def having(key: str, test: Test) -> Test:
    """A condition on a property that does not hold where it is missing."""
    return lambda row: row["p"].get(key) is not None and test(row["p"][key])


def source(row: Row) -> Any:
    return row["p"].get("utm_source")


CONDITIONS: list[tuple[str, str, Any, Test]] = [
    ("event", "=", "signed_up", lambda row: row["event"] == "signed_up"),
    ("event", "!=", "$pageview", lambda row: row["event"] != "$pageview"),
    ("properties.utm_source", "!=", "newsletter", lambda row: source(row) != "newsletter"),
    ("properties.utm_source", "IS NULL", ..., lambda row: source(row) is None),
    ("properties.utm_source", "IS NOT NULL", ..., lambda row: source(row) is not None),
    ("properties.utm_source", "=", None, lambda row: source(row) is None),
    ("properties.size_mb", ">", 5, having("size_mb", lambda size: size > 5)),
    ("properties.size_mb", "<=", 5.5, having("size_mb", lambda size: size <= 5.5)),
    ("properties.size_mb", "BETWEEN", (2, 8), having("size_mb", lambda size: 2 <= size <= 8)),
    ("properties.amount_usd", ">=", decimal.Decimal("10"), having("amount_usd", lambda paid: paid >= 10)),
    ("event", "LIKE", r"file\_%", lambda row: row["event"].startswith("file_")),
    ("event", "NOT LIKE", "$%", lambda row: not row["event"].startswith("$")),
    ("event", "ILIKE", "FILE%", lambda row: row["event"].startswith("file")),
    ("properties.utm_source", "NOT ILIKE", "NEWS%", lambda row: not (source(row) or "").startswith("news")),
    ("event", "IN", ["signed_up", "logged_in"], lambda row: row["event"] in ("signed_up", "logged_in")),
    ("properties.utm_source", "IN", ["newsletter", None], lambda row: source(row) in ("newsletter", None)),
    ("properties.utm_source", "NOT IN", SOME_TEXT, lambda row: source(row) not in SOME_TEXT),
    ("properties.$browser", "IN", {"Chrome", "Safari"}, having("$browser", lambda name: name in ("Chrome", "Safari"))),
    ("properties.seats", "IN", [1, 2], having("seats", lambda seats: seats in (1, 2))),
    ("event", "IN", [], lambda row: False),
    ("properties.encrypted", "=", True, having("encrypted", lambda value: value is True)),
    ("properties['$feature/file-previews']", "=", False, having("$feature/file-previews", lambda on: on is False)),
    ("length(event)", ">", 10, lambda row: len(row["event"]) > 10),
    ("lower(properties.$browser)", "=", "chrome", having("$browser", lambda name: name == "Chrome")),
    ("event", "=", "o'\\ -- {x}", lambda row: False),
]  # fmt: skip


def both_ways(client: PostHogClient, builder: QueryBuilder) -> list[Row]:
    """The rows of the query with literals, which are those of the query with values."""
    rows = client.query(builder.build())
    bound = client.query(*builder.build_bound())
    assert bound == rows
    assert (bound.columns, bound.types) == (rows.columns, rows.types)
    return rows


def found_by(client: PostHogClient, field: str, operator: str, value: Any) -> set[str]:
    """The events that a condition finds."""
    builder = QueryBuilder().select("uuid").from_("events").where(field, operator, value)
    return {row["uuid"] for row in both_ways(client, builder.order_by("uuid").limit(50_000))}


@pytest.mark.parametrize(("field", "operator", "value", "test"), CONDITIONS,
                         ids=[f"{field} {operator} {value!r}" for field, operator, value, _ in CONDITIONS])  # fmt: skip
def test_a_condition_finds_the_rows_that_python_finds(
    client: PostHogClient, events: list[Row], field: str, operator: str, value: Any, test: Test
) -> None:
    assert found_by(client, field, operator, value) == {row["uuid"] for row in events if test(row)}


def test_conditions_on_time_and_identity_find_the_rows_that_python_finds(
    client: PostHogClient, events: list[Row]
) -> None:
    some = sorted(events, key=lambda row: row["t"])[2_500]
    middle, later = some["t"], some["t"] + dt.timedelta(days=3)
    conditions: list[tuple[str, str, Any, Test]] = [
        ("timestamp", ">=", middle, lambda row: row["t"] >= middle),
        ("timestamp", "=", middle, lambda row: row["t"] == middle),
        ("timestamp", "BETWEEN", (middle, later), lambda row: middle <= row["t"] <= later),
        ("timestamp", "<", middle.date(), lambda row: row["t"].date() < middle.date()),
        ("toDate(timestamp)", "=", middle.date(), lambda row: row["t"].date() == middle.date()),
        ("uuid", "=", uuid.UUID(some["uuid"]), lambda row: row["uuid"] == some["uuid"]),
        ("uuid", "IN", [some["uuid"]], lambda row: row["uuid"] == some["uuid"]),
        ("person_id", "=", uuid.UUID(some["person_id"]), lambda row: row["person_id"] == some["person_id"]),
    ]
    for field, operator, value, test in conditions:
        found = found_by(client, field, operator, value)
        assert found == {row["uuid"] for row in events if test(row)}, (field, operator)
        assert found, (field, operator)


def test_groups_are_counted_as_python_counts_them(client: PostHogClient, events: list[Row]) -> None:
    builder = (
        QueryBuilder()
        .select("event", "count() AS n", "count(DISTINCT person_id) AS people", ("max(properties.size_mb)", "largest"))
        .from_("events")
        .group_by("event")
        .having("count()", ">", 20)
        .order_by("n", "DESC")
        .order_by("event")
        .limit(1_000)
    )
    groups = defaultdict(list)
    for row in events:
        groups[row["event"]].append(row)
    expected = []
    for event, rows in sorted(groups.items(), key=lambda item: (-len(item[1]), item[0])):
        if len(rows) > 20:
            sizes = [row["p"]["size_mb"] for row in rows if "size_mb" in row["p"]]
            expected.append((event, len(rows), len({row["person_id"] for row in rows}), max(sizes, default=None)))

    found = both_ways(client, builder)

    assert [tuple(row.values()) for row in found] == expected


def test_days_are_counted_as_python_counts_them(client: PostHogClient, events: list[Row]) -> None:
    builder = (
        QueryBuilder()
        .select("toDate(timestamp) AS day", "count() AS n")
        .from_("events")
        .group_by("day")
        .order_by("day")
        .limit(500)
    )
    days = Counter(row["t"].date().isoformat() for row in events)

    assert both_ways(client, builder) == [{"day": day, "n": n} for day, n in sorted(days.items())]


# Answers ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hogql", "rows", "truncated"),
    [
        ("SELECT number FROM numbers(100)", 100, False),
        ("SELECT number FROM numbers(101)", 100, True),
        ("SELECT number FROM numbers(300) LIMIT 200", 200, False),
        ("SELECT number FROM numbers(60000) LIMIT 60000", 50_000, True),
        ("SELECT number FROM (SELECT number FROM numbers(300) LIMIT 200)", 100, True),
        ("WITH all_of_them AS (SELECT number FROM numbers(300)) SELECT number FROM all_of_them", 100, True),
        ("SELECT number FROM numbers(300) UNION ALL SELECT number FROM numbers(300)", 200, True),
        ("SELECT number FROM numbers(300) UNION ALL SELECT number FROM numbers(5)", 105, True),
        ("SELECT number FROM numbers(300) LIMIT 10 UNION ALL SELECT number FROM numbers(300)", 110, True),
        ("SELECT number FROM numbers(30) UNION ALL SELECT number FROM numbers(5)", 35, False),
        ("SELECT number FROM numbers(300) LIMIT 100 UNION ALL SELECT number FROM numbers(300) LIMIT 100", 200, False),
    ],
)
def test_an_answer_that_was_cut_says_so(
    client: PostHogClient, caplog: pytest.LogCaptureFixture, hogql: str, rows: int, truncated: bool
) -> None:
    with caplog.at_level(logging.WARNING, "posthog_driver"):
        found = client.query(hogql)

    assert (len(found), found.truncated) == (rows, truncated)
    assert ("was cut by PostHog" in caplog.text) is truncated


def test_columns_of_one_name_keep_every_value(client: PostHogClient) -> None:
    rows = client.query(
        "SELECT event, event, 1 AS event_2, properties.$os, person.properties.$os FROM events "
        "WHERE event = 'signed_up' LIMIT 1"
    )

    assert rows.columns == ["event", "event_3", "event_2", "$os", "$os_2"]
    assert list(rows[0]) == rows.columns
    assert (rows[0]["event"], rows[0]["event_3"], rows[0]["event_2"]) == ("signed_up", "signed_up", 1)


def test_every_kind_of_cell_comes_as_python_knows_it(client: PostHogClient) -> None:
    rows = client.query(
        "SELECT NULL AS nothing, properties.nope AS missing, toFloat('nan') AS odd, 1 / 0 AS endless, "
        "[NULL, 1] AS list, map('a', 1) AS dict, (1, 'a', NULL) AS tuple, toDate('2024-01-02') AS day, "
        "toUUID({id}) AS id, 9223372036854775807 AS big, true AS yes, toDateTime('2024-01-02 03:04:05') AS moment "
        "FROM events LIMIT 1",
        {"id": str(uuid.UUID(int=1))},
    )

    assert rows == [
        {
            "nothing": None, "missing": None, "odd": None, "endless": None, "list": [None, 1], "dict": {"a": 1},
            "tuple": [1, "a", None], "day": "2024-01-02", "id": str(uuid.UUID(int=1)), "big": 2**63 - 1, "yes": True,
            "moment": "2024-01-02T03:04:05Z",
        }
    ]  # fmt: skip
    assert len(rows.types) == len(rows.columns) == 12
    assert rows.info.timezone == "UTC"


def test_a_query_without_rows_still_has_columns(client: PostHogClient) -> None:
    rows = client.query("SELECT event AS e, count() AS n FROM events WHERE event = 'never' GROUP BY event")

    assert rows == []
    assert (rows.columns, rows.types, rows.truncated) == (["e", "n"], ["String", "UInt64"], False)


def test_a_repeated_query_comes_from_the_cache_unless_it_is_to_be_fresh(client: PostHogClient) -> None:
    hogql = f"SELECT '{uuid.uuid4()}' AS x"
    first, again, fresh = client.query(hogql), client.query(hogql), client.query(hogql, fresh=True)

    assert [rows.is_cached for rows in (first, again, fresh)] == [False, True, False]
    assert first.last_refresh == again.last_refresh != fresh.last_refresh
    assert first == again == fresh
    assert len({rows.query_id for rows in (first, again, fresh)}) == 3


# Mistakes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hogql", "words", "marked", "fix"),
    [
        ("SELECT evnt FROM events", "Unable to resolve field: evnt", "evnt", "event"),
        ("SELECT '日本 🎉',\n evnt FROM events", "Unable to resolve field: evnt", "evnt", "event"),
        ("SELECT * FROM evnts", "Unknown table `evnts`", "evnts", "events"),
        ("SELECT countif(1) FROM events", "Perhaps you meant 'countIf", "countif", "countIf"),
        ("SELECT toInt64(1)", "Perhaps you meant 'toInt", "toInt64", "toInt"),
        ("SELECT person.propertis.x FROM events", "Field not found: propertis", "person.propertis.x",
         "person.properties.x"),
        ("SELECT event FROM events LIMIT 1 OFFSET 1", "keyset pagination", "1", None),
        ("SELECT event FROM events LIMIT 5, 10", "OFFSET is not supported", "10", None),
        ("SELECT 1 FROM persons WHERE id IN COHORT 99", "cohort with the ID 99", "id IN COHORT 99", None),
        ("SELECT lower(1, 2)", "expects 1 argument, found 2", "lower(1, 2)", None),
        ("SELECT * FROM file('/etc/hostname')", "Unknown table `file`", "file('/etc/hostname')", None),
        ("SELECT hostName()", "Unsupported function call 'hostName", "hostName()"[:8], "monthName"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_marked_and_mended_where_posthog_knows_how(
    client: PostHogClient, hogql: str, words: str, marked: str, fix: str | None
) -> None:
    with pytest.raises(QueryError) as caught:
        client.query(hogql)

    error = caught.value
    assert words in str(error)
    assert words in (error.detail or "")
    assert (error.status, error.code, error.attempts, error.fix) == (400, "invalid_input", 1, fix)
    assert error.position is not None
    assert hogql[error.position : error.end] == marked
    assert fix is None or fix in str(error)


@pytest.mark.parametrize(
    ("hogql", "position"),
    [
        ("SELECT event FORM events", 18),
        ("SELECT count( FROM events", 19),
        ("SELECT 'abc", 7),
        ("SELECT 1; SELECT 2", 10),
        ("INSERT INTO events VALUES (1)", 0),
    ],
)
def test_what_no_parser_takes_is_marked_where_it_ends_to_make_sense(
    client: PostHogClient, hogql: str, position: int
) -> None:
    with pytest.raises(QueryError) as caught:
        client.query(hogql)

    # The words differ: PostHog has two parsers, and this Python has one of them.
    assert (caught.value.status, caught.value.code, caught.value.attempts) == (400, "invalid_input", 1)
    assert caught.value.position == position
    assert caught.value.detail


def test_a_query_that_is_mended_as_the_error_says_runs(client: PostHogClient) -> None:
    hogql = "SELECT evnt, countif(properties.$os = 'Linux') AS linux FROM evnts GROUP BY evnt"
    for _ in range(4):  # evnts, evnt twice, countif
        with pytest.raises(QueryError) as caught:
            client.query(hogql)
        error = caught.value
        assert error.position is not None
        hogql = hogql[: error.position] + str(error.fix) + hogql[error.end :]

    assert hogql == "SELECT event, countIf(properties.$os = 'Linux') AS linux FROM events GROUP BY event"
    assert sum(row["linux"] for row in client.query(hogql)) > 0


@pytest.mark.parametrize(
    ("hogql", "code"),
    [
        ("SELECT event, count() FROM events", "not_an_aggregate"),
        ("SELECT sum(event) FROM events", "illegal_type_of_argument"),
        ("SELECT 1 FROM events WHERE properties.$browser", "illegal_type_of_column_for_filter"),
        ("SELECT intDiv(1, 0)", "illegal_division"),
        ("SELECT toDateTime('soon')", "cannot_parse_datetime"),
        ("SELECT [1, 'a']", "no_common_type"),
    ],
)
def test_a_mistake_that_only_the_engine_notices_has_its_code(client: PostHogClient, hogql: str, code: str) -> None:
    with pytest.raises(QueryError) as caught:
        client.query(hogql)

    assert (caught.value.status, caught.value.code, caught.value.attempts) == (400, code, 1)
    assert client.query("SELECT 1 AS one") == [{"one": 1}]


@pytest.mark.parametrize("hogql", ["", "  \n", None, b"SELECT 1"])
def test_what_is_no_query_is_not_sent(client: PostHogClient, hogql: Any) -> None:
    with pytest.raises(ValidationError):
        client.query(hogql)


@pytest.mark.parametrize(
    "options",
    [{"timeout": "5"}, {"timeout": 0}, {"total_timeout": 0}, {"total_timeout": math.nan}, {"name": "x" * 129},
     {"name": 5}, {"values": ["a"]}, {"filters": {"dateRange": {}}}, {"variables": {"x": 1}}],
    ids=repr,
)  # fmt: skip
def test_an_option_that_cannot_be_is_refused_before_anything_is_sent(client: PostHogClient, options: Row) -> None:
    with pytest.raises(ValidationError, match=r"Nothing was sent|PostHog would ignore"):
        client.query("SELECT 1", **options)


def test_a_mistake_in_a_very_long_query_is_marked_too(client: PostHogClient) -> None:
    hogql = "SELECT '" + r"\\" * 30_000 + "', evnt FROM events"
    with pytest.raises(QueryError) as caught:
        client.query(hogql)

    assert hogql[caught.value.position : caught.value.end] == "evnt"
    assert (caught.value.code, caught.value.fix) == ("invalid_input", "event")
    assert len(str(caught.value)) < 5_000
