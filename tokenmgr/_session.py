"""What is known of a session, the work for a user that outlives the call it was begun by."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ._runtime.secrecy import Hidden, Unpicklable
from ._runtime.values import Value
from .errors import TokenManagerError
from .token import AccessToken

__all__ = ["Account", "KnownSession", "SessionRecord", "SignedIn", "Turn"]


class Account(Value, Unpicklable):
    """Who has signed in, as the service says it."""

    _hidden = frozenset({"home_account_id", "username", "claims"})

    #: What the service calls the account, wherever it signs in: "uid.utid", as MSAL has it.
    home_account_id: str
    #: What the person is called; empty where the service does not say.
    username: str
    #: The claims of the id token (OpenID Connect Core, section 2), a dict that JSON can say.
    claims: Hidden


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

    _hidden = frozenset({"refresh_token", "user", "authority", "epoch", "assertions", "held"})

    #: What carries it on.
    refresh_token: Hidden
    #: Whose it is.
    user: str
    #: Who redeems the refresh token: where the session's assertion was exchanged.
    authority: str
    #: Tells it from all that were begun under its name before, or will be. Nobody guesses it.
    epoch: str
    #: How often the refresh token was redeemed.
    serial: int
    #: When it was begun, in seconds since 1970.
    begun_at: float
    #: When it ends unless it is used before, on the same clock.
    ends_at: float
    #: The assertions that have begun it, or carried it on, the last ones of this user.
    assertions: tuple[str, ...]
    #: The scopes and claims of the access tokens that may lie in the store.
    held: tuple[tuple[tuple[str, ...], str], ...] = ()


class KnownSession(Protocol):
    """A session as this process knows it."""

    #: How it stands; None where there is none.
    known: SessionRecord | None
    #: Makes what is said of its end, where its refresh token was refused here.
    because: Callable[[], TokenManagerError] | None


class Turn(Protocol):
    """The one worker's turn to do something with a session's refresh token."""

    @property
    def before(self) -> SessionRecord | None:
        """The session as it stands; None where there is none."""
        ...

    def begin(self, refresh_token: Hidden, *, assertion: str, user: str, authority: str) -> float:
        """Keeps a session that an assertion has just begun; says when it ends.

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
