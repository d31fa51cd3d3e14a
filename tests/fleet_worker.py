"""The workers of a fleet: children of a test that share one store, and programs of their own.

Run as a program, whose environment names its app and its store:

``ends``, ``exits``: has its first token, says it, and ends, by itself or by ``sys.exit``.
``waits``, ``awaits``: the same, with a deadline of its own, and in an event loop.
``closes``: waits for another worker's lease in every way there is, and closes its registry.
``leaves``: waits for another worker's lease in the background, and ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from forking import DEADLINE, Child
from later import Later
from support import SCOPE

from tokenmgr import ConfigurationError, TokenRegistry
from tokenmgr.stores import open_store

if TYPE_CHECKING:
    from redis_servers import Server

    from tokenmgr.emulator import EntraEmulator

__all__ = ["FORK", "Backend", "Fleet", "RedisKeys", "SqliteFile", "Watched"]

#: What children have in common with their test.
FORK = multiprocessing.get_context("fork" if hasattr(os, "fork") else None)

T = TypeVar("T")


# Where they share


class SqliteFile:
    """A store in a file, and what lies in it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "tokens.db"
        self.url = f"sqlite:///{self.path}"

    def records(self) -> dict[str, bytes]:
        """What has not ended."""
        if not self.path.exists():
            return {}
        with contextlib.closing(sqlite3.connect(self.path)) as connection:
            query = "SELECT key, value FROM records WHERE ends > ?"
            return dict(connection.execute(query, (time.time(),)).fetchall())

    def content(self) -> bytes:
        """All that whoever reads it can read."""
        return b"".join(file.read_bytes() for file in self.path.parent.iterdir())

    def end_leases(self) -> None:
        """Lets the time of leases be over."""
        with contextlib.closing(sqlite3.connect(self.path, timeout=DEADLINE)) as connection:
            connection.execute("UPDATE records SET ends = 0 WHERE key LIKE '%:lease'")
            connection.commit()

    def without_end(self) -> list[str]:
        """What does not end by itself, in time."""
        with contextlib.closing(sqlite3.connect(self.path)) as connection:
            query = "SELECT key FROM records WHERE ends IS NULL OR ends > ?"
            return [key for (key,) in connection.execute(query, (time.time() + 3600,))]


class RedisKeys:
    """A store in a server, and what lies in it."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.url = server.url

    def records(self) -> dict[str, bytes]:
        """What has not ended."""
        with self._server.client() as client:
            found = {key.decode(): client.get(key) for key in client.scan_iter()}
        return {key: value for key, value in found.items() if value is not None}

    def content(self) -> bytes:
        """All that whoever reads it can read."""
        return b"\n".join(key.encode() + value for key, value in self.records().items())

    def end_leases(self) -> None:
        """Lets the time of leases be over."""
        with self._server.client() as client:
            for key in client.scan_iter("*:lease"):
                client.pexpire(key, 1)

    def without_end(self) -> list[str]:
        """What does not end by itself, in time."""
        with self._server.client() as client:
            left = {key.decode(): client.pttl(key) for key in client.scan_iter()}
        return [key for key, ends in left.items() if ends == -1 or ends > 3600_000]


Backend = SqliteFile | RedisKeys


class Watched:
    """A real store that tells of its operations.

    Args:
        url: The store's.
        before: Told which operation begins; what it does comes in between.
        after: Told which operation has ended, and what it gave.
    """

    def __init__(
        self,
        url: str,
        *,
        before: Callable[[str], object] = lambda operation: None,
        after: Callable[[str, object], object] = lambda operation, result: None,
    ) -> None:
        self._store = open_store(url)
        self._before = before
        self._after = after

    def get(self, key: str) -> bytes | None:
        return self._do("get", lambda: self._store.get(key))

    def put(self, key: str, value: bytes, ttl: float) -> None:
        self._do("put", lambda: self._store.put(key, value, ttl))

    def lease(self, key: str, owner: bytes, ttl: float) -> bool:
        return self._do("lease", lambda: self._store.lease(key, owner, ttl))

    def delete(self, key: str, value: bytes) -> bool:
        return self._do("delete", lambda: self._store.delete(key, value))

    def close(self) -> None:
        self._store.close()

    def _do(self, operation: str, call: Callable[[], T]) -> T:
        self._before(operation)
        result = call()
        self._after(operation, result)
        return result


# Children


class Fleet:
    """Workers of one app over one store; each makes its registry in a process of its own."""

    def __init__(self, entra: EntraEmulator, backend: Backend, **settings: Any) -> None:
        self.entra = entra
        self.backend = backend
        # The tenant as the environment names it: its domain would make it another key. And no
        # request is given up while a test has it wait.
        authority = entra.authority(entra.environment()["AZURE_TENANT_ID"])
        self._settings = {"authority": authority, "timeout": 60.0} | settings
        self._attempts = FORK.Semaphore(0)
        self._stack = contextlib.ExitStack()

    @contextlib.contextmanager
    def registry(self, store: Watched | None = None, **settings: Any) -> Iterator[TokenRegistry]:
        """A worker's registry. It counts the attempts to take a lease that are through."""
        store = store or Watched(self.backend.url, after=self.note)
        with self.entra.registry(store=store, **(self._settings | settings)) as tokens:
            try:
                yield tokens
            finally:
                store.close()

    def ask(self) -> str:
        """What a new worker does first."""
        with self.registry() as tokens:
            return tokens.get_access_token(SCOPE)

    def renew(self) -> str:
        """What a worker does that does not trust the token that is there."""
        with self.registry() as tokens:
            return tokens.manager(SCOPE).refresh_access_token()

    def worker(self, **settings: Any) -> Worker:
        """A worker that does what it is told, until the test is over."""
        worker = Worker(self, settings)
        self._stack.callback(worker.end)
        return worker

    def attempts(self, count: int) -> None:
        """Waits until so many attempts to take a lease are through."""
        for _ in range(count):
            assert self._attempts.acquire(timeout=DEADLINE), "nobody tries to take the lease"

    def leases(self) -> list[str]:
        return [key for key in self.backend.records() if key.endswith(":lease")]

    def close(self) -> None:
        self._stack.close()

    def note(self, operation: str, result: object) -> None:
        """Counts attempts to take a lease, in whichever process."""
        if operation == "lease":
            self._attempts.release()


