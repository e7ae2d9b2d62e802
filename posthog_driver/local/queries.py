"""The query endpoint: runs HogQL on the engine, keeps answers, and runs queries in the background.

A `Run` is one execution. A blocking one is executed by the thread of its request, an asynchronous one by one of a
few threads, so that there is always a place in the engine for blocking ones; both can be cancelled by the caller's
query id as long as they wait or run. A finished asynchronous run is kept for twenty minutes for those who poll.
Answers are kept as JSON, and all of them together weigh no more than `MAX_KEPT_BYTES`.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from typing import Any, Protocol, cast
from zoneinfo import ZoneInfo

from . import errors, questions
from .database import SYSTEM_SCOPES, database_schema
from .engine import MAX_CONCURRENT_QUERIES, EngineError, EngineResult
from .errors import ApiError
from .hogql import Translation, metadata, translate
from .hot import MIN_QUERIES, MIN_ROWS, Hot
from .limits import Gate
from .model import QueryRequest
from .parser import HogQLError
from .questions.base import Asks, Rows
from .schema import Catalog
from .shelf import Shelf
from .tree import DEFAULT_LIMIT, MAX_LIMIT
from .wire import Response, encode_json

__all__ = ["QueryService", "QuerySettings", "RunsSql"]

CACHED_ANSWERS = 64
"""How many answers the next caller of the same query may get."""

MAX_CACHED_BYTES = 16 * 1024**2
"""Longest answer that is kept for the next caller."""

MAX_KEPT_BYTES = 256 * 1024**2
"""Bytes of all kept answers, those of finished background runs among them; the oldest go."""

BACKGROUND_RUNS = MAX_CONCURRENT_QUERIES - 1
"""Background runs at the same time; the next ones wait."""

_LOG = logging.getLogger(__name__)


class RunsSql(Protocol):
    """What the query endpoint needs of the engine."""

    def run(self, sql: str, *, query_id: str, max_execution_time: float) -> EngineResult:
        """Run one ClickHouse query."""

    def execute(self, sql: str) -> None:
        """Run a statement of our own."""

    def cancel(self, query_id: str) -> bool:
        """Stop a running query; False when there is none of that id."""


@dataclass(frozen=True)
class QuerySettings:
    """Times of the query endpoint in seconds.

    The defaults are PostHog Cloud's: 10 s for a blocking query with a personal key, 600 s in the background;
    an answer is fresh for 6 hours (12 for ``lazy_async``); a finished run can be polled for 20 minutes.
    """

    blocking_seconds: float = 10.0
    async_seconds: float = 600.0
    fresh_seconds: float = 6 * 3600.0
    lazy_seconds: float = 12 * 3600.0
    keep_seconds: float = 20 * 60.0
    cancel_seconds: float = 2.0


@dataclass
class Run:
    """One execution of a query."""

    query_id: str
    asynchronous: bool = False
    denied: frozenset[str] = frozenset()
    engine_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    start_time: datetime = field(default_factory=lambda: datetime.now(timezone.utc))
    pickup_time: datetime | None = None
    end_time: datetime | None = None
    expires: float = float("inf")
    cancelled: bool = False
    finished: threading.Event = field(default_factory=threading.Event)
    future: Future[None] | None = None
    error: ApiError | None = None
    deadline: float = float("inf")
    progress: dict[str, Any] | None = None


@dataclass(frozen=True)
class _Cached:
    moment: float
    data_version: int


class QueryService:
    """Answers ``POST``, ``GET`` and ``DELETE`` of ``/query/``.

    Args:
        engine: Runs the SQL.
        catalog: Gives the project's catalog as it is now.
        project_id: Shown in ``query_status.team_id``.
        gate: Limits the blocking API queries that run at once.
        settings: Times.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        engine: RunsSql,
        catalog: Callable[[], Catalog],
        *,
        project_id: int = 1,
        gate: Gate | None = None,
        settings: QuerySettings | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._catalog = catalog
        self._project_id = project_id
        self._gate = gate or Gate(None)
        self._settings = settings or QuerySettings()
        self._clock = clock
        self._lock = threading.Lock()
        self._cache: OrderedDict[str, _Cached] = OrderedDict()
        self._data_version = 0
        self._active: list[Run] = []
        self._background: dict[str, Run] = {}
        self._shelf = Shelf(MAX_KEPT_BYTES)
        self._workers = ThreadPoolExecutor(BACKGROUND_RUNS, "query")
        self._hot = Hot(engine, catalog().database)
        self._seen: tuple[Catalog, frozenset[str], Any] | None = None
        self._seen_as: Catalog | None = None

    # ---------------------------------------------------------------------------------------- what is asked

    def submit(self, body: Any, *, denied: frozenset[str] = frozenset()) -> Response:
        """Answer ``POST /query/``.

        Args:
            body: The request's body.
            denied: What the caller's key may not read in system tables; see `Catalog.denied`.

        Raises:
            ApiError: Whatever is wrong with the query or its execution.
        """
        request = QueryRequest.parse(body)
        if request.kind == "DatabaseSchemaQuery":
            return Response(200, database_schema(self._visible(denied)))
        if request.kind == "HogQLMetadata":
            return Response(200, questions.check(request.query, self._visible(denied)))
        if request.kind == "HogQLAutocomplete":
            return Response(200, questions.complete(request.query, self._visible(denied)))
        return self._submit_run(request, denied)

    def poll(self, query_id: str, *, denied: frozenset[str] = frozenset(), show_progress: bool = False) -> Response:
        """Answer ``GET /query/{id}/``.

        Args:
            query_id: The caller's id of the run.
            denied: What the caller's key may not read; a run of a key that may read more is not there for it.
            show_progress: Tell how far the run is.

        Raises:
            ApiError: 404 for an id that is unknown or expired.
        """
        with self._lock:
            self._forget_expired()
            run = self._background.get(query_id)
        if run and not denied <= run.denied:
            run = None
        status = self._status(run, with_progress=show_progress) if run else None
        if status is None or (status["complete"] and not status["error"] and status["results"] is None):
            raise errors.not_found(f"Query {query_id} not found for team {self._project_id}")
        if not status["complete"]:
            code = 202
        elif not status["error"]:
            code = 200
        else:
            code = 400 if status["error_message"] else 500
        return Response(code, {"query_status": status})

    def cancel(self, query_id: str, *, dequeue_only: bool = False) -> Response:
        """Answer ``DELETE /query/{id}/``: stop what runs under this id, blocking or not."""
        with self._lock:
            runs = [run for run in self._active if run.query_id == query_id]
        if not runs:
            return Response(200, {"message": "Query already complete"})
        if dequeue_only and all(run.pickup_time for run in runs):
            return Response(200, {"message": "Query is already running, it was not cancelled"})
        for run in runs:
            self._stop(run)
        return Response(200, {"message": "Query cancelled"})

    def close(self) -> None:
        """Forget the background runs that still wait; those that run are the engine's to stop."""
        self._workers.shutdown(wait=False, cancel_futures=True)

    def stop(self) -> None:
        """Stop everything that waits or runs."""
        with self._lock:
            runs = list(self._active)
        for run in runs:
            self._stop(run)

    def data_changed(self) -> None:
        """Make every kept answer stale, because the tables hold new rows."""
        with self._lock:
            self._data_version += 1

    def rows(self, hogql: str, values: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """Run a HogQL query of the server's own and return its rows as dicts.

        A caller's filters may be part of it, so what system tables show is not read in it.

        Raises:
            ApiError: The query failed.
        """
        run = Run("", denied=SYSTEM_SCOPES, deadline=self._clock() + self._settings.blocking_seconds)
        translation, result = self._execute(run, {"query": hogql, "values": values or {}}, is_api_query=False)
        return [dict(zip(translation.columns, row, strict=True)) for row in result.rows]

    # ---------------------------------------------------------------------------------------- refresh modes

    def _submit_run(self, request: QueryRequest, denied: frozenset[str]) -> Response:
        mode = request.refresh
        key = self._cache_key(request.query, denied)
        query_id = request.query_id or uuid.uuid4().hex
        if mode == "force_async":
            return Response(202, {"query_status": self._status(self._start(query_id, request.query, key, denied))})
        cached, is_fresh = (None, False) if mode == "force_blocking" else self._cached(key, lazy=mode == "lazy_async")
        if cached and is_fresh:
            return Response(200, cached)
        if mode == "async_except_on_cache_miss":
            mode = "async" if cached else "blocking"
        if mode in ("async", "lazy_async"):
            status = self._status(self._start(query_id, request.query, key, denied))
            return Response(202, {**(cached or {"cache_key": key}), "query_status": status})
        return Response(200, self._finish(Run(query_id, denied=denied), request.query, key)[0])

    def _cache_key(self, query: Mapping[str, Any], denied: frozenset[str]) -> str:
        asked = {name: value for name, value in query.items() if name not in ("name", "tags", "version", "response")}
        text = json.dumps([asked, sorted(denied)], sort_keys=True)
        return f"cache_{self._project_id}_{hashlib.sha256(text.encode()).hexdigest()[:32]}"

    def _cached(self, key: str, *, lazy: bool) -> tuple[dict[str, Any] | None, bool]:
        with self._lock:
            entry = self._cache.get(key)
            data_version = self._data_version
        if entry is None:
            return None, False
        limit = self._settings.lazy_seconds if lazy else self._settings.fresh_seconds
        is_fresh = entry.data_version == data_version and self._clock() - entry.moment < limit
        answer = self._shelf.get(key)
        return ({**answer, "is_cached": True}, is_fresh) if answer else (None, False)

    def _keep(self, key: str, answer: bytes, data_version: int) -> None:
        with self._lock:
            self._cache.pop(key, None)
            if len(answer) > MAX_CACHED_BYTES:
                self._shelf.drop(key)
                return
            self._cache[key] = _Cached(self._clock(), data_version)
            self._shelf.put(key, answer)
            while len(self._cache) > CACHED_ANSWERS:
                self._shelf.drop(self._cache.popitem(last=False)[0])

    # -------------------------------------------------------------------------------------------- execution

    def _start(self, query_id: str, query: Mapping[str, Any], key: str, denied: frozenset[str]) -> Run:
        """Start a run in the background, or let it wait for its turn; a run of the same id is replaced."""
        run = Run(query_id, asynchronous=True, denied=denied)
        with self._lock:
            self._forget_expired()
            if replaced := self._background.get(query_id):
                self._shelf.drop(replaced.engine_id)
            self._background[query_id] = run
            self._active.append(run)
            run.future = self._workers.submit(self._work, run, query, key)
        return run

    def _work(self, run: Run, query: Mapping[str, Any], key: str) -> None:
        try:
            answer = self._finish(run, query, key)[1]
            with self._lock:
                if self._background.get(run.query_id) is run:
                    self._shelf.put(run.engine_id, answer)
        except ApiError as error:
            run.error = error
        except Exception:
            _LOG.exception("query %s failed", run.query_id)
            run.error = errors.internal()
        finally:
            self._end(run)

    def _end(self, run: Run) -> None:
        run.end_time = datetime.now(timezone.utc)
        run.expires = self._clock() + self._settings.keep_seconds
        run.finished.set()

    def _finish(self, run: Run, query: Mapping[str, Any], key: str) -> tuple[dict[str, Any], bytes]:
        """Execute a run and return PostHog's answer, as it is and as JSON, which is kept for the next caller."""
        with self._lock:
            if not run.asynchronous:
                self._active.append(run)
            data_version = self._data_version
        try:
            started = self._clock()
            run.deadline = started + (
                self._settings.async_seconds if run.asynchronous else self._settings.blocking_seconds
            )
            own = self._rows_of(run, query) if query["kind"] == "HogQLQuery" else self._question(run, query)
        finally:
            with self._lock:
                self._active.remove(run)
            if not run.asynchronous:
                run.finished.set()
        engine_seconds = run.progress["time_elapsed"] if run.progress else 0.0
        own["timings"] = [
            {"k": "./clickhouse_execute", "t": round(engine_seconds, 6)},
            {"k": ".", "t": round(self._clock() - started, 6)},
        ]
        answer = {**self._answer(query, key), **own}
        encoded = encode_json(answer)
        self._keep(key, encoded, data_version)
        return answer, encoded

    def _rows_of(self, run: Run, query: Mapping[str, Any]) -> dict[str, Any]:
        """Run a HogQLQuery and return what is its own of PostHog's answer."""
        translation, result = self._execute(run, query)
        rows, limit = result.rows, translation.limit
        is_cut = translation.paginated and limit is not None and len(rows) > limit
        return {
            "results": rows[:limit] if is_cut else rows,
            "columns": list(translation.columns),
            "types": _types(translation, result),
            "hasMore": is_cut if translation.paginated else None,
            "limit": limit if translation.paginated else None,
            "offset": 0 if translation.paginated else None,
            "query": query["query"],
            "hogql": translation.hogql,
            "clickhouse": translation.sql,
        }

    def _question(self, run: Run, query: Mapping[str, Any]) -> dict[str, Any]:
        """Answer a product question, which may need several queries; all of them share the run's time."""
        catalog = self._visible(run.denied)

        def ask(hogql: str, values: Mapping[str, Any]) -> Rows:
            query = {"query": hogql, "values": values}
            translation, result = self._run(run, query, is_api_query=False, limit=MAX_LIMIT)
            if len(result.rows) >= MAX_LIMIT:
                raise errors.validation(f"The question has more than {MAX_LIMIT} rows of numbers: narrow it.")
            return Rows(result.rows, list(translation.columns), _types(translation, result), translation.hogql)

        asks = Asks(catalog, datetime.now(ZoneInfo(catalog.timezone)), ask)
        try:
            with self._place(run):
                own = questions.answer(query, asks)
        except HogQLError as error:
            raise ApiError(400, "validation_error", error.code, error.message) from error
        except EngineError as error:
            raise errors.from_engine(error.name, error.message) from error
        return {"hogql": asks.hogql, **own}

    def _execute(
        self, run: Run, query: Mapping[str, Any], *, is_api_query: bool = True
    ) -> tuple[Translation, EngineResult]:
        try:
            with self._place(run) if is_api_query else nullcontext():
                return self._run(run, query, is_api_query=is_api_query)
        except HogQLError as error:
            raise self._refused(error, query, run.denied) from error
        except EngineError as error:
            raise errors.from_engine(error.name, error.message) from error

    @contextmanager
    def _place(self, run: Run) -> Iterator[None]:
        """A place among the running queries: background runs have their own, what the server asks itself needs none."""
        if run.asynchronous:
            yield
            return
        with self._gate.slot():
            run.deadline = self._clock() + self._settings.blocking_seconds  # waiting for the place is not counted
            yield

    def _run(
        self, run: Run, query: Mapping[str, Any], *, is_api_query: bool, limit: int = DEFAULT_LIMIT
    ) -> tuple[Translation, EngineResult]:
        """Translate and execute one query under the id and the time limit of its run."""
        translation = translate(
            query["query"],
            self._visible(run.denied),
            values=query.get("values"),
            filters=query.get("filters"),
            variables=query.get("variables"),
            is_api_query=is_api_query,
            default_limit=limit,
        )
        run.pickup_time = run.pickup_time or datetime.now(timezone.utc)
        if run.cancelled:
            raise errors.from_engine("QUERY_WAS_CANCELLED", "")
        seconds = min(run.deadline - self._clock(), self._settings.async_seconds)
        if seconds <= 0:
            raise errors.from_engine("TIMEOUT_EXCEEDED", "")
        try:
            result = self._engine.run(translation.sql, query_id=run.engine_id, max_execution_time=seconds)
        except EngineError as error:
            if error.name == "TIMEOUT_EXCEEDED":
                # It will be asked again, and is slow for want of columns: they are made after the first time.
                self._hot.asked(translation.properties, MIN_ROWS, MIN_QUERIES)
            raise EngineError(error.code, error.name, translation.in_own_words(error.message)) from error
        self._hot.asked(translation.properties, result.rows_read)
        before = run.progress or dict.fromkeys(("rows_read", "bytes_read", "time_elapsed"), 0)
        rows_read = before["rows_read"] + result.rows_read
        run.progress = {
            "rows_read": rows_read,
            "bytes_read": before["bytes_read"] + result.bytes_read,
            "estimated_rows_total": rows_read,
            "time_elapsed": before["time_elapsed"] + result.elapsed,
            "active_cpu_time": 0,
        }
        return translation, result

    def _refused(self, error: HogQLError, query: Mapping[str, Any], denied: frozenset[str]) -> ApiError:
        """Return the 400 of a HogQL error, with the positions and fixes that PostHog gives."""
        found = metadata(query["query"], self._visible(denied), values=query.get("values"))
        # The check knows nothing of filters and variables: what was really wrong is what is reported.
        problem = {"message": error.message, "start": error.start, "end": error.end, "fix": error.fix}
        found = {**found, "isValid": False, "errors": [problem]}
        lines = [error.message]
        if error.hint:
            lines.append(f"Hint: {error.hint}")
        if found.get("table_names"):
            lines.append(f"Tables referenced: {', '.join(found['table_names'])}")
        return ApiError(400, "validation_error", error.code, "\n".join(lines), extra={"hogql_metadata": found})

    def _visible(self, denied: frozenset[str]) -> Catalog:
        """Return the catalog as a caller may see it, with the columns that properties have by now."""
        seen = (self._catalog(), denied, self._hot.columns)
        with self._lock:
            if self._seen is None or any(new is not old for new, old in zip(seen, self._seen, strict=True)):
                self._seen, self._seen_as = seen, replace(seen[0], denied=denied, materialized=seen[2])
            return cast(Catalog, self._seen_as)

    def _stop(self, run: Run) -> None:
        """Stop a run that may wait, be on its way to the engine, in it, or out of it."""
        run.cancelled = True
        if run.future and run.future.cancel():
            with self._lock:
                self._active.remove(run)
            run.error = errors.from_engine("QUERY_WAS_CANCELLED", "")
            self._end(run)
            return
        deadline = self._clock() + self._settings.cancel_seconds
        while not self._engine.cancel(run.engine_id) and self._clock() < deadline:
            if run.finished.wait(0.02):
                return

    def _forget_expired(self) -> None:
        now = self._clock()
        for query_id in [name for name, run in self._background.items() if run.expires <= now]:
            self._shelf.drop(self._background.pop(query_id).engine_id)

    # ---------------------------------------------------------------------------------------------- answers

    def _answer(self, query: Mapping[str, Any], key: str) -> dict[str, Any]:
        """Return what the answers of all kinds have in common."""
        now = datetime.now(timezone.utc)
        return {
            "error": None,
            "explain": None,
            "metadata": None,
            "modifiers": query.get("modifiers") or {},
            "resolved_date_range": None,
            "is_cached": False,
            "cache_key": key,
            "cache_target_age": _iso(now + timedelta(seconds=self._settings.fresh_seconds)),
            "last_refresh": _iso(now),
            "next_allowed_client_refresh": _iso(now + timedelta(minutes=1)),
            "calculation_trigger": None,
            "query_metadata": None,
            "timezone": self._catalog().timezone,
            "query_status": None,
            "warnings": None,
        }

    def _status(self, run: Run, *, with_progress: bool = False) -> dict[str, Any]:
        complete = run.finished.is_set()
        error = run.error if complete else None
        # PostHog shows the text of an error that the caller can act on, and hides its own failures.
        is_shown = error is not None and error.status != 500
        return {
            "id": run.query_id,
            "team_id": self._project_id,
            "query_async": True,
            "complete": complete,
            "error": error is not None,
            "error_message": error.detail if error and is_shown else None,
            "results": self._shelf.get(run.engine_id) if complete else None,
            "start_time": _iso(run.start_time),
            "pickup_time": _iso(run.pickup_time),
            "end_time": _iso(run.end_time),
            "expiration_time": _iso(run.end_time and run.end_time + timedelta(seconds=self._settings.keep_seconds)),
            "query_progress": self._progress(run) if with_progress else None,
            "task_id": run.engine_id,
            "labels": None,
            "insight_id": None,
            "dashboard_id": None,
        }

    def _progress(self, run: Run) -> dict[str, Any]:
        """Return how far a run is: by its own account once it has ended, by the engine's processes before."""
        if run.progress is None and not run.finished.is_set():
            sql = (
                "SELECT read_rows AS rows_read, read_bytes AS bytes_read, "
                "total_rows_approx AS estimated_rows_total, elapsed AS time_elapsed, "
                "ProfileEvents['OSCPUVirtualTimeMicroseconds'] AS active_cpu_time "
                f"FROM system.processes WHERE Settings['log_comment'] = '{run.engine_id}'"
            )
            result = self._engine.run(sql, query_id=uuid.uuid4().hex, max_execution_time=2.0)
            if result.rows:
                return dict(zip((name for name, _ in result.columns), result.rows[0], strict=True))
        nothing = ("rows_read", "bytes_read", "estimated_rows_total", "time_elapsed", "active_cpu_time")
        return run.progress or dict.fromkeys(nothing, 0)


def _types(translation: Translation, result: EngineResult) -> list[list[str]]:
    return [[name, kind] for name, (_, kind) in zip(translation.columns, result.columns, strict=True)]


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat().replace("+00:00", "Z") if moment else None
