"""HogQL to ClickHouse SQL: PostHog's meaning on the embedded engine's tables.

`translate` parses a query with PostHog's parser, fills in its placeholders, checks every node against an allow-list,
and prints it again as SQL that can only read: names are qualified with the database, functions and tables come from
`functions.py` and `schema.py`, text goes through one escape function for literals and one for names. What is not
listed is refused by name.

The engine must add `schema.QUERY_SETTINGS` to each statement: they make ``IN`` treat NULL as PostHog does, and forbid
the engine itself everything but reading.

How it works: one pass over the tree. Each SELECT has a `Scope` (tables, aliases, lambda arguments). Each expression
becomes a `Printed`: its SQL, its HogQL text (PostHog names columns by it), a coarse type and whether it can be NULL.
Tables get engine aliases that occur nowhere in the query, so that no name of the user can capture one of ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from . import functions, parser, schema
from .parser import HogQLError, Node, offset
from .placeholders import Filler
from .printed import (
    ARITHMETIC,
    CASTS,
    COMPARISONS,
    CONSTANT_TYPES,
    IN,
    PRECISION,
    Cte,
    Json,
    Printed,
    Scope,
    Select,
    Source,
    UnknownName,
    by_name,
    check_arity,
    check_array_reduce,
    compare_constants,
    concat_part,
    expect,
    find_function,
    hogql_constant,
    hogql_list,
    nearest,
    result,
    scale,
    to_datetime,
    tuple_of,
    with_null_rules,
)
from .schema import Catalog
from .tree import (
    ARRAY_JOINS,
    DEFAULT_LIMIT,
    GROUP_MODES,
    JOIN_TYPES,
    MAX_LIMIT,
    RESERVED,
    SET_OPERATORS,
    TAGS,
    chain_text,
    check,
    check_limit,
    error_at,
    frame,
    int_constant,
    table_name,
    top_limit,
    walk,
)

__all__ = ["HogQLError", "Translation", "Translator", "metadata", "translate"]

MAX_INTEGER = 10**308
"""Integers from here on are none for the engine, not even as its largest kind of float."""
MAX_NODES = 100_000
"""Most expressions one query may grow to when its named expressions are written out."""
MAX_SQL_BYTES = 1_048_576
"""Longest ClickHouse statement; PostHog's own ``max_query_size``."""
MAX_CTES = 1_000
"""Most sub-queries one query may grow to when its CTEs are written out, as the engine does; that many take it 3 s."""


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
        translation = Translator(catalog, query).run(tree)
    except RecursionError:
        raise HogQLError("Query is too deeply nested") from None
    size = len(translation.sql.encode())
    if size > MAX_SQL_BYTES:
        raise HogQLError(
            f"Query is too long: with its values it is {size} bytes of SQL, at most {MAX_SQL_BYTES} are accepted"
        )
    return translation


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
    named = {table_name(node.get("table")) for node in walk(tree) if node.get("node") == "JoinExpr"}
    return tuple(sorted(named & set(schema.table_names())))


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
        self._expanded_ctes = 0
        self._scope = Scope({})
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
            limit = DEFAULT_LIMIT if paginated else int_constant(tree["limit"])
            tree = {**tree, "limit": top_limit(tree.get("limit"), DEFAULT_LIMIT + 1)}
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
        handler = self._expressions.get(node["node"])
        if handler is None:
            raise error_at(node, f"{node['node']} is not supported here")
        try:
            return handler(node)
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

    def _any_select(self, node: Node, ctes: dict[str, Cte]) -> Select:
        return self._select(node, ctes) if node["node"] == "SelectQuery" else self._set_query(node, ctes)

    def _set_query(self, node: Node, ctes: dict[str, Cte], *, top: bool = False) -> Select:
        first = node["initial_select_query"]
        inherited, with_text = ctes, ""
        if first.get("ctes"):
            # The WITH of the first SELECT counts for all of them.
            inherited = self._define_ctes(first["ctes"], ctes)
            first = {**first, "ctes": None}
            with_text = _with_text(node["initial_select_query"]["ctes"], inherited)
        parts = [("", first)] + [(n["set_operator"], n["select_query"]) for n in node["subsequent_select_queries"]]
        selects: list[Select] = []
        sql = hogql = ""
        for set_operator, branch in parts:
            if set_operator and set_operator not in SET_OPERATORS:
                raise error_at(branch, f"{set_operator} is not supported")
            is_select = branch["node"] == "SelectQuery"
            if top and is_select:
                branch = {**branch, "limit": top_limit(branch.get("limit"), DEFAULT_LIMIT)}
            select = self._select(branch, inherited) if is_select else self._set_query(branch, inherited, top=top)
            joiner = f" {set_operator} " if set_operator else ""
            brackets = joiner + ("{}" if is_select else "({})")
            sql, hogql = sql + brackets.format(select.sql), hogql + brackets.format(select.hogql)
            selects.append(select)
        if node.get("limit") or node.get("offset"):
            limit = top_limit(node.get("limit"), MAX_LIMIT) if top else node.get("limit")
            clause_sql, clause_hogql = self._limit_clauses({"limit": limit, "offset": node.get("offset")})
            sql, hogql = f"SELECT * FROM ({sql}){clause_sql}", f"{hogql}{clause_hogql}"
        return Select(sql, with_text + hogql, selects[0].columns)

    def _select(self, node: Node, ctes: dict[str, Cte], *, top: bool = False) -> Select:
        scope = Scope(self._define_ctes(node.get("ctes"), ctes))
        scope.windows = frozenset(node.get("window_exprs") or ())
        with self._state(scope=scope, lambda_arguments=[], aggregation="", in_join=False, raw_properties=False):
            select = self._select_in_scope(node, top=top)
        return replace(select, hogql=_with_text(node.get("ctes"), scope.ctes) + select.hogql)

    def _select_in_scope(self, node: Node, *, top: bool) -> Select:
        joins = self._register_joins(node.get("select_from"))
        with self._state(in_join=True):
            # Before the columns, so that no alias of theirs can stand for a column here.
            constraints = [self._constraint(join.get("constraint")) for join, *_ in joins]
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
        from_sql, from_hogql = self._from(joins, constraints)
        distinct = "DISTINCT " if node.get("distinct") else ""
        head_sql = f"SELECT {distinct}{', '.join(self._column_list(columns, top=top))}"
        sql = [head_sql, from_sql, array_join[0], *(clause for clause, _ in clauses)]
        hogql = [
            f"SELECT {distinct}{', '.join(select_hogql)}",
            from_hogql,
            array_join[1],
            *(clause for _, clause in clauses),
        ]
        return Select(
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
                raise error_at(node, "Cannot use '*' without table name when there are multiple tables in the query")
            if not sources:
                raise error_at(node, "Cannot use '*' when there are no tables in the query")
            source = sources[0]
        else:
            found = self._scope.sources.get(str(chain[0]))
            if found is None or len(chain) > 2:
                raise error_at(node, f"Unable to resolve field: {'.'.join(map(str, chain))}")
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
            is_named = not column.alias and name not in taken and last[name] == index
            listed.append(f"{column.sql} AS {schema.quote_any_name(name)}" if is_named else column.sql)
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
            if mode not in GROUP_MODES:
                raise HogQLError(f"GROUP BY {mode} is not supported")
            sql, hogql = f"{GROUP_MODES[mode]}({sql})", f"{GROUP_MODES[mode]}({hogql})"
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
            if node["order"] not in ("ASC", "DESC"):
                raise error_at(node, f"ORDER BY {node['order']} is not supported")
            printed.append((self.expression(node["expr"]), node["order"]))
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
                check_limit(node[key], word)
                printed = self.expression(node[key])
                sql, hogql = f"{sql} {word} {printed.sql}", f"{hogql} {word} {printed.hogql}"
                if key == "limit" and node.get("limit_with_ties"):
                    sql, hogql = f"{sql} WITH TIES", f"{hogql} WITH TIES"
        return sql, hogql

    # ----------------------------------------------------------------------------------------------------- WITH, FROM

    def _define_ctes(self, nodes: Any, inherited: dict[str, Cte]) -> dict[str, Cte]:
        if not nodes:
            return inherited
        ctes = dict(inherited)
        for node in nodes:
            if node["cte_type"] == "column":
                ctes[node["name"]] = Cte(node["expr"])
                continue
            if node["cte_type"] != "subquery":
                raise error_at(node, f"WITH {node['cte_type']} is not supported")
            expanded_before = self._expanded_ctes
            select = self._any_select(node["expr"], ctes)
            alias = self._new_alias()
            self._printed_ctes.append(f"{alias} AS ({select.sql})")
            ctes[node["name"]] = Cte(None, alias, select, self._expanded_ctes - expanded_before + 1)
        return ctes

    def _register_joins(self, node: Node | None) -> list[tuple[Node, str, str, Source]]:
        """Make the sources of FROM known; each comes back with the SQL and HogQL text of its table."""
        joins = []
        while node:
            if node.get("join_type") and node["join_type"] not in JOIN_TYPES:
                raise error_at(node, f"{node['join_type']} is not supported")
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
                raise error_at(node, f'Already have joined a table called "{name}". Can\'t redefine.')
            else:
                self._scope.sources[name] = source
            if node.get("alias"):
                hogql = f"{hogql} AS {schema.hogql_name(node['alias'])}"
            joins.append((node, sql, hogql, source))
            node = node.get("next_join")
        return joins

    def _source(self, node: Node) -> tuple[str, str, Source]:
        table, alias = node["table"], self._new_alias()
        if table["node"] in ("SelectQuery", "SelectSetQuery"):
            select = self._any_select(table, self._scope.ctes)
            return f"({select.sql})", f"({select.hogql})", Source(alias, columns=by_name(select, alias))
        if table["node"] != "Field":
            raise HogQLError(f"{table['node']} is not supported in FROM")
        name = table_name(table)
        cte = self._scope.ctes.get(name)
        if cte is not None and cte.select is not None:
            self._expanded_ctes += cte.weight
            if self._expanded_ctes > MAX_CTES:
                raise HogQLError("Query is too complex")
            return cte.alias, schema.hogql_name(name), Source(alias, columns=by_name(cte.select, alias))
        name = name.removeprefix("posthog.")
        if name == "numbers":
            return self._numbers(node, alias)
        found = schema.find_table(name, self._catalog) if name else None
        if found is None:
            shown = name or ".".join(map(str, table["chain"]))
            # Another table gives an answer to another question: only a slip of the pen is mended (`cohorts` is none).
            near = nearest(shown, [*schema.table_names(), "numbers"], 0.8)
            raise HogQLError(f"Unknown table `{shown}`.", fix=near)
        if node.get("table_args") is not None:
            raise HogQLError(f"Table '{name}' does not accept arguments")
        self._tables.add(name)
        if not found.physical:
            return self._information_schema(found), name, Source(alias, found)
        return f"{self._catalog.database}.{self._name(found.physical)}", name, Source(alias, found)

    def _numbers(self, node: Node, alias: str) -> tuple[str, str, Source]:
        arguments = node.get("table_args")
        if arguments is None:
            raise HogQLError("Table function 'numbers' requires arguments")
        if not arguments:
            raise HogQLError("Table function 'numbers' requires at least 1 argument")
        if len(arguments) > 2:
            raise HogQLError("Table function 'numbers' requires at most 2 arguments")
        counts = [int_constant(argument) for argument in arguments]
        if any(count is None or count < 0 for count in counts):
            raise HogQLError("Table function 'numbers' takes whole numbers only")
        text = f"numbers({', '.join(map(str, counts))})"
        number = Printed(f"{alias}.number", "number", "integer", nullable=False, name="number")
        return text, text, Source(alias, columns={"number": number})

    def _information_schema(self, table: schema.Table) -> str:
        """A table without storage: its rows, written into the query."""
        types = {"string": "Nullable(String)", "integer": "Nullable(Int64)"}
        structure = ", ".join(f"{name} {types[column.type]}" for name, column in table.columns.items())
        rows = schema.information_schema_rows(table.name.rsplit(".", 1)[1], self._catalog)
        printed = (f"({', '.join(hogql_constant(value) for value in row)})" for row in rows)
        return f"(SELECT * FROM values({schema.quote_literal(structure)}, {', '.join(printed)}))"

    def _from(self, joins: list[tuple[Node, str, str, Source]], constraints: list[tuple[str, str]]) -> tuple[str, str]:
        sql: list[str] = []
        hogql: list[str] = []
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
                raise error_at(node, "USING takes names of columns")
            columns = ", ".join(self._name(name["chain"][0]) for name in names)
            return f" USING ({columns})", f" USING ({columns})"
        if node["constraint_type"] != "ON":
            raise error_at(node, f"JOIN {node['constraint_type']} is not supported")
        printed = self.expression(node["expr"])
        return f" ON {printed.sql}", f" ON {printed.hogql}"

    def _link_joins(self, source: Source) -> Iterator[str]:
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
            physical = f"{self._catalog.database}.{self._name(target.table.physical)}"
            yield f"LEFT JOIN {physical} AS {target.alias} ON {condition}"
            yield from self._link_joins(target)

    def _array_join(self, node: Node) -> tuple[str, str]:
        if not node.get("array_join_op"):
            return "", ""
        if node["array_join_op"] not in ARRAY_JOINS:
            raise error_at(node, f"{node['array_join_op']} is not supported")
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
            return self._chain(chain, chain_text(chain))
        except UnknownName as error:
            near = nearest(error.name, error.known)
            error.fix = chain_text([near if part == error.name else part for part in chain]) if near else None
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
        raise UnknownName("Unable to resolve field", head, names)

    def _member(self, source: Source, parts: list[Any], text: str) -> Printed:
        """A column of a source, through its links, down into JSON."""
        name, rest = str(parts[0]), parts[1:]
        if source.table is None:
            if name not in source.columns:
                raise UnknownName("Unable to resolve field", name, source.columns)
            return self._descend(source.columns[name], rest, text)
        column = source.table.columns.get(name)
        if column is not None:
            return self._descend(self._column(source, column, source.table.owner), rest, text)
        link = source.table.links.get(name)
        if link is None:
            raise UnknownName("Field not found", name, source.names())
        if not rest:
            raise HogQLError(f"Can't select a table when a column is expected: {text}")
        if link.table is not None:
            return self._member(self._linked(source, name, link), rest, text)
        column = link.column(str(rest[0]))
        if column is None:
            raise UnknownName("Field not found", str(rest[0]), [c.name for c in link.columns])
        return self._descend(self._column(source, column, "person"), rest[1:], text)

    def _linked(self, source: Source, name: str, link: schema.Link) -> Source:
        # The project's name of a group type leads to the same rows as group_0.
        for known, target in source.links.values():
            if known is link:
                return target
        assert link.table is not None
        group = link.fixed[1] if link.fixed else None
        target = Source(self._new_alias(), schema.find_table(link.table, self._catalog), group=group)
        source.links[name] = (link, target)
        self._tables.add(link.table)
        return target

    def _column(self, source: Source, column: schema.Column, owner: str) -> Printed:
        sql = f"{source.alias}.{self._name(column.physical or column.name)}"
        if column.type == "json":
            is_events = source.table is not None and source.table.name == "events" and column.name == "properties"
            materialized = source.alias if is_events and not column.physical else ""
            json = Json(sql, (), owner, source.group, materialized)
            return Printed(sql, "", "json", nullable=False, name=column.name, json=json)
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
        if name.lower() in RESERVED:
            raise HogQLError(f'"{name}" cannot be an alias or identifier, as it\'s a reserved keyword')
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
        if isinstance(value, int) and abs(value) >= MAX_INTEGER:
            raise HogQLError(f"Number is too large: {len(str(value).lstrip('-'))} digits")
        text = hogql_constant(value)
        return Printed(text, text, CONSTANT_TYPES.get(type(value), "unknown"), nullable=value is None, constant=value)

    def _arithmetic(self, node: Node) -> Printed:
        name = ARITHMETIC.get(node["op"])
        if name is None:
            raise HogQLError(f"The operator {node['op']} is not supported")
        return self._call({"name": name, "args": [node["left"], node["right"]]})

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
        is_plain = self._in_join or left.on_time or right.on_time or not (left.nullable or right.nullable)
        sql = comparison.function.format(left.sql, right.sql)
        if not is_plain:
            sql = with_null_rules(comparison, left, right)
        return Printed(sql, hogql, "boolean", nullable=is_plain and (left.nullable or right.nullable))

    def _notice_event(self, op: str, left: Printed, right: Printed, node: Node) -> None:
        """Note an event name that the project does not know."""
        names = self._catalog.event_names
        if op != "==" or left.name != "event" or not isinstance(right.constant, str) or not names:
            return
        if right.constant not in names:
            near = nearest(right.constant, names)
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
        text = hogql_constant(wanted)
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
                f"SELECT {alias}.person_id FROM {self._catalog.database}.cohort_people_newest AS {alias} "
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
        return tuple_of(self._all(node.get("exprs")))

    def _dict(self, node: Node) -> Printed:
        parts = [self._text("__hx_tag"), self._text("__hx_obj")]
        for key, value in node.get("items") or ():
            parts.extend((self.expression(key), self.expression(value)))
        return tuple_of(parts)

    def _tag(self, node: Node) -> Printed:
        kind = node["kind"]
        if kind not in TAGS:
            raise HogQLError(f"Unknown tag <{kind}>", fix=nearest(kind, TAGS))
        parts = [self._text("__hx_tag"), self._text(kind)]
        for attribute in node.get("attributes") or ():
            value = attribute["value"]
            printed = tuple_of(self._all(value)) if isinstance(value, list) else self.expression(value)
            parts.extend((self._text(attribute["name"]), printed))
        return tuple_of(parts)

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
        wanted = str(node["type_name"])
        name = CASTS.get(wanted.lower())
        if name is None:
            raise HogQLError(f"Unsupported type for a cast: {wanted}", fix=nearest(wanted, CASTS))
        printed = self._call({"name": name, "args": [node["expr"]]})
        inner = printed.hogql[len(name) + 1 : -1]
        return replace(printed, hogql=f"CAST({inner} AS {wanted})")

    # ---------------------------------------------------------------------------------------------------------- calls

    def _call(self, node: Node) -> Printed:
        name, nodes = node["name"], node.get("args") or []
        if name in ("and", "or", "not") or name.lower() == "not":
            expect(name, "Function", "argument", len(nodes), *((1, 1) if name.lower() == "not" else (2, None)))
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
        function = find_function(name, node)
        params = node.get("params")
        is_star = function.name == "count" and len(nodes) == 1 and nodes[0].get("chain") == ["*"]
        nodes = [] if is_star else nodes
        check_arity(function, name, len(nodes), params)
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
            raise HogQLError(f"Aggregation '{name}' cannot be nested inside another aggregation '{self._aggregation}'.")
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
        hogql = f"{name}{f'({hogql_list(params)})' if params else ''}({distinct}{shown})"
        hogql += f" FILTER (WHERE {condition.hogql})" if condition else ""
        kind, nullable = result(function, arguments)
        return Printed(sql, hogql, kind, nullable)

    def _scalar_call(self, function: functions.Function, name: str, arguments: list[Printed]) -> Printed:
        hogql = f"{name}({hogql_list(arguments)})"
        sql_name, texts = function.sql, [a.sql for a in arguments]
        kind, nullable = result(function, arguments)
        if function.name == "arrayReduce":
            check_array_reduce(name, arguments[0])
        elif function.name == "concat":
            texts = [concat_part(a) for a in arguments]
        elif function.name == "toDecimal":
            texts = [texts[0], schema.quote_literal(f"Decimal64({scale(arguments[1])})")]
        elif sql_name == "toDateOrNull" and arguments[0].type != "string":
            sql_name, nullable = "toDate", arguments[0].nullable
        elif function.name == "toStartOfWeek" and len(texts) == 1:
            texts.append("3" if self._catalog.week_start == 1 else "0")
        elif function.name in ("dateAdd", "dateSub") and len(texts) == 3:
            unit = functions.INTERVALS.get(str(arguments[0].constant).lower())
            if unit is None:
                raise HogQLError(f"Unknown unit of time in function '{name}'")
            sql_name = "plus" if function.name == "dateAdd" else "minus"
            texts, kind = [texts[2], f"{unit}({texts[1]})"], arguments[2].type
        elif function.name in functions.TIMEZONE_AWARE:
            sql_name, texts = self._in_timezone(function, arguments)
            nullable = arguments[0].nullable if sql_name in ("toDateTime", "toDateTime64") else nullable
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
            name = to_datetime(arguments)
        takes_precision = name in PRECISION or name.startswith("parseDateTime64")
        if takes_precision and len(texts) == (1 if name == "now64" else 2):
            texts.insert(len(texts) - 1, "6")
        return name, texts

    # ------------------------------------------------------------------------------------------------ window functions

    def _window_function(self, node: Node) -> Printed:
        name = node["name"]
        # With f(a)(b) OVER ..., the parser gives the first brackets as `exprs` and the second as `args`.
        params, nodes = (node.get("exprs"), node["args"]) if node.get("args") else ([], node.get("exprs") or [])
        function = find_function(name, node)
        if function.name == "count" and len(nodes) == 1 and nodes[0].get("chain") == ["*"]:
            nodes = []
        check_arity(function, name, len(nodes), params)
        if (not function.aggregate and function.name not in functions.WINDOW_ONLY) or "{" in function.sql:
            raise HogQLError(f"Function '{name}' cannot be used as a window function")
        with self._state(aggregation=""):
            arguments, printed_params = self._all(nodes), self._all(params)
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
            nullable,
        )

    def _over(self, node: Node, *, full_frame: bool) -> tuple[str, str]:
        name = node.get("over_identifier")
        if name:
            if name not in self._scope.windows:
                raise HogQLError(f"Unable to resolve window: {name}", fix=nearest(name, self._scope.windows))
            return self._name(name), schema.hogql_name(name)
        sql, hogql = self._window(node.get("over_expr") or {}, full_frame=full_frame)
        return f"({sql})", f"({hogql})"

    def _window(self, node: Node, *, full_frame: bool = False) -> tuple[str, str]:
        sql, hogql = [], []
        if node.get("partition_by"):
            parts = self._all(node["partition_by"])
            sql.append(f"PARTITION BY {', '.join(p.sql for p in parts)}")
            hogql.append(f"PARTITION BY {hogql_list(parts)}")
        for order_sql, order_hogql in self._ordering(node.get("order_by")):
            sql.append(order_sql)
            hogql.append(order_hogql)
        bounds = frame(node)
        if bounds:
            sql.append(bounds)
            hogql.append(bounds)
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


def _prefixes() -> Iterator[str]:
    """Beginnings for engine aliases; one that is not in the text can meet no name of the user's."""
    yield "t__"
    number = 0
    while True:
        number += 1
        yield f"t{number}__"


def _with_text(nodes: list[Node] | None, ctes: Mapping[str, Cte]) -> str:
    """WITH as HogQL; of a named expression, what is known of it is its name."""
    selects = ((node["name"], ctes[node["name"]].select) for node in nodes or ())
    parts = [f"{schema.hogql_name(name)} AS ({select.hogql})" for name, select in selects if select]
    return f"WITH {', '.join(parts)} " if parts else ""
