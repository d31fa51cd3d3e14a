"""What failures cost: how long they stand, what they say when they are repeated, how they end."""

from __future__ import annotations

import asyncio
import itertools
import threading
from pathlib import Path

import pytest
from support import (
    KEY,
    FakeClock,
    FakeSource,
    HandRefresher,
    RecordingStore,
    in_threads,
    make_manager,
    settle,
)
from waiting import until

from tokenmgr import (
    AccessToken,
    AccessTokenManager,
    ClientSecret,
    InvalidCredentialError,
    RefreshPolicy,
    ServiceUnavailableError,
    ThrottledError,
    TokenManagerError,
    TokenRequestError,
    TokenTimeoutError,
)
from tokenmgr._engine.failures import Failures
from tokenmgr.emulator import EntraEmulator
from tokenmgr.events import Event, TokenRequested

#: Long back-offs, so that what ends one early shows.
SLOW = RefreshPolicy(jitter=0.0, backoff_base=1e6, backoff_cap=3600.0)
DOWN = ServiceUnavailableError("the service is down")


@pytest.fixture
def refresher(clock: FakeClock) -> HandRefresher:
    return HandRefresher(clock)


@pytest.fixture(autouse=True)
def _longest_back_offs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every random time is the longest one, so that tests say exactly when what is due."""
    monkeypatch.setattr("random.uniform", lambda low, high: high)


@pytest.fixture
def slow(clock: FakeClock, source: FakeSource, refresher: HandRefresher) -> AccessTokenManager:
    return make_manager(clock, source, SLOW, refresher=refresher)


def fails(manager: AccessTokenManager, **arguments: object) -> TokenManagerError:
    with pytest.raises(TokenManagerError) as caught:
        manager.get_access_token(**arguments)
    return caught.value


# Until when they stand.


@pytest.mark.parametrize(("lasts", "left"), [(0, 12), (10, 2), (40, 1)])
def test_without_a_token_there_is_a_try_every_12_s_however_long_one_takes(
    slow, clock, source, lasts, left
):
    source.error = DOWN
    source.during = lambda: clock.advance(lasts)
    fails(slow)
    clock.advance(left - 0.1)
    fails(slow)
    assert source.fetches == 1
    source.error = None
    clock.advance(0.2)
    assert slow.get_access_token() == "token-2"


def test_a_back_off_of_a_valid_token_does_not_outlive_the_token(slow, clock, source):
    slow.get_access_token()
    clock.advance(2900)
    source.error = DOWN
    slow.get_access_token()
    settle(slow)
    source.error = None
    clock.advance(700)  # it has expired, 350 s into a back-off
    assert slow.get_access_token() == "token-3"


def test_a_forced_renewal_asks_a_second_after_the_last_try_and_not_before(slow, clock, source):
    slow.get_access_token()
    source.error = DOWN
    for seconds, fetches in ((0.0, 2), (0.9, 2), (0.2, 3)):
        clock.advance(seconds)
        with pytest.raises(ServiceUnavailableError):
            slow.refresh_access_token()
        assert source.fetches == fetches


@pytest.mark.parametrize("claims", [None, '{"access_token":{}}'])
def test_what_the_service_asked_for_is_honoured_by_all_who_ask(slow, clock, source, claims):
    source.error = ThrottledError("slow down", retry_after=300.0)
    fails(slow)
    clock.advance(290)
    with pytest.raises(ThrottledError) as caught:
        slow.refresh_access_token(claims=claims)
    assert caught.value.retry_after == pytest.approx(10)
    assert source.fetches == 1
    source.error = None
    clock.advance(11)
    assert slow.refresh_access_token(claims=claims) == "token-2"


def test_a_token_with_other_claims_ends_a_failure_in_the_moment_in_which_it_is_repeated() -> None:
    plain = Failures(SLOW)
    with_claims = Failures(SLOW, plain)
    with_claims.add(ThrottledError("slow down", retry_after=30.0), 0.0, 0.0, 0.0, tried_at=0.0)
    until = plain.stands_until(serves=False)
    with_claims.clear()
    assert plain.repeated(0.0, until) is None


def test_each_set_of_claims_may_be_told_to_wait_and_the_longest_counts() -> None:
    plain = Failures(SLOW)
    with_claims = Failures(SLOW, plain)
    for failures, seconds in ((plain, 90.0), (with_claims, 30.0)):
        error = ThrottledError("slow down", retry_after=seconds)
        failures.add(error, 0.0, 0.0, 0.0, tried_at=0.0)
    assert plain.stands_until(serves=False) == with_claims.stands_until(serves=False) == 90.0


def test_fifty_challenges_with_claims_of_their_own_cost_one_throttled_request(slow, source):
    source.error = ThrottledError("slow down", retry_after=300.0)
    for number in range(50):
        with pytest.raises(ThrottledError):
            slow.refresh_access_token(claims=f'{{"nbf":{number}}}')
    assert source.fetches == 1


def test_a_renewal_that_was_planned_before_the_failure_waits_as_the_service_asked(
    slow, clock, source, refresher
):
    slow.get_access_token()
    source.error = ThrottledError("slow down", retry_after=3000.0)
    with pytest.raises(ThrottledError):
        slow.refresh_access_token()
    slow.invalidate("token-1")
    clock.advance(2881)
    refresher.run_due()
    settle(slow)
    assert source.fetches == 2


def test_the_last_seconds_of_a_token_are_not_spent_on_tries(clock, source, refresher):
    policy = RefreshPolicy(jitter=0.0, backoff_base=1.0, backoff_cap=60.0)
    manager = make_manager(clock, source, policy, refresher=refresher)
    manager.get_access_token()
    source.error = DOWN
    clock.advance(3500)
    tries: list[float] = []
    while clock.elapsed() < 1_000.0 + 3_590.0:
        before = source.fetches
        manager.get_access_token()
        settle(manager)
        refresher.run_due()
        settle(manager)
        tries += [clock.elapsed()] * (source.fetches - before)
        clock.advance(0.05)
    gaps = [later - earlier for earlier, later in itertools.pairwise(tries)]
    assert len(tries) > 3
    assert min(gaps) >= 0.95


def test_a_token_that_is_due_at_once_is_not_renewed_without_a_pause(clock, source, refresher):
    source.refresh_in = 0.0
    manager = make_manager(clock, source, refresher=refresher)
    for _ in range(50):
        manager.get_access_token()
        clock.advance(0.1)
        refresher.run_due()
        settle(manager)
    assert source.fetches <= 6


def test_an_endless_life_is_one_that_serves_and_is_renewed_some_day(clock, source, refresher):
    source.lifetime = float("inf")
    manager = make_manager(clock, source, refresher=refresher)
    for _ in range(20):
        assert manager.get_access_token() == "token-1"
        clock.advance(0.25)
        refresher.run_due()
        settle(manager)
    assert source.fetches == 1


# What they say.


def test_a_repeated_failure_says_since_when_and_when_the_next_try_is(slow, clock, source):
    source.error = DOWN
    first = fails(slow)
    clock.advance(5)
    again = fails(slow)
    assert "failing since" not in str(first)
    assert str(again).startswith("the service is down (failing since 08:00:00 UTC; ")
    assert "asked again in 7 s" in str(again)
    assert slow.status().retry_in == pytest.approx(7)
    source.error = None
    clock.advance(11)
    slow.get_access_token()
    assert slow.status().retry_in is None


def test_what_is_kept_of_a_failure_holds_nothing_of_a_call(slow, source):
    def fetch_token(*, claims: str | None = None) -> object:
        body = bytearray(50)
        try:
            raise ValueError("inner")
        except ValueError as exc:
            raise KeyError(str(len(body))) from exc

    source.fetch_token = fetch_token
    fails(slow)
    kept = slow._cell._failures.error
    seen = []
    while kept is not None:
        seen.append(type(kept))
        assert kept.__traceback__ is None
        assert kept.__context__ is None or kept.__context__.__traceback__ is None
        kept = kept.__cause__
    assert seen == [TokenRequestError, KeyError, ValueError]


# How they end.


def test_a_secret_that_reads_differently_ends_the_back_off_that_it_caused(
    entra: EntraEmulator, tmp_path: Path
):
    file = tmp_path / "secret"
    file.write_text("a wrong one")
    with entra.registry(credential=ClientSecret(file=file), policy=SLOW) as tokens:
        graph = tokens.manager("https://graph.microsoft.com/.default")
        with pytest.raises(InvalidCredentialError):
            graph.get_access_token()
        asked = entra.count()
        with pytest.raises(InvalidCredentialError):
            graph.get_access_token()
        assert entra.count() == asked
        file.write_text(entra.client_secret)
        until(lambda: graph._cell._looked_at < graph._elapsed() - 1.0, "the next look")
        assert graph.get_access_token()


def test_an_authority_that_answers_another_key_ends_the_back_off_of_this_one(
    entra: EntraEmulator,
):
    with entra.registry(policy=SLOW) as tokens:
        graph = tokens.manager("https://graph.microsoft.com/.default")
        for _ in range(4):
            entra.fail_next(status=503)
        with pytest.raises(ServiceUnavailableError):
            graph.get_access_token()
        with pytest.raises(ServiceUnavailableError):
            graph.get_access_token()
        tokens.manager("api://orders/.default").get_access_token()
        until(lambda: graph._cell._looked_at < graph._elapsed() - 1.0, "the next look")
        assert graph.get_access_token()


# Flights that were given up, and calls that could go on for ever.


@pytest.fixture
def stuck(clock: FakeClock, source: FakeSource) -> AccessTokenManager:
    """One whose first fetch takes longer than any may."""
    manager = make_manager(clock, source, RefreshPolicy(max_wait=3.0))
    source.gate.clear()
    with pytest.raises(TokenTimeoutError):
        manager.get_access_token(timeout=0)
    assert source.entered.acquire(timeout=30)
    return manager


def test_a_token_that_comes_late_takes_no_newer_ones_place_though_the_clock_was_set_back(clock):
    numbers, entered, gate = itertools.count(1), threading.Event(), threading.Event()

    class Source:
        def fetch_token(self, *, claims: str | None = None) -> AccessToken:
            number, asked_at = next(numbers), clock.wall()
            if number == 1:
                entered.set()
                assert gate.wait(30)
            return AccessToken(f"token-{number}", expires_at=asked_at + 7200)

    manager = make_manager(clock, Source(), RefreshPolicy(max_wait=3.0))
    with pytest.raises(TokenTimeoutError):
        manager.get_access_token(timeout=0)
    assert entered.wait(30)
    given_up = manager._cell._flight
    clock.advance(60)
    clock.step_wall(-3600)
    assert manager.get_access_token() == "token-2"
    gate.set()
    assert given_up.wait(30)
    settle(manager)
    assert manager.get_access_token() == "token-2"


def test_of_two_tokens_the_one_that_was_asked_for_later_is_kept_whichever_flight_began_first(
    clock: FakeClock, source: FakeSource
) -> None:
    store, entered, gate = RecordingStore(clock), threading.Event(), threading.Event()

    def hang_once(operation: str) -> None:
        store.before = lambda operation: None
        entered.set()
        assert gate.wait(30)

    manager = make_manager(clock, source, store=store)
    store.before = hang_once
    with pytest.raises(TokenTimeoutError):
        manager.refresh_access_token(timeout=0)
    assert entered.wait(30)
    given_up = manager._cell._flight
    clock.advance(60)
    assert manager.get_access_token() == "token-1"
    clock.advance(1)
    gate.set()
    assert given_up is not None
    assert given_up.wait(30)
    settle(manager)
    assert manager.get_access_token() == "token-2"


def test_a_flight_that_was_given_up_brings_its_token_all_the_same(stuck, clock, source):
    given_up = stuck._cell._flight
    clock.advance(60)
    with pytest.raises(TokenTimeoutError):
        stuck.get_access_token(timeout=0)
    assert stuck._cell._flight is not given_up
    assert source.entered.acquire(timeout=30)
    source.lifetime = 7200.0
    source.gate.set()
    assert given_up.wait(30)
    settle(stuck)
    assert stuck.get_access_token() in ("token-1", "token-2")
    assert source.fetches == 2


def test_the_late_failure_of_one_that_was_given_up_changes_nothing(stuck, clock, source):
    given_up = stuck._cell._flight
    late, gate = threading.Event(), source.gate
    clock.advance(60)

    def fail_the_first() -> None:
        if source.fetches == 2 and not late.is_set():
            late.set()

    source.during = fail_the_first
    source.gate = threading.Event()
    source.gate.set()
    assert stuck.get_access_token() == "token-2"
    source.error = ThrottledError("slow down", retry_after=3000.0)
    gate.set()
    assert given_up.wait(30)
    source.error = None
    assert stuck.status().last_error is None
    assert stuck.refresh_access_token() == "token-3"


def test_a_caller_whose_patience_ends_takes_what_has_come_meanwhile(clock, source):
    manager = make_manager(clock, source)
    source.gate.clear()
    got: list[object] = []
    waiter = threading.Thread(target=lambda: got.extend(in_threads(1, manager.get_access_token)))
    waiter.start()
    assert source.entered.acquire(timeout=30)
    flight = manager._cell._flight
    until(lambda: flight._wakers, "the caller waits")
    clock.advance(60)
    source.gate.set()
    assert flight.wait(30)
    waiter.join(30)
    assert got == ["token-1"]


def test_a_min_ttl_that_no_token_has_ends_in_an_error(clock, source):
    policy = RefreshPolicy(jitter=0.0, backoff_base=0.0, backoff_cap=0.0)
    manager = make_manager(clock, source, policy)
    with pytest.raises(TokenRequestError, match="min_ttl"):
        manager.get_access_token(min_ttl=7200.0)
    assert source.fetches <= 3


@pytest.mark.parametrize("forever", [float("inf"), 1e300])
def test_a_patience_without_end_is_one(clock, source, forever):
    manager = make_manager(clock, source, RefreshPolicy(max_wait=forever))
    assert manager.get_access_token(timeout=forever) == "token-1"
    manager.invalidate("token-1")
    assert asyncio.run(manager.aget_access_token()) == "token-2"


def test_a_machine_that_slept_in_the_middle_for_a_token_s_life_fetches_again(clock, source):
    manager = make_manager(clock, source)

    def sleep() -> None:
        if source.fetches == 1:
            clock.advance(4000)

    source.during = sleep
    assert manager.get_access_token() == "token-2"


# The store.


def test_after_a_forced_renewal_that_failed_the_store_is_looked_at_as_before(clock, refresher):
    store = RecordingStore(clock)
    source, other = FakeSource(clock, name="a"), FakeSource(clock, name="b")
    manager = make_manager(clock, source, refresher=refresher, store=store)
    manager.get_access_token()
    source.error = DOWN
    with pytest.raises(ServiceUnavailableError):
        manager.refresh_access_token()
    clock.advance(1)
    make_manager(clock, other, store=store).refresh_access_token()
    clock.advance(76)
    manager.get_access_token()
    refresher.run_due()
    until(lambda: manager.get_access_token() == "b-1", "the look")


def test_the_status_tells_of_a_store_that_is_away(clock, source):
    store = RecordingStore(clock)
    manager = make_manager(clock, source, store=store)
    assert manager.status().store == "well"
    store.error = OSError("gone")
    manager.get_access_token()
    assert manager.status().store == "away"
    assert make_manager(clock, source).status().store is None


def test_scopes_may_be_a_list(entra: EntraEmulator):
    scope = "https://graph.microsoft.com/.default"
    with entra.registry() as tokens:
        for given in ([scope], (scope,), {scope}, frozenset({scope})):
            assert tokens.manager(given) is tokens.manager(scope)


def test_a_refresh_is_asked_for_once_by_all_who_want_it(slow, source):
    source.gate.clear()
    started: list[Event] = []
    source.during = lambda: started.append(TokenRequested(0.0, KEY, "forced"))
    waiting = threading.Thread(target=lambda: in_threads(8, slow.refresh_access_token))
    waiting.start()
    assert source.entered.acquire(timeout=30)
    until(lambda: slow.status().waits == 8, "the crowd")
    source.gate.set()
    waiting.join(30)
    assert len(started) == 1
