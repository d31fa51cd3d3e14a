"""HTTP as MSAL is given it: one deadline for all requests of one fetch.

MSAL sees answers that are JSON and speak OAuth, and of these what is needed, as the types that it
takes. All else ends here, in a typed error: a lost connection, HTTP 429 and 5xx, after repeats for
as long as the deadline allows; a redirect, since the request carries the app's secret; a body that
is not JSON, which MSAL would log as it is.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import HTTPError

from ..._runtime.backoff import Backoff
from ..._runtime.forks import fork_allowed
from ..._runtime.secrecy import Hidden
from ..._runtime.stack import handled_now, let_interruptions_pass
from ...errors import AuthorityError, ThrottledError, TokenManagerError
from ...identity.authority import Authority
from ..answers import Answer, device_code_of, normalized
from . import CONNECT_TIMEOUT
from .adapter import Deadline
from .additions import complete
from .documented import documented_issuer, documented_metadata
from .endpoints import check_endpoint
from .outcomes import connection_error, host_of, no_metadata, outcome_of, parsed
from .regions import regional_url
from .transport import Response, Transport

__all__ = ["Exchange"]

_MOST_ATTEMPTS = 4
#: Seconds before the first repeat at most, and before any.
_BACKOFF, _LONGEST_PAUSE = 0.4, 30.0

#: The HTTP statuses of an address where there is no token endpoint.
_NOT_THERE = frozenset({404, 405, 410})
_NEEDED = ("issuer", "token_endpoint", "authorization_endpoint")
#: Where nothing of the app's is sent, but the user's browser.
_LOGOUT = "end_session_endpoint"
#: Whether whoever comes back to the app brings along who has sent them (RFC 9207, section 3).
_NAMES_ISSUER = "authorization_response_iss_parameter_supported"
#: What MSAL asks before it sends a password: whether another service has it. That one would be told
#: the password then, whoever it is. So it is told that there is none.
_USER_REALM, _MANAGED = "/common/userrealm/", '{"account_type": "Managed"}'
_ENDPOINTS = ("token_endpoint", "authorization_endpoint", "device_authorization_endpoint")


class Exchange:
    """The requests of one fetch: what MSAL takes for its ``http_client``.

    Args:
        transport: What they go through.
        deadline: Until when, on the monotonic clock.
        authority: Who is asked.
        documented: Whether its endpoints are taken as they are documented, where they are.
        regional: The host of the region where the token is asked for; None without one.
        wall: The wall clock.
    """

    def __init__(
        self,
        transport: Transport,
        deadline: float,
        authority: Authority,
        *,
        documented: bool = True,
        regional: str | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._transport = transport
        self._deadline = deadline
        self._authority = authority
        self._regional = regional
        self._wall = wall
        #: What the token request says besides: claims as JSON, and parameters.
        self.claims: Hidden = Hidden("")
        self.extra: Hidden = Hidden(())
        #: When the last attempt was sent, on the wall clock.
        self.asked_at: float = wall()
        #: The HTTP status of the last answer; None where there was none.
        self.status: int | None = None
        #: What the token endpoint said last. MSAL sees of it what it needs.
        self.said: Answer = Answer({})
        #: Who issues the authority's tokens, as its metadata has it; ``{tenantid}`` in it is any.
        self.issuer: str = ""
        #: Whether that issuer names itself in whatever it sends a user's browser back with.
        self.names_issuer: bool = False
        #: What is documented, by the address at which MSAL asks for it.
        self._documented: dict[str, dict[str, str]] = {}
        if documented and (metadata := documented_metadata(authority)) is not None:
            address = f"{authority.url}/v2.0/.well-known/openid-configuration"
            self._documented[address] = metadata
        #: The metadata that this fetch went by, by its address, and the addresses that it asked.
        self._metadata: dict[str, Response] = {}
        self._asked: set[str] = set()

    def get(self, url: str, **kwargs: Any) -> Response:
        """Gets an authority's OpenID metadata; from memory, or as documented, where it can be."""
        if url in self._documented:
            self.issuer = documented_issuer(self._authority, self._documented[url])
            return Response(200, json.dumps(self._documented[url]), {})
        if urlsplit(url).path.startswith(_USER_REALM):
            return Response(200, _MANAGED, {})
        known = self._metadata.get(url) or self._transport.metadata(url)
        if known is None:
            known = self._ask_for_metadata(url, Hidden(kwargs))
            self._asked.add(url)
        self._metadata[url] = known
        metadata = json.loads(known.text)
        self.issuer, self.names_issuer = metadata["issuer"], _NAMES_ISSUER in metadata
        return known

    def read(self, url: str) -> Answer:
        """Gets a JSON object that is nobody's secret, such as an authority's public keys.

        Raises:
            TokenManagerError: There is none, or the address is none of the authority's.
        """
        response = self._send("GET", url, Hidden({}))
        said = parsed(response)
        if response.status_code != 200 or said is None:
            raise no_metadata(url, response, said)
        return said

    def _ask_for_metadata(self, url: str, request: Hidden) -> Response:
        response = self._send("GET", url, request)
        metadata = parsed(response)
        if response.status_code != 200 or metadata is None:
            raise no_metadata(url, response, metadata)
        for name in _NEEDED:
            if not isinstance(metadata.get(name), str):
                raise AuthorityError(
                    f"the metadata at {url} has no {name}: check the authority's address",
                    status=response.status_code,
                )
        texts = {name: metadata.get(name) for name in (*_NEEDED, *_ENDPOINTS, _LOGOUT)}
        known = {name: text for name, text in texts.items() if text and isinstance(text, str)}
        for name in _ENDPOINTS:
            if name in known:
                check_endpoint(self._authority, known[name])
        if metadata.get(_NAMES_ISSUER) is True:
            known[_NAMES_ISSUER] = "true"
        return Response(200, json.dumps(known), {})

    def remember(self) -> None:
        """Keeps the metadata that has just been asked for: it has worked."""
        for url in self._asked:
            self._transport.remember_metadata(url, self._metadata[url])

    def forget(self) -> None:
        """Has the metadata be asked for anew: it has led nowhere."""
        self._asked.clear()
        for url in self._metadata:
            self._transport.forget_metadata(url)

    def post(self, url: str, **kwargs: Any) -> Response:
        """Asks the token endpoint, or the one that gives devices their codes."""
        kwargs, request = {}, Hidden(kwargs)  # with the app's credential
        complete(request, self.claims, self.extra)
        try:
            response = self._send("POST", regional_url(url, self._regional), request)
        except TokenManagerError as exc:
            # What is throttling or failing in OAuth's words is where it was.
            if exc.error is None and not isinstance(exc, ThrottledError):
                self.forget()
            raise
        said = parsed(response)
        for_device = _is_for_device(request)
        known = said is not None and (for_device or said.has_token or said.error is not None)
        if not known or response.status_code in _NOT_THERE:
            self.forget()
        if said is None:
            raise AuthorityError(
                f"{host_of(url)} answered HTTP {response.status_code} with no OAuth answer: check "
                "the authority's address, and what proxies stand before it",
                status=response.status_code,
            )
        self.said, status = said, response.status_code
        seen = (device_code_of if for_device else normalized)(said, status)
        return Response(status, json.dumps(seen), {})

    def close(self) -> None:
        """Does nothing: the connections are the transport's."""

    @fork_allowed()  # MSAL calls it in the middle of what no fork may meet, and it can take long
    def _send(self, method: str, url: str, given: Hidden) -> Response:
        check_endpoint(self._authority, url, regional=self._regional)
        # Without the session: it would add the user's .netrc and its cookies.
        request = requests.Request(
            method,
            url,
            params=given.cell_contents.get("params"),
            data=given.cell_contents.get("data"),
            headers=given.cell_contents.get("headers"),
        ).prepare()
        secret = Hidden((given.cell_contents.get("data") or {}).get("client_secret"))
        transport, host, backoff = self._transport, host_of(url), Backoff(_BACKOFF, _LONGEST_PAUSE)
        settings, handled = transport.settings(url), handled_now()
        while True:
            outcome: Response | TokenManagerError
            try:
                seconds = self._deadline - time.monotonic()
                self.asked_at, self.status = self._wall(), None
                with transport.session().send(
                    request,
                    allow_redirects=False,
                    timeout=_timeout(seconds),
                    **settings.cell_contents,
                ) as answer:
                    self.status = answer.status_code
                    outcome = outcome_of(answer, host, secret)
            except (requests.RequestException, HTTPError, OSError) as exc:
                let_interruptions_pass(exc, handled)  # an alarm raises TimeoutError too
                # Not chained: its ``request`` holds the body that was sent, with the secret.
                outcome = connection_error(exc, host)
            if isinstance(outcome, Response):
                return outcome
            now = time.monotonic()
            pause = backoff.fail(now, asked=outcome.retry_after)
            late = now + pause >= self._deadline or backoff.failures >= _MOST_ATTEMPTS
            if not outcome.retryable or late or not transport.wait(pause):
                raise outcome


def _timeout(seconds: float) -> Any:
    """What requests takes, whose stubs know of numbers only."""
    if seconds <= 0:
        raise TimeoutError
    return Deadline(connect=CONNECT_TIMEOUT, total=seconds)


def _is_for_device(request: Hidden) -> bool:
    """Whether it is a device code that is asked for, which is no grant yet (RFC 8628)."""
    body = Hidden(request.cell_contents.get("data") or {})
    return "client_id" in body.cell_contents and "grant_type" not in body.cell_contents
