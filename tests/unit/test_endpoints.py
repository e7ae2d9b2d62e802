"""Requests as values, answers as values, and the life of a query between the two."""

from __future__ import annotations

import datetime
import decimal
import logging
import math
import uuid
from collections import OrderedDict
from collections.abc import Callable
from enum import IntEnum
from types import MappingProxyType
from typing import Any

import pytest

from posthog_driver import exceptions as errors
from posthog_driver._models import ApiRequest
from posthog_driver.endpoints import (
    MAX_ROWS,
    QueryOptions,
    Runner,
    new_uuid,
    parse_answer,
    parse_cancel,
    parse_query,
    plan_ask,
    plan_async,
    plan_cancel,
    plan_cancel_id,
    plan_node,
    plan_poll,
    plan_query,
    run_node,
    run_query,
    sendable_text,
    to_json_value,
)
from posthog_driver.exceptions import QueryError, ResponseFormatError, ValidationError
from posthog_driver.testing import FakeClock

BODY = {"columns": ["n"], "results": [[1], [2]], "types": [["n", "UInt64"]], "hasMore": None}


def running(**more: Any) -> dict[str, Any]:
    return {"query_status": {"id": "running-1", "complete": False, **more}}


def done(results: Any = BODY, **more: Any) -> dict[str, Any]:
    return {"query_status": {"id": "running-1", "complete": True, "results": results, **more}}


