"""One fetch for everybody who asks: threads, event loops, and those that leave early."""

from __future__ import annotations

import asyncio
import signal
import threading
import weakref
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from typing import Any

import pytest
from support import FakeClock, FakeSource, collect, make_manager, settle
from waiting import until

from tokenmgr import (
    AccessTokenManager,
    RefreshPolicy,
    ServiceUnavailableError,
    ThrottledError,
    TokenManagerError,
    TokenRequestError,
    TokenTimeoutError,
)
from tokenmgr._engine.flight import Flight, FlightLostError
from tokenmgr._runtime.workers import Workers
from tokenmgr.events import Event, TokenRequested

DOWN = ServiceUnavailableError("the service is down")
#: A failure stands for its Retry-After alone.
NO_JITTER = RefreshPolicy(jitter=0.0, backoff_base=0.0)


class StubbornError(TokenManagerError):
    """Its constructor does not take what ``copy.copy`` would call it with."""

    def __init__(self, *, tenant: str) -> None:
        super().__init__(f"no token for {tenant}")
        self.tenant = tenant


def waiting(manager: AccessTokenManager) -> int:
    cells = (manager._plain, *manager._by_claims.values())
    return sum(cell.status().waits for cell in cells)


class Queue(Workers):
    """Workers whose threads do not come to their work before a test says so."""

    def __init__(self) -> None:
        super().__init__(4, name="tokenmgr-fetch")
        self.queued: list[Callable[[], object]] = []

    def do(self, work: Callable[[], object]) -> None:
        self.queued.append(work)

    def come(self) -> None:
        for work in self.queued:
            super().do(work)


class Crowd:
    """Threads that do something at once; what they return or raise is kept."""

    def __init__(self) -> None:
        self.outcomes: list[object] = []
        self._threads: list[threading.Thread] = []

    def add(self, count: int, work: Callable[[], object]) -> None:
        def run() -> None:
            try:
                self.outcomes.append(work())
            except Exception as exc:  # noqa: BLE001 - it is the outcome
                self.outcomes.append(exc)

        for _ in range(count):
            self._threads.append(threading.Thread(target=run, daemon=True))
            self._threads[-1].start()

    def join(self) -> list[object]:
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive(), "a thread is stuck"
        return self.outcomes


def on_a_loop(
    count: int, ask: Callable[[], Coroutine[Any, Any, object]]
) -> Callable[[], list[object]]:
    """Has ``ask`` awaited so often at once in an event loop of its own."""

    async def main() -> list[object]:
        return list(await asyncio.gather(*(ask() for _ in range(count)), return_exceptions=True))

    return lambda: asyncio.run(main())


def flattened(outcomes: list[object]) -> list[object]:
    flat: list[object] = []
    for outcome in outcomes:
        flat.extend(outcome if isinstance(outcome, list) else [outcome])
    return flat


@pytest.mark.parametrize("kind", ["cold", "expired", "forced", "claims"])
def test_threads_and_loops_of_every_kind_of_request_cost_one_fetch(
    manager: AccessTokenManager, clock: FakeClock, source: FakeSource, kind: str
) -> None:
    if kind != "cold":
        manager.get_access_token()
    if kind == "expired":
        clock.advance(3600)
    before, source.entered = source.fetches, threading.Semaphore(0)
    claims = '{"access_token":{}}' if kind == "claims" else None
    source.gate.clear()

    def ask() -> str:
        if kind in ("cold", "expired"):
            return manager.get_access_token()
        return manager.refresh_access_token(claims=claims)

    async def aask() -> str:
        if kind in ("cold", "expired"):
            return await manager.aget_access_token()
        return await manager.arefresh_access_token(claims=claims)

    waits = waiting(manager)
    crowd = Crowd()
    crowd.add(10, ask)
    crowd.add(4, on_a_loop(10, aask))
    until(lambda: waiting(manager) == waits + 50)
    source.gate.set()
    assert flattened(crowd.join()) == [f"token-{before + 1}"] * 50
    assert source.fetches == before + 1
    assert source.claims[-1] == claims


