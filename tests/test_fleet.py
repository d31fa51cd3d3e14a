"""Real processes over one real store: who asks, who waits, who dies, and what is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sqlite3
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import jwt
import programs
import pytest
from fleet_worker import FORK, Backend, Fleet, RedisKeys, SqliteFile, Watched
from fork_marks import unwarned_forks
from forking import DEADLINE, Child
from gunicorn_servers import WORKERS, Gunicorn, gunicorn
from nobody import become_nobody, give_away
from redis_servers import BINARIES, Server, running_server
from support import SCOPE, in_threads
from waiting import until

from tokenmgr import (
    InvalidCredentialError,
    ThrottledError,
    TokenManagerError,
    TokenRegistry,
    _app,
)
from tokenmgr._engine import state
from tokenmgr._sharing import fetch_once, guarded
from tokenmgr.emulator import EntraEmulator
from tokenmgr.events import Event, StoreFailed
from tokenmgr.stores.redis import client as redis
from tokenmgr.stores.sqlite import database

if not hasattr(os, "fork"):
    pytest.skip("this system does not fork", allow_module_level=True)

pytestmark = unwarned_forks

WORKER = str(programs.TESTS / "fleet_worker.py")
ORDERS = "api://orders/.default"
#: The kinds of store; most tests do with the first two.
BACKENDS = ["sqlite", *BINARIES]
all_backends = pytest.mark.parametrize("backend", BACKENDS, indirect=True)


# Where they share


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, Server]]:
    with contextlib.ExitStack() as stack:
        yield {
            name: stack.enter_context(running_server(binary)) for name, binary in BINARIES.items()
        }


@pytest.fixture(params=BACKENDS[:2])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    if request.param == "sqlite":
        return SqliteFile(tmp_path)
    server = request.getfixturevalue("servers")[request.param]
    with server.client() as client:
        client.flushall()
    return RedisKeys(server)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has no store fail a worker because this machine is slow just now."""
    monkeypatch.setattr(database, "_PATIENCE", DEADLINE)
    for name in ("_CONNECT_TIMEOUT", "_READ_TIMEOUT", "_POOL_TIMEOUT"):
        monkeypatch.setattr(redis, name, DEADLINE)


@pytest.fixture
def fleet(entra: EntraEmulator, backend: Backend, patient: None) -> Iterator[Fleet]:
    fleet = Fleet(entra, backend)
    yield fleet
    fleet.close()


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def ended_by_a_kill(child: Child) -> None:
    """Waits for the end of a child that is killed."""
    with pytest.raises(AssertionError, match="hung"):  # which looks just the same
        child.outcome()


# Cold


@all_backends
def test_cold_workers_ask_once_for_all(entra, fleet):
    def work() -> list[Any]:
        with fleet.registry() as tokens:
            return in_threads(6, lambda: tokens.get_access_token(SCOPE))

    with entra.paused():
        children = [Child(work) for _ in range(8)]
        fleet.attempts(8)
    tokens = [token for child in children for token in child.outcome()]
    assert len(tokens) == 48
    assert len(set(tokens)) == 1
    assert entra.count() == 1
    assert fleet.leases() == []


# Killed workers

DEATHS = {
    "with the lease, before it asks": ("after", "lease", 1),
    "with the answer, before it keeps it": ("before", "put", 2),
    "with its token kept, before it gives the lease back": ("before", "delete", 1),
}


@pytest.mark.parametrize(("moment", "operation", "requests_"), DEATHS.values(), ids=DEATHS.keys())
def test_a_worker_that_is_killed_costs_the_others_its_lease_at_most(
    entra, fleet, moment, operation, requests_
):
    def work() -> None:
        store = Watched(fleet.backend.url, **{moment: lambda done, *_: done == operation and die()})
        with fleet.registry(store) as tokens:
            tokens._own.app.sealed.lease_ttl = 0.5
            tokens.get_access_token(SCOPE)

    ended_by_a_kill(Child(work))
    # Whoever waited for longer than a lease lasts would be killed as one that hangs.
    children = [Child(fleet.ask) for _ in range(3)]
    assert len({child.outcome() for child in children}) == 1
    assert entra.count() == requests_


