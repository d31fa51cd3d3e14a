"""One fetch under way, which every caller of its key waits for together.

A flight lands once: with a result, with an error, or *lost*, when whoever fetched was interrupted
before it knew. Threads and coroutines of any event loop wait for it alike, each with a deadline of
its own; each leaves a waker, and takes it along when it goes. None of them can stop it.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from .._runtime.loops import running_loop

if TYPE_CHECKING:
    from .._runtime.workers import Workers

__all__ = ["Flight", "FlightLostError", "again", "bare", "set_off"]

T = TypeVar("T")
E = TypeVar("E", bound=Exception)

#: Seconds that anybody waits at most; more is too much for some clocks.
_LONGEST = 1e6


def again(error: E) -> E:
    """Copies an error for one more who is to raise it.

    Whoever raises an error leaves frames on it, and what was being handled meanwhile: in a server,
    another user's request.
    """
    # Without its constructor, which in a class of the program's own may want other arguments.
    copied = type(error).__new__(type(error), *error.args)
    copied.__dict__.update(error.__dict__)
    copied.__cause__ = error.__cause__
    return copied


def bare(error: E) -> E:
    """Copies an error to keep it: without tracebacks, in itself and in all that it came from."""
    copied = again(error)
    cause, context = error.__cause__, error.__context__
    copied.__cause__ = bare(cause) if isinstance(cause, Exception) else None
    hidden = error.__suppress_context__ or not isinstance(context, Exception)
    copied.__context__ = None if hidden else bare(context)  # type: ignore[type-var]
    return copied.with_traceback(None)


class FlightLostError(Exception):
    """Whoever fetched was interrupted, and nobody knows the outcome: start another flight."""


#: By thread, the flight that it waits for.
_waited_for: dict[int, Flight[Any]] = {}


def _bounded(seconds: float) -> float:
    return min(max(0.0, seconds), _LONGEST)


class Flight(Generic[T]):
    """One fetch under way."""

    def __init__(self, started_at: float, *, renew: bool = False) -> None:
        #: The elapsed clock when it was started; the worker that leads it sets it anew.
        self.started_at: float = started_at
        #: Whether it was started for a token that is fetched now.
        self.renew: bool = renew
        #: The thread that leads it, and the one that is about to hand it to the workers; 0 when
        #: there is none.
        self.leader: int = 0
        self.starter: int = 0
        self._outcome: Callable[[], T] | None = None
        #: What wakes those that wait; each of them adds one, and looks once more whether it has
        #: landed meanwhile.
        self._wakers: set[Callable[[], object]] = set()

    @property
    def landed(self) -> bool:
        """Whether its outcome is known."""
        return self._outcome is not None

    def begin(self) -> None:
        """Notes that this thread leads it from now on."""
        self.leader = threading.get_ident()

    def is_up_to(self, thread: int) -> bool:
        """Whether nothing comes of it while this thread waits."""
        return thread == (self.leader or self.starter)

    def land(self, result: T) -> None:
        """Gives every waiter the result."""
        self._settle(lambda: result)

    def fail(self, error: Exception) -> None:
        """Gives every waiter the error."""

        def outcome() -> T:
            raise again(error)

        self._settle(outcome)

    def lose(self) -> None:
        """Tells every waiter that whoever fetched was interrupted."""
        self.fail(FlightLostError())

    def wait(self, timeout: float) -> bool:
        """Waits in this thread, for at most ``timeout`` seconds, and says whether it landed.

        It does not wait where whoever leads it waits for this thread.
        """
        alarm, me = threading.Lock(), threading.get_ident()
        alarm.acquire()
        wake = alarm.release
        try:
            self._wakers.add(wake)
            # First the note, then the look: of several that close a circle, the last one sees it.
            _waited_for[me] = self
            if not self.landed and not self._waits_for(me):
                alarm.acquire(timeout=_bounded(timeout))
        finally:
            self._wakers.discard(wake)
            _waited_for.pop(me, None)
        return self.landed

    def _waits_for(self, thread: int) -> bool:
        """Whether a thread is what its leader waits for, by way of whatever others."""
        flight, seen = self, {0}
        while not flight.is_up_to(thread):
            other = flight.leader or flight.starter
            if other in seen or other not in _waited_for:
                return False
            seen.add(other)
            flight = _waited_for.get(other, flight)
        return True

    async def join(self, timeout: float) -> bool:
        """Waits in this event loop, for at most ``timeout`` seconds; answers as :meth:`wait`.

        Raises:
            ConfigurationError: It is none of asyncio's.
        """
        loop = running_loop()
        woken = loop.create_future()

        def stop_waiting() -> None:
            if not woken.done():
                woken.set_result(None)

        def wake() -> None:
            # A loop may be closed while it waits; the other waiters are still to be woken.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(stop_waiting)

        deadline = loop.call_later(_bounded(timeout), stop_waiting)
        try:
            self._wakers.add(wake)
            if not self.landed:
                await woken
        finally:
            deadline.cancel()
            self._wakers.discard(wake)
        return self.landed

    def result(self) -> T:
        """Gives or raises what it landed with; only once it has landed."""
        assert self._outcome is not None, "it has not landed"  # noqa: S101
        return self._outcome()

    def _settle(self, outcome: Callable[[], T]) -> None:
        if self._outcome is not None:
            return
        # First the outcome, then the wakers: who waits adds its waker first, and then looks.
        self._outcome = outcome
        while self._wakers:
            with contextlib.suppress(KeyError):  # the last one has just gone
                wake = self._wakers.pop()
                with contextlib.suppress(RuntimeError):
                    wake()


def set_off(flight: Flight[Any], workers: Workers, lead: Callable[[], object]) -> bool:
    """Has a worker lead a flight; leads it here and now, and gives False, where none runs.

    Under no lock: no thread that has one waits for another.

    Args:
        flight: The flight.
        workers: The threads that may.
        lead: Leads it.
    """
    led = True
    try:
        workers.do(lead)
    except RuntimeError:  # no thread runs here
        flight.begin()
        led = False
    finally:
        flight.starter = 0
    if not led:
        lead()
    return led
