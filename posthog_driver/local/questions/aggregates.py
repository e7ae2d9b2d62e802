"""How the events of a series become numbers: PostHog's ``math``, for each interval or for the whole range.

Every aggregate is a HogQL query with the columns ``bucket``, ``breakdown`` and ``total``. Without a breakdown that
column is a constant, and for one number over the whole range ``bucket`` is. Sources:
``posthog/hogql_queries/insights/trends/aggregation_operations.py`` and ``insights/utils/aggregations.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from .. import errors
from ..dates import TIMES_OF_DAY, DateRange, add
from ..parser import parse_expression
from ..property_filters import TRUE, Condition, Names
from ..schema import hogql_name
from .base import Series, both, in_range

__all__ = ["Aggregate", "bucket", "bucket_key"]

ACTIVE_DAYS = {"weekly_active": 7, "monthly_active": 30}
"""Days in the window of the active users of a day, that day included."""

_QUANTILES = {"median": 0.5, "p75": 0.75, "p90": 0.9, "p95": 0.95, "p99": 0.99}
_PROPERTY_MATHS = ("avg", "sum", "min", "max", *_QUANTILES)
_FIRST_MATHS = ("first_time_for_user", "first_matching_event_for_user")
_PER_ACTOR = "_count_per_actor"
_OF_ACTORS = ("dau", "weekly_active", "monthly_active", "unique_group")


def bucket(interval: str, column: str = "timestamp") -> str:
    """Return the HogQL of the interval that a time lies in: a date as text, for hours and minutes Unix seconds."""
    if interval in TIMES_OF_DAY:
        return f"toUnixTimestamp(toStartOf{interval.title()}({column}))"
    start = {"day": "toDate({})", "week": "toStartOfWeek({})", "month": "toStartOfMonth({})"}[interval]
    return f"toString({start.format(column)})"


def bucket_key(moment: Any, interval: str) -> Any:
    """Return what `bucket` gives for the start of an interval."""
    return int(moment.timestamp()) if interval in TIMES_OF_DAY else moment.strftime("%Y-%m-%d")


@dataclass(frozen=True)
class Aggregate:
    """One number for each interval and breakdown value of a series.

    Attributes:
        series: Which events, and their ``math``.
        period: The range and its intervals.
        matching: The question's own filters.
        breakdown: HogQL of the breakdown value of an event.
        is_total: One number for the whole range instead of one for each interval.
        is_cumulative: Numbers are added up, so nobody may be counted in two intervals.
        people: HogQL of who is counted as one, for a series that does not say.
    """

    series: Series
    period: DateRange
    matching: Condition
    breakdown: Condition
    is_total: bool
    is_cumulative: bool
    people: str = "person_id"

    @property
    def actor(self) -> str:
        """HogQL of who is counted as one: the group of a series that counts groups."""
        is_of_groups = self.series.node.get("math_group_type_index") is not None and self.math in _OF_ACTORS
        return self._group() if is_of_groups or self.math == "unique_group" else self.people

    @property
    def math(self) -> str:
        """The way of counting; active users of an interval as long as their window are the users of the interval."""
        math, interval = self.series.math, self.period.interval
        if (math, interval) in (("weekly_active", "week"), ("weekly_active", "month"), ("monthly_active", "month")):
            return "dau"
        return math

    def hogql(self, names: Names) -> Condition:
        """Return the query and its values.

        Raises:
            ApiError: 400, a ``math`` that is not served, or one that lacks its property.
        """
        if self.math in ACTIVE_DAYS:
            return self._active(ACTIVE_DAYS[self.math], names)
        if self.math in _FIRST_MATHS:
            return self._first(names)
        if self.math.endswith(_PER_ACTOR):
            return self._per_actor(names)
        if self.is_cumulative and not self.is_total and self.math in ("dau", "unique_group"):
            return self._once(names)
        if self.math in _PROPERTY_MATHS and self.series.node.get("math_property") == "$session_duration":
            return self._sessions(names)
        where = self.where(names)
        total = self._total()
        return Condition(
            f"SELECT {self._bucket()} AS bucket, {self.breakdown.hogql} AS breakdown, {total} AS total "
            f"FROM events WHERE {where.hogql} GROUP BY bucket, breakdown",
            {**self.breakdown.values, **where.values},
        )

    # ----------------------------------------------------------------------------------------------------- the numbers

    def _total(self) -> str:
        math, node = self.math, self.series.node
        if math == "total":
            return "count()"
        if math in ("dau", "unique_group"):
            return f"count(DISTINCT {self.actor})"
        if math == "unique_session":
            return "uniqExactIf($session_id, notEmpty($session_id))"
        if math == "hogql":
            if not node.get("math_hogql"):
                raise errors.validation("A series with math hogql needs math_hogql.")
            parse_expression(node["math_hogql"])
            return f"({node['math_hogql']}\n)"
        if math in _PROPERTY_MATHS:
            return f"ifNull({_function(math)}({self._number()}), 0)"
        raise errors.validation(f"The embedded server does not have math {math}.")

    def _number(self) -> str:
        node = self.series.node
        key, kind = node.get("math_property"), node.get("math_property_type") or "event_properties"
        if not key:
            raise errors.validation(f"A series with math {self.math} needs math_property.")
        if node.get("math_property_revenue_currency"):
            raise errors.validation("The embedded server does not have math_property_revenue_currency.")
        owners = {"person_properties": "person.properties", "session_properties": "session"}
        if kind in ("data_warehouse_properties", "data_warehouse_person_properties"):
            raise errors.validation(f"The embedded server does not have math_property_type {kind}.")
        if key == "$time":
            number = "toUnixTimestamp(toDateTime(toString(properties.$time)))"
        else:
            owner = "session" if key == "$session_duration" else owners.get(kind, "properties")
            number = f"toFloat({owner}.{hogql_name(key)})"
        multiplier = node.get("math_multiplier")
        return number if multiplier is None else f"{number} * {float(multiplier)!r}"

    def _group(self) -> str:
        index = self.series.node.get("math_group_type_index")
        if not isinstance(index, (int, float)) or index not in range(5):
            raise errors.validation(f"A series with math {self.math} needs math_group_type_index, 0 to 4.")
        return f"$group_{int(index)}"

    # ---------------------------------------------------------------------------------------------------- the queries

    def _bucket(self, column: str = "timestamp") -> str:
        return "''" if self.is_total else bucket(self.period.interval, column)

    def _range(self, names: Names, first: datetime | None = None, column: str = "timestamp") -> Condition:
        return in_range(first or self.period.first_counted, self.period.date_to, names, column)

    def where(self, names: Names, first: datetime | None = None) -> Condition:
        """Return which events are counted: those of the range, or from another first moment on."""
        return both(self._range(names, first), self.series.condition, self.matching, self._somebody())

    def _somebody(self) -> Condition:
        """Events of no group do not count where groups are counted."""
        return TRUE if self.actor == "person_id" else Condition(f"notEmpty({self.actor})")

    def _sessions(self, names: Names) -> Condition:
        """Each session once, whatever the number of its events: the average ... of their durations."""
        where = self.where(names)
        return Condition(
            f"SELECT bucket, breakdown, ifNull({_function(self.math)}(duration), 0) AS total FROM (SELECT "
            f"any({self._number()}) AS duration, {self._bucket()} AS bucket, {self.breakdown.hogql} AS breakdown "
            f"FROM events WHERE {where.hogql} GROUP BY $session_id, bucket, breakdown) GROUP BY bucket, breakdown",
            {**self.breakdown.values, **where.values},
        )

    def _per_actor(self, names: Names) -> Condition:
        """Events of each actor first, then their average, median ... over the actors."""
        function = self.math.removesuffix(_PER_ACTOR)
        if function not in _PROPERTY_MATHS or function == "sum":
            raise errors.validation(f"The embedded server does not have math {self.math}.")
        where = self.where(names, self.period.date_from)
        return Condition(
            f"SELECT bucket, breakdown, ifNull({_function(function)}(n), 0) AS total FROM (SELECT {self._bucket()} AS "
            f"bucket, {self.breakdown.hogql} AS breakdown, {self.actor} AS actor, count() AS n FROM events "
            f"WHERE {where.hogql} GROUP BY bucket, breakdown, actor) GROUP BY bucket, breakdown",
            {**self.breakdown.values, **where.values},
        )

    def _once(self, names: Names) -> Condition:
        """Each actor in the interval of their first event in the range."""
        where = self.where(names)
        return Condition(
            f"SELECT bucket, breakdown, count() AS total FROM (SELECT {self.actor} AS actor, {self.breakdown.hogql} AS "
            f"breakdown, {self._bucket('min(timestamp)')} AS bucket FROM events WHERE {where.hogql} "
            f"GROUP BY actor, breakdown) GROUP BY bucket, breakdown",
            {**self.breakdown.values, **where.values},
        )

    def _active(self, days: int, names: Names) -> Condition:
        """Actors with an event in the interval's first day, or on one of the days before it that the window holds.

        By hours and minutes the window ends with them. One number for the whole range is that of its last days.
        """
        if self.is_total:
            where = self.where(names, add(self.period.date_to, -days, "day") + timedelta(microseconds=1))
            return Condition(
                f"SELECT '' AS bucket, {self.breakdown.hogql} AS breakdown, count(DISTINCT {self.actor}) AS total "
                f"FROM events WHERE {where.hogql} GROUP BY breakdown",
                {**self.breakdown.values, **where.values},
            )
        is_short = self.period.interval in TIMES_OF_DAY
        active = bucket(self.period.interval) if is_short else "toDate(timestamp)"
        age = "start - active" if is_short else "dateDiff('day', active, toDate(start))"
        oldest = days * 86_400 - 1 if is_short else days - 1
        starts, where = names(), self.where(names, add(self.period.first_counted, -days, "day"))
        window = f"arrayFilter(start -> {age} BETWEEN 0 AND {oldest}, {{{starts}}})"
        keys = [bucket_key(start, self.period.interval) for start in self.period.buckets()]
        return Condition(
            f"SELECT bucket, breakdown, count(DISTINCT actor) AS total FROM (SELECT arrayJoin({window}) AS bucket, "
            f"breakdown, actor FROM (SELECT {active} AS active, {self.breakdown.hogql} AS breakdown, {self.actor} "
            f"AS actor FROM events WHERE {where.hogql} GROUP BY active, breakdown, actor)) GROUP BY bucket, breakdown",
            {**self.breakdown.values, **where.values, starts: keys},
        )

    def _first(self, names: Names) -> Condition:
        """Actors in the interval of the first such event they ever had.

        For ``first_time_for_user`` that is the first of the event at all, which counts if it passes the filters; for
        ``first_matching_event_for_user`` the first that passes them.
        """
        filters = both(self.series.narrowed, self.matching)
        is_matching = self.math == "first_matching_event_for_user"
        among = both(self.series.happened, filters if is_matching else TRUE, self._somebody())
        passes = TRUE if is_matching else filters
        within = self._range(names, column="first")
        firsts = (
            f"SELECT {self.actor} AS actor, min(timestamp) AS first, argMin({passes.hogql}, timestamp) AS passes, "
            f"argMin({self.breakdown.hogql}, timestamp) AS breakdown FROM events WHERE {among.hogql} GROUP BY actor"
        )
        return Condition(
            f"SELECT {self._bucket('first')} AS bucket, breakdown, count() AS total FROM ({firsts}) "
            f"WHERE passes AND {within.hogql} GROUP BY bucket, breakdown",
            {**self.breakdown.values, **among.values, **passes.values, **within.values},
        )


def _function(math: str) -> str:
    return f"quantile({_QUANTILES[math]})" if math in _QUANTILES else math
