"""The embedded PostHog: HogQL over HTTP against SQL on the engine, and ten usual queries against the best SQL by hand.

``python -m benchmarks local`` measures one million events, ``python -m benchmarks local --events 10000000`` ten.
"""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from functools import partial
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.measure import Row, ratios, show
from posthog_driver import PostHogClient, PostHogConfig
from posthog_driver.local import LocalPostHog
from posthog_driver.local.engine import Engine
from posthog_driver.local.hot import MIN_QUERIES
from posthog_driver.local.queries import QuerySettings
from posthog_driver.local.server import build_server

KEY = "phx_bench"
EXTRA = (
    "chdb-core",
    "hogql-parser",
    "hogql-parser-rs",
    "pyarrow",
    "pandas",
    "numpy",
    "python-dateutil",
    "six",
    "tzdata",
)
UNORDERED = ("newest hundred events", "events by name", "top pages")
"""Queries whose order or choice among equals may differ between the two texts."""


class Question(NamedTuple):
    """A usual query, and the best SQL on the engine's own tables for the same answer."""

    title: str
    hogql: str
    sql: str


SINCE = "timestamp >= toDateTime('{since} 00:00:00')"
QUESTIONS = (
    Question(
        "events by name",
        "SELECT event, count() AS n FROM events GROUP BY event ORDER BY n DESC LIMIT 20",
        "SELECT event, count() AS n FROM posthog.events GROUP BY event ORDER BY n DESC LIMIT 20",
    ),
    Question(
        "daily people, 30 days",
        f"SELECT toDate(timestamp) AS day, uniq(person_id) AS people FROM events WHERE {SINCE} "
        "GROUP BY day ORDER BY day",
        f"SELECT toDate(timestamp) AS day, uniq(person_id) AS people FROM posthog.events WHERE {SINCE} "
        "GROUP BY day ORDER BY day",
    ),
    Question(
        "top pages",
        "SELECT properties.$pathname AS page, count() AS views FROM events WHERE event = '$pageview' "
        "GROUP BY page ORDER BY views DESC LIMIT 20",
        "SELECT `mat_$pathname` AS page, count() AS views FROM posthog.events WHERE event = '$pageview' "
        "GROUP BY page ORDER BY views DESC LIMIT 20",
    ),
    Question(
        "group by an own property",
        "SELECT properties.file_type AS type, count() AS n FROM events WHERE event = 'file_uploaded' "
        "GROUP BY type ORDER BY n DESC LIMIT 20",
        "SELECT mat_file_type AS type, count() AS n FROM posthog.events WHERE event = 'file_uploaded' "
        "GROUP BY type ORDER BY n DESC LIMIT 20",
    ),
    Question(
        "sum of a number",
        "SELECT toStartOfMonth(timestamp) AS month, sum(properties.amount_usd) AS usd FROM events "
        "WHERE event = 'invoice_paid' GROUP BY month ORDER BY month",
        "SELECT toStartOfMonth(timestamp) AS month, sum(toFloat64OrNull(mat_amount_usd)) AS usd "
        "FROM posthog.events WHERE event = 'invoice_paid' GROUP BY month ORDER BY month",
    ),
    Question(
        "people by their property",
        "SELECT person.properties.plan AS plan, uniq(person_id) AS people FROM events "
        "GROUP BY plan ORDER BY people DESC",
        "SELECT pmat_plan AS plan, uniq(person_id) AS people FROM posthog.events GROUP BY plan ORDER BY people DESC",
    ),
    Question(
        "funnel of four steps",
        "SELECT step, count() AS people FROM (SELECT person_id, windowFunnel(1209600)(toDateTime(timestamp), "
        "event = '$pageview', event = 'signed_up', event = 'file_uploaded', event = 'plan_upgraded') AS step "
        "FROM events WHERE event IN ('$pageview', 'signed_up', 'file_uploaded', 'plan_upgraded') "
        "GROUP BY person_id) GROUP BY step ORDER BY step",
        "SELECT step, count() AS people FROM (SELECT person_id, windowFunnel(1209600)(toDateTime(timestamp), "
        "event = '$pageview', event = 'signed_up', event = 'file_uploaded', event = 'plan_upgraded') AS step "
        "FROM posthog.events WHERE event IN ('$pageview', 'signed_up', 'file_uploaded', 'plan_upgraded') "
        "GROUP BY person_id) GROUP BY step ORDER BY step",
    ),
    Question(
        "newest hundred events",
        "SELECT uuid, event, timestamp, distinct_id FROM events ORDER BY timestamp DESC LIMIT 100",
        "SELECT uuid, event, timestamp, distinct_id FROM posthog.events ORDER BY timestamp DESC LIMIT 100",
    ),
    Question(
        "browsers of 30 days",
        f"SELECT properties.$browser AS browser, uniq(person_id) AS people FROM events WHERE {SINCE} "
        "AND event = '$pageview' GROUP BY browser ORDER BY people DESC",
        f"SELECT `mat_$browser` AS browser, uniq(person_id) AS people FROM posthog.events WHERE {SINCE} "
        "AND event = '$pageview' GROUP BY browser ORDER BY people DESC",
    ),
    Question(
        "sessions of 30 days",
        "SELECT count() AS sessions, avg($session_duration) AS seconds FROM sessions "
        "WHERE $start_timestamp >= toDateTime('{since} 00:00:00')",
        "SELECT count() AS sessions, avg(dateDiff('second', first, last)) AS seconds FROM (SELECT min(timestamp) AS "
        "first, max(timestamp) AS last FROM posthog.events WHERE `$session_id` != '' AND timestamp >= "
        "toDateTime('{since} 00:00:00') - INTERVAL 3 DAY GROUP BY `$session_id`) "
        "WHERE first >= toDateTime('{since} 00:00:00')",
    ),
)


