"""A day of the users' tokens: one for each assertion, in use while the user is there.

A user calls with an assertion, which lives for an hour or so; then the front end has another one.
The token that it is exchanged for ends with it, or before: in that case it is renewed like any
other. One that ends with it is not renewed, nor looked for in the store.

All users go from visit to visit together. A visit is a spell of calls on one worker with one
assertion: a session, or a part of it, where sessions stick to a worker, a single call where each
call lands on any of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .fleet_load import DAY, Load
from .fleet_world import NEVER, Fleet, Lives, Variant, look_pauses

__all__ = ["live"]

Array = npt.NDArray[np.float64]


class _Visits(NamedTuple):
    """One visit of each of some users."""

    who: npt.NDArray[np.int64]
    since: Array
    until: Array
    #: When the assertion ends that they call with.
    ends: Array


def live(fleet: Fleet, variant: Variant, *, seed: int = 1) -> Load:
    """Lets the users come and go for a day.

    Returns:
        What was asked.
    """
    chance = np.random.default_rng(seed)
    day = _Day(fleet, variant, chance)
    sessions = _sessions(fleet, chance)
    front_end = _FrontEnd(fleet, chance)
    visits = _sticky(sessions, front_end) if variant.sticky else _calls(sessions, fleet, front_end)
    for each in visits:
        for part in _parted(each, variant.restart, fleet.call_every, chance):
            day.visit(part)
    day.end()
    return day.load


class _FrontEnd:
    """What users call with: an assertion each, until shortly before its end."""

    def __init__(self, fleet: Fleet, chance: np.random.Generator) -> None:
        self.chance = chance
        #: So many seconds before an assertion's end there is another.
        self.ahead: float = fleet.ahead
        self._fleet = fleet
        self._ends = np.full(fleet.users, -NEVER)

    def assertions(self, who: npt.NDArray[np.int64], now: Array) -> Array:
        """Gives when the assertion ends that each of some users calls with."""
        ends = self._ends[who]
        fleet = self._fleet
        new = now + self.chance.uniform(fleet.shortest_life, fleet.longest_life, len(who))
        self._ends[who] = np.where(now < ends - self.ahead, ends, new)
        return self._ends[who]


def _sessions(fleet: Fleet, chance: np.random.Generator) -> tuple[Array, Array]:
    """Gives when each user's sessions begin and end, one after the other.

    They begin around noon most often, twice as often as on average, and never at midnight.
    """
    moments = np.linspace(0.0, DAY, 1441)
    share = moments / DAY - np.sin(2 * np.pi * moments / DAY) / (2 * np.pi)
    size = (fleet.users, fleet.sessions)
    begin = np.sort(np.interp(chance.random(size), share, moments), axis=1)
    end = begin + chance.exponential(fleet.session, size)
    for number in range(1, fleet.sessions):
        late = np.maximum(end[:, number - 1] - begin[:, number], 0.0)
        begin[:, number] += late
        end[:, number] += late
    return begin, end


def _sticky(sessions: tuple[Array, Array], front_end: _FrontEnd) -> Iterator[_Visits]:
    everybody = np.arange(len(sessions[0]))
    for begin, end in zip(sessions[0].T, sessions[1].T, strict=True):
        who, since, until = everybody, begin, end
        while len(who):
            ends = front_end.assertions(who, since)
            changes = ends - front_end.ahead
            yield _Visits(who, since, np.minimum(until, changes), ends)
            stays = changes < until
            who, since, until = who[stays], changes[stays], until[stays]


def _calls(sessions: tuple[Array, Array], fleet: Fleet, front_end: _FrontEnd) -> Iterator[_Visits]:
    """Every call is a visit: among so many workers hardly one sees the same user twice."""
    who, number = np.arange(fleet.users), np.zeros(fleet.users, np.int64)
    at = sessions[0][:, 0].copy()
    while len(who):
        yield _Visits(who, at, at, front_end.assertions(who, at))
        at = at + front_end.chance.exponential(fleet.call_every, len(who))
        over = at > sessions[1][who, number]
        number = number + over
        stays = number < fleet.sessions
        who, number, at, over = who[stays], number[stays], at[stays], over[stays]
        at[over] = sessions[0][who[over], number[over]]


def _parted(
    visits: _Visits, restart: float, call_every: float, chance: np.random.Generator
) -> Iterator[_Visits]:
    """Parts those visits whose worker is started anew: their next call finds nothing in hand."""
    who, since, until, ends = visits
    cut = (since < restart) & (until > restart)
    if not cut.any():
        yield visits
        return
    yield _Visits(who, since, np.where(cut, restart, until), ends)
    again = restart + chance.exponential(call_every, int(cut.sum()))
    stays = again < until[cut]
    yield _Visits(who[cut][stays], again[stays], until[cut][stays], ends[cut][stays])


class _Day:
    """What there is of each user: the record in the store, and when the first worker renews it."""

    def __init__(self, fleet: Fleet, variant: Variant, chance: np.random.Generator) -> None:
        self.load = Load()
        self._fleet = fleet
        self._variant = variant
        self._chance = chance
        self._lives = Lives(fleet, variant.policy, chance)
        never = np.full(fleet.users, -NEVER)
        #: When the assertion ends that they call with now.
        self._over = never.copy()
        self._due, self._usable, self._ends = never.copy(), never.copy(), never.copy()
        #: When the last visit began, and when the last one ends.
        self._came, self._leaves = never.copy(), never.copy()
        #: When the token in a worker's hand ages, the first of those that have been used.
        self._ages = np.full(fleet.users, NEVER)

    def visit(self, visits: _Visits) -> None:
        """Lets users call workers that have no token of theirs in hand."""
        who, since, until, ends = visits
        self._change(who, ends)
        self._pass(who, since)
        away = self._variant.is_away(since)
        self.load.count("requests", since[away])
        due = np.empty(len(who))
        due[away] = self._draw(who[away], since[away] + self._fleet.latency)[0]
        finds = ~away & (since < self._usable[who])
        self.load.count("found", since[finds])
        due[finds] = self._due[who[finds]]
        asks = ~away & ~finds
        self._fly(who[asks], since[asks])
        due[asks] = self._due[who[asks]]
        taken = since + np.where(finds, 0.0, self._fleet.latency)
        ages = self._lives.fresh_until(taken, due)
        self._hold(who, ages)
        self._came[who] = since
        self._leaves[who] = np.maximum(self._leaves[who], until)
        renewed = ages < NEVER
        self._look(since[renewed], until[renewed], ages[renewed])

    def end(self) -> None:
        """Lets pass what is left of the day."""
        who = np.arange(len(self._ages))
        self._pass(who, np.full(len(who), float(DAY)))

    def _change(self, who: npt.NDArray[np.int64], ends: Array) -> None:
        """Some users call with another assertion: there is no token for that, nor a record."""
        who, ends = who[ends != self._over[who]], ends[ends != self._over[who]]
        self._pass(who, self._over[who])
        self._over[who] = ends
        self._due[who] = self._usable[who] = self._ends[who] = -NEVER
        self._leaves[who] = -NEVER
        self._ages[who] = NEVER

    def _draw(self, who: npt.NDArray[np.int64], landed: Array) -> tuple[Array, ...]:
        """Draws lives, none of which is longer than the assertion's; the last one is not renewed.

        Returns:
            Due for renewal, or never; usable until; in the store until.
        """
        due, usable, ends = self._lives.draw(landed)
        last = ends >= self._over[who]
        # Its skew is the same, as it would be for one that ends by itself.
        usable = np.where(last, self._over[who] - (ends - usable), usable)
        return np.where(last, NEVER, due), usable, np.minimum(ends, self._over[who])

    def _hold(self, who: npt.NDArray[np.int64], ages: Array) -> None:
        """Another worker has the token in hand: the later one to ask finds what the first put."""
        before = self._ages[who]
        later = np.maximum(before, ages)
        later = later[later < NEVER]
        away = self._variant.is_away(later)
        self.load.count("requests", later[away])
        self.load.count("found", later[~away])
        self._ages[who] = np.minimum(before, ages)

    def _pass(self, who: npt.NDArray[np.int64], now: Array) -> None:
        """Lets time go by for some users, in which workers renew what is in use."""
        restart = self._variant.restart
        anew = (self._came[who] < restart) & (now >= restart)
        self._renew(who, np.where(anew, restart, now))
        self._ages[who[anew]] = NEVER  # with whoever had it in hand
        if self._variant.emptied:
            self._empty(who[anew])
        self._renew(who, now)

    def _empty(self, who: npt.NDArray[np.int64]) -> None:
        ends = self._ends[who]
        self.load.replace(
            np.full(len(who), self._variant.restart), np.maximum(ends, self._variant.restart)
        )
        self._due[who] = self._usable[who] = self._ends[who] = -NEVER

    def _renew(self, who: npt.NDArray[np.int64], until: Array) -> None:
        while (ages := self._ages[who] < until).any():
            who, until = who[ages], until[ages]
            now = self._ages[who]
            away = self._variant.is_away(now)
            self.load.count("requests", now[away])
            landed = now + self._fleet.latency
            due = self._draw(who, landed)[0]
            self._fly(who[~away], now[~away])
            due[~away] = self._due[who[~away]]
            # A worker whose user has left has let the token go by the next time.
            there = self._leaves[who] > now
            self._ages[who] = np.where(there, self._lives.fresh_until(landed, due), NEVER)

    def _fly(self, who: npt.NDArray[np.int64], now: Array) -> None:
        """One worker asks the service, for each of some users, and keeps the record."""
        landed = now + self._fleet.latency
        before = self._ends[who]
        self.load.flight(now, landed, now < self._usable[who], leases=self._variant.leases)
        due, usable, ends = self._draw(who, landed)
        self._due[who], self._usable[who], self._ends[who] = due, usable, ends
        replaced = before > landed
        self.load.replace(landed[replaced], before[replaced])
        self.load.keep(landed, ends)

    def _look(self, since: Array, until: Array, ages: Array) -> None:
        """Workers look at the record as long as somebody has asked since they last did."""
        if not self._variant.store:
            return
        while len(since):
            since = since + look_pauses(self._chance, len(since))
            looks = since < ages
            since, until, ages = since[looks], until[looks], ages[looks]
            self.load.count("found", since[~self._variant.is_away(since)])
            goes_on = since < until
            since, until, ages = since[goes_on], until[goes_on], ages[goes_on]
