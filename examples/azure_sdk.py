"""A script that reads blobs from Azure Storage with the Azure SDK, side by side.

It finds its app in the environment, as daemon_requests.py does. See README.md next to it.

    pip install 'tokenmgr[azure]' azure-storage-blob
    python examples/azure_sdk.py https://contoso.blob.core.windows.net/container/blob …
"""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from azure.core.exceptions import AzureError
from azure.storage.blob import BlobClient

from tokenmgr import TokenManagerError, TokenRegistry
from tokenmgr.http.azure import TokenCredential


def main() -> None:
    """Reads all blobs."""
    parser = argparse.ArgumentParser(description="Say how long blobs are.")
    parser.add_argument("blobs", nargs="+", metavar="URL")
    options = parser.parse_args()

    with TokenRegistry.from_env() as tokens, ThreadPoolExecutor(8) as pool:
        # One for all clients of all services: each asks for the scope that it needs.
        credential = TokenCredential(tokens)
        done = list(pool.map(partial(read, credential), options.blobs))
    sys.exit(not all(done))


def read(credential: TokenCredential, url: str) -> bool:
    """Reads a blob, and says whether it could."""
    try:
        # The hook drops a token that the service refuses, so that the client asks for another.
        hook = credential.drop_refused
        with BlobClient.from_blob_url(url, credential, raw_response_hook=hook) as blob:
            content = blob.download_blob().readall()
    except (TokenManagerError, AzureError) as error:
        print(f"{url}: {type(error).__name__}: {error}", file=sys.stderr)
        return False
    print(f"{url}: {len(content)} bytes")
    return True


if __name__ == "__main__":
    main()
