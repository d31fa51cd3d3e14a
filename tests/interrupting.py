"""Interruptions for tests: an exception in the middle of what a thread does, at any line."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

__all__ = ["Interruption", "interruptions"]


class Interruption(BaseException):
    """What a signal's handler raises."""


def interruptions(room: ModuleType) -> Iterator[Callable[[Callable[[], object]], bool]]:
    """Gives, for each line of a module or package in turn, what interrupts some work there.

    It says whether it did; when it did not, the work was through, and there are no more.
    """
    file = Path(room.__file__ or "")
    folder = str(file.parent if file.name == "__init__.py" else file)
    for number in itertools.count():
        over = False

        def interrupt(work: Callable[[], object], number: int = number) -> bool:
            nonlocal over
            over = not _interrupted(work, folder, number)
            return not over

        yield interrupt
        if over:
            return


def _interrupted(work: Callable[[], object], folder: str, number: int) -> bool:
    left = number

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal left
        if not frame.f_code.co_filename.startswith(folder):
            return None
        if event == "line":
            left -= 1
            if left < 0:
                raise Interruption  # which ends the tracing too
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    except Interruption:
        return True
    finally:
        sys.settrace(before)
    return False
