"""The connections of a server: how many there are, how slowly they may send, and whether somebody is still there."""

from __future__ import annotations

import io
import select
import socket
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

__all__ = ["Connections", "PacedReader", "Vigil"]


class Connections:
    """The open connections. Thread-safe.

    Each has a thread, so there are at most so many. One that waits for its next request has to make room for a
    new one when there are too many: HTTP allows a server to close it at any time, and clients open another.

    Args:
        most: How many may be open.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._idle: OrderedDict[socket.socket, None] = OrderedDict()
        self._resetting: set[socket.socket] = set()

    def admit(self, connection: socket.socket) -> bool:
        """Take a new connection, in place of the one that is idle for longest if there are too many.

        Returns:
            False when all of them are busy.
        """
        with self._lock:
            if len(self._open) >= self._most:
                if not self._idle:
                    return False
                oldest, _ = self._idle.popitem(last=False)
                self._open.discard(oldest)
                with suppress(OSError):  # it may have left by itself
                    oldest.shutdown(socket.SHUT_RDWR)
            self._open.add(connection)
            return True

    def set_idle(self, connection: socket.socket) -> None:
        """Note that a connection waits for a request."""
        with self._lock:
            if connection in self._open:
                self._idle[connection] = None

    def set_busy(self, connection: socket.socket) -> None:
        """Note that the head of a request has come."""
        with self._lock:
            self._idle.pop(connection, None)

    def set_resetting(self, connection: socket.socket) -> None:
        """Note that a connection is to end with a reset."""
        with self._lock:
            self._resetting.add(connection)

    def remove(self, connection: socket.socket) -> bool:
        """Forget a connection that ends.

        Returns:
            Whether it is to end with a reset.
        """
        with self._lock:
            self._open.discard(connection)
            self._idle.pop(connection, None)
            is_resetting = connection in self._resetting
            self._resetting.discard(connection)
            return is_resetting

    def __len__(self) -> int:
        """Return how many are open."""
        with self._lock:
            return len(self._open)


class PacedReader(io.RawIOBase):
    """Reads from a connection with two limits: one for silence, one for a whole request.

    The second one is for callers that send byte by byte: it runs from the first byte of a request to its last.

    Args:
        connection: Where to read.
        idle_seconds: How long nothing may come.
        request_seconds: How long one request may take to come.
    """

    def __init__(self, connection: socket.socket, idle_seconds: float, request_seconds: float) -> None:
        self._connection = connection
        self._idle_seconds = idle_seconds
        self._request_seconds = request_seconds
        self._deadline: float | None = None

    def next_request(self) -> None:
        """Begin to wait for a request."""
        self._deadline = None

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """Read what there is.

        Raises:
            TimeoutError: One of the limits is reached.
        """
        left = self._idle_seconds
        if self._deadline is not None:
            left = min(left, self._deadline - time.monotonic())
            if left <= 0:
                raise TimeoutError("the request took too long to come")
        self._connection.settimeout(left)
        count = self._connection.recv_into(buffer)
        if self._deadline is None:
            self._deadline = time.monotonic() + self._request_seconds
        return count


class Vigil:
    """Looks, from a thread of its own, whether callers are still there while their queries run.

    A caller that has closed its half of the connection counts as gone, as for other servers.

    Args:
        every: Seconds between two looks.
    """

    def __init__(self, every: float = 0.1) -> None:
        self._every = every
        self._changed = threading.Condition()
        self._watched: dict[socket.socket, Callable[[], object]] = {}
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    @contextmanager
    def watch(self, connection: socket.socket, act: Callable[[], object]) -> Iterator[None]:
        """Look out for a caller.

        Args:
            connection: Where it called.
            act: What is done, once and in a thread of its own, when it is gone.
        """
        with self._changed:
            self._watched[connection] = act
            self._changed.notify()
            if self._thread is None:
                self._thread = threading.Thread(target=self._look, name="vigil", daemon=True)
                self._thread.start()
        try:
            yield
        finally:
            with self._changed:
                self._watched.pop(connection, None)

    def close(self) -> None:
        """Look no more."""
        self._closed.set()
        with self._changed:
            self._changed.notify()

    def _look(self) -> None:
        while not self._closed.wait(self._every):
            with self._changed:
                self._changed.wait_for(lambda: self._watched or self._closed.is_set())
                gone = [connection for connection in self._watched if _is_gone(connection)]
                acts = [self._watched.pop(connection) for connection in gone]
            for act in acts:
                threading.Thread(target=act, name="hung-up", daemon=True).start()


def _is_gone(connection: socket.socket) -> bool:
    try:
        poll = select.poll()
        poll.register(connection, select.POLLIN)
        return bool(poll.poll(0)) and connection.recv(1, socket.MSG_PEEK) == b""
    except (OSError, ValueError):
        return True
