"""What a model sends is taken as it was meant, or refused with what would do."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import pytest

from posthog_driver import ValidationError
from posthog_driver.tools.arguments import MOST_TEXT, ArgumentError, check, nearest
from posthog_driver.tools.definitions import TOOLS

SCHEMA, QUERY, TREND, FUNNEL, RETENTION = TOOLS
SELECT = "SELECT 1 LIMIT 1"


def refusal(tool: Any, arguments: Any) -> str:
    with pytest.raises(ArgumentError) as caught:
        check(tool, arguments)
    return str(caught.value)


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        (SCHEMA, {}),
        (SCHEMA, {"event": "$pageview", "detail": "all"}),
        (QUERY, {"query": SELECT, "values": {"a": 1, "b": [None, "x", 2.5, [True]]}, "max_rows": 1_000}),
        (TREND, {"events": ["a"], "where": {"$browser": ["Chrome"], "plan": None}, "compare": True}),
        (FUNNEL, {"steps": [{"event": "a"}, {"event": "b", "where": {"plan": "team"}}]}),
        (RETENTION, {"start_event": "a", "periods": 2}),
    ],
)
def test_what_fits_comes_back_as_it_is(tool: Any, arguments: dict[str, Any]) -> None:
    assert check(tool, arguments) == arguments


def test_any_mapping_is_taken() -> None:
    assert check(SCHEMA, MappingProxyType({"event": "a"})) == {"event": "a"}


def test_null_stands_for_an_argument_that_is_left_out() -> None:
    assert check(QUERY, {"query": SELECT, "cursor": None, "max_rows": None}) == {"query": SELECT}


def test_a_required_argument_is_missing_also_when_it_is_null() -> None:
    assert refusal(RETENTION, {"start_event": None}) == "start_event is missing"


def test_json_has_one_kind_of_number_so_a_whole_one_may_have_a_point() -> None:
    checked = check(QUERY, {"query": SELECT, "max_rows": 10.0})

    assert checked["max_rows"] == 10
    assert type(checked["max_rows"]) is int


@pytest.mark.parametrize(
    ("tool", "arguments", "meant"),
    [
        (QUERY, {"quer": SELECT}, "did you mean query?"),
        (QUERY, {"sql": SELECT}, "did you mean query?"),
        (QUERY, {"query": SELECT, "params": {}}, "did you mean values?"),
        (QUERY, {"query": SELECT, "limit": 5}, "did you mean max_rows?"),
        (TREND, {"events": ["a"], "interval": "day"}, "did you mean every?"),
        (TREND, {"events": ["a"], "breakdown": "x"}, "did you mean by?"),
        (FUNNEL, {"steps": [{"event": "a"}, {"event": "b", "filters": {}}]}, "did you mean steps[1].where?"),
        (SCHEMA, {"zzz": 1}, "there are object, event, property, search, detail, cursor"),
    ],
)
def test_an_unknown_argument_is_refused_with_the_nearest_one(tool: Any, arguments: Any, meant: str) -> None:
    message = refusal(tool, arguments)

    assert "there is no argument" in message
    assert meant in message


def test_an_argument_that_is_given_is_not_offered_for_another() -> None:
    assert "did you mean query" not in refusal(QUERY, {"query": SELECT, "quer": SELECT})


@pytest.mark.parametrize(
    ("tool", "arguments", "message"),
    [
        (TREND, {"events": ["a"], "every": "days"}, 'every cannot be "days", did you mean "day"?'),
        (TREND, {"events": ["a"], "measure": "zzzz"}, "it is one of events, users, sessions"),
        (TREND, {"events": []}, "events takes 1 to 5 items, not 0"),
        (TREND, {"events": "a"}, 'events must be a list, not text ("a")'),
        (TREND, {"events": [1]}, "events[0] must be text, not a whole number (1)"),
        (FUNNEL, {"steps": [{"event": "a"}, "b"]}, "steps[1] must be an object, not text"),
        (FUNNEL, {"steps": [{"event": "a"}, {}]}, "steps[1].event is missing"),
        (QUERY, {"query": SELECT, "max_rows": 0}, "max_rows is 1 to 1000, not 0"),
        (QUERY, {"query": SELECT, "max_rows": 10**400}, "not a number of many digits"),
        (QUERY, {"query": SELECT, "max_rows": True}, "max_rows must be a whole number, not true or false (true)"),
        (QUERY, {"query": SELECT, "max_rows": 1.5}, "max_rows must be a whole number, not a number (1.5)"),
        (QUERY, {"query": SELECT, "check_only": "yes"}, "check_only must be true or false"),
        (QUERY, {"query": " \n"}, "query is empty"),
        (QUERY, {"query": "x" * (MOST_TEXT + 1)}, f"query has {MOST_TEXT + 1} characters"),
        (QUERY, {"query": SELECT, "values": [1]}, "values must be an object"),
        (QUERY, {"query": SELECT, "values": '{"a": 1}'}, "values must be an object"),
        (QUERY, {"query": SELECT, "values": {"a": {"b": 1}}}, 'values."a" must be text, a number'),
        (QUERY, {"query": SELECT, "values": {"": 1}}, "a name in values must be text"),
        (QUERY, {"query": SELECT, "values": {"a": float("nan")}}, 'values."a" must be'),
        (QUERY, {"query": SELECT, "values": {"a": object()}}, 'values."a" must be'),
        (QUERY, [], "the arguments of posthog_query are an object, not a list"),
        (QUERY, None, "are an object, not null"),
        (QUERY, {1, 2}, "are an object, not something else"),
    ],
)
def test_what_does_not_fit_is_named(tool: Any, arguments: Any, message: str) -> None:
    assert message in refusal(tool, arguments)


def test_every_problem_is_named_at_once_up_to_a_handful() -> None:
    message = refusal(TREND, {"event": ["a"], "every": "d", "compare": 1})
    many = refusal(QUERY, {f"argument_{number}": 1 for number in range(40)})

    assert message.count(";") == 3
    assert many.endswith("; and 35 more")


def test_a_message_shows_no_more_than_a_piece_of_what_was_sent() -> None:
    message = refusal(TREND, {"events": ["a"], "every": "x\n" * 10_000})

    assert len(message) < 300
    assert "\n" not in message


def test_values_of_any_depth_are_refused_without_a_recursion_error() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]

    assert "must be text, a number" in refusal(QUERY, {"query": SELECT, "values": {"a": deep}})


# Lists of pairs, as the strict variant asks for them -----------------------------------------------------------------


def pairs(*given: Any) -> dict[str, Any]:
    return {"query": SELECT, "values": [{"name": name, "value": value} for name, value in given]}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5),
        ("true", True),
        ("null", None),
        ('["a", "b"]', ["a", "b"]),
        ('"5"', "5"),
        ("team", "team"),
        ("NaN", "NaN"),
        ("-Infinity", "-Infinity"),
        ("[" * 50_000, "[" * 50_000),
        ("", ""),
        (5, 5),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_a_map_may_come_as_pairs_whose_values_are_json_or_plain_text(text: Any, value: Any) -> None:
    assert check(QUERY, pairs(("x", text)))["values"] == {"x": value}


def test_pairs_within_steps_are_maps_too() -> None:
    steps = [{"event": "a"}, {"event": "b", "where": [{"name": "plan", "value": "team"}]}]

    assert check(FUNNEL, {"steps": steps})["steps"][1]["where"] == {"plan": "team"}


def test_a_name_given_twice_is_refused() -> None:
    assert 'values names "x" twice' in refusal(QUERY, pairs(("x", "1"), ("x", "2")))


def test_a_pair_that_holds_an_object_is_refused() -> None:
    assert "must be text, a number" in refusal(QUERY, pairs(("x", '{"a": 1}')))


# Nearest -------------------------------------------------------------------------------------------------------------


def test_the_nearest_choice_is_found_in_any_case() -> None:
    assert nearest("POSTHOG_QUERI", ["posthog_query", "posthog_trend"]) == "posthog_query"
    assert nearest("", ["posthog_query"]) is None


def test_a_refusal_is_a_validation_error() -> None:
    assert issubclass(ArgumentError, ValidationError)
