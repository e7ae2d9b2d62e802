"""Which placeholders a text has, and that each has a value and each value one."""

from __future__ import annotations

from typing import Any

import pytest

from posthog_driver._placeholders import check_values, lex
from posthog_driver.exceptions import ValidationError


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("SELECT {a}, { b }, {\n_c1\t}, {$d}", {"a", "b", "_c1", "$d"}),
        ("SELECT {A}, {a}", {"A", "a"}),
        ("SELECT {a.b.c}, { d . e }", {"a", "d"}),
        ("SELECT {`a b`}, {`c``d`.e}", {"a b", "c`d"}),
        ('SELECT {"a b"}', {"a b"}),
        ("SELECT {a /* {no} */}, {-- {no}\nb}, {c // {no}\r}", {"a", "b", "c"}),
        ("SELECT {'k': {a}, 'l': {}}", {"a"}),
        ("SELECT {{a}}", {"a"}),
        ("SELECT {f'{ {a} }'}", {"a"}),
        ("SELECT {from}, {date}", {"from", "date"}),
        ("SELECT a{b}c {d}{e}", {"b", "d", "e"}),
        ("SELECT '{no}', 'it''s {no}', 'it\\'s {no}', '\\\\', {a}", {"a"}),
        ('SELECT `{no}`, `a``{no}`, "{no}", "a""{no}", {a}', {"a"}),
        ("SELECT 1 -- {no}\n, {a} -- {no}", {"a"}),
        ("SELECT 1 -- {no}\r, {a} # {no}\r\n, {b} // {no}\n /* {no} \n {no} */, {c}", {"a", "b", "c"}),
        ("SELECT f'{no} it''s \\{no} {{a}} {'}'}', {b}", {"a", "b"}),
        ("SELECT f'{f'{ {a} } {no}'} {no}', {b}", {"a", "b"}),
        ("SELECT f'{upper({'k': no}.k)} {no}', {a}", {"a"}),
        ("SELECT conf, f, {a}", {"a"}),
        ("SELECT {'k': no}, {k: no}, {}, {1}, {a.}}", {"a"}),
        ("SELECT }{a}", {"a"}),
        ("", set()),
    ],
)
def test_placeholders_are_names_in_braces_of_code(text: str, names: set[str]) -> None:
    assert lex(text).placeholders == names


@pytest.mark.parametrize("broken", ["'", "'\\", "`", '"', "/*", "f'", "f'\\", "f'{", "{"])
def test_what_is_not_closed_goes_on_to_the_end(broken: str) -> None:
    assert lex(f"{{a}} {broken}{{b").placeholders == {"a"}
    assert lex(f"{{a}} {broken}").placeholders == {"a"}


def test_an_expression_in_braces_may_need_a_value_for_its_names() -> None:
    lexed = lex("SELECT {upper(a) + b.c}, {`d e`[1]}, {'k': v, 'l': {w}}, {f'{x}'}")
    assert lexed.optional == {"upper", "a", "b", "c", "d e", "v", "x"}
    assert lexed.placeholders == {"w"}


def test_what_posthog_fills_itself_needs_no_value() -> None:
    lexed = lex("SELECT {filters}, {filters.dateRange.from}, {`variables`.x}")
    assert lexed.placeholders == set()
    assert lexed.served == {"filters", "variables"}
    assert lex("SELECT {variables}").placeholders == {"variables"}


def test_words_are_those_of_code_in_lower_case() -> None:
    text = "SELECT a.b1, 'no', `no`, f'no {Yes} no' -- no\nFROM $t LIMIT 10"
    assert lex(text).words == ("select", "a", "b1", "yes", "from", "$t", "limit")


@pytest.mark.parametrize(
    "text",
    ["'\\" * 20_000, "`\\" * 20_000, "'" * 40_001, "{" * 40_000, "{a" * 20_000 + "}" * 20_000, "/*" * 20_000, "{a."],
    ids=["string", "name", "quotes", "braces", "closed braces", "comments", "open chain"],
)
def test_hostile_text_takes_linear_time(text: str) -> None:
    # Quadratic time would be half a minute here, and the suite's own limit would end it.
    assert lex(text).placeholders <= {"a"}


def test_templates_nested_out_of_reason_are_refused() -> None:
    with pytest.raises(ValidationError, match="nested too deeply"):
        lex("f'{" * 5_000)


class TestCheckValues:
    @pytest.mark.parametrize(
        ("text", "values"),
        [
            ("SELECT 1", None),
            ("SELECT 1", {}),
            ("SELECT {a}, {b.c}, {a}", {"a": 1, "b": {"c": 2}}),
            ("SELECT {a}", {"a": None}),
            ("SELECT {a + 1}", {"a": 1}),
            ("SELECT {a + 1}", None),
            ("SELECT '{a}' WHERE {filters}", None),
        ],
    )
    def test_what_fits_passes(self, text: str, values: dict[str, Any] | None) -> None:
        assert check_values(text, values) == lex(text)

    def test_all_that_is_missing_and_all_that_is_left_over_is_named(self) -> None:
        with pytest.raises(ValidationError) as caught:
            check_values("SELECT {b}, {a}, {c}, '{d}'", {"c": 1, "d": "a secret", 5: 2})  # type: ignore[dict-item]
        assert str(caught.value).startswith("no value for {a}, {b}; no placeholder in the query for the value 'd', 5. ")
        assert "Nothing was sent" in str(caught.value)
        assert "secret" not in str(caught.value)

    @pytest.mark.parametrize("name", ["filters", "variables"])
    def test_what_posthog_fills_is_nothing_to_bind(self, name: str) -> None:
        with pytest.raises(ValidationError, match=f"no placeholder in the query for the value '{name}'"):
            check_values(f"SELECT {{{name}.x}}", {name: 1})

    @pytest.mark.parametrize("values", [["a"], "a", ("a",), {"a"}, 5, [["a"]]])
    def test_values_that_are_no_mapping_are_refused(self, values: Any) -> None:
        with pytest.raises(ValidationError, match="values must map names to values"):
            check_values("SELECT {a}", values)
