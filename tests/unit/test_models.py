"""The frozen values that travel, which show no secrets, and the clock."""

from __future__ import annotations

import copy
import pickle
import time

import pytest

from posthog_driver._clock import Clock, SystemClock
from posthog_driver._models import ApiRequest, ApiResponse, Attempt, RetryScheduled
from posthog_driver.exceptions import ServerError
from posthog_driver.testing import FakeClock

SECRET = "phx_test_key"
REQUEST = ApiRequest(
    "POST",
    "/api/projects/1/query/",
    {"query": {"query": f"SELECT '{SECRET}'"}},
    params={"token": SECRET},
    body=SECRET.encode(),
    headers={"Authorization": f"Bearer {SECRET}"},
    scope="query",
    query_id="q-1",
)
RESPONSE = ApiResponse(200, {"Set-Cookie": SECRET}, {"api_token": SECRET}, SECRET, 0.25, 2)
ATTEMPT = Attempt(REQUEST, 1, 3, 0.25, 500, ServerError("down", status=500))
SCHEDULED = RetryScheduled(ATTEMPT, 1.5, "the server answered 500")


@pytest.mark.parametrize("value", [REQUEST, RESPONSE, ATTEMPT, SCHEDULED])
def test_no_way_of_showing_a_value_shows_what_it_carries(value: tuple[object, ...]) -> None:
    for shown in (repr(value), str(value), f"{value}", repr([value]), f"{(value,)!r}"):
        assert SECRET not in shown


def test_a_repr_says_what_helps_in_a_log() -> None:
    assert repr(REQUEST) == "<ApiRequest POST /api/projects/1/query/ scope=query query_id=q-1>"
    assert repr(RESPONSE) == "<ApiResponse 200 attempts=2 elapsed=0.250>"


def test_a_request_is_by_default_a_read_of_the_private_api() -> None:
    request = ApiRequest("GET", "/api/projects/1/")
    assert (request.scope, request.idempotent, request.max_attempts, request.query_id) == ("crud", True, None, None)


@pytest.mark.parametrize("value", [REQUEST, RESPONSE])
def test_values_are_frozen_and_survive_pickling_and_copying(value: ApiRequest | ApiResponse) -> None:
    with pytest.raises(AttributeError):
        value.status = 1  # type: ignore[misc, union-attr]
    assert pickle.loads(pickle.dumps(value)) == copy.deepcopy(value) == value
    assert type(pickle.loads(pickle.dumps(value))) is type(value)


class TestSystemClock:
    def test_it_reads_the_clocks_of_the_system(self, monkeypatch: pytest.MonkeyPatch) -> None:
        clock: Clock = SystemClock()
        assert time.monotonic() <= clock.monotonic() <= time.monotonic()
        assert time.time() - 60 < clock.wall() < time.time() + 60

    def test_sleep_is_looked_up_when_it_is_called(self, monkeypatch: pytest.MonkeyPatch) -> None:
        clock, slept = SystemClock(), list[float]()
        monkeypatch.setattr(time, "sleep", slept.append)
        for seconds in (0.5, 0.0, -1.0):
            clock.sleep(seconds)
        assert slept == [0.5]

    def test_the_fake_one_does_the_same_without_waiting(self) -> None:
        clock: Clock = FakeClock(start=5.0, wall=100.0)
        clock.sleep(2.5)
        assert (clock.monotonic(), clock.wall()) == (7.5, 102.5)
