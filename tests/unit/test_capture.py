"""Events and flags as requests: what is checked, completed, split and packed, and what answers mean."""

from __future__ import annotations

import datetime
import decimal
import gzip
import json
import re
import time
import uuid
from collections import OrderedDict
from typing import Any

import pytest

from posthog_driver import capture
from posthog_driver._models import ApiRequest
from posthog_driver.capture import parse_flag, plan_batches, plan_event, plan_flag, report_quota
from posthog_driver.exceptions import (
    ConfigurationError,
    ObjectNotFoundError,
    QuotaError,
    ResponseFormatError,
    ServerError,
    ValidationError,
)

TOKEN = "phc_test"
NOW = 1_700_000_000.0  # 2023-11-14 22:13:20 UTC
SIMPLE = {"event": "signed up", "distinct_id": "user 1"}
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def planned(**fields: Any) -> dict[str, Any]:
    """Return the body for the simple event with some fields changed."""
    body: dict[str, Any] = plan_event(TOKEN, {**SIMPLE, **fields}, NOW).json
    return body


def unpacked(request: ApiRequest) -> dict[str, Any]:
    """Return the body of a batch."""
    assert request.body is not None
    packed = (request.headers or {}).get("Content-Encoding") == "gzip"
    body: dict[str, Any] = json.loads(gzip.decompress(request.body) if packed else request.body)
    return body


