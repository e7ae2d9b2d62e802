"""The client at load through faults, with a ledger: nothing may be lost, doubled or invented.

::

    python -m benchmarks.soak --seconds 600            # faults of HTTP and of connections
    python -m benchmarks.soak --seconds 180 --loss 3   # as root: also 3 % of all packets are dropped

Threads share one client. Each query asks for a number of its own and must get this one, or an error. Each event is sent
with a uuid of its own: one that the client confirmed is on the server exactly once (as PostHog stores a uuid once), one
that ended in an error is there once or not at all, and no other is there. The exit code says whether the ledger holds.

Packets are dropped in a network namespace of its own (``ip``, ``nft``; Linux, root), on the loopback device in it.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from typing import Any

from posthog_driver import PostHogClient, PostHogError
from posthog_driver.testing import (
    FaultServer,
    Received,
    Reply,
    answer,
    chunked,
    cut,
    error_body,
    gzipped,
    hang_up,
    query_answer,
    reset,
    trickle,
)

NAMESPACE = "posthog-soak"
FAULTY = 0.06
"""Share of the requests that meet a fault."""

THREADS = 16
_RULES = """table inet loss {{
  chain input {{
    type filter hook input priority 0
    numgen random mod 100 < {} drop
  }}
}}
"""


class Ledger:
    """What was asked and what came of it. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.stored: Counter[str] = Counter()
        self.confirmed: set[str] = set()
        self.failed: set[str] = set()
        self.answers: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.seconds: list[float] = []

    def store(self, events: list[Any]) -> None:
        with self._lock:
            self.stored.update(event["uuid"] for event in events)

    def note(self, outcome: str, seconds: float | None = None) -> None:
        with self._lock:
            self.answers[outcome] += 1
            if seconds is not None:
                self.seconds.append(seconds)

    def fault(self, name: str) -> None:
        with self._lock:
            self.faults[name] += 1

    def settle(self, uuids: list[str], *, confirmed: bool) -> None:
        with self._lock:
            (self.confirmed if confirmed else self.failed).update(uuids)

    def problems(self) -> list[str]:
        """What must not be: wrong answers, lost, and invented events."""
        lost = self.confirmed - self.stored.keys()
        invented = self.stored.keys() - self.confirmed - self.failed
        found = list(self.wrong[:5])
        if lost:
            found.append(f"{len(lost)} confirmed events are not on the server")
        if invented:
            found.append(f"{len(invented)} events are on the server that nobody sent")
        return found


