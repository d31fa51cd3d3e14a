"""A clock for processes of the tests' own: the machine's, moved on by hand."""

from __future__ import annotations

from tokenmgr._runtime.clock import SYSTEM_CLOCK

__all__ = ["Later"]


class Later:
    """The machine's clock, so many seconds on."""

    def __init__(self) -> None:
        self.by = 0.0

    def elapsed(self) -> float:
        return SYSTEM_CLOCK.elapsed() + self.by

    def wall(self) -> float:
        return SYSTEM_CLOCK.wall() + self.by
