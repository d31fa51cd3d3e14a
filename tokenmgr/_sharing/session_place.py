"""Where the record of a session lies: under each of the sealing keys, and the newest one counts."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from .._session import SessionRecord
from .session_record import newest_of, session_from_bytes, session_to_bytes
from .slot import Place

if TYPE_CHECKING:
    from .seal import SealingKey

__all__ = ["SessionPlace"]


class SessionPlace(Place):
    """Where a session's record lies."""

    def read(self) -> SessionRecord | None:
        """Gives the newest record that opens, under whichever key; None when there is none."""
        places = self._places()
        newest = self._newest(places)
        if newest is None and len(places) > 1:  # it may just have been sealed with another one
            newest = self._newest(places)
        return newest

    def _newest(self, places: list[tuple[SealingKey, str]]) -> SessionRecord | None:
        newest, parse = None, partial(session_from_bytes, owner=self._described)
        for sealing, name in places:
            found, _ = self._opened(sealing, name, parse)
            newest = newest if found is None else newest_of(newest, found)
        return newest

    def write(self, record: SessionRecord, ttl: float) -> None:
        """Keeps a record, sealed with the first key, and no other one beside it."""
        (sealing, name), *others = self._places()
        content = session_to_bytes(record, self._described)
        # Although the store may have failed just now: there may be no other copy.
        self._sealed.store.put_over(name, sealing.seal(content.cell_contents, name), ttl)
        for _, other in others:
            self._erase(other)

    def refuse(self, reason: str) -> None:
        """Tells that what lies there counts for nothing."""
        self._refuse(reason)
