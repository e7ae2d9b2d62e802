"""Everything that HogQL can name after FROM, and how a client finds it out.

Two ways lead to the same facts: the answer to a ``DatabaseSchemaQuery`` (`database_schema`), and the tables of
``system.information_schema``, whose rows are printed into the query like those of every system table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from . import system_tables, tables
from .schema import Catalog, Column, Link, Table, hogql_name
from .tables import columns

Row = tuple[Any, ...]

_PREFIX = "system.information_schema."
_TYPE_NAMES = {
    "string": "String",
    "integer": "Integer",
    "float": "Float",
    "boolean": "Boolean",
    "datetime": "DateTime",
    "date": "Date",
    "uuid": "UUID",
    "json": "JSON",
    "array": "Array",
}
_TYPES = {
    "String": "Text",
    "Integer": "Whole numbers",
    "Float": "Numbers with a fraction",
    "Decimal": "Numbers with a fixed number of decimals",
    "Boolean": "True or false",
    "Date": "A day",
    "DateTime": "A point in time",
    "UUID": "Universally unique identifier, shown as text",
    "JSON": "A JSON document; read a key with field.key",
    "Array": "A list of values",
    "Struct": "A record of named fields",
    "Expression": "Computed from other columns when it is read",
    "VirtualTable": "Columns of the same row under a common name",
    "Unknown": "Anything else",
}


# ------------------------------------------------------------------------------------------- the information schema


def _text(name: str, description: str, *, nullable: bool = False) -> Column:
    return Column(name, "string", description, nullable)


def _namespace(table: Table) -> tuple[str, str]:
    """Schema and type of a table."""
    if table.name.startswith(_PREFIX):
        return "information_schema", "information_schema"
    return ("system", "system") if table.name.startswith("system.") else ("public", "posthog")


def _table_rows(catalog: Catalog) -> Iterator[Row]:
    for table in _shown_tables(catalog):
        schema, kind = _namespace(table)
        yield (table.name, schema, table.name, kind, table.description, None, None)


def _column_rows(catalog: Catalog) -> Iterator[Row]:
    for table in _shown_tables(catalog):
        for position, (name, column) in enumerate(_all_columns(table), start=1):
            if column is None:
                facts: Row = ("VirtualTable", False, False, "virtual_table", None)
            else:
                kind = "expression" if column.computed or column.expression else "column"
                is_array = column.type == "array"
                facts = (_TYPE_NAMES[column.type], column.nullable, is_array, kind, column.description)
            yield (_namespace(table)[0], table.name, name, position, *facts, None, None, None)


def _all_columns(table: Table) -> Iterator[tuple[str, Column | None]]:
    """The columns of a table with their names, and None for a virtual table before its own columns."""
    for column in _shown_columns(table):
        yield column.name, column
    for name, link in table.links.items():
        if link.columns:
            yield name, None
            yield from ((f"{name}.{column.name}", column) for column in link.columns)


def _relationship_rows(catalog: Catalog) -> Iterator[Row]:
    for table in _shown_tables(catalog):
        for name, link in table.links.items():
            if link.chain:
                found: Row = (name, table.name, ".".join(link.chain), "field_traverser")
            elif link.table is not None:
                found = (link.source, link.table, link.target, "lazy_join")
            else:
                continue
            yield (table.name, *found, None, None, None, None, None)


def _nothing(catalog: Catalog) -> tuple[Row, ...]:
    return ()


INFORMATION_SCHEMA: tuple[Table, ...] = (
    Table(
        f"{_PREFIX}tables",
        "",
        columns(
            _text("table_catalog", "The same as table_name"),
            _text("table_schema", "public, system or information_schema"),
            _text("table_name", "Name after FROM"),
            _text("table_type", "posthog, system or information_schema"),
            _text("description", "What a row is", nullable=True),
            Column("row_count", "integer", "Number of rows, for tables of a data warehouse alone", nullable=True),
            _text("certification", "certified, deprecated or NULL", nullable=True),
        ),
        "The tables that HogQL can name",
        rows=_table_rows,
    ),
    Table(
        f"{_PREFIX}columns",
        "",
        columns(
            _text("table_schema", "Schema of the table"),
            _text("table_name", "The table"),
            _text("column_name", "The column; one of a virtual table has that table's name before a dot"),
            Column("ordinal_position", "integer", "Place in the table, from 1"),
            _text("data_type", "One of data_types"),
            Column("is_nullable", "boolean", "Whether it can be NULL"),
            Column("is_array", "boolean", "Whether it is a list"),
            _text("field_kind", "column, expression (computed when it is read) or virtual_table"),
            _text("description", "What it holds", nullable=True),
            Column("null_fraction", "float", "Share of NULL, for tables of a data warehouse alone", nullable=True),
            _text("min_value", "Least value, for tables of a data warehouse alone", nullable=True),
            _text("max_value", "Greatest value, for tables of a data warehouse alone", nullable=True),
        ),
        "The columns of these tables",
        rows=_column_rows,
    ),
    Table(
        f"{_PREFIX}relationships",
        "",
        columns(
            _text("source_table", "Table that has the link"),
            _text("source_column", "Column that is matched, or the name of the path"),
            _text("target_table", "Table that it leads to"),
            _text("target_column", "Column there, or the path that the name stands for", nullable=True),
            _text("relationship_kind", "lazy_join or field_traverser"),
            _text("via", "PostHog's name of the join's code", nullable=True),
            Column("confidence", "float", "How sure a proposed join is", nullable=True),
            _text("reasoning", "Why a join was proposed", nullable=True),
            _text("id", "Id of the proposal", nullable=True),
            _text("status", "proposed, accepted or NULL", nullable=True),
        ),
        "The links between these tables",
        rows=_relationship_rows,
    ),
    Table(
        f"{_PREFIX}data_types",
        "",
        columns(_text("type_name", "Name of the type"), _text("description", "What its values are")),
        "The types of columns",
        rows=lambda catalog: _TYPES.items(),
    ),
    Table(
        f"{_PREFIX}metrics",
        "",
        columns(
            _text("id", "UUID of the metric"),
            _text("name", "Its name"),
            _text("display_name", "Name for people", nullable=True),
            _text("description", "What it means"),
            _text("unit", "Unit of the result", nullable=True),
            _text("status", "proposed or approved"),
            Column("is_drifted", "boolean", "Whether it differs from the insight it was made of"),
            _text("definition", "The query as JSON", nullable=True),
            _text("definition_kind", "Kind of the query", nullable=True),
            _text("owner", "Who answers for it", nullable=True),
            Column("confidence", "float", "How sure a proposed metric is", nullable=True),
            _text("reasoning", "Why it was proposed", nullable=True),
            _text("source_insight_short_id", "Insight it was made of", nullable=True),
            _text("last_run_at", "When it last ran", nullable=True),
            _text("created_at", "When it was created"),
        ),
        "The measures that the project has agreed on",
        rows=_nothing,
    ),
    Table(
        f"{_PREFIX}certifications",
        "",
        columns(
            _text("id", "UUID of the certification"),
            _text("target_name", "Table or view"),
            _text("target_kind", "table or view"),
            _text("status", "proposed, certified or deprecated"),
            _text("notes", "Why", nullable=True),
            _text("certified_by", "Who certified it", nullable=True),
            _text("certified_at", "When that was", nullable=True),
            _text("created_at", "When it was proposed"),
        ),
        "Which tables of a data warehouse can be trusted",
        rows=_nothing,
    ),
)

# -------------------------------------------------------------------------------------------------------- the tables

TABLES: Mapping[str, Table] = {
    **tables.TABLES,
    **system_tables.TABLES,
    **{table.name: table for table in INFORMATION_SCHEMA},
}
"""Every table that ``FROM`` takes, except ``numbers``, by its HogQL name."""

SYSTEM_SCOPES = frozenset(table.access_scope for table in TABLES.values() if table.access_scope)
"""What a key needs, with ``:read`` after it, for one or another of the system tables."""

MISSING = tables.MISSING | system_tables.MISSING
"""PostHog's tables that the embedded server does not have."""


