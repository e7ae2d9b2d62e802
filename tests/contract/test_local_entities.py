"""The REST entities of the embedded PostHog over plain HTTP: what can be listed, made, changed, hidden and removed."""

from __future__ import annotations

import csv
import io
import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import urlencode

import pytest
import requests

from posthog_driver.local import LocalPostHog, LocalProject

HANG = 60.0


class Rest:
    """The REST API of one project."""

    def __init__(self, project: LocalProject) -> None:
        self.project = project
        self.base = f"{project.url}/api/projects/{project.project_id}/"

    def send(self, method: str, path: str, body: Any = None, key: str = "", **options: Any) -> requests.Response:
        url = path if path.startswith("http") else self.base + path
        headers = {"Authorization": f"Bearer {key or self.project.personal_api_key}"}
        return requests.request(method, url, json=body, headers=headers, timeout=HANG, **options)

    def get(self, path: str, **params: Any) -> Any:
        answer = self.send("GET", path + (f"?{urlencode(params)}" if params else ""))
        assert answer.status_code == 200, answer.text
        return answer.json()

    def make(self, path: str, **body: Any) -> Any:
        answer = self.send("POST", path, body)
        assert answer.status_code == 201, answer.text
        return answer.json()

    def change(self, path: str, **body: Any) -> Any:
        answer = self.send("PATCH", path, body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def refused(self, method: str, path: str, body: Any = None) -> tuple[int, str | None]:
        answer = self.send(method, path, body)
        found = answer.json()
        assert set(found) >= {"type", "code", "detail", "attr"}
        return answer.status_code, found["attr"]

    def names(self, path: str, name: str = "name", **params: Any) -> list[Any]:
        return [entry[name] for entry in self.get(path, **params)["results"]]

    def table(self, path: str) -> list[dict[str, str]]:
        answer = self.send("GET", path)
        assert answer.status_code == 200, answer.text
        assert answer.headers["Content-Type"].startswith("text/csv")
        return list(csv.DictReader(io.StringIO(answer.text)))

    def capture(self, event: str, distinct_id: str, properties: dict[str, Any] | None = None, **more: Any) -> None:
        entry = {"event": event, "distinct_id": distinct_id, "properties": properties or {}, **more}
        body = {"api_key": self.project.project_api_key, "batch": [entry]}
        assert requests.post(f"{self.project.url}/batch/", json=body, timeout=HANG).status_code == 200

    def upload(self, fields: dict[str, str], file: bytes | None) -> requests.Response:
        headers = {"Authorization": f"Bearer {self.project.personal_api_key}"}
        name = "other" if file is None else "csv"
        files = {name: ("list.csv", file or b"", "text/csv")}
        return requests.post(f"{self.base}cohorts/", data=fields, files=files, headers=headers, timeout=HANG)

    def person(self, distinct_id: str) -> Any:
        found = self.get("persons/", distinct_id=distinct_id)["results"]
        return found[0] if found else None

    def query(self, hogql: str) -> Any:
        answer = self.send("POST", "query/", {"query": {"kind": "HogQLQuery", "query": hogql}})
        assert answer.status_code == 200, answer.text
        return answer.json()["results"]


@pytest.fixture(scope="module")
def local() -> Iterator[LocalPostHog]:
    with LocalPostHog(events=0) as local:
        yield local


@pytest.fixture
def rest(local: LocalPostHog) -> Iterator[Rest]:
    project = local.new_project(name="Entities")
    yield Rest(project)
    local.drop_project(project)


# ------------------------------------------------------------------------------------------------------- every kind

BODIES: dict[str, dict[str, Any]] = {
    "actions": {"name": "One"},
    "annotations": {"content": "One", "date_marker": "2026-01-01T00:00:00Z", "scope": "project"},
    "cohorts": {"name": "One"},
    "dashboards": {"name": "One"},
    "early_access_feature": {"name": "One", "stage": "beta"},
    "experiments": {"name": "One", "feature_flag_key": "one"},
    "feature_flags": {"key": "one"},
    "insight_variables": {"name": "One", "type": "String"},
    "insights": {"name": "One"},
    "notebooks": {"title": "One"},
    "session_recording_playlists": {"name": "One"},
    "surveys": {"name": "One", "type": "popover"},
}
REMOVABLE = ("early_access_feature", "insight_variables", "surveys")
ADDRESS = {"notebooks": "short_id", "session_recording_playlists": "short_id"}


@pytest.mark.parametrize("kind", BODIES)
def test_an_entity_is_made_found_changed_and_gone(rest: Rest, kind: str) -> None:
    made = rest.make(f"{kind}/", **BODIES[kind], nonsense=1)
    key = made[ADDRESS.get(kind, "id")]
    assert "nonsense" not in made
    assert rest.get(f"{kind}/{key}/")[ADDRESS.get(kind, "id")] == key
    assert rest.get(f"{kind}/")["count"] == 1
    title = next(name for name in ("name", "content", "title", "key") if name in BODIES[kind])
    assert rest.change(f"{kind}/{key}/", **{title: "two"})[title] == "two"

    if kind in REMOVABLE:
        assert rest.send("DELETE", f"{kind}/{key}/").status_code == 204
    else:
        assert rest.refused("DELETE", f"{kind}/{key}/") == (405, None)
        assert rest.send("PATCH", f"{kind}/{key}/", {"deleted": True}).status_code == 200
    assert rest.get(f"{kind}/")["results"] == []
    assert rest.refused("GET", f"{kind}/{key}/") == (404, None)


@pytest.mark.parametrize("kind", BODIES)
def test_a_field_of_the_wrong_type_is_refused_by_name(rest: Rest, kind: str) -> None:
    title = next(name for name in ("name", "content", "title", "key") if name in BODIES[kind])

    assert rest.refused("POST", f"{kind}/", {**BODIES[kind], title: 3}) == (400, title)
    assert rest.refused("POST", f"{kind}/", [1])[0] == 400
    assert rest.refused("PATCH", f"{kind}/999/", {}) == (404, None)
    assert rest.refused("GET", f"{kind}/999/") == (404, None)
    assert rest.get(f"{kind}/")["count"] == 0


def test_pages_lead_to_each_other_by_absolute_addresses(rest: Rest) -> None:
    for number in range(7):
        rest.make("actions/", name=f"a{number}")

    first = rest.get("actions/", limit=3)
    assert (first["count"], first["previous"]) == (7, None)
    assert first["next"].startswith(rest.base)
    pages, address = [], first["next"]
    while address:
        page = rest.send("GET", address).json()
        pages.append(page)
        address = page["next"]
    assert [len(page["results"]) for page in pages] == [3, 1]
    found = [entry["name"] for page in (first, *pages) for entry in page["results"]]
    assert sorted(found) == [f"a{number}" for number in range(7)]
    assert rest.send("GET", pages[1]["previous"]).json()["results"] == pages[0]["results"]


def test_variables_are_paged_by_number(rest: Rest) -> None:
    for number in range(101):
        rest.make("insight_variables/", name=f"Variable {number}", type="Number", default_value=number)

    first = rest.get("insight_variables/")
    assert (first["count"], len(first["results"]), first["previous"]) == (101, 100, None)
    second = rest.send("GET", first["next"]).json()
    assert (len(second["results"]), second["next"]) == (1, None)
    assert rest.refused("GET", "insight_variables/?page=3") == (404, None)
    assert "variable_7" in [entry["code_name"] for entry in first["results"]]


def test_kinds_that_are_not_there_are_refused_by_name(rest: Rest) -> None:
    for name in ("batch_exports", "warehouse_tables", "activity_log", "hog_functions"):
        answer = rest.send("GET", f"{name}/")
        assert answer.status_code == 400
        assert name in answer.json()["detail"]
    assert "sharing of dashboards" in rest.send("GET", "dashboards/1/sharing/").json()["detail"]


def test_a_key_that_may_only_read_changes_nothing(local: LocalPostHog, rest: Rest) -> None:
    team = rest.project.project_id
    asked = {"label": "Reader", "scopes": ["action:read", "person:read"], "scoped_teams": [team]}
    reader = local._ask_server("POST", "/api/personal_api_keys/", asked)["value"]
    rest.capture("seen", "ada")
    person = rest.person("ada")["id"]

    assert rest.send("GET", "actions/", key=reader).status_code == 200
    for method, path in (
        ("POST", "actions/"),
        ("GET", "insights/"),
        ("DELETE", f"persons/{person}/"),
        ("POST", "persons/bulk_delete/"),
    ):
        answer = rest.send(method, path, {}, key=reader)
        assert (answer.status_code, answer.json()["code"]) == (403, "permission_denied")


# ---------------------------------------------------------------------------------------------------------- persons


def three_people(rest: Rest) -> None:
    for name, plan, day in (("ada", "pro", 1), ("bob", "free", 2), ("eve", "pro", 3)):
        properties = {"$set": {"plan": plan, "email": f"{name}@example.com", "age": day * 10}}
        rest.capture("seen", name, properties, timestamp=f"2026-01-0{day}T00:00:00Z")


def people(rest: Rest, **params: Any) -> list[str]:
    return [person["distinct_ids"][0] for person in rest.get("persons/", **params)["results"]]


def test_persons_are_listed_newest_first_and_filtered(rest: Rest) -> None:
    three_people(rest)
    plan = '[{"key": "plan", "value": "pro", "operator": "exact", "type": "person"}]'
    older = '[{"key": "age", "value": 15, "operator": "gt", "type": "person"}]'

    assert people(rest) == ["eve", "bob", "ada"]
    assert people(rest, distinct_id="bob") == ["bob"]
    assert people(rest, email="eve@example.com") == ["eve"]
    assert people(rest, properties=plan) == ["eve", "ada"]
    assert people(rest, properties=older) == ["eve", "bob"]
    assert people(rest, search="BOB@") == ["bob"]
    assert people(rest, search="%") == []
    assert people(rest, limit=1, offset=1) == ["bob"]
    assert rest.refused("GET", "persons/?properties=x") == (400, "properties")
    odd = urlencode({"properties": '[{"key": "plan", "operator": "resembles", "value": 1, "type": "person"}]'})
    assert rest.refused("GET", f"persons/?{odd}")[0] == 400


def test_persons_come_as_csv_too(rest: Rest) -> None:
    three_people(rest)

    rows = rest.table("persons/?format=csv&search=ada")
    assert [(row["properties.plan"], row["distinct_ids.0"]) for row in rows] == [("pro", "ada")]
    assert rest.send("GET", "persons/?format=xml").status_code == 404


def test_one_person_is_found_changed_and_removed(rest: Rest) -> None:
    three_people(rest)
    id = rest.person("ada")["id"]

    assert rest.get(f"persons/{id}/")["properties"]["plan"] == "pro"
    assert rest.refused("GET", f"persons/{uuid.uuid4()}/") == (404, None)
    assert rest.refused("GET", "persons/nobody/") == (404, None)
    assert rest.send("POST", f"persons/{id}/update_property/", {"key": "plan", "value": "team"}).status_code in (
        200,
        202,
    )
    assert rest.send("POST", f"persons/{id}/delete_property/", {"$unset": "age"}).status_code in (200, 201)
    assert rest.get(f"persons/{id}/")["properties"] == {"plan": "team", "email": "ada@example.com"}
    assert rest.change(f"persons/{id}/", properties={"plan": "solo"})["properties"]["plan"] == "solo"

    assert rest.send("DELETE", f"persons/{id}/").status_code == 202
    assert rest.person("ada") is None
    assert rest.query("SELECT count() FROM events WHERE distinct_id = 'ada'") == [[1]]
    other = rest.person("bob")["id"]
    assert rest.send("DELETE", f"persons/{other}/?delete_events=true").status_code == 202
    assert rest.query("SELECT distinct_id FROM events ORDER BY distinct_id") == [["ada"], ["eve"]]


def test_a_removed_person_comes_back_new_with_its_next_event(rest: Rest) -> None:
    three_people(rest)
    rest.send("DELETE", f"persons/{rest.person('ada')['id']}/")

    rest.capture("seen", "ada", {"$set": {"plan": "new"}})

    assert rest.person("ada")["properties"] == {"plan": "new"}
    assert rest.get("persons/")["count"] == 3


def test_the_properties_of_a_person_are_told_as_they_were(rest: Rest) -> None:
    rest.capture("a", "visitor", {"$set": {"plan": "free", "city": "Rome"}}, timestamp="2026-01-01T00:00:00Z")
    rest.capture("$set_once", "visitor", {"$set_once": {"plan": "x", "first": 1}}, timestamp="2026-01-02T00:00:00Z")
    rest.capture("$identify", "ada", {"$anon_distinct_id": "visitor"}, timestamp="2026-01-02T00:00:00Z")
    rest.capture("b", "ada", {"$set": {"plan": "pro"}}, timestamp="2026-01-03T00:00:00Z")

    then = {"distinct_id": "ada", "timestamp": "2026-01-02T12:00:00Z"}
    found = rest.get("persons/properties_at_time/", **then)
    assert found["properties"] == {"plan": "free", "city": "Rome"}
    assert found["id"] == rest.person("ada")["id"]
    assert sorted(found["point_in_time_metadata"]["distinct_ids_queried"]) == ["ada", "visitor"]
    once = rest.get("persons/properties_at_time/", include_set_once="true", **then)
    assert once["properties"] == {"plan": "free", "city": "Rome", "first": 1}
    later = {"person_id": found["id"], "timestamp": "2026-01-03T01:00:00+01:00"}
    assert rest.get("persons/properties_at_time/", **later)["properties"]["plan"] == "pro"
    for query, status in (
        ("timestamp=2026-01-01", 400),
        ("distinct_id=a&person_id=b&timestamp=2026-01-01", 400),
        ("distinct_id=ada", 400),
        ("distinct_id=ada&timestamp=soon", 400),
        ("distinct_id=nobody&timestamp=2026-01-01", 404),
        ("person_id=nobody&timestamp=2026-01-01", 404),
    ):
        answer = rest.send("GET", f"persons/properties_at_time/?{query}")
        assert (answer.status_code, list(answer.json())) == (status, ["error"])


def test_many_persons_are_removed_at_once(rest: Rest) -> None:
    three_people(rest)

    found = rest.send("POST", "persons/bulk_delete/", {"distinct_ids": ["ada", "bob", "nobody"]})
    assert (found.status_code, found.json()["persons_deleted"]) == (202, 2)
    assert people(rest) == ["eve"]
    ids = [rest.person("eve")["id"]]
    assert rest.send("POST", "persons/bulk_delete/", {"ids": ids, "delete_events": True}).status_code == 202
    assert rest.query("SELECT count() FROM events") == [[2]]
    assert rest.refused("POST", "persons/bulk_delete/", {"ids": ["x"] * 1001})[0] == 400
    assert rest.refused("POST", "persons/bulk_delete/", {})[0] == 400


def test_a_person_is_split_into_its_names(rest: Rest) -> None:
    rest.capture("visit", "visitor")
    rest.capture("$identify", "ada", {"$anon_distinct_id": "visitor", "$set": {"plan": "pro"}})
    id = rest.person("ada")["id"]

    assert rest.send("POST", f"persons/{id}/split/", {"main_distinct_id": "ada"}).status_code == 201

    ada, visitor = rest.person("ada"), rest.person("visitor")
    assert ada["id"] != visitor["id"]
    assert (ada["distinct_ids"], visitor["distinct_ids"]) == (["ada"], ["visitor"])
    assert ada["properties"] == {"plan": "pro"}
    found = rest.query("SELECT distinct_id, toString(person_id) FROM events ORDER BY distinct_id")
    assert found == [["ada", ada["id"]], ["visitor", visitor["id"]]]


def test_a_change_of_a_person_that_cannot_be_is_refused_by_its_field(rest: Rest) -> None:
    rest.capture("seen", "ada")
    id = rest.person("ada")["id"]

    assert rest.refused("PATCH", f"persons/{id}/", {"properties": 3}) == (400, "properties")
    assert rest.refused("POST", f"persons/{id}/update_property/", {"key": "plan"}) == (400, "value")
    assert rest.refused("POST", f"persons/{id}/delete_property/", {}) == (400, "$unset")
    assert rest.refused("POST", f"persons/{id}/split/", {"main_distinct_id": "bob"}) == (400, "main_distinct_id")
    for names in ("ada", [3], ["ada"], ["bob"]):
        body = {"distinct_ids_to_split": names}
        assert rest.refused("POST", f"persons/{id}/split/", body) == (400, "distinct_ids_to_split")
    assert rest.refused("DELETE", f"persons/{id}/?keep_person=true") == (400, "keep_person")
    assert rest.refused("POST", "persons/bulk_delete/", {"ids": [id], "keep_person": True})[0] == 400
    for path in (f"persons/{uuid.uuid4()}/", "persons/ada/"):
        assert rest.refused("DELETE", path) == (404, None)
    assert "activity" in rest.send("GET", f"persons/{id}/activity/").json()["detail"]
    assert rest.person("ada")["id"] == id


def test_some_names_are_split_off_and_the_rest_stays_together(rest: Rest) -> None:
    for visitor in ("v1", "v2"):
        rest.capture("$identify", "ada", {"$anon_distinct_id": visitor, "$set": {"plan": "pro"}})
    id = rest.person("ada")["id"]

    assert rest.send("POST", f"persons/{id}/split/", {"distinct_ids_to_split": ["v1"]}).status_code == 201
    assert sorted(rest.person("ada")["distinct_ids"]) == ["ada", "v2"]
    assert rest.person("ada")["properties"] == {"plan": "pro"}
    assert rest.send("POST", f"persons/{id}/split/", {}).status_code == 201
    found = [rest.person(name) for name in ("ada", "v1", "v2")]
    assert len({person["id"] for person in found}) == 3
    assert [person["properties"] for person in found] == [{}, {}, {}]


def test_the_frequent_values_of_a_property_are_suggested(rest: Rest) -> None:
    three_people(rest)
    rest.capture("paid", "ada", {"currency": "EUR"})
    rest.capture("paid", "ada", {"currency": "USD"})

    assert [entry["name"] for entry in rest.get("persons/values/", key="plan")] == ["pro", "free"]
    assert [entry["name"] for entry in rest.get("persons/values/", key="plan", value="fr")] == ["free"]
    assert sorted(entry["name"] for entry in rest.get("events/values/", key="currency")) == ["EUR", "USD"]
    assert rest.refused("GET", "persons/values/") == (400, "key")


# ---------------------------------------------------------------------------------------------------------- cohorts


def of_persons(*filters: dict[str, Any], operator: str = "AND") -> dict[str, Any]:
    return {"properties": {"type": "OR", "values": [{"type": operator, "values": list(filters)}]}}


PRO = {"key": "plan", "type": "person", "operator": "exact", "value": ["pro"]}


def members(rest: Rest, id: int) -> list[str]:
    page = rest.get(f"cohorts/{id}/persons/")
    assert set(page) == {"results", "next", "previous"}
    return sorted(person["distinct_ids"][0] for person in page["results"])


def test_a_cohort_by_properties_counts_and_lists_its_members(rest: Rest) -> None:
    three_people(rest)
    cohort = rest.make("cohorts/", name="Pro", filters=of_persons(PRO))

    assert members(rest, cohort["id"]) == ["ada", "eve"]
    found = rest.get(f"cohorts/{cohort['id']}/")
    assert (found["count"], found["is_calculating"], found["is_static"]) == (2, False, False)
    assert rest.query(f"SELECT count() FROM persons WHERE id IN COHORT {cohort['id']}") == [[2]]

    rest.capture("seen", "bob", {"$set": {"plan": "pro"}})
    assert members(rest, cohort["id"]) == ["ada", "bob", "eve"]
    assert rest.get(f"cohorts/{cohort['id']}/")["count"] == 3
    rest.change(f"cohorts/{cohort['id']}/", filters=of_persons({**PRO, "value": ["free"]}))
    assert members(rest, cohort["id"]) == []


def test_a_cohort_by_behaviour_holds_who_did_it_lately(rest: Rest) -> None:
    now = datetime.now(timezone.utc)
    for name, days in (("ada", 2), ("bob", 40)):
        rest.capture("paid", name, timestamp=(now - timedelta(days=days)).isoformat())
    rest.capture("paid", "ada", timestamp=(now - timedelta(days=3)).isoformat())
    rest.capture("seen", "eve")
    lately = {
        "key": "paid",
        "type": "behavioral",
        "value": "performed_event",
        "event_type": "events",
        "time_value": 30,
        "time_interval": "day",
    }
    twice = {**lately, "value": "performed_event_multiple", "operator": "gte", "operator_value": 2}
    once = {**twice, "operator_value": 1, "time_value": 60}

    found = {
        name: members(rest, rest.make("cohorts/", name=name, filters=of_persons(entry))["id"])
        for name, entry in (
            ("lately", lately),
            ("twice", twice),
            ("once", once),
            ("not lately", {**lately, "negation": True}),
        )
    }
    assert found == {"lately": ["ada"], "twice": ["ada"], "once": ["ada", "bob"], "not lately": ["bob", "eve"]}


def test_a_cohort_may_be_about_an_action_a_filter_of_events_and_a_period(rest: Rest) -> None:
    for name, amount, day in (("ada", 5, 1), ("bob", 50, 2), ("eve", 500, 3)):
        rest.capture("paid", name, {"amount": amount}, timestamp=f"2026-02-0{day}T00:00:00Z")
    action = rest.make("actions/", name="Pays", steps=[{"event": "paid"}])["id"]
    done = {"key": "paid", "type": "behavioral", "value": "performed_event", "event_type": "events"}
    since: dict[str, Any] = {"explicit_datetime": "2026-01-31T00:00:00Z"}
    more = [{"key": "amount", "type": "event", "operator": "gt", "value": 10}]
    found = {
        name: members(rest, rest.make("cohorts/", name=name, filters=of_persons({**done, **entry}))["id"])
        for name, entry in {
            "since": since,
            "until": {**since, "explicit_datetime_to": "2026-02-02T12:00:00Z"},
            "filtered": {**since, "event_filters": more},
            "action": {**since, "event_type": "actions", "key": action, "event_filters": more},
            "never": {**since, "key": "unheard of"},
        }.items()
    }

    assert found == {
        "since": ["ada", "bob", "eve"],
        "until": ["ada", "bob"],
        "filtered": ["bob", "eve"],
        "action": ["bob", "eve"],
        "never": [],
    }


def test_a_cohort_may_be_made_of_another_one(rest: Rest) -> None:
    three_people(rest)
    pro = rest.make("cohorts/", name="Pro", filters=of_persons(PRO))["id"]
    older = {"key": "age", "type": "person", "operator": "gt", "value": 15}
    both = rest.make("cohorts/", name="Both", filters=of_persons({"key": "id", "type": "cohort", "value": pro}, older))
    neither = {"key": "id", "type": "cohort", "value": pro, "negation": True}

    assert members(rest, both["id"]) == ["eve"]
    assert members(rest, rest.make("cohorts/", name="Not", filters=of_persons(neither, older))["id"]) == ["bob"]


def test_a_static_cohort_is_a_list_that_is_changed_by_hand(rest: Rest) -> None:
    three_people(rest)
    ids = {name: rest.person(name)["id"] for name in ("ada", "bob", "eve")}
    cohort = rest.make("cohorts/", name="List", is_static=True, _create_static_person_ids=[ids["ada"]])["id"]
    assert members(rest, cohort) == ["ada"]

    rest.change(f"cohorts/{cohort}/add_persons_to_static_cohort/", person_ids=[ids["bob"], ids["eve"]])
    assert members(rest, cohort) == ["ada", "bob", "eve"]
    rest.change(f"cohorts/{cohort}/remove_person_from_static_cohort/", person_id=ids["ada"])
    assert members(rest, cohort) == ["bob", "eve"]
    assert rest.get(f"cohorts/{cohort}/")["count"] == 2
    assert rest.query(f"SELECT count() FROM events WHERE person_id IN COHORT {cohort}") == [[2]]
    dynamic = rest.make("cohorts/", name="Pro", filters=of_persons(PRO))["id"]
    assert rest.refused("PATCH", f"cohorts/{cohort}/add_persons_to_static_cohort/", {}) == (400, "person_ids")
    assert rest.refused("PATCH", f"cohorts/{cohort}/remove_person_from_static_cohort/", {}) == (400, "person_id")
    gone = {"person_id": ids["ada"]}
    assert rest.refused("PATCH", f"cohorts/{cohort}/remove_person_from_static_cohort/", gone) == (404, None)
    refused = rest.refused("PATCH", f"cohorts/{dynamic}/add_persons_to_static_cohort/", {"person_ids": [ids["ada"]]})
    assert refused[0] == 400


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("ada\nbob\n", ["ada", "bob"]),
        ("Name,Distinct ID\nAda,ada\n\nEve,eve\n", ["ada", "eve"]),
        ("email\nbob@example.com\n", ["bob"]),
        ("\ufeffdistinct_id\neve\n", ["eve"]),
    ],
)
def test_an_uploaded_list_may_name_people_in_several_ways(rest: Rest, text: str, found: list[str]) -> None:
    three_people(rest)

    answer = rest.upload({"name": "Uploaded"}, text.encode())
    assert answer.status_code == 201, answer.text
    assert members(rest, answer.json()["id"]) == found


