"""Where a user signs out at the authority (OpenID Connect RP-Initiated Logout 1.0)."""

from __future__ import annotations

from urllib.parse import urlencode, urlsplit

from .._runtime.secrecy import Hidden, is_unicode
from ..errors import ConfigurationError
from ..identity.authority import Authority
from .client import Client

__all__ = ["logout_address"]

#: The authorities whose address is documented: "Single sign-out" on Microsoft Learn.
_DOCUMENTED = frozenset({"entra", "b2c", "ciam"})


def logout_address(client: Client, redirect_uri: str | None, hint: Hidden) -> str:
    """Gives the address to which the user's browser is sent; empty where there is none.

    Args:
        client: The app, at its authority.
        redirect_uri: Where the authority sends the browser afterwards; None for nowhere.
        hint: The ``login_hint`` of the user's id token, of which the authority knows whose sign-in
            it is; anything that is no text where there is none.

    Raises:
        ConfigurationError: The address afterwards is none.
        TokenManagerError: The authority's metadata cannot be had.
    """
    if redirect_uri is not None and not _is_text(redirect_uri):
        raise ConfigurationError(
            "post_logout_redirect_uri= is the text of an address that the app is registered with"
        )
    authority = client.authority
    if authority.kind in _DOCUMENTED:
        address = f"{authority.url}/oauth2/v2.0/logout"
    else:
        address = client.end_session_endpoint()
        if not _is_own(authority, address):
            return ""
    asked = Hidden({"client_id": client.client_id})
    if redirect_uri is not None:
        asked.cell_contents["post_logout_redirect_uri"] = redirect_uri
    if _is_text(hint.cell_contents):
        asked.cell_contents["logout_hint"] = hint.cell_contents
    separator = "&" if urlsplit(address).query else "?"
    return f"{address}{separator}{urlencode(asked.cell_contents)}"


def _is_text(given: object) -> bool:
    return isinstance(given, str) and given != "" and is_unicode(given)


def _is_own(authority: Authority, address: str) -> bool:
    """Whether it is an address at the authority's host: a browser is to be sent there."""
    host = f"https://{authority.host}/"
    plain = address.isascii() and address.isprintable() and " " not in address
    return plain and address.lower().startswith(host) and "#" not in address and "\\" not in address
