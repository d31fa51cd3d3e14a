"""Who asks for a token: the app, proven by what it has, or a public client, which has nothing."""

from __future__ import annotations

from urllib.parse import unquote_plus

from aiohttp import BasicAuth

from .assertions import ASSERTION_TYPE, authenticate_assertion
from .clients import Client
from .errors import EntraError
from .state import State
from .token_request import TokenRequest

__all__ = ["authenticate", "named_client"]

#: The grants that a public client can use, where nothing else says which kind of client asks.
_PUBLIC_FLOWS = frozenset({"password", "urn:ietf:params:oauth:grant-type:device_code"})
_SIGN_IN_FLOWS = _PUBLIC_FLOWS | {"authorization_code", "refresh_token"}


def authenticate(state: State, request: TokenRequest) -> Client:
    """The app that asks, by the secret (in the body or by HTTP Basic) or the assertion it sends.

    A public client sends neither, and is refused when it does.

    Raises:
        EntraError: It is not who it says; the number says why.
    """
    form = request.form
    client_id, secret = form.get("client_id"), form.get("client_secret")
    asserted = form.get("client_assertion_type") == ASSERTION_TYPE and "client_assertion" in form
    if secret is None and not asserted:
        header = request.headers.get("Authorization", "")
        if header.lower().startswith("basic "):
            client_id, secret = _basic_credentials(header)
    public = _is_public(state, client_id, form)
    if public and (secret or asserted):
        raise EntraError(700025)
    if asserted:
        return authenticate_assertion(
            state,
            request.authority,
            client_id=client_id,
            assertion=form["client_assertion"],
        )
    client = named_client(state, client_id, tenant=request.authority.tenant)
    if not client.is_at(request.authority.tenant_id):
        raise EntraError(700016, client_id=client.client_id, tenant=request.authority.tenant)
    if not public:
        _check_secret(client, secret, grant_type=form.get("grant_type", ""))
    return client


def _is_public(state: State, client_id: str | None, form: dict[str, str]) -> bool:
    """Whether it is a public client that asks.

    A code and a refresh token know, as the redirect URI's platform decided it; for the other flows
    the app's registration does.
    """
    grant_type = form.get("grant_type")
    client = state.clients.find(client_id or "")
    if client is None or grant_type not in _SIGN_IN_FLOWS:
        return False
    code = state.codes.find(form.get("code", "")) if grant_type == "authorization_code" else None
    token = state.refresh_tokens.find(form.get("refresh_token", ""))
    given = code or (token if grant_type == "refresh_token" else None)
    if given is not None and given.client_id == client.client_id:
        return given.public
    return client.public


def named_client(state: State, client_id: str | None, *, tenant: str) -> Client:
    """The app that a request names, which proves nothing yet.

    Raises:
        EntraError: It names none that there is.
    """
    if not client_id:
        raise EntraError(900144, parameter="client_id")
    client = state.clients.find(client_id)
    if client is None:
        raise EntraError(700016, client_id=client_id, tenant=tenant)
    return client


def _basic_credentials(header: str) -> tuple[str, str]:
    """The id and secret of an Authorization header (RFC 6749, section 2.3.1)."""
    try:
        basic = BasicAuth.decode(header, encoding="utf-8")
    except ValueError:
        raise EntraError(900144, parameter="client_id") from None
    return unquote_plus(basic.login), unquote_plus(basic.password)


def _check_secret(client: Client, secret: str | None, *, grant_type: str) -> None:
    if not secret:
        if grant_type in _SIGN_IN_FLOWS:
            raise EntraError(7000218)
        raise EntraError(7000216, grant_type=grant_type)
    if not client.check_client_secret(secret):
        raise EntraError(7000215, client_id=client.client_id)
    if client.secret_expired:
        raise EntraError(7000222, client_id=client.client_id)
