"""The bodies that ``/query/`` accepts: which keys, of which type; anything else is PostHog's ``parse_error``.

PostHog's models forbid unknown keys, and its errors are the text of pydantic. `QueryRequest.parse` checks a
body against the same fields without pydantic, reports the problems in the same words, and refuses by name what only the
embedded server does not have. The fields are in `posthog_driver.local.model_kinds`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from . import errors
from .model_checks import MAX_DEPTH, MAX_PROBLEMS, Location, Problem, compiled, fields_of, is_too_deep
from .model_kinds import ELSEWHERE, REQUESTS

__all__ = ["QueryRequest"]

MAX_NAME = 128
"""Characters of a query's name."""

LANGUAGES = ("hogQL", "hogQLExpr")
"""What `HogQLMetadata` and `HogQLAutocomplete` understand here."""

_ENVELOPE = {
    "refresh": "RefreshType",
    "async": "bool?",
    "client_query_id": "text?",
    "name": "text?",
    "filters_override": "DashboardFilter",
    "variables_override": "{HogQLVariable}?",
    "limit_context": "LimitContext?",
}
_WRAPPERS = ("InsightVizNode", "DataTableNode", "DataVisualizationNode")
_NOT_FILTERS = ("ActorsQuery", "EventTaxonomyQuery", "ActorsPropertyTaxonomyQuery")
"""Kinds whose ``properties`` a dashboard does not filter: those of actors, and names instead of filters."""

_SAME_ANSWER: Mapping[str, tuple[Any, ...]] = {
    "bounceRateDurationSeconds": (10,),
    "bounceRatePageViewMode": ("count_pageviews",),
    "convertToProjectTimezone": (True,),
    "customChannelTypeRules": ([],),
    "dataWarehouseEventsModifiers": ([],),
    "materializationMode": ("auto", "legacy_null_as_null", "disabled"),
    "personsOnEventsMode": ("person_id_override_properties_on_events",),
}
"""The modifiers that change answers, with the values that mean what is done here; all others only change speed."""


def _problems(body: Any) -> Iterator[Problem]:
    if is_too_deep(body):
        message = f"Recursion error - more than {MAX_DEPTH} levels of lists and objects"
        yield Problem((), message, "recursion_loop", body)
        return
    if not isinstance(body, dict):
        yield Problem((), "Input should be a valid dictionary or instance of QueryRequest", "model_type", body)
        return
    if "query" not in body:
        yield Problem(("query",), "Field required", "missing", body)
    for key, value in body.items():
        if key == "query":
            yield from _query((key,), value)
        elif key in _ENVELOPE:
            yield from compiled(_ENVELOPE[key])((key,), value)
        else:
            yield Problem((key,), "Extra inputs are not permitted", "extra_forbidden", value)
    name = body.get("name")
    if isinstance(name, str) and len(name) > MAX_NAME:
        message = f"String should have at most {MAX_NAME} characters"
        yield Problem(("name",), message, "string_too_long", name)


def _query(location: Location, node: Any) -> Iterator[Problem]:
    """Check a node of a kind that is served here; the other kinds of PostHog are refused by name."""
    if not isinstance(node, dict):
        yield Problem(location, "Input should be a valid dictionary", "dict_type", node)
    elif not isinstance(kind := node.get("kind"), str):
        yield Problem(location, "Unable to extract tag using discriminator 'kind'", "union_tag_not_found", node)
    elif kind in REQUESTS:
        yield from compiled(kind)((*location, kind), node)
    elif kind in ELSEWHERE:
        message = f"The embedded server does not have query kind {kind}, only {', '.join(REQUESTS)}."
        yield Problem(location, message, "elsewhere", node)
    else:
        tags = ", ".join(repr(tag) for tag in REQUESTS)
        message = f"Input tag {kind[:100]!r} found using 'kind' does not match any of the expected tags: {tags}"
        yield Problem(location, message, "union_tag_invalid", node)


