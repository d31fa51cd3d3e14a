"""Coroutines that are cancelled: each ends as cancelled, whenever that is, and leaves nothing."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from support import FakeClock, FakeSource, make_manager

from tokenmgr import AccessTokenManager, TokenRegistry

CALLS: dict[str, Callable[[AccessTokenManager], Awaitable[Any]]] = {
    "get": lambda manager: manager.aget_access_token(),
    "with a timeout": lambda manager: manager.aget_token(timeout=30),
    "refresh": lambda manager: manager.arefresh_access_token(),
    "with claims": lambda manager: manager.arefresh_access_token(claims="{}"),
    "prefetch": lambda manager: TokenRegistry.aprefetch(None, manager),  # type: ignore[arg-type]
}
#: More than it takes from the landing of a flight to the end of whoever waits for it.
MOST_TURNS = 12


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
async def test_a_task_that_is_cancelled_as_its_flight_lands_is_cancelled(
    call: Callable[[AccessTokenManager], Awaitable[Any]],
) -> None:
    cancelled, done = 0, 0
    for turns in range(MOST_TURNS):
        clock = FakeClock()
        source = FakeSource(clock)
        manager = make_manager(clock, source)
        source.gate.clear()
        task = asyncio.ensure_future(call(manager))
        while not source.fetches:
            await asyncio.sleep(0)
        cell = manager._by_claims.get("{}", manager._plain)
        flight = cell._flight
        assert flight is not None
        source.gate.set()
        assert flight.wait(30)  # here, so that the loop stands still meanwhile
        for _ in range(turns):
            await asyncio.sleep(0)
        if task.cancel():
            cancelled += 1
            with pytest.raises(asyncio.CancelledError):
                await task
        else:
            done += 1
            await task
        assert not flight._wakers
    assert cancelled
    assert done


@pytest.mark.uncovered
async def test_ten_thousand_that_gave_up_leave_nothing_to_a_flight(
    clock: FakeClock, source: FakeSource, manager: AccessTokenManager
) -> None:
    source.gate.clear()
    staying = asyncio.ensure_future(manager.aget_access_token())
    leaving = [asyncio.ensure_future(manager.aget_access_token()) for _ in range(10_000)]
    while manager.status().waits <= len(leaving):
        await asyncio.sleep(0)
    flight = manager._cell._flight
    assert flight is not None
    for task in leaving:
        task.cancel()
    outcomes = await asyncio.gather(*leaving, return_exceptions=True)
    assert {type(each) for each in outcomes} == {asyncio.CancelledError}
    assert len(flight._wakers) == 1
    source.gate.set()
    assert await staying == "token-1"
    assert not flight._wakers
    del leaving, outcomes, task
    gc.collect()
    scheduled: list[Any] = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]
    assert sum(not each.cancelled() for each in scheduled) <= 1
