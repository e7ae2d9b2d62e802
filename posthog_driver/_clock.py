"""Time as an argument: every layer that waits or measures takes a :class:`Clock`.

Durations are differences of ``monotonic()``; ``wall()`` is only for timestamps that people or servers read.
"""

from __future__ import annotations

import time
from typing import Protocol

__all__ = ["Clock", "SystemClock"]


class Clock(Protocol):
    """What the layers ask of time; ``posthog_driver.testing.FakeClock`` is the one for tests."""

    def monotonic(self) -> float:
        """Return seconds from an arbitrary start; never goes backwards."""
        ...

    def wall(self) -> float:
        """Return seconds since the epoch; may jump."""
        ...

    def sleep(self, seconds: float) -> None:
        """Block the calling thread for ``seconds``."""
        ...


class SystemClock:
    """The real clock. It looks ``time.sleep`` and the others up at call time, so that patching them works."""

    __slots__ = ()

    def monotonic(self) -> float:
        """Return seconds from an arbitrary start; never goes backwards."""
        return time.monotonic()

    def wall(self) -> float:
        """Return seconds since the epoch."""
        return time.time()

    def sleep(self, seconds: float) -> None:
        """Block the calling thread for ``seconds``; nothing happens for zero or less."""
        if seconds > 0:
            time.sleep(seconds)
