"""Event capture: what SDKs send becomes rows of events, persons and groups.

They can be queried when the answer goes out, and nothing of a request is stored when one of its events is not valid.
A request that is sent again, with the same UUIDs, changes nothing. `capture_body` reads requests, `identities` knows
the persons.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any, Protocol

from .capture_body import MAX_BODY, CaptureError, Event, decode_body, parse_events, parse_timestamp
from .elements_chain import take_elements_chain
from .first_touch import with_first_touch
from .identities import Batch, Identities, Stores, mode_of, person_id_of
from .property_types import property_type
from .schema import DATABASE, quote_literal
from .wire import Response, parse_json

__all__ = ["MAX_BODY", "CaptureError", "Ingestion", "Stores", "decode_body", "parse_timestamp", "property_type"]

_NO_DEFINITION = re.compile(r"\$(set|set_once|unset|groups|group_\d|group_set|feature/.*|process_person_profile)$")
_NEEDS_PROFILE = ("$identify", "$create_alias", "$merge_dangerously", "$groupidentify")
PropertyKey = tuple[str, str, "int | None"]


class Learns(Protocol):
    """What capture tells of names that it sees for the first time."""

    def learn(self, events: Iterable[str], properties: Mapping[PropertyKey, str | None]) -> None:
        """Take over names of events and types of properties."""

    def group_index(self, name: str) -> int | None:
        """Return the index of a group type, which is made if there is room for it."""


class Ingestion:
    """Takes events for one project. Thread-safe: one request at a time is stored.

    Args:
        engine: Stores them.
        learns: Is told of new names.
        database: The project's database in the engine.
    """

    def __init__(self, engine: Stores, learns: Learns, database: str = DATABASE) -> None:
        self._engine = engine
        self._database = database
        self._learns = learns
        self.lock = threading.RLock()
        self.identities = Identities(engine, database)
        self._is_torn = False  # a request was stored in part

    def capture(self, payload: Any, *, sent_at: str | None = None) -> Response:
        """Store the events of a request whose token was checked.

        Args:
            payload: Its JSON.
            sent_at: The sender's clock, if not in the payload.

        Raises:
            CaptureError: An event is not valid; then none is stored.
        """
        self.store(parse_events(payload, datetime.now(timezone.utc), sent_at=sent_at))
        return Response(200, {"status": "Ok"})

    def store(self, events: Sequence[Event]) -> None:
        """Store events that are not stored yet.

        PostHog drops an event that is about a person or a group and forbids to process one.
        """
        taken = [_of_person(event) for event in events if event.has_profile or event.name not in _NEEDS_PROFILE]
        with self.lock:
            if self._is_torn:
                self.identities.mend()
            groups = _Groups(self.identities, self._database)
            self._is_torn = True
            self._store(self._without_repeats(taken), groups)
            self._is_torn = False
            self._learns.learn((event.name for event in taken), {**groups.news, **_seen_properties(taken)})

    def _without_repeats(self, events: Sequence[Event]) -> list[Event]:
        """Leave out events whose UUID came before: senders repeat what they got no answer for."""
        own = [event for event in events if event.has_own_uuid]
        known: set[str] = set()
        if own:
            days = sorted(quote_literal(event.timestamp.date().isoformat()) for event in own)
            # An event that has no timestamp of its own may come again on the next day.
            found = self.identities.rows_in(
                f"SELECT toString(uuid) FROM {self._database}.events WHERE uuid IN ({{values}}) "
                f"AND toDate(timestamp) BETWEEN toDate({days[0]}) - 1 AND {days[-1]}",
                (event.uuid for event in own),
            )
            known = {row[0] for row in found}
        kept: dict[str, Event] = {}
        for event in events:
            if event.uuid not in known:
                kept.setdefault(event.uuid, event)
        return list(kept.values())

    def _store(self, events: Sequence[Event], groups: _Groups) -> None:
        if not events:
            return
        batch = Batch(self.identities, events)
        rows: list[dict[str, Any]] = []
        for event in events:
            person = batch.person_of(event)
            properties = dict(event.properties)
            elements_chain = take_elements_chain(properties)
            for name, key in _dict(properties.get("$groups")).items():
                if (index := self._learns.group_index(str(name))) is not None:
                    properties[f"$group_{index}"] = str(key)
            if event.name == "$groupidentify" and properties.get("$group_type") is not None:
                groups.identify(self._learns.group_index(str(properties["$group_type"])), event)
            mode = mode_of(event, person)
            rows.append(
                {
                    "uuid": event.uuid,
                    "event": event.name,
                    "properties": properties,
                    "timestamp": event.timestamp,
                    "distinct_id": event.distinct_id,
                    "elements_chain": elements_chain,
                    "created_at": datetime.now(timezone.utc),
                    "person_id": person.id if person else person_id_of(event.distinct_id),
                    "person_created_at": person.created_at if person else event.timestamp,
                    "person_properties": dict(person.properties) if person and mode != "propertyless" else {},
                    "person_mode": mode,
                }
            )
        ends = batch.ends()
        for row in rows:
            row["person_id"] = ends.get(row["person_id"], row["person_id"])
        batch.keep()
        if groups.rows():
            self._engine.insert("groups", groups.rows(), database=self._database)
        self._engine.insert("events", rows, database=self._database)


def _of_person(event: Event) -> Event:
    """Return the event with what it says of its person."""
    if not event.has_profile:
        return event
    return replace(event, properties=dict(with_first_touch(event.name, event.properties)))


class _Groups:
    """The groups that a batch changes."""

    def __init__(self, identities: Identities, database: str) -> None:
        self._identities = identities
        self._database = database
        self._changed: dict[tuple[int, str], dict[str, Any]] = {}
        self.news: dict[PropertyKey, str | None] = {}

    def identify(self, index: int | None, event: Event) -> None:
        """Take over what a ``$groupidentify`` says of its group."""
        key = str(event.properties.get("$group_key") or "")
        if index is None or not key:
            return
        row = self._changed.get((index, key)) or stored_group(self._identities, self._database, index, key)
        row = row or {"index": index, "key": key, "created_at": event.timestamp, "properties": {}, "version": 0}
        news = _dict(event.properties.get("$group_set"))
        changed = {"properties": {**row["properties"], **news}, "updated_at": event.timestamp}
        self._changed[index, key] = {**row, **changed}
        self.news.update({("group", name, index): property_type(name, value) for name, value in news.items()})

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows of groups to store."""
        return list(self._changed.values())


def stored_group(identities: Identities, database: str, index: int, key: str) -> dict[str, Any] | None:
    """Return a group's row as the one that will replace it, None when there is none."""
    found = identities.rows(
        f"SELECT created_at, properties, version FROM {database}.groups FINAL "
        f"WHERE index = {index:d} AND key = {quote_literal(key)} AND is_deleted = 0"
    )
    if not found:
        return None
    created_at, properties, version = found[0]
    parsed = parse_json(properties.encode())
    return {"index": index, "key": key, "created_at": created_at, "properties": parsed, "version": version + 1}


def _seen_properties(events: Iterable[Event]) -> dict[PropertyKey, str | None]:
    seen: dict[PropertyKey, str | None] = {}
    for event in events:
        for name, value in event.properties.items():
            if not _is_defined(name):
                continue
            key = ("event", name, None)
            if key not in seen:
                seen[key] = property_type(name, value)
        if event.has_profile:
            for place in ("$set", "$set_once"):
                for name, value in _dict(event.properties.get(place)).items():
                    seen.setdefault(("person", name, None), property_type(name, value))
    return seen


def _is_defined(name: str) -> bool:
    return not name.startswith("$") or not _NO_DEFINITION.match(name)


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
