"""The allow-list of functions."""

from __future__ import annotations

import pytest

from posthog_driver.local import functions
from posthog_driver.local.functions import Function, find

# Doors of the engine that must never appear, whatever the list grows to.
FORBIDDEN = (
    "file url s3 remote mysql sqlite executable python sleep sleepEachRow hostName currentUser currentDatabase version "
    "getSetting getMacro getServerPort dictGet dictGetOrNull dictHas joinGet addressToLine "
    "addressToSymbol demangle catboostEvaluate filesystemAvailable initializeAggregation finalizeAggregation "
    "runningAccumulate evalMLMethod quantileExactIf uniqCombined topKWeighted arrayReduceInRanges groupArrayLast "
    "exists on"
)


@pytest.mark.parametrize("name", FORBIDDEN.split())
def test_a_door_of_the_engine_is_not_on_the_list(name: str) -> None:
    assert find(name) is None
    assert name not in {function.sql for function in functions.FUNCTIONS.values()}


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("concat", Function("concat", "concat", 2, None, "string", False)),
        ("round", Function("round", "round", 1, 2, "same", None)),
        ("toDate", Function("toDate", "toDateOrNull", 1, 1, "date", True)),
        ("count", Function("count", "count", 0, 1, "integer", False, aggregate=True)),
        ("sumIf", Function("sumIf", "sumIf", 2, 2, "unknown", True, aggregate=True)),
        ("uniqIf", Function("uniqIf", "uniqIf", 2, None, "integer", False, aggregate=True)),
        ("countDistinctIf", Function("countDistinctIf", "uniqExactIf", 1, 2, "integer", False, aggregate=True)),
        ("avgArrayIf", Function("avgArrayIf", "avgArrayIf", 2, 2, "unknown", True, aggregate=True)),
        ("argMaxMerge", Function("argMaxMerge", "argMaxMerge", 1, 1, "unknown", True, aggregate=True)),
        ("quantiles", Function("quantiles", "quantiles", 1, None, "array", False, True, (0, None))),
        ("sumArrayOrNullIf", Function("sumArrayOrNullIf", "sumArrayOrNullIf", 2, 2, aggregate=True)),
        ("groupArraySample", Function("groupArraySample", "groupArraySample", 1, 1, "array", False, True, (1, 2))),
        ("toInt", Function("toInt", "accurateCastOrNull({0}, 'Int64')", 1, 1, "integer", True)),
    ],
)
def test_a_line_of_the_table_is_read_as_it_is_meant(name: str, function: Function) -> None:
    assert find(name) == function


def test_only_the_marked_names_may_be_written_in_any_case() -> None:
    assert find("COUNT") == find("count")
    assert find("isNull") == find("isnull")
    assert find("countif") is None
    assert find("TODATE") is None


def test_the_nearest_known_name_is_offered() -> None:
    assert functions.nearest("countif") == "countIf"
    assert functions.nearest("zzzzzzz") is None


def test_no_name_is_both_listed_and_known_to_be_missing() -> None:
    assert {name for name in functions.NOT_HERE if find(name)} == set()


def test_every_template_uses_each_of_its_arguments() -> None:
    templates = {f.name: f for f in functions.FUNCTIONS.values() if "{" in f.sql}
    assert {"toInt", "split_part", "json_agg"} <= set(templates)
    for function in templates.values():
        assert all(f"{{{n}}}" in function.sql for n in range(function.min_args)), function.name


def test_what_array_reduce_takes_is_on_the_list_too() -> None:
    listed = {name for name in functions.PARAMETRIC_FIRST_ARGUMENT if not name.endswith("MapState")}
    assert {name for name in listed if find(name) is None} == set()
