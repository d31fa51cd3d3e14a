"""Has something happen at the n-th line that the library executes in this thread, for every n.

As a signal's handler would: not where Python gives none its turn, between the end of a block and
what cleans up behind it.
"""

from __future__ import annotations

import ast
import functools
import multiprocessing.util
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any

import tokenmgr

if TYPE_CHECKING:
    from typing_extensions import Self

_PACKAGE = str(Path(tokenmgr.__file__).parent)
#: Where finalizers are called, and how far from what they do.
_FINALIZERS = {weakref.__file__, multiprocessing.util.__file__}
_DEPTH = 8


class AtLine:
    """Calls ``action`` once, before the n-th line; ``where`` says which one that was."""

    def __init__(self, number: int, action: Callable[[], object]) -> None:
        self._left = number
        self._action = action
        self._before: dict[FrameType, int] = {}
        self.where: str | None = None

    def __enter__(self) -> Self:
        self._outer = sys.gettrace()
        sys.settrace(self._enter)
        return self

    def __exit__(self, *exc_info: object) -> None:
        sys.settrace(self._outer)

    def _enter(self, frame: FrameType, event: str, argument: object) -> Any:
        ours = frame.f_code.co_filename.startswith(_PACKAGE)
        return self._step if ours and self.where is None and not _is_final(frame) else None

    def _step(self, frame: FrameType, event: str, argument: object) -> Any:
        if event != "line":
            return self._step
        before, self._before[frame] = self._before.get(frame, 0), frame.f_lineno
        if self.where is None and not _cleans_up(frame.f_code, before, frame.f_lineno):
            self._left -= 1
            if self._left == 0:
                name = Path(frame.f_code.co_filename).name
                self.where = f"{name}:{frame.f_lineno} in {frame.f_code.co_name}"
                self._before.clear()
                sys.settrace(None)
                self._action()
        return self._step


def _is_final(frame: FrameType | None) -> bool:
    """Whether it is called at an object's end, which passes no exception on, whoever raises it."""
    if frame is not None and any(isinstance(each, weakref.ref) for each in frame.f_locals.values()):
        return True
    for _ in range(_DEPTH):
        if frame is None:
            return False
        if frame.f_code.co_filename in _FINALIZERS:
            return True
        frame = frame.f_back
    return False


def _cleans_up(code: CodeType, before: int, line: int) -> bool:
    ends, cleaning = _of_file(code.co_filename)
    return line in cleaning or line < before <= ends.get(line, 0)


@functools.cache
def _of_file(name: str) -> tuple[dict[int, int], set[int]]:
    """By the line of a ``with``, its last one; and the lines of ``try`` and all that is final."""
    ends: dict[int, int] = {}
    cleaning: set[int] = set()
    for node in ast.walk(ast.parse(Path(name).read_text(encoding="utf-8"))):
        if isinstance(node, ast.With):
            ends[node.lineno] = node.end_lineno or 0
        if isinstance(node, ast.Try):
            cleaning.add(node.lineno)  # of itself it does nothing
        for each in getattr(node, "finalbody", []):
            cleaning.update(range(each.lineno, (each.end_lineno or 0) + 1))
    return ends, cleaning
