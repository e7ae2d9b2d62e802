"""Ratios within one run: the cases take turns round by round, and what counts is the median of the rounds' ratios."""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from time import perf_counter, process_time
from typing import NamedTuple


class Row(NamedTuple):
    """One line of the report."""

    what: str
    value: str
    goal: str


def show(title: str, rows: list[Row]) -> None:
    """Print rows under a title, in columns."""
    print(f"\n{title}")
    width = max(len(row.what) for row in rows)
    for what, value, goal in rows:
        print(f"  {what:<{width}}  {value:>24}  {goal}")


def ratios(
    cases: Mapping[str, Callable[[], object]], base: str, rounds: int = 25, calls: int = 40, cpu: bool = False
) -> tuple[dict[str, float], float]:
    """Return each case's median ratio to ``base``, and the base's median seconds a call."""
    clock = process_time if cpu else perf_counter
    for case in cases.values():
        for _ in range(max(calls // 4, 1)):
            case()
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, case in cases.items():
            taken = []
            for _ in range(calls):
                started = clock()
                case()
                taken.append(clock() - started)
            seconds[name].append(statistics.median(taken))
    return (
        {
            name: statistics.median(own / other for own, other in zip(values, seconds[base], strict=True))
            for name, values in seconds.items()
        },
        statistics.median(seconds[base]),
    )


@contextmanager
def server(rows: int, delay: float = 0.0) -> Iterator[str]:
    """Run the benchmark server in a process of its own; gives its URL."""
    command = [sys.executable, "-m", "benchmarks.server", str(rows), str(delay)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        process.stdin.close()
