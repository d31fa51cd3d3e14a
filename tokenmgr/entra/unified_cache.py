"""MSAL's unified cache schema: what another program has cached comes in, and goes out again.

The schema is what ``msal.SerializableTokenCache`` writes, and the MSALs of other languages and
msal-extensions with it: https://learn.microsoft.com/entra/msal/python/advanced/msal-python-token-cache-serialization

What it says of a token is less than what tells two tokens apart here:

* ``environment`` is the host of the authority, without its port, as the program named it;
* ``realm`` is the first segment of the token endpoint's path: the tenant, mostly by its GUID,
  however the program named it; ``adfs`` for AD FS; for B2C the tenant without its policy, and for
  a generic provider whatever its path begins with.

So a token of a B2C policy, or of a generic provider, carries one more field when it goes out from
here, which MSAL keeps and does not look at; and none is believed to be ours without that.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from .._runtime.clock import Clock
from .._runtime.forks import no_fork, renew_in_child
from .._runtime.secrecy import Unpicklable
from ..errors import ConfigurationError, TokenManagerError
from ..identity.clouds import cloud_of
from ..token import AccessToken, Record, TokenKey
from .client import ConfidentialClient
from .grants.client_credentials import ClientCredentialsSource

__all__ = ["UnifiedCache"]

# The names of the schema's sections; MSAL's TokenCache.CredentialType has them.
_ACCESS_TOKENS = "AccessToken"
_SECTIONS = (_ACCESS_TOKENS, "RefreshToken", "IdToken", "Account", "AppMetadata")

#: Our own field: the authority's URL, where the schema does not say enough.
_AUTHORITY = "tokenmgr_authority"

#: What an app's own plain token says of itself. Each other field means another kind of token: that
#: of a user (home_account_id, user_assertion_hash), one bound to a key (key_id, kid), one asked for
#: with claims or for a path (ext_cache_key, requestedClaimsHash), or one that is yet to come.
_PLAIN = frozenset(
    {
        *("credential_type", "secret", "environment", "client_id", "target", "realm"),
        *("token_type", "cached_at", "expires_on", "extended_expires_on", "ext_expires_on"),
        *("refresh_on", _AUTHORITY),
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
_Sections = dict[str, Any]


class UnifiedCache(Unpicklable):
    """What was imported from other programs' caches, until it is exported again.

    It is in memory alone, and as large as what was imported.

    Args:
        client: The app whose own tokens are taken out, at its authority.
        clock: The time.
    """

    def __init__(self, client: ConfidentialClient, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        host = urlsplit(client.authority.url).hostname or ""
        cloud = cloud_of(host)
        #: Those whose tokens are the same: MSAL for Python writes the one that the program named,
        #: other MSALs the cloud's oldest.
        self._hosts = frozenset({host}) if cloud is None else cloud.hosts
        #: Whether the schema leaves out what tells this authority from its neighbours.
        self._told_by_url = client.authority.kind in ("b2c", "oidc")
        #: Replaced whole, never changed; read without the lock.
        self._imported: _Sections = {}
        renew_in_child(self._start_anew)

    def _start_anew(self) -> None:
        """Keeps what was imported in the child, and makes the lock anew."""
        #: Guards the replacing of what was imported; never held over I/O.
        self._lock = threading.RLock()

    def __repr__(self) -> str:
        return f"<UnifiedCache of {self._client.client_id} at {self._client.authority}>"

    def load(self, text: str) -> None:
        """Adds what a cache holds to what was imported before; of two equal keys the later wins.

        Args:
            text: What ``msal.SerializableTokenCache.serialize()`` gave. It is secret.

        Raises:
            ConfigurationError: It is no such text, and nothing of it was taken.
        """
        sections = _parse(text)
        del text  # it is secret, and a traceback would show it
        if isinstance(sections, str):
            raise ConfigurationError(sections)
        with self._lock:
            self._imported = _unexpired(_merged(self._imported, sections), self._clock.wall())

    def take_tokens(self) -> list[Record]:
        """Takes the app's own tokens out; whoever calls it looks after them from then on.

        The authority is asked for its metadata where a token's tenant is not the one that the
        program named, since that may be its GUID. Where it cannot be had, such tokens stay.

        Returns:
            One for each set of scopes: that which is valid longest.
        """
        realms = self._realms()
        now = self._clock.wall()
        taken: dict[tuple[str, ...], Record] = {}
        with self._lock:
            staying = {}
            for key, entry in self._access_tokens().items():
                record = self._own_token(entry)
                if record is None or not self._is_of(entry, realms):
                    staying[key] = entry
                elif record.token.expires_at > max(now, _end(taken.get(record.token.scopes))):
                    # Whoever wrote it may have a clock that is ahead; newer than new is nothing.
                    record = record._replace(obtained_at=min(record.obtained_at, now))
                    taken[record.token.scopes] = record
            if _ACCESS_TOKENS in self._imported:
                self._imported = self._imported | {_ACCESS_TOKENS: staying}
        return list(taken.values())

    def dump(self, held: Iterable[tuple[TokenKey, Record]]) -> str:
        """Gives all that was imported and is valid, together with the tokens in hand.

        The authority is asked for its metadata where that is not known, since MSAL finds a token
        by what is in it. Where it cannot be had, MSAL will not find the tokens in hand if the
        program named the tenant by a domain name; tokenmgr will.

        Args:
            held: The managers' tokens; those of users, of claims and of CAE are left out.

        Returns:
            What ``msal.SerializableTokenCache.deserialize()`` takes. It is secret.
        """
        now = self._clock.wall()
        made = self._made_by_msal(
            [(key, record) for key, record in held if self._goes_out(key, record, now)]
        )
        imported = _unexpired(self._imported, now)
        # In this order: of an access token ours is the newer one, and an imported AppMetadata may
        # say more than the one that MSAL makes along with it.
        tokens = {name: made[name] for name in made if name == _ACCESS_TOKENS}
        return json.dumps(_merged(_merged(made, imported), tokens))

    def clear(self) -> None:
        """Lets all of it go."""
        with self._lock:
            self._imported = {}

    def _access_tokens(self) -> dict[str, dict[str, Any]]:
        entries: dict[str, dict[str, Any]] = self._imported.get(_ACCESS_TOKENS, {})
        return entries

    def _realms(self) -> set[str]:
        """What an entry may call this authority's tenant."""
        named = {_realm(self._client.authority.url)}
        if any(
            self._own_token(entry) and not self._is_of(entry, named)
            for entry in self._access_tokens().values()
        ):
            named.add(_realm(self._token_endpoint()))
        return named

    def _is_of(self, entry: dict[str, Any], realms: set[str]) -> bool:
        """Whether a token that may be the app's own is of this tenant too."""
        return self._told_by_url or _text(entry, "realm").lower() in realms

    def _own_token(self, entry: dict[str, Any]) -> Record | None:
        """The token of an entry that can only be the app's own, unless it is another tenant's."""
        record = _plain_token(entry)
        if record is None or entry.get("client_id") != self._client.client_id:
            return None
        url = entry.get(_AUTHORITY)
        if url != (self._client.authority.url if self._told_by_url else None):
            return None
        if not self._told_by_url and _text(entry, "environment").lower() not in self._hosts:
            return None
        try:
            ClientCredentialsSource(self._client, record.token.scopes)
        except TokenManagerError:
            return None  # there can be no manager of it
        return record

    def _goes_out(self, key: TokenKey, record: Record, now: float) -> bool:
        """Whether it is one that MSAL keeps under its scopes alone, and of use."""
        app = self._client
        plain = TokenKey(app.authority.url, app.client_id, "client_credentials", key.scopes)
        # MSAL counts whole seconds.
        valid = int(record.token.expires_at) > now
        return key == plain and valid and record.token.token_type.lower() == "bearer"

    def _made_by_msal(self, held: list[tuple[TokenKey, Record]]) -> _Sections:
        """What MSAL would have cached of tokens that it fetched by itself."""
        if not held:
            return {}
        with no_fork():
            import msal

        cache = msal.SerializableTokenCache()
        endpoint = self._token_endpoint()
        for key, record in held:
            cache.add(_event(key, record, endpoint), now=record.obtained_at)
        sections: _Sections = json.loads(cache.serialize())
        if self._told_by_url:
            for entry in sections[_ACCESS_TOKENS].values():
                entry[_AUTHORITY] = self._client.authority.url
        return sections

    def _token_endpoint(self) -> str:
        try:
            return self._client.token_endpoint()
        except TokenManagerError:
            return self._client.authority.url  # whose path begins with the tenant too


