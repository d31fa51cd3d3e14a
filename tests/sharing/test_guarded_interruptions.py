"""Interruptions in the middle of the probe of a store that was away."""

from __future__ import annotations

import pytest
from interrupting import interruptions
from support import FakeClock, RecordingStore, in_threads, make_context

from tokenmgr import StoreError
from tokenmgr._sharing import guarded
from tokenmgr._sharing.guarded import GuardedStore, StoreAwayError

pytestmark = pytest.mark.traces


def test_a_probe_that_is_interrupted_at_any_line_is_followed_by_another(clock: FakeClock):
    times = 0
    for interrupt in interruptions(guarded):
        times += 1
        store = RecordingStore(clock)
        watched = GuardedStore(store, make_context(clock), probe_key="probe")
        store.error = StoreError("away")
        with pytest.raises(StoreAwayError):
            watched.get("key")
        store.error = None
        interrupt(watched._probe)
        assert in_threads(1, watched._probe) == [None]
        assert watched.get("key") is None
    assert times > 10
