"""The query builder: what it writes, word by word, and what it refuses before anything is sent."""

from __future__ import annotations

import enum
import math
import subprocess
import sys
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from typing import Any
from uuid import UUID

import pytest

from posthog_driver import query_builder
from posthog_driver.exceptions import ValidationError
from posthog_driver.query_builder import (
    MAX_LIMIT,
    QueryBuilder,
    escape_like,
    escape_literal,
    quote_identifier,
    quote_path,
)

EAST = timezone(timedelta(hours=5, minutes=30))


def events(*columns: str | tuple[str, str]) -> QueryBuilder:
    return QueryBuilder().select(*columns or ("event",)).from_("events")


def condition(field: str, operator: str, *value: Any) -> str:
    return events().where(field, operator, *value).build().removeprefix("SELECT event FROM events WHERE ")


class Lying(str):
    """Text whose every rendering is an attack."""

    def __str__(self) -> str:
        return "' OR 1 = 1 --"

    __repr__ = __format__ = __str__  # type: ignore[assignment]

    def translate(self, table: Any) -> str:
        return "' OR 1 = 1 --"


class LyingInt(int):
    def __str__(self) -> str:
        return "1 OR 1 = 1"

    __repr__ = __str__


class LyingFloat(float):
    def __str__(self) -> str:
        return "1 OR 1 = 1"

    __repr__ = __str__


class Level(enum.IntEnum):
    HIGH = 3


class Fine(datetime):
    nanosecond = 5


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("no")


class TestBuild:
    def test_every_clause_stands_in_its_place_whatever_the_order_of_calls(self) -> None:
        query = (
            QueryBuilder()
            .limit(10)
            .order_by("views", "desc")
            .having("count()", ">", 5)
            .group_by("browser")
            .where("event", "=", "$pageview")
            .where("timestamp", ">=", date(2024, 1, 1))
            .from_("events")
            .select("properties.$browser AS browser", "count() as views")
        )
        assert query.build() == (
            "SELECT properties.$browser AS browser, count() AS views FROM events"
            " WHERE event = '$pageview' AND timestamp >= toDate('2024-01-01')"
            " GROUP BY browser HAVING count() > 5 ORDER BY views DESC LIMIT 10"
        )
        text, values = query.build_bound()
        assert text == (
            "SELECT properties.$browser AS browser, count() AS views FROM events"
            " WHERE event = {p0} AND timestamp >= toDate({p1})"
            " GROUP BY browser HAVING count() > {p2} ORDER BY views DESC LIMIT 10"
        )
        assert values == {"p0": "$pageview", "p1": "2024-01-01", "p2": 5}

    def test_calls_add_up_and_the_last_table_and_limit_win(self) -> None:
        query = events("a").select("b").group_by("a").group_by("b").order_by("a").order_by("b", "DESC")
        query.limit(1).limit(0).from_("persons")
        assert query.build() == "SELECT a, b FROM persons GROUP BY a, b ORDER BY a ASC, b DESC LIMIT 0"

    def test_building_changes_nothing_and_can_be_repeated(self) -> None:
        query = events().where("a", "=", 1)
        first = (query.build(), query.build_bound())
        assert (query.build(), query.build_bound()) == first
        assert query.where("b", "=", 2).build() == "SELECT event FROM events WHERE a = 1 AND b = 2"

    def test_later_changes_of_a_list_do_not_reach_the_query(self) -> None:
        names = ["a"]
        query = events().where("event", "IN", names)
        names.append("b")
        assert query.build_bound()[1] == {"p0": "a"}

    def test_a_refused_call_leaves_the_builder_as_it_was(self) -> None:
        query = events()
        with pytest.raises(ValidationError):
            query.select("a", "b;")
        assert query.build() == "SELECT event FROM events"

    @pytest.mark.parametrize(
        ("query", "missing"),
        [(QueryBuilder().from_("events"), "select"), (QueryBuilder().select("a"), "from_")],
    )
    def test_columns_and_table_are_required(self, query: QueryBuilder, missing: str) -> None:
        with pytest.raises(ValueError, match=missing):
            query.build()
        with pytest.raises(ValidationError, match=missing):
            query.build_bound()

    @pytest.mark.parametrize("method", ["select", "group_by"])
    def test_a_clause_without_anything_is_refused(self, method: str) -> None:
        with pytest.raises(ValidationError, match="at least one"):
            getattr(QueryBuilder(), method)()


