"""One project of the embedded PostHog, and all of them together.

A `Project` has everything of its own: a database in the engine, entities in a file, a token, a query service with its
cache and its running queries, a gate. `Projects` makes, finds, changes and removes them, and keeps what they were
made with in ``projects.json``. The first project is the one that the server was started with: it has the demo data
and cannot be removed.
"""

from __future__ import annotations

import hmac
import json
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from . import errors
from .arguments import check_timezone
from .engine import Engine
from .entities import Entity, EntityStore
from .files import reading, write_json
from .groups import Groups
from .ingest import Ingestion
from .limits import Gate, Limits
from .people import People
from .queries import QueryService, QuerySettings
from .schema import DATABASE, Catalog
from .shelf import Shelf

__all__ = ["FIELDS", "FIRST", "ORGANIZATION", "Project", "Projects"]

FIRST = 1
"""The number of the project that the server was started with."""

ORGANIZATION: Entity = {
    "id": "01900000-0000-7000-8000-00000000000a",
    "name": "Local organization",
    "slug": "local",
    "logo_media_id": None,
    "membership_level": 15,
    "created_at": "2026-01-01T00:00:00Z",
    "plugins_access_level": 0,
    "is_member_join_email_enabled": False,
}
"""The one organization of the embedded PostHog."""

MAX_RESULT_BYTES = 64 * 1024**2
"""Bytes of the insights' results that a project keeps; the oldest go, and are computed again when asked for."""

QUOTAS = ("events", "feature_flags")
"""What a project can be set to have used up (``quota_limited``, a field of the embedded server's own)."""

# ------------------------------------------------------------------------------------------- what can be set


def _text(name: str, value: Any) -> None:
    if not isinstance(value, str):
        raise errors.validation("Not a valid string.", attr=name)


def _name(name: str, value: Any) -> None:
    _text(name, value)
    if not value.strip():
        raise errors.validation("This field may not be blank.", "blank", name)
    if len(value) > 200:
        raise errors.validation("Ensure this field has no more than 200 characters.", "max_length", name)


