"""What an import adds to the start of a program."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import tokenmgr

from .figure import Figure, Section

__all__ = ["import_time", "section", "wall_times"]

_STATEMENTS = (
    "import tokenmgr",
    "from tokenmgr import TokenRegistry",
    "import msal",
    "import azure.identity",
)
#: The goal, in seconds.
_GOAL = 0.025

_METHOD = (
    "A new interpreter with the statement, less a bare one in the same round: median of {rounds} "
    "rounds. Behind it what `python -X importtime` says, which measures nothing else and slows "
    "imports down a little."
)

#: ``import time: self [us] | cumulative | name``, indented by depth: the outermost alone.
_OUTERMOST = re.compile(r"^import time: +\d+ \| +(\d+) \| (\S+)$", re.MULTILINE)


def wall_times(statements: tuple[str, ...], *, rounds: int) -> dict[str, float]:
    """Seconds that each statement adds to a bare interpreter: the median of the rounds."""
    added: dict[str, list[float]] = {statement: [] for statement in statements}
    for _ in range(rounds):
        for statement in statements:
            bare = _run("pass")
            added[statement].append(_run(statement) - bare)
    return {statement: median(times) for statement, times in added.items()}


def import_time(statement: str, *, rounds: int) -> float:
    """Seconds that ``-X importtime`` says: the median of the rounds."""
    # What the interpreter imports for itself before the statement is not the statement's.
    marked = f"import sys; sys.stderr.write('begin' + chr(10)); {statement}"
    times = []
    for _ in range(rounds):
        result = subprocess.run(  # noqa: S603 - this interpreter
            [sys.executable, "-X", "importtime", "-c", marked],
            env=_environment(),
            stderr=subprocess.PIPE,
            text=True,
            check=True,
        )
        report = result.stderr.partition("begin\n")[2]
        times.append(sum(int(us) for us, _ in _OUTERMOST.findall(report)) / 1e6)
    return median(times)


def section(*, rounds: int) -> Section:
    """The figures."""
    added = wall_times(_STATEMENTS, rounds=rounds)
    figures = []
    for statement, seconds in added.items():
        own = import_time(statement, rounds=max(3, rounds // 3))
        measured = f"{seconds * 1000:.1f} ms ({own * 1000:.1f} ms)"
        first = statement == _STATEMENTS[0]
        goal, met = ("at most 25 ms", seconds <= _GOAL) if first else ("", None)
        figures.append(Figure(f"`{statement}`", measured, goal, met))
    return Section("Importing", _METHOD.format(rounds=rounds), figures)


def _environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(Path(tokenmgr.__file__).parents[1])}


def _run(statement: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], env=_environment(), check=True)  # noqa: S603
    return time.perf_counter() - start
