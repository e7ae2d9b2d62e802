"""The stack of layers around one ``requests.Session``, and the only line of the package that sends.

::

    send                     one call: attempts until an answer, the policy's no, or the deadline
      _attempt               one attempt: breaker, gate, limiter, in this order, so that an open circuit spends nothing
        _exchange            one HTTP exchange: prepare, send, read the whole answer, decode

Retry is outermost, since each attempt is a new decision; the limiter is innermost, since the server counts attempts.
Policies decide, the loop acts, and no lock is held while it waits or talks.
"""

from __future__ import annotations

import builtins
import logging
import os
import ssl
import weakref
import zlib
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlencode

import requests
from requests.structures import CaseInsensitiveDict
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError
from urllib3.exceptions import TimeoutError as UrllibTimeout
from urllib3.util import Timeout

from posthog_driver._answers import error_from_answer, shorten
from posthog_driver._codec import decode, encode
from posthog_driver._models import ApiResponse, Attempt, RetryScheduled
from posthog_driver._redaction import redact
from posthog_driver._session import DriverSession
from posthog_driver._version import __version__
from posthog_driver.circuit_breaker import Outcome
from posthog_driver.config import check_seconds
from posthog_driver.exceptions import (
    CircuitBreakerOpen,
    ConnectionError,
    PostHogError,
    RateLimitError,
    ResponseFormatError,
    TimeoutError,
    ValidationError,
)
from posthog_driver.retry import parse_retry_after

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from posthog_driver._clock import Clock
    from posthog_driver._models import ApiRequest
    from posthog_driver.circuit_breaker import CircuitBreaker
    from posthog_driver.rate_limiter import Gate, RateLimits
    from posthog_driver.retry import RetryPolicy

__all__ = ["MAX_BODY_BYTES", "Host", "Layers", "Transport", "judge"]

MAX_BODY_BYTES = 256 << 20
"""Largest answer that is read, after decompression: ten times what 50,000 wide rows take, and a wall for gzip bombs."""

_CHUNK = 1 << 20
_CANCEL_TIMEOUT = 1.0
# PostHog's error bodies repeat the query; beyond this it is somebody else's page.
_MOST_ERROR_BYTES = 4 << 20
# PostHog decides by the agent's first token which flags a caller sees: python-requests counts as a server.
_HEADERS = {
    "User-Agent": f"python-requests/{requests.__version__} posthog_driver/{__version__}",
    "Accept": "application/json",
    "Accept-Encoding": "gzip",
}

logger = logging.getLogger("posthog_driver.transport")


class Host(NamedTuple):
    """One origin: where it is, what it is sent with each request, and its breaker."""

    url: str
    breaker: CircuitBreaker
    headers: Mapping[str, str]

    def __repr__(self) -> str:
        return f"<Host {self.url}>"


class Layers(NamedTuple):
    """The policies of a transport, each a module that stands alone."""

    policy: RetryPolicy
    limits: RateLimits
    gate: Gate
    clock: Clock


def judge(error: BaseException) -> Outcome:
    """Say what an exception tells the breaker: only an outage (no answer, 5xx) is a failure of the server.

    An answer below 500 proves that the server lives; 504, 512 and 513 from ``/query/`` judge the query, not the server;
    a wait that ended on this side, or an interrupt, says nothing.
    """
    if isinstance(error, ConnectionError) and not error._ours and (error.status is None or error.status >= 500):
        return Outcome.FAILURE
    if isinstance(error, PostHogError) and error.status is not None:
        return Outcome.SUCCESS
    return Outcome.NEUTRAL


