"""What a test can do with agent identities."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from .authorities import DEFAULT_TENANT, tenant_guid
from .controls import new_secret
from .state import State

__all__ = ["AgentControls"]


class AgentControls:
    """The emulator's handles for agents. Each may be used from any thread, while it serves."""

    client_id: str
    _state: State

    def add_blueprint(self, client_id: str | None = None, *, secret: str | None = None) -> str:
        """Register an agent identity blueprint: an app whose own tokens prove agents only (82001).

        Any app may be an agent's parent here, so that the one from the start will do.

        Args:
            client_id: Its id; a new GUID when left out.
            secret: Its client secret; a new one, which nobody knows, when left out.

        Returns:
            Its id.
        """
        client = self._state.clients.add(client_id, secret=secret or new_secret())
        client.only_for_agents = True
        return client.client_id

    def add_agent(
        self,
        agent_id: str | None = None,
        *,
        blueprint: str | None = None,
        tenant: str = DEFAULT_TENANT,
        roles: Sequence[str] = (),
    ) -> str:
        """Let a tenant have an agent identity, or replace the one of this id.

        Args:
            agent_id: Its id; a new GUID when left out.
            blueprint: The app whose child it is; the one from the start when left out.
            tenant: Where it is, by its domain or its GUID; nowhere else (700016).
            roles: The ``roles`` of its own tokens.

        Returns:
            Its id.
        """
        client = self._state.clients.add(agent_id or str(uuid.uuid4()), roles=roles)
        client.blueprint_id = blueprint or self.client_id
        client.tenant_id = tenant_guid(tenant)
        return client.client_id

    def add_agent_user(self, username: str, agent_id: str) -> str:
        """Let an agent have a user account, in the agent's tenant.

        Args:
            username: Its user principal name.
            agent_id: The agent, which alone may act as it (65001).

        Returns:
            Its object id.

        Raises:
            KeyError: There is no such agent.
        """
        agent = self._state.clients.find(agent_id)
        if agent is None or agent.tenant_id is None:
            raise KeyError(agent_id)
        user = self._state.users.add(username, agent.tenant_id)
        user.agent_id = agent.client_id
        return user.object_id(agent.tenant_id) or ""
