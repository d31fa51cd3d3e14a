"""The bearers that were accepted lately: a caller sends the same one with each call of an hour."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from typing import NamedTuple

from .._runtime.clock import Clock
from .._runtime.forks import renew_in_child
from .._runtime.secrecy import Hidden
from ._header import MOST_BYTES
from .caller import Caller

__all__ = ["Accepted"]

#: So many are known; what came longest ago makes room.
_MOST = 1_000
#: Seconds after which one is looked at anew, as its key may have been withdrawn. Keys are kept for
#: a day by themselves.
_LONGEST = 300.0


class _Entry(NamedTuple):
    caller: Caller
    #: When it is looked at anew, on the elapsed clock, and when it has ended, on the wall's.
    known_until: float
    ends_at: float


class Accepted:
    """Who has sent which bearer, by its digest, so that no text of any is kept to find it by.

    Args:
        clock: The time.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        #: Read without the lock.
        self._entries: dict[bytes, _Entry] = {}
        renew_in_child(self._start_anew)

    def _start_anew(self) -> None:
        """Makes its lock anew in the child."""
        #: Guards changes of the entries; never held while anything waits.
        self._lock = threading.RLock()

    def digest(self, authorization: Sequence[str] | str | None) -> bytes | None:
        """Gives what a bearer is found by.

        Args:
            authorization: The values of all ``Authorization`` headers.

        Returns:
            None for what has to be looked at each time: several headers, or one of odd letters.
        """
        authorization, given = None, Hidden(authorization)
        if not isinstance(given.cell_contents, str):
            if given.cell_contents is None or len(given.cell_contents) != 1:
                return None
            given = Hidden(given.cell_contents[0])
        if len(given.cell_contents) > MOST_BYTES or not given.cell_contents.isascii():
            return None  # for the validator to refuse
        return hashlib.sha256(given.cell_contents.encode()).digest()

    def find(self, digest: bytes | None) -> Caller | None:
        """Gives whoever sent a bearer that was accepted, while it is valid."""
        entry = None if digest is None else self._entries.get(digest)
        if entry is None:
            return None
        now, wall = self._clock.elapsed(), self._clock.wall()
        return entry.caller if now < entry.known_until and wall < entry.ends_at else None

    def keep(self, digest: bytes | None, caller: Caller) -> None:
        """Notes that a bearer was accepted."""
        ends_at = caller.claims.get("exp")
        if digest is None or not isinstance(ends_at, (int, float)):
            return
        entry = _Entry(caller, self._clock.elapsed() + _LONGEST, ends_at)
        with self._lock:
            self._entries.pop(digest, None)
            self._entries[digest] = entry
            if len(self._entries) > _MOST:
                del self._entries[next(iter(self._entries))]
