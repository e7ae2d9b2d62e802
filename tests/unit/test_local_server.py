"""The sockets of the embedded PostHog, over an engine that is only pretended."""

from __future__ import annotations

import http.client
import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import requests

from posthog_driver.local.engine import Engine
from posthog_driver.local.ingest import MAX_BODY
from posthog_driver.local.schema import Catalog
from posthog_driver.local.server import MAX_TRAILERS, LocalServer, build_server
from posthog_driver.local.wire import Request
from tests.unit.local_world import PERSONAL, PROJECT, SQL, FakeEngine

QUERY = json.dumps({"query": SQL}).encode()
HEALTH = b"GET /_health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def until(condition: Callable[[], Any]) -> None:
    """Wait for what another thread is about to do; the limit is only there so that nothing hangs."""
    pause = threading.Event()
    for _ in range(6000):
        if condition():
            return
        pause.wait(0.005)
    raise AssertionError("it never became true")


def post(body: bytes, *headers: str, path: str = "/api/projects/1/query/", length: bool = True) -> bytes:
    """Return the bytes of a request."""
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Authorization: Bearer {PERSONAL}", *headers]
    if length:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def chunks(*parts: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + end


def connect(server: LocalServer) -> socket.socket:
    return socket.create_connection((server.server_name, server.server_port), timeout=30)


def read_all(connection: socket.socket) -> bytes:
    received = b""
    while data := connection.recv(65536):
        received += data
    return received


@pytest.fixture
def engine(tmp_path: Path) -> FakeEngine:
    return FakeEngine(str(tmp_path))


@pytest.fixture
def server(engine: FakeEngine) -> Iterator[LocalServer]:
    demo = SimpleNamespace(catalog=Catalog(timezone="Europe/Berlin"), cohorts=[], group_types=[])
    with build_server(
        cast(Engine, engine),
        cast(Any, demo),
        personal_api_key=PERSONAL,
        project_api_key=PROJECT,
    ) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join(30)
        until(lambda: len(server.connections) == 0)


def exchange(server: LocalServer, *pieces: bytes) -> bytes:
    """Send raw bytes on one connection and read until the server closes it."""
    with connect(server) as connection:
        for piece in pieces:
            connection.sendall(piece)
        connection.shutdown(socket.SHUT_WR)
        return read_all(connection)


def test_a_connection_is_kept_for_the_next_request(server: LocalServer) -> None:
    connection = http.client.HTTPConnection(server.server_name, server.server_port, timeout=30)
    headers = {"Authorization": f"Bearer {PERSONAL}"}
    for _ in range(3):
        connection.request("GET", "/api/projects/1/", headers=headers)
        response = connection.getresponse()
        assert (response.status, response.version) == (200, 11)
        assert json.loads(response.read())["timezone"] == "Europe/Berlin"
        sock = connection.sock
    assert sock is not None
    connection.close()


def test_the_server_answers_requests_and_links_to_itself(server: LocalServer, engine: FakeEngine) -> None:
    with requests.Session() as session:
        session.trust_env = False
        session.headers["Authorization"] = f"Bearer {PERSONAL}"
        created = session.post(f"{server.url}/api/projects/1/actions/", json={"name": "A"}, timeout=30)
        session.post(f"{server.url}/api/projects/1/actions/", json={"name": "B"}, timeout=30)
        page = session.get(f"{server.url}/api/projects/1/actions/?limit=1", timeout=30).json()
        following = session.get(page["next"], timeout=30).json()

    assert created.status_code == 201
    assert created.headers["Content-Type"] == "application/json"
    assert "Access-Control-Allow-Origin" not in created.headers
    assert page["next"].startswith(server.url)
    assert following["results"][0]["name"] == "B"
    assert (Path(engine.path) / "entities.json").exists()


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "[::2]"])
def test_a_foreign_host_header_is_refused(server: LocalServer, host: str) -> None:
    answer = exchange(server, f"GET /_health HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"Invalid HTTP_HOST header" in answer


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:99", "LOCALHOST", "[::1]:8000"])
def test_a_host_header_of_this_machine_is_fine(server: LocalServer, host: str) -> None:
    answer = exchange(server, f"GET /_health HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())

    assert answer.startswith(b"HTTP/1.1 200 ")


def test_a_server_that_was_bound_elsewhere_on_purpose_trusts_any_host(server: LocalServer) -> None:
    server.server_name = "0.0.0.0"
    assert server.trusts("posthog:8000")


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (f"Content-Length: {MAX_BODY + 1}", b"413"),
        (f"Content-Length: {'9' * 5000}", b"413"),
        ("Content-Length: many", b"400"),
        ("Content-Length: -1", b"400"),
        ("Content-Length: 0\r\nContent-Length: 9", b"400"),
        ("Transfer-Encoding: gzip", b"400"),
        ("Transfer-Encoding: chunked\r\nContent-Length: 9", b"400"),
    ],
)
def test_a_body_that_is_not_read_ends_its_connection(server: LocalServer, head: str, status: bytes) -> None:
    request = f"POST /batch/ HTTP/1.1\r\nHost: localhost\r\n{head}\r\n\r\n".encode()
    answer = exchange(server, request, b"GET /_health HTTP/1.1\r\nHost: localhost\r\n\r\n")

    assert answer.startswith(b"HTTP/1.1 " + status)
    assert b"Connection: close" in answer
    assert answer.count(b"HTTP/1.1") == 1


