"""Formulas over series: ``A + B``, ``(A - B) / C * 100``. Parsed here and evaluated as numbers, never as code."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping, Sequence

from .. import errors

__all__ = ["Formula"]

MAX_LENGTH = 1_000
"""Characters of a formula."""

_OPERATORS: Mapping[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}


class Formula:
    """A formula, checked when it is made.

    Args:
        text: Letters for series (A is the first, in either case), numbers, ``+ - * / % **`` (``^`` too) and brackets.
        series: How many series there are.

    Raises:
        ApiError: 400, it holds something else, or a letter without a series.
    """

    def __init__(self, text: str, series: int) -> None:
        self.text = text
        self._series = series
        if len(text) > MAX_LENGTH:
            raise errors.validation(f"A formula has at most {MAX_LENGTH} characters.")
        try:
            self._tree = ast.parse(text.strip().replace("^", "**"), mode="eval").body
            self._value(self._tree, [1.0] * series)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            raise errors.validation(f"The formula {text[:100]!r} is not understood.") from None

    def __call__(self, values: Sequence[float]) -> float:
        """Return its value; what cannot be computed, as a division by zero, is 0, as in PostHog."""
        return self._value(self._tree, values)

    def _value(self, node: ast.expr, values: Sequence[float]) -> float:
        if isinstance(node, ast.Name) and len(node.id) == 1 and 0 <= (index := ord(node.id.upper()) - 65) < 26:
            if index >= self._series:
                raise errors.validation(f"The formula {self.text!r} names series {node.id}, which is not there.")
            return values[index]
        if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)) and not isinstance(node.value, bool):
            return float(node.value)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
            value = self._value(node.operand, values)
            return -value if isinstance(node.op, ast.USub) else value
        if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
            left, right = self._value(node.left, values), self._value(node.right, values)
            try:
                result = _OPERATORS[type(node.op)](left, right)
            except (ZeroDivisionError, OverflowError):
                return 0.0
            # A root of a negative number is none here.
            return result if isinstance(result, float) and abs(result) != float("inf") else 0.0
        raise ValueError(type(node).__name__)
