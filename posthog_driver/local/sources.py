"""FROM and WITH: tables, sub-queries, joins, samples and named queries, as SQL."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from . import database, parser, schema
from .context import Context
from .parser import HogQLError, Node, offset
from .printed import Cte, Printed, Scope, Select, Source, by_name, nearest
from .tree import ARRAY_JOINS, JOIN_TYPES, error_at, int_constant, table_name

_STORED_TYPES = {
    "string": "Nullable(String)",
    "integer": "Nullable(Int64)",
    "float": "Nullable(Float64)",
    "boolean": "Nullable(UInt8)",
    "datetime": "Nullable(DateTime64(6, 'UTC'))",
    "date": "Nullable(Date32)",
    "uuid": "Nullable(UUID)",
    "json": "Nullable(String)",
    "array": "Array(String)",
}
_SAMPLED = {"events": "distinct_id"}
"""Tables that can be sampled, and the column whose hash says which rows belong to a sample, as in PostHog."""
_HASHES = 2**64


@dataclass
class Join:
    """One table of FROM.

    Attributes:
        node: Its ``JoinExpr``.
        sql: The table as SQL.
        hogql: The table as HogQL, with its name.
        source: What can be named in it.
        condition: SQL and HogQL of what follows it, with ``ON`` or ``USING``.
        sample: The condition that its rows fulfil to be in the sample, empty without one.
    """

    node: Node
    sql: str
    hogql: str
    source: Source
    condition: tuple[str, str] = ("", "")
    sample: str = ""

    @property
    def type(self) -> str:
        """How it is joined to what stands before it, empty for the first."""
        return str(self.node.get("join_type") or "")


class Sources:
    """Prints WITH and FROM of one translation.

    Args:
        context: Its state.
    """

    def __init__(self, context: Context) -> None:
        self._context = context

    # ----------------------------------------------------------------------------------------------------------- WITH

    def define_ctes(self, nodes: list[Node] | None, inherited: dict[str, Cte]) -> dict[str, Cte]:
        """The named queries and expressions of a WITH clause, with those around it."""
        if not nodes:
            return inherited
        ctes = dict(inherited)
        for node in nodes:
            name = node["name"]
            if node["cte_type"] == "column":
                ctes[name] = Cte(node["expr"])
                continue
            if node["cte_type"] != "subquery":
                raise error_at(node, f"WITH {node['cte_type']} is not supported")
            before = self._context.expanded
            select = self._context.sub_query(node["expr"], ctes, node.get("columns"))
            if node.get("columns") and select.renamed is None:
                raise error_at(node, _wrong_count(f"CTE '{name}'", select, node["columns"]))
            alias = self._context.new_alias(name)
            self._context.printed_ctes.append(f"{alias} AS ({select.sql})")
            ctes[name] = Cte(None, alias, select, self._context.expanded - before + 1, tuple(node.get("columns") or ()))
        return ctes

    # ----------------------------------------------------------------------------------------------------------- FROM

    def register(self, node: Node | None) -> list[Join]:
        """Make everything in FROM known to the scope, without the conditions of the joins."""
        joins: list[Join] = []
        scope = self._context.scope
        while node:
            if node.get("join_type") and node["join_type"] not in JOIN_TYPES:
                raise error_at(node, f"{node['join_type']} is not supported")
            try:
                join = self._join(node)
            except HogQLError as error:
                for place in (node["table"], node):
                    if error.start is None:
                        error.start, error.end = offset(place.get("start")), offset(place.get("end"))
                raise
            name = node.get("alias") or (node["table"].get("chain") or [""])[-1]
            if not name:
                scope.anonymous.append(join.source)
            elif name in scope.sources:
                raise error_at(node, f'Already have joined a table called "{name}". Can\'t redefine.')
            else:
                scope.sources[name] = join.source
                self._context.owners[join.source.alias] = name
            if node.get("alias"):
                join.hogql += f" AS {_with_columns(node['alias'], node.get('column_aliases'))}"
            joins.append(join)
            node = node.get("next_join")
        return joins

    def conditions(self, joins: list[Join]) -> None:
        """Print the conditions of the joins; aliases of the columns are not known in them."""
        with self._context.state(in_join=True):
            for join in joins:
                join.condition = self._condition(join)

    def print(self, joins: list[Join]) -> tuple[str, str, list[str]]:
        """FROM as SQL and as HogQL, and what the samples add to WHERE.

        To be called last: only then it is known which links and columns the query used.
        """
        sql: list[str] = []
        hogql: list[str] = []
        where: list[str] = []
        outer = any(word in join.type for join in joins for word in ("RIGHT", "FULL"))
        for join in joins:
            word = f"{join.type} " if sql else "FROM "
            condition_sql, condition_hogql = join.condition
            if join.sample and outer:
                raise error_at(join.node, "SAMPLE is not supported beside a RIGHT or FULL JOIN")
            if join.sample and "LEFT" in join.type:
                condition_sql = f"{condition_sql} AND {join.sample}"
            elif join.sample:
                where.append(join.sample)
            links = list(self._link_joins(join.source))
            table = self._brief(join.source) or join.sql
            sql += [f"{word}{table} AS {join.source.alias}{condition_sql}", *links]
            hogql.append(f"{word}{join.hogql}{_sample_text(join.node)}{condition_hogql}")
        return " ".join(sql), " ".join(hogql), where

    def array_join(self, node: Node) -> tuple[str, str]:
        """ARRAY JOIN as SQL and as HogQL; outside, each name means one element and not the array."""
        word = node.get("array_join_op")
        if not word:
            return "", ""
        if word not in ARRAY_JOINS:
            raise error_at(node, f"{word} is not supported")
        arrays = self._context.all(node["array_join_list"])
        for array in arrays:
            # The parser takes none without an alias.
            self._context.scope.aliases[array.alias] = Printed(
                self._context.name(array.alias), schema.hogql_name(array.alias)
            )
        return f"{word} {', '.join(a.sql for a in arrays)}", f"{word} {', '.join(a.hogql for a in arrays)}"

    # ----------------------------------------------------------------------------------------------------- the tables

    def _join(self, node: Node) -> Join:
        table, columns = node["table"], node.get("column_aliases") or []
        if len(set(columns)) < len(columns):
            twice = next(name for name in columns if columns.count(name) > 1)
            raise HogQLError(f"Duplicate column alias '{twice}' in table alias '{node.get('alias')}'")
        if table["node"] in ("SelectQuery", "SelectSetQuery"):
            select = self._context.sub_query(table, self._context.scope.ctes, columns or None)
            if columns and select.renamed is None:
                raise HogQLError(_wrong_count("Subquery", select, columns))
            alias = self._context.new_alias("")
            join = Join(node, f"({select.sql})", f"({select.hogql})", Source(alias, columns=by_name(select, alias)))
        elif table["node"] == "Field":
            join = self._named(node, table_name(table))
        else:
            raise HogQLError(f"A {table['node']} cannot be used as a SELECT source")
        if columns and join.source.table is not None:
            join.source.renamed = _renamed(join.source.shown(), columns)
        elif columns and table["node"] == "Field":
            found = join.source.columns
            renamed = _renamed(list(found), columns)
            join.source.columns = {new: found[old] for new, old in renamed.items()} | {
                name: column for name, column in found.items() if name not in (*renamed, *renamed.values())
            }
        if node.get("sample"):
            join.sample = self._sample(node["sample"], join.source)
        return join

    def _named(self, node: Node, name: str) -> Join:
        cte = self._context.scope.ctes.get(name)
        alias = self._context.new_alias(name)
        if cte is not None and cte.select is not None:
            self._context.expand(cte.weight)
            return Join(node, cte.alias, schema.hogql_name(name), Source(alias, columns=by_name(cte.select, alias)))
        name = name.removeprefix("posthog.")
        if name in ("range", "generate_series"):
            raise HogQLError(f"{name}() is not supported in ClickHouse dialect")
        if name == "numbers":
            text = _numbers(node.get("table_args"))
            number = Printed(f"{alias}.number", "number", "integer", nullable=False, name="number")
            return Join(node, text, text, Source(alias, columns={"number": number}))
        found = database.find_table(name, self._context.catalog) if name else None
        if name in database.MISSING:
            raise HogQLError(f"The embedded server does not have the table {name}.")
        if found is None:
            shown = name or ".".join(map(str, node["table"]["chain"]))
            # Another table gives an answer to another question: only a slip of the pen is mended (`cohorts` is none).
            near = nearest(shown, [*database.TABLES, "numbers"], 0.8)
            raise HogQLError(f"Unknown table `{shown}`.", fix=near)
        if found.access_scope in self._context.catalog.denied:
            raise HogQLError(f"You don't have access to table `{name}`.")
        if node.get("table_args") is not None:
            raise HogQLError(f"Table '{name}' does not accept arguments")
        self._context.tables.add(name)
        return Join(node, self._table(found), name, Source(alias, found))

    def _table(self, table: schema.Table) -> str:
        """A table as SQL: its name in the project's database, its rows, or the query that it stands for."""
        if table.rows is not None:
            return _printed_rows(table, table.rows(self._context.catalog))
        if table.query is not None:
            tree = parser.parse_select(table.query(self._context.catalog))
            with self._context.state(tables=set()):
                return f"({self._context.sub_query(tree, {}, None).sql})"
        return f"{self._context.catalog.database}.{self._context.name(table.physical)}"

    def _brief(self, source: Source) -> str:
        """The view with few columns when it has all that the query uses: the engine reads each of a view's anew."""
        table = source.table
        if table is None or not table.brief or not source.used <= table.brief_columns:
            return ""
        return f"{self._context.catalog.database}.{self._context.name(table.brief)}"

    def _link_joins(self, source: Source) -> Iterator[str]:
        """One LEFT JOIN for each link that the query used, and for the links of these."""
        for link, target in source.links.values():
            assert target.table is not None
            assert source.table is not None
            left, right = source.table.columns[link.source], target.table.columns[link.target]
            source.used.add(left.physical or left.name)
            target.used.add(right.physical or right.name)
            condition = (
                f"{source.alias}.{self._context.name(left.physical or left.name)} = "
                f"{target.alias}.{self._context.name(right.physical or right.name)}"
            )
            if link.fixed:
                condition += f" AND {target.alias}.{self._context.name(link.fixed[0])} = {link.fixed[1]}"
            links = list(self._link_joins(target))
            yield f"LEFT JOIN {self._brief(target) or self._table(target.table)} AS {target.alias} ON {condition}"
            yield from links

    # ------------------------------------------------------------------------------------------- conditions, samples

    def _condition(self, join: Join) -> tuple[str, str]:
        node = join.node.get("constraint")
        if not node:
            if join.type and join.type != "CROSS JOIN":
                raise error_at(join.node, f"{join.type} needs a condition: ON ... or USING ...")
            return "", ""
        if node["constraint_type"] == "USING":
            names = node["expr"].get("exprs") or [node["expr"]]
            if any(name["node"] != "Field" or len(name["chain"]) != 1 for name in names):
                raise error_at(node, "USING takes names of columns")
            columns = ", ".join(self._context.name(name["chain"][0]) for name in names)
            for source in self._context.scope.sources.values():
                source.used.update(name["chain"][0] for name in names)
            return f" USING ({columns})", f" USING ({columns})"
        if node["constraint_type"] != "ON":
            raise error_at(node, f"JOIN {node['constraint_type']} is not supported")
        printed = self._context.expression(node["expr"])
        return f" ON {printed.sql}", f" ON {printed.hogql}"

    def _sample(self, node: Node, source: Source) -> str:
        """A sample as a condition: the rows whose hash lies in a part of all hashes, as the engine's own takes them."""
        if source.table is None or source.table.name not in _SAMPLED:
            raise error_at(node, "SAMPLE is only supported for the table events")
        share, start = _ratio(node["sample_value"]), _ratio(node.get("offset_value"))
        if share > 1:
            raise error_at(node, "SAMPLE takes a share of the rows (0 to 1), not a number of rows")
        hashed = f"cityHash64({source.alias}.{self._context.name(_SAMPLED[source.table.name])})"
        low, high = round(start * _HASHES), round((start + share) * _HASHES)
        bounds = [f"{hashed} >= {low}"] if low else []
        if high < _HASHES:
            bounds.append(f"{hashed} < {high}")
        return f"({' AND '.join(bounds)})" if bounds and low < _HASHES else "0" if bounds else ""


