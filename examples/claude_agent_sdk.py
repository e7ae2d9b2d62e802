"""Ask an agent made with the Claude Agent SDK; PostHog's tools run in this process.

::

    pip install "posthog-driver[claude-agent-sdk]"
    export ANTHROPIC_API_KEY=sk-ant-... POSTHOG_PERSONAL_API_KEY=phx_... POSTHOG_PROJECT_ID=1
    python examples/claude_agent_sdk.py "Do people come back in the weeks after they signed up?"
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

# This file is named like the package that it uses: without its folder in the path, Python finds the package.
sys.path[:] = [folder for folder in sys.path if Path(folder).resolve() != Path(__file__).resolve().parent]

from claude_agent_sdk import AssistantMessage, ClaudeAgentOptions, ResultMessage, TextBlock, query  # noqa: E402

from posthog_driver import PostHogClient  # noqa: E402
from posthog_driver.tools import Toolkit, agent_sdk  # noqa: E402


async def ask(toolkit: Toolkit, options: ClaudeAgentOptions, question: str) -> str:
    """Return the agent's answer; what it says on the way is printed.

    Raises:
        RuntimeError: it ended without an answer.
    """
    options.mcp_servers = {agent_sdk.NAME: agent_sdk.server(toolkit)}
    # That the tools only read lets the agent run them side by side; that it may use them is said here.
    options.allowed_tools = [*options.allowed_tools, *agent_sdk.ALLOWED_TOOLS]
    answer = None
    async for message in query(prompt=question, options=options):
        if isinstance(message, AssistantMessage):
            print("".join(block.text for block in message.content if isinstance(block, TextBlock)), flush=True)
        elif isinstance(message, ResultMessage) and not message.is_error:
            answer = message.result
    if answer is None:
        raise RuntimeError("the agent ended without an answer")
    return answer


def main() -> None:
    """Ask the agent the question of the command line."""
    parser = argparse.ArgumentParser(description="Ask an agent a question about your product.")
    parser.add_argument("question")
    parser.add_argument("--model", default=None, help="default: the agent's own")
    given = parser.parse_args()
    # Nothing but PostHog: no files, no shell, no settings of this machine.
    options = ClaudeAgentOptions(
        tools=[], setting_sources=[], strict_mcp_config=True, permission_mode="dontAsk", model=given.model
    )
    with PostHogClient() as posthog, Toolkit(posthog) as toolkit:
        asyncio.run(ask(toolkit, options, given.question))


if __name__ == "__main__":
    main()
