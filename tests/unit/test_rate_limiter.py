"""The limiter, the scopes and the gate: what is granted when, to whom, and how they wait."""

from __future__ import annotations

import bisect
import builtins
import math
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from posthog_driver import rate_limiter
from posthog_driver.exceptions import ConfigurationError, TimeoutError, ValidationError
from posthog_driver.rate_limiter import DEFAULT_WINDOWS, Gate, RateLimiter, RateLimits
from posthog_driver.testing import FakeClock

HANG = 20.0  # seconds after which a test counts as hung


class ParkingClock(FakeClock):
    """Threads that wait are parked until `pass_time` reaches their moment, or the limiter wakes them."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float | None] = []
        self._parked: dict[threading.Condition, float] = {}
        self._change = threading.Condition()

    def wait(self, condition: threading.Condition, seconds: float | None) -> None:
        with self._change:
            self.waits.append(seconds)
            self._parked[condition] = self.monotonic() + (math.inf if seconds is None else seconds)
            self._change.notify_all()
        assert condition.wait(HANG)
        with self._change:
            self._parked.pop(condition, None)

    def await_parked(self, count: int) -> None:
        with self._change:
            assert self._change.wait_for(lambda: len(self._parked) == count, HANG)

    def pass_time(self, seconds: float) -> None:
        self.advance(seconds)
        with self._change:
            due = [condition for condition, moment in self._parked.items() if moment <= self.monotonic()]
            for condition in due:
                del self._parked[condition]
        for condition in due:
            with condition:
                condition.notify()


class JumpingClock(FakeClock):
    """Whoever waits lets the time jump to its moment and a bit beyond, as on a machine that wakes threads late."""

    def __init__(self) -> None:
        super().__init__()
        self.last = threading.local()

    def monotonic(self) -> float:
        self.last.reading = super().monotonic()
        return float(self.last.reading)

    def wait(self, condition: threading.Condition, seconds: float) -> None:
        due = self.monotonic() + seconds
        condition.release()
        late = 0.03 * (hash(due) % 5)
        self.sleep(max(0.0, due + late - self.monotonic()))
        condition.acquire()


class Background:
    """Runs a function in a thread and keeps what it gave or raised."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self.result: Any = None
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(work,), daemon=True)
        self._thread.start()

    def _run(self, work: Callable[[], Any]) -> None:
        try:
            self.result = work()
        except BaseException as error:
            self.error = error

    def join(self) -> Background:
        self._thread.join(HANG)
        assert not self._thread.is_alive()
        return self

    @property
    def running(self) -> bool:
        return self._thread.is_alive()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def parking() -> ParkingClock:
    return ParkingClock()


@pytest.fixture
def hostile_switching() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def drain(limiter: RateLimiter) -> int:
    taken = 0
    while limiter.acquire():
        taken += 1
    return taken


# --- windows ----------------------------------------------------------------------------------------------


def test_it_grants_as_many_as_asked_and_then_refuses(clock: FakeClock) -> None:
    limiter = RateLimiter(240, 60, clock=clock)
    assert drain(limiter) == 240
    assert (limiter.available, limiter.retry_after) == (0, 60)


def test_a_place_is_free_exactly_one_window_after_its_grant(clock: FakeClock) -> None:
    limiter = RateLimiter(2, 60, clock=clock)
    limiter.acquire()
    clock.advance(20)
    limiter.acquire()
    clock.advance(39.75)
    assert (limiter.acquire(), limiter.retry_after) == (False, 0.25)
    clock.advance(0.25)
    assert (limiter.acquire(), limiter.acquire(), limiter.retry_after) == (True, False, 20)


def test_all_windows_hold(clock: FakeClock) -> None:
    limiter = RateLimiter(2, 1, windows=[(5, 100)], clock=clock)
    assert list(limiter.windows) == [(2, 1), (5, 100)]
    granted = []
    for _ in range(4):
        granted.append(drain(limiter))
        clock.advance(1)
    assert granted == [2, 2, 1, 0]
    assert limiter.retry_after == 96


def test_without_windows_everything_is_granted_unless_paused(clock: FakeClock) -> None:
    limiter = RateLimiter(clock=clock)
    assert all(limiter.acquire() for _ in range(1_000))
    assert (limiter.available, limiter.wait_and_acquire(0)) == (math.inf, 0.0)
    limiter.pause(5)
    assert (limiter.available, limiter.acquire(), limiter.wait_and_acquire()) == (0, False, 5)


