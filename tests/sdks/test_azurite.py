"""Azure Storage's clients against Azurite, which reads their tokens as Azure Storage does."""

from __future__ import annotations

from collections.abc import Iterator

import azurite
import pytest
import trustme

from tokenmgr import TokenRegistry
from tokenmgr.emulator import EntraEmulator
from tokenmgr.http.azure import AsyncTokenCredential, TokenCredential

SDKS = ("azure.storage.blob.aio",)

pytestmark = pytest.mark.skipif(
    azurite.COMMAND is None,
    reason="Azurite is not installed: npm install --global azurite, or make with npm at hand",
)


@pytest.fixture(scope="module")
def account(tls: trustme.CA) -> Iterator[str]:
    with azurite.running_azurite(tls) as address:
        yield address


@pytest.mark.parametrize("whole", [True, False], ids=["registry", "manager"])
def test_blobs_come_and_go_with_one_token(
    account, ca_file, entra: EntraEmulator, tokens: TokenRegistry, whole
):
    from azure.storage.blob import BlobServiceClient

    one = tokens.manager("https://storage.azure.com/.default", cae=False)
    credential = TokenCredential(tokens if whole else one)
    with BlobServiceClient(account, credential, connection_verify=ca_file) as client:
        container = client.create_container(f"container-{whole}".lower())
        container.upload_blob("blob", b"content")
        entra.fail_next(10**6, status=503)
        assert container.download_blob("blob").readall() == b"content"
    assert entra.count() == 1


async def test_blobs_come_and_go_with_one_token_in_an_event_loop(account, ca_file, entra, tokens):
    from azure.storage.blob.aio import BlobServiceClient

    credential = AsyncTokenCredential(tokens)
    async with BlobServiceClient(account, credential, connection_verify=ca_file) as client:
        container = await client.create_container("container-async")
        await container.upload_blob("blob", b"content")
        entra.fail_next(10**6, status=503)
        blob = await container.download_blob("blob")
        assert await blob.readall() == b"content"
    assert entra.count() == 1


def test_a_token_of_another_api_is_refused(account, ca_file, tokens):
    from azure.core.exceptions import ClientAuthenticationError
    from azure.storage.blob import BlobServiceClient

    class Mistaken(TokenCredential):
        def get_token_info(self, *scopes, options=None):
            return super().get_token_info("api://orders/.default", options=options)

    with (
        BlobServiceClient(account, Mistaken(tokens), connection_verify=ca_file) as client,
        pytest.raises(ClientAuthenticationError),
    ):
        client.create_container("refused")
