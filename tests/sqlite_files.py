"""What tests of SQLite files have in common."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tokenmgr import StoreError
from tokenmgr.stores import SqliteStore


def beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def open_files(path: Path) -> int:
    """How often this process has it open."""
    links = Path("/proc/self/fd")
    if not links.exists():
        pytest.skip("this system does not tell which files are open")
    return sum(os.path.realpath(link) == str(path) for link in links.iterdir())


def checked(path: Path) -> None:
    """The file is a good one, in SQLite's own judgement."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def works(store: SqliteStore) -> None:
    """All its operations do, whoever else tries the same meanwhile."""
    key = f"works:{os.getpid()}:{threading.get_ident()}"
    store.put(key, b"value", 30.0)
    assert store.get(key) == b"value"
    assert store.delete(key, b"value")
    assert store.lease(key, b"owner", 30.0)
    assert not store.lease(key, b"another", 30.0)
    assert store.delete(key, b"owner")


def said_by(call: Callable[[], object]) -> str:
    """What it says that it cannot do it for."""
    with pytest.raises(StoreError) as caught:
        call()
    return str(caught.value)


def fill(store: SqliteStore) -> None:
    for number in range(200):
        store.put(f"key-{number}", b"%d" % number * 500, 60.0)


def overwritten(path: Path, data: bytes) -> None:
    """The same file, with something else in it."""
    with path.open("r+b") as file:
        file.truncate()
        file.write(data)


def flipped(data: bytes, byte: int, bit: int) -> bytes:
    return data[:byte] + bytes([data[byte] ^ 1 << bit]) + data[byte + 1 :]
