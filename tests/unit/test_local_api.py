"""The API of the embedded PostHog over an engine that is only pretended."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from posthog_driver.local import queries
from posthog_driver.local.engine import EngineError, EngineResult
from posthog_driver.local.faults import Fault
from posthog_driver.local.limits import Limits
from posthog_driver.local.parser import HogQLError
from posthog_driver.local.queries import QuerySettings
from posthog_driver.local.wire import Request, Response
from tests.unit.local_world import OWNER, PERSONAL, PROJECT, SQL, World


def until(condition: Callable[[], Any]) -> None:
    """Wait for what another thread is about to do; the limit is only there so that nothing hangs."""
    pause = threading.Event()
    for _ in range(6000):
        if condition():
            return
        pause.wait(0.005)
    raise AssertionError("it never became true")


@pytest.fixture
def world() -> World:
    return World()


# ----------------------------------------------------------------------------------------------------- who may ask what


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
    assert (key["scopes"], key["scoped_teams"], key["value"]) == (["*"], [], None)
    assert key["mask_value"] == "phx_...teen"
    assert PERSONAL not in repr(vars(world.keys))


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
    assert "<!doctype html>" in world.api.handle(Request.parse("GET", "/")).body.lower()


def test_scripted_faults_come_before_the_truth() -> None:
    world = World(faults=[(503, {"Retry-After": "1"}, {"detail": "busy"}), (200, {}, "not JSON")])

    assert world.api.handle(Request.parse("GET", "/_health")).body == {"status": "ok"}
    first, second, third = (world.query() for _ in range(3))

    assert (first.status, first.headers, first.body) == (503, {"Retry-After": "1"}, {"detail": "busy"})
    assert (second.status, second.body) == (200, "not JSON")
    assert third.body["results"] == [["a"], ["b"]]


# -------------------------------------------------------------------------------------------------------------- queries


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
    world.send("POST", "/api/projects/1/insight_variables/", {"name": "name", "type": "String"})
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


# ---------------------------------------------------------------------------------------------------- in the background


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

    assert len(world.project.queries._workers._threads) == queries.BACKGROUND_RUNS
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
    world.project.queries.close()
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
    assert [name[:6] for name in world.project.queries._shelf._answers] == ["cache_"]


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
    answers: dict[str, Response] = {}

    def ask(name: str) -> None:
        answers[name] = world.query({**SQL, "query": f"SELECT '{name}'"}, client_query_id=name)

    first, second = (threading.Thread(target=ask, args=(name,)) for name in ("first", "second"))
    first.start()
    assert world.engine.started.wait(30)
    second.start()
    until(lambda: len(world.project.queries._active) == 2)
    cancel = "/api/projects/1/query/second/?dequeue_only=true"
    cancelling = threading.Thread(target=lambda: world.send("DELETE", cancel))
    cancelling.start()
    assert world.engine.asked_to_cancel.wait(30)
    world.engine.held.set()
    for thread in (first, second, cancelling):
        thread.join(30)

    assert answers["first"].status == 200
    assert (answers["second"].status, answers["second"].body["code"]) == (400, "query_was_cancelled")
    assert len(world.engine.ran) == 1


def test_the_time_that_a_query_waits_for_its_turn_is_not_counted() -> None:
    world = World(limits=Limits(running=1, queue_seconds=60.0), settings=QuerySettings(blocking_seconds=10.0))
    world.engine.held = threading.Event()
    answers: list[Response] = []
    threads = [
        threading.Thread(target=lambda n=n: answers.append(world.query({**SQL, "query": f"SELECT {n}"})))  # type: ignore[misc]
        for n in range(2)
    ]
    threads[0].start()
    assert world.engine.started.wait(30)
    threads[1].start()
    until(lambda: len(world.project.queries._active) == 2)
    world.now += 9.0
    world.engine.held.set()
    for thread in threads:
        thread.join(30)

    assert [answer.status for answer in answers] == [200, 200]
    assert [seconds for _, seconds in world.engine.ran] == [10.0, 10.0]


# --------------------------------------------------------------------------------------------------------------- limits


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
    thread = threading.Thread(target=world.query)
    thread.start()
    assert world.engine.started.wait(30)
    refused = world.query({**SQL, "query": "SELECT 2"})
    background = world.query(refresh="force_async", client_query_id="q")
    world.engine.held.set()
    thread.join(30)

    assert (refused.status, refused.body["code"], refused.headers) == (429, "throttled", {})
    assert refused.body["detail"].startswith("Too many queries are running right now")
    assert background.status == 202
    assert world.wait_for("q").status == 200


def test_background_runs_take_no_place_from_blocking_queries() -> None:
    world = World(limits=Limits(running=1, queue_seconds=0.0))
    world.engine.held = threading.Event()
    for name in ("q1", "q2", "q3"):
        world.query({**SQL, "query": f"SELECT '{name}'"}, refresh="force_async", client_query_id=name)
    until(lambda: len(world.engine.running) == 3)
    world.engine.held, held = None, world.engine.held

    assert world.query().status == 200
    held.set()
    assert {world.wait_for(name).status for name in ("q1", "q2", "q3")} == {200}


def test_each_project_has_a_gate_of_its_own() -> None:
    world = World(limits=Limits(running=1, queue_seconds=0.0))
    other = world.new_project()
    world.engine.held = threading.Event()
    thread = threading.Thread(target=world.query)
    thread.start()
    assert world.engine.started.wait(30)
    world.engine.held, held = None, world.engine.held

    assert world.query(project=other).status == 200
    held.set()
    thread.join(30)


def test_each_key_has_windows_of_its_own() -> None:
    world = World(limits=Limits(others=((1, 60.0),)))
    assert [world.get("cohorts/").status for _ in range(2)] == [200, 429]
    key = world.new_key(["cohort:read"])

    assert [world.send("GET", "/api/projects/1/cohorts/", key=key).status for _ in range(2)] == [200, 429]


# ----------------------------------------------------------------------------------------------------- several projects


def test_a_new_project_has_a_number_a_token_a_database_and_what_was_set(world: World) -> None:
    body = {"name": "Mine", "timezone": "Asia/Tokyo", "week_start_day": 1, "api_token": "phc_own", "nonsense": 1}
    made = world.send("POST", "/api/organizations/@current/projects/", body)
    again = world.send("POST", "/api/projects/", {})

    assert made.status == 201
    assert (made.body["id"], made.body["name"], made.body["timezone"]) == (2, "Mine", "Asia/Tokyo")
    assert made.body["api_token"].startswith("phc_")
    assert made.body["api_token"] not in ("phc_own", again.body["api_token"])
    assert (again.body["id"], again.body["name"], again.body["is_demo"]) == (3, "Default project", False)
    assert {"posthog", "posthog_2", "posthog_3"} <= set(world.engine.made)
    assert world.send("GET", "/api/projects/2/").body == made.body


def test_a_query_of_a_project_reads_its_database_in_its_time_zone(world: World) -> None:
    other = world.new_project(timezone="Asia/Tokyo")
    sql = {**SQL, "query": "SELECT toDate(timestamp) FROM events LIMIT 5"}

    own, theirs = (world.query(sql, project=number).body for number in (1, other))

    assert "posthog.`events`" in own["clickhouse"]
    assert "posthog_2.`events`" in theirs["clickhouse"]
    assert "posthog.`" not in theirs["clickhouse"]
    assert (own["timezone"], theirs["timezone"]) == ("UTC", "Asia/Tokyo")
    assert "Asia/Tokyo" in theirs["clickhouse"]
    assert own["cache_key"] != theirs["cache_key"]


def test_entities_caches_and_query_ids_of_projects_stay_apart(world: World) -> None:
    other = world.new_project()
    world.send("POST", "/api/projects/1/cohorts/", {"name": "C"})
    world.query()
    world.query(refresh="force_async", client_query_id="q")
    world.wait_for("q")

    assert world.send("GET", f"/api/projects/{other}/cohorts/").body["count"] == 0
    assert world.query(project=other).body["is_cached"] is False
    assert world.send("GET", f"/api/projects/{other}/query/q/").body["detail"] == "Query q not found for team 2"
    assert world.send("DELETE", f"/api/projects/{other}/query/q/").body == {"message": "Query already complete"}


def test_events_and_flags_go_to_the_project_of_the_token(world: World) -> None:
    other = world.new_project()
    token = world.send("GET", f"/api/projects/{other}/").body["api_token"]
    world.query(project=other)
    world.query()

    sent = world.send("POST", "/capture/", {"api_key": token, "event": "e", "distinct_id": "u"})

    assert sent.status == 200
    assert {database for database, _ in world.engine.inserted} == {"posthog_2"}
    assert [world.query(project=number).body["is_cached"] for number in (1, other)] == [True, False]
    world.send("POST", f"/api/projects/{other}/feature_flags/", {"key": "beta"})
    world.engine.result = EngineResult([("properties", "String")], [], 0.0, 0, 0)
    asked = {"distinct_id": "u"}
    assert list(world.send("POST", "/flags/?v=2", {**asked, "api_key": token}).body["flags"]) == ["beta"]
    assert world.send("POST", "/flags/?v=2", {**asked, "api_key": PROJECT}).body["flags"] == {}


def test_a_token_in_the_query_string_names_the_project(world: World) -> None:
    other = world.new_project()
    token = world.send("GET", f"/api/projects/{other}/").body["api_token"]

    assert world.send("GET", f"/api/projects/1/?token={token}").body["id"] == other
    unknown = world.send("GET", "/api/projects/1/?token=phc_none")
    assert (unknown.status, unknown.body["type"]) == (401, "authentication_error")


def test_what_is_set_of_a_project_counts_at_once(world: World) -> None:
    sql = {**SQL, "query": "SELECT timestamp FROM events LIMIT 1"}
    world.query(sql)
    changed = world.send("PATCH", "/api/projects/1/", {"timezone": "America/Lima", "name": "Renamed"})

    assert (changed.status, changed.body["name"], changed.body["timezone"]) == (200, "Renamed", "America/Lima")
    body = world.query(sql).body
    assert (body["is_cached"], body["timezone"]) == (False, "America/Lima")
    filters = [{"key": "email", "value": "@x.test", "operator": "not_icontains", "type": "person"}]
    world.send("PATCH", "/api/projects/1/", {"test_account_filters": filters, "week_start_day": 1})
    catalog = world.project.catalog()
    assert (catalog.test_account_filters, catalog.week_start, catalog.team_id) == (tuple(filters), 1, 1)


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("name", "", "blank"),
        ("name", 5, "invalid_input"),
        ("name", "x" * 201, "max_length"),
        ("timezone", "Mars/Olympus", "invalid_choice"),
        ("timezone", "../../etc/passwd", "invalid_choice"),
        ("timezone", None, "invalid_choice"),
        ("week_start_day", 2, "invalid_choice"),
        ("week_start_day", True, "invalid_choice"),
        ("test_account_filters", {}, "invalid_input"),
        ("test_account_filters", [1], "invalid_input"),
        ("test_account_filters", [{"value": 1}], "invalid_input"),
        ("app_urls", "https://x.test", "invalid_input"),
        ("anonymize_ips", "yes", "invalid_input"),
    ],
)
def test_a_field_of_a_project_that_cannot_be_is_refused_and_nothing_changes(
    world: World, field: str, value: Any, code: str
) -> None:
    before = world.send("GET", "/api/projects/1/").body
    made = world.send("POST", "/api/projects/", {field: value})
    changed = world.send("PATCH", "/api/projects/1/", {"product_description": "x", field: value})

    assert (made.status, made.body["code"], made.body["attr"]) == (400, code, field)
    assert changed.body == made.body
    assert world.send("GET", "/api/projects/1/").body == before
    assert world.engine.made == ["posthog"]


def test_a_removed_project_is_gone_with_its_database_and_its_keys(world: World) -> None:
    other = world.new_project()
    own = world.new_key(["*"], [other])
    shared = world.new_key(["*"], [1, other])
    path = f"/api/projects/{other}/"

    assert world.send("DELETE", path).status == 204
    assert "posthog_2" not in world.engine.made
    assert world.send("GET", path).status == 404
    assert world.send("GET", path, key=own).status == 401
    assert world.send("GET", "/api/projects/1/", key=shared).status == 200
    assert world.send("POST", "/api/projects/", {}).body["id"] == other + 1


def test_the_queries_of_a_removed_project_are_stopped(world: World) -> None:
    other = world.new_project()
    world.engine.held = threading.Event()
    world.query(project=other, refresh="force_async", client_query_id="q")
    assert world.engine.started.wait(30)

    world.send("DELETE", f"/api/projects/{other}/")

    assert world.engine.running == {}


def test_the_first_project_cannot_be_removed(world: World) -> None:
    response = world.send("DELETE", "/api/projects/1/")

    assert (response.status, response.body["type"]) == (400, "validation_error")
    assert world.send("GET", "/api/projects/1/").status == 200


def test_a_project_whose_database_cannot_be_made_is_not_there(world: World) -> None:
    world.engine.error = EngineError(243, "NOT_ENOUGH_SPACE", "disk full")
    assert world.send("POST", "/api/projects/", {}).status == 500
    world.engine.error = None

    assert world.send("GET", "/api/projects/").body["count"] == 1
    assert world.send("POST", "/api/projects/", {}).body["id"] == 3


def test_projects_are_listed_in_their_organization(world: World) -> None:
    world.new_project()
    organizations = world.send("GET", "/api/organizations/").body
    id = organizations["results"][0]["id"]

    assert organizations["count"] == 1
    assert [project["id"] for project in organizations["results"][0]["projects"]] == [1, 2]
    assert world.send("GET", f"/api/organizations/{id}/").body == world.send("GET", "/api/organizations/@current").body
    listed = world.send("GET", f"/api/organizations/{id}/projects/?limit=1").body
    assert [project["id"] for project in listed["results"]] == [1]
    assert listed["next"].endswith("limit=1&offset=1")
    assert world.send("GET", "/api/projects/?offset=1").body["previous"].count("offset=0") == 1
    for method, path in (("GET", ""), ("GET", "projects/"), ("POST", "projects/")):
        missing = world.send(method, f"/api/organizations/none/{path}", {} if method == "POST" else None)
        assert (missing.status, missing.body["detail"]) == (404, "Organization not found.")


# ------------------------------------------------------------------------------------------------------ keys and scopes


def test_the_value_of_a_key_is_shown_once(world: World) -> None:
    body = {"label": "Mine", "scopes": ["query:read"], "scoped_teams": [1]}
    made = world.send("POST", "/api/personal_api_keys/", body).body
    shown = world.send("GET", "/api/personal_api_keys/@current/", key=made["value"]).body

    assert made["value"].startswith("phx_")
    assert shown == {**made, "value": None}
    assert (shown["label"], shown["scopes"], shown["scoped_teams"]) == ("Mine", ["query:read"], [1])
    assert made["value"] not in repr([vars(key) for key in world.keys._made])


@pytest.mark.parametrize(
    ("change", "attr"),
    [
        ({"label": ""}, "label"),
        ({"label": None}, "label"),
        ({"label": "x" * 41}, "label"),
        ({"scopes": []}, "scopes"),
        ({"scopes": "query:read"}, "scopes"),
        ({"scopes": ["query:run"]}, "scopes"),
        ({"scopes": ["moon:read"]}, "scopes"),
        ({"scopes": [5]}, "scopes"),
        ({"scoped_teams": [2]}, "scoped_teams"),
        ({"scoped_teams": [True]}, "scoped_teams"),
        ({"scoped_teams": "1"}, "scoped_teams"),
    ],
)
def test_a_key_that_cannot_be_is_not_made(world: World, change: dict[str, Any], attr: str) -> None:
    body = {"label": "Mine", "scopes": ["*"], "scoped_teams": [], **change}
    response = world.send("POST", "/api/personal_api_keys/", body)

    assert (response.status, response.body["attr"]) == (400, attr)
    assert world.keys._made == []


SCOPES = [
    ("GET", "users/@me/", "user:read"),
    ("POST", "personal_api_keys/", "personal_api_key:write"),
    ("GET", "organizations/", "organization:read"),
    ("GET", "organizations/@current/projects/", "project:read"),
    ("POST", "projects/", "project:write"),
    ("GET", "projects/1/", "project:read"),
    ("PATCH", "projects/1/", "project:write"),
    ("DELETE", "projects/1/", "project:write"),
    ("POST", "projects/1/query/", "query:read"),
    ("GET", "projects/1/query/x/", "query:read"),
    ("DELETE", "projects/1/query/x/", "query:read"),
    ("GET", "projects/1/persons/", "person:read"),
    ("GET", "projects/1/persons/x/", "person:read"),
    ("GET", "projects/1/cohorts/1/persons/", "cohort:read"),
    ("GET", "projects/1/groups_types/", "group:read"),
    ("GET", "projects/1/groups/", "group:read"),
    ("GET", "projects/1/event_definitions/by_name/", "event_definition:read"),
    ("GET", "projects/1/property_definitions/", "property_definition:read"),
    ("GET", "projects/1/feature_flags/", "feature_flag:read"),
    ("POST", "projects/1/insights/", "insight:write"),
    ("GET", "environments/1/dashboards/1/", "dashboard:read"),
    ("PATCH", "projects/1/annotations/1/", "annotation:write"),
    ("DELETE", "projects/1/surveys/x/", "survey:write"),
]


@pytest.mark.parametrize(("method", "path", "scope"), SCOPES)
def test_a_route_asks_for_its_scope(world: World, method: str, path: str, scope: str) -> None:
    every = [f"{name}:{action}" for name in ("query", "person", "notebook") for action in ("read", "write")]
    without = [name for name in every if not name.startswith(scope.partition(":")[0])]
    body = None if method == "GET" else {}
    refused = world.send(method, f"/api/{path}", body, key=world.new_key(without))

    assert refused.status == 403
    assert refused.body == {
        "type": "authentication_error",
        "code": "permission_denied",
        "detail": f"API key missing required scope '{scope}'",
        "attr": None,
    }
    if scope != "personal_api_key:write":
        for holding in {scope, scope.replace("read", "write")}:
            assert world.send(method, f"/api/{path}", body, key=world.new_key([holding])).status != 403
    if scope.endswith(":write") and scope != "personal_api_key:write":
        reading = world.new_key([scope.replace("write", "read")])
        assert world.send(method, f"/api/{path}", body, key=reading).status == 403


def test_the_scopes_of_the_first_key_can_be_less_than_all() -> None:
    world = World(scopes=("query:read",))

    assert world.query().status == 200
    assert world.get("cohorts/").status == 403


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "query/HogQLQuery/"),
        ("POST", "query/upgrade/"),
        ("POST", "query/check_auth_for_async/"),
        ("GET", "query/draft_sql/?prompt=x"),
        ("GET", "query/q/log/"),
    ],
)
def test_what_posthog_has_for_its_own_pages_is_closed_to_every_key(world: World, method: str, path: str) -> None:
    refused = world.send(method, f"/api/projects/1/{path}", {} if method == "POST" else None)

    assert (refused.status, refused.body["code"]) == (403, "permission_denied")
    assert refused.body["detail"] == "This action does not support personal API key access"


def test_a_key_of_a_project_reaches_no_other(world: World) -> None:
    other = world.new_project()
    key = world.new_key(["*"], [other])

    def ask(path: str) -> Response:
        return world.send("GET", path, key=key)

    assert ask(f"/api/projects/{other}/").status == 200
    for path in ("/api/projects/1/", "/api/projects/@current/"):
        assert ask(path).body["detail"] == "API key does not have access to the requested project: ID 1."
    for path in ("/api/projects/", "/api/organizations/"):
        detail = "API keys with scoped projects are only supported on project-based endpoints."
        assert (ask(path).status, ask(path).body["detail"]) == (403, detail)
    assert ask("/api/projects/9/").status == 404
    assert ask("/api/users/@me/").status == 200
    assert ask("/api/personal_api_keys/@current/").body["scoped_teams"] == [other]


def test_a_system_table_needs_the_scope_of_what_it_shows(world: World) -> None:
    sql = {**SQL, "query": "SELECT name FROM system.dashboards LIMIT 5"}
    without, with_it = world.new_key(["query:read"]), world.new_key(["query:read", "dashboard:write"])
    path = "/api/projects/1/query/"

    assert world.send("POST", path, {"query": sql}, key=with_it).status == 200
    for _ in range(2):
        refused = world.send("POST", path, {"query": sql}, key=without)
        assert (refused.status, refused.body["type"]) == (400, "validation_error")
        assert refused.body["detail"].startswith("You don't have access to table `system.dashboards`.")
    world.send("POST", path, {"query": sql, "refresh": "force_async", "client_query_id": "q"}, key=without)
    assert "You don't have access" in world.wait_for("q").body["query_status"]["error_message"]
    schema = {"query": {"kind": "DatabaseSchemaQuery"}}
    assert "system.dashboards" in world.send("POST", path, schema, key=with_it).body["tables"]
    assert "system.dashboards" not in world.send("POST", path, schema, key=without).body["tables"]


# ----------------------------------------------------------------------------------------------------------- the script


def test_only_the_owner_may_change_the_script_of_faults(world: World) -> None:
    for key in (PERSONAL, "", "owner"):
        for method in ("GET", "POST", "DELETE"):
            assert world.send(method, "/_local/faults/", [], key=key).status == 404
    assert World().send("GET", "/_local/faults/", key=OWNER).body == []


def test_lines_are_added_listed_used_up_and_taken_back(world: World) -> None:
    added = world.send("POST", "/_local/faults/", ["capacity", {"name": "quota", "times": None}], key=OWNER)

    assert [line["name"] for line in added.body] == ["capacity", "quota"]
    assert [world.query().status for _ in range(4)] == [503, 402, 402, 402]
    assert world.send("DELETE", "/_local/faults/", key=OWNER).status == 204
    assert world.query().status == 200


@pytest.mark.parametrize("lines", [{}, ["moon"], [{"nonsense": 1}], [{"times": 0}], [5]])
def test_a_script_that_cannot_be_read_is_refused_whole(world: World, lines: Any) -> None:
    sent = ["capacity", *lines] if isinstance(lines, list) else lines

    assert world.send("POST", "/_local/faults/", sent, key=OWNER).status == 400
    assert world.query().status == 200


def test_the_owner_and_the_health_are_never_hit_by_a_fault() -> None:
    world = World(faults=[{"name": "capacity", "times": None}])

    assert world.send("POST", "/api/projects/", {}, key=OWNER).status == 201
    assert world.api.handle(Request.parse("GET", "/_health")).status == 200
    assert world.query().status == 503


def test_a_late_fault_waits_and_a_faulty_answer_may_still_be_the_true_one() -> None:
    world = World(faults=[Fault(delay=2.5, headers={"X-Proxy": "slow"}), Fault(drop="after"), Fault(drop="before")])

    late = world.query()
    assert (late.status, late.headers["X-Proxy"], world.slept) == (200, "slow", [2.5])
    assert (world.query({**SQL, "query": "SELECT 2"}).drop, len(world.engine.ran)) == ("silent", 2)
    assert (world.query({**SQL, "query": "SELECT 3"}).drop, len(world.engine.ran)) == ("silent", 2)


# ------------------------------------------------------------------------------------------------------------- entities


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
    world.project.store.learn(["paid"], {})

    assert world.get("event_definitions/by_name/?name=paid").body["name"] == "paid"
    assert world.get("event_definitions/by_name/?name=none").status == 404


def test_property_definitions_tell_which_events_carry_them(world: World) -> None:
    world.project.store.learn([], {("event", "a", None): "String", ("event", "b", None): "String"})
    world.engine.result = EngineResult([("name", "String")], [["a"]], 0.0, 0, 0)
    events = "event_names=%5B%22paid%22%5D"

    marked = world.get(f"property_definitions/?{events}").body["results"]
    filtered = world.get(f"property_definitions/?{events}&filter_by_event_names=true").body["results"]

    assert [entity["is_seen_on_filtered_events"] for entity in marked] == [True, False]
    assert [entity["name"] for entity in filtered] == ["a"]
    assert world.get("property_definitions/?event_names=paid").status == 400


def test_members_of_a_cohort_come_without_a_count(world: World) -> None:
    world.project.store.create("cohorts", {"name": "C", "is_static": True})
    world.engine.result = EngineResult([("n", "UInt64")], [[0]], 0.0, 0, 0)
    world.project.people = cast(
        Any,
        SimpleNamespace(persons=lambda request, where: {"results": [where], "next": 1, "previous": 2, "count": 3}),
    )

    assert world.get("cohorts/1/persons/").body == {"results": ["id IN COHORT 1"], "next": 1, "previous": 2}
    assert world.get("cohorts/2/persons/").status == 404


def test_persons_have_their_addresses(world: World) -> None:
    people = SimpleNamespace(persons=lambda *_: {"results": ["persons"]}, person=lambda id: [id])
    world.project.people = cast(Any, people)

    assert world.get("persons/").body == {"results": ["persons"]}
    assert world.get("persons/x/").body == ["x"]
    assert world.get("groups_types/").body == []


# ------------------------------------------------------------------------------------------------------ the public host


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
    assert [rows[0] for _, rows in world.engine.inserted] == [
        "persons",
        "person_distinct_ids",
        "events",
    ]


def test_events_that_cannot_be_stored_are_a_503_that_may_be_tried_again(world: World) -> None:
    world.engine.error = EngineError(243, "NOT_ENOUGH_SPACE", "disk full")
    response = world.send("POST", "/capture/", {"api_key": PROJECT, "event": "e", "distinct_id": "u"})

    assert (response.status, response.body) == (503, "transient error, please retry")


def test_flags_are_evaluated_for_holders_of_the_token(world: World) -> None:
    world.project.store.create("feature_flags", {"key": "beta"})
    world.engine.result = EngineResult([("properties", "String")], [], 0.0, 0, 0)
    body = {"api_key": PROJECT, "distinct_id": "u"}

    assert world.send("POST", "/flags/?v=2", body).body["flags"]["beta"]["enabled"] is True
    assert world.send("POST", "/flags?v=2", {"token": PROJECT, "distinct_id": "u"}).status == 200
    assert world.send("POST", "/flags/?v=2", {**body, "api_key": "no"}).body["code"] == "invalid_api_key"
    assert world.send("POST", "/flags/?v=2", {"api_key": PROJECT}).body["code"] == "missing_distinct_id"
    assert world.send("POST", "/flags/?v=2", []).status == 400
    assert world.send("POST", "/flags/?v=9", body).body["attr"] == "v"


def test_a_finished_run_is_not_there_for_a_key_that_may_read_less(world: World) -> None:
    started = world.query(SQL, refresh="force_async", client_query_id="of-all")
    assert world.wait_for("of-all").status == 200
    may_query = world.new_key(["query:read"])

    found = world.send("GET", "/api/projects/1/query/of-all/", key=may_query)

    assert (started.status, found.status) == (202, 404)
    world.send(
        "POST",
        "/api/projects/1/query/",
        {"query": SQL, "refresh": "force_async", "client_query_id": "of-few"},
        key=may_query,
    )
    assert world.wait_for("of-few").status == 200
    assert world.send("GET", "/api/projects/1/query/of-few/", key=may_query).status == 200
