"""The failures of a key in a row, and until when the last one stands."""

from __future__ import annotations

import random

from ..errors import TokenManagerError
from ..policy import RefreshPolicy
from .flight import again

__all__ = ["Setback"]


class Setback:
    """The failures in a row; none when it is new.

    Args:
        claims: The claims that were asked for; None for plain tokens.
    """

    __slots__ = ("claims", "error", "failures", "retry_at")

    def __init__(self, claims: str | None = None) -> None:
        self.claims: str | None = claims
        self.failures: int = 0
        self.error: TokenManagerError | None = None
        #: Until then, on the elapsed clock, nobody asks.
        self.retry_at: float = float("-inf")

    def last(self) -> TokenManagerError:
        """Gives the failure that stands, for one more caller."""
        assert self.error is not None  # noqa: S101 - retry_at is set along with it
        return again(self.error)

    def add(
        self, error: TokenManagerError, policy: RefreshPolicy, now: float, valid_until: float
    ) -> float:
        """Adds a failure; gives the seconds for which it stands.

        Args:
            error: The failure.
            policy: How to back off.
            now: The elapsed clock.
            valid_until: Until when the token in hand serves, on the same.
        """
        self.failures += 1
        self.error = error
        seconds = policy.backoff(
            self.failures,
            chance=random.random(),  # noqa: S311 - spreads retries, guards nothing
            retry_after=error.retry_after,
        )
        if error.retry_after is None and now < valid_until:
            seconds = min(seconds, (valid_until - now) / 2)  # there is to be another try
        self.retry_at = now + seconds
        return seconds
