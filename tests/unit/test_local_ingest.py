"""Event capture of the embedded PostHog: what becomes of what SDKs send."""

from __future__ import annotations

import base64
import gzip
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthog_driver.local.capture_body import Event, check_sizes, parse_events
from posthog_driver.local.identities import is_illegal
from posthog_driver.local.ingest import CaptureError, decode_body, parse_timestamp
from posthog_driver.local.wire import Request

UUID = "01900000-0000-7000-8000-000000000001"


NOW = datetime(2026, 6, 1, 12, tzinfo=timezone.utc)


def event(**changes: Any) -> dict[str, Any]:
    return {"event": "e", "distinct_id": "u", **changes}


def parsed(payload: Any, **more: Any) -> list[Event]:
    return parse_events(payload, NOW, **more)


def refused(payload: Any) -> tuple[int, str]:
    with pytest.raises(CaptureError) as caught:
        parsed(payload)
    return caught.value.status, str(caught.value)


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        ([], "request holds no event"),
        ({"batch": []}, "request holds no event"),
        ({"batch": {}}, "failed to parse request: batch must be a list of events"),
        (["text"], "failed to parse request: an event must be an object"),
        ({"distinct_id": "u"}, "event submitted with an empty event name"),
        (event(event=3), "event submitted with an empty event name"),
        ({"event": "e"}, "event submitted without a distinct_id"),
        (event(distinct_id=["u"]), "event submitted without a distinct_id"),
        (event(distinct_id=" "), "event submitted with an empty distinct_id"),
        (event(properties=[]), "failed to parse request: properties must be an object"),
        (event(uuid="7"), "failed to parse request: invalid uuid '7'"),
        (event(uuid=7), "failed to parse request: invalid uuid 7"),
        (event(timestamp="yesterday"), "failed to parse request: invalid timestamp 'yesterday'"),
        (event(timestamp="2026-02-31"), "failed to parse request: invalid timestamp '2026-02-31'"),
        (event(timestamp=1), "failed to parse request: invalid timestamp 1"),
        (event(timestamp="0001-01-01T00:00:00+14:00"),
         "failed to parse request: invalid timestamp '0001-01-01T00:00:00+14:00'"),
        (event(timestamp="1900-01-01"), "failed to parse request: timestamp '1900-01-01' is out of range"),
        ({"batch": [event(), event(event="")]}, "event submitted with an empty event name"),
    ],
)  # fmt: skip
def test_a_request_with_a_wrong_event_is_refused_whole_and_in_plain_text(payload: Any, expected: str) -> None:
    assert refused(payload) == (400, expected)


def test_an_event_is_read_as_it_was_sent_without_its_token() -> None:
    sent = event(
        distinct_id=7,
        uuid=UUID.upper(),
        timestamp="2026-01-02T03:04:05+02:00",
        properties={"amount": 5, "token": "phc_test", "distinct_id": "other"},
        **{"$set": {"plan": "pro"}, "$unset": ["city"]},
    )
    (found,) = parsed({"batch": [sent]})

    assert (found.uuid, found.has_own_uuid, found.distinct_id) == (UUID, True, "7")
    assert found.timestamp == datetime(2026, 1, 2, 1, 4, 5, tzinfo=timezone.utc)
    assert found.properties == {"amount": 5, "$set": {"plan": "pro"}, "$unset": ["city"]}
    assert sent["properties"]["token"] == "phc_test"
    assert parsed(event(properties={"token": "mine"}))[0].properties == {"token": "mine"}


def test_what_the_properties_set_wins_over_what_stands_beside_them() -> None:
    (found,) = parsed(event(properties={"$set": {"plan": "pro"}}, **{"$set": {"plan": "free"}, "$set_once": 3}))

    assert found.properties == {"$set": {"plan": "pro"}}


@pytest.mark.parametrize("payload", [event(), [event()], {"batch": [event()]}])
def test_an_event_without_uuid_and_timestamp_gets_them(payload: Any) -> None:
    (found,) = parsed(payload)

    assert (found.has_own_uuid, found.timestamp, found.has_profile) == (False, NOW, True)
    assert found.uuid != parsed(payload)[0].uuid


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"timestamp": "2026-06-01T11:00:00Z"}, NOW - timedelta(hours=1)),
        ({"timestamp": "2026-06-01T11:00:00Z", "sent_at": "2026-06-01T11:30:00Z"}, NOW - timedelta(minutes=30)),
        ({"timestamp": "2026-06-01T11:00:00Z", "sent_at": "soon"}, NOW - timedelta(hours=1)),
        (
            {
                "timestamp": "2026-06-01T11:00:00Z",
                "sent_at": "2026-06-01T11:30:00Z",
                "properties": {"$ignore_sent_at": True},
            },
            NOW - timedelta(hours=1),
        ),
        ({"timestamp": "2026-06-02T10:00:00Z"}, NOW + timedelta(hours=22)),
        ({"timestamp": "2026-06-02T12:00:00Z"}, NOW),
        ({"offset": 5000}, NOW - timedelta(seconds=5)),
        ({"offset": -5000}, NOW),
        ({"offset": True}, NOW),
        ({"offset": "5000"}, NOW),
    ],
)
def test_an_event_happened_when_the_servers_clock_says(given: dict[str, Any], expected: datetime) -> None:
    assert parsed(event(**given))[0].timestamp == expected


@pytest.mark.parametrize("name", ["", " ", "Undefined", "null", "none", "None", "0", "NaN", "[object Object]",
                                  "'anonymous'", '"id"', "EMAIL", "distinct_id"])  # fmt: skip
def test_names_that_stand_for_everybody_are_known(name: str) -> None:
    assert is_illegal(name)


@pytest.mark.parametrize("name", ["ada", "NULL", "00", "nan", "anonymous-7", "null@example.com"])
def test_names_that_look_like_those_are_fine(name: str) -> None:
    assert not is_illegal(name)


def test_an_event_of_more_than_a_mebibyte_is_found_wherever_it_is() -> None:
    huge = event(properties={"text": "ä" * 600_000})
    check_sizes({"batch": [event(properties={"text": "x" * 1_000_000})]})

    for payload in (huge, [event(), huge], {"batch": [huge]}):
        with pytest.raises(CaptureError) as caught:
            check_sizes(payload)
        assert caught.value.status == 413


def request(body: bytes, query: str = "", **headers: str) -> Request:
    return Request.parse("POST", f"/batch/?{query}", headers, body)


def test_a_body_may_be_packed() -> None:
    packed = gzip.compress(b'{"a": 1}')

    assert decode_body(request(packed, **{"Content-Encoding": "gzip"})) == {"a": 1}
    assert decode_body(request(packed)) == {"a": 1}
    assert decode_body(request(b'{"a": 1}')) == {"a": 1}
    assert decode_body(request(packed, "compression=gzip")) == {"a": 1}
    assert decode_body(request(b"data=" + quote(base64.b64encode(packed)).encode() + b"&compression=gzip")) == {"a": 1}
    assert decode_body(request(b"data=" + quote(base64.b64encode(b'{"a": 1}')).encode())) == {"a": 1}


@pytest.mark.parametrize(
    ("query", "headers", "status"),
    [
        ("compression=gzip", {}, 400),
        ("compression=lz64", {}, 400),
        ("", {"Content-Encoding": "gzip"}, 400),
        ("", {"Content-Encoding": "deflate"}, 400),
        ("", {"Content-Encoding": "zstd"}, 415),
        ("", {"Content-Encoding": "br"}, 415),
    ],
)
def test_a_body_that_is_not_packed_as_it_says_is_refused(query: str, headers: dict[str, str], status: int) -> None:
    with pytest.raises(CaptureError) as caught:
        decode_body(request(b'{"a": 1}', query, **headers))
    assert caught.value.status == status


@pytest.mark.parametrize(
    ("body", "status", "start"),
    [
        (b"\x1f\x8bnonsense", 400, "failed to decode request: Error"),
        (gzip.compress(b"x" * 1000)[:-9], 400, "failed to decode request: the gzip stream is cut short"),
        (gzip.compress(b"x" * 1001), 413, "failed to decode request: decompressed payload is too large"),
        (b"{", 400, "failed to parse request: Expecting"),
        (b'{"a": NaN}', 400, "failed to parse request: Out of range float values"),
        (b'{"a": 1e999}', 400, "failed to parse request: Out of range float values"),
        (b"\xff", 400, "failed to parse request: 'utf-8' codec"),
        (b'"\\ud800"', 400, "failed to parse request: 'utf-8' codec"),
        (b"[" * 100_000, 400, "failed to parse request: the body is nested too deeply"),
        (b"", 400, "failed to parse request: Expecting value"),
    ],
)
def test_a_body_that_cannot_be_read_is_refused(body: bytes, status: int, start: str) -> None:
    with pytest.raises(CaptureError) as caught:
        decode_body(request(body), limit=1000)
    assert caught.value.status == status
    assert str(caught.value).startswith(start)


@given(st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(2260, 1, 1), timezones=st.just(timezone.utc)))
def test_every_timestamp_that_python_prints_is_read_exactly(moment: datetime) -> None:
    assert parse_timestamp(moment.isoformat()) == moment
    assert parse_timestamp(moment.isoformat(sep=" ").replace("+00:00", "Z")) == moment


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-02", "2026-01-02T00:00:00+00:00"),
        ("2026-01-02T03:04", "2026-01-02T03:04:00+00:00"),
        ("2026-01-02T03:04:05.1234567Z", "2026-01-02T03:04:05.123456+00:00"),
        ("2026-01-02T03:04:05.5-0130", "2026-01-02T04:34:05.500000+00:00"),
    ],
)
def test_other_common_forms_of_timestamps_are_read(text: str, expected: str) -> None:
    assert parse_timestamp(text).isoformat() == expected
