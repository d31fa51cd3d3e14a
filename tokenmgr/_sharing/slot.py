"""What lies in a store for one key: its record, and beside it the lease of whoever fetches."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from .._runtime.clock import Clock
from .._runtime.forks import no_fork
from ..token import Record
from .guarded import GuardedStore
from .record import Failure, record_from_bytes, record_to_bytes

if TYPE_CHECKING:
    from .seal import SealingKey

__all__ = ["Lease", "Place"]

#: Long enough never to be the same by chance, and shorter than anything sealed.
_OWNER_BYTES = 16
#: A lease that ends in less than this, in seconds, may have ended by the store's clock.
_SURE = 1.0

T = TypeVar("T", Record, Failure)


class Lease:
    """The right to be the one worker that fetches.

    Args:
        store: Where it lies.
        sealing: What a word in its place is sealed with.
        name: Under which name.
        ttl: Seconds after which it ends by itself.
        clock: The time.
    """

    def __init__(
        self, store: GuardedStore, sealing: SealingKey, name: str, ttl: float, clock: Clock
    ) -> None:
        self._store = store
        self._sealing = sealing
        self._name = name
        self._clock = clock
        self._ends = float("-inf")
        self._owner = secrets.token_bytes(_OWNER_BYTES)
        self.ttl: float = ttl
        #: Whether it has been taken here, and not been given back.
        self.taken: bool = False
        #: Who had it when it was last looked at, or the word that one left; None when it was free.
        self.holder: bytes | None = None

    def take(self) -> bool:
        """Takes it if nobody has it; says whether it is ours."""
        # Where an answer was lost on the way and the question repeated, it may be ours already.
        self._ends = self._clock.elapsed() + self.ttl
        self.taken = (
            self._store.lease(self._name, self._owner, self.ttl) or self.look() == self._owner
        )
        return self.taken

    def look(self) -> bytes | None:
        """Looks who has it, or what word is in its place; None when it is free."""
        self.holder = self._store.get(self._name)
        return self.holder

    def give_back(self) -> None:
        """Gives it back, if it has been taken and is ours still."""
        if self.taken:
            self.taken = False
            self._store.give_back(self._name, self._owner)

    def leave_word(self, failure: Failure, ttl: float) -> None:
        """Leaves word of a failure in its place, if it has been taken.

        Args:
            failure: What came of it.
            ttl: Seconds for which the word stands.
        """
        # Put over it, not after it was given back: another one would take it in between, and ask
        # the same. Later than this it may be another one's already.
        if self.taken and self._clock.elapsed() < self._ends - _SURE:
            with no_fork():
                word = self._sealing.seal(failure.to_bytes(), self._name)
            self._store.put_over(self._name, word, ttl)
            self.taken = False


class Place:
    """A key's place in a store, under one sealing key.

    Every method may raise :class:`~tokenmgr._sharing.guarded.StoreAwayError`.

    Args:
        store: The store.
        sealing: What its content is named and sealed with.
        namespace: What names in the store begin with.
        described: Whose place it is.
        refuse: Told why something that lies there does not open.
    """

    def __init__(
        self,
        store: GuardedStore,
        sealing: SealingKey,
        namespace: str,
        described: str,
        refuse: Callable[[str], None],
    ) -> None:
        self._store = store
        self._sealing = sealing
        with no_fork():
            self._name = f"{namespace}:{sealing.name(described)}"
        self._lease_name = f"{self._name}:lease"
        self._refuse = refuse

    def read(self) -> Record | None:
        """Gives the record; None when there is none that opens."""
        return self._read()[0]

    def write(self, record: Record, ttl: float) -> None:
        """Keeps a record, in place of what is there.

        Args:
            record: The record.
            ttl: Seconds after which it is gone.
        """
        with no_fork():
            sealed = self._sealing.seal(record_to_bytes(record), self._name)
        self._store.put(self._name, sealed, ttl)

    def remove(self, secret: str) -> None:
        """Takes away the record of this token, if it is still the one that lies there."""
        record, sealed = self._read()
        if record is not None and sealed is not None and record.token.secret == secret:
            self._store.delete(self._name, sealed)

    def lease(self, ttl: float, clock: Clock) -> Lease:
        """Makes the right to fetch, which is yet to be taken.

        Args:
            ttl: Seconds after which it ends by itself.
            clock: The time.
        """
        return Lease(self._store, self._sealing, self._lease_name, ttl, clock)

    def word_of(self, holder: bytes) -> Failure | None:
        """Gives what is left where a lease was; None when its holder fetches still."""
        if len(holder) == _OWNER_BYTES:
            return None
        return self._open(holder, self._lease_name, Failure.from_bytes)

    def _read(self) -> tuple[Record | None, bytes | None]:
        sealed = self._store.get(self._name)
        if sealed is None:
            return None, None
        return self._open(sealed, self._name, record_from_bytes), sealed

    def _open(self, sealed: bytes, name: str, parse: Callable[[bytes], T]) -> T | None:
        from .seal import BrokenSealError

        try:
            with no_fork():
                return parse(self._sealing.open(sealed, name))
        except BrokenSealError as exc:
            self._refuse(str(exc))
        except (ValueError, TypeError, RecursionError):
            self._refuse("not what this version writes")
        return None
