"""The token of a session and some scopes, as all workers share it.

It goes the way of every other token, with two differences. Before anything is taken from the store
the session is looked up there, and only what belongs to it counts. And nobody goes alone: who has
not the session's lease, which is one for all its scopes, redeems no refresh token.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Protocol, cast

from .._session import SessionRecord
from ..identity.proofs import Proof
from ..policy import new_record
from ..token import AccessToken, Record, TokenKey
from .fetch_once import SharedToken, Wanted
from .guarded import StoreAwayError
from .record import Verdict
from .session import SharedSession, away
from .slot import Lease, SealedStore, Slot, take_all

__all__ = ["SessionToken"]


class _Source(Protocol):
    """What knows whose tokens these are."""

    begins: str

    def read_proof(self) -> Proof: ...
    def admits(self, session: SessionRecord | None) -> bool: ...
    def check(self, session: SessionRecord | None) -> None: ...
    def took(self, session: SessionRecord | None) -> None: ...


class SessionToken(SharedToken):
    """The token of a session and some scopes, as all workers share it.

    Args:
        sealed: The store.
        session: The session.
        key: What is shared.
        source: Whose it is.
    """

    def __init__(
        self, sealed: SealedStore, session: SharedSession, key: TokenKey, source: _Source
    ) -> None:
        self._place = _SessionSlot(session, key, source)
        super().__init__(sealed, key, source.read_proof, slot=cast("Slot", self._place))
        self._session = session
        self._source = source

    def look(self, refused: Collection[str]) -> Record | None:
        """Does as :meth:`SharedToken.look`.

        Raises:
            TokenManagerError: The session has ended, or is another user's.
        """
        return super().look(refused)

    def obtain(
        self, ask: Callable[..., AccessToken], wanted: Wanted
    ) -> tuple[Record, float | None]:
        """Does as :meth:`SharedToken.obtain`; ``ask`` is given the turn too."""
        proof, lease = self._proof(), self._slot.lease()
        try:
            try:
                found = self._search(lease, wanted)
            except StoreAwayError:
                raise away() from None
            record, asked_at, session = found, None, self._place.whose
            if record is None:
                asked_at = self._context.clock.elapsed()
                record, session = self._fetch(ask, proof)
                self._put(record, self._place.slot_of(session, record))
            self._source.took(session)
            return record, asked_at
        except Exception as exc:
            self._leave_verdict(lease, exc)
            raise
        finally:
            lease.give_back()

    def _fetch(
        self, ask: Callable[..., AccessToken], proof: Proof | None
    ) -> tuple[Record, SessionRecord]:
        wall, turn = self._context.clock.wall(), self._session.turn(self._key)
        token = ask(turn=turn) if proof is None else ask(proof=proof, turn=turn)
        # Not what is known by now: who has looked in the middle of it knows of the last one.
        assert turn.kept is not None, "the source keeps it first"  # noqa: S101
        return new_record(token, wall, self._context.policy), turn.kept


class _SessionSlot:
    """What lies in the store for a session and some scopes, as far as the session is the one."""

    def __init__(self, session: SharedSession, key: TokenKey, source: _Source) -> None:
        self._session = session
        self._key = key
        self._source = source
        #: The place of the last session's token.
        self._last: tuple[str, Slot] | None = None
        #: The session whose token was found last.
        self.whose: SessionRecord | None = None
        #: The last token that was found there, or put.
        self._in_hand: tuple[str, Record] | None = None

    def read(self, serves: Callable[[Record], bool]) -> Record | None:
        """Gives the record; None when there is none that opens and serves.

        Raises:
            TokenManagerError: The session has ended, or is another user's.
        """
        try:
            session = self._session.look()
        except StoreAwayError:
            session = self._session.known
            if session is not None and self._source.admits(session) and self._in_hand is not None:
                epoch, record = self._in_hand
                if epoch == session.epoch and serves(record):
                    self.whose = session
                    return record
            raise
        self._source.check(session)
        if session is None or not self._source.admits(session):
            return None
        found = self._slot(session.epoch).read(serves)
        if found is not None:
            self.whose, self._in_hand = session, (session.epoch, found)
        return found

    def slot_of(self, session: SessionRecord, record: Record) -> Slot:
        """Gives where the token of a session lies, which has just been fetched."""
        self._in_hand = session.epoch, record
        return self._slot(session.epoch)

    def remove(self, secret: str) -> None:
        """Takes away the record of this token, where it is still the one that lies there."""
        if self._in_hand is not None and self._in_hand[1].token.secret == secret:
            self._in_hand = None
        session = self._session.known
        if session is not None:
            self._slot(session.epoch).remove(secret)

    def lease(self) -> _SessionLease:
        """Makes the right to redeem the session's refresh token, which is yet to be taken."""
        return _SessionLease(self._session.leases(), lambda: self._slot(self._tag()).lease())

    def _tag(self) -> str:
        """What failures are of: the session, or what is to begin one."""
        session = self._session.known
        admitted = session is not None and self._source.admits(session)
        return session.epoch if admitted and session is not None else self._source.begins

    def _slot(self, tag: str) -> Slot:
        last = self._last
        if last is None or last[0] != tag:
            last = self._last = tag, self._session.token_slot(self._key, tag)
        return last[1]


class _SessionLease:
    """The right to redeem a session's refresh token.

    It is taken for all scopes of the session. Why there was no token is left beside that token, as
    it says nothing of other scopes; ``place`` gives where.
    """

    def __init__(self, parts: list[Lease], place: Callable[[], Lease]) -> None:
        self._parts = parts
        self._place = place
        #: Where was looked last: whoever stands in the way is there.
        self._seen = parts[0]
        self._sees_verdict = False
        #: Seconds after which it ends by itself.
        self.ttl: float = parts[0].ttl
        #: Whether it has been taken.
        self.taken: bool = False

    @property
    def holder(self) -> bytes | None:
        """What stood in the way when it was last looked at; None when nothing did."""
        return self._seen.holder

    def take(self) -> bool:
        """Takes it if nobody has it, and no verdict stands; says whether it is ours."""
        self._seen, self._sees_verdict = self._place(), True
        if self._seen.look() is not None:
            return False
        self._sees_verdict = False
        self.taken = take_all(self._parts)
        if not self.taken:
            self._seen = next((each for each in self._parts if each.holder), self._parts[0])
        return self.taken

    def look(self) -> bytes | None:
        """Looks what stands in the way; None when nothing does."""
        return self._seen.look()

    @property
    def is_over(self) -> bool:
        """Whether it was no lease that was seen, but a verdict."""
        return self._sees_verdict and self._seen.is_over

    def verdict(self) -> Verdict | None:
        """Gives the verdict that was seen; None when there was none that opens."""
        return self._seen.verdict()

    def clear(self) -> bool:
        """Takes away what was seen; says whether it has gone."""
        return self._seen.clear()

    def leave(self, verdict: Verdict) -> None:
        """Leaves a verdict of the service's beside the token, if the lease has been taken."""
        if verdict.error is not None and self.taken and all(each.is_sure for each in self._parts):
            self._place().put(verdict)

    def give_back(self) -> None:
        """Gives it back, if it is ours, or may be."""
        self.taken = False
        for part in self._parts:
            part.give_back()
