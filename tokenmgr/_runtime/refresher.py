"""Renewal in the background: one thread for the timing, whatever the number of keys.

The thread is started with the first key that is to be followed and ends with the last one. It
only says when: the fetches run in workers, so that a slow key delays no other. Renewals that fall
due together are started one after another, spread over the time that they have, and first those
whose tokens are about to run out.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import threading
import weakref
from collections.abc import Callable
from typing import Protocol, cast

from .clock import SYSTEM_CLOCK, Clock
from .forks import renew_in_child
from .threads import DaemonThread, current_thread

__all__ = ["Plan", "Refresher", "Renewable", "refresher_for"]

#: A sleeping machine's timers oversleep with it: nobody looks at the clock later than this.
_LONGEST_NAP = 30.0
#: Due renewals are started at most this far apart, so that few keys do not wait for each other.
_LONGEST_GAP = 0.25
#: All that are due are started in this share of the time that they have: the rest is for a service
#: that is slow.
_SHARE = 0.5


class Renewable(Protocol):
    """What a refresher follows."""

    def renew_if_used(self) -> None:
        """Has its token renewed, or lets it go. Never waits, never raises."""
        ...


class Plan:
    """A renewal that is planned, until it is started or another takes its place."""

    __slots__ = ("due", "latest", "live", "renewable")

    def __init__(
        self,
        renewable: Renewable,
        due: float,
        valid_until: float,
        gone: Callable[[object], None] | None = None,
    ) -> None:
        self.renewable: weakref.ref[Renewable] = weakref.ref(renewable, gone)
        self.due: float = due
        #: When it has to be started, lest its token run out before it is renewed.
        self.latest: float = due + _SHARE * (valid_until - due)
        self.live: bool = True


#: Ordered by a moment, then by a number, and so plans are never compared.
_Heap = list[tuple[float, int, Plan]]


class Refresher:
    """Says when renewals are due."""

    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self._numbers = itertools.count()
        #: What is not due yet, the next one first.
        self._queue: _Heap = []
        #: What is due, and first what has to be started first.
        self._ready: _Heap = []
        self._next_start = float("-inf")
        #: Longer than this, the queue is cleared of what is live no more.
        self._long = 64
        renew_in_child(self._start_anew)

    def _start_anew(self) -> None:
        """Follows the same keys in the child; its thread starts with the next key followed."""
        #: Guards the fields above. A signal's handler, or an object's end, may come back for it.
        self._lock = threading.RLock()
        #: Wakes the thread when it is released.
        self._alarm = threading.Lock()
        self._thread: DaemonThread | None = None
        #: Whether the thread has ever run: in some servers it starts, and never does.
        self._awake = False

    def follow(
        self, renewable: Renewable, due: float, valid_until: float, *, instead: Plan | None = None
    ) -> Plan:
        """Plans a renewal, ``instead`` of another one. Moments are on the elapsed clock.

        Args:
            renewable: What is renewed.
            due: When.
            valid_until: Until when its token serves; whoever is close to it is not held up.
            instead: The plan that this one takes the place of.
        """
        plan = self.plan(renewable, due, valid_until, instead=instead)
        self.add(plan)
        return plan

    def plan(
        self, renewable: Renewable, due: float, valid_until: float, *, instead: Plan | None = None
    ) -> Plan:
        """Plans it and takes no lock; :meth:`add` has it followed, and is called without one."""
        if instead is not None:
            instead.live = False
        return Plan(renewable, due, valid_until, self._wake)

    def add(self, plan: Plan) -> None:
        """Has a plan followed."""
        with self._lock:
            self._clear_when_long()
            heapq.heappush(self._queue, (plan.due, next(self._numbers), plan))
            if self._thread is None or not self._thread.may_run:
                self._start()
            elif self._queue[0][2] is plan:
                self._wake()

    def takes_care_of(self, plan: Plan | None) -> bool:
        """Whether a renewal that is due will be started in time, so that its caller need not."""
        awake = self._awake and self._runs()
        return awake and plan is not None and plan.live and self._clock.elapsed() < plan.latest

    def forget(self, plan: Plan | None) -> None:
        """Follows a key no longer. The thread ends with the last one."""
        if plan is not None:
            plan.live = False
            self._wake()

    def step(self) -> float | None:
        """Starts one renewal if one is due; what the thread does over and over.

        Returns:
            Seconds until the next is due; None when no key is followed.
        """
        with self._lock:
            pause = self._pause()
            renewable = self._take() if pause == 0.0 else None
        if renewable is not None:
            renewable.renew_if_used()
        return pause

    def _runs(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _wake(self, _: object = None) -> None:
        """Has the thread look again. It takes no lock, as the garbage collector calls it too."""
        with contextlib.suppress(RuntimeError):  # it has been woken already
            self._alarm.release()

    def _run(self) -> None:
        self._awake, me = True, cast("DaemonThread", current_thread())
        while self._thread is me:  # else another one has taken its place
            self.step()
            with self._lock:
                pause = self._pause()
                if pause is None:
                    self._thread = None if self._thread is me else self._thread
                    return
            if pause > 0.0:
                me.naps = True
                self._alarm.acquire(timeout=min(pause, _LONGEST_NAP))
                me.naps = False

    # With the lock held:

    def _start(self) -> None:
        try:
            self._thread = DaemonThread(self._run, name="tokenmgr-refresher")
            self._thread.start()
        except RuntimeError:  # where no thread can run, the callers renew by themselves
            self._thread = None

    def _clear_when_long(self) -> None:
        if len(self._queue) > self._long:
            self._queue = [entry for entry in self._queue if _is_live(entry[2])]
            heapq.heapify(self._queue)
            self._long = 64 + 2 * len(self._queue)

    def _pause(self) -> float | None:
        """Seconds until a renewal may start, 0 when one may; None when there is none."""
        now = self._clock.elapsed()
        while self._queue and (self._queue[0][0] <= now or not _is_live(self._queue[0][2])):
            due, number, plan = first = self._queue[0]
            # First there, then gone from here: a fork in between must not lose it.
            if due <= now and _is_live(plan):
                heapq.heappush(self._ready, (plan.latest, number, plan))
            popped = heapq.heappop(self._queue)
            if popped is not first:  # whoever came back to this thread has changed which one is
                heapq.heappush(self._queue, popped)
        while self._ready and not _is_live(self._ready[0][2]):
            heapq.heappop(self._ready)
        if self._ready:
            late = now >= self._ready[0][0]
            return 0.0 if late else max(0.0, self._next_start - now)
        return self._queue[0][0] - now if self._queue else None

    def _take(self) -> Renewable | None:
        latest, _, plan = self._ready[0]
        now = self._clock.elapsed()
        self._next_start = now + min(_LONGEST_GAP, max(0.0, latest - now) / len(self._ready))
        renewable = plan.renewable() if plan.live else None
        plan.live = False  # and so it leaves the queue at the next look
        return renewable


def _is_live(plan: Plan) -> bool:
    return plan.live and plan.renewable() is not None


_SHARED = Refresher()


def refresher_for(clock: Clock) -> Refresher:
    """Gives the one of this process, however many registries there are; its own to a fake clock."""
    return _SHARED if clock is SYSTEM_CLOCK else Refresher(clock)
