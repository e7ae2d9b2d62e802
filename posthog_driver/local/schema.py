"""The words of the embedded PostHog's schema: SQL atoms, what is known of a project, tables and their columns.

Text becomes SQL or HogQL through `quote_literal`, `quote_name` and `hogql_name` alone. `Catalog` is all that a
translation knows of one project. `Table`, `Column` and `Link` say what HogQL can name; the tables themselves are in
`tables.py` and `system_tables.py`, found through `database.py`, and stored as `storage.py` says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

DATABASE = "posthog"
"""The engine's database of the first project."""


# ------------------------------------------------------------------------------------------------ printing of SQL atoms

_ESCAPES = {
    "\\": "\\\\",
    "'": "\\'",
    "\b": "\\b",
    "\f": "\\f",
    "\r": "\\r",
    "\n": "\\n",
    "\t": "\\t",
    "\0": "\\0",
    "\a": "\\a",
    "\v": "\\v",
}


def quote_literal(text: str) -> str:
    """Print a text as a ClickHouse string literal; the only place where text becomes SQL."""
    return "'" + "".join(_ESCAPES.get(c, c) for c in text) + "'"


def quote_name(name: str) -> str:
    """Print a name as a ClickHouse identifier, always quoted.

    Raises:
        ValueError: The name holds ``%``, which PostHog forbids in identifiers.
    """
    if "%" in name:
        raise ValueError(f'The HogQL identifier "{name}" is not permitted as it contains the "%" character')
    return quote_any_name(name)


def quote_any_name(name: str) -> str:
    """The same for a name that the translator made itself, such as the text of an expression with a ``%`` in it."""
    return "`" + "".join("\\`" if c == "`" else c if c == "'" else _ESCAPES.get(c, c) for c in name) + "`"


_WORDS = """
catch distinct except false finally fn fun inf infinity intersect let materialized nan not null throw true try while
within
"""
_KEYWORDS = frozenset(_WORDS.split())


def hogql_name(name: str) -> str:
    """A name as HogQL text: plain where that parses, else in backticks (a backtick inside is doubled)."""
    plain = name.replace("_", "a").replace("$", "a")
    if plain.isascii() and plain.isalnum() and not name[0].isdigit() and name.lower() not in _KEYWORDS:
        return name
    return "`" + "".join("``" if c == "`" else c if c == "'" else _ESCAPES.get(c, c) for c in name) + "`"


# --------------------------------------------------------------------------------------------------------- the catalog


@dataclass(frozen=True)
class PropertyDefinition:
    """A property that the project has seen, as PostHog's property definitions list it.

    Attributes:
        name: The key inside ``properties``.
        type: What carries it: ``event``, ``person``, ``session`` or ``group``.
        property_type: ``String``, ``Numeric``, ``Boolean``, ``DateTime``, ``Duration`` or None when unknown.
        description: Free text.
        group_type_index: Which group type has it (0 to 4), for ``group`` only.
    """

    name: str
    type: str
    property_type: str | None
    description: str = ""
    group_type_index: int | None = None


@dataclass(frozen=True)
class Cohort:
    """A cohort for ``IN COHORT``.

    Attributes:
        id: Its number.
        name: Its name, also usable in ``IN COHORT 'name'``.
        condition: A HogQL condition on the ``persons`` table that its members fulfil; None for a static cohort, whose
            members are the rows of ``posthog.cohort_people``.
    """

    id: int
    name: str
    condition: str | None = None


