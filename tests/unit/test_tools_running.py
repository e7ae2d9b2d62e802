"""Three at once, first come first served; and a cancelled query is cancelled in PostHog."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from posthog_driver.logging_config import correlation_id, get_correlation_id
from posthog_driver.testing import FakeClock
from posthog_driver.tools.budget import Budget, BudgetError, Ledger
from posthog_driver.tools.running import Cancelled, Pool, Run, WatchedClient, wait_for

PATIENCE = 20.0
Work = Callable[[Run[Any]], Any]


class Server:
    """Queries that run until they are let go, or cancelled."""

    def __init__(self) -> None:
        self.started = threading.Semaphore(0)
        self.cancelled: list[str] = []
        self.known: set[str] = set()
        self._over: dict[str, threading.Event] = {}

    def query(self, text: str, *, query_id: str) -> str:
        self.known.add(query_id)
        self._over[query_id] = threading.Event()
        self.started.release()
        assert self._over[query_id].wait(PATIENCE)
        return text

    def cancel(self, query_id: str) -> bool:
        self.cancelled.append(query_id)
        if query_id in self.known:
            self.let_go(query_id)
        return query_id in self.known

    def let_go(self, query_id: str) -> None:
        self._over[query_id].set()

    def let_all_go(self) -> None:
        for query_id in list(self._over):
            self.let_go(query_id)

    def wait_for_queries(self, number: int) -> None:
        for _ in range(number):
            assert self.started.acquire(timeout=PATIENCE)


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def pool(server: Server, fake_clock: FakeClock) -> Iterator[Pool[Any]]:
    pool: Pool[Any] = Pool(3, fake_clock, server.cancel)
    yield pool
    server.let_all_go()
    pool.close(PATIENCE)


def watched(server: Any, clock: FakeClock, **limits: Any) -> WatchedClient:
    return WatchedClient(server, Ledger(Budget(**limits)), clock)


def querying(client: WatchedClient, text: str = "rows") -> Work:
    def work(run: Run[Any]) -> Any:
        with client.serving(run):
            return client.query(text)

    return work


def finish(run: Run[Any]) -> Any:
    assert run.wait(PATIENCE)
    return run.outcome


def test_a_run_ends_with_what_its_work_returns(pool: Pool[Any], fake_clock: FakeClock) -> None:
    run: Run[Any] = Run("q1", lambda run: run.handle, 0.0)
    pool.start(run)

    assert finish(run) == "q1"
    assert run.finished == fake_clock.monotonic()
    assert run.error is None


@pytest.mark.parametrize("error", [ValueError("a bug"), SystemExit(1), KeyboardInterrupt()])
def test_a_run_ends_with_what_its_work_raises(pool: Pool[Any], error: BaseException) -> None:
    def work(_run: Run[Any]) -> None:
        raise error

    run: Run[Any] = Run("q1", work, 0.0)
    pool.start(run)

    assert finish(run) is None
    assert run.error is error


def test_a_run_keeps_the_correlation_id_of_its_caller(pool: Pool[Any]) -> None:
    run: Run[Any] = Run("q1", lambda _run: get_correlation_id(), 0.0)
    with correlation_id("mine"):
        pool.start(run)

    assert finish(run) == "mine"


def test_three_run_at_once_and_the_others_wait_in_line(pool: Pool[Any], server: Server, fake_clock: FakeClock) -> None:
    client = watched(server, fake_clock)
    runs: list[Run[Any]] = [Run(f"q{number}", querying(client, str(number)), 0.0) for number in range(5)]
    for run in runs:
        pool.start(run)
    server.wait_for_queries(3)

    assert pool.line == 2
    assert [pool.is_in_line(run) for run in runs] == [False, False, False, True, True]
    assert len(server.known) == 3

    assert runs[1].query_id is not None
    server.let_go(runs[1].query_id)
    server.wait_for_queries(1)

    assert [pool.is_in_line(run) for run in runs] == [False, False, False, False, True]

    assert runs[0].query_id is not None
    server.let_go(runs[0].query_id)
    server.wait_for_queries(1)
    server.let_all_go()

    assert [finish(run) for run in runs] == ["0", "1", "2", "3", "4"]


def test_a_cancelled_run_is_cancelled_in_posthog_by_its_id(
    pool: Pool[Any], server: Server, fake_clock: FakeClock
) -> None:
    run: Run[Any] = Run("q1", querying(watched(server, fake_clock)), 0.0)
    pool.start(run)
    server.wait_for_queries(1)

    for thread in pool.cancel(run):
        thread.join(PATIENCE)

    assert server.cancelled == [run.query_id]
    assert run.is_cancelled
    assert run.wait(PATIENCE)


def test_a_cancellation_that_overtakes_its_query_is_sent_again(fake_clock: FakeClock) -> None:
    known, sent = threading.Event(), threading.Semaphore(0)
    answers = iter([False, False, True])

    def cancel(_query_id: str) -> bool:
        found = next(answers)
        sent.release()
        if found:
            known.set()
        return found

    pool: Pool[Any] = Pool(1, fake_clock, cancel)
    started = threading.Event()

    def work(run: Run[Any]) -> None:
        with run.sending("early"):
            started.set()
            assert known.wait(PATIENCE)

    run: Run[Any] = Run("q1", work, 0.0)
    pool.start(run)
    assert started.wait(PATIENCE)
    pool.cancel(run)

    assert all(sent.acquire(timeout=PATIENCE) for _ in range(3))
    assert run.wait(PATIENCE)


def test_a_cancellation_that_cannot_be_sent_is_logged_without_secrets(
    fake_clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    let_go, started = threading.Event(), threading.Event()

    def cancel(_query_id: str) -> bool:
        raise OSError("no route with phx_abcdefghij123456")

    def work(run: Run[Any]) -> None:
        with run.sending("id"):
            started.set()
            assert let_go.wait(PATIENCE)

    pool: Pool[Any] = Pool(1, fake_clock, cancel)
    run: Run[Any] = Run("q1", work, 0.0)
    pool.start(run)
    assert started.wait(PATIENCE)
    for thread in pool.cancel(run):
        thread.join(PATIENCE)
    let_go.set()

    assert "query id could not be cancelled: OSError: no route with phx_ab...56" in caplog.text
    assert run.wait(PATIENCE)


def test_a_run_that_is_cancelled_in_line_never_begins(pool: Pool[Any], server: Server, fake_clock: FakeClock) -> None:
    client = watched(server, fake_clock)
    runs: list[Run[Any]] = [Run(f"q{number}", querying(client), 0.0) for number in range(4)]
    for run in runs:
        pool.start(run)
    server.wait_for_queries(3)

    assert pool.cancel(runs[3]) == []
    assert runs[3].wait(0)
    assert isinstance(runs[3].error, Cancelled)
    assert pool.line == 0
    assert server.cancelled == []


def test_a_cancelled_run_sends_nothing_more(server: Server, fake_clock: FakeClock) -> None:
    client = watched(server, fake_clock)
    run: Run[Any] = Run("q1", querying(client), 0.0)
    run.cancel()

    with client.serving(run), pytest.raises(Cancelled):
        client.query("rows")
    assert server.known == set()


def test_closing_cancels_everything_and_takes_nothing_more(server: Server, fake_clock: FakeClock) -> None:
    pool: Pool[Any] = Pool(1, fake_clock, server.cancel)
    client = watched(server, fake_clock)
    running, waiting = (Run[Any](f"q{number}", querying(client), 0.0) for number in range(2))
    pool.start(running)
    pool.start(waiting)
    server.wait_for_queries(1)

    pool.close(PATIENCE)

    assert server.cancelled == [running.query_id]
    assert isinstance(waiting.error, Cancelled)
    with pytest.raises(Cancelled, match="closed"):
        pool.start(Run("q3", querying(client), 0.0))
    assert running.wait(PATIENCE)


def test_a_thread_that_cannot_start_ends_its_run(fake_clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    pool: Pool[Any] = Pool(1, fake_clock, lambda _query_id: True)
    run: Run[Any] = Run("q1", lambda _run: None, 0.0)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    pool.start(run)

    assert run.wait(0)
    assert isinstance(run.error, RuntimeError)


# Waiting --------------------------------------------------------------------------------------------------------------


def test_waiting_ends_with_the_run(fake_clock: FakeClock) -> None:
    run: Run[Any] = Run("q1", lambda _run: None, 0.0)
    run.end(0.0, "done")

    assert wait_for(run, fake_clock, fake_clock.monotonic())


def test_waiting_ends_when_its_moment_has_come(fake_clock: FakeClock) -> None:
    assert not wait_for(Run("q1", lambda _run: None, 0.0), fake_clock, fake_clock.monotonic())


def test_waiting_ends_when_the_event_is_set(fake_clock: FakeClock) -> None:
    cancel = threading.Event()
    cancel.set()

    assert not wait_for(Run("q1", lambda _run: None, 0.0), fake_clock, float("inf"), cancel)


def test_waiting_ends_when_the_run_is_cancelled(fake_clock: FakeClock) -> None:
    run: Run[Any] = Run("q1", lambda _run: None, 0.0)
    run.cancel()

    assert not wait_for(run, fake_clock, float("inf"))


def test_only_the_last_to_leave_is_told_that_nobody_waits() -> None:
    run: Run[Any] = Run("q1", lambda _run: None, 0.0)
    run.join()
    run.join()

    assert [run.leave(), run.leave()] == [False, True]


# The client that is watched -------------------------------------------------------------------------------------------


class Recorder:
    project_id = "1"

    def __init__(self, clock: FakeClock) -> None:
        self.calls: list[tuple[str, Any, dict[str, Any]]] = []
        self._clock = clock

    def __getattr__(self, name: str) -> Any:
        def called(*arguments: Any, **options: Any) -> str:
            self.calls.append((name, arguments, options))
            self._clock.advance(2.0)
            return name

        return called


@pytest.mark.parametrize("method", ["query", "ask", "trends", "funnel", "retention"])
def test_each_query_has_an_id_and_is_counted_and_timed(method: str, fake_clock: FakeClock) -> None:
    recorder = Recorder(fake_clock)
    ledger = Ledger(Budget())
    client = WatchedClient(recorder, ledger, fake_clock)  # type: ignore[arg-type]

    assert getattr(client, method)("what", limit=1) == method

    ((name, arguments, options),) = recorder.calls
    assert (name, arguments, options["limit"]) == (method, ("what",), 1)
    assert len(options["query_id"]) == 36
    assert ledger.spent[:2] == (1, 2.0)


def test_an_id_that_is_given_is_used(fake_clock: FakeClock) -> None:
    recorder = Recorder(fake_clock)
    watched(recorder, fake_clock).query("x", query_id="mine")

    assert recorder.calls[0][2] == {"query_id": "mine"}


def test_a_query_beyond_the_budget_is_not_sent(fake_clock: FakeClock) -> None:
    recorder = Recorder(fake_clock)
    client = watched(recorder, fake_clock, queries=0)

    with pytest.raises(BudgetError):
        client.query("x")
    assert recorder.calls == []


def test_what_is_no_query_goes_to_the_client_as_it_is(fake_clock: FakeClock) -> None:
    recorder = Recorder(fake_clock)
    client = watched(recorder, fake_clock, queries=0)

    assert client.project_id == "1"
    assert client.list_objects(refresh=True) == "list_objects"
    assert recorder.calls == [("list_objects", (), {"refresh": True})]


def test_queries_of_other_threads_are_not_those_of_the_run(server: Server, fake_clock: FakeClock) -> None:
    recorder = Recorder(fake_clock)
    client = watched(recorder, fake_clock)
    run: Run[Any] = Run("q1", lambda _run: None, 0.0)
    with client.serving(run):
        thread = threading.Thread(target=client.query, args=("x",))
        thread.start()
        thread.join()

    assert run.query_id is None
    assert len(recorder.calls) == 1
