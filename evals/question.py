"""What a question is, and helpers that make the common kinds of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from evals.scoring import Row
from evals.world import World, counted, people_by

__all__ = ["Question", "amount_by", "count_of", "how_many_by", "sql", "users_by"]

Expected = Callable[[World], list[Row]]

_ALL = "timestamp >= toDateTime({first})"


class Question(NamedTuple):
    """One question.

    Attributes:
        name: What ``--tasks`` takes.
        text: As a person asks; days in braces are filled in from `World.dates`.
        tool: The tool of the reference.
        arguments: Its arguments; days in braces are bound as values in a query, and filled in elsewhere.
        expected: Computes the right rows.
    """

    name: str
    text: str
    tool: str
    arguments: Mapping[str, Any]
    expected: Expected

    def asked(self, world: World) -> str:
        """Return the text with its days."""
        return self.text.format(**world.dates)

    def call(self, world: World) -> dict[str, Any]:
        """Return the arguments of the reference call with its days."""
        if self.tool == "posthog_query":
            named = set(re.findall(r"\{(\w+)\}", self.arguments["query"]))
            return {**self.arguments, "values": {name: day for name, day in world.dates.items() if name in named}}
        return {
            name: value.format(**world.dates) if isinstance(value, str) else value
            for name, value in self.arguments.items()
        }


def sql(name: str, text: str, query: str, expected: Expected) -> Question:
    """A question that HogQL answers; ``ALL_TIME`` in the query bounds the time by all the data."""
    return Question(name, text, "posthog_query", {"query": query.replace("ALL_TIME", _ALL)}, expected)


def count_of(event: str, since: str = "first") -> Question:
    """How many events of a name."""
    return sql(
        f"count-{event.strip('$')}-{since}",
        f"How many {event} events were there from {{{since}}} on, that day included?",
        f"SELECT count() FROM events WHERE event = '{event}' AND timestamp >= toDateTime({{{since}}})",
        lambda world: [(len(world.of(event, since)),)],
    )


def how_many_by(event: str, key: str, since: str = "first") -> Question:
    """How many events of a name for each value of a property."""
    return sql(
        f"{event.strip('$')}-by-{key.strip('$')}",
        f"Count the {event} events from {{{since}}} on (that day included) by {key}.",
        f"SELECT properties.{key} AS value, count() AS n FROM events WHERE event = '{event}' AND "
        f"timestamp >= toDateTime({{{since}}}) GROUP BY value ORDER BY n DESC LIMIT 1000",
        lambda world: counted(seen.p.get(key) for seen in world.of(event, since)),
    )


def users_by(key: str, event: str | None = None) -> Question:
    """How many different people for each value of a property."""
    what = f" with a {event} event" if event else ""
    condition = f"event = '{event}' AND " if event else ""
    return sql(
        f"users-by-{key.strip('$')}" + (f"-{event.strip('$')}" if event else ""),
        f"How many different people{what} were there for each {key} of their events, in all the data?",
        f"SELECT properties.{key} AS value, uniq(person_id) AS people FROM events WHERE {condition}ALL_TIME "
        "GROUP BY value ORDER BY people DESC LIMIT 1000",
        lambda world: people_by(world.of(event), lambda seen: seen.p.get(key)),
    )


def amount_by(key: str) -> Question:
    """Revenue for each value of a property of invoices."""

    def expected(world: World) -> list[Row]:
        sums: dict[Any, float] = {}
        for seen in world.of("invoice_paid"):
            sums[seen.p.get(key)] = sums.get(seen.p.get(key), 0) + seen.p["amount_usd"]
        return list(sums.items())

    return sql(
        f"revenue-by-{key.strip('$')}",
        f"What was the revenue (amount_usd of invoice_paid) by {key}, in all the data?",
        f"SELECT properties.{key} AS value, sum(toFloat(properties.amount_usd)) AS revenue FROM events "
        "WHERE event = 'invoice_paid' AND ALL_TIME GROUP BY value LIMIT 1000",
        expected,
    )
