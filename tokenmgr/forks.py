"""What a forked child makes new: locks that a thread of its parent may have held, and threads.

A child has one thread, the one that forked. Every other thread of its parent is gone, in the
middle of whatever it did, and the locks that it held stay locked for ever. Python's own locks of
modules that are being imported are among them, and nobody can make those anew: a fork waits until
the imports of the first fetch are done.
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Protocol

__all__ = ["Forkable", "importing", "make_new_in_child"]

#: An import takes a tenth of a second; a fork goes ahead all the same when one is stuck.
_LONGEST_IMPORT = 10.0


class Forkable(Protocol):
    """Something with locks or threads.

    What must not be carried over a fork at all has one method more, which is called in the parent
    before it: ``before_fork()`` puts it away, and gives what is to be called in the parent after.
    It waits for other threads for a limited time only; what it raises is passed over.
    """

    def after_fork(self) -> None:
        """Makes its locks anew, and forgets its threads. Called in the child, before all else."""
        ...


_forkables: weakref.WeakSet[Forkable] = weakref.WeakSet()
_imports = threading.RLock()
#: What is to be called in the parent when the fork is done.
_afterwards: list[Callable[[], object]] = []


def make_new_in_child(forkable: Forkable) -> None:
    """Has ``forkable.after_fork()`` called in every child, for as long as it lives."""
    _forkables.add(forkable)


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """Keeps this process from forking in the middle of the imports that follow."""
    with _imports:
        yield


def _before_fork() -> None:
    _imports.acquire(timeout=_LONGEST_IMPORT)
    for forkable in _all():
        with contextlib.suppress(Exception):
            before_fork = getattr(forkable, "before_fork", None)
            if before_fork is not None:
                _afterwards.append(before_fork())


def _all() -> list[Forkable]:
    while True:
        with contextlib.suppress(RuntimeError):  # another thread has added one meanwhile
            return list(_forkables)


def _after_fork_in_parent() -> None:
    while _afterwards:
        with contextlib.suppress(Exception):
            _afterwards.pop()()
    try:
        _imports.release()
    except RuntimeError:  # the wait for it was given up
        return


def _after_fork_in_child() -> None:
    global _imports  # noqa: PLW0603 - the parent's may be locked for ever
    _imports = threading.RLock()
    _afterwards.clear()
    for forkable in list(_forkables):
        forkable.after_fork()


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
