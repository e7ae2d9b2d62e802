"""What a project captures, from the raw events: computed as the questions are defined, in plain Python."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

from .events import BEGIN, Event

__all__ = ["events_of", "person_values", "properties_of", "recent", "values_of"]

NOISE = {"$set", "$pageleave", "$autocapture", "$create_alias", "$groupidentify", "$feature_flag_called"}
"""Events of the tests that PostHog leaves out."""

_NOISE_PROPERTY = re.compile(r"\$set|\$time|\$sent_at|distinct_id|\$ip|\$feature/|__|survey_dismiss")


def recent(events: Sequence[Event], days: int, now: datetime | None = None) -> list[Event]:
    """Move events to begin that many days ago, without those that lie too near the border of the last 30 days."""
    now = now or datetime.now(timezone.utc)
    shift = now.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=days) - BEGIN
    moved = [replace(event, timestamp=event.timestamp + shift) for event in events]
    border = now - timedelta(days=30)
    return [event for event in moved if abs(event.timestamp - border) > timedelta(hours=1)]


def _last_30_days(events: Iterable[Event]) -> list[Event]:
    border = datetime.now(timezone.utc) - timedelta(days=30)
    return [event for event in events if event.timestamp >= border]


def events_of(events: Sequence[Event]) -> list[tuple[str, int]]:
    """Names and numbers of the events of the last 30 days, most frequent first."""
    counts = Counter(event.name for event in _last_30_days(events) if event.name not in NOISE)
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _of_groups(event: Event) -> dict[str, str]:
    """The properties that PostHog adds for an event's groups; the tests have one type."""
    return {"$group_0": event.groups["company"]} if event.groups else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def properties_of(events: Sequence[Event], name: str) -> dict[str, set[str]]:
    """Different values of each property of the newest 100 events of a name; only where their times are different."""
    among = sorted((e for e in _last_30_days(events) if e.name == name), key=lambda e: e.timestamp, reverse=True)
    found: dict[str, set[str]] = {}
    for event in among[:100]:
        for key, value in {**event.properties, **_of_groups(event)}.items():
            if value is not None and not _NOISE_PROPERTY.search(key):
                found.setdefault(key, set()).add(_text(value))
    return found


def values_of(events: Sequence[Event], name: str, key: str) -> Counter[str]:
    """How often each text of a property occurs in the events of a name; numbers and the like are no texts."""
    values = (event.get(key) for event in _last_30_days(events) if event.name == name)
    return Counter(value for value in values if isinstance(value, str) and value)


def person_values(events: Sequence[Event], key: str) -> Counter[Any]:
    """How many people have each value of a property."""
    people = {event.person: event.person_properties for event in events}
    return Counter(facts[key] for facts in people.values() if facts.get(key) is not None)
