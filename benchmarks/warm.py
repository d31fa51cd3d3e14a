"""What a call costs that finds a fresh token: ours, the floor's, and the peers'."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from statistics import median

from tokenmgr import TokenRegistry
from tokenmgr._runtime.clock import SYSTEM_CLOCK

from .figure import Figure, Section
from .service import SCOPE
from .turns import Contestant, awaited, called, in_turns, ratio

__all__ = ["ELAPSED_FLOOR", "GET", "LOOKUP", "MONOTONIC_FLOOR", "costs", "ours", "section"]

GET = "tokenmgr get_access_token()"
AGET = "tokenmgr aget_access_token()"
LOOKUP = "tokenmgr registry.get_access_token(scope)"
ELAPSED_FLOOR = "floor: one attribute, tokenmgr's clock"
MONOTONIC_FLOOR = "floor: one attribute, time.monotonic"

_MSAL = "MSAL acquire_token_for_client()"

_METHOD = (
    "Every call finds a valid token in memory. Median of {rounds} rounds, in each of which every "
    "contestant has its turn; a ratio is the median of the rounds' ratios. The floors are methods "
    "of a class with `__slots__` that read one clock and return one attribute, without comparing "
    "the two: the clock that tokenmgr reads, which counts a machine's sleep, and the cheaper "
    "`time.monotonic`, which does not."
)


class _Elapsed:
    __slots__ = ("secret",)

    def __init__(self) -> None:
        self.secret = "a"  # noqa: S105 - stands for one

    def read(self, clock: Callable[[], float] = SYSTEM_CLOCK.elapsed) -> str:
        clock()
        return self.secret


class _Monotonic(_Elapsed):
    __slots__ = ()

    def read(self, clock: Callable[[], float] = time.monotonic) -> str:
        clock()
        return self.secret


def ours(tokens: TokenRegistry, loop: asyncio.AbstractEventLoop) -> dict[str, Contestant]:
    """Our calls and the floors, by name; the token is fetched first."""
    manager = tokens.manager(SCOPE)
    manager.get_access_token()
    return {
        ELAPSED_FLOOR: called("floor.read()", floor=_Elapsed()),
        MONOTONIC_FLOOR: called("floor.read()", floor=_Monotonic()),
        GET: called("manager.get_access_token()", manager=manager),
        AGET: awaited(loop, manager.aget_access_token),
        LOOKUP: called("tokens.get_access_token(scope)", tokens=tokens, scope=SCOPE),
    }


def costs(contestants: dict[str, Contestant], *, rounds: int) -> dict[str, list[float]]:
    """Seconds per call of every round, for each contestant."""
    return in_turns(contestants, rounds=rounds)


def section(found: dict[str, list[float]]) -> Section:
    """The figures in what :func:`costs` gave, for our calls and every peer."""
    get = found[GET]
    faster = ratio(found[_MSAL], get)
    elapsed, monotonic = ratio(get, found[ELAPSED_FLOOR]), ratio(get, found[MONOTONIC_FLOOR])
    lookup = median(found[LOOKUP])
    figures = [
        Figure(
            "`get_access_token()` against MSAL's cached `acquire_token_for_client`",
            f"{faster:.0f} times as fast ({_time(median(get))} against "
            f"{_time(median(found[_MSAL]))})",
            "at least 75 times as fast",
            faster >= 75,
        ),
        Figure(
            "`get_access_token()` against one attribute and its own clock",
            f"{elapsed:.2f} times ({_time(median(found[ELAPSED_FLOOR]))})",
            "at most 2.0 times",
            elapsed <= 2.0,
        ),
        Figure(
            "`get_access_token()` against one attribute and `time.monotonic`",
            f"{monotonic:.2f} times ({_time(median(found[MONOTONIC_FLOOR]))})",
            "at most 2.0 times",
            monotonic <= 2.0,
        ),
        Figure(
            "`registry.get_access_token(scope)`, lookup included",
            _time(lookup),
            "at most 1 µs",
            lookup <= 1e-6,
        ),
    ]
    others = [name for name in found if not name.startswith(("floor", "tokenmgr", _MSAL))]
    figures += [_peer(name, found) for name in others]
    return Section("A warm call", _METHOD.format(rounds=len(get)), figures)


def _peer(name: str, found: dict[str, list[float]]) -> Figure:
    # Coroutines are compared with coroutines.
    mine = AGET if ".aio" in name else GET
    faster = ratio(found[name], found[mine])
    library, _, call = name.partition(" ")
    return Figure(
        f"`{mine.partition(' ')[2]}` against {library}'s `{call}`",
        f"{faster:.1f} times as fast ({_time(median(found[mine]))} against "
        f"{_time(median(found[name]))})",
        "ahead",
        faster > 1,
    )


def _time(seconds: float) -> str:
    return f"{seconds * 1e6:.3g} µs"
