"""Frozen values that travel between the floors: what is asked, what came back, what happened.

They hold data and no behaviour. ``repr`` never shows a body or a header, as these may carry keys or personal data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ApiRequest", "ApiResponse", "Attempt", "RetryScheduled", "Scope"]

Scope = Literal["query", "crud", "ingest"]


class ApiRequest(NamedTuple):
    """One user call, ready to be sent; an attempt is one exchange of it.

    Attributes:
        method: HTTP verb in capitals.
        path: Path below the host, with its leading and trailing slash.
        json: Body to encode as JSON, or None.
        params: Query parameters, or None.
        body: Ready bytes that are sent in place of ``json`` (compressed batches).
        headers: Extra headers, or None.
        scope: The rate limit's family: ``query``, ``crud`` or ``ingest`` (the ingestion host).
        idempotent: Safe to send twice.
        timeout: Seconds for one attempt with its whole response; the transport's default if None.
        total_timeout: Seconds for all attempts with their waits; the transport's default if None.
        deadline: Moment on the monotonic clock after which nothing is started; wins over ``total_timeout``.
        max_attempts: Attempts allowed; the policy's own if None.
        query_id: ``client_query_id`` of a query: what it is polled and cancelled by.
    """

    method: str
    path: str
    json: Any = None
    params: Mapping[str, Any] | None = None
    body: bytes | None = None
    headers: Mapping[str, str] | None = None
    scope: Scope = "crud"
    idempotent: bool = True
    timeout: float | None = None
    total_timeout: float | None = None
    deadline: float | None = None
    max_attempts: int | None = None
    query_id: str | None = None

    def __repr__(self) -> str:
        return f"<ApiRequest {self.method} {self.path} scope={self.scope} query_id={self.query_id}>"


class ApiResponse(NamedTuple):
    """One answer, fully read: status, headers, decoded JSON (None when the body is empty) and what it cost.

    Attributes:
        status: HTTP status code.
        headers: Response headers, case-insensitive.
        data: Decoded JSON; ``None`` for an empty body or one that is not JSON (then ``text`` says what it was).
        text: The start of a body that is not JSON, else None.
        elapsed: Seconds of the attempt that gave this answer.
        attempts: Attempts made in all.
    """

    status: int
    headers: Mapping[str, str]
    data: Any = None
    text: str | None = None
    elapsed: float = 0.0
    attempts: int = 1

    def __repr__(self) -> str:
        return f"<ApiResponse {self.status} attempts={self.attempts} elapsed={self.elapsed:.3f}>"


class Attempt(NamedTuple):
    """One finished exchange, for hooks and logs.

    Attributes:
        request: What was asked.
        number: 1 for the first attempt.
        limit: The most attempts there may be.
        elapsed: Seconds it took.
        status: HTTP status, None when no answer came.
        error: What went wrong, None on success.
    """

    request: ApiRequest
    number: int
    limit: int
    elapsed: float
    status: int | None = None
    error: BaseException | None = None


class RetryScheduled(NamedTuple):
    """A decision to try again, made before the wait.

    Attributes:
        attempt: The exchange that failed.
        delay: Seconds until the next one.
        reason: Why, in words.
    """

    attempt: Attempt
    delay: float
    reason: str
