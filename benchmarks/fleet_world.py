"""The fleet that is simulated, what is different in each variant, and the library's own rules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tokenmgr import RefreshPolicy

# Private names, lest what is simulated should be other than what runs.
from tokenmgr._engine.state import _LOOK_EVERY as LOOK_EVERY
from tokenmgr._sharing.fetch_once import _FIRST_PAUSE, _LONGER, _LONGEST_PAUSE
from tokenmgr.policy import times

from .fleet_load import Times

__all__ = ["LOOK_EVERY", "NEVER", "Fleet", "Lives", "Variant", "look_pauses", "polls_of"]

NEVER = float("inf")
#: Looks come earlier or later by up to this share of the time between two.
_LOOK_SPREAD = 0.25


@dataclass(frozen=True)
class Fleet:
    """Who asks, and whom. All times in seconds."""

    workers: int = 10_000
    #: Each of them comes on this day.
    users: int = 1_000_000
    #: How often a user comes, and for how long on average.
    sessions: int = 2
    session: float = 1_200.0
    #: A user who is there calls so often.
    call_every: float = 30.0
    #: The service gives tokens that live between these, as Entra does by default
    #: (https://learn.microsoft.com/entra/identity-platform/configurable-token-lifetimes).
    shortest_life: float = 3_600.0
    longest_life: float = 5_400.0
    #: What users call with lives as long, and whoever calls for them, such as MSAL.js in a
    #: browser, has another one so many seconds before its end.
    ahead: float = 300.0
    #: What the service takes to answer.
    latency: float = 0.2

    @property
    def life(self) -> float:
        """How long a token lives, on average."""
        return (self.shortest_life + self.longest_life) / 2


@dataclass(frozen=True)
class Variant:
    """What is different. The default is the library as it is."""

    #: Whether there is a store that the workers share.
    store: bool = True
    leases: bool = True
    jitter: bool = True
    #: Whether the calls of a session land on one worker, and not each on any.
    sticky: bool = True
    #: From when until when the store does not answer.
    outage: tuple[float, float] = (NEVER, NEVER)
    #: When all workers are started anew, in the same second.
    restart: float = NEVER
    #: Whether the store has been emptied by then.
    emptied: bool = False

    @property
    def policy(self) -> RefreshPolicy:
        """When tokens are renewed."""
        return RefreshPolicy() if self.jitter else RefreshPolicy(jitter=0.0)

    def is_away(self, at: Times) -> Any:
        """Whether there is no store to ask at that moment, or at each of them."""
        begins, ends = self.outage
        return np.logical_not(self.store) | ((at >= begins) & (at < ends))


class Lives:
    """Lives of tokens, and what the library's policy makes of them, to draw from.

    Args:
        fleet: The fleet.
        policy: The policy.
        chance: What is random.
        size: How many there are; each is drawn many times.
    """

    def __init__(
        self, fleet: Fleet, policy: RefreshPolicy, chance: np.random.Generator, size: int = 4096
    ) -> None:
        self._chance = chance
        lifetimes = chance.uniform(fleet.shortest_life, fleet.longest_life, size)
        unspread = [times(policy, 0.0, lifetime, chance=0.0) for lifetime in lifetimes]
        self._lifetimes = lifetimes
        self._due = np.array([each.fresh_until for each in unspread])
        self._usable = np.array([each.valid_until for each in unspread])
        spread = [
            times(policy, 0.0, fleet.longest_life, refresh_in=1.0, chance=drawn)
            for drawn in chance.random(size)
        ]
        #: By what the jitter multiplies the time to the renewal.
        self._shares = np.array([each.fresh_until for each in spread])

    def draw(self, fetched: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], ...]:
        """Gives for tokens fetched then: due for renewal, usable until, in the store until."""
        drawn = self._chance.integers(len(self._due), size=fetched.shape)
        lives = (self._due, self._usable, self._lifetimes)
        return tuple(fetched + each[drawn] for each in lives)

    def fresh_until(self, taken: Times, due: Times) -> npt.NDArray[np.float64]:
        """Gives when tokens age that are taken in hand then, and due for renewal then."""
        taken, due = np.broadcast_arrays(np.asarray(taken), np.asarray(due))
        shares = self._shares[self._chance.integers(len(self._shares), size=taken.shape)]
        ages: npt.NDArray[np.float64] = taken + np.maximum(due - taken, 0.0) * shares
        return ages


def look_pauses(chance: np.random.Generator, size: int) -> npt.NDArray[np.float64]:
    """Gives so many times between two looks at a record."""
    return LOOK_EVERY * chance.uniform(1 - _LOOK_SPREAD, 1 + _LOOK_SPREAD, size)


def polls_of(
    chance: np.random.Generator, since: npt.NDArray[np.float64], until: float
) -> tuple[list[npt.NDArray[np.float64]], npt.NDArray[np.float64]]:
    """Lets workers wait for a lease, each from its own moment on.

    Returns:
        The moments of all their looks at the lease, and for each worker the one at which it finds
        the lease gone.
    """
    # Refused, a worker looks whose it is.
    at, looks, pause = since.copy(), [since], _FIRST_PAUSE
    while (waits := at < until).any():
        at[waits] += pause * chance.uniform(0.5, 1.0, int(waits.sum()))
        looks.append(at[waits])
        pause = min(pause * _LONGER, _LONGEST_PAUSE)
    return looks, at
