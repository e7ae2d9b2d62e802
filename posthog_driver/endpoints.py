"""Requests as values, answers as values, and the life of a query between the two.

``plan_*`` and ``parse_*`` are pure. `run_query` is the one loop here: it waits for asynchronous queries and lets a
query that was too slow for a blocking answer go on as one.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from posthog_driver._answers import server_words
from posthog_driver._models import ApiRequest
from posthog_driver._redaction import redact
from posthog_driver.exceptions import (
    ObjectNotFoundError,
    PostHogError,
    QueryError,
    QueryTimeoutError,
    ResponseFormatError,
    TimeoutError,
    ValidationError,
)
from posthog_driver.results import QueryInfo, QueryResult, rows_to_dicts, unique_names

if TYPE_CHECKING:
    from collections.abc import Callable

    from posthog_driver._clock import Clock

    Send = Callable[[ApiRequest], Any]

__all__ = [
    "MAX_ROWS",
    "QueryOptions",
    "Runner",
    "info_of",
    "new_uuid",
    "parse_answer",
    "parse_cancel",
    "parse_query",
    "parse_results",
    "plan_ask",
    "plan_async",
    "plan_cancel",
    "plan_cancel_id",
    "plan_node",
    "plan_poll",
    "plan_query",
    "run_node",
    "run_query",
    "sendable_text",
    "to_json_value",
]

MAX_ROWS = 50_000
"""PostHog cuts every LIMIT to this, without a word (posthog/hogql/constants.py, MAX_SELECT_RETURNED_ROWS)."""

_MOST_NAME = 128
_DEFAULT_LIMIT = 100
_FIRST_PAUSE, _PAUSE_GROWTH, _LONGEST_PAUSE, _SHORTEST_PAUSE = 0.1, 1.5, 5.0, 0.05

logger = logging.getLogger("posthog_driver.endpoints")


class QueryOptions(NamedTuple):
    """How a query is run; None leaves it to the client or the server.

    Attributes:
        fresh: Compute anew instead of taking PostHog's cache.
        name: Label in PostHog's query log, up to 128 characters.
        filters: For ``{filters}`` in the text: ``{"dateRange": {...}, "properties": [...]}``.
        variables: For ``{variables.x}``: values by code name's variable id, as PostHog's API takes them.
        timeout: Seconds for one attempt.
        deadline: Moment on the monotonic clock at which the call ends.
        query_id: The ``client_query_id`` to run under; a random one if None.
    """

    fresh: bool = False
    name: str | None = None
    filters: Mapping[str, Any] | None = None
    variables: Mapping[str, Any] | None = None
    timeout: float | None = None
    deadline: float | None = None
    query_id: str | None = None


_PLAIN = QueryOptions()


class Runner(NamedTuple):
    """What the life of a query needs beside sending.

    Attributes:
        clock: Waits between polls.
        cancel: Sends a cancellation, and never raises.
        max_attempts: Attempts that a call may take in all.
    """

    clock: Clock
    cancel: Callable[[ApiRequest], None]
    max_attempts: int


def plan_query(
    project_id: str, hogql: str, values: Mapping[str, Any] | None = None, options: QueryOptions = _PLAIN
) -> ApiRequest:
    """Return the request for a HogQL query.

    Raises:
        ValidationError: the text is empty or not text, placeholders and values do not match, or `filters` or
            `variables` are given that the text has no placeholder for: PostHog would ignore them.
    """
    if not isinstance(hogql, str) or not hogql.strip():
        raise ValidationError("The query is empty or not text: pass HogQL such as 'SELECT event FROM events LIMIT 5'.")
    from posthog_driver._placeholders import check_values  # loaded late: its patterns take a millisecond

    lexed = check_values(hogql, values)
    node: dict[str, Any] = {"kind": "HogQLQuery", "query": sendable_text(hogql)}
    if values:
        node["values"] = to_json_value(values)
    for root, example in (("filters", "{filters}"), ("variables", "{variables.name}")):
        given = getattr(options, root)
        if given and root not in lexed.served | lexed.optional:
            raise ValidationError(
                f"The query has no placeholder for {root}: PostHog would ignore them. Write {example} where they "
                "belong. Nothing was sent."
            )
        if given:
            node[root] = dict(given)
    return plan_node(project_id, node, options)


def plan_node(project_id: str, node: Mapping[str, Any], options: QueryOptions = _PLAIN) -> ApiRequest:
    """Return the request for any query node: ``{"kind": ...}``."""
    query_id = new_uuid() if options.query_id is None else _checked_id(options.query_id)
    name = options.name or "posthog_driver"
    if not isinstance(name, str) or len(name) > _MOST_NAME:
        raise ValidationError(
            f"The query's name is text of {_MOST_NAME} characters at most, not {name!r:.40}. Nothing was sent."
        )
    body = {"query": dict(node), "client_query_id": query_id, "name": name}
    body["refresh"] = "force_blocking" if options.fresh else "blocking"
    return ApiRequest(
        "POST",
        f"/api/projects/{quote(project_id, safe='@')}/query/",
        body,
        scope="query",
        timeout=options.timeout,
        deadline=options.deadline,
        query_id=query_id,
    )


def plan_ask(project_id: str, body: Mapping[str, Any], options: QueryOptions = _PLAIN) -> ApiRequest:
    """Return the request for a query node that a caller has written.

    Raises:
        ValidationError: it is no node, or holds a value that JSON cannot have.
    """
    if not isinstance(body, Mapping) or not isinstance(body.get("kind"), str) or not body["kind"]:
        raise ValidationError(
            "A question is a query node such as {'kind': 'TrendsQuery', ...}: what stands under 'query' in a body of "
            "PostHog's API. Nothing was sent."
        )
    return plan_node(project_id, to_json_value(body), options)


def plan_async(request: ApiRequest, max_attempts: int) -> ApiRequest:
    """Return the same query as one that runs in the background.

    It keeps its id, so that whoever was told of it can cancel the query in either form; should the server still be busy
    with the blocking one, it ends that first.
    """
    return request._replace(json={**request.json, "refresh": "force_async"}, max_attempts=max_attempts)


def plan_poll(request: ApiRequest, query_id: str | None = None) -> ApiRequest:
    """Return the request that asks how a running query is doing.

    Args:
        request: The query.
        query_id: What PostHog calls it; differs from our id when PostHog joined it with an identical running query.
    """
    path = f"{request.path}{quote(query_id or request.query_id or '', safe='')}/"
    return request._replace(method="GET", path=path, json=None, max_attempts=None)


def plan_cancel(request: ApiRequest) -> ApiRequest:
    """Return the request that stops a query, blocking or not."""
    return plan_poll(request)._replace(method="DELETE")


def _checked_id(query_id: object) -> str:
    """Refuse an id that PostHog's address of a query cannot hold, or that would stand for others as well."""
    if not isinstance(query_id, str) or not re.fullmatch(r"[A-Za-z0-9_-]{1,128}", query_id):
        raise ValidationError(
            f"A query's id is 1 to 128 ASCII letters, digits, - and _, not {query_id!r:.40}. Nothing was sent."
        )
    return query_id