@contextmanager
def in_process(events: int) -> Iterator[tuple[Engine, PostHogClient]]:
    """An embedded PostHog whose engine and client are both here, so that they can take turns on the same data."""
    from posthog_driver.local import demo

    directory = tempfile.mkdtemp(prefix="bench-local-")
    engine = Engine(directory)
    started = time.perf_counter()
    data = demo.load(engine, events=events, seed=0)
    print(f"  {events:,} events made in {time.perf_counter() - started:.1f} s")
    patient = QuerySettings(blocking_seconds=600.0)
    server = build_server(engine, data, personal_api_key=KEY, project_api_key="phc_bench", settings=patient)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    most = 10**9
    config = PostHogConfig(
        KEY, 1, api_url=server.url, timeout=600.0, rate_limit_per_minute=most, rate_limit_per_hour=most
    )
    try:
        with PostHogClient(config) as client:
            yield engine, client
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
        engine.close()
        shutil.rmtree(directory, ignore_errors=True)


def run(engine: Engine, sql: str) -> list[list[object]]:
    """Run SQL on the engine itself."""
    return engine.run(sql, query_id=uuid.uuid4().hex, max_execution_time=600.0).rows


def ask(client: PostHogClient, hogql: str) -> dict[str, Any]:
    """Ask over HTTP, past the cache; PostHog's answer as it is."""
    body = {"query": {"kind": "HogQLQuery", "query": hogql}, "refresh": "force_blocking"}
    return client.request("/api/projects/1/query/", "POST", json=body)


def warm(engine: Engine, client: PostHogClient, questions: Sequence[Question]) -> None:
    """Ask until the properties that are asked for have columns of their own; wait until the storage is at rest."""
    for question in questions:
        for _ in range(MIN_QUERIES + 1):
            ask(client, question.hogql)
    deadline = time.monotonic() + 600
    merges = "SELECT count() FROM system.merges"
    while time.monotonic() < deadline and (
        any(thread.name == "materialize" for thread in threading.enumerate()) or run(engine, merges) != [[0]]
    ):
        time.sleep(0.1)


