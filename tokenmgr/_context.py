"""What the managers of a registry have in common: one value, made once, passed on as it is."""

from __future__ import annotations

from collections.abc import Callable

from ._runtime.clock import SYSTEM_CLOCK, Clock
from ._runtime.refresher import Refresher, refresher_for
from ._runtime.values import Value
from ._runtime.workers import Workers
from .errors import ConfigurationError
from .events import Event, Hook
from .policy import RefreshPolicy

__all__ = ["OWN_SOURCE", "Context", "new_context"]

#: Fetches of one registry that may be under way at once.
_MOST_FETCHES = 512
#: Seconds that a fetch of a program's own source is given, which has its own deadline
#: and may say which, as ``fetch_timeout``.
OWN_SOURCE = 30.0


class Context(Value):
    """What the managers of a registry have in common."""

    clock: Clock
    policy: RefreshPolicy
    #: Where events go.
    emit: Callable[[Event], None]
    #: The threads that fetch.
    workers: Workers
    #: What says when renewals are due.
    refresher: Refresher
    #: Seconds that one fetch may take, with all that is repeated in it.
    fetch_timeout: float
    #: Waits for that many seconds at most until what is under way has ended, and been told of.
    settle: Callable[[float], None]

    def beneath(self, depth: int) -> Context:
        """Gives the same with other threads, for what others wait for in the middle of a fetch.

        Args:
            depth: How many may stand above such a fetch, one waiting for the other.
        """
        if depth == 0:
            return self
        workers = self.workers
        for _ in range(depth):
            workers = workers.beneath
        return self._replace(workers=workers)


def new_context(
    *,
    policy: RefreshPolicy | None = None,
    clock: Clock = SYSTEM_CLOCK,
    on_event: Callable[[Event], object] | None = None,
    fetch_timeout: float = OWN_SOURCE,
) -> Context:
    """Makes the context of a registry, or of a manager that stands alone.

    Raises:
        ConfigurationError: The policy is none.
    """
    if policy is not None and not isinstance(policy, RefreshPolicy):
        raise ConfigurationError("policy= is a RefreshPolicy")
    workers, hook = Workers(_MOST_FETCHES, name="tokenmgr-fetch"), Hook(on_event)

    def settle(seconds: float) -> None:
        workers.settle(seconds)
        hook.settle(seconds)

    return Context(
        clock=clock,
        policy=policy or RefreshPolicy(),
        emit=hook.emit,
        workers=workers,
        refresher=refresher_for(clock),
        fetch_timeout=fetch_timeout,
        settle=settle,
    )
