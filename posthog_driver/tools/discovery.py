"""What ``posthog_schema`` answers: tables, events, properties and values that the project really has.

The most used comes first, with samples; what is not shown is counted, and how to get it is said. Counts and samples are
of the last 30 days, and kept for five minutes. Names that are no plain identifiers are shown as they must be written.
Everything found here was sent by somebody, names included: it goes into rows, never into words of ours.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, NamedTuple

from posthog_driver._clock import SystemClock
from posthog_driver.exceptions import (
    CircuitBreakerOpen,
    ConnectionError,
    ObjectNotFoundError,
    QueryError,
    RateLimitError,
    ResponseFormatError,
)
from posthog_driver.query_builder import escape_like, quote_path
from posthog_driver.tools.cells import local_date
from posthog_driver.tools.layout import Block, count
from posthog_driver.tools.names import Names, bare_property, nearest, written_column, written_property
from posthog_driver.tools.pii import ColumnPolicy
from posthog_driver.tools.schema_rows import (
    MOST_SAMPLES,
    SAMPLE_CELL,
    SAMPLES_OF,
    Asked,
    about,
    grouped,
    in_one_line,
    is_made_of_another,
    own_first,
    property_types,
    samples,
    table_rows,
    unknown,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from posthog_driver import PostHogClient
    from posthog_driver._clock import Clock
    from posthog_driver.results import QueryResult

__all__ = ["KEPT", "Names", "SchemaAnswers", "nearest"]

KEPT = 300.0
"""Seconds for which counts and samples are used again."""
SAMPLE = 2_000
"""Events (persons, groups) whose properties are looked at."""

_KEPT_ANSWERS = 64
_SHORT_EVENTS, _SHORT_PROPERTIES, _SHORT_VALUES = 30, 34, 30
_ALL_VALUES = 1_000
_MOST_EVENTS = 5_000
_MOST_KEYS = 2_000
_SHORT_COLUMNS = 40

_RECENT = "timestamp >= now() - INTERVAL 30 DAY"
_COUNTS = (
    f"SELECT event, count() AS events FROM events WHERE {_RECENT} GROUP BY event ORDER BY events DESC, event"
    f" LIMIT {_MOST_EVENTS}"
)
_KEYS = (
    "SELECT kv.1 AS name, count() AS uses, topK(3)(substring(kv.2, 1, 200)) AS samples"
    " FROM (SELECT arrayJoin(JSONExtractKeysAndValuesRaw(properties)) AS kv FROM (SELECT properties FROM {source}))"
    f" GROUP BY name ORDER BY uses DESC, name LIMIT {_MOST_KEYS}"
)
_SOURCES = {
    "events": f"events WHERE {_RECENT} LIMIT {SAMPLE}",
    "event": f"events WHERE {_RECENT} AND event = {{event}} LIMIT {SAMPLE}",
    "persons": f"persons LIMIT {SAMPLE}",
    "groups": f"groups LIMIT {SAMPLE}",
}
_NOUNS = {"events": "events", "event": "events", "persons": "persons", "groups": "groups"}
# Without these PostHog's part of an answer is missing, and that is said; anything else ends the call.
_AWAY = (QueryError, ConnectionError, RateLimitError, CircuitBreakerOpen, ResponseFormatError)
_MORE = 'detail="all", or search'
_NARROW = "search to narrow the names"
_HOW_TO_READ = "HogQL: properties.NAME, or as shown"


class _Uses(NamedTuple):
    """Names of properties in use with samples as raw JSON, the most used first; age in seconds; what is to be said."""

    samples: dict[str, list[str]]
    age: float = 0.0
    note: str = ""
    basis: str = ""


class _Counts(NamedTuple):
    """Events of the last 30 days with their numbers, most frequent first; the project's time zone; and the age."""

    events: dict[str, int]
    zone: str | None
    age: float = 0.0


