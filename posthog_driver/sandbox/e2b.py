"""Sandboxes in E2B: a virtual machine for each run, or one kept for several queries.

::

    from posthog_driver.sandbox import E2BBackend, SandboxedQueries

    with SandboxedQueries(backend=E2BBackend(secret="broker")) as sandboxed:
        rows = sandboxed.query("SELECT event, count() AS n FROM events GROUP BY event LIMIT 5")

It needs ``pip install "posthog-driver[e2b]"`` and a key of E2B in ``E2B_API_KEY``. The module `e2b_delivery` says where
PostHog's key goes in each mode; none takes the place of another by itself.

Every sandbox is tagged ``app: posthog-driver``, with an ``owner`` for the back end and a ``run`` of its own, and denies
all traffic but the one host, if any. It is ended with its run; what cannot be ended ends itself after ``lifetime``.
"""

from __future__ import annotations

import os
import shlex
import threading
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from posthog_driver._clock import Clock, SystemClock
from posthog_driver._redaction import forget_secret, redact, register_secret
from posthog_driver.sandbox.e2b_delivery import SECRETS, Delivery, Secret, plan
from posthog_driver.sandbox.e2b_errors import attempt
from posthog_driver.sandbox.e2b_run import Run, files_of
from posthog_driver.sandbox.e2b_service import Service, can_answer, load_e2b
from posthog_driver.sandbox.errors import SandboxAuthError, SandboxConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from posthog_driver.sandbox.broker import Broker
    from posthog_driver.sandbox.model import Outcome, SandboxJob, SandboxLimits

__all__ = ["E2BBackend"]


@dataclass
class _Box:
    """A sandbox, and for whom it was made: it serves nobody else."""

    sandbox: Any
    delivery: Delivery


