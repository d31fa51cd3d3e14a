"""What stands in for threading's locks and threads, for time, and for event loops, in a round."""

from __future__ import annotations

import asyncio
import itertools
import math
import threading
from collections.abc import Callable
from typing import Any

from explorer.schedule import KilledError, Schedule
from explorer.strands import ENDED, Strand

__all__ = ["Loop", "Set", "Threading", "Time"]


class Lock:
    """A lock, as ``threading.Lock`` makes them; what waits for it is known to the schedule."""

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule
        self._waiting: list[Strand] = []
        self.owner: Strand | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.owner!r}>"

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        if self.owner is None:
            self.owner = self._schedule.current
            return True
        return blocking and self._wait(math.inf if timeout < 0 else timeout)

    def _wait(self, seconds: float) -> bool:
        schedule = self._schedule
        if schedule.over and not schedule.is_mine():
            return True  # whatever the collector finds after a round
        me, give_up_at = schedule.current, schedule.now + seconds
        self._waiting.append(me)
        try:
            while self.owner is not None:
                if schedule.now >= give_up_at:
                    return False
                schedule.block(self, give_up_at - schedule.now)
        finally:
            self._waiting.remove(me)
        self.owner = me
        return True

    def release(self) -> None:
        if self.owner is None:
            raise RuntimeError("release unlocked lock")
        self.owner = None
        for strand in self._waiting:
            self._schedule.wake(strand)

    def _is_owned(self) -> bool:
        return self.owner is self._schedule.current

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


class RLock(Lock):
    """A re-entrant lock. Two of them that are taken in both orders end the round."""

    def __init__(self, schedule: Schedule) -> None:
        super().__init__(schedule)
        self._count = 0
        #: Those inside of which it has been taken.
        self._outer: set[RLock] = set()

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        me = self._schedule.current
        if self.owner is not me:
            for outer in me.holds if blocking and timeout < 0 else ():
                self._note(outer)
            if not super().acquire(blocking, timeout):
                return False
            me.holds.append(self)
        self._count += 1
        return True

    def _note(self, outer: RLock) -> None:
        if outer not in self._outer:
            self._outer.add(outer)
            if outer._is_inside(self):
                self._schedule.fail(f"a deadlock to come: {self!r} and {outer!r} in both orders")

    def _is_inside(self, lock: RLock) -> bool:
        return lock in self._outer or any(outer._is_inside(lock) for outer in self._outer)

    def release(self) -> None:
        if self.owner is not self._schedule.current and not self._schedule.over:
            raise RuntimeError("cannot release un-acquired lock")
        self._count -= 1
        if self._count == 0:
            holds = [] if self.owner is None else self.owner.holds
            if self in holds:
                holds.remove(self)
            super().release()


class Thread:
    """A thread, as ``threading.Thread`` is one; of a subclass for each round."""

    threads: Threading

    def __init__(
        self, *, target: Callable[[], object], name: str, daemon: bool | None = None
    ) -> None:
        self._target = target
        self._number = next(self.threads.numbers)
        self._starter: Strand | None = None
        self.name = name
        self.daemon = daemon
        self.strand: Strand | None = None

    def __repr__(self) -> str:
        return f"<thread {self.strand!r}>"

    def __hash__(self) -> int:
        return self._number  # the same in each replay

    def start(self) -> None:
        threads = self.threads
        self._starter = threads.schedule.current
        threads.start_new_thread(self._bootstrap, ())
        while self.strand is None:  # as the real one waits for it
            threads.schedule.block(self)

    def _bootstrap(self) -> None:
        threads, self.strand = self.threads, self.threads.schedule.current
        threads.by_strand[self.strand] = self
        assert self._starter is not None
        threads.schedule.wake(self._starter)
        try:
            threads.be_late()
            self.run()
        except BaseException as exc:  # noqa: BLE001 - as a thread's own
            threads.excepthook(threading.ExceptHookArgs((type(exc), exc, None, self)))

    def run(self) -> None:
        self._target()

    def is_alive(self) -> bool:
        return self.strand is not None and self.strand.state is not ENDED


