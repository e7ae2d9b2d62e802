"""What the embedded PostHog stores: one ClickHouse database for each project.

An ``events`` table in the order of PostHog's own (day, event, person), and small tables for persons, groups and cohorts
in which the newest version of a row wins. The logical tables that HogQL names (`tables.py`) point to these.

Inserting. Give the columns of `EVENT_INSERT_COLUMNS` (or `PERSON_...`, `PERSON_DISTINCT_ID_...`, `GROUP_...`,
`COHORT_PEOPLE_INSERT_COLUMNS`); all others are computed by the engine. ``properties`` and ``person_properties`` are
JSON objects as text. An event's groups are read from its properties ``$group_0`` to ``$group_4``, its session from
``$session_id``. A person, group or cohort member is changed by inserting it again with a higher ``version`` and removed
with ``is_deleted`` = 1.

Reading. Every query must carry `QUERY_SETTINGS`; the limits of time and memory are the engine's to add.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from . import channel_types
from .channel_types import Visit
from .schema import DATABASE, quote_any_name, quote_literal, quote_name

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
    "utm_source",
    "utm_medium",
    "utm_campaign",
    "gclid",
    "fbclid",
    "gad_source",
)
"""Event properties read so often that they are stored beside the JSON (at one million events, 13 ms against 436).

