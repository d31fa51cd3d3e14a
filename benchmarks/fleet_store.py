"""What the store's operations cost: bytes by the protocol, time and memory by a real server."""

from __future__ import annotations

import json
import secrets
import socket
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import cycle, islice
from typing import Any

import redis

from tokenmgr import AccessToken
from tokenmgr._sharing.record import record_to_bytes
from tokenmgr._sharing.seal import SealingKey
from tokenmgr.stores.base import MOST_BYTES
from tokenmgr.stores.redis.store import _COMPARE_AND_DELETE
from tokenmgr.token import Record, TokenKey

from .redis_server import running_server

__all__ = ["TOKEN_LENGTH", "Capacity", "down", "exchanges", "measure", "up", "value_length"]

#: Characters of a token: with some groups and roles in it.
TOKEN_LENGTH = 2_000
_OWNER = b"o" * 16
#: In milliseconds.
_TTL, _LEASE_TTL = "4500000", "12000"
#: A GETRANGE that finds nothing costs no more than one that finds a lease.
_TIMED = ("found", "put", "leased", "polled", "released")


def value_length() -> int:
    """Bytes of a record, sealed."""
    token = AccessToken(
        "a" * TOKEN_LENGTH,
        expires_at=1_800_000_000.25,
        refresh_at=1_800_000_000.25,
        scopes=("https://graph.microsoft.com/.default",),
    )
    owner = TokenKey(
        "https://login.microsoftonline.com/11111111-2222-3333-4444-555555555555",
        "11111111-2222-3333-4444-555555555555",
        "on_behalf_of",
        token.scopes,
        subject="s" * 43,  # a digest
    )
    record = Record(token, 1_800_000_000.25)
    content = record_to_bytes(record, json.dumps([*vars(owner).values()]))
    return len(SealingKey(b"0" * 32).seal(content, "a name"))


def up() -> dict[str, float]:
    """Bytes that each operation sends to the store."""
    return {name: float(len(request)) for name, (request, _) in exchanges().items()}


def down() -> dict[str, float]:
    """Bytes that each operation gets from the store."""
    return {name: float(len(answer)) for name, (_, answer) in exchanges().items()}


def exchanges(number: int = 0) -> dict[str, tuple[bytes, bytes]]:
    """What is sent for each operation on one of many keys, and what comes back, as RESP has it.

    In this order a server gives these answers, from a key on of which it knows nothing.
    """
    name = f"tokenmgr:{number:064x}"
    lease, value = f"{name}:lease", b"v" * value_length()
    return {
        "missed": (_get(name), b"$0\r\n\r\n"),
        "leased": (_request("SET", lease, _OWNER, "PX", _LEASE_TTL, "NX"), b"+OK\r\n"),
        "polled": (_get(lease), b"$%d\r\n%s\r\n" % (len(_OWNER), _OWNER)),
        "put": (_request("SET", name, value, "PX", _TTL), b"+OK\r\n"),
        "released": (_request("EVAL", _COMPARE_AND_DELETE, "1", lease, _OWNER), b":1\r\n"),
        "found": (_get(name), b"$%d\r\n%s\r\n" % (len(value), value)),
    }


def _get(name: str) -> bytes:
    return _request("GETRANGE", name, "0", str(MOST_BYTES))


def _request(*parts: str | bytes) -> bytes:
    encoded = [part.encode() if isinstance(part, str) else part for part in parts]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(e), e) for e in encoded)


@dataclass
class Capacity:
    """What one server does on this machine."""

    #: Connections that asked it at once, and how often each kind of operation had its turn.
    connections: int
    rounds: int
    #: Its name and version.
    server: str = ""
    #: Operations per second of each kind, and seconds of the server's processor time for one.
    rates: dict[str, float] = field(default_factory=dict)
    costs: dict[str, float] = field(default_factory=dict)
    #: Bytes of memory for each record, and for each connection.
    record: float = 0.0
    connection: float = 0.0
    #: How many clients it takes at once unless it is told otherwise.
    most_clients: int = 0


