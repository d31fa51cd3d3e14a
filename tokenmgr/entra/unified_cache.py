"""MSAL's unified cache schema: what another program has cached comes in, and goes out again.

What that schema says of a token is less than what tells two tokens apart here:

* ``environment`` is the host of the authority, without its port, as the program named it;
* ``realm`` is the first segment of the token endpoint's path: the tenant, mostly by its GUID,
  however the program named it; ``adfs`` for AD FS; for B2C the tenant without its policy, and for
  a generic provider whatever its path begins with.

So a token of a B2C policy, or of a generic provider, carries one more field when it goes out from
here, which MSAL keeps and does not look at; and none is believed to be ours without that.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from .._runtime.clock import Clock
from .._runtime.forks import no_fork, renew_in_child
from .._runtime.secrecy import Hidden, Unpicklable
from .._session import Account, SignedIn
from ..errors import ConfigurationError, StoreError, TokenManagerError
from ..identity.clouds import cloud_of
from ..token import Record, TokenKey
from . import unified_schema as schema
from .client import Client
from .grants.client_credentials import ClientCredentialsSource
from .unified_users import Entries, add_user, refreshed, users_of

__all__ = ["UnifiedCache"]


class UnifiedCache(Unpicklable):
    """What was imported from other programs' caches, until it is exported again.

    It is in memory alone, and as large as what was imported.

    Args:
        client: The app whose own tokens are taken out, at its authority.
        clock: The time.
    """

    def __init__(self, client: Client, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        host = urlsplit(client.authority.url).hostname or ""
        cloud = cloud_of(host)
        #: Those whose tokens are the same: MSAL for Python writes the one that the program named,
        #: other MSALs the cloud's oldest.
        self._hosts = frozenset({host}) if cloud is None else cloud.hosts
        #: Whether the schema leaves out what tells this authority from its neighbours.
        self._told_by_url = client.authority.kind in ("b2c", "oidc")
        self._own = Entries(client.client_id, client.authority, self._hosts)
        #: Replaced whole, never changed; read without the lock.
        self._imported: schema.Sections = {}
        #: Those of whom there are sessions, by their home_account_id. Likewise.
        self._kept: Hidden = Hidden(frozenset[str]())
        renew_in_child(self._start_anew)

    def _start_anew(self) -> None:
        """Keeps what was imported in the child, and makes the lock anew."""
        #: Guards the replacing of what was imported; never held over I/O.
        self._lock = threading.RLock()

    def __repr__(self) -> str:
        return f"<UnifiedCache of {self._client.client_id} at {self._client.authority}>"

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing in it."""
        return not self._imported

    def load(self, text: str) -> None:
        """Adds what a cache holds to what was imported before; of two equal keys the later wins.

        Args:
            text: What ``msal.SerializableTokenCache.serialize()`` gave. It is secret.

        Raises:
            ConfigurationError: It is no such text, and nothing of it was taken.
        """
        sections = schema.parse(text)
        del text  # it is secret, and a traceback would show it
        if isinstance(sections, str):
            raise ConfigurationError(sections)
        again = {
            schema.text_of(entry, "home_account_id") for entry in _refresh_tokens(sections).values()
        }
        with self._lock:
            self._kept = Hidden(self._kept.cell_contents - again)
            self._imported = schema.unexpired(
                schema.merged(self._imported, sections), self._clock.wall()
            )

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
            if schema.ACCESS_TOKENS in self._imported:
                self._imported = self._imported | {schema.ACCESS_TOKENS: staying}
        return list(taken.values())

    def users(self) -> list[SignedIn]:
        """Gives those who have signed in to the app at its authority, and are not kept yet.

        The authority is asked for its metadata where the program has named the tenant by a domain
        name. Where it cannot be had, nobody is given, and all of them stay.
        """
        found: list[SignedIn] = []
        with suppress(TokenManagerError):
            found = users_of(self._imported, self._own, self._all_realms)
        kept = self._kept.cell_contents
        return [each for each in found if each.account.home_account_id not in kept]

    def keep(self, home_account_ids: Iterable[str]) -> None:
        """Notes of whom there are sessions: their refresh tokens are those sessions' from then on.

        Args:
            home_account_ids: What their accounts are called.
        """
        with self._lock:
            self._kept = Hidden(self._kept.cell_contents | frozenset(home_account_ids))

    def _refresh(self, refresh_token: Callable[[str], Hidden | None]) -> schema.Sections:
        """Has the users be those of the sessions, and gives all that was imported."""
        now: dict[str, Hidden | None] = {}
        for home in self._kept.cell_contents:
            with suppress(StoreError):  # then it is as it was
                now[home] = refresh_token(home)
        if now:
            with self._lock:
                self._imported = refreshed(self._imported, self._own, now)
        return self._imported

    def dump(
        self,
        held: Iterable[tuple[TokenKey, Record]],
        refresh_token: Callable[[str], Hidden | None] = lambda _: None,
        users: Iterable[tuple[Account, Hidden]] = (),
    ) -> str:
        """Gives all that was imported and is valid, together with the tokens in hand, and users.

        The authority is asked for its metadata where that is not known, since MSAL finds a token
        by what is in it. Where it cannot be had, MSAL will not find the tokens in hand if the
        program named the tenant by a domain name; tokenmgr will.

        Args:
            held: The managers' tokens; those of users, of claims and of CAE are left out.
            refresh_token: Gives the refresh token of a user's session, by their home_account_id;
                None where there is none any more.
            users: Who has signed in here, and what carries their sessions on.

        Returns:
            What ``msal.SerializableTokenCache.deserialize()`` takes. It is secret.
        """
        now = self._clock.wall()
        imported = schema.unexpired(self._refresh(refresh_token), now)
        made = self._made_by_msal(
            [(key, record) for key, record in held if self._goes_out(key, record, now)],
            self._not_among(imported, users),
        )
        # In this order: of an access token ours is the newer one, and an imported AppMetadata may
        # say more than the one that MSAL makes along with it.
        tokens = {name: made[name] for name in made if name == schema.ACCESS_TOKENS}
        return json.dumps(schema.merged(schema.merged(made, imported), tokens))

    def clear(self) -> None:
        """Lets all of it go."""
        with self._lock:
            self._imported, self._kept = {}, Hidden(frozenset())

    def _access_tokens(self) -> dict[str, dict[str, Any]]:
        entries: dict[str, dict[str, Any]] = self._imported.get(schema.ACCESS_TOKENS, {})
        return entries

    def _realms(self) -> set[str]:
        """What an entry may call this authority's tenant."""
        named = {schema.realm_of(self._client.authority.url)}
        if any(
            self._own_token(entry) and not self._is_of(entry, named)
            for entry in self._access_tokens().values()
        ):
            named.add(schema.realm_of(self._token_endpoint()))
        return named

    def _all_realms(self) -> set[str]:
        """What an entry may call this authority's tenant, where that is not what it is named by.

        Raises:
            TokenManagerError: The authority's metadata cannot be had.
        """
        return {
            schema.realm_of(each)
            for each in (self._client.authority.url, self._client.token_endpoint())
        }

    def _is_of(self, entry: dict[str, Any], realms: set[str]) -> bool:
        """Whether a token that may be the app's own is of this tenant too."""
        return self._told_by_url or schema.text_of(entry, "realm").lower() in realms

    def _own_token(self, entry: dict[str, Any]) -> Record | None:
        """The token of an entry that can only be the app's own, unless it is another tenant's."""
        record = schema.plain_token(entry)
        if record is None or entry.get("client_id") != self._client.client_id:
            return None
        url = entry.get(schema.AUTHORITY)
        if url != (self._client.authority.url if self._told_by_url else None):
            return None
        if (
            not self._told_by_url
            and schema.text_of(entry, "environment").lower() not in self._hosts
        ):
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

    def _not_among(
        self, imported: schema.Sections, users: Iterable[tuple[Account, Hidden]]
    ) -> list[tuple[Account, Hidden]]:
        """Gives the users but for those whose entries, which were imported, are up to date."""
        there = Hidden(
            {
                schema.text_of(entry, "home_account_id")
                for entry in _refresh_tokens(imported).values()
                if self._own.has(entry)
            }
            & self._kept.cell_contents
        )
        return [each for each in users if each[0].home_account_id not in there.cell_contents]

    def _made_by_msal(
        self, held: list[tuple[TokenKey, Record]], users: list[tuple[Account, Hidden]]
    ) -> schema.Sections:
        """What MSAL would have cached of tokens that it fetched, and users whom it signed in."""
        if not held and not users:
            return {}
        with no_fork():
            from msal import SerializableTokenCache

        cache = SerializableTokenCache()
        endpoint = self._token_endpoint()
        for key, record in held:
            cache.add(schema.event(key, record, endpoint), now=record.obtained_at)
        realm, host = schema.realm_of(endpoint), urlsplit(self._client.authority.url).hostname or ""
        for account, refresh_token in users:
            add_user(
                cache,
                self._own,
                account,
                refresh_token,
                realm=realm,
                host=host,
                now=self._clock.wall(),
            )
        sections: schema.Sections = json.loads(cache.serialize())
        if self._told_by_url:
            for entry in sections.get(schema.ACCESS_TOKENS, {}).values():
                entry[schema.AUTHORITY] = self._client.authority.url
        return sections

    def _token_endpoint(self) -> str:
        try:
            return self._client.token_endpoint()
        except TokenManagerError:
            return self._client.authority.url  # whose path begins with the tenant too


def _refresh_tokens(sections: schema.Sections) -> dict[str, dict[str, Any]]:
    entries: dict[str, dict[str, Any]] = sections.get(schema.REFRESH_TOKENS, {})
    return entries


def _end(record: Record | None) -> float:
    return 0.0 if record is None else record.token.expires_at
