"""Fail fast while the server is down, and find out with one request at a time whether it is back.

::

            threshold failures in a row             recovery_timeout is over
    CLOSED ────────────────────────────▶ OPEN ────────────────────────────▶ HALF_OPEN
      ▲                                   ▲                                    │  │
      │                                   └──────────── the probe fails ───────┘  │
      └──────────────────── success_threshold probes succeed ─────────────────────┘

Every admitted call holds a numbered permit: the number of the current closed period, or of one probe. A
result counts only if its permit is still the current one, so calls that began before the break change nothing
when they come back. A closed breaker takes no lock and reads no clock unless a call fails; no lock is held
during a call or a listener.
"""

from __future__ import annotations

import itertools
import logging
import math
import os
import threading
from collections.abc import Callable, Iterable
from enum import Enum
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar
from weakref import WeakSet

from posthog_driver._clock import Clock, SystemClock
from posthog_driver.exceptions import CircuitBreakerOpen, ConfigurationError

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["CircuitBreaker", "CircuitState", "Guard", "Outcome"]

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")


class CircuitState(str, Enum):
    """What the breaker does with calls; each member equals its text, such as ``"half_open"``."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"

    __str__ = str.__str__


class Outcome(Enum):
    """What the end of a call says about the server.

    A refusal of the caller's own mistake (400, 403, 429) is a SUCCESS: the server lives. NEUTRAL says
    nothing, as when the caller was interrupted before the answer; a probe then gives its permit back at once.
    """

    SUCCESS = "success"
    FAILURE = "failure"
    NEUTRAL = "neutral"


DEFAULT_RECOVERY_TIMEOUT = 60.0

Listener = Callable[["CircuitBreaker", CircuitState, CircuitState], object]

# The permit of a probe that can_execute() admitted: its result comes by record_*(), which carries no number.
_PLAIN = -1


def _by_exception_class(error: BaseException) -> Outcome:
    """Take every Exception for an outage and everything else (KeyboardInterrupt, SystemExit) for neutral."""
    return Outcome.FAILURE if isinstance(error, Exception) else Outcome.NEUTRAL


class CircuitBreaker:
    """Stop calling a server that fails, and probe it with single calls until it answers again.

    Wrap the call, as ``breaker.call(send, request)`` or ``with breaker.guard(): ...``, or ask and report::

        if breaker.can_execute():
            try:
                ...
            except OSError:
                breaker.record_failure()
            else:
                breaker.record_success()

    The first two are exact about late results; the reports of the third carry no permit, so the breaker goes
    by its state: while open it ignores them, while half-open it takes them for the probe's.

    A probe that never reports is replaced after ``recovery_timeout``. Instances are safe to share between
    threads; after a fork the child has its own state, beginning with a copy of the parent's.

    Args:
        failure_threshold: Failures in a row that open the circuit.
        recovery_timeout: Seconds from the break to the first probe, and from a lost probe to the next. With 0
            a probe is always due, and every probe counts as lost.
        name: Stands in log lines and errors.
        success_threshold: Probes in a row that must succeed before the circuit closes.
        timeout: Another name for ``recovery_timeout``.
        classify: Says what an exception that ended a call means; must not raise. By default every
            ``Exception`` is a failure, and what interrupts (``KeyboardInterrupt``, ``SystemExit``) is
            neutral.
        clock: Where the time comes from; only ``monotonic()`` is used.
        listeners: Called with (breaker, old state, new state) after each change, outside the lock. One that
            raises is logged. The attribute of the same name is a list that may be changed.

    Raises:
        ConfigurationError: An argument is out of range, or ``timeout`` contradicts ``recovery_timeout``.
    """

    def __init__(
        self,
        failure_threshold: int = 5,
        recovery_timeout: float = DEFAULT_RECOVERY_TIMEOUT,
        name: str = "api",
        success_threshold: int = 1,
        *,
        timeout: float | None = None,
        classify: Callable[[BaseException], Outcome] | None = None,
        clock: Clock | None = None,
        listeners: Iterable[Listener] = (),
    ) -> None:
        if timeout is not None and recovery_timeout not in (timeout, DEFAULT_RECOVERY_TIMEOUT):
            raise ConfigurationError(
                f"recovery_timeout={recovery_timeout!r} and timeout={timeout!r} are one thing: give only one"
            )
        self.failure_threshold = failure_threshold
        self.recovery_timeout = recovery_timeout if timeout is None else timeout
        self.name = name
        self.success_threshold = success_threshold
        self.listeners: list[Listener] = list(listeners)
        self._check_settings()
        self._classify = classify or _by_exception_class
        self._monotonic = (clock or SystemClock()).monotonic
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._state = CircuitState.CLOSED
        self._closed = next(self._numbers)  # the permit of this closed period; 0 while not closed
        self._probe = 0  # the permit of the probe under way; 0 without one
        self._probe_due = -math.inf  # not closed: the moment from which the next probe is admitted
        self._failures = 0  # never 0 while not closed, which record_success() relies on
        self._successes = 0
        _instances.add(self)

    def _check_settings(self) -> None:
        problems = [
            f"{name} must be a whole number of at least 1, not {value!r}"
            for name, value in (
                ("failure_threshold", self.failure_threshold),
                ("success_threshold", self.success_threshold),
            )
            if type(value) is not int or value < 1
        ]
        seconds = self.recovery_timeout
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 <= seconds < math.inf:
            problems.append(f"recovery_timeout must be finite seconds, 0 or more, not {seconds!r}")
        if problems:
            raise ConfigurationError("; ".join(problems))

    # --- looking: nothing changes -------------------------------------------------------------------------

    @property
    def state(self) -> CircuitState:
        """The state now: an open circuit reads ``HALF_OPEN`` from the moment at which a probe is due.

        Listeners and log lines follow when the probe is admitted.
        """
        with self._lock:
            if self._state is CircuitState.OPEN and self._monotonic() >= self._probe_due:
                return CircuitState.HALF_OPEN
            return self._state

    @property
    def failure_count(self) -> int:
        """Failures in a row, those of probes included; a success while closed and closing set it to 0."""
        return self._failures

    @property
    def retry_after(self) -> float:
        """Seconds until the next call may be admitted: above 0 while open, or while a probe is under way."""
        with self._lock:
            return 0.0 if self._closed else max(0.0, self._probe_due - self._monotonic())

    def is_open(self) -> bool:
        """Return whether the recovery time still runs. Looks only; `can_execute` also reserves the probe."""
        return not self._closed and self.state is CircuitState.OPEN

    def __repr__(self) -> str:
        failures = f"{self._failures}/{self.failure_threshold}"
        return f"<CircuitBreaker {self.name!r} {self.state} failures={failures}>"

    # --- calling ------------------------------------------------------------------------------------------

    def call(self, func: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call ``func(*args, **kwargs)`` if the circuit admits it, and count how it ends.

        Returns:
            What ``func`` returns; what it raises passes through.

        Raises:
            CircuitBreakerOpen: ``func`` was not called; ``retry_after`` says when a probe is due.
        """
        permit = self._closed or self._enter()
        try:
            # Unpacking an empty ** would cost a sixth of the whole.
            result = func(*args, **kwargs) if kwargs else func(*args)  # type: ignore[call-arg]
        except BaseException as error:
            self._settle(permit, self._classify(error))
            raise
        if self._failures:
            self._settle(permit, Outcome.SUCCESS)
        return result

    def guard(self) -> Guard:
        """Return a context manager around one call: entering raises `CircuitBreakerOpen` or admits it.

        Leaving counts the exception that ends the block, or a success without one. Exceptions pass through.
        """
        return Guard(self)

    def can_execute(self) -> bool:
        """Return whether one call may go now; while half-open, True is the one permit to probe.

        Whoever got True must follow with `record_success` or `record_failure`.
        """
        return self._closed != 0 or self._admit(_PLAIN) != 0

    def record_success(self) -> None:
        """Report that the server answered. Ignored while open: such a call began before the break."""
        if self._failures:
            self._record(Outcome.SUCCESS)

    def record_failure(self) -> None:
        """Report that the server failed. Ignored while open: a late failure does not prolong the break."""
        self._record(Outcome.FAILURE)

    def reset(self) -> None:
        """Close the circuit and forget all failures; results of calls under way no longer count."""
        with self._lock:
            old = self._state
            self._close()
        self._announce(old, CircuitState.CLOSED)

    # --- permits ------------------------------------------------------------------------------------------

    def _enter(self) -> int:
        """Return the permit of a new call, or raise."""
        permit = self._admit(next(self._numbers))
        if not permit:
            raise self._refusal()
        return permit

    def _admit(self, number: int) -> int:
        """Return the permit of the closed period, else ``number`` as the permit to probe, else 0: refused."""
        with self._lock:
            if self._closed:
                return self._closed
            now = self._monotonic()
            if now < self._probe_due:
                return 0
            old = self._state
            self._state = CircuitState.HALF_OPEN
            self._probe = number
            self._probe_due = now + self.recovery_timeout
        self._announce(old, CircuitState.HALF_OPEN)
        return number

    def _refusal(self) -> CircuitBreakerOpen:
        wait = max(0.0, self._probe_due - self._monotonic())
        state = "a probe is under way, another is" if self._probe else "a probe is"
        return CircuitBreakerOpen(
            f"Circuit breaker {self.name!r} is open after {self._failures} failures in a row: nothing was "
            f"sent. The server is probably down; {state} due in {wait:.1f} s.",
            retry_after=wait,
        )

    def _record(self, outcome: Outcome) -> None:
        """Take a report without a permit: while half-open as the probe's, if only is_open() was asked too."""
        permit = self._closed or (self._probe if self._probe == _PLAIN else self._admit(_PLAIN))
        self._settle(permit, outcome)

    def _settle(self, permit: int, outcome: Outcome) -> None:
        """Count the outcome of the call with this permit, if the permit still holds."""
        with self._lock:
            old = self._state
            if permit and permit == self._closed:
                self._count(outcome)
            elif permit and permit == self._probe:
                self._judge_probe(outcome)
            new = self._state
        self._announce(old, new)

    # --- transitions, all under the lock ------------------------------------------------------------------

    def _count(self, outcome: Outcome) -> None:
        if outcome is Outcome.SUCCESS:
            self._failures = 0
        elif outcome is Outcome.FAILURE:
            self._failures += 1
            if self._failures >= self.failure_threshold:
                self._open()

    def _judge_probe(self, outcome: Outcome) -> None:
        self._probe = 0
        self._probe_due = -math.inf
        if outcome is Outcome.FAILURE:
            self._failures += 1
            self._open()
        elif outcome is Outcome.SUCCESS:
            self._successes += 1
            if self._successes >= self.success_threshold:
                self._close()

    def _open(self) -> None:
        self._probe_due = self._monotonic() + self.recovery_timeout
        self._successes = 0
        self._state = CircuitState.OPEN
        self._closed = 0

    def _close(self) -> None:
        self._probe = 0
        self._failures = 0
        self._state = CircuitState.CLOSED
        self._closed = next(self._numbers)

    # --- telling, without the lock ------------------------------------------------------------------------

    def _announce(self, old: CircuitState, new: CircuitState) -> None:
        if old is new:
            return
        level, what = _LOG_LINES[new]
        logger.log(level, "Circuit breaker '%s' %s: %s", self.name, new.name, what.format(self))
        for listener in tuple(self.listeners):
            try:
                listener(self, old, new)
            except Exception:
                logger.exception("A listener of circuit breaker '%s' failed; the call goes on", self.name)

    def _after_fork(self) -> None:
        """Start the child with a lock that nobody holds; a probe under way is the parent's."""
        self._lock = threading.Lock()
        if self._probe:
            self._probe = 0
            self._probe_due = -math.inf


