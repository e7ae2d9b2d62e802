"""Names in expressions: what ``event``, ``e.properties.a.b``, ``person.created_at`` or ``x`` means here, as SQL."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from . import database, parser, schema, storage
from .context import Context
from .parser import HogQLError, Node
from .printed import Json, Printed, Scope, Source, UnknownName, nearest
from .tree import chain_text, check


class Fields:
    """Resolves the names of one translation.

    Args:
        context: Its state.
    """

    def __init__(self, context: Context) -> None:
        self._context = context

    def field(self, node: Node) -> Printed:
        """A node ``Field``."""
        chain: list[Any] = node["chain"]
        try:
            return self._chain(chain, chain_text(chain))
        except UnknownName as error:
            near = nearest(error.name, error.known)
            error.fix = chain_text([near if part == error.name else part for part in chain]) if near else None
            raise

    def member(self, source: Source, parts: list[Any], text: str) -> Printed:
        """A column of a source, through its links, down into JSON.

        Args:
            source: Where to look.
            parts: The chain from there on.
            text: The chain as HogQL.
        """
        name, rest = str(parts[0]), parts[1:]
        if source.table is None:
            if name not in source.columns:
                raise UnknownName("Unable to resolve field", name, source.columns)
            return self._descend(source.columns[name], rest, text)
        column = source.column(name)
        if column is not None:
            return self._descend(self._column(source, column, source.table.owner), rest, text)
        link = source.table.links.get(name)
        if name in source.table.missing:
            raise HogQLError(f"The embedded server does not have the field {source.table.name}.{name}.")
        if link is None:
            raise UnknownName("Field not found", name, source.names())
        if link.chain:
            return self.member(source, [*link.chain, *rest], text)
        if not rest:
            raise HogQLError(f"Can't select a table when a column is expected: {text}")
        if link.table is not None:
            return self.member(self._linked(source, name, link), rest, text)
        column = link.column(str(rest[0]))
        if column is None:
            raise UnknownName("Field not found", str(rest[0]), [c.name for c in link.columns])
        return self._descend(self._column(source, column, "person", name), rest[1:], text)

    def property(self, printed: Printed, part: Any) -> Printed:
        """One step into JSON."""
        if printed.json is None:
            raise HogQLError(f'Can not access property "{part}" on field "{printed.column_name}".')
        if part == 0 and not isinstance(part, str):
            raise HogQLError("SQL indexes start from one, not from zero. E.g: array[1]")
        json = replace(printed.json, path=(*printed.json.path, part))
        sql = self._stored(json) or storage.property_sql(json.column, json.path)
        kind = "string"
        if len(json.path) == 1 and isinstance(part, str) and json.owner and not self._context.raw_properties:
            sql, kind = self._typed(sql, self._context.catalog.property_type(json.owner, part, json.group))
        return Printed(sql, "", kind, name="__".join(map(str, json.path)), json=json)

    @staticmethod
    def _key_columns(source: Source, column: str) -> tuple[str, str] | None:
        """Where columns for the keys of a JSON column may be: the engine's alias, and the column's general name."""
        assert source.table is not None
        name = column if source.table.name == "events" else f"{source.table.name}.{column}"
        return (source.alias, name) if name in storage.JSON_COLUMNS else None

    def _stored(self, json: Json) -> str | None:
        """The column that holds a property beside the JSON, if there is one."""
        if json.stored is None or len(json.path) != 1:
            return None
        alias, column = json.stored
        key = (column, str(json.path[0]))
        self._context.properties.add(key)
        name = self._context.catalog.materialized.get(key)
        return None if name is None else f"{alias}.{schema.quote_any_name(name)}"

    def _chain(self, chain: list[Any], text: str) -> Printed:
        head, rest = str(chain[0]), chain[1:]
        scope = self._context.scope
        if head in self._context.lambda_arguments:
            return self._descend(Printed(self._context.name(head), head), rest, text)
        if scope.inside is not None:
            source, link = scope.inside
            return self.member(source, [link, *chain] if link else chain, text)
        if rest and head in scope.sources:
            return self.member(scope.sources[head], rest, text)
        if head in scope.aliases:
            return self._descend(scope.aliases[head], rest, text)
        holders = [source for source in scope.all_sources() if source.has(head)]
        if len(holders) > 1:
            raise HogQLError(f"Ambiguous query. Found multiple sources for field: {head}")
        if holders:
            return self.member(holders[0], chain, text)
        cte = scope.ctes.get(head)
        if cte is not None:
            if cte.expression is None:
                raise HogQLError(f"Cannot use table CTE {head} as a value. Use it in a FROM clause instead.")
            printed = self._context.expression(cte.expression)
            return self._descend(replace(printed, hogql=schema.hogql_name(head), name=head, alias=""), rest, text)
        names = [*scope.aliases, *scope.sources]
        for source in scope.all_sources():
            names.extend(source.names())
        raise UnknownName("Unable to resolve field", head, names)

    def _linked(self, source: Source, name: str, link: schema.Link) -> Source:
        # The project's name of a group type leads to the same rows as group_0.
        for known, target in source.links.values():
            if known is link:
                return target
        assert link.table is not None
        group = link.fixed[1] if link.fixed else None
        alias = self._context.new_alias(f"{self._context.owners[source.alias]}.{name}")
        target = Source(alias, database.find_table(link.table, self._context.catalog), group=group)
        source.links[name] = (link, target)
        self._context.tables.add(link.table)
        return target

    def _column(self, source: Source, column: schema.Column, owner: str, link: str = "") -> Printed:
        if column.expression:
            return self._computed(source, column, link)
        assert source.table is not None
        source.used.add(column.physical or column.name)
        sql = f"{source.alias}.{self._context.name(column.physical or column.name)}"
        is_events = source.table.name == "events"
        if column.type == "json":
            stored = self._key_columns(source, column.physical or column.name)
            json = Json(sql, (), owner, source.group, stored)
            return Printed(sql, "", "json", nullable=column.nullable, name=column.name, json=json)
        if column.type == "datetime":
            if self._context.catalog.timezone != "UTC":
                sql = f"toTimeZone({sql}, {schema.quote_literal(self._context.catalog.timezone)})"
            is_time = is_events and column.name == "timestamp"
            return Printed(sql, "", "datetime", column.nullable, name=column.name, on_time=is_time)
        return Printed(sql, "", column.type, nullable=column.nullable, name=column.name)

    def _computed(self, source: Source, column: schema.Column, link: str) -> Printed:
        """A column without storage: its expression, whose names are those of its table or link."""
        tree = parser.parse_expression(column.expression)
        check(tree, is_api_query=True)
        with self._context.state(scope=Scope({}, inside=(source, link)), lambda_arguments=[]):
            printed = self._context.expression(tree)
        return Printed(f"({printed.sql})", "", column.type, nullable=column.nullable, name=column.name)

    def _descend(self, printed: Printed, parts: list[Any], text: str) -> Printed:
        """Follow the rest of a chain into JSON."""
        for part in parts:
            printed = self.property(printed, part)
        return replace(printed, hogql=text, alias="")

    def _typed(self, sql: str, property_type: str | None) -> tuple[str, str]:
        """A property cast to the type of its definition, as PostHog casts it."""
        if property_type == "Numeric":
            return f"accurateCastOrNull({sql}, 'Float64')", "float"
        if property_type == "Boolean":
            return f"toBool(transform(toString({sql}), ['true', 'false'], [1, 0], NULL))", "boolean"
        if property_type == "DateTime":
            zone = schema.quote_literal(self._context.catalog.timezone)
            return f"parseDateTime64BestEffortOrNull({sql}, 6, {zone})", "datetime"
        return sql, "string"
