"""How a sandbox that may reach PostHog asks it: the driver's own plans, answers and errors over ``http.client``.

It runs in the sandbox, out of the zip of `bundle`, and needs nothing but the standard library. The key comes from the
environment if it is there; otherwise the header is put on outside.
"""

from __future__ import annotations

import builtins
import http.client
import os
import ssl
import urllib.parse
from typing import TYPE_CHECKING, Any

from posthog_driver._answers import error_from_answer, shorten
from posthog_driver._clock import SystemClock
from posthog_driver._codec import decode, encode
from posthog_driver._models import ApiResponse
from posthog_driver._redaction import redact, register_secret
from posthog_driver._version import __version__
from posthog_driver.endpoints import QueryOptions, Runner, plan_query, run_query
from posthog_driver.exceptions import ConnectionError, PostHogError, ResponseFormatError, TimeoutError
from posthog_driver.retry import RetryPolicy, parse_retry_after
from posthog_driver.sandbox.broker import Broker
from posthog_driver.sandbox.model import SandboxLimits

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from posthog_driver._clock import Clock
    from posthog_driver._models import ApiRequest
    from posthog_driver.results import QueryResult

__all__ = ["connect"]

_MOST_BYTES = 64 << 20
_ATTEMPT_SECONDS = 30.0
_CANCEL_SECONDS = 1.0


def connect(direct: Mapping[str, Any], clock: Clock | None = None) -> Callable[[bytes], bytes]:
    """Return what answers the requests of `runner`.

    Args:
        direct: Which project is asked and what the run may use, as `SandboxJob.request` has it.
        clock: Where time comes from.
    """
    clock = clock or SystemClock()
    limits = SandboxLimits(
        run_timeout=direct["run_timeout"],
        max_queries=direct["max_queries"],
        max_result_bytes=direct["max_result_bytes"],
    )
    broker = Broker(_Direct(direct["api_url"], direct["project_id"], clock).ask, limits)
    deadline = clock.monotonic() + limits.run_timeout
    return lambda line: broker.answer(line, deadline - clock.monotonic())


class _Direct:
    """Asks PostHog, with the retries of the driver's client.

    Args:
        api_url: App host.
        project_id: The project.
        clock: Where time comes from.
    """

    def __init__(self, api_url: str, project_id: str, clock: Clock) -> None:
        parts = urllib.parse.urlsplit(api_url)
        self._host, self._port, self._prefix = parts.hostname or "", parts.port, parts.path.rstrip("/")
        self._secure = parts.scheme == "https"
        self._api_url = api_url
        self._project_id = project_id
        self._clock = clock
        self._policy = RetryPolicy()
        key = os.environ.get("POSTHOG_PERSONAL_API_KEY")
        register_secret(key)
        self._headers = {"User-Agent": f"posthog-driver/{__version__}", "Accept": "application/json"}
        if key:
            self._headers["Authorization"] = f"Bearer {key}"

    def ask(self, hogql: str, values: Mapping[str, Any] | None, seconds: float) -> QueryResult:
        """Run a query; see `posthog_driver.sandbox.broker.Ask`."""
        options = QueryOptions(name="posthog-driver sandbox", deadline=self._clock.monotonic() + seconds)
        runner = Runner(self._clock, self._cancel, self._policy.max_attempts)
        return run_query(self._send, runner, plan_query(self._project_id, hogql, values, options))

    def _send(self, request: ApiRequest) -> Any:
        limit = self._policy.attempts_for(request)
        number = 0
        while True:
            number += 1
            left = (request.deadline or 0.0) - self._clock.monotonic()
            try:
                return self._exchange(request, f"attempt {number} of {limit}", min(_ATTEMPT_SECONDS, max(left, 0.1)))
            except PostHogError as error:
                error.attempts = number
                left = (request.deadline or 0.0) - self._clock.monotonic()
                delay = self._policy.next_delay(request, error, number, left)
                if delay is None:
                    raise
                self._clock.sleep(delay)

    def _cancel(self, request: ApiRequest) -> None:
        try:
            self._exchange(request, "cancelling", _CANCEL_SECONDS)
        except PostHogError:
            return

    def _exchange(self, request: ApiRequest, tried: str, seconds: float) -> Any:
        """Send once and return the decoded answer; redirects are not followed, as they could carry a key away."""
        asked = f"{request.method} {request.path} at {self._api_url} ({tried})"
        started = self._clock.monotonic()
        try:
            status, headers, body = self._talk(request, seconds)
        except builtins.TimeoutError as error:
            raise TimeoutError(f"No answer in time to {asked}: {_words(error)}", query_id=request.query_id) from None
        except (OSError, http.client.HTTPException) as error:
            problem = ConnectionError(f"No usable answer to {asked}: {_words(error)}", query_id=request.query_id)
            problem._permanent = isinstance(error, ssl.SSLCertVerificationError)
            raise problem from None
        try:
            data, text = decode(body) if body else None, None
        except (ValueError, RecursionError):
            data, text = None, redact(body[:100_000].decode("utf-8", "replace"))
        answer = ApiResponse(status, headers, data, text, self._clock.monotonic() - started)
        if not 200 <= status < 300:
            retry_after = parse_retry_after(headers.get("retry-after"), self._clock.wall())
            raise error_from_answer(request, answer, tried, retry_after)
        if text is not None:
            raise ResponseFormatError(
                f"PostHog answered {status} to {asked} with a body that is no JSON: {shorten(text, 200)!r}",
                status=status,
                query_id=request.query_id,
            )
        return data

    def _talk(self, request: ApiRequest, seconds: float) -> tuple[int, dict[str, str], bytes]:
        connection = (
            http.client.HTTPSConnection(self._host, self._port, timeout=seconds, context=ssl.create_default_context())
            if self._secure
            else http.client.HTTPConnection(self._host, self._port, timeout=seconds)
        )
        try:
            body = encode(request.json) if request.json is not None else None
            headers = {**self._headers, **({"Content-Type": "application/json"} if body else {})}
            connection.request(request.method, self._prefix + request.path, body, headers)
            response = connection.getresponse()
            content = response.read(_MOST_BYTES + 1)
            if len(content) > _MOST_BYTES:
                raise ResponseFormatError(
                    f"The answer is larger than {_MOST_BYTES:,} bytes and was not read to its end. Select fewer "
                    "columns or rows."
                )
            return response.status, {name.lower(): value for name, value in response.getheaders()}, content
        finally:
            connection.close()


def _words(error: BaseException) -> str:
    return shorten(redact(str(error) or type(error).__name__), 500)
