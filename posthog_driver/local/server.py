"""The sockets of the embedded PostHog: they check the Host, cap what comes in, and write each answer in one piece.

`LocalServer` listens, `_Handler` is one connection; what is answered is the business of `posthog_driver.local.api`.
"""

from __future__ import annotations

import io
import logging
import re
import socket
import socketserver
import struct
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import errors
from .api import Api
from .arguments import LOOPBACK
from .connections import Connections, PacedReader, Vigil
from .entities import KINDS
from .errors import ApiError
from .ingest import MAX_BODY
from .keys import ALL, Key, KeyRing
from .limits import Limits, choose
from .project import Projects
from .queries import QuerySettings
from .wire import Request, Response, encode_json

if TYPE_CHECKING:
    from .demo import Demo
    from .engine import Engine

__all__ = ["LocalServer", "build_server"]

MAX_CONNECTIONS = 400
"""Connections that are open at the same time; each has a thread."""

IDLE_SECONDS = 75.0
"""A connection on which nothing comes for so long is closed; also the longest time to take an answer."""

REQUEST_SECONDS = 60.0
"""From the first byte of a request to its last; a body that takes longer gets a 408."""

DRAIN_BYTES, DRAIN_SECONDS = 64 * 1024 * 1024, 2.0
"""How much of a body that is too large is still read, and how long a pause in it is waited for."""

MAX_LINE, MAX_TRAILERS = 4096, 100
"""Longest line between the chunks of a body, and most lines after the last one."""

_ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}
_LOG = logging.getLogger(__name__)


class LocalServer(ThreadingHTTPServer):
    """The listening socket; each connection has a thread, and none of them keeps the process alive.

    Args:
        address: Host and port to bind.
        api: What answers.
        max_connections: Connections that are open at the same time.
        idle_seconds: How long a connection may be silent.
        request_seconds: How long one request may take to come.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(
        self,
        address: tuple[str, int],
        api: Api,
        *,
        max_connections: int = MAX_CONNECTIONS,
        idle_seconds: float = IDLE_SECONDS,
        request_seconds: float = REQUEST_SECONDS,
    ) -> None:
        """Bind the address and listen."""
        self.api = api
        self.connections = Connections(max_connections)
        self.vigil = Vigil()
        self.idle_seconds = idle_seconds
        self.request_seconds = request_seconds
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        """Bind without the look-up of the host's name that the base class makes, which may wait for DNS."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    @property
    def url(self) -> str:
        """The address for clients on this machine."""
        host = _ANYWHERE.get(self.server_name, self.server_name)
        return f"http://{f'[{host}]' if ':' in host else host}:{self.server_port}"

    def trusts(self, host: str) -> bool:
        """Tell whether a Host header names this machine.

        A page in a browser can reach loopback under a name of its own (DNS rebinding); its Host gives it
        away. A server that was bound elsewhere on purpose is asked under names that it cannot know, and
        trusts any.
        """
        name = host.rpartition(":")[0] if re.search(r":\d*$", host) else host
        return name.lower() in ("127.0.0.1", "localhost", "[::1]") or self.server_name not in LOOPBACK

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Take a connection if there is room for it, or tell it that there is none."""
        if self.connections.admit(request):
            return True
        error = errors.from_engine("TOO_MANY_SIMULTANEOUS_QUERIES", "")
        body = encode_json(error.body())
        head = f"HTTP/1.1 503 Service Unavailable\r\nContent-Length: {len(body)}\r\nConnection: close\r\n"
        with suppress(OSError):
            request.sendall(f"{head}Content-Type: application/json\r\n\r\n".encode() + body)
        return False

    def shutdown_request(self, request: Any) -> None:
        """End a connection, with a reset if that was wanted."""
        if self.connections.remove(request):
            request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_request(request)
        else:
            super().shutdown_request(request)

    def server_close(self) -> None:
        """Stop listening, and start no more background queries."""
        super().server_close()
        self.vigil.close()
        self.api.close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keep quiet about callers that went away; anything else is logged."""
        if not isinstance(sys.exc_info()[1], (ConnectionError, TimeoutError)):
            _LOG.exception("connection from %s failed", client_address)


