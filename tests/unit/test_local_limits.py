"""Rates and the gate of the embedded PostHog."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthog_driver.local.errors import ApiError
from posthog_driver.local.limits import CLOUD, Gate, Limits, Throttle, choose


class Time:
    """A clock for gates: whoever waits on it moves it by what it may wait, or as far as it is told to."""

    def __init__(self) -> None:
        self.now = 0.0
        self.waits: list[float] = []
        self.on_wait: Any = None

    def wait(self, condition: threading.Condition, seconds: float) -> None:
        self.waits.append(seconds)
        if self.on_wait:
            self.on_wait()
        else:
            self.now += seconds


def test_the_defaults_are_those_of_posthog_cloud() -> None:
    assert CLOUD.queries == ((240, 60.0), (2400, 3600.0))
    assert CLOUD.others == ((480, 60.0), (4800, 3600.0))
    assert (CLOUD.running, CLOUD.queue_seconds) == (3, 30.0)


def test_limits_can_be_named_made_or_written_as_a_mapping() -> None:
    own = Limits(queries=((1, 2.0),), running=1)

    assert (choose(None), choose("cloud"), choose(own)) == (None, CLOUD, own)
    assert choose({"queries": [[1, 2.0]], "running": 1}) == own
    assert choose(own.to_json()) == own
    assert choose(CLOUD.to_json()) == CLOUD


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ("moon", "limits must be None"),
        (5, "limits must be None"),
        ({"moon": 1}, "limits has no field moon"),
        ({"queries": 5}, "queries must be pairs"),
        ({"queries": [1]}, "queries must be pairs"),
        ({"queries": []}, "queries must be pairs"),
        ({"others": [[0, 60]]}, "others must be pairs"),
        ({"others": [[1, 0]]}, "others must be pairs"),
        ({"others": [[1, float("inf")]]}, "others must be pairs"),
        ({"running": 0}, "running must be at least 1"),
        ({"running": True}, "running must be at least 1"),
        ({"queue_seconds": -1}, "queue_seconds must be"),
        ({"queue_seconds": "30"}, "queue_seconds must be"),
    ],
)
def test_limits_that_cannot_be_are_refused(limits: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        choose(limits)


@given(st.lists(st.floats(0, 30), max_size=60))
def test_no_window_ever_holds_more_than_its_count(pauses: list[float]) -> None:
    now, admitted = 0.0, []
    throttle = Throttle(((3, 10.0), (5, 60.0)), lambda: now)
    for pause in pauses:
        now += pause
        try:
            throttle.admit()
        except ApiError as refused:
            wait = int(refused.headers["Retry-After"])
            assert 1 <= wait <= 60
            full = [sum(1 for moment in admitted if moment > now - span) >= count for count, span in ((3, 10), (5, 60))]
            assert any(full)
        else:
            admitted.append(now)
    for moment in admitted:
        for count, span in ((3, 10.0), (5, 60.0)):
            assert sum(1 for other in admitted if moment - span < other <= moment) <= count


def test_the_fourth_query_waits_half_a_minute_and_is_refused() -> None:
    time = Time()
    gate = Gate(CLOUD, clock=lambda: time.now, wait=time.wait)
    with gate.slot(), gate.slot(), gate.slot():
        with pytest.raises(ApiError) as refused, gate.slot():
            pass
        assert (refused.value.status, refused.value.headers) == (429, {})
        assert time.waits == [30.0]
    with gate.slot():
        pass


def test_a_query_that_ends_lets_the_next_one_in() -> None:
    time = Time()
    gate = Gate(Limits(running=1), clock=lambda: time.now, wait=time.wait)
    first = gate.slot()
    first.__enter__()
    time.on_wait = lambda: first.__exit__(None, None, None)

    with gate.slot():
        assert time.waits == [30.0]


def test_a_waiter_that_is_woken_for_nothing_waits_on_for_the_rest() -> None:
    time = Time()
    gate = Gate(Limits(running=1), clock=lambda: time.now, wait=time.wait)

    def a_little() -> None:
        time.now += 12.0

    time.on_wait = a_little
    with gate.slot(), pytest.raises(ApiError), gate.slot():
        pass

    assert time.waits == [30.0, 18.0, 6.0]


def test_a_gate_without_limits_is_open() -> None:
    gate = Gate(None)
    with gate.slot(), gate.slot(), gate.slot(), gate.slot():
        pass


def test_a_slot_is_free_again_after_a_failure() -> None:
    gate = Gate(Limits(running=1, queue_seconds=0.0))
    with pytest.raises(ZeroDivisionError), gate.slot():
        raise ZeroDivisionError
    with gate.slot():
        pass
