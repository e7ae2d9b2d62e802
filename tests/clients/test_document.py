"""What docs/agents.md says of Claude Code: its snippet runs, and its settings start our server."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import anyio
import pytest
from claude_agent_sdk import ClaudeAgentOptions, ResultMessage, query

from tests.clients.fake_model import FakeModel, call, say

TEXT = (Path(__file__).parents[2] / "docs" / "agents.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", TEXT, re.DOTALL)
SCHEMA = call("mcp__posthog__posthog_schema")


@pytest.fixture
def environment(settings: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = {
        "ANTHROPIC_API_KEY": "sk-ant-dummy",
        "HOME": str(tmp_path),
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    for name, value in {**settings, **own}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)


def test_the_snippet_of_the_agent_sdk_runs(
    environment: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (snippet,) = [text for language, text in BLOCKS if language == "python" and "claude_agent_sdk" in text]
    with FakeModel([SCHEMA], lambda texts: [say(f"I saw {texts[0].split()[0]} lines.")]) as model:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", model.url)
        exec(compile(snippet, "docs/agents.md", "exec"), {"__name__": "document"})

    assert re.fullmatch(r"I saw \d+ lines\.\n", capsys.readouterr().out)


def test_claude_code_starts_the_server_as_it_is_set_up(
    environment: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, key: str
) -> None:
    written = next(text for language, text in BLOCKS if language == "json" and "URL:-" in text)
    (tmp_path / ".mcp.json").write_text(written, encoding="utf-8")
    assert key not in written

    async def ask() -> list[str | None]:
        options = ClaudeAgentOptions(
            mcp_servers=tmp_path / ".mcp.json",
            allowed_tools=["mcp__posthog"],
            strict_mcp_config=True,
            permission_mode="dontAsk",
            cwd=tmp_path,
        )
        messages = [message async for message in query(prompt="What is there?", options=options)]
        return [message.result for message in messages if isinstance(message, ResultMessage)]

    with FakeModel([SCHEMA], [say("Events.")]) as model:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", model.url)
        assert anyio.run(ask) == ["Events."]

    offered = [tool["name"] for tool in model.asked[0].body["tools"]]
    assert offered.count("mcp__posthog__posthog_query") == 1
    assert "\nkind,name," in model.answers[0]
    assert not model.anywhere(key)
