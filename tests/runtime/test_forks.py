"""What a forked child has of its parent's tokens, and what it never has: its locks and threads."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator
from types import FrameType
from typing import Any

import pytest
import urllib3
from fork_marks import needs_fork, unwarned_forks
from forking import Child, held, in_child
from support import (
    EXACT,
    KEY,
    SCOPE,
    FakeClock,
    FakeSource,
    HandRefresher,
    in_threads,
    make_manager,
    settle,
)
from waiting import until

from tokenmgr import AccessToken, AccessTokenManager, RefreshPolicy, TokenRegistry
from tokenmgr._runtime import forks
from tokenmgr._runtime import refresher as refresher_module
from tokenmgr._runtime.forks import fork_allowed, no_fork, renew_in_child
from tokenmgr._runtime.refresher import Refresher
from tokenmgr._runtime.workers import Workers
from tokenmgr.emulator import EntraEmulator
from tokenmgr.events import Hook

pytestmark = [needs_fork, unwarned_forks]

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


class Carried:
    """What has something to put away before a fork, as a connection has."""

    def __init__(self, before: Callable[[], Callable[[], None]]) -> None:
        self._put_away = before
        renew_in_child(self._start_anew, before=self._before)

    def _start_anew(self) -> None:
        pass

    def _before(self) -> Callable[[], None]:
        return self._put_away()


@pytest.fixture
def waiters(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The threads that have begun to wait, for a fork or for what keeps one off."""
    seen: list[int] = []
    wait = forks._wait_until

    def noted(condition: Callable[[], bool], *longest: float) -> bool:
        if not longest:  # else it is for threads that are about to end
            seen.append(threading.get_ident())
        return wait(condition, *longest)

    monkeypatch.setattr(forks, "_wait_until", noted)
    return seen


@contextlib.contextmanager
def stuck() -> Iterator[None]:
    """Another thread wants no fork for as long as the block runs."""
    inside, go_on = threading.Event(), threading.Event()
    stayed: list[bool] = []

    def work() -> None:
        with no_fork():
            inside.set()
            stayed.append(go_on.wait(20))

    thread = threading.Thread(target=work)
    thread.start()
    try:
        assert inside.wait(10)
        yield
    finally:
        go_on.set()
        thread.join()
    assert stayed == [True], "it was waited for"


def hooks_of_a_fork() -> None:
    """A fork as this module sees it; those of other modules may have locks, and wait."""
    forks._before_fork()
    forks._after_fork_in_parent()


def nothing_is_left() -> bool:
    """Whether this thread neither keeps forks off nor forks, and others can do both."""

    def both() -> bool:
        with no_fork():
            pass
        hooks_of_a_fork()
        return True

    me, left = threading.get_ident(), forks._lock
    mine = forks._mine.reads or me in left._readers or left._writer == me
    return not mine and forks._mine.afterwards is None and in_threads(1, both) == [True]


# A fork and what must not be forked: a fork is the writer, and that the readers


def test_readers_do_not_wait_for_each_other() -> None:
    together = threading.Barrier(8)

    def work() -> str:
        with no_fork():
            together.wait(30)
        return "together"

    assert in_threads(8, work) == ["together"] * 8
    assert not forks._lock._readers


def test_a_fork_waits_for_what_must_not_be_forked(waiting: Callable[..., list[str]]) -> None:
    go_on = threading.Event()

    def work() -> str:
        with no_fork():
            go_on.wait(30)
            order.append("work")
        return ""

    order: list[str] = []
    waiting(2, work)
    until(lambda: len(forks._lock._readers) == 2, "both threads' entry")
    waiting(1, lambda: str(in_child(lambda: order.append("fork") or order)))
    until(lambda: forks._lock._writer, "the fork's wait")
    go_on.set()
    until(lambda: not forks._lock._writer, "the fork")
    assert order == ["work", "work"]


