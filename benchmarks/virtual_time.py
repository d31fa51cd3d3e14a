"""Time for what would take hours: a clock that jumps to whoever is to wake next."""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Callable, Sequence
from functools import partial

from .crowd import together
from .day import VirtualClock

__all__ = ["VirtualTime"]


class VirtualTime(VirtualClock):
    """Threads of which one runs at a time, until it sleeps or ends: then the next one wakes.

    It stands in for the module ``time`` too, where code that sleeps is to do it here. Who waits for
    another thread otherwise waits for ever.
    """

    def __init__(self) -> None:
        super().__init__()
        self.monotonic = self.elapsed
        self.time = self.wall
        self._numbers = itertools.count()
        #: Who sleeps, and until when.
        self._sleepers: list[tuple[float, int, threading.Lock]] = []

    def sleep(self, seconds: float) -> None:
        """Has this thread sleep, and others go on meanwhile."""
        alarm = self._alarm(seconds)
        self._wake_next()
        alarm.acquire()

    def run(self, works: Sequence[Callable[[], object]]) -> None:
        """Does works side by side, until all are done. Raises what one of them raises."""
        jobs = [partial(self._work, self._alarm(0.0), work) for work in works]
        self._wake_next()
        for outcome in together(jobs):
            if isinstance(outcome, Exception):
                raise outcome

    def _work(self, alarm: threading.Lock, work: Callable[[], object]) -> None:
        alarm.acquire()
        try:
            work()
        finally:
            if self._sleepers:
                self._wake_next()

    def _alarm(self, seconds: float) -> threading.Lock:
        alarm = threading.Lock()
        alarm.acquire()
        heapq.heappush(self._sleepers, (self.now + seconds, next(self._numbers), alarm))
        return alarm

    def _wake_next(self) -> None:
        self.now, _, alarm = heapq.heappop(self._sleepers)
        alarm.release()
