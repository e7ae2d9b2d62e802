"""The translator without an engine: what it prints, what it names, and above all what it refuses."""

from __future__ import annotations

import json
import re
import sys
import types
from typing import Any

import pytest

from posthog_driver.local import parser, tree
from posthog_driver.local.hogql import HogQLError, Translation, metadata, translate
from posthog_driver.local.schema import Action, Catalog, Cohort, PropertyDefinition

CATALOG = Catalog(
    property_definitions=(
        PropertyDefinition("price", "event", "Numeric"),
        PropertyDefinition("ok", "event", "Boolean"),
        PropertyDefinition("when", "event", "DateTime"),
    ),
    event_names=("$pageview", "signed_up"),
    group_types=("account",),
    entities={"insight_variables": tuple({"code_name": name, "default_value": f"any {name}"} for name in "xyd")},
    actions=(
        Action(1, "signed up", ({"event": "signed_up"}, {"event": "$pageview", "url": "/welcome"})),
        Action(2, "twice"),
        Action(3, "twice"),
    ),
    cohorts=(
        Cohort(1, "named", "properties.age >= 18"),
        Cohort(2, "static"),
        Cohort(3, "loop", "id IN COHORT 3"),
        Cohort(4, "broken", "nothing = 1"),
    ),
    materialized={("properties", key): f"mat_{key}" for key in ("$browser", "$os")},
)


def sql(query: str, **more: Any) -> str:
    return translate(query, CATALOG, **more).sql


def refusal(query: str, **more: Any) -> HogQLError:
    with pytest.raises(HogQLError) as refused:
        translate(query, CATALOG, **more)
    return refused.value


# --------------------------------------------------------------------------------------------------- what is printed


def test_a_plain_query_reads_qualified_tables_only() -> None:
    translation = translate("select event, count() from events where event = 'x' group by event limit 3", CATALOG)
    assert translation == Translation(
        sql="SELECT t__1.`event`, count() FROM posthog.`events` AS t__1 WHERE equals(t__1.`event`, 'x') "
        "GROUP BY t__1.`event` LIMIT 3",
        columns=("event", "count()"),
        hogql="SELECT event, count() FROM events WHERE equals(event, 'x') GROUP BY event LIMIT 3",
        tables=("events",),
        paginated=False,
        limit=3,
        warnings=translation.warnings,
    )


@pytest.mark.parametrize(
    ("query", "end", "paginated", "limit"),
    [
        ("select 1", "LIMIT 101", True, 100),
        ("select 1 limit 7", "LIMIT 7", False, 7),
        ("select 1 limit 50001", "LIMIT 50000", False, 50_000),
        ("select 1 limit 1 + 1", "LIMIT min2(50000, plus(1, 1))", False, None),
        ("select 1 union all select 2", "UNION ALL SELECT 2 AS `2` LIMIT 100", False, None),
        (
            "select 1 limit 60000 union all select 2 limit 5",
            "LIMIT 50000 UNION ALL SELECT 2 AS `2` LIMIT 5",
            False,
            None,
        ),
        ("(select 1 union all select 2) union all select 3", "UNION ALL SELECT 3 AS `3` LIMIT 100", False, None),
        ("(select 1 union all select 2) limit 60000", ") LIMIT 50000", False, None),
    ],
)
def test_every_outermost_select_has_a_limit(query: str, end: str, paginated: bool, limit: int | None) -> None:
    translation = translate(query, CATALOG)
    assert translation.sql.endswith(end)
    assert (translation.paginated, translation.limit) == (paginated, limit)


def test_a_limit_inside_a_sub_query_stays_as_it_is() -> None:
    assert "LIMIT 60000)" in sql("select * from (select event from events limit 60000)")


@pytest.mark.parametrize(
    ("query", "columns"),
    [
        (
            "select event as e, properties.$browser, properties.a.b, properties['a'], properties.l[1] from events",
            ("e", "$browser", "a__b", "properties.a", "properties.l.1"),
        ),
        (
            "select 1 + 2, countIf(event = 'x'), 'a', person.properties.email from events",
            ("plus(1, 2)", "countIf(equals(event, 'x'))", "'a'", "email"),
        ),
        (
            "select count(*), COUNT(), quantile(0.5)(1), not 1, 1 and 0, a -> a from events",
            ("count(*)", "COUNT()", "quantile(0.5)(1)", "not(1)", "and(1, 0)", "a -> a"),
        ),
        ("select (event as e), toDate(timestamp), e from events", ("e", "toDate(timestamp)", "e")),
        ("select event, event from events", ("event", "event")),
    ],
)
def test_columns_are_named_as_posthog_names_them(query: str, columns: tuple[str, ...]) -> None:
    assert translate(query, CATALOG).columns == columns


@pytest.mark.parametrize(
    "query",
    [
        "SELECT event AS e, count() FROM events AS x WHERE and(equals(event, 'a'), 1) GROUP BY event "
        "HAVING greater(count(), 1) ORDER BY event DESC LIMIT 1 BY event LIMIT 5",
        "WITH a AS (SELECT 1 AS x) SELECT x FROM a LIMIT 5",
        "WITH a AS (SELECT 1 AS x) SELECT x FROM a LIMIT 5 UNION ALL SELECT x FROM a LIMIT 5",
        "SELECT sum(1) OVER w, lag(event) OVER (PARTITION BY event ORDER BY timestamp ASC ROWS BETWEEN 1 PRECEDING AND "
        "CURRENT ROW) FROM events WINDOW w AS (ORDER BY timestamp ASC) LIMIT 5",
        "SELECT x FROM events AS e LEFT JOIN persons AS p ON equals(e.person_id, p.id) "
        "ARRAY JOIN [1, 2] AS x ORDER BY x ASC LIMIT 1 WITH TIES",
        "SELECT 1 FROM numbers(3) AS a JOIN numbers(3) AS b USING (`number`) LIMIT 1",
        "SELECT in(1, (SELECT 1)), arrayMap((a, b) -> plus(a, b), [1], [2]), tuple(1, 2).1, [1][1] LIMIT 1",
        "SELECT event FROM events GROUP BY ROLLUP(event) LIMIT 1",
        "SELECT count() FILTER (WHERE 1), sum(DISTINCT 1) FROM events LIMIT 1",
        "SELECT CAST(event AS int), event BETWEEN 1 AND 2, event IS DISTINCT FROM 1 FROM events LIMIT 1",
        "SELECT person_id IN COHORT 2, person_id NOT IN COHORT 'named' FROM events LIMIT 1",
        "SELECT event FROM events GROUP BY GROUPING SETS((event), ()) LIMIT 1",
    ],
)
def test_the_hogql_text_of_a_query_is_a_query_with_the_same_meaning(query: str) -> None:
    first = translate(query, CATALOG)
    again = translate(first.hogql, CATALOG)
    assert again.hogql == first.hogql
    assert again.sql == first.sql


