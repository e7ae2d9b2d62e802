"""The host's side of a sandbox: the one thing that code inside may ask for, a HogQL query of one project.

The code sends a line of JSON, ``{"query": "SELECT ...", "values": {...}}``, and gets one back: ``{"rows": [...],
"info": {...}}`` or ``{"error": {...}}``. How the lines travel is the back end's business; the key stays here.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from posthog_driver import exceptions
from posthog_driver._placeholders import lex
from posthog_driver._redaction import redact
from posthog_driver.exceptions import PostHogError, RateLimitError, ValidationError
from posthog_driver.results import QueryInfo, QueryResult
from posthog_driver.sandbox import errors
from posthog_driver.sandbox.errors import ResultTooLargeError, SandboxRunError, SandboxTimeoutError

if TYPE_CHECKING:
    from posthog_driver.client import PostHogClient
    from posthog_driver.sandbox.model import SandboxLimits

__all__ = ["MAX_REQUEST_BYTES", "Ask", "Broker", "ask_client", "encode_error", "encode_rows", "read_error", "read_rows"]

MAX_REQUEST_BYTES = 1 << 20
"""Bytes that one request of the code inside may have; a back end ends a run that sends a longer line."""

Ask = Callable[[str, "Mapping[str, Any] | None", float], Sequence[Mapping[str, Any]]]
"""Answers a query with its rows: text, values, and the seconds that are left for it."""

_MOST_MESSAGE = 5_000
_MOST_REFUSED = 100
_FACTS = {
    "status": int,
    "detail": str,
    "code": str,
    "attempts": int,
    "query_id": str,
    "retry_after": (int, float),
    "scope": str,
    "position": int,
    "end": int,
    "hint": str,
    "fix": str,
}

logger = logging.getLogger("posthog_driver.sandbox")


def ask_client(client: PostHogClient) -> Ask:
    """Return an `Ask` that a client answers, with its retries, limits and errors."""

    def ask(hogql: str, values: Mapping[str, Any] | None, seconds: float) -> QueryResult:
        return client.query(hogql, values, name="posthog-driver sandbox", total_timeout=seconds)

    return ask


class Broker:
    """Answers the queries of one run.

    Args:
        ask: What answers a query.
        limits: How many queries there may be, and how large an answer.

    Attributes:
        queries: Queries asked so far, refused ones included.
    """

    def __init__(self, ask: Ask, limits: SandboxLimits) -> None:
        self._ask = ask
        self._limits = limits
        self.queries = 0

    def answer(self, line: bytes | bytearray, seconds: float) -> bytes:
        """Return the reply to a request of the code inside, as one line of JSON with its line feed.

        Whatever goes wrong with the query is part of the reply: the code inside may handle it.

        Args:
            line: What the code sent; not to be trusted.
            seconds: What is left of the run.

        Raises:
            SandboxRunError: it goes on asking long after its queries were used up; the run is to be ended.
        """
        self.queries += 1
        if self.queries > self._limits.max_queries + _MOST_REFUSED:
            raise SandboxRunError(f"The run went on asking after its {self._limits.max_queries} queries (max_queries).")
        try:
            hogql, values = _read_request(line)
            self._check(hogql, seconds)
            rows = self._ask(hogql, values, seconds)
            reply = encode_rows(rows, self._limits.max_result_bytes)
        except PostHogError as error:
            reply = encode_error(error)
        except Exception as error:
            logger.exception("a query out of a sandbox failed unexpectedly")
            failed = SandboxRunError(
                f"The query could not be answered: {type(error).__name__}. The host's log has more."
            )
            reply = encode_error(failed)
        return reply + b"\n"

    def _check(self, hogql: str, seconds: float) -> None:
        if self.queries > self._limits.max_queries:
            raise RateLimitError(
                f"A run may ask {self._limits.max_queries} queries (max_queries), and this would be one more. Nothing "
                "was sent: ask for more at once, or raise the limit."
            )
        if seconds <= 0:
            raise SandboxTimeoutError("The run's time is over. Nothing was sent.")
        words = lex(hogql).words
        if not words or words[0] not in ("select", "with"):
            raise ValidationError("Only a query can be asked: SELECT ... or WITH ... SELECT .... Nothing was sent.")


def _read_request(line: bytes | bytearray) -> tuple[str, Mapping[str, Any] | None]:
    """Return query and values, or say what is wrong with them."""
    if len(line) > MAX_REQUEST_BYTES:
        raise ValidationError(f"A query with its values may have {MAX_REQUEST_BYTES:,} bytes. Nothing was sent.")
    try:
        request = json.loads(line)
    except (ValueError, RecursionError):
        raise ValidationError("The request is no JSON. Nothing was sent.") from None
    if not isinstance(request, dict) or not set(request) <= {"query", "values"}:
        raise ValidationError("A request has query and values, and nothing else. Nothing was sent.")
    hogql, values = request.get("query"), request.get("values")
    if not isinstance(hogql, str):
        raise ValidationError("The query must be text. Nothing was sent.")
    if values is not None and not isinstance(values, dict):
        raise ValidationError("values must map names to values. Nothing was sent.")
    return hogql, values


# --- rows and errors as JSON ------------------------------------------------------------------------------------------


def encode_rows(rows: Sequence[Mapping[str, Any]], most: int) -> bytes:
    """Return a result as JSON.

    Raises:
        ResultTooLargeError: it has more than ``most`` bytes.
    """
    info = getattr(rows, "info", None) or QueryInfo(columns=tuple(rows[0]) if rows else ())
    encoded = json.dumps({"rows": list(rows), "info": info._asdict()}, separators=(",", ":")).encode()
    if len(encoded) > most:
        raise ResultTooLargeError(
            f"The result has {len(encoded):,} bytes as JSON, and max_result_bytes is {most:,}; nothing of it is "
            "returned. Select fewer columns, aggregate, or add a LIMIT."
        )
    return encoded


def read_rows(data: Any) -> QueryResult:
    """Return the result out of ``{"rows": [...], "info": {...}}``, as it came out of a sandbox.

    Raises:
        SandboxRunError: it is not that.
    """
    rows = data.get("rows") if isinstance(data, dict) else None
    info = data.get("info") if isinstance(data, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows) or not isinstance(info, dict):
        raise SandboxRunError("The sandbox's result has no rows; nothing of it is returned.")
    if not all(_are_names(info.get(name, [])) for name in ("columns", "types")):
        raise SandboxRunError("The columns of the sandbox's result are no names; nothing of it is returned.")
    known = {name: _frozen(value) for name, value in info.items() if name in QueryInfo._fields}
    return QueryResult(rows, QueryInfo(**known))


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def encode_error(error: PostHogError) -> bytes:
    """Return an error with its facts as JSON; secrets are masked."""
    facts = {name: getattr(error, name) for name in _FACTS if getattr(error, name) is not None}
    facts = {name: redact(value) if isinstance(value, str) else value for name, value in facts.items()}
    told = {"kind": type(error).__name__, "message": redact(str(error))[:_MOST_MESSAGE], "facts": facts}
    return json.dumps({"error": told}, separators=(",", ":")).encode()


def read_error(data: Any) -> PostHogError:
    """Return the error out of ``{"error": {...}}``: of the class that was raised, with its facts.

    What comes out of a sandbox may be anything: only classes of this package are made, facts have their types, and
    secrets are masked again.
    """
    told = data.get("error") if isinstance(data, dict) else None
    if not isinstance(told, dict):
        return SandboxRunError("The sandbox reported neither a result nor an error.")
    kind = _class_named(told.get("kind"))
    facts = told.get("facts")
    known = {
        name: redact(value[:_MOST_MESSAGE]) if isinstance(value, str) else value
        for name, value in (facts.items() if isinstance(facts, dict) else ())
        if name in _FACTS and isinstance(value, _FACTS[name]) and not isinstance(value, bool)  # type: ignore[arg-type]
    }
    return kind(redact(str(told.get("message"))[:_MOST_MESSAGE]), **known)


def _class_named(name: Any) -> type[PostHogError]:
    for module in (errors, exceptions):
        found = getattr(module, name, None) if isinstance(name, str) and name in module.__all__ else None
        if isinstance(found, type) and issubclass(found, PostHogError):
            return found
    return SandboxRunError
