from __future__ import annotations

import functools
import gc
import itertools
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import trustme
from fake_sessions import SessionApp
from support import FakeClock, FakeSource, RecordingStore, make_manager

from tokenmgr import AccessTokenManager
from tokenmgr.emulator import EntraEmulator, tokens

# No test judges by how fast the machine is.
hypothesis.settings.register_profile(
    "untimed", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
# For more than one version of Python: what depends on that shows in a few examples.
hypothesis.settings.register_profile(
    "short", parent=hypothesis.settings.get_profile("untimed"), max_examples=15
)
hypothesis.settings.load_profile("untimed")


#: What runs many processes or rounds, or is no part of the package, those that take longest first.
#: Coverage slows each of them by half and learns nothing from them that others do not show.
_UNCOVERED = (
    "test_sessions_killed.py",
    "test_signed_in_storm.py",
    "explorer",
    "benchmarks",
    "test_fleet.py",
    "test_users_storm.py",
    "sdks",
    "test_served.py",
    "test_examples.py",
    "test_on_behalf_of_examples.py",
    "test_many_registries.py",
    "test_uwsgi.py",
    "test_api_for_apps.py",
    "test_web_servers.py",
    "test_contract.py",
)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks what runs without coverage, and has it begin with what takes long."""
    here, place = Path(__file__).parent, {name: at for at, name in enumerate(_UNCOVERED)}
    late = len(_UNCOVERED)

    def placed(item: pytest.Item) -> int:
        if not item.path.is_relative_to(here):
            return late
        return min(place.get(each, late) for each in item.path.relative_to(here).parts)

    for item in items:
        if placed(item) < late:
            item.add_marker(pytest.mark.uncovered)
    items.sort(key=placed)


@pytest.fixture(scope="session", autouse=True)
def _few_signing_keys() -> Iterator[None]:
    """Gives emulators their keys in turns: one takes as long to make as most tests take."""
    made = functools.cache(lambda number, make=tokens._new_key: make())
    turns = itertools.cycle(range(3))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokens, "_new_key", lambda: made(next(turns)))
        yield


@pytest.fixture
def app(clock: FakeClock) -> SessionApp:
    """An app that gives its sessions whatever they ask for."""
    return SessionApp(clock)


@pytest.fixture
def store(clock: FakeClock) -> RecordingStore:
    """A store of this process, which notes what is done to it."""
    return RecordingStore(clock)


@pytest.fixture
def entra() -> Iterator[EntraEmulator]:
    """A local Entra of the test's own, over real TLS."""
    with EntraEmulator() as emulator:
        yield emulator


@pytest.fixture(scope="session")
def tls() -> trustme.CA:
    """What signs the certificates of servers that are not the emulator."""
    return trustme.CA()


@pytest.fixture(scope="session")
def ca_file(tls: trustme.CA) -> Iterator[str]:
    """The path of what a client has to trust for that."""
    with tls.cert_pem.tempfile() as path:
        yield path


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def source(clock: FakeClock) -> FakeSource:
    return FakeSource(clock)


@pytest.fixture
def manager(clock: FakeClock, source: FakeSource) -> AccessTokenManager:
    return make_manager(clock, source)


@pytest.fixture
def threads_take_turns() -> Iterator[None]:
    """Threads that run take turns all the time, and meet each other in the middle of things."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "HTTPS_PROXY", "https_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def _no_thread_left_behind() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    give_up_at, pause = time.monotonic() + 60, 0.001
    # One that is just being started counts, and cannot be joined yet.
    while left := {thread for thread in threading.enumerate() if thread not in before}:
        names = [thread.name for thread in left if thread.name.startswith("tokenmgr")]
        if not names:
            return
        assert time.monotonic() < give_up_at, f"{names} still run"
        threading.Event().wait(pause)
        # They may work for what only the frames of an error refer to. A collection takes a second
        # in a large process, in which no other thread runs: they have as long between two of them.
        gc.collect()
        pause = min(2 * pause, 1.0)
