"""The adapters: what reaches the toolkit, and that its answers reach each client's package as they are."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import os
import signal
import socket
import sys
import threading
import types
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import mcp
import pytest
import requests
from anthropic.lib.tools import ToolError
from langchain_core.messages import ToolMessage
from sse_starlette.sse import AppStatus

from posthog_driver.exceptions import ConfigurationError, MissingDependencyError
from posthog_driver.tools import anthropic_tools, in_thread, langchain_tools, mcp_server
from posthog_driver.tools.definitions import PYTHON_TOOL, TOOLS

HOSTILE = '2 rows x 1 column\n<posthog-data id="k7f3q2">\nname\n\\u003cb> Zoë 😀 日本\n""\n</posthog-data id="k7f3q2">'
NAMES = [tool.name for tool in TOOLS]
# Names that a Python function could not take, or that one of the packages uses itself.
ODD = {"self": 1, "input": "x", "config": {"a": [None]}, "querry": "", "odd name": 1.5}


class Answer(NamedTuple):
    text: str
    is_error: bool = False


class Scripted:
    """A toolkit whose answers are written: hostile text, a failure for ``fail``, and one that waits for its end."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.started = threading.Event()
        self.cancelled = threading.Event()
        self.closed = 0

    def definitions(self, *, strict: bool = False) -> list[dict[str, Any]]:
        return [tool.entry(strict=strict) for tool in (*TOOLS, PYTHON_TOOL)]

    def system_prompt(self) -> str:
        return "Look first."

    def dispatch(self, name: str, arguments: Any, *, cancel: threading.Event | None = None) -> Answer:
        self.calls.append((name, arguments))
        arguments = arguments or {}
        if arguments.get("wait"):
            assert cancel is not None
            self.started.set()
            assert cancel.wait(30)
            self.cancelled.set()
        if arguments.get("print"):
            print("stray")
        return Answer(HOSTILE, bool(arguments.get("fail")))

    def handle(self, block: Any) -> dict[str, Any]:
        answer = self.dispatch(block.name, block.input)
        return {"type": "tool_result", "tool_use_id": block.id, "content": answer.text, "is_error": answer.is_error}

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def toolkit() -> Any:
    return Scripted()


# --- threads --------------------------------------------------------------------------------------------------------


def test_calls_of_one_turn_run_side_by_side(toolkit: Any) -> None:
    together = threading.Barrier(3, timeout=30)
    toolkit.dispatch = lambda name, arguments, *, cancel: Answer(f"{name} {together.wait()}")

    async def turn() -> list[Any]:
        return await asyncio.gather(*(in_thread.dispatch(toolkit, name, {}) for name in "abc"))

    assert [answer.text[0] for answer in anyio.run(turn)] == ["a", "b", "c"]


