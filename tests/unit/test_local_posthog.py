"""The child process of the embedded PostHog: start, answers, accidents, end."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
import requests

from posthog_driver import local as local_module
from posthog_driver.exceptions import MissingDependencyError, PostHogError, ValidationError
from posthog_driver.local import EXIT_STUCK, LocalPostHog, worker
from posthog_driver.local import __main__ as command

END = datetime(2026, 11, 1, tzinfo=timezone.utc)
EVENTS = 300


def ask(local: LocalPostHog, hogql: str) -> list[list[Any]]:
    answer = requests.post(
        f"{local.url}/api/projects/{local.project_id}/query/",
        json={"query": {"kind": "HogQLQuery", "query": hogql}, "refresh": "force_blocking"},
        headers={"Authorization": f"Bearer {local.personal_api_key}"},
        timeout=60,
    )
    answer.raise_for_status()
    rows: list[list[Any]] = answer.json()["results"]
    return rows


def until(condition: Callable[[], Any]) -> Any:
    """Wait for what another process is about to do; the limit is only there so that nothing hangs."""
    pause = threading.Event()
    for _ in range(3000):
        with suppress(requests.RequestException):
            if found := condition():
                return found
        pause.wait(0.02)
    raise AssertionError("it never became true")


def child_of(local: LocalPostHog) -> int:
    return local._process.pid


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture
def hook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Puts a module of one's own in the way of the child's imports."""

    def put(module: str, code: str) -> None:
        (tmp_path / "hook").mkdir(exist_ok=True)
        (tmp_path / "hook" / f"{module}.py").write_text(code)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path / "hook"))

    return put


@pytest.fixture(scope="module")
def local() -> Iterator[LocalPostHog]:
    with LocalPostHog(events=EVENTS, end=END) as local:
        yield local


# ------------------------------------------------------------------------------------------------------ normal life


def test_it_answers_when_the_constructor_returns(local: LocalPostHog) -> None:
    assert ask(local, "SELECT count(), max(timestamp) < toDateTime('2026-11-01 00:00:00') FROM events") == [[EVENTS, 1]]
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", local.url)
    assert local.truth["events"] == EVENTS


def test_the_keys_are_random_and_not_in_its_repr(local: LocalPostHog) -> None:
    with LocalPostHog(events=0) as other:
        keys = {local.personal_api_key, local.project_api_key, other.personal_api_key, other.project_api_key}

    assert len(keys) == 4
    assert repr(local) == f"LocalPostHog(url='{local.url}', project_id=1)"


