"""AccessTokenManager: what each call gives, over the token's whole life."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable

import pytest
from support import (
    EXACT,
    KEY,
    SCOPE,
    FakeClock,
    FakeSource,
    HandRefresher,
    RecordingStore,
    collect,
    in_threads,
    make_manager,
    settle,
)
from waiting import until

from tokenmgr import (
    AccessToken,
    AccessTokenManager,
    ConfigurationError,
    InvalidCredentialError,
    RefreshPolicy,
    ServiceUnavailableError,
    ThrottledError,
    TokenManagerError,
    TokenRequestError,
    TokenTimeoutError,
)
from tokenmgr._runtime.threads import DaemonThread
from tokenmgr._runtime.workers import Workers

DOWN = ServiceUnavailableError("the service is down")


def test_the_first_call_fetches_and_the_next_ones_do_not(
    manager: AccessTokenManager, source: FakeSource
) -> None:
    assert [manager.get_access_token() for _ in range(3)] == ["token-1"] * 3
    assert source.fetches == 1


def test_a_token_comes_with_its_times(
    manager: AccessTokenManager, clock: FakeClock, source: FakeSource
) -> None:
    token = manager.get_token()
    assert token.expires_at == clock.wall() + 3600
    assert token.refresh_at == clock.wall() + 2880
    assert token.scopes == manager.scopes == (SCOPE,)


def test_what_the_service_says_about_renewal_counts(
    manager: AccessTokenManager, clock: FakeClock, source: FakeSource
) -> None:
    source.refresh_in = 600.0
    assert manager.get_token().refresh_at == clock.wall() + 600


def test_headers_are_ready_for_a_request(manager: AccessTokenManager) -> None:
    assert manager.headers() == {"Authorization": "Bearer token-1"}


def test_an_aging_token_is_returned_at_once_and_renewed_behind_it(
    manager: AccessTokenManager, clock: FakeClock, source: FakeSource
) -> None:
    manager.get_access_token()
    clock.advance(2880)
    source.gate.clear()
    assert [manager.get_access_token() for _ in range(5)] == ["token-1"] * 5
    source.gate.set()
    settle(manager)
    assert manager.get_access_token() == "token-2"
    assert source.fetches == 2


def test_a_renewal_that_has_just_been_overtaken_is_not_done_once_more(
    manager: AccessTokenManager, clock: FakeClock, source: FakeSource
) -> None:
    manager.get_access_token()
    clock.advance(2880)
    manager.get_access_token()
    settle(manager)
    manager._cell.renew_if_used()  # by a refresher that has come too late
    settle(manager)
    assert source.fetches == 2
    assert manager._cell._plan is not None
    assert manager._cell._plan.live


def test_an_aging_token_outlives_every_failure(clock: FakeClock, source: FakeSource) -> None:
    manager = make_manager(clock, source)
    manager.get_access_token()
    source.error = DOWN
    for _ in range(7):
        clock.advance(500)
        assert manager.get_access_token() == "token-1"
        settle(manager)
    assert source.fetches > 1
    clock.advance(100)
    with pytest.raises(ServiceUnavailableError):
        manager.get_access_token()


@pytest.mark.parametrize("seconds", [3590, 3600, 100_000])
def test_an_expired_token_is_never_returned(
    manager: AccessTokenManager, clock: FakeClock, source: FakeSource, seconds: float
) -> None:
    manager.get_access_token()
    clock.advance(seconds)
    assert manager.get_access_token() == "token-2"


@pytest.mark.parametrize("step", [-7200.0, 7200.0])
def test_a_step_of_the_wall_clock_changes_nothing(
    manager: AccessTokenManager, clock: FakeClock, source: FakeSource, step: float
) -> None:
    manager.get_access_token()
    clock.step_wall(step)
    assert manager.get_access_token() == "token-1"
    assert source.fetches == 1
    clock.advance(3590)
    assert manager.get_access_token() == "token-2"


@pytest.mark.parametrize("step", [-7200.0, -60.0, 60.0])
def test_a_step_of_the_wall_clock_during_the_fetch_never_lengthens_a_life(
    manager: AccessTokenManager, clock: FakeClock, source: FakeSource, step: float
) -> None:
    source.during = lambda: clock.step_wall(step)
    manager.get_access_token()
    source.during = lambda: None
    clock.advance(3590)
    assert manager.get_access_token() == "token-2"


def test_a_token_that_comes_expired_is_an_error_that_names_the_clock(
    manager: AccessTokenManager, source: FakeSource
) -> None:
    source.lifetime = -1.0
    with pytest.raises(ServiceUnavailableError, match="clock"):
        manager.get_access_token()


def test_short_lived_tokens_are_kept_like_long_lived_ones(
    manager: AccessTokenManager, clock: FakeClock, source: FakeSource
) -> None:
    source.lifetime = 90.0
    for _ in range(10):
        manager.get_access_token()
    assert source.fetches == 1
    clock.advance(45)
    assert manager.get_access_token() == "token-1"
    settle(manager)
    assert manager.get_access_token() == "token-2"


def test_min_ttl_waits_for_a_newer_token(
    manager: AccessTokenManager, clock: FakeClock, source: FakeSource
) -> None:
    manager.get_access_token()
    clock.advance(1000)
    assert manager.get_access_token(min_ttl=2590) == "token-1"
    assert manager.get_access_token(min_ttl=2591) == "token-2"


def test_min_ttl_that_no_token_satisfies_is_an_error(
    manager: AccessTokenManager, source: FakeSource
) -> None:
    with pytest.raises(TokenRequestError, match="min_ttl"):
        manager.get_access_token(min_ttl=7200)
    assert manager.get_access_token() == "token-1"


def test_min_ttl_fails_with_the_reason_when_the_renewal_does(
    manager: AccessTokenManager, clock: FakeClock, source: FakeSource
) -> None:
    manager.get_access_token()
    clock.advance(1000)
    source.error = DOWN
    with pytest.raises(ServiceUnavailableError):
        manager.get_access_token(min_ttl=3000)
    assert manager.get_access_token() == "token-1"


def test_fifty_cold_threads_cost_one_fetch(manager: AccessTokenManager, source: FakeSource) -> None:
    assert in_threads(50, manager.get_access_token) == ["token-1"] * 50
    assert source.fetches == 1


def test_fifty_waiters_share_one_failure(clock: FakeClock, source: FakeSource) -> None:
    manager = make_manager(clock, source, RefreshPolicy(jitter=0.0, backoff_base=1e6))
    source.error = DOWN
    outcomes = in_threads(50, manager.get_access_token)
    assert {type(outcome) for outcome in outcomes} == {ServiceUnavailableError}
    assert all(str(outcome).startswith(str(DOWN)) for outcome in outcomes)
    assert source.fetches == 1


def test_a_failure_stands_for_its_back_off_and_no_longer(
    clock: FakeClock, source: FakeSource
) -> None:
    manager = make_manager(clock, source, RefreshPolicy(jitter=0.0))
    source.error = ThrottledError("slow down", retry_after=30.0)
    for _ in range(3):
        with pytest.raises(ThrottledError) as caught:
            manager.get_access_token()
        assert caught.value.retry_after == 30.0
    assert source.fetches == 1
    source.error = None
    clock.advance(30)
    assert manager.get_access_token() == "token-2"


def test_threads_and_event_loops_share_one_flight(
    manager: AccessTokenManager, source: FakeSource
) -> None:
    source.gate.clear()
    got: list[str] = []

    def loop() -> None:
        async def main() -> None:
            got.extend(await asyncio.gather(*[manager.aget_access_token() for _ in range(20)]))

        asyncio.run(main())

    def thread() -> None:
        got.append(manager.get_access_token())

    runners = [threading.Thread(target=work) for work in [loop] * 3 + [thread] * 5]
    for runner in runners:
        runner.start()
    assert source.entered.acquire(timeout=30)
    source.gate.set()
    for runner in runners:
        runner.join(30)
    assert got == ["token-1"] * 65
    assert source.fetches == 1


async def test_async_calls_give_what_sync_calls_give(
    manager: AccessTokenManager, clock: FakeClock, source: FakeSource
) -> None:
    assert await manager.aget_access_token() == "token-1"
    assert (await manager.aget_token()) is manager.get_token()
    assert await manager.arefresh_access_token() == "token-2"
    clock.advance(1000)
    assert await manager.aget_access_token(min_ttl=3000) == "token-3"
    with pytest.raises(TokenRequestError, match="min_ttl"):
        await manager.aget_token(min_ttl=7200)
    source.error = DOWN
    with pytest.raises(ServiceUnavailableError):
        await manager.arefresh_access_token()
    assert await manager.aget_access_token() == "token-3"


async def test_an_event_loop_is_never_blocked_by_a_fetch(
    manager: AccessTokenManager, source: FakeSource
) -> None:
    source.gate.clear()
    waiting = asyncio.ensure_future(manager.aget_access_token())
    while source.fetches == 0:  # this loop goes on turning
        await asyncio.sleep(0)
    assert not waiting.done()
    source.gate.set()
    assert await waiting == "token-1"


async def test_one_cancelled_waiter_does_not_stop_the_others(
    manager: AccessTokenManager, source: FakeSource
) -> None:
    source.gate.clear()
    impatient = asyncio.ensure_future(manager.aget_access_token())
    patient = asyncio.ensure_future(manager.aget_access_token())
    while source.fetches == 0:
        await asyncio.sleep(0)
    impatient.cancel()
    with pytest.raises(asyncio.CancelledError):
        await impatient
    source.gate.set()
    assert await patient == "token-1"
    assert source.fetches == 1


def test_a_caller_leaves_at_its_own_deadline_and_the_fetch_goes_on(
    manager: AccessTokenManager, source: FakeSource
) -> None:
    source.gate.clear()
    with pytest.raises(TokenTimeoutError) as caught:
        manager.get_access_token(timeout=0.01)
    assert caught.value.retryable
    source.gate.set()
    assert manager.get_access_token() == "token-1"
    assert source.fetches == 1


async def test_a_coroutine_leaves_at_its_own_deadline(
    manager: AccessTokenManager, source: FakeSource
) -> None:
    source.gate.clear()
    with pytest.raises(TokenTimeoutError):
        await manager.aget_access_token(timeout=0.01)
    source.gate.set()
    assert await manager.aget_access_token() == "token-1"
    assert source.fetches == 1


def test_a_source_that_never_returns_does_not_hold_the_key_for_ever(
    manager: AccessTokenManager, clock: FakeClock, source: FakeSource
) -> None:
    source.gate.clear()
    with pytest.raises(TokenTimeoutError):
        manager.get_access_token(timeout=0.01)
    hanging = source.gate
    source.gate = threading.Event()
    source.gate.set()
    clock.advance(EXACT.max_wait)
    assert manager.get_access_token() == "token-2"
    hanging.set()
    assert manager.get_access_token() == "token-2"


class NoThreads(Workers):
    """Workers where no thread runs."""

    def do(self, work: Callable[[], object]) -> None:
        raise RuntimeError("can't start new thread")


def test_where_no_thread_can_start_a_caller_that_is_interrupted_hands_over_to_a_waiter(
    clock: FakeClock, source: FakeSource
) -> None:
    manager = make_manager(clock, source, workers=NoThreads(1, name="none"))
    source.gate.clear()
    source.error = KeyboardInterrupt()
    interrupted: list[type[BaseException]] = []

    def lead() -> None:
        try:
            manager.get_access_token()
        except KeyboardInterrupt as exc:
            interrupted.append(type(exc))

    leader = threading.Thread(target=lead)
    leader.start()
    assert source.entered.acquire(timeout=30)
    got: list[object] = []
    waiter = threading.Thread(target=lambda: got.append(manager.get_access_token()))
    waiter.start()
    until(lambda: manager.status().waits == 2)

    def heal() -> None:
        if source.fetches > 1:
            source.error = None

    source.during = heal
    source.gate.set()
    leader.join(30)
    waiter.join(30)
    assert interrupted == [KeyboardInterrupt]
    assert got == ["token-2"]


def test_where_no_thread_can_start_one_caller_renews_in_its_own(
    manager: AccessTokenManager,
    clock: FakeClock,
    source: FakeSource,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    manager.get_access_token()
    clock.advance(3000)

    def refuse(self: DaemonThread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(DaemonThread, "start", refuse)
    assert [manager.get_access_token() for _ in range(2)] == ["token-2"] * 2
    source.error = DOWN
    clock.advance(3000)
    assert manager.get_access_token() == "token-2"


def test_a_forced_renewal_replaces_the_token(
    manager: AccessTokenManager, source: FakeSource
) -> None:
    manager.get_access_token()
    assert manager.refresh_access_token() == "token-2"
    assert manager.get_access_token() == "token-2"


def test_a_forced_renewal_that_fails_says_so_and_keeps_the_token(
    manager: AccessTokenManager, source: FakeSource
) -> None:
    manager.get_access_token()
    source.error = InvalidCredentialError("no")
    with pytest.raises(InvalidCredentialError):
        manager.refresh_access_token()
    assert manager.get_access_token() == "token-1"


# Claims


CHALLENGE = '{"access_token":{"nbf":{"essential":true,"value":"1800000000"}}}'


def test_a_token_with_claims_is_the_one_in_hand_afterwards(
    manager: AccessTokenManager, source: FakeSource
) -> None:
    plain = manager.get_access_token()
    assert manager.refresh_access_token(claims=CHALLENGE) == "token-2"
    assert manager.get_access_token() == manager.get_token().secret == "token-2"
    assert manager.headers() == {"Authorization": "Bearer token-2"}
    assert manager.status().key.claims == CHALLENGE
    assert source.claims == [None, CHALLENGE]
    manager.invalidate(plain)  # a late refusal
    assert manager.get_access_token() == "token-2"
    manager.invalidate("token-2")
    assert manager.get_access_token() == "token-3"
    assert manager.refresh_access_token() == "token-4"
    assert source.claims[2:] == [CHALLENGE] * 2


async def test_a_token_with_claims_is_in_the_hand_of_coroutines_too(
    manager: AccessTokenManager, source: FakeSource
) -> None:
    await manager.aget_access_token()
    assert await manager.arefresh_access_token(claims=CHALLENGE) == "token-2"
    assert await manager.aget_access_token() == "token-2"
    assert source.claims == [None, CHALLENGE]


def test_a_token_with_claims_is_fetched_once_for_all_who_ask_for_it(
    manager: AccessTokenManager, source: FakeSource
) -> None:
    manager.get_token()
    secrets = in_threads(20, lambda: manager.get_token(claims=CHALLENGE).secret)
    assert secrets == ["token-2"] * 20
    assert manager.get_access_token() == "token-2"
    assert manager.get_token(claims=CHALLENGE).secret == "token-2"
    assert source.claims == [None, CHALLENGE]
    manager.invalidate("token-2")
    assert manager.get_token(claims=CHALLENGE).secret == "token-3"
    assert source.claims == [None, CHALLENGE, CHALLENGE]


async def test_a_token_with_claims_is_fetched_once_for_all_coroutines_too(
    manager: AccessTokenManager, source: FakeSource
) -> None:
    await manager.aget_token()
    tokens = await asyncio.gather(*(manager.aget_token(claims=CHALLENGE) for _ in range(20)))
    assert {token.secret for token in tokens} == {"token-2"}
    assert await manager.aget_access_token() == "token-2"
    assert source.claims == [None, CHALLENGE]


async def test_headers_are_for_coroutines_too(
    manager: AccessTokenManager, source: FakeSource
) -> None:
    assert await manager.aheaders() == {"Authorization": "Bearer token-1"} == manager.headers()


def test_what_is_awaited_is_a_coroutine_function(manager: AccessTokenManager) -> None:
    for name in dir(manager):
        if name.startswith("a") and hasattr(manager, name[1:]):
            assert inspect.iscoroutinefunction(getattr(manager, name)), name
    assert inspect.iscoroutinefunction(manager.aget_access_token)


@pytest.mark.parametrize(
    "name", ["get_access_token", "get_token", "headers", "refresh_access_token"]
)
async def test_a_call_that_would_block_the_loop_is_told_what_to_await(
    manager: AccessTokenManager, name: str
) -> None:
    with pytest.warns(RuntimeWarning, match=rf"await a{name}\(\)") as told:
        getattr(manager, name)()
    assert told[0].filename == __file__
    manager.get_access_token()  # waits for nothing, and warns of nothing


def test_a_token_with_claims_is_renewed_with_them_and_the_plain_one_no_more(
    clock: FakeClock, source: FakeSource
) -> None:
    refresher = HandRefresher(clock)
    manager = make_manager(clock, source, refresher=refresher)
    manager.get_access_token()
    manager.refresh_access_token(claims=CHALLENGE)
    for number in range(3, 6):
        clock.advance(2880)
        manager.get_access_token()
        refresher.run_due()
        settle(manager)
        assert manager.get_access_token() == f"token-{number}"
    assert source.claims == [None] + [CHALLENGE] * 4


def test_a_plain_fetch_that_lands_after_the_claims_is_not_renewed_beside_them(
    clock: FakeClock, source: FakeSource
) -> None:
    refresher = HandRefresher(clock)
    manager = make_manager(clock, source, refresher=refresher)
    source.gate.clear()
    with pytest.raises(TokenTimeoutError):
        manager.get_access_token(timeout=0.001)
    until(lambda: source.fetches == 1)
    hanging, source.gate = source.gate, threading.Event()
    source.gate.set()
    assert manager.refresh_access_token(claims=CHALLENGE) == "token-2"
    hanging.set()
    settle(manager)
    assert manager.get_access_token() == "token-2"
    clock.advance(2880)
    refresher.run_due()
    settle(manager)
    assert source.claims == [None, CHALLENGE, CHALLENGE]


def test_a_plain_renewal_that_lands_after_the_claims_does_not_take_their_place(
    manager: AccessTokenManager, source: FakeSource
) -> None:
    manager.get_access_token()
    source.gate.clear()
    got: list[str] = []
    forcing = threading.Thread(target=lambda: got.append(manager.refresh_access_token()))
    forcing.start()
    until(lambda: source.fetches == 2)
    hanging, source.gate = source.gate, threading.Event()
    source.gate.set()
    manager.refresh_access_token(claims=CHALLENGE)
    hanging.set()
    forcing.join(30)
    assert got == ["token-2"]
    assert manager.get_access_token() == "token-3"


def test_claims_that_are_refused_leave_the_token_in_hand_as_it_is(
    clock: FakeClock, source: FakeSource
) -> None:
    refresher = HandRefresher(clock)
    manager = make_manager(clock, source, refresher=refresher)
    manager.get_access_token()
    source.error = InvalidCredentialError("no")
    with pytest.raises(InvalidCredentialError):
        manager.refresh_access_token(claims=CHALLENGE)
    source.error = None
    assert manager.get_access_token() == "token-1"
    assert manager.status().key == KEY
    assert manager.status().last_error is None
    clock.advance(2880)
    refresher.run_due()
    settle(manager)
    assert manager.get_access_token() == "token-3"
    assert source.claims == [None, CHALLENGE, None]


def test_a_token_with_claims_is_found_by_another_worker_under_its_own_name(
    clock: FakeClock, source: FakeSource
) -> None:
    store = RecordingStore(clock)
    one, other = (make_manager(clock, source, store=store) for _ in range(2))
    assert one.get_access_token() == other.get_access_token() == "token-1"
    assert one.refresh_access_token(claims=CHALLENGE) == "token-2"
    assert other.get_access_token() == "token-1"
    assert other.refresh_access_token(claims=CHALLENGE) == "token-2"
    assert other.get_access_token() == "token-2"
    assert make_manager(clock, source, store=store).get_access_token() == "token-1"
    assert source.claims == [None, CHALLENGE]
    # But one who has seen it refused gets another.
    assert other.refresh_access_token(claims=CHALLENGE) == "token-3"
    assert len([name for name in store.names if not name.endswith(":lease")]) == 2


def test_claims_that_say_nothing_are_none(manager: AccessTokenManager, source: FakeSource) -> None:
    manager.get_access_token()
    assert manager.refresh_access_token(claims="") == "token-2"
    assert manager.get_access_token() == "token-2"
    assert source.claims == [None, None]
    assert manager._cell is manager._plain


def test_ever_new_claims_leave_few_tokens_behind(clock: FakeClock, source: FakeSource) -> None:
    refresher = HandRefresher(clock)
    manager = make_manager(clock, source, refresher=refresher)
    waiting = threading.Thread(target=lambda: got.append(manager.refresh_access_token(claims="0")))
    got: list[str] = []
    source.gate.clear()
    waiting.start()
    until(lambda: source.fetches == 1)
    hanging, source.gate = source.gate, threading.Event()
    source.gate.set()
    for number in range(1, 30):
        manager.refresh_access_token(claims=str(number))
        assert manager.get_access_token() == f"token-{number + 1}"
    assert len(manager._by_claims) == 8
    hanging.set()
    waiting.join(30)
    assert got == ["token-1"]  # whoever waits for claims of before still gets them
    assert manager.get_access_token() == "token-30"
    collect(manager._cell.context)
    plans = [each[2] for each in refresher._queue]
    assert sum(plan.live and plan.renewable() is not None for plan in plans) == 1


def test_a_closed_manager_gives_no_token_with_claims(
    manager: AccessTokenManager, source: FakeSource
) -> None:
    manager.refresh_access_token(claims="a")
    manager.close()
    for claims in ("a", "b", None):
        with pytest.raises(ConfigurationError, match="closed"):
            manager.refresh_access_token(claims=claims)
    with pytest.raises(ConfigurationError, match="closed"):
        manager.get_access_token()
    assert source.fetches == 1


# Refusals


def test_invalidate_drops_the_token_that_was_refused(
    manager: AccessTokenManager, source: FakeSource
) -> None:
    manager.invalidate(manager.get_token())
    assert manager.get_access_token() == "token-2"
    manager.invalidate("token-2")
    assert manager.get_access_token() == "token-3"


def test_a_late_refusal_of_an_old_token_does_not_drop_the_new_one(
    manager: AccessTokenManager, source: FakeSource
) -> None:
    old = manager.get_access_token()
    manager.refresh_access_token()
    manager.invalidate(old)
    assert manager.get_access_token() == "token-2"


def test_two_hundred_refusals_at_once_cause_one_renewal(
    manager: AccessTokenManager, source: FakeSource
) -> None:
    refused = manager.get_access_token()

    def refuse_and_ask() -> str:
        manager.invalidate(refused)
        return manager.get_access_token()

    assert in_threads(200, refuse_and_ask) == ["token-2"] * 200
    assert source.fetches == 2


def test_a_foreign_error_of_a_source_becomes_a_typed_one_without_its_text(
    manager: AccessTokenManager, source: FakeSource
) -> None:
    source.error = ValueError("client_secret=hunter2")
    with pytest.raises(TokenRequestError, match="ValueError") as caught:
        manager.get_access_token()
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is source.error


def test_a_closed_manager_says_that_it_is_closed(
    manager: AccessTokenManager, source: FakeSource
) -> None:
    manager.get_access_token()
    manager.close()
    with pytest.raises(ConfigurationError, match="closed"):
        manager.get_access_token()
    assert source.fetches == 1


async def test_a_closed_manager_says_so_to_coroutines(manager: AccessTokenManager) -> None:
    manager.close()
    with pytest.raises(ConfigurationError, match="closed"):
        await manager.aget_token()


def test_a_token_that_lands_after_close_is_not_kept(
    manager: AccessTokenManager, source: FakeSource
) -> None:
    source.during = manager.close
    assert manager.get_access_token() == "token-1"
    with pytest.raises(ConfigurationError):
        manager.get_access_token()


def test_a_manager_over_a_source_of_ones_own_needs_nothing_else() -> None:
    import time

    class Mine:
        def fetch_token(self, *, claims: str | None = None) -> AccessToken:
            return AccessToken("mine", expires_at=time.time() + 60)

    assert AccessTokenManager(Mine(), KEY).get_access_token() == "mine"


def test_the_constructor_takes_what_a_user_of_a_source_needs_and_no_parts_of_the_engine() -> None:
    parameters = inspect.signature(AccessTokenManager).parameters.values()
    shared = ["store", "encryption_key", "namespace"]
    own = [*shared, "policy", "clock", "on_event"]
    assert [each.name for each in parameters] == ["source", "key", *own]
    keywords = [each.name for each in parameters if each.kind is each.KEYWORD_ONLY]
    assert keywords == own


def test_a_manager_over_a_source_of_ones_own_closes_it_at_its_end(
    clock: FakeClock, source: FakeSource
) -> None:
    closed: list[str] = []
    source.close = lambda: closed.append("closed")  # type: ignore[attr-defined]
    manager = AccessTokenManager(source, KEY, policy=EXACT, clock=clock)
    assert manager.get_access_token() == "token-1"
    manager.close()
    assert closed == ["closed"]


def test_repr_names_the_key_and_hides_the_token(manager: AccessTokenManager) -> None:
    manager.get_access_token()
    assert SCOPE in repr(manager)
    assert "token-1" not in repr(manager) + repr(vars(manager))


def test_every_failure_is_a_new_exception_or_loses_its_old_traceback(
    clock: FakeClock, source: FakeSource
) -> None:
    manager = make_manager(clock, source, RefreshPolicy(backoff_base=1e6))
    source.error = DOWN
    depths = []
    for _ in range(5):
        with pytest.raises(TokenManagerError) as caught:
            manager.get_access_token()
        depths.append(len(caught.traceback))
    assert max(depths) < 8
