"""Run a query, or code that an agent wrote, in a sandbox of E2B; PostHog's key stays outside.

::

    pip install "posthog-driver[e2b]"
    export E2B_API_KEY=e2b_... POSTHOG_PERSONAL_API_KEY=phx_... POSTHOG_PROJECT_ID=1
    python examples/e2b_integration.py "SELECT event, count() AS n FROM events GROUP BY event ORDER BY n DESC LIMIT 5"
    python examples/e2b_integration.py --script analysis.py --secret broker

A script has ``query(hogql, values=None)``, which answers with a list of dicts, and Python's standard library. Nothing
is installed, and nothing is formatted into code or a command. The sandbox is ended when this ends; if this is killed,
the sandbox ends itself 90 seconds after its start.

``--secret`` says where PostHog's key goes. With ``egress`` E2B's proxy puts it on outside of the sandbox, which E2B has
to enable for your team; with ``broker`` the sandbox has no network at all and this program asks for it; with ``env``
the sandbox has the key, and whatever runs there can read it. None takes another's place: what cannot be had is an
error.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from posthog_driver.exceptions import PostHogError
from posthog_driver.sandbox import PythonOutput, SandboxedQueries, SandboxLimits

LIMITS = SandboxLimits(run_timeout=60, max_result_bytes=8 << 20)


def execute_in_sandbox(query: str, secret: str = "egress") -> str:
    """Return the rows of a query as text, a line each."""
    with SandboxedQueries(backend="e2b", secret=secret, limits=LIMITS) as sandboxed:
        return "\n".join(map(str, sandboxed.query(query)))


def run_in_sandbox(code: str, secret: str = "egress") -> PythonOutput:
    """Return what a script printed."""
    with SandboxedQueries(backend="e2b", secret=secret, limits=LIMITS) as sandboxed:
        return sandboxed.run_python(code)


def main() -> None:
    """Do what the command line asks for."""
    parser = argparse.ArgumentParser(description="Run a query or a script in a sandbox of E2B.")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("query", nargs="?", help="HogQL")
    what.add_argument("--script", type=Path, help="file with Python code")
    parser.add_argument("--secret", choices=("egress", "broker", "env"), default="egress")
    options = parser.parse_args()
    try:
        if options.query:
            print(execute_in_sandbox(options.query, options.secret))
        else:
            print(run_in_sandbox(options.script.read_text(encoding="utf-8"), options.secret))
    except PostHogError as error:
        raise SystemExit(f"{type(error).__name__}: {error}") from None


if __name__ == "__main__":
    main()
