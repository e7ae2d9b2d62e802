"""HogQL on the real engine: what translated queries answer, over a handful of events whose answers one can see.

The engine lives in a child process (this file, run as a script): in the process of the tests it could not be forked.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest

from posthog_driver.local.hogql import HogQLError, translate
from posthog_driver.local.schema import Catalog, Cohort, PropertyDefinition, quote_literal

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


if __name__ == "__main__":
    _serve()
