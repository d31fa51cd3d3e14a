"""TokenRegistry: finds or makes the manager of a token, and owns what managers share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any
from weakref import ref

from ._app import App, RegistrySettings
from ._members import fetch_all, fetch_all_async
from ._runtime.clock import SYSTEM_CLOCK, Clock
from ._runtime.forks import no_fork
from ._runtime.loops import in_thread
from ._runtime.secrecy import Hidden, Unpicklable
from ._sign_ins import SignIns
from ._signed_in import SignedInUsers
from ._tenants import Tenant, Tenants
from .events import Event, Health, TokenStatus, health_of
from .identity.assertions import text_of
from .identity.authority import Authority
from .identity.credentials import ClientCredential
from .manager import AccessTokenManager, cell_of
from .policy import RefreshPolicy
from .token import normalize_scopes

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

    from ._context import Context
    from ._sessions import Sessions
    from ._sharing.keys import EncryptionKey
    from .agents import Agent
    from .entra.client import Client
    from .entra.sources.base import SourceCredential
    from .entra.wire.connection import ClientCertificate
    from .identity.environment import Settings
    from .sessions import UserSession
    from .stores import TokenStore

__all__ = ["RegistrySettings", "TokenRegistry"]


class TokenRegistry(SignIns, SignedInUsers, Unpicklable):
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
        credential: What proves who the app is; a str is a client secret. Left out, it is a public
            client, which signs users in and has no tokens of its own. A
            :class:`~tokenmgr.ManagedIdentity` or an :class:`~tokenmgr.AzureCredential` gives tokens
            by itself: leave ``client_id=`` and ``authority=`` out.
        authority: Whom it asks; a str is its URL.
        store: Where tokens are shared with other workers: ``sqlite:///tokens.db`` on one host,
            ``redis://…``, ``rediss://…`` or ``unix://…`` between hosts, or a
            :class:`~tokenmgr.stores.TokenStore`, which stays open when the registry is closed.
            None shares them with nobody.
        encryption_key: What the tokens in the store are encrypted with: a text or bytes of 32 or
            more, or several, of which the first encrypts and all decrypt. Left out, a key is
            derived from the client secret (PBKDF2, RFC 8018: some 50 ms, once) or the private
            key (HKDF, RFC 5869); a public client has neither.
        namespace: What the names of its records in the store begin with.
        policy: When to renew, how to back off, how long to wait.
        verify: The path of a file or folder of certificate authorities, or True for those that
            ``requests`` ships, or False for no check at all; each wins over the environment.
            None does as ``requests`` does: ``REQUESTS_CA_BUNDLE`` first.
        proxies: ``{"https": "http://proxy:8080"}``; what it leaves out, the environment says.
        cert: What this machine proves itself with to a gateway that asks for it: the path of a
            client certificate with its key, as PEM, or a tuple of the paths of both.
        timeout: Seconds that one fetch may take, with all that is repeated.
        cae: Whether the program answers claims challenges, as every ``BearerAuth`` of
            ``tokenmgr.http`` does. The service is told so (client capability ``CP1``), and gives
            tokens that live for up to 28 hours and are refused as soon as they are revoked
            (continuous access evaluation). Such tokens are kept apart from others.
        azure_region: Where Entra's clouds give the app's own tokens: a region's name, or True for
            the one where this process runs (``REGION_NAME``, or one request to the machine's
            metadata service, once). None is ``MSAL_FORCE_REGION``, or no region; False is none.
        client_claims: Claims to sign into the assertion of a :class:`Certificate`, such as
            ``{"client_ip": "203.0.113.7"}``.
        forwarded_client_claims: Claims to ask for with each token, as a dict or its JSON. Tokens
            of others are others.
        exclude_scopes: What is not to be asked for by itself: ``["offline_access"]`` for no
            refresh tokens of users, ``["profile"]`` for less of them in their id tokens.
        extra: Parameters that each token request has besides, such as ``{"resource": "…"}``; no
            place for secrets. Tokens of others are others.
        app_name: What Microsoft's telemetry calls the app, in up to 64 characters of ASCII.
        app_version: Its version, likewise.
        max_users: Managers of :meth:`on_behalf_of` that are kept, one for each user and set of
            scopes. Beyond that the least recently used ones go, and those whose assertion has
            ended before them. Managers of sessions are bounded the same way, by themselves.
        session_ttl: Seconds after which a :meth:`session` ends that nobody has used.
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
        client_id: str | None = None,
        credential: ClientCredential | SourceCredential | str | None = None,
        authority: Authority | str | None = None,
        store: TokenStore | str | None = None,
        encryption_key: EncryptionKey | None = None,
        namespace: str = "tokenmgr",
        policy: RefreshPolicy | None = None,
        verify: bool | str | os.PathLike[str] | None = None,
        proxies: Mapping[str, str] | None = None,
        cert: ClientCertificate | None = None,
        timeout: float = 10.0,
        cae: bool = False,
        azure_region: str | bool | None = None,
        client_claims: Mapping[str, Any] | None = None,
        forwarded_client_claims: Mapping[str, Any] | str | None = None,
        exclude_scopes: Iterable[str] | None = None,
        extra: Mapping[str, str] | None = None,
        app_name: str | None = None,
        app_version: str | None = None,
        max_users: int = 10_000,
        session_ttl: float = 1_209_600.0,
        on_event: Callable[[Event], object] | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        # Any of them may be secret, or hold a password.
        credential, store, encryption_key, proxies, given = (
            *("", None, None, None),
            Hidden((credential, store, encryption_key, proxies)),
        )
        client_claims, forwarded_client_claims, extra, claims = (
            *(None, None, None),
            Hidden((client_claims, forwarded_client_claims, extra)),
        )
        app = App(
            client_id,
            authority,
            given,
            Hidden(
                {
                    "azure_region": azure_region,
                    "client_claims": claims.cell_contents[0],
                    "forwarded_client_claims": claims.cell_contents[1],
                    "exclude_scopes": exclude_scopes,
                    "extra": claims.cell_contents[2],
                    "app_name": app_name,
                    "app_version": app_version,
                }
            ),
            namespace=namespace,
            policy=policy,
            verify=verify,
            cert=cert,
            timeout=timeout,
            cae=cae,
            max_users=max_users,
            session_ttl=session_ttl,
            on_event=on_event,
            clock=clock,
        )
        own = Tenant(app, app.client)
        self._begin(own, Tenants(own))

    def _begin(self, own: Tenant, tenants: Tenants) -> None:
        self._own = own
        self._tenants = tenants
        own.registry = ref(self)
        self._by_arguments = own.members.by_arguments

    @classmethod
    def from_env(cls, **settings: Unpack[RegistrySettings]) -> Self:
        """Makes a registry of what the environment says.

        ``AZURE_CLIENT_ID``, with ``AZURE_TENANT_ID`` and perhaps ``AZURE_AUTHORITY_HOST``, or
        with ``TOKENMGR_AUTHORITY`` (the URL of any authority). The first of these that is set
        proves who the app is: ``AZURE_CLIENT_SECRET``; ``AZURE_CLIENT_CERTIFICATE_PATH`` (with
        ``AZURE_CLIENT_CERTIFICATE_PASSWORD`` and ``AZURE_CLIENT_SEND_CERTIFICATE_CHAIN``);
        ``AZURE_FEDERATED_TOKEN_FILE``.

        Where none of them is, and no ``TOKENMGR_AUTHORITY``, what the host knows gives the tokens,
        as azure-identity has it: what ``AZURE_TOKEN_CREDENTIALS`` names, or its
        ``DefaultAzureCredential``, where it is installed. The registry's repr and a line of the
        log (``tokenmgr``, INFO) say which. ``ManagedIdentityCredential`` is
        :class:`~tokenmgr.ManagedIdentity`, and needs no azure-identity.

        ``AZURE_REGIONAL_AUTHORITY_NAME`` is ``azure_region=``
        (``tryautodetect`` finds it out) where the authority has regions, and ``TOKENMGR_STORE`` and
        ``TOKENMGR_ENCRYPTION_KEY`` (one key or several, with commas between them) are ``store=``
        and ``encryption_key=``, where these are left out. It has a credential: a public client is
        made by the constructor.

        Args:
            **settings: As for :class:`TokenRegistry`.

        Raises:
            ConfigurationError: A variable is missing, or two contradict each other; or nothing
                proves who the app is, and azure-identity is not installed.
            AuthorityError: The tenant or the authority is not one.
        """
        settings, given = {}, Hidden(settings)  # among them may be the store's password, or the key
        from .identity.environment import settings_from

        found = settings_from(os.environ)
        credential: ClientCredential | SourceCredential | None = found.credential
        if credential is None:
            from .entra.sources.default import default_credential

            credential = default_credential(os.environ)
        return cls(
            client_id=found.client_id,
            credential=credential,
            authority=found.authority,
            **_completed(given, found),
        )

    def __repr__(self) -> str:
        if not hasattr(self, "_own"):  # an error reporter shows what could not be made
            return "<TokenRegistry>"
        app = self._own.client
        if app.given_by is not None:
            tenant = f" at {app.authority.tenant}" if app.authority.tenant else ""
            return f"<TokenRegistry of {app.given_by!r}{tenant}>"
        return f"<TokenRegistry of {app.client_id} at {app.authority}>"

    def manager(
        self,
        *scopes: str | Iterable[str],
        cae: bool | None = None,
        forwarded_client_claims: Mapping[str, Any] | str | None = None,
        extra: Mapping[str, str] | None = None,
        fmi_path: str | None = None,
    ) -> AccessTokenManager:
        """Gives the manager of the app's own token for a scope. The same scope, the same manager.

        Args:
            *scopes: What the token is for: ``{resource}/.default``; a list of scopes will do.
            cae: Whether this token's user answers claims challenges, where that is not what the
                registry says.
            forwarded_client_claims: The claims to ask for with this token, in place of the
                registry's: a dict or its JSON.
            extra: Parameters that this token's request has besides, over those of the registry.
            fmi_path: Whom else the token is to prove, by a path of federated managed identities.
                :meth:`agent` does all that agents need.

        Raises:
            InvalidScopeError: It is no scope for client credentials.
            ConfigurationError: There is none, the app has no credential, the authority stands for
                many tenants, a parameter is none that may be added, or the registry is closed.
        """
        plain = cae is None and forwarded_client_claims is None and extra is None
        if not plain or fmi_path is not None:
            forwarded_client_claims, extra, given = (
                *(None, None),
                Hidden((forwarded_client_claims, extra)),
            )
            return self._own.special(
                scopes, cae, *map(Hidden, given.cell_contents), fmi_path=fmi_path
            )
        try:
            known = self._by_arguments.get(scopes)
        except TypeError:  # a list or a set
            return self.manager(*normalize_scopes(scopes))
        if known is not None:
            return known
        return self._own.members.manager(scopes)

    def on_behalf_of(
        self, assertion: str, *scopes: str | Iterable[str], session: str | None = None
    ) -> AccessTokenManager:
        """Gives the manager of a user's token, for whom this API calls another one.

        The same assertion and scopes, the same manager. Its token serves no longer than the
        assertion does. Each user is alone: one's failures, back-off and claims are no other's.

        See "Microsoft identity platform and OAuth 2.0 On-Behalf-Of flow" on Microsoft Learn.

        Args:
            assertion: The access token that the user's call has brought, with ``Bearer`` before it
                or not. Its audience is this app. Nothing of it is verified here: the service does
                so, and an API does so before it believes any of it.
            *scopes: What the token is for, such as ``https://graph.microsoft.com/User.Read``.
            session: Begins work that outlives the assertion, or has it carry on with this one: a
                name that the program makes up, under which :meth:`session` finds it. The first
                token begins it, so wait for one before the call is over. Where another user has
                begun one of that name, this user's takes its place.

        Raises:
            InteractionRequiredError: It has expired, is no JWT, or is larger than 16 KiB: answer
                401, so that the caller sends another.
            InvalidScopeError: A scope is none that may be asked for.
            ConfigurationError: It is no text; no scope was given; the app has no credential; Azure
                AD B2C has no such grant;
                the registry is closed; or there is a store without ``encryption_key=``, which a
                session needs.
        """
        assertion, session, given, name = "", None, Hidden(assertion), Hidden(session)
        self._own.client.check_credential("on_behalf_of()")
        if name.cell_contents is not None:
            return self._named_sessions().begin(name, scopes, text_of(given))
        return (self._own.users or self._own.begin_users()).manager(text_of(given), scopes)

    def agent(self, agent_id: str) -> Agent:
        """Gives an agent identity, of which this app is the blueprint, at this tenant.

        It holds nothing: its tokens are kept by this registry, and so the same agent is found
        anew wherever it is needed. What proves the agent, and what is exchanged for its user's
        tokens, are tokens too: fetched once, renewed, and shared by the store.

        Example:
            >>> tokens = TokenRegistry.from_env()
            >>> agent = tokens.agent("99999999-8888-7777-6666-555555555555")
            >>> graph = agent.manager("https://graph.microsoft.com/.default")
            >>> mail = agent.user(username="agent@contoso.com").manager("Mail.Send")

        See "Agent OAuth protocols in Microsoft Entra Agent ID" on Microsoft Learn.

        Args:
            agent_id: The agent's client id, a GUID.

        Raises:
            ConfigurationError: It is none; the app has no credential; the authority is no tenant
                of Microsoft Entra, or stands for many; or the registry is closed.
        """
        with no_fork():
            from .agents import Agent

        return Agent(self._own, agent_id)

    def session(self, name: str) -> UserSession:
        """Gives the session that :meth:`on_behalf_of` has begun under a name, in any process.

        A name is this registry's: at another :meth:`tenant` it is another session's.
        With a ``store=`` it is found by every worker and after a restart; without, by this process.
        Its refresh token carries it on, redeemed by one worker at a time, until it is ended, has
        gone unused for ``session_ttl=``, or the service refuses it.

        Example:
            >>> tokens = TokenRegistry.from_env()
            >>> mail = tokens.session("job 4711").manager("https://graph.microsoft.com/Mail.Read")
            >>> tokens.session("job 4711").end()

        Args:
            name: What the program has called it.

        Raises:
            ConfigurationError: It is no name; Azure AD B2C has no on-behalf-of grant; the registry
                is closed; or there is a store without ``encryption_key=``.
        """
        name, given = "", Hidden(name)
        return self._named_sessions().session(given, self)

    def _named_sessions(self) -> Sessions:
        """Those that on-behalf-of begins, which not every authority has."""
        if self._own.users is None:
            self._own.begin_users()
        return self._own.begin_sessions()

    def tenant(self, tenant: str) -> TokenRegistry:
        """Gives the registry of the same app at another tenant of the same cloud.

        The same tenant, in upper or lower case, gives the same registry, and this one's own tenant
        gives this one. Only the service knows that a tenant's id and its domain names are one: keep
        to one of them.

        It has the store, connections, threads, hook and settings of this one, and what is bounded
        is bounded for all together, since it is the memory of one process: ``max_users=`` managers
        of users, and 10,000 of the app's own. Its tokens, sessions, failures, breaker,
        :meth:`status` and caches are its own. It is closed with the registry that the program has
        made; where it is closed by itself, only its own managers are, and the next call gives a new
        one.

        Args:
            tenant: Its GUID, or one of its domain names. What ``common`` and ``organizations``
                give serves :meth:`on_behalf_of` alone.

        Raises:
            AuthorityError: It is no tenant.
            ConfigurationError: The authority is no Microsoft Entra tenant, and has no others; or
                the registry is closed.
        """
        with self._own.app.lock:
            self._own.check_open()
            own = self._tenants.at(tenant)
            found: TokenRegistry | None = own.registry()
            if found is None:
                found = TokenRegistry.__new__(TokenRegistry)
                found._begin(own, self._tenants)  # noqa: SLF001 - its other constructor
            return found

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
        fetch_all(managers or self._own.members.all(), self._own.app.context.clock, timeout)

    async def aprefetch(self, *managers: AccessTokenManager, timeout: float | None = None) -> None:
        """Does as :meth:`prefetch`, from any event loop, and never blocks it."""
        await fetch_all_async(managers or self._own.members.all(), timeout)

    def status(self) -> list[TokenStatus]:
        """Says how each token stands, without its secret."""
        return [manager.status() for manager in self._own.members.all()]

    def health(self) -> Health:
        """Says whether this process can serve, for probes. Nobody is asked, nothing waited for.

        It goes by the app's own tokens: a user's trouble is the user's. A valid token serves though
        its renewal fails, and where nothing was asked for yet, nothing has failed. Where no token
        is valid, and one could not be had, it is not ready; nor once it is closed.
        """
        if self._own.closed:
            return Health(ready=False, reason="this registry is closed: make a new TokenRegistry")
        return health_of(self.status())

    def export_cache(self) -> str:
        """Gives its tokens as the text that ``msal.SerializableTokenCache.deserialize()`` takes.

        What was imported into this registry is in it too, as long as it is valid: of users who have
        sessions now with the refresh tokens of those, and without who has signed out. So are the
        accounts and refresh tokens of those who have signed in here, whom :meth:`users` lists, for
        ``acquire_token_silent()``; of a store that is away, those whom this process knows. Who goes
        on with a refresh token there has to end the session here, as each is good once. The store
        is asked, and the authority for its metadata where that is not known yet: do not call it
        from an event loop.

        The text is secret: whoever has it has the tokens. A file for it has mode 0600.

        Raises:
            ConfigurationError: The registry is closed, or no cache of MSAL's is like its tokens.
        """
        self._own.client.check_app("export_cache()")
        self._own.check_open()
        now = self._own.app.context.clock.elapsed()
        held = [(cell.key, cell.current) for cell in map(cell_of, self._own.members.all())]
        return self._own.imported.dump(
            ((key, current.record) for key, current in held if now < current.valid_until),
            lambda home: self._own.begin_sessions().refresh_token(home),
            self._own.signed_in(),
        )

    def import_cache(self, text: str) -> None:
        """Takes in a cache that MSAL, msal-extensions or :meth:`export_cache` wrote.

        The app's own tokens go to this process's managers, where they are newer than theirs. Who
        has signed in to this app at this authority is found by :meth:`users` and :meth:`user` from
        then on, unless they are already, and their refresh tokens are redeemed when a token is
        asked for. With a ``store=`` that takes ``encryption_key=``: where a key is derived from the
        credential, as where the store is away, they are kept for the next export alone. What
        belongs to another app or tenant, or to a B2C policy that the text does not name, is not
        taken for this registry's. The authority may be asked for its metadata: do not call it from
        an event loop.

        Args:
            text: What ``msal.SerializableTokenCache.serialize()`` gave.

        Raises:
            ConfigurationError: It is no such text, and nothing was taken; or the registry is
                closed.
        """
        text, given = "", Hidden(text)  # it is secret
        self._own.client.check_app("import_cache()")
        self._own.check_open()
        self._own.imported.load(given.cell_contents)
        for record in self._own.imported.take_tokens():
            plain = self._own.members.find(
                record.token.scopes, cae=False, forwarded_claims="", extra=()
            )
            cell_of(plain).adopt(record)
        sealed = self._own.app.sealed
        if sealed is None or not sealed.keys.is_derived:
            users = self._own.imported.users()
            self._own.imported.keep(self._own.begin_sessions().adopt(users) if users else ())

    def close(self) -> None:
        """Lets all tokens go and closes the connections. Closing again does nothing.

        What is under way has a second to end, and to be told to the hook. Then its lease is given
        back all the same. Of a :meth:`tenant` only its own tokens go, and nobody waits.
        """
        self._tenants.close(self._own)

    async def aclose(self) -> None:
        """Does as :meth:`close`, and never blocks the event loop."""
        await in_thread(self.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()


def client_of(registry: TokenRegistry) -> tuple[Client, Context]:
    """Gives what asks a registry's authority, and what its parts have in common."""
    own = registry._own  # noqa: SLF001 - what the registry was made of
    return own.client, own.app.context


def _completed(given: Hidden, found: Settings) -> dict[str, Any]:
    """The settings that were given, with the environment's in place of those that were not."""
    of_environment = Hidden(
        {
            "store": found.store,
            "encryption_key": found.encryption_key,
            "azure_region": found.azure_region,
        }
    )
    unset = {n for n in of_environment.cell_contents if given.cell_contents.get(n) is None}
    return {**given.cell_contents, **{name: of_environment.cell_contents[name] for name in unset}}
