"""What importing the client costs, against ``import requests``: fresh interpreters, taking turns."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys

from benchmarks.measure import Row, show

REQUESTS = "import requests"
CLIENT = "from posthog_driver import PostHogClient, PostHogConfig"
CODE = """
import sys, time
{first}
before, started = set(sys.modules), time.perf_counter()
{timed}
print(time.perf_counter() - started, len(set(sys.modules) - before))
"""
ROUNDS = 21


def once(timed: str, first: str = "") -> tuple[float, int]:
    """Seconds and modules that one import takes in a fresh interpreter."""
    code = CODE.format(first=first, timed=timed)
    # With bytecode, as on any machine that imported the package before.
    cached = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-c", code]
    out = subprocess.run(command, env=cached, capture_output=True, text=True, check=True).stdout.split()
    return float(out[0]), int(out[1])


def main() -> None:
    once(REQUESTS), once(CLIENT)  # so that the bytecode of both is there
    pairs, extra = [], []
    for _ in range(ROUNDS):
        pairs.append(once(CLIENT)[0] / once(REQUESTS)[0])
        extra.append(once(CLIENT, REQUESTS))
    show(
        "import posthog_driver's client, against import requests",
        [
            Row("the whole import (x)", f"{statistics.median(pairs):.2f}", "goal 1.06"),
            Row("on top of requests, ms", f"{1000 * statistics.median(s for s, _ in extra):.1f}", "goal 3"),
            Row("modules on top of requests", f"{extra[0][1]}", "goal 12 (beside our own)"),
        ],
    )


if __name__ == "__main__":
    main()
