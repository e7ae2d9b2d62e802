"""What the embedded PostHog stores, and what of it HogQL can see.

Two layers. The *physical* one is a ClickHouse database called ``posthog`` (`ddl`): an ``events`` table in the order of
PostHog's own (day, event, person), and small tables for persons, groups and cohorts in which the newest version of
a row wins. The *logical* one (`TABLES`) is what HogQL names: each `Table` points to one physical table or view, so
that the translator needs no special case for persons, sessions or groups.

Inserting. Give the columns of `EVENT_INSERT_COLUMNS` (or `PERSON_...`, `PERSON_DISTINCT_ID_...`, `GROUP_...`,
`COHORT_PEOPLE_INSERT_COLUMNS`); all others are computed by the engine. ``properties`` and ``person_properties`` are
JSON objects as text. An event's groups are read from its properties ``$group_0`` to ``$group_4``, its session from
``$session_id``. A person, group or cohort member is changed by inserting it again with a higher ``version`` and removed
with ``is_deleted`` = 1.

Reading. Every query must carry `QUERY_SETTINGS`; the limits of time and memory are the engine's to add.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

DATABASE = "posthog"

QUERY_SETTINGS: Mapping[str, int | str] = {
    "readonly": 1,
    "transform_null_in": 1,
    "optimize_min_equality_disjunction_chain_length": 4294967295,
    "allow_experimental_analyzer": 1,
    "session_timezone": "UTC",
    "date_time_output_format": "simple",
    "output_format_json_quote_64bit_integers": 0,
    "output_format_json_quote_denormals": 0,
}
"""The settings that give HogQL its meaning; ``readonly=1`` is the second wall behind the translator's allow-list."""

EVENT_INSERT_COLUMNS = (
    "uuid",
    "event",
    "properties",
    "timestamp",
    "distinct_id",
    "elements_chain",
    "created_at",
    "person_id",
    "person_created_at",
    "person_properties",
    "person_mode",
)
PERSON_INSERT_COLUMNS = ("id", "created_at", "properties", "is_identified", "version", "is_deleted")
PERSON_DISTINCT_ID_INSERT_COLUMNS = ("distinct_id", "person_id", "version", "is_deleted")
GROUP_INSERT_COLUMNS = ("index", "key", "created_at", "updated_at", "properties", "version", "is_deleted")
COHORT_PEOPLE_INSERT_COLUMNS = ("cohort_id", "person_id", "version", "is_deleted")

MATERIALIZED_EVENT_PROPERTIES = (
    "$browser",
    "$os",
    "$device_type",
    "$current_url",
    "$pathname",
    "$host",
    "$referring_domain",
    "$geoip_country_code",
    "$lib",
)
"""Event properties read so often that they are stored beside the JSON (at one million events, 13 ms against 436)."""

BOUNCE_SECONDS = 10
"""A session with one page view is no bounce if it lasts at least this long (PostHog's default)."""


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


def property_sql(column: str, path: tuple[str | int, ...]) -> str:
    """The SQL that reads one key of a JSON text: always ``Nullable(String)``, missing and JSON null give NULL.

    Args:
        column: SQL of the JSON text.
        path: Keys, and indexes that count from one, from the outside in.
    """
    keys = ", ".join(quote_literal(part) if isinstance(part, str) else f"{part:d}" for part in path)
    raw = f"JSONExtractRaw({column}, {keys})"
    return f"replaceRegexpAll(nullIf(nullIf({raw}, ''), 'null'), '^\"|\"$', '')"


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
        entities: The project's REST objects by kind (``"feature_flags"``), for the ``system.*`` tables.
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
    entities: Mapping[str, tuple[Mapping[str, Any], ...]] = field(
        default_factory=dict, repr=False, compare=False, hash=False
    )
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
    """

    name: str
    type: str
    description: str = ""
    nullable: bool = False
    physical: str = ""
    hidden: bool = False


@dataclass(frozen=True)
class Link:
    """A name that leads to another table: ``session`` on events, ``pdi`` on persons.

    Attributes:
        table: The logical table it leads to; None when the columns lie on the same row (``person`` on events).
        source: The column here that is matched with ``target`` there.
        target: The column there.
        fixed: A column there and the number it must have (the index of a group type).
        columns: For a link on the same row, its columns.
    """

    table: str | None
    source: str = ""
    target: str = ""
    fixed: tuple[str, int] | None = None
    columns: tuple[Column, ...] = ()

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
    """

    name: str
    physical: str
    columns: dict[str, Column]
    description: str
    links: dict[str, Link] = field(default_factory=dict)
    owner: str = ""
    time_column: str = ""

    def with_links(self, links: Mapping[str, Link]) -> Table:
        """The same table with more links (the project's names for its group types)."""
        return Table(
            self.name,
            self.physical,
            self.columns,
            self.description,
            {**self.links, **links},
            self.owner,
            self.time_column,
        )


