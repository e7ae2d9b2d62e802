"""The table of tools keeps the rules of the strictest client, and stays small."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

from posthog_driver import tools
from posthog_driver.tools.definitions import (
    INSTRUCTIONS,
    PYTHON_TOOL,
    SIMPLE_TOOL,
    SYSTEM_PROMPT,
    TOOL,
    TOOLS,
    Tool,
    to_strict,
)

EVERY = (*TOOLS, PYTHON_TOOL, SIMPLE_TOOL)
# 1,500 tokens are the goal. o200k_base needs one token for 4.2 characters of these texts, so this leaves a tenth of
# room; the benchmark counts exactly.
MOST_CHARACTERS = 5_700


def nodes(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a schema and all within it."""
    yield schema
    for inner in schema.get("properties", {}).values():
        yield from nodes(inner)
    if "items" in schema:
        yield from nodes(schema["items"])


def compact(entries: list[dict[str, Any]]) -> str:
    return json.dumps(entries, separators=(",", ":"), ensure_ascii=False)


def test_there_are_the_five_tools_in_the_order_of_thinking() -> None:
    names = [tool.name for tool in TOOLS]

    assert names == ["posthog_schema", "posthog_query", "posthog_trend", "posthog_funnel", "posthog_retention"]


def test_the_full_set_is_small() -> None:
    assert len(compact([tool.entry() for tool in TOOLS])) <= MOST_CHARACTERS


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("tool", EVERY, ids=lambda tool: tool.name)
def test_every_entry_fits_every_client(tool: Tool, strict: bool) -> None:
    entry = tool.entry(strict=strict, examples=True)

    assert len(entry["description"]) <= 2_000
    assert len(compact([entry])) <= 8_000
    for schema in nodes(entry["input_schema"]):
        assert not schema.keys() & {"anyOf", "oneOf", "allOf", "$ref", "$defs", "not", "patternProperties"}
        assert isinstance(schema["type"], str)
        if schema["type"] == "object" and "properties" in schema:
            assert schema["additionalProperties"] is False
    jsonschema.Draft202012Validator.check_schema(entry["input_schema"])


@pytest.mark.parametrize("tool", EVERY, ids=lambda tool: tool.name)
def test_every_example_fits_its_schema(tool: Tool) -> None:
    assert tool.input_examples
    for example in tool.input_examples:
        jsonschema.validate(example, tool.input_schema)


@pytest.mark.parametrize("tool", EVERY, ids=lambda tool: tool.name)
def test_every_choice_flag_and_number_says_its_default(tool: Tool) -> None:
    for schema in nodes(tool.input_schema):
        for name, inner in schema.get("properties", {}).items():
            closed = "enum" in inner or inner["type"] in ("boolean", "integer")
            if closed and name not in schema["required"]:
                assert "Default" in inner["description"], name


@pytest.mark.parametrize("tool", EVERY, ids=lambda tool: tool.name)
def test_every_tool_is_said_to_read_and_to_change_nothing(tool: Tool) -> None:
    assert dict(tool.annotations) == {
        "readOnlyHint": True,
        "destructiveHint": False,
        "idempotentHint": True,
        "openWorldHint": True,
    }


def test_strict_schemas_have_no_free_maps_and_no_limits() -> None:
    for tool in EVERY:
        for schema in nodes(tool.entry(strict=True)["input_schema"]):
            assert schema.get("additionalProperties", False) is False
            assert not schema.keys() & {"minimum", "maximum", "minItems", "maxItems"}


def test_strict_schemas_turn_maps_into_lists_of_pairs() -> None:
    values = TOOLS[1].entry(strict=True)["input_schema"]["properties"]["values"]

    assert values["type"] == "array"
    assert values["items"]["required"] == ["name", "value"]
    assert values["description"] == TOOLS[1].input_schema["properties"]["values"]["description"]


def test_strict_tools_have_fewer_optional_arguments_than_the_api_compiles() -> None:
    schemas = [schema for tool in (*TOOLS, PYTHON_TOOL) for schema in nodes(to_strict(tool.input_schema))]
    optional = [name for schema in schemas for name in schema.get("properties", {}) if name not in schema["required"]]

    assert len(optional) <= 24


def test_strict_entries_say_so_and_carry_no_examples_of_the_other_shape() -> None:
    entry = TOOLS[1].entry(strict=True, examples=True)

    assert entry["strict"] is True
    assert "input_examples" not in entry


def test_changing_an_entry_does_not_change_the_table() -> None:
    entry = TOOLS[1].entry(examples=True)
    entry["input_schema"]["properties"].clear()
    entry["input_examples"][1]["values"].clear()

    assert "query" in TOOLS[1].entry()["input_schema"]["properties"]
    assert TOOLS[1].entry(examples=True)["input_examples"][1]["values"]


def test_the_single_tool_has_the_operations_and_arguments_of_the_driver_contract() -> None:
    schema = TOOL["input_schema"]

    assert schema["required"] == ["operation"]
    assert schema["properties"]["operation"]["enum"] == ["list_objects", "get_fields", "query"]
    assert {"operation", "object_name", "query"} <= schema["properties"].keys()


@pytest.mark.parametrize("prompt", [INSTRUCTIONS, SYSTEM_PROMPT])
def test_system_prompts_fit_where_instructions_are_cut(prompt: str) -> None:
    assert len(prompt) < 4_096
    assert "\n\n\n" not in prompt
    assert "posthog-data" in prompt


def test_the_system_prompt_names_each_tool_of_the_full_set() -> None:
    for tool in TOOLS:
        assert tool.name in INSTRUCTIONS


def test_public_names_are_loaded_on_first_use() -> None:
    assert tools.__all__ == sorted(tools.__all__, key=lambda name: (not name.isupper(), name))
    assert set(tools.__all__) <= set(dir(tools))
    assert tools.TOOL is TOOL
    assert tools.SYSTEM_PROMPT is SYSTEM_PROMPT
    with pytest.raises(AttributeError, match="nonsense"):
        tools.nonsense  # noqa: B018 - looking it up is the test
