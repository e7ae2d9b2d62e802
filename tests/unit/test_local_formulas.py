"""Formulas over series: what they come to, and what is none."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthog_driver.local.errors import ApiError
from posthog_driver.local.questions.formulas import MAX_LENGTH, Formula


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("A", 6.0),
        ("a + b", 8.0),
        ("A - B * 2", 2.0),
        ("(A - B) * 2", 8.0),
        (" A/B ", 3.0),
        ("A / 0", 0.0),
        ("A % B", 0.0),
        ("B ** 3", 8.0),
        ("B ^ 3", 8.0),
        ("-A + +B", -4.0),
        ("A / B * 100.5", 301.5),
        ("(-A) ** 0.5", 0.0),
        ("9 ** 9 ** 9", 0.0),
        ("1e308 * 10", 0.0),
    ],
)
def test_a_formula_comes_to_its_value_and_what_cannot_be_computed_to_zero(text: str, value: float) -> None:
    assert Formula(text, 2)([6.0, 2.0]) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "A +",
        "AB",
        "A.b",
        "A[0]",
        "f(A)",
        "__import__('os')",
        "A if B else A",
        "'A'",
        "A and B",
        "A == B",
        "1j",
        "True",
    ],
)
def test_anything_but_arithmetic_is_refused(text: str) -> None:
    with pytest.raises(ApiError, match="is not understood") as refused:
        Formula(text, 2)
    assert refused.value.status == 400


def test_a_formula_that_names_a_series_that_is_not_there_is_refused() -> None:
    with pytest.raises(ApiError, match="names series C"):
        Formula("A + C", 2)


@pytest.mark.parametrize("text", ["(" * 300 + "A" + ")" * 300, "-" * 900 + "A"])
def test_a_deep_formula_does_not_exhaust_anything(text: str) -> None:
    with contextlib.suppress(ApiError):
        assert abs(Formula(text, 1)([1.0])) == 1.0


def test_a_long_formula_is_refused() -> None:
    with pytest.raises(ApiError, match=f"at most {MAX_LENGTH} characters"):
        Formula("A" + "+A" * MAX_LENGTH, 1)


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6).filter(lambda value: abs(value) > 1e-6))
def test_a_formula_computes_as_python_does(left: float, right: float) -> None:
    assert Formula("(A + B) * A / B - A", 2)([left, right]) == (left + right) * left / right - left
