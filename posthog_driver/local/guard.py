"""What a parser would be busy with for too long, told by the tokens of a query alone.

Both parsers hold the interpreter's lock while they work, and both take more than linear time for some shapes of
text: nested calls, long chains of operators, joins without end. `find_fault` adds up what a text would cost, with
measured costs of each parser, and names what is too much of.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

__all__ = ["MAX_DEPTH", "MAX_LENGTH", "Fault", "find_fault", "tokens"]

MAX_LENGTH = 65_536
"""Longest query text, in characters."""
MAX_DEPTH = 100
"""Deepest nesting, whatever it costs: parsers and translator call themselves for each level."""
BUDGET = 4_000.0
"""Milliseconds that a text may cost."""


@dataclass(frozen=True)
class _Costs:
    """What a parser takes for a text, in milliseconds of one core of 2024.

    Attributes:
        token: For each token, once more for each bracket that it stands in.
        chain: What the n-th thing of a kind costs, divided by n: things that come in chains take quadratic time.
        bracket: For a bracket that stands in no other.
        growth: How many times more each bracket makes those inside it cost, by what it belongs to.
    """

    token: float
    chain: dict[str, float]
    bracket: float
    growth: dict[str, float]


_COSTS = {
    "hogql_parser_rs": _Costs(
        token=0.001,
        chain={"name": 0.00018, "operator": 0.02, "alias": 0.003, "part": 0.005, "join": 1.5},
        bracket=0.001,
        growth={},
    ),
    # Exponential in nested brackets: for each it tries anew what they may be. What it learns from one text makes the
    # next, deeper one slower the first time: seven nested calls take 0.1 s in a fresh process, 3 to 7 s in a used one.
    "hogql_parser": _Costs(
        token=0.125,
        chain={
            "name": 0.0003,
            "operator": 0.016,
            "part": 0.2,
            "not": 0.9,
            "join": 4.0,
            "arrow": 0.13,
            "interval": 0.03,
        },
        bracket=0.25,
        growth={"call": 3.3, "cast": 4.5, "select": 4.2, "not": 1.8, "plain": 1.65, "case": 1.3},
    ),
}

_MEANING = {
    "token": "it is too long",
    "name": "it has too many names",
    "operator": "it has too many operators",
    "alias": "it has too many aliases",
    "part": "its fields have too many parts",
    "not": "it has too many NOTs in a row",
    "join": "it has too many joins",
    "arrow": "it has too many lambdas",
    "interval": "it has too many intervals",
    "bracket": "it is too deeply nested",
}

_TOKEN = re.compile(
    r"""(?P<skip>\s+|(?:--|//|\#)[^\n]*|/\*.*?\*/)
    |   (?P<template>[fF]')
    |   (?P<string>'(?:[^'\\]|\\.|'')*'?)                                   # perhaps unclosed
    |   (?P<name>`(?:[^`\\]|\\.|``)*`?|"(?:[^"\\]|\\.|"")*"?|[^\W\d][\w$]*|\$[\w$]*)
    |   (?P<number>\d\w*(?:\.\d\w*)?)
    |   (?P<open>[(\[{]) | (?P<close>[)\]}])
    |   (?P<dot>\.)
    |   (?P<operator>->|\|\||::|[=<>!]+|[-+*/%?:~])
    |   (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_IN_TEMPLATE = re.compile(r"(?P<close>')|(?P<open>\{)|(?P<skip>(?:[^'{\\]|\\.)+|.)", re.DOTALL)
_INFIX_WORDS = frozenset(("and", "or", "like", "ilike", "in", "is", "between", "over"))
# A bracket after one of these is that of a sub-query or a list, which no parser takes for anything else.
_PLAIN_LISTS = frozenset(("from", "join", "in", "as", "using"))
# What else may stand before a bracket without being called.
_NO_CALLS = _INFIX_WORDS.union(
    ("select", "distinct", "on", "where", "prewhere", "having", "by", "when", "then", "else", "case", "interval"),
    ("union", "all", "except", "intersect", "with", "limit", "offset", "values"),
)


@dataclass(frozen=True)
class Fault:
    """Why a text is not given to the parser, and where it becomes too much."""

    message: str
    start: int | None = None
    end: int | None = None


@dataclass
class _Reading:
    """What is known of the text so far.

    Attributes:
        open: What each open bracket belongs to, with the factor of everything inside it.
        spent: Milliseconds by what they are spent on, and in all.
        counts: How many there were of what comes in chains.
        kind: Kind of the last token.
        word: The last token if it is a name, in lower case.
    """

    costs: _Costs
    open: list[tuple[str, float]] = field(default_factory=list)
    spent: dict[str, float] = field(default_factory=lambda: dict.fromkeys(_MEANING, 0.0))
    counts: dict[str, int] = field(default_factory=dict)
    total: float = 0.0
    kind: str = "other"
    word: str = ""

    def take(self, kind: str, word: str) -> None:
        """Count one token."""
        self._spend("token", self.costs.token * (1 + len(self.open)))
        is_part = self.kind == "dot"
        is_word = kind == "name" and not is_part
        if kind == "template":
            self._push(kind)
        elif kind == "open":
            self._open(word)
        elif kind == "close":
            self._close()
        elif kind == "dot":
            self._count("part")
        elif kind == "operator":
            self._count("arrow" if word == "->" else "operator")
        elif is_word:
            self._name(word)
        if kind not in ("dot", "name", "number") or is_word:
            self.counts["part"] = 0
        if word != "not":
            self.counts["not"] = 0
        self.kind, self.word = kind, "" if is_part else word

    def _spend(self, thing: str, cost: float) -> None:
        self.spent[thing] += cost
        self.total += cost

    def _count(self, thing: str) -> None:
        self.counts[thing] = self.counts.get(thing, 0) + 1
        self._spend(thing, self.costs.chain.get(thing, 0.0) * self.counts[thing])

    def _name(self, word: str) -> None:
        self._count("name")
        if word == "case":
            self._push("case")
        elif word == "end" and self.open and self.open[-1][0] == "case":
            self.open.pop()
        elif word == "select" and self.kind == "open" and self.open[-1][0] == "plain":
            self.open.pop()
            self._push("select")
        elif word in _INFIX_WORDS:
            self._count("operator")
        elif word in ("not", "join", "interval"):
            self._count(word)
        elif word == "as":
            self._count("alias")

    def _open(self, bracket: str) -> None:
        follows_value = self.kind in ("name", "close", "string") and self.word not in _NO_CALLS
        if bracket == "[":
            if follows_value:
                self._count("operator")
            self._push("index")
        elif self.kind == "name" and self.word in _PLAIN_LISTS:
            self._push("list")
        elif self.word in ("not", "cast"):
            self._push(self.word)
        else:
            self._push("call" if self.kind == "name" and follows_value else "plain")

    def _push(self, kind: str) -> None:
        factor = self.costs.growth.get(kind, 1.0) * (self.open[-1][1] if self.open else 1.0)
        self.open.append((kind, factor))
        self._spend("bracket", self.costs.bracket * factor)

    def _close(self) -> None:
        while self.open and self.open.pop()[0] == "case":
            pass


def find_fault(text: str, library: str) -> Fault | None:
    """Why a text would keep a parser busy for too long; None when it does not.

    Args:
        text: The query.
        library: Which parser: ``hogql_parser_rs`` or ``hogql_parser``.
    """
    if len(text) > MAX_LENGTH:
        return Fault(f"Query is too long: {len(text)} characters, at most {MAX_LENGTH} are accepted")
    reading = _Reading(_COSTS[library])
    for match in _tokens(text, reading):
        reading.take(str(match.lastgroup), match[0].lower())
        if len(reading.open) > MAX_DEPTH:
            return Fault("Query is too deeply nested", *match.span())
        if reading.total > BUDGET:
            worst = max(reading.spent, key=lambda thing: reading.spent[thing])
            return Fault(f"Query is too complex to be parsed: {_MEANING[worst]}", *match.span())
    return None


def _tokens(text: str, reading: _Reading) -> Iterator[re.Match[str]]:
    """The tokens that count; inside of ``f'...{here}...'`` they do as well."""
    position = 0
    while position < len(text):
        is_template = bool(reading.open) and reading.open[-1][0] == "template"
        match = (_IN_TEMPLATE if is_template else _TOKEN).match(text, position)
        assert match is not None  # the last alternative of both takes any character
        position = match.end()
        if match.lastgroup != "skip":
            yield match


def tokens(text: str) -> Iterator[re.Match[str]]:
    """The tokens of a text, without spaces and comments; those inside of ``f'...{here}...'`` as well."""
    reading = _Reading(_COSTS["hogql_parser_rs"])
    for match in _tokens(text, reading):
        reading.take(str(match.lastgroup), match[0].lower())
        yield match