class _Refused(Exception):
    """A request that is not read to its end: its connection must end, too."""

    def __init__(self, error: ApiError) -> None:
        super().__init__(error.detail)
        self._error = error
        self.status = error.status

    def response(self, path: str) -> Response:
        """Return the answer: the REST API speaks JSON, capture and flags speak text."""
        body = self._error.body() if path.startswith("/api/") else self._error.detail
        return Response(self._error.status, body, self._error.headers)


class _Handler(BaseHTTPRequestHandler):
    """One connection: reads requests, lets the API answer, writes each answer in one piece."""

    protocol_version = "HTTP/1.1"
    server_version = "EmbeddedPostHog"
    sys_version = ""
    # Header and body in two packets wait for the other side's delayed acknowledgement: 48 ms instead of 2.
    wbufsize = -1
    disable_nagle_algorithm = True
    server: LocalServer
    connection: socket.socket

    def setup(self) -> None:
        """Read through limits of time."""
        super().setup()
        self.rfile.close()
        self._reader = PacedReader(self.connection, self.server.idle_seconds, self.server.request_seconds)
        self.rfile = io.BufferedReader(self._reader)

    def handle_one_request(self) -> None:
        """Wait for a request and answer it."""
        self._reader.next_request()
        self.server.connections.set_idle(self.connection)
        super().handle_one_request()

    def handle_expect_100(self) -> bool:
        """Ask for the body at once: the base class leaves the line in the buffer."""
        super().handle_expect_100()
        self.wfile.flush()
        return True

    def answer(self) -> None:
        """Answer one request of any method."""
        self.server.connections.set_busy(self.connection)
        try:
            body = self._read_body()
        except _Refused as refused:
            self.close_connection = True
            self._send(refused.response(self.path))
            if refused.status != 408:
                self._drain()
            return
        host = self.headers.get("Host", "")
        if not self.server.trusts(host):
            detail = "Invalid HTTP_HOST header. The embedded server answers only to 127.0.0.1 and localhost."
            self._send(Response(400, errors.validation(detail).body()))
            return
        base_url = f"http://{host}" if host else self.server.url
        headers = dict(self.headers.items())
        self._send(self.server.api.handle(Request.parse(self.command, self.path, headers, body, base_url, self._watch)))

    do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = do_HEAD = do_OPTIONS = answer  # noqa: N815

    def _watch(self, act: Callable[[], object]) -> AbstractContextManager[object]:
        return self.server.vigil.watch(self.connection, act)

    # --------------------------------------------------------------------------------------------- what comes

    def _read_body(self) -> bytes:
        """Return the body.

        Raises:
            _Refused: It is not read, with the answer that says why.
        """
        try:
            if "Transfer-Encoding" in self.headers:
                return self._read_chunks()
            length = self.headers.get("Content-Length", "0")
            if not (length.isascii() and length.isdigit()) or len(self.headers.get_all("Content-Length", [])) > 1:
                raise _Refused(errors.validation("Invalid Content-Length."))
            if len(length) > 12 or int(length) > MAX_BODY:
                raise _Refused(errors.too_large(MAX_BODY))
            return self._exactly(int(length))
        except TimeoutError:
            raise _Refused(errors.too_slow()) from None

    def _read_chunks(self) -> bytes:
        """Return a body in chunks (RFC 9112, 7.1), whose whole length is only known at its end."""
        if "Content-Length" in self.headers or self.headers["Transfer-Encoding"].strip().lower() != "chunked":
            raise _Refused(errors.validation("The embedded server reads bodies with a length, or only chunked ones."))
        parts: list[bytes] = []
        size = 0
        while count := self._chunk_size():
            size += count
            if size > MAX_BODY:
                raise _Refused(errors.too_large(MAX_BODY))
            parts.append(self._exactly(count))
            if self._line():
                raise _Refused(errors.validation("Invalid chunk: it is longer than it says."))
        for _ in range(MAX_TRAILERS):
            if not self._line():
                return b"".join(parts)
        raise _Refused(errors.validation("Too many lines after the last chunk."))

    def _chunk_size(self) -> int:
        text = self._line().partition(b";")[0].strip()
        if not re.fullmatch(rb"[0-9a-fA-F]{1,8}", text):
            raise _Refused(errors.validation("Invalid chunk: no length."))
        return int(text, 16)

    def _line(self) -> bytes:
        """Return one line between chunks, without its end."""
        line = self.rfile.readline(MAX_LINE)
        if not line:
            raise ConnectionError("the caller went away in the middle of its body")
        if not line.endswith(b"\n"):
            raise _Refused(errors.validation("Invalid chunk: a line is too long."))
        return line.rstrip(b"\r\n")

    def _exactly(self, count: int) -> bytes:
        data = self.rfile.read(count)
        if len(data) < count:
            raise ConnectionError("the caller went away in the middle of its body")
        return data

    def _drain(self) -> None:
        """Read and forget what still comes: a caller that is cut off while it sends never sees its answer."""
        self.connection.settimeout(DRAIN_SECONDS)
        left = DRAIN_BYTES
        with suppress(OSError):
            while left > 0 and (data := self.connection.recv(65536)):
                left -= len(data)

    # --------------------------------------------------------------------------------------------- what goes

    def _send(self, response: Response) -> None:
        self.connection.settimeout(self.server.idle_seconds)
        if response.drop:
            self.close_connection = True
        if response.drop == "reset":
            self.server.connections.set_resetting(self.connection)
        if response.drop in ("reset", "silent"):
            return
        content_type, body = response.encode()
        usual = {"Content-Type": content_type, "Content-Length": str(len(body))}
        if self.close_connection and not response.drop:
            usual["Connection"] = "close"
        own = {name.lower() for name in response.headers}
        self.send_response(response.status)
        for name, value in response.headers.items():
            self.send_header(name, value)
        for name, value in usual.items():
            if name.lower() not in own:
                self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[: len(body) // 2] if response.drop else body)
        self.wfile.flush()

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer a request that is none in HTTP; its connection ends."""
        self.close_connection = True
        self.request_version = self.request_version.replace("HTTP/0.9", "HTTP/1.1")  # which has no status line
        detail = message or HTTPStatus(code).phrase
        self._send(Response(code, ApiError(code, "invalid_request", "error", detail).body()))

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
    owner_key: str = "",
    scopes: Sequence[str] = (ALL,),
    timezone: str | None = None,
    limits: str | Limits | Mapping[str, Any] | None = None,
    faults: Iterable[Any] | None = None,
    settings: QuerySettings | None = None,
) -> LocalServer:
    """Make the server of an embedded PostHog: it listens when this returns, ``serve_forever()`` answers.

    Args:
        engine: Stores and queries; everything else is kept in its directory, and goes with it.
        demo: The entities that the first project begins with, and the catalog of the generated events.
        personal_api_key: The key that the API asks for.
        project_api_key: The token of the first project, that capture and flags ask for.
        host: The address to bind; anything but loopback makes the server reachable for others.
        port: The port, 0 for a free one.
        owner_key: What the script of faults asks for; empty when nobody may change it.
        scopes: What the personal key may do.
        timezone: Time zone of the first project from now on, None for the one it has.
        limits: None for no limits, ``"cloud"`` for PostHog Cloud's, or `Limits` of one's own.
        faults: The script of faults; see `posthog_driver.local.faults.Fault`.
        settings: Times of the query endpoint.

    Raises:
        ValueError: For limits or faults that do not exist.
        OSError: If the port is taken.
    """
    chosen = choose(limits)
    catalog = demo.catalog
    projects = Projects(
        engine,
        project_api_key,
        {kind: getattr(demo, kind) for kind in (*KINDS, "group_types") if hasattr(demo, kind)},
        {
            "name": "Embedded PostHog",
            "timezone": catalog.timezone,
            "week_start_day": catalog.week_start,
            "test_account_filters": [dict(entry) for entry in catalog.test_account_filters],
        },
        limits=chosen,
        settings=settings,
    )
    if timezone and projects.first.fields["timezone"] != timezone:
        projects.update(projects.first, {"timezone": timezone})
    fixed = [replace(Key.of(personal_api_key, "Embedded PostHog", scopes), id="local-key")]
    if owner_key:
        fixed.append(replace(Key.of(owner_key, "Owner"), id="owner"))
    keys = KeyRing(fixed, Path(engine.path) / "keys.json" if engine.path else None)
    api = Api(projects, keys, owner_key=owner_key, limits=chosen, faults=faults)
    return LocalServer((host, port), api)
