"""The client credentials grant: an app asks for a token of its own.

RFC 6749, section 4.4, as Entra has it:
https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow.
"""

from __future__ import annotations

from typing import Any

from authlib.oauth2.rfc6749.grants import ClientCredentialsGrant

from ..agents import claims_for, is_exchange
from ..authorities import PLACEHOLDER_TENANTS, Authority, AuthorityKind
from ..errors import EntraError
from ..scopes import DEFAULT
from .base import EntraGrant, resource_of

__all__ = ["ClientCredentials"]


class ClientCredentials(EntraGrant, ClientCredentialsGrant):
    """Client credentials, with the checks and the answer that Entra has."""

    def validate_token_request(self) -> None:
        """See that the tenant, the client and the scope are right, in this order.

        Raises:
            EntraError: One of them is not.
        """
        _check_tenant(self.request.authority)
        super().validate_token_request()

    def validate_requested_scope(self) -> None:
        """See that the scope is one of an app.

        Raises:
            EntraError: It is not, or names a resource that is not there.
        """
        authority = self.request.authority
        scope = self.request.payload.scope
        if not scope:
            raise EntraError(900144, parameter="scope")
        if authority.kind in (AuthorityKind.ENTRA, AuthorityKind.B2C):
            _check_scope(scope)
        resource = resource_of(scope)
        if self.client.only_for_agents and not is_exchange(resource):
            raise EntraError(82001, client_id=self.client.client_id, resource=resource)
        if resource in self.server.state.unknown_resources:
            raise EntraError(500011, resource=resource, tenant=authority.tenant)

    def create_token_response(self) -> Any:
        """The answer with the token in it."""
        state, authority = self.server.state, self.request.authority
        resource, path = resource_of(self.request.payload.scope), self.request.form.get("fmi_path")
        return self.success(
            state.signer.app_token(
                authority,
                client_id=self.client.client_id,
                resource=resource,
                roles=self.client.roles,
                lifetime=state.token_lifetime,
                capabilities=self.requested_claims().capabilities,
                api=state.clients.api_of(resource),
                more=claims_for(authority, self.client, resource=resource, path=path),
            )
        )


def _check_tenant(authority: Authority) -> None:
    """No app is signed in to no tenant in particular."""
    if authority.kind is not AuthorityKind.ENTRA or authority.tenant not in PLACEHOLDER_TENANTS:
        return
    raise EntraError(50059 if authority.tenant == "organizations" else 9001023)


def _check_scope(scope: str) -> None:
    single = scope.split()
    if len(single) != 1 or scope in (DEFAULT, ".default"):
        raise EntraError(70011, scope=scope)
    if not scope.endswith(DEFAULT):
        raise EntraError(1002012, scope=scope)
