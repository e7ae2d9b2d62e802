"""What the command line prints: rows as a table, JSON or CSV on standard output, lines for people on standard error.

Data is not to be trusted: wherever a terminal may show it, what the terminal would obey is escaped.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import sys
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from posthog_driver.logging_config import redact

__all__ = ["WRITERS", "note", "one_line", "printable", "say", "to_json", "write_mapping", "write_table"]

Rows = Sequence[Mapping[str, Any]]

_NARROWEST = 8


def say(text: str) -> None:
    """Write one line to standard error, without secrets; that nobody reads it there is no failure."""
    with contextlib.suppress(OSError):
        print(f"posthog-driver: {one_line(redact(text))}", file=sys.stderr, flush=True)


def note(text: str) -> None:
    """Write what is worth knowing about an answer to standard error."""
    say(f"note: {text}")


def one_line(text: str) -> str:
    """Fold a message into one line that nothing in it can break or colour."""
    # Our own messages put what it means and what to do on lines of their own: there they are sentences.
    lines = [" ".join(line.split()) for line in re.split(r"\n  (?=\S)", text) if line.strip()]
    ended = [line if line[-1] in ".:;,?!" else f"{line}." for line in lines[:-1]]
    return printable(" ".join([*ended, *lines[-1:]]))


def printable(text: str) -> str:
    r"""Escape what a terminal would obey, such as ``\x1b``, and what it would not show."""
    return text if text.isprintable() else "".join(map(_shown, text))


def _shown(char: str) -> str:
    return char if char.isprintable() or unicodedata.category(char) == "Zs" else repr(char)[1:-1]


def to_json(value: Any) -> str:
    """Return one line of JSON in which every character that does not print is escaped."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    return text if text.isprintable() else "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)


def write_json(rows: Rows, columns: Sequence[str]) -> None:
    """Write a list of objects, one on each line."""
    print("[" + ",".join(f"\n{to_json(row)}" for row in rows) + "\n]")


def write_mapping(mapping: Mapping[str, Any]) -> None:
    """Write one JSON object, a member on each line."""
    print("{" + ",".join(f"\n{to_json(name)}: {to_json(value)}" for name, value in mapping.items()) + "\n}")


def write_ndjson(rows: Rows, columns: Sequence[str]) -> None:
    """Write an object on each line, and nothing else."""
    for row in rows:
        print(to_json(row))


def write_csv(rows: Rows, columns: Sequence[str]) -> None:
    """Write RFC 4180: text stays exactly what it is, None is empty, what is neither text nor a number is JSON.

    The standard library's writer refuses NUL before Python 3.11 and makes no difference between None and empty text.
    """
    lines: Iterable[list[Any]] = [[*columns], *([row.get(name) for name in columns] for row in rows)]
    for cells in lines:
        sys.stdout.write(",".join(map(_csv_cell, cells)) + "\r\n")


def _csv_cell(value: Any) -> str:
    if value is None:
        return ""
    text = value if isinstance(value, str) else to_json(value)
    if text and not any(char in text for char in ',"\r\n'):
        return text
    return '"' + text.replace('"', '""') + '"'


def write_table(rows: Rows, columns: Sequence[str]) -> None:
    """Write aligned columns; only a terminal gets wide cells cut, and then a note says so."""
    right = [_is_numeric(row.get(name) for row in rows) for name in columns]
    lines = [[*map(printable, columns)], *([_cell(row.get(name)) for name in columns] for row in rows)]
    widths = [max(map(_width, column)) for column in zip(*lines, strict=True)]
    shown = _fitting(widths, shutil.get_terminal_size().columns) if sys.stdout.isatty() else widths
    lines.insert(1, ["─" * width for width in shown])
    for line in lines:
        print("  ".join(map(_fitted, line, shown, right)).rstrip())
    if shown != widths:
        note("wide cells are cut to fit the terminal; --format json shows all of them")


WRITERS: dict[str, Callable[[Rows, Sequence[str]], None]] = {
    "table": write_table,
    "json": write_json,
    "csv": write_csv,
    "ndjson": write_ndjson,
}


def _cell(value: Any) -> str:
    """Return a value as a table shows it; text that looks like no value at all is quoted."""
    if isinstance(value, str):
        return '"NULL"' if value == "NULL" else printable(value)
    return "NULL" if value is None else to_json(value)


def _is_numeric(values: Iterable[Any]) -> bool:
    kinds = {type(value) for value in values if value is not None}
    return bool(kinds) and kinds <= {int, float}


def _fitting(widths: list[int], room: int) -> list[int]:
    """Cut the widest columns to one width, the largest that the terminal has room for."""
    gaps = 2 * (len(widths) - 1)
    for most in range(min(room, max(widths, default=0)), _NARROWEST, -1):
        cut = [min(width, most) for width in widths]
        if sum(cut) + gaps <= room:
            return cut
    return [min(width, _NARROWEST) for width in widths]


def _fitted(text: str, width: int, right: bool) -> str:
    if _width(text) > width:
        text = text[:width]
        while _width(text) >= width:
            text = text[:-1]
        text += "…"
    padding = " " * (width - _width(text))
    return padding + text if right else text + padding


def _width(text: str) -> int:
    """Count the columns that a terminal gives a text: two for a wide character, none for an accent."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text
    )
