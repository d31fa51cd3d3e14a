"""AccessTokenManager: the hot path, and the waiting.

A call that finds a fresh token reads one attribute and one clock, and takes no lock. Every other
call asks the key's cell, which gives it the token in hand, or the key's one flight to wait for.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING

from ._context import new_context
from ._engine.cell import LATELY, Cell, Request
from ._engine.current import Current
from ._engine.flight import Flight, FlightLostError
from ._runtime.clock import SYSTEM_CLOCK, Clock
from ._runtime.loops import warn_if_loop_runs
from ._runtime.secrecy import Hidden, Unpicklable, is_unicode
from ._runtime.stack import longest_wait
from .errors import (
    ConfigurationError,
    TokenManagerError,
    TokenRequestError,
    TokenTimeoutError,
)
from .events import Event, TokenStatus
from .policy import RefreshPolicy
from .token import AccessToken, TokenKey, TokenSource, normalize_scopes

if TYPE_CHECKING:
    from ._sharing.keys import EncryptionKey
    from ._sharing.part import StorePart
    from .stores import TokenStore

__all__ = ["AccessTokenManager", "cell_of", "doubt", "manager_of"]

#: A call on its way: it gives a flight with the seconds to wait for it at most, is told whether
#: that landed, and returns the token in the end. It does no I/O, and so serves threads and loops.
_Call = Generator[tuple[Flight[Current], float], bool, Current]

#: So many flights a call waits for: one may be interrupted, or bring what expired as it slept.
_MOST_FLIGHTS = 3
#: The cells of claims of whoever was never asked for any.
_NONE: dict[str, Cell] = {}
#: So many sets of claims have a token of their own at a time.
_MOST_CLAIMS = 8
#: Seconds that closing waits for what is under way, where it is shared.
_PATIENCE = 1.0


class AccessTokenManager(Unpicklable):
    """Keeps the token of one source fresh, for every thread and event loop that asks.

    Registries make managers (:meth:`TokenRegistry.manager`); one for a single token comes from
    :meth:`from_secret`, and one over a source of your own from this constructor.

    Args:
        source: Where tokens come from.
        key: What makes its tokens different from all others, also in a store.
        store: Where they are shared with other workers, as for :class:`~tokenmgr.TokenRegistry`;
            None shares them with nobody. What a URL names is closed with the manager.
        encryption_key: What they are encrypted with there; a store needs one.
        namespace: What the names of its records in the store begin with.
        policy: When to renew, how to back off, how long to wait.
        clock: The time; a test passes one that it moves by hand.
        on_event: Called with each :class:`~tokenmgr.events.Event`, in a thread of its own.

    Raises:
        ConfigurationError: A setting cannot be right, or a store is given without a key.
    """

    #: The part in a store that is its own; None without one, and for those of registries.
    _part: StorePart | None = None

    def __init__(
        self,
        source: TokenSource,
        key: TokenKey,
        *,
        store: TokenStore | str | None = None,
        encryption_key: EncryptionKey | None = None,
        namespace: str = "tokenmgr",
        policy: RefreshPolicy | None = None,
        clock: Clock = SYSTEM_CLOCK,
        on_event: Callable[[Event], object] | None = None,
    ) -> None:
        # Either may be secret, or hold a password.
        store, encryption_key, given = None, None, Hidden((store, encryption_key))
        context = new_context(policy=policy, clock=clock, on_event=on_event)
        if given.cell_contents[0] is not None:
            from ._sharing.part import part_of_source

            self._part = part_of_source(given, namespace=namespace, context=context)
        sealed = None if self._part is None else self._part.sealed
        self._begin(Cell(source, key, context, sealed))
        # What ends along with it, as nobody else has it.
        self._close_source = getattr(source, "close", self._close_source)  # type: ignore[method-assign]

    def _begin(self, cell: Cell) -> None:
        self.key: TokenKey = cell.key
        self._elapsed = cell.context.clock.elapsed
        self._patience = cell.context.policy.max_wait
        self._plain = cell
        #: The cell whose token is in hand: the plain one, or that of the claims which a resource
        #: asked for last.
        self._cell = cell
        self._by_claims: dict[str, Cell] = _NONE

    @property
    def _lock(self) -> threading.RLock:
        """Guards the cells of claims."""
        return self._plain._lock  # noqa: SLF001 - one for all that is of one key

    def _close_source(self) -> object:
        """Closes nothing: the source of a registry's manager is the registry's."""

    @classmethod
    def from_secret(
        cls,
        tenant_id: str,
        client_id: str,
        client_secret: str,
        scope: str,
        *,
        cae: bool = False,
    ) -> AccessTokenManager:
        """Makes a manager for one token of an app that has a client secret.

        Args:
            tenant_id: The tenant's id or domain name.
            client_id: The app's client id.
            client_secret: The secret's value, not its id.
            scope: What the token is for, such as ``https://graph.microsoft.com/.default``.
            cae: Whether the program answers claims challenges, as for :class:`TokenRegistry`.

        Raises:
            ConfigurationError: One of them cannot be right.
        """
        client_secret, given = "", Hidden(client_secret)
        from .entra.client import Client
        from .entra.grants.client_credentials import ClientCredentialsSource
        from .identity.authority import Authority
        from .identity.credentials import ClientSecret

        credential = ClientSecret(given.cell_contents)
        client = Client(Authority.entra(tenant_id), client_id, credential, cae=cae)
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
            timeout: Seconds to wait for it at most; left out, the policy's ``max_wait``. The fetch
                goes on for whoever else waits.

        Raises:
            TokenTimeoutError: There was none within ``timeout``.
            TokenManagerError: There is none to be had, and no valid one in hand.
        """
        cell = self._cell
        current = cell.current
        if self._elapsed() < current.fresh_until and min_ttl is None:
            cell.used = LATELY
            return current.secret
        return self._wait(self._call(cell, Request(min_ttl), timeout)).secret

    async def aget_access_token(
        self, *, min_ttl: float | None = None, timeout: float | None = None
    ) -> str:
        """Does as :meth:`get_access_token`, from any event loop, and never blocks it."""
        return (await self.aget_token(min_ttl=min_ttl, timeout=timeout)).secret

    def get_token(
        self,
        *,
        min_ttl: float | None = None,
        timeout: float | None = None,
        claims: str | None = None,
    ) -> AccessToken:
        """Does as :meth:`get_access_token`, and gives the token with its times.

        Args:
            min_ttl: As there.
            timeout: As there.
            claims: The claims that a resource asked for in a challenge, as JSON text. The token
                that has them is the one in hand from then on, and is renewed with them; whoever
                else asks for them meanwhile waits for the same one.

        Raises:
            TokenManagerError: As there.
        """
        cell = self._cell
        current = cell.current
        if self._elapsed() < current.fresh_until and min_ttl is None and claims is None:
            cell.used = LATELY
            return current.token
        cell = self._cell_of(claims)
        current = self._wait(self._call(cell, Request(min_ttl), timeout))
        if claims:
            self._take_in_hand(cell)
        return current.token

    async def aget_token(
        self,
        *,
        min_ttl: float | None = None,
        timeout: float | None = None,
        claims: str | None = None,
    ) -> AccessToken:
        """Does as :meth:`get_token`, from any event loop, and never blocks it."""
        cell = self._cell
        current = cell.current
        if self._elapsed() < current.fresh_until and min_ttl is None and claims is None:
            cell.used = LATELY
            return current.token
        cell = self._cell_of(claims)
        current = await self._await(self._call(cell, Request(min_ttl), timeout))
        if claims:
            self._take_in_hand(cell)
        return current.token

    def headers(self) -> dict[str, str]:
        """Gives ``{"Authorization": "Bearer …"}``, to merge into a request's headers."""
        return {"Authorization": self.get_token().authorization}

    async def aheaders(self) -> dict[str, str]:
        """Does as :meth:`headers`, from any event loop, and never blocks it."""
        return {"Authorization": (await self.aget_token()).authorization}

    def refresh_access_token(
        self, *, claims: str | None = None, timeout: float | None = None
    ) -> str:
        """Fetches a new token now. The one in hand stays in use if that fails.

        Args:
            claims: The claims that a resource asked for in a challenge, as JSON text. The token
                that has them is the one in hand from then on, and is renewed with them.
            timeout: As for :meth:`get_access_token`.

        Raises:
            TokenManagerError: No new one is to be had.
        """
        cell = self._cell_of(claims)
        current = self._wait(self._call(cell, Request(renew=True), timeout))
        if claims:
            self._take_in_hand(cell)
        return current.secret

    async def arefresh_access_token(
        self, *, claims: str | None = None, timeout: float | None = None
    ) -> str:
        """Does as :meth:`refresh_access_token`, from any event loop, and never blocks it."""
        cell = self._cell_of(claims)
        current = await self._await(self._call(cell, Request(renew=True), timeout))
        if claims:
            self._take_in_hand(cell)
        return current.secret

    def invalidate(self, token: str | AccessToken) -> None:
        """Drops a token that a resource refused, if it is still the one in hand.

        A late 401 about an old token does not throw away the new one.

        Args:
            token: The token that was refused.
        """
        self._cell.invalidate(token if isinstance(token, str) else token.secret)

    def prefetch(self) -> None:
        """Has the token fetched in the background if there is no fresh one; waits for nothing.

        Raises:
            TokenManagerError: It has just failed, and it is too early to ask again.
        """
        self._cell.request(Request())

    def status(self) -> TokenStatus:
        """Says how the token stands, without its secret."""
        return self._cell.status()

    def close(self) -> None:
        """Lets its token go, and ends its renewal. Every later call raises ConfigurationError."""
        self._plain.close()  # and so no cell of its claims is made that is not closed below
        with self._lock:
            cells = list(self._by_claims.values())
        if self._part is not None:
            self._part.stop()
        for cell in cells:
            cell.close()
        self._close_source()
        if self._part is not None:
            # So that others find what comes of a fetch that is under way.
            self._plain.context.settle(min(_PATIENCE, longest_wait()))
            self._part.close(_PATIENCE)

    # What every call does that finds no fresh token.

    def _call(self, cell: Cell, request: Request, timeout: float | None) -> _Call:
        patience = self._patience if timeout is None else timeout
        give_up_at = self._elapsed() + patience
        strict = request.renew or request.min_ttl is not None
        for _ in range(_MOST_FLIGHTS):
            found = cell.request(request)
            if isinstance(found, Current):
                return found
            landed = yield found, give_up_at - self._elapsed()
            try:
                current = found.result() if landed else cell.current
            except FlightLostError:
                continue
            except TokenManagerError:
                current = cell.current
                if strict or self._elapsed() >= current.valid_until:
                    raise
            left = current.valid_until - self._elapsed()
            # Short of what is needed it may be after a sleep of the machine; else asking refuses.
            if left > 0 and left >= (request.min_ttl or 0) and (landed or not request.renew):
                return current
            if not landed:
                raise TokenTimeoutError(
                    f"no token for {' '.join(self.scopes)} within the time given: the fetch goes "
                    "on, so ask again, or allow a longer timeout"
                )
        raise TokenRequestError(
            "no fetch brought a token that serves: what fetches it was interrupted again and again "
            "(see what ends its threads, and whether its source calls sys.exit()), or its tokens "
            "live for less than min_ttl",
            retryable=True,
        )

    def _wait(self, call: _Call) -> Current:
        try:
            flight, seconds = next(call)
            warn_if_loop_runs()
            while True:
                flight, seconds = call.send(flight.wait(min(seconds, longest_wait())))
        except StopIteration as end:
            current: Current = end.value
            return current

    async def _await(self, call: _Call) -> Current:
        try:
            flight, seconds = next(call)
            while True:
                flight, seconds = call.send(await flight.join(seconds))
        except StopIteration as end:
            current: Current = end.value
            return current

    # Claims: each set of them is a key of its own.

    def _cell_of(self, claims: str | None) -> Cell:
        if not claims:
            return self._cell
        if not isinstance(claims, str) or not is_unicode(claims):
            raise ConfigurationError("claims= is JSON text, as the challenge has it: correct it")
        with self._lock:
            cell = self._by_claims.get(claims)
            if self._by_claims is _NONE:
                self._by_claims = {}
            if cell is None:
                cell = self._by_claims[claims] = self._plain.for_claims(claims)
                for oldest in list(self._by_claims)[:-_MOST_CLAIMS]:
                    if self._by_claims[oldest] is not self._cell:
                        self._by_claims.pop(oldest).rest()  # whoever waits for it still gets it
            return cell

    def _take_in_hand(self, cell: Cell) -> None:
        """Has later calls find this cell's token, and the one before it renewed no more."""
        before = cell
        with self._lock:
            if self._by_claims.get(cell.key.claims) is cell:  # else many others have come since
                before, self._cell = self._cell, cell
        if before is not cell:
            before.rest()


def manager_of(cell: Cell) -> AccessTokenManager:
    """Makes the manager of a registry's cell, which closes the source by itself."""
    manager = AccessTokenManager.__new__(AccessTokenManager)
    AccessTokenManager._begin(manager, cell)  # noqa: SLF001 - its other constructor
    return manager


def doubt(manager: AccessTokenManager) -> None:
    """Has the next call look whether the tokens in hand, with whatever claims, serve still."""
    for cell in (manager._plain, *list(manager._by_claims.values())):  # noqa: SLF001 - its own
        cell.doubt()


def cell_of(manager: AccessTokenManager) -> Cell:
    """Gives the cell of a manager's token, as it is asked for without claims."""
    return manager._plain  # noqa: SLF001 - what the manager was made of
