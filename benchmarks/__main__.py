"""All benchmarks in one run: ``python -m benchmarks``, or some by name: ``python -m benchmarks client import``."""

from __future__ import annotations

import importlib
import platform
import sys

ALL = ("client", "breaker", "limiter", "retry", "logging", "import")


def main() -> None:
    chosen = sys.argv[1:] or list(ALL)
    print(f"Python {platform.python_version()}, {platform.machine()}; the cases take turns, ratios are medians")
    for name in chosen:
        importlib.import_module(f"benchmarks.bench_{name}").main()


if __name__ == "__main__":
    main()
