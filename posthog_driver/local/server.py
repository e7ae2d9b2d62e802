"""The HTTP server of the embedded PostHog: PostHog's API for one project, on loopback.

`Api` answers a `Request` with a `Response` and knows no sockets; `ROUTES` lists all it answers. `LocalServer`
and its handler are the sockets around it: they check the Host, cap and drain bodies, and write each answer in
one piece.
"""

from __future__ import annotations

import hmac
import logging
import re
import socketserver
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import errors, flags
from .engine import EngineError
from .entities import KINDS, USER, Entity, EntityStore
from .errors import ApiError
from .ingest import MAX_BODY, CaptureError, Ingestion, decode_body
from .limits import Gate, Limits, Throttle, choose
from .people import PAGE, People, page_body
from .queries import QueryService, QuerySettings
from .wire import Request, Response

if TYPE_CHECKING:
    from .demo import Demo
    from .engine import Engine

__all__ = ["Api", "Keys", "LocalServer", "build_server"]

SUNSET = "Fri, 31 Jul 2026 00:00:00 GMT"
"""When PostHog ends ``/api/environments/``; answers from there carry it as the ``Sunset`` header."""

IDLE_SECONDS = 75.0
"""A connection that sends nothing for so long is closed."""

DRAIN_BYTES, DRAIN_SECONDS = 64 * 1024 * 1024, 2.0
"""How much of a body that is too large is still read, and how long a pause in it is waited for."""

OPEN, QUERY, OTHER = "open", "query", "other"
"""Who may use a route, and what it counts as: anyone, or holders of the key in one of the two rate limits."""

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, repr=False)
class Keys:
    """The two keys of the project."""

    personal: str
    project: str


