"""A daemon that calls an API every few seconds, with a token that is always ready.

It finds its app in the environment: AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET (or
a certificate, or a federated token file). See README.md next to it.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import signal
import sys
import time
from urllib.parse import urlsplit

import requests

from tokenmgr import TokenManagerError, TokenRegistry
from tokenmgr.http.requests import BearerAuth

log = logging.getLogger("daemon")


def main() -> None:
    """Calls the API until it is told to stop."""
    parser = argparse.ArgumentParser(description="Call an API every few seconds.")
    parser.add_argument("--url", default="https://graph.microsoft.com/v1.0/organization")
    parser.add_argument("--scope", default="https://graph.microsoft.com/.default")
    parser.add_argument("--interval", type=float, default=5, help="seconds between two calls")
    parser.add_argument("--count", type=int, help="calls to make; goes on for ever without it")
    options = parser.parse_args()

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    # SystemExit, like Ctrl-C, leaves through the `with` below, which closes all connections.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())

    with TokenRegistry.from_env() as tokens, requests.Session() as session:
        # The token goes to this one host; a redirect to another does not take it along.
        host = urlsplit(options.url).netloc
        session.auth = BearerAuth(tokens.manager(options.scope), hosts=[host])
        try:
            for number in itertools.count(1):
                call(session, options.url)
                if number == options.count:
                    break
                time.sleep(options.interval)
        except KeyboardInterrupt:
            pass
        finally:
            log.info("the daemon ends")


def call(session: requests.Session, url: str) -> None:
    """Makes one call. Whatever goes wrong is logged, and the next call tries again."""
    try:
        response = session.get(url, timeout=10)
        response.raise_for_status()
    except TokenManagerError as error:
        # There was no token. Its message says what to do, and holds no secret.
        log.error("%s: %s", type(error).__name__, error)
    except requests.HTTPError as error:
        # There was a token, and the API did not like the call: a permission, perhaps.
        log.error("%s: %s", type(error).__name__, error)
    except requests.RequestException as error:
        log.error("%s: the API cannot be reached", type(error).__name__)
    else:
        log.info("%s answered with %d", url, response.status_code)


if __name__ == "__main__":
    main()
