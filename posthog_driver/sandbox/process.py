"""One run in a process of this machine: started, listened to, answered, and ended whatever happens."""

from __future__ import annotations

import functools
import logging
import marshal
import os
import pkgutil
import selectors
import signal
import socket
import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

from posthog_driver._redaction import redact
from posthog_driver.sandbox.broker import MAX_REQUEST_BYTES
from posthog_driver.sandbox.errors import (
    ResultTooLargeError,
    SandboxConfigError,
    SandboxError,
    SandboxRunError,
    SandboxTimeoutError,
)
from posthog_driver.sandbox.levels import environment
from posthog_driver.sandbox.tree import children, used_memory
from posthog_driver.sandbox.wire import Tail

if TYPE_CHECKING:
    from types import CodeType

    from posthog_driver._clock import Clock
    from posthog_driver.sandbox.broker import Broker
    from posthog_driver.sandbox.levels import Launch
    from posthog_driver.sandbox.model import SandboxLimits

__all__ = ["Run"]

_CHUNK = 256 << 10
_LOOK = 0.1
_GRACE = 5.0
_DETAIL = 2_000
_ASKS, _TELLS = b"?="
# What bwrap and the process that watches take themselves.
_OWN_MEMORY = 16 << 20

logger = logging.getLogger("posthog_driver.sandbox")


@functools.cache
def _code(name: str) -> CodeType:
    source = pkgutil.get_data("posthog_driver.sandbox", f"{name}.py")
    return compile(source or b"", f"{name}.py", "exec", dont_inherit=True)


