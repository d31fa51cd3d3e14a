"""Microsoft's public cloud, led to the loopback interface, and as far away as a round trip says.

Whatever asks the cloud's host is answered here: no library has to be told of another address, so
that each does what it does in production. It answers everybody, checks nothing, and counts.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import ssl
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import certifi
import trustme
from aiohttp import web

__all__ = ["HOST", "DistantCloud", "running_cloud"]

HOST = "login.microsoftonline.com"
_TENANT_ID = "11111111-2222-3333-4444-555555555555"

#: What each interpreter runs before its program, whatever the program is.
_LEADING = """
import socket

_look_up = socket.getaddrinfo


def _led(host, port, *args, **options):
    if host == {host!r}:
        host, port = "127.0.0.1", {port}
    return _look_up(host, port, *args, **options)


socket.getaddrinfo = _led
"""


class _Place(NamedTuple):
    port: int
    ca: bytes


class DistantCloud:
    """What the programs under test have to be told of it, and how often they asked.

    Args:
        pipe: The way to its process.
        folder: Where it may put files.
    """

    def __init__(self, pipe: Connection, folder: Path) -> None:
        self._pipe = pipe
        place: _Place = pipe.recv()
        # With all that a program trusts by default, since reading those takes its time as well.
        ca_file = folder / "ca.pem"
        ca_file.write_bytes(Path(certifi.where()).read_bytes() + place.ca)
        (folder / "sitecustomize.py").write_text(
            _LEADING.format(host=HOST, port=place.port), encoding="utf-8"
        )
        #: The variables that lead a new interpreter here; ``PYTHONPATH`` begins with this one.
        self.environment: dict[str, str] = {
            "PYTHONPATH": str(folder),
            "REQUESTS_CA_BUNDLE": str(ca_file),
            "SSL_CERT_FILE": str(ca_file),
            "NO_PROXY": HOST,
            "no_proxy": HOST,
        }

    def requests(self) -> int:
        """How many requests there were since the last time that this was asked."""
        self._pipe.send("requests")
        return int(self._pipe.recv())


@contextlib.contextmanager
def running_cloud(round_trip: float) -> Iterator[DistantCloud]:
    """Runs one in a process of its own, so that its work is in nobody's measurement.

    Args:
        round_trip: Seconds from a question's first byte to its answer's.
    """
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=_run, args=(theirs, round_trip), daemon=True)
    process.start()
    theirs.close()
    try:
        with TemporaryDirectory() as folder:
            yield DistantCloud(ours, Path(folder))
    finally:
        ours.close()
        process.join(10)


def _run(pipe: Connection, round_trip: float) -> None:
    with contextlib.suppress(EOFError):  # whoever started it is done
        asyncio.run(_serve(pipe, round_trip))


async def _serve(pipe: Connection, round_trip: float) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(HOST).configure_cert(context)
    answers = _Answers()
    runner = web.AppRunner(answers.app(), access_log=None)
    await runner.setup()
    loop = asyncio.get_running_loop()
    # aiohttp's side is the near end of the line, and programs connect to the far end.
    near = await loop.create_server(runner.server, "127.0.0.1", 0, ssl=context)  # type: ignore[arg-type]
    address = near.sockets[0].getsockname()
    far = await loop.create_server(lambda: _Caller(address, round_trip), "127.0.0.1", 0)
    pipe.send(_Place(far.sockets[0].getsockname()[1], authority.cert_pem.bytes()))
    while True:
        await loop.run_in_executor(None, pipe.recv)
        pipe.send(answers.count)
        answers.count = 0


class _Answers:
    """What Entra answers to a client that asks for an app's token."""

    def __init__(self) -> None:
        self.count = 0

    def app(self) -> web.Application:
        app = web.Application(middlewares=[self._counted])
        app.router.add_get("/common/discovery/instance", self._instances)
        app.router.add_get("/{tenant}/v2.0/.well-known/openid-configuration", self._metadata)
        app.router.add_post("/{tenant}/oauth2/v2.0/token", self._token)
        return app

    @web.middleware
    async def _counted(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.count += 1
        answer: web.StreamResponse = await handler(request)
        return answer

    async def _instances(self, request: web.Request) -> web.Response:
        del request
        cloud = {"preferred_network": HOST, "preferred_cache": HOST, "aliases": [HOST]}
        discovery = f"https://{HOST}/{_TENANT_ID}/v2.0/.well-known/openid-configuration"
        return web.json_response({"tenant_discovery_endpoint": discovery, "metadata": [cloud]})

    async def _metadata(self, request: web.Request) -> web.Response:
        del request
        tenant = f"https://{HOST}/{_TENANT_ID}"
        return web.json_response(
            {
                "issuer": f"{tenant}/v2.0",
                "authorization_endpoint": f"{tenant}/oauth2/v2.0/authorize",
                "token_endpoint": f"{tenant}/oauth2/v2.0/token",
                "device_authorization_endpoint": f"{tenant}/oauth2/v2.0/devicecode",
                "jwks_uri": f"{tenant}/discovery/v2.0/keys",
            }
        )

    async def _token(self, request: web.Request) -> web.Response:
        await request.read()
        token = {"access_token": "t" * 1500, "token_type": "Bearer", "expires_in": 3599}
        return web.json_response(token)


class _Line(asyncio.Protocol):
    """One end of a line: what it receives leaves the other end a while later."""

    def __init__(self, delay: float) -> None:
        self._delay = delay
        self._loop = asyncio.get_running_loop()
        #: When what was carried last arrives.
        self._last = 0.0
        self.transport: asyncio.Transport | None = None
        self.other: _Line | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - a TCP connection's is one
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.carry(lambda transport: transport.write(data))

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self.carry(lambda transport: transport.close())

    def carry(self, deed: Callable[[asyncio.Transport], object]) -> None:
        """Does it at the other end when it has got there, after all that set out before."""
        self._last = max(self._last + 1e-6, self._loop.time() + self._delay)
        self._loop.call_at(self._last, self._arrive, deed)

    def _arrive(self, deed: Callable[[asyncio.Transport], object]) -> None:
        if self.other is not None and self.other.transport is not None:
            deed(self.other.transport)


class _Caller(_Line):
    """The far end, with a program at it.

    The kernel opens a connection on the loopback interface at once. What a program sends does not
    set out before the round trip is over in which TCP would have opened it.
    """

    def __init__(self, address: tuple[str, int], round_trip: float) -> None:
        super().__init__(round_trip / 2)
        self._address = address
        self._last = self._loop.time() + round_trip + self._delay

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        other = _Line(self._delay)
        self.other, other.other = other, self
        self._task = self._loop.create_task(
            self._loop.create_connection(lambda: other, *self._address)
        )
