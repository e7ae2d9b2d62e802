"""Statuses other than 200: which are tried again, after how long, and what they are called in the end."""

from __future__ import annotations

from email.utils import formatdate
from typing import Any

import pytest

from posthog_driver.exceptions import (
    AuthenticationError,
    AuthorizationError,
    ObjectNotFoundError,
    PostHogError,
    QueryError,
    QueryTimeoutError,
    QueryTooHeavyError,
    QuotaError,
    RateLimitError,
    ServerError,
    TimeoutError,
)
from posthog_driver.testing import (
    FakeClock,
    FaultServer,
    Reply,
    answer,
    error_body,
    hang_up,
    query_answer,
    query_status,
    reset,
)

ROWS = query_answer([[1]], ["n"])
OK = answer(200, ROWS)


def refusal(status: int, detail: str, **headers: str) -> Reply:
    return answer(status, error_body(status, detail), {k.replace("_", "-"): v for k, v in headers.items()})


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, QueryError),
        (401, AuthenticationError),
        (402, QuotaError),
        (403, AuthorizationError),
        (404, ObjectNotFoundError),
        (405, QueryError),
        (409, QueryError),
        (413, QueryError),
        (418, QueryError),
        (512, QueryTooHeavyError),
        (513, QueryTooHeavyError),
    ],
)
def test_a_refusal_is_told_once_and_in_the_server_s_words(
    status: int, kind: type[PostHogError], connect: Any, fails: Any, fault_server: FaultServer
) -> None:
    fault_server.then(refusal(status, "The reason is this."))
    with fails(kind, match="The reason is this") as caught:
        connect().query("SELECT 1")
    assert type(caught.value) is kind
    assert (caught.value.status, caught.value.detail) == (status, "The reason is this.")
    assert caught.value.attempts == 1
    assert len(fault_server.requests) == 1


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(["one", "two"], id="a list"),
        pytest.param({"query": ["This field is required."]}, id="fields"),
        pytest.param(error_body(400, None), id="no detail"),
        pytest.param({"detail": {"query": ["bad"]}}, id="detail is a dict"),
        pytest.param({"detail": 7, "code": ["x"]}, id="detail is a number"),
        pytest.param({"query_status": None}, id="no status"),
        pytest.param({"extra": {"hogql_metadata": {"errors": ["x", {"start": "1"}]}}}, id="odd metadata"),
        pytest.param({"extra": [], "detail": []}, id="odd extra"),
        pytest.param("<!doctype html><body><h1>Bad request</h1></body>", id="HTML"),
        pytest.param(b"\x00\x01\xff\xfe", id="binary"),
        pytest.param(None, id="null"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_a_refusal_of_any_shape_is_a_query_error(
    body: Any, connect: Any, fails: Any, fault_server: FaultServer
) -> None:
    fault_server.then((400, body))
    with fails(QueryError) as caught:
        connect().query("SELECT 1")
    assert caught.value.status == 400
    assert len(fault_server.requests) == 1


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_in_seconds_is_the_least_that_is_waited(
    status: int, connect: Any, fault_server: FaultServer, fake_clock: FakeClock
) -> None:
    fault_server.then(refusal(status, "Slow down", Retry_After="17"), OK)
    assert connect().query("SELECT 1") == [{"n": 1}]
    assert len(fake_clock.sleeps) == 1
    assert 17 <= fake_clock.sleeps[0] <= 120


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_as_a_date_is_the_least_that_is_waited(
    status: int, connect: Any, fault_server: FaultServer, fake_clock: FakeClock
) -> None:
    date = formatdate(fake_clock.wall() + 25, usegmt=True)
    fault_server.then(refusal(status, "Slow down", Retry_After=date), OK)
    assert connect().query("SELECT 1") == [{"n": 1}]
    assert len(fake_clock.sleeps) == 1
    assert 24 <= fake_clock.sleeps[0] <= 120


@pytest.mark.parametrize(
    "value",
    ["0", "-5", "nan", "", "soon", "1e", "0x10", "Wed, 21 Oct 2015 07:28:00 GMT", "Wed, 99 Foo 2015", "7, 8"],
)
def test_a_retry_after_that_says_nothing_leaves_our_own_wait(
    value: str, connect: Any, fault_server: FaultServer, fake_clock: FakeClock
) -> None:
    fault_server.then(refusal(429, "Slow down", Retry_After=value), OK)
    assert connect().query("SELECT 1") == [{"n": 1}]
    assert len(fake_clock.sleeps) == 1
    assert 1 <= fake_clock.sleeps[0] <= 3


@pytest.mark.parametrize("value", ["3600", "86400", "Wed, 15 Nov 2023 22:13:20 GMT"])
def test_a_wait_that_nobody_sits_out_is_an_error_at_once(
    value: str, connect: Any, fails: Any, fault_server: FaultServer, fake_clock: FakeClock
) -> None:
    fault_server.then(refusal(429, "Slow down", Retry_After=value))
    with fails(RateLimitError) as caught:
        connect().query("SELECT 1")
    assert (caught.value.retry_after or 0) >= 3600
    assert fake_clock.sleeps == []
    assert len(fault_server.requests) == 1


@pytest.mark.parametrize("value", ["inf", "-inf", "1e30", "9" * 30, "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_a_retry_after_beyond_numbers_is_an_error_or_our_own_wait(
    value: str, connect: Any, fails: Any, fault_server: FaultServer, fake_clock: FakeClock
) -> None:
    fault_server.default = refusal(429, "Slow down", Retry_After=value)
    with fails(RateLimitError):
        connect().query("SELECT 1")
    assert all(1 <= wait <= 120 for wait in fake_clock.sleeps)


def test_too_many_requests_for_ever_is_a_rate_limit_error(
    connect: Any, fails: Any, fault_server: FaultServer, fake_clock: FakeClock
) -> None:
    fault_server.default = refusal(429, "Request was throttled.", Retry_After="2")
    with fails(RateLimitError, match="Request was throttled") as caught:
        connect(max_retries=3).query("SELECT 1")
    assert caught.value.retry_after == 2
    assert len(fault_server.requests) == caught.value.attempts == 3
    assert len(fake_clock.sleeps) == 2


@pytest.mark.parametrize("status", [408, 500, 501, 502, 503, 520, 599])
def test_trouble_that_passes_costs_one_wait(
    status: int, connect: Any, fault_server: FaultServer, fake_clock: FakeClock
) -> None:
    fault_server.then(refusal(status, "Moment"), OK)
    assert connect().query("SELECT 1") == [{"n": 1}]
    assert len(fake_clock.sleeps) == 1
    assert 1 <= fake_clock.sleeps[0] <= 2.2
    assert len(fault_server.requests) == 2


@pytest.mark.parametrize("status", [500, 501, 502, 503, 599])
def test_trouble_that_stays_ends_after_the_last_attempt_without_a_wait(
    status: int, connect: Any, fails: Any, fault_server: FaultServer, fake_clock: FakeClock
) -> None:
    fault_server.default = refusal(status, "Out of order")
    with fails(ServerError, match="Out of order") as caught:
        connect(max_retries=4).query("SELECT 1")
    assert (caught.value.status, caught.value.attempts) == (status, 4)
    assert len(fault_server.requests) == 4
    assert len(fake_clock.sleeps) == 3


def test_a_request_that_took_the_server_too_long_to_receive_is_a_timeout_in_the_end(
    connect: Any, fails: Any, fault_server: FaultServer
) -> None:
    fault_server.default = refusal(408, "Too slow")
    with fails(TimeoutError):
        connect(max_retries=2).query("SELECT 1")
    assert [request.method for request in fault_server.requests].count("POST") == 2


class TestAQueryThatTookTooLong:
    def test_goes_on_asynchronously(self, connect: Any, fault_server: FaultServer) -> None:
        working = query_status("q")
        fault_server.then(refusal(504, "Too long"), (202, working), (200, query_status("q", results=ROWS)))
        assert connect().query("SELECT 1") == [{"n": 1}]
        first, second, poll = fault_server.requests
        assert first.json.get("refresh") != second.json["refresh"]
        assert "async" in second.json["refresh"]
        assert first.json["query"] == second.json["query"]
        assert poll.method == "GET"

    def test_may_be_answered_at_once_the_second_time(self, connect: Any, fault_server: FaultServer) -> None:
        fault_server.then(refusal(504, "Too long"), OK)
        assert connect().query("SELECT 1") == [{"n": 1}]

    def test_and_again_ends_in_a_timeout_of_the_query(
        self, connect: Any, fails: Any, fault_server: FaultServer
    ) -> None:
        fault_server.default = refusal(504, "Too long")
        with fails(QueryTimeoutError, match="Too long"):
            connect().query("SELECT 1")
        assert [request.method for request in fault_server.requests].count("POST") == 2

    def test_is_a_timeout_of_the_query_when_only_one_attempt_is_allowed(
        self, connect: Any, fails: Any, fault_server: FaultServer
    ) -> None:
        fault_server.then(refusal(504, "Too long"))
        with fails(QueryTimeoutError):
            connect(max_retries=1).query("SELECT 1")
        assert [request.method for request in fault_server.requests].count("POST") == 1


def test_a_gateway_timeout_elsewhere_is_tried_again(connect: Any, fault_server: FaultServer) -> None:
    fault_server.then(refusal(504, "Gateway"), (200, {"id": 1}))
    assert connect().request("/api/projects/1/cohorts/1/") == {"id": 1}


def test_a_long_page_of_a_proxy_becomes_a_short_message(connect: Any, fails: Any, fault_server: FaultServer) -> None:
    page = "<html><head><title>502 Bad Gateway</title></head>" + "<p>nothing</p>" * 8_000
    fault_server.then((502, page), (502, "x" * 100_000))
    for words in ("502 Bad Gateway", "xxx"):
        with fails(ServerError, match=words):
            connect(max_retries=1).query("SELECT 1")


@pytest.mark.parametrize("tries", [0, 1])
def test_no_retries_means_one_attempt(
    tries: int, connect: Any, fails: Any, fault_server: FaultServer, fake_clock: FakeClock
) -> None:
    fault_server.then(refusal(503, "Busy"))
    with fails(ServerError):
        connect(max_retries=tries).query("SELECT 1")
    assert len(fault_server.requests) == 1
    assert fake_clock.sleeps == []


@pytest.mark.parametrize("fault", [reset(), hang_up(), answer(503), answer(429, b"", {"Retry-After": "1"})])
def test_nothing_below_multiplies_the_attempts(
    fault: Reply, connect: Any, fails: Any, fault_server: FaultServer
) -> None:
    client = connect(max_retries=3)
    fault_server.default = fault
    with fails():
        client.query("SELECT 1")
    assert len(fault_server.requests) == 3
