"""PostHog's own HogQL parser, loaded without PostHog, and guarded.

Two packages give the same JSON tree: ``hogql-parser-rs`` (Python 3.12 and later, 18 microseconds a query) and
``hogql-parser`` (C++; 6 to 10 ms a query, exponential on some nested calls, and it holds the interpreter's lock all
the while). The Rust one is taken when it is there. Their trees differ in small things only: absent keys against
``null`` or ``false``, and positions as ``{"offset": n}`` against ``{"line": ..., "column": ..., "offset": n}``.

Text that would keep a parser busy is refused before it is parsed, by `guard.find_fault`. What still takes long is the
business of whoever watches this process. Trees and refusals are cached by text; trees must not be changed.
"""

from __future__ import annotations

import functools
import importlib
import json
import sys
import threading
import types
from collections.abc import Callable
from typing import Any

from .guard import find_fault
from .losses import restore

Node = dict[str, Any]


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


def offset(position: Any) -> int | None:
    """The character offset of a position in either parser's form."""
    if isinstance(position, dict):
        position = position.get("offset")
    return position if isinstance(position, int) else None


@functools.lru_cache(maxsize=512)
def _outcome(text: str, function: str) -> Node | HogQLError:
    """What a function of the parser makes of a text; refusals are kept too, as a query is read again for its 400."""
    try:
        return _parse(text, function)
    except HogQLError as error:
        return error


def _parse(text: str, function: str) -> Node:
    with _lock:
        library = _library()
    if fault := find_fault(text, library.__name__):
        raise HogQLError(fault.message, fault.start, fault.end)
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
    if loss := restore(text, tree):
        raise HogQLError(loss.message, loss.start, loss.end)
    return tree


def _tree(text: str, function: str) -> Node:
    found = _outcome(text, function)
    if isinstance(found, HogQLError):
        # A new one each time: whoever catches it may add a position.
        raise HogQLError(found.message, found.start, found.end)
    return found


def parse_select(text: str) -> Node:
    """The tree of a query; shared, so not to be changed.

    Raises:
        HogQLError: The text is no HogQL query, or too big to be parsed.
    """
    return _tree(text, "parse_select_json")


def parse_expression(text: str) -> Node:
    """The tree of one expression; shared, so not to be changed.

    Raises:
        HogQLError: The text is no HogQL expression, or too big to be parsed.
    """
    return _tree(text, "parse_expr_json")