def plan_cancel_id(project_id: str, query_id: str, timeout: float | None, deadline: float) -> ApiRequest:
    """Return the request that stops the query of an id, free of the limits of queries: it must not wait for them."""
    path = f"/api/projects/{quote(project_id, safe='@')}/query/{_checked_id(query_id)}/"
    return ApiRequest("DELETE", path, timeout=timeout, deadline=deadline, query_id=query_id)


def parse_cancel(data: Any) -> bool:
    """Tell whether PostHog stopped something; it says so in words, or with an empty success."""
    words = str(data.get("message") or "").lower() if isinstance(data, dict) else ""
    return not any(sign in words for sign in ("already complete", "not cancelled", "not found"))


def run_query(send: Send, runner: Runner, request: ApiRequest) -> QueryResult:
    """Send a query and return its rows, however long within the deadline the server takes for them.

    Args:
        send: Sends one request and returns its decoded answer.
        runner: What else the life of a query needs.
        request: From `plan_query`, with a deadline.

    Raises:
        QueryError: PostHog refused the query or could not run it.
        TimeoutError: the deadline came first; the query is cancelled on the server.
        PostHogError: as the transport raises it.
    """
    started = runner.clock.monotonic()
    data, request = run_node(send, runner, request)
    return parse_query(data, request, runner.clock.monotonic() - started)


def run_node(send: Send, runner: Runner, request: ApiRequest) -> tuple[Any, ApiRequest]:
    """Send any query node; return the answer that holds the results, and the request that got it.

    A 504 goes on as an asynchronous query while attempts are left; a running query is polled with growing pauses; a
    call that ends by deadline or interrupt cancels what runs.
    """
    data, request = _started(send, runner, request)
    try:
        return _finished(send, runner.clock, request, data), request
    except (QueryError, ObjectNotFoundError):
        raise  # it has ended, or is not there any more
    except BaseException:
        runner.cancel(plan_cancel(request))
        raise


