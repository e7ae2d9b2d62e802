"""A client that answers tools from a script."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from posthog_driver import ObjectNotFoundError
from posthog_driver.results import QueryInfo, QueryResult

PATIENCE = 20.0


def result(columns: Sequence[str], rows: Sequence[Sequence[Any]], **info: Any) -> QueryResult:
    """Return the result of a query."""
    dicts = [dict(zip(columns, row, strict=True)) for row in rows]
    return QueryResult(dicts, QueryInfo(**{"columns": tuple(columns), "timezone": "UTC", "elapsed": 0.4, **info}))


def numbers(count: int, **info: Any) -> QueryResult:
    """Return a result of so many rows."""
    return result(["n"], [[number] for number in range(count)], **info)


class Slow:
    """An answer that comes when it is let go, or fails when it is cancelled."""

    def __init__(self, answer: Any, cancelled: Exception | None = None) -> None:
        self.answer = answer
        self.cancelled = cancelled or RuntimeError("cancelled")
        self.over = threading.Event()
        self.is_cancelled = False

    def get(self) -> Any:
        assert self.over.wait(PATIENCE)
        return self.cancelled if self.is_cancelled else self.answer


class FakeClient:
    """Answers queries in order: with results, exceptions, `Slow` ones, or the last one again.

    Attributes:
        calls: ``(method, arguments, options)`` of each call.
        cancelled: Ids of the queries that were cancelled.
        sent: Released for each query that arrives.
    """

    schema_source = "live"

    def __init__(self, *script: Any, metadata: Any = None) -> None:
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        self.cancelled: list[str] = []
        self.cancel_seen = threading.Event()
        self.sent = threading.Semaphore(0)
        self.metadata = metadata or {"isValid": True, "errors": [], "warnings": [], "notices": []}
        self._script = deque(script)
        self._lock = threading.Lock()
        self._slow: dict[str, Slow] = {}

    def wait_for_queries(self, number: int = 1) -> None:
        for _ in range(number):
            assert self.sent.acquire(timeout=PATIENCE)

    def queries(self, method: str = "query") -> list[tuple[Any, ...]]:
        return [arguments for name, arguments, _ in self.calls if name == method]

    def list_objects(self, *, refresh: bool = False) -> list[str]:
        return ["events", "persons"]

    def get_fields(self, name: str, *, refresh: bool = False) -> dict[str, dict[str, Any]]:
        if name == "events":
            return {
                "event": {"type": "string", "constraints": {"values": ["$pageview", "signed_up"]}},
                "timestamp": {"type": "datetime"},
                "properties.$browser": {"type": "string"},
            }
        if name == "persons":
            return {"id": {"type": "string"}, "properties.email": {"type": "string"}}
        raise ObjectNotFoundError(f"no such object: {name}")

    def query(self, hogql: str, values: Mapping[str, Any] | None = None, **options: Any) -> Any:
        return self._answer("query", (hogql, values), options)

    def trends(self, *arguments: Any, **options: Any) -> Any:
        return self._answer("trends", arguments, options)

    def funnel(self, *arguments: Any, **options: Any) -> Any:
        return self._answer("funnel", arguments, options)

    def retention(self, *arguments: Any, **options: Any) -> Any:
        return self._answer("retention", arguments, options)

    def ask(self, body: Mapping[str, Any], **options: Any) -> Any:
        with self._lock:
            self.calls.append(("ask", (dict(body),), options))
        if isinstance(self.metadata, Exception):
            raise self.metadata
        return self.metadata

    def cancel_query(self, query_id: str, *, timeout: float | None = None) -> bool:
        with self._lock:
            self.cancelled.append(query_id)
            slow = self._slow.get(query_id)
        if slow:
            slow.is_cancelled = True
            slow.over.set()
        self.cancel_seen.set()
        return slow is not None

    def _answer(self, method: str, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
        with self._lock:
            self.calls.append((method, arguments, options))
            answer = self._script.popleft() if len(self._script) > 1 else self._script[0]
            if isinstance(answer, Slow):
                self._slow[options["query_id"]] = answer
        self.sent.release()
        if isinstance(answer, Slow):
            answer = answer.get()
        if isinstance(answer, BaseException):
            raise answer
        return answer