def test_engine_aliases_avoid_every_name_in_the_query() -> None:
    assert "FROM posthog.`events` AS t1__1" in sql("select event as t__1 from events")
    assert "FROM posthog.`events` AS t2__1" in sql("select event as t__1, 't1__' from events")


@pytest.mark.parametrize(
    ("expression", "printed"),
    [
        (
            "properties.price",
            "accurateCastOrNull(replaceRegexpAll(nullIf(nullIf(JSONExtractRaw(t__1.`properties`, 'price'), ''), "
            "'null'), '^\"|\"$', ''), 'Float64')",
        ),
        (
            "toFloatOrZero(properties.price)",
            "toFloat64OrZero(replaceRegexpAll(nullIf(nullIf(JSONExtractRaw(t__1.`properties`, "
            "'price'), ''), 'null'), '^\"|\"$', ''))",
        ),
        ("properties.$browser", "t__1.`mat_$browser`"),
        ("event", "t__1.`event`"),
        ("now()", "now64(6, 'UTC')"),
        ("toDate(event)", "toDateOrNull(t__1.`event`)"),
        ("toDate(timestamp)", "toDate(t__1.`timestamp`)"),
        ("toDateTime(event)", "parseDateTime64BestEffortOrNull(t__1.`event`, 6, 'UTC')"),
        (
            "toDateTime('2024-01-01 10:00:00', 'Europe/Berlin')",
            "parseDateTime64BestEffortOrNull('2024-01-01 10:00:00', 6, 'Europe/Berlin')",
        ),
        ("toStartOfWeek(timestamp)", "toStartOfWeek(t__1.`timestamp`, 0)"),
        (
            "lag(event) over ()",
            "lagInFrame(toNullable(t__1.`event`)) OVER (ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)",
        ),
        ("timestamp > '2024-01-01'", "greater(t__1.`timestamp`, '2024-01-01')"),
        (
            "toStartOfDay(timestamp) > properties.plan",
            "greater(toStartOfDay(t__1.`timestamp`), replaceRegexpAll(nullIf(nullIf("
            "JSONExtractRaw(t__1.`properties`, 'plan'), ''), 'null'), '^\"|\"$', ''))",
        ),
        ("1 = 1", "1"),
        ("count(*) over ()", "count() OVER ()"),
        (
            "(toDate(timestamp) - toDate(timestamp)) + 1",
            "plus(minus(toDate(t__1.`timestamp`), toDate(t__1.`timestamp`)), 1)",
        ),
        ("1 > null", "0"),
        ("'a' < 1", "less('a', 1)"),
        ("if(1, event, null) = 'x'", "ifNull(equals(if(1, t__1.`event`, NULL), 'x'), 0)"),
        ("dateTrunc('month', timestamp) - today()", "minus(dateTrunc('month', t__1.`timestamp`), today())"),
    ],
)
def test_an_expression_is_printed_by_posthogs_rules(expression: str, printed: str) -> None:
    assert sql(f"select {expression} from events limit 1") == f"SELECT {printed} FROM posthog.`events` AS t__1 LIMIT 1"


def test_a_link_adds_one_join_however_often_and_under_whatever_name_it_is_used() -> None:
    printed = sql("select group_0.key, account.properties.a, session.duration, session.session_id from events limit 1")
    assert printed.count("JOIN") == 2
    assert "LEFT JOIN posthog.`groups_newest` AS t__2 ON t__1.`$group_0` = t__2.`key` AND t__2.`index` = 0" in printed


def test_a_comparison_in_a_join_condition_is_left_to_the_engine() -> None:
    printed = sql("select 1 from events e join persons p on e.properties.a = p.properties.b limit 1")
    assert "ifNull" not in printed.split(" ON ")[1]


def test_a_query_lists_the_tables_it_reads() -> None:
    query = "select session.$is_bounce from events where person_id in (select id from persons)"
    assert translate(query, CATALOG).tables == ("events", "persons", "sessions")


# ----------------------------------------------------------------------------------------------------- what is refused

ATTACKS = [
    "select * from file('/etc/passwd')",
    "select * from `file`('/etc/passwd')",
    "select * from url('http://x.test', 'CSV', 'a String')",
    "select * from s3('http://x.test/a.csv')",
    "select * from remote('127.0.0.1', system.one)",
    "select * from mysql('x.test:3306', 'a', 'b', 'c', 'd')",
    "select * from sqlite('/tmp/a.db', 'a')",
    "select * from executable('id', 'TSV', 'a String')",
    "select * from Python(x)",
    "select * from cluster('default', system.one)",
    "select * from merge('posthog', '.*')",
    "select * from generateRandom('a String')",
    "select * from values('a String', 'x')",
    "select * from `/etc/hostname`",
    'select * from "/etc/hostname"',
    "select * from '/etc/hostname'",
    "select * from system.tables",
    "select * from system.one",
    "select * from `system.one`",
    "select * from information_schema.tables",
    "select * from INFORMATION_SCHEMA.TABLES",
    "select * from default.events",
    "select * from posthog.persons_newest",
    "select * from persons_newest",
    "select * from `posthog`.`events`.`x`",
    "select file('/etc/hostname')",
    "select sleep(3)",
    "select sleepEachRow(3)",
    "select hostName()",
    "select currentUser()",
    "select currentDatabase()",
    "select version()",
    "select getSetting('readonly')",
    "select dictGet('a', 'b', 1)",
    "select joinGet('a', 'b', 1)",
    "select addressToLine(1)",
    "select catboostEvaluate('/a', 1)",
    "select arrayReduce('groupArray', [1])",
    "select arrayReduce(event, [1]) from events",
    "select 1 where exists (select 1)",
    "insert into events values (1)",
    "insert into function file('/tmp/x') select 1",
    "create table x (a Int8) engine = Memory",
    "alter table events delete where 1",
    "drop table events",
    "truncate table events",
    "system shutdown",
    "set readonly = 0",
    "explain select 1",
    "show tables",
    "select 1 into outfile '/tmp/x'",
    "select 1 format CSV",
    "select 1 settings readonly = 0",
    "select 1; select 2",
    "select 1; drop table events",
    "select 'unclosed",
    "select {a:Identifier}",
]


