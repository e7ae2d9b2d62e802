"""The session that everything is sent with: TLS, proxies, pools, and nothing that leaks by accident."""

from __future__ import annotations

import http.client
import itertools
import os
import signal
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests
import trustme
from urllib3 import PoolManager
from urllib3.exceptions import InsecureRequestWarning

from posthog_driver._session import POOL_SIZE, DriverSession, PoolAdapter
from posthog_driver.exceptions import ConnectionError
from posthog_driver.testing import FaultServer, answer, query_answer, redirect

OK = answer(200, query_answer([[1]], ["n"]))
ROWS = [{"n": 1}]


class SecureServer(ThreadingHTTPServer):
    """Answers every query over TLS, a connection for each; a client may show a certificate."""

    daemon_threads = True

    def __init__(self, authority: trustme.CA) -> None:
        super().__init__(("127.0.0.1", 0), SecureHandler)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        authority.configure_trust(context)
        context.verify_mode = ssl.CERT_OPTIONAL
        self.socket = context.wrap_socket(self.socket, server_side=True)
        self.url = f"https://127.0.0.1:{self.server_port}"
        self.certificates: list[Any] = []


class SecureHandler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.server.certificates.append(self.connection.getpeercert())  # type: ignore[attr-defined]
        self.rfile.read(int(self.headers["Content-Length"]))
        self.wfile.write(OK.data)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def bundle(authority: trustme.CA, tmp_path: Path) -> str:
    """The authority's certificate in a file."""
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return str(path)


@pytest.fixture
def secure(authority: trustme.CA, monkeypatch: pytest.MonkeyPatch) -> Iterator[SecureServer]:
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    with SecureServer(authority) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


