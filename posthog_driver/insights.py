"""Product questions: PostHog's query nodes for them, and flat rows out of its nested answers.

``plan_*`` return the node of a question and ``parse_*`` the rows of its answer; both are pure. What the parsers need to
know of a question they read from the node that was sent. `run_insight` is what lies between, with the life of a query.

Shapes of answers: ``posthog/hogql_queries/insights`` (the runner of each kind).
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from posthog_driver._insight_plans import (
    BREAKDOWN_LIMIT,
    COUNTS,
    EVERY,
    MEASURES,
    ORDERS,
    plan_funnel,
    plan_lifecycle,
    plan_paths,
    plan_retention,
    plan_stickiness,
    plan_trends,
)
from posthog_driver.endpoints import info_of, parse_results, run_node
from posthog_driver.exceptions import ResponseFormatError
from posthog_driver.results import QueryResult, rows_to_dicts, unique_names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from posthog_driver._models import ApiRequest
    from posthog_driver.endpoints import Runner, Send

    Parse = Callable[[Any, ApiRequest, float], QueryResult]

__all__ = [
    "BREAKDOWN_LIMIT",
    "EVERY",
    "MEASURES",
    "ORDERS",
    "OTHER",
    "parse_funnel",
    "parse_lifecycle",
    "parse_paths",
    "parse_retention",
    "parse_stickiness",
    "parse_trends",
    "plan_funnel",
    "plan_lifecycle",
    "plan_paths",
    "plan_retention",
    "plan_stickiness",
    "plan_trends",
    "run_insight",
]

OTHER = "$$_posthog_breakdown_other_$$"
"""Stands, as in PostHog's own answers, in ``breakdown`` for all values beyond ``by_limit`` together."""

_NULL = "$$_posthog_breakdown_null_$$"
_OTHER_STEP = "Other"  # what funnels call the rest
_ANY_EVENT = "any event"
_STATUSES = ("new", "returning", "resurrecting", "dormant")

logger = logging.getLogger("posthog_driver.insights")


# --- trends -----------------------------------------------------------------------------------------------------------


def parse_trends(data: Any, request: ApiRequest, elapsed: float = 0.0) -> QueryResult:
    """Return the rows of a TrendsQuery's answer: one for each series, breakdown value, period and interval."""
    node = _node(request)
    names = _labels(node["series"])
    is_split, is_compared = "breakdownFilter" in node, "compareFilter" in node
    is_count = node["series"][0]["math"] in COUNTS
    columns = {
        "time": "Date" if node["interval"] != "hour" else "String",
        "event": "String",
        **({"breakdown": "Nullable(String)"} if is_split else {}),
        **({"period": "String"} if is_compared else {}),
        "value": "Float64" if not is_count else "Int64",
    }

    def rows(results: list[Any]) -> Iterator[list[Any]]:
        for line in results:
            said = [names[_order(line)]]
            said += [_value(line["breakdown_value"])] if is_split else []
            said += [line["compare_label"]] if is_compared else []
            for day, number in zip(line["days"], line["data"], strict=True):
                yield [day, *said, _count(number) if is_count else number]

    return _result(data, request, elapsed, columns, rows)


# --- funnels ----------------------------------------------------------------------------------------------------------


