"""FunnelsQuery: how many get how far, and how long they take.

Source of shapes, orders and refusals: ``posthog/hogql_queries/insights/funnels`` (``base.py``, ``funnel_udf.py``,
``funnel_trends.py``, ``funnel_time_to_convert_udf.py``, ``funnel_validation_rules.py``).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from statistics import mean, median
from typing import Any

from .. import errors
from ..parser import parse_expression
from ..property_filters import TRUE, Condition, Names, joined
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
from .breakdowns import ALL_USERS, Breakdown, breakdown_of
from .funnel_walks import Event, Rules, Walked, outcomes, thinned, walked

__all__ = ["Funnel", "actors", "answer"]

Value = tuple[str, ...]
"""A breakdown value: a text for each property."""

MICROSECONDS = 1_000_000
"""In a second."""

SHARDS = 1_000
"""Rows that the actors come in."""

MAX_STEPS = 30
"""Most steps of a funnel: what an event is must fit into one number."""

MATHS = ("total", "first_time_for_user", "first_time_for_user_with_filters")
"""Which events of a series are a step: all, or the person's first."""

EMPTY_BIN = 60
"""Seconds in a bin when all times are the same."""

_STEPS = (1 << MAX_STEPS) - 1

ALL_USERS_COHORT = 0
"""PostHog's id for everybody as a breakdown value."""

DEFAULT_WINDOW = 14
"""Days within which a funnel is walked, if the query does not say."""

MAX_BINS, MAX_OWN_BINS = 60, 90
"""Most bins of times to convert: found by itself, and asked for."""

_SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400, "week": 604_800, "month": 31 * 86_400}
_MOMENT = f"assumeNotNull(_toInt64(round(toFloat(timestamp) * {MICROSECONDS})))"
_NOBODY = "SELECT person_id AS actor_id FROM events WHERE false"
_LIMITED = ("event", "person", "group")


def answer(query: Mapping[str, Any], asks: Asks) -> dict[str, Any]:
    """Answer a FunnelsQuery.

    Raises:
        ApiError: 400, it asks for something that is not served, or that cannot be.
        HogQLError: An expression or filter in it cannot be answered.
    """
    funnel = Funnel(query, asks)
    shapes = {"steps": _steps, "time_to_convert": _times_to_convert, "trends": _trends}
    shape = shapes.get(funnel.display)
    if shape is None:
        raise errors.validation(f"The embedded server does not have the funnelVizType {funnel.display}.")
    return {"results": shape(funnel), "resolved_date_range": resolved(funnel.period)}


def actors(query: Mapping[str, Any], asks: Asks, step: int, value: Any = None, names: Names | None = None) -> Condition:
    """Return HogQL of the actors behind a step, with the column ``actor_id``.

    Args:
        query: A FunnelsQuery.
        asks: What it knows and may do.
        step: Number of the step from 1 for those who reached it; ``-2`` for those who reached the first step and not
            the second.
        value: The breakdown value as the answer has it; None for all of them.
        names: Where placeholders of the whole query come from.

    Raises:
        ApiError: 400, there is no such step.
    """
    funnel = Funnel(query, asks, names)
    count = len(funnel.series)
    if not (1 <= step <= count or -count <= step <= -2):
        raise errors.validation(f"funnelStep is 1 to {count}, or -2 to -{count} for who did not get there.")
    cohorts: Sequence[int | str | None] = funnel.breakdown.cohorts or (None,)
    wanted: Value | None = None
    if funnel.breakdown.cohorts and value is not None:
        cohorts = [cohort for cohort in cohorts if str(cohort) == str(value) or (cohort, value) == (ALL_USERS, 0)]
    elif value is not None:
        wanted = tuple(str(one) for one in (value if isinstance(value, list) else [value]))
    found = {
        actor
        for cohort in cohorts
        for actor, own, walk in funnel.walks(cohort)
        if funnel.is_behind(step, walk) and wanted in (None, own)
    }
    name = funnel.names()
    one = f"arrayJoin({{{name}}})"
    text = f"toUUID({one})" if funnel.has_people else one
    # An array without an element has no type to be joined.
    return Condition(f"SELECT {text} AS actor_id", {name: sorted(found)}) if found else Condition(_NOBODY)


