"""Persons, groups and cohort members for the REST API, read from the engine through HogQL.

`condition` turns PostHog's property filters into HogQL. Texts become literals in one place (`_literal`), keys
become names in one place (`schema.hogql_name`), so no filter can say more than it should.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol
from uuid import UUID

from . import errors
from .schema import hogql_name, quote_literal
from .wire import Request

__all__ = ["People", "condition"]

PAGE = 100
_NUMBER_OPERATORS = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
_DATE_OPERATORS = {"is_date_before": "<", "is_date_after": ">"}


class RunsHogQL(Protocol):
    """Runs a HogQL query of the server's own."""

    def rows(self, hogql: str, values: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """Return the rows as dicts."""


def _literal(value: Any) -> str:
    """Print a JSON value as the text that ``toString()`` makes of it, without NUL, which HogQL cannot say."""
    if isinstance(value, bool):
        return "'true'" if value else "'false'"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return quote_literal(str(value).replace("\0", ""))


def _like(value: Any) -> str:
    text = str(value).replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return _literal(f"%{text}%")


def _number(value: Any) -> str:
    try:
        return repr(float(value))
    except (TypeError, ValueError):
        raise errors.validation(f"{value!r} is no number to compare with.") from None


def condition(filters: Any) -> str:
    """Return the HogQL condition on ``persons`` that property filters stand for.

    Args:
        filters: One filter, a list of them (all must hold), or ``{"type": "AND" or "OR", "values": [...]}``.

    Raises:
        ApiError: 400 for what is no filter, or is one that the embedded server does not have.
    """
    if isinstance(filters, Sequence) and not isinstance(filters, str):
        return _joined(filters, "AND")
    if not isinstance(filters, Mapping):
        raise errors.validation(f"Properties are unparsable: {filters!r} is no filter.")
    if "values" in filters:
        return _joined(filters["values"], str(filters.get("type", "AND")).upper())
    text = _one(filters)
    return f"NOT ({text})" if filters.get("negation") else text


def _joined(filters: Any, operator: str) -> str:
    if operator not in ("AND", "OR") or not isinstance(filters, Sequence):
        raise errors.validation('A filter group needs a type of "AND" or "OR" and a list of values.')
    return f" {operator} ".join(f"({condition(entry)})" for entry in filters) or "1 = 1"


def _one(entry: Mapping[str, Any]) -> str:
    kind = entry.get("type", "person")
    key = entry.get("key")
    if kind == "cohort" and isinstance(entry.get("value"), int):
        return f"id IN COHORT {int(entry['value'])}"
    if kind == "hogql" and isinstance(key, str):
        return key
    if kind != "person":
        raise errors.validation(f"The embedded server does not have property filters of type {kind!r} on persons.")
    if not isinstance(key, str) or not key:
        raise errors.validation("A property filter needs a key.", attr="key")
    return _comparison(f"properties.{hogql_name(key)}", entry.get("operator") or "exact", entry.get("value"))


def _comparison(name: str, operator: str, value: Any) -> str:
    text = f"toString({name})"
    values = value if isinstance(value, list) else [value]
    listed = ", ".join(map(_literal, values))
    unary = {"is_set": f"{name} IS NOT NULL", "is_not_set": f"{name} IS NULL"}
    if operator in unary:
        return unary[operator]
    if operator in _NUMBER_OPERATORS:
        return f"toFloat({text}) {_NUMBER_OPERATORS[operator]} {_number(value)}"
    if operator in _DATE_OPERATORS:
        return f"toDateTime({text}) {_DATE_OPERATORS[operator]} toDateTime({_literal(value)})"
    positive = {
        "exact": f"{text} IN ({listed})",
        "icontains": " OR ".join(f"{text} ILIKE {_like(entry)}" for entry in values),
        "regex": f"match({text}, {_literal(value)})",
    }
    if operator in positive:
        return positive[operator]
    opposite = {"is_not": "exact", "not_icontains": "icontains", "not_regex": "regex"}.get(operator)
    if opposite is None:
        raise errors.validation(f"The embedded server does not have the operator {operator!r}.")
    return f"{name} IS NULL OR NOT ({positive[opposite]})"


class People:
    """Answers the REST API's questions about persons and groups.

    Args:
        queries: Runs HogQL.
    """

    def __init__(self, queries: RunsHogQL) -> None:
        self._queries = queries

    def persons(self, request: Request, where: str = "1 = 1") -> dict[str, Any]:
        """Return a page of persons.

        Raises:
            ApiError: 400 for filters that cannot be understood.
        """
        conditions, values = self._asked(request)
        where = " AND ".join(f"({text})" for text in [where, *conditions])
        limit, offset = request.number("limit", 0) or PAGE, request.number("offset", 0)
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

    def properties_of(self, distinct_id: str) -> dict[str, Any]:
        """Return the properties of the person behind a distinct_id, empty when there is none."""
        found = self._queries.rows(
            "SELECT properties FROM persons WHERE id IN "
            "(SELECT person_id FROM person_distinct_ids WHERE distinct_id = {distinct_id}) LIMIT 1",
            {"distinct_id": distinct_id},
        )
        return _object(found[0]["properties"]) if found else {}

    def seen_properties(self, event_names: Sequence[str]) -> set[str]:
        """Return the names of the properties that the newest 10,000 of these events carry."""
        found = self._queries.rows(
            "SELECT DISTINCT arrayJoin(JSONExtractKeys(properties)) AS name FROM (SELECT properties FROM "
            "events WHERE event IN {names} ORDER BY timestamp DESC LIMIT 10000) LIMIT 50000",
            {"names": list(event_names)},
        )
        return {row["name"] for row in found}

    def groups(self, request: Request) -> dict[str, Any]:
        """Return a page of the groups of one type; the cursor is PostHog's kind, opaque to the caller.

        Raises:
            ApiError: 400 without ``group_type_index``.
        """
        index = self._group_index(request)
        offset = _read_cursor(request.param("cursor"))
        found = self._queries.rows(
            f"SELECT key, created_at, properties FROM groups WHERE index = {index} "
            "AND (key ILIKE {words} OR toString(properties.name) ILIKE {words}) "
            f"ORDER BY created_at DESC, key LIMIT {PAGE + 1} OFFSET {offset}",
            {"words": f"%{_like_words(request.param('search'))}%"},
        )
        following = request.url_with(cursor=_cursor(offset + PAGE)) if len(found) > PAGE else None
        previous = request.url_with(cursor=_cursor(max(0, offset - PAGE))) if offset else None
        groups = [_group(index, row) for row in found[:PAGE]]
        return {"next": following, "previous": previous, "results": groups}

    def group(self, request: Request) -> dict[str, Any]:
        """Return one group by ``group_type_index`` and ``group_key``.

        Raises:
            ApiError: 400 or 404.
        """
        index = self._group_index(request)
        found = self._queries.rows(
            f"SELECT key, created_at, properties FROM groups WHERE index = {index} AND key = {{key}} LIMIT 1",
            {"key": request.param("group_key")},
        )
        if not found:
            raise errors.not_found()
        return _group(index, found[0])

    def _group_index(self, request: Request) -> int:
        index = request.param("group_type_index")
        if index not in ("0", "1", "2", "3", "4"):
            detail = "You must pass ?group_type_index= in this request, a number from 0 to 4."
            raise errors.validation(detail, attr="group_type_index")
        return int(index)

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
            values["search"] = f"%{_like_words(search)}%"
        if properties := request.param("properties"):
            try:
                conditions.append(condition(json.loads(properties)))
            except ValueError:
                raise errors.validation("Properties are unparsable!", attr="properties") from None
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
    properties = _object(row["properties"])
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


def _group(index: int, row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "group_type_index": index,
        "group_key": row["key"],
        "group_properties": _object(row["properties"]),
        "created_at": row["created_at"],
    }


def _object(text: Any) -> dict[str, Any]:
    parsed = json.loads(text) if isinstance(text, str) and text else text
    return parsed if isinstance(parsed, dict) else {}


def _like_words(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def _cursor(offset: int) -> str:
    return base64.urlsafe_b64encode(f"o={offset}".encode()).decode()


def _read_cursor(cursor: str) -> int:
    try:
        text = base64.urlsafe_b64decode(cursor).decode()
        return int(text.removeprefix("o=")) if text else 0
    except ValueError:
        raise errors.not_found("Invalid cursor") from None
