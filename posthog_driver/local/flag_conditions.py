"""Whether one condition of a feature flag holds, as PostHog's flag service decides it.

Source of the rules: ``rust/feature-flags/src/properties/property_matching.rs``. They are not those of queries: texts
are compared without case, and what cannot be compared does not match instead of being an error.
"""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from .dates import parse_date

__all__ = ["property_holds"]

_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
    "eq": operator.eq,
    "neq": operator.ne,
}
_NEGATIVE = {
    "is_not": "exact",
    "not_icontains": "icontains",
    "not_icontains_multi": "icontains_multi",
    "not_starts_with": "starts_with",
    "not_ends_with": "ends_with",
    "not_regex": "regex",
    "not_between": "between",
}
_RELATIVE = re.compile(r"-?(\d{1,4})([hdwmy])")
_NO_VERSION = (-1, -1, -1, (0,))
Version = tuple[int, int, int, tuple[Any, ...]]


def property_holds(entry: Mapping[str, Any], properties: Mapping[str, Any], now: datetime) -> bool:
    """Tell whether properties fulfil a filter; what cannot be decided does not.

    Args:
        entry: The filter.
        properties: Those of the person or group.
        now: For relative dates, in the project's time zone.
    """
    test, wanted = entry.get("operator") or "exact", entry.get("value")
    is_there = entry["key"] in properties
    if test in ("is_set", "is_not_set"):
        return is_there == (test == "is_set")
    if wanted is None:
        return False
    positive = _NEGATIVE.get(test)
    if not is_there:
        return positive is not None
    try:
        holds = _compare(positive or test, properties[entry["key"]], wanted, now)
    except ValueError:
        return False
    return not holds if positive else holds


def _compare(test: str, found: Any, wanted: Any, now: datetime) -> bool:
    if test == "exact":
        return _is_equal(found, wanted)
    if test in ("icontains", "icontains_multi"):
        values = wanted if isinstance(wanted, list) and test == "icontains_multi" else [wanted]
        return any(_text(value).lower() in _text(found).lower() for value in values)
    if test == "starts_with":
        return _text(found).lower().startswith(_text(wanted).lower())
    if test == "ends_with":
        return _text(found).lower().endswith(_text(wanted).lower())
    if test == "regex":
        return _searches(_text(wanted), _text(found))
    if test in _ORDER:
        return _ORDER[test](_number(found), _number(wanted))
    if test == "between":
        low, high = _bounds(wanted)
        return low <= _number(found) <= high
    if test.startswith("is_date_"):
        return _compare_dates(test, found, wanted, now)
    if test.startswith("semver_"):
        return _compare_versions(test.removeprefix("semver_"), _text(found), _text(wanted))
    return False


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _is_equal(found: Any, wanted: Any) -> bool:
    if _is_truth(wanted):
        return _is_true(found) == _is_true(wanted)
    values = wanted if isinstance(wanted, list) else [wanted]
    return any(_text(value).lower() == _text(found).lower() for value in values)


def _is_truth(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_is_truth, value))
    return isinstance(value, bool) or (isinstance(value, str) and value.lower() in ("true", "false"))


def _is_true(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_is_true, value))
    return value is True or (isinstance(value, str) and value.lower() == "true")


def _searches(pattern: str, text: str) -> bool:
    try:
        return re.search(pattern, text) is not None
    except re.error as problem:
        raise ValueError(str(problem)) from None


def _number(value: Any) -> float:
    return float(_text(value))


def _bounds(wanted: Any) -> tuple[float, float]:
    if not isinstance(wanted, list) or len(wanted) != 2:
        raise ValueError("between needs two values")
    low, high = _number(wanted[0]), _number(wanted[1])
    if not low <= high:
        raise ValueError("the least value is greater than the greatest")
    return low, high


def _compare_dates(test: str, found: Any, wanted: Any, now: datetime) -> bool:
    if not isinstance(wanted, str) or not isinstance(found, (str, int, float)) or isinstance(found, bool):
        return False
    theirs = datetime.fromtimestamp(found, now.tzinfo) if not isinstance(found, str) else _moment(found, now)
    ours = _moment(wanted, now)
    return {"is_date_before": theirs < ours, "is_date_after": theirs > ours}.get(test, theirs == ours)


def _moment(text: str, now: datetime) -> datetime:
    relative = _RELATIVE.fullmatch(text)
    return parse_date(f"-{relative[1]}{relative[2]}" if relative else text, now, exact=True)


# ----------------------------------------------------------------------------------------------------------- versions


def _compare_versions(test: str, found: str, wanted: str) -> bool:
    theirs = _version(found)
    if test in _ORDER:
        return _ORDER[test](theirs, _version(wanted))
    low, high = {"tilde": _tilde, "caret": _caret, "wildcard": _wildcard}[test](wanted)
    # A pre-release is in no range, except of its own version.
    return low <= theirs < high and (theirs[3] == (1,) or theirs[:3] == low[:3])


def _version(text: str) -> Version:
    """Return a version as a value in the order of semantic versions; missing parts are 0.

    Raises:
        ValueError: It is none.
    """
    match = re.fullmatch(r"(\d+)(?:\.(\d+))?(?:\.(\d+))?(?:-([0-9A-Za-z.-]+))?(?:\+[0-9A-Za-z.-]+)?", _plain(text))
    if match is None:
        raise ValueError(f"{text!r} is no version")
    parts = tuple(
        (0, int(part), "") if part.isdigit() else (1, 0, part) for part in (match[4] or "").split(".") if part
    )
    # A version comes after its pre-releases.
    return int(match[1]), int(match[2] or 0), int(match[3] or 0), (0, *parts) if parts else (1,)


def _plain(text: str) -> str:
    return text.strip().removeprefix("v").strip()


def _until(low: Version, position: int) -> tuple[Version, Version]:
    """Return the range from a version up to the next one in a place, without its pre-releases."""
    numbers = low[:3]
    high = [*numbers[:position], numbers[position] + 1, 0, 0]
    return low, (high[0], high[1], high[2], (0,))


def _tilde(text: str) -> tuple[Version, Version]:
    return _until(_version(text), 1)


def _caret(text: str) -> tuple[Version, Version]:
    low = _version(text)
    return _until(low, next((i for i in range(3) if low[i]), 2))


def _wildcard(text: str) -> tuple[Version, Version]:
    parts = _plain(text).split(".")
    given = parts[: next((i for i, part in enumerate(parts) if part in ("*", "x", "X")), len(parts))]
    if any(part not in ("*", "x", "X") for part in parts[len(given) :]) or len(parts) > 3:
        raise ValueError(f"{text!r} is no range of versions")
    if not given:
        return _NO_VERSION, (1 << 62, 0, 0, (0,))
    low = _version(".".join(given))
    return _until(low, len(given) - 1)
