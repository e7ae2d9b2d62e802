"""Queries and scripts in E2B: where keys go, what a sandbox may reach, what is kept, and what is refused."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from posthog_driver.cli import main
from posthog_driver.exceptions import (
    AuthorizationError,
    MissingDependencyError,
    PostHogError,
    QueryError,
    RateLimitError,
    ServerError,
)
from posthog_driver.results import QueryInfo, QueryResult
from posthog_driver.sandbox import (
    E2BBackend,
    ResultTooLargeError,
    SandboxAuthError,
    SandboxConfigError,
    SandboxedQueries,
    SandboxError,
    SandboxLimits,
    SandboxRateLimitError,
    SandboxTimeoutError,
    execute_in_sandbox,
)
from posthog_driver.sandbox.broker import Broker, read_rows
from posthog_driver.sandbox.model import SandboxJob, Target
from posthog_driver.testing import FaultServer, answer, error_body, query_answer
from tests.clients.e2b.versions import ANY, BROKER

if TYPE_CHECKING:
    from posthog_driver.local import LocalProject
    from posthog_driver.testing import FakeClock
    from tests.clients.e2b.fake_e2b import FakeE2B

    MakeFake = Callable[..., FakeE2B]

E2B_KEY = "e2b_test_key"
KEY = "phx_test_key"
HOST = "posthog.test"
# What a script could be broken out of with, if it were ever formatted into one.
HOSTILE = 'Zoë\'s """ \'); import os #\\ {x} $(id) `id` \u2028 \U0001f600 \\u0041 %s </script>'
MODES: dict[str, dict[str, Any]] = {
    "egress": {"secret": "egress"},
    "egress with a stored secret": {"secret": "egress", "secret_name": "posthog key"},
    **({"broker": {"secret": "broker"}} if BROKER else {}),
    "env": {"secret": "env"},
}
EVERY_MODE = pytest.mark.parametrize("mode", MODES)
EVERY_WAY = pytest.mark.parametrize("mode", [mode for mode in MODES if "stored" not in mode])


@pytest.fixture
def posthog() -> Iterator[FaultServer]:
    with FaultServer(default=(200, query_answer([[1]], ["n"]))) as server:
        yield server


@pytest.fixture
def world(fake_e2b: MakeFake, posthog: FaultServer) -> Iterator[Callable[..., SandboxedQueries]]:
    """Make sandboxed queries of the fault server, in one of the modes, with a fake of E2B in between."""
    made: list[SandboxedQueries] = []

    def make(mode: str, **options: Any) -> SandboxedQueries:
        made.append(sandboxed(mode, posthog.url, **options))
        return made[-1]

    yield make
    for queries in made:
        queries.close()


def sandboxed(mode: str, url: str, project: str = "1", key: str = KEY, **options: Any) -> SandboxedQueries:
    # The broker asks from here; a sandbox asks for the name.
    host = url if mode == "broker" else f"https://{HOST}"
    return SandboxedQueries(host=host, project_id=project, api_key=key, backend="e2b", **MODES[mode], **options)


@pytest.fixture
def fake(fake_e2b: MakeFake, posthog: FaultServer) -> FakeE2B:
    return fake_e2b(routes={HOST: posthog.url}, secrets={"posthog key": KEY})


def told(error: BaseException) -> str:
    assert error.__cause__ is None
    assert error.__context__ is None
    return f"{error} {error!r} {error.args} {vars(error)}"


# --- keys -----------------------------------------------------------------------------------------------------------

# Every place where PostHog's key shows. The last two of env are the sandbox's own environment and what it sends.
PLACES = {
    "egress": ["create.network.rules"],
    "egress with a stored secret": [],
    "broker": [],
    "env": ["create.envVars", "egress", "environment"],
}


