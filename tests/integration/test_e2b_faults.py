"""Whatever goes wrong at E2B has a class of its own, shows no key, and leaves nothing running."""

from __future__ import annotations

import functools
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from posthog_driver._redaction import forget_secret, register_secret
from posthog_driver.results import QueryInfo, QueryResult
from posthog_driver.sandbox import (
    E2BBackend,
    ResultTooLargeError,
    SandboxAuthError,
    SandboxConfigError,
    SandboxedQueries,
    SandboxError,
    SandboxLimits,
    SandboxLostError,
    SandboxRateLimitError,
    SandboxRunError,
    SandboxTimeoutError,
    SandboxUnavailableError,
)
from posthog_driver.sandbox.broker import Broker, read_rows
from posthog_driver.sandbox.e2b_run import Run
from posthog_driver.sandbox.model import Outcome, SandboxJob, Target
from posthog_driver.testing import FaultServer, query_answer
from tests.clients.e2b.versions import ANY, BROKER

if TYPE_CHECKING:
    from posthog_driver.testing import FakeClock
    from tests.clients.e2b.fake_e2b import FakeE2B

E2B_KEY = "e2b_test_key"
POSTHOG_KEY = "phx_test_key"
SAID = f"refused: {E2B_KEY} and Bearer {POSTHOG_KEY}"
QUICK = SandboxLimits(run_timeout=20.0, create_timeout=0.8)
SHORT = SandboxLimits(run_timeout=0.8, create_timeout=5.0)
TARGET = Target("https://posthog.test", "1", POSTHOG_KEY)
QUERY = SandboxJob("query", "SELECT 1", target=TARGET)


def script(code: str) -> SandboxJob:
    return SandboxJob("python", code, target=TARGET)


def ask(*_: Any) -> QueryResult:
    return QueryResult([{"n": 1}], QueryInfo(columns=("n",)))


def run(backend: E2BBackend, job: SandboxJob = QUERY, limits: SandboxLimits = QUICK, answer: Any = ask) -> Outcome:
    return backend.run(job, limits, Broker(answer, limits))


@pytest.fixture
def posthog() -> Iterator[FaultServer]:
    with FaultServer(default=(200, query_answer([[1]], ["n"]))) as server:
        yield server


@pytest.fixture
def fake(fake_e2b: Callable[..., FakeE2B], posthog: FaultServer) -> FakeE2B:
    return fake_e2b(routes={"posthog.test": posthog.url})


@pytest.fixture
def backend(fake: FakeE2B, fake_clock: FakeClock) -> Iterator[E2BBackend]:
    register_secret(POSTHOG_KEY)
    with E2BBackend(secret=ANY, clock=fake_clock) as backend:
        yield backend
    forget_secret(POSTHOG_KEY)


def shows_no_key(error: BaseException) -> None:
    assert error.__cause__ is None
    assert error.__context__ is None
    told = f"{error} {error!r} {error.args} {vars(error)}"
    assert E2B_KEY not in told
    assert POSTHOG_KEY not in told


