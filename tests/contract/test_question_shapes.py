"""The answers to questions hold against PostHog's own schema of them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from posthog_driver.local import LocalPostHog
from tests.oracle.asking import ask

SCHEMA = os.environ.get("POSTHOG_QUERY_SCHEMA")
pytestmark = pytest.mark.skipif(not SCHEMA, reason="POSTHOG_QUERY_SCHEMA names no file with PostHog's query schema")

NODE = {"kind": "EventsNode", "event": "$pageview"}
TREND = {"kind": "TrendsQuery", "series": [NODE]}
COMPARED = {"properties": [], "compareFilter": {"compare": True}, "dateRange": {"date_from": "-30d"}}
HOGQL = {"language": "hogQL", "query": "SELECT properties. FROM events WHERE timestamp > 0"}


@pytest.mark.parametrize(
    "node",
    [
        {"kind": "ActorsQuery"},
        {"kind": "ActorsQuery", "source": {"kind": "InsightActorsQuery", "source": TREND}},
        {"kind": "EventsQuery", "select": ["*", "person", "event"], "after": "all", "limit": 5},
        {"kind": "TeamTaxonomyQuery"},
        {"kind": "EventTaxonomyQuery", "event": "$pageview"},
        {"kind": "ActorsPropertyTaxonomyQuery", "properties": ["email", "plan", "seats"]},
        {"kind": "PropertyValuesQuery", "property_type": "event", "property_key": "$browser"},
        {"kind": "PropertyValuesQuery", "property_type": "person", "property_key": "plan"},
        {"kind": "WebOverviewQuery", **COMPARED},
        {"kind": "WebOverviewQuery", "conversionGoal": {"customEventName": "file_uploaded"}, **COMPARED},
        {"kind": "WebStatsTableQuery", "breakdownBy": "Browser", **COMPARED},
        {"kind": "WebGoalsQuery", **COMPARED},
        {"kind": "HogQLMetadata", "language": "hogQL", "query": "SELECT 1 FROM events"},
        {"kind": "HogQLMetadata", "language": "hogQLExpr", "query": "nothing"},
        {"kind": "HogQLAutocomplete", **HOGQL, "startPosition": 18, "endPosition": 18},
    ],
    ids=lambda node: node["kind"],
)
def test_an_answer_has_the_fields_of_posthogs_answer(local_posthog: LocalPostHog, node: dict[str, Any]) -> None:
    import jsonschema  # type: ignore[import-untyped]

    schema = json.loads(Path(str(SCHEMA)).read_text(encoding="utf-8"))
    name = f"{node['kind']}Response"
    definition = schema["definitions"][name]
    while "$ref" in definition:
        definition = schema["definitions"][unquote(definition["$ref"].rpartition("/")[2])]

    answer = ask(local_posthog, node)

    # What every answer has beside its own: null stands for an absent field, as pydantic writes it.
    own = {key: value for key, value in answer.items() if key in definition["properties"] and value is not None}
    validator = jsonschema.Draft7Validator({**schema, "$ref": f"#/definitions/{name}"})
    assert [error.message for error in validator.iter_errors(own)] == []
    assert set(definition.get("required", ())) <= set(own)
