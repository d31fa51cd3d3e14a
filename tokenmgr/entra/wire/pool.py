"""The connections, which the registries of a process have in common where their settings are equal.

They carry the requests of many apps and tenants, and know nothing of any: a request brings its
proxies, its certificate authorities and its credential along, and an answer leaves no cookie.
"""

from __future__ import annotations

import threading
from http.cookiejar import DefaultCookiePolicy
from typing import Any

import requests

from ..._runtime.clock import SYSTEM_CLOCK
from ..._runtime.forks import no_fork, renew_in_child
from ..._runtime.refresher import Plan, refresher_for
from ..._runtime.secrecy import Hidden
from ..._runtime.shared import Share, Shared
from ..._runtime.workers import Workers
from .adapter import DeadlineAdapter

__all__ = ["Pool", "take_pool"]

#: Seconds after which a connection that nobody uses is closed, and between two looks for such.
_IDLE, _LOOK_EVERY = 60.0, 15.0
#: Hosts whose connections are kept.
_MOST_HOSTS = 32
#: Connections to one host at once, where the process may have that many files open: a quarter of
#: them is not too many.
_MOST_AT_ONCE, _SHARE = 512, 4


class Pool:
    """Connections, which close by themselves when they are not used for a minute."""

    #: The next look for what is not used.
    _plan: Plan | None = None

    def __init__(self) -> None:
        self._refresher = refresher_for(SYSTEM_CLOCK)
        self._workers = Workers(1, name="tokenmgr-idle")
        renew_in_child(self._start_anew)

    def _start_anew(self) -> None:
        """Opens connections of its own in the child: two processes would mix up one's TLS."""
        #: Guards the plan.
        self._lock = threading.RLock()
        #: Sends requests.
        self.session: requests.Session = requests.Session()
        self.session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=()))
        #: Opens connections.
        self.adapter: DeadlineAdapter = self.new_adapter(
            _MOST_HOSTS, _most_at_once(), pool_block=True
        )
        self.session.mount("https://", self.adapter)
        #: Whether it has been used since the last look.
        self._used = False
        if self._plan is not None:  # the parent's connections are its own
            self._plan.live = False

    def new_adapter(self, *args: Any, **named: Any) -> DeadlineAdapter:
        """Makes what opens the connections."""
        return DeadlineAdapter(*args, **named)

    def use(self) -> requests.Session:
        """Gives what sends requests, to send one now."""
        self._used = True
        if self._plan is None or not self._plan.live:  # without the lock in nearly every case
            self._look_later()
        return self.session

    def close(self) -> None:
        """Closes the connections that carry nothing just now, and the others as they are done."""
        self._refresher.forget(self._plan)
        self.session.close()

    def renew_if_used(self) -> None:
        """Closes what is not used; for the refresher, which comes for this as for renewals."""
        self._workers.do_or_here(self._close_unused)

    def _close_unused(self) -> None:
        used, self._used = self._used, False
        with no_fork():
            left = self.adapter.close_unused(_IDLE)
        if left or used:
            self._look_later()

    def _look_later(self) -> None:
        with self._lock:
            if self._plan is None or not self._plan.live:
                due = SYSTEM_CLOCK.elapsed() + _LOOK_EVERY
                # It runs out of time never, and so every renewal goes before it.
                self._plan = self._refresher.follow(self, due, float("inf"))


def _most_at_once() -> int:
    try:
        with no_fork():
            import resource
    except ImportError:  # Windows has no such limit
        return _MOST_AT_ONCE
    may_open, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if may_open == resource.RLIM_INFINITY:
        return _MOST_AT_ONCE
    return max(1, min(_MOST_AT_ONCE, may_open // _SHARE))


_POOLS: Shared[Pool] = Shared()


def take_pool(verify: bool | str | None, proxies: Hidden) -> Share[Pool]:
    """Gives a share in the connections of these settings.

    Args:
        verify: As for :class:`.connection.Connection`.
        proxies: The proxies, hidden.
    """
    settings = Hidden(repr((verify, sorted(proxies.cell_contents.items()))))
    return _POOLS.take(settings, Pool)
