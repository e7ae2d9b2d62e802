"""An embedded PostHog: its HTTP API on loopback, its query language, a real ClickHouse engine, and demo data.

::

    with LocalPostHog() as local:
        rows = local.client().query("SELECT event, count() FROM events GROUP BY event")

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
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import TracebackType

    from ..client import PostHogClient

__all__ = ["LocalPostHog"]

EXIT_STUCK = 70
"""Exit code of a child that ended itself because of a stuck query."""

_PROJECT_ID = 1
_START_SECONDS = 120.0
_STOP_SECONDS = 10.0


class LocalPostHog:
    """An embedded PostHog in a child process, ready to answer when the constructor returns.

    Args:
        data: Directory that keeps the data; what it already holds is opened again. None takes a temporary
            one.
        events: Number of demo events for a new directory; 0 gives an empty project.
        seed: Another seed gives other demo data.
        port: Port on 127.0.0.1, 0 for a free one.
        limits: ``"cloud"`` for the request limits of PostHog Cloud, None for none.
        faults: Scripted answers ``(status, headers, body)``, given one by one in place of the real ones; what is left
            of them is lost when the child is replaced.
        personal_api_key: The key that the API asks for; a random one by default.
        project_api_key: The token that capture asks for; a random one by default.
        end: End of the demo data's period, for answers that do not depend on today; None is today's midnight
            in UTC.

    Attributes:
        url: Address of the API, such as ``http://127.0.0.1:49152``.
        project_id: Number of the only project.
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
        limits: str | None = None,
        faults: Iterable[tuple[int, Mapping[str, str], Any]] | None = None,
        *,
        personal_api_key: str | None = None,
        project_api_key: str | None = None,
        end: datetime | None = None,
    ) -> None:
        """Start the child and wait until it answers."""
        self.project_id = _PROJECT_ID
        self.personal_api_key = personal_api_key or f"phx_{secrets.token_hex(20)}"
        self.project_api_key = project_api_key or f"phc_{secrets.token_hex(20)}"
        self._owner = os.getpid()
        self._temporary = tempfile.mkdtemp(prefix="posthog-local-") if data is None else None
        self._settings: dict[str, Any] = {
            "data": self._temporary or os.path.abspath(os.fspath(data or "")),
            "temporary": data is None,
            "events": events,
            "seed": seed,
            "end": None if end is None else end.isoformat(),
            "port": port,
            "limits": limits,
            "faults": None if faults is None else [list(fault) for fault in faults],
            "project_id": self.project_id,
            "personal_api_key": self.personal_api_key,
            "project_api_key": self.project_api_key,
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
        self.truth: Mapping[str, Any] = ready["truth"]
        self._settings["port"] = int(self.url.rpartition(":")[2])
        self._settings["faults"] = None
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
        if self._ended.is_set():
            raise _error(self._failure or "The embedded PostHog is closed.")
        from ..client import PostHogClient
        from ..config import PostHogConfig

        limits: dict[str, Any] = dict.fromkeys(("rate_limit_per_minute", "rate_limit_per_hour", "max_concurrent"))
        config = PostHogConfig(
            api_key=self.personal_api_key,
            project_id=str(self.project_id),
            project_api_key=self.project_api_key,
            api_url=self.url,
            capture_url=self.url,
            **({} if self._settings["limits"] else limits),
        )
        return PostHogClient(config, **options)

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


def _error(message: str) -> Exception:
    from ..exceptions import PostHogError

    return PostHogError(message)


def _meaning(code: int) -> str:
    if code == EXIT_STUCK:
        return "a query did not stop in time"
    return f"exit code {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"


def _say(text: str) -> None:
    print(f"posthog-driver local: {text}", file=sys.stderr, flush=True)
