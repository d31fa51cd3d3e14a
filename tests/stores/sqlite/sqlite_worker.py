"""Workers that share a SQLite store, each a program of its own.

``hammer PATH SECONDS THREADS PATIENCE``: says that it is ready, and once its input has ended does
    all operations at once; says what came of it.
``inherit PATH``: forks while its store is in use; parent and child then end as programs do.
``use PATH``: uses a store, and ends without a word.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import secrets
import sqlite3
import sys
import threading
import time
import traceback
from collections import Counter
from pathlib import Path

from forking import held

from tokenmgr import StoreError
from tokenmgr.stores import SqliteStore
from tokenmgr.stores.sqlite import database as room

_KEYS = 20


class Hammer:
    """Does at random what workers do, and counts."""

    def __init__(self, path: str) -> None:
        self._store = SqliteStore(path)
        self._holder = Path(f"{path}.holder")
        self.counts: Counter[str] = Counter()
        self.errors: list[str] = []

    def run(self, seconds: float) -> None:
        give_up_at = time.monotonic() + seconds
        steps = (self._put, self._put, self._get, self._get, self._lease, self._open_anew)
        weights = (20, 20, 30, 30, 20, 1)
        while time.monotonic() < give_up_at:
            (step,) = random.choices(steps, weights)
            try:
                step(f"key-{random.randrange(_KEYS)}")
            except Exception:  # noqa: BLE001 - whatever it is, it is an error
                self.errors.append(traceback.format_exc())
            self.counts[step.__name__.strip("_")] += 1

    def _put(self, key: str) -> None:
        self._store.put(key, key.encode() + secrets.token_bytes(random.randrange(4000)), 5.0)

    def _get(self, key: str) -> None:
        value = self._store.get(key)
        assert value is None or value.startswith(key.encode())

    def _lease(self, key: str) -> None:
        owner = secrets.token_bytes(16)
        if not self._store.lease("the:lease", owner, 60.0):
            return
        self.counts["held"] += 1
        os.close(os.open(self._holder, os.O_CREAT | os.O_EXCL))  # there already is a holder
        self._holder.unlink()
        assert self._store.delete("the:lease", owner)

    def _open_anew(self, key: str) -> None:
        self._store.close()


def hammer(path: str, seconds: str, threads: str, patience: str) -> None:
    """Hammers with so many threads, which all use one store, and wait for others so long."""
    room._PATIENCE = float(patience)
    one = Hammer(path)
    workers = [
        threading.Thread(target=one.run, args=(float(seconds),)) for _ in range(int(threads))
    ]
    say("ready")
    sys.stdin.read()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    say({"errors": one.errors[:5], "counts": one.counts})


class Watched(sqlite3.Connection):
    """A connection that tells when it is finalized."""

    def __del__(self) -> None:
        os.write(1, b"finalized\n")


def inherit(path: str) -> None:
    """Forks in the middle of a use that does not end."""
    room._LONGEST_USE = 0.05
    connect = sqlite3.connect
    sqlite3.connect = lambda *args, **kwargs: connect(*args, factory=Watched, **kwargs)
    store = SqliteStore(path)
    store.put("key", b"value", 60.0)
    with held(store._database._lock):
        child = os.fork()
        if not child:
            try:
                store.get("key")
            except StoreError as exc:
                say(str(exc))
            store.close()
            sys.exit()
    os.waitpid(child, 0)
    say((store.get("key") or b"").decode())


def use(path: str) -> None:
    """Uses a store, and ends."""
    SqliteStore(path).put("kept", b"value", 60.0)
    store = SqliteStore(path)
    store.put("key", b"value", 60.0)
    globals()["never closed"] = store


def say(what: object) -> None:
    """Says it in one line, at once."""
    with contextlib.suppress(BrokenPipeError):
        os.write(1, json.dumps(what).encode() + b"\n")


if __name__ == "__main__":
    {"hammer": hammer, "inherit": inherit, "use": use}[sys.argv[1]](*sys.argv[2:])
