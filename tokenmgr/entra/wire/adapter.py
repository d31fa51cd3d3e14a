"""The adapter of requests for a service that may be slow on purpose.

A socket's timeout starts anew with each piece that arrives, so that an answer that drips, header
by header, holds its reader for hours. Here it is for the whole answer.
"""

from __future__ import annotations

import http.client
import io
import socket
import time
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3 import ProxyManager
from urllib3.connection import HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from ..._runtime.forks import fork_allowed, no_fork

__all__ = ["DeadlineAdapter"]


class _Reader(io.RawIOBase):
    """What a socket receives until the timeout that it has now is over, once."""

    def __init__(self, received: io.RawIOBase, sock: socket.socket) -> None:
        self._received = received
        self._socket = sock
        timeout = sock.gettimeout()
        self._deadline = float("inf") if timeout is None else time.monotonic() + timeout

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the answer was not whole in time")
        self._socket.settimeout(None if left == float("inf") else left)
        return self._received.readinto(buffer)

    def fileno(self) -> int:
        return self._received.fileno()

    def close(self) -> None:
        self._received.close()
        super().close()


class _Response(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp = io.BufferedReader(_Reader(self.fp.detach(), sock))


class _Connection(HTTPSConnection):
    response_class = _Response

    def connect(self) -> None:
        # A child that is forked in the middle of a handshake, by whichever thread, may hang in its
        # own first one: OpenSSL has locks that a fork leaves locked.
        with no_fork():
            super().connect()

    def _new_conn(self) -> socket.socket:
        with fork_allowed():  # without TLS as yet, and it can take long
            return super()._new_conn()

    def _tunnel(self) -> None:
        with fork_allowed():
            super()._tunnel()


class _Pool(HTTPSConnectionPool):
    ConnectionCls = _Connection


_POOLS = {"http": HTTPConnectionPool, "https": _Pool}


class DeadlineAdapter(HTTPAdapter):
    """Takes a request's read timeout for the whole answer. HTTPS, also through HTTP proxies."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:  # noqa: D102 - as the base
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:  # noqa: D102 - as the base
        manager = super().proxy_manager_for(*args, **kwargs)
        if isinstance(manager, ProxyManager):  # a SOCKS proxy has connections of its own kind
            manager.pool_classes_by_scheme = _POOLS
        return manager