def test_available_counts_what_would_be_granted_at_once(clock: FakeClock) -> None:
    limiter = RateLimiter(3, 60, windows=[(2, 3_600)], clock=clock)
    assert limiter.available == 2
    limiter.acquire()
    assert limiter.available == 1


def test_old_grants_are_forgotten(clock: FakeClock) -> None:
    limiter = RateLimiter(1_000_000, 1, clock=clock)
    for _ in range(100):
        clock.advance(1)
        limiter.acquire()
    assert len(limiter._windows[0].grants) == 1


@pytest.mark.parametrize("requests", [0, -1, True, 2.0, "240", None])
def test_a_limit_must_be_a_whole_number_above_zero(requests: Any) -> None:
    with pytest.raises(ConfigurationError, match="max_requests must be a whole number of at least 1"):
        RateLimiter(requests, 60)


@pytest.mark.parametrize("seconds", [0, -1, True, math.nan, math.inf, "60", None])
def test_a_window_must_be_finite_seconds_above_zero(seconds: Any) -> None:
    with pytest.raises(ConfigurationError, match="time_window must be a finite number of seconds above 0"):
        RateLimiter(240, seconds)


def test_every_problem_is_named_at_once() -> None:
    windows: Any = [(1, 2, 3), (5, 0)]
    with pytest.raises(ConfigurationError, match=r"max_requests.*0; .*pair.*\(1, 2, 3\); time_window.*0"):
        RateLimiter(0, 60, windows=windows)


# --- waiting ----------------------------------------------------------------------------------------------


def test_a_wait_is_one_sleep_until_the_oldest_grant_is_a_window_old(clock: FakeClock) -> None:
    limiter = RateLimiter(2, 60, clock=clock)
    assert [limiter.wait_and_acquire() for _ in range(2)] == [0.0, 0.0]
    clock.advance(10)
    assert limiter.wait_and_acquire() == 50
    assert clock.sleeps == [50]


def test_timeout_zero_tries_once(clock: FakeClock) -> None:
    limiter = RateLimiter(1, 60, clock=clock)
    assert limiter.wait_and_acquire(timeout=0) == 0.0
    with pytest.raises(TimeoutError):
        limiter.wait_and_acquire(timeout=0)
    assert clock.sleeps == []


def test_a_wait_known_to_be_too_long_is_refused_at_once(clock: FakeClock) -> None:
    limiter = RateLimiter(1, 60, windows=[(10, 3_600)], clock=clock)
    limiter.acquire()
    with pytest.raises(TimeoutError, match=r"1 requests per 60 s and 10 requests per 3600 s is used up") as caught:
        limiter.wait_and_acquire(timeout=59.5)
    assert isinstance(caught.value, builtins.TimeoutError)
    assert (caught.value.retry_after, clock.sleeps) == (60, [])
    assert limiter.wait_and_acquire(timeout=60) == 60


def test_what_counts_is_when_a_late_thread_really_went() -> None:
    class LateClock(FakeClock):
        def sleep(self, seconds: float) -> None:
            super().sleep(seconds + 12)

    limiter = RateLimiter(1, 60, clock=LateClock())
    limiter.acquire()
    assert limiter.wait_and_acquire() == 72
    assert limiter.retry_after == 60


def test_a_clock_that_wakes_too_early_is_asked_again() -> None:
    class EarlyClock(FakeClock):
        def sleep(self, seconds: float) -> None:
            super().sleep(max(seconds / 2, 1e-6))

    limiter = RateLimiter(1, 60, clock=EarlyClock())
    limiter.acquire()
    assert 60 <= limiter.wait_and_acquire() < 60.00001


def test_rounding_in_the_clock_does_not_make_it_spin() -> None:
    class CountingClock(FakeClock):
        def sleep(self, seconds: float) -> None:
            assert len(self.sleeps) < 1_000
            super().sleep(seconds)

    clock = CountingClock(start=1e9 + 1 / 3)  # where the next number is 0.1 microseconds away
    limiter = RateLimiter(1, 0.3, clock=clock)
    for _ in range(200):
        limiter.wait_and_acquire()
    assert 199 <= len(clock.sleeps) < 400


