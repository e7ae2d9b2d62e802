"""The project's entities that are no rows of the engine: cohorts, insights, flags, definitions and so on.

The store lists, creates and changes them as `kinds.KINDS` allows, keeps them in a `journal.Journal` in the data
directory, and makes the translator's catalog of them.
"""

from __future__ import annotations

import json
import logging
import re
import threading
import uuid
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from . import cohorts, errors, flag_filters
from .files import reading
from .journal import Change, Journal, key_of
from .kinds import KINDS, USER, Entity, Kind, insight_type
from .parser import HogQLError
from .schema import Action, Catalog, Cohort, PropertyDefinition
from .wire import Request

__all__ = ["KINDS", "MAX_GROUP_TYPES", "USER", "Entity", "EntityStore", "Kind", "insight_type"]

PropertyKey = tuple[str, str, "int | None"]
"""Owner (``event``, ``person``, ``session`` or ``group``), name, and for a group the index of its type."""

MAX_GROUP_TYPES = 5
_ORDERINGS = ("name", "key", "created_at", "last_seen_at", "updated_at", "last_modified_at")
_SEEN_EVERY = timedelta(hours=1)
_MODIFIED = ("insights", "session_recording_playlists", "notebooks", "dashboards")
_LOG = logging.getLogger(__name__)