# The package itself tries 503 four times, and later versions 429.
FAULTS: list[tuple[str, str, int | str, int, type[SandboxError], SandboxLimits]] = [
    ("an unknown key", "create", 401, 1, SandboxAuthError, QUICK),
    ("too many requests", "create", 429, 4, SandboxRateLimitError, SandboxLimits()),
    ("a bad request", "create", 400, 1, SandboxConfigError, QUICK),
    ("a forbidden request", "create", 403, 1, SandboxConfigError, QUICK),
    ("a failing service", "create", 500, 1, SandboxUnavailableError, QUICK),
    ("a busy service", "create", 503, 4, SandboxUnavailableError, SandboxLimits()),
    ("a lost answer about a new sandbox", "create", "lost", 1, SandboxLostError, QUICK),
    ("no answer about a new sandbox", "create", "hang", 1, SandboxTimeoutError, QUICK),
    ("a dropped upload", "upload", "drop", 1, SandboxLostError, QUICK),
    ("a full disk", "upload", 507, 1, SandboxRunError, QUICK),
    ("an upload without access", "upload", 401, 1, SandboxAuthError, QUICK),
    ("too many uploads", "upload", 429, 1, SandboxRateLimitError, QUICK),
    ("an upload to a closed port", "upload", 502, 1, SandboxLostError, QUICK),
    ("an upload that hangs", "upload", "hang", 1, SandboxTimeoutError, SHORT),
    ("a command without an answer", "run", "silent", 1, SandboxTimeoutError, SHORT),
    ("a download that hangs", "download", "hang", 1, SandboxTimeoutError, SandboxLimits(run_timeout=2.0)),
    ("a stream that breaks", "run", "cut", 1, SandboxLostError, QUICK),
    ("a sandbox that vanishes", "run", "gone", 1, SandboxLostError, QUICK),
    ("a stream without an end", "run", "no end", 1, SandboxRunError, QUICK),
    ("a stream that falls silent", "run", "hang", 1, SandboxTimeoutError, SHORT),
    ("a command that is not started", "run", 500, 1, SandboxRunError, QUICK),
    *([("a dropped reply to a query", "stdin", "drop", 1, SandboxLostError, QUICK)] if BROKER else []),
    ("a dropped download", "download", "drop", 1, SandboxLostError, QUICK),
    ("a result that is not there", "download", 404, 1, SandboxRunError, QUICK),
    ("a result that was changed", "download", "tamper", 1, SandboxRunError, QUICK),
]


@pytest.mark.parametrize(
    ("operation", "what", "times", "kind", "limits"), [row[1:] for row in FAULTS], ids=[row[0] for row in FAULTS]
)
def test_a_fault_has_its_own_class_and_leaves_nothing(
    fake: FakeE2B,
    backend: E2BBackend,
    operation: str,
    what: int | str,
    times: int,
    kind: type[SandboxError],
    limits: SandboxLimits,
) -> None:
    fake.fail(operation, what, SAID, times=times)
    with pytest.raises(SandboxError) as caught:
        run(backend, limits=limits)
    assert type(caught.value) is kind
    shows_no_key(caught.value)
    assert fake.running == []
    assert fake.faults_met(operation) > 0


def test_a_sandbox_whose_health_cannot_be_asked_is_lost(fake: FakeE2B, backend: E2BBackend) -> None:
    fake.fail("run", "cut")
    fake.fail("health", 502, "The sandbox is running but port is not open")
    with pytest.raises(SandboxLostError) as caught:
        run(backend)
    shows_no_key(caught.value)
    assert fake.faults_met("health") == 1
    assert fake.running == []


@pytest.mark.parametrize("operation", ["upload", "run", "download"])
def test_a_query_whose_sandbox_is_lost_is_asked_in_another(
    fake: FakeE2B, backend: E2BBackend, posthog: FaultServer, operation: str
) -> None:
    fake.fail(operation, "cut" if operation == "run" else "drop")
    host = posthog.url if BROKER else TARGET.api_url
    with SandboxedQueries(host=host, project_id="1", api_key=POSTHOG_KEY, backend=backend) as sandboxed:
        assert sandboxed.query("SELECT 1 AS n") == [{"n": 1}]
    assert len(fake.created) == 2
    assert fake.running == []


@pytest.mark.parametrize("what", [500, "lost", "hang"])
def test_ending_a_sandbox_is_tried_again(
    fake: FakeE2B,
    backend: E2BBackend,
    fake_clock: FakeClock,
    monkeypatch: pytest.MonkeyPatch,
    what: int | str,
) -> None:
    monkeypatch.setattr("posthog_driver.sandbox.e2b_service._KILL_SECONDS", 0.4)
    fake.fail("kill", what, SAID, times=2)
    assert read_rows(run(backend).result) == [{"n": 1}]
    assert fake.running == []
    assert fake.faults_met("kill") == 2
    # The package itself may try again what broke.
    assert fake_clock.sleeps == [0.25, 0.5][: len(fake_clock.sleeps)]


