"""What is sent to the sidecar: without I/O. Both clients send what a :class:`Sidecar` says."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import NamedTuple, TypeVar
from urllib.parse import quote, urlencode

from .._runtime.secrecy import Hidden, Unpicklable
from ..errors import ConfigurationError, OverrideIgnoredError
from .address import Address, address_of
from .answers import Received
from .calls import Call, Steps, look, readiness, steps_of
from .overrides import query_of, wanted_of
from .readings import downstream_response, header, validated
from .results import DownstreamResponse, ValidatedToken
from .tokens import caller_of, incoming

__all__ = ["Settings", "Sidecar", "asked_of", "bearer_of"]

T = TypeVar("T")

#: The longest answer that holds no downstream API's content, in bytes.
_MOST_OF_OURS = 1 << 20
_LONGEST_NAME = 256


class Settings(NamedTuple):
    """What both clients are told besides the address; see :class:`.client.SidecarClient`."""

    timeout: float
    retries: int
    max_bytes: int
    overrides_opened: bool


class Sidecar(Unpicklable):
    """Where the sidecar is, and what is asked of it.

    Args:
        base_url: Its address, hidden; see :func:`.address.address_of`.
        settings: What else there is.

    Raises:
        ConfigurationError: One of them cannot be right.
    """

    def __init__(self, base_url: Hidden, settings: Settings) -> None:
        self.address: Address = address_of(base_url)
        self.timeout: float = _seconds(settings.timeout)
        self._retries = _number("retries", settings.retries, 0)
        self._most = _number("max_bytes", settings.max_bytes, 1)
        self._opened = settings.overrides_opened

    def authorization_header(
        self, token: Hidden, name: str, overrides: Hidden, *, as_app: bool, client_id: str = ""
    ) -> Steps[str]:
        """Asks for the header of a token.

        Args:
            token: The caller's, hidden; None with ``as_app``.
            name: The downstream API, as the sidecar's configuration names it.
            overrides: As for :func:`.overrides.query_of`.
            as_app: Whether there is no caller.
            client_id: The sidecar's app, where the program knows it.

        Raises:
            BearerRefusedError: The caller has sent no token.
            ConfigurationError: Something of it cannot be right.
        """
        bearer = bearer_of(token, as_app=as_app)
        query = Hidden(query_of(overrides))
        wanted = wanted_of(overrides, client_id, as_app=as_app)
        if not as_app:
            wanted = wanted._replace(caller=caller_of(bearer))
        route = "AuthorizationHeaderUnauthenticated" if as_app else "AuthorizationHeader"
        url = self._url(f"{route}/{_segment(name)}", query)
        return self._steps(self._get(url, bearer, partial(header, wanted=wanted)))

    def downstream_call(
        self, token: Hidden, name: str, overrides: Hidden, body: Hidden, *, as_app: bool
    ) -> Steps[DownstreamResponse]:
        """Asks for a call of a downstream API: always a POST, of which the API's method is a part.

        Args:
            token: As for :meth:`authorization_header`.
            name: As there.
            overrides: As there.
            body: What the API is sent: JSON, or a text, hidden; None for nothing.
            as_app: As there.

        Raises:
            BearerRefusedError: The caller has sent no token.
            OverrideIgnoredError: Something is overridden, and the route is not opened for that.
            ConfigurationError: Something of it cannot be right.
        """
        bearer = bearer_of(token, as_app=as_app)
        content, content_type = _content(body, overrides)
        query = Hidden(query_of(_completed(overrides, has_body=body.cell_contents is not None)))
        if as_app and query.cell_contents and not self._opened:
            raise OverrideIgnoredError(
                "of a call without a caller the sidecar passes over every override, and makes the "
                "profile's call instead, unless its operator has set "
                "Sidecar__AllowOverrides__CallDownstreamApiUnauthenticated: where that is so, say "
                "overrides_opened=True; else put path, method and scopes into the profile, or call "
                "the API itself with a manager of SidecarSource"
            )
        headers = _headers(bearer)
        if content.cell_contents is not None:
            headers.cell_contents["Content-Type"] = content_type
        route = "DownstreamApiUnauthenticated" if as_app else "DownstreamApi"
        url = self._url(f"{route}/{_segment(name)}", query)
        call = Call("POST", url, headers, content, self._most, downstream_response)
        return self._steps(call)

    def validation(self, token: Hidden) -> Steps[ValidatedToken]:
        """Asks whether a caller's token is one for this API.

        Raises:
            BearerRefusedError: The caller has sent none.
        """
        bearer = bearer_of(token, as_app=False)
        url = self._url("Validate", Hidden(()))
        return self._steps(self._get(url, bearer, partial(validated, bearer=bearer)))

    def look(self) -> Steps[bool]:
        """Looks once whether the sidecar is ready."""
        return look(self._health())

    def readiness(self, timeout: float) -> Steps[None]:
        """Looks until the sidecar is ready, for so many seconds at most."""
        return readiness(self._health(), timeout=_seconds(timeout), where=self.address.url)

    def _health(self) -> Call[bool]:
        url = self._url("healthz", Hidden(()))
        return self._get(url, Hidden(None), _is_healthy)

    def _steps(self, call: Call[T]) -> Steps[T]:
        return steps_of(call, timeout=self.timeout, retries=self._retries)

    def _url(self, path: str, query: Hidden) -> Hidden:
        text = Hidden(urlencode(query.cell_contents, quote_via=quote, safe=""))
        asked = Hidden(f"?{text.cell_contents}" if text.cell_contents else "")
        return Hidden(f"{self.address.url}/{path}{asked.cell_contents}")

    def _get(self, url: Hidden, bearer: Hidden, meaning: Callable[[Received], T]) -> Call[T]:
        return Call("GET", url, _headers(bearer), Hidden(None), _MOST_OF_OURS, meaning)


def asked_of(overrides: Hidden, **named: object) -> Hidden:
    """Puts overrides together with those that are parameters of their own, by their names."""
    return Hidden({**named, **overrides.cell_contents})


def bearer_of(token: Hidden, *, as_app: bool) -> Hidden:
    """Takes a caller's token, or none where there is no caller.

    Raises:
        BearerRefusedError: The caller has sent none.
        ConfigurationError: There is one, and is to be none.
    """
    if not as_app:
        return incoming(token)
    if token.cell_contents is not None:
        raise ConfigurationError("as_app=True has no caller: leave it or incoming_token out")
    return token


def _is_healthy(answer: Received) -> bool:
    return answer.status == 200


def _segment(name: str) -> str:
    named = isinstance(name, str) and name.isprintable() and len(name) <= _LONGEST_NAME
    if not named or name.strip() in ("", ".", ".."):
        raise ConfigurationError(
            "service_name is a name of the sidecar's DownstreamApis: correct it"
        )
    return quote(name, safe="")


def _headers(bearer: Hidden) -> Hidden:
    made = Hidden({"Accept": "application/json", "Accept-Encoding": "identity"})
    if bearer.cell_contents is not None:
        made.cell_contents["Authorization"] = f"Bearer {bearer.cell_contents}"
    return made


def _completed(overrides: Hidden, *, has_body: bool) -> Hidden:
    """Adds what the service forgets of the profile once anything is overridden."""
    given = Hidden({k: v for k, v in overrides.cell_contents.items() if v is not None})
    if not given.cell_contents:
        return given
    if has_body and "method" not in given.cell_contents:
        raise ConfigurationError(
            "with any override the sidecar makes a GET unless it is told otherwise, and here is a "
            "body: give method= too"
        )
    return Hidden({"method": "GET", "accept": "application/json"} | given.cell_contents)


def _content(body: Hidden, overrides: Hidden) -> tuple[Hidden, str]:
    """Gives the bytes to send, and what they are: the service reads them as text in UTF-8."""
    if body.cell_contents is None:
        return body, ""
    given = overrides.cell_contents.get("content_type")
    if isinstance(body.cell_contents, str):
        return Hidden(body.cell_contents.encode()), given or "text/plain; charset=utf-8"
    if isinstance(body.cell_contents, bytes):
        if body.cell_contents.decode(errors="ignore").encode() == body.cell_contents:
            return body, given or "text/plain; charset=utf-8"
        raise ConfigurationError(
            "the sidecar passes on bodies that are text in UTF-8, and this one is none: call the "
            "API itself, with a manager of SidecarSource or get_authorization_header()"
        )
    text = Hidden(json.dumps(body.cell_contents, allow_nan=False))
    return Hidden(text.cell_contents.encode()), given or "application/json"


def _seconds(timeout: float) -> float:
    number = isinstance(timeout, (int, float)) and not isinstance(timeout, bool)
    if not number or not 0 < timeout <= 86_400:
        raise ConfigurationError("timeout= is in seconds, more than 0 and at most a day")
    return float(timeout)


def _number(name: str, value: int, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigurationError(f"{name}= is a number, {least} or more")
    return value
