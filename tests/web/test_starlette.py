"""An API that is made with Starlette alone, without FastAPI."""

from __future__ import annotations

import pytest
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Host, Mount, Route, Router
from starlette.testclient import TestClient
from support import bearer_headers

from tokenmgr.emulator import EntraEmulator
from tokenmgr.web.starlette import anonymous, caller, init_app, on_behalf_of, ready, required

ANN = "ann@contoso.com"
READ = "https://graph.microsoft.com/User.Read"


async def me(request: Request) -> JSONResponse:
    return JSONResponse({"oid": caller().object_id})


def me_in_a_thread(request: Request) -> JSONResponse:
    return JSONResponse({"oid": caller().object_id})


async def graph(request: Request) -> PlainTextResponse:
    return PlainTextResponse(await on_behalf_of(READ).aget_access_token())


@required("Orders.Read")
async def orders(request: Request) -> PlainTextResponse:
    return PlainTextResponse("orders")


@anonymous
class Open(HTTPEndpoint):
    async def get(self, request: Request) -> PlainTextResponse:
        return PlainTextResponse("open")


class Derived(Open):
    pass


class Closed(HTTPEndpoint):
    @required("Orders.Read")
    async def get(self, request: Request) -> PlainTextResponse:
        return PlainTextResponse("closed")


@pytest.fixture
def client(entra: EntraEmulator):
    app = Starlette(
        routes=[
            Route("/me", me),
            Route("/thread", me_in_a_thread),
            Route("/graph", graph),
            Route("/orders", orders),
            Route("/open", Open),
            Route("/closed", Closed),
            Route("/derived", Derived),
            Route("/ready", ready),
            Mount("/in", routes=[Route("/me", me)]),
            Mount("/files", app=anonymous(Router([Route("/a", Open)]))),
            Host("other", app=Router([Route("/me", me)])),
        ]
    )
    with entra.registry() as registry:
        init_app(app, registry)
        with TestClient(app, raise_server_exceptions=False) as client:
            yield client


def test_every_route_needs_a_bearer(client, entra):
    closed = ("/orders", "/closed", "/derived")
    for path in ("/me", "/thread", "/graph", *closed, "/in/me", "/nothing"):
        assert client.get(path).status_code == 401, path
    ann = bearer_headers(entra.sign_in(ANN))
    for path in ("/me", "/thread", "/in/me"):
        assert client.get(path, headers=ann).json() == {"oid": entra.add_user(ANN)}
    assert client.get("/graph", headers=ann).status_code == 200


@pytest.mark.parametrize("path", ["/open", "/ready", "/files/a"])
def test_anonymous_ones_do_not(client, path):
    assert client.get(path).status_code == 200


def test_decorated_ones_are_for_some_callers_alone(client, entra):
    for path in ("/orders", "/closed"):
        assert client.get(path, headers=bearer_headers(entra.sign_in(ANN))).status_code == 403
        reader = bearer_headers(entra.sign_in(ANN, scopes=["Orders.Read"]))
        assert client.get(path, headers=reader).status_code == 200


def test_what_goes_wrong_is_told(client, entra):
    ann = bearer_headers(entra.sign_in(ANN))
    entra.require_mfa(ANN)
    answer = client.get("/graph", headers=ann)
    assert answer.status_code == 401
    assert "claims=" in answer.headers["WWW-Authenticate"]
