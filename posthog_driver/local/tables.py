"""PostHog's analytics tables: events, persons, sessions, groups and what belongs to them.

The columns are those of PostHog's ``posthog/hogql/database/schema``, in its order. Most tables are stored; those whose
rows come from parts of PostHog that the embedded server does not run (batch exports, apps, recordings) are as empty as
in a project that never used these parts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .schema import Catalog, Column, Link, Table
from .storage import AD_IDS, BOUNCE_SECONDS, BRIEF_SESSION
from .system_tables import moment

_UTM = ("utm_source", "utm_campaign", "utm_medium", "utm_term", "utm_content")
_VIRTUAL = (
    Column(
        "$virt_initial_referring_domain_type",
        "string",
        "What kind of site the person first came from, such as Search or Social",
        nullable=True,
        hidden=True,
        computed=True,
    ),
    Column(
        "$virt_initial_channel_type",
        "string",
        "Channel that first brought the person, such as Organic Search",
        nullable=True,
        hidden=True,
        computed=True,
    ),
)
_REVENUE = frozenset({"$virt_revenue", "$virt_mrr", "revenue_analytics"})


def columns(*listed: Column) -> dict[str, Column]:
    """The columns by name, in their order."""
    return {column.name: column for column in listed}


def _no_rows(catalog: Catalog) -> tuple[tuple[Any, ...], ...]:
    return ()


# -------------------------------------------------------------------------------------------------------------- events

_EVENTS = Table(
    "events",
    "events",
    columns(
        Column("uuid", "uuid", "Unique identifier of the event"),
        Column("event", "string", "Name of the event, such as $pageview"),
        Column("properties", "json", "Everything sent with the event; read a key with properties.key"),
        Column("timestamp", "datetime", "When the event happened"),
        Column("distinct_id", "string", "Identifier that the sender gave the user"),
        Column("elements_chain", "string", "The clicked element and its parents, for $autocapture"),
        Column("created_at", "datetime", "When the event was stored"),
        Column("$session_id", "string", "Session of the event, empty without one"),
        Column("$session_id_uuid", "string", "The session's UUID as a number", nullable=True, hidden=True),
        Column("$window_id", "string", "Browser window of the event, empty without one"),
        Column("person_mode", "string", "full, propertyless or force_upgrade"),
        *(Column(f"$group_{i}", "string", f"Key of the event's group of type {i}, or empty") for i in range(5)),
        Column("elements_chain_href", "string", "Link target in elements_chain"),
        Column("elements_chain_texts", "array", "Texts in elements_chain"),
        Column("elements_chain_ids", "array", "HTML ids in elements_chain"),
        Column("elements_chain_elements", "array", "Tag names in elements_chain"),
        Column("person_id", "uuid", "Person the event belongs to", hidden=True, computed=True),
    ),
    "One row for each event captured",
    {
        "pdi": Link("person_distinct_ids", "distinct_id", "distinct_id"),
        "poe": Link(
            columns=(
                Column("id", "uuid", "Person the event belongs to", physical="person_id"),
                Column("created_at", "datetime", "When the person was first seen", physical="person_created_at"),
                Column("properties", "json", "The person's properties back then", physical="person_properties"),
                *_VIRTUAL,
            ),
        ),
        "person": Link(chain=("poe",)),
        **{f"group_{i}": Link("groups", f"$group_{i}", "key", ("index", i)) for i in range(5)},
        "session": Link("sessions", "$session_id", "session_id"),
    },
    owner="event",
    time_column="timestamp",
    missing=frozenset(
        {
            *(f"goe_{i}" for i in range(5)),
            *("issue_id", "issue_id_v2", "issue_name", "issue_description", "issue_status", "issue_first_seen"),
            *("issue_assigned_user_id", "issue_assigned_role_id", "event_issue_id", "exception_issue_override"),
            *("fingerprint_issue_state", "$virt_is_bot", "$virt_traffic_type", "$virt_traffic_category"),
            *("$virt_bot_name", "$virt_bot_operator", *_REVENUE),
        }
    ),
)

# ------------------------------------------------------------------------------------------------- persons and groups

_VERSION = (
    Column("is_deleted", "boolean", "Whether this version removes the row"),
    Column("version", "integer", "Counts the changes; the highest one holds"),
)
_PERSON = Link("persons", "person_id", "id")

_PERSON_COLUMNS = (
    Column("id", "uuid", "Unique identifier of the person"),
    Column("created_at", "datetime", "When the person was first seen"),
    Column("properties", "json", "The person's current properties"),
    Column("is_identified", "boolean", "Whether the person was ever identified"),
)
_PERSONS = Table(
    "persons",
    "persons_newest",
    columns(*_PERSON_COLUMNS, *_VIRTUAL),
    "One row for each person, in the newest version",
    {"pdi": Link("person_distinct_ids", "id", "person_id")},
    owner="person",
    time_column="created_at",
    missing=_REVENUE,
)
_RAW_PERSONS = Table(
    "raw_persons",
    "persons",
    columns(*_PERSON_COLUMNS, *_VERSION),
    "Every stored version of every person",
    _PERSONS.links,
    owner="person",
    missing=_REVENUE,
    hidden=True,
)

_DISTINCT_ID_COLUMNS = (
    Column("distinct_id", "string", "Identifier that the sender gave the user"),
    Column("person_id", "uuid", "Person it belongs to"),
)
_PERSON_DISTINCT_IDS = Table(
    "person_distinct_ids",
    "person_distinct_ids_newest",
    columns(*_DISTINCT_ID_COLUMNS),
    "Which person each distinct_id belongs to",
    {"person": _PERSON},
)
_RAW_PERSON_DISTINCT_IDS = Table(
    "raw_person_distinct_ids",
    "person_distinct_ids",
    columns(*_DISTINCT_ID_COLUMNS, *_VERSION),
    "Every stored version of which person each distinct_id belongs to",
    {"person": _PERSON},
    hidden=True,
)
# Events get the merged person when persons are merged, so that no override is ever left.
_OVERRIDES = Table(
    "person_distinct_id_overrides",
    "",
    columns(*_DISTINCT_ID_COLUMNS),
    "Persons that a distinct_id got by a merge and its older events do not have yet",
    {"person": _PERSON},
    rows=_no_rows,
    hidden=True,
)
_RAW_OVERRIDES = Table(
    "raw_person_distinct_id_overrides",
    "",
    columns(*_DISTINCT_ID_COLUMNS, *_VERSION),
    "Every version of these",
    {"person": _PERSON},
    rows=_no_rows,
    hidden=True,
)

_GROUP_COLUMNS = (
    Column("index", "integer", "Which group type, 0 to 4"),
    Column("key", "string", "Identifier of the group within its type"),
    Column("created_at", "datetime", "When the group was first seen"),
    Column("updated_at", "datetime", "When the group's properties last changed"),
    Column("properties", "json", "The group's current properties"),
)
_GROUPS = Table(
    "groups",
    "groups_newest",
    columns(*_GROUP_COLUMNS),
    "One row for each group, in the newest version",
    owner="group",
    time_column="created_at",
    missing=_REVENUE,
)
_RAW_GROUPS = Table(
    "raw_groups",
    "groups",
    columns(*_GROUP_COLUMNS),
    "Every stored version of every group",
    owner="group",
    missing=_REVENUE,
    hidden=True,
)

# ------------------------------------------------------------------------------------------------------------- cohorts

_MEMBER_COLUMNS = (
    Column("person_id", "uuid", "Member of the cohort"),
    Column("cohort_id", "integer", "The cohort"),
)


def _cohort_people(catalog: Catalog) -> str:
    """The members of the cohorts that have a condition, as HogQL."""
    members = [
        f"SELECT id AS person_id, {cohort.id:d} AS cohort_id FROM persons WHERE id IN COHORT {cohort.id:d}"
        for cohort in catalog.cohorts
        if cohort.condition is not None
    ]
    return " UNION ALL ".join(members) or "SELECT id AS person_id, 0 AS cohort_id FROM persons WHERE false"


def _raw_cohort_people(catalog: Catalog) -> str:
    return f"SELECT person_id, cohort_id, 1 AS sign, 0 AS version FROM ({_cohort_people(catalog)})"


_COHORT_PEOPLE = Table(
    "cohort_people",
    "",
    columns(*_MEMBER_COLUMNS),
    "Members of the cohorts that have filters, as they are now",
    {"person": _PERSON},
    query=_cohort_people,
)
_RAW_COHORT_PEOPLE = Table(
    "raw_cohort_people",
    "",
    columns(
        *_MEMBER_COLUMNS,
        Column("sign", "integer", "1 for a member who was added, -1 for one who was removed"),
        Column("version", "integer", "Calculation of the cohort that found the member"),
    ),
    "Members of the cohorts that have filters, one row for each change",
    {"person": _PERSON},
    query=_raw_cohort_people,
    hidden=True,
)
_STATIC_COHORT_PEOPLE = Table(
    "static_cohort_people",
    "cohort_people_newest",
    columns(*_MEMBER_COLUMNS),
    "Members of static cohorts",
    {"person": _PERSON},
)

# ------------------------------------------------------------------------------------------------------------ sessions


def _first(name: str, what: str) -> Column:
    return Column(f"$entry_{name}", "string", f"{what} of the session's beginning", nullable=True)


_SESSIONS = Table(
    "sessions",
    "sessions",
    columns(
        Column("session_id_v7", "string", "The session's UUID as a number", hidden=True),
        Column("id", "string", "The same as session_id", physical="session_id", hidden=True),
        Column("session_id", "string", "Unique identifier of the session"),
        Column("session_timestamp", "datetime", "Time in the session's identifier"),
        Column("distinct_id", "string", "distinct_id of the session's last event"),
        Column("person_id", "uuid", "Person of the session's last event"),
        Column("$start_timestamp", "datetime", "First event of the session"),
        Column("$end_timestamp", "datetime", "Last event of the session"),
        Column("max_inserted_at", "datetime", "When the session's newest event was stored"),
        Column("$urls", "array", "URLs of the pages"),
        Column("$num_uniq_urls", "integer", "Number of different URLs of pages"),
        Column("$entry_current_url", "string", "URL of the first page", nullable=True),
        Column("$entry_pathname", "string", "Path of the first page", nullable=True),
        Column("$entry_hostname", "string", "Host of the first page", nullable=True),
        Column("$end_current_url", "string", "URL of the last page", nullable=True),
        Column("$end_pathname", "string", "Path of the last page", nullable=True),
        Column("$end_hostname", "string", "Host of the last page", nullable=True),
        Column("$entry_referring_domain", "string", "Where the session came from", nullable=True),
        Column("$last_external_click_url", "string", "Last link that led away from the site", nullable=True),
        *(
            Column(f"$exit_{x}", "string", f"The same as $end_{x}", nullable=True, physical=f"$end_{x}", hidden=True)
            for x in ("current_url", "pathname")
        ),
        *(_first(name, name) for name in (*_UTM, "fbclid", "gclid", "gad_source")),
        Column("$entry_has_fbclid", "boolean", "Whether the session began with Facebook's click id"),
        Column("$entry_has_gclid", "boolean", "Whether the session began with Google's click id"),
        Column("$pageview_count", "integer", "Number of $pageview events"),
        Column("$autocapture_count", "integer", "Number of $autocapture events"),
        Column("$screen_count", "integer", "Number of $screen events"),
        Column("$event_count", "integer", "Number of events", hidden=True),
        Column(
            "$page_screen_autocapture_count_up_to",
            "integer",
            "Number of pages, screens and clicks, at most 2",
            hidden=True,
        ),
        Column("$channel_type", "string", "Channel that brought the session, such as Paid Search"),
        Column("$session_duration", "integer", "Seconds between first and last event"),
        Column("duration", "integer", "The same as $session_duration", physical="$session_duration", hidden=True),
        Column(
            "$is_bounce",
            "boolean",
            f"One page, screen or click and shorter than {BOUNCE_SECONDS} s; NULL when the session has none of them",
            nullable=True,
        ),
        Column("$vitals_lcp", "float", "First largest contentful paint in milliseconds", nullable=True),
        *(
            column
            for key in AD_IDS
            for column in (
                Column(f"$entry_{key}", "string", f"{key} of the session's first event, or empty"),
                Column(f"$entry_has_{key}", "boolean", f"Whether the session's first event had {key}"),
            )
        ),
    ),
    "One row for each session, made from its events",
    owner="session",
    time_column="$start_timestamp",
    brief="sessions_brief",
    brief_columns=frozenset(BRIEF_SESSION),
    missing=frozenset({"$has_replay_events", "$has_autocapture", "$entry_channel_type_properties"}),
)

# ---------------------------------------------------------------------------------------------- recordings and logs

_RECORDING_COUNTS = (
    Column("click_count", "integer", "Number of clicks"),
    Column("keypress_count", "integer", "Number of keys pressed"),
    Column("mouse_activity_count", "integer", "Number of mouse movements"),
    Column("active_milliseconds", "integer", "Milliseconds in which the user did something"),
    Column("console_log_count", "integer", "Number of console messages"),
    Column("console_warn_count", "integer", "Number of console warnings"),
    Column("console_error_count", "integer", "Number of console errors"),
    Column("size", "integer", "Bytes of the recording"),
    Column("event_count", "integer", "Number of recorded events"),
    Column("message_count", "integer", "Number of messages that carried the recording"),
    Column("snapshot_source", "string", "web or mobile", nullable=True),
    Column("retention_period_days", "integer", "Days that the recording is kept", nullable=True),
)
_RECORDING_LINKS = {
    "events": Link("events", "session_id", "$session_id"),
    "properties": Link(chain=("events", "properties")),
    "pdi": Link("person_distinct_ids", "distinct_id", "distinct_id"),
    "console_logs": Link("console_logs_log_entries", "session_id", "log_source_id"),
    "person": Link(chain=("pdi", "person")),
    "person_id": Link(chain=("pdi", "person_id")),
    "session": Link("sessions", "session_id", "session_id"),
}


def _recordings(catalog: Catalog, *, is_raw: bool) -> Iterator[tuple[Any, ...]]:
    for recording in catalog.entities.get("session_recordings", ()):
        start, end = (moment(recording.get(name)) for name in ("start_time", "end_time"))
        url = recording.get("start_url")
        counts = {column.name: recording.get(column.name) or 0 for column in _RECORDING_COUNTS}
        yield (
            recording["id"],
            recording.get("distinct_id") or "",
            start,
            end,
            url,
            [url] if url else [],
            *{
                **counts,
                "active_milliseconds": round(1000 * (recording.get("active_seconds") or 0)),
                "snapshot_source": recording.get("snapshot_source") or "web",
                "retention_period_days": recording.get("retention_period_days"),
            }.values(),
            *([end] if is_raw else []),
        )


_REPLAY_EVENTS = Table(
    "session_replay_events",
    "",
    columns(
        Column("session_id", "string", "Session that was recorded"),
        Column("distinct_id", "string", "distinct_id of the recorded user"),
        Column("start_time", "datetime", "When the recording begins", nullable=True),
        Column("end_time", "datetime", "When the recording ends", nullable=True),
        Column("first_url", "string", "URL on which the recording begins", nullable=True),
        Column("all_urls", "array", "URLs that were recorded"),
        *_RECORDING_COUNTS,
    ),
    "One row for each recording of a session",
    _RECORDING_LINKS,
    time_column="start_time",
    rows=lambda catalog: _recordings(catalog, is_raw=False),
)
_RAW_REPLAY_EVENTS = Table(
    "raw_session_replay_events",
    "",
    columns(
        Column("session_id", "string", "Session that was recorded"),
        Column("distinct_id", "string", "distinct_id of the recorded user"),
        Column("min_first_timestamp", "datetime", "When the part begins", nullable=True),
        Column("max_last_timestamp", "datetime", "When the part ends", nullable=True),
        Column("first_url", "string", "URL on which the part begins", nullable=True, hidden=True),
        Column("all_urls", "array", "URLs in the part"),
        *_RECORDING_COUNTS,
        Column("_timestamp", "datetime", "When the part was stored", nullable=True),
    ),
    "The parts of recordings as they arrived",
    _RECORDING_LINKS,
    rows=lambda catalog: _recordings(catalog, is_raw=True),
    hidden=True,
)


def _log_entries(name: str, description: str, *, hidden: bool = False) -> Table:
    return Table(
        name,
        "",
        columns(
            Column("log_source", "string", "What wrote the line, such as session_replay or batch_export"),
            Column("log_source_id", "string", "Which session or export it was"),
            Column("instance_id", "string", "Which run of it"),
            Column("timestamp", "datetime", "When the line was written"),
            Column("message", "string", "The line"),
            Column("level", "string", "info, warn, error, ..."),
        ),
        description,
        rows=_no_rows,
        hidden=hidden,
    )


_APP_METRICS = Table(
    "app_metrics",
    "",
    columns(
        Column("app_source", "string", "Kind of app, such as hog_function"),
        Column("app_source_id", "string", "Which app"),
        Column("instance_id", "string", "Which part of it"),
        Column("timestamp", "datetime", "When it was counted"),
        Column("metric_name", "string", "What was counted, such as succeeded"),
        Column("metric_kind", "string", "success, failure or other"),
        Column("count", "integer", "How often it happened"),
    ),
    "How often apps ran and failed",
    rows=_no_rows,
)

TABLES: Mapping[str, Table] = {
    table.name: table
    for table in (
        _EVENTS,
        _GROUPS,
        _PERSONS,
        _PERSON_DISTINCT_IDS,
        _OVERRIDES,
        _REPLAY_EVENTS,
        _COHORT_PEOPLE,
        _STATIC_COHORT_PEOPLE,
        _log_entries("log_entries", "Lines that exports, apps and recorded browsers wrote"),
        _log_entries("console_logs_log_entries", "Lines that recorded browsers wrote", hidden=True),
        _log_entries("batch_export_log_entries", "Lines that batch exports wrote", hidden=True),
        _APP_METRICS,
        _SESSIONS,
        _RAW_REPLAY_EVENTS,
        _RAW_PERSON_DISTINCT_IDS,
        _RAW_PERSONS,
        _RAW_GROUPS,
        _RAW_COHORT_PEOPLE,
        _RAW_OVERRIDES,
    )
}
"""The analytics tables by their HogQL names."""

MISSING = frozenset(
    {
        *("heatmaps", "query_log", "raw_query_log", "query_log_archive", "raw_sessions", "raw_sessions_v3"),
        *("error_tracking_issue_fingerprint_overrides", "raw_error_tracking_issue_fingerprint_overrides"),
        *("error_tracking_fingerprint_issue_state", "raw_error_tracking_fingerprint_issue_state"),
        *("logs", "log_attributes", "logs_kafka_metrics", "ai_events", "trace_spans", "metrics", "flag_evaluations"),
        *("document_embeddings", "raw_document_embeddings", "persons_revenue_analytics", "groups_revenue_analytics"),
        *("exchange_rate", "channel_definition", "hog_invocation_results", "session_replay_features"),
        *("preaggregation_results", "web_stats_daily", "web_bounces_daily", "web_stats_hourly", "web_bounces_hourly"),
    }
)
"""Tables of PostHog that hold what the embedded server does not store."""
