"""A program whose signal handler comes in between, some thousand times, whatever it is doing.

Its arguments: what the handler does (``raise``, ``close`` a registry, or a method of the manager),
and for how many seconds. It says nothing where all works afterwards, and all is free.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import gc
import itertools
import logging
import random
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable
from types import FrameType
from typing import Any

from support import KEY, SCOPE
from waiting import until

from tokenmgr import (
    AccessToken,
    AccessTokenManager,
    ConfigurationError,
    RefreshPolicy,
    TokenManagerError,
    TokenRegistry,
)
from tokenmgr._runtime import forks
from tokenmgr.entra.grants.client_credentials import ClientCredentialsSource
from tokenmgr.events import Event

# The handler calls from the middle of an event loop too, and is told so.
warnings.filterwarnings("ignore", message=".*blocks the event loop")

# How soon and how often it comes, in seconds: as long as a call takes.
SOONEST, LATEST = 0.00001, 0.0008
#: Whoever waits for what does not come does so for a minute.
LONG = 10.0


class TimeLimit(Exception):  # noqa: N818 - as theirs
    """As a time limit of Celery's, which is no BaseException either."""


class Source:
    def __init__(self) -> None:
        self._numbers = itertools.count(1)

    def fetch_token(self, *, claims: str | None = None) -> AccessToken:
        return AccessToken(f"token-{next(self._numbers)}", time.time() + 3600)


class Handler:
    """What comes in between, at most once each time that it is armed."""

    def __init__(self, target: Any, does: str) -> None:
        self.target, self._does = target, does
        self.raises = does == "raise"
        self.armed = False
        self.hits = 0
        self.slowest = 0.0
        signal.signal(signal.SIGALRM, self._handle)

    def arm(self) -> None:
        self.armed = True
        signal.setitimer(signal.ITIMER_REAL, random.uniform(SOONEST, LATEST))

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if not self.armed:
            return
        self.armed = False
        self.hits += 1
        if self.raises:
            raise TimeLimit
        began = time.monotonic()
        with contextlib.suppress(TokenManagerError):  # none is in hand, and it cannot wait here
            getattr(self.target, self._does)()
        self.slowest = max(self.slowest, time.monotonic() - began)


def one_round(calls: list[Callable[[], object]], handler: Handler) -> None:
    handler.arm()
    while handler.armed:
        with contextlib.nullcontext() if handler.raises else contextlib.suppress(TokenManagerError):
            random.choice(calls)()


def run(manager: AccessTokenManager, handler: Handler, seconds: float) -> None:
    def invalidate() -> object:
        manager.invalidate(manager.get_access_token())
        return manager.get_access_token()

    def awaited() -> object:
        return loop.run_until_complete(manager.arefresh_access_token())

    loop = asyncio.new_event_loop()
    calls: list[Callable[[], object]] = [manager.refresh_access_token, invalidate, manager.status]
    calls += [awaited] if not handler.raises else []  # loops do not survive all of that
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(TimeLimit):
            one_round(calls, handler)
    loop.close()


def run_with_registries(handler: Handler, seconds: float) -> None:
    """The handler closes a registry in the middle of its calls."""
    fetch = Source().fetch_token
    ClientCredentialsSource.fetch_token = lambda *args, **kwargs: fetch()  # type: ignore[method-assign]
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        tokens = TokenRegistry(client_id="c", credential="s", authority=KEY.authority)
        graph, handler.target = tokens.manager(SCOPE), tokens
        calls = [
            graph.refresh_access_token,
            tokens.status,
            lambda tokens=tokens: tokens.get_access_token(f"api://{random.random()}/.default"),
            lambda tokens=tokens: tokens.import_cache("{}"),
        ]
        one_round(calls, handler)
        tokens.close()
        for call in (graph.get_access_token, tokens.export_cache):
            try:
                call()
            except ConfigurationError:
                continue
            raise AssertionError("it is open")


def library_threads() -> list[str]:
    return [each.name for each in threading.enumerate() if "tokenmgr" in each.name]


def check(manager: AccessTokenManager, told: list[Event]) -> None:
    cell = manager._cell
    began = time.monotonic()
    manager.refresh_access_token()
    manager.invalidate(manager.get_access_token())
    assert manager.get_access_token().startswith("token-")
    assert asyncio.run(manager.arefresh_access_token()).startswith("token-")
    assert time.monotonic() - began < LONG, "a call waits for something"
    until(lambda: cell._flight is None, "the end of what was asked for meanwhile")
    for each in (cell, cell.context.workers, cell.context.refresher, manager):
        assert each._lock.acquire(timeout=LONG), f"{each} is locked"
        each._lock.release()
    assert not forks._mine.reads
    assert not forks._lock._readers
    told.clear()
    manager.refresh_access_token()
    until(lambda: told, "the events")
    status = manager.status()
    assert status.last_error is None, status
    manager.close()
    # What another thread is just collecting is not collected by a call.
    until(lambda: (gc.collect(), not library_threads())[1], "the end of all threads")


def main() -> None:
    faulthandler.dump_traceback_later(25, exit=True)
    logging.getLogger("tokenmgr").addHandler(logging.StreamHandler(sys.stdout))
    told: list[Event] = []
    manager = AccessTokenManager(
        Source(), KEY, policy=RefreshPolicy(backoff_base=0), on_event=told.append
    )
    handler = Handler(manager, sys.argv[1])
    if sys.argv[1] == "close":
        run_with_registries(handler, float(sys.argv[2]))
    else:
        run(manager, handler, float(sys.argv[2]))
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    assert handler.hits > 50, handler.hits
    assert handler.slowest < LONG, handler.slowest
    check(manager, told)


if __name__ == "__main__":
    main()
