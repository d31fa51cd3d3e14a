"""Threads for the work that nobody waits for in a thread of their own.

They are daemons, so that no program hangs at its end for a slow authority, and none stays idle:
a worker ends when there is nothing left to do.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections import deque
from collections.abc import Callable

from .forks import make_new_in_child

__all__ = ["FETCHERS", "Workers"]


class Workers:
    """At most so many threads, started as there is work.

    Args:
        most: How many threads there are at most.
        name: What they are called.
    """

    def __init__(self, most: int, *, name: str) -> None:
        self._most = most
        self._name = name
        make_new_in_child(self)
        self.after_fork()

    def after_fork(self) -> None:
        """Starts from nothing: the parent's threads do the parent's work."""
        #: Guards the two below; no work is done under it.
        self._lock = threading.Lock()
        self._waiting: deque[Callable[[], object]] = deque()
        self._running = 0
        #: Whether a thread of theirs has ever run: in some servers they start, and never do.
        self.have_run: bool = False

    def do(self, work: Callable[[], object]) -> None:
        """Has ``work`` done soon, in some thread. It must not raise.

        Raises:
            RuntimeError: No thread can be started here, and none is running.
        """
        with self._lock:
            self._waiting.append(work)
            if self._running >= self._most:
                return
            self._running += 1
        try:
            threading.Thread(target=self._work, name=self._name, daemon=True).start()
        except RuntimeError:
            with self._lock:
                self._running -= 1
                if self._running or work not in self._waiting:
                    return  # another thread does it
                self._waiting.remove(work)
            raise

    def _work(self) -> None:
        self.have_run = True
        while True:
            with self._lock:
                if not self._waiting:
                    self._running -= 1
                    return
                work = self._waiting.popleft()
            try:
                work()
            except BaseException:  # noqa: BLE001 - what else waits is done nevertheless
                with contextlib.suppress(Exception):
                    threading.excepthook(
                        threading.ExceptHookArgs((*sys.exc_info(), threading.current_thread()))
                    )


#: Fetches that no caller leads: renewals, and those that coroutines or callers in haste wait for.
FETCHERS = Workers(64, name="tokenmgr-fetch")
