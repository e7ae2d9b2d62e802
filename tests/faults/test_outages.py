"""Outages: the breaker opens, probes one at a time, and is not fooled by callers, clocks or late answers."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from posthog_driver.circuit_breaker import CircuitState
from posthog_driver.exceptions import CircuitBreakerOpen, PostHogError, QueryError, RateLimitError
from posthog_driver.testing import (
    FakeClock,
    FaultServer,
    Received,
    Reply,
    StubAdapter,
    answer,
    error_body,
    hang_up,
    query_answer,
    reset,
    silence,
)

ROWS = query_answer([[1]], ["n"])
OK = answer(200, ROWS)
DOWN = answer(503, error_body(503, "Down"))
YEAR = 365 * 86_400.0


class Held:
    """A step that answers only once it is let go; ``arrived`` tells that the request is there."""

    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        self.arrived = threading.Event()
        self.go = threading.Event()

    def __call__(self, _: Received) -> Reply:
        self.arrived.set()
        assert self.go.wait(30)
        return self.reply


@pytest.fixture
def hold(fault_server: FaultServer) -> Iterator[Callable[[Reply], Held]]:
    """Make held steps, which a test that fails does not leave behind."""
    made: list[Held] = []

    def make(reply: Reply) -> Held:
        made.append(Held(reply))
        return made[-1]

    yield make
    for step in made:
        step.go.set()


def in_thread(action: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    """Start a thread; the list gets what the action returns or raises."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append(action())
        except PostHogError as error:
            outcome.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, outcome


def break_circuit(client: Any, server: FaultServer) -> None:
    server.then(*[DOWN] * 5)
    for _ in range(5):
        with contextlib.suppress(PostHogError):
            client.query("SELECT 1")
    assert client.circuit_breaker.state == CircuitState.OPEN


@pytest.mark.parametrize("fault", [reset(), hang_up(), DOWN], ids=["reset", "closed", "503"])
def test_a_dead_server_is_left_alone_after_a_few_attempts(
    fault: Reply, connect: Any, fails: Any, fault_server: FaultServer
) -> None:
    client = connect(max_retries=3)
    fault_server.default = fault
    for _ in range(50):
        with fails():
            client.query("SELECT 1")
    assert len(fault_server.requests) <= 24
    with fails(CircuitBreakerOpen) as caught:
        client.query("SELECT 1")
    assert 0 < (caught.value.retry_after or 0) <= 60


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 504, 512, 513])
def test_callers_errors_and_heavy_queries_do_not_open_the_circuit(
    status: int, connect: Any, fails: Any, fault_server: FaultServer
) -> None:
    client = connect(max_retries=1)
    fault_server.default = answer(status, error_body(status, "No"))
    for _ in range(20):
        with fails():
            client.query("SELECT 1")
    assert client.circuit_breaker.state == CircuitState.CLOSED
    fault_server.default = OK
    assert client.query("SELECT 1") == [{"n": 1}]


def test_waits_that_end_on_this_side_do_not_open_the_circuit(
    connect: Any, hold: Any, fails: Any, fault_server: FaultServer
) -> None:
    client = connect(max_retries=1, max_concurrent=1)
    long = hold(OK)
    fault_server.then(long)
    thread, _ = in_thread(lambda: client.query("SELECT 1"))
    assert long.arrived.wait(30)
    for _ in range(10):
        with fails(RateLimitError, match="was not sent"):
            client.query("SELECT 1")
    long.go.set()
    thread.join(30)
    assert client.circuit_breaker.state == CircuitState.CLOSED
    assert len(fault_server.requests) == 1


def test_too_many_requests_do_not_open_the_circuit(connect: Any, fails: Any, fault_server: FaultServer) -> None:
    client = connect(max_retries=1)
    fault_server.default = answer(429, error_body(429, "Slow down"))
    for _ in range(20):
        with fails():
            client.query("SELECT 1")
    assert client.circuit_breaker.state == CircuitState.CLOSED


def test_a_probe_that_is_refused_as_the_caller_s_fault_closes_the_circuit(
    connect: Any, fails: Any, fault_server: FaultServer, fake_clock: FakeClock
) -> None:
    client = connect(max_retries=1)
    break_circuit(client, fault_server)
    fake_clock.advance(61)
    fault_server.then((400, error_body(400, "Unknown table")), OK)
    with fails(QueryError):
        client.query("SELECT * FROM nowhere")
    assert client.query("SELECT 1") == [{"n": 1}]
    assert client.circuit_breaker.state == CircuitState.CLOSED


def test_a_probe_that_fails_opens_the_circuit_for_another_break(
    connect: Any, fails: Any, fault_server: FaultServer, fake_clock: FakeClock
) -> None:
    client = connect(max_retries=1)
    break_circuit(client, fault_server)
    fake_clock.advance(61)
    fault_server.then(DOWN)
    with fails():
        client.query("SELECT 1")
    with fails(CircuitBreakerOpen):
        client.query("SELECT 1")
    fake_clock.advance(61)
    fault_server.then(OK)
    assert client.query("SELECT 1") == [{"n": 1}]


