"""Websockets of an API: the bearer of their handshake, and what happens to who has none."""

from __future__ import annotations

import programs
import pytest
from fastapi import FastAPI, WebSocket
from fastapi.testclient import TestClient
from starlette.testclient import WebSocketDenialResponse
from starlette.websockets import WebSocketDisconnect
from support import bearer_headers
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tokenmgr import TokenRegistry
from tokenmgr.emulator import EntraEmulator
from tokenmgr.web import current
from tokenmgr.web.fastapi import CurrentCaller, anonymous, init_app

ANN = "ann@contoso.com"
READ = "https://graph.microsoft.com/User.Read"


def application(registry: TokenRegistry | None = None) -> FastAPI:
    """An API of nothing but websockets."""
    app = FastAPI()
    init_app(app, registry)

    @app.websocket("/echo")
    async def echo(socket: WebSocket, caller: CurrentCaller) -> None:
        await socket.accept()
        await socket.send_json([caller.object_id, current.caller().object_id])
        await socket.close()

    @app.websocket("/graph")
    async def graph(socket: WebSocket) -> None:
        await socket.accept()
        async for _ in socket.iter_text():
            await socket.send_text(await current.on_behalf_of(READ).aget_access_token())

    @app.websocket("/open")
    @anonymous
    async def opened(socket: WebSocket) -> None:
        await socket.accept()
        await socket.close()

    return app


@pytest.fixture
def client(entra: EntraEmulator):
    with entra.registry() as registry, TestClient(application(registry)) as client:
        yield client


def test_the_handshakes_bearer_says_who_calls(client, entra):
    with client.websocket_connect("/echo", headers=bearer_headers(entra.sign_in(ANN))) as socket:
        one, other = socket.receive_json()
    assert one == other == entra.add_user(ANN)


def test_who_is_refused_is_answered_as_a_request_would_be(client):
    for path in ("/echo", "/nothing"):
        with pytest.raises(WebSocketDenialResponse) as denied, client.websocket_connect(path):
            pass
        assert denied.value.status_code == 401
        assert denied.value.headers["WWW-Authenticate"] == 'Bearer realm=""'


def test_an_anonymous_one_is_open(client):
    with client.websocket_connect("/open"):
        pass


async def test_a_server_without_such_answers_sends_its_own(entra):
    with entra.registry() as registry:
        sent = []

        async def send(message):
            sent.append(message)

        scope = {
            "type": "websocket",
            "path": "/echo",
            "headers": [],
            "query_string": b"",
            "subprotocols": [],
        }
        await application(registry)(scope, None, send)
    assert [each["type"] for each in sent] == ["websocket.close"]
    assert sent[0]["code"] == 1008


@pytest.mark.parametrize(
    ("trouble", "code", "reason"),
    [("mfa", 1008, "insufficient_claims"), ("outage", 1013, "temporarily_unavailable")],
)
def test_what_goes_wrong_later_closes_it(client, entra, trouble, code, reason):
    with client.websocket_connect("/graph", headers=bearer_headers(entra.sign_in(ANN))) as socket:
        if trouble == "mfa":
            entra.require_mfa(ANN)
        else:
            entra.fail_next(9, status=503)
        socket.send_text("go on")
        with pytest.raises(WebSocketDisconnect) as closed:
            socket.receive_text()
    assert (closed.value.code, closed.value.reason) == (code, reason)


@pytest.mark.uncovered
@pytest.mark.parametrize("implementation", ["websockets-sansio", "wsproto"])
def test_a_real_server_does_the_same(entra, implementation):
    with programs.serving(
        *("uvicorn", "--factory", "test_websockets:application"),
        *("--app-dir", str(programs.TESTS / "web"), "--ws", implementation),
        **(entra.environment() | programs.with_tests()),
    ) as served:
        url = served.url.replace("http", "ws")
        with pytest.raises(InvalidStatus) as refused:
            connect(f"{url}/echo")
        assert refused.value.response.status_code == 401
        assert refused.value.response.headers["WWW-Authenticate"] == 'Bearer realm=""'
        with connect(
            f"{url}/echo", additional_headers=bearer_headers(entra.sign_in(ANN))
        ) as socket:
            assert entra.add_user(ANN) in str(socket.recv())
