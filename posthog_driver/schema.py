"""Discovery behind ``list_objects`` and ``get_fields``: what the project really has, kept for five minutes.

Tables and columns come from PostHog's ``DatabaseSchemaQuery``, names and types of properties from its definitions.
Where the live schema cannot be had, a static core of what every project has answers, and says so.
"""

from __future__ import annotations

import copy
import logging
from typing import TYPE_CHECKING, Any

from posthog_driver._models import ApiRequest
from posthog_driver.endpoints import QueryOptions, plan_node, run_node
from posthog_driver.exceptions import (
    AuthenticationError,
    AuthorizationError,
    ObjectNotFoundError,
    PostHogError,
    ResponseFormatError,
    ValidationError,
)
from posthog_driver.paging import iter_pages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from posthog_driver.endpoints import Runner

__all__ = ["CORE", "Schema"]

KEPT = 300.0
"""Seconds for which a live answer is used again."""
FAILURE_KEPT = 30.0
"""Seconds for which nobody asks again after the live schema could not be had."""
PROBE_TIMEOUT = 2.0
"""Seconds that the first look may take before the static core answers."""

_PAGE = 500
_MOST_DEFINITIONS = 20_000

# Object -> the kind of its property definitions.
_PROPERTIES_OF = {"events": "event", "persons": "person", "sessions": "session", "groups": "group"}

logger = logging.getLogger("posthog_driver.schema")


def _core(**fields: tuple[str, str]) -> dict[str, dict[str, Any]]:
    return {name: {"type": kind, "description": text} for name, (kind, text) in fields.items()}


_ENTITY = {
    "id": ("integer", "Number of the object; read it over REST, HogQL has no table of this name"),
    "name": ("string", "Name as people see it"),
    "description": ("string", "Free text"),
    "created_at": ("datetime", "When it was made"),
    "deleted": ("boolean", "Soft-deleted objects stay listed in system tables"),
}

CORE: dict[str, dict[str, dict[str, Any]]] = {
    "events": _core(
        uuid=("string", "Unique id of the event"),
        event=("string", "Name of the event, such as $pageview"),
        properties=("json", "Properties of the event: properties.$browser, properties['odd name']"),
        timestamp=("datetime", "When it happened; always bound it in queries"),
        distinct_id=("string", "Id of the user as the sender knows it"),
        elements_chain=("string", "Clicked elements of an autocaptured event"),
        created_at=("datetime", "When PostHog stored it"),
        person_id=("string", "The person; unique users are count(DISTINCT person_id)"),
        person=("lazy_table", "The person: person.properties.email"),
        session=("lazy_table", "The session: session.$session_duration"),
    )
    | {"$session_id": {"type": "string", "description": "The session the event belongs to"}},
    "persons": _core(
        id=("string", "Unique id of the person"),
        created_at=("datetime", "When the person was first seen"),
        properties=("json", "Current properties of the person: properties.email"),
        is_identified=("boolean", "Whether the person was identified"),
    ),
    "sessions": _core(session_id=("string", "Unique id of the session"), distinct_id=("string", "Id of the user"))
    | {
        "$start_timestamp": {"type": "datetime", "description": "First event of the session"},
        "$end_timestamp": {"type": "datetime", "description": "Last event of the session"},
        "$session_duration": {"type": "integer", "description": "Seconds between first and last event"},
        "$pageview_count": {"type": "integer", "description": "Pages seen"},
        "$is_bounce": {"type": "boolean", "description": "Left without doing anything"},
        "$entry_current_url": {"type": "string", "description": "First URL"},
        "$channel_type": {"type": "string", "description": "Where the visitor came from"},
    },
    "groups": _core(
        index=("integer", "Number of the group type, 0 to 4"),
        key=("string", "Id of the group"),
        created_at=("datetime", "When the group was first seen"),
        updated_at=("datetime", "When its properties last changed"),
        properties=("json", "Properties of the group: properties.name"),
    ),
    "cohorts": _core(**_ENTITY, count=("integer", "Persons in it"), is_static=("boolean", "A fixed list of persons")),
    "insights": _core(**_ENTITY, short_id=("string", "Id in the app's URL"), query=("json", "The saved query")),
    "dashboards": _core(**_ENTITY, tiles=("json", "Insights and texts on it")),
    "feature_flags": _core(
        id=_ENTITY["id"],
        key=("string", "Name in code"),
        name=("string", "What it is for"),
        filters=("json", "Who gets it"),
        active=("boolean", "Switched on"),
        created_at=_ENTITY["created_at"],
        deleted=_ENTITY["deleted"],
    ),
    "experiments": _core(
        **_ENTITY,
        feature_flag_key=("string", "Flag that splits the users"),
        start_date=("datetime", "Launch"),
        end_date=("datetime", "End"),
    ),
    "surveys": _core(**_ENTITY, type=("string", "How it is shown"), questions=("json", "What is asked")),
    "actions": _core(**_ENTITY, steps=("json", "Events that count as the action")),
    "annotations": _core(
        id=("integer", "Number of the annotation"),
        content=("string", "The note"),
        date_marker=("datetime", "The moment it belongs to"),
        scope=("string", "project, organization, dashboard or insight"),
        created_at=("datetime", "When it was made"),
    ),
}
"""What every project has; also the objects that are listed beside the project's own tables."""


