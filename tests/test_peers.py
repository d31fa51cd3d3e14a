"""What the peers do wrong, row by row: each name is the situation."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace

import pytest
from programs import run
from support import (
    EXACT,
    KEY,
    FakeClock,
    FakeSource,
    HandRefresher,
    in_threads,
    make_manager,
    settle,
)

from tokenmgr import (
    AccessTokenManager,
    InvalidScopeError,
    RefreshPolicy,
    ServiceUnavailableError,
    ThrottledError,
)

DOWN = ServiceUnavailableError("the service is down")


def test_fifty_cold_callers_of_one_key(manager: AccessTokenManager, source: FakeSource) -> None:
    assert in_threads(50, manager.get_access_token) == ["token-1"] * 50
    assert source.fetches == 1


@pytest.mark.parametrize("left", [3000.0, 299.0], ids=["past_refresh_on", "4_59_minutes_valid"])
@pytest.mark.parametrize("error", [DOWN, ValueError("broken JSON")])
async def test_aging_and_the_service_is_down(
    clock: FakeClock, source: FakeSource, left: float, error: Exception
) -> None:
    source.refresh_in = 60.0
    manager = make_manager(clock, source)
    await manager.aget_access_token()
    clock.advance(3600 - left)
    source.error = error
    source.gate.clear()  # whoever waited for the service would wait for ever
    assert in_threads(50, manager.get_access_token) == ["token-1"] * 50
    assert (
        await asyncio.gather(*[manager.aget_access_token() for _ in range(50)]) == ["token-1"] * 50
    )
    source.gate.set()
    settle(manager)
    assert manager.get_access_token() == "token-1"


def test_tokens_that_live_under_five_minutes(
    manager: AccessTokenManager, source: FakeSource
) -> None:
    source.lifetime = 120.0
    assert [manager.get_access_token() for _ in range(10)] == ["token-1"] * 10
    assert source.fetches == 1


@pytest.mark.parametrize("error", [DOWN, ThrottledError("slow down", retry_after=3600.0)])
def test_user_a_fails_and_user_b_is_not_touched(clock: FakeClock, error: Exception) -> None:
    sources = [FakeSource(clock), FakeSource(clock)]
    a, b = (
        make_manager(clock, source, key=replace(KEY, subject=name))
        for name, source in zip("ab", sources, strict=True)
    )
    sources[0].error = error
    with pytest.raises(type(error)):
        a.get_access_token()
    assert b.get_access_token() == "token-1"


def test_a_failing_key_with_fifty_waiters(clock: FakeClock, source: FakeSource) -> None:
    manager = make_manager(clock, source, RefreshPolicy(backoff_base=1e6, backoff_cap=1e6))
    source.error = DOWN
    outcomes = in_threads(50, manager.get_access_token)
    assert {type(outcome) for outcome in outcomes} == {ServiceUnavailableError}
    assert source.fetches == 1


def test_one_failed_renewal_cycle(clock: FakeClock, source: FakeSource) -> None:
    refresher = HandRefresher(clock)
    manager = make_manager(clock, source, RefreshPolicy(jitter=0.0), refresher=refresher)
    manager.get_access_token()
    source.error = DOWN
    clock.advance(2880)
    refresher.run_due()
    settle(manager)
    source.error = None
    clock.advance(60)
    refresher.run_due()
    settle(manager)
    assert manager.status().state == "fresh"


def test_one_slow_key(clock: FakeClock) -> None:
    slow, quick = FakeSource(clock), FakeSource(clock)
    slow.gate.clear()
    waiting = threading.Thread(target=make_manager(clock, slow).get_access_token)
    waiting.start()
    assert slow.entered.acquire(timeout=30)
    assert make_manager(clock, quick, key=replace(KEY, subject="b")).get_access_token() == "token-1"
    slow.gate.set()
    waiting.join(30)


def test_async_in_a_second_asyncio_run(manager: AccessTokenManager, clock: FakeClock) -> None:
    assert asyncio.run(manager.aget_access_token()) == "token-1"
    clock.advance(3600)
    assert asyncio.run(manager.aget_access_token()) == "token-2"


async def test_async_never_blocks_the_loop(manager: AccessTokenManager, source: FakeSource) -> None:
    source.gate.clear()
    asking = asyncio.ensure_future(manager.aget_access_token())
    while source.fetches == 0:
        await asyncio.sleep(0)
    source.gate.set()
    assert await asking == "token-1"


def test_the_clock_is_set_back_two_hours(
    manager: AccessTokenManager, clock: FakeClock, source: FakeSource
) -> None:
    manager.get_access_token()
    clock.step_wall(-7200)
    assert manager.status().expires_in == 3590.0
    clock.advance(3590)
    assert manager.get_access_token() == "token-2"


def test_a_400_caused_by_an_admin_s_mistake(clock: FakeClock, source: FakeSource) -> None:
    manager = make_manager(clock, source, replace(EXACT, backoff_base=1.0))
    source.error = InvalidScopeError("no such resource")
    with pytest.raises(InvalidScopeError):
        manager.get_access_token()
    source.error = None
    clock.advance(1)  # the first back-off is at most so long
    assert manager.get_access_token() == "token-2"


def test_a_fork_in_the_middle_of_a_fetch() -> None:
    done = run(
        *("-W", "ignore::DeprecationWarning", "-c"),
        "import os, threading, time\n"
        "from tokenmgr import *\n"
        "entered, gate, parent = threading.Event(), threading.Event(), os.getpid()\n"
        "class Source:\n"
        "    def fetch_token(self, *, claims=None):\n"
        "        entered.set()\n"
        "        assert os.getpid() != parent or gate.wait(30)\n"
        "        return AccessToken('token', time.time() + 3600)\n"
        "manager = AccessTokenManager(Source(), TokenKey('https://a', 'c', 'g', ('s',)))\n"
        "leader = threading.Thread(target=manager.get_access_token); leader.start()\n"
        "assert entered.wait(30)\n"
        "child = os.fork()\n"
        "if not child:\n"
        "    os._exit(0 if manager.get_access_token() == 'token' else 1)\n"
        "assert os.waitpid(child, 0)[1] == 0\n"
        "gate.set(); leader.join(); print('works')\n",
    )
    assert (done.stdout, done.stderr) == ("works\n", "")


def test_a_warm_hit_reads_one_clock_once_and_takes_no_lock(
    clock: FakeClock, source: FakeSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    readings: list[float] = []
    now = clock.elapsed()
    monkeypatch.setattr(clock, "elapsed", lambda: readings.append(now) or now)
    manager = make_manager(clock, source)
    manager.get_access_token()
    readings.clear()
    with manager._cell._lock:
        assert manager.get_access_token() == "token-1"
    assert readings == [now]
