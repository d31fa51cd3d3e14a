"""A store that may fail: after a failure it is left alone for a while, by all keys."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import TypeVar

from ..clock import Clock
from ..errors import StoreError
from ..events import Event, StoreFailed, StoreRecovered
from ..forks import make_new_in_child
from .base import TokenStore

__all__ = ["GuardedStore", "StoreAwayError"]

#: How long a store that fails is left alone, in seconds: up to the first after one failure, then
#: twice as long each time.
_FIRST_REST, _LONGEST_REST = 2.0, 30.0

T = TypeVar("T")


class StoreAwayError(Exception):
    """The store failed, or is left alone: go on without it."""


class GuardedStore:
    """The operations of :class:`TokenStore`, each of which may raise ``StoreAwayError``.

    Args:
        store: The store.
        clock: The time.
        emit: Where events go.
    """

    def __init__(self, store: TokenStore, clock: Clock, emit: Callable[[Event], None]) -> None:
        self._store = store
        self._clock = clock
        self._emit = emit
        #: How often it has failed in a row.
        self._failures = 0
        self._left_alone_until = float("-inf")
        make_new_in_child(self)
        self.after_fork()

    def after_fork(self) -> None:
        """Makes its lock anew; what is known of the store holds in the child too."""
        #: Guards the fields above; the store is not called under it.
        self._lock = threading.Lock()

    def get(self, key: str) -> bytes | None:
        """Gives what is under a key."""
        return self._guarded("get", lambda: _as_bytes(self._store.get(key)))

    def put(self, key: str, value: bytes, ttl: float) -> None:
        """Keeps a value under a key."""
        self._guarded("put", lambda: self._store.put(key, value, ttl))

    def lease(self, key: str, owner: bytes, ttl: float) -> bool:
        """Takes a lease; says whether it was free."""
        return self._guarded("lease", lambda: self._store.lease(key, owner, ttl))

    def delete(self, key: str, value: bytes) -> bool:
        """Takes away a value if it is still this one."""
        return self._guarded("delete", lambda: self._store.delete(key, value))

    # A lease that is over is given back, or put over, although the store is left alone: who waits
    # for it would otherwise wait for its end.

    def give_back(self, key: str, owner: bytes) -> None:
        """Gives a lease back if it is the owner's still."""
        self._tried("delete", lambda: self._store.delete(key, owner))

    def put_over(self, key: str, value: bytes, ttl: float) -> None:
        """Keeps a value in the place of a lease."""
        self._tried("put", lambda: self._store.put(key, value, ttl))

    def _guarded(self, operation: str, call: Callable[[], T]) -> T:
        with self._lock:
            now = self._clock.elapsed()
            if now < self._left_alone_until:
                raise StoreAwayError
            if self._failures:  # this call is the probe; the others wait for what it learns
                self._left_alone_until = now + _FIRST_REST
        result = self._tried(operation, call)
        with self._lock:
            failed, self._failures = self._failures, 0
            self._left_alone_until = float("-inf")
        if failed:
            self._emit(StoreRecovered(self._clock.wall()))
        return result

    def _tried(self, operation: str, call: Callable[[], T]) -> T:
        try:
            return call()
        except Exception as exc:  # noqa: BLE001 - a store may be anybody's code
            self._fail(operation, exc)
            raise StoreAwayError from None

    def _fail(self, operation: str, error: Exception) -> None:
        with self._lock:
            longest = min(_LONGEST_REST, _FIRST_REST * 2.0 ** min(self._failures, 30))
            # At least half, so that callers that come one after another do not all try it.
            seconds = random.uniform(longest / 2, longest)  # noqa: S311 - spreads, guards nothing
            self._failures += 1
            self._left_alone_until = self._clock.elapsed() + seconds
        # The text of a foreign error may hold anything, so that only its class is told.
        reason = type(error).__name__ + (f": {error}" if isinstance(error, StoreError) else "")
        self._emit(StoreFailed(self._clock.wall(), operation, reason, seconds))


def _as_bytes(value: object) -> bytes | None:
    """Takes what databases have for bytes; anything else is a store that does not work."""
    if value is None or isinstance(value, bytes):
        return value
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    raise StoreError(f"get() gave a {type(value).__name__} and not bytes: mend the store")
