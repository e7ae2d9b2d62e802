"""The circuit breaker: when it opens, what it admits while open, and which results count."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from posthog_driver import circuit_breaker
from posthog_driver.circuit_breaker import CircuitBreaker, CircuitState, Guard, Outcome
from posthog_driver.exceptions import CircuitBreakerOpen, ConfigurationError
from posthog_driver.testing import FakeClock

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN
HANG = 20  # seconds after which a test counts as hung


class RefusedError(Exception):
    """A caller's own mistake, as a 400 would be."""


def judge(error: BaseException) -> Outcome:
    if isinstance(error, RefusedError):
        return Outcome.SUCCESS
    return Outcome.FAILURE if isinstance(error, OSError) else Outcome.NEUTRAL


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def breaker(clock: FakeClock) -> CircuitBreaker:
    return CircuitBreaker(3, 60, name="test", clock=clock, classify=judge)


@pytest.fixture
def hostile_switching() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def fail(breaker: CircuitBreaker, times: int = 1) -> None:
    for _ in range(times):
        breaker.record_failure()


def raising(error: BaseException) -> Callable[[], None]:
    def func() -> None:
        raise error

    return func


def entered(breaker: CircuitBreaker) -> Guard:
    guard = breaker.guard()
    guard.__enter__()
    return guard


def leave(guard: Guard, error: BaseException | None = None) -> None:
    guard.__exit__(type(error) if error else None, error, None)


def fork() -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 and later warn of other tests' threads
        return os.fork()


