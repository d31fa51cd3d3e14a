"""A store that may fail: after a failure no call touches it, until a probe has found it well."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Literal, TypeVar

from .._context import Context
from .._runtime.backoff import Backoff
from .._runtime.forks import renew_in_child
from ..errors import StoreError
from ..events import StoreFailed, StoreRecovered
from ..stores.base import TokenStore

__all__ = ["GuardedStore", "StoreAwayError"]

#: How long a store that fails is left alone, in seconds: up to the first after one failure, then
#: twice as long each time.
_FIRST_REST, _LONGEST_REST = 2.0, 30.0
#: Seconds after which what a probe puts is gone.
_PROBE_TTL = 5.0

T = TypeVar("T")


class StoreAwayError(Exception):
    """The store failed, is left alone, or is of no help: go on without it."""


class GuardedStore:
    """The operations of :class:`TokenStore`, each of which may raise ``StoreAwayError``.

    The first failure sends the store away, for all keys. After a rest the next call that would
    have used it has it probed, behind its back, and goes on without: who asks for a token waits
    for a store that fails once (and to give a lease back that it has), and not again each time that
    it is tried. A probe does all that a store can do, since one that reads may be unable to write.
    """

    def __init__(self, store: TokenStore, context: Context, *, probe_key: str) -> None:
        self._store = store
        self._context = context
        self._probe_key = probe_key
        self._rest = Backoff(_FIRST_REST, _LONGEST_REST, least=0.5)
        #: Whether it is away. Read without the lock.
        self._away = False
        renew_in_child(self._start_anew)

    def _start_anew(self) -> None:
        """Makes its locks anew; a store that is away is so in the child, which probes it itself."""
        #: Guards the fields above; the store is not called under it.
        self._lock = threading.RLock()
        #: Held by the one probe under way, for as long as the store keeps it.
        self._probing = threading.RLock()
        self._rest.until = float("-inf")

    @property
    def state(self) -> Literal["well", "away"]:
        """Whether it can be used."""
        return "away" if self._away else "well"

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
        if self._away:
            self._have_it_probed()
        if self._away:
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
            if self._away and not probe:
                return  # it failed many calls at once, and those that follow say nothing new
            self._away = True
            seconds = self._rest.fail(self._context.clock.elapsed())
        # The text of a foreign error may hold anything, so that only its class is told.
        reason = type(error).__name__ + (f": {error}" if isinstance(error, StoreError) else "")
        self._context.emit(StoreFailed(self._context.clock.wall(), operation, reason, seconds))

    def _have_it_probed(self) -> None:
        with self._lock:
            now = self._context.clock.elapsed()
            if not self._away or now < self._rest.until:
                return
            self._rest.until = now + _LONGEST_REST  # unless it ends, and says when the next one is
        self._context.workers.do_or_here(self._probe)

    def _probe(self) -> None:
        probing = self._probing  # in a child that the store forks it is another one
        try:
            # It may have taken so long to begin that another one has found the store well.
            if self._away and probing.acquire(blocking=False):
                self._try_all()
        finally:
            with suppress(RuntimeError):  # another thread probes
                probing.release()

    def _try_all(self) -> None:
        store, key, value = self._store, self._probe_key, secrets.token_bytes(16)
        with suppress(StoreAwayError):
            self._tried("lease", lambda: store.lease(key, value, _PROBE_TTL), probe=True)
            self._tried("put", lambda: store.put(key, value, _PROBE_TTL), probe=True)
            self._tried("get", lambda: _as_bytes(store.get(key)), probe=True)
            self._tried("delete", lambda: store.delete(key, value), probe=True)
            self._recover()

    def _recover(self) -> None:
        with self._lock:
            self._away = False
            self._rest.clear()
        self._context.emit(StoreRecovered(self._context.clock.wall()))


def _as_bytes(value: object) -> bytes | None:
    """Takes what databases have for bytes; anything else is a store that does not work."""
    if value is None or isinstance(value, bytes):
        return value
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    raise StoreError(f"get() gave a {type(value).__name__} and not bytes: mend the store")
