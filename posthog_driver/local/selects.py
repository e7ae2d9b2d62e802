"""SELECT, clause by clause, and the set queries made of several."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from . import schema
from .context import Context
from .fields import Fields
from .parser import HogQLError, Node, offset
from .printed import Cte, Printed, Scope, Select, Source
from .sources import Sources, with_text
from .tree import (
    DEFAULT_LIMIT,
    GROUP_MODES,
    MAX_LIMIT,
    SET_OPERATORS,
    check_limit,
    error_at,
    percent,
    top_limit,
)
from .windows import Windows

# Python's regular expressions can take for ever, PostHog's cannot: so what makes them slow is bounded.
MAX_REPETITIONS = 3
"""Most ``*``, ``+`` and ``{n,m}`` in the pattern of ``COLUMNS('...')``."""
MAX_MATCHED = 64
"""Longest name of a column that the pattern is tried on, in characters."""
_REPETITIONS = re.compile(r"(?<!\()[*+?{]")
_REPEATED_GROUP = re.compile(r"\)[*+?{]")

Clause = tuple[str, str]
"""A clause as SQL and as HogQL."""


class Selects:
    """Prints the SELECTs of one translation.

    Args:
        context: Its state.
        fields: For ``*``.
        windows: For ``WINDOW`` and ``ORDER BY``.
    """

    def __init__(self, context: Context, fields: Fields, windows: Windows) -> None:
        self._context = context
        self._fields = fields
        self._windows = windows
        self._sources = Sources(context)

    def sub_query(self, node: Node, ctes: dict[str, Cte], names: list[str] | None = None) -> Select:
        """A SELECT or a set query inside of another one.

        Args:
            node: The query.
            ctes: What WITH clauses around it define.
            names: Names for its columns. The result's ``renamed`` is None if their number is not that of the columns.
        """
        if node["node"] == "SelectQuery":
            return self.select(node, ctes, names=names)
        return self.set_query(node, ctes, names=names)

    def set_query(
        self, node: Node, ctes: dict[str, Cte], *, top: bool = False, names: list[str] | None = None
    ) -> Select:
        """SELECTs with UNION, INTERSECT and EXCEPT between them; the outermost query if `top`."""
        if node["node"] != "SelectSetQuery":
            raise error_at(node, f"A {node['node']} is no query")
        first = node["initial_select_query"]
        inherited, scope_text = ctes, ""
        if first.get("ctes"):
            # The WITH of the first SELECT counts for all of them.
            inherited = self._sources.define_ctes(first["ctes"], ctes)
            scope_text = with_text(first["ctes"], Scope(inherited))
            first = {**first, "ctes": None}
        parts = [("", first)] + [(n["set_operator"], n["select_query"]) for n in node["subsequent_select_queries"]]
        selects: list[Select] = []
        sql = hogql = ""
        for set_operator, branch in parts:
            if set_operator and set_operator not in SET_OPERATORS:
                raise error_at(branch, f"{set_operator} is not supported")
            is_select = branch["node"] == "SelectQuery"
            if top and is_select and not branch.get("limit_percent"):
                branch = {**branch, "limit": top_limit(branch.get("limit"), DEFAULT_LIMIT)}
            given = None if selects else names
            if is_select:
                select = self.select(branch, inherited, names=given)
            else:
                select = self.set_query(branch, inherited, top=top, names=given)
            joiner = f" {set_operator} " if set_operator else ""
            brackets = joiner + ("{}" if is_select else "({})")
            sql, hogql = sql + brackets.format(select.sql), hogql + brackets.format(select.hogql)
            selects.append(select)
        if any(node.get(key) for key in ("limit", "offset")):
            limit = node.get("limit")
            if top and not node.get("limit_percent"):
                limit = top_limit(limit, MAX_LIMIT)
            clause_sql, clause_hogql = self._limit({**node, "limit": limit})
            sql, hogql = f"SELECT * FROM ({sql}){clause_sql}", f"{hogql}{clause_hogql}"
        return Select(sql, scope_text + hogql, selects[0].columns, selects[0].renamed)

    def select(self, node: Node, ctes: dict[str, Cte], *, top: bool = False, names: list[str] | None = None) -> Select:
        """One SELECT; the outermost query if `top`."""
        scope = Scope(self._sources.define_ctes(node.get("ctes"), ctes))
        scope.windows = node.get("window_exprs") or {}
        with self._context.state(scope=scope, lambda_arguments=[], aggregation="", in_join=False, raw_properties=False):
            select = self._in_scope(node, top=top, names=names)
        return replace(select, hogql=with_text(node.get("ctes"), scope) + select.hogql)

    def _in_scope(self, node: Node, *, top: bool, names: list[str] | None) -> Select:
        joins = self._sources.register(node.get("select_from"))
        self._sources.conditions(joins)
        array_join = self._sources.array_join(node)
        columns, listed = self._columns(node["select"])
        before, after = self._filters(node)
        limit_sql, limit_hogql = self._limit(node)
        from_sql, from_hogql, samples = self._sources.print(joins)
        where_sql, where_hogql = before["where"]
        where_sql = " AND ".join(filter(None, [f"({where_sql})" if where_sql and samples else where_sql, *samples]))
        distinct = "DISTINCT " if node.get("distinct") else ""
        # INTERPOLATE names columns, so then they must have their names in the statement too.
        is_plain = top and node.get("interpolate") is None
        sql_columns, renamed = self._column_list(columns, is_plain=is_plain, names=names)
        prewhere_sql, prewhere_hogql = before["prewhere"]
        sql = [
            f"SELECT {distinct}{', '.join(sql_columns)}",
            from_sql,
            array_join[0],
            prewhere_sql and f"PREWHERE {prewhere_sql}",
            where_sql and f"WHERE {where_sql}",
            *(clause for clause, _ in after),
        ]
        hogql = [
            f"SELECT {distinct}{', '.join(listed)}",
            from_hogql,
            array_join[1],
            prewhere_hogql and f"PREWHERE {prewhere_hogql}",
            where_hogql and f"WHERE {where_hogql}",
            *(clause for _, clause in after),
        ]
        return Select(
            " ".join(filter(None, sql)) + limit_sql,
            " ".join(filter(None, hogql)) + limit_hogql,
            tuple(columns),
            renamed,
        )

    def _filters(self, node: Node) -> tuple[dict[str, Clause], list[Clause]]:
        """The conditions of PREWHERE and WHERE, and the clauses after them."""
        before: dict[str, Clause] = {}
        for key in ("prewhere", "where"):
            printed = self._context.expression(node[key]) if node.get(key) else None
            before[key] = (printed.sql, printed.hogql) if printed else ("", "")
        after = self._grouping(node)
        if node.get("having"):
            printed = self._context.expression(node["having"])
            after.append((f"HAVING {printed.sql}", f"HAVING {printed.hogql}"))
        after.extend(self._windows.clause(node.get("window_exprs") or {}))
        if node.get("qualify"):
            after.append(self._qualify(node["qualify"]))
        after.extend(self._windows.ordering(node.get("order_by")))
        after.extend(self._interpolate(node.get("interpolate")))
        after.extend(self._limit_by(node.get("limit_by")))
        return before, after

    def _qualify(self, node: Node) -> Clause:
        """QUALIFY, which the engine has; PostHog's grammar reads it and its printer refuses it, so that is told."""
        printed = self._context.expression(node)
        self._context.warnings.append(
            {
                "message": "QUALIFY works here, but PostHog refuses it: filter in an outer SELECT instead",
                "start": offset(node.get("start")),
                "end": offset(node.get("end")),
                "fix": None,
            }
        )
        return f"QUALIFY {printed.sql}", f"QUALIFY {printed.hogql}"

    # -------------------------------------------------------------------------------------------------------- columns

    def _columns(self, nodes: list[Node]) -> tuple[list[Printed], list[str]]:
        columns: list[Printed] = []
        texts: list[str] = []
        for node in nodes:
            star = self.star(node)
            if star is None:
                printed = self._context.expression(node)
                columns.append(printed)
                texts.append(printed.hogql)
            else:
                columns.extend(star[0])
                texts.append(star[1])
        return columns, texts

    def star(self, node: Node) -> tuple[list[Printed], str] | None:
        """The columns of ``*``, ``table.*`` or ``COLUMNS(...)`` and their HogQL, None for any other expression."""
        if node["node"] == "SpreadExpr":
            raise error_at(node, "*COLUMNS(...) is not valid as a top-level SELECT item. Use COLUMNS(...) instead.")
        if node["node"] == "ColumnsExpr":
            return self._columns_expression(node)
        chain = node.get("chain") or []
        if node["node"] != "Field" or chain[-1:] != ["*"]:
            return None
        if len(chain) == 1:
            sources = self._context.scope.all_sources()
            if len(sources) > 1:
                raise error_at(node, "Cannot use '*' without table name when there are multiple tables in the query")
            if not sources:
                raise error_at(node, "Cannot use '*' when there are no tables in the query")
            source = sources[0]
        else:
            found = self._context.scope.sources.get(str(chain[0]))
            if found is None or len(chain) > 2:
                raise error_at(node, f"Unable to resolve field: {'.'.join(map(str, chain))}")
            source = found
        text = ".".join(schema.hogql_name(str(part)) if part != "*" else "*" for part in chain)
        return [self._shown(source, name) for name in source.shown()], text

    def _shown(self, source: Source, name: str) -> Printed:
        return self._fields.member(source, [name], schema.hogql_name(name))

    def _columns_expression(self, node: Node) -> tuple[list[Printed], str]:
        if node.get("columns") is not None:
            columns, texts = self._columns(node["columns"])
            return columns, f"COLUMNS({', '.join(texts)})"
        if node.get("all_columns"):
            return self._star_but(node)
        pattern = str(node.get("regex") or "")
        if len(_REPETITIONS.findall(pattern)) > MAX_REPETITIONS or _REPEATED_GROUP.search(pattern):
            most = f"at most {MAX_REPETITIONS} repetitions, none of a group"
            raise error_at(node, f"COLUMNS() takes a pattern with {most}")
        try:
            matches = re.compile(pattern).search
        except (re.error, OverflowError) as error:
            raise error_at(node, f"COLUMNS() has an invalid regex pattern: {error}") from None
        shown = self._all_shown()
        if any(len(name) > MAX_MATCHED for *_, name in shown):
            raise error_at(node, f"COLUMNS() is tried on names of at most {MAX_MATCHED} characters")
        columns = [self._shown(source, name) for _, source, name in shown if matches(name)]
        text = f"COLUMNS({schema.quote_literal(pattern)})"
        if not columns:
            raise error_at(node, f"No columns matched the {text} expression")
        return columns, text

    def _star_but(self, node: Node) -> tuple[list[Printed], str]:
        """``* EXCLUDE (a)`` and ``(* REPLACE (1 as a))``, over all tables of FROM."""
        excluded = [str(name).rpartition(".")[::2] for name in node.get("exclude") or ()]
        replaced: Mapping[str, Node] = node.get("replace") or {}
        table = node.get("table")
        shown = [column for column in self._all_shown() if table in (None, column[0])]
        if table and not shown:
            raise error_at(node, f"Unable to resolve field: {table}")
        for what, names in (("EXCLUDE", excluded), ("REPLACE", [("", name) for name in replaced])):
            for qualifier, name in names:
                if not any(column == name and qualifier in ("", owner) for owner, _, column in shown):
                    owners = {owner for owner, *_ in shown}
                    label = qualifier or (min(owners) if len(owners) == 1 else "the selected tables")
                    raise error_at(node, f'Column "{name}" in {what} list was not found in {label}')
        both = {name for _, name in excluded} & set(replaced)
        if both:
            raise error_at(node, f'Column "{min(both)}" cannot occur in both EXCLUDE and REPLACE list')
        columns = [
            self._replacement(name, replaced[name]) if name in replaced else self._shown(source, name)
            for owner, source, name in shown
            if ("", name) not in excluded and (owner, name) not in excluded
        ]
        if not columns:
            raise error_at(node, "No columns matched the EXCLUDE list")
        return columns, self._star_text(table, excluded, replaced)

    def _replacement(self, name: str, node: Node) -> Printed:
        printed = self._context.expression(node)
        return replace(printed, sql=f"({printed.sql} AS {self._context.name(name)})", name=name, alias=name)

    def _star_text(self, table: str | None, excluded: list[Any], replaced: Mapping[str, Node]) -> str:
        text = f"{schema.hogql_name(table)}.*" if table else "*"
        if excluded:
            names = (".".join(schema.hogql_name(part) for part in parts if part) for parts in excluded)
            text += f" EXCLUDE ({', '.join(names)})"
        if replaced:
            items = (
                f"{self._context.expression(node).hogql} AS {schema.hogql_name(name)}"
                for name, node in replaced.items()
            )
            text = f"({text} REPLACE ({', '.join(items)}))"
        return text

    def _all_shown(self) -> list[tuple[str, Source, str]]:
        """Every column that ``*`` stands for, with the name of its table and the table."""
        scope = self._context.scope
        named = [(name, source) for name, source in scope.sources.items()]
        named += [("", source) for source in scope.anonymous]
        return [(owner, source, name) for owner, source in named for name in source.shown()]

    def _column_list(
        self, columns: list[Printed], *, is_plain: bool, names: list[str] | None
    ) -> tuple[list[str], dict[str, str] | None]:
        """The columns as SQL, and the engine's names for the names given to them.

        Those of a sub-query are named, so that the query around it can use them.
        """
        if is_plain:
            return [column.sql for column in columns], None
        if names is not None:
            return self._renamed_list(columns, names)
        last = {column.column_name: index for index, column in enumerate(columns) if not column.alias}
        taken = {column.alias for column in columns if column.alias}
        listed = []
        for index, column in enumerate(columns):
            name = column.column_name
            is_named = not column.alias and name not in taken and last[name] == index
            listed.append(f"{column.sql} AS {schema.quote_any_name(name)}" if is_named else column.sql)
        return listed, None

    def _renamed_list(self, columns: list[Printed], names: list[str]) -> tuple[list[str], dict[str, str] | None]:
        listed, engine_names = [], []
        for column in columns:
            # An alias of the query's own must stay, as its other clauses may use it.
            name = column.alias or self._context.new_alias("")
            listed.append(column.sql if column.alias else f"{column.sql} AS {schema.quote_any_name(name)}")
            engine_names.append(name)
        return listed, dict(zip(names, engine_names, strict=True)) if len(names) == len(columns) else None

    # ---------------------------------------------------------------------------------------------- the other clauses

    def _grouping(self, node: Node) -> list[Clause]:
        mode = node.get("group_by_mode")
        if mode == "all":
            return [("GROUP BY ALL", "GROUP BY ALL")]
        if not node.get("group_by"):
            return []
        printed = [self._grouping_element(element) for element in node["group_by"]]
        sql, hogql = ", ".join(s for s, _ in printed), ", ".join(h for _, h in printed)
        if mode:
            if mode not in GROUP_MODES:
                raise HogQLError(f"GROUP BY {mode} is not supported")
            sql, hogql = f"{GROUP_MODES[mode]}({sql})", f"{GROUP_MODES[mode]}({hogql})"
        return [(f"GROUP BY {sql}", f"GROUP BY {hogql}")]

    def _grouping_element(self, node: Node) -> Clause:
        if node["node"] != "GroupingSet":
            printed = self._context.expression(node)
            return printed.sql, printed.hogql
        elements = self._context.all(node.get("exprs"))
        return f"({', '.join(e.sql for e in elements)})", f"({', '.join(e.hogql for e in elements)})"

    def _interpolate(self, nodes: list[Node] | None) -> list[Clause]:
        """INTERPOLATE of WITH FILL: names of columns, each with what goes into the rows filled in."""
        if nodes is None:
            return []
        if not nodes:
            return [("INTERPOLATE", "INTERPOLATE")]
        aliases = self._context.scope.aliases
        sql, hogql = [], []
        for node in nodes:
            name = (node["expr"].get("chain") or [""])[-1]
            if name not in aliases:
                raise error_at(node["expr"], f"INTERPOLATE takes aliases of columns: {name}")
            quoted, text = self._context.name(name), schema.hogql_name(name)
            if node.get("value"):
                with self._context.state(scope=Scope({}, aliases=aliases)):
                    value = self._context.expression(node["value"])
                quoted, text = f"{quoted} AS {value.sql}", f"{text} AS {value.hogql}"
            sql.append(quoted)
            hogql.append(text)
        return [(f"INTERPOLATE ({', '.join(sql)})", f"INTERPOLATE ({', '.join(hogql)})")]

    def _limit_by(self, node: Node | None) -> list[Clause]:
        if not node:
            return []
        for key in ("n", "offset_value"):
            if node.get(key):
                check_limit(node[key], "LIMIT BY")
        n, columns = self._context.expression(node["n"]), self._context.all(node["exprs"])
        skip = self._context.expression(node["offset_value"]) if node.get("offset_value") else None
        texts = [
            f"LIMIT {getattr(n, kind)}{f' OFFSET {getattr(skip, kind)}' if skip else ''} BY "
            + ", ".join(getattr(column, kind) for column in columns)
            for kind in ("sql", "hogql")
        ]
        return [(texts[0], texts[1])]

    def _limit(self, node: Node) -> Clause:
        sql = hogql = ""
        for key, word in (("limit", "LIMIT"), ("offset", "OFFSET")):
            if not node.get(key):
                continue
            if key == "limit" and node.get("limit_percent"):
                share = percent(node[key])
                # The engine takes a share below 1 only.
                sql = {0.0: " LIMIT 0", 100.0: ""}.get(share, f" LIMIT {share / 100:.17g}")
                hogql = f" LIMIT {share:g} %"
            else:
                check_limit(node[key], word)
                printed = self._context.expression(node[key])
                sql, hogql = f"{sql} {word} {printed.sql}", f"{hogql} {word} {printed.hogql}"
            if key == "limit" and node.get("limit_with_ties"):
                if not node.get("order_by"):
                    raise error_at(node[key], "WITH TIES needs an ORDER BY")
                sql, hogql = f"{sql} WITH TIES", f"{hogql} WITH TIES"
        return sql, hogql
