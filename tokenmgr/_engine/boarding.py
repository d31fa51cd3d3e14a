"""What a call asks its key for, and what it is given."""

from __future__ import annotations

from typing import NamedTuple

from .current import NOTHING, HeldToken
from .flight import Flight

__all__ = ["Boarding", "Need"]


class Need(NamedTuple):
    """What a call needs."""

    #: Seconds of validity; None when any will do.
    min_ttl: float | None = None
    #: Whether only a token will do that is fetched now.
    renew: bool = False
    #: The claims that it has to be fetched with.
    claims: str | None = None
    #: What was in hand when it began to wait for a flight with other claims; any later token with
    #: its own was asked for since, and serves it.
    since: HeldToken | None = None

    def arrived_with(self, held: HeldToken) -> bool:
        """Whether it has been fetched since the call began to wait, and is what that needs."""
        return (
            self.since is not None and held is not self.since and held.record.claims == self.claims
        )

    def reason(self, held: HeldToken, now: float) -> str:
        """Says why the token in hand does not do; for events."""
        if self.claims is not None:
            return "claims"
        if self.renew:
            return "forced"
        if held is NOTHING:
            return "none"
        if now >= held.valid_until:
            return "expired"
        return "min_ttl" if now < held.fresh_until or self.min_ttl is not None else "aging"


class Boarding(NamedTuple):
    """What serves a call: the token in hand, or a flight to wait for where there is one."""

    held: HeldToken
    flight: Flight[HeldToken] | None
    #: Whether the flight's outcome is the call's; else it boards again when that has landed.
    ours: bool = True
