"""What the translator builds: printed expressions, sources and scopes, and PostHog's rules for types and NULL."""

from __future__ import annotations

import difflib
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from . import functions, schema
from .parser import HogQLError, Node, offset

_NOT_CONSTANT: Any = object()


@dataclass(frozen=True)
class Json:
    """Where a JSON text or a part of it lies."""

    column: str
    path: tuple[str | int, ...] = ()
    owner: str = ""
    group: int | None = None
    materialized: str = ""


@dataclass(frozen=True)
class Printed:
    """One expression, printed.

    Attributes:
        sql: ClickHouse SQL.
        hogql: HogQL text.
        type: Coarse type; ``unknown`` when it is not known.
        nullable: Whether it can be NULL, as far as known.
        name: Name of the column it would make without an alias, empty if that is its HogQL text.
        alias: Its alias, empty without.
        constant: Its Python value if it is a constant.
        json: For JSON columns and properties, where they lie.
        on_time: Whether it holds the time column of events, which PostHog compares without NULL rules.
    """

    sql: str
    hogql: str
    type: str = "unknown"
    nullable: bool = True
    name: str = ""
    alias: str = ""
    constant: Any = _NOT_CONSTANT
    json: Json | None = None
    on_time: bool = False

    @property
    def is_constant(self) -> bool:
        """Whether it is a literal."""
        return self.constant is not _NOT_CONSTANT

    @property
    def column_name(self) -> str:
        """The name PostHog gives to a column with this expression."""
        return self.alias or self.name or self.hogql


@dataclass(frozen=True)
class Select:
    """A printed SELECT and its columns."""

    sql: str
    hogql: str
    columns: tuple[Printed, ...]


@dataclass
class Source:
    """Something in FROM: a table with its links, or a sub-query with its columns."""

    alias: str
    table: schema.Table | None = None
    columns: dict[str, Printed] = field(default_factory=dict)
    group: int | None = None
    links: dict[str, tuple[schema.Link, Source]] = field(default_factory=dict)

    def names(self) -> list[str]:
        """What can be named in it."""
        return [*self.table.columns, *self.table.links] if self.table else list(self.columns)

    def has(self, name: str) -> bool:
        """Whether it has a column or link of that name."""
        return name in (self.columns if self.table is None else self.table.columns) or (
            self.table is not None and name in self.table.links
        )


@dataclass
class Scope:
    """What can be named inside one SELECT."""

    ctes: dict[str, Cte]
    sources: dict[str, Source] = field(default_factory=dict)
    anonymous: list[Source] = field(default_factory=list)
    aliases: dict[str, Printed] = field(default_factory=dict)
    windows: frozenset[str] = frozenset()

    def all_sources(self) -> list[Source]:
        """Every source, in the order of FROM."""
        return [*self.sources.values(), *self.anonymous]


@dataclass
class Cte:
    """A named sub-query, printed once, or a named expression, printed wherever it is used.

    The weight is the number of sub-queries that the engine makes of it wherever it is named.
    """

    expression: Node | None
    alias: str = ""
    select: Select | None = None
    weight: int = 1


def hogql_constant(value: Any) -> str:
    """A Python value as a literal, the same in HogQL and in SQL."""
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return schema.quote_literal(value)
    text = repr(value)
    return {"inf": "Inf", "-inf": "-Inf", "nan": "NaN"}.get(text, text)


CONSTANT_TYPES: Mapping[type, str] = {bool: "boolean", int: "integer", float: "float", str: "string"}
ARITHMETIC = {"+": "plus", "-": "minus", "*": "multiply", "/": "divide", "%": "modulo"}
CASTS: Mapping[str, str] = {
    **dict.fromkeys(("int", "integer", "bigint", "smallint", "int64"), "toInt"),
    **dict.fromkeys(("float", "double", "real", "float64", "numeric", "decimal"), "toFloat"),
    **dict.fromkeys(("string", "text", "varchar", "char"), "toString"),
    **dict.fromkeys(("bool", "boolean"), "toBool"),
    **dict.fromkeys(("datetime", "timestamp", "timestamptz"), "toDateTime"),
    "date": "toDate",
    "uuid": "toUUID",
}


@dataclass(frozen=True)
class Comparison:
    """How an operator is printed, and what it gives when a side is NULL."""

    function: str
    evaluate: Callable[[Any, Any], bool] | None = None
    one_null: bool = False
    both_null: bool = False


COMPARISONS: Mapping[str, Comparison] = {
    "==": Comparison("equals({0}, {1})", operator.eq, both_null=True),
    "!=": Comparison("notEquals({0}, {1})", operator.ne, one_null=True),
    "<": Comparison("less({0}, {1})", operator.lt),
    "<=": Comparison("lessOrEquals({0}, {1})", operator.le),
    ">": Comparison("greater({0}, {1})", operator.gt),
    ">=": Comparison("greaterOrEquals({0}, {1})", operator.ge),
    "like": Comparison("like({0}, {1})", both_null=True),
    "ilike": Comparison("ilike({0}, {1})", both_null=True),
    "not like": Comparison("notLike({0}, {1})", one_null=True),
    "not ilike": Comparison("notILike({0}, {1})", one_null=True),
    "=~": Comparison("match({0}, {1})", both_null=True),
    "!~": Comparison("not(match({0}, {1}))", one_null=True),
    "=~*": Comparison("match({0}, concat('(?i)', {1}))", both_null=True),
    "!~*": Comparison("not(match({0}, concat('(?i)', {1})))", one_null=True),
}
IN = {"in": "in", "not in": "notIn"}


