"""What the parts of one translation share: the project, the scope they are in, and what they have found so far."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from . import schema
from .parser import HogQLError, Node
from .printed import Cte, Printed, Scope, Select
from .schema import Catalog

MAX_CTES = 1_000
"""Most sub-queries one query may grow to when its CTEs are written out, as the engine does; that many take it 3 s."""


class Context:
    """The state of one translation.

    The parts of the translator call each other through it: expressions hold sub-queries and sub-queries expressions.

    Args:
        catalog: What the project has.
        text: The query, so that engine aliases can avoid every name in it.

    Attributes:
        catalog: What the project has.
        expression: Prints an expression; the translator sets it.
        sub_query: Prints a SELECT or a set query inside of another, with names for its columns or None; the
            translator sets it.
        scope: What can be named here.
        lambda_arguments: Names of the lambdas around this place.
        aggregation: The aggregation around this place, empty outside of all.
        in_join: Whether this is the condition of a JOIN.
        raw_properties: Whether properties are read as the text they are stored as.
        cohorts: Ids of the cohorts whose conditions are being printed.
        printed_ctes: The WITH clause of the statement.
        tables: HogQL names of the tables found.
        properties: Properties that were read: JSON column (of `storage.JSON_COLUMNS`) and key.
        warnings: PostHog's notices.
        owners: What the user calls the things behind our engine aliases.
    """

    expression: Callable[[Node], Printed]
    sub_query: Callable[[Node, dict[str, Cte], list[str] | None], Select]

    def __init__(self, catalog: Catalog, text: str) -> None:
        self.catalog = catalog
        self.scope = Scope({})
        self.lambda_arguments: list[str] = []
        self.aggregation = ""
        self.in_join = False
        self.raw_properties = False
        self.cohorts: list[int] = []
        self.printed_ctes: list[str] = []
        self.tables: set[str] = set()
        self.properties: set[tuple[str, str]] = set()
        self.warnings: list[dict[str, Any]] = []
        self.owners: dict[str, str] = {}
        self._prefix = next(prefix for prefix in _prefixes() if prefix not in text)
        self._expanded_ctes = 0

    def all(self, nodes: Iterable[Node] | None) -> list[Printed]:
        """Print several expressions."""
        return [self.expression(node) for node in nodes or ()]

    def name(self, name: str) -> str:
        """A name of the user as an engine identifier."""
        try:
            return schema.quote_name(name)
        except ValueError as error:
            raise HogQLError(str(error)) from None

    def new_alias(self, owner: str) -> str:
        """A name that occurs nowhere in the query, for the engine alone.

        Args:
            owner: What the user calls the thing behind it; empty if it has no name.
        """
        alias = f"{self._prefix}{len(self.owners) + 1}"
        self.owners[alias] = owner
        return alias

    @contextmanager
    def state(self, **changes: Any) -> Iterator[None]:
        """Change some of the attributes for the length of a block."""
        before = {name: getattr(self, name) for name in changes}
        for name, value in changes.items():
            setattr(self, name, value)
        try:
            yield
        finally:
            for name, value in before.items():
                setattr(self, name, value)

    def expand(self, weight: int) -> None:
        """Count a CTE that is named; the engine writes it out.

        Raises:
            HogQLError: There are too many by now.
        """
        self._expanded_ctes += weight
        if self._expanded_ctes > MAX_CTES:
            raise HogQLError("Query is too complex")

    @property
    def expanded(self) -> int:
        """Sub-queries that the engine makes of the CTEs named so far."""
        return self._expanded_ctes


def _prefixes() -> Iterator[str]:
    """Beginnings for engine aliases; one that is not in the text can meet no name of the user's."""
    yield "t__"
    number = 0
    while True:
        number += 1
        yield f"t{number}__"
