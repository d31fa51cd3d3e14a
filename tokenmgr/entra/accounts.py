"""Who has signed in, as claims say it."""

from __future__ import annotations

from urllib.parse import urlsplit

from .._runtime.secrecy import Hidden
from .._session import Account

__all__ = ["account_of"]

#: What a person is called, by the first of these that is there.
_NAMES = ("preferred_username", "upn", "unique_name", "email")


def account_of(claims: Hidden, home_account_id: str, *, in_directory: bool) -> Account:
    """Makes the account that claims tell of.

    Args:
        claims: What an id token says, or an assertion that the service has taken; a dict.
        home_account_id: What the service has called the account; empty where it has not.
        in_directory: Whether it is one of Microsoft's directories that says so. Of any other issuer
            the ``sub`` alone is nobody else's (OpenID Connect Core, section 5.7): an ``oid`` may be
            what its users type into their profiles.
    """
    said = claims.cell_contents
    texts = {name: value for name, value in said.items() if isinstance(value, str)}
    username = next((texts[name] for name in _NAMES if texts.get(name)), "")
    if not home_account_id and in_directory and texts.get("oid") and texts.get("tid"):
        home_account_id = f"{texts['oid']}.{texts['tid']}"
    elif not home_account_id and texts.get("sub"):
        host = urlsplit(texts.get("iss", "")).hostname or ""
        home_account_id = f"{texts['sub']}.{host}"
    return Account(home_account_id, username, claims)
