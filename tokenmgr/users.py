"""The managers of users' tokens: found by what the user's call brought, bounded, each alone.

Nobody is kept before a first token has come: until then a manager is here for as long as somebody
else holds it, and so is one that has had to make room. So assertions that are worth nothing cost
nothing that stays, and push nobody out. Of those that failed last, a few are kept until they may be
asked for again, lest each call of a refused user's be a request.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from cachetools import TLRUCache

from ._context import Context
from ._engine.cell import Cell
from ._runtime.forks import renew_in_child
from ._runtime.secrecy import Hidden, Unpicklable
from .entra.client import ConfidentialClient
from .entra.grants.on_behalf_of import OnBehalfOfSource
from .errors import ConfigurationError, InteractionRequiredError
from .identity.assertions import UserAssertion
from .identity.authority import Authority
from .manager import AccessTokenManager, manager_of
from .token import Scopes, normalize_scopes

if TYPE_CHECKING:
    from ._sharing.slot import SealedStore

__all__ = ["Users"]

#: Scopes can be spelled in many ways, and so many spellings are remembered.
_MOST_SPELLINGS = 1_000
#: So many of those that have failed are kept while their back-off lasts.
_MOST_FAILED = 256
#: The tenant of all personal Microsoft accounts.
_PERSONAL = "9188040d-6c67-4c5b-b112-36a304b66dad"


class _Kept(NamedTuple):
    """A manager that is kept."""

    manager: AccessTokenManager
    #: Until when, on its cache's clock.
    until: float


def _until(_key: object, kept: _Kept, _now: float) -> float:
    return kept.until


class _Cache(TLRUCache[Any, _Kept]):
    """Managers by assertion and scopes. The first to go are those whose time is over."""

    def __init__(self, most: int, timer: Callable[[], float]) -> None:
        super().__init__(most, _until, timer)

    #: None for what is not there, and no KeyError, whose words would be the assertion.
    __missing__ = dict[Any, Any]().get  # type: ignore[assignment]


class _UserCell(Cell):
    """A user's cell, which knows its manager for as long as somebody has that."""

    known: Callable[[], AccessTokenManager | None] = staticmethod(lambda: None)

    def manager(self) -> AccessTokenManager:
        """Gives its manager, the same one while somebody has it."""
        manager = self.known()
        if manager is None:
            manager = manager_of(self)
            self.known = weakref.ref(manager)
        return manager


