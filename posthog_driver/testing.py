"""Tools for testing code that talks to PostHog: a clock, a stub for the network, a server that misbehaves.

Three heights to test at, fastest first::

    clock = FakeClock()                                    # time passes when you say so, or somebody sleeps
    stub = StubAdapter((200, query_answer([[1]], ["n"])))  # below requests.Session, above the socket
    client = stub.mount(PostHogClient(api_key="phx_test", project_id="1", clock=clock))

    with FaultServer(reset(), (200, query_answer([[1]], ["n"]))) as server:  # a real socket on loopback
        client = PostHogClient(api_key="phx_test", project_id="1", api_url=server.url, clock=clock)
        client.query("SELECT 1")                           # the reset, a wait that takes no time, the rows
        assert [request.path for request in server.requests] == ["/api/projects/1/query/"] * 2

As a pytest plugin (``pytest_plugins = ["posthog_driver.testing"]`` in the top ``conftest.py``) it gives the
fixtures ``fake_clock``, ``fault_server`` and ``local_posthog``, the last one an embedded PostHog with demo data that
all tests of a run share. Nothing here needs pytest otherwise. A fresh project for each test comes from
`posthog_driver.pytest_plugin`, which pytest loads by itself.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import math
import socket
import struct
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from http import HTTPStatus
from types import ModuleType
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, NamedTuple, Protocol, TypeVar

import requests
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from urllib3 import HTTPHeaderDict, HTTPResponse

if TYPE_CHECKING:
    import pytest

    from posthog_driver.local import LocalPostHog

__all__ = [
    "FakeClock",
    "FaultServer",
    "Received",
    "Reply",
    "Step",
    "StubAdapter",
    "StubAnswer",
    "answer",
    "chunked",
    "cut",
    "error_body",
    "gzip_bomb",
    "gzipped",
    "hang_up",
    "query_answer",
    "query_status",
    "redirect",
    "reset",
    "silence",
    "trickle",
]


class FakeClock:
    """A clock that stands still until it is told to go on. Threads may share it.

    Args:
        start: First value of `monotonic`, in seconds.
        wall: First value of `wall`, in seconds since the epoch (by default in November 2023).

    Attributes:
        sleeps: Seconds of every `sleep`, in order.
    """

    def __init__(self, start: float = 1_000.0, wall: float = 1_700_000_000.0) -> None:
        self.sleeps: list[float] = []
        self._now = start
        self._offset = wall - start
        self._lock = threading.Lock()

    def monotonic(self) -> float:
        """Return seconds from an arbitrary start."""
        with self._lock:
            return self._now

    def wall(self) -> float:
        """Return seconds since the epoch."""
        with self._lock:
            return self._now + self._offset

    def sleep(self, seconds: float) -> None:
        """Record the wish, let ``seconds`` pass at once, and give the other threads a turn.

        Raises:
            ValueError: ``seconds`` is not finite; the real clock could not sleep for it either.
        """
        if not math.isfinite(seconds):
            raise ValueError(f"cannot sleep for {seconds} seconds")
        with self._lock:
            self.sleeps.append(seconds)
            self._now += max(0.0, seconds)
        time.sleep(0)

    def advance(self, seconds: float) -> None:
        """Let ``seconds`` pass without anybody having slept."""
        with self._lock:
            self._now += seconds

    def jump(self, seconds: float) -> None:
        """Set the wall clock forward (or, negative, back) as an administrator would; not `monotonic`."""
        with self._lock:
            self._offset += seconds

    def __repr__(self) -> str:
        return f"<FakeClock monotonic={self.monotonic()} sleeps={self.sleeps}>"


# What PostHog says ------------------------------------------------------------------------------------------

_ERROR_TYPES = {
    400: ("validation_error", "invalid_input"),
    401: ("authentication_error", "authentication_failed"),
    402: ("server_error", "quota_limit_exceeded"),
    403: ("authentication_error", "permission_denied"),
    404: ("invalid_request", "not_found"),
    429: ("throttled_error", "throttled"),
}
_COLUMN_TYPES = {bool: "Bool", int: "Int64", float: "Float64", str: "String"}


def query_answer(
    rows: Sequence[Sequence[Any]], columns: Sequence[str], types: Sequence[str] | None = None, **more: Any
) -> dict[str, Any]:
    """Return the body with which ``/query/`` answers a HogQL query.

    Args:
        rows: The rows, each a list in the order of ``columns``.
        columns: The column names.
        types: ClickHouse's type of each column; guessed from the first row if left out.
        **more: Further keys of the body (``hasMore=True``, ``is_cached=True``), or others in place of these.
    """
    if types is None:
        first = rows[0] if rows else [None] * len(columns)
        types = [_COLUMN_TYPES.get(type(value), "Nullable(String)") for value in first]
    return {
        "results": [list(row) for row in rows],
        "columns": list(columns),
        "types": [list(pair) for pair in zip(columns, types, strict=False)],
        "hasMore": None,
        "limit": None,
        "offset": None,
        "is_cached": False,
        "timezone": "UTC",
        **more,
    }


def query_status(query_id: str, *, results: Mapping[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """Return the body that tells how an asynchronous query is doing: with ``results`` it is done.

    Args:
        query_id: The query's id.
        results: A whole `query_answer`, once the query is complete.
        **more: Further keys of ``query_status`` (``complete=True, error=True, error_message="..."``).
    """
    status = {
        "id": query_id,
        "team_id": 1,
        "query_async": True,
        "complete": results is not None,
        "error": False,
        "error_message": None,
        "results": results,
    }
    return {"query_status": {**status, **more}}


def error_body(status: int, detail: str | None, code: str | None = None, **more: Any) -> dict[str, Any]:
    """Return the body that PostHog sends with an error.

    Args:
        status: The HTTP status, which decides ``type`` and the usual ``code``.
        detail: The sentence for people.
        code: The word for programs, if not the usual one.
        **more: Further keys, such as ``attr`` or ``extra``.
    """
    kind, usual = _ERROR_TYPES.get(status, ("server_error", "error"))
    return {"type": kind, "code": code or usual, "detail": detail, "attr": None, **more}


# Below the session ------------------------------------------------------------------------------------------

_Plain = tuple[int, Any] | tuple[int, Any, Mapping[str, str]]
StubAnswer = _Plain | BaseException | Callable[[requests.PreparedRequest], Any]


class _HasSession(Protocol):
    @property
    def session(self) -> requests.Session: ...


_Client = TypeVar("_Client", bound=_HasSession)


class StubAdapter(HTTPAdapter):
    """Answers requests from a script, without a socket.

    An answer is ``(status, body)`` or ``(status, body, headers)``, where a body that is neither bytes nor
    text becomes JSON; an exception, which is raised; or a function of the prepared request that returns one
    of these.

    Args:
        *script: The answers, in order.
        default: The answer once the script is used up; without one, a request more is an ``AssertionError``.

    Attributes:
        requests: What was asked, in order, as `requests.PreparedRequest`.
    """

    def __init__(self, *script: StubAnswer, default: StubAnswer | None = None) -> None:
        super().__init__()
        self.requests: list[requests.PreparedRequest] = []
        self._script = deque(script)
        self._default = default
        self._lock = threading.Lock()

    def mount(self, client: _Client) -> _Client:
        """Put the stub below a client's session, for http and https; returns the client."""
        client.session.mount("https://", self)
        client.session.mount("http://", self)
        return client

    def then(self, *script: StubAnswer) -> StubAdapter:
        """Add answers to the end of the script."""
        with self._lock:
            self._script.extend(script)
        return self

    def send(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> requests.Response:
        """Record the request and give the next answer."""
        with self._lock:
            self.requests.append(request)
            given = self._script.popleft() if self._script else self._default
        if given is None:
            raise AssertionError(f"no answer is scripted for {request.method} {request.url}")
        if callable(given) and not isinstance(given, BaseException):
            given = given(request)
        if isinstance(given, BaseException):
            raise given
        status, body, headers = (*given, {})[:3]
        kind, data = _encode(body)
        raw = HTTPResponse(
            body=io.BytesIO(data),
            headers=HTTPHeaderDict({"Content-Type": kind, **headers}),
            status=status,
            reason=_reason(status),
            preload_content=False,
            request_method=request.method,
        )
        return self.build_response(request, raw)


# On a real socket -------------------------------------------------------------------------------------------


class Received(NamedTuple):
    """A request as it came off the wire.

    Attributes:
        method: HTTP verb.
        path: The target as sent, with its query string.
        headers: The headers, case-insensitive.
        body: The bytes as sent.
        connection: Number of the connection, 1 for the server's first.
    """

    method: str
    path: str
    headers: CaseInsensitiveDict[str]
    body: bytes
    connection: int

    @property
    def json(self) -> Any:
        """The body decoded from JSON, and before that from gzip if it says so."""
        packed = self.headers.get("Content-Encoding") == "gzip"
        return json.loads(gzip.decompress(self.body) if packed else self.body)


End = Literal["keep", "close", "reset", "hold"]


class Reply(NamedTuple):
    """What the server does with one request. `answer`, `reset` and the other functions make the usual ones.

    Attributes:
        data: The bytes to send, status line included.
        end: Afterwards: ``keep`` the connection, ``close`` it (FIN), ``reset`` it (RST), or ``hold`` it open
            in silence until the client leaves.
        pause: Seconds to wait before each piece.
        size: Bytes of a piece; 0 sends everything at once.
        lead: Bytes of the first piece, when it is to be longer than the others.
    """

    data: bytes = b""
    end: End = "keep"
    pause: float = 0.0
    size: int = 0
    lead: int = 0

    def pieces(self) -> Iterator[bytes]:
        """Yield the bytes as they are to be sent."""
        if self.data[: self.lead]:
            yield self.data[: self.lead]
        size = self.size or max(1, len(self.data))
        for start in range(self.lead, len(self.data), size):
            yield self.data[start : start + size]


Step = Reply | _Plain | Callable[[Received], Any]


def answer(
    status: int = 200, body: Any = b"", headers: Mapping[str, str | None] | None = None, *, end: End = "keep"
) -> Reply:
    """Return an HTTP/1.1 answer.

    Args:
        status: The status code; one that does not exist is sent all the same.
        body: Bytes or text as they are, anything else as JSON.
        headers: Further headers; they win over ``Content-Type`` and ``Content-Length``, and None removes one.
        end: What becomes of the connection; ``close`` is not announced in a header.
    """
    kind, data = _encode(body)
    usual = {"Content-Type": kind, "Content-Length": str(len(data))}
    fields = [f"{name}: {value}" for name, value in {**usual, **(headers or {})}.items() if value is not None]
    head = "\r\n".join([f"HTTP/1.1 {status:03d} {_reason(status)}", *fields, "", ""])
    return Reply(head.encode("latin-1") + data, end)


def redirect(location: str | None, status: int = 302) -> Reply:
    """Return a redirect, to nowhere if ``location`` is None."""
    return answer(status, b"", {"Location": location})


def reset() -> Reply:
    """Return no answer: the connection is reset (RST)."""
    return Reply(end="reset")


def hang_up() -> Reply:
    """Return no answer: the connection is closed (FIN)."""
    return Reply(end="close")


def silence() -> Reply:
    """Return no answer, ever: the connection stays open until the client leaves."""
    return Reply(end="hold")


def cut(whole: Reply, keep: int, end: End = "close") -> Reply:
    """Return the first ``keep`` bytes of an answer (negative: all but the last) and end the connection."""
    return whole._replace(data=whole.data[:keep], end=end)


def trickle(whole: Reply, *, pause: float, size: int = 1, headers: bool = False) -> Reply:
    """Return an answer whose body (or all of it, with ``headers=True``) comes ``size`` bytes at a time.

    Args:
        whole: The answer.
        pause: Seconds before each piece.
        size: Bytes of a piece.
        headers: Whether the status line and the headers trickle too.
    """
    lead = 0 if headers else whole.data.index(b"\r\n\r\n") + 4
    return whole._replace(pause=pause, size=size, lead=lead)


def chunked(body: Any, damage: Literal["unfinished", "size"] | None = None) -> Reply:
    """Return a 200 in chunked encoding; damaged, its last chunk is missing or a chunk's size is no number."""
    kind, data = _encode(body)
    half = len(data) // 2
    parts = [b"%x\r\n%b\r\n" % (len(part), part) for part in (data[:half], data[half:]) if part]
    if damage == "size":
        parts[-1] = b"zz" + parts[-1]
    if damage != "unfinished":
        parts.append(b"0\r\n\r\n")
    head = answer(200, b"", {"Content-Type": kind, "Content-Length": None, "Transfer-Encoding": "chunked"})
    return Reply(head.data + b"".join(parts), "close" if damage else "keep")


def gzipped(body: Any, damage: Literal["cut", "crc", "plain"] | None = None) -> Reply:
    """Return a 200 in gzip; damaged, its end is missing, its checksum is wrong, or it is no gzip at all."""
    kind, data = _encode(body)
    packed = data if damage == "plain" else gzip.compress(data, mtime=0)
    if damage == "cut":
        packed = packed[: len(packed) // 2]
    elif damage == "crc":
        packed = packed[:-8] + bytes(4) + packed[-4:]
    return answer(200, packed, {"Content-Type": kind, "Content-Encoding": "gzip"})


def gzip_bomb(size: int) -> Reply:
    """Return a 200 of about a thousandth of ``size`` that unpacks to ``size`` bytes of JSON text."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    block = b" " * 1_000_000
    parts = [packer.compress(block[: size - done]) for done in range(0, size, len(block))]
    packed = b"".join([*parts, packer.flush()])
    return answer(200, packed, {"Content-Type": "application/json", "Content-Encoding": "gzip"})


class FaultServer:
    """An HTTP server on 127.0.0.1 that does what the script says, down to the socket.

    It listens once it is made. Each request takes the next step: a `Reply`, the arguments of `answer` as a
    tuple, or a function of the `Received` request that returns either. A request that a route fits leaves the
    script alone.

    Args:
        *steps: The script.
        default: The step once the script is used up; without one, the answer is a 400 that says so.
        routes: Steps by the beginning of ``"METHOD /path"``; the first that fits wins over the script.

    Attributes:
        url: Where it listens, such as ``http://127.0.0.1:40123``.
        default: The step once the script is used up; may be set at any time.
        requests: Every request that came whole, in order, as `Received`.
        connections: How many connections were accepted.
    """

    def __init__(self, *steps: Step, default: Step | None = None, routes: Mapping[str, Step] | None = None) -> None:
        self.requests: list[Received] = []
        self.connections = 0
        self._steps = deque(steps)
        self.default = default
        self._routes = dict(routes or {})
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._open: dict[socket.socket, threading.Thread] = {}
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._address = self._listener.getsockname()
        self.url = f"http://127.0.0.1:{self._address[1]}"
        self._acceptor = threading.Thread(target=self._accept, name="fault-server", daemon=True)
        self._acceptor.start()

    @property
    def open_connections(self) -> int:
        """How many of the connections the server has not closed."""
        with self._lock:
            return len(self._open)

    def then(self, *steps: Step) -> FaultServer:
        """Add steps to the end of the script."""
        with self._lock:
            self._steps.extend(steps)
        return self

    def close(self) -> None:
        """Close every connection and stop; the port refuses connections from then on."""
        if self._closed.is_set():
            return
        self._closed.set()
        with contextlib.suppress(OSError):  # wakes accept() on every platform
            socket.create_connection(self._address, timeout=1).close()
        self._acceptor.join()
        self._listener.close()
        with self._lock:
            still_open = dict(self._open)
        for connection, thread in still_open.items():
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            thread.join()

    def __enter__(self) -> FaultServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            if self._closed.is_set():
                connection.close()
                return
            with self._lock:
                self.connections += 1
                arguments = (connection, self.connections)
                thread = threading.Thread(target=self._serve, args=arguments, daemon=True)
                self._open[connection] = thread
            thread.start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        # An OSError is a client that went away, which is what many of the faults provoke.
        with contextlib.suppress(OSError), connection, connection.makefile("rb") as stream:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while (request := _receive(stream, number)) is not None:
                if not self._play(self._step_for(request), connection, stream):
                    break
        with self._lock:
            del self._open[connection]

    def _step_for(self, request: Received) -> Reply:
        wanted = f"{request.method} {request.path}"
        with self._lock:
            self.requests.append(request)
            routed = next((step for start, step in self._routes.items() if wanted.startswith(start)), None)
            step = routed or (self._steps.popleft() if self._steps else self.default)
        if step is None:
            return answer(400, error_body(400, f"FaultServer: nothing is scripted for {wanted}"))
        if callable(step):
            step = step(request)
        return step if isinstance(step, Reply) else answer(*step)

    def _play(self, reply: Reply, connection: socket.socket, stream: BinaryIO) -> bool:
        """Send the reply and end as it says; returns whether the connection goes on."""
        for piece in reply.pieces():
            if reply.pause and self._closed.wait(reply.pause):
                return False
            connection.sendall(piece)
        if reply.end == "hold":
            stream.read()
        elif reply.end == "reset":
            if reply.data:  # so that the client has read what came before the reset
                self._closed.wait(0.02)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return reply.end == "keep"


def _receive(stream: BinaryIO, number: int) -> Received | None:
    """Read one request, or None when the client has closed the connection."""
    first = stream.readline().decode("latin-1").split()
    if len(first) != 3:
        return None
    headers: CaseInsensitiveDict[str] = CaseInsensitiveDict()
    while line := stream.readline().decode("latin-1").rstrip("\r\n"):
        name, _, value = line.partition(":")
        headers[name] = value.strip()
    body = stream.read(int(headers.get("Content-Length", 0)))
    return Received(first[0], first[1], headers, body, number)


def _encode(body: Any) -> tuple[str, bytes]:
    """Return the content type and the bytes of a body."""
    if isinstance(body, bytes):
        return "application/octet-stream", body
    if isinstance(body, str):
        return "text/html; charset=utf-8", body.encode()
    return "application/json", json.dumps(body).encode()


def _reason(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"


# In pytest --------------------------------------------------------------------------------------------------


def pytest_configure(config: pytest.Config) -> None:
    """Register the fixtures: pytest calls this when the module is loaded as a plugin, so pytest is there."""
    import pytest

    @pytest.fixture
    def fake_clock() -> FakeClock:
        """A clock that stands still until it is told to go on, or somebody sleeps."""
        return FakeClock()

    @pytest.fixture
    def fault_server() -> Iterator[FaultServer]:
        """A scripted server on a real socket: script it with ``then()``; DELETEs have a route."""
        with FaultServer(routes={"DELETE /api/projects/": (200, {"message": "Query cancelled"})}) as server:
            yield server

    @pytest.fixture(scope="session")
    def local_posthog() -> Iterator[LocalPostHog]:
        """An embedded PostHog with 5,000 events, always the same; needs the extra ``local``."""
        from posthog_driver.local import LocalPostHog

        with LocalPostHog(events=5_000, seed=1) as posthog:
            yield posthog

    fixtures = ModuleType("posthog_driver_fixtures")
    vars(fixtures).update(fake_clock=fake_clock, fault_server=fault_server, local_posthog=local_posthog)
    config.pluginmanager.register(fixtures, "posthog-driver-fixtures")
