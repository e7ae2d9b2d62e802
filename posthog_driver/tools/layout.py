r"""What an answer looks like: a header of ours, then rows inside a fence that no value can leave.

Everything between the fences was sent by somebody: cells, column names, names of events, sample values. One line is one
row, whatever it holds: line ends, tags and characters that cannot be seen are written as escapes, so that no value can
forge a row, close the fence or look like an instruction of the host. The escapes are reversible: `decode` gives the
texts back exactly. Cells are CSV, the layout that needs the fewest tokens; NULL is empty and the empty text is ``""``::

    37 rows x 3 columns, complete, 0.4 s, time zone UTC, q7
    <posthog-data id="k7f3q2">
    day,event,users
    2026-11-20,$pageview,1204
    </posthog-data id="k7f3q2">

Pure: the same block gives the same text. What was left out or shortened is said in the header.
"""

from __future__ import annotations

import dataclasses
import re
import secrets
from typing import TYPE_CHECKING, Any, NamedTuple

from posthog_driver.exceptions import ResponseFormatError, ValidationError
from posthog_driver.tools.cells import texts_of
from posthog_driver.tools.escaping import escape, is_safe, is_shortened, shorten, unescape

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

__all__ = [
    "Block",
    "Decoded",
    "Laid",
    "Limits",
    "count",
    "decode",
    "escape",
    "fence",
    "lay_out",
    "new_fence_id",
    "render",
    "unescape",
]

TAG = "posthog-data"
"""Name of the fence."""
HARD_ROWS = 1_000
HARD_CHARACTERS = 40_000
"""Most characters of an answer: one client takes results of more than 50,000 away from the model."""
HARD_CELL = 2_000

_LEAST_CHARACTERS = 2_000
_LEAST_ROOM = 200
# Digits that a header may have more than the longest that was foreseen.
_SLACK = 40
# Numbers of columns that a header lists.
_NAMED = 10
_LADDER = (100, 40, 16)
# At least as many rows are to be seen before cells are shortened further.
_FEW_ROWS = 5

# Blocks --------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Limits:
    """How much one answer shows.

    Args:
        rows: Most rows, up to 1,000.
        characters: Most characters of the whole answer, 2,000 to 40,000.
        cell: Characters of one escaped cell, up to 2,000, once the answer is large. A small one (a quarter of
            ``characters``) shows cells of up to 2,000.

    Raises:
        ValidationError: a limit is outside its range.
    """

    rows: int = 100
    characters: int = 16_000
    cell: int = 300

    def __post_init__(self) -> None:
        ranges = {"rows": (1, HARD_ROWS), "characters": (_LEAST_CHARACTERS, HARD_CHARACTERS), "cell": (20, HARD_CELL)}
        for name, (least, most) in ranges.items():
            if not least <= getattr(self, name) <= most:
                raise ValidationError(f"{name} is {getattr(self, name)}; it may be {least} to {most}.")


class Block(NamedTuple):
    """Rows on their way into an answer, and what has to be said about them.

    ``facts``, ``notes`` and ``advice`` are our own words and numbers: nothing that was captured belongs into them.

    Attributes:
        columns: Names; untrusted, as they may come from properties.
        rows: The rows from number ``first`` on, each a sequence of as many cells as there are columns.
        types: ClickHouse types of the columns, so that times can be shown in the project's zone; may be empty.
        zone: The project's time zone, such as ``Europe/Prague``.
        first: How many rows of the result come before these.
        total: Rows of the kept result, all pages; None if these are the last.
        source: Whether PostHog gave all rows: ``complete``, ``cut``, or ``perhaps`` (as many as its limit).
        missing: What else these rows do not show, as ``165 more properties``; the answer is incomplete then.
        handle: Name under which the rows are kept (``q7``); with it the header offers a cursor.
        tool: The tool that reads on from a cursor.
        advice: What else to do about missing rows.
        problem: Machine-readable kind of an answer that is an error, as ``unknown_event``; the rows help to mend it.
        facts: Phrases for the header: ``0.4 s``.
        notes: Sentences, each on a line below the header.
        long_cells: Cells may have 2,000 characters in any answer.
    """

    columns: tuple[str, ...]
    rows: Sequence[Sequence[Any]]
    types: tuple[str, ...] = ()
    zone: str | None = None
    first: int = 0
    total: int | None = None
    source: str = "complete"
    missing: str = ""
    handle: str = ""
    tool: str = "posthog_query"
    advice: str = "aggregate in SQL"
    problem: str = ""
    facts: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    long_cells: bool = False


class Laid(NamedTuple):
    """An answer's text and what it shows.

    Attributes:
        text: The answer.
        shown: Rows in it.
        left: Rows of the kept result that come after it.
        shortened: Cells in it that are shortened.
        complete: All rows and columns that the query has are in this answer, or in those before it.
    """

    text: str
    shown: int
    left: int
    shortened: int
    complete: bool


