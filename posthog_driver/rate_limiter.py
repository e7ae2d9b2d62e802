"""Stay below PostHog's limits: so many requests in a time, so many queries at once.

The promise of a :class:`RateLimiter`: in no stretch of ``time_window`` seconds are more than ``max_requests``
requests granted, whatever the threads and however late the machine wakes them. A stretch includes one of its
ends only: a grant exactly ``time_window`` after another is not in the same stretch, as in PostHog's own
throttle, which forgets a request once it is that old.

How it waits: a thread that finds no room joins a line. From its place in the line and the times of past
grants follows the earliest moment at which there is room for everybody ahead *and* for it; until then it
sleeps, once, on a condition of its own, and then takes its grant itself. So nobody overtakes at another's
cost, nobody polls, no lock is held while waiting, and what is remembered is when a thread really went, not
when it should have gone.

Real waits are waits on conditions, so a patched ``time.sleep`` does not make them spin. With any clock other
than :class:`SystemClock` they are calls of the clock's ``wait(condition, seconds)``, if it has one (the
condition is held as for ``Condition.wait``; ``seconds`` may be None), else of its ``sleep(seconds)``: a fake
clock needs no real time.
"""

from __future__ import annotations

import math
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from weakref import WeakSet

from posthog_driver._clock import Clock, SystemClock
from posthog_driver.exceptions import ConfigurationError, TimeoutError, ValidationError

if TYPE_CHECKING:
    from types import TracebackType

__all__ = [
    "DEFAULT_MAX_CONCURRENT",
    "DEFAULT_WINDOWS",
    "Gate",
    "Limiter",
    "Pass",
    "RateLimiter",
    "RateLimits",
]

# (requests, seconds) for each scope, from PostHog's posthog/rate_limit.py: APIQueriesBurstThrottle and
# APIQueriesSustainedThrottle for /query/, BurstRateThrottle and SustainedRateThrottle for other REST views.
# The ingestion host publishes no limit; it may still answer 429, hence a pause.
DEFAULT_WINDOWS: dict[str, tuple[tuple[int, float], ...]] = {
    "query": ((240, 60.0), (2_400, 3_600.0)),
    "crud": ((480, 60.0), (4_800, 3_600.0)),
    "ingest": (),
}
# Queries that PostHog runs at once for one project; it queues or refuses the next one.
DEFAULT_MAX_CONCURRENT = 3

# No wait is shorter, so that a clock whose readings round down still gets past the moment waited for.
_SHORTEST_WAIT = 1e-6


class Limiter(Protocol):
    """What `RateLimits` asks of a limiter; bring your own, for example one that several processes share."""

    def acquire(self) -> bool:
        """Take a grant if there is one now."""
        ...

    def wait_and_acquire(self, timeout: float | None = None) -> object:
        """Take a grant, waiting up to ``timeout`` seconds; raise a ``TimeoutError`` if there is none."""
        ...


