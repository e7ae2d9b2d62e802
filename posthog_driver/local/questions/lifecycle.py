"""LifecycleQuery: who is new, who returns, who comes back after a pause, and who went away, interval by interval.

Somebody who acts in an interval is *new* if it is the one in which they were created and the first in which they act,
*returning* if they acted in the interval before, else *resurrecting*; somebody who acted in the interval before and
not in this one is *dormant*, counted below zero. Source: ``posthog/hogql_queries/insights/lifecycle_query_runner.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .. import errors
from ..dates import DateRange, add, floor, last_moment
from ..property_filters import Condition, Names
from .aggregates import bucket, bucket_key
from .base import (
    Asks,
    Series,
    actor_of,
    axis,
    both,
    date_range,
    event_scope,
    filters,
    in_range,
    refuse,
    resolved,
    series_of,
)

__all__ = ["STATUSES", "answer", "changes"]

STATUSES = ("new", "returning", "resurrecting", "dormant")
"""What somebody can be in an interval, in the order of the answer."""


def answer(query: Mapping[str, Any], asks: Asks) -> dict[str, Any]:
    """Answer a LifecycleQuery: one result for each status, all of one series.

    Raises:
        ApiError: 400, it asks for something that is not served.
        HogQLError: An expression or filter in it cannot be answered.
    """
    refuse(query, "samplingFactor")
    if len(query["series"]) != 1:
        raise errors.validation("A LifecycleQuery needs exactly one series.")
    names = Names()
    scope = event_scope(asks, names)
    (series,) = series_of(query["series"], asks, scope)
    period = date_range(query, asks)
    inner = changes(series, query, period, filters(query, scope), names)
    counted = (
        f"SELECT change.1 AS slot, change.2 AS status, count() AS people FROM ({inner.hogql}) GROUP BY slot, status"
    )
    found = {(slot, status): people for slot, status, people in asks.ask(counted, inner).rows}
    shown = (query.get("lifecycleFilter") or {}).get("toggledLifecycles") or STATUSES
    # Slot 1 is the interval before the range.
    slots = range(2, len(period.buckets()) + 2)
    results = []
    for status in STATUSES:
        if status in shown:
            sign = -1 if status == "dormant" else 1
            results.append(_result(series, status, period, [sign * found.get((slot, status), 0) for slot in slots]))
    return {"results": results, "resolved_date_range": resolved(period)}


def changes(
    series: Series, query: Mapping[str, Any], period: DateRange, matching: Condition, names: Names
) -> Condition:
    """Return the HogQL of who was what: columns ``actor`` and ``change``, a pair of slot and status.

    Slots count the intervals from 1, which is the one before the range.
    """
    actor = actor_of(query)
    first = floor(period.date_from, period.interval, period.week_start)
    before = floor(add(first, -1, period.interval), period.interval, period.week_start)
    starts = names()
    keys = [bucket_key(start, period.interval) for start in (before, *period.buckets())]
    # The last interval counts whole, and events without a person profile never do.
    within = in_range(before, last_moment(period.date_to, period.interval, period.week_start), names)
    identified = Condition("ifNull(toString(properties.$process_person_profile), '') != 'false'")
    where = both(within, identified, series.condition, matching)
    slot = f"indexOf({{{starts}}}, {bucket(period.interval)})"
    active = (
        f"SELECT {actor} AS actor, arraySort(groupUniqArray({slot})) AS slots, "
        f"indexOf({{{starts}}}, {bucket(period.interval, 'min(person.created_at)')}) AS born "
        f"FROM events WHERE {where.hogql} GROUP BY actor HAVING notEmpty(toString(actor))"
    )
    status = "multiIf(n = 1 AND slot = born, 'new', has(slots, slot - 1), 'returning', 'resurrecting')"
    return Condition(
        "SELECT actor, arrayJoin(arrayConcat("
        f"arrayMap((slot, n) -> (slot, {status}), slots, arrayEnumerate(slots)), "
        "arrayMap(slot -> (slot + 1, 'dormant'), arrayFilter(slot -> NOT has(slots, slot + 1), slots))"
        f")) AS change FROM ({active})",
        {**where.values, starts: keys},
    )


def _result(series: Series, status: str, period: DateRange, numbers: list[int]) -> dict[str, Any]:
    is_action = series.node["kind"] == "ActionsNode"
    return {
        "label": f"{series.name} - {status}",
        "status": status,
        "action": {
            "id": str(series.node["id"]) if is_action else series.event,
            "name": series.name,
            "type": "actions" if is_action else "events",
            "order": 0,
            "math": "total",
        },
        "count": float(sum(numbers)),
        "data": [float(number) for number in numbers],
        **axis(period),
    }
