"""Intervals of a project's calendar, from their definition: local days, weeks from Sunday or Monday, months, hours."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

__all__ = ["Calendar"]


@dataclass(frozen=True)
class Calendar:
    """The intervals between two days, both included.

    Attributes:
        first: The first day.
        last: The last day.
        interval: ``hour``, ``day``, ``week`` or ``month``.
        zone: The project's time zone.
        week_start: 0 for Sunday, 1 for Monday.
    """

    first: date
    last: date
    interval: str = "day"
    zone: str = "UTC"
    week_start: int = 0

    def slot(self, moment: datetime) -> Any:
        """The interval that a moment lies in: its first day, or for hours its first second in UTC."""
        local = moment.astimezone(ZoneInfo(self.zone))
        if self.interval == "hour":
            return int(moment.timestamp()) - local.minute * 60 - local.second
        return self.first_day(local.date())

    def first_day(self, day: date) -> date:
        """The first day of the day's interval."""
        if self.interval == "week":
            while day.isoweekday() % 7 != self.week_start:
                day -= timedelta(days=1)
        return day.replace(day=1) if self.interval == "month" else day

    def slots(self) -> list[Any]:
        """All intervals in order; the first one is whole, whatever day it begins on."""
        if self.interval == "hour":
            begin = datetime(self.first.year, self.first.month, self.first.day, tzinfo=ZoneInfo(self.zone))
            end = begin.replace(year=self.last.year, month=self.last.month, day=self.last.day) + timedelta(days=1)
            return list(range(int(begin.timestamp()), int(end.astimezone(timezone.utc).timestamp()), 3600))
        found: list[date] = []
        day = self.first
        while day <= self.last:
            if not found or self.first_day(day) != found[-1]:
                found.append(self.first_day(day))
            day += timedelta(days=1)
        return found

    def day(self, moment: datetime) -> date:
        """The local day of a moment."""
        return moment.astimezone(ZoneInfo(self.zone)).date()

    def holds(self, moment: datetime) -> bool:
        """Whether a moment lies in an interval: in a first week not before the first day, never after the last."""
        too_early = self.interval == "week" and self.day(moment) < self.first
        return self.slot(moment) in self.slots() and not too_early and self.day(moment) <= self.last