def test_fifty_requests_with_the_same_claims_cost_one_fetch_with_these_claims(
    manager: AccessTokenManager, source: FakeSource
) -> None:
    manager.get_access_token()
    source.gate.clear()
    crowd = Crowd()
    crowd.add(50, lambda: manager.refresh_access_token(claims="c"))
    until(lambda: waiting(manager) == 51)
    source.gate.set()
    assert crowd.join() == ["token-2"] * 50
    assert source.claims == [None, "c"]


def test_requests_with_two_kinds_of_claims_cost_one_fetch_each_side_by_side(
    manager: AccessTokenManager, source: FakeSource
) -> None:
    source.gate.clear()
    crowd = Crowd()
    for claims in "ab":
        crowd.add(25, lambda claims=claims: (claims, manager.refresh_access_token(claims=claims)))
    until(lambda: waiting(manager) == 50)
    until(lambda: source.fetches == 2)  # neither waits for the other
    source.gate.set()
    expected = [(claims, f"token-{number}") for number, claims in enumerate(source.claims, 1)]
    assert sorted(crowd.join(), key=str) == sorted(expected * 25)
    assert sorted(map(str, source.claims)) == ["a", "b"]


def test_neither_a_plain_call_nor_one_with_claims_joins_the_other_s_flight(
    manager: AccessTokenManager, source: FakeSource
) -> None:
    source.gate.clear()
    crowd = Crowd()
    crowd.add(1, lambda: ("plain", manager.get_access_token()))
    until(lambda: source.fetches == 1)
    crowd.add(1, lambda: ("claims", manager.refresh_access_token(claims="c")))
    until(lambda: source.fetches == 2)
    crowd.add(1, lambda: ("plain", manager.get_access_token()))
    until(lambda: waiting(manager) == 3)
    source.gate.set()
    expected = [("claims", "token-2"), ("plain", "token-1"), ("plain", "token-1")]
    assert sorted(crowd.join(), key=str) == expected
    assert source.claims == [None, "c"]


def test_a_failure_of_claims_stops_no_plain_call_and_not_its_back_off(
    clock: FakeClock, source: FakeSource
) -> None:
    manager = make_manager(clock, source, RefreshPolicy(jitter=0.0, backoff_base=1e6))
    source.error = DOWN
    with pytest.raises(ServiceUnavailableError):
        manager.refresh_access_token(claims="c")
    source.error = None
    assert manager.get_access_token() == "token-2"
    source.error = DOWN
    for claims in (None, "d"):
        with pytest.raises(ServiceUnavailableError):
            manager.refresh_access_token(claims=claims)
    assert source.fetches == 4
    with pytest.raises(ServiceUnavailableError):  # its back-off goes on
        manager.refresh_access_token()
    assert manager.get_access_token() == "token-2"
    assert source.fetches == 4


def test_what_the_service_asked_for_holds_whatever_the_claims_are(
    clock: FakeClock, source: FakeSource
) -> None:
    manager = make_manager(clock, source, NO_JITTER)
    source.error = ThrottledError("slow down", retry_after=100.0)
    for claims in ("c", "c", "other", None):
        with pytest.raises(ThrottledError):
            manager.refresh_access_token(claims=claims)
    assert source.fetches == 1
    source.error = None
    clock.advance(100)
    assert manager.refresh_access_token(claims="c") == "token-2"


