"""A store that may fail: after a failure no call touches it, until a probe has found it well."""

from __future__ import annotations

import random
import secrets
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from .._runtime.clock import Clock
from .._runtime.forks import make_new_in_child
from .._runtime.workers import FETCHERS, Workers
from ..errors import StoreError
from ..events import Event, StoreFailed, StoreRecovered
from ..stores.base import TokenStore

__all__ = ["GuardedStore", "StoreAwayError"]

#: How long a store that fails is left alone, in seconds: up to the first after one failure, then
#: twice as long each time.
_FIRST_REST, _LONGEST_REST = 2.0, 30.0
#: Seconds after which what a probe puts is gone.
_PROBE_TTL = 5.0

T = TypeVar("T")


class StoreAwayError(Exception):
    """The store failed, or is left alone: go on without it."""


class GuardedStore:
    """The operations of :class:`TokenStore`, each of which may raise ``StoreAwayError``.

    The first failure sends the store away, for all keys. After a rest the next call that would
    have used it has it probed, behind its back, and goes on without: who asks for a token waits
    for a store that fails once (and to give a lease back that it has), and not again each time that
    it is tried. A probe does all that a store can do, since one that reads may be unable to write.

    Args:
        store: The store.
        clock: The time.
        emit: Where events go.
        probe_key: What probes put their value under.
        workers: The threads of probes.
    """

    def __init__(
        self,
        store: TokenStore,
        clock: Clock,
        emit: Callable[[Event], None],
        *,
        probe_key: str,
        workers: Workers = FETCHERS,
    ) -> None:
        self._store = store
        self._clock = clock
        self._emit = emit
        self._probe_key = probe_key
        self._workers = workers
        #: How often it has failed in a row; it is away while this is not 0. Read without the lock.
        self._failures = 0
        #: When the next probe is due, on the elapsed clock.
        self._probe_at = float("-inf")
        make_new_in_child(self)
        self.after_fork()

    def after_fork(self) -> None:
        """Makes its locks anew; a store that is away is so in the child, which probes it itself."""
        #: Guards the fields above and the next one; the store is not called under it.
        self._lock = threading.Lock()
        #: Whether a worker was given a probe that it has not begun: in some servers none ever does.
        self._unbegun = False
        #: Held by the one probe under way, for as long as the store keeps it.
        self._probing = threading.Lock()
        self._probe_at = float("-inf")

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

    # A lease that is over is given back, or put over, although the store is away: who waits for it
    # would otherwise wait for its end.

    def give_back(self, key: str, owner: bytes) -> None:
        """Gives a lease back if it is the owner's still."""
        self._tried("delete", lambda: self._store.delete(key, owner))

    def put_over(self, key: str, value: bytes, ttl: float) -> None:
        """Keeps a value in the place of a lease."""
        self._tried("put", lambda: self._store.put(key, value, ttl))

    def _guarded(self, operation: str, call: Callable[[], T]) -> T:
        if self._failures:
            self._have_it_probed()
        if self._failures:
            raise StoreAwayError
        return self._tried(operation, call)

    def _tried(self, operation: str, call: Callable[[], T], *, probe: bool = False) -> T:
        try:
            return call()
        except Exception as exc:  # noqa: BLE001 - a store may be anybody's code
            self._fail(operation, exc, probe=probe)
            raise StoreAwayError from None

    def _fail(self, operation: str, error: Exception, *, probe: bool) -> None:
        with self._lock:
            if self._failures and not probe:
                return  # it failed many calls at once, and those that follow say nothing new
            longest = min(_LONGEST_REST, _FIRST_REST * 2.0 ** min(self._failures, 30))
            seconds = random.uniform(longest / 2, longest)  # noqa: S311 - spreads, guards nothing
            self._failures += 1
            self._probe_at = self._clock.elapsed() + seconds
        # The text of a foreign error may hold anything, so that only its class is told.
        reason = type(error).__name__ + (f": {error}" if isinstance(error, StoreError) else "")
        self._emit(StoreFailed(self._clock.wall(), operation, reason, seconds))

    def _have_it_probed(self) -> None:
        with self._lock:
            now = self._clock.elapsed()
            if not self._failures or now < self._probe_at:
                return
            self._probe_at = now + _LONGEST_REST  # unless it ends, and says when the next one is
            no_worker_runs, self._unbegun = self._unbegun, True
        if no_worker_runs:
            self._probe()
            return
        try:
            self._workers.do(self._probe)
        except RuntimeError:  # no thread can be started
            self._probe()

    def _probe(self) -> None:
        with self._lock:
            self._unbegun = False
            if not self._failures:
                return  # it took so long to begin that another one has found it well
        if not self._probing.acquire(blocking=False):
            return
        store, key, value = self._store, self._probe_key, secrets.token_bytes(16)
        try:
            with suppress(StoreAwayError):
                self._tried("lease", lambda: store.lease(key, value, _PROBE_TTL), probe=True)
                self._tried("put", lambda: store.put(key, value, _PROBE_TTL), probe=True)
                self._tried("get", lambda: _as_bytes(store.get(key)), probe=True)
                self._tried("delete", lambda: store.delete(key, value), probe=True)
                self._recover()
        finally:
            self._probing.release()

    def _recover(self) -> None:
        with self._lock:
            self._failures = 0
        self._emit(StoreRecovered(self._clock.wall()))


def _as_bytes(value: object) -> bytes | None:
    """Takes what databases have for bytes; anything else is a store that does not work."""
    if value is None or isinstance(value, bytes):
        return value
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    raise StoreError(f"get() gave a {type(value).__name__} and not bytes: mend the store")
