"""What the grants have in common that give an app a token for a user."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from ..authorities import GRAPH_PREFIX, PLACEHOLDER_TENANTS, Authority, AuthorityKind
from ..b2c_answers import ID_TOKEN_LIFETIME, b2c_members
from ..delegation import Delegation
from ..errors import EntraError
from ..refresh_tokens import Family, RefreshToken
from ..requested_claims import demand
from ..scopes import DelegatedScopes, read_scopes
from ..state import State
from ..users import Session, User
from .base import EntraGrant

__all__ = ["UserGrant", "check_resource", "entra_time"]

#: What Entra calls Microsoft Graph where it asks for more than a password.
_GRAPH_ID = "00000003-0000-0000-c000-000000000000"


class UserGrant(EntraGrant):
    """A grant for a user: who they are has to be proven, then :meth:`delegate` does the rest.

    Attributes:
        scopes: What is asked for.
        delegation: Who gives it to whom; there is one once the request is validated.
    """

    scopes: DelegatedScopes
    delegation: Delegation

    def read_scopes(self, text: str | None) -> None:
        """See what is asked for.

        Raises:
            EntraError: It cannot be asked for, or is of a resource that is not there.
        """
        authority = self.request.authority
        parsed = read_scopes(text, authority=authority, client_id=self.client.client_id)
        if len(parsed) > 1:
            raise EntraError(28000, scope=text or "")
        self.scopes = parsed[0]
        check_resource(self.server.state, self.scopes.resource, authority)

    def delegate(self, user: User, session: Session) -> None:
        """Let the client act for a user who is signed in.

        Raises:
            EntraError: The user is not of this tenant, was disabled, does not consent, or has to
                do more than type a password first.
        """
        authority = self._tenant_of(user)
        if user.disabled:
            raise EntraError(50057)
        scopes = self.scopes
        if not user.consents_to(scopes.resource, frozenset(scopes.names)):
            raise EntraError(65001, client_id=self.client.client_id)
        self._check_step_up(user, session)
        self.delegation = Delegation(user, session, authority, self.client.client_id)

    def new_refresh_token(
        self, scope: str, *, public: bool = False, family: Family | None = None
    ) -> RefreshToken | None:
        """Give out a refresh token, None when ``offline_access`` was not asked for.

        AD FS has no such scope, and gives one in any case.

        Args:
            scope: What was asked for.
            public: Whether it is a public client that asks.
            family: Whose revocation is this one's too; a new one when left out.
        """
        of_adfs = self.request.authority.kind is AuthorityKind.ADFS
        if "offline_access" not in self.scopes.openid and not of_adfs:
            return None
        state = self.server.state
        refresh_token = RefreshToken(
            user=self.delegation.user,
            session=self.delegation.session,
            client_id=self.client.client_id,
            scope=scope,
            lifetime=state.refresh_token_lifetime,
            public=public,
            realm=self.request.authority.realm,
            family=family or Family(),
        )
        state.refresh_tokens.keep(refresh_token)
        return refresh_token

    def answer(
        self, refresh_token: RefreshToken | None, id_claims: Mapping[str, object] | None = None
    ) -> Any:
        """The answer with the tokens in it, and with what else the ID token is to say."""
        state, scopes, delegation = self.server.state, self.scopes, self.delegation
        more: dict[str, object] = {"scope": scopes.granted}
        if refresh_token is not None:
            more["refresh_token"] = refresh_token.text
        if "openid" in scopes.openid:
            claims = delegation.id_claims(profile="profile" in scopes.openid)
            more["id_token"] = state.signer.sign(
                claims | dict(id_claims or {}), lifetime=ID_TOKEN_LIFETIME
            )
        client_info = delegation.client_info()
        if client_info and self.request.form.get("client_info") == "1":
            more["client_info"] = client_info
        if delegation.authority.kind is AuthorityKind.B2C:
            more |= b2c_members(delegation, scopes, state, more)
        if delegation.authority.kind is AuthorityKind.ADFS:
            more |= {"resource": scopes.resource}
            if refresh_token is not None:
                more["refresh_token_expires_in"] = int(state.refresh_token_lifetime)
        return self.success(self._access_token(), **more)

    def _access_token(self) -> str | None:
        """What the client gets for the resource; None where it asked for no resource's."""
        state, scopes, delegation = self.server.state, self.scopes, self.delegation
        if delegation.authority.kind is AuthorityKind.OIDC:
            # Nobody but the provider itself can read it, as with many of them.
            return secrets.token_urlsafe(32)
        if not scopes.resource:
            return None
        api = state.clients.api_of(scopes.resource)
        by_id = api is not None and api.accepted_version == "2.0"
        claims = delegation.access_claims(
            api.client_id if api is not None and by_id else scopes.resource,
            scopes.permissions,
            version=None if api is None else api.accepted_version,
            capabilities=self.requested_claims().capabilities,
        )
        return state.signer.access_token(claims, lifetime=state.token_lifetime)

    def _tenant_of(self, user: User) -> Authority:
        """The tenant that the token is of: where no tenant is named, the user's own.

        So ``common`` gives a guest a token of the wrong tenant, which is why one is to name it:
        https://learn.microsoft.com/entra/msal/dotnet/acquiring-tokens/web-apps-apis/on-behalf-of-flow.
        """
        authority = self.request.authority
        if authority.kind is not AuthorityKind.ENTRA:
            if user.object_id(authority.tenant_id) is None:
                raise EntraError(50034, tenant=authority.tenant)
            return authority
        if authority.tenant == "consumers":
            raise EntraError(9002332, client_id=self.client.client_id)
        placeholder = authority.tenant in PLACEHOLDER_TENANTS
        tenant_id = user.home_tenant_id if placeholder else authority.tenant_id
        if user.object_id(tenant_id) is None:
            raise EntraError(50034, tenant=authority.tenant)
        return self.server.state.authority(AuthorityKind.ENTRA, tenant_id)

    def _check_step_up(self, user: User, session: Session) -> None:
        if session.mfa:
            return
        asked_for = self.requested_claims().step_up
        claims = demand(user.mfa_policy) if user.mfa_policy else asked_for
        if claims is not None:
            resource = self.scopes.resource
            name = _GRAPH_ID if resource.startswith(GRAPH_PREFIX) else resource
            raise EntraError(50076, error=user.mfa_error, claims=claims, resource=name)


def check_resource(state: State, resource: str, authority: Authority) -> None:
    """See that there is such a resource.

    Raises:
        EntraError: There is none.
    """
    if resource in state.unknown_resources:
        raise EntraError(500011, resource=resource, tenant=authority.tenant)


def entra_time(seconds: float) -> str:
    """A time, in seconds since the epoch, as Entra's messages have it."""
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%f0Z")
