"""A token for this machine goes in the clear to this machine alone, and to no proxy."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator

import pytest
import requests

from tokenmgr import AccessTokenManager, HostNotAllowedError
from tokenmgr.http.requests import BearerAuth
from tokenmgr.token import AccessToken, TokenKey


class Server(http.server.ThreadingHTTPServer):
    """An API without TLS, or a proxy: it notes what it is asked, and with which token."""

    daemon_threads = False

    def __init__(self) -> None:
        self.asked: list[tuple[str, str | None]] = []
        super().__init__(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self.server_address[1]}"
        self.url = f"http://{self.host}"
        self._thread = threading.Thread(target=self.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self.shutdown()
        self.server_close()
        self._thread.join()


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers["Authorization"]))
        redirected = self.path.endswith("/moved")
        self.send_response(302 if redirected else 200)
        if redirected:
            self.send_header("Location", "/there")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


class Source:
    fetches = 0

    def fetch_token(self, *, claims: str | None = None) -> AccessToken:
        self.fetches += 1
        return AccessToken("a-token", 4_000_000_000.0)


@pytest.fixture(autouse=True)
def _no_proxies_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def api() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture
def proxy() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def auth(source: Source) -> Iterator[BearerAuth]:
    key = TokenKey("https://issuer.example", "an-app", "custom", ("https://api.example/.default",))
    manager = AccessTokenManager(source, key)
    yield BearerAuth(manager, hosts=("127.0.0.1", "localhost"))
    manager.close()


@pytest.fixture
def session(auth: BearerAuth) -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.auth = auth
        yield session


def refused(ask, proxy, source):
    with pytest.raises(HostNotAllowedError, match="proxy") as caught:
        ask()
    assert proxy.asked == []
    assert source.fetches == 0
    return str(caught.value)


def test_without_a_proxy_it_goes_there(api, session):
    assert session.get(f"{api.url}/x", timeout=30).ok
    assert requests.get(f"{api.url}/y", auth=session.auth, timeout=30).ok
    assert api.asked == [("/x", "Bearer a-token"), ("/y", "Bearer a-token")]


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_the_proxy_of_the_environment_gets_no_token(api, proxy, session, source, monkeypatch, name):
    monkeypatch.setenv(name, proxy.url)

    said = refused(lambda: session.get(api.url, timeout=30), proxy, source)

    assert "NO_PROXY=127.0.0.1" in said
    refused(lambda: requests.get(api.url, auth=session.auth, timeout=30), proxy, source)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    assert session.get(f"{api.url}/x", timeout=30).ok
    assert api.asked == [("/x", "Bearer a-token")]


@pytest.mark.parametrize("key", ["http", "all", "http://127.0.0.1"])
def test_a_sessions_own_proxies_get_no_token(api, proxy, session, source, monkeypatch, key):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")  # of which a session's own take no notice
    session.proxies = {key: proxy.url}

    refused(lambda: session.get(api.url, timeout=30), proxy, source)
    refused(lambda: session.request("POST", api.url, data=b"x", timeout=30), proxy, source)


def test_a_requests_own_proxies_get_no_token(api, proxy, session, source):
    refused(lambda: session.get(api.url, proxies={"http": proxy.url}, timeout=30), proxy, source)
    refused(
        lambda: requests.get(api.url, auth=session.auth, proxies={"http": proxy.url}, timeout=30),
        proxy,
        source,
    )


def test_a_session_of_the_programs_own_making_is_seen_too(api, proxy, auth, source):
    class Quick(requests.Session):
        def request(self, method, url, **kwargs):
            return super().request(method, url, **({"timeout": 30} | kwargs))

    with Quick() as session:
        session.auth = auth
        session.proxies = {"http": proxy.url}
        refused(lambda: session.get(api.url), proxy, source)
        session.proxies = {}
        assert session.get(api.url).ok


def test_proxies_that_leave_it_out_are_none(api, proxy, session, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    session.trust_env = False
    session.proxies = {"https": proxy.url, "http://api.example": proxy.url}

    assert session.get(f"{api.url}/x", timeout=30).ok

    assert api.asked == [("/x", "Bearer a-token")]
    assert proxy.asked == []


def test_a_redirect_on_this_machine_goes_there_too(api, session):
    assert session.get(f"{api.url}/moved", timeout=30).ok
    assert api.asked == [("/moved", "Bearer a-token"), ("/there", "Bearer a-token")]


def test_a_request_that_is_prepared_by_hand_gets_no_token_in_the_clear(
    api, proxy, auth, session, source
):
    by_hand = requests.Request("GET", api.url, auth=auth)

    refused(by_hand.prepare, proxy, source)
    refused(lambda: session.prepare_request(by_hand), proxy, source)

    session.prepare_request(requests.Request("GET", "https://127.0.0.1/x", auth=auth))


def test_with_tls_a_proxy_sees_no_token(proxy, session, source):
    with pytest.raises(requests.exceptions.ProxyError):
        session.get("https://127.0.0.1:9/x", proxies={"https": proxy.url}, timeout=30)
    assert source.fetches == 1
    assert proxy.asked == []
