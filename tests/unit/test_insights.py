"""Product questions: what plain arguments become, what is refused and how, and how answers become rows."""

from __future__ import annotations

import datetime
import itertools
import json
import logging
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthog_driver import PostHogClient, PostHogConfig, ResponseFormatError, ValidationError
from posthog_driver._insight_arguments import date_range, owned, property_filters, window
from posthog_driver._models import ApiRequest
from posthog_driver.endpoints import QueryOptions, plan_ask
from posthog_driver.insights import (
    EVERY,
    MEASURES,
    ORDERS,
    OTHER,
    parse_funnel,
    parse_lifecycle,
    parse_paths,
    parse_retention,
    parse_stickiness,
    parse_trends,
    plan_funnel,
    plan_lifecycle,
    plan_paths,
    plan_retention,
    plan_stickiness,
    plan_trends,
)
from posthog_driver.testing import FakeClock, StubAdapter

SCHEMA = os.environ.get("POSTHOG_QUERY_SCHEMA")
UTC = datetime.timezone.utc
NOON = datetime.datetime(2026, 11, 20, 12, tzinfo=UTC)
DAY = datetime.date(2026, 11, 5)
NULL = "$$_posthog_breakdown_null_$$"
WHERE: dict[str, Any] = {"$browser": ["Chrome", "Safari"], "person.plan": "pro", "session.$is_bounce": False, "x": None}


def sent(node: dict[str, Any]) -> ApiRequest:
    return plan_ask("1", node, QueryOptions(query_id="q"))