def test_the_end_of_a_waiting_task_is_the_end_of_its_call(toolkit: Any) -> None:
    async def turn() -> None:
        task = asyncio.create_task(in_thread.dispatch(toolkit, "posthog_query", {"wait": True}))
        await anyio.to_thread.run_sync(toolkit.started.wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    anyio.run(turn)
    assert toolkit.cancelled.wait(30)


def test_a_call_that_is_cancelled_while_its_answer_is_on_the_way_gives_none(toolkit: Any) -> None:
    async def turn() -> bool:
        with anyio.CancelScope() as scope:
            toolkit.dispatch = lambda *_, cancel: anyio.from_thread.run_sync(scope.cancel)
            await in_thread.dispatch(toolkit, "posthog_query", {})
        return scope.cancelled_caught

    assert anyio.run(turn)


# --- anthropic ------------------------------------------------------------------------------------------------------


def test_the_runner_gets_the_definitions_of_the_toolkit(toolkit: Any) -> None:
    for make in (anthropic_tools.runner_tools, anthropic_tools.async_runner_tools):
        made: list[Any] = list(make(toolkit))
        assert [tool.to_dict() for tool in made] == toolkit.definitions()
        assert [tool.name for tool in made] == [*NAMES, PYTHON_TOOL.name]
        assert all(tool.to_dict()["strict"] for tool in make(toolkit, strict=True))


def test_the_runner_gets_the_text_of_an_answer_as_it_is(toolkit: Any) -> None:
    sync_tool: Any = anthropic_tools.runner_tools(toolkit)[1]
    async_tool: Any = anthropic_tools.async_runner_tools(toolkit)[1]

    assert sync_tool.call(ODD) == anyio.run(async_tool.call, ODD) == HOSTILE
    assert toolkit.calls == [("posthog_query", ODD)] * 2


def test_a_failure_is_raised_as_the_runner_wants_it_with_its_text_as_it_is(toolkit: Any) -> None:
    sync_tool: Any = anthropic_tools.runner_tools(toolkit)[0]
    async_tool: Any = anthropic_tools.async_runner_tools(toolkit)[0]

    with pytest.raises(ToolError) as caught:
        sync_tool.call({"fail": True})
    assert caught.value.content == HOSTILE
    with pytest.raises(ToolError) as caught:
        anyio.run(async_tool.call, {"fail": True})
    assert caught.value.content == HOSTILE


def block(kind: str, **facts: Any) -> Any:
    return types.SimpleNamespace(type=kind, **facts)


def test_all_calls_of_a_message_are_answered_side_by_side_and_in_order(toolkit: Any) -> None:
    together = threading.Barrier(3, timeout=30)
    answer = toolkit.handle
    toolkit.handle = lambda block: together.wait() < 3 and answer(block)
    content = [block("text", text="Let me look.")]
    content += [block("tool_use", id=f"toolu_{n}", name=name, input={}) for n, name in enumerate(NAMES[:3])]

    results = anthropic_tools.results(toolkit, content)

    assert [result["tool_use_id"] for result in results] == ["toolu_0", "toolu_1", "toolu_2"]
    assert {result["content"] for result in results} == {HOSTILE}


def test_a_message_without_calls_has_no_results(toolkit: Any) -> None:
    assert anthropic_tools.results(toolkit, [block("text", text="42")]) == []


# --- mcp ------------------------------------------------------------------------------------------------------------


def talk(server: Any, script: Callable[[mcp.Client], Awaitable[None]]) -> None:
    async def run() -> None:
        async with mcp.Client(server) as client:
            await script(client)

    anyio.run(run)


def test_a_client_sees_tools_that_read_and_are_always_loaded(toolkit: Any) -> None:
    async def script(client: mcp.Client) -> None:
        listed = (await client.list_tools()).tools
        assert client.instructions == "Look first."
        assert [tool.name for tool in listed] == [*NAMES, PYTHON_TOOL.name]
        for tool, definition in zip(listed, toolkit.definitions(), strict=True):
            assert tool.description == definition["description"]
            assert tool.input_schema == definition["input_schema"]
            assert tool.output_schema is None
            assert tool.meta == {"anthropic/alwaysLoad": True}
        assert all(tool.annotations and tool.annotations.read_only_hint for tool in listed[:-1])

    talk(mcp_server.build_server(toolkit), script)


def test_a_client_gets_text_alone_as_it_is(toolkit: Any) -> None:
    async def script(client: mcp.Client) -> None:
        for fail in (False, True):
            result: Any = await client.call_tool("posthog_query", {**ODD, "fail": fail})
            (content,) = result.content
            assert (content.type, content.text, result.is_error) == ("text", HOSTILE, fail)
            assert result.structured_content is None
        await client.call_tool("no_such_tool")

    talk(mcp_server.build_server(toolkit), script)
    assert toolkit.calls[1:] == [("posthog_query", {**ODD, "fail": True}), ("no_such_tool", None)]


def test_a_call_that_the_client_takes_back_is_cancelled(toolkit: Any) -> None:
    async def script(client: mcp.Client) -> None:
        async with anyio.create_task_group() as calls:
            calls.start_soon(client.call_tool, "posthog_query", {"wait": True})
            await anyio.to_thread.run_sync(toolkit.started.wait)
            calls.cancel_scope.cancel()
        assert await anyio.to_thread.run_sync(toolkit.cancelled.wait, 30)

    talk(mcp_server.build_server(toolkit), script)


class Old:
    """What a low-level server of mcp 1 offers to those who register handlers."""

    def __init__(self) -> None:
        self.request_handlers: dict[Any, Callable[[Any], Awaitable[Any]]] = {}


def test_a_server_of_mcp_1_gets_the_same_handlers(toolkit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    wrapped: Any = types.SimpleNamespace
    monkeypatch.setattr(mcp_server.types, "ServerResult", lambda result: wrapped(root=result), raising=False)
    old = Old()
    mcp_server.register(old, toolkit)
    listing, calling = old.request_handlers.values()
    request = wrapped(params=wrapped(name="posthog_schema", arguments=None))

    assert list(old.request_handlers) == [mcp_server.types.ListToolsRequest, mcp_server.types.CallToolRequest]
    assert len(anyio.run(listing, request).root.tools) == 6
    assert anyio.run(calling, request).root.content[0].text == HOSTILE
    assert toolkit.calls == [("posthog_schema", None)]


class Streams(NamedTuple):
    """The other ends of a process's standard input and output, and the file that standard error goes to."""

    write: Any
    read: Any
    err: Path


@contextlib.contextmanager
def standard_streams(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Streams]:
    """Give the process other standard streams; no fixture, as pytest sets its own once those are made."""
    (stdin, write), (read, stdout) = os.pipe(), os.pipe()
    err = folder / "err"
    with contextlib.ExitStack() as stack, monkeypatch.context() as patch:
        for name, file in (("stdin", os.fdopen(stdin)), ("stdout", os.fdopen(stdout, "w")), ("stderr", err.open("w"))):
            patch.setattr(sys, name, stack.enter_context(file))
        ends = [
            stack.enter_context(os.fdopen(end, mode, encoding="utf-8")) for end, mode in ((write, "w"), (read, "r"))
        ]
        yield Streams(*ends, err)


def initialize(version: str = "2025-11-25") -> dict[str, Any]:
    about = {"name": "test", "version": "1"}
    return {"protocolVersion": version, "capabilities": {}, "clientInfo": about}


def message(number: int | None, method: str, **params: Any) -> dict[str, Any]:
    body = {"jsonrpc": "2.0", "method": method, "params": params}
    return body if number is None else {**body, "id": number}


def test_standard_output_carries_the_protocol_and_nothing_else(
    toolkit: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []

    def talk() -> None:
        print(json.dumps(message(1, "initialize", **initialize())), file=streams.write, flush=True)
        lines.append(streams.read.readline())
        print(json.dumps(message(None, "notifications/initialized")), file=streams.write)
        call = message(2, "tools/call", name="posthog_query", arguments={"print": True})
        print(json.dumps(call), file=streams.write, flush=True)
        lines.append(streams.read.readline())
        streams.write.close()

    with standard_streams(tmp_path, monkeypatch) as streams:
        client = threading.Thread(target=talk)
        client.start()
        mcp_server.serve_stdio(toolkit)
        client.join()
        print("afterwards", flush=True)
        afterwards = streams.read.readline()

    first, second = map(json.loads, lines)
    assert first["result"]["instructions"] == "Look first."
    assert second["result"]["content"] == [{"type": "text", "text": HOSTILE}]
    assert afterwards == "afterwards\n"
    assert streams.err.read_text(encoding="utf-8") == "stray\n"


class Left(Exception):
    """In place of the end of the process."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


@pytest.fixture
def leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    def leave(code: int) -> None:
        raise Left(code)

    monkeypatch.setattr(mcp_server.os, "_exit", leave)
    # It is set when a server ends, and never reset: a process serves once.
    monkeypatch.setattr(AppStatus, "should_exit", False)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_process_once_the_toolkit_is_closed(
    number: signal.Signals, toolkit: Any, leaves: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = signal.getsignal(number)
    monkeypatch.setattr(mcp_server.anyio, "run", lambda _serve: signal.raise_signal(number))

    with pytest.raises(Left) as caught:
        mcp_server.serve_stdio(toolkit)

    assert (caught.value.code, toolkit.closed) == (128 + number, 1)
    assert signal.getsignal(number) == before


def post(url: str, body: Any, **headers: str) -> requests.Response:
    usual = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
    return requests.post(url, json=body, headers={**usual, **headers}, timeout=30)


def serve(toolkit: Any, ask: Callable[[str], Any], **options: Any) -> Any:
    """Serve over HTTP until ``ask``, in a thread, has returned; what it returned."""
    asked: list[Any] = []
    threads: list[threading.Thread] = []

    def work(url: str) -> None:
        try:
            asked.append(ask(url))
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    def ready(url: str) -> None:
        threads.append(threading.Thread(target=work, args=[url]))
        threads[0].start()

    with pytest.raises(Left):
        mcp_server.serve_http(toolkit, ready=ready, **options)
    threads[0].join()
    return asked[0]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_http_answers_on_loopback(host: str, toolkit: Any, leaves: None) -> None:
    def ask(url: str) -> Any:
        return url, post(url, message(1, "initialize", **initialize()))

    url, response = serve(toolkit, ask, host=host)

    assert response.status_code == 200
    assert "Look first." in response.text
    assert url.startswith(f"http://{'[::1]' if ':' in host else host}:")
    assert toolkit.closed == 1


def test_a_web_page_cannot_ask_through_a_browser(toolkit: Any, leaves: None) -> None:
    def ask(url: str) -> list[int]:
        body = message(1, "initialize", **initialize())
        answers = [
            post(url, body, Host="attacker.example"),
            post(url, body, Host="127.0.0.1.attacker.example:80"),
            post(url, body, Origin="https://attacker.example"),
            post(url, body, Origin="http://localhost:3000"),
        ]
        return [answer.status_code for answer in answers]

    assert serve(toolkit, ask) == [421, 421, 403, 200]


def test_with_a_token_only_who_has_it_may_ask_by_whatever_name(toolkit: Any, leaves: None) -> None:
    def ask(url: str) -> list[int]:
        body = message(1, "initialize", **initialize())
        answers = [
            post(url, body),
            post(url, body, Authorization="Bearer guess"),
            post(url, body, Authorization="Bearer s3cret", Host="mcp.internal"),
        ]
        assert answers[0].headers["WWW-Authenticate"] == "Bearer"
        return [answer.status_code for answer in answers]

    assert serve(toolkit, ask, host="0.0.0.0", token="s3cret") == [401, 401, 200]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "mcp.internal"])
def test_where_others_can_reach_it_a_token_is_needed(host: str, toolkit: Any) -> None:
    with pytest.raises(ConfigurationError, match="POSTHOG_MCP_TOKEN"):
        mcp_server.serve_http(toolkit, host=host)


@pytest.mark.parametrize("port", [-1, 70_000])
def test_a_port_that_cannot_be_is_a_setting_that_cannot_work(port: int, toolkit: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"Ports are numbers from 0 to 65535, not {port}"):
        mcp_server.serve_http(toolkit, port=port)


def test_a_port_that_is_taken_is_a_setting_that_cannot_work(toolkit: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"Cannot listen on 127.0.0.1, port {port}: .*in use"):
            mcp_server.serve_http(toolkit, port=port)


# --- Claude Agent SDK -----------------------------------------------------------------------------------------------


def test_the_agent_sdk_gets_a_server_in_the_process(toolkit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def create(name: str, version: str) -> dict[str, Any]:
        return {"type": "sdk", "name": name, "instance": mcp_server.Server(name, version=version)}

    monkeypatch.setitem(sys.modules, "claude_agent_sdk", types.SimpleNamespace(create_sdk_mcp_server=create))
    monkeypatch.delitem(sys.modules, "posthog_driver.tools.agent_sdk", raising=False)
    agent_sdk = importlib.import_module("posthog_driver.tools.agent_sdk")
    monkeypatch.delitem(sys.modules, "posthog_driver.tools.agent_sdk")
    config = agent_sdk.server(toolkit)

    async def script(client: mcp.Client) -> None:
        assert client.instructions == "Look first."
        assert len((await client.list_tools()).tools) == 6
        result: Any = await client.call_tool("posthog_query", ODD)
        assert result.content[0].text == HOSTILE

    assert (config["type"], config["name"], agent_sdk.ALLOWED_TOOLS) == ("sdk", "posthog", ["mcp__posthog"])
    talk(config["instance"], script)


# --- LangChain ------------------------------------------------------------------------------------------------------


def test_langchain_sees_the_definitions_of_the_toolkit(toolkit: Any) -> None:
    for tool, definition in zip(langchain_tools.tools(toolkit), toolkit.definitions(), strict=True):
        assert (tool.name, tool.description) == (definition["name"], definition["description"])
        assert tool.args_schema == definition["input_schema"]


@pytest.mark.parametrize(("fail", "status"), [(False, "success"), (True, "error")])
def test_langchain_gets_the_text_of_an_answer_as_it_is(fail: bool, status: str, toolkit: Any) -> None:
    tool = langchain_tools.tools(toolkit)[1]
    arguments = {**ODD, "fail": fail}
    call: Any = {"type": "tool_call", "id": "1", "name": tool.name, "args": arguments}

    for result in (tool.invoke(call), anyio.run(tool.ainvoke, call)):
        assert isinstance(result, ToolMessage)
        assert (result.content, result.status) == (HOSTILE, status)
    assert toolkit.calls == [("posthog_query", arguments)] * 2


# --- packages -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("adapter", "needed", "extra"),
    [
        ("anthropic_tools", "anthropic.lib.tools", "anthropic"),
        ("mcp_server", "mcp", "mcp"),
        ("agent_sdk", "claude_agent_sdk", "claude-agent-sdk"),
        ("langchain_tools", "langchain_core.tools", "langchain"),
    ],
)
def test_a_missing_package_is_named_with_its_installation(
    adapter: str, needed: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, needed, None)  # type: ignore[arg-type]
    monkeypatch.delitem(sys.modules, f"posthog_driver.tools.{adapter}", raising=False)

    with pytest.raises(MissingDependencyError, match=rf'pip install "posthog-driver\[{extra}\]"'):
        importlib.import_module(f"posthog_driver.tools.{adapter}")
