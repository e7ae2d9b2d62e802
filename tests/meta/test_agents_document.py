"""docs/agents.md is true: its snippets run, its settings are what clients read, its options and links exist."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from posthog_driver import cli
from posthog_driver.local import LocalPostHog
from posthog_driver.tools.definitions import TOOLS
from tests.clients.fake_model import FakeModel, call, say

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "agents.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", TEXT, re.DOTALL)
# The snippet of the Claude Agent SDK runs in tests/clients, where its package is.
SNIPPETS = [text for language, text in BLOCKS if language == "python" and "claude_agent_sdk" not in text]
SETTINGS = [json.loads(text) for language, text in BLOCKS if language == "json"]


@pytest.fixture
def model(local_posthog: LocalPostHog, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeModel]:
    """A model that looks once and answers; the snippets find it, and PostHog, by their variables."""
    monkeypatch.setenv("POSTHOG_API_URL", local_posthog.url)
    monkeypatch.setenv("POSTHOG_PROJECT_ID", str(local_posthog.project_id))
    monkeypatch.setenv("POSTHOG_PERSONAL_API_KEY", local_posthog.personal_api_key)
    with FakeModel([call("posthog_schema")], lambda texts: [say(f"I saw {texts[0].split()[0]} lines.")]) as model:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", model.url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-dummy")
        yield model


@pytest.mark.parametrize(
    ("number", "printed"),
    [(0, r"I saw \d+ lines\."), (1, r"\d+ rows x 3 columns.*\n<posthog-data"), (2, r"(?s).*\ntime,\$pageview\n")],
)
def test_each_snippet_runs_and_prints_an_answer(
    number: int, printed: str, model: FakeModel, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(SNIPPETS) == 3
    exec(compile(SNIPPETS[number], f"docs/agents.md, snippet {number + 1}", "exec"), {"__name__": "document"})
    assert re.match(printed, capsys.readouterr().out)


@pytest.mark.parametrize("settings", SETTINGS)
def test_each_client_is_told_to_start_the_server_with_all_it_needs(settings: dict[str, Any]) -> None:
    (servers,) = [settings[name] for name in ("mcpServers", "servers") if name in settings]
    server = servers["posthog"]

    assert (server["command"], server["args"]) == ("posthog-driver", ["mcp"])
    assert set(server["env"]) == {"POSTHOG_API_URL", "POSTHOG_PROJECT_ID", "POSTHOG_PERSONAL_API_KEY"}
    # No key is written down but where there is no other place for it.
    key = server["env"]["POSTHOG_PERSONAL_API_KEY"]
    assert key.startswith("${") or key == "phx_..."


def test_each_tool_and_each_option_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert re.findall(r"^\| `(posthog_\w+)` \|", TEXT, re.MULTILINE) == [tool.name for tool in TOOLS]
    with pytest.raises(SystemExit):
        cli.main(["mcp", "--help"])
    own = capsys.readouterr().out.partition("\noptions:")[2].partition("common options")[0]
    options = set(re.findall(r"--[a-z]+", own)) - {"--help"}
    assert options == set(re.findall(r"--[a-z]+", "".join(re.findall(r"^\| `--.*$", TEXT, re.MULTILINE))))


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", TEXT):
        assert target.startswith("https://") or (ROOT / "docs" / target).exists(), target
