"""Breakdowns: by which values the events of a question are told apart.

A missing or empty value is `NULL`, and what is beyond the limit is `OTHER`; both are PostHog's own texts
(``posthog/hogql_queries/insights/trends/breakdown.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from .. import errors
from ..parser import parse_expression
from ..property_filters import Condition
from ..schema import hogql_name

__all__ = ["ALL_USERS", "NULL", "OTHER", "Breakdown", "Cut", "borders_of", "breakdown_of"]

NULL = "$$_posthog_breakdown_null_$$"
OTHER = "$$_posthog_breakdown_other_$$"

ALL_USERS = "all"
"""The breakdown value of everybody, among cohorts."""

DEFAULT_LIMIT = 25
"""Breakdown values that a question shows when it does not say how many."""

WORLD_MAP_LIMIT = 250
"""Breakdown values of a world map, whatever it asks for."""

MAX_LIMIT = 1_000
"""Most breakdown values that a question may ask for."""


@dataclass(frozen=True)
class Cut:
    """One property to break down by.

    Attributes:
        key: The property, or the HogQL expression.
        kind: Whose it is: ``event, person, session, group, hogql, event_metadata``.
        group_type_index: Which group type's.
        bins: Number of bins for numbers, None for the values themselves.
        is_url: Addresses that differ in slashes and the like at their ends are one value.
    """

    key: str
    kind: str
    group_type_index: int = 0
    bins: int | None = None
    is_url: bool = False

    def hogql(self) -> str:
        """Return the value of an event, before it is made text.

        Raises:
            ApiError: 400, a kind that is not served.
        """
        name = hogql_name(self.key)
        if self.kind == "hogql":
            parse_expression(self.key)
            return f"({self.key}\n)"
        owners = {
            "event": "properties.",
            "feature": "properties.",
            "person": "person.properties.",
            "session": "session.",
            "event_metadata": "",
            "group": f"group_{self.group_type_index}.properties.",
        }
        if self.kind not in owners:
            raise errors.validation(f"The embedded server does not have breakdowns of type {self.kind}.")
        return f"{owners[self.kind]}{name}"


@dataclass(frozen=True)
class Breakdown:
    """How a question is broken down.

    Attributes:
        cuts: The properties; none for a breakdown by cohorts or no breakdown at all.
        cohorts: Ids of cohorts, or ``"all"`` for everybody.
        limit: How many values are shown.
        hides_other: Whether the rest is left out.
        is_list: Whether a value is a list of values, one for each cut.
    """

    cuts: tuple[Cut, ...] = ()
    cohorts: tuple[int | str, ...] = ()
    limit: int = DEFAULT_LIMIT
    hides_other: bool = False
    is_list: bool = False

    @property
    def is_on(self) -> bool:
        """Whether there is a breakdown."""
        return bool(self.cuts or self.cohorts)

    def hogql(self, bins: Mapping[Cut, list[float]] | None = None) -> Condition:
        """Return the breakdown value of an event: an array of texts, one for each cut.

        Args:
            bins: The borders of the bins, for cuts that have them.
        """
        texts = [_binned(cut, (bins or {})[cut]) if cut.bins else _text(cut) for cut in self.cuts]
        return Condition(f"[{', '.join(texts)}]" if texts else "['']")


def _text(cut: Cut) -> str:
    text = f"toString({cut.hogql()})"
    if cut.is_url:
        bare = f"replaceRegexpOne({text}, '[/?#]+$', '')"
        text = f"if(empty({bare}), '/', {bare})"
    return f"ifNull(nullIf({text}, ''), '{NULL}')"


def borders_of(low: float, high: float, bins: int) -> list[float]:
    """Return the borders of bins of the same width; the last one is above the highest number, as in PostHog."""
    return [*(low + (high - low) / bins * place for place in range(bins)), high + 0.01]


def _shown(number: float) -> str:
    """A number as ClickHouse writes it."""
    return str(int(number)) if number == int(number) and abs(number) < 1e15 else repr(number)


def _binned(cut: Cut, borders: list[float]) -> str:
    number = f"toFloat({cut.hogql()})"
    pairs = list(pairwise(borders))
    cases = "".join(
        f"{number} >= {low!r} AND {number} < {high!r}, '[{_shown(low)},{_shown(high)}]', " for low, high in pairs
    )
    return f"multiIf({cases}'{NULL}')" if pairs else f"'{NULL}'"


def breakdown_of(query: Mapping[str, Any]) -> Breakdown:
    """Return the breakdown of a query's ``breakdownFilter``.

    Raises:
        ApiError: 400, it says something that is not served.
    """
    given = query.get("breakdownFilter") or {}
    if given.get("breakdown_path_cleaning"):
        raise errors.validation("The embedded server does not have breakdown_path_cleaning.")
    limit = given.get("breakdown_limit") or DEFAULT_LIMIT
    if limit > MAX_LIMIT:
        raise errors.validation(f"breakdown_limit is at most {MAX_LIMIT}.")
    is_map = (query.get("trendsFilter") or {}).get("display") == "WorldMap"
    shown = Breakdown(
        limit=WORLD_MAP_LIMIT if is_map else int(limit),
        hides_other=bool(given.get("breakdown_hide_other_aggregation")),
    )
    if given.get("breakdowns"):
        return replace(shown, cuts=tuple(_cut(entry) for entry in given["breakdowns"]), is_list=True)
    key: Any = given.get("breakdown")
    if key in (None, "", []):
        return Breakdown()
    keys = key if isinstance(key, list) else [key]
    if given.get("breakdown_type") == "cohort":
        return replace(shown, cohorts=tuple(one if one == ALL_USERS else _cohort(one) for one in keys))
    entry = {
        "type": given.get("breakdown_type"),
        "group_type_index": given.get("breakdown_group_type_index"),
        "histogram_bin_count": given.get("breakdown_histogram_bin_count"),
        "normalize_url": given.get("breakdown_normalize_url"),
    }
    cuts = tuple(_cut({**entry, "property": one}) for one in keys)
    return replace(shown, cuts=cuts, is_list=len(cuts) > 1)


def _cut(entry: Mapping[str, Any]) -> Cut:
    bins = entry.get("histogram_bin_count")
    if bins is not None and not 1 <= int(bins) <= 100:
        raise errors.validation("histogram_bin_count is 1 to 100.")
    index = entry.get("group_type_index") or 0
    if index not in range(5):
        raise errors.validation("group_type_index of a breakdown is 0 to 4.")
    return Cut(
        str(entry["property"]),
        str(entry.get("type") or "event"),
        int(index),
        None if bins is None else int(bins),
        bool(entry.get("normalize_url")),
    )


def _cohort(given: Any) -> int:
    if isinstance(given, bool) or not str(given).isdigit():
        raise errors.validation(f"A breakdown by cohorts needs their ids, not {given!r}.")
    return int(given)
