"""Servers that HTTP clients are tested with: an API over TLS, and one without or a proxy."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gzip
import http.server
import ssl
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import trustme
from aiohttp import web

from tokenmgr.emulator.serving import HttpsServer, listen

#: Bytes of a body that is compressed to some 64 KiB.
BOMB = 64 * 1024 * 1024
#: Bytes of a body without an end, to which no test should get.
ENDLESS = 128 * 1024 * 1024


@dataclass(frozen=True)
class Asked:
    """A request as the API got it."""

    method: str
    path: str
    #: The header as it is; None when there was none.
    authorization: str | None
    cookie: str | None
    body: bytes
    #: Which connection it came by.
    connection: object


@dataclass(frozen=True)
class Refusal:
    """How a token is refused."""

    status: int = 401
    #: The values of ``WWW-Authenticate``.
    challenges: tuple[str, ...] = ()
    bomb: bool = False
    #: Whether its body goes on until the client hangs up.
    endless: bool = False


class Api:
    """Answers 200 to a token, and 401 to none and to those that it was told to refuse."""

    def __init__(self) -> None:
        self.port = 0
        self.asked: list[Asked] = []
        self.refused: set[str] = set()
        #: How those are refused that are refused in another way than by a bare 401.
        self.refusals: dict[str | None, Refusal] = {}
        #: Paths that redirect, each with its status and its location.
        self.redirects: dict[str, tuple[int, str]] = {}
        self.before_answer: Callable[[Asked], Awaitable[None]] | None = None
        #: Answers to ``/held`` and the end of ``/stream`` wait for it.
        self.let_go = threading.Event()
        #: Bytes of the body without an end that somebody has taken.
        self.went_on = 0
        self.let_go.set()
        #: Set while one of these waits.
        self.held = threading.Event()

    def url(self, path: str = "/", *, host: str = "127.0.0.1") -> str:
        return f"https://{host}:{self.port}{path}"

    @property
    def tokens(self) -> list[str | None]:
        """What came in the requests' Authorization headers, in order."""
        return [asked.authorization for asked in self.asked]

    async def answer(self, request: web.Request) -> web.StreamResponse:
        asked = Asked(
            method=request.method,
            path=request.path,
            authorization=request.headers.get("Authorization"),
            cookie=request.headers.get("Cookie"),
            body=await request.read(),
            connection=request.transport,
        )
        self.asked.append(asked)
        if self.before_answer is not None:
            await self.before_answer(asked)
        refusal = self._refusal(asked)
        told = asked.authorization in self.refused or asked.authorization in self.refusals
        if asked.path in self.redirects and not told:
            status, location = self.redirects[asked.path]
            return web.Response(status=status, headers={"Location": location})
        if refusal is not None and refusal.endless:
            return await self._go_on(request)
        if refusal is not None:
            return _refused(refusal)
        if asked.path == "/held":
            await self.hold()
        if asked.path == "/stream":
            return await self._stream(request)
        return web.Response(text="served " * 20_000, headers={"X-Served": "yes"})

    def _refusal(self, asked: Asked) -> Refusal | None:
        if asked.authorization in self.refusals:
            return self.refusals[asked.authorization]
        refused = asked.authorization is None or asked.authorization in self.refused
        return Refusal() if refused else None

    async def hold(self) -> None:
        """Waits until the test lets go."""
        self.held.set()
        while not self.let_go.is_set():
            await asyncio.sleep(0.002)

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        stream = web.StreamResponse()
        await stream.prepare(request)
        await stream.write(b"first ")
        await self.hold()
        await stream.write(b"last")
        return stream

    async def _go_on(self, request: web.Request) -> web.StreamResponse:
        stream = web.StreamResponse(status=401)
        await stream.prepare(request)
        with contextlib.suppress(ConnectionError):
            while self.went_on < ENDLESS and request.transport is not None:
                await stream.write(bytes(65_536))
                self.went_on += 65_536
                await asyncio.sleep(0)  # in which it is told that the client has hung up
        return stream


def _refused(refusal: Refusal) -> web.Response:
    if refusal.bomb:
        answer = web.Response(status=refusal.status, body=bomb())
        answer.headers["Content-Encoding"] = "gzip"
    else:
        # Long enough that a connection with it unread does not serve another request.
        answer = web.Response(status=refusal.status, text="refused " * 20_000)
    answer.set_cookie("affinity", "node-7")
    for challenge in refusal.challenges:
        answer.headers.add("WWW-Authenticate", challenge)
    return answer


@functools.cache
def bomb() -> bytes:
    """A small body that is large when it is decompressed."""
    return gzip.compress(bytes(BOMB))


def serve(api: Api, authority: trustme.CA) -> HttpsServer:
    """Serves an API at a free port, over TLS, by the names 127.0.0.1 and localhost."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1", "*.example.com").configure_cert(context)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", api.answer)
    listener = listen("127.0.0.1", 0)
    api.port = listener.getsockname()[1]
    server = HttpsServer(app, listener=listener, context=context)
    server.start()
    return server


class Server(http.server.ThreadingHTTPServer):
    """An API without TLS, or a proxy: it notes what it is asked, and with which token."""

    daemon_threads = False

    def __init__(self) -> None:
        self.asked: list[tuple[str, str | None]] = []
        super().__init__(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self.server_address[1]}"
        self.url = f"http://{self.host}"
        self._thread = threading.Thread(target=self.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self.shutdown()
        self.server_close()
        self._thread.join()


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers["Authorization"]))
        redirected = self.path.endswith("/moved")
        self.send_response(302 if redirected else 200)
        if redirected:
            self.send_header("Location", "/there")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass
