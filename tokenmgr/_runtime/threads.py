"""Threads of the library's own: daemons, so that no program hangs at its end for a slow authority.

At its end they stop wherever they are. Those that are about to be through are waited for a moment,
so that none of them stops with a lock, for which an object that ends later would wait for ever.

``Thread.start`` waits, in Python code, until the thread runs. An exception out of a signal's
handler in the middle of that leaves a lock taken for which the new thread waits for ever. So here
a thread in which no handler ever runs starts the other.
"""

from __future__ import annotations

import _thread
import atexit
import contextlib
import threading
import time
from collections.abc import Callable

__all__ = ["PATIENCE", "DaemonThread", "current_thread"]

#: Seconds within which a thread that was started runs, where threads do: in some servers they
#: start, and never run.
PATIENCE = 1.0
#: Seconds that the end of the process waits for those that are about to be through.
_AT_EXIT = 0.2


class DaemonThread(threading.Thread):
    """A thread that does ``work``.

    Raises:
        RuntimeError: No such thread can be here, as in an isolated sub-interpreter.
    """

    def __init__(self, work: Callable[[], object], *, name: str) -> None:
        super().__init__(target=work, name=name, daemon=True)
        self._made_at = time.monotonic()
        #: Whether it does some work now that it was given.
        self.works: bool = False
        #: Whether it sleeps until there is something to do, and has no lock.
        self.naps: bool = False
        self._in_its_starter = False

    def is_alive(self) -> bool:
        """Whether it runs, be it by way of the thread that was to start it."""
        return self._in_its_starter or super().is_alive()

    @property
    def may_run(self) -> bool:
        """Whether it runs, or was made just now."""
        return self.is_alive() or time.monotonic() - self._made_at < PATIENCE

    def start(self) -> None:
        """Has it started, and waits for that at most where no handler can interrupt it.

        Raises:
            RuntimeError: No thread can be started.
        """
        if isinstance(current_thread(), DaemonThread):
            super().start()
        else:
            _thread.start_new_thread(self._start_here, ())

    def _start_here(self) -> None:
        try:
            super().start()
        except RuntimeError:  # that was one thread too many, and this one does the work
            self._in_its_starter = True
            _here.thread = self
            try:
                self.run()
            finally:
                self._in_its_starter = False


@atexit.register
def _come_to_rest() -> None:
    give_up_at = time.monotonic() + _AT_EXIT
    for each in threading.enumerate():
        if isinstance(each, DaemonThread) and not each.naps:
            with contextlib.suppress(RuntimeError):  # it is yet to be started, and never may be
                each.join(max(0.0, give_up_at - time.monotonic()))


class _Here(threading.local):
    """What a thread knows of itself."""

    #: What runs in it, where it was to start that.
    thread: DaemonThread | None = None


_here = _Here()


def current_thread() -> threading.Thread:
    """Gives this thread, also where it runs in the one that was to start it."""
    return _here.thread or threading.current_thread()
