"""The first code in a local sandbox: it gives up what the run may not have, and then starts the runner.

The host sends it over a socket, as code objects: so nothing of this package has to be visible inside. It uses the
standard library only, and is started with ``python3 -I -S -c BOOT FD``. What cannot be given up ends the process: the
runner never starts with more than it should have.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # the module typing takes long to load
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import CodeType
    from typing import Any

BOOT = """\
import marshal, os, sys
fd = int(sys.argv[1])
def read(size):
    data = bytearray()
    while len(data) < size:
        chunk = os.read(fd, size - len(data))
        if not chunk:
            os._exit(70)
        data += chunk
    return data
confine, runner, setup, request = marshal.loads(read(int.from_bytes(read(8), "big")))
space = {"__name__": "confine"}
exec(confine, space)
space["main"](fd, runner, setup, request)
"""
"""What the interpreter is told to run; a constant."""

_SET_NO_NEW_PRIVILEGES, _SET_SUBREAPER, _SET_DEATH_SIGNAL, _SET_SECCOMP = 38, 36, 1, 22
_SET_KEEP_CAPABILITIES, _AMBIENT, _AMBIENT_RAISE = 8, 47, 2
_CAPABILITY_VERSION, _SEARCH_NUMBER = 0x20080522, 2  # CAP_DAC_READ_SEARCH
_SEARCH = 1 << _SEARCH_NUMBER
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1, 2, 4, 8
# How many file rights each version of Landlock knows: one that is not named would stay open.
_FILE_RIGHTS = (13, 14, 15, 15, 16)
_NETWORK_RIGHTS, _SCOPES = 3, 3


def main(fd: int, runner: CodeType, setup: dict[str, Any], request: bytes) -> None:
    """Confine this process as ``setup`` says, and serve ``request``.

    Args:
        fd: The socket to the host.
        runner: The code object of `runner`.
        setup: What to give up, see `levels`: ``supervise`` (whether this process waits for the run), ``limits`` (of
            `resource`, by name), ``folder`` (to work in), ``temporary`` (whether it goes with the run), ``host`` (the
            process that started this one), ``search`` (whether the user may pass through closed
            folders), ``packages`` (folders to import from); and, each of them or None, ``uid`` (to become),
            ``open_up`` (a folder that it may write to), ``landlock`` (paths with ``r``, ``x``, ``w``, or ``d`` for
            names only), ``seccomp`` (a program).
        request: The request as bytes.
    """
    import json

    if setup["supervise"]:
        _supervise(setup)
    _confine(setup)
    sys.path += setup["packages"]
    space: dict[str, Any] = {"__name__": "runner"}
    exec(runner, space)
    space["serve"](space["SocketWire"](fd), json.loads(request))
    os._exit(0)  # whatever threads the script left


def _confine(setup: dict[str, Any]) -> None:
    import resource

    if setup["open_up"]:
        os.chmod(setup["open_up"], 0o777)
    if setup["uid"] is not None:
        _become(setup["uid"], setup["search"])
    for name, value in setup["limits"].items():
        number = getattr(resource, name)
        hard = resource.getrlimit(number)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(number, (value, value))
    os.chdir(setup["folder"])
    if setup["landlock"] is not None:
        _restrict_files(setup["landlock"])
    if setup["seccomp"] is not None:
        _restrict_calls(setup["seccomp"])


def _become(uid: int, search: bool) -> None:
    """Become a user without any capability, or with the one to pass through folders that are closed to it."""
    if search:
        _control(_SET_KEEP_CAPABILITIES, 1)
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    if search:
        ctypes, libc = _libc()
        header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
        sets = (ctypes.c_uint32 * 6)(_SEARCH, _SEARCH, _SEARCH, 0, 0, 0)
        _check(ctypes, libc.capset(header, sets), "capset")
        _control(_AMBIENT, _AMBIENT_RAISE, _SEARCH_NUMBER)  # for the interpreters that the script starts


def _libc() -> Any:
    import ctypes

    return ctypes, ctypes.CDLL(None, use_errno=True)


def _check(ctypes: Any, result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def _control(option: int, value: int, second: int = 0) -> None:
    ctypes, libc = _libc()
    arguments = [ctypes.c_ulong(number) for number in (value, second, 0, 0)]
    _check(ctypes, libc.prctl(ctypes.c_int(option), *arguments), f"prctl({option})")


def _restrict_files(paths: dict[str, str]) -> None:
    """Allow what is listed, and no other file, TCP port, abstract socket or process."""
    ctypes, libc = _libc()
    version = _check(ctypes, libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), 1), "Landlock")
    files = (1 << _FILE_RIGHTS[min(version, len(_FILE_RIGHTS)) - 1]) - 1
    handled = [files, _NETWORK_RIGHTS if version >= 4 else 0, _SCOPES if version >= 6 else 0]
    size = 8 if version < 4 else 16 if version < 6 else 24
    rules = (ctypes.c_uint64 * 3)(*handled)
    ruleset = _check(ctypes, libc.syscall(_CREATE_RULESET, rules, ctypes.c_size_t(size), 0), "Landlock's rules")
    for path, mode in paths.items():
        _allow(ctypes, libc, ruleset, path, mode, files)
    _control(_SET_NO_NEW_PRIVILEGES, 1)
    _check(ctypes, libc.syscall(_RESTRICT_SELF, ruleset, 0), "Landlock's restriction")
    os.close(ruleset)


def _allow(ctypes: Any, libc: Any, ruleset: int, path: str, mode: str, files: int) -> None:
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    rights = {"d": 0, "r": _READ_FILE, "x": _READ_FILE | _EXECUTE, "w": _READ_FILE | _WRITE_FILE}[mode]
    if os.path.isdir(path):
        rights |= _READ_DIR
    packed = ctypes.create_string_buffer((rights & files).to_bytes(8, sys.byteorder) + fd.to_bytes(4, sys.byteorder))
    _check(ctypes, libc.syscall(_ADD_RULE, ruleset, 1, packed, 0), f"Landlock's rule for {path}")
    os.close(fd)


def _restrict_calls(program: bytes) -> None:
    """Refuse the system calls that the program refuses, for good."""
    ctypes, libc = _libc()
    code = ctypes.create_string_buffer(program, len(program))

    class Program(ctypes.Structure):  # type: ignore[misc, name-defined]
        _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_void_p))

    made = Program(len(program) // 8, ctypes.addressof(code))
    _control(_SET_NO_NEW_PRIVILEGES, 1)
    arguments = [ctypes.c_ulong(2), ctypes.byref(made), ctypes.c_ulong(0), ctypes.c_ulong(0)]
    _check(ctypes, libc.prctl(ctypes.c_int(_SET_SECCOMP), *arguments), "seccomp")


# --- where no process namespace ends what is left ---------------------------------------------------------------------


def _supervise(setup: dict[str, Any]) -> None:
    """Return in a child; this process waits for it, ends whatever it leaves, and exits as it did.

    What the child starts becomes this process's own when its parent dies, so nothing gets away by a double fork.
    """
    import signal

    _control(_SET_SUBREAPER, 1)
    _control(_SET_DEATH_SIGNAL, signal.SIGTERM)
    awaited = {signal.SIGTERM, signal.SIGCHLD}
    signal.pthread_sigmask(signal.SIG_BLOCK, awaited)
    child = os.fork()
    if not child:
        _control(_SET_DEATH_SIGNAL, signal.SIGKILL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, awaited)
        return
    os.closerange(3, 1024)  # the socket must close when the child does
    status = None
    while status is None and signal.sigwait(awaited) == signal.SIGCHLD:
        status = _reap(child)
    while _end_all(setup["uid"]):
        _reap(child)
    if setup["temporary"] and os.getppid() != setup["host"]:  # nobody is left to do it
        import shutil

        shutil.rmtree(setup["folder"], ignore_errors=True)
    os._exit(128 + signal.SIGKILL if status is None else status)


def _reap(child: int) -> int | None:
    """Take in who has ended; the exit code of the child, if it is among them."""
    status = None
    while True:
        try:
            pid, raw = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return status
        if not pid:
            return status
        if pid == child:
            status = 128 + os.WTERMSIG(raw) if os.WIFSIGNALED(raw) else os.WEXITSTATUS(raw)


def _end_all(uid: int | None) -> bool:
    """Kill every descendant; False when there was none."""
    import signal

    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    if uid is not None:  # nobody else has that user
        helper = os.fork()
        if not helper:
            try:
                os.setresuid(uid, uid, uid)
                os.kill(-1, signal.SIGKILL)
            finally:
                os._exit(0)
        os.waitpid(helper, 0)
    for pid in _children():
        os.kill(pid, signal.SIGKILL)
    os.sched_yield()
    return True


def _children() -> Iterator[int]:
    own = str(os.getpid())
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    parent = file.read().rpartition(b")")[2].split()[1].decode()
            except OSError:
                continue
            if parent == own:
                yield int(name)
