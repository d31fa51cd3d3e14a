"""What a forked child has of its parent's tokens, and what it never has: its locks and threads."""

from __future__ import annotations

import asyncio
import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import urllib3
from forking import Child, held, in_child, until
from support import EXACT, KEY, SCOPE, FakeClock, FakeSource, HandRefresher, make_manager, settle

from tokenmgr import AccessToken, AccessTokenManager, RefreshPolicy, TokenRegistry
from tokenmgr._runtime import forks
from tokenmgr._runtime.forks import fork_allowed, make_new_in_child, no_fork
from tokenmgr._runtime.refresher import Refresher
from tokenmgr._runtime.workers import FETCHERS, Workers
from tokenmgr.emulator import EntraEmulator

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork"),
    # Python 3.12 warns of what is proven here to be safe.
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
]

ORDERS = "api://orders/.default"


def alone(source: FakeSource) -> None:
    """Opens the source's gate in a child, where a thread of the parent may hold the old one."""
    source.gate = threading.Event()
    source.gate.set()


@pytest.fixture
def waiting() -> Iterator[Callable[..., list[str]]]:
    """Starts threads that call; gives the list that their tokens come to."""
    threads: list[threading.Thread] = []

    def start(count: int, call: Callable[[], str]) -> list[str]:
        tokens: list[str] = []
        for _ in range(count):
            threads.append(threading.Thread(target=lambda: tokens.append(call())))
            threads[-1].start()
        return tokens

    yield start
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()


# A fork and what must not be forked


def test_a_fork_waits_for_what_must_not_be_forked(waiting: Callable[..., list[str]]) -> None:
    inside, go_on = threading.Event(), threading.Event()

    def work() -> str:
        with no_fork():
            inside.set()
            go_on.wait(30)
            order.append("work")
        return ""

    order: list[str] = []
    waiting(2, work)
    assert inside.wait(10)
    until(lambda: len(forks._truce._busy) == 2, "both threads' entry")
    waiting(1, lambda: str(in_child(lambda: order.append("fork") or order)))
    until(lambda: forks._truce._forking, "the fork's wait")
    go_on.set()
    until(lambda: not forks._truce._forking, "the fork")
    assert order == ["work", "work"]


def test_what_must_not_be_forked_waits_for_a_fork(waiting: Callable[..., list[str]]) -> None:
    class Slow:
        def before_fork(self) -> Callable[[], None]:
            waiting(1, work)
            threading.Event().wait(0.1)
            order.append("fork")
            return lambda: None

        def after_fork(self) -> None:
            pass

    def work() -> str:
        with no_fork():
            order.append("work")
        return ""

    order: list[str] = []
    slow = Slow()
    make_new_in_child(slow)
    assert in_child(lambda: order) == ["fork"]
    until(lambda: order == ["fork", "work"], "the work")


def test_a_fork_in_the_middle_of_what_must_not_be_forked_is_its_thread_s_own_affair() -> None:
    def work() -> int:
        with no_fork():
            return len(forks._truce._busy)

    with no_fork(), no_fork():
        assert in_child(work) == 1
        assert threading.get_ident() in forks._truce._busy
    assert threading.get_ident() not in forks._truce._busy


def test_a_fork_may_be_allowed_in_the_middle() -> None:
    allowed, go_on = threading.Event(), threading.Event()

    def work() -> None:
        with no_fork(), fork_allowed():
            allowed.set()
            go_on.wait(30)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        assert allowed.wait(10)
        assert in_child(lambda: len(forks._truce._busy)) == 0
    finally:
        go_on.set()
        thread.join()
    with fork_allowed():
        assert threading.get_ident() not in forks._truce._busy
    assert threading.get_ident() not in forks._truce._busy


def test_a_thread_that_is_stuck_stops_no_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forks, "_LONGEST_WAIT", 0.01)
    stuck, go_on = threading.Event(), threading.Event()

    def work() -> None:
        with no_fork():
            stuck.set()
            go_on.wait(30)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        assert stuck.wait(10)
        assert in_child(lambda: "it went ahead") == "it went ahead"
    finally:
        go_on.set()
        thread.join()


