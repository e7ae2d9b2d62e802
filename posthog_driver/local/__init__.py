"""An embedded PostHog: its HTTP API on loopback, its query language, a real ClickHouse engine, and demo data.

::

    with LocalPostHog() as local:
        rows = local.client().query("SELECT event, count() FROM events GROUP BY event")
        empty = local.new_project(name="Mine", timezone="Europe/Berlin")
        local.inject("throttled", {"path": "/query/", "delay": 2.0, "drop": "middle"})

It needs ``pip install "posthog-driver[local]"``, on Linux with glibc or on macOS.

Why a child process. The engine inside cannot live in a user's own process: Ctrl-C does not stop its queries,
a fork hangs it, and a query that runs at exit crashes it. So `LocalPostHog` starts
`posthog_driver.local.worker` and talks to it as to any other host. The child ends with its parent, as it
reads a pipe that closes then, even after SIGKILL.

What happens when a query is stuck. The engine stops a query at its own time limit. One that does not obey is
cancelled from outside two seconds later, and 15 seconds later the child ends itself. A parser that holds the
interpreter lets no Python code run, so the interpreter's own watchdog ends the child after 30 seconds. A
thread here waits for the child: when it ends unasked, for whatever reason, it says so on standard error and
starts another one with the same port, keys and data directory, so what was stored is there again. Requests in
between are refused, as by any server that restarts.
"""

from __future__ import annotations

import http.client
import json
import os
import secrets
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from .arguments import checked, faults_as_json
from .faults import Fault
from .limits import Limits

if TYPE_CHECKING:
    from types import TracebackType

    from ..client import PostHogClient
    from ..importing import ImportReport, Progress

__all__ = ["Fault", "Limits", "LocalPostHog", "LocalProject"]

EXIT_STUCK = 70
"""Exit code of a child that ended itself because of a stuck query."""

_PROJECT_ID = 1
_START_SECONDS = 120.0
_STOP_SECONDS = 10.0
_ASK_SECONDS = 60.0


@dataclass(frozen=True)
class LocalProject:
    """One project of an embedded PostHog.

    Attributes:
        url: Address of the API.
        project_id: Its number.
        name: Its name.
        personal_api_key: A key for its queries and entities, and for no other project.
        project_api_key: Its token for capture and flags.
        limited: Whether its clients limit themselves as for PostHog Cloud.
    """

    url: str
    project_id: int
    name: str
    personal_api_key: str = field(repr=False)
    project_api_key: str = field(repr=False)
    limited: bool = False

    def client(self, **options: Any) -> PostHogClient:
        """A client for it. Without limits in the server, the client limits itself neither.

        Args:
            **options: Arguments of `PostHogClient` that replace the ones set here.
        """
        from ..client import PostHogClient
        from ..config import PostHogConfig

        limits: dict[str, Any] = dict.fromkeys(("rate_limit_per_minute", "rate_limit_per_hour", "max_concurrent"))
        config = PostHogConfig(
            api_key=self.personal_api_key,
            project_id=str(self.project_id),
            project_api_key=self.project_api_key,
            api_url=self.url,
            capture_url=self.url,
            **({} if self.limited else limits),
        )
        return PostHogClient(config, **options)


