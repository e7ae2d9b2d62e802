"""Queries and scripts in a sandbox, with the results and the errors of the plain client."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from posthog_driver._clock import SystemClock
from posthog_driver.client import PostHogClient
from posthog_driver.endpoints import sendable_text, to_json_value
from posthog_driver.exceptions import ValidationError
from posthog_driver.sandbox.broker import Ask, Broker, ask_client, read_error, read_rows
from posthog_driver.sandbox.errors import (
    SandboxConfigError,
    SandboxLostError,
    SandboxRateLimitError,
)
from posthog_driver.sandbox.model import PythonOutput, SandboxJob, SandboxLimits, Target

if TYPE_CHECKING:
    from types import TracebackType

    from posthog_driver._clock import Clock
    from posthog_driver.results import QueryResult
    from posthog_driver.sandbox.model import Outcome, SandboxBackend

__all__ = ["SandboxedQueries", "execute_in_sandbox", "run_python"]

logger = logging.getLogger("posthog_driver.sandbox")


class SandboxedQueries:
    """Asks one PostHog project from within sandboxes; thread-safe, and each run has a sandbox of its own.

    ::

        with SandboxedQueries() as sandboxed:
            rows = sandboxed.query("SELECT count() AS n FROM events WHERE event = {event}", {"event": "$pageview"})
            print(sandboxed.run_python("print(len(query('SELECT event FROM events LIMIT 5')))").stdout)

    Args:
        host: App host of PostHog; as all three, what the client's settings say if None.
        project_id: The project.
        api_key: Personal API key; one with the scope ``query:read`` for this one project does.
        client: A client to ask with instead of the three above; it stays open.
        backend: ``e2b``, ``local``, ``auto`` (E2B if there is an E2B key, else local), or a back end, which stays open.
        limits: What each run may use.
        clock: Where time comes from.
        **backend_options: Arguments of `E2BBackend` or `LocalBackend`.

    Raises:
        AuthenticationError: there is no key.
        SandboxConfigError: the back end cannot work, or the key is a project token.
    """

    def __init__(
        self,
        *,
        host: str | None = None,
        project_id: str | int | None = None,
        api_key: str | None = None,
        client: PostHogClient | None = None,
        backend: str | SandboxBackend = "auto",
        limits: SandboxLimits | None = None,
        clock: Clock | None = None,
        **backend_options: Any,
    ) -> None:
        if client is not None and not (host is project_id is api_key is None):
            raise SandboxConfigError("Give either a client, or host, project_id and api_key.")
        self._owned: list[Any] = []
        if client is None:
            client = PostHogClient(api_url=host, project_id=project_id, api_key=api_key)
            self._owned.append(client)
        if client.api_key.startswith("phc_"):
            raise SandboxConfigError(
                "The key is a project token (phc_...), which cannot query: give a personal API key (phx_...) with the "
                "scope query:read for this one project."
            )
        self.limits = limits or SandboxLimits()
        self._clock = clock or SystemClock()
        self._client = client
        self._target = Target(client.api_url, client.project_id, client.api_key)
        self._room = threading.BoundedSemaphore(self.limits.max_concurrent)
        self.backend = self._backend(backend, backend_options)

    def _backend(self, backend: str | SandboxBackend, options: Mapping[str, Any]) -> SandboxBackend:
        if not isinstance(backend, str):
            if options:
                raise SandboxConfigError(f"A ready back end takes no further options: {', '.join(options)}.")
            return backend
        made = make_backend(backend, options)
        self._owned.insert(0, made)
        return made

    def query(
        self, hogql: str, values: Mapping[str, Any] | None = None, *, limits: SandboxLimits | None = None
    ) -> QueryResult:
        """Run a HogQL query in a sandbox and return its rows, as `PostHogClient.query` does.

        Args:
            hogql: Query text with ``{name}`` placeholders.
            values: One value per placeholder.
            limits: What this run may use, in place of the usual.

        Raises:
            SandboxError: the sandbox failed; its class says what helps.
            PostHogError: what PostHog answered, as the client raises it.

        Retried: once in a fresh sandbox when one is lost; what PostHog answers, as the client does.
        """
        if not isinstance(hogql, str) or not hogql.strip():
            raise ValidationError("The query is empty or not text. Nothing was sent.")
        job = SandboxJob("query", sendable_text(hogql), to_json_value(values) if values else None, self._target)
        limits = limits or self.limits
        try:
            outcome = self._run(job, limits, ask_client(self._client))
        except SandboxLostError as error:
            logger.warning("a sandbox was lost, the query is repeated in another one: %s", error)
            outcome = self._run(job, limits, ask_client(self._client))
        if "rows" not in outcome.result:
            raise read_error(outcome.result)
        return read_rows(outcome.result)

    def run_python(
        self,
        code: str,
        *,
        query: Callable[..., Sequence[Mapping[str, Any]]] | None = None,
        limits: SandboxLimits | None = None,
    ) -> PythonOutput:
        """Run a script in a sandbox and return what it printed; nothing of it is kept.

        The script has ``query(hogql, values=None)``, which answers with a list of dicts or raises ``QueryError``, and
        Python's standard library.

        Args:
            code: The script. One that fails is no error here: see ``exit_code`` and ``stderr``.
            query: Answers the script's queries in place of the client, outside, as ``query(hogql, values)``.
            limits: What this run may use, in place of the usual.

        Raises:
            SandboxTimeoutError: it ran too long.
            SandboxRunError: it used too much memory, or ended itself or was ended before its end.
            SandboxError: the sandbox failed otherwise.

        Retried: no; its queries are, as the client does.
        """
        if not isinstance(code, str):
            raise ValidationError("The script is not text. Nothing was run.")
        ask = ask_client(self._client) if query is None else _asking(query)
        job = SandboxJob("python", sendable_text(code), None, self._target, host_answers=query is not None)
        outcome = self._run(job, limits or self.limits, ask)
        status = outcome.result.get("exit_code")
        if not isinstance(status, int):
            raise read_error(outcome.result)
        asked = outcome.result.get("queries")
        return PythonOutput(
            stdout=outcome.stdout,
            stderr=outcome.stderr,
            exit_code=status,
            queries=max(outcome.queries, asked if isinstance(asked, int) else 0),
            truncated=outcome.dropped > 0,
        )

    def _run(self, job: SandboxJob, limits: SandboxLimits, ask: Ask) -> Outcome:
        with self._place(limits):
            started = self._clock.monotonic()
            broker = Broker(ask, limits)
            try:
                return self.backend.run(job, limits, broker)
            finally:
                seconds = self._clock.monotonic() - started
                logger.info("sandbox %s: a %s ran for %.2f s", self.backend.name, job.kind, seconds)

    @contextmanager
    def _place(self, limits: SandboxLimits) -> Iterator[None]:
        if not self._room.acquire(timeout=limits.create_timeout):
            raise SandboxRateLimitError(
                f"{self.limits.max_concurrent} sandboxes are running (max_concurrent), and none ended within "
                f"{limits.create_timeout:g} s. Nothing was run."
            )
        try:
            yield
        finally:
            self._room.release()

    def close(self) -> None:
        """End what is kept, and close what was made here."""
        for owned in self._owned:
            owned.close()

    def __enter__(self) -> SandboxedQueries:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<SandboxedQueries {self.backend.name} project={self._target.project_id}>"


def make_backend(name: str, options: Mapping[str, Any]) -> SandboxBackend:
    """Return a back end by name; see `SandboxedQueries`."""
    from posthog_driver.sandbox.local import LocalBackend

    if name == "auto":
        name = "e2b" if options.get("e2b_api_key") or os.environ.get("E2B_API_KEY") else "local"
    try:
        if name == "local":
            return LocalBackend(**options)
        if name == "e2b":
            from posthog_driver.sandbox.e2b import E2BBackend

            return E2BBackend(**options)
    except TypeError as error:
        raise SandboxConfigError(f"Back end {name}: {error}.") from None
    raise SandboxConfigError(f"backend is one of auto, e2b, local, or a back end, not {name!r}.")


def _asking(query: Callable[..., Sequence[Mapping[str, Any]]]) -> Ask:
    def ask(hogql: str, values: Mapping[str, Any] | None, seconds: float) -> Sequence[Mapping[str, Any]]:
        return query(hogql, values)

    return ask


def execute_in_sandbox(query: str, values: Mapping[str, Any] | None = None, **options: Any) -> QueryResult:
    """Run one query in one sandbox and return its rows.

    Args:
        query: Query text with ``{name}`` placeholders.
        values: One value per placeholder.
        **options: Arguments of `SandboxedQueries`.

    Raises:
        PostHogError: as `SandboxedQueries.query`.
    """
    with SandboxedQueries(**options) as sandboxed:
        return sandboxed.query(query, values)


def run_python(code: str, **options: Any) -> PythonOutput:
    """Run one script in one sandbox and return what it printed.

    Args:
        code: The script; ``query(hogql, values=None)`` in it asks PostHog.
        **options: Arguments of `SandboxedQueries`.

    Raises:
        PostHogError: as `SandboxedQueries.run_python`.
    """
    with SandboxedQueries(**options) as sandboxed:
        return sandboxed.run_python(code)
