"""An asynchronous worker: jobs from a queue, each a call of an API, several at a time.

It finds its app in the environment, as daemon_requests.py does, and trusts the certificates of
SSL_CERT_FILE, if that is set. See README.md next to it.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
from urllib.parse import urlsplit

import httpx

from tokenmgr import TokenManagerError, TokenRegistry
from tokenmgr.http.httpx import BearerAuth

log = logging.getLogger("worker")


async def main() -> None:
    """Does all jobs, and ends."""
    parser = argparse.ArgumentParser(description="Call an API for each job of a queue.")
    parser.add_argument("--url", default="https://graph.microsoft.com/v1.0/users/{job}")
    parser.add_argument("--scope", default="https://graph.microsoft.com/.default")
    parser.add_argument("--workers", type=int, default=8, help="calls at a time")
    parser.add_argument("jobs", nargs="+", help="what takes the place of {job}")
    options = parser.parse_args()

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    queue: asyncio.Queue[str] = asyncio.Queue()
    for job in options.jobs:
        queue.put_nowait(options.url.format(job=job))

    # Tokens that are revoked at once where a session ends: the auth answers such challenges.
    async with TokenRegistry.from_env(cae=True) as tokens:
        host = urlsplit(options.url).netloc
        auth = BearerAuth(tokens.manager(options.scope), hosts=[host])
        async with httpx.AsyncClient(auth=auth, timeout=10) as client:
            await asyncio.gather(*(work(queue, client) for _ in range(options.workers)))


async def work(queue: asyncio.Queue[str], client: httpx.AsyncClient) -> None:
    """Takes jobs until there is none. Whatever goes wrong with one is logged."""
    while not queue.empty():
        url = queue.get_nowait()
        try:
            response = await client.get(url)
            response.raise_for_status()
        except TokenManagerError as error:
            # There was no token, or it lacks a scope. Its message says what to do.
            log.error("%s: %s", type(error).__name__, error)
        except httpx.HTTPError as error:
            log.error("%s: %s", url, type(error).__name__)
        else:
            log.info("%s answered with %d", url, response.status_code)


if __name__ == "__main__":
    asyncio.run(main())
