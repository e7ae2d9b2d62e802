"""``health_check`` answers yes or no, whatever happens, and asks at most twice."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

from posthog_driver.exceptions import PostHogError
from posthog_driver.testing import (
    FakeClock,
    FaultServer,
    Reply,
    answer,
    chunked,
    error_body,
    gzipped,
    hang_up,
    query_answer,
    query_status,
    redirect,
    reset,
    silence,
    trickle,
)

PROJECT = answer(200, {"id": 1, "name": "Default"})
FORBIDDEN = answer(403, error_body(403, "API key missing required scope 'project:read'"))
ROWS = answer(200, query_answer([[1]], ["1"]))


def test_a_project_is_healthy(connect: Any, fault_server: FaultServer) -> None:
    fault_server.then(PROJECT)
    assert connect().health_check() is True
    assert [request.path for request in fault_server.requests] == ["/api/projects/1/"]


def test_a_key_that_may_only_query_is_healthy_if_it_can(connect: Any, fault_server: FaultServer) -> None:
    fault_server.then(FORBIDDEN, ROWS)
    assert connect().health_check() is True
    assert fault_server.requests[1].json["query"]["query"] == "SELECT 1"


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(reset(), id="reset"),
        pytest.param(hang_up(), id="closed"),
        pytest.param(silence(), id="silence"),
        pytest.param(trickle(PROJECT, pause=0.1), id="trickle"),
        pytest.param(Reply(b"SSH-2.0-OpenSSH_9.9\r\n", "close"), id="not HTTP"),
        pytest.param(redirect("/login"), id="redirect"),
        pytest.param(answer(204), id="204"),
        pytest.param(answer(200, "<html>Sign in</html>"), id="sign-in page"),
        pytest.param(answer(200, b'{"id": 1'), id="broken JSON"),
        pytest.param(answer(200, b"[" * 5_000), id="deep JSON"),
        pytest.param(answer(200, [1]), id="a list"),
        pytest.param(answer(200, None), id="null"),
        pytest.param(chunked({"id": 1}, "unfinished"), id="last chunk missing"),
        pytest.param(gzipped({"id": 1}, "crc"), id="bad checksum"),
        pytest.param(answer(400, b"\xff"), id="400"),
        pytest.param(answer(401, error_body(401, "Invalid key")), id="401"),
        pytest.param(answer(404, error_body(404, "Project not found.")), id="404"),
        pytest.param(answer(429, b"", {"Retry-After": "60"}), id="429"),
        pytest.param(answer(500), id="500"),
        pytest.param(answer(503), id="503"),
    ],
)
def test_any_other_answer_is_a_no_after_one_attempt(
    fault: Reply, connect: Any, fault_server: FaultServer, fake_clock: FakeClock
) -> None:
    client = connect(max_retries=3)
    fault_server.then(fault)
    assert client.health_check(timeout=0.3) is False
    assert len(fault_server.requests) == 1
    assert fake_clock.sleeps == []


@pytest.mark.parametrize("second", [FORBIDDEN, reset(), answer(503), answer(200, {"id": 1})])
def test_a_key_that_may_neither_is_unhealthy(second: Reply, connect: Any, fault_server: FaultServer) -> None:
    fault_server.then(FORBIDDEN, second)
    assert connect().health_check(timeout=0.3) is False
    assert len(fault_server.requests) == 2


def test_a_query_that_does_not_finish_is_unhealthy_within_seconds(
    connect: Any, fault_server: FaultServer, fake_clock: FakeClock
) -> None:
    client = connect()
    started = fake_clock.monotonic()
    fault_server.then(FORBIDDEN)
    fault_server.default = answer(202, query_status("q"))
    assert client.health_check() is False
    assert fake_clock.monotonic() - started <= 5


def test_a_server_that_is_not_there_is_unhealthy(connect: Any, fault_server: FaultServer) -> None:
    client = connect()
    fault_server.close()
    assert client.health_check() is False


def test_an_open_circuit_is_unhealthy_without_a_request(connect: Any, fault_server: FaultServer) -> None:
    client = connect(max_retries=1)
    fault_server.default = answer(503)
    for _ in range(5):
        with contextlib.suppress(PostHogError):
            client.query("SELECT 1")
    fault_server.default = PROJECT
    before = len(fault_server.requests)
    assert client.health_check() is False
    assert len(fault_server.requests) == before