class LocalPostHog:
    """An embedded PostHog in a child process, ready to answer when the constructor returns.

    Args:
        data: Directory that keeps the data; what it already holds is opened again. None takes a temporary
            one.
        events: Number of demo events for a new directory; 0 gives an empty project.
        seed: Another seed gives other demo data.
        port: Port to listen on, 0 for a free one.
        limits: ``"cloud"`` for the request limits of PostHog Cloud, `Limits` for others, None for none.
        faults: The script of faults: `Fault` values, names (``"throttled"``), mappings of their attributes, or
            answers ``(status, headers, body)``. Each request takes the first one that fits it; what is left of them
            is lost when the child is replaced.
        personal_api_key: The key that the API asks for; by default a random one, which stays the same for a directory.
        project_api_key: The token that capture asks for; the same holds for it.
        end: End of the demo data's period, for answers that do not depend on today; None is today's midnight
            in UTC.
        host: Address to bind. Anything but loopback needs ``allow_remote``.
        allow_remote: That others may reach it is wanted: whoever has the key can read and change everything.
        query_seconds: How long a blocking query may run before it is a 504.
        timezone: Time zone of the first project from now on, such as ``Europe/Berlin``; None leaves it as it is, which
            is UTC at first.
        scopes: What the personal key may do, such as ``["query:read", "insight:write"]``.

    Attributes:
        url: Address of the API, such as ``http://127.0.0.1:49152``.
        project_id: Number of the first project; `new_project` makes more.
        personal_api_key: The key for queries and entities.
        project_api_key: The token for capture and flags.
        truth: What is known of the demo data without a query: see `posthog_driver.local.demo.load`.

    Raises:
        MissingDependencyError: The extra ``local`` is not installed, or not available here.
        ValidationError: An argument that cannot work.
        PostHogError: It did not start.
    """

    def __init__(
        self,
        data: str | os.PathLike[str] | None = None,
        events: int = 25_000,
        seed: int = 0,
        port: int = 0,
        limits: str | Limits | Mapping[str, Any] | None = None,
        faults: Iterable[Any] | None = None,
        *,
        personal_api_key: str | None = None,
        project_api_key: str | None = None,
        end: datetime | None = None,
        host: str = "127.0.0.1",
        allow_remote: bool = False,
        query_seconds: float = 10.0,
        timezone: str | None = None,
        scopes: Sequence[str] = ("*",),
    ) -> None:
        """Start the child and wait until it answers."""
        self.project_id = _PROJECT_ID
        given = {
            "events": events,
            "seed": seed,
            "end": end,
            "host": host,
            "port": port,
            "limits": limits,
            "faults": faults,
            "query_seconds": query_seconds,
            "timezone": timezone,
            "scopes": scopes,
            "personal_api_key": personal_api_key,
            "project_api_key": project_api_key,
        }
        try:
            self._settings: dict[str, Any] = checked(given, allow_remote=allow_remote)
            directory = None if data is None else os.path.abspath(os.fspath(data))
        except (TypeError, ValueError) as error:
            raise _invalid(str(error)) from None
        self._owner = os.getpid()
        self._owner_key = secrets.token_hex(20)
        self._temporary = tempfile.mkdtemp(prefix="posthog-local-") if directory is None else None
        self._settings |= {
            "data": self._temporary or directory,
            "temporary": data is None,
            "owner_key": self._owner_key,
        }
        self._start_seconds = _START_SECONDS + events / 10_000
        self._lock = threading.Lock()
        self._closing = False
        self._failure: str | None = None
        self._ended = threading.Event()
        try:
            ready = self._start()
        except BaseException:
            self._remove()
            raise
        self.url: str = ready["url"]
        self.personal_api_key: str = ready["personal_api_key"]
        self.project_api_key: str = ready["project_api_key"]
        self.truth: Mapping[str, Any] = ready["truth"]
        self._settings["port"] = int(self.url.rpartition(":")[2])
        self._settings["faults"] = []
        if (ready["events"], ready["seed"]) != (events, seed):
            _say(f"{data} already holds {ready['events']:,} demo events (seed {ready['seed']}); nothing was added")
        self._watcher = threading.Thread(target=self._watch, name="posthog-local", daemon=True)
        self._watcher.start()

    def client(self, **options: Any) -> PostHogClient:
        """A client for it. Without ``limits``, the client limits itself neither.

        Args:
            **options: Arguments of `PostHogClient` that replace the ones set here.

        Raises:
            PostHogError: It is closed, or its process ended and could not be started again.
        """
        self._check_open()
        return self.project.client(**options)

    @property
    def project(self) -> LocalProject:
        """The first project, with the key and the token of this object."""
        return self._project_of(self.project_id, "Embedded PostHog", self.personal_api_key, self.project_api_key)

    def new_project(self, name: str = "Project", *, timezone: str = "UTC", **fields: Any) -> LocalProject:
        """Make an empty project with a key of its own; nothing in it touches another project.

        Args:
            name: Its name.
            timezone: Its time zone.
            **fields: More of what PostHog lets set of a project, such as ``week_start_day`` or
                ``test_account_filters``.

        Raises:
            ValidationError: A field that cannot be.
            PostHogError: The server does not answer.
        """
        body = {"name": name, "timezone": timezone, **fields}
        made = self._ask_server("POST", "/api/projects/", body)
        asked = {"label": f"Project {made['id']}", "scopes": ["*"], "scoped_teams": [made["id"]]}
        key = self._ask_server("POST", "/api/personal_api_keys/", asked)
        return self._project_of(made["id"], made["name"], key["value"], made["api_token"])

    def drop_project(self, project: LocalProject | int) -> None:
        """Remove a project that `new_project` made, with everything in it.

        Args:
            project: It, or its number.

        Raises:
            ValidationError: It is the first one, or is not there.
            PostHogError: The server does not answer.
        """
        number = project if isinstance(project, int) else project.project_id
        self._ask_server("DELETE", f"/api/projects/{number}/")

    def import_events(
        self,
        path: str | os.PathLike[str],
        *,
        format: str | None = None,
        on_progress: Callable[[Progress], object] | None = None,
    ) -> ImportReport:
        """Import the events of an NDJSON, CSV or Parquet file into the first project.

        See `posthog_driver.importing.import_events`, which does the same with the client of any project.

        Args:
            path: The file; a row without a uuid gets the same one each time, so importing it again adds nothing.
            format: ``ndjson``, ``csv`` or ``parquet``; None takes it from the file's name.
            on_progress: Called after each two thousand rows.

        Returns:
            How many events were accepted, and which rows were not imported and why.

        Raises:
            ValidationError: The file cannot be read.
            PostHogError: The server does not take the events.
        """
        from ..importing import import_events

        with self.client() as client:
            return import_events(client, path, format=format, on_progress=on_progress)

    def inject(self, *faults: Any) -> None:
        """Put lines at the end of the script of faults; the next requests that fit take them.

        Args:
            *faults: As the argument ``faults`` of this class.

        Raises:
            ValidationError: A line that cannot be; then none is added.
            PostHogError: The server does not answer.
        """
        try:
            lines = faults_as_json(faults)
        except (TypeError, ValueError) as error:
            raise _invalid(str(error)) from None
        self._ask_server("POST", "/_local/faults/", lines)

    def clear_faults(self) -> None:
        """Forget what is left of the script of faults."""
        self._ask_server("DELETE", "/_local/faults/")

    def faults_left(self) -> list[Fault]:
        """Return what is left of the script of faults."""
        return [Fault.of(fault) for fault in self._ask_server("GET", "/_local/faults/")]

    def wait(self) -> str | None:
        """Wait until it has ended for good.

        Returns:
            None after `close`, else why it could not go on.
        """
        self._ended.wait()
        return self._failure

    def close(self) -> None:
        """Stop it, and remove its data if they were temporary. Calling it again does nothing."""
        if os.getpid() != self._owner:  # a fork has a copy of this object, but not the child
            return
        with self._lock:
            self._closing = True
            process = self._process
        _end(process, process.terminate)
        self._watcher.join()
        self._remove()

    def __enter__(self) -> LocalPostHog:
        """Itself; it runs already."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def __repr__(self) -> str:
        """Its address; the keys are left out."""
        return f"LocalPostHog(url={self.url!r}, project_id={self.project_id})"

    def _project_of(self, number: int, name: str, personal_api_key: str, project_api_key: str) -> LocalProject:
        limited = self._settings["limits"] is not None
        return LocalProject(self.url, number, name, personal_api_key, project_api_key, limited)

    def _check_open(self) -> None:
        if self._ended.is_set():
            raise _error(self._failure or "The embedded PostHog is closed.")

    def _ask_server(self, method: str, path: str, body: Any = None) -> Any:
        """Ask the child something that only its owner may.

        Raises:
            ValidationError: It refuses.
            PostHogError: It does not answer.
        """
        self._check_open()
        address = urlsplit(self.url)
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=_ASK_SECONDS)
        try:
            sent = None if body is None else json.dumps(body)
            connection.request(method, path, sent, {"Authorization": f"Bearer {self._owner_key}"})
            answer = connection.getresponse()
            content = answer.read()
        except (TypeError, ValueError) as error:
            raise _invalid(str(error)) from None
        except (OSError, http.client.HTTPException) as error:
            raise _error(f"The embedded PostHog does not answer: {error}") from error
        finally:
            connection.close()
        if answer.status >= 400:
            raise _invalid(f"The embedded PostHog refuses: {json.loads(content)['detail']}")
        return json.loads(content) if content else None

    def _start(self) -> dict[str, Any]:
        """Start a child and read its one line.

        Raises:
            PostHogError: There was none, or it says why there is nothing to talk to.
        """
        with self._lock:
            if self._closing:
                raise _error("The embedded PostHog is closed.")
            self._process = process = subprocess.Popen(
                [sys.executable, "-m", f"{__name__}.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=_environment(),
                start_new_session=True,  # Ctrl-C is for the parent alone
                umask=0o077,
            )
        try:
            answer = _ask(process, self._settings, self._start_seconds)
        except BaseException:
            _end(process, process.kill)
            raise
        if "url" in answer:
            return answer
        _end(process, process.poll)
        raise _refusal(answer, process.returncode)

    def _watch(self) -> None:
        """Start another child whenever one ends unasked."""
        try:
            while True:
                code = self._process.wait()
                _close_pipes(self._process)
                if self._closing:
                    return
                _say(f"the server process ended unexpectedly ({_meaning(code)}); starting another one")
                self._start()
                _say(f"listening again on {self.url}; what was stored before is kept")
        except Exception as error:
            if not self._closing:
                self._failure = f"The embedded PostHog ended and could not be started again: {error}"
                _say(self._failure)
        finally:
            self._ended.set()

    def _remove(self) -> None:
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)


def _environment() -> dict[str, str]:
    """The child finds this package where the parent found it, and nothing in the working directory."""
    root = str(Path(__file__).parents[2])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONSAFEPATH": "1"}


def _ask(process: subprocess.Popen[bytes], settings: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    """Send the settings and read the answer; an empty one when the child ended without.

    Raises:
        PostHogError: No answer in time.
    """
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(json.dumps(settings).encode() + b"\n")
        process.stdin.flush()
    except BrokenPipeError:
        return {}
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        if not selector.select(seconds):
            raise _error(f"The embedded PostHog did not start within {seconds:.0f} s.")
    line = process.stdout.readline()
    answer: dict[str, Any] = json.loads(line) if line.endswith(b"\n") else {}
    return answer


def _end(process: subprocess.Popen[bytes], ask: Callable[[], object]) -> None:
    """Wait for a child that was asked to end, and kill it if it does not."""
    ask()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    _close_pipes(process)


def _close_pipes(process: subprocess.Popen[bytes]) -> None:
    for pipe in filter(None, (process.stdin, process.stdout)):
        with suppress(BrokenPipeError):  # what a child did not read before it ended
            pipe.close()


def _refusal(answer: Mapping[str, Any], code: int) -> Exception:
    """The error for a child that did not become ready."""
    from ..exceptions import MissingDependencyError, ValidationError

    if "missing" in answer:
        return MissingDependencyError(
            f"The embedded PostHog needs the package {answer['missing']}: "
            'pip install "posthog-driver[local]". '
            "Its engine exists for Linux with glibc and for macOS, not for Windows or Alpine."
        )
    if "error" not in answer:
        return _error(f"The embedded PostHog ended while it started ({_meaning(code)}).")
    if answer["invalid"]:
        return ValidationError(answer["error"])
    return _error(f"The embedded PostHog did not start: {answer['error']}")


def _invalid(message: str) -> Exception:
    from ..exceptions import ValidationError

    return ValidationError(message)


def _error(message: str) -> Exception:
    from ..exceptions import PostHogError

    return PostHogError(message)


def _meaning(code: int) -> str:
    if code == EXIT_STUCK:
        return "a query did not stop in time"
    return f"exit code {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"


def _say(text: str) -> None:
    print(f"posthog-driver local: {text}", file=sys.stderr, flush=True)
