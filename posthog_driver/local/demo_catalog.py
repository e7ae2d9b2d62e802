"""What the demo project knows beside its events, in the shapes of PostHog's REST API.

Definitions, cohorts, flags, an experiment, insights: a pure function of the data set's arguments and truth, so
that only these are stored.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from .schema import Catalog, Cohort, PropertyDefinition

HOST = "parcelbay.example"
EXPERIMENT_FLAG = "signup-form"
PREVIEW_FLAG = "file-previews"


class _CohortRow(NamedTuple):
    cohort: Cohort
    description: str
    condition: Mapping[str, Any]


_EVENTS = {
    "$pageview": "A page was opened",
    "$pageleave": "The last page of a visit was left",
    "$autocapture": "Something was clicked",
    "$identify": "An anonymous visitor became a known user",
    "$groupidentify": "A company was described",
    "$feature_flag_called": "The value of a feature flag was used",
    "signed_up": "An account was made",
    "logged_in": "A user logged in",
    "logged_out": "A user logged out",
    "file_uploaded": "A file was uploaded",
    "file_downloaded": "A file was downloaded",
    "file_deleted": "A file was deleted",
    "link_shared": "A link to a file was sent to somebody",
    "teammate_invited": "A colleague was invited to the company's account",
    "plan_upgraded": "A free account became a paid one",
    "invoice_paid": "An invoice was paid",
}

_PROPERTIES: tuple[PropertyDefinition, ...] = (
    PropertyDefinition("$session_id", "event", "String", "Session of the event"),
    PropertyDefinition("$window_id", "event", "String", "Browser window of the event"),
    PropertyDefinition("$current_url", "event", "String", "URL of the page"),
    PropertyDefinition("$pathname", "event", "String", "Path of the page"),
    PropertyDefinition("$host", "event", "String", "Host of the page"),
    PropertyDefinition("$browser", "event", "String", "Name of the browser"),
    PropertyDefinition("$browser_version", "event", "Numeric", "Version of the browser"),
    PropertyDefinition("$os", "event", "String", "Operating system"),
    PropertyDefinition("$device_type", "event", "String", "Desktop, Mobile or Tablet"),
    PropertyDefinition("$screen_width", "event", "Numeric", "Width of the screen in pixels"),
    PropertyDefinition("$lib", "event", "String", "Library that sent the event"),
    PropertyDefinition("$geoip_country_code", "event", "String", "Country, two letters"),
    PropertyDefinition("$geoip_country_name", "event", "String", "Country"),
    PropertyDefinition("$referring_domain", "event", "String", "Where the visit came from; $direct without a referrer"),
    PropertyDefinition("utm_source", "event", "String", "Source of the campaign"),
    PropertyDefinition("utm_medium", "event", "String", "Medium of the campaign"),
    PropertyDefinition("utm_campaign", "event", "String", "Name of the campaign"),
    PropertyDefinition(f"$feature/{EXPERIMENT_FLAG}", "event", "String", "Variant of the sign-up form"),
    PropertyDefinition(f"$feature/{PREVIEW_FLAG}", "event", "Boolean", "Whether files had a preview"),
    PropertyDefinition("$active_feature_flags", "event", "String", "Flags that were on"),
    PropertyDefinition("$feature_flag", "event", "String", "Flag whose value was used"),
    PropertyDefinition("$feature_flag_response", "event", "String", "Value of the flag"),
    PropertyDefinition("$groups", "event", None, "Groups of the event by type"),
    PropertyDefinition("$group_0", "event", "String", "Key of the company"),
    PropertyDefinition("$group_type", "event", "String", "Type of the group described"),
    PropertyDefinition("$group_key", "event", "String", "Key of the group described"),
    PropertyDefinition("$anon_distinct_id", "event", "String", "distinct_id before the user was known"),
    PropertyDefinition("$set", "event", None, "Person properties to set"),
    PropertyDefinition("$event_type", "event", "String", "Kind of interaction"),
    PropertyDefinition("$el_text", "event", "String", "Text of the element clicked"),
    PropertyDefinition("load_ms", "event", "Numeric", "Milliseconds until the page was there"),
    PropertyDefinition("signup_method", "event", "String", "email, google or github"),
    PropertyDefinition("newsletter", "event", "Boolean", "Whether the newsletter was wanted"),
    PropertyDefinition("file_type", "event", "String", "Kind of file"),
    PropertyDefinition("size_mb", "event", "Numeric", "Size of the file in megabytes"),
    PropertyDefinition("encrypted", "event", "Boolean", "Whether the file was encrypted"),
    PropertyDefinition("folder_depth", "event", "Numeric", "Folders above the file"),
    PropertyDefinition("shared_with_me", "event", "Boolean", "Whether somebody else owns the file"),
    PropertyDefinition("recipients", "event", "Numeric", "People the link was sent to"),
    PropertyDefinition("password_protected", "event", "Boolean", "Whether the link needs a password"),
    PropertyDefinition("expires_at", "event", "DateTime", "When the link ends"),
    PropertyDefinition("role", "event", "String", "Role of the new colleague"),
    PropertyDefinition("from_plan", "event", "String", "Plan before the upgrade"),
    PropertyDefinition("to_plan", "event", "String", "Plan after the upgrade"),
    PropertyDefinition("plan", "event", "String", "Plan that was paid for"),
    PropertyDefinition("seats", "event", "Numeric", "Users that the plan covers"),
    PropertyDefinition("amount_usd", "event", "Numeric", "Amount in US dollars"),
    PropertyDefinition("is_annual", "event", "Boolean", "Whether a whole year was paid"),
    PropertyDefinition("email", "person", "String", "Address of the user"),
    PropertyDefinition("name", "person", "String", "Name of the user"),
    PropertyDefinition("plan", "person", "String", "free, pro or team"),
    PropertyDefinition("is_paying", "person", "Boolean", "Whether the plan is a paid one"),
    PropertyDefinition("seats", "person", "Numeric", "Users that the plan covers"),
    PropertyDefinition("signed_up_at", "person", "DateTime", "When the account was made"),
    PropertyDefinition("company", "person", "String", "Key of the user's company"),
    PropertyDefinition("$geoip_country_code", "person", "String", "Country, two letters"),
    PropertyDefinition("$geoip_country_name", "person", "String", "Country"),
    PropertyDefinition("$initial_browser", "person", "String", "Browser of the first visit"),
    PropertyDefinition("$initial_os", "person", "String", "Operating system of the first visit"),
    PropertyDefinition("$initial_device_type", "person", "String", "Device of the first visit"),
    PropertyDefinition("$initial_referring_domain", "person", "String", "Where the first visit came from"),
    PropertyDefinition("$initial_utm_source", "person", "String", "Source of the first campaign"),
    PropertyDefinition("$initial_utm_campaign", "person", "String", "First campaign"),
    PropertyDefinition("name", "group", "String", "Name of the company", 0),
    PropertyDefinition("industry", "group", "String", "What the company does", 0),
    PropertyDefinition("employees", "group", "Numeric", "People who work there", 0),
    PropertyDefinition("plan", "group", "String", "free or team", 0),
)

_COHORTS: tuple[_CohortRow, ...] = (
    _CohortRow(
        Cohort(1, "Paying customers", "properties.is_paying = true"),
        "People on a paid plan",
        {"key": "is_paying", "type": "person", "value": ["true"], "operator": "exact", "negation": False},
    ),
    _CohortRow(
        Cohort(2, "People in companies", "isNotNull(properties.company)"),
        "Users who work for a company",
        {"key": "company", "type": "person", "value": "is_set", "operator": "is_set", "negation": False},
    ),
)

_USER = {
    "id": 1,
    "uuid": "01890000-0000-7000-8000-000000000001",
    "distinct_id": "demo-owner",
    "first_name": "Demo",
    "last_name": "Owner",
    "email": "owner@parcelbay.example",
    "is_email_verified": True,
}


def entities(start: datetime, end: datetime, seed: int, truth: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that the project knows, by the names of the attributes of `demo.Demo`.

    Args:
        start: Begin of the data set's period.
        end: End of it.
        seed: Seed of the data set; identifiers depend on it.
        truth: What is true of its events.
    """
    made = {"created_at": _time(start), "created_by": _USER}
    flags = _feature_flags(made)
    insights = _insights(made)
    return {
        "catalog": Catalog(
            property_definitions=_PROPERTIES,
            event_names=tuple(name for name in _EVENTS if name in truth["event_counts"]),
            group_types=("company",),
            cohorts=tuple(row.cohort for row in _COHORTS),
        ),
        "event_definitions": tuple(
            {
                "id": _identifier(seed, "event", name),
                "name": name,
                "description": description,
                "tags": [],
                "created_at": _time(start),
                "last_seen_at": _time(end),
                "verified": not name.startswith("$"),
                "hidden": False,
                "owner": None,
            }
            for name, description in _EVENTS.items()
            if name in truth["event_counts"]
        ),
        "property_definitions": tuple(_property_row(seed, definition) for definition in _PROPERTIES),
        "cohorts": tuple(_cohort(row, truth, made) for row in _COHORTS),
        "feature_flags": flags,
        "experiments": (_experiment(flags[0], start, end, truth, made),),
        "insights": insights,
        "dashboards": (_dashboard(insights, made),),
        "annotations": _annotations(start, end, made),
        "group_types": (
            {
                "group_type": "company",
                "group_type_index": 0,
                "name_singular": "company",
                "name_plural": "companies",
                "detail_dashboard": None,
                "default_columns": None,
                "created_at": _time(start),
            },
        ),
    }


