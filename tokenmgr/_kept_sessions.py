"""The sessions of an app at one tenant: which there are, and which of their managers are kept.

A session's managers are kept as those of users are: not before a first token, so many at most, each
alone. Whenever one is looked for, its next call asks the store whether the session still is what it
was, so that nobody is served under a name that another user has begun since. Without a store the
sessions are this process's own.
"""

from __future__ import annotations

import weakref
from functools import partial
from typing import TYPE_CHECKING, Any

from ._context import Context
from ._kept import Keeper, KeptCell, KeptManagers
from ._runtime.forks import no_fork
from ._runtime.secrecy import Hidden
from .entra.client import Client
from .entra.grants.beginnings import Beginning, ByAssertion
from .entra.grants.refresh_token import SessionSource
from .errors import ConfigurationError
from .identity.assertions import UserAssertion
from .manager import AccessTokenManager, doubt
from .token import RESERVED_SCOPES, Scopes, TokenKey, normalize_scopes

if TYPE_CHECKING:
    from ._sharing.session import SharedSession
    from ._sharing.session_names import SessionNames
    from ._sharing.slot import SealedStore

__all__ = ["KeptSessions"]

#: What lies in memory for each manager that is kept, where there is no store: its token and the
#: session.
_RECORDS_EACH = 2
#: How sessions are begun again: those that the program has named, and those of signed-in users.
_ADVICE = "have the user sign in, and begin it with on_behalf_of(token, scope, session=…)"
_SIGN_IN_AGAIN = "have the user sign in again"


class _SessionCell(KeptCell):
    """A session's cell, which knows where its tokens come from."""

    session_source: SessionSource
    sessions: KeptSessions
    #: When the assertion ends that it is found by; None where that is no part of it.
    assertion_ends_at: float | None

    def _tell_news(self, seconds: float | None) -> None:
        self.sessions.hear(self, seconds)


