"""Keys stay where they belong: not across redirects, not in messages, not replaced by a netrc file."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from posthog_driver.exceptions import ConfigurationError, PostHogError, ResponseFormatError
from posthog_driver.logging_config import StructuredFormatter
from posthog_driver.testing import FaultServer, Received, answer, error_body, query_answer, redirect, reset

KEY = "phx_test_key"
ROWS = query_answer([[1]], ["n"])
OK = answer(200, ROWS)


@pytest.fixture
def elsewhere() -> Iterator[FaultServer]:
    """Another origin, which would gladly answer."""
    with FaultServer(default=OK) as server:
        yield server


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_to_another_origin_is_no_answer_and_takes_nothing_along(
    status: int, connect: Any, fails: Any, fault_server: FaultServer, elsewhere: FaultServer
) -> None:
    fault_server.default = redirect(f"{elsewhere.url}/api/projects/1/query/", status)
    client = connect()
    with fails(ResponseFormatError, match=str(status)):
        client.query("SELECT 1")
    with fails():
        client.capture_event("signed up", "user 1")
    with fails():
        client.list_objects(refresh=True)
    assert client.health_check() is False
    assert elsewhere.connections == 0


def test_a_redirect_to_itself_is_no_loop(connect: Any, fails: Any, fault_server: FaultServer) -> None:
    fault_server.default = redirect("/api/projects/1/query/", 307)
    with fails(ResponseFormatError):
        connect().query("SELECT 1")
    assert len(fault_server.requests) == 1


def test_a_key_in_the_aim_of_a_redirect_is_not_shown(
    connect: Any, fails: Any, fault_server: FaultServer, elsewhere: FaultServer
) -> None:
    fault_server.then(redirect(f"{elsewhere.url}/login?key={KEY}&next=/"))
    with fails(ResponseFormatError):
        connect().query("SELECT 1")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "us.posthog.com",
        "http://",
        "http:///path",
        "http://host:port",
        "http://host:99999",
        "http://ho st",
        "http://[::1",
        "ftp://us.posthog.com",
        "file:///etc/passwd",
        "javascript:alert(1)",
        f"http://user:{KEY}@host",
    ],
)
def test_a_url_that_cannot_be_posthog_s_is_refused_before_anything_is_sent(url: str, connect: Any, fails: Any) -> None:
    with fails(ConfigurationError, match="api_url"):
        connect(api_url=url)


def test_a_host_that_does_not_exist_is_an_error(connect: Any, fails: Any) -> None:
    with fails(PostHogError, match="host.invalid"):
        connect(api_url="http://host.invalid", max_retries=1).query("SELECT 1")


def test_a_netrc_file_does_not_replace_the_key(
    connect: Any, fault_server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\ndefault login a password b\n")
    monkeypatch.setenv("NETRC", str(netrc))
    fault_server.then(OK)
    connect().query("SELECT 1")
    assert fault_server.requests[0].headers["Authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("first", ["query", "capture"])
def test_where_one_host_serves_both_only_queries_carry_the_personal_key(
    first: str, connect: Any, fault_server: FaultServer
) -> None:
    fault_server.default = (200, {"status": "Ok", **ROWS})
    client = connect()
    if first == "query":
        client.query("SELECT 1")
    client.capture_event("signed up", "user 1")
    client.query("SELECT 1")
    for request in fault_server.requests:
        expected = f"Bearer {KEY}" if request.path == "/api/projects/1/query/" else None
        assert request.headers.get("Authorization") == expected


def test_a_key_with_the_newline_of_its_file_is_stripped(connect: Any, fault_server: FaultServer) -> None:
    fault_server.then(OK)
    connect(api_key=f"{KEY}\n").query("SELECT 1")
    assert fault_server.requests[0].headers["Authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("inside", ["\n", "\r\n", " ", "\0", "\x7f", "\u2028", "é"])
def test_a_key_that_no_header_can_carry_is_refused_without_being_shown(inside: str, connect: Any, fails: Any) -> None:
    with fails(ConfigurationError, match="api_key") as caught:
        connect(api_key=f"secret{inside}part")
    assert "secret" not in str(caught.value)
    assert "part" not in str(caught.value)


@pytest.mark.parametrize("key", [KEY, "an-unusual-key"])
@pytest.mark.parametrize("status", [200, 302, 400, 401, 403, 404, 429, 500, 503])
def test_a_server_that_repeats_the_key_finds_it_masked(
    status: int,
    key: str,
    connect: Any,
    fails: Any,
    fault_server: FaultServer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def echo(request: Received) -> Any:
        said = f"You sent {request.headers['Authorization']} to {request.path}?personal_api_key={key}"
        if status == 200:
            return status, f"<html>{said}</html>"
        return answer(status, error_body(status, said), {"Location": f"/?key={key}"})

    fault_server.default = echo
    with fails() as caught:
        connect(api_key=key, max_retries=2).query("SELECT 1")
    assert key not in f"{caught.value} {caught.value!r} {vars(caught.value)}"
    assert key not in caplog.text
    assert key not in "".join(str(vars(record)) for record in caplog.records)


def test_the_client_and_its_parts_show_no_key(connect: Any) -> None:
    client = connect()
    shown = f"{client!r} {client} {client.config!r} {client.config}"
    assert KEY not in shown
    assert "phc_test" not in shown


def test_the_personal_key_never_goes_to_the_ingestion_host(connect: Any, elsewhere: FaultServer) -> None:
    elsewhere.default = (200, {"status": "Ok"})
    client = connect(capture_url=elsewhere.url)
    client.capture_event("signed up", "user 1")
    client.capture_batch([{"event": "paid", "distinct_id": "user 1"}])
    assert len(elsewhere.requests) == 2
    for request in elsewhere.requests:
        assert KEY not in f"{request.path} {dict(request.headers)} {request.json}"
        assert request.json["api_key"] == "phc_test"


def test_every_record_of_a_bad_day_is_one_line_of_json_without_a_key(
    connect: Any, fails: Any, fault_server: FaultServer, caplog: pytest.LogCaptureFixture
) -> None:
    fault_server.then(
        reset(), answer(503, f"down\n{KEY}\u2028"), (400, error_body(400, 'line\nbreak "quoted" \ud800')), OK
    )
    client = connect(max_retries=3)
    with fails():
        client.query("SELECT 'private'")
    client.query("SELECT 1")
    formatter = StructuredFormatter()
    lines = [formatter.format(record) for record in caplog.records]
    assert len(lines) >= 5
    assert all("\n" not in line and isinstance(json.loads(line), dict) for line in lines)
    assert KEY not in "".join(lines)
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 2
    assert all("retry" in warning for warning in warnings)
    loud = [record for record in caplog.records if record.levelno > logging.DEBUG]
    assert "private" not in "".join(map(formatter.format, loud))
