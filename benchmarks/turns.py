"""Times calls in turns: every contestant in every round, each round in another order."""

from __future__ import annotations

import asyncio
import time
import timeit
from collections.abc import Awaitable, Callable, Mapping
from statistics import median

__all__ = ["Contestant", "awaited", "called", "in_turns", "ratio"]

#: Makes so many calls and gives the seconds that all of them took.
Contestant = Callable[[int], float]

#: Calls in one turn of the loop, so that the loop itself weighs nothing.
_UNROLLED = 10


def called(statement: str, **names: object) -> Contestant:
    """Times a statement, written as a program would write it.

    Args:
        statement: Python, such as ``manager.get_access_token()``.
        **names: The names in it.
    """
    timer = timeit.Timer("\n".join([statement] * _UNROLLED), globals=names)
    return lambda times: timer.timeit(max(1, times // _UNROLLED))


def awaited(loop: asyncio.AbstractEventLoop, call: Callable[[], Awaitable[object]]) -> Contestant:
    """Times what a coroutine awaits, in an event loop that runs already when timing starts."""

    async def spin(times: int) -> float:
        start = time.perf_counter()
        for _ in range(times):
            await call()
        return time.perf_counter() - start

    return lambda times: loop.run_until_complete(spin(times))


def in_turns(
    contestants: Mapping[str, Contestant], *, rounds: int, turn: float = 0.005
) -> dict[str, list[float]]:
    """Gives for each contestant the seconds per call of every round.

    Args:
        contestants: What to time, by name.
        rounds: How often each has its turn.
        turn: Seconds that one turn takes, about.
    """
    sizes = {name: _size(contestant, turn) for name, contestant in contestants.items()}
    costs: dict[str, list[float]] = {name: [] for name in contestants}
    names = list(contestants)
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            costs[name].append(contestants[name](sizes[name]) / sizes[name])
    return costs


def ratio(ones: list[float], others: list[float]) -> float:
    """How many times as much the ones cost as the others: the median of the rounds' ratios."""
    return median(one / other for one, other in zip(ones, others, strict=True))


def _size(contestant: Contestant, turn: float) -> int:
    size = _UNROLLED
    while (took := contestant(size)) < turn / 4:
        size *= 4
    return max(_UNROLLED, round(size * turn / took / _UNROLLED) * _UNROLLED)
