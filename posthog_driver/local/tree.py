"""What a HogQL tree may look like: the allow-list of its nodes, and what is read off it.

`check` is the wall between a query and the engine. A node, or a part of a node, that is not listed here is refused,
so a construct that a newer parser learns stays out until somebody writes it down.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from . import schema
from .parser import HogQLError, Node, offset

DEFAULT_LIMIT = 100
"""Rows of a SELECT without LIMIT (PostHog's ``DEFAULT_RETURNED_ROWS``)."""
MAX_LIMIT = 50_000
"""Greatest LIMIT of the outermost SELECT (PostHog's ``MAX_SELECT_RETURNED_ROWS``)."""

OFFSET_REFUSED = (
    "OFFSET is not supported on queries made with a personal API key. "
    "For pagination, use keyset pagination on the `timestamp` column, e.g. "
    "`WHERE timestamp > :last_seen_timestamp ORDER BY timestamp LIMIT N`. "
    "For bulk data extraction, use batch exports: https://posthog.com/docs/cdp/batch-exports"
)

_NODES: Mapping[str, frozenset[str]] = {
    name: frozenset(keys.split())
    for name, keys in {
        "SelectQuery": "ctes select distinct select_from array_join_op array_join_list window_exprs where prewhere "
        "having group_by group_by_mode qualify order_by interpolate limit limit_by limit_percent limit_with_ties "
        "offset",
        "SelectSetQuery": "initial_select_query subsequent_select_queries limit limit_percent offset",
        "SelectSetNode": "select_query set_operator",
        "CTE": "name expr cte_type columns materialized",
        "JoinExpr": "join_type table table_args alias column_aliases constraint next_join sample",
        "SampleExpr": "sample_value offset_value",
        "RatioExpr": "left right",
        "JoinConstraint": "expr constraint_type",
        "OrderExpr": "expr order nulls with_fill",
        "WithFillExpr": "from_value to_value step_value",
        "InterpolateExpr": "expr value",
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
        "Call": "name args params distinct filter_expr order_by",
        "WindowFunction": "name exprs args over_expr over_identifier",
        "TypeCast": "expr type_name",
        "ColumnsExpr": "all_columns exclude replace columns regex table",
        "SpreadExpr": "expr",
        "HogQLXTag": "kind attributes",
        "HogQLXAttribute": "name value",
    }.items()
}
"""The nodes a query may have, and the parts each may have; ``start`` and ``end`` are positions."""

_COMMON_KEYS = frozenset({"node", "start", "end"})
_MESSAGES = {
    # PostHog's words for what its parser reads and its ClickHouse printer refuses (posthog/hogql/{resolver,printer}).
    "PivotExpr": "PIVOT is not allowed in clickhouse dialect",
    "UnpivotExpr": "UNPIVOT is not allowed in clickhouse dialect",
    "TryCast": "TRY_CAST is not allowed in clickhouse dialect",
    "PositionalRef": "Positional references are not allowed in clickhouse dialect",
    "ValuesQuery": "VALUES clause is not supported in ClickHouse dialect",
    "Block": "You can not use blocks in HogQL",
    "ExprCall": "You can only call simple functions in HogQL, not expressions",
    "recursive": "Recursive CTEs are only supported in PostgreSQL dialect",
    "table_final": "The FINAL keyword is not supported in HogQL as it causes slow queries",
    "within_group": "WITHIN GROUP is not supported in ClickHouse dialect",
    "NamedArgument": "Named arguments are not supported",
    "using_key": "USING KEY is not supported",
}


def walk(tree: Node) -> Iterator[Node]:
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


def error_at(node: Node, message: str) -> HogQLError:
    """An error at the place of a node."""
    return HogQLError(message, offset(node.get("start")), offset(node.get("end")))


def check(tree: Node, *, is_api_query: bool) -> None:
    """Refuse every node and every part of a node that is not listed.

    Args:
        tree: The parsed query, without placeholders.
        is_api_query: Whether OFFSET is refused.

    Raises:
        HogQLError: Something is not listed.
    """
    for node in walk(tree):
        kind = node["node"]
        allowed = _NODES.get(kind)
        if allowed is None:
            raise error_at(node, _MESSAGES.get(kind, f"{kind} is not supported"))
        for key, value in node.items():
            if key not in allowed and key not in _COMMON_KEYS and value not in (None, False, []):
                raise error_at(node, _MESSAGES.get(key, f"{key.upper().replace('_', ' ')} is not supported"))
        if any(type(part) not in (str, int) for part in node.get("chain") or ()):
            raise error_at(node, "A field is named by texts and whole numbers only")
        for key in ("offset", "offset_value"):
            if is_api_query and kind != "SampleExpr" and node.get(key) is not None:
                raise error_at(node[key], OFFSET_REFUSED)


JOIN_TYPES = frozenset(
    " ".join(words.split())
    for strictness in ("", "ANY", "ALL", "ASOF", "SEMI", "ANTI")
    for kind in ("", "INNER", "LEFT", "RIGHT", "FULL", "LEFT OUTER", "RIGHT OUTER", "FULL OUTER")
    for words in (f"{kind} {strictness} JOIN", f"{strictness} {kind} JOIN")
) | {"CROSS JOIN"}
SET_OPERATORS = frozenset(
    ["UNION ALL", "UNION DISTINCT", "INTERSECT", "INTERSECT DISTINCT", "EXCEPT", "EXCEPT DISTINCT"]
)
ARRAY_JOINS = frozenset(["ARRAY JOIN", "LEFT ARRAY JOIN", "INNER ARRAY JOIN"])
_FRAME_TYPES = frozenset(["CURRENT ROW", "PRECEDING", "FOLLOWING"])
GROUP_MODES = {"rollup": "ROLLUP", "cube": "CUBE", "grouping_sets": "GROUPING SETS"}
RESERVED = frozenset(["true", "false", "null", "team_id"])
_TAG_NAMES = """
a abbr b blockquote br code col colgroup div em h1 h2 h3 h4 h5 h6 hr i img li ol p pre s span strong sub sup table tbody
td tfoot th thead tr u ul Sparkline RecordingButton
"""
TAGS = frozenset(_TAG_NAMES.split())


def table_name(table: Any) -> str:
    """The HogQL name of a table in FROM, empty when it is none."""
    chain: list[Any] = table.get("chain") or [] if isinstance(table, dict) else []
    # A name with a dot in it, such as `system.insights` in backticks, is one name and no path.
    return "" if any("." in str(part) for part in chain) else ".".join(map(str, chain))


def chain_text(chain: Iterable[Any]) -> str:
    """The parts of a field as HogQL."""
    return ".".join(str(part) if isinstance(part, int) else schema.hogql_name(part) for part in chain)


def int_constant(node: Node | None) -> int | None:
    """The value of a node that is a whole number, else None."""
    value = node.get("value") if node and node["node"] == "Constant" else None
    return value if type(value) is int else None


def check_limit(node: Node, word: str) -> None:
    """Refuse a constant that is no number of rows.

    Raises:
        HogQLError: It is negative, or not a whole number.
    """
    value = int_constant(node)
    if node["node"] == "Constant" and value is None:
        raise error_at(node, f"{word} must be a whole number")
    if value is not None and value < 0:
        raise error_at(node, f"{word} must not be negative")


def top_limit(node: Node | None, default: int) -> Node:
    """The LIMIT of an outermost SELECT: never above `MAX_LIMIT`."""
    if node is None:
        return {"node": "Constant", "value": default}
    check_limit(node, "LIMIT")
    value = int_constant(node)
    if value is not None:
        return {**node, "value": min(value, MAX_LIMIT)}
    return {"node": "Call", "name": "min2", "args": [{"node": "Constant", "value": MAX_LIMIT}, node]}


def percent(node: Node) -> float:
    """The number in ``LIMIT n %``.

    Raises:
        HogQLError: It is no constant number from 0 to 100.
    """
    value = node.get("value") if node["node"] == "Constant" else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise error_at(node, "LIMIT percent with expressions is not supported in clickhouse dialect")
    if not 0 <= value <= 100:
        raise error_at(node, "Limit percent must be between 0 and 100")
    return float(value)


def frame(node: Node) -> str:
    """The frame of a window as SQL, empty without one."""
    method = node.get("frame_method")
    if not method:
        return ""
    if method not in ("ROWS", "RANGE"):
        raise HogQLError(f"Window frame {method} is not supported")
    start, end = _frame_bound(node["frame_start"]), node.get("frame_end")
    return f"{method} BETWEEN {start} AND {_frame_bound(end)}" if end else f"{method} {start}"


def _frame_bound(node: Node) -> str:
    kind, value = str(node["frame_type"]), node.get("frame_value")
    if kind not in _FRAME_TYPES:
        raise HogQLError(f"Window frame {kind} is not supported")
    if kind == "CURRENT ROW":
        return kind
    if isinstance(value, dict):
        number = int_constant(value)
        if number is None:
            raise error_at(value, "Bounds of a window frame must be whole numbers")
        value = number
    return f"{'UNBOUNDED' if value is None else int(value)} {kind}"