class TestTrends:
    def test_of_one_event_count_its_users_each_day_of_the_last_thirty(self) -> None:
        assert plan_trends("signed_up") == {
            "kind": "TrendsQuery",
            "series": [{"kind": "EventsNode", "event": "signed_up", "math": "dau"}],
            "interval": "day",
            "dateRange": {"date_from": "-30d"},
        }

    def test_are_split_filtered_and_compared(self) -> None:
        node = plan_trends(
            ["a", {"event": "b", "where": {"size": 3}}, None],
            measure="p90",
            of="session.$session_duration",
            every="week",
            since=DAY,
            until="-1d",
            by="person.plan",
            by_limit=5,
            where={"$browser": "Chrome"},
            compare=True,
        )
        math = {"math": "p90", "math_property": "$session_duration", "math_property_type": "session_properties"}
        assert node == {
            "kind": "TrendsQuery",
            "series": [
                {"kind": "EventsNode", "event": "a", **math},
                {
                    "kind": "EventsNode",
                    "event": "b",
                    "properties": [{"key": "size", "type": "event", "operator": "exact", "value": [3]}],
                    **math,
                },
                {"kind": "EventsNode", "event": None, **math},
            ],
            "interval": "week",
            "dateRange": {"date_from": "2026-11-05", "date_to": "-1d"},
            "properties": [{"key": "$browser", "type": "event", "operator": "exact", "value": ["Chrome"]}],
            "breakdownFilter": {"breakdown": "plan", "breakdown_type": "person", "breakdown_limit": 5},
            "compareFilter": {"compare": True},
        }

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            ({"measure": "user"}, "measure is 'events', 'users', .* not 'user'. Did you mean 'users'?"),
            ({"measure": 5}, r"measure is .*, not 5\. Nothing"),
            ({"measure": "sum"}, "measure='sum' needs the property it is computed of"),
            ({"of": "amount"}, "measure='users' has no property to be measured of: leave out of='amount'"),
            ({"measure": "sum", "of": "person."}, "of names no property"),
            ({"every": "days"}, "every is 'hour', 'day', 'week' or 'month', not 'days'. Did you mean 'day'?"),
            ({"by": 5}, "by is the name of a property"),
            ({"by": "person.properties.plan"}, "by is written without 'properties.': 'person.plan'"),
            ({"by": "properties.plan"}, "by is written without 'properties.': 'plan'"),
            ({"by": "x", "by_limit": 0}, "by_limit is a whole number from 1 to 1,000, not 0"),
            ({"by": "x", "by_limit": True}, "by_limit is a whole number"),
            ({"compare": "yes"}, "compare is True or False, not 'yes'"),
            ({"where": ["x"]}, "where is a dict of properties and values, not a list"),
            ({"where": {"x": []}}, "an empty list is nothing to equal"),
            ({"where": {"x": {"gt": 5}}}, "where takes text, numbers, .* write HogQL"),
            ({"where": {"x": [None]}}, "where takes text"),
            ({"where": {"x": float("nan")}}, "where takes text"),
            ({"where": {"": 1}}, "A key of where is the name of a property"),
            ({"where": {5: 1}}, "A key of where is the name of a property"),
            ({"since": "last week"}, r"since is text such as '-30d' .*, not 'last week'"),
            ({"since": 5}, "since is a date, a datetime or text, not a int"),
            ({"until": "all"}, "until is text such as"),
            ({"until": "2026-02-30"}, "until is text such as"),
        ],
    )
    def test_refuse_what_cannot_be_meant_and_say_what_can(self, arguments: dict[str, Any], words: str) -> None:
        with pytest.raises(ValidationError, match=words) as caught:
            plan_trends("a", **arguments)
        assert str(caught.value).endswith(" Nothing was sent.")

    @pytest.mark.parametrize(
        ("events", "words"),
        [
            ([], "events takes 1 to 26 events, not 0"),
            (["a"] * 27, "events takes 1 to 26 events, not 27"),
            ("", "events takes names of events"),
            ([["a"]], "events takes names of events"),
            ([{"where": {}}], "An entry of events has no 'event'"),
            ([{"event": "a", "were": {}}], "A key of events is 'event' or 'where', not 'were'. Did you mean 'where'?"),
        ],
    )
    def test_refuse_what_is_no_event(self, events: Any, words: str) -> None:
        with pytest.raises(ValidationError, match=words):
            plan_trends(events)

    def test_become_a_row_for_each_series_and_interval(self) -> None:
        request = sent(plan_trends(["a", "b"], measure="events"))
        answer = {
            "results": [
                {"action": {"order": 0}, "label": "a", "days": ["2026-11-19", "2026-11-20"], "data": [1.0, 2]},
                {"action": {"order": 1}, "label": "b", "days": ["2026-11-19", "2026-11-20"], "data": [0, 5.0]},
            ],
            "hasMore": False,
            "is_cached": True,
            "last_refresh": "2026-11-20T10:00:00Z",
            "timezone": "Europe/Prague",
        }
        result = parse_trends(answer, request, 1.5)
        assert result == [
            {"time": "2026-11-19", "event": "a", "value": 1},
            {"time": "2026-11-20", "event": "a", "value": 2},
            {"time": "2026-11-19", "event": "b", "value": 0},
            {"time": "2026-11-20", "event": "b", "value": 5},
        ]
        assert [type(row["value"]) for row in result] == [int] * 4
        assert (result.columns, result.types) == (["time", "event", "value"], ["Date", "String", "Int64"])
        assert (result.truncated, result.is_cached, result.query_id) == (False, True, "q")
        assert (result.last_refresh, result.info.timezone) == ("2026-11-20T10:00:00Z", "Europe/Prague")
        assert result.info.elapsed == 1.5

    def test_tell_breakdown_and_period_and_warn_of_the_rest(self, caplog: pytest.LogCaptureFixture) -> None:
        request = sent(plan_trends("a", measure="avg", of="x", every="hour", by="plan", compare=True))

        def line(value: Any, label: str, number: float) -> dict[str, Any]:
            told = {"breakdown_value": value, "compare_label": label, "action": {"order": 0}}
            return {**told, "days": ["2026-11-20 13:00:00"], "data": [number]}

        lines = [line("pro", "current", 0.5), line([NULL], "current", 1.0), line("", "previous", 0)]
        result = parse_trends({"results": lines}, request)
        assert [(row["breakdown"], row["period"], row["value"]) for row in result] == [
            ("pro", "current", 0.5),
            (None, "current", 1.0),
            (None, "previous", 0),
        ]
        assert result.columns == ["time", "event", "breakdown", "period", "value"]
        assert (result.types[0], result.types[-1], result[0]["time"]) == ("String", "Float64", "2026-11-20 13:00:00")
        assert (result.truncated, caplog.records) == (False, [])

        result = parse_trends({"results": [line(OTHER, "current", 7.0)], "hasMore": True}, request)
        assert (result[0]["breakdown"], result.truncated) == (OTHER, True)
        assert [record.levelno for record in caplog.records] == [logging.WARNING]
        assert "raise by_limit" in caplog.text

    def test_number_the_same_event_with_other_filters(self) -> None:
        request = sent(plan_trends([{"event": "a", "where": {"x": 1}}, "a", None]))
        lines = [{"action": {"order": order}, "days": ["2026-11-20"], "data": [order]} for order in (2, 1, 0)]
        rows = parse_trends({"results": lines}, request)
        assert [(row["event"], row["value"]) for row in rows] == [("any event", 2), ("a_2", 1), ("a", 0)]


