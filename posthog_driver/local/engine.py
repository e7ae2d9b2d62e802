"""The storage and query engine of the embedded PostHog: ClickHouse, embedded by the package ``chdb-core``.

Facts about that package which shape this file:

* A connection is poisoned by a query that fails while it runs: what it had already written comes back in
  front of the *next* answer of the same connection. So one connection is kept open to keep the storage open,
  and every statement gets a fresh one (about 0.15 ms).
* A process can have one data directory, and a directory one process. `Engine` is therefore made once, in a
  process of its own (see `posthog_driver.local`).
* It has no query ids of its own. The id travels as the setting ``log_comment``, by which ``KILL QUERY`` finds
  it.

Every query (`Engine.run`) is read-only and limited in time, memory and size of its answer, whatever its SQL
says. What the package does by its own will (`Engine.execute`, `Engine.insert`) is not.

What `Engine.insert` has returned for survives the end of the process, also by SIGKILL: the engine has written it to
files by then. It does not wait for the disk, so the last seconds can be lost when the machine loses its power.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone, tzinfo
from itertools import chain
from typing import TYPE_CHECKING, Any, Protocol
from zoneinfo import ZoneInfo

from . import schema, storage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DEFAULT_MAX_EXECUTION_TIME = 60.0
"""Seconds a query may run; PostHog's default for SQL."""

DEFAULT_MAX_MEMORY_BYTES = 2 * 1024**3
"""Bytes a query may hold in memory."""

MAX_SPILL_BYTES = 10 * 1024**3
"""Bytes on disk that a query may use when its memory is not enough; more fails with code 241."""

MAX_RESULT_BYTES = 256 * 1024**2
"""Bytes of one answer, before it is printed as JSON; more fails with code 396."""

MAX_CONCURRENT_QUERIES = max(4, os.cpu_count() or 1)
"""Queries that run at the same time; others wait for their turn, as long as they may run."""

_SIZE_SETTINGS = "max_query_size = 2097152, max_ast_elements = 4000000, max_expanded_ast_elements = 4000000"
"""Room for what the translator accepts. Set before a statement: its own SETTINGS come after it was parsed."""

QUERY_WAS_CANCELLED = 394
TOO_MANY_SIMULTANEOUS_QUERIES = 202

_ANSWER_SETTINGS: dict[str, int | str] = {
    # Compiling a query that comes for the fourth time takes 40 ms and saves nothing, even at a million events.
    "compile_expressions": 0,
    "compile_aggregate_expressions": 0,
    "compile_sort_description": 0,
    "date_time_output_format": "iso",
    "output_format_json_quote_decimals": 1,
    "output_format_decimal_trailing_zeros": 1,
    "max_result_bytes": MAX_RESULT_BYTES,
}

_INSERT_COLUMNS: Mapping[str, Sequence[str]] = {
    "events": storage.EVENT_INSERT_COLUMNS,
    "persons": storage.PERSON_INSERT_COLUMNS,
    "person_distinct_ids": storage.PERSON_DISTINCT_ID_INSERT_COLUMNS,
    "groups": storage.GROUP_INSERT_COLUMNS,
    "cohort_people": storage.COHORT_PEOPLE_INSERT_COLUMNS,
}


class EngineError(Exception):
    """The engine refused a statement or gave up on it.

    Attributes:
        code: ClickHouse's error number, such as 159; 0 when the engine gave none.
        name: ClickHouse's name of it, such as ``TIMEOUT_EXCEEDED``.
        message: What it said, without number and name.
    """

    def __init__(self, code: int, name: str, message: str) -> None:
        """Keep the three facts; the text of the error shows all of them."""
        super().__init__(code, name, message)
        self.code = code
        self.name = name
        self.message = message

    def __str__(self) -> str:
        """One line with number, name and message."""
        return f"{self.name} ({self.code}): {self.message}"


@dataclass(frozen=True)
class EngineResult:
    """The answer to a query.

    Attributes:
        columns: Name and ClickHouse type of each column; names may repeat.
        rows: Values as JSON has them. Date-times are ISO 8601 text as PostHog prints them, NaN and infinities
            None.
        elapsed: Seconds the engine worked.
        rows_read: Rows read from storage.
        bytes_read: Bytes read from storage.
    """

    columns: list[tuple[str, str]]
    rows: list[list[Any]]
    elapsed: float
    rows_read: int
    bytes_read: int


