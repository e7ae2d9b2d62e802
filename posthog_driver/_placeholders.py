"""A lexer for the parts of HogQL that matter before sending: which ``{placeholders}`` a text has, and its words.

It knows strings, template strings, quoted identifiers and comments as PostHog's grammar has them, so that braces inside
them are no placeholders. It does not parse: whether a text is valid HogQL is PostHog's to say.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from posthog_driver.exceptions import ValidationError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Lexed", "check_values", "lex"]

# PostHog fills these itself, from `filters` and `variables` of the query.
_SERVER_ROOTS = ("filters", "variables")

_TOKEN = re.compile(
    r"""
      (?P<comment>--[^\n]*|//[^\n]*|\#[^\n]*|/\*.*?(?:\*/|\Z))
    | (?P<template>[fF]')
    | (?P<string>'(?:[^'\\]|\\.|'')*(?:'|\Z))
    | (?P<quoted>`(?:[^`\\]|\\.|``)*(?:`|\Z)|"(?:[^"\\]|\\.|"")*(?:"|\Z))
    | (?P<word>[A-Za-z_$][A-Za-z0-9_$]*)
    | (?P<open>\{)
    | (?P<close>\})
    """,
    re.VERBOSE | re.DOTALL,
)
_NAME = re.compile(r"\{\s*([A-Za-z_$][A-Za-z0-9_$]*)((?:\s*\.\s*[A-Za-z_$][A-Za-z0-9_$]*)*)\s*\}")


class Lexed(NamedTuple):
    """What the lexer saw: names of placeholders, and the text's words in lower case."""

    placeholders: frozenset[str]
    words: tuple[str, ...]


def lex(hogql: str) -> Lexed:
    """Return the placeholders and words of a query; of ``{a.b}`` the root, and none that only PostHog can fill."""
    names: set[str] = set()
    words: list[str] = []
    _code(hogql, 0, names, words, in_template=False)
    return Lexed(frozenset(names), tuple(words))


def check_values(hogql: str, values: Mapping[str, Any] | None) -> Lexed:
    """Check that each placeholder has a value and each value a placeholder.

    Raises:
        ValidationError: names all that are missing and all that are unused.
    """
    lexed = lex(hogql)
    given = set(values or ())
    problems = []
    missing = sorted(lexed.placeholders - given)
    unused = sorted(map(repr, given - lexed.placeholders))
    if missing:
        problems.append(f"no value for {', '.join(f'{{{name}}}' for name in missing)}")
    if unused:
        problems.append(f"no placeholder in the query for the value {', '.join(unused)}")
    if problems:
        raise ValidationError(
            f"{'; '.join(problems)}. Pass data as query(text, {{'name': value}}) and write {{name}} where it belongs. "
            "Nothing was sent."
        )
    return lexed


def _code(text: str, start: int, names: set[str], words: list[str], *, in_template: bool) -> int:
    """Lex code from ``start``; inside a template string it ends with the brace that closes it. Returns the end."""
    at, depth = start, 0
    while found := _TOKEN.search(text, at):
        at = found.end()
        kind = found.lastgroup
        if kind == "word":
            words.append(found.group().lower())
        elif kind == "template":
            at = _template(text, at, names, words)
        elif kind == "open":
            depth += 1
            if name := _NAME.match(text, found.start()):
                at, depth = name.end(), depth - 1
                if name.group(1) not in _SERVER_ROOTS or (name.group(1) == "variables" and not name.group(2)):
                    names.add(name.group(1))
        elif kind == "close":
            if in_template and depth == 0:
                return at
            depth = max(depth - 1, 0)
    return len(text)


def _template(text: str, start: int, names: set[str], words: list[str]) -> int:
    """Lex the inside of ``f'...'``: text, and code within braces. Returns the end."""
    at = start
    while at < len(text):
        char = text[at]
        if char == "\\":
            at += 2
        elif char == "'":
            return at + 1
        elif char == "{":
            at = _code(text, at + 1, names, words, in_template=True)
        else:
            at += 1
    return len(text)
