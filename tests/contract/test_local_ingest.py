"""Capture of the embedded PostHog as SDKs use it: plain HTTP in, HogQL and the REST API out, a real engine between."""

from __future__ import annotations

import base64
import gzip
import json
import random
import threading
import uuid
import zlib
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import urlencode

import pytest
import requests

from posthog_driver.local import LocalPostHog, LocalProject

HANG = 60.0
JSON = {"Content-Type": "application/json"}
PACKED = {**JSON, "Content-Encoding": "gzip"}


class Sdk:
    """Sends to one project and asks what became of it."""

    def __init__(self, project: LocalProject) -> None:
        self.project = project
        self.token = project.project_api_key

    def post(self, path: str, body: Any, headers: dict[str, str] | None = None) -> requests.Response:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        return requests.post(f"{self.project.url}{path}", data=raw, headers=headers or JSON, timeout=HANG)

    def batch(self, *events: dict[str, Any], **more: Any) -> requests.Response:
        return self.post("/batch/", {"api_key": self.token, "batch": list(events), **more})

    def capture(self, event: str, distinct_id: str, properties: dict[str, Any] | None = None, **more: Any) -> None:
        body = {"event": event, "distinct_id": distinct_id, "properties": properties or {}, **more}
        answer = self.post("/i/v0/e/", {"api_key": self.token, **body})
        assert (answer.status_code, answer.json()) == (200, {"status": "Ok"})

    def api(self, method: str, path: str, body: Any = None) -> requests.Response:
        return requests.request(
            method,
            f"{self.project.url}/api/projects/{self.project.project_id}/{path}",
            json=body,
            headers={"Authorization": f"Bearer {self.project.personal_api_key}"},
            timeout=HANG,
        )

    def rows(self, hogql: str) -> list[list[Any]]:
        answer = self.api("POST", "query/", {"query": {"kind": "HogQLQuery", "query": hogql}})
        assert answer.status_code == 200, answer.text
        found: list[list[Any]] = answer.json()["results"]
        return found

    def events(self, column: str = "event") -> list[Any]:
        return [row[0] for row in self.rows(f"SELECT {column} FROM events ORDER BY timestamp, event LIMIT 1000")]

    def person(self, distinct_id: str) -> dict[str, Any] | None:
        found = self.api("GET", f"persons/?{urlencode({'distinct_id': distinct_id})}").json()["results"]
        assert len(found) < 2
        return found[0] if found else None

    def properties(self, distinct_id: str) -> dict[str, Any]:
        person = self.person(distinct_id)
        assert person is not None
        properties: dict[str, Any] = person["properties"]
        return properties


@pytest.fixture(scope="module")
def local() -> Iterator[LocalPostHog]:
    with LocalPostHog(events=0) as local:
        yield local


@pytest.fixture
def sdk(local: LocalPostHog) -> Iterator[Sdk]:
    project = local.new_project(name="Capture")
    yield Sdk(project)
    local.drop_project(project)


def some_uuid() -> str:
    return str(uuid.uuid4())


def event(name: str = "seen", distinct_id: str = "ada", **more: Any) -> dict[str, Any]:
    return {"event": name, "distinct_id": distinct_id, **more}


# --------------------------------------------------------------------------------------------- addresses and bodies


@pytest.mark.parametrize("path", ["/i/v0/e/", "/e/", "/capture/", "/batch/", "/i/v0/e", "/batch"])
def test_every_address_takes_one_event_and_many(sdk: Sdk, path: str) -> None:
    one = {"api_key": sdk.token, **event("one")}
    many = {"token": sdk.token, "batch": [event("two"), event("three")], "historical_migration": True}

    assert [sdk.post(path, body).json() for body in (one, many)] == [{"status": "Ok"}, {"status": "Ok"}]
    assert sorted(sdk.events()) == ["one", "three", "two"]


