"""HogQL on the real engine: what translated queries answer, over a handful of events whose answers one can see.

The engine lives in a child process (this file, run as a script): in the process of the tests it could not be forked.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from posthog_driver.local import functions, macros
from posthog_driver.local.hogql import translate
from posthog_driver.local.schema import Catalog, Cohort, PropertyDefinition

ALICE = "018d0a00-0000-7000-8000-00000000000a"
BOB = "018d0a00-0000-7000-8000-00000000000b"

CATALOG = Catalog(
    property_definitions=(
        PropertyDefinition("price", "event", "Numeric"),
        PropertyDefinition("ok", "event", "Boolean"),
        PropertyDefinition("when", "event", "DateTime"),
        PropertyDefinition("age", "person", "Numeric"),
        PropertyDefinition("seats", "group", "Numeric", group_type_index=0),
    ),
    event_names=("$pageview", "signed_up"),
    group_types=("account",),
    cohorts=(Cohort(1, "grown up", "properties.age >= 18"), Cohort(2, "picked"), Cohort(3, "me", "id IN COHORT 3")),
)

_EVENTS: list[dict[str, Any]] = [
    {
        "event": "$pageview",
        "timestamp": "2024-01-15 10:00:00",
        "distinct_id": "alice",
        "properties": {
            "$session_id": "s1",
            "$browser": "Chrome",
            "$current_url": "https://x.test/",
            "$pathname": "/",
            "$group_0": "acme",
            "price": 10.5,
            "ok": True,
            "when": "2024-01-02T03:04:05Z",
            "odd name": "x y",
            "list": [1, {"id": "deep"}],
        },
    },
    {
        "event": "signed_up",
        "timestamp": "2024-01-15 10:00:30",
        "distinct_id": "alice",
        "properties": {"$session_id": "s1", "plan": "pro", "$current_url": "https://x.test/signup"},
    },
    {
        "event": "$pageview",
        "timestamp": "2024-01-16 23:30:00",
        "distinct_id": "bob",
        "properties": {"$session_id": "s2", "$browser": "Firefox", "price": 2, "empty": "", "nothing": None, "zero": 0},
    },
    {"event": "$pageview", "timestamp": "2024-01-17 09:00:00", "distinct_id": "alice", "properties": {"ok": False}},
]
_PERSONS = {"alice": (ALICE, {"email": "alice@x.test", "age": 30}), "bob": (BOB, {"age": 17})}


def _rows() -> dict[str, list[dict[str, Any]]]:
    """What the child puts into its tables."""
    seen = "2024-01-01 00:00:00"
    events = [
        {
            **event,
            "uuid": f"018d0a00-0000-7000-8000-{number:012d}",
            "person_id": _PERSONS[event["distinct_id"]][0],
            "person_created_at": seen,
            "person_properties": json.dumps(_PERSONS[event["distinct_id"]][1]),
            "properties": json.dumps(event["properties"]),
        }
        for number, event in enumerate(_EVENTS)
    ]
    persons = [{"id": i, "created_at": seen, "properties": json.dumps(p)} for i, p in _PERSONS.values()]
    return {
        "events": events,
        "persons": [*persons, {**persons[0], "properties": '{"email": "new@x.test", "age": 30}', "version": 1}],
        "person_distinct_ids": [{"distinct_id": name, "person_id": i} for name, (i, _) in _PERSONS.items()],
        "groups": [{"index": 0, "key": "acme", "created_at": seen, "properties": '{"name": "Acme", "seats": 3}'}],
        "cohort_people": [{"cohort_id": 2, "person_id": BOB}],
    }


def _serve() -> None:
    """The child: answers each line, a JSON list of statements, with a line of their answers."""
    from posthog_driver.local.engine import Engine, EngineError

    with tempfile.TemporaryDirectory() as directory:
        engine = Engine(directory)
        for table, rows in _rows().items():
            engine.insert(table, rows)
        for line in sys.stdin:
            answers: list[Any] = []
            for sql in json.loads(line):
                try:
                    result = engine.run(sql, query_id="q")
                    answers.append([result.rows, [kind for _, kind in result.columns]])
                except EngineError as error:
                    answers.append(str(error))
            print(json.dumps(answers), flush=True)
        engine.close()


class Worker:
    """Runs statements in the child."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def sql(self, *statements: str) -> list[Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(statements) + "\n")
        self._process.stdin.flush()
        return list(json.loads(self._process.stdout.readline()))

    def rows(self, query: str, catalog: Catalog = CATALOG, **more: Any) -> Any:
        answer = self.sql(translate(query, catalog, **more).sql)[0]
        return answer if isinstance(answer, str) else answer[0]


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    with subprocess.Popen(
        [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield Worker(process)
        assert process.stdin is not None
        process.stdin.close()
        process.wait(30)


# ------------------------------------------------------------------------------------------ NULL in comparisons


def _null_table() -> Iterator[tuple[str, str, str, int]]:
    """PostHog's truth table: a side that is NULL makes a comparison false or true, never NULL."""
    for operator in ("=", "like", "ilike", "=~", "=~*"):
        yield from _cases(operator, (0, 0, 0, 1, 1))
    for operator in ("!=", "not like", "not ilike", "!~", "!~*"):
        yield from _cases(operator, (1, 1, 1, 0, 0))
    for operator, outcomes in {"<": (0, 0, 1, 0, 0), "<=": (0, 0, 1, 1, 0)}.items():
        yield from _cases(operator, outcomes)
    for operator, outcomes in {">": (0, 0, 0, 0, 0), ">=": (0, 0, 0, 1, 0)}.items():
        yield from _cases(operator, outcomes)
    yield from (("'3'", ">", "'2'", 1), ("'3'", ">=", "'2'", 1))


def _cases(operator: str, outcomes: tuple[int, ...]) -> Iterator[tuple[str, str, str, int]]:
    sides = (("null", "'2'"), ("'2'", "null"), ("'3'", "'4'"), ("'3'", "'3'"), ("null", "null"))
    for (left, right), outcome in zip(sides, outcomes, strict=True):
        yield left, operator, right, outcome


NULL_TABLE = tuple(_null_table())


@pytest.mark.parametrize(
    "form",
    [
        "select {0} {1} {2}",
        "select a {1} b from (select {0} as a, {2} as b)",
        "select a {1} {2} from (select {0} as a)",
        "select {0} {1} b from (select {2} as b)",
    ],
)
def test_a_comparison_with_null_has_an_answer_in_every_form_of_query(worker: Worker, form: str) -> None:
    queries = [form.format(left, operator, right) for left, operator, right, _ in NULL_TABLE]
    answers = worker.sql(*(translate(query, CATALOG).sql for query in queries))
    wrong = [
        (query, answer)
        for query, answer, (*_, outcome) in zip(queries, answers, NULL_TABLE, strict=True)
        if answer[0] != [[outcome]]
    ]
    assert len(NULL_TABLE) == 72
    assert wrong == []


@pytest.mark.parametrize(
    ("expression", "outcome"),
    [
        ("5 between 1 and 10", 1),
        ("11 between 1 and 10", 0),
        ("5 not between 1 and 10", 0),
        ("11 not between 1 and 10", 1),
        ("null between 1 and 10", 0),
        ("5 between null and 10", 0),
        ("5 not between 1 and null", 0),
        ("null in (1)", 0),
        ("null in (null)", 1),
        ("null is distinct from null", 0),
        ("1 is distinct from null", 1),
        ("null <=> null", 1),
        ("not (null = 1)", 1),
    ],
)
def test_other_operators_with_null_have_an_answer_too(worker: Worker, expression: str, outcome: int) -> None:
    assert worker.rows(f"select {expression}") == [[outcome]]


# ------------------------------------------------------------------------------------------------- the corpus


def _corpus() -> list[tuple[str, Any]]:
    """The pairs of query and rows in the file beside this one."""
    text = Path(__file__).with_name("hogql_corpus.txt").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(query, json.loads(rows)) for query, rows in zip(lines[::2], lines[1::2], strict=True)]


CORPUS = _corpus()


@pytest.mark.parametrize(("query", "rows"), CORPUS, ids=[query for query, _ in CORPUS])
def test_a_query_gives_the_answer_that_posthog_would(worker: Worker, query: str, rows: Any) -> None:
    found = worker.rows(query)
    if "order by" not in query and isinstance(found, list):
        found, rows = sorted(found, key=str), sorted(rows, key=str)
    assert found == rows


def test_more_than_50000_rows_are_never_given(worker: Worker) -> None:
    assert len(worker.rows("select number from numbers(60000) limit 100000")) == 50_000


def test_columns_have_the_types_that_posthog_reports(worker: Worker) -> None:
    query = "select event, properties.plan, properties.price, count(), timestamp from events group by all"
    assert worker.sql(translate(query, CATALOG).sql)[0][1] == [
        "String",
        "Nullable(String)",
        "Nullable(Float64)",
        "UInt64",
        "DateTime64(6, 'UTC')",
    ]


@pytest.mark.parametrize(
    ("query", "rows"),
    [
        (
            "select timestamp, toDate(timestamp) from events order by timestamp limit 1",
            [["2024-01-15T05:00:00-05:00", "2024-01-15"]],
        ),
        ("select toDate(timestamp), toHour(timestamp) from events where distinct_id = 'bob'", [["2024-01-16", 18]]),
        (
            "select toDateTime('2024-01-15 10:00:00'), toDateTime('2024-01-15T10:00:00Z')",
            [["2024-01-15T10:00:00-05:00", "2024-01-15T05:00:00-05:00"]],
        ),
        ("select count() from events where timestamp >= '2024-01-16 18:30:00'", [[2]]),
        ("select toStartOfWeek(timestamp) from events limit 1", [["2024-01-15"]]),
        (
            "select session.$start_timestamp, properties.when from events order by timestamp limit 1",
            [["2024-01-15T05:00:00-05:00", "2024-01-01T22:04:05-05:00"]],
        ),
    ],
)
def test_datetimes_are_shown_and_read_in_the_time_zone_of_the_project(worker: Worker, query: str, rows: Any) -> None:
    new_york = dataclasses.replace(CATALOG, timezone="America/New_York", week_start=1)
    assert worker.rows(query, new_york) == rows


@pytest.mark.parametrize(
    ("filters", "count"),
    [
        ({}, 4),
        ({"dateRange": {"date_from": "2024-01-16"}}, 2),
        ({"dateRange": {"date_from": "2024-01-15", "date_to": "2024-01-15"}}, 2),
        ({"dateRange": {"date_from": "-7d"}}, 0),
        ({"properties": [{"type": "event", "key": "$browser", "value": ["Chrome", "Opera"], "operator": "exact"}]}, 1),
        ({"properties": [{"type": "event", "key": "it's`%\\", "value": "a%'", "operator": "not_icontains"}]}, 4),
        (
            {
                "properties": [
                    {"type": "person", "key": "age", "value": 20, "operator": "gt"},
                    {"type": "event", "key": "plan", "operator": "is_set"},
                ]
            },
            1,
        ),
        (
            {
                "properties": {
                    "type": "AND",
                    "values": [{"values": [{"type": "hogql", "key": "event = 'signed_up'"}], "type": "AND"}],
                }
            },
            1,
        ),
        ({"properties": [{"type": "session", "key": "$session_duration", "value": 30, "operator": "gte"}]}, 2),
    ],
)
def test_filters_bound_the_rows(worker: Worker, filters: Any, count: int) -> None:
    assert worker.rows("select count() from events where {filters}", filters=filters) == [[count]]


def test_values_become_the_constants_they_are(worker: Worker) -> None:
    values = {"text": "it's % \\ \n {x}", "number": 1, "none": None, "list": ["a", 1.5], "deep": {"x": True}}
    assert worker.rows("select {text}, {number}, {none}, {deep.x}", values=values) == [[values["text"], 1, None, True]]
    query = "select event from events where event in {names}"
    assert worker.rows(query, values={"names": ["signed_up"]}) == [["signed_up"]]


# ------------------------------------------------------------------------------------------------- functions


def _calls() -> dict[str, str]:
    """A query for each function, from the file beside this one, and for each -Merge from its -State."""
    calls: dict[str, str] = {}
    call = ""
    for line in Path(__file__).with_name("hogql_functions.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("f"):
            call = line[1:]
        elif line.startswith(" "):
            calls.update((name, f"select {name}{call} from numbers(3)") for name in line.split())
    return {**calls, **dict(_merges())}


STATES = {
    "argMax": "argMaxState(number, number)",
    "argMin": "argMinState(number, number)",
    "avgMap": "arrayReduce('avgMapState', [map('a', 1)])",
    "quantiles": "quantilesState(0.5)(number)",
    "sumForEach": "sumForEachState([number])",
    "sumMap": "arrayReduce('sumMapState', [map('a', 1)])",
    "uniqMap": "arrayReduce('uniqMapState', [map('a', 1)])",
}


def _merges() -> Iterator[tuple[str, str]]:
    for name in functions.FUNCTIONS:
        if "Merge" in name and name not in ALWAYS_FAILING:
            base, _, suffix = name.partition("Merge")
            state = STATES.get(base, f"{base}State{suffix if suffix == 'OrNull' else ''}(number)")
            params = "(0.5)" if base == "quantiles" else ""
            arguments = "s, 1" if name.endswith("If") else "s"
            yield name, f"select {name}{params}({arguments}) from (select {state} as s from numbers(3))"


ALWAYS_FAILING = {
    "ifNotFinite": "select ifNotFinite(1)",
    "avgMapState": "select avgMapState(map('a', 1), 1)",
    "uniqUpToMerge": "select uniqUpToMerge(1)(1)",
    **{
        f"median{kind}{suffix}": f"select median{kind}{suffix}(number{more}) from numbers(3)"
        for kind in ("Deterministic", "ExactWeighted", "TDigestWeighted", "TimingWeighted")
        for suffix, more in (("", ""), ("If", ", 1"))
    },
}
"""PostHog's table gives these a number of arguments that ClickHouse refuses, or no way to make one: there as here."""


def test_every_function_runs_on_the_engine(worker: Worker) -> None:
    calls = _calls()
    assert set(calls) | set(ALWAYS_FAILING) == set(functions.FUNCTIONS)
    answers = worker.sql(*(translate(query, CATALOG).sql for query in calls.values()))
    failing = {query: found for query, found in zip(calls.values(), answers, strict=True) if isinstance(found, str)}
    assert failing == {}


def test_a_function_that_never_works_is_refused_by_the_engine(worker: Worker) -> None:
    answers = worker.sql(*(translate(query, CATALOG).sql for query in ALWAYS_FAILING.values()))
    kinds = {found.split()[0] for found in answers}
    assert kinds <= {"NUMBER_OF_ARGUMENTS_DOESNT_MATCH", "ILLEGAL_TYPE_OF_ARGUMENT"}


def _listed() -> list[str]:
    """The functions that PostHog's documentation for agents lists, from the file beside this one."""
    text = Path(__file__).with_name("posthog_functions.txt").read_text(encoding="utf-8")
    return [name for line in text.splitlines() if not line.startswith("#") for name in line.split()]


def _is_accepted(name: str) -> bool:
    others = {*functions.COMPARISONS, *macros.MACROS, "and", "or", "not", "matchesAction"}
    return functions.find(name) is not None or name in others


def test_every_function_of_posthogs_list_is_accepted_or_refused_by_name() -> None:
    listed = _listed()
    refused = {name for name in listed if not _is_accepted(name)}
    assert refused <= functions.NOT_HERE | functions.WITHIN_GROUP
    assert len(refused) < len(listed) / 20


@pytest.mark.parametrize("sql", ["SELECT * FROM file('/etc/hostname')", "INSERT INTO FUNCTION file('/tmp/x') SELECT 1"])
def test_the_engine_itself_refuses_files_when_it_is_asked_past_the_translator(worker: Worker, sql: str) -> None:
    assert isinstance(worker.sql(sql)[0], str)


if __name__ == "__main__":
    _serve()
