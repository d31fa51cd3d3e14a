"""The workers that fetch, of many registries: few threads at once, and nobody waits for trouble."""

from __future__ import annotations

import threading

import pytest
from fork_marks import needs_fork, unwarned_forks
from forking import in_child
from waiting import until

from tokenmgr._runtime import crowd as module
from tokenmgr._runtime import workers as workers_module
from tokenmgr._runtime.crowd import FetchWorkers

NAME = "tokenmgr-crowd-test"
MOST = module._MOST_YOUNG


def running() -> int:
    return sum(thread.name == NAME for thread in threading.enumerate())


@pytest.fixture(autouse=True)
def _own_crowd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_crowd", module._Crowd())


@pytest.fixture
def always_young(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_YOUNG", 1000.0)


@pytest.mark.usefixtures("always_young")
def test_many_registries_together_have_no_more_young_threads_than_one():
    gate, done, active, most = threading.Event(), [], {}, []

    def work() -> None:
        active[threading.get_ident()] = True
        assert gate.wait(30)
        most.append(len(active))
        del active[threading.get_ident()]
        done.append(1)

    registries = [FetchWorkers(64, name=NAME) for _ in range(300)]
    for workers in registries:
        workers.do(work)
    until(lambda: len(active) == MOST)
    gate.set()
    until(lambda: len(done) == 300, "all work")
    assert max(most) == MOST
    until(lambda: not running(), "the end of all threads")


@pytest.mark.usefixtures("always_young", "threads_take_turns")
def test_all_work_of_those_in_line_is_done_however_it_comes():
    done: list[int] = []
    registries = [FetchWorkers(3, name=NAME) for _ in range(40)]

    def give() -> None:
        for workers in registries:
            for _ in range(5):
                workers.do(lambda: done.append(1))

    givers = [threading.Thread(target=give) for _ in range(4)]
    for giver in givers:
        giver.start()
    for giver in givers:
        giver.join()
    until(lambda: len(done) == 4 * 40 * 5, "all work")
    until(lambda: not running(), "the end of all threads")


def test_those_that_hang_keep_nobody_else_waiting(monkeypatch):
    monkeypatch.setattr(module, "_YOUNG", 0.2)
    gate, done = threading.Event(), threading.Event()
    in_trouble = [FetchWorkers(64, name=NAME) for _ in range(2)]
    for workers in in_trouble:
        for _ in range(100):
            workers.do(lambda: gate.wait(30))
    try:
        FetchWorkers(64, name=NAME).do(done.set)
        assert done.wait(10), "it waits for those that hang"
    finally:
        gate.set()
    until(lambda: not running(), "the end of all threads")


@pytest.mark.usefixtures("always_young")
def test_one_registry_with_much_to_do_does_not_fill_the_line():
    gate, first, done = threading.Event(), threading.Semaphore(0), threading.Event()
    crowd = [FetchWorkers(64, name=NAME) for _ in range(MOST)]
    for workers in crowd:
        workers.do(lambda: first.acquire(timeout=30))
    until(lambda: running() == MOST)
    greedy = FetchWorkers(64, name=NAME)
    for _ in range(50):
        greedy.do(lambda: gate.wait(30))
    FetchWorkers(64, name=NAME).do(done.set)

    first.release(2)  # two leave: one place is for each of those in line

    assert done.wait(10), "it waits for all that the other one has to do"
    gate.set()
    first.release(MOST - 2)
    until(lambda: not running(), "the end of all threads")


@pytest.mark.usefixtures("always_young")
def test_a_thread_that_cannot_be_started_later_is_tried_again(monkeypatch):
    gate, done, refused = threading.Event(), threading.Event(), threading.Event()
    for _ in range(MOST):
        FetchWorkers(1, name=NAME).do(lambda: gate.wait(30))
    until(lambda: running() == MOST)
    FetchWorkers(1, name=NAME).do(done.set)
    start = threading.Thread.start

    def refuse(self: threading.Thread) -> None:
        if self.name != NAME:
            return start(self)
        refused.set()
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        gate.set()
        assert refused.wait(10)
    assert done.wait(10)
    until(lambda: not running(), "the end of all threads")


def test_where_threads_start_and_never_run_nobody_stands_in_line(monkeypatch):
    monkeypatch.setattr(workers_module, "_PATIENCE", 0.0)
    monkeypatch.setattr(threading.Thread, "start", lambda self: None)
    for _ in range(MOST + 6):
        with pytest.raises(RuntimeError):
            FetchWorkers(1, name=NAME).do(lambda: None)


@needs_fork
@unwarned_forks
@pytest.mark.usefixtures("always_young")
def test_a_child_does_not_stand_in_its_parent_s_line():
    gate = threading.Event()
    for _ in range(MOST + 6):
        FetchWorkers(1, name=NAME).do(lambda: gate.wait(30))
    until(lambda: running() == MOST)

    def work() -> bool:
        done = threading.Event()
        FetchWorkers(1, name=NAME).do(done.set)
        return done.wait(10)

    try:
        assert in_child(work)
    finally:
        gate.set()
    until(lambda: not running(), "the end of all threads")