class _Connection(Protocol):
    def query(self, query: str, format: str = ..., /) -> Any: ...
    def close(self) -> None: ...


@dataclass(eq=False)
class _Running:
    """A query between its arrival and its end; times are those of `time.monotonic`."""

    query_id: str
    max_execution_time: float
    started: float | None = None
    cancelled: bool = False
    ended: threading.Event = field(default_factory=threading.Event)

    def overdue(self, seconds: float) -> bool:
        """Whether it runs for more than ``seconds`` longer than it may."""
        return self.started is not None and time.monotonic() > self.started + self.max_execution_time + seconds


class Engine:
    """The storage of one embedded PostHog. Thread-safe.

    Args:
        path: Directory of the data; made (mode 0700) when it is missing. None takes a private temporary
            directory that `close` removes.

    Raises:
        EngineError: The directory is in use by another process, or is not one of ours.
        ImportError: ``chdb-core`` is not installed.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        """Open the storage and create what is missing in it."""
        import chdb  # type: ignore[import-untyped, unused-ignore]  # takes a second: only whoever opens an engine pays

        self._open: Callable[[str], _Connection] = chdb.connect
        self._temporary = path is None
        self.path = tempfile.mkdtemp(prefix="posthog-local-") if path is None else _prepare_directory(path)
        self._running: set[_Running] = set()
        self._statements = 0
        self._changed = threading.Condition()
        self._slots = threading.BoundedSemaphore(MAX_CONCURRENT_QUERIES)
        self._closed = False
        try:
            self._kept = self._open(self.path)
            self.create_database(schema.DATABASE)
        except RuntimeError as error:
            self._remove()
            raise EngineError(
                0, "STORAGE_UNAVAILABLE", f"{self.path} cannot be opened; another process may be using it ({error})"
            ) from error

    def run(
        self,
        sql: str,
        *,
        query_id: str,
        max_execution_time: float = DEFAULT_MAX_EXECUTION_TIME,
        max_memory_bytes: int = DEFAULT_MAX_MEMORY_BYTES,
    ) -> EngineResult:
        """Run a translated query, read-only.

        Args:
            sql: One ClickHouse SELECT without SETTINGS and FORMAT.
            query_id: What `cancel` names it by.
            max_execution_time: Seconds it may run. Waiting for its turn is not counted, but is not longer
                than this.
            max_memory_bytes: Memory it may use. From half of it on, grouping and sorting use files in the data
                directory.

        Returns:
            Columns and rows.

        Raises:
            EngineError: With ClickHouse's code: 159 when the time is over, 241 for memory, 396 for too large
                an answer, 394 when cancelled, 202 when its turn did not come.
        """
        settings = {
            **storage.QUERY_SETTINGS,
            **_ANSWER_SETTINGS,
            # Whole milliseconds: other fractions may not survive the engine's own rounding, and count as a change then,
            # which a read-only query is refused.
            "max_execution_time": math.ceil(max_execution_time * 1000) / 1000,
            "max_memory_usage": max_memory_bytes,
            "max_bytes_before_external_group_by": max_memory_bytes // 2,
            "max_bytes_before_external_sort": max_memory_bytes // 2,
            "max_temporary_data_on_disk_size_for_query": MAX_SPILL_BYTES,
            "log_comment": query_id,
        }
        statement = f"{sql}\nSETTINGS {_settings_sql(settings)}"
        with self._turn(_Running(query_id, max_execution_time)):
            body = self._send(statement, "JSONCompact")
        return _result(json.loads(body))

    def cancel(self, query_id: str) -> bool:
        """Stop a query that runs or waits, and give it up to a second to end.

        Returns:
            Whether there was such a query.
        """
        with self._changed:
            found = [query for query in self._running if query.query_id == query_id]
            for query in found:
                query.cancelled = True
        for query in found:
            self._kill(query)
        return bool(found)

    def overdue(self, seconds: float) -> list[str]:
        """Ids of the queries that run for more than ``seconds`` longer than they may."""
        with self._changed:
            return [query.query_id for query in self._running if query.overdue(seconds)]

    def execute(self, sql: str) -> None:
        """Run a statement of our own that answers nothing: no limits, not read-only.

        Raises:
            EngineError: The engine refused it.
        """
        self._send(sql, "Null")

    def create_database(self, name: str) -> None:
        """Make the database of a project with all its tables; what is there already stays as it is.

        Raises:
            EngineError: The engine failed.
        """
        for statement in storage.ddl(name):
            self.execute(statement)

    def drop_database(self, name: str) -> None:
        """Remove the database of a project and what is in it, if it is there.

        Raises:
            EngineError: The engine failed.
        """
        self.execute(f"DROP DATABASE IF EXISTS {schema.quote_name(name)}")

    def databases(self) -> list[str]:
        """Return the names of all databases, the engine's own among them."""
        return [str(row[0]) for row in self.run("SELECT name FROM system.databases", query_id="databases").rows]

    def insert_events(self, rows: Iterable[Mapping[str, Any]]) -> int:
        """Store events; the same as ``insert("events", rows)``."""
        return self.insert("events", rows)

    def insert(self, table: str, rows: Iterable[Mapping[str, Any]], *, database: str = schema.DATABASE) -> int:
        """Store rows; they can be queried when this returns.

        Args:
            table: ``events``, ``persons``, ``person_distinct_ids``, ``groups`` or ``cohort_people``.
            rows: Values by column (`storage.EVENT_INSERT_COLUMNS` and its like); a missing column gets its
                default. Objects become JSON text, date-times may be `datetime` or ISO 8601 text.
            database: The project's database.

        Returns:
            How many rows.

        Raises:
            ValueError: A table, a column or a number (NaN) that cannot be stored; nothing was stored.
            EngineError: The engine refused a value; nothing was stored.
        """
        columns = _INSERT_COLUMNS.get(table)
        if columns is None:
            raise ValueError(f"no table {table!r} to insert into; there are {', '.join(_INSERT_COLUMNS)}")
        lines = [_json_line(row, columns) for row in rows]
        if lines:
            names = ", ".join(schema.quote_name(name) for name in columns)
            head = f"INSERT INTO {schema.quote_name(database)}.{table} ({names})"
            # A batch may span any number of months; each is a partition, and the default refuses more than 100.
            settings = "date_time_input_format = 'best_effort', max_partitions_per_insert_block = 0"
            how = f"SETTINGS {settings} FORMAT JSONEachRow"
            self.execute("\n".join([head, how, *lines]))
        return len(lines)

    def close(self, timeout: float = 5.0) -> bool:
        """Stop what runs, close the storage, remove it if it was temporary. Calling it again does nothing.

        Args:
            timeout: Seconds to wait for running queries.

        Returns:
            False when a query did not stop: then the process must end by ``os._exit``, as a normal exit below
            a running query crashes it.
        """
        with self._changed:
            if self._closed:
                return True
            self._closed = True
            running = list(self._running)
            for query in running:
                query.cancelled = True
        for query in running:
            self._kill(query)
        with self._changed:
            idle = self._changed.wait_for(lambda: not self._running and not self._statements, timeout)
        if idle:
            self._kept.close()
        self._remove()
        return idle

    def _remove(self) -> None:
        if self._temporary:
            shutil.rmtree(self.path, ignore_errors=True)

    @contextmanager
    def _turn(self, query: _Running) -> Iterator[None]:
        """Count a query as running, and hold it until one of the slots is free."""
        with self._changed:
            self._check_open()
            self._running.add(query)
        try:
            if not self._slots.acquire(timeout=query.max_execution_time):
                raise EngineError(
                    TOO_MANY_SIMULTANEOUS_QUERIES,
                    "TOO_MANY_SIMULTANEOUS_QUERIES",
                    "Too many queries are running right now: waited "
                    f"{query.max_execution_time:g} s for one of {MAX_CONCURRENT_QUERIES} places",
                )
            try:
                if query.cancelled:
                    raise EngineError(QUERY_WAS_CANCELLED, "QUERY_WAS_CANCELLED", "Query was cancelled")
                query.started = time.monotonic()
                yield
            finally:
                self._slots.release()
        finally:
            query.ended.set()
            with self._changed:
                self._running.discard(query)
                self._changed.notify_all()

    def _kill(self, query: _Running) -> None:
        """Ask the engine to stop a query until it has ended, for a second at most.

        More than once, because a query that is just starting is not yet in the engine's list.
        """
        where = f"Settings['log_comment'] = {schema.quote_literal(query.query_id)}"
        for _ in range(20):
            if query.started is not None:
                self._query(f"KILL QUERY WHERE {where} ASYNC", "Null")
            if query.ended.wait(0.05):
                break

    def _send(self, statement: str, output_format: str) -> bytes:
        """Run a statement, unless the engine is closed; `close` waits for it."""
        with self._changed:
            self._check_open()
            self._statements += 1
        try:
            return self._query(statement, output_format)
        finally:
            with self._changed:
                self._statements -= 1
                self._changed.notify_all()

    def _check_open(self) -> None:
        if self._closed:
            raise EngineError(QUERY_WAS_CANCELLED, "QUERY_WAS_CANCELLED", "The engine is closed")

    def _query(self, statement: str, output_format: str) -> bytes:
        connection = self._open(self.path)
        try:
            connection.query(f"SET {_SIZE_SETTINGS}", "Null")
            return bytes(connection.query(statement, output_format).bytes())
        except RuntimeError as error:
            raise _engine_error(str(error)) from error
        finally:
            connection.close()