class TestAnEvent:
    def test_is_completed_with_uuid_and_timestamp_and_goes_to_ingestion(self) -> None:
        request = plan_event(TOKEN, SIMPLE, NOW, timeout=4.0)
        assert (request.method, request.path, request.scope) == ("POST", "/i/v0/e/", "ingest")
        assert (request.idempotent, request.timeout) == (True, 4.0)
        body = request.json
        assert UUID.fullmatch(body.pop("uuid"))
        assert body == {
            "api_key": TOKEN,
            "event": "signed up",
            "distinct_id": "user 1",
            "properties": {},
            "timestamp": "2023-11-14T22:13:20+00:00",
        }

    def test_keeps_a_uuid_of_its_own(self) -> None:
        mine = uuid.uuid4()
        assert planned(uuid=mine)["uuid"] == str(mine)
        assert planned()["uuid"] != planned()["uuid"]

    @pytest.mark.parametrize(
        ("given", "sent"),
        [
            ("2024-05-01T12:00:00Z", "2024-05-01T12:00:00+00:00"),
            ("2024-05-01t12:00:00z", "2024-05-01T12:00:00+00:00"),
            (" 2024-05-01T12:00:00.250+02:00 ", "2024-05-01T10:00:00.250000+00:00"),
            ("2024-05-01 12:00:00", "2024-05-01T12:00:00+00:00"),
            ("2024-05-01", "2024-05-01T00:00:00+00:00"),
            (datetime.date(2024, 5, 1), "2024-05-01T00:00:00+00:00"),
            (datetime.datetime(2024, 5, 1, 12), "2024-05-01T12:00:00+00:00"),
            (
                datetime.datetime(2024, 5, 1, 12, tzinfo=datetime.timezone(datetime.timedelta(hours=-3))),
                "2024-05-01T15:00:00+00:00",
            ),
        ],
    )
    def test_tells_its_time_in_utc_wherever_the_machine_is(
        self, given: Any, sent: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as away:
            away.setenv("TZ", "America/New_York")
            getattr(time, "tzset", lambda: None)()
            assert planned(timestamp=given)["timestamp"] == sent
        getattr(time, "tzset", lambda: None)()

    @pytest.mark.parametrize(
        ("fields", "problem"),
        [
            ({"event": ""}, "an event needs a name"),
            ({"event": None}, "an event needs a name"),
            ({"distinct_id": " "}, "distinct_id is needed"),
            ({"distinct_id": None}, "distinct_id is needed"),
            ({"distinct_id": True}, "distinct_id is needed"),
            ({"distinct_id": 1.5}, "distinct_id is needed"),
            ({"properties": [1]}, "properties are a dict, not list"),
            ({"$unset": ["a"]}, r"unknown keys \['\$unset'\]: put them into properties"),
            ({"uuid": "order 5"}, "'order 5' is no uuid"),
            ({"uuid": ""}, "'' is no uuid"),
            ({"timestamp": "yesterday"}, "'yesterday' is no ISO 8601 time"),
            ({"timestamp": "0001-01-01T00:00:00+05:00"}, "is no moment in UTC"),
            ({"properties": {"a": [{"b": object()}]}}, r"properties\.a\[0\]\.b is a object, which JSON does not know"),
            ({"properties": {"a": b"x"}}, r"properties\.a is a bytes"),
            ({"properties": {1: "a", "1": "b"}}, "two names that are the same text"),
        ],
    )
    def test_that_cannot_be_captured_is_refused(self, fields: dict[str, Any], problem: str) -> None:
        with pytest.raises(ValidationError, match=f"{problem}.*Nothing was sent"):
            planned(**fields)

    @pytest.mark.parametrize("event", [None, "signed up", ["signed up"]])
    def test_is_a_dict(self, event: Any) -> None:
        with pytest.raises(ValidationError, match="an event is a dict"):
            plan_event(TOKEN, event, NOW)

    def test_takes_a_number_for_an_id(self) -> None:
        assert planned(distinct_id=42)["distinct_id"] == "42"

    def test_sends_what_json_does_not_know_but_means_something(self) -> None:
        properties = OrderedDict(
            when=datetime.datetime(2024, 5, 1, 12, tzinfo=datetime.timezone.utc),
            day=datetime.date(2024, 5, 1),
            id=uuid.UUID(int=1),
            price=decimal.Decimal("1.10"),
            pair=(1, 2),
            names=frozenset(["a"]),
            deep={7: None, "big": 2**70},
        )
        assert planned(properties=properties)["properties"] == {
            "when": "2024-05-01T12:00:00+00:00",
            "day": "2024-05-01",
            "id": "00000000-0000-0000-0000-000000000001",
            "price": "1.10",
            "pair": [1, 2],
            "names": ["a"],
            "deep": {"7": None, "big": 2**70},
        }

    def test_has_null_for_what_is_no_number_and_the_log_says_so(self, caplog: pytest.LogCaptureFixture) -> None:
        body = planned(properties={"a": [1.5, float("nan")], "b": float("-inf")})
        assert body["properties"] == {"a": [1.5, None], "b": None}
        assert [record.getMessage() for record in caplog.records] == [
            "properties.a[1] is nan, which JSON does not know: sent as null",
            "properties.b is -inf, which JSON does not know: sent as null",
        ]

    def test_that_contains_itself_is_refused(self) -> None:
        circle: dict[str, Any] = {}
        circle["me"] = [circle]
        with pytest.raises(ValidationError, match="nested too deeply or contains itself"):
            planned(properties=circle)

    def test_above_what_posthog_takes_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(capture, "MAX_EVENT_BYTES", 1_000)
        with pytest.raises(ValidationError, match="'signed up' has 1,"):
            planned(properties={"x": "y" * 1_000})

    @pytest.mark.parametrize("token", [None, ""])
    def test_needs_the_project_token(self, token: str | None) -> None:
        for plan in (
            lambda: plan_event(token, SIMPLE, NOW),
            lambda: plan_batches(token, [], NOW),
            lambda: plan_flag(token, "beta", "user 1"),
        ):
            with pytest.raises(ConfigurationError, match="POSTHOG_PROJECT_API_KEY"):
                plan()


class TestWhatPostHogTakesElsewhereToo:
    def test_set_stands_beside_the_properties_and_never_overrules_them(self) -> None:
        both = planned(**{"$set": {"plan": "pro"}, "$set_once": {"first": 1}, "properties": {"$set": {"plan": "free"}}})
        assert both["properties"] == {"$set": {"plan": "free"}, "$set_once": {"first": 1}}

    def test_the_distinct_id_stands_in_the_properties(self) -> None:
        request = plan_event(TOKEN, {"event": "x", "properties": {"distinct_id": "user 7"}}, NOW)
        assert request.json["distinct_id"] == "user 7"


class TestABatch:
    def test_holds_all_events_once_each_with_an_identity(self) -> None:
        (batch,) = plan_batches(TOKEN, [SIMPLE, {**SIMPLE, "event": "paid"}], NOW, timeout=3.0)
        assert batch.events == 2
        request = batch.request
        assert (request.method, request.path, request.scope, request.timeout) == ("POST", "/batch/", "ingest", 3.0)
        assert (request.idempotent, request.headers) == (True, None)
        assert request.body is not None
        assert request.json == json.loads(request.body)
        body = unpacked(request)
        assert body["api_key"] == TOKEN
        assert [event["event"] for event in body["batch"]] == ["signed up", "paid"]
        assert len({event["uuid"] for event in body["batch"]}) == 2

    def test_is_compressed_when_that_pays(self) -> None:
        (small,) = plan_batches(TOKEN, [SIMPLE], NOW)
        (large,) = plan_batches(TOKEN, [SIMPLE] * 50, NOW)
        assert small.request.headers is None
        assert large.request.headers == {"Content-Encoding": "gzip"}
        assert len(large.request.body or b"") < 4_000
        assert len(unpacked(large.request)["batch"]) == 50

    def test_is_split_by_size_and_an_event_above_it_goes_alone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(capture, "MAX_BATCH_BYTES", 1_000)
        events = [{**SIMPLE, "properties": {"x": "y" * size}} for size in (500, 100, 700, 2_000, 10)]
        batches = plan_batches(TOKEN, events, NOW)
        sizes = [[len(event["properties"]["x"]) for event in unpacked(batch.request)["batch"]] for batch in batches]
        assert sizes == [[500, 100], [700], [2_000], [10]]
        assert [batch.events for batch in batches] == [2, 1, 1, 1]

    def test_of_nothing_is_no_request(self) -> None:
        assert plan_batches(TOKEN, [], NOW) == []

    def test_with_a_bad_event_names_it_and_is_not_sent_at_all(self) -> None:
        with pytest.raises(ValidationError, match=r"Event 1 of the batch: an event needs a name.*Nothing was sent"):
            plan_batches(TOKEN, (SIMPLE, {**SIMPLE, "event": ""}), NOW)

    @pytest.mark.parametrize("events", [None, SIMPLE, "abc", b"abc", 5])
    def test_is_a_list(self, events: Any) -> None:
        with pytest.raises(ValidationError, match="needs a list of events"):
            plan_batches(TOKEN, events, NOW)


class TestAFlag:
    def test_is_asked_for_alone(self) -> None:
        request = plan_flag(TOKEN, "beta", "user 1", {"plan": "pro"}, timeout=2.0)
        assert (request.method, request.path, request.params, request.scope) == ("POST", "/flags/", {"v": 2}, "ingest")
        assert request.timeout == 2.0
        assert request.json == {
            "api_key": TOKEN,
            "distinct_id": "user 1",
            "flag_keys_to_evaluate": ["beta"],
            "person_properties": {"plan": "pro"},
        }

    @pytest.mark.parametrize("key", ["", " ", None, 5])
    def test_has_a_key(self, key: Any) -> None:
        with pytest.raises(ValidationError, match="needs the flag's key"):
            plan_flag(TOKEN, key, "user 1")

    def test_is_returned_as_posthog_tells_it_and_as_a_copy(self) -> None:
        flag = {"key": "beta", "enabled": True, "variant": "test", "reason": {}, "metadata": {}}
        data = {"flags": {"beta": flag}, "errorsWhileComputingFlags": True}
        found = parse_flag(data, "beta")
        assert found == flag
        assert found is not flag

    @pytest.mark.parametrize(("value", "enabled"), [(True, True), (False, False), ("control", True)])
    def test_of_the_older_shape_is_a_dict_as_well(self, value: Any, enabled: bool) -> None:
        assert parse_flag({"flags": {"beta": value}}, "beta") == {"key": "beta", "enabled": enabled, "variant": value}

    @pytest.mark.parametrize(
        ("data", "kind"),
        [
            ({"flags": {}, "quotaLimited": ["feature_flags"]}, QuotaError),
            ({"flags": {"beta": {"key": "beta", "failed": True}}, "quotaLimited": ["feature_flags"]}, QuotaError),
            ({"flags": {"beta": {"key": "beta", "failed": True}}}, ServerError),
            ({"flags": {}, "errorsWhileComputingFlags": True}, ServerError),
            ({"flags": {"Beta": {"enabled": True}}}, ObjectNotFoundError),
            ({"flags": ["beta"]}, ResponseFormatError),
            ({"success": True}, ResponseFormatError),
            ([], ResponseFormatError),
        ],
    )
    def test_that_was_not_evaluated_is_an_error_and_never_a_no(self, data: Any, kind: type[Exception]) -> None:
        with pytest.raises(kind) as caught:
            parse_flag(data, "beta")
        assert type(caught.value) is kind


@pytest.mark.parametrize(
    ("answer", "dropped"),
    [
        ({"status": "Ok", "quota_limited": ["events"]}, ["events"]),
        ({"quota_limited": "recordings"}, ["recordings"]),
        ({"status": "Ok", "quota_limited": []}, []),
        ({"status": "Ok"}, []),
        ([], []),
    ],
)
def test_what_posthog_drops_for_its_quota_is_told(
    answer: Any, dropped: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    assert report_quota(answer) == dropped
    assert ("drops" in caplog.text) == bool(dropped)
