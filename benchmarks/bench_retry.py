"""What retrying costs a call that succeeds at once: nanoseconds over the bare call.

The loop is the transport's: ask the policy how many attempts there may be, call, note the success. Beside it stand the
smallest hand-written loop and, if it is installed, tenacity with the same three attempts and exponential waits.

Run ``python -m benchmarks.bench_retry``.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable

from benchmarks.measure import Row, show
from posthog_driver._models import ApiRequest
from posthog_driver.exceptions import PostHogError
from posthog_driver.retry import RetryBudget, RetryPolicy

REQUEST = ApiRequest("POST", "/api/projects/1/query/", scope="query")
CALLS = 10_000
ROUNDS = 25


def work() -> int:
    """The call itself, as cheap as a call can be."""
    return 1


def hand_loop(function: Callable[[], int]) -> int:
    """The floor: three attempts, nothing decided."""
    for attempt in range(3):
        try:
            return function()
        except PostHogError:
            if attempt == 2:
                raise
    raise AssertionError("the last attempt raises")


def through(policy: RetryPolicy) -> Callable[[Callable[[], int]], int]:
    """The transport's loop around a policy, without its logging and reporting."""

    def call(function: Callable[[], int]) -> int:
        limit = policy.attempts_for(REQUEST)
        number, spent = 0, 0
        while True:
            number += 1
            try:
                answer = function()
            except PostHogError as error:
                decision = policy.decide(REQUEST, error, number, 300.0)
                if decision.delay is None or number == limit:
                    raise
                spent = decision.cost
                time.sleep(decision.delay)
            else:
                policy.succeeded(number, spent)
                return answer

    return call


def peers() -> dict[str, Callable[[], int]]:
    """The installed retry libraries around the same call."""
    try:
        tenacity = importlib.import_module("tenacity")
    except ImportError:
        return {}
    wait, stop = tenacity.wait_exponential_jitter(max=32), tenacity.stop_after_attempt(3)
    return {"tenacity": tenacity.retry(wait=wait, stop=stop, reraise=True)(work)}


def _nanoseconds(call: Callable[[], object]) -> float:
    started = time.process_time_ns()
    for _ in range(CALLS):
        call()
    return (time.process_time_ns() - started) / CALLS


def run() -> list[tuple[str, float, float | None]]:
    """Measure, and return rows of label, value and goal (an upper bound; None where there is none)."""
    policy = through(RetryPolicy(budget=RetryBudget()))
    calls: dict[str, Callable[[], object]] = {
        "bare": lambda: work(),
        "hand loop": lambda: hand_loop(work),
        "policy": lambda: policy(work),
        **peers(),
    }
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):  # in turns, so that a busy machine slows all alike
        for name, call in calls.items():
            times[name].append(_nanoseconds(call))
    cost = {name: min(rounds) - min(times["bare"]) for name, rounds in times.items() if name != "bare"}
    rows: list[tuple[str, float, float | None]] = [
        (f"{name}, first attempt succeeds: ns over the bare call", value, None) for name, value in cost.items()
    ]
    rows.append(("policy: x of the hand loop", cost["policy"] / cost["hand loop"], 2.0))
    rows += [(f"policy: x of {name}", cost["policy"] / cost[name], 0.02) for name in peers()]
    return rows


def main() -> None:
    show(
        "retry, the first attempt succeeds, CPU over the bare call",
        [Row(label, f"{value:.3f}", f"goal {goal}" if goal else "") for label, value, goal in run()],
    )


if __name__ == "__main__":
    main()