def _prepare_directory(path: str | os.PathLike[str]) -> str:
    """Make the directory, for the owner only; refuse one that holds something else."""
    absolute = os.path.abspath(os.fspath(path))
    if "?" in absolute:
        raise EngineError(0, "STORAGE_UNAVAILABLE", f"{absolute}: a question mark in the path is not possible")
    os.makedirs(absolute, mode=0o700, exist_ok=True)
    entries = os.listdir(absolute)
    if entries and "metadata" not in entries:
        raise EngineError(
            0,
            "STORAGE_UNAVAILABLE",
            f"{absolute} is not empty and holds no embedded PostHog; name an empty or a new directory",
        )
    os.chmod(absolute, 0o700)
    return absolute


def _settings_sql(settings: Mapping[str, int | float | str]) -> str:
    return ", ".join(
        f"{name} = {schema.quote_literal(value) if isinstance(value, str) else value}"
        for name, value in settings.items()
    )


_ERROR = re.compile(r"Code: (\d+)\. DB::Exception: (.*)\(([A-Z][A-Z0-9_]+)\)(?: \(version [\d.]+\))?\s*$", re.DOTALL)
_FRAME = re.compile(r"Code: \d+\. DB::Exception: |(?:\. )?\([A-Z][A-Z0-9_]+\) \(version [\d.]+\)")
_OUR_SETTINGS = re.compile(r" SETTINGS readonly = 1,.*? log_comment = '(?:[^'\\]|\\.)*'", re.DOTALL)


