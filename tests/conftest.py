from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
from support import FakeClock, FakeSource, make_manager

from tokenmgr import AccessTokenManager
from tokenmgr.emulator import EntraEmulator


@pytest.fixture
def entra() -> Iterator[EntraEmulator]:
    """A local Entra of the test's own, over real TLS."""
    with EntraEmulator() as emulator:
        yield emulator


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def source(clock: FakeClock) -> FakeSource:
    return FakeSource(clock)


@pytest.fixture
def manager(clock: FakeClock, source: FakeSource) -> AccessTokenManager:
    return make_manager(clock, source)


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "HTTPS_PROXY", "https_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def _no_thread_left_behind() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    give_up_at = time.monotonic() + 10
    for thread in set(threading.enumerate()) - before:
        if thread.name.startswith("tokenmgr"):
            thread.join(max(0.0, give_up_at - time.monotonic()))
            assert not thread.is_alive(), f"{thread.name} is still running"
