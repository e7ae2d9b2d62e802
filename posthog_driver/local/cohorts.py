"""What the members of a cohort have in common, as a HogQL condition on ``persons``.

A cohort's filters say what its persons have (property filters, see `property_filters`), what they did
(``performed_event`` and the like, in the last days), and which other cohorts they are in.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from .actions import action_condition
from .conditions import TRUE, Condition, Names, Scope, bound, joined
from .parser import HogQLError
from .property_filters import condition
from .schema import Catalog, quote_literal

__all__ = ["members", "printed", "references"]

_BEHAVIOURS = ("performed_event", "performed_event_multiple")
_INTERVALS = {"minute": "Minute", "hour": "Hour", "day": "Day", "week": "Week", "month": "Month", "year": "Year"}
_COUNTS = {"gte": ">=", "gt": ">", "lte": "<=", "lt": "<", "eq": "=", "exact": "="}


def members(filters: Any, catalog: Catalog, now: datetime | None = None) -> str:
    """Return the condition that the members of a cohort fulfil, with all values in its text.

    Args:
        filters: A cohort's ``filters["properties"]``.
        catalog: Types of properties and the actions of the project.
        now: What relative dates are relative to.

    Raises:
        HogQLError: They cannot be understood, or the embedded server does not have them.
    """
    names = Names(f"c{secrets.token_hex(6)}")  # no text of a user's contains such a name
    moment = now or datetime.now(timezone.utc)
    return printed(_members(filters, Scope("person", catalog, moment, names)))


def references(filters: Any) -> set[str]:
    """Return the numbers of the cohorts that a cohort's filters name."""
    if isinstance(filters, Mapping):
        own = {str(filters.get("value"))} if filters.get("type") == "cohort" else set()
        return own | references(filters.get("values"))
    if isinstance(filters, Sequence) and not isinstance(filters, str):
        return set().union(*map(references, filters))
    return set()


def _members(filters: Any, scope: Scope) -> Condition:
    if not filters:
        return TRUE
    if isinstance(filters, Sequence) and not isinstance(filters, str):
        return joined([_members(entry, scope) for entry in filters])
    if not isinstance(filters, Mapping):
        raise HogQLError(f"Properties are unparsable: {filters!r} is no filter.")
    if isinstance(filters.get("values"), list):
        operator = str(filters.get("type", "AND")).upper()
        if operator not in ("AND", "OR"):
            raise HogQLError(f"A filter group joins by AND or OR, not {operator}.")
        parts = [_members(entry, scope) for entry in filters["values"]]
        return joined(parts, operator) if parts else TRUE
    if filters.get("type") != "behavioral":
        return condition(filters, scope)
    found = _behaviour(filters, scope)
    return Condition(f"not({found.hogql})", found.values) if filters.get("negation") else found


def _behaviour(entry: Mapping[str, Any], scope: Scope) -> Condition:
    kind = entry.get("value")
    if kind not in _BEHAVIOURS:
        raise HogQLError(f"Cohorts by the behaviour {kind!r} are not available in the embedded PostHog")
    events = Scope("event", scope.catalog, scope.now, scope.names)
    what = _event(entry, events)
    filtered = condition(entry["event_filters"], events) if entry.get("event_filters") else TRUE
    found = joined([what, _since(entry, events), filtered])
    having = ""
    if kind == "performed_event_multiple":
        operator, least = _COUNTS.get(str(entry.get("operator") or "gte")), entry.get("operator_value")
        if operator is None or type(least) is not int:
            raise HogQLError("performed_event_multiple needs an operator (gte, lte, eq ...) and an operator_value.")
        having = f" HAVING count() {operator} {least:d}"
    hogql = f"id IN (SELECT person_id FROM events WHERE {found.hogql} GROUP BY person_id{having})"
    return Condition(hogql, found.values)


def _event(entry: Mapping[str, Any], scope: Scope) -> Condition:
    key = entry.get("key")
    if entry.get("event_type", "events") == "events":
        return bound(scope, lambda name: f"event = {name}", str(key))
    action = next((action for action in scope.catalog.actions if str(action.id) == str(key)), None)
    if action is None:
        raise HogQLError(f"There is no action with the ID {key}.")
    return action_condition(action, scope)


def _since(entry: Mapping[str, Any], scope: Scope) -> Condition:
    if entry.get("explicit_datetime"):
        date = {"key": "timestamp", "type": "event_metadata", "operator": "is_date_after"}
        parts = [condition({**date, "value": entry["explicit_datetime"]}, scope)]
        if entry.get("explicit_datetime_to"):
            last = {**date, "operator": "is_date_before", "value": entry["explicit_datetime_to"]}
            parts.append(condition(last, scope))
        return joined(parts)
    amount, interval = entry.get("time_value"), _INTERVALS.get(str(entry.get("time_interval")))
    if interval is None or not re.fullmatch(r"[0-9]{1,6}", str(amount)):
        raise HogQLError("A behaviour needs a time_value and a time_interval, or an explicit_datetime.")
    return Condition(f"timestamp >= now() - toInterval{interval}({int(str(amount))}) AND timestamp <= now()")


# ----------------------------------------------------------------------------------------------------- values as text


def printed(one: Condition) -> str:
    """Return a condition with its values in its text."""
    if not one.values:
        return one.hogql
    return re.sub("|".join(rf"\{{{re.escape(name)}\}}" for name in one.values), lambda m: _value(one, m[0]), one.hogql)


def _value(one: Condition, placeholder: str) -> str:
    value = one.values[placeholder[1:-1]]
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    return quote_literal(str(value).replace("\0", ""))  # HogQL cannot say NUL
