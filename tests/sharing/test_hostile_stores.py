"""Stores that keep what has ended, bring back what is old, or give what nobody put there."""

from __future__ import annotations

import itertools
import secrets
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from support import EXACT, FakeClock, FakeSource, HandRefresher, RecordingStore, make_manager
from support import settle as settled
from waiting import until

from tokenmgr import (
    AccessTokenManager,
    InvalidScopeError,
    ServiceUnavailableError,
    ThrottledError,
    TokenManagerError,
    TokenTimeoutError,
)
from tokenmgr._sharing import fetch_once
from tokenmgr.events import Event, LeaseOutlived, RecordRefused
from tokenmgr.stores import MemoryStore
from tokenmgr.stores.base import MOST_BYTES

#: Seconds that one lease lasts here, with the time for which its holder is waited for beyond it.
LEASE = 10.0 + 2.0 + 2.0
FOR_EVER = 1e9


class Hostile(RecordingStore):
    """A store that somebody else writes to, or that does not do what it is told."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(clock)
        #: What it gives in place of what lies there.
        self.gives: Callable[[str, bytes | None], bytes | None] = lambda key, value: value
        #: How often each thread has looked.
        self.looks: Counter[int] = Counter()

    def get(self, key: str) -> bytes | None:
        self.looks[threading.get_ident()] += 1
        return self.gives(key, super().get(key))

    def put_back(self, key: str, value: bytes) -> None:
        """Puts it without an end."""
        MemoryStore.put(self, key, value, FOR_EVER)

    def found(self, suffix: str) -> tuple[str, bytes]:
        """The one name that ends so, and what lies under it."""
        ((key, (value, _)),) = [each for each in self._records.items() if each[0].endswith(suffix)]
        return key, value


class Fleet:
    """Workers over a hostile store."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.store = Hostile(clock)
        self.events: list[Event] = []
        self.sources: list[FakeSource] = []

    def worker(self) -> AccessTokenManager:
        self.sources.append(FakeSource(self.clock, name="abcdefghij"[len(self.sources)]))
        return make_manager(
            self.clock,
            self.sources[-1],
            EXACT,
            refresher=HandRefresher(self.clock),
            store=self.store,
            on_event=self.events.append,
        )

    def failing(self, error: TokenManagerError) -> tuple[str, bytes]:
        """What a worker leaves in its lease's place when the service answers so."""
        worker = self.worker()
        self.sources[-1].error = error
        with pytest.raises(type(error)):
            worker.get_access_token()
        return self.store.found(":lease")

    @property
    def fetches(self) -> int:
        return sum(source.fetches for source in self.sources)

    def told(self, kind: type[Event]) -> list[Any]:
        return [event for event in self.events if type(event) is kind]


