"""What a store is: four atomic operations on small sealed records, and ``close()``.

Whoever wants the cache in a database of their own writes these. The store sees nothing that it
could leak: keys are keyed hashes, values are sealed. It decides nothing either: who fetches, who
waits and what is stale is ``tokenmgr._sharing``'s business, and so is a store that fails.

Example:
    A store on any database with one table, ``key`` its primary key::

        class TableStore:
            def get(self, key):
                row = db.one("SELECT value FROM tokens WHERE key = %s AND ends > now()", key)
                return row and row.value

            def put(self, key, value, ttl):
                db.run("… ON CONFLICT (key) DO UPDATE SET value = …, ends = …", key, value, ttl)

            def lease(self, key, owner, ttl):
                return db.run("… ON CONFLICT (key) DO UPDATE … WHERE tokens.ends <= now()", …) == 1

            def delete(self, key, value):
                return db.run("DELETE … WHERE key = %s AND value = %s", key, value) == 1

            def close(self):
                db.close()

    :class:`tokenmgr.stores.contract.TokenStoreContract` tells whether it is one.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

__all__ = ["MOST_BYTES", "TokenStore"]

#: What is larger was put by somebody else, and counts for nothing.
MOST_BYTES = 65_536


@runtime_checkable
class TokenStore(Protocol):
    """Records that workers share, each under a key, each with an end.

    A key is ASCII text of at most 200 characters, out of letters, digits and ``:._-``. A value is
    bytes, of at most 64 KiB (``MOST_BYTES``): of what is larger, any part will do that is larger
    too. Times are seconds, fractions included, always more than 0.

    Every operation is atomic among all threads, processes and hosts that share the store, and is
    called by any of them. It ends by itself, soon: a worker that waits for a store could have
    asked the service meanwhile, so half a second is long. Where it cannot do what is asked it
    raises, whatever it likes; :class:`~tokenmgr.StoreError` brings its message into the events.
    After a fork a store must not use a connection of the parent's.
    """

    def get(self, key: str) -> bytes | None:
        """Gives what is under a key, as bytes; None when there is nothing, or it has ended."""
        ...

    def put(self, key: str, value: bytes, ttl: float) -> None:
        """Keeps a value under a key, in place of what is there.

        Args:
            key: The key.
            value: The value.
            ttl: Seconds after which it is gone by itself.
        """
        ...

    def lease(self, key: str, owner: bytes, ttl: float) -> bool:
        """Keeps an owner under a key where there is nothing, or what was there has ended.

        Whoever is told True holds the lease, and gives it back with ``delete(key, owner)``; if
        it dies, the lease ends by itself.

        Args:
            key: The lease's key.
            owner: Who takes it; no two takers are called the same.
            ttl: Seconds after which it ends by itself.
        """
        ...

    def delete(self, key: str, value: bytes) -> bool:
        """Takes away what is under a key if it is still this value; says whether it was."""
        ...

    def close(self) -> None:
        """Closes connections and files. The store may be used again, and opens them anew."""
        ...