def with_text(nodes: list[Node] | None, scope: Scope) -> str:
    """WITH as HogQL; of a named expression, what is known of it is its name."""
    named = ((node["name"], scope.ctes[node["name"]]) for node in nodes or ())
    parts = [f"{_with_columns(name, cte.names)} AS ({cte.select.hogql})" for name, cte in named if cte.select]
    return f"WITH {', '.join(parts)} " if parts else ""


def _with_columns(name: str, columns: Iterable[str] | None) -> str:
    names = ", ".join(schema.hogql_name(column) for column in columns or ())
    return f"{schema.hogql_name(name)}({names})" if names else schema.hogql_name(name)


def _wrong_count(what: str, select: Select, names: list[str]) -> str:
    return f"{what} has {len(select.columns)} column(s) but {len(names)} column name(s) were provided"


def _renamed(shown: list[str], names: list[str]) -> dict[str, str]:
    if len(names) > len(shown):
        raise HogQLError(
            f"Table has {len(shown)} column(s) available for aliasing but {len(names)} alias(es) were provided"
        )
    return dict(zip(names, shown, strict=False))


def _numbers(arguments: list[Node] | None) -> str:
    if arguments is None:
        raise HogQLError("Table function 'numbers' requires arguments")
    if not arguments:
        raise HogQLError("Table function 'numbers' requires at least 1 argument")
    if len(arguments) > 2:
        raise HogQLError("Table function 'numbers' requires at most 2 arguments")
    counts = [int_constant(argument) for argument in arguments]
    if any(count is None or count < 0 for count in counts):
        raise HogQLError("Table function 'numbers' takes whole numbers only")
    return f"numbers({', '.join(map(str, counts))})"