def test_of_many_threads_at_the_end_of_a_break_one_probes(
    connect: Any, hold: Any, fault_server: FaultServer, fake_clock: FakeClock
) -> None:
    client = connect(max_retries=1)
    break_circuit(client, fault_server)
    fake_clock.advance(61)
    probe = hold(OK)
    fault_server.then(probe)
    threads = [in_thread(lambda: client.query("SELECT 1")) for _ in range(32)]
    assert probe.arrived.wait(30)
    for thread, outcome in threads:
        if not outcome:
            thread.join(0.05)
    refused = [outcome[0] for _, outcome in threads if outcome]
    probe.go.set()
    for thread, _ in threads:
        thread.join(30)
    assert len(refused) == 31
    assert {type(error) for error in refused} == {CircuitBreakerOpen}
    assert [outcome[0] for _, outcome in threads if outcome[0] == [{"n": 1}]] == [[{"n": 1}]]
    assert len(fault_server.requests) == 6


def test_a_probe_that_never_reports_is_replaced_after_another_break(
    connect: Any, hold: Any, fault_server: FaultServer, fake_clock: FakeClock
) -> None:
    client = connect(max_retries=1)
    break_circuit(client, fault_server)
    fake_clock.advance(61)
    lost = hold(OK)
    fault_server.then(lost, OK)
    thread, _ = in_thread(lambda: client.query("SELECT 1"))
    assert lost.arrived.wait(30)
    fake_clock.advance(61)
    assert client.query("SELECT 1") == [{"n": 1}]
    lost.go.set()
    thread.join(30)


def test_a_success_from_before_the_break_does_not_close_the_circuit(
    connect: Any, hold: Any, fails: Any, fault_server: FaultServer
) -> None:
    client = connect(max_retries=1)
    late = hold(OK)
    fault_server.then(late)
    thread, outcome = in_thread(lambda: client.query("SELECT 1"))
    assert late.arrived.wait(30)
    break_circuit(client, fault_server)
    late.go.set()
    thread.join(30)
    assert outcome == [[{"n": 1}]]
    assert client.circuit_breaker.state == CircuitState.OPEN
    with fails(CircuitBreakerOpen):
        client.query("SELECT 1")


class TestAnInterrupt:
    def test_in_the_probe_is_raised_and_leaves_the_next_probe_possible(
        self, connect: Any, fault_server: FaultServer, fake_clock: FakeClock
    ) -> None:
        client = connect(max_retries=1)
        break_circuit(client, fault_server)
        fake_clock.advance(61)
        network = client.session.get_adapter(fault_server.url)
        StubAdapter(KeyboardInterrupt(), default=(200, {})).mount(client)
        with pytest.raises(KeyboardInterrupt):
            client.query("SELECT 1")
        client.session.mount("http://", network)
        fake_clock.advance(61)
        fault_server.then(OK)
        assert client.query("SELECT 1") == [{"n": 1}]

    def test_in_a_wait_is_raised_and_breaks_nothing(
        self, connect: Any, fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch, fake_clock: FakeClock
    ) -> None:
        def interrupted(_: float) -> None:
            raise KeyboardInterrupt

        client = connect()
        fault_server.then(DOWN, OK)
        monkeypatch.setattr(fake_clock, "sleep", interrupted)
        with pytest.raises(KeyboardInterrupt):
            client.query("SELECT 1")
        assert client.query("SELECT 1") == [{"n": 1}]

    @pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="the platform cannot signal a thread")
    def test_while_the_server_computes_cancels_the_query_there(self, connect: Any, fault_server: FaultServer) -> None:
        main = threading.main_thread().ident
        assert main is not None

        def interrupt(_: Received) -> Reply:
            signal.pthread_kill(main, signal.SIGINT)
            return silence()

        client = connect()
        fault_server.then(interrupt, OK)
        with pytest.raises(KeyboardInterrupt):
            client.query("SELECT 1")
        post, cancel = fault_server.requests
        assert (cancel.method, cancel.path) == ("DELETE", f"{post.path}{post.json['client_query_id']}/")
        assert client.query("SELECT 1") == [{"n": 1}]


@pytest.mark.parametrize("jump", [3_600.0, -3_600.0, YEAR, -YEAR])
def test_a_jump_of_the_wall_clock_moves_neither_breaker_nor_limiter(
    jump: float, connect: Any, fails: Any, fault_server: FaultServer, fake_clock: FakeClock
) -> None:
    client = connect(max_retries=1, rate_limit_per_minute=6)
    break_circuit(client, fault_server)
    assert client.rate_limiter.acquire()
    fake_clock.jump(jump)
    assert not client.rate_limiter.acquire()
    with fails(CircuitBreakerOpen):
        client.query("SELECT 1")
    fake_clock.advance(61)
    assert client.rate_limiter.acquire()
    fault_server.then(OK)
    assert client.query("SELECT 1") == [{"n": 1}]


@pytest.mark.parametrize("jump", [YEAR, -YEAR])
def test_a_jump_during_a_request_does_not_show_in_its_latency(
    jump: float,
    connect: Any,
    fault_server: FaultServer,
    fake_clock: FakeClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def jumping(_: Received) -> Reply:
        fake_clock.jump(jump)
        fake_clock.advance(0.25)
        return OK

    client = connect()
    fault_server.then(jumping)
    client.query("SELECT 1")
    latencies = [getattr(record, "latency_ms", None) for record in caplog.records]
    assert [latency for latency in latencies if latency is not None] == [pytest.approx(250)]
