"""One cache for all workers: who of them fetches a token, and who waits for it.

A token's record lies in the store, sealed, and while a worker fetches, that worker's lease lies
beside it. Nothing here fails a call: what does not open is a miss, and without the store every
worker fetches for itself.

::

    look ── found ─────────────────────────────────────────────────► done
      │
    lease ── granted ── look again ── ask ── put ── give it back ──► done
      │                                └── fails: leave a verdict in the lease's place
      └── not granted: wait until the lease is gone or there is a verdict, and look again
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field

from ..errors import ConfigurationError, InvalidCredentialError, ThrottledError, TokenManagerError
from ..events import LeaseOutlived
from ..identity.proofs import Proof
from ..policy import new_record
from ..token import AccessToken, Record, TokenKey
from .guarded import StoreAwayError
from .record import Verdict
from .slot import Lease, SealedStore, Slot

__all__ = ["SharedToken", "Wanted"]

#: Seconds between two looks at a lease: at first, at most, and how many times as long each time.
_FIRST_PAUSE, _LONGEST_PAUSE, _LONGER = 0.02, 0.25, 1.5
#: Seconds for which one who has a lease is waited for beyond its end: who is seen to have it for
#: longer than it lasts is none who fetches.
_MARGIN = 2.0
#: So many leases are waited for: one, and another one where the first was seen to end, as its
#: holder has died.
_MOST_LEASES = 2
#: Seconds for which a verdict stands: by then all who wait have looked.
_VERDICT_TTL = 2.0

#: The HTTP statuses of a service that fails begin here.
_FAILING = 500
#: What was fetched later than so many seconds from now tells of clocks that are too far apart for
#: anybody to say when it expires.
_CLOCKS_APART = 60.0


@dataclass
class Wanted:
    """Which of the records that other workers leave will do."""

    #: The secrets that will not: the one in hand, and what was refused.
    unlike: set[str] = field(repr=False)
    #: What was fetched before this will not, in seconds since 1970: the one in hand is newer.
    after: float = 0.0
    #: Whether one that is due for renewal will not: there is a valid one in hand.
    fresh: bool = False
    #: Whether one that was there before the search began will not.
    new: bool = False


class SharedToken:
    """The token of a key, as all workers share it.

    ``read_proof`` reads what proves who the app is, once for each fetch; it is None where the
    source has nothing of the kind. ``slot`` is where it lies, where that is not the key's alone.
    """

    def __init__(
        self,
        sealed: SealedStore,
        key: TokenKey,
        read_proof: Callable[[], Proof] | None = None,
        *,
        slot: Slot | None = None,
    ) -> None:
        self._sealed = sealed
        self._context = sealed.context
        self._key = key
        self._slot = slot or Slot(sealed, key)
        self._read_proof = read_proof

    @property
    def longest_search(self) -> float:
        """Seconds that :meth:`obtain` may take beyond what it takes to ask."""
        return _MOST_LEASES * (self._sealed.lease_ttl + _MARGIN)

    def look(self, refused: Collection[str]) -> Record | None:
        """Gives the record in the store; None when there is none that is valid.

        Args:
            refused: The secrets that a resource refused. One that lies there still, since the
                store was away when it was dropped, is taken out now.
        """
        with suppress(StoreAwayError):
            record = self._slot.read(self._is_valid)
            if record is None or record.token.secret not in refused:
                return record
            self._slot.remove(record.token.secret)
        return None

    def drop(self, secret: str) -> None:
        """Takes a token out of the store, if it is the one that is there."""
        with suppress(StoreAwayError):
            self._slot.remove(secret)

    def obtain(
        self, ask: Callable[..., AccessToken], wanted: Wanted
    ) -> tuple[Record, float | None]:
        """Gives a token that another worker has fetched, or fetches one for all.

        Args:
            ask: Asks the service for one, with ``proof=`` where one was read.
            wanted: What will do.

        Returns:
            The record, and when the service was asked for it, on the elapsed clock; None where
            another worker has fetched it.

        Raises:
            TokenManagerError: What ``ask`` raised, here or in the worker that was waited for.
        """
        proof, found = self._proof(), None
        lease = self._slot.lease() if self._slot.opens_with(proof) else None
        try:
            if lease is not None:
                with suppress(StoreAwayError):  # it is of no help: this worker asks for itself
                    found = self._search(lease, wanted)
            if found is not None:
                return found, None
            asked_at, wall = self._context.clock.elapsed(), self._context.clock.wall()
            token = ask() if proof is None else ask(proof=proof)
            record = new_record(token, wall, self._context.policy)
            if lease is not None and not self._put(record):
                self._leave_verdict(lease, None)
            return record, asked_at
        except Exception as exc:  # an interruption says nothing of the service: another may ask
            if lease is not None:
                self._leave_verdict(lease, exc)
            raise
        finally:
            if lease is not None:
                lease.give_back()

    def _proof(self) -> Proof | None:
        if self._read_proof is None:
            return None
        try:
            return self._read_proof()
        except TokenManagerError:
            if not self._sealed.keys.of(None):
                raise  # without a key there is nothing to look for
            return None  # another worker's token does without it; if there is none, asking says so

    def _search(self, lease: Lease, wanted: Wanted) -> Record | None:
        """Gives a record that will do; None when the lease is ours.

        Raises:
            StoreAwayError: Neither is to be had.
            TokenManagerError: Another worker's verdict, which holds for this one too.
        """
        record = self._slot.read(self._is_valid)
        if wanted.new and record is not None:
            wanted.unlike.add(record.token.secret)
            wanted.after = max(wanted.after, record.obtained_at)
        # All leases that are waited for in this search share what is left of it.
        leases, give_up_at = 1, self._give_up_at(lease)
        while not self._will_do(record, wanted):
            if lease.taken:
                return None
            if not lease.take():
                self._raise_verdict(lease)
                if self._wait(lease, give_up_at) and leases < _MOST_LEASES:
                    leases, give_up_at = leases + 1, self._give_up_at(lease)
            record = self._slot.read(self._is_valid)
        return record

    def _give_up_at(self, lease: Lease) -> float:
        return self._context.clock.elapsed() + lease.ttl + _MARGIN

    def _wait(self, lease: Lease, give_up_at: float) -> bool:
        """Waits until the worker that has the lease has it no more.

        Returns:
            Whether it was seen to end, and not to pass to another in its time.

        Raises:
            StoreAwayError: It outlives itself, or has passed to others for too long.
        """
        clock, holder, pause = self._context.clock, lease.holder, _FIRST_PAUSE
        began = clock.elapsed()
        while clock.elapsed() < give_up_at:
            # Also where nobody is seen to have it, though it was refused: the store may be broken.
            time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - spreads the looks
            if self._sealed.closed:
                raise ConfigurationError("this registry is closed: make a new TokenRegistry")
            pause = min(pause * _LONGER, _LONGEST_PAUSE)
            if lease.look() is None or lease.holder != holder:
                # Who had it for longer than it lasts had died, and another one may have it already.
                ended = lease.holder is None or clock.elapsed() - began >= lease.ttl
                return ended and holder is not None
        self._context.emit(LeaseOutlived(clock.wall(), self._key))
        # Whoever has it for longer than it lasts is none who fetches, and keeps nobody else.
        if clock.elapsed() - began >= lease.ttl and lease.clear():
            return True
        raise StoreAwayError

    def _raise_verdict(self, lease: Lease) -> None:
        """Raises what the service answered; what only that worker met has each ask for itself."""
        if not lease.is_over:
            return
        verdict, now = lease.verdict(), self._context.clock.wall()
        if verdict is None or not self._counts(verdict, now):
            # Junk, or an old one that somebody has kept or put back: nobody fetches there.
            if not lease.clear():
                raise StoreAwayError
            return
        error = verdict.error
        if error is None:
            raise StoreAwayError
        if error.retry_after is not None:
            error.retry_after = max(0.0, error.retry_after - max(0.0, now - verdict.at))
        raise error

    def _counts(self, verdict: Verdict, now: float) -> bool:
        """Whether a verdict counts: as long as it says, and no longer than any would be left."""
        longest = self._counts_for(verdict.error) + self._context.policy.skew  # of clocks ahead
        return 0 < verdict.until - now <= longest

    def _counts_for(self, error: TokenManagerError | None) -> float:
        """Seconds for which a verdict counts."""
        asked = 0.0 if error is None else error.retry_after or 0.0
        return max(_VERDICT_TTL, min(asked, self._context.policy.retry_after_cap))

    def _is_valid(self, record: Record) -> bool:
        """Whether it may be handed out, as far as this machine's clock can say."""
        now, ends = self._context.clock.wall(), record.token.expires_at
        skew = min(self._context.policy.skew, (ends - record.obtained_at) / 4)
        return now < ends - skew and record.obtained_at < now + _CLOCKS_APART

    def _will_do(self, record: Record | None, wanted: Wanted) -> bool:
        if record is None or record.token.secret in wanted.unlike:
            return False
        if record.obtained_at < wanted.after:
            return False
        due = record.token.refresh_at
        return not wanted.fresh or due is None or self._context.clock.wall() < due

    def _put(self, record: Record, slot: Slot | None = None) -> bool:
        # Where the clock was set during the fetch, the two disagree, and the shorter is safe.
        ends = record.token.expires_at
        ttl = min(ends - self._context.clock.wall(), ends - record.obtained_at)
        with suppress(StoreAwayError):
            if ttl > 0:
                (slot or self._slot).write(record, ttl)
            return True
        return False

    def _leave_verdict(self, lease: Lease, error: Exception | None) -> None:
        """Tells those who wait for the lease why there is nothing."""
        answer, now = self._answer(error), self._context.clock.wall()
        with suppress(StoreAwayError):
            lease.leave(Verdict(answer, now, now + self._counts_for(answer)))

    def _answer(self, error: Exception | None) -> TokenManagerError | None:
        """Gives an error if the service said it, and would say it to every worker."""
        if not isinstance(error, TokenManagerError):
            return None
        # A 503 is the service's word; a connection that fails, or what is no OAuth answer, may be
        # this host's own trouble.
        said = error.error or isinstance(error, ThrottledError) or (error.status or 0) >= _FAILING
        if isinstance(error, InvalidCredentialError):  # theirs may be a newer one
            said = self._sealed.keys.is_derived
        return error if said else None