def _columns(*columns: Column) -> dict[str, Column]:
    return {column.name: column for column in columns}


_EVENTS = Table(
    "events",
    "events",
    _columns(
        Column("uuid", "uuid", "Unique identifier of the event"),
        Column("event", "string", "Name of the event, such as $pageview"),
        Column("properties", "json", "Everything sent with the event; read a key with properties.key"),
        Column("timestamp", "datetime", "When the event happened"),
        Column("distinct_id", "string", "Identifier that the sender gave the user"),
        Column("elements_chain", "string", "The clicked element and its parents, for $autocapture"),
        Column("created_at", "datetime", "When the event was stored"),
        Column("$session_id", "string", "Session of the event, empty without one"),
        Column("$window_id", "string", "Browser window of the event, empty without one"),
        Column("person_mode", "string", "full, propertyless or force_upgrade"),
        *(Column(f"$group_{i}", "string", f"Key of the event's group of type {i}, or empty") for i in range(5)),
        Column("elements_chain_href", "string", "Link target in elements_chain"),
        Column("elements_chain_texts", "array", "Texts in elements_chain"),
        Column("elements_chain_ids", "array", "HTML ids in elements_chain"),
        Column("elements_chain_elements", "array", "Tag names in elements_chain"),
        Column("person_id", "uuid", "Person the event belongs to", hidden=True),
    ),
    "One row for each event captured",
    {
        "person": Link(
            None,
            columns=(
                Column("id", "uuid", "Person the event belongs to", physical="person_id"),
                Column("created_at", "datetime", "When the person was first seen", physical="person_created_at"),
                Column("properties", "json", "The person's properties back then", physical="person_properties"),
            ),
        ),
        "session": Link("sessions", "$session_id", "session_id"),
        "pdi": Link("person_distinct_ids", "distinct_id", "distinct_id"),
        **{f"group_{i}": Link("groups", f"$group_{i}", "key", ("index", i)) for i in range(5)},
    },
    owner="event",
    time_column="timestamp",
)

_PERSONS = Table(
    "persons",
    "persons_newest",
    _columns(
        Column("id", "uuid", "Unique identifier of the person"),
        Column("created_at", "datetime", "When the person was first seen"),
        Column("properties", "json", "The person's current properties"),
        Column("is_identified", "boolean", "Whether the person was ever identified"),
    ),
    "One row for each person, in the newest version",
    {"pdi": Link("person_distinct_ids", "id", "person_id")},
    owner="person",
    time_column="created_at",
)

_PERSON_DISTINCT_IDS = Table(
    "person_distinct_ids",
    "person_distinct_ids_newest",
    _columns(
        Column("distinct_id", "string", "Identifier that a sender gave the user"),
        Column("person_id", "uuid", "Person it belongs to"),
    ),
    "Which person each distinct_id belongs to",
    {"person": Link("persons", "person_id", "id")},
)

_GROUPS = Table(
    "groups",
    "groups_newest",
    _columns(
        Column("index", "integer", "Number of the group type, 0 to 4"),
        Column("key", "string", "Identifier of the group within its type"),
        Column("created_at", "datetime", "When the group was first seen"),
        Column("updated_at", "datetime", "When the group was last changed"),
        Column("properties", "json", "The group's current properties"),
    ),
    "One row for each group, in the newest version",
    owner="group",
    time_column="created_at",
)

_UTM = ("utm_source", "utm_medium", "utm_campaign", "utm_term", "utm_content")

