"""The SDK anthropic, of both generations: our loop, its tool_runner, streaming and not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import anthropic
import anyio
import pytest
from anthropic import Anthropic, AsyncAnthropic

from examples.claude_integration import ask
from posthog_driver.tools import anthropic_tools
from tests.clients.fake_model import BROKEN, FakeModel, call, say
from tests.clients.world import QUESTIONS, Memory, plain

MODEL = "claude-sonnet-5-5"
CALLS = [call(name, **arguments) for name, arguments in QUESTIONS]
Run = Callable[[str, Memory], str]


def question(toolkit: Memory) -> dict[str, Any]:
    return {
        "model": MODEL,
        "max_tokens": 1_000,
        "system": toolkit.system_prompt(),
        "messages": [{"role": "user", "content": "How are we doing?"}],
    }


def last_text(message: Any) -> str:
    return message.content[-1].text


def own_loop(url: str, toolkit: Memory) -> str:
    with Anthropic(base_url=url, api_key="sk-ant-dummy") as client:
        asked = {**question(toolkit), "tools": toolkit.definitions()}
        while True:
            message = client.messages.create(**asked)
            results = anthropic_tools.results(toolkit, message.content)
            if not results:
                return last_text(message)
            turn = [{"role": "assistant", "content": message.content}, {"role": "user", "content": results}]
            asked["messages"] = [*asked["messages"], *turn]


def example(url: str, toolkit: Memory) -> str:
    with Anthropic(base_url=url, api_key="sk-ant-dummy") as client:
        return ask(client, toolkit, "How are we doing?")


def runner(url: str, toolkit: Memory) -> str:
    with Anthropic(base_url=url, api_key="sk-ant-dummy") as client:
        tools = anthropic_tools.runner_tools(toolkit)
        return last_text(client.beta.messages.tool_runner(tools=tools, **question(toolkit)).until_done())


def streaming_runner(url: str, toolkit: Memory) -> str:
    with Anthropic(base_url=url, api_key="sk-ant-dummy") as client:
        tools = anthropic_tools.runner_tools(toolkit)
        for stream in client.beta.messages.tool_runner(tools=tools, stream=True, **question(toolkit)):
            message = stream.get_final_message()
        return last_text(message)


def async_runner(url: str, toolkit: Memory) -> str:
    async def run() -> str:
        async with AsyncAnthropic(base_url=url, api_key="sk-ant-dummy") as client:
            tools = anthropic_tools.async_runner_tools(toolkit)
            run = client.beta.messages.tool_runner(tools=tools, **question(toolkit))
            # Newer generations make the runner a coroutine.
            made = await run if hasattr(run, "__await__") else run
            return last_text(await made.until_done())

    return anyio.run(run)


WAYS = [own_loop, example, runner, streaming_runner, async_runner]


@pytest.fixture
def model() -> Iterator[FakeModel]:
    with FakeModel(CALLS, [say("Fine.")]) as model:
        yield model


@pytest.mark.parametrize("way", WAYS)
def test_the_model_sees_every_answer_byte_for_byte(
    way: Run, model: FakeModel, toolkit: Memory, expected: list[str], key: str
) -> None:
    assert way(model.url, toolkit) == "Fine."

    assert model.answers == toolkit.texts(QUESTIONS)
    assert list(map(plain, model.answers)) == expected
    failed = [bool(result.get("is_error")) for result in model.asked[-1].results]
    assert failed == [toolkit.answers[repr(each)].is_error for each in QUESTIONS]
    assert not model.anywhere(key)


@pytest.mark.parametrize("way", WAYS)
def test_the_model_is_offered_the_tools_as_they_are_defined(way: Run, model: FakeModel, toolkit: Memory) -> None:
    way(model.url, toolkit)

    assert model.asked[0].body["tools"] == toolkit.definitions()


@pytest.mark.parametrize("way", WAYS)
def test_a_model_can_read_on_with_the_cursor_that_it_was_given(way: Run, toolkit: Memory) -> None:
    def read_on(texts: list[str]) -> list[dict[str, Any]]:
        cursor = texts[0].partition('{"cursor":"')[2].partition('"')[0]
        return [call("posthog_query", cursor=cursor, max_rows=2)]

    first = call("posthog_query", query="SELECT number FROM numbers(5) LIMIT 5", max_rows=2)
    with FakeModel([first], read_on, read_on, [say("0 to 4")]) as model:
        assert way(model.url, toolkit) == "0 to 4"

    rows = [line for text in model.answers for line in text.splitlines() if line.isdigit()]
    assert rows == ["0", "1", "2", "3", "4"]


@pytest.mark.parametrize("way", [own_loop, example])
def test_three_queries_of_one_turn_are_asked_side_by_side(way: Run, toolkit: Memory) -> None:
    turn = [call("posthog_query", query=f"SELECT {n} AS together LIMIT 1") for n in range(3)]
    with FakeModel(turn, [say("Done.")]) as model:
        assert way(model.url, toolkit) == "Done."

    assert [text.splitlines()[3] for text in model.answers] == ["0", "1", "2"]


def test_a_stream_that_breaks_off_is_no_answer(toolkit: Memory) -> None:
    with FakeModel(BROKEN) as model, pytest.raises((RuntimeError, anthropic.APIError)):
        example(model.url, toolkit)


def test_a_model_that_never_ends_is_given_up(toolkit: Memory) -> None:
    turns = [[call("posthog_query", cursor="q99")]] * 21
    with FakeModel(*turns) as model, pytest.raises(RuntimeError, match="no answer in 20 turns"):
        example(model.url, toolkit)
