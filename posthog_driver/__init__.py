"""Answers out of PostHog: a synchronous client for HogQL queries, discovery, capture and the REST API.

::

    from posthog_driver import PostHogClient

    with PostHogClient() as client:               # POSTHOG_PERSONAL_API_KEY, POSTHOG_PROJECT_ID
        client.list_objects()                     # what exists
        client.get_fields("events")               # what it is made of
        client.query("SELECT event, count() AS n FROM events GROUP BY event LIMIT 5")

Names are loaded on first use, so that importing the package costs nothing that is not needed.
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

from posthog_driver._version import __version__

if TYPE_CHECKING:
    from posthog_driver.client import Client, PostHogClient
    from posthog_driver.config import DriverConfig, PostHogConfig
    from posthog_driver.exceptions import (
        AuthenticationError,
        AuthorizationError,
        CircuitBreakerError,
        CircuitBreakerOpen,
        ConfigurationError,
        ConnectionError,
        DriverError,
        MissingDependencyError,
        NotFoundError,
        ObjectNotFoundError,
        PostHogError,
        QueryError,
        QueryTimeoutError,
        QueryTooHeavyError,
        QuotaError,
        RateLimitError,
        ResponseFormatError,
        ServerError,
        TimeoutError,
        ValidationError,
    )
    from posthog_driver.query_builder import QueryBuilder
    from posthog_driver.results import QueryResult

__all__ = [
    "AuthenticationError",
    "AuthorizationError",
    "CircuitBreakerError",
    "CircuitBreakerOpen",
    "Client",
    "ConfigurationError",
    "ConnectionError",
    "DriverConfig",
    "DriverError",
    "MissingDependencyError",
    "NotFoundError",
    "ObjectNotFoundError",
    "PostHogClient",
    "PostHogConfig",
    "PostHogError",
    "QueryBuilder",
    "QueryError",
    "QueryResult",
    "QueryTimeoutError",
    "QueryTooHeavyError",
    "QuotaError",
    "RateLimitError",
    "ResponseFormatError",
    "ServerError",
    "TimeoutError",
    "ValidationError",
    "__version__",
]

_ELSEWHERE = {
    "Client": "client",
    "PostHogClient": "client",
    "DriverConfig": "config",
    "PostHogConfig": "config",
    "QueryBuilder": "query_builder",
    "QueryResult": "results",
}

# A library is silent until it is asked to speak.
logging.getLogger("posthog_driver").addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"posthog_driver.{_ELSEWHERE.get(name, 'exceptions')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
