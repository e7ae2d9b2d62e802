"""Conditions in HogQL with the values of their placeholders, and where they stand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from .schema import Catalog

__all__ = ["FALSE", "TRUE", "Condition", "Names", "Scope", "bound", "joined"]


@dataclass(frozen=True)
class Condition:
    """HogQL text and the values of its placeholders."""

    hogql: str
    values: Mapping[str, Any] = field(default_factory=dict)


class Names:
    """Hands out placeholder names that are unique within one query."""

    def __init__(self, prefix: str = "p") -> None:
        self._prefix = prefix
        self._count = 0

    def __call__(self) -> str:
        """Return the next name."""
        self._count += 1
        return f"{self._prefix}_{self._count}"


TRUE, FALSE = Condition("true"), Condition("false")


def joined(conditions: Sequence[Condition], operator: str = "AND") -> Condition:
    """Return conditions joined by AND or OR; none of them is true for AND, false for OR."""
    if not conditions:
        return TRUE if operator == "AND" else FALSE
    if len(conditions) == 1:
        return conditions[0]
    values = {name: value for one in conditions for name, value in one.values.items()}
    return Condition(f" {operator} ".join(f"({one.hogql})" for one in conditions), values)


@dataclass(frozen=True)
class Scope:
    """Where a condition stands.

    Attributes:
        kind: ``event``, ``person``, ``session`` or ``group``: the table whose rows it filters.
        catalog: Types of properties, the project's time zone, its cohorts.
        now: For relative dates.
        names: For placeholders.
    """

    kind: str
    catalog: Catalog
    now: datetime
    names: Names


def bound(scope: Scope, write: Callable[..., str], *values: Any) -> Condition:
    """A condition written with the placeholders of its values."""
    names = [scope.names() for _ in values]
    return Condition(write(*(f"{{{name}}}" for name in names)), dict(zip(names, values, strict=True)))
