"""All benchmarks in one run: ``python -m benchmarks``, or some by name: ``python -m benchmarks client import``.

``--events N`` sets the size of the data that ``local`` measures. ``agents`` runs by name only:
it needs packages that ``make clients`` installs.
"""

from __future__ import annotations

import argparse
import importlib
import platform

ALL = ("client", "breaker", "limiter", "retry", "logging", "import", "local", "sandbox")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("names", nargs="*", default=ALL, metavar="NAME", help=", ".join([*ALL, "agents"]))
    parser.add_argument("--events", type=int, default=1_000_000, help="events that local measures (default: 1000000)")
    options = parser.parse_args()
    print(f"Python {platform.python_version()}, {platform.machine()}; the cases take turns, ratios are medians")
    for name in options.names:
        run = importlib.import_module(f"benchmarks.bench_{name}").main
        if name == "local":
            run(options.events)
        else:
            run()


if __name__ == "__main__":
    main()