@pytest.mark.parametrize("file", [b"", b"\n \n", b"name,age\nada,3\n", b"\xff\xfe\n", b"person_id\nada\n", None])
def test_an_uploaded_list_that_cannot_be_read_makes_no_cohort(rest: Rest, file: bytes | None) -> None:
    answer = rest.upload({"name": "Uploaded"}, file)

    assert (answer.status_code, answer.json()["type"]) == (400, "validation_error")
    assert rest.get("cohorts/")["count"] == 0


def test_a_cohort_that_another_one_needs_may_go_and_the_other_says_that_it_cannot_be_computed(rest: Rest) -> None:
    pro = rest.make("cohorts/", name="Pro", filters=of_persons(PRO))["id"]
    inside = {"key": "id", "type": "cohort", "value": pro}
    other = rest.make("cohorts/", name="Other", filters=of_persons(inside))["id"]
    loop = of_persons({"key": "id", "type": "cohort", "value": other})
    assert rest.refused("PATCH", f"cohorts/{pro}/", {"filters": loop}) == (400, "filters")

    rest.change(f"cohorts/{pro}/", deleted=True)

    found = rest.get(f"cohorts/{other}/")
    assert (found["count"], found["errors_calculating"]) == (None, 1)
    rest.capture("seen", "ada")
    assert rest.get("persons/cohorts/", person_id=rest.person("ada")["id"]) == {"results": []}
    assert rest.get("cohorts/")["count"] == 1
    assert rest.refused("GET", f"cohorts/{other}/persons/")[0] == 400


