"""PostHog's property filters as HogQL conditions: pure, and values travel beside the text.

A filter is ``{"key", "value", "operator", "type"}``; a group is ``{"type": "AND" or "OR", "values": [...]}``; a list
means AND. `condition` turns any of them into a `Condition`, whose text holds placeholders for every value; `Names`
hands out their names, so that the conditions of one query can stand beside each other. A comparison with a missing
property is false, and so true for the operators that say "not" (but not_between), as in PostHog.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from .conditions import FALSE, TRUE, Condition, Names, Scope, bound, joined
from .database import find_table
from .dates import parse_date
from .elements import element_condition
from .parser import HogQLError, parse_expression
from .schema import Catalog, hogql_name

__all__ = ["FALSE", "TRUE", "Condition", "Names", "Scope", "bound", "condition", "joined"]


def condition(filters: Any, scope: Scope) -> Condition:
    """Return the condition that property filters stand for.

    Args:
        filters: One filter, a group, a list of either, or nothing.
        scope: Where it stands.

    Raises:
        HogQLError: It is no filter, or one that cannot be answered here; the text names it.
    """
    if not filters:
        return TRUE
    if isinstance(filters, Sequence) and not isinstance(filters, str):
        return joined([condition(entry, scope) for entry in filters])
    if not isinstance(filters, Mapping):
        raise HogQLError(f"Properties are unparsable: {filters!r} is no filter.")
    if isinstance(filters.get("values"), Sequence):
        operator = str(filters.get("type", "AND")).upper()
        if operator not in ("AND", "OR"):
            raise HogQLError(f"A filter group joins by AND or OR, not {operator}.")
        # An empty group filters nothing, whatever joins it.
        parts = [condition(entry, scope) for entry in filters["values"]]
        return joined(parts, operator) if parts else TRUE
    found = _one(filters, scope)
    return Condition(f"not({found.hogql})", found.values) if filters.get("negation") else found


def _one(entry: Mapping[str, Any], scope: Scope) -> Condition:
    kind, key = entry.get("type") or "event", entry.get("key")
    if kind == "hogql":
        return _expression(str(key))
    if kind in ("cohort", "static-cohort", "precalculated-cohort"):
        return _cohort(entry, scope)
    if not isinstance(key, str) or not key:
        raise HogQLError("A property filter needs a key.")
    if kind == "element":
        return _element(key, entry, scope)
    return _compare(_Subject.of(kind, key, entry, scope), entry.get("operator") or "exact", entry.get("value"), scope)


def _expression(text: str) -> Condition:
    """A condition in HogQL; it is parsed alone first, so that it cannot reach beyond its brackets."""
    parse_expression(text)
    return Condition(f"({text}\n)")


def _cohort(entry: Mapping[str, Any], scope: Scope) -> Condition:
    ids = entry.get("value") if isinstance(entry.get("value"), list) else [entry.get("value")]
    column = {"event": "person_id", "session": "person_id", "person": "id"}.get(scope.kind)
    if column is None:
        raise HogQLError("Cohorts filter people, not groups.")
    is_negative = entry.get("operator") in ("not_in", "is_not", "exact_not")
    parts = []
    for given in ids or ():
        if isinstance(given, bool) or not str(given).isdigit():
            raise HogQLError(f"A cohort filter needs the cohort's id, not {given!r}.")
        parts.append(Condition(f"{column} {'NOT IN' if is_negative else 'IN'} COHORT {int(str(given))}"))
    return joined(parts, "AND" if is_negative else "OR")


# ---------------------------------------------------------------------------------------------------- what is compared

_EVENT_COLUMNS = {
    "event": "String",
    "timestamp": "DateTime",
    "created_at": "DateTime",
    "distinct_id": "String",
    "person_id": "String",
    "elements_chain": "String",
    "uuid": "String",
    **{f"$group_{index}": "String" for index in range(5)},
}


@dataclass(frozen=True)
class _Subject:
    """What a filter compares: its HogQL and the type of its property definition."""

    hogql: str
    type: str | None

    @classmethod
    def of(cls, kind: str, key: str, entry: Mapping[str, Any], scope: Scope) -> _Subject:
        name, catalog = hogql_name(key), scope.catalog
        here = scope.kind
        if kind == "event" and here == "event" and key == "$elements_chain":
            return cls("elements_chain", "String")
        if kind == "person" and key == "distinct_id":
            # It is none of the person's properties, of which a filter would find none.
            raise HogQLError("A person filter on distinct_id is not available: use type event_metadata for an event's.")
        if kind in ("event", "feature") and here == "event":
            return cls(f"properties.{name}", catalog.property_type("event", key))
        if kind == "event_metadata" and here == "event" and key in _EVENT_COLUMNS:
            return cls(name, _EVENT_COLUMNS[key])
        if kind == "person" and here in ("event", "person", "session"):
            path = {"event": "person.properties", "person": "properties", "session": "person.properties"}[here]
            return cls(f"{path}.{name}", catalog.property_type("person", key))
        if kind == "person_metadata" and here in ("event", "person") and key == "created_at":
            return cls("person.created_at" if here == "event" else "created_at", "DateTime")
        if kind == "session" and here in ("event", "session"):
            return cls(f"session.{name}" if here == "event" else name, _session_type(key, catalog))
        if kind == "group" and here in ("event", "group"):
            index = entry.get("group_type_index") or 0
            if isinstance(index, bool) or index not in range(5):
                raise HogQLError(f"group_type_index is 0 to 4, not {index!r}.")
            if here == "group" and key in ("created_at", "updated_at"):
                return cls(key, "DateTime")
            path = f"group_{index}.properties" if here == "event" else "properties"
            return cls(f"{path}.{name}", catalog.property_type("group", key, int(index)))
        raise HogQLError(
            f"Property filters of type {kind} ({key}) are not available for {here}s in the embedded PostHog"
        )


def _session_type(key: str, catalog: Catalog) -> str | None:
    table = find_table("sessions", catalog)
    column = table.columns.get(key) if table else None
    kinds = {"integer": "Numeric", "float": "Numeric", "datetime": "DateTime", "boolean": "Boolean"}
    return kinds.get(column.type, "String") if column else None


# ----------------------------------------------------------------------------------------------------------- operators

_NEGATIVE = {
    "is_not": "exact",
    "not_icontains": "icontains",
    "not_regex": "regex",
    "not_icontains_multi": "icontains",
    "not_in": "in",
    "semver_neq": "semver_eq",
}
_ORDER = {"gt": ">", "gte": ">=", "min": ">=", "lt": "<", "lte": "<=", "max": "<="}
_BETWEEN = {"between": ((">=", "<="), "AND"), "not_between": (("<", ">"), "OR")}
_DATES = {"is_date_before": "<", "is_date_after": ">", "is_date_exact": "="}


def _compare(subject: _Subject, operator: str, value: Any, scope: Scope) -> Condition:
    if operator in ("is_set", "is_not_set"):
        return Condition(f"{'isNotNull' if operator == 'is_set' else 'isNull'}({subject.hogql})")
    if value == [] and operator not in ("between", "not_between"):
        return TRUE
    if operator in _NEGATIVE:
        positive = _compare(subject, _NEGATIVE[operator], value, scope)
        return Condition(f"not({positive.hogql})", positive.values)
    if operator in ("exact", "in"):
        return joined([_equal(subject, one, scope) for one in _listed(value)], "OR")
    if operator in ("icontains", "icontains_multi"):
        return joined([_like(subject, one, scope) for one in _listed(value)], "OR")
    if operator == "regex":
        return joined([_matches(subject, one, scope) for one in _listed(value)], "OR")
    if operator in _ORDER:
        return joined([_ordered(subject, _ORDER[operator], one, scope) for one in _listed(value)], "OR")
    if operator in _BETWEEN:
        if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 2:
            raise HogQLError(f"The operator {operator} needs two values.")
        (below, above), word = _BETWEEN[operator]
        return joined([_ordered(subject, below, value[0], scope), _ordered(subject, above, value[1], scope)], word)
    if operator in _DATES:
        return _dated(subject, _DATES[operator], value, scope)
    if operator.startswith("semver_"):
        return _semver(subject, operator.removeprefix("semver_"), str(value), scope)
    raise HogQLError(f"The property operator {operator} is not available in the embedded PostHog")


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _text(value: Any) -> str:
    """A JSON value as a property shows it: as text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _number(value: Any) -> float | None:
    if isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _equal(subject: _Subject, value: Any, scope: Scope) -> Condition:
    if value is None:
        return Condition(f"isNull({subject.hogql})")
    if subject.type == "Numeric":
        number = _number(value)
        return FALSE if number is None else bound(scope, lambda v: f"{subject.hogql} = {v}", number)
    if subject.type == "Boolean":
        text = _text(value).lower()
        return bound(scope, lambda v: f"{subject.hogql} = {v}", text == "true") if text in ("true", "false") else FALSE
    if subject.type == "DateTime":
        return _dated(subject, "=", value, scope)
    return bound(scope, lambda v: f"toString({subject.hogql}) = {v}", _text(value))


