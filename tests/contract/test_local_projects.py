"""Several projects, keys and scripted faults of an embedded PostHog, through its real server and engine."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import requests

from posthog_driver.exceptions import (
    AuthorizationError,
    PostHogError,
    QueryTimeoutError,
    QueryTooHeavyError,
    QuotaError,
    RateLimitError,
    ValidationError,
)
from posthog_driver.local import Fault, Limits, LocalPostHog, LocalProject

HANG = 60.0


def ask(project: LocalProject, method: str, path: str = "", body: Any = None, key: str = "") -> requests.Response:
    return requests.request(
        method,
        f"{project.url}/api/projects/{project.project_id}/{path}",
        json=body,
        headers={"Authorization": f"Bearer {key or project.personal_api_key}"},
        timeout=HANG,
    )


def rows(project: LocalProject, hogql: str) -> Any:
    body = {"query": {"kind": "HogQLQuery", "query": hogql}, "refresh": "force_blocking"}
    answer = ask(project, "POST", "query/", body)
    assert answer.status_code == 200, answer.text
    return answer.json()["results"]


def capture(project: LocalProject, event: str, distinct_id: str, **properties: Any) -> None:
    body = {"api_key": project.project_api_key, "event": event, "distinct_id": distinct_id, "properties": properties}
    assert requests.post(f"{project.url}/i/v0/e/", json=body, timeout=HANG).status_code == 200


def until(condition: Callable[[], Any]) -> Any:
    """Wait for what another process is about to do; the limit is only there so that nothing hangs."""
    pause = threading.Event()
    for _ in range(3000):
        with suppress(requests.RequestException):
            if found := condition():
                return found
        pause.wait(0.02)
    raise AssertionError("it never became true")


@pytest.fixture(scope="module")
def local() -> Iterator[LocalPostHog]:
    with LocalPostHog(events=500, seed=1) as local:
        yield local


@pytest.fixture
def project(local: LocalPostHog) -> Iterator[LocalProject]:
    project = local.new_project(name="One")
    yield project
    local.drop_project(project)


@pytest.fixture
def other(local: LocalPostHog) -> Iterator[LocalProject]:
    project = local.new_project(name="Other", timezone="Asia/Tokyo", week_start_day=1)
    yield project
    local.drop_project(project)


# ------------------------------------------------------------------------------------------------------ apart


def test_events_persons_and_groups_of_two_projects_stay_apart(project: LocalProject, other: LocalProject) -> None:
    capture(project, "seen", "ada", **{"$set": {"plan": "free"}, "$groups": {"team": "a"}})
    capture(other, "paid", "ada", **{"$set": {"plan": "pro"}, "$groups": {"shop": "b"}})
    capture(other, "paid", "bob")

    everything = "SELECT event, person.properties.plan FROM events ORDER BY distinct_id"
    assert rows(project, everything) == [["seen", "free"]]
    assert rows(other, everything) == [["paid", "pro"], ["paid", None]]
    assert [ask(each, "GET", "persons/").json()["count"] for each in (project, other)] == [1, 2]
    assert rows(project, "SELECT count() FROM groups") == [[0]]
    assert [ask(each, "GET", "groups_types/").json()[0]["group_type"] for each in (project, other)] == ["team", "shop"]
    names = [[d["name"] for d in ask(each, "GET", "event_definitions/").json()["results"]] for each in (project, other)]
    assert names == [["seen"], ["paid"]]


def test_merging_persons_in_one_project_leaves_those_of_another(project: LocalProject, other: LocalProject) -> None:
    for each in (project, other):
        capture(each, "visit", "visitor-1")
        capture(each, "visit", "ada")
    capture(project, "$identify", "ada", **{"$anon_distinct_id": "visitor-1"})

    merged = "SELECT count(DISTINCT person_id) FROM events WHERE event = 'visit'"
    assert (rows(project, merged), rows(other, merged)) == ([[1]], [[2]])


def test_a_new_project_knows_nothing_of_the_demo_data(project: LocalProject, local: LocalPostHog) -> None:
    assert rows(local.project, "SELECT count() FROM events") == [[500]]
    assert rows(project, "SELECT count() FROM events") == [[0]]
    for kind in ("cohorts", "insights", "feature_flags", "event_definitions"):
        assert ask(local.project, "GET", f"{kind}/").json()["count"] > 0
        assert ask(project, "GET", f"{kind}/").json()["count"] == 0
    assert rows(project, "SELECT count() FROM system.feature_flags") == [[0]]


def test_the_database_of_another_project_cannot_be_named(project: LocalProject, other: LocalProject) -> None:
    for name in (f"posthog_{other.project_id}.events", f"`posthog_{other.project_id}.events`"):
        body = {"query": {"kind": "HogQLQuery", "query": f"SELECT * FROM {name}"}}
        answer = ask(project, "POST", "query/", body)
        assert (answer.status_code, answer.json()["type"]) == (400, "validation_error")


def test_a_project_has_its_own_time_zone_and_week(project: LocalProject, other: LocalProject) -> None:
    for each in (project, other):
        body = {"api_key": each.project_api_key, "event": "e", "distinct_id": "u", "timestamp": "2026-01-04T20:00:00Z"}
        assert requests.post(f"{each.url}/i/v0/e/", json=body, timeout=HANG).status_code == 200
    hogql = "SELECT toDate(timestamp), toStartOfWeek(timestamp) FROM events"

    assert rows(project, hogql) == [["2026-01-04", "2026-01-04"]]
    assert rows(other, hogql) == [["2026-01-05", "2026-01-05"]]
    ask(other, "PATCH", "", {"timezone": "UTC"})
    assert rows(other, hogql) == [["2026-01-04", "2025-12-29"]]


def test_a_dropped_project_is_gone_and_the_others_are_not(local: LocalPostHog, project: LocalProject) -> None:
    gone = local.new_project()
    capture(gone, "e", "u")
    local.drop_project(gone)

    assert ask(gone, "GET").status_code == 401
    assert ask(gone, "GET", key=local.personal_api_key).status_code == 404
    body = {"api_key": gone.project_api_key, "event": "e", "distinct_id": "u"}
    assert requests.post(f"{local.url}/i/v0/e/", json=body, timeout=HANG).status_code == 401
    assert rows(project, "SELECT 1") == [[1]]
    assert local.new_project().project_id > gone.project_id


def test_a_running_query_ends_with_its_project(local: LocalPostHog) -> None:
    gone = local.new_project()
    endless = _hogql("SELECT count() FROM numbers(1000000000000) WHERE sin(number) > 2")
    answers: list[requests.Response] = []
    for number in range(50):
        body = {**endless, "client_query_id": f"q{number}"}
        asking = threading.Thread(target=lambda body: answers.append(ask(gone, "POST", "query/", body)), args=(body,))
        asking.start()
        said = until(lambda: (told := what_of(gone, f"q{number}")) != "Query already complete" and told)  # noqa: B023
        if "already running" in said:
            break
        asking.join(HANG)

    local.drop_project(gone)

    asking.join(HANG)
    assert (answers[-1].status_code, answers[-1].json()["code"]) == (400, "query_was_cancelled")


def what_of(project: LocalProject, query_id: str) -> str:
    """Return what the server says of a query that is only to be stopped if it does not run yet."""
    return str(ask(project, "DELETE", f"query/{query_id}/?dequeue_only=true").json()["message"])


def test_many_projects_can_be_made_at_once(local: LocalPostHog) -> None:
    made: list[LocalProject] = []
    threads = [threading.Thread(target=lambda: made.append(local.new_project())) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(HANG)

    assert len({project.project_id for project in made}) == 6
    assert len({project.project_api_key for project in made}) == 6
    for number, project in enumerate(made):
        capture(project, f"event {number}", "u")
    assert [rows(project, "SELECT event FROM events") for project in made] == [[[f"event {n}"]] for n in range(6)]
    for project in made:
        local.drop_project(project)


def test_what_cannot_be_set_of_a_project_is_a_validation_error(local: LocalPostHog) -> None:
    with pytest.raises(ValidationError, match='"Mars/Olympus" is not a valid choice'):
        local.new_project(timezone="Mars/Olympus")
    with pytest.raises(ValidationError, match="may not be blank"):
        local.new_project(name=" ")
    with pytest.raises(ValidationError, match="not JSON serializable"):
        local.new_project(app_urls={"a"})
    with pytest.raises(ValidationError, match="does not delete the project that it was started with"):
        local.drop_project(local.project)
    with pytest.raises(ValidationError, match="Project not found"):
        local.drop_project(10_000)


# -------------------------------------------------------------------------------------------------------- keys


def test_the_keys_of_a_project_are_not_shown(project: LocalProject, local: LocalPostHog) -> None:
    assert project.personal_api_key not in repr(project)
    assert project.project_api_key not in repr(project)
    assert repr(local) == f"LocalPostHog(url='{local.url}', project_id=1)"


def test_a_client_of_a_project_has_its_rights_and_no_more(
    project: LocalProject, other: LocalProject, local: LocalPostHog
) -> None:
    with project.client() as client:
        client.capture_event("seen", "ada")
        assert list(client.query("SELECT event FROM events")) == [{"event": "seen"}]
        assert client.config.rate_limit_per_minute is None
    for elsewhere in (other, local.project):
        with elsewhere.client(api_key=project.personal_api_key) as client, pytest.raises(AuthorizationError):
            client.query("SELECT 1")


def test_the_first_key_can_be_limited_while_the_owner_still_makes_projects() -> None:
    with LocalPostHog(events=0, scopes=["query:read"]) as limited:
        assert rows(limited.project, "SELECT 1") == [[1]]
        refused = ask(limited.project, "GET", "cohorts/")
        assert (refused.status_code, refused.json()["detail"]) == (403, "API key missing required scope 'cohort:read'")
        hidden = ask(limited.project, "POST", "query/", _hogql("SELECT name FROM system.insights"))
        assert "You don't have access to table `system.insights`" in hidden.json()["detail"]
        assert ask(limited.new_project(), "GET", "cohorts/").status_code == 200


def _hogql(text: str) -> dict[str, Any]:
    return {"query": {"kind": "HogQLQuery", "query": text}}


# ------------------------------------------------------------------------------------------------------ on disk


def test_projects_keys_and_events_are_there_again_after_a_restart(tmp_path: Path) -> None:
    keys = {"personal_api_key": "phx_test_key", "project_api_key": "phc_test_key"}
    with LocalPostHog(tmp_path, events=0, timezone="Europe/Berlin", **keys) as first:
        kept, gone = first.new_project(name="Kept", timezone="Asia/Tokyo"), first.new_project(name="Gone")
        capture(kept, "before", "u")
        first.drop_project(gone)
        ask(first.project, "PATCH", "", {"name": "Renamed"})

    with LocalPostHog(tmp_path, events=0, **keys) as second:
        again = LocalProject(second.url, kept.project_id, kept.name, kept.personal_api_key, kept.project_api_key)
        capture(again, "after", "u")
        assert rows(again, "SELECT event FROM events ORDER BY timestamp") == [["before"], ["after"]]
        assert ask(again, "GET").json()["timezone"] == "Asia/Tokyo"
        assert ask(second.project, "GET").json()["timezone"] == "Europe/Berlin"
        listed = second._ask_server("GET", "/api/projects/")["results"]
        assert [(entry["id"], entry["name"]) for entry in listed] == [(1, "Renamed"), (kept.project_id, "Kept")]
        assert second.new_project().project_id > gone.project_id
    stored = b"".join(path.read_bytes() for path in tmp_path.glob("*.json"))
    assert kept.project_api_key.encode() in stored
    assert kept.personal_api_key.encode() not in stored


def test_a_killed_server_comes_back_with_its_projects(capfd: pytest.CaptureFixture[str]) -> None:
    with LocalPostHog(events=0) as local:
        project = local.new_project()
        capture(project, "survivor", "u")
        os.kill(local._process.pid, signal.SIGKILL)

        assert until(lambda: rows(project, "SELECT event FROM events")) == [["survivor"]]
        local.inject("capacity")
        assert ask(project, "GET").status_code == 503
        local.drop_project(project)
    assert "listening again" in capfd.readouterr().err


def test_a_server_killed_while_it_takes_events_loses_none_that_it_confirmed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    confirmed: list[str] = []
    enough = threading.Event()
    with LocalPostHog(tmp_path, events=0) as local:

        def send(project: LocalProject, sender: int) -> None:
            number = 0
            while not enough.is_set():
                number += 1
                name = f"{sender}-{number}"
                body = {"api_key": project.project_api_key, "event": name, "distinct_id": f"u{number % 7}"}
                with suppress(requests.RequestException):
                    if requests.post(f"{local.url}/i/v0/e/", json=body, timeout=HANG).status_code == 200:
                        confirmed.append(name)

        projects = [local.project, local.new_project()]
        threads = [threading.Thread(target=send, args=(projects[n % 2], n)) for n in range(4)]
        for thread in threads:
            thread.start()
        for kill in range(3):
            until(lambda: len(confirmed) > 15 * (kill + 1))  # noqa: B023 - it is called at once
            process = local._process
            os.kill(process.pid, signal.SIGKILL)
            until(lambda: local._process is not process)  # noqa: B023
        until(lambda: len(confirmed) > 70)
        enough.set()
        for thread in threads:
            thread.join(HANG)
        found = [name for project in projects for (name,) in rows(project, "SELECT event FROM events LIMIT 50000")]

    assert set(confirmed) <= set(found)
    assert capfd.readouterr().err.count("listening again") == 3


# ------------------------------------------------------------------------------------------------------- faults


@pytest.fixture
def script(local: LocalPostHog) -> Iterator[LocalPostHog]:
    yield local
    local.clear_faults()


@pytest.mark.parametrize(
    ("name", "error", "status"),
    [
        ("quota", QuotaError, 402),
        ("throttled", RateLimitError, 429),
        ("concurrency", RateLimitError, 429),
        ("timeout", QueryTimeoutError, 504),
        ("memory", QueryTooHeavyError, 513),
        ("too_slow", QueryTooHeavyError, 512),
        ("capacity", PostHogError, 503),
        ("maintenance", PostHogError, 503),
        ("database", PostHogError, 503),
        ("server_error", PostHogError, 500),
        ("forbidden", AuthorizationError, 403),
    ],
)
def test_the_driver_can_be_rehearsed_with_what_production_does(
    script: LocalPostHog, name: str, error: type[PostHogError], status: int
) -> None:
    script.inject({"name": name, "path": "/query/"})

    with script.client(max_retries=0) as client, pytest.raises(error) as caught:
        client.query("SELECT 1", fresh=True)

    assert caught.value.status == status
    assert script.faults_left() == []


def test_a_fault_is_for_what_it_names_and_as_often_as_it_says(script: LocalPostHog) -> None:
    script.inject(Fault("capacity", path="/cohorts/", times=2), Fault("quota", method="POST", times=None))

    assert [ask(script.project, "GET", "cohorts/").status_code for _ in range(3)] == [503, 503, 200]
    assert [ask(script.project, "POST", "query/", _hogql("SELECT 1")).status_code for _ in range(3)] == [402] * 3
    assert script.faults_left() == [Fault("quota", method="POST", times=None)]
    script.clear_faults()
    assert ask(script.project, "POST", "query/", _hogql("SELECT 1")).status_code == 200


@pytest.mark.parametrize("drop", ["before", "after", "middle", "reset"])
def test_a_dropped_answer_is_asked_for_again(script: LocalPostHog, drop: str) -> None:
    script.inject({"path": "/query/", "drop": drop, "delay": 0.01})

    with script.client() as client:
        assert list(client.query("SELECT 41 + 1 AS n", fresh=True)) == [{"n": 42}]
    assert script.faults_left() == []


def test_an_event_whose_answer_was_lost_is_counted_once(script: LocalPostHog, project: LocalProject) -> None:
    script.inject({"path": "^/i/|^/batch/|^/capture/", "drop": "after"})

    with project.client() as client:
        client.capture_event("paid", "ada")
    assert script.faults_left() == []
    assert rows(project, "SELECT count() FROM events") == [[1]]


def test_a_line_that_cannot_be_is_said_before_it_is_sent(script: LocalPostHog) -> None:
    with pytest.raises(ValidationError, match="drop must be one of"):
        script.inject("capacity", {"drop": "sometimes"})
    assert script.faults_left() == []


def test_a_closed_server_cannot_be_asked() -> None:
    closed = LocalPostHog(events=0)
    closed.close()

    for call in (closed.new_project, closed.clear_faults, closed.client):
        with pytest.raises(PostHogError, match="is closed"):
            call()


def test_a_server_that_does_not_answer_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with LocalPostHog(events=0) as local:
        url = local.url
        monkeypatch.setattr(local, "url", "http://127.0.0.1:1")
        with pytest.raises(PostHogError, match="does not answer"):
            local.new_project()
        monkeypatch.setattr(local, "url", url)


# ------------------------------------------------------------------------------------------------ times and limits


def test_the_time_of_a_query_can_be_set() -> None:
    endless = "SELECT count() FROM numbers(1000000000000) WHERE sin(number) > 2"
    with LocalPostHog(events=0, query_seconds=0.3, timezone="Asia/Tokyo") as local:
        answer = ask(local.project, "POST", "query/", _hogql(endless))

        assert (answer.status_code, answer.json()["type"]) == (504, "server_error"), answer.text
        assert rows(local.project, "SELECT toString(toDateTime('2026-01-01T00:00:00Z'))") == [
            ["2026-01-01 09:00:00.000000"]
        ]


def test_limits_of_ones_own_are_kept_to() -> None:
    limits = Limits(queries=((2, 3600.0),), running=1, queue_seconds=0.0)
    with LocalPostHog(events=0, limits=limits) as local:
        statuses = [ask(local.project, "POST", "query/", _hogql("SELECT 1")).status_code for _ in range(3)]
        assert statuses == [200, 200, 429]
        project = local.new_project()
        assert project.limited
        assert ask(project, "POST", "query/", _hogql("SELECT 1")).status_code == 200