The last six make a session's channel.
"""

BOUNCE_SECONDS = 10
"""A session with one page view is no bounce if it lasts at least this long (PostHog's default)."""

AD_IDS = (
    *("gclsrc", "dclid", "gbraid", "wbraid", "gad_campaignid", "srsltid", "msclkid", "twclid", "li_fat_id", "mc_cid"),
    *("igshid", "ttclid", "rdt_cid", "epik", "qclid", "sccid", "_kx", "irclid", "irclickid", "utm_id"),
    *("utm_source_platform", "utm_creative_format", "utm_marketing_tactic", "yclid", "tblci", "dicbo", "ndclid"),
    *("cjevent", "awc", "syclid", "_bhlid", "rtid"),
)
"""Click ids that a session keeps of its first event, beside ``gclid``, ``gad_source`` and ``fbclid``."""

_UTM = ("utm_source", "utm_medium", "utm_campaign", "utm_term", "utm_content")


def property_sql(column: str, path: tuple[str | int, ...]) -> str:
    """The SQL that reads one key of a JSON text: always ``Nullable(String)``, missing and JSON null give NULL.

    Args:
        column: SQL of the JSON text.
        path: Keys, and indexes that count from one, from the outside in.
    """
    keys = ", ".join(quote_literal(part) if isinstance(part, str) else f"{part:d}" for part in path)
    raw = f"JSONExtractRaw({column}, {keys})"
    return f"replaceRegexpAll(nullIf(nullIf({raw}, ''), 'null'), '^\"|\"$', '')"


@dataclass(frozen=True)
class JsonColumn:
    """A stored JSON column whose keys can have columns of their own.

    Attributes:
        table: The table.
        name: The JSON column in it.
        prefix: What the names of the keys' columns begin with.
    """

    table: str
    name: str
    prefix: str


JSON_COLUMNS: Mapping[str, JsonColumn] = {
    "properties": JsonColumn("events", "properties", "mat_"),
    "person_properties": JsonColumn("events", "person_properties", "pmat_"),
    "persons.properties": JsonColumn("persons", "properties", "mat_"),
    "groups.properties": JsonColumn("groups", "properties", "mat_"),
}
"""The JSON columns by the names that `Catalog.materialized` has for them."""


def materialized_name(key: str, column: str = "properties") -> str:
    """The name of the column that holds one key beside the JSON column (of `JSON_COLUMNS`) that it comes from."""
    return JSON_COLUMNS[column].prefix + key


def materialized_ddl(key: str, column: str = "properties") -> str:
    """The definition of such a column: its value is `property_sql`, so that reading it means the same."""
    json = JSON_COLUMNS[column]
    # The views of the small tables show what `*` stands for, which leaves out what is MATERIALIZED.
    kind = "MATERIALIZED" if json.table == "events" else "DEFAULT"
    name = quote_any_name(materialized_name(key, column))
    return f"{name} Nullable(String) {kind} {property_sql(json.name, (key,))}"


def materialize(database: str, key: str, column: str) -> list[str]:
    """The statements that add such a column to a table and fill it for the rows that are there."""
    json = JSON_COLUMNS[column]
    table, name = f"{database}.{json.table}", quote_any_name(materialized_name(key, column))
    views = [statement for statement in ddl(database) if f"VIEW {table}_newest " in statement]
    return [
        f"ALTER TABLE {table} ADD COLUMN IF NOT EXISTS {materialized_ddl(key, column)}",
        f"ALTER TABLE {table} MATERIALIZE COLUMN {name} SETTINGS mutations_sync = 1",
        *views,
    ]


def materialized_columns(database: str) -> str:
    """The query for the columns of that kind: table and name of each."""
    tables = ", ".join(quote_literal(name) for name in sorted({json.table for json in JSON_COLUMNS.values()}))
    return (
        f"SELECT table, name FROM system.columns WHERE database = {quote_literal(database)} AND table IN ({tables}) "
        "AND default_kind IN ('MATERIALIZED', 'DEFAULT')"
    )


def _of_event(key: str) -> str:
    """The SQL of an event's property, on the stored table."""
    is_stored = key in MATERIALIZED_EVENT_PROPERTIES
    return quote_name(materialized_name(key)) if is_stored else property_sql("properties", (key,))


def _is_filled(text: str) -> str:
    return f"(notEmpty(ifNull({text}, '')) AND ifNull({text}, '') != 'null')"


def _initial_visit(properties: str) -> Visit:
    """How a person's first visit began, as the person's properties keep it."""

    def initial(key: str) -> str:
        return property_sql(properties, (f"$initial_{key}",))

    return Visit(
        source=initial("utm_source"),
        medium=initial("utm_medium"),
        campaign=initial("utm_campaign"),
        referring_domain=initial("referring_domain"),
        has_gclid=_is_filled(initial("gclid")),
        has_fbclid=_is_filled(initial("fbclid")),
        gad_source=initial("gad_source"),
    )


def _virtual_columns(database: str, properties: str) -> dict[str, str]:
    """The SQL of a person's virtual columns."""
    visit = _initial_visit(properties)
    return {
        "$virt_initial_referring_domain_type": channel_types.domain_type(database, visit.referring_domain),
        "$virt_initial_channel_type": channel_types.channel_type(database, visit),
    }


def _from_properties(key: str) -> str:
    return f"{quote_name(key)} String MATERIALIZED ifNull({property_sql('properties', (key,))}, '')"


def _events_ddl(database: str) -> str:
    materialized = [materialized_ddl(key) for key in MATERIALIZED_EVENT_PROPERTIES]
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
        "`$session_id_uuid` Nullable(String) ALIAS toString(toUInt128(toUUIDOrNull(`$session_id`)))",
        *(
            f"{quote_name(name)} Nullable(String) ALIAS {sql}"
            for name, sql in _virtual_columns(database, "person_properties").items()
        ),
    ]
    columns += [
        # The key has days in UTC; this one also serves days and hours in the project's time zone, and the newest rows.
        "INDEX by_time timestamp TYPE minmax GRANULARITY 1",
        f"PROJECTION by_session (SELECT {_SESSIONS_PROJECTION} GROUP BY `$session_id`)",
    ]
    return (
        f"CREATE TABLE IF NOT EXISTS {database}.events ({', '.join(columns)}) ENGINE = MergeTree "
        "PARTITION BY toYYYYMM(timestamp) ORDER BY (toDate(timestamp), event, cityHash64(distinct_id), uuid)"
    )


