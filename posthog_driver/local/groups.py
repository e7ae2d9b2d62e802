"""Groups for the REST API: listed, found, described, made and changed."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from typing import Any

from . import errors
from .conditions import Condition
from .identities import Identities
from .ingest import stored_group
from .people import PAGE, RunsHogQL, contains, json_object, property_values
from .schema import Catalog
from .tree import MAX_LIMIT
from .wire import Request

__all__ = ["Groups"]


class Groups:
    """Answers the REST API's questions about groups.

    Args:
        queries: Runs HogQL.
        identities: Stores of the project.
        database: The project's database in the engine.
    """

    def __init__(self, queries: RunsHogQL, identities: Identities, database: str) -> None:
        self._queries = queries
        self._identities = identities
        self._database = database

    def page(self, request: Request) -> dict[str, Any]:
        """Return a page of the groups of one type; the cursor is PostHog's kind, opaque to the caller.

        Raises:
            ApiError: 400 without ``group_type_index``.
        """
        index = group_index(request)
        offset = _read_cursor(request.param("cursor"))
        found = self._queries.rows(
            f"SELECT key, created_at, properties FROM groups WHERE index = {index} "
            "AND (key ILIKE {words} OR toString(properties.name) ILIKE {words}) "
            f"ORDER BY created_at DESC, key LIMIT {PAGE + 1} OFFSET {offset}",
            {"words": contains(request.param("search"))},
        )
        following = request.url_with(cursor=_cursor(offset + PAGE)) if len(found) > PAGE else None
        previous = request.url_with(cursor=_cursor(max(0, offset - PAGE))) if offset else None
        return {"next": following, "previous": previous, "results": [_shown(index, row) for row in found[:PAGE]]}

    def find(self, request: Request) -> dict[str, Any]:
        """Return one group by ``group_type_index`` and ``group_key``.

        Raises:
            ApiError: 400 or 404.
        """
        return self._get(group_index(request), request.param("group_key"))

    def _get(self, index: int, key: str) -> dict[str, Any]:
        found = self._queries.rows(
            f"SELECT key, created_at, properties FROM groups WHERE index = {index} AND key = {{key}} LIMIT 1",
            {"key": key},
        )
        if not found:
            raise errors.not_found()
        return _shown(index, found[0])

    def properties(self, index: int, key: str) -> dict[str, Any]:
        """Return the properties of a group, empty when there is none."""
        row = stored_group(self._identities, self._database, index, key)
        return row["properties"] if row else {}

    def create(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Make a group.

        Raises:
            ApiError: 400 for fields that cannot be, or a group that exists.
        """
        index, key = body.get("group_type_index"), body.get("group_key")
        if type(index) is not int or not 0 <= index <= 4:
            raise errors.validation("A valid integer from 0 to 4 is required.", attr="group_type_index")
        if not isinstance(key, str) or not key:
            raise errors.validation("This field is required.", "required", "group_key")
        properties = body.get("group_properties") or {}
        if not isinstance(properties, dict):
            raise errors.validation("Expected a dictionary of items.", attr="group_properties")
        if stored_group(self._identities, self._database, index, key):
            raise errors.validation("A group with this key already exists", "unique", "group_key")
        now = datetime.now(timezone.utc)
        row = {"index": index, "key": key, "created_at": now, "updated_at": now, "properties": properties, "version": 0}
        self._identities.insert("groups", [row])
        return self._get(index, key)

    def change(self, request: Request, change: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        """Change the properties of a group.

        Raises:
            ApiError: 400 or 404.
        """
        index, key = group_index(request), request.param("group_key")
        row = stored_group(self._identities, self._database, index, key)
        if row is None:
            raise errors.not_found()
        change(row["properties"])
        self._identities.insert("groups", [{**row, "updated_at": datetime.now(timezone.utc)}])
        return self._get(index, key)

    def related(self, request: Request) -> list[dict[str, Any]]:
        """Return who and what was seen together with a person or a group: in the same events.

        Raises:
            ApiError: 400 without ``id``, and for more than can be read at once: the answer has no pages.
        """
        if not (id := request.param("id")):
            raise errors.validation("Missing `id` parameter.", "required", "id")
        is_group = bool(request.param("group_type_index"))
        index = group_index(request) if is_group else None
        held = f"$group_{index} = {{id}}" if is_group else "toString(person_id) = {id}"
        found: list[dict[str, Any]] = []
        if is_group:
            persons = self._all(
                "SELECT id, properties FROM persons WHERE id IN (SELECT person_id FROM events "
                f"WHERE {held} GROUP BY person_id) ORDER BY id LIMIT {MAX_LIMIT}",
                {"id": id},
            )
            found += [
                {"type": "person", "id": row["id"], "properties": json_object(row["properties"])} for row in persons
            ]
        for other in (other for other in range(5) if other != index):
            rows = self._all(
                f"SELECT key, properties, created_at FROM groups WHERE index = {other} AND key IN "
                f"(SELECT $group_{other} FROM events WHERE {held} GROUP BY $group_{other}) "
                f"ORDER BY key LIMIT {MAX_LIMIT}",
                {"id": id},
            )
            found += [{"type": "group", "id": row["key"], **_shown(other, row)} for row in rows]
        return found

    def _all(self, hogql: str, values: Mapping[str, Any]) -> list[dict[str, Any]]:
        found = self._queries.rows(hogql, values)
        if len(found) >= MAX_LIMIT:
            raise errors.validation(f"{MAX_LIMIT:,} or more are related: the embedded server lists no more at once.")
        return found

    def property_definitions(self, catalog: Catalog) -> dict[str, list[dict[str, Any]]]:
        """Return the properties of each group type, with how many groups have them."""
        found: dict[str, list[dict[str, Any]]] = {}
        for index in range(len(catalog.group_types)):
            rows = self._queries.rows(
                "SELECT arrayJoin(JSONExtractKeys(properties)) AS name, count() AS count FROM groups "
                f"WHERE index = {index} GROUP BY name ORDER BY count DESC, name LIMIT {MAX_LIMIT}"
            )
            if rows:
                found[str(index)] = [{"name": row["name"], "count": row["count"]} for row in rows]
        return found

    def property_values(self, request: Request) -> list[dict[str, Any]]:
        """Return the most frequent values of a property of one group type.

        Raises:
            ApiError: 400 without ``group_type_index`` or ``key``.
        """
        return property_values(self._queries, "groups", request, where=Condition(f"index = {group_index(request)}"))


def group_index(request: Request) -> int:
    """Return the group type that a request names.

    Raises:
        ApiError: 400.
    """
    index = request.param("group_type_index")
    if index not in ("0", "1", "2", "3", "4"):
        detail = "You must pass ?group_type_index= in this request, a number from 0 to 4."
        raise errors.validation(detail, attr="group_type_index")
    return int(index)


def _shown(index: int, row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "group_type_index": index,
        "group_key": row["key"],
        "group_properties": json_object(row["properties"]),
        "created_at": row["created_at"],
    }


def _cursor(offset: int) -> str:
    return base64.urlsafe_b64encode(f"o={offset}".encode()).decode()


def _read_cursor(cursor: str) -> int:
    try:
        text = base64.urlsafe_b64decode(cursor).decode()
        return int(text.removeprefix("o=")) if text else 0
    except ValueError:
        raise errors.not_found("Invalid cursor") from None
