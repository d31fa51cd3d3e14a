"""What other users may do beside a SQLite file, what is left in it, and what lies in it."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import sqlite3
from pathlib import Path

import pytest
from programs import run
from sqlite_files import beside, fill, mode, works
from support import FakeClock

from tokenmgr import StoreError
from tokenmgr.stores import SqliteStore
from tokenmgr.stores.base import MOST_BYTES

# Other users


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm", "-journal", "-lock"])
def test_a_hard_link_to_a_victims_file_is_refused_and_the_victim_left(path: Path, suffix: str):
    store = SqliteStore(path)
    works(store)
    store.close()
    victim = path.parent / "victim"
    victim.write_bytes(b"the victim's")
    victim.chmod(0o644)
    beside(path, suffix).unlink(missing_ok=True)
    os.link(victim, beside(path, suffix))
    for _ in range(2):
        with pytest.raises(StoreError, match=r"known under 2 names \(hard links\).*delete it"):
            store.get("key")
    assert mode(victim) == 0o644
    assert victim.read_bytes() == b"the victim's"
    beside(path, suffix).unlink()
    works(store)
    store.close()


WARNING = "other users may write to {}, and take the store's files away or put older ones in "
TOLD = {
    "everybody's": (0o777, 0, True),
    "everybody's, who leave each other's files alone": (0o1777, 0, False),
    "another group's": (0o770, 54321, True),
    "its own group's": (0o770, os.getegid(), False),
    "its own": (0o755, 54321, False),
}


@pytest.mark.parametrize(("bits", "group", "told"), TOLD.values(), ids=TOLD.keys())
def test_a_directory_that_others_may_write_to_is_told_once(
    path: Path, caplog: pytest.LogCaptureFixture, bits: int, group: int, told: bool
):
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    os.chown(path.parent, -1, group)
    path.parent.chmod(bits)
    store = SqliteStore(path)
    with caplog.at_level(logging.WARNING, "tokenmgr"):
        for _ in range(3):
            works(store)
            store.close()
    assert [record.message[: len(WARNING.format(path.parent))] for record in caplog.records] == (
        [WARNING.format(path.parent)] if told else []
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_directory_of_another_user_is_told(path: Path, caplog: pytest.LogCaptureFixture):
    os.chown(path.parent, 12345, -1)
    with contextlib.closing(SqliteStore(path)) as store:
        works(store)
    assert len(caplog.records) == 1


# What is left


def is_left(value: bytes, path: Path) -> list[str]:
    """The files in which any part of it is."""
    parts = [value[at : at + 16] for at in range(0, len(value) - 16, 16)]
    found = {file.name: file.read_bytes() for file in path.parent.iterdir()}
    return [name for name, content in found.items() if any(part in content for part in parts)]


def test_what_is_deleted_is_in_no_page_and_in_no_log(
    store: SqliteStore, other: SqliteStore, path: Path
):
    fill(store)
    works(other)
    for size in (1_000, 3_000, 20_000):
        value = secrets.token_bytes(size)
        store.put("key", value, 60.0)
        assert other.get("key") == value
        assert is_left(value, path)
        assert store.delete("key", value)
        assert is_left(value, path) == []


def test_what_a_reader_keeps_in_the_log_goes_with_the_next_write(store: SqliteStore, path: Path):
    value = secrets.token_bytes(3_000)
    store.put("key", value, 60.0)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM records").fetchone() == (1,)
        assert store.delete("key", value)
        assert is_left(value, path) == ["tokens.db-wal"]
    store.put("another", b"value", 60.0)
    assert is_left(value, path) == []


def test_what_was_put_over_is_in_no_page(store: SqliteStore, other: SqliteStore, path: Path):
    fill(store)
    earlier, later = secrets.token_bytes(3_000), secrets.token_bytes(3_000)
    store.put("key", earlier, 60.0)
    other.put("key", later, 60.0)
    other.delete("key", later)
    assert is_left(earlier, path) == is_left(later, path) == []


def test_what_has_ended_and_was_swept_is_in_no_page(path: Path, clock: FakeClock):
    with contextlib.closing(SqliteStore(path, clock=clock)) as store:
        value = secrets.token_bytes(3_000)
        store.put("key", value, 60.0)
    assert is_left(value, path)
    clock.advance(61.0)
    with contextlib.closing(SqliteStore(path, clock=clock)) as store:
        store.put("another", b"value", 60.0)
    assert is_left(value, path) == []


# What is too large

_USE = """
import resource, sys
from tokenmgr.stores import SqliteStore

def most():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

store = SqliteStore(sys.argv[1])
store.put("else", b"value", 60.0)
before = most()
for key in ("blob", "text"):
    value = store.get(key)
    print(value and len(value), store.lease(key, b"owner", 1.0), store.delete(key, b"value" * 20))
print((most() - before) // 1024)
store.put("blob", b"value", 60.0)
print(store.get("blob"))
store.close()
"""


def test_what_is_too_large_is_not_read(store: SqliteStore, path: Path):
    for key in ("blob", "text"):
        store.put(key, b"value", 60.0)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE records SET value = zeroblob(50000000) WHERE key = 'blob'")
        connection.execute(
            "UPDATE records SET value = CAST(zeroblob(50000000) AS TEXT) WHERE key = 'text'"
        )
    store.close()
    said = run("-c", _USE, str(path))
    lines = said.stdout.splitlines()
    assert lines[:2] == [f"{MOST_BYTES + 1} False False", "None False False"], said.stderr
    assert int(lines[2]) < 20, "MiB more than before"
    assert lines[3] == "b'value'"


def test_the_largest_that_may_be_is_read(store: SqliteStore):
    value = secrets.token_bytes(MOST_BYTES)
    store.put("key", value, 60.0)
    assert store.get("key") == value
    assert store.delete("key", value)
