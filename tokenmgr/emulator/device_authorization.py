"""Where a device asks for the code that its user types somewhere else (RFC 8628, section 3.1).

https://learn.microsoft.com/entra/identity-platform/v2-oauth2-device-code.
"""

from __future__ import annotations

from typing import Any, Protocol

from authlib.oauth2.rfc8628 import DeviceAuthorizationEndpoint

from .client_authentication import named_client
from .clients import Client
from .codes import DeviceCode
from .errors import EntraError
from .scopes import read_scopes
from .state import State
from .token_request import TokenRequest

__all__ = ["DEVICE_PAGE", "DeviceAuthorization"]

#: Where users type the code.
DEVICE_PAGE = "/common/oauth2/deviceauth"


class _Server(Protocol):
    state: State


class DeviceAuthorization(DeviceAuthorizationEndpoint):
    """Gives devices codes. Nothing is proven here: it is when the device comes for its token."""

    server: _Server

    def authenticate_client(self, request: TokenRequest) -> Client:
        """The app that the device says it is.

        Raises:
            EntraError: There is none.
        """
        tenant = request.authority.tenant
        return named_client(self.server.state, request.payload.client_id, tenant=tenant)

    def create_endpoint_response(self, request: TokenRequest) -> Any:
        """The codes, and what to tell the user.

        Raises:
            EntraError: There is no such app, or no such scope.
        """
        state = self.server.state
        client = self.authenticate_client(request)
        if not request.payload.scope:
            raise EntraError(900144, parameter="scope")
        read_scopes(request.payload.scope, authority=request.authority, client_id=client.client_id)
        code = DeviceCode(
            client_id=client.client_id,
            authority=request.authority,
            scope=request.payload.scope,
            claims=request.form.get("claims"),
            lifetime=state.device_code_lifetime,
            interval=state.device_code_interval,
        )
        state.device_codes.keep(code)
        page = f"{state.base_url}{DEVICE_PAGE}"
        body = {
            "user_code": code.user_code,
            "device_code": code.text,
            # Entra has no verification_uri_complete, and says so.
            "verification_uri": page,
            "expires_in": int(code.lifetime),
            "interval": int(code.interval),
            "message": f"To sign in, use a web browser to open the page {page} and enter the code "
            f"{code.user_code} to authenticate.",
        }
        return 200, body, {}
