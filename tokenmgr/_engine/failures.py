"""The failures of a key in a row, and until when the last one stands."""

from __future__ import annotations

import random
from datetime import datetime, timezone
from typing import NamedTuple

from ..errors import TokenManagerError
from ..policy import RefreshPolicy, new_backoff
from .flight import again, bare

__all__ = ["NO_FAILURES", "Failures"]

#: Without a valid token in hand it is so many seconds from one try to the next at most, unless the
#: service wants it so: 15 after an outage there is a token, though callers ask now and then only.
_LONGEST_WITHOUT = 12.0
#: Who wants a new token now is kept from asking for so long, in seconds, after the last try.
_LONGEST_RENEWAL = 1.0
#: While a token lives there is to be another try; in its last seconds not without a pause, nor
#: after a try that took long.
_PAUSE = 1.0


class _Asked(NamedTuple):
    """Until when the service wants to be left alone, whatever claims it is asked with."""

    until: float = float("-inf")
    error: TokenManagerError | None = None
    #: When that began, in seconds since 1970.
    since: float = 0.0


class Failures:
    """The failures in a row; none when it is new. Moments are on the elapsed clock.

    What the service asked for holds for the same token with other claims too: ``beside`` is theirs.
    """

    def __init__(self, policy: RefreshPolicy, beside: Failures | None = None) -> None:
        self._policy = policy
        self._backoff = new_backoff(policy)
        #: What the service asked each of them, by who they are. Each sets its own, as there is no
        #: lock for all of them; whoever has a token clears it for all.
        self.asked: dict[int, _Asked] = {} if beside is None else beside.asked
        self._error: TokenManagerError | None = None
        self._failed_at = float("-inf")
        #: When that try began: a service that does not answer has been waited for already.
        self._tried_at = float("-inf")
        #: When the first of them was, in seconds since 1970.
        self._since = 0.0

    @property
    def error(self) -> TokenManagerError | None:
        """The failure that stands; None after a success."""
        return self._error

    @property
    def failed_at(self) -> float:
        """When the last one was."""
        return self._failed_at

    def clear(self) -> None:
        """Forgets all of them, after a success."""
        self._backoff.clear()
        self._error = None
        self.asked.clear()

    def add(
        self,
        error: TokenManagerError,
        now: float,
        wall: float,
        valid_until: float,
        *,
        tried_at: float,
    ) -> float:
        """Adds a failure; gives the seconds for which it stands.

        Args:
            error: The failure. What is kept of it has no traceback, and so nothing of a call.
            now: The elapsed clock.
            wall: The wall clock.
            valid_until: Until when the token in hand serves.
            tried_at: The elapsed clock, when the try began.
        """
        left, most = valid_until - now, float("inf")
        if left > 0:
            most = max(_PAUSE, left / 2) * random.uniform(0.5, 1.0)  # noqa: S311 - spreads tries
        if self._error is None:
            self._since = wall
        self._error, self._failed_at, self._tried_at = bare(error), now, tried_at
        self._backoff.fail(now, most=most)
        if error.retry_after is not None:
            spread = 1.0 + self._policy.jitter * random.random()  # noqa: S311 - spreads tries
            asked = min(error.retry_after, self._policy.retry_after_cap) * spread
            mine = self.asked.get(id(self), _Asked())
            if now + asked > mine.until:
                self.asked[id(self)] = _Asked(now + asked, self._error, self._since)
        return max(0.0, self.stands_until(serves=left > 0) - now)

    def stands_until(self, *, serves: bool, renew: bool = False) -> float:
        """Says until when nobody asks.

        Args:
            serves: Whether there is a valid token in hand.
            renew: Whether a caller wants a new one now.
        """
        own = self._backoff.until
        if renew:
            own = min(own, self._failed_at + _LONGEST_RENEWAL)
        elif not serves:
            longest = max(self._failed_at + _PAUSE, self._tried_at + _LONGEST_WITHOUT)
            own = min(own, longest)
        return max(own, self._longest_asked.until)

    def is_asked(self, now: float) -> bool:
        """Whether it is the service that wants to be left alone."""
        return now < self._longest_asked.until

    @property
    def _longest_asked(self) -> _Asked:
        """What the service asked for longest."""
        return max(tuple(self.asked.values()), key=lambda each: each.until, default=_Asked())

    def repeated(self, now: float, until: float) -> TokenManagerError | None:
        """Gives the failure that stands, for one more caller: it says so.

        It is None where a token with other claims has just come, and ended it.
        """
        error, began, asked = self._error, self._since, self._longest_asked
        if now < asked.until:
            error, began = asked.error, asked.since
        if error is None:
            return None
        repeated = again(error)
        since = datetime.fromtimestamp(began, timezone.utc).strftime("%H:%M:%S")
        message = f"{error} (failing since {since} UTC; asked again in {until - now:.0f} s)"
        repeated.args = (message, *error.args[1:])
        if repeated.retry_after is not None:
            repeated.retry_after = max(0.0, until - now)
        return repeated


#: Those of whatever has never failed: none is ever added.
NO_FAILURES = Failures(RefreshPolicy())
