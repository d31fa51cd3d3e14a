"""The sessions of an app at one tenant: those that the program names, and who has signed in."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from ._kept_sessions import KeptSessions
from ._runtime.forks import no_fork
from ._runtime.secrecy import Hidden
from ._session import Account, SessionRecord, SignedIn, is_name
from .entra.client import Client
from .entra.grants.beginnings import BySignIn
from .entra.grants.refresh_token import not_found
from .entra.logout import logout_address
from .errors import ConfigurationError, SessionNotFoundError, StoreError, TokenManagerError
from .sessions import UserSession

if TYPE_CHECKING:
    from ._sharing.session import SharedSession
    from ._sharing.user_index import UserIndex

__all__ = ["Sessions"]

T = TypeVar("T")


class Sessions(KeptSessions):
    """The sessions of an app at one tenant. Those of all tenants have one bound."""

    def at(self, client: Client) -> Sessions:
        """Makes those of the same app at another tenant."""
        return Sessions(self._most, self._ttl, client, self._context, self._shown, self)

    def session(self, given: Hidden, registry: object = None) -> UserSession:
        """Gives the session that the program has given a name.

        Args:
            given: The name.
            registry: What it is to be closed with.

        Raises:
            ConfigurationError: It is no name, or they are closed.
        """
        with self._all.lock:
            self._check_open()
        return UserSession(self, self._names.given(given), registry)

    def account(
        self, name: Hidden, seen: SharedSession | None = None
    ) -> tuple[SharedSession, Account]:
        """Gives a session, and whose it is.

        Args:
            name: Its name.
            seen: The session, where it has been looked up before: then what is known will do.

        Raises:
            SessionNotFoundError: There is none.
            StoreError: The store cannot say.
        """
        session, record = self._look(name, seen)
        if record is None:
            raise not_found(session)
        return session, record.account or Account("", "", Hidden({}))

    def sign_in(
        self, signed_in: SignedIn, scopes: tuple[str, ...], registry: object = None
    ) -> UserSession:
        """Keeps a user who has just signed in, in place of their session before.

        It asks nobody but the store, in this thread.

        Args:
            signed_in: What has come of it.
            scopes: What its access token is for.
            registry: What it is to be closed with.

        Raises:
            StoreError: The store cannot keep it: have the user sign in again later.
            TokenManagerError: A scope is none, or nothing says who it is; or they are closed.
        """
        with no_fork():
            from ._sharing.fetch_once import Wanted

        name, user, username = self._called(signed_in.account)
        with self._all.lock:
            self._check_open()
            beginning = BySignIn(signed_in, user, self._client)
            source, session = self._source(name, scopes, beginning)
        source.share(source.key).obtain(source.fetch_token, Wanted(unlike=set()))
        self._index().change(come={user: username})
        return UserSession(self, name, registry, session)

    def user(self, home_account_id: Hidden, registry: object = None) -> UserSession:
        """Gives the session of a user who has signed in.

        Args:
            home_account_id: What the account is called.
            registry: What it is to be closed with.

        Raises:
            SessionNotFoundError: There is none.
            StoreError: The store cannot say.
            ConfigurationError: No account is called so, or they are closed.
        """
        if isinstance(home_account_id.cell_contents, str) and not home_account_id.cell_contents:
            # What a web session has of who has not signed in.
            raise SessionNotFoundError(
                "no account is called by an empty text: nobody is signed in here; have the user "
                "sign in"
            )
        name = self._names.of_account(home_account_id)
        seen, _ = self.account(name)
        return UserSession(self, name, registry, seen)

    def users(self, username: Hidden, registry: object = None) -> list[UserSession]:
        """Gives the sessions of users who have signed in, those who did so last first.

        Args:
            username: What the person is called; None for all.
            registry: What they are to be closed with.

        Raises:
            StoreError: The store cannot say.
            ConfigurationError: It is no text, or they are closed.
        """
        wanted = None
        if username.cell_contents is not None:
            if not is_name(username.cell_contents):
                raise ConfigurationError("username= is a text, such as ann@contoso.com")
            wanted = self._names.username(username)
        index, found, gone, lost = self._index(), list[UserSession](), list[str](), {}
        listed = self._asked(index.read)
        known = {user: called for user, called in self._known().items() if user not in listed}
        for user, called in reversed((listed | known).items()):
            if wanted not in (None, called):
                continue
            name = self._names.of_user(user)
            session, record = self._look(name)
            if record is None:
                gone.append(user)
                continue
            found.append(UserSession(self, name, registry, session))
            if user in known:
                lost[user] = called
        if gone or lost:
            index.change(come=lost, gone=gone)
        return found

    def adopt(self, signed_in: Iterable[SignedIn]) -> set[str]:
        """Keeps users whom another program has signed in, unless they have a session.

        Args:
            signed_in: Who they are, and their refresh tokens.

        Returns:
            What the accounts are called that have a session now.
        """
        from ._sharing.guarded import StoreAwayError

        kept, come = set[str](), dict[str, str]()
        for each in signed_in:
            with suppress(StoreAwayError, ConfigurationError):
                name, user, username = self._called(each.account)
                with self._all.lock:
                    self._check_open()
                    session = self._session(name)
                called = BySignIn(each, user, self._client).called
                session.begin_unless_there(each, called=called, user=user)
                kept.add(each.account.home_account_id)
                come[user] = username
        if come:
            self._index().change(come=come)
        return kept

    def refresh_token(self, home_account_id: str) -> Hidden | None:
        """Gives what carries a user's session on; None where there is no session.

        Raises:
            StoreError: The store cannot say.
        """
        _, record = self._look(self._names.of_account(Hidden(home_account_id)))
        return None if record is None else record.refresh_token

    def signed_in(self) -> list[tuple[Account, Hidden]]:
        """Gives who has signed in, and what carries each session on.

        While the store is away it gives those whom this process knows.
        """
        listed = dict[str, str]()
        with suppress(StoreError):
            listed = self._asked(self._index().read)
        found = []
        for user in listed | self._known():
            with self._all.lock:
                session = self._session(self._names.of_user(user))
            record = session.known
            with suppress(StoreError):
                record = self._asked(session.look)
            if record is not None and record.account is not None:
                found.append((record.account, record.refresh_token))
        return found

    def end(self, name: Hidden) -> None:
        """Ends a session.

        Raises:
            StoreError: It may lie in the store still.
        """
        super().end(name)
        user = self._names.user(name)
        if user is not None:
            self._index().change(gone=[user])

    def sign_out(self, name: Hidden, redirect_uri: str | None) -> str:
        """Ends a session; gives the address where its user signs out at the authority.

        Args:
            name: Its name.
            redirect_uri: Where the authority sends the browser afterwards.

        Raises:
            StoreError: It may lie in the store still.
            TokenManagerError: It is ended, and there is no address.
        """
        hint = Hidden(None)
        with suppress(TokenManagerError):
            _, account = self.account(name)
            hint = Hidden(account.claims.cell_contents.get("login_hint"))
        try:
            return logout_address(self._client, redirect_uri, hint)
        finally:
            self.end(name)

    def _called(self, account: Account) -> tuple[Hidden, str, str]:
        """Gives the name of a user's session, and what the index has of it.

        Raises:
            ConfigurationError: Nothing says who it is.
        """
        name = self._names.of_account(Hidden(account.home_account_id))
        username = self._names.username(Hidden(account.username))
        return name, str(self._names.user(name)), username

    def _look(
        self, name: Hidden, seen: SharedSession | None = None
    ) -> tuple[SharedSession, SessionRecord | None]:
        with self._all.lock:
            self._check_open()
            session = self._session(name)
        record = session.known if session is seen else None
        if record is None or record.ends_at <= self._context.clock.wall():
            record = self._asked(session.look)
        return session, record

    def _known(self) -> dict[str, str]:
        """Who is known to this process to have signed in, as the index would have it."""
        with self._all.lock:
            alive = self._sessions.cell_contents.valuerefs()
            sessions = [each for each in (each() for each in alive) if each is not None]
        found = {}
        for session in sessions:
            user, record = self._names.user(session.name), session.known
            if user is not None and record is not None and record.account is not None:
                found[user] = self._names.username(Hidden(record.account.username))
        return found

    def _index(self) -> UserIndex:
        with no_fork():
            from ._sharing.user_index import UserIndex

        name = self._names.of_index
        return UserIndex(self._sealed, self._names.key(name, ()), name)

    def _asked(self, look: Callable[[], T]) -> T:
        from ._sharing.guarded import StoreAwayError
        from ._sharing.session import away

        try:
            return look()
        except StoreAwayError:
            raise away() from None
