"""PathsQuery: from where people go where, step by step within their sessions.

Source of shapes, orders and rules: ``posthog/hogql_queries/insights/paths_query_runner.py``. A path is what a person
does without a pause of 30 minutes; the same thing several times in a row counts once, at its last time.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from .. import errors
from ..parser import parse_expression
from ..property_filters import Condition, Names, joined
from .base import Asks, both, date_range, event_scope, filters, in_range, refuse, resolved

__all__ = ["answer"]

PAUSE = 30 * 60
"""Seconds of silence that end a path."""

DEFAULT_STEPS, MAX_STEPS = 5, 50
"""Steps of a path, if the query does not say, and at most."""

DEFAULT_EDGES, MAX_EDGES = 50, 10_000
"""Edges of the answer, if the query does not say, and at most."""

_MOMENT = "assumeNotNull(_toInt64(round(toFloat(timestamp) * 1000000)))"
_ITEMS = "arrayMap(v -> v.3, path)"


def answer(query: Mapping[str, Any], asks: Asks) -> dict[str, Any]:
    """Answer a PathsQuery.

    Raises:
        ApiError: 400, it asks for something that is not served.
        HogQLError: An expression or filter in it cannot be answered.
    """
    refuse(query, "samplingFactor", "funnelPathsFilter")
    if query.get("aggregation_group_type_index") is not None:
        raise errors.validation("The embedded server does not have aggregation_group_type_index of PathsQuery.")
    options: Mapping[str, Any] = query.get("pathsFilter") or {}
    refuse({**options, "kind": "PathsQuery"}, "pathReplacements")
    names = Names()
    scope = event_scope(asks, names)
    period = date_range(query, asks)
    where = both(in_range(period.date_from, period.date_to, names), filters(query, scope), _included(options))
    edges = _edges(options, where, names)
    rows = asks.ask(edges.hogql, edges).rows
    results = [
        {"source": source, "target": target, "value": count, "average_conversion_time": took}
        for source, target, count, took in _reachable(rows)
    ]
    return {"results": results, "resolved_date_range": resolved(period)}


# ------------------------------------------------------------------------------------------------------------ the items


def _included(options: Mapping[str, Any]) -> Condition:
    """Which events count; without ``includeEventTypes`` all of them."""
    types = {
        "$pageview": "event = '$pageview'",
        "$screen": "event = '$screen'",
        "custom_event": "NOT startsWith(event, '$')",
    }
    chosen = [Condition(types[one]) for one in options.get("includeEventTypes") or () if one in types]
    return joined(chosen, "OR") if chosen else Condition("true")


def _has(options: Mapping[str, Any], kind: str) -> bool:
    included = options.get("includeEventTypes")
    return kind in included if included else kind not in (options.get("excludeEvents") or ())


def _item(options: Mapping[str, Any], names: Names) -> Condition:
    """What an event is called in a path: its address, its screen, or its name."""
    item = "event"
    values: dict[str, str] = {}
    expression = options.get("pathsHogQLExpression")
    if expression and _has(options, "hogql"):
        parse_expression(expression)
        item = f"toString({expression}\n)"
    if _has(options, "$pageview"):
        slash, kept = names(), names()
        values = {slash: "(.)/$", kept: r"\1"}
        url = f"replaceRegexpAll(ifNull(toString(properties.$current_url), ''), {{{slash}}}, {{{kept}}})"
        item = f"if(event = '$pageview', {url}, {item})"
    if _has(options, "$screen"):
        item = f"if(event = '$screen', toString(properties.$screen_name), {item})"
    return Condition(f"ifNull({item}, '')", values)


def _cleanings(options: Mapping[str, Any], names: Names) -> list[Condition]:
    """HogQL of ``item`` after each of the regular expressions that clean it, one after the other."""
    found = []
    for one in options.get("localPathCleaningFilters") or ():
        regex, alias = names(), names()
        values = {regex: one.get("regex") or "", alias: one.get("alias") or ""}
        found.append(Condition(f"replaceRegexpAll(item, {{{regex}}}, {{{alias}}})", values))
    return found


def _grouped(options: Mapping[str, Any], names: Names) -> Condition:
    """HogQL of ``item`` or of the first of the groups that it fits; in those ``*`` stands for anything."""
    item = "item"
    values: dict[str, str] = {}
    for one in reversed(options.get("pathGroupings") or ()):
        regex, group = names(), names()
        values |= {regex: re.escape(one).replace(r"\*", ".*"), group: one}
        item = f"match(item, {{{regex}}}), {{{group}}}, {item}"
    return Condition(f"multiIf({item})" if values else item, values)


# ------------------------------------------------------------------------------------------------------------ the paths


def _edges(options: Mapping[str, Any], where: Condition, names: Names) -> Condition:
    """HogQL of the edges: source, target, how often, and milliseconds on average."""
    excluded = names()
    item, cleaned, grouped = _item(options, names), _cleanings(options, names), _grouped(options, names)
    paths, values = _ends(options, names)
    selects = [
        f"SELECT person_id, {_MOMENT} AS moment, toString(uuid) AS id, {item.hogql} AS item FROM events "
        f"WHERE {where.hogql}",
        *(f"SELECT person_id, moment, id, {one.hogql} AS item FROM {{}}" for one in cleaned),
        f"SELECT person_id, moment, id, {grouped.hogql} AS item FROM {{}}",
        "SELECT arraySort(groupArray((moment, id, item))) AS visits FROM {} "
        f"WHERE NOT has({{{excluded}}}, item) GROUP BY person_id",
        f"SELECT arrayJoin(arraySplit((v, last) -> v.1 - last.1 >= {PAUSE * 1_000_000}, "
        "visits, arrayRotateRight(visits, 1))) AS path FROM {}",
        f"SELECT path, arrayPushBack(arrayPopFront({_ITEMS}), '') AS following FROM {{}}",
        "SELECT arrayFilter((v, next) -> v.3 != next, path, following) AS path FROM {}",
        *paths,
        "SELECT arrayPopBack(path) AS sources, arrayPopFront(path) AS targets FROM {}",
        "SELECT arrayJoin(arrayMap((a, b, i) -> (i, a.3, b.3, b.1 - a.1), "
        "sources, targets, arrayEnumerate(sources))) AS edge FROM {}",
        "SELECT concat(toString(edge.1), '_', edge.2) AS source, concat(toString(edge.1 + 1), '_', edge.3) AS target, "
        "edge.4 AS took FROM {}",
    ]
    last = len(selects) - 1
    # Placeholders are in braces as well, so the name of the step before is put in by replacing.
    steps = [f"step_{i} AS ({select.replace('{}', f'step_{i - 1}')})" for i, select in enumerate(selects)]
    return Condition(
        f"WITH {', '.join(steps)} SELECT source, target, count() AS weight, avg(took) / 1000 AS milliseconds "
        f"FROM step_{last} GROUP BY source, target HAVING {_weight(options)} "
        f"ORDER BY weight DESC, source, target LIMIT {_between(options, 'edgeLimit', DEFAULT_EDGES, MAX_EDGES)}",
        {
            **{name: value for one in (where, item, *cleaned, grouped) for name, value in one.values.items()},
            **values,
            # An array of constants needs an element to have a type; no item is this one.
            excluded: [*(options.get("excludeEvents") or ()), "\x00"],
        },
    )


def _ends(options: Mapping[str, Any], names: Names) -> tuple[list[str], dict[str, Any]]:
    """SELECTs that cut paths to where they begin and end, and to so many steps; and the values in them."""
    begin, end = options.get("startPoint"), options.get("endPoint")
    limit = _between(options, "stepLimit", DEFAULT_STEPS, MAX_STEPS)
    name, other = names(), names()
    index = f"indexOf({_ITEMS}, {{{name}}})"
    if begin and end:
        half = limit // 2
        middle = f"arrayConcat(arraySlice(path, 1, {half}), [(path[{half + 1}].1, '', '...')], "
        middle += f"arraySlice(path, -{half}))" if half else "arrayResize(path, 0))"
        return [
            f"SELECT arraySlice(path, {index}) AS path FROM {{}} WHERE {index} > 0",
            f"SELECT path, indexOf({_ITEMS}, {{{other}}}) AS last FROM {{}}",
            "SELECT arraySlice(path, 1, last) AS path FROM {} WHERE last > 0",
            f"SELECT if(length(path) > {limit}, {middle}, path) AS path FROM {{}}",
        ], {name: begin, other: end}
    if begin:
        return [
            f"SELECT arraySlice(path, {index}, {limit}) AS path FROM {{}} WHERE {index} > 0",
        ], {name: _without_slash(begin)}
    if end:
        return [
            f"SELECT arraySlice(path, 1, {index}) AS path FROM {{}} WHERE {index} > 0",
            f"SELECT arraySlice(path, -{limit}) AS path FROM {{}}",
        ], {name: _without_slash(end)}
    return [f"SELECT arraySlice(path, 1, {limit}) AS path FROM {{}}"], {}


def _without_slash(point: str) -> str:
    return point[:-1] if len(point) > 1 and point.endswith("/") else point


def _between(options: Mapping[str, Any], key: str, default: int, most: int) -> int:
    number = int(options.get(key) or default)
    if not 1 <= number <= most:
        raise errors.validation(f"{key} is 1 to {most}.")
    return number


def _weight(options: Mapping[str, Any]) -> str:
    least, most = int(options.get("minEdgeWeight") or 0), int(options.get("maxEdgeWeight") or 0)
    return " AND ".join([f"weight >= {least}", *([f"weight <= {most}"] if most else [])])


def _reachable(rows: Sequence[Sequence[Any]]) -> list[Sequence[Any]]:
    """The edges that can be reached from a first step by edges that are there."""
    targets: dict[str, list[str]] = {}
    for source, target, *_ in rows:
        targets.setdefault(source, []).append(target)
    waiting = [source for source in targets if source.startswith("1_")]
    seen: set[str] = set()
    while waiting:
        if (node := waiting.pop()) not in seen:
            seen.add(node)
            waiting += targets.get(node, [])
    return [row for row in rows if row[0] in seen]
