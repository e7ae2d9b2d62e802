"""Ask Claude a question about your product; it looks the answer up in PostHog.

::

    pip install "posthog-driver[anthropic]"
    export ANTHROPIC_API_KEY=sk-ant-... POSTHOG_PERSONAL_API_KEY=phx_... POSTHOG_PROJECT_ID=1
    python examples/claude_integration.py "Where do people drop off on the way to their first upload?"

This is the loop in full, with nothing but the Messages API. The SDK's own loop is shorter:
``client.beta.messages.tool_runner(tools=anthropic_tools.runner_tools(toolkit), ...)``; it runs calls one after another.
"""

from __future__ import annotations

import argparse
from typing import Any

from anthropic import Anthropic

from posthog_driver import PostHogClient
from posthog_driver.tools import Toolkit, anthropic_tools

MODEL = "claude-sonnet-5-5"
TURNS = 20


def ask(client: Anthropic, toolkit: Toolkit, question: str, model: str = MODEL) -> str:
    """Return the model's answer; what it says on the way is printed.

    Raises:
        RuntimeError: it stopped before it had an answer.
    """
    # The prompt and the tools never change, so later turns read them from the model's cache.
    system: Any = [{"type": "text", "text": toolkit.system_prompt(), "cache_control": {"type": "ephemeral"}}]
    tools: Any = toolkit.definitions()
    messages: list[Any] = [{"role": "user", "content": question}]
    for _ in range(TURNS):
        with client.messages.stream(
            model=model, max_tokens=8_192, system=system, tools=tools, messages=messages
        ) as stream:
            for text in stream.text_stream:
                print(text, end="", flush=True)
            message = stream.get_final_message()
        # A stream that breaks off raises nothing: its message has no reason to stop.
        if message.stop_reason not in ("end_turn", "tool_use"):
            raise RuntimeError(f"the model gave no answer: {message.stop_reason or 'its stream broke off'}")
        results = anthropic_tools.results(toolkit, message.content)
        if not results:
            return "".join(block.text for block in message.content if block.type == "text")
        messages += [{"role": "assistant", "content": message.content}, {"role": "user", "content": results}]
    raise RuntimeError(f"the model gave no answer in {TURNS} turns")


def main() -> None:
    """Ask Claude the question of the command line."""
    parser = argparse.ArgumentParser(description="Ask Claude a question about your product.")
    parser.add_argument("question")
    parser.add_argument("--model", default=MODEL, help=f"default: {MODEL}")
    options = parser.parse_args()
    with PostHogClient() as posthog, Toolkit(posthog) as toolkit, Anthropic() as claude:
        ask(claude, toolkit, options.question, options.model)
    print()


if __name__ == "__main__":
    main()