def parse_funnel(data: Any, request: ApiRequest, elapsed: float = 0.0) -> QueryResult:
    """Return the rows of a FunnelsQuery's answer: one for each step, and breakdown value."""
    node = _node(request)
    names = [_label(one) for one in node["series"]]
    if node["funnelsFilter"]["funnelOrderType"] == "unordered":
        names = [f"any {number} of {len(names)}" for number in range(1, len(names) + 1)]
    limit = node.get("breakdownFilter", {}).get("breakdown_limit")
    columns = {
        "step": "Int64",
        "event": "String",
        **({"breakdown": "Nullable(String)"} if limit else {}),
        "people": "Int64",
        "share_of_first": "Nullable(Float64)",
        "share_of_previous": "Nullable(Float64)",
        "median_seconds": "Nullable(Float64)",
    }

    def rows(results: list[Any]) -> Iterator[list[Any]]:
        # Without anybody on the first step PostHog may say nothing at all.
        nobody = [{"count": 0, "median_conversion_time": None}] * len(names)
        funnels = results if limit else [results or nobody]
        has_rest = bool(limit) and len(funnels) > limit
        for funnel in funnels:
            first = previous = 0
            for number, (name, step) in enumerate(zip(names, funnel, strict=True), 1):
                people = _count(step["count"])
                first = first if number > 1 else people
                said = [number, name, *([_step_value(step["breakdown_value"], has_rest)] if limit else [])]
                share = _share(people, previous) if number > 1 else None
                yield [*said, people, _share(people, first), share, step["median_conversion_time"]]
                previous = people

    return _result(data, request, elapsed, columns, rows)


# --- retention --------------------------------------------------------------------------------------------------------


def parse_retention(data: Any, request: ApiRequest, elapsed: float = 0.0) -> QueryResult:
    """Return the rows of a RetentionQuery's answer: one for each cohort and each period that the range holds of it."""
    node = _node(request)
    is_split = "breakdownFilter" in node
    is_hourly = node["retentionFilter"]["period"] == "Hour"
    columns = {
        "cohort": "String" if is_hourly else "Date",
        **({"breakdown": "Nullable(String)"} if is_split else {}),
        "size": "Int64",
        "period": "Int64",
        "people": "Int64",
        "share": "Nullable(Float64)",
    }

    def rows(results: list[Any]) -> Iterator[list[Any]]:
        tables: dict[Any, list[Any]] = {}
        for line in results:
            tables.setdefault(_value(line.get("breakdown_value")), []).append(line)
        for value, lines in tables.items():
            for place, line in enumerate(lines):
                counts = [_count(cell["count"]) for cell in line["values"]]
                said = [line["date"][: 19 if is_hourly else 10].replace("T", " "), *([value] if is_split else [])]
                # What would be after the end of the range is not known; PostHog gives it as 0.
                for period, people in enumerate(counts[: len(lines) - place]):
                    yield [*said, counts[0], period, people, _share(people, counts[0])]

    return _result(data, request, elapsed, columns, rows)


# --- lifecycle, stickiness, paths -------------------------------------------------------------------------------------


def parse_lifecycle(data: Any, request: ApiRequest, elapsed: float = 0.0) -> QueryResult:
    """Return the rows of a LifecycleQuery's answer: one for each interval and status."""
    is_hourly = _node(request)["interval"] == "hour"
    columns = {"time": "String" if is_hourly else "Date", "status": "String", "people": "Int64"}

    def rows(results: list[Any]) -> Iterator[list[Any]]:
        lines = {line["status"]: line for line in results}
        for status in _STATUSES:
            for day, number in zip(lines[status]["days"], lines[status]["data"], strict=True):
                # Those who went away are below zero in PostHog, for its chart.
                yield [day, status, abs(_count(number))]

    return _result(data, request, elapsed, columns, rows)


def parse_stickiness(data: Any, request: ApiRequest, elapsed: float = 0.0) -> QueryResult:
    """Return the rows of a StickinessQuery's answer: one for each series and number of intervals."""
    names = _labels(_node(request)["series"])

    def rows(results: list[Any]) -> Iterator[list[Any]]:
        for line in results:
            for intervals, number in zip(line["days"], line["data"], strict=True):
                yield [names[_order(line)], intervals, _count(number)]

    return _result(data, request, elapsed, {"event": "String", "intervals": "Int64", "people": "Int64"}, rows)


