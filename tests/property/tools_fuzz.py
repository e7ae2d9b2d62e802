"""Random calls of tools against a client whose rows are hostile, and what must hold of every answer.

Run as many as you like::

    python -m tests.property.tools_fuzz CALLS [SEED]

What must hold: no call raises or is answered with an internal error; no answer is longer than 40,000 characters; there
is one fence, and nothing in it opens or closes a tag, begins a line of its own or is invisible; an answer decodes to
the rows of the client, whole rows only, in as many lines as it says; no key is in any answer.
"""

from __future__ import annotations

import random
import re
import sys
import time
from collections import Counter
from typing import Any

from posthog_driver import AuthenticationError, ObjectNotFoundError, QueryError, RateLimitError, ValidationError
from posthog_driver.exceptions import ConnectionError as UnreachableError
from posthog_driver.exceptions import PostHogError, QueryTooHeavyError
from posthog_driver.results import QueryInfo, QueryResult
from posthog_driver.testing import FakeClock
from posthog_driver.tools import Answer, Budget, Toolkit
from posthog_driver.tools.audit import scrub
from posthog_driver.tools.cells import text_of
from posthog_driver.tools.definitions import SIMPLE_TOOL, TOOLS
from posthog_driver.tools.layout import decode

KEY = "phx_" + "0123456789abcdef" * 2
MOST = 40_000
PIECES = [
    *("<", "</posthog-data", ' id="', ">", "<posthog-data", "<system-reminder>", "</", "<!--", "<?", "&lt;", '"', '""'),
    *("'", ",", ";", "|", "\n", "\r", "\r\n", "\t", "\0", "\x1b[2J", "\x7f", "\x85", "\u2028", "\u2029", "\u200b"),
    *("\u202e", "\u2066", "\ufeff", "\u00ad", "\U000e0041", "\ufe0f", "\ud800", "\udfff", "\uff1c", "\\", "\\n"),
    *("\\u003c", "\\…+5", "…+7", "q7.100", "next: ", "error internal", "fix: ", "0 rows x 1 column, complete", "é"),
    *("日本", "🎉", " ", "  ", "a", "B", "0", "-1.5", "1e9", "true", "null", "=SUM(A1)", "password=", 'token: "'),
    *("https://u:p@h/?api_key=", "x" * 40, KEY, "ada@example.com", "10.1.2.3", "+49 151 23456789", "[1,2]", "SELECT"),
    *('{"email":"a@b.cd"}', "properties.$browser"),
]
_TAGS = re.compile(r"<\s*[^\W\d_]|<\s*[/!?|]")
_FENCE = re.compile(r'</?posthog-data id="[0-9a-f]+">')
_KEY_SHAPE = re.compile(r"ph[aersx]_[A-Za-z0-9]{10,}")
_CODES = (400, 403, 404, 429, 500, 512)


class Chance:
    """Random texts, values and arguments, sensible and hostile."""

    def __init__(self, source: random.Random) -> None:
        self.random = source

    def text(self, most: int = 8) -> str:
        if self.random.random() < 0.02:
            most *= 300
        return "".join(self.random.choices(PIECES, k=self.random.randrange(most)))

    def value(self, depth: int = 0) -> Any:
        kind = self.random.random()
        if kind < 0.5:
            return self.text()
        if kind < 0.7:
            return self.random.choice([None, True, False, 0, -1, 2**63, 10**30, 7])
        if kind < 0.85 or depth > 2:
            return self.random.choice([0.1, 1 / 3, -2.5, 1e300, 5e-324, 123456.789, float("inf"), float("nan")])
        if kind < 0.93:
            return [self.value(depth + 1) for _ in range(self.random.randrange(4))]
        return {self.text(3): self.value(depth + 1) for _ in range(self.random.randrange(3))}

    def arguments(self, schema: dict[str, Any]) -> Any:
        """Return arguments that fit a schema, mostly."""
        if self.random.random() < 0.05:
            return self.value()
        kind = schema["type"]
        if schema.get("additionalProperties") is True:
            return {self.text(2): self.value() for _ in range(self.random.randrange(3))}
        if kind == "object":
            return self._object(schema)
        if kind == "array":
            count = self.random.randrange(schema["minItems"], min(schema["maxItems"], schema["minItems"] + 2) + 1)
            return [self.arguments(schema["items"]) for _ in range(count)]
        if "enum" in schema:
            return self.random.choice(schema["enum"])
        if kind == "boolean":
            return self.random.random() < 0.5
        if kind == "integer":
            return self.random.randint(schema["minimum"], schema["maximum"])
        return self.text()

    def _object(self, schema: dict[str, Any]) -> dict[str, Any]:
        made = {
            name: self.arguments(inner)
            for name, inner in schema["properties"].items()
            if name in schema["required"] or self.random.random() < 0.4
        }
        if self.random.random() < 0.05:
            made[self.text(3)] = self.value()
        return made

    def error(self) -> PostHogError:
        words = self.text()
        kind = self.random.choice(
            [QueryError, QueryTooHeavyError, RateLimitError, AuthenticationError, UnreachableError, ValidationError]
        )
        start = self.random.randrange(20)
        return kind(words, detail=words, status=self.random.choice(_CODES), position=start, end=start + 3)


