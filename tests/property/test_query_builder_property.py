"""Whatever goes into the builder, PostHog's own parser reads exactly that back, and nothing else."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from posthog_driver import query_builder
from posthog_driver.exceptions import ValidationError
from posthog_driver.local.parser import parse_expression, parse_select
from posthog_driver.query_builder import (
    QueryBuilder,
    escape_like,
    escape_literal,
    quote_identifier,
    quote_path,
)

TROUBLE = st.sampled_from(
    [
        *(
            "'",
            "''",
            "\\",
            "\\'",
            "\\\\'",
            "`",
            "``",
            "\\`",
            '"',
            "--",
            "/*",
            "*/",
            "//",
            "#",
            ";",
            "{",
            "}",
            "{x}",
            "$$",
            "%",
        ),
        *(
            "\n",
            "\r",
            "\t",
            "\b",
            "\f",
            "\v",
            "\a",
            "\x1b",
            "\x7f",
            "\x85",
            "\u2028",
            "\ufeff",
            "é",
            "\u0663",
            "\U0001f600",
        ),
        *(
            "\\0",
            "\\x41",
            "\\q",
            " OR 1 = 1 ",
            " UNION ALL SELECT 1 ",
            ")",
            "(",
            ",",
            ".",
            "*",
            "[",
            "]",
            "null",
            "from",
            "a",
        ),
        *("0", " "),
    ]
)
CLEAN = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
TEXT = st.lists(TROUBLE | CLEAN, max_size=8).map("".join)
ANY_TEXT = TEXT | st.text(max_size=20) | st.sampled_from(["", "*", "\0", "\ud800", "NULL", "true", "team_id", "from"])

WHOLE = st.integers(-(2**63), 2**64 - 1)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
OFFSETS = st.timedeltas(timedelta(hours=-23), timedelta(hours=23))
NAIVE = st.datetimes(datetime(1901, 1, 1), datetime(2298, 12, 31))
MOMENTS = NAIVE | st.builds(lambda moment, offset: moment.replace(tzinfo=timezone(offset)), NAIVE, OFFSETS)
DAYS = st.dates(date(1970, 1, 1), date(2149, 6, 6))
SCALARS = st.none() | st.booleans() | WHOLE | FLOATS | TEXT | MOMENTS | DAYS | st.uuids()


def shape(node: Any) -> Any:
    """A tree without positions and without keys that say nothing: what two parsers agree on."""
    if isinstance(node, list):
        return [shape(item) for item in node]
    if not isinstance(node, dict):
        return node
    if node.get("node") == "Constant":
        value = node.get("value")
        return ("constant", type(read(value, node)).__name__, repr(read(value, node)))
    return {
        key: shape(value)
        for key, value in node.items()
        if key not in ("start", "end") and value not in (None, False, [])
    }


def read(value: Any, node: dict[str, Any]) -> Any:
    return int(value) if node.get("value_type") == "number" else value


def constant(value: object) -> Any:
    return ("constant", type(value).__name__, repr(value))


def call(name: str, *args: Any) -> Any:
    return {"node": "Call", "name": name} | ({"args": list(args)} if args else {})


def field(*chain: str) -> Any:
    return {"node": "Field", "chain": list(chain)}


def expected(value: object) -> Any:
    """The tree that a value must give."""
    if isinstance(value, datetime):
        aware = value if value.tzinfo else value.replace(tzinfo=timezone.utc)
        text = aware.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return call("toDateTime", constant(text))
    if isinstance(value, date):
        return call("toDate", constant(value.isoformat()))
    if value is None or isinstance(value, (bool, int, float, str)):
        return constant(value)
    return call("toUUID", constant(str(value)))


def query(where: Any = None, **parts: Any) -> Any:
    """The tree of ``SELECT a FROM events`` with other parts in it."""
    tree: dict[str, Any] = {"node": "SelectQuery", "select": [field("a")]}
    tree["select_from"] = {"node": "JoinExpr", "table": field("events")}
    return tree | ({"where": where} if where is not None else {}) | parts


def compared(operator: str, left: Any, right: Any) -> Any:
    return {"node": "CompareOperation", "op": operator, "left": left, "right": right}


def base() -> QueryBuilder:
    return QueryBuilder().select("a").from_("events")


def unbound(text: str, values: dict[str, Any]) -> Any:
    """The tree of a bound query with its values put in as the server does it: constants for placeholders."""

    def put(node: Any) -> Any:
        if isinstance(node, list):
            return [put(item) for item in node]
        if isinstance(node, dict) and node.get("node") == "Placeholder":
            return constant(values[node["expr"]["chain"][0]])
        return {key: put(value) for key, value in node.items()} if isinstance(node, dict) else node

    return put(shape(parse_select(text)))


@given(TEXT)
@example("\\' OR 1=1 --")
def test_any_text_reads_back_as_itself(text: str) -> None:
    assert shape(parse_expression(escape_literal(text))) == constant(text)


@given(WHOLE | FLOATS)
@example(2**64 - 1)
@example(-(2**63))
@example(-0.0)
@example(5e-324)
@example(1.7976931348623157e308)
def test_any_number_reads_back_as_itself(number: float) -> None:
    assert shape(parse_expression(escape_literal(number))) == constant(number)


@given(st.decimals(allow_nan=None))
def test_a_decimal_reads_back_exactly_or_is_refused(number: Decimal) -> None:
    try:
        text = escape_literal(number)
    except ValidationError:
        assume(number.is_finite())
        assert abs(number) >= 2**63 or Decimal(repr(float(number))) != number
    else:
        assert number == Decimal(text)


@given(SCALARS)
def test_a_value_in_a_query_is_one_constant_and_nothing_else_changes(value: object) -> None:
    builder = base().where("a", ">", 1).where("b.c", "IN", [value, 2]).where("d", "=", 3)
    members = {"node": "Tuple", "exprs": [expected(value), constant(2)]}
    where = [
        compared(">", field("a"), constant(1)),
        compared("in", field("b", "c"), members),
        compared("==", field("d"), constant(3)),
    ]
    wanted = query({"node": "And", "exprs": where})
    assert shape(parse_select(builder.build())) == wanted
    assert unbound(*builder.build_bound()) == wanted


@given(SCALARS.filter(lambda value: value is not None), st.sampled_from(["=", "!=", "<", ">", "<=", ">="]))
def test_each_comparison_is_itself(value: object, operator: str) -> None:
    builder = base().having("count()", operator, value)
    wanted = query(having=compared({"=": "=="}.get(operator, operator), call("count"), expected(value)))
    assert shape(parse_select(builder.build())) == wanted
    assert unbound(*builder.build_bound()) == wanted


@given(TEXT, st.sampled_from(["LIKE", "NOT LIKE", "ILIKE", "NOT ILIKE"]))
def test_each_pattern_is_itself(pattern: str, operator: str) -> None:
    builder = base().where("a", operator, pattern)
    wanted = query(compared(operator.lower(), field("a"), constant(pattern)))
    assert shape(parse_select(builder.build())) == wanted
    assert unbound(*builder.build_bound()) == wanted


@given(st.tuples(DAYS, DAYS) | st.tuples(WHOLE, WHOLE) | st.tuples(TEXT, TEXT))
def test_a_range_ends_where_it_should(pair: tuple[Any, Any]) -> None:
    low, high = pair
    builder = base().where("a", "BETWEEN", pair).where("b", "=", 1)
    between = {"node": "BetweenExpr", "expr": field("a"), "low": expected(low), "high": expected(high)}
    wanted = query({"node": "And", "exprs": [between, compared("==", field("b"), constant(1))]})
    assert shape(parse_select(builder.build())) == wanted
    assert unbound(*builder.build_bound()) == wanted


@given(TEXT, TEXT)
def test_bound_text_does_not_depend_on_the_values(one: str, other: str) -> None:
    texts = [base().where("a", "=", value).where("b", "LIKE", value).build_bound()[0] for value in (one, other)]
    assert texts[0] == texts[1]


@given(ANY_TEXT)
def test_a_name_is_exact_in_every_place_or_refused(name: str) -> None:
    forbidden = name in ("", "*") or "%" in name or "\0" in name or not _encodes(name)
    try:
        quoted = quote_identifier(name)
    except ValidationError:
        assert forbidden
        return
    assert not forbidden
    path = quote_path("properties", name)
    builder = (
        QueryBuilder().select(path, quoted).from_(quoted).where(path, "=", 1).group_by(quoted).order_by(path, "DESC")
    )
    tree = shape(parse_select(builder.build()))
    key = field("properties", name)
    assert tree["select"] == [key, field(name)]
    assert tree["select_from"]["table"] == field(name)
    assert tree["where"] == compared("==", key, constant(1))
    assert tree["group_by"] == [field(name)]
    assert tree["order_by"] == [{"node": "OrderExpr", "expr": key, "order": "DESC"}]


@given(ANY_TEXT)
def test_an_alias_is_exact_or_refused(name: str) -> None:
    try:
        text = QueryBuilder().select(("count()", name)).from_("events").build()
    except ValidationError:
        assume(_encodes(name) and not set(name) & set("\0%") and name not in ("", "*"))
        assert name.lower() in ("true", "false", "null", "team_id")
    else:
        assert shape(parse_select(text))["select"] == [{"node": "Alias", "alias": name, "expr": call("count")}]


PIECES = st.sampled_from(
    [
        *("a", "b", "count", "uniq", "toDate", "sleep", "distinct", "AS", "null", "select", "`q r`", "'text'", "''"),
        *("1", "-2.5", "(", ")", "()", ",", ".", "*", "[", "]", "=", "<=", " ", "  ", "+", "-", "--", "/*", ";", "{"),
        *("`", "'", '"', "\\", "%"),
    ]
)
EXPRESSION = st.lists(PIECES, max_size=10).map("".join) | ANY_TEXT
ALLOWED = {"SelectQuery", "JoinExpr", "Field", "Call", "Alias", "CompareOperation", "OrderExpr"}


@settings(max_examples=200)
@given(EXPRESSION, st.sampled_from(["select", "from_", "group_by", "order_by", "where"]))
@example("count(distinct a, `b`) AS n", "select")
@example("countIf(a.b['c'] = 'd')", "group_by")
@example("a; DROP TABLE events", "select")
def test_any_text_as_a_field_is_refused_or_only_fields_and_known_functions(text: str, clause: str) -> None:
    more = ("=", 1) if clause == "where" else ()
    builder = QueryBuilder() if clause == "select" else QueryBuilder().select("a")
    try:
        getattr(builder if clause == "from_" else builder.from_("events"), clause)(text, *more)
    except ValidationError:
        return
    tree = shape(parse_select(builder.build()))
    assert set(tree) <= {"node", "select", "select_from", clause}
    assert all(len(tree[name]) == 1 for name in ("select", "group_by", "order_by") if name in tree)
    for node in _nodes(tree):
        assert node["node"] in ALLOWED
        assert node["node"] != "Call" or node["name"] in query_builder._FUNCTIONS


@given(ANY_TEXT | st.integers() | st.floats() | st.none())
@example(">=")
@example("desc")
@example(10)
def test_any_operator_direction_or_limit_is_a_known_one_or_refused(part: Any) -> None:
    known = [f"WHERE a {operator} 1" for operator in ("=", "!=", "<", ">", "<=", ">=")]
    known += ["ORDER BY a ASC", "ORDER BY a DESC", f"LIMIT {part}"]
    attempts: list[Callable[[], QueryBuilder]] = [
        lambda: base().where("a", part, 1),
        lambda: base().order_by("a", part),
        lambda: base().limit(part),
    ]
    for attempt in attempts:
        try:
            text = attempt().build()
        except ValidationError:
            continue
        assert text.removeprefix("SELECT a FROM events ") in known


@given(TEXT, TEXT)
def test_an_escaped_pattern_matches_its_own_text_only(text: str, other: str) -> None:
    pattern = escape_like(text)
    assert like(text, pattern)
    assert like(other, pattern) == (other == text)
    assert like(other + text + other, f"%{pattern}%")


@given(st.floats() | st.integers() | st.text(max_size=5) | st.binary(max_size=5) | st.dates() | st.datetimes())
def test_no_value_ends_in_another_error(value: object) -> None:
    try:
        assert escape_literal(value)
    except ValidationError:
        assert not isinstance(value, float) or not math.isfinite(value)


def like(text: str, pattern: str) -> bool:
    """LIKE, as ClickHouse defines it, for patterns whose only wildcards are ``%`` at the ends."""
    inner = pattern
    opened = inner.startswith("%")
    closed = opened and inner.endswith("%")
    if closed:
        inner = inner[1:-1]
    plain, escaped = "", False
    for character in inner:
        assert escaped or character not in "%_"
        escaped = character == "\\" and not escaped
        plain += "" if escaped else character
    return plain in text if closed else plain == text


def _encodes(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _nodes(tree: Any) -> list[dict[str, Any]]:
    if isinstance(tree, list):
        return [node for item in tree for node in _nodes(item)]
    if not isinstance(tree, dict):
        return []
    return ([tree] if "node" in tree else []) + [node for value in tree.values() for node in _nodes(value)]
