"""What a grant of the rate limiter costs, and how exact it is under 32 threads, against pyrate-limiter.

Run ``python -m benchmarks.bench_limiter``. The cases take turns in every round; each ratio is the median of those
within a round. Costs are CPU nanoseconds; the last rows run for some seconds of real time.
"""

from __future__ import annotations

import bisect
import statistics
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from pyrate_limiter import Limiter, Rate

from benchmarks.measure import Row, show
from posthog_driver._clock import SystemClock
from posthog_driver.rate_limiter import Gate, RateLimiter, RateLimits

ROUNDS = 15
CALLS = 2_000
MANY = 10**9
THREADS, PER_SECOND, SECONDS = 32, 200, 5.0


def gate_pass() -> Callable[[], object]:
    gate = Gate()

    def enter_and_leave() -> None:
        with gate.enter(30):
            pass

    return enter_and_leave


def cases() -> dict[str, Callable[[], object]]:
    """Return one grant, or one refusal, each; the windows are too wide to fill."""
    limits = RateLimits({"query": RateLimiter(windows=((MANY, 60), (MANY, 3_600)))})
    full, peer_full = RateLimiter(1, 1e6), Limiter(Rate(1, 10**9), buffer_ms=0)
    full.acquire()
    peer_full.try_acquire("x", blocking=False)
    peer, peer_two = Limiter(Rate(MANY, 60_000)), Limiter([Rate(MANY, 60_000), Rate(MANY + 1, 3_600_000)])
    return {
        "grant, one window": RateLimiter(MANY, 60).wait_and_acquire,
        "grant, two windows of a scope": lambda: limits.wait_and_acquire("query", 30),
        "refusal": full.acquire,
        "gate, in and out": gate_pass(),
        "peer: grant, one window": lambda: peer.try_acquire("x"),
        "peer: grant, two windows of a scope": lambda: peer_two.try_acquire("x"),
        "peer: refusal": lambda: peer_full.try_acquire("x", blocking=False),
    }


def nanoseconds(case: Callable[[], object]) -> float:
    started = time.process_time_ns()
    for _ in range(CALLS):
        case()
    return (time.process_time_ns() - started) / CALLS


def costs() -> dict[str, list[float]]:
    """Return nanoseconds round by round; new limiters in each, as the peer slows down with the grants it keeps."""
    found: dict[str, list[float]] = {name: [] for name in cases()}
    for _ in range(ROUNDS):
        for name, case in cases().items():
            found[name].append(nanoseconds(case))
    return found


class Exactness(NamedTuple):
    """What 32 threads that always want more got in some seconds."""

    granted: int
    most: int
    late_p50: float
    late_p99: float
    cpu: float
    fewest: int
    largest: int

    def __str__(self) -> str:
        return (
            f"{self.granted} granted, at most {self.most} in a window, "
            f"{self.late_p50:.2f}/{self.late_p99:.2f} ms late (p50/p99), "
            f"CPU {self.cpu:.1f} ms/s, {self.fewest} to {self.largest} a thread"
        )


def exactness(acquire: Callable[[float], object], moment: Callable[[], float]) -> Exactness:
    """Let 32 threads take grants as fast as they come; ``moment`` gives the time of the thread's last grant."""
    grants: list[tuple[float, bool]] = []
    counts = [0] * THREADS
    end = time.monotonic() + SECONDS
    together = threading.Barrier(THREADS)

    def work(number: int) -> None:
        together.wait()
        while (left := end - time.monotonic()) > 0:
            asked = time.monotonic()
            try:
                if acquire(left) is False:
                    return
            except TimeoutError:
                return
            granted = moment()
            grants.append((granted, granted - asked > 0.001))
            counts[number] += 1
            time.sleep(0.002)  # the request

    threads = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
    started = time.process_time()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    cpu = time.process_time() - started
    grants.sort()
    times = [granted for granted, _ in grants]
    # Only who waited can be late; others came when there was room already.
    pairs = zip(times, grants[PER_SECOND:], strict=False)
    late = sorted(1_000 * (granted - before - 1.0) for before, (granted, waited) in pairs if waited)
    most = max(place + 1 - bisect.bisect_right(times, now - 1.0) for place, now in enumerate(times))
    p50, p99 = late[len(late) // 2], late[len(late) * 99 // 100]
    return Exactness(len(times), most, p50, p99, 1_000 * cpu / SECONDS, min(counts), max(counts))


class RememberingClock(SystemClock):
    """Keeps each thread's last reading: the limiter's last one is the moment of the grant."""

    def __init__(self) -> None:
        self.last = threading.local()

    def monotonic(self) -> float:
        self.last.reading = time.monotonic()
        return float(self.last.reading)


def ours_exactly() -> Exactness:
    clock = RememberingClock()
    limiter = RateLimiter(PER_SECOND, 1.0, clock=clock)
    return exactness(limiter.wait_and_acquire, lambda: float(clock.last.reading))


def peer_exactly() -> Exactness:
    limiter = Limiter(Rate(PER_SECOND, 1_000))
    return exactness(lambda left: limiter.try_acquire("x", timeout=left), time.monotonic)


def main() -> None:
    found = costs()
    goals = {"grant, one window": "goal 450 ns, 0.12x", "grant, two windows of a scope": "", "refusal": ""}
    rows = []
    for name, goal in goals.items():
        ours, peer = found[name], found[f"peer: {name}"]
        ratio = statistics.median(own / other for own, other in zip(ours, peer, strict=True))
        value = f"{statistics.median(ours):.0f} / {statistics.median(peer):.0f} ns = {ratio:.2f}x"
        rows.append(Row(f"{name}, / pyrate-limiter", value, goal))
    rows.append(Row("gate, in and out", f"{statistics.median(found['gate, in and out']):.0f} ns", ""))
    show("the rate limiter, CPU", rows)
    print(
        f"  {PER_SECOND}/s for {THREADS} threads, {SECONDS:.0f} s; goal: never more in a window, p99 0.5 ms (loaded: 3)"
    )
    print(f"    ours            {ours_exactly()}")
    print(f"    pyrate-limiter  {peer_exactly()}")


if __name__ == "__main__":
    main()