class Funnel:
    """One FunnelsQuery, read and checked."""

    def __init__(self, query: Mapping[str, Any], asks: Asks, names: Names | None = None) -> None:
        self.query, self.asks = query, asks
        self.options: Mapping[str, Any] = query.get("funnelsFilter") or {}
        refuse(query, "samplingFactor")
        refuse({**self.options, "kind": "FunnelsQuery"}, "customAggregationTarget")
        self.order = self.options.get("funnelOrderType") or "ordered"
        self.display = self.options.get("funnelVizType") or "steps"
        self.names = names or Names()
        self.scope = event_scope(asks, self.names)
        self.series = series_of(query["series"], asks, self.scope)
        self.exclusions = self.options.get("exclusions") or []
        self.optional = frozenset(one.index + 1 for one in self.series if one.node.get("optionalInFunnel"))
        _check_steps(self)
        self.matching = filters(query, self.scope)
        self.breakdown: Breakdown = breakdown_of(query)
        if any(cut.bins for cut in self.breakdown.cuts):
            raise errors.validation("The embedded server does not have breakdown_histogram_bin_count of FunnelsQuery.")
        self.attribution = self.options.get("breakdownAttributionType") or "first_touch"
        self.attributed = self._attributed()
        self.period = date_range(query, asks)
        self.window = int(self.options.get("funnelWindowInterval") or DEFAULT_WINDOW)
        self.window *= _SECONDS[self.options.get("funnelWindowIntervalUnit") or "day"]
        self.from_step = int(self.options.get("funnelFromStep") or 0)
        self.to_step = int(self.options.get("funnelToStep") or len(self.series) - 1)

    def _attributed(self) -> int:
        """The step (from 1) whose breakdown value counts."""
        if self.attribution != "step" or not self.breakdown.cuts:
            return 0
        step = int(self.options.get("breakdownAttributionValue") or 0)
        if self.order == "unordered" and step != 0:
            raise errors.validation("Only the first step can be used for breakdown attribution in unordered funnels")
        if not 0 <= step < len(self.series):
            raise errors.validation(f"breakdownAttributionValue is 0 to {len(self.series) - 1}.")
        return step + 1

    def is_behind(self, step: int, walk: Walked) -> bool:
        """Whether a walk took a step; for ``-step`` whether it took the last one needed before it, and not it."""
        if step > 0:
            return step in walk.taken
        before = max(one for one in range(1, -step) if one not in self.optional)
        return before in walk.taken and -step not in walk.taken

    @property
    def is_boxed(self) -> bool:
        """Whether a breakdown value is shown as a list, as it is but for a single property of groups."""
        return self.breakdown.is_list or self.breakdown.cuts[0].kind != "group"

    @property
    def limit(self) -> int | None:
        """How many breakdown values are shown apart from the rest, None for all."""
        return self.breakdown.limit if all(cut.kind in _LIMITED for cut in self.breakdown.cuts) else None

    # ------------------------------------------------------------------------------------------------------ the events

    def walks(self, cohort: int | str | None = None) -> Iterator[tuple[str, Value, Walked]]:
        """Give how far each actor got, if anywhere, for each breakdown value that the actor has."""
        rules = self._rules(len(self.series))
        for actor, events in self._actors(cohort, rules.steps):
            kept = thinned(events)
            for value in self._values(events):
                found = walked(self._own(kept, value), rules, value)
                if found.step:
                    yield actor, value, found

    def entries(self, cohort: int | str | None = None) -> Iterator[tuple[str, Value, Any, int]]:
        """Give for each interval in which an actor began, and each breakdown value, how far the actor got."""
        rules = self._rules(self.to_step + 1)
        for actor, events in self._actors(cohort, rules.steps):
            # Of events at one moment, the earlier steps come first.
            ordered = sorted(events, key=lambda event: event[:3])
            for value in self._values(events):
                for interval, step in outcomes(self._own(ordered, value), rules, value).items():
                    yield actor, value, interval, step

    def _rules(self, steps: int) -> Rules:
        return Rules(steps, self.window * MICROSECONDS, self.order, self.attributed, self.optional)

    def _own(self, events: list[Event], value: Value) -> list[Event]:
        if self.attribution != "all_events" or not self.breakdown.cuts:
            return events
        return [event for event in events if event.value == value]

    def _values(self, events: Sequence[Event]) -> Iterable[Value]:
        """The breakdown values that an actor counts for."""
        if not self.breakdown.cuts:
            return [("",)]
        if self.attribution in ("first_touch", "last_touch"):
            told = [event.value for event in events if any(event.value)]
            place = 0 if self.attribution == "first_touch" else -1
            return [told[place] if told else ("",) * len(self.breakdown.cuts)]
        is_told = self.attributed and self.order != "unordered"
        return dict.fromkeys(event.value for event in events if not is_told or self.attributed in event.steps)

    def _actors(self, cohort: int | str | None, steps: int) -> Iterator[tuple[str, list[Event]]]:
        """Give the actors with their events in order of time; those of one moment in that of their ids."""
        rows = self._rows(cohort, steps)
        # One row holds many actors, as a question may have no more rows than an answer.
        values = "arrayMap(e -> e.4, found)" if self.breakdown.cuts else "[]"
        buckets = "arrayMap(e -> e.5, found)" if self.display == "trends" else "[]"
        asked = (
            "WITH each AS (SELECT actor, arraySort(groupArray((moment, id, mask, own, bucket))) AS found "
            f"FROM ({rows.hogql}) GROUP BY actor) SELECT groupArray((actor, arrayMap(e -> e.1, found), "
            f"arrayMap(e -> e.3, found), {values}, {buckets})) FROM each GROUP BY cityHash64(actor) % {SHARDS}"
        )
        kinds: dict[int, tuple[tuple[int, ...], tuple[int, ...]]] = {}
        for (actors,) in self.asks.ask(asked, rows).rows:
            for actor, moments, masks, owned, intervals in actors:
                for mask in set(masks) - kinds.keys():
                    kinds[mask] = _bits(mask & _STEPS), _bits(mask >> MAX_STEPS)
                told = map(tuple, owned) if owned else repeat(("",))
                yield (
                    actor,
                    [
                        Event(moment, *kinds[mask], value, interval)
                        for moment, mask, value, interval in zip(
                            moments, masks, told, intervals or repeat(None), strict=False
                        )
                    ],
                )

    def _rows(self, cohort: int | str | None, steps: int) -> Condition:
        """HogQL of the events; ``mask`` says what one is: a bit for each step, above those one for each exclusion."""
        happened = [self._happened(series) for series in self.series[:steps]]
        excluded = {step: one for step, one in self._excluded().items() if step <= steps}
        bits = [(one, step - 1) for step, one in enumerate(happened, 1)]
        bits += [(one, step - 1 + MAX_STEPS) for step, one in excluded.items()]
        where = [in_range(self.period.date_from, self.period.date_to, self.names), self.matching, self._somebody()]
        if self.order != "strict":
            where.append(joined([one for one, _ in bits], "OR"))
        if isinstance(cohort, int):
            where.append(Condition(f"person_id IN COHORT {cohort}"))
        condition = both(*where)
        interval = bucket(self.period.interval) if self.display == "trends" else "''"
        used = both(condition, *(one for one, _ in bits))
        return Condition(
            f"SELECT toString({self._actor}) AS actor, {_MOMENT} AS moment, toString(uuid) AS id, "
            f"{self._told()} AS own, "
            f"{' + '.join(f'if({one.hogql}, {1 << bit}, 0)' for one, bit in bits)} AS mask, "
            f"{interval} AS bucket FROM events WHERE {condition.hogql}",
            used.values,
        )

    def _excluded(self) -> dict[int, Condition]:
        """What excludes a walk between a step and the one before it, by the step from 2."""
        found: dict[int, list[Condition]] = {}
        for node, one in zip(self.exclusions, series_of(self.exclusions, self.asks, self.scope), strict=True):
            for step in range(node["funnelFromStep"] + 2, node["funnelToStep"] + 2):
                found.setdefault(step, []).append(self._happened(one))
        return {step: joined(conditions, "OR") for step, conditions in sorted(found.items())}

    def _happened(self, series: Series) -> Condition:
        """Which events are a step; by the maths of first times only the person's first one, if it is in the range.

        That is the first that passes the filters for ``first_time_for_user_with_filters``. For ``first_time_for_user``
        it is the first of the event at all, which has to pass them.
        """
        if series.math == "total":
            return series.condition
        is_filtered = series.math == "first_time_for_user_with_filters"
        among = series.condition if is_filtered else series.happened
        within = in_range(self.period.date_from, self.period.date_to, self.names)
        counts = both(series.condition, within)
        firsts = (
            f"SELECT argMin(uuid, (timestamp, toString(uuid))) AS first, "
            f"argMin({counts.hogql}, (timestamp, toString(uuid))) AS counts FROM events "
            f"WHERE {among.hogql} GROUP BY person_id"
        )
        return Condition(f"uuid IN (SELECT first FROM ({firsts}) WHERE counts)", {**among.values, **counts.values})

    @property
    def _actor(self) -> str:
        expression = self.options.get("funnelAggregateByHogQL")
        if self.query.get("aggregation_group_type_index") is None and expression:
            parse_expression(expression)
            return f"toString({expression}\n)"
        return actor_of(self.query)

    @property
    def has_people(self) -> bool:
        """Whether its actors are persons."""
        return self._actor == "person_id"

    def _somebody(self) -> Condition:
        return TRUE if self.has_people else Condition(f"isNotNull({self._actor}) AND {self._actor} != ''")

    def _told(self) -> str:
        texts = [f"ifNull(toString({cut.hogql()}), '')" for cut in self.breakdown.cuts]
        return f"[{', '.join(texts)}]" if texts else "['']"