class Run:
    """A run that is going on; as a context manager it is started on entry and ended on exit.

    Args:
        launch: How it is started.
        request: What the runner reads.
        folder: Its home, for a run that has the machine's files.
        limits: What it may use.
        clock: Where time comes from.
        most: Bytes that a result may have, if less than ``max_result_bytes``.
    """

    def __init__(
        self, launch: Launch, request: bytes, folder: str, limits: SandboxLimits, clock: Clock, most: int | None = None
    ) -> None:
        self._launch = launch
        self._limits = limits
        self._most = min(limits.max_result_bytes, most or limits.max_result_bytes)
        self._clock = clock
        self._deadline = clock.monotonic() + limits.run_timeout
        self._folder = folder
        payload = marshal.dumps((_code("confine"), _code("runner"), launch.setup, request))
        self._outgoing = memoryview(len(payload).to_bytes(8, "big") + payload)
        self._incoming = bytearray()
        self._searched = 0
        self._result: bytes | None = None
        self._look = 0.0
        self.stdout, self.stderr = Tail(limits.max_log_bytes), Tail(limits.max_log_bytes)

    def __enter__(self) -> Run:
        self._socket, inside = socket.socketpair()
        program = None
        try:
            self._socket.setblocking(False)
            if self._launch.program is not None:
                program = _readable(self._launch.program)
            passed = [fd for fd in (inside.fileno(), program) if fd is not None]
            self._process = subprocess.Popen(
                self._launch.command(inside.fileno(), program),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                pass_fds=passed,
                env=environment(self._folder),
                cwd=self._folder,
                start_new_session=True,
            )
        except OSError as error:
            self._socket.close()
            raise SandboxConfigError(f"The sandbox's process could not be started: {error.strerror}.") from None
        finally:
            inside.close()
            if program is not None:
                os.close(program)
        return self

    def __exit__(self, *exception: object) -> None:
        self._socket.close()
        try:
            self._end()
        finally:
            for pipe in (self._process.stdout, self._process.stderr):
                if pipe:
                    pipe.close()

    def converse(self, broker: Broker) -> bytes:
        """Answer what the code inside asks, and return its result.

        Raises:
            SandboxTimeoutError: its time is over.
            ResultTooLargeError: the result is over the limit.
            SandboxRunError: it used too much memory, broke the protocol, or ended without a result.
        """
        with selectors.DefaultSelector() as selector:
            for pipe, tail in ((self._process.stdout, self.stdout), (self._process.stderr, self.stderr)):
                if pipe:
                    selector.register(pipe, selectors.EVENT_READ, tail)
            selector.register(self._socket, selectors.EVENT_WRITE)
            while selector.get_map():
                ready = self._wait(selector)
                if ready is None:
                    break
                for key, _ in ready:
                    if key.data is not None:
                        _read_output(selector, key)
                    elif self._outgoing:
                        self._send()
                    else:
                        self._receive(selector)
                self._advance(broker)
                if self._socket in selector.get_map():
                    wanted = selectors.EVENT_WRITE if self._outgoing else selectors.EVENT_READ
                    selector.modify(self._socket, wanted)
        return self._result if self._result is not None else self._fail()

    def _wait(self, selector: selectors.BaseSelector) -> list[tuple[selectors.SelectorKey, int]] | None:
        """Return what is ready, or None when a run that gave its result does not end by itself."""
        left = self._deadline - self._clock.monotonic()
        if left <= 0:
            if self._result is not None:
                return None
            raise SandboxTimeoutError(
                f"The run took longer than {self._limits.run_timeout:g} s (run_timeout) and was ended. Ask for less, "
                "or raise the limit.",
                detail=self._said(),
            )
        ready = selector.select(min(left, _LOOK))
        now = self._clock.monotonic()
        if now >= self._look:
            self._look = now + _LOOK
            if used_memory(self._process.pid) > self._limits.memory_bytes + _OWN_MEMORY:
                raise SandboxRunError(
                    f"The run used more than {self._limits.memory_bytes:,} bytes of memory (memory_bytes) and was "
                    "ended. Hold less at once, or raise the limit.",
                    detail=self._said(),
                )
        return ready

    def _send(self) -> None:
        try:
            sent = self._socket.send(self._outgoing[:_CHUNK])
        except BlockingIOError:
            return
        except OSError:  # it has ended; what it left to read says why
            sent = len(self._outgoing)
        self._outgoing = self._outgoing[sent:]

    def _receive(self, selector: selectors.BaseSelector) -> None:
        try:
            chunk = self._socket.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            chunk = b""
        if not chunk:
            selector.unregister(self._socket)
        elif self._result is None:
            self._incoming += chunk

    def _advance(self, broker: Broker) -> None:
        """Act on the lines that are there; while a reply is on its way, later ones wait."""
        while self._incoming and not self._outgoing and self._result is None:
            end = self._incoming.find(b"\n", self._searched)
            self._searched = len(self._incoming)
            self._check_line(len(self._incoming) if end < 0 else end)
            if end < 0:
                return
            line = bytes(self._incoming[1:end])
            mark = self._incoming[0]
            del self._incoming[: end + 1]
            self._searched = 0
            if mark == _ASKS:
                self._outgoing = memoryview(broker.answer(line, self._deadline - self._clock.monotonic()))
            else:
                self._result = line
                self._deadline = min(self._deadline, self._clock.monotonic() + _GRACE)

    def _check_line(self, size: int) -> None:
        mark = self._incoming[0]
        if mark not in (_ASKS, _TELLS):
            raise SandboxRunError(
                "What runs inside broke the protocol; nothing of it is returned.", detail=self._said()
            )
        if mark == _ASKS and size > MAX_REQUEST_BYTES:
            raise SandboxRunError(f"A query with its values has more than {MAX_REQUEST_BYTES:,} bytes.")
        if mark == _TELLS and size > self._most + 1:
            raise ResultTooLargeError(
                f"The result has more than {self._most:,} bytes (max_result_bytes); nothing of it is returned. Select "
                "fewer columns, aggregate, or add a LIMIT."
            )

    def _said(self) -> str | None:
        """Return the end of standard error, or of standard output, without secrets."""
        return redact((self.stderr.text().strip() or self.stdout.text().strip())[-_DETAIL:]) or None

    def _fail(self) -> NoReturn:
        try:
            status: int | None = self._process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            status = None
        said = self._said()
        last = f": {said.splitlines()[-1]}" if said else "."
        raise SandboxRunError(f"The run ended without a result, {_how(status)}{last}", detail=said)

    def _end(self) -> None:
        """End everything that was started, and wait until it has."""
        for _ in range(3):
            if self._process.poll() is not None:
                return
            self._signal()
            try:
                self._process.wait(_GRACE)
            except subprocess.TimeoutExpired:
                logger.warning("a sandbox of this machine does not end; trying again")
        raise SandboxError(f"Process {self._process.pid}, a sandbox, could not be ended: look after it.")

    def _signal(self) -> None:
        inner = children(self._process.pid) if self._launch.stop is signal.SIGKILL else []
        # The namespace's first process takes all others with it, and the one outside ends when it has.
        for pid in inner or [self._process.pid]:
            with suppress(ProcessLookupError):
                os.kill(pid, self._launch.stop)


def _how(status: int | None) -> str:
    """Say how a process ended; above 128 it tells of a signal."""
    if status is None:
        return "and did not end"
    number = -status if status < 0 else status - 128
    if number in {member.value for member in signal.Signals}:
        return f"by {signal.Signals(number).name}"
    return f"with exit code {status}"


def _read_output(selector: selectors.BaseSelector, key: selectors.SelectorKey) -> None:
    chunk = os.read(key.fd, _CHUNK)
    if chunk:
        key.data.add(chunk)
    else:
        selector.unregister(key.fileobj)


def _readable(content: bytes) -> int:
    """Return a file descriptor to read from; a pipe holds more than any program has."""
    reading, writing = os.pipe()
    os.write(writing, content)
    os.close(writing)
    return reading
