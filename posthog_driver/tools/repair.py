"""What a model is told when a query went wrong: where, why, which names exist, and the query that PostHog accepts.

`check_query` looks before anything is sent, `explain` turns an error of the driver into a `Problem`;
`posthog_driver.tools.notes` says what is wrong or dangerous about a query that worked. All are pure. The texts are
ours; what PostHog said about the data stands in a fence, as it may quote what visitors sent.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from posthog_driver.exceptions import PostHogError, ValidationError
from posthog_driver.tools.checks import MAX_QUERY, check_query
from posthog_driver.tools.escaping import is_safe
from posthog_driver.tools.hogql_text import HogQLText
from posthog_driver.tools.layout import escape
from posthog_driver.tools.names import Names, nearest
from posthog_driver.tools.problem import MAX_TEXT, Problem, fits
from posthog_driver.tools.remedies import Remedy, heavy, kind_of, remedy_of
from posthog_driver.tools.rewrite_calls import Change, likely_function
from posthog_driver.tools.rewrite_names import bare_properties, closest, mend_fields, mend_table, quoted_texts
from posthog_driver.tools.rewrite_types import mend_type
from posthog_driver.tools.rewrites import find_changes, rewrite

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["MAX_QUERY", "MAX_TEXT", "Problem", "check_query", "explain"]

_MOST_SAID = 280
_MOST_FRAGMENT = 120
_MOST_NAME = 60
# A longer query does not fit into the text, however short its line becomes.
_MOST_LOOKED_AT = 4_000
_AGAIN = "change the query and call posthog_query again"
_OTHERS = "change the arguments and call again"
_SEND = "call posthog_query with the rewritten query"
_OF_THE_QUERY = (
    "syntax", "unknown_table", "unknown_field", "unknown_function", "wrong_arity", "type", "join_inequality",
    "aggregation", "not_allowed",
)  # fmt: skip


def explain(
    error: PostHogError, query: str = "", names: Names | None = None, metadata: Mapping[str, Any] | None = None
) -> Problem:
    """Turn an error of the driver into what the model is told.

    Args:
        error: Any error of the driver.
        query: The query that was sent; empty if it was none.
        names: What exists in the project.
        metadata: PostHog's answer to ``HogQLMetadata`` about the query, which may know a position that the error lacks.
    """
    names = names or Names()
    kind = kind_of(error)
    if kind in ("timeout", "memory", "too_expensive"):
        return _from(heavy(error, kind, query), error, query)
    if kind not in _OF_THE_QUERY:
        return _from(remedy_of(error, kind), error, query)
    return _Explainer(error, kind, query, names, metadata).problem()


def _from(remedy: Remedy, error: PostHogError, query: str) -> Problem:
    quoted = _said(error) if remedy.shows_words else ()
    return Problem(remedy.kind, None, query, remedy.fix, remedy.next, quoted, outcome=remedy.outcome)


def _said(error: PostHogError) -> tuple[str, ...]:
    words = error.detail or (str(error) if isinstance(error, ValidationError) else "")
    lines = [line.strip() for line in words.splitlines() if not line.startswith(("Hint:", "Tables referenced:"))]
    said = " ".join(line for line in lines if line)
    if not said:
        return ()
    return (said if len(said) <= _MOST_SAID else f"{said[:_MOST_SAID]}... ({len(said) - _MOST_SAID} more characters)",)


class _Explainer:
    """One error that the query itself can mend."""

    def __init__(
        self, error: PostHogError, kind: str, query: str, names: Names, metadata: Mapping[str, Any] | None
    ) -> None:
        self.error = error
        self.kind = kind
        self.query = query
        self.names = names
        self.text = HogQLText(query)
        self.trouble = _trouble(error, metadata)
        self.found = find_changes(query, kind, names.tables)

    def problem(self) -> Problem:
        """Return what the model is told."""
        own = self._own_changes()
        covering = [change for change in self.found if self._covers(change)]
        main = next(iter([*covering, *own, *self.found]), None)
        position = self._position(main)
        rewritten = self._rewritten(own)
        whys = list(dict.fromkeys(change.why for change in [*([main] if main else []), *covering, *own, *self.found]))
        near = self._near(position) if rewritten is None else ()
        kind = main.kind if main is not None and self.kind in ("syntax", "type") and main in self.found else self.kind
        fix = "; ".join(whys) if whys else self._advice(position, near)
        if whys and rewritten is None:
            fix += "".join(f"; at {each.start}-{each.end} write {each.text}" for each in _short([*covering, *own]))
        # A rewrite that the error does not point at may still leave it: then PostHog's words are needed, too.
        quoted = () if rewritten is not None and (covering or own) else (*_said(self.error), *near)
        again = _SEND if rewritten else _AGAIN if self.query else _OTHERS
        return Problem(kind, position, self.query, fix, again, quoted, rewritten)

    def _covers(self, change: Change) -> bool:
        start = self.trouble[0]
        if start is None:
            return change.kind == self.kind
        return change.start - 2 <= start < max(change.end, change.start + 1)

    def _own_changes(self) -> list[Change]:
        """Return the changes that depend on names and types, none where a rule covers the place already."""
        start, _, fix = self.trouble
        if any(self._covers(change) for change in self.found):
            return []
        if self.kind == "type":
            return list(mend_type(self.text, self.error.detail or ""))
        if start is None:
            return []
        if self.kind == "unknown_field":
            quoted = list(quoted_texts(self.text, self.names, start))
            is_quoted = any(change.start <= start < change.end for change in quoted)
            return quoted if is_quoted else mend_fields(self.text, start, self.names, fix)
        change: Change | None = None
        if self.kind == "unknown_table":
            change = mend_table(self.text, start, self.names, fix)
        elif self.kind == "unknown_function":
            change = self._function(start, fix)
        return [change] if change is not None else []

    def _function(self, start: int, fix: str | None) -> Change | None:
        match = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*").match(self.query, start)
        meant = closest(match[0], [fix]) if match is not None and fix else None
        if match is None or meant is None:
            return None
        return Change(match.start(), match.end(), meant, f"the function is {meant}", "unknown_function")

    def _rewritten(self, own: list[Change]) -> str | None:
        """Return the query with all changes, if there are any; properties that stand bare are mended as well."""
        query = self.query
        if len(query) > _MOST_LOOKED_AT:
            return None
        for change in sorted(own, reverse=True):
            query = query[: change.start] + change.text + query[change.end :]
        mechanical = rewrite(query, self.kind, self.names.tables)
        query = mechanical.query if mechanical is not None else query
        for look in (quoted_texts, bare_properties):
            text = HogQLText(query)
            for change in [] if text.has_templates else reversed(list(look(text, self.names))):
                query = query[: change.start] + change.text + query[change.end :]
        return query if query != self.query and fits(query) else None

    def _position(self, main: Change | None) -> tuple[int, int] | None:
        start, end, _ = self.trouble
        if start is not None and (start or end):
            return start, max(end or start + 1, start)
        return (main.start, main.end) if main is not None else None

    def _near(self, position: tuple[int, int] | None) -> tuple[str, ...]:
        """Return names of the project that are like the one at the position."""
        name = self.query[position[0] : position[1]].strip("\"`'") if position is not None else ""
        name = name.rsplit(".", 1)[-1]
        if self.kind == "unknown_field" and name:
            paths = [f"properties.{found}" for found in nearest(name, self.names.properties, 3)]
            paths += [f"person.properties.{found}" for found in nearest(name, self.names.person_properties, 2)]
            tables = {table for select in self.text.selects for _, table, _ in self.text.tables(select)}
            fields = {field for table, known in self.names.fields.items() if table in tables for field in known}
            found = [*nearest(name, sorted(fields), 3), *paths]
        elif self.kind == "unknown_table" and name:
            found = nearest(name, self.names.tables, 5)
        else:
            found = []
        short = [name for name in found if len(name) <= _MOST_NAME]
        return (f"names that exist: {', '.join(short)}",) if short else ()

    def _advice(self, position: tuple[int, int] | None, near: tuple[str, ...]) -> str:
        """Return what to do where nothing could be rewritten."""
        name = escape(self.query[position[0] : position[1]])[:60] if position is not None else ""
        below = "the nearest names are below" if near else "see posthog_schema for what exists"
        if self.kind == "unknown_field":
            return (
                f'"{name}" is no field here; properties are read as properties.NAME or person.properties.NAME; {below}'
            )
        if self.kind == "unknown_table":
            return f'there is no table "{name}"; {below}'
        if self.kind == "unknown_function":
            meant = likely_function(name) or self.trouble[2]
            return f"PostHog has no function {name}" + (f"; perhaps {meant}" if meant else "; build it from others")
        return _ADVICE.get(self.kind, _ADVICE["syntax"]) if self.error.hint is None else escape(self.error.hint)[:200]


def _short(changes: list[Change]) -> list[Change]:
    """Return the first changes that can be said in a few words."""
    return [change for change in changes if len(change.text) <= _MOST_FRAGMENT and is_safe(change.text)][:2]


_ADVICE = {
    "syntax": "PostHog cannot read it from there on; check commas, brackets and quotes; text is in 'single quotes'",
    "wrong_arity": "the number of arguments is wrong; see PostHog's words",
    "type": "types do not fit: wrap properties in toFloat(...), toInt(...) or toString(...), times in toDateTime(...)",
    "join_inequality": "JOIN ... ON takes equality alone; put comparisons into WHERE after a CROSS JOIN",
    "aggregation": "aggregates cannot be nested or stand in WHERE: aggregate in a sub-query, filter with HAVING, put "
    "all other columns into GROUP BY",
    "not_allowed": "keys may not do this; page by the last row's timestamp: WHERE timestamp > ... ORDER BY timestamp",
}


def _trouble(error: PostHogError, metadata: Mapping[str, Any] | None) -> tuple[int | None, int | None, str | None]:
    """Return start, end and proposal of PostHog for the first error."""
    if error.position is not None and (error.position or error.end):
        return error.position, error.end, error.fix
    errors = metadata.get("errors") if metadata else None
    first = errors[0] if isinstance(errors, list) and errors and isinstance(errors[0], dict) else {}
    start, end, fix = first.get("start"), first.get("end"), first.get("fix")
    start = start if isinstance(start, int) and (start or end) else None
    is_text = isinstance(fix, str) and not fix.startswith("ai_prompt:")
    return start, end if isinstance(end, int) else None, fix if is_text else error.fix