class TestFunnels:
    STEPS = ("a", {"event": "b", "where": {"x": 1}}, "c")

    def test_have_steps_an_order_and_a_window(self) -> None:
        assert plan_funnel(self.STEPS, order="any", since=None) == {
            "kind": "FunnelsQuery",
            "series": [
                {"kind": "EventsNode", "event": "a"},
                {
                    "kind": "EventsNode",
                    "event": "b",
                    "properties": [{"key": "x", "type": "event", "operator": "exact", "value": [1]}],
                },
                {"kind": "EventsNode", "event": "c"},
            ],
            "funnelsFilter": {
                "funnelWindowInterval": 14,
                "funnelWindowIntervalUnit": "day",
                "funnelOrderType": "unordered",
                "funnelVizType": "steps",
            },
        }

    @pytest.mark.parametrize(
        ("steps", "arguments", "words"),
        [
            (["a"], {}, "steps takes 2 to 30 events, not 1"),
            ("a", {}, "steps takes 2 to 30 events, not 1"),
            (["a", "b"], {"order": "strictly"}, "order is .* Did you mean 'strict'?"),
            (["a", "b"], {"within": "30m"}, "could mean minutes or months: write '30min' or '30mo'"),
            (["a", "b"], {"within": "14"}, "within is a timedelta or text such as '14d'"),
            (["a", "b"], {"within": "0d"}, "within is a timedelta or text"),
            (["a", "b"], {"within": 14}, "within is a timedelta or text"),
            (["a", "b"], {"within": datetime.timedelta(0)}, "within is at least a second"),
            (["a", "b"], {"within": datetime.timedelta(seconds=1.5)}, "whole seconds"),
        ],
    )
    def test_refuse_what_cannot_be_meant(self, steps: Any, arguments: dict[str, Any], words: str) -> None:
        with pytest.raises(ValidationError, match=words):
            plan_funnel(steps, **arguments)

    @staticmethod
    def answer(*counts: int, **more: Any) -> list[dict[str, Any]]:
        seconds = [None, 60.5, 2]
        return [
            {"count": n, "median_conversion_time": s, **more}
            for n, s in zip(counts, seconds[: len(counts)], strict=True)
        ]

    def test_become_a_row_for_each_step_with_its_shares(self) -> None:
        result = parse_funnel({"results": self.answer(40, 20, 5)}, sent(plan_funnel(self.STEPS)))
        assert result == [
            {
                "step": 1,
                "event": "a",
                "people": 40,
                "share_of_first": 1.0,
                "share_of_previous": None,
                "median_seconds": None,
            },
            {
                "step": 2,
                "event": "b",
                "people": 20,
                "share_of_first": 0.5,
                "share_of_previous": 0.5,
                "median_seconds": 60.5,
            },
            {
                "step": 3,
                "event": "c",
                "people": 5,
                "share_of_first": 0.125,
                "share_of_previous": 0.25,
                "median_seconds": 2,
            },
        ]
        assert len(result.types) == len(result.columns) == 6

    @pytest.mark.parametrize("results", [[], [{"count": 0, "median_conversion_time": None}] * 3])
    def test_that_nobody_entered_have_steps_of_nobody(self, results: list[Any]) -> None:
        rows = parse_funnel({"results": results}, sent(plan_funnel(self.STEPS)))
        assert [(row["people"], row["share_of_first"], row["share_of_previous"]) for row in rows] == [
            (0, None, None)
        ] * 3

    def test_in_any_order_count_how_many_steps_were_taken(self) -> None:
        rows = parse_funnel({"results": self.answer(4, 2, 1)}, sent(plan_funnel(self.STEPS, order="any")))
        assert [row["event"] for row in rows] == ["any 1 of 3", "any 2 of 3", "any 3 of 3"]

    def test_are_split_and_only_the_rest_is_called_other(self) -> None:
        request = sent(plan_funnel(["a", "b"], by="plan", by_limit=2))
        split = [
            self.answer(4, 2, breakdown_value=["pro"]),
            self.answer(3, 1, breakdown_value=[""]),
            self.answer(9, 1, breakdown_value=["Other"]),
        ]
        result = parse_funnel({"results": split}, request)
        assert [(row["breakdown"], row["step"], row["people"]) for row in result] == [
            ("pro", 1, 4),
            ("pro", 2, 2),
            (None, 1, 3),
            (None, 2, 1),
            (OTHER, 1, 9),
            (OTHER, 2, 1),
        ]
        assert result.truncated
        assert result.columns[:3] == ["step", "event", "breakdown"]
        result = parse_funnel({"results": split[1:]}, request)
        assert ({row["breakdown"] for row in result}, result.truncated) == ({None, "Other"}, False)
        assert parse_funnel({"results": []}, request) == []