def test_a_sandbox_that_cannot_be_ended_is_named_and_ended_at_the_close(
    fake: FakeE2B, backend: E2BBackend, caplog: pytest.LogCaptureFixture
) -> None:
    fake.fail("kill", 500, SAID, times=3)
    with caplog.at_level(logging.WARNING, "posthog_driver.sandbox"):
        assert read_rows(run(backend).result) == [{"n": 1}]
    assert [guest.id for guest in fake.running] == [fake.created[0].id]
    assert fake.created[0].id in caplog.text
    assert E2B_KEY not in caplog.text
    assert POSTHOG_KEY not in caplog.text
    backend.close()
    assert fake.running == []


def test_what_nobody_ends_ends_with_its_lifetime(fake: FakeE2B, backend: E2BBackend) -> None:
    fake.fail("kill", 500, times=3)
    run(backend)
    fake.advance(QUICK.lifetime - 5)
    assert len(fake.running) == 1
    fake.advance(5)
    assert fake.running == []


def test_a_sandbox_of_a_failed_request_that_cannot_be_looked_for_is_ended_at_the_close(
    fake: FakeE2B, backend: E2BBackend, caplog: pytest.LogCaptureFixture
) -> None:
    fake.fail("create", "lost")
    fake.fail("list", 500, SAID)
    with caplog.at_level(logging.WARNING, "posthog_driver.sandbox"), pytest.raises(SandboxLostError):
        run(backend)
    assert "is not known" in caplog.text
    assert E2B_KEY not in caplog.text
    assert len(fake.running) == 1
    backend.close()
    assert fake.running == []