def test_a_failure_reaches_everybody_as_a_copy_of_their_own(
    clock: FakeClock, source: FakeSource
) -> None:
    manager = make_manager(clock, source, NO_JITTER)
    source.gate.clear()
    source.error = ThrottledError("slow down", retry_after=60.0, error_codes=(90033,))
    source.error.__cause__ = OSError("reset by peer")

    def ask() -> str:
        try:
            raise LookupError("a request of this thread's own")
        except LookupError:
            return manager.get_access_token()

    crowd = Crowd()
    crowd.add(8, ask)
    crowd.add(2, on_a_loop(4, manager.aget_access_token))
    until(lambda: waiting(manager) == 16)
    source.gate.set()
    errors = [exc for exc in flattened(crowd.join()) if isinstance(exc, ThrottledError)]
    assert len({id(exc) for exc in errors}) == 16
    assert source.error not in errors
    assert {(exc.retry_after, exc.error_codes) for exc in errors} == {(60.0, (90033,))}
    assert {exc.__cause__ for exc in errors} == {source.error.__cause__}
    contexts = [exc.__context__ for exc in errors if exc.__context__ is not None]
    assert len({id(context) for context in contexts}) == len(contexts)
    frames = [exc.__traceback__.tb_frame for exc in errors if exc.__traceback__ is not None]
    assert len(frames) == 16
    assert len({id(frame) for frame in frames}) == 16


def test_an_error_with_a_constructor_of_its_own_reaches_everybody_as_a_copy_too(
    clock: FakeClock, source: FakeSource
) -> None:
    manager = make_manager(clock, source, NO_JITTER)
    source.gate.clear()
    source.error = StubbornError(tenant="contoso")
    crowd = Crowd()
    crowd.add(10, manager.get_access_token)
    crowd.add(1, on_a_loop(10, manager.aget_access_token))
    until(lambda: waiting(manager) == 20)
    source.gate.set()
    outcomes = flattened(crowd.join())
    assert [getattr(outcome, "tenant", outcome) for outcome in outcomes] == ["contoso"] * 20
    assert {str(outcome) for outcome in outcomes} == {"no token for contoso"}
    assert len({id(outcome) for outcome in outcomes} - {id(source.error)}) == 20
    assert source.fetches == 1


def test_loops_that_end_while_they_wait_leave_the_others_waiting(
    manager: AccessTokenManager, source: FakeSource
) -> None:
    source.gate.clear()

    def loop_that_ends() -> str:
        loop = asyncio.new_event_loop()
        task = loop.create_task(manager.aget_access_token())
        before = waiting(manager)
        while waiting(manager) == before:
            loop.run_until_complete(asyncio.sleep(0))
        loop.run_until_complete(asyncio.sleep(0))
        task.cancel()
        task.add_done_callback(lambda _: None)
        with pytest.raises(asyncio.CancelledError):
            loop.run_until_complete(task)
        loop.close()
        return "ended"

    def loop_that_is_closed_under_its_tasks() -> str:
        loop = asyncio.new_event_loop()
        loop.set_exception_handler(lambda *_: None)  # it would report the tasks it abandons
        asking = manager.aget_access_token()
        task = loop.create_task(asking)
        for _ in range(3):
            loop.run_until_complete(asyncio.sleep(0))
        loop.close()
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        abandoned.append((task, asking))
        return "closed"

    abandoned: list[object] = []
    crowd = Crowd()
    crowd.add(1, loop_that_ends)
    until(lambda: crowd.outcomes == ["ended"])
    crowd.add(1, loop_that_is_closed_under_its_tasks)
    until(lambda: len(crowd.outcomes) == 2)
    before = waiting(manager)
    crowd.add(5, manager.get_access_token)
    crowd.add(2, on_a_loop(5, manager.aget_access_token))
    until(lambda: waiting(manager) == before + 15)
    source.gate.set()
    outcomes = flattened(crowd.join())
    assert outcomes.count("token-1") == 15
    assert source.fetches == 1


def test_a_thread_that_leaves_at_its_deadline_stops_nobody(
    manager: AccessTokenManager, source: FakeSource
) -> None:
    source.gate.clear()
    crowd = Crowd()
    with pytest.raises(TokenTimeoutError):
        manager.get_access_token(timeout=0.0)
    crowd.add(5, manager.get_access_token)
    crowd.add(1, on_a_loop(5, manager.aget_access_token))
    until(lambda: waiting(manager) == 11)
    with pytest.raises(TokenTimeoutError):
        manager.get_access_token(timeout=0.0)
    source.gate.set()
    assert flattened(crowd.join()) == ["token-1"] * 10
    assert source.fetches == 1


