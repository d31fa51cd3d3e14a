"""The threads of fetches that no caller leads: as few as there is work, and none idle."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from tokenmgr._runtime.workers import Workers


def until(condition: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < give_up_at, "it does not come to pass"
        threading.Event().wait(0.0005)


def named(name: str) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == name]


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    return f"tokenmgr-{request.node.name}"


def test_there_are_never_more_threads_than_allowed_and_all_work_is_done(name: str) -> None:
    workers = Workers(3, name=name)
    gate, done, most = threading.Event(), [], []

    def work() -> None:
        assert gate.wait(30)
        most.append(len(named(name)))
        done.append(1)

    for _ in range(50):
        workers.do(work)
    until(lambda: len(named(name)) == 3)
    gate.set()
    until(lambda: len(done) == 50)
    assert max(most) == 3


def test_no_idle_thread_remains_and_the_next_work_starts_one(name: str) -> None:
    workers = Workers(2, name=name)
    assert not workers.have_run
    for _ in range(3):
        done = threading.Event()
        workers.do(done.set)
        assert done.wait(30)
        until(lambda: not named(name))
    assert workers.have_run


def test_they_are_daemons_so_that_no_program_hangs_at_its_end(name: str) -> None:
    seen: list[bool] = []
    Workers(1, name=name).do(lambda: seen.append(threading.current_thread().daemon))
    until(lambda: seen == [True])


@pytest.mark.parametrize("error", [ValueError("broken"), SystemExit(1)])
def test_work_that_raises_does_not_keep_the_rest_from_being_done(
    name: str, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    reported: list[object] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: reported.append(args.exc_value))
    workers = Workers(1, name=name)
    gate, done = threading.Event(), threading.Event()

    def broken() -> None:
        assert gate.wait(30)
        raise error

    workers.do(broken)
    workers.do(done.set)
    gate.set()
    assert done.wait(30)
    assert reported == [error]
    until(lambda: not named(name))


def refuse(self: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def test_where_no_thread_starts_it_says_so_and_keeps_no_work(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers = Workers(2, name=name)
    done: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError):
            workers.do(lambda: done.append("refused"))
    workers.do(lambda: done.append("taken"))
    until(lambda: done == ["taken"])


def test_where_no_further_thread_starts_one_that_runs_does_the_work(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers = Workers(2, name=name)
    entered, gate, done = threading.Event(), threading.Event(), threading.Event()

    def first() -> None:
        entered.set()
        assert gate.wait(30)

    workers.do(first)
    assert entered.wait(30)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        workers.do(done.set)
    gate.set()
    assert done.wait(30)
