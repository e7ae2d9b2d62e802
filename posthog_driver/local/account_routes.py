"""Answers about the server as a whole: the user, keys, the organization, projects, and the script of faults."""

from __future__ import annotations

from typing import Any

from . import errors
from .entities import USER, Entity
from .page import page
from .people import PAGE, page_body
from .project import ORGANIZATION, Project
from .routes import OPEN, OWNER, PROJECT, Call, ProjectCall, route
from .wire import Request, Response

__all__ = ["ROUTES", "paged"]

_LISTED = ("id", "uuid", "organization", "api_token", "name", "timezone", "is_demo", "ingested_event", "created_at")


def paged(request: Request, found: list[Any]) -> Response:
    """Answer one page of a list."""
    limit, offset = request.number("limit", 0) or PAGE, request.number("offset", 0)
    return Response(200, page_body(request, found[offset : offset + limit], len(found), limit, offset))


def look(call: Call) -> Response:
    """Answer the page for people."""
    return page()


def health(call: Call) -> Response:
    """Say that the server is ready."""
    return Response(200, {"status": "ok"})


# ------------------------------------------------------------------------------------------- the user and the keys


def user(call: Call) -> Response:
    """Answer the user that the personal key belongs to, in the first project that the key is for."""
    reachable = [project for project in call.account.projects.all() if call.key.reaches(project.id)]
    team = reachable[0].shown() if reachable else None
    return Response(200, {**USER, "team": team, "organization": ORGANIZATION, "organizations": [ORGANIZATION]})


def key(call: Call) -> Response:
    """Answer what the personal key may do."""
    return Response(200, call.key.shown())


def create_key(call: Call) -> Response:
    """Make a personal key; its value is in this answer and in none after it."""
    body = call.request.json_object()
    known = [project.id for project in call.account.projects.all()]
    made, value = call.account.keys.create(body.get("label"), body.get("scopes"), body.get("scoped_teams") or [], known)
    return Response(201, made.shown(value))


# -------------------------------------------------------------------------------------- the organization, projects


def _organization(call: Call) -> Entity:
    projects = [_listed(project) for project in call.account.projects.all()]
    return {**ORGANIZATION, "teams": projects, "projects": projects}


def _listed(project: Project) -> Entity:
    shown = project.shown()
    return {name: shown[name] for name in _LISTED}


def _check_organization(id: str) -> None:
    if id not in ("@current", ORGANIZATION["id"]):
        raise errors.not_found("Organization not found.")


def organizations(call: Call) -> Response:
    """List the one organization."""
    return paged(call.request, [_organization(call)])


def organization(call: Call, id: str) -> Response:
    """Answer the organization."""
    _check_organization(id)
    return Response(200, _organization(call))


def projects(call: Call, id: str = "@current") -> Response:
    """List the projects."""
    _check_organization(id)
    return paged(call.request, [_listed(project) for project in call.account.projects.all()])


def create_project(call: Call, id: str = "@current") -> Response:
    """Make a project."""
    _check_organization(id)
    return Response(201, call.account.projects.create(call.request.json_object()).shown())


def project(call: ProjectCall) -> Response:
    """Answer the project, with the token for capturing."""
    return Response(200, call.project.shown())


def update_project(call: ProjectCall) -> Response:
    """Set fields of the project."""
    call.account.projects.update(call.project, call.request.json_object())
    return Response(200, call.project.shown())


def delete_project(call: ProjectCall) -> Response:
    """Remove the project with everything in it."""
    call.account.projects.delete(call.project)
    call.account.keys.forget_team(call.project.id)
    return Response(204)


# --------------------------------------------------------------------------------------------- the script of faults


def faults(call: Call) -> Response:
    """List what is left of the script of faults."""
    return Response(200, [fault.to_json() for fault in call.account.script.left()])


def add_faults(call: Call) -> Response:
    """Put lines at the end of the script of faults."""
    lines = call.request.json()
    if not isinstance(lines, list):
        raise errors.validation("Expected a list of faults.")
    try:
        call.account.script.add(lines)
    except (TypeError, ValueError) as problem:
        raise errors.validation(str(problem)) from None
    return faults(call)


def clear_faults(call: Call) -> Response:
    """Forget what is left of the script of faults."""
    call.account.script.clear()
    return Response(204)


ORGANIZATION_PATH = "/api/organizations/{id}"

ROUTES = (
    route("GET", "/", look, OPEN),
    route("GET", "/_health/", health, OPEN),
    route("GET", "/_local/faults/", faults, OWNER),
    route("POST", "/_local/faults/", add_faults, OWNER),
    route("DELETE", "/_local/faults/", clear_faults, OWNER),
    route("GET", "/api/users/@me/", user, "user:read"),
    route("GET", "/api/personal_api_keys/@current/", key, ""),
    route("POST", "/api/personal_api_keys/", create_key, "personal_api_key:write"),
    route("GET", "/api/organizations/", organizations, "organization:read"),
    route("GET", f"{ORGANIZATION_PATH}/", organization, "organization:read"),
    route("GET", f"{ORGANIZATION_PATH}/projects/", projects, "project:read"),
    route("POST", f"{ORGANIZATION_PATH}/projects/", create_project, "project:write"),
    route("GET", "/api/projects/", projects, "project:read"),
    route("POST", "/api/projects/", create_project, "project:write"),
    route("GET", f"{PROJECT}/", project, "project:read"),
    route("PATCH", f"{PROJECT}/", update_project, "project:write"),
    route("DELETE", f"{PROJECT}/", delete_project, "project:write"),
)