def test_a_static_cohort_with_people_that_cannot_be_is_not_made(rest: Rest) -> None:
    assert (
        rest.refused("POST", "cohorts/", {"name": "x", "is_static": True, "_create_static_person_ids": ["y"]})[0] == 400
    )
    assert (
        rest.refused("POST", "cohorts/", {"name": "x", "is_static": True, "_create_static_person_ids": "y"})[0] == 400
    )
    assert rest.refused("POST", "cohorts/", {"name": "x", "_create_static_person_ids": [str(uuid.uuid4())]})[0] == 400
    assert rest.get("cohorts/")["count"] == 0


def test_cohorts_of_a_person_are_listed(rest: Rest) -> None:
    three_people(rest)
    rest.make("cohorts/", name="Pro", filters=of_persons(PRO))
    rest.make("cohorts/", name="Free", filters=of_persons({**PRO, "value": ["free"]}))

    assert [entry["name"] for entry in rest.get("persons/cohorts/", person_id=rest.person("ada")["id"])["results"]] == [
        "Pro"
    ]


@pytest.mark.parametrize(
    "filters",
    [
        {"properties": {"type": "XOR", "values": []}},
        of_persons({"key": "plan", "type": "person", "operator": "resembles", "value": 1}),
        of_persons({"key": "paid", "type": "behavioral", "value": "stopped_performing_event", "time_value": 1}),
        of_persons({"key": "id", "type": "cohort", "value": 999}),
        of_persons({"key": 9, "type": "behavioral", "value": "performed_event", "event_type": "actions"}),
        of_persons({"key": "paid", "type": "behavioral", "value": "performed_event", "time_value": "\u00b2"}),
        of_persons(
            {
                "key": "paid",
                "type": "behavioral",
                "value": "performed_event_multiple",
                "time_value": 1,
                "time_interval": "day",
                "operator_value": "many",
            }
        ),
        {"properties": [3]},
    ],
)
def test_a_cohort_that_cannot_be_computed_is_refused_when_it_is_made(rest: Rest, filters: dict[str, Any]) -> None:
    assert rest.refused("POST", "cohorts/", {"name": "Odd", "filters": filters}) == (400, "filters")


