"""A SQLite database, as a process with threads and forks uses it, among others that do."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..._runtime.clock import Clock
from ..._runtime.forks import make_new_in_child
from ...errors import StoreError
from .file import DatabaseFile, Identity, pause

__all__ = ["Database", "Outcome"]

#: Seconds that one operation may take, with all its waiting for other threads and processes.
_PATIENCE = 0.5
#: Seconds that a fork waits for an operation to end. Above what any takes on a disk that answers.
_LONGEST_USE = 5.0

#: SQLITE_IOERR_SHORT_READ (https://sqlite.org/rescode.html): less is there than there should be.
_SHORT_READ = 522

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
)


class Outcome(NamedTuple):
    """What came of a statement."""

    rows: list[tuple[Any, ...]]
    #: How many rows it changed.
    changed: int


class Database:
    """One connection to the file, shared by the threads of this process.

    It is opened at the first statement, and again whenever the file at its path is not the one
    that is open any more, so that workers never split into two files. A damaged file is put aside.

    Args:
        path: The file's path, absolute.
        clock: The time, which statements ask for as ``now()``.
    """

    #: Whether SQLite had a file open when this process was forked. SQLite then takes its parent's
    #: locks for its own, and its mutexes may be locked for ever: nothing of it is safe to use.
    _inherited = False

    def __init__(self, path: Path, clock: Clock) -> None:
        self._file = DatabaseFile(path)
        self._clock = clock
        self._connection: sqlite3.Connection | None = None
        #: The file that is open.
        self._identity: Identity | None = None
        #: Whether SQLite may have the file open.
        self._in_use = False
        #: What the last statement found: to be opened anew; to be put aside.
        self._failed = self._damaged = False
        make_new_in_child(self)
        self._make_locks()

    def _make_locks(self) -> None:
        #: Guards the fields above, and the connection's use. Waits for it have an end: a disk that
        #: hangs stops one thread, and the others get an error.
        self._lock = threading.Lock()
        #: Held while one waits for the lock. Who has just had it finds this one taken, and cannot
        #: take the lock again before those that wait.
        self._door = threading.Lock()

    def before_fork(self) -> Callable[[], None]:
        """Closes the file, and keeps it closed until the fork is done.

        A connection must not be carried over a fork, not even to be closed there
        (https://sqlite.org/howtocorrupt.html, section 2.6).
        """
        deadline = time.monotonic() + _LONGEST_USE
        lock = self._taken(deadline)
        if lock is None:
            return _nothing
        try:
            self._close(deadline)
        except (StoreError, OSError):
            return lock.release
        except BaseException:
            lock.release()
            raise
        return lock.release

    def after_fork(self) -> None:
        """Forgets what could not be closed before the fork; it is never finalized either."""
        if self._in_use:
            Database._inherited = True
        self._connection = None
        self._make_locks()

    def run(self, sql: str, parameters: Mapping[str, object]) -> Outcome:
        """Runs one statement, which is a transaction of its own.

        Raises:
            StoreError: It cannot be run; the message says what to do.
        """
        deadline = time.monotonic() + _PATIENCE
        lock = self._taken(deadline)
        if lock is None:
            raise StoreError(
                f"{self._file.path} takes too long to answer: check its disk, and what else locks "
                "the file",
                retryable=True,
            )
        try:
            return self._run(sql, parameters, deadline)
        except sqlite3.Error as exc:
            raise _explained(exc, self._file.path) from None
        except OSError as exc:
            raise StoreError(
                f"{exc.filename or self._file.path} cannot be used ({exc.strerror}): check that "
                "this user may write it and its directory, and that its disk is a local one with "
                "room left"
            ) from None
        finally:
            lock.release()

    def close(self) -> None:
        """Closes the file, unless another thread or process is in the way for too long."""
        deadline = time.monotonic() + _PATIENCE
        lock = self._taken(deadline)
        if lock is not None:
            try:
                with contextlib.suppress(StoreError, OSError):
                    self._close(deadline)
            finally:
                lock.release()

    def _taken(self, deadline: float) -> threading.Lock | None:
        """Takes the lock, and gives it; None if it is not to be had."""
        door, lock = self._door, self._lock
        if not door.acquire(timeout=max(0.0, deadline - time.monotonic())):
            return None
        try:
            return lock if lock.acquire(timeout=max(0.0, deadline - time.monotonic())) else None
        finally:
            door.release()

    # With the lock held:

    def _run(self, sql: str, parameters: Mapping[str, object], deadline: float) -> Outcome:
        try:
            return self._attempt(sql, parameters, deadline)
        except sqlite3.Error:
            if not self._damaged:
                raise
        return self._attempt(sql, parameters, deadline)

    def _attempt(self, sql: str, parameters: Mapping[str, object], deadline: float) -> Outcome:
        connection = self._connected(deadline)
        try:
            return _execute(connection, sql, parameters, deadline)
        except sqlite3.Error as exc:
            self._failed = not (_is_locked(exc) or _is_full(exc))  # nor then could it be reopened
            self._damaged = self._shows_damage(exc)
            raise

    def _connected(self, deadline: float) -> sqlite3.Connection:
        connection = self._connection
        if connection is None or self._failed or self._file.identity() != self._identity:
            with self._file.locked(deadline):
                connection = self._renew(deadline)
        return connection

    def _close(self, deadline: float) -> None:
        if self._connection is None:
            return
        if self._file.identity() == self._identity:
            with self._file.locked(deadline):
                self._disconnect()
        else:  # SQLite touches nothing by name any more
            self._disconnect()

    # With the file's lock held too:

    def _renew(self, deadline: float) -> sqlite3.Connection:
        # Asked before the old file is closed: until then no new one has the same inode.
        damaged = self._damaged and self._file.identity() == self._identity
        self._disconnect()
        if damaged:
            self._file.put_aside()
        try:
            return self._connect(deadline)
        except sqlite3.Error as exc:
            if not self._shows_damage(exc):
                raise
        self._file.put_aside()
        return self._connect(deadline)

    def _connect(self, deadline: float) -> sqlite3.Connection:
        if Database._inherited:
            raise StoreError(
                f"this process was forked while {self._file.path} was in use, and cannot use it "
                "safely: close the registry before the fork, or make it after (uWSGI: "
                "lazy-apps = true)"
            )
        if sqlite3.sqlite_version_info < (3, 24):
            raise StoreError("SQLite 3.24 or newer is needed: use a Python with a newer one")
        # Asked before it is opened: if it is replaced meanwhile, the next statement notices.
        identity = self._file.prepare()
        self._in_use = True
        try:
            connection = self._connection = _opened(self._file.path, self._clock)
            _verify(connection, self._file.path, deadline)
            self._file.accept(identity)
        except BaseException:
            self._disconnect()
            raise
        self._identity = identity
        return connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()
        self._in_use = self._failed = self._damaged = False

    def _shows_damage(self, exc: sqlite3.Error) -> bool:
        # SQLITE_CORRUPT and SQLITE_NOTADB are those that have no class of their own. Python 3.10
        # has no error codes, and makes nothing anew where somebody has removed -wal alone.
        if type(exc) is sqlite3.DatabaseError or "unsupported file format" in str(exc):
            return True
        if getattr(exc, "sqlite_errorcode", None) == _SHORT_READ:
            return True
        # Two bytes of the header tell SQLite whether it may write.
        return "readonly" in str(exc) and self._file.is_writable()


def _nothing() -> None:
    """What there is to do after a fork that did not wait."""


def _opened(path: Path, clock: Clock) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
    # It keeps itself alive until it is closed, where no garbage collector sees it: a child of a
    # fork that has it all the same must never finalize it, not even when it exits.
    connection.create_function("itself", 0, lambda: connection is not None)
    # Asked for by the statement when it has its lock: before its wait it would be another time.
    # Processes of one host have the wall clock in common, also after the host was started anew.
    connection.create_function("now", 0, clock.wall)
    connection.text_factory = bytes  # damaged text is not always UTF-8
    return connection


def _execute(
    connection: sqlite3.Connection, sql: str, parameters: Mapping[str, object], deadline: float
) -> Outcome:
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
        if not _is_locked(exc):
            raise
        return exc
    except UnicodeDecodeError:  # of the text of SQLite's error, which repeats what is damaged
        raise sqlite3.DatabaseError("database disk image is malformed") from None


def _verify(connection: sqlite3.Connection, path: Path, deadline: float) -> None:
    """Makes the schema in an empty database, and refuses one that is not tokenmgr's.

    Raises:
        StoreError: It is somebody else's.
        sqlite3.DatabaseError: It is tokenmgr's, and damaged.
    """

    def ask(sql: str) -> Any:
        rows = _execute(connection, sql, {}, deadline).rows
        return rows[0][0] if rows else None

    application, version = ask("PRAGMA application_id"), ask("PRAGMA user_version")
    rows = _execute(
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


def _is_locked(exc: sqlite3.Error) -> bool:
    return isinstance(exc, sqlite3.OperationalError) and "lock" in str(exc)


def _is_full(exc: sqlite3.Error) -> bool:
    return "full" in str(exc)


def _explained(exc: sqlite3.Error, path: Path) -> StoreError:
    said = str(exc)
    if _is_locked(exc):
        return StoreError(
            f"{path} is locked by another process ({said}): see which one holds it, such as a "
            "backup or an open sqlite3 shell, and end it",
            retryable=True,
        )
    if _is_full(exc) or "I/O" in said:
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
