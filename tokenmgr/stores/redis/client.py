"""Clients of a Redis store: the program's own, or one that is made from a URL."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qs, urlsplit

from ..._runtime.forks import no_fork, renew_in_child
from ..._runtime.secrecy import Hidden

if TYPE_CHECKING:
    from .bounds import Bounds

__all__ = ["GivenClient", "OwnClient", "fault_of_client", "fault_of_url"]

#: Seconds for each address of the host, for each answer, and for one of this process's connections
#: to be free. Together they bound an operation: see :func:`_make_client`.
_CONNECT_TIMEOUT, _READ_TIMEOUT, _POOL_TIMEOUT = 0.25, 0.3, 0.5
#: An operation takes a fraction of a millisecond, so that these serve hundreds of threads.
_CONNECTIONS = 16

T = TypeVar("T")


class GivenClient:
    """A client that the program has made, and closes."""

    def __init__(self, client: Hidden) -> None:
        self._client = client.cell_contents
        kind = type(self._client)
        self.described: str = f"{kind.__module__}.{kind.__qualname__}"

    def do(self, operation: Callable[[Any], T]) -> T:
        """Does an operation with the client."""
        return operation(self._client)

    def drop(self) -> None:
        """Closes the connections that nobody uses just now. A cluster's client does so itself."""
        pool = getattr(self._client, "connection_pool", None)
        if pool is None:
            return
        try:
            pool.disconnect(inuse_connections=False)
        except TypeError:  # redis-py 6's blocking pools close all of them or none
            pool.disconnect()

    def close(self) -> None:
        """Does nothing: it is the program's."""


class OwnClient:
    """A client that is made from a URL at its first use, and in each child of a fork anew."""

    def __init__(self, url: Hidden) -> None:
        self._url = url
        self.described: str = _without_secrets(Hidden(urlsplit(url.cell_contents)))
        renew_in_child(self._start_anew)

    def _start_anew(self) -> None:
        """Leaves the parent's client alone: one of its threads may have held its locks."""
        #: Guards the client's making.
        self._lock = threading.RLock()
        # Freed in a child, redis-py's connections are closed there without a word to the server.
        self._made: tuple[Any, Bounds] | None = None

    def do(self, operation: Callable[[Any], T]) -> T:
        """Does an operation with the client, within its bounds."""
        client, bounds = self._made or self._make()
        with bounds.operation():
            return operation(client)

    def _make(self) -> tuple[Any, Bounds]:
        with no_fork(), self._lock:
            if self._made is None:
                self._made = _make_client(self._url)
            return self._made

    def drop(self) -> None:
        """Closes all connections: the host's name may lead somewhere else by now."""
        self.close()

    def close(self) -> None:
        """Closes all connections."""
        with self._lock:
            made, self._made = self._made, None
        if made is not None:
            made[0].connection_pool.disconnect()


def _make_client(url: Hidden) -> tuple[Any, Bounds]:
    import encodings.idna  # noqa: F401 - Python imports it at the first look-up of a host name

    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    from .bounds import Bounds, bounded

    length = url.cell_contents.index(":")
    pool = redis.BlockingConnectionPool.from_url(
        url.cell_contents[:length].lower() + url.cell_contents[length:],
        max_connections=_CONNECTIONS,
        timeout=_POOL_TIMEOUT,
        socket_connect_timeout=_CONNECT_TIMEOUT,
        socket_timeout=_READ_TIMEOUT,
        # Left to itself it would repeat timeouts, up to ten times.
        retry=Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,)),
        # No HELLO, and no CLIENT SETINFO: each is an answer more to wait for on a new connection,
        # and what the user's ACL does not allow fills the server's ACL LOG.
        protocol=2,
        **_without_introduction(redis),
    )
    names = "socket_connect_timeout", "socket_timeout"
    connect, read = map(pool.connection_kwargs.__getitem__, names)
    # The way there, and two answers: what is asked, and before it on a new connection AUTH.
    bounds = Bounds(connect + 2 * read)
    pool.connection_class = bounded(pool.connection_class, bounds, connect=connect, read=read)
    return redis.Redis(connection_pool=pool), bounds


def _without_introduction(redis: Any) -> dict[str, Any]:
    if hasattr(redis, "DriverInfo"):  # from redis-py 7.2 on, which deprecates the two others
        return {"driver_info": redis.DriverInfo(name="", lib_version="")}
    return {"lib_name": None, "lib_version": None}


def fault_of_url(url: Hidden) -> str | None:
    """Says what is wrong with a URL, without any part of it: each may be the password."""
    if find_spec("redis") is None:
        return "a store in Redis needs redis-py: pip install 'tokenmgr[redis]'"
    try:
        parts = Hidden(urlsplit(url.cell_contents if isinstance(url.cell_contents, str) else ""))
        query, port = Hidden(parts.cell_contents.query), parts.cell_contents.port
        options = Hidden(parse_qs(query.cell_contents, strict_parsing=query.cell_contents != ""))
    except ValueError:
        return (
            "the Redis URL has a port or an option that is none: correct it, and write special "
            "characters of the password as %23 and the like"
        )
    if "decode_responses" in options.cell_contents:
        return "what lies in the store is bytes: take decode_responses out of the Redis URL"
    if parts.cell_contents.fragment:
        return "the Redis URL has a # in it: write it as %23"
    if not _is_whole(parts) or port == 0:
        return (
            "a Redis URL is redis://user:password@host:6379/0, rediss://host:6379/0 or "
            "unix:///path/of/the.sock: correct it"
        )
    unix = parts.cell_contents.scheme == "unix"
    database = Hidden("0" if unix else parts.cell_contents.path.strip("/") or "0")
    numbers = Hidden((database.cell_contents, *options.cell_contents.get("db", ())))
    if not all(map(str.isdecimal, numbers.cell_contents)):
        return "the database in a Redis URL is a number, such as /0: correct it"
    return None


def _is_whole(parts: Hidden) -> bool:
    if parts.cell_contents.scheme == "unix":
        return bool(parts.cell_contents.path) and not parts.cell_contents.hostname
    return parts.cell_contents.scheme in ("redis", "rediss") and bool(parts.cell_contents.hostname)


def fault_of_client(client: Hidden) -> str | None:
    """Says what is wrong with a client that was passed in."""
    execute = getattr(client.cell_contents, "execute_command", None)
    encoder = getattr(client.cell_contents, "get_encoder", None)
    if execute is None or encoder is None:
        return (
            "RedisStore(client) takes a client such as redis.Redis(...), what Sentinel(...)."
            "master_for(...) gives, or redis.cluster.RedisCluster(...): pass one, or use "
            "RedisStore.from_url(url)"
        )
    if inspect.iscoroutinefunction(execute):
        return (
            "RedisStore takes no client for asyncio, since stores are asked from threads: pass "
            "redis.Redis(...), also in an asyncio program"
        )
    if encoder().decode_responses:
        return (
            "what lies in the store is bytes, and this client decodes them: pass one that is made "
            "without decode_responses=True"
        )
    return None


def _without_secrets(parts: Hidden) -> str:
    if parts.cell_contents.scheme == "unix":
        return f"unix://{parts.cell_contents.path}"
    host = parts.cell_contents.netloc.rpartition("@")[2]
    return f"{parts.cell_contents.scheme}://{host}{parts.cell_contents.path}"
