"""What people write about product questions, read into PostHog's pieces, and refused early where it cannot be meant.

Pure. Values pass as they are: a datetime in a filter becomes text when the whole question is turned into JSON.
"""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from posthog_driver.exceptions import ValidationError

__all__ = [
    "MOST_BREAKDOWN_VALUES",
    "Moment",
    "breakdown_filter",
    "choose",
    "date_range",
    "event_nodes",
    "flag",
    "owned",
    "property_filters",
    "whole_number",
    "window",
]

MOST_BREAKDOWN_VALUES = 1_000
"""Most values of ``by`` that can be told apart: far more than anybody reads, and few enough for one answer."""

Moment: TypeAlias = "datetime.datetime | datetime.date | str | None"

_EVENT_KEYS = ("event", "where")
_OWNERS = ("event", "person", "session")
# An amount and a unit, with or without its edge: -30d, -12h, -1mStart, mStart (M is minutes, as in PostHog).
_RELATIVE = re.compile(r"-?(?:\d{1,5}[smhdwqyM]|\d{0,5}[hdwmqy](?:Start|End))")
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_WINDOW = re.compile(r"(\d{1,6})\s*([A-Za-z]+)")
_UNITS = {
    "second": ("s", "sec", "second", "seconds"),
    "minute": ("min", "minute", "minutes"),
    "hour": ("h", "hour", "hours"),
    "day": ("d", "day", "days"),
    "week": ("w", "week", "weeks"),
    "month": ("mo", "month", "months"),
}
_UNIT_OF = {word: unit for unit, words in _UNITS.items() for word in words}
_SECONDS = {"day": 86_400, "hour": 3_600, "minute": 60, "second": 1}


def refused(text: str) -> ValidationError:
    """Return the error of an argument that is refused here."""
    return ValidationError(f"{text} Nothing was sent.")


def choose(name: str, value: object, choices: Iterable[str]) -> str:
    """Return the value if it is one of the choices; the error names them and the nearest one."""
    known = tuple(choices)
    if isinstance(value, str) and value in known:
        return value
    raise refused(f"{name} is {_listed(known)}, not {value!r:.60}.{_meant(value, known)}")


def whole_number(name: str, value: object, least: int, most: int) -> int:
    """Return the value if it is a whole number within the bounds."""
    if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
        return value
    raise refused(f"{name} is a whole number from {least} to {most:,}, not {value!r:.60}.")


def flag(name: str, value: object) -> bool:
    """Return the value if it is True or False."""
    if isinstance(value, bool):
        return value
    raise refused(f"{name} is True or False, not {value!r:.60}.")


# --- events -----------------------------------------------------------------------------------------------------------


def event_nodes(name: str, given: object, least: int, most: int) -> list[dict[str, Any]]:
    """Return the nodes of events: names, dicts with ``event`` and ``where``, or None for any event.

    A single one may stand alone.
    """
    items = list(given) if isinstance(given, Sequence) and not isinstance(given, str) else [given]
    if not least <= len(items) <= most:
        possible = "one event" if least == most == 1 else f"{least} to {most} events"
        raise refused(f"{name} takes {possible}, not {len(items)}.")
    return [_event_node(name, item) for item in items]


def _event_node(name: str, given: object) -> dict[str, Any]:
    if isinstance(given, Mapping):
        for key in given:
            choose(f"A key of {name}", key, _EVENT_KEYS)
        if "event" not in given:
            raise refused(f"An entry of {name} has no 'event'.")
        event, where = given["event"], given.get("where")
    else:
        event, where = given, None
    if event is not None and (not isinstance(event, str) or not event.strip()):
        raise refused(f"{name} takes names of events such as '$pageview', or None for any event, not {event!r:.60}.")
    node: dict[str, Any] = {"kind": "EventsNode", "event": event}
    if filters := property_filters(where):
        node["properties"] = filters
    return node


# --- properties -------------------------------------------------------------------------------------------------------


def owned(name: str, path: object, owners: Sequence[str] = _OWNERS) -> tuple[str, str]:
    """Return whose a property is and what it is called there: ``person.plan`` is the person's ``plan``."""
    if not isinstance(path, str) or not path.strip():
        raise refused(f"{name} is the name of a property such as '$browser' or 'person.plan', not {path!r:.60}.")
    owner, dot, rest = path.partition(".")
    if not dot or owner not in ("person", "session"):
        owner, rest = "event", path
    if rest.startswith("properties."):
        prefix = "" if owner == "event" else f"{owner}."
        raise refused(f"{name} is written without 'properties.': {prefix + rest.removeprefix('properties.')!r:.60}.")
    if not rest.strip():
        raise refused(f"{name} names no property: {path!r:.60}.")
    if owner not in owners:
        raise refused(f"{name} cannot be a property of a {owner} here, only of {_listed(owners)}: {path!r:.60}.")
    return owner, rest


