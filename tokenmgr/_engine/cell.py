"""A cell keeps the token of one key fresh: callers ask it, and it has workers fetch.

Callers come through :meth:`Cell.request`, and get the current token, or the key's one flight to
wait for. The refresher comes back when the token ages.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import NamedTuple

from .. import events
from .._runtime.forks import renew_where_patched
from ..errors import TokenManagerError, TokenRequestError
from ..policy import Action, decide
from .current import NOTHING, Current
from .fetch import Fetch, Look
from .flight import Flight, set_off
from .state import EARLIER, GRACE, LATELY, UNUSED, State

__all__ = ["LATELY", "Cell", "Request"]

#: Seconds between two looks whether what a failure came from is gone.
_SOURCE_EVERY = 1.0


class Request(NamedTuple):
    """What a call asks for."""

    #: Seconds of validity; None when any will do.
    min_ttl: float | None = None
    #: Whether only a token will do that is fetched now.
    renew: bool = False


class _Answer(NamedTuple):
    """What comes of a request."""

    #: The token in hand.
    current: Current
    #: What is under way, and whether it is to be waited for.
    flight: Flight[Current] | None = None
    waits: bool = False
    #: Why the token in hand does not do.
    reason: str = ""
    failure: TokenManagerError | None = None
    #: Whether the source has ended, and says so.
    ended: bool = False
    #: Whether what is under way is a look whether the token in hand is the key's still.
    looks: bool = False


class Cell(State):
    """Keeps the token of one key."""

    used: int

    def for_claims(self, claims: str) -> Cell:
        """Makes the cell of the same token with claims, which has a key of its own."""
        key = self.key._replace(claims=claims)
        cell = Cell(
            self.source,
            key,
            self.context,
            self._sealed,
            self._own_failures(),
            on_news=self._tell_news,
        )
        cell._closed = self._closed
        return cell

    def request(self, request: Request, *, early: bool = False) -> Current | Flight[Current]:
        """Gives the token that serves a call, or the flight to wait for.

        Args:
            request: What the call asks for.
            early: Whether to ask although a failure stands, as what it came from is gone.

        Raises:
            TokenManagerError: The last failure, while it stands.
            ConfigurationError: It is closed.
        """
        renew_where_patched()
        mine, led = Flight[Current](0.0, renew=request.renew), True
        try:
            with self._lock:
                answer = self._answer(request, mine, early=early)
            if answer.ended:
                self.source.check()  # type: ignore[attr-defined] # what ends has it, and raises
                return self.request(request)  # or the clock was set back just now
            if answer.failure is not None:
                return self._ask_early(request, answer.failure)
            if answer.flight is mine:
                lead = Look(self, mine) if answer.looks else Fetch(self, mine, answer.reason)
                led = set_off(mine, self.context.workers, lead)
            elif answer.flight is not None and not answer.looks:
                self.tell(events.FlightJoined)
        except BaseException:  # interrupted, perhaps: there is no flight that nobody leads
            self.abandon(mine)
            raise
        # Who fetched by himself may have done so for longer than the token in hand lived.
        if answer.flight is not None and (answer.waits or not led):
            return answer.flight
        return answer.current

    def _ask_early(self, request: Request, failure: TokenManagerError) -> Current | Flight[Current]:
        """Asks before its time where what the failure came from is gone; raises it where not."""
        now, error = self.context.clock.elapsed(), self._failures.error
        is_gone = getattr(self.source, "is_gone", None)
        looks = now - self._looked_at >= _SOURCE_EVERY and not self._failures.is_asked(now)
        if looks and is_gone is not None and error is not None:
            self._looked_at = now
            if is_gone(error, self._failures.failed_at):
                return self.request(request, early=True)
        raise failure

    def renew_if_used(self) -> None:
        """Renews in the background what somebody still asks for; for the refresher."""
        flight, used = Flight[Current](0.0), self.used
        with self._lock:
            now = self.context.clock.elapsed()
            looks = now < self.current.fresh_until
            # What is under way is followed when it lands, and what has just landed is already.
            if self._closed or self._under_way(now) or (looks and self.shared is None):
                return
            if self._has_ended():
                return
            serves = now < self.current.valid_until
            waits = not looks and now < self._failures.stands_until(serves=serves)
            if waits and not serves:
                return  # whoever asks next renews
            if looks:
                self.used = min(used, EARLIER)
            if looks or waits:  # or it was planned before the failure
                self._make_plan(now)
            elif used:
                self.used = UNUSED
                self._start(flight, now)
        if looks or waits:
            self._follow()
            if looks and used is LATELY:
                with suppress(RuntimeError):  # where no thread runs, callers renew
                    self.context.workers.do(self.look)
        elif used:
            set_off(flight, self.context.workers, Fetch(self, flight, "aging"))
        else:
            self.tell(events.TokenLetGo)

    # With the lock held:

    def _answer(self, request: Request, mine: Flight[Current], *, early: bool) -> _Answer:
        """Says what comes of a request; starts a flight for it, ``mine``, where it takes one."""
        self._check_open()
        self.used = LATELY
        now, current = self.context.clock.elapsed(), self.current
        if self._doubted is not NOTHING and not request.renew:
            return self._look_first(mine, now)
        self._check_reachable(request, now)
        flight, serves = self._under_way(now), now < current.valid_until
        if flight is not None and flight.is_up_to(threading.get_ident()):
            return _Answer(self._own(current, serves=serves))
        until = self._failures.stands_until(serves=serves, renew=request.renew)
        action = decide(
            now,
            None if request.renew or current is NOTHING else current,
            min_ttl=request.min_ttl,
            retry_at=float("-inf") if early else until,
        )
        if action is Action.RETURN:
            return _Answer(current)
        waits = action is not Action.RETURN_AND_RENEW
        if not waits and (flight is not None or self.context.refresher.takes_care_of(self._plan)):
            return _Answer(current)  # it spreads what is due together
        if flight is None and self._has_ended():
            return _Answer(current, ended=waits)
        if flight is None and action is Action.FAIL:
            failure = self._failures.repeated(now, until)
            if failure is not None:
                return _Answer(current, failure=failure)
        self._waits += waits
        if flight is None:
            self._start(mine, now)
        return _Answer(current, flight or mine, waits, self._reason(request, current, now))

    def _look_first(self, mine: Flight[Current], now: float) -> _Answer:
        """Has somebody look whether what was doubted is the key's still: no renewal is waited for.

        Whoever looks and has vanished is not waited for either.
        """
        looking = self._looking
        if looking is None or now - looking.started_at >= self.context.fetch_timeout + GRACE:
            looking = self._looking = mine
            mine.started_at, mine.starter = now, threading.get_ident()
        self._waits += 1
        return _Answer(NOTHING, looking, waits=True, looks=True)

    def _own(self, current: Current, *, serves: bool) -> Current:
        """Serves whoever asks in the middle of the fetch that he leads, and waits for himself."""
        if serves:
            return current
        raise TokenRequestError(
            "this token was asked for by what fetches it (its source, its store, or a log "
            "handler): give these another way to sign in",
            retryable=True,
        )

    def _check_reachable(self, request: Request, now: float) -> None:
        """Refuses a ``min_ttl`` that has just been seen to be more than the tokens live."""
        current, min_ttl = self.current, request.min_ttl
        lived = current.valid_until - current.fetched_at
        if min_ttl is not None and self._is_young(now) and lived < min_ttl:
            raise TokenRequestError(
                f"the newest token is valid for {current.valid_until - now:.0f} s, and min_ttl "
                f"asks for {min_ttl:g} s: ask for less than the service's tokens live"
            )

    def _reason(self, request: Request, current: Current, now: float) -> str:
        """Says why the token in hand does not do; for events."""
        if request.renew:
            return "claims" if self.key.claims else "forced"
        state = current.state(now)
        short = request.min_ttl is not None and state == "aging"
        return "min_ttl" if short or state == "fresh" else state

    def _start(self, flight: Flight[Current], now: float) -> None:
        flight.started_at, flight.starter = now, threading.get_ident()
        self._flight = flight