def parse_paths(data: Any, request: ApiRequest, elapsed: float = 0.0) -> QueryResult:
    """Return the rows of a PathsQuery's answer: one for each way from one place to the next, the most used first."""
    columns = {
        "step": "Int64",
        "source": "String",
        "target": "String",
        "times": "Int64",
        "average_seconds": "Float64",
    }

    def rows(results: list[Any]) -> Iterator[list[Any]]:
        for edge in results:
            step, _, source = edge["source"].partition("_")
            target = edge["target"].partition("_")[2]
            yield [int(step), source, target, _count(edge["value"]), edge["average_conversion_time"] / 1_000]

    return _result(data, request, elapsed, columns, rows)


# --- the life of a question -------------------------------------------------------------------------------------------

_PARSERS: dict[str, Parse] = {
    "TrendsQuery": parse_trends,
    "FunnelsQuery": parse_funnel,
    "RetentionQuery": parse_retention,
    "LifecycleQuery": parse_lifecycle,
    "StickinessQuery": parse_stickiness,
    "PathsQuery": parse_paths,
}


def run_insight(send: Send, runner: Runner, request: ApiRequest, most: int | None = None) -> QueryResult:
    """Ask a question of one of the kinds above and return its rows; raises as `endpoints.run_query` does.

    Args:
        send: Sends one request and returns its decoded answer.
        runner: What else the life of a query needs.
        request: From `endpoints.plan_ask`, with a deadline.
        most: Most rows; the result says that it is truncated if there are more.
    """
    started = runner.clock.monotonic()
    data, request = run_node(send, runner, request)
    result = _PARSERS[_node(request)["kind"]](data, request, runner.clock.monotonic() - started)
    if most is None or len(result) <= most:
        return result
    logger.warning("question %s has %d rows or more, the first %d are given", request.query_id, len(result), most)
    return QueryResult(result[:most], result.info._replace(truncated=True))


# --- pieces of answers ------------------------------------------------------------------------------------------------


def _result(
    data: Any,
    request: ApiRequest,
    elapsed: float,
    columns: Mapping[str, str],
    rows: Callable[[list[Any]], Iterator[list[Any]]],
) -> QueryResult:
    """Return the rows with what is said about them; whatever PostHog's answer lacks is one error."""
    results = parse_results(data, request)
    try:
        found = list(rows(results))
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        kind = _node(request)["kind"]
        raise ResponseFormatError(
            f"PostHog's answer to the {kind} {request.query_id} has another shape than is known "
            f"({type(error).__name__}: {error}).\n  Ask it with client.ask to see it as it is.",
            query_id=request.query_id,
        ) from error
    names = tuple(columns)
    dicts = rows_to_dicts(found, names)
    info = info_of(data, request, names, len(dicts))
    is_cut = info.truncated or any(row.get("breakdown") == OTHER for row in dicts)
    if is_cut:
        logger.warning(
            "not all breakdown values of question %s are told apart: see the rows of %r, or raise by_limit",
            request.query_id,
            OTHER,
        )
    return QueryResult(dicts, info._replace(types=tuple(columns.values()), truncated=is_cut, elapsed=elapsed))


def _node(request: ApiRequest) -> dict[str, Any]:
    node: dict[str, Any] = request.json["query"]
    return node


def _label(node: Mapping[str, Any]) -> str:
    return _ANY_EVENT if node["event"] is None else str(node["event"])


def _labels(series: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Name the series; the same event again, with other filters, is numbered."""
    return unique_names([_label(node) for node in series])


def _order(line: Mapping[str, Any]) -> int:
    """Return which series of the question a line is."""
    order: int = line["action"]["order"]
    return order


def _value(value: Any) -> Any:
    """Return a breakdown value; None is no value."""
    if isinstance(value, list) and len(value) == 1:
        (value,) = value
    return None if value in (None, "", _NULL) else value


def _step_value(value: Any, has_rest: bool) -> Any:
    value = _value(value)
    return OTHER if has_rest and value == _OTHER_STEP else value


def _count(number: Any) -> int:
    """Return a count, which PostHog gives as a float at times."""
    if number != int(number):
        raise ValueError(f"{number!r} is no count")
    return int(number)


def _share(people: int, whole: int) -> float | None:
    return people / whole if whole else None