def _started(send: Send, runner: Runner, request: ApiRequest) -> tuple[Any, ApiRequest]:
    """Send a query, once more as an asynchronous one if need be; return the first answer, and the request it is to."""
    try:
        try:
            return send(request), request
        except QueryTimeoutError as error:
            left = runner.max_attempts - (error.attempts or 1)
            if error.status != 504 or left < 1:
                raise
            logger.warning("query %s was too slow for a blocking answer: retry as asynchronous", request.query_id)
            request = plan_async(request, left)
            return send(request), request
    except BaseException as error:
        if _may_run(error):
            runner.cancel(plan_cancel(request))
        raise


def _may_run(error: BaseException) -> bool:
    """Tell whether the query that ended like this may be running: after a time-out, or an interrupt of any class."""
    if isinstance(error, TimeoutError):
        return not (error._never_sent and error.attempts == 1)
    return not isinstance(error, PostHogError)


def _finished(send: Send, clock: Clock, request: ApiRequest, data: Any) -> Any:
    """Wait until the server is done, and return the body that holds the results."""
    pause = _FIRST_PAUSE
    while (status := _query_status(data)) is not None and not status.get("complete"):
        left = float("inf") if request.deadline is None else request.deadline - clock.monotonic()
        if left < _SHORTEST_PAUSE:
            raise TimeoutError(
                f"Query {request.query_id} is still running and its time is up; it is being cancelled.\n  Raise "
                "total_timeout, or narrow the query.",
                query_id=request.query_id,
            )
        # Half of what is left, so that the last look comes shortly before the deadline and not after it.
        clock.sleep(min(pause, left / 2))
        pause = min(pause * _PAUSE_GROWTH, _LONGEST_PAUSE)
        running = status.get("id")
        try:
            data = send(plan_poll(request, running if isinstance(running, str) else None))
        except ObjectNotFoundError as error:
            error.args = (
                f"{error}\n  PostHog keeps a query's state for 20 minutes, or until it is cancelled; run it again.",
            )
            raise
    if status is None:
        return data
    if status.get("error") or status.get("error_message"):
        words = redact(server_words(data, None) or "PostHog does not say why")
        raise QueryError(f"Query {request.query_id} failed: {words}", detail=words, query_id=request.query_id)
    return data if data.get("results") is not None else status.get("results")


def _query_status(data: Any) -> dict[str, Any] | None:
    status = data.get("query_status") if isinstance(data, dict) else None
    return status if isinstance(status, dict) else None


def parse_answer(data: Any, request: ApiRequest) -> dict[str, Any]:
    """Return the body of a finished query of any kind.

    Raises:
        QueryError: it reports an error instead of an answer.
        ResponseFormatError: it is no object.
    """
    if isinstance(data, dict) and data.get("error"):
        words = redact(server_words({"error": data["error"]}, None) or "")
        raise QueryError(f"PostHog could not run the query: {words}", detail=words, query_id=request.query_id)
    if not isinstance(data, dict):
        raise _no_answer(request, "is no object")
    return data


def parse_results(data: Any, request: ApiRequest) -> list[Any]:
    """Return the results out of a finished query's body; raises as `parse_answer` does, and where there is no list."""
    results = parse_answer(data, request).get("results")
    if not isinstance(results, list):
        raise _no_answer(request, "has no list of results")
    return results


def _no_answer(request: ApiRequest, what: str) -> ResponseFormatError:
    return ResponseFormatError(
        f"PostHog's answer to query {request.query_id} {what}.\n  Check api_url and proxies in between.",
        query_id=request.query_id,
    )


def parse_query(data: Any, request: ApiRequest, elapsed: float = 0.0) -> QueryResult:
    """Turn the body of a finished query into a result.

    Raises:
        QueryError: the body reports an error instead of results.
        ResponseFormatError: there are no results, or rows and columns do not fit; never fewer rows or values.
    """
    rows: list[Any] = parse_results(data, request)
    names = data.get("columns")
    objects = all(isinstance(row, dict) for row in rows)
    if isinstance(names, list) and all(isinstance(name, str) for name in names):
        columns = unique_names(names)
        if not (rows and objects):
            rows = rows_to_dicts(rows, columns)
    elif objects and names is None:
        columns = tuple(dict.fromkeys(name for row in rows for name in row))
    else:
        raise ResponseFormatError(
            f"PostHog's answer to query {request.query_id} has no columns that fit its rows.", query_id=request.query_id
        )
    return QueryResult(rows, info_of(data, request, columns, len(rows))._replace(elapsed=elapsed))


