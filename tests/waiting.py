"""Waiting in tests for what another thread or process does, however slow the machine is."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

#: Far above what anything takes here, and less than a forked child's whole life.
_PATIENCE = 15.0


def until(
    condition: Callable[[], object], what: str = "what was waited for", *, within: float = _PATIENCE
) -> None:
    """Waits until ``condition`` is true, in whichever thread or process makes it so."""
    give_up_at = time.monotonic() + within
    pause = 0.0005
    while not condition():
        assert time.monotonic() < give_up_at, f"{what} does not happen"
        threading.Event().wait(pause)
        pause = min(2 * pause, 0.01)
