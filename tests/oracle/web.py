"""The numbers of a site's sessions, from the raw events: computed as the question is defined, in plain Python."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, datetime, time
from statistics import mean
from typing import Any
from zoneinfo import ZoneInfo

from .events import Event

__all__ = ["goals", "overview", "period", "table"]

VIEWS = ("$pageview", "$screen")
BOUNCE_SECONDS = 10


def period(first: date, last: date, zone: str) -> tuple[datetime, datetime]:
    """The first and last moment of days in a time zone."""
    place = ZoneInfo(zone)
    return datetime.combine(first, time.min, place), datetime.combine(last, time.max, place)


def _sessions(events: Sequence[Event]) -> dict[str, list[Event]]:
    found: dict[str, list[Event]] = {}
    for event in events:
        if session := event.get("$session_id"):
            found.setdefault(session, []).append(event)
    return found


def _duration(session: Sequence[Event]) -> int:
    seconds = [int(event.timestamp.timestamp() // 1) for event in session]
    return max(seconds) - min(seconds)


def _is_bounce(session: Sequence[Event]) -> bool | None:
    pages = sum(event.name in (*VIEWS, "$autocapture") for event in session)
    return None if pages == 0 else not (pages > 1 or _duration(session) >= BOUNCE_SECONDS)


def overview(
    events: Sequence[Event],
    first: datetime,
    last: datetime,
    passes: Callable[[Event], bool] = lambda event: True,
    goal: str | None = None,
) -> list[Any]:
    """The numbers of the sessions that begin in a range: visits, or with a goal conversions."""
    counted = []
    for session in _sessions(events).values():
        own = [
            event
            for event in session
            if first <= event.timestamp <= last and passes(event) and event.name in (*VIEWS, goal)
        ]
        if own and first <= min(event.timestamp for event in session) <= last:
            counted.append((session, own))
    visitors = {own[0].person for _, own in counted}
    if goal is not None:
        converted = {own[0].person for _, own in counted if any(event.name == goal for event in own)}
        total = sum(event.name == goal for _, own in counted for event in own)
        rate = 100 * len(converted) / len(visitors) if visitors else None
        return [len(visitors), total, len(converted), rate]
    views = sum(event.name in VIEWS for _, own in counted for event in own)
    bounces = [bounce for session, _ in counted if (bounce := _is_bounce(session)) is not None]
    return [
        len(visitors),
        views,
        len(counted),
        mean(_duration(session) for session, _ in counted) if counted else None,
        100 * mean(bounces) if bounces else None,
    ]


Range = tuple[datetime, datetime]


def table(events: Sequence[Event], ranges: Sequence[Range], value: Callable[[Event], Any]) -> dict[Any, list[Any]]:
    """Visitors, views and bounce rate by a value of the events: pairs when there are two ranges, else one of each."""
    groups: dict[Any, list[tuple[list[Event], list[Event]]]] = {}
    for session in _sessions(events).values():
        own = [e for e in session if e.name in VIEWS and any(first <= e.timestamp <= last for first, last in ranges)]
        for key in {value(event) for event in own} - {None}:
            groups.setdefault(key, []).append((session, [event for event in own if value(event) == key]))
    found = {}
    for key, sessions in groups.items():
        found[key] = [
            _visits([one for one in sessions if len(ranges) == 1 or first <= _start(one[0]) <= last])
            for first, last in ranges
        ]
    return found


def _start(session: Sequence[Event]) -> datetime:
    return min(event.timestamp for event in session)


def _visits(sessions: Sequence[tuple[list[Event], list[Event]]]) -> tuple[int, int, float | None]:
    bounces = [bounce for session, _ in sessions if (bounce := _is_bounce(session)) is not None]
    return (
        len({own[0].person for _, own in sessions}),
        sum(len(own) for _, own in sessions),
        mean(bounces) if bounces else None,
    )


def goals(
    events: Sequence[Event], first: datetime, last: datetime, names: Sequence[str]
) -> list[tuple[int, int, float]]:
    """For each event that is a goal: who did it, how often, and their share of the visitors."""
    among = []
    for session in _sessions(events).values():
        own = [e for e in session if first <= e.timestamp <= last and e.name in (*VIEWS, *names)]
        if own and first <= _start(session) <= last:
            among.append(own)
    visitors = {own[0].person for own in among}
    found = []
    for name in names:
        done = [event for own in among for event in own if event.name == name]
        people = {event.person for event in done}
        found.append((len(people), len(done), len(people) / len(visitors) if visitors else 0))
    return found
