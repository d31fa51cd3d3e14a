"""BearerAuth for urllib3: what every client's does, and what is urllib3's own."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import urllib3
from http_compliance import ClosedAtItsEnd, Compliance, Driver, Reply, file_at, generator

from tokenmgr import ConfigurationError, HostNotAllowedError
from tokenmgr.http.urllib3 import BearerAuth


class Urllib3Driver(Driver):
    auth = BearerAuth
    repeatable = {
        "bytes": (lambda: b"bytes", b"bytes"),
        "text": (lambda: "text", b"text"),
        "JSON": (lambda: {"json": [1]}, b"[1]"),
        "form": (lambda: {"fields": {"a": "1"}, "encode_multipart": False}, b"a=1"),
        "file": (lambda: io.BytesIO(b"file"), b"file"),
        "file from where it stands": (lambda: file_at(b"skipped file", 8), b"file"),
        "nothing": (lambda: None, b""),
    }
    once = {"generator": generator, "closed": lambda: ClosedAtItsEnd(b"one two")}
    proxy_variable = {}

    def __init__(self, ca_file: str) -> None:
        super().__init__(ca_file)
        self._pools: dict[int, urllib3.PoolManager] = {}

    def pool(self, auth: BearerAuth) -> urllib3.PoolManager:
        if id(auth) not in self._pools:
            self._pools[id(auth)] = auth.pool(ca_certs=self.ca_file, maxsize=4)
        return self._pools[id(auth)]

    def send(
        self,
        auth: BearerAuth,
        url: str,
        *,
        method: str = "GET",
        headers: dict[str, str] | None = None,
        body: Any = None,
        redirects: bool = True,
    ) -> Reply:
        content = body if isinstance(body, dict) else {"body": body}
        # Cookies are nothing that urllib3 knows of.
        answer = self.pool(auth).request(
            method, url, headers=headers, redirect=redirects, timeout=30, **content
        )
        return Reply(answer.status, answer.data)

    @contextlib.contextmanager
    def streaming(self, auth: BearerAuth, url: str) -> Iterator[Callable[[], bytes]]:
        answer = self.pool(auth).request("GET", url, preload_content=False, timeout=30)
        pieces = answer.stream(6)
        yield lambda: next(pieces)
        answer.close()
        answer.release_conn()

    def close(self) -> None:
        for pool in self._pools.values():
            pool.clear()


class TestUrllib3(Compliance):
    driver_class = Urllib3Driver

    test_cookies_of_the_refusal_go_with_the_repetition = None  # urllib3 keeps none
    test_the_proxy_of_the_environment_gets_no_token = None  # urllib3 asks for none


@pytest.fixture
def auth(manager):
    return BearerAuth(manager, hosts="127.0.0.1")


@pytest.fixture
def http(auth, ca_file):
    with auth.pool(ca_certs=ca_file, maxsize=1) as pool:
        yield pool


def test_it_is_a_pool_as_any_other(http, api):
    assert isinstance(http, urllib3.PoolManager)
    answer = http.request("GET", api.url())
    assert answer.data == b"served " * 20_000
    assert answer.headers["X-Served"] == "yes"


def test_the_repetition_takes_the_connection_of_the_first(http, api):
    api.refused = {"Bearer token-1"}
    assert http.request("GET", api.url()).status == 200
    assert len({asked.connection for asked in api.asked}) == 1


def test_headers_of_the_pool_go_along_and_its_own_authorization_is_left_alone(auth, api, ca_file):
    with auth.pool(ca_certs=ca_file, headers={"Cookie": "a=b"}) as http:
        http.request("GET", api.url())
    with auth.pool(ca_certs=ca_file, headers={"authorization": "Basic abc"}) as http:
        http.request("GET", api.url())
    assert api.tokens == ["Bearer token-1", "Basic abc"]
    assert api.asked[0].cookie == "a=b"


@pytest.mark.parametrize("where", ["request", "pool"])
def test_retries_that_would_let_the_token_go_to_another_host_do_not(auth, api, ca_file, where):
    retries = urllib3.Retry(remove_headers_on_redirect=())
    of = {where: {"retries": retries}}
    api.redirects = {"/moved": (302, api.url("/there", host="localhost"))}
    with auth.pool(ca_certs=ca_file, **of.get("pool", {})) as http:
        assert http.request("GET", api.url("/moved"), **of.get("request", {})).status == 401
    assert api.tokens == ["Bearer token-1", None]


def test_a_redirect_too_many_is_raised_as_by_any_pool(http, api):
    api.redirects = {"/moved": (302, "/moved")}
    with pytest.raises(urllib3.exceptions.MaxRetryError):
        http.request("GET", api.url("/moved"), retries=2)
    assert api.tokens == ["Bearer token-1"] * 3


def test_without_retries_a_redirect_is_returned(http, api):
    api.redirects = {"/moved": (302, "/there")}
    assert http.request("GET", api.url("/moved"), retries=False).status == 302


def test_a_proxy_gets_no_token_in_the_clear(auth, plain, proxy, source):
    with auth.proxy(proxy.url) as http, pytest.raises(HostNotAllowedError, match="proxy"):
        http.request("GET", plain.url)
    assert plain.asked == proxy.asked == []
    assert source.fetches == 0


def test_with_tls_a_proxy_sees_no_token(auth, proxy, source):
    with auth.proxy(proxy.url) as http, pytest.raises(urllib3.exceptions.MaxRetryError):
        http.request("GET", "https://127.0.0.1:9/x", retries=0)
    assert source.fetches == 1
    assert proxy.asked == []


def test_a_proxy_that_would_read_what_goes_over_tls_is_refused(auth):
    with pytest.raises(ConfigurationError, match="leave it out"):
        auth.proxy("https://127.0.0.1:9", use_forwarding_for_https=True)
    auth.proxy("https://127.0.0.1:9", use_forwarding_for_https=False)
