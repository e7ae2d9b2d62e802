"""Driver and embedded PostHog together over time: slow queries, cancelling, limits, many threads, forks, time zones.

The servers here are one child process (this file, run as a script) with one engine behind several addresses: the
settings that Cloud fixes, such as how long a blocking query may take, are small enough here to see what happens.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from posthog_driver import (
    ObjectNotFoundError,
    PostHogClient,
    QueryError,
    QueryTimeoutError,
    RateLimitError,
    TimeoutError,
)
from posthog_driver._clock import SystemClock
from posthog_driver.local import LocalPostHog
from posthog_driver.testing import FakeClock

HANG = 30.0
ENDLESS = (
    "SELECT count() AS n FROM events a CROSS JOIN events b CROSS JOIN events c CROSS JOIN events d CROSS JOIN events e "
    "WHERE a.distinct_id != b.distinct_id"
)
SLOW = "SELECT count() AS n FROM numbers(1000000) AS a CROSS JOIN numbers(400) AS b"
FAILS_LATE = "SELECT max(intDiv(cityHash64(toString(number)), 40000000 - number)) AS n FROM numbers(1000000000)"


def _serve() -> None:
    """The child: prints its addresses and serves until its standard input closes."""
    from posthog_driver.local import demo
    from posthog_driver.local.engine import Engine
    from posthog_driver.local.limits import Limits
    from posthog_driver.local.queries import QuerySettings
    from posthog_driver.local.server import build_server

    with tempfile.TemporaryDirectory() as directory:
        engine = Engine(directory)
        data = demo.load(engine, events=1_000, seed=3)
        abroad = dataclasses.replace(data, catalog=dataclasses.replace(data.catalog, timezone="America/New_York"))
        few = Limits(queries=((4, 1.0),), queue_seconds=0.0)
        gate = Limits(queries=((10_000, 1.0),), others=((10_000, 1.0),), queue_seconds=0.0)
        made: dict[str, tuple[Any, dict[str, Any]]] = {
            "patient": (data, {"settings": QuerySettings(blocking_seconds=600.0)}),
            "impatient": (data, {"settings": QuerySettings(blocking_seconds=0.1)}),
            "strict": (data, {"settings": QuerySettings(blocking_seconds=0.1, async_seconds=0.3)}),
            "abroad": (abroad, {}),
            "few": (data, {"limits": few}),
            "gate": (data, {"limits": gate}),
        }
        servers = {
            name: build_server(engine, source, personal_api_key="phx_test", project_api_key="phc_test", **options)
            for name, (source, options) in made.items()
        }
        for server in servers.values():
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        print(json.dumps({name: server.url for name, server in servers.items()}), flush=True)
        sys.stdin.read()
        for server in servers.values():
            server.shutdown()
        engine.close()


Connect = Callable[..., PostHogClient]


@pytest.fixture(scope="module")
def urls() -> Iterator[dict[str, str]]:
    command = [sys.executable, __file__]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())
        process.stdin.close()
        process.wait(HANG)


@pytest.fixture
def connect(urls: dict[str, str]) -> Iterator[Connect]:
    clients: list[PostHogClient] = []

    def make(server: str, **options: Any) -> PostHogClient:
        usual = {"api_key": "phx_test", "project_id": 1, "project_api_key": "phc_test", "api_url": urls[server]}
        clients.append(PostHogClient(**{**usual, **options}))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


def until(condition: Callable[[], Any]) -> Any:
    """Ask until the answer is true; only a hang ends it otherwise."""
    deadline = time.monotonic() + HANG
    while not (found := condition()):
        assert time.monotonic() < deadline, "it never became true"
        time.sleep(0.01)
    return found


def is_running(observer: PostHogClient, query_id: str | None) -> bool:
    """Tell whether the server runs a query, without disturbing it: only a queued one would be stopped."""
    answer = observer.request(f"/api/projects/1/query/{query_id}/", "DELETE", params={"dequeue_only": True})
    return "already running" in answer["message"]


def how_it_ended(observer: PostHogClient, query_id: str | None) -> str | None:
    """Wait for the end of a background query that does not succeed, and return the server's words about it."""
    path = f"/api/projects/1/query/{query_id}/"
    with pytest.raises(QueryError) as caught:
        until(lambda: observer.request(path)["query_status"]["complete"])
    return caught.value.detail