def _time(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def _identifier(seed: int, *parts: str) -> str:
    digest = hashlib.sha256(json.dumps([seed, *parts]).encode()).digest()
    return str(uuid.UUID(bytes=digest[:16], version=4))


def _property_row(seed: int, definition: PropertyDefinition) -> dict[str, Any]:
    return {
        "id": _identifier(seed, definition.type, definition.name),
        "name": definition.name,
        "description": definition.description,
        "tags": [],
        "is_numerical": definition.property_type == "Numeric",
        "property_type": definition.property_type,
        "is_seen_on_filtered_events": None,
        "verified": False,
        "hidden": False,
        "type": definition.type,
        "group_type_index": definition.group_type_index,
    }


def _cohort(row: _CohortRow, truth: Mapping[str, Any], made: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": row.cohort.id,
        "name": row.cohort.name,
        "description": row.description,
        "groups": [],
        "deleted": False,
        "filters": {"properties": {"type": "OR", "values": [{"type": "AND", "values": [row.condition]}]}},
        "query": None,
        "is_calculating": False,
        "last_calculation": made["created_at"],
        "errors_calculating": 0,
        "count": truth["cohorts"][row.cohort.name],
        "is_static": False,
        "experiment_set": [],
        **made,
    }


def _feature_flags(made: Mapping[str, Any]) -> tuple[dict[str, Any], ...]:
    everybody = {"properties": [], "rollout_percentage": 100, "variant": None}
    half = {**everybody, "rollout_percentage": 50}
    variants = [
        {"key": "control", "name": "The form as it was", "rollout_percentage": 50},
        {"key": "test", "name": "One field instead of five", "rollout_percentage": 50},
    ]
    return (
        _feature_flag(1, EXPERIMENT_FLAG, "Sign-up form", [everybody], {"variants": variants}, [1], made),
        _feature_flag(2, PREVIEW_FLAG, "Previews of files, for half of the people", [half], None, [], made),
    )


def _feature_flag(
    number: int,
    key: str,
    name: str,
    groups: Sequence[Mapping[str, Any]],
    multivariate: Mapping[str, Any] | None,
    experiments: Sequence[int],
    made: Mapping[str, Any],
) -> dict[str, Any]:
    return {
        "id": number,
        "key": key,
        "name": name,
        "filters": {"groups": [*groups], "multivariate": multivariate, "payloads": {}},
        "active": True,
        "deleted": False,
        "archived": False,
        "ensure_experience_continuity": True,
        "experiment_set": [*experiments],
        "is_simple_flag": multivariate is None,
        "rollout_percentage": groups[0]["rollout_percentage"],
        "tags": [],
        "version": 1,
        "evaluation_runtime": "all",
        **made,
    }


def _experiment(
    flag: Mapping[str, Any], start: datetime, end: datetime, truth: Mapping[str, Any], made: Mapping[str, Any]
) -> dict[str, Any]:
    metric = {
        "kind": "ExperimentMetric",
        "metric_type": "funnel",
        "name": "Sign-ups",
        "goal": "increase",
        "series": [{"kind": "EventsNode", "event": "signed_up"}],
    }
    winner = truth["experiment"]["winner"]
    return {
        "id": 1,
        "name": "A shorter sign-up form",
        "description": "One field instead of five: do more visitors sign up?",
        "start_date": _time(start),
        "end_date": _time(end),
        "feature_flag_key": flag["key"],
        "feature_flag": {name: flag[name] for name in ("id", "key", "name", "filters", "active", "deleted")},
        "parameters": {"feature_flag_variants": flag["filters"]["multivariate"]["variants"]},
        "metrics": [metric],
        "metrics_secondary": [],
        "archived": False,
        "deleted": False,
        "conclusion": "won" if winner == "test" else "lost",
        "conclusion_comment": f"More people signed up with {winner}.",
        "updated_at": _time(end),
        **made,
    }


def _series(*events: str, **options: str) -> list[dict[str, str]]:
    return [{"kind": "EventsNode", "event": event, **options} for event in events]


def _insights(made: Mapping[str, Any]) -> tuple[dict[str, Any], ...]:
    home, signup = (
        {
            "kind": "EventsNode",
            "event": "$pageview",
            "properties": [{"key": "$pathname", "value": [path], "operator": "exact", "type": "event"}],
        }
        for path in ("/", "/signup")
    )
    week = {"id": "file_uploaded", "type": "events"}
    questions: tuple[tuple[str, str, dict[str, Any]], ...] = (
        (
            "Daily active users",
            "People with an event on each day",
            {
                "kind": "TrendsQuery",
                "series": _series("$pageview", math="dau"),
                "dateRange": {"date_from": "-30d"},
            },
        ),
        (
            "From visit to plan",
            "How far new visitors get",
            {
                "kind": "FunnelsQuery",
                "series": [home, signup, *_series("signed_up", "file_uploaded", "plan_upgraded")],
                "dateRange": {"date_from": "-90d"},
            },
        ),
        (
            "Uploads every week",
            "Who uploads again in the weeks after the first upload",
            {
                "kind": "RetentionQuery",
                "retentionFilter": {
                    "period": "Week",
                    "totalIntervals": 8,
                    "targetEntity": week,
                    "returningEntity": week,
                },
            },
        ),
        (
            "Revenue by plan",
            "US dollars from invoices",
            {
                "kind": "TrendsQuery",
                "series": _series("invoice_paid", math="sum", math_property="amount_usd"),
                "breakdownFilter": {"breakdown": "plan", "breakdown_type": "event"},
                "interval": "week",
            },
        ),
    )
    return tuple(
        {
            "id": number,
            "short_id": f"demo{number:04}",
            "name": name,
            "derived_name": None,
            "description": description,
            "query": {"kind": "InsightVizNode", "source": source},
            "filters": {},
            "result": None,
            "dashboards": [1],
            "saved": True,
            "favorited": number == 1,
            "deleted": False,
            "tags": [],
            "order": None,
            "last_modified_at": made["created_at"],
            "last_modified_by": _USER,
            "updated_at": made["created_at"],
            **made,
        }
        for number, (name, description, source) in enumerate(questions, start=1)
    )


def _dashboard(insights: Sequence[Mapping[str, Any]], made: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": 1,
        "name": "Parcelbay at a glance",
        "description": "Visitors, customers and revenue",
        "pinned": True,
        "is_shared": False,
        "deleted": False,
        "creation_mode": "default",
        "filters": {},
        "variables": {},
        "tags": [],
        "tiles": [{"id": insight["id"], "insight": insight, "color": None, "layouts": {}} for insight in insights],
        **made,
    }


def _annotations(start: datetime, end: datetime, made: Mapping[str, Any]) -> tuple[dict[str, Any], ...]:
    notes = (
        ("Experiment with the sign-up form began", start),
        ("Campaign spring-launch began", start + timedelta(days=(end - start).days // 3)),
    )
    return tuple(
        {
            "id": number,
            "content": content,
            "date_marker": _time(moment),
            "creation_type": "USR",
            "dashboard_item": None,
            "insight_short_id": None,
            "insight_name": None,
            "dashboard_id": None,
            "deleted": False,
            "scope": "project",
            "updated_at": made["created_at"],
            **made,
        }
        for number, (content, moment) in enumerate(notes, start=1)
    )