@dataclass(frozen=True)
class QueryRequest:
    """A checked body of ``POST /query/``.

    Attributes:
        query: The query node without its wrapper, with the overrides of filters and variables applied.
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
        problems = list(islice(_problems(body), MAX_PROBLEMS))
        wrong = [problem for problem in problems if problem.kind != "elsewhere"]
        if wrong:
            heading = f"{len(wrong)} validation error{'' if len(wrong) == 1 else 's'} for QueryRequest"
            raise errors.unparsable("\n".join([heading, *map(str, wrong)]))
        if problems:
            raise errors.validation(problems[0].message)
        query = _unwrapped(body["query"])
        _refuse_what_is_missing(query)
        if body.get("limit_context"):
            raise errors.validation("The embedded server does not have limit_context.")
        return cls(_with_overrides(query, body), _mode(body), body.get("client_query_id") or "")

    @property
    def kind(self) -> str:
        """The kind of the query node."""
        return str(self.query["kind"])


def _unwrapped(node: Mapping[str, Any]) -> Mapping[str, Any]:
    """The query inside the nodes that only say how it is shown."""
    while node["kind"] in _WRAPPERS:
        node = node["source"]
    if node["kind"] not in REQUESTS:
        raise errors.validation(f"The embedded server does not have {node['kind']} as a query.")
    return node


def _refuse_what_is_missing(node: Any) -> None:
    """Refuse what would change an answer and is not done here, in a node and the queries inside it."""
    kind = node["kind"]
    if (language := node.get("language", "hogQL")) not in LANGUAGES:
        raise errors.validation(
            f"The embedded server has no {kind} for language {language}, only {' and '.join(LANGUAGES)}."
        )
    for key in ("connectionId", "sendRawQuery", "explain"):
        if node.get(key):
            raise errors.validation(f"The embedded server does not have {key} of {kind}.")
    for name, value in (node.get("modifiers") or {}).items():
        if value is not None and value not in _SAME_ANSWER.get(name, (value,)):
            raise errors.validation(f"The embedded server does not have modifier {name} with value {value}.")
    if isinstance(source := node.get("source"), dict):
        _refuse_what_is_missing(source)


def _mode(body: Mapping[str, Any]) -> str:
    if body.get("async"):
        return "async"
    refresh = body.get("refresh", "blocking")
    return "blocking" if refresh == "force_cache" else str(refresh)


def _with_overrides(query: Mapping[str, Any], body: Mapping[str, Any]) -> dict[str, Any]:
    """Apply a dashboard's filters and variables to the query, as PostHog does before it runs it."""
    query = dict(query)
    if dashboard := body.get("filters_override"):
        _override_filters(query, dashboard)
    if overrides := body.get("variables_override"):
        query["variables"] = {**(query.get("variables") or {}), **overrides}
    return query


def _override_filters(query: dict[str, Any], dashboard: Mapping[str, Any]) -> None:
    """Put a dashboard's dates, properties and breakdown where a query of this kind has its own.

    A dashboard's range replaces both ends of the query's, its properties come on top, its breakdown replaces the
    query's; kinds without such a place do not heed it.
    """
    dates = {key: dashboard[key] for key in ("date_from", "date_to", "explicitDate") if key in dashboard}
    has_range = bool(dashboard.get("date_from") or dashboard.get("date_to"))
    added = dashboard.get("properties") or []
    place = query
    fields = fields_of(query["kind"])
    if query["kind"] == "HogQLQuery":
        place, fields = dict(query.get("filters") or {}), fields_of("HogQLFilters")
        query["filters"] = place
    if has_range and "dateRange" in fields:
        place["dateRange"] = {"date_from": None, "date_to": None, **dates}
    elif has_range and "after" in fields:
        query["after"], query["before"] = dates.get("date_from"), dates.get("date_to")
    if added and "properties" in fields and query["kind"] not in _NOT_FILTERS:
        place["properties"] = _and(place.get("properties") or [], added)
    if (breakdown := dashboard.get("breakdown_filter")) and "breakdownFilter" in fields:
        query["breakdownFilter"] = breakdown


def _and(own: Any, added: list[Any]) -> Any:
    """A query's properties and a dashboard's, both of which must hold."""
    if isinstance(own, list):
        return [*own, *added]
    return {"type": "AND", "values": [own, {"type": "AND", "values": added}]}
