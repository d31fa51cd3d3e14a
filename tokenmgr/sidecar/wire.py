"""The connections of the client that is not asynchronous: requests, pooled, each with its end."""

from __future__ import annotations

import threading
from http.cookiejar import DefaultCookiePolicy
from typing import Any

import requests
from urllib3.exceptions import EmptyPoolError, HTTPError
from urllib3.exceptions import TimeoutError as WireTimeoutError

from .._runtime.forks import renew_in_child
from .._runtime.secrecy import Hidden
from .._runtime.stack import handled_now, let_interruptions_pass
from ..entra.wire import CONNECT_TIMEOUT
from ..entra.wire.adapter import Deadline, DeadlineAdapter
from ..errors import ConfigurationError, SidecarError, TokenManagerError
from .address import Address
from .answers import Received, received
from .calls import Call
from .trouble import late, unreachable, untrusted

__all__ = ["Wire"]

#: Connections that are open at once at most; who wants one more waits.
_MOST_AT_ONCE = 64


class Wire:
    """Sends calls over a pool of connections, from any thread.

    Args:
        address: Where the sidecar is. What is on this machine is reached without any proxy.
        verify: What signs its certificate, where it has one.
    """

    def __init__(self, address: Address, verify: bool | str | None) -> None:
        self._address = address
        self._verify = verify
        self.closed: bool = False
        renew_in_child(self._start_anew)

    def _start_anew(self) -> None:
        """Opens connections of its own in the child, and makes the lock anew."""
        self._session: requests.Session | None = None
        #: Guards the session's making.
        self._lock = threading.RLock()

    def send(self, call: Call[Any], seconds: float) -> Received | TokenManagerError:
        """Sends a call; gives its answer, or the error that stands for it.

        Raises:
            ConfigurationError: It is closed.
        """
        session = self._opened()
        request = Hidden(
            requests.Request(
                call.method,
                call.url.cell_contents,
                headers=call.headers.cell_contents,
                data=call.body.cell_contents,
            ).prepare()
        )
        if seconds <= 0:
            return late()
        handled, timeout = handled_now(), Deadline(connect=CONNECT_TIMEOUT, total=seconds)
        try:
            with session.send(
                request.cell_contents,
                allow_redirects=False,
                stream=True,
                timeout=timeout,  # type: ignore[arg-type] # of which its stubs know numbers only
                **self._settings(session).cell_contents,
            ) as answer:
                return received(
                    answer.status_code,
                    answer.headers,
                    Hidden(answer.raw.read(call.most + 1, decode_content=False)),
                    most=call.most,
                    with_bearer=call.with_bearer,
                )
        except (requests.RequestException, HTTPError, OSError) as exc:
            let_interruptions_pass(exc, handled)
            # Not chained: its ``request`` holds the headers that were sent, with the token.
            return _error_of(exc)

    def close(self) -> None:
        """Closes the connections that carry nothing just now, and the others as they are done."""
        with self._lock:
            self.closed = True
            session, self._session = self._session, None
        if session is not None:
            session.close()

    def _opened(self) -> requests.Session:
        with self._lock:
            if self.closed:
                raise ConfigurationError("this client is closed: make a new one")
            if self._session is None:
                session = requests.Session()
                session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=()))
                adapter = DeadlineAdapter(1, _MOST_AT_ONCE, pool_block=True)
                session.mount("http://", adapter)
                session.mount("https://", adapter)
                self._session = session
            return self._session

    def _settings(self, session: requests.Session) -> Hidden:
        """The environment's, where it is elsewhere; a proxy's URL may hold its password."""
        if self._address.is_loopback:
            return Hidden({"proxies": {}, "verify": True if self._verify is None else self._verify})
        url = self._address.url
        settings = Hidden(
            dict(session.merge_environment_settings(url, {}, True, self._verify, None))
        )
        settings.cell_contents.pop("stream")
        if self._verify is not None:
            # requests lets REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE override what was said here.
            settings.cell_contents["verify"] = self._verify
        return settings


def _error_of(exc: Exception) -> SidecarError:
    if isinstance(exc, EmptyPoolError):
        return SidecarError(
            f"{_MOST_AT_ONCE} calls wait for the sidecar already: find out why it is slow",
            retryable=True,
        )
    if isinstance(exc, requests.exceptions.SSLError) and "CERTIFICATE_VERIFY" in str(exc):
        return untrusted()
    refused = isinstance(exc, requests.ConnectTimeout)
    if not refused and isinstance(exc, (requests.Timeout, WireTimeoutError, TimeoutError)):
        return late()
    return unreachable(type(exc).__name__)
