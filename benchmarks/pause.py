"""How long an event loop stands still while keys are renewed in other threads."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from itertools import cycle
from operator import methodcaller
from statistics import median

from tokenmgr import AccessTokenManager, TokenRegistry

from .figure import Figure, Section
from .service import Service

__all__ = ["longest_pause", "section"]

_KEYS = 50
#: How long their tokens live, in seconds. They are renewed after half of it.
_LIFETIME = 5
_TICK = 0.001
_GOAL = 0.005

_METHOD = (
    f"An event loop ticks every {_TICK * 1000:.0f} ms for {{lasts:g}} s, while {_KEYS} keys whose "
    f"tokens live {_LIFETIME} s are asked for and renewed against a service in another process "
    "({rate:.0f} renewals per second). A pause is what a tick takes beyond its millisecond. "
    "{rounds} rounds, in turns with the same loop while nothing is renewed: what that one sees, "
    "the machine makes it wait for. In a process of its own, as every library in memory lengthens "
    "the passes of Python's garbage collector."
)


async def longest_pause(managers: Sequence[AccessTokenManager], *, lasts: float) -> float:
    """Ticks, asking for one token at each tick, and gives the seconds of the longest pause."""
    longest, ends_at = 0.0, time.perf_counter() + lasts
    managers_in_turn = cycle(managers) if managers else None
    while (start := time.perf_counter()) < ends_at:
        await asyncio.sleep(_TICK)
        if managers_in_turn is not None:
            await next(managers_in_turn).aget_access_token()
        longest = max(longest, time.perf_counter() - start - _TICK)
    return longest


def section(*, rounds: int, lasts: float) -> Section:
    """The figures."""
    still: list[float] = []
    busy: list[float] = []
    renewals = 0
    with Service(token_lifetime=_LIFETIME) as service:
        for _ in range(rounds):
            still.append(asyncio.run(longest_pause((), lasts=lasts)))
            with service.registry() as tokens:
                managers = _fresh(tokens)
                service.ask(methodcaller("clear"))
                busy.append(asyncio.run(longest_pause(managers, lasts=lasts)))
                renewals += service.ask(methodcaller("count"))
    rate = renewals / rounds / lasts
    return Section(
        "An event loop while keys renew",
        _METHOD.format(lasts=lasts, rounds=rounds, rate=rate),
        [
            _figure("longest pause, renewing", busy),
            Figure("the same, nothing renewing", _ms(still)),
        ],
    )


def _fresh(tokens: TokenRegistry) -> list[AccessTokenManager]:
    managers = [tokens.manager(f"https://api{n}.localhost/.default") for n in range(_KEYS)]
    tokens.prefetch()
    return managers


def _figure(what: str, pauses: list[float]) -> Figure:
    return Figure(what, _ms(pauses), "at most 5 ms", max(pauses) <= _GOAL)


def _ms(pauses: list[float]) -> str:
    return f"{max(pauses) * 1000:.1f} ms (median round {median(pauses) * 1000:.1f} ms)"
