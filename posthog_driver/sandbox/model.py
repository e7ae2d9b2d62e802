"""The values that travel between `SandboxedQueries`, a back end and the runner inside."""

from __future__ import annotations

import json
import math
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from posthog_driver.sandbox.errors import SandboxConfigError

if TYPE_CHECKING:
    from posthog_driver.sandbox.broker import Broker

__all__ = ["Outcome", "PythonOutput", "SandboxBackend", "SandboxJob", "SandboxLimits", "Target"]

_GRACE = 30


@dataclass(frozen=True)
class SandboxLimits:
    """What one run may use; nothing is ever cut without a word.

    Attributes:
        run_timeout: Seconds for the whole run, queries included; then everything inside is ended.
        create_timeout: Seconds until a sandbox must be there.
        max_result_bytes: Bytes of a result as JSON, and of each answer to a query inside.
        max_log_bytes: Bytes of standard output, and of standard error, that are kept: the last ones.
        memory_bytes: Bytes of memory for each process, and for all of them together.
        max_processes: Processes and threads at once inside.
        max_concurrent: Sandboxes at once; further runs wait for their turn.
        max_queries: Queries that the code of one run may ask.
    """

    run_timeout: float = 60.0
    create_timeout: float = 20.0
    max_result_bytes: int = 8 << 20
    max_log_bytes: int = 64 << 10
    memory_bytes: int = 512 << 20
    max_processes: int = 32
    max_concurrent: int = 8
    max_queries: int = 100

    def __post_init__(self) -> None:
        problems = [
            f"{name} must be a positive number of seconds"
            for name in ("run_timeout", "create_timeout")
            if not _is_number(getattr(self, name)) or not 0 < getattr(self, name) < math.inf
        ]
        least = {"max_result_bytes": 1_024, "max_log_bytes": 0, "memory_bytes": 64 << 20, "max_processes": 2}
        for name in (*least, "max_concurrent", "max_queries"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least.get(name, 1):
                problems.append(f"{name} must be a whole number, {least.get(name, 1):,} at least")
        if problems:
            raise SandboxConfigError(f"SandboxLimits: {'; '.join(problems)}.")

    @property
    def lifetime(self) -> int:
        """Seconds after which a remote sandbox ends itself, should nobody end it: the run's time and 30 more."""
        return math.ceil(self.run_timeout) + _GRACE


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


@dataclass(frozen=True)
class Target:
    """Which project is asked, and with which key; only a back end that must send the key itself looks at it.

    Attributes:
        api_url: App host of PostHog.
        project_id: The project, as text.
        api_key: Personal API key; never part of a request file, a command or a text.
    """

    api_url: str
    project_id: str
    api_key: str = field(repr=False)


@dataclass(frozen=True)
class SandboxJob:
    """One run: a query to ask, or code to run.

    Attributes:
        kind: ``query`` asks ``text``; ``python`` runs it.
        text: HogQL, or a Python script.
        values: Values for the query's placeholders, as JSON values.
        target: The project; None where only the broker can be asked.
        nonce: Random text that only this run knows; marks its lines on standard output.
        host_answers: The queries of the script are answered by the broker and by nothing else, as the host does more
            than to ask; a back end whose sandboxes ask by themselves refuses such a job.
    """

    kind: Literal["query", "python"]
    text: str = field(repr=False)
    values: Mapping[str, Any] | None = field(default=None, repr=False)
    target: Target | None = None
    nonce: str = field(default_factory=lambda: secrets.token_hex(16))
    host_answers: bool = False

    def request(self, limits: SandboxLimits, *, direct: bool = False) -> bytes:
        """Return what the runner reads, as one line of JSON without any key.

        Args:
            limits: Those that the runner itself keeps.
            direct: The runner asks PostHog over the network, not the broker.
        """
        request: dict[str, Any] = {
            "kind": self.kind,
            "text": self.text,
            "values": self.values,
            "nonce": self.nonce,
            "max_result_bytes": limits.max_result_bytes,
        }
        if direct:
            if self.target is None:
                raise SandboxConfigError("This delivery of the key needs to know which project is asked.")
            if self.host_answers:
                raise SandboxConfigError(
                    "The host has to answer this script's queries, and this sandbox would ask PostHog by itself: use "
                    'secret="broker", or a local sandbox.'
                )
            request["direct"] = {
                "api_url": self.target.api_url,
                "project_id": self.target.project_id,
                "max_queries": limits.max_queries,
                "max_result_bytes": limits.max_result_bytes,
                "run_timeout": limits.run_timeout,
            }
        return json.dumps(request, separators=(",", ":")).encode()


@dataclass(frozen=True)
class Outcome:
    """What a run gave.

    Attributes:
        result: What the runner reports, checked to be complete and within its limit, and else not to be trusted:
            ``{"rows": [...], "info": {...}}``, ``{"error": {...}}``, or ``{"exit_code": 0}`` of a script.
        stdout: The end of standard output, without the runner's own lines.
        stderr: The end of standard error.
        dropped: Bytes of both that were not kept.
        queries: Queries that were asked.
    """

    result: dict[str, Any]
    stdout: str = ""
    stderr: str = ""
    dropped: int = 0
    queries: int = 0


@dataclass(frozen=True)
class PythonOutput:
    """What a script printed; ``str()`` gives it as one text, with what there is to say about it at its end.

    Attributes:
        stdout: Standard output, the last ``max_log_bytes`` of it.
        stderr: Standard error, the same; an uncaught exception's traceback stands there.
        exit_code: 0 if the script ended by itself.
        queries: Queries that it asked.
        truncated: The start of stdout or stderr was dropped.
    """

    stdout: str
    stderr: str = ""
    exit_code: int = 0
    queries: int = 0
    truncated: bool = False

    def __str__(self) -> str:
        parts = [self.stdout.rstrip("\n"), self.stderr.rstrip("\n")]
        if self.exit_code:
            parts.append(f"(exit code {self.exit_code})")
        if self.truncated:
            parts.append("(the start of the output was dropped: print less)")
        return "\n".join(filter(None, parts))


class SandboxBackend(Protocol):
    """Where runs happen."""

    @property
    def name(self) -> str:
        """What it is called in logs."""
        ...

    def run(self, job: SandboxJob, limits: SandboxLimits, broker: Broker) -> Outcome:
        """Run a job, and leave nothing of it running, whatever happens.

        Args:
            job: What to run.
            limits: What it may use.
            broker: Answers its queries, where they do not leave the sandbox by themselves.

        Raises:
            SandboxError: the class says what helps; no message holds a key, and no cause is attached.
        """
        ...

    def close(self) -> None:
        """End what is kept."""
        ...
