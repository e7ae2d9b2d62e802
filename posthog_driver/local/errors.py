"""The errors of the embedded PostHog, in the shapes that PostHog answers.

Every REST error of PostHog has the body ``{"type", "code", "detail", "attr"}``. `ApiError` is that body with
its status and headers; a handler raises one and the server sends it. `from_engine` says what becomes of an
error of ClickHouse.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any

__all__ = ["ApiError", "from_engine"]

_LOG = logging.getLogger(__name__)

TIME_OUT = (
    "Query has hit the max execution time before completing. See our docs for how to improve your query "
    'performance. You may need to materialize, or send it again with "refresh": "force_async" for more time.'
)
OUT_OF_MEMORY = (
    "Query has reached the max memory limit before completing. See our docs for how to improve your query "
    "memory footprint. You may need to narrow date range or materialize."
)
TOO_SLOW = "Estimated query execution time is too long. Try reducing its scope by changing the time range."
AT_CAPACITY = "Queries are a little too busy right now. We're working to free up resources. Please try again later."
QUOTA_EXCEEDED = (
    "Your organization has read more query data over the API than its free allowance for this month. "
    "API queries will be available again when the allowance resets. "
    "Upgrade your plan in Billing settings to restore access sooner, or ask an org admin to do so."
)
NO_DATABASE = "We couldn't reach the database just now. Please try again in a moment."
TOO_MANY_QUERIES = "Too many queries are running right now. Please wait for the running ones to finish and try again."

# ClickHouse's errors whose text PostHog shows to the caller (posthog/errors.py); any other is a plain 500.
SHOWN_TO_THE_CALLER = frozenset(
    [
        "AMBIGUOUS_COLUMN_NAME",
        "ARGUMENT_OUT_OF_BOUND",
        "BAD_ARGUMENTS",
        "CANNOT_CONVERT_TYPE",
        "CANNOT_PARSE_BOOL",
        "CANNOT_PARSE_DATE",
        "CANNOT_PARSE_DATETIME",
        "CANNOT_PARSE_NUMBER",
        "CANNOT_PARSE_TEXT",
        "CANNOT_PARSE_UUID",
        "CANNOT_COMPILE_REGEXP",
        "DECIMAL_OVERFLOW",
        "FUNCTION_THROW_IF_VALUE_IS_NON_ZERO",
        "ILLEGAL_AGGREGATION",
        "ILLEGAL_COLUMN",
        "ILLEGAL_DIVISION",
        "ILLEGAL_TYPE_OF_ARGUMENT",
        "ILLEGAL_TYPE_OF_COLUMN_FOR_FILTER",
        "INVALID_JOIN_ON_EXPRESSION",
        "NOT_AN_AGGREGATE",
        "NO_COMMON_TYPE",
        "NUMBER_OF_ARGUMENTS_DOESNT_MATCH",
        "SIZES_OF_ARRAYS_DONT_MATCH",
        "TOO_FEW_ARGUMENTS_FOR_FUNCTION",
        "TOO_LARGE_STRING_SIZE",
        "TOO_MANY_ARGUMENTS_FOR_FUNCTION",
        "TOO_MANY_BYTES",
        "TOO_MANY_ROWS",
        "TYPE_MISMATCH",
        "UNKNOWN_FUNCTION",
        "UNKNOWN_TABLE",
        "ZERO_ARRAY_OR_TUPLE_INDEX",
    ]
)


class ApiError(Exception):
    """An answer that is an error.

    Args:
        status: The HTTP status.
        kind: The body's ``type``.
        code: The body's ``code``.
        detail: The body's ``detail``, for the reader.
        attr: The field that is wrong, nested keys joined with ``__``.
        extra: More keys of the body (``extra.hogql_metadata`` of a HogQL error).
        headers: More headers of the answer.
    """

    def __init__(
        self,
        status: int,
        kind: str,
        code: str,
        detail: str,
        *,
        attr: str | None = None,
        extra: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.kind = kind
        self.code = code
        self.detail = detail
        self.attr = attr
        self.extra = extra
        self.headers = dict(headers or {})

    def body(self) -> dict[str, Any]:
        """Return the JSON body of the answer."""
        body: dict[str, Any] = {
            "type": self.kind,
            "code": self.code,
            "detail": self.detail,
            "attr": self.attr,
        }
        if self.extra is not None:
            body["extra"] = dict(self.extra)
        return body


def validation(detail: str, code: str = "invalid_input", attr: str | None = None) -> ApiError:
    """Return a 400 about the content of a request."""
    return ApiError(400, "validation_error", code, detail, attr=attr)


def unparsable(detail: str) -> ApiError:
    """Return the 400 of a body that is no JSON or does not fit the model."""
    return ApiError(400, "invalid_request", "parse_error", f"JSON parse error - {detail}")


def unauthenticated(detail: str, code: str) -> ApiError:
    """Return a 401, with the header that RFC 9110 demands of it."""
    challenge = 'Bearer resource_metadata="/.well-known/oauth-protected-resource"'
    return ApiError(401, "authentication_error", code, detail, headers={"WWW-Authenticate": challenge})


def invalid_key(place: str = "Authorization header") -> ApiError:
    """Return the 401 of a personal key that nobody has; `place` is where it stood."""
    return unauthenticated(f"Personal API key found in request {place} is invalid.", "authentication_failed")


def forbidden(detail: str) -> ApiError:
    """Return a 403."""
    return ApiError(403, "authentication_error", "permission_denied", detail)


def missing_scope(scope: str) -> ApiError:
    """Return the 403 of a personal key that may not do this."""
    return forbidden(f"API key missing required scope '{scope}'")


def not_found(detail: str = "Not found.") -> ApiError:
    """Return a 404."""
    return ApiError(404, "invalid_request", "not_found", detail)


def method_not_allowed(method: str, allowed: str) -> ApiError:
    """Return a 405 with the ``Allow`` header."""
    detail = f'Method "{method}" not allowed.'
    return ApiError(405, "invalid_request", "method_not_allowed", detail, headers={"Allow": allowed})


def too_large(limit: int) -> ApiError:
    """Return the 413 of a body of more than `limit` bytes."""
    return ApiError(413, "invalid_request", "request_too_large", f"Request body is larger than {limit} bytes.")


def too_slow() -> ApiError:
    """Return the 408 of a body that does not come."""
    return ApiError(408, "invalid_request", "request_timeout", "The request took too long to come.")


def throttled(seconds: float) -> ApiError:
    """Return the 429 of a rate limit; `seconds` until a request is free again."""
    wait = math.ceil(seconds)
    detail = f"Request was throttled. Expected available in {wait} second{'' if wait == 1 else 's'}."
    return ApiError(429, "throttled_error", "throttled", detail, headers={"Retry-After": str(wait)})


def too_many_queries() -> ApiError:
    """Return the 429 of the limit on running queries: it has no ``Retry-After``."""
    return ApiError(429, "throttled_error", "throttled", TOO_MANY_QUERIES)


def quota_exceeded() -> ApiError:
    """Return the 402 of an organization that has read all it may this month."""
    return ApiError(402, "server_error", "api_queries_quota_exceeded", QUOTA_EXCEEDED)


def database_unavailable() -> ApiError:
    """Return the 503 of a passing trouble with PostHog's own database."""
    return ApiError(503, "server_error", "database_unavailable", NO_DATABASE, headers={"Retry-After": "1"})


