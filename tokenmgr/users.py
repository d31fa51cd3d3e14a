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
from typing import TYPE_CHECKING, Any, cast

from cachetools import TLRUCache

from ._context import Context
from ._engine.cell import Cell
from ._runtime.forks import renew_in_child
from ._runtime.secrecy import Hidden, Unpicklable
from .entra.client import ConfidentialClient
from .entra.grants.on_behalf_of import OnBehalfOfSource
from .errors import ConfigurationError, InteractionRequiredError
from .identity.assertions import UserAssertion
from .identity.authority import neighbour
from .manager import AccessTokenManager, cell_of, manager_of
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


def _until(_key: object, manager: AccessTokenManager, _now: float) -> float:
    return cast("_UserCell", cell_of(manager)).kept_until


class _Cache(TLRUCache[Any, AccessTokenManager]):
    """Managers by assertion, scopes and authority. The first to go are those whose time is over."""

    def __init__(self, most: int, timer: Callable[[], float]) -> None:
        super().__init__(most, _until, timer)

    #: None for what is not there, and no KeyError, whose words would be the assertion.
    __missing__ = dict[Any, Any]().get  # type: ignore[assignment]


class _Kept(Unpicklable):
    """The managers that an app keeps, whichever tenant they are of.

    They are found by what is secret, and therefore hidden, caches and all.

    Args:
        most: So many are kept.
        context: What they have in common.
    """

    def __init__(self, most: int, context: Context) -> None:
        #: Those that have a token, until their assertion ends.
        self.served: Hidden = Hidden(_Cache(most, context.clock.wall))
        #: Those that have failed, while that stands.
        self.failed: Hidden = Hidden(_Cache(_MOST_FAILED, context.clock.elapsed))
        #: Scopes as they were given, and as keys are made of them; read without the lock.
        self.spellings: dict[Scopes, tuple[str, ...]] = {}
        renew_in_child(self._start_anew)

    def _start_anew(self) -> None:
        """Keeps the managers in the child, and makes the lock anew."""
        #: Guards all of that, and the fields of the users; never held while anything waits.
        self.lock = threading.RLock()


class _UserCell(Cell):
    """A user's cell, which knows its manager for as long as somebody has that."""

    known: Callable[[], AccessTokenManager | None] = staticmethod(lambda: None)
    #: Whose it is, what it is found by, and until when it is kept, on its cache's clock.
    users: Users
    wanted: Hidden
    kept_until: float

    def manager(self) -> AccessTokenManager:
        """Gives its manager, the same one while somebody has it."""
        manager = self.known()
        if manager is None:
            manager = manager_of(self)
            self.known = weakref.ref(manager)
        return manager

    def _tell_news(self, seconds: float | None) -> None:
        self.users.hear(self, seconds)


class Users(Unpicklable):
    """The managers of users, of one app at one tenant. Those of all tenants have one bound.

    Args:
        most: So many are kept.
        client: The app, at its authority.
        context: What its managers have in common.
        sealed: Its store.
        beside: Those of another tenant.

    Raises:
        ConfigurationError: The authority has no such grant.
    """

    def __init__(
        self,
        most: int,
        client: ConfidentialClient,
        context: Context,
        sealed: SealedStore | None,
        beside: Users | None = None,
    ) -> None:
        if client.authority.kind == "b2c":
            raise ConfigurationError(
                "Azure AD B2C has no on-behalf-of grant: call the other API with the app's own "
                "token, by manager(), or have the user sign in for that API too"
            )
        self._most = most
        self._client = client
        self._context = context
        self._sealed = sealed
        self._all: _Kept = _Kept(most, context) if beside is None else beside._all  # noqa: SLF001
        #: The cells of all that anybody has.
        self._alive: Hidden = Hidden(weakref.WeakValueDictionary[Any, _UserCell]())
        self._closed = False

    def at(self, client: ConfidentialClient) -> Users:
        """Makes those of the same app at another tenant."""
        return Users(self._most, client, self._context, self._sealed, self)

    @property
    def is_idle(self) -> bool:
        """Whether there is no manager, here or in anybody's hands."""
        return not self._alive.cell_contents

    def manager(self, text: Hidden, given: Scopes) -> AccessTokenManager:
        """Gives the manager of a user's token.

        Args:
            text: The assertion, without ``Bearer``.
            given: What the token is for.

        Raises:
            TokenManagerError: The assertion is none that could be exchanged, or a scope is none.
        """
        try:
            scopes = self._all.spellings.get(given) or self._spelled(given)
        except TypeError:  # a list or a set
            scopes = normalize_scopes(given)
        url = self._client.authority.url
        with self._all.lock:
            kept: AccessTokenManager | None
            kept = self._all.served.cell_contents[text.cell_contents, scopes, url]
        return kept or self._find(Hidden((text.cell_contents, scopes, url)), text, scopes)

    def _spelled(self, given: Scopes) -> tuple[str, ...]:
        scopes = normalize_scopes(given)
        with self._all.lock:
            if len(self._all.spellings) >= _MOST_SPELLINGS:
                self._all.spellings.clear()
            self._all.spellings[given] = scopes
        return scopes

    def _find(self, wanted: Hidden, text: Hidden, scopes: tuple[str, ...]) -> AccessTokenManager:
        """Gives a manager that is not kept: one that somebody else holds, or a new one."""
        assertion = UserAssertion(text)
        assertion.check_time(self._context.clock.wall())
        with self._all.lock:
            if self._closed:
                raise ConfigurationError("this registry is closed: make a new TokenRegistry")
            cell: _UserCell | None = self._alive.cell_contents.get(wanted.cell_contents)
            if cell is None:
                cell = self._new_cell(wanted, assertion, scopes)
                self._alive.cell_contents[wanted.cell_contents] = cell
            elif cell.has_token:
                self._keep(cell)  # it is in use again
            return cell.manager()

    # With the lock held:

    def _new_cell(
        self, wanted: Hidden, assertion: UserAssertion, scopes: tuple[str, ...]
    ) -> _UserCell:
        client = self._client_of(assertion)
        source = OnBehalfOfSource(client, assertion, scopes, wanders=client is not self._client)
        cell = _UserCell(source, source.key, self._context, self._sealed)
        cell.users, cell.wanted = self, wanted
        return cell

    def _client_of(self, assertion: UserAssertion) -> ConfidentialClient:
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
        return self._client.at(neighbour(authority, tenant))

    def _keep(self, cell: _UserCell) -> None:
        cell.kept_until = cell.ends_at
        self._all.served.cell_contents[cell.wanted.cell_contents] = cell.manager()
        self._all.failed.cell_contents.pop(cell.wanted.cell_contents, None)

    # Without it, in a worker:

    def hear(self, cell: _UserCell, seconds: float | None) -> None:
        """Keeps a manager whose fetch has ended, whoever was first to ask for it.

        Args:
            cell: Its cell.
            seconds: How long its failure stands; None where it has a token.
        """
        with self._all.lock:
            if self._closed:
                return
            if seconds is None:
                self._keep(cell)
                return
            cell.kept_until = self._context.clock.elapsed() + seconds
            self._all.failed.cell_contents[cell.wanted.cell_contents] = cell.manager()

    def close(self) -> None:
        """Lets all tokens go."""
        with self._all.lock:
            self._closed = True
            cells = list(self._alive.cell_contents.values())
            for kept in (self._all.served, self._all.failed):
                kept.cell_contents.expire()
                for cell in cells:
                    kept.cell_contents.pop(cell.wanted.cell_contents, None)
            managers = [cell.manager() for cell in cells]
        for manager in managers:
            manager.close()
