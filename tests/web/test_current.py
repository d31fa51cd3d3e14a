"""What follows the current caller, and what must not."""

from __future__ import annotations

import ssl

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from support import bearer_headers

from tokenmgr import ConfigurationError, TokenRegistry
from tokenmgr.http.azure import AsyncTokenCredential, TokenCredential
from tokenmgr.http.httpx import BearerAuth
from tokenmgr.web import current, fastapi
from tokenmgr.web.current import CallersManager

ANN, BOB = "ann@contoso.com", "bob@contoso.com"
READ = "https://graph.microsoft.com/User.Read"


@pytest.fixture
def app(registry: TokenRegistry) -> FastAPI:
    app = FastAPI()
    fastapi.init_app(app, registry)
    return app


def test_one_client_of_the_program_sends_each_callers_own_token(app, entra):
    manager = CallersManager(READ)
    auth = BearerAuth(manager, hosts=[entra.url.removeprefix("https://")])
    http = httpx.Client(auth=auth, verify=ssl.create_default_context(cafile=entra.ca_file))

    @app.get("/graph")
    def graph() -> dict[str, object]:
        answer = http.get(f"{entra.url}/graph/v1.0/me").json()
        assert manager.headers() == bearer_headers(manager.get_access_token())
        return {"oid": answer["oid"]}

    with TestClient(app) as client:
        for _ in range(2):
            for user in (ANN, BOB):
                answer = client.get("/graph", headers=bearer_headers(entra.sign_in(user)))
                assert answer.json() == {"oid": entra.add_user(user)}
    http.close()


def test_a_token_that_is_refused_is_dropped_for_its_caller_alone(app, entra):
    manager = CallersManager(READ)

    @app.get("/graph")
    async def graph(drop: bool = False) -> str:
        token = await manager.aget_access_token()
        if drop:
            manager.invalidate(token)
        assert await manager.aheaders() == bearer_headers(await manager.aget_access_token())
        return token

    ann, bob = (bearer_headers(entra.sign_in(user)) for user in (ANN, BOB))
    with TestClient(app) as client:
        first = [client.get("/graph", headers=each).text for each in (ann, bob)]
        client.get("/graph?drop=true", headers=ann)
        then = [client.get("/graph", headers=each).text for each in (ann, bob)]
    assert then[0] != first[0]
    assert then[1] == first[1]


def test_outside_of_a_request_it_has_no_token():
    manager = CallersManager(READ)
    assert manager.scopes == (READ,)
    assert repr(manager) == f"<CallersManager of {READ}>"
    with pytest.raises(
        ConfigurationError, match=r"no call under way .*: call init_app\(app\) .*Django"
    ):
        manager.get_access_token()
    with pytest.raises(ConfigurationError, match="scope"):
        CallersManager()


@pytest.mark.parametrize("kind", [TokenCredential, AsyncTokenCredential])
@pytest.mark.parametrize(
    "following",
    [CallersManager(READ), current.on_behalf_of, fastapi.OnBehalfOf(READ), current.caller],
    ids=["a manager", "a function", "a dependency", "a caller"],
)
def test_a_client_that_keeps_tokens_is_given_nothing_that_follows_the_caller(kind, following):
    with pytest.raises(ConfigurationError, match="current user needs a credential"):
        kind(following)
