"""Writes whose outcome is unknown: an event is repeated under the same name, anything else is not."""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest

from posthog_driver.exceptions import (
    AuthenticationError,
    ConnectionError,
    PostHogError,
    QueryError,
    ResponseFormatError,
    ServerError,
    ValidationError,
)
from posthog_driver.testing import (
    FakeClock,
    FaultServer,
    Reply,
    answer,
    cut,
    error_body,
    hang_up,
    reset,
)

STORED = answer(200, {"status": "Ok"})
LOST = [
    pytest.param(reset(), id="reset"),
    pytest.param(hang_up(), id="closed"),
    pytest.param(cut(STORED, 40), id="closed inside the headers"),
    pytest.param(cut(STORED, -3), id="closed inside the body"),
    pytest.param(answer(500), id="500"),
]
EVENTS = [
    {"event": "signed up", "distinct_id": "user 1"},
    {"event": "paid", "distinct_id": "user 2", "properties": {"amount": 3}},
]


@pytest.mark.parametrize("lost", LOST)
def test_a_batch_is_repeated_with_the_identity_of_each_event(
    lost: Reply, connect: Any, fault_server: FaultServer
) -> None:
    fault_server.then(lost, lost, STORED)
    connect().capture_batch(EVENTS)
    sent = [request.json["batch"] for request in fault_server.requests]
    assert sent[0] == sent[1] == sent[2]
    assert len({event["uuid"] for event in sent[0]}) == 2
    assert all(event["timestamp"] for event in sent[0])


def test_no_part_of_a_receipt_counts_as_one(connect: Any, fault_server: FaultServer) -> None:
    client = connect()
    for length in range(len(STORED.data)):
        fault_server.then(cut(STORED, length), STORED)
        client.capture_event("signed up", "user 1")
        assert len(fault_server.requests) == 2, STORED.data[:length]
        fault_server.requests.clear()


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_an_event_survives_trouble_that_passes(
    status: int, connect: Any, fault_server: FaultServer, fake_clock: FakeClock
) -> None:
    fault_server.then(answer(status, b"", {"Retry-After": "9"}), STORED)
    connect().capture_event("signed up", "user 1")
    assert fault_server.requests[0].json == fault_server.requests[1].json
    assert len(fake_clock.sleeps) == 1
    assert 9 <= fake_clock.sleeps[0] <= 120


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, QueryError), (401, AuthenticationError), (403, PostHogError), (413, PostHogError)],
)
def test_an_event_that_is_refused_is_an_error_at_once(
    status: int, kind: type[PostHogError], connect: Any, fails: Any, fault_server: FaultServer
) -> None:
    fault_server.then((status, error_body(status, "Event is malformed")))
    with fails(kind, match="Event is malformed"):
        connect().capture_event("signed up", "user 1")
    assert len(fault_server.requests) == 1


def test_a_sign_in_page_is_no_receipt_for_an_event(connect: Any, fails: Any, fault_server: FaultServer) -> None:
    fault_server.default = (200, "<html><title>Welcome to the hotel's network</title></html>")
    with fails(ResponseFormatError, match="hotel"):
        connect().capture_event("signed up", "user 1")


@pytest.mark.parametrize("receipt", [answer(200, b"1"), answer(200, b""), answer(204), answer(200, {"status": 1})])
def test_every_receipt_that_posthog_gives_counts(receipt: Reply, connect: Any, fault_server: FaultServer) -> None:
    fault_server.then(receipt)
    connect().capture_event("signed up", "user 1")
    assert len(fault_server.requests) == 1


def test_an_event_that_cannot_be_delivered_is_an_error(connect: Any, fails: Any, fault_server: FaultServer) -> None:
    fault_server.default = answer(503)
    with fails(ServerError) as caught:
        connect(max_retries=3).capture_event("signed up", "user 1")
    assert caught.value.attempts == 3
    assert len(fault_server.requests) == 3


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_json_does_not_know_is_refused_or_sent_as_json(
    value: float, connect: Any, fault_server: FaultServer
) -> None:
    fault_server.default = STORED
    client = connect()
    refused = 0
    properties = {"x": value, "deep": [{"y": value}]}
    try:
        client.capture_event("odd", "user 1", properties)
    except ValidationError:
        refused += 1
    try:
        client.capture_batch([{"event": "odd", "distinct_id": "1", "properties": properties}])
    except ValidationError:
        refused += 1
    assert refused + len(fault_server.requests) == 2
    for request in fault_server.requests:
        json.loads(request.body, parse_constant=pytest.fail)


WRITES = [
    pytest.param(lambda client: client.create_cohort("Power users"), id="cohort"),
    pytest.param(lambda client: client.create_insight("Sign-ups", "TRENDS", {}), id="insight"),
    pytest.param(lambda client: client.create_annotation("Released"), id="annotation"),
    pytest.param(lambda client: client.request("/api/projects/1/x/", method="POST", json={}), id="POST"),
    pytest.param(lambda client: client.request("/api/projects/1/x/1/", method="PATCH", json={}), id="PATCH"),
]


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("lost", LOST)
def test_a_write_whose_outcome_is_unknown_is_not_repeated(
    lost: Reply, write: Any, connect: Any, fails: Any, fault_server: FaultServer
) -> None:
    fault_server.then(lost, (201, {"id": 2}))
    with fails():
        write(connect())
    assert len(fault_server.requests) == 1


@pytest.mark.parametrize("write", WRITES)
def test_a_write_that_was_not_accepted_for_now_is_repeated(write: Any, connect: Any, fault_server: FaultServer) -> None:
    fault_server.then(answer(429, b"", {"Retry-After": "1"}), (201, {"id": 2}))
    write(connect())
    assert len(fault_server.requests) == 2


def test_a_write_that_never_left_is_repeated(connect: Any, fails: Any, fake_clock: FakeClock) -> None:
    with socket.socket() as port:
        port.bind(("127.0.0.1", 0))
        client = connect(api_url=f"http://127.0.0.1:{port.getsockname()[1]}", max_retries=3)
        with fails(ConnectionError) as caught:
            client.create_annotation("Released")
    assert caught.value.attempts == 3