class Schema:
    """Answers what exists and what it is made of.

    Args:
        send: Sends one request and returns its decoded answer.
        runner: The life of a query; its clock times the cache.
        project_id: The project that is asked about.
        total_timeout: Seconds that a refresh may take.

    Attributes:
        source: ``live`` or ``static``: where the last answer came from; None before the first.
    """

    def __init__(
        self, send: Callable[[ApiRequest], Any], runner: Runner, project_id: str, total_timeout: float = 300.0
    ) -> None:
        self._send = send
        self._runner = runner
        self._project_id = project_id
        self._total_timeout = total_timeout
        self._kept: dict[str, tuple[float, Any]] = {}
        self._failed: dict[str, float] = {}
        self.source: str | None = None

    def list_objects(self, *, refresh: bool = False, timeout: float | None = None) -> list[str]:
        """Return the names of everything that can be asked about, the most used first."""
        tables = self._tables(refresh, timeout) or {}
        return [*CORE, *sorted(tables.keys() - CORE.keys())]

    def get_fields(
        self, name: str, *, refresh: bool = False, timeout: float | None = None
    ) -> dict[str, dict[str, Any]]:
        """Return the fields of one object, each with at least ``type`` and ``description``."""
        if not isinstance(name, str) or not name.strip():
            raise ValidationError("get_fields needs the name of an object, such as 'events'. Nothing was sent.")
        tables = self._tables(refresh, timeout)
        live = tables is not None
        if name not in CORE and name not in (tables or {}):
            raise _not_found(name, list({**CORE, **(tables or {})}), live)
        core = copy.deepcopy(CORE.get(name, {}))
        fields = {} if tables and name in tables else core
        for column, facts in _columns((tables or {}).get(name)):
            described = core.get(column, {}).get("description") or f"{facts['type']} column of {name}"
            fields[column] = {**facts, "description": described}
        if live and name in _PROPERTIES_OF:
            # What the table says of a session's columns stands: their definitions say less.
            for path, facts in self._properties(_PROPERTIES_OF[name], refresh, timeout).items():
                fields.setdefault(path, facts)
        if live and name == "events" and "event" in fields:
            self._add_event_names(fields["event"], refresh, timeout)
        return fields

    def _tables(self, refresh: bool, timeout: float | None) -> dict[str, Any] | None:
        """Return the project's tables, or None where only the static core answers."""
        if not refresh and "tables" not in self._kept and self._failed_lately("tables"):
            self.source = "static"
            return None
        try:
            tables: dict[str, Any] = self._cached("tables", refresh, lambda: self._ask_tables(refresh, timeout))
        except PostHogError as error:
            if refresh or not _may_fall_back(error):
                raise
            self._failed["tables"] = self._runner.clock.monotonic()
            logger.warning("the live schema cannot be had, the static core answers for %d s: %s", FAILURE_KEPT, error)
            self.source = "static"
            return None
        self.source = "live"
        return tables

    def _ask_tables(self, refresh: bool, timeout: float | None) -> dict[str, Any]:
        seconds = timeout if refresh or timeout is not None else PROBE_TIMEOUT
        whole = self._total_timeout if refresh or seconds is None else seconds
        options = QueryOptions(timeout=seconds, deadline=self._runner.clock.monotonic() + whole)
        request = plan_node(self._project_id, {"kind": "DatabaseSchemaQuery"}, options)
        if not refresh:
            request = request._replace(max_attempts=1)
        data, _ = run_node(self._send, self._runner._replace(max_attempts=1), request)
        tables = data.get("tables") if isinstance(data, dict) else None
        if not isinstance(tables, dict):
            raise ResponseFormatError(
                "PostHog's answer to DatabaseSchemaQuery has no tables.", query_id=request.query_id
            )
        return tables

    def _properties(self, kind: str, refresh: bool, timeout: float | None) -> dict[str, dict[str, Any]]:
        """Return a field for each property that the project has seen: ``properties.$browser``."""
        prefix = "" if kind == "session" else "properties."
        fields: dict[str, dict[str, Any]] = {}
        for chosen in [{"type": kind}] if kind != "group" else self._group_types(refresh, timeout):
            for item in self._definitions("property_definitions", chosen, refresh, timeout):
                path = _property_path(prefix, str(item.get("name")))
                fields[path] = _property_facts(item, kind)
        return fields

    def _group_types(self, refresh: bool, timeout: float | None) -> list[dict[str, Any]]:
        """Return what chooses each group type's definitions: PostHog lists those of one type at a time."""
        types = self._definitions("groups_types", {}, refresh, timeout)
        return [{"type": "group", "group_type_index": item.get("group_type_index")} for item in types]

    def _add_event_names(self, field: dict[str, Any], refresh: bool, timeout: float | None) -> None:
        found = self._definitions("event_definitions", {}, refresh, timeout)
        if found:
            field["constraints"] = {"values": [str(item.get("name")) for item in found]}

    def _definitions(
        self, path: str, params: dict[str, Any], refresh: bool, timeout: float | None
    ) -> list[dict[str, Any]]:
        """Return all definitions of a kind; a key that may not read them gets the tables alone, and a warning."""
        key = f"{path}/{sorted(params.items())}"
        if not refresh and key not in self._kept and self._failed_lately(key):
            return []
        request = ApiRequest("GET", f"/api/projects/{self._project_id}/{path}/", params=params, timeout=timeout)
        pages = iter_pages(self._send, request, limit=_MOST_DEFINITIONS, page=_PAGE)
        try:
            found: list[dict[str, Any]] = self._cached(key, refresh, lambda: list(pages))
        except PostHogError as error:
            if refresh or (isinstance(error, AuthenticationError) and not isinstance(error, AuthorizationError)):
                raise
            self._failed[key] = self._runner.clock.monotonic()
            logger.warning(
                "%s cannot be had, for %d s fields are those of the table alone: %s", path, FAILURE_KEPT, error
            )
            return []
        if len(found) == _MOST_DEFINITIONS:
            logger.warning("%s has %d entries or more; the rest is left out", path, _MOST_DEFINITIONS)
        return found

    def _cached(self, key: str, refresh: bool, ask: Callable[[], Any]) -> Any:
        now = self._runner.clock.monotonic()
        kept = self._kept.get(key)
        if kept is not None and now - kept[0] >= KEPT:
            self._kept.pop(key, None)
        elif kept is not None and not refresh:
            return kept[1]
        value = ask()
        self._kept[key] = (self._runner.clock.monotonic(), value)
        return value

    def _failed_lately(self, key: str) -> bool:
        return self._runner.clock.monotonic() - self._failed.get(key, float("-inf")) < FAILURE_KEPT


