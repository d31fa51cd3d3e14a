"""A breaker: while an authority is down, one key asks it now and then, and not every key.

It opens when several keys have failed in a row, with no success between them. One key that fails
by itself never opens it: that would make one user's trouble everybody's.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable

from .._runtime.clock import Clock
from .._runtime.forks import make_new_in_child
from ..errors import ServiceUnavailableError, ThrottledError, TokenManagerError
from ..events import BreakerClosed, BreakerOpened, Event
from ..policy import RefreshPolicy
from ..token import AccessToken, TokenKey, TokenSource

__all__ = ["Breaker", "GuardedSource"]

#: So many keys have to fail, and none succeed, before the service is taken for down.
_KEYS_TO_OPEN = 3


class Breaker:
    """Whether an authority is worth asking.

    Args:
        authority: Its URL, for events and messages.
        clock: The time.
        policy: How long it stays open.
        emit: Where its events go.
    """

    def __init__(
        self,
        authority: str,
        clock: Clock,
        policy: RefreshPolicy,
        emit: Callable[[Event], None],
    ) -> None:
        self._authority = authority
        self._clock = clock
        self._policy = policy
        self._emit = emit
        self._failing: set[TokenKey] = set()
        #: How often it has opened in a row; 0 while it is closed.
        self._openings = 0
        self._open_until = 0.0
        self._probing = False
        make_new_in_child(self)
        self.after_fork()

    def after_fork(self) -> None:
        """Makes its lock anew; what is known of the authority holds in the child too."""
        #: Guards the fields above.
        self._lock = threading.Lock()

    def admit(self) -> None:
        """Lets a fetch through, or not; while open, one now and then, as a probe.

        Raises:
            ServiceUnavailableError: The authority is taken for down.
        """
        with self._lock:
            if not self._openings:
                return
            now = self._clock.elapsed()
            left = self._open_until - now
            if left <= 0:  # this one is the probe; the others wait for what it learns
                self._open_until = now + self._policy.backoff_cap
                self._probing = True
                return
        raise ServiceUnavailableError(
            f"{self._authority} has just failed for several scopes and is left alone for "
            f"{left:.0f} s: ask again then",
            retry_after=left,
        )

    def record(self, key: TokenKey, error: Exception | None) -> None:
        """Learns from a fetch: any answer, a refusal too, shows that the authority is there."""
        if error is None or _is_answer(error):
            self._close()
        if not isinstance(error, ServiceUnavailableError):
            return  # an unreadable credential, say, shows nothing of the authority
        with self._lock:
            self._failing.add(key)
            if len(self._failing) < _KEYS_TO_OPEN or (self._openings and not self._probing):
                return  # those that were under way when it opened say nothing new
            self._openings += 1
            self._probing = False
            seconds = self._policy.backoff(
                self._openings,
                chance=random.random(),  # noqa: S311 - spreads probes, guards nothing
                retry_after=error.retry_after,
            )
            self._open_until = self._clock.elapsed() + seconds
        self._emit(BreakerOpened(at=self._clock.wall(), authority=self._authority, seconds=seconds))

    def _close(self) -> None:
        with self._lock:
            opened, self._openings = self._openings, 0
            self._failing.clear()
        if opened:
            self._emit(BreakerClosed(at=self._clock.wall(), authority=self._authority))


def _is_answer(error: Exception) -> bool:
    if isinstance(error, ServiceUnavailableError):
        return False
    said = isinstance(error, TokenManagerError) and error.error is not None
    return said or isinstance(error, ThrottledError)


class GuardedSource:
    """A source that asks its breaker first.

    Args:
        source: The source.
        key: What it fetches.
        breaker: The breaker of its authority.
    """

    def __init__(self, source: TokenSource, key: TokenKey, breaker: Breaker) -> None:
        self._source = source
        self._key = key
        self._breaker = breaker

    def fetch_token(self, *, claims: str | None = None) -> AccessToken:
        """Fetches a token; see :class:`~tokenmgr.TokenSource`."""
        self._breaker.admit()
        try:
            token = self._source.fetch_token(claims=claims)
        except Exception as exc:
            self._breaker.record(self._key, exc)
            raise
        self._breaker.record(self._key, None)
        return token
