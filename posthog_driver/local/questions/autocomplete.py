"""HogQLAutocomplete: what could be written at one place of a HogQL text, whole or half written.

The suggestions are PostHog's (``posthog/hogql/autocomplete.py``): tables where a table is named, else the names in
scope and the functions, property definitions behind a JSON column; an editor narrows them down to what was typed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from .. import errors, functions
from ..database import TABLES
from ..guard import MAX_LENGTH
from ..schema import Catalog, hogql_name
from .scopes import Name, Scope, Text, Token

__all__ = ["answer"]

MAX_PROPERTIES = 220
"""Property definitions in one list; more of them make it incomplete."""

KEYWORDS = (
    "SELECT DISTINCT FROM WHERE GROUP BY HAVING ORDER LIMIT OFFSET JOIN LEFT INNER CROSS ON AS AND OR NOT IN LIKE "
    "ILIKE BETWEEN IS NULL CASE WHEN THEN ELSE END UNION ALL INTERSECT EXCEPT WITH ASC DESC INTERVAL COHORT OVER "
    "PARTITION ARRAY WINDOW"
)
_EVENT_TESTS = ("=", "==", "!=", "<>", "IN", "LIKE", "ILIKE")

Suggestion = dict[str, Any]


def answer(query: Mapping[str, Any], catalog: Catalog) -> dict[str, Any]:
    """Answer a HogQLAutocomplete.

    Raises:
        ApiError: 400, the text is too long, or the place is not in it.
    """
    text, start, end = query["query"], query["startPosition"], query["endPosition"]
    if len(text) > MAX_LENGTH:
        raise errors.validation(f"Query is too long: {len(text)} characters, at most {MAX_LENGTH} are accepted")
    if not 0 <= start <= end <= len(text):
        raise errors.validation(f"startPosition and endPosition must lie in the query, got {start} and {end}.")
    found, is_incomplete = _suggested(Text(text, end), query, catalog)
    unique = {(one["label"], one["kind"]): one for one in found}
    return {"suggestions": list(unique.values()), "incomplete_list": is_incomplete, "timings": None}


def _suggested(text: Text, query: Mapping[str, Any], catalog: Catalog) -> tuple[list[Suggestion], bool]:
    if text.inside is not None:
        return (_events(catalog) if _is_event_name(text) else []), False
    chain, typed, before = _chain(text.before, query["endPosition"])
    if before is not None and before.text == "{":
        return _globals(query.get("globals") or {}, chain), False
    if chain and (own := _globals(query.get("globals") or {}, chain)):
        return own, False
    is_expression = query["language"] == "hogQLExpr"
    scope = Scope(text, catalog, _source_table(query) if is_expression else "")
    if before is not None and (before.upper in ("FROM", "JOIN") or _lists_tables(text, before)):
        return _tables(scope, chain, catalog), False
    if not chain:
        return [*_names(scope), *_globals(query.get("globals") or {}, []), *_words()], False
    target = scope.follow(chain)
    if isinstance(target, Name):
        return _properties(target, chain, typed, catalog)
    return [_name(name) for name in target or ()], False


def _chain(before: list[Token], end: int) -> tuple[list[str], str, Token | None]:
    """The names before the last dot, what is typed after it, and the token that precedes all of them."""
    tokens = list(before)
    typed = ""
    if tokens and tokens[-1].end >= end and tokens[-1].kind in ("word", "quoted", "number"):
        token = tokens.pop()
        typed = token.name[: len(token.name) - max(0, token.end - end)]
    chain: list[str] = []
    while len(tokens) > 1 and tokens[-1].text == "." and tokens[-2].kind in ("word", "quoted"):
        tokens.pop()
        chain.insert(0, tokens.pop().name)
    return chain, typed, tokens[-1] if tokens else None


def _lists_tables(text: Text, before: Token) -> bool:
    """Whether a comma stands in a FROM."""
    if before.text != ",":
        return False
    items = [item for item in text.group.items if isinstance(item, Token) and item.start < before.start]
    clauses = [item.upper for item in items if item.upper in ("SELECT", "FROM", "WHERE", "BY", "ON", "HAVING", "LIMIT")]
    return clauses[-1:] == ["FROM"]


def _is_event_name(text: Text) -> bool:
    """Whether a string is compared with ``event``."""
    if text.inside is None or text.inside.kind != "string":
        return False
    tokens = [token for token in text.before if token.kind != "string" and token.text not in (",", "(", "[")]
    names = [token.upper if token.kind == "word" else token.text for token in tokens[-3:]]
    if names[-1:] and names[-1] in _EVENT_TESTS:
        left = [name for name in names[:-1] if name != "NOT"]
        return left[-1:] == ["EVENT"]
    return False


def _source_table(query: Mapping[str, Any]) -> str:
    kind = (query.get("sourceQuery") or {}).get("kind")
    return "persons" if kind == "ActorsQuery" else "events"


# -------------------------------------------------------------------------------------------------------- suggestions


def _suggestion(
    label: str, kind: str, detail: str | None = None, documentation: str | None = None, insert: str | None = None
) -> Suggestion:
    return {
        "label": label,
        "insertText": label if insert is None else insert,
        "kind": kind,
        "detail": detail,
        "documentation": documentation,
    }


def _name(name: Name) -> Suggestion:
    types = {"json": "Object", "Table": "Table"}
    detail = types.get(name.type, name.type.capitalize())
    return _suggestion(name.name, "Variable", detail, name.documentation or None, hogql_name(name.name))


def _names(scope: Scope) -> Iterable[Suggestion]:
    yield from (_suggestion(alias, "Folder", "Table") for alias in scope.aliases())
    yield from (_suggestion(alias, "Variable", None, None, hogql_name(alias)) for alias in scope.own_names())
    yield from map(_name, scope.names())


def _words() -> Iterable[Suggestion]:
    listed = sorted(name for name in functions.FUNCTIONS if not name.startswith("_"))
    yield from (_suggestion(name, "Function", insert=f"{name}()") for name in listed)
    yield from (_suggestion(word, "Keyword") for word in KEYWORDS.split())


def _tables(scope: Scope, chain: list[str], catalog: Catalog) -> list[Suggestion]:
    prefix = "".join(f"{part}." for part in chain)
    ctes = [] if chain else [_suggestion(name, "Folder", "Table", "A query of this text") for name in scope.ctes]
    shown = sorted((name, table) for name, table in TABLES.items() if not table.hidden and _may_read(name, catalog))
    return ctes + [
        _suggestion(name.removeprefix(prefix), "Folder", "Table", table.description)
        for name, table in shown
        if name.startswith(prefix)
    ]


def _may_read(name: str, catalog: Catalog) -> bool:
    return TABLES[name].access_scope not in catalog.denied


def _events(catalog: Catalog) -> list[Suggestion]:
    quoted: Callable[[str], str] = lambda name: name.replace("\\", "\\\\").replace("'", "\\'")  # noqa: E731
    return [_suggestion(name, "Constant", "Event", insert=quoted(name)) for name in sorted(catalog.event_names)]


def _properties(column: Name, chain: list[str], typed: str, catalog: Catalog) -> tuple[list[Suggestion], bool]:
    index = next((int(part[-1]) for part in chain if part.startswith("group_") and part[-1].isdigit()), None)
    found = [
        definition
        for definition in catalog.property_definitions
        if definition.type == column.owner
        and typed in definition.name
        and (index is None or definition.group_type_index in (None, index))
    ]
    shown = [
        _suggestion(one.name, "Variable", one.property_type, one.description or None, hogql_name(one.name))
        for one in found[:MAX_PROPERTIES]
    ]
    return shown, len(found) > MAX_PROPERTIES


def _globals(values: Any, chain: Iterable[str]) -> list[Suggestion]:
    """The caller's own values behind a chain of their names."""
    for part in chain:
        values = values.get(part) if isinstance(values, Mapping) else None
    if not isinstance(values, Mapping):
        return []
    return [_suggestion(name, "Variable", _kind(value)) for name, value in values.items()]


def _kind(value: Any) -> str:
    if isinstance(value, dict | list):
        return "Object" if isinstance(value, dict) else "Array"
    text = json.dumps(value)
    return text if len(text) <= 20 else f"{text[:20]}..."