def test_a_list_of_events_carries_its_token_in_an_event_or_its_properties(sdk: Sdk) -> None:
    outer = [{**event("outer"), "api_key": sdk.token}, event("next")]
    inner = [event("inner", properties={"token": sdk.token, "a": 1})]

    assert sdk.post("/e/", outer).status_code == 200
    assert sdk.post("/e/", inner).status_code == 200
    assert sorted(sdk.events()) == ["inner", "next", "outer"]
    assert sdk.rows("SELECT properties.token, properties.a FROM events WHERE event = 'inner'") == [[None, 1.0]]


def packed_bodies(token: str) -> list[tuple[str, bytes, dict[str, str]]]:
    raw = json.dumps({"api_key": token, "batch": [event("packed")]}).encode()
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    in_base64 = base64.b64encode(raw).decode()
    return [
        ("/batch/", gzip.compress(raw), PACKED),
        ("/batch/", gzip.compress(raw), JSON),
        ("/batch/?compression=gzip", gzip.compress(raw), {"Content-Type": "text/plain"}),
        ("/batch/?compression=gzip-js", gzip.compress(raw), {"Content-Type": "text/plain"}),
        ("/batch/", zlib.compress(raw), {**JSON, "Content-Encoding": "deflate"}),
        ("/e/", urlencode({"data": in_base64}).encode(), form),
        ("/e/", urlencode({"data": in_base64, "compression": "base64"}).encode(), form),
        ("/e/", urlencode({"data": raw.decode()}).encode(), form),
        ("/e/?compression=base64", in_base64.encode(), {"Content-Type": "text/plain"}),
    ]


@pytest.mark.parametrize("number", range(9))
def test_a_body_may_be_packed_in_every_way_that_sdks_do_it(sdk: Sdk, number: int) -> None:
    path, body, headers = packed_bodies(sdk.token)[number]

    answer = sdk.post(path, body, headers)

    assert (answer.status_code, answer.text) == (200, '{"status":"Ok"}')
    assert sdk.events() == ["packed"]


def test_a_beacon_gets_no_content(sdk: Sdk) -> None:
    answer = sdk.post("/e/?beacon=1", {"api_key": sdk.token, **event()})

    assert (answer.status_code, answer.content) == (204, b"")
    assert sdk.events() == ["seen"]


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"", JSON, 400),
        (b"{", JSON, 400),
        (b"\xff\xfe", JSON, 400),
        (gzip.compress(b'{"batch": []}')[:-9], PACKED, 400),
        (b"not gzip", PACKED, 400),
        (b'{"batch": 3, "api_key": "TOKEN"}', JSON, 400),
        (b'{"batch": [], "api_key": "TOKEN"}', JSON, 400),
        (b'{"batch": [1], "api_key": "TOKEN"}', JSON, 400),
        (b'{"event": "", "distinct_id": "a", "api_key": "TOKEN"}', JSON, 400),
        (b'{"event": "a", "api_key": "TOKEN"}', JSON, 400),
        (b'{"event": "a", "distinct_id": "", "api_key": "TOKEN"}', JSON, 400),
        (b'{"event": "a", "distinct_id": "a", "timestamp": "soon", "api_key": "TOKEN"}', JSON, 400),
        (b'{"event": "a", "distinct_id": "a", "properties": 7, "api_key": "TOKEN"}', JSON, 400),
        (b'{"event": "a", "distinct_id": "a", "uuid": "7", "api_key": "TOKEN"}', JSON, 400),
        (b'{"event": "a", "distinct_id": "a", "properties": {"x": NaN}, "api_key": "TOKEN"}', JSON, 400),
        (b'{"event": "a", "distinct_id": "a"}', JSON, 401),
        (b'{"event": "a", "distinct_id": "a", "api_key": "phc_unknown"}', JSON, 401),
        (b'{"event": "a", "distinct_id": "a", "api_key": "phx_personal"}', JSON, 401),
        (b'{"batch": [{"event": "a", "distinct_id": "a", "api_key": "phc_other"}], "api_key": "TOKEN"}', JSON, 401),
    ],
)
def test_what_capture_refuses_it_says_in_plain_text_and_stores_nothing(
    sdk: Sdk, body: bytes, headers: dict[str, str], status: int
) -> None:
    answer = sdk.post("/batch/", body.replace(b"TOKEN", sdk.token.encode()), headers)

    assert answer.status_code == status
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert answer.text
    assert not answer.text.startswith("{")
    assert sdk.token not in answer.text
    assert sdk.events() == []