def test_what_must_not_be_forked_waits_for_a_fork(
    waiting: Callable[..., list[str]], waiters: list[int]
) -> None:
    def wait_for_work() -> Callable[[], None]:
        waiting(1, work)
        until(lambda: set(waiters) - {threading.get_ident()}, "the work's wait")
        order.append("fork")
        return lambda: None

    def work() -> str:
        with no_fork():
            order.append("work")
        return ""

    order: list[str] = []
    carried = Carried(wait_for_work)
    assert in_child(lambda: order) == ["fork"]
    until(lambda: order == ["fork", "work"], "the work")
    del carried


def test_a_fork_that_waits_goes_before_whoever_comes_after_it(
    waiting: Callable[..., list[str]], waiters: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forks, "_LONGEST_WAIT", 25.0)  # none is waited for until it is too long
    order: list[str] = []

    def work() -> str:
        with no_fork():
            order.append("work")
        return ""

    def fork() -> str:
        hooks_of_a_fork()
        order.append("fork")
        return ""

    with stuck():
        waiting(1, fork)
        until(lambda: forks._lock._writer and len(waiters) == 1, "the fork's wait")
        waiting(4, work)
        until(lambda: len(waiters) == 5, "the work's wait")
        assert order == []
    until(lambda: len(order) == 5, "the work")
    assert sorted(order) == ["fork", *["work"] * 4]


def test_a_fork_in_the_middle_of_what_must_not_be_forked_is_its_thread_s_own_affair() -> None:
    def work() -> int:
        with no_fork():
            return len(forks._lock._readers)

    with no_fork(), no_fork():
        assert in_child(work) == 1
        assert threading.get_ident() in forks._lock._readers
    assert threading.get_ident() not in forks._lock._readers


def test_a_child_waits_for_no_thread_of_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    def work() -> None:
        with no_fork():
            pass

    def in_a_child() -> list[object]:
        forks._LONGEST_WAIT = 1e6
        return [*in_threads(2, work), in_child(lambda: len(forks._lock._readers))]

    monkeypatch.setattr(forks, "_LONGEST_WAIT", 0.01)
    with stuck():
        assert in_child(in_a_child) == [None, None, 0]


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
        assert in_child(lambda: len(forks._lock._readers)) == 0
    finally:
        go_on.set()
        thread.join()
    with fork_allowed():
        assert threading.get_ident() not in forks._lock._readers
    assert nothing_is_left()


def test_a_reader_that_is_stuck_is_waited_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forks, "_LONGEST_WAIT", 0.01)
    with stuck():
        assert in_child(lambda: "it went ahead") == "it went ahead"
        monkeypatch.setattr(forks, "_LONGEST_WAIT", 1e6)
        assert in_child(lambda: "and so does the next") == "and so does the next"
    assert nothing_is_left()


def test_a_fork_that_is_stuck_is_waited_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forks, "_LONGEST_WAIT", 0.01)
    forks._lock._writer = -1  # who was interrupted before it could say that it is done
    with no_fork():
        assert not forks._lock._writer
    monkeypatch.setattr(forks, "_LONGEST_WAIT", 1e6)
    with no_fork():
        pass
    assert nothing_is_left()


def test_forks_of_two_threads_wait_for_each_other(waiting: Callable[..., list[str]]) -> None:
    def put_away() -> Callable[[], None]:
        order.append("before")
        if len(order) == 1:
            waiting(1, fork)
            until(lambda: begun == 2, "the other fork")
        return lambda: order.append("after")

    def fork() -> str:
        hooks_of_a_fork()
        return ""

    def begin_fork() -> None:
        nonlocal begun
        begun += 1
        begin()

    order: list[str] = []
    begun = 0
    begin = forks._lock.write
    forks._lock.write = begin_fork  # type: ignore[method-assign]
    carried = Carried(put_away)
    try:
        fork()
        until(lambda: len(order) == 4, "both forks")
    finally:
        del forks._lock.write
    assert order == ["before", "after"] * 2
    del carried


def nested() -> None:
    with no_fork(), fork_allowed(), no_fork():
        pass


