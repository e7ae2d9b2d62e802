"""The script of faults of the embedded PostHog."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthog_driver.local.faults import NAMED, Fault, Script
from posthog_driver.local.wire import Request, Response

TRUTH = Response(200, {"results": []}, {"X-True": "1"})


def request(method: str = "GET", path: str = "/api/projects/1/") -> Request:
    return Request.parse(method, path)


@pytest.mark.parametrize(
    ("name", "status", "code", "retry_after"),
    [
        ("throttled", 429, "throttled", "1"),
        ("concurrency", 429, "throttled", None),
        ("timeout", 504, "error", None),
        ("too_slow", 512, "error", None),
        ("memory", 513, "clickhouse_memory_limit_exceeded", None),
        ("capacity", 503, "error", None),
        ("quota", 402, "api_queries_quota_exceeded", None),
        ("database", 503, "database_unavailable", "1"),
        ("unauthorized", 401, "authentication_failed", None),
        ("forbidden", 403, "permission_denied", None),
        ("server_error", 500, "error", None),
    ],
)
def test_a_named_fault_has_the_status_and_body_of_posthog(
    name: str, status: int, code: str, retry_after: str | None
) -> None:
    answer = Fault(name).answer(lambda: TRUTH)

    assert (answer.status, answer.body["code"], answer.headers.get("Retry-After")) == (status, code, retry_after)
    assert set(answer.body) == {"type", "code", "detail", "attr"}
    assert answer.body["detail"]


def test_maintenance_is_a_page_of_the_proxy_in_front() -> None:
    answer = Fault("maintenance").answer(lambda: TRUTH)

    assert (answer.status, answer.content_type) == (503, "text/html")
    assert answer.body.startswith("<html>")


def test_every_name_can_be_sent_with_headers_of_ones_own() -> None:
    for name in NAMED:
        answer = Fault(name, headers={"Retry-After": "7"}).answer(lambda: TRUTH)
        assert answer.headers["Retry-After"] == "7"
        answer.encode()


def test_a_fault_can_be_written_in_four_ways() -> None:
    whole = Fault(status=503, headers={"Retry-After": "1"}, body={"detail": "busy"})

    assert Fault.of((503, {"Retry-After": "1"}, {"detail": "busy"})) == whole
    assert Fault.of([503, {"Retry-After": "1"}, {"detail": "busy"}]) == whole
    assert Fault.of({"status": 503, "headers": {"Retry-After": "1"}, "body": {"detail": "busy"}}) == whole
    assert Fault.of(whole) is whole
    assert Fault.of("quota") == Fault(name="quota")


@given(
    st.builds(
        Fault,
        name=st.sampled_from(["", *NAMED]),
        path=st.sampled_from(["", "/query/", "^/batch", "persons|groups"]),
        method=st.sampled_from(["", "get", "POST"]),
        times=st.one_of(st.none(), st.integers(1, 9)),
        delay=st.floats(0, 3600),
        drop=st.sampled_from(["", "before", "after", "middle", "reset"]),
        headers=st.dictionaries(st.sampled_from(["X-A", "Retry-After"]), st.text("abc 1", max_size=5)),
    )
)
def test_a_fault_survives_the_way_to_the_server(fault: Fault) -> None:
    assert Fault.of(json.loads(json.dumps(fault.to_json()))) == fault


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("moon", "name must be one of throttled, concurrency"),
        ({"name": 5}, "name must be one of"),
        ({"status": 99}, "status must be between 200 and 599"),
        ({"status": True}, "status must be"),
        ({"status": "503"}, "status must be"),
        ({"name": "quota", "status": 402}, "exclude each other"),
        ({"body": "text"}, "a body needs a status"),
        ({"status": 200, "body": {1, 2}}, "the body is no JSON"),
        ({"headers": ["X: 1"]}, "headers must be a mapping"),
        ({"headers": {"X-A": "a\r\nSet-Cookie: b"}}, "is no header"),
        ({"headers": {"X A": "a"}}, "is no header"),
        ({"headers": {"X-A": 5}}, "is no header"),
        ({"path": "("}, "path is no regular expression"),
        ({"path": 5}, "path is no regular expression"),
        ({"method": 5}, "method must be text"),
        ({"times": 0}, "times must be at least 1"),
        ({"times": True}, "times must be at least 1"),
        ({"delay": -1}, "delay must be seconds"),
        ({"delay": math.inf}, "delay must be seconds"),
        ({"delay": math.nan}, "delay must be seconds"),
        ({"delay": "1"}, "delay must be seconds"),
        ({"drop": "sometimes"}, "drop must be one of before, after, middle, reset"),
        ({"when": "now"}, "no attribute when"),
        ((503, {}), "is no name, no mapping and no"),
        (5, "is no name, no mapping and no"),
    ],
)
def test_a_fault_that_cannot_be_is_refused(given: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Fault.of(given)


@pytest.mark.parametrize(
    ("drop", "carried_out", "dropped"),
    [("", True, ""), ("before", False, "silent"), ("reset", False, "reset"), ("middle", True, "middle")],
)
def test_a_request_is_carried_out_unless_its_connection_ends_first(drop: str, carried_out: bool, dropped: str) -> None:
    done: list[int] = []

    answer = Fault(drop=drop).answer(lambda: done.append(1) or TRUTH)  # type: ignore[func-returns-value]

    assert bool(done) is carried_out
    assert answer.drop == dropped


def test_after_means_that_it_was_done_whatever_is_said() -> None:
    done: list[int] = []
    carry_out: Any = lambda: done.append(1) or TRUTH  # noqa: E731

    assert Fault(drop="after").answer(carry_out).drop == "silent"
    assert Fault("timeout", drop="after").answer(carry_out).drop == "silent"
    assert len(done) == 2


def test_a_named_fault_keeps_the_request_from_being_carried_out() -> None:
    done: list[int] = []

    Fault("capacity").answer(lambda: done.append(1) or TRUTH)  # type: ignore[func-returns-value]

    assert done == []


def test_a_fault_without_an_answer_adds_its_headers_to_the_true_one() -> None:
    answer = Fault(headers={"X-Proxy": "a"}).answer(lambda: TRUTH)

    assert (answer.body, answer.headers) == (TRUTH.body, {"X-True": "1", "X-Proxy": "a"})


def test_a_request_takes_the_first_line_that_fits_it() -> None:
    script = Script([{"name": "quota", "path": "/query/", "method": "post"}, {"name": "capacity", "path": "^/api/"}])

    assert script.take(request(path="/batch/")) is None
    assert script.take(request(path="/api/x/query/")) == Fault("capacity", path="^/api/")
    assert script.take(request(path="/api/x/query/")) is None
    assert script.take(request("POST", "/api/x/query/")) == Fault("quota", path="/query/", method="post")
    assert script.left() == []


def test_a_line_is_used_as_often_as_it_says() -> None:
    script = Script([{"name": "quota", "times": 3}, {"name": "capacity", "times": None}])
    names = [fault.name for fault in (script.take(request()) for _ in range(10)) if fault]

    assert names == ["quota"] * 3 + ["capacity"] * 7
    script.clear()
    assert script.take(request()) is None
