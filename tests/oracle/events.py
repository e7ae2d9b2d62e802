"""Raw events to ask questions about: the same ones for the same seed, and the way into an embedded PostHog.

A world is a list of `Event`. It has what makes questions hard: people with several distinct ids that are merged late,
events at one and the same time, times at the borders of hours, days, weeks and months and in the hour of summer
time, properties of every type that are missing, null or empty, sessions, and groups.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

from posthog_driver.local import LocalPostHog, LocalProject

__all__ = ["BEGIN", "DAYS", "MERGING", "NAMES", "Event", "fresh", "ingest", "of_person", "world"]

BEGIN = datetime(2025, 2, 24, tzinfo=timezone.utc)
"""Midnight (UTC) of a Monday. Two weeks later summer time begins in New York; a month ends on the way."""

DAYS = 24
"""Days that the events spread over."""

NAMES = ("$pageview", "$screen", "view", "cart", "buy", "cancel")
"""Names of the events, beside those of merges."""

MERGING = ("$identify", "$create_alias")
"""Names of the events that merge people."""

_URLS = ("https://x.test/", "https://x.test/a", "https://x.test/a/", "https://x.test/b?q=1", None)
_EDGES = (timedelta(0), timedelta(microseconds=-1), timedelta(microseconds=1), timedelta(milliseconds=1))
_SILENCES = (0, 1, 30, 60, 600, 1799, 1800, 1801, 3600, 86_400, 259_200)


@dataclass(frozen=True)
class Event:
    """One event.

    Attributes:
        name: Its name.
        distinct_id: Who sent it.
        person: Number of the person that this is in the end, after all merges.
        timestamp: When, in UTC, with microseconds.
        properties: As they are sent, with ``$set`` and ``$groups``.
        person_properties: The person's, the same in all events of the person.
        uuid: Its id.
        groups: Key of the group by group type; ``company`` is the first type, so its key is ``$group_0``.
    """

    name: str
    distinct_id: str
    person: int
    timestamp: datetime
    properties: dict[str, Any]
    person_properties: dict[str, Any]
    uuid: str
    groups: dict[str, str] = field(default_factory=dict)

    def get(self, key: str) -> Any:
        """Return a property; None when it is missing or null."""
        return self.properties.get(key)


def world(seed: int = 0, people: int = 25, events: int = 400, names: Sequence[str] = NAMES) -> list[Event]:
    """Return the events of a seed in their order of time; those of one time stand in a random order.

    Args:
        seed: Another one gives other events.
        people: Number of people; none of them is without an event.
        events: How many events there are at least; merges add some.
        names: Their names.
    """
    return _World(random.Random(seed), names).events(people, events) if people else []


def of_person(events: Sequence[Event], actor: Callable[[Event], Any] | None = None) -> dict[Any, list[Event]]:
    """Return the events of each person, or of each other actor that is not None, in their order."""
    found: dict[Any, list[Event]] = {}
    for event in events:
        key = event.person if actor is None else actor(event)
        if key is not None:
            found.setdefault(key, []).append(event)
    return found


def ingest(events: Sequence[Event], project: LocalProject, seed: int = 0) -> None:
    """Send events to a project, in an order that is not that of their times."""
    arriving = list(events)
    random.Random(seed).shuffle(arriving)
    if arriving:
        with project.client() as client:
            client.capture_batch(map(_sent, arriving))


def _sent(event: Event) -> dict[str, Any]:
    return {
        "event": event.name,
        "distinct_id": event.distinct_id,
        "properties": event.properties,
        "timestamp": event.timestamp.isoformat(),
        "uuid": event.uuid,
    }


@contextmanager
def fresh(events: Sequence[Event], zone: str = "UTC") -> Iterator[LocalPostHog]:
    """Start an embedded PostHog that holds these events and no others."""
    with LocalPostHog(events=0, timezone=zone) as local:
        ingest(events, local.project)
        yield local


@dataclass
class _World:
    random: random.Random
    names: Sequence[str]

    def events(self, people: int, count: int) -> list[Event]:
        each = max(1, count // people)
        found = [event for person in range(people) for event in self._person(person, each)]
        self.random.shuffle(found)  # sorting is stable, so this mixes the events of one time
        return sorted(found, key=lambda event: event.timestamp)

    def _person(self, person: int, count: int) -> Iterator[Event]:
        ids = [f"user-{person}", *(f"anonymous-{person}-{i}" for i in range(self.random.choice((0, 0, 1, 2))))]
        facts = self._facts()
        groups = {"company": f"company-{self.random.randrange(5)}"} if self.random.random() < 0.6 else {}
        moment = self._moment()
        session = self._session(moment)
        for _ in range(self.random.randrange(1, 2 * count)):
            silence = timedelta(seconds=self.random.choice(_SILENCES))
            if silence.total_seconds() > 1800:
                session = self._session(moment)
            moment = self._moment() if self.random.random() < 0.2 else self._within(moment + silence)
            name = self.random.choice(self.names)
            yield self._event(name, self.random.choice(ids), person, moment, facts, groups, session)
        for other in ids[1:]:
            # The user keeps the identity: who is identified already would not be merged into another.
            merge = self.random.choice((("$identify", "$anon_distinct_id"), ("$create_alias", "alias")))
            yield self._event(merge[0], ids[0], person, self._moment(), facts, {}, session, {merge[1]: other})

    def _event(
        self,
        name: str,
        distinct_id: str,
        person: int,
        moment: datetime,
        facts: dict[str, Any],
        groups: dict[str, str],
        session: str,
        more: dict[str, Any] | None = None,
    ) -> Event:
        mixed = groups if self.random.random() < 0.8 else {}
        properties = {
            **self._properties(name),
            "$session_id": session,
            "$set": facts,
            **({"$groups": mixed} if mixed else {}),
            **(more or {}),
        }
        number = uuid.UUID(int=self.random.getrandbits(128), version=4)
        return Event(name, distinct_id, person, moment, properties, facts, str(number), mixed)

    def _facts(self) -> dict[str, Any]:
        return self._some(
            {"tier": ("free", "pro", "team", ""), "age": (17, 18, 42, 65.5, -1), "beta": (True, False)}, missing=0.2
        )

    def _properties(self, name: str) -> dict[str, Any]:
        drawn = self._some(
            {
                "plan": ("basic", "Plus", "ultra", "", "10%_off", "it's"),
                "price": (0, 5, 9.99, 10, 1000, -3),
                "gift": (True, False),
                "due": ("2025-03-01", "2025-03-09T02:30:00Z", "2025-03-31T23:59:59.999Z"),
                "tags": ([], ["a"], ["a", "b"]),
                "box": ({}, {"size": 3}, {"size": "L", "deep": {"x": None}}),
            },
            missing=0.15,
        )
        if name == "$pageview" and (url := self.random.choice(_URLS)) is not None:
            drawn["$current_url"] = url
        if name == "$screen" and self.random.random() < 0.9:
            drawn["$screen_name"] = self.random.choice(("home", "settings/"))
        return drawn

    def _some(self, choices: dict[str, tuple[Any, ...]], missing: float) -> dict[str, Any]:
        drawn: dict[str, Any] = {}
        for key, values in choices.items():
            chance = self.random.random()
            if chance < missing:
                continue
            drawn[key] = None if chance < missing * 1.5 else self.random.choice(values)
        return drawn

    def _moment(self) -> datetime:
        """A time at a border of an hour or a day in one zone or another, or any time."""
        day = BEGIN + timedelta(days=self.random.randrange(DAYS))
        kind = self.random.random()
        if kind < 0.15:
            return self._within(day + self.random.choice(_EDGES))
        if kind < 0.3:
            hours = self.random.choice((4, 5, 6, 7))  # midnight and the gap of summer time in New York
            return self._within(day + timedelta(hours=hours) + self.random.choice(_EDGES))
        if kind < 0.4:
            return self._within(day + timedelta(hours=self.random.randrange(24)) + self.random.choice(_EDGES))
        return day + timedelta(microseconds=self.random.randrange(86_400_000_000))

    def _within(self, moment: datetime) -> datetime:
        return min(max(moment, BEGIN), BEGIN + timedelta(days=DAYS))

    def _session(self, moment: datetime) -> str:
        """A session id as SDKs make them: a UUID of version 7, whose first bits are the time."""
        number = (int(moment.timestamp() * 1000) << 80) | self.random.getrandbits(80)
        number = number & ~(0xF << 76) | (7 << 76)
        return str(uuid.UUID(int=number & ~(0x3 << 62) | (0x2 << 62)))
