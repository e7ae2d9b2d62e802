"""Retention over raw events: for each interval in which actors begin, how many come back how much later."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from .events import Event

__all__ = ["table"]

Cell = tuple[int, int]


def table(
    events: Mapping[Any, Sequence[Event]],
    starts: Sequence[datetime],
    end: datetime,
    target: Callable[[Event], bool],
    returning: Callable[[Event], bool],
    *,
    lookahead: int,
    kind: str = "retention_recurring",
    named: Callable[[Event], bool] | None = None,
    least: int = 1,
    cumulative: bool = False,
    value: Callable[[Event], Any] = lambda event: None,
) -> dict[Any, Counter[Cell]]:
    """Return the numbers of actors by breakdown value, interval of beginning, and intervals after it.

    Args:
        events: Each actor's in their order of time, the question's filters applied.
        starts: Beginnings of the intervals.
        end: When the last one ends.
        target: Which events begin.
        returning: Which events are a return.
        lookahead: How many intervals a row has.
        kind: PostHog's ``retentionType``.
        named: The target event without its own filters.
        least: How often an actor must come in an interval.
        cumulative: Whether coming later means coming in every interval before.
        value: The breakdown value of an event; that of an actor's first event of either kind counts.
    """
    found: dict[Any, Counter[Cell]] = {}
    for own in events.values():
        scope = [event for event in own if target(event) or returning(event) or (named is not None and named(event))]
        if kind == "retention_recurring":
            scope = [event for event in scope if starts[0] <= event.timestamp < end]
        if not scope:
            continue
        first = min(scope, key=lambda event: (event.timestamp, event.uuid))
        cells = found.setdefault(value(first), Counter())
        for began in _begun(scope, starts, end, target, named or target, kind):
            visits = Counter(_place(event, starts, end) for event in scope if returning(event))
            later = {place - began for place, n in visits.items() if place is not None and n >= least}
            reached = {0, *(gap for gap in later if 0 < gap < lookahead)}
            cells.update((began, gap) for gap in (range(max(reached) + 1) if cumulative else reached))
    return found


def _place(event: Event, starts: Sequence[datetime], end: datetime) -> int | None:
    if not starts[0] <= event.timestamp < end:
        return None
    return max(i for i, start in enumerate(starts) if start <= event.timestamp)


def _begun(
    scope: Sequence[Event],
    starts: Sequence[datetime],
    end: datetime,
    target: Callable[[Event], bool],
    named: Callable[[Event], bool],
    kind: str,
) -> set[int]:
    targets = [event for event in scope if target(event)]
    if kind != "retention_recurring" and targets:
        first = min(event.timestamp for event in targets)
        if kind == "retention_first_ever_occurrence":
            ever = min(event.timestamp for event in scope if named(event))
            targets = targets if ever == first else []
        targets = [event for event in targets if event.timestamp == first]
    places = {_place(event, starts, end) for event in targets}
    return {place for place in places if place is not None}
