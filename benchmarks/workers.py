"""Worker processes, forked from one that has everything imported, as a preloading server's are.

They are forked by the process that measures, which therefore has no other thread: run what forks
with :func:`alone`.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

from .crowd import together
from .service import SCOPE, Service

__all__ = ["FORK", "Crowd", "Worker", "alone", "warm_up"]

T = TypeVar("T")

#: How workers are made.
FORK = multiprocessing.get_context("fork")


def alone(work: Callable[..., T], **arguments: Any) -> T:
    """Does ``work`` in a new process, where nothing else is imported and no other thread runs."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as executor:
        return executor.submit(work, **arguments).result()


def warm_up(service: Service, store: str | None) -> None:
    """Imports what a fetch imports, so that workers that are forked later have it all.

    Args:
        service: What is asked.
        store: What kind of store is used; its content is that of another namespace.
    """
    with service.registry(store=store, namespace="warm-up") as tokens:
        tokens.get_access_token(SCOPE)


class Worker:
    """A process of many threads, which all make the same call at the same moment.

    Args:
        call_of: Gives the call; asked in the process.
        threads: How many there are.
        start: Both ends of a pipe. They wait until nobody has its writing end any more.
    """

    def __init__(
        self, call_of: Callable[[], Callable[[], Any]], threads: int, start: tuple[int, int]
    ) -> None:
        import psutil

        self._pipe, theirs = FORK.Pipe()
        self.process: BaseProcess = FORK.Process(
            target=_work, args=(call_of, threads, start, theirs), daemon=True
        )
        self.process.start()
        theirs.close()
        self._seen = psutil.Process(self.process.pid)

    def await_ready(self) -> None:
        """Waits until all its threads wait for the start."""
        self._pipe.recv()

    def kill(self) -> None:
        """Ends it as ``kill -9`` does."""
        self.process.kill()
        self.process.join()

    def has_connection_to(self, port: int) -> bool:
        """Whether one of its connections leads to this port."""
        connections = self._seen.net_connections("tcp")
        return any(each.raddr and each.raddr.port == port for each in connections)

    def failures(self) -> list[str]:
        """Waits until its threads are done, and gives what was raised in them."""
        failures: list[str] = self._pipe.recv()
        self.process.join()
        return failures


class Crowd:
    """Workers that all make the same call at the same moment.

    Args:
        call_of: Gives the call; asked in each of them.
        processes: How many there are.
        threads: How many threads each has.
    """

    def __init__(
        self, call_of: Callable[[], Callable[[], Any]], *, processes: int, threads: int
    ) -> None:
        start = awaited, self._start = os.pipe()
        self.living: list[Worker] = [Worker(call_of, threads, start) for _ in range(processes)]
        os.close(awaited)
        for worker in self.living:
            worker.await_ready()

    def start(self) -> None:
        """Lets all of them call now."""
        os.close(self._start)

    def kill_who_asks(self, port: int) -> None:
        """Kills the one that asks the service, which is the only one that is connected to it.

        Args:
            port: The service's.
        """
        asking = [worker for worker in self.living if worker.has_connection_to(port)]
        if not asking:
            raise RuntimeError("no worker is connected to the service")
        self.living.remove(asking[0])
        asking[0].kill()

    def failures(self) -> list[str]:
        """Waits until those that live are done, and gives what was raised in them."""
        return [failure for worker in self.living for failure in worker.failures()]


def _work(
    call_of: Callable[[], Callable[[], Any]],
    threads: int,
    start: tuple[int, int],
    pipe: Connection,
) -> None:
    awaited, starter = start
    os.close(starter)
    call = call_of()
    ready = threading.Barrier(threads, action=partial(pipe.send, None))

    def job() -> None:
        ready.wait()
        os.read(awaited, 1)
        call()

    outcomes = together([job] * threads)
    pipe.send([repr(outcome) for outcome in outcomes if isinstance(outcome, Exception)])