def test_a_worker_that_is_killed_while_it_asks_costs_one_request_more(entra, fleet):
    def work() -> None:
        with fleet.registry() as tokens:
            tokens._own.app.sealed.lease_ttl = 0.5
            tokens.get_access_token(SCOPE)

    with entra.paused():
        holder = Child(work)
        entra.wait_for_requests(1)
        children = [Child(fleet.ask) for _ in range(3)]
        fleet.attempts(4)
        os.kill(holder._pid, signal.SIGKILL)
        ended_by_a_kill(holder)
    assert len({child.outcome() for child in children}) == 1
    assert entra.count() == 2
    assert fleet.leases() == []


def test_a_worker_whose_caller_is_interrupted_fetches_for_all_before_it_ends(
    entra, fleet, monkeypatch
):
    monkeypatch.setattr(_app, "_PATIENCE", DEADLINE)  # however slow this machine is
    said, saying = os.pipe()

    def interrupt(number: int, frame: object) -> None:
        os.write(saying, b"!")
        raise KeyboardInterrupt

    def work() -> list[str]:
        signal.signal(signal.SIGTERM, interrupt)
        with pytest.raises(KeyboardInterrupt):
            fleet.ask()
        return fleet.leases()

    with entra.paused():
        holder = Child(work)
        entra.wait_for_requests(1)
        os.kill(holder._pid, signal.SIGTERM)
        assert os.read(said, 1)
    assert holder.outcome() == []
    os.close(said)
    os.close(saying)
    assert Child(fleet.ask).outcome()
    assert entra.count() == 1


def test_a_worker_that_is_frozen_while_it_asks_harms_nobody_when_it_goes_on(entra, fleet):
    with entra.paused():
        holder = Child(fleet.ask)
        entra.wait_for_requests(1)
        os.kill(holder._pid, signal.SIGSTOP)
        fleet.backend.end_leases()
        children = [Child(fleet.ask) for _ in range(3)]
        entra.wait_for_requests(2)
        fleet.attempts(4)
    assert len({child.outcome() for child in children}) == 1
    with entra.paused():
        another = Child(fleet.renew)
        entra.wait_for_requests(3)
        os.kill(holder._pid, signal.SIGCONT)
        assert holder.outcome().startswith("eyJ")
        assert len(fleet.leases()) == 1  # which is not its own
    assert another.outcome().startswith("eyJ")
    assert entra.count() == 3
    assert fleet.leases() == []


@all_backends
def test_one_holder_after_another_is_killed_and_everybody_else_is_served(entra, fleet):
    # No queue of multiprocessing's: it has a lock, which a worker that is killed would keep.
    said, saying = os.pipe()

    def work() -> str:
        def after(operation: str, result: object) -> None:
            if operation == "lease" and result:
                os.write(saying, os.getpid().to_bytes(4, "big"))

        with fleet.registry(Watched(fleet.backend.url, after=after)) as tokens:
            return tokens.get_access_token(SCOPE)

    children = {}
    with entra.paused():
        for _ in range(8):
            child = Child(work)
            children[child._pid] = child
        for kills in range(1, 5):
            holder = int.from_bytes(os.read(said, 4), "big")
            entra.wait_for_requests(kills)
            os.kill(holder, signal.SIGKILL)
            ended_by_a_kill(children.pop(holder))
            fleet.backend.end_leases()
        entra.wait_for_requests(5)
    assert len({child.outcome() for child in children.values()}) == 1
    os.close(said)
    os.close(saying)
    assert entra.count() == 5
    assert fleet.leases() == []


# Forks


