"""A cell keeps the token of one key: the current one, the flight for the next, the back-off.

Callers come through :meth:`Cell.request`, and get the current token, or the key's one flight to
wait for. Workers fetch, and land it. The refresher comes back when the token ages. The cell's lock
guards a few fields; under it nobody waits for a fetch, and no source, store, hook or logger is
called.
"""

from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from .. import events
from .._context import Context
from .._runtime.forks import renew_in_child
from .._runtime.refresher import Plan
from ..errors import (
    ConfigurationError,
    ServiceUnavailableError,
    TokenManagerError,
    TokenRequestError,
)
from ..events import TokenStatus
from ..policy import Action, decide, new_record
from ..token import Record, TokenKey, TokenSource
from .current import NOTHING, Current, arrived
from .failures import Failures
from .flight import Flight

if TYPE_CHECKING:
    from .._sharing.fetch_once import SharedToken, Wanted
    from .._sharing.slot import SealedStore

__all__ = ["LATELY", "Cell", "Request"]

#: When a token was last asked for: not since its renewal began; before the last look into the
#: store; since then.
UNUSED, EARLIER, LATELY = range(3)

#: Seconds that a flight is given beyond what a fetch may take. Then the key starts another, as
#: whoever leads this one has vanished, or hangs.
_GRACE = 5.0

#: A shared record is looked at so often, in seconds, while its token is in use: what other workers
#: renewed or had to renew is known here by then.
_LOOK_EVERY = 60.0

#: Seconds between two looks whether what a failure came from is gone.
_SOURCE_EVERY = 1.0

#: So many tokens in a row may be refused while they are new; then the next one is kept for a while.
_MOST_REFUSALS = 3


class Request(NamedTuple):
    """What a call asks for."""

    #: Seconds of validity; None when any will do.
    min_ttl: float | None = None
    #: Whether only a token will do that is fetched now.
    renew: bool = False


