"""WebOverviewQuery, WebStatsTableQuery and WebGoalsQuery against plain Python over the same events."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from posthog_driver.local import LocalPostHog
from tests.oracle import web
from tests.oracle.asking import ask, refusal
from tests.oracle.events import BEGIN, DAYS, Event, fresh, world

World = tuple[list[Event], LocalPostHog, str]
DATES = st.dates(BEGIN.date() - timedelta(days=3), BEGIN.date() + timedelta(days=DAYS + 3))
PLAN = {"type": "event", "key": "plan", "value": ["basic", "ultra"], "operator": "exact"}


@pytest.fixture(scope="module", params=[(1, "UTC"), (2, "America/New_York"), (3, "Asia/Kolkata")], ids=str)
def asked(request: pytest.FixtureRequest) -> Iterator[World]:
    """Events, a project that has them, and its time zone."""
    seed, zone = request.param
    events = world(seed, people=12, events=300)
    with fresh(events, zone) as local:
        yield events, local, zone


def numbers(answer: dict[str, Any], key: str = "value") -> list[Any]:
    return [item[key] for item in answer["results"]]


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(dates=st.tuples(DATES, DATES).map(sorted), is_filtered=st.booleans(), goal=st.none() | st.just("buy"))
def test_the_numbers_of_a_range_are_those_of_the_sessions_that_begin_in_it(
    asked: World, dates: list[date], is_filtered: bool, goal: str | None
) -> None:
    events, local, zone = asked
    first, last = dates
    query: dict[str, Any] = {
        "kind": "WebOverviewQuery",
        "properties": [PLAN] if is_filtered else [],
        "dateRange": {"date_from": str(first), "date_to": str(last)},
    }
    if goal:
        query["conversionGoal"] = {"customEventName": goal}

    answer = ask(local, query)

    expected = web.overview(
        events,
        *web.period(first, last, zone),
        passes=lambda event: not is_filtered or event.get("plan") in ("basic", "ultra"),
        goal=goal,
    )
    assert numbers(answer) == [pytest.approx(value) if value is not None else None for value in expected]
    assert (answer["dateFrom"], answer["dateTo"]) == (f"{first} 00:00:00", f"{last} 23:59:59")


@pytest.mark.parametrize("compare_to", [None, "-1w", "-10d"])
def test_a_comparison_has_the_numbers_of_the_earlier_range_and_the_change(asked: World, compare_to: str | None) -> None:
    events, local, zone = asked
    first, last = BEGIN.date() + timedelta(days=12), BEGIN.date() + timedelta(days=18)
    days = {None: 7, "-1w": 7, "-10d": 10}[compare_to]
    query = {
        "kind": "WebOverviewQuery",
        "properties": [],
        "dateRange": {"date_from": str(first), "date_to": str(last)},
        "compareFilter": {"compare": True, "compare_to": compare_to},
    }

    answer = ask(local, query)

    earlier = web.period(first - timedelta(days=days), last - timedelta(days=days), zone)
    before, now = web.overview(events, *earlier), web.overview(events, *web.period(first, last, zone))
    assert numbers(answer, "previous") == pytest.approx(before)
    assert numbers(answer) == pytest.approx(now)
    assert numbers(answer, "changeFromPreviousPct") == [
        round(100 * (new - old) / old) if old else None for new, old in zip(now, before, strict=True)
    ]


def test_every_number_has_its_name_its_unit_and_whether_more_is_bad(asked: World) -> None:
    _, local, _ = asked
    visits = ask(local, {"kind": "WebOverviewQuery", "properties": []})["results"]
    goal = {"customEventName": "buy"}
    conversions = ask(local, {"kind": "WebOverviewQuery", "properties": [], "conversionGoal": goal})["results"]

    assert [(one["key"], one["kind"], one["isIncreaseBad"]) for one in visits] == [
        ("visitors", "unit", None),
        ("views", "unit", None),
        ("sessions", "unit", None),
        ("session duration", "duration_s", None),
        ("bounce rate", "percentage", True),
    ]
    assert [one["key"] for one in conversions] == [
        "visitors",
        "total conversions",
        "unique conversions",
        "conversion rate",
    ]
    assert {one["previous"] for one in visits} == {None}


def test_nothing_in_a_range_gives_no_averages(asked: World) -> None:
    _, local, _ = asked
    dates = {"date_from": "2001-01-01", "date_to": "2001-01-02"}
    query = {"kind": "WebOverviewQuery", "properties": [], "dateRange": dates}

    assert numbers(ask(local, query)) == [0, 0, 0, None, None]
    assert numbers(ask(local, {**query, "conversionGoal": {"customEventName": "buy"}})) == [0, 0, 0, None]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"includeRevenue": True}, "does not have includeRevenue of WebOverviewQuery"),
        ({"sampling": {"forceSamplingRate": {"numerator": 1}}}, "does not have forceSamplingRate"),
        ({"conversionGoal": {"actionId": 99}}, "Action ID 99 does not exist!"),
        ({"dateRange": {"date_from": "someday"}}, "Invalid date: someday"),
        ({"compareFilter": {"compare": True, "compare_to": "soon"}}, "soon"),
    ],
)
def test_what_cannot_be_answered_is_refused(asked: World, more: dict[str, Any], words: str) -> None:
    assert words in refusal(asked[1], {"kind": "WebOverviewQuery", "properties": [], **more})


# ----------------------------------------------------------------------------------------------------------- tables


def rows_of(answer: dict[str, Any], place: int = 0) -> dict[Any, list[Any]]:
    """The numbers of a table by value, those of the range or of the one to compare with."""
    return {row[0]: [pair[place] for pair in row[1:-2]] for row in answer["results"]}


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(dates=st.tuples(DATES, DATES).map(sorted), is_compared=st.booleans())
def test_a_table_has_the_visitors_and_views_of_each_value(asked: World, dates: list[date], is_compared: bool) -> None:
    events, local, zone = asked
    first, last = dates
    ranges = [web.period(first, last, zone)]
    if is_compared:
        days = timedelta(days=(last - first).days + 1)
        ranges.append(web.period(first - days, last - days, zone))
    query = {
        "kind": "WebStatsTableQuery",
        "breakdownBy": "ScreenName",
        "properties": [],
        "dateRange": {"date_from": str(first), "date_to": str(last)},
        "compareFilter": {"compare": is_compared},
        "includeBounceRate": True,
    }

    answer = ask(local, query)

    expected = web.table(events, ranges, lambda event: event.get("$screen_name"))
    for place in range(2):
        found = rows_of(answer, place)
        assert set(found) == set(expected)
        for value, numbers in found.items():
            want = expected[value][place] if place < len(ranges) else (None, None, None)
            assert numbers == [None if number is None else pytest.approx(number) for number in want]


@pytest.mark.parametrize(
    ("order", "place", "is_descending"),
    [(None, 1, True), (["Views", "DESC"], 2, True), (["Visitors", "ASC"], 1, False)],
)
def test_a_table_is_ordered_and_filled_by_the_number_asked_for(
    asked: World, order: list[str] | None, place: int, is_descending: bool
) -> None:
    _, local, _ = asked
    query: dict[str, Any] = {"kind": "WebStatsTableQuery", "breakdownBy": "ScreenName", "properties": []}
    query["dateRange"] = {"date_from": "2025-02-20"}
    if order:
        query["orderBy"] = order

    answer = ask(local, query)

    numbers = [row[place][0] for row in answer["results"]]
    assert len(numbers) > 1
    assert numbers == sorted(numbers, reverse=is_descending)
    assert [row[-2] for row in answer["results"]] == pytest.approx([number / sum(numbers) for number in numbers])
    assert [one.rpartition(".")[2] for one in answer["columns"]] == [
        "breakdown_value", "visitors", "views", "ui_fill_fraction", "cross_sell"
    ]  # fmt: skip
    assert [type_[0] for type_ in answer["types"]] == answer["columns"][:-1]


def test_a_table_comes_in_pages(asked: World) -> None:
    _, local, _ = asked
    query = {"kind": "WebStatsTableQuery", "breakdownBy": "ScreenName", "properties": [], "limit": 1}
    query["dateRange"] = {"date_from": "2025-02-20"}

    first, second = ask(local, query), ask(local, {**query, "offset": 1})

    assert (first["hasMore"], first["limit"], second["offset"]) == (True, 1, 1)
    assert first["results"][0][0] != second["results"][0][0]


def test_conversions_take_the_place_of_views(asked: World) -> None:
    events, local, zone = asked
    query = {
        "kind": "WebStatsTableQuery",
        "breakdownBy": "InitialChannelType",
        "properties": [],
        "conversionGoal": {"customEventName": "buy"},
        "dateRange": {"date_from": "2025-02-20", "date_to": "2025-03-25"},
        "compareFilter": {"compare": True},
    }

    answer = ask(local, query)

    assert [one.rpartition(".")[2] for one in answer["columns"]][1:4] == [
        "visitors", "total_conversions", "unique_conversions"
    ]  # fmt: skip
    ranges = web.period(date(2025, 2, 20), date(2025, 3, 25), zone)
    visitors, total, unique, rate = web.overview(events, *ranges, goal="buy")
    assert rows_of(answer) == {"Unknown": [visitors, total, unique, pytest.approx(rate / 100)]}


@pytest.mark.parametrize(
    "by",
    ["Page", "InitialPage", "ExitPage", "ExitClick", "InitialReferringDomain", "InitialUTMSource", "InitialUTMCampaign",
     "InitialUTMMedium", "InitialUTMTerm", "InitialUTMContent", "Browser", "OS", "DeviceType", "Country", "Region",
     "City", "Timezone"],
)  # fmt: skip
def test_a_table_can_be_about_any_of_these(local_posthog: LocalPostHog, by: str) -> None:
    query = {"kind": "WebStatsTableQuery", "breakdownBy": by, "properties": [], "dateRange": {"date_from": "all"}}

    results = ask(local_posthog, query)["results"]

    assert all(len(row) == 5 for row in results)
    if by not in ("ExitClick", "Region", "City", "Timezone"):
        assert results


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"breakdownBy": "Language"}, "does not have breakdownBy Language"),
        ({"breakdownBy": "Page", "includeBounceRate": True}, "does not have includeBounceRate"),
        ({"includeScrollDepth": True}, "does not have includeScrollDepth"),
        ({"limit": -1}, "limit must not be negative"),
    ],
)
def test_a_table_that_cannot_be_made_is_refused(asked: World, more: dict[str, Any], words: str) -> None:
    query = {"kind": "WebStatsTableQuery", "breakdownBy": "OS", "properties": []}

    assert words in refusal(asked[1], {**query, **more})


def test_without_actions_there_are_no_goals(local_posthog: LocalPostHog, asked: World) -> None:
    _, local, _ = asked

    assert ask(local, {"kind": "WebGoalsQuery", "properties": []})["results"] == []


def test_goals_are_the_projects_actions(asked: World) -> None:
    events, local, zone = asked
    with local.client() as client:
        for name in ("buy", "cart"):
            action = {"name": f"they {name}", "steps": [{"event": name}]}
            client.request(f"/api/projects/{local.project_id}/actions/", "POST", json=action)
    first, last = BEGIN.date() + timedelta(days=12), BEGIN.date() + timedelta(days=18)
    query = {
        "kind": "WebGoalsQuery",
        "properties": [],
        "dateRange": {"date_from": str(first), "date_to": str(last)},
        "compareFilter": {"compare": True},
        "orderBy": ["TotalConversions", "DESC"],
    }

    rows = ask(local, query)["results"]

    earlier = web.period(first - timedelta(days=7), last - timedelta(days=7), zone)
    now = web.goals(events, *web.period(first, last, zone), ["buy", "cart"])
    before = web.goals(events, *earlier, ["buy", "cart"])
    expected = {
        f"they {name}": [list(pair) for pair in zip(new, old, strict=True)]
        for name, new, old in zip(("buy", "cart"), now, before, strict=True)
    }
    assert {row[0]: row[1:] for row in rows} == expected
    del query["orderBy"]
    assert [row[0] for row in ask(local, query)["results"]] == ["they buy", "they cart"]
    assert [row[2][0] for row in rows] == sorted((one[1] for one in now), reverse=True)
