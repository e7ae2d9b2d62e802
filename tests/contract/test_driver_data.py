"""Driver and embedded PostHog together: events, persons, flags and entities, read and written."""

from __future__ import annotations

import datetime as dt
import json
import logging
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from posthog_driver import (
    ObjectNotFoundError,
    PostHogClient,
    QueryError,
    ServerError,
    ValidationError,
)
from posthog_driver.local import LocalPostHog

Row = dict[str, Any]
UTC = dt.timezone.utc
LONG_AGO, FAR_AHEAD = "2000-01-01", "2100-01-01"


@pytest.fixture(scope="module")
def client(local_posthog: LocalPostHog) -> Iterator[PostHogClient]:
    """For reading."""
    with local_posthog.client() as client:
        yield client


@pytest.fixture(scope="module")
def writer() -> Iterator[PostHogClient]:
    """For writing: a project of its own."""
    with LocalPostHog(events=500, seed=2) as local, local.client() as client:
        yield client


@pytest.fixture(scope="module")
def events(client: PostHogClient) -> list[Row]:
    """All events, with `p` for the properties and `t` for the moment."""
    rows = client.query("SELECT uuid, event, properties, timestamp, distinct_id, person_id FROM events LIMIT 50000")
    for row in rows:
        row["p"] = json.loads(row["properties"])
        row["t"] = moment(row["timestamp"])
    return sorted(rows, key=lambda row: row["t"])


@pytest.fixture(scope="module")
def persons(client: PostHogClient) -> list[Row]:
    return client.get_persons(limit=5_000)


def moment(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text.replace("Z", "+00:00"))


def ids(rows: list[Row], key: str = "uuid") -> set[str]:
    assert len({row[key] for row in rows}) == len(rows)
    return {row[key] for row in rows}


def name() -> str:
    return f"n-{uuid.uuid4()}"


def stored(client: PostHogClient, event: str) -> list[Row]:
    return client.query(
        "SELECT uuid, distinct_id, properties, timestamp FROM events WHERE event = {e} ORDER BY timestamp LIMIT 50000",
        {"e": event},
    )


# Events -------------------------------------------------------------------------------------------------------------


def test_each_condition_of_get_events_is_one_and_there_are_no_others(client: PostHogClient, events: list[Row]) -> None:
    some, late = events[2_000], events[3_000]
    conditions = {
        "event_name": (some["event"], lambda row: row["event"] == some["event"]),
        "distinct_id": (some["distinct_id"], lambda row: row["distinct_id"] == some["distinct_id"]),
        "after": (some["t"], lambda row: row["t"] > some["t"]),
        "before": (late["timestamp"], lambda row: row["t"] < late["t"]),
    }
    for chosen in ([], *([one] for one in conditions), ["event_name", "after"], ["after", "before"], list(conditions)):
        found = client.get_events(**{one: conditions[one][0] for one in chosen}, limit=50_000)
        expected = [row for row in events if all(conditions[one][1](row) for one in chosen)]
        assert ids(found) == ids(expected), chosen
        assert [row["timestamp"] for row in found] == [row["timestamp"] for row in reversed(expected)]


def test_get_events_gives_the_newest_hundred_and_takes_a_limit(client: PostHogClient, events: list[Row]) -> None:
    newest = [row["timestamp"] for row in reversed(events)]

    assert [row["timestamp"] for row in client.get_events()] == newest[:100]
    assert [row["timestamp"] for row in client.get_events(limit=3)] == newest[:3]
    assert set(client.get_events(limit=1)[0]) == {
        "uuid", "event", "properties", "timestamp", "distinct_id", "person_id"
    }  # fmt: skip


def test_days_and_moments_of_any_zone_are_understood(client: PostHogClient, events: list[Row]) -> None:
    middle = events[2_500]["t"]
    day = middle.date()
    since = {row["uuid"] for row in events if row["t"] > dt.datetime(day.year, day.month, day.day, tzinfo=UTC)}

    for same in (day, day.isoformat(), dt.datetime(day.year, day.month, day.day), f"{day}T02:00:00+02:00"):
        assert ids(client.get_events(after=same, limit=50_000)) == since


