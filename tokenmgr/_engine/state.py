"""The state of one key: its token in hand, the flight for the next one, the back-off, the plan.

Workers land here what they fetch. The lock guards a few fields; under it nobody waits for a fetch,
and no source, store, hook or logger is called.
"""

from __future__ import annotations

import random
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from .. import events
from .._context import Context
from .._runtime.forks import renew_in_child
from .._runtime.refresher import Plan
from ..errors import ConfigurationError, ServiceUnavailableError, TokenManagerError
from ..events import TokenStatus
from ..token import Record, TokenKey, TokenSource
from .current import NOTHING, Current, arrived
from .failures import NO_FAILURES, Failures
from .flight import Flight

if TYPE_CHECKING:
    from .._sharing.fetch_once import SharedToken
    from .._sharing.slot import SealedStore

__all__ = ["EARLIER", "GRACE", "LATELY", "UNUSED", "State"]

#: When a token was last asked for: not since its renewal began; before the last look into the
#: store; since then.
UNUSED, EARLIER, LATELY = range(3)

#: Seconds that a flight is given beyond what a fetch may take. Then the key starts another, as
#: whoever leads this one has vanished, or hangs.
GRACE = 5.0

#: A shared record is looked at so often, in seconds, while its token is in use: what other workers
#: renewed or had to renew is known here by then.
_LOOK_EVERY = 60.0

#: Times that are so near to each other, in seconds, are the same one.
_SAME = 1e-3

#: So many tokens in a row may be refused while they are new; then the next one is kept for a while.
_MOST_REFUSALS = 3


class State(ABC):
    """What is known of one key, whose claims are those that the source is asked with."""

    #: Read without the lock, written with it.
    current: Current = NOTHING
    #: What was in hand when it was doubted. Nobody is given it unless the store has it still.
    _doubted: Current = NOTHING
    #: Who looks whether it has.
    _looking: Flight[Current] | None = None
    #: When it was last asked for; set without the lock.
    used: int = UNUSED
    #: The tokens that were refused last, lest the store give one again.
    refused: tuple[str, ...] = ()
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
        self.source = source
        self.context = context
        self._sealed = sealed
        #: How workers share it; None where they do not.
        self.shared: SharedToken | None = None
        share = getattr(source, "share", None)
        if share is not None:  # what its tokens are found by is not the key alone
            self.shared = share(key)
        elif sealed is not None:
            from .._sharing.fetch_once import SharedToken

            self.shared = SharedToken(sealed, key, getattr(source, "read_proof", None))
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
        self._flight = self._looking = None

    @property
    def has_token(self) -> bool:
        """Whether there is a token in hand that serves."""
        return self.context.clock.elapsed() < self.current.valid_until

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
                self.tell(events.TokenAdopted, current.valid_until - self.context.clock.elapsed())

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
            self.refused = (*self.refused, secret)[-_MOST_REFUSALS:]
        self.tell(events.TokenInvalidated)
        if self.shared is not None:
            # Not here: an event loop's thread may have brought the refusal.
            self.context.workers.do_or_here(partial(self.shared.drop, secret))

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

    def tell(self, kind: Callable[..., events.Event], *facts: object) -> None:
        """Tells of something that happened to this key."""
        self.context.emit(kind(self.context.clock.wall(), self.key, *facts))

    @abstractmethod
    def renew_if_used(self) -> None:
        """Renews in the background what somebody still asks for; for the refresher."""

    # With the lock held:

    def _own_failures(self) -> Failures:
        if self._failures is NO_FAILURES:
            self._failures = Failures(self.context.policy)
        return self._failures

    def _check_open(self) -> None:
        if self._closed:
            closed_error = getattr(self.source, "closed_error", lambda: None)()
            raise closed_error or ConfigurationError(
                "this manager is closed, with its registry: make a new TokenRegistry"
            )

    def _is_young(self, now: float) -> bool:
        return now - self.current.fetched_at < self.context.policy.backoff_cap

    def _under_way(self, now: float) -> Flight[Current] | None:
        """The flight, unless whoever leads it has vanished, or hangs: the key must not."""
        longest = self.context.fetch_timeout + GRACE
        longest += 0.0 if self.shared is None else self.shared.longest_search
        longest += getattr(self.source, "longest_wait", 0.0)
        if self._flight and now - self._flight.started_at >= longest:
            self._flight = None
        return self._flight

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
        return newer and current.secret not in self.refused

    def _is_later(self, current: Current) -> bool:
        """Whether what a flight brought that was given up is newer than the token in hand."""
        if float("-inf") in (current.asked_at, self.current.asked_at):
            return self._is_newer(current)
        # The wall clock may have been set back in between.
        return current.asked_at > self.current.asked_at and current.secret not in self.refused

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
        if self.shared is not None and now < current.fresh_until:
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

    def abandon(self, flight: Flight[Current]) -> None:
        """Ends a flight that nobody leads, or that this thread leads no more."""
        with self._lock:  # else a worker may begin to lead it meanwhile
            nobodys = flight.leader in (0, threading.get_ident())
            if nobodys:
                self._ends(flight)
                self._looking = None if self._looking is flight else self._looking
        if nobodys:
            flight.lose()

    def takes_off(self, flight: Flight[Current]) -> bool:
        """Notes when a flight is led; says whether it is still the key's."""
        with self._lock:
            # However long it stood in a queue, it has the whole time.
            flight.started_at = self.context.clock.elapsed()
            return self._flight is flight

    def ended_meanwhile(self) -> TokenManagerError | None:
        """What the source says once it has ended: whatever else fails then, fails for good."""
        if self._has_ended():
            try:
                self.source.check()  # type: ignore[attr-defined] # what ends has it
            except TokenManagerError as ended:
                ended.__context__ = None
                return ended
        return None

    def look(self) -> None:
        """Takes what other workers have in hand, where it is newer."""
        try:
            record = None if self.shared is None else self.shared.look(self.refused)
        except TokenManagerError:  # what it is of has ended, which the next call is told
            self.doubt()
            return
        if record is not None:
            self.adopt(record)

    def looked(self, flight: Flight[Current]) -> Current:
        """Ends a look; gives the token that was found, NOTHING where there is none."""
        with self._lock:
            if self._looking is flight:
                self._looking = None
            # Once is enough: or each call would look in spite of a back-off.
            self._doubted = NOTHING
            return self.current

    def land(self, flight: Flight[Current], current: Current, asked_at: float | None) -> None:
        """Takes what a flight has brought in hand, and gives it to all who wait."""
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
            self.tell(events.TokenRenewed, now - flight.started_at, lives)
        else:
            self.tell(events.TokenAdopted, lives)

    def fail(self, flight: Flight[Current], error: TokenManagerError) -> None:
        """Notes a failure, and tells all who wait."""
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
        flight.fail(error)
        if self._closed:
            return  # its end is no failure
        facts = (now - flight.started_at, type(error).__name__, error.error_codes, str(error))
        serves = max(0.0, valid_until - now)
        self.tell(events.RequestFailed, *facts, serves, seconds or 0.0)
        if seconds is not None:
            self.tell(events.BackingOff, seconds)
            if serves:
                self.tell(events.ServedStale, serves)

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
