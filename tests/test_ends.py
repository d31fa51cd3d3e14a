"""Workers that end in good order while they fetch: none leaves a lease for which others wait."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import programs
import pytest
import requests
from fleet_worker import FORK, SqliteFile, Watched
from fork_marks import unwarned_forks
from forking import Child
from gunicorn_servers import gunicorn
from redis_servers import BINARIES, Server, running_server
from support import SCOPE
from waiting import until

from tokenmgr.emulator import EntraEmulator
from tokenmgr.stores import open_store

if not hasattr(os, "fork"):
    pytest.skip("this system does not fork", allow_module_level=True)

pytestmark = unwarned_forks

#: Seconds after which the next worker asks, at most. A lease would last for ten more.
SOON = 8.0

_PROGRAM = """
import atexit, signal, sys
from support import SCOPE
from tokenmgr import TokenRegistry

def leave(number, frame):
    sys.exit()

way = sys.argv[1]
if way == "SIGTERM":
    signal.signal(signal.SIGTERM, leave)
else:
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
tokens = TokenRegistry.from_env()
tokens.manager(SCOPE).prefetch()
print("begun", flush=True)
if way == "SIGTERM":
    while True:
        signal.pause()
signal.sigwait([signal.SIGTERM])
if way == "sys.exit()":
    sys.exit()
if way == "an error":
    raise RuntimeError("of the program's own")
if way == "close()":
    tokens.close()
if way == "with":
    with tokens:
        pass
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_server(next(iter(BINARIES.values()))) as server:
        yield server


@pytest.fixture(params=["sqlite", "redis"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return SqliteFile(tmp_path).url
    server = request.getfixturevalue("server")
    with server.client() as client:
        client.flushall()
    return server.url


def waiting(entra: EntraEmulator, url: str) -> tuple[Child, Callable[[], None]]:
    """A worker that waits for another one's lease, and what waits until it does."""
    refused = FORK.Semaphore(0)

    def after(operation: str, result: object) -> None:
        if operation == "lease" and not result:
            refused.release()

    def work() -> str:
        authority = entra.authority(entra.environment()["AZURE_TENANT_ID"])
        with entra.registry(store=Watched(url, after=after), authority=authority) as tokens:
            return tokens.get_access_token(SCOPE)

    def waits() -> None:
        assert refused.acquire(timeout=20), "it does not wait"

    return Child(work), waits


WAYS = ["its last line", "sys.exit()", "an error", "close()", "with", "SIGTERM"]


@pytest.mark.parametrize("way", WAYS)
def test_a_program_that_ends_while_its_worker_fetches_leaves_no_lease(entra, url, way):
    variables = entra.environment() | {"TOKENMGR_STORE": url} | programs.with_tests()
    with (
        entra.paused(),
        programs.running("-c", _PROGRAM, way, stderr=subprocess.DEVNULL, **variables) as program,
    ):
        entra.wait_for_requests(1)
        programs.read_until(program, "begun")
        other, waits = waiting(entra, url)
        waits()
        program.send_signal(signal.SIGTERM)
        began = time.monotonic()
        entra.wait_for_requests(2)
        waited = time.monotonic() - began
        program.wait(20)
    assert waited < SOON
    assert program.returncode == (1 if way == "an error" else 0)
    assert other.outcome().startswith("eyJ")


def test_a_child_of_multiprocessing_that_ends_leaves_no_lease(entra, url):
    """Such a child exits past ``atexit``."""

    def work() -> None:
        authority = entra.authority(entra.environment()["AZURE_TENANT_ID"])
        tokens = entra.registry(store=open_store(url), authority=authority)
        tokens.manager(SCOPE).prefetch()
        go.wait(20)

    go = FORK.Event()
    with entra.paused():
        child = multiprocessing.get_context("fork").Process(target=work)
        child.start()
        entra.wait_for_requests(1)
        other, waits = waiting(entra, url)
        waits()
        go.set()
        began = time.monotonic()
        entra.wait_for_requests(2)
        waited = time.monotonic() - began
        child.join(20)
    assert waited < SOON
    assert child.exitcode == 0
    assert other.outcome().startswith("eyJ")


def test_a_worker_that_its_server_replaces_leaves_no_lease(entra, tmp_path):
    """As gunicorn does it after ``max_requests``, all day."""
    backend = SqliteFile(tmp_path)
    variables = entra.environment() | {"TOKENMGR_STORE": backend.url}
    with (
        entra.paused(),
        gunicorn(
            *("web_app:begins", "--max-requests=2", "--graceful-timeout=5"), workers=1, **variables
        ) as server,
    ):
        first = requests.get(server._url, timeout=20).json()["pid"]
        entra.wait_for_requests(1)
        assert len(backend.records()) == 1
        assert requests.get(server._url, timeout=20).json()["pid"] == first
        until(lambda: not Path(f"/proc/{first}").exists(), "its end")
        assert backend.records() == {}
        second = requests.get(server._url, timeout=20).json()["pid"]
        assert second != first
        entra.wait_for_requests(2)
        server.stop()


def test_a_lease_that_the_store_cannot_take_back_holds_up_no_end(entra, tmp_path):
    """A store that hangs at the end of a program."""
    url = SqliteFile(tmp_path).url
    variables = entra.environment() | {"TOKENMGR_STORE": url} | programs.with_tests()
    with (
        entra.paused(),
        programs.running("-c", _PROGRAM, "its last line", **variables) as program,
    ):
        entra.wait_for_requests(1)
        programs.read_until(program, "begun")
        store = open_store(url)
        store.get("key")
        store._database._connection.execute("BEGIN EXCLUSIVE")
        program.send_signal(signal.SIGTERM)
        began = time.monotonic()
        program.wait(20)
        assert time.monotonic() - began < SOON
        store._database._connection.execute("ROLLBACK")
        store.close()
