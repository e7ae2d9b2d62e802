"""What the handlers of the embedded PostHog take and give: `Request` and `Response`, values without sockets."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import parse_qs, quote, unquote, urlencode

from . import errors

__all__ = ["Drop", "Request", "Response", "Watch", "encode_json", "parse_json", "parse_list"]

Drop = Literal["", "silent", "middle", "reset"]
"""How an answer is broken off on purpose: not at all, not sent, cut in the middle of its body, connection reset."""

Watch = Callable[[Callable[[], object]], AbstractContextManager[object]]
"""Takes what is to be done when the caller hangs up, and looks out for that as long as its context lasts."""


def _unwatched(act: Callable[[], object]) -> AbstractContextManager[object]:
    return nullcontext()


@dataclass(frozen=True)
class Request:
    """One HTTP request: `headers` have lower-case names, `query` keeps all values of a repeated parameter.

    Attributes:
        watch: Looks out for a caller that hangs up; a request without a socket has nobody who could.
    """

    method: str
    path: str
    query: Mapping[str, list[str]] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    base_url: str = "http://127.0.0.1"
    watch: Watch = field(default=_unwatched, repr=False, compare=False)

    @classmethod
    def parse(
        cls,
        method: str,
        target: str,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        base_url: str = "http://127.0.0.1",
        watch: Watch = _unwatched,
    ) -> Request:
        """Build a request from the target of a request line (path and query string)."""
        path, _, query_string = target.partition("?")
        query = parse_qs(query_string, keep_blank_values=True)
        lowered = {name.lower(): value for name, value in (headers or {}).items()}
        return cls(method, unquote(path), query, lowered, body, base_url, watch)

    def param(self, name: str, default: str = "") -> str:
        """Return the last value of a query parameter, as Django does."""
        return self.query.get(name, [default])[-1]

    def flag(self, name: str) -> bool | None:
        """Return a boolean query parameter, or None when it is absent."""
        return self.param(name).lower() in ("true", "1", "") if name in self.query else None

    def number(self, name: str, default: int) -> int:
        """Return a non-negative integer parameter; anything else counts as absent, as in DRF's pagination."""
        text = self.param(name)
        return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else default

    def list_param(self, name: str) -> list[Any]:
        """Return a query parameter that is a JSON list, empty when it is absent.

        Raises:
            ApiError: 400 for anything else.
        """
        return parse_list(name, self.param(name, "[]"))

    def url_with(self, **changes: object) -> str:
        """Return this request's absolute URL with other query parameters."""
        query = {**self.query, **{name: [str(value)] for name, value in changes.items()}}
        return f"{self.base_url}{quote(self.path)}?{urlencode(query, doseq=True)}"

    def json(self) -> Any:
        """Return the parsed JSON body, an empty object without one.

        Raises:
            ApiError: 400 ``parse_error``.
        """
        return parse_json(self.body) if self.body else {}

    def json_object(self) -> dict[str, Any]:
        """Return the body, which must be a JSON object.

        Raises:
            ApiError: 400.
        """
        body = self.json()
        if not isinstance(body, dict):
            raise errors.validation(f"Invalid data. Expected a dictionary, but got {type(body).__name__}.")
        return body


@dataclass(frozen=True)
class Response:
    """One HTTP answer: a dict or list goes out as JSON, text as plain text or as its `content_type` says."""

    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "text/plain; charset=utf-8"
    drop: Drop = ""

    def encode(self) -> tuple[str, bytes]:
        """Return the content type and the bytes of the body."""
        if self.body is None:
            return self.content_type, b""
        if isinstance(self.body, str):
            return self.content_type, self.body.encode()
        return "application/json", encode_json(self.body)


def encode_json(body: Any) -> bytes:
    """Return a value as compact JSON."""
    return json.dumps(body, separators=(",", ":")).encode()


def parse_list(name: str, text: str) -> list[Any]:
    """Parse a query parameter that is a JSON list.

    Raises:
        ApiError: 400 for anything else.
    """
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, list):
        raise errors.validation("Not a valid JSON list.", attr=name)
    return value


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"Out of range float values are not JSON compliant: {text}")
    return number


def parse_json(body: bytes) -> Any:
    """Parse strict JSON: UTF-8, no NaN, no lone surrogates, no absurd depth.

    Raises:
        ApiError: 400 ``parse_error``.
    """
    try:
        value = json.loads(body.decode("utf-8"), parse_constant=_finite, parse_float=_finite)
        if b"\\u" in body:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except RecursionError:
        raise errors.unparsable("the body is nested too deeply") from None
    except ValueError as problem:
        raise errors.unparsable(str(problem)) from None
    return value
