"""The refresh tokens that are out: each is good once, and gives way to the next of its family.

Entra gives a new refresh token with every answer too, but lets the old ones of a confidential
client work on until they expire (and asks to delete them). Here an old one is refused, and its
whole family with it, as RFC 9700, section 4.14.2, has it: so a program that shows one is found out.
"""

from __future__ import annotations

import secrets
import threading
import time
from dataclasses import dataclass, field, replace

from authlib.oauth2.rfc6749 import TokenMixin

from .users import Session, User

__all__ = ["Family", "RefreshToken", "RefreshTokens"]

#: Bytes of randomness; with it the text is about as long as one of Entra's.
_SIZE = 768


def _new_text() -> str:
    return "1." + secrets.token_urlsafe(_SIZE)


@dataclass
class Family:
    """The refresh tokens that go back to one grant."""

    revoked: bool = False


@dataclass
class RefreshToken(TokenMixin):
    """One refresh token.

    Attributes:
        user: Whose it is.
        session: The sign-in that it goes back to.
        client_id: The app that it was given to.
        scope: What was asked for, which is granted again where a request names no scope.
        issued_at: When, in seconds since the epoch.
        lifetime: Seconds for which it may go unused.
        public: Whether that is a public client, which has no secret to show with it.
        realm: Where it is good. See :attr:`.Authority.realm`.
        text: The token itself.
        redeemed: Whether there is a newer one.
    """

    user: User
    session: Session
    client_id: str
    scope: str
    lifetime: float
    public: bool = False
    realm: str = ""
    issued_at: float = field(default_factory=time.time)
    text: str = field(default_factory=_new_text, repr=False)
    family: Family = field(default_factory=Family)
    redeemed: bool = False

    def check_client(self, client: object) -> bool:
        """Whether it was given to this app, as Authlib asks."""
        return getattr(client, "client_id", None) == self.client_id

    def get_scope(self) -> str:
        """What was asked for, as Authlib asks."""
        return self.scope

    def successor(self, scope: str) -> RefreshToken:
        """The next one of its family."""
        return replace(self, scope=scope, issued_at=time.time(), text=_new_text(), redeemed=False)

    @property
    def expired(self) -> bool:
        """Whether it went unused for too long."""
        return time.time() >= self.issued_at + self.lifetime


class RefreshTokens:
    """Every refresh token that was ever given out. Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards _tokens, and what becomes of each
        self._tokens: dict[str, RefreshToken] = {}

    def find(self, text: str) -> RefreshToken | None:
        """The token with this text, whatever became of it; None when there never was one."""
        with self._lock:
            return self._tokens.get(text)

    def keep(self, token: RefreshToken) -> None:
        """Give out a token."""
        with self._lock:
            self._tokens[token.text] = token

    def still_good(self, token: RefreshToken) -> bool:
        """Whether a token may be redeemed. One that was already ends its family."""
        with self._lock:
            if token.redeemed:
                token.family.revoked = True
            return not token.family.revoked

    def redeem(self, token: RefreshToken, successor: RefreshToken) -> None:
        """Give out ``successor`` in the place of ``token``."""
        with self._lock:
            token.redeemed = True
            self._tokens[successor.text] = successor
