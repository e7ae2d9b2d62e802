"""Rows as dicts, and beside them what a caller has to know: columns, types, and whether anything is missing."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from posthog_driver._codec import promoted
from posthog_driver.exceptions import ResponseFormatError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

__all__ = ["QueryInfo", "QueryResult", "rows_to_dicts", "unique_names"]

# Rough bytes of a decoded cell in JSON, to tell whether a result is large enough to bother the collector.
_CELL_BYTES = 16


class QueryInfo(NamedTuple):
    """What an answer says beside its rows; None or empty where it does not say.

    Attributes:
        columns: Names in order, made unique: the keys of each row.
        types: ClickHouse type of each column, in the same order.
        truncated: PostHog cut the rows: there are more than it returned, or possibly more where the count ran into its
        cap.
        query_id: The ``client_query_id`` the query ran under.
        is_cached: The rows come from PostHog's cache; ``fresh=True`` asks for new ones.
        last_refresh: ISO 8601 time at which the rows were computed.
        timezone: The project's time zone.
        hogql: The query as PostHog understood it.
        limit: The LIMIT that PostHog put in when the query had none.
        warnings: The server's own warnings.
        elapsed: Seconds from the call to the answer.
    """

    columns: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    truncated: bool = False
    query_id: str | None = None
    is_cached: bool | None = None
    last_refresh: str | None = None
    timezone: str | None = None
    hogql: str | None = None
    limit: int | None = None
    warnings: tuple[Any, ...] = ()
    elapsed: float = 0.0


class QueryResult(list[dict[str, Any]]):
    """The rows of a query: a list of dicts that also carries the facts of `QueryInfo`.

    Attributes:
        info: All facts in one value; the most used ones are properties of the result itself.
    """

    def __init__(self, rows: Iterable[dict[str, Any]] = (), info: QueryInfo | None = None) -> None:
        super().__init__(rows)
        self.info = info or QueryInfo()

    @property
    def columns(self) -> list[str]:
        """Column names in order, made unique (``x``, ``x_2``): the keys of each row."""
        return list(self.info.columns)

    @property
    def types(self) -> list[str]:
        """ClickHouse type of each column, as ``Nullable(String)``."""
        return list(self.info.types)

    @property
    def truncated(self) -> bool:
        """True when PostHog cut the rows; ask with an explicit LIMIT, or page by key."""
        return self.info.truncated

    @property
    def query_id(self) -> str | None:
        """The id the query ran under, as PostHog's query log has it."""
        return self.info.query_id

    @property
    def is_cached(self) -> bool | None:
        """True when the rows come from PostHog's cache."""
        return self.info.is_cached

    @property
    def last_refresh(self) -> str | None:
        """ISO 8601 time at which the rows were computed."""
        return self.info.last_refresh


def unique_names(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names with repeats numbered, so that a dict keeps every value: ``x, x`` gives ``x, x_2``."""
    taken = set(names)
    seen: set[str] = set()
    unique = []
    for name in names:
        candidate, number = name, 1
        while candidate in seen or (number > 1 and candidate in taken):
            number += 1
            candidate = f"{name}_{number}"
        seen.add(candidate)
        unique.append(candidate)
    return tuple(unique)


def rows_to_dicts(rows: list[Any], columns: tuple[str, ...]) -> list[dict[str, Any]]:
    """Turn rows (lists in the order of ``columns``) into dicts, in place; ``columns`` must be unique.

    Raises:
        ResponseFormatError: a row is no list or has another length than ``columns``; no value is ever cut off.
    """
    if rows and set(map(type, rows)) != {list}:
        raise ResponseFormatError("PostHog's answer has a row that is no list; nothing of it is returned.")
    try:
        with promoted(len(rows) * len(columns) * _CELL_BYTES):
            _converter(columns)(rows)
    except ValueError as error:
        raise ResponseFormatError(
            f"PostHog's answer has a row that does not fit its {len(columns)} columns; nothing of it is returned."
        ) from error
    return rows


@lru_cache(maxsize=128)
def _converter(columns: tuple[str, ...]) -> Callable[[list[Any]], None]:
    """Compile the loop for one tuple of columns: a literal dict display is twice as fast as ``dict(zip(...))``."""
    if not columns:
        return _no_columns
    cells = [f"v{number}" for number in range(len(columns))]
    pairs = ", ".join(f"{name!r}: {cell}" for name, cell in zip(columns, cells, strict=True))
    source = f"def convert(rows):\n for i, ({', '.join(cells)},) in enumerate(rows):\n  rows[i] = {{{pairs}}}\n"
    namespace: dict[str, Any] = {}
    exec(source, namespace)  # names enter as literals (repr), everything else is constant
    convert: Callable[[list[Any]], None] = namespace["convert"]
    return convert


def _no_columns(rows: list[Any]) -> None:
    if any(rows):
        raise ValueError("values without columns")
    rows[:] = [{} for _ in rows]
