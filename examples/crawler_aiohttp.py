"""A crawler of an API: it follows the links of each page that it has got, a few at a time.

It finds its app in the environment, as daemon_requests.py does, and trusts the certificates of
SSL_CERT_FILE, if that is set. See README.md next to it.
"""

from __future__ import annotations

import argparse
import asyncio
from urllib.parse import urlsplit

import aiohttp

from tokenmgr import TokenRegistry
from tokenmgr.http.aiohttp import BearerAuth


async def main() -> None:
    """Crawls what is reachable from the URLs that it is given."""
    parser = argparse.ArgumentParser(description="Follow the pages of an API.")
    parser.add_argument("--scope", default="https://graph.microsoft.com/.default")
    parser.add_argument("urls", nargs="+", help="such as https://graph.microsoft.com/v1.0/users")
    options = parser.parse_args()

    async with TokenRegistry.from_env() as tokens:
        # The links that are found may lead anywhere: the token goes to these hosts alone.
        hosts = {urlsplit(url).netloc for url in options.urls}
        auth = BearerAuth(tokens.manager(options.scope), hosts=hosts)
        async with aiohttp.ClientSession(middlewares=(auth,)) as session:
            await asyncio.gather(*(crawl(session, url) for url in options.urls))


async def crawl(session: aiohttp.ClientSession, url: str | None) -> None:
    """Reads page after page, as far as they are linked."""
    while url:
        async with session.get(url) as response:
            page = await response.json()
            print(response.status, url, len(page.get("value", ())))
            url = page.get("@odata.nextLink")


if __name__ == "__main__":
    asyncio.run(main())
