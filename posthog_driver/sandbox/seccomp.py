"""The system calls that nothing in a local sandbox may make, as a seccomp program.

It closes what namespaces and Landlock leave open: sockets of any kind, which UDP and ``/run/*.sock`` need; changing
modes and owners, where Landlock does not look; limits and priorities of other processes; new namespaces, tracing, the
kernel's less travelled paths (io_uring, bpf, keys), and memory that no limit counts (memfd, System V).
"""

from __future__ import annotations

import platform
import struct
import sys

__all__ = ["SOCKET_ERROR", "program"]

_ALLOW, _KILL = 0x7FFF0000, 0x80000000
_ERRNO = 0x00050000
_EPERM, _EACCES, _ENOSYS = 1, 13, 38
SOCKET_ERROR = _EACCES
"""What ``socket()`` fails with."""

_LOAD, _EQUAL, _ABOVE, _ANY_BIT, _AND, _RETURN = 0x20, 0x15, 0x25, 0x45, 0x54, 0x06
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
_NEW_NAMESPACES = 0x7E020000  # NEWNS, CGROUP, UTS, IPC, USER, PID, NET; NEWTIME is no flag of clone
_STREAM, _TYPE_BITS = 1, 0xF
_X32 = 0x40000000

# The last call that is known here: later ones do not exist for the sandbox, as on an older kernel.
_LAST = 450

# Numbers of x86_64 and of aarch64; None where there is no such call.
_SOCKETS = {
    "socket": (41, 198),
    "connect": (42, 203),
    "bind": (49, 200),
    "listen": (50, 201),
    "accept": (43, 202),
    "accept4": (288, 242),
}
_REFUSED = {
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "kcmp": (312, 272),
    "pidfd_send_signal": (424, 424),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    "process_madvise": (440, 440),
    "process_mrelease": (448, 448),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    "setpriority": (141, 140),
    "ioprio_set": (251, 30),
    "unshare": (272, 97),
    "setns": (308, 268),
    "chroot": (161, 51),
    "pivot_root": (155, 41),
    "mount": (165, 40),
    "umount2": (166, 39),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "reboot": (169, 142),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "acct": (163, 89),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "iopl": (172, None),
    "ioperm": (173, None),
    "modify_ldt": (154, None),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "clock_adjtime": (305, 266),
    "adjtimex": (159, 171),
    "syslog": (103, 116),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "fanotify_init": (300, 262),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "shmget": (29, 194),
    "shmat": (30, 196),
    "msgget": (68, 186),
    "semget": (64, 190),
    "mq_open": (240, 180),
    "personality": (135, 92),
    "vhangup": (153, 58),
    "nfsservctl": (180, 42),
    "lookup_dcookie": (212, 18),
}
# Landlock does not look at these; with namespaces there is nothing that they could reach.
_ATTRIBUTES = {
    "chmod": (90, None),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "chown": (92, None),
    "fchown": (93, 55),
    "lchown": (94, None),
    "fchownat": (260, 54),
    "utime": (132, None),
    "utimes": (235, None),
    "futimesat": (261, None),
    "utimensat": (280, 88),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "fsetxattr": (190, 7),
    "removexattr": (197, 14),
    "lremovexattr": (198, 15),
    "fremovexattr": (199, 16),
    "truncate": (76, 45),
    "inotify_init": (253, None),
    "inotify_init1": (294, 26),
}
_SIGNALS = {
    "kill": (62, 129),
    "tkill": (200, 130),
    "tgkill": (234, 131),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
}
# Allowed for the calling process only, which is 0.
_OWN = {
    "prlimit64": (302, 261),
    "sched_setaffinity": (203, 122),
    "sched_setparam": (142, 118),
    "sched_setscheduler": (144, 119),
    "sched_setattr": (314, 274),
}
# A file whose owner is another process sends it signals.
_OWNERS = {"fcntl": ((72, 25), (8, 10, 15)), "ioctl": ((16, 29), (0x8901, 0x8902))}
_CLONE, _CLONE3, _SOCKETPAIR = (56, 220), 435, (53, 199)
_ARCHITECTURES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}


