"""A thread of a round, and what reports say of it."""

from __future__ import annotations

import _thread
import math
import sys
import traceback
from collections.abc import Callable, Collection
from pathlib import Path
from types import FrameType
from typing import Any

import tokenmgr

__all__ = ["BLOCKED", "ENDED", "NEW", "READY", "Strand", "stacks", "where"]

_PACKAGE = f"{Path(tokenmgr.__file__).parent}/"
NEW, READY, BLOCKED, ENDED = "new", "ready", "blocked", "ended"


class Strand:
    """A thread of a round. It is a real one, which runs while it has the baton."""

    def __init__(self, number: int, name: str, run: Callable[[], object]) -> None:
        self.number = number
        self.name = name
        self.run = run
        self.state = NEW
        #: What it waits for, and until when.
        self.blocked_on: object = None
        self.deadline = math.inf
        #: After so many calls of tokenmgr's functions, and waits, ``spark`` is called in it, as a
        #: signal's handler would be.
        self.fuse: int | None = None
        self.spark: Callable[[], object] = lambda: None
        self.ident = 0
        #: The locks that it has, the outermost first; in a handler, those of the handler's own.
        self.holds: list[Any] = []
        #: Those who wait for its end.
        self.joining: list[Strand] = []
        self.baton, self.gone = _thread.allocate_lock(), _thread.allocate_lock()
        self.baton.acquire()
        self.gone.acquire()

    def __repr__(self) -> str:
        return f"{self.number}:{self.name}"


def stacks(strands: Collection[Strand]) -> str:
    """Says where each thread is."""
    frames = sys._current_frames()
    return "\n".join(_stack(each, frames.get(each.ident)) for each in strands)


def _stack(strand: Strand, frame: FrameType | None) -> str:
    waits = "" if strand.blocked_on is None else f" for {strand.blocked_on!r}"
    lines = [
        f"    {_short(each.filename)}:{each.lineno} {each.name}"
        for each in traceback.extract_stack(frame)
        if frame is not None and _is_shown(each.filename)
    ]
    return "\n".join([f"{strand!r}, {strand.state}{waits} until {strand.deadline:.3f}:", *lines])


def where(frame: FrameType | None) -> str:
    """Says at which line of tokenmgr's, or of a move, a thread is."""
    while frame is not None and not _is_shown(frame.f_code.co_filename):
        frame = frame.f_back
    code = None if frame is None else frame.f_code
    return f"{_short(code.co_filename)}:{frame.f_lineno} {code.co_name}" if code else "its end"


def _is_shown(filename: str) -> bool:
    """Whether it is a file of tokenmgr's, or one of the explorer's in which something happens."""
    folder, _, name = filename.rpartition("/")
    inner = name in ("schedule.py", "simulated.py", "patches.py", "strands.py")
    return filename.startswith(_PACKAGE) or (folder.endswith("explorer") and not inner)


def _short(filename: str) -> str:
    return "/".join(filename.split("/")[-2:])