def _printed_rows(table: schema.Table, rows: Iterable[tuple[Any, ...]]) -> str:
    """A table without storage: its rows, written into the query as one JSON text.

    The engine reads that far faster than the same rows in ``values(...)``: 4 ms against 59 for 700 rows of 12 columns.
    """
    stored = {name: column for name, column in table.columns.items() if not column.expression}
    types = ", ".join(_STORED_TYPES[column.type] for column in stored.values())
    text = json.dumps([list(row) for row in rows], ensure_ascii=False, separators=(",", ":"))
    array = f"JSONExtract({schema.quote_literal(text)}, {schema.quote_literal(f'Array(Tuple({types}))')})"
    named = ", ".join(f"tupleElement(r, {i}) AS {schema.quote_name(name)}" for i, name in enumerate(stored, start=1))
    return f"(SELECT {named} FROM (SELECT arrayJoin({array}) AS r))"


def _ratio(node: Node | None) -> float:
    """The value of ``0.1`` or ``1/10`` in SAMPLE."""
    if node is None:
        return 0.0
    left, right = node["left"].get("value"), (node.get("right") or {"value": 1}).get("value")
    if not (isinstance(left, int | float) and isinstance(right, int | float)) or left < 0 or right <= 0:
        raise error_at(node, "SAMPLE takes a number or a fraction such as 1/10")
    return left / right


def _sample_text(node: Node) -> str:
    sample = node.get("sample")
    if not sample:
        return ""

    def text(ratio: Node) -> str:
        right = ratio.get("right")
        return f"{ratio['left']['value']}/{right['value']}" if right else str(ratio["left"]["value"])

    start = sample.get("offset_value")
    return f" SAMPLE {text(sample['sample_value'])}" + (f" OFFSET {text(start)}" if start else "")