def test_no_lock_is_held_while_the_clock_sleeps() -> None:
    class LookingClock(FakeClock):
        def sleep(self, seconds: float) -> None:
            held.append(limiter._lock.locked() or gate._lock.locked())
            super().sleep(seconds)

    held: list[bool] = []
    clock = LookingClock()
    limiter, gate = RateLimiter(1, 60, clock=clock), Gate(1, clock=clock)
    limiter.acquire()
    limiter.wait_and_acquire()
    with gate.enter(), pytest.raises(TimeoutError):
        gate.enter(timeout=1)
    assert held == [False, False]


def test_the_line_is_served_in_the_order_of_arrival(parking: ParkingClock) -> None:
    limiter = RateLimiter(1, 10, clock=parking)
    limiter.acquire()
    threads = []
    for place in range(3):
        threads.append(Background(limiter.wait_and_acquire))
        parking.await_parked(place + 1)
    assert parking.waits == [10, 20, 30]
    assert (limiter.available, limiter.retry_after) == (0, 40)
    for place, thread in enumerate(threads):
        parking.pass_time(10)
        assert thread.join().result == 10 * (place + 1)
        parking.await_parked(2 - place)


def test_nobody_takes_the_place_of_those_in_line(parking: ParkingClock) -> None:
    limiter = RateLimiter(2, 10, clock=parking)
    drain(limiter)
    waiting = Background(limiter.wait_and_acquire)
    parking.await_parked(1)
    parking.advance(10)  # the waiting thread does not know yet
    assert (limiter.acquire(), limiter.acquire()) == (True, False)
    with pytest.raises(TimeoutError):
        limiter.wait_and_acquire(timeout=0)
    parking.pass_time(0)
    assert waiting.join().result == 10


def test_one_who_gives_up_does_not_wake_those_ahead(parking: ParkingClock, monkeypatch: pytest.MonkeyPatch) -> None:
    limiter = RateLimiter(1, 10, clock=parking)
    limiter.acquire()
    waiting = Background(limiter.wait_and_acquire)
    parking.await_parked(1)
    with monkeypatch.context() as patch:
        patch.setattr(limiter._line[0], "notify", lambda: pytest.fail("woken"))
        with pytest.raises(TimeoutError):
            limiter.wait_and_acquire(timeout=0)
    parking.pass_time(10)
    assert waiting.join().result == 10


def test_a_place_given_up_in_line_helps_those_behind(parking: ParkingClock) -> None:
    class ImpatientClock(ParkingClock):
        def wait(self, condition: threading.Condition, seconds: float | None) -> None:
            super().wait(condition, seconds)
            if threading.current_thread() is impatient[0]._thread:
                raise KeyboardInterrupt

    impatient: list[Background] = []
    clock = ImpatientClock()
    limiter = RateLimiter(1, 10, clock=clock)
    limiter.acquire()
    impatient.append(Background(limiter.wait_and_acquire))
    clock.await_parked(1)
    patient = Background(limiter.wait_and_acquire)
    clock.await_parked(2)
    clock.advance(9)
    with limiter._lock:
        limiter._line[0].notify()  # the interrupt
    assert isinstance(impatient[0].join().error, KeyboardInterrupt)
    clock.await_parked(1)
    clock.pass_time(1)
    assert patient.join().result == 10


def test_a_real_wait_does_not_use_time_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail("slept"))
    limiter, gate = RateLimiter(1, 0.02), Gate(1)
    assert limiter.wait_and_acquire() == 0.0
    assert limiter.wait_and_acquire() > 0.0
    with gate.enter(), pytest.raises(TimeoutError):
        gate.enter(timeout=0.001)


def test_waits_longer_than_the_system_allows_are_possible() -> None:
    limiter = RateLimiter(1, 1e30)
    limiter.acquire()
    waiting = Background(limiter.wait_and_acquire)
    while waiting.running and not limiter._line:
        time.sleep(0)
    with limiter._lock:
        limiter._windows[0].grants.clear()
        limiter._wake_behind(None)
    assert waiting.join().error is None


# --- pauses -----------------------------------------------------------------------------------------------


def test_nothing_is_granted_in_a_pause_and_the_last_to_end_holds(clock: FakeClock) -> None:
    limiter = RateLimiter(5, 60, clock=clock)
    limiter.pause(30)
    limiter.pause(10)
    assert (limiter.acquire(), limiter.available, limiter.retry_after) == (False, 0, 30)
    with pytest.raises(TimeoutError, match="The server asked for a pause") as caught:
        limiter.wait_and_acquire(timeout=20)
    assert caught.value.retry_after == 30
    assert limiter.wait_and_acquire() == 30
    assert limiter.available == 4


