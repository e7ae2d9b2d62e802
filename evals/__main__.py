"""``python -m evals``: ask the questions and report who was right.

See ``evals/README.md``.
"""

from __future__ import annotations

import argparse
import contextlib
import fnmatch
import functools
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TextIO

from evals.mistakes import MISTAKES, Mistake
from evals.model import connect, play_model
from evals.players import Played, play_mistake, play_reference
from evals.question import Question
from evals.questions import QUESTIONS
from evals.world import World
from posthog_driver import PostHogClient
from posthog_driver.exceptions import PostHogError
from posthog_driver.local import LocalPostHog
from posthog_driver.tools import Toolkit

__all__ = ["main", "play", "report"]

_MOST_SAID = 2_000

Answering = Callable[[Question, World, Toolkit], Played]


def play(
    client: PostHogClient,
    world: World,
    tasks: Sequence[Question | Mistake],
    answer: Answering = play_reference,
) -> Iterator[Played]:
    """Yield how each task went; each has a conversation of its own.

    Args:
        client: The client of the demo project.
        world: Its data.
        tasks: What to ask.
        answer: Who answers questions; mistakes are always made by the script.
    """
    for task in tasks:
        with Toolkit(client) as toolkit:
            yield play_mistake(task, toolkit) if isinstance(task, Mistake) else answer(task, world, toolkit)


def report(played: Iterator[Played], out: TextIO) -> bool:
    """Write a line for each task as it ends, and the sums; return whether all were ok."""
    done: list[Played] = []
    print(f"{'task':34} ok   tokens turns seconds", file=out)
    for each in played:
        done.append(each)
        ok = "yes" if each.ok else "NO "
        print(f"{each.name:34} {ok} {each.tokens:7} {each.turns:5} {each.seconds:7.1f}", file=out, flush=True)
    right = sum(each.ok for each in done)
    print(
        f"{right} of {len(done)} ok, {sum(each.tokens for each in done)} tokens, "
        f"{sum(each.turns for each in done)} turns, {sum(each.seconds for each in done):.1f} s",
        file=out,
    )
    for each in done:
        if not each.ok:
            print(f"\n--- {each.name}\n{each.said[:_MOST_SAID]}", file=out)
    return right == len(done)


def chosen(patterns: str | None, with_mistakes: bool) -> list[Question | Mistake]:
    """Return the tasks whose names fit one of the patterns (``*`` and ``?``, comma-separated); all without patterns."""
    tasks: list[Question | Mistake] = [*QUESTIONS, *(MISTAKES if with_mistakes else ())]
    if patterns is None:
        return tasks
    wanted = [pattern.strip() for pattern in patterns.split(",")]
    return [task for task in tasks if any(fnmatch.fnmatchcase(task.name, pattern) for pattern in wanted)]


def main(arguments: Sequence[str] | None = None, out: TextIO | None = None) -> int:
    """Run the evaluation; returns 0 if everything was right, 1 if not, 2 if it could not be run.

    Args:
        arguments: Of the command line.
        out: Takes the report.
    """
    parser = argparse.ArgumentParser(prog="python -m evals", description="Ask questions with known answers.")
    parser.add_argument("--model", help="let this model answer the questions; needs ANTHROPIC_API_KEY")
    parser.add_argument("--base-url", help="another address of the model's provider")
    parser.add_argument("--tasks", help="names of questions and mistakes, comma-separated; * and ? are allowed")
    parser.add_argument("--list", action="store_true", help="print the tasks")
    parser.add_argument("--events", type=int, default=5_000, help="size of the demo data (default 5000, at most 50000)")
    parser.add_argument("--seed", type=int, default=1, help="another seed makes other data")
    options = parser.parse_args(arguments)
    out = out or sys.stdout
    tasks = chosen(options.tasks, with_mistakes=options.model is None)
    if options.list:
        for task in tasks:
            print(f"{task.name:34} {task.text if isinstance(task, Question) else task.wrong!r}", file=out)
        return 0
    if not tasks or not 1 <= options.events <= 50_000:
        print("nothing to do: no task has such a name, or --events is not between 1 and 50000", file=sys.stderr)
        return 2
    answer: Answering = play_reference
    with contextlib.ExitStack() as stack:
        if options.model:
            try:
                provider = stack.enter_context(connect(options.base_url))
            except PostHogError as error:
                print(error, file=sys.stderr)
                return 2
            answer = functools.partial(play_model, provider, options.model)
        posthog = stack.enter_context(LocalPostHog(events=options.events, seed=options.seed))
        client = stack.enter_context(posthog.client())
        return 0 if report(play(client, World(client, posthog.truth), tasks, answer), out) else 1


if __name__ == "__main__":
    sys.exit(main())
