"""HogQL to ClickHouse SQL: PostHog's meaning on the embedded engine's tables.

`translate` parses a query with PostHog's parser, fills in its placeholders, checks every node against an allow-list,
and prints it again as SQL that can only read: names are qualified with the database, functions and tables come from
`functions.py` and `schema.py`, text goes through one escape function for literals and one for names. What is not
listed is refused by name.

The engine must add `schema.QUERY_SETTINGS` to each statement: they make ``IN`` treat NULL as PostHog does, and forbid
the engine itself everything but reading.

How it works: one pass over the tree. Each SELECT has a `_Scope` (tables, aliases, lambda arguments). Each expression
becomes a `Printed`: its SQL, its HogQL text (PostHog names columns by it), a coarse type and whether it can be NULL.
Tables get engine aliases that occur nowhere in the query, so that no name of the user can capture one of ours.
"""

from __future__ import annotations

import difflib
import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from . import functions, parser, schema
from .parser import HogQLError, Node, offset
from .placeholders import Filler
from .schema import Catalog

DEFAULT_LIMIT = 100
"""Rows of a SELECT without LIMIT (PostHog's ``DEFAULT_RETURNED_ROWS``)."""
MAX_LIMIT = 50_000
"""Greatest LIMIT of the outermost SELECT (PostHog's ``MAX_SELECT_RETURNED_ROWS``)."""
MAX_NODES = 100_000
"""Most expressions one query may grow to when its CTEs are written out."""

OFFSET_REFUSED = (
    "OFFSET is not supported on queries made with a personal API key. "
    "For pagination, use keyset pagination on the `timestamp` column, e.g. "
    "`WHERE timestamp > :last_seen_timestamp ORDER BY timestamp LIMIT N`. "
    "For bulk data extraction, use batch exports: https://posthog.com/docs/cdp/batch-exports"
)


@dataclass(frozen=True)
class Translation:
    """A query, ready for the engine.

    Attributes:
        sql: The ClickHouse statement, without settings and format.
        columns: Names of the result's columns, as PostHog gives them; they may repeat.
        hogql: The query as HogQL, placeholders filled in.
        tables: HogQL names of the tables it reads, sorted.
        paginated: A single SELECT without LIMIT: the statement asks for one row more than `limit`, so that the server
            can tell whether there are more.
        limit: The row limit in force for the outermost SELECT, None for a set query or a computed limit.
        warnings: PostHog's notices about names the project does not know.
    """

    sql: str
    columns: tuple[str, ...]
    hogql: str
    tables: tuple[str, ...]
    paginated: bool = False
    limit: int | None = None
    warnings: tuple[dict[str, Any], ...] = ()


def translate(
    query: str,
    catalog: Catalog,
    *,
    values: Mapping[str, Any] | None = None,
    filters: Mapping[str, Any] | None = None,
    variables: Mapping[str, Any] | None = None,
    is_api_query: bool = True,
) -> Translation:
    """Turn a HogQL query into ClickHouse SQL.

    Args:
        query: The HogQL text.
        catalog: What the project has.
        values: For ``{name}`` placeholders.
        filters: For ``{filters}``: PostHog's ``HogQLFilters``.
        variables: For ``{variables.name}``: PostHog's ``HogQLVariable`` objects by id.
        is_api_query: Whether a personal API key asks; then OFFSET is refused.

    Returns:
        The statement and what the server must know about it.

    Raises:
        HogQLError: The query is refused; the message is PostHog's where PostHog has one.
    """
    try:
        tree = parser.parse_select(query)
        time_columns = {name: table.time_column for name, table in schema.TABLES.items() if table.time_column}
        tree = Filler(values, filters, variables, catalog.timezone, time_columns).fill(tree)
        check(tree, is_api_query=is_api_query)
        return Translator(catalog, query).run(tree)
    except RecursionError:
        raise HogQLError("Query is too deeply nested") from None


