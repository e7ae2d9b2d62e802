"""The type that PostHog gives a property when it sees it first.

Source of the rules: ``detect_property_type`` in ``rust/property-defs-rs/src/types.rs`` of PostHog.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from typing import Any

from .capture_body import parse_timestamp

__all__ = ["property_type"]

_TEXT = re.compile(r"utm_|\$feature/|\$feature_flag_response$|\$survey_response", re.IGNORECASE)
_TIME = re.compile(r"time|date|_at|-at|createdat", re.IGNORECASE)
_RECENT = timedelta(days=182.5)
"""A number under a name that speaks of time is a moment if it is later than this long ago: 15,768,000 seconds."""

_SHORTEST_DATE = len("2026-01-02")


def property_type(name: str, value: Any) -> str | None:
    """Return the type that PostHog gives a property by its name and first value; None for lists, objects and null."""
    if isinstance(value, (list, dict)) or value is None:
        return None
    if _TEXT.match(name):
        return "String"
    if isinstance(value, bool):
        return "Boolean"
    if isinstance(value, (int, float)):
        return "DateTime" if _TIME.search(name) and value >= _recently() else "Numeric"
    text = str(value).strip()
    if text in ("true", "TRUE", "false", "FALSE"):
        return "Boolean"
    return "DateTime" if len(text) >= _SHORTEST_DATE and _is_date(text) else "String"


def _recently() -> float:
    return (datetime.now(timezone.utc) - _RECENT).timestamp()


def _is_date(text: str) -> bool:
    readers: tuple[Callable[[str], object], ...] = (_from_iso, parsedate_to_datetime)
    for read in readers:
        with suppress(ValueError, TypeError, IndexError):
            read(text)
            return True
    return False


def _from_iso(text: str) -> datetime:
    return parse_timestamp(text.replace("/", "-"))
