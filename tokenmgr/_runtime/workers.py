"""Threads for what no caller does in a thread of their own: fetches, events, probes.

None stays idle: a worker ends when there is nothing left to do.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import cast

from .forks import about_to_end, renew_in_child
from .threads import PATIENCE as _PATIENCE
from .threads import DaemonThread, current_thread

__all__ = ["Workers"]

#: Seconds between two looks whether the first one runs.
_LOOK_EVERY = 0.0001


def _nothing() -> None:
    """What there mostly is to do as work is taken."""


class Workers:
    """At most so many threads of that name, started as there is work."""

    _beneath: Workers | None = None

    def __init__(self, most: int, *, name: str) -> None:
        self._most = most
        self._name = name
        renew_in_child(self._start_anew)

    def _start_anew(self) -> None:
        """Starts from nothing: the parent's threads do the parent's work."""
        #: Guards the two below; no work is done under it. A signal's handler may come back for it.
        self._lock = threading.RLock()
        self._waiting: deque[Callable[[], object]] = deque()
        self._threads: set[DaemonThread] = set()
        #: Whether a thread of theirs has ever run, and when the first one was to.
        self._have_run = False
        self._first_due: float | None = None

    @property
    def beneath(self) -> Workers:
        """As many others, for what these wait for.

        If all of these waited for what stands in their own queue, none would do it.
        """
        with self._lock:
            if self._beneath is None:
                self._beneath = Workers(self._most, name=self._name)
            return self._beneath

    def do(self, work: Callable[[], object]) -> None:
        """Has ``work`` done soon, in some thread. It must not raise.

        Where it has a method ``taken``, that is called first, before anything else can happen in
        that thread.

        Raises:
            RuntimeError: No thread runs here: none can be started, none has run within a second of
                its start, or the process ends. The work is not done.
        """
        if sys.is_finalizing():
            raise RuntimeError("the process ends, and all threads but this one have stopped")
        if current_thread() in self._threads:
            self._waiting.appendleft(work)  # its worker may be about to wait for it
        else:
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
        give_up_at, me = time.monotonic() + seconds, current_thread()
        while (self._waiting or self._threads - {me}) and time.monotonic() < give_up_at:
            time.sleep(_LOOK_EVERY)
        if self._beneath is not None:
            self._beneath.settle(give_up_at - time.monotonic())

    def _see_to_a_thread(self) -> None:
        # The start is under the lock too: whoever finds as many as allowed relies on them.
        with self._lock:
            if len(self._threads) >= self._limit():
                self._threads = {each for each in tuple(self._threads) if each.may_run}
            if len(self._threads) >= self._limit():
                return
            before = set(self._threads)
            try:
                thread = DaemonThread(self._work, name=self._name)
                self._threads.add(thread)
                thread.start()
            except BaseException as exc:  # none is to be had, or the caller is interrupted
                self._threads &= before
                if not (isinstance(exc, RuntimeError) and any(each.may_run for each in before)):
                    raise

    def _limit(self) -> int:
        # One more for what a worker brings, as all of them may be about to wait for it.
        return self._most + (current_thread() in self._threads)

    def _wait_for_the_first(self) -> None:
        if self._first_due is None:
            self._first_due = time.monotonic() + _PATIENCE
        while not self._have_run:
            if time.monotonic() >= self._first_due:
                raise RuntimeError("threads are started here, and do not run")
            time.sleep(_LOOK_EVERY)

    def _work(self) -> None:
        self._have_run = True
        me = cast("DaemonThread", current_thread())
        while True:
            with self._lock:
                if not self._waiting:
                    self._threads.discard(me)
                    about_to_end()
                    return
                work = self._waiting.popleft()
                getattr(work, "taken", _nothing)()
            me.works = True
            try:
                work()
            except BaseException:  # noqa: BLE001 - what else waits is done nevertheless
                with contextlib.suppress(Exception):
                    threading.excepthook(threading.ExceptHookArgs((*sys.exc_info(), me)))
            me.works = False
            del work  # what it leads to need not live until there is more
