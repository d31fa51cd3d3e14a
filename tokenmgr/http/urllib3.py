"""A bearer for ``urllib3``: it makes pools whose requests carry the token.

urllib3 has no place for an auth: https://urllib3.readthedocs.io/en/stable/reference/.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urljoin, urlsplit

from urllib3 import BaseHTTPResponse, HTTPHeaderDict, PoolManager, ProxyManager, Retry

from tokenmgr.errors import ConfigurationError

from .bearer import REFUSALS, Bearer, refuse_proxy
from .bodies import Body, throw_away
from .hosts import is_same_origin

if TYPE_CHECKING:
    from tokenmgr.token import AccessToken

__all__ = ["BearerAuth"]

#: No header of that name.
_NONE: list[str] = []

_Send = Callable[..., BaseHTTPResponse]
_Headers = MutableMapping[str, str]


class BearerAuth(Bearer):
    """Puts a manager's token on every request: ``BearerAuth(manager).pool().request("GET", url)``.

    Threads and pools may share one.

    What happens at a 401, a challenge and a redirect: see :class:`~tokenmgr.http.bearer.Bearer`.

    Example:
        >>> from tokenmgr import AccessTokenManager
        >>> from tokenmgr.http.urllib3 import BearerAuth
        >>> graph = AccessTokenManager.from_secret(
        ...     "contoso.onmicrosoft.com",
        ...     "11111111-2222-3333-4444-555555555555",
        ...     "the secret's value",
        ...     "https://graph.microsoft.com/.default",
        ... )
        >>> http = BearerAuth(graph).pool(maxsize=10)

    Its arguments, and what they raise, are those of ``Bearer``.
    """

    def pool(
        self, num_pools: int = 10, headers: Mapping[str, str] | None = None, **options: Any
    ) -> PoolManager:
        """Makes a ``urllib3.PoolManager`` whose requests carry the token.

        Its ``request`` and ``urlopen`` raise what urllib3's do, and HostNotAllowedError and
        TokenManagerError before anything is sent.

        Args:
            num_pools: As there.
            headers: As there.
            **options: As there, such as ``ca_certs`` and ``maxsize``.
        """
        return _Pool(self, num_pools, headers, **options)

    def proxy(
        self,
        proxy_url: str,
        num_pools: int = 10,
        headers: Mapping[str, str] | None = None,
        **options: Any,
    ) -> ProxyManager:
        """Makes a ``urllib3.ProxyManager`` whose requests carry the token; see :meth:`pool`.

        Args:
            proxy_url: As there.
            num_pools: As there.
            headers: As there.
            **options: As there.

        Raises:
            ConfigurationError: The proxy would read what goes to an API over TLS.
        """
        if options.get("use_forwarding_for_https"):
            raise ConfigurationError(
                "with use_forwarding_for_https the proxy would read the token: leave it out, and "
                "requests go through a tunnel"
            )
        return _Proxy(self, proxy_url, num_pools, headers, **options)

    def _send(
        self, pool: PoolManager, send: _Send, method: str, url: str, **kw: Any
    ) -> BaseHTTPResponse:
        headers = kw.pop("headers", None)
        headers = pool.headers if headers is None else headers
        own = [name for name in headers if name.lower() == "authorization"] if headers else _NONE
        retries = kw.get("retries")
        if (own and not self._replaces) or (retries is not None and _is_hop(retries)):
            return send(method, url, headers=headers, **kw)
        self._hosts.check(url)
        if pool.proxy is not None and not url.startswith("https:"):
            raise refuse_proxy(urlsplit(url).hostname, "a pool() in place of the proxy()")
        body = Body(kw["body"]) if kw.get("body") is not None else None
        token = self._token()
        headers = _without(own, headers)
        headers["Authorization"] = token.authorization
        # What is refused is not read before that is known.
        preload = kw.pop("preload_content", True)
        kw["preload_content"] = False
        if retries is not None or "retries" in pool.connection_pool_kw:
            kw["retries"] = _stripping(pool, retries)
        response = send(method, url, headers=headers, **kw)
        if response.status in REFUSALS:
            response = self._settled(response, send, _Sent(method, url, headers, body, token), kw)
        if preload:
            response.data  # noqa: B018 - reads it, and keeps it
        return response

    def _settled(
        self, response: BaseHTTPResponse, send: _Send, sent: _Sent, kw: dict[str, Any]
    ) -> BaseHTTPResponse:
        """Gives the answer that is to be returned in place of a refusal, or the refusal."""
        hop = sent.last_hop(response)
        try:
            answer = hop and self._judge(
                response.status, response.headers.getlist("WWW-Authenticate"), hop.url
            )
            if not hop or not answer:
                return response
            repeatable = hop.body is None or hop.body.rewind()
            renewed = self._renewed(sent.token, answer, repeatable=repeatable)
        except BaseException:
            response.close()
            response.release_conn()
            raise
        if renewed is None:
            return response
        throw_away(response)
        hop.headers["Authorization"] = renewed.authorization
        if hop.method != sent.method:
            kw = {**kw, "body": None}
        return send(hop.method, hop.url, headers=hop.headers, **kw)


class _Sent(NamedTuple):
    """A request that was sent with the token, or what a redirect has made of it."""

    method: str
    url: str
    headers: _Headers
    body: Body | None
    token: AccessToken

    def last_hop(self, response: BaseHTTPResponse) -> _Sent | None:
        """What was answered in the end; None where a redirect has led away from its host."""
        hop = self
        for each in response.retries.history if response.retries else ():
            if each.redirect_location:
                there = urljoin(hop.url, each.redirect_location)
                if not is_same_origin(hop.url, there):
                    return None
                hop = hop._replace(url=there)
                if each.status == 303:
                    hop = hop._replace(method="GET", body=None, headers=_bare(hop.headers))
        return hop


class _Pool(PoolManager):
    def __init__(self, auth: BearerAuth, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._auth = auth

    def urlopen(  # type: ignore[override] # as PoolManager's
        self, method: str, url: str, redirect: bool = True, **kw: Any
    ) -> BaseHTTPResponse:
        return self._auth._send(self, super().urlopen, method, url, redirect=redirect, **kw)  # noqa: SLF001 - they are one


class _Proxy(_Pool, ProxyManager):
    """The same by way of a proxy."""


def _is_hop(retries: object) -> bool:
    """Whether a request is a redirect's, which a pool sends by itself once more."""
    return isinstance(retries, Retry) and any(each.redirect_location for each in retries.history)


def _stripping(pool: PoolManager, retries: Any) -> Any:
    """The retries of a request, which let no token go to another host."""
    given = pool.connection_pool_kw.get("retries") if retries is None else retries
    if isinstance(given, Retry):
        removed = {*given.remove_headers_on_redirect, "authorization"}
        return given.new(remove_headers_on_redirect=removed)
    return given


def _bare(headers: _Headers) -> _Headers:
    """The headers of a request without a body."""
    described = [name for name in headers if name.lower().startswith(("content-", "transfer-"))]
    return _without(described, headers)


def _without(names: list[str], headers: Mapping[str, str]) -> _Headers:
    # A copy of either kind; one of the other would be slow, or lose what is there twice.
    kept: _Headers = _Many(headers) if isinstance(headers, HTTPHeaderDict) else _Plain(headers)
    for name in names:
        kept.pop(name, None)
    return kept


class _Hiding:
    """Headers with a token, which error reporters show to nobody, as variables of a frame."""

    def __repr__(self) -> str:
        return "<headers with a token>"


class _Plain(_Hiding, dict[str, str]):
    pass


class _Many(_Hiding, HTTPHeaderDict):
    pass
