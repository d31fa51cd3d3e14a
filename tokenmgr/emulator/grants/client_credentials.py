"""The client credentials grant: an app asks for a token of its own.

RFC 6749, section 4.4, as Entra has it:
https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from authlib.oauth2.rfc6749.grants import ClientCredentialsGrant

from ..errors import EntraError
from ..realms import PLACEHOLDER_TENANTS, Realm, RealmKind
from ..token_request import TokenRequest

if TYPE_CHECKING:
    from ..clients import Client
    from ..oauth import EntraAuthorizationServer

__all__ = ["ClientCredentials"]

_DEFAULT = "/.default"


class ClientCredentials(ClientCredentialsGrant):
    """Client credentials, with the checks and the answer that Entra has."""

    TOKEN_ENDPOINT_AUTH_METHODS: list[str] = ["entra"]  # noqa: RUF012 - Authlib's name and type

    request: TokenRequest
    server: EntraAuthorizationServer

    def validate_token_request(self) -> None:
        """See that the tenant, the client and the scope are right, in this order.

        Raises:
            EntraError: One of them is not.
        """
        _check_tenant(self.request.realm)
        super().validate_token_request()

    def validate_requested_scope(self) -> None:
        """See that the scope is one of an app.

        Raises:
            EntraError: It is not, or names a resource that is not there.
        """
        realm = self.request.realm
        scope = self.request.payload.scope
        if not scope:
            raise EntraError(900144, parameter="scope")
        if realm.kind in (RealmKind.ENTRA, RealmKind.B2C):
            _check_scope(scope)
        resource = _resource(scope)
        if resource in self.server.state.unknown_resources:
            raise EntraError(500011, resource=resource, tenant=realm.tenant)

    # Instead of Authlib's own, which logs the whole token at debug level. Its stubs have the body
    # as text, where its servers pass a dictionary on.
    def create_token_response(self) -> Any:
        """The answer with the token in it."""
        state = self.server.state
        client: Client = self.client
        lifetime = state.token_lifetime
        token: dict[str, object] = {
            "token_type": "Bearer",
            "expires_in": int(lifetime),
            "ext_expires_in": int(lifetime),
            "access_token": state.signer.app_token(
                self.request.realm,
                client_id=client.client_id,
                resource=_resource(self.request.payload.scope),
                roles=client.roles,
                lifetime=lifetime,
            ),
        }
        if state.refresh_in is not None:
            token["refresh_in"] = int(state.refresh_in)
        return 200, token, {}


def _check_tenant(realm: Realm) -> None:
    """No app is signed in to no tenant in particular."""
    if realm.kind is not RealmKind.ENTRA or realm.tenant not in PLACEHOLDER_TENANTS:
        return
    raise EntraError(50059 if realm.tenant == "organizations" else 9001023)


def _check_scope(scope: str) -> None:
    single = scope.split()
    if len(single) != 1 or scope in (_DEFAULT, ".default"):
        raise EntraError(70011, scope=scope)
    if not scope.endswith(_DEFAULT):
        raise EntraError(1002012, scope=scope)


def _resource(scope: str) -> str:
    """The resource that a scope is of, which is what the token's audience is."""
    return scope.split(maxsplit=1)[0].removesuffix(_DEFAULT)
