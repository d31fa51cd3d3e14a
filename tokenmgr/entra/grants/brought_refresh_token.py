"""A refresh token that was got elsewhere, such as by another library (RFC 6749, section 6)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..._runtime.secrecy import Hidden
from ..._session import SignedIn
from ...errors import TokenRequestError
from ..answers import Answer
from ..client import Client
from .sign_in import sign_in

if TYPE_CHECKING:
    import msal

__all__ = ["redeem_refresh_token"]


def redeem_refresh_token(client: Client, given: Hidden, scopes: tuple[str, ...]) -> SignedIn:
    """Redeems it, and gives what takes its place.

    Args:
        client: The app that it was given to, at its authority.
        given: The refresh token.
        scopes: What the access token is for.

    Raises:
        TokenRequestError: It is no refresh token.
        InteractionRequiredError: It is none any more: the user has to sign in.
        TokenManagerError: There is nothing to be had.
    """
    text = Hidden(Answer({"refresh_token": given.cell_contents}).refresh_token)
    if not text.cell_contents:
        raise TokenRequestError("that is no refresh token: pass its text as the service gave it")

    def grant(application: msal.ClientApplication) -> Any:
        return application.acquire_token_by_refresh_token(text.cell_contents, list(scopes))

    return sign_in(client, grant, "refresh_token", scopes, secret=text, kept=text)