class Api:
    """PostHog's API over one engine.

    Args:
        engine: Stores and queries.
        store: The entities.
        keys: The keys that callers must know.
        project_id: The project's number.
        limits: Rate limits, None for none.
        settings: Times of the query endpoint.
        faults: Answers to give instead of the real ones, one for each request to the API, in order.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        engine: Engine,
        store: EntityStore,
        keys: Keys,
        *,
        project_id: int = 1,
        limits: Limits | None = None,
        settings: QuerySettings | None = None,
        faults: Iterable[tuple[int, Mapping[str, str], Any]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.store = store
        self.keys = keys
        self.project_id = project_id
        self.queries = QueryService(
            engine, store.catalog, project_id=project_id, gate=Gate(limits), settings=settings, clock=clock
        )
        self.people = People(self.queries)
        self.ingestion = Ingestion(engine, store)
        self._faults = deque(Response(status, body, headers) for status, headers, body in faults or ())
        rates = {QUERY: limits.queries, OTHER: limits.others} if limits else {}
        self._throttles = {scope: Throttle(rate, clock) for scope, rate in rates.items()}

    def handle(self, request: Request) -> Response:
        """Answer one request; whatever goes wrong becomes PostHog's error body."""
        is_deprecated = request.path.startswith("/api/environments/")
        path = request.path.replace("/api/environments/", "/api/projects/", 1) if is_deprecated else request.path
        try:
            response = self._dispatch(request, path)
        except ApiError as error:
            response = Response(error.status, error.body(), error.headers)
        except CaptureError as error:
            response = Response(error.status, str(error))
        except RecursionError:
            response = Response(400, errors.unparsable("the body is nested too deeply").body())
        except Exception:
            _LOG.exception("%s %r failed", request.method, request.path)
            response = Response(500, errors.internal().body())
        return replace(response, headers={**response.headers, "Sunset": SUNSET}) if is_deprecated else response

    def _dispatch(self, request: Request, path: str) -> Response:
        allowed = []
        for route in ROUTES:
            if found := route.pattern.fullmatch(path):
                if route.method == request.method:
                    return self._answer(route, request, found.groupdict())
                allowed.append(route.method)
        if allowed:
            raise errors.method_not_allowed(request.method, ", ".join(dict.fromkeys(allowed)))
        raise errors.not_found("Endpoint not found.")

    def _answer(self, route: Route, request: Request, places: dict[str, str]) -> Response:
        if self._faults and request.path not in HEALTH_PATHS:
            return self._faults.popleft()
        if route.scope != OPEN:
            self._authenticate(request)
            if (project := places.pop("project", None)) not in (None, "@current", str(self.project_id)):
                _LOG.debug("project %s was asked for", project)
                raise errors.not_found("Project not found.")
            if throttle := self._throttles.get(route.scope):
                throttle.admit()
        return route.handler(self, request, **places)

    def _authenticate(self, request: Request) -> None:
        """Check the first place that holds a personal key, in PostHog's order: header, body, query.

        Raises:
            ApiError: 401.
        """
        key, place = _personal_key(request)
        if key is None:
            raise errors.unauthenticated("Authentication credentials were not provided.", "not_authenticated")
        if not _same(key, self.keys.personal):
            detail = f"Personal API key found in request {place} is invalid."
            raise errors.unauthenticated(detail, "authentication_failed")

    # ------------------------------------------------------------------------------------------ the project

    def health(self, request: Request) -> Response:
        """Say that the server is ready."""
        return Response(200, {"status": "ok"})

    def project(self, request: Request) -> Response:
        """Answer the project, with the token for capturing."""
        return Response(200, self._project())

    def _project(self) -> Entity:
        catalog = self.store.catalog()
        return {
            "id": self.project_id,
            "uuid": f"01900000-0000-7000-8000-{self.project_id:012d}",
            "organization": ORGANIZATION["id"],
            "project_id": self.project_id,
            "name": "Embedded PostHog",
            "api_token": self.keys.project,
            "timezone": catalog.timezone,
            "week_start_day": catalog.week_start,
            "completed_snippet_onboarding": True,
            "ingested_event": True,
            "is_demo": True,
            "has_group_types": bool(catalog.group_types),
            "test_account_filters": [],
            "access_control": False,
        }

    def user(self, request: Request) -> Response:
        """Answer the user that the personal key belongs to."""
        own = {"team": self._project(), "organization": ORGANIZATION, "organizations": [ORGANIZATION]}
        return Response(200, {**USER, **own})

    def key(self, request: Request) -> Response:
        """Answer what the personal key may do: everything in the one project."""
        personal = self.keys.personal
        return Response(
            200,
            {
                "id": "local-key",
                "label": "Embedded PostHog",
                "mask_value": f"{personal[:4]}...{personal[-4:]}" if len(personal) >= 16 else "...",
                "user_id": USER["id"],
                "scopes": ["*"],
                "scoped_teams": [self.project_id],
                "scoped_organizations": [],
            },
        )

    # ---------------------------------------------------------------------------------------------- queries

    def query(self, request: Request) -> Response:
        """Run a query, or start it in the background."""
        body = request.json()
        if isinstance(body, dict):
            body.pop("personal_api_key", None)
        return self.queries.submit(body)

    def query_status(self, request: Request, id: str) -> Response:
        """Tell how a background query is doing."""
        return self.queries.poll(id, show_progress=bool(request.flag("show_progress")))

    def cancel_query(self, request: Request, id: str) -> Response:
        """Stop a query."""
        return self.queries.cancel(id, dequeue_only=bool(request.flag("dequeue_only")))

    # ----------------------------------------------------------------------------------- persons and groups

    def persons(self, request: Request) -> Response:
        """List persons."""
        return Response(200, self.people.persons(request))

    def person(self, request: Request, id: str) -> Response:
        """Answer one person."""
        return Response(200, self.people.person(id))

    def cohort_persons(self, request: Request, id: str) -> Response:
        """List the members of a cohort; PostHog gives no count here."""
        cohort = self.store.get("cohorts", id)
        page = self.people.persons(request, f"id IN COHORT {int(cohort['id'])}")
        return Response(200, {name: page[name] for name in ("results", "next", "previous")})

    def group_types(self, request: Request) -> Response:
        """List the group types: a plain array."""
        return Response(200, self.store.group_types())

    def groups(self, request: Request) -> Response:
        """List the groups of one type."""
        return Response(200, self.people.groups(request))

    def group(self, request: Request) -> Response:
        """Answer one group."""
        return Response(200, self.people.group(request))

    # --------------------------------------------------------------------------------------------- entities

    def event_definition_by_name(self, request: Request) -> Response:
        """Answer the definition of one event."""
        name = request.param("name")
        found = [entity for entity in self.store.all("event_definitions") if entity["name"] == name]
        if not found:
            raise errors.not_found()
        return Response(200, found[0])

    def property_definitions(self, request: Request) -> Response:
        """List property definitions, those of events with whether the asked events carry them."""
        found = self.store.find("property_definitions", request)
        if names := request.list_param("event_names"):
            seen = self.people.seen_properties([str(name) for name in names])
            found = [{**entity, "is_seen_on_filtered_events": entity["name"] in seen} for entity in found]
            if request.flag("filter_by_event_names"):
                found = [entity for entity in found if entity["is_seen_on_filtered_events"]]
        return _page(request, found)

    def entities(self, request: Request, kind: str) -> Response:
        """List the entities of a kind."""
        found = self.store.find(kind, request)
        if kind == "insights" and request.flag("basic"):
            found = [{name: value for name, value in insight.items() if name != "result"} for insight in found]
        return _page(request, found)

    def entity(self, request: Request, kind: str, id: str) -> Response:
        """Answer one entity."""
        return Response(200, self.store.get(kind, id))

    def create_entity(self, request: Request, kind: str) -> Response:
        """Make an entity."""
        if not KINDS[kind].creatable:
            raise errors.method_not_allowed("POST", "GET")
        return Response(201, self.store.create(kind, request.json_object()))

    def update_entity(self, request: Request, kind: str, id: str) -> Response:
        """Change an entity."""
        return Response(200, self.store.update(kind, id, request.json_object()))

    def delete_entity(self, request: Request, kind: str, id: str) -> Response:
        """Remove an entity of the few kinds that allow it."""
        if not KINDS[kind].deletable:
            detail = 'Hard delete of this model is not allowed. Use a patch API call to set "deleted" to true'
            raise ApiError(405, "invalid_request", "method_not_allowed", detail, headers={"Allow": "GET, PATCH"})
        self.store.delete(kind, id)
        return Response(204)

    # -------------------------------------------------------------------------------------- the public host

    def capture(self, request: Request) -> Response:
        """Take events."""
        payload = decode_body(request)
        self._check_token(payload)
        try:
            response = self.ingestion.capture(payload)
        except EngineError:
            _LOG.exception("events could not be stored")
            raise CaptureError("transient error, please retry", 503) from None
        self.queries.data_changed()
        return response

    def _check_token(self, payload: Any) -> None:
        tokens = set(_tokens(payload))
        if not tokens:
            raise CaptureError("event submitted without an api_key", 401)
        if len(tokens) > 1:
            raise CaptureError("batch submitted with inconsistent api_key values", 401)
        token = tokens.pop()
        if not _same(token, self.keys.project):
            kind = "personal_api_key" if token.startswith("phx_") else "unknown_project"
            raise CaptureError(f"API key is not valid: {kind}", 401)

    def flags(self, request: Request) -> Response:
        """Evaluate the feature flags for somebody."""
        if request.param("v") not in ("2", "3", "4"):
            raise errors.validation("The embedded server answers /flags/ only with ?v=2.", attr="v")
        body = decode_body(request)
        if not isinstance(body, dict):
            raise errors.validation("The request must be a JSON object.")
        if not _same(str(body.get("api_key") or body.get("token") or ""), self.keys.project):
            detail = "The provided API key is invalid or has expired. Please check your API key and try again."
            raise ApiError(401, "authentication_error", "invalid_api_key", detail)
        if not body.get("distinct_id"):
            detail = "The distinct_id field is missing from the request. Please include a valid identifier."
            raise errors.validation(detail, "missing_distinct_id", "distinct_id")
        group_types = [str(entity["group_type"]) for entity in self.store.group_types()]
        all_flags = self.store.all("feature_flags")
        return Response(200, flags.answer(body, all_flags, group_types, self.people.properties_of))


