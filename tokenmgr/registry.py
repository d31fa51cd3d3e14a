"""TokenRegistry: finds or makes the manager of a token, and owns what managers share."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ._runtime.clock import SYSTEM_CLOCK, Clock
from ._runtime.forks import make_new_in_child
from ._runtime.refresher import refresher_for
from ._runtime.secrecy import Unpicklable
from ._sharing.fetch_once import SharedCache
from ._sharing.keys import EncryptionKey, Keyring
from .entra.breaker import Breaker, GuardedSource
from .entra.client import ConfidentialClient
from .entra.grants.client_credentials import ClientCredentialsSource
from .entra.unified_cache import UnifiedCache
from .entra.wire.connection import Connection
from .errors import ConfigurationError, TokenManagerError
from .events import Event, Hook, TokenStatus
from .identity.authority import Authority
from .identity.credentials import ClientCredential, ClientSecret
from .identity.environment import settings_from
from .manager import AccessTokenManager
from .policy import RefreshPolicy
from .stores import TokenStore, open_store
from .token import TokenKey, normalize_scopes

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["TokenRegistry"]

#: Scopes can be spelled in many ways, and so many spellings are remembered.
_MOST_SPELLINGS = 10_000


class TokenRegistry(Unpicklable):
    """The tokens of one app at one authority: ask it for a manager of each scope.

    Making one reads nothing and asks nobody. It is safe to share between threads and event
    loops, and meant to live as long as the program.

    Example:
        >>> from tokenmgr import Authority, ClientSecret, TokenRegistry
        >>> tokens = TokenRegistry(
        ...     client_id="11111111-2222-3333-4444-555555555555",
        ...     credential=ClientSecret("the secret's value"),
        ...     authority=Authority.entra("contoso.onmicrosoft.com"),
        ... )
        >>> graph = tokens.manager("https://graph.microsoft.com/.default")
        >>> graph is tokens.manager("https://graph.microsoft.com/.default")
        True

    Args:
        client_id: The app's client id.
        credential: What proves who the app is; a str is a client secret.
        authority: Whom it asks; a str is its URL.
        store: Where tokens are shared with other workers: ``sqlite:///tokens.db`` on one host,
            ``redis://…``, ``rediss://…`` or ``unix://…`` between hosts, or a
            :class:`~tokenmgr.stores.TokenStore`, which stays open when the registry is closed.
            None shares them with nobody.
        encryption_key: What the tokens in the store are encrypted with: a text or bytes of 32 or
            more, or several, of which the first encrypts and all decrypt. Left out, a key is
            derived from the client secret or the private key (HKDF, RFC 5869).
        namespace: What the names of its records in the store begin with.
        policy: When to renew, how to back off, how long to wait.
        verify: The path of a file or folder of certificate authorities, or True for those that
            ``requests`` ships, or False for no check at all; each wins over the environment.
            None does as ``requests`` does: ``REQUESTS_CA_BUNDLE`` first.
        proxies: ``{"https": "http://proxy:8080"}``; what it leaves out, the environment says.
        timeout: Seconds that one fetch may take, with all that is repeated.
        on_event: Called with each :class:`~tokenmgr.events.Event`, in a thread of its own; what
            it raises, and how long it takes, harms nobody.
        clock: The time; a test passes one that it moves by hand.

    Raises:
        ConfigurationError: A setting is missing or cannot be right.
        AuthorityError: The authority is not one.
    """

    def __init__(
        self,
        *,
        client_id: str,
        credential: ClientCredential | str,
        authority: Authority | str,
        store: TokenStore | str | None = None,
        encryption_key: EncryptionKey | None = None,
        namespace: str = "tokenmgr",
        policy: RefreshPolicy | None = None,
        verify: bool | str | os.PathLike[str] | None = None,
        proxies: Mapping[str, str] | None = None,
        timeout: float = 10.0,
        on_event: Callable[[Event], object] | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        if isinstance(credential, str):
            credential = ClientSecret(credential)  # and so no traceback from here on shows it
        if not isinstance(credential, ClientCredential):
            del credential  # whatever it is, it may be secret
            raise ConfigurationError(
                "credential= is a ClientSecret (or its text), a Certificate, a ClientAssertion or "
                "a WorkloadIdentity"
            )
        try:
            self._connection = Connection(verify=verify, proxies=proxies, timeout=timeout)
        finally:
            del proxies  # a proxy's URL may hold its password, and a traceback would show it
        self._client = ConfidentialClient(
            Authority.parse(authority),
            client_id,
            credential,
            connection=self._connection,
            clock=clock,
        )
        self._imported = UnifiedCache(self._client, clock)
        if policy is not None and not isinstance(policy, RefreshPolicy):
            raise ConfigurationError("policy= is a RefreshPolicy")
        self._policy = policy or RefreshPolicy()
        self._clock = clock
        self._refresher = refresher_for(clock)
        self._hook = Hook(on_event)
        self._breaker = Breaker(str(self._client.authority), clock, self._policy, self._hook.emit)
        try:
            #: The store, where it was made here.
            self._opened: TokenStore | None = None
            if isinstance(store, str):
                store = self._opened = open_store(store)
            self._shared: SharedCache | None = None
            if store is not None:
                self._shared = SharedCache(
                    store,
                    Keyring(encryption_key, credential),
                    namespace=namespace,
                    longest_fetch=self._connection.timeout,
                    policy=self._policy,
                    clock=clock,
                    emit=self._hook.emit,
                )
        finally:
            del store, encryption_key  # so that no traceback shows them
        self._managers: dict[TokenKey, AccessTokenManager] = {}
        #: The managers again, by the arguments as they were given; read without the lock.
        self._by_arguments: dict[tuple[str, ...], AccessTokenManager] = {}
        self._closed = False
        make_new_in_child(self)
        self.after_fork()

    def after_fork(self) -> None:
        """Keeps the managers in the child, and makes the lock anew."""
        #: Guards the fields above; never held while anything waits.
        self._lock = threading.Lock()

    @classmethod
    def from_env(
        cls,
        *,
        store: TokenStore | str | None = None,
        encryption_key: EncryptionKey | None = None,
        namespace: str = "tokenmgr",
        policy: RefreshPolicy | None = None,
        verify: bool | str | os.PathLike[str] | None = None,
        proxies: Mapping[str, str] | None = None,
        timeout: float = 10.0,
        on_event: Callable[[Event], object] | None = None,
    ) -> TokenRegistry:
        """Makes a registry of what the environment says.

        ``AZURE_CLIENT_ID``, with ``AZURE_TENANT_ID`` and perhaps ``AZURE_AUTHORITY_HOST``, or
        with ``TOKENMGR_AUTHORITY`` (the URL of any authority). The first of these that is set
        proves who the app is: ``AZURE_CLIENT_SECRET``; ``AZURE_CLIENT_CERTIFICATE_PATH`` (with
        ``AZURE_CLIENT_CERTIFICATE_PASSWORD`` and ``AZURE_CLIENT_SEND_CERTIFICATE_CHAIN``);
        ``AZURE_FEDERATED_TOKEN_FILE``. ``TOKENMGR_STORE`` and ``TOKENMGR_ENCRYPTION_KEY`` (one
        key or several, with commas between them) are ``store=`` and ``encryption_key=`` where
        these are left out.

        Args:
            store: As for :class:`TokenRegistry`, and so are the others.
            encryption_key: As there.
            namespace: As there.
            policy: As there.
            verify: As there.
            proxies: As there.
            timeout: As there.
            on_event: As there.

        Raises:
            ConfigurationError: A variable is missing, or two contradict each other.
            AuthorityError: The tenant or the authority is not one.
        """
        try:
            settings = settings_from(os.environ)
            return cls(
                client_id=settings.client_id,
                credential=settings.credential,
                authority=settings.authority,
                store=settings.store if store is None else store,
                encryption_key=settings.encryption_key
                if encryption_key is None
                else encryption_key,
                namespace=namespace,
                policy=policy,
                verify=verify,
                proxies=proxies,
                timeout=timeout,
                on_event=on_event,
            )
        finally:
            del store, encryption_key  # so that no traceback shows them

    def __repr__(self) -> str:
        return f"<TokenRegistry of {self._client.client_id} at {self._client.authority}>"

    def manager(self, *scopes: str) -> AccessTokenManager:
        """Gives the manager of the app's own token for a scope. The same scope, the same manager.

        Args:
            *scopes: What the token is for: ``{resource}/.default``.

        Raises:
            InvalidScopeError: It is no scope for client credentials.
            ConfigurationError: There is none, the authority stands for many tenants, or the
                registry is closed.
        """
        known = self._by_arguments.get(scopes)
        if known is not None:
            return known
        source = ClientCredentialsSource(self._client, normalize_scopes(scopes))
        with self._lock:
            self._check_open()
            manager = self._managers.get(source.key)
            if manager is None:
                manager = self._managers[source.key] = AccessTokenManager(
                    GuardedSource(source, source.key, self._breaker),
                    source.key,
                    policy=self._policy,
                    clock=self._clock,
                    refresher=self._refresher,
                    hook=self._hook,
                    shared=None if self._shared is None else self._shared.of(source.key),
                )
            if len(self._by_arguments) >= _MOST_SPELLINGS:
                self._by_arguments.clear()
            self._by_arguments[scopes] = manager
            return manager

    def get_access_token(
        self, *scopes: str, min_ttl: float | None = None, timeout: float | None = None
    ) -> str:
        """Gives a valid access token: ``manager(*scopes).get_access_token()``."""
        return self.manager(*scopes).get_access_token(min_ttl=min_ttl, timeout=timeout)

    async def aget_access_token(
        self, *scopes: str, min_ttl: float | None = None, timeout: float | None = None
    ) -> str:
        """Does as :meth:`get_access_token`, from any event loop, and never blocks it."""
        return await self.manager(*scopes).aget_access_token(min_ttl=min_ttl, timeout=timeout)

    def prefetch(self, *managers: AccessTokenManager, timeout: float | None = None) -> None:
        """Fetches the tokens of several managers side by side, before they are needed.

        Args:
            *managers: Which; all that the registry has made so far when left out.
            timeout: Seconds to wait for all of them; see
                :meth:`AccessTokenManager.get_access_token`.

        Raises:
            TokenManagerError: One has no token; the others have theirs, or their own failure.
        """
        wanted = managers or self._all()
        give_up_at = None if timeout is None else self._clock.elapsed() + timeout
        failures: list[TokenManagerError] = []
        for manager in wanted:
            with _collecting(failures):
                manager.prefetch()
        for manager in wanted:
            left = None if give_up_at is None else give_up_at - self._clock.elapsed()
            with _collecting(failures):
                manager.get_token(timeout=left)
        if failures:
            raise failures[0]

    async def aprefetch(self, *managers: AccessTokenManager, timeout: float | None = None) -> None:
        """Does as :meth:`prefetch`, from any event loop, and never blocks it."""
        import asyncio

        outcomes = await asyncio.gather(
            *(manager.aget_token(timeout=timeout) for manager in managers or self._all()),
            return_exceptions=True,
        )
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome

    def status(self) -> list[TokenStatus]:
        """Says how each token stands, without its secret."""
        return [manager.status() for manager in self._all()]

    def export_cache(self) -> str:
        """Gives its tokens as the text that ``msal.SerializableTokenCache.deserialize()`` takes.

        What was imported is in it too, as long as it is valid. The authority is asked for its
        metadata where that is not known yet: do not call it from an event loop.

        The text is secret: whoever has it has the tokens. A file for it has mode 0600.

        Raises:
            ConfigurationError: The registry is closed.
        """
        self._check_open()
        held = [(manager.key, manager.record()) for manager in self._all()]
        return self._imported.dump((key, record) for key, record in held if record is not None)

    def import_cache(self, text: str) -> None:
        """Takes in a cache that MSAL, msal-extensions or :meth:`export_cache` wrote.

        The app's own tokens go to this process's managers, where they are newer than theirs;
        accounts and refresh tokens are kept for the next export. What belongs to another app or
        tenant, or to a B2C policy that the text does not name, is not taken for this registry's.
        The authority may be asked for its metadata: do not call it from an event loop.

        Args:
            text: What ``msal.SerializableTokenCache.serialize()`` gave.

        Raises:
            ConfigurationError: It is no such text, and nothing was taken; or the registry is
                closed.
        """
        try:
            self._check_open()
            self._imported.load(text)
        finally:
            del text  # it is secret, and a traceback would show it
        for record in self._imported.take_tokens():
            self.manager(*record.token.scopes).adopt(record)

    def _check_open(self) -> None:
        if self._closed:
            raise ConfigurationError("this registry is closed: make a new TokenRegistry")

    def _all(self) -> list[AccessTokenManager]:
        with self._lock:
            return list(self._managers.values())

    def close(self) -> None:
        """Lets all tokens go and closes the connections. Closing again does nothing."""
        with self._lock:
            self._closed = True
            managers = list(self._managers.values())
            self._managers.clear()
            self._by_arguments.clear()
        if self._shared is not None:
            self._shared.close()
        for manager in managers:
            manager.close()
        self._imported.clear()
        self._connection.close()
        if self._opened is not None:
            self._opened.close()

    async def aclose(self) -> None:
        """Does as :meth:`close`, and never blocks the event loop."""
        import asyncio

        await asyncio.to_thread(self.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()


@contextmanager
def _collecting(failures: list[TokenManagerError]) -> Iterator[None]:
    try:
        yield
    except TokenManagerError as exc:
        failures.append(exc)
