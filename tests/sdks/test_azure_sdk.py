"""Clients of the Azure SDK, with our credentials, over TLS."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from sdk_scenarios import Scenarios, Sdk, Way, in_a_loop

from tokenmgr.emulator.authorities import DEFAULT_TENANT, tenant_guid
from tokenmgr.http.azure import AsyncTokenCredential, TokenCredential

SDKS = ("azure.storage.blob.aio", "azure.keyvault.secrets.aio")
STORAGE = "https://storage.azure.com/.default"
VAULT = "https://vault.azure.net/.default"
LOGIN = f"https://login.microsoftonline.com/{tenant_guid(DEFAULT_TENANT)}"

Call = Callable[[], str]
AsyncCall = Callable[[], Coroutine[Any, Any, str]]


def settings(way: Way, credential: Any) -> dict[str, Any]:
    """What every client takes."""
    return {
        "credential": credential,
        "raw_response_hook": credential.drop_refused,
        "connection_verify": way.ca_file,
        "retry_total": 0,
    }


@contextmanager
def blob(way: Way) -> Iterator[Call]:
    from azure.storage.blob import BlobClient

    address = way.api.url("/account/container/blob")
    with BlobClient.from_blob_url(address, **settings(way, TokenCredential(way.tokens))) as client:
        yield lambda: client.download_blob().readall().decode()


@contextmanager
def blob_without_hook(way: Way) -> Iterator[Call]:
    from azure.storage.blob import BlobClient

    given = settings(way, TokenCredential(way.tokens)) | {"raw_response_hook": None}
    with BlobClient.from_blob_url(way.api.url("/account/container/blob"), **given) as client:
        yield lambda: client.download_blob().readall().decode()


@asynccontextmanager
async def async_blob(way: Way) -> AsyncIterator[AsyncCall]:
    from azure.storage.blob.aio import BlobClient

    address = way.api.url("/account/container/blob")
    given = settings(way, AsyncTokenCredential(way.tokens.manager(STORAGE)))
    async with BlobClient.from_blob_url(address, **given) as client:

        async def call() -> str:
            return (await (await client.download_blob()).readall()).decode()

        yield call


@contextmanager
def secret(way: Way) -> Iterator[Call]:
    from azure.keyvault.secrets import SecretClient

    given = settings(way, TokenCredential(way.tokens))
    address = way.api.url("")
    with SecretClient(address, verify_challenge_resource=False, **given) as client:
        yield lambda: client.get_secret("name").value


@asynccontextmanager
async def async_secret(way: Way) -> AsyncIterator[AsyncCall]:
    from azure.keyvault.secrets.aio import SecretClient

    given = settings(way, AsyncTokenCredential(way.tokens))
    address = way.api.url("")
    async with SecretClient(address, verify_challenge_resource=False, **given) as client:

        async def call() -> str:
            return (await client.get_secret("name")).value

        yield call


@contextmanager
def plain(way: Way) -> Iterator[Call]:
    """azure-core alone, as the generated clients have it."""
    from azure.core import PipelineClient
    from azure.core.pipeline.policies import BearerTokenCredentialPolicy, CustomHookPolicy
    from azure.core.rest import HttpRequest

    credential = TokenCredential(way.tokens)
    policies = [
        BearerTokenCredentialPolicy(credential, VAULT, enable_cae=True),
        CustomHookPolicy(raw_response_hook=credential.drop_refused),
    ]
    address = way.api.url("")
    with PipelineClient(address, policies=policies, connection_verify=way.ca_file) as client:

        def call() -> str:
            answer = client.send_request(HttpRequest("GET", way.api.url("/secrets/name/")))
            answer.raise_for_status()
            value: str = answer.json()["value"]
            return value

        yield call


#: Storage answers with the tenant and the resource; its clients answer no claims challenges, and
#: so get no tokens that would meet any.
OF_STORAGE: dict[str, Any] = {
    "scope": STORAGE,
    "cae": False,
    "error": "ClientAuthenticationError",
    "challenged": "a call",
}
OF_VAULT: dict[str, Any] = {
    "scope": VAULT,
    "cae": True,
    "error": "ClientAuthenticationError",
    "challenge": f'Bearer authorization="{LOGIN}", resource="https://vault.azure.net"',
}
STORAGE_SAYS = f"Bearer authorization_uri={LOGIN}/oauth2/authorize resource_id={STORAGE[:-9]}"


class TestAzureSdk(Scenarios):
    sdks = {
        "azure-storage-blob": Sdk(blob, **OF_STORAGE, challenge=STORAGE_SAYS),
        "azure-storage-blob without hook": Sdk(
            blob_without_hook,
            **OF_STORAGE | {"challenged": "every call"},
            challenge=STORAGE_SAYS,
            refused="every call",
        ),
        "azure-storage-blob.aio": Sdk(
            in_a_loop(async_blob), **OF_STORAGE | {"cae": None}, challenge=STORAGE_SAYS
        ),
        "azure-keyvault-secrets": Sdk(secret, **OF_VAULT),
        "azure-keyvault-secrets.aio": Sdk(in_a_loop(async_secret), **OF_VAULT),
        "azure-core": Sdk(
            plain, scope=VAULT, cae=True, error="HttpResponseError", refused="a call"
        ),
    }
