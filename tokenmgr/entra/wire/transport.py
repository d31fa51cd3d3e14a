"""HTTP as MSAL is given it: one session for all, one deadline for all requests of one fetch.

MSAL sees answers that are JSON and speak OAuth. All else ends here, in a typed error: a lost
connection, HTTP 429 and 5xx, after repeats for as long as the deadline allows; a redirect, since
the request carries the app's secret; a body that is not JSON, which MSAL would log as it is.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import cachetools
import requests
from urllib3.exceptions import HTTPError, InvalidHeader
from urllib3.exceptions import TimeoutError as WireTimeoutError
from urllib3.util import Retry, Timeout

from ..._runtime.forks import make_new_in_child
from ...errors import (
    AuthorityError,
    ConfigurationError,
    ServiceUnavailableError,
    ThrottledError,
    TokenManagerError,
)
from ..answers import error_from_answer
from .adapter import DeadlineAdapter

__all__ = ["Exchange", "Response", "Transport"]

_CONNECT_TIMEOUT = 5.0
_MOST_ATTEMPTS = 4
#: Full jitter up to this many seconds before the first repeat, twice as long before each other.
_BACKOFF = 0.4
_MOST_BYTES = 1 << 20
#: OpenID metadata changes with the service's releases; a day is what MSAL itself keeps it.
_METADATA_TTL = 86_400.0


@dataclass(frozen=True)
class Response:
    """An answer, in the shape of MSAL's ``HttpResponse``."""

    status_code: int
    text: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)

    def raise_for_status(self) -> None:
        """Raises nothing: what MSAL would raise for has been raised before MSAL sees it."""


class Transport:
    """The connections, and the authorities' metadata; see :class:`.connection.Connection`."""

    def __init__(
        self, verify: bool | str | None, proxies: Mapping[str, str], timeout: float
    ) -> None:
        self._verify = verify
        self._proxies = proxies
        self._timeout = timeout
        self._metadata: cachetools.TTLCache[str, Response] = cachetools.TTLCache(
            maxsize=256, ttl=_METADATA_TTL
        )
        make_new_in_child(self)
        self.after_fork()

    def after_fork(self) -> None:
        """Opens connections of its own in the child: two processes would mix up one's TLS."""
        self._closed = threading.Event()
        #: Guards the metadata; never held over I/O.
        self._lock = threading.Lock()
        self._session = requests.Session()
        self._session.mount("https://", DeadlineAdapter(pool_maxsize=32))

    def exchange(self) -> Exchange:
        """Opens the requests of one fetch, whose deadline starts to run now."""
        return Exchange(self, time.monotonic() + self._timeout)

    def close(self) -> None:
        """Closes the connections, and ends every wait between two attempts."""
        self._closed.set()
        self._session.close()

    def metadata(self, url: str) -> Response | None:
        """Gives an authority's metadata if it is known."""
        with self._lock:
            return self._metadata.get(url)

    def remember_metadata(self, url: str, response: Response) -> None:
        """Keeps an authority's metadata for a day."""
        with self._lock:
            self._metadata[url] = response

    def wait(self, seconds: float) -> bool:
        """Waits between two attempts; says whether there may be another."""
        return not self._closed.wait(seconds)

    def send(self, request: requests.PreparedRequest, seconds: float) -> requests.Response:
        """Sends one request, with the environment's settings where none were given."""
        if self._closed.is_set():
            raise ConfigurationError("this registry is closed: make a new TokenRegistry")
        settings = self._session.merge_environment_settings(
            request.url, dict(self._proxies), True, self._verify, None
        )
        if self._verify is not None:
            # requests lets REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE override what was said here.
            settings["verify"] = self._verify
        if requests.utils.select_proxy(request.url or "", self._proxies) is not None:
            # And HTTPS_PROXY override an {"all": …} that was given here.
            settings["proxies"] = dict(self._proxies)
        return self._session.send(
            request,
            allow_redirects=False,
            # The stubs know of numbers only; a total ends the connecting and the reading together.
            timeout=Timeout(connect=min(_CONNECT_TIMEOUT, seconds), total=seconds),  # type: ignore[arg-type]
            **settings,
        )


