"""HTTP/1.1 and Connect frames, as much as the SDK of E2B speaks over plain sockets."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

__all__ = ["Handler", "Server", "frame", "frames", "multipart"]

END = 0b10


class Server(ThreadingHTTPServer):
    """A server on a free port of loopback, a thread for each connection."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that went away."""


class Handler(BaseHTTPRequestHandler):
    """Whole bodies in and out, and connections that break on demand."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""

    def body(self) -> bytes:
        """Return the whole body of the request."""
        return b"".join(self.pieces())

    def pieces(self) -> Iterator[bytes]:
        """Yield the body as it arrives."""
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            left = int(self.headers.get("Content-Length") or 0)
            while left:
                piece = self.rfile.read(min(left, 1 << 20))
                if not piece:
                    return
                left -= len(piece)
                yield piece
            return
        while size := int(self.rfile.readline().split(b";")[0], 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass

    def reply(
        self, status: int, body: Any = b"", headers: Sequence[tuple[str, str]] = (), kind: str | None = None
    ) -> None:
        """Answer: bytes as they are, anything else as JSON."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        if data or kind:
            default = "application/octet-stream" if isinstance(body, bytes) else "application/json"
            self.send_header("Content-Type", kind or default)
        for name, value in headers:
            self.send_header(name, value)
        if status != HTTPStatus.NO_CONTENT:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def begin_stream(self, kind: str) -> None:
        """Start an answer that comes in pieces."""
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def send_piece(self, data: bytes) -> None:
        """Send a piece; an empty one ends the answer."""
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

    def hang_up(self) -> None:
        """Reset the connection instead of answering."""
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.rfile.close()
            self.connection.close()

    def finish(self) -> None:
        """Close quietly, also what is broken already."""
        with contextlib.suppress(OSError, ValueError):
            super().finish()
        self.connection.close()  # which is another one than the server's, if it speaks TLS


def frame(message: Any, flag: int = 0) -> bytes:
    """Return one frame of a Connect stream."""
    data = json.dumps(message).encode()
    return struct.pack(">BI", flag, len(data)) + data


def frames(pieces: Iterator[bytes]) -> Iterator[Any]:
    """Yield the messages of a Connect stream as they arrive."""
    buffer = b""
    for piece in pieces:
        buffer += piece
        while len(buffer) >= 5:
            flag, size = struct.unpack(">BI", buffer[:5])
            if len(buffer) < 5 + size:
                break
            data, buffer = buffer[5 : 5 + size], buffer[5 + size :]
            if not flag & END:
                yield json.loads(data)


def multipart(body: bytes, kind: str) -> Iterator[tuple[str, bytes]]:
    """Yield the file name and the content of each part."""
    boundary = kind.split("boundary=", 1)[1].strip('"').encode()
    for part in body.split(b"--" + boundary)[1:-1]:
        head, _, content = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        name = head.decode().split('filename="', 1)[1].split('"', 1)[0]
        yield name, content.removesuffix(b"\r\n")
