"""Columns for properties that are asked for often: when they are made, and that they change no answer."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from posthog_driver.local.engine import EngineError
from posthog_driver.local.hogql import translate
from posthog_driver.local.hot import MAX_COLUMNS, MAX_COUNTED, MIN_QUERIES, MIN_ROWS, Hot
from posthog_driver.local.schema import DATABASE, Catalog, quote_any_name
from posthog_driver.local.storage import JSON_COLUMNS, MATERIALIZED_EVENT_PROPERTIES
from tests.engines import an_engine

FIXED = {("properties", key): f"mat_{key}" for key in MATERIALIZED_EVENT_PROPERTIES}
OWN = [("properties", "plan"), ("person_properties", "plan"), ("persons.properties", "plan")]


@pytest.fixture(scope="module")
def engine() -> Iterator[Any]:
    with an_engine() as engine:
        yield engine


@pytest.fixture
def hot(engine: Any) -> Iterator[Hot]:
    """One that does its work at once."""
    hot = Hot(engine, DATABASE, start=lambda work: work())
    yield hot
    for (column, key), name in Hot(engine, DATABASE).columns.items():
        if (column, key) not in FIXED:
            table = JSON_COLUMNS[column].table
            engine.execute(f"ALTER TABLE {DATABASE}.{table} DROP COLUMN {quote_any_name(name)}")
    engine.create_database(DATABASE)


def ask(hot: Hot, *properties: tuple[str, str], rows: int = MIN_ROWS, times: int = MIN_QUERIES) -> None:
    for _ in range(times):
        hot.asked(properties, rows)


def test_what_the_table_was_made_with_is_known_from_the_start(hot: Hot) -> None:
    assert hot.columns == FIXED


def test_a_property_that_several_large_queries_read_gets_its_column(hot: Hot, engine: Any) -> None:
    ask(hot, *OWN, times=MIN_QUERIES - 1)
    assert hot.columns == FIXED
    ask(hot, *OWN, times=1)
    assert {own: hot.columns[own] for own in OWN} == dict(zip(OWN, ("mat_plan", "pmat_plan", "mat_plan"), strict=True))
    assert Hot(engine, DATABASE).columns == hot.columns


def test_one_query_may_count_for_several(hot: Hot) -> None:
    hot.asked([("properties", "plan")], MIN_ROWS, MIN_QUERIES)
    assert ("properties", "plan") in hot.columns


def test_small_queries_count_for_nothing(hot: Hot) -> None:
    ask(hot, ("properties", "plan"), rows=MIN_ROWS - 1, times=10)
    assert hot.columns == FIXED


@pytest.mark.parametrize("key", ["x" * 61, "a`b", "naïve", "100%", ""])
def test_names_that_are_no_plain_ones_stay_in_the_json(hot: Hot, key: str) -> None:
    ask(hot, ("properties", key))
    assert hot.columns == FIXED


def test_queries_read_the_columns_and_answer_as_before(hot: Hot, engine: Any) -> None:
    """For rows from before and after, and for events, persons and groups alike."""
    queries = {
        ("properties", "a.b"): "select properties.`a.b` from events order by uuid",
        ("person_properties", "a.b"): "select person.properties.`a.b` from events order by uuid",
        ("persons.properties", "a.b"): "select properties.`a.b` from persons order by id",
        ("groups.properties", "a.b"): "select properties.`a.b` from groups order by key",
    }

    def insert(first: int) -> None:
        for number, value in enumerate((1.0, "", None, "x\\y", {"c": [1]}), start=first):
            uuid, properties = f"00000000-0000-4000-8000-{number:012}", {"a.b": value, "n": number}
            event = {"uuid": uuid, "event": "e", "timestamp": "2026-03-01T12:00:00Z", "distinct_id": "d"}
            engine.insert("events", [{**event, "properties": properties, "person_properties": properties}])
            engine.insert("persons", [{"id": uuid, "properties": properties}])
            engine.insert("groups", [{"index": 0, "key": uuid, "properties": properties}])

    def answers(catalog: Catalog) -> list[list[list[Any]]]:
        return [engine.run(translate(hogql, catalog).sql, query_id="q").rows for hogql in queries.values()]

    insert(0)
    for key, hogql in queries.items():
        assert translate(hogql, Catalog()).properties == {key}
    ask(hot, *queries)
    insert(5)
    catalog = Catalog(materialized=hot.columns)
    for key, hogql in queries.items():
        assert f"`{hot.columns[key]}`" in translate(hogql, catalog).sql

    found = answers(catalog)

    assert found == answers(Catalog()) == [[["1"], [""], [None], ["x\\\\y"], ['{"c":[1]}']] * 2] * 4
    engine.create_database(DATABASE)
    assert answers(catalog) == found
    for table in ("events", "persons", "groups"):
        engine.execute(f"TRUNCATE TABLE {DATABASE}.{table}")


class Stores:
    """An engine without columns, which keeps what it is told and fails for some keys."""

    def __init__(self, refused: str = "-") -> None:
        self.statements: list[str] = []
        self._refused = refused

    def run(self, sql: str, *, query_id: str, max_execution_time: float) -> Any:
        return SimpleNamespace(rows=[])

    def execute(self, sql: str) -> None:
        self.statements.append(sql)
        if self._refused in sql:
            raise EngineError(1, "DISK", "full")


def test_there_is_a_most_of_columns() -> None:
    hot = Hot(Stores(), "posthog", start=lambda work: work())
    ask(hot, *(("properties", f"p{n}") for n in range(MAX_COLUMNS + 5)))
    assert len(hot.columns) == MAX_COLUMNS


def test_a_column_that_cannot_be_made_changes_nothing_and_is_not_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    engine = Stores("mat_plan")
    hot = Hot(engine, "posthog", start=lambda work: work())
    ask(hot, ("properties", "plan"), ("properties", "seats"), times=MIN_QUERIES + 3)
    assert set(hot.columns) == {("properties", "seats")}
    assert len([statement for statement in engine.statements if "mat_plan" in statement]) == 1
    assert "no column for the property plan" in caplog.text


def test_counting_begins_again_when_there_are_too_many_names() -> None:
    hot = Hot(Stores(), "posthog", start=lambda work: work())
    hot.asked([("properties", "plan"), *(("properties", f"{n}") for n in range(MAX_COUNTED))], MIN_ROWS)
    ask(hot, ("properties", "plan"), times=MIN_QUERIES - 1)
    assert hot.columns == {}
    ask(hot, ("properties", "plan"), times=1)
    assert set(hot.columns) == {("properties", "plan")}


def test_columns_are_made_one_after_the_other_beside_the_queries() -> None:
    waiting: list[Callable[[], None]] = []
    hot = Hot(Stores(), "posthog", start=waiting.append)
    ask(hot, ("properties", "a"))
    ask(hot, ("properties", "b"), ("properties", "a"))
    (work,) = waiting
    assert hot.columns == {}
    work()
    assert set(hot.columns) == {("properties", "a"), ("properties", "b")}


def test_by_default_the_work_is_done_in_a_thread() -> None:
    before = set(threading.enumerate())
    hot = Hot(Stores(), DATABASE)
    ask(hot, ("properties", "threaded"))
    for thread in set(threading.enumerate()) - before:
        thread.join(60)
    assert hot.columns["properties", "threaded"] == "mat_threaded"
