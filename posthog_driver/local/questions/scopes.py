"""What names mean at one place of a HogQL text that may be half written: tokens, brackets, and tables in scope.

The parser wants whole queries, so this reads the text by itself: `Text` cuts it into tokens and groups them by their
brackets, and `Scope` finds the SELECT around a place and what its FROM brings in. It never fails on any text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ..database import find_table
from ..schema import Catalog, Column, Link, Table

__all__ = ["Group", "Name", "Scope", "Text", "Token", "columns_of_table"]

MAX_NESTED = 20
"""Levels of sub-queries whose columns are followed."""

_TOKEN = re.compile(
    r"""(?P<space>\s+)
    |(?P<comment>--[^\n]*|//[^\n]*|/\*.*?(?:\*/|\Z))
    |(?P<string>'(?:[^'\\]|\\.|'')*(?:'|\Z))
    |(?P<quoted>`(?:[^`\\]|\\.|``)*`|"(?:[^"\\]|\\.|"")*"|[`"][^`"\s]*)
    |(?P<number>\d[\w.]*)
    |(?P<word>[^\W\d$][\w$]*|[$_][\w$]*)
    |(?P<operator>[=!<>]=|.)""",
    re.VERBOSE | re.DOTALL,
)
_SETS = ("UNION", "INTERSECT", "EXCEPT")
_CLAUSES = "WHERE PREWHERE GROUP HAVING WINDOW QUALIFY ORDER LIMIT OFFSET SETTINGS UNION INTERSECT EXCEPT ARRAY"
_JOINS = "JOIN INNER LEFT RIGHT FULL CROSS OUTER ANTI SEMI ANY ALL ASOF GLOBAL ON USING FINAL SAMPLE"
_FROM_FUNCTIONS = ("EXTRACT", "TRIM", "SUBSTRING")
"""Functions with a FROM among their arguments."""

_AFTER_FROM = frozenset(_CLAUSES.split())
_NO_ALIAS = frozenset(f"{_CLAUSES} {_JOINS} FROM SELECT AS WITH".split())


class Token(NamedTuple):
    """A piece of the text: `kind` is ``word, quoted, string, number, comment`` or ``operator``."""

    kind: str
    text: str
    start: int
    end: int

    @property
    def upper(self) -> str:
        """The word in capitals, for keywords; empty for anything else."""
        return self.text.upper() if self.kind == "word" else ""

    @property
    def name(self) -> str:
        """The name that it is, without quotes."""
        if self.kind != "quoted":
            return self.text
        quote = self.text[0]
        return self.text[1:].removesuffix(quote).replace(quote * 2, quote)


@dataclass(eq=False)
class Group:
    """What stands between two brackets, or the whole text.

    Attributes:
        items: Tokens and the groups inside.
        parent: The group around it.
        takes_from: Whether a FROM in it is no clause of a SELECT.
    """

    items: list[Token | Group] = field(default_factory=list)
    parent: Group | None = None
    takes_from: bool = False

    def words(self) -> Iterator[str]:
        """The keywords at its own level."""
        return (item.upper for item in self.items if isinstance(item, Token))

    def parts(self) -> list[list[Token | Group]]:
        """Its SELECTs, which UNION and the like join."""
        found: list[list[Token | Group]] = [[]]
        for item in self.items:
            if isinstance(item, Token) and item.upper in _SETS:
                found.append([])
            else:
                found[-1].append(item)
        return found


def _last_word(group: Group) -> str:
    last = group.items[-1] if group.items else None
    return last.upper if isinstance(last, Token) else ""


class Text:
    """A text in pieces.

    Args:
        text: HogQL, whole or not.
        position: The place that is asked about.
    """

    def __init__(self, text: str, position: int) -> None:
        self.root = group = Group()
        self.before: list[Token] = []
        self.inside: Token | None = None
        self.group = group
        for match in _TOKEN.finditer(text):
            token = Token(str(match.lastgroup), match[0], match.start(), match.end())
            if token.start < position:
                self._pass(token, position)
            if token.kind in ("space", "comment"):
                continue
            if token.text in ("(", "["):
                inner = Group(parent=group, takes_from=_last_word(group) in _FROM_FUNCTIONS)
                group.items.append(inner)
                group = inner
            elif token.text in (")", "]"):
                group = group.parent or group
            else:
                if token.upper == "FROM" and not group.takes_from and "SELECT" not in group.words():
                    # A FROM needs its SELECT: the bracket before it was never closed.
                    group = group.parent or group
                group.items.append(token)
            if token.end <= position:
                self.group = group

    def _pass(self, token: Token, position: int) -> None:
        """Keep what stands before the place; `inside` is the string or comment that the place lies in."""
        is_closed = len(token.text) > 1 and token.text.endswith(("'", "*/"))
        if token.kind in ("string", "comment") and (position < token.end or not is_closed):
            self.inside = token
        elif token.kind not in ("space", "comment"):
            self.before.append(token)


class Name(NamedTuple):
    """A name that can be written: what it is, and where it leads.

    Attributes:
        name: The name.
        type: Coarse type of a column, or ``Table``.
        documentation: What it holds.
        owner: For JSON, whose property definitions type it.
        link: For a link, where it leads.
        table: The table that it belongs to.
    """

    name: str
    type: str = ""
    documentation: str = ""
    owner: str = ""
    link: Link | None = None
    table: Table | None = None


@dataclass(frozen=True)
class _Relation:
    """Something in a FROM: its names, and what it is called there."""

    alias: str
    names: tuple[Name, ...]


class Scope:
    """The names of the SELECT around a place.

    Args:
        text: The text in pieces.
        catalog: The project.
        table: The table of an expression that stands alone.
    """

    def __init__(self, text: Text, catalog: Catalog, table: str = "") -> None:
        self._catalog = catalog
        self._select, self._groups = _around(text)
        self.ctes = {name: group for group in self._groups for name, group in _ctes(group)}
        self._relations = [*_relations(self._select, self, 0)]
        if table and not self._relations:
            self._relations = [_Relation("", self.table_names(table))]

    def aliases(self) -> list[str]:
        """What the tables are called."""
        return [relation.alias for relation in self._relations if relation.alias]

    def own_names(self) -> list[str]:
        """The aliases that the SELECT itself gives."""
        return [name for name, is_alias in _selected(self._select) if is_alias]

    def names(self) -> list[Name]:
        """Every column and link in scope."""
        return [name for relation in self._relations for name in relation.names]

    def follow(self, chain: Sequence[str]) -> Sequence[Name] | Name | None:
        """Return what a chain of names leads to: the names behind it, a JSON column, or None for nothing known."""
        first, *rest = chain
        names = self._behind(first)
        for part in rest:
            if names is None or isinstance(names, Name):
                return None
            names = self._step(names, part)
        return names

    def _behind(self, first: str) -> Sequence[Name] | Name | None:
        for relation in self._relations:
            if relation.alias == first:
                return relation.names
        return self._step(self.names(), first)

    def _step(self, names: Sequence[Name], part: str) -> Sequence[Name] | Name | None:
        found = next((name for name in names if name.name == part), None)
        if found is None or found.link is None:
            return found if found is not None and found.type == "json" else None
        return self._linked(found, part)

    def _linked(self, found: Name, part: str) -> Sequence[Name] | None:
        link = found.link
        while link is not None and link.chain and found.table is not None:
            link = found.table.links.get(link.chain[0])
        if link is None:
            return None
        if link.table is not None:
            return self.table_names(link.table)
        owner = "group" if part.startswith("g") else "person"
        return [_column(column, owner, None) for column in link.columns if not column.hidden]

    def table_names(self, name: str) -> tuple[Name, ...]:
        """The names of a table of the project, empty for an unknown one."""
        table = find_table(name, self._catalog)
        return columns_of_table(table) if table else ()

    def group_names(self, group: Group, depth: int) -> tuple[Name, ...]:
        """The columns that a sub-query gives."""
        if depth > MAX_NESTED:
            return ()
        select = group.parts()[0]
        found: list[Name] = []
        for name, _ in _selected(select):
            if name == "*":
                found += [one for relation in _relations(select, self, depth + 1) for one in relation.names]
            else:
                found.append(Name(name, "unknown"))
        return tuple(found)


def columns_of_table(table: Table) -> tuple[Name, ...]:
    """The names of a table, without those that are hidden."""
    return (
        *(_column(column, table.owner, table) for column in table.columns.values() if not column.hidden),
        *(Name(name, "Table", f"Leads to {link.table or name}", "", link, table) for name, link in table.links.items()),
    )


def _column(column: Column, owner: str, table: Table | None) -> Name:
    return Name(column.name, column.type, column.description, owner if column.type == "json" else "", None, table)


# ---------------------------------------------------------------------------------------------- clauses of a SELECT


def _around(text: Text) -> tuple[list[Token | Group], list[Group]]:
    """The SELECT that the place is in, and the groups around it, the outermost first."""
    groups = [text.group]
    while groups[0].parent is not None:
        groups.insert(0, groups[0].parent)
    inner = next((group for group in reversed(groups) if "SELECT" in group.words()), groups[0])
    parts = inner.parts()
    last = text.before[-1] if text.before else None
    for part in parts:
        if any(item is last or any(item is group for group in groups) for item in part):
            return part, groups
    return parts[-1] if len(text.before) else parts[0], groups


def _ctes(group: Group) -> Iterator[tuple[str, Group]]:
    items = group.items
    if "WITH" not in group.words():
        return
    for name, word, inner in zip(items, items[1:], items[2:], strict=False):
        if (
            isinstance(name, Token)
            and name.kind in ("word", "quoted")
            and isinstance(word, Token)
            and word.upper == "AS"
            and isinstance(inner, Group)
        ):
            yield name.name, inner


def _relations(select: Sequence[Token | Group], scope: Scope, depth: int) -> Iterator[_Relation]:
    """What the FROM and the JOINs of a SELECT bring in."""
    expects, index, is_from = False, 0, False
    while index < len(select):
        item = select[index]
        index += 1
        upper = item.upper if isinstance(item, Token) else ""
        if upper in ("FROM", "JOIN"):
            expects = is_from = True
        elif upper in _AFTER_FROM:
            expects = is_from = False
        elif is_from and isinstance(item, Token) and item.text == ",":
            expects = True
        elif expects:
            expects = False
            names: tuple[Name, ...] = ()
            table = ""
            if isinstance(item, Group):
                names = scope.group_names(item, depth)
            elif item.kind in ("word", "quoted"):
                table, index = _dotted(select, index - 1)
                cte = scope.ctes.get(table)
                names = scope.group_names(cte, depth + 1) if cte else scope.table_names(table)
            alias, index = _alias(select, index)
            yield _Relation(alias or table, names)


def _dotted(items: Sequence[Token | Group], index: int) -> tuple[str, int]:
    """A name with dots that begins at an index, and the index behind it."""
    first = items[index]
    name = first.name if isinstance(first, Token) else ""
    index += 1
    while index + 1 < len(items):
        dot, part = items[index], items[index + 1]
        if not (isinstance(dot, Token) and dot.text == "." and isinstance(part, Token)):
            break
        name, index = f"{name}.{part.name}", index + 2
    return name, index


def _alias(items: Sequence[Token | Group], index: int) -> tuple[str, int]:
    item = items[index] if index < len(items) else None
    if isinstance(item, Token) and item.upper == "AS":
        index += 1
        item = items[index] if index < len(items) else None
    if isinstance(item, Token) and (item.kind == "quoted" or (item.kind == "word" and item.upper not in _NO_ALIAS)):
        return item.name, index + 1
    return "", index


def _selected(select: Sequence[Token | Group]) -> list[tuple[str, bool]]:
    """The names of the columns of a SELECT, and whether each is an alias."""
    found: list[tuple[str, bool]] = []
    column: list[Token | Group] = []
    is_in = False
    for item in [*select, Token("operator", ",", 0, 0)]:
        upper = item.upper if isinstance(item, Token) else ""
        if upper == "SELECT":
            is_in, column = True, []
        elif is_in and upper not in ("FROM", "DISTINCT") and not (isinstance(item, Token) and item.text == ","):
            column.append(item)
        elif is_in and upper != "DISTINCT":
            if name := _named(column):
                found.append(name)
            column, is_in = [], upper != "FROM"
    return found


def _named(column: Sequence[Token | Group]) -> tuple[str, bool] | None:
    last = column[-1] if column else None
    if not isinstance(last, Token) or (last.kind not in ("word", "quoted") and last.text != "*"):
        return None
    before = column[-2] if len(column) > 1 else None
    is_alias = before is not None and not (isinstance(before, Token) and before.text == ".")
    return last.name, is_alias
