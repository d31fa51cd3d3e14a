"""The store for the workers of one host: a SQLite file."""

from __future__ import annotations

import contextlib
import os
import weakref
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from ..._runtime.clock import SYSTEM_CLOCK, Clock
from ..._runtime.forks import no_fork
from ...errors import ConfigurationError, StoreError
from ..base import MOST_BYTES

if TYPE_CHECKING:
    from typing_extensions import Self

    from .connection import Outcome
    from .database import Database

__all__ = ["SqliteStore"]

#: A record that was begun later than now by more than this was put before somebody set the clock
#: back, and its end means nothing. Smaller steps are what time services make all the time.
_STEP = 1.0
#: Ended records are looked for at a process's first put, and once in so many; each time among so
#: many on either side. So no caller waits for the removal of all at once, and however many come and
#: end, hardly more than a quarter of all is theirs.
_SWEEP_EVERY, _SWEEP = 64, 128

#: What is longer is a record, and leaves the log too when it is deleted; a lease holds no secret.
_LONGEST_OWNER = 32

#: What has not ended, and is not from before the clock was set back.
_LIVE = f"(records.begun <= now() + {_STEP} AND records.ends > now())"
#: Both without a look into what is no bytes, or larger than it may be: SQLite would read all of it.
_GET = f"""
    SELECT CASE
        WHEN typeof(value) <> 'blob' THEN NULL
        WHEN length(value) <= {MOST_BYTES} THEN value
        ELSE zeroblob({MOST_BYTES} + 1)
    END FROM records WHERE key = :key AND {_LIVE}
"""  # noqa: S608 - all of it is here
_DELETE = f"""
    DELETE FROM records WHERE key = :key AND {_LIVE} AND CASE
        WHEN typeof(value) <> 'blob' THEN 0
        WHEN length(value) = length(:value) THEN value = :value
    END
"""  # noqa: S608
_PUT = """
    INSERT INTO records (key, value, begun, ends) VALUES (:key, :value, now(), now() + :ttl)
    ON CONFLICT (key) DO UPDATE SET
        value = excluded.value, begun = excluded.begun, ends = excluded.ends
"""
_LEASE = f"{_PUT} WHERE NOT {_LIVE}"
#: Around the key just put: records' keys are keyed hashes, and so that is anywhere. An index by end
#: would find them all, and have each put write two pages more.
_SWEEP_ENDED = """
    DELETE FROM records WHERE ends <= now() AND id IN (
        SELECT id FROM (SELECT id FROM records WHERE key >= :key ORDER BY key LIMIT :most)
        UNION ALL
        SELECT id FROM (SELECT id FROM records WHERE key < :key ORDER BY key DESC LIMIT :most)
    )
"""


class SqliteStore:
    """Shares tokens between the workers of one host, through a file that only their user reads.

    The file is made when it is first used, with its directory. It is on a local disk: SQLite's
    locks do not hold on a network's (https://sqlite.org/wal.html). Beside it lie ``-wal`` and
    ``-shm``, which are SQLite's own, ``-lock``, under which workers open and mend it, and, if it
    was ever damaged, ``-broken``: what was put aside then, for whoever wants to look into it.

    Args:
        path: The file's path.
        clock: The time; a test passes one that it moves by hand.

    Raises:
        ConfigurationError: It is no path of a file.
    """

    #: Made when it is first used.
    _database: Database | None = None

    def __init__(self, path: str | os.PathLike[str], *, clock: Clock = SYSTEM_CLOCK) -> None:
        text = os.fspath(path)
        if text == ":memory:":
            raise ConfigurationError(
                "a SQLite database in memory is not shared: use MemoryStore(), or give a path such "
                "as 'sqlite:////var/lib/app/tokens.db'"
            )
        if not text or "\0" in text or text.endswith(("/", os.sep)):
            raise ConfigurationError(
                f"{text!r} is no path of a file: give one, such as "
                "'sqlite:////var/lib/app/tokens.db'"
            )
        #: The file's path; absolute, so that it stays the same when a daemon changes directory.
        self.path: Path = Path(text).absolute()
        self._clock = clock
        self._puts = 0
        #: Whether what was deleted may be in the log still.
        self._log_is_full = False

    @classmethod
    def from_url(cls, url: str) -> Self:
        """Makes the store that a URL names.

        Args:
            url: ``sqlite:///relative.db`` or ``sqlite:////absolute.db``; percent-encoded.

        Raises:
            ConfigurationError: It names no file.
        """
        rest = url.partition(":")[2]
        if not rest.startswith("///") or "?" in rest or "#" in rest:
            del url, rest  # there may be a password in it, and a traceback would show it
            raise ConfigurationError(
                "a SQLite store is 'sqlite:///relative.db' or 'sqlite:////absolute/path.db', with "
                "three or four slashes, without a host or a query; '?' and '#' in a path are "
                "written %3F and %23"
            )
        return cls(unquote(rest[3:], errors="surrogateescape"))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r})"

    def get(self, key: str) -> bytes | None:
        """Gives what is under a key; see :class:`~tokenmgr.stores.TokenStore`.

        Raises:
            StoreError: The file cannot be used; so do all of them.
        """
        for (value,) in self._run(_GET, key=key).rows:
            if isinstance(value, bytes):  # what is damaged may be a number
                return value
        return None

    def put(self, key: str, value: bytes, ttl: float) -> None:
        """Keeps a value under a key; see :class:`~tokenmgr.stores.TokenStore`."""
        self._run(_PUT, key=key, value=value, ttl=ttl)
        if self._puts % _SWEEP_EVERY == 0:
            with contextlib.suppress(StoreError):  # the value is kept all the same
                self._run(_SWEEP_ENDED, key=key, most=_SWEEP)
        self._puts += 1  # two threads that count as one only sweep a little later
        self._empty_log()

    def lease(self, key: str, owner: bytes, ttl: float) -> bool:
        """Takes a lease; see :class:`~tokenmgr.stores.TokenStore`."""
        return self._run(_LEASE, key=key, value=owner, ttl=ttl).changed == 1

    def delete(self, key: str, value: bytes) -> bool:
        """Takes away a value; see :class:`~tokenmgr.stores.TokenStore`."""
        deleted = self._run(_DELETE, key=key, value=value).changed == 1
        if deleted and len(value) > _LONGEST_OWNER:
            self._log_is_full = True
        self._empty_log()
        return deleted

    def _empty_log(self) -> None:
        """Has nothing of what was deleted be left in the log; later, where it is being read."""
        if self._log_is_full:
            with contextlib.suppress(StoreError):  # it is gone all the same
                self._log_is_full = not self._load().empty_log()

    def close(self) -> None:
        """Closes the file, unless it cannot be had in time; the next use opens it anew."""
        if self._database is not None:
            self._database.close()

    def _run(self, sql: str, **parameters: object) -> Outcome:
        return self._load().run(sql, parameters)

    def _load(self) -> Database:
        if self._database is not None:
            return self._database
        with no_fork():
            try:
                from .database import Database
            except ImportError:
                raise StoreError(
                    "this Python has no sqlite3: use one that was built with it, or another store"
                ) from None
        made = Database(self.path, self._clock)
        database: Database = vars(self).setdefault("_database", made)
        if database is made:  # else another thread was faster
            # Otherwise it stays open: see the database's preparing.
            weakref.finalize(self, database.close)
        return database
