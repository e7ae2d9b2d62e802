"""ActorsQuery against plain Python over the same events, and against the numbers that the actors stand behind."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from posthog_driver.local import LocalPostHog
from tests.oracle import actors
from tests.oracle.asking import ask, refusal
from tests.oracle.events import BEGIN, DAYS, NAMES, Event, fresh, of_person, world

BROKEN = "mismatched input|no viable alternative|trailing tokens"
"""How the parsers refuse what goes on behind its end."""

World = tuple[list[Event], LocalPostHog, str]
FIRST, LAST = BEGIN.date(), BEGIN.date() + timedelta(days=DAYS)
RANGE = {"dateRange": {"date_from": str(FIRST), "date_to": str(LAST)}}
SOME = settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
DATES = st.dates(FIRST + timedelta(days=1), LAST - timedelta(days=1))


@pytest.fixture(scope="module", params=[(1, "UTC"), (2, "America/New_York")], ids=str)
def asked(request: pytest.FixtureRequest) -> Iterator[World]:
    """Events, a project that has them, and its time zone."""
    seed, zone = request.param
    events = world(seed, people=15, events=300)
    with fresh(events, zone) as local:
        yield events, local, zone


def series(event: str | None = "$pageview", **more: Any) -> dict[str, Any]:
    return {"kind": "EventsNode", "event": event, **more}


def insight(kind: str, node: Mapping[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {"kind": kind, "series": [node or series()], **RANGE, **more}


def behind(local: LocalPostHog, source: Mapping[str, Any], **point: Any) -> dict[int, int | None]:
    """The numbers of the persons behind a point, each with its number of events if there is one."""
    select = ["person", "event_count"] if source["kind"] in ("TrendsQuery", "StickinessQuery") else ["person"]
    node = {"kind": "InsightActorsQuery", "source": source, **point}
    answer = ask(local, {"kind": "ActorsQuery", "select": select, "source": node, "limit": 1000})
    assert answer["missing_actors_count"] == 0
    return {actors.number_of(row[0]): row[1] if len(row) > 1 else None for row in answer["results"]}


# ------------------------------------------------------------------------------------------------------- everybody


def test_everybody_is_listed_once_with_all_ids_and_properties(asked: World) -> None:
    events, local, _ = asked

    answer = ask(local, {"kind": "ActorsQuery", "limit": 1000})

    people = of_person(events)
    assert {actors.number_of(row[0]) for row in answer["results"]} == set(people)
    assert len(answer["results"]) == len(people)
    assert answer["columns"] == ["person", "id", "person.$delete"]
    assert (answer["hasMore"], answer["missing_actors_count"]) == (False, 0)
    for person, key, delete in answer["results"]:
        own = people[actors.number_of(person)]
        assert (person["id"], delete) == (key, 1)
        assert set(person["distinct_ids"]) >= {event.distinct_id for event in own}
        assert {name: person["properties"].get(name) for name in own[0].person_properties} == own[0].person_properties


def test_pages_of_people_are_disjoint_and_complete(asked: World) -> None:
    events, local, _ = asked
    asks = {"kind": "ActorsQuery", "select": ["id"], "limit": 4}
    pages = [ask(local, {**asks, "offset": offset}) for offset in range(0, 20, 4)]

    found = [row[0] for page in pages for row in page["results"]]
    assert len(found) == len(set(found)) == len(of_person(events))
    assert [page["hasMore"] for page in pages] == [offset + 4 < len(found) for offset in range(0, 20, 4)]


def test_people_are_counted_by_a_property(asked: World) -> None:
    events, local, _ = asked

    rows = ask(local, {"kind": "ActorsQuery", "select": ["properties.tier", "count()"]})["results"]

    expected: dict[Any, int] = {}
    for own in of_person(events).values():
        tier = own[0].person_properties.get("tier")
        expected[tier] = expected.get(tier, 0) + 1
    assert dict(rows) == expected
    assert [count for _, count in rows] == sorted(expected.values(), reverse=True)


def test_people_are_filtered_by_properties_and_cohort_like_sql(asked: World) -> None:
    events, local, _ = asked
    tier = {"type": "person", "key": "tier", "value": ["pro", "team"], "operator": "exact"}
    sql = {"type": "hogql", "key": "toString(properties.beta) = 'true'"}

    asks = {"kind": "ActorsQuery", "select": ["person"], "limit": 1000, "properties": [tier]}
    found = ask(local, asks)["results"]
    both = ask(local, {**asks, "fixedProperties": [sql]})["results"]

    people = {n: own[0].person_properties for n, own in of_person(events).items()}
    chosen = {n for n, facts in people.items() if facts.get("tier") in ("pro", "team")}
    assert {actors.number_of(row[0]) for row in found} == chosen
    assert {actors.number_of(row[0]) for row in both} == {n for n in chosen if people[n].get("beta") is True}


def test_a_search_finds_ids_names_and_addresses(asked: World) -> None:
    events, local, _ = asked
    with local.client() as client:
        client.capture_event("told", "user-0", {"$set": {"email": "zoe@mail.test", "name": "Zoë Q"}})

    def search(text: str) -> set[int]:
        rows = ask(local, {"kind": "ActorsQuery", "select": ["person"], "search": text, "limit": 1000})["results"]
        return {actors.number_of(row[0]) for row in rows}

    assert search("ZOE@") == search("zoë q") == {0}
    assert search("user-1") == {n for n in of_person(events) if str(n).startswith("1")}
    assert search("nobody at all") == set()


def test_the_order_can_be_any_expression_and_a_person_is_ordered_by_address(asked: World) -> None:
    _, local, _ = asked
    asks = {"kind": "ActorsQuery", "select": ["id", "properties.email", "created_at"], "limit": 1000}

    newest = [row[2] for row in ask(local, asks)["results"]]
    addresses = [row[1] for row in ask(local, {**asks, "orderBy": ["person DESC"]})["results"]]
    ids = [row[0] for row in ask(local, {**asks, "orderBy": ["toString(id) ASC"]})["results"]]

    assert newest == sorted(newest, reverse=True)
    given = [address for address in addresses if address]
    assert given == sorted(given, reverse=True)
    assert ids == sorted(ids)


# -------------------------------------------------------------------------------------------------------- trends


@SOME
@given(day=DATES, name=st.sampled_from(NAMES), plan=st.none() | st.just("basic"))
def test_the_people_of_a_day_are_those_with_an_event_on_it(
    asked: World, day: date, name: str, plan: str | None
) -> None:
    events, local, zone = asked
    filters = [{"type": "event", "key": "plan", "value": plan, "operator": "exact"}] if plan else []

    found = behind(local, insight("TrendsQuery", series(name), properties=filters), day=str(day))

    assert found == actors.behind_day(events, name, day, zone, lambda event: plan is None or event.get("plan") == plan)


def test_as_many_people_stand_behind_a_point_as_it_counts(asked: World) -> None:
    _, local, _ = asked
    query = insight("TrendsQuery", series("buy", math="dau"), interval="week")

    (line,) = ask(local, query)["results"]

    assert sum(line["data"]) > 0
    for day, count in zip(line["days"], line["data"], strict=True):
        assert len(behind(local, query, day=day)) == count


@pytest.mark.parametrize("math", ["weekly_active", "first_time_for_user", "first_matching_event_for_user"])
def test_as_many_people_stand_behind_a_point_of_any_math(asked: World, math: str) -> None:
    _, local, _ = asked
    query = insight("TrendsQuery", series("buy", math=math))

    (line,) = ask(local, query)["results"]

    for day, count in list(zip(line["days"], line["data"], strict=True))[::5]:
        assert len(behind(local, query, day=day)) == count


def test_first_timers_of_a_day_had_their_first_event_then(asked: World) -> None:
    events, local, zone = asked
    query = insight("TrendsQuery", series("cart", math="first_time_for_user"))
    firsts = actors.first_days(events, "cart", zone)

    for day in sorted(set(firsts.values()))[:4]:
        if FIRST <= day <= LAST:
            assert set(behind(local, query, day=str(day))) == {n for n, first in firsts.items() if first == day}


@pytest.mark.parametrize("limit", [2, 10])
def test_the_people_of_each_breakdown_value_have_an_event_with_it(asked: World, limit: int) -> None:
    events, local, _ = asked
    breakdown = {"breakdown": "plan", "breakdown_type": "event", "breakdown_limit": limit}
    query = insight("TrendsQuery", series("view"), breakdownFilter=breakdown)
    lines = ask(local, query)["results"]
    shown = [line["breakdown_value"] for line in lines]

    by_value = {value: behind(local, query, breakdown=value) for value in shown}

    known = {value for value in shown if not value.startswith("$$")}
    for value, found in by_value.items():
        missing, other = value.endswith("null_$$"), value.endswith("other_$$")
        expected: dict[int, int] = {}
        for event in events:
            plan = event.get("plan") or None
            is_null = plan is None and "$$_posthog_breakdown_null_$$" in shown
            fits = plan is None if missing else (plan not in known and not is_null) if other else plan == value
            if event.name == "view" and fits:
                expected[event.person] = expected.get(event.person, 0) + 1
        assert found == expected


def test_a_breakdown_by_several_properties_takes_a_value_of_each(asked: World) -> None:
    events, local, _ = asked
    cuts = [{"property": "plan", "type": "event"}, {"property": "tier", "type": "person"}]
    query = insight("TrendsQuery", series("view"), breakdownFilter={"breakdowns": cuts})

    found = behind(local, query, breakdown=["Plus", "pro"])

    among = [e for e in events if e.name == "view" and e.get("plan") == "Plus"]
    assert set(found) == {e.person for e in among if e.person_properties.get("tier") == "pro"}


def test_the_people_of_a_cohort_are_a_breakdown_value(asked: World) -> None:
    events, local, _ = asked
    pro = {"type": "person", "key": "tier", "value": ["pro"], "operator": "exact"}
    body = {"name": "pros", "filters": {"properties": {"type": "AND", "values": [{"type": "AND", "values": [pro]}]}}}
    with local.client() as client:
        cohort = client.request(f"/api/projects/{local.project_id}/cohorts/", "POST", json=body)["id"]
    breakdown = {"breakdown": [cohort, "all"], "breakdown_type": "cohort"}
    query = insight("TrendsQuery", series("view"), breakdownFilter=breakdown)

    everybody = behind(local, query, breakdown="all")

    people = of_person([event for event in events if event.name == "view"])
    assert set(everybody) == set(people)
    assert set(behind(local, query, breakdown=cohort)) == {
        n for n, own in people.items() if own[0].person_properties.get("tier") == "pro"
    }
    source = {"kind": "InsightActorsQuery", "source": query, "breakdown": "x"}
    assert "is its id, not x" in refusal(local, {"kind": "ActorsQuery", "source": source})


def test_the_people_to_compare_with_are_those_of_the_earlier_range(asked: World) -> None:
    events, local, zone = asked
    middle = FIRST + timedelta(days=14)
    query = {
        **insight("TrendsQuery", series("buy")),
        "dateRange": {"date_from": str(middle), "date_to": str(middle + timedelta(days=6))},
        "compareFilter": {"compare": True},
    }
    day = middle - timedelta(days=3)

    assert behind(local, query, day=str(day), compare="previous") == actors.behind_day(events, "buy", day, zone)
    assert behind(local, query, day=str(day), compare="current") == {}


def test_the_second_series_has_its_own_people_and_all_days_together_all_of_them(asked: World) -> None:
    events, local, _ = asked
    query = {**insight("TrendsQuery"), "series": [series("buy"), series("cancel")]}

    found = behind(local, query, series=1)

    expected = of_person([event for event in events if event.name == "cancel"])
    assert found == {person: len(own) for person, own in expected.items()}


def test_a_cumulative_day_has_the_people_of_all_days_before(asked: World) -> None:
    _, local, _ = asked
    query = insight("TrendsQuery", series(math="dau"), trendsFilter={"display": "ActionsLineGraphCumulative"})
    (line,) = ask(local, query)["results"]

    for day, count in list(zip(line["days"], line["data"], strict=True))[::6]:
        assert len(behind(local, query, day=day)) == count


def test_the_list_behind_a_trend_shows_the_ids_that_its_events_came_from(asked: World) -> None:
    events, local, _ = asked
    node = {"kind": "InsightActorsQuery", "source": insight("TrendsQuery", series("buy"))}

    answer = ask(local, {"kind": "ActorsQuery", "source": node, "limit": 1000})

    assert answer["columns"] == ["person", "id", "person.$delete", "event_distinct_ids"]
    own = of_person([event for event in events if event.name == "buy"])
    assert {actors.number_of(row[0]): set(row[3]) for row in answer["results"]} == {
        person: {event.distinct_id for event in found} for person, found in own.items()
    }


# ------------------------------------------------------------------------------------------------------- groups


def test_groups_stand_behind_numbers_of_groups(asked: World) -> None:
    events, local, _ = asked
    with local.client() as client:
        for index in range(5):
            group = {"$group_type": "company", "$group_key": f"company-{index}", "$group_set": {"name": f"C {index}"}}
            client.capture_event("$groupidentify", "somebody", group)
    node = series("buy", math="unique_group", math_group_type_index=0)
    source = {"kind": "InsightActorsQuery", "source": insight("TrendsQuery", node)}

    answer = ask(local, {"kind": "ActorsQuery", "source": source})
    searched = ask(local, {"kind": "ActorsQuery", "select": ["key"], "source": source, "search": "c 1"})
    by_name = ask(local, {"kind": "ActorsQuery", "source": source, "orderBy": ["group DESC"]})["results"]

    expected = {event.groups["company"] for event in events if event.name == "buy" and event.groups}
    assert answer["columns"] == ["group"]
    assert {row[0]["id"] for row in answer["results"]} == expected
    assert all(row[0]["group_properties"]["name"] == f"C {row[0]['id'][-1]}" for row in answer["results"])
    assert [row[0] for row in searched["results"]] == [key for key in ["company-1"] if key in expected]
    assert [row[0]["id"] for row in by_name] == sorted(expected, reverse=True)


# ---------------------------------------------------------------------------- lifecycle, stickiness, funnels, HogQL


@SOME
@given(day=DATES, name=st.sampled_from(NAMES[:4]))
def test_who_returns_and_who_is_gone_is_told_by_the_days_before(asked: World, day: date, name: str) -> None:
    events, local, zone = asked
    query = insight("LifecycleQuery", series(name))

    assert set(behind(local, query, day=str(day), status="returning")) == actors.returning(events, name, day, zone)
    assert set(behind(local, query, day=str(day), status="dormant")) == actors.dormant(events, name, day, zone)


def test_as_many_people_have_a_status_as_the_lifecycle_counts(asked: World) -> None:
    _, local, _ = asked
    query = insight("LifecycleQuery", series("view"), interval="week")

    for line in ask(local, query)["results"]:
        for day, count in zip(line["days"], line["data"], strict=True):
            assert len(behind(local, query, day=day, status=line["status"])) == abs(count)


@pytest.mark.parametrize("operator", ["exact", "gte", "lte"])
def test_sticky_people_were_active_on_that_many_days(asked: World, operator: str) -> None:
    events, local, zone = asked
    days = [FIRST + timedelta(days=n) for n in range(DAYS + 1)]
    active = actors.active_days(events, "view", days, zone)
    query = insight("StickinessQuery", series("view"))

    for number in (1, 2, 4):
        source = {"kind": "StickinessActorsQuery", "source": query, "day": number, "operator": operator}
        rows = ask(local, {"kind": "ActorsQuery", "select": ["person"], "source": source, "limit": 999})["results"]
        tests = {"exact": number.__eq__, "gte": number.__le__, "lte": number.__ge__}
        assert {actors.number_of(row[0]) for row in rows} == {n for n, days in active.items() if tests[operator](days)}


def test_as_many_people_stand_behind_a_step_as_it_counts(asked: World) -> None:
    _, local, _ = asked
    query = {"kind": "FunnelsQuery", "series": [series("view"), series("cart"), series("buy")], **RANGE}
    counts = [step["count"] for step in ask(local, query)["results"]]

    def step(number: int) -> int:
        source = {"kind": "FunnelsActorsQuery", "source": query, "funnelStep": number}
        return len(ask(local, {"kind": "ActorsQuery", "select": ["id"], "source": source, "limit": 999})["results"])

    assert [step(number) for number in (1, 2, 3)] == counts
    assert [step(number) for number in (-2, -3)] == [counts[0] - counts[1], counts[1] - counts[2]]


def test_as_many_people_stand_behind_a_row_of_retention_as_it_begins_with(asked: World) -> None:
    _, local, _ = asked
    entity = {"type": "events", "id": "view"}
    options = {"period": "Week", "totalIntervals": 4, "targetEntity": entity, "returningEntity": entity}
    query = {"kind": "RetentionQuery", "retentionFilter": options, "dateRange": {"date_to": str(LAST)}}
    rows = ask(local, query)["results"]

    assert sum(row["values"][0]["count"] for row in rows) > 0
    for interval, row in enumerate(rows):
        source = {"kind": "InsightActorsQuery", "source": query, "interval": interval}
        asks = {"kind": "ActorsQuery", "select": ["person", "appearances"], "source": source, "limit": 999}
        found = ask(local, asks)["results"]
        for later, cell in enumerate(row["values"]):
            assert sum(later in appearances for _, appearances in found) == cell["count"]


@pytest.mark.parametrize(
    ("sql", "columns"),
    [
        ("SELECT person_id, count() AS n FROM events WHERE event = {name} GROUP BY person_id;", ["n"]),
        ("SELECT any(event) AS n, person_id AS actor_id FROM events WHERE event = {name} GROUP BY 2", []),
        ("SELECT id FROM persons WHERE id IN (SELECT person_id FROM events WHERE event = {name}) -- all", []),
        (
            "SELECT person_id AS the_id FROM events WHERE event = {name} UNION DISTINCT "
            "SELECT person_id FROM events WHERE event = {name}",
            [],
        ),
    ],
)
def test_people_can_come_from_a_query(asked: World, sql: str, columns: list[str]) -> None:
    events, local, _ = asked
    source = {"kind": "HogQLQuery", "query": sql, "values": {"name": "buy"}}

    answer = ask(local, {"kind": "ActorsQuery", "select": ["person", *columns], "source": source, "limit": 999})

    expected = of_person([event for event in events if event.name == "buy"])
    assert {actors.number_of(row[0]) for row in answer["results"]} == set(expected)
    if columns:
        assert {actors.number_of(row[0]): row[1] for row in answer["results"]} == {
            person: len(own) for person, own in expected.items()
        }


BY_PLAN = {"breakdown": "plan", "breakdown_type": "event"}
BINS = {"breakdown": "price", "breakdown_type": "event", "breakdown_histogram_bin_count": 3}
POINT = {"kind": "InsightActorsQuery", "source": insight("TrendsQuery")}


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"select": ["matched_recordings"]}, "does not have matched_recordings"),
        ({"select": ["id) FROM events --"]}, BROKEN),
        ({"limit": -1}, "limit must not be negative"),
        ({"source": {**POINT, "series": 3}}, "The query has no series 3, only 1."),
        (
            {"source": {**POINT, "source": insight("TrendsQuery", breakdownFilter=BY_PLAN), "breakdown": ["a", "b"]}},
            "breakdown needs 1 values, got 2.",
        ),
        (
            {"source": {**POINT, "source": insight("TrendsQuery", breakdownFilter=BINS), "breakdown": "[0,1]"}},
            "the actors of a breakdown with bins",
        ),
        ({"source": {**POINT, "day": "soon"}}, "Invalid date: soon"),
        ({"source": {**POINT, "day": 5}}, "day must be a date, got 5."),
        ({"source": {**POINT, "compare": "previous"}}, "compareFilter is off"),
        ({"source": {**POINT, "includeRecordings": True}}, "includeRecordings of InsightActorsQuery"),
        ({"source": {"kind": "HogQLQuery", "query": "SELECT event FROM events"}}, "must have an id column"),
        ({"source": {"kind": "HogQLQuery", "query": "SELECT person_id FROM events)"}}, BROKEN),
        ({"source": {**POINT, "source": insight("LifecycleQuery")}}, "status must be one of new, returning"),
        ({"source": {**POINT, "source": insight("LifecycleQuery"), "status": "new"}}, "day is needed"),
        (
            {"source": {**POINT, "source": insight("LifecycleQuery"), "status": "new", "day": "2001-01-01"}},
            "2001-01-01 is not in the range",
        ),
        ({"source": {**POINT, "source": insight("StickinessQuery")}}, "day must be the number of intervals."),
        (
            {"source": {**POINT, "source": {"kind": "WebOverviewQuery", "properties": []}}},
            "InsightActorsQuery of a WebOverviewQuery",
        ),
        ({"source": {**POINT, "source": {"kind": "RetentionQuery", "retentionFilter": {}}}}, "interval is needed"),
        (
            {"source": {"kind": "FunnelsActorsQuery", "source": {**insight("FunnelsQuery"), "series": [series()] * 2}}},
            "funnelStep is needed",
        ),
    ],
)
def test_what_cannot_be_answered_is_refused(asked: World, query: dict[str, Any], words: str) -> None:
    assert re.search(words, refusal(asked[1], {"kind": "ActorsQuery", **query}))
