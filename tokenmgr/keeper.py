"""TokenKeeper: what stands behind a manager: the token in hand, the one flight, the back-off.

Its lock guards a few fields, and is held neither while anything waits nor while an event is told.
Callers board, through :meth:`TokenKeeper.board`; the flight's leader, in whichever thread, lands
it; the refresher boards for everybody when renewal is due.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import NamedTuple

from .clock import Clock
from .errors import (
    ConfigurationError,
    TokenManagerError,
    TokenRequestError,
)
from .events import (
    BackingOff,
    FlightJoined,
    Hook,
    RequestFailed,
    ServedStale,
    TokenInvalidated,
    TokenLetGo,
    TokenRenewed,
    TokenRequested,
)
from .flight import Flight, again
from .forks import make_new_in_child
from .held import NOTHING, HeldToken, hold
from .policy import Action, RefreshPolicy, decide
from .refresher import Refresher
from .status import TokenStatus
from .token import TokenKey, TokenSource
from .workers import Workers

__all__ = ["Boarding", "Need", "TokenKeeper"]

#: A flight that no worker has taken up by then is led by the next caller in its own thread: some
#: servers start threads that never run.
_PATIENCE = 1.0


#: So many tokens in a row may be refused while they are new; then the next one is kept for a while.
_MOST_REFUSALS = 3


class Need(NamedTuple):
    """What a call needs."""

    #: Seconds of validity; None when any will do.
    min_ttl: float | None = None
    #: Whether only a token will do that is fetched now.
    renew: bool = False
    #: The claims that it has to be fetched with.
    claims: str | None = None
    #: What was in hand when it began to wait for a flight with other claims; any later token with
    #: its own was asked for since, and serves it.
    since: HeldToken | None = None


class Boarding(NamedTuple):
    """What serves a call: the token in hand, or a flight to wait for where there is one."""

    held: HeldToken
    flight: Flight[HeldToken] | None
    #: Whether the flight's outcome is the call's; else it boards again when that has landed.
    ours: bool = True


class _Setback:
    """The failures in a row, and until when the last one stands."""

    __slots__ = ("claims", "error", "failures", "retry_at")

    def __init__(self, claims: str | None = None) -> None:
        self.claims = claims
        self.failures = 0
        self.error: TokenManagerError | None = None
        self.retry_at = float("-inf")

    def last(self) -> TokenManagerError:
        """The failure that stands, for one more caller."""
        assert self.error is not None  # noqa: S101 - retry_at is set along with it
        return again(self.error)


class TokenKeeper:
    """Keeps the token of one source.

    Args:
        source: Where tokens come from.
        key: What makes its tokens different from all others.
        policy: When to renew, how to back off.
        clock: The time.
        refresher: What says when renewal is due.
        workers: The threads of fetches that no caller leads.
        hook: Where events go.
    """

    def __init__(
        self,
        source: TokenSource,
        key: TokenKey,
        *,
        policy: RefreshPolicy,
        clock: Clock,
        refresher: Refresher,
        workers: Workers,
        hook: Hook,
    ) -> None:
        self.key = key
        self._source = source
        self._policy = policy
        self._clock = clock
        self._refresher = refresher
        self._workers = workers
        self._emit = hook.emit
        #: Read without the lock, written with it.
        self.held: HeldToken = NOTHING
        #: Whether anybody has asked since the last renewal began; set without the lock.
        self.used: bool = False
        self._flight: Flight[HeldToken] | None = None
        self._setback = _Setback()
        self._claims_setback = _Setback()
        self._last_success: float | None = None
        self._waits = 0
        self._refusals = 0
        self._closed = False
        make_new_in_child(self)
        self.after_fork()

    def after_fork(self) -> None:
        """Keeps the token in the child, and makes the lock anew: the flight's leader is gone."""
        #: Guards the fields above.
        self._lock = threading.Lock()
        self._flight = None

    def board(self, need: Need, lead: Callable[[Flight[HeldToken]], None]) -> Boarding:
        """Finds what serves a call, and sees that a flight is under way where one is due.

        Args:
            need: What the call needs.
            lead: Has a flight led that the call waits for; others fly in the background.

        Raises:
            TokenManagerError: The last failure, while it stands.
            ConfigurationError: It is closed.
        """
        with self._lock:
            self._check_open()
            self.used = True
            now, held = self._clock.elapsed(), self.held
            if _arrived_since(need, held) and now < held.valid_until:
                return Boarding(held, None)
            self._check_reachable(need, now)
            setback = self._setback_of(need.claims)
            action = decide(
                now,
                None if need.renew or held is NOTHING else held,
                min_ttl=need.min_ttl,
                retry_at=setback.retry_at,
            )
            if action is Action.RETURN:
                return Boarding(held, None)
            flight, joins = self._flight_at(now), True
            if flight is None and action is Action.FAIL:
                raise setback.last()
            if action is Action.RETURN_AND_RENEW and self._refresher.takes_care_of(self):
                return Boarding(held, None)  # it spreads what is due together
            if flight is None:
                flight, joins = self._take_off(now, need.claims), False
            waits = action is not Action.RETURN_AND_RENEW
            self._waits += waits
            stalled = not flight.has_leader and now - flight.started_at >= _PATIENCE
            stalled = stalled and not self._workers.have_run
        if joins and waits:
            self._emit(FlightJoined(at=self._clock.wall(), key=self.key))
        if not joins:
            self._emit(TokenRequested(self._clock.wall(), self.key, self._reason(need, held)))
            (lead if waits else self.lead_elsewhere)(flight)
        elif stalled:
            self.lead(flight)
        if not waits:
            return Boarding(held, None)
        return Boarding(held, flight, ours=need.claims is None or need.claims == flight.claims)

    def lead(self, flight: Flight[HeldToken]) -> None:
        """Fetches in this thread, unless somebody does already, and lands the flight."""
        if not flight.claim():
            return
        with self._lock:
            given_up = self._flight is not flight
            # However long it stood in a queue, its leader has the whole time.
            flight.started_at = self._clock.elapsed()
        if given_up:  # nobody took it up in time, and another may be under way
            flight.lose()
            return
        elapsed, wall = self._clock.elapsed(), self._clock.wall()
        try:
            token = self._source.fetch_token(claims=flight.claims)
            held = hold(token, elapsed - wall, self._clock, self._policy, flight.claims)
        except Exception as exc:  # noqa: BLE001 - a source may be anybody's code
            self._crash(flight, _typed(exc), elapsed)
        except BaseException:  # this thread is being interrupted, and knows nothing of the service
            with self._lock:
                self._forget(flight)
            flight.lose()
            raise
        else:
            self._land(flight, held, elapsed)

    def lead_elsewhere(self, flight: Flight[HeldToken]) -> None:
        """Has a worker fetch; where no thread can be started, this one does."""
        try:
            self._workers.do(lambda: self.lead(flight))
        except RuntimeError:
            self.lead(flight)

    def renew_if_used(self) -> None:
        """Renews in the background what somebody still asks for; for the refresher."""
        with self._lock:
            now = self._clock.elapsed()
            if self._closed or self._flight_at(now) is not None:
                return  # the flight under way is followed when it lands
            flight = None
            if self.used:
                self.used = False
                flight = self._take_off(now, None)
        if flight is None:
            self._emit(TokenLetGo(self._clock.wall(), self.key))
            return
        self._emit(TokenRequested(self._clock.wall(), self.key, "aging"))
        self.lead_elsewhere(flight)

    def invalidate(self, secret: str) -> None:
        """Drops the token in hand if it is this one."""
        with self._lock:
            held = self.held
            if held.secret != secret or held is NOTHING:
                return
            # A resource that refuses every token must not turn each of its answers into a fetch.
            young = self._clock.elapsed() - held.landed_at < self._policy.backoff_cap
            self._refusals = self._refusals + 1 if young else 1
            if self._refusals > _MOST_REFUSALS:
                return
            self.held = NOTHING
        self._emit(TokenInvalidated(self._clock.wall(), self.key))

    def status(self) -> TokenStatus:
        """Says how it stands."""
        with self._lock:
            now, held, error = self._clock.elapsed(), self.held, self._setback.error
            state = "fresh" if now < held.fresh_until else "aging"
            if now >= held.valid_until:
                state = "none" if held is NOTHING else "expired"
            return TokenStatus(
                key=self.key,
                state=state,
                expires_in=max(0.0, held.valid_until - now),
                last_success=self._last_success,
                last_error=None if error is None else f"{type(error).__name__}: {error}",
                waits=self._waits,
            )

    def close(self) -> None:
        """Lets its token go; every later call raises."""
        with self._lock:
            self._closed = True
            self.held = NOTHING
        self._refresher.forget(self)
        getattr(self._source, "close", lambda: None)()

    # With the lock held:

    def _check_open(self) -> None:
        if self._closed:
            raise ConfigurationError(
                "this manager is closed, with its registry: make a new TokenRegistry"
            )

    def _check_reachable(self, need: Need, now: float) -> None:
        """Refuses a ``min_ttl`` that has just been seen to be more than the tokens live."""
        held = self.held
        young = now - held.landed_at < self._policy.backoff_cap
        if need.min_ttl is not None and young and held.valid_until - held.landed_at < need.min_ttl:
            raise TokenRequestError(
                f"the newest token is valid for {held.valid_until - now:.0f} s, and min_ttl asks "
                f"for {need.min_ttl:g} s: ask for less than the service's tokens live"
            )

    def _flight_at(self, now: float) -> Flight[HeldToken] | None:
        """The flight under way, unless its leader has vanished, or hangs: the key must not."""
        if self._flight and now - self._flight.started_at >= self._policy.max_wait:
            self._flight = None
        return self._flight

    def _take_off(self, now: float, claims: str | None) -> Flight[HeldToken]:
        self._flight = Flight(now, claims)
        return self._flight

    def _forget(self, flight: Flight[HeldToken]) -> bool:
        """Says whether the flight was the one under way still."""
        current = self._flight is flight
        if current:
            self._flight = None
        return current

    def _setback_of(self, claims: str | None) -> _Setback:
        if claims is None:
            return self._setback
        if self._claims_setback.claims != claims:
            self._claims_setback = _Setback(claims)
        return self._claims_setback

    # Without it:

    def _land(self, flight: Flight[HeldToken], held: HeldToken, started: float) -> None:
        with self._lock:
            current = self._forget(flight) and not self._closed
            if current:
                self.held = held
                self._setback, self._claims_setback = _Setback(), _Setback()
                self._last_success = self._clock.wall()
                # Under the lock, so that close() cannot come in between and be followed after.
                self._refresher.follow(self, held.fresh_until, held.valid_until)
        flight.land(held)
        now = self._clock.elapsed()
        self._emit(
            TokenRenewed(
                self._clock.wall(), self.key, took=now - started, expires_in=held.valid_until - now
            )
        )

    def _crash(self, flight: Flight[HeldToken], error: TokenManagerError, started: float) -> None:
        with self._lock:
            now, valid_until = self._clock.elapsed(), self.held.valid_until
            current = self._forget(flight) and not self._closed
            setback = self._setback_of(flight.claims)
            setback.failures += 1
            setback.error = error
            seconds = self._policy.backoff(
                setback.failures,
                chance=random.random(),  # noqa: S311 - spreads retries, guards nothing
                retry_after=error.retry_after,
            )
            if error.retry_after is None and now < valid_until:
                seconds = min(seconds, (valid_until - now) / 2)  # there is to be another try
            setback.retry_at = now + seconds
            # Its lifetime goes on, and so does what was said about its use.
            self.used = True
            # Without a token in hand nobody is served by it: the next caller asks, and waits.
            if current and now < valid_until:
                # Claims that fail neither bring its renewal forward nor end its back-off.
                due = max(self.held.fresh_until, self._setback.retry_at)
                self._refresher.follow(self, due, valid_until)
        flight.fail(error)
        wall = self._clock.wall()
        name = type(error).__name__
        self._emit(RequestFailed(wall, self.key, now - started, name, error.error_codes))
        self._emit(BackingOff(wall, self.key, seconds))
        if now < valid_until:
            self._emit(ServedStale(wall, self.key, valid_until - now))

    def _reason(self, need: Need, held: HeldToken) -> str:
        if need.claims is not None:
            return "claims"
        if need.renew:
            return "forced"
        if held is NOTHING:
            return "none"
        now = self._clock.elapsed()
        if now >= held.valid_until:
            return "expired"
        return "min_ttl" if now < held.fresh_until or need.min_ttl is not None else "aging"


def _arrived_since(need: Need, held: HeldToken) -> bool:
    return need.since is not None and held is not need.since and held.claims == need.claims


def _typed(error: Exception) -> TokenManagerError:
    if isinstance(error, TokenManagerError):
        return error
    # The text of a foreign error may hold anything, so that only its class is named.
    typed = TokenRequestError(
        f"the token source failed with {type(error).__name__}, which is chained to this error"
    )
    typed.__cause__ = error
    return typed