class TestRetention:
    def test_is_of_the_start_event_itself_if_no_other_is_named(self) -> None:
        node = plan_retention({"event": "a", "where": {"x": 1}})
        start = {
            "id": "a",
            "type": "events",
            "properties": [{"key": "x", "type": "event", "operator": "exact", "value": [1]}],
        }
        assert node == {
            "kind": "RetentionQuery",
            "retentionFilter": {
                "period": "Week",
                "totalIntervals": 8,
                "retentionType": "retention_first_time",
                "targetEntity": start,
                "returningEntity": start,
            },
        }

    def test_takes_another_return_and_every_start(self) -> None:
        node = plan_retention("a", "b", every="month", periods=3, first_time_only=False, since=DAY, by="plan")
        asked = node["retentionFilter"]
        assert (asked["period"], asked["totalIntervals"], asked["retentionType"]) == ("Month", 3, "retention_recurring")
        assert (asked["targetEntity"]["id"], asked["returningEntity"]["id"]) == ("a", "b")
        assert node["dateRange"] == {"date_from": "2026-11-05"}
        assert node["breakdownFilter"]["breakdown_type"] == "event"

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            ({"periods": 1}, "periods is a whole number from 2 to 100, not 1"),
            ({"periods": "8"}, "periods is a whole number"),
            ({"every": "year"}, "every is"),
            ({"first_time_only": 1}, "first_time_only is True or False"),
            ({"return_event": ["a", "b"]}, "return_event takes one event, not 2"),
            ({"by": "session.$channel_type"}, "by cannot be a property of a session here, only of 'event' or 'person'"),
        ],
    )
    def test_refuses_what_cannot_be_meant(self, arguments: dict[str, Any], words: str) -> None:
        with pytest.raises(ValidationError, match=words):
            plan_retention("a", **arguments)

    @staticmethod
    def table(*rows: list[int], **more: Any) -> list[dict[str, Any]]:
        return [
            {"date": f"2026-11-0{day}T00:00:00+01:00", "values": [{"count": n} for n in counts], **more}
            for day, counts in enumerate(rows, 1)
        ]

    def test_has_only_the_periods_that_the_range_holds(self) -> None:
        table = self.table([4, 2, 0], [0, 0, 0], [3, 0, 0])
        rows = parse_retention({"results": table}, sent(plan_retention("a", every="day", periods=3)))
        assert rows == [
            {"cohort": "2026-11-01", "size": 4, "period": 0, "people": 4, "share": 1.0},
            {"cohort": "2026-11-01", "size": 4, "period": 1, "people": 2, "share": 0.5},
            {"cohort": "2026-11-01", "size": 4, "period": 2, "people": 0, "share": 0.0},
            {"cohort": "2026-11-02", "size": 0, "period": 0, "people": 0, "share": None},
            {"cohort": "2026-11-02", "size": 0, "period": 1, "people": 0, "share": None},
            {"cohort": "2026-11-03", "size": 3, "period": 0, "people": 3, "share": 1.0},
        ]

    def test_of_hours_tells_the_hour_and_breakdowns_have_a_table_each(self) -> None:
        table = self.table([4, 2], [3, 0], breakdown_value="pro") + self.table([1, 1], [1, 0], breakdown_value="")
        table += self.table([9, 0], [9, 0], breakdown_value=OTHER)
        result = parse_retention({"results": table}, sent(plan_retention("a", every="hour", periods=2, by="plan")))
        assert [(row["cohort"], row["breakdown"], row["people"]) for row in result] == [
            ("2026-11-01 00:00:00", "pro", 4),
            ("2026-11-01 00:00:00", "pro", 2),
            ("2026-11-02 00:00:00", "pro", 3),
            ("2026-11-01 00:00:00", None, 1),
            ("2026-11-01 00:00:00", None, 1),
            ("2026-11-02 00:00:00", None, 1),
            ("2026-11-01 00:00:00", OTHER, 9),
            ("2026-11-01 00:00:00", OTHER, 0),
            ("2026-11-02 00:00:00", OTHER, 9),
        ]
        assert (result.truncated, result.types[0]) == (True, "String")


