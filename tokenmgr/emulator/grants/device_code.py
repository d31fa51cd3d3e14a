"""The device code grant: a device asks, until its user has signed in somewhere else (RFC 8628).

https://learn.microsoft.com/entra/identity-platform/v2-oauth2-device-code.
"""

from __future__ import annotations

from typing import Any, cast

from authlib.oauth2.rfc6749.errors import AccessDeniedError
from authlib.oauth2.rfc8628 import (
    AuthorizationPendingError,
    DeviceCodeGrant,
    ExpiredTokenError,
    SlowDownError,
)

from ..authorities import AuthorityKind
from ..codes import DeviceCode
from ..errors import EntraError
from ..users import Session, User
from .user import UserGrant

__all__ = ["DeviceCodes"]

_REFUSALS = {
    AccessDeniedError: (70018, "authorization_declined"),
    AuthorizationPendingError: (70016, "authorization_pending"),
    ExpiredTokenError: (70020, "expired_token"),
    SlowDownError: (70016, "slow_down"),
}


class DeviceCodes(UserGrant, DeviceCodeGrant):
    """Device codes, with the checks and the answers that Entra has."""

    def validate_token_request(self) -> None:
        """See that the client and the code are right, and whether the user has signed in.

        Raises:
            EntraError: One of them is not, or the user has not, or does not want to.
        """
        if self.request.authority.kind in (AuthorityKind.ADFS, AuthorityKind.B2C):
            raise EntraError(70003, grant_type=self.GRANT_TYPE)
        if not self.request.form.get("device_code"):
            raise EntraError(900144, parameter="device_code")
        super().validate_token_request()
        code = self._code
        self.read_scopes(code.scope)
        self.delegate(cast(User, code.user), cast(Session, code.session))

    def query_device_credential(self, device_code: str) -> DeviceCode:
        """The device that waits with this code.

        Raises:
            EntraError: None does, or another app's.
        """
        code = self.server.state.device_codes.find(device_code)
        if code is None or code.authority.realm != self.request.authority.realm:
            raise EntraError(7000014)
        client_id = self.request.form.get("client_id", "")
        if code.client_id.lower() != client_id.lower():
            raise EntraError(700007)
        if code.redeemed:
            raise EntraError(70000)
        return code

    def validate_device_credential(self, credential: DeviceCode) -> User:
        """The user, once they have signed in.

        Raises:
            EntraError: They have not, do not want to, or took too long; or the device asks sooner
                than it may.
        """
        try:
            return cast(User, super().validate_device_credential(credential))  # type: ignore[no-untyped-call]
        except tuple(_REFUSALS) as refusal:
            number, error = _REFUSALS[type(refusal)]
            raise EntraError(number, error=error) from None

    def query_user_grant(self, user_code: str) -> tuple[User | None, bool] | None:  # noqa: ARG002 - Authlib's
        """What the user has said; None while they have said nothing."""
        code = self._code
        return (code.user, not code.declined) if code.decided else None

    def should_slow_down(self, credential: DeviceCode) -> bool:
        """Whether the device asks sooner than it may."""
        return credential.asks_too_often()

    def create_token_response(self) -> Any:
        """The answer with the tokens in it, after which the code is used up."""
        code = self._code
        if not self.server.state.device_codes.redeem(code):
            raise EntraError(70000)
        return self.answer(self.new_refresh_token(code.scope, public=self.client.public))

    @property
    def _code(self) -> DeviceCode:
        return cast(
            DeviceCode, self.server.state.device_codes.find(self.request.form["device_code"])
        )
