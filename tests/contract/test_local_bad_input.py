"""Bad input on a real socket, with the real engine behind it: PostHog's error body, and nothing is left behind."""

from __future__ import annotations

import gzip
import json
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from posthog_driver.local import LocalPostHog

HANG = 60.0
ENDLESS = "SELECT count() FROM numbers(1000000000000) WHERE sin(number) > 2"


@pytest.fixture(scope="module")
def local() -> Iterator[LocalPostHog]:
    with LocalPostHog(events=200, seed=1) as local:
        yield local


@pytest.fixture(autouse=True)
def lives(local: LocalPostHog) -> Iterator[None]:
    """After every test the same process answers, and no query of a test runs on."""
    pid = local._process.pid
    yield
    assert post(local, hogql("SELECT 1")).json()["results"] == [[1]]
    assert local._process.pid == pid
    until(lambda: threads_of(pid) < 150)


def threads_of(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/task").iterdir())) if os.path.exists("/proc") else 0


def until(condition: Callable[[], Any]) -> Any:
    """Wait for what another process is about to do; the limit is only there so that nothing hangs."""
    pause = threading.Event()
    for _ in range(3000):
        if found := condition():
            return found
        pause.wait(0.02)
    raise AssertionError("it never became true")


def hogql(text: str, **more: Any) -> dict[str, Any]:
    return {"query": {"kind": "HogQLQuery", "query": text}, **more}


def post(local: LocalPostHog, body: Any, path: str = "/api/projects/1/query/") -> requests.Response:
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"Authorization": f"Bearer {local.personal_api_key}", "Content-Type": "application/json"}
    return requests.post(f"{local.url}{path}", sent, headers=headers, timeout=HANG)


def connect(local: LocalPostHog) -> socket.socket:
    address = urlsplit(local.url)
    assert address.hostname
    assert address.port
    return socket.create_connection((address.hostname, address.port), timeout=HANG)


def raw(local: LocalPostHog, body: bytes) -> bytes:
    head = (
        f"POST /api/projects/1/query/ HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {local.personal_api_key}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def what_of(local: LocalPostHog, query_id: str) -> str:
    """Return what the server says of a query that is only to be stopped if it does not run yet."""
    answer = requests.delete(
        f"{local.url}/api/projects/1/query/{query_id}/?dequeue_only=true",
        headers={"Authorization": f"Bearer {local.personal_api_key}"},
        timeout=HANG,
    )
    return str(answer.json()["message"])


def running_query(local: LocalPostHog, name: str) -> tuple[socket.socket, str]:
    """Ask an endless query and return the connection and the id once the engine works on it."""
    for number in range(50):
        query_id = f"{name}-{number}"
        connection = connect(local)
        connection.sendall(raw(local, json.dumps(hogql(ENDLESS, client_query_id=query_id)).encode()))
        said = until(lambda: (told := what_of(local, query_id)) != "Query already complete" and told)  # noqa: B023
        if "already running" in said:
            return connection, query_id
        connection.close()
    raise AssertionError("it was always asked for too early")


def is_posthogs_error(answer: requests.Response, status: int, code: str) -> bool:
    body = answer.json()
    return (answer.status_code, body["code"]) == (status, code) and {"type", "detail", "attr"} <= body.keys()


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"",
        b"\xff\xfe{}",
        b'{"query": "\xc3"}',
        b'{"query": {"kind": "HogQLQuery", "query": "\\ud800"}}',
        b'{"query": NaN}',
        b'{"query": 1e999}',
        b'{"query": ' + b"9" * 10_000 + b"}",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"null",
        b"[]",
        b'"text"',
        json.dumps({"query": None}).encode(),
        json.dumps({"query": []}).encode(),
        json.dumps({"query": {}}).encode(),
        json.dumps({"query": {"kind": "MoonQuery"}}).encode(),
        json.dumps({"query": {"kind": ["HogQLQuery"]}}).encode(),
        json.dumps({"query": {"kind": "HogQLQuery"}}).encode(),
        json.dumps({"query": {"kind": "HogQLQuery", "query": 5}}).encode(),
        json.dumps(hogql("SELECT 1", nonsense=1)).encode(),
        json.dumps(hogql("SELECT 1", client_query_id=5)).encode(),
        json.dumps(hogql("SELECT 1", client_query_id=["a"])).encode(),
        json.dumps(hogql("SELECT 1", refresh="sometimes")).encode(),
        json.dumps(hogql("SELECT 1", refresh=["async"])).encode(),
        json.dumps(hogql("SELECT 1", refresh={"async": True})).encode(),
        json.dumps(hogql("SELECT 1", name="x" * 1000)).encode(),
    ],
    ids=lambda body: repr(body[:30]),
)
def test_a_body_that_does_not_fit_is_a_parse_error(local: LocalPostHog, body: bytes) -> None:
    answer = post(local, body)

    assert is_posthogs_error(answer, 400, "parse_error")
    assert answer.json()["type"] == "invalid_request"
    assert len(answer.content) < 20_000


