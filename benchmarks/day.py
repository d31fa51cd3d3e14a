"""A day of many managers, on a clock that is moved by hand: nothing here waits."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from tokenmgr import AccessToken, AccessTokenManager, TokenKey
from tokenmgr._context import Context, new_context
from tokenmgr._engine.cell import Cell
from tokenmgr._runtime.clock import Clock
from tokenmgr._runtime.refresher import Refresher
from tokenmgr._runtime.workers import Workers
from tokenmgr.manager import manager_of

__all__ = [
    "ALL_AT_ONCE",
    "LIFETIME",
    "SPREAD",
    "Day",
    "InlineWorkers",
    "SteppedRefresher",
    "live",
    "make_manager",
    "stepped_context",
]

DAY = 86_400
#: How long a token lives, in seconds.
LIFETIME = 3600.0
#: Every manager is asked this often, in seconds.
_ASKED_EVERY = 300
#: The first calls come during so many seconds.
SPREAD, ALL_AT_ONCE = LIFETIME, 1.0


class VirtualClock:
    """A clock that a simulation moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def elapsed(self) -> float:
        """Seconds since the simulation began."""
        return self.now

    def wall(self) -> float:
        """The same, as seconds since 1970."""
        return 1_800_000_000.0 + self.now


class SteppedRefresher(Refresher):
    """The refresher without its thread: the simulation takes its steps."""

    def _runs(self) -> bool:
        return True

    def _start(self) -> None:
        self._awake = True


class InlineWorkers(Workers):
    """Workers that are done when they are asked: the source below takes no time."""

    do = staticmethod(lambda work: work())


@dataclass
class Day:
    """What happened."""

    #: Renewals in the background in each second.
    renewals: Counter[int] = field(default_factory=Counter)
    #: Tokens that had expired when the next one was fetched.
    expired: int = 0
    #: Fetches, the first one of every manager included.
    fetches: int = 0
    #: Seconds that it lasted.
    lasted: int = DAY

    @property
    def mean(self) -> float:
        """Renewals per second."""
        return sum(self.renewals.values()) / self.lasted

    @property
    def peak(self) -> int:
        """Renewals in the busiest second."""
        return max(self.renewals.values(), default=0)


class Source:
    """Gives a new token at once, and notes when."""

    def __init__(self, clock: VirtualClock, day: Day, secret: str = "a") -> None:  # noqa: S107
        self._clock = clock
        self._day = day
        self._secret = secret
        self._ends: float | None = None

    def fetch_token(self, *, claims: str | None = None) -> AccessToken:  # noqa: ARG002
        """Fetches a token; see :class:`~tokenmgr.TokenSource`."""
        now = self._clock.now
        self._day.fetches += 1
        if self._ends is not None:
            self._day.renewals[int(now)] += 1
            self._day.expired += now >= self._ends
        self._ends = now + LIFETIME
        return AccessToken(self._secret, expires_at=self._clock.wall() + LIFETIME)


def stepped_context(clock: Clock) -> Context:
    """What managers have in common on a clock that a simulation moves: nothing runs by itself."""
    return replace(
        new_context(clock=clock),
        refresher=SteppedRefresher(clock),
        workers=InlineWorkers(1, name="inline"),
    )


def make_manager(number: int, source: Source, context: Context) -> AccessTokenManager:
    """One of many managers, which differ in their scope."""
    scope = f"api://{number}/.default"
    key = TokenKey("https://localhost/tenant", "client", "client_credentials", (scope,))
    return manager_of(Cell(source, key, context))


def live(count: int, first_calls: float, *, lasts: int = DAY, seed: int = 1) -> tuple[Day, int]:
    """Lets so many managers live for a day, each asked every few minutes.

    Args:
        count: How many managers.
        first_calls: Seconds in which each is called for the first time.
        lasts: Seconds of the day.
        seed: Of the random moments of the first calls.

    Returns:
        What happened, and how many calls waited for a token, beyond each manager's first.
    """
    clock, day, chance = VirtualClock(), Day(lasted=lasts), random.Random(seed)  # noqa: S311
    context = stepped_context(clock)
    managers = [make_manager(number, Source(clock, day), context) for number in range(count)]
    starting: list[list[AccessTokenManager]] = [[] for _ in range(lasts + 1)]
    for manager in managers:
        starting[int(chance.uniform(0, min(first_calls, lasts)))].append(manager)
    asked: list[list[AccessTokenManager]] = [[] for _ in range(_ASKED_EVERY)]
    for second in range(lasts):
        _renew_until(second, clock, context.refresher)
        _ask(asked[second % _ASKED_EVERY])
        _ask(starting[second])
        for manager in starting[second]:  # from now on at any moment: callers are not in step
            asked[chance.randrange(_ASKED_EVERY)].append(manager)
    waited = sum(manager.status().waits for manager in managers)
    return day, waited - count


def _ask(managers: Sequence[AccessTokenManager]) -> None:
    for manager in managers:
        manager.get_access_token()


def _renew_until(moment: float, clock: VirtualClock, refresher: Refresher) -> None:
    while (pause := refresher.step()) is not None and clock.now + pause <= moment:
        clock.now += pause
    clock.now = moment
