"""A bearer for ``requests``.

Source of what it follows: https://requests.readthedocs.io/en/latest/user/advanced/, sections
*Event Hooks* and *Custom Authentication*.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import suppress
from types import FrameType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from requests import PreparedRequest, Response, Session
from requests.auth import AuthBase
from requests.cookies import extract_cookies_to_jar
from requests.exceptions import ChunkedEncodingError, ContentDecodingError
from requests.utils import select_proxy

from tokenmgr.errors import ConfigurationError, HostNotAllowedError, TokenManagerError

from .hosts import HostBinding

if TYPE_CHECKING:
    from tokenmgr.manager import AccessTokenManager
    from tokenmgr.token import AccessToken

__all__ = ["BearerAuth"]


class BearerAuth(AuthBase):
    """Puts a manager's token on every request: ``requests.get(url, auth=BearerAuth(manager))``.

    Threads and sessions may share one. It replaces an ``Authorization`` header that is there, as
    every ``auth=`` of requests does.

    Where the API answers 401, that very token is dropped and the request is repeated once with a
    new one. The 401 is then in ``response.history``; a second 401 is returned as it is. The first
    one is returned as it is

    * where the body cannot be sent again: a generator, or a file that does not seek;
    * where no new token is to be had: the caller learns what the API said of its request, and the
      next request raises what the token service says;
    * where the new token is the refused one.

    A redirect to another host carries no token, not even to a host that it is bound to.

    Plain http to this machine, as in development, must not go through a proxy, which could read the
    token: a session's, the request's own, or ``HTTP_PROXY`` without ``NO_PROXY=localhost``. Which
    one a request takes that is prepared by hand nobody knows, and so it gets no token there.

    Example:
        >>> import requests
        >>> from tokenmgr import AccessTokenManager
        >>> from tokenmgr.http.requests import BearerAuth
        >>> graph = AccessTokenManager.from_secret(
        ...     "contoso.onmicrosoft.com",
        ...     "11111111-2222-3333-4444-555555555555",
        ...     "the secret's value",
        ...     "https://graph.microsoft.com/.default",
        ... )
        >>> session = requests.Session()
        >>> session.auth = BearerAuth(graph)

    Args:
        manager: Whose token it is.
        hosts: Where the token may go: a host or several, such as ``"api.contoso.com"``,
            ``"*.blob.core.windows.net"`` or ``"localhost:8443"``; see
            :class:`~tokenmgr.http.hosts.HostBinding`. Left out, the hosts that the manager's
            scopes name.

    Raises:
        ConfigurationError: A host cannot be right, or none is given and no scope names one.
    """

    def __init__(
        self, manager: AccessTokenManager, *, hosts: str | Iterable[str] | None = None
    ) -> None:
        if not hasattr(manager, "scopes"):
            raise ConfigurationError(
                f"BearerAuth takes a manager, and no {type(manager).__name__}: pass that of one "
                "scope, as in BearerAuth(registry.manager(scope))"
            )
        self._manager = manager
        self._hosts = HostBinding.of(manager.scopes, hosts=hosts)

    def __repr__(self) -> str:
        return f"<BearerAuth of {' '.join(self._manager.scopes)} for {self._hosts}>"

    def __call__(self, r: PreparedRequest) -> PreparedRequest:
        """Puts the token on a request that is prepared.

        Raises:
            HostNotAllowedError: It goes to a host that the token is not bound to, goes there
                without https, or without it through a proxy. Nothing was sent, and no token
                fetched.
            TokenManagerError: There is no token to be had.
        """
        url = r.url or ""
        self._hosts.check(url)
        if urlsplit(url).scheme != "https":
            _check_direct(url)
        token = self._manager.get_token()
        r.headers["Authorization"] = token.authorization
        renewal = _Renewal(self._manager, self._hosts, token, r.body)
        others = [hook for hook in r.hooks["response"] if not isinstance(hook, _Renewal)]
        # A new dict, since copies of a request share theirs, and each has a token of its own.
        r.hooks = {**r.hooks, "response": [renewal, *others]}
        return r


class _Renewal:
    """What happens to the answer of one request. requests calls it for each redirect too.

    It needs no count of its repetitions: the repeated request goes to the adapter, below where
    requests calls hooks.
    """

    def __init__(
        self, manager: AccessTokenManager, hosts: HostBinding, token: AccessToken, body: object
    ) -> None:
        self._manager = manager
        self._hosts = hosts
        self._token = token
        self._body = body
        self._start = _position(body)

    def __call__(self, response: Response, **kwargs: Any) -> Response:
        if response.status_code != 401 or not self._carried(response.request):
            return response
        renewed = self._renew(response.request.body)
        return response if renewed is None else self._repeat(response, renewed, kwargs)

    def _carried(self, request: PreparedRequest) -> bool:
        """Whether it took our token where that may go: no longer so after some redirects."""
        ours = request.headers.get("Authorization") == self._token.authorization
        return ours and self._hosts.allows(request.url or "")

    def _renew(self, body: object) -> AccessToken | None:
        """Drops the token; gives another one to repeat the request with, where that is possible."""
        self._manager.invalidate(self._token)
        if not self._rewind(body):
            return None
        try:
            renewed = self._manager.get_token()
        except TokenManagerError:
            return None
        return None if renewed.secret == self._token.secret else renewed

    def _rewind(self, body: object) -> bool:
        if body is None or isinstance(body, (bytes, str, bytearray, memoryview)):
            return True
        if self._start is None or body is not self._body:
            return False
        try:
            body.seek(self._start)  # type: ignore[attr-defined] # what has no seek is caught
        except (AttributeError, OSError, ValueError):
            return False
        return True

    def _repeat(self, response: Response, renewed: AccessToken, kwargs: dict[str, Any]) -> Response:
        # Read to its end, so that the connection serves again; a body that does not read is left,
        # as where requests follows a redirect.
        with suppress(ChunkedEncodingError, ContentDecodingError, RuntimeError):
            response.content  # noqa: B018
        response.close()
        first, again = response.request, response.request.copy()
        cookies = again._cookies  # type: ignore[attr-defined] # noqa: SLF001 - as HTTPDigestAuth
        extract_cookies_to_jar(cookies, first, response.raw)  # type: ignore[no-untyped-call]
        again.prepare_cookies(cookies)
        # Of a redirect that follows, requests makes its request from the first one, which would
        # take the dropped token there.
        for request in (first, again):
            request.headers["Authorization"] = renewed.authorization
        self._token = renewed
        answer = response.connection.send(again, **kwargs)
        answer.history.append(response)
        return answer


def _check_direct(url: str) -> None:
    """Refuses a request without TLS that may not go straight to its host.

    Raises:
        HostNotAllowedError: A proxy is on its way, or nobody can tell.
    """
    host = urlsplit(url).hostname
    sender = _sender(sys._getframe(1))  # noqa: SLF001 - requests tells an auth of no proxies
    if sender is None:
        raise HostNotAllowedError(
            f"a request to {host} without https is prepared by hand, and so nobody can tell "
            "whether a proxy will read the token: send it with the session's get, post or request, "
            "or use https"
        )
    session, given = sender
    settings = session.merge_environment_settings(url, dict(given or {}), None, None, None)
    if select_proxy(url, settings["proxies"]):
        raise HostNotAllowedError(
            f"a request to {host} without https would take the token through a proxy in the clear: "
            f"use https, or no proxy for it (NO_PROXY={host} in the environment, a session without "
            "proxies=)"
        )


def _sender(frame: FrameType | None) -> tuple[Session, dict[str, str] | None] | None:
    """The session in whose ``request`` a frame is, and the proxies of that call."""
    while frame is not None:
        variables = frame.f_locals if frame.f_code.co_name == "request" else {}
        if isinstance(variables.get("self"), Session) and "proxies" in variables:
            return variables["self"], variables["proxies"]
        frame = frame.f_back
    return None


def _position(body: object) -> int | None:
    """Where a file stands that is a body; None for what is none, or cannot tell."""
    try:
        start = body.tell()  # type: ignore[attr-defined] # what has no tell is caught
    except (AttributeError, OSError, ValueError):
        return None
    return start if isinstance(start, int) else None
