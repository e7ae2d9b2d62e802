"""What runs inside a sandbox: a constant program that asks one query or runs one script, and reports.

It needs nothing but a Python of 3.8 or later. On E2B it is a file and is started as ``python3 -I DIR/runner.py DIR``:

- ``DIR/request.json`` is what `SandboxJob.request` gives.
- A query for the host is a line ``PHDQ <nonce> {"query": ..., "values": ...}`` on standard output with a line feed
  before it, which belongs to it; the reply is the next line of standard input. With ``direct`` in the request there is
  no such line, as the package next to it (``DIR/posthog_driver.zip``) asks PostHog.
- ``DIR/result.json`` appears complete, by a rename; then ``PHD1 <nonce> <bytes> <sha256>`` is the last line of standard
  output, with a line feed before it. Without that line there is no result.

On this machine `confine` starts it with one end of a socket instead: ``?`` and a request, ``=`` and the result, each
a line.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys

TYPE_CHECKING = False  # the module typing takes long to load
if TYPE_CHECKING:
    from typing import Any, Protocol

    class Wire(Protocol):
        """How the host is reached."""

        def ask(self, request: bytes) -> bytes:
            """Send a request, which is one line, and return the reply."""

        def finish(self, result: bytes) -> None:
            """Send the result, which is one line."""


QUERY_MARK = "PHDQ"
RESULT_MARK = "PHD1"


class QueryError(Exception):
    """A query inside failed; ``kind`` is the driver's class for it, ``facts`` are its attributes."""

    def __init__(self, message: str, kind: str = "QueryError", facts: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.facts = facts or {}


class SocketWire:
    """Talks with the host over one end of a socket."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._rest = bytearray()

    def ask(self, request: bytes) -> bytes:
        """Send a request, which is one line, and return the reply."""
        self._send(b"?", request)
        return self._line()

    def finish(self, result: bytes) -> None:
        """Send the result, which is one line."""
        self._send(b"=", result)

    def _send(self, mark: bytes, line: bytes) -> None:
        data = memoryview(mark + line + b"\n")
        while data:
            data = data[os.write(self._fd, data) :]

    def _line(self) -> bytes:
        while True:
            end = self._rest.find(b"\n")
            if end >= 0:
                line = bytes(self._rest[:end])
                del self._rest[: end + 1]
                return line
            chunk = os.read(self._fd, 1 << 20)
            if not chunk:
                raise QueryError("The host is gone.", "SandboxLostError")
            self._rest += chunk


class FileWire:
    """Asks on standard output and reports in a file; with ``direct`` the package asks PostHog from here."""

    def __init__(self, folder: str, request: dict[str, Any]) -> None:
        self._folder = folder
        self._nonce = request["nonce"]
        self._replies = os.fdopen(os.dup(0), "rb")
        self._answer = self._connect(request["direct"]) if "direct" in request else self._relay
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)

    def ask(self, request: bytes) -> bytes:
        """Return the reply to a request."""
        return self._answer(request)

    def _connect(self, direct: dict[str, Any]) -> Any:
        sys.path.insert(0, os.path.join(self._folder, "posthog_driver.zip"))
        from posthog_driver.sandbox.inside import connect

        return connect(direct)

    def _relay(self, request: bytes) -> bytes:
        self._print(QUERY_MARK, request.decode())
        line = self._replies.readline()
        if not line.endswith(b"\n"):
            raise QueryError("The host is gone.", "SandboxLostError")
        return line

    def finish(self, result: bytes) -> None:
        """Write the result and say so."""
        import hashlib

        path = os.path.join(self._folder, "result.json")
        with open(path + ".part", "wb") as file:
            file.write(result)
            file.flush()
            os.fsync(file.fileno())
        os.rename(path + ".part", path)
        self._replies.close()
        self._print(RESULT_MARK, f"{len(result)} {hashlib.sha256(result).hexdigest()}")

    def _print(self, mark: str, text: str) -> None:
        sys.stdout.flush()
        line = memoryview(f"\n{mark} {self._nonce} {text}\n".encode())
        while line:
            line = line[os.write(1, line) :]


def serve(wire: Wire, request: dict[str, Any]) -> None:
    """Do what the request asks for, and report it.

    Args:
        wire: How the host is reached.
        request: The request as a dict.
    """
    if request["kind"] == "query":
        result = wire.ask(_encode({"query": request["text"], "values": request["values"]})).rstrip(b"\n")
    else:
        asked: list[str] = []
        status = run_script(request["text"], wire, asked)
        result = _encode({"exit_code": status, "queries": len(asked)})
    if len(result) > request["max_result_bytes"]:
        told = f"The result has {len(result)} bytes, and max_result_bytes is {request['max_result_bytes']}."
        result = _encode({"error": {"kind": "ResultTooLargeError", "message": told, "facts": {}}})
    wire.finish(result)


def run_script(code: str, wire: Wire, asked: list[str]) -> int:
    """Run a script to which `query` is known, and return its exit code; a traceback goes to standard error.

    Args:
        code: The script.
        wire: Answers its queries.
        asked: Gets each query.
    """
    import threading

    name = "script.py"
    lock = threading.Lock()

    def query(hogql: str, values: dict[str, Any] | None = None) -> Any:
        """Ask PostHog a HogQL query; {name} in it stands for values["name"]. Returns a list of dicts."""
        request = _encode({"query": hogql, "values": values})
        with lock:  # the script may have threads, and the wire is one
            asked.append(hogql)
            reply = json.loads(wire.ask(request))
        if "rows" in reply:
            return reply["rows"]
        error = reply.get("error") or {}
        raise QueryError(
            error.get("message", "The host gave no reason."), error.get("kind") or "QueryError", error.get("facts")
        )

    main = type(sys)("__main__")
    main.__dict__.update({"__builtins__": __builtins__, "query": query, "QueryError": QueryError, "__file__": name})
    sys.modules["__main__"] = main
    sys.argv = [name]
    try:
        exec(compile(code, name, "exec", dont_inherit=True), main.__dict__)
        status = 0
    except SystemExit as error:
        status = _exit_code(error)
    except BaseException:
        _print_traceback(code, name)
        status = 1
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # the script closed it
            stream.flush()
    return status


def _exit_code(error: SystemExit) -> int:
    if error.code is None:
        return 0
    if isinstance(error.code, int):
        return error.code & 0xFF
    print(error.code, file=sys.stderr)
    return 1


def _print_traceback(code: str, name: str) -> None:
    """Print the traceback as Python does, without the frames of this file."""
    import linecache
    import traceback

    linecache.cache[name] = (len(code), None, code.splitlines(True), name)
    kind, error, trace = sys.exc_info()
    while trace is not None and trace.tb_frame.f_code.co_filename != name:
        trace = trace.tb_next
    traceback.print_exception(kind, error, trace, file=sys.stderr)


def _encode(value: object) -> bytes:
    """Encode as one line of JSON; moments and the like become text, as the driver's own client has them."""
    return json.dumps(value, separators=(",", ":"), default=_to_json).encode()


def _to_json(value: object) -> Any:
    if isinstance(value, (set, frozenset)):
        return sorted(value, key=repr)
    import datetime
    import uuid

    if isinstance(value, datetime.datetime):
        utc = datetime.timezone.utc
        return (value.astimezone(utc) if value.tzinfo else value.replace(tzinfo=utc)).isoformat()
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, uuid.UUID):
        return str(value)
    raise QueryError(f"A value of type {type(value).__name__} cannot be sent.", "ValidationError")


def main(folder: str) -> None:
    """Serve the request in a folder."""
    with open(os.path.join(folder, "request.json"), "rb") as file:
        request = json.loads(file.read())
    serve(FileWire(folder, request), request)
    os._exit(0)  # whatever threads the script left


if __name__ == "__main__":
    main(sys.argv[1])
