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

from . import LocalPostHog

FIXED_PERSONAL_API_KEY = "phx_local_demo_key"
FIXED_PROJECT_API_KEY = "phc_local_demo_token"


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
            options.events,
            options.seed,
            options.port,
            options.limits,
            personal_api_key=fixed[0],
            project_api_key=fixed[1],
        ) as local:
            _announce(local, options.data)
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
    parser.add_argument("--data", metavar="DIR", help="keep the data in DIR and open it again (default: temporary)")
    parser.add_argument("--events", type=int, default=25_000, help="demo events in a new project (default: 25000)")
    parser.add_argument("--seed", type=int, default=0, help="another seed gives other demo data (default: 0)")
    parser.add_argument("--limits", choices=["cloud"], help="limit requests as PostHog Cloud does")
    parser.add_argument("--fixed-keys", action="store_true", help="well-known keys instead of random ones")
    parser.add_argument("--exit-with-stdin", action="store_true", help="stop when standard input closes")
    return parser.parse_args(argv)


def _announce(local: LocalPostHog, data: str | None) -> None:
    facts = {name: getattr(local, name) for name in ("url", "project_id", "personal_api_key", "project_api_key")}
    print(json.dumps(facts), flush=True)
    counts = ", ".join(f"{local.truth.get(name, 0):,} {name}" for name in ("events", "persons", "sessions"))
    print(
        f"An embedded PostHog listens on {local.url} (project {local.project_id}).\n"
        f"Demo data: {counts}; kept in {data or 'a temporary directory'}.\n"
        "Ctrl-C stops it.",
        file=sys.stderr,
        flush=True,
    )


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _interrupt_at_end_of_input() -> None:
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os.kill(os.getpid(), signal.SIGINT)


if __name__ == "__main__":
    sys.exit(main())
