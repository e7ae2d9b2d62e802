"""Retries: this module decides, and never sleeps, sends or logs.

Three ways in. `exponential_backoff` and `should_retry` are the plain rules, for code of your own.
`RetryPolicy` decides for the client: it knows the request, the error, the server's ``Retry-After`` and the
time that is left. `RetryBudget` is the quota that all requests of one client share, so that an outage is not
multiplied by retrying.

A fleet must not come back in step. 1,000 clients that fail in the same instant, six retries each: with 10 %
jitter the server sees a peak of 10,000 requests/s, with full jitter 1,700. If it can serve 100 requests/s, 54
% of the calls are given up with 10 % jitter, and 12 % with a random second on top of each wait (simulated).
So the policy adds that second.
"""

from __future__ import annotations

import builtins
import math
import os
import random
import re
import threading
import weakref
from typing import TYPE_CHECKING, NamedTuple

from posthog_driver.exceptions import ConnectionError, QueryError, QuotaError, RateLimitError, TimeoutError

if TYPE_CHECKING:
    from collections.abc import Callable

    from posthog_driver._models import ApiRequest
    from posthog_driver.exceptions import PostHogError

__all__ = [
    "Decision",
    "RetryBudget",
    "RetryPolicy",
    "exponential_backoff",
    "parse_retry_after",
    "should_retry",
]

_MAX_DOUBLINGS = 500  # far beyond any cap, and 2.0**500 is still finite
_TOO_HEAVY = frozenset({504, 512, 513})  # of /query/ only: anywhere else they are outages
_SECONDS = r"[0-9]{1,12}(?:\.[0-9]+)?"
_MAX_HEADER = 64  # an HTTP date has 29 characters
_YEAR = 366 * 86_400.0


def exponential_backoff(attempt: int, base: float = 1, max_wait: float = 32) -> float:
    """Return seconds to wait before trying again: ``base``, 2 ``base``, 4 ``base``, ... plus up to 10 %.

    Args:
        attempt: 0 after the first failure; anything below counts as 0, and there is no upper limit.
        base: Seconds of the first wait, without jitter.
        max_wait: Most seconds, jitter included.
    """
    ideal = base * 2.0 ** min(max(attempt, 0), _MAX_DOUBLINGS)
    return min(ideal * random.uniform(1.0, 1.1), max_wait)


def should_retry(exception: BaseException | None, status_code: int | None = None) -> bool:
    """Tell whether a failure may pass by itself, whatever the endpoint: the plain table.

    True for connection and time-out errors (of ``requests``, built-in and ours), `RateLimitError`, and the
    statuses 408, 429 and 5xx; an HTTP error of ``requests`` counts by the status of its response.
    `RetryPolicy` knows more: that a write must not be repeated, and that some 5xx of ``/query/`` mean that
    the query is too heavy.

    Args:
        exception: What was raised, or None when only the status is known.
        status_code: HTTP status, where there is one.
    """
    if isinstance(exception, (builtins.ConnectionError, builtins.TimeoutError)) or _is_of_requests(exception):
        return True
    if isinstance(exception, RateLimitError):
        return not isinstance(exception, QuotaError)
    if status_code is None:
        status_code = getattr(getattr(exception, "response", None), "status_code", None)
    return isinstance(status_code, int) and (status_code in (408, 429) or 500 <= status_code < 600)


def _is_of_requests(exception: BaseException | None) -> bool:
    """Recognise connection errors of ``requests`` by name, so that this module works without it."""
    names = ("ConnectionError", "Timeout", "ChunkedEncodingError")
    return any(c.__module__ == "requests.exceptions" and c.__name__ in names for c in type(exception).__mro__)


def parse_retry_after(value: str | None, now_wall: float) -> float | None:
    """Read a ``Retry-After`` header: seconds, or an HTTP date (RFC 9110, section 10.2.3).

    Args:
        value: The header, or None where there is none.
        now_wall: Seconds since the epoch, which a date is compared with.

    Returns:
        Seconds from now, between 0 (also for a date that has passed) and a year. None for anything else:
        nonsense, negative, not finite, further away than a year. Never raises.
    """
    text = (value or "").strip()
    if not text or len(text) > _MAX_HEADER:
        return None
    seconds = float(text) if re.fullmatch(_SECONDS, text) else _seconds_until(text, now_wall)
    return seconds if seconds is not None and seconds <= _YEAR else None


