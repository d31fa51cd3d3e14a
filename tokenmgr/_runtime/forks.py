"""What a forked child makes new: locks that a thread of its parent may have held, and threads.

A child has one thread, the one that forked. Every other thread of its parent is gone, in the
middle of whatever it did, and the locks that it held stay locked for ever. Some of them nobody can
make anew: those of modules that are being imported, and those inside of OpenSSL. While a thread has
to do with these, a fork waits.
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Iterator
from typing import Protocol

__all__ = ["Forkable", "fork_allowed", "make_new_in_child", "no_fork"]

#: Seconds that a fork waits, and that others wait for a fork. An import takes a tenth of one, and
#: so does a TLS handshake; what takes longer is stuck, and the other goes ahead all the same.
_LONGEST_WAIT = 10.0


class Forkable(Protocol):
    """Something with locks or threads.

    What must not be carried over a fork at all has one method more, which is called in the parent
    before it: ``before_fork()`` puts it away, and gives what is to be called in the parent after.
    It waits for other threads for a limited time only; what it raises is passed over.
    """

    def after_fork(self) -> None:
        """Makes its locks anew, and forgets its threads. Called in the child, before all else."""
        ...


class _Truce:
    """The threads that want no fork now, and the one that forks: either waits for the other.

    It knows them by name, not by number: an interruption that has one of them come without going,
    or go without coming, does no harm that lasts.
    """

    def __init__(self) -> None:
        #: Guards the two below. A signal's handler may need it in the middle of them.
        self._changed = threading.Condition()
        self._busy: set[int] = set()
        self._forking: set[int] = set()

    def enter(self) -> None:
        """Waits for a fork to be over, and keeps others from beginning."""
        with self._changed:
            self._wait_until_gone(self._forking)
            self._busy.add(threading.get_ident())

    def leave(self) -> None:
        with self._changed:
            self._busy.discard(threading.get_ident())
            self._changed.notify_all()

    def begin_fork(self) -> None:
        """Waits for other forks, lest one undo what another has put away, and for the busy."""
        with self._changed:
            self._wait_until_gone(self._forking)
            self._forking.add(threading.get_ident())
            self._wait_until_gone(self._busy)

    def end_fork(self) -> None:
        with self._changed:
            self._forking.discard(threading.get_ident())
            self._changed.notify_all()

    def _wait_until_gone(self, others: set[int]) -> None:
        me = {threading.get_ident()}
        if not self._changed.wait_for(lambda: others <= me, _LONGEST_WAIT):
            others &= me  # whoever is stuck has been waited for once


_forkables: weakref.WeakSet[Forkable] = weakref.WeakSet()
_truce = _Truce()


class _Mine(threading.local):
    """What a thread knows of itself."""

    #: How often it wants no fork.
    depth = 0
    #: What it is to do when its fork is done.
    afterwards: contextlib.ExitStack | None = None


_mine = _Mine()


def make_new_in_child(forkable: Forkable) -> None:
    """Has ``forkable.after_fork()`` called in every child, for as long as it lives."""
    _forkables.add(forkable)


@contextlib.contextmanager
def no_fork() -> Iterator[None]:
    """Keeps this process from forking in the middle of what follows."""
    depth = _mine.depth
    _mine.depth = depth + 1
    try:
        if not depth:
            _truce.enter()
        yield
    finally:
        _mine.depth = depth
        if not depth:
            _truce.leave()


@contextlib.contextmanager
def fork_allowed() -> Iterator[None]:
    """Lets forks go ahead meanwhile, in the middle of :func:`no_fork`."""
    depth = _mine.depth
    _mine.depth = 0
    try:
        if depth:
            _truce.leave()
        yield
    finally:
        _mine.depth = depth
        if depth:
            _truce.enter()


def _before_fork() -> None:
    afterwards = _mine.afterwards = contextlib.ExitStack()
    afterwards.callback(_truce.end_fork)
    _truce.begin_fork()
    for forkable in _all():
        with contextlib.suppress(Exception):
            before_fork = getattr(forkable, "before_fork", None)
            if before_fork is not None:
                afterwards.callback(before_fork())


def _all() -> list[Forkable]:
    while True:
        with contextlib.suppress(RuntimeError):  # another thread has added one meanwhile
            return list(_forkables)


def _after_fork_in_parent() -> None:
    # None where this module was imported in the middle of the fork.
    afterwards, _mine.afterwards = _mine.afterwards, None
    if afterwards is not None:
        with contextlib.suppress(Exception):
            afterwards.close()


def _after_fork_in_child() -> None:
    global _truce  # noqa: PLW0603 - the parent's may be locked for ever
    _truce = _Truce()
    if _mine.depth:
        _truce.enter()
    _mine.afterwards = None
    for forkable in list(_forkables):
        forkable.after_fork()


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