ORGANIZATION: Entity = {
    "id": "01900000-0000-7000-8000-00000000000a",
    "name": "Local organization",
    "slug": "local",
    "membership_level": 15,
}


@dataclass(frozen=True)
class Route:
    """One thing that the API answers."""

    method: str
    pattern: re.Pattern[str]
    handler: Callable[..., Response]
    scope: str


def _route(method: str, path: str, handler: Callable[..., Response], scope: str = OTHER) -> Route:
    """Make a route; ``{name}`` stands for one part of the path, and the slash at the end may be missing."""
    parts = {"kind": "|".join(KINDS)}
    pattern = re.sub(r"\{(\w+)\}", lambda m: f"(?P<{m[1]}>{parts.get(m[1], '[^/]+')})", path.rstrip("/"))
    return Route(method, re.compile(f"{pattern}/?"), handler, scope)


HEALTH_PATHS = ("/", "/_health")
PROJECT = "/api/projects/{project}"

# The first route that fits answers: the special addresses stand before the general ones.
ROUTES = (
    _route("GET", "/", Api.health, OPEN),
    _route("GET", "/_health", Api.health, OPEN),
    _route("POST", "/i/v0/e/", Api.capture, OPEN),
    _route("POST", "/e/", Api.capture, OPEN),
    _route("POST", "/capture/", Api.capture, OPEN),
    _route("POST", "/batch/", Api.capture, OPEN),
    _route("POST", "/flags/", Api.flags, OPEN),
    _route("GET", "/api/users/@me/", Api.user),
    _route("GET", "/api/personal_api_keys/@current/", Api.key),
    _route("GET", f"{PROJECT}/", Api.project),
    _route("POST", f"{PROJECT}/query/", Api.query, QUERY),
    _route("GET", f"{PROJECT}/query/{{id}}/", Api.query_status, QUERY),
    _route("DELETE", f"{PROJECT}/query/{{id}}/", Api.cancel_query, QUERY),
    _route("GET", f"{PROJECT}/persons/", Api.persons),
    _route("GET", f"{PROJECT}/persons/{{id}}/", Api.person),
    _route("GET", f"{PROJECT}/cohorts/{{id}}/persons/", Api.cohort_persons),
    _route("GET", f"{PROJECT}/groups_types/", Api.group_types),
    _route("GET", f"{PROJECT}/groups/", Api.groups),
    _route("GET", f"{PROJECT}/groups/find/", Api.group),
    _route("GET", f"{PROJECT}/event_definitions/by_name/", Api.event_definition_by_name),
    _route("GET", f"{PROJECT}/property_definitions/", Api.property_definitions),
    _route("GET", f"{PROJECT}/{{kind}}/", Api.entities),
    _route("POST", f"{PROJECT}/{{kind}}/", Api.create_entity),
    _route("GET", f"{PROJECT}/{{kind}}/{{id}}/", Api.entity),
    _route("PATCH", f"{PROJECT}/{{kind}}/{{id}}/", Api.update_entity),
    _route("DELETE", f"{PROJECT}/{{kind}}/{{id}}/", Api.delete_entity),
)


