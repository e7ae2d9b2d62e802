"""The command line against a scripted server: what it sends, prints, and returns."""

from __future__ import annotations

import errno
import io
import json
import logging
import math
import sys
import threading
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from posthog_driver import cli
from posthog_driver._version import __version__
from posthog_driver.exceptions import MissingDependencyError
from posthog_driver.testing import FaultServer, answer, error_body, query_answer, reset

KEY = "phx_test_key"
SCHEMA = {"tables": {"events": {"fields": {"uuid": {"type": "string", "hogql_value": "uuid"}}}}}
ANSWER = (200, query_answer([["$pageview", 3], ["signed_up", 12]], ["event", "n"]))


class Done(NamedTuple):
    code: int
    out: str
    err: str


Run = Callable[..., Done]


@pytest.fixture
def run(
    fault_server: FaultServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Run]:
    """Run a command in an empty folder, with settings for the fault server and one try per call."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("POSTHOG_PERSONAL_API_KEY", KEY)
    monkeypatch.setenv("POSTHOG_PROJECT_ID", "1")
    monkeypatch.setenv("POSTHOG_API_URL", fault_server.url)
    monkeypatch.setenv("POSTHOG_MAX_RETRIES", "1")
    logger = logging.getLogger("posthog_driver")
    before = (list(logger.handlers), logger.level, logger.propagate)

    def call(*arguments: str) -> Done:
        try:
            code: Any = cli.main(arguments)
        except SystemExit as done:
            code = done.code
        out, err = capsys.readouterr()
        assert KEY not in out + err
        return Done(code, out, err)

    yield call
    logger.handlers[:], logger.level, logger.propagate = before


# --- query ----------------------------------------------------------------------------------------------------------


def test_rows_come_as_an_aligned_table(run: Run, fault_server: FaultServer) -> None:
    fault_server.then(ANSWER)
    assert run("query", "SELECT event, count() AS n FROM events") == Done(
        0,
        "event       n\n─────────  ──\n$pageview   3\nsigned_up  12\n(2 rows)\n",
        "",
    )
    assert fault_server.requests[0].json["query"]["query"] == "SELECT event, count() AS n FROM events"


@pytest.mark.parametrize(
    ("format", "printed"),
    [
        ("json", '[\n{"event": "$pageview", "n": 3},\n{"event": "signed_up", "n": 12}\n]\n'),
        ("ndjson", '{"event": "$pageview", "n": 3}\n{"event": "signed_up", "n": 12}\n'),
        ("csv", "event,n\r\n$pageview,3\r\nsigned_up,12\r\n"),
    ],
)
def test_other_formats_print_the_rows_and_nothing_else(
    run: Run, fault_server: FaultServer, format: str, printed: str
) -> None:
    fault_server.then(ANSWER)
    assert run("query", "SELECT 1", "--format", format) == Done(0, printed, "")


@pytest.mark.parametrize(("format", "printed"), [("json", "[\n]\n"), ("ndjson", ""), ("csv", "n\r\n")])
def test_no_rows_are_a_valid_answer(run: Run, fault_server: FaultServer, format: str, printed: str) -> None:
    fault_server.then((200, query_answer([], ["n"]))).then((200, query_answer([], ["n"])))
    assert run("query", "SELECT 1", "--format", format) == Done(0, printed, "")
    assert run("query", "SELECT 1").out == "n\n─\n(0 rows)\n"


def test_objects_that_come_without_columns_lose_no_member(run: Run, fault_server: FaultServer) -> None:
    fault_server.then((200, {"results": [{"a": 1}, {"b": 2}]}))
    assert run("query", "SELECT 1", "--format", "csv").out == "a,b\r\n1,\r\n,2\r\n"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5),
        ("1.5", 1.5),
        ("true", True),
        ("null", None),
        ('["a", 2]', ["a", 2]),
        ('"5"', "5"),
        ("$pageview", "$pageview"),
        ("a=b", "a=b"),
        ("", ""),
        ("007", "007"),
        ("NaN", "NaN"),
        ("[1, Infinity]", "[1, Infinity]"),
        ("[" * 100_000, "[" * 100_000),
    ],
)
def test_a_value_is_json_if_it_can_be_and_else_text(
    run: Run, fault_server: FaultServer, text: str, value: object
) -> None:
    fault_server.then(ANSWER)
    assert run("query", "SELECT {v}", "--value", f"v={text}").code == 0
    sent = fault_server.requests[0].json["query"]["values"]["v"]
    assert (sent, type(sent)) == (value, type(value))


def test_a_number_that_would_lose_digits_is_refused_and_not_rounded(run: Run, fault_server: FaultServer) -> None:
    assert cli._value("v=0.12345678901234567890") == ("v", Decimal("0.12345678901234567890"))
    done = run("query", "SELECT {v}", "--value", "v=0.12345678901234567890")
    assert (done.code, fault_server.requests) == (4, [])
    assert "without losing digits" in done.err


def test_values_that_do_not_fit_are_refused_before_anything_is_sent(run: Run, fault_server: FaultServer) -> None:
    assert run("query", "SELECT {v}", "--value", "v=1", "--value", "v=2").code == 4
    assert run("query", "SELECT {v}").code == 4
    assert run("query", "SELECT 1", "--value", "no-equals-sign").code == 2
    assert run("query", "SELECT 1", "--value", "=1").code == 2
    assert fault_server.requests == []


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_a_dash_reads_the_query_from_standard_input(
    run: Run, fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch, mark: bytes
) -> None:
    fault_server.then(ANSWER)
    text = io.TextIOWrapper(io.BytesIO(mark + "SELECT 'é'".encode()), encoding="latin-1")
    monkeypatch.setattr(sys, "stdin", text)
    assert run("query", "-").code == 0
    assert fault_server.requests[0].json["query"]["query"] == "SELECT 'é'"


def test_standard_input_that_is_not_utf8_is_refused(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"SELECT '\xff'")))
    done = run("query", "-")
    assert (done.code, done.out) == (4, "")
    assert "is not UTF-8" in done.err


def test_standard_input_may_be_any_text_stream(
    run: Run, fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault_server.then(ANSWER)
    monkeypatch.setattr(sys, "stdin", io.StringIO("SELECT 1"))
    assert run("query", "-").code == 0


def test_a_query_may_begin_with_a_comment(run: Run, fault_server: FaultServer) -> None:
    fault_server.then(ANSWER)
    assert run("query", "-- the most\nSELECT 1").code == 0


def test_the_cache_is_used_unless_fresh_is_asked_for_and_a_cached_answer_says_so(
    run: Run, fault_server: FaultServer
) -> None:
    cached = query_answer([[1]], ["n"], is_cached=True, last_refresh="2024-05-01T00:00:00Z")
    fault_server.then((200, cached), ANSWER)
    assert run("query", "SELECT 1").out.endswith("(1 row, cached by PostHog at 2024-05-01T00:00:00Z)\n")
    assert run("query", "SELECT 1", "--fresh").code == 0
    assert [request.json["refresh"] for request in fault_server.requests] == ["blocking", "force_blocking"]


def test_a_cut_result_and_the_servers_warnings_are_noted_on_standard_error(run: Run, fault_server: FaultServer) -> None:
    fault_server.then((200, query_answer([[1]], ["n"], hasMore=True, limit=1, warnings=["old\nsyntax"])))
    done = run("query", "SELECT 1", "--format", "json")
    first, second = done.err.splitlines()
    assert (done.code, done.out) == (0, '[\n{"n": 1}\n]\n')
    assert first.startswith("posthog-driver: note: query ")
    assert "was cut by PostHog at 1 rows" in first
    assert second == "posthog-driver: note: PostHog says: old syntax"


def test_a_retry_is_noted(run: Run, fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTHOG_MAX_RETRIES", "2")
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    fault_server.then(reset(), ANSWER)
    done = run("query", "SELECT 1")
    assert done.code == 0
    assert done.err.startswith("posthog-driver: note: ")
    assert "retry in" in done.err


# --- objects and fields ---------------------------------------------------------------------------------------------


def test_objects_are_listed_one_on_a_line_or_as_json(run: Run, fault_server: FaultServer) -> None:
    fault_server.default = answer(200, SCHEMA)
    names = run("objects").out.splitlines()
    assert names[:2] == ["events", "persons"]
    assert json.loads(run("objects", "--format", "json").out) == names


def test_an_answer_from_the_static_core_is_noted(run: Run, fault_server: FaultServer) -> None:
    fault_server.then((500, error_body(500, "down")))
    done = run("objects")
    assert (done.code, done.out.splitlines()[0]) == (0, "events")
    assert done.err.startswith("posthog-driver: note: the live schema cannot be had")


def test_fields_come_with_type_and_description_or_as_json(run: Run, fault_server: FaultServer) -> None:
    definitions = {"results": [{"name": "$browser", "property_type": "String"}], "next": None}
    fault_server.default = lambda request: (200, SCHEMA if request.method == "POST" else definitions)
    table = run("fields", "events").out.splitlines()
    assert table[0].split()[:3] == ["field", "type", "description"]
    assert any(line.startswith("properties.$browser  ") for line in table)
    assert "NULL" not in "".join(table)  # not every field has every fact
    fields = json.loads(run("fields", "events", "--format", "json").out)
    assert [line.split()[0] for line in table[2:]] == list(fields)
    assert fields["properties.$browser"]["type"] == "string"


def test_an_unknown_name_is_refused_with_the_nearest_ones(run: Run, fault_server: FaultServer) -> None:
    fault_server.then((200, SCHEMA))
    done = run("fields", "event")
    assert (done.code, done.out) == (4, "")
    assert "Did you mean 'events'" in done.err


# --- health ---------------------------------------------------------------------------------------------------------


def test_health_says_ok(run: Run, fault_server: FaultServer) -> None:
    fault_server.then((200, {"id": 1}))
    assert run("health") == Done(0, "ok\n", "")


@pytest.mark.parametrize(
    ("reply", "why"),
    [((503, error_body(503, "down\nfor repair")), "503"), (reset(), "GET"), ((200, [1]), "not what a project")],
)
def test_health_says_why_not_in_one_line(run: Run, fault_server: FaultServer, reply: Any, why: str) -> None:
    fault_server.then(reply)
    done = run("health")
    assert (done.code, done.err, done.out.count("\n")) == (1, "", 1)
    assert done.out.startswith(f"unhealthy: {fault_server.url}: ")
    assert why in done.out


def test_health_without_settings_names_what_is_missing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("POSTHOG_PERSONAL_API_KEY")
    done = run("health")
    assert (done.code, done.err) == (1, "")
    assert done.out.startswith("unhealthy: no API key")


def test_health_does_not_wait_for_a_system_that_hangs(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()
    monkeypatch.setattr(cli, "_diagnose", lambda *arguments: released.wait(60))
    monkeypatch.setattr(cli, "_GRACE", 0)
    try:
        assert run("health", "--timeout", "0.01") == Done(1, "unhealthy: no answer within 0.01 s\n", "")
    finally:
        released.set()


# --- settings -------------------------------------------------------------------------------------------------------


def test_options_win_over_the_environment_and_may_stand_before_or_after_the_command(
    run: Run, fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POSTHOG_API_URL", "http://127.0.0.1:9")
    fault_server.then(ANSWER, ANSWER)
    assert run("--api-url", fault_server.url, "query", "SELECT 1", "--project-id", "7").code == 0
    assert run("--project-id", "8", "query", "SELECT 1", "--api-url", fault_server.url).code == 0
    assert [request.path for request in fault_server.requests] == [f"/api/projects/{n}/query/" for n in (7, 8)]


def test_settings_come_from_dotenv_too(
    run: Run, fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("POSTHOG_PERSONAL_API_KEY")
    monkeypatch.delenv("POSTHOG_PROJECT_ID")
    (tmp_path / ".env").write_text(f"POSTHOG_PERSONAL_API_KEY={KEY}\nPOSTHOG_PROJECT_ID=5\n")
    fault_server.then(ANSWER)
    assert run("query", "SELECT 1").code == 0
    assert fault_server.requests[0].path == "/api/projects/5/query/"
    assert fault_server.requests[0].headers["Authorization"] == f"Bearer {KEY}"


def test_the_log_comes_on_request(run: Run, fault_server: FaultServer) -> None:
    fault_server.then(ANSWER)
    done = run("query", "SELECT 'text'", "-v")
    assert " INFO posthog_driver.transport POST /api/projects/1/query/ -> 200" in done.err
    assert "SELECT" not in done.err


def test_the_environment_can_ask_for_the_debug_log(
    run: Run, fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POSTHOG_LOG_LEVEL", "debug")
    fault_server.then(ANSWER)
    assert " DEBUG posthog_driver.transport " in run("query", "SELECT 1").err


def test_a_warning_that_is_in_the_log_is_no_note_too(run: Run, fault_server: FaultServer) -> None:
    fault_server.then((200, query_answer([[1]], ["n"], hasMore=True)))
    (line,) = run("query", "SELECT 1", "--log-level", "warning").err.splitlines()
    assert " WARNING posthog_driver.endpoints " in line


# --- failures -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        ((401, error_body(401, "Invalid key.")), 3),
        ((403, error_body(403, "Missing scope 'query:read'")), 3),
        ((400, error_body(400, "no\x1b[31m\nviable alternative")), 4),
        ((504, error_body(504, "too slow")), 4),
        ((404, error_body(404, "Not found.")), 4),
        ((402, error_body(402, "quota")), 5),
        ((429, error_body(429, "Request was throttled.")), 5),
        ((500, error_body(500, "oops")), 6),
        (reset(), 6),
        ((200, "<html>sign in</html>"), 6),
    ],
)
def test_a_failure_is_one_line_and_an_exit_code_with_a_meaning(
    run: Run, fault_server: FaultServer, reply: Any, code: int
) -> None:
    fault_server.then(reply)
    done = run("query", "SELECT 1")
    assert (done.code, done.out, done.err.count("\n")) == (code, "", 1)
    assert done.err.startswith("posthog-driver: error: ")
    assert "\x1b" not in done.err


@pytest.mark.parametrize(("variable", "code"), [("POSTHOG_PERSONAL_API_KEY", 3), ("POSTHOG_PROJECT_ID", 2)])
def test_a_missing_setting_is_named(run: Run, monkeypatch: pytest.MonkeyPatch, variable: str, code: int) -> None:
    monkeypatch.delenv(variable)
    done = run("objects")
    assert (done.code, done.err.count("\n")) == (code, 1)
    assert variable in done.err


def test_debug_shows_where_an_error_comes_from(run: Run, fault_server: FaultServer) -> None:
    fault_server.then((400, error_body(400, "bad \x1b[31m")))
    done = run("--debug", "query", "SELECT 1")
    assert done.err.startswith("Traceback (most recent call last):\n")
    assert done.err.splitlines()[-1].startswith("posthog-driver: error: ")
    assert "\x1b" not in done.err


def _raises(error: BaseException) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> Any:
        raise error

    return fail


def test_a_failure_that_nobody_reads_has_the_same_exit_code(
    run: Run, fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault_server.then((400, error_body(400, "bad")))
    monkeypatch.setattr(sys, "stderr", Broken(BrokenPipeError(errno.EPIPE, "Broken pipe")))
    assert run("query", "SELECT 1") == Done(4, "", "")


def test_a_mistake_of_ours_is_one_line_too(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("posthog_driver.client.PostHogClient.query", _raises(ZeroDivisionError(f"with {KEY}")))
    done = run("query", "SELECT 1")
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert done.err.startswith("posthog-driver: error: ZeroDivisionError: with phx_te...ey")


def test_an_interrupt_is_130(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("posthog_driver.client.PostHogClient.query", _raises(KeyboardInterrupt()))
    assert run("query", "SELECT 1") == Done(130, "", "posthog-driver: interrupted\n")


class Broken(io.StringIO):
    """A standard output that takes nothing."""

    def __init__(self, error: OSError) -> None:
        super().__init__()
        self.error = error

    def flush(self) -> None:
        raise self.error


def test_a_reader_that_leaves_is_no_failure(
    run: Run, fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault_server.then(ANSWER)
    monkeypatch.setattr(sys, "stdout", Broken(BrokenPipeError(errno.EPIPE, "Broken pipe")))
    assert run("query", "SELECT 1") == Done(0, "", "")


def test_output_that_cannot_be_written_is_a_failure(
    run: Run, fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault_server.then(ANSWER)
    monkeypatch.setattr(sys, "stdout", Broken(OSError(errno.ENOSPC, "No space left on device")))
    done = run("query", "SELECT 1")
    assert done.code == 1
    assert "No space left on device" in done.err


# --- usage ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("query",),
        ("nonsense",),
        ("query", "SELECT", "1"),
        ("query", "SELECT 1", "--format", "xml"),
        ("fields", "events", "--form", "json"),
        ("health", "--timeout", "0"),
        ("health", "--timeout", "soon"),
    ],
)
def test_wrong_arguments_are_2(run: Run, arguments: tuple[str, ...]) -> None:
    done = run(*arguments)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("usage: posthog-driver")


@pytest.mark.parametrize("arguments", [("--api-key", KEY), (f"--api-key={KEY}",), ("--value", KEY), ("--format", KEY)])
def test_a_key_that_somebody_tries_to_give_is_not_repeated(run: Run, arguments: tuple[str, ...]) -> None:
    assert run("query", "SELECT 1", *arguments).code == 2  # `run` looks for the key


def test_the_help_lists_exit_codes_and_no_option_that_takes_a_key(run: Run) -> None:
    done = run("--help")
    assert done.code == 0
    assert "130  interrupted" in done.out
    assert "No option takes a key" in done.out
    assert "key=" not in done.out.lower().replace("_", "-")


def test_the_version_is_printed(run: Run) -> None:
    assert run("--version") == Done(0, f"posthog-driver {__version__}\n", "")


# --- local and demo -------------------------------------------------------------------------------------------------


def test_local_gets_its_own_arguments(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[list[str]] = []
    monkeypatch.setattr("posthog_driver.local.__main__.main", lambda argv: given.append(argv) or 7)  # type: ignore[func-returns-value]
    assert run("local").code == 7
    assert run("--debug", "local", "--port", "8010", "--data=here", "--help").code == 7
    assert given == [[], ["--port", "8010", "--data=here", "--help"]]


def test_a_demo_without_its_extra_says_where_to_get_it(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = MissingDependencyError('pip install "posthog-driver[local]".')
    monkeypatch.setattr("posthog_driver.local.LocalPostHog", _raises(missing))
    done = run("demo")
    assert done.code == 1
    assert 'pip install "posthog-driver[local]". In a clone of the repository: pip install -e ".[local]"' in done.err


# --- mcp ------------------------------------------------------------------------------------------------------------


def test_tools_are_served_over_standard_input_and_output(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[Any] = []
    monkeypatch.setattr("posthog_driver.tools.mcp_server.serve_stdio", served.append)
    assert run("mcp") == Done(0, "", "")
    (toolkit,) = served
    assert {toolkit.budget.queries, toolkit.budget.seconds, toolkit.budget.tokens} == {math.inf}


def test_tools_are_served_over_http_where_and_with_what_is_set(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[dict[str, Any]] = []

    def serve(toolkit: Any, *, ready: Callable[[str], None], **options: Any) -> None:
        ready("http://127.0.0.1:8012/mcp")
        served.append(options)

    monkeypatch.setenv("POSTHOG_MCP_TOKEN", "s3cret-token")
    monkeypatch.setattr("posthog_driver.tools.mcp_server.serve_http", serve)
    done = run("mcp", "--http", "--host", "0.0.0.0", "--port", "8012")
    assert done == Done(0, "", "posthog-driver: note: listening on http://127.0.0.1:8012/mcp\n")
    assert served == [{"host": "0.0.0.0", "port": 8012, "token": "s3cret-token"}]


def test_a_call_is_audited_in_the_file_that_is_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def serve(toolkit: Any) -> None:
        toolkit.dispatch("no_such_tool", {})
        toolkit.dispatch("posthog_query", {"cursor": "q1"})

    monkeypatch.setattr("posthog_driver.tools.mcp_server.serve_stdio", serve)
    assert run("mcp", "--audit", "calls.jsonl").code == 0
    lines = [json.loads(line) for line in Path("calls.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["outcome"] for line in lines] == ["unknown_tool", "bad_argument"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--audit", "."), "--audit cannot write to ."),
        (("--http", "--host", "0.0.0.0"), "POSTHOG_MCP_TOKEN"),
        (("--http", "--port", "70000"), "from 0 to 65535"),
    ],
)
def test_a_server_that_cannot_work_is_2(run: Run, arguments: tuple[str, ...], said: str) -> None:
    done = run("mcp", *arguments)
    assert (done.code, done.out) == (2, "")
    assert said in done.err


def test_a_server_without_a_key_is_3(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("POSTHOG_PERSONAL_API_KEY")
    done = run("mcp")
    assert (done.code, done.out) == (3, "")
    assert "POSTHOG_PERSONAL_API_KEY" in done.err


def test_a_server_without_its_package_says_where_to_get_it(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mcp", None)  # type: ignore[arg-type]
    monkeypatch.delitem(sys.modules, "posthog_driver.tools.mcp_server", raising=False)
    monkeypatch.delattr("posthog_driver.tools.mcp_server", raising=False)
    done = run("mcp")
    assert (done.code, done.out) == (1, "")
    assert 'pip install "posthog-driver[mcp]"' in done.err