class EntityStore:
    """The entities of one project, in memory and, with a `path`, in a file. Thread-safe.

    An entity that is stored is never changed: a new dict takes its place, so that catalogs stay as they were.

    Args:
        seeds: The entities to begin with, by kind, and the group types as ``group_types``; a file that exists
            wins.
        path: The file, None to keep everything in memory.
        timezone: The project's time zone.
        week_start: The project's first day of the week.
    """

    def __init__(
        self,
        seeds: Mapping[str, Iterable[Entity]],
        path: Path | None = None,
        *,
        timezone: str = "UTC",
        week_start: int = 0,
    ) -> None:
        self._timezone, self._week_start = timezone, week_start
        self._lock = threading.RLock()
        self._catalog: Catalog | None = None
        self._hour: datetime | None = None
        self._journal = Journal(path)
        kept = self._journal.read()
        found: Mapping[str, Iterable[Entity]] = seeds if kept is None else kept
        with reading(path):
            self._entities: dict[str, dict[str, Entity]] = {
                kind: {key_of(kind, entity): json.loads(json.dumps(entity)) for entity in found.get(kind, ())}
                for kind in (*KINDS, "group_types")
            }
            self._events = {entity["name"]: key for key, entity in self._entities["event_definitions"].items()}
            self._properties = {_property_key(entity) for entity in self._entities["property_definitions"].values()}
        if kept is None:
            self._journal.begin(self._entities)

    # ------------------------------------------------------------------------------------------------ reading

    def find(self, kind: str, request: Request) -> list[Entity]:
        """Return the entities that are not deleted and pass the filters of a request, in PostHog's order.

        Raises:
            ApiError: 400 for the value of a filter that cannot be.
        """
        rule = KINDS[kind]
        found = self.all(kind)
        for name, test in rule.filters.items():
            value = ",".join(request.query.get(name, ())) if name == "names" else request.param(name)
            if value := value or rule.asked.get(name, ""):
                test.check(name, value)
                found = [entity for entity in found if test.passes(entity, value)]
        words = request.param("search" if kind != "notebooks" else "contains").casefold()
        if words and rule.search:
            found = [e for e in found if any(words in str(e.get(name) or "").casefold() for name in rule.search)]
        return _ordered(found, request.param("ordering"))

    def all(self, kind: str) -> list[Entity]:
        """Return every entity of a kind that is not deleted."""
        with self._lock:
            return [dict(entity) for entity in self._entities[kind].values() if not entity.get("deleted")]

    def get(self, kind: str, key: str) -> Entity:
        """Return one entity.

        Raises:
            ApiError: 404.
        """
        with self._lock:
            entity = self._find(kind, key)
            if entity is None or entity.get("deleted"):
                raise errors.not_found()
            return dict(entity)

    def _find(self, kind: str, key: str) -> Entity | None:
        name = KINDS[kind].key
        if name == "id":
            return self._entities[kind].get(key)
        return next((entity for entity in self._entities[kind].values() if entity.get(name) == key), None)

    # ----------------------------------------------------------------------------------------------- changing

    def create(self, kind: str, body: Mapping[str, Any], *, more: Mapping[str, Any] | None = None) -> Entity:
        """Make an entity; fields that cannot be written are ignored, as in PostHog.

        Args:
            kind: What it is.
            body: Its fields as a caller gives them.
            more: Fields that only the server sets.

        Raises:
            ApiError: 400 for a field that is missing, blank, of another type or taken.
        """
        rule = KINDS[kind]
        for name in rule.required:
            if name not in body:
                raise errors.validation("This field is required.", "required", name)
        with self._lock:
            fields = self._checked(rule, body, None)
            now = _now()
            entity = {
                "id": str(uuid.uuid4()) if rule.has_uuid else self._next_number(kind),
                **rule.shown(),
                **json.loads(json.dumps(dict(rule.defaults))),
                "created_at": now,
                "updated_at": now,
                "created_by": USER,
                **({"last_modified_at": now} if kind in _MODIFIED else {}),
                **fields,
                **(more or {}),
            }
            if kind == "insight_variables":
                entity["code_name"] = re.sub(r"\W", "", re.sub(r"\s+", "_", entity["name"].strip())).lower()
            self._keep([(kind, entity)])
            return dict(entity)

    def update(self, kind: str, key: str, body: Mapping[str, Any]) -> Entity:
        """Change an entity, also one that is deleted (``{"deleted": false}`` brings it back).

        Raises:
            ApiError: 404, or 400 as in `create`.
        """
        with self._lock:
            old = self._find(kind, key)
            if old is None:
                raise errors.not_found()
            fields = self._checked(KINDS[kind], body, old)
            now = _now()
            entity = {**old, **fields, "updated_at": now}
            if kind in _MODIFIED:
                entity["last_modified_at"] = now
            if kind in ("feature_flags", "notebooks"):
                entity["version"] = (old.get("version") or 0) + 1
            if kind == "property_definitions" and "property_type" in fields:
                entity["is_numerical"] = fields["property_type"] == "Numeric"
            self._keep([(kind, entity)])
            return dict(entity)

    def note(self, kind: str, key: str, **facts: Any) -> Entity:
        """Set what only the server sets of an entity, such as the size of a cohort.

        Raises:
            ApiError: 404.
        """
        with self._lock:
            entity = {**self.get(kind, key), **facts}
            self._keep([(kind, entity)])
            return dict(entity)

    def delete(self, kind: str, key: str) -> None:
        """Remove an entity of a kind that allows it.

        Raises:
            ApiError: 404.
        """
        with self._lock:
            entity = self.get(kind, key)
            self._entities[kind].pop(key_of(kind, entity))
            if kind == "event_definitions":
                self._events.pop(entity["name"], None)
            if kind == "property_definitions":
                self._properties.discard(_property_key(entity))
            self._catalog = None
            self._journal.append([(kind, key_of(kind, entity), None)])

    # ----------------------------------------------------------------------------------- what capture tells

    def learn(self, events: Iterable[str], properties: Mapping[PropertyKey, str | None]) -> None:
        """Add definitions of the events and properties that are seen for the first time.

        Args:
            events: Names of events.
            properties: The type of each property.
        """
        with self._lock:
            new = [
                ("event_definitions", definition) for name in dict.fromkeys(events) if (definition := self._seen(name))
            ]
            new += [
                ("property_definitions", _property_definition(key, kind))
                for key, kind in properties.items()
                if key not in self._properties
            ]
            self._keep(new)

    def _seen(self, name: str) -> Entity | None:
        """Return the definition of an event as it must be kept now, None when it is kept so already."""
        if (key := self._events.get(name)) is None:
            return _event_definition(name)
        now, known = _now(), self._entities["event_definitions"][key]
        last = datetime.fromisoformat(str(known.get("last_seen_at") or "1970-01-01T00:00:00Z").replace("Z", "+00:00"))
        return {**known, "last_seen_at": now} if datetime.now(timezone.utc) - last > _SEEN_EVERY else None

    def group_index(self, name: str) -> int | None:
        """Return the index of a group type; a new name becomes one, None when all five are taken."""
        with self._lock:
            types = self._entities["group_types"]
            for group_type in types.values():
                if group_type["group_type"] == name:
                    return int(group_type["group_type_index"])
            if len(types) >= MAX_GROUP_TYPES:
                return None
            names = {"name_singular": None, "name_plural": None}
            group_type = {"group_type": name, "group_type_index": len(types), **names, "created_at": _now()}
            self._keep([("group_types", group_type)])
            return int(group_type["group_type_index"])

    def group_types(self) -> list[Entity]:
        """Return the group types in the order of their indexes."""
        return self.all("group_types")

    def name_group_types(self, names: Iterable[Mapping[str, Any]]) -> None:
        """Set what one and several groups of a type are called."""
        with self._lock:
            for entry in names:
                known = self._entities["group_types"].get(str(entry.get("group_type_index")))
                if known is None:
                    raise errors.not_found()
                named = {name: entry[name] for name in ("name_singular", "name_plural") if name in entry}
                self._keep([("group_types", {**known, **named})])

    # ------------------------------------------------------------------------------------------------ catalog

    def catalog(self) -> Catalog:
        """Return what the translator needs to know of the project as it is now."""
        hour = datetime.now(timezone.utc).replace(minute=0, second=0, microsecond=0)
        with self._lock:
            if self._catalog is None or hour != self._hour:  # relative dates in cohorts move on
                self._hour, self._catalog = hour, self._made_catalog()
            return self._catalog

    def _made_catalog(self) -> Catalog:
        known = self._definitions()
        found = (_catalog_cohort(cohort, known) for cohort in self.all("cohorts"))
        return Catalog(
            property_definitions=known.property_definitions,
            event_names=tuple(entity["name"] for entity in self.all("event_definitions")),
            group_types=tuple(entity["group_type"] for entity in self._entities["group_types"].values()),
            cohorts=tuple(filter(None, found)),
            actions=known.actions,
            entities={kind: tuple(entities.values()) for kind, entities in self._entities.items()},
            timezone=self._timezone,
            week_start=self._week_start,
        )

    def _definitions(self) -> Catalog:
        """Return what the conditions of cohorts depend on."""
        actions = (
            Action(entity["id"], entity["name"], tuple(entity.get("steps") or ())) for entity in self.all("actions")
        )
        return Catalog(
            property_definitions=tuple(map(_catalog_property, self.all("property_definitions"))),
            actions=tuple(actions),
            timezone=self._timezone,
        )

    # ------------------------------------------------------------------------------------------------ helpers

    def _checked(self, rule: Kind, body: Mapping[str, Any], old: Entity | None) -> Entity:
        fields = {name: value for name, value in body.items() if name in rule.defaults}
        for name, value in fields.items():
            rule.check(name, value)
        if rule.path == "cohorts" and fields.get("filters"):
            self._check_cohort(fields["filters"].get("properties"), old)
        for name in ("query", "groups"):
            if rule.path == "cohorts" and fields.get(name):
                raise errors.validation(f"The embedded server does not have {name} of cohorts.", attr=name)
        if rule.path == "feature_flags" and "key" in fields:
            flag_filters.check_key(fields["key"])
        if rule.path == "feature_flags" and fields.get("filters"):
            flag_filters.check(fields["filters"])
        if rule.path == "annotations" and fields.get("dashboard_item") is not None:
            self._check_exists("insights", fields["dashboard_item"], "dashboard_item")
        if rule.unique in fields:
            for entity in self.all(rule.path):
                if entity[rule.unique] == fields[rule.unique] and (old is None or entity["id"] != old["id"]):
                    detail = f"There is already a {rule.label} with this {rule.unique}."
                    raise errors.validation(detail, "unique", rule.unique)
        return fields

    def _check_cohort(self, filters: Any, old: Entity | None) -> None:
        """Refuse filters that cannot be computed: what is no filter, or a cohort that is not there or this one."""
        try:
            cohorts.members(filters, self._definitions())
        except HogQLError as problem:
            raise errors.validation(problem.message, attr="filters") from None
        open_ids, seen = cohorts.references(filters), set[str]()
        while open_ids:
            seen.add(id := open_ids.pop())
            known = self._entities["cohorts"].get(id)
            if known is None or known.get("deleted"):
                raise errors.validation(f"Cohort {id} not found.", attr="filters")
            if old is not None and known["id"] == old["id"]:
                raise errors.validation("Cohorts cannot reference other cohorts in a loop.", attr="filters")
            open_ids |= cohorts.references((known.get("filters") or {}).get("properties")) - seen

    def _check_exists(self, kind: str, id: Any, attr: str) -> None:
        if (entity := self._entities[kind].get(str(id))) is None or entity.get("deleted"):
            raise errors.validation(f'Invalid pk "{id}" - object does not exist.', "does_not_exist", attr)

    def _next_number(self, kind: str) -> int:
        return max((int(entity["id"]) for entity in self._entities[kind].values()), default=0) + 1

    def _keep(self, changed: Iterable[tuple[str, Entity]]) -> None:
        """Put entities in place of those with the same key, in memory and in the file."""
        changes: list[Change] = []
        for kind, entity in changed:
            key = key_of(kind, entity)
            # Through JSON, so that nothing of a caller's is shared.
            self._entities[kind][key] = json.loads(json.dumps(entity))
            changes.append((kind, key, entity))
            if kind == "event_definitions":
                self._events[entity["name"]] = key
            elif kind == "property_definitions":
                self._properties.add(_property_key(entity))
        if changes:
            self._catalog = None
            self._journal.append(changes)


