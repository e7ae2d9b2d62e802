"""Run by every Python inside a fake sandbox before anything else: each connection goes through the fake's way out."""

import base64
import os
import runpy
import socket
import sys


def _lead_out(place):
    host, port, name, token = place.split(":")
    credentials = base64.b64encode(f"{name}:{token}".encode()).decode()
    connect = socket.socket.connect

    def through(self, address):
        if self.family != socket.AF_INET:
            raise PermissionError("the fake sandbox speaks IPv4 only")
        connect(self, (host, int(port)))
        where = f"{address[0]}:{address[1]}"
        self.sendall(f"CONNECT {where} HTTP/1.1\r\nProxy-Authorization: Basic {credentials}\r\n\r\n".encode())
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            piece = self.recv(1)
            if not piece:
                raise ConnectionResetError("the way out was closed")
            head += piece
        if b" 200 " not in head.split(b"\r\n", 1)[0]:
            raise ConnectionRefusedError(f"{where} is not allowed")

    def resolve(host, port, *_, **__):
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, int(port or 0)))]

    socket.socket.connect = through
    socket.getaddrinfo = resolve


def _run(words):
    words = [word for word in words if word not in {"-I", "-S"}]  # it is that already
    if words[0] == "-c":
        sys.argv = ["-c", *words[2:]]
        exec(words[1], {"__name__": "__main__"})
    else:
        sys.argv = words
        runpy.run_path(words[0], run_name="__main__")


_lead_out(os.environ["FAKE_E2B_EGRESS"])
_run(sys.argv[1:])
