"""AccessTokenManager: the hot path, and the waiting.

A call that finds a fresh token reads one attribute and one clock, and takes no lock. Every other
call boards: its ``TokenKeeper`` gives it the token in hand, or the key's one flight to wait for.
"""

from __future__ import annotations

import threading

from ._engine.boarding import Need
from ._engine.cell import TokenKeeper
from ._engine.current import HeldToken
from ._engine.flight import Flight, FlightLostError
from ._runtime.clock import SYSTEM_CLOCK, Clock
from ._runtime.refresher import Refresher, refresher_for
from ._runtime.secrecy import Unpicklable
from ._runtime.workers import FETCHERS, Workers
from ._sharing.fetch_once import SharedToken
from .errors import TokenManagerError, TokenTimeoutError
from .events import Hook, TokenStatus
from .policy import RefreshPolicy
from .token import AccessToken, Record, TokenKey, TokenSource, normalize_scopes

__all__ = ["AccessTokenManager"]


class AccessTokenManager(Unpicklable):
    """Keeps the token of one source fresh, for every thread and event loop that asks.

    Registries make managers (:meth:`TokenRegistry.manager`); one for a single token comes from
    :meth:`from_secret`, and one over a source of your own from this constructor.

    Args:
        source: Where tokens come from.
        key: What makes its tokens different from all others.
        policy: When to renew, how to back off, how long to wait.
        clock: The time; a test passes one that it moves by hand.
        refresher: What renews in the background; the process's own when left out.
        workers: The threads that fetch in the background; the process's own when left out.
        hook: Where events go; to the logger alone when left out.
        shared: Its part in a store that workers share; a registry gives it.
    """

    def __init__(
        self,
        source: TokenSource,
        key: TokenKey,
        *,
        policy: RefreshPolicy | None = None,
        clock: Clock = SYSTEM_CLOCK,
        refresher: Refresher | None = None,
        workers: Workers = FETCHERS,
        hook: Hook | None = None,
        shared: SharedToken | None = None,
    ) -> None:
        self.key = key
        self._elapsed = clock.elapsed
        self._max_wait = (policy or RefreshPolicy()).max_wait
        self._keeper = TokenKeeper(
            source,
            key,
            policy=policy or RefreshPolicy(),
            clock=clock,
            refresher=refresher or refresher_for(clock),
            workers=workers,
            hook=hook or Hook(),
            shared=shared,
        )

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
        from .entra.client import ConfidentialClient
        from .entra.grants.client_credentials import ClientCredentialsSource
        from .identity.authority import Authority
        from .identity.credentials import ClientSecret

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
            timeout: Seconds to wait for it at most. The fetch goes on for whoever else waits.
                Left out, a caller that fetches in its own thread has the source's deadline, and
                one that waits for another's fetch has the policy's ``max_wait``.

        Raises:
            TokenTimeoutError: There was none within ``timeout``.
            TokenManagerError: There is none to be had, and no valid one in hand.
        """
        keeper = self._keeper
        held = keeper.held
        if self._elapsed() < held.fresh_until and min_ttl is None:
            keeper.used = True
            return held.secret
        return self._descend(Need(min_ttl), timeout).secret

    async def aget_access_token(
        self, *, min_ttl: float | None = None, timeout: float | None = None
    ) -> str:
        """Does as :meth:`get_access_token`, from any event loop, and never blocks it."""
        return (await self.aget_token(min_ttl=min_ttl, timeout=timeout)).secret

    def get_token(
        self, *, min_ttl: float | None = None, timeout: float | None = None
    ) -> AccessToken:
        """Does as :meth:`get_access_token`, and gives the token with its times."""
        keeper = self._keeper
        held = keeper.held
        if self._elapsed() < held.fresh_until and min_ttl is None:
            keeper.used = True
            return held.token
        return self._descend(Need(min_ttl), timeout)

    async def aget_token(
        self, *, min_ttl: float | None = None, timeout: float | None = None
    ) -> AccessToken:
        """Does as :meth:`get_token`, from any event loop, and never blocks it."""
        keeper = self._keeper
        held = keeper.held
        if self._elapsed() < held.fresh_until and min_ttl is None:
            keeper.used = True
            return held.token
        return await self._adescend(Need(min_ttl), timeout)

    def headers(self) -> dict[str, str]:
        """Gives ``{"Authorization": "Bearer …"}``, to merge into a request's headers."""
        return {"Authorization": self.get_token().authorization}

    def refresh_access_token(
        self, *, claims: str | None = None, timeout: float | None = None
    ) -> str:
        """Fetches a new token now. The one in hand stays in use if that fails.

        Args:
            claims: The claims that a resource asked for in a challenge, as JSON text.
            timeout: As for :meth:`get_access_token`.

        Raises:
            TokenManagerError: No new one is to be had.
        """
        return self._descend(Need(renew=True, claims=claims), timeout).secret

    async def arefresh_access_token(
        self, *, claims: str | None = None, timeout: float | None = None
    ) -> str:
        """Does as :meth:`refresh_access_token`, from any event loop, and never blocks it."""
        return (await self._adescend(Need(renew=True, claims=claims), timeout)).secret

    def invalidate(self, token: str | AccessToken) -> None:
        """Drops a token that a resource refused, if it is still the one in hand.

        A late 401 about an old token does not throw away the new one.

        Args:
            token: The token that was refused.
        """
        self._keeper.invalidate(token if isinstance(token, str) else token.secret)

    def prefetch(self) -> None:
        """Has the token fetched in the background if there is no fresh one; waits for nothing.

        Raises:
            TokenManagerError: It has just failed, and it is too early to ask again.
        """
        self._keeper.board(Need(), self._keeper.lead_elsewhere)

    def record(self) -> Record | None:
        """Gives the token in hand as it came, if it is valid; for the registry's export."""
        held = self._keeper.held
        return held.record if self._elapsed() < held.valid_until else None

    def adopt(self, record: Record) -> None:
        """Takes a token that was fetched elsewhere, if it is newer than the one in hand."""
        self._keeper.adopt(record)

    def status(self) -> TokenStatus:
        """Says how the token stands, without its secret."""
        return self._keeper.status()

    def close(self) -> None:
        """Lets its token go, and ends its renewal. Every later call raises ConfigurationError."""
        self._keeper.close()

    # The way down: what every call does that finds no fresh token.

    def _descend(self, need: Need, timeout: float | None) -> AccessToken:
        give_up_at = self._give_up_at(timeout)
        # A caller with a deadline cannot lead in its own thread: it could not leave in time.
        lead = self._keeper.lead if timeout is None else self._keeper.lead_elsewhere
        while True:
            boarding = self._keeper.board(need, lead)
            if boarding.flight is None:
                return boarding.held.token
            if not boarding.flight.wait(give_up_at - self._elapsed()):
                raise self._timed_out()
            token = self._arrive(boarding.flight, need) if boarding.ours else None
            if token is not None:
                return token
            if not boarding.ours:
                need = need._replace(since=need.since or boarding.held)

    async def _adescend(self, need: Need, timeout: float | None) -> AccessToken:
        give_up_at = self._give_up_at(timeout)
        while True:
            boarding = self._keeper.board(need, self._keeper.lead_elsewhere)
            if boarding.flight is None:
                return boarding.held.token
            if not await boarding.flight.join(give_up_at - self._elapsed()):
                raise self._timed_out()
            token = self._arrive(boarding.flight, need) if boarding.ours else None
            if token is not None:
                return token
            if not boarding.ours:
                need = need._replace(since=need.since or boarding.held)

    def _arrive(self, flight: Flight[HeldToken], need: Need) -> AccessToken | None:
        """Gives what a landed flight brought; None when the caller has to board another."""
        try:
            held = flight.result()
        except FlightLostError:
            return None
        except TokenManagerError:
            held = self._keeper.held
            strict = need.renew or need.min_ttl is not None
            if strict or self._elapsed() >= held.valid_until:
                raise
        left = held.valid_until - self._elapsed()
        # Short of what is needed it may be after a sleep of the machine; else boarding refuses.
        return held.token if left > 0 and left >= (need.min_ttl or 0) else None

    def _give_up_at(self, timeout: float | None) -> float:
        wait = self._max_wait if timeout is None else min(timeout, threading.TIMEOUT_MAX)
        return self._elapsed() + wait

    def _timed_out(self) -> TokenTimeoutError:
        return TokenTimeoutError(
            f"no token for {' '.join(self.scopes)} within the time given: the fetch goes on, so "
            "ask again, or allow a longer timeout"
        )
