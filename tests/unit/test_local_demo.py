"""The demo data, in a process of its own: inside pytest's the engine would hang on fork and on Ctrl-C."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from posthog_driver.local.demo import FUNNEL, Demo, load
from posthog_driver.local.engine import Engine
from posthog_driver.local.storage import EVENT_INSERT_COLUMNS, MATERIALIZED_EVENT_PROPERTIES, property_sql

Answers = list[list[list[Any]]]
END = datetime(2026, 11, 1, tzinfo=timezone.utc)
PLAN: dict[str, Any] = {"events": 20_000, "seed": 7, "end": END}
CHECKSUM = f"SELECT sum(cityHash64({', '.join(EVENT_INSERT_COLUMNS)})) FROM posthog.events"
CHECKSUMS = [
    CHECKSUM,
    *(f"SELECT sum(cityHash64(*)) FROM posthog.{table}" for table in ("persons", "person_distinct_ids", "groups")),
]


def _ask(path: Path, queries: list[str], plan: dict[str, Any]) -> tuple[Demo, Answers]:
    """Fill a directory (in the child) unless it is filled, and ask it."""
    with closing(Engine(path)) as engine:
        demo = load(engine, **plan)
        return demo, [engine.run(sql, query_id="q").rows for sql in queries]


def _interrupt(path: Path, plan: dict[str, Any]) -> None:
    """Fail in the middle of the second insert (in the child)."""
    with closing(Engine(path)) as engine:
        execute = engine.execute

        def fail_at_persons(sql: str) -> None:
            if "INSERT INTO posthog.persons" in sql:
                raise KeyboardInterrupt
            execute(sql)

        engine.execute = fail_at_persons  # type: ignore[method-assign]
        try:
            load(engine, **plan)
        except KeyboardInterrupt:
            return
    raise AssertionError("the insert was never reached")


@pytest.fixture(scope="module")
def pool() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        yield pool


Ask = Callable[..., tuple[Demo, Answers]]


@pytest.fixture(scope="module")
def ask(pool: ProcessPoolExecutor) -> Ask:
    def ask(path: Path, *queries: str, **changes: Any) -> tuple[Demo, Answers]:
        return pool.submit(_ask, path, list(queries), {**PLAN, **changes}).result(120)

    return ask


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the tests of the data share: 20,000 events of 90 days."""
    return tmp_path_factory.mktemp("demo")


# -------------------------------------------------------------------------------------------------- the same rows


def test_the_same_arguments_give_the_same_rows_and_another_seed_others(ask: Ask, tmp_path: Path) -> None:
    sums = [ask(tmp_path / name, CHECKSUM, events=1_000, seed=seed)[1] for name, seed in (("a", 1), ("b", 1), ("c", 2))]

    assert sums[0] == sums[1] != sums[2]


def test_the_rows_are_those_of_every_other_machine(ask: Ask, directory: Path) -> None:
    _, (((checksum,),),) = ask(directory, CHECKSUM)

    assert checksum == 17981634002373520228, "other rows than before: raise _VERSION, and change this number"


@pytest.mark.parametrize("events", [1, 7, 999])
def test_the_number_of_events_is_exact(ask: Ask, tmp_path: Path, events: int) -> None:
    demo, (((stored, uuids, bad),),) = ask(
        tmp_path,
        "SELECT count(), uniqExact(uuid), countIf(NOT isValidJSON(properties)) FROM posthog.events",
        events=events,
    )

    assert demo.events == demo.truth["events"] == stored == uuids == events
    assert sum(demo.truth["event_counts"].values()) == events
    assert bad == 0


@pytest.mark.parametrize(("setting", "value"), [("_SLICE_PERSONS", 37), ("_EVENTS_PER_PERSON", 1_000_000)])
def test_the_size_of_the_slices_changes_nothing(
    ask: Ask, tmp_path: Path, pool: ProcessPoolExecutor, setting: str, value: int
) -> None:
    usual, sums = ask(tmp_path / "usual", *CHECKSUMS, events=4_000)

    other, other_sums = pool.submit(_ask_with, tmp_path / "other", setting, value, {**PLAN, "events": 4_000}).result(
        120
    )

    assert other_sums == sums
    assert other.truth == usual.truth


def _ask_with(path: Path, setting: str, value: int, plan: dict[str, Any]) -> tuple[Demo, Answers]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(f"posthog_driver.local.demo.{setting}", value)
        return _ask(path, CHECKSUMS, plan)


# ------------------------------------------------------------------------------------------ what the rows look like