def test_those_in_line_obey_a_pause_and_give_up_if_it_is_too_long_for_them(parking: ParkingClock) -> None:
    limiter = RateLimiter(1, 10, clock=parking)
    limiter.acquire()
    patient = Background(limiter.wait_and_acquire)
    parking.await_parked(1)
    hurried = Background(lambda: limiter.wait_and_acquire(timeout=25))
    parking.await_parked(2)
    parking.pass_time(1)
    limiter.pause(25)
    assert isinstance(hurried.join().error, TimeoutError)
    parking.await_parked(1)
    parking.pass_time(9)
    assert patient.running
    parking.pass_time(16)
    assert patient.join().result == 26


def test_a_pause_can_be_ended_but_only_by_who_began_it(parking: ParkingClock) -> None:
    limiter = RateLimiter(1, 10, clock=parking)
    short, long = limiter.pause(10), limiter.pause(20)
    limiter.resume(short)
    assert limiter.retry_after == 20
    waiting = Background(limiter.wait_and_acquire)
    parking.await_parked(1)
    limiter.resume(long)
    assert waiting.join().result == 0.0


@pytest.mark.parametrize("seconds", [-1, math.nan, math.inf])
def test_a_pause_must_be_finite(seconds: float) -> None:
    with pytest.raises(ValidationError, match="cannot pause"):
        RateLimiter(1, 1).pause(seconds)


# --- scopes -----------------------------------------------------------------------------------------------


class Foreign:
    """A limiter of another make."""

    def __init__(self, clock: FakeClock | None = None, takes: float = 0.0, answer: bool = True) -> None:
        self.timeouts: list[float | None] = []
        self._clock, self._takes, self._answer = clock, takes, answer

    def acquire(self) -> bool:
        return self._answer

    def wait_and_acquire(self, timeout: float | None = None) -> None:
        self.timeouts.append(timeout)
        if self._clock:
            self._clock.sleep(self._takes)


def test_the_default_scopes_have_the_limits_of_posthog_and_count_apart(clock: FakeClock) -> None:
    limits = RateLimits(clock=clock)
    assert {scope: getattr(limits[scope], "windows", ()) for scope in DEFAULT_WINDOWS} == {
        "query": ((240, 60), (2_400, 3_600)),
        "crud": ((480, 60), (4_800, 3_600)),
        "ingest": (),
    }
    assert limits["ingest"] is None
    assert [sum(limits.acquire(scope) for _ in range(500)) for scope in DEFAULT_WINDOWS] == [240, 480, 500]
    assert limits.wait_and_acquire("query") == 60
    assert limits.wait_and_acquire("ingest") == 0.0


def test_limiters_can_be_given_and_replaced_while_in_use(clock: FakeClock) -> None:
    limits = RateLimits({"query": RateLimiter(1, 60, clock=clock)}, clock=clock)
    assert (limits.acquire("query"), limits.acquire("query")) == (True, False)
    limits["query"] = RateLimiter(2, 60, clock=clock)
    assert [limits.acquire("query") for _ in range(3)] == [True, True, False]
    limits["query"] = None
    assert limits.acquire("query")
    assert "RateLimiter 480 requests per 60 s and 4800 requests per 3600 s" in repr(limits)


@pytest.mark.parametrize("limiter", ["ours", "none", "foreign"])
def test_a_pause_holds_in_its_scope_whatever_the_limiter(clock: FakeClock, limiter: str) -> None:
    given = {"ours": RateLimiter(9, 60, clock=clock), "none": None, "foreign": Foreign()}[limiter]
    limits = RateLimits({"query": given}, clock=clock)
    limits.pause("query", 7)
    assert (limits.acquire("query"), limits.acquire("crud")) == (False, True)
    with pytest.raises(TimeoutError, match="pause"):
        limits.wait_and_acquire("query", timeout=5)
    assert limits.wait_and_acquire("query", timeout=8) == 7
    assert limits.acquire("query")


