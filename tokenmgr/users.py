"""The managers of users' tokens: found by what the user's call brought, bounded, each alone.

Nobody is kept before a first token has come: until then a manager is here for as long as somebody
else holds it, and so is one that has had to make room. So assertions that are worth nothing cost
nothing that stays, and push nobody out. Of those that failed last, a few are kept until they may be
asked for again, lest each call of a refused user's be a request.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ._context import Context
from ._kept import Keeper, KeptCell, KeptManagers
from ._runtime.secrecy import Hidden
from .entra.client import Client
from .entra.grants.agent_user import AgentUser, AgentUserSource
from .entra.grants.on_behalf_of import OnBehalfOfSource, home_of
from .errors import ConfigurationError
from .identity.assertions import UserAssertion
from .manager import AccessTokenManager
from .token import Scopes, normalize_scopes

if TYPE_CHECKING:
    from ._sharing.slot import SealedStore
    from .entra.agent_client import AgentClient, ExchangeToken

__all__ = ["Users"]

#: Scopes can be spelled in many ways, and so many spellings are remembered.
_MOST_SPELLINGS = 1_000


class _Kept(KeptManagers):
    """The managers of an app's users, whichever tenant they are of."""

    def __init__(self, most: int, context: Context) -> None:
        #: Scopes as they were given, and as keys are made of them; read without the lock.
        self.spellings: dict[Scopes, tuple[str, ...]] = {}
        super().__init__(most, context)


class _UserCell(KeptCell):
    """A user's cell."""

    users: Users

    def _tell_news(self, seconds: float | None) -> None:
        self.users.hear(self, seconds)


class Users(Keeper):
    """The managers of users, of one app at one tenant. Those of all tenants have one bound.

    Args:
        most: So many are kept.
        client: The app, at its authority.
        context: What its managers have in common.
        sealed: Its store.
        beside: Those of another tenant.

    Raises:
        ConfigurationError: The authority has no such grant.
    """

    def __init__(
        self,
        most: int,
        client: Client,
        context: Context,
        sealed: SealedStore | None,
        beside: Users | None = None,
    ) -> None:
        if client.authority.kind == "b2c":
            raise ConfigurationError(
                "Azure AD B2C has no on-behalf-of grant: call the other API with the app's own "
                "token, by manager(), or have the user sign in for that API too"
            )
        self._most = most
        self._client = client
        self._context = context
        self._sealed = sealed
        self._all: _Kept = _Kept(most, context) if beside is None else beside._all  # noqa: SLF001
        #: The cells of all that anybody has.
        self._alive: Hidden = Hidden(weakref.WeakValueDictionary[Any, _UserCell]())

    def at(self, client: Client) -> Users:
        """Makes those of the same app at another tenant."""
        return Users(self._most, client, self._context, self._sealed, self)

    def manager(
        self, text: Hidden, given: Scopes, client: Client | None = None
    ) -> AccessTokenManager:
        """Gives the manager of a user's token.

        Args:
            text: The assertion, without ``Bearer``.
            given: What the token is for.
            client: Who acts for the user: an agent of the app; the app when left out.

        Raises:
            TokenManagerError: The assertion is none that could be exchanged, or a scope is none.
        """
        scopes, client = self._scopes_of(given), client or self._client
        whose = (client.authority.url, client.client_id)
        with self._all.lock:
            kept: AccessTokenManager | None
            kept = self._all.served.cell_contents[text.cell_contents, scopes, whose]
        if kept is not None:
            return kept

        def source() -> OnBehalfOfSource:
            assertion = UserAssertion(text)
            assertion.check_time(self._context.clock.wall())
            home = home_of(assertion, client)
            return OnBehalfOfSource(home, assertion, scopes, wanders=home is not client)

        return self._find(Hidden((text.cell_contents, scopes, whose)), source)

    def of_agent(
        self, client: AgentClient, user: AgentUser, given: Scopes, exchange: ExchangeToken
    ) -> AccessTokenManager:
        """Gives the manager of the token of an agent's user.

        Args:
            client: The agent.
            user: Whom it acts as.
            given: What the token is for.
            exchange: The agent's token that is exchanged for it (T2).

        Raises:
            TokenManagerError: A scope is none, or it is closed.
        """
        scopes = self._scopes_of(given)
        whose = (client.authority.url, client.client_id)
        wanted = Hidden((user.names.cell_contents, scopes, whose))
        with self._all.lock:
            kept: AccessTokenManager | None = self._all.served.cell_contents[wanted.cell_contents]
        if kept is not None:
            return kept
        return self._find(wanted, lambda: AgentUserSource(client, user, scopes, exchange))

    def _scopes_of(self, given: Scopes) -> tuple[str, ...]:
        try:
            return self._all.spellings.get(given) or self._spelled(given)
        except TypeError:  # a list or a set
            return normalize_scopes(given)

    def _spelled(self, given: Scopes) -> tuple[str, ...]:
        scopes = normalize_scopes(given)
        with self._all.lock:
            if len(self._all.spellings) >= _MOST_SPELLINGS:
                self._all.spellings.clear()
            self._all.spellings[given] = scopes
        return scopes

    def _find(
        self, wanted: Hidden, made: Callable[[], OnBehalfOfSource | AgentUserSource]
    ) -> AccessTokenManager:
        """Gives a manager that is not kept: one that somebody else holds, or a new one."""
        source = made()
        with self._all.lock:
            self._check_open()
            cell: _UserCell | None = self._alive.cell_contents.get(wanted.cell_contents)
            if cell is None:
                cell = _UserCell(source, source.key, self._context, self._sealed)
                cell.users, cell.wanted = self, wanted
                self._alive.cell_contents[wanted.cell_contents] = cell
            elif cell.has_token:
                self._all.keep(cell, cell.ends_at)  # it is in use again
            return cell.manager()

    # Without it, in a worker:

    def hear(self, cell: _UserCell, seconds: float | None) -> None:
        """Keeps a manager whose fetch has ended, whoever was first to ask for it.

        Args:
            cell: Its cell.
            seconds: How long its failure stands; None where it has a token.
        """
        with self._all.lock:
            if self._closed:
                return
            if seconds is None:
                self._all.keep(cell, cell.ends_at)
            else:
                self._all.keep_failed(cell, seconds)