def test_every_row_holds_valid_json_and_ids(ask: Ask, directory: Path) -> None:
    _, (events, persons, groups, sample) = ask(
        directory,
        "SELECT countIf(NOT isValidJSON(properties)), countIf(NOT isValidJSON(person_properties)), "
        "countIf(substring(toString(uuid), 15, 1) != '7'), uniqExact(uuid) = count(), "
        "countIf(toYear(UUIDv7ToDateTime(toUUID(`$session_id`))) != 2026) FROM posthog.events",
        "SELECT countIf(NOT isValidJSON(properties)) FROM posthog.persons",
        "SELECT countIf(NOT isValidJSON(properties)) FROM posthog.groups",
        "SELECT DISTINCT `$session_id` FROM posthog.events LIMIT 50",
    )

    assert events == [[0, 0, 0, 1, 0]]
    assert persons == groups == [[0]]
    assert all(UUID(text).version == 7 for (text,) in sample)


def test_the_stored_columns_are_what_the_table_would_read_from_the_json(ask: Ask, directory: Path) -> None:
    stored = {f"mat_{name}": name for name in MATERIALIZED_EVENT_PROPERTIES}
    differences = [
        f"countIf(ifNull(`{column}`, '-') != ifNull({property_sql('properties', (name,))}, '-'))"
        for column, name in stored.items()
    ] + [
        f"countIf(`{name}` != ifNull({property_sql('properties', (name,))}, ''))"
        for name in ("$session_id", "$window_id", *(f"$group_{index}" for index in range(5)))
    ]

    _, (counts,) = ask(directory, f"SELECT {', '.join(differences)} FROM posthog.events")

    assert counts == [[0] * len(differences)]


def test_all_events_lie_in_the_period_and_sessions_do_not_cross_midnight(ask: Ask, directory: Path) -> None:
    demo, (((first, last, crossing),),) = ask(
        directory,
        "SELECT min(timestamp), max(timestamp), (SELECT countIf(toDate(`$start_timestamp`) != "
        "toDate(`$end_timestamp`)) FROM posthog.sessions) FROM posthog.events",
    )

    assert (demo.end, demo.days) == (END, 90)
    assert END - timedelta(days=90) <= _moment(first) < END - timedelta(days=87)
    assert END - timedelta(days=2) < _moment(last) < END
    assert crossing == 0


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def test_persons_begin_with_their_first_event_and_every_distinct_id_is_known(ask: Ask, directory: Path) -> None:
    demo, (persons, unknown, late) = ask(
        directory,
        "SELECT count(), uniqExact(id) FROM posthog.persons",
        "SELECT count() FROM posthog.events AS e LEFT ANTI JOIN posthog.person_distinct_ids AS p "
        "ON e.distinct_id = p.distinct_id AND e.person_id = p.person_id",
        "SELECT countIf(first < created), countIf(created < toDateTime('2026-08-03', 'UTC')) FROM ("
        "SELECT min(timestamp) AS first, any(person_created_at) AS created FROM posthog.events GROUP BY person_id)",
    )

    assert persons == [[demo.truth["persons"]] * 2]
    assert unknown == [[0]]
    assert late[0][0] == 0
    assert 0 < late[0][1] < demo.truth["persons"] / 5, "some customers, but not most, are older than the period"


def test_flags_have_the_value_of_posthogs_own_hash(ask: Ask, directory: Path) -> None:
    _, (rows,) = ask(
        directory,
        "SELECT distinct_id, JSONExtractString(properties, '$feature/signup-form'), "
        "JSONExtractBool(properties, '$feature/file-previews') FROM posthog.events "
        "WHERE event = '$feature_flag_called'",
    )

    def number(flag: str, distinct_id: str, salt: str = "") -> float:
        return int(hashlib.sha1(f"{flag}.{distinct_id}{salt}".encode()).hexdigest()[:15], 16) / 0xFFFFFFFFFFFFFFF

    assert len(rows) > 100
    for distinct_id, variant, preview in rows:
        assert variant == ("control" if number("signup-form", distinct_id, "variant") < 0.5 else "test")
        assert preview == (number("file-previews", distinct_id) <= 0.5)


def test_business_is_slower_at_weekends_and_grows(ask: Ask, directory: Path) -> None:
    _, (weekdays, months) = ask(
        directory,
        "SELECT toDayOfWeek(timestamp) >= 6 AS weekend, count() / uniqExact(toDate(timestamp)) FROM posthog.events "
        "WHERE `$group_0` != '' GROUP BY weekend ORDER BY weekend",
        "SELECT toStartOfMonth(timestamp) AS month, uniqExact(person_id) FROM posthog.events "
        "GROUP BY month ORDER BY month",
    )

    assert weekdays[1][1] < weekdays[0][1] / 2
    assert [month for month, _ in months] == ["2026-08-01", "2026-09-01", "2026-10-01"]
    assert months[0][1] < months[1][1] < months[2][1]


# -------------------------------------------------------------------------------- the truth, counted from the events


