"""A session as all workers share it: one record, one refresh token, one worker at a time.

The record lies in the store under explicit keys, sealed, and says there whose it is. Whoever
redeems its refresh token has the session's lease, and puts the next one in its place before anybody
is given the access token that came along, and before the lease goes. Of two records the newer one
counts: a worker that knows of a newer one than the store has takes no older one from it.
"""

from __future__ import annotations

import json
import secrets
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from .._runtime.forks import renew_in_child
from .._runtime.secrecy import Hidden
from .._session import SessionRecord, SignedIn
from ..errors import InteractionRequiredError, StoreError, TokenManagerError
from ..token import TokenKey
from .guarded import StoreAwayError
from .record import binding_of
from .session_place import SessionPlace
from .session_record import newest_of, with_held
from .slot import Lease, SealedStore, Slot, take_all

__all__ = ["SharedSession", "away"]

#: Seconds before each attempt to write what has taken a redeemed refresh token's place.
_PAUSES = (0.0, 0.1, 0.3, 0.5)
#: So many of a user's assertions are remembered to have begun a session.
_MOST_ASSERTIONS = 8
_EPOCH_BYTES = 16
#: Seconds that the end of a session waits beyond the lease of whoever redeems its refresh token.
_MARGIN = 2.0
_PAUSE = 0.02


def away() -> StoreError:
    """Says that a session cannot go on now."""
    return StoreError(
        "the session's refresh token lies in the store, which cannot be used now, or another "
        "worker redeems it for too long: ask again later, and see the event StoreFailed",
        retryable=True,
    )


def _ended_meanwhile() -> InteractionRequiredError:
    return InteractionRequiredError(
        "the session was ended, or begun anew, while its refresh token was redeemed: look it up "
        "again, or have the user sign in, and begin it again"
    )


def _stand(record: SessionRecord | None) -> tuple[str, int] | None:
    return None if record is None else (record.epoch, record.serial)


