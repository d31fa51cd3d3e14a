"""What the grants have in common that give an app a token for a user."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from ..authorities import GRAPH_PREFIX, PLACEHOLDER_TENANTS, Authority, AuthorityKind
from ..delegation import Delegation
from ..errors import EntraError
from ..refresh_tokens import RefreshToken
from ..requested_claims import demand
from ..scopes import DelegatedScopes
from ..users import Session, User
from .base import EntraGrant

__all__ = ["UserGrant", "entra_time"]

#: What Entra calls Microsoft Graph where it asks for more than a password.
_GRAPH_ID = "00000003-0000-0000-c000-000000000000"
#: Seconds that an ID token lives.
_ID_TOKEN_LIFETIME = 3600.0


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
        self.scopes = DelegatedScopes.parse(text or "")
        resource = self.scopes.resource
        if resource in self.server.state.unknown_resources:
            raise EntraError(500011, resource=resource, tenant=self.request.authority.tenant)

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

    def answer(self, refresh_token: RefreshToken | None) -> Any:
        """The answer with the tokens in it."""
        state, scopes = self.server.state, self.scopes
        claims = self.delegation.access_claims(
            scopes.resource,
            scopes.permissions,
            capabilities=self.requested_claims().capabilities,
        )
        more: dict[str, object] = {"scope": scopes.granted}
        if refresh_token is not None:
            more["refresh_token"] = refresh_token.text
        if "openid" in scopes.openid:
            id_claims = self.delegation.id_claims(profile="profile" in scopes.openid)
            more["id_token"] = state.signer.sign(id_claims, lifetime=_ID_TOKEN_LIFETIME)
        if self.request.form.get("client_info") == "1":
            more["client_info"] = self.delegation.client_info()
        access_token = state.signer.access_token(claims, lifetime=state.token_lifetime)
        return self.success(access_token, **more)

    def _tenant_of(self, user: User) -> Authority:
        """The tenant that the token is of: where no tenant is named, the user's own.

        So ``common`` gives a guest a token of the wrong tenant, which is why one is to name it:
        https://learn.microsoft.com/entra/msal/dotnet/acquiring-tokens/web-apps-apis/on-behalf-of-flow.
        """
        authority = self.request.authority
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


def entra_time(seconds: float) -> str:
    """A time, in seconds since the epoch, as Entra's messages have it."""
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%f0Z")
