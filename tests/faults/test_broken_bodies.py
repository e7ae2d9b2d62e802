"""Answers that are cut, damaged, too large, or not what the API promises: an error, never fewer rows."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from typing import Any

import pytest

from posthog_driver.exceptions import (
    ConnectionError,
    PostHogError,
    QueryError,
    QueryTimeoutError,
    ResponseFormatError,
    TimeoutError,
)
from posthog_driver.testing import (
    FakeClock,
    FaultServer,
    Reply,
    answer,
    chunked,
    error_body,
    gzip_bomb,
    gzipped,
    query_answer,
    query_status,
    redirect,
)

ROWS = query_answer([[1]], ["n"])
OK = answer(200, ROWS)
WORKING = query_status("q")


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(answer(200, ROWS, {"Content-Length": "9999"}, end="close"), id="length larger than the body"),
        pytest.param(chunked(ROWS, "unfinished"), id="last chunk missing"),
        pytest.param(chunked(ROWS, "size"), id="bad chunk size"),
        pytest.param(gzipped(ROWS, "crc"), id="bad checksum"),
        pytest.param(gzipped(ROWS, "plain"), id="not gzip"),
    ],
)
def test_a_body_that_did_not_arrive_whole_is_fetched_again(
    fault: Reply, connect: Any, fails: Any, fault_server: FaultServer
) -> None:
    fault_server.then(fault, OK, fault)
    assert connect().query("SELECT 1") == [{"n": 1}]
    with fails(ConnectionError):
        connect(max_retries=1).query("SELECT 1")


def test_a_gzip_that_ends_early_is_an_error_and_leaves_the_pool_clean(
    connect: Any, fails: Any, fault_server: FaultServer
) -> None:
    client = connect(max_retries=1)
    fault_server.then(gzipped(ROWS, "cut"), OK)
    with fails(PostHogError):
        client.query("SELECT 1")
    assert client.query("SELECT 1") == [{"n": 1}]


@pytest.mark.parametrize("missing", range(1, 9))
def test_a_gzip_without_its_checksum_is_no_whole_answer(
    missing: int, connect: Any, fails: Any, fault_server: FaultServer
) -> None:
    packed = gzip.compress(json.dumps(ROWS).encode())[:-missing]
    fault_server.default = answer(200, packed, {"Content-Type": "application/json", "Content-Encoding": "gzip"})
    with fails(ConnectionError):
        connect(max_retries=1).query("SELECT 1")


def test_joined_gzip_members_are_one_answer_and_other_codings_none(
    connect: Any, fails: Any, fault_server: FaultServer
) -> None:
    text = json.dumps(ROWS).encode()
    packed = gzip.compress(text[:9]) + gzip.compress(text[9:])
    kind = {"Content-Type": "application/json"}
    fault_server.then(
        answer(200, packed, {**kind, "Content-Encoding": "GZIP"}), answer(200, text, {**kind, "Content-Encoding": "br"})
    )
    client = connect(max_retries=1)
    assert client.query("SELECT 1") == [{"n": 1}]
    with fails(ConnectionError, match="compressed as 'br', which was not asked for"):
        client.query("SELECT 1")


def test_compressed_and_chunked_answers_are_read(connect: Any, fault_server: FaultServer) -> None:
    client = connect()
    fault_server.then(gzipped(ROWS), chunked(ROWS))
    assert client.query("SELECT 1") == [{"n": 1}]
    assert client.query("SELECT 1") == [{"n": 1}]


def test_a_body_that_ends_with_the_connection_is_read(connect: Any, fault_server: FaultServer) -> None:
    fault_server.then(answer(200, ROWS, {"Content-Length": None}, end="close"))
    assert connect().query("SELECT 1") == [{"n": 1}]


def test_a_gzip_bomb_is_stopped_before_it_fills_the_memory(
    connect: Any, fails: Any, fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("posthog_driver.transport.MAX_BODY_BYTES", 4_000_000)
    client = connect(max_retries=1)
    fault_server.then(gzip_bomb(60_000_000))
    tracemalloc.start()
    try:
        with fails(PostHogError, match="larger than 4,000,000 bytes"):
            client.query("SELECT 1")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 20_000_000


def test_a_plain_body_above_the_cap_is_an_error_as_well(
    connect: Any, fails: Any, fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("posthog_driver.transport.MAX_BODY_BYTES", 50_000)
    fault_server.then(answer(200, b" " * 100_000), chunked(b" " * 100_000))
    for _ in range(2):
        with fails(PostHogError, match="larger than 50,000 bytes"):
            connect(max_retries=1).query("SELECT 1")


def test_many_rows_are_all_there(connect: Any, fault_server: FaultServer) -> None:
    fault_server.then((200, query_answer([[n, f"row {n}"] for n in range(120_000)], ["n", "s"])))
    rows = connect().query("SELECT n, s FROM numbers LIMIT 120000")
    assert len(rows) == 120_000
    assert rows[119_999] == {"n": 119_999, "s": "row 119999"}


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b'{"columns": ["n"], "results": [[1], [2', id="broken JSON"),
        pytest.param(b'{"columns": ["n"], "results": [[1]]} {}', id="two documents"),
        pytest.param(b"\xff\xfe\x00", id="binary"),
        pytest.param(b"", id="nothing"),
        pytest.param("<html><title>Sign in</title></html>", id="a sign-in page"),
        pytest.param(None, id="null"),
        pytest.param([[1]], id="a list"),
        pytest.param(7, id="a number"),
        pytest.param(b'"ok"', id="a text"),
        pytest.param({}, id="nothing in it"),
        pytest.param({"columns": ["n"]}, id="no results"),
        pytest.param({"columns": ["n"], "results": None}, id="results null"),
        pytest.param({"columns": ["n"], "results": {"n": 1}}, id="results a dict"),
        pytest.param({"columns": ["n"], "results": "[[1]]"}, id="results a text"),
        pytest.param({"columns": ["n"], "results": [1, 2]}, id="rows are numbers"),
        pytest.param({"columns": ["s"], "results": ["a", "b"]}, id="rows are texts"),
        pytest.param({"results": [[1]]}, id="no columns"),
        pytest.param({"columns": "n", "results": [[1]]}, id="columns a text"),
        pytest.param({"columns": [1], "results": [[1]]}, id="columns are numbers"),
        pytest.param(query_answer([[1, 2], [3]], ["a", "b"]), id="a row too short"),
        pytest.param(query_answer([[1, 2], [3, 4, 5]], ["a", "b"]), id="a row too long"),
    ],
)
def test_a_200_that_holds_no_rows_is_an_error(body: Any, connect: Any, fails: Any, fault_server: FaultServer) -> None:
    client = connect(max_retries=1)
    fault_server.then((200, body), OK)
    with fails(ResponseFormatError):
        client.query("SELECT 1")
    assert client.query("SELECT 1") == [{"n": 1}]


def test_columns_of_one_name_keep_all_their_values(connect: Any, fault_server: FaultServer) -> None:
    fault_server.then((200, query_answer([[1, 2, 3]], ["x", "x", "x"])))
    assert connect().query("SELECT 1 AS x, 2 AS x, 3 AS x") == [{"x": 1, "x_2": 2, "x_3": 3}]


@pytest.mark.parametrize("status", [200, 400, 500])
@pytest.mark.parametrize("depth", [900, 5_000, 100_000])
def test_deeply_nested_json_is_an_ordinary_error(
    status: int, depth: int, connect: Any, fails: Any, fault_server: FaultServer
) -> None:
    deep = b"[" * depth + b"]" * depth
    fault_server.then((status, b'{"detail": ' + deep + b"}"))
    with fails(PostHogError):
        connect(max_retries=1).query("SELECT 1")


@pytest.mark.parametrize("fault", [answer(204), answer(304), redirect(None), redirect(None, 308)])
def test_an_answer_without_content_or_aim_is_an_error(
    fault: Reply, connect: Any, fails: Any, fault_server: FaultServer
) -> None:
    fault_server.then(fault)
    with fails(ResponseFormatError):
        connect().query("SELECT 1")
    assert len(fault_server.requests) == 1


class TestQueriesThatAreNotFinished:
    @pytest.mark.parametrize("first", [202, 200])
    def test_are_awaited(self, first: int, connect: Any, fault_server: FaultServer, fake_clock: FakeClock) -> None:
        done = query_status("q", results=ROWS)
        fault_server.then((first, WORKING), (202, WORKING), (202, WORKING), (200, done))
        assert connect().query("SELECT 1") == [{"n": 1}]
        post, *polls = fault_server.requests
        assert {(poll.method, poll.path.partition("?")[0]) for poll in polls} == {("GET", f"{post.path}q/")}
        assert len(fake_clock.sleeps) == 3
        assert sorted(fake_clock.sleeps) == fake_clock.sleeps

    def test_with_stale_rows_are_no_answer_yet(self, connect: Any, fault_server: FaultServer) -> None:
        stale = query_answer([[0]], ["n"], **WORKING)
        fault_server.then((202, stale), (200, query_status("q", results=ROWS)))
        assert connect().query("SELECT 1") == [{"n": 1}]

    def test_are_given_up_and_cancelled_in_time(
        self, connect: Any, fails: Any, fault_server: FaultServer, fake_clock: FakeClock
    ) -> None:
        client = connect()
        fault_server.then((202, WORKING))
        fault_server.default = (202, WORKING)
        started = fake_clock.monotonic()
        with fails() as caught:
            client.query("SELECT 1")
        assert isinstance(caught.value, (TimeoutError, QueryTimeoutError))
        assert fake_clock.monotonic() - started <= 300
        assert fault_server.requests[-1].method == "DELETE"
        assert len(fault_server.requests) < 200

    @pytest.mark.parametrize("status", [200, 400])
    def test_and_fail_then_say_why(self, status: int, connect: Any, fails: Any, fault_server: FaultServer) -> None:
        failed = query_status("q", complete=True, error=True, error_message="Illegal type of argument")
        fault_server.then((202, WORKING), (status, failed))
        with fails(QueryError, match="Illegal type of argument"):
            connect().query("SELECT 1")
        assert len(fault_server.requests) == 2

    @pytest.mark.parametrize("status", [200, 500])
    def test_and_fail_without_a_word_are_errors_too(
        self, status: int, connect: Any, fails: Any, fault_server: FaultServer
    ) -> None:
        client = connect()
        fault_server.then((202, WORKING))
        fault_server.default = (status, query_status("q", complete=True, error=True))
        with fails():
            client.query("SELECT 1")
        assert len(fault_server.requests) <= 4

    def test_and_are_forgotten_by_the_server_are_errors(
        self, connect: Any, fails: Any, fault_server: FaultServer
    ) -> None:
        fault_server.then((202, WORKING), (404, error_body(404, "Query q not found for team 1")))
        with fails(match="Query q not found"):
            connect().query("SELECT 1")

    def test_survive_a_poll_that_fails(self, connect: Any, fault_server: FaultServer) -> None:
        fault_server.then((202, WORKING), (503, b"busy"), (200, query_status("q", results=ROWS)))
        assert connect().query("SELECT 1") == [{"n": 1}]

    def test_and_complete_without_rows_are_errors(self, connect: Any, fails: Any, fault_server: FaultServer) -> None:
        fault_server.then((202, WORKING), (200, query_status("q", complete=True)))
        with fails(ResponseFormatError):
            connect().query("SELECT 1")