class TestConditions:
    @pytest.mark.parametrize("operator", ["=", "!=", ">", "<", ">=", "<="])
    def test_comparisons(self, operator: str) -> None:
        assert condition("a", operator, 1) == f"a {operator} 1"

    @pytest.mark.parametrize("operator", ["LIKE", "NOT LIKE", "ILIKE", "NOT ILIKE"])
    def test_patterns(self, operator: str) -> None:
        assert condition("a", operator.lower(), r"50\%%") == rf"a {operator} '50\\%%'"

    @pytest.mark.parametrize(
        ("operator", "value", "expected"),
        [
            ("IN", ["x", "y"], "a IN ('x', 'y')"),
            ("not  in", ("x",), "a NOT IN ('x')"),
            ("IN", {3, 1, 2}, "a IN (1, 2, 3)"),
            ("IN", frozenset({"b", "a"}), "a IN ('a', 'b')"),
            ("IN", [None, 1], "a IN (NULL, 1)"),
            ("IN", [], "false"),
            ("NOT IN", set(), "true"),
            ("BETWEEN", (1, 2), "a BETWEEN 1 AND 2"),
            (
                "between",
                [date(2024, 1, 1), date(2024, 2, 1)],
                "a BETWEEN toDate('2024-01-01') AND toDate('2024-02-01')",
            ),
            ("=", None, "a IS NULL"),
            ("!=", None, "a IS NOT NULL"),
            ("is null", None, "a IS NULL"),
        ],
    )
    def test_lists_ranges_and_null(self, operator: str, value: object, expected: str) -> None:
        assert condition("a", operator, value) == expected

    @pytest.mark.parametrize("operator", ["IS NULL", "IS NOT NULL"])
    def test_null_tests_need_no_value(self, operator: str) -> None:
        assert condition("a", operator) == f"a {operator}"

    def test_bound_lists_have_a_name_for_each_value_and_null_needs_none(self) -> None:
        query = events().where("a", "IN", ["x", None, 2]).where("b", "BETWEEN", (3, 4)).where("c", "IN", [])
        assert query.build_bound() == (
            "SELECT event FROM events WHERE a IN ({p0}, NULL, {p1}) AND b BETWEEN {p2} AND {p3} AND false",
            {"p0": "x", "p1": 2, "p2": 3, "p3": 4},
        )

    @pytest.mark.parametrize(
        ("operator", "value"),
        [
            ("IN", "abc"),
            ("IN", 1),
            ("IN", None),
            ("IN", iter([1])),
            ("IN", [[1]]),
            ("=", [1]),
            (">", None),
            ("LIKE", None),
            ("LIKE", 1),
            ("ILIKE", b"x"),
            ("BETWEEN", 1),
            ("BETWEEN", (1,)),
            ("BETWEEN", (1, 2, 3)),
            ("BETWEEN", (None, 2)),
            ("BETWEEN", "ab"),
            ("IS NULL", 1),
            ("IS NOT NULL", "x"),
        ],
    )
    def test_a_value_that_does_not_fit_its_operator_is_refused(self, operator: str, value: object) -> None:
        with pytest.raises(ValidationError):
            condition("a", operator, value)

    @pytest.mark.parametrize("operator", ["=", "IN", "LIKE", "BETWEEN"])
    def test_a_forgotten_value_is_refused(self, operator: str) -> None:
        with pytest.raises(ValidationError, match="needs a value"):
            condition("a", operator)

    @pytest.mark.parametrize(
        "operator", ["", "==", "<>", "= 1 OR 1 =", "L\u0130KE", "l\u0131ke", "REGEXP", "IN COHORT", "=;", None, 1, b"="]
    )
    def test_an_unknown_operator_is_refused_with_the_known_ones(self, operator: Any) -> None:
        with pytest.raises(ValidationError, match="NOT ILIKE"):
            condition("a", operator, 1)