class Transport:
    """Sends requests to the app host and the ingestion host; thread-safe, and usable after a fork.

    Args:
        app: The host of the private API.
        capture: The host of capture and flags; never sent the personal key.
        layers: The policies and the clock.
        timeout: Seconds for one attempt with its whole response.
        total_timeout: Seconds for one call with all attempts and waits.

    Attributes:
        hooks: Called with each `Attempt` and `RetryScheduled`; keep them quick, they run in the calling thread.
    """

    def __init__(self, app: Host, capture: Host, layers: Layers, *, timeout: float, total_timeout: float) -> None:
        self.session = DriverSession(_HEADERS)
        self.app = app
        self.capture = capture
        self.limits = layers.limits
        self.gate = layers.gate
        self.hooks: list[Callable[[Attempt | RetryScheduled], None]] = []
        self.timeout = timeout
        self.total_timeout = total_timeout
        self._policy = layers.policy
        self._clock = layers.clock
        self._templates: dict[int, tuple[object, _Headers]] = {}
        _transports.add(self)

    def send(self, request: ApiRequest) -> ApiResponse:
        """Send a request until it is answered, and return the answer.

        Raises:
            PostHogError: the class says what to do about it; see `posthog_driver.exceptions`.
        """
        if request.timeout is not None:
            check_seconds("timeout", request.timeout)
        now = self._clock.monotonic
        started = now()
        deadline = request.deadline
        if deadline is None:
            deadline = started + (self.total_timeout if request.total_timeout is None else request.total_timeout)
        limit = self._policy.attempts_for(request)
        number = spent = 0
        while True:
            number += 1
            began = now()
            try:
                answer = self._attempt(request, f"attempt {number} of {limit}", deadline)
            except PostHogError as error:
                failed = Attempt(request, number, limit, now() - began, error.status, error)
                spent = self._wait_or_raise(failed, error, deadline)
            else:
                self._policy.succeeded(number, spent)
                self._report(Attempt(request, number, limit, now() - began, answer.status))
                return answer._replace(attempts=number) if number > 1 else answer

    def cancel(self, request: ApiRequest) -> None:
        """Ask the server to stop a query that nobody waits for any more: once, briefly, outside all layers.

        Args:
            request: The DELETE to send; at most a second is spent on it, and a failure is logged at DEBUG only.
        """
        timeout = min(self.timeout if request.timeout is None else request.timeout, _CANCEL_TIMEOUT)
        try:
            self._exchange(self.app, request, "cancelling", timeout)
        except Exception as error:
            logger.debug("query %s could not be cancelled: %s", request.query_id, error, extra=_facts(request))

    def _wait_or_raise(self, failed: Attempt, error: PostHogError, deadline: float) -> int:
        """Wait as the policy says and return what the retry costs, or raise the error with the reason why not."""
        scope = failed.request.scope
        decision = self._policy.decide(failed.request, error, failed.number, deadline - self._clock.monotonic())
        self._report(failed)
        paused = None
        if error.status == 429 and error.retry_after:
            paused = self.limits.pause(scope, min(error.retry_after, self._policy.max_retry_after))
        if decision.delay is None:
            raise self._final(error, failed, decision.reason)
        self._report(RetryScheduled(failed, decision.delay, decision.reason))
        self._clock.sleep(decision.delay)
        if paused is not None:
            # This call has served its wait; the pause is for the others.
            self.limits.resume(scope, paused)
        return decision.cost

    def _attempt(self, request: ApiRequest, tried: str, deadline: float) -> ApiResponse:
        host = self.capture if request.scope == "ingest" else self.app
        with host.breaker.guard():
            if request.scope != "query" or request.method != "POST":
                return self._limited(host, request, tried, deadline)
            try:
                place = self.gate.enter(max(deadline - self._clock.monotonic(), 0.0))
            except builtins.TimeoutError as error:
                raise _own_limit(request, error) from error
            with place:
                return self._limited(host, request, tried, deadline)

    def _limited(self, host: Host, request: ApiRequest, tried: str, deadline: float) -> ApiResponse:
        try:
            self.limits.wait_and_acquire(request.scope, max(deadline - self._clock.monotonic(), 0.0))
        except builtins.TimeoutError as error:
            raise _own_limit(request, error) from error
        timeout = self.timeout if request.timeout is None else request.timeout
        remaining = deadline - self._clock.monotonic()
        if remaining <= 0:
            late = TimeoutError(
                f"{request.method} {request.path} was not sent ({tried}): its time is up.\n  Raise total_timeout.",
                query_id=request.query_id,
            )
            late._never_sent = late._ours = True
            raise late
        return self._exchange(host, request, tried, min(timeout, remaining))

    def _exchange(self, host: Host, request: ApiRequest, tried: str, timeout: float) -> ApiResponse:
        """Send once and read the whole answer; the only place that talks to the network."""
        prepared = self._prepare(host, request)
        settings = self.session.settings_for(host.url)
        if logger.isEnabledFor(logging.DEBUG):
            logger.debug("%s %s, %s", request.method, request.path, tried, extra=_facts(request))
        started = self._clock.monotonic()
        response = None
        try:
            # requests takes urllib3's Timeout as it is; `total` lets connecting and reading share the seconds.
            whole: Any = Timeout(total=timeout)
            response = self.session.send(prepared, stream=True, timeout=whole, allow_redirects=False, **settings)
            body = _read(response)
        except (requests.RequestException, HTTPError, OSError, EOFError, ValueError, zlib.error) as error:
            elapsed = self._clock.monotonic() - started
            raise _no_answer(error, host, request, tried, elapsed) from _without_secrets(error)
        finally:
            if response is not None:
                response.close()
        return self._judged(request, response, body, tried, self._clock.monotonic() - started)

    def _judged(
        self, request: ApiRequest, response: requests.Response, body: bytes | bytearray, tried: str, elapsed: float
    ) -> ApiResponse:
        """Return the answer if it is one; else raise what its status or its body means."""
        status = response.status_code
        if 200 <= status < 300:
            answer = _decoded(status, response.headers, body, elapsed)
            # Ingestion may answer in plain words; a page is somebody else's answer, and the event is not there.
            if answer.text is None or (request.scope == "ingest" and not answer.text.lstrip().startswith("<")):
                return answer
            raise ResponseFormatError(
                f"PostHog answered {status} to {request.method} {request.path} ({tried}) with a body that is no JSON: "
                f"{shorten(redact(answer.text), 200)!r}\n  Check api_url, proxies and sign-in pages in between.",
                status=status,
                query_id=request.query_id,
            )
        text = redact(body[:_MOST_ERROR_BYTES].decode("utf-8", "replace"))
        answer = _decoded(status, response.headers, text.encode("utf-8", "replace"), elapsed)
        retry_after = parse_retry_after(response.headers.get("Retry-After"), self._clock.wall())
        raise error_from_answer(request, answer, tried, retry_after)

    def _prepare(self, host: Host, request: ApiRequest) -> requests.PreparedRequest:
        """Build what the session sends; the headers that all requests of a host share are made once."""
        body = request.body
        if body is None and request.json is not None:
            body = _encoded(request.json)
        headers = self._headers_of(host).copy()
        if body is not None:
            headers["Content-Type"] = "application/json"
            headers["Content-Length"] = str(len(body))
        elif request.method != "GET":
            headers["Content-Length"] = "0"
        if request.headers:
            headers.update(request.headers)
        prepared = requests.PreparedRequest()
        prepared.method = request.method
        prepared.url = host.url + _target(request.path, request.params)
        prepared.headers = headers
        prepared.body = body
        prepared.hooks = self.session.hooks
        return prepared

    def _headers_of(self, host: Host) -> _Headers:
        """Return the session's headers (a user may change them) with the host's own on top."""
        current = tuple(self.session.headers.items())
        # By identity: app and ingestion may share a URL, but never the headers.
        made = self._templates.get(id(host))
        if made is None or made[0] != current:
            # None takes a header out, as in requests.
            wanted = {name: value for name, value in current if value is not None}
            made = (current, _Headers({**wanted, **host.headers}))
            self._templates[id(host)] = made
        return made[1]

    def _final(self, error: PostHogError, attempt: Attempt, reason: str) -> PostHogError:
        """Complete the error that ends the call: what was tried, and why not again."""
        error.attempts = attempt.number
        request = attempt.request
        if error.query_id is None:
            error.query_id = request.query_id
        tail = f" [query_id={request.query_id}]" if request.query_id else ""
        # Of what cannot pass by itself, the message has said so already.
        passes = isinstance(error, (ConnectionError, RateLimitError, CircuitBreakerOpen))
        why = f"\n  Not retried: {reason}." if passes else ""
        error.args = (redact(f"{error}{why}{tail}"),)
        # A 504 with a try left goes on as an asynchronous query: no failure yet.
        goes_on = error.status == 504 and request.scope == "query" and attempt.number < attempt.limit
        # The server's words may quote the query, whose text stays below INFO.
        logger.log(
            logging.WARNING if goes_on else logging.ERROR,
            "%s %s failed after %d of %d attempts: %s",
            request.method,
            request.path,
            attempt.number,
            attempt.limit,
            " ".join(filter(None, (type(error).__name__, str(error.status or ""), error.code))),
            extra={**_facts(request, attempt), "error": type(error).__name__},
        )
        logger.debug("%s", error, extra=_facts(request, attempt))
        return error

    def _report(self, event: Attempt | RetryScheduled) -> None:
        if isinstance(event, RetryScheduled):
            _log_retry(event)
        elif event.error is None and logger.isEnabledFor(logging.INFO):
            _log_success(event)
        for hook in tuple(self.hooks):
            try:
                hook(event)
            except Exception:
                logger.exception("a hook of the transport failed; the call goes on")

    def close(self) -> None:
        """Close the pooled connections."""
        self.session.close()


