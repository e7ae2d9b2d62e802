"""Driver and embedded PostHog together: product questions against what is known of the demo data, and against HogQL."""

from __future__ import annotations

import datetime as dt
import itertools
import statistics
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from posthog_driver import PostHogClient, PostHogError, QueryError
from posthog_driver.insights import OTHER
from posthog_driver.local import LocalPostHog
from posthog_driver.local.demo import FUNNEL

UTC = dt.timezone.utc
HANG = 30.0
ENDLESS = "SELECT count() AS n FROM numbers(1000000000) AS a CROSS JOIN numbers(1000000) AS b"
STEPS = [
    {"event": step["event"], "where": {name: value for name, value in step.items() if name != "event"}}
    for step in FUNNEL
]


@pytest.fixture(scope="module")
def client(local_posthog: LocalPostHog) -> Iterator[PostHogClient]:
    with local_posthog.client() as client:
        yield client


@pytest.fixture(scope="module")
def truth(local_posthog: LocalPostHog) -> Any:
    return local_posthog.truth


@pytest.fixture(scope="module")
def days(truth: Any) -> list[dt.date]:
    """The days of the demo data."""
    first = dt.date.fromisoformat(truth["days"]["first"])
    return [first + dt.timedelta(days=number) for number in range(len(truth["days"]["event_counts"]["signed_up"]))]


@pytest.fixture(scope="module")
def whole(days: list[dt.date]) -> dict[str, Any]:
    """All of them, as arguments."""
    return {"since": days[0], "until": days[-1]}


Active = dict[str, dict[dt.date, set[str]]]


@pytest.fixture(scope="module")
def active(client: PostHogClient) -> Active:
    """Who did what on which day."""
    found: Active = defaultdict(lambda: defaultdict(set))
    for row in client.query("SELECT DISTINCT event, toDate(timestamp) AS day, person_id FROM events LIMIT 50000"):
        found[row["event"]][dt.date.fromisoformat(row["day"])].add(row["person_id"])
    return found


def until(condition: Callable[[], Any]) -> Any:
    """Ask until the answer is true; only a hang ends it otherwise."""
    deadline = time.monotonic() + HANG
    while not (found := condition()):
        assert time.monotonic() < deadline, "it never became true"
        time.sleep(0.01)
    return found


# Trends -------------------------------------------------------------------------------------------------------------


def test_a_trend_counts_the_events_of_each_day(
    client: PostHogClient, truth: Any, days: list[dt.date], whole: dict[str, Any]
) -> None:
    known = truth["days"]["event_counts"]
    result = client.trends(sorted(known), measure="events", **whole)
    assert [(row["event"], row["time"], row["value"]) for row in result] == [
        (event, day.isoformat(), number)
        for event in sorted(known)
        for day, number in zip(days, known[event], strict=True)
    ]
    assert (result.truncated, result.info.timezone) == (False, "UTC")


def test_a_trend_counts_a_person_once_in_each_interval(
    client: PostHogClient, active: Active, days: list[dt.date], whole: dict[str, Any]
) -> None:
    by_day = client.trends("file_uploaded", **whole)
    assert [row["value"] for row in by_day] == [len(active["file_uploaded"][day]) for day in days]
    months: dict[str, set[str]] = defaultdict(set)
    for day in days:
        months[f"{day:%Y-%m}-01"] |= active["file_uploaded"][day]
    by_month = client.trends("file_uploaded", every="month", **whole)
    assert {row["time"]: row["value"] for row in by_month} == {month: len(people) for month, people in months.items()}


def test_a_trend_of_any_event_by_the_hour_has_all_events_of_a_day(
    client: PostHogClient, truth: Any, days: list[dt.date]
) -> None:
    rows = client.trends(None, measure="events", every="hour", since=days[-2], until=days[-2])
    assert [row["time"] for row in rows] == [f"{days[-2]} {hour:02}:00:00" for hour in range(24)]
    assert {row["event"] for row in rows} == {"any event"}
    known = [counts[-2] for counts in truth["days"]["event_counts"].values()]
    assert sum(row["value"] for row in rows) == sum(known)


