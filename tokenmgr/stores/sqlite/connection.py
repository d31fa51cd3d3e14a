"""One connection to a SQLite database: how it is opened, made ready, and asked."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..._runtime.clock import Clock
from ...errors import StoreError
from .file import pause

__all__ = [
    "EMPTY_LOG",
    "TAKE_ENDED_AWAY",
    "Outcome",
    "execute",
    "explained",
    "is_full",
    "is_locked",
    "is_stuck",
    "opened",
    "prepare",
    "verify",
]

#: "tkmg": says whose the file is (https://sqlite.org/fileformat2.html, section 1.3.13).
_APPLICATION = 0x746B6D67
#: The version of the schema below.
_VERSION = 1
_TABLE = (
    "CREATE TABLE records (id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, value BLOB NOT NULL, "
    "begun REAL NOT NULL, ends REAL NOT NULL)"
)
#: A new file is opened under a lock that others wait for. It need not outlive a power cut in the
#: middle of its making, and so nothing waits for the disk.
_MAKE_IN_HASTE = "PRAGMA synchronous = OFF"
_MAKE_SCHEMA = (
    "BEGIN IMMEDIATE",
    _TABLE,
    f"PRAGMA application_id = {_APPLICATION}",
    f"PRAGMA user_version = {_VERSION}",
    "COMMIT",
)
_SETTINGS = (
    # A power cut may cost the last records, and never the file.
    "PRAGMA synchronous = NORMAL",
    # Reading a mapped file that somebody cuts short kills the process.
    "PRAGMA mmap_size = 0",
    # Finds more of what is damaged, and sooner.
    "PRAGMA cell_size_check = ON",
    # What is taken away is overwritten.
    "PRAGMA secure_delete = ON",
    # A log of 256 KiB, in pages and in bytes: SQLite's own measure is more than small volumes have.
    "PRAGMA wal_autocheckpoint = 64",
    "PRAGMA journal_size_limit = 262144",
)
EMPTY_LOG = "PRAGMA wal_checkpoint(TRUNCATE)"
#: It goes through the log too, and so needs a bit of room itself.
TAKE_ENDED_AWAY = "DELETE FROM records WHERE ends <= now()"


class Outcome(NamedTuple):
    """What came of a statement."""

    rows: list[tuple[Any, ...]]
    #: How many rows it changed.
    changed: int


def opened(path: Path) -> sqlite3.Connection:
    """Opens the file; whoever has the connection makes it ready."""
    return sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)


def prepare(connection: sqlite3.Connection, clock: Clock) -> None:
    """Gives it what statements ask for, and what it has to keep."""
    # It keeps itself alive until it is closed, where no garbage collector sees it: a child of a
    # fork that has it all the same must never finalize it, not even when it exits.
    connection.create_function("itself", 0, lambda: connection is not None)
    # Asked for by the statement when it has its lock: before its wait it would be another time.
    # Processes of one host have the wall clock in common, also after the host was started anew.
    connection.create_function("now", 0, clock.wall)
    connection.text_factory = bytes  # damaged text is not always UTF-8


def is_stuck(connection: sqlite3.Connection, deadline: float) -> bool:
    """Empties the log into the file; says whether there is no room for that."""
    try:
        execute(connection, EMPTY_LOG, {}, deadline)
    except sqlite3.Error as exc:
        return is_full(exc)
    return False


def execute(
    connection: sqlite3.Connection, sql: str, parameters: Mapping[str, object], deadline: float
) -> Outcome:
    """Runs a statement, and waits until the deadline for other connections that are in the way.

    Raises:
        sqlite3.Error: It failed, or they still are.
    """
    while isinstance(outcome := _try(connection, sql, parameters), sqlite3.Error):
        if not pause(deadline):
            raise outcome
    return outcome


def _try(
    connection: sqlite3.Connection, sql: str, parameters: Mapping[str, object]
) -> Outcome | sqlite3.OperationalError:
    """Runs a statement; gives the error if another connection was in the way."""
    try:
        # To its last row: what is left open would keep the file from being cleaned up.
        with contextlib.closing(connection.execute(sql, parameters)) as cursor:
            return Outcome(cursor.fetchall(), cursor.rowcount)
    except sqlite3.OperationalError as exc:
        if not is_locked(exc):
            raise
        return exc
    except UnicodeDecodeError:  # of the text of SQLite's error, which repeats what is damaged
        raise sqlite3.DatabaseError("database disk image is malformed") from None


def verify(connection: sqlite3.Connection, path: Path, deadline: float) -> None:
    """Makes the schema in an empty database, and refuses one that is not tokenmgr's.

    Raises:
        StoreError: It is somebody else's.
        sqlite3.DatabaseError: It is tokenmgr's, and damaged.
    """

    def ask(sql: str) -> Any:
        rows = execute(connection, sql, {}, deadline).rows
        return rows[0][0] if rows else None

    application, version = ask("PRAGMA application_id"), ask("PRAGMA user_version")
    rows = execute(
        connection, "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL", {}, deadline
    ).rows
    schema = {sql for (sql,) in rows}
    empty = not schema and application == version == 0
    complete = _TABLE.encode() in schema
    ours = application == _APPLICATION or complete
    if not (empty or ours):
        raise StoreError(
            f"{path} is another program's database: give tokenmgr a file of its own, such as "
            "'sqlite:////var/lib/app/tokens.db'"
        )
    if version > _VERSION:
        raise StoreError(
            f"{path} was written by a newer tokenmgr (format {version}): upgrade this one, or give "
            "it a file of its own"
        )
    if ours and not (complete and version == _VERSION):
        raise sqlite3.DatabaseError("the schema is damaged")
    if empty:
        ask(_MAKE_IN_HASTE)
    if ask("PRAGMA journal_mode = WAL") != b"wal":
        raise StoreError(f"{path} is on a disk without shared memory: give a path on a local disk")
    for statement in (*(_MAKE_SCHEMA if empty else ()), *_SETTINGS):
        ask(statement)


def is_locked(exc: sqlite3.Error) -> bool:
    """Whether another connection was in the way."""
    return isinstance(exc, sqlite3.OperationalError) and "lock" in str(exc)


def is_full(exc: sqlite3.Error) -> bool:
    """Whether there was no room."""
    return "full" in str(exc)


def explained(exc: sqlite3.Error, path: Path) -> StoreError:
    """Says what happened and what to do next."""
    said = str(exc)
    if is_locked(exc):
        return StoreError(
            f"{path} is locked by another process ({said}): see which one holds it, such as a "
            "backup or an open sqlite3 shell, and end it",
            retryable=True,
        )
    if is_full(exc) or "I/O" in said:
        return StoreError(
            f"{path} cannot be written or read ({said}): free space on its disk, and check the "
            "disk, its quota and this process's limit on the size of files"
        )
    if "readonly" in said or "unable to open" in said:
        return StoreError(
            f"{path} cannot be opened to write ({said}): check that this user may write it, the "
            "-wal and -shm beside it and their directory, and that files may still be opened"
        )
    return StoreError(
        f"{path} cannot be used ({said}): stop whoever uses it, and delete it with the -wal and "
        "-shm beside it; a new one is made"
    )
