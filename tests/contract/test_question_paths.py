"""PathsQuery of the embedded PostHog against paths that are followed in plain Python, and what it refuses."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from posthog_driver.local import LocalPostHog, LocalProject
from tests.oracle.asking import ask, refusal
from tests.oracle.events import Event, ingest, of_person, world
from tests.oracle.paths import edges, item_of

RANGE = {"date_from": "2025-02-20", "date_to": "2025-03-25"}
World = tuple[LocalProject, list[Event]]


@pytest.fixture(scope="module")
def server() -> Iterator[LocalPostHog]:
    with LocalPostHog(events=0) as local:
        yield local


@pytest.fixture(scope="module", params=[1, 2])
def own(server: LocalPostHog, request: pytest.FixtureRequest) -> World:
    """A project of its own with the events of a seed."""
    project = server.new_project(name=f"Seed {request.param}")
    events = world(request.param, people=40, events=900)
    ingest(events, project)
    return project, events


@pytest.fixture(scope="module")
def empty(server: LocalPostHog) -> LocalProject:
    return server.new_project(name="Empty")


def paths(more: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
    return {"kind": "PathsQuery", "pathsFilter": options, "dateRange": RANGE, **(more or {})}


def in_order(events: Sequence[Event], matches: Callable[[Event], bool] = lambda event: True) -> dict[Any, list[Event]]:
    ordered = sorted(events, key=lambda event: (event.timestamp, event.uuid))
    return of_person([event for event in ordered if matches(event)])


def same(project: LocalProject, query: dict[str, Any], wanted: Sequence[tuple[str, str, int, float]]) -> None:
    results = ask(project, query)["results"]
    assert [(row["source"], row["target"], row["value"]) for row in results] == [row[:3] for row in wanted]
    times = [row["average_conversion_time"] for row in results]
    assert times == pytest.approx([row[3] for row in wanted], rel=1e-9, abs=1e-3)


@pytest.mark.parametrize("steps", [None, 1, 2, 3, 10])
@pytest.mark.parametrize(
    ("start", "end"),
    [
        (None, None),
        ("view", None),
        ("https://x.test/a/", None),
        (None, "buy"),
        (None, "settings/"),
        ("view", "buy"),
        ("cart", "cart"),
        ("nowhere", None),
    ],
)
def test_edges_count_what_people_do_one_after_the_other(
    own: World, steps: int | None, start: str | None, end: str | None
) -> None:
    project, events = own
    query = paths(stepLimit=steps, startPoint=start, endPoint=end, edgeLimit=10_000)
    wanted = edges(in_order(events), steps=steps or 5, start=start, end=end, limit=10_000)
    same(project, query, wanted)


@pytest.mark.parametrize("limit", [None, 5, 60])
@pytest.mark.parametrize(("least", "most"), [(None, None), (2, None), (None, 3), (2, 4)])
def test_edges_can_be_limited_by_their_number_and_weight(
    own: World, limit: int | None, least: int | None, most: int | None
) -> None:
    project, events = own
    query = paths(edgeLimit=limit, minEdgeWeight=least, maxEdgeWeight=most)
    same(project, query, edges(in_order(events), limit=limit or 50, least=least or 0, most=most))


@pytest.mark.parametrize("types", [["$pageview"], ["$screen"], ["custom_event"], ["$pageview", "custom_event"]])
def test_only_events_of_the_chosen_types_count(own: World, types: list[str]) -> None:
    project, events = own

    def matches(event: Event) -> bool:
        return event.name in types or ("custom_event" in types and not event.name.startswith("$"))

    same(project, paths(includeEventTypes=types), edges(in_order(events, matches)))


def test_an_expression_can_name_what_people_do(own: World) -> None:
    project, events = own
    query = paths(includeEventTypes=["hogql"], pathsHogQLExpression="properties.plan")
    same(project, query, edges(in_order(events), lambda event: event.get("plan") or ""))
    mixed = paths(includeEventTypes=["hogql", "$pageview"], pathsHogQLExpression="upper(event)")
    views = in_order(events, lambda event: event.name == "$pageview")
    same(project, mixed, edges(views))


def test_items_can_be_left_out(own: World) -> None:
    project, events = own
    excluded = ["view", "https://x.test/a", "it's"]
    wanted = edges(in_order(events, lambda event: item_of(event) not in excluded))
    same(project, paths(excludeEvents=excluded), wanted)


def test_items_that_fit_a_group_are_that_group(own: World) -> None:
    project, events = own
    groups = ["https://x.test/*", "*art", "v.ew"]

    def item(event: Event) -> str:
        name = item_of(event)
        fits = [group for group in groups if re.search(re.escape(group).replace(r"\*", ".*"), name)]
        return fits[0] if fits else name

    same(project, paths(pathGroupings=groups), edges(in_order(events), item))


def test_items_are_cleaned_by_one_regular_expression_after_the_other(own: World) -> None:
    project, events = own
    filters = [{"regex": r"\?.*", "alias": ""}, {"regex": r"/[ab]$", "alias": "/page"}, {"regex": "page", "alias": "p"}]

    def item(event: Event) -> str:
        name = re.sub(r"\?.*", "", item_of(event))
        return re.sub("page", "p", re.sub(r"/[ab]$", "/page", name))

    same(project, paths(localPathCleaningFilters=filters), edges(in_order(events), item))


def test_filters_of_the_query_count(own: World) -> None:
    project, events = own
    tier = {"key": "tier", "value": "pro", "operator": "exact", "type": "person"}
    wanted = edges(in_order(events, lambda event: event.person_properties.get("tier") == "pro"))
    same(project, paths({"properties": [tier]}), wanted)


def test_without_anybody_there_are_no_edges(empty: LocalProject) -> None:
    for points in ({}, {"startPoint": "a"}, {"endPoint": "a"}, {"startPoint": "a", "endPoint": "b"}):
        assert ask(empty, paths(**points))["results"] == []


@pytest.mark.parametrize(
    ("query", "text"),
    [
        (paths(pathReplacements=True), "pathReplacements"),
        (paths({"samplingFactor": 0.5}), "samplingFactor"),
        (paths({"aggregation_group_type_index": 0}), "aggregation_group_type_index"),
        (paths(stepLimit=51), "stepLimit is 1 to 50."),
        (paths(edgeLimit=10_001), "edgeLimit is 1 to 10000."),
        (
            paths(
                {
                    "funnelPathsFilter": {
                        "funnelSource": {
                            "kind": "FunnelsQuery",
                            "series": [{"kind": "EventsNode", "event": "a"}, {"kind": "EventsNode", "event": "b"}],
                        }
                    }
                }
            ),
            "funnelPathsFilter",
        ),
    ],
)
def test_what_cannot_be_answered_is_refused_by_name(empty: LocalProject, query: dict[str, Any], text: str) -> None:
    assert text in refusal(empty, query)
