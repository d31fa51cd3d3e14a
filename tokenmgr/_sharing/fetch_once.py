"""One cache for all workers: who of them fetches a token, and who waits for it.

A token's record lies in the store, sealed, and while a worker fetches, that worker's lease lies
beside it. Nothing here fails a call: what does not open is a miss, and without the store every
worker fetches for itself.

::

    look ── found ─────────────────────────────────────────────────► done
      │
    lease ── granted ── look again ── ask ── put ── give it back ──► done
      │                                └── fails: leave word of it in the lease's place
      └── not granted: wait until the lease is gone or tells of a failure, and look again
"""

from __future__ import annotations

import json
import random
import re
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import astuple, dataclass, field, replace
from typing import TYPE_CHECKING

from .._runtime.clock import Clock
from .._runtime.forks import make_new_in_child
from .._runtime.secrecy import Unpicklable
from ..errors import (
    ConfigurationError,
    InvalidCredentialError,
    ThrottledError,
    TokenManagerError,
)
from ..events import Event, LeaseOutlived, RecordRefused
from ..policy import RefreshPolicy
from ..stores.base import TokenStore
from ..token import AccessToken, Record, TokenKey
from .guarded import GuardedStore, StoreAwayError
from .keys import Keyring
from .record import Failure
from .slot import Lease, Place

if TYPE_CHECKING:
    from typing import TypeGuard

__all__ = ["SharedCache", "SharedToken", "Wanted"]

#: Seconds between two looks at a lease: at first, at most, and how many times as long each time.
_FIRST_PAUSE, _LONGEST_PAUSE, _LONGER = 0.02, 0.25, 1.5
#: Seconds that a lease lasts beyond the longest fetch: its holder has a store to ask too.
_MARGIN = 2.0
#: Seconds for which word of a failure stands: by then all who wait have looked.
_WORD = 2.0
#: What was fetched later than so many seconds from now tells of clocks that are too far apart for
#: anybody to say when it expires.
_CLOCKS_APART = 60.0
#: A resource that refuses every token is believed three times in a row; see the keeper.
_MOST_DROPPED = 3
#: What stores take as it is. Braces would put all of it on one node of a Redis Cluster.
_NAMESPACE = re.compile(r"[A-Za-z0-9._:-]{1,64}")


@dataclass
class Wanted:
    """Which of the records that other workers leave will do."""

    #: The secrets that will not: the one in hand, and what was refused.
    unlike: set[str] = field(repr=False)
    #: Whether one that is due for renewal will not: there is a valid one in hand.
    fresh: bool = False
    #: Whether one that was there before the search began will not.
    new: bool = False
    #: The claims that it has to be fetched with; None when any will do.
    claims: str | None = None


