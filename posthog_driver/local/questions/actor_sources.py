"""Who stands behind a number of an insight: the actors of a point, a status or a step, as HogQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from .. import errors
from ..dates import DateRange, add, floor, parse_date
from ..parser import Node, parse_select
from ..property_filters import TRUE, Condition, Names
from ..schema import hogql_name
from . import funnels, lifecycle, retention, stickiness
from .aggregates import ACTIVE_DAYS, Aggregate
from .base import Asks, Series, actor_of, both, event_scope, filters, in_range, periods_of, refuse, series_of
from .breakdowns import ALL_USERS, OTHER, Breakdown, breakdown_of
from .trends import CUMULATIVE, TOTAL_DISPLAYS, lines_of

__all__ = ["Source", "source_of"]

MAX_EVENTS = 100
"""Most distinct ids of an actor that are listed."""


@dataclass(frozen=True)
class Source:
    """Where the actors of a list come from.

    Attributes:
        query: HogQL with a column ``actor_id``.
        columns: Its other columns.
        group_type_index: Which groups the actors are; None for persons.
        is_trend: Whether they are those of a trend, whose list has more columns by itself.
    """

    query: Condition
    columns: tuple[str, ...] = ()
    group_type_index: int | None = None
    is_trend: bool = False


def source_of(node: Mapping[str, Any], asks: Asks, names: Names) -> Source:
    """Return the source of an ActorsQuery's ``source``.

    Raises:
        ApiError: 400, it asks for something that is not served.
        HogQLError: An expression or filter in it cannot be answered.
    """
    if node["kind"] == "HogQLQuery":
        return _hogql(node)
    refuse(node, "includeRecordings")
    insight = node["source"]
    if node["kind"] == "StickinessActorsQuery" or insight["kind"] == "StickinessQuery":
        return _stickiness(node, asks, names)
    if node["kind"] == "FunnelsActorsQuery":
        return _funnel(node, asks, names)
    if insight["kind"] == "TrendsQuery":
        return _trend(node, asks, names)
    if insight["kind"] == "RetentionQuery":
        return _retention(node, asks, names)
    if insight["kind"] == "LifecycleQuery":
        return _lifecycle(node, asks, names)
    raise errors.validation(f"The embedded server does not have {node['kind']} of a {insight['kind']}.")


def _group(actor: str) -> int | None:
    return int(actor.removeprefix("$group_")) if actor.startswith("$group_") else None


# -------------------------------------------------------------------------------------------------------- HogQL


def _hogql(node: Mapping[str, Any]) -> Source:
    """The actors that a query of the caller's selects: by ``actor_id`` or ``person_id``, else by its first id."""
    refuse(node, "filters", "variables")
    text = node["query"].strip().removesuffix(";")
    tree = parse_select(text)
    while tree["node"] == "SelectSetQuery":
        tree = tree["initial_select_query"]
    if tree["node"] != "SelectQuery":
        raise errors.validation("Source query must be a SELECT.")
    named = [name for column in tree["select"] if (name := _name(column))]
    for name in ("group_key", "actor_id", "person_id"):
        if name in named:
            break
    else:
        name = next((name for name in named if "id" in name.lower()), "")
    if not name:
        raise errors.validation("Source query must have an id column")
    others = tuple(other for other in named if other != name and other not in _PERSON_COLUMNS)
    shown = "".join(f", {hogql_name(other)}" for other in others)
    query = f"SELECT {hogql_name(name)} AS actor_id{shown} FROM ({text}\n)"
    return Source(Condition(query, dict(node.get("values") or {})), others)


_PERSON_COLUMNS = ("id", "created_at", "properties", "is_identified", "pdi")


def _name(column: Node) -> str:
    if column["node"] == "Alias":
        return str(column["alias"])
    return str(column["chain"][-1]) if column["node"] == "Field" else ""


# -------------------------------------------------------------------------------------------------------- trends