def test_a_fork_that_is_stuck_stops_nobody_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forks, "_LONGEST_WAIT", 0.01)
    forks._truce._forking.add(-1)  # who was interrupted before it could say that it is done
    with no_fork():
        assert not forks._truce._forking


def test_forks_of_two_threads_wait_for_each_other(waiting: Callable[..., list[str]]) -> None:
    class Noting:
        def before_fork(self) -> Callable[[], None]:
            order.append("before")
            if len(order) == 1:
                waiting(1, fork)
                until(lambda: begun == 2, "the other fork")
            return lambda: order.append("after")

        def after_fork(self) -> None:
            pass

    def fork() -> str:
        # Its hooks alone: those of other modules may have locks, and one fork wait for another.
        forks._before_fork()
        forks._after_fork_in_parent()
        return ""

    def begin_fork() -> None:
        nonlocal begun
        begun += 1
        begin()

    order: list[str] = []
    begun = 0
    begin = forks._truce.begin_fork
    forks._truce.begin_fork = begin_fork  # type: ignore[method-assign]
    noting = Noting()
    make_new_in_child(noting)
    try:
        fork()
        until(lambda: len(order) == 4, "both forks")
    finally:
        del forks._truce.begin_fork
    assert order == ["before", "after"] * 2


def test_who_is_interrupted_while_it_waits_leaves_nothing_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wait, interrupts = forks._truce._wait_until_gone, threading.get_ident()

    def wait_or_interrupt(others: set[int]) -> None:
        if threading.get_ident() == interrupts:
            raise KeyboardInterrupt
        wait(others)  # such as the emulator's thread

    with monkeypatch.context() as patch:
        patch.setattr(forks._truce, "_wait_until_gone", wait_or_interrupt)
        with pytest.raises(KeyboardInterrupt), no_fork():
            pytest.fail("it was not interrupted")
    assert interrupts not in forks._truce._busy
    with pytest.raises(KeyboardInterrupt), no_fork(), fork_allowed():
        monkeypatch.setattr(forks._truce, "_wait_until_gone", wait_or_interrupt)
    assert interrupts not in forks._truce._busy
    assert not forks._mine.depth


def test_what_was_put_away_is_brought_back_although_some_of_it_fails() -> None:
    class Failing:
        def __init__(self, error: BaseException | None) -> None:
            self._error = error

        def before_fork(self) -> Callable[[], None]:
            return self._after

        def _after(self) -> None:
            done.append(None)
            if self._error is not None:
                raise self._error

        def after_fork(self) -> None:
            pass

    done: list[None] = []
    failing = [Failing(error) for error in (ValueError(), None, OSError())]
    for each in failing:
        make_new_in_child(each)
    assert in_child(lambda: True)
    assert len(done) == 3
    assert not forks._truce._forking


def test_a_module_that_is_imported_in_the_middle_of_a_fork_does_no_harm() -> None:
    forks._after_fork_in_parent()
    with no_fork():
        assert in_child(lambda: True)


def test_a_handshake_must_not_be_forked_and_connecting_may(
    entra: EntraEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, int]] = []

    def noting(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*args: Any, **kwargs: Any) -> Any:
            seen.append((name, forks._mine.depth))
            return call(*args, **kwargs)

        return noted

    for module, name in (
        (urllib3.util.connection, "create_connection"),
        (urllib3.connection, "create_urllib3_context"),
        (urllib3.connection, "ssl_wrap_socket"),
    ):
        monkeypatch.setattr(module, name, noting(name, getattr(module, name)))
    with entra.registry() as tokens:
        tokens.get_access_token(SCOPE)
    assert seen == [
        ("create_connection", 0),
        ("create_urllib3_context", 1),
        ("ssl_wrap_socket", 1),
    ]


# In the middle of something