class _Headers(CaseInsensitiveDict[Any]):
    """Headers that copy quickly: one is made for each attempt."""

    def copy(self) -> _Headers:
        fresh = _Headers.__new__(_Headers)
        fresh._store = self._store.copy()  # type: ignore[attr-defined]
        return fresh


_transports: weakref.WeakSet[Transport] = weakref.WeakSet()


def _renew_sessions() -> None:
    for transport in list(_transports):
        transport.session.renew()


if hasattr(os, "register_at_fork"):
    # A connection shared by two processes mixes their answers; the child opens its own.
    os.register_at_fork(after_in_child=_renew_sessions)


def _own_limit(request: ApiRequest, error: builtins.TimeoutError) -> RateLimitError:
    """Say that the gate or the limiter would keep a request past its deadline: our limit, not a server's silence."""
    return RateLimitError(
        f"{request.method} {request.path} was not sent: this client's own limit would keep it past its deadline.\n"
        f"  {error}\n  Spread the load, raise total_timeout, or the limits if PostHog allows more.",
        query_id=request.query_id,
        retry_after=getattr(error, "retry_after", None),
    )


def _read(response: requests.Response) -> bytes | bytearray:
    """Return the whole body, decompressed; a cut one or one above the cap is an error, never a shorter answer."""
    raw = response.raw
    if raw is None or getattr(response, "_content", False) is not False:
        return response.content
    encoding = str(raw.headers.get("Content-Encoding") or "identity").strip().lower()
    if encoding in ("gzip", "x-gzip"):
        return _inflated(raw)
    if encoding != "identity":
        raise ValueError(f"the answer is compressed as {encoding[:20]!r}, which was not asked for")
    if 0 < (raw.length_remaining or 0) <= MAX_BODY_BYTES:
        whole: bytes = raw.read(decode_content=False)
        return whole
    body = bytearray()
    while chunk := raw.read(_CHUNK, decode_content=False):
        body += chunk
        _check_size(body)
    return body


