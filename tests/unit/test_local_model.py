"""What the query endpoint of the embedded PostHog accepts, and the values that travel inside its server."""

from __future__ import annotations

from typing import Any

import pytest

from posthog_driver.local import errors, questions
from posthog_driver.local.errors import ApiError
from posthog_driver.local.limits import CLOUD, Gate, Limits, Throttle, choose
from posthog_driver.local.model import QueryRequest
from posthog_driver.local.model_checks import compiled, fields_of
from posthog_driver.local.model_kinds import ELSEWHERE, MODELS, REQUESTS
from posthog_driver.local.wire import Request, Response, parse_json

SQL = {"kind": "HogQLQuery", "query": "SELECT 1"}
TREND = {"kind": "TrendsQuery", "series": [{"kind": "EventsNode", "event": "$pageview"}]}


def refusal(body: Any) -> ApiError:
    with pytest.raises(ApiError) as caught:
        QueryRequest.parse(body)
    assert caught.value.status == 400
    return caught.value


@pytest.mark.parametrize(
    ("body", "place", "reason"),
    [
        ([], "", "type=model_type"),
        ({}, "query", "type=missing"),
        ({"query": None}, "query", "type=dict_type"),
        ({"query": {}}, "query", "type=union_tag_not_found"),
        ({"query": {"kind": "HogQLQuery"}}, "query.HogQLQuery.query", "type=missing"),
        ({"query": {**SQL, "query": 5}}, "query.HogQLQuery.query", "type=string_type"),
        ({"query": {**SQL, "query": None}}, "query.HogQLQuery.query", "type=string_type"),
        ({"query": {**SQL, "limit": 5}}, "query.HogQLQuery.limit", "Extra inputs are not permitted [type=extra"),
        ({"query": {**SQL, "values": []}}, "query.HogQLQuery.values", "type=dict_type"),
        ({"query": {**SQL, "version": True}}, "query.HogQLQuery.version", "type=float_type"),
        ({"query": {**SQL, "filters": {"dateRange": {"from": 1}}}}, "query.HogQLQuery.filters.dateRange.from",
         "type=extra_forbidden"),
        ({"query": {**SQL, "filters": {"properties": {}}}}, "query.HogQLQuery.filters.properties", "type=list_type"),
        ({"query": {**SQL, "filters": {"properties": [1]}}}, "query.HogQLQuery.filters.properties.0",
         "instance of EventPropertyFilter [type=model_type"),
        ({"query": {**SQL, "kind": "SqlQuery"}}, "query", "Input tag 'SqlQuery' found using 'kind' does not match"),
        ({"query": {**TREND, "series": [{"event": "x"}]}}, "query.TrendsQuery.series.0", "type=union_tag_not_found"),
        ({"query": {**TREND, "series": {}}}, "query.TrendsQuery.series", "type=list_type"),
        ({"query": {**TREND, "interval": "year"}}, "query.TrendsQuery.interval", "'week' or 'month' [type=enum"),
        ({"query": {**TREND, "properties": [{"type": "pet", "key": "x"}]}}, "query.TrendsQuery.properties.0",
         "Input tag 'pet' found using 'type' does not match any of the expected tags: 'event', "),
        ({"query": {**TREND, "breakdownFilter": {"breakdown": {}}}}, "query.TrendsQuery.breakdownFilter.breakdown.str",
         "type=string_type"),
        ({"query": {"kind": "ActorsQuery", "limit": 1.5}}, "query.ActorsQuery.limit", "type=int_from_float"),
        ({"query": {"kind": "ActorsQuery", "limit": 10**30}}, "query.ActorsQuery.limit", "type=less_than_equal"),
        ({"query": {"kind": "ActorsQuery", "offset": -(10**30)}}, "query.ActorsQuery.offset", "type=greater_than_"),
        ({"query": {"kind": "ActorsQuery", "source": 5}}, "query.ActorsQuery.source", "InsightActorsQuery [type=model"),
        ({"query": SQL, "refresh": True}, "refresh", "'lazy_async' [type=enum, input_value=True"),
        ({"query": {**SQL, "variables": {"1": {"value": 1}}}}, "query.HogQLQuery.variables.1.code_name",
         "type=missing"),
        ({"query": {**SQL, "variables": []}}, "query.HogQLQuery.variables", "type=dict_type"),
        ({"query": SQL, "typo": 1}, "typo", "type=extra_forbidden, input_value=1, input_type=int]"),
        ({"query": SQL, "refresh": "yes"}, "refresh", "'force_cache' or 'lazy_async' [type=enum"),
        ({"query": SQL, "async": "yes"}, "async", "type=bool_type"),
        ({"query": SQL, "name": "x" * 129}, "name", "at most 128 characters [type=string_too_long"),
        ({"query": SQL, "client_query_id": 7}, "client_query_id", "type=string_type"),
        ({"query": SQL, "limit_context": "export"}, "limit_context", "Input should be 'posthog_ai' [type=enum"),
        ({"query": {"kind": "HogQLMetadata", "query": "x"}}, "query.HogQLMetadata.language", "type=missing"),
    ],
)  # fmt: skip
def test_a_body_that_does_not_fit_the_model_is_a_parse_error(body: Any, place: str, reason: str) -> None:
    error = refusal(body)

    assert (error.kind, error.code) == ("invalid_request", "parse_error")
    assert error.detail.startswith("JSON parse error - ")
    assert f"\n{place}\n" in error.detail
    assert reason in error.detail