class Threading:
    """The modules ``threading`` and ``_thread``, for the modules of the core."""

    ExceptHookArgs = threading.ExceptHookArgs
    local = threading.local

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        #: The share of starts that are refused.
        self.refused = 0.0
        #: Seconds after which a thread that was started runs.
        self.late: Callable[[], float] = lambda: 0.0
        #: Told what ends the work of a thread.
        self.on_exception: Callable[[BaseException], object] = lambda exception: None
        #: The re-entrant locks, which guard fields.
        self.guards: list[RLock] = []
        #: The thread that handles signals.
        self.main: Strand | None = None
        self.numbers = itertools.count(1)
        self.by_strand: dict[Strand, Thread] = {}
        self.Thread = type("Thread", (Thread,), {"threads": self})

    def Lock(self) -> Lock:  # noqa: N802 - as threading calls it
        return Lock(self.schedule)

    def RLock(self) -> RLock:  # noqa: N802
        lock = RLock(self.schedule)
        self.guards.append(lock)
        return lock

    def start_new_thread(self, function: Callable[[], object], _: tuple[()]) -> None:
        schedule = self.schedule
        if schedule.chance.random() < self.refused:
            schedule.tell("is refused a thread")
            raise RuntimeError("can't start new thread")
        that = getattr(function, "__self__", None)
        name = getattr(that, "name", function.__name__)
        schedule.wake(schedule.spawn(name, function, that))

    def be_late(self) -> None:
        """Lets time go by before a thread does anything."""
        late = self.late()
        if late:
            self.schedule.sleep(late)

    def main_thread(self) -> Strand | None:
        return self.main

    def current_thread(self) -> Thread | Strand:
        return self.by_strand.get(self.schedule.current, self.schedule.current)

    def get_ident(self) -> int:
        return self.schedule.current.number

    def excepthook(self, arguments: threading.ExceptHookArgs) -> None:
        if arguments.exc_value is not None and not isinstance(arguments.exc_value, KilledError):
            self.on_exception(arguments.exc_value)


class Time:
    """The module ``time``, for the modules of the core."""

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule
        self.sleep = schedule.sleep

    def monotonic(self) -> float:
        return self._schedule.now


class Set(dict[Any, None]):
    """A set that gives its members in an order of the seed's, and not of their addresses."""

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule

    def add(self, member: object) -> None:
        self[member] = None

    def discard(self, member: object) -> None:
        super().pop(member, None)

    def pop(self) -> Any:  # type: ignore[override]
        if not self:
            raise KeyError("pop from an empty set")
        member = self._schedule.chance.choice(tuple(self))
        del self[member]
        return member


class Loop(asyncio.BaseEventLoop):
    """A real event loop, that waits in the schedule and not in a selector."""

    def __init__(self, schedule: Schedule) -> None:
        super().__init__()
        self._schedule = schedule
        self._selector = self
        self._woken = False
        self._sleeper: Strand | None = None
        self.set_exception_handler(lambda loop, context: None)  # tasks that die along with it

    def __repr__(self) -> str:
        return "<event loop>"

    def time(self) -> float:
        return self._schedule.now

    def select(self, timeout: float | None) -> list[object]:
        """Waits for what another thread brings, or for the next timer."""
        if timeout is None or timeout > 0:
            self._sleeper = self._schedule.current
            give_up_at = math.inf if timeout is None else self._schedule.now + timeout
            while not self._woken and self._schedule.now < give_up_at:
                self._schedule.block(self, give_up_at - self._schedule.now)
            self._sleeper = None
        self._woken = False
        return []

    def _process_events(self, event_list: list[object]) -> None:
        pass

    def _write_to_self(self) -> None:
        self._woken = True
        if self._sleeper is not None:
            self._schedule.wake(self._sleeper)
