"""HogQL to ClickHouse SQL: PostHog's meaning on the embedded engine's tables.

`translate` parses a query with PostHog's parser, fills in its placeholders, checks every node against an allow-list,
and prints it again as SQL that can only read: names are qualified with the database, functions and tables come from
`functions.py` and `database.py`, text goes through one escape function for literals and one for names. What is not
listed is refused by name.

The engine must add `storage.QUERY_SETTINGS` to each statement: they make ``IN`` treat NULL as PostHog does, and forbid
the engine itself everything but reading.

How it works: one pass over the tree. Each SELECT has a `Scope` (tables, aliases, lambda arguments). Each expression
becomes a `Printed`: its SQL, its HogQL text (PostHog names columns by it), a coarse type and whether it can be NULL.
Tables get engine aliases that occur nowhere in the query, so that no name of the user can capture one of ours.

Where to look: `tree.py` (what a query may consist of), `selects.py` (clauses), `sources.py` (FROM, WITH), `fields.py`
(names), `expressions.py` (operators), `calls.py` (functions), `windows.py` (ORDER BY, OVER), `macros.py` (PostHog's own
functions), and `context.py`, which they share.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from . import database, parser
from .context import Context
from .expressions import Expressions
from .fields import Fields
from .parser import HogQLError, Node
from .placeholders import Filler
from .printed import Printed
from .schema import Catalog
from .selects import Selects
from .tree import DEFAULT_LIMIT, MAX_LIMIT, check, error_at, int_constant, table_name, top_limit, walk
from .windows import Windows

__all__ = ["HogQLError", "Translation", "Translator", "metadata", "translate"]

MAX_SQL_BYTES = 1_048_576
"""Longest ClickHouse statement; PostHog's own ``max_query_size``."""


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
        owners: What the query calls the things behind the engine's names in the statement.
        properties: Properties that it reads: JSON column (of `storage.JSON_COLUMNS`) and key.
    """

    sql: str
    columns: tuple[str, ...]
    hogql: str
    tables: tuple[str, ...]
    paginated: bool = False
    limit: int | None = None
    warnings: tuple[dict[str, Any], ...] = ()
    owners: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)
    properties: frozenset[tuple[str, str]] = frozenset()

    def in_own_words(self, message: str) -> str:
        """A message of the engine with the names of the query instead of the engine's.

        The statement that ClickHouse quotes ("In scope SELECT ...", "In query ...") is left out: it is none that the
        user wrote.
        """
        message = re.split(r"[:.]? In (?:scope|query) ", message)[0]

        def name(match: re.Match[str]) -> str:
            owner = self.owners.get(match[1])
            if owner is None:
                return match[0]
            if owner or not match[2]:
                # The database has the only name of ours that can be a word of the user's as well.
                return (owner or ("a sub-query" if "__" in match[1] else match[1])) + match[2]
            return ""

        return re.sub(r"`?(\w+)`?(\.?)", name, message).strip()


def translate(
    query: str,
    catalog: Catalog,
    *,
    values: Mapping[str, Any] | None = None,
    filters: Mapping[str, Any] | None = None,
    variables: Mapping[str, Any] | None = None,
    is_api_query: bool = True,
    default_limit: int = DEFAULT_LIMIT,
) -> Translation:
    """Turn a HogQL query into ClickHouse SQL.

    Args:
        query: The HogQL text.
        catalog: What the project has.
        values: For ``{name}`` placeholders.
        filters: For ``{filters}``: PostHog's ``HogQLFilters``.
        variables: For ``{variables.name}``: PostHog's ``HogQLVariable`` objects by id.
        is_api_query: Whether a personal API key asks; then OFFSET is refused.
        default_limit: Rows of a SELECT without LIMIT, at most 50,000.

    Returns:
        The statement and what the server must know about it.

    Raises:
        HogQLError: The query is refused; the message is PostHog's where PostHog has one.
    """
    try:
        tree = parser.parse_select(query)
        tree = Filler(values, filters, variables, catalog).fill(tree)
        check(tree, is_api_query=is_api_query)
        translation = Translator(catalog, query).run(tree, default_limit)
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
    return tuple(sorted(named & set(database.TABLES)))


class Translator:
    """Prints one query; `run` is the way in.

    Args:
        catalog: What the project has.
        text: The query, so that engine aliases can avoid every name in it.
    """

    def __init__(self, catalog: Catalog, text: str) -> None:
        self._context = Context(catalog, text)
        fields, windows = Fields(self._context), Windows(self._context)
        self._selects = Selects(self._context, fields, windows)
        self._context.sub_query = self._selects.sub_query
        self._context.expression = Expressions(self._context, fields, windows, self._spread).print

    def run(self, tree: Node, default_limit: int = DEFAULT_LIMIT) -> Translation:
        """Print a checked tree; a single SELECT without LIMIT gets the default and one row more."""
        paginated, limit = False, None
        if tree["node"] == "SelectQuery":
            if not tree.get("limit_percent"):
                paginated = tree.get("limit") is None
                limit = default_limit if paginated else int_constant(tree["limit"])
                tree = {**tree, "limit": top_limit(tree.get("limit"), default_limit + 1)}
            select = self._selects.select(tree, {}, top=True)
        else:
            select = self._selects.set_query(tree, {}, top=True)
        context = self._context
        with_clause = f"WITH {', '.join(context.printed_ctes)} " if context.printed_ctes else ""
        return Translation(
            with_clause + select.sql,
            tuple(column.column_name for column in select.columns),
            select.hogql,
            tuple(sorted(context.tables)),
            paginated,
            None if limit is None else min(limit, MAX_LIMIT),
            tuple(context.warnings),
            {**context.owners, context.catalog.database: ""},
            frozenset(context.properties),
        )

    def _spread(self, node: Node) -> list[Printed]:
        """The columns of ``*COLUMNS(...)`` in the arguments of a call."""
        star = self._selects.star(node["expr"])
        if star is None:
            raise error_at(node, "Only COLUMNS(...) can be spread with *")
        return star[0]