@pytest.mark.parametrize("query", ATTACKS)
def test_nothing_but_reading_the_embedded_tables_is_possible(query: str) -> None:
    refusal(query)


@pytest.mark.parametrize(
    ("query", "key", "value"),
    [
        ("select 1 from events e join persons p on 1 = 1", "join_type", "CROSS JOIN file('/etc/passwd') AS x, "),
        ("select 1 from events e join persons p on 1 = 1", "constraint_type", "ON 1 INTO OUTFILE 'x' --"),
        ("select x from events array join [1] as x", "array_join_op", "ARRAY JOIN [1] AS y SETTINGS readonly = 0"),
        ("select 1 from events group by rollup(event)", "group_by_mode", "x"),
        ("select 1 union all select 2", "set_operator", "UNION ALL SELECT 1 INTO OUTFILE '/tmp/x' UNION ALL"),
        ("select sum(1) over (rows between 1 preceding and current row)", "frame_method", "ROWS) FROM x --"),
        ("select sum(1) over (rows between 1 preceding and current row)", "frame_type", "x"),
        ("select event = 'a' from events", "op", "; DROP"),
        ("select 1 + 1", "op", "; DROP"),
        ("select 1::int", "type_name", "String) FROM file('x') --"),
        ("select <b />", "kind", "'x"),
        ("select lower('a')", "name", "file"),
        ("select event from events", "chain", [["x') FROM file('"]]),
        ("select event from events", "chain", [True]),
        ("with a as (select 1) select 1 from a", "cte_type", "x"),
        ("select event from events order by event desc", "order", "DESC INTO OUTFILE '/tmp/x'"),
        ("select 1 as ok", "alias", "team_id"),
        ("select 1 from events", "table", {"node": "Constant", "value": "/etc/passwd"}),
        ("select 1 from events order by event", "expr", {"node": "OrderExpr", "expr": {}, "order": "ASC"}),
    ],
)
def test_a_text_that_the_parser_hands_over_is_compared_with_a_fixed_set(
    query: str, key: str, value: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sql(query)
    original = parser.parse_select(query)

    def altered(node: Any) -> Any:
        if isinstance(node, list):
            return [altered(item) for item in node]
        if not isinstance(node, dict):
            return node
        return {k: value if k == key and node[k] else altered(v) for k, v in node.items()}

    assert altered(original) != original
    monkeypatch.setattr(parser, "parse_select", lambda _: altered(original))
    refusal(query)


def test_a_window_frame_of_either_form_of_bound_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    bound = {"node": "WindowFrameExpr", "frame_type": "PRECEDING", "frame_value": {"node": "Constant", "value": 2}}
    assert tree.frame({"frame_method": "ROWS", "frame_start": bound}) == "ROWS 2 PRECEDING"
    assert tree.frame({}) == ""


MESSAGES = [
    ("select foo from events", "Unable to resolve field: foo", "foo", None),
    ("select evnt from events", "Unable to resolve field: evnt", "evnt", "event"),
    ("select e.evnt from events e", "Field not found: evnt", "e.evnt", "e.event"),
    (
        "select person.propertis.a from events",
        "Field not found: propertis",
        "person.propertis.a",
        "person.properties.a",
    ),
    ("select e.evnt from (select event from events) e", "Unable to resolve field: evnt", "e.evnt", "e.event"),
    ("select event from evnts", "Unknown table `evnts`.", "evnts", "events"),
    ("select id from cohorts", "Unknown table `cohorts`.", "cohorts", None),
    ("select id from users", "Unknown table `users`.", "users", None),
    ("select id from `system.insights`", "Unknown table `system.insights`.", "`system.insights`", "system.insights"),
    (
        "select lowerr('a')",
        "Unsupported function call 'lowerr(...)'. Perhaps you meant 'lower(...)'?",
        "lowerr",
        "lower",
    ),
    (
        "select countif(1)",
        "Unsupported function call 'countif(...)'. Perhaps you meant 'countIf(...)'?",
        "countif",
        "countIf",
    ),
    ("select dictGet('a')", "Unsupported function call 'dictGet(...)'", "dictGet", None),
    (
        "select embedText('a')",
        "Function 'embedText(...)' is not available in the embedded PostHog",
        "embedText('a')",
        None,
    ),
    ("select toInt()", "Function 'toInt' expects 1 argument, found 0", "toInt()", None),
    ("select round(1, 2, 3)", "Function 'round' expects at most 2 arguments, found 3", "round(1, 2, 3)", None),
    ("select concat('a')", "Function 'concat' expects at least 2 arguments, found 1", "concat('a')", None),
    ("select sum()", "Aggregation 'sum' expects 1 argument, found 0", "sum()", None),
    ("select not(1, 2)", "Function 'not' expects 1 argument, found 2", "not(1, 2)", None),
    ("select equals(1)", "Comparison 'equals' requires exactly two arguments", "equals(1)", None),
    ("select quantile(1)", "Aggregation 'quantile' requires parameters in addition to arguments", "quantile(1)", None),
    ("select topK(1, 2)(1)", "Aggregation 'topK' expects 1 parameter, found 2", "topK(1, 2)(1)", None),
    (
        "select toInt(distinct 1)",
        "Function 'toInt' takes neither parameters nor DISTINCT nor FILTER nor ORDER BY",
        "toInt(distinct 1)",
        None,
    ),
    (
        "select json_agg(distinct 1)",
        "Aggregation 'json_agg' takes neither DISTINCT nor FILTER",
        "json_agg(distinct 1)",
        None,
    ),
    (
        "select sum(count()) from events",
        "Aggregation 'count' cannot be nested inside another aggregation 'sum'.",
        "count()",
        None,
    ),
    (
        "select arrayReduce(1, [1])",
        "Expected constant string as first arg in function 'arrayReduce'",
        "arrayReduce(1, [1])",
        None,
    ),
    (
        "select arrayReduce('x', [1])",
        "Invalid parametric function in 'arrayReduce', 'x' is not supported.",
        "arrayReduce('x', [1])",
        None,
    ),
    (
        "select toDecimal(1, 1 + 1)",
        "The scale of toDecimal must be a constant whole number",
        "toDecimal(1, 1 + 1)",
        None,
    ),
    ("select dateAdd('eon', 1, now())", "Unknown unit of time in function 'dateAdd'", "dateAdd('eon', 1, now())", None),
    ("select 1::Nothing", "Unsupported type cast to 'nothing'", "1::Nothing", "string"),
    ("select upper('a') over ()", "Function 'upper' cannot be used as a window function", "upper('a') over ()", None),
    ("select sum(1) over v from events window w as ()", "Unable to resolve window: v", "sum(1) over v", None),
    ("select [1][0]", "SQL indexes start from one, not from zero. E.g: array[1]", "[1][0]", None),
    (
        "select properties.a[0] from events",
        "SQL indexes start from one, not from zero. E.g: array[1]",
        "properties.a[0]",
        None,
    ),
    ("select (1, 2).0", "SQL indexes start from one, not from zero. E.g: array.1", "(1, 2).0", None),
    (
        "select properties[event] from events",
        "Properties can only be accessed by a constant name or index",
        "properties[event]",
        None,
    ),
    ("select event.a from events", 'Can not access property "a" on field "event".', "event.a", None),
    ("select person from events", "Can't select a table when a column is expected: person", "person", None),
    ("select *", "Cannot use '*' when there are no tables in the query", "*", None),
    (
        "select * from events, persons",
        "Cannot use '*' without table name when there are multiple tables in the query",
        "*",
        None,
    ),
    ("select x.* from events", "Unable to resolve field: x.*", "x.*", None),
    (
        "select created_at from events join persons on 1 = 1",
        "Ambiguous query. Found multiple sources for field: created_at",
        "created_at",
        None,
    ),
    (
        "select 1 from events e join persons e on 1 = 1",
        'Already have joined a table called "e". Can\'t redefine.',
        "persons e",
        None,
    ),
    ("select 1 from events e join persons p using (1 + 1)", "USING takes names of columns", "using (1 + 1)", None),
    ("select 1 as a, 2 as a", "Cannot redefine an alias with the name: a", "2 as a", None),
    ("select 1 as ``", "Alias cannot be empty", "1 as ``", None),
    (
        "select 1 as team_id",
        '"team_id" cannot be an alias or identifier, as it\'s a reserved keyword',
        "1 as team_id",
        None,
    ),
    (
        "select 1 as `a%b`",
        'The HogQL identifier "a%b" is not permitted as it contains the "%" character',
        "1 as `a%b`",
        None,
    ),
    ("select (select e.event) from events e", "Unable to resolve field: e", "e.event", None),
    ("select event from (select 1 as a) where event = 1", "Unable to resolve field: event", "event", None),
    (
        "select * from events final",
        "The FINAL keyword is not supported in HogQL as it causes slow queries",
        "events final",
        None,
    ),
    ("select * from events(1)", "Table 'events' does not accept arguments", "events(1)", None),
    ("select * from numbers", "Table function 'numbers' requires arguments", "numbers", None),
    ("select * from numbers()", "Table function 'numbers' requires at least 1 argument", "numbers()", None),
    (
        "select * from numbers(1, 2, 3)",
        "Table function 'numbers' requires at most 2 arguments",
        "numbers(1, 2, 3)",
        None,
    ),
    ("select * from numbers(1 + 1)", "Table function 'numbers' takes whole numbers only", "numbers(1 + 1)", None),
    ("select 1 limit -1", "LIMIT must not be negative", "-1", None),
    (
        "select try_cast(1 as String)",
        "TRY_CAST is not allowed in clickhouse dialect",
        "try_cast(1 as String)",
        None,
    ),
    (
        "select event from events pivot (sum(x) for y in (1))",
        "PIVOT is not allowed in clickhouse dialect",
        "events pivot (sum(x) for y in (1))",
        None,
    ),
    (
        "select event from events unpivot (v for n in (event))",
        "UNPIVOT is not allowed in clickhouse dialect",
        "events unpivot (v for n in (event))",
        None,
    ),
    ("select #1 from events", "Positional references are not allowed in clickhouse dialect", "#1", None),
    ("select a from (values (1)) as t(a)", "VALUES clause is not supported in ClickHouse dialect", None, None),
    (
        "with recursive a as (select 1) select * from a",
        "Recursive CTEs are only supported in PostgreSQL dialect",
        None,
        None,
    ),
    ("with c using key (a) as (select 1 as a) select * from c", "USING KEY is not supported", None, None),
    ("select (event).x(1) from events", "You can only call simple functions in HogQL, not expressions", None, None),
    ("select toInt(a := 1)", "Named arguments are not supported", None, None),
    ("select * from range(3)", "range() is not supported in ClickHouse dialect", "range(3)", None),
    ("select percentile_cont(0.5)(1)", "Aggregation 'percentile_cont' requires WITHIN GROUP", None, None),
    (
        "select groupArray(event order by uuid) from events",
        "ORDER BY inside of the aggregation 'groupArray' is not supported",
        "groupArray(event order by uuid)",
        None,
    ),
    (
        "with c as (select 1) select c",
        "Cannot use table CTE c as a value. Use it in a FROM clause instead.",
        None,
        None,
    ),
    ("select 1 from events join persons", "JOIN needs a condition: ON ... or USING ...", "persons", None),
    ("select 1 from events natural join persons", "JOIN needs a condition: ON ... or USING ...", "persons", None),
    ("select 1 limit 1 with ties", "WITH TIES needs an ORDER BY", "1", None),
    ("select matchesAction(1)", "matchesAction can only be used with the events table", "matchesAction(1)", None),
    ("select matchesAction(9) from events", "Could not find an action with the ID 9", "matchesAction(9)", None),
    ("select matchesAction('x') from events", "Could not find an action with the name x", None, None),
    ("select matchesAction('twice') from events", "Found multiple actions with the name twice", None, None),
    (
        "select matchesAction(event) from events",
        "matchesAction() takes the id of an action or its name as a constant",
        None,
        None,
    ),
    (
        "select getSurveyResponse(event) from events",
        "getSurveyResponse first argument must be a constant",
        None,
        None,
    ),
    (
        "select getSurveyResponse('x') from events",
        "getSurveyResponse first argument must be a valid integer",
        None,
        None,
    ),
    (
        "select 1 from events where uniqueSurveySubmissionsFilter('x', timestamp)",
        "uniqueSurveySubmissionsFilter second argument must be a constant",
        None,
        None,
    ),
    # columns
    ("select columns('nope') from events", "No columns matched the COLUMNS('nope') expression", None, None),
    (
        "select columns('(') from events",
        "COLUMNS() has an invalid regex pattern: missing ), unterminated subpattern at position 0",
        "columns('(')",
        None,
    ),
    (
        "select columns('(a+)+') from events",
        "COLUMNS() takes a pattern with at most 3 repetitions, none of a group",
        None,
        None,
    ),
    (
        f"select columns('x') from (select 1 as {'x' * 65})",
        "COLUMNS() is tried on names of at most 64 characters",
        None,
        None,
    ),
    (
        "select *columns('e') from events",
        "*COLUMNS(...) is not valid as a top-level SELECT item. Use COLUMNS(...) instead.",
        None,
        None,
    ),
    (
        "select * exclude (nope) from events",
        'Column "nope" in EXCLUDE list was not found in events',
        "* exclude (nope)",
        None,
    ),
    (
        "select (* replace (1 as nope)) from events e, persons p",
        'Column "nope" in REPLACE list was not found in the selected tables',
        None,
        None,
    ),
    (
        "select (* exclude (event) replace (1 as event)) from events",
        'Column "event" cannot occur in both EXCLUDE and REPLACE list',
        None,
        None,
    ),
    (
        "select 1 as a from numbers(3) order by a with fill interpolate (number)",
        "INTERPOLATE takes aliases of columns: number",
        "number",
        None,
    ),
    ("select x.* exclude (event) from events", "Unable to resolve field: x", "x.* exclude (event)", None),
    ("select * exclude (a) from (select 1 as a)", "No columns matched the EXCLUDE list", None, None),
    (
        "select a from (select 1, 2) as t(a)",
        "Subquery has 2 column(s) but 1 column name(s) were provided",
        "select 1, 2",
        None,
    ),
    (
        "with c(a) as (select 1, 2) select a from c",
        "CTE 'c' has 2 column(s) but 1 column name(s) were provided",
        None,
        None,
    ),
    (
        "select 1 from (select 1, 2) as t(a, a)",
        "Duplicate column alias 'a' in table alias 't'",
        "select 1, 2",
        None,
    ),
    (
        "select 1 from numbers(1) as t(a, b)",
        "Table has 1 column(s) available for aliasing but 2 alias(es) were provided",
        "numbers(1)",
        None,
    ),
    ("select e.event from events as e(x, y)", "Field not found: event", "e.event", None),
    # limits, samples, windows
    ("select 1 limit 1 + 1 %", "LIMIT percent with expressions is not supported in clickhouse dialect", "1 + 1", None),
    ("select 1 limit 101 %", "Limit percent must be between 0 and 100", "101", None),
    ("select id from persons sample 0.1", "SAMPLE is only supported for the table events", "sample 0.1", None),
    (
        "select event from events sample 1000",
        "SAMPLE takes a share of the rows (0 to 1), not a number of rows",
        "sample 1000",
        None,
    ),
    ("select event from events sample 1/0", "SAMPLE takes a number or a fraction such as 1/10", "1/0", None),
    (
        "select 1 from events e right join events f sample 0.5 on e.uuid = f.uuid",
        "SAMPLE is not supported beside a RIGHT or FULL JOIN",
        None,
        None,
    ),
    (
        "select sum(1) over (order by event rows between 1.5 preceding and current row) from events",
        "Bounds of a window frame must be whole numbers",
        "1.5",
        None,
    ),
    # what the parsers drop
    ("select event from events group by event with totals", "WITH TOTALS has no effect in HogQL", "with totals", None),
    (
        "select event from events group by event with rollup order by 1",
        "WITH ROLLUP has no effect in HogQL, but GROUP BY ROLLUP(...) has",
        "with rollup",
        None,
    ),
    (
        "select lag(event ignore nulls) over () from events",
        "IGNORE NULLS has no effect in HogQL",
        "ignore nulls",
        None,
    ),
    (
        "select sum(1) filter (where event = ')') over () from events",
        "FILTER has no effect on a window function in HogQL: use a function that ends in If",
        "filter (",
        None,
    ),
    ("select event from events order by event collate 'en'", "COLLATE has no effect in HogQL", "collate 'en'", None),
    ("select <script />", "Unknown tag <script>", "<script />", None),
    (
        "select person_id in cohort 99 from events",
        "Could not find a cohort with the ID 99",
        "person_id in cohort 99",
        None,
    ),
    (
        "select person_id in cohort 'x' from events",
        "Could not find a cohort with the name 'x'",
        "person_id in cohort 'x'",
        None,
    ),
    (
        "select person_id in cohort event from events",
        "IN COHORT only works with constant arguments",
        "person_id in cohort event",
        None,
    ),
    (
        "select person_id in cohort 3 from events",
        "Cohort 'loop': Cohort 3 refers to itself",
        "person_id in cohort 3",
        None,
    ),
    (
        "select person_id in cohort 4 from events",
        "Cohort 'broken': Unable to resolve field: nothing",
        "person_id in cohort 4",
        None,
    ),
    ("select {gone}", "Unresolved placeholder: {gone}", "{gone}", None),
    ("select {1 + 1}", "Unresolved placeholder: {expression}", "{1 + 1}", None),
    ("select", "no viable", None, None),
]


@pytest.mark.parametrize(("query", "message", "span", "fix"), MESSAGES, ids=[query for query, *_ in MESSAGES])
def test_a_refusal_says_what_and_where_and_what_to_write_instead(
    query: str, message: str, span: str | None, fix: str | None
) -> None:
    error = refusal(query)
    if query == "select":
        # The two parsers use their own words for what is no HogQL.
        return
    assert error.message == message
    assert error.fix == fix
    if span is not None:
        assert query[error.start : error.end] == span


@pytest.mark.parametrize(
    "query",
    [
        "select event from events limit 5 offset 3",
        "select event from events limit 5, 3",
        "select * from (select 1 limit 1 offset 2)",
        "select event from events limit 1 offset 1 by event",
        "with a as (select 1 limit 1 offset 3) select * from a",
        "select 1 union all (select 2 limit 1 offset 0)",
        "select event from events where event in (select event from events offset 1)",
    ],
)
def test_offset_is_refused_for_a_personal_key_wherever_it_stands(query: str) -> None:
    assert refusal(query).message == tree.OFFSET_REFUSED
    assert "OFFSET" in sql(query, is_api_query=False)


def test_a_query_that_grows_without_end_is_refused() -> None:
    doubling = ", ".join(
        f"a{n + 1} as (select * from a{n} x cross join numbers(1) y)".replace("*", "x.*") for n in range(3)
    )
    assert "WITH" in sql(f"with a0 as (select 1 as v), {doubling} select v from a3")
    names = ", ".join(f"(select v from a{n}) as v{n}" for n in range(1))
    ctes = ["a0 as (select 1 as v)"]
    ctes += [f"a{n + 1} as (select v from a{n} union all select v from a{n})" for n in range(30)]
    assert refusal(f"with {', '.join(ctes)} select {names}").message == "Query is too complex"
    columns = ["1 as c0", *(f"c{n} + c{n} as c{n + 1}" for n in range(30))]
    assert refusal(f"with {', '.join(columns)} select c30").message == "Query is too complex"


def test_a_deep_tree_is_refused_and_not_followed_until_the_stack_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    deep: dict[str, Any] = {"node": "Constant", "value": 1}
    for _ in range(sys.getrecursionlimit()):
        deep = {"node": "Not", "expr": deep}
    monkeypatch.setattr(parser, "parse_select", lambda _: {"node": "SelectQuery", "select": [deep]})
    assert refusal("select 1").message == "Query is too deeply nested"


# ------------------------------------------------------------------------------------------------------------ metadata


def test_metadata_of_a_good_query_lists_its_tables() -> None:
    assert metadata("select event from events where event = '$pageview'", CATALOG) == {
        "isValid": True,
        "query": "select event from events where event = '$pageview'",
        "errors": [],
        "warnings": [],
        "notices": [],
        "table_names": ["events"],
    }


def test_metadata_warns_of_an_event_that_the_project_does_not_know() -> None:
    query = "select 1 from events where event = 'signed_op'"
    warning = metadata(query, CATALOG)["warnings"][0]
    assert (warning["message"], warning["fix"]) == ("Event 'signed_op' is not known in this project.", "'signed_up'")
    assert query[warning["start"] : warning["end"]] == "'signed_op'"
    assert metadata("select 1 from events where event = 'zzz'", CATALOG)["warnings"][0]["fix"] is None
    assert metadata(query, Catalog())["warnings"] == []


def test_metadata_of_a_bad_query_has_the_error_and_the_tables_as_far_as_they_are_known() -> None:
    found = metadata("select evnt from events join nowhere on 1 = 1", CATALOG)
    assert (found["isValid"], found["table_names"]) == (False, ["events"])
    assert metadata("select (", CATALOG)["table_names"] == []
    error = metadata("select {x}, evnt from events", CATALOG, values={"x": 1})["errors"][0]
    assert error == {"message": "Unable to resolve field: evnt", "start": 12, "end": 16, "fix": "event"}


# -------------------------------------------------------------------------------------------------------- placeholders


def test_a_value_is_only_ever_a_constant() -> None:
    evil = "x') FROM file('/etc/passwd') --"
    printed = sql("select {a} from events limit 1", values={"a": evil})
    assert printed == "SELECT 'x\\') FROM file(\\'/etc/passwd\\') --' FROM posthog.`events` AS t__1 LIMIT 1"


@pytest.mark.parametrize(
    ("value", "printed"),
    [
        (None, "NULL"),
        (True, "true"),
        (-3, "-3"),
        (2**70, str(2**70)),
        (1.5, "1.5"),
        (float("nan"), "NaN"),
        (float("inf"), "Inf"),
        (float("-inf"), "-Inf"),
        ("it's", "'it\\'s'"),
        ([1, "a", None, [2]], "[1, 'a', NULL, [2]]"),
        ((), "[]"),
    ],
)
def test_a_value_of_each_kind_is_printed_as_its_literal(value: Any, printed: str) -> None:
    assert sql("select {v} limit 1", values={"v": value}) == f"SELECT {printed} LIMIT 1"


def test_a_value_inside_an_object_is_reached_by_its_path() -> None:
    assert sql("select {a.b} limit 1", values={"a": {"b": 1}}) == "SELECT 1 LIMIT 1"
    assert refusal("select {a.c}", values={"a": {"b": 1}}).hint == "Values given: a"
    assert refusal("select {a}", values={"a": {"b": 1}}).message == "A value of type dict cannot be used in a query"


@pytest.mark.parametrize(
    ("query", "view"),
    [
        ("select count() from sessions", "sessions_brief"),
        ("select session_id, $session_duration from sessions where $start_timestamp > now()", "sessions_brief"),
        ("select id as a from sessions as s(a) order by $is_bounce", "sessions_brief"),
        ("select session.$session_duration from events", "sessions_brief"),
        ("select $entry_pathname from sessions", "sessions"),
        ("select count() from sessions where $channel_type = 'Direct'", "sessions"),
        ("select count() from sessions order by person_id", "sessions"),
        ("select * from sessions", "sessions"),
        ("select session.$entry_utm_source, session.$session_duration from events", "sessions"),
        ("select count() from sessions join persons using (person_id)", "sessions"),
    ],
)
def test_a_query_that_needs_few_columns_of_sessions_reads_the_view_with_few(query: str, view: str) -> None:
    found = re.findall(r"posthog\.`?(sessions\w*)", sql(query))

    assert found == [view]


def test_variables_fill_their_placeholders() -> None:
    given = ({"code_name": "x", "value": "v"}, {"code_name": "y", "value": "v", "isNull": True}, {"code_name": "d"})
    variables = {str(number): variable for number, variable in enumerate((*given, {"code_name": "new", "value": 1}))}
    query = "select {variables.x}, {variables.y}, {variables.d} limit 1"
    assert sql(query, variables=variables) == "SELECT 'v', NULL, 'any d' LIMIT 1"
    assert refusal("select {variables.new}", variables=variables).message == "Variable new does not exist"
    assert refusal("select {variables.z}", variables=variables).message == "Variable z is missing from query"


def condition(filters: Any, table: str = "events") -> str:
    return sql(f"select 1 from {table} where {{filters}} limit 1", filters=filters).split("WHERE ")[1][
        : -len(" LIMIT 1")
    ]


def test_without_filters_the_placeholder_is_true() -> None:
    assert condition(None) == condition({}) == condition({"dateRange": {"date_from": "all"}}) == "true"


@pytest.mark.parametrize(
    ("table", "column"),
    [("events", "timestamp"), ("sessions", "$start_timestamp"), ("persons", "created_at"), ("groups", "created_at")],
)
def test_filters_bound_the_time_column_of_the_table(table: str, column: str) -> None:
    filters = {"dateRange": {"date_from": "2024-01-02", "date_to": "2024-01-03"}}
    assert condition(filters, table) == (
        f"and(greaterOrEquals(t__1.`{column}`, toDateTime64('2024-01-02 00:00:00.000000', 6, 'UTC')), "
        f"lessOrEquals(t__1.`{column}`, toDateTime64('2024-01-03 23:59:59.999999', 6, 'UTC')))"
    )


def test_a_date_that_is_not_set_takes_its_comparison_with_it() -> None:
    query = (
        "select 1 from events where timestamp > {filters.dateRange.from} and timestamp < {filters.dateRange.to} limit 1"
    )
    filters = {"dateRange": {"date_from": "2024-01-02T03:04:05+01:00"}}
    assert "and(greater(t__1.`timestamp`, toDateTime64('2024-01-02 02:04:05.000000', 6, 'UTC')), true)" in sql(
        query, filters=filters
    )
    assert sql("select {filters.dateRange.from} limit 1") == "SELECT NULL LIMIT 1"


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ({"properties": [{"type": "event", "key": {"a": 1}, "value": 1}]}, "A property filter needs a key."),
        ({"properties": ["x"]}, "Properties are unparsable: 'x' is no filter."),
        ({"properties": [{"type": "cohort", "key": "id"}]}, "A cohort filter needs the cohort's id, not None."),
        (
            {"properties": [{"type": "hogql", "key": "file('x')"}]},
            "Unsupported function call 'file(...)'. Perhaps you meant 'ilike(...)'?",
        ),
        ({"properties": [{"type": "hogql", "key": "{x}"}]}, "Unresolved placeholder: {x}"),
        ({"dateRange": {"date_from": "soon"}}, "Invalid date: soon"),
        ({"dateRange": {"date_from": "-999999y"}}, "Invalid date: -999999y"),
    ],
)
def test_a_filter_that_cannot_be_honoured_is_refused(filters: Any, message: str) -> None:
    assert refusal("select 1 from events where {filters}", filters=filters).message == message


