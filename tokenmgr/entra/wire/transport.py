"""What a registry's fetches have in common: connections, and what is known of the authority."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING

import requests
from urllib3.util import ssl_

from ..._runtime.clock import sleep_unless
from ..._runtime.forks import no_fork, renew_in_child
from ..._runtime.secrecy import Hidden
from ..._runtime.shared import Share
from ...errors import ConfigurationError
from . import CONNECT_TIMEOUT
from .pool import Pool, take_pool

if TYPE_CHECKING:
    import cachetools

__all__ = ["Response", "Transport"]

#: OpenID metadata changes with the service's releases; a day is what MSAL itself keeps it.
_METADATA_TTL = 86_400.0
#: Of so many it is kept; each tenant of a private cloud has its own.
_MOST_AUTHORITIES = 10_000


class Response:
    """An answer, in the shape of MSAL's ``HttpResponse``; its repr shows nothing of it."""

    def __init__(self, status_code: int, text: str, headers: Mapping[str, str]) -> None:
        self.text: str = text
        del text
        self.status_code = status_code
        self.headers = headers

    def raise_for_status(self) -> None:
        """Raises nothing: what MSAL would raise for has been raised before MSAL sees it."""


class Transport:
    """A part in the connections, and the metadata; see :class:`.connection.Connection`."""

    #: What to do to have another certificate be trusted.
    trust = "pass verify= the path of the certificate authority that signed it"

    def __init__(
        self,
        verify: bool | str | None,
        proxies: Hidden,
        cert: tuple[str, str] | None = None,
    ) -> None:
        self._verify = verify
        #: Connections are one's own by it, in the pool that all have in common.
        self._cert = cert
        self._proxies: Mapping[str, str] = proxies.cell_contents
        #: What it has in common with other registries.
        self._pool: Share[Pool] = take_pool(verify, proxies)
        #: Made with the first metadata that has to be asked for.
        self._metadata: cachetools.TTLCache[str, Response] | None = None
        renew_in_child(self._start_anew)

    def _start_anew(self) -> None:
        """Makes its lock anew; the connections do so by themselves."""
        self._closed = False
        #: Guards the metadata; never held over I/O.
        self._lock = threading.RLock()

    def close(self) -> None:
        """Lets go of the connections, and ends every wait between two attempts."""
        self._closed = True
        self._pool.end()

    def metadata(self, url: str) -> Response | None:
        """Gives an authority's metadata if it is known."""
        with self._lock:
            return None if self._metadata is None else self._metadata.get(url)

    def forget_metadata(self, url: str) -> None:
        """Has an authority's metadata be asked for anew."""
        with self._lock:
            if self._metadata is not None:
                self._metadata.pop(url, None)

    def remember_metadata(self, url: str, response: Response) -> None:
        """Keeps an authority's metadata for a day."""
        with no_fork():
            from cachetools import TTLCache

        with self._lock:
            if self._metadata is None:
                self._metadata = TTLCache(maxsize=_MOST_AUTHORITIES, ttl=_METADATA_TTL)
            self._metadata[url] = response

    def wait(self, seconds: float) -> bool:
        """Waits between two attempts; says whether there may be another."""
        return not sleep_unless(lambda: self._closed, seconds)

    def session(self) -> requests.Session:
        """Gives what sends a request.

        Raises:
            ConfigurationError: It is closed, or TLS is broken in this process.
        """
        if self._closed:
            raise ConfigurationError("this registry is closed: make a new TokenRegistry")
        if ssl_.SSLContext.__module__ == "ssl" != ssl.SSLContext.__module__:
            raise ConfigurationError(
                "gevent's or eventlet's monkey patch came after TLS had been imported, and no "
                "connection can be made any more: call it before anything else is imported"
            )
        return self._pool.thing.use()

    def take(self, url: str, begun: ssl.SSLSocket, seconds: float) -> None:
        """Ends the handshake of a connection, for the first request that goes there.

        Whatever is in its way is passed over: the request meets it again, and says what it is.
        """
        begun.setblocking(True)  # to eventlet's sockets a timeout alone does not say so
        begun.settimeout(max(0.0, min(CONNECT_TIMEOUT, seconds)))
        try:
            with no_fork():
                begun.do_handshake()
        except OSError:
            begun.close()
        else:
            verify = self.settings(url).cell_contents["verify"]
            adapter = self._pool.thing.adapter
            adapter.take(requests.Request("POST", url).prepare(), begun, verify=verify)

    def address(self, url: str) -> str:
        """Gives the address to send a request to: its own."""
        return url

    def settings(self, url: str) -> Hidden:
        """The environment's, where none were given; a proxy's URL may hold its password."""
        settings = Hidden(
            dict(
                self._pool.thing.session.merge_environment_settings(
                    url, dict(self._proxies), True, self._verify, self._cert
                )
            )
        )
        if self._verify is not None:
            # requests lets REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE override what was said here.
            settings.cell_contents["verify"] = self._verify
        if requests.utils.select_proxy(url, self._proxies) is not None:
            # And HTTPS_PROXY override an {"all": …} that was given here.
            settings.cell_contents["proxies"] = dict(self._proxies)
        return settings