def property_filters(where: object) -> list[dict[str, Any]]:
    """Return PostHog's filters for a dict of properties: equal to a value, to one of a list, or None for not set."""
    if where is None:
        return []
    if not isinstance(where, Mapping):
        raise refused(f"where is a dict of properties and values, not a {type(where).__name__}.")
    return [_property_filter(path, value) for path, value in where.items()]


def _property_filter(path: object, value: object) -> dict[str, Any]:
    owner, key = owned("A key of where", path)
    asked: dict[str, Any] = {"key": key, "type": owner}
    if value is None:
        return {**asked, "operator": "is_not_set", "value": "is_not_set"}
    items = list(value) if isinstance(value, (list, tuple, set, frozenset)) else [value]
    if not items:
        raise refused(f"where has no value for {path!r:.60}: an empty list is nothing to equal.")
    for item in items:
        if not isinstance(item, (str, bool, int, float)) or (isinstance(item, float) and not math.isfinite(item)):
            raise refused(
                f"where takes text, numbers, booleans, lists of these, or None for {path!r:.60}, not {item!r:.60}; "
                "for other comparisons write HogQL."
            )
    return {**asked, "operator": "exact", "value": sorted(items, key=repr)}


def breakdown_filter(by: object, limit: object, owners: Sequence[str] = _OWNERS) -> dict[str, Any]:
    """Return what splits a question by a property; empty without one."""
    most = whole_number("by_limit", limit, 1, MOST_BREAKDOWN_VALUES)
    if by is None:
        return {}
    owner, key = owned("by", by, owners)
    return {"breakdownFilter": {"breakdown": key, "breakdown_type": owner, "breakdown_limit": most}}


# --- time -------------------------------------------------------------------------------------------------------------


def date_range(since: Moment, until: Moment) -> dict[str, Any]:
    """Return PostHog's range of dates, to the moment where one is given, else of whole days; empty without both."""
    first, is_moment = _date("since", since)
    last, ends_at_moment = _date("until", until)
    asked: dict[str, Any] = {key: text for key, text in (("date_from", first), ("date_to", last)) if text is not None}
    if is_moment or ends_at_moment:
        asked["explicitDate"] = True  # else PostHog goes on to the end of the last day
        if last is not None and _DAY.fullmatch(last):
            asked["date_to"] = f"{last}T23:59:59.999999"
    return {"dateRange": asked} if asked else {}


def _date(name: str, value: object) -> tuple[str | None, bool]:
    """Return PostHog's text of a date, and whether it is a moment."""
    if value is None:
        return None, False
    if isinstance(value, str):
        text = value.strip()
        if _RELATIVE.fullmatch(text) or (text == "all" and name == "since"):
            return text, False
        value = _parsed(name, text)
    if isinstance(value, datetime.datetime):
        zoned = value if value.tzinfo is not None else value.replace(tzinfo=datetime.timezone.utc)
        return zoned.astimezone(datetime.timezone.utc).isoformat(), True
    if isinstance(value, datetime.date):
        return value.isoformat(), False
    raise refused(f"{name} is a date, a datetime or text, not a {type(value).__name__}.")


def _parsed(name: str, text: str) -> datetime.date:
    try:
        if _DAY.fullmatch(text):
            return datetime.date.fromisoformat(text)
        return datetime.datetime.fromisoformat(re.sub(r"[Zz]$", "+00:00", text))
    except ValueError:
        raise refused(
            f"{name} is text such as '-30d' (h, d, w, m for months, q, y), 'mStart', '2026-11-20' or an ISO 8601 time, "
            f"not {text!r:.60}."
        ) from None


def window(within: datetime.timedelta | str) -> tuple[int, str]:
    """Return an amount and PostHog's unit for ``'14d'``, ``'30min'`` or a timedelta.

    ``m`` is refused: it is months in dates, and minutes to most people here.
    """
    if isinstance(within, datetime.timedelta):
        seconds = within.total_seconds()
        if seconds < 1 or seconds != int(seconds):
            raise refused(f"within is at least a second, and whole seconds, not {within!r}.")
        return next((int(seconds) // size, unit) for unit, size in _SECONDS.items() if seconds % size == 0)
    found = _WINDOW.fullmatch(within.strip()) if isinstance(within, str) else None
    if found and found[2] in ("m", "M"):
        raise refused(f"within={within!r} could mean minutes or months: write '{found[1]}min' or '{found[1]}mo'.")
    unit = _UNIT_OF.get(found[2]) if found else None
    if found is None or unit is None or int(found[1]) == 0:
        raise refused(
            f"within is a timedelta or text such as '14d', with s, min, h, d, w or mo after a number from 1 on, not "
            f"{within!r:.60}."
        )
    return int(found[1]), unit


def _listed(choices: Sequence[str]) -> str:
    return " or ".join(filter(None, (", ".join(map(repr, choices[:-1])), repr(choices[-1]))))


def _meant(value: object, known: Sequence[str]) -> str:
    import difflib

    nearest = difflib.get_close_matches(value, known, 1, 0.5) if isinstance(value, str) else []
    return f" Did you mean {nearest[0]!r}?" if nearest else ""