def _parse(text: object) -> _Sections | str:
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


def _merged(earlier: _Sections, later: _Sections) -> _Sections:
    """Both together; the later one's entries win, and so do its sections that are unknown here."""
    known = {
        name: {**earlier.get(name, {}), **later.get(name, {})}
        for name in _SECTIONS
        if name in earlier or name in later
    }
    return {**earlier, **later, **known}


def _unexpired(sections: _Sections, now: float) -> _Sections:
    if _ACCESS_TOKENS not in sections:
        return sections
    # One that does not say when it ends goes too: MSAL cannot search a cache that has it.
    valid = {
        key: entry
        for key, entry in sections[_ACCESS_TOKENS].items()
        if (_seconds(entry, "expires_on") or 0.0) > now
    }
    return {**sections, _ACCESS_TOKENS: valid}


def _event(key: TokenKey, record: Record, endpoint: str) -> dict[str, Any]:
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


def _plain_token(entry: dict[str, Any]) -> Record | None:
    """The token of an entry, if it is an app's own, for whoever bears it, and whole."""
    secret, scopes = _text(entry, "secret"), _text(entry, "target").split()
    obtained_at, expires_at = _seconds(entry, "cached_at"), _seconds(entry, "expires_on")
    if any(value not in (None, "") for name, value in entry.items() if name not in _PLAIN):
        return None
    if entry.get("credential_type") != _ACCESS_TOKENS or obtained_at is None or expires_at is None:
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


def _realm(url: str) -> str:
    return f"{urlsplit(url).path}/".split("/")[1].lower()


def _end(record: Record | None) -> float:
    return 0.0 if record is None else record.token.expires_at


def _text(entry: dict[str, Any], name: str) -> str:
    value = entry.get(name)
    return value if isinstance(value, str) else ""


def _seconds(entry: dict[str, Any], name: str) -> float | None:
    """A moment in seconds since 1970: text in the schema, a number from some MSALs."""
    value = str(entry.get(name))
    return float(value) if re.fullmatch(r"[0-9]{1,10}", value) else None