def test_a_manager_works_in_a_second_event_loop_after_the_first_one_ended(
    manager: AccessTokenManager, clock: FakeClock
) -> None:
    assert asyncio.run(manager.aget_access_token()) == "token-1"
    clock.advance(3600)
    assert asyncio.run(manager.aget_access_token()) == "token-2"
    assert asyncio.run(manager.arefresh_access_token()) == "token-3"


def test_a_loop_that_ended_in_the_middle_leaves_a_flight_that_the_next_one_joins(
    manager: AccessTokenManager, source: FakeSource
) -> None:
    source.gate.clear()

    async def leave() -> None:
        with pytest.raises(TokenTimeoutError):
            await manager.aget_access_token(timeout=0.001)

    asyncio.run(leave())
    crowd = Crowd()
    crowd.add(1, on_a_loop(3, manager.aget_access_token))
    until(lambda: waiting(manager) == 4)
    source.gate.set()
    assert crowd.join() == [["token-1"] * 3]
    assert source.fetches == 1


def test_a_fetch_is_not_stopped_by_the_loop_that_started_it(
    manager: AccessTokenManager, source: FakeSource
) -> None:
    source.gate.clear()
    crowd = Crowd()

    async def start_and_be_cancelled() -> None:
        task = asyncio.ensure_future(manager.aget_access_token())
        while source.fetches == 0:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(start_and_be_cancelled())
    crowd.add(10, manager.get_access_token)
    until(lambda: waiting(manager) == 11)
    source.gate.set()
    assert crowd.join() == ["token-1"] * 10
    assert source.fetches == 1


def test_a_flight_lands_once_for_all_who_wait_and_all_who_come_late() -> None:
    flight: Flight[str] = Flight(0.0)
    assert not flight.wait(0.0)
    crowd = Crowd()

    async def joined() -> str:
        assert await flight.join(30)
        return flight.result()

    crowd.add(4, lambda: flight.wait(30) and flight.result())
    crowd.add(2, on_a_loop(4, joined))
    until(lambda: len(flight._wakers) == 12)
    flight.land("here")
    assert flattened(crowd.join()) == ["here"] * 12
    assert asyncio.run(joined()) == "here"
    assert flight.wait(0.0)
    assert flight._wakers == set()


def test_no_caller_fetches_in_a_thread_of_its_own(
    manager: AccessTokenManager, clock: FakeClock, source: FakeSource
) -> None:
    leaders: list[str] = []
    source.during = lambda: leaders.append(threading.current_thread().name)
    manager.get_access_token()
    clock.advance(3600)
    manager.get_access_token(timeout=30)
    manager.refresh_access_token()
    manager.refresh_access_token(claims="c")
    clock.advance(1000)
    manager.get_access_token(min_ttl=3000)
    clock.advance(2880)
    manager.get_access_token()
    settle(manager)
    clock.advance(3600)
    manager.prefetch()
    asyncio.run(manager.aget_access_token())
    asyncio.run(manager.arefresh_access_token())
    assert leaders == ["tokenmgr-fetch"] * 8


def test_a_lost_flight_tells_everybody_to_start_another() -> None:
    flight: Flight[str] = Flight(0.0)
    flight.lose()
    for _ in range(2):
        with pytest.raises(FlightLostError):
            flight.result()


def test_an_interrupted_worker_is_replaced_for_threads_and_loops(
    clock: FakeClock, source: FakeSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    reported: list[object] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: reported.append(args.exc_value))
    events: list[Event] = []
    manager = make_manager(clock, source, on_event=events.append)
    source.gate.clear()
    source.error = SystemExit(1)

    def heal() -> None:
        if source.fetches > 1:
            source.error = None

    source.during = heal
    crowd = Crowd()
    crowd.add(1, on_a_loop(5, manager.aget_access_token))
    until(lambda: waiting(manager) == 5)
    crowd.add(5, manager.get_access_token)
    until(lambda: waiting(manager) == 10)
    source.gate.set()
    assert flattened(crowd.join()) == ["token-2"] * 10
    assert source.fetches == 2
    until(lambda: len([e for e in events if isinstance(e, TokenRequested)]) == 2)
    until(lambda: reported)  # the worker says so after it has let the waiters go
    assert [type(error) for error in reported] == [SystemExit]