class Worker:
    """A process with a manager, which calls its methods one after another as it is told."""

    def __init__(self, fleet: Fleet, settings: dict[str, Any]) -> None:
        self._fleet = fleet
        self._settings = settings
        self._here, self._there = FORK.Pipe()
        self._child = Child(self._live)

    def do(self, method: str, *arguments: Any) -> Any:
        """Has it call a method of its manager; ``advance`` sets its clock."""
        self._here.send((method, arguments))
        assert self._here.poll(DEADLINE), f"the worker's {method} does not end"
        return self._here.recv()

    def get(self) -> str:
        return self.do("get_access_token")

    def end(self) -> None:
        self._here.send(None)
        self._child.outcome()

    def _live(self) -> None:
        clock = Later()
        with self._fleet.registry(clock=clock, **self._settings) as tokens:
            manager = tokens.manager(SCOPE)
            while (order := self._there.recv()) is not None:
                method, arguments = order
                if method == "advance":
                    (clock.by,) = arguments
                    self._there.send(None)
                else:
                    self._there.send(getattr(manager, method)(*arguments))


# Programs


def say(*what: object) -> None:
    """Says it in one line."""
    sys.stdout.write(" ".join(map(str, what)) + "\n")


# Programs that end after their first token


def ends() -> None:
    tokens = TokenRegistry.from_env()
    say(tokens.get_access_token(SCOPE))


def exits() -> None:
    with TokenRegistry.from_env() as tokens:
        say(tokens.get_access_token(SCOPE))
        sys.exit()


def waits() -> None:
    tokens = TokenRegistry.from_env()
    say(tokens.get_access_token(SCOPE, timeout=30))


def awaits() -> None:
    async def work() -> None:
        asyncio.get_running_loop().slow_callback_duration = 60.0  # nobody is judged by speed
        say(await TokenRegistry.from_env().aget_access_token(SCOPE))

    asyncio.run(work())


# Programs that end while another worker has the lease


def waiting() -> tuple[TokenRegistry, Watched, threading.Event]:
    """A registry, its store, and whether it waits for a lease."""
    waits = threading.Event()

    def after(operation: str, result: object) -> None:
        if operation == "lease" and result is False:
            waits.set()

    store = Watched(os.environ["TOKENMGR_STORE"], after=after)
    return TokenRegistry.from_env(store=store), store, waits


def closes() -> None:
    tokens, store, waits = waiting()
    refusals: list[str] = []

    def refused(call: Callable[[], object]) -> None:
        try:
            call()
        except ConfigurationError as exc:
            refusals.append(str(exc))

    calls: list[Callable[[], object]] = [
        lambda: tokens.get_access_token(SCOPE),
        lambda: tokens.get_access_token(SCOPE, timeout=600),
        lambda: asyncio.run(tokens.aget_access_token(SCOPE)),
    ]
    threads = [threading.Thread(target=refused, args=(call,)) for call in calls]
    for each in threads:
        each.start()
    waits.wait()
    while tokens.status()[0].waits < len(threads):
        threads[0].join(0.005)
    tokens.close()
    for each in threads:
        each.join()
    store.close()
    say(len(refusals), *set(refusals))


def leaves() -> None:
    tokens, _, waits = waiting()
    tokens.manager(SCOPE).prefetch()
    waits.wait()
    say("left")


if __name__ == "__main__":
    programs = (ends, exits, waits, awaits, closes, leaves)
    {program.__name__: program for program in programs}[sys.argv[1]]()