def _trend(node: Mapping[str, Any], asks: Asks, names: Names) -> Source:
    query = node["source"]
    refuse(node, "status")
    refuse(query, "samplingFactor", "conversionGoal")
    scope = event_scope(asks, names)
    series = _series(node, series_of(query["series"], asks, scope))
    period = _period(node, query, asks)
    matching = both(filters(query, scope), _broken_down(node, query, series, period, asks, names))
    actor = actor_of(query)
    if series.math == "unique_group":
        actor = actor_of({"aggregation_group_type_index": series.node.get("math_group_type_index")})
    first, last = _moments(node, query, period, asks, ACTIVE_DAYS.get(series.math, 0))
    if series.math.startswith("first_"):
        firsts = _firsts(series, matching, actor)
        within = in_range(first, last, names, "first")
        chosen = Condition(
            f"SELECT actor AS actor_id, 1 AS event_count FROM ({firsts.hogql}) WHERE passes AND {within.hogql}",
            {**firsts.values, **within.values},
        )
        return Source(chosen, ("event_count",), _group(actor))
    where = both(in_range(first, last, names), series.condition, matching)
    return Source(
        Condition(
            f"SELECT {actor} AS actor_id, count() AS event_count, "
            f"arraySlice(arraySort(groupUniqArray(distinct_id)), 1, {MAX_EVENTS}) AS event_distinct_ids "
            f"FROM events WHERE {where.hogql} GROUP BY actor_id HAVING notEmpty(toString(actor_id))",
            where.values,
        ),
        ("event_count", "event_distinct_ids"),
        _group(actor),
        is_trend=True,
    )


def _series(node: Mapping[str, Any], series: Sequence[Series]) -> Series:
    index = node.get("series") or 0
    if not 0 <= index < len(series):
        raise errors.validation(f"The query has no series {index}, only {len(series)}.")
    return series[index]


def _period(node: Mapping[str, Any], query: Mapping[str, Any], asks: Asks) -> DateRange:
    """The range of the query, or the one that it is compared with."""
    current, *previous = periods_of(query, asks)
    if node.get("compare") != "previous":
        return current
    if not previous:
        raise errors.validation("The query compares with nothing: its compareFilter is off.")
    return previous[0]


def _moments(
    node: Mapping[str, Any], query: Mapping[str, Any], period: DateRange, asks: Asks, window: int
) -> tuple[datetime, datetime]:
    """The first and last moment of the events behind a point, or of the whole range without one.

    `window` is the number of days that active users are counted over, 0 for none.
    """
    begin = period.first_counted
    if node.get("day") is None:
        return begin, period.date_to
    start = floor(_day(node, asks), period.interval, period.week_start)
    last = min(add(start, 1, period.interval) - timedelta(microseconds=1), period.date_to)
    if window:
        # The window ends with the first day of the interval, as in the numbers themselves.
        last = min(last, add(floor(start, "day"), 1, "day") - timedelta(microseconds=1))
        return add(floor(start, "day"), 1 - window, "day"), last
    if (query.get("trendsFilter") or {}).get("display") == CUMULATIVE:
        return begin, last
    return max(start, begin), last


def _day(node: Mapping[str, Any], asks: Asks) -> datetime:
    if not isinstance(node["day"], str):
        raise errors.validation(f"day must be a date, got {node['day']}.")
    try:
        return parse_date(node["day"], asks.now)
    except ValueError as error:
        raise errors.validation(str(error)) from None


def _firsts(series: Series, matching: Condition, actor: str) -> Condition:
    """Every actor's first event, as the numbers count it: columns ``actor``, ``first`` and ``passes``."""
    passing = both(series.narrowed, matching)
    is_matching = series.math == "first_matching_event_for_user"
    among = both(series.happened, passing if is_matching else TRUE)
    passes = TRUE if is_matching else passing
    return Condition(
        f"SELECT {actor} AS actor, min(timestamp) AS first, argMin({passes.hogql}, timestamp) AS passes "
        f"FROM events WHERE {among.hogql} GROUP BY actor HAVING notEmpty(toString(actor))",
        {**among.values, **passes.values},
    )


def _broken_down(
    node: Mapping[str, Any], query: Mapping[str, Any], series: Series, period: DateRange, asks: Asks, names: Names
) -> Condition:
    """The events of one breakdown value."""
    breakdown, given = breakdown_of(query), node.get("breakdown")
    if not breakdown.is_on or given is None:
        return TRUE
    values = [str(value) for value in (given if isinstance(given, list) else [given])]
    if breakdown.cohorts:
        return TRUE if values == [ALL_USERS] else Condition(f"person_id IN COHORT {_number(values[0])}")
    if len(values) != len(breakdown.cuts):
        raise errors.validation(f"breakdown needs {len(breakdown.cuts)} values, got {len(values)}.")
    if any(cut.bins for cut in breakdown.cuts):
        raise errors.validation("The embedded server does not have the actors of a breakdown with bins.")
    shown, name = breakdown.hogql(), names()
    if OTHER not in values:
        return Condition(f"{shown.hogql} = {{{name}}}", {**shown.values, name: values})
    top = _top(query, series, period, breakdown, asks, names)
    return Condition(f"{shown.hogql} NOT IN {{{name}}}", {**shown.values, name: [list(value) for value in top]})


