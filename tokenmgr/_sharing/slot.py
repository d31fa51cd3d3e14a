"""A store as the library sees it: sealed, and for each key one slot.

In a slot lies a key's record, and beside it, while a worker fetches, that worker's lease. What it
is called there, and what it is sealed with, is the slot's own business.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from functools import partial
from operator import itemgetter
from typing import TYPE_CHECKING, TypeVar

from .._context import Context
from .._runtime.secrecy import Unpicklable
from ..errors import ConfigurationError
from ..events import RecordRefused
from ..identity.proofs import Proof
from ..stores.base import MOST_BYTES, TokenStore
from ..token import Record, TokenKey
from .guarded import GuardedStore
from .keys import SealingKeys
from .leases import Leases
from .record import AnotherOwnersError, Verdict, name_of, record_from_bytes, record_to_bytes

if TYPE_CHECKING:
    from .seal import SealingKey

__all__ = ["Lease", "Place", "SealedStore", "Slot", "take_all"]

#: Long enough never to be the same by chance, and shorter than anything sealed.
_OWNER_BYTES = 16
#: Seconds that a lease lasts beyond the longest fetch: its holder has a store to ask too.
_MARGIN = 2.0
#: A lease that ends in less than this, in seconds, may have ended by the store's clock.
_SURE = 1.0
#: What stores take as it is. Braces would put all of it on one node of a Redis Cluster.
_NAMESPACE = re.compile(r"[A-Za-z0-9._:-]{1,64}")

T = TypeVar("T")


class SealedStore(Unpicklable):
    """A registry's part in a store.

    Raises:
        ConfigurationError: It is no store, or no namespace.
    """

    def __init__(
        self, store: TokenStore | object, keys: SealingKeys, *, namespace: str, context: Context
    ) -> None:
        if not isinstance(store, TokenStore):
            del store  # it may be a URL with a password, and a traceback would show it
            raise ConfigurationError(
                "store= is a URL, such as 'sqlite:///tokens.db', or a TokenStore, such as "
                "SqliteStore(path)"
            )
        if not isinstance(namespace, str) or not _NAMESPACE.fullmatch(namespace):
            raise ConfigurationError(
                "namespace= is up to 64 letters, digits and '.', '_', '-' or ':', such as the "
                "program's name"
            )
        self.store: GuardedStore = GuardedStore(store, context, probe_key=f"{namespace}:probe")
        #: Those that are this registry's.
        self.leases: Leases = Leases()
        self.keys = keys
        self.namespace = namespace
        self.context = context
        #: Seconds after which a lease ends by itself.
        self.lease_ttl: float = context.fetch_timeout + _MARGIN
        #: Whether the registry is closed, and every wait ends. The store is closed by who made it.
        self.closed: bool = False


class Place:
    """Where something lies in a store, under whichever of the keys that seal.

    Every method may raise :class:`~tokenmgr._sharing.guarded.StoreAwayError`.

    Args:
        sealed: The store.
        key: What it is of, for events.
        described: What is named, and owns what lies there.
    """

    #: What its names end with.
    _suffix = ""

    def __init__(self, sealed: SealedStore, key: TokenKey, described: str) -> None:
        self._sealed = sealed
        self._key = key
        self._described = described
        #: The sealing keys, and each with the record's name under it: one value, replaced whole.
        self._named: tuple[tuple[SealingKey, ...], list[tuple[SealingKey, str]]] = (), []

    def leases(self) -> list[Lease]:
        """Makes a right for each of the keys that seal, in the order in which all take them.

        Whoever takes all meets everybody who knows one of the keys, and seals with whichever.
        """
        return [self._lease(*each) for each in sorted(self._places(), key=itemgetter(1))]

    def erase(self) -> None:
        """Takes away whatever lies there."""
        for _, name in self._places():
            self._erase(name)

    def _erase(self, name: str) -> None:
        content = self._sealed.store.get(name)
        if content is not None:
            self._sealed.store.delete(name, content)

    def _lease(self, sealing: SealingKey, name: str) -> Lease:
        return Lease(self._sealed, sealing, f"{name}:lease", self._refuse)

    def _places(self) -> list[tuple[SealingKey, str]]:
        keys, (named, places) = self._sealed.keys.known(), self._named
        if named is not keys:
            namespace, what = self._sealed.namespace, self._described
            places = [(each, f"{namespace}:{each.name(what)}{self._suffix}") for each in keys]
            self._named = keys, places
        return places

    def _opened(
        self, sealing: SealingKey, name: str, parse: Callable[[bytes], T]
    ) -> tuple[T | None, bytes | None]:
        """Gives what lies there, read, and as it lies there."""
        content = self._sealed.store.get(name)
        return _opened(content, sealing, name, parse, self._refuse), content

    def _refuse(self, reason: str) -> None:
        context = self._sealed.context
        context.emit(RecordRefused(context.clock.wall(), self._key, reason))


class Slot(Place):
    """What lies in a store for one key.

    Args:
        sealed: The store.
        key: The key.
        described: What is named; left out, all of the key.
    """

    def __init__(self, sealed: SealedStore, key: TokenKey, described: str = "") -> None:
        super().__init__(sealed, key, described or name_of(key))

    def opens_with(self, proof: Proof | None) -> bool:
        """Takes up a proof that has just been read; says whether anything can be sealed."""
        keys = self._sealed.keys
        return bool(keys.known() if proof is None else keys.of(proof))

    def read(self, serves: Callable[[Record], bool]) -> Record | None:
        """Gives the record; None when there is none that opens and serves."""
        for sealing, name in self._places():
            record, _ = self._read(sealing, name)
            if record is not None and serves(record):
                return record
        return None

    def write(self, record: Record, ttl: float) -> None:
        """Keeps a record for ``ttl`` seconds, in place of what is there."""
        sealing, name = self._places()[0]
        self._sealed.store.put(
            name, sealing.seal(record_to_bytes(record, self._described), name), ttl
        )

    def remove(self, secret: str) -> None:
        """Takes away the record of this token, where it is still the one that lies there."""
        for sealing, name in self._places():
            record, content = self._read(sealing, name)
            if record is not None and content is not None and record.token.secret == secret:
                self._sealed.store.delete(name, content)

    def lease(self) -> Lease:
        """Makes the right to fetch, which is yet to be taken."""
        return self._lease(*self._places()[0])

    def _read(self, sealing: SealingKey, name: str) -> tuple[Record | None, bytes | None]:
        return self._opened(sealing, name, partial(record_from_bytes, owner=self._described))


class Lease:
    """The right to be the one worker that fetches; ``refuse`` is told what does not open."""

    def __init__(
        self,
        sealed: SealedStore,
        sealing: SealingKey,
        name: str,
        refuse: Callable[[str], None],
    ) -> None:
        self._store = sealed.store
        self._leases = sealed.leases
        self._clock = sealed.context.clock
        self._sealing = sealing
        self._name = name
        self._refuse = refuse
        self._ends = float("-inf")
        self._owner = secrets.token_bytes(_OWNER_BYTES)
        #: Seconds after which it ends by itself.
        self.ttl: float = sealed.lease_ttl
        #: Whether it has been taken here, as far as the store has said so, and not been given back.
        self.taken: bool = False
        #: Who had it when it was last looked at, or the verdict that one left; None when it was
        #: free.
        self.holder: bytes | None = None

    def take(self) -> bool:
        """Takes it if nobody has it; says whether it is ours."""
        self._ends = self._clock.elapsed() + self.ttl
        # First noted: the answer may be lost on the way, and the lease be ours all the same. Where
        # the question was repeated then, and answered with no, a look tells.
        self._leases.add(self)
        self.taken = (
            self._store.lease(self._name, self._owner, self.ttl) or self.look() == self._owner
        )
        if not self.taken:
            self._leases.discard(self)
        return self.taken

    def look(self) -> bytes | None:
        """Looks who has it, or what verdict is in its place; None when it is free."""
        self.holder = self._store.get(self._name)
        return self.holder

    @property
    def is_over(self) -> bool:
        """Whether it was no lease that was seen in its place, but what was left there."""
        return self.holder is not None and len(self.holder) != _OWNER_BYTES

    def verdict(self) -> Verdict | None:
        """Gives the verdict that was seen in its place; None when there was none that opens."""
        if not self.is_over:
            return None
        return _opened(self.holder, self._sealing, self._name, Verdict.from_bytes, self._refuse)

    def give_back(self) -> None:
        """Gives it back, if it is ours, or may be: later, where the store is away."""
        if self in self._leases:
            self._leases.give_back(self, later=self._store.state == "away")

    def end(self) -> None:
        """Takes it out of the store, if it is ours still."""
        self.taken = False
        self._store.give_back(self._name, self._owner)

    def clear(self) -> bool:
        """Takes away what was seen in its place, and is over; says whether it has gone."""
        seen = self.holder
        return seen is None or self._store.delete(self._name, seen) or self.look() != seen

    def leave(self, verdict: Verdict) -> None:
        """Leaves a verdict in its place, for as long as it counts, if it has been taken."""
        # Put over it, not after it was given back: another one would take it in between, and ask
        # the same.
        if self.is_sure:
            self.put(verdict)
            self.taken = False
            self._leases.discard(self)

    @property
    def is_sure(self) -> bool:
        """Whether it has been taken, and cannot have ended; later it may be another one's."""
        return self.taken and self._clock.elapsed() < self._ends - _SURE

    def put(self, verdict: Verdict) -> None:
        """Puts a verdict in its place, for as long as it counts, whoever has it."""
        content = self._sealing.seal(verdict.to_bytes(), self._name)
        self._store.put_over(self._name, content, verdict.until - verdict.at)


def _opened(
    content: bytes | None,
    sealing: SealingKey,
    name: str,
    parse: Callable[[bytes], T],
    refuse: Callable[[str], None],
) -> T | None:
    """Opens and reads what lies in a store; tells why it cannot."""
    if content is None:
        return None
    from .seal import BrokenSealError

    if len(content) > MOST_BYTES:
        refuse("larger than anything that is put there")
        return None
    try:
        return parse(sealing.open(content, name))
    except BrokenSealError as exc:
        refuse(str(exc))
    except AnotherOwnersError:
        refuse("another key's")
    except (ValueError, TypeError, RecursionError):
        refuse("not what this version writes")
    return None


def take_all(leases: list[Lease]) -> bool:
    """Takes all of them, or none; says whether all are taken.

    Raises:
        StoreAwayError: The store cannot say.
    """
    for lease in leases:
        if not lease.take():
            if lease.is_over:  # no lease of anybody's
                lease.clear()
            for taken in leases:
                taken.give_back()
            return False
    return True