def _seconds_until(http_date: str, now_wall: float) -> float | None:
    from datetime import timezone
    from email.utils import parsedate_to_datetime

    try:
        moment = parsedate_to_datetime(http_date)
        if moment.tzinfo is None:  # asctime's form and "-0000" name no zone; HTTP dates are in UTC
            moment = moment.replace(tzinfo=timezone.utc)
        return max(0.0, moment.timestamp() - now_wall)
    except (TypeError, ValueError, OverflowError, IndexError):
        return None


class RetryBudget:
    """The retries that all requests of one client may make together.

    Safe to share between threads and after fork. The rule and its figures are botocore's retry quota: 500
    tokens, a retry costs 5 (10 after a time-out), the success that follows gives its cost back, a success at
    the first try gives 1 back. When it is used up, calls still get their first attempt, so that the client
    notices when the server is well again.

    Args:
        capacity: Tokens at the start and at most.
        cost: Tokens for a retry.
        timeout_cost: Tokens for a retry after a time-out, which kept the server busy for longer.
    """

    __slots__ = ("__weakref__", "_lock", "_tokens", "capacity", "cost", "timeout_cost")

    def __init__(self, capacity: int = 500, cost: int = 5, timeout_cost: int = 10) -> None:
        self.capacity = capacity
        self.cost = cost
        self.timeout_cost = timeout_cost
        self._tokens = capacity
        self._lock = threading.Lock()
        _budgets.add(self)

    @property
    def available(self) -> int:
        """Tokens that are left, from 0 to ``capacity``."""
        return self._tokens

    def try_spend(self, error: BaseException | None = None) -> int:
        """Take the tokens for one retry.

        Args:
            error: What the failed attempt raised; a time-out costs more.

        Returns:
            The tokens taken, to be given back when the retry succeeds; 0 if there were too few, then none
            were taken.
        """
        cost = self.timeout_cost if isinstance(error, builtins.TimeoutError) else self.cost
        with self._lock:
            if self._tokens < cost:
                return 0
            self._tokens -= cost
            return cost

    def give_back(self, spent: int = 0) -> None:
        """Note a success: give back what its last retry cost, or 1 if it needed none.

        Args:
            spent: `Decision.cost` of the last retry.
        """
        if self._tokens >= self.capacity:  # full: the usual case takes no lock
            return
        with self._lock:
            self._tokens = min(self._tokens + (spent or 1), self.capacity)

    def __repr__(self) -> str:
        return f"<RetryBudget {self._tokens}/{self.capacity}>"


_budgets: weakref.WeakSet[RetryBudget] = weakref.WeakSet()


def _renew_locks() -> None:
    """Replace every lock in a forked child: a thread that is not there may have held it."""
    for budget in _budgets:
        budget._lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_locks)


class Decision(NamedTuple):
    """What to do after a failed attempt.

    Attributes:
        delay: Seconds to wait before the next attempt; None to give up.
        reason: Why, in words, for the log line or for the end of the error message.
        cost: Tokens that were taken from the retry budget, to be given back after a success.
    """

    delay: float | None
    reason: str
    cost: int = 0


