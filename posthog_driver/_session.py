"""The ``requests.Session`` the transport sends with: pool, TLS and deadline, and nothing carried along by accident.

What it changes, and why:

* The whole response has to arrive within the attempt's time-out. requests' own ``timeout`` bounds each read, so that a
  server sending a byte now and then would never time out.
* The pool holds a connection for each of 64 threads; the default of 10 reconnects under load.
* One TLS context serves all connections; by default the CA bundle (hundreds of certificates) is parsed for each of
them.
* No redirect is followed, no cookie kept, and ``~/.netrc`` is not read: each of them can send a key, or a body with
  personal data, where nobody meant it to go. Proxies and CA bundles from the environment are honoured, read once.
* urllib3 retries nothing by itself.
"""

from __future__ import annotations

import http.client
import io
import ssl
from http.cookiejar import DefaultCookiePolicy
from time import monotonic
from typing import TYPE_CHECKING, Any

import requests
from requests.adapters import DEFAULT_CA_BUNDLE_PATH, HTTPAdapter
from requests.cookies import RequestsCookieJar
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.poolmanager import ProxyManager

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping

    from urllib3 import PoolManager

__all__ = ["DriverSession", "PoolAdapter"]

POOL_SIZE = 64
_ONE_WRITE = 64 << 10


class _DeadlineReader(io.RawIOBase):
    """Reads a socket until a moment, however often the bytes come."""

    def __init__(self, sock: socket.socket, timeout: float) -> None:
        self._sock = sock
        self._raw = sock.makefile("rb", buffering=0)
        self._deadline = monotonic() + timeout

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        remaining = self._deadline - monotonic()
        if remaining <= 0:
            raise TimeoutError("the whole response did not arrive in time")
        self._sock.settimeout(remaining)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _SocketWithDeadline:
    """What ``http.client.HTTPResponse`` asks of a socket: one ``makefile``."""

    def __init__(self, sock: socket.socket, timeout: float) -> None:
        self._reader = _DeadlineReader(sock, timeout)

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(self._reader, 65_536)


