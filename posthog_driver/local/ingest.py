"""Event capture: what SDKs send becomes rows of events, persons and groups.

They can be queried when the answer goes out. Errors are plain text, as PostHog's capture service answers them,
and nothing of a request is stored when it has one.
"""

from __future__ import annotations

import re
import threading
import uuid
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, Protocol

from .engine import EngineResult
from .errors import ApiError
from .schema import DATABASE, quote_literal
from .wire import Request, Response, parse_json

__all__ = ["MAX_BODY", "CaptureError", "Ingestion", "Stores", "decode_body", "parse_timestamp"]

MAX_BODY = 20 * 1024 * 1024
"""Bytes of a request's body, packed or not (PostHog's limit)."""

_NAMESPACE = uuid.UUID("932979b4-65c3-4424-8467-0b66ec27bc22")
_NO_DEFINITION = re.compile(r"\$(set|set_once|unset|groups|group_\d|group_set|feature/.*|process_person_profile)$")
_ISO = re.compile(r"(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d(?::\d\d)?)(?:[.,](\d{1,9}))?)?\s*(Z|z|[+-]\d\d:?\d\d)?$")


class CaptureError(Exception):
    """A request that capture does not take."""

    def __init__(self, text: str, status: int = 400) -> None:
        super().__init__(text)
        self.status = status


class Stores(Protocol):
    """What capture needs of the engine."""

    def run(self, sql: str, *, query_id: str) -> EngineResult:
        """Run a query."""

    def execute(self, sql: str) -> None:
        """Run a statement."""

    def insert(self, table: str, rows: Iterable[Mapping[str, Any]]) -> int:
        """Store rows."""


class Learns(Protocol):
    """What capture tells of names that it sees for the first time."""

    def learn(self, events: Iterable[str], properties: Mapping[tuple[str, str, int | None], str | None]) -> None:
        """Take over names of events and types of properties."""

    def group_index(self, name: str) -> int | None:
        """Return the index of a group type, which is made if there is room for it."""


@dataclass
class _Person:
    id: str
    created_at: datetime
    properties: dict[str, Any] = field(default_factory=dict)
    is_identified: bool = False
    version: int = 0


@dataclass(frozen=True)
class _Event:
    uuid: str
    has_own_uuid: bool
    name: str
    distinct_id: str
    timestamp: datetime
    properties: dict[str, Any]


def decode_body(request: Request, limit: int = MAX_BODY) -> Any:
    """Return the JSON of a body, unpacked if it is gzip.

    Raises:
        CaptureError: It is no gzip, no JSON, or too large when unpacked.
    """
    body = request.body
    if request.headers.get("content-encoding", "").lower() == "gzip" or body.startswith(b"\x1f\x8b"):
        unpacker = zlib.decompressobj(wbits=31)
        try:
            body = unpacker.decompress(body, limit + 1)
        except zlib.error as problem:
            raise CaptureError(f"failed to decode request: {problem}") from None
        if len(body) > limit:
            raise CaptureError("failed to decode request: decompressed payload is too large", 413)
        if not unpacker.eof:
            raise CaptureError("failed to decode request: the gzip stream is cut short")
    try:
        return parse_json(body)
    except ApiError as problem:
        raise CaptureError(f"failed to parse request: {problem.detail.partition(' - ')[2]}") from None


