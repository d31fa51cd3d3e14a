"""Renewal in the background: in time, spread, and for tokens in use alone."""

from __future__ import annotations

import gc
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
from support import EXACT, KEY, FakeClock, FakeSource, HandRefresher, make_manager, settle

from tokenmgr import (
    AccessTokenManager,
    ConfigurationError,
    RefreshPolicy,
    ServiceUnavailableError,
    ThrottledError,
)
from tokenmgr._runtime.refresher import Refresher
from tokenmgr.events import Event, Hook, TokenLetGo

DOWN = ServiceUnavailableError("the service is down")


def until(condition: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < give_up_at, "it does not come to pass"
        threading.Event().wait(0.0005)


class Inline:
    """Workers that work in the caller's thread."""

    have_run = True

    def __init__(self, after: Callable[[], object] = lambda: None) -> None:
        self.after = after

    def do(self, work: Callable[[], object]) -> None:
        work()
        self.after()


@pytest.fixture
def refresher(clock: FakeClock) -> HandRefresher:
    return HandRefresher(clock)


@pytest.fixture
def events() -> list[Event]:
    return []


class ListHook(Hook):
    def __init__(self, events: list[Event]) -> None:
        super().__init__()
        self.emit = events.append  # type: ignore[method-assign]


@pytest.fixture
def kept(
    clock: FakeClock, source: FakeSource, refresher: HandRefresher, events: list[Event]
) -> AccessTokenManager:
    """A manager whose renewals run as the refresher starts them."""
    return AccessTokenManager(
        source,
        KEY,
        policy=EXACT,
        clock=clock,
        refresher=refresher,
        workers=Inline(),  # type: ignore[arg-type]
        hook=ListHook(events),
    )


def test_a_token_in_use_is_renewed_at_its_time_before_anybody_asks(
    kept: AccessTokenManager, clock: FakeClock, source: FakeSource, refresher: HandRefresher
) -> None:
    kept.get_access_token()
    kept.get_access_token()
    clock.advance(2879)
    refresher.run_due()
    assert source.fetches == 1
    clock.advance(1)
    refresher.run_due()
    assert source.fetches == 2
    assert kept.get_access_token() == "token-2"
    assert source.fetches == 2


def test_a_token_that_nobody_asked_for_is_let_go_and_comes_back(
    kept: AccessTokenManager,
    clock: FakeClock,
    source: FakeSource,
    refresher: HandRefresher,
    events: list[Event],
) -> None:
    kept.get_access_token()
    for _ in range(5):
        clock.advance(2880)
        refresher.run_due()
    assert source.fetches == 2
    assert [event for event in events if isinstance(event, TokenLetGo)] != []
    assert refresher.step() is None
    assert kept.get_access_token() == "token-3"
    clock.advance(2880)
    refresher.run_due()
    assert source.fetches == 4


def test_renewal_survives_thirty_failed_cycles(
    clock: FakeClock, source: FakeSource, refresher: HandRefresher
) -> None:
    source.lifetime = 86_400.0
    manager = AccessTokenManager(
        source,
        KEY,
        policy=RefreshPolicy(jitter=0.0),
        clock=clock,
        refresher=refresher,
        workers=Inline(),  # type: ignore[arg-type]
    )
    manager.get_access_token()
    source.error = DOWN
    due_at = clock.elapsed()
    while source.fetches < 31:
        clock.advance(refresher.step() or 0.001)
    assert clock.elapsed() - due_at < 86_400
    assert manager.get_access_token() == "token-1"
    source.error = None
    while source.fetches < 32:
        clock.advance(refresher.step() or 0.001)
    assert manager.get_access_token() == "token-32"


def test_failing_renewals_are_bounded_and_one_comes_before_the_end(
    clock: FakeClock, source: FakeSource, refresher: HandRefresher
) -> None:
    source.lifetime = 90.0
    manager = AccessTokenManager(
        source,
        KEY,
        policy=RefreshPolicy(jitter=0.0, backoff_base=1e6, backoff_cap=1e6),
        clock=clock,
        refresher=refresher,
        workers=Inline(),  # type: ignore[arg-type]
    )
    manager.get_access_token()
    end = clock.elapsed() + 80
    source.error = DOWN
    while clock.elapsed() < end and (pause := refresher.step()) is not None:
        clock.advance(pause or 0.001)
    assert 3 <= source.fetches < 60


def test_the_service_s_retry_after_is_honoured(
    kept: AccessTokenManager, clock: FakeClock, source: FakeSource, refresher: HandRefresher
) -> None:
    kept.get_access_token()
    clock.advance(2880)
    source.error = ThrottledError("slow down", retry_after=300.0)
    refresher.run_due()
    clock.advance(299)
    refresher.run_due()
    assert source.fetches == 2
    clock.advance(1)
    refresher.run_due()
    assert source.fetches == 3


def test_claims_that_fail_do_not_end_the_back_off_of_the_renewal(
    kept: AccessTokenManager, clock: FakeClock, source: FakeSource, refresher: HandRefresher
) -> None:
    kept.get_access_token()
    clock.advance(2880)
    source.error = ThrottledError("slow down", retry_after=300.0)
    refresher.run_due()
    with pytest.raises(ThrottledError):
        kept.refresh_access_token(claims="c")
    clock.advance(299)
    refresher.run_due()
    assert source.fetches == 3
    clock.advance(1)
    refresher.run_due()
    assert source.fetches == 4


def test_a_forced_renewal_that_fails_leaves_a_fresh_token_its_time(
    kept: AccessTokenManager, clock: FakeClock, source: FakeSource, refresher: HandRefresher
) -> None:
    kept.get_access_token()
    source.error = DOWN
    with pytest.raises(ServiceUnavailableError):
        kept.refresh_access_token()
    source.error = None
    clock.advance(2879)
    refresher.run_due()
    assert source.fetches == 2
    clock.advance(1)
    refresher.run_due()
    assert source.fetches == 3


def test_a_key_that_is_held_does_not_delay_twenty_others(
    clock: FakeClock, refresher: HandRefresher
) -> None:
    sources = [FakeSource(clock) for _ in range(21)]
    managers = [
        make_manager(clock, source, refresher=refresher, key=replace(KEY, subject=str(number)))
        for number, source in enumerate(sources)
    ]
    for manager in managers:
        manager.get_access_token()
    sources[0].gate.clear()
    clock.advance(2880)
    while any(source.fetches < 2 for source in sources):
        clock.advance(refresher.step() or 0.001)
    for manager in managers[1:]:
        settle(manager)
        assert manager.get_access_token() == "token-2"
    assert managers[0].get_access_token() == "token-1"
    sources[0].gate.set()
    settle(managers[0])


def test_a_thousand_managers_over_24_lifetimes_are_served_and_spread(
    clock: FakeClock, refresher: HandRefresher
) -> None:
    # Tokens of six minutes: a thousand of them renew as often as ten thousand of an hour.
    chance, count, lifetime = random.Random(7), 1000, 360.0
    seconds: Counter[int] = Counter()
    unserved: list[str] = []

    class Issuer(FakeSource):
        def fetch_token(self, *, claims: str | None = None):
            seconds[int(self.clock.elapsed())] += 1
            if self.fetches and self.clock.elapsed() >= self.manager._keeper.held.valid_until:
                unserved.append(self.manager.key.subject)
            self.manager._keeper.used = True
            return super().fetch_token(claims=claims)

    def used(manager: AccessTokenManager) -> Callable[[], object]:
        return manager.get_access_token

    starts = []
    for number in range(count):
        source, workers = Issuer(clock, lifetime=lifetime), Inline()
        source.manager = manager = AccessTokenManager(
            source,
            replace(KEY, subject=str(number)),
            policy=RefreshPolicy(min_margin=60.0),
            clock=clock,
            refresher=refresher,
            workers=workers,  # type: ignore[arg-type]
            hook=ListHook([]),
        )
        workers.after = used(manager)
        starts.append((clock.elapsed() + chance.random() * lifetime, number, manager))
    starts.sort(reverse=True, key=lambda start: start[0])
    held = [start[2] for start in starts]  # or they would be collected, and renewed no more
    begin = clock.elapsed()
    while clock.elapsed() < begin + 24 * lifetime:
        pause = refresher.step()
        soonest = starts[-1][0] - clock.elapsed() if starts else 1e9
        clock.advance(max(0.0, min(pause if pause is not None else 1e9, soonest)))
        if starts and clock.elapsed() >= starts[-1][0]:
            manager = starts.pop()[2]
            manager.get_access_token()
            manager.get_access_token()
    assert unserved == []
    settled = [n for at, n in seconds.items() if at > begin + 2 * lifetime]
    mean = sum(settled) / (22 * lifetime)
    assert mean * lifetime > count == len(held)
    assert max(settled) <= 2 * mean


def test_renewals_that_fall_due_together_are_started_apart(
    clock: FakeClock, refresher: HandRefresher
) -> None:
    started: list[float] = []

    class Key:
        def renew_if_used(self) -> None:
            started.append(clock.elapsed())

    keys = [Key() for _ in range(100)]
    for key in keys:
        refresher.follow(key, clock.elapsed() + 1000, clock.elapsed() + 2000)
    while (pause := refresher.step()) is not None:
        clock.advance(pause)
    assert len(started) == 100
    assert min(later - sooner for sooner, later in pairwise(started)) > 0.1


def test_keys_that_are_closed_or_collected_leave_the_queue(
    clock: FakeClock, source: FakeSource, refresher: HandRefresher
) -> None:
    closed = make_manager(clock, source, refresher=refresher)
    closed.get_access_token()
    closed.close()
    assert refresher.step() is None
    collected = make_manager(clock, source, refresher=refresher)
    collected.get_access_token()
    assert refresher.step() is not None
    del collected
    gc.collect()
    assert refresher.step() is None
    assert len(refresher._queue) == len(refresher._entries) == 0


def test_forced_renewals_do_not_let_the_queue_grow(
    kept: AccessTokenManager, refresher: HandRefresher
) -> None:
    for _ in range(1000):
        kept.refresh_access_token()
    assert len(refresher._queue) <= 64 + 2 + 1
    assert refresher._load == pytest.approx(1 / 2880)


def test_a_machine_that_slept_catches_up_when_it_wakes(
    clock: FakeClock, source: FakeSource, kept: AccessTokenManager, refresher: HandRefresher
) -> None:
    kept.get_access_token()
    clock.advance(30_000)
    refresher.run_due()
    assert source.fetches == 2
    assert kept.get_access_token() == "token-2"


def refresher_threads() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name == "tokenmgr-refresher"]


