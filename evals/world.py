"""The demo data as plain Python, so that every expected answer is computed without HogQL's functions."""

from __future__ import annotations

import datetime as dt
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping
from functools import cached_property
from typing import Any, NamedTuple

from posthog_driver import PostHogClient

__all__ = ["Event", "World"]

_COLUMNS = "event, timestamp, person_id, distinct_id, properties"


class Event(NamedTuple):
    """One event: ``p`` are its properties."""

    name: str
    time: dt.datetime
    person: str
    p: Mapping[str, Any]

    @property
    def day(self) -> str:
        """The day in UTC, ISO 8601."""
        return self.time.date().isoformat()

    @property
    def month(self) -> str:
        """First day of the month."""
        return self.time.date().replace(day=1).isoformat()

    @property
    def monday(self) -> str:
        """The Monday of its week."""
        return (self.time.date() - dt.timedelta(days=self.time.weekday())).isoformat()


class World:
    """All data of a demo project.

    Args:
        client: Reads the raw rows.
        truth: What the generator knows of its data.
    """

    def __init__(self, client: PostHogClient, truth: Mapping[str, Any]) -> None:
        self._client = client
        self.truth = truth

    @cached_property
    def events(self) -> list[Event]:
        """Every event in the order of time."""
        rows = self._client.query(f"SELECT {_COLUMNS} FROM events LIMIT 50000")
        found = [
            Event(row["event"], _moment(row["timestamp"]), row["person_id"], json.loads(row["properties"]))
            for row in rows
        ]
        return sorted(found, key=lambda event: (event.time, event.name))

    @cached_property
    def persons(self) -> dict[str, dict[str, Any]]:
        """Properties of each person by id, and ``created_at``."""
        rows = self._client.query("SELECT id, properties, created_at FROM persons LIMIT 50000")
        return {row["id"]: {**json.loads(row["properties"]), "created_at": row["created_at"]} for row in rows}

    @cached_property
    def companies(self) -> list[dict[str, Any]]:
        """Properties of each company."""
        return [
            json.loads(row["properties"]) for row in self._client.query("SELECT properties FROM groups LIMIT 50000")
        ]

    @cached_property
    def dates(self) -> dict[str, str]:
        """Days that questions name: the first one, the day after the last, and some before that."""
        first = dt.date.fromisoformat(self.truth["days"]["first"])
        days = len(next(iter(self.truth["days"]["event_counts"].values())))
        end = first + dt.timedelta(days=days)
        back = {f"back{number}": end - dt.timedelta(days=number) for number in (7, 30, 60)}
        return {name: day.isoformat() for name, day in {"first": first, "end": end, **back}.items()}

    def of(self, name: str | None = None, since: str | None = None) -> list[Event]:
        """Return the events of a name, from the day ``since`` (a name in `dates`) on."""
        day = self.dates[since] if since else ""
        return [event for event in self.events if (name is None or event.name == name) and event.day >= day]

    def people(self, name: str | None = None, since: str | None = None) -> set[str]:
        """Return the ids of who sent such events."""
        return {event.person for event in self.of(name, since)}

    def first_of(self, name: str) -> dict[str, dt.datetime]:
        """Return when each person did something first."""
        found: dict[str, dt.datetime] = {}
        for event in self.of(name):
            found.setdefault(event.person, event.time)
        return found


def counted(items: Iterable[Hashable]) -> list[tuple[Any, ...]]:
    """Return (item, how often) for each."""
    return [(*(item if isinstance(item, tuple) else (item,)), number) for item, number in Counter(items).items()]


def people_by(events: Iterable[Event], key: Callable[[Event], Hashable]) -> list[tuple[Any, int]]:
    """Return (key, how many persons) for each key."""
    found: dict[Any, set[str]] = defaultdict(set)
    for event in events:
        found[key(event)].add(event.person)
    return [(value, len(persons)) for value, persons in found.items()]


def _moment(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text.replace("Z", "+00:00"))
