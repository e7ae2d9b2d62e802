"""The lexer sees the placeholders that PostHog's own parser sees, in whatever they are hidden."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from posthog_driver._placeholders import lex
from posthog_driver.local.parser import HogQLError, parse_select

NAMES = st.sampled_from(["a", "B2", "_c", "$d", "day", "from", "event"])
QUOTED = st.sampled_from(["`e f`", '"g"', "`h``i`", "`{j}`", '"k\'l"'])
GAPS = st.sampled_from(["", " ", "\n\t", "/* {no} ' */", "-- {no} '\n", "// {no}\n", "# `{no}\r\n", "/**/"])
INSIDE = st.lists(
    st.sampled_from(
        ["{no}", "{", "}", "it", " ", "''", "\\'", "\\\\", "--", "/*", "*/", "#", "//", '"', "`", "\n", "f"]
    ),
    max_size=6,
).map("".join)
NO_STRING = st.sampled_from(["{no}", "{", "}", "it", " ", "--", "/*", "#", '\\"', "''"])

STRINGS = INSIDE.map(lambda text: f"'{text}'")
NUMBERS = st.integers(0, 99).map(str)
COLUMNS = NAMES | QUOTED


def spaced(*parts: str | st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """The parts with anything between them that is nothing to the parser."""
    whole = [part for item in parts for part in (GAPS, st.just(item) if isinstance(item, str) else item)]
    return st.tuples(*whole, GAPS).map("".join)


CHAINS = st.lists(COLUMNS, min_size=1, max_size=3).flatmap(lambda names: spaced(*" . ".join(names).split(" ")))


def deeper(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    braces = st.lists(
        st.sampled_from(["it", "''", "\\'", "\\{no}", "\\\\", "}"]) | inner.map(lambda x: f"{{{x}}}"), max_size=3
    )
    return st.one_of(
        spaced("{", CHAINS, "}"),
        spaced("{", inner, "}"),
        spaced("[", inner, ",", inner, "]"),
        spaced(inner, "+", inner),
        spaced("concat", "(", inner, ",", inner, ")"),
        spaced("{", "'k'", ":", inner, ",", "'{no}'", ":", inner, "}"),
        braces.map(lambda parts: f"f'{''.join(parts)}'"),
    )


EXPRESSIONS = st.recursive(STRINGS | NUMBERS | CHAINS | spaced("{", CHAINS, "}"), deeper, max_leaves=5)
QUERIES = spaced(EXPRESSIONS, ",", EXPRESSIONS, "FROM events WHERE", EXPRESSIONS).map(lambda text: f"SELECT {text}")


def nodes(tree: Any) -> Iterator[dict[str, Any]]:
    if isinstance(tree, list):
        for item in tree:
            yield from nodes(item)
    elif isinstance(tree, dict):
        yield tree
        yield from nodes(list(tree.values()))


def seen_by_posthog(text: str) -> tuple[set[str], set[str]]:
    """Names of the placeholders, and all names within the ones that hold an expression."""
    certain, within = set(), set()
    for node in nodes(parse_select(text)):
        inner = node.get("expr") or {}
        if node.get("node") == "Placeholder" and inner.get("node") == "Field":
            certain.add(inner["chain"][0])
        elif node.get("node") == "Placeholder":
            within |= {field["chain"][0] for field in nodes(inner) if field.get("node") == "Field"}
    return certain, within


@settings(max_examples=100)
@given(QUERIES)
@example("SELECT f'it''s {{a}}', {b}")
@example("SELECT {`e f`}, { /* } */ a }")
@example("SELECT {f'{a}'}")
def test_the_lexer_and_posthogs_parser_see_the_same_placeholders(text: str) -> None:
    try:
        certain, _ = seen_by_posthog(text)
    except HogQLError:
        assume(False)
    lexed = lex(text)
    assert lexed.placeholders <= certain <= lexed.placeholders | lexed.optional
    # The parser takes {f'{a}'} for {a}.
    assert lexed.placeholders == certain or "f'" in text


@settings(max_examples=50)
@given(EXPRESSIONS.map(lambda text: f"SELECT {{upper({text})}}"))
def test_no_name_that_an_expression_in_braces_needs_counts_as_left_over(text: str) -> None:
    try:
        certain, within = seen_by_posthog(text)
    except HogQLError:
        assume(False)
    lexed = lex(text)
    assert lexed.placeholders <= certain
    assert certain | within <= lexed.placeholders | lexed.optional


@given(st.text(st.sampled_from("'\"`{}\\/*#-\n\rf a.$é0"), max_size=60))
def test_no_text_breaks_the_lexer(text: str) -> None:
    lexed = lex(text)
    assert all(isinstance(name, str) for name in lexed.placeholders | lexed.optional)
    assert "".join(lexed.words).isascii()