# ------------------------------------------------------------------------------------------- insights and dashboards


def trend(event: str) -> dict[str, Any]:
    return {
        "kind": "InsightVizNode",
        "source": {"kind": "TrendsQuery", "series": [{"kind": "EventsNode", "event": event}]},
    }


def test_an_insight_is_computed_when_asked_and_kept_until_then(rest: Rest) -> None:
    for _ in range(3):
        rest.capture("paid", "ada")
    made = rest.make("insights/", name="Paid", query=trend("paid"))
    assert len(made["short_id"]) == 8

    assert rest.get(f"insights/{made['id']}/")["result"] is None
    fresh = rest.get(f"insights/{made['id']}/", refresh="blocking")
    assert sum(fresh["result"][0]["data"]) == 3
    rest.capture("paid", "bob")
    assert sum(rest.get(f"insights/{made['id']}/")["result"][0]["data"]) == 3
    assert sum(rest.get(f"insights/{made['id']}/", refresh="force_blocking")["result"][0]["data"]) == 4
    assert rest.refused("GET", f"insights/{made['id']}/?refresh=perhaps") == (400, "refresh")


def test_insights_are_filtered_by_what_they_are(rest: Rest) -> None:
    rest.make("insights/", name="Trend", query=trend("a"), favorited=True, tags=["x"])
    sql = {"kind": "DataTableNode", "source": {"kind": "HogQLQuery", "query": "SELECT 1"}}
    rows = rest.make("insights/", name="Rows", query=sql, description="upload")
    rest.make("insights/", name="Draft", saved=False)

    assert rest.names("insights/", insight="TRENDS") == ["Trend"]
    assert rest.names("insights/", insight="SQL") == ["Rows"]
    assert rest.names("insights/", favorited="true") == ["Trend"]
    assert sorted(rest.names("insights/", saved="true")) == ["Rows", "Trend"]
    assert rest.names("insights/", search="UPLOAD") == ["Rows"]
    assert rest.names("insights/", short_id=rows["short_id"]) == ["Rows"]
    assert rest.names("insights/", tags='["x"]') == ["Trend"]
    assert rest.names("insights/", created_date_to="2000-01-01") == []
    assert len(rest.names("insights/", created_date_from="2000-01-01")) == 3
    assert all("result" not in entry for entry in rest.get("insights/", basic="true")["results"])
    assert all("result" in entry for entry in rest.get("insights/")["results"])
    for query, attr in (("insight=PIE", "insight"), ("tags=x", "tags"), ("date_from=soon", "date_from")):
        assert rest.refused("GET", f"insights/?{query}") == (400, attr)


