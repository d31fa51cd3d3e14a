"""What an app has in common at all of its tenants: connections, store, threads, limits."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypedDict

from ._context import Context, new_context
from ._kept_assertion import KeptAssertion, kept_assertion
from ._members import Members
from ._runtime.clock import SYSTEM_CLOCK, Clock
from ._runtime.forks import no_fork, renew_in_child
from ._runtime.secrecy import Hidden, Unpicklable
from ._runtime.stack import longest_wait
from .entra.client import Client
from .entra.particulars import particulars_of
from .entra.sources.base import SourceCredential
from .entra.wire.connection import ClientCertificate, Connection
from .errors import ConfigurationError
from .events import Event
from .identity.authority import Authority
from .identity.credentials import ClientCredential, ClientSecret, FederatedAssertion
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
        client_id: Its client id; None where its credential gives tokens by itself.
        authority: Whom it asks; None likewise.
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
        client_id: str | None,
        authority: Authority | str | None,
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
        whose, whom = _whom(client_id, authority, credential)
        if isinstance(credential, FederatedAssertion):
            credential = kept_assertion(credential, whom, self.context)
        #: The app at the authority that the program has named.
        self.client: Client = self._client(whom, whose, credential, added, cae=cae)
        self.sealed: SealedStore | None = self._seal(store, keys, credential, namespace)
        self._credential, self._keys = credential, keys
        given_by = credential if isinstance(credential, SourceCredential) else None
        #: Whether it may be at other tenants.
        self.has_tenants: bool = given_by.has_tenants if given_by else whom.kind == "entra"
        self._most_users = _number_of(max_users)
        self._session_ttl = _seconds_of(session_ttl)
        self._members = Members(self.client, self.context, self.sealed)
        if given_by is not None:
            given_by.hold(self)
        renew_in_child(self._start_anew)

    def _start_anew(self) -> None:
        """Makes its lock anew in the child."""
        #: Guards which tenants and users there are; never held while anything waits.
        self.lock: threading.RLock = threading.RLock()

    def _client(
        self,
        authority: Authority,
        client_id: str,
        credential: ClientCredential | SourceCredential | None,
        added: Hidden,
        *,
        cae: bool,
    ) -> Client:
        given_by = credential if isinstance(credential, SourceCredential) else None
        return Client(
            authority,
            client_id,
            None if isinstance(credential, SourceCredential) else credential,
            connection=self.connection,
            context=self.context,
            cae=cae,
            particulars=particulars_of(authority, credential, added),
            given_by=given_by,
        )

    def _seal(
        self,
        store: Hidden,
        keys: Hidden,
        credential: ClientCredential | SourceCredential | None,
        namespace: str,
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
        if isinstance(self._credential, KeptAssertion):
            self._credential.close()
        elif isinstance(self._credential, SourceCredential):
            self._credential.let_go(self)


def _checked(given: Hidden) -> ClientCredential | SourceCredential | None:
    if given.cell_contents is None:
        return None
    if isinstance(given.cell_contents, str):
        return ClientSecret(given.cell_contents)
    if isinstance(given.cell_contents, (ClientCredential, SourceCredential)):
        return given.cell_contents
    if any(hasattr(given.cell_contents, name) for name in ("get_token", "get_token_info")):
        raise ConfigurationError(
            "credential= is one of azure-core's: pass AzureCredential(credential)"
        )
    raise ConfigurationError(
        "credential= is a ClientSecret (or its text), a Certificate, a ClientAssertion, a "
        "WorkloadIdentity, a ManagedIdentity or an AzureCredential; it is left out for a public "
        "client, which has none"
    )


def _whom(
    client_id: str | None,
    authority: Authority | str | None,
    credential: ClientCredential | SourceCredential | None,
) -> tuple[str, Authority]:
    """Gives the app's id, and whom it asks: what the program says, or what its credential is."""
    if not isinstance(credential, SourceCredential):
        if authority is None:
            raise ConfigurationError(
                "authority= is missing: pass Authority.entra(tenant), or the authority's URL"
            )
        return client_id or "", Authority.parse(authority)
    if client_id is not None or authority is not None:
        raise ConfigurationError(
            f"{credential!r} gives tokens by itself: leave client_id= and authority= out. "
            "ManagedIdentity(client_id=) names one that a user has assigned; an app of your own "
            "takes ClientAssertion.from_managed_identity(ManagedIdentity())"
        )
    return credential.name, credential.authority


def _number_of(max_users: int) -> int:
    if isinstance(max_users, bool) or not isinstance(max_users, int) or max_users < 1:
        raise ConfigurationError("max_users= is a number of managers, 1 or more")
    return max_users


def _seconds_of(session_ttl: float) -> float:
    number = isinstance(session_ttl, (int, float)) and not isinstance(session_ttl, bool)
    if not number or not 0 < session_ttl < float("inf"):
        raise ConfigurationError("session_ttl= is in seconds, more than 0")
    return float(session_ttl)
