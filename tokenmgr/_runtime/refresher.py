"""Renewal in the background: one thread for the timing, whatever the number of keys.

The thread is started with the first key that is to be followed and ends with the last one. It
only says when: the fetches run in workers, so that a slow key delays no other. Renewals that fall
due together are started one after another, spread over the time that they have.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import threading
import weakref
from collections import deque
from typing import Protocol

from .clock import SYSTEM_CLOCK, Clock
from .forks import make_new_in_child

__all__ = ["Refresher", "Renewable", "refresher_for"]

#: A sleeping machine's timers oversleep with it: nobody looks at the clock later than this.
_LONGEST_NAP = 30.0
#: Due renewals are started at most this far apart, so that few keys do not wait for each other.
_LONGEST_GAP = 0.25
#: Starts per second are held to this many times what the keys need on average...
_PACE = 1.5
#: ...unless those that are due would not all be started in this share of the time that they have:
#: the rest is for a service that is slow.
_SHARE = 0.5


class Renewable(Protocol):
    """What a refresher follows."""

    def renew_if_used(self) -> None:
        """Has its token renewed, or lets it go. Never waits, never raises."""
        ...


class _Entry:
    """A renewal that is planned. It stays queued when another takes its place, and is void."""

    __slots__ = ("due", "live", "load", "number", "renewable", "valid_until")

    def __init__(
        self, due: float, number: int, valid_until: float, load: float, renewable: Renewable
    ) -> None:
        self.due = due
        self.number = number
        self.valid_until = valid_until
        self.load = load
        self.renewable = weakref.ref(renewable)
        self.live = True

    def __lt__(self, other: _Entry) -> bool:
        return (self.due, self.number) < (other.due, other.number)


class Refresher:
    """Says when renewals are due.

    Args:
        clock: The time.
    """

    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self._numbers = itertools.count()
        self._entries: weakref.WeakKeyDictionary[Renewable, _Entry] = weakref.WeakKeyDictionary()
        self._next_start = float("-inf")
        make_new_in_child(self)
        self.after_fork()

    def after_fork(self) -> None:
        """Follows the same keys in the child; its thread starts with the next key followed."""
        #: Guards all fields, and wakes the thread; no renewal is started under it.
        self._changed = threading.Condition(threading.Lock())
        self._thread: threading.Thread | None = None
        #: Whether the thread has ever run: in some servers it starts, and never does.
        self._awake = False
        # The parent's thread may have been in the middle of changing these.
        self._queue = list(self._entries.values())
        heapq.heapify(self._queue)
        self._ready: deque[_Entry] = deque()
        #: Renewals per second that the keys need on average.
        self._load = sum(entry.load for entry in self._queue)

    def follow(self, renewable: Renewable, due: float, valid_until: float) -> None:
        """Has a key renewed when it is due, in place of what was planned for it before.

        Args:
            renewable: The key's keeper.
            due: When, on the elapsed clock, in seconds.
            valid_until: Until when its token serves; whoever is close to it is not held up.
        """
        with self._changed:
            self._drop(renewable)
            load = 1.0 / max(due - self._clock.elapsed(), 0.1)
            entry = _Entry(due, next(self._numbers), valid_until, load, renewable)
            self._entries[renewable] = entry
            self._load += load
            heapq.heappush(self._queue, entry)
            if not self._runs():
                self._start()
            elif self._queue[0] is entry:
                self._changed.notify()

    def takes_care_of(self, renewable: Renewable) -> bool:
        """Whether a renewal that is due will be started in time, so that its caller need not."""
        with self._changed:
            entry = self._entries.get(renewable)
            now = self._clock.elapsed()
            awake = self._awake and self._runs()
            return awake and entry is not None and now < _latest_start(entry)

    def forget(self, renewable: Renewable) -> None:
        """Follows a key no longer. The thread ends with the last one."""
        with self._changed:
            self._drop(renewable)
            thread = None if self._entries else self._thread
            self._changed.notify()
        if thread is not None and thread is not threading.current_thread():
            # A thread that a server never ran cannot be joined, nor can one as Python ends.
            with contextlib.suppress(RuntimeError):
                thread.join(1.0)

    def step(self) -> float | None:
        """Starts one renewal if one is due; what the thread does over and over.

        Returns:
            Seconds until the next is due; None when no key is followed.
        """
        with self._changed:
            pause = self._pause()
            renewable = self._take() if pause == 0.0 else None
        if renewable is not None:
            renewable.renew_if_used()
        return pause

    def _runs(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _run(self) -> None:
        self._awake = True
        while True:
            self.step()
            with self._changed:
                pause = self._pause()
                if pause is None:
                    self._thread = None
                    return
                if pause > 0.0:
                    self._changed.wait(min(pause, _LONGEST_NAP))

    # With the lock held:

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="tokenmgr-refresher", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # where no thread can run, the callers renew by themselves
            self._thread = None

    def _drop(self, renewable: Renewable) -> None:
        entry = self._entries.pop(renewable, None)
        if entry is not None:
            self._void(entry)
        if len(self._queue) > 64 + 2 * len(self._entries):
            self._queue = [entry for entry in self._queue if entry.live]
            heapq.heapify(self._queue)

    def _void(self, entry: _Entry) -> None:
        entry.live = False
        self._load -= entry.load

    def _pause(self) -> float | None:
        """Seconds until a renewal may start, 0 when one may; None when there is none."""
        now = self._clock.elapsed()
        while self._first_live(self._queue) and self._queue[0].due <= now:
            self._ready.append(heapq.heappop(self._queue))
        if self._first_live(self._ready):
            late = now >= _latest_start(self._ready[0])
            return 0.0 if late else max(0.0, self._next_start - now)
        if self._queue:
            return self._queue[0].due - now
        self._load = 0.0
        return None

    def _first_live(self, entries: list[_Entry] | deque[_Entry]) -> bool:
        """Drops what is void from the front; says whether anything is left."""
        while entries:
            entry = entries[0]
            if entry.live and entry.renewable() is None:
                self._void(entry)
            if entry.live:
                return True
            if isinstance(entries, deque):
                entries.popleft()
            else:
                heapq.heappop(entries)
        return False

    def _take(self) -> Renewable | None:
        entry = self._ready.popleft()
        now = self._clock.elapsed()
        slack = max(0.0, _latest_start(entry) - now)
        gap = min(_LONGEST_GAP, 1.0 / (_PACE * self._load), slack / (len(self._ready) + 1))
        self._next_start = now + gap
        renewable = entry.renewable()
        if renewable is None:
            self._void(entry)
        else:
            self._drop(renewable)
        return renewable


def _latest_start(entry: _Entry) -> float:
    return entry.due + _SHARE * (entry.valid_until - entry.due)


_SHARED = Refresher()


def refresher_for(clock: Clock) -> Refresher:
    """Gives the one of this process, however many registries there are; one more for a fake clock.

    Args:
        clock: The time.
    """
    return _SHARED if clock is SYSTEM_CLOCK else Refresher(clock)