class Ingestion:
    """Takes events for one project.

    Args:
        engine: Stores them.
        learns: Is told of new names.
    """

    def __init__(self, engine: Stores, learns: Learns) -> None:
        self._engine = engine
        self._learns = learns
        self._lock = threading.Lock()

    def capture(self, payload: Any) -> Response:
        """Store the events of a request whose token was checked.

        Raises:
            CaptureError: An event is not valid; then none is stored.
        """
        events = [_parse_event(entry) for entry in _entries(payload)]
        if not events:
            raise CaptureError("request holds no event")
        with self._lock:
            self._store(self._without_repeats(events))
        return Response(200, {"status": "Ok"})

    def _without_repeats(self, events: Sequence[_Event]) -> list[_Event]:
        """Leave out events whose UUID came before: senders repeat what they got no answer for."""
        own = [event for event in events if event.has_own_uuid]
        known: set[str] = set()
        if own:
            days = sorted(quote_literal(event.timestamp.date().isoformat()) for event in own)
            result = self._rows(
                f"SELECT toString(uuid) FROM {DATABASE}.events "
                f"WHERE uuid IN ({_literals(event.uuid for event in own)}) "
                f"AND toDate(timestamp) BETWEEN {days[0]} AND {days[-1]}"
            )
            known = {row[0] for row in result}
        kept = {event.uuid: event for event in reversed(events) if event.uuid not in known}
        return [event for event in events if kept.get(event.uuid) is event]

    def _store(self, events: Sequence[_Event]) -> None:
        people = _People(self._rows, self._engine, events)
        rows, groups = [], _Groups(self._rows)
        for event in events:
            person = people.person_of(event)
            properties = dict(event.properties)
            for name, key in _dict(properties.get("$groups")).items():
                if (index := self._learns.group_index(str(name))) is not None:
                    properties[f"$group_{index}"] = str(key)
            if event.name == "$groupidentify":
                index = self._learns.group_index(str(properties.get("$group_type")))
                groups.identify(index, event)
            rows.append(_event_row(event, properties, person))
        self._engine.insert("persons", people.person_rows())
        self._engine.insert("person_distinct_ids", people.distinct_id_rows())
        self._engine.insert("groups", groups.rows())
        self._engine.insert("events", rows)
        self._learns.learn((event.name for event in events), _seen_properties(events, groups))

    def _rows(self, sql: str) -> list[list[Any]]:
        return self._engine.run(sql, query_id=uuid.uuid4().hex).rows


class _People:
    """The persons of a batch: loaded once, changed in memory, stored once."""

    def __init__(self, rows: Any, engine: Stores, events: Sequence[_Event]) -> None:
        self._rows = rows
        self._engine = engine
        self._persons: dict[str, _Person] = {}
        self._changed: dict[str, _Person] = {}
        self._links: dict[str, str] = {}
        self._gone: dict[str, _Person] = {}
        named = {event.distinct_id for event in events}
        named.update(other for event in events if (other := _other_id(event)))
        self._load(named)

    def _load(self, distinct_ids: Iterable[str]) -> None:
        found = self._rows(
            "SELECT d.distinct_id, toString(p.id), p.created_at, p.properties, p.is_identified, p.version "
            f"FROM {DATABASE}.person_distinct_ids_newest AS d "
            f"INNER JOIN {DATABASE}.persons_newest AS p ON p.id = d.person_id "
            f"WHERE d.distinct_id IN ({_literals(distinct_ids)})"
        )
        by_id: dict[str, _Person] = {}
        for distinct_id, person_id, created_at, properties, is_identified, version in found:
            person = _Person(
                person_id,
                parse_timestamp(created_at),
                parse_json(properties.encode()),
                bool(is_identified),
                version,
            )
            self._persons[distinct_id] = by_id.setdefault(person_id, person)

    def person_of(self, event: _Event) -> _Person | None:
        """Return the event's person after what the event says of it; None when it must not make one."""
        if event.properties.get("$process_person_profile") is False:
            return self._persons.get(event.distinct_id)
        if other := _other_id(event):
            self._merge(event.distinct_id, other, event)
        person = self._persons.get(event.distinct_id) or self._make(event.distinct_id, event)
        news = {
            **_dict(event.properties.get("$set_once")),
            **person.properties,
            **_dict(event.properties.get("$set")),
        }
        unset = event.properties.get("$unset")
        for name in unset if isinstance(unset, list) else ():
            news.pop(name, None)
        is_identified = person.is_identified or event.name == "$identify"
        if news != person.properties or is_identified != person.is_identified:
            person.properties, person.is_identified = news, is_identified
            self._touch(person)
        return person

    def _make(self, distinct_id: str, event: _Event) -> _Person:
        person = _Person(str(uuid.uuid5(_NAMESPACE, distinct_id)), event.timestamp)
        self._link(distinct_id, person)
        self._changed[person.id] = person
        return person

    def _merge(self, distinct_id: str, other_id: str, event: _Event) -> None:
        """Make two distinct_ids one person: the properties of `distinct_id` win, the other person is gone."""
        person, other = self._persons.get(distinct_id), self._persons.get(other_id)
        if person is None and other is not None:
            self._link(distinct_id, other)
        elif person is not None and other is None:
            self._link(other_id, person)
        elif person is None or other is None:
            self._link(other_id, self._make(distinct_id, event))
        elif person is not other:
            person.properties = {**other.properties, **person.properties}
            person.created_at = min(person.created_at, other.created_at)
            self._touch(person)
            self._replace(other, person)

    def _replace(self, old: _Person, new: _Person) -> None:
        where = f"WHERE person_id = {quote_literal(old.id)}"
        stored = [
            row[0] for row in self._rows(f"SELECT distinct_id FROM {DATABASE}.person_distinct_ids_newest {where}")
        ]
        held = [name for name, person in self._persons.items() if person is old]
        for distinct_id in {*stored, *held}:
            self._link(distinct_id, new)
        self._changed.pop(old.id, None)
        old.version += 1
        self._gone[old.id] = old
        self._engine.execute(
            f"ALTER TABLE {DATABASE}.events UPDATE person_id = {quote_literal(new.id)} {where} "
            "SETTINGS mutations_sync = 1"
        )

    def _link(self, distinct_id: str, person: _Person) -> None:
        self._persons[distinct_id] = person
        self._links[distinct_id] = person.id

    def _touch(self, person: _Person) -> None:
        """Give a stored person the version that replaces the stored one; a new one keeps its own."""
        if person.id not in self._changed:
            person.version += 1
            self._changed[person.id] = person

    def person_rows(self) -> list[dict[str, Any]]:
        """Return the rows of persons to store."""
        kept = [(person, 0) for person in self._changed.values()]
        return [
            {
                "id": person.id,
                "created_at": person.created_at,
                "properties": person.properties,
                "is_identified": int(person.is_identified),
                "version": person.version,
                "is_deleted": is_deleted,
            }
            for person, is_deleted in [*kept, *((person, 1) for person in self._gone.values())]
        ]

    def distinct_id_rows(self) -> list[dict[str, Any]]:
        """Return the rows of distinct_ids to store; the time is their version: the last word counts."""
        version = int(datetime.now(timezone.utc).timestamp() * 1e6)
        return [
            {"distinct_id": distinct_id, "person_id": person_id, "version": version}
            for distinct_id, person_id in self._links.items()
        ]