class SharedSession:
    """A session, as all workers share it.

    Args:
        sealed: The store.
        key: What stands for it in events.
        described: What names it, and is written in its record: the session, the app, the authority.
        ttl: Seconds after which it ends without use.
        advice: How it is begun again, for messages.
    """

    def __init__(
        self, sealed: SealedStore, key: TokenKey, described: Hidden, ttl: float, advice: str
    ) -> None:
        self._sealed = sealed
        self._context = sealed.context
        #: What names it.
        self.name: Hidden = described
        self._key = key
        self._place = SessionPlace(sealed, key, described.cell_contents)
        self._ttl = ttl
        self.advice: str = advice
        #: The newest that this process knows.
        self.known: SessionRecord | None = None
        #: Makes what is said of its end, where its refresh token was refused here.
        self.because: Callable[[], TokenManagerError] | None = None
        #: Whether the program has ended it here; one that is begun anew is another object.
        self.is_over: bool = False
        #: What hands out its tokens in this process.
        self.cells: weakref.WeakSet[Any] = weakref.WeakSet()
        renew_in_child(self._start_anew)

    def _start_anew(self) -> None:
        """Makes its lock anew."""
        #: Guards the fields above; nothing is read or written under it.
        self._lock = threading.RLock()
        #: What is known, as long as it is being written; nobody goes on with that in a child.
        self._unwritten: SessionRecord | None = None

    def look(self) -> SessionRecord | None:
        """Gives the session as it stands; None where there is none.

        Raises:
            StoreAwayError: The store cannot say.
        """
        while True:
            before = _stand(self.known)
            found = self._place.read()
            with self._lock:
                # Else another thread has begun it or carried it on since, and what was read is old.
                if _stand(self.known) == before:
                    newest, put_back = self._take_in(found)
                    break
        if put_back:
            self._place.refuse("older than the one that is known")
        return newest

    def _take_in(self, found: SessionRecord | None) -> tuple[SessionRecord | None, bool]:
        """Takes in what was read, with the lock; says whether an older record was put back."""
        if self._unwritten is not None and self.known is self._unwritten:
            return self.known, False  # it is yet to take the place of what was read
        newest = None
        if found is not None and not self.is_over:
            newest = newest_of(self.known, found)
        put_back = newest is not None and newest is not found
        if newest is not None and newest.ends_at <= self._context.clock.wall():
            newest = None
        self.known, self.because = newest, None if newest else self.because
        return newest, put_back

    def token_slot(self, key: TokenKey, tag: str) -> Slot:
        """Gives the place of an access token.

        Args:
            key: Its key.
            tag: The session that it is of, or the assertion that is to begin one.
        """
        asked = [key.scopes, key.claims, key.cae, key.forwarded_claims, key.extra]
        asked += binding_of(key)
        return Slot(self._sealed, key, json.dumps([self.name.cell_contents, tag, *asked]))

    def leases(self) -> list[Lease]:
        """Makes the right to redeem its refresh token, which is yet to be taken: all of these."""
        return self._place.leases()

    def turn(self, key: TokenKey) -> _Turn:
        """Begins a turn of whoever has the leases."""
        return _Turn(self, key)

    def keep(self, record: SessionRecord, before: SessionRecord | None) -> SessionRecord:
        """Keeps the session as it stands now; gives the one that counts.

        Args:
            record: The session.
            before: What it takes the place of.

        Raises:
            InteractionRequiredError: It was ended meanwhile.
        """
        # Here first, before anything can come in between: nobody else has it.
        self._unwritten = record
        try:
            self._know(record)
            return self._put(record, before)
        finally:
            self._unwritten = None

    def _put(self, record: SessionRecord, before: SessionRecord | None) -> SessionRecord:
        with suppress(StoreAwayError):
            newest = self._place.read()
            if before is not None and record.epoch == before.epoch:
                # A lease that has ended, as when the machine slept, keeps nobody from going on.
                newest = None if newest is None else newest_of(before, newest)
                if newest is None or newest.epoch != before.epoch:
                    self._know(newest)
                    raise _ended_meanwhile()
                if newest.serial > before.serial:
                    self._know(newest)
                    return newest
        # What cannot be written is known here for as long as the process lives: the next turn does.
        self._write(record)
        return record

    def _know(self, record: SessionRecord | None) -> None:
        with self._lock:
            if self.is_over:
                raise _ended_meanwhile()
            self.known, self.because = record, None

    def _write(self, record: SessionRecord) -> None:
        for pause in _PAUSES:
            time.sleep(pause)
            with suppress(StoreAwayError):
                self._place.write(record, record.ends_at - self._context.clock.wall())
                return

    def take_over(self, record: SessionRecord) -> None:
        """Takes the access tokens away of the session whose name another one has now."""
        for cell in list(self.cells):
            cell.doubt()
        with suppress(StoreAwayError):
            self._erase_tokens(record)

    def erase(self, record: SessionRecord, because: Callable[[], TokenManagerError]) -> None:
        """Erases a session whose refresh token is refused, if it is still that one."""
        self.because = because  # first: another thread may notice its end before this one goes on
        with suppress(StoreAwayError):
            found = self._place.read()
            if found is not None and (found.epoch, found.serial) == (record.epoch, record.serial):
                self._place.erase()
                self._erase_tokens(record)
        with self._lock:
            if self.known is not None and self.known.epoch == record.epoch:
                self.known = None

    def end(self) -> None:
        """Ends it, and erases it here and in the store.

        Raises:
            StoreError: It is erased here, and may lie in the store still.
        """
        with self._lock:
            self.is_over, known, self.known = True, self.known, None
        try:
            self._erase_all(known)
            leases = self.leases()
            give_up_at = time.monotonic() + leases[0].ttl + _MARGIN
            try:
                # Whoever redeems it now notices, or has put back by then what is erased again.
                while not take_all(leases) and time.monotonic() < give_up_at:
                    time.sleep(_PAUSE)
                self._erase_all(known)
            finally:
                for lease in leases:
                    lease.give_back()
        except StoreAwayError:
            raise StoreError(
                "the session is ended in this process, but may lie in the store still, which "
                "cannot be used now: end it again later, and see the event StoreFailed",
                retryable=True,
            ) from None

    def _erase_all(self, known: SessionRecord | None) -> None:
        found = self._place.read()
        self._place.erase()
        for record in (found, known):
            if record is not None:
                self._erase_tokens(record)

    def _erase_tokens(self, record: SessionRecord) -> None:
        for scopes, claims in record.held:
            key = self._key._replace(scopes=scopes, claims=claims)
            self.token_slot(key, record.epoch).erase()

    def begin_unless_there(self, signed_in: SignedIn, *, called: str, user: str) -> None:
        """Keeps a session that has begun elsewhere, where there is none.

        Args:
            signed_in: What carries it on, and whose it is.
            called: What began it.
            user: Whose it is, as a digest.

        Raises:
            StoreAwayError: The store cannot keep it, or say whether there is one.
        """
        leases = self.leases()
        give_up_at = time.monotonic() + leases[0].ttl + _MARGIN
        try:
            while self.look() is None:
                if take_all(leases):
                    if self.look() is None:
                        record = self.begun(None, None, signed_in, called=called, user=user)
                        self._know(record)
                        self._place.write(record, self._ttl)
                    return
                if time.monotonic() >= give_up_at:
                    raise StoreAwayError
                time.sleep(_PAUSE)
        finally:
            for lease in leases:
                lease.give_back()

    def begun(
        self, before: SessionRecord | None, key: TokenKey | None, signed_in: SignedIn, **whose: str
    ) -> SessionRecord:
        """Makes the record of a session that has just begun."""
        now, called, user = self._context.clock.wall(), whose["called"], whose["user"]
        others = before.assertions if before is not None and before.user == user else ()
        # Without a refresh token there will be no other token.
        lasts = bool(signed_in.refresh_token.cell_contents)
        ends_at = now + self._ttl
        return SessionRecord(
            refresh_token=signed_in.refresh_token,
            user=user,
            authority=signed_in.authority,
            epoch=secrets.token_urlsafe(_EPOCH_BYTES),
            serial=0,
            begun_at=now,
            ends_at=ends_at if lasts else min(ends_at, signed_in.token.expires_at),
            assertions=(called, *(each for each in others if each != called))[:_MOST_ASSERTIONS],
            held=() if key is None else with_held((), key),
            account=signed_in.account.bounded(),
        )

    def carried_on(self, before: SessionRecord, key: TokenKey, token: Hidden) -> SessionRecord:
        """Makes the record that takes another one's place, as that one's token was redeemed."""
        return before._replace(
            refresh_token=token,
            serial=before.serial + 1,
            ends_at=self._context.clock.wall() + self._ttl,
            held=with_held(before.held, key),
        )


class _Turn:
    """The turn of whoever has a session's leases."""

    def __init__(self, session: SharedSession, key: TokenKey) -> None:
        self._session = session
        self._key = key
        self.before: SessionRecord | None = session.known
        #: What it has kept.
        self.kept: SessionRecord | None = None

    def begin(self, signed_in: SignedIn, *, called: str, user: str) -> float:
        record = self._session.begun(self.before, self._key, signed_in, called=called, user=user)
        self.kept = kept = self._session.keep(record, self.before)
        if self.before is not None:
            self._session.take_over(self.before)
        return kept.ends_at

    def carry_on(self, refresh_token: Hidden) -> float:
        assert self.before is not None, "there is a session"  # noqa: S101
        record = self._session.carried_on(self.before, self._key, refresh_token)
        self.kept = kept = self._session.keep(record, self.before)
        return kept.ends_at

    def end(self, because: Callable[[], TokenManagerError]) -> None:
        assert self.before is not None, "there is a session"  # noqa: S101
        self._session.erase(self.before, because)
        self.before = None
