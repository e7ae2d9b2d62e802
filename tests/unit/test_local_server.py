"""The API of the embedded PostHog over an engine that is only pretended, and its sockets."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import requests

from posthog_driver.local import queries
from posthog_driver.local.engine import Engine, EngineError, EngineResult
from posthog_driver.local.entities import EntityStore
from posthog_driver.local.ingest import MAX_BODY
from posthog_driver.local.limits import Limits
from posthog_driver.local.parser import HogQLError
from posthog_driver.local.schema import Catalog
from posthog_driver.local.server import Api, Keys, LocalServer, build_server
from posthog_driver.local.wire import Request, Response

PERSONAL, PROJECT = "phx_test_key", "phc_test_key"
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

    def run(self, sql: str, *, query_id: str, max_execution_time: float | None = None) -> EngineResult:
        if "system.processes" in sql:
            return EngineResult([("rows_read", "UInt64")], [[7]] if self.running else [], 0.0, 0, 0)
        if "person_distinct_ids_newest" in sql:
            return EngineResult([], [], 0.0, 0, 0)
        self.ran.append((sql, max_execution_time))
        if self.held is not None:
            self.running[query_id] = self.held
            self.started.set()
            assert self.held.wait(30)
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

    def insert(self, table: str, rows: Any) -> int:
        if self.error is not None:
            raise self.error
        self.inserted.append((table, list(rows)))
        return 0


class World:
    """An API with its pretended engine and a clock that is moved by hand."""

    def __init__(self, **options: Any) -> None:
        self.engine = FakeEngine()
        self.store = EntityStore({})
        self.now = 1000.0
        self.api = Api(
            cast(Engine, self.engine), self.store, Keys(PERSONAL, PROJECT), clock=lambda: self.now, **options
        )

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

    def query(self, query: Mapping[str, Any] = SQL, **more: Any) -> Response:
        return self.send("POST", "/api/projects/1/query/", {"query": query, **more})

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


@pytest.fixture
def world() -> World:
    return World()


# ------------------------------------------------------------------------------------------------ who may ask what


@pytest.mark.parametrize(
    ("headers", "code", "detail"),
    [
        ({}, "not_authenticated", "Authentication credentials were not provided."),
        ({"Authorization": "Basic x"}, "not_authenticated", "Authentication credentials were not provided."),
        ({"Authorization": "Bearer "}, "not_authenticated", "Authentication credentials were not provided."),
        ({"Authorization": f"Bearer {PROJECT}"}, "authentication_failed",
         "Personal API key found in request Authorization header is invalid."),
        ({"Authorization": "Bearer \ud800"}, "authentication_failed",
         "Personal API key found in request Authorization header is invalid."),
    ],
)  # fmt: skip
def test_without_the_personal_key_the_answer_is_posthogs_401(
    world: World, headers: dict[str, str], code: str, detail: str
) -> None:
    response = world.api.handle(Request.parse("GET", "/api/projects/1/", headers))

    assert response.status == 401
    assert response.body == {"type": "authentication_error", "code": code, "detail": detail, "attr": None}
    assert response.headers["WWW-Authenticate"].startswith("Bearer resource_metadata=")


def test_the_key_may_stand_in_the_body_or_in_the_query_string(world: World) -> None:
    query = {"query": SQL, "personal_api_key": PERSONAL}

    def send(target: str, body: Any = None) -> Response:
        raw = b"" if body is None else json.dumps(body).encode()
        return world.api.handle(Request.parse("POST" if body is not None else "GET", target, {}, raw))

    assert send("/api/projects/1/query/", query).status == 200
    assert send(f"/api/projects/1/?personal_api_key={PERSONAL}").status == 200
    assert send("/api/projects/1/query/", {**query, "personal_api_key": "no"}).status == 401
    assert (
        send("/api/projects/1/query/", {"query": SQL, "note": ["personal_api_key", '"personal_api_key"']}).status == 401
    )
    assert send("/api/projects/1/query/", ["personal_api_key"]).status == 401


def test_only_the_one_project_exists(world: World) -> None:
    assert world.send("GET", "/api/projects/1/").status == 200
    assert world.send("GET", "/api/projects/@current").status == 200
    for other in ("2", "x", "01", "@other"):
        response = world.send("GET", f"/api/projects/{other}/")
        assert (response.status, response.body["detail"]) == (404, "Project not found.")


def test_an_unknown_address_is_a_404_and_a_wrong_method_a_405(world: World) -> None:
    unknown = world.send("GET", "/api/projects/1/nonsense/")
    wrong = world.send("PUT", "/api/projects/1/cohorts/1/")

    assert (unknown.status, unknown.body["code"]) == (404, "not_found")
    assert (wrong.status, wrong.body["detail"]) == (405, 'Method "PUT" not allowed.')
    assert wrong.headers["Allow"] == "GET, PATCH, DELETE"


def test_the_old_addresses_work_and_say_when_they_end(world: World) -> None:
    response = world.send("POST", "/api/environments/1/query/", {"query": SQL})

    assert (response.status, response.headers["Sunset"]) == (200, "Fri, 31 Jul 2026 00:00:00 GMT")
    assert "Sunset" in world.send("GET", "/api/environments/2/").headers
    assert "Sunset" not in world.send("GET", "/api/projects/1/").headers


def test_the_project_the_user_and_the_key_describe_themselves(world: World) -> None:
    project = world.send("GET", "/api/projects/1/").body
    user = world.send("GET", "/api/users/@me/").body
    key = world.send("GET", "/api/personal_api_keys/@current").body

    assert (project["id"], project["api_token"], project["timezone"]) == (1, PROJECT, "UTC")
    assert (user["team"]["id"], user["email"]) == (1, "local@posthog.test")
    assert (key["scopes"], key["scoped_teams"]) == (["*"], [1])
    assert PERSONAL not in json.dumps(key)
    assert PERSONAL not in repr(world.api.keys)


def test_a_failure_of_ours_is_a_500_that_tells_nothing(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.engine.error = ZeroDivisionError("a secret")
    response = world.query()

    assert (response.status, response.body["type"], response.body["code"]) == (500, "server_error", "error")
    assert "secret" not in json.dumps(response.body)
    assert "failed" in caplog.text


def test_a_body_too_deep_for_the_interpreter_is_a_parse_error(world: World) -> None:
    world.engine.error = RecursionError()

    assert (world.query().status, world.query().body["code"]) == (400, "parse_error")


def test_the_health_answers_anybody() -> None:
    world = World(limits=Limits(others=((1, 60.0),)))
    for path in ("/", "/_health", "/_health/", "/_health"):
        assert world.api.handle(Request.parse("GET", path)).status == 200


def test_scripted_faults_come_before_the_truth() -> None:
    world = World(faults=[(503, {"Retry-After": "1"}, {"detail": "busy"}), (200, {}, "not JSON")])

    assert world.api.handle(Request.parse("GET", "/_health")).body == {"status": "ok"}
    first, second, third = (world.query() for _ in range(3))

    assert (first.status, first.headers, first.body) == (503, {"Retry-After": "1"}, {"detail": "busy"})
    assert (second.status, second.body) == (200, "not JSON")
    assert third.body["results"] == [["a"], ["b"]]


# ------------------------------------------------------------------------------------------------------------ queries


def test_a_query_answers_what_posthog_answers(world: World) -> None:
    response = world.query({**SQL, "query": "SELECT event AS e FROM events LIMIT 5"}, name="n")

    body = response.body
    assert response.status == 200
    assert (body["results"], body["columns"], body["types"]) == ([["a"], ["b"]], ["e"], [["e", "String"]])
    assert (body["hasMore"], body["limit"], body["offset"]) == (None, None, None)
    assert (body["is_cached"], body["query_status"], body["error"], body["timezone"]) == (
        False,
        None,
        None,
        "UTC",
    )
    assert body["last_refresh"].endswith("Z")
    assert body["last_refresh"] < body["next_allowed_client_refresh"] < body["cache_target_age"]
    assert "posthog.`events`" in body["clickhouse"]
    assert body["timings"][0] == {"k": "./clickhouse_execute", "t": 0.5}
    assert world.engine.ran[0][1] == 10.0


@pytest.mark.parametrize(("rows", "shown", "more"), [(101, 100, True), (100, 100, False)])
def test_a_query_without_a_limit_gives_a_hundred_rows_and_says_whether_there_are_more(
    world: World, rows: int, shown: int, more: bool
) -> None:
    world.engine.result = EngineResult([("event", "String")], [["a"]] * rows, 0.0, 0, 0)
    body = world.query({**SQL, "query": "SELECT event FROM events"}).body

    assert len(body["results"]) == shown
    assert (body["hasMore"], body["limit"], body["offset"]) == (more, 100, 0)


def test_an_answer_is_kept_until_it_is_old_or_the_data_is_new(world: World) -> None:
    first = world.query().body
    again = world.query(name="another name").body
    assert (first["is_cached"], again["is_cached"]) == (False, True)
    assert again["last_refresh"] == first["last_refresh"]
    assert world.query(refresh="force_blocking").body["is_cached"] is False
    assert world.query(refresh=True).body["is_cached"] is False
    assert world.query({**SQL, "values": {}}).body["is_cached"] is False

    world.now += 6 * 3600
    assert world.query().body["is_cached"] is False
    assert world.query().body["is_cached"] is True

    world.send("POST", "/capture/", {"api_key": PROJECT, "event": "e", "distinct_id": "u"})
    assert world.query().body["is_cached"] is False


def test_only_the_newest_answers_are_kept(world: World) -> None:
    world.query()
    for number in range(64):
        world.query({**SQL, "query": f"SELECT event FROM events LIMIT {number + 10}"})

    assert world.query().body["is_cached"] is False


def test_hogql_that_is_wrong_is_a_400_with_positions(world: World) -> None:
    response = world.query({**SQL, "query": "SELECT evnt FROM events"})

    assert (response.status, response.body["type"]) == (400, "validation_error")
    assert "evnt" in response.body["detail"]
    found = response.body["extra"]["hogql_metadata"]
    assert found["isValid"] is False
    assert found["errors"]
    assert world.engine.ran == []


def test_a_refusal_reports_what_was_really_wrong_whatever_the_query_is_filled_with(world: World) -> None:
    variables = {"1": {"variableId": "1", "code_name": "name", "value": "x"}}
    query = {**SQL, "query": "SELECT evnt FROM events WHERE event = {variables.name}", "variables": variables}

    (problem,) = world.query(query).body["extra"]["hogql_metadata"]["errors"]

    assert "evnt" in problem["message"]
    assert (problem["start"], problem["end"]) == (7, 11)


def test_a_refusal_names_the_tables_and_gives_the_hint(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise HogQLError("No.", hint="Ask for less.")

    monkeypatch.setattr(queries, "translate", refuse)

    assert world.query().body["detail"] == "No.\nHint: Ask for less.\nTables referenced: events"
    assert world.query({**SQL, "query": "SELECT 1"}).body["detail"] == "No.\nHint: Ask for less."


def test_an_error_of_the_engine_has_its_own_status(world: World) -> None:
    world.engine.error = EngineError(159, "TIMEOUT_EXCEEDED", "too slow")
    response = world.query()

    assert (response.status, response.body["type"]) == (504, "server_error")
    assert "max execution time" in response.body["detail"]


def test_the_schema_and_the_check_of_a_query_need_no_engine(world: World) -> None:
    tables = world.query({"kind": "DatabaseSchemaQuery"}).body["tables"]
    checked = world.query({"kind": "HogQLMetadata", "language": "hogQL", "query": "SELECT evnt FROM events"}).body

    assert tables["events"]["fields"]["event"]["type"] == "string"
    assert (checked["isValid"], checked["query"]) == (False, "SELECT evnt FROM events")
    assert world.engine.ran == []


@pytest.mark.parametrize("body", [b"{", b"[]", b"\xff", b"null", b"[" * 99_999])
def test_a_body_that_cannot_be_read_is_a_parse_error(world: World, body: bytes) -> None:
    response = world.send("POST", "/api/projects/1/query/", body)

    assert (response.status, response.body["code"]) == (400, "parse_error")


# -------------------------------------------------------------------------------------------------- in the background


def test_a_background_query_is_started_polled_and_done(world: World) -> None:
    world.engine.held = threading.Event()
    started = world.query(refresh="force_async", client_query_id="q1")
    assert world.engine.started.wait(30)
    running = world.poll("q1", "?show_progress=true")
    world.engine.held.set()
    done = world.wait_for("q1")

    assert (started.status, started.body["query_status"]["id"]) == (202, "q1")
    assert (running.status, running.body["query_status"]["complete"]) == (202, False)
    assert running.body["query_status"]["query_progress"] == {"rows_read": 7}
    assert running.body["query_status"]["results"] is None
    status = done.body["query_status"]
    assert (done.status, status["complete"], status["error"]) == (200, True, False)
    assert status["results"]["results"] == [["a"], ["b"]]
    assert status["start_time"] <= status["pickup_time"] <= status["end_time"] < status["expiration_time"]
    assert world.poll("q1", "?show_progress=1").body["query_status"]["query_progress"]["rows_read"] == 10
    assert world.engine.ran[0][1] == 600.0


def test_progress_that_cannot_be_found_is_zero(world: World) -> None:
    world.engine.held = threading.Event()
    world.query(refresh="force_async", client_query_id="q1")
    assert world.engine.started.wait(30)
    held = dict(world.engine.running)
    world.engine.running.clear()

    progress = world.poll("q1", "?show_progress=true").body["query_status"]["query_progress"]

    assert set(progress.values()) == {0}
    world.engine.running.update(held)
    world.engine.held.set()
    assert world.wait_for("q1").status == 200


def test_the_answer_of_a_background_query_serves_the_next_caller(world: World) -> None:
    world.query(refresh="force_async", client_query_id="q1")
    world.wait_for("q1")

    assert world.query().body["is_cached"] is True
    assert world.query(refresh="async").status == 200


def test_async_gives_old_rows_with_the_status_of_a_new_run(world: World) -> None:
    missing = world.query(refresh="async", client_query_id="q0")
    assert (missing.status, "results" in missing.body) == (202, False)
    assert missing.body["cache_key"].startswith("cache_1_")
    world.wait_for("q0")

    world.now += 7 * 3600
    assert world.query(refresh="lazy_async").status == 200
    stale = world.query(refresh="async", client_query_id="q2")

    assert (stale.status, stale.body["is_cached"], stale.body["results"]) == (202, True, [["a"], ["b"]])
    assert world.wait_for("q2").status == 200


def test_async_except_on_cache_miss_computes_what_is_missing(world: World) -> None:
    mode = "async_except_on_cache_miss"

    assert world.query(refresh=mode).body["is_cached"] is False
    assert world.query(refresh=mode).body["is_cached"] is True
    world.now += 7 * 3600
    assert world.query(refresh=mode, client_query_id="q").status == 202
    assert world.wait_for("q").status == 200


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (EngineError(53, "TYPE_MISMATCH", "no such type"), 400, "no such type"),
        (EngineError(49, "LOGICAL_ERROR", "inner secret"), 500, None),
        (ZeroDivisionError("inner secret"), 500, None),
    ],
)
def test_a_background_query_that_fails_tells_it_when_polled(
    world: World, error: Exception, status: int, message: str | None
) -> None:
    world.engine.error = error
    world.query(refresh="force_async", client_query_id="q")
    response = world.wait_for("q")

    found = response.body["query_status"]
    assert (response.status, found["error"], found["complete"], found["results"]) == (
        status,
        True,
        True,
        None,
    )
    assert found["error_message"] == message


def test_a_background_query_with_wrong_hogql_is_accepted_and_fails(world: World) -> None:
    assert (
        world.query({**SQL, "query": "SELECT evnt FROM events"}, refresh="force_async", client_query_id="q").status
        == 202
    )
    response = world.wait_for("q")

    assert response.status == 400
    assert "evnt" in response.body["query_status"]["error_message"]


def test_a_status_is_forgotten_after_twenty_minutes(world: World) -> None:
    world.query(refresh="force_async", client_query_id="q")
    world.wait_for("q")

    world.now += 1199
    assert world.poll("q").status == 200
    world.now += 1
    response = world.poll("q")
    assert (response.status, response.body["detail"]) == (404, "Query q not found for team 1")


def test_background_queries_leave_a_place_for_others_and_wait_without_a_thread_each(world: World) -> None:
    world.engine.held = threading.Event()
    names = [f"q{number}" for number in range(queries.BACKGROUND_RUNS + 20)]
    for name in names:
        world.query(refresh="force_async", client_query_id=name)
    waiting = names[-1]

    assert len(world.api.queries._workers._threads) == queries.BACKGROUND_RUNS
    assert world.poll(waiting).body["query_status"]["pickup_time"] is None
    assert world.send("DELETE", f"/api/projects/1/query/{waiting}/?dequeue_only=true").status == 200
    assert world.poll(waiting).body["query_status"]["error_message"] == "Query was cancelled."
    world.engine.held.set()
    assert {world.wait_for(name).status for name in names[:-1]} == {200}
    assert len(world.engine.ran) == len(names) - 1


def test_a_closed_server_starts_no_query_that_waited(world: World) -> None:
    world.engine.held = threading.Event()
    names = [f"q{number}" for number in range(queries.BACKGROUND_RUNS + 5)]
    for name in names:
        world.query(refresh="force_async", client_query_id=name)
    world.api.queries.close()
    world.engine.held.set()

    assert {world.wait_for(name).status for name in names[: queries.BACKGROUND_RUNS]} == {200}
    assert world.poll(names[-1]).status == 202
    assert len(world.engine.ran) == queries.BACKGROUND_RUNS


def test_an_answer_that_is_too_long_is_not_kept_for_the_next_caller(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.query()
    monkeypatch.setattr(queries, "MAX_CACHED_BYTES", 10)
    world.query(refresh="force_async", client_query_id="q")

    assert world.wait_for("q").body["query_status"]["results"]["results"] == [["a"], ["b"]]
    assert world.query().body["is_cached"] is False


def test_finished_runs_go_when_all_answers_together_are_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queries, "MAX_KEPT_BYTES", 10)
    world = World()
    for name in ("q1", "q2"):
        world.query(refresh="force_async", client_query_id=name)
        assert world.wait_for(name).status == 200

    assert world.poll("q1").status == 404
    assert world.poll("q2").status == 200


def test_a_run_that_was_replaced_leaves_no_answer_behind(world: World) -> None:
    wrong = {**SQL, "query": "SELECT evnt FROM events"}
    world.engine.held = threading.Event()
    world.query(refresh="force_async", client_query_id="q")
    assert world.engine.started.wait(30)
    world.query(wrong, refresh="force_async", client_query_id="q")
    world.engine.held.set()

    assert world.wait_for("q").status == 400
    world.query(refresh="force_async", client_query_id="q")
    assert world.wait_for("q").status == 200
    world.query(wrong, refresh="force_async", client_query_id="q")
    assert world.wait_for("q").status == 400
    assert [name[:6] for name in world.api.queries._shelf._answers] == ["cache_"]


def test_a_background_query_is_cancelled_in_the_engine(world: World) -> None:
    world.engine.held = threading.Event()
    world.query(refresh="force_async", client_query_id="q")
    assert world.engine.started.wait(30)
    kept = world.send("DELETE", "/api/projects/1/query/q/?dequeue_only=true")
    cancelled = world.send("DELETE", "/api/projects/1/query/q/")
    done = world.wait_for("q")

    assert (kept.status, kept.body) == (200, {"message": "Query is already running, it was not cancelled"})
    assert (cancelled.status, cancelled.body) == (200, {"message": "Query cancelled"})
    assert (done.status, done.body["query_status"]["error_message"]) == (400, "Query was cancelled.")
    assert world.send("DELETE", "/api/projects/1/query/q/").body == {"message": "Query already complete"}
    assert world.send("DELETE", "/api/projects/1/query/none/").status == 200


def test_a_blocking_query_is_cancelled_by_its_id_too(world: World) -> None:
    world.engine.held = threading.Event()
    answers: list[Response] = []
    thread = threading.Thread(target=lambda: answers.append(world.query(client_query_id="q")))
    thread.start()
    assert world.engine.started.wait(30)
    world.send("DELETE", "/api/projects/1/query/q/")
    thread.join(30)

    assert (answers[0].status, answers[0].body["code"]) == (400, "query_was_cancelled")


def test_a_query_that_waits_for_its_turn_can_be_taken_from_the_queue() -> None:
    world = World(limits=Limits(running=1, queue_seconds=30.0))
    world.engine.held = threading.Event()
    world.query(refresh="force_async", client_query_id="first")
    assert world.engine.started.wait(30)
    world.query({**SQL, "query": "SELECT 1"}, refresh="force_async", client_query_id="second")
    cancel = "/api/projects/1/query/second/?dequeue_only=true"
    thread = threading.Thread(target=lambda: world.send("DELETE", cancel))
    thread.start()
    assert world.engine.asked_to_cancel.wait(30)
    world.engine.held.set()
    thread.join(30)

    assert world.wait_for("first").status == 200
    assert world.wait_for("second").body["query_status"]["error_message"] == "Query was cancelled."
    assert len(world.engine.ran) == 1


# ------------------------------------------------------------------------------------------------------------- limits


def test_queries_and_other_requests_have_their_own_limits() -> None:
    world = World(limits=Limits(queries=((2, 60.0),), others=((1, 60.0),)))

    assert [world.query().status for _ in range(3)] == [200, 200, 429]
    assert [world.get("cohorts/").status for _ in range(2)] == [200, 429]
    refused = world.query()
    assert (refused.headers["Retry-After"], refused.body["type"]) == ("60", "throttled_error")
    assert world.send("POST", "/capture/", {"api_key": PROJECT, "event": "e", "distinct_id": "u"}).status == 200
    world.now += 60
    assert world.query().status == 200


def test_a_query_too_many_at_once_is_a_429_without_retry_after() -> None:
    world = World(limits=Limits(running=1, queue_seconds=0.0))
    world.engine.held = threading.Event()
    world.query(refresh="force_async", client_query_id="q")
    assert world.engine.started.wait(30)
    refused = world.query({**SQL, "query": "SELECT 2"})
    world.engine.held.set()

    assert (refused.status, refused.body["code"], refused.headers) == (429, "throttled", {})
    assert refused.body["detail"].startswith("Too many queries are running right now")
    assert world.wait_for("q").status == 200


# ----------------------------------------------------------------------------------------------------------- entities


def test_entities_are_listed_in_pages_made_changed_and_hidden(world: World) -> None:
    for number in range(3):
        created = world.send("POST", "/api/projects/1/cohorts/", {"name": f"C{number}"})
        assert created.status == 201
    page = world.get("cohorts/?limit=2").body
    changed = world.send("PATCH", "/api/projects/1/cohorts/1/", {"deleted": True})

    assert (page["count"], [cohort["name"] for cohort in page["results"]]) == (3, ["C0", "C1"])
    assert page["next"] == "http://127.0.0.1/api/projects/1/cohorts/?limit=2&offset=2"
    assert (changed.status, changed.body["deleted"]) == (200, True)
    assert world.get("cohorts/1/").status == 404
    assert world.get("cohorts/2/").body["name"] == "C1"
    assert world.get("cohorts/?limit=0&offset=x").body["count"] == 2


def test_a_hard_delete_is_refused_where_posthog_refuses_it(world: World) -> None:
    world.send("POST", "/api/projects/1/cohorts/", {"name": "C"})
    survey = world.send("POST", "/api/projects/1/surveys/", {"name": "S", "type": "api"}).body

    refused = world.send("DELETE", "/api/projects/1/cohorts/1/")
    assert (refused.status, refused.body["code"]) == (405, "method_not_allowed")
    assert world.send("DELETE", f"/api/projects/1/surveys/{survey['id']}/").status == 204
    assert world.send("POST", "/api/projects/1/event_definitions/", {"name": "x"}).status == 405


def test_basic_insights_come_without_results(world: World) -> None:
    world.send("POST", "/api/projects/1/insights/", {"name": "I"})

    assert "result" in world.get("insights/").body["results"][0]
    assert "result" not in world.get("insights/?basic=true").body["results"][0]


def test_an_event_definition_is_found_by_its_name(world: World) -> None:
    world.store.learn(["paid"], {})

    assert world.get("event_definitions/by_name/?name=paid").body["name"] == "paid"
    assert world.get("event_definitions/by_name/?name=none").status == 404


def test_property_definitions_tell_which_events_carry_them(world: World) -> None:
    world.store.learn([], {("event", "a", None): "String", ("event", "b", None): "String"})
    world.engine.result = EngineResult([("name", "String")], [["a"]], 0.0, 0, 0)
    events = "event_names=%5B%22paid%22%5D"

    marked = world.get(f"property_definitions/?{events}").body["results"]
    filtered = world.get(f"property_definitions/?{events}&filter_by_event_names=true").body["results"]

    assert [entity["is_seen_on_filtered_events"] for entity in marked] == [True, False]
    assert [entity["name"] for entity in filtered] == ["a"]
    assert world.get("property_definitions/?event_names=paid").status == 400


def test_members_of_a_cohort_come_without_a_count(world: World) -> None:
    world.store.create("cohorts", {"name": "C", "is_static": True})
    world.engine.result = EngineResult([("n", "UInt64")], [[0]], 0.0, 0, 0)
    world.api.people = cast(
        Any,
        SimpleNamespace(persons=lambda request, where: {"results": [where], "next": 1, "previous": 2, "count": 3}),
    )

    assert world.get("cohorts/1/persons/").body == {"results": ["id IN COHORT 1"], "next": 1, "previous": 2}
    assert world.get("cohorts/2/persons/").status == 404


def test_persons_and_groups_have_their_addresses(world: World) -> None:
    calls: Callable[[str], Callable[..., Any]] = lambda name: lambda *args: [name, *args[1:]]  # noqa: E731
    world.api.people = cast(
        Any,
        SimpleNamespace(persons=calls("persons"), groups=calls("groups"), group=calls("group"), person=lambda id: [id]),
    )

    assert world.get("persons/").body == ["persons"]
    assert world.get("persons/x/").body == ["x"]
    assert world.get("groups/?group_type_index=0").body == ["groups"]
    assert world.get("groups/find/").body == ["group"]
    assert world.get("groups_types/").body == []


# ---------------------------------------------------------------------------------------------------- the public host


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        ({"event": "e", "distinct_id": "u"}, 401, "event submitted without an api_key"),
        ({"api_key": "", "event": "e"}, 401, "event submitted without an api_key"),
        ({"api_key": PERSONAL, "event": "e", "distinct_id": "u"}, 401, "API key is not valid: personal_api_key"),
        ({"api_key": "phc_other", "event": "e"}, 401, "API key is not valid: unknown_project"),
        ({"api_key": PROJECT, "batch": [{"properties": {"token": "mine"}}]}, 400,
         "event submitted with an empty event name"),
        ({"batch": [{"properties": {"token": PROJECT}}, {"properties": {"token": "phc_other"}}]}, 401,
         "batch submitted with inconsistent api_key values"),
        ({"api_key": PROJECT, "event": ""}, 400, "event submitted with an empty event name"),
        (b"{", 400, "failed to parse request"),
    ],
)  # fmt: skip
def test_capture_refuses_in_plain_text(world: World, body: Any, status: int, text: str) -> None:
    response = world.send("POST", "/batch/", body)

    assert response.status == status
    assert response.body.startswith(text)
    assert world.engine.inserted == []


@pytest.mark.parametrize("path", ["/i/v0/e/", "/e/", "/capture/", "/batch", "/batch/"])
def test_every_capture_address_takes_events_without_a_personal_key(world: World, path: str) -> None:
    body = json.dumps([{"event": "e", "distinct_id": "u", "properties": {"token": PROJECT}}]).encode()
    response = world.api.handle(Request.parse("POST", path, {}, body))

    assert (response.status, response.body) == (200, {"status": "Ok"})
    assert [table for table, _ in world.engine.inserted] == [
        "persons",
        "person_distinct_ids",
        "groups",
        "events",
    ]


def test_events_that_cannot_be_stored_are_a_503_that_may_be_tried_again(world: World) -> None:
    world.engine.error = EngineError(243, "NOT_ENOUGH_SPACE", "disk full")
    response = world.send("POST", "/capture/", {"api_key": PROJECT, "event": "e", "distinct_id": "u"})

    assert (response.status, response.body) == (503, "transient error, please retry")


def test_flags_are_evaluated_for_holders_of_the_token(world: World) -> None:
    world.store.create("feature_flags", {"key": "beta"})
    world.engine.result = EngineResult([("properties", "String")], [], 0.0, 0, 0)
    body = {"api_key": PROJECT, "distinct_id": "u"}

    assert world.send("POST", "/flags/?v=2", body).body["flags"]["beta"]["enabled"] is True
    assert world.send("POST", "/flags?v=2", {"token": PROJECT, "distinct_id": "u"}).status == 200
    assert world.send("POST", "/flags/?v=2", {**body, "api_key": "no"}).body["code"] == "invalid_api_key"
    assert world.send("POST", "/flags/?v=2", {"api_key": PROJECT}).body["code"] == "missing_distinct_id"
    assert world.send("POST", "/flags/?v=2", []).status == 400
    assert world.send("POST", "/flags/", body).body["attr"] == "v"


# -------------------------------------------------------------------------------------------------------- the sockets


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LocalServer]:
    demo = SimpleNamespace(catalog=Catalog(timezone="Europe/Berlin"), cohorts=[], group_types=[])
    with build_server(
        cast(Engine, FakeEngine(str(tmp_path))),
        cast(Any, demo),
        personal_api_key=PERSONAL,
        project_api_key=PROJECT,
    ) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join(30)


def exchange(server: LocalServer, *pieces: bytes) -> bytes:
    """Send raw bytes on one connection and read until the server closes it."""
    with socket.create_connection((server.server_name, server.server_port), timeout=30) as connection:
        for piece in pieces:
            connection.sendall(piece)
        connection.shutdown(socket.SHUT_WR)
        received = b""
        while data := connection.recv(65536):
            received += data
    return received


def test_a_connection_is_kept_for_the_next_request(server: LocalServer) -> None:
    connection = http.client.HTTPConnection(server.server_name, server.server_port, timeout=30)
    headers = {"Authorization": f"Bearer {PERSONAL}"}
    for _ in range(3):
        connection.request("GET", "/api/projects/1/", headers=headers)
        response = connection.getresponse()
        assert (response.status, response.version) == (200, 11)
        assert json.loads(response.read())["timezone"] == "Europe/Berlin"
        sock = connection.sock
    assert sock is not None
    connection.close()


def test_the_server_answers_requests_and_links_to_itself(server: LocalServer) -> None:
    with requests.Session() as session:
        session.trust_env = False
        session.headers["Authorization"] = f"Bearer {PERSONAL}"
        created = session.post(f"{server.url}/api/projects/1/actions/", json={"name": "A"}, timeout=30)
        session.post(f"{server.url}/api/projects/1/actions/", json={"name": "B"}, timeout=30)
        page = session.get(f"{server.url}/api/projects/1/actions/?limit=1", timeout=30).json()
        following = session.get(page["next"], timeout=30).json()

    assert created.status_code == 201
    assert created.headers["Content-Type"] == "application/json"
    assert "Access-Control-Allow-Origin" not in created.headers
    assert page["next"].startswith(server.url)
    assert following["results"][0]["name"] == "B"
    assert (Path(server.api.queries._engine.path) / "entities.json").exists()  # type: ignore[attr-defined]


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "[::2]"])
def test_a_foreign_host_header_is_refused(server: LocalServer, host: str) -> None:
    answer = exchange(server, f"GET /_health HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"Invalid HTTP_HOST header" in answer


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:99", "LOCALHOST", "[::1]:8000"])
def test_a_host_header_of_this_machine_is_fine(server: LocalServer, host: str) -> None:
    answer = exchange(server, f"GET /_health HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())

    assert answer.startswith(b"HTTP/1.1 200 ")


def test_a_server_that_was_bound_elsewhere_on_purpose_trusts_any_host(server: LocalServer) -> None:
    server.server_name = "0.0.0.0"
    assert server.trusts("posthog:8000")


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (f"Content-Length: {MAX_BODY + 1}", b"413"),
        (f"Content-Length: {'9' * 5000}", b"413"),
        ("Content-Length: many", b"400"),
        ("Content-Length: -1", b"400"),
        ("Transfer-Encoding: chunked", b"411"),
    ],
)
def test_a_body_that_is_not_read_ends_its_connection(server: LocalServer, head: str, status: bytes) -> None:
    request = f"POST /batch/ HTTP/1.1\r\nHost: localhost\r\n{head}\r\n\r\n".encode()
    answer = exchange(server, request, b"GET /_health HTTP/1.1\r\nHost: localhost\r\n\r\n")

    assert answer.startswith(b"HTTP/1.1 " + status)
    assert b"Connection: close" in answer
    assert answer.count(b"HTTP/1.1") == 1


def test_the_body_of_a_refused_request_is_not_taken_for_the_next_one(server: LocalServer) -> None:
    post = b"POST /api/projects/1/query/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nGET / HT\n"
    answer = exchange(server, post, b"GET /_health HTTP/1.1\r\nHost: localhost\r\n\r\n")

    assert answer.startswith(b"HTTP/1.1 401 ")
    assert answer.endswith(b'{"status":"ok"}')


def test_a_caller_that_goes_away_in_its_body_harms_nobody(
    server: LocalServer, caplog: pytest.LogCaptureFixture
) -> None:
    assert exchange(server, b"POST /batch/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n{") == b""
    assert exchange(server, b"GET /_health HTTP/1.0\r\nHost: localhost\r\n\r\n").startswith(b"HTTP/1.1 200")
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("line", "status"), [(b"GARBAGE", b"400"), (b"GET / HTTP/9.9", b"505"), (b"GET /" + b"x" * 70_000, b"414")]
)
def test_a_malformed_request_line_gets_an_answer(server: LocalServer, line: bytes, status: bytes) -> None:
    # With or without a status line: the standard library gives none to what it takes for HTTP/0.9.
    assert b"Error code: " + status in exchange(server, line + b"\r\n\r\n")


def test_an_answer_to_head_has_no_body(server: LocalServer) -> None:
    answer = exchange(server, b"HEAD /_health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")

    assert answer.startswith(b"HTTP/1.1 405 ")
    assert answer.endswith(b"\r\n\r\n")


def test_a_failure_outside_the_api_is_logged_and_the_server_lives(
    server: LocalServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(Request, "parse", fail)
        exchange(server, b"GET /_health HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert "ZeroDivisionError" in caplog.text
    assert exchange(server, b"GET /_health HTTP/1.0\r\nHost: localhost\r\n\r\n").endswith(b"}")


def test_limits_that_do_not_exist_are_refused_before_anything_listens(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="got 'moon'"):
        build_server(
            cast(Engine, FakeEngine(str(tmp_path))),
            cast(Any, SimpleNamespace(catalog=Catalog())),
            personal_api_key=PERSONAL,
            project_api_key=PROJECT,
            limits="moon",
        )
