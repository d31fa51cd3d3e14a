"""Forks by what the library calls: a source, a store, a hook, a log handler."""

from __future__ import annotations

import logging
import textwrap
from typing import Any

import programs
import pytest
from fork_marks import needs_fork, unwarned_forks
from forking import in_child
from support import FakeClock, FakeSource, RecordingStore, make_manager, settle
from waiting import until

from tokenmgr.events import Event

pytestmark = [needs_fork, unwarned_forks]


@pytest.mark.parametrize("where", ["source", "store", "hook", "log handler"])
def test_a_fork_by_what_is_called_leaves_a_child_that_works(
    clock: FakeClock, source: FakeSource, where: str
) -> None:
    told: list[Event] = []
    outcomes: list[Any] = []

    def work() -> list[str]:
        told.clear()
        got = [
            manager.get_access_token(timeout=15)[:6],
            manager.refresh_access_token(timeout=15)[:6],
            manager.status().state,
        ]
        until(lambda: told, "the child's events")
        manager.close()
        return got

    def fork(here: str) -> None:
        if here == where and not outcomes:
            outcomes.append(None)  # once, and not in the child
            outcomes.append(in_child(work))

    def hook(event: Event) -> None:
        told.append(event)
        fork("hook")

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            fork("log handler")

    store = RecordingStore(clock) if where == "store" else None
    if store is not None:
        store.before = lambda operation: fork("store")
    source.during = lambda: fork("source")
    manager = make_manager(clock, source, store=store, on_event=hook)
    logger, handler = logging.getLogger("tokenmgr"), Handler()
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        assert manager.get_access_token().startswith("token-")
        until(lambda: len(outcomes) == 2, "the fork")
    finally:
        logger.setLevel(logging.NOTSET)
        logger.removeHandler(handler)
    assert outcomes == [None, ["token-", "token-", "fresh"]]
    settle(manager)
    assert manager.refresh_access_token().startswith("token-")


CONTINUED = """
    import os, sys, time
    from tokenmgr import AccessToken, AccessTokenManager
    from support import KEY, FakeClock, RecordingStore, make_manager
    from waiting import until

    where, forked = sys.argv[1], []

    def fork(here):
        if here == where and not forked:
            forked.append(os.fork())

    class Source:
        def fetch_token(self, *, claims=None):
            fork("source")
            return AccessToken("token", clock.wall() + 3600)

    clock = FakeClock()
    store = RecordingStore(clock)
    store.before = lambda operation: fork("store") if where == "store" else fork(away())
    away = lambda: "probe" if len(store.asked) > 3 else ""
    if where == "probe":
        store.error = OSError()
    manager = make_manager(clock, Source(), store=store, on_event=lambda event: fork("hook"))
    manager.get_access_token()
    clock.advance(30)
    if where == "probe":
        store.error = None
        manager.refresh_access_token()
    until(lambda: forked)
    ended = os.waitstatus_to_exitcode(os.waitpid(forked[0], 0)[1])
    manager.refresh_access_token()
    manager.close()
    print("the child ended with", ended)
"""


@pytest.mark.parametrize("where", ["source", "store", "hook", "probe"])
def test_a_child_of_what_is_called_that_goes_on_where_its_parent_was_ends_well(where: str) -> None:
    done = programs.run(
        *("-W", "ignore::DeprecationWarning", "-c", textwrap.dedent(CONTINUED), where),
        **programs.with_tests(),
    )
    assert (done.returncode, done.stdout) == (0, "the child ended with 0\n"), done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr
