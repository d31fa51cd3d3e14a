"""What a fleet asks of the service and of the store, second by second."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["DAY", "OPERATIONS", "Load", "Times"]

DAY = 86_400

#: A moment, or many, in seconds since the day began.
Times = float | npt.NDArray[np.float64]

#: What the store is asked: GET that finds a record, GET that finds none, GET of another's lease,
#: SET NX of a lease, SET of a record, and the script that gives a lease back.
OPERATIONS = ("found", "missed", "polled", "leased", "put", "released")


class Load:
    """Counts of a day, for every second of it. What happens before or after it is not counted."""

    def __init__(self) -> None:
        #: Token requests, and each of the :data:`OPERATIONS`.
        self.counts: dict[str, npt.NDArray[np.int64]] = {
            name: np.zeros(DAY, np.int64) for name in ("requests", *OPERATIONS)
        }
        #: By how many the records in the store grow.
        self._growth: npt.NDArray[np.int64] = np.zeros(DAY, np.int64)

    def count(self, name: str, at: Times) -> None:
        """Counts one request or operation at each of the moments."""
        _add(self.counts[name], at, 1)

    def flight(self, at: Times, landed: Times, found: Any, *, leases: bool) -> None:
        """Counts flights that ask the service, with all that the store is asked around it.

        Args:
            at: When they begin.
            landed: When the service has answered.
            found: For each, whether there is a record, though none that will do.
            leases: Whether they take a lease first.
        """
        at, landed = np.atleast_1d(at), np.atleast_1d(landed)
        found = np.broadcast_to(found, at.shape)
        for _ in range(2 if leases else 1):  # with the lease in hand they look once more
            self.count("found", at[found])
            self.count("missed", at[~found])
        if leases:
            self.count("leased", at)
            self.count("released", landed)
        self.count("requests", at)
        self.count("put", landed)

    def keep(self, since: Times, until: Times) -> None:
        """Counts records that lie in the store from then until then."""
        _add(self._growth, np.maximum(since, 0.0), 1)
        _add(self._growth, until, -1)

    def replace(self, at: Times, until: Times) -> None:
        """Counts records no longer that would have lain there until then, and are replaced."""
        self.keep(until, at)

    @property
    def records(self) -> npt.NDArray[np.int64]:
        """How many records lie in the store in each second."""
        return np.cumsum(self._growth)

    @property
    def requests(self) -> npt.NDArray[np.int64]:
        """Token requests in each second."""
        return self.counts["requests"]

    @property
    def operations(self) -> npt.NDArray[np.int64]:
        """Store operations of every kind in each second."""
        return sum((self.counts[name] for name in OPERATIONS), np.zeros(DAY, np.int64))

    def per_second(self, costs: dict[str, float]) -> npt.NDArray[np.float64]:
        """What all operations of each second cost together, given what one of each kind costs."""
        total = np.zeros(DAY)
        for name in OPERATIONS:
            total += self.counts[name] * costs[name]
        return total

    def __add__(self, other: Load) -> Load:
        """Both together."""
        total = Load()
        for name in total.counts:
            total.counts[name] = self.counts[name] + other.counts[name]
        total._growth = self._growth + other._growth
        return total


def _add(counts: npt.NDArray[np.int64], at: Times, weight: int) -> None:
    seconds = np.atleast_1d(at)
    seconds = seconds[(seconds >= 0) & (seconds < DAY)].astype(np.int64)
    if len(seconds) < 1000:  # a count of all seconds costs more
        np.add.at(counts, seconds, weight)
    else:
        counts += weight * np.bincount(seconds, minlength=DAY)
