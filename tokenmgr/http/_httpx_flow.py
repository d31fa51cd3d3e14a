"""The auth flow that httpx and httpx2 have in common: neither is imported here."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Generator
from contextlib import aclosing, suppress
from types import FrameType
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from tokenmgr.errors import HostNotAllowedError

from .bearer import REFUSALS, Bearer, refuse_proxy
from .bodies import MOST_THROWN_AWAY, Body

if TYPE_CHECKING:
    from types import ModuleType

    from tokenmgr.token import AccessToken

    from .challenges import Answer

__all__ = ["BearerFlow"]

#: Where a request notes which ``Authorization`` header is ours, should it be sent again.
_OURS = "tokenmgr.authorization"
#: What sends straight to where it is to go, by the names of httpcore's classes.
_DIRECT = frozenset({"ConnectionPool", "AsyncConnectionPool"})


class _Begun(NamedTuple):
    """A request that carries a token."""

    token: AccessToken
    #: Its body, as it is sent.
    stream: object
    #: What it is made of; nothing where it is at hand.
    parts: tuple[Body, ...]


class BearerFlow(Bearer):
    """What ``httpx.Auth`` and ``httpx2.Auth`` ask of a subclass, for sync and async clients.

    The client holds no lock while it runs a flow, and a flow holds none while the client sends.
    """

    #: httpx or httpx2.
    _library: ClassVar[ModuleType]

    def sync_auth_flow(self, request: Any) -> Generator[Any, Any, None]:
        """Runs a request of a sync client, which calls it."""
        if not self._takes(request):
            yield request
            return
        token, stream, parts = self._token(), request.stream, _parts_to_send(request)
        _put(request, token)
        response = yield request
        if response.status_code not in REFUSALS:
            return
        begun = _Begun(token, stream, parts)
        answer = self._answer(begun, response)
        if answer is not None:
            repeatable = _rewind(begun, response.request)
            renewed = self._renewed(begun.token, answer, repeatable=repeatable)
            if renewed is not None:
                left = MOST_THROWN_AWAY
                with suppress(self._library.HTTPError):
                    for piece in response.stream:
                        left -= len(piece)
                        if left < 0:
                            break
                response.stream.close()
                yield self._again(response, renewed)

    async def async_auth_flow(self, request: Any) -> AsyncGenerator[Any, Any]:
        """Runs a request of an async client, which calls it."""
        if not self._takes(request):
            yield request
            return
        token, stream, parts = await self._atoken(), request.stream, _parts_to_send(request)
        _put(request, token)
        response = yield request
        if response.status_code not in REFUSALS:
            return
        begun = _Begun(token, stream, parts)
        answer = self._answer(begun, response)
        if answer is not None:
            repeatable = _rewind(begun, response.request)
            renewed = await self._arenewed(begun.token, answer, repeatable=repeatable)
            if renewed is not None:
                left = MOST_THROWN_AWAY
                with suppress(self._library.HTTPError):
                    async with aclosing(response.stream.__aiter__()) as pieces:
                        async for piece in pieces:
                            left -= len(piece)
                            if left < 0:
                                break
                await response.stream.aclose()
                yield self._again(response, renewed)

    def _takes(self, request: Any) -> bool:
        """Whether a request is to carry the token: not where it has a header of its own."""
        if "Authorization" in request.headers and not self._replaces and not _is_ours(request):
            return False
        url = request.url
        self._hosts.check_target(url.scheme, url.raw_host, url.port)
        if url.scheme != "https":
            self._check_direct(url, sys._getframe(1))  # noqa: SLF001 - an auth is told of no proxy
        return True

    def _check_direct(self, url: Any, frame: FrameType | None) -> None:
        """Refuses a request without TLS that may not go straight to its host.

        Raises:
            HostNotAllowedError: A proxy is on its way, or nobody can tell.
        """
        while frame is not None and frame.f_code.co_name != "_send_handling_auth":
            frame = frame.f_back
        client = None if frame is None else frame.f_locals.get("self")
        find = getattr(client, "_transport_for_url", None)
        transport = None if find is None else find(url)
        library = self._library
        within = (library.ASGITransport, library.WSGITransport, library.MockTransport)
        if isinstance(transport, within):  # which sends nothing
            return
        pool = type(getattr(transport, "_pool", None)).__name__
        if pool.endswith("Proxy"):
            raise refuse_proxy(url.host, f"NO_PROXY={url.host} in the environment, no proxy=")
        if pool not in _DIRECT:
            raise HostNotAllowedError(
                f"a request to {url.host} without https is sent by a transport of the program's "
                "own, and so nobody can tell whether a proxy will read the token: use https"
            )

    def _answer(self, begun: _Begun, response: Any) -> Answer | None:
        # No longer ours after some redirects, which the client has followed meanwhile.
        if response.request.headers.get("Authorization") != begun.token.authorization:
            return None
        challenges = response.headers.get_list("WWW-Authenticate")
        return self._judge(response.status_code, challenges, str(response.request.url))

    def _again(self, response: Any, renewed: AccessToken) -> Any:
        """The request to send again: that which was refused, which a redirect may have led to."""
        # It goes into the history, and the client reads it for that: there is nothing left.
        response.stream = self._library.ByteStream(b"")
        response.headers.pop("Content-Encoding", None)
        request = response.request
        response.cookies.set_cookie_header(request)
        _put(request, renewed)
        return request


def _put(request: Any, token: AccessToken) -> None:
    request.headers["Authorization"] = request.extensions[_OURS] = token.authorization


def _is_ours(request: Any) -> bool:
    return bool(request.headers["Authorization"] == request.extensions.get(_OURS))


def _is_at_hand(request: Any) -> bool:
    try:
        request.content  # noqa: B018 - a property, that raises
    except RuntimeError:
        return False
    return True


def _parts_to_send(request: Any) -> tuple[Body, ...]:
    """What a body is made of that is read as it is sent: the files of a form, or one thing."""
    if _is_at_hand(request):
        return ()
    stream = request.stream
    fields = getattr(stream, "fields", None)
    if fields is None:
        return (Body(getattr(stream, "_stream", stream)),)
    return tuple(Body(getattr(field, "file", None)) for field in fields)


def _rewind(begun: _Begun, request: Any) -> bool:
    """Lets a body be sent again; says whether it can be."""
    if request.stream is begun.stream:
        return all(part.rewind() for part in begun.parts)
    return _is_at_hand(request)  # as after a redirect that has dropped it
