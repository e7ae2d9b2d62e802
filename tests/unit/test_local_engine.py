"""The engine runs in a process of its own here too: inside pytest's it would hang on fork and on Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from multiprocessing.managers import RemoteError
from pathlib import Path
from typing import Any

import pytest

from posthog_driver.local.engine import MAX_CONCURRENT_QUERIES, EngineError, _engine_error
from tests.engines import Engines, an_engine
from tests.engines import engines as some_engines

ENDLESS = "SELECT count() FROM numbers(100000000000) WHERE sin(number) > 2"
UUID = "00000000-0000-4000-8000-000000000001"


@pytest.fixture(scope="module")
def engines() -> Iterator[Engines]:
    with some_engines() as manager:
        yield manager


@pytest.fixture(scope="module")
def engine() -> Iterator[Any]:
    """One engine for all tests that leave nothing behind."""
    with an_engine() as engine:
        yield engine


def ask(engine: Any, sql: str, **limits: Any) -> list[list[Any]]:
    rows: list[list[Any]] = engine.run(sql, query_id="q", **limits).rows
    return rows


def refusal(engine: Any, sql: str, **limits: Any) -> EngineError:
    with pytest.raises(EngineError) as caught:
        ask(engine, sql, **limits)
    return caught.value


def event(**columns: Any) -> dict[str, Any]:
    return {"uuid": UUID, "event": "e", "timestamp": "2026-03-01T12:00:00Z", "distinct_id": "d", **columns}


# ------------------------------------------------------------------------------------------------------- answers


def test_an_answer_has_rows_names_types_and_statistics(engine: Any) -> None:
    result = engine.run("SELECT number, 'x', 'x' FROM numbers(3)", query_id="q")

    assert result.columns == [("number", "UInt64"), ("'x'", "String"), ("'x'", "String")]
    assert result.rows == [[0, "x", "x"], [1, "x", "x"], [2, "x", "x"]]
    assert result.rows_read == 3
    assert result.bytes_read > 0
    assert result.elapsed > 0


@pytest.mark.parametrize(
    ("sql", "value"),
    [
        ("18446744073709551615", 18446744073709551615),
        ("nan", None),
        ("-inf", None),
        ("toDecimal64(1.5, 2)", "1.50"),
        ("true", True),
        ("toDate('2026-03-01')", "2026-03-01"),
        ("(1, 'a')", [1, "a"]),
        ("map('k', [1, NULL])", {"k": [1, None]}),
        ("toDateTime('2026-03-01 12:00:00', 'UTC')", "2026-03-01T12:00:00Z"),
        ("toDateTime64('2026-03-01 12:00:00.25', 3, 'UTC')", "2026-03-01T12:00:00.250000Z"),
        ("toDateTime64('2026-03-01 12:00:00.123456789', 9, 'UTC')", "2026-03-01T12:00:00.123456Z"),
        ("toDateTime64('2026-03-01 12:00:00', 6, 'UTC')", "2026-03-01T12:00:00Z"),
        ("toDateTime('2026-03-01 12:00:00', 'America/New_York')", "2026-03-01T12:00:00-05:00"),
        ("toDateTime64('2026-07-01 12:00:00.5', 1, 'Asia/Kolkata')", "2026-07-01T12:00:00.500000+05:30"),
        ("toTimeZone(toDateTime(0, 'UTC'), 'Fixed/UTC+01:30:00')", "1970-01-01T01:30:00+01:30"),
        ("toTimeZone(toDateTime(0, 'UTC'), 'Fixed/UTC-05:00:00')", "1969-12-31T19:00:00-05:00"),
        ("NULL::Nullable(DateTime('UTC'))", None),
        ("toLowCardinality(toNullable(toDateTime(0, 'UTC')))", "1970-01-01T00:00:00Z"),
        ("[toDateTime(0, 'UTC')]", ["1970-01-01T00:00:00Z"]),
        ("map('a,(b', toDateTime(0, 'UTC'))", {"a,(b": "1970-01-01T00:00:00Z"}),
        ("(1, 'a', toDateTime(0, 'UTC'))", [1, "a", "1970-01-01T00:00:00Z"]),
        (
            "CAST((1, toDateTime(0, 'UTC'), []), "
            "'Tuple(a UInt8, `b, \\\\`(c` DateTime(\\'UTC\\'), d Array(DateTime))')",
            {"a": 1, "b, `(c": "1970-01-01T00:00:00Z", "d": []},
        ),
        ("CAST('x', 'Enum8(\\'x\\' = 1, \\'DateTime\\' = 2)')", "x"),
    ],
)
def test_values_look_as_in_the_answers_of_posthog(engine: Any, sql: str, value: object) -> None:
    assert ask(engine, f"SELECT {sql}") == [[value]]


def test_a_statement_may_be_as_long_as_the_translator_lets_it(engine: Any) -> None:
    numbers = ", ".join(map(str, range(100_000, 240_000)))

    assert ask(engine, f"SELECT count() FROM numbers(100010) WHERE number IN ({numbers})") == [[10]]


def test_a_date_time_without_a_zone_has_no_z(engine: Any) -> None:
    ((text,),) = ask(engine, "SELECT toDateTime64('2026-03-01 12:00:00.5', 1)")

    assert not text.endswith("Z")
    datetime.fromisoformat(text)


# ------------------------------------------------------------------------------------------ refusals and limits


def test_any_part_of_a_second_can_be_the_time_limit(engine: Any) -> None:
    for seconds in (5.159520928242072, 8.142487888461723, *(4 + part / 1_000_003 for part in range(300))):
        assert engine.run("SELECT 1", query_id="part", max_execution_time=seconds).rows == [[1]]


@pytest.mark.parametrize(
    ("sql", "limits", "code", "name"),
    [
        ("SELECT throwIf(number = 90000) FROM numbers(1000000)", {}, 395, "FUNCTION_THROW_IF_VALUE_IS_NON_ZERO"),
        (ENDLESS, {"max_execution_time": 0.3}, 159, "TIMEOUT_EXCEEDED"),
        ("SELECT groupArray(number) FROM numbers(10000000)", {"max_memory_bytes": 10**7}, 241, "MEMORY_LIMIT_EXCEEDED"),
        ("SELECT repeat(toString(number), 400) FROM numbers(400000)", {}, 396, "TOO_MANY_ROWS_OR_BYTES"),
        ("SELECT nonsense FROM posthog.events", {}, 47, "UNKNOWN_IDENTIFIER"),
        ("SELECT", {}, 62, "SYNTAX_ERROR"),
    ],
)
def test_after_a_failing_query_the_next_answer_is_clean(
    engine: Any, sql: str, limits: dict[str, Any], code: int, name: str
) -> None:
    error = refusal(engine, sql, **limits)

    assert (error.code, error.name) == (code, name)
    assert ask(engine, "SELECT 1") == [[1]]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT count(), sum(n) FROM (SELECT toString(number) AS s, count() AS n FROM numbers(10000000) GROUP BY s)",
        "SELECT s, 0 FROM (SELECT toString(number) AS s FROM numbers(10000000)) ORDER BY s LIMIT 1 OFFSET 9999999",
    ],
)
def test_grouping_and_sorting_go_on_in_files_when_memory_is_short(engine: Any, sql: str) -> None:
    ((first, second),) = ask(engine, sql, max_memory_bytes=500_000_000)

    assert (first, second) in ((10_000_000, 10_000_000), ("9999999", 0))


def test_an_error_says_what_was_wrong_and_nothing_of_our_own_settings(engine: Any) -> None:
    error = refusal(engine, "SELECT nonsense FROM posthog.events")

    assert "nonsense" in error.message
    assert "readonly" not in error.message
    assert "DB::Exception" not in error.message
    assert str(error) == f"UNKNOWN_IDENTIFIER (47): {error.message}"


def test_an_error_of_another_form_is_kept_as_it_is() -> None:
    error = _engine_error("Failed to do it\n")

    assert (error.code, error.name, error.message) == (0, "UNKNOWN_EXCEPTION", "Failed to do it")


def test_an_error_that_passed_several_places_is_told_once() -> None:
    frame = "Code: 241. DB::Exception: "
    error = _engine_error(f"{frame}{frame}Too much (NULL). (MEMORY_X) (version 26.9.2.1). (MEMORY_X)")

    assert (error.code, error.name, error.message) == (241, "MEMORY_X", "Too much (NULL)")


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM file('/etc/passwd', 'LineAsString')",
        "SELECT * FROM url('http://127.0.0.1:1/', 'LineAsString')",
        "SELECT * FROM posthog.`/etc/passwd`",
        "INSERT INTO posthog.persons (id) SELECT generateUUIDv4()",
        "DROP TABLE posthog.events",
    ],
)
def test_a_query_can_neither_write_nor_read_files(engine: Any, sql: str) -> None:
    assert refusal(engine, sql).code in (60, 62, 164)
    assert ask(engine, "SELECT count() FROM posthog.events") == [[0]]


# ------------------------------------------------------------------------------------- several queries, and cancel


def test_queries_of_many_threads_do_not_mix(engine: Any) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: ask(engine, f"SELECT {n} FROM numbers(2)"), range(40)))

    assert answers == [[[n], [n]] for n in range(40)]


@pytest.mark.parametrize("query_id", ["q", "it's", "a\\b\n\t", "zürich-ö", "%'; --"])
def test_a_running_query_is_cancelled_by_its_id(engine: Any, query_id: str) -> None:
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(engine.run, ENDLESS, query_id=query_id)
        until(lambda: engine.cancel(query_id))

        with pytest.raises(EngineError) as caught:
            running.result(60)

    assert caught.value.code == 394
    assert not engine.cancel(query_id)


def test_a_query_that_waits_for_its_turn_can_be_cancelled_or_gives_up(engine: Any) -> None:
    with ThreadPoolExecutor(MAX_CONCURRENT_QUERIES + 1) as pool:
        running = [pool.submit(engine.run, ENDLESS, query_id=f"q{n}") for n in range(MAX_CONCURRENT_QUERIES)]
        until(lambda: len(engine.overdue(-60)) == MAX_CONCURRENT_QUERIES)
        waiting = pool.submit(engine.run, "SELECT 1", query_id="waiting")
        until(lambda: engine.cancel("waiting"))
        late = refusal(engine, "SELECT 1", max_execution_time=0.1)
        for number in range(MAX_CONCURRENT_QUERIES):
            assert engine.cancel(f"q{number}")

        with pytest.raises(EngineError) as caught:
            waiting.result(60)
        ends = [future.exception(60) for future in running]

    assert caught.value.code == 394
    assert (late.code, late.name) == (202, "TOO_MANY_SIMULTANEOUS_QUERIES")
    assert all(isinstance(end, EngineError) and end.code == 394 for end in ends)


def test_a_query_is_overdue_only_beyond_its_own_limit(engine: Any) -> None:
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(engine.run, ENDLESS, query_id="long", max_execution_time=50.0)
        until(lambda: engine.overdue(-50))

        assert engine.overdue(-50) == ["long"]
        assert engine.overdue(0) == []
        assert engine.cancel("long")
        assert running.exception(60) is not None
    assert engine.overdue(-50) == []


def until(condition: Callable[[], Any]) -> None:
    """Wait for what another thread is about to do; the limit is only there so that nothing hangs."""
    pause = threading.Event()
    for _ in range(6000):
        if condition():
            return
        pause.wait(0.01)
    raise AssertionError("it never became true")


# --------------------------------------------------------------------------------------------------------- inserts


def test_an_inserted_event_can_be_read_at_once(engine: Any) -> None:
    moment = datetime(2026, 3, 1, 14, 0, 0, 250000, timezone(timedelta(hours=2)))
    properties = {"$session_id": "s1", "nested": {"ü": [1, None]}, "half": "\ud83d"}

    assert engine.insert_events([event(properties=properties, timestamp=moment)]) == 1

    ((text, shown, session, person),) = ask(
        engine, "SELECT properties, timestamp, `$session_id`, person_properties FROM posthog.events"
    )
    engine.execute("TRUNCATE TABLE posthog.events")
    assert text == '{"$session_id":"s1","nested":{"ü":[1,null]},"half":"?"}'
    assert (shown, session, person) == ("2026-03-01T12:00:00.250000Z", "s1", "{}")


def test_inserting_nothing_is_no_statement(engine: Any) -> None:
    assert engine.insert("persons", []) == 0


@pytest.mark.parametrize(
    ("table", "row", "message"),
    [
        ("events", event(propertys="{}"), "unknown columns propertys; there are uuid, event"),
        ("events", event(properties={"x": float("nan")}), "not JSON compliant"),
        ("numbers", {}, "no table 'numbers' to insert into; there are events, persons"),
    ],
)
def test_what_cannot_be_stored_is_named_and_nothing_is_stored(
    engine: Any, table: str, row: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        engine.insert(table, [event(), row] if table == "events" else [row])

    assert ask(engine, "SELECT count() FROM posthog.events") == [[0]]


def test_a_value_that_the_engine_refuses_stores_nothing(engine: Any) -> None:
    with pytest.raises(EngineError, match="CANNOT_PARSE_UUID"):
        engine.insert("events", [event(), event(uuid="no uuid")])

    assert ask(engine, "SELECT count() FROM posthog.events") == [[0]]


# ------------------------------------------------------------------------------------------- directory and closing


def test_a_directory_keeps_its_rows_and_is_for_the_owner_only(engines: Engines, tmp_path: Path) -> None:
    directory = tmp_path / "new" / "data"
    first = engines.Engine(directory)
    first.insert_events([event()])
    first.close()

    second = engines.Engine(str(directory))

    assert ask(second, "SELECT event FROM posthog.events") == [["e"]]
    assert directory.stat().st_mode & 0o777 == 0o700
    second.close()
    assert directory.exists()


def test_a_temporary_directory_is_gone_after_closing(engines: Engines) -> None:
    engine = engines.Engine()
    ((path,),) = ask(engine, "SELECT path FROM system.disks")
    assert os.path.isdir(path)

    assert engine.close()
    assert engine.close()

    assert not os.path.exists(path)


def test_a_directory_with_something_else_in_it_is_refused(engines: Engines, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("")
    mode = tmp_path.stat().st_mode

    with pytest.raises(RemoteError, match="is not empty and holds no embedded PostHog"):
        engines.Engine(tmp_path)

    assert tmp_path.stat().st_mode == mode


def test_a_path_that_the_engine_would_misread_is_refused(engines: Engines, tmp_path: Path) -> None:
    with pytest.raises(RemoteError, match="question mark"):
        engines.Engine(tmp_path / "a?b")


def test_a_directory_in_use_is_refused_by_another_process(engines: Engines, tmp_path: Path) -> None:
    code = "import sys; from posthog_driver.local.engine import Engine; Engine(sys.argv[1])"
    engine = engines.Engine(tmp_path)

    other = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=False)

    engine.close()
    assert other.returncode == 1
    assert "another process may be using it" in other.stderr


def test_an_engine_that_cannot_be_opened_leaves_no_directory(tmp_path: Path) -> None:
    code = (
        "import sys; from posthog_driver.local.engine import Engine, EngineError\n"
        "first = Engine(sys.argv[1])\n"
        "try: Engine()\n"
        "except EngineError as error: print(error)\n"
        "first.close()\n"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path)}

    child = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "first"], capture_output=True, text=True, check=True, env=environment
    )

    assert "cannot be opened" in child.stdout
    assert list(tmp_path.glob("posthog-local-*")) == []


def test_closing_stops_what_runs_and_refuses_what_comes(engines: Engines) -> None:
    engine = engines.Engine()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(engine.run, ENDLESS, query_id="long")
        until(lambda: engine.overdue(-60))

        assert engine.close()

        with pytest.raises(EngineError, match="394"):
            running.result(60)
    for refused in (lambda: ask(engine, "SELECT 1"), lambda: engine.insert_events([event()])):
        with pytest.raises(EngineError, match="The engine is closed"):
            refused()


def test_closing_says_when_something_does_not_stop() -> None:
    with some_engines() as manager, ThreadPoolExecutor(1) as pool:
        engine = manager.Engine()
        statement = pool.submit(engine.execute, "SELECT sleep(1)")
        until(lambda: ask(engine, "SELECT count() FROM system.processes WHERE query LIKE 'SELECT sleep%'") == [[1]])

        assert not engine.close(timeout=0)

        statement.result(60)


def test_what_was_inserted_survives_the_killing_of_the_process(engines: Engines, tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from posthog_driver.local.engine import Engine\n"
        "engine = Engine(sys.argv[1])\n"
        "row = {'event': 'e', 'timestamp': '2026-03-01T12:00:00Z', 'distinct_id': 'd'}\n"
        "for number in range(20): engine.insert_events([{**row, 'uuid': f'00000000-0000-4000-8000-{number:012}'}])\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )

    child = subprocess.run([sys.executable, "-c", code, tmp_path], check=False)

    engine = engines.Engine(tmp_path)
    assert child.returncode == -signal.SIGKILL
    assert ask(engine, "SELECT count(), uniqExact(uuid), uniqExact(`$session_id`) FROM posthog.events") == [[20, 20, 1]]
    engine.close()


# ------------------------------------------------------------------------------------------------ several databases


def test_databases_are_made_apart_and_removed(engine: Any) -> None:
    engine.create_database("other")
    engine.create_database("other")
    engine.insert("events", [event()], database="other")

    assert ask(engine, "SELECT (SELECT count() FROM posthog.events), (SELECT count() FROM other.events)") == [[0, 1]]
    assert {"posthog", "other"} <= set(engine.databases())

    engine.drop_database("other")
    engine.drop_database("other")
    assert "other" not in engine.databases()
    assert refusal(engine, "SELECT count() FROM other.events").code == 81
