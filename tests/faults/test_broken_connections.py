"""Connections that are refused, reset, closed, silent, slow, or that speak no HTTP."""

from __future__ import annotations

import socket
import time
from typing import Any

import pytest

from posthog_driver.exceptions import ConnectionError, PostHogError, ResponseFormatError, TimeoutError
from posthog_driver.testing import (
    FakeClock,
    FaultServer,
    Reply,
    answer,
    cut,
    hang_up,
    query_answer,
    reset,
    silence,
    trickle,
)

ROWS = query_answer([[1]], ["n"])
OK = answer(200, ROWS)
BROKEN = [
    pytest.param(reset(), id="reset before the answer"),
    pytest.param(cut(OK, 12, "reset"), id="reset inside the status line"),
    pytest.param(cut(OK, 40, "reset"), id="reset inside the headers"),
    pytest.param(cut(OK, -30, "reset"), id="reset inside the body"),
    pytest.param(hang_up(), id="closed without an answer"),
    pytest.param(cut(OK, 40), id="closed inside the headers"),
    pytest.param(cut(OK, -30), id="closed inside the body"),
]


def refusing_port() -> socket.socket:
    """A bound socket that does not listen: its port is nobody else's, and refuses connections."""
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    return bound


def test_a_refused_connection_is_tried_as_often_as_allowed(connect: Any, fails: Any, fake_clock: FakeClock) -> None:
    with refusing_port() as port:
        client = connect(api_url=f"http://127.0.0.1:{port.getsockname()[1]}", max_retries=3)
        with fails(ConnectionError) as caught:
            client.query("SELECT 1")
    assert caught.value.attempts == 3
    assert caught.value.__cause__ is not None
    assert len(fake_clock.sleeps) == 2
    assert fake_clock.sleeps[0] >= 1
    assert fake_clock.sleeps[1] >= 2


@pytest.mark.parametrize("fault", BROKEN)
def test_a_query_is_repeated_after_a_broken_connection(
    fault: Reply, connect: Any, fault_server: FaultServer, fake_clock: FakeClock
) -> None:
    fault_server.then(fault, OK)
    assert connect().query("SELECT 1") == [{"n": 1}]
    assert len(fault_server.requests) == 2
    assert fault_server.requests[0].body == fault_server.requests[1].body
    assert len(fake_clock.sleeps) == 1


def test_no_part_of_an_answer_is_taken_for_the_rows(connect: Any, fault_server: FaultServer) -> None:
    client = connect()
    for length in range(len(OK.data)):
        fault_server.then(cut(OK, length), OK)
        assert client.query("SELECT 1") == [{"n": 1}], OK.data[:length]
        assert len(fault_server.requests) == 2, OK.data[:length]
        fault_server.requests.clear()


@pytest.mark.parametrize("fault", BROKEN)
def test_a_connection_that_always_breaks_ends_in_an_error(
    fault: Reply, connect: Any, fails: Any, fault_server: FaultServer
) -> None:
    client = connect(max_retries=2)
    fault_server.then(fault, fault)
    with fails(ConnectionError) as caught:
        client.query("SELECT 1")
    assert caught.value.attempts == 2
    assert caught.value.__cause__ is not None
    assert len(fault_server.requests) == 2


@pytest.mark.parametrize("fault", BROKEN)
def test_an_event_is_repeated_with_its_identity_after_a_broken_connection(
    fault: Reply, connect: Any, fault_server: FaultServer
) -> None:
    fault_server.then(fault, (200, {"status": "Ok"}))
    connect().capture_event("signed up", "user 1")
    first, second = (request.json for request in fault_server.requests)
    assert first == second
    assert first["uuid"]
    assert first["timestamp"]


