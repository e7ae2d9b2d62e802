"""Results that a cursor can reach: kept for a while, so that no page needs a second query."""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from posthog_driver.tools.budget import Budget
    from posthog_driver.tools.layout import Block

__all__ = ["Cursor", "Shelf", "keep", "read_cursor"]

# What a row and a cell cost beside their text.
_ROW_BYTES, _CELL_BYTES = 64, 32
_CURSOR = re.compile(r"(q[1-9]\d{0,8})(?:\.(\d{1,9}))?")


class Cursor(NamedTuple):
    """A place in a kept result: its handle, and how many rows come before."""

    handle: str
    first: int

    def __str__(self) -> str:
        return f"{self.handle}.{self.first}" if self.first else self.handle


def read_cursor(text: str) -> Cursor | None:
    """Return the cursor that a text such as ``q7`` or ``q7.100`` is, or None."""
    match = _CURSOR.fullmatch(text.strip())
    return Cursor(match[1], int(match[2] or 0)) if match else None


def keep(block: Block, budget: Budget) -> Block:
    """Return a block of as many of the first rows as are kept; if they are fewer, the block says so."""
    most = _fitting(block.rows[: budget.kept_rows], budget.kept_bytes)
    if most == len(block.rows):
        return block
    note = f"{len(block.rows)} rows came, too many to keep: only the first {most} can be shown"
    return block._replace(rows=block.rows[:most], source="cut", notes=(*block.notes, note))


def _fitting(rows: Sequence[Sequence[Any]], room: int) -> int:
    for number, row in enumerate(rows):
        room -= _ROW_BYTES + sum(map(_size, row))
        if room < 0 and number:  # one row is always kept: an answer without any could not say what is wrong
            return number
    return len(rows)


def _size(value: Any) -> int:
    if isinstance(value, (str, bytes)):
        return _CELL_BYTES + len(value)
    if isinstance(value, dict):
        return _CELL_BYTES + sum(_size(name) + _size(inner) for name, inner in value.items())
    return _CELL_BYTES + (sum(map(_size, value)) if isinstance(value, (list, tuple)) else 0)


class Keepable(Protocol):
    """What lies on a shelf."""

    @property
    def finished(self) -> float | None:
        """The moment at which it was over, None before."""


Item = TypeVar("Item", bound=Keepable)


class Shelf(Generic[Item]):
    """Holds the last results by handle, and by what was asked. Threads may share it.

    Args:
        budget: How many, and for how long.
        monotonic: Seconds from an arbitrary start.
    """

    def __init__(self, budget: Budget, monotonic: Callable[[], float]) -> None:
        self._budget = budget
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._items: OrderedDict[str, Item] = OrderedDict()
        self._handles: dict[str, str] = {}
        self._last = 0

    def new_handle(self) -> str:
        """Return a handle that was not used before: ``q1``, ``q2``, ..."""
        with self._lock:
            self._last += 1
            return f"q{self._last}"

    def put(self, handle: str, item: Item, key: str = "") -> None:
        """Keep something; what is over has to go for it, the least recently used first.

        Args:
            handle: Its handle.
            item: What to keep.
            key: What was asked, so that `find` can give it to who asks the same.
        """
        with self._lock:
            self._items[handle] = item
            if key:
                self._handles[key] = handle
            over = [name for name, kept in self._items.items() if kept.finished is not None and name != handle]
            for name in over[: max(len(self._items) - self._budget.kept_results, 0)]:
                self._remove(name)

    def get(self, handle: str) -> Item | None:
        """Return what is kept under a handle and is not too old."""
        with self._lock:
            item = self._items.get(handle)
            if item is None:
                return None
            if self._age(item) > self._budget.kept_seconds:
                self._remove(handle)
                return None
            self._items.move_to_end(handle)
            return item

    def find(self, key: str) -> tuple[Item, float] | None:
        """Return what the same question got, if that is recent, and how many seconds ago; 0 while it is running."""
        with self._lock:
            item = self._items.get(self._handles.get(key, ""))
            if item is None:
                return None
            age = self._age(item)
            return (item, age) if age <= self._budget.same_seconds else None

    def drop(self, handle: str) -> None:
        """Forget what is kept under a handle, if anything."""
        with self._lock:
            if handle in self._items:
                self._remove(handle)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._items.clear()
            self._handles.clear()

    def _age(self, item: Item) -> float:
        finished = item.finished
        return 0.0 if finished is None else self._monotonic() - finished

    def _remove(self, handle: str) -> None:
        del self._items[handle]
        for key in [key for key, kept in self._handles.items() if kept == handle]:
            del self._handles[key]
