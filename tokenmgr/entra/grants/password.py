"""The password grant (RFC 6749, section 4.3), which OAuth 2.1 leaves out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..._runtime.secrecy import Hidden, is_unicode
from ..._session import SignedIn
from ...errors import ConfigurationError
from ..client import Client
from .sign_in import claims_of, hint, sign_in

if TYPE_CHECKING:
    import msal

__all__ = ["redeem_password"]

_LONGEST = 1_024


def redeem_password(
    client: Client,
    username: Hidden,
    password: Hidden,
    scopes: tuple[str, ...],
    claims: str | None,
) -> SignedIn:
    """Signs a user in with their password.

    Args:
        client: The app, at its authority.
        username: Who, a text.
        password: Their password, a text.
        scopes: What the access token is for.
        claims: What the sign-in is to satisfy.

    Raises:
        ConfigurationError: The name or the password is no text.
        InteractionRequiredError: They do not belong together, or it takes more than a password.
        TokenManagerError: There is nothing to be had.
    """
    name = Hidden(hint("username", username.cell_contents))
    # What the service could not be sent would look as if that one were in trouble.
    named = name.cell_contents is not None and name.cell_contents.isprintable()
    text = isinstance(password.cell_contents, str) and is_unicode(password.cell_contents)
    if not named or not text or not 0 < len(password.cell_contents) <= _LONGEST:
        raise ConfigurationError(
            f"a user name and a password of up to {_LONGEST} characters are needed to sign in"
        )
    asked = claims_of(claims)

    def grant(application: msal.ClientApplication) -> Any:
        return application.acquire_token_by_username_password(
            name.cell_contents, password.cell_contents, list(scopes), claims_challenge=asked
        )

    return sign_in(client, grant, "password", scopes, secret=password, plain=True)
