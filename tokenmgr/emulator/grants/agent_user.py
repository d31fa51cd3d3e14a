"""The grant of agents' users: an agent acts as the user account that it has (``user_fic``).

https://learn.microsoft.com/entra/agent-id/agent-user-oauth-flow. What Entra answers to an agent
that is not the user's is documented nowhere.
"""

from __future__ import annotations

import time
from typing import Any

from authlib.oauth2.rfc6749.grants import BaseGrant, TokenEndpointMixin

from ..agents import EXCHANGE_APP, own_token
from ..authorities import AuthorityKind
from ..errors import EntraError
from ..users import User
from .user import UserGrant, entra_time

__all__ = ["AgentUsers"]


class AgentUsers(UserGrant, BaseGrant, TokenEndpointMixin):
    """The users of agents, with the checks and the answer that Entra has."""

    GRANT_TYPE: str | None = "user_fic"

    def validate_token_request(self) -> None:
        """See that the agent, its own token, the user and the scope are right, in this order.

        Raises:
            EntraError: One of them is not.
        """
        form = self.request.form
        if self.request.authority.kind is not AuthorityKind.ENTRA:
            raise EntraError(70003, grant_type="user_fic")
        if not form.get("user_federated_identity_credential"):
            raise EntraError(900144, parameter="user_federated_identity_credential")
        if not form.get("username") and not form.get("user_id"):
            raise EntraError(900144, parameter="username")
        if form.get("username") and form.get("user_id"):
            raise EntraError(90100, parameter="user_id")
        self.request.client = self.authenticate_token_endpoint_client()
        self._check_own_token(form["user_federated_identity_credential"])
        self.read_scopes(self.request.payload.scope)
        user = self._named_user()
        if self.client.blueprint_id is None or user.agent_id != self.client.client_id:
            raise EntraError(65001, client_id=self.client.client_id)
        sessions = user.sessions or (user.begin_session(mfa=False),)
        self.delegate(user, sessions[-1])

    def create_token_response(self) -> Any:
        """The answer with the tokens in it."""
        return self.answer(self.new_refresh_token(self.request.payload.scope))

    def _check_own_token(self, token: str) -> None:
        """See that it is the agent's own, for this exchange and for now (T2)."""
        claims = own_token(self.server.state.signer, token)
        if claims is None or claims.get("iss") != self.request.authority.issuer:
            raise EntraError(50013, detail="The key was not found.")
        if claims.get("aud") != EXCHANGE_APP or claims.get("azp") != self.client.client_id:
            audience = str(claims.get("aud", ""))
            raise EntraError(500131, audience=audience, client_id=self.client.client_id)
        now = time.time()
        if not claims.get("nbf", 0) <= now < claims.get("exp", 0):
            expiry = entra_time(float(claims.get("exp", 0)))
            raise EntraError(500133, now=entra_time(now), expiry=expiry)

    def _named_user(self) -> User:
        form, users = self.request.form, self.server.state.users
        claims = {"tid": self.request.authority.tenant_id, "oid": form.get("user_id", "")}
        user = users.find(form["username"]) if form.get("username") else users.of_claims(claims)
        if user is None:
            raise EntraError(50034, tenant=self.request.authority.tenant)
        return user