def test_filters_need_a_table_with_time() -> None:
    assert "Cannot use 'filters' placeholder" in refusal("select 1 from numbers(1) where {filters}").message
    assert refusal("select {filters.x.y} from events").message == "Unresolved placeholder: {filters.x.y}"


# -------------------------------------------------------------------------------------------------------------- parser


def test_a_refused_text_is_parsed_once_and_refused_anew_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[str] = []

    def parse(text: str) -> str:
        parsed.append(text)
        return json.dumps({"error": True, "message": "no such thing", "start": 1, "end": 2})

    library = types.SimpleNamespace(__name__="hogql_parser", parse_select_json=parse)
    monkeypatch.setattr(parser, "_library", lambda: library)
    query = "select 'a text that no other test parses'"

    refusals = [refusal(query), refusal(query)]
    found = metadata(query, Catalog())

    assert parsed == [query]
    assert refusals[0] is not refusals[1]
    assert [error.message for error in refusals] == ["no such thing", "no such thing"]
    assert (found["errors"][0]["start"], found["table_names"]) == (1, [])


def test_a_text_that_would_keep_the_parser_busy_is_refused_with_its_place() -> None:
    refused = refusal("select " + "f(" * 101 + ")" * 101)

    assert "too deeply nested" in refused.message
    assert refused.start is not None


