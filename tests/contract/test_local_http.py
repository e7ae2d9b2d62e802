"""The embedded PostHog as any HTTP client sees it: a real child process, real queries, plain `requests`."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

import pytest
import requests

from posthog_driver.local import LocalPostHog

HANG = 60.0
SLOW = "SELECT count() FROM events a CROSS JOIN events b CROSS JOIN events c WHERE a.distinct_id != b.distinct_id"


class Http:
    """The API of one embedded PostHog."""

    def __init__(self, local: LocalPostHog) -> None:
        self.local = local
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.headers["Authorization"] = f"Bearer {local.personal_api_key}"

    def send(self, method: str, path: str, **options: Any) -> requests.Response:
        url = f"{self.local.url}/api/projects/{self.local.project_id}/{path}"
        return self.session.request(method, url, timeout=HANG, **options)

    def get(self, path: str, **params: Any) -> Any:
        response = self.send("GET", path, params=params)
        assert response.status_code == 200, response.text
        return response.json()

    def query(
        self, hogql: str, *, refresh: str = "blocking", query_id: str | None = None, **node: Any
    ) -> requests.Response:
        query = {"kind": "HogQLQuery", "query": hogql, **node}
        return self.send("POST", "query/", json={"query": query, "refresh": refresh, "client_query_id": query_id})

    def rows(self, hogql: str, **node: Any) -> list[list[Any]]:
        response = self.query(hogql, **node)
        assert response.status_code == 200, response.text
        rows: list[list[Any]] = response.json()["results"]
        return rows

    def public(self, path: str, body: Any, **options: Any) -> requests.Response:
        return requests.post(f"{self.local.url}{path}", json=body, timeout=HANG, **options)

    def capture(self, event: str, distinct_id: str, properties: dict[str, Any] | None = None, **more: Any) -> None:
        body = {"event": event, "distinct_id": distinct_id, "properties": properties or {}, **more}
        response = self.public("/i/v0/e/", {"api_key": self.local.project_api_key, **body})
        assert (response.status_code, response.json()) == (200, {"status": "Ok"})

    def wait_for(self, query_id: str) -> requests.Response:
        """Poll until the query is done."""
        deadline = time.monotonic() + HANG
        while time.monotonic() < deadline:
            response = self.send("GET", f"query/{query_id}/", params={"show_progress": "true"})
            if response.status_code != 202:
                return response
            time.sleep(0.02)
        raise AssertionError("the query was never done")


@pytest.fixture(scope="module")
def http() -> Iterator[Http]:
    with LocalPostHog(events=3000, end=datetime(2026, 6, 1, tzinfo=timezone.utc)) as local:
        http = Http(local)
        with http.session:
            yield http


def some_name() -> str:
    return f"u-{uuid.uuid4()}"


def test_the_generated_events_are_counted(http: Http) -> None:
    body = http.query("SELECT event, count() AS n FROM events GROUP BY event ORDER BY n DESC, event LIMIT 1000").json()

    assert body["columns"] == ["event", "n"]
    assert body["types"] == [["event", "String"], ["n", "UInt64"]]
    assert dict(body["results"]) == http.local.truth["event_counts"]
    assert body["hasMore"] is None


def test_a_query_without_a_limit_stops_at_a_hundred_and_says_so(http: Http) -> None:
    body = http.query("SELECT uuid FROM events").json()

    assert (len(body["results"]), body["hasMore"], body["limit"]) == (100, True, 100)


def test_values_are_bound_and_never_read_as_sql(http: Http) -> None:
    text = "o'\\ {x} -- %"

    assert http.rows("SELECT {a}, {b}, {c}", values={"a": text, "b": 5, "c": None}) == [[text, 5, None]]


def test_the_same_question_is_answered_from_the_cache(http: Http) -> None:
    question = f"SELECT '{some_name()}'"

    assert [http.query(question).json()["is_cached"] for _ in range(2)] == [False, True]
    assert http.query(question, refresh="force_blocking").json()["is_cached"] is False


@pytest.mark.parametrize(
    ("hogql", "words"),
    [
        ("SELECT evnt FROM events", "Unable to resolve field: evnt"),
        ("SELECT * FROM evnts", "Unknown table `evnts`."),
        ("SELECT countif(1) FROM events", "countif"),
        ("SELECT", "mismatched|expected|error|unexpected|no viable|must list"),
        ("SELECT event FROM events LIMIT 1 OFFSET 1", "OFFSET"),
        ("SELECT * FROM file('/etc/hostname')", "file"),
    ],
)
def test_a_wrong_query_is_a_400_with_posthogs_body(http: Http, hogql: str, words: str) -> None:
    response = http.query(hogql)

    body = response.json()
    assert response.status_code == 400
    assert body["type"] == "validation_error"
    assert body["attr"] is None
    assert any(word.lower() in body["detail"].lower() for word in words.split("|"))
    assert body["extra"]["hogql_metadata"]["isValid"] is False


def test_an_error_of_the_engine_leaves_the_next_answer_clean(http: Http) -> None:
    response = http.query("SELECT toString(number) + intDiv(1, number - 5000) FROM numbers(100000) LIMIT 50000")

    assert response.status_code in (400, 500)
    assert http.rows("SELECT 1 AS one") == [[1]]


def test_an_unknown_key_and_an_unknown_kind_are_refused(http: Http) -> None:
    unknown_key = http.query("SELECT 1", limit=5)
    unknown_kind = http.send("POST", "query/", json={"query": {"kind": "HogQuery", "code": "return 1"}})

    assert (unknown_key.status_code, unknown_key.json()["code"]) == (400, "parse_error")
    assert "does not have query kind HogQuery" in unknown_kind.json()["detail"]


def test_the_wrong_key_is_a_401_and_the_wrong_project_a_404(http: Http) -> None:
    url = f"{http.local.url}/api/projects/1/"

    wrong = requests.get(url, headers={"Authorization": f"Bearer {http.local.project_api_key}"}, timeout=HANG)
    assert (wrong.status_code, wrong.json()["code"]) == (401, "authentication_failed")
    assert wrong.headers["WWW-Authenticate"].startswith("Bearer ")
    assert http.session.get(f"{http.local.url}/api/projects/99/", timeout=HANG).status_code == 404
    assert (
        http.session.get(f"{http.local.url}/api/projects/@current/", timeout=HANG).json()["id"] == http.local.project_id
    )


def test_a_background_query_gives_its_answer_when_polled(http: Http) -> None:
    query_id = some_name()
    started = http.query("SELECT count() FROM events", refresh="force_async", query_id=query_id)
    done = http.wait_for(query_id)

    assert (started.status_code, started.json()["query_status"]["id"]) == (202, query_id)
    status = done.json()["query_status"]
    assert (done.status_code, status["complete"], status["error"]) == (200, True, False)
    assert status["results"]["results"][0][0] >= 3000
    assert status["query_progress"]["rows_read"] > 0


def test_a_background_query_is_stopped_in_the_engine(http: Http) -> None:
    query_id = some_name()
    http.query(SLOW, refresh="force_async", query_id=query_id)
    deadline = time.monotonic() + HANG
    while not http.send("GET", f"query/{query_id}/").json()["query_status"]["pickup_time"]:
        assert time.monotonic() < deadline
    progress = http.send("GET", f"query/{query_id}/", params={"show_progress": "true"}).json()["query_status"]
    cancelled = http.send("DELETE", f"query/{query_id}/")
    done = http.wait_for(query_id)

    assert set(progress["query_progress"]) == {
        "rows_read", "bytes_read", "estimated_rows_total", "time_elapsed", "active_cpu_time",
    }  # fmt: skip
    assert (cancelled.status_code, cancelled.json()) == (200, {"message": "Query cancelled"})
    assert (done.status_code, done.json()["query_status"]["error_message"]) == (400, "Query was cancelled.")


def test_a_blocking_query_is_stopped_from_another_connection(http: Http) -> None:
    query_id = some_name()
    answers: list[requests.Response] = []
    thread = threading.Thread(target=lambda: answers.append(http.query(SLOW, query_id=query_id)))
    thread.start()
    deadline = time.monotonic() + HANG
    while thread.is_alive() and time.monotonic() < deadline:
        requests.delete(
            f"{http.local.url}/api/projects/1/query/{query_id}/",
            headers={"Authorization": f"Bearer {http.local.personal_api_key}"},
            timeout=HANG,
        )
        thread.join(0.05)

    assert (answers[0].status_code, answers[0].json()["code"]) == (400, "query_was_cancelled")


def test_the_schema_lists_the_tables_and_their_fields(http: Http) -> None:
    tables = http.send("POST", "query/", json={"query": {"kind": "DatabaseSchemaQuery"}}).json()["tables"]

    assert {"events", "persons", "sessions", "groups"} <= set(tables)
    assert tables["events"]["fields"]["properties"]["type"] == "json"


def test_a_query_can_be_checked_without_running_it(http: Http) -> None:
    check = {"kind": "HogQLMetadata", "language": "hogQL", "query": "SELECT evnt FROM events"}
    found = http.send("POST", "query/", json={"query": check}).json()

    assert (found["isValid"], found["errors"][0]["start"], found["errors"][0]["end"]) == (False, 7, 11)


def test_a_captured_event_can_be_queried_at_once(http: Http) -> None:
    name = some_name()
    question = (
        f"SELECT event, properties.amount, person.properties.plan, timestamp FROM events WHERE distinct_id = '{name}'"
    )
    assert http.rows(question) == []

    http.capture("paid", name, {"amount": 12, "$set": {"plan": "pro"}}, timestamp="2026-05-01T00:00:00Z")

    assert http.rows(question)[0][0] == "paid"
    assert http.rows(question)[0][2:] == ["pro", "2026-05-01T00:00:00Z"]
    assert "paid" in [row["name"] for row in http.get("event_definitions/", search="paid")["results"]]
    assert (
        http.get("property_definitions/", search="amount", event_names='["paid"]', filter_by_event_names="true")[
            "count"
        ]
        >= 1
    )


def test_a_packed_batch_that_comes_twice_is_stored_once(http: Http) -> None:
    name = some_name()
    events = [
        {"event": "b", "distinct_id": name, "uuid": str(uuid.uuid4()), "timestamp": "2026-05-01"} for _ in range(50)
    ]
    body = gzip.compress(json.dumps({"api_key": http.local.project_api_key, "batch": events}).encode())
    for _ in range(2):
        response = requests.post(
            f"{http.local.url}/batch/", data=body, headers={"Content-Encoding": "gzip"}, timeout=HANG
        )
        assert response.status_code == 200, response.text

    assert http.rows(f"SELECT count(), count(DISTINCT uuid) FROM events WHERE distinct_id = '{name}'") == [[50, 50]]


def test_identify_joins_the_events_of_two_names(http: Http) -> None:
    anonymous, user = some_name(), some_name()
    http.capture("visit", anonymous, {"$set": {"source": "ad"}})
    http.capture("visit", user)
    http.capture("$identify", user, {"$anon_distinct_id": anonymous, "$set": {"email": f"{user}@x.test"}})

    (person,) = http.get("persons/", distinct_id=anonymous)["results"]
    assert sorted(person["distinct_ids"]) == sorted([anonymous, user])
    assert person["properties"] == {"source": "ad", "email": f"{user}@x.test"}
    assert http.get(f"persons/{person['uuid']}/") == person
    assert http.get("persons/", email=f"{user}@x.test")["count"] == 1
    found = http.rows(
        f"SELECT count(), count(DISTINCT person_id) FROM events WHERE distinct_id IN ('{anonymous}', '{user}')"
    )
    assert found == [[3, 1]]


def test_persons_are_filtered_and_paged(http: Http) -> None:
    paying = [{"key": "is_paying", "value": ["true"], "operator": "exact", "type": "person"}]
    everyone = http.get("persons/", limit=1)
    filtered = http.get("persons/", properties=json.dumps(paying), limit=5)
    following = http.session.get(everyone["next"], timeout=HANG).json()

    assert 0 < filtered["count"] < everyone["count"]
    assert all(person["properties"]["is_paying"] is True for person in filtered["results"])
    assert following["results"][0]["uuid"] != everyone["results"][0]["uuid"]
    wanted = filtered["results"][0]["properties"]["email"]
    assert http.get("persons/", search=wanted)["count"] == 1


@pytest.mark.parametrize("operator", ["exact", "is_not", "icontains", "not_icontains", "regex", "not_regex", "is_set",
                                      "is_not_set", "gt", "lte"])  # fmt: skip
def test_every_operator_of_a_property_filter_runs(http: Http, operator: str) -> None:
    for key, value in (("seats", "3"), ("plan", "pro")):
        if operator in ("gt", "lte") and key == "plan":
            continue
        entry = [{"key": key, "value": value, "operator": operator, "type": "person"}]
        opposite = {"is_not": "exact", "not_icontains": "icontains", "not_regex": "regex", "is_not_set": "is_set"}
        count = http.get("persons/", properties=json.dumps(entry), limit=1)["count"]
        if operator in opposite:
            positive = [{**entry[0], "operator": opposite[operator]}]
            total = http.get("persons/", limit=1)["count"]
            assert count + http.get("persons/", properties=json.dumps(positive), limit=1)["count"] == total


def test_a_cohort_of_the_demo_has_the_members_that_the_truth_knows(http: Http) -> None:
    for cohort in http.get("cohorts/")["results"]:
        if cohort["name"] in http.local.truth["cohorts"]:
            expected = http.local.truth["cohorts"][cohort["name"]]
            hogql = f"SELECT count() FROM persons WHERE id IN COHORT {cohort['id']}"
            assert http.rows(hogql) == [[expected]]
            page = http.get(f"cohorts/{cohort['id']}/persons/", limit=1)
            assert set(page) == {"results", "next", "previous"}


def test_a_new_cohort_can_be_asked_for_at_once(http: Http) -> None:
    name = some_name()
    http.capture("visit", name, {"$set": {"lucky": name}})
    filters = {"properties": {"type": "AND", "values": [{"key": "lucky", "value": name, "type": "person"}]}}
    created = http.send("POST", "cohorts/", json={"name": name, "filters": filters})
    assert created.status_code == 201, created.text

    assert http.rows(f"SELECT count() FROM persons WHERE id IN COHORT {created.json()['id']}") == [[1]]
    assert http.get(f"cohorts/{created.json()['id']}/persons/")["results"][0]["distinct_ids"] == [name]


def test_groups_have_types_pages_and_properties(http: Http) -> None:
    key = some_name()
    http.capture("$groupidentify", "u", {"$group_type": "company", "$group_key": key, "$group_set": {"name": key}})
    http.capture("paid", "u", {"$groups": {"company": key}})
    (company, *_) = http.get("groups_types/")

    assert (company["group_type"], company["group_type_index"]) == ("company", 0)
    assert http.get("groups/", group_type_index=0, search=key)["results"][0]["group_key"] == key
    assert http.get("groups/find/", group_type_index=0, group_key=key)["group_properties"] == {"name": key}
    assert http.rows(f"SELECT group_0.properties.name FROM events WHERE `$group_0` = '{key}'") == [[key]]


@pytest.mark.parametrize("kind", ["cohorts", "insights", "dashboards", "feature_flags", "experiments", "annotations",
                                  "event_definitions", "property_definitions"])  # fmt: skip
def test_the_demo_has_entities_of_every_kind(http: Http, kind: str) -> None:
    page = http.get(f"{kind}/", limit=1)

    assert page["count"] > 0
    # A dashboard of a list is without its tiles.
    assert page["results"][0].items() <= http.get(f"{kind}/{page['results'][0]['id']}/").items()


@pytest.mark.parametrize("kind", ["actions", "surveys"])
def test_kinds_that_the_demo_has_nothing_of_are_empty_pages(http: Http, kind: str) -> None:
    assert http.get(f"{kind}/") == {"count": 0, "next": None, "previous": None, "results": []}


def test_insights_of_one_type_are_found(http: Http) -> None:
    found = http.get("insights/", insight="FUNNELS", basic="true")["results"]

    assert found
    assert all(insight["query"]["source"]["kind"] == "FunnelsQuery" for insight in found)


def test_a_flag_says_the_same_to_whoever_asks_as_the_events_remember(http: Http) -> None:
    seen = http.rows(
        "SELECT distinct_id, properties.$feature_flag_response FROM events "
        "WHERE event = '$feature_flag_called' AND properties.$feature_flag = 'signup-form' LIMIT 20"
    )
    assert seen
    for distinct_id, variant in seen:
        body = {"api_key": http.local.project_api_key, "distinct_id": distinct_id}
        flags = http.public("/flags/?v=2", body).json()["flags"]
        assert flags["signup-form"]["variant"] == variant


IN_A_PROCESS_OF_ITS_OWN = """
import sys
from posthog_driver.local import demo, engine, queries, server, wire

