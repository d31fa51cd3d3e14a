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
    home_account_id, home = "", Hidden(home_account_id)
    if not home.cell_contents and in_directory and _has(claims, "oid", "tid"):
        home = Hidden("{oid}.{tid}".format_map(claims.cell_contents))
    elif not home.cell_contents and _has(claims, "sub"):
        host = urlsplit(_text(claims, "iss")).hostname or ""
        home = Hidden(f"{_text(claims, 'sub')}.{host}")
    username = Hidden(next((_text(claims, name) for name in _NAMES if _has(claims, name)), ""))
    return Account(home.cell_contents, username.cell_contents, claims)


def _has(claims: Hidden, *names: str) -> bool:
    return all(_text(claims, name) for name in names)


def _text(claims: Hidden, name: str) -> str:
    """Gives a claim that is a text; an empty one for any other."""
    said = Hidden(claims.cell_contents.get(name))
    return said.cell_contents if isinstance(said.cell_contents, str) else ""
