"""Asking PostHog from within a sandbox: the driver's answers, errors and retries without any other package."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from io import BytesIO
from typing import Any

import pytest

from posthog_driver.exceptions import (
    AuthenticationError,
    ConnectionError,
    PostHogError,
    QueryError,
    RateLimitError,
    ResponseFormatError,
    ServerError,
    TimeoutError,
)
from posthog_driver.sandbox import bundle, inside
from posthog_driver.sandbox.broker import read_error, read_rows
from posthog_driver.testing import (
    FakeClock,
    FaultServer,
    error_body,
    query_answer,
    query_status,
    redirect,
    reset,
    silence,
)

ROWS = (200, query_answer([[7]], ["n"]))


def ask(server: FaultServer, clock: FakeClock, hogql: str = "SELECT 1", **changed: Any) -> dict[str, Any]:
    direct = {
        "api_url": server.url,
        "project_id": "1",
        "run_timeout": 60.0,
        "max_queries": 5,
        "max_result_bytes": 10_000,
    }
    reply = inside.connect({**direct, **changed}, clock)(json.dumps({"query": hogql}).encode())
    answered: dict[str, Any] = json.loads(reply)
    return answered


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("POSTHOG_PERSONAL_API_KEY", raising=False)


def test_a_query_gets_rows(fault_server: FaultServer, fake_clock: FakeClock) -> None:
    fault_server.then(ROWS)
    assert read_rows(ask(fault_server, fake_clock)) == [{"n": 7}]


def test_without_a_key_no_header_is_sent_as_it_is_put_on_outside(
    fault_server: FaultServer, fake_clock: FakeClock
) -> None:
    fault_server.then(ROWS)
    ask(fault_server, fake_clock)
    assert "authorization" not in {name.lower() for name in fault_server.requests[0].headers}


def test_a_key_of_the_environment_is_sent_and_never_shown(
    fault_server: FaultServer, fake_clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POSTHOG_PERSONAL_API_KEY", "a-secret-without-prefix")
    fault_server.then((400, error_body(400, "refused a-secret-without-prefix")))
    answered = ask(fault_server, fake_clock)
    assert fault_server.requests[0].headers["Authorization"] == "Bearer a-secret-without-prefix"
    assert "a-secret-without-prefix" not in json.dumps(answered)


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, QueryError), (401, AuthenticationError), (403, AuthenticationError), (402, RateLimitError)],
)
def test_what_posthog_refuses_is_not_asked_again(
    status: int, kind: type[PostHogError], fault_server: FaultServer, fake_clock: FakeClock
) -> None:
    fault_server.then((status, error_body(status, "no")))
    error = read_error(ask(fault_server, fake_clock))
    assert isinstance(error, kind)
    assert (error.status, error.detail, error.attempts) == (status, "no", 1)
    assert len(fault_server.requests) == 1


@pytest.mark.parametrize("step", [(503, error_body(503, "busy")), (429, error_body(429, "slow down")), reset()])
def test_what_passes_is_asked_again(step: Any, fault_server: FaultServer, fake_clock: FakeClock) -> None:
    fault_server.then(step, ROWS)
    assert read_rows(ask(fault_server, fake_clock)) == [{"n": 7}]
    assert len(fake_clock.sleeps) == 1


def test_what_does_not_pass_ends_after_three_attempts(fault_server: FaultServer, fake_clock: FakeClock) -> None:
    fault_server.then(*[(500, error_body(500, "broken"))] * 3)
    error = read_error(ask(fault_server, fake_clock))
    assert isinstance(error, ServerError)
    assert error.attempts == len(fault_server.requests) == 3


def test_a_wait_longer_than_the_run_is_not_begun(fault_server: FaultServer, fake_clock: FakeClock) -> None:
    fault_server.then((429, error_body(429, "slow down"), {"Retry-After": "90"}))
    error = read_error(ask(fault_server, fake_clock))
    assert isinstance(error, RateLimitError)
    assert (error.retry_after, fake_clock.sleeps) == (90, [])


def test_a_slow_query_goes_on_in_the_background(fault_server: FaultServer, fake_clock: FakeClock) -> None:
    done = query_status("q-1", results=query_answer([[7]], ["n"]))
    fault_server.then((504, error_body(504, "too slow")), (202, query_status("q-1")), (200, done))
    assert read_rows(ask(fault_server, fake_clock)) == [{"n": 7}]
    assert [request.method for request in fault_server.requests] == ["POST", "POST", "GET"]


@pytest.mark.parametrize(
    "step", [(200, b"<html>sign in</html>"), redirect("https://elsewhere.example/"), (200, {"results": [[1]]})]
)
def test_what_is_no_answer_of_posthog_is_no_result(step: Any, fault_server: FaultServer, fake_clock: FakeClock) -> None:
    fault_server.then(step)
    assert isinstance(read_error(ask(fault_server, fake_clock)), ResponseFormatError)
    assert len(fault_server.requests) == 1


def test_an_answer_that_is_too_large_is_not_read_to_its_end(
    fault_server: FaultServer, fake_clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inside, "_MOST_BYTES", 1_000)
    fault_server.then((200, b"x" * 2_000))
    error = read_error(ask(fault_server, fake_clock))
    assert isinstance(error, ResponseFormatError)
    assert "larger than 1,000 bytes" in str(error)


def test_silence_is_a_time_out_and_the_query_is_cancelled(fault_server: FaultServer, fake_clock: FakeClock) -> None:
    fault_server.then(silence(), (200, {}))
    error = read_error(ask(fault_server, fake_clock, run_timeout=0.2))
    assert isinstance(error, TimeoutError)
    assert [request.method for request in fault_server.requests] == ["POST", "DELETE"]


def test_a_cancellation_that_fails_changes_nothing(fault_server: FaultServer, fake_clock: FakeClock) -> None:
    fault_server.then(silence(), (500, error_body(500, "broken")))
    assert isinstance(read_error(ask(fault_server, fake_clock, run_timeout=0.2)), TimeoutError)


def test_over_https_an_untrusted_certificate_is_final(fake_clock: FakeClock, fault_server: FaultServer) -> None:
    error = read_error(
        ask(fault_server, fake_clock, api_url=fault_server.url.replace("http:", "https:"), run_timeout=0.5)
    )
    assert isinstance(error, ConnectionError)


def test_the_number_of_queries_is_kept_inside_too(fault_server: FaultServer, fake_clock: FakeClock) -> None:
    answer = inside.connect(
        {
            "api_url": fault_server.url,
            "project_id": "1",
            "run_timeout": 60.0,
            "max_queries": 1,
            "max_result_bytes": 9_999,
        },
        fake_clock,
    )
    fault_server.then(ROWS)
    assert b"rows" in answer(b'{"query": "SELECT 1"}')
    assert b"max_queries" in answer(b'{"query": "SELECT 1"}')


# --- the zip ----------------------------------------------------------------------------------------------------------


def test_the_zip_is_the_same_every_time_and_holds_what_is_listed() -> None:
    first = bundle.package_zip()
    bundle.package_zip.cache_clear()
    assert bundle.package_zip() == first
    with zipfile.ZipFile(BytesIO(first)) as archive:
        assert archive.namelist() == [f"posthog_driver/{name}" for name in bundle.FILES]
    assert len(first) < 100_000


def test_the_zip_needs_nothing_but_the_standard_library(tmp_path: Any) -> None:
    (tmp_path / "package.zip").write_bytes(bundle.package_zip())
    code = f"""
import sys
sys.path.insert(0, {str(tmp_path / "package.zip")!r})
from posthog_driver.sandbox.inside import connect
print(sorted(name for name in sys.modules if name.split(".")[0] in ("requests", "urllib3", "dotenv", "msgspec")))
"""
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("[]\n", "")
