"""Which kind of trouble an error is, and what a model should do about trouble that the query's text cannot mend."""

from __future__ import annotations

import re
from typing import NamedTuple

from posthog_driver.exceptions import (
    AuthenticationError,
    AuthorizationError,
    CircuitBreakerOpen,
    ConfigurationError,
    ConnectionError,
    MissingDependencyError,
    ObjectNotFoundError,
    PostHogError,
    QueryError,
    QueryTimeoutError,
    QueryTooHeavyError,
    QuotaError,
    RateLimitError,
    ResponseFormatError,
    TimeoutError,
    ValidationError,
)
from posthog_driver.tools.hogql_text import HogQLText
from posthog_driver.tools.notes import levers, unbounded

__all__ = ["Remedy", "heavy", "kind_of", "remedy_of"]


class Remedy(NamedTuple):
    """What to say about one kind of trouble; ``shows_words`` adds PostHog's own, fenced."""

    kind: str
    fix: str
    next: str
    outcome: str = "nothing was run"
    shows_words: bool = False


# First match decides. PostHog's words, and ClickHouse's names of errors that it passes on.
_BY_CODE = {
    "illegal_type_of_argument": "type",
    "no_common_type": "type",
    "type_mismatch": "type",
    "cannot_convert_type": "type",
    "bad_arguments": "type",
    "not_an_aggregate": "aggregation",
    "illegal_aggregation": "aggregation",
    "unknown_function": "unknown_function",
    "unknown_identifier": "unknown_field",
    "unknown_table": "unknown_table",
    "number_of_arguments_doesnt_match": "wrong_arity",
    "invalid_join_on_expression": "join_inequality",
    "syntax_error": "syntax",
    "query_was_cancelled": "cancelled",
    "too_many_bytes": "too_expensive",
    "clickhouse_memory_limit_exceeded": "memory",
}
_BY_WORDS = (
    (r"Unable to resolve field|Field not found|Can not access property|Unknown identifier|Ambiguous", "unknown_field"),
    (r"Unknown table|does not have the table", "unknown_table"),
    (r"Unsupported function call|not available in the embedded|Unknown function", "unknown_function"),
    (r"expects (?:at (?:least|most) )?\d+ (?:argument|parameter)|requires parameters", "wrong_arity"),
    (r"Unsupported type cast|[Ii]llegal type|supertype|Cannot convert|Cannot parse|time zone", "type"),
    (r"JOIN ON|join on expression|[Ii]nequal", "join_inequality"),
    (r"nested inside another aggregation|not under aggregate|Aggregate function .* in WHERE", "aggregation"),
    (r"OFFSET is not supported", "not_allowed"),
    (r"Unresolved placeholder", "missing_value"),
    (r"was cancelled", "cancelled"),
    (r"JSON parse error", "bad_argument"),
)


def kind_of(error: PostHogError) -> str:
    """Return the kind of trouble, the word that an error text begins with."""
    found = next((kind for known, kind in _BY_CLASS if isinstance(error, known)), None)
    if found is not None:
        return found
    if isinstance(error, RateLimitError):
        return "rate_limited" if error.retry_after is not None or error.status is None else "busy"
    if isinstance(error, AuthorizationError):
        return _forbidden(error)
    if isinstance(error, QueryError):
        return _of_query(error)
    if isinstance(error, ConnectionError):
        return _unreachable(error)
    return "internal"


_BY_CLASS: tuple[tuple[type[PostHogError], str], ...] = (
    (ConfigurationError, "setup"),
    (ValidationError, "bad_argument"),
    (MissingDependencyError, "setup"),
    (QueryTimeoutError, "timeout"),
    (QuotaError, "quota"),
    (CircuitBreakerOpen, "server"),
    (ResponseFormatError, "server"),
)


def _of_query(error: QueryError) -> str:
    if isinstance(error, QueryTooHeavyError):
        return "memory" if error.status == 513 or error.code == "clickhouse_memory_limit_exceeded" else "too_expensive"
    if error.code in _BY_CODE:
        return _BY_CODE[error.code]
    words = error.detail or str(error)
    return next((kind for pattern, kind in _BY_WORDS if re.search(pattern, words)), "syntax")


