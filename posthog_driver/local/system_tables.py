"""``system.*``: the project's entities as tables, printed from the catalog into the query.

The columns are those of PostHog's ``posthog/hogql/database/schema/system.py``: booleans are 0 and 1, deleted entities
are listed, and fewer fields are shown than the REST API has. `TABLES` has what the embedded server has entities for;
`MISSING` names PostHog's other system tables.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from .schema import Catalog, Column, Table

Entity = Mapping[str, Any]


@dataclass(frozen=True)
class _Field:
    """A column and where an entity keeps its value: a key, or several that lead into nested objects."""

    column: Column
    path: tuple[str, ...]

    def read(self, entity: Entity) -> Any:
        value: Any = entity
        for key in self.path:
            value = value.get(key) if isinstance(value, Mapping) else None
        return None if value is None else _PRINTED[self.column.type](value)


def _whole(value: Any) -> int | None:
    return int(value) if isinstance(value, bool | int | float) else None


def moment(value: Any) -> str | None:
    """A date or datetime, or its ISO text, as the text of a UTC time that the engine reads; None for anything else."""
    try:
        time = value if isinstance(value, datetime) else datetime.fromisoformat(str(value).replace("Z", "+00:00"))
    except ValueError:
        return None
    time = time if time.tzinfo else time.replace(tzinfo=timezone.utc)
    return time.astimezone(timezone.utc).strftime("%Y-%m-%d %H:%M:%S.%f")


_PRINTED: Mapping[str, Callable[[Any], Any]] = {
    "string": str,
    "integer": _whole,
    "boolean": bool,
    "datetime": moment,
    "json": lambda value: json.dumps(value, ensure_ascii=False, separators=(",", ":")),
}


def _field(name: str, type_: str, description: str, path: str = "") -> _Field:
    return _Field(Column(name, type_, description, nullable=name != "id"), tuple((path or name).split(".")))


def _text(name: str, description: str, path: str = "") -> _Field:
    return _field(name, "string", description, path)


def _number(name: str, description: str, path: str = "") -> _Field:
    return _field(name, "integer", description, path)


def _flag(name: str, description: str) -> _Field:
    """A boolean, which PostHog shows as 0 or 1."""
    return _Field(Column(name, "integer", description, nullable=True, computed=True), (name,))


def _moment(name: str, description: str, path: str = "") -> _Field:
    return _field(name, "datetime", description, path)


def _object(name: str, description: str, path: str = "") -> _Field:
    return _field(name, "json", description, path)


def _id(what: str) -> _Field:
    return _number("id", f"Number of the {what}")


def _uuid(what: str) -> _Field:
    return _text("id", f"UUID of the {what}")


_DELETED = _flag("deleted", "1 if it was deleted, else 0")
_CREATED = _moment("created_at", "When it was created")
_CREATOR = _number("created_by_id", "User who created it", "created_by.id")
_NAMED = (_text("name", "Its name"), _text("description", "What it is for"))


def _table(
    name: str,
    scope: str,
    description: str,
    *fields: _Field,
    kind: str = "",
    entities: Callable[[Catalog], Iterator[Entity]] | None = None,
) -> Table:
    """A table with one row for each entity of a kind, named as in the REST API."""

    def rows(catalog: Catalog) -> Iterator[tuple[Any, ...]]:
        for entity in entities(catalog) if entities else catalog.entities.get(kind or name, ()):
            yield tuple(field.read(entity) for field in fields)

    columns = {field.column.name: field.column for field in fields}
    return Table(f"system.{name}", "", columns, description, rows=rows, access_scope=scope)


def _dashboard_tiles(catalog: Catalog) -> Iterator[Entity]:
    for dashboard in catalog.entities.get("dashboards", ()):
        for tile in dashboard.get("tiles") or ():
            yield {"deleted": False, **tile, "dashboard_id": dashboard["id"]}


def _experiments(catalog: Catalog) -> Iterator[Entity]:
    flags = {flag["key"]: flag["id"] for flag in catalog.entities.get("feature_flags", ())}
    for experiment in catalog.entities.get("experiments", ()):
        flag = experiment.get("feature_flag") or {"id": flags.get(experiment.get("feature_flag_key"))}
        yield {**experiment, "feature_flag": flag}


def _group_types(catalog: Catalog) -> Iterator[Entity]:
    named = {entity["group_type_index"]: entity for entity in catalog.entities.get("group_types", ())}
    for index, group_type in enumerate(catalog.group_types):
        yield {**named.get(index, {}), "id": index + 1, "group_type": group_type}


def _insights(catalog: Catalog) -> Iterator[Entity]:
    for insight in catalog.entities.get("insights", ()):
        yield {"updated_at": insight.get("last_modified_at"), **insight}


def _notebooks(catalog: Catalog) -> Iterator[Entity]:
    for notebook in catalog.entities.get("notebooks", ()):
        content = notebook.get("content")
        nodes = content.get("content") if isinstance(content, Mapping) else None
        first = nodes[0] if isinstance(nodes, list) and nodes else {}
        is_markdown = isinstance(first, Mapping) and first.get("type") == "ph-markdown-notebook"
        yield {**notebook, "markdown": (first.get("attrs") or {}).get("markdown") if is_markdown else None}


def _teams(catalog: Catalog) -> Iterator[Entity]:
    yield {
        "name": "",
        **next(iter(catalog.entities.get("teams", ())), {}),
        "id": catalog.team_id,
        "timezone": catalog.timezone,
        "test_account_filters": list(catalog.test_account_filters),
    }


_GROUPS = Table(
    "system.groups",
    "",
    {
        column.name: column
        for column in (
            Column("group_key", "string", "Identifier of the group within its type"),
            Column("group_type_index", "integer", "Which group type, 0 to 4"),
            Column("group_properties", "json", "The group's current properties"),
            Column("created_at", "datetime", "When the group was first seen"),
        )
    },
    "Groups such as companies; one row each",
    query=lambda catalog: (
        "SELECT key AS group_key, index AS group_type_index, properties AS group_properties, created_at FROM groups"
    ),
    missing=frozenset({"id"}),
)

TABLES: Mapping[str, Table] = {
    table.name: table
    for table in (
        _table(
            "actions",
            "action",
            "Actions: names for events that match certain steps; one row each",
            _id("action"),
            *_NAMED,
            _DELETED,
            _CREATED,
            _moment("updated_at", "When it last changed"),
            _object("steps_json", "Its steps: conditions on event, URL and element", "steps"),
        ),
        _table(
            "activity_logs",
            "activity_log",
            "What was changed in the project; one row for each change",
            _uuid("entry"),
            _text("activity", "What was done, such as created or updated"),
            _text("item_id", "Id of what was changed"),
            _text("scope", "Kind of what was changed, such as FeatureFlag"),
            _object("detail", "The changes, field by field"),
            _moment("created_at", "When it was done"),
            kind="activity_log",
        ),
        _table(
            "annotations",
            "annotation",
            "Notes on dates of charts; one row each",
            _id("annotation"),
            _text("content", "The note"),
            _text("scope", "Where it shows: dashboard_item, dashboard, project or organization"),
            _text("creation_type", "USR for a user's, GIT for one from GitHub"),
            _moment("date_marker", "The date it belongs to"),
            _DELETED,
            _number("dashboard_item_id", "Insight it belongs to", "dashboard_item"),
            _number("dashboard_id", "Dashboard it belongs to"),
            _CREATOR,
            _CREATED,
            _moment("updated_at", "When it last changed"),
        ),
        _table(
            "cohorts",
            "",
            "Cohorts: groups of persons, by filters or as a list; one row each",
            _id("cohort"),
            *_NAMED,
            _DELETED,
            _object("filters", "What its members fulfil"),
            _object("groups", "The same in PostHog's older form"),
            _object("query", "The query that finds its members, if it has one"),
            _CREATED,
            _moment("last_calculation", "When its members were last calculated"),
            _number("version", "Number of that calculation"),
            _number("count", "How many members that found"),
            _flag("is_static", "1 for a list, 0 for filters"),
        ),
        _table(
            "dashboards",
            "dashboard",
            "Dashboards; one row each",
            _id("dashboard"),
            *_NAMED,
            _CREATED,
            _DELETED,
            _object("filters", "Filters for all its tiles"),
            _object("variables", "Values of its variables"),
        ),
        _table(
            "dashboard_tiles",
            "dashboard",
            "Tiles of dashboards; one row each",
            _id("tile"),
            _number("dashboard_id", "Dashboard it is on"),
            _number("insight_id", "Insight it shows", "insight.id"),
            _number("text_id", "Text it shows", "text.id"),
            _text("button_tile_id", "Button it shows", "button_tile.id"),
            _object("layouts", "Its place, by width of the screen"),
            _text("color", "Its colour"),
            _field("show_description", "boolean", "1 if the insight's description shows"),
            _field("transparent_background", "boolean", "1 if it has no background"),
            _object("filters_overrides", "Filters for this tile alone"),
            _DELETED,
            entities=_dashboard_tiles,
        ),
        _table(
            "early_access_features",
            "early_access_feature",
            "Features that users can opt into; one row each",
            _uuid("feature"),
            _number("feature_flag_id", "Flag that guards it", "feature_flag.id"),
            *_NAMED,
            _text("stage", "draft, concept, alpha, beta, general-availability or archived"),
            _text("documentation_url", "Where it is documented"),
            _CREATED,
            kind="early_access_feature",
        ),
        _table(
            "experiments",
            "experiment",
            "A/B tests; one row each",
            _id("experiment"),
            *_NAMED,
            _CREATED,
            _moment("updated_at", "When it last changed"),
            _object("filters", "Filters of its goal, in PostHog's older form"),
            _object("parameters", "Its settings, such as the sample size"),
            _moment("start_date", "When it was launched, NULL before"),
            _moment("end_date", "When it was ended, NULL before"),
            _flag("archived", "1 if it is archived, else 0"),
            _number("feature_flag_id", "Flag that assigns the variants", "feature_flag.id"),
            entities=_experiments,
        ),
        _table(
            "exports",
            "",
            "Files made of insights and queries; one row each",
            _id("export"),
            _text("export_format", "MIME type, such as text/csv"),
            _CREATED,
            _object("export_context", "What was exported"),
        ),
        _table(
            "feature_flags",
            "feature_flag",
            "Feature flags; one row each",
            _id("flag"),
            _text("key", "Key that code asks for"),
            _text("name", "What it is for"),
            _object("filters", "Who gets it: conditions, variants and payloads"),
            _number("rollout_percentage", "Share in percent, for flags without conditions"),
            _CREATED,
            _DELETED,
        ),
        _table(
            "group_type_mappings",
            "",
            "Group types; one row each",
            _id("group type"),
            _text("group_type", "Its name, such as company"),
            _text("name_singular", "What one of them is called"),
            _text("name_plural", "What several of them are called"),
            entities=_group_types,
        ),
        _GROUPS,
        _table(
            "insight_variables",
            "",
            "Variables of queries; one row each",
            _uuid("variable"),
            _text("name", "Its name"),
            _text("type", "String, Number, Boolean, List or Date"),
            _text("code_name", "Its name in queries"),
            _object("values", "Values to choose from, for a list"),
            _object("default_value", "Value that holds if none is given"),
        ),
        _table(
            "insights",
            "insight",
            "Saved insights; one row each",
            _id("insight"),
            _text("short_id", "Its id in addresses"),
            *_NAMED,
            _object("filters", "What it shows, in PostHog's older form"),
            _object("query", "What it shows, as a query"),
            _object("query_metadata", "What the query uses"),
            _DELETED,
            _flag("saved", "1 if a user saved it, else 0"),
            _flag("favorited", "1 if it is a favourite, else 0"),
            _CREATED,
            _CREATOR,
            _moment("last_modified_at", "When what it shows last changed"),
            _number("last_modified_by_id", "User who changed that", "last_modified_by.id"),
            _moment("updated_at", "When anything of it last changed"),
            entities=_insights,
        ),
        _table(
            "notebooks",
            "notebook",
            "Notebooks; one row each",
            _uuid("notebook"),
            _text("short_id", "Its id in addresses"),
            _text("title", "Its title"),
            _object("content", "What is in it, as ProseMirror keeps it"),
            _Field(
                Column("markdown", "string", "What is in it, for one of Markdown", nullable=True, computed=True),
                ("markdown",),
            ),
            _text("text_content", "What is in it, as plain text"),
            _DELETED,
            _text("visibility", "default or internal"),
            _number("version", "Counts its changes"),
            _CREATED,
            _moment("last_modified_at", "When it last changed"),
            entities=_notebooks,
        ),
        _table(
            "session_recording_playlists",
            "session_recording_playlist",
            "Saved filters and collections of recordings; one row each",
            _id("playlist"),
            _text("short_id", "Its id in addresses"),
            _text("name", "Its name"),
            _text("derived_name", "Name made from its filters"),
            _text("description", "What it is for"),
            _flag("pinned", "1 if it is pinned, else 0"),
            _DELETED,
            _object("filters", "Which recordings are in it"),
            _text("type", "filters or collection"),
            _CREATED,
            _CREATOR,
            _moment("last_modified_at", "When it last changed"),
            _number("last_modified_by_id", "User who changed it", "last_modified_by.id"),
        ),
        _table(
            "session_recordings",
            "session_recording",
            "Recordings of sessions; one row each",
            _text("id", "Id of the recording"),
            _text("session_id", "Session that was recorded", "id"),
            _text("distinct_id", "distinct_id of the recorded user"),
            _number("duration", "Length in seconds", "recording_duration"),
            _number("active_seconds", "Seconds in which the user did something"),
            _number("inactive_seconds", "Seconds in which the user did nothing"),
            _moment("start_time", "When it begins"),
            _moment("end_time", "When it ends"),
            _number("click_count", "Number of clicks"),
            _number("keypress_count", "Number of keys pressed"),
            _number("mouse_activity_count", "Number of mouse movements"),
            _number("console_log_count", "Number of console messages"),
            _number("console_warn_count", "Number of console warnings"),
            _number("console_error_count", "Number of console errors"),
            _text("start_url", "URL on which it begins"),
            _DELETED,
            _CREATED,
            _number("retention_period_days", "Days that it is kept"),
            _text("storage_version", "Version of the form it is stored in"),
        ),
        _table(
            "surveys",
            "survey",
            "Surveys; one row each",
            _uuid("survey"),
            _text("name", "Its name"),
            _text("type", "popover, widget, external_survey or api"),
            _object("questions", "Its questions"),
            _object("appearance", "What it looks like"),
            _moment("start_date", "When it was launched, NULL before"),
            _moment("end_date", "When it was stopped, NULL before"),
            _CREATED,
        ),
        _table(
            "teams",
            "",
            "The project itself",
            _id("project"),
            _text("name", "Its name"),
            _text("timezone", "Its time zone"),
            _object("test_account_filters", "Filters that leave out internal users"),
            _CREATED,
            _moment("updated_at", "When it last changed"),
            entities=_teams,
        ),
    )
}
"""The system tables by their HogQL names."""

_MISSING = """
account_relationship_definitions account_relationships accounts alerts batch_export_backfills batch_exports
business_knowledge_chunks business_knowledge_documents business_knowledge_sources cohort_calculation_history
custom_property_definitions data_modeling_endpoint_versions data_modeling_endpoints data_modeling_jobs
data_modeling_views data_warehouse_sources data_warehouse_tables error_tracking_assignment_rules
error_tracking_bypass_rules error_tracking_issue_assignments error_tracking_issue_fingerprints error_tracking_issues
error_tracking_releases error_tracking_suppression_rules error_tracking_symbol_sets evaluation_directories evaluations
file_system hog_flows hog_functions ingestion_warnings integration_repository_cache integrations logs_alerts logs_views
message_categories message_recipient_preferences review_queue_items review_queues sandbox_environments score_definitions
source_schemas source_sync_jobs support_tickets tags task_runs tasks trace_review_scores trace_reviews usage_metrics
"""
MISSING = frozenset(f"system.{name}" for name in _MISSING.split())
"""PostHog's system tables of what the embedded server has no entities for."""
