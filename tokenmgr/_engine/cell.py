"""TokenKeeper: what stands behind a manager: the token in hand, the one flight, the back-off.

Its lock guards a few fields, and is held neither while anything waits nor while an event is told.
Callers board, through :meth:`TokenKeeper.board`; the flight's leader, in whichever thread, lands
it; the refresher boards for everybody when renewal is due.
"""

from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Literal

from .._runtime.clock import Clock
from .._runtime.forks import make_new_in_child
from .._runtime.refresher import Refresher
from .._runtime.workers import Workers
from .._sharing.fetch_once import SharedToken, Wanted
from ..errors import (
    ConfigurationError,
    TokenManagerError,
    TokenRequestError,
)
from ..events import (
    BackingOff,
    FlightJoined,
    Hook,
    RequestFailed,
    ServedStale,
    TokenAdopted,
    TokenInvalidated,
    TokenLetGo,
    TokenRenewed,
    TokenRequested,
    TokenStatus,
)
from ..policy import Action, RefreshPolicy, decide
from ..token import Record, TokenKey, TokenSource
from .boarding import Boarding, Need
from .current import NOTHING, HeldToken, hold
from .flight import Flight
from .setback import Setback

__all__ = ["TokenKeeper"]

#: A flight that no worker has taken up by then is led by the next caller in its own thread: some
#: servers start threads that never run.
_PATIENCE = 1.0


#: A shared record is looked at so often, in seconds, while its token is in use: what other workers
#: renewed or had to renew is known here by then.
_LOOK_EVERY = 60.0

