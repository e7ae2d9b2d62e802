"""What is too much for a parser, and what is not."""

from __future__ import annotations

import pytest

from posthog_driver.local import parser
from posthog_driver.local.guard import MAX_LENGTH, find_fault

CPP, RUST = "hogql_parser", "hogql_parser_rs"


def nested(pattern: str, depth: int, inner: str = "event") -> str:
    before, after = pattern.split("_")
    return before * depth + inner + after * depth


def joined(count: int, condition: str = "") -> str:
    return "SELECT 1 FROM e a" + "".join(f" JOIN e a{n}{condition}" for n in range(count))


KILLERS = {
    "calls": ("SELECT " + nested("lower(_)", 9), "it is too deeply nested"),
    "calls behind comments": ("SELECT " + nested("lower/**/(_)", 10), "it is too deeply nested"),
    "calls of quoted names": ("SELECT " + nested('"lower" (_)', 10), "it is too deeply nested"),
    "calls in a template": ("SELECT f'a\\'{" + nested("lower(_)", 9) + "}'", "it is too deeply nested"),
    "calls of casts": ("SELECT " + nested("cast(_ as Int)", 9), "it is too deeply nested"),
    "brackets": ("SELECT " + nested("(_)", 28), "it is too deeply nested"),
    "scalar sub-selects": ("SELECT " + nested("(SELECT _)", 20), "it is too deeply nested"),
    "cases": ("SELECT " + nested("CASE WHEN 1 THEN _ END", 100), "it is too deeply nested"),
    "nots": ("SELECT " + "not " * 300 + "1", "it has too many NOTs in a row"),
    "nots with brackets": ("SELECT " + nested("not (_)", 25), "it is too deeply nested"),
    "parts of a field": ("SELECT a" + ".a" * 300, "its fields have too many parts"),
    "parts of a tuple": ("SELECT (1)" + ".1" * 10_000, "its fields have too many parts"),
    "long fields": ("SELECT " + ", ".join(["a" + ".a" * 49] * 100), "its fields have too many parts"),
    "operators": ("SELECT 1" + "+1" * 1_000, "it has too many operators"),
    "indexes": ("SELECT a" + "[1]" * 10_000, "it has too many operators"),
    "casts": ("SELECT a" + "::Int" * 5_000, "it has too many operators"),
    "tags": ("SELECT " + nested("<a>_</a>", 2_000, ""), "it has too many operators"),
    "lambdas": ("SELECT " + "x -> " * 684 + "1", "it has too many lambdas"),
    "intervals": ("SELECT " + "INTERVAL " * 2_381 + "1" + " DAY" * 2_381, "it has too many intervals"),
    "joins": (joined(200), "it has too many joins"),
    "columns": ("SELECT " + ", ".join(["a"] * 20_000), "it has too many names"),
    "numbers": ("SELECT (((1 IN (" + ", ".join(["1"] * 20_000) + "))))", "it is too long"),
}
KILLERS_OF_BOTH = ("operators", "indexes", "casts", "tags", "joins", "columns")


@pytest.mark.parametrize("name", KILLERS)
def test_what_keeps_the_cpp_parser_busy_is_refused_by_name(name: str) -> None:
    text, reason = KILLERS[name]

    fault = find_fault(text, CPP)

    assert fault is not None
    assert fault.message == f"Query is too complex to be parsed: {reason}"
    assert fault.start is not None
    assert fault.end is not None
    assert 0 < fault.start < fault.end <= len(text)


@pytest.mark.parametrize("name", KILLERS_OF_BOTH)
def test_what_keeps_even_the_rust_parser_busy_is_refused_by_name(name: str) -> None:
    text, reason = KILLERS[name]

    fault = find_fault(text, RUST)

    assert fault is not None
    assert fault.message == f"Query is too complex to be parsed: {reason}"


def test_columns_with_aliases_are_too_many_at_some_point() -> None:
    fault = find_fault("SELECT a" + " AS a" * 3_000, RUST)

    assert fault is not None
    assert fault.message.endswith("it has too many aliases")


