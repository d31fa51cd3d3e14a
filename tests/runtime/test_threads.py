"""Where a thread can be started, and not a second one: it runs in the one that was to start it."""

from __future__ import annotations

import threading
from queue import SimpleQueue

import pytest

from tokenmgr._runtime.refresher import Refresher
from tokenmgr._runtime.threads import current_thread
from tokenmgr._runtime.workers import Workers


@pytest.fixture(autouse=True)
def no_second_thread(monkeypatch):
    def refuse(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)


def test_work_that_comes_right_after_other_work_is_done() -> None:
    workers, done = Workers(1, name="test"), SimpleQueue[str]()
    for number in range(100):
        workers.do(lambda number=number: done.put(f"work {number}"))
        assert done.get(timeout=10) == f"work {number}"


def test_a_worker_is_known_for_one_while_it_works_and_is_forgotten_after() -> None:
    workers, known = Workers(1, name="test"), SimpleQueue[bool]()
    workers.do(
        lambda: known.put(current_thread() in workers._threads and current_thread().is_alive())
    )
    assert known.get(timeout=10)
    workers.settle(10)
    assert not workers._threads


class Renewable:
    def __init__(self) -> None:
        self.renewed = threading.Event()

    def renew_if_used(self) -> None:
        self.renewed.set()


def test_what_is_due_is_renewed() -> None:
    refresher, renewable = Refresher(), Renewable()
    now = refresher._clock.elapsed()
    refresher.follow(renewable, now, now + 60)
    assert renewable.renewed.wait(10)
