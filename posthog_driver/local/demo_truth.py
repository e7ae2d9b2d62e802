"""What is true of the demo data: counted in the generator's working tables, so without HogQL and without the events.

Every number is a sum over persons, so the slices of a data set are added up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from .demo_sql import ACTIONS, CODES, WORK, Plan, array

Rows = Sequence[Sequence[Any]]

STEPS = 5
"""Steps of `demo.FUNNEL`."""

WEEKLY_EVENT = "file_uploaded"
"""The event whose weekly retention is known."""


class Truth:
    """Adds up what is true of the slices of one data set.

    Args:
        plan: Which one.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._sums: Counter[str] = Counter()
        self._funnel = [0] * STEPS
        self._days: Counter[tuple[str, int]] = Counter()
        self._weeks: Counter[tuple[int, int]] = Counter()
        self._variants: dict[str, Counter[str]] = {}

    def add(self, ask: Callable[[str], Rows]) -> None:
        """Count the slice that the working tables hold.

        Args:
            ask: Runs a query.
        """
        people, sessions = f"{WORK}.people", f"{WORK}.sessions"
        for event, day, count in ask(
            f"""SELECT {array([action.event for action in ACTIONS])}[code] AS event, day, count()
            FROM {sessions} ARRAY JOIN codes AS code GROUP BY event, day"""
        ):
            self._days[event, day] += count
        steps = ", ".join(f"countIf(NOT old AND depth >= {step})" for step in range(1, STEPS + 1))
        (row,) = ask(
            f"""SELECT countIf(active), sum(visits), countIf(active AND depth >= 5),
                countIf(active AND depth >= 3 AND company > 0),
                countIf(watched), countIf(watched AND returned), {steps}
            FROM (
                SELECT p.*, s.visits AS visits, visits > 0 AS active,
                    NOT old AND depth >= 3 AND first_day + 14 <= {self._plan.days} AS watched,
                    arrayExists(d -> d BETWEEN first_day + 7 AND first_day + 13, s.days) AS returned
                FROM {people} AS p LEFT JOIN (
                    SELECT i, count() AS visits, groupUniqArray(day) AS days FROM {sessions} GROUP BY i
                ) AS s ON p.i = s.i)"""
        )
        names = ("persons", "sessions", "paying", "in companies", "signed_up", "returned")
        self._sums.update(dict(zip(names, row, strict=False)))
        self._funnel = [total + count for total, count in zip(self._funnel, row[len(names) :], strict=True)]
        for variant, exposed, signed_up in ask(
            f"SELECT variant, countIf(depth >= 2), countIf(depth >= 3) FROM {people} WHERE NOT old GROUP BY variant"
        ):
            self._variants.setdefault(variant, Counter()).update(exposed=exposed, signed_up=signed_up)
        # The week of a day, counted from the one in which the period begins.
        week = f"intDiv(day + {self._weekday}, 7)"
        for first, later, count in ask(
            f"""SELECT first, later, count() FROM (
                SELECT groupUniqArray({week}) AS weeks FROM {sessions}
                WHERE has(codes, {CODES["upload"]}) GROUP BY i
            ) ARRAY JOIN weeks AS first ARRAY JOIN weeks AS later WHERE later >= first GROUP BY first, later"""
        ):
            self._weeks[first, later] += count

    def result(self) -> dict[str, Any]:
        """The sums, under the names that `demo.load` describes."""
        by_event: dict[str, list[int]] = {}
        for (event, day), count in sorted(self._days.items()):
            by_event.setdefault(event, [0] * self._plan.days)[day] = count
        variants = {name: dict(self._variants[name]) for name in sorted(self._variants)}
        return {
            "events": self._plan.events,
            "persons": self._sums["persons"],
            "sessions": self._sums["sessions"],
            "event_counts": {event: sum(counts) for event, counts in by_event.items()},
            "days": {"first": self._plan.start.date().isoformat(), "event_counts": by_event},
            "funnel": self._funnel,
            "experiment": {"variants": variants, "winner": _winner(variants)},
            "retention": {"signed_up": self._sums["signed_up"], "returned": self._sums["returned"]},
            "weekly_retention": self._weekly(),
            "cohorts": {"Paying customers": self._sums["paying"], "People in companies": self._sums["in companies"]},
        }

    @property
    def _weekday(self) -> int:
        """How many days after a Sunday the period begins."""
        return self._plan.start.isoweekday() % 7

    def _weekly(self) -> dict[str, Any]:
        first = self._plan.start.date() - timedelta(days=self._weekday)
        count = -(-(self._plan.days + self._weekday) // 7)
        return {
            "event": WEEKLY_EVENT,
            "weeks": [(first + timedelta(weeks=week)).isoformat() for week in range(count)],
            "returned": [[self._weeks[week, later] for later in range(week, count)] for week in range(count)],
        }


def _winner(variants: Mapping[str, Mapping[str, int]]) -> str | None:
    """The variant with which the larger share signed up; None when nobody saw the form."""
    rates = {name: seen["signed_up"] / seen["exposed"] for name, seen in variants.items() if seen["exposed"]}
    return max(rates, key=lambda name: rates[name], default=None)