def test_a_flight_that_was_given_up_in_a_queue_is_not_fetched_beside_the_next(
    clock: FakeClock, source: FakeSource
) -> None:
    queue = Queue()
    manager = make_manager(clock, source, workers=queue)
    crowd = Crowd()
    crowd.add(1, manager.get_access_token)
    until(lambda: waiting(manager) == 1)
    clock.advance(15)  # longer than a fetch may take: the key is given to another flight
    crowd.add(1, manager.get_access_token)
    until(lambda: waiting(manager) == 2)
    assert len(queue.queued) == 2
    queue.come()
    assert crowd.join() == ["token-1"] * 2
    assert source.fetches == 1


def test_min_ttl_that_no_token_satisfies_costs_one_fetch_in_a_back_off_cap(
    clock: FakeClock, source: FakeSource
) -> None:
    manager = make_manager(clock, source)
    for minute in (1, 2, 3):
        for _ in range(30):
            with pytest.raises(TokenManagerError, match="min_ttl"):
                manager.get_access_token(min_ttl=7200)
            clock.advance(2)
        assert source.fetches == minute
    assert manager.get_access_token() == "token-3"


def test_a_resource_that_refuses_every_token_costs_three_fetches_in_a_minute(
    manager: AccessTokenManager, clock: FakeClock, source: FakeSource
) -> None:
    manager.get_access_token()
    source.entered = threading.Semaphore(0)
    for minute in range(1, 4):
        for _ in range(60):
            manager.invalidate(manager.get_access_token())
            clock.advance(1)
        assert source.fetches - 1 <= 3 * minute
    clock.advance(60)
    refused = manager.get_access_token()
    manager.invalidate(refused)  # the resource has recovered, and revokes one
    assert manager.get_access_token() != refused


def test_a_flight_that_stood_in_a_queue_has_its_whole_time_from_when_it_is_led(
    clock: FakeClock, source: FakeSource
) -> None:
    queue = Queue()
    manager = make_manager(clock, source, workers=queue)
    source.gate.clear()
    crowd = Crowd()
    crowd.add(1, manager.get_access_token)
    until(lambda: waiting(manager) == 1)
    clock.advance(14)
    queue.come()
    until(lambda: source.fetches == 1)
    clock.advance(14)
    crowd.add(5, manager.get_access_token)
    until(lambda: waiting(manager) == 6)
    source.gate.set()
    assert crowd.join() == ["token-1"] * 6
    assert len(queue.queued) == source.fetches == 1


def test_a_source_that_interrupts_every_worker_is_an_error_and_not_asked_for_ever(
    manager: AccessTokenManager, source: FakeSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda args: None)
    source.error = SystemExit(1)
    with pytest.raises(TokenRequestError, match="interrupted again and again") as caught:
        manager.get_access_token()
    assert caught.value.retryable
    assert source.fetches == 3
    source.error = None
    assert manager.get_access_token() == "token-4"


# Interruptions of those who wait


@pytest.fixture
def interrupt() -> Iterator[Callable[[AccessTokenManager, BaseException], None]]:
    """Has a signal's handler raise in this thread, once it waits for a token."""
    if not hasattr(signal, "pthread_kill"):
        pytest.skip("this system has no signals for threads")
    raised: list[BaseException] = []
    helpers: list[threading.Thread] = []

    def handle(number: int, frame: object) -> None:
        if raised:
            raise raised.pop()

    def interrupt(manager: AccessTokenManager, error: BaseException) -> None:
        me = threading.get_ident()

        def send() -> None:
            until(lambda: (flight := manager._cell._flight) and flight._wakers)
            while raised:  # one that comes just before the wait is seen after it
                signal.pthread_kill(me, signal.SIGUSR1)
                threading.Event().wait(0.01)

        raised.append(error)
        helpers.append(threading.Thread(target=send))
        helpers[-1].start()

    before = signal.signal(signal.SIGUSR1, handle)
    yield interrupt
    for helper in helpers:
        helper.join()
    signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), LookupError("of the program's own"), DOWN])
