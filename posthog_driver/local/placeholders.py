"""Fills ``{placeholders}`` of a HogQL tree: values, ``{variables.x}`` and ``{filters}``.

Everything that comes in becomes nodes of the tree, never text, so a value can be nothing but the constant it is. The
tree given is not changed; a new one is made where it differs.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from .parser import HogQLError, Node, offset, parse_expression

_NEVER: Any = object()


def constant(value: Any) -> Node:
    """The node of a JSON value.

    Raises:
        HogQLError: It is an object, for which HogQL has no constant.
    """
    if isinstance(value, float) and not math.isfinite(value):
        name = "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
        return {"node": "Constant", "value": name, "value_type": "number"}
    if value is None or isinstance(value, str | int | float):
        return {"node": "Constant", "value": value}
    if isinstance(value, Sequence):
        return {"node": "Array", "exprs": [constant(item) for item in value]}
    raise HogQLError(f"A value of type {type(value).__name__} cannot be used in a query")


class Filler:
    """Replaces the placeholders of one query.

    Args:
        values: For ``{name}``.
        filters: PostHog's ``HogQLFilters``: ``dateRange`` and ``properties``.
        variables: PostHog's ``HogQLVariable`` objects by id.
        timezone: The project's, for dates without one.
        time_column: Gives the column that ``{filters}`` bounds for a table name, or None.
        now: The current time, for relative dates.
    """

    def __init__(
        self,
        values: Mapping[str, Any] | None,
        filters: Mapping[str, Any] | None,
        variables: Mapping[str, Any] | None,
        timezone: str,
        time_columns: Mapping[str, str],
        now: datetime | None = None,
    ) -> None:
        self._values = values or {}
        self._filters = filters or {}
        self._variables = {v.get("code_name"): v for v in (variables or {}).values()}
        self._timezone = timezone
        self._time_columns = time_columns
        self._now = now or datetime.now(ZoneInfo(timezone))

    def fill(self, node: Any, table: str = "") -> Any:
        """The same tree without placeholders.

        Raises:
            HogQLError: One has no value.
        """
        if isinstance(node, list):
            return [self.fill(item, table) for item in node]
        if not isinstance(node, dict):
            return node
        if node.get("node") == "Placeholder":
            return self._replace(node, table)
        if node.get("node") == "CompareOperation" and self._is_unset_date(node.get("right")):
            return constant(True)
        if node.get("node") == "SelectQuery":
            table = _first_table(node)
        return {key: self.fill(value, table) for key, value in node.items()}

    def _replace(self, node: Node, table: str) -> Node:
        chain = _chain(node)
        found = self._lookup(chain, table)
        if found is _NEVER:
            name = ".".join(map(str, chain)) or "expression"
            hint = f"Values given: {', '.join(sorted(self._values)) or 'none'}"
            raise HogQLError(
                f"Unresolved placeholder: {{{name}}}", offset(node.get("start")), offset(node.get("end")), hint=hint
            )
        position = {key: node[key] for key in ("start", "end") if key in node}
        return {**found, **position}

    def _lookup(self, chain: list[Any], table: str) -> Any:
        if chain[:1] == ["filters"]:
            return self._filter_node(chain[1:], table)
        if chain[:1] == ["variables"] and len(chain) == 2:
            return self._variable(chain[1])
        value: Any = self._values
        for part in chain:
            if not isinstance(value, Mapping) or part not in value:
                return _NEVER
            value = value[part]
        return constant(value) if chain else _NEVER

    def _variable(self, name: str) -> Node:
        variable = self._variables.get(name)
        if variable is None:
            raise HogQLError(f"Variable {name} is missing from query")
        return constant(None if variable.get("isNull") else variable.get("value"))

    # ------------------------------------------------------------------------------------------------------ {filters}

    def _is_unset_date(self, node: Any) -> bool:
        if not isinstance(node, dict) or node.get("node") != "Placeholder":
            return False
        chain = _chain(node)
        return chain[:2] == ["filters", "dateRange"] and self._date(chain[2:]) is None

    def _date(self, which: list[Any]) -> datetime | None:
        dates = self._filters.get("dateRange") or {}
        text = dates.get(f"date_{which[0]}") if len(which) == 1 and isinstance(dates, Mapping) else None
        if not text or text == "all":
            return None
        return relative_date(str(text), self._now, end_of_day=which == ["to"])

    def _filter_node(self, chain: list[Any], table: str) -> Any:
        if chain[:1] == ["dateRange"] and chain[1:] in (["from"], ["to"]):
            date = self._date(chain[1:])
            return constant(None) if date is None else _date_node(date)
        if chain:
            return _NEVER
        return self._all_filters(table)

    def _all_filters(self, table: str) -> Node:
        column = self._time_columns.get(table)
        if column is None:
            raise HogQLError(
                "Cannot use 'filters' placeholder in a SELECT clause that does not select from the events, sessions, "
                "persons or groups table."
            )
        conditions = [property_condition(entry) for entry in _flat_properties(self._filters.get("properties"))]
        for which, op in ((["from"], ">="), (["to"], "<=")):
            date = self._date(which)
            if date is not None:
                conditions.append(_compare(op, {"node": "Field", "chain": [column]}, _date_node(date)))
        if self._filters.get("filterTestAccounts"):
            raise HogQLError("filterTestAccounts is not available in the embedded PostHog")
        return {"node": "And", "exprs": conditions} if conditions else constant(True)


def _chain(node: Node) -> list[Any]:
    expression = node.get("expr") or {}
    chain: list[Any] = expression.get("chain") or [] if expression.get("node") == "Field" else []
    return chain


def _first_table(select: Node) -> str:
    table = (select.get("select_from") or {}).get("table") or {}
    return ".".join(map(str, table.get("chain") or []))


def _compare(op: str, left: Node, right: Node) -> Node:
    return {"node": "CompareOperation", "op": op, "left": left, "right": right}


def _date_node(date: datetime) -> Node:
    text = constant(date.strftime("%Y-%m-%d %H:%M:%S.%f"))
    return {"node": "Call", "name": "toDateTime", "args": [text]}


_RELATIVE = re.compile(r"-(\d{1,6})([hdwmqy])(Start|End)?|([dmy])(Start|End)")
_MONTHS = {"m": 1, "q": 3, "y": 12}


def relative_date(text: str, now: datetime, *, end_of_day: bool) -> datetime:
    """A date of a PostHog date range: ISO 8601, or relative such as ``-7d``, ``-24h``, ``mStart``.

    Args:
        text: The date.
        now: The current time, in the project's time zone.
        end_of_day: Whether a day without a time means its end.

    Raises:
        HogQLError: It is neither.
    """
    match = _RELATIVE.fullmatch(text)
    if match is None:
        try:
            date = datetime.fromisoformat(text.replace("Z", "+00:00"))
        except ValueError:
            raise HogQLError(f"Invalid date: {text}") from None
        date = date.astimezone(now.tzinfo) if date.tzinfo else date.replace(tzinfo=now.tzinfo)
        return _end_of_day(date) if end_of_day and len(text) == 10 else date
    amount, unit = int(match[1] or 0), match[2] or match[4]
    try:
        date = _back(now, amount, unit)
    except (OverflowError, ValueError):
        raise HogQLError(f"Invalid date: {text}") from None
    if unit == "h":
        return date
    date = date.replace(hour=0, minute=0, second=0, microsecond=0)
    if (match[3] or match[5]) == "Start" and unit in _MONTHS:
        date = date.replace(day=1, month=1 if unit == "y" else date.month)
    return _end_of_day(date) if end_of_day else date


def _end_of_day(date: datetime) -> datetime:
    return date.replace(hour=23, minute=59, second=59, microsecond=999_999)


def _back(now: datetime, amount: int, unit: str) -> datetime:
    if unit in _MONTHS:
        months = now.year * 12 + now.month - 1 - amount * _MONTHS[unit]
        first = now.replace(year=months // 12, month=months % 12 + 1, day=1)
        last_day = ((first + timedelta(days=32)).replace(day=1) - timedelta(days=1)).day
        return first.replace(day=min(now.day, last_day))
    return now - timedelta(**{{"h": "hours", "d": "days", "w": "weeks"}[unit]: amount})


# ----------------------------------------------------------------------------------------------------- property filters


def _flat_properties(properties: Any) -> list[Mapping[str, Any]]:
    if not properties:
        return []
    if isinstance(properties, Mapping):
        if properties.get("type") != "AND":
            raise HogQLError("Only property filters joined by AND are available in the embedded PostHog")
        properties = properties.get("values") or []
    flat: list[Mapping[str, Any]] = []
    for entry in properties:
        if not isinstance(entry, Mapping):
            raise HogQLError("A property filter is an object")
        flat.extend(_flat_properties(entry) if isinstance(entry.get("values"), list) else [entry])
    return flat


_OWNERS: Mapping[str, list[Any]] = {
    "event": ["properties"],
    "person": ["person", "properties"],
    "feature": ["properties"],
    "session": ["session"],
}
_SIMPLE = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<=", "regex": "=~", "not_regex": "!~"}


def property_condition(entry: Mapping[str, Any]) -> Node:
    """The condition of one property filter.

    Raises:
        HogQLError: Its type or operator is not available here.
    """
    kind, key, value = entry.get("type", "event"), entry.get("key"), entry.get("value")
    if kind == "hogql":
        return parse_expression(str(key))
    if kind not in _OWNERS:
        raise HogQLError(f"Property filters of type {kind} are not available in the embedded PostHog")
    column: Node = {"node": "Field", "chain": [*_OWNERS[kind], key]}
    name = entry.get("operator") or "exact"
    values = value if isinstance(value, list) else [value]
    if name in ("is_set", "is_not_set"):
        return _compare("!=" if name == "is_set" else "==", column, constant(None))
    if name in ("exact", "is_not"):
        op = "==" if name == "exact" else "!="
        return _joined([_compare(op, column, constant(v)) for v in values], negative=name == "is_not")
    if name in ("icontains", "not_icontains"):
        op = "ilike" if name == "icontains" else "not ilike"
        patterns = ["%" + re.sub(r"([\\%_])", r"\\\1", str(v)) + "%" for v in values]
        return _joined([_compare(op, column, constant(p)) for p in patterns], negative=name == "not_icontains")
    if name in _SIMPLE:
        return _compare(_SIMPLE[name], column, constant(value))
    raise HogQLError(f"The property operator {name} is not available in the embedded PostHog")


def _joined(conditions: list[Node], *, negative: bool) -> Node:
    return {"node": "And" if negative else "Or", "exprs": conditions}
