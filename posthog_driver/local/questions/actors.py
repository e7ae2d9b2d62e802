"""ActorsQuery: a list of persons or groups, all of them or those behind a number of an insight."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .. import errors
from ..property_filters import TRUE, Condition, Names, Scope, condition, joined
from .actor_sources import Source, source_of
from .base import Asks, both
from .listing import Column, Expression, Page, first_number, ordered, selected, table

__all__ = ["answer"]

ACTOR_COLUMNS = ("actor", "person", "group")
DELETE = "person.$delete"
"""A column that only makes room for a button in PostHog's own tables; its value is 1."""


@dataclass(frozen=True)
class _Kind:
    """Persons or the groups of one type: the table, the column that names one, the column that gives one in full."""

    table: str
    key: str
    column: str
    name_property: str


_PERSONS = _Kind("persons", "id", "person", "email")
_GROUPS = _Kind("groups", "key", "group", "name")


def answer(query: Mapping[str, Any], asks: Asks) -> dict[str, Any]:
    """Answer an ActorsQuery.

    Raises:
        ApiError: 400, it asks for something that is not served.
        HogQLError: A column, order or filter is no HogQL.
    """
    names = Names("actors")
    page = Page.of(query)
    source = source_of(query["source"], asks, names) if query.get("source") else None
    index = source.group_type_index if source else None
    kind = _PERSONS if index is None else _GROUPS
    asked = query.get("select") or _default_columns(kind, source)
    columns = [_column(text, kind) for text in asked]
    shown, groups = selected(columns)
    where = _conditions(query, kind, index, asks, names)
    order = _order(query, kind, columns)
    found = asks.ask(
        f"SELECT {shown} FROM {_from(kind, source)} WHERE {where.hogql} {groups} {order} {page.clause}",
        where,
        *([source.query] if source else []),
    )
    rows, facts = page.cut(found.rows)
    made, types = table(columns, rows, found.types)
    places = [place for place, text in enumerate(asked) if text in ACTOR_COLUMNS]
    missing = _add_actors(made, places, kind, index, asks) if places else None
    return {"results": made, "columns": list(asked), "types": types, **facts, "missing_actors_count": missing}


def _default_columns(kind: _Kind, source: Source | None) -> list[str]:
    if kind is _GROUPS:
        return ["group"]
    return ["person", "id", DELETE, *(["event_distinct_ids"] if source and source.is_trend else [])]


def _column(text: str, kind: _Kind) -> Column:
    if text == DELETE:
        return Column(text, (), lambda _: 1, lambda _: "UInt8")
    if text == "matched_recordings":
        raise errors.validation("The embedded server does not have matched_recordings.")
    if text in ("actor", kind.column):
        return Column(text, (Expression(f"{kind.table}.{kind.key}", False),))
    return Column.parse(text)


def _from(kind: _Kind, source: Source | None) -> str:
    if source is None:
        return kind.table
    return f"({source.query.hogql}) AS source INNER JOIN {kind.table} ON {kind.table}.{kind.key} = source.actor_id"


def _conditions(query: Mapping[str, Any], kind: _Kind, index: int | None, asks: Asks, names: Names) -> Condition:
    scope = Scope("person" if index is None else "group", asks.catalog, asks.now, names)
    parts = [condition(query.get("properties"), scope), condition(query.get("fixedProperties"), scope)]
    if index is not None:
        parts.append(Condition(f"index = {index:d}"))
    if query.get("search"):
        parts.append(_search(query["search"], kind, names))
    return both(*parts) if parts else TRUE


def _search(text: str, kind: _Kind, names: Names) -> Condition:
    name = names()
    texts = ["toString(properties.name)", f"toString({kind.table}.{kind.key})"]
    found = [f"{column} ILIKE {{{name}}}" for column in texts]
    if kind is _PERSONS:
        found.append(f"toString(properties.email) ILIKE {{{name}}}")
        found.append(f"persons.id IN (SELECT person_id FROM person_distinct_ids WHERE distinct_id ILIKE {{{name}}})")
    return joined([Condition(one, {name: f"%{text}%"}) for one in found], "OR")


def _order(query: Mapping[str, Any], kind: _Kind, columns: Sequence[Column]) -> str:
    """The order asked for, or the first number, the newest actors, or the first column."""
    given = query.get("orderBy")
    if given is not None:
        first, *direction = (given[0].split() if len(given) == 1 else []) or [""]
        if first == kind.column:
            return ordered([" ".join([f"properties.{kind.name_property}", *direction])])
        return ordered(given)
    if number := first_number(columns):
        return f"ORDER BY {number} DESC"
    if any(column.name == "created_at" for column in columns):
        return "ORDER BY created_at DESC"
    parts = [part for column in columns for part in column.parts]
    return f"ORDER BY {parts[0].reference}" if parts else ""


# ---------------------------------------------------------------------------------------------------- actors in full


def _add_actors(rows: list[list[Any]], places: Sequence[int], kind: _Kind, index: int | None, asks: Asks) -> int:
    """Put the actors in the place of their keys; return how many were not found."""
    wanted = sorted({str(row[place]) for row in rows for place in places})
    if not wanted:
        return 0
    found = _groups(wanted, index, asks) if kind is _GROUPS else _persons(wanted, asks)
    for row in rows:
        for place in places:
            row[place] = found.get(str(row[place]), {"id": row[place]})
    return len(wanted) - len(found)


def _persons(wanted: Sequence[str], asks: Asks) -> dict[str, dict[str, Any]]:
    ids = asks.ask(
        "SELECT toString(person_id) AS id, arraySort(groupArray(distinct_id)) FROM person_distinct_ids "
        "WHERE id IN {wanted} GROUP BY id",
        values={"wanted": wanted},
    ).rows
    distinct_ids = dict(ids)
    rows = asks.ask(
        "SELECT toString(id) AS text, properties, is_identified, created_at FROM persons WHERE text IN {wanted}",
        values={"wanted": wanted},
    ).rows
    return {
        key: {
            "id": key,
            "properties": json.loads(properties or "{}"),
            "is_identified": bool(is_identified),
            "created_at": created_at,
            "distinct_ids": distinct_ids.get(key, []),
        }
        for key, properties, is_identified, created_at in rows
    }


def _groups(wanted: Sequence[str], index: int | None, asks: Asks) -> dict[str, dict[str, Any]]:
    rows = asks.ask(
        "SELECT key, properties, created_at FROM groups WHERE index = {index} AND key IN {wanted}",
        values={"wanted": wanted, "index": index},
    ).rows
    return {
        key: {
            "id": key,
            "type": "group",
            "properties": json.loads(properties or "{}"),
            "group_key": key,
            "group_type_index": index,
            "created_at": created_at,
            "group_properties": json.loads(properties or "{}"),
        }
        for key, properties, created_at in rows
    }
