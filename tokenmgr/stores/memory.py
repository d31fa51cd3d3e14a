"""A store in this process's memory."""

from __future__ import annotations

import threading

from .._runtime.clock import SYSTEM_CLOCK, Clock
from .._runtime.forks import renew_in_child

__all__ = ["MemoryStore"]

#: Ended records are looked for once in so many puts.
_SWEEP_EVERY = 256


class MemoryStore:
    """Shares tokens between the registries of one process, and shows how little a store is.

    A child of a fork goes on with a copy of its own.

    Args:
        clock: The time; a test passes one that it moves by hand.
    """

    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        #: Each value with its end, on the elapsed clock.
        self._records: dict[str, tuple[bytes, float]] = {}
        self._puts = 0
        renew_in_child(self._start_anew)

    def _start_anew(self) -> None:
        """Makes its lock anew."""
        #: Guards the fields above. A signal's handler, or an object's end, may come back for it.
        self._lock = threading.RLock()

    def get(self, key: str) -> bytes | None:
        """Gives what is under a key; see :class:`~tokenmgr.stores.TokenStore`."""
        with self._lock:
            return self._get(key)

    def put(self, key: str, value: bytes, ttl: float) -> None:
        """Keeps a value under a key; see :class:`~tokenmgr.stores.TokenStore`."""
        with self._lock:
            self._put(key, value, ttl)

    def lease(self, key: str, owner: bytes, ttl: float) -> bool:
        """Takes a lease; see :class:`~tokenmgr.stores.TokenStore`."""
        with self._lock:
            if self._get(key) is not None:
                return False
            self._put(key, owner, ttl)
            return True

    def delete(self, key: str, value: bytes) -> bool:
        """Takes away a value; see :class:`~tokenmgr.stores.TokenStore`."""
        with self._lock:
            found = self._get(key) == value
            if found:
                self._records.pop(key, None)
            return found

    def close(self) -> None:
        """Does nothing: there is nothing to close."""

    # With the lock held:

    def _get(self, key: str) -> bytes | None:
        value, ends = self._records.get(key, (None, 0.0))
        return value if self._clock.elapsed() < ends else None

    def _put(self, key: str, value: bytes, ttl: float) -> None:
        now = self._clock.elapsed()
        self._puts += 1
        if self._puts % _SWEEP_EVERY == 0:
            for ended in [k for k, (_, ends) in self._records.copy().items() if ends <= now]:
                self._records.pop(ended, None)
        self._records[key] = (value, now + ttl)