def _number(text: str) -> int:
    if not text.isdigit():
        raise errors.validation(f"The breakdown value of a cohort is its id, not {text}.")
    return int(text)


def _top(
    query: Mapping[str, Any], series: Series, period: DateRange, breakdown: Breakdown, asks: Asks, names: Names
) -> list[tuple[str, ...]]:
    """The breakdown values that have a line of their own."""
    matching = filters(query, event_scope(asks, names))
    aggregate = Aggregate(series, period, matching, breakdown.hogql(), True, False, actor_of(query))
    is_total = (query.get("trendsFilter") or {}).get("display") in TOTAL_DISPLAYS
    lines = lines_of(aggregate, asks, names, breakdown, missing_last=not is_total)
    return [value for value in lines if OTHER not in value]


# ------------------------------------------------------------------------- funnels, retention, stickiness, lifecycle


def _funnel(node: Mapping[str, Any], asks: Asks, names: Names) -> Source:
    refuse(node, "funnelTrendsDropOff", "funnelTrendsEntrancePeriodStart")
    step = node.get("funnelStep")
    if step is None:
        raise errors.validation("funnelStep is needed: the step whose people are meant.")
    query = node["source"]
    people = funnels.actors(query, asks, step, node.get("funnelStepBreakdown"), names)
    return Source(people, (), query.get("aggregation_group_type_index"))


def _retention(node: Mapping[str, Any], asks: Asks, names: Names) -> Source:
    refuse(node, "series", "compare", "status", "day")
    if node.get("interval") is None:
        raise errors.validation("interval is needed: the row of the table whose people are meant.")
    query = node["source"]
    people = retention.actors(query, asks, node["interval"], node.get("breakdown"), names)
    return Source(people, ("appearances",), query.get("aggregation_group_type_index"))


def _stickiness(node: Mapping[str, Any], asks: Asks, names: Names) -> Source:
    query = node["source"]
    refuse(node, "breakdown", "status", "interval")
    scope = event_scope(asks, names)
    series = _series(node, series_of(query["series"], asks, scope))
    period = _period(node, query, asks)
    inner = stickiness.actors(series, query, period, filters(query, scope), names)
    day = node.get("day")
    if not isinstance(day, int):
        raise errors.validation("day must be the number of intervals.")
    operator = {"gte": ">=", "lte": "<=", "exact": "="}[node.get("operator") or "exact"]
    return Source(
        Condition(
            f"SELECT actor AS actor_id, intervals AS event_count FROM ({inner.hogql}) "
            f"WHERE intervals {operator} {day:d}",
            inner.values,
        ),
        ("event_count",),
        query.get("aggregation_group_type_index"),
    )


def _lifecycle(node: Mapping[str, Any], asks: Asks, names: Names) -> Source:
    query = node["source"]
    refuse(node, "breakdown", "compare", "interval")
    status = node.get("status")
    if status not in lifecycle.STATUSES:
        raise errors.validation(f"status must be one of {', '.join(lifecycle.STATUSES)}.")
    scope = event_scope(asks, names)
    series = _series(node, series_of(query["series"], asks, scope))
    period = _period(node, query, asks)
    inner = lifecycle.changes(series, query, period, filters(query, scope), names)
    if node.get("day") is None:
        raise errors.validation("day is needed: the interval whose people are meant.")
    start = floor(_day(node, asks), period.interval, period.week_start)
    if start not in (buckets := period.buckets()):
        raise errors.validation(f"{start.date()} is not in the range of the query.")
    name = names()
    return Source(
        Condition(
            f"SELECT actor AS actor_id FROM ({inner.hogql}) WHERE change.1 = {buckets.index(start) + 2} "
            f"AND change.2 = {{{name}}}",
            {**inner.values, name: status},
        ),
        (),
        query.get("aggregation_group_type_index"),
    )
