"""All layers together on a real socket: a query with its log, retries, a breaker that opens and recovers, limits."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from posthog_driver.circuit_breaker import CircuitState
from posthog_driver.exceptions import (
    AuthenticationError,
    AuthorizationError,
    CircuitBreakerOpen,
    ConnectionError,
    ObjectNotFoundError,
    PostHogError,
    QueryError,
    RateLimitError,
    ServerError,
)
from posthog_driver.logging_config import StructuredFormatter, correlation_id
from posthog_driver.testing import FakeClock, FaultServer, Reply, answer, error_body, query_answer, reset

OK = answer(200, query_answer([["$pageview", 3]], ["event", "n"]))
ROWS = [{"event": "$pageview", "n": 3}]
HOGQL = "SELECT event, count() AS n FROM events WHERE event = {event} GROUP BY event"
DOWN = answer(503, error_body(503, "Down"))


@pytest.fixture
def records() -> Iterator[io.StringIO]:
    """What a structured log of the package at DEBUG would hold: one JSON object a line."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(StructuredFormatter())
    package = logging.getLogger("posthog_driver")
    package.addHandler(handler)
    yield stream
    package.removeHandler(handler)


def test_a_query_is_answered_and_its_log_tells_how(
    connect: Any, fault_server: FaultServer, records: io.StringIO
) -> None:
    client = connect()
    fault_server.then(OK)
    with correlation_id("report-7"):
        result = client.query(HOGQL, {"event": "$pageview"})
    assert result == ROWS
    lines = [json.loads(line) for line in records.getvalue().splitlines()]
    assert [line["level"] for line in lines] == ["DEBUG", "INFO"]
    done = lines[-1]
    assert (done["status_code"], done["attempt"], done["scope"]) == (200, 1, "query")
    assert done["query_id"] == result.query_id == fault_server.requests[0].json["client_query_id"]
    assert done["correlation_id"] == "report-7"
    assert "SELECT" not in json.dumps([line for line in lines if line["level"] != "DEBUG"])


@pytest.mark.parametrize("fault", [reset(), DOWN, answer(429, error_body(429, "Slow down"), {"Retry-After": "3"})])
def test_a_query_with_retry_and_logging(
    fault: Reply, connect: Any, fault_server: FaultServer, fake_clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    fault_server.then(fault, OK)
    result = connect().query("SELECT 1")
    assert result == ROWS
    assert len(fault_server.requests) == 2
    assert fault_server.requests[0].body == fault_server.requests[1].body
    assert len(fake_clock.sleeps) == 1
    assert "retry" in caplog.text
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "attempt 1/3, retry in" in warnings[0].getMessage()


def test_waits_double_and_end_with_the_last_attempt(
    connect: Any, fails: Any, fault_server: FaultServer, fake_clock: FakeClock
) -> None:
    fault_server.default = answer(500, error_body(500, "Oops"))
    client = connect(max_retries=5)
    with fails(ServerError, match="attempt 5 of 5"):
        client.query("SELECT 1")
    assert len(fake_clock.sleeps) == 4
    for ideal, real in zip((1, 2, 4, 8), fake_clock.sleeps, strict=True):
        assert ideal <= real <= ideal + 1


def test_errors_that_cascade_open_the_breaker_which_recovers_with_one_probe(
    connect: Any, fails: Any, fault_server: FaultServer, fake_clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    client = connect(max_retries=3)
    changes: list[tuple[str, str]] = []
    client.circuit_breaker.listeners.append(lambda _, old, new: changes.append((old.value, new.value)))
    fault_server.default = DOWN
    with fails(ServerError):
        client.query("SELECT 1")
    assert client.circuit_breaker.state == CircuitState.CLOSED
    with fails(CircuitBreakerOpen):  # its second attempt was the fifth failure
        client.get_cohorts()
    assert client.circuit_breaker.state == CircuitState.OPEN
    assert len(fault_server.requests) == 5
    for call in (lambda: client.query("SELECT 1"), client.get_cohorts, client.get_project_info):
        with fails(CircuitBreakerOpen, match="nothing was sent"):
            call()
    assert not client.health_check()
    assert "events" in client.list_objects()
    assert client.schema_source == "static"
    assert len(fault_server.requests) == 5
    assert "5 failures in a row" in caplog.text
    fault_server.default = OK
    fake_clock.advance(60)
    assert client.circuit_breaker.state == CircuitState.HALF_OPEN
    assert client.query("SELECT 1") == ROWS
    assert client.circuit_breaker.state == CircuitState.CLOSED
    assert changes == [("closed", "open"), ("open", "half_open"), ("half_open", "closed")]


def test_an_outage_of_the_app_does_not_keep_events_from_being_captured(
    connect: Any, fails: Any, fault_server: FaultServer
) -> None:
    client = connect(max_retries=5)
    fault_server.default = DOWN
    with fails(ServerError):
        client.query("SELECT 1")
    fault_server.default = answer(200, {"status": "Ok"})
    assert client.circuit_breaker.is_open()
    assert client.capture_event("signed up", "user 1") == {"status": "Ok"}


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, QueryError), (401, AuthenticationError), (403, AuthorizationError), (404, ObjectNotFoundError)],
)
def test_errors_that_need_a_person_come_at_once_with_the_server_s_words(
    status: int, kind: type[PostHogError], connect: Any, fails: Any, fault_server: FaultServer, fake_clock: FakeClock
) -> None:
    fault_server.default = answer(status, error_body(status, "The reason why"))
    client = connect()
    for call in (lambda: client.query("SELECT 1"), client.get_cohorts, lambda: client.create_cohort("x")):
        with fails(kind, match="The reason why") as caught:
            call()
        assert (caught.value.status, caught.value.attempts) == (status, 1)
    assert fake_clock.sleeps == []
    assert client.circuit_breaker.failure_count == 0


