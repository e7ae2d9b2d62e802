"""The way out of a fake sandbox: one forward proxy that allows, denies, and puts headers on outside.

HTTPS is opened with a certificate of the fake's own authority, as the real one does; the authority is in the sandbox's
``/etc/ssl/certs/ca-certificates.crt``.
"""

from __future__ import annotations

import functools
import http.client
import ipaddress
import re
import ssl
import threading
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import trustme

__all__ = ["Authority", "Reply", "authority", "forward", "headers_for", "is_allowed", "problem_of_network"]

ALL = "0.0.0.0/0"
_SECRET = re.compile(r"\$\{e2b\.secrets\.([^{}]+)\}")
_NAME = re.compile(r"(?=.{1,128}\Z)([A-Za-z0-9_]([A-Za-z0-9_-]{0,62})\.)*[A-Za-z0-9_][A-Za-z0-9_-]{0,62}\.?")


class Authority:
    """Signs a certificate for any host, once each."""

    def __init__(self) -> None:
        self._ca = trustme.CA()
        self._contexts: dict[str, ssl.SSLContext] = {}
        self._lock = threading.Lock()

    @property
    def pem(self) -> bytes:
        """The authority's own certificate."""
        return self._ca.cert_pem.bytes()

    def context(self, host: str) -> ssl.SSLContext:
        """Return what a server needs to pose as a host."""
        with self._lock:
            if host not in self._contexts:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                self._ca.issue_cert(host).configure_cert(context)
                self._contexts[host] = context
            return self._contexts[host]


@functools.cache
def authority() -> Authority:
    """Return the one of this process: keys take time to make."""
    return Authority()


class Reply(NamedTuple):
    """What came back from outside."""

    status: int
    headers: Sequence[tuple[str, str]]
    body: bytes


def is_address(host: str) -> bool:
    try:
        ipaddress.ip_network(host, strict=False)
    except ValueError:
        return False
    return True


def problem_of_network(network: Mapping[str, Any], *, rules_enabled: bool) -> str | None:
    """Return why the service refuses a network configuration, or None."""
    allow, deny = network.get("allowOut") or [], network.get("denyOut") or []
    for entry in deny:
        if not is_address(entry):
            return f"invalid denied CIDR {entry}"
    if any(not is_address(entry) for entry in allow) and ALL not in deny:
        return (
            "When specifying allowed domains in allow out, you must include 'ALL_TRAFFIC' in deny out to block all "
            "other traffic."
        )
    rules = network.get("rules")
    if rules is None:
        return None
    if not rules_enabled:
        return "Network transform rules are not available for your team."
    if len(rules) > 10:
        return "Network rules can have at most 10 domains."
    for host, entries in rules.items():
        if is_address(host) or not _NAME.fullmatch(host):
            return f'Rule domain "{host}" is not a valid domain name.'
        if len(entries) > 1:
            return f'Domain "{host}" can have at most 1 transform rule.'
        for name, value in entries[0].get("transform", {}).get("headers", {}).items():
            if len(value) > 2_048:
                return (
                    f'Value for header "{name}" in rule for domain "{host}" exceeds maximum length of 2048 characters.'
                )
            if "\r" in value or "\n" in value:
                return f'Value for header "{name}" in rule for domain "{host}" must not contain CR or LF characters.'
    return None


def is_allowed(body: Mapping[str, Any], host: str) -> bool:
    """Tell whether a sandbox that was created with ``body`` may reach a host: what is allowed wins over what is not."""
    network = body.get("network") or {}
    if host in (network.get("allowOut") or []):
        return True
    return ALL not in (network.get("denyOut") or []) and body.get("allow_internet_access", True) is not False


def headers_for(body: Mapping[str, Any], host: str, secrets: Mapping[str, str]) -> dict[str, str]:
    """Return the headers that are put on requests to a host, secrets filled in.

    Raises:
        KeyError: there is no secret of that name.
    """
    rules = (body.get("network") or {}).get("rules") or {}
    headers: dict[str, str] = {}
    for rule in rules.get(host, []):
        headers.update((rule.get("transform") or {}).get("headers") or {})
    return {name: _SECRET.sub(lambda match: secrets[match[1]], value) for name, value in headers.items()}


def forward(base: str, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Reply:
    """Send a request on to where the route of its host leads."""
    url = urllib.parse.urlsplit(base)
    connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=60)
    try:
        own = {name: value for name, value in headers.items() if name.lower() != "host"}
        connection.request(method, path, body, own)
        answer = connection.getresponse()
        kept = [(name, value) for name, value in answer.getheaders() if name.lower() not in _HOP]
        return Reply(answer.status, kept, answer.read())
    finally:
        connection.close()


_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "proxy-authorization", "te", "upgrade"}