class RateLimiter:
    """At most so many requests in any stretch of so many seconds; safe to share between threads.

    ::

        limiter = RateLimiter(240, 60)                                # one window
        limiter = RateLimiter(windows=((240, 60), (2_400, 3_600)))    # several, all of them hold

    Without any window every request is granted, except during a `pause`. After a fork the child goes on with
    the parent's past grants, but the two do not see each other's new ones.

    Args:
        max_requests: Requests that may be granted ...
        time_window: ... in any stretch of this many seconds.
        windows: Pairs of the two, in place of them or in addition.
        clock: Where the time comes from.

    Raises:
        ConfigurationError: A window is not a whole number of at least 1 and a finite number of seconds above
            0.
    """

    def __init__(
        self,
        max_requests: int | None = None,
        time_window: float | None = None,
        *,
        windows: Iterable[tuple[int, float]] = (),
        clock: Clock | None = None,
    ) -> None:
        pairs: list[tuple[Any, ...]] = [tuple(pair) for pair in windows]
        if max_requests is not None or time_window is not None:
            pairs.insert(0, (max_requests, time_window))
        _check_windows(pairs)
        self._windows = tuple(_Window(limit, seconds, deque()) for limit, seconds in pairs)
        clock = clock or SystemClock()
        self._monotonic = clock.monotonic
        self._wait = _waiting_with(clock)
        self._lock = threading.Lock()
        self._line: deque[threading.Condition] = deque()  # who waits, first come first
        self._paused_until = -math.inf
        _instances.add(self)

    @property
    def windows(self) -> tuple[tuple[int, float], ...]:
        """The pairs (requests, seconds) that hold."""
        return tuple((window.limit, window.seconds) for window in self._windows)

    @property
    def available(self) -> float:
        """Requests that would be granted at once now: a whole number, or ``math.inf`` without windows."""
        with self._lock:
            now = self._monotonic()
            place = len(self._line)
            if self._delay(place, now) > 0.0:
                return 0
            return min((limit - len(grants) - place for limit, _, grants in self._windows), default=math.inf)

    @property
    def retry_after(self) -> float:
        """Seconds until one who came now would be granted, after those in line: 0.0 if at once."""
        with self._lock:
            return max(0.0, self._delay(len(self._line), self._monotonic()))

    def acquire(self) -> bool:
        """Take a grant if there is room for it and for everybody in line; never waits.

        Returns:
            Whether it was granted.
        """
        with self._lock:
            now = self._monotonic()
            if self._delay(len(self._line), now) > 0.0:
                return False
            for window in self._windows:
                window.grants.append(now)
            return True

    def wait_and_acquire(self, timeout: float | None = None) -> float:
        """Take a grant, waiting for it in line.

        Args:
            timeout: Longest wait in seconds; None waits as long as it takes, 0 tries once.

        Returns:
            Seconds waited.

        Raises:
            TimeoutError: The grant would come later than ``timeout``, as the line stands: raised as soon as
                that is known, usually at once. ``retry_after`` holds the seconds until it would have come.
        """
        with self._lock:
            now = self._monotonic()
            delay = self._delay(len(self._line), now)
            if delay > 0.0:
                return self._stand_in_line(now, timeout)
            for window in self._windows:
                window.grants.append(now)
            return 0.0

    def pause(self, seconds: float) -> float:
        """Grant nothing for ``seconds`` from now, also to those in line; of several the last to end holds.

        Returns:
            The moment on the clock at which it ends, for `resume`.

        Raises:
            ValidationError: ``seconds`` is negative or not finite.
        """
        if not 0 <= seconds < math.inf:
            raise ValidationError(f"cannot pause for {seconds!r} seconds: give a finite number, 0 or more")
        with self._lock:
            until = self._monotonic() + seconds
            self._paused_until = max(self._paused_until, until)
            self._wake_behind(None)
            return until

    def resume(self, until: float) -> None:
        """End the pause that ends at ``until`` now; nothing happens if another one holds."""
        with self._lock:
            if self._paused_until == until:
                self._paused_until = -math.inf
                self._wake_behind(None)

    def __repr__(self) -> str:
        return f"<RateLimiter {_in_words(self._windows)}>"

    # --- all under the lock -------------------------------------------------------------------------------

    def _delay(self, place: int, now: float) -> float:
        """Return the seconds until there is room for ``place`` others and one more; not above 0 if now."""
        delay = self._paused_until - now
        for window in self._windows:
            limit, seconds, grants = window
            while grants and now - grants[0] >= seconds:
                grants.popleft()
            if len(grants) + place >= limit:
                delay = max(delay, window.wait(place, now))
        return delay

    def _stand_in_line(self, start: float, timeout: float | None) -> float:
        now = start
        me = threading.Condition(self._lock)
        try:
            self._line.append(me)
            while (delay := self._delay(self._line.index(me), now)) > 0.0:
                if timeout is not None and delay > timeout - (now - start):
                    raise self._too_late(delay, timeout)
                self._wait(me, max(delay, _SHORTEST_WAIT))
                now = self._monotonic()
            for window in self._windows:
                window.grants.append(now)
            return now - start
        except BaseException:
            self._wake_behind(me)
            raise
        finally:
            self._line.remove(me)

    def _wake_behind(self, me: threading.Condition | None) -> None:
        """Have those behind look again, as the moment that they wait for has changed; None is before all."""
        for waiter in reversed(self._line):
            if waiter is me:
                break
            waiter.notify()

    def _too_late(self, delay: float, timeout: float) -> TimeoutError:
        paused = self._paused_until > self._monotonic()
        limit = f"The limit of {_in_words(self._windows)} is used up"
        why = "The server asked for a pause" if paused else limit
        return TimeoutError(
            f"{why}: this request could go in {delay:.1f} s, which is later than timeout={timeout:g} s, so it "
            f"was not sent. Wait longer, send less, or raise the limit if PostHog allows you more.",
            retry_after=delay,
        )

    def _after_fork(self) -> None:
        """Start the child with a lock that nobody holds and without the parent's threads in line."""
        self._lock = threading.Lock()
        self._line = deque()


