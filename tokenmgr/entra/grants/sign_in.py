"""What all ways of signing a user in have in common: what is asked for, and what comes of it."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable
from typing import Any

from ..._runtime.secrecy import Hidden, is_unicode
from ..._session import Account, SignedIn
from ...errors import ConfigurationError, InvalidScopeError, TokenManagerError, TokenRequestError
from ...token import RESERVED_SCOPES, normalize_scopes
from ..accounts import account_of
from ..answers import Answer
from ..client import Client, Grant
from ..id_token import Expected, check_id_token

__all__ = ["check_public", "claims_of", "hint", "sign_in", "sign_in_scopes"]

#: The longest claims, and the longest of what a sign-in's page is told, in characters.
_LONGEST_CLAIMS, _LONGEST_HINT = 16_384, 2_048
_NAME_BYTES = 16


def sign_in_scopes(client: Client, given: Iterable[str | Iterable[str]]) -> tuple[str, ...]:
    """Gives the scopes to ask for: sorted, each once, without those that are asked for anyway.

    Args:
        client: The app, at its authority.
        given: The scopes; ``openid`` alone signs a user in for no API.

    Raises:
        ConfigurationError: There is none, or one is not a string.
        InvalidScopeError: One is too long, or has characters that UTF-8 cannot say.
    """
    scopes = normalize_scopes(given)
    if not all(map(is_unicode, scopes)):
        raise InvalidScopeError("a scope has characters that UTF-8 cannot say: correct it")
    own = tuple(scope for scope in scopes if scope not in RESERVED_SCOPES)
    if not own and client.authority.kind == "b2c":
        # It gives no access token but for an API, which the app itself is too: see "Request an
        # access token in Azure Active Directory B2C", OpenID Connect scopes, on Microsoft Learn.
        return (client.client_id,)
    return own


def claims_of(claims: str | None) -> str | None:
    """Gives the claims that a sign-in is to satisfy, as MSAL takes them.

    Args:
        claims: JSON text, such as that of :attr:`InteractionRequiredError.claims`; None or empty
            for none.

    Raises:
        ConfigurationError: They are no JSON object.
    """
    if not claims:
        return None
    try:
        whole = len(claims) <= _LONGEST_CLAIMS and isinstance(json.loads(claims), dict)
    except (TypeError, ValueError, RecursionError):
        whole = False
    if not whole or not is_unicode(claims):
        raise ConfigurationError(
            "claims= is a JSON object as text, such as the claims of an InteractionRequiredError"
        )
    return claims


def hint(name: str, value: str | None) -> str | None:
    """Gives what a sign-in's page is told; None for nothing.

    Args:
        name: The argument, for the message.
        value: Its value.

    Raises:
        ConfigurationError: It is no text, or too long.
    """
    value, given = None, Hidden(value)
    if given.cell_contents in (None, ""):
        return None
    text = isinstance(given.cell_contents, str) and is_unicode(given.cell_contents)
    if not text or len(given.cell_contents) > _LONGEST_HINT:
        raise ConfigurationError(f"{name}= is a text of up to {_LONGEST_HINT} characters")
    return str(given.cell_contents)


def check_public(client: Client, what: str) -> None:
    """Refuses what only a public client may do (RFC 8252, section 8.4).

    Raises:
        ConfigurationError: The app has a credential.
    """
    if not client.is_public:
        raise ConfigurationError(
            f"{what} is for public clients, and this app has a credential: make a TokenRegistry "
            "without credential=, or sign users in by begin_auth_code()"
        )


def sign_in(
    client: Client,
    grant: Grant,
    name: str,
    scopes: tuple[str, ...],
    *,
    nonce: str = "",
    max_age: float | None = None,
    secret: Hidden,
    kept: Hidden | None = None,
    plain: bool = False,
    identified: bool = False,
) -> SignedIn:
    """Asks for the tokens of a user, and for who that is.

    Args:
        client: The app, at its authority.
        grant: The call of MSAL that asks.
        name: The grant's name.
        scopes: What the access token is for.
        nonce: What the sign-in was begun with; empty for nothing.
        max_age: Seconds within which the user has to have signed in; None for any.
        secret: What proves who signs in, which no error shows.
        kept: The refresh token that stays where the service gives no other (RFC 6749, section 6).
        plain: As for :meth:`Client.ask`.
        identified: Whether an answer counts only with an id token.

    Raises:
        TokenManagerError: There is nothing to be had, or the id token is not what was asked for.
    """
    key = client.key(name, scopes, secrets.token_urlsafe(_NAME_BYTES))
    came: list[tuple[Answer, str]] = []
    try:
        token = client.ask(grant, key, hear_all=lambda *said: came.append(said), plain=plain)
    except TokenManagerError as exc:
        raise _without(exc, secret) from None
    answer, issuer = came[0]
    if identified and not answer.id_token.cell_contents:
        raise TokenRequestError(
            f"{client.authority.host} gave no id token, which it does whenever that is asked for, "
            "and so nothing says who has signed in: begin another sign-in, and where this happens "
            "again, find out who answers in its place"
        )
    account = _account(client, answer, Expected(issuer, client.client_id, nonce, max_age))
    refresh_token = Hidden(answer.refresh_token)
    if kept is not None and not refresh_token.cell_contents:
        refresh_token = kept
    return SignedIn(token, refresh_token, account, client.authority.url)


def _account(client: Client, answer: Answer, expected: Expected) -> Account:
    """Gives who has signed in; a name is made up for who has none."""
    claims, id_token = Hidden({}), answer.id_token
    if id_token.cell_contents:
        claims = check_id_token(id_token, expected, client.wall())
    elif expected.max_age is not None:
        raise TokenRequestError(
            "the service gave no id token, so that nobody can say when the user signed in: leave "
            "max_age= out here"
        )
    account = account_of(
        claims, answer.home_account_id, in_directory=client.authority.tenant is not None
    )
    if not account.home_account_id:
        account = account._replace(home_account_id=secrets.token_urlsafe(_NAME_BYTES))
    return account


def _without(error: TokenManagerError, secret: Hidden) -> TokenManagerError:
    """Has an error say nothing of a secret that the service has repeated."""
    shown: Any = error.args[0] if error.args else ""
    if secret.cell_contents and secret.cell_contents in shown:
        error.args = (shown.replace(secret.cell_contents, "[…]"),)
    return error
