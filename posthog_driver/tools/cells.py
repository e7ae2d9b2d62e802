"""Values as the texts that an answer shows: few digits, no zone that is said already, and nothing that is made up."""

from __future__ import annotations

import datetime as dt
import json
import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["local_date", "number_text", "text_of", "texts_of"]

# Above this a float has no decimals left to cut, and its plain notation grows to hundreds of digits.
_PLAIN_FLOATS = 1e15
_PRECISIONS = ("days", "minutes", "seconds", "milliseconds", "microseconds")


def texts_of(
    rows: Sequence[Sequence[Any]], types: Sequence[str], zone: str | None
) -> tuple[list[list[str | None]], bool]:
    """Return the cells as texts (None for NULL), and whether a number lost digits.

    Times of a column of type ``DateTime`` are shown in the project's zone, all with the precision that the most
    precise of them needs; one whose moment that would leave open keeps its offset.

    Args:
        rows: The rows, of the same length.
        types: ClickHouse types of the columns, or nothing.
        zone: The project's time zone; without one, times stay as they are.
    """
    texts = [[text_of(value) for value in row] for row in rows]
    rounded = any(type(value) is float and _loses(value) for row in rows for value in row)
    for column, kind in enumerate(types):
        if zone and "DateTime" in kind:
            _show_times(texts, column, zone)
    return texts, rounded


def text_of(value: Any) -> str | None:
    """Return one value as text, None for NULL; what is no text, number or truth value becomes JSON."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return number_text(value)
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)


def number_text(value: float) -> str:
    """Return a number with six significant digits below 1,000 and two decimals above."""
    if not math.isfinite(value) or abs(value) >= _PLAIN_FLOATS:
        return repr(value)
    if abs(value) < 1_000:
        return f"{value:.6g}"
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _loses(value: float) -> bool:
    return math.isfinite(value) and float(number_text(value)) != value


# Times ---------------------------------------------------------------------------------------------------------------


def _show_times(texts: list[list[str | None]], column: int, zone: str) -> None:
    in_zone = _zone(zone)
    if in_zone is None:
        return
    moments = [_moment(row[column]) for row in texts]
    local = [moment.astimezone(in_zone) if moment else None for moment in moments]
    precision = max((_precision(moment) for moment in local if moment), default=0)
    for row, moment in zip(texts, local, strict=True):
        if moment:
            row[column] = _time_text(moment, precision, in_zone)


def local_date(wall: float, zone: str | None) -> str:
    """Return the date in a time zone (UTC where it is not known) at so many seconds since the epoch."""
    return dt.datetime.fromtimestamp(wall, _zone(zone or "UTC") or dt.timezone.utc).date().isoformat()


def _zone(name: str) -> dt.tzinfo | None:
    if name in ("UTC", "Etc/UTC"):
        return dt.timezone.utc
    from zoneinfo import ZoneInfo  # loaded on use: most projects are in UTC

    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # unknown here; texts with their own offsets say the same
        return None


def _moment(text: str | None) -> dt.datetime | None:
    """Return the moment that an ISO 8601 text with a zone names, or None."""
    if not text or len(text) < len("2026-01-01T00:00:00Z"):
        return None
    try:
        moment = dt.datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return None
    return moment if moment.tzinfo else None


def _precision(moment: dt.datetime) -> int:
    if moment.microsecond:
        return 4 if moment.microsecond % 1_000 else 3
    if moment.second:
        return 2
    return 1 if moment.hour or moment.minute else 0


def _time_text(moment: dt.datetime, precision: int, zone: dt.tzinfo) -> str:
    naive = moment.replace(tzinfo=None)
    first = naive.replace(tzinfo=zone, fold=0)
    second = naive.replace(tzinfo=zone, fold=1)
    if first.utcoffset() != second.utcoffset():  # this hour comes twice
        return moment.isoformat()
    return naive.date().isoformat() if not precision else naive.isoformat(timespec=_PRECISIONS[precision])
