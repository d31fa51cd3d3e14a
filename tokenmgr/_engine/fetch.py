"""What a worker does for a cell: it leads one flight, and lands it.

A :class:`Fetch` brings the cell's next token, from the service or from another worker. A
:class:`Look` asks nobody but the store, whether the token in hand is the key's still.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from .. import events
from .._runtime.stack import handled_now, interruption_in
from ..errors import TokenManagerError, TokenRequestError
from ..policy import new_record
from .current import NOTHING, Current, arrived
from .flight import Flight

if TYPE_CHECKING:
    from .._sharing.fetch_once import Wanted
    from .state import State

__all__ = ["Fetch", "Look"]


class Look:
    """Leads a flight that says whether what was doubted is the key's still."""

    def __init__(self, cell: State, flight: Flight[Current]) -> None:
        self._cell = cell
        self.flight: Flight[Current] = flight
        #: Called by the worker before anything else can happen there.
        self.taken: Callable[[], None] = flight.begin

    def __call__(self) -> None:
        """Looks, and lands the flight. It is lost where nothing is found: then there is a fetch."""
        cell, flight = self._cell, self.flight
        try:
            cell.look()
        except BaseException:
            cell.abandon(flight)
            raise
        found = cell.looked(flight)
        if found is NOTHING:
            flight.lose()
        else:
            flight.land(found)  # here: whoever looks the key up may doubt it again at any time


class Fetch:
    """Leads a flight that brings the next token.

    Args:
        cell: Whose.
        flight: What others wait for meanwhile.
        reason: Why, for events.
    """

    def __init__(self, cell: State, flight: Flight[Current], reason: str) -> None:
        self._cell = cell
        self.flight: Flight[Current] = flight
        self._reason = reason
        self._context = cell.context
        #: Called by the worker before anything else can happen there.
        self.taken: Callable[[], None] = flight.begin

    def __call__(self) -> None:
        """Fetches, and lands the flight."""
        cell, flight, clock, handled = self._cell, self.flight, self._context.clock, handled_now()
        if not cell.takes_off(flight):
            flight.lose()
            return
        ask = partial(cell.source.fetch_token, claims=cell.key.claims or None)
        try:
            # Here, lest what comes of it be told before.
            cell.tell(events.TokenRequested, self._reason)
            while True:
                elapsed, wall = clock.elapsed(), clock.wall()
                asked_at: float | None = elapsed
                if cell.shared is None:
                    record = new_record(ask(), wall, self._context.policy)
                else:
                    record, asked_at = cell.shared.obtain(ask, self._wanted())
                slept = clock.elapsed() - elapsed > 2 * self._context.fetch_timeout
                if not (slept and clock.wall() >= record.token.expires_at):
                    break  # else the machine slept in the middle, for longer than the token lives
            offset = elapsed - wall
            current = arrived(record, self._context, offset=offset, fetched=asked_at is not None)
        except BaseException as exc:  # noqa: BLE001 - a source may be anybody's code
            interruption = interruption_in(exc, handled)
            if interruption is None and isinstance(exc, Exception):
                cell.fail(flight, cell.ended_meanwhile() or _typed(exc))
                return
            # This thread is being interrupted, and knows nothing of the service.
            cell.abandon(flight)
            raise (interruption or exc) from None
        else:
            cell.land(flight, current, asked_at)

    def _wanted(self) -> Wanted:
        from .._sharing.fetch_once import Wanted

        cell, current = self._cell, self._cell.current
        return Wanted(
            unlike={current.secret, *cell.refused},
            after=current.record.obtained_at,
            fresh=self._context.clock.elapsed() < current.valid_until,
            new=self.flight.renew and not cell.key.claims,
        )


def _typed(error: Exception) -> TokenManagerError:
    if isinstance(error, TokenManagerError):
        return error
    # The text of a foreign error may hold anything, so that only its class is named.
    typed = TokenRequestError(
        f"the token source failed with {type(error).__name__}, which is chained to this error"
    )
    typed.__cause__ = error
    return typed
