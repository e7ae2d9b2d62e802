"""What each type of REST entity allows: its fields, its filters, how it is listed, found and removed.

An entity is the plain dict that PostHog's REST API answers. One row of `KINDS` says everything about a type;
`entities.EntityStore` keeps the entities.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from . import errors
from .wire import parse_list

__all__ = ["KINDS", "USER", "Entity", "Filter", "Kind", "flag_status", "insight_type"]

Entity = dict[str, Any]

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
_CORE_PROPERTY = re.compile(r"\$|utm_|gclid$|gad_source$|fbclid$|msclkid$")
STALE_DAYS = 30
"""A flag that gives everybody the same answer is stale this long after it was made (PostHog's rule)."""


def insight_type(insight: Entity) -> str:
    """Return the type that ``insights/?insight=`` compares: ``TRENDS``, ``FUNNELS``, ``SQL``, ..."""
    if named := (insight.get("filters") or {}).get("insight"):
        return str(named).upper()
    query = insight.get("query") or {}
    kind = (query.get("source") or query).get("kind")
    return next((name for name, query_kind in _INSIGHT_KINDS.items() if query_kind == kind), "JSON")


def flag_status(flag: Entity, now: datetime) -> tuple[str, str]:
    """Return what ``feature_flags/{id}/status/`` says: ``ACTIVE``, ``STALE``, ``INACTIVE`` or ``DELETED``, and why."""
    if flag.get("deleted"):
        return "DELETED", "Flag has been deleted"
    if not flag.get("active"):
        return "INACTIVE", "Flag is disabled"
    made = datetime.fromisoformat(str(flag["created_at"]).replace("Z", "+00:00"))
    if (now - made).days >= STALE_DAYS and (reason := _answers_all_alike(flag)):
        return "STALE", reason
    return "ACTIVE", "Flag is not fully rolled out and may still be active"


def _answers_all_alike(flag: Entity) -> str:
    filters = flag.get("filters") or {}
    groups = filters.get("groups") or []
    full = [group for group in groups if not group.get("properties") and group.get("rollout_percentage") in (None, 100)]
    variants = (filters.get("multivariate") or {}).get("variants") or []
    if not variants:
        return "This boolean flag will always evaluate to true" if full else ""
    if winner := next((variant["key"] for variant in variants if variant["rollout_percentage"] == 100), None):
        return f'This flag will always use the variant "{winner}"' if full else ""
    forced = next((group["variant"] for group in full if group.get("variant")), None)
    return f'This flag will always use the variant "{forced}"' if forced else ""


# ------------------------------------------------------------------------------------------------------- filters


@dataclass(frozen=True)
class Filter:
    """A query parameter of a list.

    Attributes:
        passes: Whether an entity passes a value.
        check: Refuses values that cannot be; takes the parameter's name and the value.
    """

    passes: Callable[[Entity, str], bool]
    check: Callable[[str, str], None] = lambda name, value: None


def _refuse_choice(name: str, value: str) -> None:
    raise errors.validation(f'"{value}" is not a valid choice.', "invalid_choice", name)


def _is_truth(name: str, value: str) -> None:
    if value.lower() not in ("true", "false", "1", "0"):
        raise errors.validation("Must be a valid boolean.", attr=name)


def _is_number(name: str, value: str) -> None:
    if not (value.isascii() and value.isdigit()):
        raise errors.validation("A valid integer is required.", attr=name)


def _is_date(name: str, value: str) -> None:
    try:
        datetime.fromisoformat(value.replace("Z", "+00:00"))
    except ValueError:
        raise errors.validation(f"Invalid date: {value}", attr=name) from None


def _is_insight_type(name: str, value: str) -> None:
    if value.upper() not in (*_INSIGHT_KINDS, "JSON"):
        _refuse_choice(name, value)


def _is_list(name: str, value: str) -> None:
    parse_list(name, value)


def _on(value: str) -> bool:
    return value.lower() in ("true", "1")


def _text(field_name: str) -> Filter:
    return Filter(lambda entity, value: str(entity.get(field_name)) == value)


def _number(field_name: str) -> Filter:
    return Filter(lambda entity, value: str(entity.get(field_name)) == str(int(value)), _is_number)


def _truth(field_name: str) -> Filter:
    return Filter(lambda entity, value: bool(entity.get(field_name)) == _on(value), _is_truth)


def _only_with(test: Callable[[Entity], bool]) -> Filter:
    """Leave out what fails a test when the value is true, nothing when it is false."""
    return Filter(lambda entity, value: not _on(value) or test(entity), _is_truth)


def _choice(options: Sequence[str], passes: Callable[[Entity, str], bool]) -> Filter:
    def check(name: str, value: str) -> None:
        if value not in options:
            _refuse_choice(name, value)

    return Filter(passes, check)


def _not_before(field_name: str) -> Filter:
    return Filter(lambda entity, value: str(entity.get(field_name) or "") >= value, _is_date)


def _not_after(field_name: str) -> Filter:
    # A bound that is a whole day includes the day.
    return Filter(lambda entity, value: str(entity.get(field_name) or "")[: len(value)] <= value, _is_date)


def _has_one_of(field_name: str) -> Filter:
    return Filter(
        lambda entity, value: bool(set(map(str, entity.get(field_name) or ())) & set(map(str, json.loads(value)))),
        _is_list,
    )


def _names(value: str) -> list[str]:
    return [str(name) for name in json.loads(value)] if value.startswith("[") else value.split(",")


def _flag_type(flag: Entity, value: str) -> bool:
    filters = flag.get("filters") or {}
    return value == (
        "experiment" if flag.get("experiment_set") else "multivariant" if filters.get("multivariate") else "boolean"
    )


def _flag_active(flag: Entity, value: str) -> bool:
    if value == "STALE":
        return flag_status(flag, datetime.now().astimezone())[0] == "STALE"
    return bool(flag.get("active")) == (value == "true")


def _event_type(entity: Entity, value: str) -> bool:
    builtin = str(entity.get("name")).startswith("$")
    return value in ("event", "all") or builtin == (value == "event_posthog")


def _is_stale(seen: str) -> bool:
    moment = datetime.fromisoformat(seen.replace("Z", "+00:00"))
    return (datetime.now().astimezone() - moment).days >= STALE_DAYS


_CREATED_BY = Filter(lambda entity, value: str((entity.get("created_by") or {}).get("id")) == value, _is_number)
_CREATED_BY_UUID = Filter(lambda entity, value: (entity.get("created_by") or {}).get("uuid") == value)
_TAGS = _has_one_of("tags")
_NAMED_LIST = Filter(lambda entity, value: entity.get("name") in _names(value))
_NOT_NAMED = Filter(lambda entity, value: entity.get("name") not in json.loads(value), _is_list)
_NOT_HIDDEN = _only_with(lambda entity: not entity.get("hidden"))
# The only user made everything, or the demo did in their name.
_MINE = Filter(lambda entity, value: (entity.get("created_by") or {}).get("id") == USER["id"])


# --------------------------------------------------------------------------------------------------------- kinds


@dataclass(frozen=True)
class Kind:
    """What one entity type allows.

    Attributes:
        path: The last part of its address.
        defaults: The writable fields, with the values a new entity gets; the type of a default is the field's.
        required: Fields that a new entity must give.
        choices: The values that a field can have.
        numbers: Writable fields whose default is null and whose values are whole numbers.
        dates: Writable fields whose default is null and whose values are ISO 8601.
        search: Fields that ``?search=`` looks into; none when it has no search.
        filters: Query parameters.
        creatable: Whether POST makes one.
        deletable: Whether DELETE removes one; most are removed with ``PATCH {"deleted": true}``.
        has_uuid: The id is a UUID and not a number.
        key: The field that addresses it: ``id`` or ``short_id``.
        is_numbered: Its list has pages by number (``page``) instead of ``limit`` and ``offset``.
        unique: A field that no two may share.
        asked: Query parameters that count when a request does not give them.
        label: What it is called in errors.
        shown: Read-only fields of a new entity.
    """

    path: str
    defaults: Mapping[str, Any] = field(default_factory=dict)
    required: tuple[str, ...] = ("name",)
    choices: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    numbers: frozenset[str] = frozenset()
    dates: frozenset[str] = frozenset()
    search: tuple[str, ...] = ("name", "description")
    filters: Mapping[str, Filter] = field(default_factory=dict)
    creatable: bool = True
    deletable: bool = False
    has_uuid: bool = False
    key: str = "id"
    is_numbered: bool = False
    unique: str = ""
    asked: Mapping[str, str] = field(default_factory=dict)
    label: str = "object"
    shown: Callable[[], Entity] = dict

    def check(self, name: str, value: Any) -> None:
        """Refuse a value that a field cannot have; null is fine unless the field is required.

        Raises:
            ApiError: 400 that names the field.
        """
        if value is None and name not in self.required:
            return
        if name in self.choices and value not in self.choices[name]:
            _refuse_choice(name, str(value))
        if name in self.numbers and type(value) is not int:
            raise errors.validation("A valid integer is required.", attr=name)
        if name in self.dates:
            _is_text(name, value)
            _is_date(name, value)
        _check_type(name, value, self.defaults[name], name in self.required)


def _is_text(name: str, value: Any) -> None:
    if not isinstance(value, str):
        raise errors.validation("Not a valid string.", attr=name)


def _check_type(name: str, value: Any, default: Any, required: bool) -> None:
    """Refuse a value of another type than the default's."""
    if isinstance(default, str):
        _is_text(name, value)
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


def _short_id() -> str:
    return secrets.token_urlsafe(6)


def _new_insight() -> Entity:
    return {"short_id": _short_id(), "derived_name": None, "result": None, "last_modified_by": USER}


def _new_cohort() -> Entity:
    return {"is_calculating": False, "last_calculation": None, "errors_calculating": 0, "count": None, "version": None}


_NAMED: Mapping[str, Any] = {"name": "", "description": "", "deleted": False, "tags": []}

_COHORTS = Kind(
    "cohorts",
    {
        "name": "",
        "description": "",
        "deleted": False,
        "filters": {"properties": {"type": "OR", "values": []}},
        "groups": [],
        "is_static": False,
        "query": None,
    },
    filters={
        "type": _choice(("static", "dynamic"), lambda cohort, value: bool(cohort["is_static"]) == (value == "static")),
        "created_by_id": _CREATED_BY,
    },
    label="cohort",
    shown=_new_cohort,
)
_INSIGHTS = Kind(
    "insights",
    {**_NAMED, "query": None, "filters": {}, "saved": True, "favorited": False, "dashboards": [], "order": None},
    required=(),
    numbers=frozenset({"order"}),
    search=("name", "derived_name", "description"),
    filters={
        "insight": Filter(lambda insight, value: insight_type(insight) == value.upper(), _is_insight_type),
        "short_id": _text("short_id"),
        "saved": _truth("saved"),
        "favorited": _truth("favorited"),
        "user": _MINE,
        "created_by": _CREATED_BY,
        "tags": _TAGS,
        "dashboards": _has_one_of("dashboards"),
        "created_date_from": _not_before("created_at"),
        "created_date_to": _not_after("created_at"),
        "date_from": _not_before("last_modified_at"),
        "date_to": _not_after("last_modified_at"),
    },
    shown=_new_insight,
)
_DASHBOARDS = Kind(
    "dashboards",
    {**_NAMED, "pinned": False, "filters": {}, "variables": {}, "tiles": [], "restriction_level": 21},
    choices={"restriction_level": (21, 37)},
    filters={"pinned": _truth("pinned"), "created_by": _CREATED_BY, "tags": _TAGS},
    shown=lambda: {"is_shared": False, "creation_mode": "default"},
)
_FEATURE_FLAGS = Kind(
    "feature_flags",
    {
        "key": "",
        "name": "",
        "filters": {"groups": [{"properties": [], "rollout_percentage": 100}]},
        "active": True,
        "archived": False,
        "deleted": False,
        "tags": [],
        "ensure_experience_continuity": False,
        "rollout_percentage": None,
        "evaluation_runtime": "all",
        "evaluation_contexts": [],
        "bucketing_identifier": "distinct_id",
        "is_remote_configuration": False,
        "has_encrypted_payloads": False,
    },
    required=("key",),
    numbers=frozenset({"rollout_percentage"}),
    choices={
        "evaluation_runtime": ("all", "server", "client"),
        "bucketing_identifier": ("distinct_id", "device_id"),
        "has_encrypted_payloads": (False,),
    },
    search=("key", "name"),
    filters={
        "active": _choice(("true", "false", "STALE"), _flag_active),
        "type": _choice(("boolean", "multivariant", "experiment"), _flag_type),
        "tags": _TAGS,
        "created_by_id": _CREATED_BY,
        "evaluation_runtime": _choice(
            ("all", "server", "client"), lambda flag, value: (flag.get("evaluation_runtime") or "all") == value
        ),
        "has_evaluation_contexts": Filter(
            lambda flag, value: bool(flag.get("evaluation_contexts")) == _on(value), _is_truth
        ),
        "excluded_properties": Filter(
            lambda flag, value: not set(json.loads(value)) & {flag["key"], flag["id"]}, _is_list
        ),
    },
    unique="key",
    label="feature flag",
    shown=lambda: {"version": 1, "experiment_set": []},
)
_EXPERIMENTS = Kind(
    "experiments",
    {
        **_NAMED,
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
    choices={"type": ("web", "product"), "conclusion": ("won", "lost", "inconclusive", "stopped_early", "invalid")},
    dates=frozenset({"start_date", "end_date"}),
    filters={"archived": _truth("archived"), "created_by_id": _CREATED_BY},
)
_ANNOTATIONS = Kind(
    "annotations",
    {
        "content": "",
        "date_marker": None,
        "scope": "dashboard_item",
        "creation_type": "USR",
        "dashboard_item": None,
        "dashboard_id": None,
        "deleted": False,
    },
    required=("content",),
    choices={"scope": ("dashboard_item", "dashboard", "project", "organization"), "creation_type": ("USR", "GIT")},
    numbers=frozenset({"dashboard_item", "dashboard_id"}),
    dates=frozenset({"date_marker"}),
    search=("content",),
    filters={
        "date_from": _not_before("date_marker"),
        "date_to": _not_after("date_marker"),
        "scope": _choice(
            ("dashboard_item", "dashboard", "project", "organization"), lambda entity, value: entity["scope"] == value
        ),
    },
)
_ACTIONS = Kind("actions", {**_NAMED, "steps": [], "pinned_at": None, "post_to_slack": False})
_SURVEYS = Kind(
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
        "responses_limit": None,
        "linked_flag_id": None,
    },
    required=("name", "type"),
    choices={"type": ("popover", "widget", "external_survey", "api")},
    numbers=frozenset({"responses_limit", "linked_flag_id"}),
    dates=frozenset({"start_date", "end_date"}),
    filters={"archived": _truth("archived")},
    deletable=True,
    has_uuid=True,
)
_PLAYLISTS = Kind(
    "session_recording_playlists",
    {"name": "", "description": "", "deleted": False, "pinned": False, "filters": {}, "type": "collection"},
    required=(),
    choices={"type": ("collection", "filters")},
    filters={"created_by": _CREATED_BY, "short_id": _text("short_id"), "pinned": _truth("pinned")},
    key="short_id",
    shown=lambda: {"short_id": _short_id(), "derived_name": None, "last_modified_by": USER},
)
_EARLY_ACCESS = Kind(
    "early_access_feature",
    {"name": "", "description": "", "stage": "draft", "documentation_url": "", "feature_flag_id": None, "payload": {}},
    required=("name", "stage"),
    choices={"stage": ("draft", "concept", "alpha", "beta", "general-availability", "archived")},
    numbers=frozenset({"feature_flag_id"}),
    search=(),
    deletable=True,
    has_uuid=True,
)
_VARIABLES = Kind(
    "insight_variables",
    {"name": "", "type": "String", "default_value": None, "values": None},
    required=("name", "type"),
    choices={"type": ("String", "Number", "Boolean", "List", "Date")},
    search=(),
    deletable=True,
    has_uuid=True,
    is_numbered=True,
)
_NOTEBOOKS = Kind(
    "notebooks",
    {"title": "", "content": None, "text_content": "", "deleted": False, "visibility": "default"},
    required=(),
    choices={"visibility": ("default", "internal")},
    search=("title", "text_content"),
    filters={
        "created_by": _CREATED_BY_UUID,
        "user": _MINE,
        "date_from": _not_before("last_modified_at"),
        "date_to": _not_after("last_modified_at"),
    },
    has_uuid=True,
    key="short_id",
    shown=lambda: {"short_id": _short_id(), "version": 0, "last_modified_by": USER},
)
_EVENT_DEFINITIONS = Kind(
    "event_definitions",
    {"description": "", "tags": [], "verified": False, "hidden": False, "primary_property": None},
    search=("name",),
    filters={
        "names": _NAMED_LIST,
        "event_type": _choice(("event", "event_custom", "event_posthog", "all"), _event_type),
        "verified": _truth("verified"),
        "exclude_hidden": _NOT_HIDDEN,
        "exclude_stale": _only_with(lambda entity: not _is_stale(entity.get("last_seen_at") or entity["created_at"])),
        "excluded_properties": _NOT_NAMED,
        "tags": _TAGS,
    },
    creatable=False,
    deletable=True,
    has_uuid=True,
)
_PROPERTY_DEFINITIONS = Kind(
    "property_definitions",
    {"description": "", "tags": [], "verified": False, "hidden": False, "property_type": None},
    choices={"property_type": ("String", "Numeric", "Boolean", "DateTime", "Duration")},
    search=("name",),
    filters={
        "type": _choice(("event", "person", "group", "session"), lambda entity, value: entity["type"] == value),
        "group_type_index": _number("group_type_index"),
        "properties": _NAMED_LIST,
        "excluded_properties": _NOT_NAMED,
        "is_numerical": _truth("is_numerical"),
        "is_feature_flag": Filter(
            lambda entity, value: str(entity["name"]).startswith("$feature/") == _on(value), _is_truth
        ),
        "exclude_core_properties": _only_with(lambda entity: not _CORE_PROPERTY.match(entity["name"])),
        "verified": _truth("verified"),
        "exclude_hidden": _NOT_HIDDEN,
    },
    creatable=False,
    deletable=True,
    has_uuid=True,
    asked={"type": "event"},
)

KINDS: Mapping[str, Kind] = {
    kind.path: kind
    for kind in (
        *(_COHORTS, _INSIGHTS, _DASHBOARDS, _FEATURE_FLAGS, _EXPERIMENTS, _ANNOTATIONS, _ACTIONS, _SURVEYS),
        *(_PLAYLISTS, _EARLY_ACCESS, _VARIABLES, _NOTEBOOKS, _EVENT_DEFINITIONS, _PROPERTY_DEFINITIONS),
    )
}
"""Every entity type, by its path."""