@pytest.mark.parametrize(
    ("query", "values", "message"),
    [
        ("select event from events limit 1.5", {}, "LIMIT must be a whole number"),
        ("select event from events limit {n}", {"n": "ten"}, "LIMIT must be a whole number"),
        ("select 1 from (select 1 limit 0.5)", {}, "LIMIT must be a whole number"),
        ("select {n}", {"n": 10**400}, "Number is too large: 401 digits"),
        ("select {n}", {"n": -(10**400)}, "Number is too large: 401 digits"),
    ],
)
def test_a_number_that_the_engine_cannot_take_is_refused_by_name(
    query: str, values: dict[str, Any], message: str
) -> None:
    assert refusal(query, values=values).message == message


def test_a_statement_that_its_values_make_too_long_is_refused_with_its_size() -> None:
    values = {"ids": ["x" * 1000] * 1100}

    with pytest.raises(HogQLError, match=r"with its values it is \d{7} bytes of SQL, at most 1048576 are accepted"):
        translate("select 1 from events where event in {ids}", Catalog(), values=values)


def test_either_parser_is_taken_and_the_rust_one_is_preferred(monkeypatch: pytest.MonkeyPatch) -> None:
    rust = types.ModuleType("hogql_parser_rs")
    answer = {"node": "SelectQuery", "select": [{"node": "Constant", "value": 1, "start": {"offset": 7}}]}
    rust.parse_select_json = lambda text: json.dumps(answer)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "hogql_parser_rs", rust)
    parser._library.cache_clear()
    try:
        assert parser._library() is rust
        assert sql("select 'taken from the module above'") == "SELECT 1 LIMIT 101"
    finally:
        parser._library.cache_clear()
        parser._outcome.cache_clear()


