"""What every product question needs: the project, a way to ask it in HogQL, series, filters and dates.

A question is a function ``answer(query, asks) -> dict``: it reads a query node whose shape was checked, writes HogQL
with bound values, asks, and shapes the rows into PostHog's answer. What a question does not have is refused by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, timezone
from typing import Any

from .. import errors
from ..actions import action_condition
from ..dates import TIMES_OF_DAY, DateRange
from ..property_filters import TRUE, Condition, Names, Scope, bound, condition, joined
from ..schema import Action, Catalog

__all__ = ["Asks", "Rows", "Series", "both", "date_range", "event_scope", "filters", "in_range", "refuse", "series_of"]


@dataclass(frozen=True)
class Rows:
    """The answer to one HogQL query of a question.

    Attributes:
        rows: As JSON has them.
        columns: Their names.
        types: Pairs of column name and ClickHouse type.
        hogql: The query, values filled in.
    """

    rows: list[list[Any]]
    columns: list[str]
    types: list[list[str]]
    hogql: str


@dataclass(frozen=True)
class Asks:
    """What a question knows and may do.

    Attributes:
        catalog: The project.
        now: The current time in the project's time zone.
        run: Runs HogQL with bound values, under the limits and the query id of the request. Without a LIMIT of its own
            a query gets 50,000 rows.
    """

    catalog: Catalog
    now: datetime
    run: Callable[[str, Mapping[str, Any]], Rows]
    _asked: list[str] = field(default_factory=list, repr=False)

    def ask(self, hogql: str, *conditions: Condition, values: Mapping[str, Any] | None = None) -> Rows:
        """Run HogQL with the values of the conditions that stand in it, and further ones."""
        bound = {name: value for one in conditions for name, value in one.values.items()}
        rows = self.run(hogql, {**bound, **(values or {})})
        self._asked.append(rows.hogql)
        return rows

    def action(self, number: Any) -> Action:
        """Return an action.

        Raises:
            ApiError: 400, there is none.
        """
        found = next((action for action in self.catalog.actions if action.id == number), None)
        if found is None:
            raise errors.validation(f"Action ID {number} does not exist!")
        return found

    @property
    def hogql(self) -> str:
        """What was asked, for the ``hogql`` of the answer."""
        return ";\n".join(self._asked)


@dataclass(frozen=True)
class Series:
    """One series of a question.

    Attributes:
        index: Its place, from 0.
        node: PostHog's node.
        name: The event's or action's name; ``All events`` for every event.
        happened: That it is this event or action.
        narrowed: What its own filters say beyond that.
    """

    index: int
    node: Mapping[str, Any]
    name: str
    happened: Condition
    narrowed: Condition = TRUE

    @property
    def condition(self) -> Condition:
        """Which rows of ``events`` belong to it."""
        return both(self.happened, self.narrowed)

    @property
    def math(self) -> str:
        """How its events become a number."""
        return str(self.node.get("math") or "total")

    @property
    def event(self) -> str | None:
        """The event's or action's name; None for every event."""
        return self.name if self.node["kind"] == "ActionsNode" else self.node.get("event")

    def facts(self) -> dict[str, Any]:
        """PostHog's ``action`` object of a series, which calls actions events too."""
        node = self.node
        return {
            "id": self.event,
            "type": "events",
            "order": self.index,
            "name": self.name,
            "custom_name": node.get("custom_name"),
            "math": node.get("math"),
            "math_property": node.get("math_property"),
            "math_hogql": node.get("math_hogql"),
            "math_group_type_index": node.get("math_group_type_index"),
            "properties": {},
        }


def refuse(query: Mapping[str, Any], *keys: str) -> None:
    """Refuse keys of a node that its question does not have, when they ask for something.

    Raises:
        ApiError: 400, naming the key.
    """
    for key in keys:
        nothing: tuple[Any, ...] = (1,) if key == "samplingFactor" else (None, False, "", [], {})
        if query.get(key) is not None and query[key] not in nothing:
            raise errors.validation(f"The embedded server does not have {key} of {query.get('kind', 'the query')}.")


def event_scope(asks: Asks, names: Names) -> Scope:
    """Return the scope of conditions on ``events``."""
    return Scope("event", asks.catalog, asks.now, names)


def date_range(query: Mapping[str, Any], asks: Asks, default: str = "-7d", *, to_now: bool = False) -> DateRange:
    """Return a query's range of time; ``all`` begins with the project's first event.

    With `to_now` relative dates keep the time of day, and the range ends now when it does not say when.

    Raises:
        ApiError: 400, a date is none.
    """
    earliest = None
    if (query.get("dateRange") or {}).get("date_from") == "all":
        ((text, count),) = asks.run("SELECT toString(toTimeZone(min(timestamp), 'UTC')), count() FROM events", {}).rows
        if count:
            moment = datetime.fromisoformat(text).replace(tzinfo=timezone.utc)
            earliest = moment.astimezone(asks.now.tzinfo)
    try:
        period = DateRange.from_query(
            query,
            asks.now,
            default=default,
            earliest=earliest,
            week_start=asks.catalog.week_start,
            to_now=to_now,
        )
        period.buckets()
        return period
    except ValueError as error:
        raise errors.validation(str(error)) from None