class TestTheOthers:
    def test_lifecycle_counts_who_went_away_above_zero(self) -> None:
        node = plan_lifecycle("a", every="week", where={"x": 1})
        assert (node["series"][0]["event"], node["interval"], node["properties"][0]["key"]) == ("a", "week", "x")
        lines = [
            {"status": status, "days": ["2026-11-02"], "data": [number]}
            for status, number in [("dormant", -4.0), ("new", 1.0), ("returning", 2), ("resurrecting", 0.0)]
        ]
        rows = parse_lifecycle({"results": lines}, sent(node))
        assert [(row["status"], row["people"]) for row in rows] == [
            ("new", 1),
            ("returning", 2),
            ("resurrecting", 0),
            ("dormant", 4),
        ]
        with pytest.raises(ValidationError, match="event takes one event, not 2"):
            plan_lifecycle(["a", "b"])  # type: ignore[arg-type]

    def test_stickiness_counts_people_by_number_of_intervals(self) -> None:
        lines = [{"action": {"order": order}, "days": [1, 2], "data": [3.0, order]} for order in (0, 1)]
        rows = parse_stickiness({"results": lines}, sent(plan_stickiness(["a", "b"])))
        assert [tuple(row.values()) for row in rows] == [("a", 1, 3), ("a", 2, 0), ("b", 1, 3), ("b", 2, 1)]

    def test_paths_tell_step_and_seconds_of_places_that_may_hold_an_underscore(self) -> None:
        edge = {"source": "1_/a_b", "target": "2_/c_d", "value": 3.0, "average_conversion_time": 1_500.0}
        rows = parse_paths({"results": [edge]}, sent(plan_paths("screens", start="/a_b", end="/z")))
        assert rows == [{"step": 1, "source": "/a_b", "target": "/c_d", "times": 3, "average_seconds": 1.5}]

    def test_paths_ask_for_more_ways_than_are_shown_so_that_a_cut_is_known(self) -> None:
        asked = plan_paths("events", steps=3, limit=5_000)["pathsFilter"]
        assert asked == {"includeEventTypes": ["custom_event"], "stepLimit": 3, "edgeLimit": 10_000}
        assert plan_paths(limit=1)["pathsFilter"]["edgeLimit"] == 1_000

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            ({"of": "page"}, "of is 'pages', 'screens' or 'events', not 'page'. Did you mean 'pages'?"),
            ({"start": ""}, "start is the page, screen or event that paths start at"),
            ({"end": 5}, "end is the page, screen or event"),
            ({"steps": 1}, "steps is a whole number from 2 to 20"),
            ({"limit": 5_001}, "limit is a whole number from 1 to 5,000"),
        ],
    )
    def test_paths_refuse_what_cannot_be_meant(self, arguments: dict[str, Any], words: str) -> None:
        with pytest.raises(ValidationError, match=words):
            plan_paths(**arguments)