def _forbidden(error: PostHogError) -> str:
    if error.scope is None and re.search(r"project|team|organi[sz]ation", error.detail or "", re.IGNORECASE):
        return "project"
    return "scope"


def _unreachable(error: PostHogError) -> str:
    if isinstance(error, TimeoutError):
        return "timeout"
    if error.status is None:
        return "network"
    return "busy" if error.status == 503 and "capacity" in (error.detail or "") else "server"


def remedy_of(error: PostHogError, kind: str) -> Remedy:
    """Return what to say about trouble that no change of the query mends."""
    if isinstance(error, ObjectNotFoundError):
        return _lost(error)
    if isinstance(error, AuthenticationError) and not isinstance(error, AuthorizationError):
        return Remedy("auth", "PostHog does not accept the key", _STOP)
    wait = f" in {error.retry_after:.0f} s" if error.retry_after else " once"
    made = {
        "scope": Remedy(
            "scope",
            f"the key lacks the scope {error.scope}" if error.scope else "the key may not do this",
            _STOP,
            shows_words=True,
        ),
        "project": Remedy("project", "the key may not read this project", _STOP, shows_words=True),
        "quota": Remedy("quota", "the project's paid quota is used up; waiting does not help", _STOP, shows_words=True),
        "setup": Remedy("setup", "the driver is not set up rightly", _STOP),
        "rate_limited": Remedy(
            "rate_limited",
            "the limit of queries is used up, the driver has waited already; ask fewer, larger questions",
            f"call again{wait if error.retry_after else ' in a minute'}",
        ),
        "busy": Remedy("busy", "too many queries are running at once", "call again in 10 s, one call at a time"),
        "network": Remedy(
            "network", "PostHog cannot be reached; the driver has retried", f"try again{wait}", _NO_ANSWER
        ),
        "server": Remedy(
            "server",
            "PostHog is in trouble; the driver has retried",
            f"try again{wait}, then tell the user",
            _NO_ANSWER,
        ),
        "cancelled": Remedy("cancelled", "the query was cancelled", "call again only if it is still wanted", "no rows"),
        "missing_value": Remedy(
            "missing_value",
            "a placeholder in braces has no value, or is no plain {name}; put each value into values",
            "call posthog_query again with values",
            shows_words=True,
        ),
        "bad_argument": Remedy("bad_argument", "", "change the call and try again", shows_words=True),
    }.get(kind, Remedy("internal", "an error of the driver", "try something else, or tell the user", "no rows"))
    if kind == "bad_argument" and isinstance(error, ValidationError):
        return made._replace(fix="the arguments do not fit: see the tool's description")
    return made


_STOP = "stop and tell the user: no other call will help"
_NO_ANSWER = "no answer came"


def _lost(error: ObjectNotFoundError) -> Remedy:
    if error.query_id is not None and "state" in str(error):
        return Remedy("server", "PostHog has forgotten the running query", "call again once", _NO_ANSWER)
    if error.status is None:
        return Remedy("unknown_table", "there is no such object", "call posthog_schema for what exists")
    return Remedy("project", "the project does not exist, or the key cannot see it", _STOP)


def heavy(error: PostHogError, kind: str, query: str) -> Remedy:
    """Return what to say when a query took too long or too much, with what to change in this very query."""
    text = HogQLText(query)
    open_ones = unbounded(text)
    advice = "; ".join(levers(text)) or "shorten the time range, group more coarsely, or read FROM events SAMPLE 0.1"
    names = {"timeout": "the query ran out of time", "memory": "the query needs too much memory"}
    said = names.get(kind, "the query would read too much")
    if kind == "timeout" and not isinstance(error, QueryError) and not open_ones:
        said = "no answer came in time; the query was stopped"
    made = "no_time_bound" if open_ones else kind
    again = "narrow the query and call posthog_query again" if query else "ask for a shorter time or fewer series"
    return Remedy(made, f"{said}: {advice}", again, "it was stopped")
