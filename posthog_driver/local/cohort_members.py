"""Who is in a cohort: how many, and the list of a static one."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from datetime import datetime, timedelta, timezone
from email import message_from_bytes
from typing import Any
from uuid import UUID

from . import errors
from .capture_body import parse_timestamp
from .entities import Entity
from .errors import ApiError
from .project import Project
from .tree import MAX_LIMIT
from .wire import Request

__all__ = ["add", "counted", "create", "remove"]

_COUNT_EVERY = timedelta(minutes=15)
_ID_COLUMNS = ("person_id", "distinct_id", "email")


def create(project: Project, request: Request) -> Entity:
    """Make a cohort; a static one from a list of persons, or from an uploaded CSV file of theirs.

    Raises:
        ApiError: 400; then there is no new cohort.
    """
    if request.headers.get("content-type", "").startswith("multipart/form-data"):
        body, file = _upload(request)
        ids = _listed(project, file)
        body["is_static"] = True
    else:
        body = request.json_object()
        ids = body.get("_create_static_person_ids") or []
        if not isinstance(ids, list):
            raise errors.validation("Expected a list of items.", attr="_create_static_person_ids")
        ids = [_uuid(id) for id in ids]
    if ids and body.get("is_static") is not True:
        raise errors.validation("Can only add users to static cohorts")
    made = project.store.create("cohorts", body)
    if made["is_static"]:
        add(project, made, ids)
    return made


def _upload(request: Request) -> tuple[dict[str, Any], str]:
    """Return the fields of a form and the text of its file ``csv``."""
    head = f"Content-Type: {request.headers['content-type']}\r\n\r\n"
    form = message_from_bytes(head.encode("latin-1", "replace") + request.body)
    parts = {part.get_param("name", header="content-disposition"): part for part in form.walk()}
    if "csv" not in parts:
        raise errors.validation("The submitted data was not a file.", "required", "csv")
    try:
        texts = {str(name): _decoded(part.get_payload(decode=True)) for name, part in parts.items() if name}
    except UnicodeDecodeError:
        raise errors.validation("CSV file encoding is not supported. Please use UTF-8", attr="csv") from None
    return {name: texts[name] for name in ("name", "description") if name in texts}, texts["csv"]


def _decoded(payload: Any) -> str:
    return bytes(payload or b"").decode("utf-8-sig")


def _listed(project: Project, text: str) -> list[str]:
    """Return the ids of the persons that a CSV file lists; those that are not there are left out, as in PostHog."""
    rows = [row for row in csv.reader(io.StringIO(text)) if any(cell.strip() for cell in row)]
    if not rows:
        raise errors.validation(
            "CSV file is empty. Please upload a CSV file with at least one row of data.", attr="csv"
        )
    names = [cell.strip().lower().replace(" ", "_").replace("-", "_") for cell in rows[0]]
    column = next((name for name in _ID_COLUMNS if name in names), None)
    if column is None and len(names) > 1:
        detail = f"CSV file must contain a column person_id, distinct_id or email. Found columns: {', '.join(rows[0])}"
        raise errors.validation(detail, attr="csv")
    place = names.index(column) if column else 0
    cells = [row[place].strip() for row in (rows[1:] if column else rows) if len(row) > place]
    return _persons_by(project, column or "distinct_id", [cell for cell in cells if cell])


def _persons_by(project: Project, column: str, values: Iterable[str]) -> list[str]:
    identities = project.ingestion.identities
    if column == "distinct_id":
        return list(dict.fromkeys(identities.links(values).values()))
    if column == "person_id":
        return [_uuid(value) for value in values]
    found = project.queries.rows(
        f"SELECT id FROM persons WHERE toString(properties.email) IN {{emails}} LIMIT {MAX_LIMIT}",
        {"emails": list(values)},
    )
    if len(found) == MAX_LIMIT:
        raise errors.validation(
            f"{MAX_LIMIT:,} persons or more have these emails: upload the file in parts.", attr="csv"
        )
    return [row["id"] for row in found]


def counted(project: Project, cohort: Entity, *, is_listed: bool = False) -> Entity:
    """Return a cohort with how many members it has; one that cannot be computed any more says so.

    A list counts a cohort only if nobody has counted it lately, as counting may take long.
    """
    if cohort.get("deleted") or (is_listed and _is_recent(cohort.get("last_calculation"))):
        return cohort
    try:
        found = project.queries.rows(f"SELECT count() AS n FROM persons WHERE id IN COHORT {int(cohort['id'])}")
    except ApiError:
        return {**cohort, "count": None, "errors_calculating": 1}
    now = datetime.now(timezone.utc).isoformat().replace("+00:00", "Z")
    if (count := found[0]["n"]) == cohort.get("count") and cohort.get("last_calculation"):
        return cohort
    version = (cohort.get("version") or 0) + 1
    return project.store.note("cohorts", str(cohort["id"]), count=count, last_calculation=now, version=version)


def _is_recent(moment: Any) -> bool:
    return bool(moment) and datetime.now(timezone.utc) - parse_timestamp(str(moment)) < _COUNT_EVERY


def add(project: Project, cohort: Entity, ids: list[Any]) -> None:
    """Put persons into a static cohort; those that are not there are left out, as in PostHog.

    Raises:
        ApiError: 400 for a cohort with filters, or what is no UUID.
    """
    _check_static(cohort)
    known = project.ingestion.identities.persons(_uuid(id) for id in ids)
    _store(project, cohort, list(known), is_deleted=0)


def remove(project: Project, cohort: Entity, id: str) -> None:
    """Take a person out of a static cohort.

    Raises:
        ApiError: 400 for a cohort with filters, 404 for a person who is not in it.
    """
    _check_static(cohort)
    test = f"SELECT count() AS n FROM persons WHERE id = toUUID({{id}}) AND id IN COHORT {int(cohort['id'])}"
    if not project.queries.rows(test, {"id": _uuid(id)})[0]["n"]:
        raise errors.not_found("Person not found in the cohort")
    _store(project, cohort, [_uuid(id)], is_deleted=1)


def _check_static(cohort: Entity) -> None:
    if not cohort["is_static"]:
        raise errors.validation("Can only add users to static cohorts")


def _uuid(id: Any) -> str:
    try:
        return str(UUID(id))
    except (AttributeError, TypeError, ValueError):
        raise errors.validation(f"{id!r} is not a valid UUID.", attr="person_ids") from None


def _store(project: Project, cohort: Entity, ids: list[str], *, is_deleted: int) -> None:
    identities = project.ingestion.identities
    own = {"cohort_id": cohort["id"], "version": identities.next_version(), "is_deleted": is_deleted}
    identities.insert("cohort_people", [{**own, "person_id": id} for id in ids])
    project.queries.data_changed()
