"""What models write and PostHog refuses, and the text that it accepts instead.

`rewrite` goes on until no rule finds anything, so that a query with three mistakes comes back
whole. A rule changes only what means the same afterwards; where a human has to decide, it changes nothing and the error
text says what to do. Rules look at the text alone; what depends on names of the project is in `repair`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from posthog_driver.tools.hogql_text import HogQLText
from posthog_driver.tools.rewrite_calls import CALL_RULES
from posthog_driver.tools.rewrite_casts import CAST_RULES
from posthog_driver.tools.rewrite_clauses import CLAUSE_RULES

if TYPE_CHECKING:
    from collections.abc import Collection

    from posthog_driver.tools.rewrite_calls import Change

__all__ = ["Rewritten", "find_changes", "rewrite"]

_RULES = (*CLAUSE_RULES, *CALL_RULES, *CAST_RULES)
_SAFE_KINDS = frozenset(
    (
        "syntax", "type", "unknown_function", "wrong_arity", "unknown_field", "unknown_table", "join_inequality",
        "not_allowed",
    )
)  # fmt: skip
_MOST_ROUNDS = 20
_MOST_CHARACTERS = 20_000
# A longer one is rewritten by nobody: it would not fit into an answer.
_MOST_REWRITTEN = 4_000


class Rewritten(NamedTuple):
    """A query and what was changed in it, in that order; the positions are those at the time of the change."""

    query: str
    changes: tuple[Change, ...]


def find_changes(query: str, kind: str = "", tables: Collection[str] = ()) -> tuple[Change, ...]:
    """Return every change that a rule proposes, in the order of the text; they may overlap.

    Args:
        query: HogQL.
        kind: Kind of the error; changes of grouping are proposed only where it is ``aggregation``.
        tables: Tables that exist, under which names nothing else is meant.
    """
    text = HogQLText(query if len(query) <= _MOST_CHARACTERS else "", tables)
    if text.has_templates:
        return ()
    found = [change for rule in _RULES for change in rule(text) if change.kind in (kind, *_SAFE_KINDS)]
    return tuple(sorted(found, key=lambda change: (change.start, change.end)))


def rewrite(query: str, kind: str = "", tables: Collection[str] = ()) -> Rewritten | None:
    """Return the query as PostHog accepts it; see `find_changes`.

    Returns:
        None where nothing is to be changed, the query is too long, or the changes come to no end.
    """
    changes: list[Change] = []
    rewritten, rounds = query, 0
    while found := find_changes(rewritten, kind, tables):
        rounds += 1
        if rounds > _MOST_ROUNDS or len(rewritten) > _MOST_REWRITTEN:
            return None
        # From the end, so that positions hold; of two that overlap the inner one comes first.
        start = len(rewritten)
        for change in reversed(found):
            if change.end <= start:
                changes.append(change)
                rewritten = rewritten[: change.start] + change.text + rewritten[change.end :]
                start = change.start
    return Rewritten(rewritten, tuple(reversed(changes))) if changes else None