def test_the_body_of_a_refused_request_is_not_taken_for_the_next_one(server: LocalServer) -> None:
    post = b"POST /api/projects/1/query/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nGET / HT\n"
    answer = exchange(server, post, b"GET /_health HTTP/1.1\r\nHost: localhost\r\n\r\n")

    assert answer.startswith(b"HTTP/1.1 401 ")
    assert answer.endswith(b'{"status":"ok"}')


def test_a_caller_that_goes_away_in_its_body_harms_nobody(
    server: LocalServer, caplog: pytest.LogCaptureFixture
) -> None:
    assert exchange(server, b"POST /batch/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n{") == b""
    assert exchange(server, b"GET /_health HTTP/1.0\r\nHost: localhost\r\n\r\n").startswith(b"HTTP/1.1 200")
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("line", "status"), [(b"GARBAGE", b"400"), (b"GET / HTTP/9.9", b"505"), (b"GET /" + b"x" * 70_000, b"414")]
)
def test_a_malformed_request_line_gets_an_answer(server: LocalServer, line: bytes, status: bytes) -> None:
    assert exchange(server, line + b"\r\n\r\n").startswith(b"HTTP/1.1 " + status)


def test_head_is_answered_as_get_without_a_body(server: LocalServer) -> None:
    got = exchange(server, HEALTH).partition(b"\r\n\r\n")
    answer = exchange(server, HEALTH.replace(b"GET", b"HEAD")).partition(b"\r\n\r\n")

    assert answer[0].startswith(b"HTTP/1.1 200 ")
    assert b"Content-Length: %d" % len(got[2]) in answer[0]
    assert answer[2] == b""


def test_requests_that_come_together_are_answered_in_their_order(server: LocalServer) -> None:
    answer = exchange(server, post(QUERY) + post(b"{") + post(QUERY) + HEALTH)

    assert [part[:3] for part in answer.split(b"HTTP/1.1 ")[1:]] == [b"200", b"400", b"200", b"200"]


# ----------------------------------------------------------------------------------------------------- bodies in chunks


def test_a_body_in_chunks_is_put_together(server: LocalServer) -> None:
    body = chunks(QUERY[:5], QUERY[5:], end=b"0;last=1\r\nX-Trailer: a\r\n\r\n")
    answer = exchange(server, post(body, "Transfer-Encoding: chunked", length=False), HEALTH)

    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b'"results":[["a"],["b"]]' in answer
    assert answer.endswith(b'{"status":"ok"}')


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"zz\r\n{}\r\n0\r\n\r\n", b"400"),
        (b"-1\r\n{}\r\n0\r\n\r\n", b"400"),
        (b"1\r\n{}\r\n0\r\n\r\n", b"400"),
        (b"123456789\r\n", b"400"),
        (b"2" * 5000, b"400"),
        (b"%x\r\n" % (MAX_BODY + 1), b"413"),
        (chunks(b"{}", end=b"0\r\n" + b"X: 1\r\n" * MAX_TRAILERS), b"400"),
    ],
    ids=["no number", "negative", "too short", "too long a number", "endless line", "too large", "endless trailers"],
)
def test_chunks_that_cannot_be_read_end_the_connection(server: LocalServer, body: bytes, status: bytes) -> None:
    answer = exchange(server, post(body, "Transfer-Encoding: chunked", length=False), HEALTH)

    assert answer.startswith(b"HTTP/1.1 " + status)
    assert answer.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize("body", [b"", b"5\r\n{}", b"5\r\n", chunks(b"{}", end=b"0\r\n")])