def _engine_error(text: str) -> EngineError:
    """Read ``Code: N. DB::Exception: text (NAME)``; the engine repeats the frame for each place it passed."""
    found = _ERROR.search(text)
    if found is None:
        return EngineError(0, "UNKNOWN_EXCEPTION", text.strip())
    code, message, name = found.groups()
    message = _OUR_SETTINGS.sub("", _FRAME.sub("", message))
    return EngineError(int(code), name, message.strip().rstrip("."))


def _json_line(row: Mapping[str, Any], columns: Sequence[str]) -> str:
    unknown = row.keys() - set(columns)
    if unknown:
        raise ValueError(f"unknown columns {', '.join(sorted(unknown))}; there are {', '.join(columns)}")
    return json.dumps({name: _stored(value) for name, value in row.items()}, allow_nan=False)


def _stored(value: Any) -> Any:
    """A value as JSONEachRow takes it; an object becomes text as JavaScript prints it, as in PostHog."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        value = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    return value


# ------------------------------------------------------------------------------ values as PostHog prints them


def _result(answer: dict[str, Any]) -> EngineResult:
    columns = [(column["name"], column["type"]) for column in answer["meta"]]
    rows: list[list[Any]] = answer["data"]
    for position, (_, type_name) in enumerate(columns):
        convert = _converter(type_name)
        if convert is not None:
            for row in rows:
                row[position] = convert(row[position])
    statistics = answer["statistics"]
    return EngineResult(columns, rows, statistics["elapsed"], statistics["rows_read"], statistics["bytes_read"])


def _converter(type_name: str) -> Callable[[Any], Any] | None:
    """What turns the engine's JSON value of a ClickHouse type into PostHog's; None when they are the same."""
    if "DateTime" not in type_name and "Float" not in type_name:
        return None
    outer, arguments = _split_type(type_name)
    if outer in ("DateTime", "DateTime64"):
        zone = next((argument.strip("'") for argument in arguments if argument.startswith("'")), None)
        return _datetime_converter(zone)
    if outer in ("Float32", "Float64"):
        return _float
    parts = [_converter(argument) for argument in arguments]
    if outer in ("Nullable", "LowCardinality"):
        return parts[0]
    if outer == "Array":
        return lambda value: [_apply(parts[0], item) for item in value]
    if outer == "Map":
        return lambda value: {_apply(parts[0], key): _apply(parts[1], item) for key, item in value.items()}
    if outer == "Tuple":
        return lambda value: _convert_tuple(value, parts)
    return None


def _float(value: Any) -> Any:
    """The engine prints 2.0 as 2, which would come back as an integer, and above 2**53 as another one."""
    return float(value) if type(value) is int else value


def _apply(convert: Callable[[Any], Any] | None, value: Any) -> Any:
    return value if convert is None else convert(value)


def _convert_tuple(value: Any, parts: Sequence[Callable[[Any], Any] | None]) -> Any:
    """A tuple is a list in JSON, or an object when its elements have names."""
    if isinstance(value, dict):
        return {key: _apply(convert, item) for (key, item), convert in zip(value.items(), parts, strict=True)}
    return [_apply(convert, item) for item, convert in zip(value, parts, strict=True)]


_TUPLE_NAME = re.compile(r"(?:[A-Za-z_]\w*|`(?:[^`\\]|\\.)*`) (?=[A-Z])")


def _split_type(type_name: str) -> tuple[str, list[str]]:
    """``Map(String, Array(UInt8))`` -> ``("Map", ["String", "Array(UInt8)"])``; without names of elements."""
    outer, _, inner = type_name.partition("(")
    arguments, depth, quote, start = [], 0, "", 0
    for position, char in enumerate(chain(inner[:-1], ",")):
        if quote:
            quote = "" if char == quote and inner[position - 1] != "\\" else quote
        elif char in "'`":
            quote = char
        elif char == "," and depth == 0:
            arguments.append(inner[start:position].strip())
            start = position + 1
        else:
            depth += (char == "(") - (char == ")")
    return outer, [_TUPLE_NAME.sub("", argument, count=1) for argument in arguments]


def _zone(name: str) -> tzinfo:
    """A zone of the engine, which has some of its own: ``Fixed/UTC+01:00:00``."""
    fixed = re.fullmatch(r"Fixed/UTC([+-])(\d\d):(\d\d):(\d\d)", name)
    if fixed is None:
        return ZoneInfo(name)
    hours, minutes, seconds = map(int, fixed.groups()[1:])
    distance = timedelta(hours=hours, minutes=minutes, seconds=seconds)
    return timezone(distance if fixed[1] == "+" else -distance)


def _datetime_converter(zone: str | None) -> Callable[[Any], Any]:
    """From the engine's UTC text to ISO 8601 in the column's own zone.

    As Python's ``isoformat`` prints it, with ``Z`` for UTC: no fraction when it is zero, else six digits. A
    column without a zone gives text without one.
    """
    info = None if zone in (None, "UTC") else _zone(zone or "UTC")
    suffix = "" if zone is None else "Z"

    def convert(value: Any) -> Any:
        if value is None:
            return None
        seconds, _, fraction = value.rstrip("Z").partition(".")
        micros = fraction[:6].ljust(6, "0")
        text = seconds if micros == "000000" else f"{seconds}.{micros}"
        if info is None:
            return text + suffix
        return datetime.fromisoformat(text).replace(tzinfo=timezone.utc).astimezone(info).isoformat()

    return convert
