"""A store in Redis or Valkey: what a fleet on many hosts shares.

Each record is one key with an end of its own, so that nothing has to be swept. A lease is
``SET NX PX``; what is given back is compared and deleted by a script. The script is sent each
time (``EVAL``), since one that is only named (``EVALSHA``) is gone after ``SCRIPT FLUSH`` and
after a failover. It has one key, as Redis Cluster wants it.

Sources: https://redis.io/docs/latest/commands/set/ (*Patterns*) and
https://redis.io/docs/latest/operate/oss_and_stack/management/security/acl/.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import SplitResult, parse_qs, urlsplit

from .._runtime.forks import make_new_in_child, no_fork
from .._runtime.secrecy import Unpicklable
from ..errors import ConfigurationError, StoreError

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["RedisStore"]

#: Seconds for each address of the host, for each answer, and for one of this process's connections
#: to be free: where the server hangs, any of them ends an operation in about half a second.
_CONNECT_TIMEOUT, _READ_TIMEOUT, _POOL_TIMEOUT = 0.25, 0.3, 0.5
#: An operation takes a fraction of a millisecond, so that these serve hundreds of threads.
_CONNECTIONS = 16

_COMPARE_AND_DELETE = """
if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end
return 0
"""

#: What is found in an error's class names or its text, and what is said of it. The first counts.
_ADVICE = {
    ("AuthenticationError", "AuthenticationWrongNumberOfArgsError"): (
        "refuses the user name or the password, or wants one: correct them in the URL, where "
        "special characters are written as %23 and the like, or in the client"
    ),
    ("NoPermissionError", "ACL failure", "user executing the script can't run"): (
        "does not let this user do it: ACL SETUSER <user> ~tokenmgr:* +get +set +eval +del, with "
        "the registry's namespace in place of tokenmgr, +select where the URL names a database, "
        "and '+cluster|slots +command' for a cluster ({said})"
    ),
    ("OutOfMemoryError", "OOM command not allowed"): (
        "is out of memory: raise its maxmemory, or set its maxmemory-policy to volatile-ttl, "
        "since every key of tokenmgr's expires"
    ),
    ("ReadOnlyError", "read only replica"): (
        "is a replica, which takes no writes: name its master, or pass the client that "
        "redis.sentinel.Sentinel(...).master_for(...) gives. If it was the master until now, "
        "the next operation looks for the new one"
    ),
    ("BusyLoadingError",): "is still loading its data: wait until it has",
    ("MovedError", "AskError", "MOVED "): (
        "is a node of a cluster: pass RedisStore(redis.cluster.RedisCluster(...))"
    ),
    (
        "MasterDownError",
        "MASTERDOWN",
    ): "is a replica whose master is away: see its INFO replication",
    ("RedisClusterException", "ClusterError", "CLUSTERDOWN"): (
        "is a cluster that is down or does not cover all slots: see CLUSTER INFO ({said})"
    ),
    ("MasterNotFoundError",): "has no master that Sentinel knows: see SENTINEL MASTERS ({said})",
    ("MaxConnectionsError", "No connection available"): (
        "is asked by more threads than there are connections: raise max_connections, or see why "
        "it is slow"
    ),
    ("max number of clients",): (
        "has as many clients as it takes: raise its maxclients, or lower max_connections"
    ),
    ("TimeoutError",): (
        "does not answer in time: see whether it hangs or is overloaded, and whether it speaks "
        "TLS where the URL says rediss://; where it is far away, raise socket_timeout and "
        "socket_connect_timeout ({said})"
    ),
    ("CERTIFICATE_VERIFY_FAILED", "certificate verify failed"): (
        "shows a certificate that is not trusted: name its authority with ssl_ca_certs ({said})"
    ),
    ("ConnectionError", "OSError"): (
        "cannot be reached: see whether it runs, and check host, port, firewall, and rediss:// "
        "where it wants TLS ({said})"
    ),
    ("InvalidResponse",): "does not answer as Redis does: check host, port and scheme",
    ("TypeError", "ValueError", "DB index is out of range", "Invalid SSL"): (
        "cannot be asked with these options: correct them in the URL or in the client ({said})"
    ),
}
_NO_ADVICE = "fails: see its log ({said})"

T = TypeVar("T")


class RedisStore(Unpicklable):
    """Shares tokens through Redis or Valkey: a single server, Sentinel or Cluster.

    Its user needs ``~tokenmgr:* +get +set +eval +del``, with the registry's namespace for
    ``tokenmgr``, and no more; ``+select`` for another database than 0, and what the client itself
    asks: ``+cluster|slots +command`` for a cluster, and with redis-py 5 ``+info``.

    Args:
        client: A ``redis.Redis``, what ``Sentinel(...).master_for(...)`` gives, or a
            ``redis.cluster.RedisCluster``; valkey-py's are the same. Its timeouts and retries are
            its own: ``socket_timeout`` and ``socket_connect_timeout`` of half a second suit, and
            reads must go to masters. Who passes it closes it, and makes it anew after a fork where
            redis-py asks for that.

    Raises:
        ConfigurationError: It is none, is one for asyncio, or decodes what it reads.
    """

    def __init__(self, client: Any) -> None:
        if isinstance(client, _OwnClient):
            self._way: _OwnClient | _GivenClient = client
            return
        self._way = _GivenClient(client)
        fault = _fault_of_client(client)
        if fault is not None:
            del client  # it may be a URL with a password
            raise ConfigurationError(fault)

    @classmethod
    def from_url(cls, url: str) -> Self:
        """Makes a store with connections of its own, which are opened as they are used.

        An operation ends in about half a second. A connection that turns out to be broken is
        opened again, once; what is too slow is not repeated. The look-up of a host name takes as
        long as the system's resolver does.

        Args:
            url: ``redis://user:password@host:6379/0``, ``rediss://`` for TLS, or
                ``unix:///path?db=0``; the query may hold all that redis-py's ``from_url`` takes,
                and wins over what is set here.

        Raises:
            ConfigurationError: It is no such URL, or redis-py is missing.
        """
        fault = _fault_of(url)
        if fault is not None:
            del url  # it may hold a password, and a traceback would show it
            raise ConfigurationError(fault)
        return cls(_OwnClient(url))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._way.described}>"

    def get(self, key: str) -> bytes | None:
        """Gives what is under a key; see :class:`~tokenmgr.stores.TokenStore`."""
        value: bytes | None = self._ask(lambda client: client.get(key))
        return value

    def put(self, key: str, value: bytes, ttl: float) -> None:
        """Keeps a value under a key; see :class:`~tokenmgr.stores.TokenStore`."""
        self._ask(lambda client: client.set(key, value, px=_milliseconds(ttl)))

    def lease(self, key: str, owner: bytes, ttl: float) -> bool:
        """Takes a lease; see :class:`~tokenmgr.stores.TokenStore`.

        It may say False though the lease is the owner's, where the answer to a first attempt was
        lost: reading it tells.
        """
        return bool(
            self._ask(lambda client: client.set(key, owner, px=_milliseconds(ttl), nx=True))
        )

    def delete(self, key: str, value: bytes) -> bool:
        """Takes away a value; see :class:`~tokenmgr.stores.TokenStore`."""
        return bool(self._ask(lambda client: client.eval(_COMPARE_AND_DELETE, 1, key, value)))

    def close(self) -> None:
        """Closes the store's own connections; a client that was passed in stays open."""
        self._way.close()

    def _ask(self, operation: Callable[[Any], T]) -> T:
        try:
            return operation(self._way.client())
        except Exception as exc:  # noqa: BLE001 - whatever it is, its frames may hold the password
            error = _explained(exc, self._way.described)
            if _is_replica(exc):
                self._way.drop()
        # Out here, so that the other is not its context.
        raise error


