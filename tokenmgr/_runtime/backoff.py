"""How long what fails is left alone: one rule for keys, the breaker, the store and the wire."""

from __future__ import annotations

import random

__all__ = ["Backoff"]


class Backoff:
    """Failures in a row, and until when the last one stands. All in seconds.

    After each failure a random time passes (full jitter, so that not all come back at once), up to
    a ceiling that doubles each time.
    See https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/.

    Args:
        first: The ceiling after the first failure.
        longest: The ceiling that is never passed.
        least: The share of the ceiling that is waited at least, from 0 to 1.
        longest_asked: What a service asks for is honoured up to this.
        spread: What a service asks for is prolonged by up to this share, as it may have told a
            whole fleet the same.
    """

    __slots__ = ("_asked", "_first", "_least", "_longest", "_spread", "failures", "until")

    def __init__(
        self,
        first: float,
        longest: float,
        *,
        least: float = 0.0,
        longest_asked: float = float("inf"),
        spread: float = 0.0,
    ) -> None:
        self._first = first
        self._longest = longest
        self._least = least
        self._asked = longest_asked
        self._spread = spread
        self.clear()

    def clear(self) -> None:
        """Forgets all failures, after a success."""
        self.failures: int = 0
        #: Until then, on the clock that :meth:`fail` was told, nobody asks.
        self.until: float = float("-inf")

    def fail(self, now: float, *, asked: float | None = None, most: float = float("inf")) -> float:
        """Counts a failure, and says for how many seconds it stands.

        Args:
            now: The time.
            asked: The service's own ``Retry-After``, where it sent one: it is never less.
            most: Longer than this nothing of our own stands.
        """
        self.failures += 1
        ceiling = min(self._longest, self._first * 2.0 ** min(self.failures - 1, 30))
        seconds = min(most, ceiling * random.uniform(self._least, 1.0))  # noqa: S311 - spreads
        if asked is not None:
            spread = 1.0 + self._spread * random.random()  # noqa: S311 - spreads
            seconds = max(seconds, min(asked, self._asked) * spread)
        self.until = now + seconds
        return seconds
