"""What keeps secrets in this process."""

from __future__ import annotations

from typing import NoReturn

__all__ = ["Unpicklable"]


class Unpicklable:
    """Something that holds a secret, or leads to one, and therefore does not pickle.

    What travels in a task queue's message, or to a worker of ``multiprocessing``, is soon in a
    log or a dump.
    """

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"{type(self).__name__} does not pickle, so that secrets stay in this process: pass "
            "the configuration to the other process, and make a TokenRegistry there"
        )
