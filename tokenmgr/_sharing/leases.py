"""The leases that a registry has: none outlives it, for which others would wait.

One is given back by the fetch that took it. Where that does not come to its end, since the registry
is closed or the process exits, it is given back then. Where the store failed when it was taken, so
that nobody knows whether it was, or when it was to be given back, that is tried again in a thread
for which nobody waits.
"""

from __future__ import annotations

import sys
import time
import weakref
from contextlib import suppress
from typing import Protocol

from .._runtime.clock import sleep_unless
from .._runtime.forks import renew_in_child
from .._runtime.workers import Workers
from .guarded import StoreAwayError

__all__ = ["Leases"]

#: Seconds before each attempt to give back what could not be given back; together they are less
#: than a lease lasts.
_PAUSES = (0.0, 0.2, 0.5, 1.0, 2.0)
#: Seconds that the end of the process waits for them.
_AT_EXIT = 1.0


#: What has a process that ``multiprocessing`` or Celery has forked, which exits past ``atexit``,
#: call us at its end.
_OTHER_ENDS = ("multiprocessing.util", "billiard.util")


class _Lease(Protocol):
    def end(self) -> None:
        """Gives it back.

        Raises:
            StoreAwayError: The store failed.
        """
        ...


class _Mine(set[_Lease]):
    """Those that are to be given back, and whether the process exits, and takes none any more."""

    exits = False


class Leases:
    """The leases that a registry has taken, or may have, and has not given back."""

    def __init__(self) -> None:
        self._returning = Workers(1, name="tokenmgr-leases")
        self._mine = _Mine()
        #: Those of them that are given back later.
        self._owed: set[_Lease] = set()
        #: Whether the end of the process is known to come here.
        self._follows_exit = False
        renew_in_child(self._start_anew)

    def _start_anew(self) -> None:
        """Leaves the parent's leases to the parent."""
        self._mine.clear()
        self._mine.exits = False
        self._owed.clear()
        self._follows_other_ends = False
        #: Ends the thread that tries again.
        self._over = False

    def __contains__(self, lease: object) -> bool:
        return lease in self._mine

    def add(self, lease: _Lease) -> None:
        """Notes one that is about to be taken, before anybody can say whether it was.

        Raises:
            StoreAwayError: The process exits, and nobody would give it back.
        """
        if self._mine.exits:
            raise StoreAwayError
        self._mine.add(lease)
        self._follow_the_end()

    def discard(self, lease: _Lease) -> None:
        """Forgets one that is another worker's, or is over."""
        self._mine.discard(lease)
        self._owed.discard(lease)

    def give_back(self, lease: _Lease, *, later: bool = False) -> None:
        """Gives one back: now, or where that fails, or would take its time, in another thread."""
        if later or not self._try_to_end(lease):
            self._owed.add(lease)
            with suppress(RuntimeError):  # no thread runs here: at the end
                self._returning.do(self._pay)

    def give_back_all(self, seconds: float) -> None:
        """Gives back what there is, at the end; begins with none after so many seconds."""
        self._over = True
        _end_all(self._mine, seconds)
        self._owed.clear()

    def _try_to_end(self, lease: _Lease) -> bool:
        with suppress(StoreAwayError):
            lease.end()
            self.discard(lease)
            return True
        return False

    def _pay(self) -> None:
        for pause in _PAUSES:
            if self._owed and not sleep_unless(lambda: self._over, pause):
                for lease in list(self._owed):
                    self._try_to_end(lease)
        for lease in list(self._owed):  # it ends by itself
            self.discard(lease)

    def _follow_the_end(self) -> None:
        """Has the end of the process come here, with the first lease.

        What is registered for it last is called first. So it comes here before the store, which has
        been used already, is closed.
        """
        if not self._follows_exit:
            self._follows_exit = True
            weakref.finalize(self, _exit, self._mine)
        if not self._follows_other_ends:
            self._follows_other_ends = True
            for name in _OTHER_ENDS:
                if name in sys.modules:
                    finalize = sys.modules[name].Finalize
                    finalize(self, _exit, args=(self._mine,), exitpriority=0)


def _exit(mine: _Mine) -> None:
    mine.exits = True
    _end_all(mine, _AT_EXIT)


def _end_all(leases: set[_Lease], seconds: float) -> None:
    give_up_at = time.monotonic() + seconds
    for lease in list(leases):
        if time.monotonic() < give_up_at:
            with suppress(StoreAwayError):
                lease.end()
                leases.discard(lease)