def test_a_caller_that_goes_away_between_chunks_harms_nobody(
    server: LocalServer, body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    assert exchange(server, post(body, "Transfer-Encoding: chunked", length=False)) == b""
    assert exchange(server, HEALTH).startswith(b"HTTP/1.1 200")
    assert caplog.text == ""


def test_many_small_chunks_are_not_more_than_one_large_body(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("posthog_driver.local.server.MAX_BODY", 1000)
    answer = exchange(server, post(chunks(*[b"x" * 100] * 11), "Transfer-Encoding: chunked", length=False))

    assert answer.startswith(b"HTTP/1.1 413 ")


def test_a_caller_that_asks_first_is_told_to_go_on(server: LocalServer) -> None:
    with connect(server) as connection:
        head, _, body = post(QUERY, "Expect: 100-continue", "Connection: close").partition(b"\r\n\r\n")
        connection.sendall(head + b"\r\n\r\n")
        assert connection.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(body)
        assert read_all(connection).startswith(b"HTTP/1.1 200 ")


# ------------------------------------------------------------------------------------------- slow and vanishing callers


@pytest.mark.parametrize(
    "start", [b"GET /_hea", b"GET /_health HTTP/1.1\r\nHost: local", b"\r\n"], ids=["line", "headers", "empty line"]
)
def test_a_caller_that_stops_in_its_head_is_let_go(server: LocalServer, start: bytes) -> None:
    server.request_seconds = 0.05
    with connect(server) as connection:
        connection.sendall(start)

        assert read_all(connection) == b""


@pytest.mark.parametrize("chunked", [False, True])
def test_a_caller_that_stops_in_its_body_is_told_so(server: LocalServer, chunked: bool) -> None:
    server.request_seconds = 0.2
    unfinished = post(b"5\r\n{}", "Transfer-Encoding: chunked", length=False) if chunked else post(QUERY)[:-5]
    with connect(server) as connection:
        connection.sendall(unfinished)
        answer = read_all(connection)

    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"code":"request_timeout"' in answer
    assert b"Connection: close" in answer


def test_a_caller_that_sends_byte_by_byte_has_no_more_time_than_others(server: LocalServer) -> None:
    server.request_seconds = 0.3
    pause = threading.Event()
    sent = post(QUERY, *["X-Padding: 1"] * 1000)
    with connect(server) as connection, suppress(OSError):
        left = list(sent)
        while left:
            connection.sendall(bytes([left.pop(0)]))
            pause.wait(0.01)
    assert left


def test_slow_bytes_in_time_are_a_request_like_any_other(server: LocalServer) -> None:
    assert exchange(server, *(bytes([byte]) for byte in post(QUERY, "Connection: close"))).startswith(b"HTTP/1.1 200 ")


def test_a_silent_connection_is_closed(server: LocalServer) -> None:
    server.idle_seconds = 0.05
    with connect(server) as connection:
        assert read_all(connection) == b""


@pytest.mark.parametrize("way", ["close", "reset"])
def test_the_query_of_a_caller_that_has_gone_is_stopped(server: LocalServer, engine: FakeEngine, way: str) -> None:
    engine.held = threading.Event()
    with connect(server) as connection:
        connection.sendall(post(QUERY))
        assert engine.started.wait(30)
        if way == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    until(lambda: not engine.running and not server.api.account.projects.first.queries._active)

    assert engine.asked_to_cancel.is_set()
    engine.held = None
    assert exchange(server, HEALTH).startswith(b"HTTP/1.1 200 ")


def test_a_background_query_goes_on_without_its_caller(server: LocalServer, engine: FakeEngine) -> None:
    engine.held = threading.Event()
    body = json.dumps({"query": SQL, "refresh": "force_async", "client_query_id": "q"}).encode()
    assert exchange(server, post(body)).startswith(b"HTTP/1.1 202 ")
    assert engine.started.wait(30)

    assert exchange(server, HEALTH).startswith(b"HTTP/1.1 200 ")
    assert not engine.asked_to_cancel.is_set()
    engine.held.set()
    until(lambda: not engine.running)


def test_a_caller_that_stays_gets_its_answer_however_many_others_go(server: LocalServer, engine: FakeEngine) -> None:
    engine.held = threading.Event()
    with connect(server) as stays:
        stays.sendall(post(QUERY, "Connection: close"))
        assert engine.started.wait(30)
        held = engine.held
        other = json.dumps({"query": {**SQL, "query": "SELECT 2 AS event"}}).encode()
        for _ in range(5):
            engine.held = threading.Event()
            with connect(server) as goes:
                goes.sendall(post(other))
                until(lambda: len(engine.running) == 2)
            until(lambda: len(engine.running) == 1)
        held.set()

        assert read_all(stays).startswith(b"HTTP/1.1 200 ")


def test_a_caller_that_does_not_take_its_answer_harms_nobody(
    server: LocalServer, engine: FakeEngine, caplog: pytest.LogCaptureFixture
) -> None:
    engine.result = type(engine.result)([("event", "String")], [["x" * 1000]] * 20_000, 0.0, 0, 0)
    with connect(server) as connection:
        connection.sendall(post(QUERY))
        assert connection.recv(100).startswith(b"HTTP/1.1 200 ")
    until(lambda: len(server.connections) == 0)

    assert exchange(server, HEALTH).startswith(b"HTTP/1.1 200 ")
    assert caplog.text == ""


# ----------------------------------------------------------------------------------------------------- many connections


def test_idle_connections_do_not_block_others(server: LocalServer) -> None:
    idle = [connect(server) for _ in range(200)]
    assert exchange(server, HEALTH).startswith(b"HTTP/1.1 200 ")
    idle[0].sendall(HEALTH)
    assert read_all(idle[0]).startswith(b"HTTP/1.1 200 ")
    for connection in idle:
        connection.close()


def test_the_connection_that_is_idle_for_longest_makes_room(server: LocalServer) -> None:
    server.connections._most = 3
    old, *others = [connect(server) for _ in range(3)]
    until(lambda: len(server.connections._idle) == 3)

    assert exchange(server, HEALTH).startswith(b"HTTP/1.1 200 ")
    assert read_all(old) == b""
    for connection in others:
        connection.sendall(HEALTH)
        assert read_all(connection).startswith(b"HTTP/1.1 200 ")
        connection.close()
    old.close()


def test_when_all_connections_are_busy_the_next_one_is_told_so(server: LocalServer, engine: FakeEngine) -> None:
    server.connections._most = 2
    engine.held = threading.Event()
    busy = [connect(server) for _ in range(2)]
    for number, connection in enumerate(busy):
        body = json.dumps({"query": {**SQL, "query": f"SELECT {number} AS event"}}).encode()
        connection.sendall(post(body, "Connection: close"))
        until(lambda: len(engine.running) == number + 1)  # noqa: B023 - it is called at once

    with connect(server) as refused:
        answer = read_all(refused)
    engine.held.set()

    assert answer.startswith(b"HTTP/1.1 503 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["detail"].startswith("Queries are a little too busy")
    for connection in busy:
        assert read_all(connection).startswith(b"HTTP/1.1 200 ")
        connection.close()


# ------------------------------------------------------------------------------------------------ faults of connections


def test_a_faulty_connection_ends_as_the_script_says(server: LocalServer) -> None:
    script = server.api.account.script
    script.add([{"drop": "middle"}, {"drop": "before"}, {"drop": "after"}, {"drop": "reset"}])

    head, _, body = exchange(server, post(QUERY)).partition(b"\r\n\r\n")
    (length,) = [int(line[16:]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length: ")]
    assert (head[:13], len(body)) == (b"HTTP/1.1 200 ", length // 2)
    assert exchange(server, post(QUERY)) == b""
    assert exchange(server, post(QUERY)) == b""
    with connect(server) as connection:
        connection.sendall(post(QUERY))
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    assert script.left() == []


def test_headers_of_a_fault_win_over_the_usual_ones(server: LocalServer) -> None:
    headers = {"content-type": "text/html", "Retry-After": "9"}
    server.api.account.script.add([{"status": 503, "headers": headers, "body": "<p>down</p>"}])
    answer = exchange(server, post(QUERY, "Connection: close"))

    assert answer.startswith(b"HTTP/1.1 503 ")
    assert answer.lower().count(b"content-type") == 1
    assert answer.endswith(b"<p>down</p>")
    assert b"Retry-After: 9" in answer


# ---------------------------------------------------------------------------------------------------------- the address


@pytest.mark.parametrize(("name", "host"), [("0.0.0.0", "127.0.0.1"), ("::", "[::1]"), ("::1", "[::1]")])
def test_the_url_is_one_that_can_be_called(server: LocalServer, name: str, host: str) -> None:
    server.server_name = name
    assert server.url == f"http://{host}:{server.server_port}"


def test_it_listens_on_ipv6_when_asked(engine: FakeEngine) -> None:
    demo = cast(Any, SimpleNamespace(catalog=Catalog()))
    with build_server(
        cast(Engine, engine), demo, personal_api_key=PERSONAL, project_api_key=PROJECT, host="::1"
    ) as server:
        assert server.url.startswith("http://[::1]:")
        assert server.socket.family == socket.AF_INET6


def test_a_failure_outside_the_api_is_logged_and_the_server_lives(
    server: LocalServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(Request, "parse", fail)
        exchange(server, b"GET /_health HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert "ZeroDivisionError" in caplog.text
    assert exchange(server, b"GET /_health HTTP/1.0\r\nHost: localhost\r\n\r\n").endswith(b"}")


def test_limits_that_do_not_exist_are_refused_before_anything_listens(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="got 'moon'"):
        build_server(
            cast(Engine, FakeEngine(str(tmp_path))),
            cast(Any, SimpleNamespace(catalog=Catalog())),
            personal_api_key=PERSONAL,
            project_api_key=PROJECT,
            limits="moon",
        )
