"""A fake of E2B for tests: its control plane and what runs inside a sandbox, on one loopback port.

The real package talks to it through ``E2B_API_URL`` and ``E2B_SANDBOX_URL``::

    with FakeE2B(routes={"posthog.test": local.url}) as fake:
        os.environ.update(fake.environment())
        fake.fail("create", 503)
        ...
        assert fake.running == []
        assert fake.where("phx_test") == ["create.network.rules"]

Commands really run, in a temporary folder with a bare interpreter; what they send goes through a proxy that obeys
``allowOut`` and ``denyOut`` and puts the headers of ``rules`` on. It refuses what the real one refuses.
"""

from __future__ import annotations

import datetime
import threading
import time
import urllib.parse
import uuid
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from tests.clients.e2b import egress, envd
from tests.clients.e2b.guest import Guest
from tests.clients.e2b.journal import Journal
from tests.clients.e2b.wire import Handler, Server

__all__ = ["FakeE2B", "Fault"]

KEY = "e2b_test_key"


class Fault(NamedTuple):
    """What goes wrong with one request.

    Attributes:
        status: Answer with this status instead of doing it.
        message: The words of that answer.
        way: ``drop`` (reset, not done), ``lost`` (done, then reset), ``hang`` (done, no answer), ``refuse`` (the status
            above); of commands ``silent`` (not started, no answer), ``cut`` (the stream breaks), ``gone`` (the sandbox
            ends, and the stream breaks), ``no end`` (the stream ends without a result), ``hang`` (its end is not told);
            of downloads ``tamper`` (a byte is changed).
    """

    status: int = 0
    message: str = "injected"
    way: str = "refuse"


