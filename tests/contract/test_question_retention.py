"""RetentionQuery of the embedded PostHog against tables that are counted in plain Python, and what it refuses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import requests

from posthog_driver.local import LocalPostHog, LocalProject
from posthog_driver.local.errors import ApiError
from posthog_driver.local.questions.base import Asks, Rows
from posthog_driver.local.questions.retention import actors
from posthog_driver.local.schema import Catalog
from tests.oracle.asking import ask, refusal
from tests.oracle.events import Event, ingest, of_person, world
from tests.oracle.retention import table

KINDS = ("retention_recurring", "retention_first_time", "retention_first_ever_occurrence")
PLAN = {"key": "plan", "value": ["basic", "Plus"], "operator": "exact", "type": "event"}
World = tuple[LocalProject, list[Event]]


@pytest.fixture(scope="module")
def server() -> Iterator[LocalPostHog]:
    with LocalPostHog(events=0) as local:
        yield local


@pytest.fixture(scope="module", params=[(1, "UTC", 0), (2, "America/New_York", 1), (3, "Europe/Berlin", 0)], ids=str)
def own(server: LocalPostHog, request: pytest.FixtureRequest) -> World:
    """A project of its own with the events of a seed, in a time zone and with a first day of the week."""
    seed, zone, week_start = request.param
    project = server.new_project(name=f"Seed {seed}", timezone=zone, week_start_day=week_start)
    events = world(seed, people=40, events=700)
    ingest(events, project)
    return project, events


@pytest.fixture(scope="module")
def empty(server: LocalPostHog) -> LocalProject:
    return server.new_project(name="Empty")


def retention(
    dates: dict[str, Any] | None = None, more: dict[str, Any] | None = None, **options: Any
) -> dict[str, Any]:
    shown = {
        "period": "Day",
        "totalIntervals": 8,
        "targetEntity": {"id": "view", "type": "events"},
        "returningEntity": {"id": "buy", "type": "events"},
        **options,
    }
    return {
        "kind": "RetentionQuery",
        "retentionFilter": shown,
        "dateRange": dates or {"date_to": "2025-03-12"},
        **(more or {}),
    }


def intervals(project: LocalProject, unit: str, last: datetime, count: int) -> tuple[list[datetime], datetime]:
    """The last intervals up to the one that a local time lies in, and when they end."""
    facts = requests.get(
        f"{project.url}/api/projects/{project.project_id}/",
        headers={"Authorization": f"Bearer {project.personal_api_key}"},
        timeout=60,
    ).json()
    zone, week_start = ZoneInfo(facts["timezone"]), facts["week_start_day"] or 0
    if unit == "Hour":
        end = (last.replace(tzinfo=zone) + timedelta(hours=1)).astimezone(ZoneInfo("UTC"))
        starts = [(end - timedelta(hours=i)).astimezone(zone) for i in range(count + 1)]
        return starts[:0:-1], starts[0]
    found = [last.replace(hour=0, minute=0)]
    if unit == "Week":
        found = [found[0] - timedelta(days=(found[0].isoweekday() - week_start) % 7)]
    if unit == "Month":
        found = [found[0].replace(day=1)]
    step = {"Day": timedelta(days=1), "Week": timedelta(days=7)}
    following = found[0] + step.get(unit, timedelta(days=31))
    while len(found) < count:
        found.append((found[-1] - timedelta(days=1)).replace(day=1) if unit == "Month" else found[-1] - step[unit])
    end = following.replace(day=1) if unit == "Month" else following
    return [start.replace(tzinfo=zone) for start in reversed(found)], end.replace(tzinfo=zone)


def is_named(name: str, plan: bool = False) -> Callable[[Event], bool]:
    return lambda event: event.name == name and (not plan or event.get("plan") in ("basic", "Plus"))


def numbers(results: Sequence[dict[str, Any]]) -> Counter[tuple[int, int]]:
    return Counter(
        {
            (began, later): value["count"]
            for began, row in enumerate(results)
            for later, value in enumerate(row["values"])
            if value["count"]
        }
    )


def in_order(events: Sequence[Event], actor: Callable[[Event], Any] | None = None) -> dict[Any, list[Event]]:
    return of_person(sorted(events, key=lambda event: (event.timestamp, event.uuid)), actor)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("unit", "last", "count"),
    [
        ("Hour", datetime(2025, 3, 9, 12), 36),
        ("Day", datetime(2025, 3, 12), 8),
        ("Week", datetime(2025, 3, 18), 4),
        ("Month", datetime(2025, 3, 5), 3),
    ],
)
@pytest.mark.parametrize("cumulative", [False, True])
def test_each_cell_counts_who_began_and_came_back(
    own: World, kind: str, unit: str, last: datetime, count: int, cumulative: bool
) -> None:
    project, events = own
    dates = {"date_to": last.isoformat() if unit == "Hour" else last.date().isoformat()}
    query = retention(dates, period=unit, totalIntervals=count, retentionType=kind, cumulative=cumulative)
    results = ask(project, query)["results"]
    starts, end = intervals(project, unit, last, count)
    wanted = table(
        in_order(events),
        starts,
        end,
        is_named("view"),
        is_named("buy"),
        lookahead=count,
        kind=kind,
        cumulative=cumulative,
    )
    assert numbers(results) == wanted.get(None, Counter())
    assert [datetime.fromisoformat(row["date"].replace("Z", "+00:00")) for row in results] == starts
    assert [row["label"] for row in results] == [f"{unit} {i}" for i in range(count)]
    assert [value["label"] for value in results[0]["values"]] == [f"{unit} {i}" for i in range(count)]


@pytest.mark.parametrize("kind", KINDS)
def test_filters_of_the_entities_decide_who_begins_and_who_comes_back(own: World, kind: str) -> None:
    project, events = own
    entities = {
        "targetEntity": {"id": "view", "type": "events", "properties": [PLAN]},
        "returningEntity": {"id": None, "type": "events", "properties": [PLAN]},
    }
    results = ask(project, retention(retentionType=kind, **entities))["results"]
    starts, end = intervals(project, "Day", datetime(2025, 3, 12), 8)
    wanted = table(
        in_order(events),
        starts,
        end,
        is_named("view", plan=True),
        lambda event: event.get("plan") in ("basic", "Plus"),
        named=is_named("view"),
        lookahead=8,
        kind=kind,
    )
    assert numbers(results) == wanted[None]


@pytest.mark.parametrize("least", [2, 3])
def test_coming_back_may_need_several_events_in_an_interval(own: World, least: int) -> None:
    project, events = own
    query = retention({"date_to": "2025-03-18"}, period="Week", totalIntervals=4, minimumOccurrences=least)
    starts, end = intervals(project, "Week", datetime(2025, 3, 18), 4)
    wanted = table(in_order(events), starts, end, is_named("view"), is_named("buy"), lookahead=4, least=least)
    assert numbers(ask(project, query)["results"]) == wanted[None]


def test_a_range_may_have_more_intervals_than_the_table_looks_ahead(own: World) -> None:
    project, events = own
    results = ask(project, retention({"date_from": "2025-02-25", "date_to": "2025-03-12"}, totalIntervals=3))["results"]
    starts, end = intervals(project, "Day", datetime(2025, 3, 12), 16)
    wanted = table(in_order(events), starts, end, is_named("view"), is_named("buy"), lookahead=3)
    assert numbers(results) == wanted[None]
    assert (len(results), len(results[0]["values"])) == (16, 3)


def test_groups_may_come_back_instead_of_persons(own: World) -> None:
    project, events = own
    results = ask(project, retention(more={"aggregation_group_type_index": 0}))["results"]
    starts, end = intervals(project, "Day", datetime(2025, 3, 12), 8)
    companies = in_order(events, lambda event: event.groups.get("company"))
    assert numbers(results) == table(companies, starts, end, is_named("view"), is_named("buy"), lookahead=8)[None]


def test_filters_of_the_query_count_for_both_events(own: World) -> None:
    project, events = own
    tier = {"key": "tier", "value": "pro", "operator": "exact", "type": "person"}
    chosen = [event for event in events if event.person_properties.get("tier") == "pro"]
    starts, end = intervals(project, "Day", datetime(2025, 3, 12), 8)
    wanted = table(in_order(chosen), starts, end, is_named("view"), is_named("buy"), lookahead=8)
    results = ask(project, retention(more={"properties": [tier]}))["results"]
    assert numbers(results) == wanted.get(None, Counter())


# ----------------------------------------------------------------------------------------------------------- breakdowns


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("limit", [25, 2])
def test_a_breakdown_has_a_table_for_each_value(own: World, kind: str, limit: int) -> None:
    project, events = own
    breakdown = {"breakdowns": [{"property": "plan", "type": "event"}], "breakdown_limit": limit}
    results = ask(project, retention(more={"breakdownFilter": breakdown}, retentionType=kind))["results"]
    starts, end = intervals(project, "Day", datetime(2025, 3, 12), 8)
    wanted = table(
        in_order(events),
        starts,
        end,
        is_named("view"),
        is_named("buy"),
        lookahead=8,
        kind=kind,
        value=lambda event: event.get("plan") or "",
    )
    wanted = {value: cells for value, cells in wanted.items() if cells}
    size = {value: sum(n for (_, later), n in cells.items() if not later) for value, cells in wanted.items()}
    ranked = sorted(wanted, key=lambda value: (-size[value], value))
    rest: Counter[tuple[int, int]] = Counter()
    for value in ranked[limit:]:
        rest.update(wanted[value])
    shown = [(value, wanted[value]) for value in ranked[:limit]]
    shown += [("$$_posthog_breakdown_other_$$", rest)] if rest else []
    values = [row["breakdown_value"] for row in results[::8]]
    assert [(value, numbers(results[8 * i : 8 * i + 8])) for i, value in enumerate(values)] == shown


def test_a_breakdown_by_cohorts_has_a_table_for_each(own: World) -> None:
    project, _ = own
    tier = {"key": "tier", "type": "person", "value": ["pro"], "operator": "exact"}
    group = {"type": "OR", "values": [{"type": "AND", "values": [tier]}]}
    made = requests.post(
        f"{project.url}/api/projects/{project.project_id}/cohorts/",
        json={"name": "Pros", "filters": {"properties": group}},
        headers={"Authorization": f"Bearer {project.personal_api_key}"},
        timeout=60,
    ).json()
    breakdown = {"breakdown": [made["id"], "all"], "breakdown_type": "cohort"}
    results = ask(project, retention(more={"breakdownFilter": breakdown}))["results"]
    tables = {results[i]["breakdown_value"]: numbers(results[i : i + 8]) for i in range(0, len(results), 8)}
    assert tables["0"] == numbers(ask(project, retention())["results"])
    pros = ask(project, retention(more={"properties": [tier]}))["results"]
    assert tables.get(str(made["id"]), Counter()) == numbers(pros)


# ---------------------------------------------------------------------------------------- the rest, and what is refused


def test_without_anybody_all_cells_are_zero(empty: LocalProject) -> None:
    results = ask(empty, retention())["results"]
    assert [row["date"] for row in results] == [f"2025-03-{day:02d}T00:00:00Z" for day in range(5, 13)]
    assert numbers(results) == Counter()


def test_without_options_it_is_a_week_of_page_views(own: World) -> None:
    project, events = own
    query = {"kind": "RetentionQuery", "retentionFilter": {}, "dateRange": {"date_to": "2025-03-12"}}
    results = ask(project, query)["results"]
    starts, end = intervals(project, "Day", datetime(2025, 3, 12), 7)
    views = is_named("$pageview")
    assert numbers(results) == table(in_order(events), starts, end, views, views, lookahead=7)[None]
    today = ask(project, {"kind": "RetentionQuery", "retentionFilter": {}})["results"]
    assert (len(today), numbers(today)) == (7, Counter())


def test_actions_can_begin_and_come_back(own: World) -> None:
    project, events = own
    made = requests.post(
        f"{project.url}/api/projects/{project.project_id}/actions/",
        json={"name": "Look or cart", "steps": [{"event": "view"}, {"event": "cart"}]},
        headers={"Authorization": f"Bearer {project.personal_api_key}"},
        timeout=60,
    ).json()
    entities = {
        "targetEntity": {"id": made["id"], "type": "actions"},
        "returningEntity": {"id": str(made["id"]), "kind": "ActionsNode"},
    }
    starts, end = intervals(project, "Day", datetime(2025, 3, 12), 8)
    either: Callable[[Event], bool] = lambda event: event.name in ("view", "cart")  # noqa: E731
    wanted = table(in_order(events), starts, end, either, either, lookahead=8)
    assert numbers(ask(project, retention(**entities))["results"]) == wanted[None]


@pytest.mark.parametrize(
    ("query", "text"),
    [
        (retention(aggregationProperty="price"), "aggregationProperty"),
        (retention(aggregationType="sum"), "aggregationType"),
        (retention(timeWindowMode="24_hour_windows"), "timeWindowMode"),
        (retention(retentionCustomBrackets=[1, 2]), "retentionCustomBrackets"),
        (retention(customAggregationTarget=True), "customAggregationTarget"),
        (retention(totalIntervals=1001), "totalIntervals is 1 to 1000."),
        (retention(targetEntity={"id": "x", "type": "groups"}), "the type groups of targetEntity"),
        (retention(returningEntity={"id": "x", "type": "actions"}), "Action ID x does not exist!"),
        (retention(returningEntity={"id": 77, "type": "actions"}), "Action ID 77 does not exist!"),
        (retention(more={"samplingFactor": 0.1}), "samplingFactor"),
        (retention(more={"breakdownFilter": {"breakdown": ["plan", "gift"]}}), "one breakdown"),
        (retention({"date_to": "yesterday"}), "Invalid date: yesterday"),
        (retention({"date_from": "2000-01-01", "date_to": "2005-01-01"}), "more than 1000 intervals"),
        (retention({"date_from": "1900-01-01", "date_to": "2005-01-01"}, period="Hour"), "intervals"),
    ],
)
def test_what_cannot_be_answered_is_refused_by_name(empty: LocalProject, query: dict[str, Any], text: str) -> None:
    assert text in refusal(empty, query)


def test_the_demo_data_come_back_as_they_were_made_to(local_posthog: LocalPostHog) -> None:
    truth = local_posthog.truth["weekly_retention"]
    weeks, entity = truth["weeks"], {"id": truth["event"], "type": "events"}
    query = {
        "kind": "RetentionQuery",
        "retentionFilter": {
            "period": "Week",
            "totalIntervals": len(weeks),
            "targetEntity": entity,
            "returningEntity": entity,
        },
        "dateRange": {"date_from": weeks[0], "date_to": weeks[-1]},
    }
    results = ask(local_posthog, query)["results"]
    assert [row["date"][:10] for row in results] == [str(week)[:10] for week in weeks]
    for row, returned in zip(results, truth["returned"], strict=True):
        counts = [value["count"] for value in row["values"]]
        assert counts == [*returned, *[0] * (len(weeks) - len(returned))]


# ---------------------------------------------------------------------------------------------------------- the actors


def people(project: LocalProject, query: dict[str, Any], interval: int, value: Any = None) -> list[list[int]]:
    """When the actors of a row came, as the HogQL of them says."""
    now = datetime.now(ZoneInfo("UTC"))
    asks = Asks(Catalog(), now, lambda hogql, values: Rows([], [], [], hogql))
    found = actors(query, asks, interval, value)
    rows = ask(project, {"kind": "HogQLQuery", "query": f"{found.hogql} LIMIT 1000", "values": dict(found.values)})
    assert len({row[0] for row in rows["results"]}) == len(rows["results"])
    return [row[1] for row in rows["results"]]


@pytest.fixture(scope="module")
def seeded(server: LocalPostHog) -> LocalProject:
    """A project in UTC whose weeks begin on Sunday, as a catalog has it that knows nothing."""
    project = server.new_project(name="Actors")
    ingest(world(5, people=40, events=700), project)
    return project


@pytest.mark.parametrize("interval", [0, 3, 7])
def test_the_actors_of_a_row_are_those_who_are_counted_in_its_cells(seeded: LocalProject, interval: int) -> None:
    query = retention(period="Day")
    (row,) = ask(seeded, query)["results"][interval : interval + 1]
    found = people(seeded, query, interval)
    assert [sum(later in came for came in found) for later in range(8)] == [value["count"] for value in row["values"]]
    assert all(came == sorted(came) and came[0] == 0 for came in found)


def test_the_actors_of_a_breakdown_value_are_its_own(seeded: LocalProject) -> None:
    query = retention(more={"breakdownFilter": {"breakdown": "plan", "breakdown_type": "event"}})
    for row in ask(seeded, query)["results"][::8]:
        assert len(people(seeded, query, 0, row["breakdown_value"])) == row["values"][0]["count"]


def test_the_actors_of_everybody_among_cohorts_are_all(seeded: LocalProject) -> None:
    query = retention(more={"breakdownFilter": {"breakdown": [1, "all"], "breakdown_type": "cohort"}})
    assert sorted(people(seeded, query, 2, "0")) == sorted(people(seeded, retention(), 2))


@pytest.mark.parametrize("interval", [-1, 8])
def test_there_are_no_actors_of_a_row_that_is_not_there(seeded: LocalProject, interval: int) -> None:
    with pytest.raises(ApiError, match="interval is 0 to 7"):
        people(seeded, retention(), interval)
