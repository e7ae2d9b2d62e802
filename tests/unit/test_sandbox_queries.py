"""Queries and scripts in sandboxes: the results and errors of the plain client, whatever the back end."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from posthog_driver import PostHogClient
from posthog_driver.exceptions import (
    AuthenticationError,
    AuthorizationError,
    PostHogError,
    QueryError,
    RateLimitError,
    ServerError,
    ValidationError,
)
from posthog_driver.sandbox import (
    LocalBackend,
    ResultTooLargeError,
    SandboxConfigError,
    SandboxedQueries,
    SandboxLimits,
    SandboxLostError,
    SandboxRateLimitError,
    SandboxRunError,
    execute_in_sandbox,
    queries,
    run_python,
)
from posthog_driver.sandbox.model import Outcome
from posthog_driver.testing import FakeClock, FaultServer, error_body, query_answer

if TYPE_CHECKING:
    from posthog_driver.local import LocalPostHog
    from posthog_driver.sandbox.broker import Broker
    from posthog_driver.sandbox.model import SandboxJob

KEY = "phx_test_key"
ROWS = (200, query_answer([[7]], ["n"]))
LEVELS = ("bwrap", "landlock", "plain")
LIMITS = SandboxLimits(run_timeout=30.0)


class FakeBackend:
    """Gives prepared outcomes, or raises them."""

    name = "fake"

    def __init__(self, *outcomes: Outcome | Exception) -> None:
        self.outcomes = list(outcomes)
        self.jobs: list[tuple[SandboxJob, SandboxLimits]] = []
        self.closed = 0

    def run(self, job: SandboxJob, limits: SandboxLimits, broker: Broker) -> Outcome:
        self.jobs.append((job, limits))
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def close(self) -> None:
        self.closed += 1


GOOD = Outcome({"rows": [{"n": 7}], "info": {"columns": ["n"]}})


@pytest.fixture
def client(fault_server: FaultServer, fake_clock: FakeClock) -> Iterator[PostHogClient]:
    with PostHogClient(api_key=KEY, project_id="1", api_url=fault_server.url, clock=fake_clock) as made:
        yield made


# --- on real levels ---------------------------------------------------------------------------------------------------


@pytest.fixture(params=LEVELS)
def sandboxed(request: pytest.FixtureRequest, client: PostHogClient) -> SandboxedQueries:
    return SandboxedQueries(client=client, backend="local", level=request.param, limits=LIMITS)


def test_a_query_has_the_result_of_the_plain_client(
    sandboxed: SandboxedQueries, client: PostHogClient, fault_server: FaultServer
) -> None:
    fault_server.then(ROWS, ROWS)
    hostile = "SELECT {x} -- '\"\\ $(id) `id`\u2028é🦔"
    there, here = sandboxed.query(hostile, {"x": "'\n"}), client.query(hostile, {"x": "'\n"})
    assert there == here == [{"n": 7}]
    assert (there.columns, there.types, there.truncated) == (here.columns, here.types, here.truncated)
    first, second = fault_server.requests
    assert first.json["query"] == second.json["query"]
    assert first.json["query"]["query"] == hostile


@pytest.mark.parametrize(
    ("status", "kind", "attempts"),
    [
        (400, QueryError, 1),
        (401, AuthenticationError, 1),
        (403, AuthorizationError, 1),
        (429, RateLimitError, 3),
        (500, ServerError, 3),
    ],
)
def test_what_posthog_answers_is_raised_as_by_the_client_and_holds_no_key(
    status: int, kind: type[PostHogError], attempts: int, sandboxed: SandboxedQueries, fault_server: FaultServer
) -> None:
    fault_server.then(*[(status, error_body(status, f"no, {KEY}", "its_code"))] * 3)
    with pytest.raises(kind) as caught:
        sandboxed.query("SELECT 1")
    error = caught.value
    assert type(error) is kind
    assert (error.status, error.code, error.attempts) == (status, "its_code", attempts)
    assert KEY not in f"{error} {vars(error)}"
    assert error.__cause__ is error.__context__ is None


def test_a_result_that_is_too_large_is_an_error(sandboxed: SandboxedQueries, fault_server: FaultServer) -> None:
    fault_server.then((200, query_answer([["x" * 5_000]], ["text"])))
    with pytest.raises(ResultTooLargeError, match="max_result_bytes"):
        sandboxed.query("SELECT 1", limits=SandboxLimits(max_result_bytes=2_000))


def test_a_script_prints_and_handles_errors(sandboxed: SandboxedQueries, fault_server: FaultServer) -> None:
    fault_server.then((400, error_body(400, "no such field")), ROWS)
    code = """
try:
    query("SELECT x")
except QueryError as error:
    print(error.kind, error.facts["status"])
