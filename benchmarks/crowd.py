"""Many callers at once: threads, and tasks on event loops."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

__all__ = ["loop_of", "together"]

T = TypeVar("T")

#: Far above what any of them takes.
_DEADLINE = 120.0


def together(jobs: Sequence[Callable[[], T]]) -> list[T | Exception]:
    """Runs every job in a thread of its own, all from the same moment on.

    Returns:
        What each returned or raised, in the jobs' order.
    """
    start = threading.Barrier(len(jobs))
    outcomes: list[T | Exception] = [TimeoutError("it did not end")] * len(jobs)

    def run(number: int) -> None:
        start.wait(_DEADLINE)
        try:
            outcomes[number] = jobs[number]()
        except Exception as exc:  # noqa: BLE001 - it is the outcome
            outcomes[number] = exc

    threads = [threading.Thread(target=run, args=(n,), daemon=True) for n in range(len(jobs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(_DEADLINE)
    return outcomes


def loop_of(tasks: int, call: Callable[[], Awaitable[object]]) -> Callable[[], None]:
    """A job for :func:`together`: an event loop in which so many tasks call at once."""

    async def all_at_once() -> None:
        await asyncio.gather(*(call() for _ in range(tasks)))

    return lambda: asyncio.run(all_at_once())
