"""The resource owner password credentials grant: a program that has its user's password.

RFC 6749, section 4.3, as Entra has it: for users of the tenant who have their password there, and
of whom nothing but a password is wanted.
https://learn.microsoft.com/entra/identity-platform/v2-oauth-ropc.
"""

from __future__ import annotations

from typing import Any, cast

from authlib.oauth2.rfc6749.grants import ResourceOwnerPasswordCredentialsGrant

from ..authorities import AuthorityKind
from ..errors import B2CError, EntraError
from ..users import User
from .user import UserGrant

__all__ = ["Passwords"]


class Passwords(UserGrant, ResourceOwnerPasswordCredentialsGrant):
    """User names and passwords, with the checks and the answer that Entra has."""

    def validate_token_request(self) -> None:
        """See that the tenant, the client, the user and the scope are right, in this order.

        Raises:
            EntraError: One of them is not.
            B2CError: The user flow is none for passwords.
        """
        authority = self.request.authority
        if authority.kind is AuthorityKind.ADFS:
            raise EntraError(70003, grant_type=self.GRANT_TYPE)
        if authority.kind is AuthorityKind.B2C and "ropc" not in (authority.policy or "").lower():
            # A policy of its own has to be made for it, and is usually named so.
            text = "Resource owner flow has not been enabled for the client."
            raise B2CError(90224, "unauthorized_client", text)
        if authority.kind is AuthorityKind.ENTRA and authority.tenant in ("common", "consumers"):
            raise EntraError(9001023)
        for name in ("username", "password"):
            if not self.request.form.get(name):
                raise EntraError(900144, parameter=name)
        super().validate_token_request()
        user = cast(User, self.request.user)
        self.delegate(user, user.begin_session(mfa=False))

    def authenticate_user(self, username: str, password: str) -> User:
        """The user of this name, if that is their password.

        Raises:
            EntraError: There is no such user in the tenant, or it is not.
        """
        user = self.server.state.users.find(username)
        tenant = self.request.authority.tenant
        if user is None or user.account == "personal":
            # A guest with a Microsoft account has no password in any tenant.
            raise EntraError(50034, tenant=tenant)
        if user.account == "federated" or not user.knows(password):
            raise EntraError(50126)
        return user

    def validate_requested_scope(self) -> None:
        """See what is asked for."""
        self.read_scopes(self.request.payload.scope)

    def create_token_response(self) -> Any:
        """The answer with the tokens in it."""
        public = self.client.public
        return self.answer(self.new_refresh_token(self.request.payload.scope, public=public))
