"""Expressions: one method for each kind of node, from a constant to a lambda."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from . import parser, schema
from .calls import Calls
from .context import Context
from .fields import Fields
from .parser import HogQLError, Node, offset
from .printed import (
    ARITHMETIC,
    CASTS,
    COMPARISONS,
    CONSTANT_TYPES,
    IN,
    Printed,
    compare_constants,
    hogql_constant,
    nearest,
    tuple_of,
    with_null_rules,
)
from .tree import RESERVED, TAGS, check, error_at
from .windows import Windows

MAX_INTEGER = 10**308
"""Integers from here on are none for the engine, not even as its largest kind of float."""
MAX_NODES = 100_000
"""Most expressions one query may grow to when its named expressions are written out."""


class Expressions:
    """Prints the expressions of one translation.

    Args:
        context: Its state.
        fields: For names.
        windows: For window functions.
        spread: The columns of ``COLUMNS(...)`` behind a ``*`` in the arguments of a call.
    """

    def __init__(
        self, context: Context, fields: Fields, windows: Windows, spread: Callable[[Node], list[Printed]]
    ) -> None:
        self._context = context
        self._fields = fields
        self._calls = Calls(context, self._logical, self._compare, spread)
        self._nodes = 0
        self._printers: Mapping[str, Callable[[Node], Printed]] = {
            "Alias": self._alias,
            "Field": fields.field,
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
            "Call": self._calls.call,
            "WindowFunction": windows.function,
            "TypeCast": self._cast,
            "HogQLXTag": self._tag,
            "SelectQuery": self._scalar,
            "SelectSetQuery": self._scalar,
        }

    def print(self, node: Node) -> Printed:
        """Print one expression; an error without a position gets that of the innermost node."""
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise HogQLError("Query is too complex")
        printer = self._printers.get(node["node"])
        if printer is None:
            raise error_at(node, f"{node['node']} is not supported here")
        try:
            return printer(node)
        except HogQLError as error:
            if error.start is None:
                error.start, error.end = offset(node.get("start")), offset(node.get("end"))
            raise

    def _alias(self, node: Node) -> Printed:
        name = node["alias"]
        if not name:
            raise HogQLError("Alias cannot be empty")
        if name.lower() in RESERVED:
            raise HogQLError(f'"{name}" cannot be an alias or identifier, as it\'s a reserved keyword')
        if name in self._context.scope.aliases:
            raise HogQLError(f"Cannot redefine an alias with the name: {name}")
        printed = self._context.expression(node["expr"])
        quoted, text = self._context.name(name), schema.hogql_name(name)
        inner_sql = f"({printed.sql})" if printed.alias else printed.sql
        self._context.scope.aliases[name] = replace(printed, sql=quoted, hogql=text, name=name, alias="")
        return replace(printed, sql=f"({inner_sql} AS {quoted})", hogql=f"{printed.hogql} AS {text}", alias=name)

    def _constant(self, node: Node) -> Printed:
        value = node.get("value")
        if node.get("value_type") == "number" and isinstance(value, str):
            value = float(value.replace("Infinity", "inf"))
        if isinstance(value, int) and abs(value) >= MAX_INTEGER:
            raise HogQLError(f"Number is too large: {len(str(value).lstrip('-'))} digits")
        text = hogql_constant(value)
        return Printed(text, text, CONSTANT_TYPES.get(type(value), "unknown"), nullable=value is None, constant=value)

    def _arithmetic(self, node: Node) -> Printed:
        name = ARITHMETIC.get(node["op"])
        if name is None:
            raise HogQLError(f"The operator {node['op']} is not supported")
        return self._calls.call({"name": name, "args": [node["left"], node["right"]]})

    def _logical(self, name: str, nodes: list[Node]) -> Printed:
        printed = self._context.all(nodes)
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
        left, right = self._context.expression(left_node), self._context.expression(right_node)
        if op in IN:
            return Printed(
                f"{IN[op]}({left.sql}, {right.sql})",
                f"{IN[op]}({left.hogql}, {right.hogql})",
                "boolean",
                nullable=False,
            )
        comparison = COMPARISONS.get(op)
        if comparison is None:
            raise HogQLError(f"The operator {op} is not supported")
        self._notice_event(op, left, right, right_node)
        hogql = comparison.function.format(left.hogql, right.hogql)
        if left.is_constant and right.is_constant:
            outcome = compare_constants(comparison, left.constant, right.constant)
            if outcome is not None:
                return Printed(str(int(outcome)), hogql, "boolean", nullable=False)
        is_plain = self._context.in_join or left.on_time or right.on_time or not (left.nullable or right.nullable)
        sql = comparison.function.format(left.sql, right.sql)
        if not is_plain:
            sql = with_null_rules(comparison, left, right)
        return Printed(sql, hogql, "boolean", nullable=is_plain and (left.nullable or right.nullable))

    def _notice_event(self, op: str, left: Printed, right: Printed, node: Node) -> None:
        """Note an event name that the project does not know."""
        names = self._context.catalog.event_names
        if op != "==" or left.name != "event" or not isinstance(right.constant, str) or not names:
            return
        if right.constant not in names:
            near = nearest(right.constant, names)
            self._context.warnings.append(
                {
                    "message": f"Event {right.constant!r} is not known in this project.",
                    "start": offset(node.get("start")),
                    "end": offset(node.get("end")),
                    "fix": schema.quote_literal(near) if near else None,
                }
            )

    def _between(self, node: Node) -> Printed:
        value, low, high = self._context.all([node["expr"], node["low"], node["high"]])
        word = "NOT BETWEEN" if node.get("negated") else "BETWEEN"
        sql = f"({value.sql}) {word} ({low.sql}) AND ({high.sql})"
        nullable = value.nullable or low.nullable or high.nullable
        return Printed(
            f"ifNull({sql}, 0)" if nullable else f"({sql})",
            f"{_infix(value)} {word} {_infix(low)} AND {_infix(high)}",
            "boolean",
            nullable=False,
        )

    def _distinct_from(self, node: Node) -> Printed:
        left, right = self._context.expression(node["left"]), self._context.expression(node["right"])
        same = f"ifNull(equals({left.sql}, {right.sql}), isNull({left.sql}) and isNull({right.sql}))"
        word = "IS NOT DISTINCT FROM" if node.get("negated") else "IS DISTINCT FROM"
        sql = same if node.get("negated") else f"not({same})"
        return Printed(sql, f"{_infix(left)} {word} {_infix(right)}", "boolean", nullable=False)

    def _in_cohort(self, left_node: Node, right_node: Node, *, negated: bool) -> Printed:
        left = self._context.expression(left_node)
        wanted = right_node.get("value")
        if right_node["node"] != "Constant" or type(wanted) not in (int, str):
            raise HogQLError("IN COHORT only works with constant arguments")
        found = [c for c in self._context.catalog.cohorts if wanted in (c.id, c.name)]
        if not found:
            label = f"name '{wanted}'" if isinstance(wanted, str) else f"ID {wanted}"
            raise HogQLError(f"Could not find a cohort with the {label}")
        cohort = found[0]
        if cohort.id in self._context.cohorts:
            raise HogQLError(f"Cohort {cohort.id} refers to itself")
        text = hogql_constant(wanted)
        return Printed(
            f"{'notIn' if negated else 'in'}({left.sql}, ({self._cohort_members(cohort)}))",
            f"{_infix(left)} {'NOT IN' if negated else 'IN'} COHORT {text}",
            "boolean",
            nullable=False,
        )

    def _cohort_members(self, cohort: schema.Cohort) -> str:
        """The sub-query of a cohort's persons."""
        if cohort.condition is None:
            alias = self._context.new_alias("cohort_people")
            return (
                f"SELECT {alias}.person_id FROM {self._context.catalog.database}.cohort_people_newest AS {alias} "
                f"WHERE {alias}.cohort_id = {cohort.id:d}"
            )
        persons = {"node": "JoinExpr", "table": {"node": "Field", "chain": ["persons"]}}
        select = {"node": "SelectQuery", "select": [{"node": "Field", "chain": ["id"]}], "select_from": persons}
        try:
            condition = parser.parse_expression(cohort.condition)
            check(condition, is_api_query=True)
            with self._context.state(cohorts=[*self._context.cohorts, cohort.id]):
                return self._context.sub_query({**select, "where": condition}, {}, None).sql
        except HogQLError as error:
            # A position in the cohort's condition is none in the query.
            raise HogQLError(f"Cohort '{cohort.name}': {error.message}") from error

    def _array_access(self, node: Node) -> Printed:
        array, index = self._context.expression(node["array"]), self._context.expression(node["property"])
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
        return replace(self._fields.property(json, part), hogql=text, name="")

    def _array_slice(self, node: Node) -> Printed:
        array = self._context.expression(node["array"])
        start = self._context.expression(node["start_expr"] or {"node": "Constant", "value": 1})
        text = f"{array.hogql}[{start.hogql}:"
        if not node.get("end_expr"):
            return Printed(f"arraySlice({array.sql}, {start.sql})", text + "]", "array")
        end = self._context.expression(node["end_expr"])
        length = f"plus(minus({end.sql}, {start.sql}), 1)"
        return Printed(f"arraySlice({array.sql}, {start.sql}, {length})", f"{text}{end.hogql}]", "array")

    def _tuple_access(self, node: Node) -> Printed:
        value, index = self._context.expression(node["tuple"]), int(node["index"])
        if index == 0:
            raise HogQLError("SQL indexes start from one, not from zero. E.g: array.1")
        text = f"{value.hogql}{'?.' if node.get('nullish') else '.'}{index}"
        if value.json is not None:
            return self._json_access(value, index)
        return Printed(f"tupleElement({value.sql}, {index})", text)

    def _array(self, node: Node) -> Printed:
        items = self._context.all(node.get("exprs"))
        return Printed(
            f"[{', '.join(i.sql for i in items)}]", f"[{', '.join(i.hogql for i in items)}]", "array", nullable=False
        )

    def _tuple(self, node: Node) -> Printed:
        return tuple_of(self._context.all(node.get("exprs")))

    def _dict(self, node: Node) -> Printed:
        parts = [self._text("__hx_tag"), self._text("__hx_obj")]
        for key, value in node.get("items") or ():
            parts.extend((self._context.expression(key), self._context.expression(value)))
        return tuple_of(parts)

    def _tag(self, node: Node) -> Printed:
        kind = node["kind"]
        if kind not in TAGS:
            raise HogQLError(f"Unknown tag <{kind}>", fix=nearest(kind, TAGS))
        parts = [self._text("__hx_tag"), self._text(kind)]
        for attribute in node.get("attributes") or ():
            value = attribute["value"]
            printed = tuple_of(self._context.all(value)) if isinstance(value, list) else self._context.expression(value)
            parts.extend((self._text(attribute["name"]), printed))
        return tuple_of(parts)

    def _text(self, value: str) -> Printed:
        return self._constant({"value": value})

    def _lambda(self, node: Node) -> Printed:
        arguments = [str(name) for name in node["args"]]
        names = ", ".join(self._context.name(name) for name in arguments)
        with self._context.state(lambda_arguments=[*self._context.lambda_arguments, *arguments]):
            body = self._context.expression(node["expr"])
        texts = ", ".join(schema.hogql_name(name) for name in arguments)
        brackets = "({})" if len(arguments) > 1 else "{}"
        return Printed(f"({names}) -> {body.sql}", f"{brackets.format(texts)} -> {body.hogql}")

    def _scalar(self, node: Node) -> Printed:
        select = self._context.sub_query(node, self._context.scope.ctes, None)
        kind = select.columns[0].type if len(select.columns) == 1 else "unknown"
        return Printed(f"({select.sql})", f"({select.hogql})", kind)

    def _cast(self, node: Node) -> Printed:
        wanted = str(node["type_name"])
        cast = CASTS.get(wanted.lower())
        if cast is None:
            raise HogQLError(f"Unsupported type cast to '{wanted}'", fix=nearest(wanted, CASTS))
        function, kind = cast
        value = self._context.expression(node["expr"])
        zone = f", {schema.quote_literal(self._context.catalog.timezone)}" if kind == "datetime" else ""
        return Printed(f"{function}({value.sql}{zone})", f"CAST({value.hogql} AS {wanted})", kind, value.nullable)


def _infix(printed: Printed) -> str:
    """The HogQL of a side of an operator written as a word."""
    return f"({printed.hogql})" if printed.alias else printed.hogql