@pytest.mark.parametrize(
    "options",
    [{"after": "yesterday"}, {"before": 5}, {"after": ""}, {"limit": -1}, {"limit": 50_001}, {"limit": True}],
    ids=repr,
)
def test_get_events_refuses_what_it_cannot_ask(client: PostHogClient, options: Row) -> None:
    with pytest.raises(ValidationError):
        client.get_events(**options)


def test_an_export_holds_its_period_oldest_first(client: PostHogClient, events: list[Row]) -> None:
    start, end = events[1_000], events[4_000]
    found = client.export_events(start["t"], end["timestamp"])
    expected = [row for row in events if start["t"] <= row["t"] < end["t"]]

    assert ids(found) == ids(expected)
    assert [row["timestamp"] for row in found] == [row["timestamp"] for row in expected]
    assert found.truncated is False
    assert ids(client.export_events(LONG_AGO, FAR_AHEAD)) == ids(events)
    assert client.export_events(FAR_AHEAD, LONG_AGO) == []


def test_an_export_of_some_events_holds_those(client: PostHogClient, events: list[Row]) -> None:
    wanted = ["signed_up", "file_uploaded"]

    found = client.export_events(LONG_AGO, FAR_AHEAD, event_names=wanted)
    assert ids(found) == ids([row for row in events if row["event"] in wanted])
    assert client.export_events(LONG_AGO, FAR_AHEAD, event_names=[]) == []


@pytest.mark.parametrize(
    "properties",
    [
        {"$browser": "Chrome"},
        {"$browser": "Chrome", "$os": ["Android", "Windows"]},
        {"$browser_version": 139},
        {"encrypted": True},
        {"$feature/file-previews": False},
        {"utm_source": None},
        {"utm_source": ["newsletter", None]},
        {"never seen": "x"},
        {"$browser": []},
        {},
    ],
    ids=repr,
)
def test_an_export_is_filtered_by_properties_as_python_filters(
    client: PostHogClient, events: list[Row], properties: Row
) -> None:
    def fits(row: Row) -> bool:
        return all(
            row["p"].get(key) in (value if isinstance(value, list) else [value]) for key, value in properties.items()
        )

    found = client.export_events(LONG_AGO, FAR_AHEAD, properties_filter=properties)
    assert ids(found) == ids([row for row in events if fits(row)])


@pytest.mark.parametrize("period", [("soon", FAR_AHEAD), (LONG_AGO, 5), (None, FAR_AHEAD)])
def test_an_export_of_no_period_is_refused(client: PostHogClient, period: Any) -> None:
    with pytest.raises(ValidationError):
        client.export_events(*period)


# Persons ------------------------------------------------------------------------------------------------------------


def test_all_persons_come_over_many_pages(client: PostHogClient, persons: list[Row]) -> None:
    assert len(persons) > 200
    assert [{"n": len(ids(persons))}] == client.query("SELECT count() AS n FROM persons")
    assert len(client.get_persons()) == 100
    assert [person["uuid"] for person in client.get_persons(limit=150)] == [person["uuid"] for person in persons[:150]]


@pytest.mark.parametrize(
    "properties",
    [
        {"plan": "pro"},
        {"plan": ["pro", "team"]},
        {"is_paying": True},
        {"seats": 1},
        {"plan": "free", "$initial_browser": "Chrome"},
        {"plan": "o'\\ -- %"},
        {"plan": None},
        {},
    ],
    ids=repr,
)
def test_persons_are_found_by_their_properties(client: PostHogClient, persons: list[Row], properties: Row) -> None:
    def fits(person: Row) -> bool:
        found = person["properties"]
        return all(
            found.get(key) in (value if isinstance(value, list) else [value]) for key, value in properties.items()
        )

    assert ids(client.get_persons(properties=properties, limit=5_000)) == ids(list(filter(fits, persons)))


def test_persons_are_found_by_posthogs_own_filters(client: PostHogClient, persons: list[Row]) -> None:
    filters: list[Row] = [
        {"key": "seats", "value": 2, "operator": "gt", "type": "person"},
        {"key": "email", "value": "ANALYTICS", "operator": "icontains", "type": "person"},
    ]
    expected = [
        person
        for person in persons
        if (person["properties"].get("seats") or 0) > 2 and "analytics" in person["properties"].get("email", "")
    ]

    assert ids(client.get_persons(properties=filters)) == ids(expected) != set()


