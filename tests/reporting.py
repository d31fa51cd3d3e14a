"""What a program's error reporter would tell: the variables of our frames, taken apart.

Reporters show the variables of each frame by their repr, and take apart what they know: dicts and
whatever else is a mapping, lists, tuples, sets, dataclasses, and objects of the standard library.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import itertools
import random
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import tokenmgr
from tokenmgr import TokenManagerError

PACKAGE = str(Path(tokenmgr.__file__).parent)
#: What would leave locks taken, or sockets open, and knows no secret.
_LEFT_ALONE = tuple(
    f"{PACKAGE}/{file}"
    for file in ("_runtime/forks.py", "_runtime/workers.py", "entra/wire/adapter.py", "events.py")
)


class Struck(BaseException):
    """An interruption, as out of a signal's handler."""


class Broken(Exception):  # noqa: N818 - it is what a test breaks with
    """What nobody has foreseen."""


def texts_of(value: object, depth: int = 6) -> Iterator[str]:
    """All that a reporter would write of a value."""
    try:
        yield repr(value)
    except Exception:  # noqa: BLE001 - half-made objects have none
        return
    if depth == 0 or isinstance(value, type):
        return
    for inner in _parts(value):
        yield from texts_of(inner, depth - 1)


def _parts(value: Any) -> list[object]:
    if isinstance(value, Mapping):
        return [*value.keys(), *value.values()]
    if isinstance(value, (list, tuple, set, frozenset, deque)):
        return list(value)
    if dataclasses.is_dataclass(value):
        return [getattr(value, f.name, None) for f in dataclasses.fields(value) if f.repr]
    if type(value).__module__.partition(".")[0] in sys.stdlib_module_names:
        return list(getattr(value, "__dict__", {}).values())
    return []


def told_by(frame: FrameType, secrets: tuple[str, ...]) -> list[str]:
    """The variables of a frame that tell a secret."""
    return [
        f"{name} in {_place(frame.f_code, frame.f_lineno)}"
        for name, value in frame.f_locals.items()
        if any(secret in text for text in texts_of(value) for secret in secrets)
    ]


def _place(code: CodeType, line: int) -> str:
    return f"{code.co_filename.removeprefix(PACKAGE)}:{line} ({code.co_name})"


def told_of(error: BaseException | None, secrets: tuple[str, ...]) -> list[str]:
    """What our frames tell behind an error, and behind those that it leads to."""
    told, todo, seen = [], [error], set()
    while todo:
        each = todo.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        todo += [each.__cause__, each.__context__]
        if any(secret in text for secret in secrets for text in (str(each), repr(each))):
            told.append(f"the words of {type(each).__name__}")
        traceback = each.__traceback__
        while traceback is not None:
            if traceback.tb_frame.f_code.co_filename.startswith(PACKAGE):
                told += told_by(traceback.tb_frame, secrets)
            traceback = traceback.tb_next
    return told


def told_at_every_line(
    work: Callable[[], object],
    secrets: tuple[str, ...],
    kinds: tuple[type[BaseException], ...] = (Struck, Broken),
    within: tuple[str, ...] = ("",),
    one_in: int = 1,
) -> list[str]:
    """Breaks ``work`` at each line of ours that it passes; gives what is told of the secrets.

    Args:
        work: What is broken off.
        secrets: What is not to be told.
        kinds: What is raised.
        within: The rooms at whose lines it is.
        one_in: Of so many lines one is broken at, another one each time: for what takes long.
    """
    rooms = tuple(f"{PACKAGE}/{room}" for room in within)
    lines: dict[tuple[CodeType, int], None] = {}
    _run(work, lambda frame: lines.setdefault((frame.f_code, frame.f_lineno)))
    lines = {each: None for each in lines if each[0].co_filename.startswith(rooms)}
    assert len(lines) > 10, "hardly anything of it was seen"
    told = []
    for line in itertools.islice(lines, random.randrange(one_in), None, one_in):
        for kind in kinds:
            error = _run(work, functools.partial(_break, line, kind, secrets, []))
            told += [f"{each}, after {_place(*line)}" for each in told_of(error, secrets)]
    return told


def _break(
    line: tuple[CodeType, int],
    kind: type[BaseException],
    secrets: tuple[str, ...],
    broken: list[object],
    frame: FrameType,
) -> None:
    if broken or line != (frame.f_code, frame.f_lineno):
        return
    # What is passed in is there when a function begins. Its first statement hides it, without a
    # line of Python in between.
    if _is_first_statement(frame.f_code, frame.f_lineno) and told_by(frame, secrets):
        return
    broken.append(frame.f_lineno)
    raise kind("here")


def _run(work: Callable[[], object], at_line: Callable[[FrameType], object]) -> Any:
    def trace(frame: FrameType, event: str, arg: object) -> Any:
        file = frame.f_code.co_filename
        if not file.startswith(PACKAGE) or file in _LEFT_ALONE:
            return None
        if event == "line":
            at_line(frame)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    outcome: BaseException | None = None
    try:
        work()
    except BaseException as exc:  # noqa: BLE001 - it is the outcome
        outcome = exc
    finally:
        sys.settrace(before)
    assert outcome is None or isinstance(outcome, (Struck, Broken, TokenManagerError)), outcome
    return outcome


def _is_first_statement(code: CodeType, line: int) -> bool:
    first = _first_statements(code.co_filename).get((code.co_name, code.co_firstlineno))
    return first is None or first[0] <= line <= first[1]


@functools.cache
def _first_statements(file: str) -> dict[tuple[str, int], tuple[int, int]]:
    """The lines of the first statement of each function of a file."""
    found = {}
    for node in ast.walk(ast.parse(Path(file).read_text())):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            body = node.body[1:] if ast.get_docstring(node) is not None else node.body
            body = body or node.body
            begins = node.decorator_list[0].lineno if node.decorator_list else node.lineno
            found[node.name, begins] = (body[0].lineno, body[0].end_lineno or body[0].lineno)
    return found
