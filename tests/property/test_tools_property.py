"""Laws of the tools: whatever a model sends and whatever visitors sent, an answer is an answer and no more."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posthog_driver.tools.arguments import ArgumentError, check
from posthog_driver.tools.audit import Audit, Call, scrub, scrub_keys
from posthog_driver.tools.definitions import PYTHON_TOOL, SIMPLE_TOOL, TOOLS, Tool
from posthog_driver.tools.kept import Cursor, read_cursor
from tests.property.tools_fuzz import run

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
EVERY = st.sampled_from([*TOOLS, PYTHON_TOOL, SIMPLE_TOOL])


@pytest.mark.parametrize("seed", [1, 2])
def test_no_random_call_and_no_hostile_row_breaks_an_answer(seed: int) -> None:
    outcomes = run(150, seed)

    assert outcomes.total() == 150
    assert outcomes["ok"] > 50


@st.composite
def arguments(draw: st.DrawFn, tool: Tool) -> dict[str, Any]:
    """Arguments with the tool's own names, and values of any kind."""
    names = st.sampled_from([*tool.input_schema["properties"], "other"])
    return draw(st.dictionaries(names, JSON, max_size=4))


@given(st.data())
def test_arguments_are_taken_or_refused_in_one_line(data: st.DataObject) -> None:
    tool = data.draw(EVERY)
    given = data.draw(arguments(tool) | JSON)
    refusal = ""
    try:
        checked = check(tool, given)
    except ArgumentError as error:
        refusal = str(error)
        checked = {}

    assert "\n" not in refusal
    assert len(refusal) < 1_500
    assert checked.keys() <= tool.input_schema["properties"].keys()
    if not refusal:
        assert check(tool, checked) == checked


@given(st.from_regex(r"q[1-9][0-9]{0,8}", fullmatch=True), st.integers(0, 10**9 - 1))
def test_a_cursor_is_read_as_it_was_written(handle: str, first: int) -> None:
    assert read_cursor(str(Cursor(handle, first))) == Cursor(handle, first)


@given(st.text())
def test_any_other_text_is_a_cursor_or_none(text: str) -> None:
    cursor = read_cursor(text)

    assert cursor is None or read_cursor(str(cursor)) == cursor


@given(st.text(), st.sampled_from("aersx"), st.from_regex(r"[A-Za-z0-9]{20,40}", fullmatch=True), st.text())
def test_a_key_is_found_in_any_text_and_lines_stay_lines(before: str, letter: str, rest: str, after: str) -> None:
    key = f"ph{letter}_{rest}"
    text = f"{before}{key}{after}"

    assert key not in scrub_keys(text)
    assert key not in scrub(text)
    assert scrub_keys(text).count("\n") == text.count("\n")
    assert scrub_keys(scrub_keys(text)) == scrub_keys(text)


@settings(max_examples=50)
@given(st.text(max_size=20), JSON, st.booleans(), st.sampled_from(["hashed", "plain"]))
def test_any_call_leaves_one_line_of_json(tool: str, given: Any, valid: bool, values: str) -> None:
    lines: list[str] = []
    Audit(lines.append, values=values).write(Call("c", tool, given, valid, "ok", {}, 0.1), 0.0)

    (line,) = lines
    assert "\n" not in line
    assert json.loads(line)["outcome"] == "ok"
