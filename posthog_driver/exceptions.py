"""What can go wrong, a class for each remedy.

::

    PostHogError (DriverError)
    ├── AuthenticationError          401, or no key: fix the key
    │   └── AuthorizationError       403: give the key the scope that the message names
    ├── ObjectNotFoundError          404, or an unknown name (NotFoundError)
    ├── ValidationError              refused here, nothing was sent (also a ValueError)
    │   └── ConfigurationError       the settings do not hold
    ├── QueryError                   the server refused or could not run it: change the query
    │   ├── QueryTimeoutError        it ran out of time: ask for less
    │   └── QueryTooHeavyError       it needs too much memory or time: ask for less
    ├── RateLimitError               429: wait ``retry_after`` seconds
    │   └── QuotaError               402: nothing helps before the quota is renewed
    ├── ConnectionError              no usable answer (also the built-in one)
    │   ├── ServerError              5xx: the server is in trouble
    │   └── TimeoutError             no answer in time (also the built-in one)
    ├── CircuitBreakerOpen           not sent: the server failed too often just now (CircuitBreakerError)
    ├── ResponseFormatError          the answer is not what PostHog's API promises
    └── MissingDependencyError       an optional package is not installed (also an ImportError)

Facts are attributes, None where unknown. Errors pickle and copy, and never carry a key: texts that come from outside go
through a redaction before they get here.
"""

from __future__ import annotations

import builtins
from typing import Any

__all__ = [
    "AuthenticationError",
    "AuthorizationError",
    "CircuitBreakerError",
    "CircuitBreakerOpen",
    "ConfigurationError",
    "ConnectionError",
    "DriverError",
    "MissingDependencyError",
    "NotFoundError",
    "ObjectNotFoundError",
    "PostHogError",
    "QueryError",
    "QueryTimeoutError",
    "QueryTooHeavyError",
    "QuotaError",
    "RateLimitError",
    "ResponseFormatError",
    "ServerError",
    "TimeoutError",
    "ValidationError",
    "class_for_status",
]


class PostHogError(Exception):
    """Root of everything this package raises.

    Args:
        message: What was asked, what came back, what it means, what to do.
        **facts: Any of the attributes below; another name is a ``TypeError``.

    Attributes:
        status: HTTP status of the answer.
        detail: The server's own sentence.
        code: The server's own code, such as ``invalid_input`` or ``throttled``.
        attempts: Attempts that were made.
        query_id: The ``client_query_id`` of a query.
        retry_after: Seconds after which trying again makes sense.
        scope: The API scope that the key lacks, such as ``query:read``.
        position: Character offset in the query at which the trouble starts.
        end: Character offset at which it ends.
        hint: The server's advice.
        fix: Text that the server would accept in place of ``query[position:end]``.
    """

    status: int | None = None
    detail: str | None = None
    code: str | None = None
    attempts: int | None = None
    query_id: str | None = None
    retry_after: float | None = None
    scope: str | None = None
    position: int | None = None
    end: int | None = None
    hint: str | None = None
    fix: str | None = None

    def __init__(self, message: str = "", **facts: Any) -> None:
        super().__init__(message)
        unknown = facts.keys() - _FACTS
        if unknown:
            raise TypeError(f"{type(self).__name__} has no fact named {', '.join(sorted(unknown))}")
        # Only what is known is stored: the rest stays the class's None, and the state stays small when pickled.
        self.__dict__.update({name: value for name, value in facts.items() if value is not None})

    @property
    def message(self) -> str:
        """The whole message, as ``str(error)``."""
        return str(self)


_FACTS = frozenset(PostHogError.__annotations__)


class AuthenticationError(PostHogError):
    """There is no key, or PostHog does not accept it (401)."""


class AuthorizationError(AuthenticationError):
    """The key may not do this (403); ``scope`` names what it lacks, where PostHog says so."""


class ObjectNotFoundError(PostHogError):
    """The thing does not exist (404), or discovery knows no object of that name."""


class ValidationError(PostHogError, ValueError):
    """The input was refused before anything was sent."""


class ConfigurationError(ValidationError):
    """Settings that cannot work; the message names every problem at once."""


class QueryError(PostHogError):
    """The server refused the request or could not run the query; the same text will fail again."""


class QueryTimeoutError(QueryError):
    """The query ran longer than PostHog allows: narrow the time range or aggregate more."""


class QueryTooHeavyError(QueryError):
    """The query needs more memory or time than PostHog gives (512, 513): ask for less."""


class RateLimitError(PostHogError):
    """A limit is used up (429, or this client's own); try again after ``retry_after`` seconds."""


class QuotaError(RateLimitError):
    """A paid quota is used up (402): waiting seconds does not help."""


class ConnectionError(PostHogError, builtins.ConnectionError):
    """No usable answer came: refused, reset, cut off, or not to be found."""

    # True when the request certainly did not leave, so that repeating even a write is safe.
    _never_sent = False
    # True when trying again cannot help: a certificate that is not trusted stays so.
    _permanent = False
    # True when the call's own deadline ended it before an attempt: that says nothing about the server.
    _ours = False


class ServerError(ConnectionError):
    """The server answered 5xx."""


class TimeoutError(ConnectionError, builtins.TimeoutError):
    """No answer in time; the request may still have been carried out."""


class CircuitBreakerOpen(PostHogError):
    """Nothing was sent, as the server failed too often just now; a probe is due in ``retry_after`` seconds."""


class ResponseFormatError(PostHogError):
    """The answer is not what PostHog's API promises: a sign-in page, broken JSON, rows without columns."""


class MissingDependencyError(PostHogError, ImportError):
    """An optional package is needed for this; the message names the ``pip install``."""


DriverError = PostHogError
NotFoundError = ObjectNotFoundError
CircuitBreakerError = CircuitBreakerOpen

_BY_STATUS: dict[int, type[PostHogError]] = {
    401: AuthenticationError,
    402: QuotaError,
    403: AuthorizationError,
    404: ObjectNotFoundError,
    408: TimeoutError,
    429: RateLimitError,
}
# From /query/ these three mean "too heavy", not "the server is down".
_BY_QUERY_STATUS: dict[int, type[PostHogError]] = {
    504: QueryTimeoutError,
    512: QueryTooHeavyError,
    513: QueryTooHeavyError,
}


def class_for_status(status: int, *, query: bool = False) -> type[PostHogError]:
    """Return the error class for an HTTP status of 400 or above; anything below it is a `ResponseFormatError`.

    Args:
        status: The HTTP status.
        query: Whether ``/query/`` answered, where 504, 512 and 513 have a meaning of their own.
    """
    if query and status in _BY_QUERY_STATUS:
        return _BY_QUERY_STATUS[status]
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if 400 <= status < 500:
        return QueryError
    return ServerError if 500 <= status < 600 else ResponseFormatError
