"""The back end of this machine: which level it takes, what it does when none works, and runs that go wrong outside."""

from __future__ import annotations

import ast
import logging
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from posthog_driver._clock import SystemClock
from posthog_driver.sandbox import local, process
from posthog_driver.sandbox.broker import Broker
from posthog_driver.sandbox.errors import SandboxConfigError, SandboxError, SandboxRunError, SandboxTimeoutError
from posthog_driver.sandbox.levels import Launch
from posthog_driver.sandbox.local import LocalBackend
from posthog_driver.sandbox.model import SandboxJob, SandboxLimits
from posthog_driver.sandbox.process import Run
from posthog_driver.sandbox.tree import descendants

LIMITS = SandboxLimits(run_timeout=30.0)
ROWS = [{"n": 7}]


def broker(limits: SandboxLimits = LIMITS) -> Broker:
    return Broker(lambda hogql, values, seconds: ROWS, limits)


@pytest.fixture
def working(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Say which levels work."""

    def set_working(*names: str) -> None:
        monkeypatch.setattr(local, "_trial", lambda name: None if name in names else f"no {name} here")

    return set_working


def test_the_strongest_level_that_works_is_taken(
    working: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    working("bwrap", "landlock", "plain")
    assert LocalBackend().level == "bwrap"
    assert caplog.text == ""


def test_a_weaker_level_is_taken_with_a_warning(working: Callable[..., None], caplog: pytest.LogCaptureFixture) -> None:
    working("landlock", "plain")
    backend = LocalBackend()
    with caplog.at_level(logging.WARNING, "posthog_driver"):
        assert backend.level == backend.level == "landlock"
    assert caplog.text.count("taking landlock, as bwrap does not work here: no bwrap here") == 1
    assert backend.name == "local (landlock)"


def test_no_isolation_means_no_run(working: Callable[..., None]) -> None:
    working("plain")
    with pytest.raises(SandboxConfigError) as caught:
        LocalBackend().run(SandboxJob("python", ""), LIMITS, broker())
    for words in ("nothing was run", "no bwrap here", "no landlock here", 'level="plain"'):
        assert words in str(caught.value)


@pytest.mark.parametrize("level", ["bwrap", "landlock"])
def test_a_level_that_was_asked_for_by_name_is_not_replaced(level: str, working: Callable[..., None]) -> None:
    working("bwrap" if level == "landlock" else "landlock", "plain")
    with pytest.raises(SandboxConfigError, match=f"no {level} here"):
        LocalBackend(level=level).level  # noqa: B018


def test_plain_is_taken_by_name(working: Callable[..., None]) -> None:
    working("plain")
    assert LocalBackend(level="plain").level == "plain"


def test_there_are_no_other_levels() -> None:
    with pytest.raises(SandboxConfigError, match="level is one of auto, bwrap, landlock, plain"):
        LocalBackend(level="docker")


def test_a_probe_tells_of_every_level(working: Callable[..., None]) -> None:
    working("landlock", "plain")
    found = LocalBackend.probe()
    assert {name: bool(facts) for name, facts in found.items()} == {"bwrap": False, "landlock": True, "plain": True}
    assert found["bwrap"].why == "no bwrap here"


def test_other_systems_have_no_local_sandboxes(monkeypatch: pytest.MonkeyPatch) -> None:
    local._trial.cache_clear()
    monkeypatch.setattr(local.sys, "platform", "darwin")
    try:
        with pytest.raises(SandboxConfigError, match="need Linux"):
            LocalBackend().level  # noqa: B018
    finally:
        local._trial.cache_clear()


# --- runs -------------------------------------------------------------------------------------------------------------


def run(level: str, job: SandboxJob, limits: SandboxLimits = LIMITS) -> Any:
    return LocalBackend(level=level).run(job, limits, broker(limits))


@pytest.mark.parametrize("level", local.LEVELS)
def test_packages_can_be_imported_if_they_are_given_and_only_then(level: str, tmp_path: Path) -> None:
    (tmp_path / "given_package.py").write_text("answer = 42")
    (tmp_path / "given_package.txt").write_text("beside it")
    code = "import given_package, os\nprint(given_package.answer, os.path.dirname(given_package.__file__))"
    for folder in (str(tmp_path), [str(tmp_path)]):
        given = LocalBackend(level=level, packages=folder).run(SandboxJob("python", code), LIMITS, broker())
        assert given.stdout == f"42 {tmp_path.resolve()}\n"
    assert "ModuleNotFoundError" in run(level, SandboxJob("python", code)).stderr


@pytest.mark.parametrize("level", ["bwrap", "landlock"])
def test_installed_packages_cannot_be_read(level: str) -> None:
    library = Path(os.__file__).parent
    file = next((library / "site-packages").rglob("*.py"), library / "site-packages" / "none.py")
    code = f"try: print(open({str(file)!r}).read())\nexcept OSError: print('refused')"
    assert run(level, SandboxJob("python", code)).stdout == "refused\n"


def test_a_folder_of_packages_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(SandboxConfigError, match="no folder"):
        LocalBackend(packages=[str(tmp_path / "missing")])


@pytest.mark.parametrize("level", local.LEVELS)
def test_a_query_and_a_script_run_at_every_level(level: str) -> None:
    assert run(level, SandboxJob("query", "SELECT 1")).result["rows"] == ROWS
    outcome = run(level, SandboxJob("python", "import sys\nprint(query('SELECT 1'))\nprint('!', file=sys.stderr)"))
    assert (outcome.stdout, outcome.stderr, outcome.queries) == ("[{'n': 7}]\n", "!\n", 1)
    assert outcome.result == {"exit_code": 0, "queries": 1}


def test_a_large_request_and_a_large_answer_come_through() -> None:
    text = "x" * (3 << 20)
    limits = SandboxLimits(max_result_bytes=8 << 20)
    asked = Broker(lambda hogql, values, seconds: [{"text": text}], limits)
    outcome = LocalBackend().run(
        SandboxJob("python", f"'{text}'\nprint(len(query('SELECT 1')[0]['text']))"), limits, asked
    )
    assert outcome.stdout == f"{3 << 20}\n"


def test_the_folder_of_a_plain_run_is_removed_whatever_was_done_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    real = local.tempfile.mkdtemp

    def remember(**options: Any) -> str:
        made.append(real(**options))
        return made[-1]

    monkeypatch.setattr(local.tempfile, "mkdtemp", remember)
    code = """
import os
os.makedirs("a/b")
open("a/b/file", "w").close()
os.symlink("/", "a/link")
os.chmod("a/b", 0)
os.chmod("a", 0)
print(os.getcwd())
"""
    outcome = run("plain", SandboxJob("python", code))
    assert outcome.stdout == f"{made[-1]}\n"
    assert not os.path.exists(made[-1])


def test_a_key_that_a_script_got_hold_of_is_masked_in_its_output() -> None:
    outcome = run("plain", SandboxJob("python", "print('phx_' + '0123456789' * 3)"))
    assert outcome.stdout == "phx_01...89\n"


def test_an_interrupt_ends_the_run() -> None:
    def interrupt(*_: Any) -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        LocalBackend().run(SandboxJob("query", "SELECT 1"), LIMITS, Broker(interrupt, LIMITS))


def plain(stop: signal.Signals = signal.SIGKILL, command: tuple[str, ...] = ()) -> Launch:
    class Fixed(Launch):
        def command(self, socket: int, program: int | None) -> list[str]:
            return list(command)

    return Fixed([], {}, None, stop)


def test_a_program_that_cannot_be_started_is_a_matter_of_configuration() -> None:
    with pytest.raises(SandboxConfigError, match="could not be started"):
        Run(plain(command=("/no/such/program",)), b"", "/", LIMITS, SystemClock()).__enter__()


def test_a_program_that_does_not_listen_is_an_error_with_its_words() -> None:
    command = ("/bin/sh", "-c", "echo it is broken >&2; exit 9")
    with (
        pytest.raises(SandboxRunError, match="exit code 9: it is broken") as caught,
        Run(plain(command=command), b"x" * (4 << 20), "/", LIMITS, SystemClock()) as going,
    ):
        going.converse(broker())
    assert caught.value.detail == "it is broken"


def test_a_key_that_was_printed_is_not_in_the_error() -> None:
    key = "phx_" + "0123456789" * 3
    with (
        pytest.raises(SandboxRunError) as caught,
        Run(plain(command=("/bin/sh", "-c", f"echo {key} >&2")), b"", "/", LIMITS, SystemClock()) as going,
    ):
        going.converse(broker())
    assert key not in f"{caught.value} {caught.value.detail}"


def test_a_run_that_gave_its_result_and_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_GRACE", 0.2)
    code = "import os,sys; os.write(int(sys.argv[1]), b'={}\\n'); import time; time.sleep(60)"

    class Stays(Launch):
        def command(self, socket: int, program: int | None) -> list[str]:
            return [sys.executable, "-S", "-c", code, str(socket)]

    with Run(Stays([], {}, None, signal.SIGKILL), b"", "/", LIMITS, SystemClock()) as going:
        assert going.converse(broker()) == b"{}"
        pid = going._process.pid
        monkeypatch.setattr(process, "_GRACE", 5.0)
    assert not os.path.exists(f"/proc/{pid}")


def test_what_cannot_be_ended_is_said_loudly(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(process, "_GRACE", 0.01)
    limits = SandboxLimits(run_timeout=0.2)
    going = Run(plain(signal.SIGCONT, ("/bin/sleep", "60")), b"", "/", limits, SystemClock())
    with pytest.raises(SandboxError, match="could not be ended") as caught, going:
        going.converse(broker(limits))
    assert isinstance(caught.value.__context__, SandboxTimeoutError)
    assert caplog.text.count("does not end; trying again") == 3
    going._process.kill()
    going._process.wait()


@pytest.mark.parametrize(
    ("status", "words"), [(None, "did not end"), (-9, "SIGKILL"), (139, "SIGSEGV"), (3, "exit code 3")]
)
def test_it_is_said_how_a_run_ended(status: int | None, words: str) -> None:
    assert words in process._how(status)


def test_no_files_of_a_run_stay_open() -> None:
    LocalBackend().run(SandboxJob("query", "SELECT 1"), LIMITS, broker())
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        LocalBackend().run(SandboxJob("query", "SELECT 1"), LIMITS, broker())
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("level", local.LEVELS)
def test_the_death_of_the_host_ends_the_run(level: str, tmp_path: Path) -> None:
    """SIGKILL leaves no chance to tidy up: what runs inside has to notice by itself."""
    code = f"""
import glob, tempfile
tempfile.tempdir = {str(tmp_path)!r}
from posthog_driver.sandbox.broker import Broker
from posthog_driver.sandbox.local import LocalBackend
from posthog_driver.sandbox.model import SandboxJob, SandboxLimits

def tell(*_):
    print(sorted(glob.glob(tempfile.gettempdir() + "/posthog-sandbox-*")), flush=True)
    return []

limits = SandboxLimits(run_timeout=50.0)
script = "import os\\nif not os.fork():\\n    os.setsid()\\nelse:\\n    query('SELECT 1')\\nwhile True: pass"
LocalBackend(level={level!r}).run(SandboxJob("python", script), limits, Broker(tell, limits))
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as host:
        assert host.stdout is not None
        folders = ast.literal_eval(host.stdout.readline().decode())
        assert len(folders) == (level == "plain")
        inside = [os.pidfd_open(pid) for pid in descendants(host.pid)]
        assert len(inside) >= 2
        host.kill()
    running = set(inside)
    while running and (ended := select.select(list(running), [], [], 20)[0]):
        running -= set(ended)
    for fd in inside:
        os.close(fd)
    assert running == set()
    assert list(tmp_path.iterdir()) == []
