"""Dates of queries: relative and absolute ones, ranges, and their intervals, over changes of summer time too."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthog_driver.local.dates import DateRange, add, floor, last_moment, parse_date

NEW_YORK = ZoneInfo("America/New_York")
NOW = datetime(2026, 3, 8, 15, 30, 20, 500, tzinfo=NEW_YORK)  # a Sunday; summer time began this night


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("-7d", "2026-03-01T00:00:00-05:00"),
        ("7d", "2026-03-01T00:00:00-05:00"),
        ("+1d", "2026-03-09T00:00:00-04:00"),
        ("-24h", "2026-03-07T14:00:00-05:00"),
        ("-1w", "2026-03-01T00:00:00-05:00"),
        ("-1m", "2026-02-08T00:00:00-05:00"),
        ("-1q", "2025-12-08T00:00:00-05:00"),
        ("-1y", "2025-03-08T00:00:00-05:00"),
        ("-30M", "2026-03-08T15:00:20.000500-04:00"),
        ("-90s", "2026-03-08T15:28:50.000500-04:00"),
        ("d", "2026-03-08T00:00:00-05:00"),
        ("dStart", "2026-03-08T00:00:00-05:00"),
        ("dEnd", "2026-03-08T23:59:59.999999-04:00"),
        ("-1dStart", "2026-03-07T00:00:00-05:00"),
        ("mStart", "2026-03-01T00:00:00-05:00"),
        ("-1mStart", "2026-02-01T00:00:00-05:00"),
        ("-1mEnd", "2026-02-28T23:59:59.999999-05:00"),
        ("qStart", "2026-01-01T00:00:00-05:00"),
        ("yStart", "2026-01-01T00:00:00-05:00"),
        ("-1yEnd", "2025-12-31T23:59:59.999999-05:00"),
        ("hStart", "2026-03-08T15:00:00-04:00"),
        ("2026-01-31", "2026-01-31T00:00:00-05:00"),
        ("2026-01-31 10:30", "2026-01-31T10:30:00-05:00"),
        ("2026-01-31T10:00:00Z", "2026-01-31T05:00:00-05:00"),
        ("2026-01-31T10:00:00.12+02:00", "2026-01-31T03:00:00.120000-05:00"),
    ],
)
def test_a_date_means_a_moment_in_the_zone_of_the_project(text: str, moment: str) -> None:
    assert parse_date(text, NOW).isoformat() == moment


@pytest.mark.parametrize("text", ["", "soon", "-", "7", "-7x", "2026-13-01", "-1dMiddle", "99999999999y"])
def test_what_is_no_date_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="Invalid date"):
        parse_date(text, NOW)


def test_a_day_may_mean_its_end_and_an_exact_date_keeps_the_time() -> None:
    assert parse_date("2026-01-31", NOW, end_of_day=True).isoformat() == "2026-01-31T23:59:59.999999-05:00"
    assert parse_date("-1d", NOW, end_of_day=True).isoformat() == "2026-03-07T23:59:59.999999-05:00"
    assert parse_date("-1d", NOW, exact=True).isoformat() == "2026-03-07T15:30:20.000500-05:00"
    assert parse_date("-1h", NOW, end_of_day=True).isoformat() == "2026-03-08T14:00:00-04:00"


def test_the_last_day_of_a_month_stays_one() -> None:
    moment = datetime(2026, 3, 31, tzinfo=NEW_YORK)
    assert add(moment, -1, "month").date() == date(2026, 2, 28)
    assert add(datetime(2024, 2, 29, tzinfo=NEW_YORK), -1, "year").date() == date(2023, 2, 28)


def test_weeks_start_on_the_day_of_the_project() -> None:
    wednesday = datetime(2026, 3, 11, 9, tzinfo=NEW_YORK)
    assert floor(wednesday, "week", 0).date() == date(2026, 3, 8)
    assert floor(wednesday, "week", 1).date() == date(2026, 3, 9)
    assert last_moment(wednesday, "week", 1).date() == date(2026, 3, 15)


INTERVAL = st.sampled_from(["minute", "hour", "day", "week", "month", "quarter", "year"])
MOMENT = st.datetimes(datetime(1990, 1, 1), datetime(2060, 1, 1)).map(
    lambda naive: naive.replace(tzinfo=timezone.utc).astimezone(NEW_YORK)
)


@given(MOMENT, INTERVAL, st.integers(0, 1))
def test_a_moment_lies_in_its_interval_and_the_start_is_its_own(
    moment: datetime, interval: str, week_start: int
) -> None:
    start = floor(moment, interval, week_start)
    assert start <= moment <= last_moment(moment, interval, week_start)
    assert floor(start, interval, week_start) == start
    assert add(start, 1, interval) - timedelta(microseconds=1) == last_moment(moment, interval, week_start)


@given(MOMENT, st.integers(-400, 400), st.sampled_from(["second", "minute", "hour", "day", "week"]))
def test_adding_and_taking_back_comes_to_the_same_moment(moment: datetime, amount: int, interval: str) -> None:
    there = add(moment, amount, interval)
    if interval in ("second", "minute", "hour"):
        assert add(there, -amount, interval).timestamp() == moment.timestamp()
    else:
        assert add(there, -amount, interval).replace(tzinfo=None) == moment.replace(tzinfo=None)


# ---------------------------------------------------------------------------------------------------------- DateRange


def test_a_query_without_dates_is_about_the_last_week_and_today() -> None:
    found = DateRange.from_query({}, NOW)
    assert (found.date_from, found.date_to) == (parse_date("-7d", NOW), last_moment(NOW, "day"))
    assert len(found.buckets()) == 8


def test_a_range_in_hours_ends_with_this_hour() -> None:
    found = DateRange.from_query({"interval": "hour", "dateRange": {"date_from": "-24h"}}, NOW)
    assert found.date_to == last_moment(NOW, "hour")
    assert len(found.buckets()) == 25


def test_the_hours_of_a_day_of_summer_time_are_twenty_three() -> None:
    query = {"interval": "hour", "dateRange": {"date_from": "2026-03-08", "date_to": "2026-03-08"}}
    assert len(DateRange.from_query(query, NOW).buckets()) == 23
    query["dateRange"] = {"date_from": "2026-11-01", "date_to": "2026-11-01"}
    autumn = [start.astimezone(timezone.utc) for start in DateRange.from_query(query, NOW).buckets()]
    assert len(set(autumn)) == len(autumn) == 25


def test_explicit_dates_are_taken_as_they_are() -> None:
    query = {"dateRange": {"date_from": "-1d", "date_to": "-1h", "explicitDate": True}}
    found = DateRange.from_query(query, NOW)
    assert found.date_from == parse_date("-1d", NOW)
    assert found.is_exact
    assert found.date_to.isoformat() == "2026-03-08T14:30:20.000500-04:00"
    assert DateRange.from_query({"dateRange": {"explicitDate": True}}, NOW).date_to == NOW


@pytest.mark.parametrize(
    ("interval", "date_to", "end"),
    [
        ("day", "2026-03-07T10:00:00", "2026-03-07T23:59:59.999999"),
        ("week", "-1h", "2026-03-08T23:59:59.999999"),
        ("hour", "2026-03-07T10:20:30", "2026-03-07T10:20:30"),
        ("hour", "-1d", "2026-03-07T15:59:59.999999"),
        ("minute", "-1h", "2026-03-08T14:30:59.999999"),
        ("minute", None, "2026-03-08T15:30:59.999999"),
    ],
)
def test_a_range_ends_with_its_day_and_a_relative_one_with_its_hour_or_minute(
    interval: str, date_to: str | None, end: str
) -> None:
    query = {"interval": interval, "dateRange": {"date_from": "-2d", "date_to": date_to}}
    assert DateRange.from_query(query, NOW).date_to.replace(tzinfo=None).isoformat() == end


@pytest.mark.parametrize(
    ("interval", "date_from", "first"),
    [
        ("day", "2026-02-12T10:00:00", "2026-02-12T00:00:00"),
        ("week", "2026-02-12", "2026-02-12T00:00:00"),
        ("month", "2026-02-12", "2026-02-01T00:00:00"),
        ("day", "-48h", "2026-03-06T14:00:00"),
        ("hour", "-48h", "2026-03-06T14:00:00"),
        ("week", "-48h", "2026-03-06T00:00:00"),
    ],
)
def test_what_counts_begins_with_the_first_interval_but_with_the_first_day_of_a_week(
    interval: str, date_from: str, first: str
) -> None:
    found = DateRange.from_query({"interval": interval, "dateRange": {"date_from": date_from}}, NOW)
    assert found.first_counted.replace(tzinfo=None).isoformat() == first


def test_a_range_to_now_keeps_the_time_of_day() -> None:
    found = DateRange.from_query({"dateRange": {"date_from": "-7d"}}, NOW, to_now=True)
    assert (found.date_from, found.date_to) == (NOW - timedelta(days=7), NOW)
    assert found.first_counted == found.date_from
    assert DateRange.from_query({}, NOW, to_now=True).date_from == parse_date("-7d", NOW)


def test_the_last_seven_days_are_compared_with_the_same_days_of_the_week_before() -> None:
    for dates in ({}, {"date_from": "-7d"}):
        before = DateRange.from_query({"dateRange": dates}, NOW).previous()
        assert before.date_from == parse_date("-14d", NOW)
        assert before.date_to == last_moment(parse_date("-7d", NOW), "day")
    six = DateRange.from_query({"dateRange": {"date_from": "-6d"}}, NOW).previous()
    assert six.date_from == parse_date("-13d", NOW)


def test_hours_of_days_are_compared_with_the_same_hours_before() -> None:
    found = DateRange.from_query({"interval": "hour", "dateRange": {"date_from": "-2d"}}, NOW)
    before = found.previous()
    assert before.date_from == parse_date("-5d", NOW)
    assert before.date_to - before.date_from == found.date_to - found.date_from


def test_all_begins_with_the_day_of_the_first_event() -> None:
    first = datetime(2026, 1, 5, 13, tzinfo=NEW_YORK)
    query = {"dateRange": {"date_from": "all"}}
    assert DateRange.from_query(query, NOW, earliest=first).date_from == floor(first, "day")
    assert DateRange.from_query(query, NOW).date_from == floor(NOW, "day")


def test_a_range_that_ends_before_it_begins_is_refused() -> None:
    with pytest.raises(ValueError, match="before it begins"):
        DateRange.from_query({"dateRange": {"date_from": "2026-02-01", "date_to": "2026-01-01"}}, NOW)


def test_the_previous_range_is_as_long_and_ends_where_this_one_begins() -> None:
    days = DateRange.from_query({"dateRange": {"date_from": "2026-03-02", "date_to": "2026-03-08"}}, NOW)
    before = days.previous()
    assert (before.date_from.date(), before.date_to.date()) == (date(2026, 2, 23), date(2026, 3, 1))
    hours = DateRange.from_query({"interval": "hour", "dateRange": {"date_from": "-5h"}}, NOW)
    assert hours.previous().date_to == hours.date_from - timedelta(microseconds=1)


def test_a_range_can_be_compared_with_itself_as_long_ago_as_one_likes() -> None:
    found = DateRange.from_query({"dateRange": {"date_from": "2026-03-02", "date_to": "2026-03-08"}}, NOW)
    assert found.previous("-1y").date_from.date() == date(2025, 3, 2)
    assert found.previous("-2w").date_to.date() == date(2026, 2, 22)
    march = DateRange.from_query({"dateRange": {"date_from": "2026-03-01", "date_to": "2026-03-31"}}, NOW)
    assert march.previous("-1m").date_to.date() == date(2026, 3, 3)
    for text in ("last year", "-1yStart", "y"):
        with pytest.raises(ValueError, match="Invalid date"):
            found.previous(text)


def test_a_range_of_too_many_intervals_is_refused() -> None:
    found = DateRange.from_query({"interval": "minute", "dateRange": {"date_from": "2020-01-01"}}, NOW)
    with pytest.raises(ValueError, match="more than 50000 intervals of a minute"):
        found.buckets()


@given(MOMENT, st.integers(0, 200), st.sampled_from(["hour", "day", "week", "month"]), st.integers(0, 1))
def test_the_intervals_of_a_range_follow_each_other_without_a_gap(
    begin: datetime, days: int, interval: str, week_start: int
) -> None:
    found = DateRange(begin, begin + timedelta(days=days), interval, week_start).buckets()
    assert found[0] == floor(begin, interval, week_start)
    moments = [start.timestamp() for start in found]
    assert moments == sorted(set(moments))
    for start, following in pairwise(found):
        assert add(start, 1, interval).timestamp() == following.timestamp()
