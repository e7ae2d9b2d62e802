"""The least server that answers like PostHog: raw sockets, ready bytes, a process of its own.

python -m benchmarks.server ROWS [DELAY_SECONDS]     prints its port, ends with its stdin
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time


def body(rows: int) -> bytes:
    """An answer with so many rows of eight columns, nested properties among them; one row has one column."""
    if rows == 1:
        columns, results = ["n"], [[1]]
    else:
        columns = ["uuid", "event", "properties", "timestamp", "distinct_id", "n", "share", "flag"]
        results = [
            [
                f"0190c2aa-0000-7000-8000-{number:012d}",
                "$pageview",
                {"$browser": "Chrome", "$current_url": f"https://example.com/p/{number % 97}", "$screen": [1920, 1080]},
                "2026-01-02T03:04:05.678900Z",
                f"user-{number % 1009}",
                number,
                number / 7,
                number % 2 == 0,
            ]
            for number in range(rows)
        ]
    answer = {
        "results": results,
        "columns": columns,
        "types": [[name, "String"] for name in columns],
        "hasMore": None,
        "is_cached": False,
        "timezone": "UTC",
        "hogql": "SELECT 1",
        "query_status": None,
    }
    return json.dumps(answer).encode()


def serve(connection: socket.socket, answer: bytes, delay: float) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    stream = connection.makefile("rb")
    while line := stream.readline():
        length = 0
        while line not in (b"\r\n", b""):
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
            line = stream.readline()
        stream.read(length)
        if delay:
            time.sleep(delay)
        connection.sendall(answer)


def main() -> None:
    rows, delay = int(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 0.0
    content = body(rows)
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    print(listener.getsockname()[1], flush=True)
    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=serve, args=(connection, head.encode() + content, delay), daemon=True).start()


if __name__ == "__main__":
    main()