class _DeadlineResponse(http.client.HTTPResponse):
    """Starts the response's clock when reading starts: the socket carries what is left of the attempt's time-out."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        timeout = sock.gettimeout()
        source: Any = sock if timeout is None else _SocketWithDeadline(sock, timeout)
        super().__init__(source, *args, **kwargs)

    def begin(self) -> None:
        super().begin()
        # Without a length the body ends with the connection. A connection that ends inside the headers looks just like
        # that with an empty body, and http.client does not tell: no server of an API sends such an answer.
        if self.length is None and not self.chunked and not self.fp.peek(1):
            raise http.client.RemoteDisconnected("the connection was closed before the answer was complete")


class _OneWrite:
    """Sends the headers together with a small body: one packet and one wake-up of the server instead of two."""

    response_class: Any = _DeadlineResponse
    _held: bytes | None = None

    def request(self, method: str, url: str, body: Any = None, headers: Any = None, **options: Any) -> None:
        self._held = b"" if isinstance(body, (bytes, bytearray)) and 0 < len(body) <= _ONE_WRITE else None
        super().request(method, url, body, headers, **options)  # type: ignore[misc]

    def send(self, data: Any) -> None:
        if self._held == b"":
            self._held = data
            return
        if self._held:
            data, self._held = self._held + data, None
        super().send(data)  # type: ignore[misc]


class _Connection(_OneWrite, HTTPConnection):
    pass


class _SecureConnection(_OneWrite, HTTPSConnection):
    pass


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


_POOLS = {"http": _Pool, "https": _SecurePool}


class PoolAdapter(HTTPAdapter):
    """The adapter mounted for both schemes; ``renew`` gives it fresh pools in a forked child."""

    def __init__(self) -> None:
        self._contexts: dict[str, ssl.SSLContext] = {}
        self._pools: dict[object, Any] = {}
        super().__init__(pool_connections=POOL_SIZE, pool_maxsize=POOL_SIZE, max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, proxy: str, **proxy_kwargs: Any) -> PoolManager:
        manager: PoolManager = super().proxy_manager_for(proxy, **proxy_kwargs)
        # The manager of SOCKS proxies brings connections of its own, which know how to reach the proxy.
        if isinstance(manager, ProxyManager):
            manager.pool_classes_by_scheme = _POOLS
        return manager

    def renew(self) -> None:
        """Forget all connections without closing them: after a fork they belong to the parent."""
        self._pools = {}
        self.init_poolmanager(POOL_SIZE, POOL_SIZE)
        self.proxy_manager = {}

    def close(self) -> None:
        self._pools = {}
        super().close()

    def get_connection_with_tls_context(
        self, request: requests.PreparedRequest, verify: Any, proxies: Any = None, cert: Any = None
    ) -> Any:
        """Return the pool for a request; finding it anew each time would cost a tenth of a call."""
        origin = tuple((request.url or "").split("/", 3)[:3])
        key = (origin, verify, cert, tuple(proxies.items()) if proxies else None)
        pool = self._pools.get(key)
        if pool is None:
            pool = super().get_connection_with_tls_context(request, verify, proxies, cert)
            if len(self._pools) < POOL_SIZE:
                self._pools[key] = pool
        return pool

    def build_connection_pool_key_attributes(
        self, request: requests.PreparedRequest, verify: Any, cert: Any = None
    ) -> tuple[Any, Any]:
        attributes: tuple[Any, Any] = super().build_connection_pool_key_attributes(request, verify, cert)
        host, pool = attributes
        if host["scheme"] == "https" and verify is not False and cert is None:
            pool.pop("ca_certs", None)
            pool.pop("ca_cert_dir", None)
            pool["ssl_context"] = self._context(verify)
        return attributes

    def request_url(self, request: requests.PreparedRequest, proxies: Any) -> str:
        """Return what stands in the request line: without a proxy, the path."""
        if proxies:
            return str(super().request_url(request, proxies))
        return "/" + (request.url or "").split("/", 3)[3]

    def build_response(self, req: requests.PreparedRequest, resp: Any) -> requests.Response:
        """Wrap urllib3's answer, without looking for cookies."""
        response = requests.Response()
        response.status_code = resp.status
        response.reason = resp.reason
        # urllib3's own mapping ignores case too; copying it into requests' one takes as long as parsing the answer.
        headers: Any = resp.headers
        response.headers = headers
        response.url = req.url or ""
        response.raw = resp
        response.request = req
        response.connection = self
        return response

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
        # The shared context knows the CAs already; setting ca_certs would make urllib3 read them again each time.
        if verify is False or cert is not None:
            super().cert_verify(conn, url, verify, cert)  # type: ignore[no-untyped-call]

    def _context(self, verify: Any) -> ssl.SSLContext:
        path = verify if isinstance(verify, str) else DEFAULT_CA_BUNDLE_PATH
        if path not in self._contexts:
            import os.path

            folder = os.path.isdir(path)
            self._contexts[path] = ssl.create_default_context(
                cafile=None if folder else path, capath=path if folder else None
            )
        return self._contexts[path]


class _NoCookies(RequestsCookieJar):
    """A jar that takes nothing from a response."""

    def extract_cookies(self, response: Any, request: Any) -> None:
        """Ignore what the server wants to have stored."""


class DriverSession(requests.Session):
    """A session with the adapter above; ``headers``, ``verify``, ``cert``, ``proxies`` and ``mount`` work as usual."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        super().__init__()
        self.cookies = _NoCookies(DefaultCookiePolicy(allowed_domains=()))
        self.headers.clear()
        self.headers.update(headers)
        for prefix in ("https://", "http://"):
            self.mount(prefix, PoolAdapter())
        self.trust_env = False
        self._from_environment: dict[str, dict[str, Any]] = {}

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Return None: a redirect is an answer for the transport to judge, not to follow."""
        return None

    def settings_for(self, url: str) -> dict[str, Any]:
        """Return ``proxies``, ``verify`` and ``cert`` for a URL: the session's own, else the environment's."""
        if url not in self._from_environment:
            # A plain session, never sent with, reads the proxy and CA variables as requests always does.
            settings: Any = requests.Session().merge_environment_settings(url, {}, True, None, None)
            self._from_environment[url] = settings
        found = self._from_environment[url]
        return {
            "verify": found["verify"] if self.verify is True else self.verify,
            "cert": self.cert,
            "proxies": {**found["proxies"], **self.proxies},
        }

    def renew(self) -> None:
        """Start over with no connection: called in a forked child."""
        for adapter in self.adapters.values():
            if isinstance(adapter, PoolAdapter):
                adapter.renew()