storage = engine.Engine()
settings = queries.QuerySettings(blocking_seconds=0.2)
empty = demo.load(storage, events=0, seed=0)
with server.build_server(storage, empty, personal_api_key="k", project_api_key="p", settings=settings) as listening:
    for query in sys.argv[1:]:
        body = ('{"query": {"kind": "HogQLQuery", "query": "' + query + '"}}').encode()
        request = wire.Request.parse("POST", "/api/projects/1/query/", {"Authorization": "Bearer k"}, body)
        response = listening.api.handle(request)
        print(response.status, response.body.get("code"), response.body.get("results"))
storage.close()
"""


def test_a_query_that_takes_too_long_is_a_504_and_the_next_answer_is_clean() -> None:
    slow = "SELECT count() FROM numbers(1000000) AS a CROSS JOIN numbers(1000000) AS b"
    command = [sys.executable, "-c", IN_A_PROCESS_OF_ITS_OWN, slow, "SELECT 1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANG, check=True)

    assert done.stdout.splitlines() == ["504 error None", "200 None [[1]]"]


def test_many_callers_at_once_get_their_own_rows(http: Http) -> None:
    found: dict[int, Any] = {}

    def ask(number: int) -> None:
        response = requests.post(
            f"{http.local.url}/api/projects/1/query/",
            json={"query": {"kind": "HogQLQuery", "query": f"SELECT {number}, count() FROM numbers({number + 1})"}},
            headers={"Authorization": f"Bearer {http.local.personal_api_key}"},
            timeout=HANG,
        )
        found[number] = response.json().get("results")

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(HANG)

    assert found == {number: [[number, number + 1]] for number in range(12)}


def test_the_limits_of_the_cloud_can_be_rehearsed() -> None:
    with LocalPostHog(events=0, limits="cloud") as local:
        http = Http(local)
        with http.session:
            statuses = [http.query("SELECT 1 AS one").status_code for _ in range(241)]
            refused = http.query("SELECT 1 AS one")

    assert statuses.count(200) >= 240
    assert (refused.status_code, refused.json()["code"]) == (429, "throttled")
    assert int(refused.headers["Retry-After"]) > 0


def test_what_is_captured_survives_a_restart_when_a_directory_is_given(tmp_path: Any) -> None:
    for expected in (1, 2):
        with LocalPostHog(tmp_path / "data", events=0) as local:
            http = Http(local)
            with http.session:
                http.capture("visit", "u", {"$groups": {"team": "a"}})
                http.send("POST", "annotations/", json={"content": "Release"})
                assert http.rows("SELECT count() FROM events") == [[expected]]
                assert http.get("annotations/", search="release")["count"] == expected
                assert http.get("groups_types/")[0]["group_type"] == "team"
