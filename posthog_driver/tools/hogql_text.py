"""The text of a HogQL query as tokens, brackets and clauses: enough to say where something stands and to change it.

It does not parse expressions: whether a text is valid is PostHog's to say. Quoting and comments are as PostHog's
grammar has them; what it does not follow, template strings, it tells, and nothing is rewritten then.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from functools import cached_property
from typing import NamedTuple

__all__ = ["Clause", "HogQLText", "Join", "Select", "Span", "Token", "name_of", "one_line"]

# A quote that is not closed goes to the end of the text, so that the time stays linear.
_TOKEN = re.compile(
    r"""
      (?P<comment>(?:--|//|\#)[^\r\n]*|/\*.*?(?:\*/|\Z))
    | (?P<template>f'(?:[^'\\]|\\(?:.|\Z)|'')*(?:'|\Z))
    | (?P<string>'(?:[^'\\]|\\(?:.|\Z)|'')*(?:'|\Z))
    | (?P<quoted>`(?:[^`\\]|\\(?:.|\Z)|``)*(?:`|\Z)|"(?:[^"\\]|\\(?:.|\Z)|"")*(?:"|\Z))
    | (?P<word>[A-Za-z_$][A-Za-z0-9_$]*)
    | (?P<number>\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)
    | (?P<sign>->>|->|::|<=>|<>|<=|>=|!=|==|=~\*|=~|!~|\|\||\?\?|\S)
    """,
    re.VERBOSE | re.DOTALL,
)
_CLOSING = {")": "(", "]": "[", "}": "{"}
_SET_OPERATORS = ("union", "intersect", "except")
_JOIN_WORDS = frozenset(
    ("inner", "left", "right", "full", "outer", "cross", "any", "all", "asof", "semi", "anti", "global")
)


class Token(NamedTuple):
    """A piece of the text; ``kind`` is word, quoted, string, template, number or sign."""

    kind: str
    text: str
    start: int
    end: int

    @property
    def low(self) -> str:
        """The word in lower case; other kinds as they are."""
        return self.text.lower() if self.kind == "word" else self.text


class Span(NamedTuple):
    """Tokens ``first`` up to, not including, ``last``."""

    first: int
    last: int


class Clause(NamedTuple):
    """A clause: its first keyword, its position, and the tokens after its keywords."""

    name: str
    at: int
    body: Span


class Join(NamedTuple):
    """One JOIN: its words in lower case, its position, the table, and the condition after ON if there is one."""

    words: tuple[str, ...]
    at: int
    table: Span
    on: Span | None


class Select(NamedTuple):
    """One SELECT: its tokens, and its clauses in order of appearance."""

    span: Span
    clauses: tuple[Clause, ...]

    def clause(self, name: str) -> Clause | None:
        """Return the first clause of that name."""
        return next((clause for clause in self.clauses if clause.name == name), None)


class HogQLText:
    """One text and what is found in it.

    Args:
        text: The query.
        tables: Tables that are known to exist.

    Attributes:
        text: The query.
        tables_known: Tables that are known to exist.
        tokens: Its tokens, without comments.
    """

    def __init__(self, text: str, tables: Collection[str] = ()) -> None:
        self.text = text
        self.tables_known = tables
        self.tokens = tuple(
            Token(match.lastgroup or "sign", match.group(), match.start(), match.end())
            for match in _TOKEN.finditer(text)
            if match.lastgroup != "comment"
        )

    @cached_property
    def partners(self) -> dict[int, int]:
        """For each bracket that has a partner, its position: both ways."""
        open_ones: list[int] = []
        found: dict[int, int] = {}
        for at, token in enumerate(self.tokens):
            if token.kind != "sign":
                continue
            if token.text in "([{":
                open_ones.append(at)
            elif token.text in _CLOSING and open_ones and self.tokens[open_ones[-1]].text == _CLOSING[token.text]:
                start = open_ones.pop()
                found[start], found[at] = at, start
        return found

    @property
    def has_templates(self) -> bool:
        """Whether there are template strings, whose code is not looked into."""
        return any(token.kind == "template" for token in self.tokens)

    def is_at(self, at: int, *texts: str) -> bool:
        """Return whether these words (in lower case) and signs stand at a position."""
        return (
            len(self.tokens) >= at + len(texts)
            and at >= 0
            and all(
                self.tokens[at + number].kind in ("word", "sign") and self.tokens[at + number].low == text
                for number, text in enumerate(texts)
            )
        )

    def is_name(self, at: int) -> bool:
        """Return whether the word there is a name within a chain (``x.word``), not a keyword or function."""
        return at > 0 and self.is_at(at - 1, ".")

    def source(self, span: Span) -> str:
        """Return the text of a span."""
        if span.first >= span.last:
            return ""
        return self.text[self.tokens[span.first].start : self.tokens[span.last - 1].end]

    def skip(self, at: int) -> int:
        """Return the position after the token, or after the bracket that opens there."""
        return self.partners.get(at, at) + 1 if self.tokens[at].text in ("(", "[", "{") else at + 1

    def calls(self, *names: str) -> Iterator[tuple[int, list[Span]]]:
        """Yield position and arguments of each call; of those functions (names in lower case) if any are given."""
        for at, token in enumerate(self.tokens):
            is_call = token.kind == "word" and self.is_at(at + 1, "(") and not self.is_name(at)
            if is_call and (not names or token.low in names) and at + 1 in self.partners:
                yield at, self.items(Span(at + 2, self.partners[at + 1]))

    def call_end(self, at: int) -> int:
        """Return the character after the call that starts at a position."""
        return self.tokens[self.partners[at + 1]].end

    def items(self, span: Span, separator: str = ",") -> list[Span]:
        """Split a span at a separator outside brackets; empty items are left out."""
        found, start, at = [], span.first, span.first
        between = 0
        while at < span.last:
            if separator == "and" and self.is_at(at, "between"):
                between += 1
            if self.is_at(at, separator):
                if separator == "and" and between:
                    between -= 1
                else:
                    found.append(Span(start, at))
                    start = at + 1
            at = self.skip(at)
        return [item for item in (*found, Span(start, span.last)) if item.first < item.last]

    def at_top(self, span: Span) -> Iterator[int]:
        """Yield the positions of a span that are outside its brackets; an opening bracket counts as outside."""
        at = span.first
        while at < span.last:
            yield at
            at = self.skip(at)

    # Clauses ----------------------------------------------------------------------------------------------------------

    @cached_property
    def selects(self) -> tuple[Select, ...]:
        """All SELECTs, outer ones first."""
        starts = [at for at in range(len(self.tokens)) if self.is_at(at, "select") and not self.is_name(at)]
        return tuple(self._select(at) for at in starts)

    def _select(self, start: int) -> Select:
        clauses: list[tuple[str, int, int]] = []
        at = start
        while at < len(self.tokens) and self.tokens[at].text not in _CLOSING and not self.is_at(at, ";"):
            # A second SELECT without a bracket is no HogQL: nothing after it belongs to the first.
            if at > start and (self._is_set_operator(at) or self.is_at(at, "select")):
                break
            found = self._keyword(at)
            if found is not None:
                clauses.append((found[0], at, found[1]))
            at = self.skip(at)
        ends = [begin for _, begin, _ in clauses[1:]] + [at]
        made = (Clause(name, begin, Span(body, end)) for (name, begin, body), end in zip(clauses, ends, strict=True))
        return Select(Span(start, at), tuple(made))

    def _is_set_operator(self, at: int) -> bool:
        if self.tokens[at].low not in _SET_OPERATORS or self.tokens[at].kind != "word" or self.is_name(at):
            return False
        after = at + 1
        while self.is_at(after, "all") or self.is_at(after, "distinct") or self.is_at(after, "("):
            after += 1
        return self.is_at(after, "select") or self.is_at(after, "with")

    def _keyword(self, at: int) -> tuple[str, int] | None:
        """Return the clause that begins there and where its body begins."""
        token = self.tokens[at]
        if token.kind != "word" or self.is_name(at):
            return None
        word = token.low
        if word in ("select", "from", "prewhere", "where", "having", "qualify", "limit"):
            return word, at + 1
        if word in ("group", "order") and self.is_at(at + 1, "by"):
            return word, at + 2
        follower = self.tokens[at + 1] if at + 1 < len(self.tokens) else None
        if word in ("settings", "format", "window") and follower is not None and follower.kind == "word":
            return word, at + 1
        if word in ("offset", "fetch") and follower is not None and follower.kind in ("number", "word"):
            return word, at + 1
        return None

    def joins(self, span: Span) -> list[Join]:
        """Return the JOINs in the body of a FROM (or of a WHERE that stands before them)."""
        top = list(self.at_top(span))
        heads = [at for at in top if self.is_at(at, "join")]
        starts = []
        for at in heads:
            begin = at
            while begin - 1 >= span.first and self.tokens[begin - 1].low in _JOIN_WORDS:
                begin -= 1
            starts.append(begin)
        found = []
        for begin, at, end in zip(starts, heads, [*starts[1:], span.last][: len(heads)], strict=True):
            condition = next((word for word in top if at < word < end and self.is_at(word, "on")), None)
            words = tuple(self.tokens[word].low for word in range(begin, at))
            on = None if condition is None else Span(condition + 1, end)
            found.append(Join(words, begin, Span(at + 1, end if condition is None else condition), on))
        return found

    def tables(self, select: Select) -> list[tuple[int, str, str]]:
        """Return position, name and alias (the name if there is none) of each table that a SELECT reads."""
        clause = select.clause("from")
        if clause is None:
            return []
        joins = self.joins(clause.body)
        first = Span(clause.body.first, joins[0].at if joins else clause.body.last)
        return [named for span in [first, *(join.table for join in joins)] if (named := self._table(span)) is not None]

    def _table(self, span: Span) -> tuple[int, str, str] | None:
        at = span.first
        if at >= span.last or self.tokens[at].kind not in ("word", "quoted"):
            return None
        parts = [name_of(self.tokens[at])]
        while self.is_at(at + 1, ".") and at + 2 < span.last:
            at += 2
            parts.append(name_of(self.tokens[at]))
        name = ".".join(parts)
        after = at + 2 if self.is_at(at + 1, "as") else at + 1
        is_alias = after < span.last and self.tokens[after].kind in ("word", "quoted")
        is_alias = is_alias and self.tokens[after].low not in ("sample", "final", "array", "on")
        return span.first, name, name_of(self.tokens[after]) if is_alias else parts[-1]


def name_of(token: Token) -> str:
    """Return the name that a word or a quoted identifier stands for."""
    if token.kind == "quoted":
        quote = token.text[0]
        return token.text[1:-1].replace(quote * 2, quote)
    return token.text


def one_line(text: str) -> str:
    r"""Return a query on one line that means the same: no comments, line ends in strings as ``\n``."""
    parts: list[str] = []
    end = 0
    for token in HogQLText(text).tokens:
        if parts and token.start > end:
            parts.append(" ")
        parts.append(re.sub(r"\r\n|\r|\n", r"\\n", token.text) if token.kind in ("string", "template") else token.text)
        end = token.end
    return "".join(parts)