@pytest.mark.parametrize("call", ["get_access_token", "refresh_access_token"])
def test_what_a_signal_s_handler_raises_reaches_the_caller_as_it_is_and_touches_no_fetch(
    manager: AccessTokenManager,
    source: FakeSource,
    interrupt: Callable[[AccessTokenManager, BaseException], None],
    error: BaseException,
    call: str,
) -> None:
    source.gate.clear()
    crowd = Crowd()
    interrupt(manager, error)
    with pytest.raises(type(error)) as caught:
        getattr(manager, call)()
    assert caught.value is error
    assert error.__context__ is None
    flight = manager._cell._flight
    assert flight is not None
    assert flight._wakers == set()
    crowd.add(1, manager.get_access_token)
    until(lambda: waiting(manager) == 2)
    source.gate.set()
    assert manager.get_access_token() == "token-1"
    assert crowd.join() == ["token-1"]
    assert source.fetches == 1
    assert manager.status().last_error is None


def test_a_keyboard_interrupt_in_an_event_loop_touches_no_fetch(
    manager: AccessTokenManager,
    source: FakeSource,
    interrupt: Callable[[AccessTokenManager, BaseException], None],
) -> None:
    source.gate.clear()
    interrupt(manager, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(manager.aget_access_token())
    flight = manager._cell._flight
    assert flight is not None
    assert flight._wakers == set()
    source.gate.set()
    assert asyncio.run(manager.aget_access_token()) == "token-1"
    assert source.fetches == 1


class Interrupted(Queue):
    """Workers that are interrupted as they are called, before or after they have the work."""

    def __init__(self, *, queues: bool) -> None:
        super().__init__()
        self.queues = queues
        self.interrupted = False

    def do(self, work: Callable[[], object]) -> None:
        if self.interrupted:
            Workers.do(self, work)
            return
        self.interrupted = True
        if self.queues:
            Workers.do(self, work)
        raise KeyboardInterrupt


@pytest.mark.parametrize("queues", [False, True])
def test_a_caller_that_is_interrupted_as_it_starts_a_flight_leaves_none_and_no_fetch(
    clock: FakeClock, source: FakeSource, queues: bool
) -> None:
    manager = make_manager(clock, source, workers=Interrupted(queues=queues))
    with pytest.raises(KeyboardInterrupt):
        manager.get_access_token()
    assert manager._cell._flight is None
    assert manager.get_access_token() == "token-1"
    assert source.fetches == 1


def test_a_flight_that_a_worker_takes_as_its_caller_is_interrupted_stays_the_key_s(
    clock, source, monkeypatch
) -> None:
    workers = Queue()
    manager = make_manager(clock, source, workers=workers)
    cell = manager._cell
    manager.prefetch()
    flight = cell._flight
    assert flight is not None

    class TakenMeanwhile:
        """Has a worker begin to lead it before whoever abandons it has the cell's lock."""

        def __enter__(self) -> None:
            worker = threading.Thread(target=flight.begin)
            worker.start()
            worker.join()

        def __exit__(self, *exc_info: object) -> None: ...

    monkeypatch.setattr(cell, "_lock", TakenMeanwhile())
    cell.abandon(flight)
    assert cell._flight is flight
    assert not flight.landed


@pytest.mark.parametrize("kind", ["thread", "coroutine"])
@pytest.mark.parametrize(
    "error", [ThrottledError("slow down", retry_after=60.0), StubbornError(tenant="contoso")]
)
def test_no_frame_of_a_caller_hangs_on_the_error_that_a_key_keeps(
    clock: FakeClock, source: FakeSource, kind: str, error: TokenManagerError
) -> None:
    class OfACaller:
        """Something that a caller has in hand as it asks."""

    manager = make_manager(clock, source, NO_JITTER)
    left: list[weakref.ref[OfACaller]] = []

    def ask() -> None:
        mine = OfACaller()
        left.append(weakref.ref(mine))
        try:
            raise LookupError("a request of this caller's own")
        except LookupError:
            with suppress(TokenManagerError):
                if kind == "thread":
                    manager.get_access_token()
                else:
                    asyncio.run(manager.aget_access_token())

    source.gate.clear()
    source.error = error
    error.retry_after = 60.0
    error.__cause__ = OSError("reset by peer")
    crowd = Crowd()
    crowd.add(3, ask)
    until(lambda: waiting(manager) == 3)
    source.gate.set()
    crowd.join()
    ask()  # it is too early to ask the service again
    collect(manager._cell.context)
    assert source.fetches == 1
    assert manager._cell._failures.error is not None
    assert [each() for each in left] == [None] * 4


# Coroutines that leave


@pytest.mark.parametrize("turns", range(8))
async def test_a_cancellation_is_never_swallowed_at_whatever_moment_it_comes(
    manager: AccessTokenManager, source: FakeSource, turns: int
) -> None:
    source.gate.clear()
    task = asyncio.ensure_future(manager.aget_access_token())
    while not (manager._cell._flight and manager._cell._flight._wakers):
        await asyncio.sleep(0)
    flight = manager._cell._flight
    source.gate.set()
    assert flight.wait(30)
    for _ in range(turns):
        await asyncio.sleep(0)
    cancelled = task.cancel()
    outcome = (await asyncio.gather(task, return_exceptions=True))[0]
    assert isinstance(outcome, asyncio.CancelledError) if cancelled else outcome == "token-1"
    assert flight._wakers == set()


@pytest.mark.parametrize("first", ["land", "cancel"])
async def test_a_cancellation_in_the_moment_of_landing_is_not_swallowed(first: str) -> None:
    flight: Flight[str] = Flight(0.0)
    task = asyncio.ensure_future(flight.join(30))
    await asyncio.sleep(0)
    assert len(flight._wakers) == 1
    steps = {"land": lambda: flight.land("here"), "cancel": task.cancel}
    steps.pop(first)()
    (last,) = steps.values()
    # By then the future that it waits for is done, and it has not been told.
    asyncio.get_running_loop().call_soon(last)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert flight._wakers == set()


async def test_ten_thousand_coroutines_that_gave_up_leave_nothing_behind(
    manager: AccessTokenManager, source: FakeSource
) -> None:
    source.gate.clear()
    cancelled = [asyncio.ensure_future(manager.aget_access_token()) for _ in range(5_000)]
    impatient = [
        asyncio.ensure_future(manager.aget_access_token(timeout=0.001)) for _ in range(5_000)
    ]
    outcomes = await asyncio.gather(*impatient, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {TokenTimeoutError}
    flight = manager._cell._flight
    assert flight is not None
    assert len(flight._wakers) == 5_000
    for task in cancelled:
        task.cancel()
    outcomes = await asyncio.gather(*cancelled, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {asyncio.CancelledError}
    assert flight._wakers == set()
    assert asyncio.all_tasks() == {asyncio.current_task()}
    source.gate.set()
    assert await manager.aget_access_token() == "token-1"
    assert source.fetches == 1


def test_threads_that_gave_up_leave_no_wakers(
    manager: AccessTokenManager, source: FakeSource
) -> None:
    source.gate.clear()
    crowd = Crowd()
    crowd.add(50, lambda: manager.get_access_token(timeout=0.01))
    assert {type(outcome) for outcome in crowd.join()} == {TokenTimeoutError}
    flight = manager._cell._flight
    assert flight is not None
    assert flight._wakers == set()
    source.gate.set()
    assert manager.get_access_token() == "token-1"
    assert source.fetches == 1
