"""REST entities: from what people write to what PostHog's API takes. Pure; the client sends."""

from __future__ import annotations

import datetime
import json
from typing import TYPE_CHECKING, Any

from posthog_driver.endpoints import to_json_value
from posthog_driver.exceptions import ResponseFormatError, ValidationError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "checked_path",
    "cohort_body",
    "insight_body",
    "is_within",
    "person_filters",
    "to_moment",
]

# Saved insights are stored wrapped for display; see posthog/api/services/query.py.
_DISPLAYS = ("InsightVizNode", "DataTableNode", "DataVisualizationNode")


def checked_path(endpoint: str) -> str:
    """Return a path that stays on the host it is meant for.

    Raises:
        ValidationError: it is no path, or holds what must be percent-encoded.
    """
    if not isinstance(endpoint, str) or not endpoint.startswith("/") or endpoint.startswith("//"):
        raise ValidationError(
            f"The endpoint is a path such as '/api/projects/1/', not {endpoint!r:.80}. Nothing was sent."
        )
    if not endpoint.isascii() or not endpoint.isprintable() or any(char in endpoint for char in ' \\"<>#'):
        raise ValidationError("The endpoint holds characters that must be percent-encoded. Nothing was sent.")
    return endpoint


def cohort_body(name: str, description: str, filters: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the body that creates a cohort."""
    body: dict[str, Any] = {"name": name, "description": description, "is_static": False}
    if filters is not None:
        body["filters"] = _dict(filters, "filters")
    return body


def insight_body(name: str, insight_type: str, filters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body that creates an insight from a query node, wrapped for display or not, or old-style filters."""
    filters = _dict(filters, "filters")
    if "kind" not in filters:
        return {"name": name, "filters": {"insight": insight_type, **filters}}
    if filters["kind"] in _DISPLAYS:
        return {"name": name, "query": filters}
    display = "DataVisualizationNode" if filters["kind"] == "HogQLQuery" else "InsightVizNode"
    return {"name": name, "query": {"kind": display, "source": filters}}


def person_filters(properties: Sequence[Mapping[str, Any]] | Mapping[str, Any]) -> str:
    """Return PostHog's property filters as its API takes them: JSON text.

    Args:
        properties: The filters, or a dict of names and values that persons must have exactly; None means not set.
    """
    if hasattr(properties, "keys"):
        found = [_person_filter(str(key), value) for key, value in _dict(properties, "properties").items()]
    elif isinstance(properties, (list, tuple)):
        found = [to_json_value(_dict(item, "a property filter")) for item in properties]
    else:
        raise ValidationError("properties are a dict of names and values, or a list of filters. Nothing was sent.")
    return json.dumps(found)


def _person_filter(key: str, value: Any) -> dict[str, Any]:
    if value is None:
        return {"key": key, "value": "is_not_set", "operator": "is_not_set", "type": "person"}
    return {"key": key, "value": to_json_value(value), "operator": "exact", "type": "person"}


def to_moment(value: datetime.datetime | datetime.date | str | None, name: str) -> datetime.datetime | None:
    """Return a moment with a zone; text is ISO 8601, and what has no zone is UTC.

    Raises:
        ValidationError: it is no moment; ``name`` says which argument it was.
    """
    if value is None:
        return None
    if isinstance(value, str):
        try:
            value = datetime.datetime.fromisoformat(value.strip().replace("Z", "+00:00"))
        except ValueError:
            raise ValidationError(f"{name} is an ISO 8601 time, not {value!r:.40}. Nothing was sent.") from None
    if not isinstance(value, datetime.date):
        raise ValidationError(f"{name} is a datetime or ISO 8601 text, not {type(value).__name__}. Nothing was sent.")
    if not isinstance(value, datetime.datetime):
        value = datetime.datetime(value.year, value.month, value.day)
    return value if value.tzinfo is not None else value.replace(tzinfo=datetime.timezone.utc)


def is_within(marker: Any, start: datetime.datetime | None, end: datetime.datetime | None) -> bool:
    """Tell whether PostHog's text for a moment lies between two others, both included; None sets no bound."""
    if start is None and end is None:
        return True
    try:
        moment = to_moment(marker, "date_marker") if isinstance(marker, str) else None
    except ValidationError as error:
        raise ResponseFormatError(f"PostHog's answer has a date_marker that is no time: {marker!r:.40}.") from error
    return moment is not None and (start is None or moment >= start) and (end is None or moment <= end)


def _dict(value: Any, name: str) -> dict[str, Any]:
    if not hasattr(value, "keys"):
        raise ValidationError(f"{name} is a dict, not {type(value).__name__}. Nothing was sent.")
    return dict(value)
