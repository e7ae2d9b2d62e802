"""The command ``posthog-driver``: each command is a call of the public client, and its answer printed.

Standard output gets the answer and nothing else; notes and errors, a line each, go to standard error.
"""

from __future__ import annotations

import argparse
import contextlib
import decimal
import io
import json
import logging
import math
import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from posthog_driver._output import WRITERS, note, one_line, printable, say, to_json, write_mapping, write_table
from posthog_driver._version import __version__
from posthog_driver.client import PostHogClient
from posthog_driver.config import PostHogConfig
from posthog_driver.exceptions import (
    AuthenticationError,
    CircuitBreakerOpen,
    ConfigurationError,
    ConnectionError,
    ObjectNotFoundError,
    PostHogError,
    QueryError,
    RateLimitError,
    ResponseFormatError,
    ValidationError,
)
from posthog_driver.logging_config import configure_logging, get_logger, redact, register_secret

if TYPE_CHECKING:
    from posthog_driver.results import QueryResult

__all__ = ["main"]

_EPILOG = """\
settings:
  POSTHOG_PERSONAL_API_KEY, POSTHOG_PROJECT_ID, POSTHOG_API_URL and the others are read from the environment,
  then from .env in the working folder. No option takes a key: command lines can be read by every user of a
  machine and stay in the shell's history.

exit codes:
  0  ok                                              4  a query, value or name was refused
  1  unhealthy, or another failure                   5  a rate limit or quota is used up
  2  options or settings that cannot work            6  no connection, or trouble on the server
  3  no key, a wrong one, or one without the scope   130  interrupted

examples:
  posthog-driver demo
  posthog-driver query "SELECT event, count() AS n FROM events GROUP BY event ORDER BY n DESC LIMIT 5"
  posthog-driver query "SELECT count() FROM events WHERE event = {event}" --value 'event=$pageview' --format json
"""

_EXIT_CODES: tuple[tuple[tuple[type[PostHogError], ...], int], ...] = (
    ((ConfigurationError,), 2),
    ((AuthenticationError,), 3),
    ((QueryError, ValidationError, ObjectNotFoundError), 4),
    ((RateLimitError,), 5),
    ((ConnectionError, CircuitBreakerOpen, ResponseFormatError), 6),
)
_HEALTH_SECONDS, _GRACE = 5.0, 1.0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: Arguments without the program's name; None takes the command line's.

    Returns:
        The exit code, as ``posthog-driver --help`` lists them.

    Raises:
        SystemExit: The arguments are wrong (2), or were answered by a help text or the version (0).
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace", newline="")
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        try:
            return _run(arguments)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:  # whoever read our output (head, a pager) has seen enough
        _discard_output()
        return 0
    except KeyboardInterrupt:
        say("interrupted")
        return 130
    except Exception as error:
        if "--debug" in arguments:
            print("\n".join(map(printable, redact(traceback.format_exc()).splitlines())), file=sys.stderr)
        return _fail(error)


def _run(arguments: list[str]) -> int:
    parser = _parser()
    defaults = dict.fromkeys(("api_url", "project_id", "timeout", "log_level", "debug"))
    options, rest = parser.parse_known_args(arguments, argparse.Namespace(**defaults))
    if options.command == "local":
        from posthog_driver.local.__main__ import main as local

        return local(rest)
    if rest:  # their values are not repeated: one of them may be a key
        names = " ".join(word.partition("=")[0] for word in rest if word.startswith("-"))
        parser.error(f"unrecognized arguments: {names}" if names else "too many arguments: quote what has spaces")
    code: int = options.run(options)
    return code


def _fail(error: Exception) -> int:
    """Report an error in one line and return the exit code it stands for."""
    if isinstance(error, PostHogError):
        say(f"error: {error}")
        return next((code for kinds, code in _EXIT_CODES if isinstance(error, kinds)), 1)
    if isinstance(error, OSError):  # the disk is full, for one: nothing more can be written
        _discard_output()
    say(f"error: {type(error).__name__}: {error} (--debug shows where)")
    return 1


def _discard_output() -> None:
    """Send what is still buffered nowhere, so that the interpreter does not complain at exit."""
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)


# --- arguments ------------------------------------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        super().error(redact(message))


