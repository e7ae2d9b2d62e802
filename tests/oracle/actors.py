"""Who stands behind a number, from the raw events: computed as the questions are defined, in plain Python."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import date, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from .events import Event

__all__ = ["active_days", "behind_day", "dormant", "first_days", "number_of", "returning"]


def number_of(person: dict[str, Any]) -> int:
    """The number of a person in the answer: the one in its user's distinct id."""
    (number,) = {int(name.split("-")[1]) for name in person["distinct_ids"]}
    return number


def _day(event: Event, zone: str) -> date:
    return event.timestamp.astimezone(ZoneInfo(zone)).date()


def behind_day(
    events: Iterable[Event], name: str, day: date, zone: str, passes: Callable[[Event], bool] = lambda event: True
) -> Counter[int]:
    """Events of a name on a day, by person."""
    return Counter(e.person for e in events if e.name == name and _day(e, zone) == day and passes(e))


def first_days(events: Sequence[Event], name: str, zone: str) -> dict[int, date]:
    """The day of each person's first event of a name."""
    found: dict[int, date] = {}
    for event in events:
        if event.name == name:
            found.setdefault(event.person, _day(event, zone))
    return found


def active_days(events: Iterable[Event], name: str, days: Sequence[date], zone: str) -> Counter[int]:
    """On how many of the days each person had an event of a name."""
    active = {(event.person, day) for event in events if event.name == name and (day := _day(event, zone)) in days}
    return Counter(person for person, _ in active)


def returning(events: Sequence[Event], name: str, day: date, zone: str) -> set[int]:
    """Who was there on a day and on the one before."""
    before = behind_day(events, name, day - timedelta(days=1), zone)
    return set(behind_day(events, name, day, zone)) & set(before)


def dormant(events: Sequence[Event], name: str, day: date, zone: str) -> set[int]:
    """Who was there on the day before and not on this one."""
    before = behind_day(events, name, day - timedelta(days=1), zone)
    return set(before) - set(behind_day(events, name, day, zone))