@pytest.mark.parametrize("library", [CPP, RUST])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("select '" + "x" * MAX_LENGTH + "'", "Query is too long: 65545 characters, at most 65536 are accepted"),
        ("select " + "[" * 101 + "]" * 101, "Query is too deeply nested"),
        ("select " + "case when 1 then " * 101, "Query is too deeply nested"),
    ],
)
def test_no_parser_gets_what_is_too_long_or_too_deep(library: str, text: str, message: str) -> None:
    fault = find_fault(text, library)

    assert fault is not None
    assert fault.message.startswith("Query is too")
    assert library == CPP or fault.message == message


LEGITIMATE = {
    "200 columns": "SELECT " + ", ".join(["a.b.c"] * 200) + " FROM events",
    "100 ratios": "SELECT " + ", ".join(["round(countIf(a = 1) / count(), 2) AS x"] * 100) + " FROM events",
    "AND and OR": "SELECT 1 FROM e WHERE " + nested("(a = 1 AND (b = 2 OR _))", 5, "(c = 3)"),
    "5,000 floats": "SELECT 1 FROM e WHERE (a IN (" + ", ".join(["1.5"] * 5_000) + "))",
    "5,000 texts": "SELECT 1 FROM e WHERE (a IN (" + ", ".join(["'abcdef'"] * 5_000) + "))",
    "cases": "SELECT sum(" + nested("CASE WHEN a = 1 THEN 2 ELSE _ END", 5) + ") FROM events",
    "wide case": "SELECT CASE " + "WHEN a = 1 THEN 'x' " * 100 + "ELSE properties.end END FROM events",
    "sub-selects": nested("SELECT event FROM (_)", 5, "SELECT event FROM events"),
    "IN sub-selects": "SELECT 1 FROM e WHERE " + nested("a IN (SELECT a FROM e WHERE _)", 5, "lower(trim(b)) = 'c'"),
    "scalar sub-selects": "SELECT " + nested("(SELECT _)", 5),
    "calls": "SELECT " + nested("lower(_)", 7),
    "joins": joined(30, " ON a.x = b.x"),
    "unions": " UNION ALL ".join(["SELECT count() FROM events"] * 100),
    "CTEs": "WITH " + ", ".join(f"a{n} AS (SELECT count() AS c FROM events)" for n in range(50)) + " SELECT 1",
    "nots": "SELECT 1 FROM e WHERE " + " AND ".join(["not a not in (1)"] * 50),
    "template": "SELECT f'it is {event}, {concat('a', f'{event}')} and {lower('b')}' FROM events",
    "lambdas": "SELECT " + ", ".join(["arrayMap(x -> x + 1, a)"] * 30) + " FROM events",
    "dates": "SELECT 1 FROM events WHERE " + " OR ".join(["timestamp > now() - INTERVAL 1 DAY"] * 50),
}


@pytest.mark.parametrize("library", [CPP, RUST])
@pytest.mark.parametrize("text", LEGITIMATE.values(), ids=LEGITIMATE.keys())
def test_what_people_write_is_accepted(text: str, library: str) -> None:
    assert find_fault(text, library) is None


@pytest.mark.parametrize("name", ["AND and OR", "cases", "sub-selects", "IN sub-selects", "template", "unions"])
def test_what_people_write_is_indeed_a_query(name: str) -> None:
    assert parser.parse_select(LEGITIMATE[name])["node"] in ("SelectQuery", "SelectSetQuery")


def test_brackets_and_operators_in_texts_names_and_comments_do_not_count() -> None:
    noise = "(" * 200 + "+" * 2000
    template = "(" * 200 + "}" * 2000
    text = f"select '{noise}', '\\'{noise}' as `{noise}` -- {noise}\n"
    text += f", f'{template}', 1 /* {noise} */ as \"b{noise}\" # {noise}\n from events"

    assert find_fault(text, CPP) is None


@pytest.mark.parametrize(
    "text", ["", ")", "end", "SELECT 'unclosed", "f'", "f'{", "f'{'", "`", '"', "a END )", "(case)"]
)
def test_what_is_no_query_is_left_to_the_parser(text: str) -> None:
    assert find_fault(text, CPP) is None