def test_one_wrong_event_keeps_the_whole_batch_out(sdk: Sdk) -> None:
    assert sdk.batch(event("fine"), event(""), event("fine too")).status_code == 400
    assert sdk.events() == []
    assert sdk.person("ada") is None


def test_an_event_of_more_than_a_mebibyte_and_a_body_of_more_than_twenty_are_too_large(sdk: Sdk) -> None:
    huge = event("huge", properties={"text": "x" * (1024 * 1024)})
    large = event("large", properties={"text": "x" * (1000 * 1024)})
    assert sdk.batch(event("small"), huge).status_code == 413
    assert sdk.post("/batch/", gzip.compress(json.dumps({"api_key": sdk.token, "batch": [huge]}).encode()), PACKED
                    ).status_code == 413  # fmt: skip
    assert sdk.events() == []

    assert sdk.batch(large).status_code == 200
    bomb = gzip.compress(b" " * (21 * 1024 * 1024))
    answer = sdk.post("/batch/", bomb, PACKED)
    assert answer.status_code == 413
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert sdk.events() == ["large"]


def test_a_project_over_its_quota_takes_and_keeps_nothing_until_there_is_room_again(sdk: Sdk) -> None:
    assert sdk.api("PATCH", "", {"quota_limited": ["events"]}).status_code == 200
    answer = sdk.batch(event("lost"))
    assert (answer.status_code, answer.json()) == (200, {"status": "Ok", "quota_limited": ["events"]})

    assert sdk.api("PATCH", "", {"quota_limited": []}).status_code == 200
    sdk.capture("kept", "ada")
    assert sdk.events() == ["kept"]


# ------------------------------------------------------------------------------------------------------- capture v1


def v1(sdk: Sdk, *events: dict[str, Any], **more: Any) -> requests.Response:
    moment = datetime.now(timezone.utc).isoformat()
    body = {"created_at": moment, "batch": list(events), **more}
    return sdk.post("/i/v1/analytics/events", body, {**JSON, "Authorization": f"Bearer {sdk.token}"})


def v1_event(name: str = "seen", **more: Any) -> dict[str, Any]:
    moment = datetime.now(timezone.utc).isoformat()
    return {"event": name, "uuid": some_uuid(), "distinct_id": "ada", "timestamp": moment, "properties": {}, **more}


def test_the_newest_capture_answers_for_each_event(sdk: Sdk) -> None:
    good, plain, nameless = v1_event("good"), v1_event("plain"), v1_event("")
    undated, odd = v1_event("undated", timestamp="2026-01-01"), v1_event("odd", options={"colour": 1})
    plain["options"] = {"process_person_profile": False}

    answer = v1(sdk, good, plain, nameless, undated, odd)

    assert answer.status_code == 200
    results = {id: entry["result"] for id, entry in answer.json()["results"].items()}
    assert results == {
        good["uuid"]: "ok",
        plain["uuid"]: "ok",
        nameless["uuid"]: "drop",
        undated["uuid"]: "drop",
        odd["uuid"]: "drop",
    }
    assert sorted(map(tuple, sdk.rows("SELECT event, person_mode FROM events"))) == [
        ("good", "full"),
        ("plain", "propertyless"),
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"options": 3},
        {"options": {"process_person_profile": "no"}},
        {"properties": [1]},
        {"timestamp": "2026-99-01T00:00:00Z"},
        {"timestamp": "1900-01-01T00:00:00Z"},
        {"distinct_id": None},
    ],
)
def test_the_newest_capture_drops_what_cannot_be_and_takes_the_rest(sdk: Sdk, change: dict[str, Any]) -> None:
    odd, good = {**v1_event("odd"), **change}, v1_event("good")

    results = v1(sdk, odd, good).json()["results"]
    assert (results[odd["uuid"]]["result"], results[good["uuid"]]["result"]) == ("drop", "ok")
    assert results[odd["uuid"]]["details"]
    assert sdk.events() == ["good"]


