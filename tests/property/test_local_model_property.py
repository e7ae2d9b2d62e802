"""Laws of the bodies that the embedded ``/query/`` takes, held against PostHog's own schema of them.

Bodies are made from the declared fields: whole ones, and ones with something taken away, added or changed.
"""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from posthog_driver.local.errors import ApiError
from posthog_driver.local.model import QueryRequest
from posthog_driver.local.model_checks import alternatives, compiled, fields_of, values_of
from posthog_driver.local.model_kinds import ELSEWHERE, ENUMS, MODELS, REQUESTS

SCHEMA = os.environ.get("POSTHOG_QUERY_SCHEMA")
pytestmark = pytest.mark.skipif(not SCHEMA, reason="POSTHOG_QUERY_SCHEMA names no file with PostHog's query schema")

Validate = Callable[[str, Any], list[str]]
JUNK = st.sampled_from([None, True, 0, -1, 1.5, "", "x", [], {}, [None], {"kind": "x"}, {"type": "event"}, [[1]]]).map(
    copy.deepcopy
)
PLAIN: dict[str, st.SearchStrategy[Any]] = {
    "text": st.sampled_from(["", "a", "$pageview", "it's", "\u00e9"]),
    "bool": st.booleans(),
    "int": st.integers(-5, 10_000),
    "number": st.one_of(st.integers(-5, 5), st.floats(-10, 10)),
    "dict": st.dictionaries(st.sampled_from(["a", "b"]), st.none() | st.integers(), max_size=2),
    "any": st.none() | st.integers() | st.just({"a": [1]}),
    "null": st.none(),
}


@pytest.fixture(scope="module")
def problems() -> Validate:
    """Return what a value breaks of one definition of PostHog's schema."""
    import jsonschema  # type: ignore[import-untyped]

    schema = json.loads(Path(str(SCHEMA)).read_text(encoding="utf-8"))
    envelope = copy.deepcopy(schema["definitions"]["QueryRequest"])
    envelope["properties"]["query"] = {"type": "object"}
    schema["definitions"]["Envelope"] = envelope
    made: dict[str, Any] = {}

    def check(name: str, value: Any) -> list[str]:
        if name not in made:
            made[name] = jsonschema.Draft7Validator({**schema, "$ref": f"#/definitions/{quote(name)}"})
        return [error.message[:300] for error in made[name].iter_errors(value)]

    return check


def value_of(type_: str, depth: int) -> st.SearchStrategy[Any]:
    """Values of a declared type, smaller the deeper."""
    options = [option for option in alternatives(type_) if option not in ELSEWHERE]
    if len(options) > 1:
        return st.sampled_from(options).flatmap(lambda option: value_of(option, depth))
    (option,) = options
    if option in PLAIN:
        return PLAIN[option]
    if option in ENUMS:
        return st.sampled_from(values_of(option))
    if option in MODELS:
        return node_of(option, depth)
    if option.startswith("["):
        return st.lists(value_of(option[1:-1], depth + 1), max_size=2 if depth < 4 else 0)
    if option.startswith("{"):
        return st.dictionaries(st.sampled_from(["a", "b"]), value_of(option[1:-1], depth + 1), max_size=2)
    return st.just(option.strip("'"))


def node_of(model: str, depth: int = 0) -> st.SearchStrategy[dict[str, Any]]:
    """Objects with all required and some other fields."""

    @st.composite
    def build(draw: st.DrawFn) -> dict[str, Any]:
        fields = fields_of(model)
        optional = [name for name, field in fields.items() if not field.required]
        chosen = draw(st.lists(st.sampled_from(optional), max_size=max(0, 4 - depth), unique=True)) if optional else []
        names = [name for name, field in fields.items() if field.required] + chosen
        return {name: draw(value_of(fields[name].type, depth + 1)) for name in names}

    return build()


@st.composite
def damaged(draw: st.DrawFn, whole: st.SearchStrategy[dict[str, Any]]) -> dict[str, Any]:
    """An object with something anywhere in it taken away, added or replaced."""
    body = copy.deepcopy(draw(whole))
    for _ in range(draw(st.integers(1, 3))):
        place: Any = body
        while True:
            inner = [key for key in (place if isinstance(place, dict) else range(len(place)))
                     if isinstance(place[key], dict | list) and place[key]]  # fmt: skip
            if not inner or draw(st.booleans()):
                break
            place = place[draw(st.sampled_from(inner))]
        if isinstance(place, list):
            place.append(draw(JUNK))
            continue
        key = draw(st.sampled_from(sorted(place, key=str) or ["x"]))
        what = draw(st.sampled_from(["drop", "add", "replace"]))
        if what == "drop" and key != "kind":
            place.pop(key, None)
        elif what == "add":
            place[draw(st.sampled_from(["extra", "type", "value", "key", "properties", "id"]))] = draw(JUNK)
        elif key != "kind":
            place[key] = draw(JUNK)
    return body


def accepted(body: Any) -> bool:
    try:
        QueryRequest.parse(body)
    except ApiError as error:
        refused = (error.status, len(error.detail) < 60_000)
    else:
        return True
    assert refused == (400, True)
    return False


WHOLE = st.sampled_from(REQUESTS).flatmap(node_of)


@settings(max_examples=600, deadline=None, suppress_health_check=list(HealthCheck))
@given(node=WHOLE)
def test_a_whole_body_of_any_kind_fits_the_model_and_posthogs_schema(problems: Validate, node: dict[str, Any]) -> None:
    assert [str(problem) for problem in compiled(node["kind"])((), node)] == []
    assert problems(node["kind"], node) == []


@settings(max_examples=1500, deadline=None, suppress_health_check=list(HealthCheck))
@given(node=damaged(WHOLE))
def test_no_damaged_body_is_accepted_unless_it_holds_against_posthogs_schema(
    problems: Validate, node: dict[str, Any]
) -> None:
    if accepted({"query": node}):
        assert problems(node["kind"], node) == []


@settings(max_examples=300, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(
            [
                "refresh",
                "async",
                "client_query_id",
                "name",
                "filters_override",
                "variables_override",
                "limit_context",
                "extra",
            ]
        ),
        st.one_of(JUNK, node_of("DashboardFilter"), st.just("async"), st.just({"a": {"variableId": "a"}})),
    )
)
def test_no_envelope_is_accepted_unless_it_holds_against_posthogs_schema(
    problems: Validate, envelope: dict[str, Any]
) -> None:
    body = {"query": {"kind": "DatabaseSchemaQuery"}, **envelope}

    if accepted(body):
        assert problems("Envelope", body) == []


STRICTER = {"kind", "type"}
"""Fields that tell nodes apart: here they must be there, for PostHog they are mostly only constant."""


@pytest.mark.parametrize("model", sorted(set(MODELS) - {"HogQLVariable"}))
def test_every_field_that_posthog_has_is_declared_and_no_other(model: str) -> None:
    definitions = json.loads(Path(str(SCHEMA)).read_text(encoding="utf-8"))["definitions"]
    definition = definitions["Settings" if model == "ChartAxisSettings" else model]
    while "$ref" in definition:
        definition = definitions[unquote(definition["$ref"].rpartition("/")[2])]

    declared = fields_of(model)

    assert set(declared) == set(definition["properties"]) - {"response"}
    required = {name for name, field in declared.items() if field.required}
    assert required - STRICTER == set(definition.get("required", ())) - STRICTER
