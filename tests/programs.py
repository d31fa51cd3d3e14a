"""Real programs for tests: started as a shell starts them, read until they say what is expected."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import tokenmgr

if TYPE_CHECKING:
    from typing_extensions import Self

TESTS = Path(__file__).parent
ROOT = TESTS.parent
#: Far above what any of them takes; whatever reads from one then reads its end.
_DEADLINE = 60.0
#: What a program needs of this machine. The COV… variables measure what it covers.
_KEPT = re.compile(r"PATH|HOME|TMPDIR|TEMP|SYSTEMROOT|COV\w*")


def environment(**more: str) -> dict[str, str]:
    """The variables of a program: none of this machine's that a program takes settings from."""
    kept = {name: value for name, value in os.environ.items() if _KEPT.fullmatch(name)}
    package = str(Path(tokenmgr.__file__).parents[1])
    return kept | {"PYTHONPATH": package, "PYTHONUTF8": "1"} | more


def with_tests() -> dict[str, str]:
    """The variable that has a program find what tests stand on, and not the library alone."""
    return {"PYTHONPATH": os.pathsep.join((environment()["PYTHONPATH"], str(TESTS)))}


@contextlib.contextmanager
def running(
    *arguments: str, stdout: int = subprocess.PIPE, stderr: int = subprocess.PIPE, **more: str
) -> Iterator[subprocess.Popen[str]]:
    """``python …`` with the variables ``more``, ended with the block, or killed at the deadline."""
    # A shell that starts these tests in its background lets all their children ignore Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        [sys.executable, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        text=True,
        encoding="utf-8",
        env=environment(**more),
        cwd=ROOT,
    )
    signal.signal(signal.SIGINT, before)
    deadline = threading.Timer(_DEADLINE, process.kill)
    deadline.start()
    try:
        with process:
            try:
                yield process
            finally:
                process.terminate()  # politely, so that it takes its files along
    finally:
        deadline.cancel()
        deadline.join()


def run(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """``python …``, from its start to its end."""
    with running(*arguments, **more) as process:
        out, err = process.communicate()
    return subprocess.CompletedProcess(arguments, process.returncode, out, err)


class Served(NamedTuple):
    """A server that listens."""

    url: str
    process: subprocess.Popen[str]
    #: What it has said until then.
    said: str


#: How each server takes a free port, and what it says once it listens.
_SERVERS = {
    "gunicorn": ("--bind=127.0.0.1:0", "Listening at: "),
    "uvicorn": ("--port=0", "Uvicorn running on"),
}


@contextlib.contextmanager
def serving(server: str, *arguments: str, **more: str) -> Iterator[Served]:
    """``python -m gunicorn …``, or uvicorn's, from when it listens to the end of the block."""
    free_port, listens = _SERVERS[server]
    with running("-m", server, free_port, *arguments, stderr=subprocess.STDOUT, **more) as process:
        said = read_until(process, listens)
        yield Served(re.findall(r"http://[\d.:]+", said)[-1], process, said)


def read_until(process: subprocess.Popen[str], expected: str) -> str:
    """Its output up to the line that has ``expected`` in it."""
    assert process.stdout is not None
    seen = ""
    for line in process.stdout:
        seen += line
        if expected in line:
            return seen
    raise AssertionError(f"{expected!r} is not in what the program said:\n{seen}")


class Terminal:
    """A real terminal of its own, for ``stdout=`` of a program."""

    def __init__(self) -> None:
        import pty

        self._master, self.slave = pty.openpty()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._close_slave()
        os.close(self._master)

    def read_until(self, expected: str | None) -> str:
        """What was shown up to ``expected``, control codes and all; None reads to the end."""
        # While this end of it is open, the other one is never told that the program has gone.
        self._close_slave()
        seen = b""
        while expected is None or expected.encode() not in seen:
            try:
                more = os.read(self._master, 65536)
            except OSError:  # how Linux says that the last program at it has gone
                more = b""
            if not more:
                assert expected is None, f"{expected!r} was not shown:\n{seen.decode()}"
                break
            seen += more
        return seen.decode().replace("\r\n", "\n")

    def _close_slave(self) -> None:
        if self.slave >= 0:
            os.close(self.slave)
            self.slave = -1


def without_codes(shown: str) -> str:
    """What a terminal showed, without its control codes (ECMA-48, section 5.4)."""
    return re.sub(r"\x1b\[[0-?]*[ -/]*[@-~]", "", shown)