def test_a_service_that_is_down_is_a_lost_sandbox(backend: E2BBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: refused
        monkeypatch.setenv("E2B_API_URL", f"http://127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(SandboxLostError, match="creating a sandbox") as caught:
            run(backend, limits=SandboxLimits())
    shows_no_key(caught.value)


def test_code_that_does_not_end_is_ended(fake: FakeE2B, backend: E2BBackend) -> None:
    with pytest.raises(SandboxTimeoutError, match="CPU or memory") as caught:
        run(backend, script("while True: pass"), SHORT)
    shows_no_key(caught.value)
    assert fake.running == []
    assert not fake.created[0].processes_alive()


def test_what_code_left_running_is_ended_and_not_waited_for(
    fake: FakeE2B, backend: E2BBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("posthog_driver.sandbox.e2b_run._GRACE", 0.1)
    code = (
        "import subprocess, sys\n"
        "subprocess.Popen(['python3', '-c', 'import time; time.sleep(60)'])\n"
        "sys.stderr.write('left one')\n"
    )
    outcome = run(backend, script(code))
    assert outcome.result["exit_code"] == 0
    assert outcome.stderr == "left one"
    assert fake.running == []
    assert not fake.created[0].processes_alive()


def test_an_interrupt_while_a_sandbox_is_made_ends_it(
    fake: FakeE2B, backend: E2BBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    import e2b

    create = e2b.Sandbox.create

    @functools.wraps(create)
    def interrupted(*arguments: Any, **options: Any) -> Any:
        create(*arguments, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(e2b.Sandbox, "create", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(backend)
    assert len(fake.created) == 1
    assert fake.running == []


def test_a_runner_that_crashes_is_told_with_the_end_of_its_errors(fake: FakeE2B, backend: E2BBackend) -> None:
    code = f"import os, sys; sys.stderr.write('died of {POSTHOG_KEY}'); sys.stderr.flush(); os._exit(3)"
    with pytest.raises(SandboxRunError, match="code 3") as caught:
        run(backend, script(code))
    assert caught.value.detail is not None
    assert "died of phx_" in caught.value.detail
    shows_no_key(caught.value)


# The nonce stands in a frame above the script's: code can find it, and still gains nothing.
FORGE = """
import hashlib, os, sys
frame = sys._getframe()
while "request" not in frame.f_locals:
    frame = frame.f_back
def announce(claim):
    os.write(1, ("\\nPHD1 %s %s\\n" % (frame.f_locals["request"]["nonce"], claim)).encode())
    os._exit(0)
def report(announced, written):
    with open("result.json", "wb") as file:
        file.write(written)
    announce("%d %s" % (len(announced), hashlib.sha256(announced).hexdigest()))
"""


@pytest.mark.parametrize("claim", ["7 beef", "x", "999999999999999999 beef", ""])
def test_a_result_that_code_made_up_is_refused(fake: FakeE2B, backend: E2BBackend, claim: str) -> None:
    with pytest.raises(SandboxRunError):
        run(backend, script(FORGE + f"announce({claim!r})"))
    assert fake.running == []


@pytest.mark.parametrize(
    ("announced", "written", "problem"),
    [
        (b"{}", b"{}" + b" " * 100, "not what the run announced"),
        (b"{}", b"[]", "not what the run announced"),
        (b"[]", b"[]", "no JSON object"),
        (b"nope", b"nope", "no JSON object"),
        (b"[" * 100_000, b"[" * 100_000, "no JSON object"),
    ],
    ids=["longer", "another", "a list", "no JSON", "deep"],
)
def test_a_result_that_code_put_in_place_of_its_own_is_checked(
    fake: FakeE2B, backend: E2BBackend, announced: bytes, written: bytes, problem: str
) -> None:
    with pytest.raises(SandboxRunError, match=problem):
        run(backend, script(FORGE + f"report({announced!r}, {written!r})"))
    assert fake.running == []


def test_a_result_that_claims_to_be_too_large_is_not_read(fake: FakeE2B, backend: E2BBackend) -> None:
    with pytest.raises(ResultTooLargeError):
        run(backend, script(FORGE + "announce('99999999 beef')"))
    assert fake.journal.of("download") == []


def test_a_run_that_ends_during_the_close_leaves_nothing(
    fake: FakeE2B, fake_clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Run.carry_out
    with E2BBackend(secret=ANY, reuse=True, clock=fake_clock) as backend:

        def carry_out(self: Run, files: Any, *, direct: bool) -> Outcome:
            outcome = whole(self, files, direct=direct)
            backend.close()
            return outcome

        monkeypatch.setattr(Run, "carry_out", carry_out)
        assert read_rows(run(backend).result) == [{"n": 1}]
    assert fake.running == []


def test_code_that_needs_too_much_memory_is_told(fake: FakeE2B, backend: E2BBackend) -> None:
    limits = SandboxLimits(memory_bytes=256 << 20)
    outcome = run(backend, script("x = bytearray(600 << 20)"), limits)
    assert outcome.result["exit_code"] == 1
    assert "MemoryError" in outcome.stderr


def test_no_sandbox_is_made_after_the_close(fake: FakeE2B, backend: E2BBackend) -> None:
    backend.close()
    backend.close()
    with pytest.raises(SandboxConfigError, match="closed"):
        run(backend)
    assert fake.created == []


if BROKER:

    def test_an_interrupt_ends_the_sandbox(fake: FakeE2B, backend: E2BBackend) -> None:
        def interrupt(*_: Any) -> QueryResult:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run(backend, answer=interrupt)
        assert fake.running == []

    def test_a_run_under_way_at_the_close_fails_and_is_not_repeated(fake: FakeE2B, backend: E2BBackend) -> None:
        problems: list[BaseException] = []
        asked, go_on = threading.Event(), threading.Event()

        def answer(*_: Any) -> QueryResult:
            asked.set()
            assert go_on.wait(20)
            return ask()

        def work() -> None:
            try:
                run(backend, answer=answer)
            except SandboxError as error:
                problems.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        assert asked.wait(20)
        backend.close()
        go_on.set()
        thread.join(20)
        assert len(problems) == 1
        assert len(fake.created) == 1
        assert fake.running == []
