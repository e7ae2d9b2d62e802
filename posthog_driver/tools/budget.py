"""How much a conversation may ask for and be given, and the ledger that says so before it is used up."""

from __future__ import annotations

import dataclasses
import math
import threading
from typing import TYPE_CHECKING, NamedTuple

from posthog_driver.exceptions import PostHogError, ValidationError
from posthog_driver.tools.layout import Limits

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["MOST_WAIT", "Budget", "BudgetError", "Ledger", "Spent"]

MOST_WAIT = 50.0
"""Seconds: clients of the Model Context Protocol give up on a tool after 60."""

_TELL_AT = 0.8
# Rows of numbers and identifiers: what 16,000 characters of CSV come to is 4,000 to 7,000 tokens.
_CHARACTERS_PER_TOKEN = 3
_MIB = 1 << 20


@dataclasses.dataclass(frozen=True)
class Budget:
    """Limits of one conversation. ``math.inf`` lifts any of the last three.

    Args:
        rows: Rows that an answer shows unless it is asked for more, up to 1,000.
        characters: Most characters of an answer, up to 40,000.
        cell: Characters of one cell in a large answer, up to 2,000.
        wait: Seconds after which a query that still runs is answered with a cursor, up to 50.
        running: Queries at once; PostHog allows three for each project.
        kept_rows: Rows of a result that a cursor can reach.
        kept_bytes: Roughly, bytes of them.
        kept_results: Results that are kept; the least recently used goes first.
        kept_seconds: Seconds after which a result is forgotten.
        same_seconds: Seconds in which the same question gets the kept result.
        queries: Queries of the conversation.
        seconds: Seconds of querying.
        tokens: Tokens given out, estimated from characters.

    Raises:
        ValidationError: a limit is not positive, or above what clients and PostHog can bear.
    """

    rows: int = 100
    characters: int = 16_000
    cell: int = 300
    wait: float = 25.0
    running: int = 3
    kept_rows: int = 10_000
    kept_bytes: int = 8 * _MIB
    kept_results: int = 20
    kept_seconds: float = 900.0
    same_seconds: float = 60.0
    queries: float = 200
    seconds: float = 600.0
    tokens: float = 200_000

    def __post_init__(self) -> None:
        self.limits()
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or math.isnan(value) or value < 0:
                raise ValidationError(f"Budget: {field.name} is {value!r}; it is a number of 0 or more.")
        if self.wait > MOST_WAIT:
            raise ValidationError(
                f"Budget: wait is {self.wait:g} s; clients give up after 60, so {MOST_WAIT:g} is most."
            )
        for name in ("running", "kept_rows", "kept_results"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ValidationError(f"Budget: {name} is {value}; it is a whole number of at least 1.")

    def limits(self, rows: int | None = None) -> Limits:
        """Return what an answer may show, with another number of rows if given."""
        return Limits(rows=self.rows if rows is None else rows, characters=self.characters, cell=self.cell)


class BudgetError(PostHogError):
    """The conversation's budget is used up: nothing was run."""


class Spent(NamedTuple):
    """What a conversation has used: queries, seconds of querying, tokens given out (estimated)."""

    queries: int = 0
    seconds: float = 0.0
    tokens: float = 0.0


class Ledger:
    """Counts what a conversation uses. Threads may share it.

    Args:
        budget: The limits.
    """

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._lock = threading.Lock()
        self._queries = 0
        self._seconds = 0.0
        self._characters = 0

    @property
    def spent(self) -> Spent:
        """What is used up to now."""
        with self._lock:
            return Spent(self._queries, self._seconds, self._characters / _CHARACTERS_PER_TOKEN)

    def take_query(self) -> None:
        """Count a query that is about to run.

        Raises:
            BudgetError: the queries or the seconds are used up.
        """
        with self._lock:
            if self._queries >= self._budget.queries:
                raise BudgetError(f"all {self._budget.queries:g} queries of this conversation are used up")
            if self._seconds >= self._budget.seconds:
                raise BudgetError(f"all {self._budget.seconds:g} seconds of querying of this conversation are used up")
            self._queries += 1

    def add_seconds(self, seconds: float) -> None:
        """Count the time that a query took."""
        with self._lock:
            self._seconds += max(seconds, 0.0)

    def add_text(self, text: str) -> None:
        """Count an answer."""
        with self._lock:
            self._characters += len(text)

    def check_tokens(self) -> None:
        """Refuse to give out more once the tokens are used up.

        Raises:
            BudgetError: they are.
        """
        if self.spent.tokens >= self._budget.tokens:
            raise BudgetError(f"all {self._budget.tokens:g} tokens that this conversation may be given are used up")

    def warning(self) -> str | None:
        """Return what a model has to know from 80 % on, or None."""
        told = list(self._nearly())
        return f"budget of this conversation: {', '.join(told)} used; come to an end" if told else None

    def _nearly(self) -> Iterator[str]:
        for name, used in self.spent._asdict().items():
            most = getattr(self._budget, name)
            if most < math.inf and used >= _TELL_AT * most:
                yield f"{used:.0f} of {most:g} {name}"