class TestPieces:
    def test_properties_are_those_of_their_owner(self) -> None:
        assert property_filters(WHERE) == [
            {"key": "$browser", "type": "event", "operator": "exact", "value": ["Chrome", "Safari"]},
            {"key": "plan", "type": "person", "operator": "exact", "value": ["pro"]},
            {"key": "$is_bounce", "type": "session", "operator": "exact", "value": [False]},
            {"key": "x", "type": "event", "operator": "is_not_set", "value": "is_not_set"},
        ]
        assert property_filters({"x": {"b", "a"}})[0]["value"] == ["a", "b"]
        assert property_filters(None) == property_filters({}) == []

    @given(
        st.text(min_size=1).filter(lambda text: text.strip() and "." not in text),
        st.sampled_from(["person", "session"]),
    )
    def test_any_name_without_a_dot_is_an_events_property_and_with_an_owner_before_it_theirs(
        self, name: str, owner: str
    ) -> None:
        assert owned("by", name) == ("event", name)
        assert owned("by", f"{owner}.{name}") == (owner, name)

    def test_other_dots_belong_to_the_name(self) -> None:
        assert owned("by", "utm.source") == ("event", "utm.source")
        assert owned("by", "person.a.b") == ("person", "a.b")

    @pytest.mark.parametrize(
        ("since", "until", "asked"),
        [
            ("-7d", None, {"date_from": "-7d"}),
            ("mStart", "-1mEnd", {"date_from": "mStart", "date_to": "-1mEnd"}),
            ("-90M", None, {"date_from": "-90M"}),
            ("all", None, {"date_from": "all"}),
            (DAY, "2026-11-06", {"date_from": "2026-11-05", "date_to": "2026-11-06"}),
            (
                NOON,
                DAY.replace(day=21),
                {
                    "date_from": "2026-11-20T12:00:00+00:00",
                    "date_to": "2026-11-21T23:59:59.999999",
                    "explicitDate": True,
                },
            ),
            (
                "2026-11-05",
                "2026-11-20T13:00:00+01:00",
                {"date_from": "2026-11-05", "date_to": "2026-11-20T12:00:00+00:00", "explicitDate": True},
            ),
            ("2026-11-20T12:00:00Z", None, {"date_from": "2026-11-20T12:00:00+00:00", "explicitDate": True}),
            (NOON.replace(tzinfo=None), None, {"date_from": "2026-11-20T12:00:00+00:00", "explicitDate": True}),
        ],
    )
    def test_days_are_whole_and_moments_are_moments(self, since: Any, until: Any, asked: dict[str, Any]) -> None:
        assert date_range(since, until) == {"dateRange": asked}
        assert date_range(None, None) == {}

    @pytest.mark.parametrize("text", ["7", "d", "-d", "--7d", "+7d", "7x", "-7d ago", "now", "", "Start"])
    def test_other_texts_are_no_dates(self, text: str) -> None:
        with pytest.raises(ValidationError, match="since is text such as"):
            date_range(text, None)

    @pytest.mark.parametrize(
        ("within", "asked"),
        [
            ("14d", (14, "day")),
            ("45 s", (45, "second")),
            ("30min", (30, "minute")),
            ("1 hour", (1, "hour")),
            ("2w", (2, "week")),
            ("1mo", (1, "month")),
            (datetime.timedelta(days=2), (2, "day")),
            (datetime.timedelta(hours=36), (36, "hour")),
            (datetime.timedelta(minutes=90), (90, "minute")),
            (datetime.timedelta(seconds=61), (61, "second")),
        ],
    )
    def test_windows_have_the_largest_unit_that_fits(self, within: Any, asked: tuple[int, str]) -> None:
        assert window(within) == asked

    @given(st.integers(1, 10**7))
    def test_a_timedelta_is_asked_for_exactly(self, seconds: int) -> None:
        amount, unit = window(datetime.timedelta(seconds=seconds))
        assert datetime.timedelta(**{f"{unit}s": amount}).total_seconds() == seconds


# Answers that are not what they should be -----------------------------------------------------------------------------

PARSERS: list[tuple[Callable[..., Any], dict[str, Any]]] = [
    (parse_trends, plan_trends("a")),
    (parse_funnel, plan_funnel(["a", "b"])),
    (parse_retention, plan_retention("a")),
    (parse_lifecycle, plan_lifecycle("a")),
    (parse_stickiness, plan_stickiness("a")),
    (parse_paths, plan_paths()),
]
LINE = {
    "action": {"order": 0},
    "days": ["2026-11-20"],
    "data": [1],
    "count": 1,
    "status": "new",
    "date": "2026-11-20",
    "values": [{"count": 1}],
    "source": "1_a",
    "target": "2_b",
}
BROKEN: list[list[Any]] = [
    [None],
    [5],
    [{}],
    [{**LINE, "data": [1, 2], "values": 5, "value": 1}],
    [{**LINE, "data": ["x"], "values": [{"count": "x"}], "value": "x", "average_conversion_time": 1}],
    [{**LINE, "data": [0.5], "values": [{"count": 0.5}], "value": 0.5, "average_conversion_time": 1}],
    [{**LINE, "action": {"order": 7}, "source": "a", "days": [], "values": [{}]}],
]