def measure(
    *, records: int = 100_000, connections: int = 500, rounds: int = 4, turn: float = 1.0
) -> Capacity:
    """Measures a real server, over loopback, without TLS.

    Args:
        records: How many records lie in it.
        connections: Each has one operation under way, as a worker has.
        rounds: How often each kind of operation has its turn. The best one counts, since what else
            the machine does can only slow it down.
        turn: Seconds of each turn.
    """
    found = Capacity(connections, rounds)
    with running_server() as server, server.client() as client, ExitStack() as stack:
        found.server, found.most_clients = _described(client)
        found.record = _fill(client, records)
        before = _memory(client)
        sockets = [stack.enter_context(_connect(client)) for _ in range(connections)]
        some = [exchanges(number) for number in range(0, records, max(1, records // 2_000))]
        for _ in range(rounds):
            for kind in _TIMED:
                requests = [each[kind][0] for each in some]
                rate, cost = _turn(client, sockets, requests, turn)
                found.rates[kind] = max(rate, found.rates.get(kind, rate))
                found.costs[kind] = min(cost, found.costs.get(kind, cost))
        found.connection = (_memory(client) - before) / connections
    return found


def _described(client: redis.Redis) -> tuple[str, int]:
    """Gives a server's name and version, and how many clients it takes."""
    info: Any = client.info()
    name = info.get("server_name", "redis").capitalize()
    settings: Any = client.config_get("maxclients")
    return f"{name} {info.get('valkey_version', info['redis_version'])}", int(
        settings["maxclients"]
    )


def _fill(client: redis.Redis, records: int) -> float:
    """Puts so many records, and gives the bytes of memory that each takes."""
    before = _memory(client)
    value = secrets.token_bytes(value_length())
    with client.pipeline(transaction=False) as pipe:
        for number in range(records):
            pipe.set(f"tokenmgr:{number:064x}", value, px=int(_TTL))
            if number % 1000 == 0:
                pipe.execute()
        pipe.execute()
    return (_memory(client) - before) / records


def _memory(client: redis.Redis) -> int:
    info: Any = client.info("memory")
    return int(info["used_memory"])


def _connect(client: redis.Redis) -> socket.socket:
    settings = client.get_connection_kwargs()
    connected = socket.create_connection(("127.0.0.1", settings["port"]))
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connected


def _turn(
    client: redis.Redis, sockets: Sequence[socket.socket], requests: Sequence[bytes], turn: float
) -> tuple[float, float]:
    """Has every connection ask again as soon as all have their answers.

    Returns:
        Operations per second, and seconds of the server's processor time for each.
    """
    source, done = cycle(requests), 0
    used, start = _used(client), time.perf_counter()
    while time.perf_counter() - start < turn:
        for each, request in zip(sockets, islice(source, len(sockets)), strict=True):
            each.sendall(request)
        for each in sockets:
            _receive(each)
        done += len(sockets)
    took = time.perf_counter() - start
    return done / took, (_used(client) - used) / done


def _receive(connected: socket.socket) -> None:
    answer = connected.recv(65_536)
    if answer.startswith(b"-"):
        raise RuntimeError(f"the server answers {answer.decode()!r}: what is measured is wrong")
    # A record comes as "$length\r\n…\r\n"; every other answer is short.
    size = int(answer[1 : answer.index(b"\r\n")]) if answer.startswith(b"$") else 0
    missing = answer.index(b"\r\n") + 2 + size + 2 - len(answer) if size > 0 else 0
    while missing > 0:
        missing -= len(connected.recv(65_536))


def _used(client: redis.Redis) -> float:
    """Seconds of processor time that the server has used."""
    info: Any = client.info("cpu")
    return float(info["used_cpu_user"]) + float(info["used_cpu_sys"])