class TestPlan:
    def test_a_query_is_a_post_of_a_hogql_node(self) -> None:
        options = QueryOptions(timeout=5.0, deadline=99.0)
        request = plan_query("1", "SELECT {a}", {"a": {1}}, options)
        assert (request.method, request.path, request.scope) == ("POST", "/api/projects/1/query/", "query")
        assert (request.timeout, request.deadline, request.idempotent) == (5.0, 99.0, True)
        assert request.json == {
            "query": {"kind": "HogQLQuery", "query": "SELECT {a}", "values": {"a": [1]}},
            "client_query_id": request.query_id,
            "name": "posthog_driver",
            "refresh": "blocking",
        }

    def test_options_go_where_posthog_wants_them(self) -> None:
        options = QueryOptions(True, "n" * 128, {"dateRange": {}}, {"v": {"code_name": "x"}})
        body = plan_query("1", "SELECT {variables.x} WHERE {filters}", None, options).json
        assert (body["refresh"], body["name"]) == ("force_blocking", "n" * 128)
        assert body["query"]["filters"] == {"dateRange": {}}
        assert body["query"]["variables"] == {"v": {"code_name": "x"}}

    def test_the_callers_values_are_not_changed_and_may_be_any_mapping(self) -> None:
        values = MappingProxyType({"a": [datetime.date(2024, 1, 2)]})
        assert plan_query("1", "SELECT {a}", values).json["query"]["values"] == {"a": ["2024-01-02"]}
        assert values["a"] == [datetime.date(2024, 1, 2)]

    @pytest.mark.parametrize("hogql", ["", " \n", None, 5, b"SELECT 1", ["SELECT 1"]])
    def test_what_is_no_text_is_refused(self, hogql: Any) -> None:
        with pytest.raises(ValidationError, match="empty or not text"):
            plan_query("1", hogql)

    def test_placeholders_and_values_must_match(self) -> None:
        with pytest.raises(ValidationError, match=r"no value for \{a\}"):
            plan_query("1", "SELECT {a}")
        with pytest.raises(ValidationError, match="no placeholder in the query for the value 'a'"):
            plan_query("1", "SELECT 1", {"a": 1})

    @pytest.mark.parametrize("root", ["filters", "variables"])
    def test_filters_that_posthog_would_ignore_are_refused(self, root: str) -> None:
        given: dict[str, Any] = {root: {"x": 1}}
        options = QueryOptions(**given)
        with pytest.raises(ValidationError, match=f"no placeholder for {root}"):
            plan_query("1", f"SELECT '{{{root}.x}}'", None, options)
        for text in (f"SELECT {{{root}.x}}", f"SELECT {{coalesce({root}.x, 1)}}"):
            assert root in plan_query("1", text, None, options).json["query"]

    @pytest.mark.parametrize("name", ["n" * 129, 5, b"name"])
    def test_a_name_that_posthog_would_refuse_is_refused_here(self, name: Any) -> None:
        with pytest.raises(ValidationError, match=r"text of 128 characters at most.*Nothing was sent") as caught:
            plan_query("1", "SELECT 1", None, QueryOptions(name=name))
        assert len(str(caught.value)) < 200

    @pytest.mark.parametrize("text", ["SELECT '\ud800'", "SELECT {a}"])
    def test_text_that_is_no_unicode_is_refused(self, text: str) -> None:
        with pytest.raises(ValidationError, match="lone surrogate"):
            plan_query("1", text, {"a": "\udfff"} if "{a}" in text else None)

    def test_text_that_is_unicode_stays_and_what_is_not_is_named(self) -> None:
        assert sendable_text("it's \U0001f600") == "it's \U0001f600"
        with pytest.raises(ValidationError, match="The name of the event holds a lone surrogate at 1"):
            sendable_text("a\ud800", "The name of the event")

    def test_any_node_can_be_asked_and_stays_as_it_was(self) -> None:
        node = MappingProxyType({"kind": "DatabaseSchemaQuery"})
        request = plan_node("@current", node)
        assert request.path == "/api/projects/@current/query/"
        assert request.json["query"] == {"kind": "DatabaseSchemaQuery"}

    def test_a_project_stays_one_segment_of_the_path(self) -> None:
        assert plan_node("1/../2?x", {"kind": "x"}).path == "/api/projects/1%2F..%2F2%3Fx/query/"

    def test_every_call_has_its_own_id(self) -> None:
        ids = {plan_query("1", "SELECT 1").query_id for _ in range(100)}
        assert len(ids) == 100

    def test_the_same_query_in_the_background_keeps_its_id_so_that_whoever_knows_it_can_cancel_it(self) -> None:
        request = plan_query("1", "SELECT 1", None, QueryOptions(deadline=9.0))
        later = plan_async(request, 2)
        assert later.json == {**request.json, "refresh": "force_async"}
        assert later.query_id == request.query_id == request.json["client_query_id"]
        assert (later.max_attempts, later.deadline, request.json["refresh"]) == (2, 9.0, "blocking")

    def test_a_query_runs_under_the_id_that_it_is_given(self) -> None:
        request = plan_query("1", "SELECT 1", None, QueryOptions(query_id="mine-1"))
        assert request.query_id == request.json["client_query_id"] == "mine-1"
        assert plan_cancel(request).path == "/api/projects/1/query/mine-1/"

    @pytest.mark.parametrize("query_id", ["", "a/b", "a.b", "a%", "naïve", "x" * 129, 5, "a b", "a\n"])
    def test_an_id_that_no_address_can_hold_is_refused(self, query_id: Any) -> None:
        with pytest.raises(ValidationError, match=r"A query's id is 1 to 128 ASCII letters.* Nothing was sent\."):
            plan_query("1", "SELECT 1", None, QueryOptions(query_id=query_id))
        with pytest.raises(ValidationError, match="A query's id"):
            plan_cancel_id("1", query_id, 5.0, 9.0)

    def test_a_question_is_any_node_with_its_values_as_json(self) -> None:
        node = {"kind": "EventsQuery", "after": datetime.date(2026, 1, 2), "where": ("a",), "select": {"b", "a"}}
        request = plan_ask("1", node, QueryOptions(fresh=True, query_id="mine"))
        assert request.json["query"] == {
            "kind": "EventsQuery",
            "after": "2026-01-02",
            "where": ["a"],
            "select": ["a", "b"],
        }
        assert (request.json["refresh"], request.query_id, request.scope) == ("force_blocking", "mine", "query")

    @pytest.mark.parametrize("body", [None, [], "x", {}, {"kind": 5}, {"kind": ""}, {"query": {"kind": "TrendsQuery"}}])
    def test_what_is_no_node_is_no_question(self, body: Any) -> None:
        with pytest.raises(ValidationError, match=r"a query node such as .*'kind'.* Nothing was sent\."):
            plan_ask("1", body)

    def test_a_cancellation_by_id_waits_for_no_limit_of_queries(self) -> None:
        request = plan_cancel_id("@current", "mine", 5.0, 9.0)
        assert (request.method, request.path) == ("DELETE", "/api/projects/@current/query/mine/")
        assert (request.scope, request.idempotent, request.timeout, request.deadline) == ("crud", True, 5.0, 9.0)

    def test_a_query_is_polled_and_cancelled_by_its_id(self) -> None:
        request = plan_query("1", "SELECT 1")
        poll, cancel = plan_poll(request), plan_cancel(request)
        assert (poll.method, cancel.method) == ("GET", "DELETE")
        assert poll.path == cancel.path == f"/api/projects/1/query/{request.query_id}/"
        assert poll.json is cancel.json is None
        assert (poll.scope, poll.deadline) == (request.scope, request.deadline)
        assert plan_poll(request, "a/b?c").path == "/api/projects/1/query/a%2Fb%3Fc/"


