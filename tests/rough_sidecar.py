"""A server in the sidecar's place that answers whatever a test tells it to, byte by byte."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable

from typing_extensions import Self

#: What is sent in answer to a request.
Answer = Callable[[socket.socket], None]


def reply(
    said: object = b"",
    status: int = 200,
    *,
    kind: str = "application/json",
    headers: tuple[str, ...] = (),
) -> Answer:
    """A whole answer: bytes as they are, and all else as JSON."""
    body = said if isinstance(said, bytes) else json.dumps(said).encode()
    lines = [f"HTTP/1.1 {status} Said", f"Content-Length: {len(body)}", *headers]
    if kind:
        lines.append(f"Content-Type: {kind}")
    return raw("\r\n".join(lines).encode() + b"\r\n\r\n" + body)


def raw(answer: bytes) -> Answer:
    return lambda connection: connection.sendall(answer)


def drip(connection: socket.socket) -> None:
    """Begins an answer, and goes on a byte at a time for as long as anybody listens."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nX-Drip: ")
    while True:
        connection.sendall(b"x")
        threading.Event().wait(0.01)


def drip_content(connection: socket.socket) -> None:
    """The same in the content."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    while True:
        connection.sendall(b" ")
        threading.Event().wait(0.01)


def endless(connection: socket.socket) -> None:
    """Sends content without an end."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")
    while True:
        connection.sendall(bytes(65_536))


def hang_up(connection: socket.socket) -> None:
    """Sends nothing, and closes."""
    connection.shutdown(socket.SHUT_RDWR)


class RoughSidecar:
    """Serves on loopback, until it is closed, and notes what it is asked."""

    def __init__(self, answer: Answer) -> None:
        #: What comes next: one for each request, and the last one for all that follow.
        self.answers = [answer]
        self.requests: list[bytes] = []
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        for each in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                self._open.append(connection)
                self._threads.append(threading.Thread(target=self._serve, args=[connection]))
                self._threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            while request := _read(connection):
                self.requests.append(request)
                answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                answer(connection)


def _read(connection: socket.socket) -> bytes:
    """One request, with its body."""
    request = b""
    while b"\r\n\r\n" not in request:
        more = connection.recv(65_536)
        if not more:
            return b""
        request += more
    head, _, body = request.partition(b"\r\n\r\n")
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            while len(body) < int(line.partition(b":")[2]):
                body += connection.recv(65_536)
    return head + b"\r\n\r\n" + body