class TestOrderAndLimit:
    @pytest.mark.parametrize("direction", ["ASC", "asc", "Desc", " DESC "])
    def test_directions_in_any_case(self, direction: str) -> None:
        assert events().order_by("a", direction).build().endswith(f"ORDER BY a {direction.strip().upper()}")

    @pytest.mark.parametrize("direction", ["", "up", "ASC NULLS FIRST", "DESC; DROP", None, True])
    def test_other_directions_are_refused(self, direction: Any) -> None:
        with pytest.raises(ValidationError, match="ASC, DESC"):
            events().order_by("a", direction)

    @pytest.mark.parametrize(("n", "shown"), [(0, "0"), (MAX_LIMIT, "50000"), (Level.HIGH, "3"), (LyingInt(7), "7")])
    def test_limits_are_printed_by_their_value(self, n: int, shown: str) -> None:
        assert events().limit(n).build() == f"SELECT event FROM events LIMIT {shown}"

    @pytest.mark.parametrize(
        "n",
        [True, False, -1, 1.0, "1", "1; DROP", None, MAX_LIMIT + 1, 10**5000],
        ids=lambda n: type(n).__name__,
    )
    def test_other_limits_are_refused(self, n: Any) -> None:
        with pytest.raises(ValidationError):
            events().limit(n)

    def test_a_limit_that_posthog_would_cut_is_refused_with_the_reason(self) -> None:
        with pytest.raises(ValidationError, match="50000, to which PostHog cuts"):
            events().limit(MAX_LIMIT + 1)


