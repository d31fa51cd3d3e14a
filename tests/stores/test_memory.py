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
