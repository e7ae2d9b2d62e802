"""One run in a sandbox of E2B: what goes in, what it asks, what comes out."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import inspect
import json
import pkgutil
import secrets
import threading
from typing import TYPE_CHECKING, Any

from posthog_driver._redaction import redact
from posthog_driver.sandbox import runner
from posthog_driver.sandbox.broker import MAX_REQUEST_BYTES
from posthog_driver.sandbox.bundle import package_zip
from posthog_driver.sandbox.e2b_errors import RUNNING, attempt
from posthog_driver.sandbox.errors import ResultTooLargeError, SandboxError, SandboxRunError
from posthog_driver.sandbox.model import Outcome
from posthog_driver.sandbox.wire import Marked, Tail

if TYPE_CHECKING:
    from collections.abc import Mapping

    from posthog_driver._clock import Clock
    from posthog_driver.sandbox.broker import Broker
    from posthog_driver.sandbox.model import SandboxJob, SandboxLimits

__all__ = ["COMMAND", "Run", "files_of"]

# A constant: what differs between runs is in files, and the folder is where it starts. Folders of earlier runs go.
COMMAND = (
    'for old in ../phd-*; do [ "$old" -ef . ] || rm -rf -- "$old"; done; ulimit -v "$(<memory)"; '
    'exec python3 -I "$PWD/runner.py" "$PWD"'
)
_PIECE = 64 << 10
_GRACE = 1.0
# A query that is too long is refused by the broker; only what no honest runner sends counts as output.
_LONGEST_LINE = 4 * MAX_REQUEST_BYTES


def files_of(job: SandboxJob, limits: SandboxLimits, *, direct: bool) -> dict[str, bytes]:
    """Return the files that a run needs; no key is in any.

    Args:
        job: What to run.
        limits: What it may use.
        direct: Whether the sandbox asks PostHog by itself; it has this package for that.

    Raises:
        SandboxConfigError: the job cannot be run in this way.
    """
    files = {
        "request.json": job.request(limits, direct=direct),
        "runner.py": _source_of_runner(),
        "memory": b"%d\n" % (limits.memory_bytes >> 10),
    }
    return {**files, "posthog_driver.zip": package_zip()} if direct else files


class Run:
    """A run.

    Args:
        sandbox: The package's object.
        nonce: Marks the runner's lines.
        limits: What it may use.
        broker: Answers the queries that it asks here.
        clock: The time.
    """

    def __init__(self, sandbox: Any, nonce: str, limits: SandboxLimits, broker: Broker, clock: Clock) -> None:
        self._sandbox = sandbox
        self._limits = limits
        self._broker = broker
        self._clock = clock
        self._deadline = clock.monotonic() + limits.run_timeout
        self._folder = f"/tmp/phd-{secrets.token_hex(8)}"
        self._stdout = Tail(limits.max_log_bytes)
        self._stderr = Tail(limits.max_log_bytes)
        self._lines = Marked(nonce, self._stdout, _LONGEST_LINE)
        self._announced = b""
        self._handle: Any = None
        self._timer: threading.Timer | None = None

    def carry_out(self, files: Mapping[str, bytes], *, direct: bool) -> Outcome:
        """Do it, and return what came of it.

        Args:
            files: What it needs, by name.
            direct: Whether it asks nothing here.

        Raises:
            SandboxError: it failed; ``detail`` is the end of standard error.
        """
        try:
            self._upload(files)
            self._follow(listening=not direct)
            result = self._result()
        except SandboxRunError as error:
            error.detail = redact(self._stderr.text()) or None
            raise
        return Outcome(
            result,
            stdout=redact(self._stdout.text()),
            stderr=redact(self._stderr.text()),
            dropped=self._stdout.dropped + self._stderr.dropped,
            queries=self._broker.queries,
        )

    def _left(self) -> float:
        return max(0.05, self._deadline - self._clock.monotonic())

    def _upload(self, files: Mapping[str, bytes]) -> None:
        entries = [{"path": f"{self._folder}/{name}", "data": data} for name, data in files.items()]
        # e2b waits twice as long as it is told.
        attempt("uploading a run", self._sandbox.files.write_files, entries, request_timeout=self._left() / 2)

    def _follow(self, *, listening: bool) -> None:
        start = self._sandbox.commands.run
        # Output is taken as it comes; older versions keep a copy of all of it.
        spare = {"retain_output": False} if "retain_output" in inspect.signature(start).parameters else {}
        self._handle = attempt(
            "starting a run",
            start,
            COMMAND,
            background=True,
            cwd=self._folder,
            stdin=listening,
            timeout=self._left(),
            **spare,
        )
        try:
            attempt(RUNNING, self._handle.wait, on_stdout=self._on_stdout, on_stderr=self._on_stderr)
        finally:
            if self._timer is not None:
                self._timer.cancel()
            self._lines.finish()

    def _on_stdout(self, text: str) -> None:
        for mark, line in self._lines.feed(text.encode("utf-8", "replace")):
            if mark == runner.RESULT_MARK:
                self._announced = line
                self._end_soon()
            else:
                self._answer(line)

    def _end_soon(self) -> None:
        """Do not wait for what a script left running: it holds the output open, and the result is there."""
        if self._timer is None:
            self._timer = threading.Timer(_GRACE, self._stop)
            self._timer.daemon = True
            self._timer.start()

    def _stop(self) -> None:
        # Should it fail, the stream ends with the time of the run.
        with contextlib.suppress(SandboxError):
            attempt("ending a run", self._sandbox.commands.kill, self._handle.pid, request_timeout=_GRACE)

    def _on_stderr(self, text: str) -> None:
        self._stderr.add(text.encode("utf-8", "replace"))

    def _answer(self, request: bytes) -> None:
        reply = self._broker.answer(request, self._left())
        pieces = [reply[at : at + _PIECE] for at in range(0, len(reply), _PIECE)]
        send = self._sandbox.commands.stream_input
        attempt("answering a query", send, self._handle.pid, pieces, timeout=self._left())

    def _result(self) -> dict[str, Any]:
        size, digest = self._announcement()
        most = self._limits.max_result_bytes
        if size > most:
            raise ResultTooLargeError(
                f"The result has {size:,} bytes as JSON, and max_result_bytes is {most:,}; nothing of it is returned. "
                "Select fewer columns, aggregate, or add a LIMIT."
            )
        data = attempt("reading the result", self._read, size)
        if len(data) != size or hashlib.sha256(data).hexdigest() != digest:
            raise SandboxRunError("The result is not what the run announced; nothing of it is returned.")
        return _parse(data)

    def _announcement(self) -> tuple[int, str]:
        size, _, digest = self._announced.decode("ascii", "replace").partition(" ")
        if not (size.isascii() and size.isdigit() and len(size) < 16):
            raise SandboxRunError("The run ended without a result.")
        return int(size), digest

    def _read(self, size: int) -> bytes:
        """Return the result, or a little more than ``size`` bytes of what took its place."""
        data = bytearray()
        path = f"{self._folder}/result.json"
        with self._sandbox.files.read(path, format="stream", request_timeout=self._left() / 2) as pieces:
            for piece in pieces:
                data += piece
                if len(data) > size:
                    break
        return bytes(data)


def _parse(data: bytes) -> dict[str, Any]:
    try:
        result = json.loads(data)
    except (ValueError, RecursionError):
        result = None
    if not isinstance(result, dict):
        raise SandboxRunError("The result is no JSON object; nothing of it is returned.")
    return result


@functools.cache
def _source_of_runner() -> bytes:
    return pkgutil.get_data("posthog_driver", "sandbox/runner.py") or b""
