"""Credentials for the clients of the Azure SDK, and whatever else takes azure-core's.

Source of what they follow: ``azure.core.credentials`` and ``azure.core.credentials_async``, and the
policy that asks them, ``azure.core.pipeline.policies.BearerTokenCredentialPolicy``.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakValueDictionary

try:
    from azure.core.credentials import AccessToken as AzureToken
    from azure.core.credentials import AccessTokenInfo, TokenRequestOptions
except ImportError as _missing:
    raise ImportError(
        "tokenmgr.http.azure needs azure-core: pip install 'tokenmgr[azure]'", name=_missing.name
    ) from _missing

from tokenmgr.errors import ConfigurationError
from tokenmgr.token import AccessToken, normalize_scopes

if TYPE_CHECKING:
    from azure.core.pipeline import PipelineResponse
    from typing_extensions import Self

    from tokenmgr.manager import AccessTokenManager

__all__ = ["AsyncTokenCredential", "TokenCredential"]

#: Seconds before a token's end for which azure-core's policy is not to keep it: it asks up to 60 s
#: later than it is told, and 10 s is our own skew.
_AHEAD = 70


class _Registry(Protocol):
    """What is asked of a :class:`~tokenmgr.TokenRegistry`, which is above this room."""

    def manager(self, *scopes: str, cae: bool | None = None) -> AccessTokenManager: ...

    def tenant(self, tenant: str) -> _Registry: ...


class _Credential:
    """What both kinds have in common: whose token it is that an SDK asks for."""

    def __init__(
        self, tokens: _Registry | AccessTokenManager, *, tenants: str | Iterable[str] = ()
    ) -> None:
        # What stands for one user after another has no key. azure-core keeps a token for all the
        # calls of a client, and would hand one user's to the next.
        self._one: Any = tokens if hasattr(tokens, "key") else None
        self._registry: Any = tokens if hasattr(tokens, "tenant") else None
        if self._one is None and self._registry is None:
            raise ConfigurationError(
                f"{type(self).__name__} takes a registry, or a manager of one token, and no "
                f"{type(tokens).__name__}: an Azure client keeps the token that it is given, so "
                "that of the current user needs a credential and a client of its own"
            )
        given = (tenants,) if isinstance(tenants, str) else tenants
        self._tenants = frozenset(each.lower() for each in given)
        #: Those that were asked, for as long as they are there.
        self._asked: WeakValueDictionary[int, AccessTokenManager] = WeakValueDictionary()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} over {self._one or self._registry!r}>"

    def drop_refused(self, response: PipelineResponse[Any, Any]) -> None:
        """Drops the token that a service has refused, so that the next call has another.

        A client is told by its ``raw_response_hook=``: its own policy forgets a refused token too,
        and then asks for one without saying so, and would be given the same one again.

        Args:
            response: An answer, of whichever status.
        """
        if response.http_response.status_code == 401:
            sent = response.http_request.headers.get
            for manager in filter(None, (each() for each in self._asked.valuerefs())):
                manager.invalidate(sent("Authorization", "").partition(" ")[2])

    def _manager(self, scopes: tuple[str, ...], options: TokenRequestOptions) -> AccessTokenManager:
        """Finds the manager of what an SDK asks for.

        Raises:
            ConfigurationError: It is not for this credential to give.
        """
        if self._one is None:
            registry = self._at(options.get("tenant_id"), scopes)
            # Only a pipeline that says so answers the challenges that such tokens meet.
            found = registry.manager(*scopes, cae=bool(options.get("enable_cae")))
        else:
            found = self._one
            if normalize_scopes(scopes) != found.scopes:
                raise ConfigurationError(
                    f"the client asks for a token of {' '.join(scopes)}, and this credential has "
                    f"those of {' '.join(found.scopes)}: give it the manager of that scope, or the "
                    "registry, for any"
                )
        self._asked[id(found)] = found
        return found

    def _at(self, tenant: str | None, scopes: tuple[str, ...]) -> _Registry:
        registry: _Registry = self._registry
        if tenant is None:
            return registry
        try:
            there = registry.tenant(tenant)
        except ConfigurationError:
            # A managed identity is of one tenant, which nobody here knows the name of: Key Vault's
            # clients name it all the same, and azure-identity's credential passes it over too.
            if registry.manager(*scopes).key.grant == "managed_identity":
                return registry
            raise
        # A service names a tenant in its challenge, and whoever names a service may be anybody.
        if there is not registry and self._tenants.isdisjoint((tenant.lower(), "*")):
            raise ConfigurationError(
                f"the client asks for a token of the tenant {tenant}, and this credential has "
                f"those of {registry!r}: if it is to have them, say so with tenants={tenant!r}; "
                "if it is the same tenant, name it so in the registry's authority"
            )
        return there


class TokenCredential(_Credential):
    """Gives tokens to an Azure SDK client: ``BlobServiceClient(url, TokenCredential(registry))``.

    It is azure-core's ``TokenCredential`` and ``SupportsTokenInfo``. Asynchronous clients take
    :class:`AsyncTokenCredential`. Any number of clients and threads may share one.

    Where a service challenges for claims, the client's policy asks for a token of these claims;
    where it refuses a token without one, see :meth:`drop_refused`.

    Example:
        >>> from tokenmgr import TokenRegistry
        >>> from tokenmgr.http.azure import TokenCredential
        >>> tokens = TokenRegistry.from_env()
        >>> credential = TokenCredential(tokens)
        >>> credential.get_token("https://storage.azure.com/.default")  # doctest: +ELLIPSIS
        AccessToken(token='…', expires_on=...)

    Args:
        tokens: A registry, for any scope; or a manager, for its own scope, and its own tenant
            whatever a client asks for. A manager that follows the current user is refused.
        tenants: Other tenants of the same app that a client, or the service that it talks to, may
            ask for: one or several, or ``"*"`` for any.

    Raises:
        ConfigurationError: It is neither.
    """

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes nothing: some clients close what they are given, and others still use it."""

    def get_token(
        self,
        *scopes: str,
        claims: str | None = None,
        tenant_id: str | None = None,
        enable_cae: bool = False,
        **_others: Any,
    ) -> AzureToken:
        """Gives a valid token.

        Args:
            *scopes: What it is for.
            claims: The claims that a service asked for in a challenge, as JSON text.
            tenant_id: The tenant that it is of; the registry's own when left out.
            enable_cae: Whether the client answers claims challenges.

        Raises:
            ConfigurationError: It is another scope or tenant than this credential gives.
            TokenManagerError: There is none to be had.
        """
        manager = self._manager(scopes, _options(tenant_id, enable_cae))
        return _plain(manager.get_token(claims=claims))

    def get_token_info(
        self, *scopes: str, options: TokenRequestOptions | None = None
    ) -> AccessTokenInfo:
        """Does as :meth:`get_token`, and says when it is to be asked again.

        Args:
            *scopes: What it is for.
            options: ``claims``, ``tenant_id`` and ``enable_cae``, as there.

        Raises:
            TokenManagerError: As there.
        """
        options = options or {}
        return _info(self._manager(scopes, options).get_token(claims=options.get("claims")))