class _Window(NamedTuple):
    """One window with its recent grants, oldest first; older ones are forgotten when next looked at."""

    limit: int
    seconds: float
    grants: deque[float]

    def wait(self, place: int, now: float) -> float:
        """Return the seconds until one more fits after ``place`` others have gone.

        The others go as soon as they can. For the first ``limit`` places that is exact; further back
        it is the least possible: a whole window for each ``limit`` places.
        """
        laps, place = divmod(place, self.limit)
        over = place - (self.limit - len(self.grants))
        wait = self.seconds - (now - self.grants[over]) if over >= 0 else 0.0
        return wait + laps * self.seconds


class RateLimits:
    """A limiter for each scope (`query`, `crud`, `ingest`), and the pauses that the server asks for.

    ``limits["query"]`` reads a scope's limiter and ``limits["query"] = ...`` replaces it while in use:
    whoever is in the old one's line stays there, a pause carries over. None is a scope without limit. Pauses
    hold for every scope, limiters of other makes and None included.

    Args:
        limiters: Limiters of some or all scopes; `DEFAULT_WINDOWS` for the others.
        clock: Where the time comes from.

    Raises:
        ConfigurationError: There is no such scope, or a limiter lacks a method.
    """

    def __init__(self, limiters: Mapping[str, Limiter | None] | None = None, *, clock: Clock | None = None) -> None:
        clock = clock or SystemClock()
        self._monotonic = clock.monotonic
        self._pauses = {scope: RateLimiter(clock=clock) for scope in DEFAULT_WINDOWS}
        self._limiters: dict[str, Limiter | None] = {
            scope: RateLimiter(windows=windows, clock=clock) if windows else None
            for scope, windows in DEFAULT_WINDOWS.items()
        }
        for scope, limiter in (limiters or {}).items():
            self[scope] = limiter

    def __getitem__(self, scope: str) -> Limiter | None:
        """Return the limiter of a scope."""
        return self._limiters[scope]

    def __setitem__(self, scope: str, limiter: Limiter | None) -> None:
        """Replace the limiter of a scope."""
        if scope not in self._limiters:
            raise ConfigurationError(f"there is no rate limit scope {scope!r}: use one of {', '.join(self._limiters)}")
        if limiter is not None:
            _check_limiter(limiter)
        if isinstance(limiter, RateLimiter):
            limiter.pause(self._pauses[scope].retry_after)
        self._limiters[scope] = limiter

    def acquire(self, scope: str) -> bool:
        """Take a grant of this scope if there is one now; never waits."""
        limiter = self._limiters[scope]
        if isinstance(limiter, RateLimiter):
            return limiter.acquire()
        return self._pauses[scope].acquire() and (limiter is None or bool(limiter.acquire()))

    def wait_and_acquire(self, scope: str, timeout: float | None = None) -> float:
        """Take a grant of this scope, waiting up to ``timeout`` seconds.

        Returns:
            Seconds waited.

        Raises:
            TimeoutError: There is no grant in time. A limiter of another make may raise the built-in one, of
                which ours is a subclass.
        """
        limiter = self._limiters[scope]
        if isinstance(limiter, RateLimiter):
            return limiter.wait_and_acquire(timeout)
        start = self._monotonic()
        pauses = self._pauses[scope]
        pauses.wait_and_acquire(timeout)
        if limiter is not None:
            limiter.wait_and_acquire(self._left(start, timeout))
            pauses.wait_and_acquire(self._left(start, timeout))  # one may have begun meanwhile
        return self._monotonic() - start

    def _left(self, start: float, timeout: float | None) -> float | None:
        return None if timeout is None else max(0.0, timeout - (self._monotonic() - start))

    def pause(self, scope: str, seconds: float) -> tuple[float, ...]:
        """Grant nothing in this scope for ``seconds`` from now; of several the last to end holds.

        Returns:
            What `resume` needs to end this pause, and no other, before its time.

        Raises:
            ValidationError: ``seconds`` is negative or not finite.
        """
        return tuple(limiter.pause(seconds) for limiter in self._pausable(scope))

    def resume(self, scope: str, paused: tuple[float, ...]) -> None:
        """End a pause now, given what `pause` returned; nothing happens if a longer one holds."""
        for limiter, until in zip(self._pausable(scope), paused, strict=False):
            limiter.resume(until)

    def _pausable(self, scope: str) -> list[RateLimiter]:
        limiter = self._limiters[scope]
        return [self._pauses[scope], *([limiter] if isinstance(limiter, RateLimiter) else [])]

    def __repr__(self) -> str:
        return f"<RateLimits {self._limiters}>"


