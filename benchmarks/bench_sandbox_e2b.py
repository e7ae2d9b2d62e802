"""What the E2B back end costs of its own: against a fake of E2B on this machine, so without its network and machines.

``the run itself`` is what happens inside, started by hand: a shell, Python, the runner, one query. What a sandbox adds
to it are requests over loopback: six with a new one, five with one that is kept, of which one is the reply to the
query. In E2B each of them takes its way through the network.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any
from unittest import mock

from benchmarks.measure import Row, ratios, show
from posthog_driver.sandbox import E2BBackend, SandboxLimits
from posthog_driver.sandbox.broker import Broker, encode_rows
from posthog_driver.sandbox.e2b_run import COMMAND, files_of
from posthog_driver.sandbox.model import SandboxJob, Target

LIMITS = SandboxLimits()
JOB = SandboxJob("query", "SELECT 1", target=Target("https://posthog.test", "1", "phx_test_key"))
ROWS = [{"event": "$pageview", "n": number} for number in range(100)]
ROUNDS, CALLS = 15, 3
MOST_ADDED = 20


def main() -> None:
    from tests.clients.e2b.fake_e2b import FakeE2B

    def ask(*_: Any) -> list[dict[str, Any]]:
        return ROWS

    with (
        FakeE2B() as fake,
        mock.patch.dict(os.environ, fake.environment()),
        E2BBackend(secret="broker") as fresh,
        E2BBackend(secret="broker", reuse=True) as kept,
    ):

        def run(backend: E2BBackend) -> object:
            return backend.run(JOB, LIMITS, Broker(ask, LIMITS))

        run(kept)
        guest = fake.created[-1]
        for name, content in files_of(JOB, LIMITS, direct=False).items():
            guest.write(f"/alone/phd-1/{name}", content)
        folder = guest.path("/alone/phd-1")
        alone = {
            "args": ["/bin/bash", "-c", COMMAND],
            "cwd": folder,
            "env": {"PATH": str(guest.path("/bin")), "PWD": str(folder), "FAKE_E2B_EGRESS": "127.0.0.1:1:none:none"},
            "input": encode_rows(ROWS, LIMITS.max_result_bytes) + b"\n",
            "capture_output": True,
            "check": True,
        }
        bare = [getattr(sys, "_base_executable", sys.executable), "-c", "pass"]
        cases = {
            "bare": lambda: subprocess.run(bare, check=True),
            "the run itself": lambda: subprocess.run(**alone),  # type: ignore[call-overload]
            "a new sandbox": lambda: run(fresh),
            "a kept sandbox": lambda: run(kept),
        }
        found, seconds = ratios(cases, "bare", ROUNDS, CALLS)
    rows = [Row("a bare start, ms", f"{1_000 * seconds:.1f}", "")]
    rows += [Row(f"{name} (x)", f"{found[name]:.2f}", "") for name in cases if name != "bare"]
    for name, goal in (("a new sandbox", ""), ("a kept sandbox", f"goal {MOST_ADDED}")):
        rows.append(Row(f"{name} adds, ms", f"{1_000 * seconds * (found[name] - found['the run itself']):.1f}", goal))
    show("a query with 100 rows through E2B's interface, on this machine, against a bare start of Python", rows)


if __name__ == "__main__":
    main()