def _bits(number: int) -> tuple[int, ...]:
    return tuple(i + 1 for i in range(number.bit_length()) if number >> i & 1)


def _check_steps(funnel: Funnel) -> None:
    """Refuse what PostHog refuses of series, ranges of steps and exclusions, and steps that are not served."""
    series, options = funnel.series, funnel.options
    last = len(series) - 1
    if last < 1:
        raise errors.validation("Funnels require at least two steps.")
    if last >= MAX_STEPS:
        raise errors.validation(f"The embedded server does not have more than {MAX_STEPS} steps of FunnelsQuery.")
    for node in (*(one.node for one in series), *funnel.exclusions):
        if (way := node.get("math") or "total") not in MATHS:
            raise errors.validation(f"The embedded server does not have the math {way} of FunnelsQuery.")
    _check_optional(funnel)
    first, to = options.get("funnelFromStep"), options.get("funnelToStep")
    if first is not None and not 0 <= first <= last - 1:
        raise errors.validation(f"funnelFromStep is out of bounds. It must be between 0 and {last - 1}.")
    if to is not None and not 1 <= to <= last:
        raise errors.validation(f"funnelToStep is out of bounds. It must be between 1 and {last}.")
    if first is not None and to is not None and first >= to:
        raise errors.validation("Funnel step range is invalid. funnelToStep should be greater than funnelFromStep.")
    for exclusion in funnel.exclusions:
        _check_exclusion(exclusion, series, funnel.order)


