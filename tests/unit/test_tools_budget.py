"""What a conversation may use, and that it is told in time."""

from __future__ import annotations

import math
import threading
from typing import Any

import pytest

from posthog_driver import ValidationError
from posthog_driver.tools.budget import Budget, BudgetError, Ledger, Spent


def test_the_defaults_are_those_that_clients_bear() -> None:
    budget = Budget()

    assert (budget.limits().rows, budget.limits().characters, budget.limits().cell) == (100, 16_000, 300)
    assert budget.limits(7).rows == 7
    with pytest.raises(ValidationError, match="rows"):
        budget.limits(1_001)


@pytest.mark.parametrize(
    ("limits", "named"),
    [
        ({"rows": 0}, "rows"),
        ({"rows": 1_001}, "rows"),
        ({"characters": 40_001}, "characters"),
        ({"cell": 2_001}, "cell"),
        ({"wait": 50.5}, "wait"),
        ({"wait": -1}, "wait"),
        ({"running": 0}, "running"),
        ({"kept_rows": 0.5}, "kept_rows"),
        ({"kept_results": 0}, "kept_results"),
        ({"queries": math.nan}, "queries"),
        ({"tokens": "many"}, "tokens"),
        ({"seconds": True}, "seconds"),
    ],
)
def test_a_limit_that_cannot_work_is_refused_by_name(limits: dict[str, Any], named: str) -> None:
    with pytest.raises(ValidationError, match=named):
        Budget(**limits)


def test_nothing_is_said_before_four_fifths_are_used() -> None:
    ledger = Ledger(Budget(queries=10))
    for _ in range(7):
        ledger.take_query()

    assert ledger.warning() is None

    ledger.take_query()

    assert ledger.warning() == "budget of this conversation: 8 of 10 queries used; come to an end"


def test_everything_that_runs_short_is_named() -> None:
    ledger = Ledger(Budget(queries=1, seconds=10, tokens=100))
    ledger.take_query()
    ledger.add_seconds(9.4)
    ledger.add_text("x" * 270)

    assert ledger.warning() == (
        "budget of this conversation: 1 of 1 queries, 9 of 10 seconds, 90 of 100 tokens used; come to an end"
    )
    assert ledger.spent == Spent(1, 9.4, 90.0)


def test_after_the_last_query_there_is_none() -> None:
    ledger = Ledger(Budget(queries=1))
    ledger.take_query()

    with pytest.raises(BudgetError, match="all 1 queries"):
        ledger.take_query()
    assert ledger.spent.queries == 1


def test_after_the_last_second_there_is_no_query() -> None:
    ledger = Ledger(Budget(seconds=2))
    ledger.add_seconds(2.5)

    with pytest.raises(BudgetError, match="all 2 seconds"):
        ledger.take_query()


def test_after_the_last_token_nothing_is_given_out() -> None:
    ledger = Ledger(Budget(tokens=10))
    ledger.check_tokens()
    ledger.add_text("x" * 30)

    with pytest.raises(BudgetError, match="all 10 tokens"):
        ledger.check_tokens()


def test_a_clock_that_is_set_back_gives_no_seconds_back() -> None:
    ledger = Ledger(Budget())
    ledger.add_seconds(-5)

    assert ledger.spent.seconds == 0


def test_infinity_lifts_a_limit() -> None:
    ledger = Ledger(Budget(queries=math.inf, seconds=math.inf, tokens=math.inf))
    for _ in range(1_000):
        ledger.take_query()
    ledger.add_seconds(1e9)
    ledger.add_text("x" * 10_000_000)

    ledger.check_tokens()
    assert ledger.warning() is None


def test_threads_never_take_more_queries_than_there_are() -> None:
    ledger = Ledger(Budget(queries=100))
    taken: list[int] = []

    def take() -> None:
        for _ in range(50):
            try:
                ledger.take_query()
            except BudgetError:
                return
            taken.append(1)

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(taken) == 100
