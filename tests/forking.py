"""Forked children for tests: each does one thing, says what came of it, and is gone in time."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from typing import Any

#: Far above what any child takes: one that is still there has hung.
DEADLINE = 20.0


class Child:
    """A child that is forked here and now, does ``work``, and exits.

    Args:
        work: What it does; gives what JSON can say.
        within: Seconds after which it is killed.
    """

    def __init__(self, work: Callable[[], Any], *, within: float = DEADLINE) -> None:
        self._reader, writer = os.pipe()
        # What measures coverage has a lock of its own, which another thread may hold at the fork,
        # and would hang in the child's first line.
        trace = sys.gettrace()
        sys.settrace(None)
        self._pid = os.fork()
        if self._pid == 0:
            _live(work, writer)
        sys.settrace(trace)
        os.close(writer)
        self._killer = threading.Timer(within, os.kill, (self._pid, signal.SIGKILL))
        self._killer.start()

    def outcome(self) -> Any:
        """What ``work`` gave; fails the test where it raised, or hung."""
        try:
            with open(self._reader, encoding="utf-8") as reader:  # noqa: PTH123 - a descriptor
                said = reader.read()
            _, status = os.waitpid(self._pid, 0)
        finally:
            self._killer.cancel()
            self._killer.join()
        code = os.waitstatus_to_exitcode(status)
        assert code != -signal.SIGKILL, "the child hung"
        outcome = json.loads(said or "{}")
        assert code == 0, outcome.get("error", f"the child ended with {code}")
        return outcome["value"]


def _live(work: Callable[[], Any], writer: int) -> None:
    """The child's whole life: it must never come back to the tests of its parent."""
    threading.settrace(None)  # type: ignore[arg-type] # the stubs know only functions
    code = 1
    try:
        outcome = {"value": work()}
        code = 0
    except BaseException:  # noqa: BLE001 - it is the outcome
        outcome = {"error": traceback.format_exc()}
    finally:
        with contextlib.suppress(BaseException):
            os.write(writer, json.dumps(outcome).encode())
        os._exit(code)


def in_child(work: Callable[[], Any]) -> Any:
    """Forks, does ``work`` in the child, and gives what came of it."""
    return Child(work).outcome()


@contextlib.contextmanager
def held(lock: Any) -> Iterator[None]:
    """Another thread holds the lock for as long as the block runs."""
    has_it, let_go = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            has_it.set()
            let_go.wait(2 * DEADLINE)

    holder = threading.Thread(target=hold, daemon=True)
    holder.start()
    assert has_it.wait(DEADLINE)
    try:
        yield
    finally:
        let_go.set()
        holder.join()