def test_importing_the_cpp_parser_leaves_the_modules_of_others_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    sdk = types.ModuleType("posthog")
    monkeypatch.setitem(sys.modules, "posthog", sdk)
    monkeypatch.delitem(sys.modules, "posthog.hogql", raising=False)
    assert parser._import_with_stubs("json") is json
    assert sys.modules["posthog"] is sdk
    assert "posthog.hogql" not in sys.modules


def test_a_tree_too_deep_for_the_json_reader_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    nested = "[" * 100_000 + "]" * 100_000
    monkeypatch.setattr(
        parser, "_library", lambda: types.SimpleNamespace(__name__="hogql_parser", parse_select_json=lambda _: nested)
    )
    with pytest.raises(HogQLError, match="too deeply nested"):
        parser._parse("select 1", "parse_select_json")


def test_an_exception_of_the_cpp_parser_is_a_refusal_too() -> None:
    assert refusal("select 1 }").message


def test_a_position_is_read_in_either_form() -> None:
    assert parser.offset({"line": 1, "column": 3, "offset": 3}) == 3
    assert parser.offset({"offset": 4}) == 4
    assert parser.offset(5) == 5
    assert parser.offset(None) is None


def test_the_end_of_a_query_that_comes_too_soon_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    error = {"error": True, "message": "mismatched input '<EOF>' expecting x", "start": 3, "end": 3}
    library = types.SimpleNamespace(__name__="hogql_parser", parse_select_json=lambda _: json.dumps(error))
    monkeypatch.setattr(parser, "_library", lambda: library)
    with pytest.raises(HogQLError) as refused:
        parser._parse("select", "parse_select_json")
    assert (refused.value.message, refused.value.start) == ("Unexpected end of query", 3)


