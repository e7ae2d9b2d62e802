"""A lexer for the parts of HogQL that matter before sending: which ``{placeholders}`` a text has, and its words.

It knows strings, template strings, quoted identifiers and comments as PostHog's grammar has them, so that braces inside
them are no placeholders. It does not parse: whether a text is valid HogQL is PostHog's to say, and so is what an
expression in braces needs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from posthog_driver.exceptions import ValidationError

__all__ = ["Lexed", "check_values", "lex"]

# PostHog fills these itself, from `filters` and `variables` of the query.
_SERVER_ROOTS = ("filters", "variables")

# A quote that is not closed, and a backslash that escapes nothing, go to the end: else the time would be quadratic.
_TOKEN = re.compile(
    r"""
      (?P<comment>(?:--|//|\#)[^\r\n]*|/\*.*?(?:\*/|\Z))
    | (?P<template>f')
    | (?P<string>'(?:[^'\\]|\\(?:.|\Z)|'')*(?:'|\Z))
    | (?P<quoted>`(?:[^`\\]|\\(?:.|\Z)|``)*(?:`|\Z)|"(?:[^"\\]|\\(?:.|\Z)|"")*(?:"|\Z))
    | (?P<word>[A-Za-z_$][A-Za-z0-9_$]*)
    | (?P<open>\{)
    | (?P<close>\})
    """,
    re.VERBOSE | re.DOTALL,
)


class Lexed(NamedTuple):
    """What the lexer saw.

    Attributes:
        placeholders: Names that need a value: ``x`` of ``{x}`` and of ``{x.y}``.
        optional: Names within other braces, as in ``{x + 1}``, which may need one.
        served: ``filters`` and ``variables``, where the text has placeholders for PostHog to fill from these.
        words: The text's words in lower case.
    """

    placeholders: frozenset[str]
    optional: frozenset[str]
    served: frozenset[str]
    words: tuple[str, ...]


@lru_cache(maxsize=64)
def lex(hogql: str) -> Lexed:
    """Return the placeholders and words of a query.

    Raises:
        ValidationError: template strings are nested hundreds deep.
    """
    lexer = _Lexer(hogql)
    try:
        lexer.code(0)
    except RecursionError:
        raise ValidationError("The query's template strings are nested too deeply. Nothing was sent.") from None
    return Lexed(frozenset(lexer.names), frozenset(lexer.optional), frozenset(lexer.served), tuple(lexer.words))


def check_values(hogql: str, values: Mapping[str, Any] | None) -> Lexed:
    """Check that each placeholder has a value and each value a placeholder.

    Raises:
        ValidationError: names all that are missing and all that are unused.
    """
    if values is not None and not isinstance(values, Mapping):
        raise ValidationError(f"values must map names to values, not be a {type(values).__name__}. Nothing was sent.")
    lexed = lex(hogql)
    given = set(values or ())
    problems = []
    missing = sorted(lexed.placeholders - given)
    unused = sorted(map(repr, given - lexed.placeholders - lexed.optional))
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


class _Lexer:
    """One pass over a text."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.names: set[str] = set()
        self.optional: set[str] = set()
        self.served: set[str] = set()
        self.words: list[str] = []

    def code(self, start: int, holder: list[str] | None = None) -> int:
        """Lex code and return where it ends: in a template string, of which a ``holder`` tells, at the closing brace.

        Args:
            start: Where it starts.
            holder: Takes what stands in the template's brace.
        """
        at = start
        # What stands in each open brace: names, and in between anything else.
        braces: list[list[str]] = [] if holder is None else [holder]
        while found := _TOKEN.search(self.text, at):
            kind, token = found.lastgroup, found.group()
            if braces and (between := self.text[at : found.start()].strip()):
                braces[-1].append(between)
            at = found.end()
            if kind == "word":
                self.words.append(token.lower())
            elif kind == "template":
                at, token = self.template(at, braces[-1] if braces else []), "'"
            elif kind == "close" and braces:
                parts = braces.pop()
                if holder is not None and not braces:
                    return at
                self.close(parts)
            if braces and kind != "comment":
                braces[-1].append(token)
            if kind == "open":
                braces.append([])
        return len(self.text)

    def template(self, start: int, holder: list[str]) -> int:
        """Lex the inside of ``f'...'``: text, and code within braces. Returns the end."""
        at = start
        while at < len(self.text):
            if self.text.startswith(("\\", "''"), at):
                at += 2
            elif self.text[at] == "'":
                return at + 1
            elif self.text[at] == "{":
                at = self.code(at + 1, holder)
            else:
                at += 1
        return len(self.text)

    def close(self, parts: list[str]) -> None:
        """Note the names of a brace that ends: it is a placeholder if it holds ``a`` or ``a.b`` and nothing else."""
        names = [_name(part) for part in parts]
        root = names[0] if names else None
        if root is None or None in names[::2] or set(parts[1::2]) - {"."}:
            self.optional.update(name for name in names if name is not None)
        elif root == "filters" or (root == "variables" and len(parts) > 1):
            self.served.add(root)
        else:
            self.names.add(root)


def _name(part: str) -> str | None:
    """Return the name that a word or a quoted identifier stands for, None for anything else."""
    quote = part[0]
    if quote in '`"':
        return part[1:-1].replace(quote * 2, quote)
    return part if quote.isalpha() or quote in "_$" else None