def test_an_insight_may_be_computed_in_the_background(rest: Rest) -> None:
    made = rest.make("insights/", name="Paid", query=trend("paid"))

    started = rest.get(f"insights/{made['id']}/", refresh="force_async")
    assert started["result"] is None
    assert started["query_status"]["complete"] is False
    empty = rest.make("insights/", name="Empty")
    assert rest.get(f"insights/{empty['id']}/", refresh="blocking")["result"] is None
    assert rest.refused("POST", "insights/", {"query": {"source": {}}}) == (400, "query")


def test_a_dashboard_shows_its_insights_and_runs_them(rest: Rest) -> None:
    rest.capture("paid", "ada")
    board = rest.make("dashboards/", name="Board")
    insight = rest.make("insights/", name="Paid", query=trend("paid"), dashboards=[board["id"]])
    broken = rest.make("insights/", name="Broken", query={"kind": "HogQLQuery", "query": "SELECT nothing"},
                       dashboards=[board["id"]])  # fmt: skip

    shown = rest.get(f"dashboards/{board['id']}/")
    assert [tile["insight"]["id"] for tile in shown["tiles"]] == [insight["id"], broken["id"]]
    assert rest.names("insights/", dashboards=f"[{board['id']}]") == ["Paid", "Broken"]
    ran = rest.get(f"dashboards/{board['id']}/run_insights/")["results"]
    assert sum(ran[0]["result"][0]["data"]) == 1
    assert ran[1]["result"] is None
    assert ran[1]["error"]["type"] == "validation_error"
    assert rest.refused("GET", f"dashboards/{board['id']}/run_insights/?output_format=optimized") == (
        400,
        "output_format",
    )
    assert rest.refused("GET", f"dashboards/{board['id']}/run_insights/?refresh=perhaps") == (400, "refresh")
    note = {"id": 77, "text": {"body": "Read me"}}
    with_note = rest.change(f"dashboards/{board['id']}/", tiles=[*shown["tiles"], note])
    assert with_note["tiles"][-1] == note

    rest.change(f"insights/{broken['id']}/", deleted=True)
    assert [tile["id"] for tile in rest.get(f"dashboards/{board['id']}/")["tiles"]] == [shown["tiles"][0]["id"], 77]
    rest.change(f"insights/{insight['id']}/", dashboards=[])
    assert rest.get(f"dashboards/{board['id']}/")["tiles"] == [note]
    assert rest.refused("POST", "insights/", {"dashboards": [999]}) == (400, "dashboards")


