"""Microsoft Graph's client, msgraph-sdk: by Kiota's provider, by httpx, and by a credential."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sdk_scenarios import Scenarios, Sdk, Way, in_a_loop

from tokenmgr.emulator import EntraEmulator

SDKS = ("msgraph.generated.users.users_request_builder",)
SCOPE = "https://graph.microsoft.com/.default"
HOST = "127.0.0.1"

AsyncCall = Callable[[], Coroutine[Any, Any, str]]


def http(ca_file: str, auth: Any = None) -> Any:
    import httpx

    context = ssl.create_default_context(cafile=ca_file)
    return httpx.AsyncClient(verify=context, auth=auth)


@asynccontextmanager
async def graph(url: str, authentication: Any, client: Any) -> AsyncIterator[Any]:
    """The client as its users make it, led to this machine."""
    from msgraph import GraphRequestAdapter, GraphServiceClient

    async with client:
        adapter = GraphRequestAdapter(authentication, client=client)
        adapter.base_url = url
        yield GraphServiceClient(request_adapter=adapter)


@asynccontextmanager
async def users(way: Way, authentication: Any, client: Any) -> AsyncIterator[Any]:
    async with graph(way.api.url("/v1.0"), authentication, client) as service:

        async def call() -> str:
            found = await service.users.get()
            return str(found.value[0].id)

        yield call


def bearer(manager: Any, hosts: str) -> Any:
    from kiota_abstractions.authentication import BaseBearerTokenAuthenticationProvider

    from tokenmgr.http.kiota import AccessTokenProvider

    return BaseBearerTokenAuthenticationProvider(AccessTokenProvider(manager, hosts=hosts))


@asynccontextmanager
async def by_provider(way: Way) -> AsyncIterator[AsyncCall]:
    authentication = bearer(way.tokens.manager(SCOPE), HOST)
    async with users(way, authentication, http(way.ca_file)) as call:
        yield call


@asynccontextmanager
async def by_httpx(way: Way) -> AsyncIterator[AsyncCall]:
    from kiota_abstractions.authentication import AnonymousAuthenticationProvider
    from msgraph_core import GraphClientFactory

    from tokenmgr.http.httpx import BearerAuth

    # With the middleware that Graph's client has where it makes its own.
    auth = BearerAuth(way.tokens.manager(SCOPE), hosts=HOST)
    client = http(way.ca_file, auth)
    sending = client._transport
    client = GraphClientFactory.create_with_default_middleware(client=client)
    async with users(way, AnonymousAuthenticationProvider(), client) as call:
        yield call
    await sending.aclose()  # which Kiota's own transport leaves open


@asynccontextmanager
async def by_credential(way: Way) -> AsyncIterator[AsyncCall]:
    from kiota_authentication_azure.azure_identity_authentication_provider import (
        AzureIdentityAuthenticationProvider,
    )

    from tokenmgr.http.azure import AsyncTokenCredential

    authentication = AzureIdentityAuthenticationProvider(
        AsyncTokenCredential(way.tokens), scopes=[SCOPE], allowed_hosts=[HOST]
    )
    async with users(way, authentication, http(way.ca_file)) as call:
        yield call


class TestGraphSdk(Scenarios):
    sdks = {
        "AccessTokenProvider": Sdk(
            in_a_loop(by_provider), scope=SCOPE, error="APIError", refused="every call"
        ),
        "httpx": Sdk(in_a_loop(by_httpx), scope=SCOPE),
        "AsyncTokenCredential": Sdk(
            in_a_loop(by_credential),
            scope=SCOPE,
            cae=True,
            error="APIError",
            refused="every call",
        ),
    }


async def test_a_revoked_session_costs_one_token_of_the_claims_that_graph_asks_for(
    entra: EntraEmulator,
):
    with entra.registry(cae=True) as tokens:
        authentication = bearer(tokens.manager(SCOPE), HOST)
        url = f"{entra.url}/graph/v1.0"
        async with graph(url, authentication, http(entra.ca_file)) as service:
            for _ in range(2):
                assert (await service.users.get()).value[0].id == "users"
            entra.revoke_tokens()
            for _ in range(2):
                assert (await service.users.get()).value[0].id == "users"
    assert (entra.count(), entra.api_calls) == (2, 4)


async def test_an_upload_to_another_host_carries_no_token(tokens, api, ca_file):
    from kiota_abstractions.api_error import APIError

    authentication = bearer(tokens.manager(SCOPE), "graph.microsoft.com")
    async with users(Way(tokens, api, ca_file), authentication, http(ca_file)) as call:
        with pytest.raises(APIError):
            await call()
    assert api.tokens == [None]