def _check_optional(funnel: Funnel) -> None:
    if not funnel.optional:
        return
    if funnel.order == "unordered" or funnel.display not in ("steps", "flow"):
        raise errors.validation(
            "Optional funnel steps are only supported in funnels with step order Sequential or Strict and the graph "
            'type "Conversion Steps".'
        )
    if 1 in funnel.optional:
        raise errors.validation("The first step of a funnel cannot be optional.")
    for step in funnel.optional - {len(funnel.series)}:
        one, following = funnel.series[step - 1 : step + 1]
        if step + 1 not in funnel.optional and _contains(following.node, one.node):
            raise errors.validation("An optional step cannot be the same as the following required step.")


def _check_exclusion(exclusion: Mapping[str, Any], series: Sequence[Series], order: str) -> None:
    first, to, last = exclusion["funnelFromStep"], exclusion["funnelToStep"], len(series) - 1
    if order == "unordered" and (first, to) != (0, last):
        raise errors.validation("Partial Exclusions not allowed in unordered funnels")
    invalid = "Exclusion event range is invalid. "
    if first >= to:
        raise errors.validation(f"{invalid}End of range should be greater than start.")
    if first >= last:
        raise errors.validation(f"{invalid}Start of range is greater than number of steps.")
    if to > last:
        raise errors.validation(f"{invalid}End of range is greater than number of steps.")
    if first < 0:
        raise errors.validation(f"{invalid}Start of range is below the first step.")
    if any(_contains(one.node, exclusion) for one in series[first : to + 1]):
        raise errors.validation("Exclusion steps cannot contain an event that's part of funnel steps.")