class E2BBackend:
    """Runs in E2B. Threads may share it; each run has a sandbox of its own while it lasts.

    Args:
        e2b_api_key: Key of E2B; None reads ``E2B_API_KEY``.
        template: Template of the sandboxes. Any with ``python3`` does, 3.10 or later; nothing is installed.
        secret: Where PostHog's key goes: ``"egress"`` has E2B put the header on outside of the sandbox (a feature of
            the team at E2B), ``"broker"`` leaves the sandbox without network and asks from here (e2b 2.59 and Python
            3.11 or later), ``"env"`` hands the key to the sandbox.
        secret_name: With ``"egress"``: name of the secret in E2B's store whose value is the key, so that not even the
            request for a sandbox carries it.
        reuse: Keep sandboxes for further queries of the same project and key. One that ran a script is never kept.
        domain: Domain of E2B; None is the package's default.
        http_version: ``"1.1"`` where HTTP/2 gives trouble on the way.
        clock: The time.

    Raises:
        SandboxAuthError: there is no key of E2B.
        SandboxConfigError: the package is missing, or this way of delivery cannot work with it.
    """

    name = "e2b"

    def __init__(
        self,
        *,
        e2b_api_key: str | None = None,
        template: str = "base",
        secret: Secret = "egress",
        secret_name: str | None = None,
        reuse: bool = False,
        domain: str | None = None,
        http_version: str | None = None,
        clock: Clock | None = None,
    ) -> None:
        if secret not in SECRETS:
            raise SandboxConfigError(f"secret is one of {', '.join(SECRETS)}, not {redact(repr(secret))}.")
        if secret_name is not None and secret != "egress":
            raise SandboxConfigError(f'secret_name belongs to secret="egress", not to secret="{secret}".')
        key = _e2b_key(e2b_api_key)
        load_e2b()
        if secret == "broker" and not can_answer():
            raise SandboxConfigError(
                'secret="broker" needs e2b 2.59 or later, which needs Python 3.11 or later: update both, or use '
                "another secret."
            )
        connection = {"domain": domain, "http_version": http_version}
        self._clock = clock or SystemClock()
        self._service = Service(key, template, {k: v for k, v in connection.items() if v is not None}, self._clock)
        self._secret: Secret = secret
        self._secret_name = secret_name
        self._reuse = reuse
        self._lock = threading.Lock()
        self._idle: list[_Box] = []
        self._closed = False
        register_secret(key)
        # Also at the end of the interpreter, should nobody close it.
        self._finish = weakref.finalize(self, _finish, self._service, key)

    def __enter__(self) -> E2BBackend:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End every sandbox; runs that are under way fail. May be called twice."""
        with self._lock:
            self._closed = True
            self._idle.clear()
        self._finish()

    def sweep(self, *, older_than: float = 3_600.0, run: str | None = None) -> int:
        """End sandboxes of this package that were left behind, by this process or any other.

        Args:
            older_than: Seconds since their start; younger ones may be in use.
            run: Only the one with this tag, of whatever age if ``older_than`` is 0.

        Returns:
            How many were ended.

        Raises:
            SandboxError: they could not be listed, or not all be ended.
        """
        return self._service.sweep({} if run is None else {"run": run}, older_than=older_than)

    @staticmethod
    def build_template(
        name: str,
        *,
        packages: Sequence[str] = (),
        python: str = "3.12",
        cpu_count: int = 1,
        memory_mb: int = 512,
        e2b_api_key: str | None = None,
        domain: str | None = None,
    ) -> str:
        """Build a template for ``E2BBackend(template=...)`` and wait until it is ready, which takes minutes.

        None is needed for queries: it is for scripts that want packages, another Python, or a larger machine.

        Args:
            name: Its name.
            packages: What pip installs, such as ``"pandas>=2"``.
            python: Version of Python.
            cpu_count: Processors.
            memory_mb: MiB of memory.
            e2b_api_key: Key of E2B; None reads ``E2B_API_KEY``.
            domain: Domain of E2B; None is the package's default.

        Returns:
            The name.

        Raises:
            SandboxError: it was not built; the class says what helps.
        """
        access = {"api_key": _e2b_key(e2b_api_key), **({} if domain is None else {"domain": domain})}
        e2b = load_e2b()
        template = e2b.Template().from_python_image(python)
        if packages:
            # They become words of a command there.
            template = template.pip_install([shlex.quote(package) for package in packages])
        options = {"name": name, "cpu_count": cpu_count, "memory_mb": memory_mb, **access}
        attempt("building a template", e2b.Template.build, template, **options)
        return name

    def run(self, job: SandboxJob, limits: SandboxLimits, broker: Broker) -> Outcome:
        """Run a job in a sandbox, which is ended or, where it may be, kept.

        Args:
            job: What to run.
            limits: What it may use. ``memory_bytes`` is each process's; the machine as a whole is as large as its
                template says, and ``max_processes`` is left to it.
            broker: Answers its queries with ``secret="broker"``.

        Raises:
            SandboxError: the class says what helps; no message holds a key, and no cause is attached.
        """
        delivery = plan(self._secret, job.target, self._secret_name)
        files = files_of(job, limits, direct=delivery.direct)
        box = self._take(delivery, limits)
        kept = False
        try:
            outcome = Run(box.sandbox, job.nonce, limits, broker, self._clock).carry_out(files, direct=delivery.direct)
            # What a script left running could read and change what comes after it.
            kept = self._reuse and job.kind == "query" and self._give_back(box)
        finally:
            if not kept:
                self._service.end(box.sandbox.sandbox_id)
        if self._secret == "egress":
            _check_injection(outcome)
        return outcome

    # --- sandboxes ----------------------------------------------------------------------------------------------------

    def _take(self, delivery: Delivery, limits: SandboxLimits) -> _Box:
        """Return a kept sandbox that was made in the same way, or a new one."""
        with self._lock:
            if self._closed:
                raise SandboxConfigError("This back end was closed.")
            kept = next((box for box in self._idle if box.delivery == delivery), None)
            if kept is not None:
                self._idle.remove(kept)
        if kept is not None:
            if self._service.renew(kept.sandbox, limits):
                return kept
            self._service.end(kept.sandbox.sandbox_id)
        return _Box(self._service.create(delivery, limits), delivery)

    def _give_back(self, box: _Box) -> bool:
        """Keep a sandbox, and return whether that was possible."""
        with self._lock:
            if not self._closed:
                self._idle.append(box)
            return not self._closed


def _check_injection(outcome: Outcome) -> None:
    """Refuse a 401 where E2B was to put the key on: it means that it did not."""
    error = outcome.result.get("error")
    facts = error.get("facts") if isinstance(error, dict) else None
    if isinstance(facts, dict) and facts.get("status") == 401:
        raise SandboxConfigError(
            "PostHog answered 401: header injection is not active on this E2B, as on its open-source build, or the key "
            'that it puts on is not a valid one. Check the key or secret_name, or use secret="broker".',
            status=401,
        )


def _e2b_key(given: str | None) -> str:
    key = given or os.environ.get("E2B_API_KEY", "")
    if not key:
        raise SandboxAuthError("There is no key of E2B: set E2B_API_KEY, or give e2b_api_key.")
    return key


def _finish(service: Service, key: str) -> None:
    service.close()
    forget_secret(key)
