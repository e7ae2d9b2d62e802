"""The limiter against brute force: a model that keeps every grant and tries each moment at which room could come."""

from __future__ import annotations

import math

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from posthog_driver.exceptions import TimeoutError
from posthog_driver.rate_limiter import RateLimiter
from posthog_driver.testing import FakeClock

# Quarters add up without rounding, so that times can be compared exactly.
durations = st.integers(0, 60).map(lambda quarters: quarters / 4)
windows_of = st.lists(st.tuples(st.integers(1, 5), st.integers(1, 80).map(lambda n: n / 4)), max_size=3)


class LimiterMachine(RuleBasedStateMachine):
    @initialize(windows=windows_of)
    def build(self, windows: list[tuple[int, float]]) -> None:
        self.clock = FakeClock(0.0)
        self.limiter = RateLimiter(windows=windows, clock=self.clock)
        self.windows = windows
        self.granted: list[float] = []
        self.paused_until = 0.0

    # --- the model ------------------------------------------------------------------------------------------

    def room(self, now: float) -> float:
        """Return how many fit at this moment: those of the last ``seconds``, this moment included, count."""
        if now < self.paused_until:
            return 0
        return min(
            (limit - sum(now - seconds < at for at in self.granted) for limit, seconds in self.windows),
            default=math.inf,
        )

    def next_moment(self) -> float:
        now = self.clock.monotonic()
        moments = {now, self.paused_until} | {at + s for at in self.granted for _, s in self.windows}
        return min(moment for moment in moments if moment >= now and self.room(moment) > 0)

    # --- what can happen ------------------------------------------------------------------------------------

    @rule()
    def acquire(self) -> None:
        now = self.clock.monotonic()
        fits = self.room(now) > 0
        assert self.limiter.acquire() == fits
        if fits:
            self.granted.append(now)

    @rule(timeout=st.none() | durations)
    def wait(self, timeout: float | None) -> None:
        now, moment, sleeps = self.clock.monotonic(), self.next_moment(), len(self.clock.sleeps)
        if timeout is not None and moment - now > timeout:
            with pytest.raises(TimeoutError) as caught:
                self.limiter.wait_and_acquire(timeout)
            assert caught.value.retry_after == moment - now
            assert self.clock.monotonic() == now
        else:
            assert self.limiter.wait_and_acquire(timeout) == moment - now
            assert self.clock.monotonic() == moment
            assert len(self.clock.sleeps) - sleeps == (moment > now)
            self.granted.append(moment)

    @rule(seconds=durations)
    def pause(self, seconds: float) -> None:
        until = self.limiter.pause(seconds)
        assert until == self.clock.monotonic() + seconds
        self.paused_until = max(self.paused_until, until)

    @rule(seconds=durations)
    def resume(self, seconds: float) -> None:
        until = self.clock.monotonic() + seconds
        self.limiter.resume(until)
        if until == self.paused_until:
            self.paused_until = 0.0

    @rule(seconds=durations)
    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @invariant()
    def no_stretch_holds_more_than_the_limit(self) -> None:
        for limit, seconds in self.windows:
            for start in self.granted:
                assert sum(start <= at < start + seconds for at in self.granted) <= limit

    @invariant()
    def it_says_what_it_will_do(self) -> None:
        now = self.clock.monotonic()
        assert self.limiter.available == self.room(now)
        assert self.limiter.retry_after == self.next_moment() - now


LimiterMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestLimiterFollowsTheModel = LimiterMachine.TestCase
