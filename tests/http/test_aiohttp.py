"""BearerAuth for aiohttp: what every client's does, and what is aiohttp's own."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import io
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from http_compliance import AsyncCompliance, AsyncDriver, Reply, async_generator, file_at

from tokenmgr import HostNotAllowedError
from tokenmgr.http.aiohttp import BearerAuth

#: On Python 3.10 a TLS transport does not end before the server has said goodbye.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed (transport|<socket)")


class AiohttpDriver(AsyncDriver):
    auth = BearerAuth
    repeatable = {
        "bytes": (lambda: b"bytes", b"bytes"),
        "text": (lambda: "text", b"text"),
        "form": (lambda: {"a": "1"}, b"a=1"),
        "file": (lambda: io.BytesIO(b"file"), b"file"),
        "file from where it stands": (lambda: file_at(b"skipped file", 8), b"file"),
        "nothing": (lambda: None, b""),
    }
    once = {"generator": async_generator}
    proxy_variable = {"HTTP_PROXY": "HTTP_PROXY", "http_proxy": "http_proxy"}

    @contextlib.asynccontextmanager
    async def client(self) -> AsyncIterator[aiohttp.ClientSession]:
        context = ssl.create_default_context(cafile=self.ca_file)
        connector = aiohttp.TCPConnector(ssl=context)
        # Addresses have no cookies by RFC 6265, and the servers of tests have no names.
        async with aiohttp.ClientSession(
            connector=connector, cookie_jar=aiohttp.CookieJar(unsafe=True), trust_env=True
        ) as session:
            yield session
            await connector.close(abort_ssl=True)  # which says goodbye for longer than loops live
            for _ in range(3):
                await asyncio.sleep(0)

    async def asend(
        self,
        client: aiohttp.ClientSession,
        auth: BearerAuth,
        url: str,
        *,
        method: str = "GET",
        headers: dict[str, str] | None = None,
        body: Any = None,
        redirects: bool = True,
    ) -> Reply:
        async with client.request(
            method,
            url,
            middlewares=(auth,),
            headers=headers,
            data=body,
            allow_redirects=redirects,
        ) as answer:
            return Reply(answer.status, await answer.read())

    def close(self) -> None:
        super().close()
        if sys.version_info < (3, 11):
            gc.collect()  # while its warnings are ignored

    @contextlib.asynccontextmanager
    async def astreaming(
        self, client: aiohttp.ClientSession, auth: BearerAuth, url: str
    ) -> AsyncIterator[Callable[[], Coroutine[Any, Any, bytes]]]:
        async with client.get(url, middlewares=(auth,)) as answer:
            yield answer.content.readany


class TestAiohttp(AsyncCompliance):
    driver_class = AiohttpDriver


@pytest.fixture
def auth(manager):
    return BearerAuth(manager, hosts="127.0.0.1")


async def test_a_sessions_own_middleware_serves_all_of_its_requests(api, auth, ca_file):
    context = ssl.create_default_context(cafile=ca_file)
    async with aiohttp.ClientSession(middlewares=(auth,)) as session:
        for _ in range(2):
            async with session.get(api.url(), ssl=context) as answer:
                assert answer.status == 200
    assert api.tokens == ["Bearer token-1"] * 2


async def test_a_requests_own_proxy_gets_no_token(auth, plain, proxy, source):
    async with aiohttp.ClientSession(middlewares=(auth,)) as session:
        with pytest.raises(HostNotAllowedError, match="proxy"):
            await session.get(plain.url, proxy=proxy.url)
    assert plain.asked == proxy.asked == []
    assert source.fetches == 0


@contextlib.asynccontextmanager
async def serving(answer: Callable[[web.Request], Any]) -> AsyncIterator[str]:
    """A server without TLS; gives where it is, without a scheme."""
    app = web.Application(client_max_size=2**30)
    app.router.add_route("*", "/", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def test_a_body_that_is_refused_before_it_is_all_sent_is_sent_again_whole(auth):
    content, arrived = bytes(range(256)) * 40_000, []

    async def answer(request: web.Request) -> web.Response:
        if request.headers["Authorization"] == "Bearer token-1":
            return web.Response(status=401)
        arrived.append(await request.read())
        return web.Response()

    async with (
        serving(answer) as there,
        aiohttp.ClientSession(middlewares=(auth,)) as session,
        session.put(f"http://{there}/", data=io.BytesIO(content)) as reply,
    ):
        assert reply.status == 200
    assert arrived == [content]


async def test_a_websocket_carries_the_token(auth):
    seen: list[str | None] = []

    async def serve(request: web.Request) -> web.StreamResponse:
        seen.append(request.headers.get("Authorization"))
        if len(seen) == 1:
            return web.Response(status=401)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_str("hello")
        return socket

    async with serving(serve) as there, aiohttp.ClientSession(middlewares=(auth,)) as session:
        async with session.ws_connect(f"ws://{there}/") as socket:
            assert await socket.receive_str() == "hello"
        with pytest.raises(HostNotAllowedError):
            await session.ws_connect("ws://api.example/")
    assert seen == ["Bearer token-1", "Bearer token-2"]


class ToThisMachine(aiohttp.abc.AbstractResolver):
    """Has every name lead to 127.0.0.1."""

    async def resolve(self, host: str, port: int = 0, family: Any = socket.AF_INET) -> Any:
        found = {"hostname": host, "host": "127.0.0.1", "port": port}
        return [found | {"family": socket.AF_INET, "proto": 0, "flags": 0}]

    async def close(self) -> None:
        pass


async def test_a_redirect_that_comes_back_to_the_only_host_carries_no_token(api, manager, ca_file):
    context = ssl.create_default_context(cafile=ca_file)
    connector = aiohttp.TCPConnector(ssl=context, resolver=ToThisMachine())
    auth = BearerAuth(manager, hosts=f"api.example.com:{api.port}")
    api.redirects = {
        "/moved": (302, api.url("/there", host="evil.example.com")),
        "/there": (302, api.url("/back", host="api.example.com")),
    }
    async with aiohttp.ClientSession(middlewares=(auth,), connector=connector) as session:
        for path in ("/moved", "/1", "/2"):
            async with session.get(api.url(path, host="api.example.com")):
                pass
        with pytest.raises(HostNotAllowedError):
            await session.get(api.url(host="evil.example.com"))
    assert api.tokens == ["Bearer token-1", None, None] + ["Bearer token-1"] * 2


async def test_a_middleware_in_front_of_it_may_hand_it_to_another_task(api, auth, ca_file):
    async def elsewhere(req: Any, handler: Any) -> Any:
        return await asyncio.create_task(handler(req))

    context = ssl.create_default_context(cafile=ca_file)
    api.redirects = {"/moved": (302, api.url("/there", host="localhost"))}
    async with aiohttp.ClientSession(middlewares=(elsewhere, auth)) as session:
        async with session.get(api.url(), ssl=context) as answer:
            assert answer.status == 200
        # Nobody can tell here that it is a redirect: it is a host that the token is not bound to.
        with pytest.raises(HostNotAllowedError):
            await session.get(api.url("/moved"), ssl=context)
    assert api.tokens == ["Bearer token-1"] * 2


async def test_what_sends_a_request_again_in_front_of_it_has_the_token_of_that_moment(
    api, auth, ca_file, manager
):
    async def twice(req: Any, handler: Any) -> Any:
        (await handler(req)).release()
        await manager.arefresh_access_token()
        api.refused = {"Bearer token-2"}
        return await handler(req)

    context = ssl.create_default_context(cafile=ca_file)
    async with (
        aiohttp.ClientSession(middlewares=(twice, auth)) as session,
        session.get(api.url(), ssl=context) as answer,
    ):
        assert answer.status == 200
    assert api.tokens == ["Bearer token-1", "Bearer token-2", "Bearer token-3"]


async def test_what_another_one_has_put_there_is_left_alone(api, auth, ca_file, manager):
    context = ssl.create_default_context(cafile=ca_file)
    other = BearerAuth(manager, hosts="orders.contoso.com")
    async with (
        aiohttp.ClientSession(middlewares=(auth, other)) as session,
        session.get(api.url(), ssl=context) as answer,
    ):
        assert answer.status == 200