def in_threads(count: int, work: Callable[[], Any]) -> list[Any]:
    """Run ``work`` in that many threads, started together, and return what it gave."""
    start, results = threading.Barrier(count), []

    def run() -> None:
        start.wait(HANG)
        results.append(work())

    threads = [threading.Thread(target=run, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(HANG)
    assert len(results) == count
    return results


# --- opening ----------------------------------------------------------------------------------------------


def test_a_new_breaker_is_closed_and_admits_calls() -> None:
    breaker = CircuitBreaker()
    assert (breaker.state, breaker.failure_count, breaker.retry_after) == (CLOSED, 0, 0.0)
    assert breaker.can_execute()
    assert not breaker.is_open()
    settings = (breaker.failure_threshold, breaker.recovery_timeout, breaker.name, breaker.success_threshold)
    assert settings == (5, 60, "api", 1)


def test_states_equal_their_texts() -> None:
    assert [f"{state}" for state in CircuitState] == ["closed", "open", "half_open"]
    assert CircuitState("half_open") == "half_open"


def test_it_opens_at_the_threshold_and_not_before(breaker: CircuitBreaker) -> None:
    fail(breaker, 2)
    assert (breaker.state, breaker.failure_count) == (CLOSED, 2)
    fail(breaker)
    assert (breaker.state, breaker.failure_count) == (OPEN, 3)
    assert breaker.is_open()
    assert not breaker.can_execute()


def test_a_success_in_between_starts_the_count_again(breaker: CircuitBreaker) -> None:
    fail(breaker, 2)
    breaker.record_success()
    fail(breaker, 2)
    assert (breaker.state, breaker.failure_count) == (CLOSED, 2)


def test_an_open_breaker_does_not_call_and_says_when_to_come_back(breaker: CircuitBreaker, clock: FakeClock) -> None:
    fail(breaker, 3)
    clock.advance(20)
    called: list[int] = []
    with pytest.raises(CircuitBreakerOpen, match=r"'test' is open after 3 failures.* due in 40\.0 s") as caught:
        breaker.call(called.append, 1)
    assert not called
    assert caught.value.retry_after == breaker.retry_after == 40
    with pytest.raises(CircuitBreakerOpen), breaker.guard():
        pytest.fail("the block must not run")


def test_call_passes_arguments_results_and_errors_through(breaker: CircuitBreaker) -> None:
    assert breaker.call(divmod, 7, 2) == (3, 1)
    assert breaker.call(int, "11", base=2) == 3
    error = OSError("gone")
    with pytest.raises(OSError, match="gone") as caught:
        breaker.call(raising(error))
    assert caught.value is error
    assert breaker.failure_count == 1


def test_failing_calls_and_guarded_blocks_open_it(breaker: CircuitBreaker) -> None:
    for _ in range(2):
        with pytest.raises(OSError, match="down"):
            breaker.call(raising(OSError("down")))
    with pytest.raises(OSError, match="down"), breaker.guard():
        raise OSError("down")
    assert breaker.state is OPEN


def test_a_good_call_or_block_starts_the_count_again(breaker: CircuitBreaker) -> None:
    fail(breaker, 2)
    breaker.call(len, "")
    fail(breaker, 2)
    with breaker.guard():
        pass
    assert (breaker.state, breaker.failure_count) == (CLOSED, 0)


def test_twenty_errors_of_the_caller_leave_it_closed(breaker: CircuitBreaker) -> None:
    for _ in range(20):
        with pytest.raises(RefusedError):
            breaker.call(raising(RefusedError()))
    assert (breaker.state, breaker.failure_count) == (CLOSED, 0)


def test_a_refusal_proves_that_the_server_lives_but_an_interrupt_proves_nothing(
    breaker: CircuitBreaker,
) -> None:
    fail(breaker, 2)
    with pytest.raises(KeyboardInterrupt):
        breaker.call(raising(KeyboardInterrupt()))
    assert breaker.failure_count == 2
    with pytest.raises(RefusedError):
        breaker.call(raising(RefusedError()))
    assert breaker.failure_count == 0


def test_by_default_exceptions_are_failures_and_interrupts_are_not() -> None:
    breaker = CircuitBreaker(2)
    for error in (KeyboardInterrupt(), SystemExit(), ValueError()):
        with pytest.raises(type(error)):
            breaker.call(raising(error))
    assert breaker.failure_count == 1


def test_a_closed_breaker_takes_no_lock_and_reads_no_clock() -> None:
    class BrokenClock(FakeClock):
        def monotonic(self) -> float:
            raise AssertionError("read the clock")

    breaker = CircuitBreaker(clock=BrokenClock())
    breaker._lock = None  # type: ignore[assignment]
    assert breaker.call(len, "abc") == 3
    with breaker.guard():
        assert breaker.can_execute()
    breaker.record_success()
    assert not breaker.is_open()


# --- probing ----------------------------------------------------------------------------------------------


def test_when_the_recovery_time_is_over_it_reads_half_open(breaker: CircuitBreaker, clock: FakeClock) -> None:
    fail(breaker, 3)
    clock.advance(59.75)
    assert (breaker.is_open(), breaker.state) == (True, OPEN)
    clock.advance(0.25)
    assert (breaker.is_open(), breaker.state, breaker.retry_after) == (False, HALF_OPEN, 0.0)


def test_only_one_probe_goes_at_a_time(breaker: CircuitBreaker, clock: FakeClock) -> None:
    fail(breaker, 3)
    clock.advance(60)
    assert breaker.can_execute()
    assert not breaker.can_execute()
    assert (breaker.state, breaker.is_open(), breaker.retry_after) == (HALF_OPEN, False, 60)
    with pytest.raises(CircuitBreakerOpen, match=r"a probe is under way, another is due in 60\.0 s"):
        breaker.call(len, "")


@pytest.mark.parametrize("report", ["call", "guard", "record", "record without asking"])
def test_a_good_probe_closes_it(breaker: CircuitBreaker, clock: FakeClock, report: str) -> None:
    fail(breaker, 3)
    clock.advance(60)
    if report == "call":
        breaker.call(len, "")
    elif report == "guard":
        leave(entered(breaker))
    else:
        assert report == "record without asking" or breaker.can_execute()
        breaker.record_success()
    assert (breaker.state, breaker.failure_count, breaker.can_execute()) == (CLOSED, 0, True)


@pytest.mark.parametrize("report", ["call", "record", "record without asking"])
def test_a_failed_probe_opens_it_for_another_recovery_time(
    breaker: CircuitBreaker, clock: FakeClock, report: str
) -> None:
    fail(breaker, 3)
    clock.advance(100)
    if report == "call":
        with pytest.raises(OSError, match="down"):
            breaker.call(raising(OSError("down")))
    else:
        assert report == "record without asking" or breaker.can_execute()
        breaker.record_failure()
    assert (breaker.state, breaker.retry_after, breaker.failure_count) == (OPEN, 60, 4)


def test_a_caller_error_as_the_probe_closes_it(breaker: CircuitBreaker, clock: FakeClock) -> None:
    fail(breaker, 3)
    clock.advance(60)
    with pytest.raises(RefusedError):
        breaker.call(raising(RefusedError()))
    assert breaker.state is CLOSED


def test_an_interrupted_probe_gives_its_permit_back_at_once(breaker: CircuitBreaker, clock: FakeClock) -> None:
    fail(breaker, 3)
    clock.advance(60)
    with pytest.raises(KeyboardInterrupt):
        breaker.call(raising(KeyboardInterrupt()))
    assert (breaker.state, breaker.retry_after) == (HALF_OPEN, 0.0)
    assert breaker.call(len, "abc") == 3
    assert breaker.state is CLOSED


def test_a_lost_probe_is_replaced_after_one_recovery_time_and_then_no_longer_counts(
    breaker: CircuitBreaker, clock: FakeClock
) -> None:
    fail(breaker, 3)
    clock.advance(60)
    lost = entered(breaker)
    clock.advance(59)
    assert not breaker.can_execute()
    clock.advance(1)
    probe = entered(breaker)
    leave(lost)
    assert (breaker.state, breaker.can_execute()) == (HALF_OPEN, False)
    leave(probe)
    assert breaker.state is CLOSED


def test_it_closes_after_as_many_good_probes_in_a_row_as_asked(clock: FakeClock) -> None:
    breaker = CircuitBreaker(1, 60, success_threshold=2, clock=clock)
    fail(breaker)
    clock.advance(60)
    breaker.call(len, "")
    assert (breaker.state, breaker.retry_after) == (HALF_OPEN, 0.0)
    with pytest.raises(OSError, match="down"):
        breaker.call(raising(OSError("down")))
    clock.advance(60)
    breaker.call(len, "")
    assert breaker.state is HALF_OPEN
    breaker.call(len, "")
    assert breaker.state is CLOSED


# --- late results -----------------------------------------------------------------------------------------


def test_late_results_of_calls_from_before_the_break_change_nothing(breaker: CircuitBreaker, clock: FakeClock) -> None:
    early = [entered(breaker) for _ in range(4)]
    fail(breaker, 3)
    clock.advance(10)
    leave(early[0])
    leave(early[1], OSError())
    assert (breaker.state, breaker.retry_after, breaker.failure_count) == (OPEN, 50, 3)
    clock.advance(50)
    probe = entered(breaker)
    leave(early[2])
    assert (breaker.state, breaker.can_execute()) == (HALF_OPEN, False)
    leave(probe)
    fail(breaker)
    leave(early[3])
    assert (breaker.state, breaker.failure_count) == (CLOSED, 1)


def test_reports_by_hand_are_ignored_while_open(breaker: CircuitBreaker, clock: FakeClock) -> None:
    fail(breaker, 3)
    clock.advance(10)
    breaker.record_success()
    breaker.record_failure()
    assert (breaker.state, breaker.retry_after, breaker.failure_count) == (OPEN, 50, 3)


def test_reports_by_hand_do_not_decide_the_probe_of_a_guard(breaker: CircuitBreaker, clock: FakeClock) -> None:
    fail(breaker, 3)
    clock.advance(60)
    probe = entered(breaker)
    breaker.record_success()
    breaker.record_failure()
    assert breaker.state is HALF_OPEN
    leave(probe)
    assert breaker.state is CLOSED


def test_reset_closes_it_and_voids_the_calls_under_way(breaker: CircuitBreaker, clock: FakeClock) -> None:
    fail(breaker, 3)
    clock.advance(60)
    probe = entered(breaker)
    breaker.reset()
    assert (breaker.state, breaker.failure_count) == (CLOSED, 0)
    leave(probe, OSError())
    assert breaker.failure_count == 0


def test_changes_of_the_wall_clock_move_nothing(breaker: CircuitBreaker, clock: FakeClock) -> None:
    fail(breaker, 3)
    for seconds in (3_600, -7_200, 31_536_000, -63_072_000):
        clock.jump(seconds)
        assert (breaker.state, breaker.retry_after) == (OPEN, 60)


# --- telling ----------------------------------------------------------------------------------------------


def test_listeners_hear_each_change_once_and_may_use_the_breaker(clock: FakeClock) -> None:
    heard: list[tuple[str, CircuitState, CircuitState, CircuitState]] = []

    def listen(breaker: CircuitBreaker, old: CircuitState, new: CircuitState) -> None:
        heard.append((breaker.name, old, new, breaker.state))

    breaker = CircuitBreaker(2, 60, clock=clock, listeners=[listen])
    breaker.reset()
    fail(breaker, 2)
    clock.advance(60)
    breaker.call(len, "")
    assert heard == [
        ("api", CLOSED, OPEN, OPEN),
        ("api", OPEN, HALF_OPEN, HALF_OPEN),
        ("api", HALF_OPEN, CLOSED, CLOSED),
    ]


def test_a_listener_that_raises_is_logged_and_the_next_is_still_called(
    breaker: CircuitBreaker, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[CircuitState] = []
    breaker.listeners.append(lambda breaker, old, new: 1 / 0)
    breaker.listeners.append(lambda breaker, old, new: heard.append(new))
    fail(breaker, 3)
    assert heard == [OPEN]
    assert "A listener of circuit breaker 'test' failed" in caplog.text
    assert "ZeroDivisionError" in caplog.text


def test_changes_are_logged_with_the_name(
    breaker: CircuitBreaker, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "posthog_driver.circuit_breaker")
    fail(breaker, 3)
    clock.advance(60)
    breaker.call(len, "")
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("ERROR", "Circuit breaker 'test' OPEN: 3 failures in a row, nothing is sent for 60 s"),
        ("INFO", "Circuit breaker 'test' HALF_OPEN: attempting recovery with one probe"),
        ("INFO", "Circuit breaker 'test' CLOSED: recovered, calls pass again"),
    ]
    assert {record.name for record in caplog.records} == {"posthog_driver.circuit_breaker"}


def test_the_repr_says_the_state(breaker: CircuitBreaker) -> None:
    fail(breaker, 2)
    assert repr(breaker) == "<CircuitBreaker 'test' closed failures=2/3>"


# --- settings ---------------------------------------------------------------------------------------------


def test_timeout_is_another_name_for_the_recovery_time() -> None:
    assert CircuitBreaker(timeout=5).recovery_timeout == 5
    assert CircuitBreaker(recovery_timeout=5, timeout=5).recovery_timeout == 5
    with pytest.raises(ConfigurationError, match="recovery_timeout=7 and timeout=5 are one thing"):
        CircuitBreaker(recovery_timeout=7, timeout=5)


@pytest.mark.parametrize("number", [0, -1, True, 2.0, "5", None])
def test_thresholds_must_be_whole_numbers_above_zero(number: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"failure_threshold.*; success_threshold"):
        CircuitBreaker(failure_threshold=number, success_threshold=number)


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), True, "60", None])
def test_the_recovery_time_must_be_finite_seconds(seconds: Any) -> None:
    with pytest.raises(ConfigurationError, match="recovery_timeout"):
        CircuitBreaker(recovery_timeout=seconds)


