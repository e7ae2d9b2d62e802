"""TrendsQuery: series of numbers over time, or one number each, with breakdowns, comparison and formulas.

Source of shapes, labels and orders: ``posthog/hogql_queries/insights/trends/trends_query_runner.py``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from .. import errors
from ..dates import DateRange
from ..property_filters import Condition, Names, Scope
from .aggregates import Aggregate, bucket_key
from .base import Asks, Series, actor_of, axis, both, event_scope, filters, periods_of, refuse, resolved, series_of
from .breakdowns import ALL_USERS, NULL, OTHER, Breakdown, Cut, borders_of, breakdown_of
from .formulas import Formula

__all__ = ["TOTAL_DISPLAYS", "Line", "answer", "lines_of"]

TOTAL_DISPLAYS = ("ActionsBarValue", "ActionsPie", "ActionsTable", "BoldNumber", "WorldMap")
"""Displays that show one number for the whole range."""

CUMULATIVE = "ActionsLineGraphCumulative"

_DISPLAYS = (
    *TOTAL_DISPLAYS,
    CUMULATIVE,
    "Auto",
    "ActionsLineGraph",
    "ActionsBar",
    "ActionsUnstackedBar",
    "ActionsAreaGraph",
)


@dataclass(frozen=True)
class Line:
    """One line of the answer: the numbers of a series for one breakdown value.

    Attributes:
        series: The series.
        period: Its range; another one than the query's when it is the one to compare with.
        is_previous: Whether it is that.
        value: The breakdown value, one text for each property; empty without a breakdown.
        numbers: One for each interval; a single one for a display of totals.
    """

    series: Series
    period: DateRange
    is_previous: bool
    value: tuple[str, ...]
    numbers: list[float]


def answer(query: Mapping[str, Any], asks: Asks) -> dict[str, Any]:
    """Answer a TrendsQuery.

    Raises:
        ApiError: 400, it asks for something that is not served.
        HogQLError: An expression or filter in it cannot be answered.
    """
    trends = _Trends(query, asks)
    lines = trends.lines()
    shown = [line for line in lines if not (trends.breakdown.hides_other and OTHER in line.value)]
    formulas = trends.formulas()
    if formulas:
        results = trends.calculated(formulas, shown)
    else:
        results = [{**trends.result(line), "order": line.series.index} for line in shown]
    has_more = any(OTHER in line.value for line in lines)
    return {"results": results, "hasMore": has_more, "resolved_date_range": resolved(trends.periods[0][0])}


class _Trends:
    """One TrendsQuery, read."""

    def __init__(self, query: Mapping[str, Any], asks: Asks) -> None:
        refuse(query, "samplingFactor", "conversionGoal")
        self.query = query
        self.asks = asks
        self.options: Mapping[str, Any] = query.get("trendsFilter") or {}
        self.display = self.options.get("display") or "ActionsLineGraph"
        if self.display not in _DISPLAYS:
            raise errors.validation(f"The embedded server does not have the display {self.display}.")
        self.is_total = self.display in TOTAL_DISPLAYS
        self.names = Names()
        self.scope: Scope = event_scope(asks, self.names)
        self.series = series_of(query["series"], asks, self.scope)
        self.breakdown = breakdown_of(query)
        self.matching = filters(query, self.scope)
        self.actor = actor_of(query)
        dated = {**query, "interval": "day"} if self.is_total else query
        periods = periods_of(dated, asks, to_now=self.display == "BoldNumber")
        self.periods = [(period, index == 1) for index, period in enumerate(periods)]

    # ------------------------------------------------------------------------------------------------------- the lines

    def lines(self) -> list[Line]:
        """Return the lines of all series, those to compare with after the others."""
        return [
            line
            for period, is_previous in self.periods
            for cohort in self.breakdown.cohorts or (None,)
            for series in self.series
            for line in self._lines_of(series, period, is_previous, cohort)
        ]

    def _lines_of(self, series: Series, period: DateRange, is_previous: bool, cohort: int | str | None) -> list[Line]:
        matching = self.matching
        if isinstance(cohort, int):
            matching = both(matching, Condition(f"person_id IN COHORT {cohort}"))
        bins = {cut: self._borders(cut, series, period) for cut in self.breakdown.cuts if cut.bins}
        aggregate = Aggregate(
            series,
            period,
            matching,
            self.breakdown.hogql(bins),
            self.is_total,
            self.display == CUMULATIVE,
            self.actor,
        )
        found = lines_of(aggregate, self.asks, self.names, self.breakdown, missing_last=not self.is_total)
        values = found or ({} if self.breakdown.cuts else {("",): {}})
        lines = [
            Line(
                series,
                period,
                is_previous,
                (str(cohort),) if cohort is not None else value,
                self._numbers(period, numbers),
            )
            for value, numbers in values.items()
        ]
        return sorted(lines, key=lambda line: (_place(line.value), -sum(line.numbers), line.value))

    def _borders(self, cut: Cut, series: Series, period: DateRange) -> list[float]:
        """Borders of the bins, from the smallest number to the largest one; none where there is no number."""
        where = both(Aggregate(series, period, self.matching, Condition(""), True, False).where(self.names))
        number = f"toFloat({cut.hogql()})"
        asked = f"SELECT min({number}), max({number}) FROM events WHERE {where.hogql}"
        ((low, high),) = self.asks.ask(asked, where).rows
        return [] if low is None else borders_of(low, high, cut.bins or 1)

    def _numbers(self, period: DateRange, found: Mapping[Any, float]) -> list[float]:
        if self.is_total:
            return [found.get("", 0)]
        numbers = [found.get(bucket_key(start, period.interval), 0) for start in period.buckets()]
        if self.display == CUMULATIVE:
            return list(accumulate(numbers))
        width = int(self.options.get("smoothingIntervals") or 1)
        return _smoothed(numbers, width) if width > 1 else numbers

    @property
    def _is_compared(self) -> bool:
        return len(self.periods) > 1

    # ------------------------------------------------------------------------------------------------------- the shape

    def result(self, line: Line) -> dict[str, Any]:
        """Return PostHog's object of a line."""
        days = [start.isoformat() for start in self.periods[0][0].buckets()]
        result = {**self._shape(line), "label": line.series.name, "action": {"days": days, **line.series.facts()}}
        if not self.breakdown.is_on:
            return result
        shown = "::".join(map(self._shown, line.value))
        return {**result, "label": f"{line.series.name} - {shown}" if len(self.series) > 1 else shown}

    def _shape(self, line: Line) -> dict[str, Any]:
        """Return what results of lines and of formulas have in common."""
        numbers = line.numbers
        shape: dict[str, Any] = {"filter": self._filter()}
        if self.is_total:
            shape |= {"data": [], "days": [], "count": 0, "aggregated_value": numbers[0]}
        else:
            count = numbers[-1] if self.display == CUMULATIVE else float(sum(numbers))
            shape |= {"data": numbers, **axis(line.period), "count": count}
        if self._is_compared:
            shape |= {"compare": True, "compare_label": "previous" if line.is_previous else "current"}
        if self.breakdown.is_on:
            shape["breakdown_value"] = self._value(line.value)
        return shape

    def _filter(self) -> dict[str, Any]:
        """Return the question as PostHog's older ``filter`` says it."""
        query, dates = self.query, resolved(self.periods[0][0])
        told = {
            "insight": "TRENDS",
            "properties": query.get("properties") or [],
            "filter_test_accounts": bool(query.get("filterTestAccounts")),
            **dates,
            "entity_type": "events",
            "sampling_factor": query.get("samplingFactor"),
            "aggregation_group_type_index": query.get("aggregation_group_type_index"),
            "interval": query.get("interval") or "day",
            **self.options,
            **(query.get("breakdownFilter") or {}),
        }
        return {key: value for key, value in told.items() if value is not None}

    def _value(self, value: tuple[str, ...]) -> Any:
        """Return the breakdown value of a result."""
        if self.breakdown.is_list:
            return list(value)
        return int(value[0]) if self.breakdown.cohorts and value[0] != ALL_USERS else value[0]

    def _shown(self, value: str) -> str:
        if not self.breakdown.cohorts:
            return value
        names = {str(cohort.id): cohort.name for cohort in self.asks.catalog.cohorts}
        return "all users" if value == ALL_USERS else names.get(value, value)

    # ---------------------------------------------------------------------------------------------------- the formulas

    def formulas(self) -> list[tuple[Formula, str | None]]:
        """Return the formulas and their own names."""
        options = self.options
        nodes = options.get("formulaNodes") or [{"formula": text} for text in options.get("formulas") or ()]
        if not nodes and options.get("formula"):
            nodes = [{"formula": options["formula"]}]
        return [(Formula(node["formula"], len(self.series)), node.get("custom_name")) for node in nodes]

    def calculated(self, formulas: Sequence[tuple[Formula, str | None]], lines: list[Line]) -> list[dict[str, Any]]:
        """Return the results of formulas: one for each range and breakdown value, the largest ones first."""
        return [
            {**self._shape(line), **own, "label": name or f"Formula ({formula.text})", "action": None, "order": order}
            for order, (formula, name) in enumerate(formulas)
            for period, is_previous in self.periods
            for line, own in self._calculated(formula, period, is_previous, lines)
        ]

    def _calculated(
        self, formula: Formula, period: DateRange, is_previous: bool, lines: list[Line]
    ) -> list[tuple[Line, dict[str, Any]]]:
        """Return the lines of a formula, and what PostHog's objects say otherwise of them than of a series."""
        found: dict[tuple[str, ...], dict[int, list[float]]] = {}
        for line in lines:
            if line.is_previous == is_previous:
                found.setdefault(line.value, {})[line.series.index] = line.numbers
        nothing = [0.0] * (1 if self.is_total else len(period.buckets()))
        made = []
        for value, own in found.items():
            columns = [own.get(series.index, nothing) for series in self.series]
            numbers = [float(formula([float(number) for number in row])) for row in zip(*columns, strict=True)]
            made.append(Line(self.series[0], period, is_previous, value, numbers))
        if not self.breakdown.cohorts:
            made.sort(key=lambda line: (_place(line.value), -sum(line.numbers), line.value))
        return [(line, {"data": None} if self.is_total else {"count": float(sum(line.numbers))}) for line in made]


