"""MCP clients of both generations, and the bare protocol, against ``posthog-driver mcp`` in a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import anyio
import mcp
import pytest
import requests
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client

from tests.clients.world import ENDLESS, QUESTIONS, Door, plain

COMMAND = [sys.executable, "-m", "posthog_driver", "mcp"]
Environment = dict[str, str]
Way = Callable[[Environment], contextlib.AbstractAsyncContextManager[Any]]


def environment(settings: Environment) -> Environment:
    return {"PATH": os.environ["PATH"], **settings}


@contextlib.contextmanager
def http_server(settings: Environment, *options: str) -> Iterator[str]:
    command = [*COMMAND, "--http", "--port", "0", *options]
    with subprocess.Popen(command, env=environment(settings), stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        yield process.stderr.readline().split()[-1]
        process.terminate()
        assert settings["POSTHOG_PERSONAL_API_KEY"] not in process.stderr.read()
    assert process.returncode == 128 + signal.SIGTERM


@contextlib.asynccontextmanager
async def over_stdio(settings: Environment) -> AsyncIterator[Any]:
    command = StdioServerParameters(command=COMMAND[0], args=COMMAND[1:], env=environment(settings))
    async with stdio_client(command) as streams, ClientSession(*streams) as session:
        await session.initialize()
        yield session


@contextlib.asynccontextmanager
async def over_http(settings: Environment) -> AsyncIterator[Any]:
    with http_server(settings) as url:
        async with streamable_http_client(url) as streams, ClientSession(*streams[:2]) as session:
            await session.initialize()
            yield session


@contextlib.asynccontextmanager
async def without_session(settings: Environment) -> AsyncIterator[Any]:
    with http_server(settings) as url:
        async with mcp.Client(url) as client:
            yield client


# What mcp 2 calls a client speaks the protocol of 2026, which knows no sessions.
WAYS: list[Way] = [over_stdio, over_http, *([without_session] if hasattr(mcp, "Client") else [])]


def run(way: Way, settings: Environment, script: Callable[[Any], Any]) -> Any:
    async def work() -> Any:
        async with way(settings) as client:
            return await script(client)

    return anyio.run(work)


@pytest.mark.parametrize("way", WAYS)
def test_a_client_sees_every_answer_byte_for_byte(
    way: Way, settings: Environment, expected: list[str], key: str
) -> None:
    async def script(client: Any) -> list[Any]:
        return [await client.call_tool(name, arguments) for name, arguments in QUESTIONS]

    results = run(way, settings, script)

    assert [plain(result.content[0].text) for result in results] == expected
    wire = [result.model_dump(by_alias=True, mode="json") for result in results]
    assert all(result["structuredContent"] is None and len(result["content"]) == 1 for result in wire)
    assert [result["isError"] for result in wire] == [text.startswith("error ") for text in expected]
    assert key not in repr(wire)


@pytest.mark.parametrize("way", WAYS)
def test_a_client_sees_the_tools_as_they_are_defined(way: Way, settings: Environment, toolkit: Any) -> None:
    async def script(client: Any) -> Any:
        return await client.list_tools()

    listed = run(way, settings, script).model_dump(by_alias=True, mode="json", exclude_none=True)["tools"]

    assert [(tool["name"], tool["description"], tool["inputSchema"]) for tool in listed] == [
        (each["name"], each["description"], each["input_schema"]) for each in toolkit.definitions()
    ]
    assert all(tool["annotations"]["readOnlyHint"] for tool in listed)
    assert all(tool["_meta"] == {"anthropic/alwaysLoad": True} for tool in listed)
    assert not any("outputSchema" in tool for tool in listed)


@pytest.mark.parametrize("way", WAYS)
def test_three_queries_are_asked_side_by_side(way: Way, settings: Environment) -> None:
    async def script(client: Any) -> None:
        async with anyio.create_task_group() as calls:
            for number in range(3):
                query = {"query": f"SELECT {number} AS together LIMIT 1"}
                calls.start_soon(client.call_tool, "posthog_query", query)

    run(way, settings, script)


@pytest.mark.parametrize("way", WAYS)
def test_a_cursor_shows_the_next_rows(way: Way, settings: Environment) -> None:
    async def script(client: Any) -> list[str]:
        query = "SELECT number FROM numbers(5) LIMIT 5"
        first = await client.call_tool("posthog_query", {"query": query, "max_rows": 3})
        cursor = first.content[0].text.partition('{"cursor":"')[2].partition('"')[0]
        second = await client.call_tool("posthog_query", {"cursor": cursor})
        return [line for each in (first, second) for line in each.content[0].text.splitlines() if line.isdigit()]

    assert run(way, settings, script) == ["0", "1", "2", "3", "4"]


# --- cancellation ---------------------------------------------------------------------------------------------------


def message(number: int | None, method: str, **params: Any) -> dict[str, Any]:
    body = {"jsonrpc": "2.0", "method": method, "params": params}
    return body if number is None else {**body, "id": number}


HELLO = message(
    1,
    "initialize",
    protocolVersion="2025-11-25",
    capabilities={},
    clientInfo={"name": "bare", "version": "1"},
)
READY = message(None, "notifications/initialized")
LONG_CALL = message(2, "tools/call", name="posthog_query", arguments={"query": ENDLESS})
CANCEL = message(None, "notifications/cancelled", requestId=2, reason="no longer wanted")


@contextlib.contextmanager
def bare(settings: Environment) -> Iterator[Any]:
    """A server on standard input and output that has been greeted."""
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(COMMAND, env=environment(settings), text=True, encoding="utf-8", **pipes) as process:
        send(process, HELLO)
        assert json.loads(process.stdout.readline())["result"]["serverInfo"]["name"] == "posthog"
        send(process, READY)
        yield process


def send(process: Any, body: dict[str, Any]) -> None:
    print(json.dumps(body), file=process.stdin, flush=True)


def cancel(process: Any) -> None:
    send(process, CANCEL)


def leave(process: Any) -> None:
    process.stdin.close()


def terminate(process: Any) -> None:
    process.terminate()


@pytest.mark.parametrize(("end", "code"), [(cancel, 0), (leave, 0), (terminate, 143)])
def test_what_ends_a_call_over_stdio_ends_its_query_in_posthog(
    end: Callable[[Any], None], code: int, settings: Environment, door: Door
) -> None:
    with bare(settings) as process:
        send(process, LONG_CALL)
        assert door.has_endless.wait(60)
        end(process)
        assert door.has_cancelled.wait(60)
        leave(process)
        out, err = process.stdout.readlines(), process.stderr.read()
    assert (process.returncode, err) == (code, "")
    assert all(json.loads(line)["jsonrpc"] == "2.0" for line in out)


def post(url: str, body: dict[str, Any], **headers: str) -> requests.Response:
    usual = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
    return requests.post(url, json=body, headers={**usual, **headers}, timeout=60)


def test_a_cancelled_call_over_http_ends_its_query_in_posthog(settings: Environment, door: Door) -> None:
    with http_server(settings) as url:
        session = {"Mcp-Session-Id": post(url, HELLO).headers["Mcp-Session-Id"]}
        post(url, READY, **session)
        call = threading.Thread(target=post, args=[url, LONG_CALL], kwargs=session)
        call.start()
        assert door.has_endless.wait(60)
        assert post(url, CANCEL, **session).status_code == 202
        assert door.has_cancelled.wait(60)
        # mcp 2 leaves a cancelled call unanswered; the end of the session ends it.
        requests.delete(url, headers=session, timeout=60)
        call.join()


if without_session in WAYS:

    def test_a_client_without_session_that_gives_up_ends_its_query_in_posthog(
        settings: Environment, door: Door
    ) -> None:
        async def script(client: Any) -> None:
            async with anyio.create_task_group() as calls:
                calls.start_soon(client.call_tool, "posthog_query", {"query": ENDLESS})
                assert await anyio.to_thread.run_sync(door.has_endless.wait, 60)
                calls.cancel_scope.cancel()
            assert await anyio.to_thread.run_sync(door.has_cancelled.wait, 60)

        run(without_session, settings, script)


# --- the command ----------------------------------------------------------------------------------------------------


def test_without_a_key_the_server_says_so_and_ends(settings: Environment) -> None:
    del settings["POSTHOG_PERSONAL_API_KEY"]
    done = subprocess.run(
        COMMAND, env=environment(settings), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
    )

    assert (done.returncode, done.stdout) == (3, "")
    assert "POSTHOG_PERSONAL_API_KEY" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_web_pages_and_other_machines_cannot_ask(settings: Environment) -> None:
    with http_server(settings) as url:
        statuses = [
            post(url, HELLO, Host="attacker.example").status_code,
            post(url, HELLO, Origin="https://attacker.example").status_code,
            post(url, HELLO).status_code,
        ]
    with http_server({**settings, "POSTHOG_MCP_TOKEN": "s3cret-token"}, "--host", "0.0.0.0") as url:
        url = url.replace("0.0.0.0", "127.0.0.1")
        statuses += [
            post(url, HELLO).status_code,
            post(url, HELLO, Authorization="Bearer s3cret-token").status_code,
        ]
    assert statuses == [421, 403, 200, 401, 200]