class Gate:
    """At most so many holders at once, first come first served: ``with gate.enter(timeout): ...``.

    Who leaves hands the place to the first in line. After a fork the child's gate is empty, and a pass from
    before the fork does not count there.

    Args:
        max_concurrent: Holders at once; None or 0 for no limit.
        clock: Where the time comes from; only waits with a timeout read it.

    Raises:
        ConfigurationError: ``max_concurrent`` is neither None nor a whole number of at least 0.
    """

    def __init__(self, max_concurrent: int | None = DEFAULT_MAX_CONCURRENT, *, clock: Clock | None = None) -> None:
        if max_concurrent is not None and (type(max_concurrent) is not int or max_concurrent < 0):
            raise ConfigurationError(
                f"max_concurrent must be a whole number, or None or 0 for no limit, not {max_concurrent!r}"
            )
        self.max_concurrent = max_concurrent or None
        clock = clock or SystemClock()
        self._monotonic = clock.monotonic
        self._wait = _waiting_with(clock)
        self._limit = max_concurrent or math.inf
        self._lock = threading.Lock()
        self._line: deque[_Waiter] = deque()  # who waits, first come first
        self._running = 0
        self._forks = 0
        _instances.add(self)

    @property
    def running(self) -> int:
        """Passes in use now."""
        return self._running

    @property
    def waiting(self) -> int:
        """Threads in line now."""
        return len(self._line)

    def enter(self, timeout: float | None = None) -> Pass:
        """Take a place, waiting for it in line; use it at once as a context manager, which gives it back.

        Args:
            timeout: Longest wait in seconds; None waits as long as it takes, 0 tries once.

        Raises:
            TimeoutError: There was no place in time.
        """
        with self._lock:
            if self._running < self._limit:  # then nobody is in line, as who leaves hands over
                self._running += 1
                return Pass(self, 0.0)
            return Pass(self, self._stand_in_line(timeout))

    def __repr__(self) -> str:
        return f"<Gate {self._running} of {self._limit} running, {len(self._line)} waiting>"

    def _stand_in_line(self, timeout: float | None) -> float:
        start = now = self._monotonic()
        me = _Waiter(self._lock)
        try:
            self._line.append(me)
            while not me.admitted:
                if timeout is not None and now - start >= timeout:
                    raise self._too_late(timeout)
                self._wait(me, None if timeout is None else timeout - (now - start))
                now = self._monotonic()
        except BaseException:
            if me.admitted:
                self._hand_over()
            else:
                self._line.remove(me)
            raise
        return now - start

    def _leave(self, forks: int) -> None:
        with self._lock:
            if forks == self._forks:
                self._hand_over()

    def _hand_over(self) -> None:
        if self._line:
            first = self._line.popleft()
            first.admitted = True
            first.notify()
        else:
            self._running -= 1

    def _too_late(self, timeout: float) -> TimeoutError:
        return TimeoutError(
            f"No place within timeout={timeout:g} s: {self._running} queries are running, as many as "
            f"max_concurrent={self.max_concurrent} allows, and {len(self._line)} are in line with this one, "
            f"which was not sent. Wait longer, or run fewer at once."
        )

    def _after_fork(self) -> None:
        """Start the child empty: the parent's threads, running or in line, are not there."""
        self._lock = threading.Lock()
        self._line = deque()
        self._running = 0
        self._forks += 1