@pytest.mark.parametrize(
    "text",
    [
        "SELECT '" + "x" * 5_000_000 + "'",
        "SELECT " + "1 + " * 1_000_000 + "1",
        "SELECT " + "(" * 1_000 + "1" + ")" * 1_000,
        "SELECT " + "[" * 1_000 + "1" + "]" * 1_000,
        "SELECT " + "lower(" * 1_000 + "'a'" + ")" * 1_000,
        "SELECT * FROM " + "(SELECT * FROM " * 1_000 + "events" + ")" * 1_000,
        "SELECT \0",
        "SELECT \ud800",
        "",
        " ",
    ],
    ids=["5 MB text", "4 MB sum", "brackets", "arrays", "calls", "sub-queries", "NUL", "surrogate", "empty", "blank"],
)
def test_a_query_that_is_too_much_is_refused_in_good_time(local: LocalPostHog, text: str) -> None:
    answer = post(local, hogql(text))

    assert answer.status_code == 400
    assert answer.json()["code"] in ("invalid_input", "parse_error")
    assert answer.json()["detail"]


def test_values_nested_a_thousand_deep_are_no_failure_of_ours(local: LocalPostHog) -> None:
    deep: Any = 1
    for _ in range(900):
        deep = [deep]
    body = {"query": {"kind": "HogQLQuery", "query": "SELECT {x}", "values": {"x": deep}}}

    assert post(local, body).status_code in (200, 400)


@pytest.mark.parametrize("path", ["/api/projects/1/query/", "/api/projects/1/cohorts/"])
def test_a_body_above_twenty_megabytes_is_refused_by_the_rest_api(local: LocalPostHog, path: str) -> None:
    assert is_posthogs_error(post(local, b"x" * (20 * 1024 * 1024 + 1), path), 413, "request_too_large")


@pytest.mark.parametrize("path", ["/batch/", "/flags/?v=2"])
def test_a_body_above_twenty_megabytes_is_refused_in_text_by_capture_and_flags(local: LocalPostHog, path: str) -> None:
    answer = post(local, b"x" * (20 * 1024 * 1024 + 1), path)

    assert (answer.status_code, answer.text) == (413, "Request body is larger than 20971520 bytes.")


def test_a_packed_body_counts_as_large_as_it_unpacks(local: LocalPostHog) -> None:
    packed = gzip.compress(b" " * 100_000_000)
    answer = requests.post(f"{local.url}/batch/", packed, headers={"Content-Encoding": "gzip"}, timeout=HANG)

    assert answer.status_code == 413


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PATCH", "", []),
        ("PATCH", "", "text"),
        ("POST", "cohorts/", []),
        ("POST", "cohorts/", {"name": 5}),
        ("POST", "feature_flags/", {}),
        ("POST", "feature_flags/", {"key": "bad key!"}),
        ("GET", "property_definitions/?event_names=x", None),
        ("GET", "persons/?properties=x", None),
        ("GET", "groups/", None),
    ],
)
def test_wrong_types_are_validation_errors(local: LocalPostHog, method: str, path: str, body: Any) -> None:
    headers = {"Authorization": f"Bearer {local.personal_api_key}"}
    answer = requests.request(method, f"{local.url}/api/projects/1/{path}", json=body, headers=headers, timeout=HANG)

    assert answer.status_code == 400
    assert answer.json()["type"] == "validation_error"