class KeptSessions(Keeper):
    """The sessions of an app at one tenant. Those of all tenants have one bound.

    Args:
        most: So many managers are kept.
        ttl: Seconds after which a session ends without use.
        client: The app, at its authority.
        context: What its managers have in common.
        sealed: Its store.
        beside: Those of another tenant.

    Raises:
        ConfigurationError: The store's key is derived from the credential.
    """

    def __init__(
        self,
        most: int,
        ttl: float,
        client: Client,
        context: Context,
        sealed: SealedStore | None,
        beside: KeptSessions | None = None,
    ) -> None:
        if sealed is not None and sealed.keys.is_derived:
            raise ConfigurationError(
                "a session's refresh token goes into a store only under encryption_key= (or "
                "TOKENMGR_ENCRYPTION_KEY): a key that is derived from the app's credential would "
                "end every session when that is rotated. python -c 'import secrets; "
                "print(secrets.token_urlsafe(32))' makes one"
            )
        self._most = most
        self._ttl = ttl
        self._client = client
        self._context = context
        #: The store that others share, for what is told of it.
        self._shown = sealed
        self._sealed: SealedStore
        self._all: KeptManagers
        if beside is None:
            self._sealed, self._all = sealed or self._own_store(), KeptManagers(most, context)
        else:
            self._sealed, self._all = beside._sealed, beside._all  # noqa: SLF001 - its own
        self._names: SessionNames = self._new_names()
        # By what is secret, and therefore hidden.
        #: The cells of all that anybody has, and their sessions.
        self._alive: Hidden = Hidden(weakref.WeakValueDictionary[Any, _SessionCell]())
        self._sessions: Hidden = Hidden(weakref.WeakValueDictionary[str, "SharedSession"]())

    def _own_store(self) -> SealedStore:
        with no_fork():
            from ._sharing.own_store import own_store

        return own_store(self._context, self._most * _RECORDS_EACH)

    def _new_names(self) -> SessionNames:
        with no_fork():
            from ._sharing.session_names import SessionNames

        return SessionNames(self._client)

    def begin(self, given: Hidden, scopes: Scopes, text: Hidden) -> AccessTokenManager:
        """Gives the manager of a session's token, which an assertion begins, or carries on.

        Args:
            given: The session's name.
            scopes: What the token is for.
            text: The assertion.

        Raises:
            TokenManagerError: A scope is none, or the assertion could not be exchanged.
        """
        return self.manager(self._names.given(given), scopes, text)

    def manager(
        self, name: Hidden, given: Scopes, text: Hidden | None = None
    ) -> AccessTokenManager:
        """Gives the manager of a session's token.

        Args:
            name: The session's name.
            given: What the token is for.
            text: The assertion that begins the session; None where it is to be there.

        Raises:
            TokenManagerError: A scope is none, or the assertion could not be exchanged.
        """
        scopes = normalize_scopes(given)
        # Those that are asked for anyway may be given; by themselves they are refused.
        scopes = tuple(each for each in scopes if each not in RESERVED_SCOPES) or scopes
        shown = Hidden("" if text is None else text.cell_contents)
        url = self._client.authority.url
        wanted = Hidden((name.cell_contents, shown.cell_contents, scopes, url))
        with self._all.lock:
            self._check_open()
            kept: AccessTokenManager | None = self._all.served.cell_contents[wanted.cell_contents]
            cell: _SessionCell | None = self._alive.cell_contents.get(wanted.cell_contents)
        if cell is None:
            cell = self._new_cell(wanted, name, scopes, text)
        elif text is not None and kept is None:
            UserAssertion(text).check_time(self._context.clock.wall())
        manager = cell.manager()
        cell.session_source.look_again()
        if self._shown is not None:  # else all that changes a session is here, and says so
            doubt(manager)
        return manager

    def _new_cell(
        self, wanted: Hidden, name: Hidden, scopes: tuple[str, ...], text: Hidden | None
    ) -> _SessionCell:
        assertion = None if text is None else UserAssertion(text)
        with self._all.lock:
            self._check_open()
            beginning = None if assertion is None else ByAssertion(assertion, self._client)
            source, session = self._source(name, scopes, beginning)
            cell = _SessionCell(source, source.key, self._context, self._shown)
            cell.sessions, cell.session_source, cell.wanted = self, source, wanted
            cell.assertion_ends_at = None if assertion is None else assertion.expires_at
            session.cells.add(cell)
            # Another thread may have been faster: then that one's is it.
            first: _SessionCell = self._alive.cell_contents.setdefault(wanted.cell_contents, cell)
            return first

    def end(self, name: Hidden) -> None:
        """Ends a session.

        Raises:
            StoreError: It may lie in the store still.
        """
        with self._all.lock:
            self._check_open()
            session = self._session(name)
            self._sessions.cell_contents.pop(name.cell_contents, None)
            cells: list[_SessionCell] = list(session.cells)
            for cell in cells:
                cell.session_source.is_ended = True
                self._alive.cell_contents.pop(cell.wanted.cell_contents, None)
            self._all.forget(cells)
        for cell in cells:
            cell.manager().close()
        session.end()

    def close_store(self) -> None:
        """Closes what nobody shares; after the sessions of all tenants."""
        if self._shown is None:
            self._sealed.closed = True

    # With the lock held:

    def _session(self, name: Hidden) -> SharedSession:
        with no_fork():
            from ._sharing.session import SharedSession

        session: SharedSession | None = self._sessions.cell_contents.get(name.cell_contents)
        if session is None:
            advice = _ADVICE if self._names.user(name) is None else _SIGN_IN_AGAIN
            key = self._names.key(name, ())
            session = SharedSession(self._sealed, key, name, self._ttl, advice)
            self._sessions.cell_contents[name.cell_contents] = session
        return session

    def _source(
        self, name: Hidden, scopes: tuple[str, ...], beginning: Beginning | None
    ) -> tuple[SessionSource, SharedSession]:
        session = self._session(name)
        key, share = self._names.key(name, scopes), partial(_share, self._sealed, session)
        return SessionSource(self._client, key, share, session, beginning), session

    # Without it, in a worker:

    def hear(self, cell: _SessionCell, seconds: float | None) -> None:
        """Keeps a manager whose fetch has ended, whoever was first to ask for it.

        Args:
            cell: Its cell.
            seconds: How long its failure stands; None where it has a token.
        """
        with self._all.lock:
            ended = self._closed or cell.session_source.is_ended
            if ended or cell.wanted.cell_contents not in self._alive.cell_contents:
                return
            if seconds is not None:
                self._all.keep_failed(cell, seconds)
            elif cell.assertion_ends_at is None:
                self._all.keep(cell, self._context.clock.wall() + self._ttl)
            else:
                self._all.keep(cell, cell.assertion_ends_at)


def _share(
    sealed: SealedStore, session: SharedSession, key: TokenKey, source: SessionSource
) -> Any:
    from ._sharing.session_token import SessionToken

    return SessionToken(sealed, session, key, source)
