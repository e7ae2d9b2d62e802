"""Answers about one project: its queries, and the routes of everything else (`person_routes`, `entity_routes`, ...)."""

from __future__ import annotations

import uuid

from . import capture_routes, entity_routes, errors, event_routes, flag_routes, person_routes
from .routes import PROJECT, QUERY, ProjectCall, route
from .wire import Response

__all__ = ["ROUTES"]

_IN_THE_BACKGROUND = ("async", "force_async", "lazy_async")


# ------------------------------------------------------------------------------------------------------- queries


def query(call: ProjectCall) -> Response:
    """Run a query, or start it in the background; a blocking one is stopped when its caller hangs up."""
    body = call.request.json()
    queries, denied = call.project.queries, call.denied
    if isinstance(body, dict):
        body.pop("personal_api_key", None)
    if not isinstance(body, dict) or body.get("refresh") in _IN_THE_BACKGROUND or body.get("async"):
        return queries.submit(body, denied=denied)
    query_id = body.get("client_query_id") or uuid.uuid4().hex
    with call.request.watch(lambda: queries.cancel(query_id)):
        return queries.submit({**body, "client_query_id": query_id}, denied=denied)


def query_status(call: ProjectCall, id: str) -> Response:
    """Tell how a background query is doing."""
    show_progress = bool(call.request.flag("show_progress"))
    return call.project.queries.poll(id, denied=call.denied, show_progress=show_progress)


def closed(call: ProjectCall, **_: str) -> Response:
    """Refuse what PostHog has for its own pages alone."""
    raise errors.forbidden("This action does not support personal API key access")


def cancel_query(call: ProjectCall, id: str) -> Response:
    """Stop a query."""
    return call.project.queries.cancel(id, dequeue_only=bool(call.request.flag("dequeue_only")))


# The first route that fits answers: the special addresses stand before the general ones.
ROUTES = (
    *capture_routes.ROUTES,
    *flag_routes.ROUTES,
    route("POST", f"{PROJECT}/query/", query, "query:read", QUERY),
    route("POST", f"{PROJECT}/query/{{id}}/", closed, "", QUERY),
    route("GET", f"{PROJECT}/query/draft_sql/", closed, "", QUERY),
    route("GET", f"{PROJECT}/query/{{id}}/log/", closed, "", QUERY),
    route("GET", f"{PROJECT}/query/{{id}}/", query_status, "query:read", QUERY),
    route("DELETE", f"{PROJECT}/query/{{id}}/", cancel_query, "query:read", QUERY),
    *person_routes.ROUTES,
    *event_routes.ROUTES,
    *entity_routes.ROUTES,
)