@pytest.mark.parametrize("limiter", ["ours", "none", "foreign"])
def test_a_pause_of_a_scope_can_be_ended(clock: FakeClock, limiter: str) -> None:
    given = {"ours": RateLimiter(9, 60, clock=clock), "none": None, "foreign": Foreign()}[limiter]
    limits = RateLimits({"query": given}, clock=clock)
    first, second = limits.pause("query", 7), limits.pause("query", 8)
    limits.resume("query", first)
    assert not limits.acquire("query")
    limits.resume("query", second)
    assert limits.acquire("query")


def test_a_pause_carries_over_to_a_new_limiter(clock: FakeClock) -> None:
    limits = RateLimits(clock=clock)
    limits.pause("query", 7)
    clock.advance(2)
    limits["query"] = RateLimiter(9, 60, clock=clock)
    assert limits.wait_and_acquire("query") == 5


def test_a_limiter_of_another_make_gets_the_time_that_is_left(clock: FakeClock) -> None:
    foreign = Foreign(clock, takes=3)
    limits = RateLimits({"crud": foreign}, clock=clock)
    limits.pause("crud", 7)
    assert limits.wait_and_acquire("crud", timeout=20) == 10
    assert limits.wait_and_acquire("crud") == 3
    assert foreign.timeouts == [13, None]
    limits["crud"] = Foreign(answer=False)
    assert not limits.acquire("crud")


def test_a_pause_that_begins_during_a_foreign_wait_is_obeyed(clock: FakeClock) -> None:
    class Pausing(Foreign):
        def wait_and_acquire(self, timeout: float | None = None) -> None:
            limits.pause("query", 4)

    limits = RateLimits({"query": Pausing()}, clock=clock)
    assert limits.wait_and_acquire("query") == 4


def test_unknown_scopes_and_things_that_are_no_limiters_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="no rate limit scope 'nonsense': use one of query, crud, ingest"):
        RateLimits({"nonsense": None})
    something: Any = object()
    with pytest.raises(ConfigurationError, match=r"lacks \['acquire', 'wait_and_acquire'\]"):
        RateLimits({"query": something})


# --- the gate ---------------------------------------------------------------------------------------------


def test_the_gate_lets_so_many_in_and_counts_them() -> None:
    gate = Gate()
    with gate.enter() as place, gate.enter(), gate.enter():
        assert (gate.running, place.waited) == (3, 0.0)
        with pytest.raises(TimeoutError, match=r"3 queries are running.*max_concurrent=3.*1 are in line"):
            gate.enter(timeout=0)
        assert repr(gate) == "<Gate 3 of 3 running, 0 waiting>"
    assert (gate.running, gate.waiting) == (0, 0)


def test_a_place_is_given_back_when_the_block_fails() -> None:
    gate = Gate(1)
    with pytest.raises(ZeroDivisionError), gate.enter():
        raise ZeroDivisionError
    assert gate.running == 0


def test_a_wait_at_the_gate_ends_with_its_timeout(clock: FakeClock) -> None:
    gate = Gate(1, clock=clock)
    with gate.enter(), pytest.raises(TimeoutError, match="No place within timeout=5 s"):
        gate.enter(timeout=5)
    assert (clock.sleeps, gate.waiting) == ([5], 0)


@pytest.mark.parametrize("kind", ["real", "fake", "parking"])
def test_places_are_handed_over_in_the_order_of_arrival(kind: str) -> None:
    clocks = {"real": None, "fake": FakeClock(), "parking": ParkingClock()}
    gate = Gate(1, clock=clocks[kind])
    order: list[int] = []

    def stay(name: int) -> None:
        with gate.enter():
            order.append(name)

    with gate.enter():
        threads = []
        for name in range(4):
            threads.append(Background(lambda name=name: stay(name)))  # type: ignore[misc]
            while gate.waiting <= name:
                time.sleep(0)
        assert order == []
    for thread in threads:
        assert thread.join().error is None
    assert (order, gate.running) == ([0, 1, 2, 3], 0)


def test_an_interrupt_in_the_line_leaves_it() -> None:
    class InterruptingClock(FakeClock):
        def wait(self, condition: threading.Condition, seconds: float | None) -> None:
            raise KeyboardInterrupt

    gate = Gate(1, clock=InterruptingClock())
    with gate.enter(), pytest.raises(KeyboardInterrupt):
        gate.enter()
    assert (gate.running, gate.waiting) == (0, 0)