class Decoded(NamedTuple):
    """An answer, read back.

    Attributes:
        header: The lines before the fence.
        columns: Names as they were.
        rows: Cells as the texts that they were; None is NULL.
        shortened: (row, column) of each cell that ends in the mark of shortening.
        fence_id: The id of the fence.
    """

    header: tuple[str, ...]
    columns: tuple[str, ...]
    rows: list[tuple[str | None, ...]]
    shortened: frozenset[tuple[int, int]]
    fence_id: str


def new_fence_id() -> str:
    """Return an id that nobody can foresee, one for each answer."""
    return secrets.token_hex(3)


def fence(lines: Iterable[str], fence_id: str) -> str:
    """Put lines between the fences; a line that is not escaped yet is escaped."""
    inner = [line if is_safe(line) else escape(line) for line in lines]
    return "\n".join([f'<{TAG} id="{fence_id}">', *inner, f'</{TAG} id="{fence_id}">'])


def _cell(text: str | None, most: int) -> tuple[str, int]:
    """Return a CSV field and how many characters of its text it lacks."""
    if text is None:
        return "", 0
    escaped, lost = shorten(text, most)
    if not escaped or "," in escaped or '"' in escaped:
        escaped = '"' + escaped.replace('"', '""') + '"'
    return escaped, lost


# Answers -------------------------------------------------------------------------------------------------------------


def render(block: Block, limits: Limits | None = None, fence_id: str | None = None) -> str:
    """Return the text of an answer; see `lay_out`."""
    return lay_out(block, limits, fence_id).text


def lay_out(block: Block, limits: Limits | None = None, fence_id: str | None = None) -> Laid:
    """Return the answer with as many whole rows as fit.

    Where not everything fits, long cells are shortened first, then rows are left out from the end, and at last columns.

    Args:
        block: What to show.
        limits: How much to show; the defaults if None.
        fence_id: Id of the fence; a random one if None.
    """
    limits = limits or Limits()
    fence_id = fence_id or new_fence_id()
    notes = [escape(note) for note in block.notes]
    # Room for the longest header that can come: what it says must not push out what it counts.
    longest = _header(block, _Lines("", [], 0, (1,) * (_NAMED + 1), True, 0), HARD_CELL)
    around = "\n".join([longest, *notes, fence(["", ""], fence_id)])
    lines, cell = _fit(block, limits, max(limits.characters - len(around) - _SLACK, _LEAST_ROOM))
    text = "\n".join([_header(block, lines, cell), *notes, fence([lines.head, *lines.rows], fence_id)])
    left = _left(block, lines)
    complete = _completeness(block, lines) in ("complete", "to the end")
    return Laid(text, len(lines.rows), left, sum(lines.shortened), complete)


class _Lines(NamedTuple):
    """Lines of CSV: names, rows; how many columns, shortened cells of each, lost digits, characters in all."""

    head: str
    rows: list[str]
    columns: int
    shortened: tuple[int, ...]
    rounded: bool
    size: int


class _Shape(NamedTuple):
    """Characters of a cell, columns, characters in all; and how many rows make it good enough."""

    cell: int
    columns: int
    room: int
    enough: int


def _fit(block: Block, limits: Limits, room: int) -> tuple[_Lines, int]:
    """Return the lines of the first shape that shows enough in ``room`` characters, and its limit of a cell."""
    texts, rounded = texts_of(block.rows[: limits.rows], block.types, block.zone)
    for shape in _shapes(block, limits, room, len(texts)):
        lines = _lines(block.columns[: shape.columns], texts, shape)
        if len(lines.rows) >= shape.enough and lines.size <= shape.room:
            break
    return lines._replace(rounded=rounded), shape.cell


