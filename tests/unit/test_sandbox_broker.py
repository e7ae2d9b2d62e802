"""The broker: what code in a sandbox may ask, and how rows and errors get there and back."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any

import pytest

from posthog_driver import exceptions
from posthog_driver.exceptions import QueryError, RateLimitError, ValidationError
from posthog_driver.results import QueryInfo, QueryResult
from posthog_driver.sandbox import errors
from posthog_driver.sandbox.broker import MAX_REQUEST_BYTES, Broker, encode_error, encode_rows, read_error, read_rows
from posthog_driver.sandbox.errors import ResultTooLargeError, SandboxRunError
from posthog_driver.sandbox.model import SandboxLimits

LIMITS = SandboxLimits(max_queries=3)


class Asked:
    """Answers every query with one row, and remembers it."""

    def __init__(self, answer: Any = ({"n": 1},)) -> None:
        self.answer = answer
        self.queries: list[tuple[str, Any, float]] = []

    def __call__(self, hogql: str, values: Mapping[str, Any] | None, seconds: float) -> Any:
        self.queries.append((hogql, values, seconds))
        if isinstance(self.answer, Exception):
            raise self.answer
        return list(self.answer)


def reply(broker: Broker, request: Any, seconds: float = 10.0) -> dict[str, Any]:
    line = broker.answer(request if isinstance(request, bytes) else json.dumps(request).encode(), seconds)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    answered: dict[str, Any] = json.loads(line)
    return answered


def test_a_query_is_asked_with_its_values_and_the_time_that_is_left() -> None:
    ask = Asked()
    answered = reply(Broker(ask, LIMITS), {"query": "SELECT {x}", "values": {"x": 1}}, 7.5)
    assert answered["rows"] == [{"n": 1}]
    assert ask.queries == [("SELECT {x}", {"x": 1}, 7.5)]


@pytest.mark.parametrize(
    "hogql",
    ["SELECT 1", "  select 1", "-- a comment\nSELECT 1", "(SELECT 1) UNION ALL (SELECT 2)", "WITH 1 AS x SELECT x"],
)
def test_what_reads_is_asked(hogql: str) -> None:
    ask = Asked()
    assert "rows" in reply(Broker(ask, LIMITS), {"query": hogql})
    assert [query for query, _, _ in ask.queries] == [hogql]


@pytest.mark.parametrize(
    "request_",
    [
        {"query": "INSERT INTO events VALUES (1)"},
        {"query": "DROP TABLE events"},
        {"query": "'SELECT'"},
        {"query": ""},
        {"query": 5},
        {"query": None},
        {},
        [],
        "SELECT 1",
        {"query": "SELECT 1", "values": [1]},
        {"query": "SELECT 1", "path": "/api/users/@me/"},
        b"no json",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"query": "SELECT 1"}' + b" " * MAX_REQUEST_BYTES,
    ],
    ids=lambda request: repr(request)[:30],
)
def test_anything_else_is_refused_and_not_asked(request_: Any) -> None:
    ask = Asked()
    answered = reply(Broker(ask, LIMITS), request_)
    assert answered["error"]["kind"] == "ValidationError"
    assert ask.queries == []


def test_a_run_has_a_number_of_queries_and_then_an_end() -> None:
    ask = Asked()
    broker = Broker(ask, LIMITS)
    answers = [reply(broker, {"query": "SELECT 1"}) for _ in range(103)]
    assert ["rows" in answered for answered in answers] == [True] * 3 + [False] * 100
    assert {answered["error"]["kind"] for answered in answers[3:]} == {"RateLimitError"}
    assert len(ask.queries) == 3
    with pytest.raises(SandboxRunError, match="max_queries"):
        broker.answer(b"{}", 10.0)


def test_nothing_is_asked_when_the_time_is_over() -> None:
    ask = Asked()
    assert reply(Broker(ask, LIMITS), {"query": "SELECT 1"}, 0.0)["error"]["kind"] == "SandboxTimeoutError"
    assert ask.queries == []


def test_an_error_of_posthog_is_part_of_the_reply() -> None:
    broker = Broker(Asked(QueryError("wrong", status=400, position=7, end=9, fix="x", hint="try x")), LIMITS)
    error = read_error(reply(broker, {"query": "SELECT 1"}))
    assert type(error) is QueryError
    assert (str(error), error.status, error.position, error.end, error.fix) == ("wrong", 400, 7, 9, "x")


def test_an_unexpected_error_is_logged_here_and_only_named_there(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "posthog_driver"):
        answered = reply(Broker(Asked(RuntimeError("a path of the host")), LIMITS), {"query": "SELECT 1"})
    assert answered["error"]["kind"] == "SandboxRunError"
    assert "a path of the host" not in json.dumps(answered)
    assert "a path of the host" in caplog.text


def test_rows_that_are_no_json_are_an_unexpected_error() -> None:
    assert reply(Broker(Asked([{"n": object()}]), LIMITS), {"query": "SELECT 1"})["error"]["kind"] == "SandboxRunError"


def test_a_result_that_is_too_large_is_refused_as_a_whole() -> None:
    rows = [{"text": "x" * 1000}]
    size = len(encode_rows(rows, 10_000))
    assert len(encode_rows(rows, size)) == size
    with pytest.raises(ResultTooLargeError, match="max_result_bytes"):
        encode_rows(rows, size - 1)


def test_a_result_keeps_what_it_carries() -> None:
    info = QueryInfo(
        ("n", "n_2"), ("Int", "String"), True, "id-1", True, "2026-11-25", "UTC", "SELECT", 100, ("w",), 0.5
    )
    result = read_rows(json.loads(encode_rows(QueryResult([{"n": 1, "n_2": "ü\ud800"}], info), 10_000)))
    assert result == [{"n": 1, "n_2": "ü\ud800"}]
    assert result.info == info


def test_rows_of_a_plain_list_have_columns_too() -> None:
    assert read_rows(json.loads(encode_rows([{"a": 1, "b": 2}], 10_000))).columns == ["a", "b"]
    assert read_rows(json.loads(encode_rows([], 10_000))).columns == []


@pytest.mark.parametrize(
    "data",
    [None, [], {}, {"rows": 5, "info": {}}, {"rows": [1], "info": {}}, {"rows": [], "info": None}, {"rows": []}],
)
def test_a_result_without_rows_is_none(data: Any) -> None:
    with pytest.raises(SandboxRunError, match="no rows"):
        read_rows(data)


@pytest.mark.parametrize("info", [{"columns": 5}, {"columns": [5]}, {"types": None}])
def test_columns_that_are_no_names_are_no_result(info: dict[str, Any]) -> None:
    with pytest.raises(SandboxRunError, match="no names"):
        read_rows({"rows": [], "info": info})


def test_unknown_facts_of_a_result_are_left_out() -> None:
    assert read_rows({"rows": [], "info": {"columns": ["a"], "evil": 1}}).columns == ["a"]


ERRORS = [getattr(module, name) for module in (exceptions, errors) for name in module.__all__]
ERRORS = [kind for kind in ERRORS if isinstance(kind, type)]


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_every_error_comes_back_as_it_was(kind: type[exceptions.PostHogError]) -> None:
    error = kind(
        "what happened", status=429, detail="d", code="c", attempts=2, query_id="q", retry_after=1.5, scope="s"
    )
    again = read_error(json.loads(encode_error(error)))
    assert (type(again), str(again), vars(again)) == (kind, str(error), vars(error))


@pytest.mark.parametrize(
    "told",
    [
        None,
        {},
        {"error": "text"},
        {"error": {}},
        {"error": {"kind": "OSError"}},
        {"error": {"kind": "class_for_status"}},
        {"error": {"kind": ["QueryError"]}},
        {"error": {"kind": "__builtins__", "message": None, "facts": 5}},
    ],
)
def test_what_is_no_error_of_the_driver_is_one_of_the_sandbox(told: Any) -> None:
    assert type(read_error(told)) is SandboxRunError


def test_facts_of_a_wrong_type_or_name_are_left_out() -> None:
    facts = {"status": "400", "retry_after": True, "position": 5, "args": [1], "fix": ["x"], "hint": "h"}
    error = read_error({"error": {"kind": "QueryError", "message": "m", "facts": facts}})
    assert vars(error) == {"position": 5, "hint": "h"}


def test_no_key_comes_through_in_either_direction() -> None:
    key = "phx_" + "0123456789" * 3
    encoded = encode_error(QueryError(f"wrong {key}", detail=f"said {key}"))
    assert key.encode() not in encoded
    error = read_error({"error": {"kind": "QueryError", "message": key, "facts": {"hint": key}}})
    assert key not in f"{error} {vars(error)}"


def test_a_message_has_a_readable_length() -> None:
    assert len(str(read_error({"error": {"kind": "QueryError", "message": "x" * 100_000}}))) == 5_000


@pytest.mark.parametrize("kind", [RateLimitError, ValidationError])
def test_the_classes_stay_told_apart(kind: type[exceptions.PostHogError]) -> None:
    assert type(read_error(json.loads(encode_error(kind("x"))))) is kind
