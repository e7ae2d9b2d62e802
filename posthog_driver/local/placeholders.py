"""Fills ``{placeholders}`` of a HogQL tree: values, ``{variables.x}`` and ``{filters}``.

Everything that comes in becomes nodes of the tree, never text, so a value can be nothing but the constant it is. The
tree given is not changed; a new one is made where it differs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from .conditions import TRUE, Condition, Names, Scope
from .database import TABLES
from .dates import parse_date
from .parser import HogQLError, Node, offset, parse_expression
from .property_filters import condition
from .schema import Catalog

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
        catalog: The project.
        now: The current time, for relative dates.
    """

    def __init__(
        self,
        values: Mapping[str, Any] | None,
        filters: Mapping[str, Any] | None,
        variables: Mapping[str, Any] | None,
        catalog: Catalog,
        now: datetime | None = None,
    ) -> None:
        self._values = values or {}
        self._filters = filters or {}
        self._variables = {v.get("code_name"): v for v in (variables or {}).values()}
        self._catalog = catalog
        self._now = now or datetime.now(ZoneInfo(catalog.timezone))

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
        known = self._catalog.entities.get("insight_variables", ())
        definition = next((each for each in known if each["code_name"] == name), None)
        if definition is None:
            raise HogQLError(f"Variable {name} does not exist")
        if variable.get("isNull"):
            return constant(None)
        value = variable.get("value")
        return constant(definition["default_value"] if value is None else value)

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
        try:
            return parse_date(str(text), self._now, end_of_day=which == ["to"], exact=bool(dates.get("explicitDate")))
        except ValueError as error:
            raise HogQLError(str(error)) from None

    def _filter_node(self, chain: list[Any], table: str) -> Any:
        if chain[:1] == ["dateRange"] and chain[1:] in (["from"], ["to"]):
            date = self._date(chain[1:])
            return constant(None) if date is None else _date_node(date)
        if chain:
            return _NEVER
        return self._all_filters(table)

    def _all_filters(self, table: str) -> Node:
        known = TABLES.get(table)
        column = known.time_column if known else ""
        if not column or table not in _SCOPES:
            raise HogQLError(
                "Cannot use 'filters' placeholder in a SELECT clause that does not select from the events, sessions, "
                "persons or groups table."
            )
        conditions = self._property_conditions(_SCOPES[table])
        for which, op in ((["from"], ">="), (["to"], "<=")):
            date = self._date(which)
            if date is not None:
                conditions.append(_compare(op, {"node": "Field", "chain": [column]}, _date_node(date)))
        return {"node": "And", "exprs": conditions} if conditions else constant(True)

    def _property_conditions(self, kind: str) -> list[Node]:
        """The conditions of ``properties`` and ``filterTestAccounts``, whose values become constants here."""
        given = [self._filters.get("properties")]
        if self._filters.get("filterTestAccounts"):
            given.append(list(self._catalog.test_account_filters))
        scope = Scope(kind, self._catalog, self._now, Names("filter"))
        conditions = [found for filters in given if (found := condition(filters, scope)) != TRUE]
        return [filled(found, self._catalog) for found in conditions]


_SCOPES = {"events": "event", "persons": "person", "sessions": "session", "groups": "group"}
"""Tables that ``{filters}`` can filter, and what their rows are."""


def filled(condition: Condition, catalog: Catalog) -> Node:
    """The tree of a condition, its values as constants; it has no positions, as they would be none in the query."""
    tree: Node = Filler(condition.values, None, None, catalog).fill(_unplaced(parse_expression(condition.hogql)))
    return tree


def _unplaced(item: Any) -> Any:
    """A tree without positions."""
    if isinstance(item, list):
        return [_unplaced(part) for part in item]
    if not isinstance(item, dict):
        return item
    return {key: _unplaced(part) for key, part in item.items() if key not in ("start", "end")}


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
