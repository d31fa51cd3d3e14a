"""What one manager weighs, with its token in hand."""

from __future__ import annotations

import gc
import secrets
import tracemalloc

from .day import Day, Source, VirtualClock, make_manager, stepped_context

__all__ = ["TOKEN_LENGTH", "resident", "traced"]

#: Characters in each token, about those of a real one.
TOKEN_LENGTH = 1500


def resident(count: int) -> float:
    """Bytes by which the process grows for each manager. Best asked in a new process."""
    import psutil

    process = psutil.Process()
    kept = _fleet(100)  # so that what the first ones import and set up is not counted
    gc.collect()
    before = process.memory_info().rss
    kept += _fleet(count)
    gc.collect()
    grown: int = process.memory_info().rss - before
    return grown / count


def traced(count: int) -> float:
    """Bytes that Python allocates for each manager."""
    kept = _fleet(100)
    tracemalloc.start()
    kept += _fleet(count)
    gc.collect()
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return size / count


def _fleet(count: int) -> list[object]:
    clock, day = VirtualClock(), Day()
    context = stepped_context(clock)
    fleet: list[object] = [context]
    for number in range(count):
        source = Source(clock, day, secrets.token_urlsafe(TOKEN_LENGTH * 3 // 4))
        manager = make_manager(number, source, context)
        manager.get_access_token()
        fleet.append(manager)
    return fleet