def _newest_ddl(database: str, name: str, columns: str, key: str, more: Mapping[str, str] | None = None) -> list[str]:
    """A table in which the newest version of a key wins, and the view that shows only these, with computed columns."""
    shown = ", ".join(("*", *(f"{sql} AS {quote_name(column)}" for column, sql in (more or {}).items())))
    return [
        f"CREATE TABLE IF NOT EXISTS {database}.{name} "
        f"({columns}, version UInt64 DEFAULT 0, is_deleted UInt8 DEFAULT 0) "
        f"ENGINE = ReplacingMergeTree(version) ORDER BY ({key})",
        f"CREATE OR REPLACE VIEW {database}.{name}_newest AS "
        f"SELECT {shown} FROM {database}.{name} FINAL WHERE is_deleted = 0",
    ]


# Without IN, which a setting of queries replaces: the engine would not see that they ask for what is kept.
_IS_PAGE = "(event = '$pageview' OR event = '$screen')"


def _first(sql: str) -> str:
    """Of a session's first page; what another event says counts only when no page says it.

    Of two at the same moment the UUIDs decide, in every query, however its rows are read.
    """
    return f"argMin({sql}, (if({_IS_PAGE}, timestamp, timestamp + toIntervalYear(1)), uuid))"


def _last(sql: str) -> str:
    """Of a session's last page, in the same way."""
    return f"argMax({sql}, (if({_IS_PAGE}, timestamp, timestamp - toIntervalYear(1)), uuid))"


def _visit_of_event() -> str:
    """What an event says of where its session came from: the attributes of `Visit`, in order."""
    tags = [_of_event(key) for key in ("utm_source", "utm_medium", "utm_campaign", "$referring_domain")]
    clicks = [_is_filled(_of_event(key)) for key in ("gclid", "fbclid")]
    return f"tuple({', '.join((*tags, *clicks, _of_event('gad_source')))})"


_MOMENT = "(timestamp, uuid)"
"""Events at the same moment have an order, too: the same one in every query, however its rows are read."""

_START, _END = "min(timestamp)", "max(timestamp)"
_COUNTS = {f"{event}_count": f"countIf(event = '{event}')" for event in ("$pageview", "$autocapture", "$screen")}
_PAGES = f"({' + '.join(_COUNTS.values())})"
_ENTRY_URL, _END_URL = _first(_of_event("$current_url")), _last(_of_event("$current_url"))
_ENTRY_DOMAIN, _VISIT = _first(_of_event("$referring_domain")), _first(_visit_of_event())

_SESSIONS_PROJECTION = ", ".join(
    ("`$session_id`", _START, _END, "count()", *_COUNTS.values(), _ENTRY_URL, _END_URL, _ENTRY_DOMAIN, _VISIT)
)
"""What is kept of each session beside the events, so that most questions to ``sessions`` read no event.

The engine itself keeps it in step with inserts, merges and mutations, and uses it whenever a query needs no more than
this. The person is not in it, as the merging of two persons would have to make it anew.
"""


BRIEF_SESSION = (
    *("session_id", "$start_timestamp", "$end_timestamp", "$session_duration", "$event_count", *_COUNTS),
    *("$page_screen_autocapture_count_up_to", "$is_bounce"),
)
"""What most questions to ``sessions`` need: to read how all its columns are made takes the engine 10 ms a query."""


