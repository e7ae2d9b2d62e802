"""The Claude Agent SDK, with the Claude Code that it brings along and our tools in the process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest
from claude_agent_sdk import ClaudeAgentOptions, ClaudeSDKClient

from examples.claude_agent_sdk import ask
from posthog_driver.local import LocalPostHog
from posthog_driver.tools import Budget, agent_sdk
from tests.clients.fake_model import FakeModel, call, say
from tests.clients.world import ENDLESS, QUESTIONS, Door, Memory, plain

OURS = "mcp__posthog__"


@pytest.fixture
def options(tmp_path: Path) -> ClaudeAgentOptions:
    """An agent with nothing but our tools, in a home of its own."""
    return ClaudeAgentOptions(
        tools=[],
        setting_sources=[],
        strict_mcp_config=True,
        permission_mode="dontAsk",
        cwd=tmp_path,
        env={
            "ANTHROPIC_API_KEY": "sk-ant-dummy",
            "HOME": str(tmp_path),
            "CLAUDE_CONFIG_DIR": str(tmp_path / "claude"),
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        },
    )


def run(model: FakeModel, toolkit: Memory, options: ClaudeAgentOptions) -> str:
    options.env["ANTHROPIC_BASE_URL"] = model.url
    return anyio.run(ask, toolkit, options, "How are we doing?")


def test_the_model_sees_every_answer_byte_for_byte(
    toolkit: Memory, options: ClaudeAgentOptions, expected: list[str], key: str
) -> None:
    calls = [call(OURS + name, **arguments) for name, arguments in QUESTIONS]
    with FakeModel(calls, [say("Fine.")]) as model:
        assert run(model, toolkit, options) == "Fine."

    assert model.answers == toolkit.texts(QUESTIONS)
    assert list(map(plain, model.answers)) == expected
    failed = [bool(result.get("is_error")) for result in model.asked[-1].results]
    assert failed == [toolkit.answers[repr(each)].is_error for each in QUESTIONS]
    assert not model.anywhere(key)


def test_the_longest_answer_that_a_host_can_allow_is_not_taken_away_from_the_model(
    local_posthog: LocalPostHog, options: ClaudeAgentOptions
) -> None:
    arguments = {"query": "SELECT number, repeat('long ', 10) AS text FROM numbers(1000) LIMIT 1000", "max_rows": 1000}
    with (
        local_posthog.client() as client,
        Memory(client, budget=Budget(characters=40_000)) as toolkit,
        FakeModel([call(OURS + "posthog_query", **arguments)], [say("Long.")]) as model,
    ):
        run(model, toolkit, options)

    assert 39_000 < len(model.answers[0]) <= 40_000
    assert model.answers == toolkit.texts([("posthog_query", arguments)])


def test_the_model_is_told_the_instructions_and_offered_the_tools(toolkit: Memory, options: ClaudeAgentOptions) -> None:
    with FakeModel([say("Fine.")]) as model:
        run(model, toolkit, options)

    offered = {tool["name"]: tool for tool in model.asked[0].body["tools"]}
    for definition in toolkit.definitions():
        tool = offered[OURS + definition["name"]]
        assert tool["description"] == definition["description"]
        assert tool["input_schema"]["properties"] == definition["input_schema"]["properties"]
    prompt = repr([model.asked[0].body["system"], model.asked[0].messages])
    assert repr(toolkit.system_prompt())[1:-1] in prompt


def test_our_tools_are_there_from_the_start_also_beside_the_agents_own(
    toolkit: Memory, options: ClaudeAgentOptions
) -> None:
    options.tools = {"type": "preset", "preset": "claude_code"}
    with FakeModel([say("Fine.")]) as model:
        run(model, toolkit, options)

    offered = [tool["name"] for tool in model.asked[0].body["tools"]]
    assert "Bash" in offered
    assert set(offered) >= {OURS + definition["name"] for definition in toolkit.definitions()}
    assert not any(tool.get("defer_loading") for tool in model.asked[0].body["tools"] if OURS in tool["name"])


def test_three_queries_of_one_turn_are_asked_side_by_side(toolkit: Memory, options: ClaudeAgentOptions) -> None:
    turn = [call(OURS + "posthog_query", query=f"SELECT {n} AS together LIMIT 1") for n in range(3)]
    with FakeModel(turn, [say("Done.")]) as model:
        assert run(model, toolkit, options) == "Done."

    assert [text.splitlines()[3] for text in model.answers] == ["0", "1", "2"]


def test_an_interrupt_cancels_the_query_in_posthog(toolkit: Memory, options: ClaudeAgentOptions, door: Door) -> None:
    options.mcp_servers = {agent_sdk.NAME: agent_sdk.server(toolkit)}
    options.allowed_tools = agent_sdk.ALLOWED_TOOLS

    async def talk() -> None:
        async with ClaudeSDKClient(options) as client:
            await client.query("How many pairs are there?")
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(collect, client)
                assert await anyio.to_thread.run_sync(door.has_endless.wait, 60)
                await client.interrupt()
            assert await anyio.to_thread.run_sync(door.has_cancelled.wait, 60)

    async def collect(client: Any) -> None:
        async for _ in client.receive_response():
            pass

    with FakeModel([call(OURS + "posthog_query", query=ENDLESS)], [say("Many.")]) as model:
        options.env["ANTHROPIC_BASE_URL"] = model.url
        anyio.run(talk)

    queries = [request.json for request in door.server.requests if b'"HogQLQuery"' in request.body]
    (query_id,) = {body["client_query_id"] for body in queries if body["query"]["query"] == ENDLESS}
    deleted = [request.path for request in door.server.requests if request.method == "DELETE"]
    assert [path for path in deleted if query_id in path] == deleted != []


@pytest.mark.parametrize("allowed", [True, False])
def test_the_tools_run_only_if_they_are_allowed(allowed: bool, toolkit: Memory, options: ClaudeAgentOptions) -> None:
    options.mcp_servers = {agent_sdk.NAME: agent_sdk.server(toolkit)}
    options.allowed_tools = agent_sdk.ALLOWED_TOOLS if allowed else []

    async def talk() -> None:
        async with ClaudeSDKClient(options) as client:
            await client.query("How are we doing?")
            async for _ in client.receive_response():
                pass

    with FakeModel([call(OURS + "posthog_schema")], [say("Fine.")]) as model:
        options.env["ANTHROPIC_BASE_URL"] = model.url
        anyio.run(talk)

    assert len(toolkit.answers) == allowed


def test_a_cursor_of_one_turn_is_good_in_the_next(toolkit: Memory, options: ClaudeAgentOptions) -> None:
    def read_on(texts: list[str]) -> list[dict[str, Any]]:
        cursor = texts[0].partition('{"cursor":"')[2].partition('"')[0]
        return [call(OURS + "posthog_query", cursor=cursor, max_rows=2)]

    first = call(OURS + "posthog_query", query="SELECT number FROM numbers(5) LIMIT 5", max_rows=2)
    with FakeModel([first], read_on, read_on, [say("0 to 4")]) as model:
        assert run(model, toolkit, options) == "0 to 4"

    rows = [line for text in model.answers for line in text.splitlines() if line.isdigit()]
    assert rows == ["0", "1", "2", "3", "4"]
