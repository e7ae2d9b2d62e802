"""Trends, stickiness and lifecycle in plain Python, from what the questions mean."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from .calendar import Calendar
from .events import Event

__all__ = ["lifecycle", "number", "stickiness", "total", "trend"]

Passes = Callable[[Event], bool]


def number(value: Any) -> float | None:
    """A property as a number, if it says one."""
    if isinstance(value, bool) or value is None:
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _quantile(values: Sequence[float], level: float) -> float:
    """Between the two values that stand at that share of the way through all of them."""
    ordered = sorted(values)
    place = level * (len(ordered) - 1)
    low, part = math.floor(place), place - math.floor(place)
    return ordered[low] + (ordered[min(low + 1, len(ordered) - 1)] - ordered[low]) * part


_OF_NUMBERS: dict[str, Callable[[Sequence[float]], float]] = {
    "sum": sum,
    "avg": lambda values: sum(values) / len(values),
    "min": min,
    "max": max,
    "median": lambda values: _quantile(values, 0.5),
    "p90": lambda values: _quantile(values, 0.9),
}


def total(events: Iterable[Event], way: str, key: str = "") -> float:
    """What a number of events comes to."""
    events = list(events)
    if way == "total":
        return len(events)
    if way == "dau":
        return len({event.person for event in events})
    if way == "unique_session":
        return len({event.get("$session_id") for event in events if event.get("$session_id")})
    if way == "unique_group":
        return len({event.groups["company"] for event in events if "company" in event.groups})
    if way.endswith("_count_per_actor"):
        counts = list(Counter(event.person for event in events).values())
        return _OF_NUMBERS[way.removesuffix("_count_per_actor")](counts) if counts else 0
    numbers = [found for event in events if (found := number(event.get(key))) is not None]
    return _OF_NUMBERS[way](numbers) if numbers else 0


def trend(
    events: Sequence[Event], name: str | None, passes: Passes, calendar: Calendar, way: str, key: str = ""
) -> list[float]:
    """One number for each interval."""
    named = [event for event in events if name is None or event.name == name]
    if way in ("weekly_active", "monthly_active"):
        days = {"weekly_active": 7, "monthly_active": 30}[way]
        return [
            len(
                {
                    event.person
                    for event in named
                    if passes(event)
                    and slot - timedelta(days=days) < calendar.day(event.timestamp) <= slot
                    and calendar.day(event.timestamp) <= calendar.last
                }
            )
            for slot in calendar.slots()
        ]
    if way in ("first_time_for_user", "first_matching_event_for_user"):
        among = [event for event in named if passes(event)] if way == "first_matching_event_for_user" else named
        firsts: dict[int, list[Event]] = {}
        for event in among:
            held = firsts.setdefault(event.person, [event])
            if event.timestamp < held[0].timestamp:
                firsts[event.person] = [event]
            elif event.timestamp == held[0].timestamp and event is not held[0]:
                held.append(event)
        counted = [held[0] for held in firsts.values() if passes(held[0])]
        return [
            sum(calendar.slot(event.timestamp) == slot and calendar.holds(event.timestamp) for event in counted)
            for slot in calendar.slots()
        ]
    held_events = [event for event in named if passes(event) and calendar.holds(event.timestamp)]
    if way.endswith("_count_per_actor"):
        held_events = [event for event in held_events if calendar.day(event.timestamp) >= calendar.first]
    return [
        total((event for event in held_events if calendar.slot(event.timestamp) == slot), way, key)
        for slot in calendar.slots()
    ]


def stickiness(events: Sequence[Event], name: str, calendar: Calendar, least: int = 1) -> list[int]:
    """How many people were active in one interval, in two ... ; active is who did it so often in the interval."""
    active: dict[int, set[Any]] = {}
    done = Counter(
        (event.person, calendar.slot(event.timestamp))
        for event in events
        if event.name == name and calendar.holds(event.timestamp)
    )
    for (person, slot), times in done.items():
        if times >= least:
            active.setdefault(person, set()).add(slot)
    return [sum(len(slots) == count for slots in active.values()) for count in range(1, len(calendar.slots()) + 1)]


def lifecycle(
    events: Sequence[Event], name: str, calendar: Calendar, created: Mapping[str, datetime]
) -> dict[str, list[int]]:
    """How many people were new, returning, resurrecting and dormant in each interval.

    Args:
        events: All events.
        name: The event that makes somebody active.
        calendar: The intervals.
        created: By uuid of an event, when its person was created, as the event itself says.
    """
    slots = calendar.slots()
    after = slots[-1] + timedelta(days={"day": 1, "week": 7, "month": 31}[calendar.interval])
    before = Calendar(
        calendar.first_day(slots[0] - timedelta(days=1)),
        calendar.first_day(after) - timedelta(days=1),
        calendar.interval,
        calendar.zone,
        calendar.week_start,
    )
    order = before.slots()
    found = {status: [0] * len(slots) for status in ("new", "returning", "resurrecting", "dormant")}
    active: dict[int, set[int]] = {}
    births: dict[int, datetime] = {}
    for event in events:
        if event.name == name and before.holds(event.timestamp):
            active.setdefault(event.person, set()).add(order.index(before.slot(event.timestamp)))
            birth = created[event.uuid]
            births[event.person] = min(birth, births.get(event.person, birth))
    for person, places in active.items():
        born = before.slot(births[person])
        for place in range(1, len(order)):
            if place in places:
                is_first = min(places) == place
                if is_first and order[place] == born:
                    status = "new"
                else:
                    status = "returning" if place - 1 in places else "resurrecting"
                found[status][place - 1] += 1
            elif place - 1 in places:
                found["dormant"][place - 1] -= 1
    return found