def _inflated(raw: Any) -> bytearray:
    """Decompress while reading, so that a bomb ends at the cap; a stream without its end or checksum is an error."""
    body = bytearray()
    stream = zlib.decompressobj(wbits=31)
    while chunk := raw.read(_CHUNK, decode_content=False):
        while chunk:
            if stream.eof:  # gzip files may be joined
                stream = zlib.decompressobj(wbits=31)
            body += stream.decompress(chunk, MAX_BODY_BYTES + 1 - len(body))
            _check_size(body)
            chunk = stream.unconsumed_tail or stream.unused_data
    if not stream.eof:
        raise EOFError("the compressed answer is cut off")
    return body


def _check_size(body: bytearray) -> None:
    if len(body) > MAX_BODY_BYTES:
        raise ResponseFormatError(
            f"The answer is larger than {MAX_BODY_BYTES:,} bytes and was not read to its end.\n  Select fewer "
            "columns or rows; whole `properties` are rarely needed."
        )


def _decoded(status: int, headers: Mapping[str, str], body: bytes | bytearray, elapsed: float) -> ApiResponse:
    """Decode a body; what is no JSON comes back as ``text``, and an empty body as neither."""
    if not body:
        return ApiResponse(status, headers, None, None, elapsed)
    try:
        return ApiResponse(status, headers, decode(body), None, elapsed)
    except (ValueError, RecursionError):
        return ApiResponse(status, headers, None, body[:100_000].decode("utf-8", "replace"), elapsed)


