"""The public host's routes for events: what SDKs post to, with the project's token alone."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from typing import Any

from .capture_body import MAX_EVENT, check_sizes
from .engine import EngineError
from .ingest import CaptureError, decode_body, parse_timestamp
from .project import Project
from .routes import OPEN, Call, route
from .wire import Response

__all__ = ["ROUTES"]

_ZONED = re.compile(r"T.*(?:[Zz]|[+-]\d\d:?\d\d)$")
_LOG = logging.getLogger(__name__)
_OPTIONS: Mapping[str, tuple[type, str]] = {
    "process_person_profile": (bool, "$process_person_profile"),
    "cookieless_mode": (bool, "$cookieless_mode"),
    "disable_skew_correction": (bool, "$ignore_sent_at"),
    "product_tour_id": (str, "$product_tour_id"),
}
"""Options of an event of capture v1, with their types and the properties that they stand for."""


def capture(call: Call) -> Response:
    """Take events; with ``?beacon=1`` the answer is empty."""
    payload = decode_body(call.request)
    project = _addressed(call, payload)
    if len(call.request.body) > MAX_EVENT or call.request.headers.get("content-encoding"):
        check_sizes(payload)
    response = _stored(project, payload, _sent_at(call.request.param("_")))
    return Response(204) if call.request.param("beacon") == "1" else response


def _stored(project: Project, payload: Any, sent_at: str | None) -> Response:
    if "events" in project.fields["quota_limited"]:
        return Response(200, {"status": "Ok", "quota_limited": ["events"]})
    try:
        response = project.ingestion.capture(payload, sent_at=sent_at)
    except EngineError:
        _LOG.exception("events could not be stored")
        raise CaptureError("transient error, please retry", 503) from None
    project.queries.data_changed()
    return response


def _sent_at(milliseconds: str) -> str | None:
    """Return the sender's clock as posthog-js gives it in the query string."""
    if not (milliseconds.isascii() and milliseconds.isdigit() and len(milliseconds) < 14):
        return None
    return datetime.fromtimestamp(int(milliseconds) / 1000, timezone.utc).isoformat()


def _addressed(call: Call, payload: Any) -> Project:
    """Return the project whose token a capture request names."""
    tokens = set(_tokens(payload))
    if not tokens:
        raise CaptureError("event submitted without an api_key", 401)
    if len(tokens) > 1:
        raise CaptureError("batch submitted with inconsistent api_key values", 401)
    return _by_token(call, tokens.pop())


def _by_token(call: Call, token: str) -> Project:
    project = call.account.projects.by_token(token)
    if project is None:
        kind = "personal_api_key" if token.startswith("phx_") else "unknown_project"
        raise CaptureError(f"API key is not valid: {kind}", 401)
    return project


def _tokens(payload: Any, inside: bool = False) -> Iterable[str]:
    """Give every project token that a capture request names."""
    entries = payload if isinstance(payload, list) else [payload]
    for entry in (entry for entry in entries if isinstance(entry, dict)):
        properties = entry.get("properties")
        # An event's properties are only looked into where nothing else names a token: they are the user's own.
        outer = _named(entry)
        yield from outer or (_named(properties) if isinstance(properties, dict) and not inside else ())
        if isinstance(entry.get("batch"), list):
            yield from _tokens(entry["batch"], inside=bool(outer))


def _named(place: Mapping[str, Any]) -> set[str]:
    return {token for name in ("api_key", "token") if isinstance(token := place.get(name), str) and token}


# --------------------------------------------------------------------------------------------------------- capture v1


def capture_v1(call: Call) -> Response:
    """Take events as the newest SDKs send them: the token in the header, an answer for each event."""
    request = call.request
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise CaptureError("missing bearer token", 401)
    project = _by_token(call, token.strip())
    payload = decode_body(request)
    batch = payload.get("batch") if isinstance(payload, dict) else None
    if not isinstance(batch, list) or not batch:
        raise CaptureError("request holds no event")
    check_sizes(payload)
    results: dict[str, dict[str, Any]] = {}
    taken = []
    for entry in batch:
        id, problem = _uuid_of(entry), _problem(entry)
        results[id] = {"result": "drop", "details": problem} if problem else {"result": "ok"}
        if not problem:
            taken.append(_as_v0(entry))
    sent_at = request.headers.get("posthog-request-timestamp") or payload.get("created_at")
    if taken and _stored(project, {"batch": taken}, sent_at).body.get("quota_limited"):
        results = {id: {"result": "drop", "details": "quota_limited"} for id in results}
    return Response(200, {"results": results})


def _uuid_of(entry: Any) -> str:
    id = entry.get("uuid") if isinstance(entry, dict) else None
    if not isinstance(id, str) or not id:
        raise CaptureError("failed to parse request: an event needs a uuid")
    return id


def _problem(entry: Mapping[str, Any]) -> str:
    """Return why an event is dropped, empty for one that is taken."""
    options = entry.get("options") or {}
    if not isinstance(options, dict):
        return "options must be an object"
    for name, value in options.items():
        kind = _OPTIONS.get(name)
        if kind is None or not isinstance(value, kind[0]):
            return f"invalid option {name}"
    if not _ZONED.search(str(entry.get("timestamp"))) or not _is_moment(entry["timestamp"]):
        return "invalid timestamp"
    properties = entry.get("properties")
    texts = (entry.get("event"), entry.get("distinct_id"))
    if not all(isinstance(text, str) and text.strip() for text in texts):
        return "an event needs a name and a distinct_id"
    return "" if properties is None or isinstance(properties, dict) else "properties must be an object"


def _is_moment(text: str) -> bool:
    try:
        return 1970 <= parse_timestamp(text).year <= 2261
    except (ValueError, OverflowError):
        return False


def _as_v0(entry: Mapping[str, Any]) -> dict[str, Any]:
    options = entry.get("options") or {}
    own = {_OPTIONS[name][1]: value for name, value in options.items()}
    kept = {name: entry[name] for name in ("event", "uuid", "distinct_id", "timestamp")}
    return {**kept, "properties": {**(entry.get("properties") or {}), **own}}


def open_telemetry(call: Call) -> Response:
    """Refuse what the embedded server does not have."""
    raise CaptureError("The embedded server does not have /i/v0/ai/otel.")


ROUTES = (
    *(route("POST", path, capture, OPEN) for path in ("/i/v0/e/", "/e/", "/capture/", "/batch/", "/i/v0/ai/batch/")),
    route("POST", "/i/v1/analytics/events", capture_v1, OPEN),
    route("POST", "/i/v0/ai/otel", open_telemetry, OPEN),
)