def find_table(name: str, catalog: Catalog) -> Table | None:
    """The table of a HogQL name in one project; None when there is none.

    Every table of data has the project's number as ``team_id``, left out of ``*``, and ``events`` has the project's
    own names for its groups, where nothing else has that name.
    """
    table = TABLES.get(name)
    if table is None or name.startswith(_PREFIX):
        return table
    team = Column("team_id", "integer", "Number of the project", hidden=True, expression=f"{catalog.team_id:d}")
    links = dict(table.links)
    if name == "events":
        for index, group in enumerate(catalog.group_types[:5]):
            if group not in table.columns and group not in links:
                links[group] = Link(chain=(f"group_{index}",))
    return replace(table, columns={**table.columns, team.name: team}, links=links)


def _shown_tables(catalog: Catalog) -> Iterator[Table]:
    """The tables that discovery lists."""
    for name in TABLES:
        table = find_table(name, catalog)
        if table is not None and not table.hidden and table.access_scope not in catalog.denied:
            yield table


def _shown_columns(table: Table) -> Iterator[Column]:
    """The columns that discovery lists: PostHog leaves out the number of the project."""
    return (column for column in table.columns.values() if column.name != "team_id")


# -------------------------------------------------------------------------------------------------- DatabaseSchemaQuery

_FIELD_TYPES = {"uuid": "string"}


def database_schema(catalog: Catalog) -> dict[str, Any]:
    """The body of PostHog's answer to a ``DatabaseSchemaQuery``."""
    listed = {
        table.name: {
            "id": table.name,
            "name": table.name,
            "type": "system" if table.name.startswith("system.") else "posthog",
            "row_count": None,
            "fields": {name: _schema_field(name, facts) for name, facts in _fields(table, catalog)},
        }
        for table in _shown_tables(catalog)
    }
    return {"tables": listed, "joins": []}


def _schema_field(name: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": name, "hogql_value": hogql_name(name), "schema_valid": True, **facts}


def _fields(table: Table, catalog: Catalog) -> Iterator[tuple[str, dict[str, Any]]]:
    for column in _shown_columns(table):
        yield column.name, {"type": _FIELD_TYPES.get(column.type, column.type)}
    for name, link in table.links.items():
        if link.chain:
            yield name, {"type": "field_traverser", "chain": list(link.chain)}
        elif link.table is None:
            names = [column.name for column in link.columns]
            yield name, {"type": "virtual_table", "table": table.name, "fields": names}
        else:
            target = find_table(link.table, catalog)
            names = [*target.columns, *target.links] if target is not None else []
            yield name, {"type": "lazy_table", "table": link.table, "fields": names, "id": name}
