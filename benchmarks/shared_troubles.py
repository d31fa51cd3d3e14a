"""Stores in trouble, for real: servers that are killed or hang, files that are locked."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import NoReturn

from tokenmgr.stores import SqliteStore, TokenStore

from .redis_server import RedisServer, running_server

__all__ = ["TROUBLES"]

#: The user that has no rights, on every Unix.
_NOBODY = 65534


class _Raising:
    """A store of somebody's own, with a bug."""

    def _raise(self, *_: object) -> NoReturn:
        raise KeyError("a bug")

    get = put = lease = delete = close = _raise


@contextlib.contextmanager
def _redis(trouble: Callable[[RedisServer], object], _: Path) -> Iterator[str]:
    with running_server() as server:
        trouble(server)
        yield server.url


@contextlib.contextmanager
def _raising(_: Path) -> Iterator[TokenStore]:
    yield _Raising()


_LOCK = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[str]:
    file = _sqlite_file(folder)
    command = [sys.executable, "-c", _LOCK, str(file)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe) as holder:  # noqa: S603 - our own
        assert holder.stdout is not None  # noqa: S101 - it is a pipe
        holder.stdout.readline()
        yield f"sqlite:///{file}"


@contextlib.contextmanager
def _read_only(folder: Path) -> Iterator[str]:
    file = _sqlite_file(folder)
    for path in (file, *folder.iterdir()):
        path.chmod(0o400)
    folder.chmod(0o500)
    root = os.geteuid() == 0
    if root:  # to whom no file is read-only
        for path in (folder, *folder.iterdir()):
            os.chown(path, _NOBODY, -1)
        os.setresuid(_NOBODY, _NOBODY, 0)
    try:
        yield f"sqlite:///{file}"
    finally:
        if root:
            os.setresuid(0, 0, 0)
        folder.chmod(0o700)


def _sqlite_file(folder: Path) -> Path:
    store = SqliteStore(folder / "tokens.db")
    store.put("key", b"value", 1.0)
    store.close()
    return store.path


#: How to make each trouble, in a folder of its own.
TROUBLES: dict[str, Callable[[Path], AbstractContextManager[str | TokenStore]]] = {
    "Redis is down": partial(_redis, RedisServer.kill),
    "Redis hangs": partial(_redis, RedisServer.hang),
    "Redis is out of memory": partial(_redis, RedisServer.refuse_writes),
    "a store that raises": _raising,
    "SQLite's file is locked": _locked,
    "SQLite's file is read-only": _read_only,
}