class Cell:
    """Keeps the token of one key, whose claims are those that the source is asked with."""

    def __init__(
        self,
        source: TokenSource,
        key: TokenKey,
        context: Context,
        sealed: SealedStore | None = None,
        beside: Failures | None = None,
    ) -> None:
        self.key = key
        self._source = source
        self.context = context
        self._sealed = sealed
        self._shared: SharedToken | None = None
        if sealed is not None:
            from .._sharing.fetch_once import SharedToken

            self._shared = SharedToken(sealed, key, getattr(source, "read_proof", None))
        #: Read without the lock, written with it.
        self.current: Current = NOTHING
        #: When it was last asked for; set without the lock.
        self.used: int = UNUSED
        #: The tokens that were refused last, lest the store give one again.
        self._refused: deque[str] = deque(maxlen=_MOST_REFUSALS)
        #: How many in a row were refused while they were new.
        self._refusals = 0
        self._flight: Flight[Current] | None = None
        self._failures = Failures(context.policy, beside)
        #: When the source was asked last whether what a failure came from is gone.
        self._looked_at = float("-inf")
        self._plan: Plan | None = None
        self._last_success: float | None = None
        self._waits = 0
        self._closed = False
        renew_in_child(self._start_anew)

    def _start_anew(self) -> None:
        """Keeps the token in the child, and makes the lock anew: whoever led the flight is gone."""
        #: Guards the fields above. A signal's handler, or an object's end, may come back for it.
        self._lock = threading.RLock()
        self._flight = None

    def for_claims(self, claims: str) -> Cell:
        """Makes the cell of the same token with claims, which has a key of its own."""
        key = self.key._replace(claims=claims)
        cell = Cell(self._source, key, self.context, self._sealed, self._failures)
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
        failure = None
        with self._lock:
            self._check_open()
            self.used = LATELY
            now, current = self.context.clock.elapsed(), self.current
            self._check_reachable(request, now)
            flight, serves = self._under_way(now), now < current.valid_until
            if flight is not None and flight.leader == threading.get_ident():
                return self._own(current, serves=serves)
            until = self._failures.stands_until(serves=serves, renew=request.renew)
            action = decide(
                now,
                None if request.renew or current is NOTHING else current,
                min_ttl=request.min_ttl,
                retry_at=float("-inf") if early else until,
            )
            if action is Action.RETURN:
                return current
            waits, joins, led = action is not Action.RETURN_AND_RENEW, flight is not None, True
            if not waits and (joins or self.context.refresher.takes_care_of(self._plan)):
                return current  # it spreads what is due together
            reason = self._reason(request, current, now)
            if flight is None and action is Action.FAIL:
                failure = self._failures.repeated(now, until)
            elif flight is None:
                flight, led = self._start(now, reason, renew=request.renew)
            self._waits += waits and failure is None
        if flight is None:
            return self._ask_early(request, failure)
        if joins:
            self._tell(events.FlightJoined)
        if not led:
            self._lead(flight, reason)
        # Who fetched by himself may have done so for longer than the token in hand lived.
        return flight if waits or not led else current

    def _ask_early(
        self, request: Request, failure: TokenManagerError | None
    ) -> Current | Flight[Current]:
        """Asks before its time where what the failure came from is gone; raises it where not."""
        now, error = self.context.clock.elapsed(), self._failures.error
        is_gone = getattr(self._source, "is_gone", None)
        looks = now - self._looked_at >= _SOURCE_EVERY and not self._failures.is_asked(now)
        if looks and is_gone is not None and error is not None:
            self._looked_at = now
            if is_gone(error, self._failures.failed_at):
                return self.request(request, early=True)
        assert failure is not None  # noqa: S101 - there is no flight
        raise failure

    def renew_if_used(self) -> None:
        """Renews in the background what somebody still asks for; for the refresher."""
        flight, led, used = None, True, self.used
        with self._lock:
            now = self.context.clock.elapsed()
            looks = now < self.current.fresh_until
            # What is under way is followed when it lands, and what has just landed is already.
            if self._closed or self._under_way(now) or (looks and self._shared is None):
                return
            serves = now < self.current.valid_until
            waits = not looks and now < self._failures.stands_until(serves=serves)
            if waits and serves:  # a renewal that was planned before the failure
                self._follow(now)
            elif waits:
                return  # whoever asks next renews
            elif looks:
                self.used = min(used, EARLIER)
                self._follow(now)
            elif used:
                self.used = UNUSED
                flight, led = self._start(now, "aging")
        if looks or waits:
            if looks and used is LATELY:
                with suppress(RuntimeError):  # where no thread runs, callers renew
                    self.context.workers.do(self._look)
        elif flight is None:
            self._tell(events.TokenLetGo)
        elif not led:
            self._lead(flight, "aging")

    def adopt(self, record: Record) -> None:
        """Takes a token in hand that was fetched elsewhere, if it is newer than the one there."""
        with suppress(ServiceUnavailableError):  # it has expired meanwhile
            current = arrived(record, self.context)
            with self._lock:
                newer = self._is_newer(current) and not self._closed
                if newer:
                    self._take(current, record.obtained_at)
            if newer:
                self._tell(events.TokenAdopted, current.valid_until - self.context.clock.elapsed())

    def invalidate(self, secret: str) -> None:
        """Drops the token in hand if it is this one, and for other workers too."""
        with self._lock:
            current = self.current
            if current.secret != secret or current is NOTHING:
                return
            # A resource that refuses every token must not turn each of its answers into a fetch.
            self._refusals = (
                self._refusals + 1 if self._is_young(self.context.clock.elapsed()) else 1
            )
            if self._refusals > _MOST_REFUSALS:
                return
            self.current = NOTHING
            self._refused.append(secret)
        self._tell(events.TokenInvalidated)
        if self._shared is not None:
            # Not here: an event loop's thread may have brought the refusal.
            self.context.workers.do_or_here(partial(self._shared.drop, secret))

    def status(self) -> TokenStatus:
        """Says how it stands."""
        with self._lock:
            now, current, error = self.context.clock.elapsed(), self.current, self._failures.error
            until = self._failures.stands_until(serves=now < current.valid_until)
            return TokenStatus(
                key=self.key,
                state=current.state(now),
                expires_in=max(0.0, current.valid_until - now),
                last_success=self._last_success,
                last_error=None if error is None else f"{type(error).__name__}: {error}",
                retry_in=None if error is None else max(0.0, until - now),
                store=None if self._sealed is None else self._sealed.store.state,
                waits=self._waits,
            )

    def rest(self) -> None:
        """Has its token renewed no more, as another one takes its place."""
        self.used = UNUSED  # what is under way may land yet
        self.context.refresher.forget(self._plan)

    def close(self) -> None:
        """Lets its token go; every later call raises."""
        with self._lock:
            self._closed = True
            self.current = NOTHING
        self.rest()

    def _tell(self, kind: Callable[..., events.Event], *facts: object) -> None:
        self.context.emit(kind(self.context.clock.wall(), self.key, *facts))

    # With the lock held:

    def _check_open(self) -> None:
        if self._closed:
            raise ConfigurationError(
                "this manager is closed, with its registry: make a new TokenRegistry"
            )

    def _own(self, current: Current, *, serves: bool) -> Current:
        """Serves whoever asks in the middle of the fetch that he leads, and waits for himself."""
        if serves:
            return current
        raise TokenRequestError(
            "this token was asked for by what fetches it (its source, its store, or a log "
            "handler): give these another way to sign in",
            retryable=True,
        )

    def _is_young(self, now: float) -> bool:
        return now - self.current.fetched_at < self.context.policy.backoff_cap

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

    def _under_way(self, now: float) -> Flight[Current] | None:
        """The flight, unless whoever leads it has vanished, or hangs: the key must not."""
        longest = self.context.fetch_timeout + _GRACE
        longest += 0.0 if self._shared is None else self._shared.longest_search
        if self._flight and now - self._flight.started_at >= longest:
            self._flight = None
        return self._flight

    def _start(
        self, now: float, reason: str, *, renew: bool = False
    ) -> tuple[Flight[Current], bool]:
        """Starts a flight; says whether a worker leads it, and not the caller has to."""
        flight = Flight[Current](now, renew=renew)
        try:
            self._flight = flight
            self.context.workers.do(partial(self._lead, flight, reason))
        except RuntimeError:  # no thread runs here
            return flight, False
        except BaseException:  # interrupted: there is no flight that nobody leads
            self._flight = None
            raise
        return flight, True

    def _take(self, current: Current, success: float) -> None:
        """Takes a new token in hand, and forgets what failed before it."""
        self.current = current
        self._failures.clear()
        self._last_success = success
        self._follow(self.context.clock.elapsed())

    def _is_newer(self, current: Current) -> bool:
        newer = current.record.obtained_at > self.current.record.obtained_at
        return newer and current.secret not in self._refused

    def _follow(self, now: float) -> None:
        """Has the refresher come back when the token ages, or to look at what others have.

        Claims that fail bring no renewal forward, and a back-off is waited for.
        """
        current = self.current
        due = max(current.fresh_until, self._failures.stands_until(serves=True))
        if self._shared is not None and now < current.fresh_until:
            look = _LOOK_EVERY * random.uniform(0.75, 1.25)  # noqa: S311 - spreads looks
            due = min(due, now + look)
        self._plan = self.context.refresher.follow(
            self, due, self.current.valid_until, instead=self._plan
        )

    def _ends(self, flight: Flight[Current]) -> bool:
        """Ends a flight; says whether it was the one under way still."""
        mine = self._flight is flight
        if mine:
            self._flight = None
        return mine

    # Without it, in a worker:

    def _lead(self, flight: Flight[Current], reason: str) -> None:
        """Fetches, and lands the flight."""
        if not self._begins(flight):
            flight.lose()
            return
        clock, fetched = self.context.clock, True
        ask = partial(self._source.fetch_token, claims=self.key.claims or None)
        try:
            self._tell(events.TokenRequested, reason)  # here, lest what comes of it be told before
            while True:
                elapsed, wall = clock.elapsed(), clock.wall()
                if self._shared is None:
                    record = new_record(ask(), wall, self.context.policy)
                else:
                    record, fetched = self._shared.obtain(ask, self._wanted(flight))
                slept = clock.elapsed() - elapsed > 2 * self.context.fetch_timeout
                if not (slept and clock.wall() >= record.token.expires_at):
                    break  # else the machine slept in the middle, for longer than the token lives
            offset = elapsed - wall
            current = arrived(record, self.context, offset=offset, fetched=fetched)
        except Exception as exc:  # noqa: BLE001 - a source may be anybody's code
            self._fail(flight, _typed(exc))
        except BaseException:  # this thread is being interrupted, and knows nothing of the service
            with self._lock:
                self._ends(flight)
            flight.lose()
            raise
        else:
            self._land(flight, current, fetched=fetched)

    def _begins(self, flight: Flight[Current]) -> bool:
        """Notes who leads a flight from now on; says whether it is still the key's."""
        with self._lock:
            # However long it stood in a queue, it has the whole time.
            flight.started_at = self.context.clock.elapsed()
            flight.leader = threading.get_ident()
            return self._flight is flight

    def _wanted(self, flight: Flight[Current]) -> Wanted:
        from .._sharing.fetch_once import Wanted

        current = self.current
        return Wanted(
            unlike={current.secret, *self._refused},
            after=current.record.obtained_at,
            fresh=self.context.clock.elapsed() < current.valid_until,
            new=flight.renew and not self.key.claims,
        )

    def _look(self) -> None:
        record = None if self._shared is None else self._shared.look(tuple(self._refused))
        if record is not None:
            self.adopt(record)

    def _land(self, flight: Flight[Current], current: Current, *, fetched: bool) -> None:
        with self._lock:
            # One that was given up brings a token all the same, if nothing newer has come.
            if (self._ends(flight) or self._is_newer(current)) and not self._closed:
                # Under the lock, so that close() cannot come in between and be followed after.
                wall = self.context.clock.wall()
                self._take(current, wall if fetched else current.record.obtained_at)
        flight.land(current)
        now = self.context.clock.elapsed()
        lives = current.valid_until - now
        if fetched:
            self._tell(events.TokenRenewed, now - flight.started_at, lives)
        else:
            self._tell(events.TokenAdopted, lives)

    def _fail(self, flight: Flight[Current], error: TokenManagerError) -> None:
        seconds = None
        with self._lock:
            now, valid_until = self.context.clock.elapsed(), self.current.valid_until
            if self._ends(flight) and not self._closed:  # one that was given up changes nothing
                seconds = self._failures.add(error, now, self.context.clock.wall(), valid_until)
                # Its lifetime goes on, and so does what was said about its use.
                self.used = max(self.used, EARLIER)
                # Without a token in hand nobody is served by it: the next caller asks, and waits.
                if now < valid_until:
                    self._follow(now)
        flight.fail(error)
        if self._closed:
            return  # its end is no failure
        facts = (now - flight.started_at, type(error).__name__, error.error_codes, str(error))
        serves = max(0.0, valid_until - now)
        self._tell(events.RequestFailed, *facts, serves, seconds or 0.0)
        if seconds is not None:
            self._tell(events.BackingOff, seconds)
            if serves:
                self._tell(events.ServedStale, serves)


def _typed(error: Exception) -> TokenManagerError:
    if isinstance(error, TokenManagerError):
        return error
    # The text of a foreign error may hold anything, so that only its class is named.
    typed = TokenRequestError(
        f"the token source failed with {type(error).__name__}, which is chained to this error"
    )
    typed.__cause__ = error
    return typed
