"""Ending politely: Ctrl-C and SIGTERM ask, and the command ends when it is ready."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["StopRequest", "stop_on_signals"]

#: Seconds between two looks at the request.
_POLL = 0.1


class StopRequest:
    """Whether somebody asked the command to end.

    A plain flag, since a signal handler that sets a ``threading.Event`` deadlocks when it
    interrupts the very thread that is about to wait for that event.
    """

    def __init__(self) -> None:
        self.made = False

    def wait(self, seconds: float) -> bool:
        """Waits until it is made, ``seconds`` at most, and tells whether it was."""
        until = time.monotonic() + seconds
        while not self.made and (left := until - time.monotonic()) > 0:
            time.sleep(min(_POLL, left))
        return self.made


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Takes SIGINT and SIGTERM as a request to stop, and puts their handlers back at the end.

    A signal that is ignored from the start stays so, as for any program that a shell puts in the
    background.
    """
    stop = StopRequest()

    def make(*_: object) -> None:
        stop.made = True

    handled = [
        number
        for number in (signal.SIGINT, signal.SIGTERM)
        if signal.getsignal(number) is not signal.SIG_IGN
    ]
    before = {number: signal.signal(number, make) for number in handled}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
