"""The project's entities that are no rows of the engine: cohorts, insights, flags, definitions and so on.

An entity is the plain dict that PostHog's REST API answers. What an entity type allows is one row of `KINDS`;
the store lists, creates and changes them, keeps them as a JSON file in the data directory, and makes the
translator's catalog of them.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import threading
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from . import errors
from .errors import ApiError
from .people import condition
from .schema import Catalog, Cohort, PropertyDefinition
from .wire import Request, parse_list

__all__ = ["KINDS", "USER", "Entity", "EntityStore", "Kind"]

Entity = dict[str, Any]
PropertyKey = tuple[str, str, "int | None"]
"""Owner (``event``, ``person``, ``session`` or ``group``), name, and for a group the index of its type."""

MAX_GROUP_TYPES = 5
_LOG = logging.getLogger(__name__)

USER: Entity = {
    "id": 1,
    "uuid": "01900000-0000-7000-8000-000000000001",
    "distinct_id": "local-user",
    "first_name": "Local",
    "last_name": "",
    "email": "local@posthog.test",
    "is_email_verified": True,
    "role_at_organization": "engineering",
}
"""The one user of the embedded PostHog."""

_INSIGHT_KINDS = {
    "TRENDS": "TrendsQuery",
    "FUNNELS": "FunnelsQuery",
    "RETENTION": "RetentionQuery",
    "PATHS": "PathsQuery",
    "STICKINESS": "StickinessQuery",
    "LIFECYCLE": "LifecycleQuery",
    "SQL": "HogQLQuery",
    "HOG": "HogQuery",
}


def insight_type(insight: Entity) -> str:
    """Return the type that ``insights/?insight=`` compares: ``TRENDS``, ``FUNNELS``, ``SQL``, ..."""
    if named := (insight.get("filters") or {}).get("insight"):
        return str(named).upper()
    query = insight.get("query") or {}
    kind = (query.get("source") or query).get("kind")
    return next((name for name, query_kind in _INSIGHT_KINDS.items() if query_kind == kind), "JSON")


# -------------------------------------------------------------------------------------------------- filters


def _text(field_name: str) -> Callable[[Entity, str], bool]:
    return lambda entity, value: str(entity.get(field_name)) == value


def _truth(field_name: str) -> Callable[[Entity, str], bool]:
    return lambda entity, value: bool(entity.get(field_name)) == (value.lower() in ("true", "1"))


def _not_before(field_name: str) -> Callable[[Entity, str], bool]:
    return lambda entity, value: str(entity.get(field_name) or "") >= value


def _not_after(field_name: str) -> Callable[[Entity, str], bool]:
    # A bound that is a whole day includes the day.
    return lambda entity, value: str(entity.get(field_name) or "")[: len(value)] <= value


def _flag_type(flag: Entity, value: str) -> bool:
    filters = flag.get("filters") or {}
    return value == (
        "experiment" if flag.get("experiment_set") else "multivariant" if filters.get("multivariate") else "boolean"
    )


def _named(entity: Entity, value: str) -> bool:
    return entity.get("name") in value.split(",")


def _not_hidden(entity: Entity, value: str) -> bool:
    return value != "true" or not entity.get("hidden")


def _not_named(entity: Entity, value: str) -> bool:
    return entity.get("name") not in parse_list("excluded_properties", value)


def _event_type(entity: Entity, value: str) -> bool:
    builtin = str(entity.get("name")).startswith("$")
    return {"event_custom": not builtin, "event_posthog": builtin}.get(value, True)


def _property_owner(entity: Entity, value: str) -> bool:
    return bool(entity.get("type", "event") == value)


@dataclass(frozen=True)
class Kind:
    """What one entity type allows.

    Attributes:
        path: The last part of its address.
        defaults: The writable fields, with the values a new entity gets.
        required: Fields that a new entity must give.
        search: Fields that ``?search=`` looks into.
        filters: Query parameters, with the test that an entity must pass.
        creatable: Whether POST makes one.
        deletable: Whether DELETE removes one; most are removed with ``PATCH {"deleted": true}``.
        has_uuid: The id is a UUID and not a number.
        unique: A field that no two may share.
        asked: Query parameters that count when a request does not give them.
        label: What it is called in errors.
    """

    path: str
    defaults: Mapping[str, Any] = field(default_factory=dict)
    required: tuple[str, ...] = ("name",)
    search: tuple[str, ...] = ("name", "description")
    filters: Mapping[str, Callable[[Entity, str], bool]] = field(default_factory=dict)
    creatable: bool = True
    deletable: bool = False
    has_uuid: bool = False
    unique: str = ""
    asked: Mapping[str, str] = field(default_factory=dict)
    label: str = "object"


def _kinds() -> dict[str, Kind]:
    named = {"name": "", "description": "", "deleted": False, "tags": []}
    kinds = (
        Kind(
            "cohorts",
            {
                **named,
                "filters": {"properties": {"type": "OR", "values": []}},
                "groups": [],
                "is_static": False,
                "query": None,
            },
            label="cohort",
        ),
        Kind(
            "insights",
            {
                **named,
                "query": None,
                "filters": {},
                "saved": True,
                "favorited": False,
                "dashboards": [],
                "order": None,
            },
            required=(),
            search=("name", "derived_name", "description"),
            filters={
                "insight": lambda insight, value: insight_type(insight) == value.upper(),
                "short_id": _text("short_id"),
                "saved": _truth("saved"),
                "favorited": _truth("favorited"),
                "created_date_from": _not_before("created_at"),
                "created_date_to": _not_after("created_at"),
                "date_from": _not_before("last_modified_at"),
                "date_to": _not_after("last_modified_at"),
            },
        ),
        Kind(
            "dashboards",
            {**named, "pinned": False, "filters": {}, "variables": {}, "tiles": [], "restriction_level": 21},
        ),
        Kind(
            "feature_flags",
            {
                "key": "",
                "name": "",
                "filters": {"groups": [{"properties": [], "rollout_percentage": 100}]},
                "active": True,
                "deleted": False,
                "tags": [],
                "ensure_experience_continuity": False,
                "rollout_percentage": None,
                "version": 1,
                "experiment_set": [],
            },
            required=("key",),
            search=("key", "name"),
            filters={"active": _truth("active"), "type": _flag_type},
            unique="key",
            label="feature flag",
        ),
        Kind(
            "experiments",
            {
                **named,
                "feature_flag_key": "",
                "type": "product",
                "start_date": None,
                "end_date": None,
                "parameters": {},
                "metrics": [],
                "metrics_secondary": [],
                "exposure_criteria": None,
                "archived": False,
                "conclusion": None,
                "conclusion_comment": None,
            },
            required=("name", "feature_flag_key"),
        ),
        Kind(
            "annotations",
            {
                "content": "",
                "date_marker": None,
                "scope": "project",
                "creation_type": "USR",
                "dashboard_item": None,
                "deleted": False,
            },
            required=("content",),
            search=("content",),
            filters={
                "date_from": _not_before("date_marker"),
                "date_to": _not_after("date_marker"),
                "scope": _text("scope"),
            },
        ),
        Kind("actions", {**named, "steps": [], "pinned_at": None, "post_to_slack": False}),
        Kind(
            "surveys",
            {
                "name": "",
                "description": "",
                "type": "popover",
                "questions": [],
                "appearance": None,
                "conditions": None,
                "start_date": None,
                "end_date": None,
                "archived": False,
            },
            required=("name", "type"),
            filters={"archived": _truth("archived")},
            deletable=True,
            has_uuid=True,
        ),
        Kind(
            "event_definitions",
            {"description": "", "tags": [], "verified": False, "hidden": False},
            search=("name",),
            filters={
                "names": _named,
                "event_type": _event_type,
                "verified": _truth("verified"),
                "exclude_hidden": _not_hidden,
            },
            creatable=False,
            has_uuid=True,
        ),
        Kind(
            "property_definitions",
            {"description": "", "tags": [], "verified": False, "hidden": False, "property_type": None},
            search=("name",),
            filters={
                "type": _property_owner,
                "group_type_index": _text("group_type_index"),
                "properties": _named,
                "excluded_properties": _not_named,
                "is_numerical": _truth("is_numerical"),
                "verified": _truth("verified"),
                "exclude_hidden": _not_hidden,
            },
            creatable=False,
            has_uuid=True,
            asked={"type": "event"},
        ),
    )
    return {kind.path: kind for kind in kinds}


KINDS: Mapping[str, Kind] = _kinds()
"""Every entity type, by its path."""


# ---------------------------------------------------------------------------------------------------- store


class EntityStore:
    """The entities of one project, in memory and, with a `path`, in a JSON file.

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
        self._path = path
        self._timezone, self._week_start = timezone, week_start
        self._lock = threading.RLock()
        self._catalog: Catalog | None = None
        if path is not None and path.exists():
            self._entities: dict[str, list[Entity]] = json.loads(path.read_text(encoding="utf-8"))
        else:
            self._entities = {
                kind: [dict(entity) for entity in seeds.get(kind, ())] for kind in (*KINDS, "group_types")
            }
            self._save()

    def find(self, kind: str, request: Request) -> list[Entity]:
        """Return the entities that are not deleted and pass the filters of a request, in PostHog's order."""
        rule = KINDS[kind]
        found = self.all(kind)
        for name, test in rule.filters.items():
            if value := request.param(name, rule.asked.get(name, "")):
                found = [entity for entity in found if test(entity, value)]
        if words := request.param("search").casefold():
            found = [e for e in found if any(words in str(e.get(name) or "").casefold() for name in rule.search)]
        return _ordered(found, request.param("ordering"))

    def all(self, kind: str) -> list[Entity]:
        """Return every entity of a kind that is not deleted."""
        with self._lock:
            return [dict(entity) for entity in self._entities.get(kind, ()) if not entity.get("deleted")]

    def get(self, kind: str, key: str) -> Entity:
        """Return one entity.

        Raises:
            ApiError: 404.
        """
        for entity in self.all(kind):
            if str(entity.get("id")) == key:
                return entity
        raise errors.not_found()

    def create(self, kind: str, body: Mapping[str, Any]) -> Entity:
        """Make an entity; fields that cannot be written are ignored, as in PostHog.

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
                **json.loads(json.dumps(dict(rule.defaults))),
                "created_at": now,
                "updated_at": now,
                "created_by": USER,
                **fields,
            }
            if kind == "insights":
                entity.update(short_id=secrets.token_urlsafe(6), derived_name=None, result=None, last_modified_at=now)
            self._entities.setdefault(kind, []).append(entity)
            self._save()
            return dict(entity)

    def update(self, kind: str, key: str, body: Mapping[str, Any]) -> Entity:
        """Change an entity, also one that is deleted (``{"deleted": false}`` brings it back).

        Raises:
            ApiError: 404, or 400 as in `create`.
        """
        with self._lock:
            for entity in self._entities.get(kind, ()):
                if str(entity.get("id")) == key:
                    now = _now()
                    changed = {**self._checked(KINDS[kind], body, entity), "updated_at": now}
                    entity.update({**changed, "last_modified_at": now} if kind == "insights" else changed)
                    self._save()
                    return dict(entity)
        raise errors.not_found()

    def delete(self, kind: str, key: str) -> None:
        """Remove an entity of a kind that allows it.

        Raises:
            ApiError: 404.
        """
        self.get(kind, key)
        with self._lock:
            self._entities[kind] = [entity for entity in self._entities[kind] if str(entity.get("id")) != key]
            self._save()

    # ----------------------------------------------------------------------------------- what capture tells

    def learn(self, events: Iterable[str], properties: Mapping[PropertyKey, str | None]) -> None:
        """Add definitions of the events and properties that are seen for the first time.

        Args:
            events: Names of events.
            properties: The type of each property.
        """
        with self._lock:
            known = {entity["name"] for entity in self._entities["event_definitions"]}
            seen = {_property_key(entity) for entity in self._entities["property_definitions"]}
            new_events = [_event_definition(name) for name in dict.fromkeys(events) if name not in known]
            new_properties = [_property_definition(key, kind) for key, kind in properties.items() if key not in seen]
            self._entities["event_definitions"] += new_events
            self._entities["property_definitions"] += new_properties
            if new_events or new_properties:
                self._save()

    def group_index(self, name: str) -> int | None:
        """Return the index of a group type; a new name becomes one, None when all five are taken."""
        with self._lock:
            types = self._entities["group_types"]
            for group_type in types:
                if group_type["group_type"] == name:
                    return int(group_type["group_type_index"])
            if len(types) >= MAX_GROUP_TYPES:
                return None
            types.append(
                {
                    "group_type": name,
                    "group_type_index": len(types),
                    "name_singular": None,
                    "name_plural": None,
                }
            )
            self._save()
            return len(types) - 1

    def group_types(self) -> list[Entity]:
        """Return the group types in the order of their indexes."""
        with self._lock:
            return [dict(group_type) for group_type in self._entities["group_types"]]

    def catalog(self) -> Catalog:
        """Return what the translator needs to know of the project as it is now."""
        with self._lock:
            if self._catalog is None:
                self._catalog = Catalog(
                    property_definitions=tuple(map(_catalog_property, self.all("property_definitions"))),
                    event_names=tuple(entity["name"] for entity in self.all("event_definitions")),
                    group_types=tuple(entity["group_type"] for entity in self._entities["group_types"]),
                    cohorts=tuple(filter(None, map(_catalog_cohort, self.all("cohorts")))),
                    timezone=self._timezone,
                    week_start=self._week_start,
                )
            return self._catalog

    # ---------------------------------------------------------------------------------------------- helpers

    def _checked(self, rule: Kind, body: Mapping[str, Any], old: Entity | None) -> Entity:
        fields = {name: value for name, value in body.items() if name in rule.defaults}
        for name, value in fields.items():
            _check_field(name, value, rule.defaults[name], name in rule.required)
        if rule.path == "cohorts" and fields.get("filters"):
            condition(fields["filters"].get("properties"))
        if rule.unique in fields:
            for entity in self.all(rule.path):
                if entity[rule.unique] == fields[rule.unique] and (old is None or entity["id"] != old["id"]):
                    detail = f"There is already a {rule.label} with this {rule.unique}."
                    raise errors.validation(detail, "unique", rule.unique)
        return fields

    def _next_number(self, kind: str) -> int:
        return max((int(entity["id"]) for entity in self._entities.get(kind, ())), default=0) + 1

    def _save(self) -> None:
        self._catalog = None
        if self._path is None:
            return
        draft = self._path.with_suffix(".new")
        draft.write_text(json.dumps(self._entities), encoding="utf-8")
        os.replace(draft, self._path)


def _check_field(name: str, value: Any, default: Any, required: bool) -> None:
    """Refuse a value of another type than the default's; null is fine unless the field is required."""
    if value is None and not required:
        return
    if isinstance(default, str):
        if not isinstance(value, str):
            raise errors.validation("Not a valid string.", attr=name)
        if required and not value.strip():
            raise errors.validation("This field may not be blank.", "blank", name)
    elif isinstance(default, bool):
        if not isinstance(value, bool):
            raise errors.validation("Must be a valid boolean.", attr=name)
    elif isinstance(default, dict):
        if not isinstance(value, dict):
            raise errors.validation(f'Expected a dictionary of items but got type "{type(value).__name__}".', attr=name)
    elif isinstance(default, list) and not isinstance(value, list):
        raise errors.validation(f'Expected a list of items but got type "{type(value).__name__}".', attr=name)


def _ordered(found: list[Entity], ordering: str) -> list[Entity]:
    name = ordering.removeprefix("-")
    if name not in ("name", "created_at", "last_seen_at", "updated_at"):
        return found
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


def _catalog_cohort(cohort: Entity) -> Cohort | None:
    """Return a cohort as the translator knows it, None for one that HogQL cannot say."""
    if cohort["is_static"]:
        return Cohort(cohort["id"], cohort["name"])
    try:
        return Cohort(cohort["id"], cohort["name"], condition((cohort["filters"] or {}).get("properties") or []))
    except ApiError as problem:
        _LOG.warning("cohort %s cannot be queried: %s", cohort["id"], problem)
        return None