def _encoded(json: Any) -> bytes:
    """Encode a body; NaN, infinity and what JSON does not know are refused before anything is sent."""
    try:
        return encode(json)
    except (ValueError, TypeError, RecursionError) as error:
        raise ValidationError(f"The request's body is no JSON: {error}. Nothing was sent.") from error


def _target(path: str, params: Mapping[str, Any] | None) -> str:
    """Return the path with its query string; a path may bring a part of it."""
    pairs = [(name, str(value).lower() if isinstance(value, bool) else value) for name, value in (params or {}).items()]
    text = urlencode([(name, value) for name, value in pairs if value is not None], doseq=True)
    return f"{path}{'&' if '?' in path else '?'}{text}" if text else path


def _without_secrets(error: Exception) -> Exception:
    """Clean what becomes a cause: requests keep their headers, and with them the key; texts may repeat it."""
    for cause in _causes(error):
        if isinstance(cause, requests.RequestException):
            cause.request = cause.response = None
        cause.args = tuple(redact(part) if isinstance(part, str) else part for part in cause.args)
    return error


def _no_answer(error: Exception, host: Host, request: ApiRequest, tried: str, elapsed: float) -> ConnectionError:
    """Say in our words that no usable answer came."""
    causes = _causes(error)
    asked = f"{request.method} {request.path} at {host.url} ({tried}, {elapsed:.1f} s)"
    why = shorten(redact(str(causes[-1]) or type(causes[-1]).__name__), 500)
    made: ConnectionError
    late = (requests.Timeout, builtins.TimeoutError, UrllibTimeout)
    # To urllib3 a refused connection is a time-out too.
    if any(isinstance(cause, late) and not isinstance(cause, NewConnectionError) for cause in causes):
        advice = "Raise timeout=, or ask for less at once."
        made = TimeoutError(f"No answer in time to {asked}: {why}\n  {advice}", query_id=request.query_id)
    else:
        advice = "Check api_url, the network, proxies and certificates (REQUESTS_CA_BUNDLE, client.session.verify)."
        made = ConnectionError(f"No usable answer to {asked}: {why}\n  {advice}", query_id=request.query_id)
    # A request that never left may always be repeated, even a write.
    made._permanent = any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes)
    made._never_sent = any(isinstance(cause, (NewConnectionError, ConnectTimeoutError)) for cause in causes)
    return made


def _causes(error: BaseException) -> list[BaseException]:
    """Return an exception and what it wraps, outermost first; requests and urllib3 wrap by argument and ``reason``."""
    found: list[BaseException] = []
    inner: object = error
    while isinstance(inner, BaseException) and inner not in found:
        found.append(inner)
        inner = getattr(inner, "reason", None) or next(
            (part for part in inner.args if isinstance(part, BaseException)), inner.__cause__
        )
    return found


def _facts(request: ApiRequest, attempt: Attempt | None = None) -> dict[str, Any]:
    """Return what every log record about a request carries."""
    facts: dict[str, Any] = {"method": request.method, "path": request.path, "scope": request.scope}
    if request.query_id is not None:
        facts["query_id"] = request.query_id
    if attempt is not None:
        facts.update(attempt=attempt.number, status_code=attempt.status, latency_ms=round(attempt.elapsed * 1000, 1))
    return facts


def _log_success(attempt: Attempt) -> None:
    request = attempt.request
    logger.info(
        "%s %s -> %s in %.2f s, attempt %d/%d",
        request.method,
        request.path,
        attempt.status,
        attempt.elapsed,
        attempt.number,
        attempt.limit,
        extra=_facts(request, attempt),
    )


def _log_retry(event: RetryScheduled) -> None:
    attempt = event.attempt
    logger.warning(
        "%s %s -> %s in %.2f s, attempt %d/%d, retry in %.2f s: %s",
        attempt.request.method,
        attempt.request.path,
        attempt.status or type(attempt.error).__name__,
        attempt.elapsed,
        attempt.number,
        attempt.limit,
        event.delay,
        event.reason,
        extra={**_facts(attempt.request, attempt), "retry_in": event.delay},
    )
