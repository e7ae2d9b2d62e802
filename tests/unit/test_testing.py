"""The tools for tests do what they promise; checked with plain requests and sockets, not with our client."""

from __future__ import annotations

import gzip
import http.client
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import requests

from posthog_driver import testing
from posthog_driver.testing import (
    FakeClock,
    FaultServer,
    Received,
    Reply,
    StubAdapter,
    answer,
    chunked,
    cut,
    error_body,
    gzip_bomb,
    gzipped,
    hang_up,
    query_answer,
    query_status,
    redirect,
    reset,
    silence,
    trickle,
)

ROWS = query_answer([[1, "a"]], ["n", "s"])

SOMEBODY_ELSES_CONFTEST = """
import sys
import types

started = []

class LocalPostHog:
    def __init__(self, **arguments):
        started.append(arguments)

    def __enter__(self):
        return len(started)

    def __exit__(self, *_):
        print("closed", *started)

sys.modules["posthog_driver.local"] = types.SimpleNamespace(LocalPostHog=LocalPostHog)
pytest_plugins = ["posthog_driver.testing"]
"""


@pytest.fixture
def web() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        yield session


class TestFakeClock:
    def test_stands_still_until_told(self) -> None:
        clock = FakeClock(start=5.0, wall=100.0)
        assert (clock.monotonic(), clock.wall()) == (5.0, 100.0)
        clock.advance(2.5)
        assert (clock.monotonic(), clock.wall()) == (7.5, 102.5)
        assert clock.sleeps == []

    def test_sleep_advances_at_once_and_is_recorded(self) -> None:
        clock = FakeClock(start=0.0)
        clock.sleep(3600.0)
        clock.sleep(-1.0)
        assert clock.monotonic() == 3600.0
        assert clock.sleeps == [3600.0, -1.0]
        assert repr(clock) == "<FakeClock monotonic=3600.0 sleeps=[3600.0, -1.0]>"

    @pytest.mark.parametrize("seconds", [float("nan"), float("inf")])
    def test_refuses_what_the_real_clock_cannot_sleep(self, seconds: float) -> None:
        clock = FakeClock()
        with pytest.raises(ValueError, match="cannot sleep"):
            clock.sleep(seconds)
        assert clock.sleeps == []

    def test_a_jump_of_the_wall_clock_leaves_the_monotonic_one_alone(self) -> None:
        clock = FakeClock(start=1.0, wall=1_000.0)
        clock.jump(-900.0)
        assert (clock.monotonic(), clock.wall()) == (1.0, 100.0)

    def test_no_sleep_is_lost_among_threads(self) -> None:
        clock = FakeClock(start=0.0)

        def sleep_often() -> None:
            for _ in range(100):
                clock.sleep(1)

        threads = [threading.Thread(target=sleep_often) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert clock.monotonic() == 800.0
        assert len(clock.sleeps) == 800


class TestBodies:
    def test_types_are_guessed_from_the_first_row_unless_they_are_given(self) -> None:
        guessed = query_answer([[1, 1.5, "a", True, None]], ["i", "f", "s", "b", "x"])
        kinds = [kind for _, kind in guessed["types"]]
        assert kinds == [
            "Int64",
            "Float64",
            "String",
            "Bool",
            "Nullable(String)",
        ]
        assert query_answer([], ["n"])["types"] == [["n", "Nullable(String)"]]
        assert query_answer([], ["n"], ["UInt8"], hasMore=True)["types"] == [["n", "UInt8"]]

    def test_a_query_is_complete_once_it_has_results(self) -> None:
        assert query_status("q")["query_status"]["complete"] is False
        assert query_status("q", results=ROWS)["query_status"]["complete"] is True
        failed = query_status("q", complete=True, error=True, error_message="no")["query_status"]
        assert (failed["complete"], failed["error_message"]) == (True, "no")

    def test_an_error_has_the_usual_type_and_code_of_its_status(self) -> None:
        assert error_body(403, "no")["code"] == "permission_denied"
        assert error_body(503, "busy") == {
            "type": "server_error",
            "code": "error",
            "detail": "busy",
            "attr": None,
        }
        assert error_body(400, "bad", "unknown_table", attr="query")["code"] == "unknown_table"


class TestStubAdapter:
    def test_answers_in_order_and_records_the_requests(self, web: requests.Session) -> None:
        stub = StubAdapter((200, ROWS), (429, "slow <b>down</b>", {"Retry-After": "7"}))
        stub.mount(SimpleNamespace(session=web))
        first = web.post("https://posthog.test/a", json={"x": 1})
        second = web.get("http://posthog.test/b")
        assert first.json() == ROWS
        assert first.headers["Content-Type"] == "application/json"
        assert (second.status_code, second.text, second.headers["retry-after"]) == (
            429,
            "slow <b>down</b>",
            "7",
        )
        assert [request.url for request in stub.requests] == [
            "https://posthog.test/a",
            "http://posthog.test/b",
        ]
        assert json.loads(stub.requests[0].body or "") == {"x": 1}

    def test_raises_exceptions_and_calls_functions(self, web: requests.Session) -> None:
        stub = StubAdapter(requests.ConnectionError("cut")).then(lambda request: (200, request.url))
        stub.mount(SimpleNamespace(session=web))
        with pytest.raises(requests.ConnectionError, match="cut"):
            web.get("https://posthog.test/")
        assert web.get("https://posthog.test/").text == "https://posthog.test/"

    def test_a_request_beyond_the_script_fails_or_gets_the_default(self, web: requests.Session) -> None:
        StubAdapter().mount(SimpleNamespace(session=web))
        with pytest.raises(AssertionError, match=r"no answer is scripted for GET https://posthog\.test/x"):
            web.get("https://posthog.test/x")
        StubAdapter(default=(204, b"")).mount(SimpleNamespace(session=web))
        assert [web.get("https://posthog.test/x").status_code for _ in range(2)] == [204, 204]


class TestFaultServer:
    def test_records_requests_and_keeps_the_connection(self, web: requests.Session) -> None:
        with FaultServer((200, ROWS), default=answer(599, b"x")) as server:
            first = web.post(f"{server.url}/query/?a=1", json={"q": "SELECT 1"}, headers={"X-Mark": "m"})
            second = web.get(f"{server.url}/other")
        assert first.json() == ROWS
        assert (second.status_code, second.reason, second.content) == (599, "Unknown", b"x")
        one, two = server.requests
        assert (one.method, one.path, one.json, one.headers["x-mark"]) == (
            "POST",
            "/query/?a=1",
            {"q": "SELECT 1"},
            "m",
        )
        assert (two.method, two.path, two.body) == ("GET", "/other", b"")
        assert (one.connection, two.connection, server.connections) == (1, 1, 1)

    def test_reads_a_compressed_request(self, web: requests.Session, fault_server: FaultServer) -> None:
        fault_server.then((200, {}))
        web.post(fault_server.url, gzip.compress(b'{"batch": []}'), headers={"Content-Encoding": "gzip"})
        assert fault_server.requests[0].json == {"batch": []}

    def test_an_unscripted_request_is_answered_by_a_400_that_says_so(
        self, web: requests.Session, fault_server: FaultServer
    ) -> None:
        got = web.get(f"{fault_server.url}/x")
        assert got.status_code == 400
        assert got.json()["detail"] == "FaultServer: nothing is scripted for GET /x"

    def test_a_step_may_depend_on_the_request(self, web: requests.Session, fault_server: FaultServer) -> None:
        def echo(request: Received) -> tuple[int, Any]:
            return 200, {"path": request.path}

        fault_server.then(echo)
        assert web.get(f"{fault_server.url}/mirror").json() == {"path": "/mirror"}

    def test_a_route_wins_over_the_script(self, web: requests.Session) -> None:
        with FaultServer((200, "script"), routes={"DELETE /q/": (200, "route")}) as server:
            assert web.delete(f"{server.url}/q/1").text == "route"
            assert web.get(f"{server.url}/q/1").text == "script"

    @pytest.mark.parametrize(
        "step",
        [
            pytest.param(reset(), id="reset"),
            pytest.param(hang_up(), id="hang up"),
            pytest.param(cut(answer(200, ROWS), 10), id="cut inside the status line"),
            pytest.param(cut(answer(200, ROWS), 25, "reset"), id="reset inside the headers"),
            pytest.param(cut(answer(200, ROWS), -5), id="cut inside the body"),
            pytest.param(cut(answer(200, ROWS), -5, "reset"), id="reset inside the body"),
            pytest.param(answer(200, ROWS, {"Content-Length": "9999"}, end="close"), id="length too large"),
            pytest.param(chunked(ROWS, "unfinished"), id="last chunk missing"),
            pytest.param(chunked(ROWS, "size"), id="bad chunk size"),
            pytest.param(gzipped(ROWS, "crc"), id="bad checksum"),
            pytest.param(gzipped(ROWS, "plain"), id="not gzip"),
            pytest.param(Reply(b"SSH-2.0-OpenSSH_9.9\r\n", "close"), id="not HTTP"),
        ],
    )
    def test_each_fault_is_a_fault_to_requests_too(self, step: Reply, web: requests.Session) -> None:
        with FaultServer(step) as server, pytest.raises(requests.RequestException):
            web.get(server.url, timeout=5)

    def test_a_reset_is_a_reset_and_a_hang_up_is_none(self) -> None:
        for step, error in ((reset(), ConnectionResetError), (hang_up(), http.client.RemoteDisconnected)):
            with FaultServer(step) as server:
                bare = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=5)
                bare.request("GET", "/")
                with pytest.raises(ConnectionResetError) as caught:
                    bare.getresponse()
                bare.close()
            assert caught.type is error

    def test_a_cut_gzip_ends_early(self, web: requests.Session) -> None:
        with FaultServer(gzipped(ROWS, "cut")) as server:
            raw = web.get(server.url, stream=True).raw.read(decode_content=False)
        assert gzip.compress(json.dumps(ROWS).encode(), mtime=0).startswith(raw)
        with pytest.raises(EOFError):
            gzip.decompress(raw)

    def test_undamaged_encodings_are_read_as_they_were_meant(self, web: requests.Session) -> None:
        with FaultServer(chunked(ROWS), gzipped(ROWS), chunked(b"")) as server:
            assert web.get(server.url).json() == ROWS
            assert web.get(server.url).json() == ROWS
            assert web.get(server.url).content == b""
        assert server.connections == 1

    def test_a_bomb_is_small_on_the_wire(self, web: requests.Session) -> None:
        with FaultServer(gzip_bomb(2_500_000)) as server:
            got = web.get(server.url)
        assert len(got.content) == 2_500_000
        assert int(got.headers["Content-Length"]) < 5_000

    def test_silence_lasts_until_the_client_leaves(self, web: requests.Session) -> None:
        with FaultServer(silence()) as server, pytest.raises(requests.ReadTimeout):
            web.get(server.url, timeout=0.05)

    def test_closing_ends_silence_and_trickle(self) -> None:
        with FaultServer(silence(), trickle(answer(200, ROWS), pause=60)) as server:
            clients = [socket.create_connection(server._address, timeout=30) for _ in range(2)]
            for client in clients:
                client.sendall(b"GET / HTTP/1.1\r\n\r\n")
            while len(server.requests) < 2:
                time.sleep(0.001)
        for client in clients:
            while client.recv(65536):
                pass
            client.close()
        server.close()
        assert server.connections == 2

    @pytest.mark.parametrize("headers", [False, True])
    def test_a_trickle_comes_in_pieces_and_whole(self, headers: bool, web: requests.Session) -> None:
        step = trickle(answer(200, b"0123456789"), pause=0.001, size=4, headers=headers)
        assert max(len(piece) for piece in list(step.pieces())[not headers :]) == 4
        assert b"".join(step.pieces()) == step.data
        with FaultServer(step) as server:
            assert web.get(server.url).content == b"0123456789"

    def test_a_redirect_leads_on_or_nowhere(self, web: requests.Session, fault_server: FaultServer) -> None:
        fault_server.then(redirect("/there", 307), (200, "arrived"), redirect(None))
        assert web.get(fault_server.url).text == "arrived"
        lost = web.get(fault_server.url)
        assert (lost.status_code, "Location" in lost.headers) == (302, False)

    def test_a_connection_closed_after_an_answer_is_not_announced(self, web: requests.Session) -> None:
        with FaultServer(answer(200, "1", end="close"), (200, "2")) as server:
            assert "Connection" not in web.get(server.url).headers
            while server.open_connections:
                time.sleep(0.001)
            assert web.get(server.url).text == "2"
        assert server.connections == 2

    def test_the_port_refuses_once_the_server_is_closed(self, web: requests.Session) -> None:
        with FaultServer() as server:
            pass
        with pytest.raises(requests.ConnectionError):
            web.get(server.url)


class TestPlugin:
    def test_the_fixtures_are_there(self, fake_clock: FakeClock, fault_server: FaultServer) -> None:
        assert fake_clock.sleeps == []
        assert fault_server.requests == []

    def test_the_embedded_posthog_of_somebody_elses_project_is_started_once_and_closed(self, tmp_path: Path) -> None:
        (tmp_path / "conftest.py").write_text(SOMEBODY_ELSES_CONFTEST)
        (tmp_path / "test_theirs.py").write_text(
            "def test_one(local_posthog): assert local_posthog == 1\n"
            "def test_two(local_posthog, fault_server, fake_clock): assert local_posthog == 1\n"
        )
        command = [sys.executable, "-W", "error", "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert "2 passed" in done.stdout
        assert "closed {'events': 5000, 'seed': 1}" in done.stdout

    def test_the_module_needs_no_pytest(self) -> None:
        code = "import sys; sys.modules['pytest'] = None; import posthog_driver.testing as t; t.FakeClock()"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")

    def test_every_public_name_exists(self) -> None:
        assert all(hasattr(testing, name) for name in testing.__all__)
