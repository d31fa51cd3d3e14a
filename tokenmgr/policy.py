"""When to renew, and how to back off: decisions alone, without clock, lock or I/O."""

from __future__ import annotations

import enum
from dataclasses import dataclass, fields

from .errors import ConfigurationError

__all__ = ["Action", "RefreshPolicy", "Times", "decide"]


class Action(enum.Enum):
    """What a call does with the token in hand."""

    RETURN = "return it"
    RETURN_AND_RENEW = "return it, and see that one renewal is under way"
    WAIT = "wait for the flight"
    FAIL = "raise the last failure: it is too early to ask again"


class Times:
    """How long a token serves, on the elapsed clock, in seconds."""

    __slots__ = ("fresh_until", "valid_until")

    def __init__(self, fresh_until: float, valid_until: float) -> None:
        #: From here on it is aging: good, and due for renewal.
        self.fresh_until: float = fresh_until
        #: From here on it is not handed out any more. The skew is taken off already.
        self.valid_until: float = valid_until


def decide(
    now: float, held: Times | None, *, min_ttl: float | None = None, retry_at: float = 0.0
) -> Action:
    """Says what a call does: the table of the design, section 7.

    Args:
        now: The elapsed clock, in seconds.
        held: The token in hand; None when there is none.
        min_ttl: Seconds of validity that the caller needs; None when any will do.
        retry_at: Until then, on the elapsed clock, the last failure stands.
    """
    backing_off = now < retry_at
    if held is None or now >= held.valid_until:
        return Action.FAIL if backing_off else Action.WAIT
    if min_ttl is not None and held.valid_until - now < min_ttl:
        return Action.FAIL if backing_off else Action.WAIT
    if now < held.fresh_until or backing_off:
        return Action.RETURN
    return Action.RETURN_AND_RENEW


@dataclass(frozen=True)
class RefreshPolicy:
    """When to renew a token, how to back off, and how long to wait at most. All in seconds.

    Raises:
        ConfigurationError: A value is out of its range.
    """

    #: A token is not handed out during its last seconds, as clocks differ and requests take
    #: time. A token that lives under four times as long gives a quarter of its life instead.
    skew: float = 10.0
    #: The share of the lifetime that is left when it is renewed, where the service does not say.
    margin: float = 0.2
    #: Renewal is due at least so long before the end, or after half of a short life.
    min_margin: float = 300.0
    #: Renewal comes earlier by up to this share of the time to it, so that a fleet spreads.
    jitter: float = 0.1
    #: The back-off after the first failure is a random time up to this; it doubles each time.
    backoff_base: float = 1.0
    #: No back-off of our own is longer than this.
    backoff_cap: float = 60.0
    #: A service's ``Retry-After`` is honoured up to this.
    retry_after_cap: float = 3600.0
    #: A call that brings no ``timeout`` of its own waits so long for a token.
    max_wait: float = 60.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise ConfigurationError(f"RefreshPolicy({field.name}=…) is a number")
        for name in ("skew", "min_margin", "backoff_base", "backoff_cap", "retry_after_cap"):
            if not getattr(self, name) >= 0:
                raise ConfigurationError(f"RefreshPolicy({name}=…) is in seconds, 0 or more")
        for name in ("margin", "jitter"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigurationError(f"RefreshPolicy({name}=…) is a share, from 0 to under 1")
        if not self.max_wait > 0:
            raise ConfigurationError("RefreshPolicy(max_wait=…) is in seconds, more than 0")

    def hold(
        self,
        now: float,
        lifetime: float,
        *,
        refresh_in: float | None = None,
        chance: float,
        age: float = 0.0,
    ) -> Times:
        """Says how long a token serves that has just arrived.

        Args:
            now: The elapsed clock.
            lifetime: Seconds that the token is valid still.
            refresh_in: Seconds after which the service would like it renewed, where it said so.
            chance: A random number from 0 to 1, for the jitter.
            age: Seconds that it has lived, where another worker fetched it.
        """
        whole = lifetime + age
        usable = lifetime - min(self.skew, whole / 4)
        margin = max(self.margin * whole, min(self.min_margin, whole / 2))
        due = max(0.0, lifetime - margin if refresh_in is None else refresh_in)
        due = min(due * (1 - self.jitter * chance), usable)
        return Times(fresh_until=now + due, valid_until=now + usable)

    def backoff(self, failures: int, *, chance: float, retry_after: float | None = None) -> float:
        """Seconds until the service is asked again: full jitter, and no less than it asked for.

        Args:
            failures: How many attempts have failed in a row, this one included.
            chance: A random number from 0 to 1, for the jitter.
            retry_after: The service's own ``Retry-After``, where it sent one.
        """
        ceiling = min(self.backoff_cap, self.backoff_base * 2.0 ** min(failures - 1, 30))
        asked = 0.0 if retry_after is None else min(retry_after, self.retry_after_cap)
        # A fleet that was told "in 30 seconds" all at once must not come back all at once.
        return max(ceiling * chance, asked * (1 + self.jitter * chance))