def test_every_declared_type_is_known() -> None:
    declared = {(model, name, field.type) for model in MODELS for name, field in fields_of(model).items()}

    assert len(declared) > 500
    with pytest.raises(KeyError, match="no type or model Nothing"):
        compiled("Nothing")
    for _, _, type_ in sorted(declared):
        list(compiled(type_)((), None))


def test_every_problem_of_a_body_is_reported_at_once() -> None:
    detail = refusal({"query": {**SQL, "a": 1}, "b": "x" * 200}).detail

    assert "2 validation errors for QueryRequest" in detail
    assert len(detail) < 500


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"query": {"kind": "VectorSearchQuery", "embedding": []}}, "does not have query kind VectorSearchQuery"),
        ({"query": {"kind": "HogQLMetadata", "query": "x", "language": "hog"}}, "language hog"),
        ({"query": {**SQL, "explain": True}}, "explain of HogQLQuery"),
        ({"query": {**SQL, "connectionId": "x"}}, "connectionId"),
        ({"query": {**TREND, "response": {}}}, "response of TrendsQuery"),
        ({"query": SQL, "limit_context": "posthog_ai"}, "limit_context"),
        ({"query": {**SQL, "modifiers": {"convertToProjectTimezone": False}}}, "convertToProjectTimezone"),
        ({"query": {"kind": "TrendsQuery", "series": [{"kind": "DataWarehouseNode"}]}}, "DataWarehouseNode"),
        ({"query": {"kind": "DataTableNode", "source": {"kind": "EventsNode"}}}, "EventsNode as a query"),
        ({"query": {"kind": "ActorsQuery", "source": {**SQL, "connectionId": "x"}}}, "connectionId of HogQLQuery"),
    ],
)
def test_what_only_the_embedded_server_lacks_is_refused_by_name(body: Any, words: str) -> None:
    error = refusal(body)

    assert (error.kind, error.code) == ("validation_error", "invalid_input")
    assert words in error.detail


@pytest.mark.parametrize(
    ("refresh", "mode"),
    [
        ({}, "blocking"),
        ({"refresh": "force_cache"}, "blocking"),
        ({"refresh": "force_blocking"}, "force_blocking"),
        ({"refresh": "force_async"}, "force_async"),
        ({"refresh": "blocking", "async": True}, "async"),
    ],
)
def test_the_refresh_mode_is_read_as_posthog_reads_it(refresh: dict[str, Any], mode: str) -> None:
    assert QueryRequest.parse({"query": SQL, **refresh}).refresh == mode


def test_a_whole_request_is_read() -> None:
    tags = {"name": "x", "productKey": None}
    request = QueryRequest.parse(
        {"query": {**SQL, "tags": tags, "explain": False}, "client_query_id": "q", "name": "n"}
    )

    assert (request.kind, request.query_id, request.query["query"]) == ("HogQLQuery", "q", "SELECT 1")


BROWSER = {"key": "$browser", "value": "Chrome", "operator": "exact", "type": "event"}
PLAN = {"key": "plan", "value": "free", "operator": "exact", "type": "person"}


def overridden(query: dict[str, Any], override: dict[str, Any]) -> dict[str, Any]:
    return dict(QueryRequest.parse({"query": query, "filters_override": override}).query)


