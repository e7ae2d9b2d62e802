"""RetentionQuery: who comes back, how many intervals later.

Source of shapes, orders and rules: ``posthog/hogql_queries/insights/retention_query_runner.py``. For each actor, the
intervals with the target event and those with the returning event are collected, and each pair of them is a cell.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from .. import errors
from ..dates import DateRange, add, floor, last_moment, parse_date
from ..property_filters import Condition, Names, joined
from .aggregates import bucket, bucket_key
from .base import (
    Asks,
    Series,
    actor_of,
    both,
    date_range,
    event_scope,
    filters,
    in_range,
    refuse,
    resolved,
    series_of,
)
from .breakdowns import ALL_USERS, OTHER, Breakdown, breakdown_of

__all__ = ["Retention", "actors", "answer"]

DEFAULT_INTERVALS = 7
"""Intervals of a table, if the query does not say."""

MAX_INTERVALS = 1_000
"""Most intervals that a table looks ahead."""

MAX_ROWS = 1_000
"""Most intervals that a table begins in."""

ALL_USERS_COHORT = "0"
"""PostHog's id for everybody as a breakdown value."""

_ENTITY = {"id": "$pageview", "type": "events"}
_FIRST_EVER = "retention_first_ever_occurrence"


def answer(query: Mapping[str, Any], asks: Asks) -> dict[str, Any]:
    """Answer a RetentionQuery.

    Raises:
        ApiError: 400, it asks for something that is not served, or that cannot be.
        HogQLError: An expression or filter in it cannot be answered.
    """
    retention = Retention(query, asks)
    tables = _tables(retention)
    return {
        "results": [row for value, table in tables for row in _rows(retention, table, value)],
        "resolved_date_range": resolved(retention.period),
    }


def actors(
    query: Mapping[str, Any], asks: Asks, interval: int, value: Any = None, names: Names | None = None
) -> Condition:
    """Return HogQL of the actors who began in an interval, with ``actor_id`` and ``appearances``.

    Args:
        query: A RetentionQuery.
        asks: What it knows and may do.
        interval: The row of the table, from 0.
        value: The breakdown value; None for all of them.
        names: Where placeholders of the whole query come from.

    Returns:
        ``appearances`` are the intervals after the first (0) in which the actor came, in their order.

    Raises:
        ApiError: 400, there is no such interval.
    """
    retention = Retention(query, asks, names)
    if not 0 <= interval < len(retention.starts):
        raise errors.validation(f"interval is 0 to {len(retention.starts) - 1}.")
    cohort = next((one for one in retention.breakdown.cohorts if str(one) == str(value)), None)
    cells = retention.cells(ALL_USERS if cohort is None and retention.breakdown.cohorts else cohort)
    where = Condition(f"began = {interval}")
    if value is not None and not retention.breakdown.cohorts:
        name = retention.names()
        where = both(where, Condition(f"value = {{{name}}}", {name: str(value)}))
    return Condition(
        f"SELECT actor AS actor_id, arraySort(groupUniqArray(later)) AS appearances FROM ({cells.hogql}) "
        f"WHERE {where.hogql} GROUP BY actor",
        {**cells.values, **where.values},
    )


