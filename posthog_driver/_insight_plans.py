"""Product questions as PostHog's query nodes, from plain arguments. Pure; see `PostHogClient.trends` and its sisters.

All of these raise a `ValidationError` for an argument that cannot be meant; it names the nearest one that can.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from posthog_driver._insight_arguments import (
    Moment,
    breakdown_filter,
    choose,
    date_range,
    event_nodes,
    flag,
    owned,
    property_filters,
    refused,
    whole_number,
    window,
)

if TYPE_CHECKING:
    import datetime
    from collections.abc import Mapping, Sequence

    Event = str | Mapping[str, Any] | None

__all__ = [
    "BREAKDOWN_LIMIT",
    "COUNTS",
    "EVERY",
    "MEASURES",
    "ORDERS",
    "plan_funnel",
    "plan_lifecycle",
    "plan_paths",
    "plan_retention",
    "plan_stickiness",
    "plan_trends",
]

MEASURES = {
    "events": "total",
    "users": "dau",
    "sessions": "unique_session",
    **{name: name for name in ("sum", "avg", "min", "max", "median", "p75", "p90", "p95", "p99")},
}
"""What a trend measures, and PostHog's word for it; those from ``sum`` on need the property that ``of`` names."""

EVERY = ("hour", "day", "week", "month")
"""Intervals of time."""

ORDERS = {"ordered": "ordered", "strict": "strict", "any": "unordered"}
"""How the steps of a funnel follow each other, and PostHog's word for it."""

BREAKDOWN_LIMIT = 25
"""Values of ``by`` that are told apart, as many as PostHog's own charts have."""

COUNTS = ("total", "dau", "unique_session")
"""PostHog's words for measures that are whole numbers, and need no property."""

_PATH_TYPES = {"pages": "$pageview", "screens": "$screen", "events": "custom_event"}
_MOST_SERIES, _MOST_STEPS, _MOST_PERIODS, _MOST_EDGES = 26, 30, 100, 5_000
# PostHog drops the rarest edges without a word, so more are asked for than are shown.
_LEAST_ASKED_EDGES = 1_000


def plan_trends(
    events: Event | Sequence[Event],
    *,
    measure: str = "users",
    of: str | None = None,
    every: str = "day",
    since: Moment = "-30d",
    until: Moment = None,
    by: str | None = None,
    by_limit: int = BREAKDOWN_LIMIT,
    where: Mapping[str, Any] | None = None,
    compare: bool = False,
) -> dict[str, Any]:
    """Return the TrendsQuery of `PostHogClient.trends`.

    Raises:
        ValidationError: an argument cannot be meant; it names the nearest one that can.
    """
    math = {"math": MEASURES[choose("measure", measure, MEASURES)]}
    if math["math"] in COUNTS:
        if of is not None:
            raise refused(f"measure={measure!r} has no property to be measured of: leave out of={of!r:.60}.")
    elif of is None:
        raise refused(f"measure={measure!r} needs the property it is computed of: of='amount'.")
    else:
        owner, math["math_property"] = owned("of", of)
        math["math_property_type"] = f"{owner}_properties"
    node: dict[str, Any] = {
        "kind": "TrendsQuery",
        "series": [{**one, **math} for one in event_nodes("events", events, 1, _MOST_SERIES)],
        "interval": choose("every", every, EVERY),
        **_common(since, until, where),
        **breakdown_filter(by, by_limit),
    }
    if flag("compare", compare):
        node["compareFilter"] = {"compare": True}
    return node