def _like(subject: _Subject, value: Any, scope: Scope) -> Condition:
    pattern = "%" + re.sub(r"([\\%_])", r"\\\1", _text(value)) + "%"
    return bound(scope, lambda v: f"toString({subject.hogql}) ILIKE {v}", pattern)


def _matches(subject: _Subject, pattern: Any, scope: Scope) -> Condition:
    return bound(scope, lambda v: f"toString({subject.hogql}) =~ {v}", str(pattern))


def _ordered(subject: _Subject, operator: str, value: Any, scope: Scope) -> Condition:
    if subject.type == "DateTime":
        return _dated(subject, operator, value, scope)
    number = _number(value)
    if subject.type == "Numeric":
        if number is None:
            raise HogQLError(f"{value!r} is no number to compare with.")
        return bound(scope, lambda v: f"{subject.hogql} {operator} {v}", number)
    if number is not None:
        return bound(scope, lambda v: f"toFloat(toString({subject.hogql})) {operator} {v}", number)
    return bound(scope, lambda v: f"toString({subject.hogql}) {operator} {v}", _text(value))


def _dated(subject: _Subject, operator: str, value: Any, scope: Scope) -> Condition:
    """A comparison with a moment; a date without a time of day is its midnight, and relative ones keep theirs."""
    try:
        moment = parse_date(str(value), scope.now, exact=True)
    except ValueError as error:
        raise HogQLError(str(error)) from None
    column = subject.hogql if subject.type == "DateTime" else f"toDateTime(toString({subject.hogql}))"
    return bound(scope, lambda v: f"{column} {operator} toDateTime({v})", _moment(moment))


