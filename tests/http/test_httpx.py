"""BearerAuth for httpx and httpx2, sync and async: what every client's does, and their own."""

from __future__ import annotations

import asyncio
import contextlib
import io
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from types import ModuleType
from typing import Any

import httpx
import httpx2
import pytest
from http_api import Refusal
from http_compliance import (
    AsyncCompliance,
    AsyncDriver,
    ClosedAtItsEnd,
    Compliance,
    Driver,
    Reply,
    async_generator,
    generator,
)

import tokenmgr.http.httpx
import tokenmgr.http.httpx2
from tokenmgr import HostNotAllowedError

MODULES = {httpx: tokenmgr.http.httpx, httpx2: tokenmgr.http.httpx2}
LIBRARIES = pytest.mark.parametrize("library", MODULES, ids=["httpx", "httpx2"])


class Unseekable(io.BytesIO):
    """Has httpx send it in chunks, as it cannot tell how long it is."""

    def seek(self, offset: int, whence: int = 0) -> int:
        raise io.UnsupportedOperation("seek")


class HttpxDriver(Driver):
    library: ModuleType = httpx
    auth = tokenmgr.http.httpx.BearerAuth
    repeatable = {
        "bytes": (lambda: b"bytes", b"bytes"),
        "text": (lambda: "text", b"text"),
        "form": (lambda: {"data": {"a": "1"}}, b"a=1"),
        "JSON": (lambda: {"json": [1]}, b"[1]"),
        "file": (lambda: io.BytesIO(b"file"), b"file"),
        "nothing": (lambda: None, b""),
    }
    once = {
        "generator": generator,
        "unseekable": lambda: Unseekable(b"one two"),
        "closed": lambda: ClosedAtItsEnd(b"one two"),
    }

    def __init__(self, ca_file: str) -> None:
        super().__init__(ca_file)
        context = ssl.create_default_context(cafile=ca_file)
        self._client = self.library.Client(verify=context, timeout=30)

    def send(self, auth: Any, url: str, **request: Any) -> Reply:
        method, arguments = as_httpx(**request)
        answer = self._client.request(method, url, auth=auth, **arguments)
        return Reply(answer.status_code, answer.content)

    @contextlib.contextmanager
    def streaming(self, auth: Any, url: str) -> Iterator[Callable[[], bytes]]:
        with self._client.stream("GET", url, auth=auth) as answer:
            pieces = answer.iter_bytes()
            yield lambda: next(pieces)

    def close(self) -> None:
        self._client.close()


class Httpx2Driver(HttpxDriver):
    library = httpx2
    auth = tokenmgr.http.httpx2.BearerAuth


class AsyncHttpxDriver(AsyncDriver):
    library: ModuleType = httpx
    auth = tokenmgr.http.httpx.BearerAuth
    repeatable = {k: v for k, v in HttpxDriver.repeatable.items() if k != "file"}
    once = {"generator": async_generator}

    def client(self) -> Any:
        context = ssl.create_default_context(cafile=self.ca_file)
        return self.library.AsyncClient(verify=context, timeout=30)

    async def asend(self, client: Any, auth: Any, url: str, **request: Any) -> Reply:
        method, arguments = as_httpx(**request)
        answer = await client.request(method, url, auth=auth, **arguments)
        return Reply(answer.status_code, answer.content)

    @contextlib.asynccontextmanager
    async def astreaming(
        self, client: Any, auth: Any, url: str
    ) -> AsyncIterator[Callable[[], Coroutine[Any, Any, bytes]]]:
        async with (
            client.stream("GET", url, auth=auth) as answer,
            contextlib.aclosing(answer.aiter_bytes()) as pieces,
        ):
            yield pieces.__anext__


class AsyncHttpx2Driver(AsyncHttpxDriver):
    library = httpx2
    auth = tokenmgr.http.httpx2.BearerAuth


def as_httpx(
    method: str = "GET",
    headers: dict[str, str] | None = None,
    body: Any = None,
    *,
    redirects: bool = True,
) -> tuple[str, dict[str, Any]]:
    content = body if isinstance(body, dict) else {"content": body}
    return method, {"headers": headers, "follow_redirects": redirects, **content}


class TestHttpx(Compliance):
    driver_class = HttpxDriver


class TestHttpx2(Compliance):
    driver_class = Httpx2Driver


class TestAsyncHttpx(AsyncCompliance):
    driver_class = AsyncHttpxDriver


class TestAsyncHttpx2(AsyncCompliance):
    driver_class = AsyncHttpx2Driver