def test_an_interrupt_just_after_the_handover_passes_the_place_on() -> None:
    class InterruptingClock(FakeClock):
        def wait(self, condition: threading.Condition, seconds: float | None) -> None:
            condition.wait(HANG)
            raise KeyboardInterrupt

    gate = Gate(1, clock=InterruptingClock())
    with gate.enter():
        waiting = Background(gate.enter)
        while not gate.waiting:
            time.sleep(0)
    assert isinstance(waiting.join().error, KeyboardInterrupt)
    assert gate.running == 0


@pytest.mark.parametrize("limit", [None, 0])
def test_a_gate_without_limit_lets_everybody_in(limit: int | None) -> None:
    gate = Gate(limit)
    places = [gate.enter(0) for _ in range(100)]
    assert gate.running == 100
    for place in places:
        place.__exit__(None, None, None)
    assert gate.running == 0


@pytest.mark.parametrize("limit", [-1, True, 3.0, "3"])
def test_a_gate_needs_a_whole_number(limit: Any) -> None:
    with pytest.raises(ConfigurationError, match="max_concurrent"):
        Gate(limit)


# --- many threads, and forks ------------------------------------------------------------------------------


def fork() -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 and later warn of other tests' threads
        return os.fork()


def most_in_one_window(times: list[float], seconds: float) -> int:
    return max(place + 1 - bisect.bisect_right(times, now - seconds) for place, now in enumerate(times))


@pytest.mark.usefixtures("hostile_switching")
@pytest.mark.parametrize("windows", [((7, 1.0),), ((10, 1.0), (50, 9.0)), ((50, 0.25),)])
def test_the_windows_hold_for_32_threads_that_are_woken_late(windows: tuple[tuple[int, float], ...]) -> None:
    clock = JumpingClock()
    limiter = RateLimiter(windows=windows, clock=clock)
    times: list[float] = []

    def work() -> None:
        for _ in range(20):
            limiter.wait_and_acquire()
            times.append(clock.last.reading)  # what the limiter read last is the moment of the grant

    threads = [Background(work) for _ in range(32)]
    for thread in threads:
        assert thread.join().error is None
    assert len(times) == 32 * 20
    times.sort()
    assert all(most_in_one_window(times, seconds) <= limit for limit, seconds in windows)


@pytest.mark.usefixtures("hostile_switching")
def test_never_more_than_the_limit_are_behind_the_gate() -> None:
    gate = Gate(3)
    together = threading.Barrier(3, timeout=HANG)
    inside, seen = set(), []

    def work() -> None:
        for _ in range(50):
            with gate.enter(timeout=HANG):
                inside.add(threading.get_ident())
                seen.append(len(inside))
                if len(seen) <= 3:  # the first three stay until they are three
                    together.wait()
                time.sleep(0)
                inside.discard(threading.get_ident())

    threads = [Background(work) for _ in range(16)]
    for thread in threads:
        assert thread.join().error is None
    assert (max(seen), len(seen), gate.running, gate.waiting) == (3, 16 * 50, 0, 0)


def test_after_a_fork_locks_are_free_and_lines_and_gates_empty(parking: ParkingClock) -> None:
    limiter, gate = RateLimiter(1, 10, clock=parking), Gate(2, clock=parking)
    limiter.acquire()
    parents = gate.enter()
    gate.enter()
    lost = [Background(limiter.wait_and_acquire), Background(lambda: gate.enter(timeout=10))]
    parking.await_parked(2)
    with limiter._lock, gate._lock:
        rate_limiter._after_fork_in_child()
        child = Background(lambda: (limiter.retry_after, gate.running, gate.waiting, gate.enter(0).waited))
        assert child.join().result == (10, 0, 0, 0.0)
        parents.__exit__(None, None, None)
        assert gate.running == 1
    parking.pass_time(10)
    for thread in lost:  # which a real child would not have
        thread.join()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_is_not_stuck_on_a_lock_of_its_parent() -> None:
    limiter, gate = RateLimiter(2, 1_000), Gate(1)
    limiter.acquire()
    with limiter._lock, gate._lock:
        pid = fork()
        if pid == 0:
            signal.alarm(int(HANG))  # a deadlock ends the child by a signal
            granted = (limiter.acquire(), limiter.acquire(), gate.enter(0).waited)
            os._exit(42 if granted == (True, False, 0.0) else 1)
        status = os.waitpid(pid, 0)[1]
    assert os.waitstatus_to_exitcode(status) == 42
