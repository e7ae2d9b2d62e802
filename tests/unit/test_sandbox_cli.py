"""``posthog-driver sandbox``: queries and scripts from within one, what works here, and what was left behind."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from posthog_driver import cli
from posthog_driver.sandbox import SandboxConfigError
from posthog_driver.sandbox import local as local_backend
from posthog_driver.testing import FaultServer, error_body, query_answer

KEY = "phx_test_key"


class Done(NamedTuple):
    code: int
    out: str
    err: str


Run = Callable[..., Done]


@pytest.fixture
def run(
    fault_server: FaultServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Run:
    """Run a command in an empty folder with settings for the fault server."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("POSTHOG_PERSONAL_API_KEY", KEY)
    monkeypatch.setenv("POSTHOG_PROJECT_ID", "1")
    monkeypatch.setenv("POSTHOG_API_URL", fault_server.url)
    monkeypatch.setenv("POSTHOG_MAX_RETRIES", "1")
    monkeypatch.delenv("E2B_API_KEY", raising=False)

    def call(*arguments: str) -> Done:
        try:
            code: Any = cli.main(("sandbox", *arguments))
        except SystemExit as done:
            code = done.code
        out, err = capsys.readouterr()
        assert KEY not in out + err
        return Done(code, out, err)

    return call


def test_a_query_prints_its_rows(run: Run, fault_server: FaultServer) -> None:
    fault_server.then((200, query_answer([["$pageview", 3]], ["event", "n"])))
    done = run("run", "SELECT {event}", "--value", "event=$pageview", "--format", "json")
    assert (done.code, done.err) == (0, "")
    assert json.loads(done.out) == [{"event": "$pageview", "n": 3}]
    assert fault_server.requests[0].json["query"]["values"] == {"event": "$pageview"}


def test_a_table_counts_its_rows_as_for_a_plain_query(run: Run, fault_server: FaultServer) -> None:
    fault_server.then((200, query_answer([["$pageview", 3]], ["event", "n"])))
    assert run("run", "SELECT 1", "--level", "landlock").out.endswith("(1 row)\n")


def test_an_error_of_posthog_has_the_exit_code_that_it_always_has(run: Run, fault_server: FaultServer) -> None:
    fault_server.then((400, error_body(400, "no such field")))
    done = run("run", "SELECT x")
    assert (done.code, done.out) == (4, "")
    assert "no such field" in done.err


def test_a_script_prints_what_it_prints(run: Run, fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
    fault_server.then((200, query_answer([[7]], ["n"])))
    script = "import sys\nprint(query('SELECT 1')[0]['n'])\nprint('\\x1b[31m', file=sys.stderr)\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(script.encode())))
    done = run("run", "-", "--python")
    assert (done.code, done.out) == (0, "7\n")
    assert "\x1b" not in done.err


def test_a_script_that_fails_is_a_failure(run: Run) -> None:
    done = run("run", "--python", "print('x' * 70_000)\n1 / 0")
    assert done.code == 1
    assert "ZeroDivisionError" in done.err
    assert "the start of the script's output was dropped" in done.err


def test_a_script_that_takes_too_long_is_ended(run: Run) -> None:
    done = run("run", "--python", "while True: pass", "--run-timeout", "0.5")
    assert done.code == 1
    assert "longer than 0.5 s" in done.err


def test_values_belong_to_a_query(run: Run) -> None:
    done = run("run", "--python", "print(1)", "--value", "x=1")
    assert done.code == 4
    assert "--value" in done.err


@pytest.mark.parametrize("arguments", [["--secret", "env"], ["--backend", "e2b", "--level", "bwrap"]])
def test_options_of_another_back_end_are_refused(arguments: list[str], run: Run) -> None:
    assert run("run", "SELECT 1", *arguments).code == 2


def test_a_probe_tells_what_works_and_what_it_closes(run: Run) -> None:
    done = run("probe")
    assert done.code == 0
    for words in ("bwrap: works", "landlock: works", "plain: works", "  closed: the network", "  open: the network"):
        assert words in done.out
    facts = json.loads(run("probe", "--format", "json").out)
    assert list(facts) == ["bwrap", "landlock", "plain"]
    assert facts["plain"]["closed"] == []


def test_a_probe_fails_where_nothing_isolates(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_backend, "_trial", lambda level: None if level == "plain" else "not\nhere")
    done = run("probe")
    assert done.code == 1
    assert "bwrap: not here\n" in done.out


def test_a_sweep_says_how_many_it_ended(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []

    class Backend:
        def __enter__(self) -> Backend:
            return self

        def __exit__(self, *_: object) -> None:
            return

        def sweep(self, *, older_than: float) -> int:
            asked.append(older_than)
            return 3

    monkeypatch.setattr("posthog_driver.sandbox.E2BBackend", Backend, raising=False)
    assert run("sweep", "--older-than", "60") == (0, "3 ended\n", "")
    assert asked == [60.0]


def test_a_sweep_without_a_key_of_e2b_says_so(run: Run) -> None:
    done = run("sweep")
    assert done.code != 0
    assert "E2B_API_KEY" in done.err


def test_an_action_is_needed(run: Run) -> None:
    assert run().code == 2


def test_what_does_not_work_is_a_matter_of_configuration(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_backend, "_trial", lambda level: "not here")
    done = run("run", "SELECT 1")
    assert done.code == 2
    assert "nothing was run" in done.err
    assert issubclass(SandboxConfigError, ValueError)
