"""A store in Redis or Valkey: what a fleet on many hosts shares.

Each record is one key with an end of its own, so that nothing has to be swept. A lease is
``SET NX PX``; what is given back is compared and deleted by a script. The script is sent each
time (``EVAL``), since one that is only named (``EVALSHA``) is gone after ``SCRIPT FLUSH`` and
after a failover. It has one key, as Redis Cluster wants it. Values are read with ``GETRANGE``: what
lies there may be larger than anything that was put.

Sources: https://redis.io/docs/latest/commands/set/ (*Patterns*) and
https://redis.io/docs/latest/operate/oss_and_stack/management/security/acl/.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from ..._runtime.secrecy import Hidden, Unpicklable
from ...errors import ConfigurationError
from ..base import MOST_BYTES
from .advice import explained, is_replica
from .client import GivenClient, OwnClient, fault_of_client, fault_of_url

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["RedisStore"]

#: It reads no more of a value than tells whether it is this one.
_COMPARE_AND_DELETE = """
if redis.call('getrange', KEYS[1], 0, #ARGV[1]) ~= ARGV[1] then return 0 end
return redis.call('del', KEYS[1])
"""

T = TypeVar("T")


class RedisStore(Unpicklable):
    """Shares tokens through Redis or Valkey: a single server, Sentinel or Cluster.

    Its user needs ``~tokenmgr:* +getrange +set +eval +del``, with the registry's namespace for
    ``tokenmgr``, and no more; ``+select`` for another database than 0, and what the client itself
    asks: ``+cluster|slots +command`` for a cluster.

    Args:
        client: A ``redis.Redis``, what ``Sentinel(...).master_for(...)`` gives, or a
            ``redis.cluster.RedisCluster``; valkey-py's are the same. Its timeouts and retries are
            its own: ``socket_timeout`` and ``socket_connect_timeout`` of half a second suit, and
            reads must go to masters. They are for one part of an answer each: a server that sends
            it in drops holds an operation for longer, and a fetch with it. Who passes the client
            closes it, and makes it anew after a fork where redis-py asks for that.

    Raises:
        ConfigurationError: It is none, is one for asyncio, or decodes what it reads.
    """

    def __init__(self, client: Any) -> None:
        client, given = None, Hidden(client)  # it may be a URL with a password
        if isinstance(given.cell_contents, OwnClient):
            self._way: OwnClient | GivenClient = given.cell_contents
            return
        self._way = GivenClient(given)
        fault = fault_of_client(given)
        if fault is not None:
            raise ConfigurationError(fault)

    @classmethod
    def from_url(cls, url: str) -> Self:
        """Makes a store with connections of its own, which are opened as they are used.

        An operation ends within a second, however slowly the server answers, and reads at most
        128 KiB. A connection that turns out to be broken is opened again, once; what is too slow
        is not repeated. The look-up of a host name takes as long as the system's resolver does.
        Where ``socket_timeout`` or ``socket_connect_timeout`` are in the URL, an operation takes
        twice the first and once the other at most.

        Args:
            url: ``redis://user:password@host:6379/0``, ``rediss://`` for TLS, or
                ``unix:///path?db=0``; the query may hold all that redis-py's ``from_url`` takes,
                and wins over what is set here.

        Raises:
            ConfigurationError: It is no such URL, or redis-py is missing.
        """
        url, given = "", Hidden(url)  # it may hold a password
        fault = fault_of_url(given)
        if fault is not None:
            raise ConfigurationError(fault)
        return cls(OwnClient(given))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._way.described}>"

    def get(self, key: str) -> bytes | None:
        """Gives what is under a key; see :class:`~tokenmgr.stores.TokenStore`."""
        value: bytes = self._ask(lambda client: client.getrange(key, 0, MOST_BYTES))
        return value or None

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
            return self._way.do(operation)
        except Exception as exc:  # noqa: BLE001 - whatever it is, its frames may hold the password
            error = explained(exc, self._way.described)
            if is_replica(exc):
                self._way.drop()
        # Out here, so that the other is not its context.
        raise error


def _milliseconds(ttl: float) -> int:
    return max(1, int(ttl * 1000))
