"""What is known of a session: a user who has signed in, or work that outlives a user's call."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Protocol

from ._runtime.secrecy import Hidden, Unpicklable, is_unicode
from ._runtime.values import Value
from .errors import TokenManagerError
from .token import AccessToken

__all__ = ["Account", "KnownSession", "SessionRecord", "SignedIn", "Turn", "is_name"]

#: The longest account, and the longest of what it is called by, in characters of JSON.
_LONGEST, _LONGEST_NAME = 16_384, 2_048


def is_name(text: object) -> bool:
    """Whether an account may be called by it."""
    return isinstance(text, str) and is_unicode(text) and len(json.dumps(text)) <= _LONGEST_NAME


class Account(Value, Unpicklable):
    """Who has signed in, as the service says it."""

    _hidden = frozenset({"home_account_id", "username", "claims"})

    #: What the service calls the account, wherever it signs in: "uid.utid", as MSAL has it.
    home_account_id: str
    #: What the person is called; empty where the service does not say.
    username: str
    #: The claims of the id token (OpenID Connect Core, section 2), a dict that JSON can say.
    claims: Hidden

    def bounded(self) -> Account:
        """Gives it as a store has room for it: 16 KiB of JSON. What is longest goes."""
        home_account_id = self.home_account_id if is_name(self.home_account_id) else ""
        username = self.username if is_name(self.username) else ""
        said = self.claims.cell_contents
        room = _LONGEST - len(json.dumps([home_account_id, username]))
        kept = set()
        for length, name in sorted((len(json.dumps([name, said[name]])), name) for name in said):
            room -= length
            if room >= 0:
                kept.add(name)
        claims = Hidden({name: said[name] for name in said if name in kept})
        return Account(home_account_id, username, claims)


class SignedIn(Value, Unpicklable):
    """What has come of a sign-in."""

    _hidden = frozenset({"token", "refresh_token", "account"})

    #: The access token that came along.
    token: AccessToken
    #: What carries the session on, a text; empty where the service gave none.
    refresh_token: Hidden
    #: Who has signed in.
    account: Account
    #: The URL of the authority that gave it.
    authority: str


class SessionRecord(Value, Unpicklable):
    """A session as it stands. It never changes; with each redemption another one takes its place.

    Users and assertions are in it as digests.
    """

    _hidden = frozenset(
        {"refresh_token", "user", "authority", "epoch", "assertions", "held", "account"}
    )

    #: What carries it on; empty where the service gave none.
    refresh_token: Hidden
    #: Whose it is.
    user: str
    #: Who redeems the refresh token: who gave the first one.
    authority: str
    #: Tells it from all that were begun under its name before, or will be. Nobody guesses it.
    epoch: str
    #: How often the refresh token was redeemed.
    serial: int
    #: When it was begun, in seconds since 1970.
    begun_at: float
    #: When it ends unless it is used before, on the same clock.
    ends_at: float
    #: The assertions, or sign-ins, that have begun it or carried it on, the last of this user.
    assertions: tuple[str, ...]
    #: The scopes and claims of the access tokens that may lie in the store.
    held: tuple[tuple[tuple[str, ...], str], ...] = ()
    #: Who that is; None where an earlier version has begun it.
    account: Account | None = None


class KnownSession(Protocol):
    """A session as this process knows it."""

    #: How it stands; None where there is none.
    known: SessionRecord | None
    #: How it is begun again, for messages.
    advice: str
    #: Makes what is said of its end, where its refresh token was refused here.
    because: Callable[[], TokenManagerError] | None


class Turn(Protocol):
    """The one worker's turn to do something with a session's refresh token."""

    @property
    def before(self) -> SessionRecord | None:
        """The session as it stands; None where there is none."""
        ...

    def begin(self, signed_in: SignedIn, *, called: str, user: str) -> float:
        """Keeps a session that has just been begun; says when it ends.

        Args:
            signed_in: What has come of it.
            called: What began it.
            user: Whose it is.

        Raises:
            TokenManagerError: It was ended meanwhile.
        """
        ...

    def carry_on(self, refresh_token: Hidden) -> float:
        """Keeps the refresh token that the last one gave way to; says when the session ends.

        Raises:
            TokenManagerError: It was ended meanwhile.
        """
        ...

    def end(self, because: Callable[[], TokenManagerError]) -> None:
        """Erases the session, as its refresh token is refused.

        Args:
            because: Makes what whoever asks for it in this process is told from then on.
        """
        ...
