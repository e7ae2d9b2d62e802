"""The type of a property, from its name and its first value."""

from __future__ import annotations

import time
from typing import Any

import pytest

from posthog_driver.local.property_types import property_type

NOW = time.time()


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("p", True, "Boolean"),
        ("p", " TRUE ", "Boolean"),
        ("p", "false", "Boolean"),
        ("p", "True", "String"),
        ("p", 1, "Numeric"),
        ("p", 1.5, "Numeric"),
        ("p", NOW, "Numeric"),
        ("signup_time", NOW, "DateTime"),
        ("paidAt_date", NOW * 1000, "DateTime"),
        ("updated_at", 17, "Numeric"),
        ("updated_at", True, "Boolean"),
        ("p", "x", "String"),
        ("p", "12", "String"),
        ("p", "1700000000", "String"),
        ("p", "2026-01-02", "DateTime"),
        ("p", "2026/01/02 10:00:00Z", "DateTime"),
        ("p", "Fri, 02 Jan 2026 10:00:00 GMT", "DateTime"),
        ("p", "2026-99-02", "String"),
        ("p", "a long text, 7 of them", "String"),
        ("utm_date", "2026-01-02", "String"),
        ("$feature/x", True, "String"),
        ("$survey_response_1", 5, "String"),
        ("p", None, None),
        ("utm_source", None, None),
        ("p", [1], None),
        ("p", {"a": 1}, None),
    ],
)
def test_a_property_has_the_type_that_its_name_and_first_value_say(name: str, value: Any, expected: str | None) -> None:
    assert property_type(name, value) == expected