def _ordered(found: list[Entity], ordering: str) -> list[Entity]:
    name = ordering.removeprefix("-")
    if not name:
        return found
    if name not in _ORDERINGS:
        raise errors.validation(f'"{ordering}" is not a valid choice.', "invalid_choice", "ordering")
    return sorted(found, key=lambda entity: str(entity.get(name) or ""), reverse=ordering.startswith("-"))


def _now() -> str:
    return datetime.now(timezone.utc).isoformat().replace("+00:00", "Z")


def _event_definition(name: str) -> Entity:
    now = _now()
    return {
        "id": str(uuid.uuid4()),
        "name": name,
        "description": "",
        "tags": [],
        "created_at": now,
        "last_seen_at": now,
        "verified": False,
        "hidden": False,
        "primary_property": None,
    }


def _property_definition(key: PropertyKey, property_type: str | None) -> Entity:
    owner, name, index = key
    return {
        "id": str(uuid.uuid4()),
        "name": name,
        "type": owner,
        "group_type_index": index,
        "property_type": property_type,
        "is_numerical": property_type == "Numeric",
        "is_seen_on_filtered_events": None,
        "description": "",
        "tags": [],
        "verified": False,
        "hidden": False,
    }


def _property_key(definition: Entity) -> PropertyKey:
    return definition["type"], definition["name"], definition["group_type_index"]


def _catalog_property(definition: Entity) -> PropertyDefinition:
    owner, name, index = _property_key(definition)
    return PropertyDefinition(name, owner, definition["property_type"], definition["description"] or "", index)


def _catalog_cohort(cohort: Entity, known: Catalog) -> Cohort | None:
    """Return a cohort as the translator knows it, None for one that HogQL cannot say."""
    if cohort["is_static"]:
        return Cohort(cohort["id"], cohort["name"])
    try:
        filters = (cohort["filters"] or {}).get("properties") or []
        return Cohort(cohort["id"], cohort["name"], cohorts.members(filters, known))
    except HogQLError as problem:
        _LOG.warning("cohort %s cannot be queried: %s", cohort["id"], problem)
        return None