CALLS = {
    "led by a caller": lambda manager: manager.get_access_token(),
    "led by a worker": lambda manager: manager.get_access_token(timeout=30),
    "awaited by a coroutine": lambda manager: asyncio.run(manager.aget_access_token()),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_a_fork_in_the_middle_of_a_flight_leaves_each_process_its_own(
    manager: AccessTokenManager,
    source: FakeSource,
    waiting: Callable[..., list[str]],
    call: Callable[[AccessTokenManager], str],
) -> None:
    source.gate.clear()
    try:
        tokens = waiting(10, lambda: call(manager))
        assert source.entered.acquire(timeout=10)
        until(lambda: manager.status().waits == 10, "ten callers' waiting")

        def work() -> list[Any]:
            alone(source)
            return [call(manager), manager.get_access_token(), source.fetches]

        # Of its two fetches the first is its parent's, of which it saw the start alone.
        assert in_child(work) == ["token-2", "token-2", 2]
        assert tokens == []
    finally:
        source.gate.set()
    until(lambda: len(tokens) == 10, "ten callers' tokens")
    assert set(tokens) == {"token-1"}
    assert source.fetches == 1


def test_a_child_keeps_a_fresh_token_and_asks_nobody(
    manager: AccessTokenManager, source: FakeSource, waiting: Callable[..., list[str]]
) -> None:
    manager.get_access_token()
    source.entered.acquire()
    source.gate.clear()
    try:
        renewed = waiting(1, manager.refresh_access_token)
        assert source.entered.acquire(timeout=10)
        # The gate is closed in the child too: any fetch of its own would wait for ever.
        assert in_child(manager.get_access_token) == "token-1"
        assert in_child(lambda: asyncio.run(manager.aget_access_token())) == "token-1"
    finally:
        source.gate.set()
    until(lambda: renewed == ["token-2"], "the parent's renewal")
    assert manager.get_access_token() == "token-2"


def test_a_fork_in_the_middle_of_a_renewal_leaves_each_process_its_own(
    manager: AccessTokenManager, source: FakeSource, clock: FakeClock
) -> None:
    manager.get_access_token()
    source.entered.acquire()
    clock.advance(2880)
    source.gate.clear()
    try:
        assert manager.get_access_token() == "token-1"
        assert source.entered.acquire(timeout=10)

        def work() -> list[str]:
            alone(source)
            served = manager.get_access_token()
            settle(manager)
            return [served, manager.get_access_token()]

        assert in_child(work) == ["token-1", "token-3"]
        assert manager.get_access_token() == "token-1"
    finally:
        source.gate.set()
    settle(manager)
    assert manager.get_access_token() == "token-2"
    assert source.fetches == 2


def test_all_workers_of_the_parent_are_busy_and_the_childs_are_not(
    clock: FakeClock, source: FakeSource
) -> None:
    workers = Workers(1, name="tokenmgr-fetch")
    manager = AccessTokenManager(source, KEY, policy=EXACT, clock=clock, workers=workers)
    busy, done = threading.Event(), threading.Event()
    workers.do(lambda: (busy.set(), done.wait(30)))
    try:
        assert busy.wait(10)
        assert in_child(lambda: manager.get_access_token(timeout=10)) == "token-1"
    finally:
        done.set()


class _AtOnce:
    """A source without a lock that a fork could leave locked."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)

    def fetch_token(self, *, claims: str | None = None) -> AccessToken:
        return AccessToken(f"token-{next(self._numbers)}", time.time() + 3600)


def test_a_fork_at_any_moment_leaves_a_child_that_works() -> None:
    manager = AccessTokenManager(_AtOnce(), KEY, policy=EXACT)
    done = threading.Event()

    def hammer() -> None:
        while not done.is_set():
            manager.invalidate(manager.get_access_token(timeout=30))
            manager.refresh_access_token()

    threads = [threading.Thread(target=hammer) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(30):
            assert in_child(
                lambda: [
                    manager.get_access_token()[:6],
                    manager.refresh_access_token()[:6],
                    manager.get_access_token(min_ttl=60, timeout=10)[:6],
                    manager.close(),
                ]
            ) == ["token-", "token-", "token-", None]
    finally:
        done.set()
        for thread in threads:
            thread.join(30)
        manager.close()


# While another thread holds a lock

LOCKS: dict[str, Callable[[TokenRegistry], Any]] = {
    "the key's": lambda tokens: tokens.manager(SCOPE)._keeper._lock,
    "the registry's": lambda tokens: tokens._lock,
    "the refresher's": lambda tokens: tokens._refresher._changed,
    "the workers'": lambda tokens: FETCHERS._lock,
    "the hook's": lambda tokens: tokens._hook._lock,
    "the hook's worker's": lambda tokens: tokens._hook._worker._lock,
    "the breaker's": lambda tokens: tokens._breaker._lock,
    "the connection's": lambda tokens: tokens._connection._lock,
    "the transport's": lambda tokens: tokens._connection._transport._lock,
}


@pytest.mark.parametrize("lock", LOCKS.values(), ids=LOCKS.keys())
def test_a_lock_that_a_thread_of_the_parent_holds_does_not_stop_the_child(
    entra: EntraEmulator, lock: Callable[[TokenRegistry], Any]
) -> None:
    told: list[object] = []
    with entra.registry(on_event=told.append) as tokens:
        graph = tokens.manager(SCOPE)
        kept = graph.get_access_token()
        until(lambda: not tokens._hook._delivering, "the delivery of the events")

        def work() -> list[bool]:
            told.clear()
            served = [
                graph.get_access_token() == kept,
                tokens.manager(ORDERS).get_access_token(timeout=15) != kept,
                graph.refresh_access_token() != kept,
            ]
            until(lambda: told, "the child's events")
            served.append({status.state for status in tokens.status()} == {"fresh"})
            tokens.close()
            return served

        with held(lock(tokens)):
            assert in_child(work) == [True] * 4
        assert graph.get_access_token() == kept
        assert tokens.manager(ORDERS).get_access_token()
    assert entra.count(scope=SCOPE) == 2
    assert entra.count(scope=ORDERS) == 2


# The child's own life


def _next_token(manager: AccessTokenManager, old: str) -> str:
    """Waits, without a call, for the token that is renewed behind the old one."""
    until(lambda: manager._keeper.held.secret != old, "the renewal")
    return manager._keeper.held.secret


def _follows() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name == "tokenmgr-refresher"]


def test_renewal_goes_on_in_the_background_of_both() -> None:
    often = RefreshPolicy(margin=0.9)
    with EntraEmulator(token_lifetime=4) as entra, entra.registry(policy=often) as tokens:
        graph = tokens.manager(SCOPE)
        first = graph.get_access_token()
        assert len(_follows()) == 1

        def renewed_behind() -> None:
            old = graph.get_access_token()
            new = _next_token(graph, old)
            graph.get_access_token()  # it is in use, and no call comes from here on
            until(_follows, "a thread that follows it")
            _next_token(graph, new)

        def work() -> list[bool]:
            none_yet = not _follows()
            until(lambda: graph.status().state == "aging", "aging")
            at_once = graph.get_access_token() == first
            renewed_behind()
            return [none_yet, at_once]

        child = Child(work)
        renewed_behind()
        assert child.outcome() == [True, True]
        renewed_behind()
        assert entra.count() >= 7


def test_what_was_planned_for_other_keys_is_renewed_by_the_childs_thread(clock: FakeClock) -> None:
    refresher = Refresher(clock)
    one, other = FakeSource(clock), FakeSource(clock)
    first = make_manager(clock, one, refresher=refresher)
    second = make_manager(clock, other, refresher=refresher)
    first.get_access_token()
    second.get_access_token()

    def work() -> str:
        clock.advance(2880)
        first.get_access_token()  # with it the thread starts, which then looks after both
        until(lambda: second._keeper.held.secret != "token-1", "the renewal")
        return second._keeper.held.secret

    try:
        assert in_child(work) == "token-2"
    finally:
        first.close()
        second.close()


class _Stopping(FakeClock):
    """Stops the thread ``stepper`` at its second look at the clock: as it takes up a renewal."""

    def __init__(self) -> None:
        super().__init__()
        self.looks = 0
        self.stopped, self.go_on = threading.Event(), threading.Event()

    def elapsed(self) -> float:
        if threading.current_thread().name == "stepper":
            self.looks += 1
            if self.looks == 2:
                self.stopped.set()
                self.go_on.wait(30)
        return super().elapsed()


def test_a_renewal_that_the_parent_was_about_to_start_is_not_lost_in_the_child() -> None:
    clock = _Stopping()
    source, refresher = FakeSource(clock), HandRefresher(clock)
    manager = make_manager(clock, source, refresher=refresher)
    manager.get_access_token()
    clock.advance(2880)
    stepper = threading.Thread(target=refresher.run_due, name="stepper")
    stepper.start()
    assert clock.stopped.wait(10)

    def work() -> str:
        refresher.run_due()
        settle(manager)
        return manager.get_access_token()

    try:
        assert in_child(work) == "token-2"
    finally:
        clock.go_on.set()
        stepper.join(30)
    settle(manager)
    assert manager.get_access_token() == "token-2"


def test_the_child_knows_the_metadata_and_speaks_over_a_connection_of_its_own(
    entra: EntraEmulator,
) -> None:
    with entra.registry() as tokens:
        graph = tokens.manager(SCOPE)
        graph.get_access_token()
        session = tokens._connection._transport._session

        def work() -> bool:
            graph.refresh_access_token()
            return tokens._connection._transport._session is not session

        assert in_child(work) is True
        graph.refresh_access_token()  # the parent's connection is as it was
        assert tokens._connection._transport._session is session
    assert entra.count() == 3
    assert [request.kind for request in entra.requests].count("discovery") == 1


def test_a_child_of_a_child_works_too(manager: AccessTokenManager, source: FakeSource) -> None:
    manager.get_access_token()

    def work() -> list[str]:
        child = in_child(manager.refresh_access_token)
        return [child, manager.refresh_access_token()]

    assert in_child(work) == ["token-2", "token-2"]
    assert manager.refresh_access_token() == "token-2"


def test_what_a_child_closes_stays_open_in_its_parent(entra: EntraEmulator) -> None:
    with entra.registry() as tokens:
        kept = tokens.get_access_token(SCOPE)
        assert in_child(tokens.close) is None
        assert tokens.get_access_token(SCOPE) == kept
        assert tokens.get_access_token(ORDERS)


# What must not be carried over


class _Carried:
    """Notes what is done with it; one of the steps may fail."""

    def __init__(self, fails_when: str = "") -> None:
        self.steps: list[str] = []
        self.fails_when = fails_when
        make_new_in_child(self)

    def before_fork(self) -> Callable[[], None]:
        self._step("put away")
        return lambda: self._step("taken out in the parent")

    def after_fork(self) -> None:
        self._step("forgotten in the child")

    def _step(self, what: str) -> None:
        self.steps.append(what)
        if what == self.fails_when:
            raise RuntimeError(what)


BEFORE, IN_PARENT, IN_CHILD = "put away", "taken out in the parent", "forgotten in the child"


def test_what_must_not_be_carried_over_a_fork_is_put_away_before_it() -> None:
    carried = _Carried()

    def work() -> list[str]:
        grandchild = in_child(lambda: carried.steps)
        return [*carried.steps, "grandchild", *grandchild]

    child = in_child(work)
    first = [BEFORE, IN_CHILD, BEFORE]
    assert child == [*first, IN_PARENT, "grandchild", *first, IN_CHILD]
    assert carried.steps == [BEFORE, IN_PARENT]


def test_what_fails_before_a_fork_or_after_stops_neither_it_nor_the_others() -> None:
    failing = [_Carried(fails_when=step) for step in [BEFORE, IN_PARENT] * 4]
    good = _Carried()
    assert in_child(lambda: good.steps) == [BEFORE, IN_CHILD]
    assert good.steps == [BEFORE, IN_PARENT]
    assert [each.steps for each in failing] == [[BEFORE], [BEFORE, IN_PARENT]] * 4
