"""Tokens for clients that Kiota has generated, as Microsoft Graph's (``msgraph-sdk``) is.

Source of what it follows: https://learn.microsoft.com/openapi/kiota/authentication, section *Access
token provider*.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

try:
    from kiota_abstractions import authentication as kiota
except ImportError as _missing:
    raise ImportError(
        "tokenmgr.http.kiota needs microsoft-kiota-abstractions: pip install 'tokenmgr[kiota]'",
        name=_missing.name,
    ) from _missing

from tokenmgr.errors import HostNotAllowedError

from .bearer import Bearer
from .challenges import decode_claims
from .hosts import HostBinding

if TYPE_CHECKING:
    from tokenmgr.manager import AccessTokenManager

__all__ = ["AccessTokenProvider"]


class AccessTokenProvider(Bearer, kiota.AccessTokenProvider):
    """Gives a manager's token to a client that Kiota has generated.

    The client asks it for each request, and again, once, with the claims of a challenge. Of an
    answer of 401 without one it says nothing: where such an answer is to cost a repeated request
    and no more, give the client an ``httpx.AsyncClient`` with
    :class:`tokenmgr.http.httpx.BearerAuth`, and an ``AnonymousAuthenticationProvider``.

    A request to a host that is not bound, as to the address of an upload, carries no token.

    Example:
        >>> from kiota_abstractions.authentication import BaseBearerTokenAuthenticationProvider
        >>> from tokenmgr import TokenRegistry
        >>> from tokenmgr.http.kiota import AccessTokenProvider
        >>> graph = TokenRegistry.from_env().manager("https://graph.microsoft.com/.default")
        >>> auth = BaseBearerTokenAuthenticationProvider(AccessTokenProvider(graph))

    and then ``GraphServiceClient(request_adapter=GraphRequestAdapter(auth))``.

    Args:
        manager: Whose token it is.
        hosts: Where the token may go, as for :class:`~tokenmgr.http.bearer.Bearer`.

    Raises:
        ConfigurationError: As there.
    """

    def __init__(
        self, manager: AccessTokenManager, *, hosts: str | Iterable[str] | None = None
    ) -> None:
        super().__init__(manager, hosts=hosts)

    async def get_authorization_token(
        self,
        uri: str,
        additional_authentication_context: dict[str, Any] = {},  # noqa: B006 - as Kiota has it
    ) -> str:
        """Gives the token for a request.

        Args:
            uri: Where it goes.
            additional_authentication_context: ``claims`` of a challenge, in base64.

        Returns:
            The token; an empty text where the host is not bound.

        Raises:
            HostNotAllowedError: It goes to this machine without https, and nobody can tell here
                whether through a proxy.
            TokenManagerError: There is none to be had.
        """
        if not self._hosts.allows(uri):
            return ""
        if not uri.lower().startswith("https:"):
            raise HostNotAllowedError(
                f"a request to {urlsplit(uri).hostname} without https may go through a proxy that "
                "reads the token: use https, or an httpx client with tokenmgr.http.httpx.BearerAuth"
            )
        claims = decode_claims(additional_authentication_context.get("claims"))
        return (await self._atoken(claims)).secret

    def get_allowed_hosts_validator(self) -> kiota.AllowedHostsValidator:
        """Gives what tells Kiota which hosts are bound."""
        return _Validator(self._hosts)


class _Validator(kiota.AllowedHostsValidator):
    def __init__(self, hosts: HostBinding) -> None:
        super().__init__(str(hosts).split(", "))
        self._hosts = hosts

    def is_url_host_valid(self, url: str) -> bool:
        return self._hosts.allows(url)