@pytest.mark.parametrize(
    ("library", "other"), [(httpx, httpx2), (httpx2, httpx)], ids=["httpx", "httpx2"]
)
def test_each_refuses_the_others_class(library, other, manager):
    theirs = MODULES[other].BearerAuth(manager)
    for client in (library.Client, library.AsyncClient):
        with pytest.raises(TypeError, match=rf"tokenmgr\.http\.{other.__name__}\.BearerAuth"):
            client(auth=theirs)


@pytest.fixture
def client(request, ca_file):
    library = request.getfixturevalue("library")
    with library.Client(verify=ssl.create_default_context(cafile=ca_file)) as client:
        yield client


@LIBRARIES
def test_the_refused_answer_is_in_the_history_and_its_connection_serves_again(
    library, client, api, manager
):
    api.refusals = {"Bearer token-1": Refusal(bomb=True)}
    client.auth = MODULES[library].BearerAuth(manager, hosts="127.0.0.1")
    answer = client.get(api.url())
    assert [(each.status_code, each.content) for each in answer.history] == [(401, b"")]
    assert "Content-Encoding" not in answer.history[0].headers  # which has no content
    assert answer.request.headers["Authorization"] == "Bearer token-2"
    assert len({asked.connection for asked in api.asked}) == 1


@LIBRARIES
def test_a_request_that_is_sent_again_carries_the_token_of_its_time(library, client, api, manager):
    auth = MODULES[library].BearerAuth(manager, hosts="127.0.0.1")
    request = client.build_request("GET", api.url())
    client.send(request, auth=auth)
    manager.refresh_access_token()
    client.send(request, auth=auth)
    assert api.tokens == ["Bearer token-1", "Bearer token-2"]


@LIBRARIES
@pytest.mark.parametrize(("file", "count"), [(io.BytesIO, 2), (Unseekable, 1), (ClosedAtItsEnd, 1)])
def test_a_form_with_a_file_is_sent_again_where_the_file_can_be(
    library, client, api, manager, file, count
):
    auth = MODULES[library].BearerAuth(manager, hosts="127.0.0.1")
    api.refused = {"Bearer token-1"}
    client.post(api.url(), auth=auth, files={"file": ("name.txt", file(b"content"))})
    assert [b"content" in asked.body for asked in api.asked] == [True] * count


@LIBRARIES
def test_proxies_of_the_clients_own_get_no_token(library, plain, proxy, manager, source):
    auth = MODULES[library].BearerAuth(manager, hosts="127.0.0.1")
    for settings in (
        {"proxy": proxy.url},
        {"mounts": {"http://127.0.0.1": library.HTTPTransport(proxy=proxy.url)}},
        {"proxy": library.Proxy(proxy.url)},
    ):
        with (
            library.Client(auth=auth, **settings) as client,
            pytest.raises(HostNotAllowedError, match="proxy"),
        ):
            client.get(plain.url)
    assert plain.asked == proxy.asked == []
    assert source.fetches == 0


@LIBRARIES
def test_a_transport_of_the_programs_own_gets_no_token_in_the_clear(library, manager, source):
    class Own(library.BaseTransport):
        def handle_request(self, request: Any) -> Any:
            return library.Response(200)

    auth = MODULES[library].BearerAuth(manager, hosts="127.0.0.1")
    with library.Client(auth=auth, transport=Own()) as client:
        with pytest.raises(HostNotAllowedError, match="transport"):
            client.get("http://127.0.0.1/")
        assert source.fetches == 0
        assert client.get("https://127.0.0.1/").status_code == 200


@LIBRARIES
def test_a_transport_that_sends_nothing_is_served(library, manager):
    auth = MODULES[library].BearerAuth(manager, hosts="127.0.0.1")

    def answer(request: Any) -> Any:
        return library.Response(200, text=request.headers["Authorization"])

    with library.Client(auth=auth, transport=library.MockTransport(answer)) as client:
        assert client.get("http://127.0.0.1/").text == "Bearer token-1"


@LIBRARIES
def test_a_flow_that_is_run_by_hand_gets_no_token_in_the_clear(library, manager):
    auth = MODULES[library].BearerAuth(manager, hosts="127.0.0.1")
    with pytest.raises(HostNotAllowedError):
        next(auth.sync_auth_flow(library.Request("GET", "http://127.0.0.1/")))


@LIBRARIES
def test_a_sync_client_that_has_to_wait_in_a_loop_is_told_what_to_await(
    library, api, manager, ca_file
):
    auth = MODULES[library].BearerAuth(manager, hosts="127.0.0.1")
    context = ssl.create_default_context(cafile=ca_file)

    async def call() -> int:
        with library.Client(verify=context, auth=auth) as client:
            return client.get(api.url()).status_code

    with pytest.warns(RuntimeWarning, match=r"await aget_token\(\)"):
        assert asyncio.run(call()) == 200
    assert asyncio.run(call()) == 200  # which waits for nothing