def test_the_newest_capture_tells_of_a_used_up_quota_for_each_event(sdk: Sdk) -> None:
    sdk.api("PATCH", "", {"quota_limited": ["events"]})
    lost = v1_event()

    assert v1(sdk, lost).json() == {"results": {lost["uuid"]: {"result": "drop", "details": "quota_limited"}}}
    assert v1(sdk, {**lost, "uuid": None}).status_code == 400
    assert v1(sdk, "text").status_code == 400  # type: ignore[arg-type]
    assert sdk.post("/i/v0/ai/otel", {}).status_code == 400
    assert sdk.events() == []


def test_the_newest_capture_wants_its_token_in_the_header(sdk: Sdk) -> None:
    body = {"created_at": "2026-01-01T00:00:00Z", "batch": [v1_event()], "api_key": sdk.token}

    assert sdk.post("/i/v1/analytics/events", body).status_code == 401
    assert sdk.post("/i/v1/analytics/events", body, {**JSON, "Authorization": "Bearer phc_no"}).status_code == 401
    assert sdk.post("/i/v1/analytics/events", {"batch": []}, {**JSON, "Authorization": f"Bearer {sdk.token}"}
                    ).status_code == 400  # fmt: skip
    assert sdk.events() == []


# ----------------------------------------------------------------------------------------------------------- repeats


def test_an_event_is_stored_once_however_often_it_comes(sdk: Sdk) -> None:
    twice = event("twice", uuid=some_uuid(), timestamp="2026-03-01T12:00:00Z")

    assert sdk.batch(twice, twice, event("free"), event("free")).status_code == 200
    assert sdk.batch(twice, event("new", uuid=some_uuid())).status_code == 200
    sdk.capture(twice["event"], twice["distinct_id"], uuid=twice["uuid"].upper(), timestamp=twice["timestamp"])

    assert sorted(sdk.events()) == ["free", "free", "new", "twice"]


