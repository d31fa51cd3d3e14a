"""The first fetch of a process: the connection is begun before the imports, and not relied upon."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time

import pytest
from support import SCOPE

from tokenmgr import AuthorityError, ConfigurationError, ServiceUnavailableError
from tokenmgr.entra.wire import first_fetch
from tokenmgr.entra.wire.adapter import DeadlineAdapter
from tokenmgr.entra.wire.connection import Connection
from tokenmgr.identity.authority import Authority

PROGRAM = """
import sys
from tokenmgr import TokenRegistry
tokens = TokenRegistry.from_env()
assert not {{"msal", "requests", "urllib3", "ssl"}} & sys.modules.keys()
print(len(tokens.get_access_token({scope!r})) > 0)
"""


@pytest.fixture
def first(monkeypatch):
    """Has each fetch be the first one of its process, as far as that can be done twice."""
    monkeypatch.setattr("tokenmgr.entra.wire.connection.is_first_fetch", lambda: True)


@pytest.fixture
def taken(monkeypatch):
    """The connections that were begun, and are used."""
    noted, take = [], DeadlineAdapter.take

    def noting(self, request, opened, **settings):
        noted.append(opened)
        take(self, request, opened, **settings)

    monkeypatch.setattr(DeadlineAdapter, "take", noting)
    return noted


def fetch(tokens):
    return tokens.manager(SCOPE).refresh_access_token()


def test_a_program_imports_what_sends_requests_with_its_first_fetch(entra):
    text = PROGRAM.format(scope=SCOPE)
    done = subprocess.run(
        [sys.executable, "-c", text],
        env=os.environ | entra.environment(),
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.stdout, done.stderr) == ("True\n", "")
    assert entra.count() == 1


@pytest.mark.usefixtures("first")
@pytest.mark.parametrize("named_by", ["verify", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_the_connection_that_is_begun_carries_the_requests(
    make_rough, registry, monkeypatch, taken, named_by
):
    # TLS 1.3's tickets lie in it before anything was asked, which is no reason to open another.
    server = make_rough("HTTP/1.1")
    if named_by != "verify":
        monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
        monkeypatch.setenv(named_by, server.ca_file)

    tokens = registry(server, verify=server.ca_file if named_by == "verify" else None)
    assert fetch(tokens) == "a-token"

    assert [each.method for each in server.received] == ["GET", "POST"]
    assert server.connections == len(taken) == 1


@pytest.mark.usefixtures("first")
def test_it_leads_to_where_a_cloud_is_asked_for_tokens(rough, monkeypatch):
    asked = []

    def lead(host, port, *args, **options):
        asked.append((host, port))
        return look_up(*rough.server_address, *args, **options)

    look_up = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lead)
    connection = Connection(verify=rough.ca_file)

    exchange = connection.exchange(Authority.parse("https://sts.windows.net/contoso.com"))
    answer = exchange.post("https://login.microsoftonline.com/contoso.com/oauth2/v2.0/token")
    connection.close()

    assert answer.status_code == 200
    assert asked == [("login.microsoftonline.com", 443)]
    assert rough.connections == 1


@pytest.mark.usefixtures("first")
@pytest.mark.parametrize("given", [True, False], ids=["given", "environment"])
def test_nothing_goes_past_a_proxy(rough, registry, proxy, monkeypatch, given):
    if not given:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)

    assert fetch(registry(proxies={"https": proxy.url} if given else None)) == "a-token"

    assert len(proxy.tunnels) == rough.connections == len(rough.received) == 2


@pytest.mark.parametrize(
    ("name", "opened"),
    [("NO_PROXY", True), ("HTTP_PROXY", True), ("HTTPS_PROXY", False), ("ALL_PROXY", False)],
)
def test_a_proxy_for_something_else_is_none(rough, monkeypatch, name, opened):
    monkeypatch.setenv(name, "http://127.0.0.1:9")

    with first_fetch.begun_connection(
        rough.authority, verify=rough.ca_file, proxied=False
    ) as begun:
        assert (begun is not None) == opened
        if begun is not None:
            begun.close()


@pytest.mark.usefixtures("first")
def test_what_is_in_the_way_is_told_by_the_request(rough, registry):
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    with pytest.raises(ServiceUnavailableError, match="connection"):
        fetch(registry(authority=f"https://127.0.0.1:{port}/contoso.com"))
    with pytest.raises(AuthorityError, match="verify="):
        fetch(registry(verify=True))


@pytest.mark.usefixtures("first")
def test_none_is_taken_whose_server_is_another_than_was_named(rough, registry, taken):
    with pytest.raises(AuthorityError, match="verify="):
        fetch(registry(authority=rough.authority.replace("127.0.0.1", "localhost")))

    assert taken == []


@pytest.mark.usefixtures("first")
@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
def test_none_is_begun_where_nobody_is_to_verify_it(rough, registry, taken):
    assert fetch(registry(verify=False)) == "a-token"

    assert taken == []


def test_the_first_address_to_which_there_is_a_way_is_taken(rough, monkeypatch):
    port = rough.server_address[1]
    places = [("::1", port), ("127.0.0.1", port)]  # IPv4 does not lead to the first
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", place) for place in places]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **options: found)

    with first_fetch.begun_connection(
        rough.authority, verify=rough.ca_file, proxied=False
    ) as begun:
        assert begun is not None
        assert begun.getpeername()[1] == port
        begun.close()


@pytest.mark.usefixtures("first")
def test_a_server_that_never_says_hello_is_given_up_in_time(registry):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        authority = f"https://127.0.0.1:{silent.getsockname()[1]}/contoso.com"
        began = time.monotonic()
        with pytest.raises(ServiceUnavailableError):
            fetch(registry(authority=authority, timeout=0.3))

    assert time.monotonic() - began < 5


@pytest.mark.usefixtures("first")
def test_a_closed_connection_opens_nothing(rough):
    connection = Connection(verify=rough.ca_file)
    connection.close()

    with pytest.raises(ConfigurationError, match="closed"):
        connection.exchange(Authority.parse(rough.authority))

    assert rough.connections == 0


def test_later_fetches_begin_nothing_ahead(make_rough, registry, monkeypatch):
    # Who calls it fails.
    monkeypatch.setattr("tokenmgr.entra.wire.connection.begun_connection", None)
    server = make_rough("HTTP/1.1")
    tokens = registry(server)

    assert fetch(tokens) == fetch(tokens) == "a-token"
    assert server.connections == 1
