"""Agent identities: what a program holds of an agent, and of the user account that it acts as.

Their tokens are managers like all others. So are the two that are exchanged on the way, which every
token of an agent has in common: one fetch of them serves all::

    the blueprint ── T1 ──┬── the agent's own tokens
                          ├── T2 ── the tokens of its user
                          └── tokens on behalf of who calls it
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from ._engine.state import GRACE
from ._runtime.secrecy import Hidden, Unpicklable
from ._tenants import Tenant
from .entra.agent_client import AgentClient
from .entra.client import Client
from .entra.grants.agent_user import AgentUser
from .errors import ConfigurationError
from .identity.addresses import is_guid
from .identity.assertions import text_of
from .identity.clouds import exchange_scope_at
from .manager import AccessTokenManager, borrow, drop
from .token import AccessToken

__all__ = ["Agent", "AgentAccount"]


class _Exchange(Unpicklable):
    """A token that is exchanged for others, and kept by its manager.

    Args:
        find: Gives the manager, which may have had to make room meanwhile.
        seconds: How long it is waited for.
    """

    def __init__(self, find: Callable[[], AccessTokenManager], seconds: float) -> None:
        self._find = find
        self.longest_wait: float = seconds

    def get(self, claims: str) -> AccessToken:
        return borrow(self._find(), claims, self.longest_wait)

    def drop(self, token: AccessToken) -> None:
        drop(self._find(), token)


def _longest_wait(own: Tenant, client: Client) -> float:
    """Seconds that a fetch may take which may have to wait for another worker's, too.

    It is more than a fetch takes that is never answered: that one's failure is to be told, and not
    that nobody has waited for it.
    """
    sealed = own.app.sealed
    seconds = own.app.context.fetch_timeout + GRACE + client.longest_wait
    return seconds if sealed is None else seconds + sealed.lease_ttl


class Agent(Unpicklable):
    """An agent identity at one tenant. :meth:`TokenRegistry.agent` gives it."""

    def __init__(self, own: Tenant, agent_id: str) -> None:
        own.check_open()
        app = own.client
        app.check_credential("agent()")
        authority = app.authority
        if authority.kind != "entra" or authority.is_multi_tenant_alias:
            raise ConfigurationError(
                f"an agent is at one tenant of Microsoft Entra, and {authority} is none: name one "
                "in the authority, or by tokens.tenant(…).agent(…)"
            )
        named = agent_id.strip().lower() if isinstance(agent_id, str) else ""
        if not is_guid(named) or named == app.client_id.lower():
            raise ConfigurationError(
                "agent_id= is an agent's client id, a GUID, and not that of its blueprint: see the "
                "portal"
            )
        self._own = own
        self._exchanged = exchange_scope_at(authority.host)
        #: Its client id, in lower case.
        self.agent_id: str = named
        # Of the managers alone: an agent is asked for anew each time, and goes without a collector.
        find = partial(own.members.find, (self._exchanged,), fmi_path=named)
        self._client = AgentClient(app, named, _Exchange(find, _longest_wait(own, app)))

    def __repr__(self) -> str:
        return f"<Agent {self.agent_id} of {self._own.client.client_id}>"

    def manager(self, *scopes: str | Iterable[str]) -> AccessTokenManager:
        """Gives the manager of the agent's own token, as an autonomous agent has it.

        Args:
            *scopes: What the token is for: ``{resource}/.default``.

        Raises:
            InvalidScopeError: It is no scope for client credentials.
            ConfigurationError: There is none, or the registry is closed.
        """
        return self._own.members.find(scopes, client=self._client)

    def on_behalf_of(self, assertion: str, *scopes: str | Iterable[str]) -> AccessTokenManager:
        """Gives the manager of a user's token, for whom the agent acts.

        It is as with :meth:`TokenRegistry.on_behalf_of`, and the agent is the one who asks.

        Args:
            assertion: The access token that the user's call has brought, with ``Bearer`` before it
                or not. Its audience is the blueprint.
            *scopes: What the token is for, such as ``https://graph.microsoft.com/User.Read``.

        Raises:
            InteractionRequiredError: It has expired, is no JWT, or is larger than 16 KiB: answer
                401, so that the caller sends another.
            InvalidScopeError: A scope is none that may be asked for.
            ConfigurationError: It is no text; no scope was given; or the registry is closed.
        """
        assertion, given = "", Hidden(assertion)
        users = self._own.users or self._own.begin_users()
        return users.manager(text_of(given), scopes, self._client)

    def user(self, *, username: str | None = None, user_id: str | None = None) -> AgentAccount:
        """Gives the user account that the agent acts as, by one of its names.

        Args:
            username: Its user principal name, such as ``agent@contoso.com``.
            user_id: Its object id, a GUID.

        Raises:
            ConfigurationError: None or both are given, or it is no such name.
        """
        username, user_id, given = None, None, (Hidden(username), Hidden(user_id))
        return AgentAccount(self, AgentUser(*given))

    def proof(self) -> AccessTokenManager:
        """Gives the manager of what proves the agent: its blueprint's token for it (T1).

        All of the agent's tokens take it by themselves. It is for code that exchanges it itself.

        Raises:
            ConfigurationError: The registry is closed.
        """
        return self._own.members.find((self._exchanged,), fmi_path=self.agent_id)

    def exchanged(self) -> AccessTokenManager:
        """Gives the manager of the agent's token that is exchanged for its user's (T2).

        As :meth:`proof`, it is for code that exchanges it itself.

        Raises:
            ConfigurationError: The registry is closed.
        """
        return self.manager(self._exchanged)

    def _of_user(
        self, user: AgentUser, scopes: tuple[str | Iterable[str], ...]
    ) -> AccessTokenManager:
        users = self._own.users or self._own.begin_users()
        find = partial(self._own.members.find, (self._exchanged,), client=self._client)
        exchange = _Exchange(find, _longest_wait(self._own, self._client))
        return users.of_agent(self._client, user, scopes, exchange)


class AgentAccount(Unpicklable):
    """The user account that an agent acts as. :meth:`Agent.user` gives it."""

    def __init__(self, agent: Agent, user: AgentUser) -> None:
        self._agent = agent
        self._user = user

    def __repr__(self) -> str:
        return f"<AgentAccount of {self._agent!r}>"

    def manager(self, *scopes: str | Iterable[str]) -> AccessTokenManager:
        """Gives the manager of the user's token. The same user and scopes, the same manager.

        Each user is alone: one's failures and back-off are no other's. So many of them are kept as
        ``max_users=`` says, together with those of :meth:`TokenRegistry.on_behalf_of`.

        Args:
            *scopes: What the token is for, such as ``https://graph.microsoft.com/Mail.Send``.

        Raises:
            InvalidScopeError: A scope is none that may be asked for.
            ConfigurationError: No scope was given, or the registry is closed.
        """
        return self._agent._of_user(self._user, scopes)  # noqa: SLF001 - its own
