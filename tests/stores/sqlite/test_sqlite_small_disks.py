"""SQLite stores on disks of a megabyte or two, which fill up."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlite_files import beside, checked, said_by, works
from support import FakeClock

from tokenmgr import StoreError
from tokenmgr.stores import SqliteStore

#: What a sealed record takes, and more.
RECORD = 4000


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts disks in memory, of so many bytes; gives their directories."""
    with contextlib.ExitStack() as stack:

        def mount(size: str) -> Path:
            folder = tmp_path / size
            folder.mkdir()
            mounting = ("mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "tmpfs")
            done = subprocess.run([*mounting, str(folder)], capture_output=True, check=False)
            if done.returncode:
                said = f"only root may mount a small disk: {done.stderr.decode()}"
                (pytest.fail if "CI" in os.environ else pytest.skip)(said)
            stack.callback(subprocess.run, ["umount", "--lazy", str(folder)], check=True)
            return folder

        yield mount


@pytest.mark.parametrize("size", ["1m", "2m"])
def test_it_works_on_for_as_long_as_one_likes(disk, size: str):
    path = disk(size) / "tokens.db"
    stores = [SqliteStore(path), SqliteStore(path)]
    for number in range(2000):
        stores[number % 2].put(f"key-{number % 50}", os.urandom(RECORD), 60.0)
        assert stores[1 - number % 2].get(f"key-{number % 50}")
    for store in stores:
        works(store)
    # The log is emptied long before it fills the disk.
    assert beside(path, "-wal").stat().st_size < 400_000
    for store in stores:
        store.close()
    checked(path)


def test_more_than_it_holds_is_put_and_the_file_is_made_anew(disk, caplog):
    path = disk("1m") / "tokens.db"
    stores = [SqliteStore(path), SqliteStore(path)]
    puts = sum(
        put(stores[number % 2], f"key-{number}") and bool(stores[1 - number % 2].get("key-0") or 1)
        for number in range(1000)
    )
    # Until the other one notices it has the old file open, which fills the disk.
    assert puts > 900
    for store in stores:
        works(store)
        store.close()
    assert set(caplog.messages) == {f"{path} had no room on its disk: it is made anew"}
    checked(path)


def put(store: SqliteStore, key: str) -> bool:
    """Whether there is room."""
    with contextlib.suppress(StoreError):
        store.put(key, os.urandom(RECORD), 60.0)
        return True
    return False


def test_what_has_ended_makes_room_for_what_comes(path: Path, clock: FakeClock):
    store = SqliteStore(path, clock=clock)
    works(store)
    store._database._connection.execute("PRAGMA max_page_count = 50").fetchall()
    numbers = iter(range(1000))
    while put(store, f"key-{next(numbers)}"):
        assert next(numbers) < 100
    clock.advance(61.0)
    assert put(store, f"key-{next(numbers)}")
    works(store)
    store.close()


def test_a_disk_that_another_program_fills_is_named_and_used_again_when_it_has_room(disk):
    folder = disk("1m")
    path, filling = folder / "tokens.db", folder / "log"
    store = SqliteStore(path)
    works(store)
    with filling.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    assert "free space on its disk" in said_by(
        lambda: store.put("key", os.urandom(100 * RECORD), 60.0)
    )
    filling.unlink()
    works(store)
    store.close()
    checked(path)
