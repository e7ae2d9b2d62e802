"""What models write wrong in HogQL, each with the query that is right; the repair has to lead from one to the other.

The list is that of PostHog's own prompts for its assistants, of its compatibility hints, and what other SQL is written
by habit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

__all__ = ["MISTAKES", "Mistake"]

_FRAME = "ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING"
_BOUND = "timestamp >= today() - INTERVAL 60 DAY"
_SIGNED = (
    f"SELECT person_id, min(timestamp) AS at FROM events WHERE event = 'signed_up' AND {_BOUND} GROUP BY person_id"
)
_PAID = (
    f"SELECT person_id, min(timestamp) AS at FROM events WHERE event = 'invoice_paid' AND {_BOUND} GROUP BY person_id"
)
_INVOICES = f"FROM events WHERE event = 'invoice_paid' AND {_BOUND}"
_UPLOADS = f"FROM events WHERE event = 'file_uploaded' AND {_BOUND}"
_VIEWS = f"FROM events WHERE event = '$pageview' AND {_BOUND}"
_EACH_DAY = f"(SELECT toDate(timestamp) AS day, count() AS n {_VIEWS} GROUP BY day)"


class Mistake(NamedTuple):
    """A query with a mistake.

    Attributes:
        name: What ``--tasks`` takes.
        wrong: The query with the mistake.
        right: A query with the rows that are meant.
        values: What the model puts into placeholders that a repair made of its query.
        skipped: Rows at the start of the right ones that the question does not ask for.
    """

    name: str
    wrong: str
    right: str
    values: Mapping[str, Any] | None = None
    skipped: int = 0


def _days(expression: str) -> str:
    return f"SELECT day, n, {expression} AS other FROM {_EACH_DAY} ORDER BY day LIMIT 100"


MISTAKES: tuple[Mistake, ...] = (
    # Functions that have no width, or another name.
    Mistake("count-star", f"SELECT count(*) {_VIEWS}", f"SELECT count() {_VIEWS}"),
    Mistake(
        "toFloat64",
        f"SELECT sum(toFloat64(properties.amount_usd)) {_INVOICES}",
        f"SELECT sum(toFloat(properties.amount_usd)) {_INVOICES}",
    ),
    Mistake(
        "toFloat64OrNull",
        f"SELECT sum(toFloat64OrNull(properties.amount_usd)) {_INVOICES}",
        f"SELECT sum(toFloat(properties.amount_usd)) {_INVOICES}",
    ),
    Mistake(
        "toFloat64OrZero",
        f"SELECT sum(toFloat32OrZero(properties.amount_usd)) {_INVOICES}",
        f"SELECT sum(toFloat(properties.amount_usd)) {_INVOICES}",
    ),
    Mistake(
        "toUInt8", f"SELECT max(toUInt8(properties.seats)) {_VIEWS}", f"SELECT max(toInt(properties.seats)) {_VIEWS}"
    ),
    Mistake(
        "toInt64OrZero",
        f"SELECT max(toInt64OrZero(properties.folder_depth)) {_UPLOADS}",
        f"SELECT max(toInt(properties.folder_depth)) {_UPLOADS}",
    ),
    Mistake(
        "snake-case",
        f"SELECT to_start_of_week(timestamp, 1) AS week, count_if(properties.encrypted = true) AS n {_UPLOADS} "
        "GROUP BY week ORDER BY week LIMIT 20",
        f"SELECT toStartOfWeek(timestamp, 1) AS week, countIf(properties.encrypted = true) AS n {_UPLOADS} "
        "GROUP BY week ORDER BY week LIMIT 20",
    ),
    Mistake(
        "lower-case",
        f"SELECT countif(properties.file_type = 'pdf') {_UPLOADS}",
        f"SELECT countIf(properties.file_type = 'pdf') {_UPLOADS}",
    ),
    Mistake(
        "COUNT_IF",
        f"SELECT COUNT_IF(properties.file_type = 'pdf') {_UPLOADS}",
        f"SELECT countIf(properties.file_type = 'pdf') {_UPLOADS}",
    ),
    Mistake(
        "LAG", _days("LAG(n) OVER (ORDER BY day)"), _days(f"lagInFrame(toNullable(n)) OVER (ORDER BY day {_FRAME})")
    ),
    Mistake(
        "LEAD", _days("LEAD(n, 1, 0) OVER (ORDER BY day)"), _days(f"leadInFrame(n, 1, 0) OVER (ORDER BY day {_FRAME})")
    ),
    Mistake(
        "split",
        f"SELECT split(properties.$pathname, '/')[2] AS part, count() AS n {_VIEWS} GROUP BY part LIMIT 100",
        f"SELECT splitByChar('/', coalesce(properties.$pathname, ''))[2] AS part, count() AS n {_VIEWS} "
        "GROUP BY part LIMIT 100",
    ),
    Mistake(
        "greatest",
        f"SELECT max(greatest(toFloat(properties.size_mb), toFloat(properties.folder_depth), 2.0)) {_UPLOADS}",
        f"SELECT max(arrayMax([toFloat(properties.size_mb), toFloat(properties.folder_depth), 2.0])) {_UPLOADS}",
    ),
    Mistake(
        "least",
        f"SELECT min(least(toFloat(properties.size_mb), toFloat(properties.folder_depth), 2.0)) {_UPLOADS}",
        f"SELECT min(arrayMin([toFloat(properties.size_mb), toFloat(properties.folder_depth), 2.0])) {_UPLOADS}",
    ),
    Mistake(
        "cast-float64",
        f"SELECT sum(CAST(properties.amount_usd AS Float64)) {_INVOICES}",
        f"SELECT sum(CAST(properties.amount_usd AS Float)) {_INVOICES}",
    ),
    Mistake(
        "cast-decimal",
        f"SELECT sum(CAST(properties.amount_usd AS Decimal(10, 2))) {_INVOICES}",
        f"SELECT sum(toDecimal(properties.amount_usd, 2)) {_INVOICES}",
    ),
    Mistake(
        "cast-colons",
        f"SELECT sum(properties.amount_usd::numeric) {_INVOICES}",
        f"SELECT sum(toDecimal(properties.amount_usd, 6)) {_INVOICES}",
    ),
    Mistake(
        "toDateOrNull",
        f"SELECT uniq(toDateOrNull(timestamp)) {_VIEWS}",
        f"SELECT uniq(toDate(timestamp)) {_VIEWS}",
    ),
    Mistake(
        "toDate-zone",
        f"SELECT toDate(timestamp, 'America/New_York') AS day, count() AS n {_VIEWS} GROUP BY day LIMIT 100",
        f"SELECT toDate(toTimeZone(timestamp, 'America/New_York')) AS d, count() AS n {_VIEWS} GROUP BY d LIMIT 100",
    ),
    Mistake(
        "zone-case",
        f"SELECT max(toHour(toTimeZone(timestamp, 'america/new_york'))) {_VIEWS}",
        f"SELECT max(toHour(toTimeZone(timestamp, 'America/New_York'))) {_VIEWS}",
    ),
    Mistake(
        "week-mode",
        f"SELECT toStartOfWeek(timestamp, 'Mon') AS week, count() AS n {_VIEWS} GROUP BY week LIMIT 100",
        f"SELECT toStartOfWeek(timestamp, 1) AS week, count() AS n {_VIEWS} GROUP BY week LIMIT 100",
    ),
    Mistake(
        "cardinality",
        f"SELECT cardinality(groupBitmapState(assumeNotNull(toHour(timestamp)))) {_VIEWS}",
        f"SELECT bitmapCardinality(groupBitmapState(assumeNotNull(toHour(timestamp)))) {_VIEWS}",
    ),
    Mistake(
        "DATEDIFF",
        f"SELECT DATEDIFF(hour, min(timestamp), max(timestamp)) {_VIEWS}",
        f"SELECT dateDiff('hour', min(timestamp), max(timestamp)) {_VIEWS}",
    ),
    Mistake(
        "DATE_TRUNC",
        f"SELECT DATE_TRUNC('week', timestamp) AS week, count() AS n {_VIEWS} GROUP BY week LIMIT 100",
        f"SELECT dateTrunc('week', timestamp) AS week, count() AS n {_VIEWS} GROUP BY week LIMIT 100",
    ),
    Mistake(
        "EXTRACT",
        f"SELECT EXTRACT(MONTH FROM timestamp) AS month, count() AS n {_VIEWS} GROUP BY month LIMIT 100",
        f"SELECT toMonth(timestamp) AS month, count() AS n {_VIEWS} GROUP BY month LIMIT 100",
    ),
    Mistake(
        "quantile",
        f"SELECT quantile(toFloat(properties.load_ms), 0.9) {_VIEWS}",
        f"SELECT quantile(0.9)(toFloat(properties.load_ms)) {_VIEWS}",
    ),
    Mistake(
        "PERCENTILE_CONT",
        f"SELECT PERCENTILE_CONT(0.5) WITHIN GROUP (ORDER BY toFloat(properties.load_ms)) {_VIEWS}",
        f"SELECT quantile(0.5)(toFloat(properties.load_ms)) {_VIEWS}",
    ),
    Mistake(
        "STRING_AGG",
        f"SELECT length(STRING_AGG(properties.plan, ';')) {_INVOICES}",
        f"SELECT length(arrayStringConcat(groupArray(properties.plan), ';')) {_INVOICES}",
    ),
    Mistake(
        "APPROX_COUNT_DISTINCT",
        f"SELECT APPROX_COUNT_DISTINCT(person_id) {_VIEWS}",
        f"SELECT uniq(person_id) {_VIEWS}",
    ),
    Mistake(
        "NVL",
        f"SELECT sum(NVL(properties.seats, 1)) {_INVOICES}",
        f"SELECT sum(ifNull(properties.seats, 1)) {_INVOICES}",
    ),
    # Literals and operators.
    Mistake(
        "like-escape",
        rf"SELECT count() FROM events WHERE event LIKE 'file\_%' AND {_BOUND}",
        f"SELECT count() FROM events WHERE startsWith(event, 'file_') AND {_BOUND}",
    ),
    Mistake(
        "regex-escape",
        rf"SELECT count() {_VIEWS} AND match(properties.$pathname, '^/\w+$')",
        f"SELECT count() {_VIEWS} AND match(properties.$pathname, '^/[A-Za-z0-9_]+$')",
    ),
    Mistake(
        "REGEXP",
        f"SELECT count() {_VIEWS} AND properties.$pathname REGEXP '^/files'",
        f"SELECT count() {_VIEWS} AND startsWith(properties.$pathname, '/files')",
    ),
    Mistake(
        "double-quotes",
        f'SELECT count() FROM events WHERE event = "$pageview" AND {_BOUND}',
        f"SELECT count() {_VIEWS}",
    ),
    Mistake(
        "CURRENT_DATE",
        "SELECT count() FROM events WHERE timestamp >= CURRENT_DATE - INTERVAL 20 DAY",
        "SELECT count() FROM events WHERE timestamp >= today() - INTERVAL 20 DAY",
    ),
    Mistake(
        "interval-days",
        "SELECT count() FROM events WHERE timestamp >= today() - INTERVAL 20 DAYS",
        "SELECT count() FROM events WHERE timestamp >= today() - INTERVAL 20 DAY",
    ),
    Mistake(
        "date-literal",
        "SELECT count() FROM events WHERE timestamp >= DATE '2020-01-01'",
        "SELECT count() FROM events WHERE timestamp >= toDate('2020-01-01')",
    ),
    Mistake(
        "IS-TRUE",
        f"SELECT count() {_UPLOADS} AND properties.encrypted IS TRUE",
        f"SELECT count() {_UPLOADS} AND properties.encrypted = true",
    ),
    Mistake(
        "question-mark",
        f"SELECT count() FROM events WHERE event = ? AND {_BOUND}",
        f"SELECT count() {_VIEWS}",
        values={"value": "$pageview"},
    ),
    Mistake(
        "colon-name",
        f"SELECT count() FROM events WHERE event = :event AND {_BOUND}",
        f"SELECT count() {_VIEWS}",
        values={"event": "$pageview"},
    ),
    Mistake(
        "sum-of-text", f"SELECT sum(properties.$browser) {_VIEWS}", f"SELECT sum(toFloat(properties.$browser)) {_VIEWS}"
    ),
    # Properties and fields.
    Mistake(
        "arrow",
        f"SELECT properties->plan AS plan, count() AS n {_INVOICES} GROUP BY plan LIMIT 100",
        f"SELECT properties.plan AS plan, count() AS n {_INVOICES} GROUP BY plan LIMIT 100",
    ),
    Mistake(
        "arrow-text",
        f"SELECT properties->>'plan' AS plan, count() AS n {_INVOICES} GROUP BY plan LIMIT 100",
        f"SELECT properties.plan AS plan, count() AS n {_INVOICES} GROUP BY plan LIMIT 100",
    ),
    Mistake(
        "JSON_EXTRACT",
        f"SELECT JSON_EXTRACT(properties, '$.plan') AS plan, count() AS n {_INVOICES} GROUP BY plan LIMIT 100",
        f"SELECT properties.plan AS plan, count() AS n {_INVOICES} GROUP BY plan LIMIT 100",
    ),
    Mistake(
        "bare-property",
        f"SELECT max(amount_usd), min(load_ms) FROM events WHERE {_BOUND}",
        f"SELECT max(properties.amount_usd), min(properties.load_ms) FROM events WHERE {_BOUND}",
    ),
    Mistake(
        "odd-property",
        f"SELECT properties.$feature/signup-form AS variant, count() AS n {_VIEWS} GROUP BY variant LIMIT 10",
        f"SELECT properties['$feature/signup-form'] AS variant, count() AS n {_VIEWS} GROUP BY variant LIMIT 10",
    ),
    Mistake(
        "person-field",
        f"SELECT person.plan AS plan, uniq(person_id) AS people {_UPLOADS} GROUP BY plan LIMIT 10",
        f"SELECT person.properties.plan AS plan, uniq(person_id) AS people {_UPLOADS} GROUP BY plan LIMIT 10",
    ),
    Mistake(
        "misspelt-field",
        f"SELECT evnt, count() AS n FROM events WHERE {_BOUND} GROUP BY evnt LIMIT 100",
        f"SELECT event, count() AS n FROM events WHERE {_BOUND} GROUP BY event LIMIT 100",
    ),
    Mistake(
        "event_name",
        f"SELECT event_name, count() AS n FROM events WHERE {_BOUND} GROUP BY event_name LIMIT 100",
        f"SELECT event, count() AS n FROM events WHERE {_BOUND} GROUP BY event LIMIT 100",
    ),
    Mistake("user_id", f"SELECT uniq(user_id) {_VIEWS}", f"SELECT uniq(person_id) {_VIEWS}"),
    Mistake("misspelt-table", "SELECT count() FROM person", "SELECT count() FROM persons"),
    Mistake(
        "users",
        "SELECT plan, count() AS people FROM users GROUP BY plan LIMIT 10",
        "SELECT properties.plan AS plan, count() AS people FROM persons GROUP BY plan LIMIT 10",
    ),
    # Clauses.
    Mistake("semicolon", f"SELECT count() {_VIEWS};", f"SELECT count() {_VIEWS}"),
    Mistake("SETTINGS", f"SELECT count() {_VIEWS} SETTINGS max_threads = 1", f"SELECT count() {_VIEWS}"),
    Mistake("FORMAT", f"SELECT count() {_VIEWS} FORMAT JSON", f"SELECT count() {_VIEWS}"),
    Mistake(
        "where-before-join",
        f"SELECT count() FROM events e WHERE e.event = 'signed_up' AND e.{_BOUND} JOIN ({_PAID}) p "
        "ON e.person_id = p.person_id",
        f"SELECT count() FROM events e JOIN ({_PAID}) p ON e.person_id = p.person_id WHERE e.event = 'signed_up' AND "
        f"e.{_BOUND}",
    ),
    Mistake(
        "join-inequality",
        f"SELECT count() FROM ({_SIGNED}) s JOIN ({_PAID}) p ON s.person_id = p.person_id AND p.at > s.at",
        f"SELECT count() FROM ({_SIGNED}) s JOIN ({_PAID}) p ON s.person_id = p.person_id WHERE p.at > s.at",
    ),
    Mistake(
        "join-persons",
        "SELECT p.properties.plan AS plan, count() AS n FROM events e JOIN persons p ON e.person_id = p.id "
        f"WHERE e.event = 'invoice_paid' AND e.{_BOUND} GROUP BY plan LIMIT 10",
        f"SELECT person.properties.plan AS plan, count() AS n {_INVOICES} GROUP BY plan LIMIT 10",
    ),
    Mistake(
        "missing-group-by",
        f"SELECT properties.plan AS plan, count() {_INVOICES}",
        f"SELECT properties.plan AS plan, count() {_INVOICES} GROUP BY plan LIMIT 10",
    ),
    Mistake(
        "aggregate-in-where",
        f"SELECT properties.plan AS plan, count() AS n {_INVOICES} AND n > 5 GROUP BY plan LIMIT 10",
        f"SELECT properties.plan AS plan, count() AS n {_INVOICES} GROUP BY plan HAVING n > 5 LIMIT 10",
    ),
    Mistake(
        "EXCEPT",
        f"SELECT * EXCEPT (day) FROM {_EACH_DAY} ORDER BY n LIMIT 100",
        f"SELECT n FROM {_EACH_DAY} ORDER BY n LIMIT 100",
    ),
    Mistake(
        "TOP",
        f"SELECT TOP 3 n FROM {_EACH_DAY} ORDER BY n DESC",
        f"SELECT n FROM {_EACH_DAY} ORDER BY n DESC LIMIT 3",
    ),
    Mistake(
        "OFFSET",
        f"SELECT day, n FROM {_EACH_DAY} ORDER BY day LIMIT 10 OFFSET 5",
        f"SELECT day, n FROM {_EACH_DAY} ORDER BY day LIMIT 15",
        skipped=5,
    ),
    Mistake(
        "EXPLAIN",
        f"EXPLAIN SELECT count() {_VIEWS}",
        f"SELECT count() {_VIEWS}",
    ),
    # Queries that work, and are wrong or dangerous.
    Mistake(
        "no-time-bound",
        "SELECT count() FROM events WHERE event = '$pageview'",
        "SELECT count() FROM events WHERE event = '$pageview' AND timestamp >= now() - INTERVAL 30 DAY",
    ),
    Mistake("distinct_id", f"SELECT count(DISTINCT distinct_id) {_VIEWS}", f"SELECT uniq(person_id) {_VIEWS}"),
    Mistake(
        "invented-event",
        f"SELECT count() FROM events WHERE event = 'file_upload' AND {_BOUND}",
        f"SELECT count() {_UPLOADS}",
    ),
    Mistake(
        "invented-property",
        f"SELECT sum(toFloat(properties.amount)) {_INVOICES}",
        f"SELECT sum(toFloat(properties.amount_usd)) {_INVOICES}",
    ),
    Mistake(
        "three-at-once",
        f"SELECT\n  toStartOfMonth(timestamp) AS month,\n  count(*) AS n,\n  sum(toFloat64(amount_usd)) AS usd -- all\n"
        f'FROM events\nWHERE event = "invoice_paid"\n  AND {_BOUND}\nGROUP BY month\nLIMIT 50;',
        "SELECT toStartOfMonth(timestamp) AS month, count() AS n, sum(toFloat(properties.amount_usd)) AS usd "
        f"{_INVOICES} GROUP BY month LIMIT 50",
    ),
)
"""All of them; names are unique, and not those of questions."""