def test_variables_of_a_dashboard_replace_those_of_the_query() -> None:
    variable = {"variableId": "1", "code_name": "a"}
    overrides = {"1": {**variable, "value": 5}, "2": variable}

    found = QueryRequest.parse({"query": {**SQL, "variables": {"1": variable}}, "variables_override": overrides}).query

    assert (found["variables"]["1"]["value"], list(found["variables"])) == (5, ["1", "2"])


def test_a_dashboards_range_replaces_both_ends_and_its_properties_come_on_top() -> None:
    override = {"date_to": "-1d", "date_from": None, "properties": [PLAN]}
    own = {"dateRange": {"date_from": "-7d"}, "properties": [BROWSER]}
    dates = {"date_from": None, "date_to": "-1d"}

    assert overridden({**SQL, "filters": own}, override)["filters"] == {
        "dateRange": dates,
        "properties": [BROWSER, PLAN],
    }
    assert overridden(SQL, override)["filters"] == {"dateRange": dates, "properties": [PLAN]}
    trend = overridden({**TREND, **own}, override)
    assert (trend["dateRange"], trend["properties"]) == (dates, [BROWSER, PLAN])


def test_a_dashboards_properties_are_joined_by_and_to_a_group_of_the_query() -> None:
    group = {"type": "OR", "values": [{"type": "AND", "values": [BROWSER]}]}

    found = overridden({**TREND, "properties": group}, {"properties": [PLAN]})["properties"]

    assert found == {"type": "AND", "values": [group, {"type": "AND", "values": [PLAN]}]}


def test_a_list_of_events_takes_a_dashboards_range_as_its_ends() -> None:
    found = overridden({"kind": "EventsQuery", "select": ["*"], "after": "-1h"}, {"date_from": "-7d"})

    assert (found["after"], found["before"]) == ("-7d", None)


def test_a_dashboards_breakdown_replaces_that_of_an_insight_and_is_nothing_to_other_kinds() -> None:
    override = {"breakdown_filter": {"breakdown": "plan", "breakdown_type": "person"}}

    assert overridden(TREND, override)["breakdownFilter"] == override["breakdown_filter"]
    assert "breakdownFilter" not in overridden({"kind": "TeamTaxonomyQuery"}, override)
    assert "dateRange" not in overridden({"kind": "TeamTaxonomyQuery"}, {"date_from": "-7d"})


def test_a_wrapper_gives_the_query_that_it_shows() -> None:
    assert QueryRequest.parse({"query": {"kind": "InsightVizNode", "source": TREND, "full": True}}).query == TREND
    assert QueryRequest.parse({"query": {"kind": "DataVisualizationNode", "source": SQL}}).kind == "HogQLQuery"


def nested(levels: int) -> dict[str, Any]:
    node: dict[str, Any] = {"type": "AND", "values": []}
    for _ in range(levels):
        node = {"type": "AND", "values": [node]}
    return {**TREND, "properties": node}


@pytest.mark.parametrize("body", [{"query": nested(1000)}, {"query": {**SQL, "values": {"a": nested(300)}}}])
def test_a_body_nested_too_deeply_is_refused_before_anything_walks_it(body: dict[str, Any]) -> None:
    error = refusal(body)

    assert "type=recursion_loop" in error.detail
    assert len(error.detail) < 500


def test_groups_may_be_nested_as_deep_as_people_do() -> None:
    assert QueryRequest.parse({"query": nested(20)}).kind == "TrendsQuery"


@pytest.mark.parametrize(
    "query",
    [
        {**TREND, "series": [5] * 200_000},
        {**TREND, "properties": [{}, *[{"key": 1}] * 200_000]},
        {**TREND, "breakdownFilter": {"breakdown": [{}] * 200_000}},
        {**SQL, "x" * 5_000_000: 1},
        {**SQL, "kind": "y" * 5_000_000},
        {**SQL, "filters": "z" * 5_000_000},
    ],
)
def test_a_huge_body_gives_a_short_refusal(query: dict[str, Any]) -> None:
    assert len(refusal({"query": query}).detail) < 30_000


