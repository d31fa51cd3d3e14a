"""A program whose last object asks for a token as the interpreter ends, and all threads with it."""

from __future__ import annotations

import itertools
import sys
import time

from support import KEY

from tokenmgr import AccessToken, AccessTokenManager


class Source:
    numbers = itertools.count(1)

    def fetch_token(self, *, claims: str | None = None) -> AccessToken:
        return AccessToken(f"token-{next(self.numbers)}", time.time() + 3600)


class Client:
    """Says at its end, with a token, that it goes."""

    def __init__(self) -> None:
        self.manager = AccessTokenManager(Source(), KEY)
        self.say = sys.stdout.write

    def __del__(self) -> None:
        self.say(self.manager.refresh_access_token())


client = Client()
client.manager.get_access_token()
