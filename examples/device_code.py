"""A command line that its user signs in to with a code, and that goes on from there by itself.

The user enters the code on whichever device has a browser, once. From then on the program calls
Microsoft Graph for them, and renews its token in silence. It needs the id of an app that allows
public client flows, in AZURE_CLIENT_ID, and no secret. With TOKENMGR_STORE and
TOKENMGR_ENCRYPTION_KEY it remembers its user when it is started again. See README.md next to it.

    pip install tokenmgr requests
    AZURE_CLIENT_ID=… python examples/device_code.py
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import time
from urllib.parse import urlsplit

import requests

from tokenmgr import (
    Authority,
    InteractionRequiredError,
    TokenManagerError,
    TokenRegistry,
    UserSession,
)
from tokenmgr.http.requests import BearerAuth

#: What the user is asked to consent to.
SCOPE = "https://graph.microsoft.com/User.Read"


def main() -> None:
    """Calls Graph for the user, again and again."""
    parser = argparse.ArgumentParser(description="Call Microsoft Graph for a user.")
    parser.add_argument("--url", default="https://graph.microsoft.com/v1.0/me")
    parser.add_argument("--interval", type=float, default=60, help="seconds between two calls")
    parser.add_argument("--count", type=int, help="calls to make; goes on for ever without it")
    options = parser.parse_args()

    authority = Authority.entra(
        os.environ.get("AZURE_TENANT_ID", "common"),
        cloud=os.environ.get("AZURE_AUTHORITY_HOST", "public"),
    )
    with TokenRegistry(  # without a credential: a public client
        client_id=os.environ["AZURE_CLIENT_ID"],
        authority=authority,
        store=os.environ.get("TOKENMGR_STORE"),
        encryption_key=os.environ.get("TOKENMGR_ENCRYPTION_KEY"),
    ) as tokens:
        known = tokens.users()
        user = known[0] if known else sign_in(tokens)
        for number in itertools.count(1):
            try:
                call(user, options.url)
            except InteractionRequiredError as error:
                # The session has ended, or somebody wants more of the user than a token can show.
                print(error, file=sys.stderr)
                user = sign_in(tokens, error.claims)
                continue
            except (TokenManagerError, requests.RequestException) as error:
                # The next call may do better. A token's error says what to do, and holds no secret.
                print(f"{type(error).__name__}: {error}", file=sys.stderr)
            if number == options.count:
                break
            time.sleep(options.interval)


def sign_in(tokens: TokenRegistry, claims: str | None = None) -> UserSession:
    """Has the user enter a code somewhere, and waits until they have."""
    flow = tokens.begin_device_code(SCOPE, claims=claims)
    print(flow.message, flush=True)
    user = flow.wait()
    print(f"{user.username} has signed in", flush=True)
    return user


def call(user: UserSession, url: str) -> None:
    """Makes one call for the user, with a token that is ready."""
    auth = BearerAuth(user.manager(SCOPE), hosts=[urlsplit(url).netloc])
    answer = requests.get(url, auth=auth, timeout=10)
    answer.raise_for_status()
    print(json.dumps(answer.json(), indent=2), flush=True)


if __name__ == "__main__":
    try:
        main()
    except TokenManagerError as error:
        # Nobody has entered the code, or the app cannot be used so.
        sys.exit(f"{type(error).__name__}: {error}")
    except KeyboardInterrupt:
        pass
