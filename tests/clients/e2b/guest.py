"""The inside of a fake sandbox: a folder that stands for its disk, and real processes with a bare interpreter.

It is a double for tests and no jail: the processes run as whoever runs the tests.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["HOME", "Guest", "GuestProcess"]

HOME = posixpath.join("/home", "user")
CA_FILE = "/etc/ssl/certs/ca-certificates.crt"
# Whole interpreters run inside: without the packages of whoever runs the tests, as in a stock image.
_NETWORK = Path(__file__).with_name("network.py")
_PYTHON = getattr(sys, "_base_executable", None) or sys.executable


class GuestProcess:
    """A process of a sandbox, in a group of its own."""

    def __init__(self, argv: Sequence[str], *, cwd: Path, env: Mapping[str, str], stdin: bool) -> None:
        self.popen = subprocess.Popen(
            list(argv),
            cwd=cwd,
            env=dict(env),
            stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )
        self.pid = self.popen.pid
        self.output_over: Callable[[], Any] = lambda: None

    def write(self, data: bytes) -> None:
        """Write to its standard input; what it no longer reads is lost, as in a pipe."""
        assert self.popen.stdin is not None
        with contextlib.suppress(BrokenPipeError, ValueError):
            view = memoryview(data)
            while view:
                view = view[self.popen.stdin.write(view) :]

    def close_stdin(self) -> None:
        """End its standard input."""
        if self.popen.stdin is not None:
            self.popen.stdin.close()

    def kill_alone(self) -> None:
        """Kill the process as the service does when its time is up: its children live on."""
        self.popen.kill()

    def kill_all(self) -> None:
        """Kill its group, and close what it left open."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self.popen.wait()
        self.close_stdin()


@dataclass
class Guest:
    """One sandbox.

    Attributes:
        id: Its name.
        token: What envd asks for in ``X-Access-Token``.
        body: The request that created it.
        started: When it was created, in seconds of the fake's clock.
        ends: When its lifetime is over.
        root: The folder that stands for ``/``.
        processes: Running processes by number.
    """

    id: str
    token: str
    body: Mapping[str, Any]
    started: float
    ends: float
    certificates: bytes = b""
    root: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="fake-e2b-")))
    processes: dict[int, GuestProcess] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    started_pids: list[int] = field(default_factory=list)
    gone: bool = False

    def __post_init__(self) -> None:
        for folder in (HOME, "/bin", "/tmp"):
            self.path(folder).mkdir(parents=True, exist_ok=True)
        python = self.path("/bin/python3")
        network = self.path("/bin/network.py")
        network.write_bytes(_NETWORK.read_bytes())
        start = f"exec(compile(open({str(network)!r}).read(), 'network', 'exec'))"
        python.write_text(f'#!/bin/sh\nexec {_PYTHON} -I -S -c "{start}" "$@"\n')
        python.chmod(0o755)
        self.path("/bin/rm").symlink_to(shutil.which("rm") or "/bin/rm")
        self.write(CA_FILE, self.certificates)

    def path(self, inside: str) -> Path:
        """Return the file on the disk of the machine for a path inside; ``..`` leads nowhere else."""
        absolute = posixpath.normpath(posixpath.join(HOME, inside))
        return self.root / absolute.lstrip("/")

    def write(self, inside: str, data: bytes) -> None:
        """Write a file, with the folders that it needs."""
        target = self.path(inside)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)

    def start(
        self, argv: Sequence[str], *, cwd: str | None, envs: Mapping[str, str], stdin: bool, proxy: str
    ) -> GuestProcess:
        """Start a process.

        Args:
            argv: The program and its arguments.
            cwd: The folder, as seen inside.
            envs: Variables on top of those of the sandbox.
            stdin: Whether it may be written to.
            proxy: The only way out, as ``host:port:name:token``.

        Raises:
            FileNotFoundError: the program or the folder does not exist.
        """
        # A login shell would read the files of the machine's owner, and lose the PATH.
        words = [word for word in argv if word != "-l"]
        env = {
            "PATH": str(self.path("/bin")),
            "HOME": str(self.path(HOME)),
            "LANG": "C.UTF-8",
            "FAKE_E2B_EGRESS": proxy,
            **self.body.get("envVars", {}),
            **envs,
        }
        env = {name: str(self.path(value)) if value == CA_FILE else value for name, value in env.items()}
        with self.lock:
            if self.gone:
                raise FileNotFoundError("the sandbox is gone")
            process = GuestProcess(words, cwd=self.path(cwd or HOME), env=env, stdin=stdin)
            self.processes[process.pid] = process
            self.started_pids.append(process.pid)
        return process

    def destroy(self) -> None:
        """End it: its processes are killed, its disk is removed."""
        with self.lock:
            self.gone = True
            processes = list(self.processes.values())
        for process in processes:
            process.kill_all()
        shutil.rmtree(self.root, ignore_errors=True)

    def processes_alive(self) -> bool:
        """Tell whether any process that was started in it still runs."""
        return any(_group_is_alive(pid) for pid in self.started_pids)

    def disk(self) -> Iterator[tuple[str, bytes]]:
        """Yield the files on its disk with their contents."""
        for path in sorted(self.root.rglob("*")):
            with contextlib.suppress(OSError):
                if path.is_file() and not path.is_symlink():
                    yield f"/{path.relative_to(self.root)}", path.read_bytes()


def _group_is_alive(group: int) -> bool:
    """Tell whether a process of a group runs; one that ended and was not yet waited for does not."""
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, member_of = status.read_text().rpartition(")")[2].split()[:3]
            if int(member_of) == group and state not in "ZX":
                return True
    return False
