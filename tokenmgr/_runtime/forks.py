"""What a forked child makes new, and what a fork waits for.

A child has one thread, the one that forked. Every other thread of its parent is gone, in the
middle of whatever it did, and the locks that it held stay locked for ever. So each child makes its
locks anew (:func:`renew_in_child`). Some locks nobody can make anew: those of modules that are
being imported, and those inside of OpenSSL. For these there is a readers-writer lock, in which the
fork is the writer: threads that have to do with them are the readers (:func:`no_fork`), any number
of them at once, and a fork waits until there is none.

Whoever waits looks again and again, and takes no lock for it: an interruption, by a signal's
handler or by the garbage collector, finds nothing half-locked here, whenever it comes.
"""

from __future__ import annotations

import contextlib

# What is registered first for forks is called last before them: logging must not have taken its
# lock while a fork waits here for an import, which makes loggers.
import logging  # noqa: F401
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

__all__ = [
    "about_to_end",
    "fork_allowed",
    "keeps_forks_away",
    "no_fork",
    "renew_in_child",
    "renew_where_patched",
]

#: Seconds that a fork waits, and that others wait for a fork. An import takes a tenth of one, and
#: so does a TLS handshake; what takes longer is stuck, and the other goes ahead all the same.
_LONGEST_WAIT = 10.0
#: Seconds that a fork waits for threads that are about to end: they take microseconds.
_LONGEST_END = 1.0
#: Seconds between two looks.
_LOOK_EVERY = 0.001


T = TypeVar("T")


class _ForkLock:
    """The readers-writer lock. It knows its readers by their threads: a count could go wrong."""

    def __init__(self) -> None:
        self._readers: set[int] = set()
        #: The thread that forks, or waits to; 0 when none does.
        self._writer = 0
        #: The same thread, once it waits no more.
        self._writing = 0
        #: Held by the thread that forks: one fork must not undo what another has put away.
        self._forking = threading.RLock()

    def read(self) -> None:
        """Keeps forks from beginning, after the one that is under way or waits."""
        me = threading.get_ident()
        if self._writer not in (0, me) and not _wait_until(lambda: self._writer in (0, me)):
            self._writer = self._writing = 0  # it is stuck, and has been waited for once
        self.read_on()

    def read_on(self) -> None:
        """Keeps forks from beginning, after the one that is under way.

        Not after one that waits: it may wait for a reader that waits for this one, as a handshake
        does for a server in the same process.
        """
        me = threading.get_ident()
        self._readers.add(me)
        # First the name, then the look, and so does the fork: one sees the other. Where both do,
        # both step back.
        while self._writing not in (0, me):
            self._readers.discard(me)
            if not _wait_until(lambda: self._writing in (0, me)):
                self._writing = 0
            self._readers.add(me)

    def stop_reading(self) -> None:
        self._readers.discard(threading.get_ident())

    def write(self) -> None:
        """Waits for other forks, and for the readers, and keeps new ones from coming."""
        me = threading.get_ident()
        self._forking.acquire(timeout=_LONGEST_WAIT)
        self._writer = me
        if not _wait_until(lambda: self._begins(me)):
            self._readers &= {me}  # whoever is stuck has been waited for once
            self._writing = me

    def _begins(self, me: int) -> bool:
        if self._readers - {me}:
            return False
        self._writing = me
        if self._readers - {me}:
            self._writing = 0
            return False
        return True

    def stop_writing(self) -> None:
        self._writer = self._writing = 0
        with contextlib.suppress(RuntimeError):  # it did not get it, as another fork was stuck
            self._forking.release()


def _wait_until(condition: Callable[[], bool], longest: float | None = None) -> bool:
    give_up_at = time.monotonic() + (_LONGEST_WAIT if longest is None else longest)
    while not condition():
        if time.monotonic() >= give_up_at:
            return False
        time.sleep(_LOOK_EVERY)
    return True


class _Mine(threading.local):
    """What a thread knows of itself."""

    #: Whether it is a reader.
    reads = False
    #: What it is to do when its fork is done.
    afterwards: contextlib.ExitStack | None = None


_lock = _ForkLock()
_mine = _Mine()
#: By the system's numbers, the threads that were about to end when they were last seen.
_ending: set[int] = set()
#: In the order in which they came: the objects with the methods that make anew, and with those that
#: put away before a fork.
_renewals: dict[weakref.ref[Any], Callable[[Any], None]] = {}
_forget_renewal = _renewals.pop  # one for all, as there may be many
_preparations: dict[weakref.ref[Any], Callable[[Any], Callable[[], None]]] = {}


