"""Calls of a program's own functions, each with an end, whatever the function does."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable

from .forks import fork_allowed, no_fork
from .secrecy import Hidden
from .workers import Workers

__all__ = ["CallTimeoutError", "Calls"]

#: So many calls of one function may be under way: each that never ends keeps a thread.
_MOST = 16


class CallTimeoutError(Exception):
    """A call has not ended in time. It goes on in its thread, and nobody waits for it."""


class _Call:
    """One call: what comes of it, hidden, and who waits for that."""

    def __init__(self, work: Callable[[], object], seconds: float) -> None:
        self._work = work
        self._seconds = seconds
        self._result: Hidden | None = None
        self._error: BaseException | None = None
        self._given_up = False
        self._ends = threading.Lock()
        self._ends.acquire()

    def __call__(self) -> None:
        """Makes the call, unless nobody waits for it any more."""
        if self._given_up:
            return
        try:
            self._result = _finished(Hidden(self._work()), self._seconds)
        except BaseException as exc:  # noqa: BLE001 - whoever waits raises it
            self._error = exc
        finally:
            self._ends.release()

    def wait(self) -> Hidden:
        """Waits for its end.

        Raises:
            CallTimeoutError: It has not come in time.
        """
        ended = self._ends.acquire(timeout=max(0.0, min(self._seconds, threading.TIMEOUT_MAX)))
        self._given_up = not ended
        error, self._error = self._error, None
        try:
            if error is not None:
                raise error
        finally:
            del error  # which leads here, by its traceback
        if self._result is None:
            raise CallTimeoutError
        return self._result


class Calls:
    """Calls of one function, in threads that are nobody else's.

    A coroutine that it gives is awaited in an event loop of the call's own. Where no thread can be
    started the function is called here, and has no end but its own.
    """

    def __init__(self) -> None:
        self._workers = Workers(_MOST, name="tokenmgr-callable")

    @fork_allowed()  # it may take long
    def call(self, work: Callable[[], object], seconds: float) -> Hidden:
        """Calls it, and gives what it gives, hidden.

        Args:
            work: The function.
            seconds: How long it may take.

        Raises:
            CallTimeoutError: It takes longer.
            BaseException: What it raises.
        """
        call = _Call(work, seconds)
        self._workers.do_or_here(call)
        return call.wait()


def _finished(given: Hidden, seconds: float) -> Hidden:
    """Gives what was given; where that is to be awaited, what comes of it."""
    if not inspect.isawaitable(given.cell_contents):
        return given
    with no_fork():  # names, as whoever shows a frame's variables takes modules apart
        from asyncio import _get_running_loop, run
    try:
        if _get_running_loop() is not None:
            raise RuntimeError("an event loop runs in this thread, and no other can be started")
        return run(_awaited(given, seconds))
    finally:
        getattr(given.cell_contents, "close", _nothing)()  # lest Python warn of it


async def _awaited(given: Hidden, seconds: float) -> Hidden:
    from asyncio import ensure_future, wait

    task = ensure_future(given.cell_contents)
    # Not by wait_for(): its TimeoutError would be taken for one of the program's, or that for it.
    done, _ = await wait({task}, timeout=seconds)
    if not done:
        task.cancel()
        raise CallTimeoutError
    return Hidden(task.result())


def _nothing() -> None:
    """What there is to close of an awaitable that is no coroutine."""
