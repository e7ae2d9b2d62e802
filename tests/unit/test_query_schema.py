"""Every body for ``/query/`` holds against PostHog's own schema, which forbids unknown keys."""

from __future__ import annotations

import datetime
import itertools
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from posthog_driver._codec import encode
from posthog_driver.endpoints import QueryOptions, plan_async, plan_node, plan_query

SCHEMA = os.environ.get("POSTHOG_QUERY_SCHEMA")

FILTERS: dict[str, Any] = {
    "dateRange": {"date_from": "-7d", "date_to": None, "explicitDate": True},
    "properties": [{"key": "$browser", "value": ["Chrome"], "operator": "exact", "type": "event"}],
    "filterTestAccounts": True,
}
VARIABLES: dict[str, Any] = {
    "018f-id": {"variableId": "018f-id", "code_name": "plan", "value": "free"},
    "018f-no": {"variableId": "018f-no", "code_name": "none", "value": None, "isNull": True},
}
VALUES: dict[str, Any] = {
    "text": "it's",
    "many": (1, 2.5, None, True),
    "day": datetime.date(2024, 1, 2),
    "now": datetime.datetime(2024, 1, 2, tzinfo=datetime.timezone.utc),
    "deep": {"a": {"b"}},
}
BOUND = "SELECT {text}, {many}, {day}, {now}, {deep.a}"
TEXTS: list[tuple[str, dict[str, Any] | None, dict[str, Any]]] = [
    ("SELECT 1", None, {}),
    ("SELECT 1", {}, {"filters": {}, "variables": {}}),
    (BOUND, VALUES, {}),
    ("SELECT {variables.plan} FROM events WHERE {filters}", None, {"filters": FILTERS, "variables": VARIABLES}),
    (f"{BOUND} WHERE {{filters.dateRange.from}}", VALUES, {"filters": {"dateRange": {}}}),
]

Check = Callable[[dict[str, Any], str], list[str]]


@pytest.fixture(scope="module")
def problems() -> Check:
    """Return what a body's envelope and its node do not keep; the node against its own kind, not against any."""
    import jsonschema  # type: ignore[import-untyped]

    schema = json.loads(Path(str(SCHEMA)).read_text(encoding="utf-8"))
    checks = {
        kind: jsonschema.Draft7Validator({**schema, "$ref": f"#/definitions/{kind}"})
        for kind in ("QueryRequest", "HogQLQuery", "HogQLVariable", "DatabaseSchemaQuery", "RefreshType")
    }

    def check(body: dict[str, Any], kind: str) -> list[str]:
        body = json.loads(encode(body))
        node = body["query"]
        found = [*checks["QueryRequest"].iter_errors(body), *checks[kind].iter_errors(node)]
        found += checks["RefreshType"].iter_errors(body["refresh"])
        for variable in node.get("variables", {}).values():
            found += checks["HogQLVariable"].iter_errors(variable)
        wrong_kind = [] if node["kind"] == kind else [f"kind {node['kind']}"]
        return [error.message for error in found] + wrong_kind

    return check


@pytest.mark.skipif(not SCHEMA, reason="POSTHOG_QUERY_SCHEMA names no file with PostHog's query schema")
def test_every_planned_body_holds_against_posthogs_schema(problems: Check) -> None:
    bodies = []
    for fresh, name in itertools.product((False, True), (None, "n" * 128)):
        options = QueryOptions(fresh=fresh, name=name, timeout=1.0, deadline=2.0)
        planned = [
            (plan_query("1", text, values, options._replace(**more)), "HogQLQuery") for text, values, more in TEXTS
        ]
        planned.append((plan_node("1", {"kind": "DatabaseSchemaQuery"}, options), "DatabaseSchemaQuery"))
        bodies += [(made.json, kind) for request, kind in planned for made in (request, plan_async(request, 1))]
    assert len(bodies) == 4 * 6 * 2
    assert [found for body, kind in bodies if (found := problems(body, kind))] == []

    body = plan_query("1", "SELECT 1").json
    node = body["query"]
    for wrong in (
        {**body, "wrong": 1},
        {**body, "refresh": "now"},
        {**body, "query": {**node, "wrong": 1}},
        {**body, "query": {"kind": "HogQLQuery"}},
        {**body, "query": {**node, "kind": "QueryType"}},
        {**body, "query": {**node, "filters": {"wrong": 1}}},
        {**body, "query": {**node, "variables": {"id": {"value": 1}}}},
    ):
        assert problems(wrong, "HogQLQuery"), f"the check is blind to {wrong}"
