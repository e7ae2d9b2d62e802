"""What to say about a query that worked and is wrong or dangerous all the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from posthog_driver.tools.escaping import escape
from posthog_driver.tools.hogql_text import HogQLText, Select, Token, name_of, one_line
from posthog_driver.tools.names import Names
from posthog_driver.tools.problem import fits
from posthog_driver.tools.rewrite_names import unknown_names

__all__ = ["advise", "levers", "unbounded"]

_BOUND = "AND timestamp >= now() - INTERVAL 30 DAY"
_MOST_CHARACTERS = 20_000
_MOST_NAMES = 3
_OF_PERSONS = {"properties": "person.properties", "id": "person_id", "created_at": "person.created_at"}
_COUNTS = ("uniq", "uniqexact", "count", "uniqif", "uniqexactif", "countdistinct")


def advise(
    query: str,
    rows: Sequence[Sequence[Any]] = (),
    names: Callable[[], Names] = Names,
    values: Mapping[str, Any] | None = None,
) -> tuple[str, ...]:
    """Return sentences about a query that worked; none where nothing is to be said.

    Said are: no time bound, whole ``properties``, users counted by ``distinct_id``, joins that cost much, and, where
    a result is empty or a column has nothing in it, names of events and properties that do not exist.

    Args:
        query: HogQL that PostHog has run.
        rows: Its rows, as sequences.
        names: Gives the names that exist; called only if the result raises the question.
        values: Values of its placeholders.
    """
    text = HogQLText(query)
    if text.has_templates or len(query) > _MOST_CHARACTERS:
        return ()
    found = [note for note, _ in _costly(text)]
    devices = _counted_devices(text)
    if devices:
        found.append("distinct_id counts devices and browsers; one user is one person_id")
        found += _rewritten(text, [(token.start, token.end, "person_id") for token in devices])
    if _has_nothing(rows):
        found += _strange_names(text, names(), values)
    return tuple(found)


def levers(text: HogQLText) -> list[str]:
    """Return what would make a query cheaper."""
    return [lever for _, lever in _costly(text) if lever]


def unbounded(text: HogQLText) -> list[Select]:
    """Return the SELECTs that read events without a bound of time in their own WHERE."""
    return [select for select in text.selects if _reads_events(text, select) and not _is_bounded(text, select)]


def _reads_events(text: HogQLText, select: Select) -> bool:
    return any(name == "events" for _, name, _ in text.tables(select))


def _is_bounded(text: HogQLText, select: Select) -> bool:
    for clause in select.clauses:
        if clause.name in ("where", "prewhere"):
            words = [text.tokens[at].low for at in range(clause.body.first, clause.body.last)]
            if "timestamp" in words or "filters" in words:
                return True
    return False


def _costly(text: HogQLText) -> Iterator[tuple[str, str]]:
    """Yield note and lever for each thing that makes a query dear."""
    if text.selects and (open_ones := unbounded(text)):
        where = "" if len(text.selects) == 1 else f" of the SELECT at {text.tokens[open_ones[0].span.first].start}"
        has_where = open_ones[0].clause("where") is not None
        bound = _BOUND if has_where else _BOUND.replace("AND", "WHERE", 1)
        yield (
            f"events was read without a bound of time{where}: add {bound}",
            f"there is no bound of time{where}: add {bound}",
        )
    if _dumps_properties(text):
        line = "whole properties were selected: pick the keys you need, as properties.name"
        yield line, line.replace("were selected", "are selected")
    for select in text.selects:
        origin = select.clause("from")
        joined = [text.tokens[join.table.first].low for join in text.joins(origin.body)] if origin else []
        if _reads_events(text, select) and "persons" in joined:
            line = "JOIN persons is slow and not needed: events have person.properties.name and person_id"
            yield line, line
            yield from ((line, "") for line in _rewritten(text, _without_join(text, select)))
        if origin is not None and text.is_at(origin.body.first, "events") and "events" in joined:
            line = (
                "events joined with events multiplies rows: use countIf(...) per person_id, or person_id IN (SELECT "
                "person_id FROM events WHERE ...)"
            )
            yield line, line


def _without_join(text: HogQLText, select: Select) -> list[tuple[int, int, str]]:
    """Return the edits that replace the only JOIN, of persons, by what events have themselves; none if too little."""
    origin = select.clause("from")
    joins = text.joins(origin.body) if origin is not None else []
    on = joins[0].on if len(joins) == 1 else None
    if on is None or len(text.selects) != 1:
        return []
    begin, alias = joins[0].at, text.tables(select)[1][2]
    edits = [(text.tokens[begin - 1].end, text.tokens[on.last - 1].end, "")]
    for at, token in enumerate(text.tokens):
        if begin <= at < on.last or token.kind != "word" or token.text != alias or text.is_name(at):
            continue
        field = text.tokens[at + 2] if text.is_at(at + 1, ".") and at + 2 < len(text.tokens) else None
        made = _OF_PERSONS.get(name_of(field)) if field is not None else None
        if field is None or made is None:
            return []
        edits.append((token.start, field.end, made))
    return edits


def _dumps_properties(text: HogQLText) -> bool:
    for select in text.selects[:1]:
        for item in text.items(select.clauses[0].body):
            first = item.first + 2 if text.is_at(item.first + 1, ".") else item.first
            is_star = (
                text.tokens[item.first].text == "*" and item.last - item.first == 1 and _reads_events(text, select)
            )
            is_whole = (
                text.is_at(first, "properties") and not text.is_at(first + 1, ".") and not text.is_at(first + 1, "[")
            )
            if is_star or is_whole:
                return True
    return False


def _counted_devices(text: HogQLText) -> list[Token]:
    """Return where ``distinct_id`` is counted."""
    spans = [arguments[0] for _, arguments in text.calls(*_COUNTS) if arguments]
    tokens = [token for span in spans for token in text.tokens[span.first : span.last]]
    return [token for token in tokens if token.low == "distinct_id"]


def _rewritten(text: HogQLText, edits: list[tuple[int, int, str]]) -> Iterator[str]:
    """Yield the line with the query after the edits, if it can be shown."""
    query = text.text
    for start, end, made in sorted(edits, reverse=True):
        query = query[:start] + made + query[end:]
    if edits and fits(query):
        yield f"rewritten: {one_line(query)}"


def _has_nothing(rows: Sequence[Sequence[Any]]) -> bool:
    """Return whether there are no rows, or a column has nothing but NULL, zero and empty text."""
    return not rows or any(all(cell in (None, 0, "") for cell in column) for column in zip(*rows, strict=False))


def _strange_names(text: HogQLText, names: Names, values: Mapping[str, Any] | None) -> Iterator[str]:
    every = unknown_names(text, names, values)
    distinct = list({(unknown.kind, unknown.name): unknown for unknown in every}.values())
    for unknown in distinct[:_MOST_NAMES]:
        meant = (
            f"perhaps {unknown.meant}"
            if unknown.meant
            else f'see posthog_schema {{"search": "{_search(unknown.name)}"}}'
        )
        yield f'there is no {unknown.kind} "{escape(unknown.name)[:60]}", so this may be empty for that reason: {meant}'
    if len(distinct) > _MOST_NAMES:
        yield f"more names in the query do not exist (at least {len(distinct) - _MOST_NAMES}): see posthog_schema"
    changes = [unknown.change for unknown in every if unknown.change is not None]
    yield from _rewritten(text, [(change.start, change.end, change.text) for change in changes])


def _search(name: str) -> str:
    """Return the beginning of a name that a search is likely to find."""
    letters = "".join(character for character in name if character.isalnum() or character in "_ $-")
    return letters[: max(4, len(letters) // 2)]
