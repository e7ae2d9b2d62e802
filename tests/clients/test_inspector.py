"""The MCP Inspector's command line, over standard input and output and over HTTP."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.clients.test_mcp import http_server
from tests.clients.world import QUESTIONS, plain

Inspect = Any


@pytest.fixture(params=["stdio", "http"])
def inspect(request: pytest.FixtureRequest, settings: dict[str, str]) -> Iterator[Inspect]:
    """Run a method of the inspector; what it printed, decoded."""
    inspector = os.environ.get("MCP_INSPECTOR")
    assert inspector, "These tests need the MCP Inspector: `make clients` installs it, MCP_INSPECTOR names its command"

    def run(server: list[str], method: str, *options: str) -> Any:
        command = [inspector, "--cli", *server, "--method", method, *options]
        environment = {**os.environ, **settings}
        return json.loads(subprocess.run(command, env=environment, check=True, capture_output=True, timeout=120).stdout)

    if request.param == "stdio":
        given = [part for name, value in settings.items() for part in ("-e", f"{name}={value}")]
        yield lambda *asked: run([*given, sys.executable, "-m", "posthog_driver", "mcp"], *asked)
    else:
        with http_server(settings) as url:
            yield lambda *asked: run([url, "--transport", "http"], *asked)


def test_the_inspector_lists_the_tools(inspect: Inspect, toolkit: Any) -> None:
    listed = inspect("tools/list")["tools"]

    assert [tool["name"] for tool in listed] == [each["name"] for each in toolkit.definitions()]
    assert [tool["inputSchema"] for tool in listed] == [each["input_schema"] for each in toolkit.definitions()]


# A list, hostile values, a query that PostHog refuses, and arguments with lists.
@pytest.mark.parametrize("number", [0, 2, 3, 7])
def test_the_inspector_sees_every_answer_byte_for_byte(
    number: int, inspect: Inspect, expected: list[str], key: str
) -> None:
    name, arguments = QUESTIONS[number]
    given = [f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in arguments.items()]
    options = [part for each in given for part in ("--tool-arg", each)]

    result = inspect("tools/call", "--tool-name", name, *options)

    assert [(block["type"], plain(block["text"])) for block in result["content"]] == [("text", expected[number])]
    assert result.get("isError", False) == expected[number].startswith("error ")
    assert key not in json.dumps(result)
