"""One client under many threads, after a fork, and while somebody closes it."""

from __future__ import annotations

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from posthog_driver._clock import SystemClock
from posthog_driver.exceptions import PostHogError, TimeoutError
from posthog_driver.testing import FakeClock, FaultServer, Received, answer, query_answer

OK = answer(200, query_answer([[1]], ["n"]))
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform cannot fork")
forks = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")


def echo(request: Received) -> Any:
    """Answer with the query's own text, so that each caller can recognise its rows."""
    return 200, query_answer([[request.json["query"]["query"]]], ["text"])


def in_child(action: Any) -> int:
    """Run an action in a forked child, which no deadlock outlives; returns the child's exit status."""
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        status = 1
        try:
            status = 0 if action() else 2
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_many_threads_get_each_their_own_rows_side_by_side(connect: Any, fault_server: FaultServer) -> None:
    together = threading.Barrier(32)

    def side_by_side(request: Received) -> Any:
        together.wait(30)
        return echo(request)

    client = connect(max_concurrent=None)
    fault_server.default = side_by_side
    queries = [f"SELECT {n}" for n in range(96)]
    with ThreadPoolExecutor(32) as threads:
        answers = list(threads.map(client.query, queries))
    assert answers == [[{"text": query}] for query in queries]
    assert len(fault_server.requests) == 96
    assert fault_server.connections == 32


def test_no_more_queries_run_at_once_than_are_allowed(connect: Any, fault_server: FaultServer) -> None:
    running, most, lock = 0, 0, threading.Lock()

    def counting(request: Received) -> Any:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        try:
            return echo(request)
        finally:
            with lock:
                running -= 1

    client = connect(max_concurrent=3, clock=SystemClock())
    fault_server.default = counting
    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(client.query, [f"SELECT {n}" for n in range(48)]))
    assert len(answers) == 48
    assert most <= 3


def test_a_session_closed_under_threads_loses_no_answer(connect: Any, fault_server: FaultServer) -> None:
    client = connect()
    fault_server.default = echo
    strange: list[Any] = []
    rows = 0

    def work(number: int) -> None:
        nonlocal rows
        for step in range(10):
            query = f"SELECT {number}, {step}"
            try:
                if client.query(query) == [{"text": query}]:
                    rows += 1
                else:
                    strange.append(query)
            except PostHogError:
                pass

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        client.session.close()
        threads[0].join(0.001)
    assert strange == []
    assert rows > 0


@needs_fork
@forks
def test_a_forked_child_uses_a_connection_of_its_own(connect: Any, fault_server: FaultServer) -> None:
    client = connect()
    fault_server.default = echo
    client.query("SELECT 'parent'")
    assert in_child(lambda: client.query("SELECT 'child'") == [{"text": "SELECT 'child'"}]) == 0
    assert client.query("SELECT 'parent'") == [{"text": "SELECT 'parent'"}]
    assert [request.connection for request in fault_server.requests] == [1, 2, 1]


@needs_fork
@forks
def test_a_fork_while_another_thread_queries_leaves_the_child_able_to(connect: Any, fault_server: FaultServer) -> None:
    arrived, go = threading.Event(), threading.Event()

    def held(request: Received) -> Any:
        arrived.set()
        assert go.wait(30)
        return echo(request)

    client = connect(max_concurrent=1)
    fault_server.then(held)
    fault_server.default = echo
    thread = threading.Thread(target=client.query, args=("SELECT 1",))
    thread.start()
    assert arrived.wait(30)
    try:
        status = in_child(lambda: client.query("SELECT 2") == [{"text": "SELECT 2"}])
    finally:
        go.set()
        thread.join(30)
    assert status == 0


def test_many_threads_share_one_window(connect: Any, fake_clock: FakeClock) -> None:
    limiter = connect(rate_limit_per_minute=50).rate_limiter
    with ThreadPoolExecutor(32) as threads:
        granted = sum(threads.map(lambda _: limiter.acquire(), range(200)))
    assert granted == 50
    with pytest.raises(TimeoutError):
        limiter.wait_and_acquire(timeout=0)
    fake_clock.advance(59)
    assert not limiter.acquire()
    fake_clock.advance(2)
    assert limiter.acquire()
