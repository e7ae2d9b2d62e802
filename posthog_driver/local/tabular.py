"""Lists of entities as CSV, for ``?format=csv``."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from . import errors
from .wire import Request, Response

__all__ = ["in_format"]


def in_format(request: Request, rows: Sequence[Mapping[str, Any]], answer: Any, name: str) -> Response:
    """Return a list as the request's ``format`` wants it: JSON, or CSV with nested fields as ``a.b``.

    Args:
        request: What is asked.
        rows: The entries, for CSV.
        answer: The whole answer, for JSON.
        name: Name of the file of CSV.

    Raises:
        ApiError: 404 for another format, as in PostHog.
    """
    if (format := request.param("format", "json")) == "json":
        return Response(200, answer)
    if format != "csv":
        raise errors.not_found()
    headers = {"Content-Disposition": f'attachment; filename="{name}.csv"'}
    return Response(200, _csv(rows), headers, "text/csv; charset=utf-8")


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    flat = [dict(_leaves("", row)) for row in rows]
    file = io.StringIO()
    writer = csv.DictWriter(file, list(dict.fromkeys(name for row in flat for name in row)), lineterminator="\r\n")
    writer.writeheader()
    writer.writerows(flat)
    return file.getvalue()


def _leaves(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    inner = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else None
    if inner is None:
        yield path, "" if value is None else value
    else:
        for key, entry in inner:
            yield from _leaves(f"{path}.{key}" if path else str(key), entry)
