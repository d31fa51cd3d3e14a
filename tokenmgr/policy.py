"""When to renew, and how to back off: decisions alone, without clock, lock or I/O."""

from __future__ import annotations

import enum

from ._runtime.backoff import Backoff
from ._runtime.values import Value
from .errors import ConfigurationError
from .token import AccessToken, Record

__all__ = ["Action", "RefreshPolicy", "Times", "decide", "new_backoff", "new_record", "times"]


#: The least seconds between a token and its renewal, whatever the service asks for; no more than a
#: quarter of its life.
_PAUSE = 1.0
#: Nothing is taken to live for longer than ten years, in seconds.
_LONGEST = 315_360_000.0


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
    now: float, current: Times | None, *, min_ttl: float | None = None, retry_at: float = 0.0
) -> Action:
    """Says what a call does: the table of the design, section 7.

    Args:
        now: The elapsed clock, in seconds.
        current: The token in hand; None when there is none.
        min_ttl: Seconds of validity that the caller needs; None when any will do.
        retry_at: Until then, on the elapsed clock, the last failure stands.
    """
    backing_off = now < retry_at
    if current is None or now >= current.valid_until:
        return Action.FAIL if backing_off else Action.WAIT
    if min_ttl is not None and current.valid_until - now < min_ttl:
        return Action.FAIL if backing_off else Action.WAIT
    if now < current.fresh_until or backing_off:
        return Action.RETURN
    return Action.RETURN_AND_RENEW


class RefreshPolicy(Value):
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

    def _check(self) -> None:
        for name, value in vars(self).items():
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise ConfigurationError(f"RefreshPolicy({name}=…) is a number")
        for name in ("skew", "min_margin", "backoff_base", "backoff_cap", "retry_after_cap"):
            if not getattr(self, name) >= 0:
                raise ConfigurationError(f"RefreshPolicy({name}=…) is in seconds, 0 or more")
        for name in ("margin", "jitter"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigurationError(f"RefreshPolicy({name}=…) is a share, from 0 to under 1")
        if not self.max_wait > 0:
            raise ConfigurationError("RefreshPolicy(max_wait=…) is in seconds, more than 0")


def times(
    policy: RefreshPolicy,
    now: float,
    lifetime: float,
    *,
    refresh_in: float | None = None,
    chance: float,
    age: float = 0.0,
) -> Times:
    """Says how long a token serves that has just arrived.

    Args:
        policy: When to renew.
        now: The elapsed clock.
        lifetime: Seconds that the token is valid still.
        refresh_in: Seconds after which the service would like it renewed, where it said so.
        chance: A random number from 0 to 1, for the jitter.
        age: Seconds that it has lived, where another worker fetched it.
    """
    lifetime = min(lifetime, _LONGEST)
    whole = lifetime + age
    usable = lifetime - min(policy.skew, whole / 4)
    margin = max(policy.margin * whole, min(policy.min_margin, whole / 2))
    due = max(0.0, lifetime - margin if refresh_in is None else refresh_in)
    due = min(due * (1 - policy.jitter * chance), usable)
    return Times(fresh_until=now + due, valid_until=now + usable)


def new_record(token: AccessToken, asked_at: float, policy: RefreshPolicy) -> Record:
    """Notes of a token that the service gave when it is to be renewed, the same for everybody.

    Whoever keeps it adds a jitter of their own.

    Args:
        token: The token.
        asked_at: The wall clock, when the service was asked.
        policy: When to renew, where the service did not say.
    """
    lifetime = min(token.expires_at - asked_at, _LONGEST)
    refresh_in = None
    if token.refresh_at is not None:
        # What is due at once, again and again, is not renewed without a pause.
        refresh_in = max(token.refresh_at - asked_at, min(_PAUSE, lifetime / 4))
    due = times(policy, asked_at, lifetime, refresh_in=refresh_in, chance=0.0).fresh_until
    return Record(token._replace(expires_at=asked_at + lifetime, refresh_at=due), asked_at)


def new_backoff(policy: RefreshPolicy) -> Backoff:
    """Makes the back-off of a key, or of an authority."""
    return Backoff(
        policy.backoff_base,
        policy.backoff_cap,
        longest_asked=policy.retry_after_cap,
        spread=policy.jitter,
    )