def test_a_fork_while_a_thread_waits_for_a_lease_leaves_both_waiting(entra, fleet):
    with fleet.registry() as tokens:
        graph = tokens.manager(SCOPE)
        served: list[str] = []
        waiter = threading.Thread(target=lambda: served.append(graph.get_access_token()))
        with entra.paused():
            holder = Child(fleet.ask)
            entra.wait_for_requests(1)
            waiter.start()
            fleet.attempts(2)
            child = Child(graph.get_access_token)
            fleet.attempts(1)
        waiter.join(DEADLINE)
        assert {holder.outcome(), child.outcome()} == set(served)
        assert entra.count() == 1
        assert fleet.leases() == []


def test_a_fork_at_any_moment_leaves_both_with_the_store(entra, fleet):
    with fleet.registry() as tokens:
        graph, orders = tokens.manager(SCOPE), tokens.manager(ORDERS)
        done = threading.Event()

        def hammer() -> None:
            while not done.is_set():
                graph.refresh_access_token()
                graph.invalidate(graph.get_access_token())

        with ThreadPoolExecutor() as pool:
            hammers = [pool.submit(hammer) for _ in range(3)]
            try:
                # Only over the store do they know of each other's token.
                children = [
                    Child(lambda: [orders.get_access_token(), graph.refresh_access_token()])
                    for _ in range(6)
                ]
                found = {child.outcome()[0] for child in children}
            finally:
                done.set()
            assert [each.result(DEADLINE) for each in hammers] == [None] * 3
        assert {orders.get_access_token()} == found
        assert entra.count(scope=ORDERS) == 1
        assert fleet.leases() == []


# Servers


def served(
    app: str, entra: EntraEmulator, folder: Path, *options: str
) -> AbstractContextManager[Gunicorn]:
    """A gunicorn with three workers, which share a file."""
    return gunicorn(
        *(f"web_app:{app}", *options), workers=3, **settings(entra, SqliteFile(folder).url)
    )


def settings(entra: EntraEmulator, url: str) -> dict[str, str]:
    """The variables of a program."""
    return entra.environment() | {"TOKENMGR_STORE": url} | programs.with_tests()


@pytest.mark.parametrize(("worker", "kind"), WORKERS.values(), ids=WORKERS.keys())
def test_the_workers_of_a_server_ask_once_and_so_do_those_that_take_their_place(
    entra, tmp_path, worker, kind
):
    with served(kind, entra, tmp_path, "--preload", f"--worker-class={worker}") as server:
        until(lambda: server.have_answered(3), "an answer of every worker")
        killed = next(iter(server.tokens))
        os.kill(killed, signal.SIGKILL)
        until(lambda: not Path(f"/proc/{killed}").exists(), "its end")
        until(lambda: server.have_answered(4), "an answer of the new worker")
        log = server.stop()
    assert len(set.union(*server.tokens.values())) == 1
    assert entra.count() == 1
    assert "Traceback" not in log


def test_workers_that_load_the_app_by_themselves_ask_once(entra, tmp_path):
    with served('fetched("wsgi")', entra, tmp_path) as server:
        until(lambda: server.have_answered(3), "an answer of every worker")
        log = server.stop()
    assert len(set.union(*server.tokens.values())) == 1
    assert entra.count() == 1
    assert "Traceback" not in log


def test_workers_of_an_app_that_used_the_store_before_the_fork_renew_for_each_other(tmp_path):
    with (
        EntraEmulator(token_lifetime=3) as entra,
        served('fetched("wsgi")', entra, tmp_path, "--preload") as server,
    ):

        def shared() -> bool:
            # One of them they have from before the fork.
            return server.have_answered(3) and len(set.intersection(*server.tokens.values())) > 1

        until(shared, "a renewal for all workers")
        log = server.stop()
    assert "Traceback" not in log


# News of each other's tokens


def test_a_refresh_reaches_who_begins_and_who_ages_without_another_request(entra, fleet):
    one, other = fleet.worker(), fleet.worker()
    old = one.get()
    assert other.get() == old
    entra.token_lifetime = 100_000
    new = one.do("refresh_access_token")
    assert Child(fleet.ask).outcome() == new != old
    assert other.get() == old
    other.do("advance", 3300)
    assert other.get() == old
    until(lambda: other.get() == new, "the renewal")
    assert entra.count() == 2


