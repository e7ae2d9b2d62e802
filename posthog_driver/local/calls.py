"""Calls of functions and aggregations: what may be called, with what, and how it is printed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from zoneinfo import ZoneInfo

from . import channel_types, conditions, functions, macros, schema
from .actions import action_condition
from .conditions import Names
from .context import Context
from .parser import HogQLError, Node, offset
from .placeholders import filled
from .printed import Printed, Scope, concat_part, hogql_list
from .signatures import PRECISION, result, to_datetime
from .tree import check

_TRIM_SIDES = {"trim": "BOTH", "trimLeft": "LEADING", "trimRight": "TRAILING"}


class Calls:
    """Prints the calls of one translation.

    Args:
        context: Its state.
        logical: Prints ``and``, ``or`` and ``not``.
        compare: Prints a comparison by its operator.
        spread: The columns of ``COLUMNS(...)`` behind a ``*``.
    """

    def __init__(
        self,
        context: Context,
        logical: Callable[[str, list[Node]], Printed],
        compare: Callable[[str, Node, Node], Printed],
        spread: Callable[[Node], list[Printed]],
    ) -> None:
        self._context = context
        self._logical = logical
        self._compare = compare
        self._spread = spread

    def call(self, node: Node) -> Printed:
        """A node ``Call``."""
        name, nodes = node["name"], node.get("args") or []
        if name in ("and", "or", "not") or name.lower() == "not":
            expect(name, "Function", "argument", len(nodes), *((1, 1) if name.lower() == "not" else (2, None)))
            return self._logical(name.lower(), nodes)
        if name in functions.COMPARISONS:
            if len(nodes) != 2:
                raise HogQLError(f"Comparison '{name}' requires exactly two arguments")
            return self._compare(functions.COMPARISONS[name], nodes[0], nodes[1])
        if name == "_caseWithExpression":
            parts = self._context.all(nodes)
            return Printed(f"caseWithExpression({', '.join(p.sql for p in parts)})", _case_text(parts))
        if name in macros.MACROS:
            return self._macro(node, nodes)
        if name == "matchesAction":
            return replace(self._matches_action(nodes), name="", hogql=_action_text(nodes))
        function = find_function(name, node)
        params = node.get("params")
        is_star = function.name == "count" and len(nodes) == 1 and nodes[0].get("chain") == ["*"]
        if function.aggregate:
            return self._aggregate(function, node, [] if is_star else nodes, is_star=is_star)
        if node.get("order_by") or params or node.get("distinct") or node.get("filter_expr"):
            raise HogQLError(f"Function '{name}' takes neither parameters nor DISTINCT nor FILTER nor ORDER BY")
        with self._context.state(raw_properties=function.name in functions.RAW_STRING_ARGUMENT):
            arguments = self._arguments(nodes)
        check_arity(function, name, len(arguments), params)
        return self._scalar(function, name, arguments)

    def _arguments(self, nodes: list[Node]) -> list[Printed]:
        """The arguments; ``*COLUMNS('regex')`` is all the columns that match."""
        printed: list[Printed] = []
        for node in nodes:
            printed.extend(self._spread(node) if node["node"] == "SpreadExpr" else [self._context.expression(node)])
        return printed

    def _macro(self, node: Node, nodes: list[Node]) -> Printed:
        """A function of PostHog's own that stands for an expression."""
        macro = macros.MACROS[node["name"]]
        expect(node["name"], "Function", "argument", len(nodes), macro.min_args, macro.max_args)
        return self._context.expression(macro.expand(nodes))

    def _matches_action(self, nodes: list[Node]) -> Printed:
        """Whether the event of this row is one of an action's, which is named by its id or its name."""
        expect("matchesAction", "Function", "argument", len(nodes), 1, 1)
        sources = self._context.scope.all_sources()
        events = next((source for source in sources if source.table and source.table.name == "events"), None)
        if events is None:
            raise HogQLError("matchesAction can only be used with the events table")
        given = nodes[0].get("value") if nodes[0]["node"] == "Constant" else None
        if isinstance(given, bool) or not isinstance(given, int | str):
            raise HogQLError("matchesAction() takes the id of an action or its name as a constant")
        catalog = self._context.catalog
        found = [action for action in catalog.actions if given in (action.id, action.name)]
        if not found:
            what = "ID" if isinstance(given, int) else "name"
            raise HogQLError(f"Could not find an action with the {what} {given}")
        if len(found) > 1:
            raise HogQLError(f"Found multiple actions with the name {given}")
        place = conditions.Scope("event", catalog, datetime.now(ZoneInfo(catalog.timezone)), Names("action"))
        tree = filled(action_condition(found[0], place), catalog)
        check(tree, is_api_query=True)
        # Its names are those of the events table, whatever else stands in FROM.
        with self._context.state(scope=Scope({}, inside=(events, "")), lambda_arguments=[]):
            return self._context.expression(tree)

    def _aggregate(self, function: functions.Function, node: Node, nodes: list[Node], *, is_star: bool) -> Printed:
        name, around = node["name"], self._context.aggregation
        if around:
            raise HogQLError(f"Aggregation '{name}' cannot be nested inside another aggregation '{around}'.")
        if node.get("order_by"):
            raise HogQLError(f"ORDER BY inside of the aggregation '{name}' is not supported")
        with self._context.state(aggregation=name, raw_properties=False):
            arguments, params = self._arguments(nodes), self._context.all(node.get("params"))
            condition = self._context.expression(node["filter_expr"]) if node.get("filter_expr") else None
        check_arity(function, name, len(arguments), node.get("params"))
        distinct = "DISTINCT " if node.get("distinct") else ""
        if "{" in function.sql:
            if distinct or condition:
                raise HogQLError(f"Aggregation '{name}' takes neither DISTINCT nor FILTER")
            sql = function.sql.format(*(a.sql for a in arguments))
        else:
            brackets = f"({', '.join(p.sql for p in params)})" if params else ""
            inner = "*" if is_star and distinct else ", ".join(a.sql for a in arguments)
            sql = f"{function.sql}{brackets}({distinct}{inner})"
            sql += f" FILTER (WHERE {condition.sql})" if condition else ""
        shown = "*" if is_star else ", ".join(a.hogql for a in arguments)
        hogql = f"{name}{f'({hogql_list(params)})' if params else ''}({distinct}{shown})"
        hogql += f" FILTER (WHERE {condition.hogql})" if condition else ""
        kind, nullable = result(function, arguments)
        return Printed(sql, hogql, kind, nullable)

    def _scalar(self, function: functions.Function, name: str, arguments: list[Printed]) -> Printed:
        hogql = f"{name}({hogql_list(arguments)})"
        sql_name, texts = function.sql, [a.sql for a in arguments]
        kind, nullable = result(function, arguments)
        if function.name == "arrayReduce":
            check_array_reduce(name, arguments[0])
        elif function.name == "concat":
            texts = [concat_part(a) for a in arguments]
        elif function.name == "toDecimal":
            texts = [texts[0], schema.quote_literal(f"Decimal64({_scale(arguments[1])})")]
        elif sql_name == "toDateOrNull" and arguments[0].type != "string":
            sql_name, nullable = "toDate", arguments[0].nullable
        elif function.name == "toStartOfWeek" and len(texts) == 1:
            texts.append("3" if self._context.catalog.week_start == 1 else "0")
        elif function.name in functions.LOOKUPS:
            found = channel_types.lookup(self._context.catalog.database, *functions.LOOKUPS[function.name], texts[0])
            return Printed(found, hogql, kind, nullable)
        elif function.name in functions.FIRST_IS_DATETIME:
            texts[0] = f"toDateTime({texts[0]}, 'UTC')"
        elif function.name in ("dateAdd", "dateSub") and len(texts) == 3:
            unit = functions.INTERVALS.get(str(arguments[0].constant).lower())
            if unit is None:
                raise HogQLError(f"Unknown unit of time in function '{name}'")
            sql_name = "plus" if function.name == "dateAdd" else "minus"
            texts, kind = [texts[2], f"{unit}({texts[1]})"], arguments[2].type
        elif function.name in functions.TIMEZONE_AWARE:
            sql_name, texts = self._in_timezone(function, arguments)
            nullable = arguments[0].nullable if sql_name in ("toDateTime", "toDateTime64") else nullable
        elif sql_name in _TRIM_SIDES and len(texts) == 2:
            return Printed(f"trim({_TRIM_SIDES[sql_name]} {texts[1]} FROM {texts[0]})", hogql, kind, nullable)
        if "{" in sql_name:
            return Printed(f"({sql_name.format(*texts)})", hogql, kind, nullable)
        on_time = any(a.on_time for a in arguments)
        return Printed(f"{sql_name}({', '.join(texts)})", hogql, kind, nullable, on_time=on_time)

    def _in_timezone(self, function: functions.Function, arguments: list[Printed]) -> tuple[str, list[str]]:
        """A function of times, with the project's zone as its last argument unless the caller gave one."""
        name, texts = function.sql, [a.sql for a in arguments]
        if len(texts) != function.max_args:
            texts.append(schema.quote_literal(self._context.catalog.timezone))
        if function.name == "toDateTime":
            name = to_datetime(arguments)
        takes_precision = name in PRECISION or name.startswith("parseDateTime64")
        if takes_precision and len(texts) == (1 if name == "now64" else 2):
            texts.insert(len(texts) - 1, "6")
        return name, texts