print(query("SELECT 1"))
"""
    output = sandboxed.run_python(code)
    assert output.stdout == "QueryError 400\n[{'n': 7}]\n"
    assert (output.exit_code, output.queries, output.truncated) == (0, 2, False)


def test_eight_threads_have_a_sandbox_each(sandboxed: SandboxedQueries) -> None:
    came: list[str] = []

    def run(number: int) -> None:
        came.append(sandboxed.run_python(f"print({number})").stdout)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(came) == [f"{number}\n" for number in range(8)]


def test_real_rows_come_out_of_a_sandbox(local_posthog: LocalPostHog) -> None:
    asked = "SELECT event, count() AS n FROM events GROUP BY event ORDER BY n DESC LIMIT 5"
    with local_posthog.client() as client, SandboxedQueries(client=client, backend="local") as sandboxed:
        assert sandboxed.query(asked) == client.query(asked)
        output = sandboxed.run_python(f"rows = query({asked!r})\nprint(sum(row['n'] for row in rows))")
        assert int(output.stdout) == sum(row["n"] for row in client.query(asked))
        with pytest.raises(QueryError) as caught:
            sandboxed.query("SELECT evnt FROM events")
        assert caught.value.status == 400


def test_the_tool_for_python_runs_in_it(local_posthog: LocalPostHog) -> None:
    from posthog_driver.tools import Toolkit

    with (
        local_posthog.client() as client,
        SandboxedQueries(client=client, backend="local") as sandboxed,
        Toolkit(client, sandbox=sandboxed) as toolkit,
    ):
        answer = toolkit.dispatch("posthog_python", {"code": "print(6 * 7, query('SELECT 5 AS n')[0]['n'])"})
        assert not answer.is_error, answer.text
        assert "42 5" in answer.text
        assert "posthog_python" in [tool["name"] for tool in toolkit.definitions()]


# --- around them ------------------------------------------------------------------------------------------------------


def make(client: PostHogClient, *outcomes: Outcome | Exception, **options: Any) -> tuple[SandboxedQueries, FakeBackend]:
    backend = FakeBackend(*outcomes)
    return SandboxedQueries(client=client, backend=backend, **options), backend


def test_a_lost_sandbox_is_replaced_once(client: PostHogClient, caplog: pytest.LogCaptureFixture) -> None:
    sandboxed, backend = make(client, SandboxLostError("gone"), GOOD)
    with caplog.at_level(logging.WARNING, "posthog_driver"):
        assert sandboxed.query("SELECT 1") == [{"n": 7}]
    assert "the query is repeated" in caplog.text
    assert len(backend.jobs) == 2


def test_a_second_loss_is_raised(client: PostHogClient) -> None:
    sandboxed, _ = make(client, SandboxLostError("gone"), SandboxLostError("gone again"))
    with pytest.raises(SandboxLostError, match="gone again"):
        sandboxed.query("SELECT 1")


def test_a_script_is_not_repeated(client: PostHogClient) -> None:
    sandboxed, backend = make(client, SandboxLostError("gone"))
    with pytest.raises(SandboxLostError):
        sandboxed.run_python("print(1)")
    assert len(backend.jobs) == 1


@pytest.mark.parametrize("result", [{}, {"exit_code": "0"}, {"exit_code": None, "error": {"kind": "OSError"}}])
def test_a_script_without_an_exit_code_is_an_error(result: dict[str, Any], client: PostHogClient) -> None:
    sandboxed, _ = make(client, Outcome(result))
    with pytest.raises(SandboxRunError):
        sandboxed.run_python("print(1)")


def test_queries_that_a_sandbox_asked_by_itself_are_counted(client: PostHogClient) -> None:
    sandboxed, _ = make(
        client, Outcome({"exit_code": 0, "queries": 4}), Outcome({"exit_code": 0, "queries": "x"}, queries=2)
    )
    assert [sandboxed.run_python("").queries for _ in range(2)] == [4, 2]


@pytest.mark.parametrize("hogql", ["", "  ", None, 5, "SELECT '\ud800'"])
def test_what_is_no_query_starts_no_sandbox(hogql: Any, client: PostHogClient) -> None:
    sandboxed, backend = make(client)
    with pytest.raises(ValidationError):
        sandboxed.query(hogql)
    assert backend.jobs == []


@pytest.mark.parametrize("code", [None, b"print(1)", "'\ud800'"])
def test_what_is_no_script_starts_no_sandbox(code: Any, client: PostHogClient) -> None:
    sandboxed, backend = make(client)
    with pytest.raises(ValidationError):
        sandboxed.run_python(code)
    assert backend.jobs == []


def test_values_that_cannot_be_sent_start_no_sandbox(client: PostHogClient) -> None:
    sandboxed, backend = make(client)
    with pytest.raises(ValidationError, match="NaN"):
        sandboxed.query("SELECT {x}", {"x": float("nan")})
    assert backend.jobs == []


def test_the_job_knows_the_project_and_shows_no_key(client: PostHogClient) -> None:
    sandboxed, backend = make(client, GOOD)
    sandboxed.query("SELECT {x}", {"x": {2, 1}})
    ((job, limits),) = backend.jobs
    assert (job.kind, job.values, limits) == ("query", {"x": [1, 2]}, sandboxed.limits)
    assert job.target is not None
    assert (job.target.api_url, job.target.project_id, job.target.api_key) == (client.api_url, "1", KEY)
    assert KEY not in repr(sandboxed) + repr(job)


def test_queries_of_a_script_may_be_answered_by_somebody_else(client: PostHogClient) -> None:
    asked: list[Any] = []

    def query(hogql: str, values: Any = None) -> list[dict[str, Any]]:
        asked.append((hogql, values))
        return [{"n": 8}]

    sandboxed = SandboxedQueries(client=client, backend="local", limits=LIMITS)
    output = sandboxed.run_python("print(query('SELECT {x}', {'x': 1}))", query=query)
    assert output.stdout == "[{'n': 8}]\n"
    assert asked == [("SELECT {x}", {"x": 1})]


def test_such_a_job_says_that_the_host_answers(client: PostHogClient) -> None:
    sandboxed, backend = make(client, *[Outcome({"exit_code": 0})] * 2)
    sandboxed.run_python("", query=lambda hogql, values: [])
    sandboxed.run_python("")
    assert [job.host_answers for job, _ in backend.jobs] == [True, False]


class Waiting(FakeBackend):
    """Runs until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.running, self.go_on = threading.Semaphore(0), threading.Event()

    def run(self, job: SandboxJob, limits: SandboxLimits, broker: Broker) -> Outcome:
        self.running.release()
        self.go_on.wait(30)
        return GOOD


