"""Who answers: the reference calls, and a script that makes mistakes and does what the answers say."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from evals.mistakes import Mistake
from evals.question import Question
from evals.scoring import matches
from evals.world import World
from posthog_driver.tools import Answer, Toolkit
from posthog_driver.tools.layout import Decoded, decode

__all__ = ["Played", "play_mistake", "play_reference"]

_CHARACTERS_PER_TOKEN = 3.5
MOST_TURNS = 2
"""Calls in which the script has to be right: the one with the mistake, and one more."""


class Played(NamedTuple):
    """How one task went.

    Attributes:
        name: The task.
        ok: Whether the right rows came.
        tokens: What the answers cost; estimated by their length unless a model's provider counted them.
        turns: Calls, or turns of a model.
        seconds: How long it took.
        said: Why it is not ok.
    """

    name: str
    ok: bool
    tokens: int
    turns: int
    seconds: float
    said: str = ""


def play_reference(question: Question, world: World, toolkit: Toolkit) -> Played:
    """Send the reference call of a question."""
    started = time.monotonic()
    answer = toolkit.dispatch(question.tool, question.call(world))
    found = table_of(answer)
    ok = found is not None and matches(question.expected(world), found.columns, found.rows)
    return _played(question.name, ok, [answer], started)


def play_mistake(mistake: Mistake, toolkit: Toolkit) -> Played:
    """Make a mistake, then do what the answer says and nothing else."""
    started = time.monotonic()
    query, skipped = mistake.wrong, 0
    values: dict[str, Any] = {}
    answers: list[Answer] = []
    while len(answers) < MOST_TURNS:
        answers.append(toolkit.dispatch("posthog_query", {"query": query, **({"values": values} if values else {})}))
        advised = follow(query, answers[-1].text)
        if advised is None:
            break
        skipped = _skipped(answers[-1].text) or skipped
        query, values = (
            advised,
            {name: value for name, value in (mistake.values or {}).items() if f"{{{name}}}" in advised},
        )
    found = table_of(answers[-1])
    right = table_of(toolkit.dispatch("posthog_query", {"query": mistake.right}))
    ok = found is not None and right is not None and _are_equal(found, skipped, right, mistake.skipped)
    return _played(mistake.name, ok, answers, started)


def follow(query: str, text: str) -> str | None:
    """Return the query that an answer tells to send, or None if it tells nothing.

    Args:
        query: What was sent.
        text: The answer: its line ``rewritten: ...`` is taken as it is, and ``add AND ...`` is put at the end.
    """
    rewritten = re.search(r"^rewritten: (.+)$", text, re.MULTILINE)
    if rewritten:
        return rewritten[1]
    addition = re.search(r"without a bound of time: add (.+)$", text, re.MULTILINE)
    return f"{query} {addition[1]}" if addition else None


def _skipped(text: str) -> int:
    match = re.search(r"skip the first (\d+)", text)
    return int(match[1]) if match else 0


def _are_equal(found: Decoded, skipped: int, right: Decoded, also: int) -> bool:
    return sorted(map(str, found.rows[skipped:])) == sorted(map(str, right.rows[also:]))


def table_of(answer: Answer) -> Decoded | None:
    """Return the rows of an answer, None if it has none."""
    return None if answer.is_error or "<posthog-data" not in answer.text else decode(answer.text)


def _played(name: str, ok: bool, answers: Sequence[Answer], started: float) -> Played:
    tokens = sum(estimated_tokens(answer.text) for answer in answers)
    said = "" if ok else answers[-1].text
    return Played(name, ok, tokens, len(answers), time.monotonic() - started, said)


def estimated_tokens(text: str) -> int:
    """Return roughly how many tokens a text has."""
    return round(len(text) / _CHARACTERS_PER_TOKEN)
