"""Answers that are read within one deadline, whatever they drip, and are accounted for.

A socket's timeout starts anew with each piece that arrives, so that an answer that drips, header
by header, holds its reader for hours. Here it is for the whole answer.
"""

from __future__ import annotations

import http
import http.client
import io
import socket
import time
from typing import Any

__all__ = ["WholeResponse"]


class _Reader(io.RawIOBase):
    """What a socket receives until the timeout that it has now is over, once."""

    def __init__(self, received: io.RawIOBase, sock: socket.socket) -> None:
        self._received = received
        self._socket = sock
        timeout = sock.gettimeout()
        self._deadline = float("inf") if timeout is None else time.monotonic() + timeout
        #: Whether nothing more is to be read.
        self.ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self.ended:
            return None
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


class _Received(io.BufferedReader):
    """An answer as it is read; when it is closed, what was received beyond its end is left over."""

    raw: _Reader
    left_over = b""

    def close(self) -> None:
        if not self.closed:
            self.raw.ended = True
            self.left_over = self.peek(1)
        super().close()


class WholeResponse(http.client.HTTPResponse):
    """An answer that is read within the timeout that its socket has as it begins."""

    fp: Any
    headers: Any
    will_close: bool

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self._received = _Received(_Reader(self.fp.detach(), sock))
        self.fp = self._received

    def begin(self) -> None:
        """Reads its headers."""
        super().begin()
        while 100 <= self.status < 200 and self.status != http.HTTPStatus.SWITCHING_PROTOCOLS:
            # http.client reads past 100 alone, and takes any other of them for the answer, which
            # then waits for the next request (RFC 9110, section 15.2).
            self.headers = None  # for it to begin anew
            super().begin()
        if self.status == http.HTTPStatus.SWITCHING_PROTOCOLS or _is_ambiguous(self.headers):
            self.will_close = True

    @property
    def is_accounted_for(self) -> bool:
        """Whether it was read to its end, and nothing was received beyond that."""
        return self._received.closed and not self._received.left_over


def _is_ambiguous(headers: http.client.HTTPMessage) -> bool:
    """Whether two readers may find its end in two places (RFC 9112, section 6.3)."""
    lengths = headers.get_all("content-length", [])
    if "transfer-encoding" in headers:
        return lengths != []
    return len(lengths) > 1 or not all(each.strip().isdecimal() for each in lengths)