# --- threads and forks ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("hostile_switching")
def test_it_opens_after_exactly_as_many_failures_when_32_threads_report() -> None:
    breaker = CircuitBreaker(32 * 50 + 1)
    in_threads(32, lambda: fail(breaker, 50))
    assert (breaker.state, breaker.failure_count) == (CLOSED, 32 * 50)
    fail(breaker)
    assert breaker.state is OPEN


@pytest.mark.usefixtures("hostile_switching")
@pytest.mark.parametrize("style", ["ask", "call"])
def test_one_of_32_threads_probes(style: str) -> None:
    clock = FakeClock()
    breaker = CircuitBreaker(1, 60, clock=clock)
    fail(breaker)
    clock.advance(60)
    all_tried = threading.Barrier(32)

    def ask() -> bool:
        allowed = breaker.can_execute()
        all_tried.wait(HANG)
        return allowed

    def call() -> bool:
        try:
            breaker.call(all_tried.wait, HANG)
        except CircuitBreakerOpen:
            all_tried.wait(HANG)
            return False
        return True

    assert sorted(in_threads(32, ask if style == "ask" else call)) == [False] * 31 + [True]
    assert breaker.state is (HALF_OPEN if style == "ask" else CLOSED)


def test_calls_run_side_by_side(breaker: CircuitBreaker) -> None:
    together = threading.Barrier(8)
    assert sorted(in_threads(8, lambda: breaker.call(together.wait, HANG))) == list(range(8))


def test_after_a_fork_nobody_holds_the_lock_and_the_probe_is_free(breaker: CircuitBreaker, clock: FakeClock) -> None:
    other = CircuitBreaker(1, 60, clock=clock)
    fail(other)
    fail(breaker, 3)
    clock.advance(60)
    assert breaker.can_execute()
    with breaker._lock, other._lock:
        circuit_breaker._after_fork_in_child()
        child = in_threads(1, lambda: (breaker.state, breaker.can_execute(), other.state))
        assert child == [(HALF_OPEN, True, HALF_OPEN)]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_is_not_stuck_on_a_lock_of_its_parent(breaker: CircuitBreaker) -> None:
    with breaker._lock:
        pid = fork()
        if pid == 0:
            signal.alarm(HANG)  # a deadlock ends the child by a signal
            fail(breaker, 3)
            os._exit(42 if breaker.is_open() else 1)
        status = os.waitpid(pid, 0)[1]
    assert os.waitstatus_to_exitcode(status) == 42