@pytest.mark.parametrize(
    ("measure", "hogql"),
    [
        ("sessions", "uniq($session_id)"),
        ("sum", "sum(toFloat(properties.size_mb))"),
        ("avg", "avg(toFloat(properties.size_mb))"),
        ("max", "max(toFloat(properties.size_mb))"),
    ],
)
def test_a_trend_measures_what_hogql_computes(
    measure: str, hogql: str, client: PostHogClient, whole: dict[str, Any]
) -> None:
    of: dict[str, Any] = {} if measure == "sessions" else {"of": "size_mb"}
    rows = client.trends("file_uploaded", measure=measure, every="month", **of, **whole)
    plain = client.query(
        f"SELECT toString(toStartOfMonth(timestamp)) AS month, {hogql} AS n FROM events "
        "WHERE event = 'file_uploaded' GROUP BY month ORDER BY month LIMIT 10"
    )
    assert [row["time"] for row in rows] == [row["month"] for row in plain]
    assert [row["value"] for row in rows] == pytest.approx([row["n"] for row in plain])


def test_a_trend_is_split_and_what_is_beyond_the_limit_is_one_row_that_is_told(
    client: PostHogClient, whole: dict[str, Any]
) -> None:
    plain = client.query(
        "SELECT properties.$browser AS browser, count() AS n FROM events WHERE event = '$pageview' "
        "GROUP BY browser ORDER BY n DESC LIMIT 100"
    )
    known = Counter({row["browser"]: row["n"] for row in plain})
    assert len(known) > 2

    def totals(limit: int) -> tuple[Counter[str], bool]:
        result = client.trends("$pageview", measure="events", every="month", by="$browser", by_limit=limit, **whole)
        found: Counter[str] = Counter()
        for row in result:
            found[row["breakdown"]] += row["value"]
        return found, result.truncated

    assert totals(100) == (known, False)
    (top, most), *others = known.most_common()
    assert totals(1) == (Counter({top: most, OTHER: sum(n for _, n in others)}), True)


def test_a_split_by_persons_tells_who_has_no_value(client: PostHogClient, whole: dict[str, Any]) -> None:
    rows = client.trends("$pageview", measure="events", every="month", by="person.plan", **whole)
    found: Counter[Any] = Counter()
    for row in rows:
        found[row["breakdown"]] += row["value"]
    plain = client.query(
        "SELECT person.properties.plan AS plan, count() AS n FROM events WHERE event = '$pageview' GROUP BY plan"
    )
    assert found == Counter({row["plan"]: row["n"] for row in plain})
    assert found[None] > 0


@pytest.mark.parametrize(
    ("where", "hogql"),
    [
        ({"$browser": "Chrome"}, "properties.$browser = 'Chrome'"),
        ({"$browser": ["Chrome", "Safari"]}, "properties.$browser IN ('Chrome', 'Safari')"),
        ({"encrypted": True}, "properties.encrypted = true"),
        ({"folder_depth": 3, "encrypted": False}, "properties.folder_depth = 3 AND properties.encrypted = false"),
        ({"person.plan": ["pro", "team"]}, "person.properties.plan IN ('pro', 'team')"),
        ({"person.plan": None}, "person.properties.plan IS NULL"),
        ({"session.$entry_pathname": "/login"}, "session.$entry_pathname = '/login'"),
    ],
)
def test_conditions_are_those_of_hogql(
    where: dict[str, Any], hogql: str, client: PostHogClient, whole: dict[str, Any]
) -> None:
    for event in ("file_uploaded", "$pageview"):
        rows = client.trends(event, measure="events", every="month", where=where, **whole)
        inner = client.trends({"event": event, "where": where}, measure="events", every="month", **whole)
        (plain,) = client.query(
            f"SELECT count() AS n FROM events WHERE event = {{event}} AND {hogql} LIMIT 1", {"event": event}
        )
        assert sum(row["value"] for row in rows) == sum(row["value"] for row in inner) == plain["n"]


