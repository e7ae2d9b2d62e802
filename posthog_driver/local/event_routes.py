"""Answers about events as REST entities, and about the recordings of sessions."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from . import errors
from .conditions import Condition, joined
from .dates import parse_date
from .people import MAX_PAGE, PAGE, asked_filters, json_object, property_values
from .routes import PROJECT, ProjectCall, route
from .tabular import in_format
from .wire import Response

__all__ = ["ROUTES"]

_COLUMNS = "uuid, event, properties, timestamp, distinct_id, elements_chain, person.id AS person_id"


def events(call: ProjectCall) -> Response:
    """List the newest events; ``next`` leads to the ones before."""
    request = call.request
    if request.list_param("select") or request.list_param("where"):
        return _selected(call)
    limit, offset = min(request.number("limit", 0) or PAGE, MAX_PAGE), request.number("offset", 0)
    where = _asked(call)
    rows = call.project.queries.rows(
        f"SELECT {_COLUMNS} FROM events WHERE {where.hogql} ORDER BY timestamp DESC, uuid LIMIT {limit + 1} "
        f"OFFSET {offset}",
        where.values,
    )
    found = [_event(row) for row in rows[:limit]]
    # By offset and not by time: several events may share the time of the last one.
    following = request.url_with(offset=offset + limit) if len(rows) > limit else None
    return in_format(request, found, {"next": following, "results": found}, "events")


def _asked(call: ProjectCall) -> Condition:
    request, catalog = call.request, call.project.catalog()
    parts = []
    for name, test in (
        ("event", "event = {event}"),
        ("distinct_id", "distinct_id = {distinct_id}"),
        ("person_id", "toString(person.id) = {person_id}"),
        ("after", "timestamp > toDateTime({after})"),
        ("before", "timestamp < toDateTime({before})"),
    ):
        if value := request.param(name):
            parts.append(Condition(test, {name: _moment(call, name, value) if name in ("after", "before") else value}))
    if properties := request.param("properties"):
        parts.append(asked_filters(properties, "event", catalog))
    return joined(parts)


def _moment(call: ProjectCall, name: str, text: str) -> str:
    now = datetime.now(ZoneInfo(call.project.catalog().timezone))
    try:
        return parse_date(text, now, exact=True).strftime("%Y-%m-%d %H:%M:%S.%f")  # read in the project's zone
    except ValueError:
        raise errors.validation(f"Invalid datetime: {text}", attr=name) from None


def _selected(call: ProjectCall) -> Response:
    """Answer columns instead of events: the same as an EventsQuery."""
    request = call.request
    query: dict[str, Any] = {"kind": "EventsQuery", "select": request.list_param("select") or ["*"], "after": "all"}
    if where := request.list_param("where"):
        query["where"] = where
    names = {"event": "event", "person_id": "personId", "before": "before", "after": "after"}
    query |= {key: request.param(name) for name, key in names.items() if request.param(name)}
    if distinct_id := request.param("distinct_id"):
        query["properties"] = [
            {"type": "event_metadata", "key": "distinct_id", "operator": "exact", "value": distinct_id}
        ]
    if request.param("properties"):
        query["properties"] = [*query.get("properties", []), *request.list_param("properties")]
    query["limit"] = min(request.number("limit", 0) or PAGE, MAX_PAGE)
    answer = call.project.queries.submit({"query": query, "refresh": "force_blocking"}, denied=call.denied)
    body = answer.body if isinstance(answer.body, dict) else json.loads(answer.encode()[1])
    return Response(200, {name: body[name] for name in ("columns", "results", "types", "hasMore")})


def event(call: ProjectCall, id: str) -> Response:
    """Answer one event."""
    try:
        key = str(UUID(id))
    except ValueError:
        raise errors.not_found() from None
    rows = call.project.queries.rows(f"SELECT {_COLUMNS} FROM events WHERE uuid = toUUID({{id}}) LIMIT 1", {"id": key})
    if not rows:
        raise errors.not_found()
    return Response(200, _event(rows[0]))


def _event(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": row["uuid"],
        "distinct_id": row["distinct_id"],
        "properties": json_object(row["properties"]),
        "event": row["event"],
        "timestamp": row["timestamp"],
        "person": {"uuid": row["person_id"], "distinct_ids": [row["distinct_id"]]},
        "elements_chain": row["elements_chain"],
    }


def values(call: ProjectCall) -> Response:
    """List the most frequent values of a property of events."""
    names = call.request.query.get("event_name", [])
    where = Condition("event IN {names}", {"names": names}) if names else None
    found = property_values(call.project.queries, "events", call.request, where=where)
    return Response(200, [{"name": entry["name"]} for entry in found])


# -------------------------------------------------------------------------------------------------------- recordings

_PARAMS = "limit offset date_from date_to session_ids person_uuid distinct_ids properties order order_direction format"
_RECORDING_PARAMS = frozenset(_PARAMS.split())
_ORDERS = {
    "start_time": "start",
    "duration": "seconds",
    "click_count": "clicks",
    "activity_score": "total",
}


def recordings(call: ProjectCall) -> Response:
    """List the sessions that would have been recorded: PostHog's fields, from the sessions' events."""
    request = call.request
    for name in request.query:
        if name not in _RECORDING_PARAMS and name not in ("personal_api_key", "token", "kind"):
            raise errors.validation(f"The embedded server does not have {name} of session_recordings.", attr=name)
    limit, offset = min(request.number("limit", 0) or 20, MAX_PAGE), request.number("offset", 0)
    order, direction = request.param("order", "start_time"), request.param("order_direction", "DESC").upper()
    if order not in _ORDERS or direction not in ("ASC", "DESC"):
        raise errors.validation(f'"{order}" is not a valid choice.', "invalid_choice", "order")
    where = _asked_recordings(call)
    rows = call.project.queries.rows(
        f"{_RECORDINGS} WHERE $session_id != '' AND {where.hogql} GROUP BY $session_id "
        f"ORDER BY {_ORDERS[order]} {direction}, id LIMIT {limit + 1} OFFSET {offset}",
        where.values,
    )
    found = [_recording(row) for row in rows[:limit]]
    return in_format(request, found, {"results": found, "has_next": len(rows) > limit, "version": 4}, "recordings")


# None of these names is a column's: it would stand for the column in the conditions too.
_RECORDINGS = (
    "SELECT $session_id AS id, any(distinct_id) AS named, any(person.id) AS owner, min(timestamp) AS start, "
    "max(timestamp) AS end, dateDiff('second', min(timestamp), max(timestamp)) AS seconds, "
    "countIf(event = '$autocapture') AS clicks, count() AS total, "
    "argMin(properties.$current_url, timestamp) AS url FROM events"
)


def _asked_recordings(call: ProjectCall) -> Condition:
    request = call.request
    first = _moment(call, "date_from", request.param("date_from", "-3d"))
    parts = [Condition("timestamp >= toDateTime({first})", {"first": first})]
    if last := request.param("date_to"):
        parts.append(Condition("timestamp <= toDateTime({last})", {"last": _moment(call, "date_to", last)}))
    if ids := request.list_param("session_ids"):
        parts.append(Condition("$session_id IN {ids}", {"ids": [str(id) for id in ids]}))
    if names := request.list_param("distinct_ids"):
        parts.append(Condition("distinct_id IN {names}", {"names": [str(name) for name in names]}))
    if person := request.param("person_uuid"):
        parts.append(Condition("toString(person.id) = {person}", {"person": person}))
    if properties := request.param("properties"):
        parts.append(asked_filters(properties, "event", call.project.catalog()))
    return joined([Condition(f"({part.hogql})", part.values) for part in parts])


def recording(call: ProjectCall, id: str) -> Response:
    """Answer one recording."""
    text = f"{_RECORDINGS} WHERE $session_id = {{id}} GROUP BY $session_id LIMIT 1"
    rows = call.project.queries.rows(text, {"id": id})
    if not rows:
        raise errors.not_found()
    return Response(200, _recording(rows[0]))


def _recording(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": row["id"],
        "distinct_id": row["named"],
        "viewed": False,
        "recording_duration": row["seconds"],
        "active_seconds": None,
        "inactive_seconds": None,
        "start_time": row["start"],
        "end_time": row["end"],
        "click_count": row["clicks"],
        "keypress_count": None,
        "mouse_activity_count": None,
        "console_log_count": None,
        "console_warn_count": None,
        "console_error_count": None,
        "start_url": row["url"],
        "person": {"uuid": row["owner"], "distinct_ids": [row["named"]]},
        "storage": "object_storage",
        "ongoing": False,
    }


def no_snapshots(call: ProjectCall, **places: str) -> Response:
    """Refuse what would need real recordings."""
    raise errors.validation("The embedded server does not have snapshots of session_recordings.")


ROUTES = (
    route("GET", f"{PROJECT}/events/", events, "query:read"),
    route("GET", f"{PROJECT}/events/values/", values, "query:read"),
    route("GET", f"{PROJECT}/events/{{id}}/", event, "query:read"),
    route("GET", f"{PROJECT}/session_recordings/", recordings, "session_recording:read"),
    route("GET", f"{PROJECT}/session_recordings/{{id}}/", recording, "session_recording:read"),
    route("GET", f"{PROJECT}/session_recordings/{{id}}/snapshots/", no_snapshots, "session_recording:read"),
)
