"""E2B as the back end uses it: sandboxes are made, found by their tags, and always ended.

Every sandbox that was made is known here until E2B says that it is gone. What a failed request may have made is looked
for by its tag. What cannot be ended now is tried again when the service is closed, and ends itself when its lifetime
is over.
"""

from __future__ import annotations

import contextlib
import datetime
import importlib
import inspect
import logging
import os
import secrets
import threading
from typing import TYPE_CHECKING, Any

from posthog_driver._clock import Clock
from posthog_driver._redaction import redact
from posthog_driver.sandbox.e2b_errors import E2BNotInstalledError, attempt, made_nothing
from posthog_driver.sandbox.errors import SandboxError, SandboxUnavailableError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from posthog_driver.sandbox.e2b_delivery import Delivery
    from posthog_driver.sandbox.model import SandboxLimits

__all__ = ["APP", "Service", "can_answer", "load_e2b"]

APP = "posthog-driver"

_KILL_TRIES = 3
_KILL_SECONDS = 5.0
_KILL_PAUSE = 0.25
_CALL_SECONDS = 10.0

logger = logging.getLogger("posthog_driver.sandbox")


def load_e2b() -> Any:
    """Return the package e2b.

    Raises:
        E2BNotInstalledError: it is not installed, or too old.
    """
    try:
        package = importlib.import_module("e2b")
        package.SandboxUnreachableException  # noqa: B018 - the newest thing that is needed, of 2.53.1
    except (ImportError, AttributeError):
        raise E2BNotInstalledError(
            'Sandboxes in E2B need the package e2b, 2.53.1 or later: pip install "posthog-driver[e2b]".'
        ) from None
    return package


def can_answer() -> bool:
    """Tell whether the package can write to a running command in the way that E2B does not log."""
    commands = importlib.import_module("e2b.sandbox_sync.commands.command").Commands
    return hasattr(commands, "stream_input")


class Service:
    """The account at E2B.

    Args:
        api_key: Its key.
        template: The template of new sandboxes.
        connection: Further options for every call: ``domain``, ``http_version``.
        clock: For the pauses between tries.

    Attributes:
        owner: The tag that all sandboxes made here have in common.
    """

    def __init__(self, api_key: str, template: str, connection: Mapping[str, Any], clock: Clock) -> None:
        self._package = load_e2b()
        # Debugging mode would leave out creating and ending without a word.
        self._access = {"api_key": api_key, "debug": False, **connection}
        self._template = template
        self._clock = clock
        self._lock = threading.Lock()
        self._alive: set[str] = set()
        self._unsure = False
        self._process = os.getpid()
        self.owner = secrets.token_hex(8)

    # --- making -------------------------------------------------------------------------------------------------------

    def create(self, delivery: Delivery, limits: SandboxLimits) -> Any:
        """Make a sandbox, and return the package's object for it.

        Raises:
            SandboxError: there is none, or one that could not be used and was ended.
        """
        run = secrets.token_hex(16)
        options: dict[str, Any] = {
            "template": self._template,
            "timeout": limits.lifetime,
            "metadata": {"app": APP, "owner": self.owner, "run": run},
            "lifecycle": {"on_timeout": "kill"},
            "request_timeout": _wire_timeout(limits.create_timeout),
            **delivery.options,
            **self._access,
        }
        create = self._package.Sandbox.create
        if "idempotency_key" in inspect.signature(create).parameters:
            options["idempotency_key"] = run
        try:
            sandbox = attempt("creating a sandbox", create, **options)
        except BaseException as error:
            if not made_nothing(error):
                self._end_unknown(run)
            raise
        with self._lock:
            self._alive.add(sandbox.sandbox_id)
        return sandbox

    def _end_unknown(self, run: str) -> None:
        """End what a request for a sandbox may have made although it failed."""
        found = 0
        try:
            found = self.sweep({"run": run})
        except Exception as error:
            logger.warning("whether a failed request made a sandbox in E2B is not known: %s", redact(str(error)))
        # It may also appear later: then it is looked for once more when the service is closed.
        self._unsure = self._unsure or not found

    def renew(self, sandbox: Any, limits: SandboxLimits) -> bool:
        """Let the lifetime of a sandbox begin anew, and return whether it is still there."""
        try:
            seconds = _wire_timeout(_CALL_SECONDS)
            attempt("keeping a sandbox", sandbox.set_timeout, limits.lifetime, request_timeout=seconds)
        except SandboxError as error:
            logger.debug("a kept sandbox in E2B is not used any more: %s", error)
            return False
        return True

    # --- ending -------------------------------------------------------------------------------------------------------

    def end(self, sandbox_id: str) -> bool:
        """End a sandbox, and return whether it is gone; a failure is tried again and logged, never raised."""
        problem = ""
        for turn in range(_KILL_TRIES):
            if turn:
                self._clock.sleep(_KILL_PAUSE * turn)
            try:
                self._kill(sandbox_id)
            except Exception as error:
                problem = redact(f"{type(error).__name__}: {error}")
            else:
                with self._lock:
                    self._alive.discard(sandbox_id)
                return True
        with self._lock:
            self._alive.add(sandbox_id)
        logger.warning("sandbox %s in E2B could not be ended, and ends with its lifetime: %s", sandbox_id, problem)
        return False

    def _kill(self, sandbox_id: str) -> None:
        self._package.Sandbox.kill(sandbox_id, request_timeout=_wire_timeout(_KILL_SECONDS), **self._access)

    def close(self) -> None:
        """End every sandbox that was made here and may still be there."""
        if os.getpid() != self._process:
            return  # a forked child has no business with them
        with self._lock:
            alive, unsure = list(self._alive), self._unsure
            self._unsure = False
        for sandbox_id in alive:
            self.end(sandbox_id)
        if unsure:
            with contextlib.suppress(SandboxError):
                self.sweep({"owner": self.owner})

    def sweep(self, tags: Mapping[str, str], *, older_than: float = 0.0) -> int:
        """End the sandboxes of this package that carry certain tags.

        Args:
            tags: Tags they must have.
            older_than: Seconds since their start.

        Returns:
            How many there were.

        Raises:
            SandboxError: they could not be listed, or not all be ended.
        """
        query = self._package.SandboxQuery(metadata={"app": APP, **tags})
        pages = self._package.Sandbox.list(query=query, request_timeout=_wire_timeout(_CALL_SECONDS), **self._access)
        before = datetime.datetime.fromtimestamp(self._clock.wall() - older_than, datetime.timezone.utc)
        found: list[str] = []
        while pages.has_next:
            rows = attempt("listing sandboxes", pages.next_items)
            found += [row.sandbox_id for row in rows if not older_than or row.started_at <= before]
        left = [sandbox_id for sandbox_id in found if not self.end(sandbox_id)]
        if left:
            raise SandboxUnavailableError(
                f"{len(left)} of {len(found)} sandboxes could not be ended: {', '.join(left)}."
            )
        return len(found)


def _wire_timeout(seconds: float) -> float:
    """Return what to ask of e2b for a request to end within some seconds: it waits twice as long as it says."""
    return seconds / 2
