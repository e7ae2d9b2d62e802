"""The product questions: one module a family, each a function from a query node to PostHog's answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from . import actors, events, funnels, lifecycle, paths, retention, stickiness, taxonomy, trends, web, web_tables
from .autocomplete import answer as complete
from .base import Asks
from .metadata import answer as check

__all__ = ["KINDS", "Asks", "answer", "check", "complete"]

Answers = Callable[[Mapping[str, Any], Asks], dict[str, Any]]

_ANSWERS: Mapping[str, Answers] = {
    "ActorsPropertyTaxonomyQuery": taxonomy.actors_property_taxonomy,
    "ActorsQuery": actors.answer,
    "EventTaxonomyQuery": taxonomy.event_taxonomy,
    "EventsQuery": events.answer,
    "FunnelsQuery": funnels.answer,
    "LifecycleQuery": lifecycle.answer,
    "PathsQuery": paths.answer,
    "RetentionQuery": retention.answer,
    "StickinessQuery": stickiness.answer,
    "PropertyValuesQuery": taxonomy.property_values,
    "TeamTaxonomyQuery": taxonomy.team_taxonomy,
    "TrendsQuery": trends.answer,
    "WebGoalsQuery": web_tables.goals,
    "WebOverviewQuery": web.overview,
    "WebStatsTableQuery": web_tables.stats,
}

KINDS = frozenset(_ANSWERS)
"""The kinds that are answered here."""


def answer(query: Mapping[str, Any], asks: Asks) -> dict[str, Any]:
    """Answer a question.

    Args:
        query: A query node of one of `KINDS`, its shape checked.
        asks: What it knows and may do.

    Returns:
        The part of PostHog's answer that is the question's own: ``results`` and what goes with it.

    Raises:
        ApiError: The question cannot be answered as it is.
        HogQLError: An expression or filter inside cannot be.
    """
    return _ANSWERS[query["kind"]](query, asks)