def test_an_insight_on_a_dashboard_is_for_the_dates_of_the_dashboard(rest: Rest) -> None:
    board = rest.make("dashboards/", name="Board", filters={"date_from": "2025-03-01", "date_to": "2025-03-03"})
    insight = rest.make("insights/", name="Paid", query=trend("paid"), dashboards=[board["id"]])

    def days(path: str, **more: Any) -> list[str]:
        found = rest.get(path, refresh="blocking", **more)
        shown = (
            found["tiles"][0]["insight"] if "tiles" in found else found["results"][0] if "results" in found else found
        )
        return list(shown["result"][0]["days"])

    on_board = ["2025-03-01", "2025-03-02", "2025-03-03"]
    assert days(f"dashboards/{board['id']}/") == days(f"dashboards/{board['id']}/run_insights/") == on_board
    assert days(f"insights/{insight['id']}/", from_dashboard=board["id"]) == on_board
    assert len(days(f"insights/{insight['id']}/")) == 8
    assert rest.refused("GET", f"insights/{insight['id']}/?from_dashboard=999") == (404, None)


# ------------------------------------------------------------------------------------- flags, experiments and others


def test_flags_are_listed_by_state_kind_and_words(rest: Rest) -> None:
    variants = {"variants": [{"key": "a", "rollout_percentage": 100}]}
    rest.make("feature_flags/", key="plain", name="Search me")
    rest.make("feature_flags/", key="off", active=False)
    rest.make("feature_flags/", key="multi", filters={"groups": [], "multivariate": variants})
    rest.make("experiments/", name="Test", feature_flag_key="test", start_date="2026-01-01T00:00:00Z")

    assert sorted(rest.names("feature_flags/", "key", active="true")) == ["multi", "plain", "test"]
    assert rest.names("feature_flags/", "key", active="false") == ["off"]
    assert rest.names("feature_flags/", "key", active="STALE") == []
    assert rest.names("feature_flags/", "key", type="multivariant") == ["multi"]
    assert rest.names("feature_flags/", "key", type="experiment") == ["test"]
    assert rest.names("feature_flags/", "key", search="search") == ["plain"]
    assert rest.refused("GET", "feature_flags/?active=perhaps") == (400, "active")
    plain = rest.get("feature_flags/", search="plain")["results"][0]
    assert rest.get(f"feature_flags/{plain['id']}/status/")["status"] == "ACTIVE"
    assert rest.change(f"feature_flags/{plain['id']}/", active=False)["version"] == 2
    assert rest.get(f"feature_flags/{plain['id']}/status/")["status"] == "INACTIVE"


def test_an_experiment_brings_its_flag(rest: Rest) -> None:
    made = rest.make("experiments/", name="Price", feature_flag_key="price")

    assert made["feature_flag"]["key"] == "price"
    flag = rest.get("feature_flags/", search="price")["results"][0]
    assert [variant["key"] for variant in flag["filters"]["multivariate"]["variants"]] == ["control", "test"]
    assert flag["experiment_set"] == [made["id"]]
    started = rest.change(f"experiments/{made['id']}/", start_date="2026-01-01T00:00:00Z")
    assert started["start_date"] == "2026-01-01T00:00:00Z"
    rest.make("feature_flags/", key="boolean")
    odd = {
        "feature_flag_variants": [{"key": "control", "rollout_percentage": 1}, {"key": "b", "rollout_percentage": 1}]
    }
    assert rest.refused("POST", "experiments/", {"name": "x", "feature_flag_key": "boolean"})[0] == 400
    assert rest.refused("POST", "experiments/", {"name": "x", "feature_flag_key": "odd", "parameters": odd})[0] == 400
    assert rest.get("experiments/")["count"] == 1


def test_annotations_are_found_by_time_scope_and_words(rest: Rest) -> None:
    board = rest.make("insights/", name="Paid")["id"]
    for day, scope, more in (
        (1, "project", {}),
        (2, "organization", {}),
        (3, "dashboard_item", {"dashboard_item": board}),
    ):
        rest.make(
            "annotations/", content=f"Release {day}", date_marker=f"2026-01-0{day}T12:00:00Z", scope=scope, **more
        )

    assert rest.names("annotations/", "content", search="release 2") == ["Release 2"]
    assert sorted(rest.names("annotations/", "content", date_from="2026-01-02")) == ["Release 2", "Release 3"]
    assert rest.names("annotations/", "content", date_to="2026-01-01") == ["Release 1"]
    assert rest.names("annotations/", "content", scope="organization") == ["Release 2"]
    body = {"content": "x", "date_marker": "2026-01-01T00:00:00Z"}
    assert rest.refused("POST", "annotations/", {**body, "scope": "galaxy"}) == (400, "scope")
    assert rest.refused("POST", "annotations/", {**body, "dashboard_item": 999})[0] == 400
    assert rest.refused("POST", "annotations/", {**body, "date_marker": "soon"}) == (400, "date_marker")


def test_an_action_is_made_of_steps_and_asked_for_in_hogql(rest: Rest) -> None:
    for url in ("https://a.test/pay", "https://a.test/read"):
        rest.capture("$pageview", "ada", {"$current_url": url})
    step = {"event": "$pageview", "url": "/pay", "url_matching": "contains"}
    made = rest.make("actions/", name="Pays", steps=[step])

    assert rest.query(f"SELECT count() FROM events WHERE matchesAction({made['id']})") == [[1]]
    assert [row["name"] for row in rest.table("actions/?format=csv")] == ["Pays"]
    assert rest.refused("POST", "actions/", {"name": "x", "steps": {}}) == (400, "steps")


def test_a_survey_is_archived_and_counts_its_answers(rest: Rest) -> None:
    made = rest.make("surveys/", name="NPS", type="popover", questions=[{"type": "open", "question": "Why?"}])
    for _ in range(2):
        rest.capture("survey sent", "ada", {"$survey_id": made["id"], "$survey_response": "because"})

    assert rest.get("surveys/responses_count/") == {made["id"]: 2}
    assert rest.send("POST", f"surveys/{made['id']}/archive/").json()["archived"] is True
    assert rest.names("surveys/", archived="false") == []
    assert rest.names("surveys/", archived="true") == ["NPS"]
    assert rest.refused("POST", "surveys/", {"name": "x", "type": "smoke"}) == (400, "type")


def test_an_early_access_feature_brings_its_flag(rest: Rest) -> None:
    made = rest.make("early_access_feature/", name="New Editor", stage="beta")

    assert made["feature_flag"]["key"] == "new-editor"
    assert rest.names("feature_flags/", "key") == ["new-editor"]
    assert rest.refused("POST", "early_access_feature/", {"name": "new editor", "stage": "beta"})[0] == 400
    assert (
        rest.refused("POST", "early_access_feature/", {"name": "x", "stage": "beta", "feature_flag_id": 99})[0] == 400
    )
    assert rest.get("early_access_feature/")["count"] == 1


