"""StickinessQuery: how many people do something in one interval of a range, in two, in three ...

Source of shapes: ``posthog/hogql_queries/insights/stickiness_query_runner.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .. import errors
from ..dates import DateRange
from ..parser import parse_expression
from ..property_filters import Condition, Names
from .aggregates import bucket
from .base import Asks, Series, actor_of, both, event_scope, filters, in_range, periods_of, refuse, resolved, series_of

__all__ = ["actors", "answer"]

_OPERATORS = {"gte": ">=", "lte": "<=", "exact": "="}


def answer(query: Mapping[str, Any], asks: Asks) -> dict[str, Any]:
    """Answer a StickinessQuery.

    Raises:
        ApiError: 400, it asks for something that is not served.
        HogQLError: An expression or filter in it cannot be answered.
    """
    refuse(query, "samplingFactor")
    names = Names()
    scope = event_scope(asks, names)
    matching = filters(query, scope)
    series = series_of(query["series"], asks, scope)
    periods = periods_of(query, asks)
    results = []
    for one in series:
        for period in periods:
            result = _result(one, query, period, _counts(one, query, period, matching, asks, names))
            if len(periods) > 1:
                result |= {"compare": True, "compare_label": "current" if period is periods[0] else "previous"}
            results.append(result)
    return {"results": results, "resolved_date_range": resolved(periods[0])}


def actors(series: Series, query: Mapping[str, Any], period: DateRange, matching: Condition, names: Names) -> Condition:
    """Return the HogQL of the actors of a series: columns ``actor`` and ``intervals``, in how many they were active.

    Raises:
        ApiError: 400, a ``math`` or a criterion that is not served.
    """
    within = in_range(period.first_counted, period.date_to, names)
    where = both(within, series.condition, matching)
    actor = _actor(series, query)
    slot = bucket(period.interval)
    if query.get("intervalCount") is not None:
        # Several intervals are one, counted back from the end.
        end = names()
        slot = f"intDiv(age('{period.interval}', timestamp, toDateTime({{{end}}})), {_width(query)})"
        where = Condition(where.hogql, {**where.values, end: f"{period.date_to:%Y-%m-%d %H:%M:%S.%f}"})
    inner = (
        f"SELECT {actor} AS actor, {slot} AS slot FROM events WHERE {where.hogql} "
        f"GROUP BY actor, slot HAVING notEmpty(toString(actor)){_criterion(query)}"
    )
    return Condition(f"SELECT actor, count() AS intervals FROM ({inner}) GROUP BY actor", where.values)


def _counts(
    series: Series, query: Mapping[str, Any], period: DateRange, matching: Condition, asks: Asks, names: Names
) -> list[float]:
    inner = actors(series, query, period, matching, names)
    rows = asks.ask(f"SELECT intervals, count() AS people FROM ({inner.hogql}) GROUP BY intervals", inner).rows
    found = dict(rows)
    slots = -(-len(period.buckets()) // _width(query))
    return [found.get(intervals, 0) for intervals in range(1, slots + 1)]


def _result(series: Series, query: Mapping[str, Any], period: DateRange, counts: Sequence[float]) -> dict[str, Any]:
    data, more = list(counts), ""
    if (query.get("stickinessFilter") or {}).get("computedAs") == "cumulative":
        data, more = [sum(counts[place:]) for place in range(len(counts))], " or more"
    return {
        "count": sum(counts),
        "data": data,
        "days": list(range(1, len(counts) + 1)),
        "label": series.name,
        "labels": [f"{n} {period.interval}{'' if n == 1 else 's'}{more}" for n in range(1, len(counts) + 1)],
        "action": {key: series.facts()[key] for key in ("order", "type", "name", "id", "custom_name")},
    }


def _width(query: Mapping[str, Any]) -> int:
    width = 1 if query.get("intervalCount") is None else query["intervalCount"]
    if width < 1 or width != int(width):
        raise errors.validation("intervalCount is a whole number from 1 on.")
    return int(width)


def _actor(series: Series, query: Mapping[str, Any]) -> str:
    """Whom a series counts: its own ``math`` decides, else the question."""
    if series.math == "unique_group":
        return actor_of({"aggregation_group_type_index": series.node.get("math_group_type_index")})
    if series.math in ("total", "dau"):
        return actor_of(query)
    if series.math == "hogql" and series.node.get("math_hogql"):
        parse_expression(series.node["math_hogql"])
        return f"({series.node['math_hogql']}\n)"
    raise errors.validation(f"The embedded server does not have math {series.math} of a StickinessQuery.")


def _criterion(query: Mapping[str, Any]) -> str:
    criterion = (query.get("stickinessFilter") or {}).get("stickinessCriteria")
    if not criterion:
        return ""
    return f" AND count() {_OPERATORS[criterion['operator']]} {int(criterion['value'])}"