class _Waiter(threading.Condition):
    """One thread in a gate's line."""

    admitted = False


class Pass:
    """A place behind a gate, from `Gate.enter`: given back at the end of its ``with`` block.

    Attributes:
        waited: Seconds that it took to get it.
    """

    __slots__ = ("_forks", "_gate", "waited")

    def __init__(self, gate: Gate, waited: float) -> None:
        self._gate = gate
        self._forks = gate._forks
        self.waited = waited

    def __enter__(self) -> Pass:
        """Hold the place for the block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the place back."""
        self._gate._leave(self._forks)


def _check_windows(pairs: Iterable[tuple[Any, ...]]) -> None:
    problems = []
    for pair in pairs:
        if len(pair) != 2:
            problems.append(f"a window is a pair (max_requests, time_window), not {pair!r}")
            continue
        limit, seconds = pair
        if type(limit) is not int or limit < 1:
            problems.append(f"max_requests must be a whole number of at least 1, not {limit!r}")
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 < seconds < math.inf:
            problems.append(f"time_window must be a finite number of seconds above 0, not {seconds!r}")
    if problems:
        raise ConfigurationError("; ".join(problems))


def _check_limiter(limiter: object) -> None:
    missing = [name for name in ("acquire", "wait_and_acquire") if not callable(getattr(limiter, name, None))]
    if missing:
        raise ConfigurationError(
            f"a limiter needs the methods acquire and wait_and_acquire; {limiter!r} lacks {missing}"
        )


def _in_words(windows: Iterable[_Window]) -> str:
    return " and ".join(f"{limit} requests per {seconds:g} s" for limit, seconds, _ in windows) or "no limit"


def _waiting_with(clock: Clock) -> Callable[[threading.Condition, float | None], object]:
    """Return how to wait on a held condition with this clock: until notified, or for some seconds."""
    if isinstance(clock, SystemClock):
        return _wait_on_condition
    wait: Callable[[threading.Condition, float | None], object] | None = getattr(clock, "wait", None)
    if wait is not None:
        return wait

    def sleep(condition: threading.Condition, seconds: float | None) -> None:
        if seconds is None:  # nothing to sleep for: only another thread can end this
            condition.wait()
            return
        condition.release()
        try:
            clock.sleep(seconds)
        finally:
            condition.acquire()

    return sleep


def _wait_on_condition(condition: threading.Condition, seconds: float | None) -> None:
    condition.wait(None if seconds is None else min(seconds, threading.TIMEOUT_MAX))


_instances: WeakSet[RateLimiter | Gate] = WeakSet()


def _after_fork_in_child() -> None:
    for instance in tuple(_instances):
        instance._after_fork()


# Windows has no fork, and no such function.
_register: Callable[..., Any] = getattr(os, "register_at_fork", lambda **hooks: None)
_register(after_in_child=_after_fork_in_child)
