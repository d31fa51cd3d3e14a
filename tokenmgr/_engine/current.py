"""The token in hand, with its times turned into times on the elapsed clock."""

from __future__ import annotations

import random

from .._context import Context
from ..errors import ServiceUnavailableError
from ..events import TokenState
from ..policy import Times, times
from ..token import AccessToken, Record

__all__ = ["NOTHING", "Current", "arrived"]


class Current(Times):
    """The token in hand, and how long it serves. Replaced whole, never changed."""

    __slots__ = ("asked_at", "fetched_at", "record", "secret", "token")

    def __init__(self, record: Record, times: Times, fetched_at: float) -> None:
        super().__init__(times.fresh_until, times.valid_until)
        self.record: Record = record
        self.token: AccessToken = record.token
        self.secret: str = record.token.secret
        #: When it came from the service, here or in another worker, on the elapsed clock.
        self.fetched_at: float = fetched_at
        #: When the service was asked for it, on the elapsed clock, where that was here.
        self.asked_at: float = float("-inf")

    def state(self, now: float) -> TokenState:
        """Says how it stands."""
        if now < self.fresh_until:
            return "fresh"
        if now < self.valid_until:
            return "aging"
        return "none" if self is NOTHING else "expired"


_NEVER = float("-inf")
#: Stands for no token, so that the hot path needs no test for None.
NOTHING = Current(Record(AccessToken("", 0.0), 0.0), Times(_NEVER, _NEVER), _NEVER)


def arrived(
    record: Record, context: Context, *, offset: float = float("inf"), fetched: bool = False
) -> Current:
    """Takes a token that has just arrived in hand.

    Args:
        record: The token, whose times are the wall clock's.
        context: The time, and when it is to be renewed.
        offset: The elapsed clock less the wall clock, when its fetch began, where it had one.
        fetched: Whether it comes from the service; else it has lived for a while, since another
            worker fetched it.

    Raises:
        ServiceUnavailableError: It has expired already.
    """
    token, now, wall = record.token, context.clock.elapsed(), context.clock.wall()
    age = 0.0 if fetched else max(0.0, wall - record.obtained_at)
    # Where the wall clock was set during the fetch, its two readings disagree; nobody knows which
    # of them the source took, and the earlier end is safe.
    lifetime = token.expires_at + min(offset, now - wall) - now
    if lifetime <= 0:
        raise ServiceUnavailableError(
            "the token that came had expired already: compare this machine's clock with the "
            "service's"
        )
    due = token.refresh_at
    serves = times(
        context.policy,
        now,
        lifetime,
        refresh_in=None if due is None else lifetime - (token.expires_at - due),
        chance=random.random(),  # noqa: S311 - spreads renewals, guards nothing
        age=age,
    )
    return Current(record, serves, now - age)
