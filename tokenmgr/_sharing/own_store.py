"""Where sessions are that have no store: sealed as in any other, in this process alone."""

from __future__ import annotations

import secrets
from itertools import islice

from .._context import Context
from .._runtime.clock import Clock
from ..identity.credentials import ClientSecret
from ..stores import MemoryStore
from .keys import SealingKeys
from .slot import SealedStore

__all__ = ["own_store"]


def own_store(context: Context, most: int) -> SealedStore:
    """Makes a registry's store for itself.

    Args:
        context: What its managers have in common.
        most: So many records are kept; those that were put longest ago make room.
    """
    keys = SealingKeys(secrets.token_bytes(32), ClientSecret("unused"))
    return SealedStore(_OwnStore(context.clock, most), keys, namespace="own", context=context)


class _OwnStore(MemoryStore):
    """A store with a bound, of this process and of no child of it."""

    def __init__(self, clock: Clock, most: int) -> None:
        self._most = most
        self._records: dict[str, tuple[bytes, float]] = {}
        super().__init__(clock)

    def _start_anew(self) -> None:
        super()._start_anew()
        # Two processes with a copy each would redeem the same refresh tokens.
        self._records.clear()

    def put(self, key: str, value: bytes, ttl: float) -> None:
        """Keeps a value, but for what is left in a lease's place: here are no others to read it."""
        if key.endswith(":lease"):
            return
        with self._lock:
            self._records.pop(key, None)
            self._put(key, value, ttl)
            beyond = max(0, len(self._records) - self._most)
            for oldest in list(islice(self._records, beyond)):
                if not oldest.endswith((":lease", ":users")):
                    self._records.pop(oldest, None)