@pytest.mark.parametrize(
    "path", ["/%", "/%00", "/%ff", "/api/projects/%2e%2e/", "/api/projects/1/query/%00/", "/a" * 999]
)
def test_an_odd_path_is_a_404(local: LocalPostHog, path: str) -> None:
    with connect(local) as connection:
        key = local.personal_api_key
        connection.sendall(f"GET {path} HTTP/1.0\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b""))

    assert answer.startswith(b"HTTP/1.1 404 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == "not_found"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=20,
)
KEYS = st.sampled_from(["query", "refresh", "async", "client_query_id", "variables_override", "filters_override"])
NODE = st.fixed_dictionaries(
    {"kind": st.sampled_from(["HogQLQuery", "HogQLMetadata", "EventsQuery", "TrendsQuery", "DatabaseSchemaQuery"])},
    optional=dict.fromkeys(("query", "values", "variables", "filters", "modifiers", "series", "select"), JSON),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(KEYS, JSON, max_size=4), NODE | JSON)
def test_no_body_is_a_failure_of_ours(local: LocalPostHog, body: dict[str, Any], node: Any) -> None:
    answer = post(local, json.dumps({**body, "query": node}).encode())

    assert answer.status_code in (200, 202, 400), answer.text
    assert isinstance(answer.json(), dict)


@pytest.mark.parametrize("way", ["closes", "resets"])
def test_the_engine_stops_the_query_of_a_caller_that(local: LocalPostHog, way: str) -> None:
    connection, query_id = running_query(local, way)
    if way == "resets":
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()

    until(lambda: what_of(local, query_id) == "Query already complete")


def test_a_caller_that_leaves_in_the_middle_of_its_answer_harms_nobody(local: LocalPostHog) -> None:
    body = json.dumps(hogql("SELECT repeat('x', 10000) FROM numbers(2000) LIMIT 2000")).encode()
    for _ in range(10):
        with connect(local) as connection:
            connection.sendall(raw(local, body))
            assert connection.recv(1000).startswith(b"HTTP/1.1 200 ")


def test_callers_that_stop_in_their_bodies_do_not_block_others(local: LocalPostHog) -> None:
    stopped = [connect(local) for _ in range(60)]
    for connection in stopped:
        connection.sendall(raw(local, b"x" * 1000)[:-500])

    assert post(local, hogql("SELECT 2")).json()["results"] == [[2]]
    for connection in stopped:
        connection.close()


def test_two_hundred_idle_connections_do_not_block_others(local: LocalPostHog) -> None:
    idle = [connect(local) for _ in range(200)]

    assert post(local, hogql("SELECT 3")).json()["results"] == [[3]]
    for connection in idle:
        connection.close()


def test_more_connections_than_there_is_room_for_make_room_for_each_other(local: LocalPostHog) -> None:
    idle = [connect(local) for _ in range(600)]

    assert threads_of(local._process.pid) < 500
    assert post(local, hogql("SELECT 4")).json()["results"] == [[4]]
    for connection in idle:
        connection.close()


def test_a_status_of_a_background_query_can_be_polled_while_its_caller_is_gone(local: LocalPostHog) -> None:
    body = json.dumps(hogql(ENDLESS, refresh="force_async", client_query_id="background")).encode()
    with connect(local) as connection:
        connection.sendall(raw(local, body))
        assert connection.recv(1000).startswith(b"HTTP/1.1 202 ")
    headers = {"Authorization": f"Bearer {local.personal_api_key}"}
    path = f"{local.url}/api/projects/1/query/background/"
    until(lambda: requests.get(path, headers=headers, timeout=HANG).json()["query_status"]["pickup_time"])

    assert requests.delete(path, headers=headers, timeout=HANG).json() == {"message": "Query cancelled"}
    until(lambda: requests.get(path, headers=headers, timeout=HANG).status_code != 202)
    assert (
        requests.get(path, headers=headers, timeout=HANG).json()["query_status"]["error_message"]
        == "Query was cancelled."
    )
