"""The entries of MSAL's unified cache schema: what they say, read and written.

The schema is what ``msal.SerializableTokenCache`` writes, and the MSALs of other languages and
msal-extensions with it: https://learn.microsoft.com/entra/msal/python/advanced/msal-python-token-cache-serialization
"""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import urlsplit

from ..token import AccessToken, Record, TokenKey

__all__ = [
    "ACCESS_TOKENS",
    "ACCOUNTS",
    "AUTHORITY",
    "ID_TOKENS",
    "REFRESH_TOKENS",
    "Sections",
    "event",
    "merged",
    "parse",
    "plain_token",
    "realm_of",
    "text_of",
    "unexpired",
]

# The names of the schema's sections; MSAL's TokenCache.CredentialType has them.
ACCESS_TOKENS, REFRESH_TOKENS = "AccessToken", "RefreshToken"
ID_TOKENS, ACCOUNTS = "IdToken", "Account"
_SECTIONS = (ACCESS_TOKENS, REFRESH_TOKENS, ID_TOKENS, ACCOUNTS, "AppMetadata")

#: Our own field: the authority's URL, where the schema does not say enough.
AUTHORITY = "tokenmgr_authority"

#: What an app's own plain token says of itself. Each other field means another kind of token: that
#: of a user (home_account_id, user_assertion_hash), one bound to a key (key_id, kid), one asked for
#: with claims or for a path (ext_cache_key, requestedClaimsHash), or one that is yet to come.
_PLAIN = frozenset(
    {
        *("credential_type", "secret", "environment", "client_id", "target", "realm"),
        *("token_type", "cached_at", "expires_on", "extended_expires_on", "ext_expires_on"),
        *("refresh_on", AUTHORITY),
    }
)

#: What MSAL asks for along with a user's token, which has no home_account_id where the service
#: told nothing of the user.
_OF_USERS = frozenset({"openid", "profile", "offline_access"})

#: Some 100,000 tokens.
_MOST_CHARACTERS = 1 << 28
#: Sections, entries and fields make three, and what is in a field is nearly always a text.
_MOST_LEVELS = 16

#: The sections by name; a known one has its entries by key.
Sections = dict[str, Any]


def parse(text: object) -> Sections | str:
    """Reads a cache, or says what is wrong with it: an error's traceback would show the text."""
    if not isinstance(text, str):
        return f"import_cache() takes a str, and {type(text).__name__} was given: decode it"
    if len(text) > _MOST_CHARACTERS:
        return "the text is too long for a token cache: import the file that MSAL wrote"
    try:
        sections = json.loads(text)
    except (ValueError, RecursionError):
        return (
            "the text is no JSON, and so no token cache: import what SerializableTokenCache."
            "serialize() gave; of a file of msal-extensions, which may be encrypted, what its "
            "persistence.load() gives"
        )
    if not isinstance(sections, dict) or not (sections.keys() & _SECTIONS or sections == {}):
        return (
            "the JSON is no token cache of MSAL's unified schema: import what "
            "SerializableTokenCache.serialize() gave"
        )
    for name in _SECTIONS:
        entries = sections.get(name, {})
        if not isinstance(entries, dict) or not all(
            isinstance(entry, dict) for entry in entries.values()
        ):
            return (
                f"the cache's section {name} is damaged: it has to hold objects by key; export "
                "the cache again"
            )
    if _is_deeper(sections, _MOST_LEVELS):
        return "the cache is nested too deeply for MSAL to write it again: export it again"
    return sections


def _is_deeper(value: object, levels: int) -> bool:
    if not isinstance(value, (dict, list)):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_is_deeper(each, levels - 1) for each in inner)


def merged(earlier: Sections, later: Sections) -> Sections:
    """Both together; the later one's entries win, and so do its sections that are unknown here."""
    known = {
        name: {**earlier.get(name, {}), **later.get(name, {})}
        for name in _SECTIONS
        if name in earlier or name in later
    }
    return {**earlier, **later, **known}


def unexpired(sections: Sections, now: float) -> Sections:
    """All but the access tokens that have expired."""
    if ACCESS_TOKENS not in sections:
        return sections
    # One that does not say when it ends goes too: MSAL cannot search a cache that has it.
    valid = {
        key: entry
        for key, entry in sections[ACCESS_TOKENS].items()
        if (_seconds(entry, "expires_on") or 0.0) > now
    }
    return {**sections, ACCESS_TOKENS: valid}


def event(key: TokenKey, record: Record, endpoint: str) -> dict[str, Any]:
    """What MSAL would have told its cache when the token arrived."""
    token, obtained_at = record.token, int(record.obtained_at)
    answer: dict[str, object] = {
        "access_token": token.secret,
        "token_type": "Bearer",
        "expires_in": int(token.expires_at) - obtained_at,
    }
    if token.refresh_at is not None:
        answer["refresh_in"] = int(token.refresh_at) - obtained_at
    return {
        "client_id": key.client_id,
        "scope": list(key.scopes),
        "token_endpoint": endpoint,
        "environment": urlsplit(key.authority).hostname,
        "response": answer,
    }


def plain_token(entry: dict[str, Any]) -> Record | None:
    """The token of an entry, if it is an app's own, for whoever bears it, and whole."""
    secret, scopes = text_of(entry, "secret"), text_of(entry, "target").split()
    obtained_at, expires_at = _seconds(entry, "cached_at"), _seconds(entry, "expires_on")
    if any(value not in (None, "") for name, value in entry.items() if name not in _PLAIN):
        return None
    if entry.get("credential_type") != ACCESS_TOKENS or obtained_at is None or expires_at is None:
        return None
    if not scopes or _OF_USERS & set(scopes):
        return None
    if str(entry.get("token_type") or "Bearer").lower() != "bearer":
        return None
    # What becomes part of a header must not be able to end it (RFC 6750, section 2.1).
    if not re.fullmatch(r"[\x21-\x7e]+", secret):
        return None
    token = AccessToken(
        secret=secret,
        expires_at=expires_at,
        refresh_at=_seconds(entry, "refresh_on"),
        scopes=tuple(sorted(set(scopes))),
    )
    return Record(token, obtained_at)


def realm_of(url: str) -> str:
    """What the schema calls the tenant of an address."""
    return f"{urlsplit(url).path}/".split("/")[1].lower()


def text_of(entry: dict[str, Any], name: str) -> str:
    """A field that is a text; an empty one for any other."""
    value = entry.get(name)
    return value if isinstance(value, str) else ""


def _seconds(entry: dict[str, Any], name: str) -> float | None:
    """A moment in seconds since 1970: text in the schema, a number from some MSALs."""
    value = str(entry.get(name))
    return float(value) if re.fullmatch(r"[0-9]{1,10}", value) else None
