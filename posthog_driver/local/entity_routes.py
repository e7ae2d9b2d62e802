"""Answers about the entities of one project: lists, changes, and what each kind has beside them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from . import cohort_members, errors, insights
from .account_routes import paged
from .entities import KINDS, Entity
from .errors import ApiError
from .kinds import flag_status
from .people import PAGE
from .project import Project
from .routes import PROJECT, ProjectCall, route
from .tabular import in_format
from .wire import Request, Response

__all__ = ["ABSENT", "ROUTES"]

ABSENT = """
activity_log batch_exports endpoints error_tracking exports external_data_sources hog_functions integrations
subscriptions warehouse_saved_queries warehouse_tables web_analytics
"""
"""Entities of PostHog that the embedded server does not have; it says so instead of 404."""

_ABSENT_PARTS: Mapping[str, str] = {
    "cohorts": "activity duplicate_as_static_cohort calculation_history",
    "dashboards": "activity stream_tiles sharing collaborators",
    "experiments": "activity timeseries_results duplicate create_exposure_cohort_for_experiment",
    "feature_flags": "activity dashboard enrich_usage_dashboard create_static_cohort_for_flag role_access",
    "insights": "activity sharing thresholds",
    "surveys": "activity stats summarize_responses",
    "notebooks": "activity",
    "session_recording_playlists": "recordings",
}


# ------------------------------------------------------------------------------------------------------ every kind


def entities(call: ProjectCall, kind: str) -> Response:
    """List the entities of a kind."""
    request, project = call.request, call.project
    found = project.store.find(kind, request)
    page = paged(request, found) if not KINDS[kind].is_numbered else _numbered(request, found)
    page.body["results"] = [_shown(call, kind, entity, is_listed=True) for entity in page.body["results"]]
    if "format" in request.query:
        return in_format(request, page.body["results"], page.body, kind)
    return page


def _numbered(request: Request, found: list[Entity]) -> Response:
    """Answer one page of a list whose pages have numbers.

    Raises:
        ApiError: 404 for a page that is not there.
    """
    number, size = request.number("page", 1) if "page" in request.query else 1, PAGE
    if number < 1 or (number > 1 and (number - 1) * size >= len(found)):
        raise errors.not_found("Invalid page.")
    following = request.url_with(page=number + 1) if number * size < len(found) else None
    previous = request.url_with(page=number - 1) if number > 1 else None
    part = found[(number - 1) * size : number * size]
    return Response(200, {"count": len(found), "next": following, "previous": previous, "results": part})


def _shown(call: ProjectCall, kind: str, entity: Entity, *, is_listed: bool = False) -> Entity:
    """Return an entity as it is answered: with what is computed of it."""
    request, project = call.request, call.project
    if kind == "insights":
        if is_listed and request.flag("basic"):
            return {name: value for name, value in entity.items() if name not in ("result", "last_refresh")}
        number = request.param("from_dashboard")
        dashboard = project.store.get("dashboards", number) if number else None
        return insights.shown(project, entity, request.param("refresh"), call.denied, dashboard)
    if kind == "dashboards":
        refresh = "" if is_listed else request.param("refresh")
        return insights.shown_dashboard(project, entity, refresh, call.denied, bare=is_listed)
    if kind == "cohorts":
        return cohort_members.counted(project, entity, is_listed=is_listed)
    if kind == "experiments":
        return _with_flag(project, entity)
    if kind == "early_access_feature":
        flag = _flag_of(project, entity.get("feature_flag_id"))
        return {**entity, "feature_flag": flag}
    return entity


def _flag_of(project: Project, id: Any) -> Entity | None:
    flags = [flag for flag in project.store.all("feature_flags") if flag["id"] == id]
    names = ("id", "key", "name", "filters", "active", "deleted")
    return {name: flags[0].get(name) for name in names} if flags else None


def _with_flag(project: Project, experiment: Entity) -> Entity:
    key = experiment.get("feature_flag_key")
    ids = [flag["id"] for flag in project.store.all("feature_flags") if flag["key"] == key]
    return {**experiment, "feature_flag": _flag_of(project, ids[0]) if ids else experiment.get("feature_flag")}


def entity(call: ProjectCall, kind: str, id: str) -> Response:
    """Answer one entity."""
    return Response(200, _shown(call, kind, call.project.store.get(kind, id)))


def create_entity(call: ProjectCall, kind: str) -> Response:
    """Make an entity."""
    if not KINDS[kind].creatable:
        raise errors.method_not_allowed("POST", "GET")
    made = _created(call.project, kind, call.request)
    call.project.queries.data_changed()
    return Response(201, _shown(call, kind, made))


def _created(project: Project, kind: str, request: Request) -> Entity:
    if kind == "cohorts":
        return cohort_members.create(project, request)
    body = request.json_object()
    if kind == "experiments":
        return insights.create_experiment(project.store, body)
    if kind == "early_access_feature":
        return insights.create_early_access(project.store, body)
    if kind != "insights":
        return project.store.create(kind, body)
    insights.check(project, body)
    made = project.store.create(kind, body)
    insights.place(project.store, made)
    return made


def update_entity(call: ProjectCall, kind: str, id: str) -> Response:
    """Change an entity."""
    project, body = call.project, call.request.json_object()
    if kind == "insights":
        insights.check(project, body)
    changed = project.store.update(kind, id, body)
    if kind == "insights" and "dashboards" in body:
        insights.place(project.store, changed)
    project.queries.data_changed()
    return Response(200, _shown(call, kind, changed))


def delete_entity(call: ProjectCall, kind: str, id: str) -> Response:
    """Remove an entity of the few kinds that allow it."""
    if not KINDS[kind].deletable:
        detail = 'Hard delete of this model is not allowed. Use a patch API call to set "deleted" to true'
        raise ApiError(405, "invalid_request", "method_not_allowed", detail, headers={"Allow": "GET, PATCH"})
    call.project.store.delete(kind, id)
    call.project.queries.data_changed()
    return Response(204)


def absent(call: ProjectCall, **places: str) -> Response:
    """Refuse what the embedded server does not have, by name."""
    parts = [part for part in call.request.path.split("/") if part][3:]
    name = parts[0] if len(parts) < 3 or parts[0] in ABSENT.split() else f"{parts[2]} of {parts[0]}"
    raise errors.validation(f"The embedded server does not have {name}.")


# ----------------------------------------------------------------------------------------------------- definitions


def event_definition_by_name(call: ProjectCall) -> Response:
    """Answer the definition of one event."""
    name = call.request.param("name")
    found = [entity for entity in call.project.store.all("event_definitions") if entity["name"] == name]
    if not found:
        raise errors.not_found()
    return Response(200, found[0])


def property_definitions(call: ProjectCall) -> Response:
    """List property definitions, those of events with whether the asked events carry them."""
    request, project = call.request, call.project
    if request.param("type") == "group" and not request.param("group_type_index"):
        raise errors.validation("`group_type_index` must be set for `group` type", attr="group_type_index")
    found = project.store.find("property_definitions", request)
    if names := request.list_param("event_names"):
        seen = project.people.seen_properties([str(name) for name in names])
        found = [{**entity, "is_seen_on_filtered_events": entity["name"] in seen} for entity in found]
        if request.flag("filter_by_event_names"):
            found = [entity for entity in found if entity["is_seen_on_filtered_events"]]
    return paged(request, found)


def seen_together(call: ProjectCall) -> Response:
    """Say for each event whether it carries a property."""
    request = call.request
    name, events = request.param("property_name"), request.list_param("event_names")
    if not name or not events:
        raise errors.validation("property_name and event_names are required.", "required")
    return Response(200, {str(e): name in call.project.people.seen_properties([str(e)]) for e in events})


# ------------------------------------------------------------------------------------------- what one kind has beside


def cohort_persons(call: ProjectCall, id: str) -> Response:
    """List the members of a cohort; PostHog gives no count here."""
    cohort = call.project.store.get("cohorts", id)
    page = call.project.people.persons(call.request, f"id IN COHORT {int(cohort['id'])}")
    answer = {name: page[name] for name in ("results", "next", "previous")}
    return in_format(call.request, page["results"], answer, "persons")


def add_cohort_persons(call: ProjectCall, id: str) -> Response:
    """Put persons into a static cohort."""
    ids = call.request.json_object().get("person_ids")
    if not isinstance(ids, list) or not ids:
        raise errors.validation("This field is required.", "required", "person_ids")
    cohort_members.add(call.project, call.project.store.get("cohorts", id), ids)
    return Response(200, {})


def remove_cohort_person(call: ProjectCall, id: str) -> Response:
    """Take a person out of a static cohort."""
    person = call.request.json_object().get("person_id")
    if not isinstance(person, str) or not person:
        raise errors.validation("This field is required.", "required", "person_id")
    cohort_members.remove(call.project, call.project.store.get("cohorts", id), person)
    return Response(200, {"success": True})


def run_insights(call: ProjectCall, id: str) -> Response:
    """Compute the insights of a dashboard."""
    request = call.request
    format = request.param("output_format", "json")
    if format != "json":
        known = "json, optimized"
        detail = f'"{format}" is not one of {known}.' if format != "optimized" else (
            "The embedded server does not have output_format=optimized of run_insights."
        )  # fmt: skip
        raise errors.validation(detail, attr="output_format")
    dashboard = call.project.store.get("dashboards", id)
    refresh = request.param("refresh", "blocking")
    shown = insights.shown_dashboard(call.project, dashboard, refresh, call.denied)
    return Response(200, {"results": [tile["insight"] for tile in shown["tiles"] if tile.get("insight")]})


def status(call: ProjectCall, id: str) -> Response:
    """Say whether a flag is still of use."""
    kept = call.project.store.get("feature_flags", id)
    state, reason = flag_status(kept, datetime.now().astimezone())
    return Response(200, {"status": state, "reason": reason})


def archive_survey(call: ProjectCall, id: str) -> Response:
    """Archive a survey."""
    return Response(200, call.project.store.update("surveys", id, {"archived": True}))


def responses_count(call: ProjectCall) -> Response:
    """Count the answers to each survey."""
    rows = call.project.queries.rows(
        "SELECT toString(properties.$survey_id) AS id, count() AS n FROM events WHERE event = 'survey sent' "
        "AND properties.$survey_id IS NOT NULL GROUP BY id LIMIT 50000"
    )
    return Response(200, {row["id"]: row["n"] for row in rows})


ROUTES = (
    route("GET", f"{PROJECT}/event_definitions/by_name/", event_definition_by_name, "event_definition:read"),
    route("GET", f"{PROJECT}/property_definitions/", property_definitions, "property_definition:read"),
    route("GET", f"{PROJECT}/property_definitions/seen_together/", seen_together, "property_definition:read"),
    route("GET", f"{PROJECT}/cohorts/{{id}}/persons/", cohort_persons, "cohort:read"),
    route("PATCH", f"{PROJECT}/cohorts/{{id}}/add_persons_to_static_cohort/", add_cohort_persons, "cohort:write"),
    route("PATCH", f"{PROJECT}/cohorts/{{id}}/remove_person_from_static_cohort/", remove_cohort_person, "cohort:write"),
    route("GET", f"{PROJECT}/dashboards/{{id}}/run_insights/", run_insights, "dashboard:read"),
    route("GET", f"{PROJECT}/feature_flags/{{id}}/status/", status, "feature_flag:read"),
    route("POST", f"{PROJECT}/surveys/{{id}}/archive/", archive_survey, "survey:write"),
    route("GET", f"{PROJECT}/surveys/responses_count/", responses_count, "survey:read"),
    *(
        route(method, f"{PROJECT}/{kind}/{{id}}/{part}/", absent, f"{kind.removesuffix('s')}:read")
        for kind, parts in _ABSENT_PARTS.items()
        for part in parts.split()
        for method in ("GET", "POST")
    ),
    route("GET", f"{PROJECT}/{{kind}}/", entities, "{kind}:read"),
    route("POST", f"{PROJECT}/{{kind}}/", create_entity, "{kind}:write"),
    route("GET", f"{PROJECT}/{{kind}}/{{id}}/", entity, "{kind}:read"),
    route("PATCH", f"{PROJECT}/{{kind}}/{{id}}/", update_entity, "{kind}:write"),
    route("DELETE", f"{PROJECT}/{{kind}}/{{id}}/", delete_entity, "{kind}:write"),
    *(
        route(method, f"{PROJECT}/{name}/{tail}", absent, "")
        for name in ABSENT.split()
        for tail in ("", "{id}/", "{id}/{part}/")
        for method in ("GET", "POST", "PATCH", "DELETE")
    ),
)