def info_of(data: dict[str, Any], request: ApiRequest, columns: tuple[str, ...], count: int) -> QueryInfo:
    """Return what a finished query's body says beside its rows; a cut that was asked for by nobody is logged."""
    types = data.get("types")
    warnings = data.get("warnings")
    node = request.json.get("query", {}) if isinstance(request.json, dict) else {}
    info = QueryInfo(
        columns=columns,
        types=tuple(map(_type_name, types)) if isinstance(types, list) else (),
        truncated=_is_cut(data, count, node),
        query_id=request.query_id,
        is_cached=data.get("is_cached"),
        last_refresh=data.get("last_refresh"),
        timezone=data.get("timezone"),
        hogql=data.get("hogql"),
        limit=data.get("limit"),
        warnings=tuple(warnings) if isinstance(warnings, list) else (),
    )
    if info.truncated and node.get("kind") == "HogQLQuery":
        logger.warning(
            "query %s was cut by PostHog at %d rows: give an explicit LIMIT (50,000 at most) or page by key",
            request.query_id,
            count,
            extra={"query_id": request.query_id, "rows": count},
        )
    return info


def _type_name(item: Any) -> str:
    """Return the type out of ``[column, type]``, or of a plain text as PostHog's endpoints have it."""
    return str(item[-1] if isinstance(item, list) and item else item)


def _is_cut(data: dict[str, Any], count: int, node: dict[str, Any]) -> bool:
    """Tell whether rows are missing, or may be.

    For a SELECT without a LIMIT PostHog says ``hasMore``. Every LIMIT ends at `MAX_ROWS`, without a word. Each member
    of a UNION without a LIMIT is cut at 100 rows, where it says nothing either: then a hundred rows are suspect.
    """
    if data.get("hasMore") or count >= MAX_ROWS:
        return True
    if count < _DEFAULT_LIMIT or data.get("hasMore") is not None or node.get("kind") != "HogQLQuery":
        return False
    from posthog_driver._placeholders import lex

    words = lex(str(node.get("query"))).words
    operators = sum(map(words.count, ("union", "intersect", "except")))
    return operators > 0 and words.count("limit") <= operators


def to_json_value(value: Any) -> Any:
    """Turn a value for a placeholder into JSON.

    Moments become ISO 8601 text in UTC (a naive one is taken for UTC), dates and UUIDs text, sets and tuples lists.

    Raises:
        ValidationError: it is nothing that a HogQL constant can hold exactly: NaN, integers beyond 64 bits, odd text.
    """
    try:
        return _json_value(value)
    except RecursionError:
        raise ValidationError("A value holds itself, or is nested too deeply. Nothing was sent.") from None


def _json_value(value: Any) -> Any:
    import datetime
    import decimal
    import math
    import uuid

    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return sendable_text(value)
    if isinstance(value, int):
        if -(2**63) <= value < 2**64:
            return value
        raise ValidationError("A number has more than 64 bits, PostHog would round it: send text. Nothing was sent.")
    if isinstance(value, float):
        if math.isfinite(value):
            return value
        raise ValidationError(f"{value} cannot be sent as a value: JSON has no NaN or infinity. Nothing was sent.")
    if isinstance(value, datetime.datetime):
        zoned = value if value.tzinfo is not None else value.replace(tzinfo=datetime.timezone.utc)
        return zoned.astimezone(datetime.timezone.utc).isoformat()
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, decimal.Decimal):
        number = float(value) if value.is_finite() else math.nan
        if math.isfinite(number) and decimal.Decimal(repr(number)) == value:
            return number
        raise ValidationError(f"{value} cannot be sent as a number without losing digits; send text. Nothing was sent.")
    if isinstance(value, (list, tuple)):
        return [_json_value(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted((_json_value(item) for item in value), key=repr)
    if isinstance(value, Mapping):
        if not all(isinstance(name, str) for name in value):
            raise ValidationError("The names in an object that is sent as a value must be text. Nothing was sent.")
        return {sendable_text(name): _json_value(item) for name, item in value.items()}
    raise ValidationError(f"A value of type {type(value).__name__} cannot be sent. Nothing was sent.")


def sendable_text(text: str, what: str = "The text") -> str:
    """Return the text, or refuse a lone surrogate: it is no Unicode, and PostHog refuses everything sent with it."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValidationError(f"{what} holds a lone surrogate at {error.start}. Nothing was sent.") from None
    return text


def new_uuid() -> str:
    """Return a random UUID (version 4) in the canonical form, without importing ``uuid`` (1.5 ms at start)."""
    digits = f"{int.from_bytes(os.urandom(16), 'big') & ~(0xF << 76) & ~(0x3 << 62) | (0x4 << 76) | (0x2 << 62):032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