def test_no_more_run_at_once_than_allowed_and_the_others_wait_for_a_time(client: PostHogClient) -> None:
    backend = Waiting()
    sandboxed = SandboxedQueries(client=client, backend=backend, limits=SandboxLimits(max_concurrent=1))
    thread = threading.Thread(target=sandboxed.query, args=("SELECT 1",))
    thread.start()
    backend.running.acquire()
    with pytest.raises(SandboxRateLimitError, match="max_concurrent"):
        sandboxed.query("SELECT 1", limits=SandboxLimits(create_timeout=0.01))
    backend.go_on.set()
    assert sandboxed.query("SELECT 1") == [{"n": 7}]
    thread.join()


def test_a_run_that_fails_gives_its_place_back(client: PostHogClient) -> None:
    sandboxed, _ = make(client, SandboxRunError("x"), GOOD, limits=SandboxLimits(max_concurrent=1, create_timeout=0.01))
    with pytest.raises(SandboxRunError):
        sandboxed.query("SELECT 1")
    assert sandboxed.query("SELECT 1") == [{"n": 7}]


# --- making and closing -----------------------------------------------------------------------------------------------


def test_only_what_was_made_here_is_closed(client: PostHogClient, monkeypatch: pytest.MonkeyPatch) -> None:
    made = FakeBackend()
    monkeypatch.setattr(queries, "make_backend", lambda name, options: made)
    with SandboxedQueries(client=client, backend="local"):
        pass
    assert made.closed == 1
    given = FakeBackend()
    with SandboxedQueries(client=client, backend=given):
        pass
    assert given.closed == 0


def test_a_client_of_its_own_is_made_from_settings(fault_server: FaultServer) -> None:
    fault_server.then(ROWS)
    options = {"host": fault_server.url, "project_id": 1, "api_key": KEY, "backend": "local"}
    assert execute_in_sandbox("SELECT {x}", {"x": 1}, **options) == [{"n": 7}]


def test_a_script_runs_in_one_call(fault_server: FaultServer) -> None:
    fault_server.then(ROWS)
    output = run_python(
        "print(query('SELECT 1'))", host=fault_server.url, project_id=1, api_key=KEY, backend=LocalBackend()
    )
    assert output.stdout == "[{'n': 7}]\n"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"client": None, "api_key": "phc_test", "project_id": 1}, "project token"),
        ({"host": "https://us.posthog.com"}, "either a client"),
        ({"backend": "docker"}, "backend is one of"),
        ({"backend": "local", "secret": "env"}, "secret"),
        ({"backend": "local", "level": "docker"}, "level is one of"),
        ({"backend": FakeBackend(), "level": "bwrap"}, "no further options: level"),
    ],
    ids=lambda value: str(value)[:25],
)
def test_what_cannot_be_meant_is_a_matter_of_configuration(
    options: dict[str, Any], words: str, client: PostHogClient
) -> None:
    with pytest.raises(SandboxConfigError, match=words):
        SandboxedQueries(**{"client": client, **options})


def test_without_a_key_nothing_is_made() -> None:
    with pytest.raises(AuthenticationError):
        SandboxedQueries(backend="local")


@pytest.mark.parametrize("key", ["", "e2b_test"])
def test_auto_is_e2b_where_there_is_a_key_of_it(
    key: str, client: PostHogClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: Callable[..., Any] = lambda **options: FakeBackend()  # noqa: E731
    monkeypatch.setattr("posthog_driver.sandbox.e2b.E2BBackend", made)
    monkeypatch.setenv("E2B_API_KEY", key)
    assert isinstance(SandboxedQueries(client=client).backend, FakeBackend if key else LocalBackend)
    monkeypatch.delenv("E2B_API_KEY")
    assert isinstance(SandboxedQueries(client=client, e2b_api_key="e2b_test").backend, FakeBackend)
