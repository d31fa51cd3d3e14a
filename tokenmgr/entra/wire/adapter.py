"""The adapter of requests for a service that may be slow on purpose, or say more than it was asked.

One connection carries many keys' requests, one after another. What lies on it unread when the next
one is sent would be taken for that one's answer, and be another key's token: so all of an answer
is accounted for before its connection serves again.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3 import ProxyManager
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import EmptyPoolError
from urllib3.util import Timeout

from ..._runtime.forks import fork_allowed, no_fork
from .whole_answers import WholeResponse

__all__ = ["Deadline", "DeadlineAdapter"]

#: Seconds that a request has at least once it has a connection, lest it have none at all.
_LEAST = 0.001


class _PlainConnection(HTTPConnection):
    #: The answer to the last request, if there was one.
    _answer: WholeResponse | None = None
    #: When it was put back into its pool, on the monotonic clock.
    used_at = float("-inf")

    def response_class(self, *args: Any, **kwargs: Any) -> WholeResponse:  # type: ignore[override]
        self._answer = WholeResponse(*args, **kwargs)
        return self._answer

    def connect(self) -> None:
        super().connect()
        self._answer = None  # that of a connection before, or a proxy's, that it leads there

    @property
    def is_connected(self) -> bool:
        """Whether it may carry a request: it is open, and nothing lies on it unasked for."""
        answered = self._answer is None or self._answer.is_accounted_for
        return answered and self.sock is not None and _is_silent(self.sock)


class _Connection(_PlainConnection, HTTPSConnection):
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


def _is_silent(sock: socket.socket) -> bool:
    """Whether a connection is open, and has nothing to say.

    To look at the socket alone would not do: TLS may have read on, and TLS 1.3 sends tickets that
    are no data (RFC 8446, section 4.6.1).
    """
    timeout = sock.gettimeout()
    try:
        sock.settimeout(0.0)
        sock.recv(1)
    except (BlockingIOError, ssl.SSLWantReadError):
        return True
    except OSError:
        return False
    finally:
        sock.settimeout(timeout)
    return False


class Deadline(Timeout):
    """What a request and its answer take in all, from now on, waiting for a connection included.

    Args:
        connect: Seconds to open a connection.
        total: Seconds for all of it.
    """

    def __init__(self, *, connect: float, total: float) -> None:
        super().__init__(connect=min(connect, total), total=total)
        self._longest_connect = connect
        self._ends_at = time.monotonic() + total

    def clone(self) -> Deadline:
        """What is left of it; urllib3 asks before it takes a connection, and before it sends."""
        left = max(_LEAST, self._ends_at - time.monotonic())
        return Deadline(connect=self._longest_connect, total=left)


class _Wait(threading.local):
    #: Seconds that this thread waits for a connection, where as many are in use as there may be.
    seconds: float | None = None


class _PlainPool(HTTPConnectionPool):
    ConnectionCls = _PlainConnection

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._wait = _Wait()

    def _get_timeout(self, timeout: Any) -> Any:
        left: Any = super()._get_timeout(timeout)
        self._wait.seconds = left.total
        return left

    def _get_conn(self, timeout: float | None = None) -> Any:
        # requests says no time for this.
        return super()._get_conn(self._wait.seconds if timeout is None else timeout)

    def _put_conn(self, conn: Any) -> None:
        if conn is not None:
            conn.used_at = time.monotonic()
        super()._put_conn(conn)


class _Pool(_PlainPool, HTTPSConnectionPool):
    ConnectionCls = _Connection

    def take(self, opened: ssl.SSLSocket) -> None:
        """Takes a connection that was opened elsewhere, and verified as this pool's are."""
        try:
            connection = self._get_conn(timeout=0)
        except EmptyPoolError:  # there are as many as there may be
            opened.close()
            return
        if connection.sock is None:
            connection.sock, connection.is_verified = opened, True
        else:  # a request that needs no MSAL has left one, as that for the authority's keys does
            opened.close()
        self._put_conn(connection)


def _close_unused(pool: Any, since: float) -> bool:
    """Closes what a pool keeps, and has not used since; says whether there is more."""
    kept, unused = pool.pool, []
    with kept.mutex:
        for place, connection in enumerate(kept.queue):
            # One that a SOCKS proxy is for does not tell.
            if connection is not None and getattr(connection, "used_at", since) <= since:
                kept.queue[place] = None
                unused.append(connection)
        # In the place of each that is not open there is None, and in that of one in use nothing.
        left = len(kept.queue) < kept.maxsize or any(each is not None for each in kept.queue)
    for connection in unused:
        connection.close()
    return left


_POOLS: dict[str, type] = {"http": _PlainPool, "https": _Pool}


class DeadlineAdapter(HTTPAdapter):
    """Takes a request's read timeout for the whole answer.

    HTTPS, also through HTTP proxies; and plain HTTP, as a machine's own services have it.
    """

    def take(
        self, request: requests.PreparedRequest, opened: ssl.SSLSocket, *, verify: bool | str
    ) -> None:
        """Takes a connection that was opened elsewhere, for a request that goes through no proxy.

        Args:
            request: The request, or one like it.
            opened: What leads to its host, and was verified so.
            verify: As for :meth:`send`.
        """
        pool: Any = self.get_connection_with_tls_context(request, verify)
        pool.take(opened)

    def close_unused(self, seconds: float) -> bool:
        """Closes the connections that have not been used for so long.

        Returns:
            Whether any others are left, kept or in use.
        """
        left = False
        for manager in (self.poolmanager, *tuple(self.proxy_manager.values())):
            for key in manager.pools.keys():  # noqa: SIM118 - a copy: it cannot be iterated over
                pool = manager.pools.get(key)
                left |= pool is not None and _close_unused(pool, time.monotonic() - seconds)
        return left

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:  # noqa: D102 - as the base
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:  # noqa: D102 - as the base
        manager = super().proxy_manager_for(*args, **kwargs)
        if isinstance(manager, ProxyManager):
            manager.pool_classes_by_scheme = _POOLS
        else:  # a SOCKS proxy has connections of its own kind, for which no wait would have an end
            manager.connection_pool_kw["block"] = False
        return manager