def test_its_client_queries_and_is_not_limited(local: LocalPostHog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTHOG_CAPTURE_URL", "https://elsewhere.invalid")

    with local.client(timeout=20) as client:
        assert list(client.query("SELECT count() AS n FROM events")) == [{"n": EVENTS}]
        assert client.capture_url == local.url
        assert client.config.timeout == 20
        assert client.config.rate_limit_per_minute is None
        assert client.config.max_concurrent is None


def test_with_limits_its_client_keeps_to_them() -> None:
    with LocalPostHog(events=0, limits="cloud") as local, local.client() as client:
        assert client.config.rate_limit_per_minute == 240


def test_scripted_faults_reach_the_server() -> None:
    with LocalPostHog(events=0, faults=[(503, {"Retry-After": "1"}, None)]) as local:
        url = f"{local.url}/api/projects/1/"
        headers = {"Authorization": f"Bearer {local.personal_api_key}"}

        statuses = [requests.get(url, headers=headers, timeout=60).status_code for _ in range(2)]

    assert statuses == [503, 200]


def test_a_directory_is_opened_again_and_what_it_holds_is_said(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with LocalPostHog(tmp_path, events=EVENTS, seed=1) as first:
        assert first.truth["events"] == EVENTS

    with LocalPostHog(tmp_path, events=10_000) as second:
        assert ask(second, "SELECT count() FROM events") == [[EVENTS]]
        assert second.personal_api_key == first.personal_api_key
        assert second.project_api_key == first.project_api_key

    assert f"already holds {EVENTS} demo events (seed 1); nothing was added" in capfd.readouterr().err


def test_after_closing_nothing_is_left(capfd: pytest.CaptureFixture[str]) -> None:
    local = LocalPostHog(events=EVENTS)
    process, directory = local._process, Path(local._settings["data"])
    assert directory.is_dir()

    local.close()
    local.close()

    assert process.returncode == 0
    assert not directory.exists()
    assert local.wait() is None
    assert capfd.readouterr().err == ""
    with pytest.raises(PostHogError, match="is closed"):
        local.client()


def test_closing_does_not_wait_for_a_running_query(local: LocalPostHog) -> None:
    other = LocalPostHog(events=0)
    endless = "SELECT count() FROM numbers(100000000000) WHERE sin(number) > 2"
    asking = threading.Thread(target=_quietly, args=(other, endless))
    asking.start()
    until(lambda: ask(local, "SELECT 1"))

    other.close()

    asking.join(60)
    assert not asking.is_alive()
    assert other._process.returncode == 0


def _quietly(local: LocalPostHog, hogql: str) -> None:
    with suppress(requests.RequestException):
        ask(local, hogql)


def test_a_fork_that_closes_its_copy_does_not_stop_it(local: LocalPostHog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getpid", lambda: 1)

    local.close()

    monkeypatch.undo()
    assert ask(local, "SELECT 1") == [[1]]


# ------------------------------------------------------------------------------------------- what cannot be started


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"events": -1}, ValidationError, "events must be between 0 and"),
        ({"limits": "none at all", "events": 0}, ValidationError, "none at all"),
        ({"data": 5}, ValidationError, "expected str, bytes or os.PathLike object, not int"),
        ({"data": "a\0b"}, PostHogError, "embedded null byte"),
        ({"personal_api_key": "a\nb"}, ValidationError, "personal_api_key must be"),
        ({"scopes": ["moon:read"]}, ValidationError, "Invalid scope: moon:read"),
        ({"faults": ["moon"]}, ValidationError, "name must be one of"),
        ({"host": "0.0.0.0"}, ValidationError, "allow_remote=True"),
        ({"timezone": "Mars/Olympus"}, ValidationError, "timezone must be"),
        ({"query_seconds": 0}, ValidationError, "query_seconds must be"),
        ({"data": os.path.dirname(__file__)}, PostHogError, "is not empty and holds no embedded PostHog"),
    ],
)
def test_what_cannot_work_is_said_by_the_constructor(
    arguments: dict[str, Any], error: type[Exception], message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(error, match=message):
        LocalPostHog(**arguments)

    assert list(tmp_path.iterdir()) == []


def test_a_taken_port_is_said_by_the_constructor() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()

        with pytest.raises(PostHogError, match=r"did not start: .*in use"):
            LocalPostHog(events=0, port=taken.getsockname()[1])


def test_a_missing_engine_names_the_extra_and_leaves_no_directory(
    hook: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    hook("chdb", "raise ModuleNotFoundError('none', name='chdb')")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    with pytest.raises(MissingDependencyError, match=r'package chdb: pip install "posthog-driver\[local\]"'):
        LocalPostHog()

    assert list(tmp_path.glob("posthog-local-*")) == []


@pytest.mark.parametrize(
    ("code", "meaning"),
    [
        ("import os; os._exit(9)", "exit code 9"),
        (f"import os; os._exit({EXIT_STUCK})", "a query did not stop in time"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "killed by SIGKILL"),
    ],
)
def test_a_child_that_dies_while_starting_is_said_with_its_cause(
    hook: Callable[[str, str], None], code: str, meaning: str
) -> None:
    hook("chdb", code)

    with pytest.raises(PostHogError, match=f"ended while it started \\({meaning}\\)"):
        LocalPostHog()


def test_a_child_that_does_not_even_listen_is_no_broken_pipe(hook: Callable[[str, str], None]) -> None:
    hook("sitecustomize", "import os; os._exit(3)")

    with pytest.raises(PostHogError, match="exit code 3"):
        LocalPostHog(faults=[(500, {}, "x" * 1_000_000)])


def test_a_child_that_does_not_get_ready_is_killed(
    hook: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pid_file = tmp_path / "pid"
    hook("chdb", f"import os, time; open({str(pid_file)!r}, 'w').write(str(os.getpid())); time.sleep(600)")
    monkeypatch.setattr(local_module, "_START_SECONDS", 0.5)

    with pytest.raises(PostHogError, match="did not start within"):
        LocalPostHog(events=0)

    assert not pid_file.exists() or not is_alive(int(pid_file.read_text()))


# -------------------------------------------------------------------------------------------------------- accidents


def test_a_killed_child_is_replaced_and_keeps_address_keys_and_events(capfd: pytest.CaptureFixture[str]) -> None:
    with LocalPostHog(events=EVENTS) as local:
        event = {"api_key": local.project_api_key, "event": "survivor", "distinct_id": "d"}
        assert requests.post(f"{local.url}/i/v0/e/", json=event, timeout=60).status_code == 200
        url, pid = local.url, child_of(local)

        os.kill(pid, signal.SIGKILL)

        assert until(lambda: ask(local, "SELECT count(), countIf(event = 'survivor') FROM events")) == [[EVENTS + 1, 1]]
        assert local.url == url
        assert child_of(local) != pid

    said = capfd.readouterr().err
    assert "ended unexpectedly (killed by SIGKILL); starting another one" in said
    assert f"listening again on {url}; what was stored before is kept" in said


def test_a_child_that_cannot_be_replaced_is_said(
    hook: Callable[[str, str], None], capfd: pytest.CaptureFixture[str]
) -> None:
    with LocalPostHog(events=0) as local:
        hook("chdb", "raise RuntimeError('the disk is gone')")
        os.kill(child_of(local), signal.SIGKILL)

        failure = local.wait()

        assert failure is not None
        assert "could not be started again: The embedded PostHog did not start: the disk is gone" in failure
        assert failure in capfd.readouterr().err
        with pytest.raises(PostHogError, match="the disk is gone"):
            local.client()


def test_closing_while_another_child_starts_ends_that_one_too(
    hook: Callable[[str, str], None], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pid_file = tmp_path / "pid"
    local = LocalPostHog(events=0)
    hook("chdb", f"import os, time; open({str(pid_file)!r}, 'w').write(str(os.getpid())); time.sleep(600)")
    os.kill(child_of(local), signal.SIGKILL)
    until(lambda: pid_file.exists() and pid_file.read_text())

    local.close()

    assert not is_alive(int(pid_file.read_text()))
    assert local.wait() is None
    assert "could not" not in capfd.readouterr().err


def test_a_child_that_does_not_react_is_killed_on_closing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_module, "_STOP_SECONDS", 0.1)
    local = LocalPostHog(events=0)
    os.kill(child_of(local), signal.SIGSTOP)

    local.close()

    assert local._process.returncode == -signal.SIGKILL


def test_the_child_and_its_data_are_gone_when_the_parent_is_killed() -> None:
    code = (
        "import os, signal; from posthog_driver.local import LocalPostHog; local = LocalPostHog(events=0); "
        "print(local._process.pid, local._settings['data'], flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )

    parent = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)

    pid, directory = parent.stdout.split()
    assert parent.returncode == -signal.SIGKILL
    assert until(lambda: not is_alive(int(pid)) and not os.path.exists(directory))


# ------------------------------------------------------------------------------------------------------ the watchdog


class SlowEngine:
    """An engine with one query that is overdue by some seconds, and that may obey."""

    def __init__(self, stopped: threading.Event, late: float, obeys: bool) -> None:
        self.stopped, self.late, self.obeys = stopped, late, obeys
        self.cancelled: list[str] = []

    def overdue(self, seconds: float) -> list[str]:
        return ["q"] if self.late > seconds else []

    def cancel(self, query_id: str) -> bool:
        self.cancelled.append(query_id)
        if self.obeys:
            self.late = 0
            self.stopped.set()
        return True


@pytest.mark.parametrize(
    ("late", "obeys", "cancelled", "exits"),
    [(3.0, True, ["q"], []), (20.0, False, ["q"], [EXIT_STUCK])],
    ids=["cancelled", "given up"],
)
def test_a_query_beyond_its_limit_is_cancelled_and_then_given_up(
    late: float, obeys: bool, cancelled: list[str], exits: list[int]
) -> None:
    stopped = threading.Event()
    engine: Any = SlowEngine(stopped, late, obeys)
    given_up: list[int] = []

    def give_up(code: int) -> None:
        given_up.append(code)
        stopped.set()

    worker.watch(engine, stopped, os.getppid(), give_up=give_up, every=0)

    assert engine.cancelled == cancelled
    assert given_up == exits


def test_a_child_whose_parent_is_another_process_now_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    stopped = threading.Event()
    engine: Any = SlowEngine(stopped, 0.0, True)
    signals: list[tuple[int, int]] = []

    def kill(pid: int, number: int) -> None:
        signals.append((pid, number))
        stopped.set()

    monkeypatch.setattr(os, "kill", kill)

    worker.watch(engine, stopped, os.getppid() + 1, every=0)

    assert signals == [(os.getpid(), signal.SIGTERM)]


def test_a_query_that_holds_the_interpreter_at_once_ends_the_child_too(
    hook: Callable[[str, str], None], capfd: pytest.CaptureFixture[str]
) -> None:
    # A parser that is held by one text, and a watchdog that waits 2 s instead of 30.
    hook(
        "hogql_parser_rs",
        "def parse_select_json(text):\n"
        "    if 'killer' in text: sum(range(10**13))\n"
        '    return \'{"node": "SelectQuery", "select": [{"node": "Constant", "value": 1}]}\'\n',
    )
    hook(
        "sitecustomize",
        "import faulthandler\n"
        "later = faulthandler.dump_traceback_later\n"
        "faulthandler.dump_traceback_later = lambda seconds, exit: later(2.0, exit=exit)\n",
    )
    with LocalPostHog(events=0) as local:
        pid = child_of(local)
        with pytest.raises(requests.RequestException):
            ask(local, "SELECT 'killer'")

        assert until(lambda: ask(local, "SELECT 1")) == [[1]]
        assert child_of(local) != pid

    assert "ended unexpectedly (exit code 1); starting another one" in capfd.readouterr().err


def test_why_an_answer_is_a_500_is_said_on_standard_error(
    hook: Callable[[str, str], None], capfd: pytest.CaptureFixture[str]
) -> None:
    hook(
        "hogql_parser_rs",
        "def parse_select_json(text):\n"
        "    if 'broken' in text: raise ZeroDivisionError('the parser broke')\n"
        '    return \'{"node": "SelectQuery", "select": [{"node": "Constant", "value": 1}]}\'\n',
    )
    with LocalPostHog(events=0) as local, pytest.raises(requests.HTTPError, match="500"):
        ask(local, "SELECT 'broken'")

    said = capfd.readouterr().err
    assert "posthog-driver local: POST '/api/projects/1/query/' failed" in said
    assert "ZeroDivisionError: the parser broke" in said
    assert local.personal_api_key not in said


def test_an_interpreter_that_is_held_ends_itself() -> None:
    code = (
        "import os, threading; from posthog_driver.local import worker\n"
        "class Engine:\n    def overdue(self, seconds): return []\n"
        "worker.INTERPRETER_LIMIT = 0.5\n"
        "stopped = threading.Event()\n"
        "arguments = {'engine': Engine(), 'stopped': stopped, 'parent': os.getppid(), 'every': 0.1}\n"
        "threading.Thread(target=worker.watch, kwargs=arguments).start(); stopped.wait(0.5)\n"
        "sum(range(10**13))\n"
    )

    held = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)

    assert held.returncode == 1
    assert "Timeout" in held.stderr


# ------------------------------------------------------------------------------------------------------- the command


def start_command(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "posthog_driver.local", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_command_prints_one_json_line_and_ends_with_its_input(tmp_path: Path) -> None:
    arguments = ("--data", str(tmp_path), "--events", "50", "--fixed-keys", "--exit-with-stdin")
    with start_command(*arguments) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        facts = json.loads(process.stdout.readline())
        token = {"Authorization": f"Bearer {facts['personal_api_key']}"}
        status = requests.get(f"{facts['url']}/api/projects/1/", headers=token, timeout=60).status_code
        out, err = process.communicate("something\n", timeout=60)

    assert facts == {
        "url": facts["url"],
        "project_id": 1,
        "personal_api_key": command.FIXED_PERSONAL_API_KEY,
        "project_api_key": command.FIXED_PROJECT_API_KEY,
    }
    assert status == 200
    assert (process.returncode, out) == (0, "")
    assert f"An embedded PostHog listens on {facts['url']}" in err
    assert "50 events" in err
    assert str(tmp_path) in err


def test_the_command_ends_with_its_input_also_where_a_shell_started_it_in_the_background() -> None:
    code = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); "
        "from posthog_driver.local.__main__ import main; sys.exit(main(['--events', '0', '--exit-with-stdin']))"
    )
    ended = subprocess.run([sys.executable, "-c", code], input="", capture_output=True, text=True, timeout=60)

    assert ended.returncode == 0
    assert "stopped" in ended.stderr


def test_the_command_listens_where_and_as_it_is_told() -> None:
    arguments = ("--host", "0.0.0.0", "--allow-remote", "--query-seconds", "0.3", "--timezone", "Asia/Tokyo")
    with start_command("--events", "0", *arguments, "--exit-with-stdin") as process:
        assert process.stdout is not None
        facts = json.loads(process.stdout.readline())
        url = f"{facts['url']}/api/projects/1/"
        headers = {"Authorization": f"Bearer {facts['personal_api_key']}", "Host": "posthog.test"}
        endless = {"kind": "HogQLQuery", "query": "SELECT count() FROM numbers(1000000000000) WHERE sin(number) > 2"}
        zone = requests.get(url, headers=headers, timeout=60).json()["timezone"]
        status = requests.post(f"{url}query/", json={"query": endless}, headers=headers, timeout=60).status_code
        _, err = process.communicate("", timeout=60)

    assert facts["url"].startswith("http://127.0.0.1:")
    assert (zone, status, process.returncode) == ("Asia/Tokyo", 504, 0)
    assert "Others can reach it: whoever has the key can read and change everything." in err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_stops_on_a_signal_with_exit_code_0(number: signal.Signals) -> None:
    with start_command("--events", "0") as process:
        assert process.stdout is not None
        process.stdout.readline()

        process.send_signal(number)
        _, err = process.communicate(timeout=60)

    assert process.returncode == 0
    assert err.endswith("posthog-driver local: stopped\n")
    assert "Traceback" not in err


def test_the_command_says_in_one_line_why_it_cannot_start(capfd: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--events", "-5"]) == 1

    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err == "posthog-driver local: events must be between 0 and 100,000,000, not -5\n"


def test_the_command_lets_others_in_only_when_that_is_said(capfd: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--host", "0.0.0.0"]) == 1

    captured = capfd.readouterr()
    assert captured.out == ""
    assert "say allow_remote=True (--allow-remote) if that is wanted" in captured.err
    assert captured.err.count("\n") == 1


def test_the_command_ends_with_1_when_the_server_cannot_go_on(
    hook: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    wait = LocalPostHog.wait

    def break_and_wait(local: LocalPostHog) -> str | None:
        hook("chdb", "raise RuntimeError('the disk is gone')")
        os.kill(child_of(local), signal.SIGKILL)
        return wait(local)

    monkeypatch.setattr(LocalPostHog, "wait", break_and_wait)

    assert command.main(["--events", "0"]) == 1

    assert "the disk is gone" in capfd.readouterr().err
