"""The breaker against a model that keeps the whole history of permits, in any order of calls, results and time."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from posthog_driver.circuit_breaker import CircuitBreaker, CircuitState, Guard, Outcome
from posthog_driver.exceptions import CircuitBreakerOpen
from posthog_driver.testing import FakeClock

RECOVERY = 10


class OutcomeError(Exception):
    """Carries the outcome that it stands for."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome)
        self.outcome = outcome


class Permit(NamedTuple):
    """A call under way and the model's period in which it was admitted."""

    guard: Guard
    period: int


class BreakerMachine(RuleBasedStateMachine):
    """Periods are numbered; each opening, closing and probe begins a new one, and only its own results count."""

    permits: Bundle[Permit] = Bundle("permits")

    @initialize(threshold=st.integers(1, 4), successes=st.integers(1, 3))
    def build(self, threshold: int, successes: int) -> None:
        self.clock = FakeClock(0.0)
        self.heard: list[tuple[CircuitState, CircuitState]] = []
        self.expected_news: list[tuple[CircuitState, CircuitState]] = []
        self.breaker = CircuitBreaker(
            threshold,
            RECOVERY,
            success_threshold=successes,
            clock=self.clock,
            classify=lambda error: error.outcome if isinstance(error, OutcomeError) else Outcome.NEUTRAL,
            listeners=[lambda breaker, old, new: self.heard.append((old, new))],
        )
        self.period = 0
        self.state = CircuitState.CLOSED
        self.failures = self.good_probes = 0
        self.probe: int | None = None  # the period of the probe under way
        self.by_hand = False  # whether that probe reports without a permit
        self.free_at = 0.0  # when the next probe may go

    # --- the model ------------------------------------------------------------------------------------------

    def change(self, state: CircuitState) -> None:
        if state is not self.state:
            self.expected_news.append((self.state, state))
        self.state = state

    def admits(self) -> bool:
        """Admit a call, or a probe if one is due."""
        if self.state is CircuitState.CLOSED:
            return True
        if self.clock.monotonic() < self.free_at:
            return False
        self.change(CircuitState.HALF_OPEN)
        self.period += 1
        self.probe, self.free_at = self.period, self.clock.monotonic() + RECOVERY
        return True

    def result(self, outcome: Outcome) -> None:
        """Count a result that belongs to the current period."""
        was_probe, self.probe = self.probe is not None, None
        if outcome is Outcome.NEUTRAL:
            self.free_at = 0.0
        elif outcome is Outcome.FAILURE:
            self.failures += 1
            if was_probe or self.failures >= self.breaker.failure_threshold:
                self.change(CircuitState.OPEN)
                self.period += 1
                self.good_probes, self.free_at = 0, self.clock.monotonic() + RECOVERY
        else:
            self.good_probes += was_probe
            self.free_at = 0.0
            if not was_probe or self.good_probes >= self.breaker.success_threshold:
                self.close(new_period=was_probe)

    def close(self, new_period: bool = True) -> None:
        self.change(CircuitState.CLOSED)
        self.period += new_period
        self.failures, self.probe = 0, None

    # --- what can happen ------------------------------------------------------------------------------------

    @rule(target=permits)
    def begin(self) -> Permit:
        guard = self.breaker.guard()
        if not self.admits():
            with pytest.raises(CircuitBreakerOpen) as caught:
                guard.__enter__()
            assert caught.value.retry_after == self.free_at - self.clock.monotonic()
            return Permit(guard, -1)
        guard.__enter__()
        self.by_hand = False
        return Permit(guard, self.period)

    @rule(permit=permits, outcome=st.sampled_from(Outcome))
    def end(self, permit: Permit, outcome: Outcome) -> None:
        """A permit may be given back twice, and late; one that was refused never was one."""
        if permit.period == -1:
            return
        error = None if outcome is Outcome.SUCCESS else OutcomeError(outcome)
        permit.guard.__exit__(type(error) if error else None, error, None)
        current = self.state is CircuitState.CLOSED or (self.probe is not None and not self.by_hand)
        if current and permit.period == self.period:
            self.result(outcome)

    @rule()
    def ask(self) -> None:
        admitted = self.admits()
        assert self.breaker.can_execute() == admitted
        self.by_hand = self.by_hand or admitted

    @rule(good=st.booleans())
    def report(self, good: bool) -> None:
        if good:
            self.breaker.record_success()
        else:
            self.breaker.record_failure()
        if self.state is not CircuitState.CLOSED and not (self.probe is not None and self.by_hand):
            if not self.admits():
                return
            self.by_hand = True
        self.result(Outcome.SUCCESS if good else Outcome.FAILURE)

    @rule(seconds=st.sampled_from([1, 3, RECOVERY - 1, RECOVERY, 1_000]))
    def pass_time(self, seconds: int) -> None:
        self.clock.advance(seconds)

    @rule()
    def reset(self) -> None:
        self.breaker.reset()
        self.close()

    @invariant()
    def looks_like_the_model(self) -> None:
        now = self.clock.monotonic()
        due = self.state is CircuitState.OPEN and now >= self.free_at
        state = CircuitState.HALF_OPEN if due else self.state
        assert self.breaker.state is state
        assert self.breaker.is_open() == (state is CircuitState.OPEN)
        assert self.breaker.failure_count == self.failures
        wait = 0.0 if state is CircuitState.CLOSED else max(0.0, self.free_at - now)
        assert self.breaker.retry_after == wait
        assert self.heard == self.expected_news


BreakerMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestBreakerFollowsTheModel = BreakerMachine.TestCase