class _GivenClient:
    """A client that the program has made, and closes."""

    def __init__(self, client: Any) -> None:
        self._client = client
        kind = type(client)
        self.described: str = f"{kind.__module__}.{kind.__qualname__}"

    def client(self) -> Any:
        return self._client

    def drop(self) -> None:
        """Closes the connections that nobody uses just now. A cluster's client does so itself."""
        pool = getattr(self._client, "connection_pool", None)
        if pool is None:
            return
        try:
            pool.disconnect(inuse_connections=False)
        except TypeError:  # older blocking pools close all of them or none
            pool.disconnect()

    def close(self) -> None:
        """Does nothing: it is the program's."""


class _OwnClient:
    """A client that is made from a URL at its first use, and in each child of a fork anew."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.described: str = _without_secrets(urlsplit(url))
        make_new_in_child(self)
        self.after_fork()

    def after_fork(self) -> None:
        """Leaves the parent's client alone: one of its threads may have held its locks."""
        #: Guards the client's making.
        self._lock = threading.Lock()
        # Freed in a child, redis-py's connections are closed there without a word to the server.
        self._client: Any = None

    def client(self) -> Any:
        client = self._client
        if client is None:
            with no_fork(), self._lock:
                if self._client is None:
                    self._client = _make_client(self._url)
                client = self._client
        return client

    def drop(self) -> None:
        """Closes all connections: the host's name may lead somewhere else by now."""
        self.close()

    def close(self) -> None:
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.connection_pool.disconnect()


