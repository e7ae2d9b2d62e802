"""The functions that HogQL may call: the allow-list.

Whatever is not here does not exist; no name reaches the engine that was not written in `function_tables.py`, which is
read once at import.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from . import function_tables as tables


@dataclass(frozen=True)
class Function:
    """One callable function.

    Attributes:
        name: Its HogQL name.
        sql: The engine's name, or a template with ``{0}``.
        min_args: Least number of arguments.
        max_args: Greatest number, None for any.
        type: Coarse result type, ``same`` or ``unknown``.
        nullable: True or False when it does not depend on the arguments.
        aggregate: Whether it is an aggregation.
        params: Least and greatest number of parameters (``quantile(0.9)(x)``), (0, 0) without.
    """

    name: str
    sql: str
    min_args: int
    max_args: int | None
    type: str = "unknown"
    nullable: bool | None = True
    aggregate: bool = False
    params: tuple[int, int | None] = (0, 0)


COMPARISONS = {
    "equals": "==",
    "notEquals": "!=",
    "less": "<",
    "greater": ">",
    "lessOrEquals": "<=",
    "greaterOrEquals": ">=",
    "like": "like",
    "ilike": "ilike",
    "notLike": "not like",
    "notILike": "not ilike",
    "in": "in",
    "notIn": "not in",
}
"""Functions that mean an operator, and so follow its rules for NULL."""

RAW_STRING_ARGUMENT = frozenset({"toFloatOrZero", "toIntOrZero", "toFloatOrDefault"})
"""Functions that parse text: a typed property reaches them as the text it is stored as."""

WINDOW_ONLY = frozenset(tables.WINDOW_ONLY.split())
"""Functions that need ``OVER``."""
PARAMETRIC_FIRST_ARGUMENT = frozenset(tables.ARRAY_REDUCERS.split())
"""What ``arrayReduce`` takes as its first argument."""
NOT_HERE = frozenset(tables.NOT_HERE.split())
"""PostHog has these, the embedded one does not: they are refused by name."""
WITHIN_GROUP = frozenset(("percentile_cont", "percentile_disc"))
"""These need ``WITHIN GROUP``, which PostHog refuses for ClickHouse."""
LOOKUPS = {
    "lookupDomainType": ("domain_type", "source"),
    "lookupPaidSourceType": ("if_paid", "source"),
    "lookupPaidMediumType": ("if_paid", "medium"),
    "lookupOrganicSourceType": ("if_organic", "source"),
    "lookupOrganicMediumType": ("if_organic", "medium"),
}
"""Functions that look a name up in the dictionary of channels: what they give, and what they look for."""
FIRST_IS_DATETIME = frozenset(("tumble", "tumbleStart", "tumbleEnd", "hop", "hopStart", "hopEnd"))
"""Functions whose first argument must be a DateTime, and not one with parts of seconds."""

_WORD = re.compile(
    r"(?P<any>~?)(?P<name>\w+)(?:=(?P<sql>\w+))?/(?P<min>\d+)(?P<max>\+|-\d+)?(?::(?P<type>[a-z]+)(?P<null>[!?]?))?"
    r"(?:\((?P<params>[\d+-]+)\))?"
)


def _bounds(low: str, high: str | None) -> tuple[int, int | None]:
    if high is None:
        return int(low), int(low)
    return int(low), None if high == "+" else int(high[1:])


def _read(word: str, template: str | None, aggregate: bool) -> tuple[Function, bool]:
    found = _WORD.fullmatch(word)
    assert found is not None, word
    low, high = _bounds(found["min"], found["max"])
    params: tuple[int, int | None] = (0, 0)
    if found["params"]:
        first = re.match(r"\d+", found["params"])
        assert first is not None
        params = _bounds(first[0], found["params"][first.end() :] or None)
    nullable = {"!": False, "?": True, "": None, None: True}[found["null"]]
    sql = template or found["sql"] or found["name"]
    function = Function(found["name"], sql, low, high, found["type"] or "unknown", nullable, aggregate, params)
    return function, bool(found["any"])


def _words(text: str) -> Iterator[tuple[str, str | None]]:
    return ((word, None) for word in text.split())


def _lines(text: str) -> Iterator[tuple[str, str | None]]:
    for line in text.strip().splitlines():
        word, template = line.split(None, 1)
        yield word, template


def _combinations() -> Iterator[Function]:
    """``sumIf``, ``avgOrNull``, ``uniqStateIf``, ...: a combinator adds arguments and changes the name."""
    for word in tables.COMBINED.split():
        base = _read(word, None, True)[0]
        for suffix in tables.COMBINATORS:
            yield from _chains(base, suffix)
    for word in tables.WITH_IF.split():
        yield _with_suffix(_read(word, None, True)[0], "If")


def _chains(function: Function, suffix: str) -> Iterator[Function]:
    combined = _with_suffix(function, suffix)
    yield combined
    for more in tables.COMBINATORS[suffix].split():
        yield from _chains(combined, more)


def _with_suffix(function: Function, suffix: str) -> Function:
    more = int(suffix in ("If", "ArgMin", "ArgMax"))
    return replace(
        function,
        name=function.name + suffix,
        sql=function.sql + suffix,
        min_args=function.min_args + more,
        max_args=None if function.max_args is None else function.max_args + more,
    )


def _load() -> tuple[dict[str, Function], dict[str, Function]]:
    functions = {combined.name: combined for combined in _combinations()}
    any_case: dict[str, Function] = {}
    listed = (
        (_words(" ".join((tables.SCALARS, tables.TIMEZONE_AWARE, tables.DATES, tables.DECIMAL))), False),
        (_lines(tables.TEMPLATES), False),
        (_words(tables.WITH_IF + tables.OTHER_AGGREGATIONS), True),
        (_lines(tables.AGGREGATE_TEMPLATES), True),
    )
    for words, aggregate in listed:
        for word, template in words:
            function, insensitive = _read(word, template, aggregate)
            functions[function.name] = function
            if insensitive:
                any_case[function.name.lower()] = function
    return functions, any_case


FUNCTIONS, _ANY_CASE = _load()
TIMEZONE_AWARE = frozenset(_read(word, None, False)[0].name for word in tables.TIMEZONE_AWARE.split())
_UNITS = ("second", "minute", "hour", "day", "week", "month", "quarter", "year")
INTERVALS = {unit: f"toInterval{unit.capitalize()}" for unit in _UNITS}
"""What makes an interval of a unit, for ``dateAdd('day', 1, x)``, which the engine itself takes without quotes only."""
_LOGICAL = ("and", "or", "not")


def find(name: str) -> Function | None:
    """The function that HogQL calls by this name; a few names may be written in any case."""
    return FUNCTIONS.get(name) or _ANY_CASE.get(name.lower())


def nearest(name: str, more: Iterable[str] = ()) -> str | None:
    """The known name that looks most like this one.

    Args:
        name: A name that is not known.
        more: Names beside those of the functions here; those with an underscore in front are never offered.
    """
    known = [known for known in (*FUNCTIONS, *COMPARISONS, *_LOGICAL, *more) if not known.startswith("_")]
    matches = difflib.get_close_matches(name, known, 1)
    return matches[0] if matches else None