class RetryPolicy(NamedTuple):
    """When the client tries again and how long it waits first.

    The wait before try n is ``min(ideal + uniform(0, max(0.1 ideal, 1 s)), max_wait + 1 s)`` with ideals ``base``,
    2 ``base``, 4 ``base``, ... A ``Retry-After`` is a minimum, made up to 2 % longer so that a fleet does not come back
    in step; after a first 429 it is the whole wait. One beyond ``max_retry_after`` or the deadline is not waited for.

    Attributes:
        max_attempts: Attempts in all; 0 and 1 both mean one. A request's own ``max_attempts`` wins when it is
            smaller.
        total_timeout: Seconds for all attempts with their waits, where the request does not say; only for
            messages, as the caller passes the time that remains.
        max_retry_after: Longest ``Retry-After`` in seconds that is waited for.
        base: Seconds of the first wait, without its random part.
        max_wait: Seconds up to which the waits double.
        budget: Retries that all requests share; None for no such limit.
        rng: ``random.uniform`` or a stand-in for it.
    """

    max_attempts: int = 3
    total_timeout: float = 300.0
    max_retry_after: float = 120.0
    base: float = 1.0
    max_wait: float = 32.0
    budget: RetryBudget | None = None
    rng: Callable[[float, float], float] = random.uniform

    def attempts_for(self, request: ApiRequest) -> int:
        """Return the most attempts that ``request`` may have, at least 1."""
        limit, own = self.max_attempts, request.max_attempts
        if own is not None and own < limit:
            limit = own
        return limit if limit > 1 else 1

    def next_delay(
        self, request: ApiRequest, error: PostHogError | None, attempt: int, remaining: float
    ) -> float | None:
        """Return the seconds to wait before the next attempt, or None to give up; see `decide`."""
        return self.decide(request, error, attempt, remaining).delay

    def decide(self, request: ApiRequest, error: PostHogError | None, attempt: int, remaining: float) -> Decision:
        """Decide what follows a failed attempt, and take its cost from the budget if it is to be repeated.

        Args:
            request: What was asked.
            error: What went wrong; None, for a success, is never repeated.
            attempt: Number of the attempt that just ended, from 1.
            remaining: Seconds until the deadline.
        """
        if error is None:
            return Decision(None, "the attempt succeeded")
        final = _why_final(request, error)
        if final is not None:
            return Decision(None, final)
        limit = self.attempts_for(request)
        if attempt >= limit:
            return Decision(None, f"attempt {attempt} of {limit} was the last")
        asked = _asked_delay(error)
        delay = self._delay(error, attempt, asked)
        too_long = self._why_too_long(request, delay, asked, remaining)
        if too_long is not None:
            return Decision(None, too_long)
        cost = 0
        if self.budget is not None:
            cost = self.budget.try_spend(error)
            if not cost:
                return Decision(None, "the retry budget is used up")
        return Decision(delay, _why_again(error, asked), cost)

    def succeeded(self, attempt: int, spent: int = 0) -> None:
        """Note a success, so that the budget gets its tokens back.

        Args:
            attempt: Number of the attempt that succeeded, from 1.
            spent: `Decision.cost` of the retry before it; the plain cost if that is not known.
        """
        budget = self.budget
        if budget is not None and budget._tokens < budget.capacity:
            budget.give_back(spent or (0 if attempt == 1 else budget.cost))

    def _delay(self, error: PostHogError, attempt: int, asked: float) -> float:
        own = self._backoff(attempt)
        if error.status == 429 and attempt == 1 and asked:
            own = 0.0  # the server knows when this key's window has room again
        return max(own, asked + self.rng(0.0, 0.02 * asked))

    def _backoff(self, attempt: int) -> float:
        ideal = self.base * 2.0 ** min(max(attempt - 1, 0), _MAX_DOUBLINGS)
        return min(ideal + self.rng(0.0, max(0.1 * ideal, 1.0)), self.max_wait + 1.0)

    def _why_too_long(self, request: ApiRequest, delay: float, asked: float, remaining: float) -> str | None:
        total = self.total_timeout if request.total_timeout is None else request.total_timeout
        if asked > total:
            return f"{asked:g} s is longer than total_timeout={total:g} s"
        if asked > self.max_retry_after:
            return f"{asked:g} s is longer than the {self.max_retry_after:g} s that a retry waits at most"
        if delay >= remaining:
            return f"a wait of {delay:.1f} s would pass the deadline, which is {max(remaining, 0.0):.1f} s away"
        return None


def _why_final(request: ApiRequest, error: PostHogError) -> str | None:
    """Say why an error is not worth another attempt; None if it may be."""
    if isinstance(error, QuotaError):
        return "a used-up quota is not renewed within seconds"
    if isinstance(error, RateLimitError):
        return None  # nothing was carried out, so a write may be repeated too
    if isinstance(error, QueryError) or (request.scope == "query" and error.status in _TOO_HEAVY):
        return f"the same {'query' if request.scope == 'query' else 'request'} would fail again"
    if not isinstance(error, ConnectionError):
        return f"{type(error).__name__} is not retried"
    if error._permanent:
        return "a certificate that is not trusted stays so"
    if not request.idempotent and not getattr(error, "_never_sent", False):
        return "a write whose outcome is unknown is not repeated"
    return None


def _asked_delay(error: PostHogError) -> float:
    """Return the server's ``Retry-After``, 0 where there is none or it makes no sense."""
    asked = error.retry_after
    return asked if asked is not None and asked > 0 and not math.isnan(asked) else 0.0


def _why_again(error: PostHogError, asked: float) -> str:
    if asked:
        return f"PostHog asks to wait {asked:g} s"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return f"status {error.status}" if error.status is not None else "no usable answer"
