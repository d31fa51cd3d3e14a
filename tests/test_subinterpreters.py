"""Isolated sub-interpreters, in which daemon threads are refused: each caller fetches by itself."""

from __future__ import annotations

import sys

import programs
import pytest


# Python 3.12 has them too, and breaks at the end of one that has imported hashlib.
@pytest.mark.skipif(sys.version_info < (3, 13), reason="before, they break by themselves")
def test_an_isolated_sub_interpreter_has_its_tokens() -> None:
    program = str(programs.TESTS / "subinterpreter_program.py")
    done = programs.run(program, **programs.with_tests())
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "")
