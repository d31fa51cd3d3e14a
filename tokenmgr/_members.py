"""The managers of the app's own tokens: one for each key, and so many at most."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from ._context import Context
from ._engine.cell import Cell
from ._runtime.clock import Clock
from ._runtime.forks import renew_in_child
from ._runtime.loops import running_loop
from .entra.client import Client
from .entra.particulars import Extra
from .entra.sources.base import source_of
from .errors import ConfigurationError, TokenManagerError
from .manager import AccessTokenManager, manager_of
from .token import Scopes, TokenKey, normalize_scopes

if TYPE_CHECKING:
    from ._sharing.slot import SealedStore

__all__ = ["Members", "fetch_all", "fetch_all_async"]

#: So many managers are kept, and so many spellings of their scopes.
_MOST = 10_000


class _Kept:
    """The managers that an app keeps, whichever tenant they are of."""

    def __init__(self) -> None:
        #: Those that were looked for last at the end.
        self.managers: dict[TokenKey, AccessTokenManager] = {}
        #: The spellings of each tenant that has any, and how many there are in all.
        self.spelled: list[dict[Scopes, AccessTokenManager]] = []
        self.spellings = 0
        renew_in_child(self._start_anew)

    def _start_anew(self) -> None:
        """Keeps the managers in the child, and makes the lock anew."""
        #: Guards all of that, and the fields of the members; never held while anything waits.
        self.lock = threading.RLock()

    # With the lock held:

    def keep(self, key: TokenKey, manager: AccessTokenManager) -> None:
        """Keeps a manager as the one that was looked for last."""
        self.managers[key] = manager
        if len(self.managers) > _MOST:
            del self.managers[next(iter(self.managers))]

    def spell(
        self,
        by_arguments: dict[Scopes, AccessTokenManager],
        given: Scopes,
        manager: AccessTokenManager,
    ) -> None:
        """Has a manager be found among its tenant's by what was given."""
        if self.spellings >= _MOST:
            for each in self.spelled:
                each.clear()
            self.spelled, self.spellings = [], 0
        if not by_arguments:
            self.spelled.append(by_arguments)
        self.spellings += 1
        by_arguments[given] = manager


class Members:
    """The managers of the app's own tokens, at one tenant.

    One that has had to make room for others goes on for as long as somebody holds it, and is found
    until then. Those of all tenants of an app have one bound.

    Args:
        client: The app, at its authority.
        context: What its managers have in common.
        sealed: Its store.
        beside: Those of another tenant.
    """

    def __init__(
        self,
        client: Client,
        context: Context,
        sealed: SealedStore | None,
        beside: Members | None = None,
    ) -> None:
        self._client = client
        self._context = context
        self._sealed = sealed
        self._kept: _Kept = _Kept() if beside is None else beside._kept  # noqa: SLF001 - its own
        #: By the arguments as they were given; read without the lock.
        self.by_arguments: dict[Scopes, AccessTokenManager] = {}
        self._alive: WeakValueDictionary[TokenKey, AccessTokenManager] = WeakValueDictionary()
        self._closed = False

    def at(self, client: Client) -> Members:
        """Makes those of the same app at another tenant."""
        return Members(client, self._context, self._sealed, self)

    @property
    def is_idle(self) -> bool:
        """Whether there is no manager, here or in anybody's hands."""
        return not self._alive

    def manager(self, scopes: Scopes) -> AccessTokenManager:
        """Gives the manager of a scope, and finds it by the same arguments from then on.

        Raises:
            TokenManagerError: It is no scope for client credentials, or the registry is closed.
        """
        manager = self.find(scopes)
        with self._kept.lock:
            if not self._closed:
                self._kept.spell(self.by_arguments, scopes, manager)
        return manager

    def find(
        self,
        scopes: Iterable[str | Iterable[str]],
        *,
        cae: bool | None = None,
        forwarded_claims: str | None = None,
        extra: Extra | None = None,
        fmi_path: str | None = None,
        client: Client | None = None,
    ) -> AccessTokenManager:
        """Gives the manager of a scope, by its key.

        Args:
            scopes: The scope, as it was given.
            cae: Whether it says that claims challenges are answered; None as the client has it,
                and so with what follows.
            forwarded_claims: The claims that are asked for with each token, as JSON.
            extra: Parameters that the request has besides.
            fmi_path: Whom else its tokens are to prove.
            client: Whose it is: an agent's of the app; its own when left out.

        Raises:
            TokenManagerError: As for :meth:`manager`.
        """
        source = source_of(
            client or self._client,
            normalize_scopes(scopes),
            cae=cae,
            forwarded_claims=forwarded_claims,
            extra=extra,
            fmi_path=fmi_path,
        )
        with self._kept.lock:
            if self._closed:
                raise ConfigurationError("this registry is closed: make a new TokenRegistry")
            manager = self._kept.managers.pop(source.key, None) or self._alive.get(source.key)
            if manager is None:
                # A user's fetch waits for T2, and whatever is an agent's for T1: see agents.py.
                depth = 2 if fmi_path is not None else int(client is not None)
                context = self._context.beneath(depth)
                manager = manager_of(Cell(source, source.key, context, self._sealed))
            self._alive[source.key] = manager
            self._kept.keep(source.key, manager)
            return manager

    def all(self) -> list[AccessTokenManager]:
        """Gives those that are kept, in the order in which they were made."""
        with self._kept.lock:
            return [each for each in self._all_alive() if each.key in self._kept.managers]

    def close(self) -> None:
        """Lets all tokens go."""
        with self._kept.lock:
            self._closed = True
            managers = self._all_alive()
            for manager in managers:
                self._kept.managers.pop(manager.key, None)
            self.by_arguments.clear()
        for manager in managers:
            manager.close()

    def _all_alive(self) -> list[AccessTokenManager]:
        # References first, in one step: a signal's handler, or an object's end, may add one.
        alive = [each() for each in self._alive.valuerefs()]
        return [each for each in alive if each is not None]


def fetch_all(managers: Sequence[AccessTokenManager], clock: Clock, timeout: float | None) -> None:
    """Fetches the tokens of several managers side by side.

    Args:
        managers: Which.
        clock: The time.
        timeout: Seconds to wait for all of them; None for what each waits by itself.

    Raises:
        TokenManagerError: One has no token; the others have theirs, or their own failure.
    """
    give_up_at = None if timeout is None else clock.elapsed() + timeout
    for manager in managers:
        with suppress(TokenManagerError):  # the second round says so
            manager.prefetch()
    failures = []
    for manager in managers:
        left = None if give_up_at is None else give_up_at - clock.elapsed()
        try:
            manager.get_token(timeout=left)
        except TokenManagerError as exc:
            failures.append(exc)
    if failures:
        raise failures[0]


async def fetch_all_async(managers: Sequence[AccessTokenManager], timeout: float | None) -> None:
    """Does as :func:`fetch_all`, from any event loop, and never blocks it."""
    running_loop()
    import asyncio

    outcomes = await asyncio.gather(
        *(manager.aget_token(timeout=timeout) for manager in managers), return_exceptions=True
    )
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