class TestLiterals:
    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (None, "NULL"),
            (True, "true"),
            (False, "false"),
            (0, "0"),
            (-(2**63), "-9223372036854775808"),
            (2**64 - 1, "18446744073709551615"),
            (Level.HIGH, "3"),
            (LyingInt(7), "7"),
            (1.5, "1.5"),
            (1e22, "1e+22"),
            (-0.0, "-0.0"),
            (LyingFloat(2.5), "2.5"),
            (Decimal("0.10"), "0.1"),
            (Decimal("12345678901234567890"), "12345678901234567890"),
            (Decimal("-0"), "0"),
            (Decimal("1E+3"), "1000"),
            ("", "''"),
            ("it's", r"'it\'s'"),
            ("a\\", r"'a\\'"),
            ("\\' OR 1=1 --", r"'\\\' OR 1=1 --'"),
            ("a\nb\r\t\b\f\v\a", r"'a\nb\r\t\b\f\v\a'"),
            ("{x} %s é 😀", "'{x} %s é 😀'"),
            (Lying("safe"), "'safe'"),
            (datetime(2024, 1, 31, 23, 59, 59), "toDateTime('2024-01-31T23:59:59.000000Z')"),
            (datetime(2024, 1, 31, 5, 30, 0, 123, EAST), "toDateTime('2024-01-31T00:00:00.000123Z')"),
            (date(2024, 1, 31), "toDate('2024-01-31')"),
            (UUID(int=1), "toUUID('00000000-0000-0000-0000-000000000001')"),
            (["a", 1], "('a', 1)"),
            ((1,), "(1)"),
            ({2, 1}, "(1, 2)"),
        ],
    )
    def test_values_become_text_that_reads_back(self, value: object, text: str) -> None:
        assert escape_literal(value) == text

    @pytest.mark.parametrize(
        "value",
        [
            "nul\0",
            "\ud800",
            Lying("\0"),
            math.nan,
            math.inf,
            -math.inf,
            2**64,
            -(2**63) - 1,
            10**5000,
            Decimal("NaN"),
            Decimal("sNaN"),
            Decimal("Infinity"),
            Decimal("0.1000000000000000000001"),
            Decimal("1E+999999999"),
            Decimal("1E-999999999"),
            Decimal(2**64),
            datetime(1899, 12, 31),
            Fine(2024, 1, 1),
            datetime.min.replace(tzinfo=EAST),
            datetime.max.replace(tzinfo=timezone.utc),
            date(1969, 12, 31),
            date(2149, 6, 7),
            time(12),
            timedelta(1),
            b"bytes",
            {"a": 1},
            Fraction(1, 2),
            object(),
            Unprintable(),
            [],
            set(),
            [[1]],
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_what_has_no_exact_text_is_refused(self, value: object) -> None:
        with pytest.raises(ValidationError):
            escape_literal(value)

    def test_bound_values_are_plain_and_json_compatible(self) -> None:
        given = [Lying("x"), LyingInt(1), LyingFloat(0.5), Level.HIGH, True, Decimal("0.5"), UUID(int=1)]
        given += [date(2024, 1, 1), datetime(2024, 1, 1, tzinfo=timezone.utc)]
        _, values = events().where("a", "IN", given).build_bound()
        assert list(values.values()) == [
            *("x", 1, 0.5, 3, True, 0.5, "00000000-0000-0000-0000-000000000001"),
            *("2024-01-01", "2024-01-01T00:00:00.000000Z"),
        ]
        assert {type(value) for value in values.values()} == {str, int, float, bool}

    def test_uuid_and_decimal_are_not_loaded_by_the_builder(self) -> None:
        code = (
            "import sys; before = set(sys.modules)\n"
            "from posthog_driver.query_builder import escape_literal\n"
            "assert escape_literal('x') == \"'x'\"\n"
            "assert not {'uuid', 'decimal', 'datetime', 'difflib'} & (set(sys.modules) - before)"
        )
        subprocess.run([sys.executable, "-c", code], check=True, timeout=60)

    def test_a_like_pattern_can_be_made_to_match_itself(self) -> None:
        assert escape_like(r"50%_\x") == r"50\%\_\\x"
        assert condition("a", "LIKE", f"{escape_like('5%')}%") == r"a LIKE '5\\%%'"
        with pytest.raises(ValidationError):
            escape_like(5)  # type: ignore[arg-type]


class TestNames:
    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("event", "event"),
            ("$browser", "$browser"),
            ("_a1", "_a1"),
            ("1a", "`1a`"),
            ("odd name", "`odd name`"),
            ("a.b", "`a.b`"),
            ("a`b", "`a``b`"),
            ("a\\", "`a\\\\`"),
            ("a\nb", r"`a\nb`"),
            ("é", "`é`"),
            ("٣", "`٣`"),
            ("a'; --", "`a'; --`"),
            ("from", "`from`"),
            ("NULL", "`NULL`"),
            (Lying("x y"), "`x y`"),
        ],
    )
    def test_a_name_is_plain_or_quoted(self, name: str, text: str) -> None:
        assert quote_identifier(name) == text

    @pytest.mark.parametrize("name", ["", "*", "50%", "a\0", "\udfff", None, 1, b"a"])
    def test_a_name_without_a_spelling_is_refused(self, name: Any) -> None:
        with pytest.raises(ValidationError):
            quote_identifier(name)

    def test_a_path_keeps_its_parts_apart_and_is_a_field(self) -> None:
        path = quote_path("properties", "a.b' = 1 --", "c")
        assert path == "properties.`a.b' = 1 --`.c"
        assert condition(path, "=", 1) == f"{path} = 1"
        with pytest.raises(ValidationError, match="at least one"):
            quote_path()

    @pytest.mark.parametrize(
        ("column", "text"),
        [
            ("*", "*"),
            (" event ", "event"),
            ("person.properties.email", "person.properties.email"),
            ("properties['odd name']", "properties.`odd name`"),
            ("properties['it\\'s']['a''b'].c", "properties.`it's`.`a'b`.c"),
            ("properties.`a b`", "properties.`a b`"),
            ("properties.`a``b\\n`", r"properties.`a``b\n`"),
            ("properties.from", "properties.`from`"),
            ("count()", "count()"),
            ("count( * )", "count()"),
            ("count(distinct person_id)", "count(DISTINCT person_id)"),
            ("count(distinct)", "count(`distinct`)"),
            ("toStartOfDay(timestamp) as day", "toStartOfDay(timestamp) AS day"),
            ("avg(toFloat(properties.price))", "avg(toFloat(properties.price))"),
            ("countIf(event = '$page''view')", r"countIf(event = '$page\'view')"),
            ("countIf(a<=-1.5e3)", "countIf(a <= -1500.0)"),
            ("coalesce(a, NULL, True, 'x', 12)", "coalesce(a, NULL, true, 'x', 12)"),
            ("uniq(null.a, `true`)", "uniq(`null`.a, `true`)"),
            ("a AS `odd name`", "a AS `odd name`"),
            (("count()", "n"), "count() AS n"),
            (("a", "order"), "a AS `order`"),
        ],
    )
    def test_columns_are_read_and_written_anew(self, column: str | tuple[str, str], text: str) -> None:
        assert events(column).build() == f"SELECT {text} FROM events"

    @pytest.mark.parametrize(
        "column",
        [
            *(
                "",
                " ",
                "a b",
                "a,b",
                "a;",
                "a -- x",
                "a/**/",
                "a#",
                "1",
                "'x'",
                '"a"',
                "é",
                "a%",
                "{a}",
                "a[1]",
                "a[",
            ),
            *(
                "a['b'",
                "a.",
                ".a",
                "a..b",
                "a.*",
                "a '.' b",
                "`a",
                "`a\\q`",
                "`a\0`",
                "a['\\0']",
                "a AS",
                "a AS b c",
            ),
            *(
                "a AS 'b'",
                "a AS TRUE",
                "a AS team_id",
                "* AS a",
                "count(",
                "count(a",
                "count(a b)",
                "count(a,)",
            ),
            *("count(,)", "count(*, a)", "sum(*)", "count() + 1", "count().a", "`count`()", "countif(a = 1)"),
            *("countIf(a = 1 = 2)", "sleep(3)", "file('/etc/passwd')", "concat('a\\q')", "uniq(1e999)"),
            *(
                "uniq(99999999999999999999)",
                "uniq(distinct distinct a)",
                "abs(" * 11 + "a" + ")" * 11,
                "a" * 4_001,
            ),
            *(None, 1, b"a", ("a",), ("a", "b", "c"), ("a AS b", "c"), ("a", "null"), ("a", ""), ("*", "a")),
        ],
    )
    def test_everything_else_is_refused(self, column: Any) -> None:
        with pytest.raises(ValidationError):
            events(column)

    @pytest.mark.parametrize("depth", [1, 10])
    def test_calls_nest_up_to_a_depth(self, depth: int) -> None:
        column = "abs(" * depth + "a" + ")" * depth
        assert events(column, column).build() == f"SELECT {column}, {column} FROM events"

    @pytest.mark.parametrize(
        ("table", "text"),
        [("events", "events"), ("system.cohorts", "system.cohorts"), ("`my table` as t", "`my table` AS t")],
    )
    def test_tables(self, table: str, text: str) -> None:
        assert QueryBuilder().select("*").from_(table).build() == f"SELECT * FROM {text}"

    @pytest.mark.parametrize(
        "table", ["", "*", "events e", "events, persons", "numbers(5)", "(SELECT 1)", "a AS", None]
    )
    def test_other_tables_are_refused(self, table: Any) -> None:
        with pytest.raises(ValidationError):
            QueryBuilder().from_(table)

    @pytest.mark.parametrize("method", ["where", "having", "order_by", "group_by"])
    def test_a_field_is_no_column_list_and_has_no_alias(self, method: str) -> None:
        more = ("=", 1) if method in ("where", "having") else ()
        for field in ("a AS b", "*", "a = 1", "a OR b", None):
            with pytest.raises(ValidationError):
                getattr(QueryBuilder(), method)(field, *more)

    def test_an_error_says_where_and_suggests(self) -> None:
        with pytest.raises(ValidationError, match="expected the end at character 6, found 'b'"):
            events("event b")
        with pytest.raises(ValidationError, match=r"Did you mean countIf\(\)\?"):
            events("countif(a)")
        with pytest.raises(ValidationError, match=r"zzzzzzzz\(\) is not in the builder's list. Write"):
            events("zzzzzzzz(a)")
        with pytest.raises(ValidationError, match="quote_path"):
            events("properties.foo-bar")

    def test_a_long_text_is_not_repeated_in_the_error(self) -> None:
        with pytest.raises(ValidationError) as caught:
            events("a" * 1_000 + "-")
        assert "aaaa" not in str(caught.value)


def test_every_function_on_the_list_can_be_called() -> None:
    for name in query_builder._FUNCTIONS:
        assert events(f"{name}(a)").build() == f"SELECT {name}(a) FROM events"
