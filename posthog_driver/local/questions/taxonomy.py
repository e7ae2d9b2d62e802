"""What a project captures: its events, their properties, and values of them, as PostHog tells its assistant."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

from .. import errors
from ..actions import action_condition
from ..property_filters import Condition, Names, Scope, joined
from ..schema import hogql_name
from .base import Asks, event_scope, in_range
from .listing import Page

__all__ = ["actors_property_taxonomy", "event_taxonomy", "property_values", "team_taxonomy"]

NOISE_EVENTS = (
    "$pageleave",
    "$autocapture",
    "$$heatmap",
    "$copy_autocapture",
    "$set",
    "$opt_in",
    "$feature_flag_called",
    "$feature_view",
    "$feature_interaction",
    "$element_viewed",
    "$capture_metrics",
    "$create_alias",
    "$merge_dangerously",
    "$groupidentify",
    "mcp_tool_call",
    "mcp_tools_list",
    "mcp_initialize",
)
"""Events that PostHog does not tell its assistant (``posthog/taxonomy/taxonomy.py``, ``ignored_in_assistant``)."""

NOISE_PROPERTIES = (
    r"(\$set|\$time|\$set_once|\$sent_at|distinct_id|\$ip|\$feature\/|\$feature_enrollment\/|\$feature_interaction\/"
    r"|\$product_tour|__|survey_dismiss|survey_responded|phjs|partial_filter_chosen|changed_action|window-id"
    r"|changed_event|partial_filter)"
)
"""Event properties that it does not tell (``posthog/hogql_queries/ai/event_taxonomy_query_runner.py``)."""

DAYS = 30
"""Days of events that count."""

DEFAULT_LIMIT = 500
SAMPLE_EVENTS = 100
"""Newest events whose properties are read when none are asked for by name."""

MAX_PROPERTIES = 200
"""Most properties of actors in one question."""


def team_taxonomy(query: Mapping[str, Any], asks: Asks) -> dict[str, Any]:
    """Answer a TeamTaxonomyQuery: the events of the last 30 days with their counts, most frequent first."""
    page = Page.of(query, DEFAULT_LIMIT)
    rows = asks.ask(
        "SELECT event, count() AS number FROM events "
        f"WHERE timestamp >= now() - INTERVAL {DAYS} DAY AND event NOT IN {{noise}} "
        f"GROUP BY event ORDER BY number DESC, event {page.clause}",
        values={"noise": list(NOISE_EVENTS)},
    ).rows
    shown, facts = page.cut(rows)
    return {"results": [{"event": event, "count": count} for event, count in shown], **facts}


def event_taxonomy(query: Mapping[str, Any], asks: Asks) -> dict[str, Any]:
    """Answer an EventTaxonomyQuery: the properties of an event or action with sample values of each."""
    page, scope = Page.of(query, DEFAULT_LIMIT), event_scope(asks, Names())
    event = _event(query, asks, scope)
    properties = query.get("properties")
    rows = asks.ask(
        "SELECT name, arraySlice(groupArray(value), 1, {most}), count() AS number "
        f"FROM ({(_NAMED if properties else _NEWEST).format(event=event.hogql)}) "
        f"GROUP BY name ORDER BY number DESC, name {page.clause}",
        event,
        values={
            "most": query.get("maxPropertyValues") or 5,
            **({"properties": properties} if properties else {"noise": NOISE_PROPERTIES}),
        },
    ).rows
    shown, facts = page.cut(rows)
    return {
        "results": [
            {"property": name, "sample_values": values, "sample_count": count} for name, values, count in shown
        ],
        **facts,
    }


_NEWEST = f"""
SELECT kv.1 AS name, kv.2 AS value FROM (
    SELECT arrayJoin(JSONExtractKeysAndValues(properties, 'String')) AS kv, timestamp FROM (
        SELECT properties, timestamp FROM events WHERE {{event}} ORDER BY timestamp DESC LIMIT {SAMPLE_EVENTS}
    )
)
WHERE NOT match(name, {{{{noise}}}})
GROUP BY name, value ORDER BY max(timestamp) DESC, value
"""
"""Distinct values of the newest events, those seen last first."""

_NAMED = """
SELECT kv.1 AS name, kv.2 AS value FROM (
    SELECT arrayJoin(arrayMap(name -> (name, JSONExtractString(properties, name)), {{properties}})) AS kv
    FROM events WHERE {event}
)
WHERE value != ''
GROUP BY name, value ORDER BY count() DESC, value
"""
"""Distinct values of the properties named, the most frequent first."""


def _event(query: Mapping[str, Any], asks: Asks, scope: Scope) -> Condition:
    recent = Condition(f"timestamp >= now() - INTERVAL {DAYS} DAY")
    if query.get("event"):
        name = scope.names()
        return joined([recent, Condition(f"event = {{{name}}}", {name: query["event"]})])
    if query.get("actionId"):
        return joined([recent, action_condition(asks.action(query["actionId"]), scope)])
    raise errors.validation("Either event or action ID must be provided.")


def actors_property_taxonomy(query: Mapping[str, Any], asks: Asks) -> dict[str, Any]:
    """Answer an ActorsPropertyTaxonomyQuery: sample values of properties of persons or groups, in the order asked."""
    properties = query["properties"][:MAX_PROPERTIES]
    results: list[dict[str, Any]] = [{"sample_values": [], "sample_count": 0} for _ in query["properties"]]
    if not properties:
        return {"results": results}
    index = query.get("groupTypeIndex")
    source = "persons" if index is None else f"groups WHERE index = {index:d}"
    values = ", ".join(f"toString(properties.{hogql_name(name)})" for name in properties)
    rows = asks.ask(
        "SELECT place, arraySlice(groupArray(value), 1, {most}), count() FROM ("
        "SELECT place, value FROM ("
        "SELECT created_at, arrayJoin(arrayEnumerate(found)) AS place, found[place] AS value FROM ("
        f"SELECT created_at, [{values}] AS found FROM {source})"
        ") WHERE value IS NOT NULL GROUP BY place, value ORDER BY max(created_at) DESC, value"
        ") GROUP BY place ORDER BY place",
        values={"most": query.get("maxPropertyValues") or 5},
    ).rows
    for place, samples, count in rows:
        results[place - 1] = {"sample_values": samples, "sample_count": count}
    return {"results": results}


MAX_EVENT_VALUES = 10
MAX_PERSON_VALUES = 20


def property_values(query: Mapping[str, Any], asks: Asks) -> dict[str, Any]:
    """Answer a PropertyValuesQuery: values to choose from, for events of the last week or for persons."""
    is_event = query["property_type"] == "event"
    key = query["property_key"]
    is_column = query.get("is_column") or key.startswith("$virt_")
    field = hogql_name(key) if is_column else f"properties.{hogql_name(key)}"
    names = Names()
    conditions = [Condition("value IS NOT NULL")]
    if search := query.get("search_value"):
        conditions.append(_like(search, names))
    wanted = joined(conditions)
    if not is_event:
        rows = asks.ask(
            f"SELECT toString({field}) AS value, count() AS number FROM persons WHERE {wanted.hogql} "
            f"GROUP BY value ORDER BY number DESC, value LIMIT {MAX_PERSON_VALUES}",
            wanted,
        ).rows
        return {"results": [{"name": _shown(_parsed(value)), "count": count} for value, count in rows]}
    first = (asks.now - timedelta(days=7)).replace(hour=0, minute=0, second=0, microsecond=0)
    last = asks.now.replace(hour=23, minute=59, second=59, microsecond=0)
    events = [in_range(first, last, names)]
    if query.get("event_names"):
        name = names()
        events.append(Condition(f"event IN {{{name}}}", {name: query["event_names"]}))
    among = joined([*events, wanted])
    order = "length(value), value" if search else "value"
    rows = asks.ask(
        f"SELECT DISTINCT toString({field}) AS value FROM events WHERE {among.hogql} "
        f"ORDER BY {order} LIMIT {MAX_EVENT_VALUES}",
        among,
    ).rows
    return {"results": [{"name": _shown(value)} for (text,) in rows for value in _flat(_parsed(text))]}


def _like(search: str, names: Names) -> Condition:
    name = names()
    escaped = search.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return Condition(f"value ILIKE {{{name}}}", {name: f"%{escaped}%"})


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _flat(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        for item in value:
            yield from _flat(item)
    else:
        yield value


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