def at_line(
    number: int,
    work: Callable[[], None],
    come_between: Callable[[], None],
    within: Collection[str] = (),
    *,
    of: str = forks.__file__,
) -> bool:
    """Does work, and lets something come between at a line of it; says whether there is that line.

    Args:
        number: Which line of those that are run.
        work: The work.
        come_between: What comes between, as a signal's handler does.
        within: The functions of the module whose lines count; all when there is none.
        of: The module's file.
    """
    lines, reached = itertools.count(), False

    def trace(frame: FrameType, event: str, _: object) -> Callable[..., Any] | None:
        nonlocal reached
        code = frame.f_code
        if code.co_filename != of or (within and code.co_name not in within):
            return None
        if event == "line" and not reached and next(lines) == number:
            reached = True
            come_between()
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return reached


def interrupt() -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("work", [nested, hooks_of_a_fork])
@pytest.mark.parametrize("handler", [nested, hooks_of_a_fork])
def test_a_signal_s_handler_may_come_back_at_any_line(
    work: Callable[[], None], handler: Callable[[], None]
) -> None:
    for number in itertools.count():
        reached = at_line(number, work, handler)
        assert nothing_is_left(), f"after a handler at line {number}"
        if not reached:
            assert number > 10
            return


@pytest.mark.parametrize("work", [nested, hooks_of_a_fork])
def test_who_is_interrupted_while_it_waits_leaves_nothing_locked(
    work: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forks, "_LONGEST_WAIT", 0.002)
    for number in itertools.count():
        forks._lock._writer = -1 if work is nested else 0
        forks._lock._readers = {-1}
        reached = True
        with contextlib.suppress(KeyboardInterrupt):
            try:
                reached = at_line(number, work, interrupt, within=("read", "write", "_wait_until"))
            finally:
                forks._after_fork_in_parent()
                if forks._lock._writer == -1:
                    forks._lock._writer = 0
                forks._lock._readers.discard(-1)
        assert nothing_is_left(), f"after an interruption at line {number}"
        if not reached:
            assert number > 10
            return


