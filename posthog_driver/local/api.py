"""PostHog's API without sockets: finds the route of a request, checks who asks, counts, and answers.

`Api` answers a `Request` with a `Response`. All that it answers is listed in `ROUTES`; the handlers are in
`account_routes` and `project_routes`.
"""

from __future__ import annotations

import hmac
import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from . import account_routes, errors, project_routes
from .errors import ApiError
from .faults import Script
from .ingest import CaptureError
from .keys import NOBODY, Key, KeyRing
from .limits import Limits, Throttle
from .project import Project, Projects
from .routes import OPEN, OTHER, OWNER, QUERY, Account, Call, ProjectCall, Route
from .wire import Request, Response

__all__ = ["ROUTES", "Api"]

ROUTES = (*account_routes.ROUTES, *project_routes.ROUTES)
"""Everything that is answered; the first route that fits does it."""

SUNSET = "Fri, 31 Jul 2026 00:00:00 GMT"
"""When PostHog ends ``/api/environments/``; answers from there carry it as the ``Sunset`` header."""

NEVER_FAULTY = ("/", "/_health", "/_health/")
"""Paths that no scripted fault is for; nor is one for whoever started the server."""

_LOG = logging.getLogger(__name__)


class Api:
    """PostHog's API over the projects of one server.

    Args:
        projects: The projects.
        keys: The personal keys that callers may come with.
        owner_key: What the script of faults asks for; nobody but the process that started the server has it.
        limits: Rate limits, None for none.
        faults: The script of faults to begin with; see `posthog_driver.local.faults.Fault`.
        clock: Monotonic seconds.
        sleep: Waits for some seconds, for faults that come late.
    """

    def __init__(
        self,
        projects: Projects,
        keys: KeyRing,
        *,
        owner_key: str = "",
        limits: Limits | None = None,
        faults: Iterable[Any] | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.account = Account(projects, keys, Script(faults or ()))
        self._owner_key = owner_key
        self._rates = {QUERY: limits.queries, OTHER: limits.others} if limits else {}
        self._throttles: dict[tuple[str, str], Throttle] = {}
        self._lock = threading.Lock()
        self._clock = clock
        self._sleep = sleep

    def handle(self, request: Request) -> Response:
        """Answer one request; whatever goes wrong becomes PostHog's error body."""
        is_deprecated = request.path.startswith("/api/environments/")
        path = request.path.replace("/api/environments/", "/api/projects/", 1) if is_deprecated else request.path
        is_apart = path in NEVER_FAULTY or self._is_owner(request)
        fault = None if is_apart else self.account.script.take(request)
        if fault is not None and fault.delay:
            self._sleep(fault.delay)
        response = fault.answer(lambda: self._answer(request, path)) if fault else self._answer(request, path)
        return replace(response, headers={**response.headers, "Sunset": SUNSET}) if is_deprecated else response

    def close(self) -> None:
        """Start no more background queries."""
        self.account.projects.close()

    def _answer(self, request: Request, path: str) -> Response:
        try:
            return self._dispatch(request, path)
        except ApiError as error:
            return Response(error.status, error.body(), error.headers)
        except CaptureError as error:
            return Response(error.status, str(error))
        except RecursionError:
            return Response(400, errors.unparsable("the body is nested too deeply").body())
        except Exception:
            _LOG.exception("%s %r failed", request.method, request.path)
            return Response(500, errors.internal().body())

    def _dispatch(self, request: Request, path: str) -> Response:
        method = "GET" if request.method == "HEAD" else request.method
        allowed = []
        for route in ROUTES:
            if found := route.pattern.fullmatch(path):
                if route.method == method:
                    return self._call(route, request, found.groupdict())
                allowed.append(route.method)
        if allowed:
            raise errors.method_not_allowed(request.method, ", ".join(dict.fromkeys(allowed)))
        raise errors.not_found("Endpoint not found.")

    def _call(self, route: Route, request: Request, places: dict[str, str]) -> Response:
        """Check that a request may use a route, and let the handler answer."""
        if route.scope == OWNER and not self._is_owner(request):
            raise errors.not_found("Endpoint not found.")
        if route.scope in (OPEN, OWNER):
            return route.handler(Call(request, self.account, NOBODY), **places)
        key = self._authenticate(request)
        project = self._project(request, places.pop("project")) if "project" in places else None
        _check_reach(key, project, route.scope)
        if not key.allows(scope := route.needs(places)):
            raise errors.missing_scope(scope)
        if throttle := self._throttle(key, route.budget):
            throttle.admit()
        if project is None:
            return route.handler(Call(request, self.account, key), **places)
        return route.handler(ProjectCall(request, self.account, key, project), **places)

    def _is_owner(self, request: Request) -> bool:
        given = (_bearer(request) or "").encode("utf-8", "replace")
        return bool(self._owner_key) and hmac.compare_digest(given, self._owner_key.encode())

    def _authenticate(self, request: Request) -> Key:
        """Check the first place that holds a personal key, in PostHog's order: header, body, query.

        Raises:
            ApiError: 401.
        """
        value, place = _personal_key(request)
        if value is None:
            raise errors.unauthenticated("Authentication credentials were not provided.", "not_authenticated")
        key = self.account.keys.find(value)
        if key is None:
            raise errors.invalid_key(place)
        return key

    def _project(self, request: Request, place: str) -> Project:
        """Return the project of a path; a token in the query string names another one, as in PostHog."""
        projects = self.account.projects
        if token := request.param("token"):
            project = projects.by_token(token)
            if project is None:
                detail = "Project API key invalid. You can find your project API key in your PostHog project settings."
                raise errors.unauthenticated(detail, "authentication_failed")
            return project
        if place == "@current":
            return projects.first
        is_number = place.isascii() and place.isdigit() and len(place) < 10 and str(int(place)) == place
        project = projects.get(int(place)) if is_number else None
        if project is None:
            raise errors.not_found("Project not found.")
        return project

    def _throttle(self, key: Key, budget: str) -> Throttle | None:
        """Return the window that a key's requests are counted in: each key has its own."""
        if budget not in self._rates:
            return None
        with self._lock:
            return self._throttles.setdefault((key.id, budget), Throttle(self._rates[budget], self._clock))


def _check_reach(key: Key, project: Project | None, scope: str) -> None:
    """Refuse a key that is for other projects; what is about the user or the key itself is open to all of them."""
    if not key.teams or scope in ("", "user:read"):
        return
    if project is None:
        raise errors.forbidden("API keys with scoped projects are only supported on project-based endpoints.")
    if not key.reaches(project.id):
        raise errors.forbidden(f"API key does not have access to the requested project: ID {project.id}.")


def _bearer(request: Request) -> str | None:
    scheme, _, key = request.headers.get("authorization", "").strip().partition(" ")
    return key.strip() or None if scheme.lower() == "bearer" else None


def _personal_key(request: Request) -> tuple[str | None, str]:
    if key := _bearer(request):
        return key, "Authorization header"
    if request.method in ("POST", "PATCH") and b'"personal_api_key"' in request.body:
        body = request.json()
        if isinstance(body, dict) and isinstance(body.get("personal_api_key"), str):
            return body["personal_api_key"], "body"
    if key := request.param("personal_api_key"):
        return key, "query string"
    return None, ""