def plan_funnel(
    steps: Sequence[Event],
    *,
    within: datetime.timedelta | str = "14d",
    order: str = "ordered",
    since: Moment = "-30d",
    until: Moment = None,
    by: str | None = None,
    by_limit: int = BREAKDOWN_LIMIT,
    where: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the FunnelsQuery of `PostHogClient.funnel`; raises as `plan_trends` does."""
    amount, unit = window(within)
    return {
        "kind": "FunnelsQuery",
        "series": event_nodes("steps", steps, 2, _MOST_STEPS),
        "funnelsFilter": {
            "funnelWindowInterval": amount,
            "funnelWindowIntervalUnit": unit,
            "funnelOrderType": ORDERS[choose("order", order, ORDERS)],
            "funnelVizType": "steps",
        },
        **_common(since, until, where),
        **breakdown_filter(by, by_limit),
    }


def plan_retention(
    start_event: Event,
    return_event: Event = None,
    *,
    every: str = "week",
    periods: int = 8,
    first_time_only: bool = True,
    since: Moment = None,
    until: Moment = None,
    by: str | None = None,
    by_limit: int = BREAKDOWN_LIMIT,
    where: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the RetentionQuery of `PostHogClient.retention`; raises as `plan_trends` does."""
    first_time = flag("first_time_only", first_time_only)
    start = _entity("start_event", start_event)
    return {
        "kind": "RetentionQuery",
        "retentionFilter": {
            "period": choose("every", every, EVERY).title(),
            "totalIntervals": whole_number("periods", periods, 2, _MOST_PERIODS),
            "retentionType": "retention_first_time" if first_time else "retention_recurring",
            "targetEntity": start,
            "returningEntity": start if return_event is None else _entity("return_event", return_event),
        },
        **_common(since, until, where),
        # PostHog's retention would look for a session's property among those of events.
        **breakdown_filter(by, by_limit, ("event", "person")),
    }


def plan_lifecycle(
    event: Event,
    *,
    every: str = "week",
    since: Moment = "-30d",
    until: Moment = None,
    where: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the LifecycleQuery of `PostHogClient.lifecycle`; raises as `plan_trends` does."""
    return {
        "kind": "LifecycleQuery",
        "series": event_nodes("event", event, 1, 1),
        "interval": choose("every", every, EVERY),
        **_common(since, until, where),
    }


def plan_stickiness(
    events: Event | Sequence[Event],
    *,
    every: str = "day",
    since: Moment = "-30d",
    until: Moment = None,
    where: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the StickinessQuery of `PostHogClient.stickiness`; raises as `plan_trends` does."""
    return {
        "kind": "StickinessQuery",
        "series": event_nodes("events", events, 1, _MOST_SERIES),
        "interval": choose("every", every, EVERY),
        **_common(since, until, where),
    }


def plan_paths(
    of: str = "pages",
    *,
    start: str | None = None,
    end: str | None = None,
    steps: int = 5,
    limit: int = 50,
    since: Moment = "-30d",
    until: Moment = None,
    where: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the PathsQuery of `PostHogClient.paths`; raises as `plan_trends` does."""
    shown = whole_number("limit", limit, 1, _MOST_EDGES)
    asked: dict[str, Any] = {
        "includeEventTypes": [_PATH_TYPES[choose("of", of, _PATH_TYPES)]],
        "stepLimit": whole_number("steps", steps, 2, 20),
        "edgeLimit": max(2 * shown, _LEAST_ASKED_EDGES),
    }
    for name, key, point in (("start", "startPoint", start), ("end", "endPoint", end)):
        if point is not None:
            if not isinstance(point, str) or not point.strip():
                raise refused(f"{name} is the page, screen or event that paths {name} at, not {point!r:.60}.")
            asked[key] = point
    return {"kind": "PathsQuery", "pathsFilter": asked, **_common(since, until, where)}


def _common(since: Moment, until: Moment, where: Mapping[str, Any] | None) -> dict[str, Any]:
    filters = property_filters(where)
    return {**date_range(since, until), **({"properties": filters} if filters else {})}


def _entity(name: str, event: Event) -> dict[str, Any]:
    """Return an event as retention wants it."""
    (node,) = event_nodes(name, event, 1, 1)
    properties = {"properties": node["properties"]} if "properties" in node else {}
    return {"id": node["event"], "type": "events", **properties}
