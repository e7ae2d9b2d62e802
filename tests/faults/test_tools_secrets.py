"""Whatever a server says and however a call fails: no key in an answer, a log record or an audit line."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from posthog_driver import PostHogClient
from posthog_driver.testing import FakeClock, FaultServer, Step, answer, error_body, hang_up, query_answer, reset
from posthog_driver.tools import Answer, Toolkit
from posthog_driver.tools.audit import Audit
from tests.conftest import KEY

OTHERS = ("phx_" + "k" * 40, "pha_" + "0123456789abcdefghij", "phr_refresh_0123456789", "phe_" + "0123456789abcdef0123")
ROWS = {"query": "SELECT 1 AS n LIMIT 1"}
Make = Callable[..., Toolkit]


@pytest.fixture
def audit() -> list[str]:
    return []


@pytest.fixture
def make(
    connect: Callable[..., PostHogClient], fake_clock: FakeClock, audit: list[str], caplog: pytest.LogCaptureFixture
) -> Iterator[Make]:
    """Make toolkits of the fault server; afterwards no key may be in any log record or audit line."""
    caplog.set_level(logging.DEBUG, "posthog_driver")
    toolkits: list[Toolkit] = []

    def make(**options: Any) -> Toolkit:
        toolkits.append(Toolkit(connect(max_retries=1), clock=fake_clock, audit=audit.append, **options))
        return toolkits[-1]

    yield make
    for toolkit in toolkits:
        toolkit.close()
    assert_no_key("\n".join([caplog.text, *audit, *map(repr, toolkits), *(repr(vars(one)) for one in toolkits)]))


def assert_no_key(text: str) -> None:
    for key in (KEY, *OTHERS):
        assert key not in text


def checked(result: Answer) -> Answer:
    assert_no_key(result.text)
    assert_no_key(repr(result.meta))
    return result


ECHOES: list[Step] = [
    (401, error_body(401, f"Personal API key {KEY} is not valid")),
    (403, error_body(403, f"API key missing required scope 'query:read' for {KEY}")),
    (400, error_body(400, f"Unable to resolve field: {KEY}")),
    (400, f'{{"detail": "Bearer {KEY}", "extra": "{OTHERS[0]}"}}'),
    (404, error_body(404, f"no project for {KEY}")),
    (429, error_body(429, f"{KEY} asks too often"), {"Retry-After": "1000"}),
    (500, f"<html>Authorization: Bearer {KEY}<br>{OTHERS[1]}</html>"),
    (503, error_body(503, f"{OTHERS[2]} is down")),
    (504, error_body(504, f"too slow for {OTHERS[3]}")),
    (200, f"not JSON: {KEY}"),
    (200, {"error": f"Cannot parse string '{KEY}' and {OTHERS[0]} as Float64"}),
    (200, {"results": [[KEY]], "columns": None, "hogql": KEY}),
    (302, "", {"Location": f"https://user:{KEY}@example.com/?token={OTHERS[0]}"}),
    reset(),
    hang_up(),
]


@pytest.mark.parametrize("step", ECHOES, ids=range(len(ECHOES)))
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("posthog_query", ROWS),
        ("posthog_query", {**ROWS, "check_only": True}),
        ("posthog_schema", {}),
        ("posthog_trend", {"events": ["$pageview"]}),
    ],
    ids=["query", "check", "schema", "trend"],
)
def test_a_server_that_echoes_keys_is_not_repeated(
    make: Make, fault_server: FaultServer, step: Step, name: str, arguments: dict[str, Any]
) -> None:
    fault_server.default = step
    result = checked(make().dispatch(name, arguments))

    assert result.text
    assert result.meta.get("kind") != "internal"


def test_keys_in_rows_and_names_of_columns_are_masked_and_that_is_said(make: Make, fault_server: FaultServer) -> None:
    cells = [KEY, f"Bearer {KEY}", {"a": [KEY]}, *OTHERS, f"https://x.example/?api_key={OTHERS[0]}&b=1"]
    columns = [f"column {KEY}", *(f"c{number}" for number in range(len(cells) - 1))]
    fault_server.then((200, query_answer([cells], columns)))
    result = checked(make(pii="show").dispatch("posthog_query", ROWS))

    assert "with what looks like a key or a secret: masked" in result.text
    assert result.meta["rows"] == 1


def test_what_one_cell_quotes_does_not_hide_the_other_rows(make: Make, fault_server: FaultServer) -> None:
    rows = [['password="'], ["token: '"], ["Authorization: Basic "], ["plain"], ['the end"']]
    fault_server.then((200, query_answer(rows, ["a"])))
    lines = make(pii="show").dispatch("posthog_query", ROWS).text.split("\n")

    assert len(lines) == 3 + len(rows) + 1
    assert "plain" in lines
    assert lines[-1].startswith("</posthog-data id=")


def test_keys_in_notices_of_a_check_are_masked(make: Make, fault_server: FaultServer) -> None:
    notice = {"message": f"Property {KEY} is not known", "start": 7, "end": 11, "fix": OTHERS[0]}
    for found in ("errors", "warnings"):
        body = {"isValid": found == "warnings", "errors": [], "warnings": [], "notices": [], found: [notice]}
        fault_server.then((200, body), *[(500, {})] * 3)
        checked(make().dispatch("posthog_query", {**ROWS, "check_only": True}))


@pytest.mark.parametrize(
    "arguments",
    [
        {"query": f"SELECT '{KEY}' AS n LIMIT 1"},
        {"query": f"DROP TABLE {KEY}"},
        {"query": "SELECT {a} LIMIT 1", "values": {"a": OTHERS[0]}},
        {f"{KEY}": 1},
        {"query": 5, "max_rows": KEY},
        {"cursor": KEY},
        KEY,
    ],
    ids=range(7),
)
def test_keys_that_a_model_sent_are_not_repeated(make: Make, fault_server: FaultServer, arguments: Any) -> None:
    fault_server.then((400, error_body(400, f"Unable to resolve field: {KEY}")), *[(500, {})] * 5)

    checked(make().dispatch("posthog_query", arguments))


def test_the_key_leaves_in_the_header_alone(make: Make, fault_server: FaultServer) -> None:
    fault_server.then((200, query_answer([[1]], ["n"])))
    checked(make().dispatch("posthog_query", ROWS))

    (request,) = fault_server.requests
    assert request.headers["Authorization"] == f"Bearer {KEY}"
    assert KEY.encode() not in request.body
    assert KEY not in request.path


def test_a_fault_of_ours_shows_a_reference_and_no_key(
    make: Make, fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError(f"Authorization: Bearer {KEY} and {OTHERS[0]}")

    fault_server.then((200, query_answer([[1]], ["n"])))
    monkeypatch.setattr("posthog_driver.tools.toolkit.lay_out", broken)
    result = checked(make().dispatch("posthog_query", ROWS))

    assert result.meta["kind"] == "internal"
    assert result.meta["reference"] in caplog.text


def test_plain_audit_lines_hold_no_key_either(connect: Callable[..., PostHogClient], fault_server: FaultServer) -> None:
    lines: list[str] = []
    fault_server.then((200, query_answer([[1]], ["n"])))
    arguments = {"query": f"SELECT '{KEY}', '{OTHERS[0]}', {{a}} LIMIT 1", "values": {"a": f"Bearer {OTHERS[1]}"}}
    with Toolkit(connect(), audit=Audit(lines.append, values="plain")) as toolkit:
        toolkit.dispatch("posthog_query", arguments)

    assert_no_key(lines[0])
    assert json.loads(lines[0])["arguments"]["query"].startswith("SELECT ")


def test_an_answer_that_is_cut_off_is_an_error_without_what_came(make: Make, fault_server: FaultServer) -> None:
    fault_server.then(*[answer(200, f'{{"results": [["{KEY}', end="close")] * 5)

    assert checked(make().dispatch("posthog_query", ROWS)).is_error
