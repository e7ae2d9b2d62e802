"""PostHog's own HogQL parser, loaded without PostHog, and guarded.

Two packages give the same JSON tree: ``hogql-parser-rs`` (Python 3.12 and later, 18 microseconds a query) and
``hogql-parser`` (C++; 6 to 10 ms a query, exponential on some nested calls, and it holds the interpreter's lock all
the while). The Rust one is taken when it is there. Their trees differ in small things only: absent keys against
``null`` or ``false``, and positions as ``{"offset": n}`` against ``{"line": ..., "column": ..., "offset": n}``.

Text that would keep a parser busy is refused before it is parsed: by its length, its number of operators and the
depth of its brackets. What still takes long is the business of whoever watches this process. Trees are cached by text
and must not be changed.
"""

from __future__ import annotations

import functools
import importlib
import json
import re
import sys
import threading
import types
from collections.abc import Callable
from typing import Any

MAX_LENGTH = 65_536
"""Longest query text, in characters."""
MAX_OPERATORS = 1_000
"""Most infix operators: a chain of them takes a parser quadratic time (1,000 take about 0.7 s)."""
MAX_DEPTH = {"hogql_parser_rs": 100, "hogql_parser": 30}
"""Deepest nesting of brackets that a parser gets to see."""
MAX_CALLS = {"hogql_parser_rs": 100, "hogql_parser": 8}
"""Deepest nesting of calls: with the C++ parser, ``f(f(...))`` ten deep can take 100 seconds."""
MAX_PARTS = {"hogql_parser_rs": 1_000, "hogql_parser": 50}
"""Most parts of one field ``a.b.c``: the C++ parser takes cubic time for them (300 take 5 seconds)."""

Node = dict[str, Any]

_TOKEN = re.compile(
    r"""(?P<skip>\s+|(?:--|//|\#)[^\n]*|/\*.*?\*/)
    |   (?P<string>'(?:[^'\\]|\\.|'')*'?)                                   # perhaps unclosed
    |   (?P<name>`(?:[^`\\]|\\.|``)*`?|"(?:[^"\\]|\\.|"")*"?|[^\W\d][\w$]*|\$[\w$]*)
    |   (?P<number>\d[\w.]*)
    |   (?P<open>[(\[{]) | (?P<close>[)\]}])
    |   (?P<dot>\.)
    |   (?P<operator>->|\|\||::|[=<>!]+|[-+*/%?:~])
    |   (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_INFIX_WORDS = frozenset(("and", "or", "not", "like", "ilike", "in", "is", "between", "over"))
# What may stand before a bracket without being called.
_NO_CALLS = _INFIX_WORDS | frozenset(
    "select distinct from join where prewhere having on using by when then else as union all except intersect with "
    "limit offset values case interval any array".split()
)


class HogQLError(Exception):
    """A query is refused, in PostHog's words.

    Attributes:
        message: What is wrong.
        start: First character it concerns, from 0, or None.
        end: The character after the last one, or None.
        fix: Text that could stand there instead, or None.
        code: The ``code`` of PostHog's error body.
        hint: What else to do, or None.
    """

    def __init__(
        self,
        message: str,
        start: int | None = None,
        end: int | None = None,
        fix: str | None = None,
        code: str = "invalid_input",
        hint: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.start = start
        self.end = end
        self.fix = fix
        self.code = code
        self.hint = hint


class _ParserRaised(Exception):
    """The C++ parser's own exception."""


_lock = threading.Lock()


@functools.cache
def _library() -> types.ModuleType:
    try:
        return importlib.import_module("hogql_parser_rs")
    except ImportError:
        return _import_with_stubs("hogql_parser")


def _import_with_stubs(name: str) -> types.ModuleType:
    """Import the C++ parser, which wants three modules of PostHog's server.

    It takes its exceptions from them, and raises one where it gives no tree with an error (an unmatched brace).
    PostHog's SDK has the same top name, so whatever was loaded under these names is put back.
    """
    names = ("posthog", "posthog.hogql", "posthog.hogql.errors")
    before = {stub: sys.modules.get(stub) for stub in names}
    try:
        for stub in names:
            sys.modules[stub] = types.ModuleType(stub)
        for error in ("SyntaxError", "NotImplementedError", "ParsingError"):
            setattr(sys.modules["posthog.hogql.errors"], error, _ParserRaised)
        return importlib.import_module(name)
    finally:
        for stub, module in before.items():
            if module is None:
                del sys.modules[stub]
            else:
                sys.modules[stub] = module


def _guard(text: str, library: str) -> None:
    """Refuse what would keep a parser busy for minutes, told by its tokens alone."""
    if len(text) > MAX_LENGTH:
        raise HogQLError(f"Query is too long: {len(text)} characters, at most {MAX_LENGTH} are accepted")
    is_call: list[bool] = []  # for each open bracket
    operators = parts = 0
    before, word = "other", ""
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup or "other"
        if kind == "skip":
            continue
        if kind == "open":
            is_call.append(before == "name" and word not in _NO_CALLS)
            if len(is_call) > MAX_DEPTH[library] or sum(is_call) > MAX_CALLS[library]:
                raise HogQLError("Query is too deeply nested", match.start(), match.end())
        elif kind == "close":
            del is_call[-1:]
        elif kind == "dot":
            parts += 1
            if parts > MAX_PARTS[library]:
                raise HogQLError(f"A field has more than {MAX_PARTS[library]} parts", match.start(), match.end())
        elif kind == "name":
            word = match[0].lower()
        if kind not in ("dot", "name", "number") or (kind == "name" and before != "dot"):
            parts = 0
        if kind == "operator" or (kind == "name" and word in _INFIX_WORDS):
            operators += 1
            if operators > MAX_OPERATORS:
                raise HogQLError(f"Query has more than {MAX_OPERATORS} operators", match.start(), match.end())
        before = kind


def offset(position: Any) -> int | None:
    """The character offset of a position in either parser's form."""
    if isinstance(position, dict):
        position = position.get("offset")
    return position if isinstance(position, int) else None


def _parse(text: str, function: str) -> Node:
    with _lock:
        library = _library()
    _guard(text, library.__name__)
    parse: Callable[[str], str] = getattr(library, function)
    try:
        tree: Node = json.loads(parse(text))
    except RecursionError:
        raise HogQLError("Query is too deeply nested") from None
    except _ParserRaised as error:
        raise HogQLError(str(error)) from None
    if tree.get("error"):
        message = str(tree.get("message"))
        if "mismatched input '<EOF>'" in message:
            message = "Unexpected end of query"
        raise HogQLError(message, offset(tree.get("start")), offset(tree.get("end")))
    return tree


@functools.lru_cache(maxsize=512)
def parse_select(text: str) -> Node:
    """The tree of a query; shared, so not to be changed.

    Raises:
        HogQLError: The text is no HogQL query, or too big to be parsed.
    """
    return _parse(text, "parse_select_json")


@functools.lru_cache(maxsize=512)
def parse_expression(text: str) -> Node:
    """The tree of one expression; shared, so not to be changed.

    Raises:
        HogQLError: The text is no HogQL expression, or too big to be parsed.
    """
    return _parse(text, "parse_expr_json")
