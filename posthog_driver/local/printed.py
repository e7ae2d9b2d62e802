"""What the translator builds: printed expressions, sources and scopes, and PostHog's rules for types and NULL."""

from __future__ import annotations

import difflib
import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from . import schema
from .parser import HogQLError, Node

_NOT_CONSTANT: Any = object()


@dataclass(frozen=True)
class Json:
    """Where a JSON text or a part of it lies.

    Attributes:
        column: SQL of the JSON text.
        path: Keys and indexes into it.
        owner: Whose property definitions type it.
        group: Which group type's, for groups.
        stored: For columns of `storage.JSON_COLUMNS`: the engine's alias of the table and the column's name there.
    """

    column: str
    path: tuple[str | int, ...] = ()
    owner: str = ""
    group: int | None = None
    stored: tuple[str, str] | None = None


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
    """A printed SELECT and its columns.

    Attributes:
        sql: ClickHouse SQL.
        hogql: HogQL text.
        columns: Its columns.
        renamed: The engine's names of the columns by the names the query gives them from outside
            (``(select 1) as t(a)``), None if it gives none.
    """

    sql: str
    hogql: str
    columns: tuple[Printed, ...]
    renamed: dict[str, str] | None = None


@dataclass
class Source:
    """Something in FROM: a table with its links, or a sub-query with its columns.

    Attributes:
        alias: The engine's name of it.
        table: The table, None for a sub-query.
        columns: The columns of a sub-query.
        group: The index of the group type whose rows these are, if they are.
        links: The links of the table that the query uses.
        renamed: The table's columns by the names the query gives them (``events as e(a, b)``).
        used: The table's stored columns that the query uses.
    """

    alias: str
    table: schema.Table | None = None
    columns: dict[str, Printed] = field(default_factory=dict)
    group: int | None = None
    links: dict[str, tuple[schema.Link, Source]] = field(default_factory=dict)
    renamed: dict[str, str] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)

    def names(self) -> list[str]:
        """What can be named in it."""
        if self.table is None:
            return list(self.columns)
        return [*self.shown(), *self.table.links, *(name for name, c in self.table.columns.items() if c.hidden)]

    def shown(self) -> list[str]:
        """The columns that ``*`` stands for."""
        if self.table is None:
            return list(self.columns)
        visible = [name for name, column in self.table.columns.items() if not column.hidden]
        taken = {*self.renamed, *self.renamed.values()}
        return [*self.renamed, *(name for name in visible if name not in taken)]

    def column(self, name: str) -> schema.Column | None:
        """The table's column of that name."""
        if self.table is None or (name not in self.renamed and name in self.renamed.values()):
            return None
        return self.table.columns.get(self.renamed.get(name, name))

    def has(self, name: str) -> bool:
        """Whether it has a column or link of that name."""
        if self.table is None:
            return name in self.columns
        return self.column(name) is not None or name in self.table.links or name in self.table.missing


@dataclass
class Scope:
    """What can be named inside one SELECT.

    Attributes:
        ctes: The WITH clauses around it.
        sources: FROM, by name.
        anonymous: Sub-queries in FROM without a name.
        aliases: Names of expressions.
        windows: Named windows.
        inside: For the expression of a table's computed column: that table and its link, in which alone it looks.
    """

    ctes: dict[str, Cte]
    sources: dict[str, Source] = field(default_factory=dict)
    anonymous: list[Source] = field(default_factory=list)
    aliases: dict[str, Printed] = field(default_factory=dict)
    windows: Mapping[str, Node] = field(default_factory=dict)
    inside: tuple[Source, str] | None = None

    def all_sources(self) -> list[Source]:
        """Every source, in the order of FROM."""
        return [*self.sources.values(), *self.anonymous]


@dataclass
class Cte:
    """A named sub-query, printed once, or a named expression, printed wherever it is used.

    The weight is the number of sub-queries that the engine makes of it wherever it is named; the names are those that
    WITH gives to its columns.
    """

    expression: Node | None
    alias: str = ""
    select: Select | None = None
    weight: int = 1
    names: tuple[str, ...] = ()


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
CASTS: Mapping[str, tuple[str, str]] = {
    **dict.fromkeys(("int", "integer"), ("toInt64", "integer")),
    **dict.fromkeys(("float", "double", "double precision", "real"), ("toFloat64", "float")),
    **dict.fromkeys(("text", "varchar", "char", "string"), ("toString", "string")),
    **dict.fromkeys(("boolean", "bool"), ("toBool", "boolean")),
    "date": ("toDate", "date"),
    **dict.fromkeys(
        ("datetime", "timestamp", "timestamptz", "timestamp with time zone", "timestamp with local time zone"),
        ("toDateTime", "datetime"),
    ),
}
"""Types of ``CAST`` and ``::``: the engine's function and the coarse type, as PostHog prints them."""


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
    names = select.renamed or {column.column_name: column.column_name for column in select.columns}
    last = {column.column_name: column for column in select.columns}
    listed = zip(names.items(), select.columns if select.renamed else last.values(), strict=True)
    for (name, sql_name), column in listed:
        sql = f"{alias}.{schema.quote_any_name(sql_name)}"
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


def concat_part(part: Printed) -> str:
    """An argument of ``concat``, for which NULL is the empty text."""
    if part.is_constant:
        if part.constant is None:
            return "''"
        return part.sql if isinstance(part.constant, str) else f"toString({part.sql})"
    return f"ifNull(toString({part.sql}), '')"