def lines_of(
    aggregate: Aggregate, asks: Asks, names: Names, breakdown: Breakdown, *, missing_last: bool
) -> dict[tuple[str, ...], dict[Any, float]]:
    """Return the numbers of an aggregate by breakdown value and interval.

    The largest breakdown values come first, missing ones after those, and what is beyond the limit, added up, last;
    without `missing_last` a missing value has the place of its number, as PostHog's displays of totals have it.
    """
    inner = aggregate.hogql(names)
    if not breakdown.cuts:
        return _collected(asks.ask(f"SELECT bucket, breakdown, total FROM ({inner.hogql})", inner).rows)
    null = "has(breakdown, {missing}), " if missing_last else ""
    ranked = asks.ask(
        f"SELECT breakdown FROM ({inner.hogql}) GROUP BY breakdown "
        f"ORDER BY {null}sum(total) DESC, breakdown LIMIT {breakdown.limit + 1}",
        inner,
        values={"missing": NULL} if missing_last else {},
    ).rows
    top = [row[0] for row in ranked[: breakdown.limit]]
    if len(ranked) <= breakdown.limit:
        rows = asks.ask(f"SELECT bucket, breakdown, total FROM ({inner.hogql})", inner).rows
    else:
        rows = asks.ask(
            f"SELECT bucket, if(breakdown IN {{top}}, breakdown, {{rest}}) AS shown, sum(total) FROM ({inner.hogql}) "
            "GROUP BY bucket, shown",
            inner,
            values={"top": top, "rest": [OTHER] * len(breakdown.cuts)},
        ).rows
    found = _collected(rows)
    return {value: found[value] for value in [*map(tuple, top), (OTHER,) * len(breakdown.cuts)] if value in found}


def _collected(rows: Sequence[Sequence[Any]]) -> dict[tuple[str, ...], dict[Any, float]]:
    found: dict[tuple[str, ...], dict[Any, float]] = {}
    for bucket, value, total in rows:
        found.setdefault(tuple(value), {})[bucket] = total or 0
    return found


def _place(value: tuple[str, ...]) -> int:
    """Where a breakdown value stands: missing ones after the others, and the rest last."""
    return 2 if OTHER in value else 1 if NULL in value else 0


def _smoothed(numbers: Sequence[float], width: int) -> list[float]:
    """The mean of each number and those before it, as far as they are in the range, rounded down as in PostHog."""
    windows = (numbers[max(0, place - width + 1) : place + 1] for place in range(len(numbers)))
    return [float(math.floor(sum(window) / len(window))) for window in windows]