def _shapes(block: Block, limits: Limits, room: int, wanted: int) -> Iterator[_Shape]:
    columns = len(block.columns)
    few = min(wanted, _FEW_ROWS)
    if block.long_cells:
        yield _Shape(HARD_CELL, columns, room, few)
    else:
        yield _Shape(HARD_CELL, columns, room // 4, wanted)
    for cell in (limits.cell, *(step for step in _LADDER if step < limits.cell)):
        yield _Shape(cell, columns, room, few)
    while columns > 1:
        columns = columns * 2 // 3
        yield _Shape(_LADDER[-1], columns, room, min(wanted, 1))


def _lines(names: Sequence[str], texts: Sequence[Sequence[str | None]], shape: _Shape) -> _Lines:
    named = [_cell(name, shape.cell) for name in names]
    head = ",".join(name for name, _ in named)
    rows: list[str] = []
    shortened = [int(lost > 0) for _, lost in named]
    size = len(head)
    for row in texts:
        cells = [_cell(text, shape.cell) for text in row[: len(names)]]
        line = ",".join(cell for cell, _ in cells)
        if size + len(line) + 1 > shape.room:
            break
        size += len(line) + 1
        rows.append(line)
        for number, (_, lost) in enumerate(cells):
            shortened[number] += lost > 0
    return _Lines(head, rows, len(names), tuple(shortened), False, size)


# Headers: our words and numbers alone, so columns are named by their numbers ------------------------------------------


def _header(block: Block, lines: _Lines, cell: int) -> str:
    facts = [f"{_rows_shown(block, lines)} x {count(lines.columns, 'column')}", _completeness(block, lines)]
    facts += map(escape, block.facts)
    if block.zone and any("DateTime" in kind for kind in block.types):
        facts.append(f"time zone {escape(block.zone)}")
    if block.handle:
        facts.append(escape(block.handle))
    if block.problem:
        facts = [f"error {escape(block.problem)}", *map(escape, block.facts)]
    return ". ".join([", ".join(facts), *_losses(block, lines, cell), *_next(block, lines)])


def count(number: int, noun: str, plural: str = "") -> str:
    """Return ``1 row``, ``2 rows``."""
    return f"{number} {noun if number == 1 else plural or f'{noun}s'}"


def _left(block: Block, lines: _Lines) -> int:
    total = block.first + len(block.rows) if block.total is None else block.total
    return total - block.first - len(lines.rows)


def _rows_shown(block: Block, lines: _Lines) -> str:
    shown, left = len(lines.rows), _left(block, lines)
    if not shown or not (left or block.first):
        return count(shown, "row")
    return f"rows {block.first + 1}-{block.first + shown} of {block.first + shown + left}"


def _completeness(block: Block, lines: _Lines) -> str:
    if _left(block, lines) or block.source == "cut" or block.missing or lines.columns < len(block.columns):
        return "INCOMPLETE"
    if block.source == "perhaps":
        return "PERHAPS INCOMPLETE"
    return "to the end" if block.first else "complete"


def _losses(block: Block, lines: _Lines, cell: int) -> Iterator[str]:
    cut = [number for number, cells in enumerate(lines.shortened, 1) if cells]
    if cut:
        named = ", ".join(map(str, cut[:_NAMED])) + (f" and {len(cut) - _NAMED} more" if len(cut) > _NAMED else "")
        yield (
            f"{count(sum(lines.shortened), 'cell')} shortened to {cell} characters in column {named}; each ends in"
            " \\…+N, N characters left out. For the whole text ask for that row and column alone: up to"
            f" {HARD_CELL} characters are shown, and substring() has the rest"
        )
    if lines.rounded:
        yield "decimals rounded"
    if lines.columns < len(block.columns):
        yield f"only the first {lines.columns} of {len(block.columns)} columns: select fewer"


def _next(block: Block, lines: _Lines) -> Iterator[str]:
    left, advice = _left(block, lines), escape(block.advice)
    if left:
        yield f"{count(left, 'row')} left"
    if block.missing:
        yield f"not shown: {escape(block.missing)}"
    if block.source == "cut":
        yield "PostHog has more rows than it gave"
    elif block.source == "perhaps":
        yield "PostHog gave as many rows as its limit, so there may be more"
    if left and block.handle:
        cursor = f"{escape(block.handle)}.{block.first + len(lines.rows)}"
        yield f'next: {block.tool} {{"cursor":"{cursor}"}}, or {advice}'
    elif left or block.missing or block.source != "complete":
        yield f"next: {advice}"


# Reading back --------------------------------------------------------------------------------------------------------

_FENCED = re.compile(rf'(?:(.*?)\n)?<{TAG} id="([^"\n]*)">\n(.*)\n</{TAG} id="\2">(?:\n.*)?', re.DOTALL)
_FIELD = re.compile(r'(?:"((?:[^"]|"")*)"|([^",]*))(,|\Z)')


def decode(answer_text: str) -> Decoded:
    """Read an answer back.

    Raises:
        ResponseFormatError: the text is no answer of `render`.
    """
    match = _FENCED.fullmatch(answer_text)
    if match is None:
        raise ResponseFormatError("The text is no answer: there is no fence that opens and closes.")
    header, fence_id, inner = match.groups()
    lines = [_fields(line) for line in inner.split("\n")]
    names, rows = lines[0], lines[1:]
    if names == [None]:
        names, rows = [], [[] for _ in rows]
    if any(len(row) != len(names) for row in rows):
        raise ResponseFormatError(f"The text is no answer: a line has not the {len(names)} cells of the first.")
    shortened = frozenset(
        (at, number)
        for at, row in enumerate(rows)
        for number, cell in enumerate(row)
        if cell is not None and is_shortened(cell)
    )
    columns = tuple(unescape(name or "") for name in names)
    values = [tuple(None if cell is None else unescape(cell) for cell in row) for row in rows]
    return Decoded(tuple((header or "").split("\n")), columns, values, shortened, fence_id)


def _fields(line: str) -> list[str | None]:
    """Split a line of CSV; an empty field without quotes is None."""
    fields: list[str | None] = []
    at = 0
    while True:
        match = _FIELD.match(line, at)
        if match is None:
            raise ResponseFormatError("The text is no answer: a line is no CSV.")
        quoted, plain, end = match.groups()
        fields.append(quoted.replace('""', '"') if quoted is not None else plain or None)
        at = match.end()
        if not end:
            return fields
