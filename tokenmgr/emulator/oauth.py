"""The OAuth 2.0 side: Authlib's authorization server, taught Entra's way of saying who you are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, cast

from authlib.oauth2 import AuthorizationServer, OAuth2Error
from authlib.oauth2.rfc6749.errors import UnsupportedGrantTypeError

from .authorities import AuthorityKind
from .client_authentication import authenticate
from .clients import Client
from .device_authorization import DeviceAuthorization
from .errors import B2CError, EntraError, error_body
from .grants import GRANTS
from .state import State
from .token_request import TokenRequest

__all__ = ["EntraAuthorizationServer", "TokenAnswer"]

_NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}


class TokenAnswer(NamedTuple):
    """What to send back: the status, the JSON, the headers."""

    status: int
    body: Mapping[str, object]
    headers: Mapping[str, str]


class EntraAuthorizationServer(AuthorizationServer):
    """Authlib's server over the emulator's state."""

    def __init__(self, state: State) -> None:
        super().__init__()
        self.state = state
        self.register_client_auth_method("entra", self._authenticate)
        for grant in GRANTS:
            self.register_grant(grant)
        self._devices = DeviceAuthorization(self)

    def answer(self, request: TokenRequest) -> TokenAnswer:
        """Answer a token request."""
        answer: Any = self.create_token_response(request)
        return cast(TokenAnswer, answer)

    def answer_device(self, request: TokenRequest) -> TokenAnswer:
        """Answer a device that asks for a code."""
        try:
            answer: Any = self.handle_response(*self._devices.create_endpoint_response(request))
        except OAuth2Error as error:
            answer = self.handle_error_response(request, error)
        return cast(TokenAnswer, answer)

    def query_client(self, client_id: str) -> Any:
        """The app of this id, None when there is none: more than Authlib's stubs allow."""
        return self.state.clients.find(client_id)

    def create_oauth2_request(self, request: TokenRequest) -> TokenRequest:
        """The request, which is one already."""
        return request

    def send_signal(self, name: str, *args: object, **kwargs: object) -> None:
        """Nobody listens."""

    def handle_response(
        self,
        status: int,
        body: Mapping[str, object],
        headers: object,  # noqa: ARG002 - Authlib's own, which are fewer
    ) -> Any:
        """An answer, which RFC 6749, section 5.1, forbids to keep."""
        return TokenAnswer(status, body, _NO_STORE)

    def handle_error_response(self, request: Any, error: OAuth2Error) -> Any:
        """A refusal, in Entra's shape whoever raised it."""
        if isinstance(error, UnsupportedGrantTypeError):
            error = _grant_refusal(request)
        if isinstance(error, EntraError) and _is_user_flow(request):
            error = error.as_b2c()
        correlation_id = request.headers.get("client-request-id")
        base_url = self.state.base_url
        if isinstance(error, (EntraError, B2CError)):
            body = error.json(correlation_id=correlation_id, base_url=base_url)
        else:
            body = error_body(
                error.error or "invalid_request",
                str(error.description),
                codes=[],
                correlation_id=correlation_id,
                base_url=base_url,
            )
        return TokenAnswer(error.status_code, body, _NO_STORE)

    def _authenticate(
        self,
        query_client: Callable[[str], Client | None],  # noqa: ARG002 - Authlib's; the state has it
        request: TokenRequest,
    ) -> Client:
        return authenticate(self.state, request)


def _is_user_flow(request: TokenRequest) -> bool:
    """Whether it is B2C that answers: an app's own tokens come from the tenant's Entra."""
    of_b2c = request.authority.kind is AuthorityKind.B2C
    return of_b2c and request.payload.grant_type != "client_credentials"


def _grant_refusal(request: TokenRequest) -> EntraError:
    grant_type = request.payload.grant_type
    if not grant_type:
        return EntraError(900144, parameter="grant_type")
    return EntraError(70003, grant_type=grant_type)
