"""The retry rules: which failures are repeated, how long the wait is, and what all requests may spend together."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import Any

import pytest
import requests
import urllib3

from posthog_driver import exceptions as errors
from posthog_driver._models import ApiRequest
from posthog_driver.retry import (
    Decision,
    RetryBudget,
    RetryPolicy,
    exponential_backoff,
    parse_retry_after,
    should_retry,
)

QUERY = ApiRequest("POST", "/api/projects/1/query/", scope="query")
READ = ApiRequest("GET", "/api/projects/1/cohorts/")
WRITE = ApiRequest("POST", "/api/projects/1/cohorts/", idempotent=False)
CAPTURE = ApiRequest("POST", "/batch/", scope="ingest")
NOW = 1_700_000_000.0  # Tue, 14 Nov 2023 22:13:20 GMT


def lowest(low: float, high: float) -> float:
    return low


def highest(low: float, high: float) -> float:
    return high


def refused() -> errors.ConnectionError:
    error = errors.ConnectionError("connection refused")
    error._never_sent = True
    return error


class TestExponentialBackoff:
    @pytest.mark.parametrize(("attempt", "ideal"), [(0, 1), (1, 2), (2, 4), (3, 8), (4, 16)])
    def test_waits_double_and_gain_up_to_ten_percent(self, attempt: int, ideal: float) -> None:
        waits = [exponential_backoff(attempt) for _ in range(200)]
        assert all(ideal <= wait <= 1.1 * ideal for wait in waits)
        assert max(waits) - min(waits) > 0.05 * ideal

    @pytest.mark.parametrize("attempt", [5, 6, 10, 1_000, 10**9])
    def test_the_cap_holds_with_jitter_for_any_attempt(self, attempt: int) -> None:
        assert exponential_backoff(attempt) == 32

    def test_an_attempt_below_zero_counts_as_the_first(self) -> None:
        assert 1 <= exponential_backoff(-5) <= 1.1

    def test_base_and_cap_are_arguments(self) -> None:
        assert 3 <= exponential_backoff(0, base=3) <= 3.3
        assert exponential_backoff(3, base=1, max_wait=5) == 5


class TestShouldRetry:
    @pytest.mark.parametrize("status", [408, 429, 500, 501, 502, 503, 504, 512, 520, 599])
    def test_these_statuses_may_pass(self, status: int) -> None:
        assert should_retry(None, status) is True

    @pytest.mark.parametrize("status", [None, 200, 301, 400, 401, 402, 403, 404, 409, 413, 499, 600])
    def test_other_statuses_are_final(self, status: int | None) -> None:
        assert should_retry(None, status) is False

    @pytest.mark.parametrize(
        "exception",
        [
            requests.ConnectionError(),
            requests.exceptions.ConnectTimeout(),
            requests.exceptions.ReadTimeout(),
            requests.exceptions.ProxyError(),
            requests.exceptions.ChunkedEncodingError(),
            ConnectionResetError(),
            TimeoutError(),
            errors.ConnectionError(),
            errors.TimeoutError(),
            errors.ServerError(),
            errors.RateLimitError(),
        ],
        ids=lambda exception: f"{type(exception).__module__}.{type(exception).__name__}",
    )
    def test_connection_and_time_out_errors_may_pass(self, exception: Exception) -> None:
        assert should_retry(exception) is True

    @pytest.mark.parametrize(
        "exception",
        [
            ValueError(),
            OSError(),
            requests.exceptions.InvalidURL(),
            requests.exceptions.HTTPError(),
            errors.QuotaError(),
            errors.QueryError(),
            errors.QueryTimeoutError(),
            errors.AuthenticationError(),
            errors.CircuitBreakerOpen(),
            errors.ResponseFormatError(),
        ],
        ids=lambda exception: type(exception).__name__,
    )
    def test_other_errors_are_final(self, exception: Exception) -> None:
        assert should_retry(exception) is False

    @pytest.mark.parametrize(("status", "expected"), [(503, True), (404, False)])
    def test_an_http_error_of_requests_counts_by_its_status(self, status: int, expected: bool) -> None:
        response = requests.Response()
        response.status_code = status
        assert should_retry(requests.HTTPError(response=response)) is expected

    def test_a_class_that_is_only_called_alike_is_no_connection_error(self) -> None:
        assert should_retry(urllib3.exceptions.ConnectTimeoutError()) is False

    def test_the_module_works_without_requests(self) -> None:
        code = (
            "import sys; sys.modules['requests'] = None\n"
            "from posthog_driver.retry import should_retry\n"
            "assert should_retry(ConnectionError()) and not should_retry(ValueError())"
        )
        subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


class TestParseRetryAfter:
    @pytest.mark.parametrize(
        ("header", "seconds"),
        [
            ("20", 20.0),
            (" 1.5 ", 1.5),
            ("0", 0.0),
            ("3600", 3600.0),
            ("Tue, 14 Nov 2023 22:13:50 GMT", 30.0),
            ("Tuesday, 14-Nov-23 22:13:50 GMT", 30.0),
            ("Tue Nov 14 22:13:50 2023", 30.0),
            ("Tue, 14 Nov 2023 23:13:50 +0100", 30.0),
            ("Tue, 14 Nov 2023 22:13:50 -0000", 30.0),
            ("Tue, 14 Nov 2023 22:00:00 GMT", 0.0),
            ("Fri, 31 Dec 1999 23:59:59 GMT", 0.0),
        ],
    )
    def test_seconds_and_dates_are_read(self, header: str, seconds: float) -> None:
        assert parse_retry_after(header, NOW) == pytest.approx(seconds)

    @pytest.mark.parametrize(
        "header",
        [
            *(None, "", " ", "-10", "nan", "inf", "Infinity", "1e3", "1_000", "\uff11\uff12", "0x10", "soon", "20, 30"),
            *("9" * 12, "1" + "0" * 30, "1" + "0" * 300, "\x00", "é" * 1000),
            *("Tue, 99 Nov 2023 22:13:50 GMT", "Fri, 31 Dec 9999 23:59:59 GMT"),
            "Tue, 14 Nov 2023 22:13:50 +9999999999",
        ],
    )
    def test_anything_else_is_none_and_raises_nothing(self, header: str | None) -> None:
        assert parse_retry_after(header, NOW) is None


class TestWaits:
    @pytest.mark.parametrize(
        ("attempt", "low", "high"), [(1, 1, 2), (2, 2, 3), (3, 4, 5), (4, 8, 9), (5, 16, 17.6), (6, 32, 33)]
    )
    def test_the_wait_is_the_ideal_and_a_random_second_or_ten_percent(
        self, attempt: int, low: float, high: float
    ) -> None:
        error = errors.ServerError(status=503)
        for rng, expected in ((lowest, low), (highest, high)):
            policy = RetryPolicy(max_attempts=9, rng=rng)
            assert policy.next_delay(READ, error, attempt, 300.0) == pytest.approx(expected)

    @pytest.mark.parametrize("attempt", [7, 100, 10**9])
    def test_no_wait_of_ours_is_longer_than_the_cap_and_a_second(self, attempt: int) -> None:
        policy = RetryPolicy(max_attempts=10**10, rng=highest)
        assert policy.next_delay(READ, errors.ServerError(), attempt, 300.0) == 33.0

    @pytest.mark.parametrize(("asked", "expected"), [(None, 1.0), (0.0, 1.0), (-3.0, 1.0), (float("nan"), 1.0)])
    def test_our_own_backoff_is_used_where_the_server_asks_for_nothing(
        self, asked: float | None, expected: float
    ) -> None:
        error = errors.RateLimitError(status=429, retry_after=asked)
        assert RetryPolicy(rng=lowest).next_delay(QUERY, error, 1, 300.0) == expected

    def test_retry_after_is_a_minimum_and_the_whole_wait_after_a_first_429(self) -> None:
        policy = RetryPolicy(rng=lowest, max_attempts=9)
        error = errors.RateLimitError(status=429, retry_after=5.0)
        assert policy.next_delay(QUERY, error, 1, 300.0) == 5.0
        assert policy.next_delay(QUERY, error, 4, 300.0) == 8.0

    def test_a_fleet_that_is_told_the_same_second_does_not_come_back_in_step(self) -> None:
        error = errors.RateLimitError(status=429, retry_after=50.0)
        waits = [RetryPolicy().next_delay(QUERY, error, 1, 300.0) for _ in range(200)]
        assert all(wait is not None and 50.0 <= wait <= 51.0 for wait in waits)
        assert len(set(waits)) > 150

    def test_retry_after_counts_for_503_too(self) -> None:
        error = errors.ServerError(status=503, retry_after=7.0)
        decision = RetryPolicy(rng=lowest).decide(READ, error, 1, 300.0)
        assert decision == Decision(7.0, "PostHog asks to wait 7 s")

    def test_a_retry_after_of_exactly_the_longest_is_waited_for(self) -> None:
        error = errors.RateLimitError(status=429, retry_after=120.0)
        assert RetryPolicy(rng=lowest).next_delay(QUERY, error, 1, 300.0) == 120.0

    @pytest.mark.parametrize(
        ("asked", "remaining", "reason"),
        [
            (1800.0, 299.0, "1800 s is longer than total_timeout=300 s"),
            (float("inf"), 299.0, "inf s is longer than total_timeout=300 s"),
            (121.0, 299.0, "121 s is longer than the 120 s that a retry waits at most"),
            (60.0, 50.0, "a wait of 60.0 s would pass the deadline, which is 50.0 s away"),
            (60.0, 60.0, "a wait of 60.0 s would pass the deadline, which is 60.0 s away"),
            (None, -1.0, "a wait of 1.0 s would pass the deadline, which is 0.0 s away"),
        ],
    )
    def test_a_wait_that_is_too_long_is_not_begun(self, asked: float | None, remaining: float, reason: str) -> None:
        error = errors.RateLimitError(status=429, retry_after=asked)
        assert RetryPolicy(rng=lowest).decide(QUERY, error, 1, remaining) == Decision(None, reason)

    def test_a_requests_own_total_timeout_is_named(self) -> None:
        error = errors.RateLimitError(status=429, retry_after=30.0)
        decision = RetryPolicy().decide(QUERY._replace(total_timeout=20.0), error, 1, 19.0)
        assert decision.reason == "30 s is longer than total_timeout=20 s"


class TestAttempts:
    @pytest.mark.parametrize(
        ("policy", "request_limit", "expected"),
        [(3, None, 3), (0, None, 1), (1, None, 1), (-2, None, 1), (3, 2, 2), (3, 9, 3), (3, 0, 1), (3, 1, 1)],
    )
    def test_the_smaller_limit_wins_and_there_is_always_one_attempt(
        self, policy: int, request_limit: int | None, expected: int
    ) -> None:
        request = READ._replace(max_attempts=request_limit)
        assert RetryPolicy(max_attempts=policy).attempts_for(request) == expected

    def test_the_last_attempt_is_not_repeated(self) -> None:
        policy, error = RetryPolicy(), errors.ServerError(status=500)
        assert policy.next_delay(READ, error, 2, 300.0) is not None
        assert policy.decide(READ, error, 3, 300.0) == Decision(None, "attempt 3 of 3 was the last")

    def test_a_success_is_not_repeated(self) -> None:
        assert RetryPolicy().decide(READ, None, 1, 300.0) == Decision(None, "the attempt succeeded")


class TestWhichErrors:
    @pytest.mark.parametrize("request_", [QUERY, READ, CAPTURE], ids=["query", "read", "capture"])
    @pytest.mark.parametrize(
        ("error", "reason"),
        [
            (errors.ConnectionError(), "no usable answer"),
            (errors.TimeoutError(), "no answer in time"),
            (errors.TimeoutError(status=408), "no answer in time"),
            (errors.ServerError(status=500), "status 500"),
            (errors.ServerError(status=502), "status 502"),
            (errors.ServerError(status=520), "status 520"),
            (errors.RateLimitError(status=429), "status 429"),
        ],
    )
    def test_what_may_pass_is_repeated(self, request_: ApiRequest, error: errors.PostHogError, reason: str) -> None:
        decision = RetryPolicy(rng=lowest).decide(request_, error, 1, 300.0)
        assert decision == Decision(1.0, reason)

    @pytest.mark.parametrize("request_", [QUERY, READ, WRITE], ids=["query", "read", "write"])
    @pytest.mark.parametrize(
        "error",
        [
            errors.PostHogError(),
            errors.ValidationError(),
            errors.AuthenticationError(status=401),
            errors.AuthorizationError(status=403),
            errors.ObjectNotFoundError(status=404),
            errors.QueryError(status=400),
            errors.QueryTimeoutError(status=504),
            errors.QueryTooHeavyError(status=513),
            errors.QuotaError(status=402, retry_after=1.0),
            errors.CircuitBreakerOpen(retry_after=1.0),
            errors.ResponseFormatError(status=200),
        ],
        ids=lambda error: type(error).__name__,
    )
    def test_what_does_not_pass_by_itself_is_final(self, request_: ApiRequest, error: errors.PostHogError) -> None:
        assert RetryPolicy().next_delay(request_, error, 1, 300.0) is None

    @pytest.mark.parametrize("status", [504, 512, 513])
    def test_a_query_that_is_too_heavy_is_final_where_another_endpoint_has_an_outage(self, status: int) -> None:
        error = errors.ServerError(status=status)
        decision = RetryPolicy().decide(QUERY, error, 1, 300.0)
        assert decision == Decision(None, "the same query would fail again")
        assert RetryPolicy().next_delay(READ, error, 1, 300.0) is not None

    @pytest.mark.parametrize(
        "error",
        [
            errors.ConnectionError(),
            errors.TimeoutError(),
            errors.TimeoutError(status=408),
            errors.ServerError(status=503),
        ],
        ids=["reset", "silence", "408", "503"],
    )
    def test_a_write_whose_outcome_is_unknown_is_not_repeated(self, error: errors.PostHogError) -> None:
        decision = RetryPolicy().decide(WRITE, error, 1, 300.0)
        assert decision == Decision(None, "a write whose outcome is unknown is not repeated")

    @pytest.mark.parametrize("error", [errors.RateLimitError(status=429), refused()], ids=["429", "refused"])
    def test_a_write_that_was_certainly_not_carried_out_is_repeated(self, error: errors.PostHogError) -> None:
        assert RetryPolicy(rng=lowest).next_delay(WRITE, error, 1, 300.0) == 1.0


class TestBudget:
    def test_a_retry_costs_five_and_ten_after_a_time_out(self) -> None:
        budget = RetryBudget()
        assert budget.try_spend(errors.ServerError()) == 5
        assert budget.try_spend(errors.TimeoutError()) == 10
        assert budget.try_spend() == 5
        assert budget.available == 480
        assert repr(budget) == "<RetryBudget 480/500>"

    def test_an_outage_ends_in_no_retries_and_nothing_below_zero(self) -> None:
        budget = RetryBudget(capacity=12)
        assert [budget.try_spend() for _ in range(4)] == [5, 5, 0, 0]
        assert budget.available == 2

    def test_success_gives_the_last_cost_back_and_a_first_success_one(self) -> None:
        budget = RetryBudget(capacity=20)
        budget.try_spend()
        budget.try_spend(errors.TimeoutError())
        budget.give_back(10)
        assert budget.available == 15
        budget.give_back()
        assert budget.available == 16
        budget.give_back(100)
        assert budget.available == 20

    def test_a_success_with_a_full_budget_takes_no_lock(self) -> None:
        budget = RetryBudget()
        with budget._lock:  # taking it again would hang
            budget.give_back()
        assert budget.available == 500

    def test_the_policy_spends_only_when_everything_else_says_retry(self) -> None:
        budget = RetryBudget()
        policy = RetryPolicy(budget=budget)
        policy.decide(READ, errors.QueryError(), 1, 300.0)
        policy.decide(READ, errors.ServerError(), 3, 300.0)
        policy.decide(READ, errors.ServerError(), 1, 0.5)
        policy.decide(READ, errors.ServerError(retry_after=500.0), 1, 300.0)
        assert budget.available == 500
        assert policy.decide(READ, errors.TimeoutError(), 1, 300.0).cost == 10
        assert budget.available == 490

    def test_a_used_up_budget_is_the_reason_to_give_up(self) -> None:
        policy = RetryPolicy(budget=RetryBudget(capacity=4))
        decision = policy.decide(READ, errors.ServerError(), 1, 300.0)
        assert decision == Decision(None, "the retry budget is used up")

    @pytest.mark.parametrize(("attempt", "spent", "back"), [(1, 0, 1), (2, 0, 5), (2, 10, 10)])
    def test_the_policy_gives_back_what_the_success_is_worth(self, attempt: int, spent: int, back: int) -> None:
        budget = RetryBudget(capacity=100)
        for _ in range(4):
            budget.try_spend()
        RetryPolicy(budget=budget).succeeded(attempt, spent)
        assert budget.available == 80 + back

    def test_a_policy_without_a_budget_notes_nothing(self) -> None:
        policy = RetryPolicy()
        policy.succeeded(1)
        assert policy.budget is None

    def test_a_thousand_failing_calls_make_far_fewer_than_three_requests_each(self) -> None:
        policy = RetryPolicy(budget=RetryBudget())
        requests_made = 0
        for _ in range(1_000):
            attempt = 1
            while policy.next_delay(READ, errors.ServerError(status=503), attempt, 300.0) is not None:
                attempt += 1
            requests_made += attempt
        assert requests_made == 1_000 + 500 // 5

    def test_ten_threads_never_take_more_than_there_is(self) -> None:
        budget = RetryBudget(capacity=100)
        start = threading.Barrier(10)
        taken: list[int] = []

        def hammer() -> None:
            start.wait(timeout=60)
            for _ in range(500):
                spent = budget.try_spend()
                taken.append(spent)
                assert 0 <= budget.available <= 100
                if spent and len(taken) % 3:
                    budget.give_back(spent)
                    taken.append(-spent)

        threads = [threading.Thread(target=hammer) for _ in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=60)
        assert budget.available == 100 - sum(taken)

    def test_a_forked_child_can_spend_though_a_thread_of_the_parent_held_the_lock(self) -> None:
        code = (
            "import os\n"
            "from posthog_driver.retry import RetryBudget\n"
            "budget = RetryBudget()\n"
            "budget._lock.acquire()\n"
            "pid = os.fork()\n"
            "if pid == 0:\n"
            "    os._exit(0 if budget.try_spend() == 5 else 1)\n"
            "raise SystemExit(os.waitpid(pid, 0)[1])"
        )
        subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_policy_is_frozen() -> None:
    policy: Any = RetryPolicy()
    with pytest.raises(AttributeError):
        policy.max_attempts = 5