def test_the_same_batch_from_many_senders_at_once_is_stored_once(sdk: Sdk) -> None:
    events = [event(f"e{number}", f"u{number % 7}", uuid=some_uuid()) for number in range(60)]
    start = threading.Barrier(6)
    answers: list[int] = []

    def send() -> None:
        start.wait(HANG)
        answers.append(sdk.batch(*events).status_code)

    threads = [threading.Thread(target=send) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(HANG)

    assert answers == [200] * 6
    assert sdk.rows("SELECT count(), count(DISTINCT uuid), count(DISTINCT person_id) FROM events") == [[60, 60, 7]]
    assert sdk.rows("SELECT count() FROM persons") == [[7]]


# -------------------------------------------------------------------------------------------------------------- time


def moments(sdk: Sdk) -> list[str]:
    return [str(moment)[:19] for moment in sdk.events("timestamp")]


def test_a_sender_whose_clock_is_wrong_is_corrected(sdk: Sdk) -> None:
    wrong = datetime.now(timezone.utc) - timedelta(days=400)
    sent = {"timestamp": (wrong - timedelta(hours=2)).isoformat()}
    before = datetime.now(timezone.utc)

    assert sdk.batch(event(**sent), sent_at=wrong.isoformat()).status_code == 200

    found = datetime.fromisoformat(moments(sdk)[0]).replace(tzinfo=timezone.utc)
    assert timedelta() <= found - (before - timedelta(hours=2)).replace(microsecond=0) < timedelta(minutes=2)


def test_the_clock_of_a_browser_may_stand_in_the_address(sdk: Sdk) -> None:
    wrong = datetime.now(timezone.utc) - timedelta(days=30)
    sent = {"api_key": sdk.token, **event("late", timestamp=wrong.isoformat())}

    assert sdk.post(f"/e/?_={int(wrong.timestamp() * 1000)}", sent).status_code == 200
    assert sdk.post("/e/?_=never", {**sent, "event": "early"}).status_code == 200
    assert sdk.events() == ["early", "late"]
    late = datetime.fromisoformat(moments(sdk)[1]).replace(tzinfo=timezone.utc)
    assert abs(datetime.now(timezone.utc) - late) < timedelta(minutes=5)


def test_a_timestamp_without_sent_at_is_kept_to_the_microsecond_in_utc(sdk: Sdk) -> None:
    sdk.capture("zoned", "ada", timestamp="2026-05-06T07:08:09.123456+02:00")
    sdk.capture("plain", "ada", timestamp="2026-05-06 07:08:09.5")

    assert sdk.rows("SELECT event, toString(timestamp) FROM events ORDER BY event") == [
        ["plain", "2026-05-06 07:08:09.500000"],
        ["zoned", "2026-05-06 05:08:09.123456"],
    ]


def test_an_event_of_far_in_the_future_happened_now_and_an_offset_counts_back(sdk: Sdk) -> None:
    before = datetime.now(timezone.utc)
    sdk.capture("future", "ada", timestamp="2150-01-01T00:00:00Z")
    sdk.capture("past", "ada", offset=3_600_000)

    past, future = (datetime.fromisoformat(text).replace(tzinfo=timezone.utc) for text in moments(sdk))
    assert abs(future - before) < timedelta(minutes=2)
    assert abs(before - past - timedelta(hours=1)) < timedelta(minutes=2)


def test_a_batch_over_many_years_is_stored_whole(sdk: Sdk) -> None:
    years = [event(f"y{year}-{month:02}", timestamp=f"{year}-{month:02}-15T00:00:00Z")
             for year in range(2010, 2026) for month in range(1, 13)]  # fmt: skip

    assert sdk.batch(*years, historical_migration=True).status_code == 200
    assert sdk.events() == [entry["event"] for entry in years]


# ----------------------------------------------------------------------------------------------------------- persons


def test_properties_of_a_person_are_set_once_overwritten_and_taken_away(sdk: Sdk) -> None:
    sdk.capture("a", "ada", {"$set": {"plan": "free", "city": "Rome"}, "$set_once": {"first": 1, "plan": "none"}})
    assert sdk.properties("ada") == {"plan": "free", "city": "Rome", "first": 1}

    sdk.capture("b", "ada", {"$set_once": {"first": 2, "second": 2}}, **{"$set": {"plan": "pro"}})
    assert sdk.properties("ada") == {"plan": "pro", "city": "Rome", "first": 1, "second": 2}

    sdk.capture("c", "ada", {"$unset": ["city", "unknown"]})
    assert sdk.properties("ada") == {"plan": "pro", "first": 1, "second": 2}


def test_a_person_keeps_where_it_came_from_first_and_last(sdk: Sdk) -> None:
    ad = {"utm_source": "google", "utm_medium": "cpc", "$referring_domain": "google.com", "gclid": "x"}
    sdk.capture("$pageview", "ada", {**ad, "$browser": "Firefox"})
    sdk.capture("$pageview", "ada", {"$browser": "Chrome"})
    first = {"$initial_browser": "Firefox", "$initial_utm_source": "google", "$initial_utm_medium": "cpc"}
    first |= {"$initial_referring_domain": "google.com", "$initial_gclid": "x"}
    # A browser alone is no reason to write a person anew; with anything else it is.
    assert sdk.properties("ada") == {**ad, "$browser": "Firefox", **first}

    sdk.capture("$pageview", "ada", {"$browser": "Chrome", "utm_source": "news"})
    assert sdk.properties("ada") == {**ad, "$browser": "Chrome", "utm_source": "news", **first}
    assert sdk.rows("SELECT $virt_initial_channel_type FROM persons") == [["Paid Search"]]


def test_an_event_remembers_its_person_as_it_was_then(sdk: Sdk) -> None:
    sdk.batch(
        event("one", timestamp="2026-01-01T00:00:00Z", properties={"$set": {"plan": "free"}}),
        event("two", timestamp="2026-01-02T00:00:00Z", properties={"$set": {"plan": "pro"}}),
    )

    assert sdk.events("person.properties.plan") == ["free", "pro"]
    assert sdk.rows("SELECT properties.plan FROM persons") == [["pro"]]


def test_an_event_without_a_profile_makes_and_changes_no_person(sdk: Sdk) -> None:
    bare = {"$process_person_profile": False, "$set": {"plan": "lost"}}
    sdk.capture("bare", "ghost", bare)
    sdk.capture("bare", "ghost", bare)

    assert sdk.person("ghost") is None
    assert sdk.rows("SELECT count(), count(DISTINCT person_id), any(person_mode) FROM events") == [
        [2, 1, "propertyless"]
    ]

    sdk.capture("full", "ghost", {"$set": {"plan": "free"}})
    assert sdk.properties("ghost") == {"plan": "free"}
    assert sdk.rows("SELECT count(DISTINCT person_id) FROM events") == [[1]]


def test_identify_joins_an_anonymous_visitor_and_the_old_events_follow_at_once(sdk: Sdk) -> None:
    sdk.capture("visit", "visitor", {"$set_once": {"source": "ad"}, "$set": {"plan": "none"}})
    sdk.capture("visit", "ada", {"$set": {"plan": "pro"}})
    assert sdk.rows("SELECT count(DISTINCT person_id) FROM events") == [[2]]

    sdk.capture("$identify", "ada", {"$anon_distinct_id": "visitor", "$set": {"name": "Ada"}})

    person = sdk.person("visitor")
    assert person is not None
    assert person == sdk.person("ada")
    assert sorted(person["distinct_ids"]) == ["ada", "visitor"]
    assert person["properties"] == {"source": "ad", "plan": "pro", "name": "Ada"}
    assert person["is_identified"] is True
    assert sdk.rows("SELECT DISTINCT toString(person_id), toString(person.id) FROM events") == [[person["id"]] * 2]
    assert sdk.rows("SELECT count() FROM persons") == [[1]]


def test_the_merged_person_is_as_old_as_the_older_of_the_two(sdk: Sdk) -> None:
    sdk.batch(
        event("visit", "visitor", timestamp="2026-01-01T00:00:00Z"),
        event("visit", "ada", timestamp="2026-02-01T00:00:00Z"),
    )
    sdk.capture("$identify", "ada", {"$anon_distinct_id": "visitor"})

    person = sdk.person("ada")
    assert person is not None
    assert person["created_at"].startswith("2026-01-01T00:00:00")


@pytest.mark.parametrize(
    ("name", "field"), [("$identify", "$anon_distinct_id"), ("$create_alias", "alias")], ids=["identify", "alias"]
)
def test_two_known_people_are_never_made_one_by_accident(sdk: Sdk, name: str, field: str) -> None:
    for who in ("ada", "bob"):
        sdk.capture("$identify", who, {"$anon_distinct_id": f"visitor of {who}"})

    sdk.capture(name, "ada", {field: "bob"})

    assert (sdk.person("ada") or {})["id"] != (sdk.person("bob") or {})["id"]
    assert sdk.rows("SELECT count() FROM persons") == [[2]]


def test_two_known_people_are_made_one_on_demand(sdk: Sdk) -> None:
    for who in ("ada", "bob"):
        sdk.capture("$identify", who, {"$anon_distinct_id": f"visitor of {who}", "$set": {"name": who, who: 1}})

    sdk.capture("$merge_dangerously", "ada", {"alias": "bob"})

    person = sdk.person("bob")
    assert person is not None
    assert len(person["distinct_ids"]) == 4
    assert person["properties"] == {"name": "ada", "ada": 1, "bob": 1}
    assert sdk.rows("SELECT count(DISTINCT person_id) FROM events") == [[1]]


def test_an_alias_is_another_name_of_the_same_person(sdk: Sdk) -> None:
    sdk.capture("visit", "ada")
    sdk.capture("$create_alias", "ada", {"alias": "ada@work"})
    sdk.capture("visit", "ada@work")

    assert sdk.person("ada@work") == sdk.person("ada")
    assert sdk.rows("SELECT count(DISTINCT person_id) FROM events") == [[1]]


@pytest.mark.parametrize("name", ["anonymous", "Guest", "null", "0", "[object Object]", "undefined", "NaN", " 'none' "])
def test_a_name_that_broken_code_sends_for_everybody_joins_nobody(sdk: Sdk, name: str) -> None:
    sdk.capture("visit", name)
    sdk.capture("visit", "ada")
    for who in ("ada", "bob"):
        sdk.capture("$identify", who, {"$anon_distinct_id": name})

    assert (sdk.person("ada") or {})["distinct_ids"] == ["ada"]
    assert (sdk.person("bob") or {})["distinct_ids"] == ["bob"]


def test_a_chain_of_names_in_one_batch_is_one_person(sdk: Sdk) -> None:
    assert sdk.batch(
        event("visit", "v1"),
        event("visit", "v2"),
        event("visit", "v3"),
        event("$identify", "v2", properties={"$anon_distinct_id": "v1"}),
        event("$merge_dangerously", "v3", properties={"alias": "v2"}),
        event("visit", "v1"),
    ).status_code == 200  # fmt: skip

    person = sdk.person("v1")
    assert person is not None
    assert sorted(person["distinct_ids"]) == ["v1", "v2", "v3"]
    assert sdk.rows("SELECT DISTINCT toString(person_id) FROM events") == [[person["id"]]]


def test_an_event_without_a_profile_before_the_sign_in_becomes_the_persons(sdk: Sdk) -> None:
    sdk.capture("early", "visitor", {"$process_person_profile": False})
    sdk.capture("visit", "ada")
    sdk.capture("$identify", "ada", {"$anon_distinct_id": "visitor"})

    person = sdk.person("ada")
    assert person is not None
    assert sdk.rows("SELECT DISTINCT toString(person_id) FROM events") == [[person["id"]]]


def test_a_distinct_id_is_cut_after_two_hundred_characters(sdk: Sdk) -> None:
    sdk.capture("long", "x" * 300)

    assert sdk.events("distinct_id") == ["x" * 200]


class People:
    """Who is who after some events, by PostHog's rules and without a database: the second opinion."""

    def __init__(self) -> None:
        self.persons: dict[str, dict[str, Any]] = {}

    def see(self, entry: dict[str, Any]) -> None:
        name, properties = entry["distinct_id"], entry["properties"]
        other = properties.get("$anon_distinct_id", properties.get("alias"))
        is_known = entry["event"] == "$identify"
        if other is not None and other != name:
            is_known = self._join(name, other, entry["event"] == "$merge_dangerously") or is_known
        person = self.persons.setdefault(name, {"properties": {}, "is_identified": False})
        person["properties"] = {
            **properties.get("$set_once", {}), **person["properties"], **properties.get("$set", {})
        }  # fmt: skip
        for gone in properties.get("$unset", ()):
            person["properties"].pop(gone, None)
        person["is_identified"] = person["is_identified"] or is_known

    def _join(self, name: str, other: str, by_force: bool) -> bool:
        mine, theirs = self.persons.get(name), self.persons.get(other)
        if mine is not None and theirs is not None and mine is not theirs:
            if theirs["is_identified"] and not by_force:
                return False
            mine["properties"] = {**theirs["properties"], **mine["properties"]}
            self.persons = {key: mine if person is theirs else person for key, person in self.persons.items()}
            return True
        person = mine or theirs or {"properties": {}, "is_identified": False}
        self.persons |= {name: person, other: person}
        return True

    def shown(self) -> list[tuple[list[str], dict[str, Any], bool]]:
        found: dict[int, list[str]] = {}
        for name, person in self.persons.items():
            found.setdefault(id(person), []).append(name)
        persons = {id(person): person for person in self.persons.values()}
        return sorted((sorted(names), persons[key]["properties"], persons[key]["is_identified"])
                      for key, names in found.items())  # fmt: skip


def some_life(chance: random.Random) -> dict[str, Any]:
    """An event that sets something, or says that two names are one person."""
    name, other = (f"n{chance.randrange(12)}" for _ in range(2))
    kind = chance.choice(["seen", "seen", "seen", "$identify", "$identify", "$create_alias", "$merge_dangerously"])
    field = {"$identify": "$anon_distinct_id", "$create_alias": "alias", "$merge_dangerously": "alias"}.get(kind)
    properties: dict[str, Any] = {} if field is None else {field: other}
    for place in ("$set", "$set_once"):
        if chance.random() < 0.4:
            properties[place] = {chance.choice("abc"): chance.randrange(100)}
    if chance.random() < 0.2:
        properties["$unset"] = [chance.choice("abc")]
    return event(kind, name, properties=properties, uuid=str(uuid.UUID(int=chance.getrandbits(128), version=4)))


@pytest.mark.parametrize("seed", range(4))
def test_whoever_is_joined_in_whatever_order_is_who_the_rules_say(sdk: Sdk, seed: int) -> None:
    chance = random.Random(seed)
    lives, expected = [some_life(chance) for _ in range(90)], People()
    for life in lives:
        expected.see(life)

    rest = list(lives)
    while rest:
        size = chance.randrange(1, 30)
        batch, rest = rest[:size], rest[size:]
        for _ in range(chance.choice([1, 1, 2])):  # some are sent twice
            assert sdk.batch(*batch).status_code == 200

    persons = sdk.api("GET", "persons/?limit=100").json()["results"]
    found = sorted((person["distinct_ids"], person["properties"], person["is_identified"]) for person in persons)
    assert found == expected.shown()
    owners = {name: person["id"] for person in persons for name in person["distinct_ids"]}
    rows = sdk.rows("SELECT distinct_id, toString(person_id) FROM events LIMIT 1000")
    assert len(rows) == len(lives)
    assert [row for row in rows if owners[row[0]] != row[1]] == []


# ------------------------------------------------------------------------------------------------------------ groups


def test_groups_get_columns_in_the_order_of_their_first_appearance(sdk: Sdk) -> None:
    for number in range(6):
        sdk.capture(f"e{number}", "ada", {"$groups": {f"type {number}": f"key {number}"}})

    columns = ", ".join(f"$group_{index}" for index in range(5))
    found = sdk.rows(f"SELECT {columns} FROM events ORDER BY event")
    assert found == [[f"key {n}" if n == index else "" for index in range(5)] for n in range(6)]
    types = [(entry["group_type_index"], entry["group_type"]) for entry in sdk.api("GET", "groups_types/").json()]
    assert types == [(n, f"type {n}") for n in range(5)]


def test_a_group_is_described_and_described_again(sdk: Sdk) -> None:
    about = {"$group_type": "company", "$group_key": "acme"}
    sdk.capture("$groupidentify", "ada", {**about, "$group_set": {"size": 3, "name": "Acme"}})
    sdk.capture("$groupidentify", "ada", {**about, "$group_set": {"size": 4}})
    sdk.capture("visit", "ada", {"$groups": {"company": "acme"}})

    found = sdk.api("GET", "groups/find/?group_type_index=0&group_key=acme").json()
    assert found["group_properties"] == {"size": 4, "name": "Acme"}
    assert sdk.rows("SELECT company.properties.name FROM events WHERE event = 'visit'") == [["Acme"]]


# -------------------------------------------------------------------------------------------------- what is learnt


def test_what_was_captured_is_known_by_name_and_type(sdk: Sdk) -> None:
    sdk.capture("paid", "ada", {"price": 3.5, "ok": True, "when": "2026-01-01T00:00:00Z", "$set": {"plan": "pro"}})

    listed = sdk.api("GET", "property_definitions/?type=event").json()["results"]
    types = {entry["name"]: entry["property_type"] for entry in listed}
    assert {name: types[name] for name in ("price", "ok", "when")} == {
        "price": "Numeric",
        "ok": "Boolean",
        "when": "DateTime",
    }
    persons = sdk.api("GET", "property_definitions/?type=person").json()["results"]
    assert [entry["name"] for entry in persons] == ["plan"]
    assert [entry["name"] for entry in sdk.api("GET", "event_definitions/").json()["results"]] == ["paid"]
    assert sdk.rows("SELECT sum(properties.price) FROM events") == [[3.5]]
