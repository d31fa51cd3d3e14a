"""The file of a SQLite store and what lies beside it: made, checked, put aside.

Under one lock, an ``flock`` of a file beside it, processes open the database, close it, and put it
aside when it is damaged. Nothing else is done under it: records are read and written under SQLite's
own locks. It has to be so because SQLite finds what lies beside its file by name:

* Whoever closes the database as the last one removes ``-wal``. Were it put aside in the middle of
  that, the removed ``-wal`` would be the new file's. After it was put aside nothing is removed:
  SQLite looks whether the file is still where it was opened.
* A ``-wal`` that was left by one file would be played back into another that takes its name. The
  lock file says which file was last in use here (its inode). Where that is another one now, or
  none, what lies beside it is removed before anybody opens it.
* Of many that find the file damaged, the first one puts it aside. The others then see that the
  file at that path is not the one that they had open, and only open the new one.

A process that is killed in the middle leaves a file with nothing in it, or none, or a damaged one,
and the kernel gives its lock back: the next one goes on from there.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import random
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ...errors import StoreError

try:
    import fcntl
except ImportError:  # Windows, which lets nobody remove a file that is in use
    fcntl = None  # type: ignore[assignment]

__all__ = ["DatabaseFile", "Identity", "pause"]

_logger = logging.getLogger("tokenmgr")

#: SQLite's own companions of a database.
_COMPANIONS = ("-wal", "-shm", "-journal")
_NO_LINKS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_ANOTHER_FILE = "give another path, such as 'sqlite:////var/lib/app/tokens.db'"


class Identity(NamedTuple):
    """Which file it is, whatever it is called."""

    device: int
    inode: int


def pause(deadline: float) -> bool:
    """Waits a moment for what another process holds; says whether there is time left.

    Moments are random, and become shorter towards the end: so it is the turn of who has waited
    longest. SQLite's own waiting grows to a tenth of a second, and starves one of many.

    Args:
        deadline: When to give up, on ``time.monotonic()``.
    """
    left = deadline - time.monotonic()
    if left <= 0:
        return False
    time.sleep(left * random.uniform(0.001, 0.01))  # noqa: S311 - spreads attempts, guards nothing
    return True


class DatabaseFile:
    """The file at a path.

    All but :meth:`identity`, :meth:`locked` and :meth:`is_writable` are called with the lock held.

    Args:
        path: The path, absolute.
    """

    def __init__(self, path: Path) -> None:
        self.path: Path = path
        self._companions = [self._beside(suffix) for suffix in _COMPANIONS]
        self._lock_path = self._beside("-lock")
        #: Open while the lock is held; closing it twice does nothing.
        self._lock_file: io.FileIO | None = None
        #: Whether it was told who else may write to the directory.
        self._told = False

    def identity(self) -> Identity | None:
        """Tells which file is there now; None if there is none."""
        status = _status(self.path)
        return Identity(status.st_dev, status.st_ino) if status else None

    def is_writable(self) -> bool:
        """Whether this user may write all that SQLite writes."""
        paths = (self.path.parent, self.path, *self._companions)
        return all(os.access(path, os.W_OK) for path in paths if path.exists())

    @contextlib.contextmanager
    def locked(self, deadline: float) -> Iterator[None]:
        """Holds the lock, under which the database is opened, closed and put aside.

        Args:
            deadline: When to give up, on ``time.monotonic()``.

        Raises:
            StoreError: It is not to be had.
        """
        self._make_directory()
        try:
            self._take_lock(deadline)
            yield
        finally:
            self.unlock()

    def unlock(self) -> None:
        """Gives the lock back, if it is held."""
        file = self._lock_file
        if file is not None and not file.closed:
            if fcntl:  # closing is not enough where a child of a fork has the descriptor too
                fcntl.flock(file, fcntl.LOCK_UN)
            file.close()

    def prepare(self) -> Identity:
        """Makes the file if there is none, and sees that nothing beside it is another's.

        It is never opened here unless it is new: closing it would give up the locks that SQLite
        holds on it for this process (https://sqlite.org/howtocorrupt.html, section 2.2).

        Raises:
            StoreError: What is there is no file, or not this user's.
        """
        for path in (self.path, *self._companions):
            if status := _status(path):
                _check(path, status)
        self._tell_of_others()
        status = _status(self.path)
        if status and status.st_mode & stat.S_IWUSR:
            self._make_companions_writable()
        if status and not status.st_size:  # who made it did not get further
            self.path.unlink()
            status = None
        if status is None:
            self._remove_companions()
            os.close(_open_private(self.path, os.O_EXCL))
            status = self.path.lstat()
        elif self._last_used() not in (None, status.st_ino):
            self._remove_companions()
        return Identity(status.st_dev, status.st_ino)

    def accept(self, identity: Identity) -> None:
        """Notes that this file is tokenmgr's, and sees that nobody else reads it."""
        for path in (self.path, *self._companions):
            status = _status(path)
            if status and os.name == "posix" and status.st_mode & 0o077:
                _check(path, status)
                path.chmod(status.st_mode & 0o700)
        if self._last_used() != identity.inode:
            file = self._held()
            file.truncate(0)
            file.seek(0)
            file.write(b"%d" % identity.inode)
            os.fsync(file)  # a power cut damages the database, and not what tells whose

    def put_aside(self) -> None:
        """Puts the damaged file out of the way, in place of one that was put there earlier.

        Raises:
            StoreError: It may be something else of the user's: tokenmgr never had a file here.
        """
        if self._last_used() is None:
            raise StoreError(
                f"{self.path} is not a database, and was none of tokenmgr's before: delete it, or "
                f"{_ANOTHER_FILE}"
            )
        aside = self._beside("-broken")
        with contextlib.suppress(FileNotFoundError):
            self.path.replace(aside)
            _logger.warning("%s was damaged: it is %s now, and made anew", self.path, aside)

    def throw_away(self) -> None:
        """Removes a file that can take nothing any more, and only fills its disk."""
        self.path.unlink(missing_ok=True)
        _logger.warning("%s had no room on its disk: it is made anew", self.path)

    def _beside(self, suffix: str) -> Path:
        return self.path.with_name(self.path.name + suffix)

    def _make_companions_writable(self) -> None:
        """Undoes what SQLite made of them while the file itself was read-only."""
        for path in self._companions:
            status = _status(path)
            if status and not status.st_mode & stat.S_IWUSR:
                path.chmod(0o600)

    def _remove_companions(self) -> None:
        for path in self._companions:
            path.unlink(missing_ok=True)

    def _make_directory(self) -> None:
        missing = [each for each in self.path.parents if not each.exists()]
        for directory in reversed(missing):
            with contextlib.suppress(FileExistsError):  # another process was faster
                directory.mkdir(mode=0o700)
                directory.chmod(0o700)  # whatever the umask is

    def _tell_of_others(self) -> None:
        """Tells once that others may put files of theirs in the place of these, or take them away.

        It is not refused: of a volume that only one container mounts, everybody may write to it.
        """
        if self._told or os.name != "posix":
            return
        self._told, status = True, self.path.parent.stat()
        others = stat.S_IWOTH | (0 if status.st_gid == os.getegid() else stat.S_IWGRP)
        may_write = status.st_mode & others and not status.st_mode & stat.S_ISVTX
        if may_write or status.st_uid not in (0, os.geteuid()):
            _logger.warning(
                "other users may write to %s, and take the store's files away or put older ones in "
                "their place: give the store a directory of its own, or chmod go-w this one",
                self.path.parent,
            )

    def _take_lock(self, deadline: float) -> None:
        while True:
            file = self._lock_file = io.FileIO(_open_private(self._lock_path), "r+")
            _check(self._lock_path, os.fstat(file.fileno()))
            if self._locks(file, deadline):
                return
            file.close()

    def _locks(self, file: io.FileIO, deadline: float) -> bool:
        while not _is_locked_by(file):
            if not pause(deadline):
                raise StoreError(
                    f"another process has been opening {self.path} for too long: see which one "
                    f"holds {self._lock_path}, and end it",
                    retryable=True,
                )
        # Somebody may have deleted it meanwhile, and others lock another one of its name.
        with contextlib.suppress(FileNotFoundError):
            return os.path.samestat(os.fstat(file.fileno()), self._lock_path.lstat())
        return False

    def _held(self) -> io.FileIO:
        assert self._lock_file is not None, "without the lock"  # noqa: S101
        return self._lock_file

    def _last_used(self) -> int | None:
        """The inode of tokenmgr's last file at this path; None if there never was one."""
        file = self._held()
        file.seek(0)
        noted = file.read(32)
        return int(noted) if noted.isdigit() else None


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.lstat()
    except FileNotFoundError:
        return None


def _is_locked_by(file: io.FileIO) -> bool:
    if fcntl:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def _open_private(path: Path, flags: int = 0) -> int:
    file = os.open(path, os.O_RDWR | os.O_CREAT | _NO_LINKS | flags, 0o600)
    try:
        status = os.fstat(file)
        if hasattr(os, "geteuid") and status.st_uid == os.geteuid() and status.st_nlink == 1:
            os.fchmod(file, 0o600)  # whatever the umask is
    except BaseException:
        os.close(file)
        raise
    return file


def _check(path: Path, status: os.stat_result) -> None:
    if stat.S_ISLNK(status.st_mode):
        raise StoreError(f"{path} is a symbolic link: give the path of the file itself")
    if stat.S_ISDIR(status.st_mode):
        raise StoreError(f"{path} is a directory: give the path of a file in it")
    if not stat.S_ISREG(status.st_mode):
        raise StoreError(f"{path} is no regular file: {_ANOTHER_FILE}")
    if hasattr(os, "geteuid") and status.st_uid != os.geteuid():
        raise StoreError(
            f"{path} belongs to another user (uid {status.st_uid}), who could read the tokens: "
            f"delete it, run as that user, or {_ANOTHER_FILE}"
        )
    if status.st_nlink > 1:
        raise StoreError(
            f"{path} is known under {status.st_nlink} names (hard links), and may be another "
            f"program's file: delete it, or {_ANOTHER_FILE}"
        )
