"""What a call gives: its coarse type, whether it can be NULL, and which engine function its types call for."""

from __future__ import annotations

import re

from .functions import Function
from .printed import Printed


def result(function: Function, arguments: list[Printed]) -> tuple[str, bool]:
    """Type and nullability of a call."""
    kind = function.type
    nullable = any(a.nullable for a in arguments) if function.nullable is None else function.nullable
    if kind == "same":
        kind = arguments[0].type if arguments else "unknown"
    if function.name in ("plus", "minus"):
        return _sum_type(function.name, arguments[0].type, arguments[1].type), nullable
    if function.name in ("if", "multiIf"):
        branches = [*arguments[1:-1:2], arguments[-1]] if len(arguments) > 2 else arguments
        kinds = {branch.type for branch in branches if branch.constant is not None}
        return (kinds.pop() if len(kinds) == 1 else "unknown"), any(b.nullable for b in branches)
    if function.name in ("coalesce", "ifnull"):
        return kind, all(a.nullable for a in arguments)
    if function.sql == "dateTrunc" and arguments[0].constant in ("year", "quarter", "month", "week"):
        kind = "date"
    if function.name in ("multiply", "modulo") and {a.type for a in arguments} <= {"integer", "float"}:
        kind = "integer" if all(a.type == "integer" for a in arguments) else "float"
    return kind, nullable if kind != "unknown" else True


def _sum_type(name: str, left: str, right: str) -> str:
    kinds = {left, right}
    if kinds <= {"integer", "float"}:
        return "float" if "float" in kinds else "integer"
    if name == "minus" and kinds <= {"date", "datetime"}:
        return "integer"
    for time in ("datetime", "date"):
        if time in kinds and kinds <= {time, "interval", "integer"}:
            return time
    return "unknown"


PRECISION = frozenset({"now64", "toDateTime64"})
_EXACT = re.compile(r"\d{4}-\d{2}-\d{2}( \d{2}:\d{2}:\d{2}(\.\d{1,6})?)?")


def to_datetime(arguments: list[Printed]) -> str:
    """The engine's function for ``toDateTime``: by the type of its argument, by the look of a constant."""
    first = arguments[0]
    if first.type not in ("string", "json"):
        return "toDateTime"
    if not isinstance(first.constant, str) or len(arguments) > 1:
        return "parseDateTime64BestEffortOrNull"
    match = _EXACT.fullmatch(first.constant)
    if match is None:
        return "parseDateTime64BestEffort"
    return "toDateTime64" if match[2] else "toDateTime"
