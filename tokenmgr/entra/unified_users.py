"""The users in a cache of MSAL's schema: whose refresh tokens are in it, and who that is.

Those who have signed in here go out as MSAL would have cached them, but for their id tokens, which
nobody keeps.

A refresh token's entry has no tenant: it is good wherever the user may sign in. So who is this
authority's is told by the account and the id token that were written with it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container
from typing import TYPE_CHECKING, Any, NamedTuple

from .._runtime.secrecy import Hidden
from .._session import Account, SignedIn
from ..identity.assertions import json_part
from ..identity.authority import Authority
from ..token import AccessToken
from . import unified_schema as schema
from .accounts import account_of
from .answers import Answer

if TYPE_CHECKING:
    import msal

__all__ = ["Entries", "add_user", "refreshed", "users_of"]

#: There is no access token of them here.
_NO_TOKEN = AccessToken("", 0.0)


class Entries(NamedTuple):
    """Which entries are an app's."""

    client_id: str
    #: Its authority, and the hosts whose tokens are the same.
    authority: Authority
    hosts: Container[str]

    def has(self, entry: dict[str, Any]) -> bool:
        """Whether one is of the app, and of a user."""
        host = schema.text_of(entry, "environment").lower()
        whose = entry.get("client_id") == self.client_id and host in self.hosts
        return whose and schema.text_of(entry, "home_account_id") != ""


def users_of(
    sections: schema.Sections, own: Entries, realms: Callable[[], Container[str]]
) -> list[SignedIn]:
    """Gives those who have signed in to the app at its authority, and their refresh tokens.

    Args:
        sections: The cache.
        own: The app's entries.
        realms: Gives what an entry may call the authority's tenant.
    """
    tokens: dict[str, dict[str, Any]] = {}
    for entry in sections.get(schema.REFRESH_TOKENS, {}).values():
        home = schema.text_of(entry, "home_account_id")
        if own.has(entry) and _modified(entry) >= _modified(tokens.get(home, {})):
            tokens[home] = entry
    accounts = _accounts(sections, own, tokens)
    users = []
    for home, account in accounts.items():
        said = Answer({"refresh_token": tokens[home].get("secret")})
        refresh_token = Hidden(said.refresh_token)
        if refresh_token.cell_contents and _is_at(account, home, own.authority, realms):
            whose = account_of(account.claims, home, in_directory=True)
            whose = whose._replace(username=account.username or whose.username)
            users.append(SignedIn(_NO_TOKEN, refresh_token, whose, own.authority.url))
    return users


class _Seen(NamedTuple):
    """What a cache says of a user."""

    realms: set[str]
    username: str
    #: Those of the id token.
    claims: Hidden


def _accounts(sections: schema.Sections, own: Entries, homes: Container[str]) -> dict[str, _Seen]:
    seen: dict[str, _Seen] = {}
    for entry in sections.get(schema.ID_TOKENS, {}).values():
        home = schema.text_of(entry, "home_account_id")
        if home in homes and own.has(entry):
            claims = _claims(Hidden(entry.get("secret")))
            last = seen.get(home, _Seen(set(), "", claims))
            realms = {*last.realms, schema.text_of(entry, "realm").lower()}
            seen[home] = last._replace(realms=realms)
    for entry in sections.get(schema.ACCOUNTS, {}).values():
        home = schema.text_of(entry, "home_account_id")
        if home in homes and schema.text_of(entry, "environment").lower() in own.hosts:
            last = seen.get(home, _Seen(set(), "", Hidden({})))
            realms = {*last.realms, schema.text_of(entry, "realm").lower()}
            seen[home] = last._replace(
                realms=realms, username=schema.text_of(entry, "username") or last.username
            )
    return seen


def _claims(id_token: Hidden) -> Hidden:
    text = id_token.cell_contents if isinstance(id_token.cell_contents, str) else ""
    text, parts = "", Hidden(text.split("."))
    if len(parts.cell_contents) != 3:
        return Hidden({})
    return Hidden(json_part(Hidden(parts.cell_contents[1])) or {})