# ------------------------------------------------------------------------------------------------------- definitions


def test_event_definitions_are_filtered_described_and_hidden(rest: Rest) -> None:
    for event in ("paid", "seen", "$pageview"):
        rest.capture(event, "ada")
    found = {entry["name"]: entry["id"] for entry in rest.get("event_definitions/")["results"]}
    changed = rest.change(f"event_definitions/{found['paid']}/", description="Money", verified=True, tags=["core"])
    assert (changed["description"], changed["verified"], changed["tags"]) == ("Money", True, ["core"])
    rest.change(f"event_definitions/{found['seen']}/", hidden=True)

    assert rest.names("event_definitions/", search="AI") == ["paid"]
    assert rest.names("event_definitions/", ordering="name") == ["$pageview", "paid", "seen"]
    assert rest.names("event_definitions/", ordering="-name") == ["seen", "paid", "$pageview"]
    assert sorted(rest.names("event_definitions/", event_type="event_custom")) == ["paid", "seen"]
    assert rest.names("event_definitions/", event_type="event_posthog") == ["$pageview"]
    assert sorted(rest.names("event_definitions/", names="paid,seen")) == ["paid", "seen"]
    assert sorted(rest.names("event_definitions/?names=paid&names=seen")) == ["paid", "seen"]
    assert sorted(rest.names("event_definitions/", exclude_hidden="true")) == ["$pageview", "paid"]
    assert rest.names("event_definitions/", verified="true") == ["paid"]
    assert rest.names("event_definitions/", tags='["core"]') == ["paid"]
    assert sorted(rest.names("event_definitions/", excluded_properties='["paid"]')) == ["$pageview", "seen"]
    assert len(rest.names("event_definitions/", exclude_stale="true")) == 3
    assert rest.get("event_definitions/by_name/", name="paid")["id"] == found["paid"]
    assert rest.refused("GET", "event_definitions/by_name/?name=none") == (404, None)
    assert rest.refused("GET", "event_definitions/?ordering=luck") == (400, "ordering")
    assert rest.refused("GET", "event_definitions/?event_type=none") == (400, "event_type")


def test_property_definitions_are_filtered_and_tell_where_they_were_seen(rest: Rest) -> None:
    rest.capture("paid", "ada", {"price": 3, "currency": "EUR", "$browser": "Firefox", "$set": {"plan": "pro"}})
    rest.capture("seen", "ada", {"currency": "EUR", "$feature/beta": True})
    about = {"$group_type": "company", "$group_key": "acme", "$group_set": {"size": 3}}
    rest.capture("$groupidentify", "ada", about)

    def listed(**params: Any) -> set[str]:
        return set(rest.names("property_definitions/", **params))

    assert {"price", "currency", "$browser"} <= listed()
    assert listed(is_numerical="true") == {"price"}
    assert listed(search="PRI") == {"price"}
    assert listed(properties="price,currency") == {"price", "currency"}
    assert listed(type="person") == {"plan", "$browser", "$initial_browser"}
    assert listed(type="group", group_type_index=0) == {"size"}
    assert "$browser" not in listed(exclude_core_properties="true")
    assert "price" not in listed(excluded_properties='["price"]')
    assert listed(event_names='["paid"]', filter_by_event_names="true", exclude_core_properties="true") == {
        "price",
        "currency",
    }
    both = rest.get("property_definitions/", event_names='["seen"]', properties="price,currency")["results"]
    assert {entry["name"]: entry["is_seen_on_filtered_events"] for entry in both} == {"price": False, "currency": True}
    together = rest.get("property_definitions/seen_together/", property_name="price", event_names='["paid", "seen"]')
    assert together == {"paid": True, "seen": False}
    price = rest.get("property_definitions/", search="price")["results"][0]
    assert price["property_type"] == "Numeric"
    changed = rest.change(f"property_definitions/{price['id']}/", property_type="String", description="Text now")
    assert (changed["property_type"], changed["is_numerical"]) == ("String", False)
    assert rest.query("SELECT properties.price FROM events WHERE event = 'paid'") == [["3"]]
    assert rest.refused("GET", "property_definitions/seen_together/?property_name=price")[0] == 400
    assert rest.refused("POST", "property_definitions/", {"name": "x"})[0] == 405
    assert rest.refused("GET", "property_definitions/?type=dream") == (400, "type")
    assert rest.refused("GET", "property_definitions/?type=group") == (400, "group_type_index")
    assert rest.refused("PATCH", f"property_definitions/{price['id']}/", {"property_type": "Dream"}) == (
        400,
        "property_type",
    )


# ------------------------------------------------------------------------------------------------------------ groups


def test_groups_are_made_found_changed_and_described(rest: Rest) -> None:
    rest.capture("seen", "ada", {"$groups": {"company": "acme", "project": "p1"}})
    made = rest.make("groups/", group_type_index=0, group_key="acme", group_properties={"name": "Acme", "size": 3})
    assert made["group_properties"] == {"name": "Acme", "size": 3}
    rest.make("groups/", group_type_index=0, group_key="beta", group_properties={"size": 5})
    at = "group_type_index=0&group_key=acme"

    assert rest.names("groups/", "group_key", group_type_index=0, search="acm") == ["acme"]
    assert sorted(rest.names("groups/", "group_key", group_type_index=0)) == ["acme", "beta"]
    assert rest.get(f"groups/find/?{at}")["group_properties"]["size"] == 3
    assert rest.send("POST", f"groups/update_property/?{at}", {"key": "size", "value": 4}).status_code == 200
    assert rest.send("POST", f"groups/delete_property/?{at}", {"$unset": "name"}).status_code == 200
    assert rest.get(f"groups/find/?{at}")["group_properties"] == {"size": 4}
    assert rest.refused("POST", f"groups/update_property/?{at}", {"key": "size"}) == (400, "value")
    assert rest.refused("POST", f"groups/delete_property/?{at}", {}) == (400, "$unset")
    none = "group_type_index=0&group_key=none"
    assert rest.refused("POST", f"groups/delete_property/?{none}", {"$unset": "size"}) == (404, None)
    properties = rest.get("groups/property_definitions/")
    assert [entry["name"] for entry in properties["0"]] == ["size"]
    assert sorted(entry["name"] for entry in rest.get("groups/property_values/", group_type_index=0, key="size")) == [
        "4",
        "5",
    ]
    related = rest.get("groups/related/", group_type_index=0, id="acme")
    assert [(entry["type"], entry["id"]) for entry in related if entry["type"] == "person"] == [
        ("person", rest.person("ada")["id"])
    ]
    assert rest.refused("GET", "groups/") == (400, "group_type_index")
    assert rest.refused("GET", "groups/find/?group_type_index=0&group_key=none") == (404, None)
    assert rest.refused("POST", "groups/", {"group_type_index": 0, "group_key": "acme"}) == (400, "group_key")


