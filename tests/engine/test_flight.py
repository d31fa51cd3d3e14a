"""One fetch for everybody who asks: threads, event loops, and those that leave early."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from support import FakeClock, FakeSource, in_threads, make_manager

from tokenmgr import (
    AccessTokenManager,
    RefreshPolicy,
    ServiceUnavailableError,
    ThrottledError,
    TokenManagerError,
    TokenTimeoutError,
)
from tokenmgr._engine.boarding import Need
from tokenmgr._engine.flight import Flight, FlightLostError
from tokenmgr.events import Event, TokenRequested

DOWN = ServiceUnavailableError("the service is down")
#: A failure stands for its Retry-After alone.
NO_JITTER = RefreshPolicy(jitter=0.0, backoff_base=0.0)


class StubbornError(TokenManagerError):
    """``copy.copy`` calls its constructor with the message alone, and cannot."""

    def __init__(self, *, tenant: str) -> None:
        super().__init__(f"no token for {tenant}")
        self.tenant = tenant


def until(condition: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < give_up_at, "it does not come to pass"
        threading.Event().wait(0.0005)


def waiting(manager: AccessTokenManager) -> int:
    return manager.status().waits


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


def test_requests_with_two_kinds_of_claims_cost_one_fetch_each_one_after_the_other(
    clock: FakeClock, source: FakeSource
) -> None:
    manager = make_manager(clock, source)
    at_a_time: list[bool] = []
    under_way = threading.Semaphore(1)

    def during() -> None:
        at_a_time.append(under_way.acquire(blocking=False))
        under_way.release()

    source.during = during
    source.gate.clear()
    crowd = Crowd()
    crowd.add(1, lambda: ("a", manager.refresh_access_token(claims="a")))
    until(lambda: source.fetches == 1)
    crowd.add(24, lambda: ("a", manager.refresh_access_token(claims="a")))
    crowd.add(25, lambda: ("b", manager.refresh_access_token(claims="b")))
    until(lambda: waiting(manager) == 50)
    source.gate.set()
    assert sorted(crowd.join(), key=str) == [("a", "token-1")] * 25 + [("b", "token-2")] * 25
    assert source.claims == ["a", "b"]
    assert at_a_time == [True, True]


def test_a_plain_call_joins_a_flight_with_claims_and_a_claims_call_no_plain_flight(
    manager: AccessTokenManager, source: FakeSource
) -> None:
    source.gate.clear()
    crowd = Crowd()
    crowd.add(1, lambda: ("plain", manager.get_access_token()))
    until(lambda: source.fetches == 1)
    crowd.add(1, lambda: ("claims", manager.refresh_access_token(claims="c")))
    until(lambda: waiting(manager) == 2)
    source.gate.set()
    assert sorted(crowd.join(), key=str) == [("claims", "token-2"), ("plain", "token-1")]
    assert source.claims == [None, "c"]


def test_a_failure_of_claims_stops_no_plain_call_and_not_its_back_off(
    clock: FakeClock, source: FakeSource
) -> None:
    manager = make_manager(clock, source, NO_JITTER)
    source.error = ThrottledError("slow down", retry_after=100.0)
    with pytest.raises(ThrottledError):
        manager.refresh_access_token(claims="c")
    source.error = None
    assert manager.get_access_token() == "token-2"
    source.error = ThrottledError("slow down", retry_after=100.0)
    with pytest.raises(ThrottledError):
        manager.refresh_access_token()
    source.error = DOWN
    with pytest.raises(ServiceUnavailableError):  # it asks: the throttling was of plain calls
        manager.refresh_access_token(claims="c")
    assert source.fetches == 4
    with pytest.raises(ThrottledError):  # which goes on
        manager.refresh_access_token()
    assert source.fetches == 4


def test_claims_that_failed_are_not_asked_for_again_within_their_back_off(
    clock: FakeClock, source: FakeSource
) -> None:
    manager = make_manager(clock, source, NO_JITTER)
    source.error = ThrottledError("slow down", retry_after=100.0)
    for _ in range(3):
        with pytest.raises(ThrottledError):
            manager.refresh_access_token(claims="c")
    assert source.fetches == 1
    with pytest.raises(ThrottledError):
        manager.refresh_access_token(claims="other")
    assert source.fetches == 2
    source.error = None
    clock.advance(100)
    assert manager.refresh_access_token(claims="c") == "token-3"


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


def test_an_error_that_cannot_be_copied_is_still_given_to_everybody_at_once(
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


def test_a_thread_that_leaves_at_its_deadline_stops_nobody_and_leads_nobody_astray(
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


def test_one_who_leads_in_a_worker_is_not_stopped_by_the_loop_that_started_it(
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
    until(lambda: len(flight._wakers) == 8)
    flight.land("here")
    assert flattened(crowd.join()) == ["here"] * 12
    assert asyncio.run(joined()) == "here"
    assert flight.wait(0.0)
    assert flight._wakers == []


def test_a_flight_has_one_leader() -> None:
    flight: Flight[str] = Flight(0.0)
    assert not flight.has_leader
    assert sorted(map(bool, in_threads(20, flight.claim))) == [False] * 19 + [True]
    assert flight.has_leader


def test_a_lost_flight_tells_everybody_to_board_another() -> None:
    flight: Flight[str] = Flight(0.0)
    flight.lose()
    for _ in range(2):
        with pytest.raises(FlightLostError):
            flight.result()


def test_an_interrupted_leader_in_a_worker_is_replaced_for_threads_and_loops(
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


def test_a_leader_that_nobody_let_run_leaves_its_flight_when_another_took_over(
    manager: AccessTokenManager, clock: FakeClock, source: FakeSource
) -> None:
    keeper = manager._keeper
    late: list[Flight[Any]] = []
    keeper.board(Need(), late.append)
    clock.advance(60)  # nobody waits so long: the key is given to another flight
    assert manager.get_access_token() == "token-1"
    keeper.lead(late[0])
    assert source.fetches == 1
    assert late[0].wait(0.0)


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


def test_a_flight_that_stood_in_a_queue_is_not_given_up_as_it_takes_off(
    manager: AccessTokenManager, clock: FakeClock, source: FakeSource
) -> None:
    late: list[Flight[Any]] = []
    manager._keeper.board(Need(), late.append)
    clock.advance(60)
    source.gate.clear()
    crowd = Crowd()
    crowd.add(1, lambda: manager._keeper.lead(late[0]))
    until(lambda: source.fetches == 1)
    crowd.add(5, manager.get_access_token)
    until(lambda: waiting(manager) == 6)
    source.gate.set()
    assert crowd.join().count("token-1") == 5
    assert source.fetches == 1
