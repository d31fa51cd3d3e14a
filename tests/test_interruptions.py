"""What hits a caller at any line: a time limit's exception, or a handler that comes back."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fork_marks import needs_signals
from line_by_line import AtLine
from support import FakeClock, FakeSource, make_manager, settle

from tokenmgr import AccessTokenManager, TokenManagerError
from tokenmgr._runtime import forks
from tokenmgr._runtime.workers import Workers
from tokenmgr.events import BackingOff, Event, RequestFailed
from tokenmgr.stores import TokenStore
from tokenmgr.stores.sqlite import SqliteStore

pytestmark = [needs_signals, pytest.mark.traces]

#: Whoever waits for what does not come does so for a minute.
AT_ONCE = 10.0


class TimeLimit(Exception):  # noqa: N818 - as Celery's, which is no BaseException either
    """Out of a signal's handler."""


class Stop(KeyboardInterrupt):
    """Out of a signal's handler, and through asyncio's own code, which keeps all else."""


class NoThreads(Workers):
    """Workers where no thread runs, so that callers fetch by themselves."""

    def do(self, work: Callable[[], object]) -> None:
        raise RuntimeError("can't start new thread")


class Trial:
    """A manager in the middle of its life."""

    def __init__(
        self, age: float | None, store: TokenStore | None = None, workers: Workers | None = None
    ) -> None:
        self.clock = FakeClock()
        self.source = FakeSource(self.clock)
        self.told: list[Event] = []
        self.manager = make_manager(
            self.clock, self.source, store=store, on_event=self.told.append, workers=workers
        )
        if age is not None:
            self.manager.get_access_token()
            self.clock.advance(age)

    def check(self) -> None:
        """All is free, nothing is said of the service, and the next calls work at once."""
        cell = self.manager._cell
        for each in (self.manager, cell, cell.context.workers, cell.context.refresher):
            assert not each._lock._is_owned()
        assert not forks._mine.reads
        assert threading.get_ident() not in forks._lock._readers
        began = time.monotonic()
        assert self.manager.get_access_token().startswith("token-")
        assert self.manager.refresh_access_token().startswith("token-")
        assert time.monotonic() - began < AT_ONCE
        settle(self.manager)
        assert self.manager.status().last_error is None
        assert not [each for each in self.told if isinstance(each, (RequestFailed, BackingOff))]


@contextlib.contextmanager
def handler(does: Callable[[], object]) -> Iterator[Callable[[], None]]:
    """Gives what raises a signal, whose handler does that."""
    before = signal.signal(signal.SIGUSR1, lambda *_: does())
    yield lambda: signal.raise_signal(signal.SIGUSR1)
    signal.signal(signal.SIGUSR1, before)


AGES = {"cold": None, "fresh": 0.0, "aging": 2880.0, "expired": 3600.0}
CALLS: dict[str, Callable[[AccessTokenManager], object]] = {
    "get": lambda manager: manager.get_access_token(),
    "get for long": lambda manager: manager.get_token(min_ttl=3000.0),
    "aget": lambda manager: asyncio.run(manager.aget_access_token()),
    "refresh": lambda manager: manager.refresh_access_token(),
    "refresh with claims": lambda manager: manager.refresh_access_token(claims="{}"),
    "prefetch": lambda manager: manager.prefetch(),
    "invalidate": lambda manager: manager.invalidate("token-1"),
    "status": lambda manager: manager.status(),
}

every_age = pytest.mark.parametrize("age", AGES.values(), ids=AGES.keys())
#: Each call where it may have to wait and where it need not, and the two that differ at every age.
every_call = pytest.mark.parametrize(
    ("name", "age"),
    [
        pytest.param(name, age, id=f"{name}-{called}")
        for name in CALLS
        for called, age in AGES.items()
        if name in ("get", "refresh") or called in ("cold", "aging")
    ],
)


def interrupt_at_every_line(
    name: str, trial_of: Callable[[], Trial], kind: type[BaseException] = TimeLimit
) -> None:
    def interrupt() -> None:
        raise error

    error = kind()
    with handler(interrupt) as interruption:
        number, where = 0, ""
        while where is not None:
            number, trial = number + 1, trial_of()
            with AtLine(number, interruption) as at:
                raised: BaseException | None = None
                try:
                    CALLS[name](trial.manager)
                except kind as exc:
                    raised = exc
            where = at.where
            assert raised is (error if where else None), where
            try:
                trial.check()
            except (AssertionError, TokenManagerError) as failure:
                raise AssertionError(f"interrupted at {where}") from failure
    assert number > 1


@every_call
def test_an_exception_at_any_line_passes_and_leaves_nothing_behind(
    age: float | None, name: str
) -> None:
    kind = Stop if name == "aget" else TimeLimit
    interrupt_at_every_line(name, lambda: Trial(age), kind)


@pytest.mark.parametrize("name", ["get", "refresh"])
def test_an_exception_at_any_line_leaves_a_shared_store_at_work(tmp_path: Path, name: str) -> None:
    store = SqliteStore(tmp_path / "tokens.db")
    interrupt_at_every_line(name, lambda: Trial(3600.0, store))
    store.close()


@every_age
@pytest.mark.parametrize("name", ["get", "refresh"])
def test_where_callers_fetch_an_exception_at_any_line_is_none_of_the_service_s(
    age: float | None, name: str
) -> None:
    interrupt_at_every_line(name, lambda: Trial(age, workers=NoThreads(1, name="none")))


@pytest.mark.filterwarnings("ignore:.*blocks the event loop")  # which a handler has to
@every_call
def test_who_comes_back_at_any_line_has_a_token_or_an_error_at_once(
    age: float | None, name: str
) -> None:
    def come_back() -> None:
        began = time.monotonic()
        with contextlib.suppress(TokenManagerError):  # it cannot wait for its own thread
            trial.manager.get_access_token()
        trial.manager.status()
        took.append(time.monotonic() - began)

    took: list[float] = []
    with handler(come_back) as interruption:
        number, where = 0, ""
        while where is not None:
            number, trial = number + 1, Trial(age)
            with AtLine(number, interruption) as at:
                CALLS[name](trial.manager)
            where = at.where
            trial.check()
    assert max(took) < AT_ONCE
