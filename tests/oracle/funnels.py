"""Funnels over raw events, event by event, from the definition in PostHog's aggregate functions.

`reached` is the furthest step of one actor and its times; `taken` are its steps, when some may be left out;
`reached_unordered` is the same in any order; `outcomes` says for each interval in which the actor begins whether the
funnel is converted.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from typing import Any

__all__ = ["Visit", "outcomes", "reached", "reached_unordered", "taken", "thinned"]


@dataclass(frozen=True)
class Visit:
    """An event of one actor: when, its id, its breakdown value, and which steps (negative: exclusions) it is."""

    moment: datetime
    uuid: str
    value: Any
    steps: tuple[int, ...]
    bucket: Any = None

    def seconds_after(self, other: datetime) -> float:
        return (self.moment - other).total_seconds()


@dataclass
class _Walk:
    begun: datetime | None = None
    excluded: bool = False
    visits: list[Visit] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)


def thinned(visits: Sequence[Visit]) -> list[Visit]:
    """Leave out what lies between two of its kind."""
    kept = []
    for i, visit in enumerate(visits):
        before, after = visits[i - 1], visits[(i + 1) % len(visits)]
        alike = all((o.steps, o.value) == (visit.steps, visit.value) for o in (before, after))
        if not (len(visit.steps) <= 1 and alike and before.moment < visit.moment < after.moment):
            kept.append(visit)
    return kept


def reached(
    visits: Sequence[Visit], steps: int, window: float, strict: bool = False, attributed: int = 0, value: Any = None
) -> tuple[int, list[datetime]]:
    """Return the furthest step, 0 for none, and the times of its walk.

    Args:
        visits: In their order of time.
        steps: How many there are.
        window: Seconds.
        strict: Whether any other event breaks a walk off.
        attributed: The step that must have the value; 0 for none.
        value: The breakdown value.
    """
    own, times = taken(visits, steps, window, strict, attributed, value)
    return len(own), times


def taken(
    visits: Sequence[Visit],
    steps: int,
    window: float,
    strict: bool = False,
    attributed: int = 0,
    value: Any = None,
    optional: Collection[int] = (),
) -> tuple[list[int], list[datetime]]:
    """Return the steps of the walk that gets furthest, and the times of those that are not `optional`."""
    walks = [_Walk() for _ in range(steps + 1)]
    best, best_walk = 0, _Walk()
    for moment, group in groupby(visits, key=lambda visit: visit.moment):
        together = list(group)
        mixed = len({visit.steps for visit in together}) > 1
        if mixed:
            single = [(step, i, visit) for i, visit in enumerate(together) for step in visit.steps if step > 0]
            queue = [(visit, (step,)) for step, _, visit in sorted(single, key=lambda one: one[:2])]
        else:
            queue = [(visit, visit.steps) for visit in together]
        walks[0] = _Walk(moment)
        for visit, own in queue:
            for step in sorted(own, key=lambda s: (s < 0, s if s > 0 else -s), reverse=True):
                here = walks[abs(step)]
                # The nearest step that a walk stands at, past steps that may be left out.
                nearest = [i for i in range(abs(step)) if all(j in optional for j in range(i + 1, abs(step)))]
                alive = [i for i in nearest if (begun := walks[i].begun) and visit.seconds_after(begun) <= window]
                if not alive or here.begun == walks[alive[-1]].begun:
                    continue
                last = alive[-1]
                before = walks[last]
                if step < 0:
                    if not before.excluded:
                        before.excluded = True
                        if best == last and visit.seconds_after(best_walk.begun or moment) <= window:
                            best_walk = _Walk(best_walk.begun, True, best_walk.visits, best_walk.steps)
                    continue
                if last == attributed - 1 and visit.value != value:
                    continue
                if mixed and visit in before.visits:
                    continue
                needed = [] if step in optional else [visit]
                walk = _Walk(before.begun, before.excluded, before.visits + needed, [*before.steps, step])
                if not before.excluded:
                    walks[step] = walk
                if step > best or (step == best and best_walk.excluded):
                    best, best_walk = step, _Walk(walk.begun, walk.excluded, walk.visits, walk.steps)
            if strict and not mixed:
                for step in range(1, steps + 1):
                    if step not in own:
                        walks[step] = _Walk()
        if walks[steps].begun is not None:
            break
    return ([], []) if best_walk.excluded else (best_walk.steps, [visit.moment for visit in best_walk.visits])


def reached_unordered(
    visits: Sequence[Visit], steps: int, window: float, attributed: int = 0, value: Any = None
) -> tuple[int, list[datetime]]:
    """Return the most steps within one window, and their times."""
    waiting: list[list[datetime]] = [[] for _ in range(steps)]
    best: list[datetime] = []

    def note() -> None:
        nonlocal best
        firsts = sorted(times[0] for times in waiting if times)
        if len(firsts) > len(best):
            best = firsts

    for visit in visits:
        while any(waiting):
            oldest = min((times for times in waiting if times), key=lambda times: times[0])
            if not all(waiting) and visit.seconds_after(oldest[0]) <= window:
                break
            note()
            oldest.pop(0)
        if len(best) == steps:
            break
        if all(step < 0 for step in visit.steps):
            waiting = [[] for _ in range(steps)]
            continue
        if attributed and not any(waiting) and visit.value != value:
            continue
        chosen = min(visit.steps, key=lambda step: waiting[step - 1][-1].timestamp() if waiting[step - 1] else 0.0)
        waiting[chosen - 1].append(visit.moment)
    note()
    return len(best), best


@dataclass
class _Interval:
    walks: list[_Walk]
    best: int = 0
    reached_at: datetime | None = None
    exclusion: str = ""
    done: bool = False


def outcomes(
    visits: Sequence[Visit],
    steps: int,
    window: float,
    strict: bool = False,
    attributed: int = 0,
    value: Any = None,
    from_step: int = 0,
) -> dict[Any, bool]:
    """Return for each interval that counts whether the funnel was converted, from its first to its last step."""
    intervals: dict[Any, _Interval] = {}
    for visit in visits:
        for step in sorted(visit.steps, key=lambda s: (s < 0, s if s > 0 else -s), reverse=True):
            unmatched = step == attributed and visit.value != value
            if step == 1:
                if not unmatched:
                    _enter(intervals, visit, steps)
                continue
            for interval in intervals.values():
                if not interval.done:
                    _proceed(interval, visit, step, steps, window, unmatched)
        if strict:
            for interval in intervals.values():
                for step in range(1, steps + 1):
                    if step not in visit.steps:
                        interval.walks[step] = _Walk()
    found = {bucket: True for bucket, interval in intervals.items() if interval.done}
    open_ones = {bucket: interval for bucket, interval in intervals.items() if not interval.done}
    if not any(interval.exclusion == "full" for interval in open_ones.values()):
        for bucket, interval in open_ones.items():
            if interval.best > from_step and interval.exclusion != "partial":
                found[bucket] = False
    return found


def _enter(intervals: dict[Any, _Interval], visit: Visit, steps: int) -> None:
    interval = intervals.get(visit.bucket)
    if interval is None or (not interval.done and interval.best == 1 and interval.exclusion):
        interval = _Interval([_Walk() for _ in range(steps + 1)], 1, visit.moment)
        intervals[visit.bucket] = interval
    if not interval.done:
        interval.walks[1] = _Walk(visit.moment)


def _proceed(interval: _Interval, visit: Visit, step: int, steps: int, window: float, unmatched: bool) -> None:
    before, here = interval.walks[abs(step) - 1], interval.walks[abs(step)]
    if before.begun is None or visit.seconds_after(before.begun) > window or here.begun == before.begun:
        return
    if step < 0:
        if not before.excluded:
            before.excluded = True
            at = interval.reached_at
            if interval.best == -step - 1 and at is not None and visit.seconds_after(at) <= window:
                interval.exclusion = "partial"
        return
    if unmatched:
        return
    if not before.excluded:
        interval.walks[step] = _Walk(before.begun)
        interval.done = step == steps
    if not interval.done and (step > interval.best or (step == interval.best and interval.exclusion == "partial")):
        interval.best, interval.reached_at = step, visit.moment
        interval.exclusion = "full" if before.excluded else ""