@pytest.mark.parametrize(
    ("name", "status", "code"),
    [
        ("TIMEOUT_EXCEEDED", 504, "error"),
        ("TOO_SLOW", 512, "error"),
        ("MEMORY_LIMIT_EXCEEDED", 513, "clickhouse_memory_limit_exceeded"),
        ("TOO_MANY_SIMULTANEOUS_QUERIES", 503, "error"),
        ("QUERY_WAS_CANCELLED", 400, "query_was_cancelled"),
        ("TYPE_MISMATCH", 400, "type_mismatch"),
        ("LOGICAL_ERROR", 500, "error"),
    ],
)
def test_an_error_of_the_engine_has_posthogs_status_and_code(name: str, status: int, code: str) -> None:
    error = errors.from_engine(name, "the engine's text")

    assert (error.status, error.code) == (status, code)
    assert ("the engine's text" in error.detail) is (code == "type_mismatch")


def test_extra_is_part_of_a_body_only_when_there_is_some() -> None:
    plain = errors.forbidden("no")

    assert plain.body() == {
        "type": "authentication_error",
        "code": "permission_denied",
        "detail": "no",
        "attr": None,
    }
    assert ApiError(400, "a", "b", "c", extra={"x": 1}).body()["extra"] == {"x": 1}


def test_a_window_lets_in_what_it_promises_and_says_when_it_is_free_again() -> None:
    now = [100.0]
    throttle = Throttle(((2, 10.0), (3, 60.0)), lambda: now[0])

    throttle.admit()
    now[0] = 105.0
    throttle.admit()
    assert wait_of(throttle) == ("5", "Request was throttled. Expected available in 5 seconds.")
    now[0] = 109.5
    assert wait_of(throttle) == ("1", "Request was throttled. Expected available in 1 second.")
    now[0] = 110.0
    throttle.admit()
    assert wait_of(throttle)[0] == "50"


def wait_of(throttle: Throttle) -> tuple[str, str]:
    with pytest.raises(ApiError) as caught:
        throttle.admit()
    assert (caught.value.status, caught.value.code) == (429, "throttled")
    return caught.value.headers["Retry-After"], caught.value.detail


def test_the_gate_refuses_one_too_many_without_retry_after_and_frees_its_slots() -> None:
    gate = Gate(Limits(running=1, queue_seconds=0.0))

    with gate.slot(), pytest.raises(ApiError) as caught, gate.slot():
        raise AssertionError("a second query ran")
    with gate.slot():
        pass

    assert (caught.value.status, caught.value.code, caught.value.headers) == (429, "throttled", {})


def test_limits_are_none_the_clouds_or_ones_own() -> None:
    own = Limits(running=1)

    assert (choose(None), choose("cloud"), choose(own)) == (None, CLOUD, own)
    with pytest.raises(ValueError, match="got 'moon'"):
        choose("moon")


def test_a_request_reads_its_parameters_as_django_does() -> None:
    request = Request.parse("GET", "/a%20b/?x=1&x=2&yes&no=false&n=7&bad=-1&list=[1]", {"X-Y": "z"})

    assert (request.path, request.headers) == ("/a b/", {"x-y": "z"})
    assert (request.param("x"), request.param("none"), request.param("none", "d")) == ("2", "", "d")
    assert (request.flag("yes"), request.flag("no"), request.flag("none")) == (True, False, None)
    assert (request.number("n", 1), request.number("bad", 1), request.number("none", 1)) == (7, 1, 1)
    assert (request.list_param("list"), request.list_param("none")) == ([1], [])
    assert request.url_with(x=3).startswith("http://127.0.0.1/a%20b/?x=3&")


def test_a_body_must_be_json_and_an_entity_an_object() -> None:
    assert Request("POST", "/").json() == {}
    with pytest.raises(ApiError) as caught:
        Request("POST", "/", body=b"[]").json_object()
    assert caught.value.detail == "Invalid data. Expected a dictionary, but got list."
    with pytest.raises(ApiError) as caught:
        parse_json(b'{"a": 1' + b"0" * 5000 + b"}")
    assert caught.value.code == "parse_error"


def test_a_response_is_json_text_or_nothing() -> None:
    assert Response(200, {"a": [1]}).encode() == ("application/json", b'{"a":[1]}')
    assert Response(400, "no").encode() == ("text/plain; charset=utf-8", b"no")
    assert Response(204).encode() == ("text/plain; charset=utf-8", b"")


def test_every_kind_that_is_accepted_is_answered() -> None:
    answered = {*questions.KINDS, "HogQLQuery", "HogQLMetadata", "HogQLAutocomplete", "DatabaseSchemaQuery"}

    assert set(REQUESTS) - {"InsightVizNode", "DataTableNode", "DataVisualizationNode"} == answered
    assert not set(REQUESTS) & ELSEWHERE
