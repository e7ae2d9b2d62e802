"""A pretended engine and an API over it, for the tests of the embedded PostHog's server."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from typing import Any, cast

from posthog_driver.local.api import Api
from posthog_driver.local.engine import Engine, EngineError, EngineResult
from posthog_driver.local.keys import Key, KeyRing
from posthog_driver.local.limits import Limits
from posthog_driver.local.project import Project, Projects
from posthog_driver.local.queries import QuerySettings
from posthog_driver.local.wire import Request, Response

PERSONAL, PROJECT, OWNER = "phx_test_key_of_sixteen", "phc_test_key", "owner_test"
SQL = {"kind": "HogQLQuery", "query": "SELECT event FROM events LIMIT 5"}


class FakeEngine:
    """Answers every query alike, fails as told, and can be held until it is cancelled."""

    def __init__(self, path: str = "") -> None:
        self.path = path
        self.result = EngineResult([("event", "String")], [["a"], ["b"]], 0.5, 10, 100)
        self.error: Exception | None = None
        self.ran: list[tuple[str, float | None]] = []
        self.inserted: list[tuple[str, list[Any]]] = []
        self.held: threading.Event | None = None
        self.running: dict[str, threading.Event] = {}
        self.started = threading.Event()
        self.asked_to_cancel = threading.Event()
        self.made = ["posthog"]

    def run(self, sql: str, *, query_id: str, max_execution_time: float | None = None) -> EngineResult:
        if "system.processes" in sql:
            return EngineResult([("rows_read", "UInt64")], [[7]] if self.running else [], 0.0, 0, 0)
        # Nobody is known, nothing has a version, no property has a column.
        if any(part in sql for part in (" FINAL", "SELECT version", "system.columns")):
            return EngineResult([], [], 0.0, 0, 0)
        self.ran.append((sql, max_execution_time))
        if (held := self.held) is not None:
            self.running[query_id] = held
            self.started.set()
            assert held.wait(30)
            if self.running.pop(query_id, None) is None:
                raise EngineError(394, "QUERY_WAS_CANCELLED", "cancelled")
        if self.error is not None:
            raise self.error
        return self.result

    def cancel(self, query_id: str) -> bool:
        self.asked_to_cancel.set()
        held = self.running.pop(query_id, None)
        if held is None:
            return False
        held.set()
        return True

    def execute(self, sql: str) -> None:
        self.ran.append((sql, None))

    def create_database(self, name: str) -> None:
        if self.error is not None:
            raise self.error
        self.made.append(name)

    def drop_database(self, name: str) -> None:
        self.made.remove(name)

    def databases(self) -> list[str]:
        return ["system", *self.made]

    def insert(self, table: str, rows: Any, *, database: str) -> int:
        if self.error is not None:
            raise self.error
        self.inserted.append((database, [table, *rows]))
        return 0


class World:
    """An API with its pretended engine and a clock that is moved by hand."""

    def __init__(
        self,
        *,
        limits: Limits | None = None,
        settings: QuerySettings | None = None,
        scopes: tuple[str, ...] = ("*",),
        path: str = "",
        **options: Any,
    ) -> None:
        self.engine = FakeEngine(path)
        self.now = 1000.0
        self.slept: list[float] = []
        self.projects = Projects(
            cast(Engine, self.engine), PROJECT, {}, {}, limits=limits, settings=settings, clock=lambda: self.now
        )
        self.keys = KeyRing([Key.of(PERSONAL, "Test", scopes), Key.of(OWNER, "Owner")])
        self.api = Api(
            self.projects,
            self.keys,
            owner_key=OWNER,
            limits=limits,
            clock=lambda: self.now,
            sleep=self.slept.append,
            **options,
        )

    @property
    def project(self) -> Project:
        return self.projects.first

    def send(
        self,
        method: str,
        target: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        key: str = PERSONAL,
    ) -> Response:
        sent = {"Authorization": f"Bearer {key}", **(headers or {})}
        raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        return self.api.handle(Request.parse(method, target, sent, raw))

    def get(self, path: str) -> Response:
        return self.send("GET", f"/api/projects/1/{path}")

    def query(self, query: Mapping[str, Any] = SQL, *, project: int = 1, **more: Any) -> Response:
        return self.send("POST", f"/api/projects/{project}/query/", {"query": query, **more})

    def new_project(self, **fields: Any) -> int:
        return int(self.send("POST", "/api/projects/", fields).body["id"])

    def new_key(self, scopes: list[str], teams: list[int] | None = None) -> str:
        """Make a personal key and return its value."""
        known = [project.id for project in self.projects.all()]
        return self.keys.create("Test", scopes, teams or [], known)[1]

    def poll(self, query_id: str, query: str = "") -> Response:
        return self.get(f"query/{query_id}/{query}")

    def wait_for(self, query_id: str) -> Response:
        """Poll until the query is done."""
        for _ in range(3000):
            response = self.poll(query_id)
            if response.status != 202:
                return response
            threading.Event().wait(0.005)
        raise AssertionError("the query was never done")