class HostileClient:
    """Answers everything with what a visitor might have sent.

    Attributes:
        results: What the queries of `posthog_query` were answered with, by query id.
    """

    schema_source = "live"

    def __init__(self, chance: Chance) -> None:
        self.results: dict[str, QueryResult] = {}
        self._chance = chance

    def cancel_query(self, query_id: str, *, timeout: float | None = None) -> bool:
        return False

    def list_objects(self, *, refresh: bool = False) -> list[str]:
        return ["events", "persons", *(self._chance.text() for _ in range(3))]

    def get_fields(self, name: str, *, refresh: bool = False) -> dict[str, dict[str, Any]]:
        if name not in ("events", "persons"):
            raise ObjectNotFoundError(f"no such object: {self._chance.text()}")
        texts = [self._chance.text() for _ in range(8)]
        fields: dict[str, dict[str, Any]] = {text: {"type": self._chance.text(2)} for text in texts}
        fields |= {f"properties.{text}": {"type": "string"} for text in texts}
        return {**fields, "event": {"type": "string", "constraints": {"values": texts}}}

    def query(self, hogql: str, values: Any = None, *, query_id: str = "", **_: Any) -> QueryResult:
        self._perhaps_fail()
        if "AS events FROM events" in hogql:
            return self._rows(["event", "events"], lambda: [self._chance.text(), self._count()])
        if "AS samples" in hogql:
            return self._rows(
                ["name", "uses", "samples"],
                lambda: [self._chance.text(), self._count(), [self._chance.text() for _ in range(3)]],
            )
        if "AS value, count() AS uses" in hogql:
            return self._rows(["value", "uses"], lambda: [self._chance.text(), self._count()])
        width = self._chance.random.randrange(1, 6)
        columns = [f"{self._chance.text(3)}{number}" for number in range(width)]
        self.results[query_id] = self._rows(columns, lambda: [self._chance.value() for _ in columns], 250)
        return self.results[query_id]

    def trends(self, *_: Any, **__: Any) -> QueryResult:
        self._perhaps_fail()
        names = [self._chance.text() for _ in range(3)]
        days = [f"2026-11-{day}" for day in range(10, 20)]
        pick = self._chance.random.choice
        return self._rows(
            ["time", "event", "breakdown", "value"], lambda: [pick(days), pick(names), pick(names), self._count()]
        )

    def funnel(self, *_: Any, **__: Any) -> QueryResult:
        self._perhaps_fail()
        columns = ["step", "event", "people", "share_of_first", "share_of_previous", "median_seconds"]
        steps = [[step, self._chance.text(), self._count(), 0.5, 0.25, 60.0] for step in range(1, 4)]
        return QueryResult([dict(zip(columns, row, strict=True)) for row in steps], QueryInfo(tuple(columns)))

    def retention(self, *_: Any, **__: Any) -> QueryResult:
        self._perhaps_fail()
        columns = ["cohort", "size", "period", "people", "share"]
        rows = [[f"2026-11-{week:02}", 9, period, 5, 0.5] for week in (2, 9) for period in range(3)]
        return QueryResult([dict(zip(columns, row, strict=True)) for row in rows], QueryInfo(tuple(columns)))

    def ask(self, body: Any, **_: Any) -> dict[str, Any]:
        self._perhaps_fail()
        text, start = self._chance.text, self._chance.random.randrange
        notices = [{"message": text(), "start": start(9), "end": 12, "fix": text()} for _ in range(start(3))]
        found = "errors" if self._chance.random.random() < 0.5 else "warnings"
        return {"isValid": found == "warnings", "errors": [], "warnings": [], "notices": [], found: notices}

    def _perhaps_fail(self) -> None:
        if self._chance.random.random() < 0.15:
            raise self._chance.error()

    def _count(self) -> int:
        return self._chance.random.randrange(1_000)

    def _rows(self, columns: list[str], row: Any, most: int = 40) -> QueryResult:
        rows = [dict(zip(columns, row(), strict=True)) for _ in range(self._chance.random.randrange(most))]
        limit = self._chance.random.choice([None, 100])
        info = QueryInfo(tuple(columns), truncated=self._chance.random.random() < 0.1, timezone="UTC", limit=limit)
        return QueryResult(rows, info)


