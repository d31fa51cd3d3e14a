"""A store in a database that is there already, through Python's DB-API (PEP 249).

Here it is SQLite, so that this file runs as it is; psycopg or oracledb want another ``connect``,
another placeholder and another name for the type of bytes. Shared by several hosts, let the
database tell the time: its ``now()`` in place of ``time.time()``.

    python examples/own_store.py tokens-of-ours.db
"""

from __future__ import annotations

import sqlite3
import sys
import time
from contextlib import closing
from pathlib import Path

from tokenmgr import TokenRegistry


class TableStore:
    """One table, one statement for each operation, one connection for each statement."""

    def __init__(self, path: str | Path) -> None:
        self._path = path

    def get(self, key: str) -> bytes | None:
        """What is under a key, unless it has ended."""
        rows, _ = self._run("SELECT value FROM tokens WHERE key = ? AND ends > ?", key, time.time())
        return rows[0][0] if rows else None

    def put(self, key: str, value: bytes, ttl: float) -> None:
        """Keeps a value, whatever was there."""
        self._run("REPLACE INTO tokens VALUES (?, ?, ?)", key, value, time.time() + ttl)

    def lease(self, key: str, owner: bytes, ttl: float) -> bool:
        """Keeps an owner where nothing is, or what was there has ended."""
        now = time.time()
        _, changed = self._run(
            "INSERT INTO tokens VALUES (?, ?, ?) ON CONFLICT (key) DO UPDATE "
            "SET value = excluded.value, ends = excluded.ends WHERE tokens.ends <= ?",
            *(key, owner, now + ttl, now),
        )
        return changed == 1

    def delete(self, key: str, value: bytes) -> bool:
        """Takes a value away if it is still this one."""
        delete = "DELETE FROM tokens WHERE key = ? AND value = ? AND ends > ?"
        _, changed = self._run(delete, key, value, time.time())
        return changed == 1

    def close(self) -> None:
        """Nothing stays open."""

    def _run(self, sql: str, *values: object) -> tuple[list[tuple[bytes]], int]:
        with closing(sqlite3.connect(self._path, timeout=0.5)) as connection, connection:
            connection.execute(
                "CREATE TABLE IF NOT EXISTS tokens "
                "(key TEXT PRIMARY KEY, value BLOB NOT NULL, ends REAL NOT NULL)"
            )
            cursor = connection.execute(sql, values)
            return cursor.fetchall(), cursor.rowcount


def main() -> None:
    """Fetches a token, or finds the one that an earlier run has left."""
    with TokenRegistry.from_env(store=TableStore(sys.argv[1])) as tokens:
        token = tokens.manager("https://graph.microsoft.com/.default").get_token()
        print(f"a token that is valid for {token.expires_at - time.time():.0f} s")


if __name__ == "__main__":
    main()
