"""Properties that are asked for often are stored in columns of their own, as PostHog does.

Reading one key of a JSON text costs about 0.5 microseconds a row, reading a column 0.02. So a property that several
queries over many rows have read gets a column beside the JSON: filled for what is stored, in the background, and by
the engine itself for whatever comes later. Its value is by definition what the JSON access gives
(`storage.property_sql`), and until it is filled the engine computes it, so answers never differ. The columns belong to
the project's tables and stay there when the data is opened again.

Why columns and not a map or ClickHouse's JSON type (one million events of the demo, one key grouped): text 440 ms, map
of all keys 210 to 260, JSON type 15, column 25; but storing all keys makes inserts 7 (map) and 20 times (JSON type)
slower and doubles the size on disk, for keys that nobody may ever ask for.
"""

from __future__ import annotations

import logging
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from . import storage

__all__ = ["Hot"]

MIN_ROWS = 30_000
"""Rows a query must read before its properties count: below that, parsing JSON takes less than 0.02 s."""

MIN_QUERIES = 2
"""Queries after which a property gets its column."""

MAX_COLUMNS = 64
"""Columns in one project; each costs an insert half a microsecond an event."""

MAX_COUNTED = 10_000
"""Properties that are counted; with more, counting begins again."""

_PLAIN = re.compile(r"[A-Za-z0-9_$ ./:-]{1,60}")

_LOG = logging.getLogger(__name__)

Property = tuple[str, str]


class Stores(Protocol):
    """What this needs of the engine."""

    def run(self, sql: str, *, query_id: str, max_execution_time: float) -> Any:
        """Run a query."""

    def execute(self, sql: str) -> None:
        """Run a statement."""


class Hot:
    """Counts which properties are read, and makes columns for them. Thread-safe.

    Args:
        engine: Holds the tables.
        database: The project's database.
        start: Runs the filling of a column; a thread of its own by default.
    """

    def __init__(
        self, engine: Stores, database: str, *, start: Callable[[Callable[[], None]], object] | None = None
    ) -> None:
        self._engine = engine
        self._database = database
        self._start = start or _in_thread
        self._lock = threading.Lock()
        self._asked: Counter[Property] = Counter()
        self._columns: Mapping[Property, str] | None = None
        self._waiting: list[Property] = []
        self._failed: set[Property] = set()
        self._is_filling = False

    @property
    def columns(self) -> Mapping[Property, str]:
        """The properties that have a column: JSON column and key, and the name of the column."""
        with self._lock:
            if self._columns is None:
                self._columns = self._found()
            return self._columns

    def asked(self, properties: Iterable[Property], rows: int, times: int = 1) -> None:
        """Take note of the properties that a query read, and of how many rows it read for them.

        Args:
            properties: Columns of `storage.JSON_COLUMNS`, and keys in them.
            rows: Rows that the query read.
            times: How many queries it counts for.
        """
        if rows < MIN_ROWS:
            return
        known = self.columns
        with self._lock:
            if len(self._asked) > MAX_COUNTED:
                self._asked.clear()
            for asked in properties:
                self._asked[asked] += times
                is_new = asked not in known and asked not in self._waiting and asked not in self._failed
                has_room = len(known) + len(self._waiting) < MAX_COLUMNS
                if is_new and has_room and self._asked[asked] >= MIN_QUERIES and _PLAIN.fullmatch(asked[1]):
                    self._waiting.append(asked)
            if not self._waiting or self._is_filling:
                return
            self._is_filling = True
        self._start(self._fill)

    def _fill(self) -> None:
        """Make the columns that wait, one after the other."""
        while True:
            with self._lock:
                if not self._waiting:
                    self._is_filling = False
                    return
                column, key = self._waiting[0]
            try:
                for statement in storage.materialize(self._database, key, column):
                    self._engine.execute(statement)
            except Exception as error:
                # The property is read from the JSON as before; it is not tried again in this process.
                _LOG.warning("no column for the property %s: %s", key, error)
                with self._lock:
                    self._failed.add((column, key))
                    self._waiting.remove((column, key))
                continue
            with self._lock:
                name = storage.materialized_name(key, column)
                self._columns = {**(self._columns or {}), (column, key): name}
                self._waiting.remove((column, key))

    def _found(self) -> Mapping[Property, str]:
        """What the tables have: the columns they were made with, and those that were added before."""
        sql = storage.materialized_columns(self._database)
        rows = self._engine.run(sql, query_id="columns", max_execution_time=10.0).rows
        return {
            (column, name.removeprefix(json.prefix)): name
            for table, name in rows
            for column, json in storage.JSON_COLUMNS.items()
            if table == json.table and name.startswith(json.prefix)
        }


def _in_thread(work: Callable[[], None]) -> None:
    threading.Thread(target=work, name="materialize", daemon=True).start()