def _contains(step: Mapping[str, Any], exclusion: Mapping[str, Any]) -> bool:
    """Whether an exclusion is the same event as a step, with the same filters or more of them."""
    same = all(step.get(key) == exclusion.get(key) for key in ("kind", "event", "id"))
    return same and all(one in (exclusion.get("properties") or []) for one in step.get("properties") or [])


# ---------------------------------------------------------------------------------------------------------------- steps


@dataclass
class _Counts:
    """The actors of a breakdown value: how many took each step, and the seconds that each of those lasted.

    As in PostHog seconds are those between steps that are not optional: the n-th of these times stands at step n + 1.
    """

    reached: list[int]
    seconds: list[list[float]]

    @classmethod
    def none(cls, steps: int) -> _Counts:
        return cls([0] * steps, [[] for _ in range(steps)])

    def add(self, walk: Walked) -> None:
        for step in walk.taken:
            self.reached[step - 1] += 1
        for i in range(1, len(walk.times)):
            if (lasted := walk.times[i] - walk.times[i - 1]) > 0:
                self.seconds[i].append(lasted / MICROSECONDS)

    def merge(self, other: _Counts) -> None:
        self.reached = [a + b for a, b in zip(self.reached, other.reached, strict=True)]
        self.seconds = [a + b for a, b in zip(self.seconds, other.seconds, strict=True)]


def _steps(funnel: Funnel) -> list[Any]:
    if funnel.breakdown.cohorts:
        by_cohort = [
            (_cohort(funnel, cohort), counts)
            for cohort in funnel.breakdown.cohorts
            for counts in _counted(funnel, cohort).values()
        ]
        by_cohort.sort(key=lambda one: one[1].reached[::-1], reverse=True)
        return [_funnel_of(funnel, counts, shown) for shown, counts in by_cohort]
    found = _counted(funnel)
    if not funnel.breakdown.is_on:
        return [step for counts in found.values() for step in _funnel_of(funnel, counts, {})]
    results = []
    for value, counts in _limited(found, funnel).items():
        shown: Any = list(value) if funnel.is_boxed else value[0]
        results.append(_funnel_of(funnel, counts, {"breakdown": shown, "breakdown_value": shown}))
    return results


def _counted(funnel: Funnel, cohort: int | str | None = None) -> dict[Value, _Counts]:
    found: dict[Value, _Counts] = {}
    for _, value, walk in funnel.walks(cohort):
        if value not in found:
            found[value] = _Counts.none(len(funnel.series))
        found[value].add(walk)
    return _ranked(found)


def _ranked(found: Mapping[Value, _Counts]) -> dict[Value, _Counts]:
    """Values by who reached the last step, then the one before it, and so on."""
    values = sorted(found)
    return {value: found[value] for value in sorted(values, key=lambda v: found[v].reached[::-1], reverse=True)}


def _limited(found: Mapping[Value, _Counts], funnel: Funnel) -> dict[Value, _Counts]:
    """The first values, and the others together as ``Other``."""
    if funnel.limit is None or len(found) <= funnel.limit:
        return dict(found)
    values = list(found)
    rest = _Counts.none(len(funnel.series))
    for value in values[funnel.limit :]:
        rest.merge(found[value])
    return _ranked({**{value: found[value] for value in values[: funnel.limit]}, ("Other",): rest})


def _funnel_of(funnel: Funnel, counts: _Counts, more: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            **_step_of(funnel, series, count),
            "average_conversion_time": mean(seconds) if seconds else None,
            "median_conversion_time": median(seconds) if seconds else None,
            **more,
        }
        for series, count, seconds in zip(funnel.series, counts.reached, counts.seconds, strict=True)
    ]