def test_one_thread_starts_with_the_first_key_and_ends_with_the_last(clock: FakeClock) -> None:
    refresher = Refresher(clock)
    managers = [
        make_manager(
            clock, FakeSource(clock), refresher=refresher, key=replace(KEY, subject=str(number))
        )
        for number in range(10)
    ]
    assert refresher_threads() == []
    for manager in managers:
        manager.get_access_token()
    assert len(refresher_threads()) == 1
    for manager in managers[1:]:
        manager.close()
    assert len(refresher_threads()) == 1
    managers[0].close()
    assert refresher_threads() == []
    again = make_manager(clock, FakeSource(clock), refresher=refresher)
    again.get_access_token()
    assert len(refresher_threads()) == 1
    again.close()


def test_the_thread_itself_renews(clock: FakeClock, source: FakeSource) -> None:
    refresher = Refresher(clock)
    manager = make_manager(clock, source, refresher=refresher)
    source.refresh_in = 0.0
    manager.get_access_token()
    until(lambda: source.fetches >= 2)
    manager.close()


def test_close_from_a_hook_and_from_a_worker_does_not_deadlock(clock: FakeClock) -> None:
    refresher, source = Refresher(clock), FakeSource(clock)
    closed = threading.Event()

    def hook(event: Event) -> None:
        manager.close()
        closed.set()

    manager = make_manager(clock, source, refresher=refresher, on_event=hook)
    manager.get_access_token()
    assert closed.wait(30)
    until(lambda: refresher_threads() == [])
    other = make_manager(clock, FakeSource(clock), refresher=refresher)
    other._keeper._source.during = other.close
    assert other.get_access_token(timeout=30) == "token-1"
    with pytest.raises(ConfigurationError, match="closed"):
        other.get_access_token(timeout=30)
    assert refresher_threads() == []