class FakeE2B:
    """The service.

    Args:
        routes: Base URLs of what answers for a host that sandboxes ask, such as an embedded PostHog for
            ``posthog.test``.
        rules_enabled: Whether the team may use ``network.rules``.
        injection_active: Whether the headers of ``rules`` are really put on; the open-source build does not.
        max_sandboxes: The team's limit of running sandboxes.
        templates: Names of templates that exist.
        secrets: The team's secret store: what ``Secret.fill(name)`` stands for.

    Attributes:
        journal: Everything that was seen.
        created: Every sandbox that was ever made, in order.
    """

    def __init__(
        self,
        *,
        routes: Mapping[str, str] | None = None,
        rules_enabled: bool = True,
        injection_active: bool = True,
        max_sandboxes: int = 100,
        templates: tuple[str, ...] = ("base",),
        secrets: Mapping[str, str] | None = None,
    ) -> None:
        self.routes = dict(routes or {})
        self.rules_enabled = rules_enabled
        self.injection_active = injection_active
        self.max_sandboxes = max_sandboxes
        self.templates = set(templates)
        self.secrets = dict(secrets or {})
        self.page_size = 100
        self.journal = Journal()
        self.created: list[Guest] = []
        self.authority = egress.authority()
        self.closing = threading.Event()
        self._faults: dict[str, deque[Fault]] = defaultdict(deque)
        self._met: Counter[str] = Counter()
        self._by_idempotency: dict[str, Guest] = {}
        self._lock = threading.RLock()
        self._ahead = 0.0
        self._server = Server(("127.0.0.1", 0), _handler_of(self))
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def __enter__(self) -> FakeE2B:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def environment(self) -> dict[str, str]:
        """Return the variables with which the package finds the fake."""
        return {"E2B_API_KEY": KEY, "E2B_API_URL": self.url, "E2B_SANDBOX_URL": self.url}

    def close(self) -> None:
        """Stop listening and end every sandbox."""
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        for guest in self.running:
            self.end(guest)

    # What tests say and ask -------------------------------------------------------------------------------------------

    def fail(self, operation: str, what: int | str, message: str = "injected", *, times: int = 1) -> None:
        """Let the next requests of a kind go wrong.

        Args:
            operation: ``create``, ``upload``, ``run``, ``stdin``, ``download``, ``remove``, ``kill``, ``list`` or
                ``health``.
            what: A status, or a way (see `Fault`).
            message: The words of a status.
            times: How many requests.
        """
        fault = Fault(what, message) if isinstance(what, int) else Fault(way=what)
        with self._lock:
            self._faults[operation].extend([fault] * times)

    def take_fault(self, operation: str) -> Fault | None:
        """Return what goes wrong with this request, if anything."""
        with self._lock:
            if not self._faults[operation]:
                return None
            self._met[operation] += 1
            return self._faults[operation].popleft()

    def faults_met(self, operation: str) -> int:
        """Return how many requests of a kind went wrong so far."""
        return self._met[operation]

    def advance(self, seconds: float) -> None:
        """Let time pass: sandboxes whose lifetime is over end."""
        self._ahead += seconds
        self._expire()

    def now(self) -> float:
        """Return seconds since the epoch, as the service sees them."""
        return time.time() + self._ahead

    @property
    def running(self) -> list[Guest]:
        """The sandboxes that still run."""
        self._expire()
        with self._lock:
            return [guest for guest in self.created if not guest.gone]

    def where(self, secret: str) -> list[str]:
        """Return every place where a text shows: requests, logs, the disks and environments of sandboxes."""
        for guest in self.running:
            for path, content in guest.disk():
                self.journal.note(f"disk:{path}", guest.id, content)
        return self.journal.where(secret)

    # What the routes do -----------------------------------------------------------------------------------------------

    def create(self, body: Mapping[str, Any], idempotency: str | None) -> tuple[int, Any]:
        """Make a sandbox, or return the one that the same idempotency key made."""
        refusal = self._refusal(body)
        if refusal:
            return refusal[0], {"code": refusal[0], "message": refusal[1]}
        with self._lock:
            guest = self._by_idempotency.get(idempotency or "")
            if guest is None:
                started = self.now()
                guest = Guest(
                    id=f"i{uuid.uuid4().hex[:20]}",
                    token=f"ea_{uuid.uuid4().hex[:12]}",
                    body=dict(body),
                    started=started,
                    ends=started + body.get("timeout", 300),
                    certificates=self.authority.pem,
                )
                self.created.append(guest)
                if idempotency:
                    self._by_idempotency[idempotency] = guest
        return 201, {**_identity(guest), "envdAccessToken": guest.token, "domain": None}

    def _refusal(self, body: Mapping[str, Any]) -> tuple[int, str] | None:
        if body.get("templateID") not in self.templates:
            return 404, f"template '{body.get('templateID')}' not found"
        if body.get("timeout", 300) > 24 * 3_600:
            return 400, "Timeout cannot be greater than 24 hours"
        problem = egress.problem_of_network(body.get("network") or {}, rules_enabled=self.rules_enabled)
        if problem:
            return 400, problem
        if len(self.running) >= self.max_sandboxes:
            return 429, f"you have reached the maximum number of concurrent E2B sandboxes ({self.max_sandboxes})"
        return None

    def find(self, sandbox: str | None) -> Guest | None:
        """Return a running sandbox by its name."""
        return next((guest for guest in self.running if guest.id == sandbox), None)

    def end(self, guest: Guest) -> None:
        """End a sandbox; what its disk holds stays in the journal."""
        for path, content in guest.disk():
            self.journal.note(f"disk:{path}", guest.id, content)
        guest.destroy()

    def list(self, query: Mapping[str, list[str]]) -> tuple[list[Any], str | None]:
        """Return one page of running sandboxes with certain tags, and the token of the next page."""
        wanted = {
            urllib.parse.unquote(name): urllib.parse.unquote(value)
            for name, value in urllib.parse.parse_qsl(query.get("metadata", [""])[0])
        }
        rows = [_row(guest) for guest in self.running if wanted.items() <= guest.body.get("metadata", {}).items()]
        start, limit = int(query.get("nextToken", ["0"])[0]), int(query.get("limit", [str(self.page_size)])[0])
        more = start + limit < len(rows)
        return rows[start : start + limit], str(start + limit) if more else None

    def _expire(self) -> None:
        now = self.now()
        with self._lock:
            over = [guest for guest in self.created if not guest.gone and guest.ends <= now]
        for guest in over:
            self.end(guest)


