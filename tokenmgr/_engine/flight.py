"""One fetch under way, which every caller of its key waits for together.

A flight belongs to whoever started it, its leader, and lands once: with a result, with an error,
or *lost*, when its leader was interrupted before it knew. Threads and coroutines of any event
loop wait for it alike, each with a deadline of its own, and none of them can stop it.
"""

from __future__ import annotations

import contextlib
import copy
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["Flight", "FlightLostError", "again"]

T = TypeVar("T")


E = TypeVar("E", bound=Exception)


def again(error: E) -> E:
    """Copies an error for one more who is to raise it.

    Whoever raises an error leaves frames on it, and what was being handled meanwhile: in a server,
    another user's request.
    """
    try:
        copied = copy.copy(error)
    except Exception:  # noqa: BLE001 - a class of the program's own, with arguments of its own
        return error.with_traceback(None)
    copied.__cause__ = error.__cause__
    return copied


class FlightLostError(Exception):
    """The leader was interrupted, and nobody knows the outcome: board another flight."""


class Flight(Generic[T]):
    """One fetch under way.

    Args:
        started_at: The elapsed clock when it was announced, in seconds; whoever leads it sets it
            anew.
        claims: The claims that it asks for; None when it asks for none.
        renew: Whether it was started for a token that is fetched now.
    """

    def __init__(
        self, started_at: float, claims: str | None = None, *, renew: bool = False
    ) -> None:
        self.started_at = started_at
        self.claims = claims
        self.renew = renew
        self._landed = threading.Event()
        self._outcome: Callable[[], T] | None = None
        #: Guards the wakers, and that whoever comes as it lands is woken too.
        self._lock = threading.Lock()
        self._wakers: list[Callable[[], object]] = []
        self._leader = threading.Lock()

    def claim(self) -> bool:
        """Makes the caller its leader; False when it has one."""
        return self._leader.acquire(blocking=False)

    @property
    def has_leader(self) -> bool:
        """Whether somebody leads it."""
        return self._leader.locked()

    def land(self, result: T) -> None:
        """Gives every waiter the result."""
        self._settle(lambda: result)

    def fail(self, error: Exception) -> None:
        """Gives every waiter the error."""

        def outcome() -> T:
            raise again(error)

        self._settle(outcome)

    def lose(self) -> None:
        """Tells every waiter that the leader was interrupted."""
        self.fail(FlightLostError())

    def wait(self, timeout: float) -> bool:
        """Waits in this thread, for at most ``timeout`` seconds, and says whether it landed."""
        return self._landed.wait(timeout)

    async def join(self, timeout: float) -> bool:
        """Waits in this event loop, for at most ``timeout`` seconds; answers as :meth:`wait`."""
        import asyncio  # 20 ms that a program without event loops does not have to spend

        loop = asyncio.get_running_loop()
        landed = asyncio.Event()

        def wake() -> None:
            # A loop may be closed while it waits; the other waiters are still to be woken.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(landed.set)

        with self._lock:
            if self._landed.is_set():
                return True
            self._wakers.append(wake)
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(landed.wait(), timeout)
        return self._landed.is_set()

    def result(self) -> T:
        """Gives or raises what it landed with; only once it has landed."""
        assert self._outcome is not None, "it has not landed"  # noqa: S101
        return self._outcome()

    def _settle(self, outcome: Callable[[], T]) -> None:
        self._outcome = outcome
        with self._lock:
            self._landed.set()
            wakers, self._wakers = self._wakers, []
        for wake in wakers:
            wake()
