"""The bodies that ``/query/`` accepts: which keys, of which type; anything else is PostHog's ``parse_error``.

PostHog's models forbid unknown keys, and its errors are the text of pydantic. `QueryRequest.parse` checks a
body against the same fields without pydantic and reports every problem at once, in the same words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from . import errors

__all__ = ["QueryRequest"]

REFRESH_MODES = (
    "async",
    "async_except_on_cache_miss",
    "blocking",
    "force_async",
    "force_blocking",
    "force_cache",
    "lazy_async",
)
LANGUAGES = ("hog", "hogJson", "hogQL", "hogQLExpr", "hogTemplate", "liquid")
MAX_NAME = 128

Location = tuple[str, ...]


class _Problem(NamedTuple):
    location: Location
    message: str
    kind: str
    value: Any

    def __str__(self) -> str:
        shown = repr(self.value)
        shown = shown if len(shown) <= 100 else f"{shown[:50]}...{shown[-47:]}"
        return (
            f"{'.'.join(self.location)}\n  {self.message} [type={self.kind}, input_value={shown}, "
            f"input_type={type(self.value).__name__}]"
        )


Check = Callable[[Location, Any], Iterator[_Problem]]


def _typed(message: str, kind: str, *types: type) -> Check:
    def check(location: Location, value: Any) -> Iterator[_Problem]:
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
            yield _Problem(location, message, kind, value)

    return check


_TEXT = _typed("Input should be a valid string", "string_type", str)
_BOOL = _typed("Input should be a valid boolean", "bool_type", bool)
_NUMBER = _typed("Input should be a valid number", "float_type", int, float)
_DICT = _typed("Input should be a valid dictionary", "dict_type", dict)
_LIST = _typed("Input should be a valid list", "list_type", list)


def _one_of(*options: Any) -> Check:
    names = [repr(option) for option in options]
    listed = f"{', '.join(names[:-1])} or {names[-1]}" if len(names) > 1 else names[0]

    def check(location: Location, value: Any) -> Iterator[_Problem]:
        if not isinstance(value, str) or value not in options:
            yield _Problem(location, f"Input should be {listed}", "enum", value)

    return check


def _refresh(location: Location, value: Any) -> Iterator[_Problem]:
    if not isinstance(value, bool):
        yield from _one_of(*REFRESH_MODES)(location, value)


def _name(location: Location, value: Any) -> Iterator[_Problem]:
    yield from _TEXT(location, value)
    if isinstance(value, str) and len(value) > MAX_NAME:
        yield _Problem(location, f"String should have at most {MAX_NAME} characters", "string_too_long", value)


def _model(fields: Mapping[str, Check], required: tuple[str, ...] = ()) -> Check:
    """Check an object: no other keys, the required ones there; null stands for an absent optional key."""

    def check(location: Location, value: Any) -> Iterator[_Problem]:
        if not isinstance(value, dict):
            yield _Problem(location, "Input should be a valid dictionary", "model_type", value)
            return
        for key in required:
            if key not in value:
                yield _Problem((*location, key), "Field required", "missing", value)
        for key, entry in value.items():
            if key not in fields:
                yield _Problem((*location, key), "Extra inputs are not permitted", "extra_forbidden", entry)
            elif entry is not None or key in required:
                yield from fields[key]((*location, key), entry)

    return check


def _map_of(inner: Check) -> Check:
    def check(location: Location, value: Any) -> Iterator[_Problem]:
        yield from _DICT(location, value)
        if isinstance(value, dict):
            for key, entry in value.items():
                yield from inner((*location, key), entry)

    return check


def _anything(location: Location, value: Any) -> Iterator[_Problem]:
    yield from ()


_DATES: dict[str, Check] = {"date_from": _TEXT, "date_to": _TEXT, "explicitDate": _BOOL}
_FILTERS = _model({"dateRange": _model(_DATES), "properties": _LIST, "filterTestAccounts": _BOOL})
_DASHBOARD_FILTERS = _model({**_DATES, "properties": _LIST, "breakdown_filter": _DICT})
_VARIABLES = _map_of(
    _model(
        {"variableId": _TEXT, "code_name": _TEXT, "value": _anything, "isNull": _BOOL},
        required=("variableId", "code_name"),
    )
)
_NODE: dict[str, Check] = {
    "kind": _TEXT,
    "modifiers": _DICT,
    "tags": _model({"name": _TEXT, "productKey": _TEXT, "scene": _TEXT}),
    "version": _NUMBER,
    "connectionId": _TEXT,
    "response": _anything,
}
KINDS: dict[str, Check] = {
    "HogQLQuery": _model(
        {
            **_NODE,
            "query": _TEXT,
            "values": _DICT,
            "variables": _VARIABLES,
            "filters": _FILTERS,
            "explain": _BOOL,
            "sendRawQuery": _BOOL,
            "name": _TEXT,
        },
        required=("query",),
    ),
    "DatabaseSchemaQuery": _model(_NODE),
    "HogQLMetadata": _model(
        {
            **_NODE,
            "language": _one_of(*LANGUAGES),
            "query": _TEXT,
            "filters": _FILTERS,
            "variables": _VARIABLES,
            "globals": _DICT,
            "sourceQuery": _anything,
            "debug": _BOOL,
        },
        required=("language", "query"),
    ),
}


def _query(location: Location, value: Any) -> Iterator[_Problem]:
    """Check the keys of a kind that is served here; `QueryRequest.parse` refuses the other kinds by name."""
    if not isinstance(value, dict):
        yield from _DICT(location, value)
    elif not isinstance(value.get("kind"), str):
        yield _Problem(location, "Unable to extract tag using discriminator 'kind'", "union_tag_not_found", value)
    elif value["kind"] in KINDS:
        yield from KINDS[value["kind"]]((*location, value["kind"]), value)


_REQUEST = _model(
    {
        "query": _query,
        "refresh": _refresh,
        "async": _BOOL,
        "client_query_id": _TEXT,
        "name": _name,
        "filters_override": _DASHBOARD_FILTERS,
        "variables_override": _VARIABLES,
        "limit_context": _one_of("posthog_ai"),
    },
    required=("query",),
)


@dataclass(frozen=True)
class QueryRequest:
    """A checked body of ``POST /query/``.

    Attributes:
        query: The query node, with the overrides of filters and variables applied.
        refresh: One of PostHog's refresh modes; ``force_cache`` and nothing at all are ``blocking``.
        query_id: The caller's id of the query, empty if it gave none.
    """

    query: Mapping[str, Any]
    refresh: str
    query_id: str

    @classmethod
    def parse(cls, body: Any) -> QueryRequest:
        """Check a body.

        Raises:
            ApiError: 400, ``parse_error`` for a wrong key or type, ``invalid_input`` for what only the
                embedded server does not have.
        """
        problems = list(_REQUEST((), body))
        if problems:
            heading = f"{len(problems)} validation error{'' if len(problems) == 1 else 's'} for QueryRequest"
            raise errors.unparsable("\n".join([heading, *map(str, problems)]))
        _refuse_what_is_missing(body)
        return cls(_with_overrides(body), _mode(body), body.get("client_query_id") or "")

    @property
    def kind(self) -> str:
        """The kind of the query node."""
        return str(self.query["kind"])


def _refuse_what_is_missing(body: Mapping[str, Any]) -> None:
    query = body["query"]
    if query["kind"] not in KINDS:
        raise errors.validation(
            f"The embedded server does not have query kind {query['kind']}, only {', '.join(sorted(KINDS))}."
        )
    if query["kind"] == "HogQLMetadata" and query["language"] != "hogQL":
        raise errors.validation(
            f"The embedded server has no HogQLMetadata for language {query['language']}, only hogQL."
        )
    if body.get("limit_context"):
        raise errors.validation("The embedded server does not have limit_context.")
    for key in ("connectionId", "sendRawQuery", "explain"):
        if query.get(key):
            raise errors.validation(f"The embedded server does not have {key} of {query['kind']}.")


def _mode(body: Mapping[str, Any]) -> str:
    refresh = body.get("refresh")
    if body.get("async"):
        return "async"
    if refresh is True:
        return "force_blocking"
    return "blocking" if refresh in (None, False, "force_cache") else str(refresh)


def _with_overrides(body: Mapping[str, Any]) -> dict[str, Any]:
    """Apply a dashboard's filters and variables to the query, as PostHog does before it runs it."""
    query = dict(body["query"])
    if dashboard := body.get("filters_override"):
        if dashboard.get("breakdown_filter"):
            raise errors.validation("The embedded server does not have filters_override.breakdown_filter.")
        filters = dict(query.get("filters") or {})
        dates = {key: dashboard[key] for key in _DATES if dashboard.get(key) is not None}
        filters["dateRange"] = {**(filters.get("dateRange") or {}), **dates}
        filters["properties"] = [*(filters.get("properties") or ()), *(dashboard.get("properties") or ())]
        query["filters"] = filters
    if overrides := body.get("variables_override"):
        query["variables"] = {**(query.get("variables") or {}), **overrides}
    return query