class AsyncTokenCredential(_Credential):
    """Does as :class:`TokenCredential` for asynchronous clients, those of ``azure.….aio``.

    It is azure-core's ``AsyncTokenCredential`` and ``AsyncSupportsTokenInfo``, blocks no event
    loop, and serves several of them.

    Args, and what they raise, are those of :class:`TokenCredential`.
    """

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes nothing, as :meth:`TokenCredential.close`."""

    async def get_token(
        self,
        *scopes: str,
        claims: str | None = None,
        tenant_id: str | None = None,
        enable_cae: bool = False,
        **_others: Any,
    ) -> AzureToken:
        """Does as :meth:`TokenCredential.get_token`."""
        manager = self._manager(scopes, _options(tenant_id, enable_cae))
        return _plain(await manager.aget_token(claims=claims))

    async def get_token_info(
        self, *scopes: str, options: TokenRequestOptions | None = None
    ) -> AccessTokenInfo:
        """Does as :meth:`TokenCredential.get_token_info`."""
        options = options or {}
        manager = self._manager(scopes, options)
        return _info(await manager.aget_token(claims=options.get("claims")))


class _AzureToken(AzureToken):
    __slots__ = ()

    def __repr__(self) -> str:
        return f"AccessToken(token='…', expires_on={self.expires_on})"


class _AzureTokenInfo(AccessTokenInfo):
    def __repr__(self) -> str:
        return (
            f"AccessTokenInfo(token='…', expires_on={self.expires_on}, "
            f"token_type={self.token_type!r}, refresh_on={self.refresh_on})"
        )


def _options(tenant_id: str | None, enable_cae: bool) -> TokenRequestOptions:
    options: TokenRequestOptions = {"enable_cae": enable_cae}
    if tenant_id is not None:
        options["tenant_id"] = tenant_id
    return options


def _plain(token: AccessToken) -> AzureToken:
    return _AzureToken(token.secret, int(token.expires_at))


def _info(token: AccessToken) -> AccessTokenInfo:
    latest = token.expires_at - _AHEAD
    refresh_on = latest if token.refresh_at is None else min(token.refresh_at, latest)
    return _AzureTokenInfo(
        token.secret,
        int(token.expires_at),
        token_type=token.token_type,
        refresh_on=int(refresh_on),
    )
