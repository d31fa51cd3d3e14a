"""Managers that are kept: so many at most, each until its time is over."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

from cachetools import TLRUCache

from ._engine.cell import Cell
from ._runtime.secrecy import Hidden
from .manager import AccessTokenManager, manager_of

__all__ = ["Kept", "KeptCell", "KeptManagers"]


class Kept(NamedTuple):
    """A manager that is kept."""

    manager: AccessTokenManager
    #: Until when, on its cache's clock.
    until: float


class KeptCell(Cell):
    """A cell that knows its manager for as long as somebody has that."""

    known: Callable[[], AccessTokenManager | None] = staticmethod(lambda: None)
    #: What the manager is found by.
    wanted: Hidden

    def manager(self) -> AccessTokenManager:
        """Gives its manager, the same one while somebody has it."""
        manager = self.known()
        if manager is None:
            manager = manager_of(self)
            self.known = weakref.ref(manager)
        return manager


class KeptManagers(TLRUCache[Any, Kept]):
    """Managers by what is secret. The first to go are those whose time is over.

    Args:
        most: So many are kept; who was looked for longest ago makes room.
        timer: The clock.
    """

    def __init__(self, most: int, timer: Callable[[], float]) -> None:
        super().__init__(most, _until, timer)

    #: None for what is not there, and no KeyError, whose words would be the secret.
    __missing__ = dict[Any, Any]().get  # type: ignore[assignment]


def _until(_key: object, kept: Kept, _now: float) -> float:
    return kept.until
