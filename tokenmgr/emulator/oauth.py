"""The OAuth 2.0 side: Authlib's authorization server, taught Entra's way of saying who you are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, cast
from urllib.parse import unquote_plus

from aiohttp import BasicAuth
from authlib.oauth2 import AuthorizationServer, OAuth2Error
from authlib.oauth2.rfc6749.errors import UnsupportedGrantTypeError

from .assertions import ASSERTION_TYPE, authenticate_assertion
from .clients import Client
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

    def answer(self, request: TokenRequest) -> TokenAnswer:
        """Answer a token request."""
        answer: Any = self.create_token_response(request)
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
        self, query_client: Callable[[str], Client | None], request: TokenRequest
    ) -> Client:
        """Who asks, by the secret (in the body or by HTTP Basic) or the assertion that is sent."""
        form = request.form
        client_id, secret = form.get("client_id"), form.get("client_secret")
        if form.get("client_assertion_type") == ASSERTION_TYPE and "client_assertion" in form:
            return authenticate_assertion(
                self.state.clients,
                request.authority,
                client_id=client_id,
                assertion=form["client_assertion"],
            )
        header = request.headers.get("Authorization", "")
        if secret is None and header.lower().startswith("basic "):
            client_id, secret = _basic_credentials(header)
        if not client_id:
            raise EntraError(900144, parameter="client_id")
        client = query_client(client_id)
        if client is None:
            raise EntraError(700016, client_id=client_id, tenant=request.authority.tenant)
        _check_secret(client, secret, grant_type=form.get("grant_type", ""))
        return client


def _grant_refusal(request: TokenRequest) -> EntraError:
    grant_type = request.payload.grant_type
    if not grant_type:
        return EntraError(900144, parameter="grant_type")
    return EntraError(70003, grant_type=grant_type)


def _basic_credentials(header: str) -> tuple[str, str]:
    """The id and secret of an Authorization header (RFC 6749, section 2.3.1)."""
    try:
        basic = BasicAuth.decode(header, encoding="utf-8")
    except ValueError:
        raise EntraError(900144, parameter="client_id") from None
    return unquote_plus(basic.login), unquote_plus(basic.password)


def _check_secret(client: Client, secret: str | None, *, grant_type: str) -> None:
    if not secret:
        raise EntraError(7000216, grant_type=grant_type)
    if not client.check_client_secret(secret):
        raise EntraError(7000215, client_id=client.client_id)
    if client.secret_expired:
        raise EntraError(7000222, client_id=client.client_id)