class Users(Unpicklable):
    """The managers of users, of one app.

    Args:
        most: So many are kept.
        client: The app, at its authority.
        context: What its managers have in common.
        sealed: Its store.

    Raises:
        ConfigurationError: The authority has no such grant.
    """

    def __init__(
        self, most: int, client: ConfidentialClient, context: Context, sealed: SealedStore | None
    ) -> None:
        if client.authority.kind == "b2c":
            raise ConfigurationError(
                "Azure AD B2C has no on-behalf-of grant: call the other API with the app's own "
                "token, by manager(), or have the user sign in for that API too"
            )
        self._client = client
        self._context = context
        self._sealed = sealed
        # By what is secret, and therefore hidden, caches and all. Those that have a token, until
        # their assertion ends.
        self._kept = Hidden(_Cache(most, context.clock.wall))
        #: Those that have failed, while that stands.
        self._failed = Hidden(_Cache(_MOST_FAILED, context.clock.elapsed))
        #: The cells of all that anybody has.
        self._alive: Hidden = Hidden(weakref.WeakValueDictionary[Any, _UserCell]())
        #: The app at the users' own tenants, where its authority stands for many.
        self._clients: weakref.WeakValueDictionary[str, ConfidentialClient] = (
            weakref.WeakValueDictionary()
        )
        #: Scopes as they were given, and as keys are made of them; read without the lock.
        self._spellings: dict[Scopes, tuple[str, ...]] = {}
        self._closed = False
        renew_in_child(self._start_anew)

    def _start_anew(self) -> None:
        """Keeps the managers in the child, and makes the lock anew."""
        #: Guards the fields above; never held while anything waits.
        self._lock = threading.RLock()

    def manager(self, text: Hidden, given: Scopes) -> AccessTokenManager:
        """Gives the manager of a user's token.

        Args:
            text: The assertion, without ``Bearer``.
            given: What the token is for.

        Raises:
            TokenManagerError: The assertion is none that could be exchanged, or a scope is none.
        """
        try:
            scopes = self._spellings.get(given) or self._spelled(given)
        except TypeError:  # a list or a set
            scopes = normalize_scopes(given)
        with self._lock:
            kept: _Kept | None = self._kept.cell_contents[text.cell_contents, scopes]
        if kept is not None:
            return kept.manager
        return self._find(Hidden((text.cell_contents, scopes)), text, scopes)

    def _spelled(self, given: Scopes) -> tuple[str, ...]:
        scopes = normalize_scopes(given)
        with self._lock:
            if len(self._spellings) >= _MOST_SPELLINGS:
                self._spellings.clear()
            self._spellings[given] = scopes
        return scopes

    def _find(self, wanted: Hidden, text: Hidden, scopes: tuple[str, ...]) -> AccessTokenManager:
        """Gives a manager that is not kept: one that somebody else holds, or a new one."""
        assertion = UserAssertion(text)
        assertion.check_time(self._context.clock.wall())
        with self._lock:
            if self._closed:
                raise ConfigurationError("this registry is closed: make a new TokenRegistry")
            cell: _UserCell | None = self._alive.cell_contents.get(wanted.cell_contents)
            if cell is None:
                cell = self._new_cell(wanted, assertion, scopes)
                self._alive.cell_contents[wanted.cell_contents] = cell
            elif cell.has_token:
                self._keep(wanted, cell, assertion.expires_at)  # it is in use again
            return cell.manager()

    # With the lock held:

    def _new_cell(
        self, wanted: Hidden, assertion: UserAssertion, scopes: tuple[str, ...]
    ) -> _UserCell:
        client = self.client_of(assertion)
        source = OnBehalfOfSource(client, assertion, scopes, wanders=client is not self._client)
        news = partial(self._hear, wanted, assertion.expires_at)
        return _UserCell(source, source.key, self._context, self._sealed, on_news=news)

    def client_of(self, assertion: UserAssertion) -> ConfidentialClient:
        """Gives the app at the user's own tenant: at another one it would get another's token."""
        authority, tenant = self._client.authority, assertion.tenant
        if not authority.is_multi_tenant_alias:
            return self._client
        if tenant is None:
            raise InteractionRequiredError(
                "the user's token does not say which tenant it is from, and the authority "
                f"{authority.tenant!r} stands for many: answer the caller with 401, or set the "
                "tenant in the authority"
            )
        if authority.tenant == ("organizations" if tenant == _PERSONAL else "consumers"):
            raise InteractionRequiredError(
                f"the user's account is of a kind that {authority.tenant!r} does not take: have "
                "them sign in with another account, or set the authority to 'common'"
            )
        client = self._clients.get(tenant)
        if client is None:
            client = self._client.at(Authority.entra(tenant, cloud=authority.host))
            self._clients[tenant] = client
        return client

    def _keep(self, wanted: Hidden, cell: _UserCell, ends_at: float) -> None:
        self._kept.cell_contents[wanted.cell_contents] = _Kept(cell.manager(), ends_at)
        self._failed.cell_contents.pop(wanted.cell_contents, None)

    # Without it, in a worker:

    def _hear(self, wanted: Hidden, ends_at: float, seconds: float | None) -> None:
        """Keeps a manager whose fetch has ended, whoever was first to ask for it.

        Args:
            wanted: What it is found by.
            ends_at: When its assertion ends.
            seconds: How long its failure stands; None where it has a token.
        """
        with self._lock:
            cell: _UserCell | None = self._alive.cell_contents.get(wanted.cell_contents)
            if self._closed or cell is None:
                return
            if seconds is None:
                self._keep(wanted, cell, ends_at)
                return
            until = self._context.clock.elapsed() + seconds
            self._failed.cell_contents[wanted.cell_contents] = _Kept(cell.manager(), until)

    def close(self) -> None:
        """Lets all tokens go."""
        with self._lock:
            self._closed = True
            managers = [cell.manager() for cell in list(self._alive.cell_contents.values())]
            self._kept.cell_contents.clear()
            self._failed.cell_contents.clear()
        for manager in managers:
            manager.close()
