"""HogQLMetadata: what is wrong, doubtful or noteworthy about a HogQL text, without running it."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

from .. import errors
from ..database import TABLES
from ..hogql import Translation, translate
from ..parser import HogQLError, Node, offset, parse_expression, parse_select
from ..schema import Catalog, hogql_name
from ..tree import table_name, walk

__all__ = ["answer"]

BEFORE = "SELECT "
"""What makes a query of an expression; places in it move by its length."""

DYNAMIC = ("$feature/", "$feature_enrollment/", "$feature_interaction/", "$survey_", "$product_tour_", "$virt_")
"""Beginnings of property names that no definition lists."""


def answer(query: Mapping[str, Any], catalog: Catalog) -> dict[str, Any]:
    """Answer a HogQLMetadata.

    An error in the text is no error of the question: ``isValid`` says so, with places as character offsets.

    Raises:
        ApiError: 400, the expression belongs to a query that is not served here.
    """
    text, is_expression = query["query"], query["language"] == "hogQLExpr"
    source = _source(query) if is_expression else ""
    try:
        # An expression is parsed alone, so that it is none that only makes sense inside the query around it.
        tree = parse_expression(text) if is_expression else parse_select(text)
    except HogQLError as error:
        return _found(text, [_problem(error, 0)], [], (), "undecisive")
    shift = len(BEFORE) if is_expression else 0
    named = (source,) if is_expression else _tables(tree)
    try:
        translation = _translated(f"{BEFORE}{text}\nFROM {source}" if is_expression else text, query, catalog)
    except HogQLError as error:
        return _found(text, [_problem(error, shift)], [], named, "undecisive")
    warnings = [_moved(warning, shift) for warning in translation.warnings]
    warnings += _unknown_properties(tree, _owner(named), catalog)
    return _found(text, [], warnings, translation.tables, _use_of_indices(tree))


def _translated(text: str, query: Mapping[str, Any], catalog: Catalog) -> Translation:
    return translate(
        text,
        catalog,
        values=query.get("globals") or {},
        filters=query.get("filters") or {},
        variables=query.get("variables"),
    )


def _source(query: Mapping[str, Any]) -> str:
    """The table that an expression is about."""
    kind = (query.get("sourceQuery") or {}).get("kind")
    table = {None: "events", "EventsQuery": "events", "EventsNode": "events", "ActorsQuery": "persons"}.get(kind)
    if table is None:
        raise errors.validation(f"The embedded server does not have HogQLMetadata with a sourceQuery of kind {kind}.")
    return table


def _found(
    text: str, problems: list[dict[str, Any]], warnings: list[dict[str, Any]], tables: tuple[str, ...], indices: str
) -> dict[str, Any]:
    return {
        "isValid": not problems,
        "query": text,
        "errors": problems,
        "warnings": warnings,
        "notices": [],
        "table_names": sorted(tables),
        "ch_table_names": sorted({TABLES[name].physical for name in tables if name in TABLES} - {""}),
        "isUsingIndices": indices,
    }


def _problem(error: HogQLError, shift: int) -> dict[str, Any]:
    return _moved({"message": error.message, "start": error.start, "end": error.end, "fix": error.fix}, shift)


def _moved(notice: Mapping[str, Any], shift: int) -> dict[str, Any]:
    places = {name: None if notice[name] is None else max(0, notice[name] - shift) for name in ("start", "end")}
    return {**notice, **places}


def _tables(tree: Node) -> tuple[str, ...]:
    """The tables of the project that a query names."""
    named = {table_name(node.get("table")) for node in walk(tree) if node["node"] == "JoinExpr"}
    return tuple(sorted(named & set(TABLES)))


def _owner(tables: tuple[str, ...]) -> str:
    """Whose properties ``properties`` means, if that is the same wherever it stands."""
    owners = {TABLES[name].owner for name in tables}
    return owners.pop() if len(owners) == 1 else ""


def _unknown_properties(tree: Node, owner: str, catalog: Catalog) -> Iterator[dict[str, Any]]:
    """Notices of properties that the project has no definition of."""
    for node in walk(tree):
        chain = [str(part) for part in node.get("chain") or ()] if node["node"] == "Field" else []
        if "properties" not in chain[:-1]:
            continue
        place = chain.index("properties")
        whose = "person" if chain[place - 1 : place] in (["person"], ["poe"]) else owner
        name = chain[place + 1]
        known = {one.name for one in catalog.property_definitions if one.type == whose}
        if not known or name in known or name.startswith(DYNAMIC):
            continue
        near = difflib.get_close_matches(name, known, 1)
        yield {
            "message": f"Property {name!r} is not known in this project.",
            "start": offset(node.get("start")),
            "end": offset(node.get("end")),
            "fix": ".".join(map(hogql_name, [*chain[: place + 1], near[0], *chain[place + 2 :]])) if near else None,
        }


def _use_of_indices(tree: Node) -> str:
    """Whether the SELECTs of events say when, which is what the table is sorted by."""
    bounded = [
        any(
            (field.get("chain") or [""])[-1] == "timestamp"
            for field in walk(node.get("where") or {})
            if field["node"] == "Field"
        )
        for node in walk(tree)
        if node["node"] == "SelectQuery" and table_name((node.get("select_from") or {}).get("table")) == "events"
    ]
    if not bounded:
        return "undecisive"
    return "yes" if all(bounded) else "partial" if any(bounded) else "no"
