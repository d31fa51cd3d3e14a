"""The first fetch of a process: imports and the network side by side, and neither relied upon."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time

import pytest
from support import SCOPE

from tokenmgr import AuthorityError, ConfigurationError, ServiceUnavailableError
from tokenmgr.entra.wire import first_fetch
from tokenmgr.entra.wire.connection import Connection
from tokenmgr.identity.authority import Authority

PROGRAM = """
import sys, threading
from tokenmgr import TokenRegistry
{before}
tokens = TokenRegistry.from_env()
assert not {{"msal", "requests", "urllib3", "ssl"}} & sys.modules.keys()
print(len(tokens.get_access_token({scope!r})) > 0)
"""

#: Threads that are started and never run, as in some servers.
NEVER_RUNS = """
start = threading.Thread.start
threading.Thread.start = lambda thread: thread.name == "tokenmgr-import" or start(thread)
"""
#: No thread can be started.
NO_THREADS = """
def refuse(thread):
    if thread.name == "tokenmgr-import":
        raise RuntimeError("can't start new thread")
    start(thread)
start, threading.Thread.start = threading.Thread.start, refuse
"""


@pytest.fixture
def first(monkeypatch):
    """Has each fetch be the first one of its process, as far as that can be done twice."""
    monkeypatch.setattr("tokenmgr.entra.wire.connection.is_first_fetch", lambda: True)
    monkeypatch.setattr(first_fetch, "_begun", threading.Lock())


def fetch(tokens):
    return tokens.manager(SCOPE).refresh_access_token()


@pytest.mark.parametrize("before", ["", NEVER_RUNS, NO_THREADS], ids=["", "never run", "none"])
def test_a_program_has_its_first_token_whether_or_not_threads_run(entra, before):
    text = PROGRAM.format(before=before, scope=SCOPE)
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
def test_the_connection_that_is_opened_early_carries_the_requests(make_rough, registry):
    # TLS 1.3's tickets lie in it before anything was asked, which is no reason to open another.
    server = make_rough("HTTP/1.1")

    assert fetch(registry(server)) == "a-token"

    assert [each.method for each in server.received] == ["GET", "POST"]
    assert server.connections == 1


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

    with first_fetch.early_socket(rough.authority, {}, 5.0) as early:
        assert (early is not None) == opened


@pytest.mark.usefixtures("first")
def test_what_is_in_the_way_is_told_by_the_request(rough, registry):
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    with pytest.raises(ServiceUnavailableError, match="connection"):
        fetch(registry(authority=f"https://127.0.0.1:{port}/contoso.com"))
    with pytest.raises(AuthorityError, match="verify="):
        fetch(registry(verify=True))


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


def test_later_fetches_open_nothing_ahead(make_rough, registry, monkeypatch):
    monkeypatch.setattr(first_fetch, "import_ahead", None)  # who calls it fails
    server = make_rough("HTTP/1.1")
    tokens = registry(server)

    assert fetch(tokens) == fetch(tokens) == "a-token"
    assert server.connections == 1
