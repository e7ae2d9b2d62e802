"""What SDKs send to capture: bodies are unpacked, events are read and checked.

Nothing here knows the project. Errors are plain text, as PostHog's capture service answers them.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import uuid
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import parse_qs

from .errors import ApiError
from .wire import Request, parse_json

__all__ = ["MAX_BODY", "MAX_EVENT", "CaptureError", "Event", "decode_body", "parse_events", "parse_timestamp"]

MAX_BODY = 20 * 1024 * 1024
"""Bytes of a request's body, packed or not (PostHog's limit)."""

MAX_EVENT = 1024 * 1024
"""Bytes of one event as JSON (the limit of PostHog's message queue)."""

MAX_DISTINCT_ID = 200
"""Characters of a distinct_id; PostHog cuts longer ones."""

_AHEAD = timedelta(hours=23)
_ISO = re.compile(r"(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d(?::\d\d)?)(?:[.,](\d{1,9}))?)?\s*(Z|z|[+-]\d\d:?\d\d)?$")
_PACKED = ("gzip", "gzip-js")


class CaptureError(Exception):
    """A request that capture does not take."""

    def __init__(self, text: str, status: int = 400) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True)
class Event:
    """One event as it was sent.

    Attributes:
        uuid: Its own id.
        has_own_uuid: The sender gave it, so that the event can come again.
        name: What happened.
        distinct_id: To whom.
        timestamp: When, by the server's clock.
        properties: Everything else.
    """

    uuid: str
    has_own_uuid: bool
    name: str
    distinct_id: str
    timestamp: datetime
    properties: dict[str, Any]

    @property
    def has_profile(self) -> bool:
        """Whether it may make and change a person."""
        return self.properties.get("$process_person_profile") is not False


# ---------------------------------------------------------------------------------------------------------- the body


def decode_body(request: Request, limit: int = MAX_BODY) -> Any:
    """Return the JSON of a body, however it is wrapped: gzip, deflate, base64, the field ``data`` of a form.

    Raises:
        CaptureError: It cannot be unwrapped, is no JSON, or too large when unpacked.
    """
    body = _unpacked(request.body, request.headers.get("content-encoding", "").lower(), limit)
    is_packed = body is request.body
    compression = request.param("compression").lower()
    if body.startswith(b"data=") or "form-urlencoded" in request.headers.get("content-type", ""):
        form = parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True)
        if "data" in form:
            compression = form.get("compression", [compression])[-1].lower()
            body, is_packed = form["data"][-1].encode(), True
    if compression in ("lz64", "br", "zstd"):
        raise CaptureError(f"failed to decode request: the embedded server does not have compression {compression}")
    if compression == "base64" or body.lstrip()[:1] not in (b"{", b"[", b'"', b"\x1f", b""):
        body = _from_base64(body)
    body = _unpacked(body, "gzip" if compression in _PACKED and is_packed else "", limit)
    try:
        return parse_json(body)
    except ApiError as problem:
        raise CaptureError(f"failed to parse request: {problem.detail.partition(' - ')[2]}") from None


def _unpacked(body: bytes, encoding: str, limit: int) -> bytes:
    if encoding in ("br", "zstd"):
        raise CaptureError(f"failed to decode request: the embedded server does not have the encoding {encoding}", 415)
    if body.startswith(b"\x1f\x8b") or (encoding == "gzip" and body):
        unpacker = zlib.decompressobj(wbits=31)
    elif encoding == "deflate" and body:
        unpacker = zlib.decompressobj()
    else:
        return body
    try:
        body = unpacker.decompress(body, limit + 1)
    except zlib.error as problem:
        raise CaptureError(f"failed to decode request: {problem}") from None
    if len(body) > limit:
        raise CaptureError("failed to decode request: decompressed payload is too large", 413)
    if not unpacker.eof:
        raise CaptureError("failed to decode request: the gzip stream is cut short")
    return body


def _from_base64(body: bytes) -> bytes:
    """Return what base64 stands for; what is none stays as it is, and fails as JSON."""
    text = bytes(body.translate(bytes.maketrans(b"-_ ", b"+/+"))).strip()
    try:
        return base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        return body


# -------------------------------------------------------------------------------------------------------- the events