@pytest.mark.parametrize("fault", [reset(), hang_up()], ids=["reset", "closed"])
def test_a_stale_pooled_connection_costs_one_retry_at_most(
    fault: Reply, connect: Any, fault_server: FaultServer
) -> None:
    client = connect()
    fault_server.then(OK, fault, OK)
    assert client.query("SELECT 1") == [{"n": 1}]
    assert client.query("SELECT 1") == [{"n": 1}]
    assert [request.connection for request in fault_server.requests] == [1, 1, 2]


def test_a_pooled_connection_that_was_closed_meanwhile_costs_nothing(
    connect: Any, fault_server: FaultServer, fake_clock: FakeClock
) -> None:
    client = connect()
    fault_server.then(answer(200, ROWS, end="close"), OK)
    assert client.query("SELECT 1") == [{"n": 1}]
    while fault_server.open_connections:
        time.sleep(0.001)
    assert client.query("SELECT 1") == [{"n": 1}]
    assert [request.connection for request in fault_server.requests] == [1, 2]
    assert fake_clock.sleeps == []


def test_a_silent_server_is_given_up_after_every_attempt_timed_out(
    connect: Any, fails: Any, fault_server: FaultServer
) -> None:
    client = connect(timeout=0.2, max_retries=2)
    fault_server.then(silence(), silence())
    with fails(TimeoutError) as caught:
        client.query("SELECT 1")
    assert caught.value.attempts == 2
    posts = [request for request in fault_server.requests if request.method == "POST"]
    assert len(posts) == 2


def test_a_query_that_timed_out_is_cancelled_on_the_server(connect: Any, fails: Any, fault_server: FaultServer) -> None:
    client = connect(timeout=0.2, max_retries=1)
    fault_server.then(silence())
    with fails(TimeoutError) as caught:
        client.query("SELECT 1")
    post, cancel = fault_server.requests
    assert caught.value.query_id == post.json["client_query_id"]
    assert (cancel.method, cancel.path) == ("DELETE", f"{post.path}{caught.value.query_id}/")


@pytest.mark.parametrize("headers", [True, False], ids=["headers", "body"])
def test_a_byte_now_and_then_does_not_prolong_an_attempt(
    headers: bool, connect: Any, fails: Any, fault_server: FaultServer
) -> None:
    client = connect(timeout=0.3, max_retries=1)
    fault_server.then(trickle(OK, pause=0.1, headers=headers))
    with fails(TimeoutError):
        client.query("SELECT 1")


def test_a_slow_answer_that_comes_in_time_is_read_whole(connect: Any, fault_server: FaultServer) -> None:
    fault_server.then(trickle(OK, pause=0.001, size=7, headers=True))
    assert connect().query("SELECT 1") == [{"n": 1}]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"SSH-2.0-OpenSSH_9.9\r\n", id="SSH"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", id="TLS"),
        pytest.param(b'{"columns": ["n"], "results": [[1]]}', id="HTTP/0.9"),
        pytest.param(OK.data.replace(b"200 OK", b"000 OK"), id="status 000"),
        pytest.param(OK.data.replace(b"200 OK", b"999 OK"), id="status 999"),
        pytest.param(OK.data.replace(b"200 OK", b"2oo OK"), id="status in letters"),
        pytest.param(OK.data.replace(b"200 OK", b"200 OK\r\nContent-Length: 7"), id="two lengths"),
        pytest.param(OK.data.replace(b"200 OK", b"200 OK\r\nX: " + b"x" * 200_000), id="a header of 200 kB"),
        pytest.param(OK.data.replace(b"200 OK", b"200 OK" + b"\r\nX: x" * 300), id="300 headers"),
    ],
)
def test_what_is_not_http_is_an_error(data: bytes, connect: Any, fails: Any, fault_server: FaultServer) -> None:
    client = connect(max_retries=1)
    fault_server.then(Reply(data, "close"), OK)
    with fails(PostHogError) as caught:
        client.query("SELECT 1")
    assert type(caught.value) in (ConnectionError, ResponseFormatError)
    while fault_server.open_connections:
        time.sleep(0.001)
    assert client.query("SELECT 1") == [{"n": 1}]
