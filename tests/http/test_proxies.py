"""A token for this machine goes in the clear to this machine alone, and to no proxy."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import requests

from tokenmgr import AccessTokenManager, HostNotAllowedError
from tokenmgr.http.requests import BearerAuth
from tokenmgr.token import AccessToken, TokenKey


class Source:
    fetches = 0

    def fetch_token(self, *, claims: str | None = None) -> AccessToken:
        self.fetches += 1
        return AccessToken("a-token", 4_000_000_000.0)


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


def test_without_a_proxy_it_goes_there(plain, session):
    assert session.get(f"{plain.url}/x", timeout=30).ok
    assert requests.get(f"{plain.url}/y", auth=session.auth, timeout=30).ok
    assert plain.asked == [("/x", "Bearer a-token"), ("/y", "Bearer a-token")]


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_the_proxy_of_the_environment_gets_no_token(
    plain, proxy, session, source, monkeypatch, name
):
    monkeypatch.setenv(name, proxy.url)

    said = refused(lambda: session.get(plain.url, timeout=30), proxy, source)

    assert "NO_PROXY=127.0.0.1" in said
    refused(lambda: requests.get(plain.url, auth=session.auth, timeout=30), proxy, source)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    assert session.get(f"{plain.url}/x", timeout=30).ok
    assert plain.asked == [("/x", "Bearer a-token")]


@pytest.mark.parametrize("key", ["http", "all", "http://127.0.0.1"])
def test_a_sessions_own_proxies_get_no_token(plain, proxy, session, source, monkeypatch, key):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")  # of which a session's own take no notice
    session.proxies = {key: proxy.url}

    refused(lambda: session.get(plain.url, timeout=30), proxy, source)
    refused(lambda: session.request("POST", plain.url, data=b"x", timeout=30), proxy, source)


def test_a_requests_own_proxies_get_no_token(plain, proxy, session, source):
    refused(lambda: session.get(plain.url, proxies={"http": proxy.url}, timeout=30), proxy, source)
    refused(
        lambda: requests.get(plain.url, auth=session.auth, proxies={"http": proxy.url}, timeout=30),
        proxy,
        source,
    )


def test_a_session_of_the_programs_own_making_is_seen_too(plain, proxy, auth, source):
    class Quick(requests.Session):
        def request(self, method, url, **kwargs):
            return super().request(method, url, **({"timeout": 30} | kwargs))

    with Quick() as session:
        session.auth = auth
        session.proxies = {"http": proxy.url}
        refused(lambda: session.get(plain.url), proxy, source)
        session.proxies = {}
        assert session.get(plain.url).ok


def test_proxies_that_leave_it_out_are_none(plain, proxy, session, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    session.trust_env = False
    session.proxies = {"https": proxy.url, "http://api.example": proxy.url}

    assert session.get(f"{plain.url}/x", timeout=30).ok

    assert plain.asked == [("/x", "Bearer a-token")]
    assert proxy.asked == []


def test_a_redirect_on_this_machine_goes_there_too(plain, session):
    assert session.get(f"{plain.url}/moved", timeout=30).ok
    assert plain.asked == [("/moved", "Bearer a-token"), ("/there", "Bearer a-token")]


def test_a_request_that_is_prepared_by_hand_gets_no_token_in_the_clear(
    plain, proxy, auth, session, source
):
    by_hand = requests.Request("GET", plain.url, auth=auth)

    refused(by_hand.prepare, proxy, source)
    refused(lambda: session.prepare_request(by_hand), proxy, source)

    session.prepare_request(requests.Request("GET", "https://127.0.0.1/x", auth=auth))


def test_with_tls_a_proxy_sees_no_token(proxy, session, source):
    with pytest.raises(requests.exceptions.ProxyError):
        session.get("https://127.0.0.1:9/x", proxies={"https": proxy.url}, timeout=30)
    assert source.fetches == 1
    assert proxy.asked == []