@dataclass(frozen=True)
class Action:
    """An action, for ``matchesAction`` and the product questions.

    Attributes:
        id: Its number.
        name: Its name, also usable in ``matchesAction('name')``.
        steps: PostHog's ``ActionStep`` objects; an event matches the action when it matches one of them.
    """

    id: int
    name: str
    steps: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class Catalog:
    """What the translator knows of one project.

    Attributes:
        property_definitions: Types of properties, and the names for discovery.
        event_names: Known events.
        group_types: Names of the group types; the position is the index.
        timezone: The project's time zone (IANA name); datetimes are shown and read in it.
        week_start: First day of the week, 0 is Sunday and 1 is Monday.
        cohorts: The cohorts ``IN COHORT`` may name.
        actions: The actions ``matchesAction`` may name.
        test_account_filters: The project's property filters that leave out internal users.
        database: The engine's database that holds the project.
        team_id: The project's number.
        denied: Access scopes (``"insight"``) whose ``system.*`` tables the caller's key may not read.
        entities: The project's REST objects by kind (``"feature_flags"``), for the ``system.*`` tables.
        materialized: Columns that hold one property, by JSON column (of `storage.JSON_COLUMNS`) and key.
    """

    property_definitions: tuple[PropertyDefinition, ...] = ()
    event_names: tuple[str, ...] = ()
    group_types: tuple[str, ...] = ()
    timezone: str = "UTC"
    week_start: int = 0
    cohorts: tuple[Cohort, ...] = ()
    actions: tuple[Action, ...] = ()
    test_account_filters: tuple[Mapping[str, Any], ...] = ()
    database: str = DATABASE
    team_id: int = 1
    denied: frozenset[str] = frozenset()
    entities: Mapping[str, tuple[Mapping[str, Any], ...]] = field(
        default_factory=dict, repr=False, compare=False, hash=False
    )
    materialized: Mapping[tuple[str, str], str] = field(default_factory=dict, repr=False, compare=False, hash=False)
    _types: dict[tuple[str, str, int | None], str] = field(init=False, repr=False, compare=False, hash=False)

    def __post_init__(self) -> None:
        types = {
            (d.type, d.name, d.group_type_index): d.property_type
            for d in self.property_definitions
            if d.property_type is not None
        }
        object.__setattr__(self, "_types", types)

    def property_type(self, owner: str, name: str, group_type_index: int | None = None) -> str | None:
        """The defined type of a property, or None."""
        return self._types.get((owner, name, group_type_index))


# ------------------------------------------------------------------------------------------------- what HogQL can name


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        name: As HogQL names it.
        type: Coarse type: ``string, integer, float, boolean, datetime, date, uuid, json`` or ``array``.
        nullable: Whether it can be NULL.
        physical: The name of the stored column when it differs.
        hidden: Left out of ``*``.
        description: What it holds.
        expression: HogQL text in the scope of the table, for a column that is computed where it is read.
        computed: Whether PostHog computes it from others where it is read; it may be stored here.
    """

    name: str
    type: str
    description: str = ""
    nullable: bool = False
    physical: str = ""
    hidden: bool = False
    expression: str = ""
    computed: bool = False


@dataclass(frozen=True)
class Link:
    """A name that leads to another table: ``session`` on events, ``pdi`` on persons.

    Attributes:
        table: The logical table it leads to; None when the columns lie on the same row (``person`` on events).
        source: The column here that is matched with ``target`` there.
        target: The column there.
        fixed: A column there and the number it must have (the index of a group type).
        columns: For a link on the same row, its columns.
        chain: For another name of a path that begins here (``person`` on events stands for ``poe``), that path.
    """

    table: str | None = None
    source: str = ""
    target: str = ""
    fixed: tuple[str, int] | None = None
    columns: tuple[Column, ...] = ()
    chain: tuple[str, ...] = ()

    def column(self, name: str) -> Column | None:
        """The column of a link on the same row."""
        return next((c for c in self.columns if c.name == name), None)


@dataclass(frozen=True)
class Table:
    """A table that HogQL can name.

    Attributes:
        name: Its HogQL name.
        physical: The table or view in the database.
        columns: By name, in the order of ``*``.
        links: By name.
        owner: Whose property definitions type its ``properties`` (``event``, ``person`` or ``group``).
        time_column: The column that ``{filters}`` bounds.
        description: What a row is.
        rows: For a table without storage, its rows in the order of ``columns``, printed into the query. Values are
            text, numbers, booleans and None; a date or datetime is ISO text in UTC, JSON is its text.
        query: For a table that stands for a query, its HogQL; it selects ``columns`` by their names.
        brief: A view of the same rows with few stored columns, for queries that use no others; or empty.
        brief_columns: These columns.
        hidden: Left out of discovery.
        missing: Names of fields that PostHog's table has and this one does not.
        access_scope: The scope that a key needs to read it (``insight`` for ``insight:read``), or empty.
    """

    name: str
    physical: str
    columns: dict[str, Column]
    description: str
    links: dict[str, Link] = field(default_factory=dict)
    owner: str = ""
    time_column: str = ""
    rows: Callable[[Catalog], Iterable[tuple[Any, ...]]] | None = None
    query: Callable[[Catalog], str] | None = None
    brief: str = ""
    brief_columns: frozenset[str] = frozenset()
    hidden: bool = False
    missing: frozenset[str] = frozenset()
    access_scope: str = ""
