"""Tools in the hands of real clients: are calls of one turn side by side, how soon is a query cancelled?

It needs the packages of the clients: ``make clients`` installs them, and runs it.
"""

from __future__ import annotations

import contextlib
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import mcp
from anthropic import Anthropic
from claude_agent_sdk import ClaudeAgentOptions, ClaudeSDKClient
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client

from benchmarks.measure import Row, show
from posthog_driver import PostHogClient, PostHogConfig
from posthog_driver.testing import FaultServer, Received, answer, query_answer
from posthog_driver.tools import Toolkit, agent_sdk, anthropic_tools, mcp_server
from tests.clients.fake_model import FakeModel, call, say

ROUNDS = 5
KEY = "phx_bench"
# Each time others, as the toolkit remembers what it was asked.
QUERIES = (f"SELECT {n} AS n LIMIT 1" for n in range(10**6))


def a_second(request: Received) -> Any:
    """A PostHog whose every query takes a second."""
    time.sleep(1)
    return answer(200, query_answer([[1]], ["n"]))


@contextlib.contextmanager
def toolkit_of(server: FaultServer) -> Iterator[Toolkit]:
    config = PostHogConfig(KEY, 1, api_url=server.url, rate_limit_per_minute=10**9, rate_limit_per_hour=10**9)
    with PostHogClient(config) as client, Toolkit(client) as toolkit:
        yield toolkit


def options_of(toolkit: Toolkit, model: FakeModel, home: str) -> ClaudeAgentOptions:
    settings = {"ANTHROPIC_BASE_URL": model.url, "ANTHROPIC_API_KEY": "sk-ant-dummy", "HOME": home}
    return ClaudeAgentOptions(
        tools=[],
        setting_sources=[],
        strict_mcp_config=True,
        permission_mode="dontAsk",
        mcp_servers={agent_sdk.NAME: agent_sdk.server(toolkit)},
        allowed_tools=agent_sdk.ALLOWED_TOOLS,
        cwd=home,
        env={**settings, "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1"},
    )


async def collect(client: Any) -> None:
    async for _ in client.receive_response():
        pass


def three(prefix: str = "") -> list[dict[str, Any]]:
    return [call(f"{prefix}posthog_query", query=next(QUERIES)) for _ in range(3)]


# --- three queries of a second in one turn: seconds from the calls to the next request -------------------------------


def agent_sdk_turn() -> float:
    async def talk(options: ClaudeAgentOptions) -> None:
        async with ClaudeSDKClient(options) as client:
            await client.query("go")
            await collect(client)

    with (
        FaultServer(default=a_second) as server,
        toolkit_of(server) as toolkit,
        FakeModel(three("mcp__posthog__"), [say("done")]) as model,
        tempfile.TemporaryDirectory() as home,
    ):
        anyio.run(talk, options_of(toolkit, model, home))
        return model.asked[1].at - model.asked[0].at


def messages_turn() -> float:
    with (
        FaultServer(default=a_second) as server,
        toolkit_of(server) as toolkit,
        FakeModel(three()) as model,
        Anthropic(base_url=model.url, api_key="sk-ant-dummy") as client,
    ):
        tools: Any = toolkit.definitions()
        message = client.messages.create(
            model="claude-sonnet-5-5", max_tokens=100, tools=tools, messages=[{"role": "user", "content": "go"}]
        )
        started = time.perf_counter()
        assert len(anthropic_tools.results(toolkit, message.content)) == 3
        return time.perf_counter() - started


def mcp_turn() -> float:
    async def talk(server: FaultServer) -> float:
        settings = {"POSTHOG_API_URL": server.url, "POSTHOG_PROJECT_ID": "1", "POSTHOG_PERSONAL_API_KEY": KEY}
        command = StdioServerParameters(command=sys.executable, args=["-m", "posthog_driver", "mcp"], env=settings)
        async with stdio_client(command) as streams, ClientSession(*streams) as session:
            await session.initialize()
            started = time.perf_counter()
            async with anyio.create_task_group() as calls:
                for block in three():
                    calls.start_soon(session.call_tool, block["name"], block["input"])
            return time.perf_counter() - started

    with FaultServer(default=a_second) as server:
        return anyio.run(talk, server)


# --- from the interrupt to the DELETE that reaches PostHog ------------------------------------------------------------


class Endless:
    """A PostHog whose queries never end, and that notes when one is cancelled."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.cancelled = threading.Event()
        self.at = 0.0
        self.server = FaultServer(default=self._answer)

    def _answer(self, request: Received) -> Any:
        if request.method == "DELETE":
            self.at = time.perf_counter()
            self.cancelled.set()
            return answer(204)
        self.asked.set()
        self.cancelled.wait(60)
        return answer(400, {"type": "validation_error", "code": "query_was_cancelled", "detail": "cancelled"})


def agent_sdk_interrupt() -> float:
    endless = Endless()

    async def talk(options: ClaudeAgentOptions) -> float:
        async with ClaudeSDKClient(options) as client, anyio.create_task_group() as tasks:
            await client.query("go")
            tasks.start_soon(collect, client)
            assert await anyio.to_thread.run_sync(endless.asked.wait, 60)
            started = time.perf_counter()
            await client.interrupt()
            assert await anyio.to_thread.run_sync(endless.cancelled.wait, 60)
            return endless.at - started

    with (
        endless.server as server,
        toolkit_of(server) as toolkit,
        FakeModel(three("mcp__posthog__")[:1], [say("done")]) as model,
        tempfile.TemporaryDirectory() as home,
    ):
        return anyio.run(talk, options_of(toolkit, model, home))


def mcp_cancel() -> float:
    endless = Endless()

    async def talk(toolkit: Toolkit) -> float:
        async with mcp.Client(mcp_server.build_server(toolkit)) as client, anyio.create_task_group() as calls:
            calls.start_soon(client.call_tool, "posthog_query", {"query": next(QUERIES)})
            assert await anyio.to_thread.run_sync(endless.asked.wait, 60)
            started = time.perf_counter()
            calls.cancel_scope.cancel()
            with anyio.CancelScope(shield=True):
                assert await anyio.to_thread.run_sync(endless.cancelled.wait, 60)
            return endless.at - started

    with endless.server as server, toolkit_of(server) as toolkit:
        return anyio.run(talk, toolkit)


def row(what: str, case: Callable[[], float], goal: str) -> Row:
    taken = sorted(case() for _ in range(ROUNDS))
    return Row(what, f"{statistics.median(taken):.2f} s (to {taken[-1]:.2f})", goal)


def main() -> None:
    show(
        f"Tools in real clients, median of {ROUNDS} (and the longest)",
        [
            row("3 queries of 1 s in a turn, Claude Agent SDK", agent_sdk_turn, "goal 1.6, one by one 3"),
            row("3 queries of 1 s in a turn, Messages API", messages_turn, "one by one 3"),
            row("3 queries of 1 s at once, MCP over stdio", mcp_turn, "one by one 3"),
            row("interrupt to PostHog's DELETE, Claude Agent SDK", agent_sdk_interrupt, "goal 1"),
            row("cancelled call to PostHog's DELETE, MCP", mcp_cancel, "goal 1"),
        ],
    )