@EVERY_MODE
def test_the_key_shows_where_the_mode_says_and_nowhere_else(
    fake_e2b: MakeFake, posthog_project: LocalProject, mode: str
) -> None:
    key = posthog_project.personal_api_key
    fake = fake_e2b(routes={HOST: posthog_project.url}, secrets={"posthog key": key})
    with sandboxed(mode, posthog_project.url, str(posthog_project.project_id), key) as queries:
        assert queries.query("SELECT {text} AS text", {"text": HOSTILE}) == [{"text": HOSTILE}]
        output = queries.run_python("import os\nprint(query('SELECT 1 AS n'))\nprint(sorted(os.environ))")
        assert output.stdout.startswith("[{'n': 1}]\n")
        assert output.queries == 1
    assert fake.where(key) == PLACES[mode]
    assert fake.where(E2B_KEY) == ["api.key"]
    assert fake.running == []


@EVERY_MODE
def test_a_query_comes_back_byte_for_byte_and_is_in_no_command(
    fake_e2b: MakeFake, posthog_project: LocalProject, mode: str
) -> None:
    key = posthog_project.personal_api_key
    fake = fake_e2b(routes={HOST: posthog_project.url}, secrets={"posthog key": key})
    hogql = "SELECT 'it''s \"this\" $(id) `id` #' AS said, {text} AS text"
    with sandboxed(mode, posthog_project.url, str(posthog_project.project_id), key) as queries:
        rows = queries.query(hogql, {"text": HOSTILE})
    assert rows == [{"said": 'it\'s "this" $(id) `id` #', "text": HOSTILE}]
    # What asks by itself sends it and gets the rows from PostHog; what asks the host prints it, which E2B may log, and
    # gets the rows on standard input.
    passed = {"stdout", "log", "stdin"} if mode == "broker" else {"egress.body", "egress.response"}
    for text in ("$(id) `id` #", HOSTILE):
        assert {place.split(":")[0] for place in fake.where(text)} == {"files", "disk"} | passed
    assert len(set(fake.journal.of("run.command"))) == 1
    assert set(map(str, fake.journal.of("run.envs"))) == {"{}"}


@EVERY_MODE
def test_every_sandbox_denies_all_else_is_tagged_and_ends_by_itself(
    fake: FakeE2B, posthog: FaultServer, world: Callable[..., SandboxedQueries], mode: str
) -> None:
    queries = world(mode, limits=SandboxLimits(run_timeout=45))
    queries.query("SELECT 1 AS n")
    queries.query("SELECT 1 AS n")
    bodies = fake.journal.of("create")
    assert len(bodies) == 2
    for body in bodies:
        assert body["network"]["denyOut"] == ["0.0.0.0/0"]
        assert body["network"].get("allowOut", []) == ([] if mode == "broker" else [HOST])
        assert body["network"]["allowPublicTraffic"] is False
        assert body["timeout"] == 75
        assert body["autoPause"] is False
        assert body["metadata"]["app"] == "posthog-driver"
        assert len(body["metadata"]["run"]) == 32
    assert bodies[0]["metadata"]["owner"] == bodies[1]["metadata"]["owner"]
    assert bodies[0]["metadata"]["run"] != bodies[1]["metadata"]["run"]


@EVERY_MODE
def test_a_script_reaches_nothing_else(fake: FakeE2B, world: Callable[..., SandboxedQueries], mode: str) -> None:
    code = (
        "import socket\n"
        "for host in ('example.com', '1.1.1.1', 'posthog.test.example.com'):\n"
        "    try: socket.create_connection((host, 443), 5)\n"
        "    except OSError as error: print(type(error).__name__)\n"
    )
    assert world(mode).run_python(code).stdout == "ConnectionRefusedError\n" * 3
    assert fake.journal.of("egress.denied") == ["example.com", "1.1.1.1", "posthog.test.example.com"]


