"""PostHog Cloud's limits: requests in a sliding window, and queries that run at the same time."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from typing import Any

from . import errors

__all__ = ["CLOUD", "Gate", "Limits", "Throttle", "choose"]

Rates = tuple[tuple[int, float], ...]


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < float("inf")


@dataclass(frozen=True)
class Limits:
    """Rates as (requests, seconds), and the gate of running queries.

    The defaults are PostHog Cloud's: 240 a minute and 2,400 an hour for queries, 480 a minute and 4,800 an
    hour for the rest, each counted for every personal key by itself; three queries of a project at once, and a
    fourth waits up to 30 s. Background runs have places of their own.

    Attributes:
        queries: Rates of ``/query/``.
        others: Rates of everything else that asks for a personal key.
        running: Blocking queries of one project at the same time.
        queue_seconds: How long the next one waits before it is a 429.

    Raises:
        ValueError: A number that cannot be.
    """

    queries: Rates = ((240, 60.0), (2400, 3600.0))
    others: Rates = ((480, 60.0), (4800, 3600.0))
    running: int = 3
    queue_seconds: float = 30.0

    def __post_init__(self) -> None:
        """Check the numbers."""
        for name in ("queries", "others"):
            rates = getattr(self, name)
            if not rates or not all(_is_whole(count) and _is_number(seconds) for count, seconds in rates):
                raise ValueError(f"limits: {name} must be pairs of a count and seconds, got {rates!r}")
        if not _is_whole(self.running):
            raise ValueError(f"limits: running must be at least 1, got {self.running!r}")
        if self.queue_seconds != 0 and not _is_number(self.queue_seconds):
            raise ValueError(f"limits: queue_seconds must be a number of seconds, got {self.queue_seconds!r}")

    def to_json(self) -> dict[str, Any]:
        """Return them as `choose` takes them again."""
        return asdict(self)


CLOUD = Limits()


def choose(limits: str | Limits | Mapping[str, Any] | None) -> Limits | None:
    """Return the limits that an argument names: None, ``"cloud"``, `Limits`, or a mapping of their fields.

    Raises:
        ValueError: For anything else.
    """
    if limits is None or isinstance(limits, Limits):
        return limits
    if limits == "cloud":
        return CLOUD
    if isinstance(limits, Mapping):
        unknown = limits.keys() - {field.name for field in fields(Limits)}
        if unknown:
            raise ValueError(f"limits has no field {', '.join(sorted(map(str, unknown)))}")
        pairs = {name: _pairs(name, limits[name]) for name in ("queries", "others") if name in limits}
        return Limits(**{**limits, **pairs})
    raise ValueError(f'limits must be None, "cloud" or Limits, got {limits!r}')


def _pairs(name: str, rates: Any) -> Rates:
    try:
        return tuple((count, seconds) for count, seconds in rates)
    except (TypeError, ValueError):
        raise ValueError(f"limits: {name} must be pairs of a count and seconds, got {rates!r}") from None


class Throttle:
    """Sliding windows over the requests of one scope.

    Args:
        rates: The windows, as (requests, seconds).
        clock: Monotonic seconds.
    """

    def __init__(self, rates: Rates, clock: Callable[[], float]) -> None:
        self._rates = rates
        self._clock = clock
        self._calls: deque[float] = deque(maxlen=max(count for count, _ in rates))
        self._lock = threading.Lock()

    def admit(self) -> None:
        """Count one request.

        Raises:
            ApiError: 429 with ``Retry-After`` when a window is full; the request is not counted then.
        """
        with self._lock:
            now = self._clock()
            wait = max(self._wait(count, seconds, now) for count, seconds in self._rates)
            if wait <= 0:
                self._calls.append(now)
        if wait > 0:
            raise errors.throttled(wait)

    def _wait(self, count: int, seconds: float, now: float) -> float:
        return self._calls[-count] + seconds - now if len(self._calls) >= count else 0.0


class Gate:
    """Lets a number of queries run at once; the next ones wait, and are refused when it takes too long.

    Args:
        limits: How many and how long; None lets everybody through.
        clock: Monotonic seconds.
        wait: Waits on a condition for at most some seconds.
    """

    def __init__(
        self,
        limits: Limits | None,
        *,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[threading.Condition, float], object] = threading.Condition.wait,
    ) -> None:
        self._limits = limits
        self._clock = clock
        self._wait = wait
        self._running = 0
        self._freed = threading.Condition()

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Hold one slot.

        Raises:
            ApiError: The concurrency 429, without ``Retry-After``.
        """
        if self._limits is None:
            yield
            return
        self._enter(self._limits)
        try:
            yield
        finally:
            with self._freed:
                self._running -= 1
                self._freed.notify()

    def _enter(self, limits: Limits) -> None:
        with self._freed:
            deadline = self._clock() + limits.queue_seconds
            while self._running >= limits.running:
                left = deadline - self._clock()
                if left <= 0:
                    raise errors.too_many_queries()
                self._wait(self._freed, left)
            self._running += 1
