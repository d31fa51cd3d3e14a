"""What one operation may cost, in seconds and bytes, and redis-py's connections that keep to it.

redis-py's timeouts are for one ``recv()`` each: a server that sends a byte now and then keeps an
operation for as long as it likes. These are lowered as the operation's time goes by.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import redis

from ..base import MOST_BYTES

__all__ = ["Bounds", "bounded"]

#: Beside a value, an answer has a few bytes; errors have a line.
_MOST_RECEIVED = 2 * MOST_BYTES
_LEAST = 0.001


class Bounds(threading.local):
    """What the operation of this thread may cost still; anything outside of one.

    Args:
        seconds: How long an operation may take, whatever it waits for.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._ends = float("inf")
        self._bytes = float("inf")

    @contextlib.contextmanager
    def operation(self) -> Iterator[None]:
        """Bounds what runs in the block."""
        before = self._ends, self._bytes
        try:
            self._ends, self._bytes = time.monotonic() + self._seconds, _MOST_RECEIVED
            yield
        finally:
            self._ends, self._bytes = before

    def at_most(self, seconds: float) -> float:
        """Seconds to wait for what may take so many; more than none, which would not be to wait."""
        return max(_LEAST, min(seconds, self._ends - time.monotonic()))

    def check(self) -> None:
        """Looks whether there is time left.

        Raises:
            TimeoutError: There is none.
        """
        if time.monotonic() >= self._ends:
            raise TimeoutError("timed out")

    def received(self, count: int) -> None:
        """Notes that so many bytes came.

        Raises:
            redis.InvalidResponse: They are more than was asked for.
        """
        self._bytes -= count
        if self._bytes < 0:
            raise redis.InvalidResponse("more than was asked for")


def bounded(
    kind: type[redis.Connection], bounds: Bounds, *, connect: float, read: float
) -> type[redis.Connection]:
    """Makes a class of connections that keep to the bounds.

    Args:
        kind: redis-py's class: of TCP, of TLS, or of Unix sockets.
        bounds: What an operation may cost.
        connect: Seconds for each address of the host, and for a TLS handshake.
        read: Seconds for each part of an answer.
    """

    class Bounded(kind):  # type: ignore[misc,valid-type]
        # What redis-py sets these to is what is given here. Both are asked when it connects; a TLS
        # handshake has the second as a whole.
        @property
        def socket_connect_timeout(self) -> float:
            return bounds.at_most(connect)

        @socket_connect_timeout.setter
        def socket_connect_timeout(self, seconds: float) -> None:
            pass

        @property
        def socket_timeout(self) -> float:
            return bounds.at_most(read)

        @socket_timeout.setter
        def socket_timeout(self, seconds: float) -> None:
            pass

        def _connect(self) -> Any:
            return _BoundedSocket(super()._connect(), bounds, read)

    return Bounded


class _BoundedSocket:
    """A socket whose every wait is bounded."""

    __slots__ = ("_bounds", "_looks", "_read", "_socket")

    def __init__(self, plain: socket.socket, bounds: Bounds, read: float) -> None:
        self._socket = plain
        self._bounds = bounds
        self._read = read
        #: Whether it takes what is there, and does not wait.
        self._looks = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)

    def settimeout(self, seconds: float | None) -> None:
        self._looks = seconds == 0

    def recv(self, size: int, flags: int = 0) -> bytes:
        self._wait_no_longer()
        # TLS takes no flags, not even none.
        data = self._socket.recv(size, flags) if flags else self._socket.recv(size)
        self._bounds.received(len(data))
        return data

    def recv_into(self, buffer: bytearray) -> int:  # hiredis's way
        self._wait_no_longer()
        count = self._socket.recv_into(buffer)
        self._bounds.received(count)
        return count

    def sendall(self, data: bytes) -> None:
        self._wait_no_longer()
        self._socket.sendall(data)

    def _wait_no_longer(self) -> None:
        if not self._looks:
            self._bounds.check()
        self._socket.settimeout(0.0 if self._looks else self._bounds.at_most(self._read))
