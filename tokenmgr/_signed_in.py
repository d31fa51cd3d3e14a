"""Who has signed in: the part of a registry that finds their sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._runtime.loops import in_thread
from ._runtime.secrecy import Hidden

if TYPE_CHECKING:
    from ._tenants import Tenant
    from .sessions import UserSession

__all__ = ["SignedInUsers"]


class SignedInUsers:
    """The users of a registry who have signed in."""

    _own: Tenant

    def users(self, username: str | None = None) -> list[UserSession]:
        """Gives the sessions of the users who are signed in, those who signed in last first.

        With a ``store=`` they are those of all workers: of this app at this authority, the last
        1,000; :meth:`user` finds all others too. The store is asked whether each of them is there
        still: an event loop has :meth:`ausers`.

        Args:
            username: Those of whom the service has called so, in upper or lower case; None for all.

        Raises:
            StoreError: The store cannot be used now.
            ConfigurationError: It is no text; the registry is closed; or there is a store without
                ``encryption_key=``.
        """
        username, given = None, Hidden(username)
        return self._own.begin_sessions().users(given, self)

    async def ausers(self, username: str | None = None) -> list[UserSession]:
        """Does as :meth:`users`, and never blocks the event loop."""
        username, given = None, Hidden(username)
        return await in_thread(lambda: self._own.begin_sessions().users(given, self))

    def user(self, home_account_id: str) -> UserSession:
        """Gives the session of a user who is signed in, in whichever process.

        It asks the store: an event loop has :meth:`auser`.

        Example:
            >>> tokens = TokenRegistry.from_env()  # doctest: +SKIP
            >>> ann = tokens.user(web_session.get("user", ""))  # doctest: +SKIP
            >>> ann.manager("https://graph.microsoft.com/Mail.Read").headers()  # doctest: +SKIP

        Args:
            home_account_id: What :attr:`UserSession.home_account_id` gave; an empty text, as of a
                web session that has none yet, is nobody's.

        Raises:
            SessionNotFoundError: Nobody is signed in who is called so: have the user sign in.
            StoreError: The store cannot be used now.
            ConfigurationError: It is no text; the registry is closed; or there is a store without
                ``encryption_key=``.
        """
        home_account_id, given = "", Hidden(home_account_id)
        return self._own.begin_sessions().user(given, self)

    async def auser(self, home_account_id: str) -> UserSession:
        """Does as :meth:`user`, and never blocks the event loop."""
        home_account_id, given = "", Hidden(home_account_id)
        return await in_thread(lambda: self._own.begin_sessions().user(given, self))
