"""The questions, with a reference for each and the rows that are right."""

from __future__ import annotations

import datetime as dt
import statistics
from collections import Counter
from collections.abc import Iterable

from evals.question import Question, amount_by, count_of, how_many_by, sql, users_by
from evals.scoring import Row
from evals.typed import TYPED
from evals.world import Event, World, counted, people_by

__all__ = ["QUESTIONS"]


def _numbers(world: World, event: str, key: str) -> list[float]:
    return [float(seen.p[key]) for seen in world.of(event) if key in seen.p]


def _level(values: Iterable[float], level: float) -> float:
    """The quantile with linear interpolation."""
    ordered = sorted(values)
    at = level * (len(ordered) - 1)
    low = int(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (at - low)


def _share(part: float, whole: int) -> list[Row]:
    return [(part / whole,)]


def _days_of(events: list[Event]) -> list[Row]:
    return counted(event.day for event in events)


def _day_to_day(world: World) -> list[Row]:
    days = sorted(counted(event.day for event in world.of("$pageview", "back30")))
    return [(day, n, days[at - 1][1] if at else None) for at, (day, n) in enumerate(days)]


def _running_total(world: World) -> list[Row]:
    total, found = 0, []
    for month, number in sorted(counted(event.month for event in world.of("signed_up"))):
        total += number
        found.append((month, total))
    return found


def _first_upload_seconds(world: World) -> list[Row]:
    signed, uploaded = world.first_of("signed_up"), world.first_of("file_uploaded")
    waits = [(uploaded[who] - at).total_seconds() for who, at in signed.items() if who in uploaded]
    return [(statistics.mean(wait for wait in waits if wait >= 0),)]


def _upgraded_within_a_week(world: World) -> list[Row]:
    signed, upgraded = world.first_of("signed_up"), world.first_of("plan_upgraded")
    week = dt.timedelta(days=7)
    return [(sum(dt.timedelta(0) <= upgraded[who] - at <= week for who, at in signed.items() if who in upgraded),)]


def _sessions_of(world: World) -> list[list[Event]]:
    found: dict[str, list[Event]] = {}
    for event in world.events:
        if "$session_id" in event.p:
            found.setdefault(event.p["$session_id"], []).append(event)
    return list(found.values())


def _bytes(world: World) -> list[Row]:
    sizes: Counter[str] = Counter()
    for event in world.of("file_uploaded"):
        sizes[event.p["file_type"]] += event.p["size_mb"]
    return list(sizes.items())


def _uploads_each(world: World) -> Counter[str]:
    return Counter(event.person for event in world.of("file_uploaded"))


def _conversion(world: World) -> list[Row]:
    variants = world.truth["experiment"]["variants"]
    return [(name, seen["exposed"], seen["signed_up"]) for name, seen in variants.items()]


_PERSON_EVENTS = "FROM events WHERE event = 'file_uploaded' AND ALL_TIME GROUP BY person_id"

QUESTIONS: tuple[Question, ...] = (
    count_of("signed_up"),
    count_of("signed_up", "back30"),
    count_of("file_uploaded"),
    count_of("file_uploaded", "back7"),
    count_of("$pageview", "back30"),
    count_of("link_shared", "back60"),
    how_many_by("$pageview", "$pathname"),
    how_many_by("$pageview", "$browser", "back30"),
    how_many_by("$pageview", "$device_type"),
    how_many_by("signed_up", "signup_method"),
    how_many_by("file_uploaded", "file_type"),
    how_many_by("teammate_invited", "role"),
    how_many_by("plan_upgraded", "to_plan"),
    how_many_by("invoice_paid", "plan"),
    how_many_by("$autocapture", "$el_text"),
    how_many_by("signed_up", "utm_source"),
    users_by("$os"),
    users_by("$browser"),
    users_by("$geoip_country_code"),
    users_by("$referring_domain"),
    users_by("file_type", "file_downloaded"),
    amount_by("plan"),
    amount_by("$geoip_country_code"),
    sql(
        "events-by-name",
        "Which events exist, and how often was each sent in all the data?",
        "SELECT event, count() AS n FROM events WHERE ALL_TIME GROUP BY event ORDER BY n DESC LIMIT 100",
        lambda world: list(world.truth["event_counts"].items()),
    ),
    sql(
        "total-events",
        "How many events are there in all?",
        "SELECT count() FROM events WHERE ALL_TIME",
        lambda world: [(world.truth["events"],)],
    ),
    sql(
        "active-people",
        "How many different people sent at least one event?",
        "SELECT uniq(person_id) FROM events WHERE ALL_TIME",
        lambda world: [(len(world.people()),)],
    ),
    sql(
        "sessions",
        "How many sessions were there in all?",
        "SELECT uniq(properties.$session_id) FROM events WHERE ALL_TIME",
        lambda world: [(world.truth["sessions"],)],
    ),
    sql(
        "uploaders-last-week",
        "How many different people uploaded a file from {back7} on, that day included?",
        "SELECT uniq(person_id) FROM events WHERE event = 'file_uploaded' AND timestamp >= toDateTime({back7})",
        lambda world: [(len(world.people("file_uploaded", "back7")),)],
    ),
    sql(
        "revenue",
        "What is the total amount_usd of all paid invoices?",
        "SELECT sum(toFloat(properties.amount_usd)) FROM events WHERE event = 'invoice_paid' AND ALL_TIME",
        lambda world: [(sum(_numbers(world, "invoice_paid", "amount_usd")),)],
    ),
    sql(
        "average-invoice",
        "What is the average amount_usd of a paid invoice?",
        "SELECT avg(toFloat(properties.amount_usd)) FROM events WHERE event = 'invoice_paid' AND ALL_TIME",
        lambda world: [(statistics.mean(_numbers(world, "invoice_paid", "amount_usd")),)],
    ),
    sql(
        "revenue-by-month",
        "What was the revenue (amount_usd of invoice_paid) by month? Give the first day of each month.",
        "SELECT toStartOfMonth(timestamp) AS month, sum(toFloat(properties.amount_usd)) AS revenue FROM events "
        "WHERE event = 'invoice_paid' AND ALL_TIME GROUP BY month ORDER BY month LIMIT 100",
        lambda world: [
            (month, sum(seen.p["amount_usd"] for seen in world.of("invoice_paid") if seen.month == month))
            for month in {seen.month for seen in world.of("invoice_paid")}
        ],
    ),
    sql(
        "average-upload",
        "How many megabytes (size_mb) has an uploaded file on average?",
        "SELECT avg(toFloat(properties.size_mb)) FROM events WHERE event = 'file_uploaded' AND ALL_TIME",
        lambda world: [(statistics.mean(_numbers(world, "file_uploaded", "size_mb")),)],
    ),
    sql(
        "largest-upload",
        "How many megabytes (size_mb) has the largest uploaded file?",
        "SELECT max(toFloat(properties.size_mb)) FROM events WHERE event = 'file_uploaded' AND ALL_TIME",
        lambda world: [(max(_numbers(world, "file_uploaded", "size_mb")),)],
    ),
    sql(
        "median-load",
        "What is the median load_ms of a $pageview?",
        "SELECT median(toFloat(properties.load_ms)) FROM events WHERE event = '$pageview' AND ALL_TIME",
        lambda world: [(statistics.median(_numbers(world, "$pageview", "load_ms")),)],
    ),
    sql(
        "slow-load",
        "What is the 90th percentile of load_ms of $pageview?",
        "SELECT quantile(0.9)(toFloat(properties.load_ms)) FROM events WHERE event = '$pageview' AND ALL_TIME",
        lambda world: [(_level(_numbers(world, "$pageview", "load_ms"), 0.9),)],
    ),
    sql(
        "megabytes-by-type",
        "How many megabytes (size_mb) were uploaded of each file_type?",
        "SELECT properties.file_type AS file_type, sum(toFloat(properties.size_mb)) AS mb FROM events "
        "WHERE event = 'file_uploaded' AND ALL_TIME GROUP BY file_type LIMIT 100",
        _bytes,
    ),
    sql(
        "encrypted-share",
        "Which share (0 to 1) of the uploaded files was encrypted?",
        "SELECT countIf(properties.encrypted = true) / count() FROM events WHERE event = 'file_uploaded' AND ALL_TIME",
        lambda world: _share(sum(_numbers(world, "file_uploaded", "encrypted")), len(world.of("file_uploaded"))),
    ),
    sql(
        "newsletter-share",
        "Which share (0 to 1) of the sign-ups wanted the newsletter?",
        "SELECT countIf(properties.newsletter = true) / count() FROM events WHERE event = 'signed_up' AND ALL_TIME",
        lambda world: _share(sum(_numbers(world, "signed_up", "newsletter")), len(world.of("signed_up"))),
    ),
    sql(
        "protected-links",
        "How many shared links needed a password, and how many did not?",
        "SELECT properties.password_protected AS protected, count() AS n FROM events WHERE event = 'link_shared' AND "
        "ALL_TIME GROUP BY protected LIMIT 10",
        lambda world: counted(seen.p["password_protected"] for seen in world.of("link_shared")),
    ),
    sql(
        "recipients",
        "How many recipients has a shared link on average?",
        "SELECT avg(toFloat(properties.recipients)) FROM events WHERE event = 'link_shared' AND ALL_TIME",
        lambda world: [(statistics.mean(_numbers(world, "link_shared", "recipients")),)],
    ),
    sql(
        "upgraded-seats",
        "How many seats were bought with plan upgrades?",
        "SELECT sum(toFloat(properties.seats)) FROM events WHERE event = 'plan_upgraded' AND ALL_TIME",
        lambda world: [(sum(_numbers(world, "plan_upgraded", "seats")),)],
    ),
    sql(
        "first-upgrade",
        "On which day was the first plan upgrade?",
        "SELECT toDate(min(timestamp)) FROM events WHERE event = 'plan_upgraded' AND ALL_TIME",
        lambda world: [(world.of("plan_upgraded")[0].day,)],
    ),
    sql(
        "weekday",
        "How many file_uploaded events fell on each day of the week (1 is Monday)?",
        "SELECT toDayOfWeek(timestamp) AS weekday, count() AS n FROM events WHERE event = 'file_uploaded' AND ALL_TIME "
        "GROUP BY weekday ORDER BY weekday LIMIT 7",
        lambda world: counted(seen.time.isoweekday() for seen in world.of("file_uploaded")),
    ),
    sql(
        "hours",
        "How many logged_in events fell on each hour of the day (UTC)?",
        "SELECT toHour(timestamp) AS hour, count() AS n FROM events WHERE event = 'logged_in' AND ALL_TIME "
        "GROUP BY hour ORDER BY hour LIMIT 24",
        lambda world: counted(seen.time.hour for seen in world.of("logged_in")),
    ),
    sql(
        "daily-pageviews",
        "How many $pageview events were there on each day from {back7} on, that day included?",
        "SELECT toDate(timestamp) AS day, count() AS n FROM events WHERE event = '$pageview' AND "
        "timestamp >= toDateTime({back7}) GROUP BY day ORDER BY day LIMIT 100",
        lambda world: _days_of(world.of("$pageview", "back7")),
    ),
    sql(
        "daily-people",
        "How many different people were active on each day from {back7} on, that day included?",
        "SELECT toDate(timestamp) AS day, uniq(person_id) AS people FROM events WHERE "
        "timestamp >= toDateTime({back7}) GROUP BY day ORDER BY day LIMIT 100",
        lambda world: people_by(world.of(None, "back7"), lambda seen: seen.day),
    ),
    sql(
        "weekly-people",
        "How many different people were active in each week (give its Monday), in all the data?",
        "SELECT toStartOfWeek(timestamp, 1) AS week, uniq(person_id) AS people FROM events WHERE ALL_TIME "
        "GROUP BY week ORDER BY week LIMIT 100",
        lambda world: people_by(world.events, lambda seen: seen.monday),
    ),
    sql(
        "weekly-signups",
        "How many sign-ups were there in each week (give its Monday)? Leave out weeks without any.",
        "SELECT toStartOfWeek(timestamp, 1) AS week, count() AS n FROM events WHERE event = 'signed_up' AND ALL_TIME "
        "GROUP BY week ORDER BY week LIMIT 100",
        lambda world: counted(seen.monday for seen in world.of("signed_up")),
    ),
    sql(
        "running-total",
        "How many people had signed up by the end of each month? Give the first day of the month and the total so far.",
        "SELECT month, sum(n) OVER (ORDER BY month) AS total FROM (SELECT toStartOfMonth(timestamp) AS month, "
        "count() AS n FROM events WHERE event = 'signed_up' AND ALL_TIME GROUP BY month) ORDER BY month LIMIT 100",
        _running_total,
    ),
    sql(
        "day-to-day",
        "For each day with $pageview events from {back30} on: how many, and how many on the day with some before it? "
        "NULL for the first.",
        "SELECT day, n, lagInFrame(toNullable(n)) OVER (ORDER BY day ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED "
        "FOLLOWING) AS before FROM (SELECT toDate(timestamp) AS day, count() AS n FROM events WHERE "
        "event = '$pageview' AND timestamp >= toDateTime({back30}) GROUP BY day) ORDER BY day LIMIT 100",
        _day_to_day,
    ),
    sql(
        "heavy-uploaders",
        "How many people uploaded more than 10 files?",
        f"SELECT count() FROM (SELECT person_id, count() AS n {_PERSON_EVENTS} HAVING n > 10)",
        lambda world: [(sum(n > 10 for n in _uploads_each(world).values()),)],
    ),
    sql(
        "uploads-each",
        "How many files did those who uploaded any upload on average?",
        f"SELECT avg(n) FROM (SELECT count() AS n {_PERSON_EVENTS})",
        lambda world: [(statistics.mean(_uploads_each(world).values()),)],
    ),
    sql(
        "most-uploads",
        "How many files did the three people who uploaded most upload? Three numbers.",
        f"SELECT count() AS n {_PERSON_EVENTS} ORDER BY n DESC LIMIT 3",
        lambda world: [(n,) for _, n in _uploads_each(world).most_common(3)],
    ),
    sql(
        "never-uploaded",
        "How many people signed up and never uploaded a file?",
        "SELECT count() FROM (SELECT person_id FROM events WHERE event IN ('signed_up', 'file_uploaded') AND ALL_TIME "
        "GROUP BY person_id HAVING countIf(event = 'signed_up') > 0 AND countIf(event = 'file_uploaded') = 0)",
        lambda world: [(len(world.people("signed_up") - world.people("file_uploaded")),)],
    ),
    sql(
        "uploaded-and-shared",
        "How many people both uploaded a file and shared a link?",
        "SELECT count() FROM (SELECT person_id FROM events WHERE event IN ('link_shared', 'file_uploaded') AND "
        "ALL_TIME GROUP BY person_id HAVING uniq(event) = 2)",
        lambda world: [(len(world.people("link_shared") & world.people("file_uploaded")),)],
    ),
    sql(
        "wait-for-upload",
        "Of the people who signed up and later uploaded a file: how many seconds passed on average between the two?",
        "SELECT avg(dateDiff('millisecond', signed, uploaded) / 1000) FROM (SELECT person_id, "
        "minIf(timestamp, event = 'signed_up') AS signed, minIf(timestamp, event = 'file_uploaded') AS uploaded, "
        "countIf(event = 'signed_up') AS s, countIf(event = 'file_uploaded') AS u FROM events WHERE "
        "event IN ('signed_up', 'file_uploaded') AND ALL_TIME GROUP BY person_id) "
        "WHERE s > 0 AND u > 0 AND uploaded >= signed",
        _first_upload_seconds,
    ),
    sql(
        "upgraded-in-a-week",
        "How many people upgraded their plan within 7 days of signing up?",
        "SELECT count() FROM (SELECT person_id, minIf(timestamp, event = 'signed_up') AS signed, "
        "minIf(timestamp, event = 'plan_upgraded') AS upgraded FROM events WHERE event IN ('signed_up', "
        "'plan_upgraded') AND ALL_TIME GROUP BY person_id HAVING uniq(event) = 2) "
        "WHERE upgraded >= signed AND upgraded <= signed + INTERVAL 7 DAY",
        _upgraded_within_a_week,
    ),
    sql(
        "views-per-session",
        "How many $pageview events has a session on average? Count sessions without any, too.",
        "SELECT countIf(event = '$pageview') / uniq(properties.$session_id) FROM events WHERE ALL_TIME",
        lambda world: _share(len(world.of("$pageview")), len(_sessions_of(world))),
    ),
    sql(
        "session-starts",
        "With which event did how many sessions begin? Use the earliest event of each session.",
        "SELECT first, count() AS n FROM (SELECT argMin(event, timestamp) AS first FROM events WHERE ALL_TIME GROUP BY "
        "properties.$session_id) GROUP BY first LIMIT 100",
        lambda world: counted(session[0].name for session in _sessions_of(world)),
    ),
    sql(
        "experiment",
        "The flag signup-form is an experiment. For each variant (property '$feature/signup-form'): how many people "
        "opened /signup, and how many of all signed up?",
        "SELECT properties['$feature/signup-form'] AS variant, uniqIf(person_id, event = '$feature_flag_called') AS "
        "exposed, uniqIf(person_id, event = 'signed_up') AS signed FROM events WHERE event IN "
        "('$feature_flag_called', 'signed_up') AND ALL_TIME GROUP BY variant LIMIT 10",
        _conversion,
    ),
    sql(
        "people-by-plan",
        "How many people are on each plan now (person property plan; NULL for those without)?",
        "SELECT properties.plan AS plan, count() AS people FROM persons GROUP BY plan LIMIT 100",
        lambda world: counted(person.get("plan") for person in world.persons.values()),
    ),
    sql(
        "paying-people",
        "How many people are paying now (person property is_paying)?",
        "SELECT count() FROM persons WHERE properties.is_paying = true",
        lambda world: [(world.truth["cohorts"]["Paying customers"],)],
    ),
    sql(
        "people-in-companies",
        "How many people belong to a company (person property company is set)?",
        "SELECT count() FROM persons WHERE properties.company IS NOT NULL",
        lambda world: [(world.truth["cohorts"]["People in companies"],)],
    ),
    sql(
        "companies-by-plan",
        "How many companies (groups) are on each plan, and how many employees have they together?",
        "SELECT properties.plan AS plan, count() AS companies, sum(toFloat(properties.employees)) AS employees "
        "FROM groups GROUP BY plan LIMIT 100",
        lambda world: [
            (plan, len(each), sum(each))
            for plan in {company["plan"] for company in world.companies}
            for each in [[company["employees"] for company in world.companies if company["plan"] == plan]]
        ],
    ),
    *TYPED,
)
"""All questions; names are unique."""
