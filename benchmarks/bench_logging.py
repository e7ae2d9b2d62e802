"""What a log record costs, against the usual formatter: ``json.dumps`` and a regular expression over it.

Run ``python -m benchmarks.bench_logging``. All cases take turns in every round, and each ratio is the median of
those within a round, so that a busy machine slows both sides alike.
"""

from __future__ import annotations

import json
import logging
import os
import re
import statistics
import time
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

from benchmarks.measure import Row, show
from posthog_driver.logging_config import StructuredFormatter, redact

ROUNDS = 60
CALLS = 400
KEY = "phx_test_key_of_the_benchmark"
EXTRA = {
    "status_code": 200,
    "latency_ms": 12.5,
    "attempt": 1,
    "query_id": "0123456789abcdef",
    "scope": "query",
}

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}
_SECRET = re.compile(r"ph[xcas]_[A-Za-z0-9_-]+|bearer\s+[^\s\"]+|api_key=[^&\s\"]+", re.IGNORECASE)


class PlainFormatter(logging.Formatter):
    """The formatter that one would write first."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as JSON, redacted by one alternation over the line."""
        fields: dict[str, Any] = {
            "timestamp": datetime.fromtimestamp(record.created, timezone.utc).isoformat(),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        fields.update({name: value for name, value in vars(record).items() if name not in _STANDARD})
        return _SECRET.sub("***", json.dumps(fields, default=str))


def _logger(formatter: logging.Formatter, stream: Any) -> logging.Logger:
    logger = logging.Logger("posthog_driver.bench", logging.INFO)
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    logger.addHandler(handler)
    return logger


def _microseconds(call: Callable[[], object], calls: int = CALLS) -> float:
    started = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - started) / calls * 1e6


def _check(formatter: logging.Formatter) -> None:
    """Make sure that what is measured does its job: every field is there, the key is not."""
    record = logging.makeLogRecord({"name": "x", "msg": "sent %s", "args": (KEY,), "levelname": "INFO", **EXTRA})
    for _ in range(2):
        line = formatter.format(record)
        if KEY in line or not EXTRA.items() <= json.loads(line).items():
            raise SystemExit(f"{type(formatter).__name__} shows the key or loses a field: {line}")


def run() -> list[tuple[str, float, float | None]]:
    """Measure, and return rows of label, value and goal (an upper bound; None where there is none)."""
    ours, plain = StructuredFormatter(), PlainFormatter()
    _check(ours)
    _check(plain)
    with open(os.devnull, "w") as nowhere:
        first, second = _logger(plain, nowhere), _logger(ours, nowhere)
        path = "/api/projects/1/query/"
        pairs: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
            "a record": (
                lambda: first.info("POST %s -> %d", path, 200, extra=EXTRA),
                lambda: second.info("POST %s -> %d", path, 200, extra=EXTRA),
            ),
            "a record with a key in it": (
                lambda: first.info("POST %s with %s", path, KEY, extra=EXTRA),
                lambda: second.info("POST %s with %s", path, KEY, extra=EXTRA),
            ),
        }
        times: dict[str, list[tuple[float, float]]] = {label: [] for label in pairs}
        for _ in range(ROUNDS):
            for label, (theirs, mine) in pairs.items():
                times[label].append((_microseconds(theirs), _microseconds(mine)))
    rows: list[tuple[str, float, float | None]] = []
    for label, rounds in times.items():
        goal = 0.75 if label == "a record" else None
        rows.append((f"{label}: x of json.dumps + regex", statistics.median(b / a for a, b in rounds), goal))
        rows.append((f"{label}: json.dumps + regex, us", statistics.median(a for a, _ in rounds), None))
        rows.append((f"{label}: ours, us", statistics.median(b for _, b in rounds), None))
    quiet = logging.Logger("posthog_driver.bench", logging.WARNING)

    def disabled() -> None:
        if quiet.isEnabledFor(logging.INFO):
            quiet.info("POST %s -> %d", path, 200, extra=EXTRA)

    harmless = "PostHog answered 200 to POST https://us.posthog.com/api/projects/1/query/ within 12.5 ms"
    for label, call in {
        "a disabled, guarded record with the measuring call, us": disabled,
        "redact() of 90 harmless characters, us": lambda: redact(harmless),
    }.items():
        rows.append((label, statistics.median(_microseconds(call) for _ in range(ROUNDS)), None))
    return rows


def main() -> None:
    show(
        "structured logging, against json.dumps with a regex over the line",
        [Row(label, f"{value:.3f}", f"goal {goal}" if goal else "") for label, value, goal in run()],
    )


if __name__ == "__main__":
    main()