class _Groups:
    """The groups that a batch changes."""

    def __init__(self, rows: Any) -> None:
        self._rows = rows
        self._changed: dict[tuple[int, str], dict[str, Any]] = {}
        self.news: dict[tuple[str, str, int | None], str | None] = {}

    def identify(self, index: int | None, event: _Event) -> None:
        """Take over what a ``$groupidentify`` says of its group."""
        key = str(event.properties.get("$group_key") or "")
        if index is None or not key:
            return
        row = self._changed.get((index, key)) or self._stored(index, key, event.timestamp)
        news = _dict(event.properties.get("$group_set"))
        row["properties"] = {**row["properties"], **news}
        row["updated_at"] = event.timestamp
        self._changed[index, key] = row
        self.news.update({("group", name, index): property_type(value) for name, value in news.items()})

    def _stored(self, index: int, key: str, moment: datetime) -> dict[str, Any]:
        found = self._rows(
            f"SELECT created_at, properties, version FROM {DATABASE}.groups_newest "
            f"WHERE index = {index} AND key = {quote_literal(key)}"
        )
        created_at, properties, version = found[0] if found else (moment, "{}", -1)
        return {
            "index": index,
            "key": key,
            "created_at": created_at,
            "properties": parse_json(properties.encode()),
            "version": version + 1,
        }

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows of groups to store."""
        return list(self._changed.values())


# ------------------------------------------------------------------------------------------------ one event


def _entries(payload: Any) -> list[Any]:
    if isinstance(payload, list):
        return payload
    if isinstance(payload, dict) and "batch" in payload:
        if not isinstance(payload["batch"], list):
            raise CaptureError("failed to parse request: batch must be a list of events")
        return list(payload["batch"])
    return [payload]


def _parse_event(entry: Any) -> _Event:
    if not isinstance(entry, dict):
        raise CaptureError("failed to parse request: an event must be an object")
    properties = entry.get("properties")
    if properties is not None and not isinstance(properties, dict):
        raise CaptureError("failed to parse request: properties must be an object")
    properties = dict(properties or {})
    for outer in ("$set", "$set_once"):
        if isinstance(entry.get(outer), dict):
            properties.setdefault(outer, entry[outer])
    name = entry.get("event")
    if not isinstance(name, str) or not name:
        raise CaptureError("event submitted with an empty event name")
    distinct_id = _parse_distinct_id(entry, properties)
    if entry.get("distinct_id") is None and entry.get("$distinct_id") is None:
        properties.pop("distinct_id", None)
    for secret in ("token", "api_key"):  # a project token is not stored; anything else of that name is the user's own
        if str(properties.get(secret, "")).startswith("phc_"):
            del properties[secret]
    given = entry.get("uuid")
    return _Event(_parse_uuid(given), given is not None, name, distinct_id, _moment(entry.get("timestamp")), properties)


def _parse_distinct_id(entry: Mapping[str, Any], properties: Mapping[str, Any]) -> str:
    places = (entry.get("distinct_id"), entry.get("$distinct_id"), properties.get("distinct_id"))
    found = next((place for place in places if place is not None), None)
    if found is None or isinstance(found, (dict, list)):
        raise CaptureError("event submitted without a distinct_id")
    text = str(found).replace("\0", "\ufffd")
    if not text.strip():
        raise CaptureError("event submitted with an empty distinct_id")
    return text


def _parse_uuid(given: Any) -> str:
    if given is None:
        return str(uuid.uuid4())
    try:
        return str(uuid.UUID(given))
    except (AttributeError, TypeError, ValueError):
        raise CaptureError(f"failed to parse request: invalid uuid {given!r}") from None


def _moment(given: Any) -> datetime:
    if given is None:
        return datetime.now(timezone.utc)
    try:
        moment = parse_timestamp(given)
    except (TypeError, ValueError, OverflowError):
        raise CaptureError(f"failed to parse request: invalid timestamp {given!r}") from None
    if not 1970 <= moment.year <= 2261:
        raise CaptureError(f"failed to parse request: timestamp {given!r} is out of range")
    return moment


def parse_timestamp(text: str) -> datetime:
    """Read ISO 8601 with or without fraction and zone (UTC without), in every Python from 3.10 on.

    Raises:
        TypeError: It is no text.
        ValueError: It is no such date.
    """
    found = _ISO.match(text)
    if found is None:
        raise ValueError(f"{text!r} is no ISO 8601 date")
    day, clock, fraction, zone = found.groups()
    offset = "+00:00" if zone in (None, "Z", "z") else f"{zone[:3]}:{zone[-2:]}"
    seconds = clock if clock and len(clock) == 8 else f"{clock or '00:00'}:00"
    return datetime.fromisoformat(f"{day}T{seconds}.{(fraction or '0')[:6]:0<6}{offset}").astimezone(timezone.utc)


def _event_row(event: _Event, properties: dict[str, Any], person: _Person | None) -> dict[str, Any]:
    is_full = event.properties.get("$process_person_profile") is not False
    return {
        "uuid": event.uuid,
        "event": event.name,
        "properties": properties,
        "timestamp": event.timestamp,
        "distinct_id": event.distinct_id,
        "elements_chain": str(properties.get("$elements_chain") or ""),
        "created_at": datetime.now(timezone.utc),
        "person_id": person.id if person else str(uuid.uuid5(_NAMESPACE, event.distinct_id)),
        "person_created_at": person.created_at if person else event.timestamp,
        "person_properties": dict(person.properties) if person and is_full else {},
        "person_mode": "full" if is_full else "propertyless",
    }


def _other_id(event: _Event) -> str | None:
    """Return the distinct_id that an event declares to be the same person."""
    place = {"$identify": "$anon_distinct_id", "$create_alias": "alias"}.get(event.name)
    other = event.properties.get(place) if place else None
    return str(other) if other and not isinstance(other, (dict, list)) and str(other) != event.distinct_id else None


def _seen_properties(events: Iterable[_Event], groups: _Groups) -> dict[tuple[str, str, int | None], str | None]:
    seen: dict[tuple[str, str, int | None], str | None] = dict(groups.news)
    for event in events:
        for name, value in event.properties.items():
            if not _NO_DEFINITION.match(name):
                seen.setdefault(("event", name, None), property_type(value))
        for name, value in {
            **_dict(event.properties.get("$set_once")),
            **_dict(event.properties.get("$set")),
        }.items():
            seen.setdefault(("person", name, None), property_type(value))
    return seen


def property_type(value: Any) -> str | None:
    """Return the type that PostHog gives a property by its first value; None for lists, objects and null."""
    if isinstance(value, bool):
        return "Boolean"
    if isinstance(value, (int, float)):
        return "Numeric"
    if not isinstance(value, str):
        return None
    try:
        parse_timestamp(value)
    except ValueError:
        return "String"
    return "DateTime"


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _literals(texts: Iterable[str]) -> str:
    return ", ".join(map(quote_literal, texts))
