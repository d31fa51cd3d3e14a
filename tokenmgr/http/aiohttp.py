"""A bearer for ``aiohttp``: a client middleware.

Source of what it follows: https://docs.aiohttp.org/en/stable/client_middleware_cookbook.html.
"""

from __future__ import annotations

import sys
from contextvars import ContextVar
from functools import cached_property
from types import FrameType
from typing import TYPE_CHECKING

try:
    from aiohttp import ClientHandlerType, ClientRequest, ClientResponse, ClientSession
except ImportError as _missing:
    raise ImportError(
        "tokenmgr.http.aiohttp needs aiohttp 3.12: pip install 'tokenmgr[aiohttp]'",
        name=_missing.name,
    ) from _missing

from tokenmgr.errors import HostNotAllowedError

from .bearer import REFUSALS, Bearer, refuse_proxy

if TYPE_CHECKING:
    from tokenmgr.token import AccessToken

__all__ = ["BearerAuth"]

#: What a WebSocket's URL goes by.
_SCHEMES = {"wss": "https", "ws": "http"}
#: Whether a redirect has just led away, in this task.
_LEFT: ContextVar[bool] = ContextVar("tokenmgr_left", default=False)

_REQUEST = ClientSession._request.__code__  # noqa: SLF001 - what is asked for its redirects


class _Ours(str):
    """An ``Authorization`` header of ours, should a middleware send the request again."""

    __slots__ = ("auth",)
    auth: BearerAuth


class BearerAuth(Bearer):
    """Puts a manager's token on every request of a ``ClientSession``, WebSockets too.

    Sessions and event loops may share one:
    ``aiohttp.ClientSession(middlewares=(BearerAuth(manager),))``.

    What happens at a 401, a challenge and a redirect: see :class:`~tokenmgr.http.bearer.Bearer`.

    Example:
        >>> import aiohttp
        >>> from tokenmgr import AccessTokenManager
        >>> from tokenmgr.http.aiohttp import BearerAuth
        >>> graph = AccessTokenManager.from_secret(
        ...     "contoso.onmicrosoft.com",
        ...     "11111111-2222-3333-4444-555555555555",
        ...     "the secret's value",
        ...     "https://graph.microsoft.com/.default",
        ... )
        >>> async def main():
        ...     async with aiohttp.ClientSession(middlewares=(BearerAuth(graph),)) as session:
        ...         ...

    Its arguments, and what they raise, are those of ``Bearer``.
    """

    async def __call__(self, req: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        """Sends a request with the token, and once more with another where that is refused.

        Raises:
            HostNotAllowedError: It goes to a host that the token is not bound to, goes there
                without https, or without it through a proxy. Nothing was sent, and no token
                fetched.
            TokenManagerError: There is no token to be had.
        """
        if not self._takes(req, sys._getframe(1)):  # noqa: SLF001 - see _has_left
            return await handler(req)
        token = await self._atoken()
        self._put(req, token)
        response = await handler(req)
        if response.status not in REFUSALS:
            return response
        try:
            challenges = response.headers.getall("WWW-Authenticate", ())
            answer = self._judge(response.status, challenges, _url(req))
            if answer is None:
                return response
            repeatable = not getattr(req.body, "consumed", False)
            renewed = await self._arenewed(token, answer, repeatable=repeatable)
        except BaseException:
            response.close()
            raise
        if renewed is None:
            return response
        _take_cookies(req, response)
        response.release()
        await req.close()  # a body that is still being sent is not, before it is begun again
        self._put(req, renewed)
        return await handler(req)

    def _takes(self, req: ClientRequest, frame: FrameType | None) -> bool:
        """Whether a request is to carry the token."""
        if "Authorization" in req.headers and not self._replaces and not self._has_put(req):
            return False
        # To look takes as long as all the rest: only where a redirect may have led elsewhere.
        if (not self._is_one_origin or _LEFT.get()) and _has_left(req, frame):
            return False
        try:
            self._check(req)
        except HostNotAllowedError:
            if not _has_left(req, frame):
                raise
            _LEFT.set(True)
            return False
        return True

    def _has_put(self, req: ClientRequest) -> bool:
        return getattr(req.headers["Authorization"], "auth", None) is self

    def _put(self, req: ClientRequest, token: AccessToken) -> None:
        req.headers["Authorization"] = header = _Ours(token.authorization)
        header.auth = self

    @cached_property
    def _is_one_origin(self) -> bool:
        return self._hosts.is_one_origin

    def _check(self, req: ClientRequest) -> None:
        scheme = _SCHEMES.get(req.url.scheme, req.url.scheme)
        self._hosts.check_target(scheme, req.url.raw_host or "", req.url.port)
        if scheme != "https" and req.proxy is not None:
            host = req.url.host
            raise refuse_proxy(host, f"NO_PROXY={host} in the environment, no proxy=")


def _url(req: ClientRequest) -> str:
    scheme, _, rest = str(req.url).partition(":")
    return f"{_SCHEMES.get(scheme, scheme)}:{rest}"


def _has_left(req: ClientRequest, frame: FrameType | None) -> bool:
    """Whether a redirect has led away from where the request was sent at first.

    aiohttp asks a middleware for each hop, and tells it of none: whoever redirects to another host,
    and from there back to where the token may go, would choose what is asked with it.
    """
    _LEFT.set(False)
    while frame is not None and frame.f_code is not _REQUEST:
        frame = frame.f_back
    history = () if frame is None else frame.f_locals.get("history", ())
    return any(each.url.origin() != req.url.origin() for each in history)


def _take_cookies(req: ClientRequest, response: ClientResponse) -> None:
    if response.cookies:
        jar = req.session.cookie_jar
        jar.update_cookies(response.cookies, response.url)
        req.update_cookies(jar.filter_cookies(req.url))