@pytest.mark.parametrize(("parse", "node"), PARSERS, ids=[parse.__name__ for parse, _ in PARSERS])
@pytest.mark.parametrize("results", BROKEN, ids=range(len(BROKEN)))
def test_an_answer_of_another_shape_is_one_clear_error(
    parse: Callable[..., Any], node: dict[str, Any], results: list[Any]
) -> None:
    kind = re.escape(node["kind"])
    with pytest.raises(ResponseFormatError, match=f"answer to the {kind} q has another shape") as caught:
        parse({"results": results}, sent(node))
    assert caught.value.query_id == "q"


@pytest.mark.parametrize(("parse", "node"), PARSERS, ids=[parse.__name__ for parse, _ in PARSERS])
@pytest.mark.parametrize("data", [None, {}, {"results": None}, {"results": {}}])
def test_an_answer_without_results_is_one_too(parse: Callable[..., Any], node: dict[str, Any], data: Any) -> None:
    with pytest.raises(ResponseFormatError, match=r"no list of results|is no object"):
        parse(data, sent(node))


# The client -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def client(fake_clock: FakeClock) -> Iterator[PostHogClient]:
    with PostHogClient(PostHogConfig("phx_test", "1"), clock=fake_clock) as made:
        yield made


ASKED: list[tuple[str, tuple[Any, ...], dict[str, Any], str]] = [
    ("trends", ("a",), {"measure": "sum", "of": "x", "by": "plan", "by_limit": 3, "compare": True}, "TrendsQuery"),
    ("funnel", (["a", "b"],), {"within": "1h", "order": "strict", "by": "plan", "by_limit": 3}, "FunnelsQuery"),
    ("retention", ("a", "b"), {"every": "day", "periods": 3, "first_time_only": False, "by": "p"}, "RetentionQuery"),
    ("lifecycle", ("a",), {"every": "month"}, "LifecycleQuery"),
    ("stickiness", ("a",), {"every": "week"}, "StickinessQuery"),
    ("paths", ("events",), {"start": "a", "end": "b", "steps": 3, "limit": 7}, "PathsQuery"),
]
PLANS: dict[str, Callable[..., dict[str, Any]]] = {
    "trends": plan_trends,
    "funnel": plan_funnel,
    "retention": plan_retention,
    "lifecycle": plan_lifecycle,
    "stickiness": plan_stickiness,
    "paths": plan_paths,
}


@pytest.mark.parametrize(("method", "given_", "more", "kind"), ASKED, ids=[asked[0] for asked in ASKED])
def test_each_method_sends_its_plan_with_the_options_of_a_query(
    method: str, given_: tuple[Any, ...], more: dict[str, Any], kind: str, client: PostHogClient
) -> None:
    lines: list[Any] = [{"status": s, "days": [], "data": []} for s in ("new", "returning", "resurrecting", "dormant")]
    stub = StubAdapter((200, {"results": lines if method == "lifecycle" else []}))
    stub.mount(client)
    common = {"since": "-7d", "until": NOON, "where": WHERE}
    result = getattr(client, method)(*given_, **more, **common, query_id="mine", fresh=True, timeout=3)
    body = json.loads(stub.requests[0].body or b"")
    assert body["query"] == PLANS[method](*given_, **more, **common)
    assert body["query"]["kind"] == kind
    assert (body["client_query_id"], body["refresh"], result.query_id) == ("mine", "force_blocking", "mine")


def test_a_question_that_is_too_slow_goes_on_asynchronously(client: PostHogClient, fake_clock: FakeClock) -> None:
    done = {"query_status": {"id": "mine", "complete": True, "results": {"results": []}}}
    working = {"query_status": {"id": "mine", "complete": False}}
    stub = StubAdapter((504, {"detail": "too slow"}), (202, working), (200, done))
    stub.mount(client)
    result = client.trends("a", query_id="mine")
    assert [request.method for request in stub.requests] == ["POST", "POST", "GET"]
    assert result.info.elapsed == pytest.approx(sum(fake_clock.sleeps))