#: So many tokens in a row may be refused while they are new; then the next one is kept for a while.
_MOST_REFUSALS = 3


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
        shared: Its part in the store; None when other workers have none in it.
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
        shared: SharedToken | None = None,
    ) -> None:
        self.key = key
        self._source = source
        self._policy = policy
        self._clock = clock
        self._refresher = refresher
        self._workers = workers
        self._emit = hook.emit
        self._shared = shared
        #: Read without the lock, written with it.
        self.held: HeldToken = NOTHING
        #: Whether anybody has asked since the refresher was here last; set without the lock.
        self.used: bool = False
        #: Whether anybody has asked since the last renewal began.
        self._used_in_life = False
        #: The tokens that were dropped last, lest the store give one again.
        self._refused: deque[str] = deque(maxlen=_MOST_REFUSALS)
        self._flight: Flight[HeldToken] | None = None
        self._setback = Setback()
        self._claims_setback = Setback()
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
            if need.arrived_with(held) and now < held.valid_until:
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
                flight, joins = self._take_off(now, need.claims, renew=need.renew), False
            waits = action is not Action.RETURN_AND_RENEW
            self._waits += waits
            stalled = not flight.has_leader and now - flight.started_at >= _PATIENCE
            stalled = stalled and not self._workers.have_run
        if joins and waits:
            self._emit(FlightJoined(at=self._clock.wall(), key=self.key))
        if not joins:
            self._emit(TokenRequested(self._clock.wall(), self.key, need.reason(held, now)))
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
            record, fetched = self._obtain(flight)
            held = hold(record, elapsed - wall, self._clock, self._policy, aged=not fetched)
        except Exception as exc:  # noqa: BLE001 - a source may be anybody's code
            self._crash(flight, _typed(exc), elapsed)
        except BaseException:  # this thread is being interrupted, and knows nothing of the service
            with self._lock:
                self._forget(flight)
            flight.lose()
            raise
        else:
            self._land(flight, held, elapsed, fetched=fetched)

    def lead_elsewhere(self, flight: Flight[HeldToken]) -> None:
        """Has a worker fetch; where no thread can be started, this one does."""
        self._do_elsewhere(lambda: self.lead(flight))

    def renew_if_used(self) -> None:
        """Renews in the background what somebody still asks for; for the refresher."""
        with self._lock:
            now = self._clock.elapsed()
            if self._closed or self._flight_at(now) is not None:
                return  # the flight under way is followed when it lands
            asked, self.used = self.used, False
            self._used_in_life = self._used_in_life or asked
            looks = self._shared is not None and now < self.held.fresh_until
            flight = None
            if looks:
                self._follow(now)
            elif self._used_in_life:
                self._used_in_life = False
                flight = self._take_off(now, None)
        if looks:
            if asked:
                with suppress(RuntimeError):  # where no thread can be started, callers renew
                    self._workers.do(self._look)
            return
        if flight is None:
            self._emit(TokenLetGo(self._clock.wall(), self.key))
            return
        self._emit(TokenRequested(self._clock.wall(), self.key, "aging"))
        self.lead_elsewhere(flight)

    def adopt(self, record: Record) -> None:
        """Takes a token in hand that was fetched elsewhere, if it is newer than the one there."""
        elapsed, wall = self._clock.elapsed(), self._clock.wall()
        try:
            held = hold(record, elapsed - wall, self._clock, self._policy, aged=True)
        except TokenManagerError:  # it has expired meanwhile
            return
        with self._lock:
            newer = (
                record.obtained_at > self.held.record.obtained_at
                and held.secret not in self._refused
            )
            if self._closed or not newer:
                return
            self._take(held, record.obtained_at)
        self._emit(TokenAdopted(wall, self.key, held.valid_until - elapsed))

    def invalidate(self, secret: str) -> None:
        """Drops the token in hand if it is this one, and for other workers too."""
        with self._lock:
            held = self.held
            if held.secret != secret or held is NOTHING:
                return
            # A resource that refuses every token must not turn each of its answers into a fetch.
            young = self._clock.elapsed() - held.fetched_at < self._policy.backoff_cap
            self._refusals = self._refusals + 1 if young else 1
            if self._refusals > _MOST_REFUSALS:
                return
            self.held = NOTHING
            self._refused.append(secret)
        self._emit(TokenInvalidated(self._clock.wall(), self.key))
        shared = self._shared
        if shared is not None:
            # Not here: an event loop's thread may have brought the refusal.
            self._do_elsewhere(lambda: shared.drop(secret))

    def status(self) -> TokenStatus:
        """Says how it stands."""
        with self._lock:
            now, held, error = self._clock.elapsed(), self.held, self._setback.error
            state: Literal["fresh", "aging", "expired", "none"] = (
                "fresh" if now < held.fresh_until else "aging"
            )
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
        young = now - held.fetched_at < self._policy.backoff_cap
        if need.min_ttl is not None and young and held.valid_until - held.fetched_at < need.min_ttl:
            raise TokenRequestError(
                f"the newest token is valid for {held.valid_until - now:.0f} s, and min_ttl asks "
                f"for {need.min_ttl:g} s: ask for less than the service's tokens live"
            )

    def _flight_at(self, now: float) -> Flight[HeldToken] | None:
        """The flight under way, unless its leader has vanished, or hangs: the key must not."""
        if self._flight and now - self._flight.started_at >= self._policy.max_wait:
            self._flight = None
        return self._flight

    def _take_off(
        self, now: float, claims: str | None, *, renew: bool = False
    ) -> Flight[HeldToken]:
        self._flight = Flight(now, claims, renew=renew)
        return self._flight

    def _take(self, held: HeldToken, success: float) -> None:
        """Takes a new token in hand, and forgets what failed before it."""
        self.held = held
        self._setback, self._claims_setback = Setback(), Setback()
        self._last_success = success
        self._follow(self._clock.elapsed())

    def _follow(self, now: float) -> None:
        """Has the refresher come back when the token ages, or to look at what others have."""
        due = self.held.fresh_until
        if self._shared is not None:
            look = _LOOK_EVERY * random.uniform(0.75, 1.25)  # noqa: S311 - spreads looks
            due = min(due, now + look)
        self._refresher.follow(self, due, self.held.valid_until)

    def _forget(self, flight: Flight[HeldToken]) -> bool:
        """Says whether the flight was the one under way still."""
        current = self._flight is flight
        if current:
            self._flight = None
        return current

    def _setback_of(self, claims: str | None) -> Setback:
        if claims is None:
            return self._setback
        if self._claims_setback.claims != claims:
            self._claims_setback = Setback(claims)
        return self._claims_setback

    # Without it:

    def _obtain(self, flight: Flight[HeldToken]) -> tuple[Record, bool]:
        """Gives a token, of another worker's or new, and whether it was fetched here."""
        ask = partial(self._source.fetch_token, claims=flight.claims)
        if self._shared is None:
            obtained_at = self._clock.wall()
            return Record(ask(), obtained_at, flight.claims), True
        held = self.held
        wanted = Wanted(
            unlike={held.secret, *self._refused},
            fresh=self._clock.elapsed() < held.valid_until,
            new=flight.renew and flight.claims is None,
            claims=flight.claims,
        )
        return self._shared.obtain(ask, wanted)

    def _look(self) -> None:
        record = None if self._shared is None else self._shared.look()
        if record is not None:
            self.adopt(record)

    def _do_elsewhere(self, work: Callable[[], object]) -> None:
        try:
            self._workers.do(work)
        except RuntimeError:  # no thread can be started
            work()

    def _land(
        self, flight: Flight[HeldToken], held: HeldToken, started: float, *, fetched: bool
    ) -> None:
        wall = self._clock.wall()
        with self._lock:
            if self._forget(flight) and not self._closed:
                # Under the lock, so that close() cannot come in between and be followed after.
                self._take(held, wall if fetched else held.record.obtained_at)
        flight.land(held)
        now = self._clock.elapsed()
        lives = held.valid_until - now
        if fetched:
            self._emit(TokenRenewed(wall, self.key, took=now - started, expires_in=lives))
        else:
            self._emit(TokenAdopted(wall, self.key, expires_in=lives))

    def _crash(self, flight: Flight[HeldToken], error: TokenManagerError, started: float) -> None:
        with self._lock:
            now, valid_until = self._clock.elapsed(), self.held.valid_until
            current = self._forget(flight) and not self._closed
            setback = self._setback_of(flight.claims)
            seconds = setback.add(error, self._policy, now, valid_until)
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


def _typed(error: Exception) -> TokenManagerError:
    if isinstance(error, TokenManagerError):
        return error
    # The text of a foreign error may hold anything, so that only its class is named.
    typed = TokenRequestError(
        f"the token source failed with {type(error).__name__}, which is chained to this error"
    )
    typed.__cause__ = error
    return typed
