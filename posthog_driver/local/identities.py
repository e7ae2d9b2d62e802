"""Who is behind a distinct_id: persons are made, changed and merged as events tell it.

A merge is written so that a crash at any place can be mended (`Identities.mend`): first the person that stays, then
the names that lead to it, then the end of the other person, then the events' ``person_id``. At rest, the ``person_id``
of an event is the person that its distinct_id leads to.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol

from .capture_body import Event, parse_timestamp
from .engine import EngineResult
from .first_touch import UNIMPORTANT
from .schema import quote_literal
from .wire import parse_json

__all__ = ["Batch", "Identities", "Person", "Stores", "is_illegal", "person_id_of"]

_NAMESPACE = uuid.UUID("932979b4-65c3-4424-8467-0b66ec27bc22")
_CHUNK = 5_000
_OTHERS = {"$identify": "$anon_distinct_id", "$create_alias": "alias", "$merge_dangerously": "alias"}
_ABOUT_A_PERSON = frozenset({*_OTHERS, "$set", "$groupidentify"})
_WORDS = "anonymous guest distinctid distinct_id id not_authenticated email undefined true false"
_ILLEGAL_IN_ANY_CASE = frozenset(_WORDS.split())
_ILLEGAL = frozenset(["", "[object Object]", "NaN", "None", "none", "null", "0"])
_UPGRADE_AFTER = timedelta(minutes=1)


class Stores(Protocol):
    """What is needed of the engine."""

    def run(self, sql: str, *, query_id: str) -> EngineResult:
        """Run a query."""

    def execute(self, sql: str) -> None:
        """Run a statement."""

    def insert(self, table: str, rows: Iterable[Mapping[str, Any]], *, database: str) -> int:
        """Store rows."""


@dataclass
class Person:
    """A person as stored, or as it is about to be."""

    id: str
    created_at: datetime
    properties: dict[str, Any] = field(default_factory=dict)
    is_identified: bool = False
    version: int = 0

    def row(self, is_deleted: int = 0) -> dict[str, Any]:
        """Return its row."""
        return {
            "id": self.id,
            "created_at": self.created_at,
            "properties": self.properties,
            "is_identified": int(self.is_identified),
            "version": self.version,
            "is_deleted": is_deleted,
        }


def person_id_of(distinct_id: str) -> str:
    """Return the id that the person of a new distinct_id gets: the same one each time."""
    return str(uuid.uuid5(_NAMESPACE, distinct_id))


def is_illegal(distinct_id: str) -> bool:
    """Whether a distinct_id is what broken code sends for everybody: it is never merged with anybody."""
    text = distinct_id.strip().strip("\"'")
    return text.lower() in _ILLEGAL_IN_ANY_CASE or text in _ILLEGAL


class Identities:
    """The persons of one project and their names.

    Args:
        engine: Stores them.
        database: The project's database in the engine.
        clock: Seconds since 1970.
    """

    def __init__(self, engine: Stores, database: str, clock: Callable[[], float] = time.time) -> None:
        self._engine = engine
        self._database = database
        self._clock = clock
        self._lock = threading.Lock()
        self._version: int | None = None
        self._is_light = False

    def rows(self, sql: str) -> list[list[Any]]:
        """Return the rows of a query of ours."""
        return self._engine.run(sql, query_id=uuid.uuid4().hex).rows

    def rows_in(self, sql: str, values: Iterable[str]) -> list[list[Any]]:
        """Return the rows of a query with ``{values}`` in it, asked for some values at a time."""
        listed = sorted(set(values))
        found = []
        for start in range(0, len(listed), _CHUNK):
            found += self.rows(sql.replace("{values}", ", ".join(map(quote_literal, listed[start : start + _CHUNK]))))
        return found

    def persons(self, ids: Iterable[str], *, deleted: bool = False) -> dict[str, Person]:
        """Return persons by id; with `deleted`, those that are no more."""
        found = self.rows_in(
            "SELECT toString(id), created_at, properties, is_identified, version "
            f"FROM {self._database}.persons FINAL WHERE id IN ({{values}}) AND is_deleted = {int(deleted)}",
            ids,
        )
        return {
            id: Person(id, parse_timestamp(made), parse_json(properties.encode()), bool(identified), version)
            for id, made, properties, identified, version in found
        }

    def links(self, distinct_ids: Iterable[str]) -> dict[str, str]:
        """Return the ids of the persons that distinct_ids lead to."""
        return dict(
            self.rows_in(
                f"SELECT distinct_id, toString(person_id) FROM {self._database}.person_distinct_ids FINAL "
                "WHERE distinct_id IN ({values}) AND is_deleted = 0",
                distinct_ids,
            )
        )

    def names(self, person_ids: Iterable[str]) -> dict[str, list[str]]:
        """Return the distinct_ids of persons."""
        found: dict[str, list[str]] = {}
        for distinct_id, person_id in self.rows_in(
            f"SELECT distinct_id, toString(person_id) FROM {self._database}.person_distinct_ids FINAL "
            "WHERE person_id IN ({values}) AND is_deleted = 0 ORDER BY distinct_id",
            person_ids,
        ):
            found.setdefault(person_id, []).append(distinct_id)
        return found

    def next_version(self) -> int:
        """Return a version above all that names and members of cohorts have: the last word counts.

        It is the time in microseconds, unless the clock was set back.
        """
        with self._lock:
            if self._version is None:
                tables = ("person_distinct_ids", "cohort_people")
                newest = "SELECT version FROM {}.{} ORDER BY version DESC LIMIT 1"
                stored = [row[0] for table in tables for row in self.rows(newest.format(self._database, table))]
                self._version = max(stored, default=0)
            self._version = max(self._version + 1, int(self._clock() * 1e6))
            return self._version

    def load(self, distinct_ids: Iterable[str]) -> dict[str, Person]:
        """Return the persons that distinct_ids lead to, by distinct_id."""
        links = self.links(distinct_ids)
        persons = self.persons(links.values())
        return {name: persons[id] for name, id in links.items() if id in persons}

    def keep(self, persons: Iterable[Person], links: Mapping[str, str], gone: Iterable[Person] = ()) -> None:
        """Store persons, what leads to them, and the end of others, in this order."""
        version = self.next_version() if links else 0
        named = [{"distinct_id": name, "person_id": id, "version": version} for name, id in links.items()]
        self.insert("persons", [person.row() for person in persons])
        self.insert("person_distinct_ids", named)
        self.insert("persons", [person.row(is_deleted=1) for person in gone])

    def forget(self, persons: Sequence[Person], names: Iterable[str]) -> None:
        """Remove persons and their names; their events stay."""
        version = self.next_version()
        rows = [{"distinct_id": name, "person_id": _NO_ONE, "version": version, "is_deleted": 1} for name in names]
        self.insert("person_distinct_ids", rows)
        for person in persons:
            person.version += 1
        self.insert("persons", [person.row(is_deleted=1) for person in persons])

    def move_events(self, moves: Mapping[str, str]) -> None:
        """Give the events of persons to others, by old and new id."""
        moves = {old: new for old, new in moves.items() if old != new}
        held = {row[0] for row in self.rows_in(
            f"SELECT DISTINCT toString(person_id) FROM {self._database}.events WHERE person_id IN ({{values}})", moves
        )}  # fmt: skip
        self._update({old: new for old, new in moves.items() if old in held}, "person_id")

    def move_events_of(self, moves: Mapping[str, str]) -> None:
        """Give the events of distinct_ids to persons, by distinct_id and id."""
        self._update(moves, "distinct_id")

    def remove_events(self, person_ids: Sequence[str]) -> None:
        """Remove the events of persons."""
        for start in range(0, len(person_ids), _CHUNK):
            ids = ", ".join(map(quote_literal, person_ids[start : start + _CHUNK]))
            self._engine.execute(
                f"ALTER TABLE {self._database}.events DELETE WHERE person_id IN ({ids}) SETTINGS mutations_sync = 1"
            )

    def _update(self, moves: Mapping[str, str], column: str) -> None:
        items = list(moves.items())
        for start in range(0, len(items), _CHUNK):
            some = items[start : start + _CHUNK]
            old = ", ".join(quote_literal(key) for key, _ in some)
            new = ", ".join(quote_literal(id) for _, id in some)
            self._prepare()
            self._engine.execute(
                f"UPDATE {self._database}.events SET "
                f"person_id = toUUID(transform(toString({column}), [{old}], [{new}], toString(person_id))) "
                f"WHERE {column} IN ({old}) SETTINGS enable_lightweight_update = 1"
            )

    def _prepare(self) -> None:
        """Let the engine change single values: it then writes these alone, in a fraction of the time of a mutation."""
        if not self._is_light:
            self._engine.execute(
                f"ALTER TABLE {self._database}.events MODIFY SETTING "
                "enable_block_number_column = 1, enable_block_offset_column = 1"
            )
            self._is_light = True

    def mend(self) -> None:
        """Finish what a crash left half done: persons that nothing leads to, events of persons that are no more."""
        names = f"SELECT person_id FROM {self._database}.person_distinct_ids FINAL WHERE is_deleted = 0"
        nameless = self.rows(
            f"SELECT toString(id) FROM {self._database}.persons FINAL WHERE is_deleted = 0 AND id NOT IN ({names})"
        )
        if nameless:
            self.forget(list(self.persons(row[0] for row in nameless).values()), ())
        lost = self.rows(
            f"SELECT DISTINCT distinct_id FROM {self._database}.events WHERE person_id NOT IN "
            f"(SELECT id FROM {self._database}.persons FINAL WHERE is_deleted = 0)"
        )
        if moves := self.links(row[0] for row in lost):
            self.move_events_of(moves)

    def insert(self, table: str, rows: list[dict[str, Any]]) -> None:
        """Store rows of persons, their names, groups or members of cohorts."""
        if rows:
            self._engine.insert(table, rows, database=self._database)


_NO_ONE = str(uuid.UUID(int=0))


class Batch:
    """The persons of one request: loaded once, changed in memory, stored once.

    Args:
        identities: All persons.
        events: The events of the request.
    """

    def __init__(self, identities: Identities, events: Sequence[Event]) -> None:
        self._all = identities
        named = {event.distinct_id for event in events}
        named.update(other for event in events if (other := other_id(event)))
        self._persons = identities.load(named)
        new = [person_id_of(name) for name in named if name not in self._persons]
        self._former = identities.persons(new, deleted=True)
        self._changed: dict[str, Person] = {}
        self._links: dict[str, str] = {}
        self._gone: dict[str, Person] = {}
        self._moves: dict[str, str] = {}

    def person_of(self, event: Event) -> Person | None:
        """Return the event's person after what the event says of it; None when it must not make one."""
        if not event.has_profile:
            return self._persons.get(event.distinct_id)
        is_identified = event.name == "$identify"
        if other := other_id(event):
            is_identified = self._merge(event, other) or is_identified
        known = self._persons.get(event.distinct_id)
        person = known or self._make(event)
        news = {**_dict(event, "$set_once"), **person.properties, **_dict(event, "$set")}
        for name in event.properties.get("$unset") or ():
            news.pop(name, None)
        is_news = known is None or event.name in _ABOUT_A_PERSON or _differ(news, person.properties)
        if (is_news and news != person.properties) or (is_identified and not person.is_identified):
            person.properties, person.is_identified = news, person.is_identified or is_identified
            self._touch(person)
        return person

    def keep(self) -> None:
        """Store all changes."""
        self._all.keep(self._changed.values(), self._links, self._gone.values())
        self._all.move_events(self.ends())

    def ends(self) -> dict[str, str]:
        """Return where the events of persons belong that were merged, by old and new id."""
        found = {}
        for old, new in self._moves.items():
            while new in self._moves:
                new = self._moves[new]
            found[old] = new
        return found

    def _make(self, event: Event) -> Person:
        person = Person(person_id_of(event.distinct_id), event.timestamp)
        if former := self._former.get(person.id):
            person.version = former.version + 1
        self._link(event.distinct_id, person)
        self._changed[person.id] = person
        return person

    def _merge(self, event: Event, other_name: str) -> bool:
        """Make two distinct_ids one person, if that may be; the properties of the event's own person win."""
        if is_illegal(event.distinct_id) or is_illegal(other_name):
            return False
        person, other = self._persons.get(event.distinct_id), self._persons.get(other_name)
        if person is None and other is not None:
            self._link(event.distinct_id, other)
        elif other is None:
            self._link(other_name, person or self._make(event))
        elif person is not None and person is not other:
            if other.is_identified and event.name != "$merge_dangerously":
                return False  # two known people: PostHog does not believe that they are one
            person.properties = {**other.properties, **person.properties}
            person.created_at = min(person.created_at, other.created_at)
            self._touch(person)
            self._replace(other, person)
        return True

    def _replace(self, old: Person, new: Person) -> None:
        held = [name for name, person in self._persons.items() if person is old]
        for distinct_id in {*self._all.names([old.id]).get(old.id, ()), *held}:
            self._link(distinct_id, new)
        self._changed.pop(old.id, None)
        old.version += 1
        self._gone[old.id] = old
        self._moves[old.id] = new.id

    def _link(self, distinct_id: str, person: Person) -> None:
        if distinct_id not in self._persons and person_id_of(distinct_id) != person.id:
            # Events without a profile may have come under this name before.
            self._moves[person_id_of(distinct_id)] = person.id
        self._persons[distinct_id] = person
        self._links[distinct_id] = person.id

    def _touch(self, person: Person) -> None:
        """Give a stored person the version that replaces the stored one; a new one keeps its own."""
        if person.id not in self._changed:
            person.version += 1
            self._changed[person.id] = person


def other_id(event: Event) -> str | None:
    """Return the distinct_id that an event declares to be the same person."""
    place = _OTHERS.get(event.name)
    other = event.properties.get(place) if place else None
    is_name = bool(other) and not isinstance(other, (dict, list)) and str(other).strip() != ""
    return str(other) if is_name and str(other) != event.distinct_id else None


def _differ(news: Mapping[str, Any], before: Mapping[str, Any]) -> bool:
    """Whether properties differ in more than what changes with every page."""
    return any(
        news.get(name) != before.get(name) or (name in news) != (name in before)
        for name in news.keys() | before.keys()
        if name not in UNIMPORTANT
    )


def mode_of(event: Event, person: Person | None) -> str:
    """Return how much of its person an event keeps: ``full``, ``propertyless`` or ``force_upgrade``."""
    if event.has_profile:
        return "full"
    is_known = person is not None and event.timestamp > person.created_at + _UPGRADE_AFTER
    return "force_upgrade" if is_known else "propertyless"


def _dict(event: Event, name: str) -> dict[str, Any]:
    value = event.properties.get(name)
    return value if isinstance(value, dict) else {}
