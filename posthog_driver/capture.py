"""Events and flags: what goes to the ingestion host, with the project token and never with the personal key.

An event's uuid and timestamp are fixed before the first try and kept over all tries, so that a repeated delivery is
the same event to PostHog. ``plan_*`` are pure; the caller's dicts are not changed.
"""

from __future__ import annotations

import datetime
import logging
import math
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from posthog_driver._codec import encode
from posthog_driver._models import ApiRequest
from posthog_driver.endpoints import new_uuid, sendable_text
from posthog_driver.exceptions import (
    ConfigurationError,
    ObjectNotFoundError,
    QuotaError,
    ResponseFormatError,
    ServerError,
    ValidationError,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

__all__ = ["Batch", "parse_flag", "plan_batches", "plan_event", "plan_flag", "report_quota"]

MAX_BATCH_BYTES = 5 << 20
"""Where a batch is cut, before compression: the official SDK's figure; PostHog takes 20 MB."""
MAX_EVENT_BYTES = 20 << 20
"""PostHog refuses larger bodies with 413."""
_GZIP_FROM = 1024
_KNOWN_KEYS = frozenset(("event", "distinct_id", "properties", "timestamp", "uuid", "$set", "$set_once"))

logger = logging.getLogger("posthog_driver.capture")


class _Ready(NamedTuple):
    checked: dict[str, Any]
    encoded: bytes


class Batch(NamedTuple):
    """A request with the number of events in it."""

    request: ApiRequest
    events: int


def plan_event(token: str | None, event: Mapping[str, Any], now: float, timeout: float | None = None) -> ApiRequest:
    """Return the request that captures one event.

    Args:
        token: The project token.
        event: ``event`` and ``distinct_id``, optionally ``properties``, ``timestamp``, ``uuid``.
        now: Seconds since the epoch, for an event without a timestamp.
        timeout: Seconds for one attempt.

    Raises:
        ConfigurationError: there is no project token.
        ValidationError: the event cannot be captured as it is.
    """
    body = {"api_key": _token(token), **_event(event, now)}
    _size_of(encode(body), body["event"])
    return ApiRequest("POST", "/i/v0/e/", body, scope="ingest", timeout=timeout)


def plan_batches(
    token: str | None, events: Iterable[Mapping[str, Any]], now: float, timeout: float | None = None
) -> list[Batch]:
    """Return the requests that capture many events, split by size and compressed; every event is checked first.

    Raises:
        ConfigurationError: there is no project token.
        ValidationError: an event cannot be captured; its position is named, and nothing is sent.
    """
    token = _token(token)
    if hasattr(events, "keys") or hasattr(events, "upper") or not hasattr(events, "__iter__"):
        raise ValidationError("capture_batch needs a list of events. Nothing was sent.")
    ready = []
    for number, event in enumerate(events):
        try:
            checked = _event(event, now)
            ready.append(_Ready(checked, _size_of(encode(checked), checked["event"])))
        except ValidationError as error:
            raise ValidationError(f"Event {number} of the batch: {error}") from error
    return [Batch(_batch(token, part, timeout), len(part)) for part in _split(ready)]


def plan_flag(
    token: str | None,
    key: str,
    distinct_id: str,
    person_properties: Mapping[str, Any] | None = None,
    timeout: float | None = None,
) -> ApiRequest:
    """Return the request that evaluates one flag for one user."""
    if not isinstance(key, str) or not key.strip():
        raise ValidationError("evaluate_flag needs the flag's key. Nothing was sent.")
    body = {
        "api_key": _token(token),
        "distinct_id": _distinct_id(distinct_id),
        "flag_keys_to_evaluate": [key],
        "person_properties": _clean(_properties(person_properties, "person_properties"), "person_properties"),
    }
    return ApiRequest("POST", "/flags/", body, params={"v": 2}, scope="ingest", timeout=timeout)


def parse_flag(data: Any, key: str) -> dict[str, Any]:
    """Return the flag as PostHog answers it: ``key, enabled, variant, reason, metadata``.

    Raises:
        QuotaError: the project's quota of flag requests is used up, so that PostHog evaluates none.
        ServerError: PostHog could not evaluate this flag.
        ObjectNotFoundError: the project has no such flag.
        ResponseFormatError: the answer has no flags.
    """
    flags = data.get("flags") if isinstance(data, dict) else None
    if not isinstance(flags, dict):
        raise ResponseFormatError("PostHog's answer to /flags/ has no flags: check capture_url.")
    if key in flags and not (isinstance(flags[key], dict) and flags[key].get("failed")):
        flag = flags[key]
        return dict(flag) if isinstance(flag, dict) else {"key": key, "enabled": bool(flag), "variant": flag}
    if data.get("quotaLimited"):
        raise QuotaError(f"Flag {key!r} was not evaluated: the project's flag quota is used up.", status=200)
    if key in flags or data.get("errorsWhileComputingFlags"):
        raise ServerError(f"PostHog could not evaluate flag {key!r}; try again.", status=200)
    raise ObjectNotFoundError(f"The project has no active flag {key!r} (keys are case-sensitive).", status=200)


def report_quota(data: Any) -> list[str]:
    """Return what PostHog dropped for billing reasons (``quota_limited`` of a 200 answer), and log a warning."""
    limited = data.get("quota_limited") if isinstance(data, dict) else None
    if not limited:
        return []
    logger.warning("PostHog accepted the request but drops %s: the project's quota is used up", limited)
    return [str(item) for item in limited] if isinstance(limited, list) else [str(limited)]


def _batch(token: str, part: list[_Ready], timeout: float | None) -> ApiRequest:
    body = b'{"api_key":' + encode(token) + b',"batch":[' + b",".join(event.encoded for event in part) + b"]}"
    headers = None
    if len(body) > _GZIP_FROM:
        import gzip

        body, headers = gzip.compress(body, 6, mtime=0), {"Content-Encoding": "gzip"}
    plain = {"api_key": token, "batch": [event.checked for event in part]}
    return ApiRequest("POST", "/batch/", plain, body=body, headers=headers, scope="ingest", timeout=timeout)


def _split(events: list[_Ready]) -> Iterator[list[_Ready]]:
    part: list[_Ready] = []
    size = 0
    for event in events:
        if part and size + len(event.encoded) > MAX_BATCH_BYTES:
            yield part
            part, size = [], 0
        part.append(event)
        size += len(event.encoded) + 1
    if part:
        yield part


def _size_of(body: bytes, name: str) -> bytes:
    if len(body) > MAX_EVENT_BYTES:
        raise ValidationError(f"Event {name!r} has {len(body):,} bytes; PostHog takes 20 MB. Nothing was sent.")
    return body


def _token(token: str | None) -> str:
    if not token:
        raise ConfigurationError(
            "Capture and flags need the project token (phc_...): give project_api_key= or set POSTHOG_PROJECT_API_KEY."
        )
    return token


def _event(event: Mapping[str, Any], now: float) -> dict[str, Any]:
    """Return a checked copy, complete with uuid and timestamp."""
    if not hasattr(event, "keys"):
        raise ValidationError(f"an event is a dict, not {type(event).__name__}. Nothing was sent.")
    unknown = event.keys() - _KNOWN_KEYS
    if unknown:
        raise ValidationError(f"unknown keys {sorted(map(str, unknown))}: put them into properties. Nothing was sent.")
    name = event.get("event")
    if not isinstance(name, str) or not name.strip():
        raise ValidationError("an event needs a name: event='signed_up'. Nothing was sent.")
    properties = _properties(event.get("properties"), "properties")
    for outer in ("$set", "$set_once"):  # PostHog takes them beside the properties too
        if outer in event:
            properties.setdefault(outer, event[outer])
    distinct_id = event.get("distinct_id")
    return {
        "event": sendable_text(name, "The name"),
        "distinct_id": _distinct_id(properties.get("distinct_id") if distinct_id is None else distinct_id),
        "properties": _clean(properties, "properties"),
        "timestamp": _timestamp(event.get("timestamp"), now),
        "uuid": _uuid(event.get("uuid")),
    }


def _properties(value: Any, name: str) -> dict[Any, Any]:
    if value is not None and not hasattr(value, "keys"):
        raise ValidationError(f"{name} are a dict, not {type(value).__name__}. Nothing was sent.")
    return dict(value or {})


def _uuid(value: Any) -> str:
    """Return the event's own uuid, or a new one; PostHog refuses a whole batch for one that is none."""
    if value is None:
        return new_uuid()
    if not re.fullmatch(r"[0-9a-f]{8}(-?[0-9a-f]{4}){3}-?[0-9a-f]{12}", str(value), re.IGNORECASE):
        raise ValidationError(f"{str(value)[:40]!r} is no uuid. Nothing was sent.")
    return str(value)


def _distinct_id(value: Any) -> str:
    text = str(value).strip() if isinstance(value, (str, int)) and not isinstance(value, bool) else ""
    if not text:
        raise ValidationError("distinct_id is needed: the id of the user, as text. Nothing was sent.")
    return sendable_text(text, "distinct_id")


def _timestamp(value: Any, now: float) -> str:
    """Return ISO 8601 in UTC; what has no zone is UTC."""
    if value is None:
        return datetime.datetime.fromtimestamp(now, datetime.timezone.utc).isoformat()
    if isinstance(value, datetime.datetime):
        moment = value
    else:
        try:
            moment = datetime.datetime.fromisoformat(str(value).strip().replace("Z", "+00:00").replace("z", "+00:00"))
        except ValueError:
            raise ValidationError(f"timestamp {str(value)[:40]!r} is no ISO 8601 time. Nothing was sent.") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.timezone.utc)
    try:
        return moment.astimezone(datetime.timezone.utc).isoformat()
    except (OverflowError, ValueError):
        raise ValidationError(f"timestamp {str(value)[:40]!r} is no moment in UTC. Nothing was sent.") from None


def _clean(value: Any, where: str, depth: int = 0) -> Any:
    """Return a JSON-compatible copy; NaN and infinity become null, as the official SDK does, and are reported."""
    if depth > 100:
        raise ValidationError(f"{where[:60]} is nested too deeply or contains itself. Nothing was sent.")
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, str):
        return sendable_text(value, where[:60])
    if isinstance(value, float):
        if math.isfinite(value):
            return value
        logger.warning("%s is %s, which JSON does not know: sent as null", where, value)
        return None
    if hasattr(value, "keys"):
        names = list(value.keys())
        if len(set(map(str, names))) < len(names):
            raise ValidationError(f"{where[:60]} has two names that are the same text. Nothing was sent.")
        return {
            sendable_text(str(name), f"A name in {where[:60]}"): _clean(value[name], f"{where}.{name}", depth + 1)
            for name in names
        }
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_clean(item, f"{where}[{number}]", depth + 1) for number, item in enumerate(value)]
    if isinstance(value, (datetime.datetime, datetime.date)):
        return value.isoformat()
    if type(value).__name__ in ("UUID", "Decimal"):
        return str(value)
    raise ValidationError(f"{where} is a {type(value).__name__}, which JSON does not know. Nothing was sent.")