def test_the_truth_counts_events_persons_and_sessions(ask: Ask, directory: Path) -> None:
    demo, (events, totals) = ask(
        directory,
        "SELECT event, count() FROM posthog.events GROUP BY event ORDER BY event",
        "SELECT count(), uniqExact(person_id), uniqExact(`$session_id`) FROM posthog.events",
    )

    assert demo.truth["event_counts"] == dict(events)
    assert totals == [[demo.truth[name] for name in ("events", "persons", "sessions")]]


def test_the_truth_counts_the_events_of_each_day(ask: Ask, directory: Path) -> None:
    demo, (days,) = ask(
        directory,
        "SELECT event, toDate(timestamp) - toDate('2026-08-03') AS day, count() FROM posthog.events "
        "GROUP BY event, day",
    )

    truth = demo.truth["days"]
    counted = [
        [event, day, count]
        for event, counts in truth["event_counts"].items()
        for day, count in enumerate(counts)
        if count
    ]
    assert truth["first"] == "2026-08-03"
    assert counted == sorted(days)
    assert {len(counts) for counts in truth["event_counts"].values()} == {90}


def test_the_truth_of_weekly_retention_is_what_the_events_say(ask: Ask, directory: Path) -> None:
    demo, (weeks,) = ask(
        directory,
        "SELECT DISTINCT person_id, toStartOfWeek(timestamp, 0) FROM posthog.events WHERE event = 'file_uploaded'",
    )

    truth = demo.truth["weekly_retention"]
    persons: dict[str, set[str]] = {}
    for person, week in weeks:
        persons.setdefault(week, set()).add(person)
    assert truth["event"] == "file_uploaded"
    assert (truth["weeks"][0], truth["weeks"][-1]) == ("2026-08-02", "2026-10-25")
    assert truth["returned"] == [
        [len(persons[first] & persons[later]) for later in truth["weeks"][number:]]
        for number, first in enumerate(truth["weeks"])
    ]


def test_the_truth_of_the_funnel_is_what_the_events_say(ask: Ask, directory: Path) -> None:
    conditions = [
        f"event = '{step['event']}'" + (f" AND `mat_$pathname` = '{step['$pathname']}'" if "$pathname" in step else "")
        for step in FUNNEL
    ]
    reached = ", ".join(f"countIf(level >= {step})" for step in range(1, len(FUNNEL) + 1))

    demo, (funnel,) = ask(
        directory,
        f"SELECT {reached} FROM (SELECT windowFunnel(1209600)(toDateTime(timestamp), {', '.join(conditions)}) AS level "
        "FROM posthog.events GROUP BY person_id)",
    )

    assert funnel == [demo.truth["funnel"]]
    assert funnel[0] == sorted(funnel[0], reverse=True)
    assert funnel[0][-1] > 0


def test_the_truth_of_the_experiment_is_what_the_events_say(ask: Ask, directory: Path) -> None:
    demo, (variants,) = ask(
        directory,
        "SELECT variant, count(), countIf(joined) FROM (SELECT person_id, max(event = 'signed_up') AS joined, "
        "anyIf(JSONExtractString(properties, '$feature_flag_response'), event = '$feature_flag_called') AS variant "
        "FROM posthog.events GROUP BY person_id HAVING variant != '') GROUP BY variant ORDER BY variant",
    )

    truth = demo.truth["experiment"]
    assert {name: {"exposed": seen, "signed_up": joined} for name, seen, joined in variants} == truth["variants"]
    assert truth["winner"] == "test"
    assert demo.experiments[0]["conclusion"] == "won"


def test_the_truth_of_retention_is_what_the_events_say(ask: Ask, directory: Path) -> None:
    demo, (retention,) = ask(
        directory,
        "SELECT count(), countIf(arrayExists(day -> day BETWEEN 7 AND 13, days)) FROM (SELECT person_id, "
        "toDate(min(timestamp)) AS first, arrayMap(d -> d - first, groupUniqArray(toDate(timestamp))) AS days "
        "FROM posthog.events GROUP BY person_id HAVING max(event = 'signed_up') AND first <= toDate('2026-10-18'))",
    )

    assert retention == [[demo.truth["retention"][name] for name in ("signed_up", "returned")]]
    assert 0 < retention[0][1] < retention[0][0]


def test_the_truth_of_cohorts_is_what_the_persons_say(ask: Ask, directory: Path) -> None:
    demo, (members,) = ask(
        directory,
        "SELECT countIf(JSONExtractBool(properties, 'is_paying')), countIf(JSONHas(properties, 'company')) "
        "FROM posthog.persons",
    )

    assert [cohort["count"] for cohort in demo.cohorts] == members[0] == list(demo.truth["cohorts"].values())


# -------------------------------------------------------------------------------------------------------- entities


