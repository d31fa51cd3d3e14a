"""Renewal in the background: in time, spread, and for tokens in use alone."""

from __future__ import annotations

import gc
import random
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
from forking import held
from support import (
    EXACT,
    KEY,
    FakeClock,
    FakeSource,
    HandRefresher,
    HandWorkers,
    collect,
    make_context,
    make_manager,
    settle,
)
from waiting import until

from tokenmgr import (
    AccessTokenManager,
    ConfigurationError,
    RefreshPolicy,
    ServiceUnavailableError,
    ThrottledError,
)
from tokenmgr._engine.cell import LATELY, Cell
from tokenmgr._runtime.refresher import Refresher
from tokenmgr._runtime.workers import Workers
from tokenmgr.events import Event, TokenLetGo
from tokenmgr.manager import manager_of
from tokenmgr.token import TokenKey

DOWN = ServiceUnavailableError("the service is down")


class AwaitedWorkers(Workers):
    """Workers whose work can be waited for."""

    def __init__(self) -> None:
        super().__init__(8, name="tokenmgr-fetch")
        self._under_way: list[threading.Event] = []

    def do(self, work: Callable[[], object]) -> None:
        done = threading.Event()
        self._under_way.append(done)
        super().do(lambda: (work(), done.set()))

    def wait(self) -> None:
        while self._under_way:
            assert self._under_way.pop().wait(30), "the work is not done"


class PatientRefresher(HandRefresher):
    """A refresher that a test steps, and that waits for each renewal that it has started."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(clock)
        self.workers = AwaitedWorkers()

    def step(self) -> float | None:
        pause = super().step()
        self.workers.wait()
        return pause


@pytest.fixture
def refresher(clock: FakeClock) -> PatientRefresher:
    return PatientRefresher(clock)


@pytest.fixture
def events() -> list[Event]:
    return []


def followed(
    source: FakeSource,
    refresher: Refresher,
    policy: RefreshPolicy = EXACT,
    *,
    workers: Workers | None = None,
    key: TokenKey = KEY,
    emit: Callable[[Event], object] = lambda event: None,
) -> AccessTokenManager:
    """A manager whose renewals are done when the refresher's step is, or when a test wants it."""
    workers = workers or refresher.workers
    context = make_context(source.clock, policy, refresher=refresher, workers=workers)
    return manager_of(Cell(source, key, replace(context, emit=emit)))


@pytest.fixture
def kept(
    source: FakeSource, refresher: PatientRefresher, events: list[Event]
) -> AccessTokenManager:
    return followed(source, refresher, emit=events.append)


def test_a_token_in_use_is_renewed_at_its_time_before_anybody_asks(
    kept: AccessTokenManager, clock: FakeClock, source: FakeSource, refresher: PatientRefresher
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
    refresher: PatientRefresher,
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
    clock: FakeClock, source: FakeSource, refresher: PatientRefresher
) -> None:
    source.lifetime = 86_400.0
    manager = followed(source, refresher, RefreshPolicy(jitter=0.0))
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
    clock: FakeClock, source: FakeSource, refresher: PatientRefresher
) -> None:
    source.lifetime = 90.0
    manager = followed(
        source, refresher, RefreshPolicy(jitter=0.0, backoff_base=1e6, backoff_cap=1e6)
    )
    manager.get_access_token()
    end = clock.elapsed() + 80
    source.error = DOWN
    while clock.elapsed() < end and (pause := refresher.step()) is not None:
        clock.advance(pause or 0.001)
    assert 3 <= source.fetches < 60


def test_the_service_s_retry_after_is_honoured(
    kept: AccessTokenManager, clock: FakeClock, source: FakeSource, refresher: PatientRefresher
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
    kept: AccessTokenManager, clock: FakeClock, source: FakeSource, refresher: PatientRefresher
) -> None:
    kept.get_access_token()
    clock.advance(2880)
    source.error = ThrottledError("slow down", retry_after=300.0)
    refresher.run_due()
    with pytest.raises(ThrottledError):
        kept.refresh_access_token(claims="c")
    clock.advance(299)
    refresher.run_due()
    assert source.fetches == 2
    clock.advance(1)
    refresher.run_due()
    assert source.fetches == 3


