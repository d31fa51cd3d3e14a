"""The refresh token grant: an app goes on acting for a user.

RFC 6749, section 6, as Entra has it: a refresh token belongs to a user and a client, and to no
resource and no tenant. https://learn.microsoft.com/entra/identity-platform/refresh-tokens.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, cast

from authlib.oauth2.rfc6749.grants import RefreshTokenGrant

from ..authorities import AuthorityKind
from ..errors import B2CError, EntraError
from ..refresh_tokens import RefreshToken
from .user import UserGrant, entra_time

__all__ = ["RefreshTokens"]


class RefreshTokens(UserGrant, RefreshTokenGrant):
    """Refresh tokens, each of which is good once."""

    INCLUDE_NEW_REFRESH_TOKEN: bool = True

    def validate_token_request(self) -> None:
        """See that the client, the refresh token, its user and the scope are right.

        Raises:
            EntraError: One of them is not.
            B2CError: It is of another user flow of B2C.
        """
        if not self.request.form.get("refresh_token"):
            raise EntraError(900144, parameter="refresh_token")
        super().validate_token_request()
        token = self._token
        self.delegate(token.user, token.session)

    def authenticate_refresh_token(self, refresh_token: str) -> RefreshToken:
        """The refresh token, if it is still good, and was given to this client.

        Raises:
            EntraError: It is not.
        """
        state = self.server.state
        token = state.refresh_tokens.find(refresh_token)
        if token is None or not self._is_given_here(token):
            raise EntraError(9002313)
        if not token.check_client(self.client):
            raise EntraError(700007)
        if not state.refresh_tokens.still_good(token):
            raise EntraError(70000)
        if token.expired:
            raise EntraError(
                700082,
                issued=entra_time(token.issued_at),
                lifetime=str(timedelta(seconds=token.lifetime)),
            )
        self._check_grant(token)
        return token

    def _validate_token_scope(self, token: RefreshToken) -> None:
        """Any scope may be asked for, of any resource: Authlib would take the old ones only."""
        self.read_scopes(self.request.payload.scope or token.scope)

    def create_token_response(self) -> Any:
        """The answer with the tokens in it, after which the refresh token is used up.

        That of AD FS goes on: where its user has not chosen to stay signed in, it gives no other.
        https://learn.microsoft.com/windows-server/identity/ad-fs/development/ad-fs-openid-connect-oauth-concepts#refresh-token-lifetimes.
        """
        token = self._token
        if self.request.authority.kind is AuthorityKind.ADFS:
            return self.answer(None)
        successor = token.successor(self.request.payload.scope or token.scope)
        self.server.state.refresh_tokens.redeem(token, successor)
        return self.answer(successor)

    @property
    def _token(self) -> RefreshToken:
        return cast(RefreshToken, self.request.refresh_token)

    def _is_given_here(self, token: RefreshToken) -> bool:
        here, there = self.request.authority.realm, token.realm
        if here != there and here.rpartition("/")[0] == there.rpartition("/")[0]:
            text = (
                "The provided grant has not been issued for this endpoint. Actual Value : "
                f"{there.rpartition('/')[2]} and Expected Value : {here.rpartition('/')[2]}"
            )
            raise B2CError(90088, "invalid_grant", text)
        return here == there

    def _check_grant(self, token: RefreshToken) -> None:
        """See that the user is there, and has not been signed out since."""
        user = token.user
        if self.server.state.users.find(user.username) is not user:
            raise EntraError(50034, tenant=self.request.authority.tenant)
        if user.session(token.session.session_id) is None:
            raise EntraError(
                50173,
                issued=entra_time(token.issued_at),
                valid_from=entra_time(user.valid_from),
            )
