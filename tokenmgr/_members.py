"""The managers of the app's own tokens: one for each key, and so many at most."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from ._context import Context
from ._engine.cell import Cell
from ._runtime.forks import renew_in_child
from .entra.client import ConfidentialClient
from .entra.grants.client_credentials import ClientCredentialsSource
from .errors import ConfigurationError
from .manager import AccessTokenManager, manager_of
from .token import Scopes, TokenKey, normalize_scopes

if TYPE_CHECKING:
    from ._sharing.slot import SealedStore

__all__ = ["Members"]

#: So many managers are kept, and so many spellings of their scopes.
_MOST = 10_000


class Members:
    """The managers of the app's own tokens.

    One that has had to make room for others goes on for as long as somebody holds it, and is found
    until then.

    Args:
        client: The app, at its authority.
        context: What its managers have in common.
        sealed: Its store.
    """

    def __init__(
        self, client: ConfidentialClient, context: Context, sealed: SealedStore | None
    ) -> None:
        self._client = client
        self._context = context
        self._sealed = sealed
        #: By the arguments as they were given; read without the lock.
        self.by_arguments: dict[Scopes, AccessTokenManager] = {}
        #: By key, those that were looked for last at the end.
        self._kept: dict[TokenKey, AccessTokenManager] = {}
        self._alive: WeakValueDictionary[TokenKey, AccessTokenManager] = WeakValueDictionary()
        self._closed = False
        renew_in_child(self._start_anew)

    def _start_anew(self) -> None:
        """Keeps the managers in the child, and makes the lock anew."""
        #: Guards the fields above; never held while anything waits.
        self._lock = threading.RLock()

    def manager(self, scopes: Scopes) -> AccessTokenManager:
        """Gives the manager of a scope, and finds it by the same arguments from then on.

        Raises:
            TokenManagerError: It is no scope for client credentials, or the registry is closed.
        """
        manager = self.find(scopes)
        with self._lock:
            if len(self.by_arguments) >= _MOST:
                self.by_arguments.clear()
            if not self._closed:
                self.by_arguments[scopes] = manager
        return manager

    def find(
        self, scopes: Iterable[str | Iterable[str]], *, cae: bool | None = None
    ) -> AccessTokenManager:
        """Gives the manager of a scope, by its key.

        Args:
            scopes: The scope, as it was given.
            cae: Whether it says that claims challenges are answered; None as the client has it.

        Raises:
            TokenManagerError: As for :meth:`manager`.
        """
        source = ClientCredentialsSource(self._client, normalize_scopes(scopes), cae=cae)
        with self._lock:
            if self._closed:
                raise ConfigurationError("this registry is closed: make a new TokenRegistry")
            manager = self._kept.pop(source.key, None) or self._alive.get(source.key)
            if manager is None:
                manager = manager_of(Cell(source, source.key, self._context, self._sealed))
                self._alive[source.key] = manager
            self._kept[source.key] = manager
            if len(self._kept) > _MOST:
                del self._kept[next(iter(self._kept))]
            return manager

    def all(self) -> list[AccessTokenManager]:
        """Gives those that are kept, in the order in which they were made or looked for."""
        with self._lock:
            return list(self._kept.values())

    def close(self) -> None:
        """Lets all tokens go."""
        with self._lock:
            self._closed = True
            managers = list(self._alive.values())
            self._kept.clear()
            self.by_arguments.clear()
        for manager in managers:
            manager.close()
