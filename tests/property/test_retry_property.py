"""What holds for every retry: bounds of the waits, the deadline, the budget, a fleet that does not march in step."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import example, given, settings
from hypothesis import strategies as st

from posthog_driver import exceptions as errors
from posthog_driver._models import ApiRequest
from posthog_driver.retry import (
    RetryBudget,
    RetryPolicy,
    exponential_backoff,
    parse_retry_after,
    should_retry,
)

SECONDS = st.floats(0.001, 1_000)
REQUESTS = st.builds(
    ApiRequest,
    method=st.just("POST"),
    path=st.just("/x/"),
    scope=st.sampled_from(["query", "crud", "ingest"]),
    idempotent=st.booleans(),
    max_attempts=st.none() | st.integers(-1, 9),
)
STATUSES = st.none() | st.integers(400, 599)
ERRORS = st.builds(
    lambda cls, status, retry_after: cls("x", status=status, retry_after=retry_after),
    st.sampled_from([getattr(errors, name) for name in errors.__all__ if isinstance(getattr(errors, name), type)]),
    STATUSES,
    st.none() | st.floats() | st.floats(0, 400),
)


@given(st.integers(), SECONDS, SECONDS)
@example(10**30, 1, 32)
def test_a_plain_backoff_stays_between_the_base_and_the_cap(attempt: int, base: float, max_wait: float) -> None:
    wait = exponential_backoff(attempt, base, max_wait)
    assert min(base, max_wait) <= wait <= max_wait


@given(st.integers(-5, 600), st.floats(1, 10))
def test_a_plain_backoff_is_at_most_ten_percent_above_its_ideal(attempt: int, base: float) -> None:
    ideal = base * 2 ** max(min(attempt, 500), 0)
    wait = exponential_backoff(attempt, base, max_wait=float("inf"))
    assert ideal <= wait <= 1.1 * ideal * (1 + 1e-12)


@given(
    st.none() | st.text(max_size=70) | st.from_regex(r"[-+0-9a-zA-Z:, .]{1,40}", fullmatch=True),
    st.floats(0, 4e9),
)
@example("Tue, 14 Nov 2023 22:13:50 GMT", 0.0)
@example("1" + "0" * 30, 0.0)
def test_no_header_raises_and_each_gives_sane_seconds(header: str | None, now: float) -> None:
    seconds = parse_retry_after(header, now)
    assert seconds is None or 0 <= seconds <= 366 * 86_400


@given(st.integers(0, 366 * 86_400))
def test_whole_seconds_are_read_as_they_are(seconds: int) -> None:
    assert parse_retry_after(str(seconds), 0.0) == seconds


@given(st.none() | st.builds(Exception) | ERRORS, st.none() | st.integers(-1, 1_000))
def test_the_plain_table_knows_every_status(exception: Exception | None, status: int | None) -> None:
    retry = should_retry(exception, status)
    if exception is None:
        assert retry is (status in (408, 429) or (status is not None and 500 <= status < 600))


@settings(max_examples=300)
@given(REQUESTS, ERRORS, st.integers(1, 10), st.floats(-10, 400), st.integers(-1, 9))
def test_a_wait_respects_deadline_server_attempts_and_writes(
    request: ApiRequest, error: errors.PostHogError, attempt: int, remaining: float, max_attempts: int
) -> None:
    policy = RetryPolicy(max_attempts=max_attempts, budget=RetryBudget())
    decision = policy.decide(request, error, attempt, remaining)
    assert decision.reason
    if decision.delay is None:
        assert decision.cost == 0
        return
    asked = error.retry_after
    if asked is not None and asked > 0:
        assert asked <= policy.max_retry_after
        assert asked <= decision.delay <= max(1.02 * asked, 33.0)
    else:
        assert min(2.0 ** (attempt - 1), 33) <= decision.delay <= 33.0
    assert decision.delay < remaining
    assert attempt < policy.attempts_for(request)
    assert decision.cost == (10 if isinstance(error, errors.TimeoutError) else 5)
    assert isinstance(error, (errors.ConnectionError, errors.RateLimitError))
    assert not isinstance(error, errors.QuotaError)
    assert request.idempotent or isinstance(error, errors.RateLimitError)


@given(ERRORS, st.integers(0, 9), st.floats(0, 400), st.randoms(use_true_random=False))
def test_a_call_never_sleeps_past_its_deadline_nor_tries_too_often(
    error: errors.PostHogError, max_attempts: int, total: float, source: random.Random
) -> None:
    policy = RetryPolicy(max_attempts=max_attempts, rng=source.uniform)
    now, attempt = 0.0, 1
    while (delay := policy.next_delay(ApiRequest("GET", "/x/"), error, attempt, total - now)) is not None:
        now += delay
        attempt += 1
        assert now < total
    assert attempt <= max(max_attempts, 1)


@given(
    st.integers(0, 60),
    st.lists(st.sampled_from(["retry", "slow retry", "success", "late success"]), max_size=60),
)
def test_the_budget_stays_between_nothing_and_its_capacity(capacity: int, happenings: list[str]) -> None:
    budget = RetryBudget(capacity)
    for happening in happenings:
        before = budget.available
        if "retry" in happening:
            slow = happening.startswith("slow")
            spent = budget.try_spend(errors.TimeoutError() if slow else errors.ServerError())
            assert spent == ((10 if slow else 5) if before >= (10 if slow else 5) else 0)
            assert budget.available == before - spent
        else:
            budget.give_back(5 if happening.startswith("late") else 0)
            assert budget.available == min(before + (5 if happening.startswith("late") else 1), capacity)
        assert 0 <= budget.available <= capacity


def test_a_fleet_that_fails_in_one_instant_comes_back_spread_over_a_second() -> None:
    policy = RetryPolicy(rng=random.Random(1).uniform)
    waits = [policy.next_delay(ApiRequest("GET", "/x/"), errors.ServerError(), 1, 300.0) or 0.0 for _ in range(10_000)]
    tenths = Counter(int(wait * 10) for wait in waits)
    assert set(tenths) == set(range(10, 20))
    assert all(900 < count < 1_100 for count in tenths.values())  # uniform: 1,000 each, give or take 3.3 deviations
