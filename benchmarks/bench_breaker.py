"""What a closed or open circuit breaker costs a call, against pybreaker (and circuitbreaker, if installed).

Run ``python -m benchmarks.bench_breaker``. The cases take turns in every round; each ratio is the median of those
within a round. Costs are CPU nanoseconds over the bare call.
"""

from __future__ import annotations

import contextlib
import importlib.util
import statistics
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import pybreaker

from benchmarks.measure import Row, show
from posthog_driver.circuit_breaker import CircuitBreaker
from posthog_driver.exceptions import CircuitBreakerOpen

ROUNDS = 25
CALLS = 5_000
THREADS = 32

Call = Callable[[Callable[[], Any]], Any]


class Case(NamedTuple):
    """One breaker: how to call through it while closed, and while open, and the same without a breaker."""

    closed: Call
    open: Call
    base: Call


def work() -> int:
    return 1


def one_call(function: Callable[[], Any]) -> int:
    """The base of ``breaker.call``: calling ``work`` itself."""
    return 1


def call_in_call(function: Callable[[], Any]) -> Any:
    """The base of the wrappers below, which are calls themselves."""
    return function()


def fail() -> None:
    raise OSError("down")


def broken(call: Call) -> Call:
    """Open the breaker behind this call with one failure."""
    try:
        call(fail)
    except Exception:  # each library raises its own
        return call
    raise AssertionError("the failure was swallowed")


def by_hand(breaker: CircuitBreaker) -> Call:
    can_execute, record_success = breaker.can_execute, breaker.record_success

    def call(function: Callable[[], Any]) -> Any:
        if can_execute():
            result = function()
            record_success()
            return result
        return None

    return call


def guarded(breaker: CircuitBreaker) -> Call:
    def call(function: Callable[[], Any]) -> Any:
        with breaker.guard():
            return function()

    return call


def cases() -> dict[str, Case]:
    """Return the breakers to compare."""
    peer, broken_peer = pybreaker.CircuitBreaker().call, broken(pybreaker.CircuitBreaker(1, 1e6).call)
    refusing = broken(CircuitBreaker(1, 1e6).call)
    found = {
        "call()": Case(CircuitBreaker().call, refusing, one_call),
        "can_execute() + record_success()": Case(by_hand(CircuitBreaker()), refusing, call_in_call),
        "with guard()": Case(guarded(CircuitBreaker()), refusing, call_in_call),
        "pybreaker": Case(peer, broken_peer, one_call),
    }
    if importlib.util.find_spec("circuitbreaker"):
        circuitbreaker: Any = importlib.import_module("circuitbreaker")
        found["circuitbreaker"] = Case(
            circuitbreaker.CircuitBreaker().call, broken(circuitbreaker.CircuitBreaker(1, 1e6).call), one_call
        )
    return found


def nanoseconds(call: Call, refused: bool = False) -> float:
    """Return the CPU time of one call, with the loop around it."""
    started = time.process_time_ns()
    if refused:
        for _ in range(CALLS):
            try:
                call(work)
            except Exception:  # each library raises its own
                continue
    else:
        for _ in range(CALLS):
            call(work)
    return (time.process_time_ns() - started) / CALLS


def over_bare(found: dict[str, Case], refused: bool = False) -> dict[str, list[float]]:
    """Return for each case its nanoseconds over the bare call, round by round."""
    costs: dict[str, list[float]] = {name: [] for name in found}
    for _ in range(ROUNDS):
        for name, case in found.items():
            cost = nanoseconds(case.open if refused else case.closed, refused)
            costs[name].append(cost - nanoseconds(case.base))
    return costs


def side_by_side(call: Call) -> float:
    """Return the milliseconds that one call of 20 ms in each of 32 threads takes in all."""
    threads = [threading.Thread(target=call, args=(lambda: time.sleep(0.02),)) for _ in range(THREADS)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return 1_000 * (time.perf_counter() - started)


def probes_at_once(call: Call) -> int:
    """Return how many of 32 threads a breaker whose break has just ended lets through together."""
    inside, most, lock = 0, 0, threading.Lock()

    def probe() -> None:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        time.sleep(0.05)
        with lock:
            inside -= 1

    def attempt() -> None:
        with contextlib.suppress(CircuitBreakerOpen):
            call(probe)

    threads = [threading.Thread(target=attempt) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return most


def versus(costs: dict[str, list[float]], ours: str, peer: str) -> str:
    ratio = statistics.median(own / other for own, other in zip(costs[ours], costs[peer], strict=True))
    return f"{statistics.median(costs[ours]):.0f} / {statistics.median(costs[peer]):.0f} ns = {ratio:.2f}x"


def main() -> None:
    found = cases()
    peers = [name for name in ("pybreaker", "circuitbreaker") if name in found]
    closed = over_bare(found)
    refused = over_bare({name: found[name] for name in ("call()", *peers)}, refused=True)
    goals = {
        "call()": "goal 66 ns, 0.26x of circuitbreaker",
        "can_execute() + record_success()": "goal 155 ns",
        "with guard()": "",
    }
    rows = [
        Row(f"closed, {ours}, / {peer}", versus(closed, ours, peer), goal)
        for ours, goal in goals.items()
        for peer in peers
    ]
    rows += [Row(f"open, call() refused, / {peer}", versus(refused, "call()", peer), "") for peer in peers]
    times = [round(side_by_side(call)) for call in (CircuitBreaker().call, pybreaker.CircuitBreaker().call)]
    rows.append(Row("32 threads x 20 ms / pybreaker", f"{times[0]} / {times[1]} ms", "goal: side by side"))
    probing = broken(CircuitBreaker(1, 0.5).call)
    time.sleep(0.5)
    rows.append(Row("probes at once, 32 threads, half-open", f"{probes_at_once(probing)}", "goal 1"))
    show("the circuit breaker, CPU over the bare call", rows)


if __name__ == "__main__":
    main()
