"""What an error of redis-py's or valkey-py's means, and what to do about it."""

from __future__ import annotations

from ...errors import StoreError

__all__ = ["explained", "is_replica"]

#: What is found in an error's class names or its text, and what is said of it. The first counts.
_ADVICE = {
    ("AuthenticationError", "AuthenticationWrongNumberOfArgsError"): (
        "refuses the user name or the password, or wants one: correct them in the URL, where "
        "special characters are written as %23 and the like, or in the client"
    ),
    ("NoPermissionError", "ACL failure", "user executing the script can't run"): (
        "does not let this user do it: ACL SETUSER <user> ~tokenmgr:* +getrange +set +eval +del, "
        "with the registry's namespace in place of tokenmgr, +select where the URL names a "
        "database, and '+cluster|slots +command' for a cluster ({said})"
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


def is_replica(error: Exception) -> bool:
    """Whether the server takes no writes."""
    # Redis 6 tells it of a script in words alone.
    return type(error).__name__ == "ReadOnlyError" or "read only replica" in str(error)


def explained(error: Exception, where: str) -> StoreError:
    """Says what happened and what to do next, in place of an error of redis-py's or valkey-py's."""
    # A server that does not know a command repeats its arguments, and AUTH's is the password.
    said = " ".join(str(error).partition(", with args")[0].split())[:200]
    said = said or type(error).__name__
    found = f"{' '.join(kind.__name__ for kind in type(error).__mro__)} {said}"
    advice = next(
        (text for marks, text in _ADVICE.items() if any(m in found for m in marks)), _NO_ADVICE
    )
    return StoreError(f"Redis ({where}) {advice.format(said=said)}")
