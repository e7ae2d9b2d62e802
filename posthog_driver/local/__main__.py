"""The command ``python -m posthog_driver.local``, which is also ``posthog-driver local``.

Standard output gets one JSON line when the server is ready; everything for people goes to standard error.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from . import LocalPostHog
from .arguments import LOOPBACK

if TYPE_CHECKING:
    from ..importing import Progress

DEFAULT_EVENTS = 25_000
BAR_WIDTH = 40
SHOWN_REFUSALS = 10

FIXED_PERSONAL_API_KEY = "phx_local_demo_key"
FIXED_PROJECT_API_KEY = "phc_local_demo_token"

_REACHED = "Others can reach it: whoever has the key can read and change everything.\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Run an embedded PostHog until SIGINT or SIGTERM.

    Args:
        argv: Arguments without the program's name; None takes the command line's.

    Returns:
        0 when it was stopped, 1 when it could not start or go on.
    """
    from ..exceptions import PostHogError

    options = _arguments(argv)
    fixed = (FIXED_PERSONAL_API_KEY, FIXED_PROJECT_API_KEY) if options.fixed_keys else (None, None)
    previous = signal.signal(signal.SIGTERM, _interrupt)
    try:
        with LocalPostHog(
            options.data,
            (0 if options.files else DEFAULT_EVENTS) if options.events is None else options.events,
            options.seed,
            options.port,
            options.limits,
            personal_api_key=fixed[0],
            project_api_key=fixed[1],
            host=options.host,
            allow_remote=options.allow_remote,
            query_seconds=options.query_seconds,
            timezone=options.timezone,
        ) as local:
            for file in options.files:
                _import(local, file)
            _announce(local, options.data, options.host not in LOOPBACK)
            if options.exit_with_stdin:
                threading.Thread(target=_interrupt_at_end_of_input, daemon=True).start()
            failure = local.wait()
            return 0 if failure is None else 1
    except PostHogError as error:
        print(f"posthog-driver local: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("posthog-driver local: stopped", file=sys.stderr)
        return 0
    finally:
        signal.signal(signal.SIGTERM, previous)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="posthog-driver local", description="Run an embedded PostHog with demo data on 127.0.0.1."
    )
    parser.add_argument("--port", type=int, default=0, help="port to listen on (default: a free one)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument("--allow-remote", action="store_true", help="let --host be reached by other machines")
    parser.add_argument("--data", metavar="DIR", help="keep the data in DIR and open it again (default: temporary)")
    parser.add_argument(
        "--events", type=int, help=f"demo events in a new project (default: {DEFAULT_EVENTS}, with --import none)"
    )
    parser.add_argument(
        "--import",
        dest="files",
        action="append",
        default=[],
        metavar="FILE",
        help="import the events of an NDJSON, CSV or Parquet file first; may be repeated",
    )
    parser.add_argument("--seed", type=int, default=0, help="another seed gives other demo data (default: 0)")
    parser.add_argument("--limits", choices=["cloud"], help="limit requests as PostHog Cloud does")
    parser.add_argument("--query-seconds", type=float, default=10.0, metavar="S", help="time of a query (default: 10)")
    parser.add_argument("--timezone", metavar="ZONE", help="time zone of the project (default: as it is, UTC at first)")
    parser.add_argument("--fixed-keys", action="store_true", help="well-known keys instead of random ones")
    parser.add_argument("--exit-with-stdin", action="store_true", help="stop when standard input closes")
    return parser.parse_args(argv)


def _import(local: LocalPostHog, file: str) -> None:
    """Import a file with a bar of progress on standard error, and say what was not imported."""
    name = os.path.basename(file)
    is_terminal = sys.stderr.isatty()

    def draw(progress: Progress) -> None:
        share = progress.done / progress.total if progress.total else 1.0
        bar = "#" * round(share * BAR_WIDTH)
        line = f"{name} [{bar:.<{BAR_WIDTH}}] {share:4.0%} {progress.events:,} events"
        print(f"\r{line}" if is_terminal else line, end="" if is_terminal else "\n", file=sys.stderr, flush=True)

    report = local.import_events(file, on_progress=draw)
    lines = [f"{name}: {report.events:,} events imported, {report.refused:,} rows refused."]
    lines += [f"  row {refusal.row}: {refusal.reason}" for refusal in report.refusals[:SHOWN_REFUSALS]]
    if report.refused > SHOWN_REFUSALS:
        lines.append(f"  and {report.refused - SHOWN_REFUSALS:,} more")
    for title, columns in (("Columns taken as properties", report.properties), ("Columns left out", report.left_out)):
        if columns:
            lines.append(f"  {title}: {', '.join(columns)}")
    print("\n" * is_terminal + "\n".join(lines), file=sys.stderr, flush=True)


def _announce(local: LocalPostHog, data: str | None, is_remote: bool) -> None:
    facts = {name: getattr(local, name) for name in ("url", "project_id", "personal_api_key", "project_api_key")}
    print(json.dumps(facts), flush=True)
    counts = ", ".join(f"{local.truth.get(name, 0):,} {name}" for name in ("events", "persons", "sessions"))
    print(
        f"An embedded PostHog listens on {local.url} (project {local.project_id}).\n"
        f"Demo data: {counts}; kept in {data or 'a temporary directory'}.\n"
        f"{_REACHED if is_remote else ''}"
        "Ctrl-C stops it.",
        file=sys.stderr,
        flush=True,
    )


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _interrupt_at_end_of_input() -> None:
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)  # SIGINT is ignored where a shell started this in the background


if __name__ == "__main__":
    sys.exit(main())
