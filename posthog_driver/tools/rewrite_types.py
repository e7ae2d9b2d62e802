"""Changes that make values fit: sums of text, names of time zones, numbers compared with text."""

from __future__ import annotations

import re
from collections.abc import Iterator

from posthog_driver.tools.hogql_text import HogQLText, Span
from posthog_driver.tools.rewrite_calls import Change

__all__ = ["mend_type"]

_NUMERIC = frozenset(
    ("sum", "avg", "sumif", "avgif", "median", "quantile", "stddevpop", "stddevsamp", "varpop", "varsamp", "round")
)
_COMPARISONS = ("=", "==", "!=", "<>", "<", ">", "<=", ">=")


def mend_type(text: HogQLText, words: str) -> Iterator[Change]:
    """Yield the changes that a complaint about types asks for.

    Args:
        text: The query.
        words: What PostHog said.
    """
    zone = re.search(r"time zone:? '?([\w/+-]+)", words)
    if zone is not None:
        yield from _zones(text, zone[1])
    elif "Illegal type String" in words:
        yield from _numbers(text)
    elif "supertype" in words or "Cannot convert string" in words:
        yield from _texts(text)


def _zones(text: HogQLText, name: str) -> Iterator[Change]:
    """Names of time zones are case-sensitive."""
    import zoneinfo  # reads the file system: only where it is needed

    known = {zone.casefold(): zone for zone in zoneinfo.available_timezones()}
    meant = known.get(name.casefold())
    for token in text.tokens:
        if token.text == f"'{name}'" and meant is not None and meant != name:
            why = f"names of time zones are case-sensitive: {meant}"
            yield Change(token.start, token.end, f"'{meant}'", why, "type")


def _numbers(text: HogQLText) -> Iterator[Change]:
    """``sum(properties.x)`` of a property that is text."""
    for at, arguments in text.calls():
        if text.tokens[at].low not in _NUMERIC or not arguments:
            continue
        first = arguments[0]
        if _is_property(text, first):
            start, end = text.tokens[first.first].start, text.tokens[first.last - 1].end
            made = f"toFloat({text.source(first)})"
            yield Change(start, end, made, "properties may be text: numbers are made by toFloat", "type")


def _texts(text: HogQLText) -> Iterator[Change]:
    """``event = 5``: a number that is compared with text."""
    for at, token in enumerate(text.tokens):
        is_compared = token.kind == "number" and at >= 2 and text.tokens[at - 1].text in _COMPARISONS
        if is_compared and text.tokens[at - 2].kind in ("word", "quoted"):
            why = "text is compared with text"
            yield Change(token.start, token.end, f"'{token.text}'", why, "type")


def _is_property(text: HogQLText, span: Span) -> bool:
    tokens = text.tokens[span.first : span.last]
    is_chain = all(token.kind in ("word", "quoted", "string") or token.text in ".[]" for token in tokens)
    return is_chain and any(token.low == "properties" for token in tokens)