def _make_client(url: str) -> Any:
    import encodings.idna  # noqa: F401 - Python imports it at the first look-up of a host name

    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    scheme, colon, rest = url.partition(":")
    pool = redis.BlockingConnectionPool.from_url(
        scheme.lower() + colon + rest,
        max_connections=_CONNECTIONS,
        timeout=_POOL_TIMEOUT,
        socket_connect_timeout=_CONNECT_TIMEOUT,
        socket_timeout=_READ_TIMEOUT,
        # redis-py 5 repeats what both name, and redis-py 6 what either does; left to themselves
        # they would repeat timeouts, up to ten times.
        retry=Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,)),
        retry_on_error=[redis.ConnectionError],
        # No HELLO, and no CLIENT SETINFO: each is an answer more to wait for on a new connection,
        # and what the user's ACL does not allow fills the server's ACL LOG.
        protocol=2,
        **_without_introduction(redis),
    )
    return redis.Redis(connection_pool=pool)


def _without_introduction(redis: Any) -> dict[str, Any]:
    if hasattr(redis, "DriverInfo"):  # from redis-py 7.2 on, which deprecates the two others
        return {"driver_info": redis.DriverInfo(name="", lib_version="")}
    return {"lib_name": None, "lib_version": None}


def _milliseconds(ttl: float) -> int:
    return max(1, int(ttl * 1000))


def _fault_of(url: object) -> str | None:
    """Says what is wrong with a URL, without any part of it: each may be the password."""
    if find_spec("redis") is None:
        return "a store in Redis needs redis-py: pip install 'tokenmgr[redis]'"
    try:
        parts = urlsplit(url if isinstance(url, str) else "")
        port = parts.port
        options = parse_qs(parts.query, strict_parsing=True) if parts.query else {}
    except ValueError:
        return (
            "the Redis URL has a port or an option that is none: correct it, and write special "
            "characters of the password as %23 and the like"
        )
    if "decode_responses" in options:
        return "what lies in the store is bytes: take decode_responses out of the Redis URL"
    if parts.fragment:
        return "the Redis URL has a # in it: write it as %23"
    if parts.scheme == "unix":
        right, database = bool(parts.path) and not parts.hostname, ""
    else:
        right = parts.scheme in ("redis", "rediss") and bool(parts.hostname) and port != 0
        database = parts.path.strip("/")
    if not right:
        return (
            "a Redis URL is redis://user:password@host:6379/0, rediss://host:6379/0 or "
            "unix:///path/of/the.sock: correct it"
        )
    if not all(number.isdecimal() for number in [*options.get("db", []), database or "0"]):
        return "the database in a Redis URL is a number, such as /0: correct it"
    return None


def _fault_of_client(client: object) -> str | None:
    execute, encoder = (getattr(client, name, None) for name in ("execute_command", "get_encoder"))
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


def _without_secrets(parts: SplitResult) -> str:
    if parts.scheme == "unix":
        return f"unix://{parts.path}"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _is_replica(error: Exception) -> bool:
    # Redis 6 tells it of a script in words alone.
    return type(error).__name__ == "ReadOnlyError" or "read only replica" in str(error)


def _explained(error: Exception, where: str) -> StoreError:
    """Says what happened and what to do next, in place of an error of redis-py's or valkey-py's."""
    # A server that does not know a command repeats its arguments, and AUTH's is the password.
    said = " ".join(str(error).partition(", with args")[0].split())[:200]
    said = said or type(error).__name__
    found = f"{' '.join(kind.__name__ for kind in type(error).__mro__)} {said}"
    advice = next(
        (text for marks, text in _ADVICE.items() if any(m in found for m in marks)), _NO_ADVICE
    )
    return StoreError(f"Redis ({where}) {advice.format(said=said)}")