def parse_events(payload: Any, now: datetime, *, sent_at: str | None = None) -> list[Event]:
    """Return the events of a request.

    Args:
        payload: Its JSON: one event, a list of them, or ``{"batch": [...]}``.
        now: The server's time.
        sent_at: The sender's time when it sent the request, if not in the payload: the difference to `now` moves the
            events' timestamps.

    Raises:
        CaptureError: There is none, or one of them is not valid.
    """
    skew = _skew((payload.get("sent_at") if isinstance(payload, Mapping) else None) or sent_at, now)
    events = [_parse_event(entry, now, skew) for entry in _entries(payload)]
    if not events:
        raise CaptureError("request holds no event")
    return events


def _entries(payload: Any) -> list[Any]:
    if isinstance(payload, list):
        return payload
    if isinstance(payload, dict) and "batch" in payload:
        if not isinstance(payload["batch"], list):
            raise CaptureError("failed to parse request: batch must be a list of events")
        return list(payload["batch"])
    return [payload]


def check_sizes(payload: Any) -> None:
    """Refuse a request with an event that is too big; only worth a look at a body of more than `MAX_EVENT`.

    Raises:
        CaptureError: 413.
    """
    for entry in _entries(payload):
        if len(json.dumps(entry, ensure_ascii=False, separators=(",", ":")).encode()) > MAX_EVENT:
            raise CaptureError("event too big", 413)


def _skew(sent_at: Any, now: datetime) -> timedelta:
    if sent_at is None:
        return timedelta()
    try:
        return now - parse_timestamp(sent_at)
    except (TypeError, ValueError, OverflowError):
        return timedelta()  # as PostHog, which takes the timestamps as they are then


def _parse_event(entry: Any, now: datetime, skew: timedelta) -> Event:
    if not isinstance(entry, dict):
        raise CaptureError("failed to parse request: an event must be an object")
    properties = entry.get("properties")
    if properties is not None and not isinstance(properties, dict):
        raise CaptureError("failed to parse request: properties must be an object")
    properties = dict(properties or {})
    for outer in ("$set", "$set_once", "$unset"):
        if isinstance(entry.get(outer), (dict, list)):
            properties.setdefault(outer, entry[outer])
    name = entry.get("event")
    if not isinstance(name, str) or not name.strip():
        raise CaptureError("event submitted with an empty event name")
    distinct_id = _parse_distinct_id(entry, properties)
    properties.pop("distinct_id", None)
    for secret in ("token", "api_key"):  # a project token is not stored; anything else of that name is the user's own
        if str(properties.get(secret, "")).startswith("phc_"):
            del properties[secret]
    given = entry.get("uuid")
    moment = _moment(entry, properties, now, skew)
    return Event(_parse_uuid(given), given is not None, name, distinct_id, moment, properties)


def _parse_distinct_id(entry: Mapping[str, Any], properties: Mapping[str, Any]) -> str:
    places = (entry.get("distinct_id"), entry.get("$distinct_id"), properties.get("distinct_id"))
    found = next((place for place in places if place is not None), None)
    if found is None or isinstance(found, (dict, list)):
        raise CaptureError("event submitted without a distinct_id")
    text = str(found).replace("\0", "\ufffd")
    if not text.strip():
        raise CaptureError("event submitted with an empty distinct_id")
    return text[:MAX_DISTINCT_ID]


def _parse_uuid(given: Any) -> str:
    if given is None:
        return str(uuid.uuid4())
    try:
        return str(uuid.UUID(given))
    except (AttributeError, TypeError, ValueError):
        raise CaptureError(f"failed to parse request: invalid uuid {given!r}") from None


def _moment(entry: Mapping[str, Any], properties: Mapping[str, Any], now: datetime, skew: timedelta) -> datetime:
    """Return when an event was, by the server's clock; one too far ahead was now."""
    given = entry.get("timestamp")
    if given is None:
        offset = entry.get("offset")
        is_number = isinstance(offset, (int, float)) and not isinstance(offset, bool) and 0 <= offset < 1e12
        return now - timedelta(milliseconds=offset) if is_number else now  # type: ignore[arg-type]
    try:
        moment = parse_timestamp(given)
        if not properties.get("$ignore_sent_at"):
            moment += skew
    except (TypeError, ValueError, OverflowError):
        raise CaptureError(f"failed to parse request: invalid timestamp {given!r}") from None
    if not 1970 <= moment.year <= 2261:
        raise CaptureError(f"failed to parse request: timestamp {given!r} is out of range")
    return now if moment > now + _AHEAD else moment


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