def metadata(query: str, catalog: Catalog, values: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Check a query without running it.

    Args:
        query: The HogQL text.
        catalog: What the project has.
        values: For ``{name}`` placeholders.

    Returns:
        PostHog's answer to ``HogQLMetadata``, which is also the ``extra.hogql_metadata`` of a 400.
    """
    errors: list[dict[str, Any]] = []
    warnings: list[dict[str, Any]] = []
    try:
        translation = translate(query, catalog, values=values)
        warnings.extend(translation.warnings)
        tables = translation.tables
    except HogQLError as error:
        errors.append({"message": error.message, "start": error.start, "end": error.end, "fix": error.fix})
        tables = _tables_named(query)
    return {
        "isValid": not errors,
        "query": query,
        "errors": errors,
        "warnings": warnings,
        "notices": [],
        "table_names": list(tables),
    }


def _tables_named(query: str) -> tuple[str, ...]:
    """The known tables that a refused query names, as far as it parses."""
    try:
        tree = parser.parse_select(query)
    except HogQLError:
        return ()
    named = {_table_name(node.get("table")) for node in _walk(tree) if node.get("node") == "JoinExpr"}
    return tuple(sorted(named & set(schema.table_names())))


def _table_name(table: Any) -> str:
    chain: list[Any] = table.get("chain") or [] if isinstance(table, dict) else []
    # A name with a dot in it, such as `system.insights` in backticks, is one name and no path.
    return "" if any("." in str(part) for part in chain) else ".".join(map(str, chain))


# ------------------------------------------------------------------------------------------------------ the allow-list

_NODES: Mapping[str, frozenset[str]] = {
    name: frozenset(keys.split())
    for name, keys in {
        "SelectQuery": "ctes select distinct select_from array_join_op array_join_list window_exprs where prewhere "
        "having group_by group_by_mode order_by limit limit_by limit_with_ties offset",
        "SelectSetQuery": "initial_select_query subsequent_select_queries limit offset",
        "SelectSetNode": "select_query set_operator",
        "CTE": "name expr cte_type",
        "JoinExpr": "join_type table table_args alias constraint next_join table_final",
        "JoinConstraint": "expr constraint_type",
        "OrderExpr": "expr order",
        "LimitByExpr": "n exprs offset_value",
        "WindowExpr": "partition_by order_by frame_method frame_start frame_end",
        "WindowFrameExpr": "frame_type frame_value",
        "GroupingSet": "exprs",
        "Alias": "expr alias",
        "Field": "chain",
        "Constant": "value value_type",
        "ArithmeticOperation": "left right op",
        "CompareOperation": "left right op is_null_comparison_style",
        "And": "exprs",
        "Or": "exprs",
        "Not": "expr",
        "BetweenExpr": "expr low high negated",
        "IsDistinctFrom": "left right negated",
        "ArrayAccess": "array property nullish",
        "ArraySlice": "array start_expr end_expr",
        "TupleAccess": "tuple index nullish",
        "Array": "exprs",
        "Tuple": "exprs",
        "Dict": "items",
        "Lambda": "args expr",
        "Call": "name args params distinct filter_expr",
        "WindowFunction": "name exprs args over_expr over_identifier",
        "TypeCast": "expr type_name",
        "ColumnsExpr": "all_columns exclude",
        "HogQLXTag": "kind attributes",
        "HogQLXAttribute": "name value",
    }.items()
}
"""The nodes a query may have, and the parts each may have; ``start`` and ``end`` are positions."""

_COMMON_KEYS = frozenset({"node", "start", "end"})
_MESSAGES = {
    "PivotExpr": "PIVOT",
    "UnpivotExpr": "UNPIVOT",
    "TryCast": "TRY_CAST",
    "ValuesQuery": "VALUES",
    "with_fill": "WITH FILL",
    "recursive": "WITH RECURSIVE",
    "limit_percent": "LIMIT %",
    "regex": "COLUMNS",
}


def _walk(tree: Node) -> Iterator[Node]:
    """Every node of a tree, parents first, in the order of the text as far as the parser keeps it."""
    stack: list[Any] = [tree]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            if "node" in item:
                yield item
            stack.extend(value for key, value in reversed(item.items()) if key not in ("start", "end"))
        elif isinstance(item, list):
            stack.extend(reversed(item))


def _error_at(node: Any, message: str, **more: Any) -> HogQLError:
    if not isinstance(node, dict):
        return HogQLError(message, **more)
    return HogQLError(message, offset(node.get("start")), offset(node.get("end")), **more)


def check(tree: Node, *, is_api_query: bool) -> None:
    """Refuse every node and every part of a node that is not listed.

    Args:
        tree: The parsed query, without placeholders.
        is_api_query: Whether OFFSET is refused.

    Raises:
        HogQLError: Something is not listed.
    """
    for node in _walk(tree):
        kind = node["node"]
        allowed = _NODES.get(kind)
        if allowed is None:
            raise _error_at(node, f"{_MESSAGES.get(kind, kind)} is not supported")
        if node.get("table_final"):
            raise _error_at(node, "The FINAL keyword is not supported in HogQL as it causes slow queries")
        for key, value in node.items():
            if key not in allowed and key not in _COMMON_KEYS and value not in (None, False, []):
                raise _error_at(node, f"{_MESSAGES.get(key, key.upper().replace('_', ' '))} is not supported")
        if any(type(part) not in (str, int) for part in node.get("chain") or ()):
            raise _error_at(node, "A field is named by texts and whole numbers only")
        for key in ("offset", "offset_value"):
            if is_api_query and node.get(key) is not None:
                raise _error_at(node[key], OFFSET_REFUSED)


_JOIN_TYPES = frozenset(
    " ".join(words.split())
    for strictness in ("", "ANY", "ALL", "ASOF", "SEMI", "ANTI")
    for kind in ("", "INNER", "LEFT", "RIGHT", "FULL", "LEFT OUTER", "RIGHT OUTER", "FULL OUTER")
    for words in (f"{kind} {strictness} JOIN", f"{strictness} {kind} JOIN")
) | {"CROSS JOIN"}
_SET_OPERATORS = frozenset(
    ["UNION ALL", "UNION DISTINCT", "INTERSECT", "INTERSECT DISTINCT", "EXCEPT", "EXCEPT DISTINCT"]
)
_ARRAY_JOINS = frozenset(["ARRAY JOIN", "LEFT ARRAY JOIN", "INNER ARRAY JOIN"])
_FRAME_TYPES = frozenset(["CURRENT ROW", "PRECEDING", "FOLLOWING"])
_GROUP_MODES = {"rollup": "ROLLUP", "cube": "CUBE", "grouping_sets": "GROUPING SETS"}
_RESERVED = frozenset(["true", "false", "null", "team_id"])
_TAGS = frozenset(
    "a abbr b blockquote br code col colgroup div em h1 h2 h3 h4 h5 h6 hr i img li ol p pre s span strong sub sup table "
    "tbody td tfoot th thead tr u ul Sparkline RecordingButton".split()
)


# ------------------------------------------------------------------------------------------------------ printed pieces

_NOT_CONSTANT: Any = object()


@dataclass(frozen=True)
class _Json:
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
    json: _Json | None = None
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
class _Select:
    sql: str
    hogql: str
    columns: tuple[Printed, ...]


@dataclass
class _Source:
    """Something in FROM: a table with its links, or a sub-query with its columns."""

    alias: str
    table: schema.Table | None = None
    columns: dict[str, Printed] = field(default_factory=dict)
    group: int | None = None
    links: dict[str, tuple[schema.Link, _Source]] = field(default_factory=dict)

    def names(self) -> list[str]:
        """What can be named in it."""
        return [*self.table.columns, *self.table.links] if self.table else list(self.columns)

    def has(self, name: str) -> bool:
        """Whether it has a column or link of that name."""
        return name in (self.columns if self.table is None else self.table.columns) or (
            self.table is not None and name in self.table.links
        )


@dataclass
class _Scope:
    ctes: dict[str, _Cte]
    sources: dict[str, _Source] = field(default_factory=dict)
    anonymous: list[_Source] = field(default_factory=list)
    aliases: dict[str, Printed] = field(default_factory=dict)
    windows: frozenset[str] = frozenset()

    def all_sources(self) -> list[_Source]:
        """Every source, in the order of FROM."""
        return [*self.sources.values(), *self.anonymous]


@dataclass
class _Cte:
    """A named sub-query, printed once, or a named expression, printed wherever it is used."""

    expression: Node | None
    alias: str = ""
    select: _Select | None = None
    weight: int = 1


def _hogql_constant(value: Any) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return schema.quote_literal(value)
    text = repr(value)
    return {"inf": "Inf", "-inf": "-Inf", "nan": "NaN"}.get(text, text)


_CONSTANT_TYPES: Mapping[type, str] = {bool: "boolean", int: "integer", float: "float", str: "string"}
_ARITHMETIC = {"+": "plus", "-": "minus", "*": "multiply", "/": "divide", "%": "modulo"}
_CASTS: Mapping[str, str] = {
    **dict.fromkeys(("int", "integer", "bigint", "smallint", "int64"), "toInt"),
    **dict.fromkeys(("float", "double", "real", "float64", "numeric", "decimal"), "toFloat"),
    **dict.fromkeys(("string", "text", "varchar", "char"), "toString"),
    **dict.fromkeys(("bool", "boolean"), "toBool"),
    **dict.fromkeys(("datetime", "timestamp", "timestamptz"), "toDateTime"),
    "date": "toDate",
    "uuid": "toUUID",
}


@dataclass(frozen=True)
class _Comparison:
    """How an operator is printed, and what it gives when a side is NULL."""

    function: str
    evaluate: Callable[[Any, Any], bool] | None = None
    one_null: bool = False
    both_null: bool = False


_COMPARISONS: Mapping[str, _Comparison] = {
    "==": _Comparison("equals({0}, {1})", operator.eq, both_null=True),
    "!=": _Comparison("notEquals({0}, {1})", operator.ne, one_null=True),
    "<": _Comparison("less({0}, {1})", operator.lt),
    "<=": _Comparison("lessOrEquals({0}, {1})", operator.le),
    ">": _Comparison("greater({0}, {1})", operator.gt),
    ">=": _Comparison("greaterOrEquals({0}, {1})", operator.ge),
    "like": _Comparison("like({0}, {1})", both_null=True),
    "ilike": _Comparison("ilike({0}, {1})", both_null=True),
    "not like": _Comparison("notLike({0}, {1})", one_null=True),
    "not ilike": _Comparison("notILike({0}, {1})", one_null=True),
    "=~": _Comparison("match({0}, {1})", both_null=True),
    "!~": _Comparison("not(match({0}, {1}))", one_null=True),
    "=~*": _Comparison("match({0}, concat('(?i)', {1}))", both_null=True),
    "!~*": _Comparison("not(match({0}, concat('(?i)', {1})))", one_null=True),
}
_IN = {"in": "in", "not in": "notIn"}


def _compare_constants(comparison: _Comparison, left: Any, right: Any) -> bool | None:
    """The outcome for two constants, None when only the engine knows (``'a' < 1``)."""
    if comparison.evaluate is None:
        return None
    if comparison.evaluate not in (operator.eq, operator.ne) and (left is None or right is None):
        return False
    try:
        return bool(comparison.evaluate(left, right))
    except TypeError:
        return None


def _with_null_rules(comparison: _Comparison, left: Printed, right: Printed) -> str:
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


# --------------------------------------------------------------------------------------------------------- translator


class Translator:
    """Prints one query. `run` is the way in; the rest is one method for each kind of node.

    Args:
        catalog: What the project has.
        text: The query, so that engine aliases can avoid every name in it.
    """

    def __init__(self, catalog: Catalog, text: str) -> None:
        self._catalog = catalog
        self._prefix = next(p for p in _prefixes() if p not in text)
        self._count = 0
        self._nodes = 0
        self._scope = _Scope({})
        self._lambda_arguments: list[str] = []
        self._aggregation = ""
        self._in_join = False
        self._raw_properties = False
        self._printed_ctes: list[str] = []
        self._cohorts: list[int] = []
        self._tables: set[str] = set()
        self._warnings: list[dict[str, Any]] = []
        self._expressions: Mapping[str, Callable[[Node], Printed]] = {
            "Alias": self._alias,
            "Field": self._field,
            "Constant": self._constant,
            "ArithmeticOperation": self._arithmetic,
            "CompareOperation": self._compare_node,
            "And": lambda node: self._logical("and", node["exprs"]),
            "Or": lambda node: self._logical("or", node["exprs"]),
            "Not": lambda node: self._logical("not", [node["expr"]]),
            "BetweenExpr": self._between,
            "IsDistinctFrom": self._distinct_from,
            "ArrayAccess": self._array_access,
            "ArraySlice": self._array_slice,
            "TupleAccess": self._tuple_access,
            "Array": self._array,
            "Tuple": self._tuple,
            "Dict": self._dict,
            "Lambda": self._lambda,
            "Call": self._call,
            "WindowFunction": self._window_function,
            "TypeCast": self._cast,
            "HogQLXTag": self._tag,
            "SelectQuery": self._scalar,
            "SelectSetQuery": self._scalar,
        }

    def run(self, tree: Node) -> Translation:
        """Print a checked tree."""
        paginated, limit = False, None
        if tree["node"] == "SelectQuery":
            paginated = tree.get("limit") is None
            limit = DEFAULT_LIMIT if paginated else _int_constant(tree["limit"])
            tree = {**tree, "limit": _top_limit(tree.get("limit"), DEFAULT_LIMIT + 1)}
            select = self._select(tree, {}, top=True)
        else:
            select = self._set_query(tree, {}, top=True)
        with_clause = f"WITH {', '.join(self._printed_ctes)} " if self._printed_ctes else ""
        return Translation(
            with_clause + select.sql,
            tuple(column.column_name for column in select.columns),
            select.hogql,
            tuple(sorted(self._tables)),
            paginated,
            None if limit is None else min(limit, MAX_LIMIT),
            tuple(self._warnings),
        )

    def expression(self, node: Node) -> Printed:
        """Print one expression; an error without a position gets that of the innermost node."""
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise HogQLError("Query is too complex")
        try:
            return self._expressions[node["node"]](node)
        except KeyError:
            raise _error_at(node, f"{node['node']} is not supported here") from None
        except HogQLError as error:
            if error.start is None:
                error.start, error.end = offset(node.get("start")), offset(node.get("end"))
            raise

    def _all(self, nodes: Iterable[Node] | None) -> list[Printed]:
        return [self.expression(node) for node in nodes or ()]

    def _name(self, name: str) -> str:
        try:
            return schema.quote_name(name)
        except ValueError as error:
            raise HogQLError(str(error)) from None

    def _new_alias(self) -> str:
        self._count += 1
        return f"{self._prefix}{self._count}"

    @contextmanager
    def _state(self, **changes: Any) -> Iterator[None]:
        """Set some of the flags for the length of a block."""
        before = {name: getattr(self, f"_{name}") for name in changes}
        for name, value in changes.items():
            setattr(self, f"_{name}", value)
        try:
            yield
        finally:
            for name, value in before.items():
                setattr(self, f"_{name}", value)

    # --------------------------------------------------------------------------------------------------------- SELECT

    def _any_select(self, node: Node, ctes: dict[str, _Cte]) -> _Select:
        return self._select(node, ctes) if node["node"] == "SelectQuery" else self._set_query(node, ctes)

    def _set_query(self, node: Node, ctes: dict[str, _Cte], *, top: bool = False) -> _Select:
        first = node["initial_select_query"]
        inherited, with_text = ctes, ""
        if first.get("ctes"):
            # The WITH of the first SELECT counts for all of them.
            inherited = self._define_ctes(first["ctes"], ctes)
            first = {**first, "ctes": None}
            with_text = _with_text(node["initial_select_query"]["ctes"], inherited)
        parts = [("", first)] + [(n["set_operator"], n["select_query"]) for n in node["subsequent_select_queries"]]
        selects: list[_Select] = []
        sql = hogql = ""
        for set_operator, branch in parts:
            if set_operator and set_operator not in _SET_OPERATORS:
                raise _error_at(branch, f"{set_operator} is not supported")
            is_select = branch["node"] == "SelectQuery"
            if top and is_select:
                branch = {**branch, "limit": _top_limit(branch.get("limit"), DEFAULT_LIMIT)}
            select = self._select(branch, inherited) if is_select else self._set_query(branch, inherited, top=top)
            brackets = "({})" if not is_select or branch.get("limit") or branch.get("order_by") else "{}"
            joiner = f" {set_operator} " if set_operator else ""
            sql += joiner + brackets.format(select.sql)
            hogql += joiner + ("{}" if is_select else "({})").format(select.hogql)
            selects.append(select)
        if node.get("limit") or node.get("offset"):
            limit = _top_limit(node.get("limit"), MAX_LIMIT) if top else node.get("limit")
            clause_sql, clause_hogql = self._limit_clauses({"limit": limit, "offset": node.get("offset")})
            sql, hogql = f"SELECT * FROM ({sql}){clause_sql}", f"{hogql}{clause_hogql}"
        return _Select(sql, with_text + hogql, selects[0].columns)

    def _select(self, node: Node, ctes: dict[str, _Cte], *, top: bool = False) -> _Select:
        scope = _Scope(self._define_ctes(node.get("ctes"), ctes))
        scope.windows = frozenset(node.get("window_exprs") or ())
        with self._state(scope=scope, lambda_arguments=[], aggregation="", in_join=False, raw_properties=False):
            select = self._select_in_scope(node, top=top)
        return replace(select, hogql=_with_text(node.get("ctes"), scope.ctes) + select.hogql)

    def _select_in_scope(self, node: Node, *, top: bool) -> _Select:
        joins = self._register_joins(node.get("select_from"))
        array_join = self._array_join(node)
        columns, select_hogql = self._columns(node["select"])
        clauses: list[tuple[str, str]] = []
        for key in ("prewhere", "where"):
            if node.get(key):
                printed = self.expression(node[key])
                clauses.append((f"{key.upper()} {printed.sql}", f"{key.upper()} {printed.hogql}"))
        clauses.extend(self._grouping(node))
        if node.get("having"):
            printed = self.expression(node["having"])
            clauses.append((f"HAVING {printed.sql}", f"HAVING {printed.hogql}"))
        clauses.extend(self._windows(node.get("window_exprs") or {}))
        clauses.extend(self._ordering(node.get("order_by")))
        clauses.extend(self._limit_by(node.get("limit_by")))
        limit_sql, limit_hogql = self._limit_clauses(node)
        # FROM comes last: only now is it known which links the query used.
        from_sql, from_hogql = self._from(joins)
        distinct = "DISTINCT " if node.get("distinct") else ""
        head_sql = f"SELECT {distinct}{', '.join(self._column_list(columns, top=top))}"
        sql = [head_sql, from_sql, array_join[0], *(clause for clause, _ in clauses)]
        hogql = [
            f"SELECT {distinct}{', '.join(select_hogql)}",
            from_hogql,
            array_join[1],
            *(clause for _, clause in clauses),
        ]
        return _Select(
            " ".join(filter(None, sql)) + limit_sql, " ".join(filter(None, hogql)) + limit_hogql, tuple(columns)
        )

    def _columns(self, nodes: list[Node]) -> tuple[list[Printed], list[str]]:
        columns: list[Printed] = []
        texts: list[str] = []
        for node in nodes:
            star = self._star(node)
            if star is None:
                printed = self.expression(node)
                columns.append(printed)
                texts.append(printed.hogql)
            else:
                columns.extend(star[0])
                texts.append(star[1])
        return columns, texts

    def _star(self, node: Node) -> tuple[list[Printed], str] | None:
        """The columns of ``*``, ``table.*`` or ``* EXCLUDE (...)``, None for any other expression."""
        exclude: list[str] = []
        chain = node.get("chain") or []
        if node["node"] == "ColumnsExpr" and node.get("all_columns"):
            exclude, chain = node.get("exclude") or [], ["*"]
        if node["node"] not in ("Field", "ColumnsExpr") or chain[-1:] != ["*"]:
            return None
        if len(chain) == 1:
            sources = self._scope.all_sources()
            if len(sources) > 1:
                raise _error_at(
                    node, "Cannot use '*' without table name when there are multiple tables in the query"
                )
            if not sources:
                raise _error_at(node, "Cannot use '*' when there are no tables in the query")
            source = sources[0]
        else:
            found = self._scope.sources.get(str(chain[0]))
            if found is None or len(chain) > 2:
                raise _error_at(node, f"Unable to resolve field: {'.'.join(map(str, chain))}")
            source = found
        if source.table:
            names = [name for name, column in source.table.columns.items() if not column.hidden]
        else:
            names = list(source.columns)
        text = ".".join(map(str, chain))
        return [self._member(source, [name], schema.hogql_name(name)) for name in names if name not in exclude], text

    def _column_list(self, columns: list[Printed], *, top: bool) -> list[str]:
        """The columns as SQL; those of a sub-query are named, so that the query around it can use them."""
        if top:
            return [column.sql for column in columns]
        last = {column.column_name: index for index, column in enumerate(columns) if not column.alias}
        taken = {column.alias for column in columns if column.alias}
        listed = []
        for index, column in enumerate(columns):
            name = column.column_name
            is_named = not column.alias and name not in taken and last[name] == index and "%" not in name
            listed.append(f"{column.sql} AS {self._name(name)}" if is_named else column.sql)
        return listed

    def _grouping(self, node: Node) -> list[tuple[str, str]]:
        mode = node.get("group_by_mode")
        if mode == "all":
            return [("GROUP BY ALL", "GROUP BY ALL")]
        if not node.get("group_by"):
            return []
        printed = [self._grouping_element(element) for element in node["group_by"]]
        sql, hogql = ", ".join(s for s, _ in printed), ", ".join(h for _, h in printed)
        if mode:
            if mode not in _GROUP_MODES:
                raise HogQLError(f"GROUP BY {mode} is not supported")
            sql, hogql = f"{_GROUP_MODES[mode]}({sql})", f"{_GROUP_MODES[mode]}({hogql})"
        return [(f"GROUP BY {sql}", f"GROUP BY {hogql}")]

    def _grouping_element(self, node: Node) -> tuple[str, str]:
        if node["node"] != "GroupingSet":
            printed = self.expression(node)
            return printed.sql, printed.hogql
        elements = self._all(node.get("exprs"))
        return f"({', '.join(e.sql for e in elements)})", f"({', '.join(e.hogql for e in elements)})"

    def _ordering(self, nodes: list[Node] | None) -> list[tuple[str, str]]:
        if not nodes:
            return []
        sql, hogql = self._order_list(nodes)
        return [(f"ORDER BY {sql}", f"ORDER BY {hogql}")]

    def _order_list(self, nodes: list[Node]) -> tuple[str, str]:
        printed = []
        for node in nodes:
            order = node["order"] if node["order"] in ("ASC", "DESC") else "ASC"
            printed.append((self.expression(node["expr"]), order))
        return ", ".join(f"{p.sql} {o}" for p, o in printed), ", ".join(f"{p.hogql} {o}" for p, o in printed)

    def _limit_by(self, node: Node | None) -> list[tuple[str, str]]:
        if not node:
            return []
        n, columns = self.expression(node["n"]), self._all(node["exprs"])
        skip = self.expression(node["offset_value"]) if node.get("offset_value") else None
        texts = [
            f"LIMIT {getattr(n, kind)}{f' OFFSET {getattr(skip, kind)}' if skip else ''} BY "
            + ", ".join(getattr(column, kind) for column in columns)
            for kind in ("sql", "hogql")
        ]
        return [(texts[0], texts[1])]

    def _limit_clauses(self, node: Node) -> tuple[str, str]:
        sql = hogql = ""
        for key, word in (("limit", "LIMIT"), ("offset", "OFFSET")):
            if node.get(key):
                value = _int_constant(node[key])
                if value is not None and value < 0:
                    raise _error_at(node[key], f"{word} must not be negative")
                printed = self.expression(node[key])
                sql, hogql = f"{sql} {word} {printed.sql}", f"{hogql} {word} {printed.hogql}"
                if key == "limit" and node.get("limit_with_ties"):
                    sql, hogql = f"{sql} WITH TIES", f"{hogql} WITH TIES"
        return sql, hogql

    # ----------------------------------------------------------------------------------------------------- WITH, FROM

    def _define_ctes(self, nodes: Any, inherited: dict[str, _Cte]) -> dict[str, _Cte]:
        if not nodes:
            return inherited
        ctes = dict(inherited)
        for node in nodes:
            if node["cte_type"] == "column":
                ctes[node["name"]] = _Cte(node["expr"])
                continue
            nodes_before = self._nodes
            select = self._any_select(node["expr"], ctes)
            alias = self._new_alias()
            self._printed_ctes.append(f"{alias} AS ({select.sql})")
            # The engine writes a CTE out wherever it is named, so naming it costs its size again.
            ctes[node["name"]] = _Cte(None, alias, select, self._nodes - nodes_before + 1)
        return ctes

    def _register_joins(self, node: Node | None) -> list[tuple[Node, str, str, _Source]]:
        """Make the sources of FROM known; each comes back with the SQL and HogQL text of its table."""
        joins = []
        while node:
            if node.get("join_type") and node["join_type"] not in _JOIN_TYPES:
                raise _error_at(node, f"{node['join_type']} is not supported")
            try:
                sql, hogql, source = self._source(node)
            except HogQLError as error:
                for place in (node["table"], node):
                    if error.start is None:
                        error.start, error.end = offset(place.get("start")), offset(place.get("end"))
                raise
            name = node.get("alias") or (node["table"].get("chain") or [""])[-1]
            if not name:
                self._scope.anonymous.append(source)
            elif name in self._scope.sources:
                raise _error_at(node, f'Already have joined a table called "{name}". Can\'t redefine.')
            else:
                self._scope.sources[name] = source
            if node.get("alias"):
                hogql = f"{hogql} AS {schema.hogql_name(node['alias'])}"
            joins.append((node, sql, hogql, source))
            node = node.get("next_join")
        return joins

    def _source(self, node: Node) -> tuple[str, str, _Source]:
        table, alias = node["table"], self._new_alias()
        if table["node"] in ("SelectQuery", "SelectSetQuery"):
            select = self._any_select(table, self._scope.ctes)
            return f"({select.sql})", f"({select.hogql})", _Source(alias, columns=_by_name(select, alias, self._name))
        if table["node"] != "Field":
            raise HogQLError(f"{table['node']} is not supported in FROM")
        name = _table_name(table)
        cte = self._scope.ctes.get(name)
        if cte is not None and cte.select is not None:
            self._nodes += cte.weight
            return cte.alias, schema.hogql_name(name), _Source(alias, columns=_by_name(cte.select, alias, self._name))
        name = name.removeprefix("posthog.")
        if name == "numbers":
            return self._numbers(node, alias)
        found = schema.find_table(name, self._catalog) if name else None
        if found is None:
            shown = name or ".".join(map(str, table["chain"]))
            raise HogQLError(f"Unknown table `{shown}`.", fix=_nearest(shown, [*schema.table_names(), "numbers"]))
        if node.get("table_args") is not None:
            raise HogQLError(f"Table '{name}' does not accept arguments")
        self._tables.add(name)
        if not found.physical:
            return self._information_schema(found), name, _Source(alias, found)
        return f"{schema.DATABASE}.{self._name(found.physical)}", name, _Source(alias, found)

    def _numbers(self, node: Node, alias: str) -> tuple[str, str, _Source]:
        arguments = node.get("table_args")
        if arguments is None:
            raise HogQLError("Table function 'numbers' requires arguments")
        if not arguments:
            raise HogQLError("Table function 'numbers' requires at least 1 argument")
        if len(arguments) > 2:
            raise HogQLError("Table function 'numbers' requires at most 2 arguments")
        counts = [_int_constant(argument) for argument in arguments]
        if any(count is None or count < 0 for count in counts):
            raise HogQLError("Table function 'numbers' takes whole numbers only")
        text = f"numbers({', '.join(map(str, counts))})"
        number = Printed(f"{alias}.number", "number", "integer", nullable=False, name="number")
        return text, text, _Source(alias, columns={"number": number})

    def _information_schema(self, table: schema.Table) -> str:
        """A table without storage: its rows, written into the query."""
        types = {"string": "Nullable(String)", "integer": "Nullable(Int64)"}
        structure = ", ".join(f"{name} {types[column.type]}" for name, column in table.columns.items())
        rows = schema.information_schema_rows(table.name.rsplit(".", 1)[1], self._catalog)
        printed = (f"({', '.join(_hogql_constant(value) for value in row)})" for row in rows)
        return f"(SELECT * FROM values({schema.quote_literal(structure)}, {', '.join(printed)}))"

    def _from(self, joins: list[tuple[Node, str, str, _Source]]) -> tuple[str, str]:
        constraints = []
        with self._state(in_join=True):
            for node, *_ in joins:
                constraints.append(self._constraint(node.get("constraint")))
        sql, hogql = [], []
        for (node, table, text, source), (on_sql, on_hogql) in zip(joins, constraints, strict=True):
            word = f"{node.get('join_type') or 'JOIN'} " if sql else "FROM "
            sql.append(f"{word}{table} AS {source.alias}{on_sql}")
            sql.extend(self._link_joins(source))
            hogql.append(f"{word}{text}{on_hogql}")
        return " ".join(sql), " ".join(hogql)

    def _constraint(self, node: Node | None) -> tuple[str, str]:
        if not node:
            return "", ""
        if node["constraint_type"] == "USING":
            names = node["expr"].get("exprs") or [node["expr"]]
            if any(name["node"] != "Field" or len(name["chain"]) != 1 for name in names):
                raise _error_at(node, "USING takes names of columns")
            columns = ", ".join(self._name(name["chain"][0]) for name in names)
            return f" USING ({columns})", f" USING ({columns})"
        printed = self.expression(node["expr"])
        return f" ON {printed.sql}", f" ON {printed.hogql}"

    def _link_joins(self, source: _Source) -> Iterator[str]:
        """One LEFT JOIN for each link that the query used, and for the links of these."""
        for link, target in source.links.values():
            assert target.table is not None
            assert source.table is not None
            left = source.table.columns[link.source]
            condition = (
                f"{source.alias}.{self._name(left.physical or left.name)} = "
                f"{target.alias}.{self._name(target.table.columns[link.target].name)}"
            )
            if link.fixed:
                condition += f" AND {target.alias}.{self._name(link.fixed[0])} = {link.fixed[1]}"
            yield f"LEFT JOIN {schema.DATABASE}.{self._name(target.table.physical)} AS {target.alias} ON {condition}"
            yield from self._link_joins(target)

    def _array_join(self, node: Node) -> tuple[str, str]:
        if not node.get("array_join_op"):
            return "", ""
        if node["array_join_op"] not in _ARRAY_JOINS:
            raise _error_at(node, f"{node['array_join_op']} is not supported")
        arrays = self._all(node["array_join_list"])
        for array in arrays:
            # Outside, the name means one element and not the array.
            self._scope.aliases[array.alias] = Printed(self._name(array.alias), schema.hogql_name(array.alias))
        word = node["array_join_op"]
        return f"{word} {', '.join(a.sql for a in arrays)}", f"{word} {', '.join(a.hogql for a in arrays)}"

    # --------------------------------------------------------------------------------------------------------- fields

    def _field(self, node: Node) -> Printed:
        chain: list[Any] = node["chain"]
        try:
            return self._chain(chain, _chain_text(chain))
        except _UnknownName as error:
            near = _nearest(error.name, error.known)
            error.fix = _chain_text([near if part == error.name else part for part in chain]) if near else None
            raise

    def _chain(self, chain: list[Any], text: str) -> Printed:
        head, rest = str(chain[0]), chain[1:]
        scope = self._scope
        if head in self._lambda_arguments:
            return self._descend(Printed(self._name(head), head), rest, text)
        if rest and head in scope.sources:
            return self._member(scope.sources[head], rest, text)
        if head in scope.aliases:
            return self._descend(scope.aliases[head], rest, text)
        holders = [source for source in scope.all_sources() if source.has(head)]
        if len(holders) > 1:
            raise HogQLError(f"Ambiguous query. Found multiple sources for field: {head}")
        if holders:
            return self._member(holders[0], chain, text)
        cte = scope.ctes.get(head)
        if cte is not None and cte.expression is not None:
            printed = self.expression(cte.expression)
            return self._descend(replace(printed, hogql=schema.hogql_name(head), name=head, alias=""), rest, text)
        names = [*scope.aliases, *scope.sources]
        for source in scope.all_sources():
            names.extend(source.names())
        raise _UnknownName("Unable to resolve field", head, names)

    def _member(self, source: _Source, parts: list[Any], text: str) -> Printed:
        """A column of a source, through its links, down into JSON."""
        name, rest = str(parts[0]), parts[1:]
        if source.table is None:
            if name not in source.columns:
                raise _UnknownName("Unable to resolve field", name, source.columns)
            return self._descend(source.columns[name], rest, text)
        column = source.table.columns.get(name)
        if column is not None:
            return self._descend(self._column(source, column, source.table.owner), rest, text)
        link = source.table.links.get(name)
        if link is None:
            raise _UnknownName("Field not found", name, source.names())
        if not rest:
            raise HogQLError(f"Can't select a table when a column is expected: {text}")
        if link.table is not None:
            return self._member(self._linked(source, name, link), rest, text)
        column = link.column(str(rest[0]))
        if column is None:
            raise _UnknownName("Field not found", str(rest[0]), [c.name for c in link.columns])
        return self._descend(self._column(source, column, "person"), rest[1:], text)

    def _linked(self, source: _Source, name: str, link: schema.Link) -> _Source:
        # The project's name of a group type leads to the same rows as group_0.
        for known, target in source.links.values():
            if known is link:
                return target
        assert link.table is not None
        group = link.fixed[1] if link.fixed else None
        target = _Source(self._new_alias(), schema.find_table(link.table, self._catalog), group=group)
        source.links[name] = (link, target)
        self._tables.add(link.table)
        return target

    def _column(self, source: _Source, column: schema.Column, owner: str) -> Printed:
        sql = f"{source.alias}.{self._name(column.physical or column.name)}"
        if column.type == "json":
            is_events = source.table is not None and source.table.name == "events" and column.name == "properties"
            materialized = source.alias if is_events and not column.physical else ""
            return Printed(
                sql, "", "json", nullable=False, name=column.name, json=_Json(sql, (), owner, source.group, materialized)
            )
        if column.type == "datetime":
            if self._catalog.timezone != "UTC":
                sql = f"toTimeZone({sql}, {schema.quote_literal(self._catalog.timezone)})"
            is_time = source.table is not None and source.table.name == "events" and column.name == "timestamp"
            return Printed(sql, "", "datetime", nullable=False, name=column.name, on_time=is_time)
        return Printed(sql, "", column.type, nullable=column.nullable, name=column.name)

    def _descend(self, printed: Printed, parts: list[Any], text: str) -> Printed:
        """Follow the rest of a chain into JSON."""
        for part in parts:
            printed = self._property(printed, part)
        return replace(printed, hogql=text, alias="")

    def _property(self, printed: Printed, part: Any) -> Printed:
        if printed.json is None:
            raise HogQLError(f'Can not access property "{part}" on field "{printed.column_name}".')
        if part == 0 and not isinstance(part, str):
            raise HogQLError("SQL indexes start from one, not from zero. E.g: array[1]")
        json = replace(printed.json, path=(*printed.json.path, part))
        sql = schema.property_sql(json.column, json.path)
        if json.materialized and len(json.path) == 1 and part in schema.MATERIALIZED_EVENT_PROPERTIES:
            sql = f"{json.materialized}.{self._name(schema.materialized_name(part))}"
        kind = "string"
        if len(json.path) == 1 and isinstance(part, str) and json.owner and not self._raw_properties:
            sql, kind = self._typed(sql, self._catalog.property_type(json.owner, part, json.group))
        return Printed(sql, "", kind, name="__".join(map(str, json.path)), json=json)

    def _typed(self, sql: str, property_type: str | None) -> tuple[str, str]:
        """A property cast to the type of its definition, as PostHog casts it."""
        if property_type == "Numeric":
            return f"accurateCastOrNull({sql}, 'Float64')", "float"
        if property_type == "Boolean":
            return f"toBool(transform(toString({sql}), ['true', 'false'], [1, 0], NULL))", "boolean"
        if property_type == "DateTime":
            zone = schema.quote_literal(self._catalog.timezone)
            return f"parseDateTime64BestEffortOrNull({sql}, 6, {zone})", "datetime"
        return sql, "string"

    # ---------------------------------------------------------------------------------------------------- expressions

    def _alias(self, node: Node) -> Printed:
        name = node["alias"]
        if not name:
            raise HogQLError("Alias cannot be empty")
        if name.lower() in _RESERVED:
            raise HogQLError(f"\"{name}\" cannot be an alias or identifier, as it's a reserved keyword")
        if name in self._scope.aliases:
            raise HogQLError(f"Cannot redefine an alias with the name: {name}")
        printed = self.expression(node["expr"])
        quoted, text = self._name(name), schema.hogql_name(name)
        inner_sql = f"({printed.sql})" if printed.alias else printed.sql
        self._scope.aliases[name] = replace(printed, sql=quoted, hogql=text, name=name, alias="")
        return replace(printed, sql=f"({inner_sql} AS {quoted})", hogql=f"{printed.hogql} AS {text}", alias=name)

    def _constant(self, node: Node) -> Printed:
        value = node.get("value")
        if node.get("value_type") == "number" and isinstance(value, str):
            value = float(value.replace("Infinity", "inf"))
        text = _hogql_constant(value)
        return Printed(
            text, text, _CONSTANT_TYPES.get(type(value), "unknown"), nullable=value is None, constant=value
        )

    def _arithmetic(self, node: Node) -> Printed:
        return self._call({"name": _ARITHMETIC[node["op"]], "args": [node["left"], node["right"]]})

    def _logical(self, name: str, nodes: list[Node]) -> Printed:
        printed = self._all(nodes)
        if len(printed) == 1 and name != "not":
            return printed[0]
        return Printed(
            f"{name}({', '.join(p.sql for p in printed)})",
            f"{name}({', '.join(p.hogql for p in printed)})",
            "boolean",
            nullable=any(p.nullable for p in printed),
        )

    def _compare_node(self, node: Node) -> Printed:
        return self._compare(node["op"], node["left"], node["right"])

    def _compare(self, op: str, left_node: Node, right_node: Node) -> Printed:
        if op in ("in cohort", "not in cohort"):
            return self._in_cohort(left_node, right_node, negated=op.startswith("not"))
        left, right = self.expression(left_node), self.expression(right_node)
        if op in _IN:
            return Printed(
                f"{_IN[op]}({left.sql}, {right.sql})",
                f"{_IN[op]}({left.hogql}, {right.hogql})",
                "boolean",
                nullable=False,
            )
        comparison = _COMPARISONS.get(op)
        if comparison is None:
            raise HogQLError(f"The operator {op} is not supported")
        self._notice_event(op, left, right, right_node)
        hogql = comparison.function.format(left.hogql, right.hogql)
        if left.is_constant and right.is_constant:
            outcome = _compare_constants(comparison, left.constant, right.constant)
            if outcome is not None:
                return Printed(str(int(outcome)), hogql, "boolean", nullable=False)
        is_plain = self._in_join or left.on_time or right.on_time or not (left.nullable or right.nullable)
        sql = comparison.function.format(left.sql, right.sql)
        if not is_plain:
            sql = _with_null_rules(comparison, left, right)
        return Printed(sql, hogql, "boolean", nullable=is_plain and (left.nullable or right.nullable))

    def _notice_event(self, op: str, left: Printed, right: Printed, node: Node) -> None:
        """Note an event name that the project does not know."""
        names = self._catalog.event_names
        if op != "==" or left.name != "event" or not isinstance(right.constant, str) or not names:
            return
        if right.constant not in names:
            near = _nearest(right.constant, names)
            self._warnings.append(
                {
                    "message": f"Event {right.constant!r} is not known in this project.",
                    "start": offset(node.get("start")),
                    "end": offset(node.get("end")),
                    "fix": schema.quote_literal(near) if near else None,
                }
            )

    def _between(self, node: Node) -> Printed:
        value, low, high = self._all([node["expr"], node["low"], node["high"]])
        word = "NOT BETWEEN" if node.get("negated") else "BETWEEN"
        sql = f"({value.sql}) {word} ({low.sql}) AND ({high.sql})"
        nullable = value.nullable or low.nullable or high.nullable
        return Printed(
            f"ifNull({sql}, 0)" if nullable else f"({sql})",
            f"{value.hogql} {word} {low.hogql} AND {high.hogql}",
            "boolean",
            nullable=False,
        )

    def _distinct_from(self, node: Node) -> Printed:
        left, right = self.expression(node["left"]), self.expression(node["right"])
        same = f"ifNull(equals({left.sql}, {right.sql}), isNull({left.sql}) and isNull({right.sql}))"
        word = "IS NOT DISTINCT FROM" if node.get("negated") else "IS DISTINCT FROM"
        sql = same if node.get("negated") else f"not({same})"
        return Printed(sql, f"{left.hogql} {word} {right.hogql}", "boolean", nullable=False)

    def _in_cohort(self, left_node: Node, right_node: Node, *, negated: bool) -> Printed:
        left = self.expression(left_node)
        wanted = right_node.get("value")
        if right_node["node"] != "Constant" or type(wanted) not in (int, str):
            raise HogQLError("IN COHORT only works with constant arguments")
        found = [c for c in self._catalog.cohorts if wanted in (c.id, c.name)]
        if not found:
            label = f"name '{wanted}'" if isinstance(wanted, str) else f"ID {wanted}"
            raise HogQLError(f"Could not find a cohort with the {label}")
        cohort = found[0]
        if cohort.id in self._cohorts:
            raise HogQLError(f"Cohort {cohort.id} refers to itself")
        text = _hogql_constant(wanted)
        return Printed(
            f"{'notIn' if negated else 'in'}({left.sql}, ({self._cohort_members(cohort)}))",
            f"{left.hogql} {'NOT IN' if negated else 'IN'} COHORT {text}",
            "boolean",
            nullable=False,
        )

    def _cohort_members(self, cohort: schema.Cohort) -> str:
        """The sub-query of a cohort's persons."""
        if cohort.condition is None:
            alias = self._new_alias()
            return (
                f"SELECT {alias}.person_id FROM {schema.DATABASE}.cohort_people_newest AS {alias} "
                f"WHERE {alias}.cohort_id = {cohort.id:d}"
            )
        persons = {"node": "JoinExpr", "table": {"node": "Field", "chain": ["persons"]}}
        select = {"node": "SelectQuery", "select": [{"node": "Field", "chain": ["id"]}], "select_from": persons}
        try:
            condition = parser.parse_expression(cohort.condition)
            check(condition, is_api_query=True)
            with self._state(cohorts=[*self._cohorts, cohort.id]):
                return self._select({**select, "where": condition}, {}).sql
        except HogQLError as error:
            # A position in the cohort's condition is none in the query.
            raise HogQLError(f"Cohort '{cohort.name}': {error.message}") from error

    def _array_access(self, node: Node) -> Printed:
        array, index = self.expression(node["array"]), self.expression(node["property"])
        text = f"{array.hogql}{'?.' if node.get('nullish') else ''}[{index.hogql}]"
        if array.json is not None:
            if not isinstance(index.constant, str | int):
                raise HogQLError("Properties can only be accessed by a constant name or index")
            return self._json_access(array, index.constant)
        if index.constant == 0 and index.is_constant:
            raise HogQLError("SQL indexes start from one, not from zero. E.g: array[1]")
        return Printed(f"({array.sql})[{index.sql}]", text)

    def _json_access(self, json: Printed, part: str | int) -> Printed:
        """``properties['key']``: the same as ``properties.key``, but PostHog names the column by the whole chain."""
        text = f"{json.hogql}.{schema.hogql_name(part) if isinstance(part, str) else part}"
        return replace(self._property(json, part), hogql=text, name="")

    def _array_slice(self, node: Node) -> Printed:
        array = self.expression(node["array"])
        start = self.expression(node["start_expr"] or {"node": "Constant", "value": 1})
        text = f"{array.hogql}[{start.hogql}:"
        if not node.get("end_expr"):
            return Printed(f"arraySlice({array.sql}, {start.sql})", text + "]", "array")
        end = self.expression(node["end_expr"])
        length = f"plus(minus({end.sql}, {start.sql}), 1)"
        return Printed(f"arraySlice({array.sql}, {start.sql}, {length})", f"{text}{end.hogql}]", "array")

    def _tuple_access(self, node: Node) -> Printed:
        value, index = self.expression(node["tuple"]), int(node["index"])
        if index == 0:
            raise HogQLError("SQL indexes start from one, not from zero. E.g: array.1")
        text = f"{value.hogql}{'?.' if node.get('nullish') else '.'}{index}"
        if value.json is not None:
            return self._json_access(value, index)
        return Printed(f"tupleElement({value.sql}, {index})", text)

    def _array(self, node: Node) -> Printed:
        items = self._all(node.get("exprs"))
        return Printed(
            f"[{', '.join(i.sql for i in items)}]", f"[{', '.join(i.hogql for i in items)}]", "array", nullable=False
        )

    def _tuple(self, node: Node) -> Printed:
        return _tuple_of(self._all(node.get("exprs")))

    def _dict(self, node: Node) -> Printed:
        parts = [self._text("__hx_tag"), self._text("__hx_obj")]
        for key, value in node.get("items") or ():
            parts.extend((self.expression(key), self.expression(value)))
        return _tuple_of(parts)

    def _tag(self, node: Node) -> Printed:
        kind = node["kind"]
        if kind not in _TAGS:
            raise HogQLError(f"Unknown tag <{kind}>", fix=_nearest(kind, _TAGS))
        parts = [self._text("__hx_tag"), self._text(kind)]
        for attribute in node.get("attributes") or ():
            value = attribute["value"]
            printed = _tuple_of(self._all(value)) if isinstance(value, list) else self.expression(value)
            parts.extend((self._text(attribute["name"]), printed))
        return _tuple_of(parts)

    def _text(self, value: str) -> Printed:
        return self._constant({"value": value})

    def _lambda(self, node: Node) -> Printed:
        arguments = [str(name) for name in node["args"]]
        names = ", ".join(self._name(name) for name in arguments)
        with self._state(lambda_arguments=[*self._lambda_arguments, *arguments]):
            body = self.expression(node["expr"])
        texts = ", ".join(schema.hogql_name(name) for name in arguments)
        brackets = "({})" if len(arguments) > 1 else "{}"
        return Printed(f"({names}) -> {body.sql}", f"{brackets.format(texts)} -> {body.hogql}")

    def _scalar(self, node: Node) -> Printed:
        select = self._any_select(node, self._scope.ctes)
        kind = select.columns[0].type if len(select.columns) == 1 else "unknown"
        return Printed(f"({select.sql})", f"({select.hogql})", kind)

    def _cast(self, node: Node) -> Printed:
        name = _CASTS.get(str(node["type_name"]).lower())
        if name is None:
            raise HogQLError(f"Unsupported type for a cast: {node['type_name']}", fix=_nearest(node["type_name"], _CASTS))
        printed = self._call({"name": name, "args": [node["expr"]]})
        inner = printed.hogql[len(name) + 1 : -1]
        return replace(printed, hogql=f"CAST({inner} AS {node['type_name']})")

    # ---------------------------------------------------------------------------------------------------------- calls

    def _call(self, node: Node) -> Printed:
        name, nodes = node["name"], node.get("args") or []
        if name in ("and", "or", "not") or name.lower() == "not":
            _expect(name, "Function", "argument", len(nodes), *((1, 1) if name.lower() == "not" else (2, None)))
            return self._logical(name.lower(), nodes)
        if name in functions.COMPARISONS:
            if len(nodes) != 2:
                raise HogQLError(f"Comparison '{name}' requires exactly two arguments")
            return self._compare(functions.COMPARISONS[name], nodes[0], nodes[1])
        if name == "_caseWithExpression":
            parts = self._all(nodes)
            return Printed(
                f"caseWithExpression({', '.join(p.sql for p in parts)})",
                f"caseWithExpression({', '.join(p.hogql for p in parts)})",
            )
        function = _find_function(name, node)
        params = node.get("params")
        is_star = function.name == "count" and len(nodes) == 1 and nodes[0].get("chain") == ["*"]
        nodes = [] if is_star else nodes
        _check_arity(function, name, len(nodes), params)
        if function.aggregate:
            return self._aggregate(function, node, nodes, is_star=is_star)
        if params or node.get("distinct") or node.get("filter_expr"):
            raise HogQLError(f"Function '{name}' takes neither parameters nor DISTINCT nor FILTER")
        with self._state(raw_properties=function.name in functions.RAW_STRING_ARGUMENT):
            arguments = self._all(nodes)
        return self._scalar_call(function, name, arguments)

    def _aggregate(self, function: functions.Function, node: Node, nodes: list[Node], *, is_star: bool) -> Printed:
        name = node["name"]
        if self._aggregation:
            raise HogQLError(
                f"Aggregation '{name}' cannot be nested inside another aggregation '{self._aggregation}'."
            )
        with self._state(aggregation=name, raw_properties=False):
            arguments, params = self._all(nodes), self._all(node.get("params"))
            condition = self.expression(node["filter_expr"]) if node.get("filter_expr") else None
        distinct = "DISTINCT " if node.get("distinct") else ""
        if "{" in function.sql:
            if distinct or condition:
                raise HogQLError(f"Aggregation '{name}' takes neither DISTINCT nor FILTER")
            sql = function.sql.format(*(a.sql for a in arguments))
        else:
            brackets = f"({', '.join(p.sql for p in params)})" if params else ""
            sql = f"{function.sql}{brackets}({distinct}{', '.join(a.sql for a in arguments)})"
            sql += f" FILTER (WHERE {condition.sql})" if condition else ""
        shown = "*" if is_star else ", ".join(a.hogql for a in arguments)
        hogql = f"{name}{f'({_hogql_list(params)})' if params else ''}({distinct}{shown})"
        hogql += f" FILTER (WHERE {condition.hogql})" if condition else ""
        kind, nullable = _result(function, arguments)
        return Printed(sql, hogql, kind, nullable)

    def _scalar_call(self, function: functions.Function, name: str, arguments: list[Printed]) -> Printed:
        hogql = f"{name}({_hogql_list(arguments)})"
        sql_name, texts = function.sql, [a.sql for a in arguments]
        kind, nullable = _result(function, arguments)
        if function.name == "arrayReduce":
            _check_array_reduce(name, arguments[0])
        elif function.name == "concat":
            texts = [_concat_part(a) for a in arguments]
        elif function.name == "toDecimal":
            texts = [texts[0], schema.quote_literal(f"Decimal64({_scale(arguments[1])})")]
        elif sql_name == "toDateOrNull" and arguments[0].type != "string":
            sql_name, nullable = "toDate", arguments[0].nullable
        elif function.name == "toStartOfWeek" and len(texts) == 1:
            texts.append("3" if self._catalog.week_start == 1 else "0")
        elif function.name in functions.TIMEZONE_AWARE:
            sql_name, texts = self._in_timezone(function, arguments)
        elif sql_name in ("trim", "trimLeft", "trimRight") and len(texts) == 2:
            side = {"trim": "BOTH", "trimLeft": "LEADING", "trimRight": "TRAILING"}[sql_name]
            return Printed(f"trim({side} {texts[1]} FROM {texts[0]})", hogql, kind, nullable)
        if "{" in sql_name:
            return Printed(f"({sql_name.format(*texts)})", hogql, kind, nullable)
        on_time = any(a.on_time for a in arguments)
        return Printed(f"{sql_name}({', '.join(texts)})", hogql, kind, nullable, on_time=on_time)

    def _in_timezone(self, function: functions.Function, arguments: list[Printed]) -> tuple[str, list[str]]:
        """A function of times, with the project's zone as its last argument unless the caller gave one."""
        name, texts = function.sql, [a.sql for a in arguments]
        if len(texts) != function.max_args:
            texts.append(schema.quote_literal(self._catalog.timezone))
        if function.name == "toDateTime":
            name = _to_datetime(arguments)
        takes_precision = name in _PRECISION or name.startswith("parseDateTime64")
        if takes_precision and len(texts) == (1 if name == "now64" else 2):
            texts.insert(len(texts) - 1, "6")
        return name, texts

    # ------------------------------------------------------------------------------------------------ window functions

    def _window_function(self, node: Node) -> Printed:
        name = node["name"]
        # With f(a)(b) OVER ..., the parser gives the first brackets as `exprs` and the second as `args`.
        params, nodes = (node.get("exprs"), node["args"]) if node.get("args") else ([], node.get("exprs") or [])
        function = _find_function(name, node)
        if function.name == "count" and len(nodes) == 1 and nodes[0].get("chain") == ["*"]:
            nodes = []
        _check_arity(function, name, len(nodes), params)
        if not function.aggregate and function.name not in functions.WINDOW_ONLY or "{" in function.sql:
            raise HogQLError(f"Function '{name}' cannot be used as a window function")
        with self._state(aggregation=""):
            arguments, printed_params = self._all(nodes), self._all(params)
            over_sql, over_hogql = self._over(node, full_frame=name in ("lag", "lead"))
        texts = [a.sql for a in arguments]
        if name in ("lag", "lead"):
            texts[0] = f"toNullable({texts[0]})"
        brackets = f"({', '.join(p.sql for p in printed_params)})" if printed_params else ""
        shown = f"({_hogql_list(printed_params)})" if printed_params else ""
        kind, nullable = _result(function, arguments)
        return Printed(
            f"{function.sql}{brackets}({', '.join(texts)}) OVER {over_sql}",
            f"{name}{shown}({_hogql_list(arguments)}) OVER {over_hogql}",
            kind,
            nullable,
        )

    def _over(self, node: Node, *, full_frame: bool) -> tuple[str, str]:
        name = node.get("over_identifier")
        if name:
            if name not in self._scope.windows:
                raise HogQLError(f"Unable to resolve window: {name}", fix=_nearest(name, self._scope.windows))
            return self._name(name), schema.hogql_name(name)
        sql, hogql = self._window(node.get("over_expr") or {}, full_frame=full_frame)
        return f"({sql})", f"({hogql})"

    def _window(self, node: Node, *, full_frame: bool = False) -> tuple[str, str]:
        sql, hogql = [], []
        if node.get("partition_by"):
            parts = self._all(node["partition_by"])
            sql.append(f"PARTITION BY {', '.join(p.sql for p in parts)}")
            hogql.append(f"PARTITION BY {_hogql_list(parts)}")
        for order_sql, order_hogql in self._ordering(node.get("order_by")):
            sql.append(order_sql)
            hogql.append(order_hogql)
        frame = _frame(node)
        if frame:
            sql.append(frame)
            hogql.append(frame)
        elif full_frame:
            sql.append("ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING")
        return " ".join(sql), " ".join(hogql)

    def _windows(self, nodes: Mapping[str, Node]) -> list[tuple[str, str]]:
        if not nodes:
            return []
        printed = {name: self._window(node) for name, node in nodes.items()}
        return [
            (
                "WINDOW " + ", ".join(f"{self._name(name)} AS ({sql})" for name, (sql, _) in printed.items()),
                "WINDOW " + ", ".join(f"{schema.hogql_name(n)} AS ({hogql})" for n, (_, hogql) in printed.items()),
            )
        ]


# ------------------------------------------------------------------------------------------------------------- helpers


def _prefixes() -> Iterator[str]:
    """Beginnings for engine aliases; one that is not in the text can meet no name of the user's."""
    yield "t__"
    number = 0
    while True:
        number += 1
        yield f"t{number}__"


class _UnknownName(HogQLError):
    """A part of a chain is no name that could stand there."""

    def __init__(self, what: str, name: str, known: Iterable[str]) -> None:
        super().__init__(f"{what}: {name}")
        self.name = name
        self.known = known


def _chain_text(chain: Iterable[Any]) -> str:
    return ".".join(str(part) if isinstance(part, int) else schema.hogql_name(part) for part in chain)


def _nearest(name: str, names: Iterable[str]) -> str | None:
    matches = difflib.get_close_matches(name, list(names), 1)
    return matches[0] if matches else None


def _with_text(nodes: list[Node] | None, ctes: Mapping[str, _Cte]) -> str:
    """WITH as HogQL; of a named expression, what is known of it is its name."""
    selects = ((node["name"], ctes[node["name"]].select) for node in nodes or ())
    parts = [f"{schema.hogql_name(name)} AS ({select.hogql})" for name, select in selects if select]
    return f"WITH {', '.join(parts)} " if parts else ""


def _int_constant(node: Node | None) -> int | None:
    value = node.get("value") if node and node["node"] == "Constant" else None
    return value if type(value) is int else None


def _top_limit(node: Node | None, default: int) -> Node:
    """The LIMIT of an outermost SELECT: never above `MAX_LIMIT`."""
    if node is None:
        return {"node": "Constant", "value": default}
    value = _int_constant(node)
    if value is not None:
        return {**node, "value": min(value, MAX_LIMIT)}
    return {"node": "Call", "name": "min2", "args": [{"node": "Constant", "value": MAX_LIMIT}, node]}


def _by_name(select: _Select, alias: str, quote: Callable[[str], str]) -> dict[str, Printed]:
    """The columns of a sub-query as the query around it sees them."""
    columns = {}
    for column in select.columns:
        name = column.column_name
        if "%" not in name:
            sql = f"{alias}.{quote(name)}"
            json = _Json(sql) if column.type == "json" else None
            columns[name] = Printed(sql, "", column.type, column.nullable, name=name, json=json)
    return columns


def _tuple_of(parts: list[Printed]) -> Printed:
    return Printed(f"tuple({', '.join(p.sql for p in parts)})", f"tuple({_hogql_list(parts)})", "tuple", nullable=False)


def _hogql_list(parts: Iterable[Printed]) -> str:
    return ", ".join(part.hogql for part in parts)


def _find_function(name: str, node: Node) -> functions.Function:
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


def _check_arity(function: functions.Function, name: str, count: int, params: list[Node] | None) -> None:
    term = "Aggregation" if function.aggregate else "Function"
    _expect(name, term, "argument", count, function.min_args, function.max_args)
    if function.params[0] and params is None:
        raise HogQLError(f"{term} '{name}' requires parameters in addition to arguments")
    if params:
        _expect(name, term, "parameter", len(params), *function.params)


def _expect(name: str, term: str, what: str, found: int, low: int, high: int | None) -> None:
    if found >= low and (high is None or found <= high):
        return
    wanted, number = ("", low) if low == high else ("at least ", low) if found < low else ("at most ", high or 0)
    raise HogQLError(f"{term} '{name}' expects {wanted}{number} {what}{'s' if number != 1 else ''}, found {found}")


def _result(function: functions.Function, arguments: list[Printed]) -> tuple[str, bool]:
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
    for time in ("datetime", "date"):
        if time in kinds and kinds <= {time, "interval", "integer"}:
            return time
    if name == "minus" and kinds <= {"date", "datetime"}:
        return "integer"
    return "unknown"


_PRECISION = frozenset({"now64", "toDateTime64"})
_EXACT = re.compile(r"\d{4}-\d{2}-\d{2}( \d{2}:\d{2}:\d{2}(\.\d{1,6})?)?")


def _to_datetime(arguments: list[Printed]) -> str:
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


def _concat_part(part: Printed) -> str:
    """An argument of ``concat``, for which NULL is the empty text."""
    if part.is_constant:
        if part.constant is None:
            return "''"
        return part.sql if isinstance(part.constant, str) else f"toString({part.sql})"
    return f"ifNull(toString({part.sql}), '')"


def _check_array_reduce(name: str, first: Printed) -> None:
    if not isinstance(first.constant, str):
        raise HogQLError(f"Expected constant string as first arg in function '{name}'")
    if first.constant not in functions.PARAMETRIC_FIRST_ARGUMENT:
        raise HogQLError(f"Invalid parametric function in '{name}', '{first.constant}' is not supported.")


def _scale(part: Printed) -> int:
    if type(part.constant) is not int:
        raise HogQLError("The scale of toDecimal must be a constant whole number")
    return int(part.constant)


def _frame(node: Node) -> str:
    method = node.get("frame_method")
    if not method:
        return ""
    if method not in ("ROWS", "RANGE"):
        raise HogQLError(f"Window frame {method} is not supported")
    start, end = _frame_bound(node["frame_start"]), node.get("frame_end")
    return f"{method} BETWEEN {start} AND {_frame_bound(end)}" if end else f"{method} {start}"


def _frame_bound(node: Node) -> str:
    kind, value = node["frame_type"], node.get("frame_value")
    if kind not in _FRAME_TYPES:
        raise HogQLError(f"Window frame {kind} is not supported")
    if kind == "CURRENT ROW":
        return kind
    if isinstance(value, dict):
        value = _int_constant(value)
    return f"{'UNBOUNDED' if value is None else int(value)} {kind}"