def test_a_forced_renewal_that_fails_leaves_a_fresh_token_its_time(
    kept: AccessTokenManager, clock: FakeClock, source: FakeSource, refresher: PatientRefresher
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


def test_a_key_that_is_stuck_does_not_delay_twenty_others(clock: FakeClock) -> None:
    refresher = HandRefresher(clock)
    sources = [FakeSource(clock) for _ in range(21)]
    managers = [
        make_manager(clock, source, refresher=refresher, key=replace(KEY, subject=str(number)))
        for number, source in enumerate(sources)
    ]
    for manager in managers:
        manager.get_access_token()
    sources[0].gate.clear()
    clock.advance(2880)
    started = 0
    while started < len(managers):
        pause = refresher.step()
        started += pause == 0.0
        clock.advance(pause)
    until(lambda: all(source.fetches == 2 for source in sources), "the renewals")
    for manager in managers[1:]:
        settle(manager)
        assert manager.get_access_token() == "token-2"
    assert managers[0].get_access_token() == "token-1"
    sources[0].gate.set()
    settle(managers[0])


@pytest.mark.uncovered
def test_a_thousand_managers_over_24_lifetimes_are_served_and_spread(
    clock: FakeClock,
) -> None:
    refresher, workers = HandRefresher(clock), HandWorkers()
    # Tokens of six minutes: a thousand of them renew as often as ten thousand of an hour.
    chance, count, lifetime = random.Random(7), 1000, 360.0
    seconds: Counter[int] = Counter()
    unserved: list[str] = []

    class Issuer(FakeSource):
        def fetch_token(self, *, claims: str | None = None):
            seconds[int(self.clock.elapsed())] += 1
            if self.fetches and self.clock.elapsed() >= self.manager._cell.current.valid_until:
                unserved.append(self.manager.key.subject)
            self.manager._cell.used = LATELY
            return super().fetch_token(claims=claims)

    starts = []
    for number in range(count):
        source = Issuer(clock, lifetime=lifetime)
        source.manager = manager = followed(
            source,
            refresher,
            RefreshPolicy(min_margin=60.0),
            workers=workers,
            key=replace(KEY, subject=str(number)),
        )
        starts.append((clock.elapsed() + chance.random() * lifetime, number, manager))
    starts.sort(reverse=True, key=lambda start: start[0])
    kept = [start[2] for start in starts]  # or they would be collected, and renewed no more
    begin = clock.elapsed()
    while clock.elapsed() < begin + 24 * lifetime:
        pause = refresher.step()
        workers.run()
        soonest = starts[-1][0] - clock.elapsed() if starts else 1e9
        clock.advance(max(0.0, min(pause if pause is not None else 1e9, soonest)))
        if starts and clock.elapsed() >= starts[-1][0]:
            manager = starts.pop()[2]
            manager.prefetch()
            workers.run()
            manager.get_access_token()
    assert unserved == []
    settled = [n for at, n in seconds.items() if at > begin + 2 * lifetime]
    mean = sum(settled) / (22 * lifetime)
    assert mean * lifetime > count == len(kept)
    assert max(settled) <= 2 * mean


class Key:
    """Notes when it is to be renewed, and is not followed any more."""

    def __init__(self, clock: FakeClock, started: list[tuple[object, float]], name: object) -> None:
        self.clock, self.started, self.name = clock, started, name

    def renew_if_used(self) -> None:
        self.started.append((self.name, self.clock.elapsed()))


def start_all(refresher: Refresher, clock: FakeClock) -> None:
    while (pause := refresher.step()) is not None:
        clock.advance(pause)


def test_renewals_that_fall_due_together_are_started_apart(
    clock: FakeClock, refresher: PatientRefresher
) -> None:
    started: list[tuple[object, float]] = []
    keys = [Key(clock, started, number) for number in range(100)]
    for key in keys:
        refresher.follow(key, clock.elapsed() + 1000, clock.elapsed() + 2000)
    start_all(refresher, clock)
    assert len(started) == 100
    times = [at for _, at in started]
    assert min(later - sooner for sooner, later in pairwise(times)) > 0.1


def test_of_what_is_due_together_what_runs_out_first_is_started_first(
    clock: FakeClock, refresher: PatientRefresher
) -> None:
    started: list[tuple[object, float]] = []
    now, chance = clock.elapsed(), random.Random(7)
    lives = [1100.0 + 10 * number for number in range(50)]
    keys = [Key(clock, started, life) for life in lives]
    for key in chance.sample(keys, len(keys)):
        refresher.follow(key, now + 1000, now + key.name)
    start_all(refresher, clock)
    assert [name for name, _ in started] == lives


def test_what_falls_due_later_and_runs_out_sooner_does_not_stand_in_a_queue(
    clock: FakeClock, refresher: PatientRefresher
) -> None:
    started: list[tuple[object, float]] = []
    now = clock.elapsed()
    keys = [Key(clock, started, number) for number in range(100)]
    for key in keys:
        refresher.follow(key, now + 1000, now + 9000)
    urgent = Key(clock, started, "urgent")
    refresher.follow(urgent, now + 1001, now + 1041)
    start_all(refresher, clock)
    at = dict(started)["urgent"] - now
    assert 1001 <= at <= 1001.25
    assert len(started) == 101


def test_what_has_run_out_already_waits_for_no_gap(
    clock: FakeClock, refresher: PatientRefresher
) -> None:
    started: list[tuple[object, float]] = []
    now = clock.elapsed()
    keys = [Key(clock, started, name) for name in ("one", "other", "late")]
    for key in keys[:2]:
        refresher.follow(key, now, now + 9000)
    assert refresher.step() == 0.0
    assert refresher.step() == 0.25
    refresher.follow(keys[2], now, now)
    assert refresher.step() == 0.0
    assert started == [("one", now), ("late", now)]


@pytest.mark.parametrize("slack", [1.0, 10.0, 100.0])
def test_however_many_fall_due_together_each_is_started_with_half_of_its_time_left(
    clock: FakeClock, refresher: PatientRefresher, slack: float
) -> None:
    started: list[tuple[object, float]] = []
    due, chance = clock.elapsed() + 1000, random.Random(7)
    keys = [Key(clock, started, due + slack * (1 + chance.random())) for _ in range(1000)]
    for key in keys:
        refresher.follow(key, due, key.name)
    start_all(refresher, clock)
    assert len(started) == 1000
    assert all(at <= (due + valid_until) / 2 + 1e-6 for valid_until, at in started)


@pytest.mark.parametrize("slack", [1.0, 10.0, 100.0])
def test_however_many_fall_due_together_their_starts_are_spread_over_half_of_their_time(
    clock: FakeClock, refresher: PatientRefresher, slack: float
) -> None:
    started: list[tuple[object, float]] = []
    due = clock.elapsed() + 1000
    keys = [Key(clock, started, number) for number in range(1000)]
    for key in keys:
        refresher.follow(key, due, due + slack)
    start_all(refresher, clock)
    tenths = Counter(int((at - due) * 20 // slack) for _, at in started)
    assert set(tenths) <= set(range(11))
    assert max(tenths.values()) <= 110


def test_a_plan_takes_the_place_of_the_one_before_it(
    clock: FakeClock, refresher: PatientRefresher
) -> None:
    started: list[tuple[object, float]] = []
    now, key = clock.elapsed(), Key(clock, started, "key")
    first = refresher.follow(key, now + 10, now + 100)
    second = refresher.follow(key, now + 20, now + 100, instead=first)
    start_all(refresher, clock)
    assert started == [("key", now + 20)]
    third = refresher.follow(key, now + 30, now + 100, instead=second)
    refresher.forget(third)
    assert refresher.step() is None


def test_it_takes_care_of_what_it_will_start_in_time(clock: FakeClock) -> None:
    refresher = Refresher(clock)
    key = Key(clock, [], "key")
    plan = refresher.follow(key, clock.elapsed() + 1000, clock.elapsed() + 2000)
    until(lambda: refresher.takes_care_of(plan), "the thread")
    assert not refresher.takes_care_of(None)
    clock.advance(1499)  # which a thread that sleeps does not see
    assert refresher.takes_care_of(plan)
    clock.advance(1)
    assert not refresher.takes_care_of(plan)
    refresher.forget(plan)
    assert not refresher.takes_care_of(plan)
    until(lambda: refresher_threads() == [])


def test_where_threads_start_and_never_run_it_takes_care_of_nothing(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    refresher = Refresher(clock)
    gate = threading.Event()
    with monkeypatch.context() as patch:
        patch.setattr(refresher, "_run", lambda run=refresher._run: (gate.wait(30), run()))
        key = Key(clock, [], "key")
        plan = refresher.follow(key, clock.elapsed() + 1000, clock.elapsed() + 2000)
        until(refresher_threads)
        assert not refresher.takes_care_of(plan)
    gate.set()
    until(lambda: refresher.takes_care_of(plan))
    refresher.forget(plan)
    until(lambda: refresher_threads() == [])


def test_a_thread_that_sleeps_is_woken_for_what_is_due_sooner(clock: FakeClock) -> None:
    refresher = Refresher(clock)
    started: list[tuple[object, float]] = []
    now, late, soon = clock.elapsed(), Key(clock, started, "late"), Key(clock, started, "soon")
    plan = refresher.follow(late, now + 1000, now + 2000)
    until(lambda: refresher.takes_care_of(plan) and refresher._alarm.locked(), "its sleep")
    refresher.follow(soon, now, now + 1000)
    until(lambda: started == [("soon", now)])
    refresher.forget(plan)
    until(lambda: refresher_threads() == [])


def test_the_thread_ends_with_a_key_that_is_collected_though_the_lock_is_taken(
    clock: FakeClock,
) -> None:
    refresher = Refresher(clock)
    key = Key(clock, [], "key")
    plan = refresher.follow(key, clock.elapsed() + 1000, clock.elapsed() + 2000)
    until(lambda: refresher.takes_care_of(plan) and refresher._alarm.locked(), "its sleep")
    with held(refresher._lock):
        del key
        gc.collect()
    until(lambda: refresher_threads() == [])


def test_keys_that_are_closed_or_collected_leave_the_queue(
    clock: FakeClock, source: FakeSource, refresher: PatientRefresher
) -> None:
    closed = make_manager(clock, source, refresher=refresher)
    closed.get_access_token()
    closed.close()
    assert refresher.step() is None
    collected = make_manager(clock, source, refresher=refresher)
    collected.get_access_token()
    assert refresher.step() is not None
    context = collected._cell.context
    del collected
    collect(context)
    assert refresher.step() is None
    assert len(refresher._queue) == len(refresher._ready) == 0


def test_forced_renewals_do_not_let_the_queue_grow(
    kept: AccessTokenManager, refresher: PatientRefresher
) -> None:
    for _ in range(1000):
        kept.refresh_access_token()
    assert len(refresher._queue) <= 64 + 2 + 1


def test_a_machine_that_slept_catches_up_when_it_wakes(
    clock: FakeClock, source: FakeSource, kept: AccessTokenManager, refresher: PatientRefresher
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
    until(lambda: len(refresher_threads()) == 1)
    for manager in managers[1:]:
        manager.close()
    assert len(refresher_threads()) == 1
    managers[0].close()
    until(lambda: refresher_threads() == [])
    again = make_manager(clock, FakeSource(clock), refresher=refresher)
    again.get_access_token()
    until(lambda: len(refresher_threads()) == 1)
    again.close()


def test_the_thread_itself_renews(clock: FakeClock, source: FakeSource) -> None:
    refresher = Refresher(clock)
    manager = make_manager(clock, source, refresher=refresher)
    manager.get_access_token()
    clock.advance(2880)
    refresher._wake()  # it naps by the machine's clock
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
    other._cell.source.during = other.close
    assert other.get_access_token(timeout=30) == "token-1"
    with pytest.raises(ConfigurationError, match="closed"):
        other.get_access_token(timeout=30)
    until(lambda: refresher_threads() == [])
