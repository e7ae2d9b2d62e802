"""TeamTaxonomyQuery, EventTaxonomyQuery, ActorsPropertyTaxonomyQuery and PropertyValuesQuery against plain Python."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from posthog_driver.local import LocalPostHog
from tests.oracle import taxonomy
from tests.oracle.asking import ask, refusal
from tests.oracle.events import Event, fresh, world

World = tuple[list[Event], LocalPostHog]


@pytest.fixture(scope="module", params=[1, 2])
def asked(request: pytest.FixtureRequest) -> Iterator[World]:
    """Events of which some are older than 30 days, and a project that has them."""
    events = taxonomy.recent(world(request.param, people=12, events=300), days=40)
    with fresh(events) as local:
        yield events, local


@pytest.fixture(scope="module")
def week() -> Iterator[World]:
    """Events of the last week."""
    events = taxonomy.recent(world(3, people=8, events=60), days=24)
    with fresh(events) as local:
        yield events, local


def test_the_events_of_a_project_are_those_of_the_last_month_without_noise(asked: World) -> None:
    events, local = asked
    answer = ask(local, {"kind": "TeamTaxonomyQuery"})

    expected = taxonomy.events_of(events)
    assert [(row["event"], row["count"]) for row in answer["results"]] == expected
    assert len(expected) > 4
    assert "$create_alias" not in {row["event"] for row in answer["results"]}
    assert (answer["hasMore"], answer["limit"], answer["offset"]) == (False, 500, 0)


def test_the_events_come_in_pages(asked: World) -> None:
    events, local = asked
    pages = [ask(local, {"kind": "TeamTaxonomyQuery", "limit": 2, "offset": offset}) for offset in range(0, 10, 2)]

    found = [row["event"] for page in pages for row in page["results"]]
    expected = [name for name, _ in taxonomy.events_of(events)]
    assert found == expected
    assert [page["hasMore"] for page in pages] == [offset + 2 < len(expected) for offset in range(0, 10, 2)]


@pytest.mark.parametrize("name", ["$pageview", "buy", "view"])
def test_the_properties_of_an_event_have_the_values_of_its_newest_events(asked: World, name: str) -> None:
    events, local = asked
    expected = taxonomy.properties_of(events, name)

    answer = ask(local, {"kind": "EventTaxonomyQuery", "event": name, "maxPropertyValues": 3})

    assert {row["property"]: row["sample_count"] for row in answer["results"]} == {
        key: len(values) for key, values in expected.items()
    }
    for row in answer["results"]:
        assert set(row["sample_values"]) <= expected[row["property"]]
        assert len(row["sample_values"]) == min(3, row["sample_count"])
    counts = [row["sample_count"] for row in answer["results"]]
    assert counts == sorted(counts, reverse=True)


def test_properties_asked_for_by_name_have_their_most_frequent_texts_first(asked: World) -> None:
    events, local = asked
    asks = {"kind": "EventTaxonomyQuery", "event": "buy", "properties": ["plan", "price", "missing"]}

    rows = {row["property"]: row for row in ask(local, asks)["results"]}

    expected = taxonomy.values_of(events, "buy", "plan")
    assert set(rows) == {"plan"} | ({"price"} if "price" in rows else set())
    assert rows["plan"]["sample_count"] == len(expected)
    assert [expected[value] for value in rows["plan"]["sample_values"]] == sorted(expected.values(), reverse=True)[:5]


def test_properties_of_an_action_are_those_of_its_events(asked: World) -> None:
    _, local = asked
    with local.client() as client:
        action = client.request(
            f"/api/projects/{local.project_id}/actions/", "POST", json={"name": "bought", "steps": [{"event": "buy"}]}
        )

    by_action = ask(local, {"kind": "EventTaxonomyQuery", "actionId": action["id"]})["results"]

    assert by_action == ask(local, {"kind": "EventTaxonomyQuery", "event": "buy"})["results"] != []


def test_an_event_or_an_action_must_be_named(asked: World) -> None:
    _, local = asked

    assert refusal(local, {"kind": "EventTaxonomyQuery"}) == "Either event or action ID must be provided."
    assert refusal(local, {"kind": "EventTaxonomyQuery", "actionId": 999}) == "Action ID 999 does not exist!"
    assert "limit must not be negative" in refusal(local, {"kind": "TeamTaxonomyQuery", "limit": -1})


def test_properties_of_people_have_each_different_value_once(asked: World) -> None:
    events, local = asked
    keys = ["tier", "missing", "age", "beta"]

    results = ask(local, {"kind": "ActorsPropertyTaxonomyQuery", "properties": keys, "maxPropertyValues": 2})["results"]

    assert [row["sample_count"] for row in results] == [
        len({str(v) for v in taxonomy.person_values(events, key) if v != "" or key != "tier"} | empty)
        for key, empty in zip(keys, _empty(events), strict=True)
    ]
    assert [len(row["sample_values"]) for row in results] == [min(2, row["sample_count"]) for row in results]


def _empty(events: list[Event]) -> list[set[str]]:
    return [{""} if "" in taxonomy.person_values(events, "tier") else set(), set(), set(), set()]


def test_no_properties_give_no_rows(asked: World) -> None:
    _, local = asked

    assert ask(local, {"kind": "ActorsPropertyTaxonomyQuery", "properties": []})["results"] == []


def test_properties_of_groups_are_those_of_the_groups_of_that_type(asked: World) -> None:
    _, local = asked
    with local.client() as client:
        for name, size in (("one", 1), ("two", 2)):
            group = {"$group_type": "company", "$group_key": name, "$group_set": {"size": size, "name": name}}
            client.capture_event("$groupidentify", "somebody", group)

    asks = {"kind": "ActorsPropertyTaxonomyQuery", "properties": ["name", "size"], "groupTypeIndex": 0}
    results = ask(local, asks)["results"]
    none = ask(local, {**asks, "groupTypeIndex": 4})["results"]

    assert [sorted(row["sample_values"]) for row in results] == [["one", "two"], ["1", "2"]]
    assert [row["sample_count"] for row in none] == [0, 0]


def test_values_of_a_persons_property_come_with_their_numbers(asked: World) -> None:
    events, local = asked

    asks = {"kind": "PropertyValuesQuery", "property_type": "person", "property_key": "tier"}
    found = {row["name"]: row["count"] for row in ask(local, asks)["results"]}

    assert Counter(found) == taxonomy.person_values(events, "tier")


def test_values_of_an_events_property_are_those_of_the_last_week(week: World) -> None:
    events, local = week
    border = max(event.timestamp for event in events)
    asks = {"kind": "PropertyValuesQuery", "property_type": "event", "property_key": "plan"}

    everything = {row["name"] for row in ask(local, asks)["results"]}
    searched = {row["name"] for row in ask(local, {**asks, "search_value": "L"})["results"]}

    recent = {event.get("plan") for event in events if (border - event.timestamp).days < 6}
    assert recent - {None} <= everything <= {event.get("plan") for event in events}
    assert searched == {name for name in everything if "l" in name.lower()}
    of_nothing = ask(local, {**asks, "event_names": ["nothing"]})["results"]
    assert of_nothing == []


def test_signs_of_patterns_are_searched_for_as_they_are(week: World) -> None:
    _, local = week
    asks = {"kind": "PropertyValuesQuery", "property_type": "event", "property_key": "plan", "search_value": "%"}

    assert {row["name"] for row in ask(local, asks)["results"]} <= {"10%_off"}


def test_a_list_gives_its_items_and_a_column_its_values(week: World) -> None:
    _, local = week
    asks = {"kind": "PropertyValuesQuery", "property_type": "event"}

    tags = {row["name"] for row in ask(local, {**asks, "property_key": "tags"})["results"]}
    names = {row["name"] for row in ask(local, {**asks, "property_key": "event", "is_column": True})["results"]}

    assert tags <= {"a", "b"}
    assert tags
    assert "buy" in names
