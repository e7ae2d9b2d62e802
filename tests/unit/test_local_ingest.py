"""Event capture of the embedded PostHog: what becomes of what SDKs send."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthog_driver.local.engine import EngineResult
from posthog_driver.local.entities import EntityStore
from posthog_driver.local.ingest import CaptureError, Ingestion, decode_body, parse_timestamp, property_type
from posthog_driver.local.wire import Request

UUID = "01900000-0000-7000-8000-000000000001"


class FakeEngine:
    """Keeps what is inserted, and finds it again by the table that a query reads first."""

    def __init__(self) -> None:
        self.tables: dict[str, list[Mapping[str, Any]]] = {
            name: [] for name in ("events", "persons", "person_distinct_ids", "groups")
        }
        self.statements: list[str] = []

    def run(self, sql: str, *, query_id: str) -> EngineResult:
        assert query_id
        find: dict[str, Callable[[str], list[list[Any]]]] = {
            "SELECT toString(uuid)": self._uuids,
            "SELECT d.distinct_id": self._persons,
            "SELECT distinct_id": self._distinct_ids,
            "SELECT created_at": self._groups,
        }
        rows = next(finder for start, finder in find.items() if sql.startswith(start))(sql)
        return EngineResult([], rows, 0.0, 0, 0)

    def execute(self, sql: str) -> None:
        self.statements.append(sql)

    def insert(self, table: str, rows: Iterable[Mapping[str, Any]]) -> int:
        self.tables[table] += list(rows)
        return 0

    def newest(self, table: str, *key: str) -> list[Mapping[str, Any]]:
        found: dict[tuple[Any, ...], Mapping[str, Any]] = {}
        for row in self.tables[table]:
            held = found.get(tuple(row[name] for name in key))
            if held is None or row["version"] >= held["version"]:
                found[tuple(row[name] for name in key)] = row
        return [row for row in found.values() if not row.get("is_deleted")]

    def persons(self) -> list[Mapping[str, Any]]:
        return self.newest("persons", "id")

    def links(self) -> dict[str, str]:
        return {row["distinct_id"]: row["person_id"] for row in self.newest("person_distinct_ids", "distinct_id")}

    def _uuids(self, sql: str) -> list[list[Any]]:
        return [[row["uuid"]] for row in self.tables["events"] if row["uuid"] in sql]

    def _persons(self, sql: str) -> list[list[Any]]:
        by_id = {row["id"]: row for row in self.persons()}
        return [
            [
                distinct_id,
                person_id,
                by_id[person_id]["created_at"].isoformat(),
                json.dumps(by_id[person_id]["properties"]),
                by_id[person_id]["is_identified"],
                by_id[person_id]["version"],
            ]
            for distinct_id, person_id in self.links().items()
            if f"'{distinct_id}'" in sql
        ]

    def _distinct_ids(self, sql: str) -> list[list[Any]]:
        return [[distinct_id] for distinct_id, person_id in self.links().items() if person_id in sql]

    def _groups(self, sql: str) -> list[list[Any]]:
        return [
            [row["created_at"], json.dumps(row["properties"]), row["version"]]
            for row in self.newest("groups", "index", "key")
            if f"'{row['key']}'" in sql
        ]


class World:
    """An ingestion with what it stores into."""

    def __init__(self) -> None:
        self.engine = FakeEngine()
        self.store = EntityStore({})
        self.ingestion = Ingestion(self.engine, self.store)

    def capture(self, event: str, distinct_id: str, properties: Mapping[str, Any] | None = None, **more: Any) -> None:
        payload = {"event": event, "distinct_id": distinct_id, "properties": properties or {}, **more}
        assert self.ingestion.capture(payload).body == {"status": "Ok"}

    def events(self) -> list[Mapping[str, Any]]:
        return self.engine.tables["events"]


@pytest.fixture
def world() -> World:
    return World()


def refused(payload: Any) -> tuple[int, str]:
    world = World()
    with pytest.raises(CaptureError) as caught:
        world.ingestion.capture(payload)
    assert not any(world.engine.tables.values())
    return caught.value.status, str(caught.value)


def event(**changes: Any) -> dict[str, Any]:
    return {"event": "e", "distinct_id": "u", **changes}


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        ([], "request holds no event"),
        ({"batch": []}, "request holds no event"),
        ({"batch": {}}, "failed to parse request: batch must be a list of events"),
        (["text"], "failed to parse request: an event must be an object"),
        ({"distinct_id": "u"}, "event submitted with an empty event name"),
        (event(event=3), "event submitted with an empty event name"),
        ({"event": "e"}, "event submitted without a distinct_id"),
        (event(distinct_id=["u"]), "event submitted without a distinct_id"),
        (event(distinct_id=" "), "event submitted with an empty distinct_id"),
        (event(properties=[]), "failed to parse request: properties must be an object"),
        (event(uuid="7"), "failed to parse request: invalid uuid '7'"),
        (event(uuid=7), "failed to parse request: invalid uuid 7"),
        (event(timestamp="yesterday"), "failed to parse request: invalid timestamp 'yesterday'"),
        (event(timestamp="2026-02-31"), "failed to parse request: invalid timestamp '2026-02-31'"),
        (event(timestamp=1), "failed to parse request: invalid timestamp 1"),
        (event(timestamp="0001-01-01T00:00:00+14:00"),
         "failed to parse request: invalid timestamp '0001-01-01T00:00:00+14:00'"),
        (event(timestamp="1900-01-01"), "failed to parse request: timestamp '1900-01-01' is out of range"),
        ({"batch": [event(), event(event="")]}, "event submitted with an empty event name"),
    ],
)  # fmt: skip
def test_a_request_with_a_wrong_event_is_refused_whole_and_in_plain_text(payload: Any, expected: str) -> None:
    assert refused(payload) == (400, expected)


def test_an_event_is_stored_as_it_was_sent_without_its_token(world: World) -> None:
    world.capture(
        "paid",
        "u",
        {"amount": 5, "token": "phc_test", "$elements_chain": "a:x"},
        uuid=UUID,
        timestamp="2026-01-02T03:04:05+02:00",
    )

    (row,) = world.events()
    assert (row["event"], row["distinct_id"], row["uuid"]) == ("paid", "u", UUID)
    assert row["properties"] == {"amount": 5, "$elements_chain": "a:x"}
    assert row["timestamp"] == datetime(2026, 1, 2, 1, 4, 5, tzinfo=timezone.utc)
    assert (row["elements_chain"], row["person_mode"]) == ("a:x", "full")
    assert world.engine.links() == {"u": row["person_id"]}


def test_the_distinct_id_may_be_a_number_or_among_the_properties(world: World) -> None:
    world.ingestion.capture([{"event": "a", "properties": {"distinct_id": "p"}}, {"event": "b", "distinct_id": 7}])

    assert [row["distinct_id"] for row in world.events()] == ["p", "7"]
    assert world.events()[0]["properties"] == {}


def test_an_event_that_comes_again_is_stored_once(world: World) -> None:
    for _ in range(2):
        world.capture("paid", "u", uuid=UUID, timestamp="2026-01-02T00:00:00Z")
    repeated = event(uuid="01900000-0000-7000-8000-000000000002")
    world.ingestion.capture({"batch": [repeated, repeated, event()]})

    assert [row["event"] for row in world.events()] == ["paid", "e", "e"]


def test_person_properties_are_set_once_overwritten_and_unset(world: World) -> None:
    world.capture("a", "u", {"$set": {"plan": "free", "age": 3}, "$set_once": {"first": "x"}})
    world.capture("b", "u", {"$unset": ["age"], "$set_once": {"first": "y"}}, **{"$set": {"plan": "pro"}})
    world.capture("c", "u")

    (person,) = world.engine.persons()
    assert person["properties"] == {"first": "x", "plan": "pro"}
    assert (person["version"], person["is_identified"]) == (1, 0)
    assert [row["person_properties"].get("plan") for row in world.events()] == ["free", "pro", "pro"]
    assert len(world.engine.tables["persons"]) == 2


def test_an_event_without_a_person_profile_makes_no_person(world: World) -> None:
    world.capture("a", "u", {"$process_person_profile": False, "$set": {"plan": "pro"}})

    (row,) = world.events()
    assert (row["person_mode"], row["person_properties"]) == ("propertyless", {})
    assert world.engine.persons() == []


def test_identify_gives_an_anonymous_person_a_second_name(world: World) -> None:
    world.capture("visit", "anon")
    world.capture("$identify", "user", {"$anon_distinct_id": "anon", "$set": {"email": "u@x.test"}})
    world.capture("visit", "user")

    (person,) = world.engine.persons()
    assert (person["is_identified"], person["properties"]) == (1, {"email": "u@x.test"})
    assert {row["person_id"] for row in world.events()} == {person["id"]}
    assert set(world.engine.links()) == {"anon", "user"}


def test_identify_merges_two_persons_and_moves_their_events(world: World) -> None:
    world.capture("visit", "anon", {"$set": {"plan": "free", "seen": 1}}, timestamp="2026-01-01")
    world.capture("visit", "anon-2", {"$set": {}}, timestamp="2026-01-02")
    world.capture("$create_alias", "anon", {"alias": "anon-2"})
    world.capture("visit", "user", {"$set": {"plan": "pro"}}, timestamp="2026-02-01")
    gone = world.engine.links()["anon"]
    world.capture("$identify", "user", {"$anon_distinct_id": "anon"})

    (person,) = world.engine.persons()
    assert person["properties"] == {"plan": "pro", "seen": 1}
    assert person["created_at"] == datetime(2026, 1, 1, tzinfo=timezone.utc)
    assert world.engine.links() == dict.fromkeys(("anon", "anon-2", "user"), person["id"])
    assert f"UPDATE person_id = '{person['id']}' WHERE person_id = '{gone}'" in world.engine.statements[-1]


def test_two_names_that_nobody_has_become_one_new_person(world: World) -> None:
    world.capture("$identify", "user", {"$anon_distinct_id": "anon"})
    world.capture("$create_alias", "user", {"alias": "third"})
    world.capture("$identify", "user", {"$anon_distinct_id": "anon"})

    (person,) = world.engine.persons()
    assert world.engine.links() == dict.fromkeys(("anon", "user", "third"), person["id"])
    assert world.engine.statements == []


def test_two_persons_that_meet_in_one_batch_are_merged(world: World) -> None:
    identify = {"event": "$identify", "distinct_id": "user", "properties": {"$anon_distinct_id": "anon"}}
    world.ingestion.capture([event(distinct_id="anon"), event(distinct_id="user"), identify, event(distinct_id="anon")])

    (person,) = world.engine.persons()
    assert set(world.engine.links().values()) == {person["id"]}
    assert world.events()[-1]["person_id"] == person["id"]


def test_groups_are_counted_on_events_and_described_by_groupidentify(world: World) -> None:
    world.capture("paid", "u", {"$groups": {"company": "acme"}})
    for group_set in ({"name": "Acme"}, {"size": 9}, "nonsense"):
        world.capture("$groupidentify", "u", {"$group_type": "company", "$group_key": "acme", "$group_set": group_set})
    world.capture("$groupidentify", "u", {"$group_type": "company"})

    (group,) = world.engine.newest("groups", "index", "key")
    assert world.events()[0]["properties"]["$group_0"] == "acme"
    assert (group["index"], group["key"], group["properties"]) == (0, "acme", {"name": "Acme", "size": 9})
    assert world.store.catalog().property_type("group", "size", 0) == "Numeric"


def test_a_sixth_group_type_is_not_counted(world: World) -> None:
    world.capture("paid", "u", {"$groups": {str(number): "x" for number in range(6)}})
    world.capture("$groupidentify", "u", {"$group_type": "5", "$group_key": "x"})

    assert "$group_5" not in world.events()[0]["properties"]
    assert world.engine.tables["groups"] == []


def test_what_is_captured_becomes_part_of_the_taxonomy(world: World) -> None:
    world.capture("paid", "u", {"amount": 1, "$set": {"plan": "pro"}, "$groups": {}, "$feature/x": True})

    catalog = world.store.catalog()
    assert catalog.event_names == ("paid",)
    assert {(d.type, d.name) for d in catalog.property_definitions} == {
        ("event", "amount"),
        ("person", "plan"),
    }


def request(body: bytes, **headers: str) -> Request:
    return Request.parse("POST", "/batch/", headers, body)


def test_a_body_may_be_packed() -> None:
    packed = gzip.compress(b'{"a": 1}')

    assert decode_body(request(packed, **{"Content-Encoding": "gzip"})) == {"a": 1}
    assert decode_body(request(packed)) == {"a": 1}
    assert decode_body(request(b'{"a": 1}')) == {"a": 1}


@pytest.mark.parametrize(
    ("body", "status", "start"),
    [
        (b"\x1f\x8bnonsense", 400, "failed to decode request: Error"),
        (gzip.compress(b"x" * 1000)[:-9], 400, "failed to decode request: the gzip stream is cut short"),
        (gzip.compress(b"x" * 1001), 413, "failed to decode request: decompressed payload is too large"),
        (b"{", 400, "failed to parse request: Expecting"),
        (b'{"a": NaN}', 400, "failed to parse request: Out of range float values"),
        (b'{"a": 1e999}', 400, "failed to parse request: Out of range float values"),
        (b"\xff", 400, "failed to parse request: 'utf-8' codec"),
        (b'"\\ud800"', 400, "failed to parse request: 'utf-8' codec"),
        (b"[" * 100_000, 400, "failed to parse request: the body is nested too deeply"),
        (b"", 400, "failed to parse request: Expecting value"),
    ],
)
def test_a_body_that_cannot_be_read_is_refused(body: bytes, status: int, start: str) -> None:
    with pytest.raises(CaptureError) as caught:
        decode_body(request(body), limit=1000)
    assert caught.value.status == status
    assert str(caught.value).startswith(start)


@given(st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(2260, 1, 1), timezones=st.just(timezone.utc)))
def test_every_timestamp_that_python_prints_is_read_exactly(moment: datetime) -> None:
    assert parse_timestamp(moment.isoformat()) == moment
    assert parse_timestamp(moment.isoformat(sep=" ").replace("+00:00", "Z")) == moment


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-02", "2026-01-02T00:00:00+00:00"),
        ("2026-01-02T03:04", "2026-01-02T03:04:00+00:00"),
        ("2026-01-02T03:04:05.1234567Z", "2026-01-02T03:04:05.123456+00:00"),
        ("2026-01-02T03:04:05.5-0130", "2026-01-02T04:34:05.500000+00:00"),
    ],
)
def test_other_common_forms_of_timestamps_are_read(text: str, expected: str) -> None:
    assert parse_timestamp(text).isoformat() == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (True, "Boolean"),
        (1, "Numeric"),
        (1.5, "Numeric"),
        ("x", "String"),
        ("2026-01-02", "DateTime"),
        ("2026-99-02", "String"),
        (None, None),
        ([1], None),
    ],
)
def test_a_property_has_the_type_of_its_first_value(value: Any, expected: str | None) -> None:
    assert property_type(value) == expected
