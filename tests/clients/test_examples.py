"""The examples, run as scripts the way their first lines say, against the scripted model and the embedded PostHog."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.clients.fake_model import FakeModel, call, say
from tests.clients.test_mcp import http_server

EXAMPLES = Path(__file__).parents[2] / "examples"
TREND = {"events": ["$pageview"], "every": "week", "since": "-8w"}


def run(script: str, *arguments: str, **settings: str) -> str:
    command = [sys.executable, str(EXAMPLES / script), *arguments]
    environment = {"PATH": os.environ["PATH"], **settings}
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True, timeout=120).stdout


def anthropic_settings(model: FakeModel, home: Path) -> dict[str, str]:
    return {
        "ANTHROPIC_BASE_URL": model.url,
        "ANTHROPIC_API_KEY": "sk-ant-dummy",
        "HOME": str(home),
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    }


@pytest.mark.parametrize(
    ("script", "prefix"), [("claude_integration.py", ""), ("claude_agent_sdk.py", "mcp__posthog__")]
)
def test_the_examples_with_a_model_answer_a_question(
    script: str, prefix: str, settings: dict[str, str], tmp_path: Path, key: str
) -> None:
    def answer(texts: list[str]) -> list[dict[str, str]]:
        return [say(f"In the last week: {texts[0].splitlines()[-2].split(',')[1]} users.")]

    with FakeModel([call(f"{prefix}posthog_schema")], [call(f"{prefix}posthog_trend", **TREND)], answer) as model:
        printed = run(script, "How many users?", **settings, **anthropic_settings(model, tmp_path))

    users = model.answers[1].splitlines()[-2].split(",")[1]
    assert int(users) > 0
    assert printed.strip() == f"In the last week: {users} users."
    assert not model.anywhere(key)


def test_the_mcp_example_asks_a_server_that_it_starts_or_that_runs(settings: dict[str, str]) -> None:
    started = run("mcp_client.py", "$pageview", **settings)
    with http_server(settings) as url:
        running = run("mcp_client.py", "$pageview", "--url", url)

    for printed in (started, running):
        assert printed.startswith("posthog_schema: ")
        assert "\ntime,$pageview\n" in printed


def test_the_complete_example_computes_in_a_sandbox_what_the_model_wrote(
    settings: dict[str, str], tmp_path: Path, key: str
) -> None:
    code = (
        "import os\n"
        "rows = query('SELECT event, count() AS n FROM events WHERE event = {event} GROUP BY event', "
        "{'event': 'signed_up'})\n"
        "print('doubled', rows[0]['n'] * 2, 'keys', [name for name in os.environ if 'KEY' in name])"
    )

    def answer(texts: list[str]) -> list[dict[str, str]]:
        (line,) = [line for line in texts[0].splitlines() if line.startswith("doubled")]
        return [say(f"Computed: {line}")]

    with FakeModel([call("posthog_python", code=code)], answer) as model:
        printed = run("complete_example.py", "Double it.", **settings, **anthropic_settings(model, tmp_path))

    assert re.fullmatch(r"Computed: doubled [1-9]\d* keys \[\]", printed.strip())
    assert "posthog_python" in [tool["name"] for tool in model.asked[0].body["tools"]]
    assert not model.anywhere(key)
