"""Interruptions in the middle of a SQLite store's operations, and who comes back into one."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from fork_marks import needs_fork, unwarned_forks
from forking import in_child
from interrupting import Interruption, interruptions
from sqlite_files import checked, open_files, works
from support import in_threads

from tokenmgr import StoreError
from tokenmgr.stores import SqliteStore, sqlite
from tokenmgr.stores.sqlite import database

pytestmark = pytest.mark.traces


def begin(store: SqliteStore) -> None:
    """What makes the file."""
    store.lease("lease", b"owner", 30.0)


def go_on(store: SqliteStore) -> None:
    """What opens the file, uses it and closes it."""
    store.lease("lease", b"owner", 30.0)
    store.get("key")
    store.close()


@pytest.mark.parametrize("work", [begin, go_on])
def test_an_interruption_at_any_line_leaves_a_store_that_works(
    tmp_path: Path, work: Callable[[SqliteStore], None]
):
    path, times = tmp_path / "tokens.db", 0
    other = SqliteStore(path)
    for interrupt in interruptions(sqlite):
        times += 1
        if work is begin:
            other.close()
            path = tmp_path / f"{times}.db"
            other = SqliteStore(path)
        store = SqliteStore(path)
        interrupt(lambda store=store: work(store))
        # Another thread, and another process, which has no lock of this one.
        assert in_threads(1, lambda store=store: works(store)) == [None]
        assert other.get("key") is None
        store.close()
    other.close()
    assert open_files(path) == 0
    assert times > 100
    checked(path)


def test_what_an_interruption_left_is_not_used_again(store: SqliteStore):
    works(store)
    for interrupt in interruptions(sqlite):
        interrupt(lambda: store.put("key", b"value", 30.0))
        works(store)


# What was not yet anybody's is closed as it goes, of which Python warns.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_interruptions_by_a_signal_leave_a_store_that_works(store: SqliteStore):
    def handler(number: int, frame: object) -> None:
        raise Interruption

    before = signal.signal(signal.SIGALRM, handler)
    works(store)
    hit, give_up_at = 0, time.monotonic() + 3.0
    try:
        while hit < 1000 and time.monotonic() < give_up_at:
            with suppress(Interruption):
                signal.setitimer(signal.ITIMER_REAL, random.uniform(0.00005, 0.0005))
                # One that hits where nothing can be raised is lost, such as a callback of SQLite's.
                while time.monotonic() < give_up_at:
                    store.get("key")
            hit += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)
    assert hit > 50
    assert in_threads(1, lambda: works(store)) == [None]


def test_who_comes_back_in_the_middle_of_an_operation_is_refused_at_once(
    path: Path, monkeypatch: pytest.MonkeyPatch
):
    """As a signal's handler does, or the end of an object that the garbage collector finds."""
    monkeypatch.setattr(database, "_PATIENCE", 30.0)  # of who waits
    outcomes: list[object] = []

    class Clock:
        def elapsed(self) -> float:
            return time.monotonic()

        def wall(self) -> float:  # which is asked in the middle of a statement
            if not outcomes:
                outcomes.append(None)
                began = time.monotonic()
                store.close()
                with suppress(StoreError):
                    outcomes.append(store.get("key"))
                outcomes.append(time.monotonic() - began)
            return time.time()

    store = SqliteStore(path, clock=Clock())
    store.put("key", b"value", 30.0)
    assert store.get("key") == b"value"
    assert outcomes[:-1] == [None]
    assert outcomes[-1] < 20.0
    store.close()


@needs_fork
@unwarned_forks
def test_a_fork_in_the_middle_of_an_operation_waits_for_nobody(path: Path):
    class Clock:
        def elapsed(self) -> float:
            return time.monotonic()

        def wall(self) -> float:
            if threading.current_thread() is forks and not said:
                began = time.monotonic()
                said.append(None)
                said.append(in_child(lambda: None))
                said.append(time.monotonic() - began)
            return time.time()

    said: list[object] = []
    store = SqliteStore(path, clock=Clock())
    forks = threading.Thread(target=lambda: store.put("key", b"value", 30.0))
    forks.start()
    forks.join(30)
    assert said[2] < 9.0  # less than a fork waits for whoever holds it up
    works(store)
    store.close()