def test_group_types_are_a_plain_list_with_names(rest: Rest) -> None:
    rest.capture("seen", "ada", {"$groups": {"company": "acme"}})
    named = [{"group_type_index": 0, "name_singular": "firm", "name_plural": "firms"}]
    assert rest.send("PATCH", "groups_types/update_metadata/", named).status_code == 200

    assert rest.refused("PATCH", "groups_types/update_metadata/", {"a": 1})[0] == 400
    found = rest.get("groups_types/")
    assert [(entry["group_type"], entry["name_singular"], entry["name_plural"]) for entry in found] == [
        ("company", "firm", "firms")
    ]


def test_groups_are_paged_by_a_cursor(rest: Rest) -> None:
    batch = [
        {"event": "$groupidentify", "distinct_id": "ada",
         "properties": {"$group_type": "company", "$group_key": f"c{number}", "$group_set": {"n": number}}}
        for number in range(130)
    ]  # fmt: skip
    body = {"api_key": rest.project.project_api_key, "batch": batch}
    assert requests.post(f"{rest.project.url}/batch/", json=body, timeout=HANG).status_code == 200

    first = rest.get("groups/", group_type_index=0)
    assert set(first) == {"next", "previous", "results"}
    second = rest.send("GET", first["next"]).json()
    assert len({entry["group_key"] for page in (first, second) for entry in page["results"]}) == 130
    assert second["next"] is None
    assert rest.send("GET", second["previous"]).json()["results"] == first["results"]


# ------------------------------------------------------------------------------------------- events and recordings


def test_events_are_listed_newest_first_with_a_link_to_the_ones_before(rest: Rest) -> None:
    for number in range(5):
        rest.capture(f"e{number}", f"u{number % 2}", {"n": number}, timestamp=f"2026-01-01T00:00:0{number}Z")

    first = rest.get("events/", limit=2)
    assert set(first) == {"next", "results"}
    assert [entry["event"] for entry in first["results"]] == ["e4", "e3"]
    second = rest.send("GET", first["next"]).json()
    assert [entry["event"] for entry in second["results"]] == ["e2", "e1"]
    assert first["results"][0]["properties"] == {"n": 4}
    assert rest.names("events/", "event", event="e3") == ["e3"]
    assert rest.names("events/", "event", distinct_id="u1") == ["e3", "e1"]
    assert rest.names("events/", "event", person_id=rest.person("u0")["id"]) == ["e4", "e2", "e0"]
    assert rest.names("events/", "event", after="2026-01-01T00:00:02Z") == ["e4", "e3"]
    assert rest.names("events/", "event", before="2026-01-01T00:00:02Z") == ["e1", "e0"]
    assert rest.names(
        "events/", "event", properties='[{"key": "n", "operator": "gt", "value": 2, "type": "event"}]'
    ) == [
        "e4",
        "e3",
    ]
    id = first["results"][0]["id"]
    assert rest.get(f"events/{id}/")["event"] == "e4"
    assert rest.refused("GET", f"events/{uuid.uuid4()}/") == (404, None)
    assert rest.refused("GET", "events/e4/") == (404, None)
    columns = rest.get("events/", select='["event", "properties.n"]', where="[\"distinct_id = 'u1'\"]", event="e3")
    assert (columns["columns"], columns["results"], columns["hasMore"]) == (
        ["event", "properties.n"],
        [["e3", 3]],
        False,
    )
    chosen = rest.get(
        "events/",
        select='["event"]',
        distinct_id="u0",
        properties='[{"key": "n", "value": 2, "operator": "exact", "type": "event"}]',
    )
    assert chosen["results"] == [["e2"]]
    assert [row["event"] for row in rest.table("events/?format=csv&limit=2")] == ["e4", "e3"]
    assert rest.refused("GET", "events/?after=never") == (400, "after")


def test_recordings_are_the_sessions_of_the_last_days(rest: Rest) -> None:
    now = datetime.now(timezone.utc)
    for session, who, hours in (("s1", "ada", 2), ("s2", "bob", 3), ("s3", "ada", 24 * 5)):
        for minute in range(3):
            moment = now - timedelta(hours=hours) + timedelta(minutes=minute)
            rest.capture("$pageview", who, {"$session_id": session}, timestamp=moment.isoformat())

    found = rest.get("session_recordings/")
    assert {"results", "has_next", "version"} <= set(found)
    assert "count" not in found
    assert [entry["id"] for entry in found["results"]] == ["s1", "s2"]
    assert found["results"][0]["recording_duration"] == 120
    assert found["results"][0]["distinct_id"] == "ada"
    page = rest.get("session_recordings/", limit=1)
    assert ([entry["id"] for entry in page["results"]], page["has_next"]) == (["s1"], True)
    assert len(rest.names("session_recordings/", "id", date_from="-7d")) == 3
    person = rest.person("bob")["id"]
    assert rest.names("session_recordings/", "id", person_uuid=person) == ["s2"]
    assert rest.names("session_recordings/", "id", distinct_ids='["ada"]') == ["s1"]
    assert rest.names("session_recordings/", "id", session_ids='["s2", "s9"]') == ["s2"]
    assert rest.names("session_recordings/", "id", order="duration", order_direction="ASC") == ["s1", "s2"]
    assert rest.refused("GET", "session_recordings/?order=luck") == (400, "order")
    assert rest.refused("GET", "session_recordings/?console_search_query=x") == (400, "console_search_query")
    assert rest.get("session_recordings/s2/")["id"] == "s2"
    assert rest.refused("GET", "session_recordings/none/") == (404, None)
    assert rest.refused("GET", "session_recordings/s2/snapshots/")[0] == 400
    long_ago = {"date_from": "-7d", "date_to": "-4d"}
    assert rest.names("session_recordings/", "id", **long_ago) == ["s3"]
    page = '[{"key": "$current_url", "operator": "is_set", "type": "event"}]'
    assert rest.names("session_recordings/", "id", properties=page) == []


# -------------------------------------------------------------------------------------------------------- the project


def test_settings_of_the_project_count_in_the_next_query(rest: Rest) -> None:
    rest.capture("seen", "ada", {"$set": {"email": "ada@test.example"}})
    rest.capture("seen", "bob", {"$set": {"email": "bob@other.example"}})
    test_users = {"key": "email", "type": "person", "operator": "not_icontains", "value": "test.example"}
    rest.change("", test_account_filters=[test_users], timezone="Asia/Tokyo", week_start_day=1)

    asked = {"kind": "TrendsQuery", "series": [{"kind": "EventsNode", "event": "seen"}], "filterTestAccounts": True}
    answer = rest.send("POST", "query/", {"query": asked}).json()
    assert sum(answer["results"][0]["data"]) == 1
    assert answer["timezone"] == "Asia/Tokyo"
