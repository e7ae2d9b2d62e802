"""Web analytics: the numbers of a site's sessions in a range of time, beside those of an earlier one.

A session counts in the range that it began in, with what its page and screen views there say
(``posthog/hogql_queries/web_analytics/web_overview.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..actions import action_condition
from ..dates import DateRange
from ..property_filters import Condition, Names, Scope, joined
from .base import Asks, both, event_scope, filters, in_range, periods_of, refuse

__all__ = ["VIEWS", "goal_of", "overview"]

VIEWS = Condition("event IN ('$pageview', '$screen')")


def overview(query: Mapping[str, Any], asks: Asks) -> dict[str, Any]:
    """Answer a WebOverviewQuery.

    Raises:
        ApiError: 400, a date is none, an action does not exist, or something is asked for that is not served here.
    """
    refuse(query, "includeRevenue", "aggregation_group_type_index")
    refuse(query.get("sampling") or {}, "forceSamplingRate")
    period, *earlier = periods_of(query, asks)
    goal = goal_of(query, asks, event_scope(asks, Names("goal")))
    measures = _CONVERSIONS if goal else _VISITS
    current = _numbers(query, asks, period, goal)
    before = _numbers(query, asks, earlier[0], goal) if earlier else [None] * len(measures)
    return {
        "results": [
            _item(key, kind, value, previous, is_bad)
            for (key, kind, is_bad), value, previous in zip(measures, current, before, strict=True)
        ],
        "samplingRate": {"numerator": 1, "denominator": None},
        "dateFrom": f"{period.date_from:%Y-%m-%d %H:%M:%S}",
        "dateTo": f"{period.date_to:%Y-%m-%d %H:%M:%S}",
        "usedPreAggregatedTables": False,
    }


_VISITS = (
    ("visitors", "unit", None),
    ("views", "unit", None),
    ("sessions", "unit", None),
    ("session duration", "duration_s", None),
    ("bounce rate", "percentage", True),
)
_CONVERSIONS = (
    ("visitors", "unit", None),
    ("total conversions", "unit", None),
    ("unique conversions", "unit", None),
    ("conversion rate", "percentage", None),
)
"""Each number: its key, its unit, and whether more of it is bad."""


def goal_of(query: Mapping[str, Any], asks: Asks, scope: Scope) -> Condition | None:
    """Return the condition of a query's ``conversionGoal``, None without one.

    Raises:
        ApiError: 400, its action does not exist.
    """
    goal = query.get("conversionGoal")
    if not goal:
        return None
    if "actionId" in goal:
        return action_condition(asks.action(goal["actionId"]), scope)
    name = scope.names()
    return Condition(f"event = {{{name}}}", {name: goal["customEventName"]})


def _numbers(query: Mapping[str, Any], asks: Asks, period: DateRange, goal: Condition | None) -> list[Any]:
    """The numbers of one range."""
    scope = event_scope(asks, Names())
    counted = joined([VIEWS, goal], "OR") if goal else VIEWS
    within = in_range(period.date_from, period.date_to, scope.names)
    where = both(Condition("notEmpty($session_id)"), counted, within, filters(query, scope))
    began = in_range(period.date_from, period.date_to, scope.names, "started")
    if goal:
        own = f"countIf({goal.hogql}) AS conversions, anyIf(person_id, {goal.hogql}) AS converted"
        shown = "uniq(visitor), sum(conversions), uniqIf(converted, conversions > 0)"
    else:
        own = (
            f"countIf({VIEWS.hogql}) AS views, any(session.$session_duration) AS duration, "
            "any(session.$is_bounce) AS is_bounce"
        )
        shown = "uniq(visitor), sum(views), uniq(id), avg(duration), avg(is_bounce)"
    (row,) = asks.ask(
        f"SELECT {shown} FROM ("
        f"SELECT any(person_id) AS visitor, $session_id AS id, min(session.$start_timestamp) AS started, {own} "
        f"FROM events WHERE {where.hogql} GROUP BY id HAVING {began.hogql})",
        where,
        began,
        *([goal] if goal else []),
    ).rows
    return [*row, row[2] / row[0] if row[0] else None] if goal else row


def _item(key: str, kind: str, value: float | None, previous: float | None, is_bad: bool | None) -> dict[str, Any]:
    factor = 100 if kind == "percentage" else 1
    value, previous = (None if number is None else number * factor for number in (value, previous))
    return {
        "key": key,
        "kind": kind,
        "isIncreaseBad": is_bad,
        "value": value,
        "previous": previous,
        "changeFromPreviousPct": round(100 * (value - previous) / previous) if value is not None and previous else None,
    }
