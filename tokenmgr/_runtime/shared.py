"""What the registries of a process have in common: one thing for each address.

Whoever takes part in it holds a share. The last one who ends his share has the thing closed; where
the shares are dropped instead, it goes with them. It opens again by itself, should it be used after
it was closed: by somebody who took a share in the same moment, or whose work is under way still. So
nothing here has to be right about who comes first. At the end of a share nothing of Python's runs,
where an interruption would be lost.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from .forks import renew_in_child
from .secrecy import Hidden

__all__ = ["Share", "Shared"]


class _Closable(Protocol):
    def close(self) -> None: ...


T = TypeVar("T", bound=_Closable)


class _Common(Generic[T]):
    """A thing, and the shares in it."""

    def __init__(self, thing: T) -> None:
        self.thing = thing
        self.shares: set[weakref.ref[Share[T]]] = set()


class Share(Generic[T]):
    """A part in a thing."""

    def __init__(self, common: _Common[T]) -> None:
        self._common = common
        #: What is shared.
        self.thing: T = common.thing
        self._counted = weakref.ref(self, common.shares.discard)
        common.shares.add(self._counted)

    def end(self) -> None:
        """Ends it. Once is enough, twice does no harm."""
        if self._counted in self._common.shares:
            self._common.shares.discard(self._counted)
            if not self._common.shares:
                self.thing.close()


class Shared(Generic[T]):
    """The things of one kind, by their addresses."""

    def __init__(self) -> None:
        # By digests: an address may hold a password.
        self._things: weakref.WeakValueDictionary[bytes, _Common[T]] = weakref.WeakValueDictionary()
        renew_in_child(self._start_anew)

    def _start_anew(self) -> None:
        """Keeps the things in the child; each sees to itself there."""
        #: Held while one is looked up or made, which opens nothing.
        self._lock = threading.RLock()

    def take(self, address: Hidden, make: Callable[[], T]) -> Share[T]:
        """Gives a share in the thing of an address, which is made if there is none.

        Args:
            address: A text, hidden.
            make: Makes it.
        """
        import hashlib

        digest = hashlib.sha256(address.cell_contents.encode(errors="surrogatepass")).digest()
        with self._lock:
            common = self._things.get(digest)
            if common is None:
                common = self._things[digest] = _Common(make())
            return Share(common)