def test_persons_are_searched_by_name_email_and_id(client: PostHogClient, persons: list[Row]) -> None:
    known = next(person for person in persons if person["properties"].get("email"))
    for text in (known["properties"]["email"].upper(), known["properties"]["name"], known["distinct_ids"][0]):
        assert known["uuid"] in ids(client.get_persons(search=text, limit=5_000))
    for text in ("%", "o'\\", "nobody"):
        assert client.get_persons(search=text) == []


def test_the_members_of_a_cohort_are_those_that_its_condition_names(
    client: PostHogClient, persons: list[Row], local_posthog: LocalPostHog
) -> None:
    paying = client.get_cohorts("PAYING")[0]
    expected = ids([person for person in persons if person["properties"].get("is_paying")])

    assert ids(client.get_persons(cohort_id=paying["id"], limit=5_000)) == expected
    assert len(expected) == paying["count"] == local_posthog.truth["cohorts"][paying["name"]]
    hogql = "SELECT count() AS n FROM persons WHERE id IN COHORT {id}"
    assert client.query(hogql, {"id": paying["id"]}) == [{"n": len(expected)}]
    some = client.get_persons(cohort_id=paying["id"], properties={"plan": "team"})
    assert ids(some) == {p["uuid"] for p in persons if p["uuid"] in expected and p["properties"]["plan"] == "team"}


@pytest.mark.parametrize(
    "options",
    [{"cohort_id": "1"}, {"cohort_id": True}, {"limit": 0}, {"limit": "5"}, {"properties": "plan"},
     {"properties": {"plan": object()}}, {"properties": {"seats": float("nan")}}],
    ids=repr,
)  # fmt: skip
def test_get_persons_refuses_what_it_cannot_ask(client: PostHogClient, options: Row) -> None:
    with pytest.raises(ValidationError):
        client.get_persons(**options)


def test_a_cohort_that_does_not_exist_has_no_members_to_list(client: PostHogClient) -> None:
    with pytest.raises(ObjectNotFoundError):
        client.get_persons(cohort_id=99)


# Capture ------------------------------------------------------------------------------------------------------------


def test_a_captured_event_can_be_queried_at_once_as_it_was_given(writer: PostHogClient) -> None:
    event, user = f'it\'s {name()} \\ 日本 "q"', f"u '{name()}"
    properties: Row = {"text": "o'\\ \"\n", "number": 2**53 + 1, "list": [1, {"a": None}], "yes": True, "nothing": None}
    when = dt.datetime(2026, 1, 2, 3, 4, 5, 678_901, dt.timezone(dt.timedelta(hours=2)))

    assert writer.capture_event(event, user, properties, when) == {"status": "Ok"}

    (row,) = writer.get_events(event, user)
    assert json.loads(row["properties"]) == properties
    assert moment(row["timestamp"]) == when
    (person,) = writer.get_persons(search=user)
    assert person["distinct_ids"] == [user]
    assert person["uuid"] == row["person_id"]


def test_an_event_without_a_moment_happened_now(writer: PostHogClient) -> None:
    event = name()
    before = dt.datetime.now(UTC)
    writer.capture_event(event, "u")

    assert before <= moment(stored(writer, event)[0]["timestamp"]) <= dt.datetime.now(UTC)


def test_what_json_does_not_know_is_null_or_refused(writer: PostHogClient, caplog: pytest.LogCaptureFixture) -> None:
    event = name()
    given = {"x": float("nan"), "deep": {"y": [float("inf")]}}
    with caplog.at_level(logging.WARNING):
        writer.capture_event(event, "u", given)

    assert json.loads(stored(writer, event)[0]["properties"]) == {"x": None, "deep": {"y": [None]}}
    assert "properties.deep.y[0]" in caplog.text
    assert given["deep"] == {"y": [float("inf")]}
    with pytest.raises(ValidationError):
        writer.capture_event(event, "u", {"x": object()})
    assert len(stored(writer, event)) == 1


