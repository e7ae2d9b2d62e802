"""A real model answers: the tool loop of the Messages API, with the package ``anthropic``."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from evals.players import Played, table_of
from evals.question import Question
from evals.scoring import matches
from evals.world import World
from posthog_driver.exceptions import ConfigurationError, MissingDependencyError
from posthog_driver.tools import Answer, Toolkit

if TYPE_CHECKING:
    from anthropic import Anthropic

__all__ = ["connect", "play_model"]

MOST_TURNS = 12
_MOST_TOKENS = 4_096
_TASK = (
    "{question}\n\nThe last table that you ask for must hold exactly the rows of the answer, one column for each thing "
    "that is asked. Then say the answer in one sentence."
)


def connect(base_url: str | None = None) -> Anthropic:
    """Return the client of the model's provider.

    Args:
        base_url: Another address, such as that of a server on loopback.

    Raises:
        ConfigurationError: there is no key.
        MissingDependencyError: the package is not installed.
    """
    if not os.environ.get("ANTHROPIC_API_KEY"):
        raise ConfigurationError(
            "--model needs a key of the model's provider: set ANTHROPIC_API_KEY, or leave --model out."
        )
    try:
        from anthropic import Anthropic
    except ImportError as error:
        raise MissingDependencyError('--model needs the package anthropic: pip install "anthropic>=0.79".') from error
    return Anthropic(base_url=base_url)


def play_model(client: Anthropic, model: str, question: Question, world: World, toolkit: Toolkit) -> Played:
    """Let a model answer a question; the rows of its last table are scored.

    Args:
        client: From `connect`.
        model: The model's name.
        question: What is asked.
        world: The data.
        toolkit: Fresh tools.
    """
    started = time.monotonic()
    messages: list[Any] = [{"role": "user", "content": _TASK.format(question=question.asked(world))}]
    answers: list[Answer] = []
    tools: Any = toolkit.definitions()
    tokens = turns = 0
    said = f"the model was not done after {MOST_TURNS} turns"
    while turns < MOST_TURNS:
        reply = client.messages.create(
            model=model, max_tokens=_MOST_TOKENS, system=toolkit.system_prompt(), tools=tools, messages=messages
        )
        turns += 1
        tokens += reply.usage.input_tokens + reply.usage.output_tokens
        calls = [block for block in reply.content if block.type == "tool_use"]
        if not calls:
            said = "".join(block.text for block in reply.content if block.type == "text")
            break
        messages.append({"role": "assistant", "content": reply.content})
        results = []
        for call in calls:
            answer = toolkit.dispatch(call.name, call.input)
            answers.append(answer)
            results.append(
                {"type": "tool_result", "tool_use_id": call.id, "content": answer.text, "is_error": answer.is_error}
            )
        messages.append({"role": "user", "content": results})
    tables = [table for answer in answers if (table := table_of(answer)) is not None]
    ok = bool(tables) and matches(question.expected(world), tables[-1].columns, tables[-1].rows)
    return Played(question.name, ok, tokens, turns, time.monotonic() - started, "" if ok else said)
