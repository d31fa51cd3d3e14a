"""Leases that are given back: after a failure, an interruption, or at the end of a registry."""

from __future__ import annotations

import itertools
import threading
from types import ModuleType, SimpleNamespace

import pytest
from fork_marks import needs_fork, unwarned_forks
from forking import in_child
from interrupting import interruptions
from support import (
    KEY,
    FakeClock,
    FakeSource,
    HandRefresher,
    RecordingStore,
    make_context,
    make_manager,
    make_sealed,
)
from waiting import until

from tokenmgr import AccessTokenManager, ServiceUnavailableError, StoreError, TokenRequestError
from tokenmgr._sharing import leases, slot
from tokenmgr._sharing.guarded import StoreAwayError
from tokenmgr._sharing.slot import Lease, Slot
from tokenmgr.emulator import EntraEmulator
from tokenmgr.stores import MemoryStore

SCOPE = "https://graph.microsoft.com/.default"


class Unsure(RecordingStore):
    """A store whose answers are lost on the way when it is told so: it has done what was asked."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(clock)
        self.losing: dict[str, list[BaseException]] = {}
        self.threads: dict[str, list[str]] = {}

    def _lose(self, operation: str) -> None:
        self.threads.setdefault(operation, []).append(threading.current_thread().name)
        if self.losing.get(operation):
            raise self.losing[operation].pop()

    def lease(self, key: str, owner: bytes, ttl: float) -> bool:
        try:
            return super().lease(key, owner, ttl)
        finally:
            self._lose("lease")

    def delete(self, key: str, value: bytes) -> bool:
        self._lose("delete")
        return super().delete(key, value)

    def leases(self) -> list[str]:
        return [name for name in self.names if name.endswith(":lease")]


@pytest.fixture
def store(clock: FakeClock) -> Unsure:
    return Unsure(clock)


def worker(clock: FakeClock, store: MemoryStore, name: str = "token") -> AccessTokenManager:
    source = FakeSource(clock, name=name)
    return make_manager(clock, source, refresher=HandRefresher(clock), store=store)


def test_a_lease_whose_answer_was_lost_is_given_back_behind_the_call(
    clock: FakeClock, store: Unsure
):
    store.losing["lease"] = [StoreError("gone")]
    assert worker(clock, store, "a").get_access_token() == "a-1"
    until(lambda: not store.leases(), "its being given back")
    assert set(store.threads["delete"]) == {"tokenmgr-leases"}
    assert worker(clock, store, "b").get_access_token() == "b-1", "and nobody waits for it"


def test_a_lease_that_was_not_given_back_is_given_back_later(clock: FakeClock, store: Unsure):
    store.losing["delete"] = [StoreError("gone"), StoreError("gone")]
    assert worker(clock, store, "a").get_access_token() == "a-1"
    until(lambda: not store.leases(), "its being given back")
    first, *later = store.threads["delete"]
    assert first == "tokenmgr-fetch"
    assert later == ["tokenmgr-leases"] * 2


def test_where_the_store_goes_on_failing_the_lease_ends_by_itself(clock: FakeClock, store: Unsure):
    store.losing["delete"] = [StoreError("gone") for _ in range(100)]
    assert worker(clock, store, "a").get_access_token() == "a-1"
    until(lambda: len(store.threads["delete"]) == 1 + len(leases._PAUSES), "the last attempt")
    assert store.leases()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_worker_that_is_interrupted_as_it_takes_a_lease_gives_it_back(
    clock: FakeClock, store: Unsure
):
    store.losing["lease"] = [KeyboardInterrupt() for _ in range(20)]
    with pytest.raises(TokenRequestError, match="interrupted"):
        worker(clock, store).get_access_token()
    assert not store.leases()


def lease_of(store: MemoryStore, clock: FakeClock) -> Lease:
    return Slot(make_sealed(store, make_context(clock)), KEY).lease()


@pytest.mark.traces
@pytest.mark.parametrize("room", [slot, leases])
def test_an_interruption_at_any_line_loses_no_lease(clock: FakeClock, room: ModuleType):
    times = 0
    for interrupt in interruptions(room):
        times += 1
        store = Unsure(clock)
        lease = lease_of(store, clock)
        interrupt(lease.take)
        lease.give_back()
        assert not store.leases()
    assert times > 3


def test_a_lease_is_given_back_to_a_store_that_is_away_without_a_wait(
    clock: FakeClock, store: Unsure
):
    lease = lease_of(store, clock)
    assert lease.take()
    store.error = StoreError("gone")
    with pytest.raises(StoreAwayError):
        lease.look()
    lease.give_back()
    until(lambda: store.threads.get("delete"), "the attempt")
    assert set(store.threads["delete"]) == {"tokenmgr-leases"}


@needs_fork
@unwarned_forks
def test_a_child_leaves_its_parent_s_leases_to_its_parent(clock: FakeClock, store: Unsure):
    lease = lease_of(store, clock)
    assert lease.take()

    def work() -> int:
        lease._leases.give_back_all(1.0)
        lease.give_back()
        return len(store.leases())

    assert in_child(work) == 1
    lease.give_back()
    assert not store.leases()


# The end of a registry


def test_closing_gives_back_the_lease_of_a_fetch_that_goes_on(entra: EntraEmulator):
    store = MemoryStore()
    with entra.paused():
        tokens = entra.registry(store=store)
        tokens.manager(SCOPE).prefetch()
        entra.wait_for_requests(1)
        assert [name for name in store._records if name.endswith(":lease")]
        tokens.close()
        assert not store._records
        with entra.registry(store=store) as other:
            other.manager(SCOPE).prefetch()
            entra.wait_for_requests(2)  # and does not wait for a lease


def test_what_a_closed_registry_learns_touches_no_other_worker_s_lease(clock: FakeClock):
    store = RecordingStore(clock)
    one = lease_of(store, clock)
    other = lease_of(store, clock)
    assert one.take()
    one._leases.give_back_all(1.0)
    assert other.take()
    holder = other.look()
    one.leave(slot.Verdict(ServiceUnavailableError("failing"), 0.0, 2.0))
    one.give_back()
    assert other.look() == holder


def test_the_end_takes_no_longer_than_it_may(
    clock: FakeClock, store: Unsure, monkeypatch: pytest.MonkeyPatch
):
    taken = []
    sealed = make_sealed(store, make_context(clock))
    for number in range(10):
        taken.append(Lease(sealed, None, f"{number}:lease", print))  # type: ignore[arg-type]
        assert taken[-1].take()
    now = itertools.count(step=0.05)  # by the end of each operation
    monkeypatch.setattr(leases, "time", SimpleNamespace(monotonic=lambda: next(now)))
    sealed.leases.give_back_all(0.1)
    assert 0 < len(store._records) < 10


def test_no_lease_is_taken_while_the_process_exits(clock: FakeClock, store: Unsure):
    lease = lease_of(store, clock)
    leases._exit(lease._leases._mine)
    with pytest.raises(StoreAwayError):
        lease.take()
    assert not store.leases()
