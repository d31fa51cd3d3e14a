"""The token in hand, with its times turned into times on the elapsed clock."""

from __future__ import annotations

import dataclasses
import random

from .._runtime.clock import Clock
from ..errors import ServiceUnavailableError
from ..policy import RefreshPolicy, Times
from ..token import AccessToken, Record

__all__ = ["NOTHING", "HeldToken", "hold"]


class HeldToken(Times):
    """The token in hand, and how long it serves. Replaced whole, never changed."""

    __slots__ = ("fetched_at", "record", "secret", "token")

    def __init__(self, record: Record, token: AccessToken, times: Times, fetched_at: float) -> None:
        super().__init__(times.fresh_until, times.valid_until)
        #: The token as it came.
        self.record: Record = record
        #: The same, with the time when it is to be renewed here.
        self.token: AccessToken = token
        self.secret: str = token.secret
        #: When it came from the service, here or in another worker, on the elapsed clock.
        self.fetched_at: float = fetched_at


_NEVER = float("-inf")
_NO_TOKEN = AccessToken("", 0.0)
#: Stands for no token, so that the hot path needs no test for None.
NOTHING = HeldToken(Record(_NO_TOKEN, 0.0), _NO_TOKEN, Times(_NEVER, _NEVER), _NEVER)


def hold(
    record: Record, offset: float, clock: Clock, policy: RefreshPolicy, *, aged: bool = False
) -> HeldToken:
    """Takes a token that has just arrived in hand.

    Args:
        record: The token, whose times are the wall clock's.
        offset: The elapsed clock less the wall clock, when the fetch began.
        clock: The time.
        policy: When it is to be renewed.
        aged: Whether it has lived for a while, since another worker fetched it.

    Raises:
        ServiceUnavailableError: It has expired already.
    """
    token, now, wall = record.token, clock.elapsed(), clock.wall()
    age = max(0.0, wall - record.obtained_at) if aged else 0.0
    # Where the wall clock was set during the fetch, its two readings disagree; nobody knows which
    # of them the source took, and the earlier end is safe.
    ends = token.expires_at + min(offset, now - wall)
    lifetime = ends - now
    if lifetime <= 0:
        raise ServiceUnavailableError(
            "the token that came had expired already: compare this machine's clock with the "
            "service's"
        )
    asked = token.refresh_at
    times = policy.hold(
        now,
        lifetime,
        refresh_in=None if asked is None else lifetime - (token.expires_at - asked),
        chance=random.random(),  # noqa: S311 - spreads renewals, guards nothing
        age=age,
    )
    refresh_at = token.expires_at - (ends - times.fresh_until)
    return HeldToken(record, dataclasses.replace(token, refresh_at=refresh_at), times, now - age)