def _same(given: str, expected: str) -> bool:
    """Compare two keys in a time that tells nothing of them."""
    return hmac.compare_digest(given.encode("utf-8", "replace"), expected.encode())


def _personal_key(request: Request) -> tuple[str | None, str]:
    scheme, _, key = request.headers.get("authorization", "").strip().partition(" ")
    if scheme.lower() == "bearer" and key.strip():
        return key.strip(), "Authorization header"
    if request.method in ("POST", "PATCH") and b'"personal_api_key"' in request.body:
        body = request.json()
        if isinstance(body, dict) and isinstance(body.get("personal_api_key"), str):
            return body["personal_api_key"], "body"
    if key := request.param("personal_api_key"):
        return key, "query string"
    return None, ""


def _tokens(payload: Any, inside: bool = False) -> Iterable[str]:
    """Give every project token that a capture request names."""
    entries = payload if isinstance(payload, list) else [payload]
    for entry in (entry for entry in entries if isinstance(entry, dict)):
        properties = entry.get("properties")
        # An event's properties are only looked into where nothing else names a token: they are the user's own.
        outer = _named(entry)
        yield from outer or (_named(properties) if isinstance(properties, dict) and not inside else ())
        if isinstance(entry.get("batch"), list):
            yield from _tokens(entry["batch"], inside=bool(outer))


def _named(place: Mapping[str, Any]) -> set[str]:
    return {token for name in ("api_key", "token") if isinstance(token := place.get(name), str) and token}


def _page(request: Request, found: list[Entity]) -> Response:
    limit, offset = request.number("limit", 0) or PAGE, request.number("offset", 0)
    return Response(200, page_body(request, found[offset : offset + limit], len(found), limit, offset))


# ---------------------------------------------------------------------------------------------- the sockets


