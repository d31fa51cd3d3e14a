"""The way to the service, opened at the first fetch: until then nothing heavy is imported."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ..._runtime.forks import no_fork, renew_in_child
from ..._runtime.secrecy import Hidden, is_unicode
from ...errors import ConfigurationError
from ...identity.authority import Authority
from .documented import documented_metadata
from .first_fetch import begun_connection, import_msal, is_first_fetch
from .regions import regional_url
from .verify import checked_verify

if TYPE_CHECKING:
    from ...identity.token_proxy import TokenProxy
    from .exchange import Exchange
    from .token_proxy import ProxyWay
    from .transport import Transport

__all__ = ["ClientCertificate", "Connection"]

#: The path of a client certificate with its key, or of both by themselves.
ClientCertificate = str | os.PathLike[str] | tuple[str | os.PathLike[str], str | os.PathLike[str]]


class Connection:
    """What all fetches of a registry go through.

    Args:
        verify: The path of a file or folder of certificate authorities, or True for those that
            ``requests`` ships, or False for no check at all; each wins over the environment.
            None does as ``requests`` does: ``REQUESTS_CA_BUNDLE`` first.
        proxies: ``{"https": "http://proxy:8080"}``; for what it leaves out, and when it is
            None, the environment is asked.
        cert: The path of a client certificate with its key, as PEM, or of both by themselves.
        timeout: Seconds that one fetch may take, with all that is repeated.

    Raises:
        ConfigurationError: One of them cannot be right.
    """

    def __init__(
        self,
        *,
        verify: bool | str | os.PathLike[str] | None = None,
        proxies: Mapping[str, str] | None = None,
        cert: ClientCertificate | None = None,
        timeout: float = 10.0,
    ) -> None:
        proxies, given = None, Hidden(proxies)  # a proxy's URL may hold its password
        self._proxies = _checked_proxies(given)
        if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
            raise ConfigurationError("timeout= is a number of seconds")
        if not 0 < timeout <= threading.TIMEOUT_MAX:
            raise ConfigurationError("timeout= is in seconds, more than 0 and not for ever")
        self._verify = checked_verify(verify)
        self._cert = _checked_cert(cert)
        #: Seconds that one fetch may take.
        self.timeout: float = float(timeout)
        self._transport: Transport | None = None
        self._to_proxy: ProxyWay | None = None
        self._closed = False
        renew_in_child(self._start_anew)

    def _start_anew(self) -> None:
        """Makes its lock anew; the transport does so by itself."""
        #: Guards the transport's making; never held over I/O.
        self._lock = threading.RLock()

    def exchange(
        self,
        authority: Authority,
        *,
        documented: bool = True,
        regional: str | None = None,
        wall: Callable[[], float] = time.time,
        token_proxy: TokenProxy | None = None,
    ) -> Exchange:
        """Opens the requests of one fetch, whose deadline starts to run now.

        Args:
            authority: Who is about to be asked.
            documented: Whether its endpoints are taken as they are documented, where they are; else
                it is asked for them first.
            regional: The host of the region where the token is asked for; None without one.
            wall: The wall clock.
            token_proxy: What the requests are sent to instead; None where nothing is.

        Raises:
            ConfigurationError: It is closed.
        """
        deadline = time.monotonic() + self.timeout
        direct = self._cert is None and token_proxy is None
        ahead = documented and direct and is_first_fetch()
        transport = self._opened_ahead(authority, deadline, regional) if ahead else self._opened()
        with no_fork():
            from .exchange import Exchange

        return Exchange(
            transport,
            deadline,
            authority,
            documented=documented,
            regional=regional,
            wall=wall,
            way=None if token_proxy is None else self._way(transport, token_proxy),
        )

    def _way(self, transport: Transport, token_proxy: TokenProxy) -> ProxyWay:
        """Gives the way to the proxy of the app's credential, of which it has one."""
        with no_fork():
            from .token_proxy import ProxyWay

        with self._lock:
            self._check_open()
            if self._to_proxy is None:
                self._to_proxy = ProxyWay(transport, token_proxy)
            return self._to_proxy

    def _opened_ahead(
        self, authority: Authority, deadline: float, regional: str | None
    ) -> Transport:
        """Opens it, with its first connection, and imports MSAL before the service has answered."""
        self._check_open()
        metadata = documented_metadata(authority)
        url = authority.url if metadata is None else metadata["token_endpoint"]
        url = regional_url(url, regional)
        proxied = bool(self._proxies.cell_contents)
        with begun_connection(url, verify=self._verify, proxied=proxied) as begun:
            import_msal()
            transport = self._opened()
            if begun is not None:
                transport.take(url, begun, deadline - time.monotonic())
        return transport

    def _opened(self) -> Transport:
        with no_fork():
            from .transport import Transport

        with self._lock:
            self._check_open()
            if self._transport is None:
                self._transport = Transport(self._verify, self._proxies, self._cert)
            return self._transport

    def _check_open(self) -> None:
        if self._closed:
            raise ConfigurationError("this registry is closed: make a new TokenRegistry")

    def close(self) -> None:
        """Closes the connections, and ends every wait between two attempts."""
        with self._lock:
            self._closed = True
            ways, self._transport, self._to_proxy = (self._transport, self._to_proxy), None, None
        for way in ways:
            if way is not None:
                way.close()


def _checked_cert(cert: ClientCertificate | None) -> tuple[str, str] | None:
    if cert is None:
        return None
    paths = cert if isinstance(cert, tuple) else (cert,)
    named = [os.fspath(each) for each in paths if isinstance(each, (str, os.PathLike)) and each]
    # What is no file may be the key itself, and is not shown.
    files = [each for each in named if is_unicode(each) and len(each) <= 4_096 and _is_file(each)]
    if len(files) != len(paths) or len(files) not in (1, 2):
        raise ConfigurationError(
            "cert= is the path of a PEM file that exists, with the client certificate of this "
            "machine and its private key, or a tuple of the paths of both"
        )
    return files[0], files[-1]  # by two names, or OpenSSL asks the terminal for a password


def _is_file(path: str) -> bool:
    try:
        return Path(path).is_file()
    except (OSError, ValueError):
        return False


def _checked_proxies(given: Hidden) -> Hidden:
    if given.cell_contents is None:
        return Hidden({})
    if isinstance(given.cell_contents, Mapping):
        texts = Hidden(dict(given.cell_contents))
        if all(map(_is_text, (*texts.cell_contents, *texts.cell_contents.values()))):
            return texts
    raise ConfigurationError(
        'proxies= is a dict of texts, such as {"https": "http://proxy.contoso.com:8080"}, which '
        "UTF-8 can say: correct it"
    )


def _is_text(value: object) -> bool:
    return isinstance(value, str) and is_unicode(value)
