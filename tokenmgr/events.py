"""What happened, without secrets: an event has no field that could hold one.

Events go to the registry's ``on_event`` hook, in a thread of its own, one after another; a hook
that is slow or raises harms nobody. Where it cannot keep up, the oldest are dropped. They also go
to the logger ``tokenmgr``: failures as warnings, which reach stderr where the program has
configured no logging, and all else for debugging, with what the service refuses one user.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import Literal

from ._runtime.forks import renew_in_child
from ._runtime.stack import handled_now, is_logging, let_interruptions_pass
from ._runtime.values import Value
from ._runtime.workers import Workers
from .token import TokenKey

__all__ = [
    "BackingOff",
    "BreakerClosed",
    "BreakerOpened",
    "Event",
    "FlightJoined",
    "Health",
    "Hook",
    "LeaseOutlived",
    "RecordRefused",
    "RequestFailed",
    "ServedStale",
    "StoreFailed",
    "StoreRecovered",
    "TokenAdopted",
    "TokenInvalidated",
    "TokenLetGo",
    "TokenRenewed",
    "TokenRequested",
    "TokenState",
    "TokenStatus",
    "health_of",
]

_logger = logging.getLogger("tokenmgr")

#: So many events wait for a slow hook before the oldest are dropped.
_MOST_WAITING = 10_000


class Event(Value):
    """Something happened."""

    #: When, in seconds since 1970.
    at: float


class _KeyEvent(Event):
    #: To which key.
    key: TokenKey


class TokenRequested(_KeyEvent):
    """A fetch starts: from the store where there is one, else from the service."""

    #: Why: ``none``, ``expired``, ``aging``, ``min_ttl``, ``forced`` or ``claims``.
    reason: str


class TokenRenewed(_KeyEvent):
    """A fetch brought a token."""

    #: How long the fetch took, in seconds.
    took: float
    #: How long the token lives, in seconds.
    expires_in: float


class RequestFailed(_KeyEvent):
    """A fetch brought no token."""

    #: How long the fetch took, in seconds.
    took: float
    #: The class of the error, such as ``ThrottledError``.
    error: str
    #: The AADSTS numbers, where the service sent some.
    error_codes: tuple[int, ...]
    #: What the error says: what happened, and what to do next.
    message: str = ""
    #: How long the token in hand serves still, in seconds; 0 when there is none.
    expires_in: float = 0.0
    #: When the service is asked again, in seconds from now.
    retry_in: float = 0.0

    def __str__(self) -> str:
        """What a person needs to know of it; the line of the log."""
        serves = "no token is in hand"
        if self.expires_in > 0:
            serves = f"the one in hand serves for {self.expires_in:.0f} s more"
        scopes = " ".join(self.key.scopes)
        return (
            f"no new token for {scopes} at {self.key.authority}: {self.error}: {self.message} "
            f"({serves}; asked again in {self.retry_in:.0f} s)"
        )


class BackingOff(_KeyEvent):
    """The service is not asked for a while, after a failure."""

    #: For how long, in seconds.
    seconds: float


class FlightJoined(_KeyEvent):
    """A caller waits for a fetch that another one started."""


class ServedStale(_KeyEvent):
    """A token is handed out past its renewal, since that failed. Once for each failure."""

    #: How long the token is valid still, in seconds.
    expires_in: float


class TokenInvalidated(_KeyEvent):
    """A resource refused the token in hand, and it was dropped."""


class TokenLetGo(_KeyEvent):
    """A token is not renewed any more, since nobody asked for it during its last lifetime."""


class BreakerOpened(Event):
    """An authority fails for several keys, and is asked by one of them now and then."""

    #: Its URL.
    authority: str
    #: For how long nobody asks, in seconds.
    seconds: float


class BreakerClosed(Event):
    """An authority answers again."""

    #: Its URL.
    authority: str


class TokenAdopted(_KeyEvent):
    """A token came from the store, where another worker had put it, or from an imported cache."""

    #: How long it lives still, in seconds.
    expires_in: float


class RecordRefused(_KeyEvent):
    """What lies in the store under a key does not open, and counts as a miss."""

    #: Why, without anything of what it holds.
    reason: str


class LeaseOutlived(_KeyEvent):
    """Another worker has the lease for longer than a lease lasts; this one fetches by itself."""


class StoreFailed(Event):
    """The store failed, and is left alone for a while; workers fetch for themselves meanwhile."""

    #: What it was to do: ``get``, ``put``, ``lease`` or ``delete``.
    operation: str
    #: The class of the error, and what to do about it where the store says so.
    error: str
    #: For how long it is left alone, in seconds.
    seconds: float


class StoreRecovered(Event):
    """The store does what it is asked again."""


#: How a token stands.
TokenState = Literal["fresh", "aging", "expired", "none"]


class TokenStatus(Value):
    """How the token of one key stands, for people and dashboards. No secret is in it."""

    key: TokenKey
    #: Whether it serves: past ``aging`` it does not.
    state: TokenState
    #: Seconds for which it is still handed out; 0 when it is not.
    expires_in: float
    #: When the last fetch succeeded, in seconds since 1970; None when none has.
    last_success: float | None
    #: The class and the message of the failure that stands; None when the last fetch succeeded.
    last_error: str | None
    #: How many calls have waited for a fetch.
    waits: int
    #: Seconds until the service is asked again after that failure; None when none stands.
    retry_in: float | None = None
    #: Whether the store that workers share can be used; None when there is none.
    store: Literal["well", "away"] | None = None


class Health(Value):
    """Whether a process can serve, for probes and dashboards. No secret is in it."""

    #: Whether it can: some token serves, or none has failed.
    ready: bool
    #: What is wrong, though it may be ready all the same; None where nothing is.
    reason: str | None = None
    #: How many tokens there are in each state.
    fresh: int = 0
    aging: int = 0
    expired: int = 0
    #: Those that were never there.
    none: int = 0
    #: Those of the last two whose last request failed.
    failing: int = 0


def health_of(tokens: Iterable[TokenStatus]) -> Health:
    """Says whether a process can serve, by how its tokens stand.

    A token that is valid serves, though its renewal fails. One that nobody has asked for yet, or
    for long, says nothing. So what cannot serve is where no token is valid, and one has failed.

    Args:
        tokens: How each of them stands.
    """
    told = list(tokens)
    states = Counter[str](each.state for each in told)
    gone = [each for each in told if each.state in ("expired", "none") and each.last_error]
    reason = None
    if gone:
        reason = f"{len(gone)} of {len(told)} tokens cannot be had; the last: {gone[-1].last_error}"
    serves = states["fresh"] + states["aging"] > 0
    return Health(serves or not gone, reason, **states, failing=len(gone))


#: Those that a person wants to know of. A failure says also how long it is left alone, and how
#: long the old token serves.
_WARNINGS = (
    RequestFailed,
    BreakerOpened,
    RecordRefused,
    LeaseOutlived,
    StoreFailed,
)


#: What a user is refused with.
_REFUSALS = frozenset({"InteractionRequiredError", "ConsentRequiredError"})


class Hook:
    """Where events go: to the logger, and to the program's hook.

    Args:
        on_event: The program's hook; None when it has none.
    """

    def __init__(self, on_event: Callable[[Event], object] | None = None) -> None:
        self._on_event = on_event
        self._worker = Workers(1, name="tokenmgr-events")
        renew_in_child(self._start_anew)

    def _start_anew(self) -> None:
        """Starts with no event: the parent's go to the parent's hook."""
        #: Guards the two below; the hook is not called under it.
        self._lock = threading.RLock()
        self._waiting: deque[Event] = deque(maxlen=_MOST_WAITING)
        self._delivering = False

    def emit(self, event: Event) -> None:
        """Passes an event on. Never raises of itself, never waits for the hook."""
        _log(event)
        if self._on_event is None:
            return
        try:
            with self._lock:
                self._waiting.append(event)
                if self._delivering:
                    return
                self._delivering = True
            self._worker.do(self._deliver)
        except BaseException as exc:
            # No thread runs here, and the caller's is not the hook's; or he is interrupted, and
            # the next event is to be delivered all the same.
            self._delivering = False
            if not isinstance(exc, RuntimeError):
                raise

    def settle(self, seconds: float) -> None:
        """Waits until the hook has been told all, or so long."""
        self._worker.settle(seconds)

    def _deliver(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._delivering = False
                    return
                event = self._waiting.popleft()
            try:
                self._on_event(event)  # type: ignore[misc]
            except BaseException:
                with contextlib.suppress(Exception):  # the next event is due all the same
                    _logger.warning("the on_event hook failed", exc_info=True)


def _level(event: Event) -> int:
    if not isinstance(event, _WARNINGS):
        return logging.DEBUG
    # Or whoever calls could write to the log as often as they like.
    return logging.DEBUG if _is_users_own(event) else logging.WARNING


def _is_users_own(event: Event) -> bool:
    """Whether it is one user's trouble, and neither the service's nor the app's."""
    if not isinstance(event, RequestFailed) or not event.key.subject:
        return False
    # What is refused for no reason that is known has the service's number at least.
    odd = event.error == "TokenRequestError" and event.error_codes != ()
    return odd or event.error in _REFUSALS


def _log(event: Event) -> None:
    level = _level(event)
    # What a log handler asks for is not logged: it would ask again for each line.
    if not _logger.isEnabledFor(level) or is_logging():
        return
    handled = handled_now()
    try:
        _logger.log(level, "%s", event)
    except Exception as exc:  # noqa: BLE001 - a handler or a filter may be anybody's code
        let_interruptions_pass(exc, handled)