class SharedCache(Unpicklable):
    """A registry's part in a store.

    Args:
        store: The store.
        keyring: What records are sealed with.
        namespace: What names in the store begin with.
        longest_fetch: Seconds that a fetch takes at most.
        policy: When a token is to be renewed, and how long a call waits at most.
        clock: The time.
        emit: Where events go.

    Raises:
        ConfigurationError: It is no store, or no namespace.
    """

    def __init__(
        self,
        store: TokenStore,
        keyring: Keyring,
        *,
        namespace: str,
        longest_fetch: float,
        policy: RefreshPolicy,
        clock: Clock,
        emit: Callable[[Event], None],
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
        self._store = GuardedStore(store, clock, emit, probe_key=f"{namespace}:probe")
        self._keyring = keyring
        self._namespace = namespace
        self.lease_ttl: float = longest_fetch + _MARGIN
        self.policy = policy
        self.clock = clock
        self.emit = emit
        #: Whether what the service says of the credential holds for all who share the records.
        self.one_credential: bool = keyring.is_derived
        self._closed = False
        make_new_in_child(self)
        self.after_fork()

    def after_fork(self) -> None:
        """Makes anew what waits stand on: another thread of the parent may have held its lock."""
        self._closing = threading.Event()
        if self._closed:
            self._closing.set()

    def of(self, key: TokenKey) -> SharedToken:
        """Gives a key's part in it."""
        return SharedToken(self, key)

    def places_of(self, key: TokenKey, described: str, *, anew: bool) -> list[Place]:
        """Gives where a key's record may lie: one place for each sealing key, the first to write.

        Args:
            key: The key.
            described: All of it, as text.
            anew: Whether to read the credential again that the sealing key is derived from.
        """

        def refuse(reason: str) -> None:
            self.emit(RecordRefused(self.clock.wall(), key, reason))

        return [
            Place(self._store, sealing, self._namespace, described, refuse)
            for sealing in self._keyring.sealing_keys(anew=anew)
        ]

    def pause(self, seconds: float) -> None:
        """Waits between two looks.

        Raises:
            ConfigurationError: The registry was closed meanwhile.
        """
        if self._closing.wait(seconds):
            raise ConfigurationError("this registry is closed: make a new TokenRegistry")

    def close(self) -> None:
        """Ends every wait. The store is closed by whoever made it."""
        self._closed = True
        self._closing.set()


class SharedToken:
    """A key's part in the store: its record, and its lease."""

    def __init__(self, cache: SharedCache, key: TokenKey) -> None:
        self._cache = cache
        self._clock = cache.clock
        self._key = key
        self._described = json.dumps(astuple(key))
        #: What is to be taken out of the store, as soon as that can be had.
        self._dropped: deque[str] = deque(maxlen=_MOST_DROPPED)

    def look(self) -> Record | None:
        """Gives the record in the store; None when there is none that is valid."""
        with suppress(StoreAwayError):
            self._drop()
            return self._look(self._places())
        return None

    def drop(self, secret: str) -> None:
        """Takes a token out of the store, if it is the one that is there: now, or with a look."""
        self._dropped.append(secret)
        with suppress(StoreAwayError):
            self._drop()

    def obtain(self, ask: Callable[[], AccessToken], wanted: Wanted) -> tuple[Record, bool]:
        """Gives a token that another worker has fetched, or fetches one for all.

        Args:
            ask: Asks the service for one.
            wanted: What will do.

        Returns:
            The record, and whether it was fetched here.

        Raises:
            TokenManagerError: What ``ask`` raised, here or in the worker that was waited for.
        """
        places = self._places(anew=True)
        if not places:
            return self._fetch(ask, wanted.claims), True
        lease = places[0].lease(self._cache.lease_ttl, self._clock)
        try:
            found = self._find(places, lease, wanted)
            if found is not None:
                return found, False
            record = self._fetch(ask, wanted.claims)
            if not self._put(places[0], record):
                self._leave_word(lease, None, wanted)
            return record, True
        except Exception as exc:  # an interruption says nothing of the service: another may ask
            self._leave_word(lease, exc, wanted)
            raise
        finally:
            with suppress(StoreAwayError):
                lease.give_back()

    def _places(self, *, anew: bool = False) -> list[Place]:
        return self._cache.places_of(self._key, self._described, anew=anew)

    def _find(self, places: list[Place], lease: Lease, wanted: Wanted) -> Record | None:
        """Gives a record that will do; None when the lease is taken, or the store of no help."""
        with suppress(StoreAwayError):
            record = self._look(places)
            if wanted.new and record is not None:
                wanted.unlike.add(record.token.secret)
            give_up_at = self._clock.elapsed() + self._cache.policy.max_wait / 2
            while not self._will_do(record, wanted):
                if lease.taken:
                    return None
                if not lease.take():
                    word = places[0].word_of(lease.holder) if lease.holder else None
                    if word is not None:
                        self._heed(word, wanted)
                        return None
                    if not self._wait(lease, give_up_at):
                        return None
                record = self._look(places)
            return record
        return None

    def _wait(self, lease: Lease, give_up_at: float) -> bool:
        """Waits for the worker that has the lease; says whether to look again."""
        # One who is seen to have it for longer than it lasts is none who fetches.
        give_up_at = min(give_up_at, self._clock.elapsed() + lease.ttl + _MARGIN)
        first, pause = lease.holder, _FIRST_PAUSE
        while self._clock.elapsed() < give_up_at:
            # Also where nobody is seen to have it, though it was refused: the store may be broken.
            self._cache.pause(pause * random.uniform(0.5, 1.0))  # noqa: S311 - spreads the looks
            pause = min(pause * _LONGER, _LONGEST_PAUSE)
            if lease.look() is None or lease.holder != first:
                return True
        self._cache.emit(LeaseOutlived(self._clock.wall(), self._key))
        return False

    def _heed(self, word: Failure, wanted: Wanted) -> None:
        """Raises what the service answered; what only that worker met stops nobody else.

        Raises:
            TokenManagerError: What holds for this worker too.
        """
        throttled = isinstance(word.error, ThrottledError)
        if word.error is None or (word.asked_claims != wanted.claims and not throttled):
            return
        asked = word.error.retry_after
        if asked is not None:
            word.error.retry_after = max(0.0, asked - max(0.0, self._clock.wall() - word.at))
        raise word.error

    def _drop(self) -> None:
        for secret in tuple(self._dropped):
            for place in self._places():
                place.remove(secret)
            with suppress(ValueError):  # another thread was faster
                self._dropped.remove(secret)

    def _look(self, places: list[Place]) -> Record | None:
        for place in places:
            record = place.read()
            if record is not None and self._is_valid(record):
                return record
        return None

    def _is_valid(self, record: Record) -> bool:
        """Whether it may be handed out, as far as this machine's clock can say."""
        now, ends = self._clock.wall(), record.token.expires_at
        skew = min(self._cache.policy.skew, (ends - record.obtained_at) / 4)
        return now < ends - skew and record.obtained_at < now + _CLOCKS_APART

    def _will_do(self, record: Record | None, wanted: Wanted) -> bool:
        if record is None or record.token.secret in wanted.unlike:
            return False
        if wanted.claims is not None:
            return record.claims == wanted.claims
        due = record.token.refresh_at
        return not wanted.fresh or due is None or self._clock.wall() < due

    def _fetch(self, ask: Callable[[], AccessToken], claims: str | None) -> Record:
        now = self._clock.wall()
        token = ask()
        refresh_in = None if token.refresh_at is None else token.refresh_at - now
        # For everybody alike; whoever takes it adds a jitter of their own.
        due = self._cache.policy.hold(
            now, token.expires_at - now, refresh_in=refresh_in, chance=0.0
        ).fresh_until
        return Record(replace(token, refresh_at=due), now, claims)

    def _put(self, place: Place, record: Record) -> bool:
        # Where the clock was set during the fetch, the two disagree, and the shorter is safe.
        ends = record.token.expires_at
        ttl = min(ends - self._clock.wall(), ends - record.obtained_at)
        with suppress(StoreAwayError):
            if ttl > 0:
                place.write(record, ttl)
            return True
        return False

    def _leave_word(self, lease: Lease, error: Exception | None, wanted: Wanted) -> None:
        """Tells those who wait for the lease why there is nothing."""
        answer = error if self._is_answer(error) else None
        asked = 0.0 if answer is None else answer.retry_after or 0.0
        stands = max(_WORD, min(asked, self._cache.policy.retry_after_cap))
        word = Failure(answer, self._clock.wall(), wanted.claims)
        with suppress(StoreAwayError):
            lease.leave_word(word, stands)

    def _is_answer(self, error: Exception | None) -> TypeGuard[TokenManagerError]:
        """Whether the service said it, and would say it to every worker."""
        if isinstance(error, InvalidCredentialError):  # theirs may be a newer one
            return self._cache.one_credential
        if not isinstance(error, TokenManagerError):
            return False
        # A 503 is the service's word; a connection that fails may be this host's own trouble.
        return isinstance(error, ThrottledError) or bool(error.error or error.status)
