"""The HTTP server: an event loop in a thread of its own, and aiohttp in it."""

from __future__ import annotations

import asyncio
import contextlib
import selectors
import socket
import ssl
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, cast

from aiohttp import web

from .._runtime.forks import fork_allowed, no_fork

__all__ = ["HttpsServer", "listen"]

_BACKLOG = 512
_START_TIMEOUT = 30.0
_STOP_TIMEOUT = 30.0
#: Seconds that requests under way get to be answered when the server stops.
_DRAIN_TIMEOUT = 2.0
#: Seconds for the sockets to be closed after that.
_CUT_TIMEOUT = 10.0


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0 takes a free one.

    Raises:
        OSError: The port is taken.
    """
    address = "127.0.0.1" if host == "localhost" else host
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return socket.create_server((address, port), family=family, backlog=_BACKLOG)


class HttpsServer:
    """Serves one application until it is closed.

    Args:
        app: What answers.
        listener: Where it is asked. Closed along with the server.
        context: The TLS side of it; None without.
    """

    def __init__(
        self, app: web.Application, *, listener: socket.socket, context: ssl.SSLContext | None
    ) -> None:
        self._app = app
        self._listener = listener
        self._context = context
        self._ready: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()
        self._thread = threading.Thread(target=self._run, name="tokenmgr-emulator", daemon=True)

    def start(self) -> None:
        """Serve from now on. Whatever keeps it from that is raised here."""
        self._thread.start()
        self._ready.result(_START_TIMEOUT)

    def close(self) -> None:
        """Answer what is under way, and stop: the port and the thread are free after it."""
        loop, stop = self._ready.result(_START_TIMEOUT)
        loop.call_soon_threadsafe(stop.set)
        self._thread.join(_STOP_TIMEOUT)

    def _run(self) -> None:
        try:
            with no_fork():
                _run_to_its_end(asyncio.SelectorEventLoop(_Selector()), self._serve())
        except BaseException as error:
            if self._ready.done():
                raise
            self._ready.set_exception(error)

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(_ignore_broken_connections)
        runner = web.AppRunner(self._app, access_log=None, shutdown_timeout=_DRAIN_TIMEOUT)
        connections = _Connections()
        try:
            await runner.setup()
            server = await loop.create_server(
                lambda: _Connection(runner.server, connections),
                sock=self._listener,
                ssl=self._context,
                backlog=_BACKLOG,
            )
            stop = asyncio.Event()
            self._ready.set_result((loop, stop))
            await stop.wait()
            await _stop_accepting(server, self._listener)
        finally:
            await runner.cleanup()
            await connections.cut()
            self._listener.close()


async def _stop_accepting(server: asyncio.AbstractServer, listener: socket.socket) -> None:
    """Close the server when each connection that it has accepted has its transport.

    asyncio accepts in one turn of the loop, and makes the transport in the next. A server that is
    closed in between lets that fail half way, and nobody closes the half (CPython issue 109564).
    """
    asyncio.get_running_loop().remove_reader(listener)
    await asyncio.sleep(0)
    server.close()


class _Selector(selectors.DefaultSelector):
    """Lets the tests that have an emulator fork, only while that waits.

    A child that is forked in the middle of its work may hang in its own first TLS handshake.
    """

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        with fork_allowed():
            ready: list[tuple[selectors.SelectorKey, int]] = super().select(timeout)
            return ready


def _run_to_its_end(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, None]) -> None:
    """Does as ``asyncio.run``, which takes no event loop of one's own on Python 3.10 and 3.11."""
    try:
        loop.run_until_complete(work)
    finally:
        try:
            left = asyncio.all_tasks(loop)
            for task in left:
                task.cancel()
            if left:
                loop.run_until_complete(asyncio.wait(left))
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            loop.close()


class _Connections:
    """The connections that are open, so that none outlives the event loop.

    aiohttp lets go of a transport when it starts to close it. In TLS that takes as long as the
    client likes, and a transport that outlives its event loop is a ResourceWarning.
    """

    def __init__(self) -> None:
        self._open: dict[asyncio.Transport, socket.socket] = {}
        self._all_lost = asyncio.Event()

    def made(self, transport: asyncio.Transport) -> None:
        """Count one more."""
        # Asked for now, as a TLS transport forgets it when it is closed twice (CPython 3.11).
        self._open[transport] = transport.get_extra_info("socket")

    def lost(self, transport: asyncio.Transport) -> None:
        """Count one less."""
        self._open.pop(transport, None)
        if not self._open:
            self._all_lost.set()

    async def cut(self) -> None:
        """Close what is left, without waiting for clients to say goodbye."""
        self._all_lost.clear()
        for transport, connection in tuple(self._open.items()):
            # The same transport forgets what to abort as well: the end of its TCP stream tells it.
            transport.abort()
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        # Those in their handshake are in the loop's own list alone. A handshake that ended while
        # the loop is being closed would be followed by a goodbye, for which no time is left.
        for unsecured in list(getattr(asyncio.get_running_loop(), "_transports", {}).values()):
            unsecured.abort()
        if self._open:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._all_lost.wait(), _CUT_TIMEOUT)


class _Connection(asyncio.Protocol):
    """One of aiohttp's connections, which is counted from its start to its real end.

    Args:
        server: What makes aiohttp's side of a connection.
        connections: Where it is counted.
    """

    def __init__(self, server: web.Server | None, connections: _Connections) -> None:
        if server is None:
            raise ConnectionAbortedError("the server is being closed")
        self._inner = server()
        self._connections = connections
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._connections.made(self._transport)
        self._inner.connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._transport is not None:
            self._connections.lost(self._transport)
        self._inner.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._inner.data_received(data)

    def eof_received(self) -> None:
        self._inner.eof_received()

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()


def _ignore_broken_connections(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Say nothing of clients that hang up, or do not trust the certificate: tests do both."""
    if not isinstance(context.get("exception"), OSError):
        loop.default_exception_handler(context)
