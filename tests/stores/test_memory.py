from __future__ import annotations

import pytest
from forking import in_child
from support import FakeClock

from tokenmgr.stores import MemoryStore
from tokenmgr.stores.contract import TokenStoreContract


class TestMemoryStore(TokenStoreContract):
    @pytest.fixture
    def store(self, clock: FakeClock) -> MemoryStore:
        self.clock = clock
        return MemoryStore(clock)

    def let_pass(self, seconds: float) -> None:
        self.clock.advance(seconds)


def test_ended_records_leave_the_memory(clock: FakeClock):
    store = MemoryStore(clock)
    for number in range(1000):
        store.put(f"key-{number}", b"value", 1.0)
        clock.advance(0.5)
    assert len(store._records) < 300


def test_a_child_goes_on_with_a_copy():
    store = MemoryStore()
    store.put("key", b"value", 30.0)
    with store._lock:
        assert in_child(lambda: store.get("key") == b"value")


def test_who_comes_back_in_the_middle_of_an_operation_is_served():
    """As a signal's handler does, or the end of an object that the garbage collector finds."""

    class Clock(FakeClock):
        def elapsed(self) -> float:
            if not found:
                found.append(None)
                store.put("another", b"value", 30.0)
                found.append(store.get("another"))
            return super().elapsed()

    found: list[bytes | None] = []
    store = MemoryStore(Clock())
    store.put("key", b"value", 30.0)
    assert store.get("key") == found[1] == b"value"
