"""How an actor walks through a funnel: the rules of PostHog's aggregate functions, event by event.

PostHog does this outside of ClickHouse too (``funnel-udf/src``: ``steps.rs``, ``unordered_steps.rs``, ``trends.rs``),
and not as ``windowFunnel`` does: the furthest step counts, and the first walk that gets there; a step may always be
entered anew, and the window begins at the first step.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

__all__ = ["Event", "Rules", "Walked", "outcomes", "thinned", "walked"]


class Event(NamedTuple):
    """An event of an actor.

    Attributes:
        moment: Microseconds since 1970.
        steps: Which steps it is, from 1, ascending.
        bans: Before which steps it excludes.
        value: Its breakdown value.
        bucket: The interval that it lies in.
    """

    moment: int
    steps: tuple[int, ...]
    bans: tuple[int, ...] = ()
    value: Any = None
    bucket: Any = None


@dataclass(frozen=True)
class Rules:
    """What a walk must keep to.

    Attributes:
        steps: Number of steps.
        window: Microseconds from the first step within which all others must follow.
        order: ``ordered``, ``strict`` (nothing may lie between two steps) or ``unordered``.
        attributed: The step whose event must have the breakdown value, 0 for none.
        optional: Steps that may be left out, of those in order; never the first.
    """

    steps: int
    window: int
    order: str = "ordered"
    attributed: int = 0
    optional: frozenset[int] = frozenset()


class Walked(NamedTuple):
    """How far an actor gets.

    Attributes:
        taken: The steps on the way, from 1; none of them is missing but optional ones.
        times: The moments of those that are not optional.
    """

    taken: Sequence[int]
    times: Sequence[int]

    @property
    def step(self) -> int:
        """The furthest step, 0 for none."""
        return self.taken[-1] if self.taken else 0


class _Walk(NamedTuple):
    """A walk: when it began, its steps, the places of the events of those needed, and when it got where it is."""

    begun: int
    taken: tuple[int, ...] = ()
    visits: tuple[int, ...] = ()
    is_excluded: bool = False
    at: int = 0


def thinned(events: Sequence[Event]) -> list[Event]:
    """Return events without those between two of the same kind, which PostHog leaves out."""
    if len(events) < 3:
        return list(events)
    triples = zip(events, events[1:], events[2:], strict=False)
    kept = [event for last, event, following in triples if not _is_between(last, event, following)]
    return [events[0], *kept, events[-1]]


def _is_between(last: Event, event: Event, following: Event) -> bool:
    return (
        last[1:4] == event[1:4] == following[1:4]
        and len(event.steps) + len(event.bans) <= 1
        and last.moment < event.moment < following.moment
    )


def walked(events: Sequence[Event], rules: Rules, value: Any = None) -> Walked:
    """Return how far an actor gets.

    Args:
        events: The actor's, in their order of time.
        rules: What the walk must keep to.
        value: The breakdown value that the event of the attributed step must have.
    """
    if rules.order == "unordered":
        return _walked_in_any_order(events, rules, value)
    best = _in_order(events, rules, value)
    return Walked(best.taken, [events[i].moment for i in best.visits])


# ------------------------------------------------------------------------------------------------------------- in order


def _in_order(events: Sequence[Event], rules: Rules, value: Any) -> _Walk:
    """Return the furthest walk; one without steps if there is none, or it is excluded."""
    walks: list[_Walk | None] = [None] * (rules.steps + 1)
    best, furthest = _Walk(0), 0
    for place, event, is_mixed in _unmixed(events):
        for step in reversed(event.bans):
            last, walk = _continued(walks, step, event.moment, rules)
            if walk is None or walk.is_excluded:
                continue
            walks[last] = walk._replace(is_excluded=True)
            if furthest == last and event.moment - best.begun <= rules.window:
                best = best._replace(is_excluded=True)
        for step in reversed(event.steps):  # from the last, so that each sees the walks before this event
            last, walk = _continued(walks, step, event.moment, rules)
            if walk is None or (last + 1 == rules.attributed and event.value != value):
                continue
            if is_mixed and place in walk.visits:
                continue
            visits = walk.visits if step in rules.optional else (*walk.visits, place)
            reached = _Walk(walk.begun, (*walk.taken, step), visits, walk.is_excluded)
            if not walk.is_excluded:
                walks[step] = reached
            if step > furthest or (step == furthest and best.is_excluded):
                best, furthest = reached, step
        if walks[-1] is not None:
            break
        if rules.order == "strict" and not is_mixed:
            for step in range(1, rules.steps):
                if walks[step] is not None and step not in event.steps:
                    walks[step] = None
    return _Walk(0) if best.is_excluded else best


def _continued(walks: Sequence[_Walk | None], step: int, moment: int, rules: Rules) -> tuple[int, _Walk | None]:
    """Return the step before, and the walk that had reached it; None if that is too old or has been here already.

    Without such a walk an optional step before counts as left out, and the one before that is looked at.
    """
    here, last = walks[step], step - 1
    walk = walks[last] if last else _Walk(moment)
    while (walk is None or moment - walk.begun > rules.window) and last in rules.optional:
        last -= 1
        walk = walks[last]
    if walk is None or moment - walk.begun > rules.window:
        return last, None
    return last, None if here is not None and here.begun == walk.begun else walk


def _unmixed(events: Sequence[Event]) -> Iterator[tuple[int, Event, bool]]:
    """Give events with their places, and whether they are parts of a moment at which different steps happened.

    Those are cut into single steps, which come in their order; exclusions, and what lies between strict steps, do not
    count at such a moment.
    """
    place, count = 0, len(events)
    while place < count:
        first, end = events[place], place + 1
        while end < count and events[end].moment == first.moment:
            end += 1
        together = range(place, end)
        if all(events[i].steps == first.steps and events[i].bans == first.bans for i in together[1:]):
            for i in together:
                yield i, events[i], False
        else:
            for step, part in sorted((step, i) for i in together for step in events[i].steps):
                yield part, events[part]._replace(steps=(step,), bans=()), True
        place = end


# --------------------------------------------------------------------------------------------------------- in any order


def _walked_in_any_order(events: Sequence[Event], rules: Rules, value: Any) -> Walked:
    """The most steps within one window, noted when its first event leaves it, when all are there, and at the end."""
    held: list[tuple[int, int]] = []  # moments and steps, in their order
    best: list[int] = []

    def noted() -> list[int]:
        firsts: dict[int, int] = {}
        for moment, step in held:
            firsts.setdefault(step, moment)
        return max(best, list(firsts.values()), key=len)

    for event in events:
        oldest = event.moment - rules.window
        if held and held[0][0] < oldest:
            best = noted()
            held = [one for one in held if one[0] >= oldest]
        if not event.steps:
            held = []
            continue
        if rules.attributed and not held and event.value != value:
            continue
        lasts = {step: moment for moment, step in held}
        # An event that is several steps is the one that has waited longest.
        held.append((event.moment, min(event.steps, key=lambda step: lasts.get(step, 0))))
        if len({step for _, step in held}) == rules.steps:
            break
    best = noted()
    return Walked(range(1, len(best) + 1), best)


# ----------------------------------------------------------------------------------------------- entered in an interval


@dataclass(frozen=True)
class _Entry:
    """What became of entering in one interval.

    Attributes:
        walks: For each step the latest walk that reached it.
        best: The furthest one.
        step: How far.
        is_passed: Whether there was a step after an exclusion.
    """

    walks: tuple[_Walk | None, ...]
    best: _Walk
    step: int = 1
    is_passed: bool = False


def outcomes(events: Sequence[Event], rules: Rules, value: Any = None) -> dict[Any, int]:
    """Return how far an actor gets who begins in an interval, for each of them.

    Intervals without anything left because of exclusions are not there. One exclusion that was followed by a step
    spoils all intervals in which the last step was not reached.

    Args:
        events: The actor's, in their order of time.
        rules: What the walk must keep to.
        value: The breakdown value that the event of the attributed step must have.
    """
    going: dict[Any, _Entry] = {}
    done: dict[Any, int] = {}
    for event in events:
        # Nothing but a first step leaves an entry as it is.
        is_later = bool(event.bans) or event.steps[-1:] > (1,)
        for bucket, entry in list(going.items()) if is_later else ():
            if (following := _proceeded(entry, event, rules, value)) is None:
                del going[bucket]
                done[bucket] = rules.steps
            else:
                going[bucket] = following
        if 1 in event.steps and event.bucket not in done and (rules.attributed != 1 or event.value == value):
            going[event.bucket] = _entered(going.get(event.bucket), event, rules)
        if rules.order == "strict":
            for bucket, entry in going.items():
                kept = tuple(walk if step in event.steps else None for step, walk in enumerate(entry.walks))
                going[bucket] = replace(entry, walks=kept)
    if not any(entry.is_passed for entry in going.values()):
        done |= {bucket: entry.step for bucket, entry in going.items() if not entry.best.is_excluded}
    return done


def _entered(entry: _Entry | None, event: Event, rules: Rules) -> _Entry:
    walk = _Walk(event.moment, at=event.moment)
    if entry is None or (entry.step == 1 and entry.best.is_excluded):
        return _Entry((None, walk, *[None] * (rules.steps - 1)), walk)
    return replace(entry, walks=(None, walk, *entry.walks[2:]))


def _proceeded(entry: _Entry, event: Event, rules: Rules, value: Any) -> _Entry | None:
    """Return an entry after an event; None when the last step is reached."""
    walks, best, furthest, is_passed = list(entry.walks), entry.best, entry.step, entry.is_passed
    for step in reversed(event.bans):
        _, walk = _continued(walks, step, event.moment, rules)
        if walk is not None and not walk.is_excluded:
            walks[step - 1] = walk._replace(is_excluded=True)
            if furthest == step - 1 and event.moment - best.at <= rules.window:
                best, is_passed = best._replace(is_excluded=True), False
    for step in reversed(event.steps):
        _, walk = _continued(walks, step, event.moment, rules)
        if step == 1 or walk is None or (step == rules.attributed and event.value != value):
            continue
        if not walk.is_excluded:
            walks[step] = walk
            if step == rules.steps:
                return None
        if step > furthest or (step == furthest and best.is_excluded):
            # A step after an exclusion is no longer excluded by itself, but passed.
            best, furthest, is_passed = walk._replace(is_excluded=False, at=event.moment), step, walk.is_excluded
    return _Entry(tuple(walks), best, furthest, is_passed)