def _not_found(name: str, known: list[str], live: bool) -> ObjectNotFoundError:
    import difflib

    nearest = difflib.get_close_matches(name, known, 3, 0.6)
    meant = f" Did you mean {' or '.join(map(repr, nearest))}?" if nearest else ""
    static = "" if live else " Only the static table was asked, as the live schema cannot be had now."
    listed = ", ".join(known[:20]) + (f" and {len(known) - 20} more" if len(known) > 20 else "")
    return ObjectNotFoundError(f"get_fields({name!r}): no such object.{meant}{static} Known: {listed}.")


def _may_fall_back(error: PostHogError) -> bool:
    """A wrong key or project has to be mended; anything else only means that the live schema is out of reach."""
    if isinstance(error, AuthorizationError):
        return True
    return not isinstance(error, (AuthenticationError, ObjectNotFoundError, ValidationError))


def _columns(table: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield name and facts of each column of a table in DatabaseSchemaQuery's shape."""
    fields = table.get("fields") if isinstance(table, dict) else None
    if not isinstance(fields, dict):
        return
    for name, field in fields.items():
        if not isinstance(field, dict):
            continue
        facts: dict[str, Any] = {"type": str(field.get("type") or "unknown")}
        if field.get("hogql_value") and field["hogql_value"] != name:
            facts["hogql"] = field["hogql_value"]
        if field.get("table"):
            facts["table"] = field["table"]
        yield str(name), facts


def _property_facts(item: dict[str, Any], kind: str) -> dict[str, Any]:
    holds = str(item.get("property_type") or "String").lower()
    described = item.get("description") or f"{kind.capitalize()} property seen in this project"
    if kind == "group" and holds != "string":
        # On the table `groups` PostHog gives properties as text; it converts them on events (group_0.properties.x).
        return {"type": "string", "description": f"{described}; text that holds {holds}, as in toFloat(...)"}
    return {"type": holds, "description": described}


def _property_path(prefix: str, name: str) -> str:
    """Return a property's path as HogQL reads it; odd names are quoted."""
    plain = name.isascii() and name.replace("$", "_").isidentifier()
    if plain or not prefix:
        return f"{prefix}{name}"
    escaped = name.replace("\\", "\\\\").replace("'", "\\'")
    return f"{prefix[:-1]}['{escaped}']"