def test_the_period_before_is_what_asking_for_it_gives(client: PostHogClient, days: list[dt.date]) -> None:
    both = client.trends("$pageview", since=days[-10], until=days[-1], compare=True)
    before = client.trends("$pageview", since=days[-20], until=days[-11])
    assert Counter(row["period"] for row in both) == {"current": 10, "previous": 10}
    told = [(row["time"], row["value"]) for row in both if row["period"] == "previous"]
    assert told == [(row["time"], row["value"]) for row in before]


def test_the_second_answer_comes_from_the_cache_unless_a_fresh_one_is_asked_for(
    client: PostHogClient, whole: dict[str, Any]
) -> None:
    first = client.trends("logged_out", **whole)
    second, third = client.trends("logged_out", **whole), client.trends("logged_out", fresh=True, **whole)
    assert (first.is_cached, second.is_cached, third.is_cached) == (False, True, False)
    assert first == second == third
    assert second.last_refresh == first.last_refresh != third.last_refresh


# Funnels ------------------------------------------------------------------------------------------------------------


def test_the_funnel_of_the_demo_data_is_the_one_that_is_known(
    client: PostHogClient, truth: Any, whole: dict[str, Any]
) -> None:
    rows = client.funnel(STEPS, **whole)
    known = truth["funnel"]
    assert [(row["step"], row["event"], row["people"]) for row in rows] == [
        (number, step["event"], people) for number, (step, people) in enumerate(zip(FUNNEL, known, strict=True), 1)
    ]
    assert [row["share_of_first"] for row in rows] == pytest.approx([people / known[0] for people in known])
    shares = [later / earlier for earlier, later in itertools.pairwise(known)]
    assert [row["share_of_previous"] for row in rows[1:]] == pytest.approx(shares)
    assert rows[0]["share_of_previous"] is None


def test_the_median_is_in_seconds_from_the_step_before(client: PostHogClient, whole: dict[str, Any]) -> None:
    # Everybody signs up once, so a first upload after it is what counts.
    plain = client.query(
        "SELECT person_id, minIf(toFloat(timestamp), event = 'signed_up') AS a, "
        "arraySort(groupArrayIf(toFloat(timestamp), event = 'file_uploaded')) AS b "
        "FROM events GROUP BY person_id HAVING countIf(event = 'signed_up') = 1 LIMIT 5000"
    )
    waits = [min((b - row["a"] for b in row["b"] if b > row["a"]), default=None) for row in plain]
    within = [wait for wait in waits if wait is not None and wait <= 2 * 86_400]
    last = client.funnel(["signed_up", "file_uploaded"], within=dt.timedelta(days=2), **whole)[-1]
    assert last["people"] == len(within) < len(waits)
    assert last["median_seconds"] == pytest.approx(statistics.median(within), abs=1e-3)


def test_a_shorter_window_and_a_stricter_order_let_fewer_through(client: PostHogClient, whole: dict[str, Any]) -> None:
    def through(**more: Any) -> list[int]:
        return [row["people"] for row in client.funnel(["$pageview", "signed_up", "file_uploaded"], **more, **whole)]

    usual = through()
    assert through(within="1min")[-1] < usual[-1]
    assert through(order="strict")[-1] < usual[-1]
    assert through(order="any")[-1] >= usual[-1]


def test_the_parts_of_a_split_funnel_add_up(client: PostHogClient, whole: dict[str, Any]) -> None:
    usual = [row["people"] for row in client.funnel(["$pageview", "signed_up"], **whole)]
    for limit, is_cut in ((25, False), (1, True)):
        split = client.funnel(["$pageview", "signed_up"], by="$browser", by_limit=limit, **whole)
        found: Counter[int] = Counter()
        for row in split:
            found[row["step"]] += row["people"]
        assert [found[1], found[2]] == usual
        assert split.truncated == is_cut == any(row["breakdown"] == OTHER for row in split)


