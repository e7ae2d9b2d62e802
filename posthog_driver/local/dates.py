"""Dates as PostHog's queries give them: ISO 8601, or relative as ``-7d`` and ``mStart``; ranges and their intervals.

Everything here is pure: the current time comes in, aware and in the project's time zone, and all results are in that
zone too. PostHog's own rules: ``posthog/utils.py`` (relative dates), ``query_date_range.py`` (ranges).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from typing import Any

__all__ = ["INTERVALS", "TIMES_OF_DAY", "DateRange", "add", "floor", "parse_date"]

INTERVALS = ("second", "minute", "hour", "day", "week", "month", "quarter", "year")
"""Intervals that dates can be counted in; the questions take ``minute`` to ``month``."""

TIMES_OF_DAY = ("second", "minute", "hour")
"""Intervals shorter than a day."""

MAX_BUCKETS = 50_000
"""Most intervals in one range."""

_RELATIVE = re.compile(r"([-+]?)(\d*)([smhdwqyHDWQYM])(Start|End)?")
_UNITS = {"s": "second", "M": "minute", "h": "hour", "d": "day", "w": "week", "m": "month", "q": "quarter", "y": "year"}
_MONTHS = {"month": 1, "quarter": 3, "year": 12}
_SECONDS = {"second": 1, "minute": 60, "hour": 3600}


def parse_date(text: str, now: datetime, *, end_of_day: bool = False, exact: bool = False) -> datetime:
    """Return the moment that a date of a query means.

    Args:
        text: ``2026-01-31``, ``2026-01-31T12:30:00Z``, or relative: an amount and a unit (``s, M`` minutes, ``h, d, w,
            m`` months, ``q, y``) with or without ``Start`` or ``End``: ``-7d``, ``-24h``, ``dStart``, ``-1mStart``,
            ``-1mEnd``. Without a sign it is in the past too, as in PostHog.
        now: The current time, aware, in the project's time zone.
        end_of_day: A date without a time of day means its last microsecond instead of its first.
        exact: A relative date keeps the time of day of `now`; else days and longer units begin at midnight, hours at
            their first minute, as in PostHog.

    Returns:
        The moment, in the zone of `now`.

    Raises:
        ValueError: It is none of these.
    """
    if match := _RELATIVE.fullmatch(text.strip()):
        try:
            return _relative(match, now, end_of_day=end_of_day, exact=exact)
        except ValueError:
            raise ValueError(f"Invalid date: {text}") from None
    try:
        moment = datetime.fromisoformat(re.sub(r"[Zz]$", "+00:00", _six_digits(text.strip())))
    except ValueError:
        raise ValueError(f"Invalid date: {text}") from None
    moment = moment.astimezone(now.tzinfo) if moment.tzinfo else moment.replace(tzinfo=now.tzinfo)
    return last_moment(moment, "day") if end_of_day and len(text.strip()) == 10 else moment


def floor(moment: datetime, interval: str, week_start: int = 0) -> datetime:
    """Return the start of the interval that a moment lies in; weeks start on Sunday (0) or Monday (1)."""
    cut: dict[str, int] = {"microsecond": 0}
    for name in ("second", "minute", "hour"):
        if interval == name:
            return moment.replace(**cut)  # type: ignore[arg-type]
        cut[name] = 0
    if interval == "day":
        return _at(moment, cut)
    if interval == "week":
        return _at(moment - timedelta(days=(moment.isoweekday() - week_start) % 7), cut)
    month = {"month": moment.month, "quarter": (moment.month - 1) // 3 * 3 + 1, "year": 1}[interval]
    return _at(moment, {**cut, "day": 1, "month": month})


def add(moment: datetime, amount: int, interval: str) -> datetime:
    """Return a moment that many intervals later; the day is the month's last where it has no such day.

    Days and longer ones keep the time of day over changes of summer time, hours and shorter ones are exact.

    Raises:
        ValueError: That year does not exist.
    """
    try:
        if interval in _MONTHS:
            months = moment.year * 12 + moment.month - 1 + amount * _MONTHS[interval]
            first = moment.replace(year=months // 12, month=months % 12 + 1, day=1)
            return first.replace(day=min(moment.day, ((first + timedelta(days=32)).replace(day=1) - first).days))
        if interval in _SECONDS:
            utc = moment.astimezone(_UTC) + timedelta(seconds=amount * _SECONDS[interval])
            return utc.astimezone(moment.tzinfo)
        return moment + timedelta(days=amount * (7 if interval == "week" else 1))
    except (OverflowError, ValueError) as error:
        raise ValueError(f"{amount} {interval}s from {moment.date()} is no date: {error}") from error


def last_moment(moment: datetime, interval: str, week_start: int = 0) -> datetime:
    """Return the last microsecond of the interval that a moment lies in."""
    return add(floor(moment, interval, week_start), 1, interval) - timedelta(microseconds=1)


@dataclass(frozen=True)
class DateRange:
    """A range of time; both ends belong to it.

    Attributes:
        date_from: Its first moment.
        date_to: Its last moment.
        interval: The unit that it is cut into.
        week_start: First day of the week, 0 is Sunday and 1 is Monday.
        is_exact: Nothing before `date_from` counts; else what its interval holds of the days before does too.
        is_weeks: Given as ``-7d``, ``-14d`` ...: whole weeks and today.
    """

    date_from: datetime
    date_to: datetime
    interval: str = "day"
    week_start: int = 0
    is_exact: bool = False
    is_weeks: bool = False

    @classmethod
    def from_query(
        cls,
        query: Mapping[str, Any],
        now: datetime,
        *,
        default: str = "-7d",
        earliest: datetime | None = None,
        week_start: int = 0,
        to_now: bool = False,
    ) -> DateRange:
        """Return the range of a query's ``dateRange`` and ``interval``.

        Args:
            query: The query node.
            now: The current time, aware, in the project's time zone.
            default: ``date_from`` of a query that has none.
            earliest: Where ``all`` begins: the project's first event.
            week_start: First day of the week.
            to_now: Relative dates keep the time of day, and the range ends now when it does not say when.

        Raises:
            ValueError: A date is none, or the range ends before it begins.
        """
        given = query.get("dateRange") or {}
        interval = query.get("interval") or "day"
        explicit = bool(given.get("explicitDate"))
        text, end = given.get("date_from") or default, given.get("date_to")
        if text == "all":
            first = floor(earliest or now, "day")
        else:
            first = parse_date(
                text, now, exact=interval in ("second", "minute") or (to_now and bool(given.get("date_from")))
            )
        last = now if to_now and not end else _last(end, now, interval, explicit=explicit)
        if last < first:
            raise ValueError(f"The range ends ({last.isoformat()}) before it begins ({first.isoformat()}).")
        relative = _RELATIVE.fullmatch(text.strip())
        unit = _unit(relative[3]) if relative else ""
        is_short = interval in _SECONDS or (interval == "day" and unit == "hour")
        is_exact = to_now or explicit or bool(given.get("date_from") and relative and is_short)
        days = int(relative[2] or 0) if relative and unit == "day" else 0
        is_weeks = days > 0 and days % 7 == 0 and not _RELATIVE.fullmatch((end or "").strip())
        return cls(first, last, interval, week_start, is_exact, is_weeks)

    @property
    def first_counted(self) -> datetime:
        """The first moment whose events count: that of the first interval, but never a day before a first week."""
        if self.is_exact:
            return self.date_from
        return floor(self.date_from, "day" if self.interval == "week" else self.interval, self.week_start)

    def previous(self, compare_to: str | None = None) -> DateRange:
        """Return the range to compare with: the one before, or the same one as long ago as ``compare_to`` (``-1w``).

        The one before has the same times of day. Before ``-7d``, which has eight days, it begins fourteen days ago, so
        that the same days of the week are compared; all of this is PostHog's (``get_compare_period_dates``).
        """
        length = self.date_to - self.date_from
        if compare_to:
            first = _shifted(compare_to, self.date_from)
            return replace(self, date_from=first, date_to=first + length)
        if self.interval in ("second", "minute") or (self.interval == "hour" and length < timedelta(days=1)):
            last = self.date_from - timedelta(microseconds=1)
            return replace(self, date_from=last - length, date_to=last)
        first = datetime.combine(self.date_from - length, self.date_from.timetz())
        if self.is_weeks and self.interval == "day":
            first += timedelta(days=1)
        last = first + length
        if self.interval != "hour":
            last = datetime.combine(last, self.date_to.timetz())
        return replace(self, date_from=first, date_to=last)

    def buckets(self) -> list[datetime]:
        """Return the start of each interval of the range, the first one whole.

        Raises:
            ValueError: There are more than `MAX_BUCKETS`.
        """
        found = [floor(self.date_from, self.interval, self.week_start)]
        while (following := add(found[0], len(found), self.interval)) <= self.date_to:
            found.append(following)
            if len(found) > MAX_BUCKETS:
                raise ValueError(f"The range has more than {MAX_BUCKETS} intervals of a {self.interval}.")
        return found


_UTC = timezone.utc


def _at(moment: datetime, parts: Mapping[str, int]) -> datetime:
    """Return a moment with another time of day; of an hour that summer time repeats, the first."""
    return moment.replace(fold=0, **parts)  # type: ignore[arg-type]


def _six_digits(text: str) -> str:
    """Python 3.10 reads fractions of three and six digits alone."""
    return re.sub(r"\.(\d+)", lambda found: f".{found[1]:0<6.6}", text)


def _unit(letter: str) -> str:
    return _UNITS.get(letter) or _UNITS[letter.lower()]


def _last(text: str | None, now: datetime, interval: str, *, explicit: bool) -> datetime:
    """The end of a range: of its day, or of its hour or minute where a relative date names it; explicit, as it is."""
    unit = interval if interval in _SECONDS else "day"
    if not text:
        return now if explicit else last_moment(now, unit)
    moment = parse_date(text, now, end_of_day=not explicit, exact=True)
    if explicit or (unit != "day" and not _RELATIVE.fullmatch(text.strip())):
        return moment
    return last_moment(moment, unit)


def _relative(match: re.Match[str], now: datetime, *, end_of_day: bool, exact: bool) -> datetime:
    sign, digits, letter, position = match.groups()
    unit = _unit(letter)
    moment = add(now, int(digits or 0) * (1 if sign == "+" else -1), unit)
    if position:
        moment = floor(moment, unit)
        return last_moment(moment, unit) if position == "End" else moment
    if exact or unit in ("second", "minute"):
        return moment
    if unit == "hour":
        return floor(moment, "hour")
    return last_moment(moment, "day") if end_of_day else floor(moment, "day")


def _shifted(compare_to: str, moment: datetime) -> datetime:
    match = _RELATIVE.fullmatch(compare_to.strip())
    if match is None or match[4] or not match[2]:
        raise ValueError(f"Invalid date: {compare_to}")
    return add(moment, -int(match[2]), _unit(match[3]))
