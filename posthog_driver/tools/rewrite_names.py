"""Names that a query uses and the project has not: which of those that exist was meant, and how it is written.

A name that was captured gets into a rewritten query only where it is all but what the model wrote itself.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from posthog_driver.tools.hogql_text import HogQLText, Select, Token, name_of
from posthog_driver.tools.names import Names, written_property
from posthog_driver.tools.rewrite_calls import Change

__all__ = ["Unknown", "bare_properties", "closest", "mend_fields", "mend_table", "quoted_texts", "unknown_names"]

_ALIKE = 0.8
# More for tables: ai_events is not meant by events.
_ALIKE_TABLES = 0.88
# Pieces of an odd name, names that are compared, and places that are mended: more help nobody.
_MOST_PARTS, _MOST_UNKNOWN, _MOST_PLACES = 16, 10, 30
_HARMLESS = re.compile(r"[\w$ ./:-]{1,60}")
_EVENT_FIELDS = {
    "event_name": "event", "eventname": "event", "event_type": "event", "time": "timestamp", "ts": "timestamp",
    "event_time": "timestamp", "event_timestamp": "timestamp", "occurred_at": "timestamp", "user_id": "person_id",
    "userid": "person_id", "user": "person_id", "uid": "person_id", "session_id": "$session_id",
}  # fmt: skip
_PERSON_FIELDS = {"person_id": "id", "user_id": "id", "uid": "id", "first_seen": "created_at"}
_SQL = (
    "select from where group by order having limit and or not in is null as on join left right inner outer full cross "
    "with union all distinct case when then else end like ilike between asc desc interval over partition rows range "
    "preceding following unbounded current row true false second minute hour day week month quarter year array using "
    "sample final prewhere qualify window nulls first last except intersect exclude filter ties"
)
_KEYWORDS = frozenset(_SQL.split())


def closest(name: str, known: Iterable[str], alike: float = _ALIKE) -> str | None:
    """Return the known name that ``name`` can only mean: the same but for case and punctuation, or nearly the same."""
    return _closest(name, tuple(known), alike)


@lru_cache(maxsize=256)
def _closest(name: str, known: tuple[str, ...], alike: float) -> str | None:
    by_flat = _by_flat(known)
    found = difflib.get_close_matches(_flat(name), by_flat, 1, alike) if alike < 1 else [_flat(name)]
    return by_flat.get(found[0]) if found else None


@lru_cache(maxsize=8)
def _by_flat(known: tuple[str, ...]) -> dict[str, str]:
    """Return the names that may stand in a query, by what is left of them without case and punctuation."""
    # Reversed: of two names alike the first one, which is the more frequent, stays.
    return {_flat(name): name for name in reversed(known) if _HARMLESS.fullmatch(name)}


def _flat(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.casefold())


class _Chain(NamedTuple):
    """A chain ``a.b.c``: its tokens, from character to character, and its parts."""

    first: int
    last: int
    start: int
    end: int
    parts: tuple[str, ...]


def _chain_at(text: HogQLText, position: int) -> _Chain | None:
    """Return the chain that covers a character."""
    at = next((at for at, token in enumerate(text.tokens) if token.start <= position < token.end), None)
    if at is None or text.tokens[at].kind not in ("word", "quoted"):
        return None
    first = last = at
    while first >= 2 and text.is_at(first - 1, "."):
        first -= 2
    while last + 2 < len(text.tokens) and text.is_at(last + 1, "."):
        last += 2
    parts = tuple(name_of(text.tokens[number]) for number in range(first, last + 1, 2))
    return _Chain(first, last, text.tokens[first].start, text.tokens[last].end, parts)


def _select_of(text: HogQLText, at: int) -> Select | None:
    """Return the innermost SELECT around a token."""
    inside = [select for select in text.selects if select.span.first <= at < select.span.last]
    return max(inside, key=lambda select: select.span.first, default=None)


def _table_of(text: HogQLText, chain: _Chain) -> tuple[str | None, str]:
    """Return the table that a chain reads, and the qualifier it is written with (``e.``)."""
    select = _select_of(text, chain.first)
    tables = text.tables(select) if select is not None else []
    for _, name, alias in tables:
        if len(chain.parts) > 1 and chain.parts[0] in (alias, name):
            return name, f"{chain.parts[0]}."
    return (tables[0][1] if len(tables) == 1 else None), ""


def mend_fields(text: HogQLText, position: int, names: Names, fix: str | None = None) -> list[Change]:
    """Return what makes an unknown field known, wherever it stands, the place of the error first; see `mend_field`."""
    first = mend_field(text, position, names, fix)
    chain = _chain_at(text, position)
    if first is None or chain is None:
        return []
    found = [first]
    for token in text.tokens:
        if len(found) == _MOST_PLACES:
            break
        other = _chain_at(text, token.start) if token.text == text.tokens[chain.first].text else None
        if other is None or other.start != token.start or other.parts != chain.parts or other.start == chain.start:
            continue
        change = mend_field(text, token.start, names, fix)
        if change is not None and change.text == first.text:
            found.append(change)
    return found


def mend_field(text: HogQLText, position: int, names: Names, fix: str | None = None) -> Change | None:
    """Return the change that makes an unknown field known.

    Args:
        text: The query.
        position: Character at which the field stands.
        names: What exists.
        fix: What PostHog proposes.
    """
    chain = _chain_at(text, position)
    if chain is None:
        return None
    odd = _odd_property(text, chain, names)
    if odd is not None:
        return odd
    table, qualifier = _table_of(text, chain)
    name = chain.parts[-1]
    if chain.parts[0] == "person" and len(chain.parts) == 2 and name in names.person_properties:
        return _property(chain, "person.", name)
    own, theirs = names.properties, names.person_properties
    if table == "persons":
        own, theirs = names.person_properties, ()
    if table in ("events", "persons") and len(chain.parts) == (2 if qualifier else 1):
        if name in own:
            return _property(chain, qualifier, name)
        if name in theirs:
            return _property(chain, f"{qualifier}person.", name)
        if table == "events" and name.lower() in ("date", "event_date", "day"):
            made = f"toDate({qualifier}timestamp)"
            return Change(chain.start, chain.end, made, f"the day is {made}", "unknown_field")
        other = (_EVENT_FIELDS if table == "events" else _PERSON_FIELDS).get(name.lower())
        if other is not None:
            return Change(chain.start, chain.end, qualifier + other, f"the field is {other}", "unknown_field")
    meant = closest(name, [fix] if fix and "." not in fix else names.fields.get(table or "", ()))
    if meant is None or meant == name or len(chain.parts) > (2 if qualifier else 1):
        return None
    return Change(chain.start, chain.end, qualifier + meant, f"the field is {meant}", "unknown_field")


def _property(chain: _Chain, prefix: str, name: str) -> Change:
    path = written_property(name)
    path = path if path.startswith("properties[") else f"properties.{path}"
    return Change(
        chain.start, chain.end, prefix + path, f"a property is read as {prefix}properties.NAME", "unknown_field"
    )


def _odd_property(text: HogQLText, chain: _Chain, names: Names) -> Change | None:
    """``properties.file-kind`` is a subtraction: the odd name is put into brackets."""
    first = chain.first
    while first > max(chain.first - _MOST_PARTS, 0) and _is_name_part(text.tokens[first - 1]):
        if text.tokens[first - 1].end != text.tokens[first].start:
            break
        first -= 1
    keys = [at for at in range(first, chain.last) if text.tokens[at].low == "properties" and text.is_at(at + 1, ".")]
    if not keys or keys[0] + 2 >= len(text.tokens):
        return None
    begin, last = keys[0] + 2, keys[0] + 2
    best = None
    while last < min(len(text.tokens), begin + _MOST_PARTS) and _is_name_part(text.tokens[last]):
        name = text.text[text.tokens[begin].start : text.tokens[last].end]
        same = name if name in names.properties else closest(name, names.properties, 1.0)
        if same is not None and last > begin:
            best = (last, same)
        if last + 1 == len(text.tokens) or text.tokens[last].end != text.tokens[last + 1].start:
            break
        last += 1
    if best is None:
        return None
    path = written_property(best[1])
    made = path if path.startswith("properties[") else f"properties.{path}"
    start, end = text.tokens[keys[0]].start, text.tokens[best[0]].end
    return Change(start, end, made, "odd names of properties are written in brackets and quotes", "unknown_field")


def _is_name_part(token: Token) -> bool:
    return token.kind in ("word", "number") or token.text in ("-", "/", ":", ".")


def mend_table(text: HogQLText, position: int, names: Names, fix: str | None = None) -> Change | None:
    """Return the change to the table that an unknown one can only mean."""
    chain = _chain_at(text, position)
    if chain is None:
        return None
    meant = closest(chain.parts[-1], [*([fix] if fix else []), *names.tables], _ALIKE_TABLES)
    if meant is None or not re.fullmatch(r"[\w.]+", meant):
        return None
    return Change(chain.start, chain.end, meant, f"the table is {meant}", "unknown_table")


def quoted_texts(text: HogQLText, names: Names, position: int = -1) -> Iterator[Change]:
    """``event = "$pageview"``: what is in double quotes is a column; text is in single quotes.

    Args:
        text: The query.
        names: What exists.
        position: Character at which PostHog finds no column; elsewhere only what is compared is taken for text.
    """
    columns = {column for known in names.fields.values() for column in known} | _aliases(text)
    for at, token in enumerate(text.tokens):
        if not token.text.startswith('"') or name_of(token) in columns or text.is_name(at) or text.is_at(at + 1, "."):
            continue
        is_compared = at > 0 and text.tokens[at - 1].low in ("=", "==", "!=", "<>", "like", "ilike")
        if is_compared or token.start == position or _is_in_list(text, at):
            value = name_of(token).replace("\\", "\\\\").replace("'", "\\'")
            yield Change(token.start, token.end, f"'{value}'", "text is in single quotes", "unknown_field")


def _is_in_list(text: HogQLText, at: int) -> bool:
    """Return whether a token stands in ``IN (...)``."""
    while at > 0 and (text.tokens[at].kind in ("quoted", "string") or text.is_at(at, ",")):
        at -= 1
    return text.is_at(at, "(") and text.is_at(at - 1, "in")


def _aliases(text: HogQLText) -> set[str]:
    return {name_of(token) for at, token in enumerate(text.tokens) if _is_alias(text, at)}


def bare_properties(text: HogQLText, names: Names) -> Iterator[Change]:
    """Properties that are written as if they were columns: ``plan`` for ``properties.plan``."""
    columns = {column for known in names.fields.values() for column in known} | _aliases(text)
    for at, token in enumerate(text.tokens):
        is_free = token.kind == "word" and not text.is_name(at) and not text.is_at(at + 1, "(")
        if not is_free or token.text in columns or token.low in _KEYWORDS:
            continue
        if token.text in names.properties or token.text in names.person_properties:
            change = mend_field(text, token.start, names)
            if change is not None and "properties" in change.text:
                yield change


def _is_alias(text: HogQLText, at: int) -> bool:
    """Return whether a token names something in the query: after AS, or right after an operand or a table."""
    if at == 0 or text.tokens[at].kind not in ("word", "quoted"):
        return False
    before = text.tokens[at - 1]
    if before.low == "as" or text.is_at(at + 1, "as", "("):
        return True
    return (
        before.text in (")", "]")
        or before.kind in ("string", "number")
        or (before.kind in ("word", "quoted") and before.low not in _KEYWORDS)
    )


class Unknown(NamedTuple):
    """A name in a query that does not exist: of an ``event``, a ``property`` or a ``person property``.

    Attributes:
        kind: What it should be the name of.
        name: As the query has it.
        meant: The one that exists and can only be meant.
        change: What puts it into the query; None for a bound value.
    """

    kind: str
    name: str
    meant: str | None
    change: Change | None


def unknown_names(text: HogQLText, names: Names, values: Mapping[str, Any] | None = None) -> list[Unknown]:
    """Return the first names of events and properties in a query that the project has never seen."""
    found: list[Unknown] = []
    for at, token in enumerate(text.tokens):
        if len(found) >= _MOST_UNKNOWN:
            break
        if token.low == "event" and token.kind == "word" and names.events:
            found += _unknown_events(text, at, names, values or {})
        elif token.low == "properties" and token.kind == "word":
            found += _unknown_property(text, at, names)
    return found


def _unknown_events(text: HogQLText, at: int, names: Names, values: Mapping[str, Any]) -> Iterator[Unknown]:
    compares = at + 1 < len(text.tokens) and text.tokens[at + 1].text in ("=", "==", "!=", "<>")
    if compares or text.is_at(at + 1, "in", "{"):
        places = [at + 2]
    elif text.is_at(at + 1, "in", "(") and at + 2 in text.partners:
        places = list(range(at + 3, text.partners[at + 2]))
    elif text.is_at(at + 1, "not", "in", "(") and at + 3 in text.partners:
        places = list(range(at + 4, text.partners[at + 3]))
    else:
        return
    for place in places:
        token = text.tokens[place] if place < len(text.tokens) else None
        if token is not None and token.kind == "string":
            name = token.text[1:-1].replace("''", "'").replace("\\'", "'")
            if name not in names.events:
                meant = closest(name, names.events)
                why = f"the event is {meant}"
                change = Change(token.start, token.end, f"'{meant}'", why, "unknown_event") if meant else None
                yield Unknown("event", name, meant, change)
        elif text.is_at(place, "{") and place + 1 < len(text.tokens):
            value = values.get(text.tokens[place + 1].text)
            for bound in value if isinstance(value, (list, tuple)) else [value]:
                if isinstance(bound, str) and bound not in names.events:
                    yield Unknown("event", bound, closest(bound, names.events), None)


def _unknown_property(text: HogQLText, at: int, names: Names) -> Iterator[Unknown]:
    qualifier = name_of(text.tokens[at - 2]) if text.is_name(at) else ""
    chain = _chain_at(text, text.tokens[at].start)
    table, alias = _table_of(text, chain) if chain is not None else (None, "")
    is_person = qualifier == "person" or table == "persons"
    if table not in ("events", "persons") or (qualifier and not alias and not is_person):
        return
    known = names.person_properties if is_person else names.properties
    if text.is_at(at + 1, ".") and at + 2 < len(text.tokens):
        start, end, name = text.tokens[at + 1].start, text.tokens[at + 2].end, name_of(text.tokens[at + 2])
    elif text.is_at(at + 1, "[") and text.is_at(at + 3, "]") and text.tokens[at + 2].kind == "string":
        start, end, name = text.tokens[at + 1].start, text.tokens[at + 3].end, text.tokens[at + 2].text[1:-1]
    else:
        return
    if name in known or not known:
        return
    meant = closest(name, known)
    change = None
    if meant is not None:
        path = written_property(meant)
        made = path[len("properties") :] if path.startswith("properties[") else f".{path}"
        change = Change(start, end, made, f"the property is {meant}", "unknown_property")
    yield Unknown("person property" if is_person else "property", name, meant, change)
