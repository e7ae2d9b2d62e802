"""EventsQuery: a list of events, or of numbers about them, one row for each."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from .. import errors
from ..actions import action_condition
from ..dates import parse_date
from ..property_filters import TRUE, Condition, Names, Scope, condition
from ..schema import Action
from .base import Asks, both, event_scope, filters, refuse
from .listing import Column, Expression, Page, conditions_of, first_number, ordered, selected, table

__all__ = ["answer"]

DEFAULT_AFTER = "-24h"
EVENT_FIELDS = (
    "uuid",
    "event",
    "properties",
    "timestamp",
    "team_id",
    "distinct_id",
    "elements_chain",
    "created_at",
    "person_mode",
)
"""What an event in full (``*``) is made of, as PostHog's ``events_query_runner.py`` lists it."""

DISPLAY_NAMES = ("email", "Email", "$email", "name", "Name", "username", "Username", "UserName")
"""Properties of a person that can be what it is called by (``posthog/api/person.py``)."""


def answer(query: Mapping[str, Any], asks: Asks) -> dict[str, Any]:
    """Answer an EventsQuery.

    Raises:
        ApiError: 400, a date is none, or something is asked for that is not served here.
        HogQLError: A column, condition or order is no HogQL.
    """
    refuse(query, "source")
    page, scope = Page.of(query), event_scope(asks, Names())
    columns = [_column(text, asks) for text in query["select"] or ["*"]]
    shown, groups = selected(columns)
    where, having = _conditions(query, asks, scope)
    order = ordered(query["orderBy"]) if query.get("orderBy") is not None else _order(columns)
    found = asks.ask(
        f"SELECT {shown} FROM events WHERE {where.hogql} {groups} "
        f"{f'HAVING {having.hogql}' if having != TRUE else ''} {order} {page.clause}",
        where,
        having,
    )
    rows, facts = page.cut(found.rows)
    made, types = table(columns, rows, found.types)
    _add_persons(made, [index for index, column in enumerate(columns) if _is(column.name, "person")], asks)
    return {
        "results": made,
        "columns": [column.name for column in columns],
        "types": types,
        **facts,
        "nextCursor": _cursor(query, columns, made) if facts["hasMore"] else None,
    }


def _is(text: str, name: str) -> bool:
    """Whether a column is the one of that name; what follows ``--`` is a label."""
    return text.split("--")[0].strip() == name


def _column(text: str, asks: Asks) -> Column:
    if text == "*":
        stored = [name for name in EVENT_FIELDS if name != "team_id"]
        return Column(
            text,
            tuple(Expression.parse(name) for name in stored),
            lambda values: _event(dict(zip(stored, values, strict=True)), asks.catalog.team_id),
            lambda types: f"Tuple({', '.join([*types[:4], 'Int32', *types[4:]])})",
        )
    if _is(text, "person"):
        return Column(text, (Expression.parse("distinct_id"),))
    if _is(text, "person_display_name"):
        named = ", ".join(f"nullIf(toString(person.properties.{name}), '')" for name in DISPLAY_NAMES)
        read = (f"coalesce({named}, distinct_id)", "toString(person.id)", "distinct_id")
        return Column(
            text,
            tuple(Expression.parse(part) for part in read),
            lambda values: dict(zip(("display_name", "id", "distinct_id"), values, strict=True)),
            lambda types: f"Tuple({', '.join(types)})",
        )
    return Column.parse(text)


def _order(columns: Sequence[Column]) -> str:
    """The order of a query that names none: the first number, the newest events, or the first column."""
    if number := first_number(columns):
        return f"ORDER BY {number} DESC"
    if any(column.name == "timestamp" for column in columns):
        return "ORDER BY timestamp DESC"
    return f"ORDER BY {', '.join(part.reference for part in columns[0].parts)}"