def compare_constants(comparison: Comparison, left: Any, right: Any) -> bool | None:
    """The outcome for two constants, None when only the engine knows (``'a' < 1``)."""
    if comparison.evaluate is None:
        return None
    if comparison.evaluate not in (operator.eq, operator.ne) and (left is None or right is None):
        return False
    try:
        return bool(comparison.evaluate(left, right))
    except TypeError:
        return None


def with_null_rules(comparison: Comparison, left: Printed, right: Printed) -> str:
    """A comparison that is never NULL, by PostHog's rules (``posthog/hogql/printer/clickhouse.py``)."""
    sql = comparison.function.format(left.sql, right.sql)
    simple = comparison.function.split("(")[0] in ("equals", "like", "ilike", "notEquals", "notLike", "notILike")
    for side, other in ((right, left), (left, right)):
        if side.constant is None:
            if simple:
                # NULL against NULL, which the rule for a NULL constant covers: isNull(NULL) is 1.
                return f"isNull({other.sql})" if comparison.both_null else f"isNotNull({other.sql})"
            if other.constant is None:
                return str(int(comparison.both_null))
            if comparison.both_null == comparison.one_null:
                return str(int(comparison.one_null))
        elif side.is_constant and simple:
            return f"ifNull({sql}, {int(comparison.one_null)})"
    if comparison.both_null:
        return f"ifNull({sql}, isNull({left.sql}) and isNull({right.sql}))"
    if comparison.one_null:
        return f"ifNull({sql}, isNotNull({left.sql}) or isNotNull({right.sql}))"
    return f"ifNull({sql}, 0)"


def tuple_of(parts: list[Printed]) -> Printed:
    """A tuple of printed expressions."""
    return Printed(f"tuple({', '.join(p.sql for p in parts)})", f"tuple({hogql_list(parts)})", "tuple", nullable=False)


def hogql_list(parts: Iterable[Printed]) -> str:
    """The HogQL texts of expressions, with commas."""
    return ", ".join(part.hogql for part in parts)


def by_name(select: Select, alias: str) -> dict[str, Printed]:
    """The columns of a sub-query as the query around it sees them."""
    columns = {}
    for column in select.columns:
        name = column.column_name
        sql = f"{alias}.{schema.quote_any_name(name)}"
        json = Json(sql) if column.type == "json" else None
        columns[name] = Printed(sql, "", column.type, column.nullable, name=name, json=json)
    return columns


class UnknownName(HogQLError):
    """A part of a chain is no name that could stand there."""

    def __init__(self, what: str, name: str, known: Iterable[str]) -> None:
        super().__init__(f"{what}: {name}")
        self.name = name
        self.known = known


def nearest(name: str, names: Iterable[str], likeness: float = 0.6) -> str | None:
    """The name that looks most like this one, None if none is at least this much like it."""
    matches = difflib.get_close_matches(name, list(names), 1, likeness)
    return matches[0] if matches else None


def find_function(name: str, node: Node) -> functions.Function:
    """The function a call names."""
    function = functions.find(name)
    if function is not None:
        return function
    if name in functions.NOT_HERE:
        raise HogQLError(f"Function '{name}(...)' is not available in the embedded PostHog")
    near = functions.nearest(name)
    meant = f". Perhaps you meant '{near}(...)'?" if near else ""
    start = offset(node.get("start"))
    # The fix is for the name alone, so the name alone is marked.
    end = None if start is None else start + len(name)
    raise HogQLError(f"Unsupported function call '{name}(...)'{meant}", start, end, near)


def check_arity(function: functions.Function, name: str, count: int, params: list[Node] | None) -> None:
    """Refuse a call with too few or too many arguments or parameters."""
    term = "Aggregation" if function.aggregate else "Function"
    expect(name, term, "argument", count, function.min_args, function.max_args)
    if function.params[0] and params is None:
        raise HogQLError(f"{term} '{name}' requires parameters in addition to arguments")
    if params:
        expect(name, term, "parameter", len(params), *function.params)


def expect(name: str, term: str, what: str, found: int, low: int, high: int | None) -> None:
    """Refuse a wrong number of arguments, in PostHog's words."""
    if found >= low and (high is None or found <= high):
        return
    wanted, number = ("", low) if low == high else ("at least ", low) if found < low else ("at most ", high or 0)
    raise HogQLError(f"{term} '{name}' expects {wanted}{number} {what}{'s' if number != 1 else ''}, found {found}")


def result(function: functions.Function, arguments: list[Printed]) -> tuple[str, bool]:
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


def concat_part(part: Printed) -> str:
    """An argument of ``concat``, for which NULL is the empty text."""
    if part.is_constant:
        if part.constant is None:
            return "''"
        return part.sql if isinstance(part.constant, str) else f"toString({part.sql})"
    return f"ifNull(toString({part.sql}), '')"


def check_array_reduce(name: str, first: Printed) -> None:
    """Refuse an ``arrayReduce`` over anything but a known aggregation."""
    if not isinstance(first.constant, str):
        raise HogQLError(f"Expected constant string as first arg in function '{name}'")
    if first.constant not in functions.PARAMETRIC_FIRST_ARGUMENT:
        raise HogQLError(f"Invalid parametric function in '{name}', '{first.constant}' is not supported.")


def scale(part: Printed) -> int:
    """The scale of ``toDecimal``."""
    if type(part.constant) is not int:
        raise HogQLError("The scale of toDecimal must be a constant whole number")
    return int(part.constant)
