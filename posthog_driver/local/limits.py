"""PostHog Cloud's limits: requests in a sliding window, and queries that run at the same time."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from . import errors

__all__ = ["CLOUD", "Gate", "Limits", "Throttle", "choose"]


@dataclass(frozen=True)
class Limits:
    """Rates as (requests, seconds), and the gate of running queries.

    The defaults are PostHog Cloud's: 240 a minute and 2,400 an hour for queries, 480 a minute and 4,800 an
    hour for the rest, three queries at once, a fourth waits up to 30 s.
    """

    queries: tuple[tuple[int, float], ...] = ((240, 60.0), (2400, 3600.0))
    others: tuple[tuple[int, float], ...] = ((480, 60.0), (4800, 3600.0))
    running: int = 3
    queue_seconds: float = 30.0


CLOUD = Limits()


def choose(limits: str | Limits | None) -> Limits | None:
    """Return the limits that an argument names: None, ``"cloud"``, or a `Limits` of one's own.

    Raises:
        ValueError: For any other name.
    """
    if limits is None or isinstance(limits, Limits):
        return limits
    if limits == "cloud":
        return CLOUD
    raise ValueError(f'limits must be None or "cloud", got {limits!r}')


class Throttle:
    """Sliding windows over the requests of one scope."""

    def __init__(self, rates: tuple[tuple[int, float], ...], clock: Callable[[], float]) -> None:
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
    """Lets a number of queries run at once; the next ones wait, and are refused when it takes too long."""

    def __init__(self, limits: Limits | None) -> None:
        self._slots = threading.BoundedSemaphore(limits.running) if limits else None
        self._queue_seconds = limits.queue_seconds if limits else 0.0

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Hold one slot.

        Raises:
            ApiError: The concurrency 429, without ``Retry-After``.
        """
        if self._slots is None:
            yield
            return
        if not self._slots.acquire(timeout=self._queue_seconds):
            raise errors.too_many_queries()
        try:
            yield
        finally:
            self._slots.release()