def test_an_event_that_is_none_is_not_sent(writer: PostHogClient) -> None:
    refused: list[tuple[Any, ...]] = [
        ("", "u"), ("e", ""), ("e", None), ("e", "u", [1]), ("e", "u", None, "soon"), ("e", True), ("e\ud800", "u"),
        ("e", "u\ud800"), ("e", "u", {"deep": ["\ud800"]}),
    ]  # fmt: skip
    for arguments in refused:
        with pytest.raises(ValidationError):
            writer.capture_event(*arguments)


def test_a_batch_is_stored_whole_and_its_repeat_not_again(writer: PostHogClient) -> None:
    event = name()
    batch = [
        {"event": event, "distinct_id": f"{event}-{n % 7}", "uuid": str(uuid.uuid4()), "properties": {"n": n},
         "timestamp": "2026-05-05T00:00:00Z"}
        for n in range(300)
    ]  # fmt: skip
    copy = json.loads(json.dumps(batch))
    for _ in range(2):
        answer = writer.capture_batch(batch)
        assert answer == {"success": True, "events": 300, "requests": 1, "quota_limited": []}

    rows = stored(writer, event)
    assert ids(rows) == {one["uuid"] for one in batch}
    assert sorted(json.loads(row["properties"])["n"] for row in rows) == list(range(300))
    assert batch == copy


def test_a_large_batch_goes_in_parts_and_arrives_whole(writer: PostHogClient) -> None:
    event = name()
    answer = writer.capture_batch(
        [{"event": event, "distinct_id": "u", "properties": {"text": "x" * 1_000_000}} for _ in range(12)]
    )

    assert (answer["events"], answer["requests"]) == (12, 3)
    assert writer.query("SELECT count() AS n FROM events WHERE event = {e}", {"e": event}) == [{"n": 12}]


def test_a_batch_with_one_event_that_cannot_be_sent_sends_none(writer: PostHogClient) -> None:
    event = name()
    good = {"event": event, "distinct_id": "u"}
    wrong: list[Any] = [
        {"event": event},
        {**good, "uuid": "x"},
        {**good, "extra": 1},
        {**good, "timestamp": "x"},
        "text",
    ]
    for bad in wrong:
        with pytest.raises(ValidationError, match="Event 1 of the batch"):
            writer.capture_batch([good, bad])
    assert stored(writer, event) == []
    assert writer.capture_batch([])["events"] == 0


def test_identify_joins_what_was_anonymous_and_sets_properties(writer: PostHogClient) -> None:
    anonymous, user = name(), name()
    writer.capture_event("seen", anonymous)
    writer.capture_event("$identify", user, {"$anon_distinct_id": anonymous, "$set": {"plan": "pro"}})

    (person,) = writer.get_persons(search=anonymous)
    assert sorted(person["distinct_ids"]) == sorted([anonymous, user])
    assert person["properties"] == {"plan": "pro"}
    hogql = "SELECT count() AS n FROM events WHERE person_id = toUUID({id})"
    assert writer.query(hogql, {"id": person["uuid"]}) == [{"n": 2}]


def test_a_captured_event_makes_kept_answers_stale(writer: PostHogClient) -> None:
    event = name()
    hogql = f"SELECT count() AS n FROM events WHERE event = '{event}'"
    assert writer.query(hogql) == [{"n": 0}]
    writer.capture_event(event, "u")

    assert writer.query(hogql) == [{"n": 1}]


def test_a_new_event_and_its_properties_are_discovered_by_a_refresh(writer: PostHogClient) -> None:
    event = name()
    odd, plain = f"it's {event}", event.replace("-", "_")
    assert event not in writer.get_fields("events")["event"]["constraints"]["values"]
    writer.capture_event(event, "u", {odd: "a", plain: 2})

    assert event not in writer.get_fields("events")["event"]["constraints"]["values"]
    fields = writer.get_fields("events", refresh=True)
    assert event in fields["event"]["constraints"]["values"]
    paths = [path for path in fields if event in path or plain in path]
    (row,) = writer.query(f"SELECT {', '.join(paths)} FROM events WHERE event = {{e}}", {"e": event})
    assert list(row.values()) == ["a", 2]


# Flags --------------------------------------------------------------------------------------------------------------


def make_flag(client: PostHogClient, **group: Any) -> str:
    key = name()
    body = {"key": key, "filters": {"groups": [{"properties": [], "rollout_percentage": 100, **group}]}}
    client.request(f"/api/projects/{client.project_id}/feature_flags/", "POST", json=body)
    return key