def test_a_refresh_reaches_who_holds_a_fresh_token_when_it_looks(entra, fleet, monkeypatch):
    monkeypatch.setattr(state, "_LOOK_EVERY", 0.05)
    one, other = fleet.worker(), fleet.worker()
    assert one.get() == other.get()
    new = one.do("refresh_access_token")
    until(lambda: other.get() == new, "the look")
    assert entra.count() == 2


def test_a_refused_token_is_replaced_for_all_by_one_request(entra, fleet, monkeypatch):
    one = fleet.worker()
    monkeypatch.setattr(state, "_LOOK_EVERY", 0.05)
    other = fleet.worker()
    old = one.get()
    assert other.get() == old
    one.do("invalidate", old)
    until(lambda: not fleet.backend.records(), "the removal")
    new = Child(fleet.ask).outcome()
    assert one.get() == new != old
    until(lambda: other.get() == new, "the look")
    other.do("invalidate", old)
    assert Child(fleet.ask).outcome() == new
    assert entra.count() == 2


# Failures


def described(call: Callable[[], object]) -> list[Any]:
    """How a call fails."""
    with pytest.raises(TokenManagerError) as caught:
        call()
    error = caught.value
    return [type(error).__name__, list(error.error_codes), error.correlation_id, str(error)]


def test_a_refusal_is_the_answer_to_all_who_wait(entra, fleet, monkeypatch):
    monkeypatch.setattr(fetch_once, "_VERDICT_TTL", 60.0)  # however slow this machine is

    def after(operation: str, result: object) -> None:
        fleet.note(operation, result)
        if operation == "delete":  # were the lease free now, another worker would take it
            threading.Event().wait(1.0)

    def work() -> list[Any]:
        with fleet.registry(Watched(fleet.backend.url, after=after)) as tokens:
            return in_threads(3, lambda: described(lambda: tokens.get_access_token(SCOPE)))

    entra.expire_secret()
    with entra.paused():
        children = [Child(work) for _ in range(5)]
        fleet.attempts(5)
    refusals = [refusal for child in children for refusal in child.outcome()]
    assert len(refusals) == 15
    assert refusals == refusals[:1] * 15
    assert refusals[0][:2] == [InvalidCredentialError.__name__, [7000222]]
    assert entra.count() == 1


def test_other_workers_leave_a_service_alone_that_asks_for_it(entra, fleet):
    def work() -> float | None:
        with fleet.registry() as tokens, pytest.raises(ThrottledError) as caught:
            tokens.get_access_token(SCOPE)
        return caught.value.retry_after

    entra.fail_next(status=429, retry_after=120)
    assert Child(work).outcome() == 120
    assert 0 < Child(work).outcome() <= 120
    assert entra.count() == 1


# Trouble with the store


#: Seconds: more than a search that meets two dead leases, one after the other, and then asks.
_LONGEST_ROUND = 60.0