class Guard:
    """One call under a breaker, from `CircuitBreaker.guard`. Good for one ``with`` block."""

    __slots__ = ("_breaker", "_permit")

    def __init__(self, breaker: CircuitBreaker) -> None:
        self._breaker = breaker

    def __enter__(self) -> None:
        """Ask for the permit."""
        breaker = self._breaker
        self._permit = breaker._closed or breaker._enter()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Count how the block ended."""
        breaker = self._breaker
        if error is not None:
            breaker._settle(self._permit, breaker._classify(error))
        elif breaker._failures:
            breaker._settle(self._permit, Outcome.SUCCESS)


_LOG_LINES: dict[CircuitState, tuple[int, str]] = {
    CircuitState.OPEN: (
        logging.ERROR,
        "{0.failure_count} failures in a row, nothing is sent for {0.recovery_timeout} s",
    ),
    CircuitState.HALF_OPEN: (logging.INFO, "attempting recovery with one probe"),
    CircuitState.CLOSED: (logging.INFO, "recovered, calls pass again"),
}

_instances: WeakSet[CircuitBreaker] = WeakSet()


def _after_fork_in_child() -> None:
    for breaker in tuple(_instances):
        breaker._after_fork()


# Windows has no fork, and no such function.
_register: Callable[..., Any] = getattr(os, "register_at_fork", lambda **hooks: None)
_register(after_in_child=_after_fork_in_child)