_SESSIONS = Table(
    "sessions",
    "sessions",
    _columns(
        Column("session_id", "string", "Unique identifier of the session"),
        Column("distinct_id", "string", "distinct_id of the session's last event"),
        Column("person_id", "uuid", "Person of the session's last event", hidden=True),
        Column("$start_timestamp", "datetime", "First event of the session"),
        Column("$end_timestamp", "datetime", "Last event of the session"),
        Column("$session_duration", "integer", "Seconds between first and last event"),
        Column("duration", "integer", "The same as $session_duration", physical="$session_duration", hidden=True),
        Column("$pageview_count", "integer", "Number of $pageview events"),
        Column("$autocapture_count", "integer", "Number of $autocapture events"),
        Column("$screen_count", "integer", "Number of $screen events"),
        Column("$event_count", "integer", "Number of events", hidden=True),
        Column("$num_uniq_urls", "integer", "Number of different URLs"),
        Column(
            "$is_bounce",
            "boolean",
            f"One page, screen or click and shorter than {BOUNCE_SECONDS} s; NULL when the session has none of them",
            nullable=True,
        ),
        Column("$entry_current_url", "string", "URL of the first page", nullable=True),
        Column("$entry_pathname", "string", "Path of the first page", nullable=True),
        Column("$entry_hostname", "string", "Host of the first page", nullable=True),
        Column("$entry_referring_domain", "string", "Where the session came from", nullable=True),
        *(Column(f"$entry_{utm}", "string", f"First {utm} of the session", nullable=True) for utm in _UTM),
        Column("$end_current_url", "string", "URL of the last page", nullable=True),
        Column("$end_pathname", "string", "Path of the last page", nullable=True),
        Column("$end_hostname", "string", "Host of the last page", nullable=True),
        *(
            Column(f"$exit_{x}", "string", f"The same as $end_{x}", nullable=True, physical=f"$end_{x}", hidden=True)
            for x in ("current_url", "pathname", "hostname")
        ),
    ),
    "One row for each session, made from its events",
    owner="session",
    time_column="$start_timestamp",
)

_COHORT_PEOPLE = Table(
    "cohort_people",
    "cohort_people_newest",
    _columns(
        Column("person_id", "uuid", "Member of the cohort"),
        Column("cohort_id", "integer", "The static cohort"),
    ),
    "Members of static cohorts",
    {"person": Link("persons", "person_id", "id")},
)

TABLES: Mapping[str, Table] = {
    table.name: table for table in (_EVENTS, _PERSONS, _PERSON_DISTINCT_IDS, _GROUPS, _SESSIONS, _COHORT_PEOPLE)
}
"""The stored tables by their HogQL names."""


def _text(*names: str) -> dict[str, Column]:
    return _columns(*(Column(name, "string", nullable=True) for name in names))


INFORMATION_SCHEMA: Mapping[str, Table] = {
    "tables": Table(
        "system.information_schema.tables",
        "",
        {
            **_text("table_catalog", "table_schema", "table_name", "table_type", "description"),
            "row_count": Column("row_count", "integer", nullable=True),
            "certification": Column("certification", "string", nullable=True),
        },
        "The tables that HogQL can name",
    ),
    "columns": Table(
        "system.information_schema.columns",
        "",
        {
            **_text("table_schema", "table_name", "column_name"),
            "ordinal_position": Column("ordinal_position", "integer", nullable=True),
            "data_type": Column("data_type", "string", nullable=True),
            "is_nullable": Column("is_nullable", "integer", nullable=True),
            "is_array": Column("is_array", "integer", nullable=True),
            **_text("field_kind", "description"),
        },
        "The columns of these tables",
    ),
    "relationships": Table(
        "system.information_schema.relationships",
        "",
        _text("source_table", "source_column", "target_table", "target_column", "relationship_kind"),
        "The links between these tables",
    ),
}
"""``system.information_schema.*``: tables without storage, printed from the catalog into the query."""

SYSTEM_PREFIX = "system.information_schema."


def find_table(name: str, catalog: Catalog) -> Table | None:
    """The table of a HogQL name, with the project's own names for its groups; None when there is none."""
    if name.startswith(SYSTEM_PREFIX):
        return INFORMATION_SCHEMA.get(name[len(SYSTEM_PREFIX) :])
    table = TABLES.get(name)
    if table is _EVENTS and catalog.group_types:
        # PostHog gives a group its name only where the events table has nothing of that name.
        taken = {*table.columns, *table.links}
        named = {group: table.links[f"group_{i}"] for i, group in enumerate(catalog.group_types[:5])}
        return table.with_links({name: link for name, link in named.items() if name not in taken})
    return table


def table_names() -> tuple[str, ...]:
    """Every name that ``FROM`` takes, except ``numbers``."""
    return (*TABLES, *(table.name for table in INFORMATION_SCHEMA.values()))


