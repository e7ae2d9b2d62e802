"""An MCP server over standard input and output or over streamable HTTP, for the package ``mcp`` 1.x and 2.x.

The command ``posthog-driver mcp`` starts it. Answers are text only: clients that find structured content show that to
the model instead, and with it the fence around captured data would be gone.
"""

from __future__ import annotations

import contextlib
import hmac
import ipaddress
import os
import signal
import socket
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

from posthog_driver._version import __version__
from posthog_driver.exceptions import ConfigurationError, MissingDependencyError
from posthog_driver.tools.definitions import PYTHON_TOOL, TOOLS

try:
    import anyio
    import uvicorn
    from mcp import types
    from mcp.server.lowlevel import Server
    from mcp.server.stdio import stdio_server
    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
    from mcp.server.transport_security import TransportSecuritySettings
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    from posthog_driver.tools import in_thread
except ImportError as error:
    raise MissingDependencyError('The MCP server needs the package mcp: pip install "posthog-driver[mcp]".') from error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import FrameType

    from starlette.types import Receive, Scope, Send

    from posthog_driver.tools.toolkit import Toolkit

__all__ = ["NAME", "PATH", "build_server", "http_app", "register", "serve_http", "serve_stdio"]

NAME = "posthog"
PATH = "/mcp"
_ANNOTATIONS = {tool.name: tool.annotations for tool in (*TOOLS, PYTHON_TOOL)}
# Streams that clients keep open are not waited for any longer when the server ends.
_SHUTDOWN_SECONDS = 3


def build_server(toolkit: Toolkit) -> Server[Any]:
    """Return a low-level server that lists and answers the toolkit's tools; its instructions are the system prompt."""
    server: Server[Any] = Server(NAME, version=__version__, instructions=toolkit.system_prompt())
    register(server, toolkit)
    return server


def register(server: Any, toolkit: Toolkit) -> None:
    """Let a low-level server, of either major, list and answer the toolkit's tools."""
    listed = types.ListToolsResult.model_validate({"tools": list(map(_listed, toolkit.definitions()))})

    async def call(name: str, arguments: Mapping[str, Any] | None) -> types.CallToolResult:
        answer = await in_thread.dispatch(toolkit, name, arguments)
        content = [{"type": "text", "text": answer.text}]
        return types.CallToolResult.model_validate({"content": content, "isError": answer.is_error})

    if hasattr(server, "add_request_handler"):  # mcp 2

        async def on_list(_context: Any, _params: Any) -> types.ListToolsResult:
            return listed

        async def on_call(_context: Any, params: Any) -> types.CallToolResult:
            return await call(params.name, params.arguments)

        server.add_request_handler("tools/list", types.PaginatedRequestParams, on_list)
        server.add_request_handler("tools/call", types.CallToolRequestParams, on_call)
    else:
        # The decorators of mcp 1 would check the arguments themselves, with other words than the toolkit's.
        result: Any = types.ServerResult

        async def handle_list(_request: Any) -> Any:
            return result(listed)

        async def handle_call(request: Any) -> Any:
            return result(await call(request.params.name, request.params.arguments))

        server.request_handlers[types.ListToolsRequest] = handle_list
        server.request_handlers[types.CallToolRequest] = handle_call


def _listed(definition: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": definition["name"],
        "description": definition["description"],
        "inputSchema": definition["input_schema"],
        # Claude Code runs calls of one turn side by side only if they are said to read; this grants no permission.
        "annotations": dict(_ANNOTATIONS[definition["name"]]),
        # Otherwise Claude Code shows the model the name alone, until it searches for tools.
        "_meta": {"anthropic/alwaysLoad": True},
    }


# Standard input and output ---------------------------------------------------------------------------------------


def serve_stdio(toolkit: Toolkit) -> None:
    """Serve one client over standard input and output until it closes standard input.

    Standard output carries the protocol and nothing else: what other code prints goes to standard error meanwhile.
    """

    async def serve() -> None:
        with _protocol_files() as (reading, writing):
            async with stdio_server(anyio.wrap_file(reading), anyio.wrap_file(writing)) as streams:
                server = build_server(toolkit)
                await server.run(streams[0], streams[1], server.create_initialization_options())

    with _ending(toolkit):
        anyio.run(serve)