def _moment(moment: datetime) -> str:
    """A moment as toDateTime() reads it in the project's time zone."""
    return moment.strftime("%Y-%m-%d %H:%M:%S") + (f".{moment.microsecond:06d}" if moment.microsecond else "")


# -------------------------------------------------------------------------------------------------------------- semver


def _semver(subject: _Subject, operator: str, value: str, scope: Scope) -> Condition:
    """Versions by their order; ranges as npm writes them: ``~1.2``, ``^1.2``, ``1.*``. What is none never fits."""
    column = f"sortableSemVer(toString({subject.hogql}))"
    orders = {"eq": "=", "gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
    if operator in orders:
        version = _version(_parts(value))
        found = bound(scope, lambda v: f"{column} {orders[operator]} sortableSemVer({v})", version)
    elif operator in _RANGES:
        low, high = _RANGES[operator](value)
        found = bound(
            scope, lambda v, w: f"{column} >= sortableSemVer({v}) AND {column} < sortableSemVer({w})", low, high
        )
    else:
        raise HogQLError(f"The property operator semver_{operator} is not available in the embedded PostHog")
    return joined([Condition(f"isNotNull({subject.hogql})"), Condition(f"isNotNull({column}[1])"), found])


def _parts(value: str) -> list[int]:
    numbers = re.fullmatch(r"v?(\d+(?:\.\d+){0,2})(?:[-+].*)?", value.strip())
    if numbers is None:
        raise HogQLError(f"{value!r} is no version.")
    return [int(part) for part in numbers[1].split(".")]


def _version(parts: list[int]) -> str:
    return ".".join(map(str, [*parts, 0, 0][:3]))


def _below(parts: list[int], position: int) -> tuple[str, str]:
    """A version, and the first one that differs from it before a position."""
    return _version(parts), _version([*parts[:position], parts[position] + 1])


def _tilde(value: str) -> tuple[str, str]:
    parts = _parts(value)
    return _below(parts, min(1, len(parts) - 1))


def _caret(value: str) -> tuple[str, str]:
    parts = _parts(value)
    first = next((i for i, part in enumerate(parts) if part), len(parts) - 1)
    return _below(parts, first)


def _wildcard(value: str) -> tuple[str, str]:
    parts = _parts(re.sub(r"(\.[*xX])+$", "", value.strip()))
    return _below(parts, len(parts) - 1)


_RANGES: Mapping[str, Callable[[str], tuple[str, str]]] = {"tilde": _tilde, "caret": _caret, "wildcard": _wildcard}


# ------------------------------------------------------------------------------------------------------------ elements


def _element(key: str, entry: Mapping[str, Any], scope: Scope) -> Condition:
    if scope.kind != "event":
        raise HogQLError("Filters on elements filter events.")
    operator = entry.get("operator") or "exact"
    if operator in _NEGATIVE:
        positive = _element(key, {**entry, "operator": _NEGATIVE[operator]}, scope)
        return Condition(f"not({positive.hogql})", positive.values)
    return element_condition(key, operator, _listed(entry.get("value")), scope)
