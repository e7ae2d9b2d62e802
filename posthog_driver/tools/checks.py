"""What can be said about a query before anything is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from posthog_driver.tools.hogql_text import HogQLText
from posthog_driver.tools.layout import escape
from posthog_driver.tools.problem import Problem
from posthog_driver.tools.rewrite_names import closest

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["MAX_QUERY", "check_query"]

MAX_QUERY = 50_000
"""Most characters of a query; ours: nothing a model writes for one question is longer."""

_AGAIN = "change the query and call posthog_query again"
_SEND = "call posthog_query with the rewritten query"


def check_query(query: str, values: Mapping[str, Any] | None = None) -> Problem | None:
    """Return what keeps a query from being sent, or None.

    Checked are: one statement, that it is a SELECT (or WITH), its length, and that placeholders and values match.

    Args:
        query: HogQL.
        values: Values for its placeholders.
    """
    if len(query) > MAX_QUERY:
        fix = f"the query has {len(query):,} characters, {MAX_QUERY:,} is the most; put long lists into values"
        return Problem("bad_argument", None, query, fix, _AGAIN)
    text = HogQLText(query)
    if not text.tokens:
        example = (
            "SELECT event, count() AS n FROM events WHERE timestamp >= now() - INTERVAL 7 DAY GROUP BY event LIMIT 20"
        )
        return Problem("bad_argument", None, query, f"the query is empty, e.g. {example}", _AGAIN)
    return _not_a_select(text) or _second_statement(text) or _unmatched_values(text, values or {})


def _not_a_select(text: HogQLText) -> Problem | None:
    first = next((token for token in text.tokens if token.text != "("), text.tokens[0])
    if first.low in ("select", "with"):
        return None
    position = (first.start, first.end)
    if first.low in ("show", "describe", "desc"):
        return Problem(
            "not_a_select", position, text.text, "tables and fields are listed by posthog_schema", "call posthog_schema"
        )
    if first.low == "explain":
        rest = text.text[first.end :].strip()
        fix = "a query is checked, not run, with check_only: true"
        return Problem(
            "not_a_select", position, text.text, fix, _SEND, rewritten=rest if check_query(rest) is None else None
        )
    fix = "only one SELECT can be run, which may begin with WITH; nothing can be changed"
    return Problem("not_a_select", position, text.text, fix, _AGAIN)


def _second_statement(text: HogQLText) -> Problem | None:
    for at, token in enumerate(text.tokens[:-1]):
        if token.text == ";" and any(later.text != ";" for later in text.tokens[at + 1 :]):
            position = (token.start, text.tokens[-1].end)
            fix = "one statement a call: send each in its own call, all in one turn"
            return Problem("syntax", position, text.text, fix, _AGAIN)
    return None


def _unmatched_values(text: HogQLText, values: Mapping[str, Any]) -> Problem | None:
    needed: dict[str, tuple[int, int]] = {}
    optional: set[str] = set()
    for at, token in enumerate(text.tokens):
        close = text.partners.get(at)
        if token.text != "{" or close is None:
            continue
        inside = text.tokens[at + 1 : close]
        names = [item.text for item in inside if item.kind in ("word", "quoted")]
        if len(inside) == 1 and names and inside[0].low not in ("filters", "variables"):
            needed.setdefault(names[0].strip('`"'), (token.start, text.tokens[close].end))
        else:
            optional.update(names)
    for name, position in needed.items():
        if name not in values:
            fix = f'{{{name}}} has no value: add "values": {{"{escape(name)}": ...}}'
            return Problem("missing_value", position, text.text, fix, "call posthog_query again with values")
    if text.has_templates:
        return None
    unused = [name for name in values if name not in needed and name not in optional]
    styles = _bind_style(text)
    if styles is not None:
        return styles
    if unused:
        near = closest(unused[0], needed)
        meant = f"; the query has {{{near}}}" if near else ""
        fix = f'the value "{escape(unused[0])[:60]}" has no placeholder in the query{meant}: write it as {{name}}'
        return Problem("bad_argument", None, text.text, fix, _AGAIN)
    return None


def _bind_style(text: HogQLText) -> Problem | None:
    """``?``, ``%s``, ``:name`` and ``@name`` where a value is expected."""
    for at in range(1, len(text.tokens)):
        token, before = text.tokens[at], text.tokens[at - 1]
        if before.low not in ("=", "==", "!=", "<>", ">", "<", ">=", "<=", "(", ",", "like", "in", "and", "between"):
            continue
        following = text.tokens[at + 1] if at + 1 < len(text.tokens) else None
        is_named = token.text in (":", "@", "%") and following is not None and following.kind == "word"
        is_named = is_named and following is not None and following.start == token.end
        if token.text == "?" or is_named:
            name = following.text if is_named and following is not None and token.text != "%" else "value"
            end = following.end if is_named and following is not None else token.end
            made = text.text[: token.start] + f"{{{name}}}" + text.text[end:]
            fix = f'a value is written {{{name}}} in the query and given in "values": {{"{name}": ...}}'
            again = "call posthog_query with the rewritten query and its values"
            return Problem("missing_value", (token.start, end), text.text, fix, again, rewritten=made)
    return None
