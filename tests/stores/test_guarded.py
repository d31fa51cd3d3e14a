"""A store that fails is left alone for a while, and told of without its secrets."""

from __future__ import annotations

import pytest
from forking import held, in_child
from support import FakeClock

from tokenmgr import StoreError
from tokenmgr.events import Event, StoreFailed, StoreRecovered
from tokenmgr.stores import MemoryStore
from tokenmgr.stores.guarded import GuardedStore, StoreAwayError


class Flaky(MemoryStore):
    """A store that fails when it is told to."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(clock)
        self.error: Exception | None = None
        self.calls = 0

    def _get(self, key: str) -> bytes | None:
        self.calls += 1
        if self.error is not None:
            raise self.error
        return super()._get(key)


@pytest.fixture
def events() -> list[Event]:
    return []


@pytest.fixture
def flaky(clock: FakeClock) -> Flaky:
    return Flaky(clock)


@pytest.fixture
def store(flaky: Flaky, clock: FakeClock, events: list[Event]) -> GuardedStore:
    return GuardedStore(flaky, clock, events.append)


def test_it_passes_on_what_the_store_does(store):
    store.put("key", b"value", 30.0)
    assert store.get("key") == b"value"
    assert not store.lease("key", b"owner", 30.0)
    assert store.delete("key", b"value")
    assert store.lease("key", b"owner", 30.0)


def test_after_a_failure_the_store_is_left_alone_for_one_to_two_seconds(store, flaky, clock):
    flaky.error = OSError("gone")
    with pytest.raises(StoreAwayError):
        store.get("key")
    for _ in range(100):
        with pytest.raises(StoreAwayError):
            store.lease("key", b"owner", 30.0)
    clock.advance(0.99)
    with pytest.raises(StoreAwayError):
        store.get("key")
    assert flaky.calls == 1
    clock.advance(1.01)
    with pytest.raises(StoreAwayError):
        store.get("key")
    assert flaky.calls == 2


def test_it_is_left_alone_for_longer_each_time_up_to_half_a_minute(store, flaky, clock, events):
    flaky.error = OSError("gone")
    for _ in range(10):
        with pytest.raises(StoreAwayError):
            store.get("key")
        clock.advance(30.0)
    seconds = [event.seconds for event in events]
    longest = [2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0, 30.0, 30.0, 30.0]
    assert all(most / 2 <= each <= most for each, most in zip(seconds, longest, strict=True))


def test_one_call_probes_and_its_success_lets_all_back(store, flaky, clock, events):
    flaky.error = OSError("gone")
    with pytest.raises(StoreAwayError):
        store.get("key")
    clock.advance(2.0)
    flaky.error = None
    probing: list[object] = []

    def meanwhile(key: str) -> bytes | None:
        try:
            store.delete("key", b"value")
        except StoreAwayError as exc:
            probing.append(exc)
        return None

    flaky.get = meanwhile
    store.get("key")
    assert len(probing) == 1, "the others wait for what the probe learns"
    assert not store.delete("key", b"value")
    assert isinstance(events[-1], StoreRecovered)
    assert len(events) == 2
    flaky.error = OSError("gone")
    with pytest.raises(StoreAwayError):
        store.put("key", b"value", 1.0) or store.delete("key", b"value")
    assert events[-1].seconds <= 2.0, "its failures are counted anew"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError("redis://:hunter2@host"), "OSError"),
        (StoreError("the disk is full: make room"), "StoreError: the disk is full: make room"),
    ],
)
def test_only_our_own_words_are_told(store, flaky, clock, events, error, told):
    flaky.error = error
    with pytest.raises(StoreAwayError) as caught:
        store.get("key")
    assert events == [StoreFailed(clock.wall(), "get", told, events[0].seconds)]
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_an_interruption_is_no_failure_of_the_store(store, flaky, events):
    flaky.error = KeyboardInterrupt()  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        store.get("key")
    flaky.error = None
    assert store.get("key") is None
    assert not events


def test_a_child_asks_although_its_parent_was_just_asking(store):
    store.put("key", b"value", 30.0)
    with held(store._lock):
        assert in_child(lambda: store.get("key") == b"value")