def test_a_flag_is_on_for_its_share_of_the_users_and_stays_so(writer: PostHogClient) -> None:
    users = [f"user-{number}" for number in range(80)]
    key = make_flag(writer, rollout_percentage=30)
    on = [user for user in users if writer.evaluate_flag(key, user)["enabled"]]

    assert 12 <= len(on) <= 36
    assert all(writer.evaluate_flag(key, user)["enabled"] for user in on[:5])
    none, everybody = make_flag(writer, rollout_percentage=0), make_flag(writer)
    assert not any(writer.evaluate_flag(none, user)["enabled"] for user in users[:9])
    assert all(writer.evaluate_flag(everybody, user)["enabled"] for user in users[:9])


def test_a_flags_variants_are_those_that_the_events_remember(client: PostHogClient) -> None:
    seen = client.query(
        "SELECT DISTINCT distinct_id, properties.$feature_flag_response AS variant FROM events "
        "WHERE event = '$feature_flag_called' AND properties.$feature_flag = 'signup-form' LIMIT 30"
    )

    assert {row["variant"] for row in seen} == {"control", "test"}
    for row in seen:
        flag = client.evaluate_flag("signup-form", row["distinct_id"])
        assert (flag["key"], flag["enabled"], flag["variant"]) == ("signup-form", True, row["variant"])


def test_a_condition_of_a_flag_looks_at_given_properties_first_and_at_stored_ones_else(writer: PostHogClient) -> None:
    key = make_flag(writer, properties=[{"key": "plan", "value": "pro", "type": "person", "operator": "exact"}])
    user = name()
    assert writer.evaluate_flag(key, user)["enabled"] is False
    assert writer.evaluate_flag(key, user, {"plan": "pro"})["enabled"] is True
    writer.capture_event("$identify", user, {"$set": {"plan": "pro"}})

    flag = writer.evaluate_flag(key, user)
    assert (flag["enabled"], flag["reason"]["code"]) == (True, "condition_match")
    assert writer.evaluate_flag(key, user, {"plan": "free"})["enabled"] is False


def test_a_flag_that_is_off_unknown_or_undecided_is_an_error_and_not_false(writer: PostHogClient) -> None:
    path = f"/api/projects/{writer.project_id}/feature_flags/"
    off = writer.request(path, "POST", json={"key": name(), "active": False})["key"]
    undecided = make_flag(writer, properties=[{"key": "id", "value": 999999, "type": "cohort"}])

    for key in (off, "nope"):
        with pytest.raises(ObjectNotFoundError, match=key):
            writer.evaluate_flag(key, "u")
    with pytest.raises(ServerError, match=undecided):
        writer.evaluate_flag(undecided, "u")
    wrong: list[tuple[Any, ...]] = [("", "u"), (off, ""), (off, None), (off, "u", [1])]
    for arguments in wrong:
        with pytest.raises(ValidationError):
            writer.evaluate_flag(*arguments)


# Entities -----------------------------------------------------------------------------------------------------------


def test_the_entities_of_the_demo_are_listed(client: PostHogClient) -> None:
    assert [flag["key"] for flag in client.get_feature_flags()] == ["signup-form", "file-previews"]
    (experiment,) = client.get_experiments()
    assert experiment["feature_flag_key"] == "signup-form"
    assert {cohort["name"] for cohort in client.get_cohorts()} == {"Paying customers", "People in companies"}
    assert client.get_cohorts("nothing like it") == []


def test_more_entities_than_a_page_are_all_listed(writer: PostHogClient) -> None:
    before = len(writer.get_feature_flags())
    for _ in range(101 - before % 101):
        make_flag(writer)

    keys = [flag["key"] for flag in writer.get_feature_flags()]
    assert len(set(keys)) == len(keys) == before + 101 - before % 101 > 100