class World:
    """A server of PostHog's two addresses that fails now and then, before or after it did what it was asked."""

    def __init__(self, ledger: Ledger, seed: int) -> None:
        self._ledger = ledger
        self._chance = random.Random(seed)
        self._lock = threading.Lock()
        self.server = FaultServer(default=self._step)

    def _step(self, request: Received) -> Reply:
        with self._lock:
            fails, kind, where = self._chance.random() < FAULTY, self._chance.randrange(11), self._chance.random()
            del self.server.requests[:-10]
        if request.method != "POST":
            return answer(200, {"message": "Query already complete"})
        if request.path.startswith(("/i/", "/batch")):
            whole = answer(200, {"status": 1})
            before = fails and kind in (0, 1, 2, 3)
            if not before:
                sent = request.json
                self._ledger.store(sent.get("batch") or [sent])
        else:
            whole = answer(200, self._numbers(request))
        return self._fault(kind, where, whole) if fails else whole

    def _numbers(self, request: Received) -> dict[str, Any]:
        number = request.json["query"]["values"]["n"]
        return query_answer([[number, index] for index in range(number % 50 + 1)], ["n", "i"])

    def _fault(self, kind: int, where: float, whole: Reply) -> Reply:
        size = len(whole.data)
        faults = (
            ("reset before the answer", reset),
            ("closed before the answer", hang_up),
            ("503", lambda: answer(503, error_body(503, "down"))),
            ("429, Retry-After 0", lambda: answer(429, error_body(429, "slow down"), {"Retry-After": "0"})),
            ("500", lambda: answer(500, error_body(500, "oops"))),
            ("502 of a proxy", lambda: answer(502, "<html>Bad Gateway</html>")),
            ("cut in the headers or the body", lambda: cut(whole, int(where * size))),
            ("slow to come", lambda: trickle(whole, pause=0.002, size=max(1, size // 20))),
            ("last chunk missing", lambda: chunked({"results": []}, "unfinished")),
            ("damaged gzip", lambda: gzipped({"results": []}, "crc")),
            ("no JSON", lambda: answer(200, "<html>Sign in</html>")),
        )
        name, make = faults[kind]
        self._ledger.fault(name)
        return make()


def ask(client: PostHogClient, ledger: Ledger, number: int) -> None:
    started = time.monotonic()
    try:
        rows = client.query("SELECT {n} AS n, number AS i FROM numbers(50)", {"n": number}, fresh=True)
    except PostHogError as error:
        ledger.note(f"query: {type(error).__name__}")
        return
    ledger.note("query: answered", time.monotonic() - started)
    if list(rows) != [{"n": number, "i": index} for index in range(number % 50 + 1)]:
        ledger.wrong.append(f"query {number} was answered with {str(list(rows))[:200]}")


def send(client: PostHogClient, ledger: Ledger, number: int) -> None:
    batch = [
        {"event": "soak", "distinct_id": f"user-{number}", "uuid": str(uuid.uuid4())} for _ in range(number % 20 + 1)
    ]
    uuids = [str(event["uuid"]) for event in batch]
    try:
        client.capture_batch(batch)
    except PostHogError as error:
        ledger.settle(uuids, confirmed=False)
        ledger.note(f"events: {type(error).__name__}")
    else:
        ledger.settle(uuids, confirmed=True)
        ledger.note("events: confirmed")


def soak(seconds: float, seed: int) -> Ledger:
    """Run the threads for this long and return what came of it."""
    ledger = Ledger()
    world = World(ledger, seed)
    ends = time.monotonic() + seconds
    with (
        world.server as server,
        PostHogClient(
            api_key="phx_soak", project_api_key="phc_soak", project_id=1, api_url=server.url, capture_url=server.url,
            timeout=5.0, total_timeout=20.0,
        ) as client,
    ):  # fmt: skip
        client.rate_limiter = None

        def work(thread: int) -> None:
            chance = random.Random(seed * 1000 + thread)
            while time.monotonic() < ends:
                (ask if chance.random() < 0.7 else send)(client, ledger, chance.randrange(1_000_000))

        threads = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return ledger


def report(ledger: Ledger, seconds: float) -> None:
    calls = sum(ledger.answers.values())
    ordered = sorted(ledger.seconds) or [0.0]
    shares = {name: ordered[min(len(ordered) - 1, int(len(ordered) * part))] for name, part in
              (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))}  # fmt: skip
    repeats = sum(count - 1 for count in ledger.stored.values())
    print(f"{calls:,} calls of {THREADS} threads in {seconds:.0f} s ({calls / seconds:.0f} a second)")
    print("  answered queries: " + ", ".join(f"{name} {1000 * value:.1f} ms" for name, value in shares.items()))
    for name, count in sorted(ledger.answers.items()):
        print(f"  {name}: {count:,}")
    print(f"{sum(ledger.faults.values()):,} faults: " + json.dumps(dict(sorted(ledger.faults.items()))))
    print(
        f"events: {len(ledger.confirmed):,} confirmed, {len(ledger.failed):,} ended in an error, "
        f"{len(ledger.stored):,} on the server, {repeats:,} came again under the same uuid"
    )
    print("\n".join(ledger.problems()) or "the ledger holds: nothing lost, doubled or invented")


def in_a_namespace(loss: int, arguments: list[str]) -> int:
    """Run this again where packets are lost.

    Raises:
        CalledProcessError: the namespace cannot be made.
    """
    subprocess.run(["ip", "netns", "add", NAMESPACE], check=True)
    try:
        subprocess.run(["ip", "-n", NAMESPACE, "link", "set", "lo", "up"], check=True)
        inside = ["ip", "netns", "exec", NAMESPACE]
        subprocess.run([*inside, "nft", "-f", "-"], input=_RULES.format(loss), text=True, check=True)
        return subprocess.run([*inside, sys.executable, "-m", "benchmarks.soak", *arguments], check=False).returncode
    finally:
        subprocess.run(["ip", "netns", "del", NAMESPACE], check=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak")
    parser.add_argument("--seconds", type=float, default=600.0, help="default: 600")
    parser.add_argument("--seed", type=int, default=1, help="default: 1")
    parser.add_argument("--loss", type=int, default=0, metavar="PERCENT", help="packets to drop; as root, on Linux")
    options = parser.parse_args()
    if options.loss:
        if os.geteuid() != 0:
            parser.error("--loss makes a network namespace: run it as root")
        return in_a_namespace(options.loss, ["--seconds", str(options.seconds), "--seed", str(options.seed)])
    ledger = soak(options.seconds, options.seed)
    report(ledger, options.seconds)
    return 1 if ledger.problems() else 0


if __name__ == "__main__":
    sys.exit(main())
