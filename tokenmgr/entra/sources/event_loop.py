"""An event loop in a thread of its own, for what is asynchronous and belongs to nobody's loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable
from concurrent.futures import CancelledError
from concurrent.futures import TimeoutError as WaitTimeoutError
from contextlib import suppress
from weakref import finalize

from ..._runtime.forks import renew_in_child
from ..._runtime.secrecy import Hidden

__all__ = ["OwnLoop"]

#: Seconds for what is under way to be cancelled at the end, and for the thread to be gone.
_END = 5.0


class OwnLoop:
    """A loop that is started when it is first needed, and runs until it is closed, or let go.

    What has connections belongs to the loop that opened them, and so all of it runs in this one.
    """

    _running: tuple[asyncio.AbstractEventLoop, threading.Thread] | None = None

    def __init__(self) -> None:
        renew_in_child(self._start_anew)

    def _start_anew(self) -> None:
        """Has the child start its own: the thread of the parent's is not there."""
        if self._running is not None:
            _of_parents.append(self._running)
        #: Guards what follows; never held while anything waits.
        self._lock = threading.RLock()
        self._running = None

    def run(self, work: Awaitable[object], seconds: float) -> Hidden:
        """Waits for what runs in the loop; cancels it when it takes too long.

        Args:
            work: What to wait for.
            seconds: How long at most.

        Returns:
            What it gave, hidden.

        Raises:
            TimeoutError: It took longer.
            Exception: What it raised.
        """

        async def awaited() -> Hidden:
            return Hidden(await work)  # a task's repr shows its result

        future = asyncio.run_coroutine_threadsafe(awaited(), self._loop())
        try:
            return future.result(seconds)
        except (WaitTimeoutError, CancelledError):
            if future.done() and not future.cancelled():
                raise  # its own
            raise TimeoutError from None
        finally:
            future.cancel()

    def close(self, last: Awaitable[object] | None = None) -> None:
        """Ends the loop, after ``last`` has run in it; does nothing where none was started."""
        with self._lock:
            running, self._running = self._running, None
        if running is None:
            if asyncio.iscoroutine(last):
                last.close()
            return
        loop, thread = running

        async def end() -> None:
            with suppress(Exception):  # it is of no use to anybody any more
                if last is not None:
                    await last
            for task in asyncio.all_tasks():
                if task is not asyncio.current_task():
                    task.cancel()

        with suppress(Exception):
            asyncio.run_coroutine_threadsafe(end(), loop).result(_END)
        _stop(loop)
        if thread is not threading.current_thread():
            thread.join(_END)

    def _loop(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            # One that is not alive was never started: whoever was about to has been interrupted.
            if self._running is None or not self._running[1].is_alive():
                loop = asyncio.new_event_loop()
                thread = threading.Thread(
                    target=_serve, args=(loop,), name="tokenmgr-loop", daemon=True
                )
                # The thread has no part in this object, and ends with it.
                finalize(self, _stop, loop).atexit = False
                self._running = loop, thread
                thread.start()
            return self._running[0]


#: The loops of a child's parents, which its garbage collector is not to take apart: it shares with
#: them what they wait by.
_of_parents: list[object] = []


def _stop(loop: asyncio.AbstractEventLoop) -> None:
    with suppress(RuntimeError):  # it is closed
        loop.call_soon_threadsafe(loop.stop)


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