@pytest.fixture(autouse=True)
def _looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has those who wait look at the lease as fast as these tests move the clock."""
    monkeypatch.setattr(fetch_once, "_LONGEST_PAUSE", 0.02)


@pytest.fixture
def fleet(clock: FakeClock) -> Fleet:
    return Fleet(clock)


def seconds_until(fleet: Fleet, calls: list[Callable[[], object]]) -> float:
    """How much time has to pass until all of these have come to their end."""
    began = fleet.clock.elapsed()
    threads = [threading.Thread(target=call, daemon=True) for call in calls]
    for thread in threads:
        thread.start()

    def alive() -> int:
        return sum(thread.is_alive() for thread in threads)

    while waiting := alive():
        before = fleet.store.looks.copy()

        def have_looked(before: Counter[int] = before, waiting: int = waiting) -> bool:
            looks = fleet.store.looks.copy() - before
            return alive() < waiting or sum(n > 1 for n in looks.values()) >= waiting

        until(have_looked, "a look of each at the lease")
        if alive():
            fleet.clock.advance(0.5)
    return fleet.clock.elapsed() - began


# Verdicts

REFUSAL = InvalidScopeError("no", error="invalid_scope")
ERRORS = [REFUSAL, ServiceUnavailableError("failing", status=503), ThrottledError("slow down")]


@pytest.mark.parametrize("error", ERRORS)
def test_an_old_verdict_that_is_put_back_without_an_end_counts_for_nothing(fleet, error):
    name, verdict = fleet.failing(error)
    fleet.clock.advance(2.5)
    for _ in range(3):
        fleet.store.put_back(name, verdict)
        # Nobody waits either: the clock stands still.
        fleet.worker().get_access_token()
        assert fleet.store.get(name) is None, "it is taken away"
        record, _ = fleet.store.found("")
        MemoryStore.delete(fleet.store, record, fleet.store.get(record))
    assert fleet.fetches == 4
    assert not fleet.told(LeaseOutlived)


def test_a_verdict_counts_for_as_long_as_it_says_and_no_longer(fleet):
    name, verdict = fleet.failing(ThrottledError("slow down", retry_after=30.0))
    fleet.store.put_back(name, verdict)
    fleet.clock.advance(29.0)
    with pytest.raises(ThrottledError) as caught:
        fleet.worker().get_access_token()
    assert caught.value.retry_after == 1.0
    fleet.clock.advance(1.0)
    assert fleet.worker().get_access_token() == "c-1"


def test_an_endless_retry_after_counts_for_as_long_as_ours_would(fleet):
    name, verdict = fleet.failing(ThrottledError("slow down", retry_after=FOR_EVER))
    fleet.store.put_back(name, verdict)
    fleet.clock.advance(EXACT.retry_after_cap)
    assert fleet.worker().get_access_token() == "b-1"


@pytest.mark.parametrize(("ahead", "believed"), [(5.0, True), (60.0, False), (86_400.0, False)])
def test_a_verdict_of_a_clock_that_is_ahead_counts_as_far_as_clocks_may_differ(
    fleet, ahead, believed
):
    fleet.clock.step_wall(ahead)
    name, verdict = fleet.failing(REFUSAL)
    fleet.clock.step_wall(-ahead)
    fleet.store.put_back(name, verdict)
    stood = 0
    for _ in range(100):
        worker = fleet.worker() if not stood else worker_again(fleet)
        try:
            worker.get_access_token()
        except InvalidScopeError:
            stood += 1
        else:
            break
        fleet.clock.advance(1.0)
    assert (stood > 0) == believed
    assert stood <= 2 + EXACT.skew


def worker_again(fleet: Fleet) -> AccessTokenManager:
    """Another cold worker, in the place of the last one."""
    fleet.sources.pop()
    return fleet.worker()


@pytest.mark.parametrize("error", [*ERRORS, ThrottledError("slow down", retry_after=600.0)])
def test_no_verdict_fails_a_worker_that_has_a_valid_token(fleet, error):
    warm = fleet.worker()
    fleet.sources[0].lifetime = 20.0
    assert warm.get_access_token() == "a-1"
    fleet.clock.advance(5.0)
    record, content = fleet.store.found("")
    MemoryStore.delete(fleet.store, record, content)
    name, verdict = fleet.failing(error)
    fleet.store.put_back(name, verdict)
    fleet.sources[0].error = error
    for _ in range(9):
        assert warm.get_access_token() == "a-1"
        settled(warm)
        fleet.clock.advance(1.0)


# Records


def test_an_older_record_that_is_put_back_takes_no_newer_token_s_place(fleet, clock):
    one, other = fleet.worker(), fleet.worker()
    fleet.sources[0].lifetime = 100_000.0
    assert one.get_access_token() == "a-1"
    name, older = fleet.store.found("")
    fleet.sources[0].lifetime = 3600.0
    clock.advance(1.0)
    assert one.refresh_access_token() == "a-2"
    assert other.get_access_token() == "a-2"
    fleet.store.put_back(name, older)
    clock.advance(3000.0)
    other.get_access_token()
    settled(other)
    assert other.get_access_token() == "b-1"
    other._cell.look()
    assert other.get_access_token() == "b-1"


def test_a_refresh_is_not_served_by_an_older_record_that_comes_in_between(fleet, clock):
    one = fleet.worker()
    assert one.get_access_token() == "a-1"
    name, older = fleet.store.found("")
    clock.advance(1.0)
    assert one.refresh_access_token() == "a-2"
    other = fleet.worker()
    fleet.store.before = lambda asked: asked == "lease" and fleet.store.put_back(name, older)
    assert other.refresh_access_token() == "b-1"


@pytest.mark.parametrize("size", [MOST_BYTES + 1, 1_000_000])
def test_a_record_that_is_too_large_is_a_miss_and_an_event(fleet, size):
    fleet.worker().get_access_token()
    name, _ = fleet.store.found("")
    fleet.store.put_back(name, bytes(size))
    assert fleet.worker().get_access_token() == "b-1"
    until(lambda: fleet.told(RecordRefused), "the event")
    assert fleet.told(RecordRefused)[0].reason == "larger than anything that is put there"


# Leases


def lease_name(fleet: Fleet) -> str:
    """Where the lease of the workers lies, who are all cold again."""
    fleet.worker().get_access_token()
    name, record = fleet.store.found("")
    MemoryStore.delete(fleet.store, name, record)
    return f"{name}:lease"


def test_a_lease_without_an_end_is_waited_for_once_by_all(fleet):
    name = lease_name(fleet)
    fleet.store.put_back(name, secrets.token_bytes(16))
    workers = [fleet.worker() for _ in range(4)]
    waited = seconds_until(fleet, [worker.get_access_token for worker in workers])
    assert LEASE - 2 <= waited <= LEASE + 3
    assert fleet.fetches == 2, "one for all of them"
    until(lambda: fleet.told(LeaseOutlived), "the event")


def test_a_lease_that_another_takes_as_it_outlives_itself_is_waited_for_too(fleet):
    name, dead, other = lease_name(fleet), secrets.token_bytes(16), secrets.token_bytes(16)
    fleet.store.put_back(name, dead)
    began = fleet.clock.elapsed()

    def gives(key: str, value: bytes | None) -> bytes | None:
        since = fleet.clock.elapsed() - began
        if key == name and value == dead and since > LEASE - 1.5:
            fleet.store.put_back(name, value := other)
        if key == name and value == other and since > LEASE + 3:
            MemoryStore.delete(fleet.store, name, other)
            return None
        return value

    fleet.store.gives = gives
    assert seconds_until(fleet, [fleet.worker().get_access_token]) > LEASE + 3


def test_a_lease_that_nothing_takes_away_is_waited_for_once_in_a_call(fleet, monkeypatch):
    name = lease_name(fleet)
    fleet.store.put_back(name, secrets.token_bytes(16))
    monkeypatch.setattr(fleet.store, "delete", lambda key, value: False)
    for _ in range(2):
        worker = fleet.worker()
        assert seconds_until(fleet, [worker.get_access_token]) <= LEASE + 2
        assert worker.status().state == "fresh"
        del fleet.store._records[name.removesuffix(":lease")]


def test_a_lease_that_changes_for_ever_is_waited_for_once(fleet):
    name = lease_name(fleet)
    fleet.store.put_back(name, bytes(16))
    fleet.store.gives = lambda key, value: secrets.token_bytes(16) if key == name else value
    worker = fleet.worker()
    assert seconds_until(fleet, [worker.get_access_token]) <= LEASE + 2
    assert worker.get_access_token() == "b-1"


def test_a_lease_that_comes_and_goes_for_ever_is_waited_for_twice_at_most(fleet):
    name = lease_name(fleet)
    fleet.store.put_back(name, bytes(16))
    answers = itertools.cycle([None, secrets.token_bytes(16), secrets.token_bytes(16)])
    fleet.store.gives = lambda key, value: next(answers) if key == name else value
    worker = fleet.worker()
    assert seconds_until(fleet, [worker.get_access_token]) <= 2 * LEASE + 2
    assert worker.get_access_token() == "b-1"


def test_a_fleet_whose_holders_die_one_after_another_is_waited_for(fleet):
    """Each lease is seen to end before it is taken anew: there is somebody."""
    name = lease_name(fleet)
    MemoryStore.put(fleet.store, name, secrets.token_bytes(16), 12.0)
    second = secrets.token_bytes(16)

    def die(operation: str) -> None:
        if operation == "lease" and fleet.store._get(name) is None:
            fleet.store.before = lambda operation: None
            MemoryStore.put(fleet.store, name, second, 12.0)

    fleet.store.before = die
    worker = fleet.worker()
    waited = seconds_until(fleet, [worker.get_access_token])
    assert 24.0 <= waited <= 27.0
    assert worker.get_access_token() == "b-1"
    assert not fleet.told(LeaseOutlived)


@pytest.mark.parametrize(
    "junk", [b"", b"junk", bytes(17), bytes(100), bytes(MOST_BYTES + 1)], ids=len
)
def test_junk_in_a_lease_s_place_is_no_lease(fleet, junk):
    name = lease_name(fleet)
    fleet.store.put_back(name, junk)
    assert fleet.worker().get_access_token() == "b-1", "and the clock stands still"
    assert fleet.store.get(name) is None
    until(lambda: fleet.told(RecordRefused), "the event")


def test_junk_that_nothing_takes_away_costs_no_wait(fleet, monkeypatch):
    name = lease_name(fleet)
    fleet.store.put_back(name, bytes(MOST_BYTES + 1))
    monkeypatch.setattr(fleet.store, "delete", lambda key, value: False)
    assert fleet.worker().get_access_token() == "b-1"


def test_a_caller_s_timeout_holds_whatever_the_store_does(fleet):
    name = lease_name(fleet)
    fleet.store.put_back(name, bytes(16))
    fleet.store.gives = lambda key, value: secrets.token_bytes(16) if key == name else value
    worker = fleet.worker()
    with pytest.raises(TokenTimeoutError):
        worker.get_access_token(timeout=0.2)
    assert fleet.fetches == 1
    assert seconds_until(fleet, [worker.get_access_token]) <= 2 * LEASE
    assert worker.get_access_token() == "b-1"