def test_a_new_cohort_has_its_members_at_once(writer: PostHogClient) -> None:
    user, called = name(), f"it's {name()}"
    writer.capture_event("seen", user, {"$set": {"lucky": user}})
    values = [{"key": "lucky", "value": user, "type": "person"}]
    made = writer.create_cohort(called, "Those", {"properties": {"type": "AND", "values": values}})

    assert (made["name"], made["description"], made["is_static"]) == (called, "Those", False)
    assert [cohort["id"] for cohort in writer.get_cohorts(called.upper())] == [made["id"]]
    assert [person["distinct_ids"] for person in writer.get_persons(cohort_id=made["id"])] == [[user]]
    hogql = "SELECT count() AS n FROM persons WHERE id IN COHORT {id}"
    assert writer.query(hogql, {"id": made["id"]}) == [{"n": 1}]


def test_what_the_server_refuses_to_create_is_an_error_in_its_words(writer: PostHogClient) -> None:
    with pytest.raises(QueryError, match="may not be blank") as caught:
        writer.create_cohort("")
    assert (caught.value.status, caught.value.attempts) == (400, 1)
    with pytest.raises(QueryError, match="filter needs a key"):
        writer.create_cohort("bad", filters={"properties": {"type": "AND", "values": [{"nope": 1}]}})
    with pytest.raises(QueryError, match="may not be blank"):
        writer.create_annotation("")


def test_insights_are_created_listed_by_type_and_paged(writer: PostHogClient) -> None:
    trend = {"kind": "TrendsQuery", "series": [{"kind": "EventsNode", "event": "$pageview"}]}
    made = [
        writer.create_insight("one", "TRENDS", trend),
        writer.create_insight("two", "FUNNELS", {"events": [{"id": "$pageview"}]}),
        writer.create_insight("three", "SQL", {"kind": "HogQLQuery", "query": "SELECT 1"}),
    ]
    assert made[0]["query"]["source"] == trend
    assert made[1]["filters"]["insight"] == "FUNNELS"

    everything = [insight["id"] for insight in writer.get_insights()]
    assert set(everything) >= {insight["id"] for insight in made}
    for insight, kind in zip(made, ("TRENDS", "FUNNELS", "SQL"), strict=True):
        assert insight["id"] in [found["id"] for found in writer.get_insights(kind)]
        assert insight["id"] not in [found["id"] for found in writer.get_insights("RETENTION")]
    assert [insight["id"] for insight in writer.get_insights(limit=2, offset=1)] == everything[1:3]
    assert writer.get_insights(offset=len(everything)) == []
    with pytest.raises(ValidationError):
        writer.get_insights(offset=-1)


def test_annotations_are_created_and_found_by_the_time_they_mark(writer: PostHogClient) -> None:
    marks = {"2026-01-01": "2026-01-01T00:00:00+00:00", "2026-01-02T23:00:00-02:00": "2026-01-03T01:00:00+00:00"}
    made = [writer.create_annotation(f"it's {when}", when) for when in marks]
    assert [moment(one["date_marker"]) for one in made] == [moment(mark) for mark in marks.values()]

    def between(start: Any = None, end: Any = None) -> set[int]:
        return {found["id"] for found in writer.get_annotations(start, end)} & {one["id"] for one in made}

    first, second = made[0]["id"], made[1]["id"]
    assert between() == between("2026-01-01", dt.date(2026, 1, 4)) == {first, second}
    assert between("2026-01-01", "2026-01-03T00:59:59Z") == {first}
    assert between(dt.datetime(2026, 1, 3, 1, tzinfo=UTC)) == {second}
    before = dt.datetime.now(UTC)
    now = writer.create_annotation("Now")
    assert before <= moment(now["date_marker"]) <= dt.datetime.now(UTC)
    assert now["id"] in [found["id"] for found in writer.get_annotations(before)]


def test_an_entity_is_changed_and_removed_through_the_plain_request(writer: PostHogClient) -> None:
    base = f"/api/projects/{writer.project_id}"
    cohort = writer.create_cohort(name())
    path = f"{base}/cohorts/{cohort['id']}/"

    assert writer.request(path, "PATCH", json={"description": "changed"})["description"] == "changed"
    with pytest.raises(QueryError, match="Hard delete"):
        writer.request(path, "DELETE")
    writer.request(path, "PATCH", json={"deleted": True})
    assert writer.get_cohorts(cohort["name"]) == []
    survey = writer.request(f"{base}/surveys/", "POST", json={"name": "s", "type": "popover"})
    deleted = writer.request(f"{base}/surveys/{survey['id']}/", "DELETE")
    assert deleted == {"success": True, "status_code": 204}