def test_qualify_works_and_says_that_posthog_refuses_it() -> None:
    query = "select event, row_number() over (order by timestamp) as n from events qualify n = 1 limit 1"
    (warning,) = [one for one in metadata(query, CATALOG)["warnings"] if "QUALIFY" in one["message"]]
    assert query[warning["start"] : warning["end"]] == "n = 1"
    assert " QUALIFY equals(n, 1) LIMIT 1" in sql(query).replace("`n`", "n")


# ------------------------------------------------------------------------------------------------ actions and samples


def test_an_action_looks_at_the_events_of_a_join_only() -> None:
    query = "select count() from persons p join events e on e.person_id = p.id where matchesAction('signed up')"
    where = sql(query).partition(" WHERE ")[2]
    assert "equals(t__2.`event`, 'signed_up')" in where
    assert "t__1" not in where


def test_a_sample_of_the_right_side_of_a_left_join_leaves_the_left_side_whole() -> None:
    printed = sql("select 1 from events e left join events f sample 1/2 on e.uuid = f.uuid where e.event = 'a'")
    assert "ON equals(t__1.`uuid`, t__2.`uuid`) AND (cityHash64(t__2.`distinct_id`) < 9223372036854775808)" in printed
    assert printed.endswith("WHERE equals(t__1.`event`, 'a') LIMIT 101")