class TestCertificates:
    def test_of_an_unknown_authority_are_refused(self, connect: Any, fails: Any, secure: SecureServer) -> None:
        with fails(ConnectionError, match="certificate verify failed"):
            connect(api_url=secure.url, max_retries=1).query("SELECT 1")
        assert secure.certificates == []

    def test_that_are_not_trusted_are_not_tried_again(self, connect: Any, fails: Any, secure: SecureServer) -> None:
        with fails(ConnectionError, match="Not retried: a certificate that is not trusted stays so") as caught:
            connect(api_url=secure.url).query("SELECT 1")
        assert caught.value.attempts == 1

    @pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
    def test_are_checked_against_the_bundle_of_the_environment(
        self, variable: str, connect: Any, secure: SecureServer, bundle: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(variable, bundle)
        assert connect(api_url=secure.url).query("SELECT 1") == ROWS

    def test_are_checked_against_the_session_s_own_bundle_first(
        self, connect: Any, secure: SecureServer, bundle: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere.pem")
        client = connect(api_url=secure.url)
        client.session.verify = bundle
        assert client.query("SELECT 1") == ROWS

    def test_are_checked_against_a_folder(self, connect: Any, fails: Any, secure: SecureServer, tmp_path: Path) -> None:
        client = connect(api_url=secure.url, max_retries=1)
        client.session.verify = str(tmp_path)  # nobody in it
        with fails(ConnectionError, match="certificate verify failed"):
            client.query("SELECT 1")

    def test_are_not_checked_where_that_is_switched_off(self, connect: Any, secure: SecureServer) -> None:
        client = connect(api_url=secure.url)
        client.session.verify = False
        with pytest.warns(InsecureRequestWarning):
            assert client.query("SELECT 1") == ROWS

    def test_of_the_client_are_shown_when_asked_for(
        self, connect: Any, secure: SecureServer, authority: trustme.CA, bundle: str, tmp_path: Path
    ) -> None:
        own = tmp_path / "client.pem"
        authority.issue_cert("client@example.com").private_key_and_cert_chain_pem.write_to_path(own)
        client = connect(api_url=secure.url)
        client.session.verify = bundle
        assert client.query("SELECT 1") == ROWS
        client.session.cert = str(own)
        assert client.query("SELECT 1") == ROWS
        without, with_one = secure.certificates
        assert not without
        assert with_one["subjectAltName"] == (("email", "client@example.com"),)

    def test_a_bundle_that_is_not_there_is_an_error(self, connect: Any, fails: Any, secure: SecureServer) -> None:
        client = connect(api_url=secure.url, max_retries=1)
        client.session.verify = "/nowhere.pem"
        with fails(ConnectionError, match="certificates"):
            client.query("SELECT 1")

    def test_authorities_are_read_once_for_all_connections(
        self, connect: Any, secure: SecureServer, bundle: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        read = []
        plain = ssl.SSLContext.load_verify_locations

        def counting(context: ssl.SSLContext, *where: Any, **named: Any) -> None:
            read.append(next(filter(None, (*where, *named.values()))))
            plain(context, *where, **named)

        monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", counting)
        client = connect(api_url=secure.url)
        client.session.verify = bundle
        for _ in range(3):
            assert client.query("SELECT 1") == ROWS
            client.close()
        assert len(secure.certificates) == 3
        assert read == [bundle]


class TunnelProxy:
    """A proxy on loopback that knows CONNECT only; ``asked`` holds the head of each request."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        inner, _ = self._listener.accept()
        with inner:
            self.asked.append(inner.recv(65_536).decode())
            host, _, port = self.asked[-1].split()[1].rpartition(":")
            with socket.create_connection((host, int(port))) as outer:
                inner.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                back = threading.Thread(target=self._pump, args=(outer, inner), daemon=True)
                back.start()
                self._pump(inner, outer)
                back.join()

    @staticmethod
    def _pump(source: socket.socket, target: socket.socket) -> None:
        while data := source.recv(65_536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._thread.join(30)
        self._listener.close()


class TestProxies:
    def test_of_the_environment_are_honoured(
        self, connect: Any, fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HTTP_PROXY", fault_server.url)
        fault_server.then(OK)
        assert connect(api_url="http://posthog.example").query("SELECT 1") == ROWS
        assert fault_server.requests[0].path == "http://posthog.example/api/projects/1/query/"

    def test_are_not_used_for_hosts_that_the_environment_excepts(
        self, connect: Any, fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        fault_server.then(OK)
        assert connect().query("SELECT 1") == ROWS

    def test_set_on_the_session_come_before_the_environment_s(
        self, connect: Any, fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
        client = connect(api_url="http://posthog.example")
        client.session.proxies["http"] = fault_server.url
        fault_server.then(OK)
        assert client.query("SELECT 1") == ROWS

    def test_see_nothing_of_a_secure_request_but_its_host(
        self, connect: Any, secure: SecureServer, bundle: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        proxy = TunnelProxy()
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", bundle)
        client = connect(api_url=secure.url)
        assert client.query("SELECT 1") == ROWS
        client.close()
        proxy.close()
        (asked,) = proxy.asked
        assert asked.startswith(f"CONNECT 127.0.0.1:{secure.server_port} HTTP/1.")
        assert "authorization" not in asked.lower()

    def test_that_refuse_are_an_error(self, connect: Any, fails: Any, fault_server: FaultServer) -> None:
        client = connect(api_url="https://posthog.example", max_retries=1)
        client.session.proxies["https"] = fault_server.url
        fault_server.then((407, "Who are you?"))
        with fails(ConnectionError, match="407"):
            client.query("SELECT 1")
        assert [request.method for request in fault_server.requests] == ["CONNECT"]

    def test_of_the_socks_kind_keep_their_own_connections(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class Socks(PoolManager):
            """Stands for urllib3's manager, which needs one more package."""

            def __init__(self, *_: Any, **__: Any) -> None:
                super().__init__()

        monkeypatch.setattr("requests.adapters.SOCKSProxyManager", Socks)
        socks = PoolAdapter().proxy_manager_for("socks5://127.0.0.1:1080")
        assert socks.pool_classes_by_scheme == PoolManager().pool_classes_by_scheme
        plain = PoolAdapter().proxy_manager_for("http://127.0.0.1:1080")
        assert plain.pool_classes_by_scheme != socks.pool_classes_by_scheme

    def test_are_read_from_the_environment_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        session = DriverSession({})
        monkeypatch.setenv("HTTPS_PROXY", "http://first.example:1")
        assert session.settings_for("https://a.example")["proxies"]["https"] == "http://first.example:1"
        monkeypatch.setenv("HTTPS_PROXY", "http://second.example:1")
        assert session.settings_for("https://a.example")["proxies"]["https"] == "http://first.example:1"


class TestConnections:
    @pytest.mark.parametrize(
        ("body", "writes"), [(b"x", 1), (b"x" * (64 << 10), 1), (b"x" * (64 << 10) + b"x", 2), (None, 1), (b"", 1)]
    )
    def test_carry_headers_and_a_small_body_in_one_write(
        self, body: bytes | None, writes: int, fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sent: list[bytes] = []
        plain = http.client.HTTPConnection.send

        def counting(connection: http.client.HTTPConnection, data: Any) -> None:
            sent.append(data)
            plain(connection, data)

        monkeypatch.setattr(http.client.HTTPConnection, "send", counting)
        fault_server.default = OK
        with DriverSession({}) as session:
            for _ in range(2):
                sent.clear()
                session.post(fault_server.url, data=body)
                assert len(sent) == writes
        assert [request.body for request in fault_server.requests] == [body or b""] * 2
        assert fault_server.connections == 1

    def test_start_anew_after_a_renewal_and_after_a_close(self, fault_server: FaultServer) -> None:
        fault_server.default = OK
        with DriverSession({}) as session:
            session.mount("ftp://", requests.adapters.HTTPAdapter())
            steps: list[Callable[[], None]] = [lambda: None, session.renew, session.close]
            for step in steps:
                step()
                session.get(fault_server.url)
                session.get(fault_server.url)
        assert [request.connection for request in fault_server.requests] == [1, 1, 2, 2, 3, 3]

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform cannot fork")
    @pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")
    def test_also_through_a_proxy_are_not_shared_with_a_forked_child(
        self, connect: Any, fault_server: FaultServer
    ) -> None:
        client = connect(api_url="http://posthog.example")
        client.session.proxies["http"] = fault_server.url
        fault_server.default = OK
        client.query("SELECT 1")
        child = os.fork()
        if child == 0:
            signal.alarm(20)
            os._exit(0 if client.query("SELECT 1") == ROWS else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        client.query("SELECT 1")
        assert [request.connection for request in fault_server.requests] == [1, 2, 1]

    def test_pools_of_countless_hosts_are_not_all_remembered(self) -> None:
        adapter = PoolAdapter()
        for number in range(POOL_SIZE + 5):
            request = requests.Request("GET", f"http://host{number}.example/").prepare()
            pool = adapter.get_connection_with_tls_context(request, True)
            assert pool.host == f"host{number}.example"
            assert pool.pool.maxsize == POOL_SIZE
        assert len(adapter._pools) == POOL_SIZE

    def test_are_not_read_on_when_the_time_of_the_whole_answer_is_over(
        self, fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        hours = itertools.count(step=3_600)
        monkeypatch.setattr("posthog_driver._session.monotonic", lambda: next(hours))
        fault_server.then(OK)
        with DriverSession({}) as session, pytest.raises(requests.ReadTimeout):
            session.get(fault_server.url, timeout=20)

    def test_retry_nothing_by_themselves(self) -> None:
        adapters: list[Any] = list(DriverSession({}).adapters.values())
        assert [adapter.max_retries.total for adapter in adapters] == [0, 0]


class TestNothingIsCarriedAlong:
    def test_no_cookie(self, connect: Any, fault_server: FaultServer) -> None:
        client = connect()
        fault_server.then(answer(200, query_answer([[1]], ["n"]), {"Set-Cookie": "session=1; Path=/"}), OK)
        client.query("SELECT 1")
        client.query("SELECT 1")
        assert list(client.session.cookies) == []
        assert all("Cookie" not in request.headers for request in fault_server.requests)

    def test_no_login_of_a_netrc_file(
        self, connect: Any, fault_server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        netrc = tmp_path / "netrc"
        netrc.write_text("machine 127.0.0.1 login somebody password something")
        monkeypatch.setenv("NETRC", str(netrc))
        client = connect()
        fault_server.default = OK
        client.query("SELECT 1")
        client.session.get(fault_server.url)
        assert [request.headers.get("Authorization") for request in fault_server.requests] == [
            "Bearer phx_test_key",
            None,
        ]

    def test_no_redirect_is_followed_even_by_hand(self, fault_server: FaultServer) -> None:
        fault_server.then(redirect("/elsewhere"))
        with DriverSession({"A": "b"}) as session:
            found = session.get(fault_server.url)  # also without any time-out
        assert found.status_code == 302
        assert [(request.path, request.headers["A"]) for request in fault_server.requests] == [("/", "b")]
