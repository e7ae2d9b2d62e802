"""What is no property filter, or none that can be answered, is refused in words that name it."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest

from posthog_driver.local.parser import HogQLError
from posthog_driver.local.property_filters import TRUE, Names, Scope, condition, joined
from posthog_driver.local.schema import Catalog

NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)


def of(filters: Any, kind: str = "event") -> str:
    """The text of a condition."""
    return condition(filters, Scope(kind, Catalog(), NOW, Names())).hogql


@pytest.mark.parametrize(
    ("filter", "said"),
    [
        ({"key": "x", "operator": "nearly", "value": 1}, "operator nearly"),
        ({"key": "x", "operator": "semver_nearly", "value": "1"}, "operator semver_nearly"),
        ({"key": "x", "type": "moon", "value": 1}, "type moon"),
        ({"key": "", "value": 1}, "needs a key"),
        ({"value": 1}, "needs a key"),
        ({"key": "x", "operator": "between", "value": [1]}, "needs two values"),
        ({"key": "x", "operator": "is_date_before", "value": "soon"}, "Invalid date: soon"),
        ({"key": "x", "operator": "semver_tilde", "value": "one"}, "'one' is no version"),
        ({"type": "cohort", "key": "id", "value": "x"}, "needs the cohort's id"),
        ({"type": "cohort", "key": "id", "value": True}, "needs the cohort's id"),
        ({"type": "group", "group_type_index": 7, "key": "x", "value": 1}, "0 to 4"),
        ({"type": "XOR", "values": [{"key": "x", "value": 1}]}, "AND or OR"),
        ({"type": "element", "key": "moon", "value": "x"}, "not 'moon'"),
        ({"type": "element", "key": "selector", "operator": "icontains", "value": "a"}, "needs the operator exact"),
        ({"type": "element", "key": "href", "operator": "gt", "value": "a"}, "operator gt"),
        ("text", "is no filter"),
        (["text"], "is no filter"),
        (5, "is no filter"),
    ],
)
def test_what_is_no_filter_is_refused_by_name(filter: Any, said: str) -> None:
    with pytest.raises(HogQLError, match=said):
        of(filter)


@pytest.mark.parametrize(
    ("kind", "filter", "said"),
    [
        ("person", {"key": "x", "value": 1, "type": "event"}, "not available for persons"),
        ("group", {"type": "cohort", "key": "id", "value": 1}, "not groups"),
        ("group", {"key": "x", "value": 1, "type": "person"}, "not available for groups"),
        ("session", {"key": "x", "value": 1, "type": "group"}, "not available for sessions"),
        ("person", {"key": "text", "value": "x", "type": "element"}, "filter events"),
        ("event", {"key": "moon", "value": "x", "type": "event_metadata"}, "not available for events"),
    ],
)
def test_a_filter_needs_rows_that_have_what_it_asks_for(kind: str, filter: dict[str, Any], said: str) -> None:
    with pytest.raises(HogQLError, match=said):
        of(filter, kind)


@pytest.mark.parametrize(
    ("kind", "filter", "path"),
    [
        ("person", {"key": "x", "operator": "is_set", "type": "person"}, "properties.x"),
        ("session", {"key": "$entry_pathname", "operator": "is_set", "type": "session"}, "$entry_pathname"),
        ("session", {"key": "x", "operator": "is_set", "type": "person"}, "person.properties.x"),
        ("group", {"key": "x", "operator": "is_set", "type": "group"}, "properties.x"),
        ("event", {"key": "$entry_pathname", "operator": "is_set", "type": "session"}, "session.$entry_pathname"),
        ("event", {"key": "a b", "operator": "is_set", "type": "person"}, "person.properties.`a b`"),
        ("event", {"key": "created_at", "operator": "is_set", "type": "person_metadata"}, "person.created_at"),
    ],
)
def test_a_filter_reads_what_it_names_from_where_it_stands(kind: str, filter: dict[str, Any], path: str) -> None:
    assert of(filter, kind) == f"isNotNull({path})"


@pytest.mark.parametrize("nothing", [None, [], {}, {"type": "AND", "values": []}, {"type": "OR", "values": []}])
def test_no_filter_is_true(nothing: Any) -> None:
    assert of(nothing) == "true"


def test_values_are_placeholders_with_names_of_their_own() -> None:
    names = Names("x")
    scope = Scope("event", Catalog(), NOW, names)
    found = [condition({"key": "a", "value": "it's {here}"}, scope) for _ in range(2)]
    both = joined(found)
    assert set(both.values.values()) == {"it's {here}"}
    assert len(both.values) == 2
    assert "it's" not in both.hogql


def test_a_negated_filter_is_the_opposite() -> None:
    filter = {"type": "cohort", "key": "id", "value": 1, "negation": True}
    assert of(filter) == "not(person_id IN COHORT 1)"


def test_none_of_no_conditions_holds() -> None:
    assert joined([]) == TRUE
    assert joined([], "OR").hogql == "false"