def _parser() -> argparse.ArgumentParser:
    common = _common_options()
    parser = _Parser(
        prog="posthog-driver",
        description="Answers out of PostHog: HogQL queries, what can be asked about, and a PostHog to try it on.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[common],
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"posthog-driver {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def command(name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text, parents=[common], allow_abbrev=False)
        added.set_defaults(run=run)
        return added

    demo = command("demo", _demo, "ask an embedded PostHog with demo data real questions; needs the extra 'local'")
    demo.add_argument("--events", type=int, default=25_000, metavar="N", help="events (default: 25000)")
    demo.add_argument("--seed", type=int, default=0, metavar="N", help="another seed gives other data (default: 0)")

    query = command("query", _query, "run a HogQL query and print its rows")
    query.add_argument("hogql", metavar="HOGQL", help="the query's text; - reads it from standard input")
    query.add_argument(
        "--value",
        action="append",
        default=[],
        type=_value,
        metavar="NAME=VALUE",
        help="what {NAME} in the query stands for: JSON (5, true, null, [1, 2], '\"5\"'), else text; may be repeated",
    )
    query.add_argument("--fresh", action="store_true", help="compute anew instead of taking PostHog's cache")
    query.add_argument("--format", choices=WRITERS, default="table", help="default: table")

    objects = command("objects", _objects, "list what can be asked about")
    fields = command("fields", _fields, "show what an object is made of")
    fields.add_argument("name", metavar="NAME", help="one of the objects, such as events")
    for listing in (objects, fields):
        listing.add_argument("--format", choices=("table", "json"), default="table", help="default: table")

    command("health", _health, "print ok (exit code 0) or unhealthy and why (1), within seconds")
    doctor = command(
        "doctor", _doctor, "check keys, addresses, scopes, clock and limits, and say what to do (1: a problem)"
    )
    doctor.add_argument("--format", choices=("table", "json"), default="table", help="default: table")
    _add_mcp_options(
        command("mcp", _mcp, "serve tools for language models (MCP) over standard input and output, or HTTP")
    )
    commands.add_parser("local", add_help=False, help="run an embedded PostHog; needs the extra 'local'")
    _add_sandbox(commands, common)
    return parser


def _add_sandbox(commands: Any, common: argparse.ArgumentParser) -> None:
    text = "ask from within a sandbox; say which ones work here; end those that were left behind in E2B"
    sandbox = commands.add_parser("sandbox", help=text, description=text, allow_abbrev=False)
    actions = sandbox.add_subparsers(dest="action", metavar="ACTION", required=True)

    def action(name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        added: argparse.ArgumentParser = actions.add_parser(
            name, help=text, description=text, parents=[common], allow_abbrev=False
        )
        added.set_defaults(run=run)
        return added

    run = action("run", _sandbox_run, "run a HogQL query in a sandbox, or with --python a script that may ask queries")
    run.add_argument("text", metavar="HOGQL", help="the query's text, or the script's; - reads it from standard input")
    run.add_argument(
        "--python", action="store_true", help="it is a script: query(hogql, values=None) gives a list of rows"
    )
    run.add_argument("--value", action="append", default=[], type=_value, metavar="NAME=VALUE", help="as for query")
    run.add_argument(
        "--backend", choices=("auto", "e2b", "local"), default="auto", help="auto: e2b if E2B_API_KEY is set"
    )
    run.add_argument("--level", choices=("auto", "bwrap", "landlock", "plain"), help="of a local one (default: auto)")
    run.add_argument("--secret", choices=("egress", "broker", "env"), help="how E2B gets at the key (default: egress)")
    run.add_argument("--secret-name", metavar="NAME", help="of the key in E2B's store of secrets, for egress")
    run.add_argument("--template", metavar="NAME", help="of E2B's sandboxes (default: base)")
    run.add_argument(
        "--run-timeout", type=_seconds, metavar="SECONDS", default=60.0, help="for all of it (default: 60)"
    )
    run.add_argument("--format", choices=WRITERS, default="table", help="default: table")

    probe = action("probe", _sandbox_probe, "try the sandboxes of this machine; tell what each closes and leaves open")
    probe.add_argument("--format", choices=("table", "json"), default="table", help="default: table")

    sweep = action("sweep", _sandbox_sweep, "end sandboxes of this package that were left behind in E2B")
    sweep.add_argument(
        "--older-than",
        type=_seconds,
        metavar="SECONDS",
        default=3600.0,
        help="younger ones may be in use (default: 3600)",
    )


def _add_mcp_options(mcp: argparse.ArgumentParser) -> None:
    mcp.add_argument("--http", action="store_true", help="serve streamable HTTP instead of standard input and output")
    mcp.add_argument("--host", default="127.0.0.1", help="where HTTP listens (default: 127.0.0.1); others need a token")
    mcp.add_argument("--audit", metavar="FILE", help="append a line of JSON for each call: what was asked, no answers")
    mcp.add_argument("--port", type=int, default=8011, help="port of HTTP, 0 for a free one (default: 8011)")
    mcp.add_argument(
        "--pii",
        choices=("mask", "drop", "show"),
        default="mask",
        help="what becomes of e-mail and IP addresses and phone numbers in answers (default: mask)",
    )


def _common_options() -> _Parser:
    """The options that may stand before and after the command; `_run` gives them their defaults."""
    common = _Parser(add_help=False, argument_default=argparse.SUPPRESS, allow_abbrev=False)
    group = common.add_argument_group("common options")
    group.add_argument("--api-url", metavar="URL", help="app host (default: POSTHOG_API_URL)")
    group.add_argument("--project-id", metavar="ID", help="project (default: POSTHOG_PROJECT_ID)")
    group.add_argument("--timeout", type=_seconds, metavar="SECONDS", help="longest wait for one attempt (default: 30)")
    group.add_argument(
        "--log-level", type=str.upper, choices=("DEBUG", "INFO", "WARNING"), help="log to standard error"
    )
    group.add_argument("-v", action="store_const", const="INFO", dest="log_level", help="the same as --log-level INFO")
    group.add_argument("--debug", action="store_true", help="show where an error comes from")
    return common


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number of seconds")
    return seconds


def _value(text: str) -> tuple[str, Any]:
    """Read ``name=value``; numbers stay exact, and what is no JSON is text."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    try:
        return name, json.loads(value, parse_float=decimal.Decimal, parse_constant=_no_json)
    except (ValueError, RecursionError):
        return name, value


def _no_json(text: str) -> NoReturn:
    raise ValueError(f"JSON has no {text}")


# --- commands -------------------------------------------------------------------------------------------------------


def _settings(options: argparse.Namespace) -> PostHogConfig:
    names = ("api_url", "project_id", "timeout", "log_level")
    config = PostHogConfig.from_env(dotenv=True, overrides={name: getattr(options, name) for name in names})
    register_secret(config.api_key)
    register_secret(config.project_api_key)
    return config


@contextlib.contextmanager
def _client(options: argparse.Namespace, heard: Callable[[str], None] | None = None) -> Iterator[PostHogClient]:
    """Give the client that the settings ask for; see `_heard`."""
    config = _settings(options)
    level = options.log_level or (config.log_level if config.log_level == "DEBUG" else None)
    with _heard(level, heard), PostHogClient(config) as client:
        yield client


@contextlib.contextmanager
def _heard(level: str | None, heard: Callable[[str], None] | None = None) -> Iterator[None]:
    """Log from ``level`` on; without one, warnings are notes. ``heard`` gets the warnings in either case."""
    if level is not None:
        configure_logging(level, json=False)
    handler = _Notes(heard or note) if heard or level is None else logging.NullHandler()
    get_logger().addHandler(handler)
    try:
        yield
    finally:
        get_logger().removeHandler(handler)


class _Notes(logging.Handler):
    """Hands warnings on as text; errors are not its business, as they are raised too."""

    def __init__(self, heard: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._heard = heard

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno == logging.WARNING:
            self._heard(record.getMessage())


def _query(options: argparse.Namespace) -> int:
    hogql = _standard_input() if options.hogql == "-" else options.hogql
    values = _values(options)
    with _client(options) as client:
        rows = client.query(hogql, values, fresh=options.fresh, name="posthog-driver query")
    return _print_rows(rows, options)


def _values(options: argparse.Namespace) -> dict[str, Any]:
    values = dict(options.value)
    if len(values) < len(options.value):
        raise ValidationError("--value gives a name twice. Nothing was sent.")
    return values


def _print_rows(rows: QueryResult, options: argparse.Namespace) -> int:
    for warning in rows.info.warnings:
        note(f"PostHog says: {warning}")
    columns = list(dict.fromkeys([*rows.columns, *(name for row in rows for name in row)]))
    WRITERS[options.format](rows, columns)
    if options.format == "table":
        cached = f", cached by PostHog at {rows.last_refresh}" if rows.is_cached else ""
        print(printable(f"({len(rows)} row{'' if len(rows) == 1 else 's'}{cached})"))
    return 0


def _standard_input() -> str:
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(encoding="utf-8-sig")
    try:
        return sys.stdin.read()
    except UnicodeDecodeError as error:
        raise ValidationError(f"The query on standard input is not UTF-8: {error}. Nothing was sent.") from error


def _objects(options: argparse.Namespace) -> int:
    with _client(options) as client:
        names = client.list_objects()
    if options.format == "json":
        print(to_json(names))
    else:
        print("\n".join(map(printable, names)))
    return 0


def _fields(options: argparse.Namespace) -> int:
    with _client(options) as client:
        fields = client.get_fields(options.name)
    if options.format == "json":
        write_mapping(fields)
        return 0
    facts = dict.fromkeys(["type", "description", *(fact for field in fields.values() for fact in field)])
    rows = [{"field": name, **{fact: field.get(fact, "") for fact in facts}} for name, field in fields.items()]
    write_table(rows, ["field", *facts])
    return 0


def _health(options: argparse.Namespace) -> int:
    """Ask in a thread, as looking up a host name can take as long as the system likes."""
    seconds = options.timeout or _HEALTH_SECONDS
    problems: list[str] = []
    asking = threading.Thread(target=_diagnose, args=(options, seconds, problems), daemon=True)
    asking.start()
    asking.join(seconds + _GRACE)
    if asking.is_alive():
        problems.append(f"no answer within {seconds:g} s")
    print(f"unhealthy: {one_line(problems[-1])}" if problems else "ok")
    return 1 if problems else 0


def _doctor(options: argparse.Namespace) -> int:
    from posthog_driver import _doctor as doctor

    findings = []
    with _heard("CRITICAL"):  # what goes wrong is told as a finding
        for found in doctor.diagnose(lambda: _settings(options)):
            findings.append(found)
            if options.format == "table":
                print(f"{found.state:<8} {found.check}: {one_line(found.found)}")
                if found.remedy:
                    print(f"         -> {one_line(found.remedy)}")
    if options.format == "json":
        print(to_json([found._asdict() for found in findings]))
    return 1 if any(found.state == doctor.PROBLEM for found in findings) else 0


def _diagnose(options: argparse.Namespace, seconds: float, problems: list[str]) -> None:
    heard: list[str] = []
    try:
        with _client(options, heard.append) as client:
            if not client.health_check(timeout=seconds):
                said = heard[-1].removeprefix("health check failed: ") if heard else "not what a project looks like"
                problems.append(f"{client.api_url}: {said}")
    except Exception as error:
        problems.append(str(error))


def _mcp(options: argparse.Namespace) -> int:
    from posthog_driver.tools import Budget, Toolkit, mcp_server

    # A server lives through many conversations and cannot tell them apart: none of them is to use up a budget for all.
    budget = Budget(queries=math.inf, seconds=math.inf, tokens=math.inf)
    with (
        _client(options) as client,
        _audit(options.audit) as audit,
        Toolkit(client, pii=options.pii, budget=budget, audit=audit) as toolkit,
    ):
        if not options.http:
            mcp_server.serve_stdio(toolkit)
            return 0
        token = os.environ.get("POSTHOG_MCP_TOKEN")
        register_secret(token)
        mcp_server.serve_http(
            toolkit, host=options.host, port=options.port, token=token, ready=lambda url: note(f"listening on {url}")
        )
    return 0


@contextlib.contextmanager
def _audit(path: str | None) -> Iterator[Callable[[str], None] | None]:
    if path is None:
        yield None
        return
    try:
        file = open(path, "a", encoding="utf-8")  # noqa: SIM115
    except OSError as error:
        raise ConfigurationError(f"--audit cannot write to {path}: {error.strerror}.") from error
    with file:
        yield lambda line: print(line, file=file, flush=True)


def _sandbox_run(options: argparse.Namespace) -> int:
    from posthog_driver.sandbox import SandboxedQueries, SandboxLimits

    text = _standard_input() if options.text == "-" else options.text
    values = _values(options)
    if options.python and values:
        raise ValidationError("--value is for a query's placeholders; a script has its values in it. Nothing was sent.")
    names = ("level", "secret", "secret_name", "template")
    given = {name: value for name in names if (value := getattr(options, name)) is not None}
    limits = SandboxLimits(run_timeout=options.run_timeout)
    with (
        _client(options) as client,
        SandboxedQueries(client=client, backend=options.backend, limits=limits, **given) as sandboxed,
    ):
        if not options.python:
            return _print_rows(sandboxed.query(text, values), options)
        output = sandboxed.run_python(text)
    for printed, stream in ((output.stdout, sys.stdout), (output.stderr, sys.stderr)):
        print("\n".join(map(printable, printed.split("\n"))), end="", file=stream)
    if output.truncated:
        note("the start of the script's output was dropped")
    return 1 if output.exit_code else 0


def _sandbox_probe(options: argparse.Namespace) -> int:
    from posthog_driver.sandbox import LocalBackend

    with _heard(options.log_level):
        found = LocalBackend.probe()
    if options.format == "json":
        write_mapping({name: facts.to_dict() for name, facts in found.items()})
    else:
        for name, facts in found.items():
            print(printable(f"{name}: {'works' if facts else one_line(facts.why)}"))
            for words, items in (("closed", facts.closed), ("open", facts.open)):
                print("".join(printable(f"  {words}: {item}") + "\n" for item in items), end="")
    return 0 if any(facts for name, facts in found.items() if name != "plain") else 1


def _sandbox_sweep(options: argparse.Namespace) -> int:
    from posthog_driver.sandbox import E2BBackend

    with _heard(options.log_level), E2BBackend() as backend:
        ended = backend.sweep(older_than=options.older_than)
    print(f"{ended} ended")
    return 0


def _demo(options: argparse.Namespace) -> int:
    from posthog_driver._demo import run

    with _heard(options.log_level):
        run(options.events, options.seed)
    return 0
