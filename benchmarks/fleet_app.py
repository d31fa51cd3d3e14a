"""A day of the app's own token, which every worker of the fleet uses all the time."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .fleet_load import DAY, Load
from .fleet_world import NEVER, Fleet, Lives, Variant, look_pauses, polls_of

__all__ = ["live"]

#: Seconds before the day began when the token was fetched that the workers then have in hand.
_FETCHED_BEFORE = 600.0
#: In so many seconds all workers are started anew.
_STARTS = 1.0


def live(fleet: Fleet, variant: Variant, *, seed: int = 1) -> tuple[Load, list[float]]:
    """Lets the fleet live for a day.

    Returns:
        What was asked, and when the token was renewed for all.
    """
    day = _Day(fleet, variant, np.random.default_rng(seed))
    day.live()
    return day.load, day.renewals


class _Day:
    """The workers: when each one's token ages, and when each looks at the record next."""

    def __init__(self, fleet: Fleet, variant: Variant, chance: np.random.Generator) -> None:
        self.load = Load()
        self.renewals: list[float] = []
        self._latency = fleet.latency
        self._variant = variant
        self._chance = chance
        self._lives = Lives(fleet, variant.policy, chance)
        began = np.full(fleet.workers, -_FETCHED_BEFORE)
        self._record = self._draw(-_FETCHED_BEFORE)
        if variant.store:
            self.load.keep(0.0, self._record.ends)
            self._ages = self._lives.fresh_until(began, self._record.due)
        else:  # of every age there is
            due = self._lives.draw(began)[0] - began
            self._ages = due * chance.random(fleet.workers)
        self._looks = look_pauses(chance, fleet.workers) * chance.random(fleet.workers)

    def live(self) -> None:
        """Goes from one token that ages to the next."""
        restart = self._variant.restart
        while (now := min(float(self._ages.min()), restart)) < DAY:
            if now == restart:
                self._restart(now)
                restart = NEVER
            elif self._variant.is_away(now):
                self._renew_alone(min(self._end_of_outage(), restart, DAY))
            else:
                self._renew_for_all(now)
        self._look_until(DAY)

    def _end_of_outage(self) -> float:
        return self._variant.outage[1] if self._variant.store else NEVER

    def _renew_alone(self, until: float) -> None:
        """Every worker whose token ages by then asks for itself."""
        who = np.flatnonzero(self._ages < until)
        self._fetch_alone(who, self._ages[who])

    def _fetch_alone(self, who: npt.NDArray[np.int64], at: npt.NDArray[np.float64]) -> None:
        self.load.count("requests", at)
        landed = at + self._latency
        self._ages[who] = self._lives.fresh_until(landed, self._lives.draw(landed)[0])

    def _renew_for_all(self, now: float) -> None:
        """The first worker whose token ages renews it, and the others find its record."""
        landed = now + self._latency
        late = np.flatnonzero(self._ages <= landed)  # the first one is among them
        found = now < self._record.ends
        self._look_until(landed)
        aging = self._ages.copy()
        self._fly(late, self._ages[late], found=found)
        others = np.setdiff1d(np.arange(len(self._ages)), late, assume_unique=True)
        # Whoever's token ages before its next look asks for a new one, and finds it.
        asks = others[(aging[others] < self._looks[others]) & ~self._is_away(aging[others])]
        self.load.count("found", aging[asks])
        self._take(asks, aging[asks])
        looks = others[self._looks[others] <= aging[others]]
        self._ages[looks] = self._lives.fresh_until(self._looks[looks], self._record.due)

    def _fly(self, who: npt.NDArray[np.int64], at: npt.NDArray[np.float64], *, found: bool) -> None:
        """Workers without a fresh token and record: one fetches, or each without leases."""
        landed = float(at.min()) + self._latency
        first = np.arange(len(at)) == at.argmin()
        leads = first if self._variant.leases else at <= landed
        self.load.flight(at[leads], at[leads] + self._latency, found, leases=self._variant.leases)
        self._renewed(landed)
        self._take(who[leads], at[leads] + self._latency)
        waits = ~leads & (at <= landed)
        if waits.any():
            at = at.copy()
            at[waits] = self._wait(at[waits], landed, found=found)
        self.load.count("found", at[~leads])
        self._take(who[~leads], at[~leads])

    def _wait(
        self, since: npt.NDArray[np.float64], until: float, *, found: bool
    ) -> npt.NDArray[np.float64]:
        self.load.count("found" if found else "missed", since)
        self.load.count("leased", since)
        looks, at = polls_of(self._chance, since, until)
        for moments in looks:
            self.load.count("polled", moments)
        return at

    def _renewed(self, landed: float) -> None:
        previous, self._record = self._record.ends, self._draw(landed)
        self.renewals.append(landed)
        self.load.keep(landed, self._record.ends)
        if landed < previous:
            self.load.replace(landed, previous)

    def _take(self, who: npt.NDArray[np.int64], at: npt.NDArray[np.float64]) -> None:
        self._ages[who] = self._lives.fresh_until(at, self._record.due)
        self._looks[who] = at + look_pauses(self._chance, len(who))

    def _restart(self, now: float) -> None:
        """All workers start anew, with nothing in hand, and call at once."""
        self._look_until(now)
        who = np.arange(len(self._ages))
        at = now + _STARTS * self._chance.random(len(who))
        if self._variant.is_away(now):
            self._fetch_alone(who, at)
            self._looks = at + look_pauses(self._chance, len(who))
        elif self._variant.emptied:
            self.load.replace(now, max(now, self._record.ends))
            self._record = _Record(now, now)
            self._fly(who, at, found=False)
        else:
            self.load.count("found", at)
            self._take(who, at)

    def _look_until(self, until: float) -> None:
        """Counts the looks before then, which find nothing new, and leaves each worker's next."""
        if not self._variant.store:
            return
        while len(due := np.flatnonzero(self._looks <= until)):
            looks = self._looks[due]
            self.load.count("found", looks[~self._is_away(looks)])
            self._looks[due] += look_pauses(self._chance, len(due))
        while len(due := np.flatnonzero(self._is_away(self._looks))):  # in vain
            self._looks[due] += look_pauses(self._chance, len(due))

    def _draw(self, fetched: float) -> _Record:
        due, _, ends = self._lives.draw(np.array([fetched]))
        return _Record(float(due[0]), float(ends[0]))

    def _is_away(self, at: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        return np.asarray(self._variant.is_away(at))


class _Record(NamedTuple):
    """The record in the store: due for renewal then, and gone then."""

    due: float
    ends: float