class LocalServer(ThreadingHTTPServer):
    """The listening socket; each connection has a thread, and none of them keeps the process alive."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], api: Api) -> None:
        """Bind the address and listen."""
        self.api = api
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        """Bind without the look-up of the host's name that the base class makes, which may wait for DNS."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    @property
    def url(self) -> str:
        """The address for clients."""
        return f"http://{self.server_name}:{self.server_port}"

    def trusts(self, host: str) -> bool:
        """Tell whether a Host header names this machine.

        A page in a browser can reach loopback under a name of its own (DNS rebinding); its Host gives it
        away. A server that was bound elsewhere on purpose is asked under names that it cannot know, and
        trusts any.
        """
        name = host.rpartition(":")[0] if re.search(r":\d*$", host) else host
        loopback = ("127.0.0.1", "localhost", "[::1]")
        return name.lower() in loopback or self.server_name not in ("127.0.0.1", "localhost", "::1")

    def server_close(self) -> None:
        """Stop listening, and start no more background queries."""
        super().server_close()
        self.api.queries.close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keep quiet about callers that went away; anything else is logged."""
        if not isinstance(sys.exc_info()[1], (ConnectionError, TimeoutError)):
            _LOG.exception("connection from %s failed", client_address)


class _Handler(BaseHTTPRequestHandler):
    """One connection: reads requests, lets the API answer, writes each answer in one piece."""

    protocol_version = "HTTP/1.1"
    server_version = "EmbeddedPostHog"
    sys_version = ""
    timeout = IDLE_SECONDS
    # Header and body in two packets wait for the other side's delayed acknowledgement: 48 ms instead of 2.
    wbufsize = -1
    disable_nagle_algorithm = True
    server: LocalServer

    def answer(self) -> None:
        """Answer one request of any method."""
        body = self._read_body()
        if isinstance(body, Response):
            self.close_connection = True
            self._send(body)
            self._drain()
            return
        host = self.headers.get("Host", "")
        if not self.server.trusts(host):
            detail = "Invalid HTTP_HOST header. The embedded server answers only to 127.0.0.1 and localhost."
            self._send(Response(400, errors.validation(detail).body()))
            return
        base_url = f"http://{host}" if host else self.server.url
        request = Request.parse(self.command, self.path, dict(self.headers.items()), body, base_url)
        self._send(self.server.api.handle(request))

    do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = do_HEAD = do_OPTIONS = answer  # noqa: N815

    def _read_body(self) -> bytes | Response:
        """Return the body, or the answer to a request whose body stays unread: its connection must end."""
        if "Transfer-Encoding" in self.headers:
            detail = "Length Required: the embedded server does not read chunked bodies."
            return Response(411, errors.validation(detail).body())
        length = self.headers.get("Content-Length", "0")
        if not (length.isascii() and length.isdigit()):
            return Response(400, errors.validation("Invalid Content-Length.").body())
        if len(length) > 12 or int(length) > MAX_BODY:
            error = errors.too_large(MAX_BODY)
            return Response(error.status, error.body())
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            raise ConnectionError("the caller went away in the middle of its body")
        return body

    def _drain(self) -> None:
        """Read and forget what still comes: a caller that is cut off while it sends never sees its answer."""
        self.connection.settimeout(DRAIN_SECONDS)
        left = DRAIN_BYTES
        while left > 0 and (data := self.rfile.read1(65536)):
            left -= len(data)

    def _send(self, response: Response) -> None:
        content_type, body = response.encode()
        self.send_response(response.status)
        for name, value in response.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, format: str, *args: Any) -> None:
        """Log at DEBUG, without the query string: it may hold a key. A malformed request has no path."""
        _LOG.debug("%s %s", self.command, getattr(self, "path", "").partition("?")[0])


def build_server(
    engine: Engine,
    demo: Demo,
    *,
    personal_api_key: str,
    project_api_key: str,
    host: str = "127.0.0.1",
    port: int = 0,
    project_id: int = 1,
    limits: str | Limits | None = None,
    faults: Iterable[tuple[int, Mapping[str, str], Any]] | None = None,
    settings: QuerySettings | None = None,
) -> LocalServer:
    """Make the server of one embedded PostHog: it listens when this returns, ``serve_forever()`` answers.

    Args:
        engine: Stores and queries; the entities are kept in its directory, and go with it.
        demo: The entities to begin with, and the catalog of the generated events.
        personal_api_key: The key that the API asks for.
        project_api_key: The token that capture and flags ask for.
        host: The address to bind; anything but loopback makes the server reachable for others.
        port: The port, 0 for a free one.
        project_id: The project's number.
        limits: None for no limits, ``"cloud"`` for PostHog Cloud's, or `Limits` of one's own.
        faults: Scripted answers (status, headers, body), given one by one instead of the real ones.
        settings: Times of the query endpoint.

    Raises:
        ValueError: For limits that do not exist.
        OSError: If the port is taken.
    """
    seeds = {kind: getattr(demo, kind) for kind in (*KINDS, "group_types") if hasattr(demo, kind)}
    catalog = demo.catalog
    path = Path(engine.path) / "entities.json"
    store = EntityStore(seeds, path, timezone=catalog.timezone, week_start=catalog.week_start)
    api = Api(
        engine,
        store,
        Keys(personal_api_key, project_api_key),
        project_id=project_id,
        limits=choose(limits),
        settings=settings,
        faults=faults,
    )
    return LocalServer((host, port), api)
