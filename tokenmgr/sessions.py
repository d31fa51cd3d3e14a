"""What keeps a user: one who has signed in, or for whom work goes on when their call is over.

Whoever has signed in is found again by the id of their account, and work by the name that the
program has given it, in spaces of their own.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any, Protocol

from ._runtime.loops import in_thread
from ._runtime.secrecy import Hidden, Unpicklable
from ._session import Account
from .manager import AccessTokenManager
from .token import Scopes

__all__ = ["UserSession"]


class _Sessions(Protocol):
    """Those of an app."""

    def account(self, name: Hidden, seen: Any) -> tuple[Any, Account]: ...
    def manager(self, name: Hidden, given: Scopes) -> AccessTokenManager: ...
    def end(self, name: Hidden) -> None: ...
    def sign_out(self, name: Hidden, redirect_uri: str | None) -> str: ...


class UserSession(Unpicklable):
    """A session of a user: one who is signed in, or work that goes on when the user's call is over.

    Those of users who have signed in are found by :meth:`TokenRegistry.user` and
    :meth:`TokenRegistry.users`. Work is found by :meth:`TokenRegistry.session`, by its name,
    whether it is there or not. Either is found in whichever process.
    """

    def __init__(
        self,
        sessions: _Sessions,
        name: Hidden,
        registry: object = None,
        seen: object = None,
    ) -> None:
        self._sessions = sessions
        self._name = name
        #: As long as somebody holds a tenant's registry, what it is made of stays.
        self._registry = registry
        #: The session, once it has been looked up; as long as somebody holds it, it is known.
        self._seen = seen

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    @property
    def claims(self) -> dict[str, Any]:
        """What the id token of the sign-in says (OpenID Connect Core, section 2), a copy.

        Of work that :meth:`TokenRegistry.on_behalf_of` has begun it is what the service has
        answered, or what the user's token says where it has answered nothing of the kind. Of claims
        of more than 16 KiB the longest are left out. This, like the properties below, looks into
        the store where this process does not know it yet: do not read it first in an event loop.

        Raises:
            SessionNotFoundError: Nothing is kept of the session (any more).
            StoreError: The store cannot be used now.
        """
        claims: dict[str, Any] = copy.deepcopy(self._account().claims.cell_contents)
        return claims

    @property
    def home_account_id(self) -> str:
        """What the account is called wherever it signs in, ``uid.utid`` as MSAL has it.

        Raises:
            SessionNotFoundError: Nothing is kept of the session (any more).
            StoreError: The store cannot be used now.
        """
        return self._account().home_account_id

    @property
    def username(self) -> str:
        """What the person is called, such as ``ann@contoso.com``; empty where nothing says it.

        It is for showing: it may change, and be another person's later.

        Raises:
            SessionNotFoundError: Nothing is kept of the session (any more).
            StoreError: The store cannot be used now.
        """
        return self._account().username

    def _account(self) -> Account:
        self._seen, account = self._sessions.account(self._name, self._seen)
        return account

    def manager(self, *scopes: str | Iterable[str]) -> AccessTokenManager:
        """Gives the manager of the session's token for some scopes. The same scopes, the same one.

        Its refresh token brings what the user has consented to, whatever scopes the session was
        begun with. A session that is not there (any more) is told by the calls of the manager, as
        a :class:`~tokenmgr.SessionNotFoundError`, and one whose refresh token the service refuses
        as an :class:`~tokenmgr.InteractionRequiredError`.

        Args:
            *scopes: What the token is for, such as ``https://graph.microsoft.com/Mail.Read``.

        Raises:
            InvalidScopeError: A scope is none that may be asked for.
            ConfigurationError: There is none, or the registry is closed.
        """
        return self._sessions.manager(self._name, scopes)

    def end(self) -> None:
        """Ends the session, and erases it here and in the store. Ending it again does nothing.

        Managers of it that anybody holds in this process raise a
        :class:`~tokenmgr.SessionNotFoundError` from then on; other processes notice when they
        look for it next, or within some 75 s. It waits for a worker that redeems the refresh token
        just now: do not call it from an event loop, which has :meth:`aend`.

        Raises:
            StoreError: The store cannot be used: it is ended in this process alone. End it again.
        """
        self._sessions.end(self._name)

    async def aend(self) -> None:
        """Does as :meth:`end`, and never blocks the event loop."""
        await in_thread(self.end)

    def sign_out(self, post_logout_redirect_uri: str | None = None) -> str:
        """Does as :meth:`end`, and gives the address at which the user signs out at the authority.

        Send the user's browser there, or they are signed in again without a word the next time
        (OpenID Connect RP-Initiated Logout 1.0). It waits as :meth:`end` does, and may ask the
        authority for its metadata: an event loop has :meth:`asign_out`.

        Args:
            post_logout_redirect_uri: Where the authority sends the browser afterwards; one that the
                app is registered with.

        Returns:
            The address; an empty text where the authority has none of its own.

        Raises:
            StoreError: As for :meth:`end`.
            TokenManagerError: The session is ended, but the authority's metadata cannot be had.
        """
        return self._sessions.sign_out(self._name, post_logout_redirect_uri)

    async def asign_out(self, post_logout_redirect_uri: str | None = None) -> str:
        """Does as :meth:`sign_out`, and never blocks the event loop."""
        return await in_thread(lambda: self.sign_out(post_logout_redirect_uri))
