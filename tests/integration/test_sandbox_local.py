"""Sandboxes of this machine under attack: real processes, as root and as somebody who is not, at every level.

What gets out of a bare process is shown to get out of it, so that the same attack's failure elsewhere means something.
"""

from __future__ import annotations

import functools
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.sandbox.attacks import ATTACKS, POWERS, script
from tests.sandbox.excesses import ALONE, EXCESSES
from tests.sandbox.host import run_as, users

ISOLATED = ("bwrap", "landlock")
EVERY = (*ISOLATED, "plain")


Outcomes = Callable[[str, str, str], dict[str, Any]]


@pytest.fixture(scope="module")
def of() -> Iterator[Outcomes]:
    """What became of one script; all that a user runs at a level run in one host."""
    with tempfile.TemporaryDirectory() as folder:

        @functools.cache
        def outcomes(user: str, level: str) -> dict[str, Any]:
            scripts = {name: (script(text), {}) for name, text in ATTACKS.items()}
            scripts |= {name: (script(text), {}) for name, text in POWERS.items() if level in ISOLATED}
            return run_as(user, Path(folder), {"level": level, "scripts": scripts | EXCESSES, "alone": ALONE})

        def of(user: str, level: str, name: str) -> dict[str, Any]:
            found: dict[str, Any] = outcomes(user, level)[name]
            assert found["left"] == 0
            assert found["unharmed"]
            return found

        yield of


@pytest.fixture(params=users())
def user(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=ISOLATED)
def isolated(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=EVERY)
def level(request: pytest.FixtureRequest) -> str:
    return str(request.param)


# --- getting out ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_fails_where_there_is_isolation(name: str, user: str, isolated: str, of: Outcomes) -> None:
    found = of(user, isolated, name)
    assert found["stdout"].startswith("refused:"), found
    assert (found["exit_code"], found["stderr"]) == (0, "")


@pytest.mark.parametrize("name", POWERS)
def test_powers_over_the_machine_are_not_given(name: str, user: str, isolated: str, of: Outcomes) -> None:
    found = of(user, isolated, name)
    assert found["stdout"].startswith("refused:"), found


@pytest.mark.parametrize("name", ATTACKS)
def test_the_same_attack_succeeds_from_a_plain_process_as_the_documents_say(name: str, user: str, of: Outcomes) -> None:
    assert of(user, "plain", name)["stdout"].startswith("escaped:")


# --- using more than there is -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALONE)
def test_no_more_processes_and_threads_are_made_than_allowed(name: str, user: str, isolated: str, of: Outcomes) -> None:
    made = int(of(user, isolated, name)["stdout"])
    assert 5 <= made <= EXCESSES[name][1]["max_processes"]


def test_a_plain_process_of_root_forks_as_it_likes_as_the_documents_say(of: Outcomes) -> None:
    expected = 60 if os.geteuid() == 0 else EXCESSES["forks"][1]["max_processes"]
    assert int(of(users()[0], "plain", "forks")["stdout"]) <= expected


def test_a_process_gets_no_more_memory_than_allowed(user: str, level: str, of: Outcomes) -> None:
    found = of(user, level, "memory")
    assert found["exit_code"] == 1
    assert found["stderr"].endswith("MemoryError\n")


def test_processes_that_use_too_much_memory_together_are_ended(user: str, level: str, of: Outcomes) -> None:
    found = of(user, level, "memory of many")
    assert found["error"] == "SandboxRunError"
    assert "memory_bytes" in found["message"]


def test_of_endless_output_the_end_is_kept_and_the_rest_counted(user: str, level: str, of: Outcomes) -> None:
    found = of(user, level, "output")
    assert len(found["stdout"]) == len(found["stderr"]) == 1000
    assert found["stdout"].endswith("the end\n")
    assert found["dropped"] == 20 * (1 << 20) + len("the end\n") - 2000


def test_files_do_not_fill_the_disk(user: str, isolated: str, of: Outcomes) -> None:
    written, why = of(user, isolated, "files")["stdout"].split()
    assert (int(written), why) == {"bwrap": (64, "OSError"), "landlock": (0, "PermissionError")}[isolated]


@pytest.mark.parametrize("name", [name for name in EXCESSES if name.startswith("time")])
def test_what_takes_too_long_is_ended_with_all_that_it_started(name: str, user: str, level: str, of: Outcomes) -> None:
    found = of(user, level, name)
    assert found["error"] == "SandboxTimeoutError"
    assert "run_timeout" in found["message"]


def test_processes_that_got_away_by_forking_twice_end_with_the_run(user: str, level: str, of: Outcomes) -> None:
    assert of(user, level, "processes that left")["stdout"] == "2\n"


def test_a_thread_that_goes_on_does_not_keep_the_run(user: str, level: str, of: Outcomes) -> None:
    assert of(user, level, "a thread that goes on")["stdout"] == "over\n"


# --- breaking off, and breaking the protocol --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("an exit", "SandboxRunError", "with exit code 3"),
        ("a crash", "SandboxRunError", "by SIGSEGV"),
        ("a closed wire", "SandboxRunError", "without a result"),
        ("nonsense on the wire", "SandboxRunError", "broke the protocol"),
        ("an endless question", "SandboxRunError", "more than 1,048,576 bytes"),
        ("an endless answer", "ResultTooLargeError", "more than 1,024 bytes"),
        ("an answer that is none", "SandboxRunError", "no JSON object"),
        ("questions without end", "SandboxRunError", "max_queries"),
    ],
)
def test_a_run_without_an_honest_end_is_an_error_that_says_why(
    name: str, error: str, words: str, user: str, level: str, of: Outcomes
) -> None:
    found = of(user, level, name)
    assert found["error"] == error
    assert words in found["message"]
