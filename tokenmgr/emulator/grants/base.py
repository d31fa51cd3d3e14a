"""What all grants have in common: whom they serve, what they find there, how they say yes."""

from __future__ import annotations

from typing import Any, Protocol

from authlib.oauth2.rfc6749.grants import BaseGrant

from ..clients import Client
from ..requested_claims import RequestedClaims
from ..scopes import DEFAULT
from ..state import State
from ..token_request import TokenRequest

__all__ = ["EntraGrant", "resource_of"]


class _Server(Protocol):
    """What a grant asks of the authorization server that it is registered with."""

    state: State


class EntraGrant(BaseGrant):
    """Comes before one of Authlib's grants, and knows the emulator.

    Attributes:
        request: The token request, with the authority that it was sent to.
        server: The authorization server, with the emulator's state.
        client: Who asks, proven; there is one once the request is validated.
    """

    TOKEN_ENDPOINT_AUTH_METHODS: Any = ("entra",)  # a list or a tuple, in Authlib's own stubs

    request: TokenRequest
    server: _Server
    client: Client

    def requested_claims(self) -> RequestedClaims:
        """What the request says in ``claims``.

        Raises:
            EntraError: It is no JSON object.
        """
        return RequestedClaims.parse(self.request.form.get("claims"))

    # Stands in for Authlib's own answers, which log the whole token at debug level. Their stubs
    # have the body as text, where its servers pass a dictionary on.
    def success(self, access_token: str | None, **more: object) -> Any:
        """The answer with the token in it, and what else a grant gives (RFC 6749, section 5.1)."""
        state = self.server.state
        lifetime = int(state.token_lifetime)
        body: dict[str, object] = {"token_type": "Bearer"}
        if access_token is not None:
            body |= {
                "expires_in": lifetime,
                "ext_expires_in": lifetime,
                "access_token": access_token,
            }
        if state.refresh_in is not None:
            body["refresh_in"] = int(state.refresh_in)
        return 200, body | more, {}


def resource_of(scope: str) -> str:
    """The resource that a scope is of, which is what the token's audience is."""
    return scope.split(maxsplit=1)[0].removesuffix(DEFAULT)