def test_a_team_without_header_rules_gets_an_error_and_no_other_mode(
    fake_e2b: MakeFake, world: Callable[..., SandboxedQueries]
) -> None:
    fake = fake_e2b(rules_enabled=False)
    with pytest.raises(SandboxConfigError, match="not enabled for this team") as caught:
        world("egress").query("SELECT 1")
    assert KEY not in told(caught.value)
    assert fake.created == []
    assert fake.where(KEY) == ["create.network.rules"]  # in the request that was refused


@pytest.mark.parametrize("mode", ["egress", "egress with a stored secret"])
def test_headers_that_are_not_put_on_are_an_error(
    fake_e2b: MakeFake, posthog: FaultServer, world: Callable[..., SandboxedQueries], mode: str
) -> None:
    fake = fake_e2b(routes={HOST: posthog.url}, secrets={"posthog key": KEY}, injection_active=False)
    posthog.then((401, error_body(401, "Authentication credentials were not provided.")))
    with pytest.raises(SandboxConfigError, match="injection is not active"):
        world(mode).query("SELECT 1")
    assert "Authorization" not in posthog.requests[0].headers
    assert fake.running == []


def test_a_secret_that_does_not_exist_is_an_error_of_the_request(
    fake_e2b: MakeFake, posthog: FaultServer, world: Callable[..., SandboxedQueries]
) -> None:
    fake = fake_e2b(routes={HOST: posthog.url})
    with pytest.raises(PostHogError):
        world("egress with a stored secret", limits=SandboxLimits(run_timeout=2)).query("SELECT 1")
    assert posthog.requests == []
    assert fake.running == []


if BROKER:

    def test_the_host_answers_scripts_only_where_it_can(fake: FakeE2B, world: Callable[..., SandboxedQueries]) -> None:
        def rows(hogql: str, values: Any) -> list[dict[str, Any]]:
            return [{"asked": hogql, "with": values}]

        output = world("broker").run_python("print(query('SELECT 1', {'a': 2}))", query=rows)
        assert output.stdout == "[{'asked': 'SELECT 1', 'with': {'a': 2}}]\n"
        with pytest.raises(SandboxConfigError, match="broker"):
            world("egress").run_python("print(query('SELECT 1'))", query=rows)
        assert len(fake.created) == 1

    def test_eight_threads_have_eight_sandboxes(
        fake: FakeE2B, posthog: FaultServer, world: Callable[..., SandboxedQueries]
    ) -> None:
        everyone = threading.Barrier(8)

        def meet(hogql: str, values: Any) -> list[dict[str, Any]]:
            everyone.wait(60)
            return [{"n": int(hogql.split()[1])}]

        queries = world(ANY)

        def work(number: int) -> str:
            return queries.run_python(f"print(query('SELECT {number}')[0]['n'])", query=meet).stdout

        with ThreadPoolExecutor(8) as threads:
            assert list(threads.map(work, range(8))) == [f"{number}\n" for number in range(8)]
        assert len(fake.created) == 8
        assert fake.running == []


# --- what PostHog answers ---------------------------------------------------------------------------------------------

# Nothing waits that long: each is tried once.
NEVER = {"Retry-After": "9999"}
ANSWERS: list[tuple[int, type[PostHogError]]] = [
    (400, QueryError),
    (403, AuthorizationError),
    (429, RateLimitError),
    (500, ServerError),
]


@EVERY_WAY
@pytest.mark.parametrize(("status", "kind"), ANSWERS)
def test_what_posthog_answers_is_raised_as_the_client_raises_it(
    fake: FakeE2B,
    posthog: FaultServer,
    world: Callable[..., SandboxedQueries],
    mode: str,
    status: int,
    kind: type[PostHogError],
) -> None:
    body = error_body(status, f"No: you sent Bearer {KEY} and {E2B_KEY}")
    posthog.then(answer(status, body, headers=NEVER))
    with pytest.raises(PostHogError) as caught:
        world(mode).query("SELECT 1")
    assert type(caught.value) is kind
    assert caught.value.status == status
    assert "you sent Bearer" in str(caught.value)
    text = told(caught.value)
    assert KEY not in text
    assert E2B_KEY not in text
    assert fake.running == []


