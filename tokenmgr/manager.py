"""AccessTokenManager: the hot path, and the way down from it.

A call that finds a fresh token reads one attribute and one clock, and takes no lock. Every other
call asks :func:`~tokenmgr.policy.decide` what to do, under a lock that guards the manager's few
fields and is never held while anything waits. Whoever waits, waits for the key's one flight.
"""

from __future__ import annotations

import copy
import dataclasses
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass

from .clock import SYSTEM_CLOCK, Clock
from .errors import (
    ConfigurationError,
    ServiceUnavailableError,
    TokenManagerError,
    TokenRequestError,
    TokenTimeoutError,
)
from .flight import Flight, FlightLostError
from .policy import Action, Held, RefreshPolicy, decide
from .secrecy import Unpicklable
from .token import AccessToken, TokenKey, TokenSource, normalize_scopes

__all__ = ["AccessTokenManager"]


@dataclass(frozen=True)
class _HeldToken(Held):
    """The token in hand, and how long it serves. Replaced whole, never changed."""

    token: AccessToken


#: Stands for no token, so that the hot path needs no test for None.
_NOTHING = _HeldToken(float("-inf"), float("-inf"), AccessToken("", 0.0))


class AccessTokenManager(Unpicklable):
    """Keeps the token of one source fresh, for every thread and event loop that asks.

    Registries make managers (:meth:`TokenRegistry.manager`); one for a single token comes from
    :meth:`from_secret`, and one over a source of your own from this constructor.

    Args:
        source: Where tokens come from.
        key: What makes its tokens different from all others.
        policy: When to renew, how to back off, how long to wait.
        clock: The time; a test passes one that it moves by hand.
    """

    def __init__(
        self,
        source: TokenSource,
        key: TokenKey,
        *,
        policy: RefreshPolicy | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.key = key
        self._source = source
        self._policy = policy or RefreshPolicy()
        self._clock = clock
        self._elapsed = clock.elapsed
        #: Read without the lock, written with it.
        self._held = _NOTHING
        #: Guards the fields below, and is never held while anything waits.
        self._lock = threading.Lock()
        self._flight: Flight[_HeldToken] | None = None
        self._failures = 0
        self._failure: TokenManagerError | None = None
        self._retry_at = 0.0
        self._closed = False

    @classmethod
    def from_secret(
        cls, tenant_id: str, client_id: str, client_secret: str, scope: str
    ) -> AccessTokenManager:
        """Makes a manager for one token of an app that has a client secret.

        Args:
            tenant_id: The tenant's id or domain name.
            client_id: The app's client id.
            client_secret: The secret's value, not its id.
            scope: What the token is for, such as ``https://graph.microsoft.com/.default``.

        Raises:
            ConfigurationError: One of them cannot be right.
        """
        from .authority import Authority
        from .credentials import ClientSecret
        from .entra.client import ConfidentialClient
        from .entra.client_credentials import ClientCredentialsSource

        try:
            credential = ClientSecret(client_secret)
        finally:
            del client_secret  # so that no traceback shows it
        client = ConfidentialClient(Authority.entra(tenant_id), client_id, credential)
        source = ClientCredentialsSource(client, normalize_scopes(scope))
        return cls(source, source.key)

    def __repr__(self) -> str:
        return f"<AccessTokenManager of {' '.join(self.key.scopes)} at {self.key.authority}>"

    @property
    def scopes(self) -> tuple[str, ...]:
        """The scopes of its tokens, sorted."""
        return self.key.scopes

    def get_access_token(
        self, *, min_ttl: float | None = None, timeout: float | None = None
    ) -> str:
        """Gives a valid access token: the text that goes behind ``Bearer``.

        Args:
            min_ttl: Seconds for which it has to stay valid, where that matters.
            timeout: Seconds to wait for it at most; the policy's ``max_wait`` when left out.
                The fetch goes on for whoever else waits.

        Raises:
            TokenTimeoutError: There was none within ``timeout``.
            TokenManagerError: There is none to be had, and no valid one in hand.
        """
        held = self._held
        if min_ttl is None and self._elapsed() < held.fresh_until:
            return held.token.secret
        return self._descend(min_ttl, timeout).secret

    async def aget_access_token(
        self, *, min_ttl: float | None = None, timeout: float | None = None
    ) -> str:
        """Does as :meth:`get_access_token`, from any event loop, and never blocks it."""
        return (await self.aget_token(min_ttl=min_ttl, timeout=timeout)).secret

    def get_token(
        self, *, min_ttl: float | None = None, timeout: float | None = None
    ) -> AccessToken:
        """Does as :meth:`get_access_token`, and gives the token with its times."""
        held = self._held
        if min_ttl is None and self._elapsed() < held.fresh_until:
            return held.token
        return self._descend(min_ttl, timeout)

    async def aget_token(
        self, *, min_ttl: float | None = None, timeout: float | None = None
    ) -> AccessToken:
        """Does as :meth:`get_token`, from any event loop, and never blocks it."""
        held = self._held
        if min_ttl is None and self._elapsed() < held.fresh_until:
            return held.token
        return await self._adescend(min_ttl, timeout)

    def headers(self) -> dict[str, str]:
        """Gives ``{"Authorization": "Bearer …"}``, to merge into a request's headers."""
        return {"Authorization": self.get_token().authorization}

    def refresh_access_token(self, *, timeout: float | None = None) -> str:
        """Fetches a new token now. The one in hand stays in use if that fails.

        Args:
            timeout: As for :meth:`get_access_token`.

        Raises:
            TokenManagerError: No new one is to be had.
        """
        return self._descend(None, timeout, renew=True).secret

    async def arefresh_access_token(self, *, timeout: float | None = None) -> str:
        """Does as :meth:`refresh_access_token`, from any event loop, and never blocks it."""
        return (await self._adescend(None, timeout, renew=True)).secret

    def invalidate(self, token: str | AccessToken) -> None:
        """Drops a token that a resource refused, if it is still the one in hand.

        A late 401 about an old token does not throw away the new one.

        Args:
            token: The token that was refused.
        """
        secret = token if isinstance(token, str) else token.secret
        with self._lock:
            if self._held.token.secret == secret:
                self._held = _NOTHING

    def close(self) -> None:
        """Lets its token go. Every later call raises ConfigurationError."""
        with self._lock:
            self._closed = True
            self._held = _NOTHING

    # The way down: what every call does that finds no fresh token.

    def _descend(
        self, min_ttl: float | None, timeout: float | None, *, renew: bool = False
    ) -> AccessToken:
        give_up_at = self._give_up_at(timeout)
        # A caller with a deadline cannot lead in its own thread: it could not leave in time.
        lead = self._lead if timeout is None else self._lead_elsewhere
        while True:
            boarded = self._board(min_ttl, renew, lead)
            if isinstance(boarded, AccessToken):
                return boarded
            if not boarded.wait(give_up_at - self._elapsed()):
                raise self._timed_out()
            token = self._arrive(boarded, min_ttl, renew)
            if token is not None:
                return token

    async def _adescend(
        self, min_ttl: float | None, timeout: float | None, *, renew: bool = False
    ) -> AccessToken:
        give_up_at = self._give_up_at(timeout)
        while True:
            boarded = self._board(min_ttl, renew, self._lead_elsewhere)
            if isinstance(boarded, AccessToken):
                return boarded
            if not await boarded.join(give_up_at - self._elapsed()):
                raise self._timed_out()
            token = self._arrive(boarded, min_ttl, renew)
            if token is not None:
                return token

    def _board(
        self,
        min_ttl: float | None,
        renew: bool,
        lead: Callable[[Flight[_HeldToken]], None],
    ) -> AccessToken | Flight[_HeldToken]:
        """Gives the token that serves the call, or the flight to wait for, started if need be."""
        leads = False
        with self._lock:
            if self._closed:
                raise ConfigurationError(
                    "this manager is closed, with its registry: make a new TokenRegistry"
                )
            now, held = self._elapsed(), self._held
            action = decide(
                now,
                None if renew else held,
                min_ttl=min_ttl,
                retry_at=self._retry_at,
            )
            flight = self._flight
            if flight is not None and now - flight.started_at >= self._policy.max_wait:
                flight = None  # its leader is gone or hangs: the key must not hang with it
            if flight is None and action in (Action.WAIT, Action.RETURN_AND_RENEW):
                flight = self._flight = Flight(now)
                leads = True
            if action is Action.FAIL and flight is None:
                raise self._repeat_failure()
        if action in (Action.RETURN, Action.RETURN_AND_RENEW):
            if leads and flight is not None:
                self._lead_elsewhere(flight)
            return held.token
        assert flight is not None  # noqa: S101 - only a failure comes without one
        if leads:
            lead(flight)
        return flight

    def _arrive(
        self, flight: Flight[_HeldToken], min_ttl: float | None, renew: bool
    ) -> AccessToken | None:
        """Gives what a landed flight brought; None when the caller has to board another."""
        now = self._elapsed()
        try:
            held = flight.result()
        except FlightLostError:
            return None
        except TokenManagerError:
            held = self._held
            if renew or min_ttl is not None or now >= held.valid_until:
                raise
        if now >= held.valid_until:  # the machine slept between landing and waking up
            return None
        if min_ttl is not None and held.valid_until - now < min_ttl:
            raise TokenRequestError(
                f"the newest token is valid for {held.valid_until - now:.0f} s, and min_ttl asks "
                f"for {min_ttl:g} s: ask for less than the service's tokens live"
            )
        return held.token

    def _lead_elsewhere(self, flight: Flight[_HeldToken]) -> None:
        thread = threading.Thread(
            target=self._lead, args=(flight,), name="tokenmgr-fetch", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:  # no thread can run here: a WSGI server without any, or at exit
            self._lead(flight)

    def _lead(self, flight: Flight[_HeldToken]) -> None:
        elapsed, wall = self._clock.elapsed(), self._clock.wall()
        try:
            held = self._hold(self._source.fetch_token(), elapsed - wall)
        except Exception as exc:  # noqa: BLE001 - a source may be anybody's code
            self._crash(flight, _typed(exc))
        except BaseException:  # this thread is being interrupted; the fetch may be in order
            with self._lock:
                self._flight = None if self._flight is flight else self._flight
            flight.lose()
            raise
        else:
            with self._lock:
                if self._flight is flight and not self._closed:
                    self._held, self._flight = held, None
                    self._failures, self._failure, self._retry_at = 0, None, 0.0
            flight.land(held)

    def _hold(self, token: AccessToken, offset: float) -> _HeldToken:
        now = self._clock.elapsed()
        # Where the wall clock was set during the fetch, the two readings of it disagree; nobody
        # knows which one the source took, and the earlier end is safe.
        ends = token.expires_at + min(offset, now - self._clock.wall())
        lifetime = ends - now
        if lifetime <= 0:
            raise ServiceUnavailableError(
                "the token that came had expired already: compare this machine's clock with the "
                "service's"
            )
        asked = token.refresh_at
        times = self._policy.hold(
            now,
            lifetime,
            refresh_in=None if asked is None else lifetime - (token.expires_at - asked),
            chance=random.random(),  # noqa: S311 - spreads renewals, guards nothing
        )
        refresh_at = token.expires_at - (ends - times.fresh_until)
        token = dataclasses.replace(token, refresh_at=refresh_at)
        return _HeldToken(times.fresh_until, times.valid_until, token)

    def _crash(self, flight: Flight[_HeldToken], error: TokenManagerError) -> None:
        with self._lock:
            if self._flight is flight:
                self._flight = None
                self._failures += 1
                # A copy, since what is raised holds on to the frames of whoever caught it.
                self._failure = copy.copy(error)
                self._retry_at = self._elapsed() + self._policy.backoff(
                    self._failures,
                    chance=random.random(),  # noqa: S311 - spreads retries, guards nothing
                    retry_after=error.retry_after,
                )
        flight.fail(error)

    def _repeat_failure(self) -> TokenManagerError:
        assert self._failure is not None  # noqa: S101 - retry_at is set along with it
        return copy.copy(self._failure)

    def _give_up_at(self, timeout: float | None) -> float:
        return self._elapsed() + (self._policy.max_wait if timeout is None else timeout)

    def _timed_out(self) -> TokenTimeoutError:
        return TokenTimeoutError(
            f"no token for {' '.join(self.scopes)} within the time given: the fetch goes on, so "
            "ask again, or allow a longer timeout"
        )


def _typed(error: Exception) -> TokenManagerError:
    if isinstance(error, TokenManagerError):
        return error
    # The text of a foreign error may hold anything, so that only its class is named.
    typed = TokenRequestError(
        f"the token source failed with {type(error).__name__}, which is chained to this error"
    )
    typed.__cause__ = error
    return typed
