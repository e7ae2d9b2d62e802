"""FunnelsQuery of the embedded PostHog against funnels that are walked in plain Python, and what it refuses."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st

from posthog_driver.local import LocalPostHog, LocalProject
from posthog_driver.local.demo import FUNNEL
from posthog_driver.local.questions import funnel_walks as walks
from posthog_driver.local.questions.base import Asks, Rows
from posthog_driver.local.questions.funnel_walks import Event as Event_
from posthog_driver.local.questions.funnels import actors
from posthog_driver.local.schema import Catalog
from tests.oracle.asking import ask, refusal
from tests.oracle.events import BEGIN, DAYS, Event, ingest, of_person, world
from tests.oracle.funnels import Visit, outcomes, reached, reached_unordered, taken, thinned

SEEDS = (1, 2)
RANGE = {"date_from": "2025-02-20", "date_to": "2025-03-25"}
HOUR_RANGE = {"date_from": "2025-02-24T00:00:00", "date_to": "2025-02-24T01:00:00"}
STEPS = ("view", "cart", "buy")
WINDOWS = {("minute", 30): 1800, ("hour", 1): 3600, ("day", 1): 86_400, ("week", 1): 604_800, ("day", 14): 1_209_600}
GIFTS = {True: "true", False: "false", None: ""}
World = tuple[LocalProject, list[Event]]


@pytest.fixture(scope="module")
def server() -> Iterator[LocalPostHog]:
    with LocalPostHog(events=0) as local:
        yield local


@pytest.fixture(scope="module", params=SEEDS)
def own(server: LocalPostHog, request: pytest.FixtureRequest) -> World:
    """A project of its own with the events of a seed."""
    project = server.new_project(name=f"Seed {request.param}")
    # Few names make many events of one kind in a row, and funnels that get far.
    events = world(request.param, people=30, events=600, names=("view", "view", "cart", "buy", "cancel", "$pageview"))
    ingest(events, project)
    return project, events


@pytest.fixture(scope="module")
def empty(server: LocalPostHog) -> LocalProject:
    return server.new_project(name="Empty")


def node(event: str | None, **more: Any) -> dict[str, Any]:
    return {"kind": "EventsNode", "event": event, **more}


def funnel(steps: Sequence[Any] = STEPS, *, options: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    series = [node(step) if isinstance(step, str | None) else step for step in steps]
    return {"kind": "FunnelsQuery", "series": series, "dateRange": RANGE, "funnelsFilter": options or {}, **more}


Kinds = Callable[[Event], tuple[int, ...]]


def kinds_of(steps: Sequence[str | None], bans: dict[str, range] | None = None) -> Kinds:
    """Which steps an event is; excluding events are negative."""

    def kinds(event: Event) -> tuple[int, ...]:
        own = tuple(i for i, step in enumerate(steps, 1) if step in (None, event.name))
        return own + tuple(-i for i in (bans or {}).get(event.name, ()))

    return kinds


def visits_of(
    events: Sequence[Event],
    kinds: Kinds,
    value: Callable[[Event], Any] = lambda event: None,
    actor: Callable[[Event], Any] | None = None,
    *,
    strict: bool = False,
    bucket: Callable[[Event], Any] = lambda event: None,
) -> dict[Any, list[Visit]]:
    """The visits of each actor in their order of time, ties by uuid."""
    ordered = sorted(events, key=lambda event: (event.timestamp, event.uuid))
    found = {
        actor: [Visit(event.timestamp, event.uuid, value(event), kinds(event), bucket(event)) for event in own]
        for actor, own in of_person(ordered, actor).items()
    }
    return {actor: [visit for visit in own if visit.steps or strict] for actor, own in found.items()}


def expected(walks: Sequence[tuple[int, list[datetime]]], steps: int) -> list[tuple[int, float | None, float | None]]:
    """Count, mean and median of seconds of each step."""
    rows: list[tuple[int, float | None, float | None]] = []
    for step in range(1, steps + 1):
        there = [times for furthest, times in walks if furthest >= step]
        gaps = [(times[step - 1] - times[step - 2]).total_seconds() for times in there] if step > 1 else []
        took = [gap for gap in gaps if gap > 0]
        rows.append((len(there), statistics.mean(took) if took else None, statistics.median(took) if took else None))
    return rows


def shown(results: Sequence[dict[str, Any]]) -> list[Any]:
    return [(row["count"], row["average_conversion_time"], row["median_conversion_time"]) for row in results]


def same(results: Sequence[dict[str, Any]], wanted: Sequence[Any]) -> None:
    assert len(results) == len(wanted)
    for got, row in zip(shown(results), wanted, strict=True):
        assert [value is None for value in got] == [value is None for value in row]
        assert [value or 0 for value in got] == pytest.approx([value or 0 for value in row], rel=1e-9, abs=1e-6)


# ---------------------------------------------------------------------------------------------------------------- steps


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("order", ["ordered", "strict", "unordered"])
@pytest.mark.parametrize(
    "steps", [STEPS, ("view", "view", "cart"), (None, "buy"), ("view", None, "buy", "view")], ids=str
)
def test_a_funnel_counts_what_walking_through_it_gives(
    own: World, order: str, window: tuple[str, int], steps: tuple[str | None, ...]
) -> None:
    project, events = own
    unit, amount = window
    options = {"funnelOrderType": order, "funnelWindowInterval": amount, "funnelWindowIntervalUnit": unit}
    results = ask(project, funnel(steps, options=options))["results"]
    walk: Callable[..., Any] = reached_unordered if order == "unordered" else reached
    strict = {"strict": True} if order == "strict" else {}
    visits = visits_of(events, kinds_of(steps), strict=order == "strict").values()
    walks = [walk(thinned(one), len(steps), WINDOWS[window], **strict) for one in visits if one]
    same(results, expected(walks, len(steps)))


@pytest.mark.parametrize("order", ["ordered", "strict", "unordered"])
@pytest.mark.parametrize(("first", "last"), [(0, 1), (1, 2), (0, 2)])
def test_an_exclusion_between_steps_removes_who_did_it_there(own: World, order: str, first: int, last: int) -> None:
    project, events = own
    if order == "unordered" and (first, last) != (0, 2):
        first, last = 0, 2
    exclusion = {**node("cancel"), "funnelFromStep": first, "funnelToStep": last}
    results = ask(project, funnel(options={"funnelOrderType": order, "exclusions": [exclusion]}))["results"]
    kinds = kinds_of(STEPS, {"cancel": range(first + 2, last + 2)})
    visits = visits_of(events, kinds, strict=order == "strict").values()
    walk: Callable[..., Any] = reached_unordered if order == "unordered" else reached
    strict = {"strict": True} if order == "strict" else {}
    same(results, expected([walk(thinned(one), 3, 1_209_600, **strict) for one in visits if one], 3))


def test_without_anybody_there_are_no_steps(empty: LocalProject) -> None:
    assert ask(empty, funnel())["results"] == []
    times = {"bins": [[0, 0], [60, 0]], "average_conversion_time": None}
    assert ask(empty, funnel(options={"funnelVizType": "time_to_convert"}))["results"] == times
    (line,) = ask(empty, funnel(options={"funnelVizType": "trends"}))["results"]
    assert line["data"] == [0] * 34


def test_a_step_has_its_event_and_the_callers_name(own: World) -> None:
    steps = [node("view", custom_name="Look"), node(None)]
    first, second = ask(own[0], funnel(steps))["results"]
    assert (first["action_id"], first["name"], first["custom_name"], first["type"]) == (
        "view",
        "view",
        "Look",
        "events",
    )
    assert (first["order"], second["order"], first["people"]) == (0, 1, [])
    assert (second["action_id"], second["name"]) == (None, None)
    results = ask(own[0], funnel(steps, options={"funnelOrderType": "unordered"}))["results"]
    assert [row["name"] for row in results] == ["Completed 1 step", "Completed 2 steps"]


def test_filters_of_the_query_and_of_a_step_both_count(own: World) -> None:
    project, events = own
    plan = {"key": "plan", "value": ["basic", "Plus", "ultra"], "operator": "exact", "type": "event"}
    tier = {"key": "tier", "value": "pro", "operator": "exact", "type": "person"}
    results = ask(project, funnel([node("view", properties=[plan]), node("buy")], properties=[tier]))["results"]
    chosen = [event for event in events if event.person_properties.get("tier") == "pro"]

    def kinds(event: Event) -> tuple[int, ...]:
        if event.name == "view":
            return (1,) if event.get("plan") in ("basic", "Plus", "ultra") else ()
        return (2,) if event.name == "buy" else ()

    visits = visits_of(chosen, kinds).values()
    same(results, expected([reached(one, 2, 1_209_600) for one in visits], 2))


def test_an_action_is_a_step(server: LocalPostHog, own: World) -> None:
    project, events = own
    made = requests.post(
        f"{project.url}/api/projects/{project.project_id}/actions/",
        json={"name": "Look or cart", "steps": [{"event": "view"}, {"event": "cart"}]},
        headers={"Authorization": f"Bearer {project.personal_api_key}"},
        timeout=60,
    ).json()
    results = ask(project, funnel([{"kind": "ActionsNode", "id": made["id"]}, node("buy")]))["results"]
    assert (results[0]["action_id"], results[0]["name"], results[0]["type"]) == (made["id"], "Look or cart", "actions")
    visits = visits_of(events, lambda e: {"view": (1,), "cart": (1,), "buy": (2,)}.get(e.name, ())).values()
    same(results, expected([reached(one, 2, 1_209_600) for one in visits], 2))


@pytest.mark.parametrize("by_group", [True, False])
def test_the_actor_may_be_a_group_or_an_expression(own: World, by_group: bool) -> None:
    project, events = own
    more = {"aggregation_group_type_index": 0} if by_group else {}
    options = {} if by_group else {"funnelAggregateByHogQL": "properties.plan"}
    results = ask(project, funnel(options=options, **more))["results"]
    actor: Callable[[Event], Any] = lambda e: (e.groups.get("company") if by_group else e.get("plan")) or None  # noqa: E731
    visits = visits_of(events, kinds_of(STEPS), actor=actor).values()
    same(results, expected([reached(one, 3, 1_209_600) for one in visits], 3))


# ----------------------------------------------------------------------------------------------------------- breakdowns


def by_value(
    visits: Sequence[Sequence[Visit]], attribution: str, step: int, order: str
) -> dict[Any, list[tuple[int, list[datetime]]]]:
    found: dict[Any, list[tuple[int, list[datetime]]]] = {}
    walk: Callable[..., Any] = reached_unordered if order == "unordered" else reached
    for visits_of_one in visits:
        told = [visit.value for visit in visits_of_one if visit.value]
        values = [(told[0] if attribution == "first_touch" else told[-1]) if told else ""]
        if attribution == "all_events" or order == "unordered":
            values = list(dict.fromkeys(visit.value for visit in visits_of_one))
        elif attribution == "step":
            values = list(dict.fromkeys(visit.value for visit in visits_of_one if step in visit.steps))
        kept = thinned(visits_of_one)
        for value in values:
            chosen = [v for v in kept if v.value == value] if attribution == "all_events" else kept
            one = walk(chosen, 3, 1_209_600, attributed=step if attribution == "step" else 0, value=value)
            if one[0]:
                found.setdefault(value, []).append(one)
    return found


@pytest.mark.parametrize(
    ("attribution", "step", "order"),
    [
        ("first_touch", 0, "ordered"),
        ("last_touch", 0, "ordered"),
        ("all_events", 0, "ordered"),
        ("step", 1, "ordered"),
        ("step", 2, "ordered"),
        ("step", 3, "ordered"),
        ("step", 1, "unordered"),
        ("all_events", 0, "unordered"),
    ],
)
def test_a_breakdown_counts_each_actor_by_the_value_that_is_attributed(
    own: World, attribution: str, step: int, order: str
) -> None:
    project, events = own
    options: dict[str, Any] = {"breakdownAttributionType": attribution, "funnelOrderType": order}
    if step:
        options["breakdownAttributionValue"] = step - 1
    breakdown = {"breakdown": "plan", "breakdown_type": "event"}
    results = ask(project, funnel(options=options, breakdownFilter=breakdown))["results"]
    visits = visits_of(events, kinds_of(STEPS), lambda event: event.get("plan") or "")
    wanted = by_value(list(visits.values()), attribution, step, order)
    assert {tuple(steps[0]["breakdown_value"]) for steps in results} == {(value,) for value in wanted}
    for steps in results:
        (value,) = steps[0]["breakdown"]
        same(steps, expected(wanted[value], 3))
    counts = [[row["count"] for row in steps][::-1] for steps in results]
    assert counts == sorted(counts, reverse=True)


def test_breakdown_values_beyond_the_limit_are_one(own: World) -> None:
    breakdown = {"breakdown": "plan", "breakdown_type": "event"}
    everything = ask(own[0], funnel(breakdownFilter=breakdown))["results"]
    results = ask(own[0], funnel(breakdownFilter={**breakdown, "breakdown_limit": 2}))["results"]
    (rest,) = [steps for steps in results if steps[0]["breakdown"] == ["Other"]]
    assert len(results) == 3 < len(everything)
    for i in range(3):
        assert sum(steps[i]["count"] for steps in results) == sum(steps[i]["count"] for steps in everything)
    assert rest[0]["count"] == sum(steps[0]["count"] for steps in everything[2:])


@pytest.mark.parametrize(
    ("breakdown", "value"),
    [
        ({"breakdown": "tier", "breakdown_type": "person"}, lambda e: [e.person_properties.get("tier") or ""]),
        ({"breakdowns": [{"property": "tier", "type": "person"}]}, lambda e: [e.person_properties.get("tier") or ""]),
        ({"breakdown": "upper(event)", "breakdown_type": "hogql"}, lambda e: [e.name.upper()]),
        ({"breakdown": ["plan", "gift"]}, lambda e: [e.get("plan") or "", GIFTS[e.get("gift")]]),
    ],
)
def test_a_breakdown_may_be_of_persons_expressions_and_several_properties(
    own: World, breakdown: dict[str, Any], value: Callable[[Event], list[str]]
) -> None:
    project, events = own
    results = ask(project, funnel(breakdownFilter={**breakdown, "breakdown_limit": 500}))["results"]
    visits = visits_of(events, kinds_of(STEPS), lambda event: tuple(value(event)))
    wanted: Counter[tuple[str, ...]] = Counter()
    for one in visits.values():
        told = [visit.value for visit in one if any(visit.value)]
        furthest, _ = reached(one, 3, 1_209_600)
        if furthest:
            wanted[told[0] if told else ("",) * len(one[0].value)] += 1
    assert {tuple(steps[0]["breakdown_value"]): steps[0]["count"] for steps in results} == dict(wanted)


def pros(project: LocalProject) -> int:
    """A new cohort of the people whose tier is pro."""
    group = {"type": "AND", "values": [{"key": "tier", "type": "person", "value": ["pro"], "operator": "exact"}]}
    made = requests.post(
        f"{project.url}/api/projects/{project.project_id}/cohorts/",
        json={"name": "Pros", "filters": {"properties": {"type": "OR", "values": [group]}}},
        headers={"Authorization": f"Bearer {project.personal_api_key}"},
        timeout=60,
    ).json()
    return int(made["id"])


def test_a_breakdown_by_cohorts_has_a_funnel_for_each(own: World) -> None:
    project, _ = own
    cohort = pros(project)
    breakdown = {"breakdown": [cohort, "all"], "breakdown_type": "cohort"}
    results = ask(project, funnel(breakdownFilter=breakdown))["results"]
    named = {steps[0]["breakdown"]: [row["count"] for row in steps] for steps in results}
    tier = {"key": "tier", "value": "pro", "operator": "exact", "type": "person"}
    assert named["all users"] == [row["count"] for row in ask(project, funnel())["results"]]
    assert named["Pros"] == [row["count"] for row in ask(project, funnel(properties=[tier]))["results"]]
    assert {steps[0]["breakdown_value"] for steps in results} == {cohort, 0}
    lines = ask(project, funnel(options={"funnelVizType": "trends"}, breakdownFilter=breakdown))["results"]
    assert [line["breakdown_value"] for line in lines] == ["Pros", "all users"]
    assert lines[1]["data"] == ask(project, funnel(options={"funnelVizType": "trends"}))["results"][0]["data"]
    for steps in results:
        source = {"kind": "FunnelsActorsQuery", "source": funnel(breakdownFilter=breakdown), "funnelStep": 1}
        source["funnelStepBreakdown"] = steps[0]["breakdown_value"]
        rows = ask(project, {"kind": "ActorsQuery", "source": source, "select": ["id"], "limit": 100})["results"]
        assert len(rows) == steps[0]["count"]


# ------------------------------------------------------------------------------------------------------ other displays


@pytest.mark.parametrize(("first", "last"), [(None, None), (0, 1), (1, 2)])
@pytest.mark.parametrize("bins", [None, 4, 900])
def test_times_to_convert_fall_into_bins(own: World, first: int | None, last: int | None, bins: int | None) -> None:
    project, events = own
    options = {"funnelVizType": "time_to_convert", "funnelFromStep": first, "funnelToStep": last, "binCount": bins}
    results = ask(project, funnel(options=options))["results"]
    walks = [reached(one, 3, 1_209_600)[1] for one in visits_of(events, kinds_of(STEPS)).values()]
    begin, end = first or 0, 2 if last is None else last
    spans = [(times[end] - times[begin]).total_seconds() for times in walks if len(times) > end]
    assert results["average_conversion_time"] == pytest.approx(statistics.mean(spans))
    starts = [start for start, _ in results["bins"]]
    width = starts[1] - starts[0]
    assert len(starts) - 1 == (min(bins, 90) if bins else -(-(len(spans) ** (1 / 3)) // 1))
    assert [sum(start <= span < start + width for span in spans) for start in starts] == [n for _, n in results["bins"]]


@pytest.mark.parametrize("zone", ["UTC", "America/New_York"])
@pytest.mark.parametrize("order", ["ordered", "strict"])
@pytest.mark.parametrize("interval", ["hour", "day", "week", "month"])
def test_trends_show_for_each_interval_how_many_convert(
    server: LocalPostHog, zone: str, order: str, interval: str
) -> None:
    events = world(7, people=30, events=400, names=("view", "cart", "cancel"))
    project = trend_project(server, zone, events)
    exclusion = {**node("cancel"), "funnelFromStep": 0, "funnelToStep": 1}
    for exclusions in ([], [exclusion]):
        options = {"funnelVizType": "trends", "funnelOrderType": order, "exclusions": exclusions}
        options |= {"funnelWindowInterval": 1, "funnelWindowIntervalUnit": "day"}
        (line,) = ask(project, funnel(("view", "cart"), options=options, interval=interval))["results"]
        bucket = bucket_of(interval, zone)
        kinds = kinds_of(("view", "cart"), {"cancel": range(2, 3)} if exclusions else {})
        visits = visits_of(events, kinds, strict=order == "strict", bucket=lambda e, b=bucket: b(e.timestamp))
        entered: Counter[str] = Counter()
        converted: Counter[str] = Counter()
        for one in visits.values():
            one.sort(key=lambda v: (v.moment, [s for s in v.steps if s > 0], [-s for s in v.steps if s < 0]))
            for start, is_done in outcomes(one, 2, 86_400, order == "strict").items():
                entered[start] += 1
                converted[start] += is_done
        rates = [round(100 * converted[day] / entered[day], 2) if entered[day] else 0 for day in line["days"]]
        assert line["data"] == rates
        assert set(entered) <= set(line["days"])
        assert line["count"] == len(line["days"]) == len(line["labels"])


_projects: dict[str, LocalProject] = {}


def trend_project(server: LocalPostHog, zone: str, events: list[Event]) -> LocalProject:
    if zone not in _projects:
        _projects[zone] = server.new_project(name=zone, timezone=zone)
        ingest(events, _projects[zone])
    return _projects[zone]


def bucket_of(interval: str, zone: str) -> Callable[[datetime], str]:
    def bucket(moment: datetime) -> str:
        local = moment.astimezone(ZoneInfo(zone))
        if interval == "hour":
            return local.strftime("%Y-%m-%d %H:00:00")
        first = local.date()
        if interval == "week":
            first -= timedelta(days=local.isoweekday() % 7)
        return first.replace(day=1).isoformat() if interval == "month" else first.isoformat()

    return bucket


def test_trends_have_a_line_for_each_breakdown_value(own: World) -> None:
    project, events = own
    options = {"funnelVizType": "trends", "funnelToStep": 1}
    breakdown = {"breakdown": "tier", "breakdown_type": "person"}
    lines = ask(project, funnel(options=options, breakdownFilter=breakdown))["results"]
    values = [line["breakdown_value"] for line in lines]
    assert values == sorted(values)
    assert {tuple(value) for value in values} == {
        (event.person_properties.get("tier") or "",) for event in events if event.name == "view"
    }
    (whole,) = ask(project, funnel(options=options))["results"]
    assert all(0 <= rate <= 100 for line in lines for rate in line["data"])
    assert [any(rates) for rates in zip(*(line["data"] for line in lines), strict=True)] == [
        bool(rate) for rate in whole["data"]
    ]


# ---------------------------------------------------------------------------------------------------------- the actors


@pytest.mark.parametrize("step", [1, 2, 3, -2, -3])
def test_the_actors_behind_a_step_are_those_who_are_counted(own: World, step: int) -> None:
    project, _ = own
    source = {"kind": "FunnelsActorsQuery", "source": funnel(), "funnelStep": step}
    rows = ask(project, {"kind": "ActorsQuery", "source": source, "select": ["id"], "limit": 100})["results"]
    counts = [row["count"] for row in ask(project, funnel())["results"]]
    assert len(rows) == (counts[step - 1] if step > 0 else counts[-step - 2] - counts[-step - 1])


def test_the_actors_of_a_breakdown_value_are_its_own(own: World) -> None:
    query = funnel(breakdownFilter={"breakdown": "plan", "breakdown_type": "event"})
    first = ask(own[0], query)["results"][0]
    source = {"kind": "FunnelsActorsQuery", "source": query, "funnelStep": 1}
    source["funnelStepBreakdown"] = first[0]["breakdown_value"]
    rows = ask(own[0], {"kind": "ActorsQuery", "source": source, "select": ["id"], "limit": 100})["results"]
    assert len(rows) == first[0]["count"]


# ------------------------------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("query", "text"),
    [
        (funnel(["view"]), "Funnels require at least two steps."),
        (funnel(["view"] * 31), "more than 30 steps"),
        (funnel(options={"funnelVizType": "flow"}), "funnelVizType flow"),
        (funnel(options={"funnelVizType": "trends", "funnelOrderType": "unordered"}), "unordered of funnel trends"),
        (funnel(options={"funnelVizType": "trends"}, interval="minute"), "interval minute"),
        (
            {**funnel(options={"funnelVizType": "trends"}, interval="second"), "dateRange": HOUR_RANGE},
            "interval second",
        ),
        (funnel(options={"funnelFromStep": 2}), "funnelFromStep is out of bounds. It must be between 0 and 1."),
        (funnel(options={"funnelToStep": 3}), "funnelToStep is out of bounds. It must be between 1 and 2."),
        (funnel(options={"funnelFromStep": 1, "funnelToStep": 1}), "funnelToStep should be greater"),
        (funnel(options={"customAggregationTarget": True}), "customAggregationTarget"),
        (funnel(samplingFactor=0.5), "samplingFactor"),
        (funnel([node("view", math="dau"), node("cart")]), "math dau"),
        (
            funnel(options={"exclusions": [{**node("cancel", math="dau"), "funnelFromStep": 0, "funnelToStep": 1}]}),
            "math dau",
        ),
        (funnel([node("view", optionalInFunnel=True), "cart"]), "The first step of a funnel cannot be optional."),
        (
            funnel(["view", node("cart", optionalInFunnel=True), "cart"]),
            "An optional step cannot be the same as the following required step.",
        ),
        *(
            (
                funnel(["view", node("cart", optionalInFunnel=True), "buy"], options=options),
                "Optional funnel steps are only supported in funnels with step order Sequential or Strict",
            )
            for options in (
                {"funnelOrderType": "unordered"},
                {"funnelVizType": "trends"},
                {"funnelVizType": "time_to_convert"},
            )
        ),
        (funnel(breakdownFilter={"breakdown": "price", "breakdown_histogram_bin_count": 3}), "bin_count"),
        (
            funnel(options={"funnelVizType": "time_to_convert"}, breakdownFilter={"breakdown": "plan"}),
            "breakdownFilter of funnels by time to convert",
        ),
        (
            funnel(
                options={
                    "funnelOrderType": "unordered",
                    "breakdownAttributionType": "step",
                    "breakdownAttributionValue": 1,
                },
                breakdownFilter={"breakdown": "plan"},
            ),
            "Only the first step can be used for breakdown attribution in unordered funnels",
        ),
        (
            funnel(
                options={"breakdownAttributionType": "step", "breakdownAttributionValue": 3},
                breakdownFilter={"breakdown": "plan"},
            ),
            "breakdownAttributionValue is 0 to 2.",
        ),
    ],
)
def test_what_cannot_be_answered_is_refused_by_name(empty: LocalProject, query: dict[str, Any], text: str) -> None:
    assert text in refusal(empty, query)


@pytest.mark.parametrize(
    ("exclusion", "order", "text"),
    [
        (("cancel", 1, 1), "ordered", "End of range should be greater than start."),
        (("cancel", 2, 3), "ordered", "Start of range is greater than number of steps."),
        (("cancel", 0, 3), "ordered", "End of range is greater than number of steps."),
        (("cancel", -1, 1), "ordered", "Start of range is below the first step."),
        (("cart", 0, 1), "ordered", "Exclusion steps cannot contain an event that's part of funnel steps."),
        (("cancel", 0, 1), "unordered", "Partial Exclusions not allowed in unordered funnels"),
    ],
)
def test_an_exclusion_that_cannot_be_is_refused(
    empty: LocalProject, exclusion: tuple[str, int, int], order: str, text: str
) -> None:
    event, first, last = exclusion
    excluded = {**node(event), "funnelFromStep": first, "funnelToStep": last}
    query = funnel(options={"funnelOrderType": order, "exclusions": [excluded]})
    assert text in refusal(empty, query)


def test_nobody_is_behind_a_step_that_nobody_reached(empty: LocalProject) -> None:
    source = {"kind": "FunnelsActorsQuery", "source": funnel(), "funnelStep": 1}
    assert ask(empty, {"kind": "ActorsQuery", "source": source, "select": ["id"]})["results"] == []


def test_the_groups_behind_a_step_are_those_who_are_counted(own: World) -> None:
    project, events = own

    def run(hogql: str, values: Mapping[str, Any]) -> Rows:
        asked = {"kind": "HogQLQuery", "query": f"{hogql} LIMIT 5000", "values": dict(values)}
        return Rows(ask(project, asked)["results"], [], [], hogql)

    asks = Asks(Catalog(), datetime.now(timezone.utc), run)
    found = asks.ask((people := actors(funnel(aggregation_group_type_index=0), asks, 2)).hogql, people)
    company: Callable[[Event], Any] = lambda event: event.groups.get("company")  # noqa: E731
    visits = visits_of(events, kinds_of(STEPS), actor=company)
    wanted = {actor for actor, one in visits.items() if reached(one, 3, 1_209_600)[0] >= 2}
    assert sorted(row[0] for row in found.rows) == sorted(wanted)


@pytest.mark.parametrize("step", [0, -1, 4, -4])
def test_there_are_no_actors_of_a_step_that_is_not_there(empty: LocalProject, step: int) -> None:
    source = {"kind": "FunnelsActorsQuery", "source": funnel(), "funnelStep": step}
    assert "funnelStep is 1 to 3" in refusal(empty, {"kind": "ActorsQuery", "source": source, "select": ["id"]})


# ----------------------------------------------------------------------------------------- first times, optional steps


@pytest.mark.parametrize("order", ["ordered", "strict", "unordered"])
@pytest.mark.parametrize("way", ["first_time_for_user", "first_time_for_user_with_filters"])
@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("since", ["2025-02-20", "2025-02-27"])
def test_by_first_times_only_the_first_event_of_a_person_is_a_step(
    own: World, order: str, way: str, place: int, since: str
) -> None:
    project, events = own
    priced = [{"key": "gift", "value": ["true"], "operator": "exact", "type": "event"}]
    steps = [node("view"), node("cart")]
    steps[place] |= {"math": way, "properties": priced}
    ranged = {**RANGE, "date_from": since}
    query = funnel(steps, options={"funnelOrderType": order}, dateRange=ranged)
    begin = datetime.fromisoformat(since).replace(tzinfo=timezone.utc)
    named = [event for event in events if event.name == ("view", "cart")[place]]
    among = [event for event in named if event.get("gift") is True] if way.endswith("filters") else named
    firsts = [min(one, key=lambda event: (event.timestamp, event.uuid)) for one in of_person(among).values()]
    counted = {event.uuid for event in firsts if event.get("gift") is True and event.timestamp >= begin}
    assert 0 < len(counted) < len(of_person(named)), "it is not the same as every event"

    def kinds(event: Event) -> tuple[int, ...]:
        is_step = (event.name == "view", event.name == "cart")
        return tuple(i + 1 for i in (0, 1) if (event.uuid in counted if i == place else is_step[i]))

    held = [event for event in events if event.timestamp >= begin]
    visits = visits_of(held, kinds, strict=order == "strict").values()
    walk: Callable[..., Any] = reached_unordered if order == "unordered" else reached
    strict = {"strict": True} if order == "strict" else {}
    walks = [walk(thinned(one), 2, 1_209_600, **strict) for one in visits if one]
    same(ask(project, query)["results"], expected(walks, 2))


@pytest.mark.parametrize("window", [("minute", 30), ("day", 1), ("day", 14)])
@pytest.mark.parametrize("order", ["ordered", "strict"])
@pytest.mark.parametrize("optional", [(2,), (3,), (2, 3), (4,), (2, 4), (2, 3, 4)])
def test_a_step_that_is_optional_may_be_left_out(
    own: World, order: str, optional: tuple[int, ...], window: tuple[str, int]
) -> None:
    project, events = own
    names = ("view", "cart", "cancel", "buy")
    steps = [node(name, optionalInFunnel=i in optional) for i, name in enumerate(names, 1)]
    unit, amount = window
    options = {"funnelOrderType": order, "funnelWindowInterval": amount, "funnelWindowIntervalUnit": unit}
    query = funnel(steps, options=options)
    strict = order == "strict"
    visits = {who: one for who, one in visits_of(events, kinds_of(names), strict=strict).items() if one}
    walks = [taken(thinned(one), 4, WINDOWS[window], strict, optional=optional) for one in visits.values()]
    gaps: list[list[float]] = [[], [], [], []]
    for _, times in walks:
        for i in range(1, len(times)):
            gaps[i] += [gap] if (gap := (times[i] - times[i - 1]).total_seconds()) > 0 else []
    wanted = [
        (sum(i + 1 in own for own, _ in walks), *(of(gaps[i]) if gaps[i] else None for of in _AVERAGES))
        for i in range(4)
    ]
    same(ask(project, query)["results"], wanted)
    for step in (2, 3, 4, -2, -3, -4):
        if step > 0:
            count = sum(step in own for own, _ in walks)
        else:
            before = max(i for i in range(1, -step) if i not in optional)
            count = sum(before in own and -step not in own for own, _ in walks)
        source = {"kind": "FunnelsActorsQuery", "source": query, "funnelStep": step}
        people = ask(project, {"kind": "ActorsQuery", "source": source, "select": ["id"], "limit": 100})["results"]
        assert len(people) == count


_AVERAGES = (statistics.mean, statistics.median)


def test_optional_steps_count_who_took_them_and_later_ones_who_did_not_as_well(server: LocalPostHog) -> None:
    project = server.new_project(name="Optional")
    journeys = ("1", "123", "13", "12345", "1235", "134", "1345", "135")
    ingest(
        [
            Event(
                f"step {step}",
                who,
                i,
                BEGIN + timedelta(days=1, minutes=int(step)),
                {},
                {},
                f"{i:0>8}-0000-4000-8000-{step:0>12}",
            )
            for i, who in enumerate(journeys)
            for step in who
        ],
        project,
    )
    series = [node(f"step {step}", optionalInFunnel=step in (2, 4)) for step in range(1, 6)]
    results = ask(project, funnel(series))["results"]
    assert [row["count"] for row in results] == [8, 3, 7, 3, 4]
    # Times are those between steps 1, 3 and 5, and stand at the second and third row, as in PostHog.
    assert [row["average_conversion_time"] for row in results] == [None, 120, 120, None, None]


# ------------------------------------------------------------------------------------------------------- walks, by law

HOUR = timedelta(hours=1)
# Few moments, so that many events share one; what excludes is no step, as PostHog demands.
HAPPENINGS = st.lists(
    st.tuples(
        st.integers(0, 9),
        st.sampled_from([(1,), (2,), (3,), (1, 2), (2, 3), (1, 3), (1, 2, 3), (), (-2,), (-3,), (-2, -3)]),
        st.sampled_from("ab"),
        st.integers(0, 2),
    ),
    max_size=14,
)


def happened(drawn: Sequence[tuple[int, tuple[int, ...], str, int]]) -> tuple[list[Event_], list[Visit]]:
    """The same events for the library and for the walk in plain Python."""
    ordered = sorted(drawn, key=lambda one: (one[0], one[1]))
    own = [
        Event_(
            int((BEGIN + hours * HOUR).timestamp() * 1_000_000),
            tuple(step for step in steps if step > 0),
            tuple(-step for step in steps if step < 0),
            value,
            bucket,
        )
        for hours, steps, value, bucket in ordered
    ]
    visits = [
        Visit(BEGIN + hours * HOUR, str(i), value, steps, bucket)
        for i, (hours, steps, value, bucket) in enumerate(ordered)
    ]
    return own, visits


@given(HAPPENINGS, st.sampled_from(["ordered", "strict", "unordered"]), st.integers(0, 5), st.integers(0, 3))
@settings(max_examples=600, deadline=None)
def test_walking_gives_what_the_definition_says(
    drawn: list[tuple[int, tuple[int, ...], str, int]], order: str, hours: int, attributed: int
) -> None:
    own, visits = happened(drawn)
    if order == "unordered":
        own, visits, attributed = [e for e in own if e.steps or e.bans], [v for v in visits if v.steps], attributed % 2
        wanted = reached_unordered(thinned(visits), 3, hours * 3600, attributed, "a")
    else:
        wanted = reached(thinned(visits), 3, hours * 3600, order == "strict", attributed, "a")
    found = walks.walked(walks.thinned(own), walks.Rules(3, hours * 3_600_000_000, order, attributed), "a")
    assert (found.step, list(found.times)) == (wanted[0], [int(t.timestamp() * 1_000_000) for t in wanted[1]])


@given(
    HAPPENINGS,
    st.booleans(),
    st.integers(0, 5),
    st.integers(0, 3),
    st.sampled_from([(), (2,), (3,), (2, 3)]),
)
@settings(max_examples=600, deadline=None)
def test_walking_past_optional_steps_gives_what_the_definition_says(
    drawn: list[tuple[int, tuple[int, ...], str, int]],
    strict: bool,
    hours: int,
    attributed: int,
    optional: tuple[int, ...],
) -> None:
    own, visits = happened(drawn)
    order = "strict" if strict else "ordered"
    found = walks.walked(own, walks.Rules(3, hours * 3_600_000_000, order, attributed, frozenset(optional)), "a")
    steps, times = taken(visits, 3, hours * 3600, strict, attributed, "a", optional)
    assert list(found.taken) == steps
    assert list(found.times) == [int(time.timestamp() * 1_000_000) for time in times]


@given(HAPPENINGS, st.booleans(), st.integers(0, 5), st.integers(0, 3), st.integers(0, 1))
@settings(max_examples=600, deadline=None)
def test_entering_in_an_interval_ends_as_the_definition_says(
    drawn: list[tuple[int, tuple[int, ...], str, int]], strict: bool, hours: int, attributed: int, first: int
) -> None:
    own, visits = happened(drawn)
    rules = walks.Rules(3, hours * 3_600_000_000, "strict" if strict else "ordered", attributed)
    found = walks.outcomes(own, rules, "a")
    wanted = outcomes(visits, 3, hours * 3600, strict, attributed, "a", first)
    assert {bucket: step == 3 for bucket, step in found.items() if step > first} == wanted


@given(HAPPENINGS, st.sampled_from(["ordered", "strict"]))
@settings(max_examples=300, deadline=None)
def test_leaving_out_what_lies_between_two_alike_changes_no_walk_in_order(
    drawn: list[tuple[int, tuple[int, ...], str, int]], order: str
) -> None:
    own, _ = happened(drawn)
    rules = walks.Rules(3, 4 * 3_600_000_000, order)
    assert walks.walked(own, rules) == walks.walked(walks.thinned(own), rules)


def test_the_events_lie_in_the_range_that_is_asked_for() -> None:
    last = BEGIN + timedelta(days=DAYS)
    assert datetime(2025, 2, 20, tzinfo=timezone.utc) < BEGIN < last < datetime(2025, 3, 25, tzinfo=timezone.utc)


def test_the_demo_data_convert_as_they_were_made_to(local_posthog: LocalPostHog) -> None:
    keys = {"$pathname": "event"}
    steps = [
        node(
            step["event"],
            properties=[
                {"key": key, "value": step[key], "operator": "exact", "type": kind}
                for key, kind in keys.items()
                if key in step
            ],
        )
        for step in FUNNEL
    ]
    query = funnel(steps, options={"funnelWindowInterval": 200, "funnelWindowIntervalUnit": "day"})
    results = ask(local_posthog, {**query, "dateRange": {"date_from": "all"}})["results"]
    assert [row["count"] for row in results] == list(local_posthog.truth["funnel"])