def test_ways_beyond_the_limit_are_cut_and_it_is_said(client: PostHogClient, caplog: pytest.LogCaptureFixture) -> None:
    edges = [{"source": f"1_{n}", "target": "2_x", "value": 9 - n, "average_conversion_time": 1} for n in range(3)]
    StubAdapter((200, {"results": edges}), (200, {"results": edges})).mount(client)
    whole, cut = client.paths(limit=3), client.paths(limit=2)
    assert ([row["source"] for row in whole], whole.truncated) == (["0", "1", "2"], False)
    assert ([row["source"] for row in cut], cut.truncated) == (["0", "1"], True)
    assert cut.columns == whole.columns
    assert [record.getMessage()[-40:] for record in caplog.records] == [
        " has 3 rows or more, the first 2 are given"[-40:]
    ]


def test_nothing_is_sent_when_an_argument_is_refused(client: PostHogClient) -> None:
    stub = StubAdapter()
    stub.mount(client)
    asked: list[Callable[[], Any]] = [
        lambda: client.trends("a", measure="user"),
        lambda: client.funnel(["a"]),
        lambda: client.retention("a", periods=1),
        lambda: client.trends("a", query_id="a/b"),
        lambda: client.trends("a", total_timeout=0),
        lambda: client.trends("\ud800"),
    ]
    for ask in asked:
        with pytest.raises(ValidationError):
            ask()
    assert stub.requests == []


# PostHog's schema -----------------------------------------------------------------------------------------------------


def bodies() -> Iterator[dict[str, Any]]:
    """Bodies with each choice, and with everything that is optional or nothing of it."""
    every: dict[str, Any] = {"since": NOON, "until": DAY, "where": WHERE}
    none: dict[str, Any] = {"since": None}
    splits: list[dict[str, Any]] = [{"by": by, "by_limit": 3} for by in ("plan", "person.plan")]
    events = ["a", {"event": "b", "where": WHERE}, None]
    for more, split in itertools.product((every, none), [*splits, {"by": "session.$channel_type"}, {}]):
        for measure in MEASURES:
            of: dict[str, Any] = (
                {} if measure in ("events", "users", "sessions") else {"of": split.get("by") or "amount"}
            )
            yield plan_trends(events, measure=measure, compare=bool(split), **of, **more, **split)
        for order in ORDERS:
            yield plan_funnel(events, order=order, **more, **split)
    for more, unit in itertools.product((every, none), EVERY):
        yield plan_trends("a", every=unit, **more)
        yield plan_lifecycle("a", every=unit, **more)
        yield plan_stickiness(events, every=unit, **more)
        for first, split in itertools.product((True, False), [*splits, {}]):
            yield plan_retention(
                "a", {"event": "b", "where": WHERE}, every=unit, first_time_only=first, **more, **split
            )
    for unit in ("s", "min", "h", "d", "w", "mo"):
        yield plan_funnel(["a", "b"], within=f"2{unit}")
    for places in ("pages", "screens", "events"):
        yield plan_paths(places, start="a", end="b", **every)
    yield plan_retention(None)
    yield plan_paths()


@pytest.mark.skipif(not SCHEMA, reason="POSTHOG_QUERY_SCHEMA names no file with PostHog's query schema")
def test_every_question_holds_against_posthogs_schema() -> None:
    import jsonschema  # type: ignore[import-untyped]

    schema = json.loads(Path(str(SCHEMA)).read_text(encoding="utf-8"))
    checks = {
        kind: jsonschema.Draft7Validator({**schema, "$ref": f"#/definitions/{kind}"})
        for kind in ("QueryRequest", *(asked[-1] for asked in ASKED))
    }

    def problems(body: dict[str, Any], kind: str) -> list[str]:
        found = [*checks["QueryRequest"].iter_errors(body), *checks[kind].iter_errors(body["query"])]
        return [error.message for error in found] + ([] if body["query"]["kind"] == kind else ["another kind"])

    seen: set[str] = set()
    for node in bodies():
        body = json.loads(json.dumps(sent(node).json))
        assert problems(body, node["kind"]) == [], node
        seen.add(node["kind"])
    assert seen == {asked[-1] for asked in ASKED}
    for node in (plan_trends("a"), plan_funnel(["a", "b"]), plan_retention("a"), plan_paths()):
        for wrong in ({"wrong": 1}, {"dateRange": {"wrong": 1}}, {"properties": [{"key": 5}]}):
            assert problems(sent({**node, **wrong}).json, node["kind"]), f"the check is blind to {wrong}"