class Retention:
    """One RetentionQuery, read and checked."""

    def __init__(self, query: Mapping[str, Any], asks: Asks, names: Names | None = None) -> None:
        self.query, self.asks = query, asks
        self.options: Mapping[str, Any] = query.get("retentionFilter") or {}
        refuse(query, "samplingFactor")
        for key in ("aggregationProperty", "customAggregationTarget", "retentionCustomBrackets"):
            refuse({**self.options, "kind": "RetentionQuery"}, key)
        if self.options.get("aggregationType") not in (None, "count"):
            raise errors.validation("The embedded server does not have aggregationType of RetentionQuery.")
        if self.options.get("timeWindowMode") not in (None, "strict_calendar_dates"):
            raise errors.validation("The embedded server does not have timeWindowMode of RetentionQuery.")
        self.names = names or Names()
        self.kind = self.options.get("retentionType") or "retention_recurring"
        self.unit = (self.options.get("period") or "Day").lower()
        self.scope = event_scope(asks, self.names)
        self.target = self._entity("targetEntity")
        self.returning = self._entity("returningEntity")
        self.matching = filters(query, self.scope)
        self.breakdown: Breakdown = breakdown_of(query)
        if len(self.breakdown.cuts) > 1 or any(cut.bins for cut in self.breakdown.cuts):
            raise errors.validation("The embedded server has one breakdown of RetentionQuery, and no bins of it.")
        self.actor = actor_of(query)
        self.lookahead = int(self.options.get("totalIntervals") or DEFAULT_INTERVALS)
        if not 1 <= self.lookahead <= MAX_INTERVALS:
            raise errors.validation(f"totalIntervals is 1 to {MAX_INTERVALS}.")
        self.period = self._period()
        self.starts = self.period.buckets()
        if len(self.starts) > MAX_ROWS:
            raise errors.validation(f"The range has more than {MAX_ROWS} intervals of a {self.unit}.")

    def _entity(self, key: str) -> Series:
        entity = self.options.get(key) or _ENTITY
        node: dict[str, Any] = {"properties": entity.get("properties")}
        kind = entity.get("type") or ("actions" if entity.get("kind") == "ActionsNode" else "events")
        if kind == "actions":
            node |= {"kind": "ActionsNode", "id": _number(entity.get("id"))}
        elif kind == "events":
            node |= {"kind": "EventsNode", "event": entity.get("id")}
        else:
            raise errors.validation(f"The embedded server does not have the type {kind} of {key} of RetentionQuery.")
        return series_of([node], self.asks, self.scope)[0]

    def _period(self) -> DateRange:
        """The intervals that the table begins in, whole ones; without ``date_from`` as many as it looks ahead."""
        now, week_start = self.asks.now, self.asks.catalog.week_start
        given = self.query.get("dateRange") or {}
        if given.get("date_from"):
            ranged = date_range({**self.query, "interval": self.unit}, self.asks)
            first, last = floor(ranged.date_from, self.unit, week_start), ranged.date_to
        else:
            try:
                last = parse_date(given["date_to"], now, end_of_day=True) if given.get("date_to") else now
                first = add(floor(last, self.unit, week_start), 1 - self.lookahead, self.unit)
            except ValueError as error:
                raise errors.validation(str(error)) from None
        return DateRange(first, last_moment(last, self.unit, week_start), self.unit, week_start)

    # ------------------------------------------------------------------------------------------------------- the cells

    def cells(self, cohort: int | str | None = None) -> Condition:
        """Return HogQL with ``actor, value, began, later``: the interval in which an actor began, and those after it.

        ``later`` is 0 for the first one itself, in which only the target event counts.
        """
        rows, starts = self._buckets(cohort), self.names()
        least = int(self.options.get("minimumOccurrences") or 1)
        begun = "groupArrayIf(place, place >= 0 AND targets > 0)"
        if self.kind != "retention_recurring":
            counts = "countIf(targets > 0) > 0"
            if self.kind == _FIRST_EVER:
                counts += " AND minIf(first_named, named > 0) = minIf(first_target, targets > 0)"
            begun = f"if({counts}, arrayFilter(place -> place >= 0, [argMinIf(place, bucket, targets > 0)]), [])"
        shown = "range(0, arrayMax(reached) + 1)" if self.options.get("cumulative") else "reached"
        return Condition(
            f"WITH buckets AS ({rows.hogql}), "
            f"places AS (SELECT *, indexOf({{{starts}}}, bucket) - 1 AS place FROM buckets), "
            "actors AS (SELECT actor, argMin(earliest.1, (earliest.2, earliest.3)) AS value, "
            f"groupArrayIf(place, place >= 0 AND returns >= {least}) AS came, {begun} AS begun "
            "FROM places GROUP BY actor), "
            "each AS (SELECT actor, value, came, arrayJoin(begun) AS began FROM actors), "
            "gaps AS (SELECT actor, value, began, arrayMap(place -> place - began, came) AS gap FROM each), "
            "walks AS (SELECT actor, value, began, "
            f"arrayPushFront(arrayFilter(g -> g > 0 AND g < {self.lookahead}, gap), 0) AS reached FROM gaps) "
            f"SELECT actor, value, began, arrayJoin({shown}) AS later FROM walks",
            {**rows.values, starts: [bucket_key(start, self.unit) for start in self.starts]},
        )

    def _buckets(self, cohort: int | str | None) -> Condition:
        """HogQL of how often an actor did what in an interval, and when first, with the breakdown value of then."""
        where = [self.matching, Condition("true" if self.actor == "person_id" else f"{self.actor} != ''")]
        if self.kind == "retention_recurring":
            where.append(in_range(self.period.date_from, self.period.date_to, self.names))
        if isinstance(cohort, int):
            where.append(Condition(f"person_id IN COHORT {cohort}"))
        named = self.target.happened if self.kind == _FIRST_EVER else self.target.condition
        condition = both(*where, joined([named, self.returning.condition], "OR"))
        cut = self.breakdown.cuts[0] if self.breakdown.cuts else None
        own = f"ifNull(toString({cut.hogql()}), '')" if cut else "''"
        events = (
            f"SELECT {self.actor} AS actor, timestamp AS at, toString(uuid) AS id, {own} AS own, "
            f"{bucket(self.unit)} AS bucket, {named.hogql} AS is_named, {self.target.condition.hogql} AS is_target, "
            f"{self.returning.condition.hogql} AS is_return FROM events WHERE {condition.hogql}"
        )
        used = both(condition, self.target.condition)
        return Condition(
            "SELECT actor, bucket, argMin((own, at, id), (at, id)) AS earliest, countIf(is_target) AS targets, "
            "countIf(is_named) AS named, countIf(is_return) AS returns, minIf(at, is_target) AS first_target, "
            f"minIf(at, is_named) AS first_named FROM ({events}) GROUP BY actor, bucket",
            used.values,
        )


