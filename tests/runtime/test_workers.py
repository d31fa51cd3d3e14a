"""The threads that fetch: as few as there is work, none idle, none relied on in vain."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from support import in_threads
from waiting import until

from tokenmgr._runtime import workers as module
from tokenmgr._runtime.threads import DaemonThread
from tokenmgr._runtime.workers import Workers


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


@pytest.mark.usefixtures("threads_take_turns")
def test_work_from_many_threads_at_once_is_all_done_by_no_more_threads_than_allowed(
    name: str,
) -> None:
    workers = Workers(3, name=name)
    lock, counts = threading.Lock(), [0, 0, 0]

    def work() -> None:
        with lock:
            counts[0] += 1
            counts[1] = max(counts[:2])
        with lock:
            counts[0] -= 1
            counts[2] += 1

    for count in range(1, 51):
        assert in_threads(8, lambda: [workers.do(work) for _ in range(10)]) == [[None] * 10] * 8
        until(lambda count=count: counts[2] == 80 * count, "all work")
    assert counts[1] <= 3


def test_no_idle_thread_remains_and_the_next_work_starts_one(name: str) -> None:
    workers = Workers(2, name=name)
    for _ in range(3):
        done = threading.Event()
        workers.do(done.set)
        assert done.wait(30)
        until(lambda: not named(name))


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


def refuse(self: DaemonThread) -> None:
    raise RuntimeError("can't start new thread")


def test_where_no_thread_starts_it_says_so_and_keeps_no_work(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers = Workers(2, name=name)
    done: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(DaemonThread, "start", refuse)
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
        patch.setattr(DaemonThread, "start", refuse)
        workers.do(done.set)
    gate.set()
    assert done.wait(30)


def test_starts_that_fail_together_leave_no_work_behind(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers = Workers(2, name=name)
    done: list[str] = []
    come = threading.Event()

    def refuse_when_all_have_come(self: DaemonThread) -> None:
        until(lambda: come.is_set() or len(workers._waiting) == 8, "the work of all")
        come.set()
        return refuse(self)

    with monkeypatch.context() as patch:
        patch.setattr(DaemonThread, "start", refuse_when_all_have_come)
        outcomes = in_threads(8, lambda: workers.do(lambda: done.append("refused")))
    assert [type(outcome) for outcome in outcomes] == [RuntimeError] * 8
    assert not workers._waiting
    workers.do(lambda: done.append("taken"))
    until(lambda: done == ["taken"])


@pytest.fixture
def run(name: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Threads of this name start, and run when this is set; as in a server without threads."""
    gate, run = threading.Event(), threading.Thread.run

    def run_late(self: threading.Thread) -> None:
        if self.name == name:
            gate.wait(30)
        run(self)

    monkeypatch.setattr(threading.Thread, "run", run_late)
    yield gate
    gate.set()
    until(lambda: not named(name))


def test_where_threads_start_and_never_run_it_says_so_each_time(
    name: str, run: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers = Workers(2, name=name)
    done: list[str] = []
    monkeypatch.setattr(module, "_PATIENCE", 0.05)
    for _ in range(5):  # more than threads are allowed
        with pytest.raises(RuntimeError, match="do not run"):
            workers.do(lambda: done.append("refused"))
        # They are waited for once: with so much patience a second wait would have no end.
        monkeypatch.setattr(module, "_PATIENCE", 1e9)
    assert not workers._waiting
    run.set()
    until(lambda: not named(name))
    workers.do(lambda: done.append("taken"))
    until(lambda: done == ["taken"])


def test_a_first_thread_that_runs_late_is_waited_for(
    name: str, run: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PATIENCE", 30.0)
    workers = Workers(1, name=name)
    done: list[str] = []
    outcomes: list[object] = []
    caller = threading.Thread(
        target=lambda: outcomes.extend(in_threads(1, lambda: workers.do(lambda: done.append(""))))
    )
    caller.start()
    until(lambda: named(name), "the first thread")
    assert not outcomes
    run.set()
    caller.join(30)
    assert outcomes == [None]
    until(lambda: done == [""])