def _conditions(query: Mapping[str, Any], asks: Asks, scope: Scope) -> tuple[Condition, Condition]:
    rows, groups = conditions_of(query.get("where") or ())
    rows += [filters(query, scope), condition(query.get("fixedProperties"), scope)]
    if names := [name for name in (query.get("event"), *(query.get("events") or ())) if name]:
        placeholder = scope.names()
        rows.append(Condition(f"event IN {{{placeholder}}}", {placeholder: names}))
    if query.get("actionId"):
        rows.append(action_condition(asks.action(query["actionId"]), scope))
    elif query.get("actionSteps"):
        rows.append(action_condition(Action(0, "", tuple(query["actionSteps"])), scope))
    if query.get("personId"):
        placeholder = scope.names()
        rows.append(Condition(f"toString(person_id) = {{{placeholder}}}", {placeholder: query["personId"].lower()}))
    before = _date(query["before"], asks) if query.get("before") else asks.now + timedelta(seconds=5)
    rows.append(_bound("<", before, scope))
    if (after := query.get("after") or DEFAULT_AFTER) != "all":
        rows.append(_bound(">", _date(after, asks), scope))
    return both(*rows), both(*groups)


def _bound(operator: str, moment: datetime, scope: Scope) -> Condition:
    name = scope.names()
    text = moment.replace(tzinfo=None).isoformat(" ", "microseconds")
    return Condition(f"timestamp {operator} toDateTime({{{name}}})", {name: text})


def _date(text: str, asks: Asks) -> datetime:
    try:
        return parse_date(text, asks.now, exact=True)
    except ValueError as error:
        raise errors.validation(str(error)) from None


def _cursor(query: Mapping[str, Any], columns: Sequence[Column], rows: list[list[Any]]) -> str | None:
    """The time of the last row, where a list in the order of time goes on."""
    first = (query.get("orderBy") or ["timestamp"])[0].split()
    if first[:1] != ["timestamp"] or any(part.aggregates for column in columns for part in column.parts):
        return None
    for index, column in enumerate(columns):
        if column.name == "*":
            return str(rows[-1][index]["timestamp"])
        if _is(column.name, "timestamp"):
            return str(rows[-1][index])
    return None


# ------------------------------------------------------------------------------------------------- events and persons


def _event(fields: dict[str, Any], team_id: int) -> dict[str, Any]:
    """An event as PostHog writes it out."""
    event = {name: {"team_id": team_id, **fields}[name] for name in EVENT_FIELDS}
    event["properties"] = json.loads(event["properties"] or "{}")
    if event["elements_chain"]:
        event["elements"] = elements(event["elements_chain"])
    return event


_ELEMENT = re.compile(r'(?:[^;"]|"(?:\\.|[^"\\])*")+')
_HEAD = re.compile(r'((?:[^:"]|::)*)(?::|$)')
_ATTRIBUTE = re.compile(r'([^"=]*?)="((?:\\.|[^"\\])*)"')


def elements(chain: str) -> list[dict[str, Any]]:
    """Return the elements of an ``elements_chain``, the clicked one first, as PostHog's API writes them.

    An element is ``tag.class.class:name="value"name="value"``; elements are joined by semicolons.
    """
    found = []
    for order, text in enumerate(_ELEMENT.findall(chain)):
        head = _HEAD.match(text)
        tag, *classes = (head[1] if head else text).split(".")
        attributes = {
            name: re.sub(r"\\(.)", r"\1", value)
            for name, value in _ATTRIBUTE.findall(text[head.end() :] if head else "")
        }
        places = {name: attributes.pop(name.replace("_", "-"), None) for name in ("nth_child", "nth_of_type")}
        found.append(
            {
                "text": attributes.pop("text", None),
                "tag_name": tag or None,
                "attr_class": [name for name in classes if name] or None,
                "href": attributes.pop("href", None),
                "attr_id": attributes.pop("attr_id", None),
                **{name: int(value) if value and value.isdigit() else None for name, value in places.items()},
                "attributes": attributes,
                "order": order,
            }
        )
    return found


def _add_persons(rows: list[list[Any]], places: Sequence[int], asks: Asks) -> None:
    """Put the persons in the place of their distinct ids."""
    wanted = sorted({row[place] for row in rows for place in places})
    if not wanted:
        return
    found = asks.ask(
        "SELECT distinct_id, toString(person.id), person.created_at, person.properties FROM person_distinct_ids "
        "WHERE distinct_id IN {wanted}",
        values={"wanted": wanted},
    ).rows
    persons = {
        distinct_id: {
            "uuid": uuid,
            "created_at": created_at,
            "properties": json.loads(properties or "{}"),
            "distinct_id": distinct_id,
        }
        for distinct_id, uuid, created_at, properties in found
        if created_at is not None
    }
    for row in rows:
        for place in places:
            row[place] = persons.get(row[place], {"distinct_id": row[place]})
