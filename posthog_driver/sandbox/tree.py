"""Processes below a process, as this machine's ``/proc`` shows them: who they are, and what they use."""

from __future__ import annotations

import os
from contextlib import suppress

__all__ = ["children", "descendants", "used_memory"]

_SHARED_OUT = "smaps_rollup"
_PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


def children(pid: int) -> list[int]:
    """Return the processes that a process started and that have not ended; none if it has ended itself."""
    found: list[int] = []
    with suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            with suppress(OSError), open(f"/proc/{pid}/task/{task}/children", "rb") as file:
                found += map(int, file.read().split())
    return found


def descendants(pid: int) -> list[int]:
    """Return all processes below a process."""
    found: list[int] = []
    fresh = [pid]
    while fresh:
        fresh = [child for parent in fresh for child in children(parent)]
        found += fresh
    return found


def used_memory(pid: int) -> int:
    """Return the bytes of memory that the processes below one use; what they share counts once."""
    return sum(map(_proportional, descendants(pid)))


def _proportional(pid: int) -> int:
    """Return a process's part of the memory; all that is its own, where the kernel does not tell more."""
    with suppress(OSError, ValueError), open(f"/proc/{pid}/{_SHARED_OUT}", "rb") as file:
        for line in file:
            if line.startswith(b"Pss:"):
                return int(line.split()[1]) << 10
    with suppress(OSError, ValueError, IndexError), open(f"/proc/{pid}/statm", "rb") as file:
        _, resident, shared, *_ = map(int, file.read().split())
        return (resident - shared) * _PAGE
    return 0