class Busy:
    """Workers that call all the time, and say how it went.

    Args:
        fleet: Whose they are.
        begin: What each does first.
    """

    def __init__(self, fleet: Fleet, begin: Callable[[], object] = lambda: None) -> None:
        self._fleet = fleet
        self._begin = begin
        self._over = FORK.Event()
        self._lives = [FORK.Semaphore(0) for _ in range(3)]
        self._children = [Child(lambda number=number: self._live(number)) for number in range(3)]

    def live(self, rounds: int) -> None:
        """Waits until each has gone through so many rounds of calls."""
        for lives in self._lives:
            for _ in range(rounds):
                assert lives.acquire(timeout=_LONGEST_ROUND), "the workers stand still"

    def end(self) -> int:
        """Sees that no call has failed, and that each shares one token more.

        Returns:
            How often the store has failed them.
        """
        self._over.set()
        errors, shared, failures = zip(*[child.outcome() for child in self._children], strict=True)
        assert errors == ([], [], [])
        asked = self._fleet.entra.count()
        assert Child(self._take).outcome() == list(shared)
        assert self._fleet.entra.count() == asked
        return sum(failures)

    def _live(self, number: int) -> list[Any]:
        self._begin()
        errors: list[str] = []
        events: list[Event] = []
        with self._fleet.registry(on_event=events.append) as tokens:
            in_threads(2, lambda: self._call(tokens, self._lives[number], errors), timeout=200)
            shared: list[str] = []
            until(lambda: self._shares(tokens, own_scope(number), shared), "sharing")
        return [errors, shared[-1], sum(type(event) is StoreFailed for event in events)]

    def _call(self, tokens: TokenRegistry, lives: Any, errors: list[str]) -> None:
        graph = tokens.manager(SCOPE)
        while not self._over.is_set():
            try:
                graph.invalidate(graph.get_access_token())
                graph.get_access_token()
                graph.refresh_access_token()
                self._fleet.ask()
            except Exception as exc:  # noqa: BLE001 - whatever it is, it is an error
                errors.append(repr(exc))
            lives.release()

    def _shares(self, tokens: TokenRegistry, scope: str, shared: list[str]) -> bool:
        shared.append(tokens.manager(scope).refresh_access_token())
        with self._fleet.registry() as another:
            return another.get_access_token(scope) == shared[-1]

    def _take(self) -> list[str]:
        """What a worker finds that comes later."""
        self._begin()
        with self._fleet.registry() as tokens:
            return [tokens.get_access_token(own_scope(number)) for number in range(3)]


def own_scope(number: int) -> str:
    return f"api://worker-{number}/.default"


