"""Managers of users that are kept: so many at most, each until its time is over."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterable
from typing import Any, TypeVar, cast

from cachetools import TLRUCache

from ._context import Context
from ._engine.cell import Cell
from ._runtime.clock import Clock
from ._runtime.forks import renew_in_child
from ._runtime.secrecy import Hidden, Unpicklable
from .errors import ConfigurationError
from .manager import AccessTokenManager, cell_of, manager_of

__all__ = ["Keeper", "KeptCell", "KeptManagers"]

#: So many of those that have failed are kept while their back-off lasts.
_MOST_FAILED = 256

C = TypeVar("C", bound="KeptCell")


class KeptCell(Cell):
    """A cell that knows its manager for as long as somebody has that."""

    known: Callable[[], AccessTokenManager | None] = staticmethod(lambda: None)
    #: What the manager is found by, and until when it is kept, on its cache's clock.
    wanted: Hidden
    kept_until: float

    def manager(self) -> AccessTokenManager:
        """Gives its manager, the same one while somebody has it."""
        manager = self.known()
        if manager is None:
            manager = manager_of(self)
            self.known = weakref.ref(manager)
        return manager


def _until(_key: object, manager: AccessTokenManager, _now: float) -> float:
    return cast("KeptCell", cell_of(manager)).kept_until


class _Cache(TLRUCache[Any, AccessTokenManager]):
    """Managers by what is secret. The first to go are those whose time is over."""

    def __init__(self, most: int, timer: Callable[[], float]) -> None:
        super().__init__(most, _until, timer)

    #: None for what is not there, and no KeyError, whose words would be the secret.
    __missing__ = dict[Any, Any]().get  # type: ignore[assignment]


class KeptManagers(Unpicklable):
    """The managers that an app keeps of its users, whichever tenant they are of.

    They are found by what is secret, and therefore hidden, caches and all.

    Args:
        most: So many are kept; who was looked for longest ago makes room.
        context: What they have in common.
    """

    def __init__(self, most: int, context: Context) -> None:
        self._clock: Clock = context.clock
        #: Those that have a token.
        self.served: Hidden = Hidden(_Cache(most, context.clock.wall))
        #: Those that have failed, while that stands.
        self.failed: Hidden = Hidden(_Cache(_MOST_FAILED, context.clock.elapsed))
        renew_in_child(self._start_anew)

    def _start_anew(self) -> None:
        """Keeps the managers in the child, and makes the lock anew."""
        #: Guards all of that, and the fields of who keeps here; never held while anything waits.
        self.lock = threading.RLock()

    # With the lock held:

    def keep(self, cell: KeptCell, until: float) -> None:
        """Keeps the manager of a cell that has a token, until then by the wall clock."""
        cell.kept_until = until
        self.served.cell_contents[cell.wanted.cell_contents] = cell.manager()
        self.failed.cell_contents.pop(cell.wanted.cell_contents, None)

    def keep_failed(self, cell: KeptCell, seconds: float) -> None:
        """Keeps the manager of a cell whose failure stands for so long."""
        cell.kept_until = self._clock.elapsed() + seconds
        self.failed.cell_contents[cell.wanted.cell_contents] = cell.manager()

    def forget(self, cells: Iterable[KeptCell]) -> None:
        """Keeps these no more."""
        for kept in (self.served, self.failed):
            kept.cell_contents.expire()
            for cell in cells:
                kept.cell_contents.pop(cell.wanted.cell_contents, None)

    def let_go(self, alive: weakref.WeakValueDictionary[Any, C]) -> list[AccessTokenManager]:
        """Keeps none of those that are alive any more, and gives their managers, to be closed."""
        cells = _alive_of(alive)
        self.forget(cells)
        return [cell.manager() for cell in cells]


class Keeper(Unpicklable):
    """Who keeps managers at one tenant, beside those of all others."""

    #: Those that are kept, of all tenants.
    _all: KeptManagers
    #: The cells of all that anybody has, by what is secret.
    _alive: Hidden
    _closed = False

    @property
    def is_idle(self) -> bool:
        """Whether there is no manager, here or in anybody's hands."""
        return not self._alive.cell_contents

    def close(self) -> None:
        """Lets all tokens go."""
        with self._all.lock:
            self._closed = True
            managers = self._all.let_go(self._alive.cell_contents)
        for manager in managers:
            manager.close()

    def _check_open(self) -> None:
        """Refuses to go on once it is closed. With the lock held."""
        if self._closed:
            raise ConfigurationError("this registry is closed: make a new TokenRegistry")


def _alive_of(cells: weakref.WeakValueDictionary[Any, C]) -> list[C]:
    """Gives those that are alive. With the lock held, whoever comes in the middle all the same.

    The references are taken in one step: a signal's handler, or an object's end, may add one.
    """
    return [cell for cell in (each() for each in cells.valuerefs()) if cell is not None]
