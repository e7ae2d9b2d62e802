"""An engine that fails in the middle of a request: whatever was written, the same request again completes it.

A real engine stores; each of its writes fails in turn, before or after it took effect. Then the sender repeats, in the
same process or after the project was opened again, and everything must be as if nothing had happened.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timezone
from itertools import count
from typing import Any

import pytest

from posthog_driver.local.capture_body import parse_events
from posthog_driver.local.engine import EngineError, EngineResult
from posthog_driver.local.entities import EntityStore
from posthog_driver.local.ingest import Ingestion
from tests.engines import an_engine

NOW = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)
WRITES = 7
"""Writes that the request makes: persons, names, ends of persons, two of the events' moves, groups, events."""


class Torn:
    """An engine whose writes fail from one of them on.

    Args:
        engine: The real one.
        healthy: How many writes succeed; None for all.
        is_done: The first write that fails has taken effect all the same.
    """

    def __init__(self, engine: Any, healthy: int | None = None, *, is_done: bool = False) -> None:
        self._engine = engine
        self._is_done = is_done
        self.healthy = healthy
        self.writes = 0

    def run(self, sql: str, *, query_id: str) -> EngineResult:
        found: EngineResult = self._engine.run(sql, query_id=query_id)
        return found

    def execute(self, sql: str) -> None:
        self._write(lambda: self._engine.execute(sql))

    def insert(self, table: str, rows: Iterable[Mapping[str, Any]], *, database: str) -> int:
        self._write(lambda: self._engine.insert(table, list(rows), database=database))
        return 0

    def _write(self, act: Callable[[], object]) -> None:
        self.writes += 1
        if self.healthy is None or self.writes <= self.healthy:
            act()
            return
        if self._is_done and self.writes == self.healthy + 1:
            act()
        raise EngineError(243, "NOT_ENOUGH_SPACE", "the disk is full")


def event(number: int, name: str, distinct_id: str, **properties: Any) -> dict[str, Any]:
    id = f"01900000-0000-7000-8000-{number:012d}"
    moment = f"2026-0{1 + number % 2}-{1 + number % 20:02}T00:00:00Z"
    return {"uuid": id, "event": name, "distinct_id": distinct_id, "timestamp": moment, "properties": properties}


BEFORE = [
    event(1, "visit", "visitor", **{"$set": {"source": "ad"}, "$groups": {"company": "acme"}}),
    event(2, "visit", "ada", **{"$set": {"plan": "free"}}),
    event(3, "visit", "bob"),
    event(4, "visit", "ghost", **{"$process_person_profile": False}),
]
REQUEST = [
    event(10, "visit", "eve", **{"$set": {"plan": "new"}}),
    event(11, "$identify", "ada", **{"$anon_distinct_id": "visitor", "$set": {"plan": "pro"}}),
    event(12, "$merge_dangerously", "eve", alias="bob"),
    event(13, "$create_alias", "ada", alias="ghost"),
    event(14, "$groupidentify", "ada", **{"$group_type": "company", "$group_key": "acme", "$group_set": {"n": 1}}),
    event(15, "visit", "visitor", **{"$groups": {"company": "acme"}}),
]


@pytest.fixture(scope="module")
def engine() -> Iterator[Any]:
    with an_engine() as engine:
        yield engine


_NUMBERS = count(100)


@pytest.fixture
def database(engine: Any) -> Iterator[str]:
    name = f"posthog_{next(_NUMBERS)}"
    engine.create_database(name)
    yield name
    engine.drop_database(name)


def store(ingestion: Ingestion, events: list[dict[str, Any]]) -> None:
    ingestion.store(parse_events(events, NOW))


def state(engine: Any, database: str) -> dict[str, list[list[Any]]]:
    """Everything that is stored, without the numbers of versions."""
    queries = {
        "events": "SELECT toString(uuid), event, distinct_id, toString(person_id), `$group_0` FROM {}.events "
        "ORDER BY uuid",
        "persons": "SELECT toString(id), created_at, properties, is_identified FROM {}.persons FINAL "
        "WHERE is_deleted = 0 ORDER BY id",
        "names": "SELECT distinct_id, toString(person_id) FROM {}.person_distinct_ids FINAL "
        "WHERE is_deleted = 0 ORDER BY distinct_id",
        "groups": "SELECT index, key, properties FROM {}.groups FINAL ORDER BY key",
    }
    return {name: engine.run(sql.replace("{}", database), query_id=name).rows for name, sql in queries.items()}


@pytest.fixture(scope="module")
def expected(engine: Any) -> dict[str, list[list[Any]]]:
    """What is there when nothing fails."""
    engine.create_database("posthog_99")
    healthy = Torn(engine)
    ingestion = Ingestion(healthy, EntityStore({}), "posthog_99")
    store(ingestion, BEFORE)
    healthy.writes = 0
    store(ingestion, REQUEST)
    assert healthy.writes == WRITES
    found = state(engine, "posthog_99")
    engine.drop_database("posthog_99")
    return found


def test_without_a_failure_the_request_leaves_two_persons(expected: dict[str, list[list[Any]]]) -> None:
    assert len(expected["events"]) == len(BEFORE) + len(REQUEST)
    persons = {row[0] for row in expected["persons"]}
    assert len(persons) == 2
    names = dict(map(tuple, expected["names"]))
    assert names["ada"] == names["visitor"] == names["ghost"] != names["eve"] == names["bob"]
    assert all(row[3] == names[row[2]] for row in expected["events"])


@pytest.mark.parametrize("is_opened_again", [False, True], ids=["same process", "opened again"])
@pytest.mark.parametrize("is_done", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("healthy", range(WRITES))
def test_a_request_that_failed_at_any_write_is_completed_by_its_repeat(
    engine: Any,
    database: str,
    expected: dict[str, list[list[Any]]],
    healthy: int,
    is_done: bool,
    is_opened_again: bool,
) -> None:
    entities = EntityStore({})
    store(Ingestion(Torn(engine), entities, database), BEFORE)
    torn = Torn(engine, healthy, is_done=is_done)
    ingestion = Ingestion(torn, entities, database)
    with pytest.raises(EngineError):
        store(ingestion, REQUEST)

    if is_opened_again:
        ingestion = Ingestion(Torn(engine), entities, database)
        ingestion.identities.mend()
    else:
        torn.healthy = None
    store(ingestion, REQUEST)

    assert state(engine, database) == expected
    again = state(engine, database)
    ingestion.identities.mend()
    store(ingestion, REQUEST)
    assert state(engine, database) == again
