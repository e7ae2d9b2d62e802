"""Answers about the persons and groups of one project."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

from . import errors
from .errors import ApiError
from .identities import Person, person_id_of
from .ingest import property_type
from .people import property_values
from .person_history import properties_at_time
from .project import Project
from .routes import PROJECT, ProjectCall, route
from .tabular import in_format
from .wire import Response

__all__ = ["ROUTES"]

_ABSENT = (
    "properties_at_time deletion_status activity lifecycle funnel trends stickiness retention batch_by_distinct_ids"
)
MAX_BULK = 1000
"""Persons that one bulk_delete may name (PostHog's limit)."""


# ----------------------------------------------------------------------------------------------------------- persons


def persons(call: ProjectCall) -> Response:
    """List persons."""
    page = call.project.people.persons(call.request)
    return in_format(call.request, page["results"], page, "persons")


def person(call: ProjectCall, id: str) -> Response:
    """Answer one person."""
    return Response(200, call.project.people.person(id))


def values(call: ProjectCall) -> Response:
    """List the most frequent values of a property of persons."""
    return Response(200, property_values(call.project.queries, "persons", call.request))


def cohorts_of(call: ProjectCall) -> Response:
    """List the cohorts that a person is in."""
    id = call.project.people.person(call.request.param("person_id"))["id"]
    found = []
    for cohort in call.project.catalog().cohorts:
        test = f"SELECT count() AS n FROM persons WHERE id = toUUID({{id}}) AND id IN COHORT {cohort.id:d}"
        try:
            is_in = call.project.queries.rows(test, {"id": id})[0]["n"]
        except ApiError:  # a cohort that cannot be computed any more has no members
            continue
        if is_in:
            found.append(call.project.store.get("cohorts", str(cohort.id)))
    return Response(200, {"results": found})


def update_person(call: ProjectCall, id: str) -> Response:
    """Set properties of a person."""
    news = call.request.json_object().get("properties")
    if not isinstance(news, dict):
        raise errors.validation("This field is required.", "required", "properties")
    return Response(200, _changed(call, id, news))


def update_property(call: ProjectCall, id: str) -> Response:
    """Set one property of a person."""
    body = call.request.json_object()
    for name in ("key", "value"):
        if name not in body:
            raise errors.validation("This field is required.", "required", name)
    _changed(call, id, {str(body["key"]): body["value"]})
    return Response(202)


def delete_property(call: ProjectCall, id: str) -> Response:
    """Remove one property of a person."""
    name = call.request.json_object().get("$unset")
    if not isinstance(name, str) or not name:
        raise errors.validation("This field is required.", "required", "$unset")
    _changed(call, id, {}, name)
    return Response(201, {"success": True})


def _changed(call: ProjectCall, id: str, news: dict[str, Any], unset: str = "") -> dict[str, Any]:
    project = call.project
    with project.ingestion.lock:
        found = _stored(project, id)
        found.properties = {**found.properties, **news}
        found.properties.pop(unset, None)
        found.version += 1
        project.ingestion.identities.keep([found], {})
        project.store.learn((), {("person", name, None): property_type(name, value) for name, value in news.items()})
    project.queries.data_changed()
    return project.people.person(found.id)


def _stored(project: Project, id: str) -> Person:
    try:
        key = str(UUID(id))
    except ValueError:
        raise errors.not_found() from None
    found = project.ingestion.identities.persons([key])
    if not found:
        raise errors.not_found()
    return found[key]


def delete_person(call: ProjectCall, id: str) -> Response:
    """Remove a person, with ``?delete_events=true`` its events as well."""
    if call.request.flag("keep_person"):
        raise errors.validation("The embedded server does not have keep_person of DELETE.", attr="keep_person")
    with call.project.ingestion.lock:
        _remove(call.project, [_stored(call.project, id)], with_events=bool(call.request.flag("delete_events")))
    return Response(202)


def bulk_delete(call: ProjectCall) -> Response:
    """Remove persons by ``ids`` or ``distinct_ids``."""
    body, project = call.request.json_object(), call.project
    ids, names = body.get("ids"), body.get("distinct_ids")
    listed = ids if ids is not None else names
    if not isinstance(listed, list) or not all(isinstance(entry, str) for entry in listed):
        raise errors.validation("You need to specify either distinct_ids or ids")
    if len(listed) > MAX_BULK:
        raise errors.validation("You can only pass 1000 distinct_ids in one call")
    if body.get("delete_recordings") or body.get("keep_person"):
        raise errors.validation("The embedded server does not have delete_recordings and keep_person of bulk_delete.")
    identities = project.ingestion.identities
    with project.ingestion.lock:
        if ids is None:
            found = list({person.id: person for person in identities.load(listed).values()}.values())
        else:
            found = list(identities.persons(entry for entry in listed if _is_uuid(entry)).values())
        _remove(project, found, with_events=bool(body.get("delete_events")))
    count = len(found)
    events = count if body.get("delete_events") else 0
    own = {"events_queued_for_deletion": bool(events), "recordings_queued_for_deletion": False, "deletion_errors": []}
    return Response(202, {"persons_found": count, "persons_deleted": count, **own})


def _is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True


def _remove(project: Project, persons: list[Person], *, with_events: bool) -> None:
    identities = project.ingestion.identities
    ids = [person.id for person in persons]
    names = [name for found in identities.names(ids).values() for name in found]
    identities.forget(persons, names)
    if with_events:
        identities.remove_events(ids)
    project.queries.data_changed()


def split_person(call: ProjectCall, id: str) -> Response:
    """Make each distinct_id of a person a person of its own; ``main_distinct_id`` keeps the properties."""
    body, project = call.request.json_object(), call.project
    with project.ingestion.lock:
        identities = project.ingestion.identities
        found = _stored(project, id)
        names = identities.names([found.id]).get(found.id, [])
        wanted = body.get("distinct_ids_to_split")
        main = body.get("main_distinct_id")
        if main is not None and main not in names:
            raise errors.validation("There is no such distinct_id of this person.", attr="main_distinct_id")
        is_list = isinstance(wanted, list) and all(isinstance(name, str) for name in wanted)
        if wanted is not None and not (is_list and set(wanted) < set(names)):
            raise errors.validation(
                "Expected some, not all, of the person's distinct_ids.", attr="distinct_ids_to_split"
            )
        others = wanted if wanted is not None else [name for name in names if name != (main or names[0])]
        changed = []
        if main is None and wanted is None:
            # Without a main one, PostHog knows not whose the properties were.
            found.properties, found.version = {}, found.version + 1
            changed.append(found)
        made = {name: Person(_free_id(name, found), found.created_at) for name in others}
        links = {name: person.id for name, person in made.items()}
        identities.move_events_of(links)  # first, as `Identities.mend` takes this back if it is all that was done
        identities.keep([*changed, *made.values()], links)
    project.queries.data_changed()
    return Response(201, {"success": True})


def _free_id(distinct_id: str, holder: Person) -> str:
    id = person_id_of(distinct_id)
    return id if id != holder.id else str(uuid4())


def absent(call: ProjectCall, **places: str) -> Response:
    """Refuse what the embedded server does not have, by name."""
    name = call.request.path.rstrip("/").rpartition("/")[2]
    raise errors.validation(f"The embedded server does not have {name} of persons.")


# ------------------------------------------------------------------------------------------------------------ groups


def group_types(call: ProjectCall) -> Response:
    """List the group types: a plain array."""
    return Response(200, call.project.store.group_types())


def name_group_types(call: ProjectCall) -> Response:
    """Set what one and several groups of a type are called."""
    body = call.request.json()
    if not isinstance(body, list) or not all(isinstance(entry, dict) for entry in body):
        raise errors.validation("Expected a list of group types.")
    call.project.store.name_group_types(body)
    return group_types(call)


def groups(call: ProjectCall) -> Response:
    """List the groups of one type."""
    return Response(200, call.project.groups.page(call.request))


def create_group(call: ProjectCall) -> Response:
    """Make a group."""
    body = call.request.json_object()
    with call.project.ingestion.lock:
        made = call.project.groups.create(body)
    index, properties = made["group_type_index"], made["group_properties"]
    news = {("group", name, index): property_type(name, value) for name, value in properties.items()}
    call.project.store.learn((), news)
    call.project.queries.data_changed()
    return Response(201, made)


def group(call: ProjectCall) -> Response:
    """Answer one group."""
    return Response(200, call.project.groups.find(call.request))


def update_group_property(call: ProjectCall) -> Response:
    """Set one property of a group."""
    body = call.request.json_object()
    for name in ("key", "value"):
        if name not in body:
            raise errors.validation("This field is required.", "required", name)
    changed = _changed_group(call, {str(body["key"]): body["value"]}, "")
    index = changed["group_type_index"]
    call.project.store.learn((), {("group", str(body["key"]), index): property_type(str(body["key"]), body["value"])})
    return Response(200, changed)


def delete_group_property(call: ProjectCall) -> Response:
    """Remove one property of a group."""
    name = call.request.json_object().get("$unset")
    if not isinstance(name, str) or not name:
        raise errors.validation("This field is required.", "required", "$unset")
    return Response(200, _changed_group(call, {}, name))


def _changed_group(call: ProjectCall, news: dict[str, Any], unset: str) -> dict[str, Any]:
    def change(properties: dict[str, Any]) -> None:
        properties.update(news)
        properties.pop(unset, None)

    with call.project.ingestion.lock:
        changed = call.project.groups.change(call.request, change)
    call.project.queries.data_changed()
    return changed


def related(call: ProjectCall) -> Response:
    """List who and what was seen together with a group or a person."""
    return Response(200, call.project.groups.related(call.request))


def group_property_definitions(call: ProjectCall) -> Response:
    """List the properties of groups by type."""
    return Response(200, call.project.groups.property_definitions(call.project.catalog()))


def group_property_values(call: ProjectCall) -> Response:
    """List the most frequent values of a property of groups."""
    return Response(200, call.project.groups.property_values(call.request))


ROUTES = (
    route("GET", f"{PROJECT}/persons/", persons, "person:read"),
    route("GET", f"{PROJECT}/persons/values/", values, "person:read"),
    route("GET", f"{PROJECT}/persons/cohorts/", cohorts_of, "cohort:read"),
    route("GET", f"{PROJECT}/persons/properties_at_time/", properties_at_time, "person:read"),
    route("POST", f"{PROJECT}/persons/bulk_delete/", bulk_delete, "person:write"),
    *(route("GET", f"{PROJECT}/persons/{name}/", absent, "person:read") for name in _ABSENT.split()),
    route("GET", f"{PROJECT}/persons/{{id}}/", person, "person:read"),
    route("PATCH", f"{PROJECT}/persons/{{id}}/", update_person, "person:write"),
    route("DELETE", f"{PROJECT}/persons/{{id}}/", delete_person, "person:write"),
    route("POST", f"{PROJECT}/persons/{{id}}/update_property/", update_property, "person:write"),
    route("POST", f"{PROJECT}/persons/{{id}}/delete_property/", delete_property, "person:write"),
    route("POST", f"{PROJECT}/persons/{{id}}/split/", split_person, "person:write"),
    *(
        route("GET", f"{PROJECT}/persons/{{id}}/{name}/", absent, "person:read")
        for name in ("activity", "properties_timeline")
    ),
    route("GET", f"{PROJECT}/groups_types/", group_types, "group:read"),
    route("PATCH", f"{PROJECT}/groups_types/update_metadata/", name_group_types, "group:write"),
    route("GET", f"{PROJECT}/groups/", groups, "group:read"),
    route("POST", f"{PROJECT}/groups/", create_group, "group:write"),
    route("GET", f"{PROJECT}/groups/find/", group, "group:read"),
    route("GET", f"{PROJECT}/groups/related/", related, "group:read"),
    route("GET", f"{PROJECT}/groups/property_definitions/", group_property_definitions, "group:read"),
    route("GET", f"{PROJECT}/groups/property_values/", group_property_values, "group:read"),
    route("POST", f"{PROJECT}/groups/update_property/", update_group_property, "group:write"),
    route("POST", f"{PROJECT}/groups/delete_property/", delete_group_property, "group:write"),
)