@contextlib.contextmanager
def _protocol_files() -> Iterator[tuple[Any, Any]]:
    output = sys.stdout.fileno()
    with (
        os.fdopen(os.dup(sys.stdin.fileno()), encoding="utf-8", errors="replace") as reading,
        os.fdopen(os.dup(output), "w", encoding="utf-8", newline="\n") as writing,
    ):
        sys.stdout.flush()
        os.dup2(sys.stderr.fileno(), output)
        try:
            yield reading, writing
        finally:
            sys.stdout.flush()
            os.dup2(writing.fileno(), output)


@contextlib.contextmanager
def _ending(toolkit: Toolkit) -> Iterator[None]:
    """On a signal end at once, without the thread that reads standard input, but not before queries are cancelled."""

    def end(number: int, _frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)  # a second one does not wait
        toolkit.close()
        os._exit(128 + number)

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# Streamable HTTP -------------------------------------------------------------------------------------------------


def serve_http(
    toolkit: Toolkit,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    token: str | None = None,
    ready: Callable[[str], None] = lambda url: None,
) -> None:
    """Serve clients over streamable HTTP until the process is told to end.

    Args:
        toolkit: Who answers; all clients share its budget and its cursors.
        host: Address to listen on; one that other machines can reach needs a ``token``.
        port: Port to listen on; 0 takes a free one.
        token: Clients must send it as ``Authorization: Bearer ...``.
        ready: Is told the server's URL once it listens.

    Raises:
        ConfigurationError: it cannot listen there, or everybody could ask without a token.
    """
    if not token and not _is_loopback(host):
        raise ConfigurationError(
            f"On {host} everybody who can reach this machine could ask PostHog with your key: set a token"
            " (POSTHOG_MCP_TOKEN) that clients must send, or listen on 127.0.0.1."
        )
    with _listen(host, port) as listening, _ending(toolkit):
        app = http_app(toolkit, token=token)
        config = uvicorn.Config(
            app, log_config=None, access_log=False, ws="none", timeout_graceful_shutdown=_SHUTDOWN_SECONDS
        )
        shown = f"[{host}]" if ":" in host else host
        ready(f"http://{shown}:{listening.getsockname()[1]}{PATH}")
        anyio.run(partial(uvicorn.Server(config).serve, sockets=[listening]))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _listen(host: str, port: int) -> socket.socket:
    if not 0 <= port <= 65_535:
        raise ConfigurationError(f"Ports are numbers from 0 to 65535, not {port}.")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise ConfigurationError(f"Cannot listen on {host}, port {port}: {error}.") from error


def http_app(toolkit: Toolkit, *, token: str | None = None) -> Starlette:
    """Return the server as an ASGI application, with the endpoint ``/mcp``.

    Without a token, requests are refused whose ``Host`` or ``Origin`` is not this machine, so that no web page can use
    a browser to ask (DNS rebinding).
    """
    names = ("127.0.0.1:*", "localhost:*", "[::1]:*")
    security = TransportSecuritySettings(
        enable_dns_rebinding_protection=not token,
        allowed_hosts=list(names),
        allowed_origins=[f"http://{name}" for name in names],
    )
    manager = StreamableHTTPSessionManager(build_server(toolkit), security_settings=security)
    return Starlette(routes=[Route(PATH, _Endpoint(manager, token))], lifespan=lambda _app: manager.run())


class _Endpoint:
    def __init__(self, manager: StreamableHTTPSessionManager, token: str | None) -> None:
        self._manager = manager
        self._expected = f"Bearer {token}".encode() if token else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        given = dict(scope["headers"]).get(b"authorization", b"")
        if self._expected and not hmac.compare_digest(given, self._expected):
            refusal = PlainTextResponse("The bearer token is missing or wrong.", 401, {"WWW-Authenticate": "Bearer"})
            await refusal(scope, receive, send)
        else:
            await self._manager.handle_request(scope, receive, send)
