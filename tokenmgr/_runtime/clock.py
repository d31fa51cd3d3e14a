"""The time, injectable.

Two clocks, because neither tells the whole truth. The *elapsed* clock never steps and goes on
while the machine sleeps: what is kept fresh, and when, is decided on it alone. The *wall* clock
is what servers and people speak of, and somebody may set it at any moment: it only translates a
token's ``expires_at`` into what is left, once, when the token arrives.
"""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable
from typing import Protocol

__all__ = ["SYSTEM_CLOCK", "Clock", "SystemClock", "sleep_unless"]

#: Seconds between two looks whether a sleep is over.
_LOOK_EVERY = 0.05


class Clock(Protocol):
    """What tokenmgr asks for the time. A test gives one that it moves by hand."""

    def elapsed(self) -> float:
        """Seconds since some fixed moment; never steps, and counts the machine's sleep."""
        ...

    def wall(self) -> float:
        """Seconds since 1970-01-01T00:00:00Z; steps when somebody sets the clock."""
        ...


def _sleep_counting_clock() -> Callable[[], float]:
    # time.monotonic() stands still during suspend on Linux and macOS, and a laptop that wakes
    # after a night would take yesterday's token for fresh. Windows' counts the night in.
    if sys.platform == "linux":
        return functools.partial(time.clock_gettime, time.CLOCK_BOOTTIME)
    if sys.platform == "darwin":
        return functools.partial(time.clock_gettime, time.CLOCK_MONOTONIC)
    return time.monotonic


class SystemClock:
    """The machine's own clocks."""

    elapsed: Callable[[], float] = staticmethod(_sleep_counting_clock())
    wall: Callable[[], float] = staticmethod(time.time)


SYSTEM_CLOCK: Clock = SystemClock()


def sleep_unless(over: Callable[[], bool], seconds: float) -> bool:
    """Sleeps for so long; ends it, and gives True, as soon as ``over`` does.

    It looks now and then. Who sets an event may be interrupted, and leaves its lock taken.
    """
    end = time.monotonic() + seconds
    while not over() and (left := end - time.monotonic()) > 0:
        time.sleep(min(left, _LOOK_EVERY))
    return over()