def internal(detail: str = "A server error occurred.") -> ApiError:
    """Return a 500."""
    return ApiError(500, "server_error", "error", detail)


def from_engine(name: str, message: str) -> ApiError:
    """Return what PostHog answers when ClickHouse ends a query with an error.

    Args:
        name: ClickHouse's name of the error, such as ``TIMEOUT_EXCEEDED``.
        message: ClickHouse's text.
    """
    if name == "TIMEOUT_EXCEEDED":
        return ApiError(504, "server_error", "error", TIME_OUT)
    if name == "TOO_SLOW":
        return ApiError(512, "server_error", "error", TOO_SLOW)
    if name == "MEMORY_LIMIT_EXCEEDED":
        return ApiError(513, "server_error", "clickhouse_memory_limit_exceeded", OUT_OF_MEMORY)
    if name == "TOO_MANY_SIMULTANEOUS_QUERIES":
        return ApiError(503, "server_error", "error", AT_CAPACITY)
    if name == "QUERY_WAS_CANCELLED":
        return validation("Query was cancelled.", "query_was_cancelled")
    if name in SHOWN_TO_THE_CALLER:
        return validation(message, name.lower())
    _LOG.warning("the engine failed: %s: %s", name, message)
    return internal("ClickHouse error while executing query.")
