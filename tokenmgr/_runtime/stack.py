"""What this thread is in the middle of, as its own stack tells.

A signal's handler, or the end of an object that the garbage collector finds, comes in between any
two steps of a thread, and a log handler comes back from the middle of a record. What they ask for
must not wait for this very thread. Nothing is noted for that which an interruption could leave
behind: the frames are there as long as what they do.
"""

from __future__ import annotations

import logging
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

from .forks import keeps_forks_away
from .secrecy import Hidden
from .threads import DaemonThread

__all__ = ["handled_now", "interruption_in", "is_logging", "let_interruptions_pass", "longest_wait"]

#: Seconds that a log handler may wait for another thread, which may want to log to it meanwhile.
_IN_A_LOG_HANDLER = 0.5

_PACKAGE = __name__.partition(".")[0]
_HANDLE = logging.Handler.handle.__code__


def is_logging() -> bool:
    """Whether this thread is in a log handler, and so has that one's lock."""
    return any(frame.f_code is _HANDLE for frame in _frames())


def longest_wait() -> float:
    """Says for how many seconds this thread may wait for another one's fetch.

    Not at all in the middle of what the other one may wait for: while it has a lock of this
    library's, keeps forks away, or is to do that very fetch. Nor where no other thread runs any
    more, as the interpreter ends.
    """
    longest, outermost = float("inf"), None
    for frame in _frames():
        if frame.f_code is _HANDLE:
            longest = _IN_A_LOG_HANDLER
        if str(frame.f_globals.get("__name__")).startswith(_PACKAGE) and _has_lock(frame):
            return 0.0
        outermost = frame
    thread = _self_of(outermost)  # which as it begins is not yet known as the current one
    between = isinstance(thread, DaemonThread) and not thread.works
    return 0.0 if keeps_forks_away() or between or sys.is_finalizing() else longest


def handled_now() -> int:
    """Says which error is being handled: its identity, as its words may hold a secret."""
    return id(sys.exc_info()[1])


def interruption_in(error: BaseException, handled: int) -> BaseException | None:
    """Gives what came out of a signal's handler: an error, or what it was made of.

    Its traceback begins with the handler: of what the handler came into, a frame may hold a secret.

    Args:
        error: The error.
        handled: What was being handled before, as :func:`handled_now` says, and so is in its
            context.
    """
    if threading.current_thread() is not threading.main_thread():
        return None
    handlers = {
        getattr(signal.getsignal(each), "__code__", None) for each in signal.valid_signals()
    }
    found = Hidden(error)  # what it was made of may hold a secret
    while found.cell_contents is not None and id(found.cell_contents) != handled:
        at = found.cell_contents.__traceback__
        while at is not None and at.tb_frame.f_code not in handlers:
            at = at.tb_next
        if at is not None:
            interruption: BaseException = found.cell_contents.with_traceback(at)
            return interruption
        found = Hidden(found.cell_contents.__context__)
    return None


def let_interruptions_pass(error: BaseException, handled: int) -> None:
    """Raises what :func:`interruption_in` gives, if anything."""
    interruption = interruption_in(error, handled)
    if interruption is not None:
        raise interruption from None


def _frames() -> Iterator[FrameType]:
    # From the caller of who asks on: a frame that has itself in a variable lives until it is
    # collected, with all that led to it.
    frame: FrameType | None = sys._getframe(2)  # noqa: SLF001 - there is no other way to it
    while frame is not None:
        yield frame
        frame = frame.f_back


def _has_lock(frame: FrameType) -> bool:
    """Whether it is a method's whose object has a lock, which this thread has taken."""
    lock = getattr(_self_of(frame), "_lock", None)
    return lock is not None and getattr(lock, "_is_owned", bool)()


def _self_of(frame: FrameType | None) -> object:
    # Not of any frame: what is asked for its variables keeps them, however they change.
    return None if frame is None else frame.f_locals.get("self")