def _is_at(
    seen: _Seen, home: str, authority: Authority, realms: Callable[[], Container[str]]
) -> bool:
    """Whether a user has signed in at an authority, and not at one beside it."""
    if authority.kind == "oidc":  # whose tenants are paths that the schema does not have
        issuer = seen.claims.cell_contents.get("iss")
        return isinstance(issuer, str) and issuer.rstrip("/") == authority.url
    policy = f"-{authority.policy}"
    if authority.kind == "b2c" and not home.partition(".")[0].lower().endswith(policy):
        return False
    if authority.is_multi_tenant_alias:
        return True
    own = schema.realm_of(authority.url)
    return own in seen.realms or any(each in realms() for each in seen.realms)


def add_user(
    cache: msal.TokenCache,
    own: Entries,
    account: Account,
    refresh_token: Hidden,
    *,
    realm: str,
    host: str,
    now: float,
) -> None:
    """Adds a user who has signed in here, as MSAL would have done when they did so with it.

    Its own way to do so logs who that is, at level DEBUG.

    Args:
        cache: The cache.
        own: The app's entries.
        account: Who it is. One that nobody could find is left out.
        refresh_token: What carries their session on.
        realm: What the schema calls the authority's tenant.
        host: Its host, as the program has named it.
        now: The wall clock.
    """
    home, claims = Hidden(account.home_account_id), account.claims
    if own.authority.kind in ("adfs", "oidc"):  # whose users have no client_info
        home = Hidden(schema.text_of(claims.cell_contents, "sub"))
    if not home.cell_contents or not refresh_token.cell_contents:
        return
    kinds = cache.CredentialType
    whose = Hidden({"home_account_id": home.cell_contents, "environment": host})
    token = Hidden(
        {
            **whose.cell_contents,
            "credential_type": kinds.REFRESH_TOKEN,
            "secret": refresh_token.cell_contents,
            "client_id": own.client_id,
            "target": "",
            "last_modification_time": str(int(now)),
        }
    )
    person = Hidden(
        {
            **whose.cell_contents,
            "realm": realm,
            "local_account_id": claims.cell_contents.get("oid", claims.cell_contents.get("sub")),
            "username": account.username,
            "authority_type": "ADFS" if realm == "adfs" else "MSSTS",
        }
    )
    app = {"client_id": own.client_id, "environment": host}
    cache.modify(kinds.REFRESH_TOKEN, token.cell_contents, token.cell_contents)
    cache.modify(kinds.ACCOUNT, person.cell_contents, person.cell_contents)
    cache.modify(kinds.APP_METADATA, app, app)


def refreshed(
    sections: schema.Sections, own: Entries, now: dict[str, Hidden | None]
) -> schema.Sections:
    """Gives the cache with users' refresh tokens as they are now, and without who has signed out.

    Args:
        sections: The cache.
        own: The app's entries.
        now: The refresh tokens of users, by their ``home_account_id``; None of one who has signed
            out.
    """
    gone = {home for home, token in now.items() if token is None}
    left = dict(sections)
    for name in (schema.REFRESH_TOKENS, schema.ID_TOKENS, schema.ACCESS_TOKENS):
        if name in left:
            left[name] = {
                key: entry
                for key, entry in left[name].items()
                if not (own.has(entry) and entry["home_account_id"] in gone)
            }
    tokens = left.get(schema.REFRESH_TOKENS, {})
    for key, entry in tokens.items():
        token = now.get(entry["home_account_id"]) if own.has(entry) else None
        if token is not None:
            tokens[key] = {**entry, "secret": token.cell_contents}
    gone -= {schema.text_of(entry, "home_account_id") for entry in tokens.values()}
    if schema.ACCOUNTS in left:  # they are all apps'
        left[schema.ACCOUNTS] = {
            key: entry
            for key, entry in left[schema.ACCOUNTS].items()
            if schema.text_of(entry, "home_account_id") not in gone
        }
    return left


def _modified(entry: dict[str, Any]) -> float:
    value = str(entry.get("last_modification_time"))
    return float(value) if re.fullmatch(r"[0-9]{1,10}", value) else 0.0
