"""Runs on this machine, in Linux's own isolation."""

from __future__ import annotations

import functools
import json
import logging
import os
import shutil
import sys
import tempfile
import threading
from typing import TYPE_CHECKING, Any

from posthog_driver._clock import SystemClock
from posthog_driver._redaction import redact
from posthog_driver.exceptions import PostHogError
from posthog_driver.sandbox import levels
from posthog_driver.sandbox.broker import Broker
from posthog_driver.sandbox.errors import SandboxConfigError, SandboxError, SandboxRunError
from posthog_driver.sandbox.model import Outcome, SandboxJob, SandboxLimits
from posthog_driver.sandbox.process import Run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from posthog_driver._clock import Clock
    from posthog_driver.sandbox.levels import Facts

__all__ = ["LEVELS", "LocalBackend"]

LEVELS = ("bwrap", "landlock", "plain")
"""The levels, strongest first."""

_AUTOMATIC = ("bwrap", "landlock")
_MOST_OF_SCRIPT = 1_024
_TRIAL = SandboxLimits(run_timeout=20.0)

logger = logging.getLogger("posthog_driver.sandbox")


class LocalBackend:
    """Runs in processes of this machine (Linux), which have no key, and but for ``plain`` no network and no files.

    Args:
        level: ``bwrap`` is bubblewrap: namespaces of their own. ``landlock`` is Landlock and seccomp, which need no
            namespaces. ``auto`` takes the first of the two that works here. ``plain`` is a bare process that can read
            what you can and reach every network: no isolation, and so never chosen but by name.
        packages: Folders with installed packages that scripts may read and import, such as
            ``site.getsitepackages()``; without them they have the standard library only.
        clock: Where time comes from.

    Raises:
        SandboxConfigError: there is no such level or folder. Whether a level works is found out by the first run, or by
            `probe`.
    """

    def __init__(self, *, level: str = "auto", packages: Sequence[str] = (), clock: Clock | None = None) -> None:
        if level not in ("auto", *LEVELS):
            raise SandboxConfigError(f"level is one of auto, {', '.join(LEVELS)}, not {level!r}.")
        self._packages = tuple(map(os.path.realpath, [packages] if isinstance(packages, str) else packages))
        missing = [folder for folder in self._packages if not os.path.isdir(folder)]
        if missing:
            raise SandboxConfigError(f"packages names what is no folder: {', '.join(missing)}.")
        self._level = level
        self._clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._chosen: str | None = None

    @property
    def name(self) -> str:
        """``local``, with the level once it is known."""
        return f"local ({self._chosen or self._level})"

    @property
    def level(self) -> str:
        """The level that runs have.

        Raises:
            SandboxConfigError: it does not work here; what would help is named.
        """
        with self._lock:
            if self._chosen is None:
                self._chosen = self._choose()
            return self._chosen

    def _choose(self) -> str:
        names = _AUTOMATIC if self._level == "auto" else (self._level,)
        reasons: dict[str, str] = {}
        for name in names:
            problem = _trial(name)
            if problem is None:
                if reasons:
                    logger.warning("sandbox: taking %s, as bwrap does not work here: %s", name, reasons["bwrap"])
                return name
            reasons[name] = problem
        told = "\n".join(f"  {name}: {reason}" for name, reason in reasons.items())
        advice = '\n  level="plain" runs without isolation, if you ask for it.' if self._level == "auto" else ""
        raise SandboxConfigError(f"No isolation works here, so nothing was run.\n{told}{advice}")

    def run(self, job: SandboxJob, limits: SandboxLimits, broker: Broker) -> Outcome:
        """Run a job in a process of its own and end all it started; see `SandboxBackend`."""
        return _run(self.level, job, limits, broker, self._clock, self._packages)

    def close(self) -> None:
        """Do nothing: nothing is kept between runs."""

    @staticmethod
    def probe() -> dict[str, Facts]:
        """Try every level and tell what each one closes on this machine, and what it leaves open."""
        return {name: levels.facts(name, _trial(name) or "") for name in LEVELS}


def _run(
    level: str,
    job: SandboxJob,
    limits: SandboxLimits,
    broker: Broker,
    clock: Clock,
    packages: tuple[str, ...] = (),
) -> Outcome:
    folder = tempfile.mkdtemp(prefix="posthog-sandbox-") if level == "plain" else "/"
    try:
        launch = levels.launch(level, limits, folder, levels.spare_uid(), packages)
        most = _MOST_OF_SCRIPT if job.kind == "python" else None
        with Run(launch, job.request(limits), folder, limits, clock, most) as run:
            result = run.converse(broker)
        return Outcome(
            result=_decode(result),
            stdout=redact(run.stdout.text()),
            stderr=redact(run.stderr.text()),
            dropped=run.stdout.dropped + run.stderr.dropped,
            queries=broker.queries,
        )
    finally:
        if folder != "/":
            _remove(folder)


def _decode(result: bytes) -> dict[str, Any]:
    try:
        decoded = json.loads(result)
    except (ValueError, RecursionError):
        decoded = None
    if not isinstance(decoded, dict):
        raise SandboxRunError("The sandbox's result is no JSON object; nothing of it is returned.")
    return decoded


def _remove(folder: str) -> None:
    """Remove a folder in which a script may have closed folders to itself."""
    for path, names, _ in os.walk(folder):
        for name in names:
            inner = os.path.join(path, name)
            if not os.path.islink(inner):
                os.chmod(inner, 0o700)
    shutil.rmtree(folder)


@functools.cache
def _trial(level: str) -> str | None:
    """Run an empty script at a level; return what is wrong with it, or None."""
    if sys.platform != "linux":
        return "Local sandboxes need Linux."
    try:
        _run(level, SandboxJob("python", ""), _TRIAL, Broker(_no_query, _TRIAL), SystemClock())
    except SandboxError as error:
        return str(error)
    return None


def _no_query(*_: Any) -> Any:
    raise PostHogError("A trial run asks nothing.")
