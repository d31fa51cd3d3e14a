"""The workers that fetch, of all registries of a process together: not too many at once.

A thousand registries that fetch in the same moment would start a thousand threads, and open as many
connections. Here a thread for each is started only as long as there are few *young* ones: who finds
a crowd stands in line, and has his turn as a young one ends. A thread is young for two seconds,
which is more than a fetch takes. One that takes longer, since its service or its store is in
trouble, is counted no more: so it keeps nobody else waiting for longer than that.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import OrderedDict, deque

from .forks import renew_in_child
from .workers import Workers

__all__ = ["FetchWorkers"]

#: Young threads at once, and the seconds for which they are young. Were there more, those that have
#: a lock of a store would wait for their turn of the processor, and others in vain for the lock.
_MOST_YOUNG, _YOUNG = 32, 2.0
#: Seconds between two looks whether any has grown older, while somebody stands in line.
_LOOK_EVERY = 0.05


class _Crowd:
    """Who fetches and who stands in line. A thread more or less than counted does no harm."""

    def __init__(self) -> None:
        self._watchers = Workers(1, name="tokenmgr-crowd")
        renew_in_child(self._start_anew)

    def _start_anew(self) -> None:
        """Begins with nobody: a child has no threads."""
        #: Held by who has the next in line begin, and may have to put him back.
        self._lock = threading.RLock()
        #: When the young ones were started, those that have ended left out.
        self._young: deque[float] = deque()
        #: Each is there once, however much work it has.
        self._line: OrderedDict[FetchWorkers, None] = OrderedDict()
        #: Whether any has ever run: where they start and never do, nobody is to rely on them.
        self.have_run = False

    def admits(self) -> bool:
        """Whether a thread may be started now; if so, it counts."""
        now = time.monotonic()
        with contextlib.suppress(IndexError):  # there is none, or another thread was faster
            while self._young[0] <= now - _YOUNG:
                self._young.popleft()
        if len(self._young) >= _MOST_YOUNG and self.have_run:
            return False
        self._young.append(now)
        return True

    def line_up(self, workers: FetchWorkers) -> None:
        """Has a thread of theirs started later."""
        self._line[workers] = None
        with contextlib.suppress(RuntimeError):  # then they have their turn as a thread ends
            self._watchers.do(self._watch)

    def ends(self, began: float) -> None:
        """Notes that a thread ends, which began then, and has the next in line begin."""
        if time.monotonic() - began < _YOUNG:
            self._one_less()
        # Who has it starts threads just now, and this one, which has nothing to do, waits for none:
        # should that one have looked too early, who watches looks again.
        if self._lock.acquire(blocking=False):
            try:
                self._move_up()
            finally:
                self._lock.release()

    def _one_less(self) -> None:
        with contextlib.suppress(IndexError):  # it has grown older meanwhile
            self._young.popleft()

    def _watch(self) -> None:
        while True:
            with self._lock:
                if not self._move_up():
                    return
            time.sleep(_LOOK_EVERY)

    # With the lock held:

    def _move_up(self) -> bool:
        """Has the next in line begin, as many as may; says whether any are left."""
        with contextlib.suppress(KeyError):  # nobody stands there any more
            while True:
                workers, _ = self._line.popitem(last=False)
                if not workers.want_one:
                    continue
                try:
                    started = self.admits() and workers.start_one()
                except RuntimeError:  # no thread can be started just now
                    started = False
                    self._one_less()
                if not started or workers.want_one:  # those again, after all others
                    self._line[workers] = None
                if not started:
                    self._line.move_to_end(workers, last=False)
                    return True
        return False


_crowd = _Crowd()


class FetchWorkers(Workers):
    """Workers that start their threads only as long as there is no crowd."""

    @property
    def want_one(self) -> bool:
        """Whether they have work, and may have another thread for it."""
        return bool(self._waiting) and len(self._threads) < self._most

    def start_one(self) -> bool:
        """Starts a thread.

        Raises:
            RuntimeError: None can be.
        """
        super()._see_to_a_thread()
        return True

    def _see_to_a_thread(self) -> None:
        if not self.want_one or _crowd.admits():
            super()._see_to_a_thread()
        else:
            self._have_run = True  # others have, and so will these
            _crowd.line_up(self)

    def _begins(self) -> float:
        _crowd.have_run = True
        return super()._begins()

    def _ended(self, began: float) -> None:
        _crowd.ends(began)