def _truth(name: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise errors.validation("Must be a valid boolean.", attr=name)


def _zone(name: str, value: Any) -> None:
    try:
        check_timezone(value)
    except ValueError:
        raise errors.validation(f'"{value}" is not a valid choice.', "invalid_choice", name) from None


def _week_start(name: str, value: Any) -> None:
    if type(value) is not int or value not in (0, 1):
        raise errors.validation(f'"{value}" is not a valid choice.', "invalid_choice", name)


def _texts(name: str, value: Any) -> None:
    if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
        raise errors.validation("Expected a list of texts.", attr=name)


def _quotas(name: str, value: Any) -> None:
    _texts(name, value)
    for entry in value:
        if entry not in QUOTAS:
            raise errors.validation(f'"{entry}" is not a valid choice.', "invalid_choice", name)


def _filters(name: str, value: Any) -> None:
    fits = isinstance(value, list) and all(
        isinstance(entry, dict) and (isinstance(entry.get("key"), str) or entry.get("type") == "hogql")
        for entry in value
    )
    if not fits:
        raise errors.validation("Expected a list of property filters.", attr=name)


@dataclass(frozen=True)
class _Field:
    default: Any
    check: Callable[[str, Any], None]


FIELDS: Mapping[str, _Field] = {
    "name": _Field("Default project", _name),
    "product_description": _Field("", _text),
    "timezone": _Field("UTC", _zone),
    "week_start_day": _Field(0, _week_start),
    "test_account_filters": _Field([], _filters),
    "test_account_filters_default_checked": _Field(False, _truth),
    "app_urls": _Field([], _texts),
    "anonymize_ips": _Field(False, _truth),
    "completed_snippet_onboarding": _Field(True, _truth),
    "session_recording_opt_in": _Field(False, _truth),
    "autocapture_opt_out": _Field(False, _truth),
    "quota_limited": _Field([], _quotas),
}
"""What can be set of a project, with its default and its check; other keys are ignored, as in PostHog."""


def check_fields(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a body sets of a project.

    Raises:
        ApiError: 400 for a value that cannot be.
    """
    fields = {name: value for name, value in body.items() if name in FIELDS}
    for name, value in fields.items():
        FIELDS[name].check(name, value)
    return fields


# ------------------------------------------------------------------------------------------------ one project


class Project:
    """One project.

    Args:
        engine: Stores and queries.
        id: Its number.
        token: What capture asks for.
        fields: What is set of it; see `FIELDS`.
        store: Its entities.
        limits: Limits of its running queries.
        settings: Times of its query endpoint.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        engine: Engine,
        id: int,
        token: str,
        fields: Mapping[str, Any],
        store: EntityStore,
        *,
        limits: Limits | None = None,
        settings: QuerySettings | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.id = id
        self.token = token
        self.fields = dict(fields)
        self.store = store
        self.database = database_of(id)
        self.results = Shelf(MAX_RESULT_BYTES)
        self._base: Catalog | None = None
        self._catalog: Catalog | None = None
        self.queries = QueryService(
            engine,
            self.catalog,
            project_id=id,
            gate=Gate(limits, clock=clock),
            settings=settings,
            clock=clock,
        )
        self.people = People(self.queries, self.catalog)
        self.ingestion = Ingestion(engine, store, self.database)
        self.groups = Groups(self.queries, self.ingestion.identities, self.database)

    def catalog(self) -> Catalog:
        """Return what the translator needs to know of it as it is now."""
        base = self.store.catalog()
        if self._catalog is None or base is not self._base:
            self._base = base
            self._catalog = replace(
                base,
                database=self.database,
                team_id=self.id,
                timezone=self.fields["timezone"],
                week_start=self.fields["week_start_day"],
                test_account_filters=tuple(self.fields["test_account_filters"]),
                entities={**base.entities, "teams": (self.fields,)},
            )
        return self._catalog

    def change(self, fields: Mapping[str, Any]) -> None:
        """Set fields that were checked; kept answers become stale, as they may depend on them."""
        self.fields = {**self.fields, **fields}
        self._catalog = None
        self.queries.data_changed()

    def shown(self) -> Entity:
        """Return what PostHog answers about it."""
        return {
            "id": self.id,
            "uuid": f"01900000-0000-7000-8000-{self.id:012d}",
            "organization": ORGANIZATION["id"],
            "organization_id": ORGANIZATION["id"],
            "project_id": self.id,
            "api_token": self.token,
            "ingested_event": bool(self.catalog().event_names),
            "is_demo": self.id == FIRST,
            "has_group_types": bool(self.catalog().group_types),
            "group_types": self.store.group_types(),
            "access_control": False,
            **self.fields,
        }

    def close(self) -> None:
        """Start no more background queries."""
        self.queries.close()


def database_of(id: int) -> str:
    """Return the name of a project's database in the engine."""
    return DATABASE if id == FIRST else f"{DATABASE}_{id}"


# ------------------------------------------------------------------------------------------------ all of them


class Projects:
    """Every project of the server. Thread-safe.

    Args:
        engine: Stores and queries; the files are in its directory.
        token: The token of the first project.
        seeds: The entities that the first project begins with.
        defaults: Fields of the first project that nobody has changed yet.
        limits: Limits of the running queries of each project.
        settings: Times of the query endpoint.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        engine: Engine,
        token: str,
        seeds: Mapping[str, Iterable[Entity]],
        defaults: Mapping[str, Any],
        *,
        limits: Limits | None = None,
        settings: QuerySettings | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._times: dict[str, Any] = {"limits": limits, "settings": settings, "clock": clock}
        self._lock = threading.RLock()
        self._directory = Path(engine.path) if engine.path else None
        self._tokens: dict[int, str] = {}
        self._changed: dict[int, dict[str, Any]] = {}
        self._next = FIRST + 1
        self._projects: dict[int, Project] = {}
        # The next database is made while nobody waits for it: a new project then takes some milliseconds.
        self._ahead = ThreadPoolExecutor(1, "next-database")
        self._prepared: tuple[int, Future[None]] | None = None
        self._read()
        self._open(FIRST, token, {**defaults, **self._changed.get(FIRST, {})}, seeds)
        for id, kept in self._tokens.items():
            engine.create_database(database_of(id))
            self._open(id, kept, self._changed[id], {})
        self._drop_strays()

    def all(self) -> list[Project]:
        """Return the projects in the order of their numbers."""
        with self._lock:
            return list(self._projects.values())

    def get(self, id: int) -> Project | None:
        """Return a project by its number, None when there is none."""
        with self._lock:
            return self._projects.get(id)

    @property
    def first(self) -> Project:
        """The project that the server was started with."""
        return self._projects[FIRST]

    def by_token(self, token: str) -> Project | None:
        """Return the project of a token, in a time that tells nothing of the tokens."""
        given = token.encode("utf-8", "replace")
        matching = [project for project in self.all() if hmac.compare_digest(given, project.token.encode())]
        return matching[0] if matching else None

    def create(self, body: Mapping[str, Any]) -> Project:
        """Make a project.

        Raises:
            ApiError: 400 for fields that cannot be.
            EngineError: The engine failed; there is no new project then.
        """
        fields = {"created_at": datetime.now(timezone.utc).isoformat().replace("+00:00", "Z"), **check_fields(body)}
        with self._lock:
            id = self._next
            self._next += 1
            prepared, self._prepared = self._prepared, None
        if prepared is None or prepared[0] != id or prepared[1].exception() is not None:
            self._engine.create_database(database_of(id))
        token = f"phc_{secrets.token_hex(20)}"
        with self._lock:
            self._tokens[id] = token
            self._changed[id] = fields
            self._save()
            project = self._open(id, token, fields, {})
            self._prepared = (self._next, self._ahead.submit(self._engine.create_database, database_of(self._next)))
        return project

    def update(self, project: Project, body: Mapping[str, Any]) -> None:
        """Set fields of a project.

        Raises:
            ApiError: 400 for fields that cannot be.
        """
        fields = check_fields(body)
        with self._lock:
            self._changed[project.id] = {**self._changed.get(project.id, {}), **fields}
            self._save()
            project.change(fields)

    def delete(self, project: Project) -> None:
        """Remove a project and all that is in it; its queries are stopped.

        Raises:
            ApiError: 400 for the first one.
        """
        if project.id == FIRST:
            raise errors.validation("The embedded server does not delete the project that it was started with.")
        with self._lock:
            self._projects.pop(project.id, None)
            self._tokens.pop(project.id, None)
            self._changed.pop(project.id, None)
            self._save()
        project.close()
        project.queries.stop()
        self._engine.drop_database(project.database)
        if path := self._entities_path(project.id):
            path.unlink(missing_ok=True)

    def close(self) -> None:
        """Start no more background queries, in no project."""
        self._ahead.shutdown(wait=True, cancel_futures=True)
        for project in self.all():
            project.close()

    def _open(self, id: int, token: str, fields: Mapping[str, Any], seeds: Mapping[str, Iterable[Entity]]) -> Project:
        defaults = {"created_at": ORGANIZATION["created_at"], **{name: field.default for name, field in FIELDS.items()}}
        filled = {**defaults, **fields}
        path = self._entities_path(id)
        is_known = path is not None and path.exists()
        store = EntityStore(seeds, path, timezone=filled["timezone"], week_start=filled["week_start_day"])
        project = Project(self._engine, id, token, filled, store, **self._times)
        if is_known:
            project.ingestion.identities.mend()
        self._projects[id] = project
        return project

    def _drop_strays(self) -> None:
        """Remove what is of no project: a database that was prepared, or whose project was being made or removed."""
        known = {project.database for project in self.all()}
        for name in self._engine.databases():
            if re.fullmatch(rf"{DATABASE}_\d+", name) and name not in known:
                self._engine.drop_database(name)
                if path := self._entities_path(int(name.rpartition("_")[2])):
                    path.unlink(missing_ok=True)

    # ------------------------------------------------------------------------------------------------- files

    def _entities_path(self, id: int) -> Path | None:
        if self._directory is None:
            return None
        return self._directory / ("entities.json" if id == FIRST else f"entities_{id}.json")

    def _read(self) -> None:
        path = self._directory / "projects.json" if self._directory else None
        if path is None or not path.exists():
            return
        with reading(path):
            stored = json.loads(path.read_text(encoding="utf-8"))
            self._next = int(stored["next"])
            self._changed = {int(id): dict(fields) for id, fields in stored["fields"].items()}
            self._tokens = {int(id): token for id, token in stored["tokens"].items()}

    def _save(self) -> None:
        if self._directory is not None:
            content = {"next": self._next, "tokens": self._tokens, "fields": self._changed}
            write_json(self._directory / "projects.json", content)