@pytest.fixture
def soon_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has a store that failed asked again soon."""
    monkeypatch.setattr(guarded, "_LONGEST_REST", 1.0)


@pytest.mark.parametrize("binary", BINARIES.values(), ids=BINARIES.keys())
def test_a_server_that_goes_away_in_the_middle_fails_no_call(entra, soon_again, binary):
    with running_server(binary) as server:
        busy = Busy(Fleet(entra, RedisKeys(server)))
        busy.live(5)
        server.kill()
        busy.live(10)
        server.start()
        busy.live(5)
        server.pause()
        busy.live(2)
        server.resume()
        busy.live(5)
        assert busy.end() > 0


@pytest.fixture
def folder() -> Iterator[Path]:
    """A directory of somebody who is not root."""
    folder = Path(tempfile.mkdtemp(prefix="tokenmgr-"))
    give_away(folder)
    yield folder
    folder.chmod(0o700)
    shutil.rmtree(folder)


def deleted(path: Path) -> None:
    path.unlink(missing_ok=True)


def all_deleted(path: Path) -> None:
    for file in path.parent.glob("tokens.db*"):
        file.unlink(missing_ok=True)


def corrupted(path: Path) -> None:
    # The file alone would be mended by what is still beside it.
    for each in (path, path.with_name(f"{path.name}-wal")):
        with each.open("r+b") as file:
            file.write(os.urandom(each.stat().st_size))


def read_only(path: Path) -> None:
    """What is open stays open: another file takes its place."""
    copy = path.with_name("copy")
    with (
        contextlib.closing(sqlite3.connect(path)) as source,
        contextlib.closing(sqlite3.connect(copy)) as target,
    ):
        source.backup(target)
        # Its holder gives back another one, and all would wait for the end of this one.
        target.execute("DELETE FROM records WHERE key LIKE '%:lease'")
        target.commit()
    give_away(copy)
    copy.chmod(0o400)
    copy.replace(path)
    path.parent.chmod(0o500)


def writable(path: Path) -> None:
    path.parent.chmod(0o700)
    path.chmod(0o600)


def nothing(path: Path) -> None:
    """It mends itself."""


TROUBLES = {
    "deleted": (deleted, nothing),
    "deleted with all that lies beside it": (all_deleted, nothing),
    "corrupted": (corrupted, nothing),
    "made read-only": (read_only, writable),
}


@pytest.mark.parametrize(("trouble", "mend"), TROUBLES.values(), ids=TROUBLES.keys())
def test_a_file_that_is_spoiled_in_the_middle_fails_no_call(
    entra, soon_again, folder, tmp_path, trouble, mend
):
    # What is imported later may be out of reach for who has fewer rights.
    Fleet(entra, SqliteFile(tmp_path)).ask()
    ca_file = folder / "ca.pem"
    shutil.copyfile(entra.ca_file, ca_file)
    give_away(ca_file)
    backend = SqliteFile(folder)
    busy = Busy(Fleet(entra, backend, verify=str(ca_file)), become_nobody)
    busy.live(5)
    trouble(backend.path)
    busy.live(10)
    mend(backend.path)
    busy.live(5)
    failures = busy.end()
    assert failures or mend is nothing


# What lies in the store


def test_nothing_in_the_store_tells_anything_and_all_of_it_ends(entra, fleet, monkeypatch):
    monkeypatch.setattr(fetch_once, "_VERDICT_TTL", 60.0)  # however slow this machine is
    orders = "api://the-orders/.default"
    one = fleet.worker()
    secrets = [one.get(), one.do("refresh_access_token")]
    entra.fail_next(status=400, error="invalid_scope", scope="api://nothing/.default")
    with fleet.registry() as tokens, pytest.raises(TokenManagerError):
        tokens.get_access_token("api://nothing/.default")
    secrets += [part for token in secrets for part in token.split(".")[1:]]
    secrets += [entra.client_id, entra.client_secret, *entra.environment().values(), entra.url]
    secrets += ["contoso", "graph.microsoft.com", "orders", "nothing", "invalid_scope"]
    with fleet.registry() as tokens:
        with entra.paused():
            thread = threading.Thread(target=tokens.get_access_token, args=(orders,))
            thread.start()
            entra.wait_for_requests(1, scope=orders)
            content = fleet.backend.content()
            # A token, a verdict, and a lease.
            assert len(fleet.backend.records()) == 3
            assert [secret for secret in secrets if secret.encode() in content] == []
            assert fleet.backend.without_end() == []
        thread.join(DEADLINE)
        secrets.append(tokens.get_access_token(orders))
    content = fleet.backend.content()
    assert [secret for secret in secrets if secret.encode() in content] == []
    assert content.count(b"tokenmgr:") >= 3


def test_other_apps_tenants_and_policies_never_get_each_other_s_tokens(entra, fleet):
    scope = "https://contoso.onmicrosoft.com/orders/.default"
    app = entra.add_client(secret=entra.client_secret)
    identities = [
        {},
        {"client_id": app},
        {"authority": entra.authority("fabrikam.com")},
        {"authority": entra.b2c_authority(policy="B2C_1_signin")},
        {"authority": entra.b2c_authority(policy="B2C_1_edit")},
        {"authority": entra.b2c_authority("fabrikam", policy="B2C_1_edit")},
    ]

    def work(identity: dict[str, str]) -> str:
        with fleet.registry(**identity) as tokens:
            return tokens.get_access_token(scope)

    children = [[Child(lambda one=one: work(one)) for _ in range(2)] for one in identities]
    tokens = [{child.outcome() for child in pair} for pair in children]
    assert [len(each) for each in tokens] == [1] * 6
    claims = [jwt.decode(*each, options={"verify_signature": False}) for each in tokens]
    assert len({(each["azp"], each["iss"], each.get("tfp")) for each in claims}) == 6
    assert [each["azp"] == app for each in claims] == [False, True, False, False, False, False]
    assert entra.count() == 6


# Event loops


async def turns() -> int:
    """What else the loop has to do."""
    for _ in range(100):
        await asyncio.sleep(0)
    return 100


class Stopping(Watched):
    """A store that hangs in an operation until it is let go."""

    def __init__(self, url: str) -> None:
        super().__init__(url, before=self._stop)
        self.operation: str | None = None
        self.stopped, self.let_go = threading.Event(), threading.Event()
        #: Whether it was let go at all, and did not have to give up by itself.
        self.in_time = True

    def _stop(self, operation: str) -> None:
        if operation == self.operation:
            self.stopped.set()
            self.in_time = self.let_go.wait(DEADLINE / 4) and self.in_time

    async def hangs(self) -> None:
        """Waits until it does, and sees that the loop turns meanwhile."""
        while not self.stopped.is_set():
            await asyncio.sleep(0.001)
        assert await asyncio.gather(*[turns() for _ in range(10)]) == [100] * 10


@pytest.mark.parametrize("call", ["aget_access_token", "arefresh_access_token"])
@pytest.mark.parametrize("operation", ["get", "lease", "put", "delete"])
async def test_a_store_that_hangs_stops_no_event_loop(entra, tmp_path, operation, call):
    store = Stopping(SqliteFile(tmp_path).url)
    store.operation = operation
    with Fleet(entra, SqliteFile(tmp_path)).registry(store) as tokens:
        calling = asyncio.create_task(getattr(tokens.manager(SCOPE), call)())
        await store.hangs()
        assert not calling.done()
        store.let_go.set()
        assert (await calling).startswith("eyJ")
    assert store.in_time
    assert entra.count() == 1


async def test_a_store_that_hangs_stops_no_event_loop_that_brings_a_refusal(entra, tmp_path):
    store = Stopping(SqliteFile(tmp_path).url)
    with Fleet(entra, SqliteFile(tmp_path)).registry(store) as tokens:
        graph = tokens.manager(SCOPE)
        refused = await graph.aget_access_token()
        store.operation = "delete"
        graph.invalidate(refused)
        await store.hangs()
        store.let_go.set()
        assert await graph.aget_access_token() != refused
    assert store.in_time


def test_two_event_loops_turn_while_another_worker_has_the_lease(entra, fleet):
    waiting, turned = threading.Event(), threading.Semaphore(0)

    async def work(tokens: TokenRegistry) -> set[str]:
        calls = [asyncio.create_task(tokens.aget_access_token(SCOPE)) for _ in range(10)]
        while not waiting.is_set():
            await asyncio.sleep(0.001)
        assert await turns()
        assert not any(call.done() for call in calls)
        turned.release()
        return set(await asyncio.gather(*calls))

    with fleet.registry() as one, fleet.registry() as other, ThreadPoolExecutor() as pool:
        with entra.paused():
            holder = Child(fleet.ask)
            entra.wait_for_requests(1)
            loops = [pool.submit(asyncio.run, work(tokens)) for tokens in (one, other)]
            fleet.attempts(3)
            waiting.set()
            assert all(turned.acquire(timeout=DEADLINE) for _ in loops)
        expected = {holder.outcome()}
        assert [loop.result(DEADLINE) for loop in loops] == [expected] * 2
    assert entra.count() == 1


# The end of a program


def ended(entra: EntraEmulator, backend: Backend, command: str) -> str:
    """Runs a program that has to end quietly; gives what it said."""
    with programs.running(
        *("-W", "error", "-X", "dev", WORKER, command), **settings(entra, backend.url)
    ) as process:
        out, err = process.communicate(timeout=DEADLINE)
    assert (process.returncode, err) == (0, "")
    return out


@pytest.mark.parametrize("command", ["ends", "exits", "waits", "awaits"])
def test_a_program_that_ends_with_its_first_token_leaves_no_trace_but_that(entra, fleet, command):
    said = ended(entra, fleet.backend, command)
    assert said.strip() == fleet.ask()
    assert entra.count() == 1
    assert fleet.leases() == []


COMMANDS = {
    "closes": "3 this registry is closed: make a new TokenRegistry\n",
    "leaves": "left\n",
}


@pytest.mark.parametrize(("command", "said"), COMMANDS.items(), ids=COMMANDS.keys())
def test_a_program_ends_at_once_while_another_worker_has_the_lease(entra, fleet, command, said):
    with entra.paused():
        holder = Child(fleet.ask)
        entra.wait_for_requests(1)
        assert ended(entra, fleet.backend, command) == said
    assert holder.outcome()
    assert entra.count() == 1
    assert fleet.leases() == []
