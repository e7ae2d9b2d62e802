"""What runs inside a fake sandbox answers here: files, processes, and the proxy that is its way out.

The log of the real service is imitated, at its most talkative: starting a process is logged with its whole request,
variables and their values too, and so are ``SendInput`` and all output; uploads are logged by path, streams of input
without their messages.
"""

from __future__ import annotations

import base64
import contextlib
import json
import queue
import shutil
import threading
import time
import urllib.parse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tests.clients.e2b import egress
from tests.clients.e2b.guest import Guest, GuestProcess
from tests.clients.e2b.wire import END, Handler, frame, frames, multipart

if TYPE_CHECKING:
    from tests.clients.e2b.fake_e2b import FakeE2B

__all__ = ["VERSION", "Envd"]

VERSION = "0.6.13"
_PIECE = 32 * 1_024
_OVER = ("", b"")
_GONE = {"code": 502, "message": "The sandbox was not found"}


class Envd(Handler):
    """Routes of a sandbox; `inside` is called for what is no route of the control plane."""

    service: FakeE2B
    tunnel: str | None = None  # the host to which a CONNECT was made
    caller: Guest | None = None  # the sandbox whose process uses the proxy

    def json_body(self) -> Any:
        """Return the body as JSON."""
        return json.loads(self.body() or b"{}")

    def inside(self) -> None:
        """Answer a request to a sandbox."""
        guest = self.service.find(self.headers.get("E2b-Sandbox-Id"))
        url = urllib.parse.urlsplit(self.path)
        if guest is None:
            self.body()
            self.reply(502, _GONE)
        elif url.path == "/health":
            self._health()
        elif self.headers.get("X-Access-Token") != guest.token:
            self.body()
            self.reply(401, {"code": 401, "message": "unauthenticated"})
        elif url.path == "/files":
            self._files(guest, urllib.parse.parse_qs(url.query).get("path", [""])[0])
        else:
            {
                "/process.Process/Start": self._start,
                "/process.Process/StreamInput": self._stream_input,
                "/process.Process/SendInput": self._send_input,
                "/process.Process/CloseStdin": self._close_stdin,
                "/process.Process/SendSignal": self._signal,
                "/filesystem.Filesystem/Remove": self._remove,
            }.get(url.path, self._unknown)(guest)

    def _unknown(self, guest: Guest) -> None:
        self.body()
        self.reply(404, {"code": "unimplemented", "message": f"the fake has no {self.path}"})

    def _health(self) -> None:
        fault = self.service.take_fault("health")
        if fault is None:
            self.reply(204)
        else:
            self.reply(fault.status, {"code": fault.status, "message": fault.message})

    # Files ------------------------------------------------------------------------------------------------------------

    def _files(self, guest: Guest, path: str) -> None:
        if self.command == "GET":
            self._download(guest, path)
            return
        fault = self.service.take_fault("upload")
        if fault and fault.way == "drop":
            self.hang_up()
            return
        body = self.body()
        if fault and fault.way == "hang":
            self.service.closing.wait(30)
            self.hang_up()
            return
        if fault:
            self.reply(fault.status, {"code": fault.status, "message": fault.message})
            return
        kind = self.headers.get("Content-Type", "")
        parts = list(multipart(body, kind)) if kind.startswith("multipart/") else [(path, body)]
        if len(parts) == 1 and path:
            parts = [(path, parts[0][1])]
        for name, content in parts:
            guest.write(name, content)
            self.service.journal.note("files", guest.id, content)
            self.service.journal.note("files.path", guest.id, name)
            self.service.journal.note("log", guest.id, f"file write {name}")
        self.reply(200, [{"path": name, "name": name.rsplit("/", 1)[-1], "type": "file"} for name, _ in parts])

    def _download(self, guest: Guest, path: str) -> None:
        file = guest.path(path)
        self.service.journal.note("download", guest.id, path)

        def read() -> tuple[int, Any]:
            try:
                return 200, file.read_bytes()
            except OSError:
                return 404, {"code": 404, "message": f"path '{path}' does not exist"}

        self.perform("download", read)  # type: ignore[attr-defined]

    def _remove(self, guest: Guest) -> None:
        path = self.json_body()["path"]
        shutil.rmtree(guest.path(path), ignore_errors=True)
        self.reply(200, {})

    # Processes --------------------------------------------------------------------------------------------------------

    def _start(self, guest: Guest) -> None:
        request = next(frames(self.pieces()))
        asked = request["process"]
        envs = asked.get("envs", {})
        note = self.service.journal.note
        note("run.command", guest.id, asked.get("args", [])[-1])
        note("run.envs", guest.id, envs)
        note("log", guest.id, request)
        fault = self.service.take_fault("run")
        if fault and fault.way == "refuse":
            self.reply(fault.status, {"code": fault.status, "message": fault.message})
            return
        if fault and fault.way == "silent":
            self.service.closing.wait(30)
            self.hang_up()
            return
        limit = self.headers.get("Connect-Timeout-Ms")
        deadline = time.monotonic() + int(limit) / 1_000 if limit else None
        proxy = f"{self.service.url.removeprefix('http://')}:{guest.id}:{guest.token}"
        try:
            process = guest.start(
                [asked["cmd"], *asked.get("args", [])],
                cwd=asked.get("cwd"),
                envs=envs,
                stdin=bool(request.get("stdin")),
                proxy=proxy,
            )
        except OSError as error:
            self.reply(400, {"code": "invalid_argument", "message": str(error)})
            return
        note("environment", guest.id, {**guest.body.get("envVars", {}), **envs})
        self.begin_stream("application/connect+json")
        self.send_piece(frame({"event": {"start": {"pid": process.pid}}}))
        with contextlib.suppress(OSError):
            self._follow(guest, process, deadline, fault.way if fault else "")

    def _follow(self, guest: Guest, process: GuestProcess, deadline: float | None, way: str) -> None:
        """Send what a process prints until it ends; a client that leaves does not stop it."""
        if way in {"cut", "gone"}:
            if way == "gone":
                self.service.end(guest)
            self.hang_up()
            return
        events: queue.Queue[tuple[str, bytes] | None] = queue.Queue()
        process.output_over = lambda: events.put(_OVER)
        threads = [
            threading.Thread(target=_pump, args=(name, stream, events), daemon=True)
            for name, stream in (("stdout", process.popen.stdout), ("stderr", process.popen.stderr))
        ]
        for thread in threads:
            thread.start()
        open_streams = len(threads)
        while open_streams:
            try:
                event = events.get(timeout=None if deadline is None else max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                process.kill_alone()
                self._end_stream({"code": "deadline_exceeded", "message": "context deadline exceeded"})
                return
            if event is _OVER:
                break
            if event is None:
                open_streams -= 1
            elif way != "hang":
                name, data = event
                self.service.journal.note(name, guest.id, data)
                self.service.journal.note("log", guest.id, data)
                self.send_piece(frame({"event": {"data": {name: base64.b64encode(data).decode()}}}))
        code = process.popen.wait()
        guest.processes.pop(process.pid, None)
        process.kill_all()
        if way == "hang":
            self.service.closing.wait(30)
        elif guest.gone:
            self.hang_up()
        elif way == "no end":
            self._end_stream()
        else:
            status = f"exit status {code}" if code >= 0 else f"signal: {-code}"
            end: dict[str, Any] = {"exitCode": code, "exited": code >= 0, "status": status}
            if code:
                end["error"] = status
            self.send_piece(frame({"event": {"end": end}}))
            self._end_stream()

    def _end_stream(self, problem: Mapping[str, str] | None = None) -> None:
        self.send_piece(frame({"error": problem} if problem else {}, END))
        self.send_piece(b"")

    def _stream_input(self, guest: Guest) -> None:
        fault = self.service.take_fault("stdin")
        if fault and fault.way == "drop":
            self.hang_up()
            return
        process: GuestProcess | None = None
        for message in frames(self.pieces()):
            if "start" in message:
                process = guest.processes.get(message["start"]["process"]["pid"])
            elif "data" in message and process is not None:
                data = base64.b64decode(message["data"]["input"]["stdin"])
                self.service.journal.note("stdin", guest.id, data)
                process.write(data)
        if process is None:
            self._answer_stream({"code": "not_found", "message": "process not found"})
        else:
            self._answer_stream()

    def _answer_stream(self, problem: Mapping[str, str] | None = None) -> None:
        body = b"" if problem else frame({})
        body += frame({"error": problem} if problem else {}, END)
        self.reply(200, body, kind="application/connect+json")

    def _send_input(self, guest: Guest) -> None:
        message = self.json_body()
        data = base64.b64decode(message["input"]["stdin"])
        self.service.journal.note("stdin", guest.id, data)
        self.service.journal.note("log", guest.id, data)
        process = guest.processes.get(message["process"]["pid"])
        if process is None:
            self.reply(404, {"code": "not_found", "message": "process not found"})
            return
        process.write(data)
        self.reply(200, {})

    def _close_stdin(self, guest: Guest) -> None:
        process = guest.processes.get(self.json_body()["process"]["pid"])
        if process is not None:
            process.close_stdin()
        self.reply(200, {})

    def _signal(self, guest: Guest) -> None:
        process = guest.processes.get(self.json_body()["process"]["pid"])
        if process is None:
            self.reply(404, {"code": "not_found", "message": "process not found"})
            return
        process.kill_alone()
        process.output_over()  # envd waits no longer for what else holds the output open
        self.reply(200, {})

    # The way out ------------------------------------------------------------------------------------------------------

    def do_CONNECT(self) -> None:
        """Open a tunnel with a certificate of the fake's own authority, so that headers can be put on inside."""
        host, _, port = self.path.rpartition(":")
        if not self._may_leave(host):
            return
        self.reply(200)
        if port == "443":
            context = self.service.authority.context(host)
            try:
                self.connection = self.request = context.wrap_socket(self.connection, server_side=True)
            except OSError:
                self.close_connection = True
                return
            self.setup()
        self.tunnel = host
        self.close_connection = False  # whichever HTTP the CONNECT spoke

    def _may_leave(self, host: str) -> bool:
        credentials = self.headers.get("Proxy-Authorization", "").removeprefix("Basic ")
        name, _, token = base64.b64decode(credentials).decode().partition(":")
        guest = self.service.find(name)
        known = guest is not None and guest.token == token
        self.caller = guest if known else None
        if guest is None or not known or not egress.is_allowed(guest.body, host):
            self.service.journal.note("egress.denied", name, host)
            self.reply(403, {"message": f"{host} is not allowed"})
            return False
        return True

    def outside(self) -> None:
        """Send a request of a sandbox on, with the headers that its rules put on."""
        body = self.body()
        host, path, guest = self.tunnel or "", self.path, self.caller
        assert guest is not None
        own = dict(self.headers.items())
        self.service.journal.note("egress", guest.id, {"host": host, "path": path, "headers": own})
        self.service.journal.note("egress.body", guest.id, body)
        route = self.service.routes.get(host)
        if route is None:
            self.reply(502, {"message": f"there is no route to {host}"})
            return
        if self.service.injection_active:
            try:
                added = egress.headers_for(guest.body, host, self.service.secrets)
            except KeyError as error:
                self.reply(502, {"message": f"unknown secret {error}"})
                return
            replaced = {name.lower() for name in added}
            own = {name: value for name, value in own.items() if name.lower() not in replaced} | added
        try:
            answer = egress.forward(route, self.command, path, own, body)
        except OSError as error:
            self.reply(502, {"message": f"{host} cannot be reached: {error}"})
            return
        self.service.journal.note("egress.response", guest.id, answer.body)
        self.reply(answer.status, answer.body, [pair for pair in answer.headers if pair[0].lower() != "content-type"])


def _pump(name: str, stream: Any, events: queue.Queue[tuple[str, bytes] | None]) -> None:
    with contextlib.suppress(OSError, ValueError), stream:
        while data := stream.read(_PIECE):
            events.put((name, data))
    events.put(None)