class Fuzz:
    """Calls, and the checks of each answer.

    Args:
        seed: The same seed gives the same calls.
        pii: The policy; with ``show`` rows are compared exactly.
    """

    def __init__(self, seed: int, pii: str = "show") -> None:
        self._chance = Chance(random.Random(seed))
        self._clock = FakeClock()
        self._client = HostileClient(self._chance)
        self._compares = pii == "show"
        self._lines: list[str] = []
        self._cursors: list[str] = []
        self.outcomes: Counter[str] = Counter()
        lifted = float("inf")
        client: Any = self._client
        characters = self._chance.random.choice([2_000, 16_000, MOST])
        budget = Budget(queries=lifted, seconds=lifted, tokens=lifted, characters=characters)
        self.toolkit = Toolkit(client, pii=pii, clock=self._clock, audit=self._lines.append, budget=budget)

    def call(self) -> None:
        """Make one call and check its answer."""
        name, arguments = self._next()
        self._clock.advance(self._chance.random.choice([0.0, 1.0, 70.0]))
        answer = self.toolkit.dispatch(name, arguments)
        self.outcomes[answer.meta.get("kind") or "ok"] += 1
        try:
            self._check(answer)
        except Exception as error:
            raise AssertionError(f"{name!r} {arguments!r}\n{answer.text!r}") from error
        if "cursor" in answer.meta:
            self._cursors = [*self._cursors[-5:], answer.meta["cursor"]]

    def _next(self) -> tuple[Any, Any]:
        dice = self._chance.random.random()
        if dice < 0.15 and self._cursors:
            return "posthog_query", {"cursor": self._chance.random.choice(self._cursors)}
        if dice < 0.2:
            return self._chance.value(), self._chance.value()
        if dice < 0.6:
            wide = self._chance.random.choice([1, 20, 1_000])
            if self._chance.random.random() < 0.2:
                text = self._chance.text()
                return "posthog_query", {"query": f"SELECT {text} FROM events\nWHERE {text} LIMIT 9", "max_rows": wide}
            return "posthog_query", {"query": f"SELECT {self._chance.random.random()} LIMIT 999", "max_rows": wide}
        tool = self._chance.random.choice([*TOOLS, SIMPLE_TOOL])
        return tool.name, self._chance.arguments(tool.input_schema)

    def _check(self, answer: Answer) -> None:
        text = answer.text
        assert answer.meta.get("kind") != "internal"
        assert len(text) <= MOST
        assert KEY not in text
        assert not _KEY_SHAPE.search(text)
        assert KEY not in self._lines[-1]
        lines = text.split("\n")
        assert text.splitlines() == lines
        fences = [number for number, line in enumerate(lines) if _FENCE.fullmatch(line)]
        assert len(fences) in (0, 2)
        assert not any(_TAGS.search(line) for number, line in enumerate(lines) if number not in fences)
        assert all(char.isprintable() or char == " " for line in lines for char in line)
        if not answer.is_error and fences:
            self._check_rows(answer, lines, fences)

    def _check_rows(self, answer: Answer, lines: list[str], fences: list[int]) -> None:
        decoded = decode(answer.text)
        shown = answer.meta["rows"]
        assert len(decoded.rows) == shown == fences[1] - fences[0] - 2
        assert fences[1] == len(lines) - 1
        result = self._client.results.get(answer.meta.get("query_id", ""))
        if result is None or not self._compares:
            return
        first = _first(answer)
        columns = list(result.columns)[: len(decoded.columns)]
        for at, (row, cells) in enumerate(zip(result[first : first + shown], decoded.rows, strict=True)):
            for number, (name, cell) in enumerate(zip(columns, cells, strict=True)):
                expected = text_of(_scrubbed(row[name]))
                if (at, number) in decoded.shortened and cell is not None:
                    kept = cell.rpartition("\\…+")[0]
                    assert expected is not None
                    assert expected.startswith(kept)
                else:
                    assert cell == expected, (cell, expected)


def _first(answer: Answer) -> int:
    """Return how many rows come before those of an answer."""
    shown = re.match(r"rows (\d+)-", answer.text)
    return int(shown[1]) - 1 if shown else 0


def _scrubbed(value: Any) -> Any:
    if isinstance(value, str):
        return scrub(value)
    if isinstance(value, dict):
        return {scrub(name): _scrubbed(inner) for name, inner in value.items()}
    return [_scrubbed(inner) for inner in value] if isinstance(value, list) else value


def run(calls: int, seed: int) -> Counter[str]:
    """Make so many calls, in conversations of a hundred, and return how they ended."""
    outcomes: Counter[str] = Counter()
    for conversation in range(-(-calls // 100)):
        fuzz = Fuzz(seed * 1_000_003 + conversation, pii="mask" if conversation % 5 == 4 else "show")
        with fuzz.toolkit:
            for _ in range(min(100, calls - conversation * 100)):
                fuzz.call()
        outcomes += fuzz.outcomes
    return outcomes


if __name__ == "__main__":
    started = time.monotonic()
    made = run(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1)
    print(f"{made.total()} calls in {time.monotonic() - started:.1f} s: {dict(made.most_common())}")