def test_a_funnel_that_nobody_enters_has_nobody_in_each_step(client: PostHogClient) -> None:
    rows = client.funnel(["no such event", "signed_up"])
    assert [(row["people"], row["share_of_first"], row["median_seconds"]) for row in rows] == [(0, None, None)] * 2


# Retention, lifecycle, stickiness, paths ----------------------------------------------------------------------------


def test_the_weekly_retention_of_the_demo_data_is_the_one_that_is_known(
    client: PostHogClient, truth: Any, whole: dict[str, Any]
) -> None:
    known = truth["weekly_retention"]
    rows = client.retention(known["event"], periods=len(known["weeks"]), first_time_only=False, **whole)
    assert [(row["cohort"], row["period"], row["people"]) for row in rows] == [
        (week, period, people)
        for week, returned in zip(known["weeks"], known["returned"], strict=True)
        for period, people in enumerate(returned)
    ]
    sizes = {row["cohort"]: row["people"] for row in rows if row["period"] == 0}
    for row in rows:
        assert row["size"] == sizes[row["cohort"]]
        assert row["share"] == (row["people"] / row["size"] if row["size"] else None)


def test_first_time_retention_has_everybody_once_and_its_parts_add_up(
    client: PostHogClient, truth: Any, whole: dict[str, Any]
) -> None:
    usual = client.retention("$pageview", "signed_up", every="month", periods=4, **whole)
    (plain,) = client.query("SELECT uniq(person_id) AS n FROM events WHERE event = '$pageview' LIMIT 1")
    assert sum(row["people"] for row in usual if row["period"] == 0) == plain["n"]
    split = client.retention("$pageview", "signed_up", every="month", periods=4, by="$browser", **whole)
    for period in range(4):
        whole_number = sum(row["people"] for row in usual if row["period"] == period)
        assert sum(row["people"] for row in split if row["period"] == period) == whole_number


def test_the_lifecycle_follows_from_who_was_active(
    client: PostHogClient, active: Active, days: list[dt.date], whole: dict[str, Any]
) -> None:
    rows = client.lifecycle("file_uploaded", every="day", **whole)
    found = {(row["time"], row["status"]): row["people"] for row in rows}
    people = active["file_uploaded"]
    for before, day in itertools.pairwise(days):
        on = day.isoformat()
        assert found[on, "returning"] == len(people[before] & people[day])
        assert found[on, "dormant"] == len(people[before] - people[day])
        assert found[on, "new"] + found[on, "resurrecting"] == len(people[day] - people[before])
    assert {status for _, status in found} == {"new", "returning", "resurrecting", "dormant"}


def test_stickiness_counts_days_of_activity(client: PostHogClient, active: Active, whole: dict[str, Any]) -> None:
    rows = client.stickiness(["file_uploaded", "logged_in"], **whole)
    for event in ("file_uploaded", "logged_in"):
        counts = Counter(person for people in active[event].values() for person in people)
        known = Counter(counts.values())
        assert {row["intervals"]: row["people"] for row in rows if row["event"] == event and row["people"]} == known


def test_paths_lead_from_place_to_place_and_a_cut_is_told(client: PostHogClient, whole: dict[str, Any]) -> None:
    every = client.paths("events", limit=1_000, **whole)
    assert not every.truncated
    assert [row["times"] for row in every] == sorted((row["times"] for row in every), reverse=True)
    few = client.paths("events", limit=3, **whole)
    assert (few, few.truncated) == (every[:3], True)
    into: Counter[tuple[int, str]] = Counter()
    for row in every:
        into[row["step"] + 1, row["target"]] += row["times"]
        assert 0 < row["average_seconds"] < 1_800
    for row in every:
        assert row["step"] == 1 or row["times"] <= into[row["step"], row["source"]]
    begun = client.paths("events", start="logged_in", limit=1_000, **whole)
    assert {row["source"] for row in begun if row["step"] == 1} == {"logged_in"}


