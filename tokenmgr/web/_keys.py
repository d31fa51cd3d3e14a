"""The authority's keys: asked for once by all threads and event loops together, and kept.

Whoever needs a key finds it in one attribute. Where it is not there, or too old, there is one
flight that everybody waits for, each with a deadline of its own; a worker fetches. A key that
nobody has heard of has the authority be asked once a minute at most, whoever shows it, and however
often. While the authority is away, the keys that it had last are its keys.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

from .._context import Context
from .._engine.flight import Flight, again, bare, set_off
from .._runtime.backoff import Backoff
from .._runtime.forks import renew_in_child, renew_where_patched
from .._runtime.stack import handled_now, interruption_in, is_logging, let_interruptions_pass
from ..entra.signing_keys import Metadata, older_issuers, read_keys, read_metadata
from ..entra.wire.exchange import Exchange
from ..errors import (
    AuthorityError,
    ServiceUnavailableError,
    ThrottledError,
    TokenManagerError,
)
from ..identity.authority import Authority
from ._jwt import VerifyingKey, keys_of

__all__ = ["Keys", "Known"]

_logger = logging.getLogger("tokenmgr")

#: Seconds: how old keys are when they are asked for behind the callers' backs, and when callers
#: wait for that; and how long a key that is not known is none.
_AGING, _OLD, _PAUSE = 43_200.0, 86_400.0, 60.0
#: Seconds from one attempt to the next, where there are no keys at all: no caller is served then.
_FIRST, _LONGEST, _LONGEST_ASKED = 1.0, 12.0, 300.0
#: Seconds after which a worker that should have ended is given up.
_GRACE = 5.0


class Known(NamedTuple):
    """What is known of an authority."""

    metadata: Metadata
    #: By their names; None is that of one without.
    keys: Mapping[str | None, VerifyingKey]
    #: When the metadata and the keys were asked for, on the elapsed clock.
    asked_at: float
    read_at: float
    #: Who issues the tokens of version 1.0; None until somebody has asked.
    older: tuple[str, ...] | None = None


class Keys:
    """The keys of one authority.

    Args:
        authority: Whose.
        asking: Opens the requests of one fetch.
        context: The time, and the threads that fetch.
    """

    def __init__(
        self,
        authority: Authority,
        asking: Callable[[], Exchange],
        context: Context,
    ) -> None:
        self._authority = authority
        self._asking = asking
        self._context = context
        #: What was heard last; it is replaced as a whole.
        self.known: Known | None = None
        #: Why the last attempt failed, as long as it is the last.
        self._error: TokenManagerError | None = None
        self._backoff = Backoff(_FIRST, _LONGEST, least=0.5, longest_asked=_LONGEST_ASKED)
        renew_in_child(self._start_anew)

    def _start_anew(self) -> None:
        """Starts without a flight in the child; what is known is known there too."""
        #: Guards what is known, and the flight; never held while anything waits.
        self._lock = threading.RLock()
        self._flight: Flight[None] | None = None
        #: When keys may be asked for again, and the issuers of version 1.0.
        self._next_at: float = float("-inf")
        self._older_at: float = float("-inf")

    def ask(self, name: str | None, *, older: bool = False) -> Flight[None] | None:
        """Sees to it that a key is known, if it can be.

        Args:
            name: The key's.
            older: Whether the issuers of version 1.0 are needed.

        Returns:
            What is to be waited for; None where what is known is all that there is for now.

        Raises:
            TokenManagerError: Nothing is known, as the authority has just failed to tell.
        """
        known = self.known
        there = known is not None and name in known.keys and not (older and known.older is None)
        if there and known is not None and self._context.clock.elapsed() < known.read_at + _AGING:
            return None
        renew_where_patched()
        mine = Flight[None](0.0)
        try:
            with self._lock:
                flight, waits = self._decide(name, mine, older=older)
            if flight is mine:
                lead = partial(self._lead, mine, older=older and self.known is not None)
                set_off(mine, self._context.workers, lead)
        except BaseException:  # interrupted, perhaps: there is no flight that nobody leads
            self._lose(mine)
            raise
        return flight if waits else None

    # With the lock held:

    def _decide(
        self, name: str | None, mine: Flight[None], *, older: bool
    ) -> tuple[Flight[None] | None, bool]:
        """Gives the flight that is under way, or was just begun, and whether it is waited for."""
        now, known = self._context.clock.elapsed(), self.known
        lacks_older = known is not None and older and known.older is None
        missing = known is None or name not in known.keys or lacks_older
        age = 0.0 if known is None else now - known.read_at
        if not missing and age < _AGING:
            return None, False  # somebody has just brought it
        flight = self._under_way(now)
        if flight is None:
            if now < (self._older_at if lacks_older else self._next_at):
                if known is None and self._error is not None:
                    raise again(self._error)
                return None, False
            self._begin(mine, now, lacks_older=lacks_older)
            flight = mine
        # Whoever has a key that will do does not wait for an authority that has just failed.
        return flight, known is None or ((missing or age >= _OLD) and self._error is None)

    def _under_way(self, now: float) -> Flight[None] | None:
        flight = self._flight
        if flight is not None and now - flight.started_at >= self._context.fetch_timeout + _GRACE:
            self._give_up(flight)  # its worker has ended without a word
        return self._flight

    def _begin(self, flight: Flight[None], now: float, *, lacks_older: bool) -> None:
        flight.started_at, flight.starter = now, threading.get_ident()
        self._flight = flight
        if lacks_older:
            self._older_at = now + _PAUSE
        else:
            self._next_at = now + _PAUSE

    def _give_up(self, flight: Flight[None]) -> None:
        """Lets whoever asks next begin another, if nothing has come of this one."""
        if self._flight is flight:
            self._next_at = self._older_at = float("-inf")
        self._forget(flight)

    def _forget(self, flight: Flight[None]) -> None:
        if self._flight is flight:
            self._flight = None

    # Without it:

    def _lead(self, flight: Flight[None], *, older: bool) -> None:
        flight.begin()
        handled = handled_now()
        error: TokenManagerError | None = None
        try:
            known = self._read(older=older)
        except TokenManagerError as exc:
            error = exc
        except BaseException as exc:
            if interruption_in(exc, handled) is not None or not isinstance(exc, Exception):
                self._lose(flight)
                let_interruptions_pass(exc, handled)
                raise
            error = AuthorityError(
                f"what {self._authority.host} publishes makes no sense ({type(exc).__name__}): "
                "check the authority's address"
            )
        if error is None:
            self._land(flight, known)
        else:
            self._fail(flight, bare(_as_failure(error)), older=older)

    def _read(self, *, older: bool) -> Known:
        """Asks the authority for what is missing, within the time of one fetch."""
        clock, known, authority = self._context.clock, self.known, self._authority
        now, exchange = clock.elapsed(), self._asking()
        if known is not None and older:
            return known._replace(older=older_issuers(exchange, authority))
        if known is None or now - known.asked_at >= _OLD:
            metadata, asked_at = read_metadata(exchange, authority), now
        else:
            metadata, asked_at = known.metadata, known.asked_at
        keys = keys_of(metadata, read_keys(exchange, metadata))
        return Known(metadata, keys, asked_at, now, None if known is None else known.older)

    def _land(self, flight: Flight[None], known: Known) -> None:
        with self._lock:
            if self.known is None or known.read_at >= self.known.read_at:
                self.known = known
            self._error = None
            self._backoff.clear()
            self._forget(flight)
        flight.land(None)

    def _fail(self, flight: Flight[None], error: TokenManagerError, *, older: bool) -> None:
        with self._lock:
            now = self._context.clock.elapsed()
            seconds = self._backoff.fail(now, asked=error.retry_after)
            if older:
                self._older_at = now + seconds
            else:
                self._error = error
                self._next_at = now + (seconds if self.known is None else max(seconds, _PAUSE))
            self._forget(flight)
        self._log(error, seconds)
        flight.land(None)  # whoever waits looks for itself

    def _log(self, error: TokenManagerError, seconds: float) -> None:
        """Tells the log why, as no caller is told. Once for each attempt, whoever calls."""
        if is_logging():
            return
        _logger.warning(
            "no new keys of %s, by which callers' tokens are judged: %s: %s (%s; asked again in "
            "%.0f s at the earliest)",
            self._authority.host,
            type(error).__name__,
            error,
            "no token can be accepted" if self.known is None else "those that it had serve",
            seconds,
        )

    def _lose(self, flight: Flight[None]) -> None:
        """Ends a flight of which nothing comes."""
        with self._lock:
            self._give_up(flight)
        flight.land(None)


def _as_failure(error: TokenManagerError) -> TokenManagerError:
    if not isinstance(error, ThrottledError):
        return error
    return ServiceUnavailableError(
        "the authority is asked for its keys too often, and says when to come back",
        retry_after=error.retry_after,
        status=error.status,
    )
