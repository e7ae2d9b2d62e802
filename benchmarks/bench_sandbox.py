"""What a sandbox on this machine costs, against the start of a bare Python: the cases take turns in one run.

A bare start is ``python3 -c pass`` with its site packages, as a script of yours would start; the
leanest one leaves out all that it can, as the sandboxes do.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

from benchmarks.measure import Row, ratios, show
from posthog_driver.sandbox.broker import Broker
from posthog_driver.sandbox.levels import environment
from posthog_driver.sandbox.local import LEVELS, LocalBackend
from posthog_driver.sandbox.model import SandboxJob, SandboxLimits

LIMITS = SandboxLimits()
ROWS = [{"event": "$pageview", "n": number} for number in range(100)]
ROUNDS, CALLS = 15, 5
GOALS = {"bwrap": "goal 1.3"}


def start(*options: str) -> Callable[[], object]:
    command = [getattr(sys, "_base_executable", sys.executable), *options, "-c", "pass"]
    return lambda: subprocess.run(command, env=environment("/tmp"), stdin=subprocess.DEVNULL, check=True)


def run(level: str, job: SandboxJob) -> Callable[[], object]:
    backend = LocalBackend(level=level)

    def ask(*_: Any) -> list[dict[str, Any]]:
        return ROWS

    return lambda: backend.run(job, LIMITS, Broker(ask, LIMITS))


def main() -> None:
    working = [level for level in LEVELS if LocalBackend.probe()[level]]
    for title, job in (
        ("a query with 100 rows in a sandbox, against a bare start of Python", SandboxJob("query", "SELECT 1")),
        ("a script with a query in a sandbox, against the same", SandboxJob("python", "print(len(query('SELECT 1')))")),
    ):
        cases = {"bare": start(), "leanest": start("-I", "-S"), **{level: run(level, job) for level in working}}
        found, seconds = ratios(cases, "bare", ROUNDS, CALLS)
        rows = [Row("a bare start, ms", f"{1000 * seconds:.1f}", "")]
        rows += [Row(f"{name} (x)", f"{found[name]:.2f}", GOALS.get(name, "")) for name in cases if name != "bare"]
        if "bwrap" in working:
            rows.append(Row("bwrap against plain (x)", f"{found['bwrap'] / found['plain']:.2f}", ""))
        show(title, rows)


if __name__ == "__main__":
    main()