def information_schema_rows(table: str, catalog: Catalog) -> list[tuple[Any, ...]]:
    """The rows of one table of the information schema, in the order of its columns."""
    return list({"tables": _table_rows, "columns": _column_rows, "relationships": _relationship_rows}[table](catalog))


def _all_tables(catalog: Catalog) -> list[Table]:
    found = (find_table(name, catalog) for name in table_names())
    return [table for table in found if table is not None]


def _namespace(table: Table) -> tuple[str, str, str]:
    """Schema, bare name and table type of a table, as the information schema shows them."""
    if table.name.startswith(SYSTEM_PREFIX):
        return "information_schema", table.name[len(SYSTEM_PREFIX) :], "information_schema"
    return "public", table.name, "posthog"


def _table_rows(catalog: Catalog) -> Iterator[tuple[Any, ...]]:
    for table in _all_tables(catalog):
        schema, name, kind = _namespace(table)
        yield ("posthog", schema, name, kind, table.description, None, None)


_DATA_TYPES = {
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


def _column_rows(catalog: Catalog) -> Iterator[tuple[Any, ...]]:
    for table in _all_tables(catalog):
        schema, name, _ = _namespace(table)
        nested = {f"{link}.{column.name}": column for link, target in table.links.items() for column in target.columns}
        for position, (shown, column) in enumerate({**table.columns, **nested}.items(), start=1):
            yield (
                schema,
                name,
                shown,
                position,
                _DATA_TYPES[column.type],
                int(column.nullable),
                int(column.type == "array"),
                "column",
                column.description,
            )


def _relationship_rows(catalog: Catalog) -> Iterator[tuple[Any, ...]]:
    for table in _all_tables(catalog):
        for link, target in table.links.items():
            if target.table is not None:
                yield (table.name, link, target.table, target.target, "lazy_join")


_FIELD_TYPES = {"uuid": "string"}


def _schema_fields(table: Table) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for column in table.columns.values():
        fields[column.name] = {
            "name": column.name,
            "hogql_value": hogql_name(column.name),
            "type": _FIELD_TYPES.get(column.type, column.type),
            "schema_valid": True,
        }
    for name, link in table.links.items():
        target = TABLES[link.table] if link.table is not None else None
        fields[name] = {
            "name": name,
            "hogql_value": hogql_name(name),
            "type": "virtual_table" if target is None else "lazy_table",
            "schema_valid": True,
            "table": table.name if target is None else target.name,
            "fields": [c.name for c in link.columns] if target is None else [*target.columns, *target.links],
        }
    return fields


def database_schema(catalog: Catalog) -> dict[str, Any]:
    """The body of PostHog's answer to a ``DatabaseSchemaQuery``."""
    tables = {
        table.name: {
            "id": table.name,
            "name": table.name,
            "type": "system" if table.name.startswith("system.") else "posthog",
            "row_count": None,
            "fields": _schema_fields(table),
        }
        for table in _all_tables(catalog)
    }
    return {"tables": tables, "joins": []}


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


# ------------------------------------------------------------------------------------------------------ the storage


def materialized_name(name: str) -> str:
    """The stored column of an event property listed in `MATERIALIZED_EVENT_PROPERTIES`."""
    return f"mat_{name}"


def _from_properties(key: str) -> str:
    return f"{quote_name(key)} String MATERIALIZED ifNull({property_sql('properties', (key,))}, '')"


def _events_ddl() -> str:
    materialized = [
        f"{quote_name(materialized_name(key))} Nullable(String) MATERIALIZED {property_sql('properties', (key,))}"
        for key in MATERIALIZED_EVENT_PROPERTIES
    ]
    attribute = '\'(?::|\\")%s="(.*?)"\''
    columns = [
        "uuid UUID",
        "event String",
        "properties String CODEC(ZSTD(1))",
        "timestamp DateTime64(6, 'UTC')",
        "distinct_id String",
        "elements_chain String DEFAULT ''",
        "created_at DateTime64(6, 'UTC') DEFAULT now64(6, 'UTC')",
        "person_id UUID",
        "person_created_at DateTime64(6, 'UTC')",
        "person_properties String DEFAULT '{}' CODEC(ZSTD(1))",
        "person_mode String DEFAULT 'full'",
        *(_from_properties(key) for key in ("$session_id", "$window_id", *(f"$group_{i}" for i in range(5)))),
        *materialized,
        f"elements_chain_href String ALIAS extract(elements_chain, {attribute % 'href'})",
        f"elements_chain_texts Array(String) ALIAS arrayDistinct(extractAll(elements_chain, {attribute % 'text'}))",
        f"elements_chain_ids Array(String) ALIAS arrayDistinct(extractAll(elements_chain, {attribute % 'attr_id'}))",
        "elements_chain_elements Array(String) ALIAS arrayDistinct(extractAll(elements_chain, "
        "'(?:^|;)(a|button|form|input|select|textarea|label)(?:\\\\.|$|:)'))",
    ]
    return (
        f"CREATE TABLE IF NOT EXISTS {DATABASE}.events ({', '.join(columns)}) ENGINE = MergeTree "
        "PARTITION BY toYYYYMM(timestamp) ORDER BY (toDate(timestamp), event, cityHash64(distinct_id), uuid)"
    )


def _newest_ddl(name: str, columns: str, key: str) -> list[str]:
    """A table in which the newest version of a key wins, and the view that shows only these."""
    return [
        f"CREATE TABLE IF NOT EXISTS {DATABASE}.{name} "
        f"({columns}, version UInt64 DEFAULT 0, is_deleted UInt8 DEFAULT 0) "
        f"ENGINE = ReplacingMergeTree(version) ORDER BY ({key})",
        f"CREATE VIEW IF NOT EXISTS {DATABASE}.{name}_newest AS "
        f"SELECT * FROM {DATABASE}.{name} FINAL WHERE is_deleted = 0",
    ]


def _sessions_ddl() -> str:
    def first(sql: str) -> str:
        return f"argMin({sql}, timestamp)"

    def last(sql: str) -> str:
        return f"argMax({sql}, timestamp)"

    url, path, host = (quote_name(materialized_name(key)) for key in ("$current_url", "$pathname", "$host"))
    pages = "countIf(event IN ('$pageview', '$screen', '$autocapture'))"
    columns = {
        "session_id": "`$session_id`",
        "distinct_id": last("distinct_id"),
        "person_id": last("person_id"),
        "$start_timestamp": "min(timestamp)",
        "$end_timestamp": "max(timestamp)",
        "$session_duration": "dateDiff('second', min(timestamp), max(timestamp))",
        "$pageview_count": "countIf(event = '$pageview')",
        "$autocapture_count": "countIf(event = '$autocapture')",
        "$screen_count": "countIf(event = '$screen')",
        "$event_count": "count()",
        "$num_uniq_urls": f"uniqExact({url})",
        "$is_bounce": f"if({pages} = 0, NULL, {pages} = 1 AND "
        f"dateDiff('second', min(timestamp), max(timestamp)) < {BOUNCE_SECONDS})",
        "$entry_current_url": first(url),
        "$entry_pathname": first(path),
        "$entry_hostname": first(host),
        "$entry_referring_domain": first(quote_name(materialized_name("$referring_domain"))),
        **{f"$entry_{utm}": first(property_sql("properties", (utm,))) for utm in _UTM},
        "$end_current_url": last(url),
        "$end_pathname": last(path),
        "$end_hostname": last(host),
    }
    # Without the setting, the alias `distinct_id` would shadow the column it is made of.
    select = ", ".join(f"{sql} AS {quote_name(name)}" for name, sql in columns.items())
    return (
        f"CREATE VIEW IF NOT EXISTS {DATABASE}.sessions AS SELECT {select} FROM {DATABASE}.events "
        "WHERE `$session_id` != '' GROUP BY `$session_id` SETTINGS prefer_column_name_to_alias = 1"
    )


def ddl() -> list[str]:
    """The statements that create the database, in order; running them again changes nothing."""
    time = "DateTime64(6, 'UTC')"
    return [
        f"CREATE DATABASE IF NOT EXISTS {DATABASE}",
        _events_ddl(),
        *_newest_ddl(
            "persons",
            f"id UUID, created_at {time}, properties String DEFAULT '{{}}', is_identified UInt8 DEFAULT 1",
            "id",
        ),
        *_newest_ddl("person_distinct_ids", "distinct_id String, person_id UUID", "distinct_id"),
        *_newest_ddl(
            "groups",
            f"`index` UInt8, `key` String, created_at {time}, updated_at {time} DEFAULT created_at, "
            "properties String DEFAULT '{}'",
            "`index`, `key`",
        ),
        *_newest_ddl("cohort_people", "cohort_id Int64, person_id UUID", "cohort_id, person_id"),
        _sessions_ddl(),
    ]
