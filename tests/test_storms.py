"""Signals, and the garbage collector, that come in between any two steps of the library."""

from __future__ import annotations

import programs
import pytest
from fork_marks import needs_signals

# An interruption of what measures coverage hangs.
pytestmark = pytest.mark.traces

#: Seconds of each storm: some thousand interruptions.
LENGTH = "3"

HANDLERS = ("raise", "get_access_token", "refresh_access_token", "prefetch", "status", "close")


@needs_signals
@pytest.mark.parametrize("does", HANDLERS)
def test_a_signal_handler_that_comes_at_any_moment_leaves_all_at_work(does: str) -> None:
    done = programs.run(
        str(programs.TESTS / "signal_storm.py"), does, LENGTH, **programs.with_tests()
    )
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "")


def test_objects_that_end_at_any_moment_in_any_thread_leave_all_at_work() -> None:
    done = programs.run(str(programs.TESTS / "collector_storm.py"), LENGTH, **programs.with_tests())
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "")
