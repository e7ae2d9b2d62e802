"""The whole way: a question, tools that look it up in PostHog, code in a sandbox that works on it, an answer.

::

    pip install "posthog-driver[anthropic,sandbox]"
    export ANTHROPIC_API_KEY=sk-ant-... POSTHOG_PERSONAL_API_KEY=phx_... POSTHOG_PROJECT_ID=1
    python examples/complete_example.py "Is the share of people who come back rising? Fit a line."

With a sandbox the model has a sixth tool, ``posthog_python``: code that asks ``query(hogql, values)`` and computes what
no query can. Code that a model wrote runs where it finds no key, no file of yours and no network: in E2B if there is an
``E2B_API_KEY`` (``pip install "posthog-driver[e2b]"``), else in bubblewrap or Landlock on this machine. What was asked,
and how it went, is printed at the end, without rows and without keys.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from anthropic import Anthropic

from posthog_driver import PostHogClient
from posthog_driver.sandbox import SandboxedQueries
from posthog_driver.tools import Toolkit, anthropic_tools

MODEL = "claude-sonnet-5-5"
TURNS = 20


def ask(claude: Anthropic, toolkit: Toolkit, question: str, model: str = MODEL) -> str:
    """Return the model's answer.

    Raises:
        RuntimeError: it stopped before it had one.
    """
    system: Any = toolkit.system_prompt()
    tools: Any = toolkit.definitions()
    messages: list[Any] = [{"role": "user", "content": question}]
    for _ in range(TURNS):
        message = claude.messages.create(model=model, max_tokens=8_192, system=system, tools=tools, messages=messages)
        if message.stop_reason not in ("end_turn", "tool_use"):
            raise RuntimeError(f"the model gave no answer: {message.stop_reason}")
        results = anthropic_tools.results(toolkit, message.content)
        if not results:
            return "".join(block.text for block in message.content if block.type == "text")
        messages += [{"role": "assistant", "content": message.content}, {"role": "user", "content": results}]
    raise RuntimeError(f"the model gave no answer in {TURNS} turns")


def show(line: str) -> None:
    """Print one line of the audit in short."""
    entry = json.loads(line)
    print(f"  {entry['tool']}: {entry['outcome']}", file=sys.stderr)


def main() -> None:
    """Answer the question of the command line."""
    parser = argparse.ArgumentParser(description="Ask Claude a question about your product; it may also compute.")
    parser.add_argument("question")
    parser.add_argument("--model", default=MODEL, help=f"default: {MODEL}")
    options = parser.parse_args()
    with (
        PostHogClient() as posthog,
        SandboxedQueries(client=posthog) as sandboxed,
        Toolkit(posthog, sandbox=sandboxed, audit=show) as toolkit,
        Anthropic() as claude,
    ):
        print(ask(claude, toolkit, options.question, options.model))


if __name__ == "__main__":
    main()
