"""A cell keeps the token of one key: the current one, the flight for the next, the back-off.

Callers come through :meth:`Cell.request`, and get the current token, or the key's one flight to
wait for. Workers fetch, and land it. The refresher comes back when the token ages. The cell's lock
guards a few fields; under it nobody waits for a fetch, and no source, store, hook or logger is
called.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from .. import events
from .._context import Context
from .._runtime.forks import renew_in_child, renew_where_patched
from .._runtime.refresher import Plan
from .._runtime.stack import handled_now, interruption_in
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
from .failures import NO_FAILURES, Failures
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

#: Times that are so near to each other, in seconds, are the same one.
_SAME = 1e-3

#: So many tokens in a row may be refused while they are new; then the next one is kept for a while.
_MOST_REFUSALS = 3


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


class _Fetch(partial[None]):
    """Work for a worker: to lead a flight."""

    taken: Callable[[], None]


class Cell:
    """Keeps the token of one key, whose claims are those that the source is asked with."""

    #: Read without the lock, written with it.
    current: Current = NOTHING
    #: What was in hand when it was doubted. Nobody is given it unless the store has it still.
    _doubted: Current = NOTHING
    #: When it was last asked for; set without the lock.
    used: int = UNUSED
    #: The tokens that were refused last, lest the store give one again.
    _refused: tuple[str, ...] = ()
    #: How many in a row were refused while they were new.
    _refusals = 0
    _flight: Flight[Current] | None = None
    #: Its own from the first one on: most keys never have any, and there may be many.
    _failures: Failures = NO_FAILURES
    #: When the source was asked last whether what a failure came from is gone.
    _looked_at = float("-inf")
    _plan: Plan | None = None
    _last_success: float | None = None
    _waits = 0
    _closed = False

    def __init__(
        self,
        source: TokenSource,
        key: TokenKey,
        context: Context,
        sealed: SealedStore | None = None,
        beside: Failures | None = None,
        *,
        on_news: Callable[[float | None], object] | None = None,
    ) -> None:
        self.key = key
        self._source = source
        self.context = context
        self._sealed = sealed
        self._shared: SharedToken | None = None
        share = getattr(source, "share", None)
        if share is not None:  # what its tokens are found by is not the key alone
            self._shared = share(key)
        elif sealed is not None:
            from .._sharing.fetch_once import SharedToken

            self._shared = SharedToken(sealed, key, getattr(source, "read_proof", None))
        if beside is not None:
            self._failures = Failures(context.policy, beside)
        #: Told before anybody else of each token that is taken in hand (None), and of each failure
        #: without one: for how many seconds it stands.
        self._on_news = on_news
        #: When the source has nothing more to give, in seconds since 1970.
        self.ends_at: float = getattr(source, "ends_at", float("inf"))
        renew_in_child(self._start_anew)

    def _start_anew(self) -> None:
        """Keeps the token in the child, and makes the lock anew: whoever led the flight is gone."""
        #: Guards the fields above. A signal's handler, or an object's end, may come back for it.
        self._lock = threading.RLock()
        self._flight = None

    @property
    def has_token(self) -> bool:
        """Whether there is a token in hand that serves."""
        return self.context.clock.elapsed() < self.current.valid_until

    def for_claims(self, claims: str) -> Cell:
        """Makes the cell of the same token with claims, which has a key of its own."""
        key = self.key._replace(claims=claims)
        cell = Cell(
            self._source,
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
                self._source.check()  # type: ignore[attr-defined] # what ends has it, and raises
                return self.request(request)  # or the clock was set back just now
            if answer.failure is not None:
                return self._ask_early(request, answer.failure)
            if answer.flight is mine:
                led = self._set_off(mine, answer.reason)
            elif answer.flight is not None:
                self._tell(events.FlightJoined)
        except BaseException:  # interrupted, perhaps: there is no flight that nobody leads
            self._abandon(mine)
            raise
        # Who fetched by himself may have done so for longer than the token in hand lived.
        if answer.flight is not None and (answer.waits or not led):
            return answer.flight
        return answer.current

    def _ask_early(self, request: Request, failure: TokenManagerError) -> Current | Flight[Current]:
        """Asks before its time where what the failure came from is gone; raises it where not."""
        now, error = self.context.clock.elapsed(), self._failures.error
        is_gone = getattr(self._source, "is_gone", None)
        looks = now - self._looked_at >= _SOURCE_EVERY and not self._failures.is_asked(now)
        if looks and is_gone is not None and error is not None:
            self._looked_at = now
            if is_gone(error, self._failures.failed_at):
                return self.request(request, early=True)
        raise failure

    def _set_off(self, flight: Flight[Current], reason: str) -> bool:
        """Has a worker lead a flight; leads it here and now, and gives False, where none runs.

        Without the lock: no thread that has it waits for another lock.
        """
        fetch, led = _Fetch(self._lead, flight, reason), True
        fetch.taken = flight.begin
        try:
            self.context.workers.do(fetch)
        except RuntimeError:  # no thread runs here
            flight.begin()
            led = False
        finally:
            flight.starter = 0
        if not led:
            self._lead(flight, reason)
        return led

    def _abandon(self, flight: Flight[Current]) -> None:
        """Ends a flight that nobody leads, or that this thread leads no more."""
        with self._lock:  # else a worker may begin to lead it meanwhile
            nobodys = flight.leader in (0, threading.get_ident())
            if nobodys:
                self._ends(flight)
        if nobodys:
            flight.lose()

    def renew_if_used(self) -> None:
        """Renews in the background what somebody still asks for; for the refresher."""
        flight, used = Flight[Current](0.0), self.used
        with self._lock:
            now = self.context.clock.elapsed()
            looks = now < self.current.fresh_until
            # What is under way is followed when it lands, and what has just landed is already.
            if self._closed or self._under_way(now) or (looks and self._shared is None):
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
                    self.context.workers.do(self._look)
        elif used:
            self._set_off(flight, "aging")
        else:
            self._tell(events.TokenLetGo)

    def adopt(self, record: Record) -> None:
        """Takes a token in hand that was fetched elsewhere, if it is newer than the one there."""
        with suppress(ServiceUnavailableError):  # it has expired meanwhile
            current = arrived(record, self.context)
            with self._lock:
                newer = self._is_newer(current) and not self._closed
                if newer:
                    self._take(current, record.obtained_at)
            if newer:
                self._took()
                self._tell(events.TokenAdopted, current.valid_until - self.context.clock.elapsed())

    def doubt(self) -> None:
        """Has the next call wait until somebody has looked whether the token is the key's still."""
        with self._lock:
            if self.current is not NOTHING:
                self._doubted = self.current
            self.current = NOTHING

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
            self._refused = (*self._refused, secret)[-_MOST_REFUSALS:]
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
            self.current = self._doubted = NOTHING
        self.rest()

    def _tell(self, kind: Callable[..., events.Event], *facts: object) -> None:
        self.context.emit(kind(self.context.clock.wall(), self.key, *facts))

    # With the lock held:

    def _own_failures(self) -> Failures:
        if self._failures is NO_FAILURES:
            self._failures = Failures(self.context.policy)
        return self._failures

    def _check_open(self) -> None:
        if self._closed:
            closed_error = getattr(self._source, "closed_error", lambda: None)()
            raise closed_error or ConfigurationError(
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

    def _answer(self, request: Request, mine: Flight[Current], *, early: bool) -> _Answer:
        """Says what comes of a request; starts a flight for it, ``mine``, where it takes one."""
        self._check_open()
        self.used = LATELY
        now, current = self.context.clock.elapsed(), self.current
        self._check_reachable(request, now)
        flight, serves = self._under_way(now), now < current.valid_until
        if flight is not None and flight.is_up_to(threading.get_ident()):
            return _Answer(self._own(current, serves=serves))
        until = self._failures.stands_until(serves=serves, renew=request.renew)
        early = early or (self._doubted is not NOTHING and not request.renew)  # to look, not to ask
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

    def _start(self, flight: Flight[Current], now: float) -> None:
        flight.started_at, flight.starter = now, threading.get_ident()
        self._flight = flight

    def _take(self, current: Current, success: float) -> None:
        """Takes a new token in hand, and forgets what failed before it."""
        if self._is_last(current):
            current.fresh_until = current.valid_until
        self.current = current
        if current.secret != self._doubted.secret:  # else it failed to be renewed, and is as old
            self._failures.clear()
        self._doubted = NOTHING
        self._last_success = success
        self._make_plan(self.context.clock.elapsed())

    def _has_ended(self) -> bool:
        """Whether the source has nothing more to give."""
        return self.ends_at < float("inf") and self.context.clock.wall() >= self.ends_at

    def _is_last(self, current: Current) -> bool:
        """Whether the next one would end at the same time."""
        return current.token.expires_at >= self.ends_at - _SAME

    def _is_newer(self, current: Current) -> bool:
        newer = current.record.obtained_at > self.current.record.obtained_at
        return newer and current.secret not in self._refused

    def _is_later(self, current: Current) -> bool:
        """Whether what a flight brought that was given up is newer than the token in hand."""
        if float("-inf") in (current.asked_at, self.current.asked_at):
            return self._is_newer(current)
        # The wall clock may have been set back in between.
        return current.asked_at > self.current.asked_at and current.secret not in self._refused

    def _make_plan(self, now: float) -> None:
        """Plans to come back when the token ages, or to look at what others have.

        Claims that fail bring no renewal forward, and a back-off is waited for.
        """
        current = self.current
        if self._is_last(current):
            self.context.refresher.forget(self._plan)
            self._plan = None
            return
        due = max(current.fresh_until, self._failures.stands_until(serves=True))
        if self._shared is not None and now < current.fresh_until:
            look = _LOOK_EVERY * random.uniform(0.75, 1.25)  # noqa: S311 - spreads looks
            due = min(due, now + look)
        self._plan = self.context.refresher.plan(self, due, current.valid_until, instead=self._plan)

    def _ends(self, flight: Flight[Current]) -> bool:
        """Ends a flight; says whether it was the one under way still."""
        mine = self._flight is flight
        if mine:
            self._flight = None
        return mine

    # Without it, in a worker:

    def _tell_news(self, seconds: float | None) -> None:
        if self._on_news is not None:
            self._on_news(seconds)

    def _follow(self) -> None:
        """Tells the refresher what is planned."""
        if self._plan is not None:
            self.context.refresher.add(self._plan)

    def _took(self) -> None:
        """Tells of what was taken in hand, and has it followed."""
        self._tell_news(None)
        self._follow()

    def _lead(self, flight: Flight[Current], reason: str) -> None:
        """Fetches, and lands the flight."""
        if not self._takes_off(flight):
            flight.lose()
            return
        clock, handled = self.context.clock, handled_now()
        ask = partial(self._source.fetch_token, claims=self.key.claims or None)
        try:
            self._tell(events.TokenRequested, reason)  # here, lest what comes of it be told before
            while True:
                elapsed, wall = clock.elapsed(), clock.wall()
                asked_at: float | None = elapsed
                if self._shared is None:
                    record = new_record(ask(), wall, self.context.policy)
                else:
                    record, asked_at = self._shared.obtain(ask, self._wanted(flight))
                slept = clock.elapsed() - elapsed > 2 * self.context.fetch_timeout
                if not (slept and clock.wall() >= record.token.expires_at):
                    break  # else the machine slept in the middle, for longer than the token lives
            offset = elapsed - wall
            current = arrived(record, self.context, offset=offset, fetched=asked_at is not None)
        except BaseException as exc:  # noqa: BLE001 - a source may be anybody's code
            interruption = interruption_in(exc, handled)
            if interruption is None and isinstance(exc, Exception):
                found = self._look_in_doubt()
                self._fail(flight, self._ended_meanwhile() or _typed(exc), found)
                return
            # This thread is being interrupted, and knows nothing of the service.
            self._abandon(flight)
            raise (interruption or exc) from None
        else:
            self._land(flight, current, asked_at)

    def _ended_meanwhile(self) -> TokenManagerError | None:
        """What the source says once it has ended: whatever else fails then, fails for good."""
        if self._has_ended():
            try:
                self._source.check()  # type: ignore[attr-defined] # what ends has it
            except TokenManagerError as ended:
                ended.__context__ = None
                return ended
        return None

    def _takes_off(self, flight: Flight[Current]) -> bool:
        """Notes when a flight is led; says whether it is still the key's."""
        with self._lock:
            # However long it stood in a queue, it has the whole time.
            flight.started_at = self.context.clock.elapsed()
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
        try:
            record = None if self._shared is None else self._shared.look(self._refused)
        except TokenManagerError:  # what it is of has ended, which the next call is told
            self.doubt()
            return
        if record is not None:
            self.adopt(record)

    def _look_in_doubt(self) -> Current:
        """Takes what was doubted in hand again, if it is the key's still: no newer one has come."""
        if self._doubted is NOTHING:
            return NOTHING
        self._look()
        with self._lock:
            # Once is enough: or each call would ask in spite of a back-off.
            self._doubted = NOTHING
            return self.current

    def _land(self, flight: Flight[Current], current: Current, asked_at: float | None) -> None:
        fetched = asked_at is not None
        with self._lock:
            # One that was given up brings a token all the same, if nothing newer has come.
            current.asked_at = current.asked_at if asked_at is None else asked_at
            takes = (self._ends(flight) or self._is_later(current)) and not self._closed
            if takes:
                wall = self.context.clock.wall()
                self._take(current, wall if fetched else current.record.obtained_at)
        if takes:
            self._took()
        flight.land(current)
        now = self.context.clock.elapsed()
        lives = current.valid_until - now
        if fetched:
            self._tell(events.TokenRenewed, now - flight.started_at, lives)
        else:
            self._tell(events.TokenAdopted, lives)

    def _fail(
        self, flight: Flight[Current], error: TokenManagerError, found: Current = NOTHING
    ) -> None:
        """Notes a failure, and tells all who wait, unless a token was found that serves them."""
        seconds = None
        with self._lock:
            now, valid_until = self.context.clock.elapsed(), self.current.valid_until
            if self._ends(flight) and not self._closed:  # one that was given up changes nothing
                wall, tried_at = self.context.clock.wall(), flight.started_at
                seconds = self._own_failures().add(error, now, wall, valid_until, tried_at=tried_at)
                # Its lifetime goes on, and so does what was said about its use.
                self.used = max(self.used, EARLIER)
                # Without a token in hand nobody is served by it: the next caller asks, and waits.
                if now < valid_until:
                    self._make_plan(now)
        if seconds is not None and now < valid_until:
            self._follow()
        elif seconds is not None:
            self._tell_news(seconds)
        if found is NOTHING or flight.renew:
            flight.fail(error)
        else:
            flight.land(found)  # here: whoever looks the key up may doubt it again at any time
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
