from __future__ import annotations

import pytest
from fake_sessions import SessionApp
from support import FakeClock, RecordingStore

from tokenmgr._sharing import leases


@pytest.fixture
def app(clock: FakeClock) -> SessionApp:
    return SessionApp(clock)


@pytest.fixture
def store(clock: FakeClock) -> RecordingStore:
    return RecordingStore(clock)


@pytest.fixture(autouse=True)
def _leases_are_given_up_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has no test wait for what tries to give a lease back to a store that goes on failing."""
    monkeypatch.setattr(leases, "_PAUSES", (0.0, 0.01, 0.01))