@EVERY_WAY
def test_a_script_may_handle_what_posthog_answers_and_cannot_show_the_key(
    fake: FakeE2B, posthog: FaultServer, world: Callable[..., SandboxedQueries], mode: str
) -> None:
    posthog.then((400, error_body(400, f"No: you sent Bearer {KEY}")))
    output = world(mode).run_python(
        "try: query('SELECT nope')\nexcept QueryError as error: print(error.kind, error.facts['status'], error)"
    )
    assert output.stdout.startswith("QueryError 400 ")
    assert KEY not in f"{output!r}"


@EVERY_WAY
def test_a_result_that_is_too_large_is_refused(
    fake: FakeE2B, posthog: FaultServer, world: Callable[..., SandboxedQueries], mode: str
) -> None:
    posthog.then((200, query_answer([["x" * 2_000]], ["text"])))
    with pytest.raises(ResultTooLargeError, match="max_result_bytes"):
        world(mode, limits=SandboxLimits(max_result_bytes=1_024)).query("SELECT 1")
    assert fake.running == []


@EVERY_WAY
def test_a_script_that_takes_too_long_is_ended(
    fake: FakeE2B, world: Callable[..., SandboxedQueries], mode: str
) -> None:
    with pytest.raises(SandboxTimeoutError) as caught:
        world(mode, limits=SandboxLimits(run_timeout=0.7)).run_python("import time; time.sleep(60)")
    assert KEY not in told(caught.value)
    assert fake.running == []
    assert not fake.created[0].processes_alive()


def test_the_end_of_long_output_is_kept(fake: FakeE2B, world: Callable[..., SandboxedQueries]) -> None:
    output = world(ANY, limits=SandboxLimits(max_log_bytes=1_000)).run_python(
        "import sys\nfor n in range(20_000): print(n)\nprint('end')\nprint('x' * 5_000, file=sys.stderr)"
    )
    assert output.stdout.endswith("19999\nend\n")
    assert len(output.stdout) == 1_000
    assert len(output.stderr) == 1_000
    assert output.truncated


def test_a_large_result_arrives_whole(
    fake: FakeE2B, posthog: FaultServer, world: Callable[..., SandboxedQueries]
) -> None:
    rows = [[n, f"row {n} äö " * 10] for n in range(20_000)]
    posthog.then((200, query_answer(rows, ["n", "text"])))
    result = world(ANY).query("SELECT n, text FROM t")
    assert [list(row.values()) for row in result] == rows


# --- sandboxes that are kept ------------------------------------------------------------------------------------------

TARGET = Target(f"https://{HOST}", "1", KEY)


def ask(*_: Any) -> QueryResult:
    return QueryResult([{"n": 1}], QueryInfo(columns=("n",)))


def asked(backend: E2BBackend, text: str, target: Target = TARGET, kind: Any = "query") -> Any:
    limits = SandboxLimits()
    return backend.run(SandboxJob(kind, text, target=target), limits, Broker(ask, limits)).result


def test_five_queries_share_a_sandbox_and_leave_nothing_for_each_other(fake: FakeE2B) -> None:
    with E2BBackend(secret=ANY, reuse=True) as backend:
        for number in range(5):
            assert read_rows(asked(backend, f"SELECT {number}")) == [{"n": 1}]
        assert len(fake.created) == 1
        folders = {path for path, _ in fake.created[0].disk() if path.endswith("request.json")}
        assert len(folders) == 1
        assert fake.journal.of("timeout") == [90] * 4
    assert fake.running == []


def test_a_kept_sandbox_serves_nobody_else_and_no_script_is_followed(fake: FakeE2B) -> None:
    with E2BBackend(secret=ANY, reuse=True) as backend:
        asked(backend, "SELECT 1")
        asked(backend, "SELECT 1", Target(f"https://{HOST}", "2", KEY))
        asked(backend, "SELECT 1", Target(f"https://{HOST}", "1", "phx_other_key"))
        assert len(fake.running) == 3
        asked(backend, "print(1)", kind="python")
        assert len(fake.created) == 3
        assert len(fake.running) == 2
    assert fake.running == []


