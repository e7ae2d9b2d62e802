"""Persons for the REST API, read from the engine through HogQL."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID
from zoneinfo import ZoneInfo

from . import errors
from .conditions import Condition, Names, Scope
from .parser import HogQLError
from .property_filters import condition
from .schema import Catalog, hogql_name
from .wire import Request

__all__ = ["PAGE", "People", "RunsHogQL", "asked_filters", "contains", "json_object", "page_body", "property_values"]

PAGE = 100
"""Entries on a page."""

MAX_PAGE = 1000
_VALUES = 10


class RunsHogQL(Protocol):
    """Runs a HogQL query of the server's own."""

    def rows(self, hogql: str, values: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """Return the rows as dicts."""


def asked_filters(text: str, kind: str, catalog: Catalog) -> Condition:
    """Return the condition of a query parameter ``properties``.

    Args:
        text: JSON.
        kind: What it filters: ``event``, ``person`` or ``group``.
        catalog: Types of properties, the time zone, cohorts.

    Raises:
        ApiError: 400 for what is no filter, or is one that the embedded server does not have.
    """
    try:
        filters = json.loads(text)
    except ValueError:
        raise errors.validation("Properties are unparsable!", attr="properties") from None
    now = datetime.now(ZoneInfo(catalog.timezone))
    try:
        return condition(_of(kind, filters), Scope(kind, catalog, now, Names("filter")))
    except HogQLError as problem:
        raise errors.validation(problem.message, attr="properties") from None


def _of(kind: str, filters: Any) -> Any:
    """Say of filters without a type that they are of the kind of the list."""
    if isinstance(filters, list):
        return [_of(kind, entry) for entry in filters]
    if not isinstance(filters, dict):
        return filters
    if isinstance(filters.get("values"), list):
        return {**filters, "values": _of(kind, filters["values"])}
    return {"type": kind, **filters}


class People:
    """Answers the REST API's questions about persons.

    Args:
        queries: Runs HogQL.
        catalog: Gives the project's catalog as it is now.
    """

    def __init__(self, queries: RunsHogQL, catalog: Callable[[], Catalog]) -> None:
        self._queries = queries
        self._catalog = catalog

    def persons(self, request: Request, where: str = "1 = 1") -> dict[str, Any]:
        """Return a page of persons.

        Raises:
            ApiError: 400 for filters that cannot be understood.
        """
        conditions, values = self._asked(request)
        where = " AND ".join(f"({text})" for text in [where, *conditions])
        limit, offset = min(request.number("limit", 0) or PAGE, MAX_PAGE), request.number("offset", 0)
        count = self._queries.rows(f"SELECT count() AS n FROM persons WHERE {where}", values)[0]["n"]
        found = self._queries.rows(
            "SELECT id, created_at, properties, is_identified FROM persons "
            f"WHERE {where} ORDER BY created_at DESC, id LIMIT {limit} OFFSET {offset}",
            values,
        )
        return page_body(request, self._shown(found), count, limit, offset)

    def person(self, key: str) -> dict[str, Any]:
        """Return one person by UUID.

        Raises:
            ApiError: 404.
        """
        try:
            person_id = str(UUID(key))
        except ValueError:
            raise errors.not_found() from None
        found = self._queries.rows(
            "SELECT id, created_at, properties, is_identified FROM persons WHERE id = toUUID({id}) LIMIT 1",
            {"id": person_id},
        )
        if not found:
            raise errors.not_found()
        return self._shown(found)[0]

    def seen_properties(self, event_names: Sequence[str]) -> set[str]:
        """Return the names of the properties that the newest 10,000 of these events carry."""
        found = self._queries.rows(
            "SELECT DISTINCT arrayJoin(JSONExtractKeys(properties)) AS name FROM (SELECT properties FROM "
            "events WHERE event IN {names} ORDER BY timestamp DESC LIMIT 10000) LIMIT 50000",
            {"names": list(event_names)},
        )
        return {row["name"] for row in found}

    def _asked(self, request: Request) -> tuple[list[str], dict[str, Any]]:
        """Return the conditions of a request's filters, and the values that they bind."""
        conditions, values = [], {}
        by_distinct_id = "id IN (SELECT person_id FROM person_distinct_ids WHERE distinct_id {test})"
        if distinct_id := request.param("distinct_id"):
            conditions.append(by_distinct_id.format(test="= {distinct_id}"))
            values["distinct_id"] = distinct_id
        if email := request.param("email"):
            conditions.append("toString(properties.email) = {email}")
            values["email"] = email
        if search := request.param("search"):
            texts = " OR ".join(
                f"toString({name}) ILIKE {{search}}" for name in ("properties.email", "properties.name", "id")
            )
            conditions.append(f"{texts} OR {by_distinct_id.format(test='ILIKE {search}')}")
            values["search"] = contains(search)
        if properties := request.param("properties"):
            found = asked_filters(properties, "person", self._catalog())
            conditions.append(found.hogql)
            values.update(found.values)
        return conditions, values

    def _shown(self, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        ids = [row["id"] for row in rows]
        named: dict[str, list[str]] = {}
        if ids:
            found = self._queries.rows(
                "SELECT person_id, groupArray(distinct_id) AS distinct_ids FROM person_distinct_ids "
                "WHERE toString(person_id) IN {ids} GROUP BY person_id LIMIT 50000",
                {"ids": ids},
            )
            named = {row["person_id"]: row["distinct_ids"] for row in found}
        return [_person(row, sorted(named.get(row["id"], []))) for row in rows]


def page_body(request: Request, results: list[Any], count: int, limit: int, offset: int) -> dict[str, Any]:
    """Return the body of a limit/offset page, with absolute links as Django REST framework makes them."""
    following = request.url_with(limit=limit, offset=offset + limit) if offset + limit < count else None
    previous = request.url_with(limit=limit, offset=max(0, offset - limit)) if offset else None
    return {"count": count, "next": following, "previous": previous, "results": results}


def _person(row: Mapping[str, Any], distinct_ids: list[str]) -> dict[str, Any]:
    properties = json_object(row["properties"])
    name = properties.get("email") or properties.get("name") or (distinct_ids or [row["id"]])[0]
    return {
        "id": row["id"],
        "uuid": row["id"],
        "name": str(name),
        "distinct_ids": distinct_ids,
        "properties": properties,
        "created_at": row["created_at"],
        "is_identified": bool(row["is_identified"]),
    }


def property_values(
    queries: RunsHogQL, source: str, request: Request, *, where: Condition | None = None
) -> list[dict[str, Any]]:
    """Return the most frequent values of the property that ``key`` names, with ``value`` in them.

    Args:
        queries: Runs HogQL.
        source: The table, or a sub-query with ``properties``.
        request: What is asked.
        where: Which rows count.

    Raises:
        ApiError: 400 without a key.
    """
    key = request.param("key")
    if not key:
        raise errors.validation("Missing `key` parameter.", "required", "key")
    name = f"properties.{hogql_name(key)}"
    condition = where.hogql if where else "1 = 1"
    values = {**(where.values if where else {}), "words": contains(request.param("value"))}
    found = queries.rows(
        f"SELECT toString({name}) AS name, count() AS count FROM {source} WHERE {name} IS NOT NULL AND ({condition}) "
        f"AND toString({name}) ILIKE {{words}} GROUP BY name ORDER BY count DESC, name LIMIT {_VALUES}",
        values,
    )
    return [{"name": row["name"], "count": row["count"]} for row in found]


def json_object(text: Any) -> dict[str, Any]:
    """Return the object that a JSON text of the engine's is, empty for anything else."""
    parsed = json.loads(text) if isinstance(text, str) and text else text
    return parsed if isinstance(parsed, dict) else {}


def contains(words: str) -> str:
    """Return the pattern of LIKE for texts with these words in them."""
    escaped = words.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"