def test_every_property_of_the_rows_is_defined_and_every_defined_one_occurs(ask: Ask, directory: Path) -> None:
    demo, (events, persons, groups) = ask(
        directory,
        "SELECT DISTINCT arrayJoin(JSONExtractKeys(properties)) FROM posthog.events",
        "SELECT DISTINCT arrayJoin(JSONExtractKeys(properties)) FROM posthog.persons",
        "SELECT DISTINCT arrayJoin(JSONExtractKeys(properties)) FROM posthog.groups",
    )

    for kind, found in (("event", events), ("person", persons), ("group", groups)):
        defined = {row["name"] for row in demo.property_definitions if row["type"] == kind}
        assert defined == {name for (name,) in found}


def test_every_event_is_defined_and_the_catalog_agrees_with_the_entities(ask: Ask, directory: Path) -> None:
    demo, _ = ask(directory)

    names = {row["name"] for row in demo.event_definitions}
    assert names == set(demo.catalog.event_names) == set(demo.truth["event_counts"])
    assert demo.catalog.group_types == tuple(row["group_type"] for row in demo.group_types) == ("company",)
    assert [cohort.name for cohort in demo.catalog.cohorts] == [row["name"] for row in demo.cohorts]
    assert demo.catalog.property_type("event", "size_mb") == "Numeric"
    assert demo.catalog.property_type("person", "is_paying") == "Boolean"
    assert demo.catalog.property_type("event", "expires_at") == "DateTime"
    assert [flag["key"] for flag in demo.feature_flags] == ["signup-form", "file-previews"]
    assert demo.dashboards[0]["tiles"][0]["insight"] in demo.insights
    assert len(demo.annotations) == 2


def test_entities_can_be_sent_as_json(ask: Ask, directory: Path) -> None:
    demo, _ = ask(directory)
    kinds = (
        "event_definitions", "property_definitions", "cohorts", "feature_flags", "experiments", "insights",
        "dashboards", "annotations", "group_types",
    )  # fmt: skip

    for kind in kinds:
        rows = getattr(demo, kind)
        assert json.loads(json.dumps(rows)) == list(rows)
        assert rows


# --------------------------------------------------------------------------------------------- opening it again


def test_a_filled_directory_keeps_its_data_whatever_is_asked(ask: Ask, tmp_path: Path) -> None:
    first, before = ask(tmp_path, CHECKSUM, events=500)

    second, after = ask(tmp_path, CHECKSUM, events=900, seed=9, end=None)

    assert before == after
    assert second == first


def test_an_interrupted_filling_is_begun_again(ask: Ask, tmp_path: Path, pool: ProcessPoolExecutor) -> None:
    pool.submit(_interrupt, tmp_path / "a", {**PLAN, "events": 400}).result(120)

    demo, again = ask(tmp_path / "a", CHECKSUM, "SELECT count() FROM posthog.persons", events=500)

    assert again[0] == ask(tmp_path / "b", CHECKSUM, events=500)[1][0]
    assert again[1] == [[demo.truth["persons"]]]


def test_a_directory_of_another_version_is_refused(ask: Ask, tmp_path: Path) -> None:
    ask(tmp_path, events=0)
    (tmp_path / "demo.json").write_text('{"version": 99}')

    with pytest.raises(ValueError, match="written by another version"):
        ask(tmp_path, events=0)


def test_a_project_without_events_knows_nothing(ask: Ask, tmp_path: Path) -> None:
    demo, (count,) = ask(tmp_path, "SELECT count() FROM posthog.events", events=0)

    assert count == [[0]]
    assert demo == Demo(7, 0, END, 90, {})


@pytest.mark.parametrize(
    ("end", "midnight"),
    [
        (datetime(2026, 11, 1, 17, 30), "2026-11-01"),
        (datetime(2026, 11, 1, 1, 0, tzinfo=timezone(timedelta(hours=2))), "2026-10-31"),
    ],
)
def test_the_period_ends_at_midnight_in_utc(ask: Ask, tmp_path: Path, end: datetime, midnight: str) -> None:
    demo, _ = ask(tmp_path, events=0, end=end)

    assert demo.end == datetime.fromisoformat(f"{midnight}T00:00:00+00:00")


def test_without_an_end_the_period_ends_today(ask: Ask, tmp_path: Path) -> None:
    before = datetime.now(timezone.utc)

    demo, _ = ask(tmp_path, events=0, end=None)

    assert before - timedelta(days=1) < demo.end <= datetime.now(timezone.utc)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"events": -1}, "events must be between 0 and 100,000,000, not -1"),
        ({"days": 0}, "days must be between 1 and 3,650, not 0"),
        ({"seed": 2**64}, "seed must be between 0"),
    ],
)
def test_numbers_out_of_range_are_refused(ask: Ask, tmp_path: Path, changes: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ask(tmp_path, **changes)
