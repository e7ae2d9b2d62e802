"""Rules that turn what other SQL has into HogQL, and the tokens they work on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthog_driver.tools.hogql_text import HogQLText, Span, one_line
from posthog_driver.tools.rewrites import find_changes, rewrite


def rewritten(query: str, kind: str = "") -> str | None:
    found = rewrite(query, kind)
    return found.query if found is not None else None


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        # Functions
        ("SELECT toDecimal64(x, 2), toDateTimeOrZero(y)", "SELECT toDecimal(x, 2), toDateTime(y)"),
        ("SELECT toInt64OrZero(toFloat32OrNull(x))", "SELECT coalesce(toInt(toFloat(x)), 0)"),
        ("SELECT to_int(x), TODATE(y)", "SELECT toInt(x), toDate(y)"),
        ("SELECT CARDINALITY(x), DATE(y), DATE(y, 1)", "SELECT bitmapCardinality(x), toDate(y), DATE(y, 1)"),
        ("SELECT LEAD(x, 2) OVER (ORDER BY b ROWS BETWEEN 1 PRECEDING AND CURRENT ROW)",
         "SELECT leadInFrame(toNullable(x), 2) OVER (ORDER BY b ROWS BETWEEN 1 PRECEDING AND CURRENT ROW)"),
        ("SELECT split(', ', x)", "SELECT splitByString(', ', coalesce(x, ''))"),
        (r"SELECT split(x, '\n')", r"SELECT splitByChar('\n', coalesce(x, ''))"),
        ("SELECT greatest(a, least(b, c, d), e)", "SELECT greatest(a, greatest(least(b, least(c, d)), e))"),
        ("SELECT toStartOfWeek(x, 'Sunday')", "SELECT toStartOfWeek(x, 0)"),
        ("SELECT EXTRACT(DOW FROM a.x), EXTRACT(EPOCH FROM y)", "SELECT toDayOfWeek(a.x), toUnixTimestamp(y)"),
        ("SELECT date_trunc(week, x), DATE_ADD(day, 1, x)", "SELECT date_trunc('week', x), dateAdd('day', 1, x)"),
        ("SELECT GROUP_CONCAT(x), CONCAT_WS('-', a, b)",
         "SELECT arrayStringConcat(groupArray(x), ','), arrayStringConcat([a, b], '-')"),
        ("SELECT percentile(x, 0.5), quantileExact(y, 0.9)", "SELECT quantile(0.5)(x), quantile(0.9)(y)"),
        ("SELECT ISNULL(a, b), NVL(a, b)", "SELECT ifNull(a, b), ifNull(a, b)"),
        ("SELECT GETDATE(), LEN(x), IFF(a, b, c)", "SELECT now(), length(x), if(a, b, c)"),
        # Casts
        ("SELECT a.b[1]::double, f(x)::bigint, (1 + 2)::text",
         "SELECT CAST(a.b[1] AS Float), CAST(f(x) AS Int), (1 + 2)::text"),
        ("SELECT x::decimal(10, 3), 1 + -2::real", "SELECT toDecimal(x, 3), 1 + -CAST(2 AS Float)"),
        ("SELECT TRY_CAST(x AS varchar(20)), CAST(y AS DateTime64(3))",
         "SELECT CAST(x AS String), CAST(y AS DateTime)"),
        ("SELECT a AND (x)::numeric", "SELECT a AND toDecimal((x), 6)"),
        # Properties
        ("SELECT e.properties->'a'->>'odd-b'", "SELECT e.properties.a['odd-b']"),
        ("SELECT json_value(person.properties, '$.a.b'), json_value(x, '$.a')",
         "SELECT person.properties.a.b, json_value(x, '$.a')"),
        # Ends
        ("SELECT 1 ;", "SELECT 1 "),
        ("SELECT a FROM t LIMIT 1 SETTINGS x = 1, y = 'z'", "SELECT a FROM t LIMIT 1 "),
        ("SELECT TOP 5 a FROM t ORDER BY a", "SELECT a FROM t ORDER BY a LIMIT 5"),
        ("SELECT a FROM (SELECT TOP 2 b FROM t) x", "SELECT a FROM (SELECT b FROM t LIMIT 2) x"),
        ("SELECT a FROM t FETCH FIRST 3 ROWS ONLY", "SELECT a FROM t LIMIT 3"),
        ("SELECT a FROM t LIMIT 5 OFFSET 10", "SELECT a FROM t LIMIT 15"),
        ("SELECT a FROM t LIMIT 10, 5", "SELECT a FROM t LIMIT 15"),
        # Joins
        ("SELECT 1 FROM a WHERE x = 1 JOIN b ON a.i = b.i WHERE y = 2 GROUP BY z",
         "SELECT 1 FROM a JOIN b ON a.i = b.i WHERE (x = 1) AND (y = 2) GROUP BY z"),
        ("SELECT 1 FROM a WHERE x = 1 LEFT JOIN b ON a.i = b.i ORDER BY 1",
         "SELECT 1 FROM a LEFT JOIN b ON a.i = b.i WHERE x = 1 ORDER BY 1"),
        ("SELECT 1 FROM a JOIN b ON a.i > b.i", "SELECT 1 FROM a CROSS JOIN b WHERE a.i > b.i"),
        ("SELECT 1 FROM a INNER JOIN b ON a.i = b.i AND a.t BETWEEN b.t AND b.u PREWHERE p WHERE x OR y LIMIT 1",
         "SELECT 1 FROM a JOIN b ON a.i = b.i PREWHERE p WHERE (x OR y) AND a.t BETWEEN b.t AND b.u LIMIT 1"),
        ("SELECT 1 FROM a JOIN b ON a.i < b.i JOIN c ON b.k = c.k",
         "SELECT 1 FROM a CROSS JOIN b JOIN c ON b.k = c.k WHERE a.i < b.i"),
        # Tables
        ("SELECT u.id FROM users u", "SELECT u.id FROM persons u"),
        ("SELECT users.id, a.users.b FROM users", "SELECT users.id, a.users.b FROM persons AS users"),
        ("SELECT 1 FROM ai_events AS e JOIN trace_spans s ON 1 = 1",
         "SELECT 1 FROM posthog.ai_events AS e JOIN posthog.trace_spans s ON 1 = 1"),
        # Literals and operators
        (r"SELECT a NOT LIKE '\%\_x\\', match(b, '\d')", r"SELECT a NOT LIKE '\\%\\_x\\', match(b, '\\d')"),
        ("SELECT CURRENT_DATE(), CURRENT_TIMESTAMP, current_timestamp()", "SELECT today(), now(), current_timestamp()"),
        ("SELECT TIMESTAMP '2024-01-01 00:00:00'", "SELECT toDateTime('2024-01-01 00:00:00')"),
        ("SELECT a IS FALSE, b IS NULL, c IS NOT TRUE", "SELECT a = false, b IS NULL, c IS NOT TRUE"),
        ("SELECT 1 WHERE a NOT REGEXP 'x' AND b RLIKE 'y'", "SELECT 1 WHERE a !~ 'x' AND b =~ 'y'"),
        ("SELECT a SIMILAR TO 'x%', b SIMILAR TO '(x|y)%'", "SELECT a LIKE 'x%', b SIMILAR TO '(x|y)%'"),
        ("SELECT f(a) MOD 3, MOD(a, 3)", "SELECT f(a) % 3, MOD(a, 3)"),
        ("SELECT SUBSTRING(a FROM 2)", "SELECT substring(a, 2)"),
        ("SELECT SUBSTR(a FROM 2 FOR 3)", "SELECT substring(a, 2, 3)"),
    ],
)  # fmt: skip
def test_other_sql_becomes_hogql(wrong: str, right: str) -> None:
    assert rewritten(wrong) == right


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("SELECT a, count() FROM t WHERE b LIMIT 3", "SELECT a, count() FROM t WHERE b GROUP BY a LIMIT 3"),
        ("SELECT toDate(a) AS x, sum(b) FROM t", "SELECT toDate(a) AS x, sum(b) FROM t GROUP BY x"),
        ("SELECT a FROM t WHERE b AND sum(c) > 2 GROUP BY a", "SELECT a FROM t WHERE b GROUP BY a HAVING sum(c) > 2"),
        ("SELECT count() AS n FROM t WHERE n > 2 GROUP BY a", "SELECT count() AS n FROM t GROUP BY a HAVING n > 2"),
    ],
)  # fmt: skip
def test_grouping_is_mended_where_the_error_is_about_it(wrong: str, right: str) -> None:
    assert rewritten(wrong, "aggregation") == right
    assert rewritten(wrong) is None


@pytest.mark.parametrize(
    "query",
    [
        "SELECT count(), countIf(a), toInt(x), toDate(y), greatest(a, b), lagInFrame(x) OVER (ORDER BY y)",
        "SELECT coalesce(a, b), COUNT(DISTINCT x), NOW(), to_date(x), date_diff('day', a, b), date_trunc('day', a)",
        "SELECT lag(x), split(a), split(a, b, c), quantile(0.9)(x), string_agg(a, b, c), concat_ws('a'), isNull(x)",
        "SELECT x::Int, CAST(x AS Date), CAST(x), CAST(a, b), a.date, a.current_date, [1, 2]::Array(Int), ::real",
        "SELECT toStartOfWeek(a, 1), extract(a, 'b'), extract(nothing FROM a), substring(a, 1, 2)",
        "SELECT x -> x + 1, arrayMap(properties -> 1, y), percentile_cont(0.5)",
        "SELECT 1 FROM a LEFT JOIN b ON a.i = b.i AND a.t > b.t",
        "SELECT 1 FROM a JOIN b ON a.i = b.i OR a.t > b.t",
        "SELECT 1 FROM a JOIN b USING (i) CROSS JOIN c, d",
        "SELECT 1 FROM t LIMIT 5 BY x LIMIT 10 OFFSET {n}",
        "SELECT 1 FROM t LIMIT 5 WITH TIES OFFSET 5",
        "WITH users AS (SELECT 1 AS id) SELECT users.id FROM users",
        "SELECT 'toFloat64(x); SELECT', `count(*)`, \"users\" -- count(*);\n/* LAG(x) OVER () */",
        "SELECT f'{count(*)}'",
        "SELECT 1 FROM (SELECT 1) UNION ALL SELECT 2 EXCEPT SELECT 3",
        "SELECT count(*",
        "SELECT 1)::real",
        "SELECT a SIMILAR TO",
        "SELECT count(*) " + "-- padding\n" * 2_000,
        "",
    ],
)
def test_what_is_right_or_unclear_stays_as_it_is(query: str) -> None:
    assert rewrite(query) is None


@pytest.mark.parametrize(
    "query",
    [
        "SELECT a, n FROM t",
        "SELECT *, count() FROM t",
        "SELECT 1, count() FROM t",
        "SELECT count() AS n, n / 2 FROM t",
        "SELECT DISTINCT a, count() FROM t",
        "SELECT (SELECT 1), count() FROM t",
        "SELECT a, count() OVER (PARTITION BY a) FROM t",
        "SELECT unheardOf(a), count() FROM t",
        "SELECT a, count()",
        "SELECT a, count() FROM t WHERE count() > 1 OR b GROUP BY a",
        "SELECT a, count() FROM t WHERE b GROUP BY a HAVING count() > 1",
    ],
)
def test_grouping_that_is_right_or_unclear_stays_as_it_is(query: str) -> None:
    assert rewrite(query, "aggregation") is None


def test_a_longer_query_is_looked_at_but_not_rewritten() -> None:
    query = f"SELECT toFloat64(x), '{'y' * 5_000}'"

    assert rewrite(query) is None
    assert [change.text for change in find_changes(query)] == ["toFloat"]


def test_changes_say_why_and_stand_in_the_order_of_the_text() -> None:
    found = rewrite("SELECT count(*), toFloat64(x);")

    assert found is not None
    assert [change.why for change in found.changes] == [
        "count takes no star: count()",
        "conversions have no width and give NULL where they fail: toFloat",
        "no semicolon at the end",
    ]


def test_a_query_that_needs_too_many_changes_is_left_to_the_model() -> None:
    assert rewrite("SELECT " + "greatest(1, 2, " * 25 + "3" + ")" * 25) is None


PIECES = r"""
SELECT FROM WHERE JOIN ON AND OR a b.c events users ( ) [ ] , ; :: -> ->> = > 'x' 'a\_b' "q" ` f' ' count(*) LAG(x)
OVER (ORDER BY y) split(a,'b') greatest(1,2,3) CAST( AS Float64 ) LIMIT 5 OFFSET 3 TOP GROUP BY HAVING LIKE REGEXP MOD
EXTRACT( MONTH INTERVAL DAYS IS TRUE properties person UNION ALL {x} { } -- /* * -
"""
SQL = st.lists(st.sampled_from(PIECES.split()), max_size=40).map(" ".join)


@given(SQL)
def test_what_is_rewritten_needs_no_further_change(query: str) -> None:
    for kind in ("", "aggregation"):
        found = rewrite(query, kind)
        if found is not None:
            assert rewrite(found.query, kind) is None
            assert found.query != query


@given(st.one_of(SQL, st.text(max_size=300)))
def test_tokens_and_clauses_of_any_text_stay_within_it(query: str) -> None:
    text = HogQLText(query)

    ends = [token.end for token in text.tokens]
    assert ends == sorted(ends)
    assert all(query[token.start : token.end] == token.text for token in text.tokens)
    assert all(text.partners[other] == at for at, other in text.partners.items())
    for select in text.selects:
        assert all(select.span.first <= clause.body.first <= clause.body.last for clause in select.clauses)
        text.tables(select)
        assert text.source(select.span) in query


@given(SQL)
def test_one_line_has_the_same_tokens(query: str) -> None:
    line = one_line(query.replace(" ", "\n"))

    before = [token.text.replace("\n", "\\n") for token in HogQLText(query.replace(" ", "\n")).tokens]
    after = [token.text for token in HogQLText(line).tokens]
    assert before == after or any(token.startswith(('"', "`")) for token in before)


def test_the_line_ends_of_a_query_go_and_those_in_strings_stay() -> None:
    assert one_line("SELECT 'a\r\nb', -- no\n  /* no */ 1") == "SELECT 'a\\nb', 1"


def test_tables_and_joins_are_found_with_their_aliases() -> None:
    text = HogQLText('SELECT 1 FROM events AS e ANY LEFT JOIN system.teams t ON a = b CROSS JOIN "x""y" SAMPLE 0.1')
    (select,) = text.selects
    clause = select.clause("from")
    assert clause is not None

    assert [named[1:] for named in text.tables(select)] == [("events", "e"), ("system.teams", "t"), ('x"y', 'x"y')]
    joins = text.joins(clause.body)
    assert [join.words for join in joins] == [("any", "left"), ("cross",)]
    assert [join.on is None for join in joins] == [False, True]
    assert text.source(Span(3, 3)) == ""
    assert select.clause("where") is None
