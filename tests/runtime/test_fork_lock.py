"""Those who keep forks away for a while, and who wait for each other meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fork_marks import needs_fork, unwarned_forks
from forking import in_child
from waiting import until

from tokenmgr._runtime import forks, workers
from tokenmgr._runtime.forks import fork_allowed, no_fork

pytestmark = [needs_fork, unwarned_forks]


def test_a_fork_that_waits_lets_those_go_on_for_whom_it_waits_in_the_end() -> None:
    # As a handshake waits for the emulator, which lets forks go ahead while it has nothing to do.
    allowed, asking, fork_waits, answered = (threading.Event() for _ in range(4))

    def server() -> None:
        with no_fork():
            with fork_allowed():
                allowed.set()
                fork_waits.wait(30)
            answered.set()

    def client() -> bool:
        with no_fork():
            asking.set()
            return answered.wait(5)

    with ThreadPoolExecutor() as pool:
        works: list[Callable[[], object]] = [server, client]
        done = [pool.submit(work) for work in works]
        assert allowed.wait(10)
        assert asking.wait(10)
        child = pool.submit(in_child, lambda: 7)
        until(lambda: forks._lock._writer, "the fork's wait")
        fork_waits.set()
        assert [each.result() for each in (*done, child)] == [None, True, 7]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="nobody tells what threads end")
def test_a_fork_waits_until_a_thread_that_is_about_to_end_has_gone() -> None:
    said, gone = threading.Event(), threading.Event()

    def end() -> None:
        forks.about_to_end()
        said.set()
        gone.wait(30)

    ending = threading.Thread(target=end)
    ending.start()
    assert said.wait(10)
    with ThreadPoolExecutor() as pool:
        child = pool.submit(in_child, lambda: 7)
        until(lambda: forks._lock._writer, "the fork's wait")
        assert not child.done()
        gone.set()
        assert child.result() == 7
    ending.join()


def test_a_worker_says_that_it_is_about_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(
        workers, "about_to_end", lambda: said.append(threading.current_thread().name)
    )
    workers.Workers(1, name="tokenmgr-fetch").do(lambda: None)
    until(lambda: said == ["tokenmgr-fetch"], "its word")
