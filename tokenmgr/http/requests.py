"""A bearer for ``requests``.

Source of what it follows: https://requests.readthedocs.io/en/latest/user/advanced/, sections
*Event Hooks* and *Custom Authentication*.
"""

from __future__ import annotations

import sys
from types import FrameType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from requests import PreparedRequest, Response, Session
from requests.auth import AuthBase
from requests.cookies import extract_cookies_to_jar
from requests.utils import select_proxy

from tokenmgr.errors import HostNotAllowedError

from .bearer import REFUSALS, Bearer, refuse_proxy
from .bodies import Body, throw_away

if TYPE_CHECKING:
    from tokenmgr.token import AccessToken

    from .challenges import Answer

__all__ = ["BearerAuth"]


class BearerAuth(Bearer, AuthBase):
    """Puts a manager's token on every request: ``requests.get(url, auth=BearerAuth(manager))``.

    Threads and sessions may share one.

    What happens at a 401, a challenge and a redirect: see :class:`~tokenmgr.http.bearer.Bearer`.
    A refused answer is then in ``response.history``, without its body. Which way a request takes
    that is prepared by hand nobody knows, and so it gets no token in the clear.

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

    Its arguments, and what they raise, are those of ``Bearer``.
    """

    def __call__(self, r: PreparedRequest) -> PreparedRequest:
        """Puts the token on a request that is prepared.

        Raises:
            HostNotAllowedError: It goes to a host that the token is not bound to, goes there
                without https, or without it through a proxy. Nothing was sent, and no token
                fetched.
            TokenManagerError: There is no token to be had.
        """
        hooks = r.hooks["response"]
        before = _renewal_in(hooks) if hooks else None
        if "Authorization" in r.headers and not self._replaces and not (before and before.sent(r)):
            return r
        url = r.url or ""
        self._hosts.check(url)
        if not url.startswith("https:"):
            _check_direct(url)
        token = self._token()
        r.headers["Authorization"] = token.authorization
        renewal = _Renewal(self, token, r.body)
        # A new dict, since copies of a request share theirs, and each has a token of its own.
        r.hooks = {**r.hooks, "response": [renewal, *(h for h in hooks if h is not before)]}
        return r


def _renewal_in(hooks: list[Any]) -> _Renewal | None:
    return next((hook for hook in hooks if isinstance(hook, _Renewal)), None)


class _Renewal:
    """What happens to the answer of one request. requests calls it for each redirect too.

    It needs no count of its repetitions: the repeated request goes to the adapter, below where
    requests calls hooks.
    """

    def __init__(self, auth: BearerAuth, token: AccessToken, body: object) -> None:
        self._auth = auth
        self._token = token
        self._content = body
        self._body = None if body is None else Body(body)

    def sent(self, request: PreparedRequest) -> bool:
        """Whether the request's header is ours."""
        return request.headers.get("Authorization") == self._token.authorization

    def __call__(self, response: Response, **kwargs: Any) -> Response:
        # No longer ours after some redirects.
        if response.status_code not in REFUSALS or not self.sent(response.request):
            return response
        try:
            answer = self._judge(response)
            renewed = None if answer is None else self._renew(response, answer)
        except BaseException:
            response.close()
            raise
        return response if renewed is None else self._repeat(response, renewed, kwargs)

    def _judge(self, response: Response) -> Answer | None:
        challenges = response.headers.get("WWW-Authenticate", "")  # all of them, with commas
        url = response.request.url or ""
        return self._auth._judge(response.status_code, (challenges,), url)  # noqa: SLF001 - they are one

    def _renew(self, response: Response, answer: Answer) -> AccessToken | None:
        body = response.request.body
        repeatable = body is None or (
            self._body is not None and body is self._content and self._body.rewind()
        )
        return self._auth._renewed(self._token, answer, repeatable=repeatable)  # noqa: SLF001 - they are one

    def _repeat(self, response: Response, renewed: AccessToken, kwargs: dict[str, Any]) -> Response:
        throw_away(response.raw)
        response._content = b""  # noqa: SLF001 - nobody is to read on in the history
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
        raise refuse_proxy(host, f"NO_PROXY={host} in the environment, a session without proxies=")


def _sender(frame: FrameType | None) -> tuple[Session, dict[str, str] | None] | None:
    """The session in whose ``request`` a frame is, and the proxies of that call."""
    while frame is not None:
        variables = frame.f_locals if frame.f_code.co_name == "request" else {}
        if isinstance(variables.get("self"), Session) and "proxies" in variables:
            return variables["self"], variables["proxies"]
        frame = frame.f_back
    return None