# Time ---------------------------------------------------------------------------------------------------------------


def test_days_are_those_of_the_project_and_a_moment_ends_to_the_moment(local_posthog: LocalPostHog) -> None:
    project = local_posthog.new_project("Abroad", timezone="America/New_York")
    with project.client() as client:
        moments = ["2025-11-10T04:30:00Z", "2025-11-10T12:00:00Z", "2025-11-10T18:00:00Z", "2025-11-11T04:30:00Z"]
        client.capture_batch(
            [{"event": "e", "distinct_id": "u", "timestamp": moment, "properties": {}} for moment in moments]
        )

        def counted(since: Any, until: Any, every: str = "day") -> dict[str, int]:
            rows = client.trends("e", measure="events", every=every, since=since, until=until, fresh=True)
            return {row["time"]: row["value"] for row in rows if row["value"]}

        day = dt.date(2025, 11, 10)
        until(lambda: client.query("SELECT count() AS n FROM events LIMIT 1", fresh=True)[0]["n"] == len(moments))
        assert counted("2025-11-09", day) == {"2025-11-09": 1, "2025-11-10": 3}
        assert counted(day, dt.datetime(2025, 11, 10, 17, tzinfo=UTC)) == {"2025-11-10": 1}
        assert counted(dt.datetime(2025, 11, 10, 13), day) == {"2025-11-10": 2}
        assert counted("2025-11-10T04:00:00Z", "2025-11-10T12:30:00+00:00", "hour") == {
            "2025-11-09 23:00:00": 1,
            "2025-11-10 07:00:00": 1,
        }
    local_posthog.drop_project(project)


# Asking and cancelling ----------------------------------------------------------------------------------------------


def test_any_kind_of_question_can_be_asked_as_it_is(client: PostHogClient) -> None:
    said = client.ask({"kind": "HogQLMetadata", "language": "hogQL", "query": "SELECT evnt FROM events"})
    assert (said["isValid"], said["errors"][0]["start"], said["errors"][0]["end"]) == (False, 7, 11)
    said = client.ask({"kind": "EventsQuery", "select": ["event"], "after": dt.date(2000, 1, 1), "limit": 2})
    assert len(said["results"]) == 2
    with pytest.raises(QueryError, match="NoSuchQuery"):
        client.ask({"kind": "NoSuchQuery"})


def run(call: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    """Start a call in a thread; its result or its error ends up in the list."""
    ended: list[Any] = []

    def body() -> None:
        try:
            ended.append(call())
        except PostHogError as error:
            ended.append(error)

    thread = threading.Thread(target=body)
    thread.start()
    return thread, ended


def test_a_blocking_query_is_cancelled_from_another_thread(client: PostHogClient) -> None:
    thread, ended = run(lambda: client.query(ENDLESS, query_id="cancel-me"))
    until(lambda: client.cancel_query("cancel-me"))
    thread.join(HANG)
    assert isinstance(ended[0], QueryError)
    assert "cancelled" in str(ended[0])
    assert client.cancel_query("cancel-me") is False


def test_a_query_that_went_on_in_the_background_is_cancelled_by_the_same_id() -> None:
    with LocalPostHog(events=0, query_seconds=0.2) as local, local.client() as client, local.client() as observer:
        thread, ended = run(lambda: client.query(ENDLESS, query_id="cancel-me"))
        path = f"/api/projects/{local.project_id}/query/cancel-me/"

        def is_in_the_background() -> bool:
            try:
                return observer.request(path)["query_status"]["complete"] is False
            except PostHogError:
                return False

        until(is_in_the_background)
        assert until(lambda: observer.cancel_query("cancel-me")) is True
        thread.join(HANG)
    assert isinstance(ended[0], QueryError)
    assert ended[0].query_id == "cancel-me"
