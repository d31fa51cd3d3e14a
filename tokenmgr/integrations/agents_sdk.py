"""Tokens for the Microsoft 365 Agents SDK, in place of its own ``MsalAuth``.

Source of what it follows: ``AccessTokenProviderBase`` of ``microsoft_agents.hosting.core``, version
1.9, and the ``ConnectionManager`` and ``RestChannelServiceClientFactory`` that call it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

try:
    from microsoft_agents.hosting.core import AccessTokenProviderBase, AgentAuthConfiguration
except ImportError as _missing:
    raise ImportError(
        "tokenmgr.integrations.agents_sdk needs microsoft-agents-hosting-core: pip install "
        "'tokenmgr[agents]'",
        name=_missing.name,
    ) from _missing

from tokenmgr._runtime.secrecy import Hidden
from tokenmgr.errors import ConfigurationError
from tokenmgr.http.azure import AsyncTokenCredential

if TYPE_CHECKING:
    from tokenmgr.agents import Agent
    from tokenmgr.manager import AccessTokenManager
    from tokenmgr.registry import TokenRegistry

__all__ = ["AccessTokenProvider"]

#: What stands in a connection's scopes for the address that is talked to.
_INSTANCE = "{instance}"


class AccessTokenProvider(AccessTokenProviderBase):
    """Gives a registry's tokens to the Agents SDK: those of the app, its agents and their users.

    Each is fetched once for all who ask, kept until it is renewed, and shared by the registry's
    store. The SDK's own provider asks for an agent's tokens anew whenever they are needed.

    Wherever the SDK's samples have ``MsalConnectionManager(**settings)``::

        tokens = TokenRegistry.from_env()
        connections = ConnectionManager(
            lambda connection: AccessTokenProvider(tokens, connection), **settings
        )

    What fails raises tokenmgr's errors, and never gives None.

    Args:
        tokens: The registry of the app, which is the agents' blueprint.
        configuration: The connection as the SDK has it, for its scopes and for whom it takes
            calls from. Its credential is not read: the registry has one.

    Raises:
        ConfigurationError: The connection is another app's, or is left out where the registry has
            a managed identity, which does not say what it is called.
    """

    def __init__(
        self, tokens: TokenRegistry, configuration: AgentAuthConfiguration | None = None
    ) -> None:
        app = tokens._own.client  # noqa: SLF001 - what the SDK wants to know of it
        if configuration is None:
            app.check_app("AccessTokenProvider(), without the connection's configuration,")
            configuration = AgentAuthConfiguration(
                client_id=app.client_id,
                tenant_id=app.authority.tenant,
                authority=app.authority.url,
            )
        # Whose the tokens of a managed identity are, nobody but it knows.
        elif app.given_by is None and _is_of_another(configuration, app.client_id):
            raise ConfigurationError(
                f"the connection is of the app {configuration.CLIENT_ID}, and the registry of "
                f"{app.client_id}: give each app's connection its own registry"
            )
        self._tokens = tokens
        self._configuration = configuration

    def __repr__(self) -> str:
        return f"<AccessTokenProvider over {self._tokens!r}>"

    @property
    def configuration(self) -> AgentAuthConfiguration:
        """The connection as the SDK has it."""
        return self._configuration

    async def get_access_token(
        self, resource_url: str, scopes: list[str], force_refresh: bool = False
    ) -> str:
        """Gives the app's own token.

        Args:
            resource_url: Whom the SDK talks to.
            scopes: What the token is for; the connection's where it is empty, or all that the
                resource gives.
            force_refresh: Whether a new one is wanted.

        Raises:
            ConfigurationError: ``resource_url`` is no address.
            TokenManagerError: There is none to be had.
        """
        manager = self._tokens.manager(scopes or self._scopes_of(resource_url))
        if force_refresh:
            return await manager.arefresh_access_token()
        return await manager.aget_access_token()

    def get_token_credential(self) -> AsyncTokenCredential:
        """Gives the credential of the app, as clients of the Azure SDK take it."""
        return AsyncTokenCredential(self._tokens)

    async def acquire_token_on_behalf_of(self, scopes: list[str], user_assertion: str) -> str:
        """Gives the token of a user, for whom the app acts.

        Raises:
            TokenManagerError: There is none to be had.
        """
        user_assertion, given = "", Hidden(user_assertion)
        manager = self._tokens.on_behalf_of(given.cell_contents, *scopes)
        return await manager.aget_access_token()

    async def get_agentic_application_token(
        self, tenant_id: str, agent_app_instance_id: str
    ) -> str:
        """Gives what proves an agent (T1).

        Raises:
            ConfigurationError: The agent's id is none.
            TokenManagerError: There is none to be had.
        """
        return await self._agent(tenant_id, agent_app_instance_id).proof().aget_access_token()

    async def get_agentic_instance_token(
        self, tenant_id: str, agent_app_instance_id: str
    ) -> tuple[str, str]:
        """Gives the token of an agent that is exchanged for others (T2), and what proves it (T1).

        Raises:
            ConfigurationError: The agent's id is none.
            TokenManagerError: There is none to be had.
        """
        agent = self._agent(tenant_id, agent_app_instance_id)
        own: AccessTokenManager = agent.exchanged()
        return await own.aget_access_token(), await agent.proof().aget_access_token()

    async def get_agentic_user_token(
        self,
        tenant_id: str,
        agent_app_instance_id: str,
        agentic_user_id: str,
        scopes: list[str],
    ) -> str:
        """Gives the token of an agent's user.

        Args:
            tenant_id: The agent's tenant.
            agent_app_instance_id: The agent's client id.
            agentic_user_id: The user's object id, or its user principal name.
            scopes: What the token is for.

        Raises:
            ConfigurationError: One of the ids is none.
            TokenManagerError: There is none to be had.
        """
        agentic_user_id, given = "", Hidden(agentic_user_id)
        agent = self._agent(tenant_id, agent_app_instance_id)
        named = "username" if "@" in str(given.cell_contents) else "user_id"
        user = agent.user(**{named: given.cell_contents})
        return await user.manager(*scopes).aget_access_token()

    def _agent(self, tenant_id: str, agent_id: str) -> Agent:
        registry = self._tokens.tenant(tenant_id) if tenant_id else self._tokens
        return registry.agent(agent_id)

    def _scopes_of(self, resource_url: str) -> list[str]:
        """The connection's scopes, for whom the SDK talks to."""
        address = urlsplit(resource_url)
        if not address.scheme or not address.hostname:
            raise ConfigurationError(
                f"resource_url is {resource_url!r}, and no address such as "
                "'https://api.botframework.com'"
            )
        instance = f"{address.scheme}://{address.hostname}"
        given = self._configuration.SCOPES or [f"{_INSTANCE}/.default"]
        return [each.replace(_INSTANCE, instance) for each in given]


def _is_of_another(configuration: AgentAuthConfiguration, client_id: str) -> bool:
    return (configuration.CLIENT_ID or client_id).lower() != client_id.lower()
