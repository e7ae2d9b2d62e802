"""Scripts that try to get out of a sandbox. Each prints ``escaped`` and what it got, or how it was refused.

``FACTS`` stands before each: what an attacker may know about the host.
"""

from __future__ import annotations

_TRY = '''
import ctypes, errno, os, signal, socket, sys, time

libc = ctypes.CDLL(None, use_errno=True)

def call(number, *arguments):
    """A bare system call: the libraries in between refuse nothing."""
    ctypes.set_errno(0)
    words = [ctypes.c_long(argument) if isinstance(argument, int) else argument for argument in arguments]
    result = libc.syscall(ctypes.c_long(number), *words)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result

def attempt(action):
    try:
        got = action()
    except (OSError, MemoryError, ImportError, ProcessLookupError) as error:
        print("refused:", type(error).__name__, error)
    else:
        print("escaped:" if got else "refused: got", got)
'''

ATTACKS = {
    "the environment of the host's process": """
def look():
    with open(f"/proc/{FACTS['pid']}/environ", "rb") as file:
        return FACTS["variable"].encode() in file.read()
attempt(look)
""",
    "the memory of the host's process through /proc": """
def look():
    with open(f"/proc/{FACTS['pid']}/mem", "rb", 0) as file:
        file.seek(FACTS["address"])
        return file.read(len(FACTS["in_memory"])).decode() == FACTS["in_memory"]
attempt(look)
""",
    "the memory of the host's process through a system call": """
class Part(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]
def look():
    size = len(FACTS["in_memory"])
    here = ctypes.create_string_buffer(size)
    ours, theirs = Part(ctypes.addressof(here), size), Part(FACTS["address"], size)
    call(FACTS["calls"]["process_vm_readv"], FACTS["pid"], ctypes.byref(ours), 1, ctypes.byref(theirs), 1, 0)
    return here.raw.decode() == FACTS["in_memory"]
attempt(look)
""",
    "a file of the project": """
attempt(lambda: open(FACTS["file"]).read())
""",
    "a file of the project through a symbolic link": """
def look():
    link = os.path.join(os.environ["TMPDIR"], "link")
    os.symlink(FACTS["file"], link)
    return open(link).read()
attempt(look)
""",
    "the names in a folder of the project": """
attempt(lambda: os.listdir(os.path.dirname(FACTS["file"])))
""",
    "the users of the machine": """
attempt(lambda: open("/etc/passwd").read())
""",
    "a new file outside": """
def write():
    with open(os.path.join(FACTS["folder"], "new"), "w") as file:
        file.write("x")
    return True
attempt(write)
""",
    "the end of a file outside": """
def remove():
    os.unlink(FACTS["spare"])
    return True
attempt(remove)
""",
    "the mode of a file outside": """
def change():
    os.chmod(FACTS["file"], 0o600)
    os.chmod(FACTS["file"], 0o644)
    return True
attempt(change)
""",
    "TCP": """
attempt(lambda: socket.create_connection(("127.0.0.1", FACTS["tcp"]), timeout=5).recv(5))
""",
    "UDP": """
def send():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        return udp.sendto(b"hello", ("127.0.0.1", FACTS["udp"])) and received("udp")
attempt(send)
""",
    "a name server": """
def ask():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        return udp.sendto(b"x" * 30, ("127.0.0.1", 53))
attempt(ask)
""",
    "an abstract unix socket": """
def connect():
    with socket.socket(socket.AF_UNIX) as unix:
        unix.settimeout(5)
        unix.connect("\\0" + FACTS["abstract"])
        return unix.recv(5)
attempt(connect)
""",
    "a unix socket with a path": """
def connect():
    with socket.socket(socket.AF_UNIX) as unix:
        unix.settimeout(5)
        unix.connect(FACTS["unix"])
        return unix.recv(5)
attempt(connect)
""",
    "a unix socket through one of a pair": """
def send():
    pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    return pair[0].sendto(b"hello", "\\0" + FACTS["datagrams"]) and received("datagrams")
attempt(send)
""",
    "a signal to a process of the host": """
def send():
    os.kill(FACTS["victim"], signal.SIGCONT)
    return True
attempt(send)
""",
    "tracing a process of the host": """
def attach():
    call(FACTS["calls"]["ptrace"], 16, FACTS["victim"], 0, 0)
    os.waitpid(FACTS["victim"], 0)
    call(FACTS["calls"]["ptrace"], 17, FACTS["victim"], 0, 0)
    return True
attempt(attach)
""",
    "the limits of a process of the host": """
import resource
def limit():
    resource.prlimit(FACTS["victim"], resource.RLIMIT_CORE, (0, 0))
    return True
attempt(limit)
""",
    "the priority of a process of the host": """
def change():
    os.setpriority(os.PRIO_PROCESS, FACTS["victim"], 19)
    return True
attempt(change)
""",
    "the processes of the machine": """
attempt(lambda: str(FACTS["pid"]) in os.listdir("/proc"))
""",
}

# What gives power over the machine. Never to be run without isolation: as root, it would be had.
POWERS = {
    "a raw socket": """
attempt(lambda: call(FACTS["calls"]["socket"], socket.AF_INET, socket.SOCK_RAW, 1) > 0)
""",
    "becoming root": """
def become():
    os.setuid(0)
    return os.getuid() == 0
attempt(become)
""",
    "a new user namespace": """
attempt(lambda: call(FACTS["calls"]["unshare"], 0x10000000) == 0)
""",
    "a new user namespace by a fork": """
def fork():
    pid = call(FACTS["calls"]["clone"], 0x10000000 | signal.SIGCHLD, 0, 0, 0, 0)
    if not pid:
        os._exit(0)
    return True
attempt(fork)
""",
    "a mount": """
attempt(lambda: call(FACTS["calls"]["mount"], b"none", FACTS["folder"].encode(), b"tmpfs", 0, None) == 0)
""",
    "io_uring": """
attempt(lambda: call(425, 4, ctypes.create_string_buffer(120)) > 0)
""",
    "memory that no limit counts": """
attempt(lambda: os.memfd_create("x") > 0)
""",
    "the kernel's keys": """
attempt(lambda: call(FACTS["calls"]["keyctl"], 0, -3, 1) != 0)
""",
    "a file by its handle": """
handle, mount = ctypes.create_string_buffer(200), ctypes.c_int()
attempt(lambda: call(FACTS["calls"]["name_to_handle_at"], -100, b"/", handle, ctypes.byref(mount), 0) == 0)
""",
    "writing to the interpreter's files": """
def write():
    with open(os.__file__, "a") as file:
        return True
attempt(write)
""",
    "a device": """
attempt(lambda: open(FACTS["device"], "rb").read(1))
""",
    "what the host left open": """
def look():
    kept = []
    for fd in range(3, 256):
        try:
            kept.append((fd, os.fstat(fd).st_mode))
        except OSError:
            pass
    return len(kept) > 1 and kept
attempt(look)
""",
    "a secret in the own environment": """
attempt(lambda: [name for name, value in os.environ.items() if FACTS["variable"] in value])
""",
    "a packet past the namespaces": """
attempt(lambda: call(FACTS["calls"]["socket"], 40, socket.SOCK_STREAM, 0) > 0)
""",
}


def script(text: str) -> str:
    """Return an attack as it is run; the host fills in the facts, and `received` asks it what has come in."""
    told = "def received(what):\n    return query('SELECT {what}', {'what': what})[0]['n']\n"
    return f"FACTS = {{}}\n{_TRY}\n{told}\n{text}"
