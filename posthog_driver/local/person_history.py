"""What the properties of a person were at a moment, as their events tell it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from . import errors
from .capture_body import parse_timestamp
from .errors import ApiError
from .people import json_object
from .routes import ProjectCall
from .wire import Response

__all__ = ["properties_at_time"]

_LOOKED_BACK = timedelta(days=2 * 365)
_MAX_EVENTS = 50_000


def properties_at_time(call: ProjectCall) -> Response:
    """Answer a person with the properties that ``$set`` had given it up to a moment, two years back at most.

    As in PostHog, ``$set_once`` counts only with ``include_set_once=true``, and only that of events of that name.
    """
    request = call.request
    names = {name: request.param(name) for name in ("distinct_id", "person_id")}
    if all(names.values()):
        return _refusal("Cannot provide both distinct_id and person_id - choose one")
    if not any(names.values()):
        return _refusal("Must provide either distinct_id or person_id parameter")
    if not request.param("timestamp"):
        return _refusal("timestamp parameter is required (ISO format: 2023-06-15T14:30:00Z)")
    try:
        moment = parse_timestamp(request.param("timestamp").replace(" ", "+"))
    except ValueError:
        return _refusal("Invalid timestamp format. Use ISO format like 2023-06-15T14:30:00Z")
    mode = "distinct_id" if names["distinct_id"] else "person_id"
    person = _person(call, mode, names[mode])
    if person is None:
        return Response(404, {"error": f"Person with {mode} '{names[mode]}' not found"})
    with_set_once = bool(request.flag("include_set_once"))
    metadata = {
        "queried_timestamp": moment.isoformat(),
        "include_set_once": with_set_once,
        "distinct_id_used": names["distinct_id"] or None,
        "person_id_used": names["person_id"] or None,
        "query_mode": mode,
        "distinct_ids_queried": person["distinct_ids"],
        "distinct_ids_count": len(person["distinct_ids"]),
    }
    properties = _told(call, person["distinct_ids"], moment, with_set_once=with_set_once)
    return Response(200, {**person, "properties": properties, "point_in_time_metadata": metadata})


def _refusal(text: str) -> Response:
    return Response(400, {"error": text})


def _person(call: ProjectCall, mode: str, name: str) -> dict[str, Any] | None:
    id = name
    if mode == "distinct_id":
        id = call.project.ingestion.identities.links([name]).get(name, "")
    try:
        return call.project.people.person(id)
    except ApiError:
        return None


def _told(call: ProjectCall, distinct_ids: list[str], moment: datetime, *, with_set_once: bool) -> dict[str, Any]:
    """Return what events say of a person up to a moment."""
    zone = ZoneInfo(call.project.catalog().timezone)
    first, last = (each.astimezone(zone).strftime("%Y-%m-%d %H:%M:%S.%f") for each in (moment - _LOOKED_BACK, moment))
    rows = call.project.queries.rows(
        "SELECT event, JSONExtractRaw(properties, '$set') AS news, JSONExtractRaw(properties, '$set_once') AS firsts "
        "FROM events WHERE distinct_id IN {names} AND timestamp >= toDateTime({first}) "
        "AND timestamp <= toDateTime({last}) AND (news != '' OR (event = '$set_once' AND firsts != '')) "
        f"ORDER BY timestamp, created_at LIMIT {_MAX_EVENTS}",
        {"names": distinct_ids, "first": first, "last": last},
    )
    if len(rows) == _MAX_EVENTS:
        raise errors.validation("The embedded server does not have properties_at_time of so many events.")
    found: dict[str, Any] = {}
    for row in rows:
        found |= json_object(row["news"])
        if with_set_once and row["event"] == "$set_once":
            found = {**json_object(row["firsts"]), **found}
    return found