class Exchange:
    """The requests of one fetch: what MSAL takes for its ``http_client``."""

    def __init__(self, transport: Transport, deadline: float) -> None:
        self._transport = transport
        self._deadline = deadline

    def get(self, url: str, **kwargs: Any) -> Response:
        """Gets an authority's OpenID metadata, from memory where it is known."""
        known = self._transport.metadata(url)
        if known is not None:
            return known
        response = self._send("GET", url, **kwargs)
        metadata = _parse(response)
        if response.status_code != 200 or metadata is None:
            raise _no_metadata(url, response, metadata)
        for name in ("issuer", "token_endpoint", "authorization_endpoint"):
            if not isinstance(metadata.get(name), str):
                raise AuthorityError(
                    f"the metadata at {url} has no {name}: check the authority's address"
                )
        _check_https(metadata["token_endpoint"])
        self._transport.remember_metadata(url, response)
        return response

    def post(self, url: str, **kwargs: Any) -> Response:
        """Asks the token endpoint."""
        response = self._send("POST", url, **kwargs)
        if _parse(response) is None:
            raise AuthorityError(
                f"{_host(url)} answered HTTP {response.status_code} with no OAuth answer: check "
                "the authority's address, and what proxies stand before it"
            )
        return response

    def close(self) -> None:
        """Does nothing: the connections are the transport's."""

    def _send(self, method: str, url: str, **kwargs: Any) -> Response:
        _check_https(url)
        # Without the session: it would add the user's .netrc and its cookies.
        request = requests.Request(
            method,
            url,
            params=kwargs.get("params"),
            data=kwargs.get("data"),
            headers=kwargs.get("headers"),
        ).prepare()
        secret = (kwargs.get("data") or {}).get("client_secret")
        attempt = 0
        while True:
            attempt += 1
            outcome = self._attempt(request, secret)
            if isinstance(outcome, Response):
                return outcome
            pause = random.random() * _BACKOFF * 2.0 ** (attempt - 1)  # noqa: S311 - spreads repeats
            pause = max(pause, outcome.retry_after or 0.0)
            late = time.monotonic() + pause >= self._deadline
            if not outcome.retryable or attempt >= _MOST_ATTEMPTS or late:
                raise outcome
            if not self._transport.wait(pause):
                raise outcome

    def _attempt(
        self, request: requests.PreparedRequest, secret: str | None
    ) -> Response | TokenManagerError:
        seconds = self._deadline - time.monotonic()
        host = _host(request.url or "")
        if seconds <= 0:
            return _out_of_time(host)
        try:
            with self._transport.send(request, seconds) as answer:
                text = _read(answer)
                response = Response(answer.status_code, text, answer.headers)
        except (requests.RequestException, HTTPError, OSError) as exc:
            # Not chained: its ``request`` holds the body that was sent, with the secret.
            return _connection_error(exc, host)
        return _failure(response, host, secret) or response


def _read(answer: requests.Response) -> str:
    body: bytes = answer.raw.read(_MOST_BYTES + 1, decode_content=True)
    if len(body) > _MOST_BYTES:
        raise requests.exceptions.ContentDecodingError("too long")
    return body.decode("utf-8", errors="replace")


def _failure(response: Response, host: str, secret: str | None) -> TokenManagerError | None:
    status = response.status_code
    if 300 <= status < 400:
        return AuthorityError(
            f"{host} answered with a redirect (HTTP {status}), which is not followed, since the "
            "request carries the app's credential: set the authority that it leads to"
        )
    if status == 429 or status >= 500:
        return error_from_answer(
            _parse(response) or {},
            kind=ThrottledError if status == 429 else ServiceUnavailableError,
            retry_after=_retry_after(response),
            status=status,
            host=host,
            secret=secret,
        )
    if status == 200 and _parse(response) is None:
        return ServiceUnavailableError(f"{host} answered HTTP 200 with what is not a JSON object")
    return None


def _retry_after(response: Response) -> float | None:
    """Reads ``Retry-After``, in seconds or as a date (RFC 9110, section 10.2.3)."""
    value = response.headers.get("Retry-After")
    if value is None:
        return None
    try:
        return max(0.0, Retry(0).parse_retry_after(value.strip()))
    except (InvalidHeader, OverflowError):
        return None


def _parse(response: Response) -> dict[str, Any] | None:
    try:
        parsed = json.loads(response.text)
    except (ValueError, RecursionError):
        return None
    return parsed if isinstance(parsed, dict) else None


def _no_metadata(
    url: str, response: Response, metadata: dict[str, Any] | None
) -> TokenManagerError:
    if metadata and "error" in metadata:
        return error_from_answer(metadata, kind=AuthorityError, host=_host(url))
    return AuthorityError(
        f"there is no OpenID metadata at {url} (HTTP {response.status_code}): check the "
        "authority's address, its tenant and its policy"
    )


def _out_of_time(host: str) -> ServiceUnavailableError:
    return ServiceUnavailableError(f"{host} gave no answer in time: it is asked again later")


def _connection_error(exc: Exception, host: str) -> TokenManagerError:
    if isinstance(exc, requests.exceptions.ProxyError):
        return ServiceUnavailableError(
            f"the proxy on the way to {host} cannot be used: check proxies= and HTTPS_PROXY"
        )
    if isinstance(exc, requests.exceptions.SSLError):
        if "CERTIFICATE_VERIFY_FAILED" in str(exc):
            return AuthorityError(
                f"the certificate of {host} is not trusted here: pass verify= the path of the "
                "certificate authority that signed it"
            )
        if "NO_CERTIFICATE_OR_CRL_FOUND" in str(exc):
            return ConfigurationError(
                "the file of certificate authorities holds none: check verify=, "
                "REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE"
            )
        return ServiceUnavailableError(f"TLS with {host} failed: it is tried again later")
    if isinstance(exc, (requests.Timeout, WireTimeoutError)):
        return _out_of_time(host)
    if isinstance(exc, OSError) and "CA certificate bundle" in str(exc):
        return ConfigurationError(
            "the file of certificate authorities cannot be found: check verify=, "
            "REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE"
        )
    return ServiceUnavailableError(
        f"the connection to {host} failed ({type(exc).__name__}): check the network and the "
        "authority's address"
    )


def _check_https(url: str) -> None:
    if urlsplit(url).scheme != "https":
        raise AuthorityError(
            f"the authority's metadata names {_host(url)} without https: it cannot be trusted "
            "with the app's credential"
        )


def _host(url: str) -> str:
    parts = urlsplit(url)
    return parts.netloc.rpartition("@")[2] or "the authority"
