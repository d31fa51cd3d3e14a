"""Things that a process has once for each address, and who has them closed."""

from __future__ import annotations

import gc
import weakref

import pytest
from fork_marks import needs_fork, unwarned_forks
from forking import held, in_child
from support import in_threads

from tokenmgr._runtime.secrecy import Hidden
from tokenmgr._runtime.shared import Share, Shared


class Thing:
    def __init__(self) -> None:
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def things() -> Shared[Thing]:
    return Shared()


def take(things: Shared[Thing], address: str = "one") -> Share[Thing]:
    return things.take(Hidden(address), Thing)


def test_the_same_address_is_the_same_thing_and_another_one_is_not(things):
    one, same, other = take(things), take(things), take(things, "other")
    assert one.thing is same.thing
    assert one.thing is not other.thing


def test_the_last_one_who_leaves_closes_it_once(things):
    one, other = take(things), take(things)
    thing = one.thing
    one.end()
    one.end()
    assert thing.closed == 0
    other.end()
    other.end()
    assert thing.closed == 1


def test_shares_that_are_dropped_take_their_thing_along(things):
    one, other = take(things), take(things)
    gone = weakref.ref(one.thing)
    del other
    gc.collect()
    assert take(things).thing is one.thing
    del one
    gc.collect()
    assert gone() is None


def test_a_share_that_was_dropped_keeps_nobody_from_closing_it(things):
    one, dropped = take(things), take(things)
    del dropped
    gc.collect()
    one.end()
    assert one.thing.closed == 1


def test_nothing_remains_of_what_nobody_has(things):
    for number in range(100):
        take(things, f"address {number}").end()
    gc.collect()
    assert len(things._things) == 0


def test_an_address_is_shown_nowhere(things):
    share = take(things, "redis://app:hunter2@host")
    for shown in (share, vars(share), vars(things), vars(share._common), *things._things.items()):
        assert "hunter2" not in repr(shown)


@pytest.mark.usefixtures("threads_take_turns")
def test_who_takes_and_ends_at_once_has_one_thing_as_long_as_anybody_has(things):
    keeper = take(things)

    def come_and_go() -> set[int]:
        found = set()
        for _ in range(200):
            share = take(things)
            found.add(id(share.thing))
            share.end()
        return found

    assert in_threads(8, come_and_go) == [{id(keeper.thing)}] * 8
    assert keeper.thing.closed == 0
    keeper.end()
    assert keeper.thing.closed == 1


@needs_fork
@unwarned_forks
def test_a_child_takes_although_another_thread_of_its_parent_was_taking(things):
    share = take(things)
    with held(things._lock):
        assert in_child(lambda: take(things).thing is share.thing)
