"""What the questions that list rows share: expressions of the caller's, how they are ordered, and pages."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, NamedTuple

from .. import errors, functions
from ..parser import parse_expression
from ..property_filters import Condition
from ..schema import hogql_name
from ..tree import walk

__all__ = ["MAX_ROWS", "Column", "Expression", "Page", "conditions_of", "first_number", "ordered", "selected", "table"]

MAX_ROWS = 50_000
"""Most rows of one page; PostHog cuts a larger limit down to it (``posthog/hogql/constants.py``)."""


class Expression(NamedTuple):
    """A HogQL expression of the caller's that was parsed on its own, so that it cannot reach beyond its place.

    Attributes:
        text: As it was given; a line break must follow it, for it can end in a comment.
        aggregates: Whether it aggregates rows.
        alias: The name that it gives itself, or empty.
    """

    text: str
    aggregates: bool
    alias: str = ""

    @property
    def reference(self) -> str:
        """How other parts of the query name it."""
        return hogql_name(self.alias) if self.alias else f"({self.text}\n)"

    @classmethod
    def parse(cls, text: str) -> Expression:
        """Parse an expression.

        Raises:
            HogQLError: It is none.
        """
        tree = parse_expression(text)
        calls = (node for node in walk(tree) if node["node"] == "Call")
        aggregates = any((found := functions.find(call["name"])) is not None and found.aggregate for call in calls)
        return cls(text, aggregates, tree["alias"] if tree["node"] == "Alias" else "")


@dataclass(frozen=True)
class Column:
    """A column asked for: what is read for it, and what is made of that.

    Attributes:
        name: In the answer.
        parts: The expressions that are read for it.
        make: Makes the value from those.
        type: Makes the type from theirs.
    """

    name: str
    parts: tuple[Expression, ...]
    make: Callable[[Sequence[Any]], Any] = lambda parts: parts[0]
    type: Callable[[Sequence[str]], str] = lambda types: types[0]

    @classmethod
    def parse(cls, text: str) -> Column:
        """Return the column of an expression, called by its alias if it has one.

        Raises:
            HogQLError: It is none.
        """
        expression = Expression.parse(text)
        return cls(expression.alias or text, (expression,))


def selected(columns: Iterable[Column]) -> tuple[str, str]:
    """Return what a query selects for its columns, and its GROUP BY clause when some of them aggregate rows."""
    parts = [part for column in columns for part in column.parts]
    keys = [part.reference for part in parts if not part.aggregates]
    is_grouped = keys and len(keys) < len(parts)
    return ", ".join(f"{part.text}\n" for part in parts) or "1", f"GROUP BY {', '.join(keys)}" if is_grouped else ""


def table(
    columns: Sequence[Column], rows: Iterable[Sequence[Any]], types: Sequence[Sequence[str]]
) -> tuple[list[list[Any]], list[str]]:
    """Return the rows and types of the columns asked for, made from what was read."""
    ends = list(accumulate(len(column.parts) for column in columns))
    places = [slice(end - len(column.parts), end) for column, end in zip(columns, ends, strict=True)]
    read = [type_ for _, type_ in types]
    made = [[column.make(row[place]) for column, place in zip(columns, places, strict=True)] for row in rows]
    return made, [column.type(read[place]) for column, place in zip(columns, places, strict=True)]


def first_number(columns: Iterable[Column]) -> str | None:
    """Return the expression that a list with aggregates is ordered by: ``count()``, else the first one."""
    numbers = [part for column in columns for part in column.parts if part.aggregates]
    counts = [part for part in numbers if part.text == "count()"]
    return (counts or numbers)[0].reference if numbers else None


_DIRECTION = re.compile(r"\s+(ASC|DESC)(\s+NULLS\s+(?:FIRST|LAST))?\s*$", re.IGNORECASE)


def ordered(texts: Sequence[str]) -> str:
    """Return an ORDER BY clause of the caller's expressions with or without a direction.

    Raises:
        HogQLError: One is no expression.
    """
    parts = []
    for text in texts:
        match = _DIRECTION.search(text)
        expression = Expression.parse(text[: match.start()] if match else text)
        parts.append(f"{expression.text}\n{match[0] if match else ''}")
    return f"ORDER BY {', '.join(parts)}" if parts else ""


def conditions_of(texts: Iterable[str]) -> tuple[list[Condition], list[Condition]]:
    """Return the caller's conditions for rows, and those for groups of rows.

    Raises:
        HogQLError: One is no expression.
    """
    rows: list[Condition] = []
    groups: list[Condition] = []
    for text in texts:
        expression = Expression.parse(text)
        (groups if expression.aggregates else rows).append(Condition(f"({text}\n)"))
    return rows, groups


@dataclass(frozen=True)
class Page:
    """Which rows of a list are wanted.

    Attributes:
        limit: How many.
        offset: How many come before.
    """

    limit: int
    offset: int

    @classmethod
    def of(cls, query: Mapping[str, Any], default: int = 100) -> Page:
        """Read ``limit`` and ``offset`` of a query.

        Raises:
            ApiError: 400, one is negative.
        """
        limit, offset = query.get("limit"), query.get("offset") or 0
        for name, value in (("limit", limit), ("offset", offset)):
            if value is not None and value < 0:
                raise errors.validation(f"{name} must not be negative, got {value}.")
        return cls(min(limit or default, MAX_ROWS), offset)

    @property
    def clause(self) -> str:
        """LIMIT and OFFSET, with one row more to see whether there are any."""
        return f"LIMIT {self.limit + 1} OFFSET {self.offset}"

    def cut(self, rows: Sequence[Any]) -> tuple[list[Any], dict[str, Any]]:
        """Return the rows of the page, and what the answer says about it."""
        facts = {"hasMore": len(rows) > self.limit, "limit": self.limit, "offset": self.offset}
        return list(rows[: self.limit]), facts
