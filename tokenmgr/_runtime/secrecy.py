"""What keeps secrets in this process, and out of what is shown of it."""

from __future__ import annotations

from types import CellType as Hidden
from typing import NoReturn

__all__ = ["Hidden", "Unpicklable", "is_unicode"]

# Whoever reports an exception shows the variables of its frames, and takes apart the dicts, lists
# and dataclasses among them. So what is secret is in no variable but as a ``Hidden``, and is taken
# out (``cell_contents``) in the expression that needs it. A cell of Python's own is that: its repr
# tells the type alone, it is no container to anybody, and it is made without a line of Python that
# could be interrupted. A function that is given a secret as it is hides it in its first statement.


def is_unicode(text: str) -> bool:
    """Whether UTF-8 can say it: not what the environment holds of another encoding."""
    return text.encode(errors="ignore").decode() == text


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
