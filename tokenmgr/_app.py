"""What an app has in common at all of its tenants: connections, store, threads, limits."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypedDict

from ._context import Context, new_context
from ._members import Members
from ._runtime.clock import SYSTEM_CLOCK, Clock
from ._runtime.forks import no_fork, renew_in_child
from ._runtime.secrecy import Hidden, Unpicklable
from ._runtime.stack import longest_wait
from .entra.client import Client
from .entra.particulars import particulars_of
from .entra.wire.connection import ClientCertificate, Connection
from .errors import ConfigurationError
from .events import Event
from .identity.authority import Authority
from .identity.credentials import ClientCredential, ClientSecret
from .policy import RefreshPolicy

if TYPE_CHECKING:
    from ._sessions import Sessions
    from ._sharing.keys import EncryptionKey
    from ._sharing.part import StorePart
    from ._sharing.sealed_flows import SealedFlows
    from ._sharing.slot import SealedStore
    from .stores import TokenStore
    from .users import Users

__all__ = ["App", "RegistrySettings"]

#: Seconds that closing waits for what is under way.
_PATIENCE = 1.0


class RegistrySettings(TypedDict, total=False):
    """The settings of a :class:`~tokenmgr.TokenRegistry` that do not say who asks, and whom."""

    store: TokenStore | str | None
    encryption_key: EncryptionKey | None
    namespace: str
    policy: RefreshPolicy | None
    verify: bool | str | os.PathLike[str] | None
    proxies: Mapping[str, str] | None
    cert: ClientCertificate | None
    timeout: float
    cae: bool
    azure_region: str | bool | None
    client_claims: Mapping[str, Any] | None
    forwarded_client_claims: Mapping[str, Any] | str | None
    exclude_scopes: Iterable[str] | None
    extra: Mapping[str, str] | None
    app_name: str | None
    app_version: str | None
    max_users: int
    session_ttl: float
    on_event: Callable[[Event], object] | None
    clock: Clock


class App(Unpicklable):
    """An app: its credential, its way to the service, its store, its threads and its limits.

    Args:
        client_id: Its client id.
        authority: Whom it asks.
        given: What proves who it is, and the settings ``store``, ``encryption_key`` and
            ``proxies``: any of them may be secret, or hold a password.
        added: What it says of itself, and adds to its requests, by name.
        **settings: All other settings, which are documented at :class:`~tokenmgr.TokenRegistry`.

    Raises:
        ConfigurationError: A setting is missing or cannot be right.
    """

    #: Its part in the store; None without one.
    _part: StorePart | None = None
    #: Made with the first of them.
    _users: Users | None = None
    _flows: SealedFlows | None = None
    _sessions: Sessions | None = None

    def __init__(
        self,
        client_id: str,
        authority: Authority,
        given: Hidden,
        added: Hidden,
        *,
        namespace: str = "tokenmgr",
        policy: RefreshPolicy | None = None,
        verify: bool | str | os.PathLike[str] | None = None,
        cert: ClientCertificate | None = None,
        timeout: float = 10.0,
        cae: bool = False,
        max_users: int = 10_000,
        session_ttl: float = 1_209_600.0,
        on_event: Callable[[Event], object] | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        secret, store, keys, ways = map(Hidden, given.cell_contents)
        self.connection: Connection = Connection(
            verify=verify, proxies=ways.cell_contents, cert=cert, timeout=timeout
        )
        self.context: Context = new_context(
            policy=policy, clock=clock, on_event=on_event, fetch_timeout=timeout
        )
        credential = _checked(secret)
        #: The app at the authority that the program has named.
        self.client: Client = self._client(authority, client_id, credential, added, cae=cae)
        self.sealed: SealedStore | None = self._seal(store, keys, credential, namespace)
        self._credential, self._keys = credential, keys
        self._most_users = _number_of(max_users)
        self._session_ttl = _seconds_of(session_ttl)
        self._members = Members(self.client, self.context, self.sealed)
        renew_in_child(self._start_anew)

    def _start_anew(self) -> None:
        """Makes its lock anew in the child."""
        #: Guards which tenants and users there are; never held while anything waits.
        self.lock = threading.RLock()

    def _client(
        self,
        authority: Authority,
        client_id: str,
        credential: ClientCredential | None,
        added: Hidden,
        *,
        cae: bool,
    ) -> Client:
        return Client(
            authority,
            client_id,
            credential,
            connection=self.connection,
            context=self.context,
            cae=cae,
            particulars=particulars_of(authority, credential, added),
        )

    def _seal(
        self, store: Hidden, keys: Hidden, credential: ClientCredential | None, namespace: str
    ) -> SealedStore | None:
        if store.cell_contents is None:
            return None
        from ._sharing.keys import SealingKeys
        from ._sharing.part import StorePart

        sealing = SealingKeys(keys.cell_contents, credential, salt=self.client.client_id)
        self._part = StorePart(store, sealing, namespace=namespace, context=self.context)
        return self._part.sealed

    def members_at(self, client: Client) -> Members:
        """Makes the managers of the app's own tokens at a tenant, bounded with all others."""
        return self._members.at(client)

    def users_at(self, client: Client) -> Users:
        """Makes the managers of the users of a tenant, bounded with all others."""
        with no_fork():
            from .users import Users

        with self.lock:
            if self._users is None:
                self._users = Users(self._most_users, client, self.context, self.sealed)
            return self._users.at(client)

    def sessions_at(self, client: Client) -> Sessions:
        """Makes the sessions of a tenant's users, bounded with all others."""
        with no_fork():
            from ._sessions import Sessions

        with self.lock:
            if self._sessions is None:
                self._sessions = Sessions(
                    self._most_users, self._session_ttl, client, self.context, self.sealed
                )
            return self._sessions.at(client)

    def flows(self) -> SealedFlows:
        """Gives what seals the sign-ins that are begun.

        Raises:
            ConfigurationError: The ``encryption_key=`` can be guessed.
        """
        with no_fork():
            from ._sharing.keys import keys_of_app
            from ._sharing.sealed_flows import SealedFlows

        with self.lock:
            if self._flows is None:
                keys = (
                    keys_of_app(self._keys, self._credential, salt=self.client.client_id)
                    if self.sealed is None
                    else self.sealed.keys
                )
                self._flows = SealedFlows(keys, self.sealed, self.context)
            return self._flows

    def close(self) -> None:
        """Ends what is under way, and closes the connections and the store.

        It has a second to end, and to be told to the hook. Then its lease is given back all the
        same.
        """
        if self._part is not None:
            self._part.stop()
        if self._sessions is not None:
            self._sessions.close_store()
        self.connection.close()
        # So that others find what comes of it, and the hook is told, before the program ends.
        self.context.settle(min(_PATIENCE, longest_wait()))
        if self._part is not None:
            self._part.close(_PATIENCE)


def _checked(given: Hidden) -> ClientCredential | None:
    if given.cell_contents is None:
        return None
    if isinstance(given.cell_contents, str):
        return ClientSecret(given.cell_contents)
    if isinstance(given.cell_contents, ClientCredential):
        return given.cell_contents
    raise ConfigurationError(
        "credential= is a ClientSecret (or its text), a Certificate, a ClientAssertion or a "
        "WorkloadIdentity; it is left out for a public client, which has none"
    )


def _number_of(max_users: int) -> int:
    if isinstance(max_users, bool) or not isinstance(max_users, int) or max_users < 1:
        raise ConfigurationError("max_users= is a number of managers, 1 or more")
    return max_users


def _seconds_of(session_ttl: float) -> float:
    number = isinstance(session_ttl, (int, float)) and not isinstance(session_ttl, bool)
    if not number or not 0 < session_ttl < float("inf"):
        raise ConfigurationError("session_ttl= is in seconds, more than 0")
    return float(session_ttl)