def _sessions_ddl(database: str) -> list[str]:
    url = _of_event("$current_url")
    duration = f"dateDiff('second', {_START}, {_END})"
    session_uuid = "toUUIDOrZero(`$session_id`)"
    ad_ids = ", ".join(quote_literal(key) for key in AD_IDS)
    columns = {
        "session_id": "`$session_id`",
        "session_id_v7": f"toString(toUInt128({session_uuid}))",
        # A UUID of version 7 begins with its time.
        "session_timestamp": f"if(substring(`$session_id`, 15, 1) = '7' AND {session_uuid} != toUUIDOrZero(''), "
        f"toDateTime64(UUIDv7ToDateTime({session_uuid}, 'UTC'), 6, 'UTC'), {_START})",
        "distinct_id": f"argMax(distinct_id, {_MOMENT})",
        "person_id": f"argMax(person_id, {_MOMENT})",
        "$start_timestamp": _START,
        "$end_timestamp": _END,
        "max_inserted_at": "max(created_at)",
        "$session_duration": duration,
        **_COUNTS,
        "$event_count": "count()",
        "$page_screen_autocapture_count_up_to": f"least({_PAGES}, 2)",
        "$urls": f"arraySort(groupUniqArrayIf({url}, {_IS_PAGE}))",
        "$num_uniq_urls": f"uniqExactIf({url}, {_IS_PAGE})",
        "$is_bounce": f"if({_PAGES} = 0, NULL, {_PAGES} = 1 AND {duration} < {BOUNCE_SECONDS})",
        "$entry_current_url": _ENTRY_URL,
        "$entry_pathname": f"path({_ENTRY_URL})",
        "$entry_hostname": f"domain({_ENTRY_URL})",
        "$entry_referring_domain": _ENTRY_DOMAIN,
        **{f"$entry_{key}": _first(_of_event(key)) for key in (*_UTM, "gclid", "gad_source", "fbclid")},
        **{f"$entry_has_{key}": f"toBool({_first(_is_filled(_of_event(key)))})" for key in ("gclid", "fbclid")},
        "ad_ids": _first(
            f"mapFilter((k, v) -> k IN ({ad_ids}), "
            "CAST(JSONExtractKeysAndValues(properties, 'String'), 'Map(String, String)'))"
        ),
        **{f"$entry_{key}": f"ad_ids[{quote_literal(key)}]" for key in AD_IDS},
        **{f"$entry_has_{key}": f"toBool(mapContains(ad_ids, {quote_literal(key)}))" for key in AD_IDS},
        "$end_current_url": _END_URL,
        "$end_pathname": f"path({_END_URL})",
        "$end_hostname": f"domain({_END_URL})",
        "$last_external_click_url": f"argMax({_of_event('$external_click_url')}, {_MOMENT})",
        "$vitals_lcp": f"argMin(JSONExtract(properties, '$web_vitals_LCP_value', 'Nullable(Float64)'), {_MOMENT})",
        "visit": _VISIT,
        "$channel_type": channel_types.channel_type(database, Visit(*(f"visit.{i}" for i in range(1, 8)))),
    }
    brief = {name: columns[name] for name in BRIEF_SESSION}
    return [_sessions_view(database, "sessions", columns), _sessions_view(database, "sessions_brief", brief)]


def _sessions_view(database: str, name: str, columns: Mapping[str, str]) -> str:
    # Without the setting, the alias `distinct_id` would shadow the column it is made of.
    select = ", ".join(f"{sql} AS {quote_name(column)}" for column, sql in columns.items())
    return (
        f"CREATE OR REPLACE VIEW {database}.{name} AS SELECT {select} FROM {database}.events "
        "WHERE `$session_id` != '' GROUP BY `$session_id` SETTINGS prefer_column_name_to_alias = 1"
    )


def ddl(database: str = DATABASE) -> list[str]:
    """The statements that create the database, in order; running them again changes nothing."""
    time = "DateTime64(6, 'UTC')"
    return [
        f"CREATE DATABASE IF NOT EXISTS {database}",
        channel_types.ddl(database),
        _events_ddl(database),
        *_newest_ddl(
            database,
            "persons",
            f"id UUID, created_at {time}, properties String DEFAULT '{{}}', is_identified UInt8 DEFAULT 1",
            "id",
            _virtual_columns(database, "properties"),
        ),
        *_newest_ddl(database, "person_distinct_ids", "distinct_id String, person_id UUID", "distinct_id"),
        *_newest_ddl(
            database,
            "groups",
            f"`index` UInt8, `key` String, created_at {time}, updated_at {time} DEFAULT created_at, "
            "properties String DEFAULT '{}'",
            "`index`, `key`",
        ),
        *_newest_ddl(database, "cohort_people", "cohort_id Int64, person_id UUID", "cohort_id, person_id"),
        *_sessions_ddl(database),
    ]