# ------------------------------------------------------------------------------------------------------------ the table

Table = Mapping[tuple[int, int], int]


def _tables(retention: Retention) -> list[tuple[str | None, Table]]:
    """Return the tables of all breakdown values, largest first, and that of what is beyond the limit."""
    breakdown = retention.breakdown
    found: dict[str, Counter[tuple[int, int]]] = {}
    for cohort in breakdown.cohorts or (None,):
        cells = retention.cells(cohort)
        asked = f"SELECT value, began, later, count(DISTINCT actor) FROM ({cells.hogql}) GROUP BY value, began, later"
        for value, began, later, count in retention.asks.ask(asked, cells).rows:
            key = value if cohort is None else ALL_USERS_COHORT if cohort == ALL_USERS else str(cohort)
            found.setdefault(key, Counter())[began, later] += count
    if not breakdown.is_on:
        return [(None, found.get("", Counter()))]
    sizes = {value: sum(n for (_, later), n in table.items() if later == 0) for value, table in found.items()}
    ranked = sorted(found, key=lambda value: (-sizes[value], value))
    shown: list[tuple[str | None, Table]] = [(value, found[value]) for value in ranked[: breakdown.limit]]
    rest: Counter[tuple[int, int]] = Counter()
    for value in ranked[breakdown.limit :]:
        rest.update(found[value])
    return [*shown, (OTHER, rest)] if rest else shown


def _rows(retention: Retention, table: Table, value: str | None) -> list[dict[str, Any]]:
    name = retention.unit.title()
    return [
        {
            "values": [
                {"count": table.get((began, later), 0), "label": f"{name} {later}"}
                for later in range(retention.lookahead)
            ],
            "label": f"{name} {began}",
            "date": start.isoformat().replace("+00:00", "Z"),
            **({} if value is None else {"breakdown_value": value}),
        }
        for began, start in enumerate(retention.starts)
    ]


def _number(given: Any) -> int:
    """The id of an action, which may come as text."""
    if isinstance(given, bool) or not str(given).isdigit():
        raise errors.validation(f"Action ID {given} does not exist!")
    return int(given)
