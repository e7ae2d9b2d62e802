"""The doctor without a request: settings, kinds of keys, addresses, limits, proxies; and networks that fail."""

from __future__ import annotations

import contextlib
import json
import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
import trustme

from posthog_driver import PostHogConfig, cli
from posthog_driver._doctor import _REGIONS, Finding, diagnose
from posthog_driver.exceptions import ConfigurationError
from posthog_driver.testing import FaultServer, answer, error_body, reset

NOWHERE = "http://127.0.0.1:9"


def found(environment: dict[str, str] | None = None, **settings: Any) -> dict[str, Finding]:
    config = PostHogConfig(**{"api_key": "phx_test", "project_id": 1, "api_url": NOWHERE, **settings})
    return {finding.check: finding for finding in diagnose(lambda: config, environment=environment or {})}


def test_settings_that_cannot_be_end_it_with_what_is_wrong() -> None:
    def settings() -> PostHogConfig:
        raise ConfigurationError("no project: set POSTHOG_PROJECT_ID")

    last = list(diagnose(settings))[-1]

    assert (last.check, last.state, last.found) == ("settings", "problem", "no project: set POSTHOG_PROJECT_ID")


def test_keys_in_each_others_place_are_known_by_their_beginnings() -> None:
    swapped = found(api_key="phc_test", project_api_key="phx_test")

    assert swapped["kind of key"].state == swapped["kind of token"].state == "problem"
    assert found(api_key="something")["kind of key"].state == "warning"
    assert not {"kind of key", "kind of token"} & found(project_api_key="phc_test").keys()


@pytest.mark.parametrize("region", ["us", "eu"])
def test_the_host_for_events_answers_no_questions(region: str, monkeypatch: pytest.MonkeyPatch) -> None:
    offline(monkeypatch)
    address = found(api_url=f"https://{region}.i.posthog.com")["address"]

    assert (address.state, address.remedy) == ("problem", f"set POSTHOG_API_URL to https://{region}.posthog.com")


def test_events_that_go_to_another_region_than_questions_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    offline(monkeypatch)
    mixed = found(api_url="https://eu.posthog.com", capture_url="https://us.i.posthog.com")

    assert mixed["address of capture"].found == "questions go to eu.posthog.com, events to us.i.posthog.com"
    assert "https://eu.i.posthog.com" in mixed["address of capture"].remedy


def test_a_key_without_encryption_is_told_unless_it_stays_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    offline(monkeypatch)

    assert found(api_url="http://posthog.example")["address"].state == "warning"
    assert "address" not in found()


def test_limits_above_those_of_posthog_are_told() -> None:
    over = found(rate_limit_per_minute=500, max_concurrent=None)["limits"]

    assert over.found == "this client lets through 500 a minute (PostHog: 240), any number at once (PostHog: 3)"
    assert "limits" not in found()


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"HTTPS_PROXY": "http://user:secret@proxy.example:3128"}, "proxy.example:3128 (HTTPS_PROXY)"),
        ({"https_proxy": "proxy.example"}, "proxy.example:80 (HTTPS_PROXY)"),
        ({"HTTPS_PROXY": "http://proxy.example", "NO_PROXY": "localhost, posthog.com"}, None),
        ({}, None),
    ],
)
def test_a_proxy_is_named_without_its_password(
    environment: dict[str, str], expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    offline(monkeypatch)
    proxy = found(environment, api_url="https://us.posthog.com").get("proxy")

    assert (proxy and proxy.found) == (expected and f"requests go through {expected}")


def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def lookup(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", lookup)


def test_an_unknown_host_name_is_told_apart_from_a_closed_port(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "nothing listens there" in found()["network"].remedy
    offline(monkeypatch)
    assert "host name is not known" in found(api_url="https://us.posthog.com")["network"].remedy


def test_a_proxy_that_is_down_is_not_taken_for_posthog(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", NOWHERE)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)

    network = found({"HTTPS_PROXY": NOWHERE}, api_url="https://us.posthog.com")["network"]

    assert (network.state, "check HTTPS_PROXY" in network.remedy) == ("problem", True)


def test_a_failing_posthog_behind_a_proxy_is_not_blamed_on_the_proxy() -> None:
    with FaultServer(default=answer(503, error_body(503, "down"))) as server:
        network = found({"HTTP_PROXY": "http://proxy.example"}, api_url=server.url)["network"]

    assert "status.posthog.com" in network.remedy


def test_tls_that_fails_is_told_by_its_cause() -> None:
    with serving(BaseHTTPRequestHandler, of_unknown_authority()) as strange, serving(Plain) as plain:
        assert "REQUESTS_CA_BUNDLE" in found(api_url=strange)["network"].remedy
        assert "TLS cannot be agreed on" in found(api_url=plain)["network"].remedy


class Plain(socketserver.BaseRequestHandler):
    """Speaks no TLS, and says so at once: what a client greets with may hold no end of a line to wait for."""

    def handle(self) -> None:
        self.request.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\n")
        self.request.recv(65_536)


def of_unknown_authority() -> ssl.SSLContext:
    """A certificate that nobody here trusts."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    return context


@contextlib.contextmanager
def serving(handler: type[socketserver.BaseRequestHandler], tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """The https:// address of a server, with a certificate or without any."""
    with socketserver.TCPServer(("127.0.0.1", 0), handler) as server:
        server.handle_error = lambda *_: None  # type: ignore[method-assign]
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"https://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_a_key_that_posthog_does_not_know_may_belong_to_the_other_region(monkeypatch: pytest.MonkeyPatch) -> None:
    with FaultServer(default=answer(401, error_body(401, "invalid"))) as server:
        own = found(api_url=server.url)["key"]
        monkeypatch.setitem(_REGIONS, "127.0.0.1", "https://us.posthog.com")
        cloud = found(api_url=server.url)["key"]

    assert own.state == cloud.state == "problem"
    assert "other region" not in own.remedy
    assert cloud.remedy.endswith("in the other region, set POSTHOG_API_URL=https://us.posthog.com")


@pytest.mark.parametrize(
    ("reply", "check", "state"),
    [
        (answer(403, error_body(403, "no")), "key", "ok"),
        (answer(404, error_body(404, "no")), "key", "warning"),
        (answer(429, error_body(429, "slow down")), "key", "warning"),
        (answer(503, error_body(503, "down")), "network", "problem"),
        (reset(), "network", "problem"),
    ],
)
def test_each_answer_about_the_key_has_its_meaning(reply: Any, check: str, state: str) -> None:
    with FaultServer(default=reply) as server:
        assert found(api_url=server.url)[check].state == state


def test_the_command_prints_findings_and_remedies_and_ends_with_one_for_a_problem(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("POSTHOG_PERSONAL_API_KEY", "phx_a_long_test_key")
    monkeypatch.setenv("POSTHOG_PROJECT_ID", "1")
    monkeypatch.setenv("POSTHOG_API_URL", NOWHERE)

    assert cli.main(["doctor"]) == 1
    printed = capsys.readouterr().out
    assert "problem  network: " in printed
    assert "         -> nothing listens there" in printed
    assert cli.main(["doctor", "--format", "json"]) == 1
    listed = json.loads(capsys.readouterr().out)
    assert [finding["check"] for finding in listed] == ["versions", "settings", "network"]
    assert "phx_a_long_test_key" not in printed + str(listed)
