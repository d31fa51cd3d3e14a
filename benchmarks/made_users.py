"""Users who are there without a service: assertions, and an app that is given tokens at once."""

from __future__ import annotations

import json
import secrets
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from dataclasses import replace

from tokenmgr import AccessToken, Authority, ClientSecret, TokenKey, TokenRegistry
from tokenmgr._context import new_context
from tokenmgr.entra.client import Client, Grant
from tokenmgr.identity.proofs import Proof
from tokenmgr.users import Users

from .day import InlineWorkers

__all__ = ["READ", "TENANT", "assertions", "registry_of"]

READ = "https://graph.microsoft.com/User.Read"
TENANT = "11111111-2222-3333-4444-555555555555"
_CLIENT_ID = "66666666-7777-8888-9999-000000000000"
_HOUR = 3600.0


def assertions(count: int, *, length: int) -> Iterator[str]:
    """Gives so many users' assertions, each of that many characters."""
    head = _part({"typ": "JWT", "alg": "RS256"})
    for number in range(count):
        claims = {"exp": time.time() + _HOUR, "tid": TENANT, "preferred_username": f"{number}"}
        text = f"{head}.{_part(claims)}."
        yield text + secrets.token_hex(length)[: length - len(text)]


def registry_of(most: int, *, token_length: int) -> TokenRegistry:
    """Makes a registry whose users are given tokens of that many characters, without a request.

    Whoever asks for one fetches it by himself, which takes no time: else 100,000 users would be a
    hundred thousand turns of threads.
    """
    authority = Authority.entra(TENANT)
    tokens = TokenRegistry(client_id=_CLIENT_ID, credential="a", authority=authority)
    context = replace(new_context(), workers=InlineWorkers(1, name="inline"))
    client = _GivenClient(authority, token_length)
    tokens._own.users = Users(most, client, context, None)  # noqa: SLF001 - all else is as it is
    return tokens


class _GivenClient(Client):
    """An app that is given a token at once."""

    def __init__(self, authority: Authority, token_length: int) -> None:
        super().__init__(authority, _CLIENT_ID, ClientSecret("a"))
        self._length = token_length

    def ask(self, grant: Grant, key: TokenKey, proof: Proof | None = None) -> AccessToken:  # noqa: ARG002
        secret = secrets.token_hex(self._length)[: self._length]
        return AccessToken(secret, time.time() + _HOUR, scopes=key.scopes)


def _part(said: dict[str, object]) -> str:
    return urlsafe_b64encode(json.dumps(said).encode()).decode().rstrip("=")
