"""Threads for what no caller does in a thread of their own: fetches, events, probes.

They are daemons, so that no program hangs at its end for a slow authority, and none stays idle:
a worker ends when there is nothing left to do.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections import deque
from collections.abc import Callable

from .forks import about_to_end, renew_in_child

__all__ = ["Workers"]

#: Seconds within which a thread that was started runs, where threads do: in some servers they
#: start, and never run.
_PATIENCE = 1.0
#: Seconds between two looks whether the first one runs.
_LOOK_EVERY = 0.0001


class Workers:
    """At most so many threads of that name, started as there is work."""

    def __init__(self, most: int, *, name: str) -> None:
        self._most = most
        self._name = name
        renew_in_child(self._start_anew)

    def _start_anew(self) -> None:
        """Starts from nothing: the parent's threads do the parent's work."""
        #: Guards the two below; no work is done under it. A signal's handler may come back for it.
        self._lock = threading.RLock()
        self._waiting: deque[Callable[[], object]] = deque()
        self._threads: set[threading.Thread] = set()
        #: Whether a thread of theirs has ever run, and when the first one was to.
        self._have_run = False
        self._first_due: float | None = None

    def do(self, work: Callable[[], object]) -> None:
        """Has ``work`` done soon, in some thread. It must not raise.

        Raises:
            RuntimeError: No thread runs here: none can be started, or none has run within a second
                of its start. The work is not done.
        """
        self._waiting.append(work)
        try:
            self._see_to_a_thread()
            if not self._have_run:
                self._wait_for_the_first()
        except RuntimeError:
            with self._lock, contextlib.suppress(ValueError):  # a worker has taken it
                self._waiting.remove(work)
                raise

    def do_or_here(self, work: Callable[[], object]) -> None:
        """Has ``work`` done soon in some thread; here and now where none runs."""
        try:
            self.do(work)
        except RuntimeError:
            work()

    def settle(self, seconds: float) -> None:
        """Waits until all is done that was given, but for what this thread does, or so long."""
        give_up_at, me = time.monotonic() + seconds, threading.current_thread()
        while (self._waiting or self._threads - {me}) and time.monotonic() < give_up_at:
            time.sleep(_LOOK_EVERY)

    def _see_to_a_thread(self) -> None:
        # The start is under the lock too: whoever finds as many as allowed relies on them.
        with self._lock:
            if len(self._threads) >= self._most:
                # One whose start was interrupted does nothing.
                self._threads = {each for each in tuple(self._threads) if each.is_alive()}
            if len(self._threads) >= self._most:
                return
            thread = threading.Thread(target=self._work, name=self._name, daemon=True)
            self._threads.add(thread)
            try:
                thread.start()
            except RuntimeError:
                self._threads.discard(thread)
                if not any(other.is_alive() for other in tuple(self._threads)):
                    raise

    def _wait_for_the_first(self) -> None:
        if self._first_due is None:
            self._first_due = time.monotonic() + _PATIENCE
        while not self._have_run:
            if time.monotonic() >= self._first_due:
                raise RuntimeError("threads are started here, and do not run")
            time.sleep(_LOOK_EVERY)

    def _work(self) -> None:
        self._have_run = True
        me, began = threading.current_thread(), self._begins()
        while True:
            with self._lock:
                if not self._waiting:
                    self._threads.discard(me)
                    about_to_end()
                    break
                work = self._waiting.popleft()
            try:
                work()
            except BaseException:  # noqa: BLE001 - what else waits is done nevertheless
                with contextlib.suppress(Exception):
                    threading.excepthook(threading.ExceptHookArgs((*sys.exc_info(), me)))
            del work  # what it leads to need not live until there is more
        self._ended(began)

    def _begins(self) -> float:
        """Says that one of their threads runs; gives the time."""
        return time.monotonic()

    def _ended(self, began: float) -> None:
        """Says that one of their threads has nothing more to do, which began then."""