def test_ids_are_random_uuids_of_version_4() -> None:
    made = [new_uuid() for _ in range(200)]
    assert all(str(uuid.UUID(one)) == one and uuid.UUID(one).version == 4 for one in made)
    assert {uuid.UUID(one).variant for one in made} == {uuid.RFC_4122}
    assert len(set(made)) == 200


class TestToJsonValue:
    class Level(IntEnum):
        HIGH = 3

    @pytest.mark.parametrize(
        ("value", "sent"),
        [
            (None, None),
            (True, True),
            ("it's {x}", "it's {x}"),
            (2**64 - 1, 2**64 - 1),
            (-(2**63), -(2**63)),
            (Level.HIGH, 3),
            (0.1, 0.1),
            (datetime.date(2024, 2, 29), "2024-02-29"),
            (datetime.datetime(2024, 1, 2, 3, 4, 5, 6), "2024-01-02T03:04:05.000006+00:00"),
            (
                datetime.datetime(2024, 1, 2, 1, tzinfo=datetime.timezone(datetime.timedelta(hours=3))),
                "2024-01-01T22:00:00+00:00",
            ),
            (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
            (decimal.Decimal("1.5"), 1.5),
            ((1, [2, ("a",)]), [1, [2, ["a"]]]),
            ({3, 1, 2}, [1, 2, 3]),
            (frozenset({"b", "a"}), ["a", "b"]),
            (OrderedDict(a=[1], b={"c": {2}}), {"a": [1], "b": {"c": [2]}}),
        ],
    )
    def test_a_value_becomes_json(self, value: object, sent: object) -> None:
        assert to_json_value(value) == sent
        assert type(to_json_value(value)) in (type(sent), type(value))

    @pytest.mark.parametrize(
        ("value", "why"),
        [
            (math.nan, "no NaN"),
            (-math.inf, "no NaN or infinity"),
            (2**64, "more than 64 bits"),
            (-(2**63) - 1, "more than 64 bits"),
            (decimal.Decimal("0.1234567890123456789"), "losing digits"),
            (decimal.Decimal("NaN"), "losing digits"),
            (decimal.Decimal("sNaN"), "losing digits"),
            (decimal.Decimal("Infinity"), "losing digits"),
            (decimal.Decimal("1e999"), "losing digits"),
            ("\ud800", "lone surrogate at 0"),
            ({1: "a", "1": "b"}, "must be text"),
            ({"a\ud800": 1}, "lone surrogate at 1"),
            (b"x", "type bytes"),
            (object(), "type object"),
            (datetime.timedelta(1), "type timedelta"),
        ],
    )
    @pytest.mark.parametrize("inside", [lambda x: x, lambda x: [x], lambda x: {"k": x}], ids=["bare", "list", "dict"])
    def test_what_would_not_arrive_exactly_is_refused(
        self, value: object, why: str, inside: Callable[[object], object]
    ) -> None:
        with pytest.raises(ValidationError, match=f"{why}.*Nothing was sent"):
            to_json_value(inside(value))

    def test_a_number_too_long_to_print_is_refused_like_any_other(self) -> None:
        with pytest.raises(ValidationError, match="64 bits"):
            to_json_value(10**5000)

    def test_a_value_that_holds_itself_is_refused(self) -> None:
        value: list[Any] = []
        value.append(value)
        with pytest.raises(ValidationError, match="holds itself"):
            to_json_value(value)


REQUEST = plan_query("1", "SELECT 1 LIMIT 5")
UNION = plan_query("1", "SELECT a FROM t UNION ALL SELECT 'limit' FROM u")


class TestParse:
    def test_rows_come_as_dicts_with_all_facts(self) -> None:
        more = {"is_cached": True, "last_refresh": "2024", "timezone": "UTC", "hogql": "SELECT", "limit": 100}
        result = parse_query({**BODY, **more, "warnings": ["stale"], "results::nan!": 1}, REQUEST, 1.5)
        assert result == [{"n": 1}, {"n": 2}]
        assert result.info == (
            *(("n",), ("UInt64",), False, REQUEST.query_id, True, "2024", "UTC", "SELECT", 100, ("stale",), 1.5),
        )

    def test_columns_of_one_name_keep_both_values(self) -> None:
        result = parse_query({"columns": ["x", "x"], "results": [[1, 2]], "types": []}, REQUEST)
        assert result == [{"x": 1, "x_2": 2}]
        assert result.columns == ["x", "x_2"]

    def test_rows_that_are_objects_pass_through_with_all_their_columns(self) -> None:
        result = parse_query({"results": [{"event": "a"}, {"event": "b", "count": 2}]}, REQUEST)
        assert result == [{"event": "a"}, {"event": "b", "count": 2}]
        assert result.columns == ["event", "count"]
        assert parse_query({"columns": ["event"], "results": [{"event": "a"}]}, REQUEST) == [{"event": "a"}]

    @pytest.mark.parametrize("columns", [None, [], ["a"]])
    def test_no_rows_are_a_result(self, columns: list[str] | None) -> None:
        result = parse_query({"columns": columns, "results": []}, REQUEST)
        assert (list(result), result.columns, result.truncated) == ([], columns or [], False)

    @pytest.mark.parametrize(
        ("types", "names"),
        [
            ([["a", "UInt64"], ["b", "String"]], ["UInt64", "String"]),
            (["UInt64", "String"], ["UInt64", "String"]),
            ([[], None], ["[]", "None"]),
            (None, []),
            ("UInt64", []),
            (5, []),
        ],
    )
    def test_types_come_in_two_shapes_and_no_shape_breaks_the_result(self, types: Any, names: list[str]) -> None:
        result = parse_query({"columns": ["a", "b"], "results": [[1, "x"]], "types": types}, REQUEST)
        assert result.types == names

    @pytest.mark.parametrize("data", [None, [], "text", 5, {}, {"results": None}, {"results": {}}, {"results": "ab"}])
    def test_an_answer_without_a_list_of_results_is_an_error(self, data: Any) -> None:
        with pytest.raises(ResponseFormatError, match=r"no list of results|is no object") as caught:
            parse_query(data, REQUEST)
        assert caught.value.query_id == REQUEST.query_id

    @pytest.mark.parametrize(
        "data",
        [
            {"results": [[1]]},
            {"results": [[1]], "columns": "a"},
            {"results": [[1]], "columns": [1]},
            {"results": [{"a": 1}], "columns": 5},
            {"results": [{"a": 1}, [1]]},
        ],
    )
    def test_rows_without_columns_that_fit_are_an_error(self, data: Any) -> None:
        with pytest.raises(ResponseFormatError, match="no columns that fit"):
            parse_query(data, REQUEST)

    @pytest.mark.parametrize("results", [[[1], [1, 2]], [[1], {"n": 2}], [{"n": 2}, [1]], [None], [[]]])
    def test_a_row_that_does_not_fit_is_an_error_and_never_fewer_values(self, results: list[Any]) -> None:
        with pytest.raises(ResponseFormatError, match="nothing of it is returned"):
            parse_query({"columns": ["n"], "results": results}, REQUEST)

    @pytest.mark.parametrize("results", [None, [], [[1]]])
    @pytest.mark.parametrize(("said", "words"), [("no phx_test_key", "no phx_test_key"), ({"a": 1}, '{"a": 1}')])
    def test_an_error_beside_the_results_is_raised(self, results: Any, said: Any, words: str) -> None:
        with pytest.raises(QueryError) as caught:
            parse_query({"columns": ["n"], "results": results, "error": said}, REQUEST)
        if "phx" in words:
            assert "phx_test_key" not in f"{caught.value} {caught.value.detail}"
        else:
            assert caught.value.detail == words

    def test_an_endless_error_is_cut(self) -> None:
        with pytest.raises(QueryError) as caught:
            parse_query({"error": "x" * 100_000}, REQUEST)
        assert len(str(caught.value)) < 3_000


@pytest.mark.parametrize(
    ("data", "stopped"),
    [
        ({"message": "Query cancelled"}, True),
        ({"message": "Query already complete"}, False),
        ({"message": "Query is already running, it was not cancelled"}, False),
        ({"message": "Query not found"}, False),
        ({"success": True, "status_code": 204}, True),
        (None, True),
    ],
)
def test_posthog_says_in_words_whether_it_stopped_something(data: Any, stopped: bool) -> None:
    assert parse_cancel(data) is stopped


def test_an_answer_of_any_kind_is_an_object_without_an_error() -> None:
    assert parse_answer({"isValid": False, "errors": ["x"]}, REQUEST) == {"isValid": False, "errors": ["x"]}
    with pytest.raises(QueryError, match="could not run the query: too much") as caught:
        parse_answer({"error": "too much"}, REQUEST)
    assert caught.value.query_id == REQUEST.query_id
    with pytest.raises(ResponseFormatError, match="is no object"):
        parse_answer([1], REQUEST)


class TestTruncation:
    @pytest.mark.parametrize(
        ("request_", "count", "more", "cut"),
        [
            (REQUEST, 1, {"hasMore": True}, True),
            (REQUEST, 100, {"hasMore": False}, False),
            (REQUEST, 100, {}, False),
            (REQUEST, MAX_ROWS - 1, {}, False),
            (REQUEST, MAX_ROWS, {}, True),
            (UNION, 99, {}, False),
            (UNION, 100, {}, True),
            (UNION, 150, {"hasMore": None}, True),
            (UNION, 150, {"hasMore": False}, False),
            (plan_node("1", {"kind": "EventsQuery"}), 200, {}, False),
            (plan_node("1", {"kind": "EventsQuery"}), 200, {"hasMore": True}, True),
            (ApiRequest("POST", "/x/"), 200, {}, False),
        ],
    )
    def test_a_cut_answer_says_so(
        self, request_: ApiRequest, count: int, more: dict[str, Any], cut: bool, caplog: pytest.LogCaptureFixture
    ) -> None:
        result = parse_query({"columns": ["n"], "results": [[1]] * count, **more}, request_)
        assert (len(result), result.truncated) == (count, cut)
        hogql = request_.json is not None and request_.json["query"]["kind"] == "HogQLQuery"
        assert len(caplog.records) == (1 if cut and hogql else 0)
        for record in caplog.records:
            assert (record.levelno, record.__dict__["rows"]) == (logging.WARNING, count)
            assert "explicit LIMIT" in record.getMessage()


class Server:
    """A scripted one: each send takes the next answer, and an exception is raised."""

    def __init__(self, *answers: Any, clock: FakeClock | None = None) -> None:
        self.answers = list(answers)
        self.sent: list[ApiRequest] = []
        self.cancelled: list[ApiRequest] = []
        self.clock = clock or FakeClock()
        self.runner = Runner(self.clock, self.cancelled.append, max_attempts=3)

    def send(self, request: ApiRequest) -> Any:
        self.sent.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def run(self, deadline: float | None = 60.0) -> Any:
        now = self.clock.monotonic()
        options = QueryOptions(deadline=None if deadline is None else now + deadline)
        return run_query(self.send, self.runner, plan_query("1", "SELECT 1 AS n LIMIT 2", None, options))


def too_slow(attempts: int | None = 1, status: int = 504) -> errors.QueryTimeoutError:
    return errors.QueryTimeoutError("too slow", status=status, attempts=attempts)


class TestLife:
    def test_a_blocking_answer_is_the_result(self) -> None:
        server = Server(BODY)
        assert server.run() == [{"n": 1}, {"n": 2}]
        assert (len(server.sent), server.clock.sleeps, server.cancelled) == (1, [], [])

    def test_time_is_measured_from_the_call_to_the_answer(self) -> None:
        server = Server(running(), done())
        assert server.run().info.elapsed == pytest.approx(sum(server.clock.sleeps))

    @pytest.mark.parametrize("last", [done(), {**BODY, "query_status": {"complete": True}}, BODY])
    def test_a_running_query_is_awaited_and_stale_rows_are_no_answer(self, last: dict[str, Any]) -> None:
        stale = {**running(), "columns": ["n"], "results": [[0]]}
        server = Server(stale, running(), running(), last)
        assert server.run() == [{"n": 1}, {"n": 2}]
        assert [request.method for request in server.sent] == ["POST", "GET", "GET", "GET"]
        assert {request.path for request in server.sent[1:]} == {"/api/projects/1/query/running-1/"}
        assert server.cancelled == []

    @pytest.mark.parametrize("deadline", [1_000.0, None])
    def test_pauses_grow_and_end_at_five_seconds(self, deadline: float | None) -> None:
        server = Server(*[running()] * 20, done())
        server.run(deadline)
        pauses = server.clock.sleeps
        assert pauses[:3] == pytest.approx([0.1, 0.15, 0.225])
        assert pauses == sorted(pauses)
        assert pauses[-1] == 5.0

    def test_without_an_id_in_the_answer_our_own_is_polled(self) -> None:
        server = Server(running(id=None), done())
        server.run()
        assert server.sent[1].path == f"/api/projects/1/query/{server.sent[0].query_id}/"

    def test_a_query_that_never_ends_is_given_up_in_time_and_cancelled(self) -> None:
        server = Server(running())
        start = server.clock.monotonic()
        with pytest.raises(errors.TimeoutError, match=r"still running and its time is up.*\n.*total_timeout"):
            server.run(60.0)
        assert 55 < server.clock.monotonic() - start <= 60
        assert len(server.sent) < 50
        assert [(request.method, request.path) for request in server.cancelled] == [
            ("DELETE", f"/api/projects/1/query/{server.sent[0].query_id}/")
        ]

    @pytest.mark.parametrize("results", [None, "x", {"columns": ["n"]}])
    def test_a_query_that_ends_without_results_is_an_error(self, results: Any) -> None:
        with pytest.raises(ResponseFormatError, match=r"no list of results|is no object"):
            Server(running(), done(results)).run()

    @pytest.mark.parametrize(
        ("status", "words"),
        [
            ({"error": True, "error_message": "no such table"}, "no such table"),
            ({"error": True, "error_message": None}, "PostHog does not say why"),
            ({"error_message": "Bearer phx_test_key"}, r"Bearer .*\.\.\."),
        ],
    )
    def test_a_query_that_fails_is_an_error_with_the_servers_words(self, status: dict[str, Any], words: str) -> None:
        server = Server(running(), done(None, **status))
        with pytest.raises(QueryError, match=f"failed: {words}") as caught:
            server.run()
        assert "phx_test_key" not in f"{caught.value}{caught.value.detail}"
        assert caught.value.query_id == server.sent[0].query_id
        assert server.cancelled == []

    def test_a_query_too_slow_to_block_goes_on_as_an_asynchronous_one(self, caplog: pytest.LogCaptureFixture) -> None:
        server = Server(too_slow(), running(), done())
        result = server.run()
        first, second, poll = server.sent
        assert result == [{"n": 1}, {"n": 2}]
        assert (first.json["refresh"], second.json["refresh"]) == ("blocking", "force_async")
        assert (second.max_attempts, second.deadline) == (2, first.deadline)
        assert result.query_id == second.query_id == first.query_id
        assert poll.max_attempts is None
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert "retry" in caplog.text

    def test_rows_in_the_asynchronous_answer_are_the_answer(self) -> None:
        server = Server(too_slow(), BODY)
        assert server.run() == [{"n": 1}, {"n": 2}]
        assert len(server.sent) == 2

    @pytest.mark.parametrize("error", [too_slow(attempts=3), too_slow(status=512), too_slow(attempts=4)])
    def test_without_a_try_left_or_after_another_status_it_does_not(self, error: errors.PostHogError) -> None:
        server = Server(error)
        with pytest.raises(errors.QueryTimeoutError) as caught:
            server.run()
        assert caught.value is error
        assert (len(server.sent), server.cancelled) == (1, [])

    def test_a_second_504_is_final(self) -> None:
        server = Server(too_slow(attempts=None), too_slow())
        with pytest.raises(errors.QueryTimeoutError):
            server.run()
        assert [request.max_attempts for request in server.sent] == [None, 2]

    @pytest.mark.parametrize("stop", [KeyboardInterrupt(), SystemExit(), errors.TimeoutError("no answer", attempts=3)])
    def test_an_interrupt_or_a_deadline_cancels_what_runs(self, stop: BaseException) -> None:
        server = Server(too_slow(), running(), stop)
        with pytest.raises(type(stop)):
            server.run()
        assert [request.query_id for request in server.cancelled] == [server.sent[1].query_id]

    def test_a_query_whose_state_is_gone_says_why_it_may_be(self) -> None:
        server = Server(running(), errors.ObjectNotFoundError("Not found."))
        with pytest.raises(errors.ObjectNotFoundError, match="for 20 minutes, or until it is cancelled; run it again"):
            server.run()
        assert server.cancelled == []

    def test_what_was_never_sent_is_not_cancelled(self) -> None:
        never = errors.TimeoutError("refused", attempts=1)
        never._never_sent = True
        server = Server(never)
        with pytest.raises(errors.TimeoutError):
            server.run()
        assert server.cancelled == []
        never.attempts = 2  # the attempt before may have arrived
        with pytest.raises(errors.TimeoutError):
            server.run()
        assert len(server.cancelled) == 1

    @pytest.mark.parametrize("error", [QueryError("no"), errors.ServerError("down"), errors.RateLimitError("wait")])
    def test_other_errors_pass_and_cancel_nothing(self, error: errors.PostHogError) -> None:
        server = Server(error)
        with pytest.raises(type(error)):
            server.run()
        assert server.cancelled == []

    def test_the_answer_to_any_node_comes_with_the_request_that_got_it(self) -> None:
        server = Server(too_slow(), done({"tables": {}}))
        request = plan_node("1", {"kind": "DatabaseSchemaQuery"})
        data, sent = run_node(server.send, server.runner, request)
        assert data == {"tables": {}}
        assert sent is server.sent[1]

    @pytest.mark.parametrize("answer", [None, [], "x", {"query_status": "x"}])
    def test_an_answer_of_another_shape_is_no_running_query(self, answer: Any) -> None:
        server = Server(answer)
        with pytest.raises(ResponseFormatError):
            server.run()
        assert len(server.sent) == 1
