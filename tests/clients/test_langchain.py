"""LangChain's tools, called as its agents call them."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from posthog_driver.tools import langchain_tools
from tests.clients.world import QUESTIONS, Memory, plain


@pytest.mark.parametrize("waits", [True, False])
def test_an_agent_sees_every_answer_byte_for_byte(waits: bool, toolkit: Memory, expected: list[str], key: str) -> None:
    tools = {tool.name: tool for tool in langchain_tools.tools(toolkit)}

    def ask(name: str, arguments: dict[str, Any]) -> Any:
        call: Any = {"type": "tool_call", "id": "1", "name": name, "args": arguments}
        return tools[name].invoke(call) if waits else anyio.run(tools[name].ainvoke, call)

    messages = [ask(name, arguments) for name, arguments in QUESTIONS]

    assert [message.content for message in messages] == toolkit.texts(QUESTIONS)
    assert [plain(message.content) for message in messages] == expected
    assert [message.status == "error" for message in messages] == [text.startswith("error ") for text in expected]
    assert key not in repr(messages)
