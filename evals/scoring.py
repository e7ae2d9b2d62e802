"""Whether an answer holds the expected rows: in any order of rows and columns, numbers within what is rounded."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

__all__ = ["Row", "matches"]

Row = tuple[Any, ...]

# The layout shows 6 significant digits, and 2 decimals from 1,000 on.
_RELATIVE, _ABSOLUTE = 2e-5, 0.006


def matches(expected: Sequence[Row], columns: Sequence[str], rows: Sequence[Sequence[str | None]]) -> bool:
    """Return whether the rows are the expected ones.

    Args:
        expected: Rows in any order.
        columns: Names of the answer's columns; there may be more than are expected.
        rows: Cells as text, None for NULL.
    """
    if len(expected) != len(rows):
        return False
    if not expected:
        return True
    width = len(expected[0])
    return any(
        _same(expected, [tuple(row[place] for place in places) for row in rows])
        for places in _choices(expected, rows, width, len(columns))
    )


def _choices(
    expected: Sequence[Row],
    rows: Sequence[Sequence[str | None]],
    width: int,
    available: int,
    chosen: tuple[int, ...] = (),
) -> Iterator[tuple[int, ...]]:
    """Yield the columns of the answer that hold, one by one, the same values as the expected ones."""
    if len(chosen) == width:
        yield chosen
        return
    wanted = [(row[len(chosen)],) for row in expected]
    for place in range(available):
        if place not in chosen and _same(wanted, [(row[place],) for row in rows]):
            yield from _choices(expected, rows, width, available, (*chosen, place))


def _same(expected: Sequence[Row], rows: Sequence[tuple[str | None, ...]]) -> bool:
    """Compare as multisets: each expected row takes one that is equal."""
    left = list(rows)
    for row in expected:
        found = next((place for place, other in enumerate(left) if all(map(_equal, row, other))), None)
        if found is None:
            return False
        del left[found]
    return True


def _equal(wanted: Any, cell: str | None) -> bool:
    if wanted is None or cell is None:
        return wanted is None and cell is None
    if isinstance(wanted, bool):
        return cell.lower() in (("true", "1") if wanted else ("false", "0"))
    if isinstance(wanted, (int, float)):
        try:
            return math.isclose(float(cell), wanted, rel_tol=_RELATIVE, abs_tol=_ABSOLUTE)
        except ValueError:
            return False
    return cell == str(wanted)
