"""Scripts that use more than they may, or do not end; and the limits that each one is run with."""

from __future__ import annotations

_FORKS = """
import os, signal, time
made = 0
for _ in range(60):
    try:
        pid = os.fork()
    except OSError:
        break
    if not pid:
        time.sleep(30)
        os._exit(0)
    made += 1
print(made)
"""
_STAYS = """
import os, subprocess, sys, time
TOKEN = "left-behind"
for _ in range(2):
    if not os.fork():
        os.setsid()
        if not os.fork():
            for fd in range(3):
                os.close(fd)
            os.execv(sys.executable, [sys.executable, "-I", "-S", "-c", "import time; time.sleep(60)", TOKEN])
        os._exit(0)
found = 0
for _ in range(90):
    found = query("SELECT {alive}", {"alive": TOKEN})[0]["n"]
    if found == 2:
        break
    time.sleep(0.05)
print(found)
"""
_WIRE = """
import os, stat
def is_socket(fd):
    try:
        return stat.S_ISSOCK(os.fstat(fd).st_mode)
    except OSError:
        return False
(wire,) = filter(is_socket, range(3, 256))
"""

EXCESSES: dict[str, tuple[str, dict[str, float]]] = {
    "forks": (_FORKS, {"max_processes": 12}),
    "threads": (
        """
import threading
wait = threading.Event()
made = 0
try:
    for _ in range(60):
        threading.Thread(target=wait.wait, daemon=True).start()
        made += 1
except RuntimeError:
    pass
print(made)
""",
        {"max_processes": 12},
    ),
    "memory": ("held = bytearray(300 << 20)", {"memory_bytes": 128 << 20}),
    "memory of many": (
        """
import os, time
for _ in range(6):
    if not os.fork():
        held = b"x" * (60 << 20)
        time.sleep(60)
time.sleep(60)
""",
        {"memory_bytes": 128 << 20},
    ),
    "output": (
        """
import sys
for _ in range(10):
    sys.stdout.write("x" * (1 << 20))
    sys.stderr.write("y" * (1 << 20))
print("the end")
""",
        {"max_log_bytes": 1000},
    ),
    "files": (
        """
import os
try:
    for number in range(80):
        with open(os.path.join(os.environ["TMPDIR"], str(number)), "wb") as file:
            file.write(b"x" * (1 << 20))
except OSError as error:
    print(number, type(error).__name__)
else:
    print("all")
""",
        {},
    ),
    "time": ("while True: pass", {"run_timeout": 1.0}),
    "time, with signals ignored": (
        """
import signal, time
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
while True:
    time.sleep(1)
""",
        {"run_timeout": 1.0},
    ),
    "time, with processes that left": (f"{_STAYS}\nwhile True: pass", {"run_timeout": 2}),
    "processes that left": (_STAYS, {}),
    "a thread that goes on": (
        "import threading, time\nthreading.Thread(target=time.sleep, args=(60,)).start()\nprint('over')",
        {},
    ),
    "an exit": ("import os; os._exit(3)", {}),
    "a crash": ("import ctypes; ctypes.string_at(0)", {}),
    "a closed wire": (f"{_WIRE}\nos.close(wire)", {}),
    "nonsense on the wire": (f"{_WIRE}\nos.write(wire, b'hello' + bytes([10]))\nwhile True: pass", {}),
    "an endless question": (f"{_WIRE}\nwhile True: os.write(wire, b'?' * 65536)", {}),
    "an endless answer": (f"{_WIRE}\nwhile True: os.write(wire, b'=' * 65536)", {}),
    "an answer that is none": (f"{_WIRE}\nos.write(wire, b'=[1]' + bytes([10]))\nos._exit(0)", {}),
    "questions without end": (
        """
while True:
    try:
        query("SELECT {alive}", {"alive": "x"})
    except QueryError as error:
        print(error.kind)
""",
        {"max_queries": 3},
    ),
}

ALONE = ("forks", "threads")
"""Counted by user, where there are no namespaces: others at the same time would count as well."""