def queries(events: int) -> None:
    """The ten queries: engine against the best SQL by hand, and HTTP against the engine."""
    since = (datetime.now(timezone.utc) - timedelta(days=30)).strftime("%Y-%m-%d")
    questions = [Question(q.title, *(text.replace("{since}", since) for text in (q.hogql, q.sql))) for q in QUESTIONS]
    rows, over, total, first = [], 0.0, 0.0, 0.0
    with in_process(events) as (engine, client):
        for question in questions:
            started = time.perf_counter()
            ask(client, question.hogql)
            first += time.perf_counter() - started
        warm(engine, client, questions)
        for question in questions:
            printed = str(ask(client, question.hogql)["clickhouse"])
            cases: dict[str, Callable[[], object]] = {
                "hand": partial(run, engine, question.sql),
                "engine": partial(run, engine, printed),
                "http": partial(ask, client, question.hogql),
            }
            assert sorted(map(str, run(engine, printed)), key=str) == sorted(
                map(str, run(engine, question.sql)), key=str
            ) or (question.title in UNORDERED), question.title
            found, seconds = ratios(cases, "hand", rounds=7, calls=3)
            above = (found["http"] - found["engine"]) * seconds * 1000
            over, total = max(over, above), total + found["http"] * seconds
            value = f"{found['engine']:.2f} ({seconds * 1000:.0f} ms by hand)"
            rows.append(Row(question.title, value, f"<= 1.20; HTTP adds {above:.1f} ms"))
        rows.append(Row("HTTP above the engine, most", f"{over:.1f} ms", "<= 10 ms or 1.2 times"))
        rows.append(Row("all ten over HTTP", f"{total:.2f} s ({first:.2f} s the first time)", ""))
        rows.append(Row("memory of the process", f"{_resident():.2f} GB", ""))
        ((stored,),) = run(engine, "SELECT sum(bytes_on_disk) FROM system.parts WHERE active AND database = 'posthog'")
        rows.append(Row("on disk, a million events", f"{float(str(stored)) / events:,.0f} MB", "<= 250 MB"))
    show(f"Ten queries, {events:,} events: HogQL on the engine against the best SQL by hand", rows)


def starts() -> None:
    """From nothing to the first answer with 100,000 events."""
    rows = []
    with tempfile.TemporaryDirectory() as cache:
        for title, goal in (("not cached", "< 5 s"), ("cached", "< 2 s")):
            taken = []
            for _ in range(1 if title == "not cached" else 3):
                started = time.perf_counter()
                with own_cache(cache), LocalPostHog(events=100_000) as local, local.client() as client:
                    client.query("SELECT count() FROM events")
                    taken.append(time.perf_counter() - started)
            rows.append(Row(title, f"{statistics.median(taken):.2f} s", goal))
    show("Start to first answer, 100,000 events", rows)


def ingest() -> None:
    """Events a second through the client and ``/batch/``."""
    events = [
        {
            "event": "order placed",
            "distinct_id": f"person {n % 500}",
            "properties": {"amount": n / 7, "plan": "pro" if n % 3 else "free", "$browser": "Firefox", "n": n},
        }
        for n in range(20_000)
    ]
    rows = []
    with LocalPostHog(events=0) as local, local.client() as client:
        for size in (1, 100, 1_000, 10_000):
            batches = [events[start : start + size] for start in range(0, min(len(events), size * 20), size)]
            started = time.perf_counter()
            for batch in batches:
                client.capture_batch(batch)
            seconds = time.perf_counter() - started
            rows.append(Row(f"{size:,} a request", f"{sum(map(len, batches)) / seconds:,.0f} events/s", ""))
    show("Ingest over HTTP", rows)


def size() -> None:
    """What the extra adds to an installation."""
    rows, total = [], 0
    for name in EXTRA:
        try:
            files = distribution(name).files or []
        except PackageNotFoundError:
            continue
        own = sum(Path(file.locate()).stat().st_size for file in files if Path(file.locate()).is_file())
        total += own
        rows.append(Row(name, f"{own / 1e6:,.0f} MB", ""))
    show("Installed size of the extra", [*rows, Row("all", f"{total / 1e6:,.0f} MB", "")])


@contextmanager
def own_cache(directory: str) -> Iterator[None]:
    """Demo data is kept in this directory meanwhile."""
    before = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = directory
    try:
        yield
    finally:
        if before is None:
            del os.environ["XDG_CACHE_HOME"]
        else:
            os.environ["XDG_CACHE_HOME"] = before


def _resident() -> float:
    """Gigabytes of memory that this process holds."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e9


def main(events: int = 1_000_000) -> None:
    queries(events)
    starts()
    ingest()
    size()


if __name__ == "__main__":
    main()