def renew_in_child(
    renew: Callable[[], None], *, before: Callable[[], Callable[[], None]] | None = None
) -> None:
    """Calls a method now, and again in every child, for as long as its object lives.

    Args:
        renew: A method that makes the object's locks, and forgets its threads.
        before: A method for what must not be carried over a fork at all. It is called in the
            parent before one, puts that away, and gives what is to be called in the parent after.
            It waits for other threads for a limited time only; what it raises is passed over.
    """
    renew()
    # At the object's end nothing of Python runs, where an interruption would be lost.
    _renewals[weakref.ref(renew.__self__, _forget_renewal)] = renew.__func__  # type: ignore[attr-defined]
    if before is not None:
        that = weakref.ref(before.__self__, _preparations.pop)  # type: ignore[attr-defined]
        _preparations[that] = before.__func__  # type: ignore[attr-defined]


def _call(entry: tuple[weakref.ref[Any], Callable[[Any], T]]) -> T | None:
    that, method = entry[0](), entry[1]
    return None if that is None else method(that)


@contextlib.contextmanager
def no_fork() -> Iterator[None]:
    """Keeps this process from forking in the middle of what follows; also a decorator.

    It belongs into whatever takes locks of OpenSSL's, or imports something for the first time.
    """
    if _mine.reads:
        yield
        return
    try:
        _mine.reads = True
        _lock.read()
        yield
    finally:
        _mine.reads = False
        _lock.stop_reading()


@contextlib.contextmanager
def fork_allowed() -> Iterator[None]:
    """Lets forks go ahead meanwhile, in the middle of :func:`no_fork`."""
    if not _mine.reads:
        yield
        return
    _mine.reads = False
    _lock.stop_reading()
    try:
        yield
    finally:
        _mine.reads = True
        _lock.read_on()


def keeps_forks_away() -> bool:
    """Whether this thread is in the middle of :func:`no_fork`."""
    return _mine.reads


def about_to_end() -> None:
    """Has forks wait until this thread, which has nothing more to do, is gone.

    As a thread ends that has used OpenSSL, its last act takes a lock there. A child that is forked
    in that moment hangs as it exits itself.
    """
    for number in [each for each in _ending.copy() if not _is_there(each)]:
        _ending.discard(number)
    _ending.add(threading.get_native_id())


def _is_there(thread: int) -> bool:
    """Whether a thread of this process is there still; where nobody can say, it is not."""
    return Path(f"/proc/self/task/{thread}").exists()


def _before_fork() -> None:
    afterwards = contextlib.ExitStack()
    # Where a signal's handler forks in the middle of a fork, that one goes on afterwards.
    afterwards.callback(setattr, _mine, "afterwards", _mine.afterwards)
    _mine.afterwards = afterwards
    afterwards.callback(_lock.stop_writing)
    _lock.write()
    _wait_until(lambda: not any(_is_there(each) for each in _ending.copy()), _LONGEST_END)
    _ending.clear()
    for each in _preparations.copy().items():
        with contextlib.suppress(Exception):
            take_out = _call(each)
            if take_out is not None:
                afterwards.callback(take_out)


def _after_fork_in_parent() -> None:
    # None where this module was imported in the middle of the fork.
    if _mine.afterwards is not None:
        with contextlib.suppress(Exception):
            _mine.afterwards.close()


def _after_fork_in_child() -> None:
    global _lock  # noqa: PLW0603 - the parent's may be locked for ever
    _lock = _ForkLock()
    if _mine.reads:
        _lock.read()
    _mine.afterwards = None
    # A copy, which is made in one step: the garbage collector may come in the middle of anything
    # else, and what it collects goes from here.
    for each in _renewals.copy().items():
        with contextlib.suppress(Exception):  # one's failure is not all the others'
            _call(each)


#: What makes locks, as long as threads are threads.
_lock_kind: object = threading.Lock


def renew_where_patched() -> None:
    """Makes all anew, as in a child, once greenlets have taken the place of threads.

    A lock of before would stop all of them together: ``gevent.monkey.patch_all()`` leaves those
    alone that are there already.
    """
    global _lock_kind  # noqa: PLW0603 - it tells of the whole process
    if threading.Lock is _lock_kind:
        return
    _lock_kind = threading.Lock
    _before_fork()
    _after_fork_in_child()


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