def find_function(name: str, node: Node) -> functions.Function:
    """The function a call names.

    Raises:
        HogQLError: There is none of that name, or the embedded PostHog does not have it.
    """
    function = functions.find(name)
    if function is not None:
        return function
    if name in functions.WITHIN_GROUP:
        raise HogQLError(f"Aggregation '{name}' requires WITHIN GROUP")
    if name in functions.NOT_HERE:
        raise HogQLError(f"Function '{name}(...)' is not available in the embedded PostHog")
    near = functions.nearest(name, macros.MACROS)
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


def check_array_reduce(name: str, first: Printed) -> None:
    """Refuse an ``arrayReduce`` over anything but a known aggregation."""
    if not isinstance(first.constant, str):
        raise HogQLError(f"Expected constant string as first arg in function '{name}'")
    if first.constant not in functions.PARAMETRIC_FIRST_ARGUMENT:
        raise HogQLError(f"Invalid parametric function in '{name}', '{first.constant}' is not supported.")


def _scale(part: Printed) -> int:
    """The scale of ``toDecimal``."""
    if type(part.constant) is not int:
        raise HogQLError("The scale of toDecimal must be a constant whole number")
    return int(part.constant)


def _case_text(parts: list[Printed]) -> str:
    """``CASE x WHEN a THEN b ... ELSE c END`` as HogQL."""
    pairs = zip(parts[1:-1:2], parts[2:-1:2], strict=True)
    whens = "".join(f" WHEN {when.hogql} THEN {then.hogql}" for when, then in pairs)
    return f"CASE {parts[0].hogql}{whens} ELSE {parts[-1].hogql} END"


def _action_text(nodes: list[Node]) -> str:
    value = nodes[0]["value"]
    return f"matchesAction({schema.quote_literal(value) if isinstance(value, str) else value})"