def is_admitted(client: PostHogClient) -> bool:
    try:
        return bool(client.query("SELECT 1 AS one"))
    except RateLimitError:
        return False


class Leaping(SystemClock):
    """A clock that leaps an hour ahead whenever somebody sleeps."""

    __slots__ = ("ahead",)

    def __init__(self) -> None:
        self.ahead = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead

    def sleep(self, seconds: float) -> None:
        self.ahead += 3600.0


class Interrupting(SystemClock):
    """A clock whose user presses Ctrl-C during the first sleep."""

    __slots__ = ()

    def sleep(self, seconds: float) -> None:
        raise KeyboardInterrupt


class Acting(SystemClock):
    """A clock that does something instead of sleeping, and remembers for how long it was to sleep."""

    __slots__ = ("act", "sleeps")

    def __init__(self, act: Callable[[], Any]) -> None:
        self.act = act
        self.sleeps: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.act()


# Slow queries -------------------------------------------------------------------------------------------------------


def test_a_query_too_slow_for_a_blocking_answer_goes_on_in_the_background(
    connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    client = connect("impatient")
    with caplog.at_level(logging.WARNING):
        rows = client.query(SLOW)

    assert rows == [{"n": 400_000_000}]
    assert (rows.columns, rows.types, rows.truncated) == (["n"], ["UInt64"], False)
    assert "retry as asynchronous" in caplog.text
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
    status = client.request(f"/api/projects/1/query/{rows.query_id}/")["query_status"]
    assert (status["complete"], status["error"]) == (True, False)


def test_a_query_that_fails_in_the_background_is_an_error_in_the_servers_words(
    connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING), pytest.raises(QueryError, match="Division by zero") as caught:
        connect("impatient").query(FAILS_LATE)

    assert caught.value.status == 400
    assert "retry as asynchronous" in caplog.text


def test_a_query_too_slow_even_for_the_background_is_a_query_error_that_says_so(connect: Connect) -> None:
    with pytest.raises(QueryError, match="max execution time"):
        connect("strict").query(ENDLESS)


def test_a_slow_query_with_one_try_is_a_time_out_of_the_query(connect: Connect) -> None:
    client = connect("impatient", max_retries=1)
    with pytest.raises(QueryTimeoutError) as caught:
        client.query(ENDLESS)

    assert (caught.value.status, caught.value.attempts) == (504, 1)
    assert client.circuit_breaker.state == "closed"
    assert client.query("SELECT 1 AS one") == [{"one": 1}]


# Cancelling ---------------------------------------------------------------------------------------------------------


def test_a_blocking_query_stops_in_the_engine_when_its_time_is_up(connect: Connect) -> None:
    observer = connect("patient")
    with pytest.raises(TimeoutError) as caught:
        connect("patient").query(ENDLESS, total_timeout=0.3)

    assert caught.value.query_id
    until(lambda: not is_running(observer, caught.value.query_id))


def test_a_background_query_stops_in_the_engine_when_its_time_is_up(connect: Connect) -> None:
    with pytest.raises(TimeoutError) as caught:
        connect("impatient", clock=Leaping()).query(ENDLESS)

    assert how_it_ended(connect("impatient"), caught.value.query_id) == "Query was cancelled."


def test_a_background_query_stops_when_the_clients_own_limit_keeps_it_from_asking_on(connect: Connect) -> None:
    with pytest.raises(RateLimitError, match="not sent") as caught:
        connect("impatient", rate_limit_per_minute=3).query(ENDLESS, total_timeout=20)

    assert how_it_ended(connect("impatient"), caught.value.query_id) == "Query was cancelled."


def test_ctrl_c_stops_a_blocking_query_in_the_engine(connect: Connect, caplog: pytest.LogCaptureFixture) -> None:
    observer = connect("patient")

    def query_ids() -> list[str]:
        found = (record for record in caplog.records if getattr(record, "method", "") == "POST")
        return [record.query_id for record in found if "attempt 1" in record.getMessage()]  # type: ignore[attr-defined]

    def press() -> None:
        until(lambda: query_ids() and is_running(observer, query_ids()[0]))
        os.kill(os.getpid(), signal.SIGINT)

    presser = threading.Thread(target=press)
    with caplog.at_level(logging.DEBUG, "posthog_driver.transport"):
        client = connect("patient")
        presser.start()
        with pytest.raises(KeyboardInterrupt):
            client.query(ENDLESS)
    presser.join(HANG)

    until(lambda: not is_running(observer, query_ids()[0]))
    assert client.query("SELECT 1 AS one") == [{"one": 1}]


def test_ctrl_c_between_two_polls_stops_a_background_query(connect: Connect, caplog: pytest.LogCaptureFixture) -> None:
    client, observer = connect("impatient", clock=Interrupting()), connect("impatient")
    with caplog.at_level(logging.INFO, "posthog_driver.transport"), pytest.raises(KeyboardInterrupt):
        client.query(ENDLESS)
    started = next(record for record in caplog.records if getattr(record, "status_code", None) == 202)
    query_id = started.query_id  # type: ignore[attr-defined]

    assert how_it_ended(observer, query_id) == "Query was cancelled."


def test_a_query_that_nobody_knows_cannot_be_asked_for(connect: Connect) -> None:
    with pytest.raises(ObjectNotFoundError):
        connect("patient").request("/api/projects/1/query/unknown/")


# Limits -------------------------------------------------------------------------------------------------------------


def test_the_gate_keeps_a_crowd_below_the_servers_three_queries(
    connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    client = connect("gate", rate_limit_per_minute=10_000, rate_limit_per_hour=100_000)
    with caplog.at_level(logging.WARNING), ThreadPoolExecutor(12) as threads:
        answers = list(threads.map(lambda n: client.query(f"SELECT {n} AS n, count() AS e FROM events"), range(48)))

    assert answers == [[{"n": number, "e": 1_000}] for number in range(48)]
    assert caplog.records == []


def test_a_fourth_query_is_tried_again_until_there_is_room(connect: Connect) -> None:
    observer = connect("gate")
    path = "/api/projects/1/query/"
    running = ["first", "second", "third"]
    query = {"kind": "HogQLQuery", "query": ENDLESS}
    body = {"query": query, "refresh": "force_blocking"}

    def ask(query_id: str) -> None:
        with pytest.raises(QueryError, match="cancelled"):
            observer.request(path, "POST", json={**body, "client_query_id": query_id})

    def make_room() -> None:
        for query_id in running:
            observer.request(f"{path}{query_id}/", "DELETE")
        until(lambda: not any(is_running(observer, query_id) for query_id in running))

    clock = Acting(make_room)
    with ThreadPoolExecutor(3) as threads:
        asked = [threads.submit(ask, query_id) for query_id in running]
        until(lambda: all(is_running(observer, query_id) for query_id in running))
        assert connect("gate", clock=clock).query("SELECT 1 AS one", fresh=True) == [{"one": 1}]
        for future in asked:
            future.result(HANG)
    assert len(clock.sleeps) == 1
    assert 1.0 <= clock.sleeps[0] <= 2.0


def test_a_throttled_query_waits_as_long_as_posthog_asks_and_then_has_its_answer(connect: Connect) -> None:
    observer = connect("few", max_retries=1)
    clock = Acting(lambda: until(lambda: is_admitted(observer)))
    client = connect("few", clock=clock)
    observer.rate_limiter = client.rate_limiter = None

    rows = [client.query("SELECT 1 AS one") for _ in range(6)]
    assert rows == [[{"one": 1}]] * 6
    assert clock.sleeps
    assert all(seconds >= 1.0 for seconds in clock.sleeps)


def test_the_limits_of_the_cloud_are_kept_by_the_client_and_told_by_the_server() -> None:
    with LocalPostHog(events=0, limits="cloud") as local:
        with local.client() as client:
            assert all(client.query("SELECT 1 AS one") for _ in range(240))
            with pytest.raises(RateLimitError, match="not sent") as own:
                client.query("SELECT 1 AS one", total_timeout=5)
        clock = FakeClock()
        with local.client(clock=clock) as other:
            with pytest.raises(RateLimitError, match="Request was throttled") as theirs:
                other.query("SELECT 1 AS one")
            waits = list(clock.sleeps)
            assert other.circuit_breaker.state == "closed"
            assert other.health_check() is True

    assert 0 < (own.value.retry_after or 0) <= 60
    assert (theirs.value.status, theirs.value.attempts) == (429, 3)
    assert 0 < (theirs.value.retry_after or 0) <= 60
    assert len(waits) == 2
    assert all(seconds >= 1 for seconds in waits)


# Threads and forks --------------------------------------------------------------------------------------------------


def test_many_threads_share_one_client_and_get_each_their_own_rows(local_posthog: LocalPostHog) -> None:
    counts = local_posthog.truth["event_counts"]
    names = [sorted(counts)[number % len(counts)] for number in range(96)]
    hogql = "SELECT {n} AS n, {e} AS e, count() AS c FROM events WHERE event = {e}"
    with local_posthog.client() as client, ThreadPoolExecutor(32) as threads:
        answers = list(threads.map(lambda n: client.query(hogql, {"n": n, "e": names[n]}), range(96)))

    assert answers == [[{"n": n, "e": name, "c": counts[name]}] for n, name in enumerate(names)]
    assert len({rows.query_id for rows in answers}) == 96


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform cannot fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")
def test_a_forked_child_and_its_parent_go_on_with_the_same_client(local_posthog: LocalPostHog) -> None:
    with local_posthog.client() as client:
        assert client.query("SELECT 'parent' AS who") == [{"who": "parent"}]
        child = os.fork()
        if child == 0:
            signal.alarm(30)
            status = 1
            try:
                rows = [client.query(f"SELECT {n} AS n") for n in range(20)]
                status = 0 if rows == [[{"n": n}] for n in range(20)] else 2
            finally:
                os._exit(status)
        rows = [client.query(f"SELECT {-n} AS n") for n in range(20)]
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert rows == [[{"n": -n}] for n in range(20)]


# A project elsewhere ------------------------------------------------------------------------------------------------


def moment(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text.replace("Z", "+00:00"))


def test_moments_mean_the_same_in_a_project_of_another_time_zone(connect: Connect) -> None:
    here, abroad = connect("patient"), connect("abroad")
    hogql = "SELECT uuid, timestamp FROM events ORDER BY timestamp, uuid LIMIT 1000"
    rows, rows_abroad = here.query(hogql), abroad.query(hogql)

    assert (rows.info.timezone, rows_abroad.info.timezone) == ("UTC", "America/New_York")
    assert rows_abroad[0]["timestamp"].endswith(("-04:00", "-05:00"))
    assert [(row["uuid"], moment(row["timestamp"])) for row in rows_abroad] == [
        (row["uuid"], moment(row["timestamp"])) for row in rows
    ]
    middle, late = moment(rows[300]["timestamp"]), moment(rows_abroad[700]["timestamp"])
    for since, before in ((middle, late), (rows_abroad[300]["timestamp"], late.replace(tzinfo=None) + _offset(late))):
        found = [row["uuid"] for row in abroad.export_events(since, before)]
        assert found == [row["uuid"] for row in here.export_events(middle, late)]
    assert len(abroad.get_events(after=middle, before=late, limit=1_000)) == len(
        here.get_events(after=middle, before=late, limit=1_000)
    )


def _offset(moment: dt.datetime) -> dt.timedelta:
    """What to add to its clock's reading to have UTC's."""
    return -(moment.utcoffset() or dt.timedelta())


def test_days_and_texts_are_read_in_the_projects_time_zone_but_naive_datetimes_in_utc(connect: Connect) -> None:
    abroad = connect("abroad")
    rows = abroad.query("SELECT timestamp, toDate(timestamp) AS day FROM events ORDER BY timestamp LIMIT 1000")
    (row,) = abroad.query(
        "SELECT toDateTime({text}) AS text, toDateTime({naive}) AS naive, toDateTime({aware}) AS aware",
        {
            "text": "2026-01-02 03:04:05",
            "naive": dt.datetime(2026, 1, 2, 3, 4, 5),
            "aware": dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.timezone(dt.timedelta(hours=1))),
        },
    )

    assert all(row["timestamp"].startswith(row["day"]) for row in rows)
    assert moment(row["text"]) == moment("2026-01-02T03:04:05-05:00")
    assert moment(row["naive"]) == moment("2026-01-02T03:04:05Z")
    assert moment(row["aware"]) == moment("2026-01-02T02:04:05Z")


if __name__ == "__main__":
    _serve()
