"""Servers that misbehave as the emulator cannot, and a registry for the app that they know."""

from __future__ import annotations

import http.server
import json
import select
import socket
import socketserver
import ssl
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import jwt
import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from sign_ins import ANN, CALLBACK, Kept
from support import EXACT, SCOPE

from tokenmgr import ClientSecret, TokenRegistry
from tokenmgr.emulator import EntraEmulator
from tokenmgr.entra.client import Client
from tokenmgr.entra.grants.client_credentials import ClientCredentialsSource
from tokenmgr.entra.wire.connection import Connection
from tokenmgr.identity.authority import Authority
from tokenmgr.identity.clouds import CLOUDS

TENANT = "contoso.onmicrosoft.com"
CLIENT_ID = "11111111-2222-3333-4444-555555555555"
#: Whose names the rough server has a certificate for; a proxy leads there.
HOSTS = (
    *(cloud.host for cloud in CLOUDS),
    "westus3.login.microsoft.com",
    "usgovarizona.login.microsoftonline.us",
    "login.private.example",
    "contoso.b2clogin.com",
    "contoso.ciamlogin.com",
    "evil.example",
)


@dataclass(frozen=True)
class Received:
    """One request, and the port that it came from."""

    method: str
    path: str
    headers: dict[str, str]
    port: int


class RoughHandler(http.server.BaseHTTPRequestHandler):
    """Serves metadata, and hands everything else to what the test put in its place."""

    server: RoughServer
    timeout = 20

    def setup(self) -> None:
        super().setup()
        if self.server.on_connect is not None:
            self.server.on_connect(self)

    def do_GET(self) -> None:
        self._receive()
        if self.server.on_get is not None:
            self.server.on_get(self)
        else:
            self.answer(200, json.dumps(self.server.metadata))

    def do_POST(self) -> None:
        self._receive()
        self.form = dict(parse_qsl(self.rfile.read(int(self.headers["Content-Length"])).decode()))
        self.server.on_post(self)

    def answer(self, status: int, body: str | bytes, **headers: str) -> None:
        raw = body.encode() if isinstance(body, str) else body
        self.send_response(status)
        for name, value in ({"content_length": str(len(raw))} | headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(raw)

    def token(self, **changes: Any) -> None:
        """A good answer, with changes; what is None is left out."""
        fields = {"access_token": "a-token", "token_type": "Bearer", "expires_in": 3600} | changes
        self.answer(200, json.dumps({k: v for k, v in fields.items() if v is not None}))

    def drip(self, begin: bytes, piece: bytes) -> None:
        """Sends ``begin``, and then ``piece`` again and again, for as long as anybody listens."""
        self.wfile.write(begin)
        while not self.server.stopping.wait(0.02):
            self.wfile.write(piece)

    def keep_waiting(self) -> None:
        self.server.stopping.wait(30)

    def log_message(self, *args: Any) -> None:
        pass

    def _receive(self) -> None:
        received = Received(
            self.command, self.path, dict(self.headers.items()), self.client_address[1]
        )
        self.server.received.append(received)


class RoughServer(http.server.ThreadingHTTPServer):
    """A TLS server on the loopback interface that answers as a test says."""

    daemon_threads = False
    block_on_close = True
    #: What its app proves itself with; it believes everything.
    secret = "kept-Between~us.8Q"

    def __init__(self, directory: Path, protocol: str) -> None:
        authority = trustme.CA()
        self.ca_file = str(directory / "rough-ca.pem")
        authority.cert_pem.write_to_path(self.ca_file)
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1", *HOSTS).configure_cert(self.tls)
        self.connections = 0
        self._open: set[ssl.SSLSocket] = set()
        self.received: list[Received] = []
        self.stopping = threading.Event()
        self.on_connect: Callable[[RoughHandler], None] | None = None
        self.on_get: Callable[[RoughHandler], None] | None = None
        self.on_post: Callable[[RoughHandler], None] = RoughHandler.token
        handler = type("Handler", (RoughHandler,), {"protocol_version": protocol})
        super().__init__(("127.0.0.1", 0), handler)
        self.url = f"https://127.0.0.1:{self.server_address[1]}"
        self.authority = f"{self.url}/{TENANT}"
        self.metadata: dict[str, Any] = {
            "issuer": f"{self.url}/{TENANT}/v2.0",
            "token_endpoint": f"{self.authority}/oauth2/v2.0/token",
            "authorization_endpoint": f"{self.authority}/oauth2/v2.0/authorize",
        }
        self._thread = threading.Thread(target=self.serve_forever, args=(0.01,), name="rough")
        self._thread.start()

    def stand_in_for(self, authority: Authority) -> None:
        """Names the endpoints of another host, where a proxy leads here."""
        self.metadata = {
            "issuer": f"{authority.url}/v2.0",
            "token_endpoint": f"{authority.url}/oauth2/v2.0/token",
            "authorization_endpoint": f"{authority.url}/oauth2/v2.0/authorize",
        }

    @property
    def gets(self) -> int:
        return sum(each.method == "GET" for each in self.received)

    @property
    def posts(self) -> int:
        return sum(each.method == "POST" for each in self.received)

    def get_request(self) -> tuple[ssl.SSLSocket, Any]:
        connection, address = super().get_request()
        self.connections += 1
        # What is written is there, and waits for no acknowledgement.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # The handshake is left to the thread of the connection.
        wrapped = self.tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        self._open.add(wrapped)
        return wrapped, address

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says nothing of clients that hang up: the tests make them."""

    def close(self) -> None:
        self.stopping.set()
        self.shutdown()
        for each in tuple(self._open):  # somebody else may share it, and keep it open
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        self.server_close()
        self._thread.join()


class _Tunnel(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        host, _, port = self.rfile.readline().decode().split()[1].partition(":")
        while self.rfile.readline().strip():
            pass
        self.server.tunnels.append(f"{host}:{port}")
        address = self.server.leads_to or (host, int(port))
        with socket.create_connection(address) as upstream:
            self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            ends = {self.connection: upstream, upstream: self.connection}
            while True:
                for source in select.select(list(ends), [], [], 20)[0]:
                    piece = source.recv(65_536)
                    if not piece:
                        return
                    ends[source].sendall(piece)


class ConnectProxy(socketserver.ThreadingTCPServer):
    """A proxy that tunnels (RFC 9110, section 9.3.6), and remembers where to."""

    daemon_threads = False
    block_on_close = True

    def __init__(self) -> None:
        self.tunnels: list[str] = []
        #: Where all tunnels end, whatever they were asked for; None when just there.
        self.leads_to: tuple[str, int] | None = None
        super().__init__(("127.0.0.1", 0), _Tunnel)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self._thread = threading.Thread(target=self.serve_forever, args=(0.01,), name="proxy")
        self._thread.start()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says nothing of clients that hang up."""

    def close(self) -> None:
        self.shutdown()
        self.server_close()
        self._thread.join()


@pytest.fixture(autouse=True)
def _repeats_follow_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tokenmgr.entra.wire.exchange._BACKOFF", 0.0)


@pytest.fixture(autouse=True)
def _no_network_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    regions = "MSAL_FORCE_REGION", "REGION_NAME", "AZURE_REGIONAL_AUTHORITY_NAME"
    for name in ("ALL_PROXY", "NO_PROXY", "NETRC", *regions):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def rough(make_rough: Callable[..., RoughServer]) -> RoughServer:
    """A TLS server that answers as the test says."""
    return make_rough()


@pytest.fixture
def make_rough(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., RoughServer]]:
    with ExitStack() as stack:

        def make(protocol: str = "HTTP/1.0") -> RoughServer:
            server = RoughServer(tmp_path_factory.mktemp("rough"), protocol)
            stack.callback(server.close)
            return server

        yield make


