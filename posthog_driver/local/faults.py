"""Scripted faults: what the embedded PostHog answers, or does to a connection, in place of the truth.

A `Fault` is one line of the script. It says what is answered (the name of one of PostHog's errors, or a status,
headers and body of one's own; neither leaves the true answer), how late, and whether the connection survives it.
A request takes the first fault of the script that fits it.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, get_args

from . import errors
from .errors import ApiError
from .wire import Drop, Request, Response

__all__ = ["NAMED", "Fault", "Script"]

_MAINTENANCE = (
    "<html>\r\n<head><title>503 Service Temporarily Unavailable</title></head>\r\n"
    "<body><center><h1>503 Service Temporarily Unavailable</h1></center></body>\r\n</html>\r\n"
)

NAMED: Mapping[str, Callable[[], ApiError | Response]] = {
    "throttled": lambda: errors.throttled(1),
    "concurrency": errors.too_many_queries,
    "timeout": lambda: errors.from_engine("TIMEOUT_EXCEEDED", ""),
    "too_slow": lambda: errors.from_engine("TOO_SLOW", ""),
    "memory": lambda: errors.from_engine("MEMORY_LIMIT_EXCEEDED", ""),
    "capacity": lambda: errors.from_engine("TOO_MANY_SIMULTANEOUS_QUERIES", ""),
    "quota": errors.quota_exceeded,
    "database": errors.database_unavailable,
    "maintenance": lambda: Response(503, _MAINTENANCE, content_type="text/html"),
    "unauthorized": errors.invalid_key,
    "forbidden": lambda: errors.missing_scope("query:read"),
    "server_error": errors.internal,
}
"""PostHog's errors by the name of what happened to it: ``throttled`` (429 with ``Retry-After``), ``concurrency``
(429 without), ``timeout`` (504), ``too_slow`` (512), ``memory`` (513), ``capacity`` (503), ``quota`` (402),
``database`` (503 with ``Retry-After``), ``maintenance`` (503 in HTML, of the proxy in front), ``unauthorized``
(401), ``forbidden`` (403), ``server_error`` (500)."""

_DROPS = {"": "", "before": "silent", "after": "silent", "middle": "middle", "reset": "reset"}


@dataclass(frozen=True)
class Fault:
    """One line of a script of faults.

    Attributes:
        name: One of PostHog's errors, as `NAMED` lists them.
        status: A status of one's own, in place of a name.
        headers: Headers of the answer, in addition to those of a named error.
        body: The body for `status`: text as it is, anything else as JSON.
        path: A regular expression that is searched for in the path of the request; every path fits an empty one.
        method: The verb it is for; empty for all.
        times: How many requests it is for; None until it is taken back.
        delay: Seconds before anything happens.
        drop: What becomes of the connection: ``before`` the request is looked at it is closed; ``after`` the
            request was carried out it is closed without an answer; in the ``middle`` of the answer's body it is
            closed; ``reset`` instead of an answer. Empty when it lives on.

    Raises:
        ValueError: A line that cannot be.
    """

    name: str = ""
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    path: str = ""
    method: str = ""
    times: int | None = 1
    delay: float = 0.0
    drop: str = ""

    def __post_init__(self) -> None:
        """Check the line."""
        problem = next(filter(None, (check(self) for check in _CHECKS)), None)
        if problem:
            raise ValueError(f"fault: {problem}")

    @classmethod
    def of(cls, given: Any) -> Fault:
        """Read a line: a `Fault`, a name, ``(status, headers, body)``, or a mapping of the attributes.

        Raises:
            ValueError: Anything else.
        """
        if isinstance(given, Fault):
            return given
        if isinstance(given, str):
            return cls(given)
        if isinstance(given, Mapping):
            unknown = given.keys() - {attribute.name for attribute in fields(cls)}
            if unknown:
                raise ValueError(f"fault: no attribute {', '.join(sorted(map(str, unknown)))}")
            return cls(**given)
        if isinstance(given, (tuple, list)) and len(given) == 3:
            return cls(status=given[0], headers=given[1], body=given[2])
        raise ValueError(f"fault: {given!r} is no name, no mapping and no (status, headers, body)")

    def to_json(self) -> dict[str, Any]:
        """Return it as `of` reads it again."""
        return asdict(self)

    def fits(self, request: Request) -> bool:
        """Tell whether it is for a request."""
        is_method = not self.method or self.method.upper() == request.method
        return is_method and re.search(self.path, request.path) is not None

    def answer(self, carry_out: Callable[[], Response]) -> Response:
        """Return the answer that it makes of a request.

        Args:
            carry_out: Carries the request out and gives the true answer.
        """
        if self.drop in ("before", "reset"):
            return Response(drop=self._drop)
        scripted = self._scripted()
        if scripted is None or self.drop == "after":
            true = carry_out()
            scripted = scripted or replace(true, headers={**true.headers, **self.headers})
        return replace(scripted, drop=self._drop)

    @property
    def _drop(self) -> Drop:
        return next(drop for drop in get_args(Drop) if drop == _DROPS[self.drop])

    def _scripted(self) -> Response | None:
        if self.name:
            named = NAMED[self.name]()
            if isinstance(named, ApiError):
                named = Response(named.status, named.body(), named.headers)
            return replace(named, headers={**named.headers, **self.headers})
        return None if self.status is None else Response(self.status, self.body, self.headers)


def _answer_problem(fault: Any) -> str | None:
    if fault.name != "" and fault.name not in NAMED:
        return f"name must be one of {', '.join(NAMED)}, got {fault.name!r}"
    if fault.status is not None and (type(fault.status) is not int or not 200 <= fault.status <= 599):
        return f"status must be between 200 and 599, got {fault.status!r}"
    if fault.name and fault.status is not None:
        return "a name and a status exclude each other"
    if fault.body is not None and fault.status is None:
        return "a body needs a status"
    try:
        json.dumps(fault.body)
    except (TypeError, ValueError) as error:
        return f"the body is no JSON: {error}"
    return None


def _headers_problem(fault: Any) -> str | None:
    if not isinstance(fault.headers, Mapping):
        return f"headers must be a mapping, got {fault.headers!r}"
    for name, value in fault.headers.items():
        texts = isinstance(name, str) and isinstance(value, str)
        if not texts or not re.fullmatch(r"[\w-]+", name, re.ASCII) or not re.fullmatch(r"[\x20-\x7e\t]*", value):
            return f"{name!r}: {value!r} is no header"
    return None


def _fit_problem(fault: Any) -> str | None:
    if not isinstance(fault.method, str):
        return f"method must be text, got {fault.method!r}"
    if fault.times is not None and (type(fault.times) is not int or fault.times < 1):
        return f"times must be at least 1, or None, got {fault.times!r}"
    try:
        re.compile(fault.path)
    except (TypeError, re.error) as error:
        return f"path is no regular expression: {error}"
    return None


def _connection_problem(fault: Any) -> str | None:
    if fault.drop not in _DROPS:
        return f"drop must be one of {', '.join(filter(None, _DROPS))}, got {fault.drop!r}"
    if isinstance(fault.delay, bool) or not isinstance(fault.delay, (int, float)) or not 0 <= fault.delay <= 3600:
        return f"delay must be seconds between 0 and 3,600, got {fault.delay!r}"
    return None


_CHECKS = (_answer_problem, _headers_problem, _fit_problem, _connection_problem)


class Script:
    """The faults that are still to come, in order. Thread-safe.

    Args:
        faults: The lines to begin with.
    """

    def __init__(self, faults: Iterable[Any] = ()) -> None:
        self._lock = threading.Lock()
        self._left: list[Fault] = []
        self.add(faults)

    def add(self, faults: Iterable[Any]) -> None:
        """Put lines at the end of the script.

        Raises:
            ValueError: One of them cannot be read; then none is added.
        """
        lines = [Fault.of(given) for given in faults]
        with self._lock:
            self._left += lines

    def clear(self) -> None:
        """Forget what is left of the script."""
        with self._lock:
            self._left.clear()

    def left(self) -> list[Fault]:
        """Return what is left of the script."""
        with self._lock:
            return list(self._left)

    def take(self, request: Request) -> Fault | None:
        """Return the first line that fits a request, and count it as used."""
        with self._lock:
            for index, fault in enumerate(self._left):
                if fault.fits(request):
                    if fault.times == 1:
                        del self._left[index]
                    elif fault.times is not None:
                        self._left[index] = replace(fault, times=fault.times - 1)
                    return fault
        return None