def test_who_is_interrupted_as_it_leaves_keeps_off_one_fork_at_most(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(KeyboardInterrupt):
        at_line(0, nested, interrupt, within=("stop_reading",))
    assert not forks._mine.reads
    monkeypatch.setattr(forks, "_LONGEST_WAIT", 0.002)
    assert in_threads(1, hooks_of_a_fork) == [None]
    monkeypatch.setattr(forks, "_LONGEST_WAIT", 1e6)
    assert nothing_is_left()


def test_what_was_put_away_is_brought_back_although_some_of_it_fails() -> None:
    done: list[None] = []

    def fail(error: Exception | None) -> None:
        done.append(None)
        if error is not None:
            raise error

    carried = [
        Carried(lambda error=error: lambda: fail(error))
        for error in (ValueError(), None, OSError())
    ]
    assert in_child(lambda: True)
    assert len(done) == len(carried)
    assert not forks._lock._writer


def test_what_is_gone_is_made_anew_no_more() -> None:
    before = len(forks._renewals), len(forks._preparations)
    carried = Carried(lambda: lambda: None)
    assert (len(forks._renewals), len(forks._preparations)) == (before[0] + 1, before[1] + 1)
    del carried
    assert (len(forks._renewals), len(forks._preparations)) == before


def test_a_module_that_is_imported_in_the_middle_of_a_fork_does_no_harm() -> None:
    forks._after_fork_in_parent()
    with no_fork():
        assert in_child(lambda: True)


def test_a_handshake_must_not_be_forked_and_connecting_may(
    entra: EntraEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    import msal  # noqa: F401 - the first fetch of a process connects by itself

    seen: list[tuple[str, int]] = []

    def noting(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*args: Any, **kwargs: Any) -> Any:
            seen.append((name, forks._mine.reads))
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
        ("create_connection", False),
        ("create_urllib3_context", True),
        ("ssl_wrap_socket", True),
    ]


# In the middle of something

CALLS = {
    "waited for by a thread": lambda manager: manager.get_access_token(),
    "waited for by a thread in haste": lambda manager: manager.get_access_token(timeout=30),
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
    manager = make_manager(clock, source, workers=workers)
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


def hook(tokens: TokenRegistry) -> Hook:
    found = tokens._own.app.context.emit.__self__  # type: ignore[attr-defined]
    assert isinstance(found, Hook)
    return found


LOCKS: dict[str, Callable[[TokenRegistry], Any]] = {
    "the key's": lambda tokens: tokens.manager(SCOPE)._cell._lock,
    "the manager's": lambda tokens: tokens.manager(SCOPE)._lock,
    "the registry's": lambda tokens: tokens._own.app.lock,
    "the managers'": lambda tokens: tokens._own.members._kept.lock,
    "the refresher's": lambda tokens: tokens._own.app.context.refresher._lock,
    "the workers'": lambda tokens: tokens._own.app.context.workers._lock,
    "the hook's": lambda tokens: hook(tokens)._lock,
    "the hook's worker's": lambda tokens: hook(tokens)._worker._lock,
    "the breaker's": lambda tokens: tokens._own.app.client._breaker._lock,
    "the connection's": lambda tokens: tokens._own.app.connection._lock,
    "the transport's": lambda tokens: tokens._own.app.connection._transport._lock,
    "that of what was imported": lambda tokens: tokens._own.imported._lock,
}


@pytest.mark.parametrize("lock", LOCKS.values(), ids=LOCKS.keys())
def test_a_lock_that_a_thread_of_the_parent_holds_does_not_stop_the_child(
    entra: EntraEmulator, lock: Callable[[TokenRegistry], Any]
) -> None:
    told: list[object] = []
    with entra.registry(on_event=told.append) as tokens:
        graph = tokens.manager(SCOPE)
        kept = graph.get_access_token()
        until(lambda: not hook(tokens)._delivering, "the delivery of the events")

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


class Counted:
    """What counts how often it was made anew, and fails then where it is to."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.times = 0
        renew_in_child(self._start_anew, before=self._before)

    def _start_anew(self) -> None:
        self.times += 1
        if self.times > 1 and self.error is not None:
            raise self.error

    def _before(self) -> Callable[[], None]:
        self.times += 10
        return lambda: None


def test_what_is_collected_in_the_middle_of_a_fork_keeps_nothing_else_from_being_made_anew() -> (
    None
):
    stay = [Counted() for _ in range(50)]
    go = [Counted() for _ in range(500)]

    def collect_one_more(phase: str, info: dict[str, int]) -> None:
        if phase == "start" and go:
            go.pop()

    threshold = gc.get_threshold()
    gc.callbacks.append(collect_one_more)
    gc.set_threshold(1)  # before Python 3.12, it collects in the middle of whatever allocates
    try:
        assert in_child(lambda: [each.times for each in stay]) == [12] * 50
    finally:
        gc.callbacks.remove(collect_one_more)
        gc.set_threshold(*threshold)


def test_what_cannot_be_made_anew_keeps_nothing_else_from_it() -> None:
    broken, well = Counted(RuntimeError("broken")), Counted()
    assert in_child(lambda: [broken.times, well.times]) == [12, 12]


# The child's own life


def _follows() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name == "tokenmgr-refresher"]


def _renews_by_itself(manager: AccessTokenManager) -> bool:
    """Asks for a token, and then waits, without a call, for the one that comes behind it."""
    old = manager.get_access_token()
    if manager.status().state != "fresh" or manager._cell.current.secret != old:
        return False  # this call, or one before it, has it renewed
    with contextlib.suppress(AssertionError):
        until(lambda: manager._cell.current.secret != old, within=3.0)
    return manager._cell.current.secret != old


def test_renewal_goes_on_in_the_background_of_both() -> None:
    often = RefreshPolicy(margin=0.99)  # after less than half a second
    with EntraEmulator(token_lifetime=40) as entra, entra.registry(policy=often) as tokens:
        graph = tokens.manager(SCOPE)
        until(lambda: graph.get_access_token() and len(_follows()) == 1, "the thread")

        def work() -> list[bool]:
            none_yet, first = not _follows(), graph._cell.current.secret
            until(lambda: graph.status().state == "aging", "aging")
            at_once = graph.get_access_token() == first
            until(lambda: _renews_by_itself(graph), "the child's renewal")
            return [none_yet, at_once]

        child = Child(work)
        until(lambda: _renews_by_itself(graph), "the parent's renewal")
        assert child.outcome() == [True, True]
        until(lambda: _renews_by_itself(graph), "the parent's next renewal")


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
        until(lambda: second._cell.current.secret != "token-1", "the renewal")
        return second._cell.current.secret

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


def test_a_fork_at_any_line_of_a_look_loses_no_renewal(clock: FakeClock) -> None:
    class Key:
        def renew_if_used(self) -> None:
            renewed.append(self)

    def fork() -> None:
        def work() -> int:
            refresher.run_due()
            return len(renewed)

        in_children.append(in_child(work))

    renewed: list[object] = []
    in_children: list[int] = []
    for number in itertools.count():
        refresher, key = HandRefresher(clock), Key()
        refresher.follow(key, clock.elapsed(), clock.elapsed() + 1000)
        renewed.clear()
        if not at_line(
            number, refresher.run_due, fork, within=("_pause",), of=refresher_module.__file__
        ):
            break
        assert renewed == [key]
    assert len(in_children) > 10
    assert set(in_children) == {1}, "those in which it was started already have seen it"


def test_the_child_knows_the_metadata_and_speaks_over_a_connection_of_its_own(
    entra: EntraEmulator,
) -> None:
    with entra.registry() as tokens:
        graph = tokens.manager(SCOPE)
        graph.get_access_token()
        session = tokens._own.app.connection._transport._pool.thing.session

        def work() -> bool:
            graph.refresh_access_token()
            return tokens._own.app.connection._transport._pool.thing.session is not session

        assert in_child(work) is True
        graph.refresh_access_token()  # the parent's connection is as it was
        assert tokens._own.app.connection._transport._pool.thing.session is session
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


class _Noting:
    """Notes what is done with it; one of the steps may fail."""

    def __init__(self, fails_when: str = "") -> None:
        self.steps: list[str] = []
        self.fails_when = fails_when
        renew_in_child(self._start_anew, before=self._before)

    def _before(self) -> Callable[[], None]:
        self._step(BEFORE)
        return lambda: self._step(IN_PARENT)

    def _start_anew(self) -> None:
        self._step(ANEW)

    def _step(self, what: str) -> None:
        self.steps.append(what)
        if what == self.fails_when:
            raise RuntimeError(what)


BEFORE, IN_PARENT, ANEW = "put away", "taken out in the parent", "made anew"


def test_what_must_not_be_carried_over_a_fork_is_put_away_before_it() -> None:
    noting = _Noting()
    assert noting.steps == [ANEW]

    def work() -> list[str]:
        grandchild = in_child(lambda: noting.steps)
        return [*noting.steps, "grandchild", *grandchild]

    child = in_child(work)
    first = [ANEW, BEFORE, ANEW, BEFORE]
    assert child == [*first, IN_PARENT, "grandchild", *first, ANEW]
    assert noting.steps == [ANEW, BEFORE, IN_PARENT]


def test_what_fails_before_a_fork_or_after_stops_neither_it_nor_the_others() -> None:
    failing = [_Noting(fails_when=step) for step in [BEFORE, IN_PARENT] * 4]
    good = _Noting()
    assert in_child(lambda: good.steps) == [ANEW, BEFORE, ANEW]
    assert good.steps == [ANEW, BEFORE, IN_PARENT]
    assert [each.steps for each in failing] == [[ANEW, BEFORE], [ANEW, BEFORE, IN_PARENT]] * 4
