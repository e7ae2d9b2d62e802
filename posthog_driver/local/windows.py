"""ORDER BY, and window functions with their windows."""

from __future__ import annotations

from collections.abc import Mapping

from . import functions, schema
from .calls import check_arity, find_function
from .context import Context
from .parser import HogQLError, Node
from .printed import Printed, hogql_list, nearest
from .signatures import result
from .tree import error_at, frame


class Windows:
    """Prints the windows and orders of one translation.

    Args:
        context: Its state.
    """

    def __init__(self, context: Context) -> None:
        self._context = context

    def function(self, node: Node) -> Printed:
        """A node ``WindowFunction``: ``f(x) OVER (...)``."""
        name = node["name"]
        # With f(a)(b) OVER ..., the parser gives the first brackets as `exprs` and the second as `args`.
        params, nodes = (node.get("exprs"), node["args"]) if node.get("args") else ([], node.get("exprs") or [])
        function = find_function(name, node)
        if function.name == "count" and len(nodes) == 1 and nodes[0].get("chain") == ["*"]:
            nodes = []
        check_arity(function, name, len(nodes), params)
        if (not function.aggregate and function.name not in functions.WINDOW_ONLY) or "{" in function.sql:
            raise HogQLError(f"Function '{name}' cannot be used as a window function")
        with self._context.state(aggregation=""):
            arguments, printed_params = self._context.all(nodes), self._context.all(params)
            over_sql, over_hogql = self._over(node, full_frame=name in ("lag", "lead"))
        texts = [a.sql for a in arguments]
        if name in ("lag", "lead"):
            texts[0] = f"toNullable({texts[0]})"
        brackets = f"({', '.join(p.sql for p in printed_params)})" if printed_params else ""
        shown = f"({hogql_list(printed_params)})" if printed_params else ""
        kind, nullable = result(function, arguments)
        return Printed(
            f"{function.sql}{brackets}({', '.join(texts)}) OVER {over_sql}",
            f"{name}{shown}({hogql_list(arguments)}) OVER {over_hogql}",
            kind,
            nullable or name in ("lag", "lead"),
        )

    def clause(self, nodes: Mapping[str, Node]) -> list[tuple[str, str]]:
        """The clause WINDOW, none without named windows."""
        if not nodes:
            return []
        printed = {name: self._window(node) for name, node in nodes.items()}
        sql = ", ".join(f"{self._context.name(name)} AS ({sql})" for name, (sql, _) in printed.items())
        hogql = ", ".join(f"{schema.hogql_name(name)} AS ({hogql})" for name, (_, hogql) in printed.items())
        return [(f"WINDOW {sql}", f"WINDOW {hogql}")]

    def ordering(self, nodes: list[Node] | None) -> list[tuple[str, str]]:
        """The clause ORDER BY, none without expressions."""
        if not nodes:
            return []
        printed = [self._order(node) for node in nodes]
        return [
            (f"ORDER BY {', '.join(sql for sql, _ in printed)}", f"ORDER BY {', '.join(text for _, text in printed)}")
        ]

    def _order(self, node: Node) -> tuple[str, str]:
        if node["order"] not in ("ASC", "DESC"):
            raise error_at(node, f"ORDER BY {node['order']} is not supported")
        printed = self._context.expression(node["expr"])
        end = f" {node['order']}" + (f" NULLS {node['nulls']}" if node.get("nulls") else "")
        sql, hogql = printed.sql + end, printed.hogql + end
        if node.get("with_fill"):
            fill_sql, fill_hogql = self._fill(node["with_fill"])
            sql, hogql = f"{sql} WITH FILL{fill_sql}", f"{hogql} WITH FILL{fill_hogql}"
        return sql, hogql

    def _fill(self, node: Node) -> tuple[str, str]:
        sql = hogql = ""
        for key, word in (("from_value", "FROM"), ("to_value", "TO"), ("step_value", "STEP")):
            if node.get(key):
                printed = self._context.expression(node[key])
                sql, hogql = f"{sql} {word} {printed.sql}", f"{hogql} {word} {printed.hogql}"
        return sql, hogql

    def _over(self, node: Node, *, full_frame: bool) -> tuple[str, str]:
        name = node.get("over_identifier")
        if not name:
            sql, hogql = self._window(node.get("over_expr") or {}, full_frame=full_frame)
            return f"({sql})", f"({hogql})"
        windows = self._context.scope.windows
        if name not in windows:
            raise HogQLError(f"Unable to resolve window: {name}", fix=nearest(name, windows))
        if full_frame:
            # A named window without a frame has not the one that these functions need.
            return f"({self._window(windows[name], full_frame=True)[0]})", schema.hogql_name(name)
        return self._context.name(name), schema.hogql_name(name)

    def _window(self, node: Node, *, full_frame: bool = False) -> tuple[str, str]:
        sql, hogql = [], []
        if node.get("partition_by"):
            parts = self._context.all(node["partition_by"])
            sql.append(f"PARTITION BY {', '.join(p.sql for p in parts)}")
            hogql.append(f"PARTITION BY {hogql_list(parts)}")
        for order_sql, order_hogql in self.ordering(node.get("order_by")):
            sql.append(order_sql)
            hogql.append(order_hogql)
        bounds = frame(node)
        if bounds:
            sql.append(bounds)
            hogql.append(bounds)
        elif full_frame:
            sql.append("ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING")
        return " ".join(sql), " ".join(hogql)