def in_range(first: datetime, last: datetime, names: Names, column: str = "timestamp") -> Condition:
    """Return the condition that a time lies between two moments, both of which belong to it."""
    begin, end = names(), names()
    return Condition(
        f"{column} >= toDateTime({{{begin}}}) AND {column} <= toDateTime({{{end}}})",
        {begin: _text(first), end: _text(last)},
    )


def filters(query: Mapping[str, Any], scope: Scope) -> Condition:
    """Return the condition of a query's ``properties`` and ``filterTestAccounts``."""
    test_accounts = list(scope.catalog.test_account_filters) if query.get("filterTestAccounts") else []
    return both(condition(query.get("properties"), scope), condition(test_accounts, scope))


def both(*conditions: Condition) -> Condition:
    """Return conditions joined by AND, without those that are always true."""
    return joined([one for one in conditions if one != TRUE])


def series_of(nodes: Sequence[Mapping[str, Any]], asks: Asks, scope: Scope) -> list[Series]:
    """Return the series of a question's nodes.

    Raises:
        ApiError: 400, a node that is not served here or an action that does not exist.
    """
    return [_series(index, node, asks, scope) for index, node in enumerate(nodes)]


def _series(index: int, node: Mapping[str, Any], asks: Asks, scope: Scope) -> Series:
    happened = TRUE
    if node["kind"] == "ActionsNode":
        action = asks.action(node.get("id"))
        name = action.name
        happened = action_condition(action, scope)
    elif node["kind"] == "EventsNode":
        name = node.get("event") or "All events"
        if node.get("event"):
            happened = bound(scope, lambda v: f"event = {v}", node["event"])
    else:
        raise errors.validation(f"The embedded server does not have {node['kind']} as a series.")
    narrowed = [condition(node[key], scope) for key in ("properties", "fixedProperties") if node.get(key)]
    return Series(index, node, name, happened, joined(narrowed))


def _text(moment: datetime) -> str:
    """A moment as ``toDateTime()`` reads it in the project's time zone."""
    return moment.replace(tzinfo=None).isoformat(" ", "microseconds")


def actor_of(query: Mapping[str, Any]) -> str:
    """Return the HogQL of who is counted as one: the person, or the group of a query that says so."""
    index = query.get("aggregation_group_type_index")
    if index is None:
        return "person_id"
    if index not in range(5):
        raise errors.validation("aggregation_group_type_index is 0 to 4.")
    return f"$group_{int(index)}"


def periods_of(query: Mapping[str, Any], asks: Asks, *, to_now: bool = False) -> list[DateRange]:
    """Return a query's range, and the one that its ``compareFilter`` compares it with; `to_now` as in `date_range`."""
    period = date_range(query, asks, to_now=to_now)
    compare = query.get("compareFilter") or {}
    if not compare.get("compare"):
        return [period]
    try:
        return [period, period.previous(compare.get("compare_to"))]
    except ValueError as error:
        raise errors.validation(str(error)) from None


def resolved(period: DateRange) -> dict[str, str]:
    """Return PostHog's ``resolved_date_range`` of an answer."""
    return {"date_from": period.date_from.isoformat(), "date_to": period.date_to.isoformat()}


def axis(period: DateRange) -> dict[str, list[str]]:
    """Return the ``days`` and ``labels`` of the intervals of a range."""
    starts = period.buckets()
    form = "%Y-%m-%d %H:%M:%S" if period.interval in TIMES_OF_DAY else "%Y-%m-%d"
    return {
        "days": [start.strftime(form) for start in starts],
        "labels": [label_of(start, period) for start in starts],
    }


def label_of(start: datetime, period: DateRange) -> str:
    """Return PostHog's label of an interval: ``5-Jan-2026``, ``5-Jan 13:00``, ``Jan 2026``, ``4-10 Jan``."""
    if period.interval == "week":
        first = max(start.date(), period.date_from.date())
        return _week_label(first, max(first, min(start.date() + timedelta(days=6), period.date_to.date())))
    if period.interval == "month":
        return f"{start:%b %Y}"
    if period.interval == "second":
        return f"{start.day}-{start:%b %H:%M:%S}"
    return f"{start.day}-{start:%b %H:%M}" if period.interval in TIMES_OF_DAY else f"{start.day}-{start:%b-%Y}"


def _week_label(first: date, last: date) -> str:
    if first == last:
        return f"{first.day}-{first:%b-%Y}"
    if first.year != last.year:
        return f"{first.day}-{first:%b-%Y} \N{EN DASH} {last.day}-{last:%b-%Y}"
    if first.month != last.month:
        return f"{first.day}-{first:%b} \N{EN DASH} {last.day}-{last:%b}"
    return f"{first.day}\N{EN DASH}{last.day} {last:%b}"
