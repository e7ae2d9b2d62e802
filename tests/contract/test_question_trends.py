"""TrendsQuery, StickinessQuery and LifecycleQuery against plain Python over the same raw events."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Any

import pytest

from posthog_driver.exceptions import QueryError
from posthog_driver.local import LocalPostHog, LocalProject
from tests.oracle.calendar import Calendar
from tests.oracle.events import Event, ingest, world
from tests.oracle.trends import lifecycle, number, stickiness, total, trend

FIRST, LAST = date(2025, 2, 26), date(2025, 3, 17)
RANGE = {"date_from": FIRST.isoformat(), "date_to": LAST.isoformat()}
VIEW = {"kind": "EventsNode", "event": "view"}


@dataclass(frozen=True)
class World:
    """Events, and the project that holds them."""

    events: list[Event]
    project: LocalProject
    zone: str
    week_start: int

    def calendar(self, interval: str = "day", first: date = FIRST, last: date = LAST) -> Calendar:
        return Calendar(first, last, interval, self.zone, self.week_start)

    def ask(self, kind: str = "TrendsQuery", **query: Any) -> list[dict[str, Any]]:
        """Ask, and return the results."""
        return self.answer(kind, **query)["results"]

    def answer(self, kind: str = "TrendsQuery", **query: Any) -> dict[str, Any]:
        body = {"query": {"kind": kind, "dateRange": RANGE, **query}}
        with self.project.client() as client:
            return client.request(f"/api/projects/{self.project.project_id}/query/", "POST", json=body)


SETTINGS = [("UTC", 0, 1), ("America/New_York", 1, 2), ("Asia/Kathmandu", 0, 3)]


@pytest.fixture(scope="module")
def server() -> Iterator[LocalPostHog]:
    with LocalPostHog(events=0) as local:
        yield local


@pytest.fixture(scope="module", params=SETTINGS, ids=lambda setting: setting[0])
def here(request: pytest.FixtureRequest, server: LocalPostHog) -> World:
    zone, week_start, seed = request.param
    project = server.new_project(zone, timezone=zone, week_start_day=week_start)
    events = world(seed, people=30, events=600)
    ingest(events, project)
    return World(events, project, zone, week_start)


def anything(event: Event) -> bool:
    return True


def close(found: list[float], expected: list[float]) -> None:
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-9)


WAYS = [
    ("total", ""),
    ("dau", ""),
    ("unique_session", ""),
    ("first_time_for_user", ""),
    ("first_matching_event_for_user", ""),
    *((way, "price") for way in ("sum", "avg", "min", "max", "median", "p90")),
    *((f"{way}_count_per_actor", "") for way in ("avg", "min", "max", "median", "p90")),
]


@pytest.mark.parametrize("interval", ["hour", "day", "week", "month"])
@pytest.mark.parametrize(("way", "key"), WAYS, ids=[way for way, _ in WAYS])
def test_each_way_of_counting_gives_the_numbers_of_its_definition(
    here: World, interval: str, way: str, key: str
) -> None:
    series = {**VIEW, "math": way, **({"math_property": key} if key else {})}
    (result,) = here.ask(series=[series], interval=interval)
    expected = trend(here.events, "view", anything, here.calendar(interval), way, key)
    close(result["data"], expected)
    assert len(result["days"]) == len(result["labels"]) == len(expected)
    assert result["count"] == pytest.approx(sum(expected))
    assert any(expected)


@pytest.mark.parametrize(
    ("way", "interval"), [("weekly_active", "day"), ("monthly_active", "day"), ("monthly_active", "week")]
)
def test_active_users_are_those_of_the_days_before_too(here: World, way: str, interval: str) -> None:
    (result,) = here.ask(series=[{**VIEW, "math": way}], interval=interval)
    close(result["data"], trend(here.events, "view", anything, here.calendar(interval), way))


@pytest.mark.parametrize(("way", "interval"), [("weekly_active", "week"), ("monthly_active", "month")])
def test_active_users_of_an_interval_as_long_as_their_window_are_its_users(
    here: World, way: str, interval: str
) -> None:
    (result,) = here.ask(series=[{**VIEW, "math": way}], interval=interval)
    close(result["data"], trend(here.events, "view", anything, here.calendar(interval), "dau"))


def test_active_users_of_an_hour_are_those_of_the_seven_days_that_end_with_it(here: World) -> None:
    (result,) = here.ask(series=[{**VIEW, "math": "weekly_active"}], interval="hour")
    slots = here.calendar("hour").slots()
    seen = [(event.timestamp.timestamp(), event.person) for event in here.events if event.name == "view"]
    starts = {here.calendar("hour").slot(event.timestamp) for event in here.events}
    assert set(starts) & set(slots)
    expected = [
        len({person for time, person in seen if slot - 7 * 86_400 + 3600 <= time < slot + 3600}) for slot in slots
    ]
    close(result["data"], expected)


@pytest.mark.parametrize(("way", "days"), [("weekly_active", 7), ("monthly_active", 30)])
def test_active_users_of_a_total_are_those_of_its_last_days(here: World, way: str, days: int) -> None:
    (result,) = here.ask(series=[{**VIEW, "math": way}], trendsFilter={"display": "ActionsTable"})
    day = here.calendar().day
    within = {e.person for e in here.events if e.name == "view" and 0 <= (LAST - day(e.timestamp)).days < days}
    assert result["aggregated_value"] == len(within)


@pytest.mark.parametrize("way", ["unique_group", "dau"])
def test_groups_are_counted_without_events_of_no_group(here: World, way: str) -> None:
    (result,) = here.ask(series=[{**VIEW, "math": way, "math_group_type_index": 0}])
    close(result["data"], trend(here.events, "view", anything, here.calendar(), "unique_group"))


def test_a_number_of_a_property_can_be_multiplied(here: World) -> None:
    plain, times = ({**VIEW, "math": "sum", "math_property": "price", "math_multiplier": by} for by in (None, 0.01))
    of_one, of_other = here.ask(series=[plain, times])
    close(of_other["data"], [number * 0.01 for number in of_one["data"]])


def test_the_duration_of_a_session_counts_once_whatever_its_events(here: World) -> None:
    series = {**VIEW, "math": "avg", "math_property": "$session_duration", "math_property_type": "session_properties"}
    (result,) = here.ask(series=[series], trendsFilter={"display": "BoldNumber"})
    with here.project.client() as client:
        durations = client.query(
            "SELECT any(session.$session_duration) AS seconds FROM events WHERE event = 'view' AND timestamp >= "
            f"toDateTime('{FIRST} 00:00:00') AND timestamp <= toDateTime('{LAST} 23:59:59.999999') "
            "GROUP BY $session_id LIMIT 50000"
        )
    seconds = [row["seconds"] for row in durations]
    assert result["aggregated_value"] == pytest.approx(sum(seconds) / len(seconds))
    assert len(set(seconds)) > 10


def test_a_result_has_the_fields_of_posthogs(here: World) -> None:
    first, second = here.ask(series=[VIEW, {"kind": "EventsNode", "event": None, "custom_name": "Everything"}])
    assert (first["order"], first["label"], first["action"]["id"]) == (0, "view", "view")
    assert (second["order"], second["label"]) == (1, "All events")
    action = second["action"]
    assert (action["id"], action["type"], action["name"]) == (None, "events", "All events")
    assert (action["custom_name"], len(action["days"])) == ("Everything", 20)
    assert first["filter"]["insight"] == "TRENDS"
    assert set(first) == {"filter", "data", "days", "labels", "count", "label", "action", "order"}


def test_a_formula_in_hogql_is_a_way_of_counting(here: World) -> None:
    (result,) = here.ask(series=[{**VIEW, "math": "hogql", "math_hogql": "count() * 2 + uniq(person_id)"}])
    total, people = (trend(here.events, "view", anything, here.calendar(), way) for way in ("total", "dau"))
    expected = [2 * events + persons for events, persons in zip(total, people, strict=True)]
    close(result["data"], expected)


def test_every_event_is_counted_when_none_is_named(here: World) -> None:
    (result,) = here.ask(series=[{"kind": "EventsNode", "event": None}])
    close(result["data"], trend(here.events, None, anything, here.calendar(), "total"))
    assert result["label"] == "All events"


FILTERS: list[tuple[dict[str, Any], Callable[[Event], bool]]] = [
    (
        {"key": "plan", "value": ["basic", "Plus"], "operator": "exact", "type": "event"},
        lambda event: event.get("plan") in ("basic", "Plus"),
    ),
    (
        {"key": "plan", "value": "plus", "operator": "icontains", "type": "event"},
        lambda event: "plus" in str(event.get("plan") or "").lower(),
    ),
    (
        {"key": "plan", "value": "basic", "operator": "is_not", "type": "event"},
        lambda event: event.get("plan") != "basic",
    ),
    (
        {"key": "price", "value": 9.99, "operator": "gte", "type": "event"},
        lambda event: (number(event.get("price")) or -9) >= 9.99,
    ),
    ({"key": "gift", "value": ["true"], "operator": "exact", "type": "event"}, lambda event: event.get("gift") is True),
    ({"key": "plan", "operator": "is_not_set", "type": "event"}, lambda event: event.get("plan") is None),
    (
        {"key": "tier", "value": "pro", "operator": "exact", "type": "person"},
        lambda event: event.person_properties.get("tier") == "pro",
    ),
    ({"key": "properties.plan = 'ultra' -- mine", "type": "hogql"}, lambda event: event.get("plan") == "ultra"),
]


@pytest.mark.parametrize("number_", range(len(FILTERS)))
def test_filters_of_a_series_and_of_the_question_narrow_the_same_way(here: World, number_: int) -> None:
    filter, passes = FILTERS[number_]
    expected = trend(here.events, "view", passes, here.calendar(), "total")
    (of_series,) = here.ask(series=[{**VIEW, "properties": [filter]}])
    (of_question,) = here.ask(series=[VIEW], properties=[filter])
    close(of_series["data"], expected)
    close(of_question["data"], expected)


def test_groups_of_filters_join_by_and_or_or(here: World) -> None:
    plan = [{"key": "plan", "value": [plan], "operator": "exact", "type": "event"} for plan in ("basic", "ultra")]
    gift = {"key": "gift", "value": ["true"], "operator": "exact", "type": "event"}
    either = {"type": "OR", "values": plan}
    group = {"type": "AND", "values": [either, {"type": "AND", "values": [gift]}]}
    (result,) = here.ask(series=[VIEW], properties=group)
    passes = lambda event: event.get("plan") in ("basic", "ultra") and event.get("gift") is True  # noqa: E731
    close(result["data"], trend(here.events, "view", passes, here.calendar(), "total"))


def test_the_first_time_counts_only_where_that_event_passes_the_filters(here: World) -> None:
    filter, passes = FILTERS[0]
    for way in ("first_time_for_user", "first_matching_event_for_user"):
        (result,) = here.ask(series=[{**VIEW, "math": way, "properties": [filter]}])
        close(result["data"], trend(here.events, "view", passes, here.calendar(), way))


def test_a_comparison_shows_the_days_before(here: World) -> None:
    current, previous = here.ask(series=[VIEW], compareFilter={"compare": True})
    days = (LAST - FIRST).days + 1
    before = here.calendar(first=FIRST - timedelta(days=days), last=LAST - timedelta(days=days))
    assert (current["compare_label"], previous["compare_label"]) == ("current", "previous")
    close(previous["data"], trend(here.events, "view", anything, before, "total"))
    week = {"compare": True, "compare_to": "-1w"}
    _, previous = here.ask(series=[VIEW], compareFilter=week)
    before = here.calendar(first=FIRST - timedelta(days=7), last=LAST - timedelta(days=7))
    close(previous["data"], trend(here.events, "view", anything, before, "total"))
    assert previous["days"][0] == (FIRST - timedelta(days=7)).isoformat()


# -------------------------------------------------------------------------------------------------------- breakdowns


def shown(value: Any) -> str:
    """A property as a breakdown shows it."""
    if value is None or value == "":
        return "$$_posthog_breakdown_null_$$"
    return {True: "true", False: "false"}.get(value, str(value)) if isinstance(value, bool) else str(value)


@pytest.mark.parametrize("key", ["plan", "gift", "price"])
def test_a_breakdown_splits_the_numbers_by_value(here: World, key: str) -> None:
    results = here.ask(series=[VIEW], breakdownFilter={"breakdown": key, "breakdown_type": "event"})
    values = {
        shown(event.get(key))
        for event in here.events
        if event.name == "view" and here.calendar().holds(event.timestamp)
    }
    assert {result["breakdown_value"] for result in results} == values
    for result in results:
        passes = lambda event, result=result: shown(event.get(key)) == result["breakdown_value"]  # noqa: E731
        close(result["data"], trend(here.events, "view", passes, here.calendar(), "total"))
    named = [result["count"] for result in results if result["breakdown_value"] != shown(None)]
    assert named == sorted(named, reverse=True)


def test_values_beyond_the_limit_are_added_up_and_can_be_hidden(here: World) -> None:
    asked = {"breakdown": "plan", "breakdown_type": "event", "breakdown_limit": 2}
    answer = here.answer(series=[VIEW], breakdownFilter=asked)
    everything = trend(here.events, "view", anything, here.calendar(), "total")
    assert [result["breakdown_value"] for result in answer["results"]][2:] == ["$$_posthog_breakdown_other_$$"]
    assert answer["hasMore"] is True
    close([sum(numbers) for numbers in zip(*(result["data"] for result in answer["results"]), strict=True)], everything)
    hidden = here.answer(series=[VIEW], breakdownFilter={**asked, "breakdown_hide_other_aggregation": True})
    assert [result["data"] for result in hidden["results"]] == [result["data"] for result in answer["results"][:2]]


def test_several_breakdowns_give_lists_of_values(here: World) -> None:
    breakdowns = [{"property": "plan", "type": "event"}, {"property": "tier", "type": "person"}]
    results = here.ask(
        series=[{**VIEW, "math": "dau"}], breakdownFilter={"breakdowns": breakdowns, "breakdown_limit": 100}
    )
    for result in results:

        def passes(event: Event, value: Any = result["breakdown_value"]) -> bool:
            return [shown(event.get("plan")), shown(event.person_properties.get("tier"))] == value

        close(result["data"], trend(here.events, "view", passes, here.calendar(), "dau"))
    assert len(results) > 5


@pytest.mark.parametrize(
    ("asked", "value"),
    [
        ({"property": "properties.plan", "type": "hogql"}, lambda event: event.get("plan")),
        ({"property": "tier", "type": "person"}, lambda event: event.person_properties.get("tier")),
        ({"property": "distinct_id", "type": "event_metadata"}, lambda event: event.distinct_id),
        ({"property": "size", "type": "group", "group_type_index": 0}, lambda event: None),
    ],
    ids=lambda asked: asked["type"] if isinstance(asked, dict) else "",
)
def test_a_breakdown_may_be_by_what_does_not_belong_to_the_event(
    here: World, asked: dict[str, Any], value: Callable[[Event], Any]
) -> None:
    results = here.ask(
        series=[VIEW],
        breakdownFilter={"breakdowns": [asked], "breakdown_limit": 200},
        trendsFilter={"display": "ActionsTable"},
        samplingFactor=1,
        dataColorTheme=1,
    )
    held = [event for event in here.events if event.name == "view" and here.calendar().holds(event.timestamp)]
    expected = Counter(shown(value(event)) for event in held)
    assert {result["breakdown_value"][0]: result["aggregated_value"] for result in results} == expected


def test_the_rest_of_a_total_holds_a_missing_value_that_is_too_small(here: World) -> None:
    asked = {"breakdown": "plan", "breakdown_type": "event", "breakdown_limit": 1}
    results = here.ask(series=[VIEW], breakdownFilter=asked, trendsFilter={"display": "ActionsPie"})
    held = [event for event in here.events if event.name == "view" and here.calendar().holds(event.timestamp)]
    counts = Counter(shown(event.get("plan")) for event in held)
    assert sorted(result["aggregated_value"] for result in results) == sorted(
        [max(counts.values()), len(held) - max(counts.values())]
    )


def test_addresses_that_differ_at_their_ends_can_be_one_value(here: World) -> None:
    page = {"kind": "EventsNode", "event": "$pageview"}
    asked = {"breakdowns": [{"property": "$current_url", "type": "event", "normalize_url": True}]}
    results = here.ask(series=[page], breakdownFilter=asked)
    values = [result["breakdown_value"][0] for result in results]
    assert "https://x.test/a" in values
    assert all(value == shown(None) or value[-1] not in "/?#" for value in values)


def test_bins_of_a_number_have_the_same_width_and_cover_all_of_them(here: World) -> None:
    asked = {"breakdown": "price", "breakdown_type": "event", "breakdown_histogram_bin_count": 3}
    results = here.ask(series=[VIEW], breakdownFilter=asked)
    everything = trend(here.events, "view", anything, here.calendar(), "total")
    close([sum(numbers) for numbers in zip(*(result["data"] for result in results), strict=True)], everything)
    for result in results:

        def passes(event: Event, value: str = result["breakdown_value"]) -> bool:
            price = number(event.get("price"))
            if value == shown(None):
                return price is None
            low, high = map(float, value[1:-1].split(","))
            assert (high - low) == pytest.approx(1003 / 3, abs=0.02)
            return price is not None and low <= price < high

        close(result["data"], trend(here.events, "view", passes, here.calendar(), "total"))


# ----------------------------------------------------------------------------------------------- displays and formulas


@pytest.mark.parametrize("way", ["total", "dau", "unique_session", "sum", "avg_count_per_actor"])
def test_a_display_of_totals_gives_one_number_for_the_range(here: World, way: str) -> None:
    series = {**VIEW, "math": way, "math_property": "price" if way == "sum" else None}
    (result,) = here.ask(series=[series], trendsFilter={"display": "BoldNumber"})
    held = [event for event in here.events if event.name == "view" and here.calendar().holds(event.timestamp)]
    assert result["aggregated_value"] == pytest.approx(total(held, way, "price"))
    assert result["data"] == []


def test_a_cumulative_display_counts_everybody_once(here: World) -> None:
    for way in ("total", "dau"):
        (result,) = here.ask(series=[{**VIEW, "math": way}], trendsFilter={"display": "ActionsLineGraphCumulative"})
        calendar = here.calendar()
        expected = [
            total(
                (
                    e
                    for e in here.events
                    if e.name == "view" and calendar.holds(e.timestamp) and calendar.slot(e.timestamp) <= slot
                ),
                way,
            )
            for slot in calendar.slots()
        ]
        close(result["data"], expected)
        assert result["count"] == expected[-1]


def test_smoothing_is_the_mean_of_the_last_intervals_rounded_down(here: World) -> None:
    (result,) = here.ask(series=[VIEW], trendsFilter={"smoothingIntervals": 3})
    plain = trend(here.events, "view", anything, here.calendar(), "total")
    expected = [sum(plain[max(0, i - 2) : i + 1]) // len(plain[max(0, i - 2) : i + 1]) for i in range(len(plain))]
    close(result["data"], expected)


def test_formulas_are_computed_from_the_series_and_division_by_zero_is_zero(here: World) -> None:
    cart = {"kind": "EventsNode", "event": "cart"}
    (share, sum_) = here.ask(series=[VIEW, cart], trendsFilter={"formulas": ["B / A * 100", "A + B - 1"]})
    views, carts = (trend(here.events, name, anything, here.calendar(), "total") for name in ("view", "cart"))
    close(share["data"], [100 * b / a if a else 0 for a, b in zip(views, carts, strict=True)])
    close(sum_["data"], [a + b - 1 for a, b in zip(views, carts, strict=True)])
    assert (share["label"], share["order"], sum_["order"]) == ("Formula (B / A * 100)", 0, 1)
    assert share["action"] is None


def test_a_formula_with_a_breakdown_has_a_result_for_each_value(here: World) -> None:
    cart = {"kind": "EventsNode", "event": "cart"}
    asked = {"breakdown": "plan", "breakdown_type": "event"}
    results = here.ask(series=[VIEW, cart], trendsFilter={"formula": "A-B"}, breakdownFilter=asked)
    for result in results:
        passes = lambda event, value=result["breakdown_value"]: shown(event.get("plan")) == value  # noqa: E731
        views, carts = (trend(here.events, name, passes, here.calendar(), "total") for name in ("view", "cart"))
        close(result["data"], [a - b for a, b in zip(views, carts, strict=True)])
        assert result["label"] == "Formula (A-B)"
    named = [result["count"] for result in results if result["breakdown_value"] != shown(None)]
    assert named == sorted(named, reverse=True)
    assert len(results) > 3


def test_seconds_and_minutes_add_up_to_the_hours(here: World) -> None:
    day = {"date_from": "2025-03-01", "date_to": "2025-03-01 12:00:00"}
    sums = {
        interval: here.ask(series=[VIEW], interval=interval, dateRange=day)[0]
        for interval in ("second", "minute", "hour")
    }
    assert sums["second"]["count"] == sums["minute"]["count"] == sums["hour"]["count"]
    assert sums["second"]["labels"][1] == "1-Mar 00:00:01"


def test_labels_say_the_interval_as_posthog_does(here: World) -> None:
    labels = {
        interval: here.ask(series=[VIEW], interval=interval)[0]["labels"]
        for interval in ("hour", "day", "week", "month")
    }
    assert labels["hour"][:2] == ["26-Feb 00:00", "26-Feb 01:00"]
    assert labels["day"][0] == "26-Feb-2025"
    assert labels["month"] == ["Feb 2025", "Mar 2025"]
    dash = "\N{EN DASH}"
    assert labels["week"][:2] == (
        [f"26-Feb {dash} 1-Mar", f"2{dash}8 Mar"] if here.week_start == 0 else [f"26-Feb {dash} 2-Mar", f"3{dash}9 Mar"]
    )


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"samplingFactor": 0.1}, "samplingFactor"),
        ({"trendsFilter": {"formula": "A + C"}}, "series C"),
        ({"trendsFilter": {"formula": "__import__('os')"}}, "is not understood"),
        ({"trendsFilter": {"display": "BoxPlot"}}, "BoxPlot"),
        ({"series": [{"kind": "ActionsNode", "id": 99}]}, "Action ID 99 does not exist"),
        ({"series": [{**VIEW, "math": "sum"}]}, "needs math_property"),
        ({"series": [{**VIEW, "math": "hogql"}]}, "needs math_hogql"),
        ({"series": [{**VIEW, "math": "unique_group"}]}, "needs math_group_type_index"),
        (
            {
                "series": [
                    {
                        **VIEW,
                        "math": "sum",
                        "math_property": "price",
                        "math_property_type": "data_warehouse_properties",
                    }
                ]
            },
            "math_property_type data_warehouse_properties",
        ),
        ({"breakdownFilter": {"breakdown": "x", "breakdown_limit": 5000}}, "at most 1000"),
        ({"breakdownFilter": {"breakdown": "x", "breakdown_path_cleaning": True}}, "breakdown_path_cleaning"),
        ({"breakdownFilter": {"breakdown": "x", "breakdown_histogram_bin_count": 0}}, "is 1 to 100"),
        (
            {"breakdownFilter": {"breakdown": "x", "breakdown_type": "group", "breakdown_group_type_index": 7}},
            "0 to 4",
        ),
        ({"breakdownFilter": {"breakdown": "some", "breakdown_type": "cohort"}}, "needs their ids"),
        ({"kind": "LifecycleQuery", "series": [VIEW, VIEW]}, "exactly one series"),
        ({"kind": "StickinessQuery", "series": [{**VIEW, "math": "sum"}]}, "math sum of a StickinessQuery"),
        ({"kind": "StickinessQuery", "intervalCount": 0}, "a whole number from 1"),
        ({"dateRange": {"date_from": "soon"}}, "Invalid date: soon"),
        ({"dateRange": {"date_from": "2025-03-02", "date_to": "2025-03-01"}}, "before it begins"),
        ({"interval": "minute", "dateRange": {"date_from": "2020-01-01"}}, "more than 50000 intervals"),
        (
            {"breakdownFilter": {"breakdown": "x", "breakdown_type": "data_warehouse"}},
            "breakdowns of type data_warehouse",
        ),
        ({"properties": [{"key": "x) OR (1", "type": "hogql"}]}, ""),
    ],
)
def test_what_is_not_served_is_refused_by_name(server: LocalPostHog, query: dict[str, Any], said: str) -> None:
    world = World([], server.project, "UTC", 0)
    with pytest.raises(QueryError) as refused:
        world.ask(**{"series": [VIEW], **query})
    assert refused.value.status == 400
    assert said in str(refused.value)


def test_an_empty_project_answers_zeros(server: LocalPostHog) -> None:
    world = World([], server.project, "UTC", 0)
    (result,) = world.ask(series=[VIEW])
    assert set(result["data"]) == {0}
    (everything,) = world.ask(series=[VIEW], dateRange={"date_from": "all"})
    assert everything["data"] == [0]


# ---------------------------------------------------------------------------------------------- stickiness, lifecycle


@pytest.mark.parametrize("interval", ["day", "week"])
@pytest.mark.parametrize("least", [1, 2])
def test_stickiness_counts_people_by_the_number_of_intervals(here: World, interval: str, least: int) -> None:
    criteria = {"stickinessCriteria": {"operator": "gte", "value": least}}
    (result,) = here.ask("StickinessQuery", series=[VIEW], interval=interval, stickinessFilter=criteria)
    expected = stickiness(here.events, "view", here.calendar(interval), least)
    assert result["data"] == expected
    assert result["days"] == list(range(1, len(expected) + 1))
    assert result["labels"][:2] == [f"1 {interval}", f"2 {interval}s"]
    (result,) = here.ask(
        "StickinessQuery", series=[VIEW], interval=interval, stickinessFilter={**criteria, "computedAs": "cumulative"}
    )
    assert result["data"] == [sum(expected[place:]) for place in range(len(expected))]
    assert result["count"] == sum(expected)
    assert result["labels"][:2] == [f"1 {interval} or more", f"2 {interval}s or more"]


def test_several_days_are_one_interval_of_stickiness_counted_back_from_the_end(here: World) -> None:
    (result,) = here.ask("StickinessQuery", series=[VIEW], intervalCount=3)
    calendar, active = here.calendar(), {}  # type: ignore[var-annotated]
    for event in here.events:
        if event.name == "view" and calendar.holds(event.timestamp):
            active.setdefault(event.person, set()).add((LAST - calendar.day(event.timestamp)).days // 3)
    intervals = [len(slots) for slots in active.values()]
    assert result["data"] == [intervals.count(number) for number in range(1, 8)]


@pytest.mark.parametrize("interval", ["day", "week", "month"])
def test_a_lifecycle_sorts_people_by_what_they_did_before(here: World, interval: str) -> None:
    with here.project.client() as client:
        rows = client.query("SELECT toString(uuid) AS uuid, person.created_at AS born FROM events LIMIT 50000")
    created = {row["uuid"]: datetime.fromisoformat(row["born"].replace("Z", "+00:00")) for row in rows}
    results = here.ask("LifecycleQuery", series=[VIEW], interval=interval)
    assert results[0]["action"] == {"id": "view", "name": "view", "type": "events", "order": 0, "math": "total"}
    expected = lifecycle(here.events, "view", here.calendar(interval), created)
    assert {result["status"]: result["data"] for result in results} == expected
    assert [result["label"] for result in results] == [f"view - {status}" for status in expected]


def test_stickiness_can_be_compared_and_count_groups_or_what_hogql_says(here: World) -> None:
    compared = here.ask("StickinessQuery", series=[VIEW], compareFilter={"compare": True, "compare_to": "-1w"})
    assert [result["compare_label"] for result in compared] == ["current", "previous"]
    before = here.calendar(first=FIRST - timedelta(days=7), last=LAST - timedelta(days=7))
    assert compared[1]["data"] == stickiness(here.events, "view", before)
    assert compared[0]["action"] == {"order": 0, "type": "events", "name": "view", "id": "view", "custom_name": None}
    groups, ids = (
        {**VIEW, "math": "unique_group", "math_group_type_index": 0},
        {**VIEW, "math": "hogql", "math_hogql": "distinct_id -- each"},
    )
    counted = here.ask("StickinessQuery", series=[groups, ids])
    held = [event for event in here.events if event.name == "view" and here.calendar().holds(event.timestamp)]
    assert counted[0]["count"] == len({event.groups["company"] for event in held if event.groups})
    assert counted[1]["count"] == len({event.distinct_id for event in held})


def test_a_lifecycle_of_an_action_names_it(here: World) -> None:
    path = f"/api/projects/{here.project.project_id}/actions/"
    with here.project.client() as client:
        made = client.request(path, "POST", json={"name": f"saw {here.zone}", "steps": [{"event": "view"}]})
    plain = here.ask("LifecycleQuery", series=[VIEW])
    results = here.ask("LifecycleQuery", series=[{"kind": "ActionsNode", "id": made["id"]}])
    assert [result["data"] for result in results] == [result["data"] for result in plain]
    assert results[0]["label"] == f"saw {here.zone} - new"
    assert (results[0]["action"]["id"], results[0]["action"]["type"]) == (str(made["id"]), "actions")


def test_a_lifecycle_shows_the_chosen_states(here: World) -> None:
    asked = {"toggledLifecycles": ["dormant", "new"]}
    results = here.ask("LifecycleQuery", series=[VIEW], lifecycleFilter=asked)
    assert [result["status"] for result in results] == ["new", "dormant"]


def test_the_same_question_is_answered_from_the_cache_and_in_the_background(here: World) -> None:
    again = replace(here)
    first, second = (again.answer(series=[VIEW], interval="day") for _ in range(2))
    assert (first["results"], second["is_cached"]) == (second["results"], True)
    body = {"query": {"kind": "TrendsQuery", "series": [VIEW], "dateRange": RANGE}, "refresh": "force_async"}
    path = f"/api/projects/{here.project.project_id}/query/"
    with here.project.client() as client:
        status = client.request(path, "POST", json=body)["query_status"]
        while not status["complete"]:
            status = client.request(f"{path}{status['id']}/")["query_status"]
    assert status["results"]["results"] == first["results"]