def _step_of(funnel: Funnel, series: Series, count: int) -> dict[str, Any]:
    is_action = series.node["kind"] == "ActionsNode"
    step: dict[str, Any] = {
        "action_id": series.node.get("id" if is_action else "event"),
        "name": series.name if is_action else series.node.get("event"),
        "custom_name": series.node.get("custom_name"),
    }
    if funnel.order == "unordered":
        name = f"Completed {series.index + 1} step{'s' if series.index else ''}"
        step = {"action_id": None, "name": name, "custom_name": None}
    return {**step, "order": series.index, "people": [], "count": count, "type": "actions" if is_action else "events"}


def _cohort(funnel: Funnel, cohort: int | str) -> dict[str, Any]:
    names = {one.id: one.name for one in funnel.asks.catalog.cohorts}
    if cohort == ALL_USERS:
        return {"breakdown": "all users", "breakdown_value": ALL_USERS_COHORT}
    return {"breakdown": names.get(int(cohort), str(cohort)), "breakdown_value": cohort}


# ------------------------------------------------------------------------------------------------------ time to convert


def _times_to_convert(funnel: Funnel) -> dict[str, Any]:
    if funnel.breakdown.is_on:
        raise errors.validation("The embedded server does not have breakdownFilter of funnels by time to convert.")
    first, last = funnel.from_step, funnel.to_step
    walks = (walk for _, _, walk in funnel.walks() if walk.step > last)
    spans = [(walk.times[last] - walk.times[first]) / MICROSECONDS for walk in walks]
    if (own := funnel.options.get("binCount")) is not None:
        bins = min(max(int(own), 1), MAX_OWN_BINS)
    else:
        bins = min(max(math.ceil(round(len(spans) ** (1 / 3), 9)), 1), MAX_BINS)
    low, high = math.floor(min(spans, default=0)), math.ceil(max(spans, default=0))
    width = math.ceil((high - low) / bins) or EMPTY_BIN
    counts = Counter(int((span - low) // width) for span in spans)
    # The last one holds what is exactly at the upper border.
    shown = [[low + i * width, counts[i]] for i in range(bins + 1)]
    return {"bins": shown, "average_conversion_time": mean(spans) if spans else None}


# --------------------------------------------------------------------------------------------------------------- trends


def _trends(funnel: Funnel) -> list[dict[str, Any]]:
    if funnel.order == "unordered":
        raise errors.validation("The embedded server does not have the funnelOrderType unordered of funnel trends.")
    if funnel.period.interval in ("second", "minute"):
        interval = funnel.period.interval
        raise errors.validation(f"The embedded server does not have the interval {interval} of funnel trends.")
    found: list[tuple[Any, Counter[tuple[Any, bool]]]] = []
    for cohort in funnel.breakdown.cohorts or (None,):
        entered: dict[Any, Counter[tuple[Any, bool]]] = {}
        for _, value, start, step in funnel.entries(cohort):
            if step > funnel.from_step:
                counts = entered.setdefault(value, Counter())
                counts[start, False] += 1
                counts[start, True] += step > funnel.to_step
        shown = None if cohort is None else _cohort(funnel, cohort)["breakdown"]
        found += [(shown or value, counts) for value, counts in entered.items()]
    if not funnel.breakdown.is_on:
        return [_line(funnel, found[0][1] if found else Counter())]
    if funnel.breakdown.cuts:
        found.sort(key=lambda one: (-sum(n for (_, is_done), n in one[1].items() if not is_done), one[0]))
        found = found[: funnel.breakdown.limit]
        found = [(list(value) if funnel.is_boxed else value[0], counts) for value, counts in found]
    lines = [{**_line(funnel, counts), "breakdown_value": value} for value, counts in found]
    return sorted(lines, key=lambda line: line["breakdown_value"])


def _line(funnel: Funnel, counts: Counter[tuple[Any, bool]]) -> dict[str, Any]:
    starts = funnel.period.buckets()
    form = "%Y-%m-%d %H:%M:%S" if funnel.period.interval == "hour" else "%Y-%m-%d"
    rates = []
    for start in starts:
        interval = bucket_key(start, funnel.period.interval)
        entered, converted = counts[interval, False], counts[interval, True]
        rates.append(round(100 * converted / entered, 2) if entered else 0)
    return {
        "count": len(starts),
        "data": rates,
        "days": [start.strftime(form) for start in starts],
        "labels": [f"{start.day}-{start:%b-%Y}" for start in starts],
    }
