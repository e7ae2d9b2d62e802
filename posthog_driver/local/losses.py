"""What both parsers read and then drop, found again in the text.

PostHog's grammar takes ``ORDER BY x NULLS LAST``, ``WITH TOTALS``, ``FILTER (...) OVER``, ``t.* EXCLUDE (...)``,
``IGNORE NULLS`` and ``COLLATE``, but the trees have no trace of them, so a translation of the tree alone would answer
another question. `restore` puts back what can be honoured, and refuses the rest by name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .guard import tokens

__all__ = ["Loss", "restore"]

_SUSPECT = re.compile(r"\b(?:nulls|totals|rollup|cube|filter|exclude|collate)\b", re.IGNORECASE)
_AFTER_GROUP_BY = frozenset(
    ("", ")", ";", "having", "order", "limit", "union", "intersect", "except", "with", "window", "offset")
)


@dataclass(frozen=True)
class Loss:
    """Words that have no effect, and where they stand."""

    message: str
    start: int
    end: int


@dataclass(frozen=True)
class _Token:
    text: str
    start: int
    end: int


def restore(text: str, tree: dict[str, Any]) -> Loss | None:
    """Put what the parser dropped back into its tree: ``nulls`` into ``OrderExpr``, ``table`` into ``ColumnsExpr``.

    Args:
        text: The query.
        tree: Its tree, changed in place.

    Returns:
        What cannot be put back, None if there is nothing.
    """
    if not _SUSPECT.search(text):
        return None
    found = [_Token(match[0].lower(), *match.span()) for match in tokens(text)]
    for index, token in enumerate(found):
        after = found[index + 1 : index + 3]
        words = [token.text, *(t.text for t in after), "", ""][:3]
        if words[0] == "nulls" and words[1] in ("first", "last"):
            if order := _innermost(tree, "OrderExpr", token.start, after="expr"):
                order["nulls"] = words[1].upper()
        elif words[0] == "exclude" and [t.text for t in found[max(index - 2, 0) : index]] == [".", "*"]:
            if star := _innermost(tree, "ColumnsExpr", token.start):
                star["table"] = _name(text, found[index - 3])
        elif loss := _loss(found, index, words):
            return Loss(loss, token.start, after[0].end)
    return None


def _loss(found: list[_Token], index: int, words: list[str]) -> str:
    """What is wrong with the words from this token on, empty if nothing."""
    if words[0] in ("ignore", "respect") and words[1] == "nulls":
        return f"{words[0].upper()} NULLS has no effect in HogQL"
    if words[0] == "with" and words[1] in ("totals", "rollup", "cube") and words[2] in _AFTER_GROUP_BY:
        instead = "" if words[1] == "totals" else f", but GROUP BY {words[1].upper()}(...) has"
        return f"WITH {words[1].upper()} has no effect in HogQL{instead}"
    if words[0] == "filter" and words[1] == "(" and _after_bracket(found, index + 1) == "over":
        return "FILTER has no effect on a window function in HogQL: use a function that ends in If"
    if words[0] == "collate" and words[1].startswith("'"):
        return "COLLATE has no effect in HogQL"
    return ""


def _after_bracket(found: list[_Token], index: int) -> str:
    """The token after the bracket that closes the one at this index."""
    depth = 0
    for position in range(index, len(found)):
        depth += (found[position].text == "(") - (found[position].text == ")")
        if depth == 0:
            return found[position + 1].text if position + 1 < len(found) else ""
    return ""


def _name(text: str, token: _Token) -> str:
    name = text[token.start : token.end]
    return name[1:-1].replace(name[0] * 2, name[0]) if name[0] in '`"' else name


def _innermost(tree: dict[str, Any], kind: str, offset: int, after: str = "") -> dict[str, Any] | None:
    """The smallest node of a kind around a character, which stands behind one of its parts if that is given."""
    around = [node for node in _nodes(tree, kind) if _start(node) <= offset < _end(node)]
    if after:
        around = [node for node in around if _end(node[after]) <= offset]
    return min(around, key=lambda node: _end(node) - _start(node), default=None)


def _start(node: dict[str, Any]) -> int:
    return int(node["start"]["offset"])


def _end(node: dict[str, Any]) -> int:
    return int(node["end"]["offset"])


def _nodes(item: Any, kind: str) -> Iterator[dict[str, Any]]:
    if isinstance(item, dict):
        if item.get("node") == kind and isinstance(item.get("start"), dict):
            yield item
        for part in item.values():
            yield from _nodes(part, kind)
    elif isinstance(item, list):
        for part in item:
            yield from _nodes(part, kind)
