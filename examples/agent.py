"""An agent that calls Microsoft Graph as itself, and as the user account that it has.

It finds its blueprint in the environment, as the other examples find their app: AZURE_TENANT_ID,
AZURE_CLIENT_ID and AZURE_CLIENT_SECRET are the blueprint's. The agent has no credential of its own.
See README.md next to it.

    pip install tokenmgr requests
    python examples/agent.py 99999999-8888-7777-6666-555555555555 --user agent@contoso.com
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from urllib.parse import urlsplit

import requests

from tokenmgr import AccessTokenManager, ConsentRequiredError, TokenManagerError, TokenRegistry
from tokenmgr.http.requests import BearerAuth


def main() -> None:
    """Calls Graph as each of the two, again and again."""
    parser = argparse.ArgumentParser(description="Call Microsoft Graph as an agent.")
    parser.add_argument("agent", help="the agent identity's client id")
    parser.add_argument("--user", help="the user principal name of the account that it acts as")
    parser.add_argument("--url", default="https://graph.microsoft.com/v1.0/organization")
    parser.add_argument("--me", default="https://graph.microsoft.com/v1.0/me/messages")
    parser.add_argument("--interval", type=float, default=60, help="seconds between two rounds")
    parser.add_argument("--count", type=int, help="rounds to make; goes on for ever without it")
    options = parser.parse_args()

    with TokenRegistry.from_env() as tokens:
        agent = tokens.agent(options.agent)
        # What it asks for by itself: permissions of the application kind.
        calls = {options.url: agent.manager("https://graph.microsoft.com/.default")}
        if options.user:
            # What its user may: delegated permissions. Both have what proves the agent in common.
            user = agent.user(username=options.user)
            calls[options.me] = user.manager("https://graph.microsoft.com/Mail.Read")
        for number in itertools.count(1):
            for url, manager in calls.items():
                call(url, manager)
            if number == options.count:
                break
            time.sleep(options.interval)


def call(url: str, manager: AccessTokenManager) -> None:
    """Makes one call, and says what came of it. The next round tries again."""
    auth = BearerAuth(manager, hosts=[urlsplit(url).netloc])
    try:
        answer = requests.get(url, auth=auth, timeout=10)
        answer.raise_for_status()
    except ConsentRequiredError as error:
        # Nobody is there to ask: an administrator grants it, on the blueprint or on the agent.
        print(f"{url}: consent is missing: {error}", file=sys.stderr)
    except (TokenManagerError, requests.RequestException) as error:
        print(f"{url}: {error}", file=sys.stderr)
    else:
        print(f"{url}: {answer.status_code}", flush=True)


if __name__ == "__main__":
    main()