class SchemaAnswers:
    """Answers what exists, from a client's discovery and a few queries of its own.

    Thread-safe; no lock is held while PostHog is asked.

    Args:
        client: The client of the project.
        clock: Where time comes from.
    """

    def __init__(self, client: PostHogClient, clock: Clock | None = None) -> None:
        self._client = client
        self._clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._kept: dict[tuple[str, ...], tuple[float, Any]] = {}

    def answer(self, arguments: Mapping[str, Any], policy: ColumnPolicy | None = None) -> Block:
        """Return what ``posthog_schema`` answers to valid arguments.

        A name that does not exist gives a block with a ``problem`` and the nearest names.

        Args:
            arguments: ``object``, ``event``, ``property``, ``search``, ``detail``; each may be missing.
            policy: What becomes of personal data in samples and values; masked if None.

        Raises:
            PostHogError: PostHog cannot be asked.
        """
        asked = Asked(*(str(arguments.get(name) or "") for name in Asked._fields))
        policy = policy or ColumnPolicy()
        if asked.property:
            return self._values(asked, policy)
        if asked.event:
            return self._event(asked, policy)
        return self._object(asked, policy) if asked.object else self._project(asked)

    def names(self) -> Names:
        """Return every name that a query can use, for telling which was meant by one that does not exist."""
        tables = self._client.list_objects()
        fields = {table: self._client.get_fields(table) for table in tables}
        events = fields.get("events", {}).get("event", {}).get("constraints", {}).get("values", ())
        return Names.of(fields, events)

    def refresh(self) -> None:
        """Forget what is kept and read the schema anew, where the live one can be had."""
        with self._lock:
            self._kept.clear()
        try:
            self._client.list_objects(refresh=True)
            self._client.get_fields("events", refresh=True)
        except _AWAY:
            return  # the next answer says that its schema is the static one

    # --- the four answers ---------------------------------------------------------------------------------------------

    def _project(self, asked: Asked) -> Block:
        """Tables, and the most frequent events."""
        counts, trouble = self._counts_or_trouble()
        known = {**dict.fromkeys(counts.events), **dict.fromkeys(self._event_names() or ())}
        events = [[name, None if trouble else counts.events.get(name, 0)] for name in known if asked.fits(name)]
        shown = events if asked.wants_all() else events[:_SHORT_EVENTS]
        objects = self._client.list_objects()
        rows = table_rows(objects, asked, is_live=self._client.schema_source != "static")
        rows += [["event", *row] for row in shown]
        if asked.search:
            rows += self._found_properties(asked)
        left = len(events) - len(shown)
        today = f"today {local_date(self._clock.wall(), counts.zone)} in time zone {counts.zone or 'UTC'}"
        return Block(
            ("kind", "name", "events_30d_or_about"),
            rows,
            source="perhaps" if len(counts.events) == _MOST_EVENTS else "complete",
            missing="; ".join(filter(None, [trouble, count(left, "more event") if left else ""])),
            advice=_MORE if left else "call posthog_schema again later" if trouble else _NARROW,
            facts=(today, *self._state(counts.age)),
        )

    def _object(self, asked: Asked, policy: ColumnPolicy) -> Block:
        """Columns of a table, and the most used properties."""
        try:
            fields = self._client.get_fields(asked.object)
        except ObjectNotFoundError:
            return unknown("object", asked.object, self._client.list_objects())
        uses = self._uses(asked.object) if asked.object in _SOURCES else _Uses({})
        columns = {name: facts for name, facts in fields.items() if bare_property(name) is None and asked.fits(name)}
        types = property_types(fields)
        if not types and not uses.samples:
            return self._columns(columns, asked)
        names = [name for name in {**uses.samples, **types} if asked.fits(name)]
        block = self._properties(names, uses, types, asked, policy)
        if not columns:
            return block
        if asked.wants_all():
            return block._replace(rows=[["columns", in_one_line(columns)], *block.rows])
        main = [name for name in columns if not is_made_of_another(name, columns)]
        left = len(columns) - len(main)
        missing = "; ".join(filter(None, [block.missing, count(left, "column") if left else ""]))
        return block._replace(rows=[[in_one_line(main), "columns", None], *block.rows], missing=missing, advice=_MORE)

    def _event(self, asked: Asked, policy: ColumnPolicy) -> Block:
        """The most used properties of an event."""
        problem = self._unknown_event(asked.event)
        if problem:
            return problem
        uses = self._uses("event", asked.event)
        types = property_types(self._client.get_fields("events"))
        names = [name for name in uses.samples if asked.fits(name)]
        block = self._properties(names, uses, types, asked, policy)
        if uses.samples or uses.note:
            return block
        return block._replace(notes=("this event did not happen in the last 30 days", *block.notes))

    def _values(self, asked: Asked, policy: ColumnPolicy) -> Block:
        """The most frequent values of a property or column."""
        problem = self._unknown_event(asked.event) if asked.event else None
        if problem:
            return problem
        table = "events" if asked.event else asked.object or "events"
        try:
            fields = self._client.get_fields(table)
        except ObjectNotFoundError:
            return unknown("object", table, self._client.list_objects())
        path = self._path(asked, table, fields)
        if path is None:
            known = {name if (bare := bare_property(name)) is None else bare: None for name in fields}
            return unknown("property", asked.property, known)
        most = _ALL_VALUES if asked.wants_all() else _SHORT_VALUES
        result, age = self._kept_or(("values", *asked), lambda: self._ask_values(asked, table, path, most))
        masking = policy.masking()
        name = asked.property if _is_of_people(table) else _of_things(asked.property)
        rows = [[masking.cell(name, row["value"]), row["uses"]] for row in result[:most]]
        more = len(result) > most
        when = ("last 30 days",) if _bound(table) else ()
        return Block(
            ("value", table),
            rows,
            source="cut" if more and asked.wants_all() else "complete",
            missing="less frequent values" if more else "",
            advice="search to narrow the values" if asked.wants_all() else _MORE,
            facts=(*when, *self._state(age)),
            notes=masking.notes(),
        )

    # --- what they are made of ----------------------------------------------------------------------------------------

    def _columns(self, columns: Mapping[str, Mapping[str, Any]], asked: Asked) -> Block:
        if asked.wants_all():
            names = ((name, _written(name, facts), facts["type"]) for name, facts in columns.items())
            return Block(("type", "names"), grouped(names), advice=_NARROW, facts=self._state(), long_cells=True)
        shown = list(columns.items())[:_SHORT_COLUMNS]
        rows = [[_written(name, facts), facts["type"], about(facts)] for name, facts in shown]
        left = len(columns) - len(shown)
        missing = count(left, "more column") if left else ""
        return Block(("name", "type", "about"), rows, missing=missing, advice=_MORE, facts=self._state())

    def _properties(
        self, names: list[str], uses: _Uses, types: Mapping[str, str], asked: Asked, policy: ColumnPolicy
    ) -> Block:
        """Return the properties of these names, which come in the order of use; own ones before PostHog's."""
        if asked.wants_all():
            return Block(
                ("type", "names"),
                grouped((name, written_property(name), types.get(name)) for name in names),
                advice=_NARROW,
                facts=(*filter(None, [uses.basis]), *self._state(uses.age)),
                notes=(_HOW_TO_READ, *filter(None, [uses.note])),
                long_cells=True,
            )
        shown = own_first(names, _SHORT_PROPERTIES)
        is_of_people = _is_of_people(asked.object or "events")
        masking = policy.masking()
        rows: list[list[Any]] = []
        cut = False
        for name in shown:
            raws = uses.samples.get(name, [])[: SAMPLES_OF.get(types.get(name, ""), MOST_SAMPLES)]
            seen, some_cut = samples(name if is_of_people else _of_things(name), raws, masking, policy)
            rows.append([written_property(name), types.get(name), seen])
            cut |= some_cut
        left = len(names) - len(shown)
        return Block(
            ("name", "type", "samples"),
            rows,
            missing=f"{left} more properties" if left else "",
            advice=_MORE,
            facts=(
                *filter(None, [uses.basis, f"values cut at {SAMPLE_CELL}" if cut else ""]),
                *self._state(uses.age),
            ),
            notes=(_HOW_TO_READ, *filter(None, [uses.note]), *masking.notes()),
        )

    def _found_properties(self, asked: Asked) -> list[list[Any]]:
        found = []
        for table, kind in (("events", "property"), ("persons", "person property")):
            types = property_types(self._client.get_fields(table))
            found += [[kind, written_property(name), types[name]] for name in types if asked.fits(name)]
        return found

    def _path(self, asked: Asked, table: str, fields: Mapping[str, Any]) -> str | None:
        """Return how HogQL reads what was asked for, or None if it does not exist."""
        name = asked.property
        if name in property_types(fields):
            return quote_path("properties", name)
        if name in fields:
            return _written(name, fields[name])
        source = "event" if asked.event else table
        if source not in _SOURCES:
            return None
        uses = self._uses(source, asked.event)
        # Without definitions and without samples nobody knows the names: the query itself has to tell.
        unsure = bool(uses.note) or not property_types(fields)
        return quote_path("properties", name) if name in uses.samples or unsure else None

    def _unknown_event(self, name: str) -> Block | None:
        """Return the nearest names, if it is certain that there is no such event."""
        counts, trouble = self._counts_or_trouble()
        defined = self._event_names()
        if trouble or defined is None or name in counts.events or name in defined:
            return None
        return unknown("event", name, [*counts.events, *defined])

    def _event_names(self) -> list[str] | None:
        """Return the names of all events that are defined, or None where the definitions cannot be had."""
        field = self._client.get_fields("events").get("event", {})
        names: list[str] | None = field.get("constraints", {}).get("values")
        return names

    def _state(self, age: float = 0.0) -> tuple[str, ...]:
        """Say what weakens an answer: that it was kept for a while, or that the live schema could not be had."""
        kept = (f"cached {age:.0f} s",) if age >= 1 else ()
        static = ("static schema, as the live one cannot be had",) if self._client.schema_source == "static" else ()
        return (*kept, *static)

    # --- asking -------------------------------------------------------------------------------------------------------

    def _counts_or_trouble(self) -> tuple[_Counts, str]:
        """Return the counts of events, or none and why: the schema is worth an answer also without them."""
        try:
            result, age = self._kept_or(("counts",), lambda: self._client.query(_COUNTS))
        except _AWAY as error:
            return _Counts({}, None), f"counts of events, which could not be had ({type(error).__name__})"
        return _Counts({row["event"]: row["events"] for row in result}, result.info.timezone, age), ""

    def _uses(self, source: str, event: str = "") -> _Uses:
        """Return the properties in use and samples, or none and why."""
        values = {"event": event} if source == "event" else None
        text = _KEYS.format(source=_SOURCES[source])
        try:
            result, age = self._kept_or(("uses", source, event), lambda: self._client.query(text, values))
        except _AWAY as error:
            return _Uses({}, note=f"not sampled, so in no order: {type(error).__name__}")
        note = f"only the {_MOST_KEYS} most used names were looked at" if len(result) == _MOST_KEYS else ""
        return _Uses({row["name"]: row["samples"] for row in result}, age, note, f"sample of {SAMPLE} {_NOUNS[source]}")

    def _ask_values(self, asked: Asked, table: str, path: str, most: int) -> QueryResult:
        conditions = [condition for condition in (_bound(table),) if condition]
        values: dict[str, Any] = {}
        if asked.event:
            conditions.append("event = {event}")
            values["event"] = asked.event
        if asked.search:
            conditions.append(f"toString({path}) ILIKE {{pattern}}")
            values["pattern"] = f"%{escape_like(asked.search)}%"
        where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        text = (
            f"SELECT toString({path}) AS value, count() AS uses FROM {quote_path(*table.split('.'))}{where}"
            f" GROUP BY value ORDER BY uses DESC, value LIMIT {most + 1}"
        )
        return self._client.query(text, values)

    def _kept_or(self, key: tuple[str, ...], ask: Callable[[], QueryResult]) -> tuple[QueryResult, float]:
        """Return what is kept, or what PostHog answers, and its age in seconds."""
        with self._lock:
            kept = self._kept.get(key)
            age = self._clock.monotonic() - kept[0] if kept else KEPT
        if kept and age < KEPT:
            return kept[1], age
        result = ask()
        with self._lock:
            self._kept.pop(key, None)
            self._kept[key] = (self._clock.monotonic(), result)
            while len(self._kept) > _KEPT_ANSWERS:
                self._kept.pop(next(iter(self._kept)))
        return result, 0.0


def _is_of_people(table: str) -> bool:
    return table in ("events", "persons", "sessions")


def _of_things(name: str) -> str:
    """Return a name as the policy is to take it in a table of things: their ``name`` is nobody's."""
    return "" if name.lstrip("$").casefold() == "name" else name


def _written(name: str, facts: Mapping[str, Any]) -> str:
    return str(facts.get("hogql") or written_column(name))


def _bound(table: str) -> str:
    """Return the condition that keeps a query of the table to the last 30 days, if it needs one."""
    return {"events": _RECENT, "sessions": "$start_timestamp >= now() - INTERVAL 30 DAY"}.get(table, "")
