"""The way to the service, opened at the first fetch: until then nothing heavy is imported."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ..._runtime.forks import make_new_in_child, no_fork
from ...errors import ConfigurationError

if TYPE_CHECKING:
    from .transport import Exchange, Transport

__all__ = ["Connection"]


class Connection:
    """What all fetches of a registry go through.

    Args:
        verify: The path of a file or folder of certificate authorities, or True for those that
            ``requests`` ships, or False for no check at all; each wins over the environment.
            None does as ``requests`` does: ``REQUESTS_CA_BUNDLE`` first.
        proxies: ``{"https": "http://proxy:8080"}``; for what it leaves out, and when it is
            None, the environment is asked.
        timeout: Seconds that one fetch may take, with all that is repeated.

    Raises:
        ConfigurationError: One of them cannot be right.
    """

    def __init__(
        self,
        *,
        verify: bool | str | os.PathLike[str] | None = None,
        proxies: Mapping[str, str] | None = None,
        timeout: float = 10.0,
    ) -> None:
        self._proxies = _checked_proxies(proxies)
        del proxies  # a proxy's URL may hold its password, and a traceback would show it
        if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
            raise ConfigurationError("timeout= is a number of seconds")
        if not 0 < timeout <= threading.TIMEOUT_MAX:
            raise ConfigurationError("timeout= is in seconds, more than 0 and not for ever")
        self._verify = _checked_verify(verify)
        #: Seconds that one fetch may take.
        self.timeout: float = float(timeout)
        self._transport: Transport | None = None
        self._closed = False
        make_new_in_child(self)
        self.after_fork()

    def after_fork(self) -> None:
        """Makes its lock anew; the transport does so by itself."""
        #: Guards the transport's making; never held over I/O.
        self._lock = threading.Lock()

    def exchange(self) -> Exchange:
        """Opens the requests of one fetch, whose deadline starts to run now.

        Raises:
            ConfigurationError: It is closed.
        """
        with no_fork():
            from .transport import Transport

        with self._lock:
            if self._closed:
                raise ConfigurationError("this registry is closed: make a new TokenRegistry")
            if self._transport is None:
                self._transport = Transport(self._verify, self._proxies, self.timeout)
            return self._transport.exchange()

    def close(self) -> None:
        """Closes the connections, and ends every wait between two attempts."""
        with self._lock:
            self._closed = True
            transport, self._transport = self._transport, None
        if transport is not None:
            transport.close()


def _checked_verify(verify: bool | str | os.PathLike[str] | None) -> bool | str | None:
    # To requests an empty text means no check at all, and a missing variable gives one.
    if verify is None or isinstance(verify, bool):
        return verify
    path = os.fspath(verify) if isinstance(verify, (str, os.PathLike)) else ""
    if path and Path(path).exists():
        return path
    raise ConfigurationError(
        f"verify={verify!r} is neither True, False nor the path of a file of certificate "
        "authorities that exists: correct it"
    )


def _checked_proxies(proxies: Mapping[str, str] | None) -> dict[str, str]:
    checked = dict(proxies) if isinstance(proxies, Mapping) else {}
    texts = all(isinstance(text, str) for item in checked.items() for text in item)
    if (proxies is not None and not isinstance(proxies, Mapping)) or not texts:
        del proxies, checked  # a proxy's URL may hold its password, and a traceback would show it
        raise ConfigurationError(
            'proxies= is a dict of texts, such as {"https": "http://proxy.contoso.com:8080"}'
        )
    return checked
