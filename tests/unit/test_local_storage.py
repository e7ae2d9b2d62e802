"""What the storage keeps beside the rows changes no answer, and queries do read it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from posthog_driver.local.hogql import translate
from posthog_driver.local.schema import Catalog, quote_any_name, quote_name
from posthog_driver.local.storage import BRIEF_SESSION, JSON_COLUMNS, materialized_ddl, materialized_name, property_sql
from tests.engines import an_engine


@pytest.fixture(scope="module")
def engine() -> Iterator[Any]:
    with an_engine() as engine:
        yield engine


def ask(engine: Any, sql: str) -> list[list[Any]]:
    rows: list[list[Any]] = engine.run(sql, query_id="q").rows
    return rows


# ----------------------------------------------------------------------- a property is the same from JSON and column

KEYS = ("plan", "$x", "a.b", "two words")
TEXT = st.text(max_size=8) | st.sampled_from(["", "null", '"', "\\", "\n", '\\"', "\u0000", "\U0001f680", " x ", "é"])
NUMBERS = st.sampled_from(
    ["0", "-0", "1.0", "1.10", "1e5", "1E+5", "-2.5e-7", "12345678901234567890123", "0.1", "9007199254740993", "1e400"]
)
VALUES = st.recursive(
    st.sampled_from(["null", "true", "false"]) | NUMBERS | st.integers(-(2**70), 2**70).map(str) | TEXT.map(json.dumps),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]")
        | st.lists(st.tuples(TEXT, inner), max_size=3).map(lambda pairs: _object(pairs))
    ),
    max_leaves=5,
)
PAIRS = st.lists(st.tuples(st.sampled_from(KEYS), VALUES | TEXT.map(lambda t: json.dumps(t, ensure_ascii=False))))


def _object(pairs: list[tuple[str, str]]) -> str:
    """A JSON object as text, in which a key may come twice."""
    return "{" + ",".join(f"{json.dumps(key)}: {value}" for key, value in pairs) + "}"


BROKEN = st.sampled_from(["", "{", "null", "[]", '{"plan": ', '{"plan": tru}', "no json"])


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(PAIRS.map(_object) | BROKEN, min_size=1, max_size=8), st.sampled_from(sorted(JSON_COLUMNS)))
def test_a_column_says_what_the_json_says_for_what_was_there_and_for_what_comes(
    engine: Any, rows: list[str], column: str
) -> None:
    name = JSON_COLUMNS[column].name
    engine.execute("DROP TABLE IF EXISTS posthog.twin")
    engine.execute(f"CREATE TABLE posthog.twin (n UInt32, {name} String) ENGINE = MergeTree ORDER BY n")

    def insert(first: int) -> None:
        lines = [json.dumps({"n": first + n, name: row}) for n, row in enumerate(rows)]
        engine.execute("\n".join([f"INSERT INTO posthog.twin (n, {name}) FORMAT JSONEachRow", *lines]))

    insert(0)
    engine.execute(f"ALTER TABLE posthog.twin {', '.join(f'ADD COLUMN {materialized_ddl(k, column)}' for k in KEYS)}")
    insert(1000)
    pairs = [(quote_any_name(materialized_name(key, column)), property_sql(name, (key,))) for key in KEYS]
    different = " OR ".join(f"NOT ({stored} <=> {read})" for stored, read in pairs)
    for filled in (False, True):
        if filled:
            made = ", ".join(f"MATERIALIZE COLUMN {stored}" for stored, _ in pairs)
            engine.execute(f"ALTER TABLE posthog.twin {made} SETTINGS mutations_sync = 1")
        found = ask(engine, f"SELECT count(), countIf({different}) FROM posthog.twin")
        assert found == [[2 * len(rows), 0]]


# ------------------------------------------------------------------------------- sessions are kept beside the events

EVENTS = st.lists(
    st.fixed_dictionaries(
        {
            "event": st.sampled_from(["$pageview", "$screen", "$autocapture", "signed_up"]),
            "second": st.integers(0, 5_000_000),
            "session": st.sampled_from(["", "s1", "s2", "01935b2c-7a10-7abc-8def-0123456789ab"]),
            "properties": st.dictionaries(
                st.sampled_from(["$current_url", "$referring_domain", "utm_source", "utm_medium", "gclid", "fbclid"]),
                st.sampled_from(["https://a.test/x", "www.google.com", "google", "cpc", "", None]),
            ),
        }
    ),
    min_size=1,
    max_size=12,
)
TIED = {"event": "$pageview", "second": 0, "session": "s1"}
"""Two of these happened at the same moment."""
KEPT = (
    *("$start_timestamp", "$end_timestamp", "$session_duration", "$pageview_count", "$autocapture_count"),
    *("$screen_count", "$event_count", "$is_bounce", "$entry_current_url", "$entry_pathname", "$end_current_url"),
    *("$entry_referring_domain", "$channel_type", "$page_screen_autocapture_count_up_to", "session_timestamp"),
)
SESSIONS = f"SELECT session_id, {', '.join(map(quote_name, KEPT))} FROM {{}}.sessions ORDER BY session_id"

BRIEF = f"SELECT {', '.join(map(quote_name, BRIEF_SESSION))} FROM posthog.{{}} ORDER BY session_id"


def insert_events(engine: Any, events: list[dict[str, Any]], first: int = 0, database: str = "posthog") -> None:
    engine.insert(
        "events",
        [
            {
                "uuid": f"00000000-0000-4000-8000-{number:012}",
                "event": event["event"],
                "timestamp": f"{1_760_000_000 + event['second']}",
                "distinct_id": f"d{number % 3}",
                "person_id": f"00000000-0000-4000-9000-{number % 3:012}",
                "properties": {"$session_id": event["session"], **event["properties"]},
            }
            for number, event in enumerate(events, start=first)
        ],
        database=database,
    )


@pytest.fixture(scope="module")
def plain(engine: Any) -> str:
    """A project without what is kept of sessions."""
    engine.create_database("plain")
    engine.execute("ALTER TABLE plain.events DROP PROJECTION by_session")
    return "plain"


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(EVENTS, EVENTS)
@example([{**TIED, "properties": {"$referring_domain": "google"}}], [{**TIED, "properties": {}}])
@example([{**TIED, "properties": {}}], [{**TIED, "properties": {"$referring_domain": "google"}}])
def test_what_is_kept_of_sessions_is_what_the_events_say(
    engine: Any, plain: str, events: list[dict[str, Any]], late: list[dict[str, Any]]
) -> None:
    """Also after late events, merges of parts and merges of persons."""
    databases = ("posthog", plain)
    changes: tuple[Callable[[str], None], ...] = (
        lambda database: engine.execute(f"TRUNCATE TABLE {database}.events"),
        lambda database: insert_events(engine, events, 0, database),
        lambda database: insert_events(engine, late, 100, database),
        lambda database: engine.execute(f"OPTIMIZE TABLE {database}.events FINAL"),
        lambda database: engine.execute(
            f"ALTER TABLE {database}.events UPDATE person_id = '00000000-0000-4000-9000-000000000009' "
            "WHERE distinct_id = 'd1' SETTINGS mutations_sync = 1"
        ),
    )
    for change in changes:
        for database in databases:
            change(database)
        kept, counted = (ask(engine, SESSIONS.format(database)) for database in databases)
        assert kept == counted
        assert ask(engine, BRIEF.format("sessions_brief")) == ask(engine, BRIEF.format("sessions"))
    named = {event["session"] for event in (*events, *late)} - {""}
    assert {row[0] for row in kept} == named
    engine.execute("TRUNCATE TABLE posthog.events")


@pytest.mark.parametrize("column", KEPT)
def test_questions_to_sessions_read_what_is_kept_of_them(engine: Any, column: str) -> None:
    events = [{"event": "$pageview", "second": n, "session": f"s{n % 9}", "properties": {}} for n in range(900)]
    insert_events(engine, events)
    sql = translate(f"select session_id, {column} from sessions", Catalog()).sql

    plan = "\n".join(row[0] for row in ask(engine, f"EXPLAIN {sql}"))

    engine.execute("TRUNCATE TABLE posthog.events")
    assert "ReadFromMergeTree (by_session)" in plan


def test_the_person_of_a_session_is_right_after_a_merge(engine: Any) -> None:
    insert_events(engine, [{"event": "e", "second": 1, "session": "s", "properties": {}}] * 2)
    engine.execute(
        "ALTER TABLE posthog.events UPDATE person_id = '00000000-0000-4000-9000-000000000009' WHERE 1 "
        "SETTINGS mutations_sync = 1"
    )

    found = ask(engine, translate("select person_id, $event_count from sessions", Catalog()).sql)

    engine.execute("TRUNCATE TABLE posthog.events")
    assert found == [["00000000-0000-4000-9000-000000000009", 2]]


# ----------------------------------------------------------------------------------- conditions on time read little


@pytest.fixture(scope="module")
def month(engine: Any) -> Iterator[Any]:
    """Rows of 60 days, in granules of a few hours each."""
    engine.execute(
        "INSERT INTO posthog.events (uuid, event, timestamp, distinct_id) "
        "SELECT generateUUIDv4(), 'e', toDateTime('2026-03-01 00:00:00', 'UTC') + number * 13, 'd' FROM numbers(400000)"
    )
    engine.execute("OPTIMIZE TABLE posthog.events FINAL")
    yield engine
    engine.execute("TRUNCATE TABLE posthog.events")


@pytest.mark.parametrize("zone", ["UTC", "America/New_York"])
@pytest.mark.parametrize(
    "condition",
    [
        "timestamp >= '2026-04-25'",
        "timestamp >= toDateTime('2026-04-25 00:00:00')",
        "timestamp > now() - interval 1 day",
        "toDate(timestamp) = '2026-04-25'",
        "toStartOfDay(timestamp) >= toDateTime('2026-04-25 00:00:00')",
        "timestamp between '2026-03-04' and '2026-03-05'",
    ],
)
def test_a_condition_on_time_reads_only_its_days_in_every_time_zone(month: Any, condition: str, zone: str) -> None:
    sql = translate(f"select count() from events where {condition} and distinct_id != ''", Catalog(timezone=zone)).sql

    plan = "\n".join(row[0] for row in ask(month, f"EXPLAIN indexes = 1 {sql}"))

    granules = re.findall(r"Granules: (\d+)/(\d+)", plan)
    assert int(granules[-1][0]) <= 0.2 * int(granules[0][1]), plan