def program(*, attributes: bool, signals: bool, machine: str | None = None) -> bytes | None:
    """Return the program as the kernel takes it, or None for a machine whose calls are not known here.

    Args:
        attributes: Refuse to change modes, owners, times and the like, and to watch files.
        signals: Refuse to send signals, to anybody.
        machine: As ``platform.machine()`` has it.
    """
    known = _ARCHITECTURES.get(machine or platform.machine())
    if known is None or sys.byteorder != "little":
        return None
    architecture, column = known
    refused = [*_REFUSED.values(), *(_ATTRIBUTES.values() if attributes else ())]
    refused += _SIGNALS.values() if signals else ()
    code = [
        _step(_LOAD, _ARCHITECTURE),
        _step(_EQUAL, architecture, 1, 0),
        _step(_RETURN, _KILL),
        _step(_LOAD, _NUMBER),
    ]
    # One call under another number: the x32 way into the same kernel.
    code += [_step(_ANY_BIT, _X32, 0, 1), _step(_RETURN, _ERRNO | _ENOSYS)]
    code += [_step(_ABOVE, _LAST, 0, 1), _step(_RETURN, _ERRNO | _ENOSYS)]
    code += _refuse(_CLONE3, _ENOSYS)  # its flags cannot be seen, and libc then takes clone
    for numbers in refused:
        code += _refuse(numbers[column], _EPERM)
    for numbers in _SOCKETS.values():
        code += _refuse(numbers[column], SOCKET_ERROR)
    for numbers in _OWN.values():
        code += _refuse_unless_zero(numbers[column])
    for numbers, commands in _OWNERS.values() if signals else ():
        code += _refuse_commands(numbers[column], commands)
    code += _refuse_namespaces(_CLONE[column])
    code += _refuse_datagrams(_SOCKETPAIR[column])
    return b"".join([*code, _step(_RETURN, _ALLOW)])


def _step(operation: int, operand: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("<HBBI", operation, if_true, if_false, operand)


def _refuse(number: int | None, error: int) -> list[bytes]:
    if number is None:
        return []
    return [_step(_EQUAL, number, 0, 1), _step(_RETURN, _ERRNO | error)]


def _refuse_unless_zero(number: int) -> list[bytes]:
    """Look at the low half of the first argument: a process id has no more."""
    return [
        _step(_EQUAL, number, 0, 4),
        _step(_LOAD, _ARGUMENTS),
        _step(_EQUAL, 0, 1, 0),
        _step(_RETURN, _ERRNO | _EPERM),
        _step(_RETURN, _ALLOW),
    ]


def _refuse_commands(number: int, commands: tuple[int, ...]) -> list[bytes]:
    """Look at the second argument."""
    tests = [step for command in commands for step in _refuse(command, _EPERM)]
    return [
        _step(_EQUAL, number, 0, len(tests) + 2),
        _step(_LOAD, _ARGUMENTS + 8),
        *tests,
        _step(_RETURN, _ALLOW),
    ]


def _refuse_namespaces(number: int) -> list[bytes]:
    return [
        _step(_EQUAL, number, 0, 4),
        _step(_LOAD, _ARGUMENTS),
        _step(_ANY_BIT, _NEW_NAMESPACES, 0, 1),
        _step(_RETURN, _ERRNO | _EPERM),
        _step(_RETURN, _ALLOW),
    ]


def _refuse_datagrams(number: int) -> list[bytes]:
    """A pair of datagram sockets can be turned to any address; a pair of streams cannot."""
    return [
        _step(_EQUAL, number, 0, 5),
        _step(_LOAD, _ARGUMENTS + 8),
        _step(_AND, _TYPE_BITS),
        _step(_EQUAL, _STREAM, 1, 0),
        _step(_RETURN, _ERRNO | SOCKET_ERROR),
        _step(_RETURN, _ALLOW),
    ]