def _identity(guest: Guest) -> dict[str, Any]:
    return {
        "sandboxID": guest.id,
        "templateID": guest.body["templateID"],
        "clientID": "fake",
        "envdVersion": envd.VERSION,
    }


def _row(guest: Guest) -> dict[str, Any]:
    def moment(seconds: float) -> str:
        return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).isoformat()

    return {
        **_identity(guest),
        "metadata": guest.body.get("metadata", {}),
        "startedAt": moment(guest.started),
        "endAt": moment(guest.ends),
        "cpuCount": 2,
        "memoryMB": 512,
        "diskSizeMB": 1_024,
        "state": "running",
    }


def _handler_of(fake: FakeE2B) -> type[Handler]:
    """Return the handler of the control plane; what concerns a sandbox's inside goes to `envd`."""

    class Routes(envd.Envd):
        service = fake

        def route(self) -> None:
            if self.tunnel:
                self.outside()
                return
            for name, value in self.headers.items():
                fake.journal.note("api.key" if name.lower() == "x-api-key" else "headers", None, value)
            url = urllib.parse.urlsplit(self.path)
            parts = url.path.removeprefix("/v2").strip("/").split("/")
            if parts[0] not in {"sandboxes", "templates", "v3"}:
                self.inside()
            elif self._unknown_key():
                return
            elif parts[0] != "sandboxes":
                self._build()
            elif self.command == "DELETE":
                self._kill(parts[1])
            elif self.command == "GET":
                self._list(urllib.parse.parse_qs(url.query))
            elif len(parts) == 1:
                self._create()
            else:
                self._lifetime(parts[1])

        do_GET = do_POST = do_DELETE = route  # noqa: N815

        def _kill(self, name: str) -> None:
            guest = fake.find(name)

            def kill() -> tuple[int, Any]:
                if guest is None:
                    return 404, {"code": 404, "message": f'sandbox "{name}" not found'}
                fake.end(guest)
                return 204, b""

            self.perform("kill", kill)

        def _create(self) -> None:
            body = self.json_body()
            fake.journal.note("create", None, body)
            self.perform("create", lambda: fake.create(body, self.headers.get("Idempotency-Key")))

        def _build(self) -> None:
            """Build a template in an instant: a request for it, its steps, and the question whether it is done."""
            if self.command == "GET":
                state = {"logs": [], "logEntries": [], "templateID": "t1", "buildID": "b1", "status": "ready"}
                self.perform("build", lambda: (200, state))
                return
            body = self.json_body()
            fake.journal.note("template", None, body)
            if "name" in body:
                fake.templates.add(body["name"])
                names = {"public": False, "names": [body["name"]], "tags": [], "aliases": [body["name"]]}
                self.reply(202, {"templateID": "t1", "buildID": "b1", **names})
            else:
                self.reply(202)

        def _list(self, query: dict[str, list[str]]) -> None:
            rows, following = fake.list(query)
            headers = [("x-next-token", following)] if following else []
            self.perform("list", lambda: (200, rows), headers)

        def _lifetime(self, name: str) -> None:
            seconds = self.json_body()["timeout"]
            guest = fake.find(name)
            if guest is None:
                self.reply(404, {"code": 404, "message": f"sandbox {name} not found"})
                return
            guest.ends = fake.now() + seconds
            fake.journal.note("timeout", name, seconds)
            self.reply(204)

        def _unknown_key(self) -> bool:
            known = self.headers.get("X-API-KEY") == KEY
            if not known:
                self.body()
                self.reply(401, {"code": 401, "message": "Invalid API key format or unknown key"})
            return not known

        def perform(
            self, operation: str, act: Callable[[], tuple[int, Any]], headers: list[tuple[str, str]] | None = None
        ) -> None:
            fault = fake.take_fault(operation)
            if fault is None:
                self.reply(*act(), headers or [])
            elif fault.way == "refuse":
                self.reply(fault.status, {"code": fault.status, "message": fault.message})
            elif fault.way == "drop":
                self.hang_up()
            else:
                status, body = act()
                if fault.way == "hang":
                    fake.closing.wait(30)
                if fault.way == "tamper":
                    self.reply(status, bytes([body[0] ^ 1]) + body[1:])
                else:
                    self.hang_up()

    return Routes