def test_a_kept_sandbox_that_ended_meanwhile_is_replaced(fake: FakeE2B) -> None:
    with E2BBackend(secret=ANY, reuse=True) as backend:
        asked(backend, "SELECT 1")
        fake.advance(3_600)
        assert read_rows(asked(backend, "SELECT 2")) == [{"n": 1}]
        assert len(fake.created) == 2


def test_a_kept_sandbox_in_which_something_failed_is_not_kept(fake: FakeE2B) -> None:
    with E2BBackend(secret=ANY, reuse=True) as backend:
        asked(backend, "SELECT 1")
        fake.fail("download", 404)
        with pytest.raises(SandboxError):
            asked(backend, "SELECT 2")
        assert fake.running == []


def test_more_sandboxes_than_the_team_may_have_are_refused(
    fake_e2b: MakeFake, world: Callable[..., SandboxedQueries]
) -> None:
    fake = fake_e2b(max_sandboxes=0)
    with pytest.raises(SandboxRateLimitError, match="concurrent"):
        world(ANY).query("SELECT 1")
    assert fake.created == []


@pytest.mark.parametrize("ending", ["", "raise SystemExit(3)", "1 / 0"])
def test_the_end_of_the_interpreter_ends_a_kept_sandbox(fake: FakeE2B, ending: str) -> None:
    code = (
        "from posthog_driver.sandbox import E2BBackend, SandboxLimits\n"
        "from posthog_driver.sandbox.broker import Broker\n"
        "from posthog_driver.sandbox.model import SandboxJob, Target\n"
        "limits = SandboxLimits()\n"
        f"backend = E2BBackend(secret={ANY!r}, reuse=True)\n"
        f"job = SandboxJob('query', 'SELECT 1', target=Target('https://{HOST}', '1', '{KEY}'))\n"
        "result = backend.run(job, limits, Broker(lambda *_: [{'n': 1}], limits)).result\n"
        "print(result['rows'], flush=True)\n"
        f"{ending}\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "[{'n': 1}]\n", done.stderr
    assert len(fake.created) == 1
    assert fake.running == []


def test_a_forked_child_leaves_the_sandboxes_of_its_parent_alone(
    fake: FakeE2B, monkeypatch: pytest.MonkeyPatch
) -> None:
    with E2BBackend(secret=ANY, reuse=True) as backend:
        asked(backend, "SELECT 1")
        with monkeypatch.context() as child:
            child.setattr("posthog_driver.sandbox.e2b_service.os.getpid", lambda: -1)
            backend._service.close()
        assert len(fake.running) == 1
    assert fake.running == []


# --- sweeping ---------------------------------------------------------------------------------------------------------


def left_behind(fake: FakeE2B, clock: FakeClock, *ages: float) -> None:
    """Let sandboxes of that many seconds stand there as if nobody had ended them."""
    with E2BBackend(secret=ANY, reuse=True) as backend:
        for number, _ in enumerate(ages):
            asked(backend, "SELECT 1", Target("https://posthog.test", str(number), KEY))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(fake, "end", lambda _: None)
            backend.close()
    for guest, age in zip(fake.running, ages, strict=True):
        guest.started = clock.wall() - age
        guest.ends = fake.now() + 1_000


def test_a_sweep_ends_what_is_old_on_every_page(fake: FakeE2B, fake_clock: FakeClock) -> None:
    left_behind(fake, fake_clock, 7_200, 10, 7_201, 7_202, 20)
    fake.page_size = 2
    with E2BBackend(secret=ANY, clock=fake_clock) as backend:
        assert backend.sweep() == 3
        assert len(fake.running) == 2
        assert backend.sweep(older_than=15) == 1
        assert backend.sweep(older_than=0) == 1
        assert backend.sweep(older_than=0) == 0


def test_a_sweep_of_one_run_ends_that_one(fake: FakeE2B, fake_clock: FakeClock) -> None:
    left_behind(fake, fake_clock, 10, 10)
    run = fake.running[0].body["metadata"]["run"]
    with E2BBackend(secret=ANY, clock=fake_clock) as backend:
        assert backend.sweep(older_than=0, run=run) == 1
        assert [guest.body["metadata"]["run"] == run for guest in fake.running] == [False]


def test_a_sweep_says_what_it_could_not_end(fake: FakeE2B, fake_clock: FakeClock) -> None:
    left_behind(fake, fake_clock, 10, 10)
    stuck = fake.running[0].id
    fake.fail("kill", 500, times=3)
    with E2BBackend(secret=ANY, clock=fake_clock) as backend:
        with pytest.raises(SandboxError, match=f"1 of 2 sandboxes could not be ended: {stuck}"):
            backend.sweep(older_than=0)
        assert len(fake.running) == 1
    assert fake.running == []


def test_the_command_line_sweeps(fake: FakeE2B, fake_clock: FakeClock, capsys: pytest.CaptureFixture[str]) -> None:
    left_behind(fake, fake_clock, 10, 10)
    fake.running[0].started = fake.now() - 3_601
    fake.running[1].started = fake.now() - 3_500
    assert main(["sandbox", "sweep"]) == 0
    assert capsys.readouterr().out == "1 ended\n"
    assert len(fake.running) == 1


# --- templates --------------------------------------------------------------------------------------------------------


def test_a_template_is_built_with_its_packages_and_used(fake: FakeE2B) -> None:
    name = E2BBackend.build_template("with-pandas", packages=["pandas>=2", "a; touch b"], memory_mb=1_024)
    asked_for, steps = fake.journal.of("template")
    assert asked_for == {"name": "with-pandas", "cpuCount": 1, "memoryMB": 1_024}
    assert steps["fromImage"] == "python:3.12"
    assert [step["args"][0] for step in steps["steps"] if step["type"] == "RUN"][-1] == (
        "pip install 'pandas>=2' 'a; touch b'"
    )
    with E2BBackend(secret=ANY, template=name) as backend:
        asked(backend, "SELECT 1")
    assert fake.journal.of("create")[0]["templateID"] == name


def test_a_template_that_cannot_be_built_is_an_error(fake: FakeE2B) -> None:
    fake.fail("build", 500, f"for {E2B_KEY}")
    with pytest.raises(SandboxConfigError, match="building a template") as caught:
        E2BBackend.build_template("broken")
    assert E2B_KEY not in told(caught.value)


def test_a_template_that_does_not_exist_is_named(fake: FakeE2B) -> None:
    with (
        E2BBackend(secret=ANY, template="nope") as backend,
        pytest.raises(SandboxConfigError, match=r"check the name of the template.*nope"),
    ):
        asked(backend, "SELECT 1")


# --- the package e2b --------------------------------------------------------------------------------------------------


def test_nothing_imports_e2b_before_a_sandbox_in_it_is_wanted() -> None:
    code = (
        "import sys, posthog_driver, posthog_driver.sandbox.e2b, posthog_driver.sandbox.queries\n"
        "print('e2b' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "False\n", done.stderr


def test_without_the_package_the_message_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "e2b", None)
    with pytest.raises(MissingDependencyError, match=r"pip install .posthog-driver\[e2b\]") as caught:
        E2BBackend(e2b_api_key=E2B_KEY)
    assert isinstance(caught.value, SandboxConfigError)


def test_an_old_package_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import e2b

    monkeypatch.delattr(e2b, "SandboxUnreachableException")
    with pytest.raises(SandboxConfigError, match=r"2\.53\.1"):
        E2BBackend(e2b_api_key=E2B_KEY)


def test_the_broker_is_refused_where_the_package_cannot_do_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from e2b.sandbox_sync.commands.command import Commands

    monkeypatch.delattr(Commands, "stream_input", raising=False)
    with pytest.raises(SandboxConfigError, match=r"2\.59 or later, which needs Python 3\.11"):
        E2BBackend(e2b_api_key=E2B_KEY, secret="broker")


def test_a_key_of_e2b_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("E2B_API_KEY", raising=False)
    with pytest.raises(SandboxAuthError, match="E2B_API_KEY"):
        E2BBackend()


@pytest.mark.parametrize(
    ("options", "problem"),
    [({"secret": "envs"}, "egress, broker, env"), ({"secret": "env", "secret_name": "x"}, "belongs to")],
)
def test_options_that_cannot_work_are_refused(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(SandboxConfigError, match=problem):
        E2BBackend(e2b_api_key=E2B_KEY, **options)


def test_the_version_of_http_and_the_domain_are_handed_on(fake: FakeE2B) -> None:
    with E2BBackend(secret=ANY, http_version="1.1", domain="e2b.example") as backend:
        asked(backend, "SELECT 1")
    assert fake.running == []
    with (
        E2BBackend(secret=ANY, http_version="3") as backend,
        pytest.raises(SandboxConfigError, match=r"http_version must be '1\.1' or '2'"),
    ):
        asked(backend, "SELECT 1")


def test_debugging_mode_of_the_package_leaves_nothing_out(fake: FakeE2B, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("E2B_DEBUG", "true")
    with E2BBackend(secret=ANY) as backend:
        asked(backend, "SELECT 1")
    assert len(fake.created) == 1
    assert fake.running == []


def test_one_call_asks_one_query(fake: FakeE2B, posthog: FaultServer) -> None:
    host = posthog.url if BROKER else f"https://{HOST}"
    rows = execute_in_sandbox(
        "SELECT {n} AS n", {"n": 1}, host=host, project_id="1", api_key=KEY, backend="auto", secret=ANY
    )
    assert rows == [{"n": 1}]
    assert len(fake.created) == 1
    assert fake.running == []


# --- the example ------------------------------------------------------------------------------------------------------

EXAMPLE = Path(__file__).parents[2] / "examples" / "e2b_integration.py"


def example(posthog: FaultServer, *words: str, secret: str = ANY) -> subprocess.CompletedProcess[str]:
    settings = {
        "POSTHOG_API_URL": posthog.url if secret == "broker" else f"https://{HOST}",
        "POSTHOG_PERSONAL_API_KEY": KEY,
        "POSTHOG_PROJECT_ID": "1",
    }
    command = [sys.executable, str(EXAMPLE), *words, "--secret", secret]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ, **settings})


def test_the_example_asks_a_query(fake: FakeE2B, posthog: FaultServer) -> None:
    done = example(posthog, "SELECT 1 AS n")
    assert (done.stdout, done.returncode) == ("{'n': 1}\n", 0), done.stderr
    assert fake.running == []


def test_the_example_runs_a_script(fake: FakeE2B, posthog: FaultServer, tmp_path: Path) -> None:
    script = tmp_path / "analysis.py"
    script.write_text("print(query('SELECT 1 AS n')[0]['n'] + 1)", encoding="utf-8")
    done = example(posthog, "--script", str(script))
    assert (done.stdout, done.returncode) == ("2\n", 0), done.stderr
    assert fake.running == []


def test_the_example_says_what_to_do_where_a_mode_is_not_to_be_had(fake_e2b: MakeFake, posthog: FaultServer) -> None:
    fake_e2b(rules_enabled=False)
    done = example(posthog, "SELECT 1 AS n", secret="egress")
    assert done.returncode == 1
    assert done.stderr.startswith("SandboxConfigError: While creating a sandbox, header rules are not enabled")
    assert KEY not in done.stderr
