"""EventsQuery against plain Python over the same events."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from posthog_driver.local import LocalPostHog
from posthog_driver.local.questions.events import elements
from tests.oracle import listing
from tests.oracle.asking import ask, refusal
from tests.oracle.events import BEGIN, DAYS, NAMES, Event, fresh, world

BROKEN = "mismatched input|no viable alternative|trailing tokens"
"""How the parsers refuse what goes on behind its end."""

World = tuple[list[Event], LocalPostHog]
END = BEGIN + timedelta(days=DAYS + 1)
ALL = {"kind": "EventsQuery", "after": "all"}


@pytest.fixture(scope="module", params=[(1, "UTC"), (2, "America/New_York")], ids=str)
def asked(request: pytest.FixtureRequest) -> Iterator[World]:
    """Events, and a project that has them."""
    seed, zone = request.param
    events = world(seed, people=10, events=200)
    with fresh(events, zone) as local:
        yield events, local


def ids(answer: dict[str, Any]) -> list[str]:
    return [row[0] for row in answer["results"]]


MOMENTS = st.datetimes(BEGIN.replace(tzinfo=None), END.replace(tzinfo=None), timezones=st.just(timezone.utc))


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    bounds=st.tuples(MOMENTS, MOMENTS).map(sorted),
    names=st.lists(st.sampled_from(NAMES), max_size=2, unique=True),
    plan=st.none() | st.sampled_from(["basic", "it's", "10%_off", "", "none"]),
    limit=st.integers(1, 60),
    offset=st.integers(0, 40),
)
def test_a_page_of_events_has_those_that_match_the_newest_first(
    asked: World, bounds: list[datetime], names: list[str], plan: str | None, limit: int, offset: int
) -> None:
    events, local = asked
    after, before = bounds
    query: dict[str, Any] = {
        "kind": "EventsQuery",
        "select": ["uuid"],
        "after": after.isoformat(),
        "before": before.isoformat(),
        "orderBy": ["timestamp DESC", "toString(uuid)"],
        "limit": limit,
        "offset": offset,
    }
    if names:
        query["events"] = names
    if plan is not None:
        query["properties"] = [{"type": "event", "key": "plan", "value": plan, "operator": "exact"}]

    answer = ask(local, query)

    matching = listing.between(
        events,
        after,
        before,
        lambda event: (not names or event.name in names) and (plan is None or event.get("plan") == plan),
    )
    assert ids(answer) == listing.in_order(matching, limit, offset)
    assert answer["hasMore"] == (len(matching) > offset + limit)
    assert (answer["limit"], answer["offset"]) == (limit, offset)


def test_an_event_in_full_is_what_was_sent(asked: World) -> None:
    events, local = asked

    rows = ask(local, {**ALL, "select": [], "limit": 1000, "event": "buy"})["results"]

    sent = {event.uuid: event for event in events if event.name == "buy"}
    assert {row[0]["uuid"] for row in rows} == set(sent)
    for (found,) in rows:
        event = sent[found["uuid"]]
        assert (found["event"], found["distinct_id"], found["team_id"]) == ("buy", event.distinct_id, 1)
        assert datetime.fromisoformat(found["timestamp"].replace("Z", "+00:00")) == event.timestamp
        assert {key: found["properties"][key] for key in event.properties} == event.properties


def test_the_person_of_an_event_is_the_one_after_all_merges(asked: World) -> None:
    events, local = asked
    columns = ["distinct_id", "person -- Person", "person_display_name -- Person"]

    answer = ask(local, {**ALL, "select": columns, "limit": 5000})

    of_person: dict[str, set[str]] = {}
    for distinct_id, person, name in answer["results"]:
        assert person["distinct_id"] == name["distinct_id"] == name["display_name"] == distinct_id
        assert person["uuid"] == name["id"]
        of_person.setdefault(person["uuid"], set()).add(distinct_id)
    expected: dict[int, set[str]] = {}
    for event in events:
        expected.setdefault(event.person, set()).add(event.distinct_id)
    assert sorted(map(sorted, of_person.values())) == sorted(map(sorted, expected.values()))
    assert answer["columns"] == columns
    assert answer["types"][2].startswith("Tuple(")


def test_numbers_are_grouped_by_what_stands_beside_them(asked: World) -> None:
    events, local = asked

    answer = ask(local, {**ALL, "select": ["event", "count() AS n"], "orderBy": ["n DESC", "event"]})
    ordered = ask(local, {**ALL, "select": ["event", "count()"]})["results"]
    few = ask(local, {**ALL, "select": ["event", "count()"], "where": ["count() < 40", "event != 'x' -- all"]})
    total = ask(local, {**ALL, "select": ["count()"]})["results"]

    expected = listing.counted(events)
    assert (answer["results"], answer["columns"]) == (expected, ["event", "n"])
    assert [row[1] for row in ordered] == [row[1] for row in expected]
    assert sorted(few["results"]) == sorted(row for row in expected if row[1] < 40)  # type: ignore[operator]
    assert total == [[len(events)]]
    assert answer["nextCursor"] is None


def test_a_list_with_times_begins_with_the_newest_and_any_other_with_its_first_column(asked: World) -> None:
    _, local = asked

    times = [row[1] for row in ask(local, {**ALL, "select": ["event", "timestamp"]})["results"]]
    names = [row[0] for row in ask(local, {**ALL, "select": ["event", "uuid"]})["results"]]

    assert times == sorted(times, reverse=True)
    assert names == sorted(names)


@pytest.mark.parametrize(
    "query",
    [
        {"select": ["uuid"], "orderBy": ["timestamp"]},
        {"select": ["timestamp"], "orderBy": ["event"]},
        {"select": ["timestamp", "count()"]},
    ],
)
def test_there_is_no_cursor_where_the_last_time_is_not_known(asked: World, query: dict[str, Any]) -> None:
    answer = ask(asked[1], {**ALL, **query, "limit": 1})

    assert (answer["hasMore"], answer["nextCursor"]) == (True, None)


def test_an_event_in_full_has_the_time_of_the_cursor(asked: World) -> None:
    answer = ask(asked[1], {**ALL, "select": ["*"], "orderBy": ["timestamp"], "limit": 3})

    assert answer["nextCursor"] == answer["results"][-1][0]["timestamp"]


def test_a_cursor_leads_through_events_of_different_times(asked: World) -> None:
    events, local = asked
    query = {**ALL, "select": ["uuid", "timestamp"], "orderBy": ["timestamp ASC"], "event": "cart", "limit": 7}
    times = {event.uuid: event.timestamp for event in events if event.name == "cart"}

    found: list[str] = []
    for _ in itertools.repeat(None, 100):
        answer = ask(local, query)
        found += ids(answer)
        if not answer["nextCursor"]:
            break
        query = {**query, "after": answer["nextCursor"]}

    once = {time for time in times.values() if list(times.values()).count(time) == 1}
    assert {uuid for uuid, time in times.items() if time in once} <= set(found)
    assert len(found) == len(set(found))


def test_events_of_one_person_are_those_of_all_their_ids(asked: World) -> None:
    events, local = asked
    distinct_id = events[0].distinct_id
    (row,) = ask(local, {**ALL, "select": ["person"], "where": [f"distinct_id = '{distinct_id}'"], "limit": 1})[
        "results"
    ]

    found = ask(local, {**ALL, "select": ["uuid"], "personId": row[0]["uuid"], "limit": 1000})

    assert set(ids(found)) == {event.uuid for event in events if event.person == events[0].person}


def test_steps_of_an_action_choose_events_as_the_action_would(asked: World) -> None:
    events, local = asked
    steps = [{"event": "buy"}, {"event": "cart", "properties": [{"key": "gift", "value": ["true"], "type": "event"}]}]

    found = ask(local, {**ALL, "select": ["uuid"], "actionSteps": steps, "limit": 1000})

    expected = {e.uuid for e in events if e.name == "buy" or (e.name == "cart" and e.get("gift") is True)}
    assert set(ids(found)) == expected


def test_without_dates_there_are_the_events_of_the_last_day(asked: World) -> None:
    _, local = asked

    assert ask(local, {"kind": "EventsQuery", "select": ["uuid"]})["results"] == []


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"select": ["event) FROM persons --"]}, BROKEN),
        ({"select": ["event"], "where": ["1=1) OR (1=1"]}, BROKEN),
        ({"select": ["event"], "orderBy": ["event, (SELECT 1"]}, BROKEN),
        ({"select": ["event"], "orderBy": ["event DESC LIMIT 5"]}, BROKEN),
        ({"select": ["nothing"]}, "Unable to resolve field: nothing"),
        ({"select": ["event"], "after": "yesterday"}, "Invalid date: yesterday"),
        ({"select": ["event"], "limit": -1}, "limit must not be negative, got -1."),
        ({"select": ["event"], "offset": -1}, "offset must not be negative, got -1."),
        ({"select": ["event"], "actionId": 99}, "Action ID 99 does not exist!"),
        (
            {
                "select": ["event"],
                "source": {"kind": "InsightActorsQuery", "source": {"kind": "TrendsQuery", "series": []}},
            },
            "does not have source of EventsQuery",
        ),
    ],
)
def test_what_cannot_be_answered_is_refused(asked: World, query: dict[str, Any], words: str) -> None:
    assert re.search(words, refusal(asked[1], {"kind": "EventsQuery", **query}))


def test_a_comment_at_the_end_of_an_expression_ends_with_it(asked: World) -> None:
    _, local = asked

    answer = ask(local, {**ALL, "select": ["event -- name", "1 -- one"], "where": ["true -- all"], "limit": 1})

    assert len(answer["results"]) == 1
    assert answer["columns"] == ["event -- name", "1 -- one"]


def test_a_chain_of_elements_is_read_element_by_element() -> None:
    chain = (
        'a.btn.btn-primary:attr__data-x="1;2"href="https://x.test/?a=1"nth-child="2"nth-of-type="1"text="Say \\"hi\\""'
        ';div:attr_id="main"nth-child="x";span;'
    )

    found = elements(chain)

    assert [element["tag_name"] for element in found] == ["a", "div", "span"]
    assert [element["order"] for element in found] == [0, 1, 2]
    link = found[0]
    assert (link["text"], link["href"], link["attr_class"]) == (
        'Say "hi"',
        "https://x.test/?a=1",
        ["btn", "btn-primary"],
    )
    assert (link["nth_child"], link["nth_of_type"], link["attributes"]) == (2, 1, {"attr__data-x": "1;2"})
    assert (found[1]["attr_id"], found[1]["nth_child"], found[2]["attr_class"]) == ("main", None, None)
    assert elements("") == []


def test_a_clicked_element_comes_with_its_event() -> None:
    clicked = {"$elements_chain": 'button.big:nth-child="1"text="Buy"'}
    with fresh([]) as local:
        with local.client() as client:
            client.capture_event("$autocapture", "user", clicked)

        ((event,),) = ask(local, {**ALL, "select": ["*"]})["results"]

    assert event["elements"][0]["tag_name"] == "button"
    assert event["elements"][0]["text"] == "Buy"
