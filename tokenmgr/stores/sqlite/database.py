"""A SQLite database, as a process with threads and forks uses it, among others that do."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TypeVar

from ..._runtime.clock import Clock
from ..._runtime.forks import renew_in_child
from ...errors import StoreError
from .connection import (
    EMPTY_LOG,
    TAKE_ENDED_AWAY,
    Outcome,
    execute,
    explained,
    is_full,
    is_locked,
    is_stuck,
    opened,
    prepare,
    verify,
)
from .file import DatabaseFile, Identity, pause

__all__ = ["Database", "Outcome"]

#: Seconds that one operation may take, with all its waiting for other threads and processes.
_PATIENCE = 0.5
#: Seconds that a fork waits for an operation to end. Above what any takes on a disk that answers.
_LONGEST_USE = 5.0

#: SQLITE_IOERR_SHORT_READ (https://sqlite.org/rescode.html): less is there than there should be.
_SHORT_READ = 522

T = TypeVar("T")


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
        #: Whether it is to be opened anew: what was begun with it did not come to its end.
        self._failed = True
        #: What the last statement found: that it is to be put aside; that its disk is so full that
        #: nothing can even be taken away.
        self._damaged = self._stuck = False
        renew_in_child(self._start_anew, before=self._put_away)

    def _start_anew(self) -> None:
        """Forgets what could not be closed before the fork; it is never finalized either."""
        if self._in_use:
            Database._inherited = True
        self._connection = None
        #: Guards the fields above, and the connection's use. Waits for it have an end: a disk that
        #: hangs stops one thread, and the others get an error. It knows who has it, and so does the
        #: door: who is interrupted as he takes them gives back what is his.
        self._lock = threading.RLock()
        #: Held while one waits for the lock. Who has just had it finds this one taken, and cannot
        #: take the lock again before those that wait.
        self._door = threading.RLock()
        #: The thread that is in the middle of an operation; 0 when none is.
        self._inside = 0

    def _put_away(self) -> Callable[[], None]:
        """Closes the file, and keeps it closed until the fork is done.

        A connection must not be carried over a fork, not even to be closed there
        (https://sqlite.org/howtocorrupt.html, section 2.6).
        """
        deadline = time.monotonic() + _LONGEST_USE
        try:
            if self._inside == threading.get_ident() or not self._take(deadline):
                return _nothing
            self._close(deadline)
        except (StoreError, OSError):
            pass
        except BaseException:
            self._leave()
            raise
        return self._leave

    def run(self, sql: str, parameters: Mapping[str, object]) -> Outcome:
        """Runs one statement, which is a transaction of its own.

        Raises:
            StoreError: It cannot be run; the message says what to do.
        """
        deadline = time.monotonic() + _PATIENCE
        try:
            return self._alone(partial(self._run, sql, parameters, deadline), deadline)
        except sqlite3.Error as exc:
            raise explained(exc, self._file.path) from None
        except OSError as exc:
            raise StoreError(
                f"{exc.filename or self._file.path} cannot be used ({exc.strerror}): check that "
                "this user may write it and its directory, and that its disk is a local one with "
                "room left"
            ) from None

    def empty_log(self) -> bool:
        """Empties the log, in which there is all that was written of late; says whether it did.

        It cannot while another worker is in the middle of a statement for too long.

        Raises:
            StoreError: The file cannot be used.
        """
        deadline = time.monotonic() + _PATIENCE
        while self.run(EMPTY_LOG, {}).rows[0][0]:
            if not pause(deadline):
                return False
        return True

    def close(self) -> None:
        """Closes the file, unless another thread or process is in the way for too long."""
        deadline = time.monotonic() + _PATIENCE
        with contextlib.suppress(StoreError, OSError):
            self._alone(partial(self._close, deadline), deadline)

    def _alone(self, work: Callable[[], T], deadline: float) -> T:
        """Does ``work`` with the lock.

        Raises:
            StoreError: It is not to be had. It never is where a signal's handler, or the end of an
                object, comes back in the middle of what this thread does with it.
        """
        me, left = threading.get_ident(), False
        if self._inside == me:
            raise self._too_long()
        try:
            try:
                if not self._take(deadline):
                    raise self._too_long()
                self._inside = me
                return work()
            finally:
                self._leave()
                left = True
        finally:
            if not left:  # an interruption has hit the leaving itself
                self._leave()

    def _take(self, deadline: float) -> bool:
        """Takes the lock; says whether it was to be had. Whoever calls it calls :meth:`_leave`."""
        try:
            return self._door.acquire(timeout=max(0.0, deadline - time.monotonic())) and (
                self._lock.acquire(timeout=max(0.0, deadline - time.monotonic()))
            )
        finally:
            _try_to(self._door.release)

    def _leave(self) -> None:
        """Gives back what this thread has taken, wherever it was interrupted."""
        if self._inside == threading.get_ident():
            self._file.unlock()
            self._inside = 0
        _try_to(self._door.release)
        _try_to(self._lock.release)

    def _too_long(self) -> StoreError:
        return StoreError(
            f"{self._file.path} takes too long to answer: check its disk, and what else locks "
            "the file",
            retryable=True,
        )

    # With the lock held:

    def _run(self, sql: str, parameters: Mapping[str, object], deadline: float) -> Outcome:
        try:
            return self._attempt(sql, parameters, deadline)
        except sqlite3.Error:
            if not (self._damaged or self._stuck):
                raise
        return self._attempt(sql, parameters, deadline)

    def _attempt(self, sql: str, parameters: Mapping[str, object], deadline: float) -> Outcome:
        connection = self._connected(deadline)
        self._failed = True
        try:
            outcome = execute(connection, sql, parameters, deadline)
        except sqlite3.Error as exc:
            if not is_full(exc):
                self._failed = not is_locked(exc)
                self._damaged = self._shows_damage(exc)
                raise
            outcome = self._attempt_with_room(connection, sql, parameters, deadline)
        self._failed = False
        return outcome

    def _attempt_with_room(
        self,
        connection: sqlite3.Connection,
        sql: str,
        parameters: Mapping[str, object],
        deadline: float,
    ) -> Outcome:
        """Makes room on a disk that is full, and runs the statement once more."""
        # A log that does not fit into the file, which would have to grow, is there for good.
        self._stuck = is_stuck(connection, deadline)
        self._failed = self._stuck  # else it could not even be opened anew
        with contextlib.suppress(sqlite3.Error):
            execute(connection, TAKE_ENDED_AWAY, {}, deadline)
        is_stuck(connection, deadline)
        outcome = execute(connection, sql, parameters, deadline)
        self._stuck = False
        return outcome

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
        same = self._file.identity() == self._identity
        damaged, stuck = self._damaged and same, self._stuck and same
        self._disconnect()
        if damaged:
            self._file.put_aside()
        elif stuck:
            self._file.throw_away()
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
            connection = self._connection = opened(self._file.path)
            prepare(connection, self._clock)
            verify(connection, self._file.path, deadline)
            self._file.accept(identity)
        except BaseException:
            self._disconnect()
            raise
        self._identity = identity
        self._failed = False
        return connection

    def _disconnect(self) -> None:
        self._failed = True
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
        self._connection = None
        self._in_use = self._damaged = self._stuck = False

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


def _try_to(release: Callable[[], None]) -> None:
    """Releases a lock, if it is this thread's."""
    with contextlib.suppress(RuntimeError):
        release()
