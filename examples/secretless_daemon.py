"""A daemon without any secret: the machine that it runs on has an identity, and gives its tokens.

    python examples/secretless_daemon.py                      # as the machine's managed identity
    python examples/secretless_daemon.py --identity CLIENT_ID # as one that a user has assigned
    python examples/secretless_daemon.py --app CLIENT_ID --tenant contoso.onmicrosoft.com

The last one calls as an app of its own, whose registration trusts the machine's identity as a
federated credential. On a developer's machine, `--signed-in` calls as whoever has signed in there,
with `az login` for one (pip install azure-identity). See README.md next to it.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import time
from urllib.parse import urlsplit

import requests

from tokenmgr import (
    Authority,
    AzureCredential,
    ClientAssertion,
    ManagedIdentity,
    TokenManagerError,
    TokenRegistry,
)
from tokenmgr.http.requests import BearerAuth

log = logging.getLogger("daemon")


def main() -> None:
    """Calls the API until it is told to stop."""
    parser = argparse.ArgumentParser(description="Call an API without any secret.")
    parser.add_argument("--url", default="https://graph.microsoft.com/v1.0/organization")
    parser.add_argument("--scope", default="https://graph.microsoft.com/.default")
    parser.add_argument("--identity", help="client id of an identity that a user has assigned")
    parser.add_argument("--app", help="client id of an app that trusts the identity")
    parser.add_argument("--tenant", help="the app's tenant, or its authority's URL")
    parser.add_argument("--signed-in", action="store_true", help="call as who has signed in here")
    parser.add_argument("--interval", type=float, default=5, help="seconds between two calls")
    parser.add_argument("--count", type=int, help="calls to make; goes on for ever without it")
    options = parser.parse_args()

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("azure").setLevel(logging.WARNING)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())

    with registry(options) as tokens, requests.Session() as session:
        log.info("tokens come from %r", tokens)
        session.auth = BearerAuth(
            tokens.manager(options.scope), hosts=[urlsplit(options.url).netloc]
        )
        calls = 0
        while options.count is None or calls < options.count:
            time.sleep(options.interval if calls else 0)
            call(session, options.url)
            calls += 1
    log.info("the daemon ends")


def registry(options: argparse.Namespace) -> TokenRegistry:
    """Makes the registry that the arguments name. None of them is a secret."""
    if options.signed_in:
        from azure.identity import DefaultAzureCredential

        return TokenRegistry(credential=AzureCredential(DefaultAzureCredential()))
    identity = ManagedIdentity(client_id=options.identity)
    if options.app is None:
        return TokenRegistry(credential=identity)
    named = options.tenant or ""
    return TokenRegistry(
        client_id=options.app,
        credential=ClientAssertion.from_managed_identity(identity),
        authority=Authority.parse(named) if "://" in named else Authority.entra(named),
    )


def call(session: requests.Session, url: str) -> None:
    """Makes one call. Whatever goes wrong is logged, and the next call tries again."""
    try:
        response = session.get(url, timeout=10)
        response.raise_for_status()
    except TokenManagerError as error:
        # There was no token. Its message says what to do, and holds no secret.
        log.error("%s: %s", type(error).__name__, error)
    except requests.RequestException as error:
        log.error("%s: the API did not answer, or not with 200", type(error).__name__)
    else:
        log.info("%s answered with %d", url, response.status_code)


if __name__ == "__main__":
    main()