@pytest.fixture
def proxy() -> Iterator[ConnectProxy]:
    server = ConnectProxy()
    yield server
    server.close()


@pytest.fixture
def registry(rough: RoughServer) -> Iterator[Callable[..., TokenRegistry]]:
    """Makes registries for the rough server that are closed before it is."""
    with ExitStack() as stack:

        def make(server: RoughServer = rough, **settings: Any) -> TokenRegistry:
            defaults: dict[str, Any] = {
                "client_id": CLIENT_ID,
                "credential": server.secret,
                "authority": server.authority,
                "verify": server.ca_file,
                "policy": EXACT,
            }
            return stack.enter_context(TokenRegistry(**(defaults | settings)))

        yield make


@pytest.fixture
def make_source(rough: RoughServer) -> Iterator[Callable[..., ClientCredentialsSource]]:
    """Makes bare sources of a token at the rough server, without a manager that hides frames."""
    connection = Connection(verify=rough.ca_file)

    def make(credential: ClientSecret) -> ClientCredentialsSource:
        client = Client(
            Authority.parse(rough.authority), CLIENT_ID, credential, connection=connection
        )
        return ClientCredentialsSource(client, (SCOPE,))

    yield make
    connection.close()


@pytest.fixture
def rough_source(
    rough: RoughServer, make_source: Callable[..., ClientCredentialsSource]
) -> ClientCredentialsSource:
    return make_source(ClientSecret(rough.secret))


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> Kept:
    """What sign-ins have handed over to be kept, which nobody keeps."""
    kept = Kept()
    monkeypatch.setattr("tokenmgr._tenants.Tenant.begin_sessions", lambda self: kept)
    return kept


@pytest.fixture
def public(entra: EntraEmulator) -> Iterator[Callable[..., TokenRegistry]]:
    """Makes registries of a public client, which ann may sign in to."""
    entra.add_user(ANN)
    client_id = entra.add_client(public=True, redirect_uris=["http://localhost"])
    with ExitStack() as stack:

        def make(**settings: Any) -> TokenRegistry:
            defaults = {"client_id": client_id, "credential": None}
            return stack.enter_context(entra.registry(**(defaults | settings)))

        yield make


@pytest.fixture
def web(entra: EntraEmulator) -> Iterator[Callable[..., TokenRegistry]]:
    """Makes registries of a web app, whose users may be sent back to ``CALLBACK``."""
    entra.add_user(ANN)
    entra.add_redirect_uri(CALLBACK)
    with ExitStack() as stack:
        yield lambda **settings: stack.enter_context(entra.registry(**settings))


@pytest.fixture(scope="session")
def issuer_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture
def issue(entra: EntraEmulator, issuer_key: rsa.RSAPrivateKey) -> Callable[..., str]:
    """Makes assertions of an issuer that the app trusts."""
    public = issuer_key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    entra.add_federated_issuer("https://cluster.example.com", "system:pod", public)

    def make(**claims: object) -> str:
        now = int(time.time())
        standard = {
            "iss": "https://cluster.example.com",
            "sub": "system:pod",
            "aud": "api://AzureADTokenExchange",
            "iat": now,
            "exp": now + 600,
            "jti": str(uuid.uuid4()),
        }
        return jwt.encode(standard | claims, issuer_key, "RS256")

    return make