def test_a_server_that_is_gone_is_a_connection_error_with_advice(
    connect: Any, fails: Any, fault_server: FaultServer
) -> None:
    client = connect(max_retries=2)
    fault_server.close()
    with fails(ConnectionError, match="Check api_url") as caught:
        client.query("SELECT 1")
    assert caught.value.attempts == 2
    assert type(caught.value) is ConnectionError


class TestRateLimiting:
    def test_spreads_queries_over_the_window(
        self, connect: Any, fault_server: FaultServer, fake_clock: FakeClock
    ) -> None:
        client = connect(rate_limit_per_minute=3, rate_limit_per_hour=7)
        fault_server.default = OK
        started = fake_clock.monotonic()
        times = []
        for _ in range(7):
            client.query("SELECT 1")
            times.append(fake_clock.monotonic() - started)
        assert times == [0, 0, 0, 60, 60, 60, 120]

    def test_counts_every_attempt_as_the_server_does(
        self, connect: Any, fault_server: FaultServer, fake_clock: FakeClock
    ) -> None:
        client = connect(rate_limit_per_minute=2)
        fault_server.then(DOWN, OK, OK)
        client.query("SELECT 1")
        assert client.rate_limiter.available == 0
        client.query("SELECT 1")
        assert fake_clock.monotonic() - 1_000 == pytest.approx(60)

    def test_that_would_outlast_the_call_is_an_error_at_once(
        self, connect: Any, fails: Any, fault_server: FaultServer, fake_clock: FakeClock
    ) -> None:
        client = connect(rate_limit_per_minute=1, rate_limit_per_hour=1)
        fault_server.default = OK
        client.query("SELECT 1")
        with fails(RateLimitError, match="this client's own limit") as caught:
            client.query("SELECT 1", total_timeout=100)
        assert caught.value.retry_after == 3_600
        assert fake_clock.sleeps == []
        assert len(fault_server.requests) == 1
        fault_server.default = answer(200, {"results": [], "next": None})
        assert client.get_cohorts() == []

    def test_by_the_server_is_obeyed_by_all_of_the_scope(
        self, connect: Any, fails: Any, fault_server: FaultServer, fake_clock: FakeClock
    ) -> None:
        client = connect(max_retries=1)
        fault_server.then(answer(429, error_body(429, "Slow down"), {"Retry-After": "30"}))
        fault_server.default = OK
        with fails(RateLimitError) as caught:
            client.query("SELECT 1")
        assert caught.value.retry_after == 30
        assert client.query("SELECT 1") == ROWS
        assert fake_clock.sleeps == [30]