def test_two_samples_beside_each_other_are_the_whole() -> None:
    first = sql("select 1 from events sample 0.25 where event = 'a' or event = 'b'")
    second = sql("select 1 from events sample 0.75 offset 0.25")
    assert "WHERE (or(equals(t__1.`event`, 'a'), equals(t__1.`event`, 'b'))) AND (cityHash64(" in first
    assert "< 4611686018427387904)" in first
    assert "WHERE (cityHash64(t__1.`distinct_id`) >= 4611686018427387904) LIMIT" in second


# ---------------------------------------------------------------------------------- messages of the engine, losses


@pytest.mark.parametrize(
    ("query", "message", "told"),
    [
        (
            "select e.event + 1 from events as e",
            "Illegal types String and UInt8 of function plus: In scope SELECT plus(t__1.event, 1) FROM posthog.events",
            "Illegal types String and UInt8 of function plus",
        ),
        (
            "select 1 from events where event",
            "Invalid type for filter in WHERE: String. In query SELECT 1 FROM events AS events WHERE events.event",
            "Invalid type for filter in WHERE: String",
        ),
        (
            "select session.$urls from events",
            "Identifier 't__2.$x' cannot be resolved from table with name t__2. In scope SELECT 1",
            "Identifier 'events.session.$x' cannot be resolved from table with name events.session",
        ),
        (
            "select 1 from (select 1)",
            "Column t__1.`a` of t__1 in `posthog`.`events`",
            "Column `a` of a sub-query in `events`",
        ),
        ("with c as (select 1) select * from c", "Table t__1 of posthog is gone", "Table c of posthog is gone"),
    ],
)
def test_an_error_of_the_engine_is_told_in_the_names_of_the_query(query: str, message: str, told: str) -> None:
    assert translate(query, CATALOG).in_own_words(message) == told


@pytest.mark.parametrize(
    ("query", "printed"),
    [
        ("select 1 from events order by (event) /* */ desc nulls -- x\n last", "DESC NULLS LAST LIMIT"),
        ("with totals as (select 1 as x) select x from totals", "LIMIT 101"),
        ("select 'with totals' = 'ignore nulls' as filter from events", "LIMIT 101"),
        ("select `e x`.* exclude (uuid) from events as `e x`, persons as p", "SELECT t__1.`event`"),
    ],
)
def test_what_the_parser_drops_is_honoured_and_what_only_looks_like_it_is_left_alone(query: str, printed: str) -> None:
    assert printed in sql(query)


def test_a_table_called_nulls_is_a_table() -> None:
    assert refusal("select 1 from nulls first").message == "Unknown table `nulls`."


def test_only_columns_can_be_spread() -> None:
    assert refusal("select concat(*(select 1)) from events").message
