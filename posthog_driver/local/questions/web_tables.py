"""Web analytics: tables of pages, sources and devices, and of the actions that count as goals.

Sources: ``posthog/hogql_queries/web_analytics`` (``stats_table.py``, ``web_goals.py``). A number in a table is a pair:
of the range, and of the one to compare with, which is null without one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from .. import errors
from ..actions import action_condition
from ..dates import DateRange
from ..property_filters import Condition, Names, Scope, joined
from .base import Asks, both, event_scope, filters, in_range, periods_of, refuse
from .listing import Page
from .web import VIEWS, goal_of

__all__ = ["goals", "stats"]

MAX_GOALS = 5
"""Actions in the table of goals: the first ones."""

_COLUMN = "context.columns."


class _By(NamedTuple):
    """What a table is about: its HogQL, and which of its values have a row."""

    hogql: str
    shown: str = "isNotNull(value)"


_PLACES = "isNotNull(tupleElement(value, 2))"
BREAKDOWNS: Mapping[str, _By] = {
    "Page": _By("properties.$pathname"),
    "InitialPage": _By("session.$entry_pathname"),
    "ExitPage": _By("session.$end_pathname"),
    "ExitClick": _By("session.$last_external_click_url"),
    "ScreenName": _By("properties.$screen_name"),
    "InitialChannelType": _By("session.$channel_type", "isNotNull(value) AND notEmpty(value)"),
    "InitialReferringDomain": _By("session.$entry_referring_domain"),
    **{
        f"InitialUTM{name.capitalize()}": _By(f"session.$entry_utm_{name}", "true")
        for name in ("source", "campaign", "medium", "term", "content")
    },
    "Browser": _By("properties.$browser"),
    "OS": _By("properties.$os"),
    "DeviceType": _By("properties.$device_type"),
    "Country": _By("properties.$geoip_country_code"),
    "Region": _By(
        "tuple(properties.$geoip_country_code, properties.$geoip_subdivision_1_code, "
        "properties.$geoip_subdivision_1_name)",
        _PLACES,
    ),
    "City": _By("tuple(properties.$geoip_country_code, properties.$geoip_city_name)", _PLACES),
    "Timezone": _By("-toFloat(properties.$timezone_offset) / 60"),
}
"""What a table can be about here."""

_ORDERS = {
    "Visitors": "visitors",
    "Views": "views",
    "BounceRate": "bounce_rate",
    "TotalConversions": "total_conversions",
    "UniqueConversions": "unique_conversions",
    "ConversionRate": "conversion_rate",
}
_RATES = ("bounce_rate", "conversion_rate")


def stats(query: Mapping[str, Any], asks: Asks) -> dict[str, Any]:
    """Answer a WebStatsTableQuery.

    Raises:
        ApiError: 400, a date is none, or something is asked for that is not served here.
    """
    by = BREAKDOWNS.get(query["breakdownBy"])
    if by is None:
        raise errors.validation(f"The embedded server does not have breakdownBy {query['breakdownBy']}.")
    refuse(query, "includeRevenue", "includeScrollDepth", "includeAvgTimeOnPage", "includeHost")
    refuse(query, "aggregation_group_type_index")
    if query["breakdownBy"] == "Page":
        refuse(query, "includeBounceRate")
    page, names = Page.of(query), Names()
    scope = event_scope(asks, names)
    goal = goal_of(query, asks, scope)
    measures = _measures(goal is not None, bool(query.get("includeBounceRate")))
    first, *earlier = periods_of(query, asks)
    inner, values = _sessions(query, [first, *earlier], scope, [goal] if goal else [], by)
    shown = []
    for name, aggregate in measures.items():
        current, previous, more = _pair(aggregate, first, earlier, names)
        shown += [f"{current} AS {name}", f"{previous} AS previous_{name}"]
        values |= more
    order, fraction = _order(query, [*measures])
    found = asks.ask(
        f"SELECT *, {fraction} FROM (SELECT value, {', '.join(shown)} FROM ({inner}) GROUP BY value) "
        f"ORDER BY {order} {page.clause}",
        values=values,
    )
    rows, facts = page.cut(found.rows)
    columns = [f"{_COLUMN}{name}" for name in ("breakdown_value", *measures, "ui_fill_fraction")]
    types = [type_ for _, type_ in found.types]
    paired = [types[0], *(f"Tuple({', '.join(types[i : i + 2])})" for i in range(1, len(types) - 1, 2)), types[-1]]
    return {
        "results": [[row[0], *(list(row[i : i + 2]) for i in range(1, len(row) - 1, 2)), row[-1], ""] for row in rows],
        "columns": [*columns, f"{_COLUMN}cross_sell"],
        "types": [list(pair) for pair in zip(columns, paired, strict=True)],
        "samplingRate": {"numerator": 1, "denominator": None},
        "usedPreAggregatedTables": False,
        **facts,
    }


def _measures(has_goal: bool, has_bounces: bool) -> dict[str, str]:
    """The numbers of a row, as an aggregate each; ``{If}`` and ``{when}`` bound it to a range."""
    visitors = {"visitors": "uniq{If}(visitor{when})"}
    if has_goal:
        unique = "uniqIf(visitor, conversions_0 > 0{and_when})"
        return {
            **visitors,
            "total_conversions": "sum{If}(conversions_0{when})",
            "unique_conversions": unique,
            "conversion_rate": f"if({visitors['visitors']} = 0, NULL, {unique} / {visitors['visitors']})",
        }
    bounces = {"bounce_rate": "avg{If}(is_bounce{when})"} if has_bounces else {}
    return {**visitors, "views": "sum{If}(viewed{when})", **bounces}


def _pair(
    aggregate: str, first: DateRange, earlier: Sequence[DateRange], names: Names
) -> tuple[str, str, dict[str, Any]]:
    """An aggregate of the range and of the earlier one; where nothing is compared, all sessions count."""
    if not earlier:
        return aggregate.format(If="", when="", and_when=""), "NULL", {}
    found: list[str] = []
    values: dict[str, Any] = {}
    for period in (first, earlier[0]):
        within = in_range(period.date_from, period.date_to, names, "started")
        found.append(aggregate.format(If="If", when=f", {within.hogql}", and_when=f" AND {within.hogql}"))
        values |= within.values
    return found[0], found[1], values


def _order(query: Mapping[str, Any], measures: Sequence[str]) -> tuple[str, str]:
    """The order of the rows, and how much of its row a bar fills: the share of the number that orders them."""
    field, direction = [*(query.get("orderBy") or ()), "", "DESC"][:2]
    asked = _ORDERS.get(field, "")
    wanted = [asked, "unique_conversions", "total_conversions", "visitors", "views"]
    listed = [name for name in dict.fromkeys(wanted) if name in measures]
    order = [f"{name} {direction or 'DESC'}, previous_{name} {direction or 'DESC'}" for name in listed]
    first = listed[0]
    return ", ".join([*order, "value ASC"]), first if first in _RATES else f"{first} / sum({first}) OVER ()"


def _sessions(
    query: Mapping[str, Any],
    periods: Sequence[DateRange],
    scope: Scope,
    counted: Sequence[Condition],
    by: _By | None = None,
) -> tuple[str, dict[str, Any]]:
    """The sessions of ranges, one row for each and each value of a breakdown, and the values in the query."""
    within = joined([in_range(p.date_from, p.date_to, scope.names) for p in periods], "OR")
    happened = joined([VIEWS, *counted], "OR")
    where = both(within, happened, filters(query, scope))
    conversions = "".join(f", countIf({one.hogql}) AS conversions_{n}" for n, one in enumerate(counted))
    value = f", {by.hogql} AS value" if by else ""
    some = by.shown if by else "notEmpty(id)"
    return (
        "SELECT any(person_id) AS visitor, count() AS viewed, $session_id AS id, "
        "any(session.$is_bounce) AS is_bounce, "
        f"min(session.$start_timestamp) AS started{value}{conversions} FROM events "
        f"WHERE {where.hogql} GROUP BY id{', value' if by else ''} HAVING {some}",
        {name: bound for one in (where, *counted) for name, bound in one.values.items()},
    )


def goals(query: Mapping[str, Any], asks: Asks) -> dict[str, Any]:
    """Answer a WebGoalsQuery: who does the project's first actions, how often, and what share of the visitors that is.

    Raises:
        ApiError: 400, a date is none, or something is asked for that is not served here.
    """
    refuse(query, "includeRevenue", "conversionGoal", "aggregation_group_type_index")
    names = Names()
    scope = event_scope(asks, names)
    actions = asks.catalog.actions[: min(query.get("limit") or MAX_GOALS, MAX_GOALS)]
    rate = {"samplingRate": {"numerator": 1, "denominator": None}}
    if not actions:
        return {"results": [], **rate}
    conditions = [action_condition(action, scope) for action in actions]
    rows = []
    for period in periods_of(query, asks):
        inner, values = _sessions(query, [period], scope, conditions)
        began = in_range(period.date_from, period.date_to, names, "started")
        shown = ", ".join(f"uniqIf(visitor, conversions_{n} > 0), sum(conversions_{n})" for n in range(len(actions)))
        rows += asks.ask(f"SELECT uniq(visitor), {shown} FROM ({inner}) WHERE {began.hogql}", began, values=values).rows
    return {
        "results": _sorted(query, [_goal(action.name, n, rows) for n, action in enumerate(actions)]),
        "columns": [f"{_COLUMN}{name}" for name in _GOAL_COLUMNS],
        **rate,
    }


_GOAL_COLUMNS = ("action_name", "converting_users", "total_conversions", "conversion_rate")


def _goal(name: str, n: int, rows: Sequence[Sequence[Any]]) -> list[Any]:
    pairs = [(row[1 + 2 * n], row[2 + 2 * n], row[1 + 2 * n] / row[0] if row[0] else 0) for row in rows]
    earlier = pairs[1] if len(pairs) > 1 else (None, None, None)
    return [name, *(list(pair) for pair in zip(pairs[0], earlier, strict=True))]


def _sorted(query: Mapping[str, Any], results: list[list[Any]]) -> list[list[Any]]:
    field, direction = [*(query.get("orderBy") or ()), "", "DESC"][:2]
    place = {"ConvertingUsers": 1, "TotalConversions": 2, "ConversionRate": 3}.get(field)
    if place is None:
        return results
    return sorted(results, key=lambda row: row[place][0], reverse=direction == "DESC")
