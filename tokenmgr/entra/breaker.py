"""A breaker: while an authority is down, one key asks it now and then, and not every key.

It opens when several keys have failed in a row, with no success between them. One key that fails
by itself never opens it: that would make one user's trouble everybody's.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from .._context import Context
from .._runtime.forks import renew_in_child
from ..errors import ServiceUnavailableError, ThrottledError, TokenManagerError
from ..events import BreakerClosed, BreakerOpened
from ..policy import new_backoff
from ..token import TokenKey

__all__ = ["Breaker"]

#: Seconds from one probe to the next at most, unless the service asks for more: without a token in
#: hand nobody waits for longer than 15.
_LONGEST = 12.0
#: Where a probe took as long as that, it is left alone for so many seconds all the same.
_PAUSE = 1.0
#: So many keys have to fail, and none succeed, before the service is taken for down.
_KEYS_TO_OPEN = 3
#: The HTTP statuses of a service in trouble begin here.
_IN_TROUBLE = 500


class Breaker:
    """Whether an authority is worth asking.

    Args:
        authority: Its URL, for events and messages.
        context: The time, how long it stays open, and where its events go.
    """

    def __init__(self, authority: str, context: Context) -> None:
        self._authority = authority
        self._context = context
        self._failing: set[TokenKey] = set()
        #: Whether it is open, and until when nobody asks; then one does, as a probe.
        self._open = False
        self._backoff = new_backoff(context.policy)
        self._probing = False
        #: When the authority answered last, on the elapsed clock.
        self._answered_at = float("-inf")
        renew_in_child(self._start_anew)

    def _start_anew(self) -> None:
        """Makes its lock anew; what is known of the authority holds in the child too."""
        #: Guards the fields above.
        self._lock = threading.RLock()

    def _admit(self) -> None:
        """Lets a fetch through, or not; while open, one now and then, as a probe.

        Raises:
            ServiceUnavailableError: The authority is taken for down.
        """
        with self._lock:
            if not self._open:
                return
            now = self._context.clock.elapsed()
            left, probing = self._backoff.until - now, self._probing
            if left <= 0:  # this one is the probe; the others wait for what it learns
                self._backoff.until = now + self._context.fetch_timeout
                self._probing = True
                return
        if probing:  # which ends at any moment
            raise ServiceUnavailableError(
                f"{self._authority} has just failed for several scopes and is being asked whether "
                "it is back: ask again soon"
            )
        raise ServiceUnavailableError(
            f"{self._authority} has just failed for several scopes and is left alone for "
            f"{left:.0f} s: ask again then",
            retry_after=left,
        )

    def is_worth_asking(self, failed_at: float) -> bool:
        """Whether a key that failed then is to ask before its own time.

        Another one has been answered since, or the next probe is due, for which all keys may have
        too long to wait.
        """
        now = self._context.clock.elapsed()
        return self._answered_at > failed_at or (self._open and now >= self._backoff.until)

    @contextmanager
    def watching(self, key: TokenKey) -> Iterator[None]:
        """Lets a fetch of a key through, or not, and learns from what comes of it.

        Raises:
            ServiceUnavailableError: The authority is taken for down.
        """
        self._admit()
        began = self._context.clock.elapsed()
        try:
            yield
        except BaseException as exc:
            self._learn(key, exc, began)
            raise
        self._learn(key, None, began)

    def _learn(self, key: TokenKey, error: BaseException | None, began: float) -> None:
        """Learns from a fetch: any answer, a refusal too, shows that the authority is there."""
        if error is None or _is_answer(error):
            self._close()
        elif isinstance(error, ServiceUnavailableError):
            self._count(key, error, began)
        else:  # an interruption, or an unreadable credential, says nothing: another is the probe
            with self._lock:
                if self._probing:
                    self._backoff.until = float("-inf")

    def _count(self, key: TokenKey, error: ServiceUnavailableError, began: float) -> None:
        with self._lock:
            if key.subject and error.status is not None and not self._probing:
                return  # an answer to one user says nothing of the others
            self._failing.add(key)
            if len(self._failing) < _KEYS_TO_OPEN or (self._open and not self._probing):
                return  # those that were under way when it opened say nothing new
            self._open, self._probing = True, False
            clock = self._context.clock
            now = clock.elapsed()
            most = max(_PAUSE, began + _LONGEST - now)
            seconds = self._backoff.fail(now, asked=error.retry_after, most=most)
        self._context.emit(BreakerOpened(clock.wall(), self._authority, seconds))

    def _close(self) -> None:
        with self._lock:
            opened, self._open = self._open, False
            self._answered_at = self._context.clock.elapsed()
            self._backoff.clear()
            self._failing.clear()
        if opened:
            self._context.emit(BreakerClosed(self._context.clock.wall(), self._authority))


def _is_answer(error: BaseException) -> bool:
    """Whether the authority was there to give it, and not in trouble; nonsense is an answer too."""
    if not isinstance(error, TokenManagerError):
        return False
    if isinstance(error, ServiceUnavailableError):
        return error.error is None and error.status is not None and error.status < _IN_TROUBLE
    said = error.error is not None or error.status is not None
    return said or isinstance(error, ThrottledError)
