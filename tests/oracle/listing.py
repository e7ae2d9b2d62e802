"""Lists of events from the raw ones, in plain Python."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

from .events import Event

__all__ = ["between", "counted", "in_order"]


def between(
    events: Iterable[Event], after: datetime, before: datetime, passes: Callable[[Event], bool] = lambda event: True
) -> list[Event]:
    """Events between two moments, neither of which belongs to it."""
    return [event for event in events if after < event.timestamp < before and passes(event)]


def in_order(events: Iterable[Event], limit: int, offset: int) -> list[str]:
    """Ids of a page of events, the newest first, those of one time by their id."""
    ordered = sorted(events, key=lambda event: (-event.timestamp.timestamp(), event.uuid))
    return [event.uuid for event in ordered][offset : offset + limit]


def counted(events: Sequence[Event]) -> list[list[object]]:
    """Names with their numbers, most frequent first."""
    counts = Counter(event.name for event in events)
    return [[name, count] for name, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]
